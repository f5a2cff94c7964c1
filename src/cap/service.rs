use std::fmt;
use std::task::{Context, Poll};

use tower_service::Service;

use super::layer::{Condition, applies};
use super::{CapPolicy, ResponseFuture, apply};
use crate::call::{Call, Capped, Reply};
use crate::{BoxError, receipt};

/// Sets or lowers the output limit of each call. See the [module docs](crate::cap).
///
/// Never refuses a call; readiness is that of the inner service.
#[derive(Clone)]
pub struct Cap<S> {
    inner: S,
    policy: CapPolicy,
    unlimited: CapPolicy,
    condition: Option<Condition>,
}

impl<S> Cap<S> {
    pub(super) fn new(inner: S, policy: CapPolicy, condition: Option<Condition>) -> Self {
        Self { inner, unlimited: policy.only_asked(), policy, condition }
    }
}

impl<S: fmt::Debug> fmt::Debug for Cap<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cap")
            .field("inner", &self.inner)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl<S> Service<Call> for Cap<S>
where
    S: Service<Call, Response = Reply>,
    S::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let limited = applies(self.condition.as_ref(), &call);
        let outcome = apply(&mut call, if limited { &self.policy } else { &self.unlimited });
        if outcome.set.is_some() {
            call.parts.extensions.insert(Capped);
        }
        receipt::note(&call, |receipt| {
            receipt.cap_asked = receipt.cap_asked.or(outcome.asked);
            receipt.cap_set = outcome.set.or(receipt.cap_set);
            receipt.notes.extend(outcome.note);
        });
        ResponseFuture::new(self.inner.call(call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cap_is_as_capable_as_its_inner_service() {
        fn check<T: Clone + Send + Sync>() {}
        check::<Cap<()>>();
    }
}
