//! The operator's switch: what a cache does at all.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::call::CacheMode;

/// What a cache does, whatever its calls wish. A call may ask for less than this, never for more.
///
/// # Example
/// ```
/// use thrifty::cache::{CacheLayer, Mode};
///
/// let layer = CacheLayer::builder().mode(Mode::ReadOnly).build()?;
/// let handle = layer.handle();
/// assert_eq!(handle.mode(), Mode::ReadOnly);
/// handle.set_mode(Mode::Off);
/// assert_eq!(handle.mode(), Mode::Off);
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Read and store.
    #[default]
    On,
    /// Neither read nor store; each call makes its own. For the hour in which you do not trust the cache.
    Off,
    /// Read, never store: to serve from a file that is to stay as it is. Calls that miss share no flight.
    ReadOnly,
    /// Store, never read: to fill a cache, or to compare fresh answers. Identical calls still share a flight.
    WriteOnly,
}

/// The switch itself, turned while calls go on.
pub(super) struct Switch(AtomicU8);

impl Switch {
    pub(super) fn new(mode: Mode) -> Self {
        Self(AtomicU8::new(mode as u8))
    }

    pub(super) fn set(&self, mode: Mode) {
        self.0.store(mode as u8, Ordering::Release);
    }

    pub(super) fn get(&self) -> Mode {
        match self.0.load(Ordering::Acquire) {
            0 => Mode::On,
            2 => Mode::ReadOnly,
            3 => Mode::WriteOnly,
            _ => Mode::Off,
        }
    }

    /// What a call that wishes for `wish` gets.
    pub(super) fn allows(&self, wish: CacheMode) -> CacheMode {
        match (self.get(), wish) {
            (Mode::On, wish) => wish,
            // Whoever forbids a new call is not sent out because the cache is off.
            (Mode::Off | Mode::WriteOnly, CacheMode::OnlyIfCached) => CacheMode::OnlyIfCached,
            (Mode::Off, _) => CacheMode::NoStore,
            (Mode::ReadOnly, CacheMode::Default) => CacheMode::ReadOnly,
            (Mode::ReadOnly, CacheMode::NoCache | CacheMode::WriteOnly) => CacheMode::NoStore,
            (Mode::WriteOnly, CacheMode::Default) => CacheMode::WriteOnly,
            (Mode::WriteOnly, CacheMode::ReadOnly) => CacheMode::NoStore,
            (_, wish) => wish,
        }
    }

    /// True if stored answers may be served.
    pub(super) fn reads(&self) -> bool {
        matches!(self.get(), Mode::On | Mode::ReadOnly)
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_at_most_what_the_cache_does() {
        use CacheMode::{Default, NoCache, NoStore, OnlyIfCached, ReadOnly, WriteOnly};
        let wishes = [Default, NoStore, NoCache, OnlyIfCached, ReadOnly, WriteOnly];
        for (mode, want) in [
            (Mode::On, wishes),
            (Mode::Off, [NoStore, NoStore, NoStore, OnlyIfCached, NoStore, NoStore]),
            (Mode::ReadOnly, [ReadOnly, NoStore, NoStore, OnlyIfCached, ReadOnly, NoStore]),
            (Mode::WriteOnly, [WriteOnly, NoStore, NoCache, OnlyIfCached, NoStore, WriteOnly]),
        ] {
            let switch = Switch::new(mode);
            assert_eq!(switch.get(), mode);
            assert_eq!(wishes.map(|wish| switch.allows(wish)), want, "{mode:?}");
        }
    }
}
