//! One bound over the bytes that all flights of a cache hold.

use super::sync::{AtomicUsize, Ordering};

/// What a frame holds besides its bytes: its handle in the log, and the header of the buffer it points into.
const FIXED: usize = 64;

/// Room for frames, shared by all flights of a cache.
#[derive(Debug)]
pub(super) struct Room {
    limit: usize,
    held: AtomicUsize,
}

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: AtomicUsize::new(0) }
    }

    /// What keeping a frame of this length takes.
    pub(super) fn cost(len: usize) -> usize {
        len.saturating_add(FIXED)
    }

    /// Takes this much, if it is there.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.limit);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }

    /// Takes this much, over the bound if need be: for the one frame that a flight has to hold to pass it on.
    pub(super) fn force(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Gives back what was taken.
    pub(super) fn give(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Bytes held now.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }
}
