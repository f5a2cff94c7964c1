//! Purges, counted, so that what was on the road during one is not stored after it.

use std::sync::PoisonError;

use super::sync::RwLock;

/// Purges so far. A flight remembers the number at its start and stores nothing if it has changed since.
#[derive(Debug)]
pub(in super::super) struct Epoch(RwLock<u64>);

impl Epoch {
    pub(in super::super) fn new() -> Self {
        Self(RwLock::new(0))
    }

    pub(in super::super) fn now(&self) -> u64 {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next one. On return no store of an earlier one is under way, and none comes after it.
    pub(in super::super) fn bump(&self) {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *now = now.wrapping_add(1);
    }

    /// Stores while it still is the epoch of `since`, and keeps it from ending meanwhile.
    pub(in super::super) fn store<T>(&self, since: u64, store: impl FnOnce() -> T) -> Option<T> {
        let now = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (*now == since).then(store)
    }
}
