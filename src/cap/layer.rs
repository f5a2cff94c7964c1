use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::{Cap, CapField, CapPolicy, apply};
use crate::call::Call;
use crate::guard::guarded;

/// Which calls get the layer's own limit.
pub(super) type Condition = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// True if `call` gets the layer's own limit.
pub(super) fn applies(condition: Option<&Condition>, call: &Call) -> bool {
    condition.is_none_or(|condition| guarded("condition of a cap", false, || condition(call)))
}

/// Wraps services in [`Cap`]. See the [module docs](crate::cap).
#[derive(Clone)]
pub struct CapLayer {
    policy: CapPolicy,
    condition: Option<Condition>,
}

impl CapLayer {
    /// At most this many output tokens for each answer.
    #[must_use]
    pub fn new(tokens: u64) -> Self {
        Self::with_policy(CapPolicy::new(tokens))
    }

    /// Limits calls by this policy.
    #[must_use]
    pub fn with_policy(policy: CapPolicy) -> Self {
        Self { policy, condition: None }
    }

    /// Gives the layer's limit only to calls of which `condition` is true. Default: to all. A limit that a call
    /// names itself applies in any case. A condition that panics is not true.
    #[must_use]
    pub fn only_when(mut self, condition: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        self.condition = Some(Arc::new(condition));
        self
    }

    /// Sets the field a new limit is written to; see [`CapPolicy::with_field`].
    #[must_use]
    pub fn with_field(mut self, field: CapField) -> Self {
        self.policy = self.policy.with_field(field);
        self
    }

    /// Only lowers limits the caller sent; see [`CapPolicy::without_adding`].
    #[must_use]
    pub fn without_adding(mut self) -> Self {
        self.policy = self.policy.without_adding();
        self
    }

    /// True if what is done to a call depends on the call and these settings alone. A condition may depend on
    /// anything, so a layer with one is not pure.
    #[must_use]
    pub fn is_pure(&self) -> bool {
        self.condition.is_none()
    }

    /// What the services of this layer may make of `call`: two things, if a condition decides.
    pub(crate) fn outcomes(&self, call: &Call) -> impl Iterator<Item = Call> {
        let unlimited = self.condition.as_ref().map(|_| self.policy.only_asked());
        std::iter::once(self.policy.clone()).chain(unlimited).map(|policy| {
            let mut call = call.clone();
            apply(&mut call, &policy);
            call
        })
    }

    /// The policy calls are limited by.
    #[must_use]
    pub fn policy(&self) -> &CapPolicy {
        &self.policy
    }
}

impl fmt::Debug for CapLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapLayer")
            .field("policy", &self.policy)
            .field("conditional", &self.condition.is_some())
            .finish()
    }
}

impl<S> Layer<S> for CapLayer {
    type Service = Cap<S>;

    fn layer(&self, inner: S) -> Cap<S> {
        Cap::new(inner, self.policy.clone(), self.condition.clone())
    }
}
