//! The layer.

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::{Budget, Budgeted};
use crate::BoxError;
use crate::guard::guarded;
use crate::tokens::{BoxCountEndpoint, Counter};

type Unsent = Arc<dyn Fn(&BoxError) -> bool + Send + Sync>;

/// Holds calls to a [`Budget`]. See the [module docs](crate::budget).
///
/// Below the cache, so that a spent budget still serves hits. Several layers make several levels (team, key): the
/// inner one's refusal releases what the outer one reserved.
#[derive(Clone)]
pub struct BudgetLayer {
    budget: Budget,
    counter: Counter,
    endpoint: Option<BoxCountEndpoint>,
    unsent: Option<Unsent>,
}

impl BudgetLayer {
    /// A layer that holds calls to this budget.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        // The first call need not wait for the tables its input is counted with.
        crate::tokens::Encoding::default().warm();
        Self { budget, counter: Counter::default(), endpoint: None, unsent: None }
    }

    /// Counts prompts with `counter`, whose memory and calibration other layers may share. Default: one of its own.
    #[must_use]
    pub fn with_counter(mut self, counter: Counter) -> Self {
        self.counter = counter;
        self
    }

    /// Asks the provider for its count of a prompt where that decides: where a hard budget has no room for the upper
    /// bound of an estimate, and would have for the likely figure. Default: never; the bound decides.
    #[must_use]
    pub fn with_count_endpoint(mut self, endpoint: BoxCountEndpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Errors of the inner service of which this is true mean that nothing was sent, so the reservation is released.
    ///
    /// Without it that is known of refusals by thrifty's own layers and of connections that could not be made, as
    /// far as a [`std::io::Error`] in the chain of sources says so; any other error charges the reservation. A check
    /// that panics knows nothing beyond that.
    #[must_use]
    pub fn nothing_sent_when(mut self, unsent: impl Fn(&BoxError) -> bool + Send + Sync + 'static) -> Self {
        self.unsent = Some(Arc::new(unsent));
        self
    }

    /// The budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(super) fn counter(&self) -> &Counter {
        &self.counter
    }

    pub(super) fn endpoint(&self) -> Option<&BoxCountEndpoint> {
        self.endpoint.as_ref()
    }

    /// True if the inner service failed before anything was sent.
    pub(super) fn nothing_sent(&self, error: &BoxError) -> bool {
        use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};

        if self
            .unsent
            .as_ref()
            .is_some_and(|unsent| guarded("check for calls not sent", false, || unsent(error)))
        {
            return true;
        }
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
        while let Some(error) = next {
            if let Some(ours) = error.downcast_ref::<crate::Error>()
                && ours.kind() != crate::Kind::Upstream
            {
                return true;
            }
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                let early = [AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable];
                if early.contains(&io.kind()) {
                    return true;
                }
            }
            next = error.source();
        }
        false
    }
}

impl<S> Layer<S> for BudgetLayer {
    type Service = Budgeted<S>;

    fn layer(&self, inner: S) -> Budgeted<S> {
        Budgeted::new(inner, self.clone())
    }
}

impl fmt::Debug for BudgetLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetLayer").field("budget", &self.budget).finish_non_exhaustive()
    }
}
