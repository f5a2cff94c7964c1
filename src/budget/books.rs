//! The books of a budget: what is spent and what is held, by window.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Ticket;
use super::worst::worst_of;
use crate::call::Call;
use crate::clock::{Clock, SystemClock};
use crate::price::{PriceTable, Usd};
use crate::tokens::{self, Counter};
use crate::{Error, Kind};

/// How long a limit holds before it starts anew, by the calendar in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Window {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    #[default]
    Day,
    /// From the first of a month to the next.
    Month,
    /// As long as the process lives.
    Forever,
}

impl Window {
    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Forever => "process",
        }
    }

    /// Number of the window that holds this time; later windows have greater ones.
    fn at(self, ms: i64) -> i64 {
        match self {
            Self::Hour => ms.div_euclid(3_600_000),
            Self::Day => ms.div_euclid(86_400_000),
            Self::Month => jiff::Timestamp::from_millisecond(ms).map_or(0, |time| {
                let date = jiff::tz::TimeZone::UTC.to_datetime(time);
                i64::from(date.year()) * 12 + i64::from(date.month())
            }),
            Self::Forever => 0,
        }
    }
}

/// A spending limit. Clones share the books.
///
/// See the [module docs](crate::budget).
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    limit: Usd,
    window: Window,
    hard: bool,
    prices: Arc<PriceTable>,
    clock: Arc<dyn Clock>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// The latest window seen: a clock that is set back reopens no window.
    now: i64,
    pages: BTreeMap<i64, State>,
}

/// What stands in the books of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// The limit.
    pub limit: Usd,
    /// Settled.
    pub spent: Usd,
    /// Reserved by calls in progress.
    pub held: Usd,
    /// Calls in progress.
    pub open: u64,
    /// Sum of what calls cost beyond their reservations.
    pub overshoot: Usd,
    /// Calls in no sum, since neither their price nor a reservation is known.
    pub unpriced: u64,
    /// Calls that were refused.
    pub refused: u64,
}

impl State {
    /// What a further call may reserve.
    #[must_use]
    pub fn left(&self) -> Usd {
        (self.limit - self.spent - self.held).max(Usd::ZERO)
    }
}

/// Collects the settings of a [`Budget`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BudgetBuilder {
    limit: Option<Usd>,
    window: Window,
    hard: bool,
    prices: Option<Arc<PriceTable>>,
    clock: Arc<dyn Clock>,
}

impl BudgetBuilder {
    /// The most that may be spent in a window.
    pub fn limit(mut self, limit: Usd) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The window; a day if not set.
    pub fn per(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Refuses what might exceed the limit and what has no price (the default).
    pub fn hard(mut self) -> Self {
        self.hard = true;
        self
    }

    /// Lets everything through and notes on the receipt what exceeded the limit or had no price.
    pub fn soft(mut self) -> Self {
        self.hard = false;
        self
    }

    /// The prices; those of the built-in table if not set.
    pub fn prices(mut self, prices: Arc<PriceTable>) -> Self {
        self.prices = Some(prices);
        self
    }

    /// The clock; the system's if not set.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The budget.
    ///
    /// # Errors
    /// [`Kind::BadSetting`] without a limit or with a negative one.
    pub fn build(self) -> Result<Budget, Error> {
        let Some(limit) = self.limit else {
            return Err(Error::bad_setting("a budget has no limit", "give `limit` an amount of dollars"));
        };
        if limit < Usd::ZERO {
            let problem = format!("a budget's limit of {limit} dollars is negative");
            return Err(Error::bad_setting(problem, "give 0 or more"));
        }
        Ok(Budget(Arc::new(Inner {
            limit,
            window: self.window,
            hard: self.hard,
            prices: self.prices.unwrap_or_else(PriceTable::builtin),
            clock: self.clock,
            books: Mutex::default(),
        })))
    }
}

impl Budget {
    /// Begins a hard budget per day.
    pub fn builder() -> BudgetBuilder {
        BudgetBuilder {
            limit: None,
            window: Window::default(),
            hard: true,
            prices: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// Reserves the most that `call` can cost; see [`worst_case`](super::worst_case).
    ///
    /// # Errors
    /// In hard mode [`Kind::OverLimit`] when that does not fit under the limit beside what is spent and held, and
    /// [`Kind::Unpriced`] when it is not known. Nothing is reserved then.
    pub fn reserve(&self, call: &Call) -> Result<Ticket, Error> {
        self.reserve_for(call, || tokens::count(call).at_most)
    }

    /// [`reserve`](Self::reserve), with the prompt counted by `counter`.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_with(&self, call: &Call, counter: &Counter) -> Result<Ticket, Error> {
        self.reserve_for(call, || counter.count(call).at_most)
    }

    /// Reserves the most that `call` can cost with so many prompt tokens.
    pub(super) fn reserve_for(&self, call: &Call, input: impl FnOnce() -> u64) -> Result<Ticket, Error> {
        let at_ms = self.0.clock.now_ms();
        match worst_of(call, input, &self.0.prices, at_ms) {
            Ok(worst) => {
                self.hold(Some(worst), at_ms).map_err(|refusal| match tokens::refers_elsewhere(call) {
                    true => self.page(at_ms, |_, page| refers_elsewhere(worst, page)),
                    false => refusal,
                })
            }
            Err(_) if !self.0.hard => self.hold(None, at_ms),
            Err(unpriced) => {
                self.page(at_ms, |_, page| page.refused += 1);
                Err(unpriced)
            }
        }
    }

    /// True if a hard budget has room for `call` with this many prompt tokens, as the books stand now.
    pub(super) fn has_room(&self, call: &Call, input: u64) -> bool {
        let at_ms = self.0.clock.now_ms();
        let worst = worst_of(call, || input, &self.0.prices, at_ms);
        worst.is_ok_and(|worst| self.page(at_ms, |_, page| page.spent + page.held + worst <= page.limit))
    }

    pub(super) fn is_hard(&self) -> bool {
        self.0.hard
    }

    /// Reserves this amount, for calls whose worst case is known by other means.
    ///
    /// # Errors
    /// [`Kind::OverLimit`] as in [`reserve`](Self::reserve).
    pub fn reserve_amount(&self, worst: Usd) -> Result<Ticket, Error> {
        self.hold(Some(worst.max(Usd::ZERO)), self.0.clock.now_ms())
    }

    fn hold(&self, worst: Option<Usd>, at_ms: i64) -> Result<Ticket, Error> {
        let amount = worst.unwrap_or(Usd::ZERO);
        let (hard, limit) = (self.0.hard, self.0.limit);
        self.page(at_ms, |window, page| {
            let over = page.spent + page.held + amount > limit;
            if hard && over {
                page.refused += 1;
                return Err(self.over_limit(amount, page));
            }
            page.held += amount;
            page.open += 1;
            Ok(Ticket::new(self.clone(), window, worst, over, at_ms))
        })
    }

    #[cold]
    fn over_limit(&self, worst: Usd, page: &State) -> Error {
        let (limit, window) = (page.limit, self.0.window.name());
        let left = page.left();
        Error::new(
            Kind::OverLimit,
            format!(
                "the call may cost {worst} dollars and {left} of the limit of {limit} per {window} are left"
            ),
            "lower its output cap, wait for running calls or the next window, or raise the limit",
        )
    }

    /// What stands in the books of the current window.
    #[must_use]
    pub fn state(&self) -> State {
        self.page(self.0.clock.now_ms(), |_, page| *page)
    }

    pub(super) fn prices(&self) -> &PriceTable {
        &self.0.prices
    }

    /// The page of the window that holds this time, and the number of that window.
    fn page<T>(&self, at_ms: i64, read: impl FnOnce(i64, &mut State) -> T) -> T {
        let window = self.0.window.at(at_ms);
        let mut books = self.books();
        if window > books.now || books.pages.is_empty() {
            books.now = window;
            // An earlier page is needed only as long as a call is to be settled on it.
            books.pages.retain(|_, page| page.open > 0);
        }
        let now = books.now;
        let fresh = State { limit: self.0.limit, ..State::default() };
        read(now, books.pages.entry(now).or_insert(fresh))
    }

    /// Ends a hold of `held` in `window`, charging this much; `None` charges nothing that could be told.
    pub(super) fn close(&self, window: i64, held: Option<Usd>, charge: Option<Usd>) {
        let mut books = self.books();
        let now = books.now;
        let Some(page) = books.pages.get_mut(&window) else { return };
        let held = held.unwrap_or(Usd::ZERO);
        page.held -= held;
        page.open -= 1;
        match charge {
            Some(charge) => {
                page.spent += charge;
                page.overshoot += (charge - held).max(Usd::ZERO);
            }
            None => page.unpriced += 1,
        }
        if page.open == 0 && window < now {
            books.pages.remove(&window);
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.0.limit)
            .field("window", &self.0.window)
            .field("hard", &self.0.hard)
            .finish_non_exhaustive()
    }
}

#[cold]
fn refers_elsewhere(worst: Usd, page: &State) -> Error {
    Error::new(
        Kind::OverLimit,
        format!(
            "the call refers to text kept at the provider, which may take {} tokens and with them {worst} dollars, and \
             {} of the limit of {} are left",
            tokens::WINDOW,
            page.left(),
            page.limit
        ),
        "send that text in the call, use a soft budget, or raise the limit",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_calendar() {
        // 2026-11-30T23:59:59.999Z
        let last = 1_796_083_199_999;
        for window in [Window::Hour, Window::Day, Window::Month] {
            assert_eq!(window.at(last) + 1, window.at(last + 1), "{}", window.name());
            assert_eq!(window.at(last), window.at(last - 1), "{}", window.name());
        }
        assert_eq!(Window::Month.at(last), 2026 * 12 + 11);
        assert_eq!(Window::Forever.at(last), Window::Forever.at(0));
        assert_eq!(Window::Day.at(-1), -1, "time before 1970 rounds down too");
    }
}
