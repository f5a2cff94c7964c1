//! What a cache has done: counted by place and by reason.
//!
//! The same figures come out in three ways. [`CacheStats`] is a plain struct, read whenever somebody asks. Each event
//! is told to `tracing` at debug level under the target `thrifty::cache`. With the feature `metrics` each is counted
//! through the `metrics` facade too:
//!
//! | name | labels | counts |
//! |---|---|---|
//! | `thrifty_cache_hits_total` | `tier`: memory, disk, stale, negative | calls answered from what is stored |
//! | `thrifty_cache_misses_total` | `reason`: absent, stale, too-old, model-moved, asked, form | calls that went to the provider |
//! | `thrifty_cache_joined_total` | | calls that shared another one's upstream call |
//! | `thrifty_cache_bypassed_total` | `reason` | calls that passed by |
//! | `thrifty_cache_stored_total` | | answers stored |
//! | `thrifty_cache_refused_total` | `reason` | answers not stored |
//! | `thrifty_cache_refreshes_total` | | stale answers fetched anew in the background |
//! | `thrifty_cache_purges_total` | | purges |
//!
//! and, as gauges that are set whenever [`CacheHandle::stats`](crate::cache::CacheHandle::stats) is read,
//! `thrifty_cache_memory_bytes`, `thrifty_cache_memory_entries`, `thrifty_cache_memory_evicted`, `thrifty_cache_flights`,
//! `thrifty_cache_flight_bytes`, and of a disk tier `thrifty_cache_disk_entries`, `thrifty_cache_disk_bytes`,
//! `thrifty_cache_disk_dropped`, `thrifty_cache_disk_evicted` and `thrifty_cache_disk_available` (0 or 1).
//!
//! No label names a tenant, a key or a model: each would grow without bound, and tell who asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::store::StoreStats;

/// Figures of a cache since it was built.
///
/// # Example
/// ```
/// use thrifty::cache::CacheLayer;
///
/// let stats = CacheLayer::in_memory().handle().stats();
/// assert_eq!((stats.memory_hits, stats.misses, stats.store.memory_entries), (0, 0, 0));
/// assert!(stats.refused_by.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Calls answered from memory.
    pub memory_hits: u64,
    /// Calls answered from disk.
    pub disk_hits: u64,
    /// Of both, calls that got an answer whose time was over, as settings or the call allowed.
    pub stale_hits: u64,
    /// Calls answered with an error that an identical call had moments ago; not among the hits.
    pub negative_hits: u64,
    /// Calls that went to the provider.
    pub misses: u64,
    /// The same by reason: `absent`, `stale` (its time is over), `too-old` (for what the call asked), `model-moved` (the
    /// name stands for another model than the one that gave it), `asked` (the
    /// call wanted a new answer), `form` (the stored one does not tell what this caller's form needs).
    pub misses_by: BTreeMap<&'static str, u64>,
    /// Calls that shared another one's upstream call.
    pub joined: u64,
    /// Calls that passed by the cache.
    pub bypassed: u64,
    /// The same by reason.
    pub bypassed_by: BTreeMap<&'static str, u64>,
    /// Answers stored.
    pub stored: u64,
    /// Answers that were not whole and good, or too large.
    pub not_stored: u64,
    /// The same by reason; see [`storable`](crate::cache::storable).
    pub refused_by: BTreeMap<&'static str, u64>,
    /// Stale answers that were fetched anew in the background.
    pub refreshes: u64,
    /// Purges, of all or of a scope.
    pub purges: u64,
    /// Upstream calls in progress that an identical call would join.
    pub flights: u64,
    /// Upstream calls in progress, those that nobody can join any more included.
    pub flight_tasks: u64,
    /// Bytes that replies in progress hold, and those that some caller has yet to read to its end.
    pub flight_bytes: u64,
    /// What the tiers hold.
    pub store: StoreStats,
}

/// Counts by a word from a fixed list.
#[derive(Debug, Default)]
struct Words(Mutex<BTreeMap<&'static str, u64>>);

impl Words {
    fn add(&self, word: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += 1;
    }

    fn read(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where a hit came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Memory,
    Disk,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    stale_hits: AtomicU64,
    negative_hits: AtomicU64,
    joined: AtomicU64,
    stored: AtomicU64,
    refreshes: AtomicU64,
    purges: AtomicU64,
    misses: Words,
    bypassed: Words,
    refused: Words,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Counts through the facade, where that is built in.
macro_rules! tell {
    ($name:literal $(, $label:literal => $value:expr)?) => {
        #[cfg(feature = "metrics")]
        metrics::counter!($name $(, $label => $value)?).increment(1);
    };
}

const TARGET: &str = "thrifty::cache";

impl Numbers {
    pub(super) fn hit(&self, tier: Tier) {
        let (counter, name) = match tier {
            Tier::Memory => (&self.memory_hits, "memory"),
            Tier::Disk => (&self.disk_hits, "disk"),
        };
        add(counter);
        tracing::debug!(target: TARGET, tier = name, "hit");
        tell!("thrifty_cache_hits_total", "tier" => name);
    }

    /// Of a hit, that it was a stale one.
    pub(super) fn stale(&self) {
        add(&self.stale_hits);
        tracing::debug!(target: TARGET, tier = "stale", "hit");
        tell!("thrifty_cache_hits_total", "tier" => "stale");
    }

    pub(super) fn negative(&self) {
        add(&self.negative_hits);
        tracing::debug!(target: TARGET, tier = "negative", "hit");
        tell!("thrifty_cache_hits_total", "tier" => "negative");
    }

    pub(super) fn miss(&self, reason: &'static str) {
        self.misses.add(reason);
        tracing::debug!(target: TARGET, reason, "miss");
        tell!("thrifty_cache_misses_total", "reason" => reason);
    }

    pub(super) fn joined(&self) {
        add(&self.joined);
        tracing::debug!(target: TARGET, "joined");
        tell!("thrifty_cache_joined_total");
    }

    pub(super) fn bypassed(&self, reason: &'static str) {
        self.bypassed.add(reason);
        tracing::debug!(target: TARGET, reason, "bypassed");
        tell!("thrifty_cache_bypassed_total", "reason" => reason);
    }

    pub(super) fn stored(&self) {
        add(&self.stored);
        tracing::debug!(target: TARGET, "stored");
        tell!("thrifty_cache_stored_total");
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.add(reason);
        tracing::debug!(target: TARGET, reason, "not stored");
        tell!("thrifty_cache_refused_total", "reason" => reason);
    }

    pub(super) fn refreshed(&self) {
        add(&self.refreshes);
        tracing::debug!(target: TARGET, "refresh");
        tell!("thrifty_cache_refreshes_total");
    }

    pub(super) fn moved(&self) {
        tracing::info!(target: TARGET, "a model's name stands for another model now");
    }

    pub(super) fn purged(&self) {
        add(&self.purges);
        tracing::info!(target: TARGET, "purge");
        tell!("thrifty_cache_purges_total");
    }

    /// All of them, but for what is told of the present.
    pub(super) fn read(&self) -> CacheStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sum = |words: &BTreeMap<&'static str, u64>| words.values().sum();
        let (misses_by, bypassed_by, refused_by) =
            (self.misses.read(), self.bypassed.read(), self.refused.read());
        CacheStats {
            memory_hits: get(&self.memory_hits),
            disk_hits: get(&self.disk_hits),
            stale_hits: get(&self.stale_hits),
            negative_hits: get(&self.negative_hits),
            misses: sum(&misses_by),
            joined: get(&self.joined),
            bypassed: sum(&bypassed_by),
            stored: get(&self.stored),
            not_stored: sum(&refused_by),
            refreshes: get(&self.refreshes),
            purges: get(&self.purges),
            misses_by,
            bypassed_by,
            refused_by,
            ..CacheStats::default()
        }
    }
}

impl CacheStats {
    /// Sets the gauges.
    #[cfg(feature = "metrics")]
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 bytes are 9 PB")]
    pub(super) fn tell(&self) {
        let set = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
        set("thrifty_cache_memory_bytes", self.store.memory_bytes);
        set("thrifty_cache_memory_entries", self.store.memory_entries);
        set("thrifty_cache_memory_evicted", self.store.memory_evicted);
        set("thrifty_cache_flights", self.flights);
        set("thrifty_cache_flight_bytes", self.flight_bytes);
        #[cfg(feature = "disk")]
        if let Some(disk) = &self.store.disk {
            set("thrifty_cache_disk_entries", disk.entries);
            set("thrifty_cache_disk_bytes", disk.file_bytes);
            set("thrifty_cache_disk_dropped", disk.dropped);
            set("thrifty_cache_disk_evicted", disk.evicted);
            set("thrifty_cache_disk_available", u64::from(disk.available));
        }
    }
}
