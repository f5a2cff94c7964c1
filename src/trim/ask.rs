//! The provider's own count, ahead of trimming.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use super::TrimPolicy;
use super::plan::budget_of;
use crate::BoxError;
use crate::call::{Call, Reply};
use crate::receipt;
use crate::tokens::{Asked, BoxCountEndpoint, Count, Counter, is_near};

/// What the provider told of a call with this body, on the way from [`Ask`] to trim.
#[derive(Clone)]
pub(super) struct Told {
    body: Bytes,
    count: Count,
}

impl Told {
    /// Taken out of `call`, if it is still the call that was asked about.
    pub(super) fn of(call: &mut Call) -> Option<Count> {
        let told: Self = call.parts.extensions.remove()?;
        let body = call.doc.bytes();
        (told.body.as_ptr() == body.as_ptr() && told.body.len() == body.len()).then_some(told.count)
    }
}

/// Wraps services in [`Ask`]; made by [`TrimLayer::asking`](super::TrimLayer::asking).
#[derive(Clone)]
pub struct AskLayer {
    policy: TrimPolicy,
    counter: Counter,
    endpoint: BoxCountEndpoint,
}

impl AskLayer {
    pub(super) fn new(policy: TrimPolicy, counter: Counter, endpoint: BoxCountEndpoint) -> Self {
        Self { policy, counter, endpoint }
    }

    /// The estimate, if the provider's count of `call` decides whether it has to be trimmed.
    fn undecided(&self, call: &Call) -> Option<Count> {
        let budget = budget_of(call, &self.policy).filter(|_| self.endpoint.can_ask(call))?;
        if self.counter.fits(call, budget) {
            return None;
        }
        Some(self.counter.count(call)).filter(|count| is_near(count, budget))
    }
}

impl fmt::Debug for AskLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskLayer").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AskLayer {
    type Service = Ask<S>;

    fn layer(&self, inner: S) -> Ask<S> {
        Ask { inner, layer: self.clone() }
    }
}

/// Asks the provider how many tokens a call has, where the estimate is within its error of the budget that
/// [`Trim`](super::Trim) below holds it to. Always ready; most calls pass at once.
#[derive(Clone, Debug)]
pub struct Ask<S> {
    inner: S,
    layer: AskLayer,
}

impl<S> Service<Call> for Ask<S>
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

    fn call(&mut self, mut call: Call) -> Self::Future {
        let (inner, estimate) = (self.inner.clone(), self.layer.undecided(&call));
        let endpoint = estimate.is_some().then(|| self.layer.endpoint.clone());
        Box::pin(async move {
            if let (Some(estimate), Some(endpoint)) = (estimate, endpoint) {
                let told = endpoint.ask_once(&mut call, estimate).await;
                receipt::note(&call, |receipt| receipt.notes.extend(told.note()));
                if let Asked::Provider(count) = told {
                    let body = call.doc.bytes().clone();
                    call.parts.extensions.insert(Told { body, count });
                }
            }
            inner.oneshot(call).await.map_err(Into::into)
        })
    }
}
