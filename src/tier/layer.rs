//! The layer.

use tower_layer::Layer;

use super::{Tier, TierPolicy};

/// Sends each call to the model its policy names. See the [module docs](crate::tier).
///
/// Above the cache, so that the key is taken over the call as it is sent; above trim and cap, so that they know the
/// model they work for.
#[derive(Clone, Debug, Default)]
pub struct TierLayer {
    policy: TierPolicy,
}

impl TierLayer {
    /// A layer that follows this policy.
    #[must_use]
    pub fn new(policy: TierPolicy) -> Self {
        Self { policy }
    }

    /// The policy it follows.
    #[must_use]
    pub fn policy(&self) -> &TierPolicy {
        &self.policy
    }
}

impl<S> Layer<S> for TierLayer {
    type Service = Tier<S>;

    fn layer(&self, inner: S) -> Tier<S> {
        Tier::new(inner, self.policy.clone())
    }
}
