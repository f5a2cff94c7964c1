//! Times of day at which other rates hold.

use std::fmt;
use std::str::FromStr;

use crate::Error;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const DAY_MINUTES: u16 = 1440;
const EVERY_DAY: u8 = 0b0111_1111;

/// A half-open time window `[start, end)` in UTC, on some days of the week.
///
/// An end before the start wraps midnight; the part after midnight belongs to the day the window started on. Equal
/// start and end are 24 hours.
///
/// # Example
/// ```
/// use thrifty::price::Window;
///
/// let night: Window = "16:30-00:30".parse()?;
/// let at = |hour: i64, minute: i64| (hour * 60 + minute) * 60_000;
/// assert!(night.contains(at(18, 0)) && night.contains(at(0, 15)));
/// assert!(!night.contains(at(0, 30)) && !night.contains(at(12, 0)));
/// # Ok::<(), thrifty::Error>(())
/// ```
/// # On some days only
/// ```
/// use thrifty::price::Window;
///
/// let weekend = "00:00-00:00".parse::<Window>()?.on([6, 7]);
/// assert!(!weekend.contains(0), "1970-01-01 was a Thursday");
/// assert!(weekend.contains(2 * 86_400_000), "and the 3rd a Saturday");
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Minutes since midnight UTC.
    start: u16,
    end: u16,
    /// Bit 0 is Monday.
    days: u8,
}

impl Window {
    /// The same on these days only: 1 is Monday, 7 is Sunday. Other numbers are left out.
    #[must_use]
    pub fn on(mut self, weekdays: impl IntoIterator<Item = u8>) -> Self {
        self.days = weekdays
            .into_iter()
            .filter(|day| (1..=7).contains(day))
            .fold(0, |days, day| days | 1 << (day - 1));
        self
    }

    /// True if this time, in milliseconds since 1970-01-01 UTC, is inside.
    #[must_use]
    pub fn contains(&self, at_ms: i64) -> bool {
        let (day, time) = (at_ms.div_euclid(DAY_MS), at_ms.rem_euclid(DAY_MS));
        let (start, end) = (i64::from(self.start) * MINUTE_MS, i64::from(self.end) * MINUTE_MS);
        if start < end {
            return self.starts_on(day) && (start..end).contains(&time);
        }
        time >= start && self.starts_on(day) || time < end && self.starts_on(day - 1)
    }

    fn starts_on(&self, day: i64) -> bool {
        // Day 0 was a Thursday.
        let weekday = (day + 3).rem_euclid(7);
        self.days >> weekday & 1 == 1
    }
}

impl FromStr for Window {
    type Err = Error;

    /// Reads `HH:MM-HH:MM`, every day.
    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let (start, end) = text.split_once('-')?;
            let (start, end) = (minutes(start.trim())?, minutes(end.trim())?);
            (start < DAY_MINUTES).then_some(Self { start, end, days: EVERY_DAY })
        };
        read().ok_or_else(|| {
            Error::bad_input(
                format!("`{text}` is no window of time"),
                "write it as HH:MM-HH:MM in UTC, such as 16:30-00:30",
            )
        })
    }
}

fn minutes(text: &str) -> Option<u16> {
    let two = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (two(hour)?, two(minute)?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY_MINUTES).then_some(total)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start, self.end);
        write!(f, "{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60)?;
        if self.days != EVERY_DAY {
            f.write_str("/")?;
            (1..=7).filter(|day| self.days >> (day - 1) & 1 == 1).try_for_each(|day| write!(f, "{day}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64, hour: i64, minute: i64) -> i64 {
        day * DAY_MS + (hour * 60 + minute) * MINUTE_MS
    }

    #[test]
    fn a_window_is_half_open() {
        let window: Window = "09:00-17:00".parse().unwrap();
        for (hour, minute, inside) in [(8, 59, false), (9, 0, true), (16, 59, true), (17, 0, false)] {
            assert_eq!(window.contains(at(20_000, hour, minute)), inside, "{hour}:{minute}");
        }
        assert!(!window.contains(at(3, 9, 0) - 1) && window.contains(at(3, 17, 0) - 1), "to the millisecond");
    }

    #[test]
    fn the_part_after_midnight_belongs_to_the_day_the_window_started_on() {
        // Day 1 of 1970 was a Friday.
        let friday = "22:00-02:00".parse::<Window>().unwrap().on([5]);
        assert!(friday.contains(at(1, 23, 0)), "Friday night");
        assert!(friday.contains(at(2, 1, 59)), "Saturday early, still Friday's window");
        assert!(!friday.contains(at(1, 1, 0)), "Friday early is Thursday's window");
        assert!(!friday.contains(at(2, 2, 0)) && !friday.contains(at(2, 23, 0)));
        let all = "12:00-12:00".parse::<Window>().unwrap().on([5]);
        assert!(all.contains(at(1, 12, 0)) && all.contains(at(2, 11, 59)) && !all.contains(at(1, 11, 59)));
        assert!("00:00-00:00".parse::<Window>().unwrap().contains(at(-5, 23, 0)), "before 1970 too");
    }

    #[test]
    fn only_times_are_windows() {
        for text in ["", "9", "09:00", "24:00-01:00", "09:60-10:00", "09:00-24:01", "a:b-c:d", "+9:00-10:00"]
        {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
        assert_eq!("9:00-24:00".parse::<Window>().unwrap().to_string(), "09:00-24:00");
        assert_eq!("00:00-00:00".parse::<Window>().unwrap().on([6, 7]).to_string(), "00:00-00:00/67");
    }
}
