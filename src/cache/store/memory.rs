//! Answers in memory, bounded in bytes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

use crate::cache::entry::Entry;
use crate::cache::key::CacheKey;
use crate::cache::store::epochs::Stamp;

/// Bytes of a stamp.
const STAMP: u32 = 24;

/// Answers in memory, bounded in bytes. An entry that was just stored may be gone at once when the cache is full and
/// the others are in greater demand, so nobody may count on reading back what he stored.
pub(crate) struct Memory(Cache<CacheKey, Held>);

/// An entry, and the purges it was made after.
type Held = (Arc<Entry>, Stamp);

impl Memory {
    /// At most about `max_bytes` of entries, by [`Entry::weight`].
    pub(crate) fn new(max_bytes: u64) -> Self {
        let weigher = |_: &CacheKey, (entry, _): &Held| entry.weight().saturating_add(STAMP);
        Self(Cache::builder().max_capacity(max_bytes).weigher(weigher).expire_after(Lifetime).build())
    }

    /// The entry, fresh or not: that is decided by the reader's clock.
    pub(crate) fn get(&self, key: &CacheKey) -> Option<(Arc<Entry>, Stamp)> {
        self.0.get(key)
    }

    /// Stores an entry in place of an earlier one.
    pub(crate) fn insert(&self, key: CacheKey, entry: Arc<Entry>, stamp: Stamp) {
        self.0.insert(key, (entry, stamp));
    }

    pub(crate) fn remove(&self, key: &CacheKey) {
        self.0.invalidate(key);
    }

    pub(crate) fn clear(&self) {
        self.0.invalidate_all();
    }

    /// Bytes held, by weight.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.weighted_size()
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("entries", &self.0.entry_count()).finish_non_exhaustive()
    }
}

/// Frees the memory of what has expired by real time. Whether an entry is fresh is not decided here.
struct Lifetime;

impl Expiry<CacheKey, Held> for Lifetime {
    fn expire_after_create(&self, _: &CacheKey, (entry, _): &Held, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &CacheKey,
        (entry, _): &Held,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> CacheKey {
        CacheKey::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn entry(len: usize) -> Arc<Entry> {
        Arc::new(Entry::new(http::StatusCode::OK, vec![b'x'; len], 0, Duration::from_secs(3600)))
    }

    #[test]
    fn the_bound_is_in_bytes() {
        let memory = Memory::new(1 << 20);
        for n in 0..5_000 {
            memory.insert(key(n), entry(2_000), Stamp::default());
        }
        assert!(memory.bytes() <= 1 << 20, "{} bytes", memory.bytes());
        assert!(memory.len() > 300, "{} entries of 2,400 bytes", memory.len());
    }

    #[test]
    fn what_is_removed_or_cleared_is_gone() {
        let memory = Memory::new(1 << 20);
        (0..3).for_each(|n| memory.insert(key(n), entry(10), Stamp::default()));
        assert!(memory.get(&key(0)).is_some());
        memory.remove(&key(0));
        assert!(memory.get(&key(0)).is_none());
        memory.clear();
        assert!(memory.get(&key(1)).is_none());
        assert_eq!(memory.len(), 0);
    }

    #[test]
    fn an_entry_that_lives_for_ever_does_not_overflow_the_clock() {
        let memory = Memory::new(1 << 20);
        let forever = || Arc::new(Entry::new(http::StatusCode::OK, "", 0, Duration::MAX));
        memory.insert(key(0), forever(), Stamp::default());
        assert!(memory.get(&key(0)).is_some());
        memory.insert(key(0), forever(), Stamp::default());
        assert!(memory.get(&key(0)).is_some());
    }
}
