//! Where entries live: memory first, then disk.
//!
//! A caller asks memory without waiting and only then disk, which may take a moment. What is found on disk is put
//! into memory on the way. Neither tier fails a call: the worst answer is none.

#[cfg(feature = "disk")]
pub(crate) mod disk;
pub(crate) mod epochs;
pub(crate) mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "disk")]
use self::disk::{Disk, DiskStats};
use self::epochs::{Epochs, Stamp, Tag};
use self::memory::Memory;
use super::entry::Entry;
use super::key::CacheKey;

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Entries in memory.
    pub memory_entries: u64,
    /// Bytes they take.
    pub memory_bytes: u64,
    /// Entries that left memory, or never got in, for want of room.
    pub memory_evicted: u64,
    /// The disk tier, if there is one.
    #[cfg(feature = "disk")]
    pub disk: Option<DiskStats>,
}

/// All tiers as one store.
#[derive(Debug)]
pub(crate) struct Tiers {
    memory: Memory,
    #[cfg(feature = "disk")]
    disk: Option<Disk>,
    epochs: Arc<Epochs>,
    /// Counts removals, so that a read from disk under way meanwhile does not bring back what was removed.
    removals: AtomicU64,
}

impl Tiers {
    /// Memory alone.
    pub(crate) fn new(memory: Memory) -> Self {
        Self {
            memory,
            #[cfg(feature = "disk")]
            disk: None,
            epochs: Arc::default(),
            removals: AtomicU64::new(0),
        }
    }

    /// The same with a disk behind it.
    #[cfg(feature = "disk")]
    pub(crate) fn with_disk(mut self, disk: Option<Disk>) -> Self {
        if let Some(disk) = &disk {
            self.epochs = disk.epochs();
        }
        self.disk = disk;
        self
    }

    /// The entry, if it is in memory and fresh.
    pub(crate) fn get_memory(&self, key: &CacheKey, now_ms: i64) -> Option<Arc<Entry>> {
        let (entry, stamp) = self.memory.get(key)?;
        (entry.is_fresh(now_ms) && self.epochs.is_current(&stamp)).then_some(entry)
    }

    /// The purges so far, for a scope: to be taken before a call is sent, and given back with its answer.
    pub(crate) fn stamp(&self, scope: Tag) -> Stamp {
        self.epochs.stamp(scope)
    }

    /// True while nothing the stamp belongs to has been purged.
    #[cfg_attr(not(any(test, feature = "disk")), expect(dead_code, reason = "for what comes from elsewhere"))]
    pub(crate) fn is_current(&self, stamp: &Stamp) -> bool {
        self.epochs.is_current(stamp)
    }

    /// The entry, if it is on disk and fresh. Afterwards it is in memory too.
    pub(crate) async fn get_disk(&self, key: &CacheKey, now_ms: i64) -> Option<Arc<Entry>> {
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            let before = self.removals.load(Ordering::SeqCst);
            let (entry, stamp) = disk.get_stamped(key).await.filter(|(entry, _)| entry.is_fresh(now_ms))?;
            if self.removals.load(Ordering::SeqCst) != before {
                return None;
            }
            self.memory.insert(*key, Arc::clone(&entry), stamp);
            if self.removals.load(Ordering::SeqCst) != before {
                self.memory.remove(key);
                return None;
            }
            return Some(entry);
        }
        let _ = (key, now_ms);
        None
    }

    /// Stores an entry in all tiers. May sleep for moments when memory is under heavy load: not for use in a `poll`.
    #[cfg(test)]
    pub(crate) fn put(&self, key: CacheKey, entry: Arc<Entry>) {
        self.put_stamped(key, entry, self.stamp(Tag::default()));
    }

    /// The same for an entry whose scope is known, with the stamp taken before its call was sent. What has been purged
    /// since is not stored.
    pub(crate) fn put_stamped(&self, key: CacheKey, entry: Arc<Entry>, stamp: Stamp) {
        if !self.epochs.is_current(&stamp) {
            return;
        }
        let entry = Arc::new(entry.compact());
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.put_stamped(key, Arc::clone(&entry), stamp);
        }
        self.memory.insert(key, entry, stamp);
    }

    /// Counts removals: to be taken before an entry from elsewhere is looked for.
    #[cfg(feature = "disk")]
    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }

    /// Stores an entry from elsewhere, unless something was purged or removed since. True if it may be served.
    #[cfg(feature = "disk")]
    pub(crate) fn adopt(&self, key: CacheKey, entry: &Arc<Entry>, stamp: Stamp, before: u64) -> bool {
        if self.removals() != before || !self.is_current(&stamp) {
            return false;
        }
        self.put_stamped(key, Arc::clone(entry), stamp);
        if self.removals() != before {
            self.memory.remove(&key);
            if let Some(disk) = &self.disk {
                disk.forget(&key);
            }
            return false;
        }
        self.is_current(&stamp)
    }

    /// Removes an entry; on return that is durable.
    pub(crate) async fn remove(&self, key: &CacheKey) {
        self.removals.fetch_add(1, Ordering::SeqCst);
        self.memory.remove(key);
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.remove_async(key).await;
        }
    }

    /// Removes all entries, and what is on the road with an older stamp; on return that is durable.
    pub(crate) async fn clear(&self) {
        self.removals.fetch_add(1, Ordering::SeqCst);
        self.epochs.bump_all();
        self.memory.clear();
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.clear_async().await;
        }
    }

    /// The same for one scope.
    pub(crate) async fn purge(&self, scope: Tag) {
        if self.epochs.bump(scope) {
            return self.clear().await;
        }
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.purge_async(scope).await;
        }
    }

    /// Blocks until all that was put before is durable, or given up.
    pub(crate) fn flush(&self) {
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.flush();
        }
    }

    /// The same without blocking the thread.
    pub(crate) async fn flush_async(&self) {
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.flush_async().await;
        }
    }

    /// What the tiers hold.
    pub(crate) fn stats(&self) -> StoreStats {
        StoreStats {
            memory_entries: self.memory.len(),
            memory_bytes: self.memory.bytes(),
            memory_evicted: self.memory.evicted(),
            #[cfg(feature = "disk")]
            disk: self.disk.as_ref().map(Disk::stats),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: i64 = 1_795_000_000_000;

    fn key(n: u8) -> CacheKey {
        CacheKey::from_bytes([n; 32])
    }

    fn entry() -> Arc<Entry> {
        Arc::new(Entry::new(http::StatusCode::OK, "answer", NOW, Duration::from_secs(60)))
    }

    #[tokio::test]
    async fn memory_alone_serves_what_is_fresh() {
        let tiers = Tiers::new(Memory::new(1 << 20));
        tiers.put(key(1), entry());
        assert_eq!(tiers.get_memory(&key(1), NOW), Some(entry()));
        assert_eq!(tiers.get_memory(&key(1), NOW + 60_000), None, "stale");
        assert_eq!(tiers.get_disk(&key(1), NOW).await, None, "there is no disk");
        tiers.flush_async().await;
        tiers.flush();
        tiers.remove(&key(1)).await;
        assert_eq!(tiers.get_memory(&key(1), NOW), None);
        tiers.put(key(2), entry());
        assert_eq!(tiers.stats().memory_entries, 1);
        tiers.clear().await;
        assert_eq!(tiers.stats().memory_entries, 0);
    }

    #[tokio::test]
    async fn a_purge_of_a_scope_covers_what_is_on_the_road_and_nothing_of_others() {
        let tiers = Tiers::new(Memory::new(1 << 20));
        let (mine, other) = (tiers.stamp([1; 16]), tiers.stamp([2; 16]));
        tiers.put_stamped(key(1), entry(), mine);
        tiers.put_stamped(key(2), entry(), other);
        tiers.purge([1; 16]).await;
        tiers.put_stamped(key(3), entry(), mine);
        assert!(!tiers.is_current(&mine) && tiers.is_current(&other));
        for (n, there) in [(1, false), (2, true), (3, false)] {
            assert_eq!(tiers.get_memory(&key(n), NOW).is_some(), there, "{n}");
        }
        tiers.put_stamped(key(3), entry(), tiers.stamp([1; 16]));
        assert!(tiers.get_memory(&key(3), NOW).is_some(), "it goes on after a purge");
    }

    #[cfg(feature = "disk")]
    #[tokio::test]
    async fn what_memory_lost_comes_back_from_disk_into_memory() {
        use super::disk::DiskOptions;
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(crate::clock::ManualClock::at_ms(NOW));
        let disk = Disk::open(dir.path().join("c.redb"), DiskOptions::default(), [7; 32], clock);
        let tiers = Tiers::new(Memory::new(1 << 20)).with_disk(Some(disk));
        tiers.put(key(1), entry());
        tiers.memory.clear();
        assert_eq!(tiers.get_memory(&key(1), NOW), None);
        assert_eq!(tiers.get_disk(&key(1), NOW).await, Some(entry()), "while it is pending");
        assert_eq!(tiers.get_memory(&key(1), NOW), Some(entry()), "it is back in memory");
        tiers.flush();
        assert_eq!(tiers.stats().disk.unwrap().entries, 1);
        tiers.remove(&key(1)).await;
        assert_eq!(tiers.get_memory(&key(1), NOW), None);
        assert_eq!(tiers.get_disk(&key(1), NOW).await, None);
        tiers.put(key(2), entry());
        tiers.clear().await;
        assert_eq!(tiers.get_disk(&key(2), NOW).await, None);
    }
}
