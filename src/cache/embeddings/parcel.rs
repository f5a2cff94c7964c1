//! One upstream call for several questions, in a task of its own.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use tokio::sync::oneshot;
use tower::ServiceExt;
use tower_service::Service;

use super::super::entry::Entry;
use super::super::flight::{Lead, joined_head, shared, unless};
use super::super::key::CacheKey;
use super::super::layer::Core;
use super::super::policy::{storable, stored_headers};
use super::super::purge::Since;
use super::super::render::{Rendered, RenderedBody};
use super::super::resolved::{NameId, capped};
use super::super::service::is_another_model;
use super::share::apportion;
use crate::call::{Call, Options, Reply, ReplyBody};
use crate::dialect::embeddings::batch;
use crate::dialect::{Outcome, Usage, read};
use crate::price::{Terms, Usd};
use crate::receipt::{self, Draft, Served};
use crate::{BoxError, Error, Kind, tokens};

/// A call on its way out, and who waits for it.
pub(super) struct Parcel {
    pub(super) call: Call,
    /// The key of each of its inputs, in order.
    pub(super) keys: Arc<[CacheKey]>,
    /// The flights of some of its inputs: a place in `keys`, and the duty to answer. Only their answers are stored.
    pub(super) leads: Vec<(usize, Lead)>,
    pub(super) since: Since,
    /// Why it is sent, for the figures.
    pub(super) why: &'static str,
}

/// What came back.
pub(super) struct Sent {
    pub(super) parts: Arc<Parts>,
    pub(super) body: Bytes,
    /// What the whole reply says.
    pub(super) outcome: Outcome,
    /// An entry for each input, or why there is none.
    pub(super) entries: Result<Vec<Arc<Entry>>, &'static str>,
    /// Whether they were stored, or why not.
    pub(super) stored: Result<(), &'static str>,
}

impl Sent {
    /// The reply as it came.
    pub(super) fn reply(&self) -> Reply {
        Reply::from_parts(Parts::clone(&self.parts), ReplyBody::full(self.body.clone()))
    }

    /// The same for those who did not send the call.
    pub(super) fn joined(&self) -> Reply {
        Reply::from_parts(joined_head(&self.parts), ReplyBody::full(self.body.clone()))
    }
}

/// What those find who joined the flight of one input, among the reply's extensions.
#[derive(Clone)]
pub(super) enum Brought {
    /// The answer to it.
    Entry(Arc<Entry>),
    /// The call it was part of failed. Those who asked for the very same inputs share that.
    Failure { keys: Arc<[CacheKey]>, how: Arc<Result<Sent, Error>> },
}

/// Answers a flight.
pub(super) fn bring(lead: Lead, brought: Brought) {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.extensions.insert(brought);
    lead.answer(Rendered { parts, body: RenderedBody::Whole(Bytes::new()) });
}

/// Sends a parcel. The answer comes to the receiver, and before that to all flights and into the store.
pub(super) fn send<S>(
    core: Arc<Core>,
    inner: S,
    parcel: Parcel,
) -> oneshot::Receiver<Arc<Result<Sent, Error>>>
where
    S: Service<Call, Response = Reply> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let (mut sender, receiver) = oneshot::channel();
    core.numbers.miss(parcel.why);
    receipt::note(&parcel.call, |receipt| receipt.served = Served::Upstream);
    let hold = Draft::of(&parcel.call).map(Draft::hold);
    tokio::spawn(async move {
        let Parcel { call, keys, leads, since, why: _ } = parcel;
        let draft = Draft::of(&call).cloned();
        let (places, leads): (Vec<usize>, Vec<Lead>) = leads.into_iter().unzip();
        let filing = Filing {
            // The layer's time to live is the longest: a call may only ask for less.
            ttl: Options::among(&call.parts.extensions)
                .and_then(|options| options.ttl)
                .map_or(core.ttl, |ttl| ttl.min(core.ttl)),
            asked: call.model(),
            name: NameId::of(&call, since.stamp.scope),
            sent_ms: core.clock.now_ms(),
            keys: keys.clone(),
            since,
        };
        let flights = places.iter().copied().zip(&leads).collect::<Vec<_>>();
        let abandoned = async {
            sender.closed().await;
            Lead::all_deserted(&leads, core.limits.grace(false)).await;
        };
        let travel =
            tokio::time::timeout(core.limits.reply_timeout, travel(&core, inner, call, filing, &flights));
        let travelled =
            unless(travel, pin!(abandoned)).await.map(|came| came.unwrap_or_else(|_| Err(late())));
        let Some(answer) = travelled.map(Arc::new) else { return };
        if let Some(draft) = draft {
            draft.note(|receipt| match &*answer {
                Ok(sent) => receipt.status = Some(sent.parts.status.as_u16()),
                Err(_) => receipt.served = Served::Nowhere,
            });
        }
        for (place, lead) in places.into_iter().zip(leads) {
            bring(
                lead,
                match &*answer {
                    Ok(Sent { entries: Ok(entries), .. }) => Brought::Entry(entries[place].clone()),
                    _ => Brought::Failure { keys: keys.clone(), how: answer.clone() },
                },
            );
        }
        if let (Some(hold), Ok(sent)) = (hold, &*answer) {
            hold.settle(sent.outcome.clone());
        }
        // Whoever sent it may have left.
        let _ = sender.send(answer);
    });
    receiver
}

/// A parcel whose answer has not come.
fn late() -> Error {
    Error::new(
        Kind::Upstream,
        "the upstream did not answer in time",
        "call again, or allow more with `CacheBuilder::reply_timeout`",
    )
}

/// A parcel whose task ended without an answer.
pub(super) fn lost() -> Error {
    Error::new(
        Kind::Upstream,
        "the upstream call ended without an answer",
        "call again; the next call starts afresh",
    )
}

async fn travel<S>(
    core: &Arc<Core>,
    inner: S,
    call: Call,
    filing: Filing,
    flights: &[(usize, &Lead)],
) -> Result<Sent, Error>
where
    S: Service<Call, Response = Reply>,
    S::Error: Into<BoxError>,
{
    let format = call.format();
    // Counting runs beside the call, and only where there is something to split.
    let counting = (filing.keys.len() > 1).then(|| {
        let call = call.clone();
        tokio::task::spawn_blocking(move || weights(&call))
    });
    let reply = inner.oneshot(call).await.map_err(|error| shared(error.into()))?;
    let (parts, body) = reply.into_parts();
    let body = body.bytes().await.map_err(shared)?;
    let outcome = read(format, &parts.headers, &body);
    let entries = match storable(parts.status, &parts.headers, &outcome) {
        Ok(()) => {
            let weights = match counting {
                Some(counting) => counting.await.unwrap_or_default(),
                None => vec![1],
            };
            filing.entries(core, &parts, &body, &outcome, &weights).ok_or("mismatch")
        }
        Err(why) => Err(why),
    };
    let stored = filing.store(core, &entries, &outcome, body.len(), flights);
    if let Err(why) = stored {
        core.numbers.refused(why);
    }
    Ok(Sent { parts: Arc::new(parts), body, outcome, entries, stored })
}

/// Tokens of each input of `call`, as counted here; bytes where they cannot be.
fn weights(call: &Call) -> Vec<u64> {
    let lens = batch::split(call).map(|inputs| inputs.lens()).unwrap_or_default();
    let counted = tokens::count(call).parts.messages;
    if counted.len() == lens.len() { counted } else { lens }
}

/// What is needed to take a reply apart and to store the pieces.
struct Filing {
    keys: Arc<[CacheKey]>,
    since: Since,
    ttl: Duration,
    asked: Option<String>,
    name: NameId,
    sent_ms: i64,
}

impl Filing {
    /// An entry for each input; `None` if the reply has another number of vectors, or cannot be taken apart.
    fn entries(
        &self,
        core: &Core,
        parts: &Parts,
        body: &Bytes,
        outcome: &Outcome,
        weights: &[u64],
    ) -> Option<Vec<Arc<Entry>>> {
        let apart = batch::take_apart(body)?;
        let n = self.keys.len();
        if apart.vectors.len() != n {
            return None;
        }
        let even = vec![1; n];
        let weights = if weights.len() == n { weights } else { &even };
        let tokens: Option<Vec<u64>> = apart.tokens.map(|total| {
            let parts = apportion(u128::from(total), weights);
            // No part is larger than the total, which is a `u64`.
            parts.into_iter().map(|part| u64::try_from(part).unwrap_or(u64::MAX)).collect()
        });
        let now = core.clock.now_ms();
        let costs = self.cost(core, outcome, now).and_then(|cost| {
            let total = u128::try_from(cost.pico()).ok()?;
            let parts = apportion(total, tokens.as_deref().unwrap_or(weights)).into_iter();
            parts.map(|part| i128::try_from(part).ok().map(Usd::from_pico)).collect::<Option<Vec<_>>>()
        });
        let ttl = capped(self.ttl, self.asked.as_deref(), outcome.model.as_deref());
        let (frame, headers, table) = (apart.frame(), stored_headers(&parts.headers), core.prices.id());
        let entry = |at: usize| {
            let count = tokens.as_ref().map(|tokens| tokens[at]);
            // The reply to a single input is kept as it came.
            let body = match n {
                1 => body.clone(),
                _ => batch::put_together(&frame, &[apart.vectors[at]], count)?,
            };
            Some(Arc::new(Entry {
                status: parts.status,
                headers: headers.clone(),
                body,
                frames: None,
                created_ms: now,
                ttl,
                outcome: Outcome { usage: count.map(|count| Usage::of(count, 0)), ..outcome.clone() },
                cost: costs.as_ref().map(|costs| costs[at]),
                table: Some(table.clone()),
                identity: super::super::entry::Places::default(),
            }))
        };
        (0..n).map(entry).collect()
    }

    /// What the whole reply is billed, if that is known.
    fn cost(&self, core: &Core, outcome: &Outcome, now: i64) -> Option<Usd> {
        let terms = Terms::at(now).with_service_tier(outcome.service_tier.clone());
        let usage = outcome.usage.as_ref()?;
        // A dated name the table does not know: the name that was asked for has the same price.
        [outcome.model.as_deref(), self.asked.as_deref()]
            .into_iter()
            .flatten()
            .find_map(|model| core.prices.cost(model, usage, &terms).usd)
    }

    /// Stores the answers of these flights, unless they were replaced or invalidated.
    fn store(
        &self,
        core: &Arc<Core>,
        entries: &Result<Vec<Arc<Entry>>, &'static str>,
        outcome: &Outcome,
        len: usize,
        flights: &[(usize, &Lead)],
    ) -> Result<(), &'static str> {
        let entries = entries.as_ref().map_err(|why| *why)?;
        if len > core.limits.max_bytes {
            return Err("too-large");
        }
        if let (Some(asked), Some(answered)) = (&self.asked, &outcome.model)
            && is_another_model(&core.prices, asked, answered)
        {
            return Err("other-model");
        }
        if let Some(answered) = &outcome.model {
            core.note_model(self.name, answered, self.sent_ms, core.clock.now_ms())?;
        }
        if flights.is_empty() {
            return Err("own-call");
        }
        let put =
            |place: usize| core.tiers.put_stamped(self.keys[place], entries[place].clone(), self.since.stamp);
        let mut stored = 0_usize;
        for (place, lead) in flights {
            // An answer that was on the road during a purge must not come back to life, nor one that was replaced or
            // invalidated meanwhile. Neither can happen between these looks and the store.
            match lead.store(|| self.since.store(core, || put(*place))) {
                None => {}
                Some(None) => return Err("purged"),
                Some(Some(())) => stored += 1,
            }
        }
        if stored == 0 {
            return Err("replaced");
        }
        (0..stored).for_each(|_| core.numbers.stored());
        Ok(())
    }
}
