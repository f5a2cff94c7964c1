//! Where entries live: memory first, then disk.

#[cfg(feature = "disk")]
pub(crate) mod disk;
pub(crate) mod memory;

use std::sync::Arc;

use super::entry::Entry;
use super::key::CacheKey;
#[cfg(feature = "disk")]
pub(crate) use disk::{Disk, DiskOptions};
pub(crate) use memory::Memory;

/// The tiers of one cache, fastest first.
#[derive(Debug)]
pub(crate) struct Tiers {
    memory: Memory,
    #[cfg(feature = "disk")]
    disk: Option<Disk>,
}

impl Tiers {
    #[cfg(feature = "disk")]
    pub(crate) fn new(memory: Memory, disk: Option<Disk>) -> Self {
        Self { memory, disk }
    }

    #[cfg(not(feature = "disk"))]
    pub(crate) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// A fresh entry of the memory tier.
    pub(crate) fn get_memory(&self, key: &CacheKey, now_ms: i64) -> Option<Arc<Entry>> {
        self.memory.get(key).filter(|entry| entry.is_fresh(now_ms))
    }

    /// A fresh entry of the disk tier; it is then in memory too.
    #[cfg_attr(not(feature = "disk"), expect(clippy::unused_async, reason = "the same call with and without a disk tier"))]
    pub(crate) async fn get_disk(&self, key: &CacheKey, now_ms: i64) -> Option<Arc<Entry>> {
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            let entry = disk.get(key).await.filter(|entry| entry.is_fresh(now_ms))?;
            self.memory.insert(*key, entry.clone());
            return Some(entry);
        }
        let _ = (key, now_ms);
        None
    }

    /// Stores in every tier.
    pub(crate) fn put(&self, key: CacheKey, entry: Arc<Entry>) {
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.put(key, entry.clone());
        }
        self.memory.insert(key, entry);
    }

    pub(crate) fn remove(&self, key: &CacheKey) {
        self.memory.remove(key);
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.remove(key);
        }
    }

    pub(crate) fn clear(&self) {
        self.memory.clear();
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.clear();
        }
    }

    pub(crate) fn flush(&self) {
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.disk {
            disk.flush();
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }
}
