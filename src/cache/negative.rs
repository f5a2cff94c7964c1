//! Client errors that repeat themselves: kept for seconds, apart from answers that were paid for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::response::Parts;
use moka::sync::Cache as Moka;

use super::entry::Entry;
use super::key::CacheKey;
use super::policy::stored_headers;

/// Errors kept at a time.
const MOST: u64 = 1_024;

/// A larger error is not kept. Those of the known providers have some hundred bytes.
const LARGEST: usize = 16 << 10;

/// Longer than this an error outlives the repair of what caused it.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// Errors by key, in memory only.
pub(super) struct Negatives {
    ttl: Duration,
    kept: Moka<CacheKey, Arc<Entry>>,
}

impl Negatives {
    /// Keeps each for `ttl`; zero keeps none.
    pub(super) fn new(ttl: Duration) -> Self {
        let ttl = ttl.min(LONGEST);
        let most = if ttl.is_zero() { 0 } else { MOST };
        Self { ttl, kept: Moka::builder().max_capacity(most).time_to_live(LONGEST).build() }
    }

    /// The error a call with this key had moments ago.
    pub(super) fn get(&self, key: &CacheKey, now_ms: i64) -> Option<Arc<Entry>> {
        if self.ttl.is_zero() {
            return None;
        }
        self.kept.get(key).filter(|entry| entry.is_fresh(now_ms))
    }

    /// Keeps an error that the same call would get again: what it says is wrong with the call, not with the key, the
    /// limits or the provider.
    pub(super) fn put(&self, key: CacheKey, parts: &Parts, body: &Bytes, now_ms: i64) {
        if self.ttl.is_zero() || !repeats(parts.status) || body.len() > LARGEST {
            return;
        }
        let mut entry = Entry::new(parts.status, Bytes::copy_from_slice(body), now_ms, self.ttl);
        entry.headers = stored_headers(&parts.headers);
        self.kept.insert(key, Arc::new(entry));
    }

    pub(super) fn remove(&self, key: &CacheKey) {
        self.kept.invalidate(key);
    }

    pub(super) fn clear(&self) {
        self.kept.invalidate_all();
    }
}

/// True for a status that says the call itself is wrong.
fn repeats(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 413 | 422)
}

impl fmt::Debug for Negatives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negatives").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
