use tower_layer::Layer;

use super::{Trim, TrimPolicy};
use crate::tokens::Counter;

/// Wraps services in [`Trim`]. See the [module docs](crate::trim).
#[derive(Clone, Debug)]
pub struct TrimLayer {
    policy: TrimPolicy,
    counter: Counter,
}

impl TrimLayer {
    /// Trims calls by this policy.
    #[must_use]
    pub fn new(policy: TrimPolicy) -> Self {
        // The first call need not wait for the tables.
        crate::tokens::Encoding::default().warm();
        Self { policy, counter: Counter::default() }
    }

    /// Counts with `counter`, whose memory other layers may share. Default: one of its own, shared by the services
    /// this layer makes.
    #[must_use]
    pub fn with_counter(mut self, counter: Counter) -> Self {
        self.counter = counter;
        self
    }

    /// The policy calls are trimmed by.
    #[must_use]
    pub fn policy(&self) -> &TrimPolicy {
        &self.policy
    }
}

impl<S> Layer<S> for TrimLayer {
    type Service = Trim<S>;

    fn layer(&self, inner: S) -> Trim<S> {
        Trim::new(inner, self.policy.clone(), self.counter.clone())
    }
}
