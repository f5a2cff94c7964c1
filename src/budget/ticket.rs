//! One call's reservation.

use super::Budget;
use crate::price::Usd;

/// One call's reservation against a [`Budget`], settled exactly once: by value, or by being dropped.
///
/// Dropped before [`dispatch`](Self::dispatch) it is released, since nothing was sent; after it the reservation is
/// charged, since the provider may have answered.
#[derive(Debug)]
#[must_use = "a dropped ticket is released, or charged in full once dispatched"]
pub struct Ticket {
    budget: Budget,
    window: i64,
    worst: Option<Usd>,
    over: bool,
    at_ms: i64,
    dispatched: bool,
    open: bool,
}

impl Ticket {
    pub(super) fn new(budget: Budget, window: i64, worst: Option<Usd>, over: bool, at_ms: i64) -> Self {
        Self { budget, window, worst, over, at_ms, dispatched: false, open: true }
    }

    /// What is reserved; `None` when a soft budget let through a call that has no price.
    #[must_use]
    pub fn worst(&self) -> Option<Usd> {
        self.worst
    }

    /// True if a soft budget let the call through although it may exceed the limit.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.over
    }

    /// When it was reserved, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// The budget it counts against.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Says that the call is now sent.
    pub fn dispatch(&mut self) {
        self.dispatched = true;
    }

    /// Charges what the call did cost; the reservation when that is not known.
    pub fn settle(mut self, actual: Option<Usd>) {
        self.close(actual.map(|actual| actual.max(Usd::ZERO)).or(self.worst));
    }

    /// Gives the reservation back: nothing was sent.
    pub fn release(mut self) {
        self.close(Some(Usd::ZERO));
    }

    fn close(&mut self, charge: Option<Usd>) {
        if std::mem::take(&mut self.open) {
            self.budget.close(self.window, self.worst, charge);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.close(if self.dispatched { self.worst } else { Some(Usd::ZERO) });
    }
}
