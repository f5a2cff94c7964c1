//! How old an answer may be when it is served.
//!
//! An entry carries the time it may be served for. Where stale answers are wanted at all, it is kept for longer, and a
//! header of ours says by how much: that time counts only for those who take a stale answer. A call may ask for less
//! than the layer gives (`max-age`, `min-fresh`, a time to live of its own) or, within the kept time, for more
//! (`max-stale`).

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::entry::Entry;
use super::key::CacheKey;
use crate::call::{Freshness, Options};

/// How many seconds of an entry's life are for those only who take a stale answer. Never leaves the process.
pub(super) const KEPT: HeaderName = HeaderName::from_static("thrifty-kept");

/// How long a stale answer is good for something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Windows {
    /// While a new one is being fetched.
    pub(super) revalidate: Duration,
    /// While the provider is down.
    pub(super) error: Duration,
    /// For calls that say so.
    pub(super) asked: Duration,
}

impl Windows {
    /// How long an entry is kept beyond its time to live, in whole seconds.
    pub(super) fn kept(&self) -> Duration {
        let longest = self.revalidate.max(self.error).max(self.asked);
        Duration::from_secs(longest.as_secs() + u64::from(longest.subsec_nanos() > 0))
    }

    /// The life of a new entry that may be served for `ttl`, and the header that says so.
    pub(super) fn stretch(&self, ttl: Duration, headers: &mut HeaderMap) -> Duration {
        let kept = self.kept();
        if kept.is_zero() || ttl.is_zero() {
            return ttl;
        }
        headers.insert(KEPT, HeaderValue::from(kept.as_secs()));
        ttl.saturating_add(kept)
    }
}

/// `ttl`, shortened by up to `percent` of it in whole seconds. By how much follows from the key.
pub(super) fn jittered(ttl: Duration, percent: u8, key: &CacheKey) -> Duration {
    // Not those that tables go by.
    let [.., high, low] = *key.as_bytes();
    let part = u128::from(u16::from_be_bytes([high, low]));
    let cut = u128::from(ttl.as_secs()) * u128::from(percent) * part / (100 * u128::from(u16::MAX));
    ttl.saturating_sub(Duration::from_secs(u64::try_from(cut).unwrap_or(0)))
}

/// What one call asks of an answer's age.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    ttl: Option<Duration>,
    fresh: Freshness,
    /// Of a name that has moved, the model it stands for now.
    by: Option<Arc<str>>,
}

/// Whether an entry may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It may.
    Good,
    /// Its time is over since so many milliseconds.
    Stale(u128),
    /// It is younger than that and yet too old for this call.
    TooOld,
    /// The name that was asked for stands for another model now.
    Moved,
}

impl Wish {
    pub(super) fn of(options: Option<&Options>) -> Self {
        options.map_or_else(Self::default, |options| Self {
            ttl: options.ttl,
            fresh: options.fresh,
            by: None,
        })
    }

    /// The same, for answers of this model alone.
    pub(super) fn by(self, by: Option<Arc<str>>) -> Self {
        Self { by, ..self }
    }

    /// Judges an entry that is still there, in a layer whose longest time to live is `most`.
    pub(super) fn judge(&self, entry: &Entry, most: Duration, now_ms: i64) -> Age {
        let age = u128::try_from(now_ms.saturating_sub(entry.created_ms)).unwrap_or(0);
        let life = lifetime(entry).min(most).as_millis();
        let Self { ttl, fresh: Freshness { max_age, min_fresh, max_stale, .. }, by } = self;
        if let (Some(by), Some(model)) = (by, &entry.outcome.model)
            && **by != **model
        {
            return Age::Moved;
        }
        // A call's own time to live and `max-age` are bounds of age; 0 is a bound too, and no answer is younger.
        if ttl.is_some_and(|ttl| age >= ttl.as_millis())
            || max_age.is_some_and(|most| most.is_zero() || age > most.as_millis())
        {
            return Age::TooOld;
        }
        if age >= life {
            let by = age - life;
            return match max_stale {
                Some(most) if by <= most.as_millis() => Age::Good,
                _ => Age::Stale(by),
            };
        }
        match min_fresh {
            Some(least) if life - age < least.as_millis() => Age::TooOld,
            _ => Age::Good,
        }
    }

    /// True if this call said how fresh its answer has to be: it then gets no stale one for speed's sake.
    pub(super) fn is_strict(&self) -> bool {
        self.ttl.is_some() || self.fresh.max_age.is_some() || self.fresh.min_fresh.is_some()
    }

    /// How stale an answer may be for this call while the provider is down.
    pub(super) fn stale_if_error(&self, windows: &Windows) -> Duration {
        self.fresh.stale_if_error.unwrap_or(windows.error)
    }
}

/// How long an entry is fresh.
pub(super) fn lifetime(entry: &Entry) -> Duration {
    let kept =
        entry.headers.get(&KEPT).and_then(|kept| kept.to_str().ok()).and_then(|kept| kept.parse().ok());
    entry.ttl.saturating_sub(Duration::from_secs(kept.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn entry(ttl: u64, windows: &Windows) -> Entry {
        let mut entry = Entry::new(http::StatusCode::OK, "", 1_000_000, Duration::ZERO);
        entry.ttl = windows.stretch(Duration::from_secs(ttl), &mut entry.headers);
        entry
    }

    #[test]
    fn the_jitter_shortens_by_its_part_at_most_and_follows_from_the_key() {
        let day = HOUR * 24;
        let of = |n: u16, ttl, percent| {
            let mut bytes = [7; 32];
            bytes[30..].copy_from_slice(&n.to_be_bytes());
            jittered(ttl, percent, &CacheKey::from_bytes(bytes))
        };
        assert_eq!((of(0, day, 10), of(u16::MAX, day, 10)), (day, day - day / 10));
        let some: std::collections::BTreeSet<_> =
            (0..=u16::MAX).step_by(97).map(|n| of(n, day, 10)).collect();
        assert!(some.len() > 600 && some.iter().all(|ttl| (day - day / 10..=day).contains(ttl)));
        assert_eq!((of(u16::MAX, day, 0), of(40_000, HOUR, 10)), (day, of(40_000, HOUR, 10)));
        assert_eq!(of(u16::MAX, Duration::MAX, 50).as_secs(), u64::MAX - u64::MAX / 2, "no overflow");
    }

    #[test]
    fn the_bounds_of_age_are_seconds_and_zero_is_one_of_them() {
        let secs = |secs| Some(Duration::from_secs(secs));
        let table: [(Freshness, Option<Duration>, [Age; 4]); 7] = [
            (Freshness::default(), None, [Age::Good, Age::Good, Age::Good, Age::Stale(40_000)]),
            (Freshness { max_age: secs(0), ..Freshness::default() }, None, [Age::TooOld; 4]),
            (
                Freshness { max_age: secs(30), ..Freshness::default() },
                None,
                [Age::Good, Age::Good, Age::TooOld, Age::TooOld],
            ),
            (
                Freshness { min_fresh: secs(50), ..Freshness::default() },
                None,
                [Age::Good, Age::TooOld, Age::TooOld, Age::Stale(40_000)],
            ),
            (
                Freshness { max_stale: secs(39), ..Freshness::default() },
                None,
                [Age::Good, Age::Good, Age::Good, Age::Stale(40_000)],
            ),
            (Freshness { max_stale: secs(40), ..Freshness::default() }, None, [Age::Good; 4]),
            (Freshness::default(), secs(30), [Age::Good, Age::TooOld, Age::TooOld, Age::TooOld]),
        ];
        let windows = Windows { asked: HOUR, ..Windows::default() };
        for (fresh, ttl, want) in table {
            let wish = Wish { ttl, fresh, by: None };
            let judged =
                [0, 30, 59, 100].map(|age| wish.judge(&entry(60, &windows), HOUR, 1_000_000 + age * 1_000));
            assert_eq!(judged, want, "{fresh:?} {ttl:?}");
        }
    }

    #[test]
    fn the_kept_time_is_for_stale_answers_alone_and_the_layers_bound_holds_at_the_read_too() {
        let windows = Windows { error: HOUR, ..Windows::default() };
        assert_eq!(
            (entry(60, &windows).ttl, lifetime(&entry(60, &windows))),
            (HOUR + Duration::from_secs(60), Duration::from_secs(60))
        );
        let long = entry(7_200, &Windows::default());
        assert_eq!((long.ttl, long.headers.len()), (HOUR * 2, 0), "nothing is kept that nobody wants");
        assert_eq!(
            Wish::default().judge(&long, HOUR, 1_000_000 + 3_600_000),
            Age::Stale(0),
            "a lowered bound"
        );
        assert_eq!(
            Wish::default().judge(&long, HOUR, 0),
            Age::Good,
            "a clock a little behind makes nothing old"
        );
    }
}
