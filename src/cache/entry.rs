//! One stored answer, and the bytes of it that are kept.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use thrifty::cache::Entry;
//!
//! let mut entry = Entry::new(http::StatusCode::OK, "{}", 1_795_000_000_000, Duration::from_secs(60));
//! entry.headers.insert("content-type", "application/json".parse()?);
//! assert!(entry.is_fresh(1_795_000_059_999));
//! assert!(!entry.is_fresh(1_795_000_060_000));
//! # Ok::<(), thrifty::BoxError>(())
//! ```

#[cfg(feature = "disk")]
pub(super) mod stored;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderMap;

use crate::dialect::{Format, Identity, Outcome};
use crate::price::Usd;

/// One stored answer. See the [module docs](crate::cache).
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The status it came with.
    pub status: StatusCode,
    /// The headers that describe the answer.
    pub headers: HeaderMap,
    /// The body; of a stream, all of its frames.
    pub body: Bytes,
    /// Lengths in bytes of the frames of a stream, in order; `None` for a complete body.
    pub frames: Option<Arc<[u32]>>,
    /// When the call that brought it was made, in milliseconds since 1970-01-01 UTC.
    pub created_ms: i64,
    /// How long after that it may be served.
    pub ttl: Duration,
    /// What it says about itself.
    pub outcome: Outcome,
    /// What it cost when it was made; `None` if its price is not known.
    pub cost: Option<Usd>,
    /// The version of the price table behind `cost`.
    pub table: Option<Arc<str>>,
    /// Where its body says which one it is, once somebody asked; never leaves memory.
    pub(super) identity: Places,
}

/// The places of ids and times in an entry's body, looked up when first needed. They follow from the body, so two
/// entries that differ in nothing else are equal.
#[derive(Clone, Default)]
pub(super) struct Places(OnceLock<Arc<Identity>>);

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

/// An entry from the future by more than this means that the clock went back, and nobody knows how far.
const CLOCK_SLACK_MS: i64 = 60_000;

/// Bytes that an entry takes in memory beyond its contents, rounded up from 385 measured.
const FIXED_WEIGHT: usize = 400;

impl Entry {
    /// A complete answer without headers or known cost.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>, created_ms: i64, ttl: Duration) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
            frames: None,
            created_ms,
            ttl,
            outcome: Outcome::default(),
            cost: None,
            table: None,
            identity: Places::default(),
        }
    }

    /// Where the body says which one it is.
    pub(super) fn identity(&self, format: &dyn Format) -> &Arc<Identity> {
        self.identity.0.get_or_init(|| Arc::new(format.identity(&self.body, self.frames.is_some())))
    }

    /// When it stops being fresh, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn expires_ms(&self) -> i64 {
        let ttl = i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX);
        self.created_ms.saturating_add(ttl)
    }

    /// True if it may be served at `now_ms`: not too old, and not from a future that a clock set back has made.
    #[must_use]
    pub fn is_fresh(&self, now_ms: i64) -> bool {
        now_ms < self.expires_ms() && now_ms >= self.created_ms.saturating_sub(CLOCK_SLACK_MS)
    }

    /// Bytes it takes in memory: body, headers, frame lengths, the places of ids in a stream, and a fixed share.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        // Each chunk repeats an id and a time, whose places take 16 bytes; hardly any chunk is shorter than 128.
        let frames = self.frames.as_ref().map_or(0, |frames| frames.len() * 4 + self.body.len() / 8);
        u32::try_from(self.body.len() + headers + frames + FIXED_WEIGHT).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Entry {
    /// Status and sizes, never contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("body", &self.body.len())
            .field("frames", &self.frames.as_ref().map(|frames| frames.len()))
            .field("created_ms", &self.created_ms)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn an_entry_is_stale_when_old_and_when_the_clock_went_back() {
        let entry = Entry::new(StatusCode::OK, "", 1_000_000, Duration::from_secs(10));
        for (now, fresh) in [
            (1_000_000, true),
            (1_009_999, true),
            (1_010_000, false),
            (940_000, true),
            (939_999, false),
            (i64::MIN, false),
        ] {
            assert_eq!(entry.is_fresh(now), fresh, "{now}");
        }
        let forever = Entry::new(StatusCode::OK, "", i64::MAX - 1, Duration::MAX);
        assert!(forever.is_fresh(i64::MAX - 1), "no overflow at the end of time");
    }

    #[test]
    fn debug_shows_no_content() {
        let entry = Entry::new(StatusCode::OK, "private answer", 0, Duration::ZERO);
        assert!(!format!("{entry:?}").contains("private"));
    }
}
