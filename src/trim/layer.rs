use tower_layer::Layer;

use super::plan::plans_at_any_scale;
use super::{AskLayer, Trim, TrimPolicy, apply, plan_with};
use crate::call::Call;
use crate::tokens::{BoxCountEndpoint, Counter};
use crate::{Error, Kind};

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

    /// A layer to go right above this one: it asks the provider for its count of each call that is too near its budget
    /// for an estimate to tell, and this layer takes its word.
    #[must_use]
    pub fn asking(&self, endpoint: BoxCountEndpoint) -> AskLayer {
        AskLayer::new(self.policy.clone(), self.counter.clone(), endpoint)
    }

    /// Trims `call` as the services of this layer do, without a line in its receipt.
    pub(crate) fn trim(&self, call: &mut Call) -> Result<(), Error> {
        match apply(call, &plan_with(call, &self.policy, &self.counter)?) {
            Err(error) if error.kind() != Kind::NotEditable => Err(error),
            _ => Ok(()),
        }
    }

    /// What the services of this layer may make of `call`. Where a count depends on more than the call, `told` by the
    /// provider or learned from bills, that is what any count would have led to.
    pub(crate) fn outcomes(&self, call: &Call, told: bool) -> Vec<Call> {
        let mut outcomes = Vec::new();
        let mut trimmed = call.clone();
        // What is refused is not sent.
        if self.trim(&mut trimmed).is_ok() {
            outcomes.push(trimmed);
        }
        if told || self.counter.calibration().is_some() {
            outcomes.push(call.clone());
            for plan in plans_at_any_scale(call, &self.policy, &self.counter) {
                let mut cut = call.clone();
                if apply(&mut cut, &plan).is_ok() {
                    outcomes.push(cut);
                }
            }
        }
        outcomes
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
