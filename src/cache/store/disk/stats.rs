//! Figures of the tier.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{DiskState, Shared, lock};

/// What a [`Disk`](super::Disk) holds and has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskStats {
    /// False while nothing can be written to the file.
    pub available: bool,
    /// How it is with the file.
    pub state: DiskState,
    /// True while the index of what is in the file is still being read.
    pub loading: bool,
    /// Entries in the file.
    pub entries: u64,
    /// Bytes they take in it.
    pub live_bytes: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Entries that wait to be written.
    pub pending: u64,
    /// Entries written.
    pub stored: u64,
    /// Stores given up: too large, too many at once, or no file.
    pub dropped: u64,
    /// Entries served.
    pub hits: u64,
    /// Of these, the ones served from a block in memory.
    pub hot: u64,
    /// Reads given up because they took too long.
    pub late: u64,
    /// Blocks read from the file.
    pub reads: u64,
    /// Entries that were damaged or forged, and not served.
    pub damaged: u64,
    /// Entries that had to make room.
    pub evicted: u64,
    /// Entries that were in demand and so got a second chance.
    pub kept: u64,
    /// Commits made.
    pub commits: u64,
    /// Times the file could no longer be used as before.
    pub faults: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) stored: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) hot: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) faults: AtomicU64,
}

pub(super) fn of(shared: &Shared) -> DiskStats {
    let (entries, live_bytes, complete) = {
        let index = lock(&shared.index);
        (index.len() as u64, index.allocated(), index.is_complete())
    };
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let state = DiskState::of(shared);
    let owned = matches!(state, DiskState::Healthy | DiskState::ReadOnly);
    let len = if owned { shared.medium.len(&shared.path).unwrap_or(0) } else { 0 };
    let counters = &shared.counters;
    DiskStats {
        available: state == DiskState::Healthy,
        state,
        loading: owned && !complete,
        entries,
        live_bytes,
        file_bytes: len,
        pending: lock(&shared.pending).len() as u64,
        stored: read(&counters.stored),
        dropped: read(&counters.dropped),
        hits: read(&counters.hits),
        hot: read(&counters.hot),
        late: read(&counters.late),
        reads: read(&counters.reads),
        damaged: read(&counters.damaged),
        evicted: read(&counters.evicted),
        kept: read(&counters.kept),
        commits: read(&counters.commits),
        faults: read(&counters.faults),
    }
}
