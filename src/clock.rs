//! Time as a value that tests can move.
//!
//! Freshness, price windows and budgets all depend on the time; each takes a [`Clock`] instead of asking the
//! system, so that a test moves an hour in no time.
//!
//! # Example
//! ```
//! use thrifty::clock::{Clock, SystemClock};
//! assert!(SystemClock.now_ms() > 1_700_000_000_000);
//! ```
//! # A clock that stands until it is moved
//! ```
//! use std::time::Duration;
//! use thrifty::clock::{Clock, ManualClock};
//!
//! let clock = ManualClock::at_ms(1_795_000_000_000);
//! clock.advance(Duration::from_secs(60));
//! assert_eq!(clock.now_ms(), 1_795_000_060_000);
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Where the time comes from: milliseconds since 1970-01-01 UTC.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now, in milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> i64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that only moves when told to. Clones share the time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at `ms` milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at_ms(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the clock, forward or back.
    pub fn set_ms(&self, ms: i64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}
