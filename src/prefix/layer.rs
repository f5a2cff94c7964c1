//! The layer.

use tower_layer::Layer;

use super::{Prefix, PrefixPolicy};

/// Places the provider's prompt-cache marks. See the [module docs](crate::prefix).
#[derive(Clone, Debug, Default)]
pub struct PrefixLayer {
    policy: PrefixPolicy,
}

impl PrefixLayer {
    /// A layer that follows this policy.
    #[must_use]
    pub fn new(policy: PrefixPolicy) -> Self {
        Self { policy }
    }
}

impl<S> Layer<S> for PrefixLayer {
    type Service = Prefix<S>;

    fn layer(&self, inner: S) -> Prefix<S> {
        Prefix::new(inner, self.policy.clone())
    }
}
