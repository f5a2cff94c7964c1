//! The service.

use std::task::{Context, Poll};

use tower_service::Service;

use super::{PrefixPolicy, apply};
use crate::BoxError;
use crate::call::{Call, Reply};
use crate::receipt;

/// Places the provider's prompt-cache marks; made by [`PrefixLayer`](super::PrefixLayer). Readiness is that of the
/// inner service.
#[derive(Clone, Debug)]
pub struct Prefix<S> {
    inner: S,
    policy: PrefixPolicy,
}

impl<S> Prefix<S> {
    /// This policy in front of `inner`.
    pub fn new(inner: S, policy: PrefixPolicy) -> Self {
        Self { inner, policy }
    }
}

impl<S> Service<Call> for Prefix<S>
where
    S: Service<Call, Response = Reply>,
    S::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> S::Future {
        if apply(&mut call, &self.policy) {
            receipt::note(&call, |receipt| receipt.prefix_marked = true);
        }
        self.inner.call(call)
    }
}
