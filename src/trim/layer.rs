use tower_layer::Layer;

use super::{Trim, TrimPolicy};

/// Wraps services in [`Trim`]. See the [module docs](crate::trim).
#[derive(Clone, Debug)]
pub struct TrimLayer {
    policy: TrimPolicy,
}

impl TrimLayer {
    /// Trims calls by this policy.
    #[must_use]
    pub fn new(policy: TrimPolicy) -> Self {
        Self { policy }
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
        Trim::new(inner, self.policy.clone())
    }
}
