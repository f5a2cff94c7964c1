//! The service.

use std::cell::OnceCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower::ServiceExt;
use tower_service::Service;

use super::tap::{Bill, Tap};
use super::{BudgetLayer, Ticket};
use crate::call::{Call, Reply, ReplyBody};
use crate::dialect::{Reading, is_free_of_charge};
use crate::price::Usd;
use crate::receipt::{self, Draft};
use crate::tokens::{Asked, Both, Count};
use crate::{BoxError, Error};

/// Holds calls to a budget; made by [`BudgetLayer`].
///
/// **Always ready**: a refusal needs no inner service, so it neither waits for one nor takes a permit. A load shedder
/// above it sees no back-pressure. Streams pass as they come; a tap settles the call when the body ends.
#[derive(Clone, Debug)]
pub struct Budgeted<S> {
    inner: S,
    layer: BudgetLayer,
}

impl<S> Budgeted<S> {
    /// This budget in front of `inner`.
    pub fn new(inner: S, layer: BudgetLayer) -> Self {
        Self { inner, layer }
    }
}

impl<S> Service<Call> for Budgeted<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let both = OnceCell::new();
        let counted = || both.get_or_init(|| self.layer.counter().both(&call));
        let asks = self.asks(&call, counted);
        let ticket = match asks {
            true => None,
            false => match self.layer.budget().reserve_for(&call, || counted().now().at_most) {
                Ok(ticket) => Some(ticket),
                Err(refusal) => return Box::pin(std::future::ready(Err(refusal.into()))),
            },
        };
        self.expect(&call, &both);
        let count = asks.then(|| counted().now().clone());
        let (mut inner, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(async move {
            let mut ticket = match (ticket, count) {
                (Some(ticket), _) => ticket,
                (None, count) => reserve_by_provider(&call, &layer, count.unwrap_or_default()).await?,
            };
            note(&call, &ticket);
            let bill = Bill::of(&call);
            // Until the inner service takes the call nothing is sent, and a dropped ticket is released.
            let ready = inner.ready().await.map_err(Into::into)?;
            ticket.dispatch();
            match ready.call(call).await.map_err(Into::into) {
                Ok(reply) => Ok(settle(reply, ticket, bill)),
                Err(error) if layer.nothing_sent(&error) => {
                    ticket.release();
                    Err(error)
                }
                Err(error) => {
                    ticket.settle(None);
                    Err(error)
                }
            }
        })
    }
}

impl<S> Budgeted<S> {
    /// True if the provider's own count decides whether the call may be sent.
    fn asks<'a>(&self, call: &Call, counted: impl Fn() -> &'a Both) -> bool {
        let budget = self.layer.budget();
        if !budget.is_hard() || !self.layer.endpoint().is_some_and(|endpoint| endpoint.can_ask(call)) {
            return false;
        }
        let count = counted().now();
        !count.accuracy.is_exact()
            && !budget.has_room(call, count.at_most)
            && budget.has_room(call, count.likely.saturating_sub(count.at_most - count.likely))
    }

    /// Notes what the call is expected to be billed, if someone learns from that and the call was counted here.
    fn expect(&self, call: &Call, both: &OnceCell<Both>) {
        if self.layer.counter().calibration().is_none() {
            return;
        }
        if let (Some(draft), Some(both)) = (Draft::of(call), both.get()) {
            let expected = self.layer.counter().expected(call, &both.raw);
            draft.note(|receipt| receipt.expected = expected);
        }
    }
}

/// Reserves by the provider's own count.
async fn reserve_by_provider(call: &Call, layer: &BudgetLayer, count: Count) -> Result<Ticket, Error> {
    let told = match layer.endpoint() {
        Some(endpoint) => endpoint.ask(call, count).await,
        None => Asked::Estimate(count),
    };
    receipt::note(call, |receipt| receipt.notes.extend(told.note()));
    layer.budget().reserve_for(call, || told.count().at_most)
}

fn note(call: &Call, ticket: &Ticket) {
    let said = match (ticket.worst(), ticket.is_over_limit()) {
        (None, _) => "let through without a price",
        (Some(_), true) => "over the spending limit",
        (Some(_), false) => return,
    };
    receipt::note(call, |receipt| receipt.notes.push(said));
}

/// Settles a whole reply now and a stream at its end.
fn settle(mut reply: Reply, ticket: Ticket, bill: Bill) -> Reply {
    if !reply.status().is_success() {
        ticket.settle(is_free_of_charge(reply.status()).then_some(Usd::ZERO));
        return reply;
    }
    if let Some(bytes) = reply.body().complete() {
        let outcome = Reading::of_whole(&mut reply, bill.dialect.format(), &bytes);
        bill.settle(&outcome, ticket);
        return reply;
    }
    let (mut parts, body) = reply.into_parts();
    let tap = Tap::new(body, &mut parts, ticket, bill);
    Reply::from_parts(parts, ReplyBody::stream(tap))
}
