//! Sums of receipts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::lines;
use super::{Avoided, Lever, Receipt, Served, Sink};
use crate::Error;
use crate::dialect::Usage;
use crate::price::Usd;

/// How many tags and how many models are kept apart. Tags come from callers; memory must not.
const MAX_NAMES: usize = 10_000;

/// Where tags and models beyond the bound are summed up.
const OTHERS: &str = "(others)";

/// A running sum of receipts, in all, by tag and by model. Clones are the same ledger; it is a [`Sink`].
///
/// # Example
/// ```
/// use thrifty::price::Usd;
/// use thrifty::receipt::{Ledger, Receipt, Served, Sink};
///
/// let ledger = Ledger::default();
/// let mut receipt = Receipt::default();
/// receipt.served = Served::Upstream;
/// receipt.billed = Some("1.23".parse()?);
/// ledger.receive(&receipt);
/// receipt.billed = None; // a model without a price
/// ledger.receive(&receipt);
/// assert_eq!(ledger.totals().to_string(), "2 calls, 2 sent, 0 hits, at least $1.2300, 1 call unpriced");
/// # Ok::<(), thrifty::Error>(())
/// ```
/// # By tag
/// ```
/// use thrifty::receipt::{Ledger, Receipt, Served, Sink};
///
/// let ledger = Ledger::default();
/// let mut receipt = Receipt::default();
/// receipt.served = Served::Memory;
/// receipt.tag = Some("nightly".into());
/// ledger.receive(&receipt);
/// let by_tag = ledger.by_tag();
/// assert_eq!(by_tag[&Some("nightly".into())].hits_memory, 1);
/// ```
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Sums>>);

#[derive(Default)]
struct Sums {
    all: Totals,
    by_tag: BTreeMap<Option<Arc<str>>, Totals>,
    by_model: BTreeMap<Option<Arc<str>>, Totals>,
    unread: u64,
}

/// One sum of receipts.
///
/// Token counts and money are those of calls the provider was paid for; a hit adds to neither, only to what was
/// avoided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Calls that came.
    pub calls: u64,
    /// Calls that went to the provider. Answers that came and were not good enough count too, so with tiers it can be
    /// more than `calls`.
    pub sent: u64,
    /// Calls answered by an identical one in flight.
    pub hits_flight: u64,
    /// Calls answered from memory.
    pub hits_memory: u64,
    /// Calls answered from disk.
    pub hits_disk: u64,
    /// Calls refused or failed.
    pub nowhere: u64,
    /// Prompt tokens of billed calls, cached ones included.
    pub input_tokens: u64,
    /// Those read from the provider's prompt cache.
    pub cached_tokens: u64,
    /// Generated tokens of billed calls.
    pub output_tokens: u64,
    /// Billed calls whose token counts the provider did not tell.
    pub uncounted: u64,
    /// What was billed, as far as it is known.
    pub billed: Usd,
    /// Calls that were sent and are not in `billed`, since nobody knows their price.
    pub unpriced: u64,
    /// What was not spent, by lever.
    pub avoided: Avoided,
}

impl Totals {
    /// Calls answered without paying the provider.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits_flight.saturating_add(self.hits_memory).saturating_add(self.hits_disk)
    }

    /// True if `billed` is all of the bill, and not a lower bound.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.unpriced == 0
    }

    /// Adds one receipt.
    pub fn add(&mut self, receipt: &Receipt) {
        let one = |count: &mut u64| *count = count.saturating_add(1);
        one(&mut self.calls);
        match receipt.served {
            Served::Nowhere => one(&mut self.nowhere),
            Served::Upstream => {}
            Served::Flight => one(&mut self.hits_flight),
            Served::Memory => one(&mut self.hits_memory),
            Served::Disk => one(&mut self.hits_disk),
        }
        let answer = (receipt.served, receipt.usage);
        let rejected = receipt.rejected.iter().map(|rejected| (rejected.served, rejected.usage));
        let mut sent = false;
        for (_, usage) in rejected.chain([answer]).filter(|(served, _)| *served == Served::Upstream) {
            sent = true;
            one(&mut self.sent);
            self.count(usage);
        }
        match receipt.billed {
            Some(usd) => self.billed += usd,
            None if sent => one(&mut self.unpriced),
            None => {}
        }
        for lever in Lever::ALL {
            *self.avoided.of_mut(lever) += receipt.avoided.of(lever);
        }
    }

    fn count(&mut self, usage: Option<Usage>) {
        let usage = usage.unwrap_or_default();
        let add = |sum: &mut u64, count: Option<u64>| *sum = sum.saturating_add(count.unwrap_or(0));
        add(&mut self.input_tokens, usage.input);
        add(&mut self.cached_tokens, usage.read);
        add(&mut self.output_tokens, usage.output);
        self.uncounted = self.uncounted.saturating_add(u64::from(usage.input.is_none()));
    }
}

impl fmt::Display for Totals {
    /// One line for people. What is not known is said, not left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = |n: u64| if n == 1 { "1 call".to_owned() } else { format!("{n} calls") };
        write!(f, "{}, {} sent, {} hits, ", calls(self.calls), self.sent, self.hits())?;
        if !self.is_exact() {
            f.write_str("at least ")?;
        }
        f.write_str(&self.billed.display(4))?;
        if !self.is_exact() {
            write!(f, ", {} unpriced", calls(self.unpriced))?;
        }
        let avoided = self.avoided.total();
        if avoided != Usd::ZERO {
            write!(f, ", {} avoided", avoided.display(4))?;
        }
        Ok(())
    }
}

impl Ledger {
    /// The sum of all receipts.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.with(|sums| sums.all.clone())
    }

    /// Sums by the caller's tag; `None` is for calls without one.
    #[must_use]
    pub fn by_tag(&self) -> BTreeMap<Option<Arc<str>>, Totals> {
        self.with(|sums| sums.by_tag.clone())
    }

    /// Sums by model: the one that answered, else the one the call was sent with, else the one asked for. All of a
    /// call is under that model, rejected answers of others too.
    #[must_use]
    pub fn by_model(&self) -> BTreeMap<Option<Arc<str>>, Totals> {
        self.with(|sums| sums.by_model.clone())
    }

    /// Rebuilds the sums from a file that [`JsonLines`](super::JsonLines) wrote. A last line that was torn by a crash,
    /// or any other that cannot be read, is left out and counted.
    ///
    /// # Errors
    /// [`Kind::Store`](crate::Kind::Store) when the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let ledger = Self::default();
        let unread = lines::read(path.as_ref(), |receipt| ledger.receive(&receipt))?;
        ledger.with(|sums| sums.unread = unread);
        Ok(ledger)
    }

    /// Lines of the file that could not be read and are not in the sums.
    #[must_use]
    pub fn unread_lines(&self) -> u64 {
        self.with(|sums| sums.unread)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Sums) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Ledger {
    fn receive(&self, receipt: &Receipt) {
        let model = [&receipt.answered, &receipt.chosen, &receipt.asked].into_iter().flatten().next();
        self.with(|sums| {
            sums.all.add(receipt);
            slot(&mut sums.by_tag, receipt.tag.as_deref()).add(receipt);
            slot(&mut sums.by_model, model.map(String::as_str)).add(receipt);
        });
    }
}

fn slot<'a>(sums: &'a mut BTreeMap<Option<Arc<str>>, Totals>, name: Option<&str>) -> &'a mut Totals {
    let name = name.map(Arc::<str>::from);
    let name = if sums.len() < MAX_NAMES || sums.contains_key(&name) { name } else { Some(OTHERS.into()) };
    sums.entry(name).or_default()
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ledger").field(&self.totals()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::Rejected;

    fn receipt(served: Served, usage: Option<Usage>, billed: Option<i128>) -> Receipt {
        Receipt { served, usage, billed: billed.map(Usd::from_pico), ..Receipt::default() }
    }

    #[test]
    fn hits_add_to_what_was_avoided_and_not_to_tokens_or_money() {
        let ledger = Ledger::default();
        let usage = Some(Usage::of(100, 10).with_read(40));
        ledger.receive(&receipt(Served::Upstream, usage, Some(7)));
        for served in [Served::Memory, Served::Disk, Served::Flight] {
            let mut hit = receipt(served, usage, Some(0));
            hit.avoided.cache = Usd::from_pico(7);
            ledger.receive(&hit);
        }
        ledger.receive(&receipt(Served::Nowhere, None, None));
        let totals = ledger.totals();
        assert_eq!((totals.calls, totals.sent, totals.hits(), totals.nowhere), (5, 1, 3, 1));
        assert_eq!((totals.input_tokens, totals.cached_tokens, totals.output_tokens), (100, 40, 10));
        assert_eq!((totals.billed, totals.avoided.cache), (Usd::from_pico(7), Usd::from_pico(21)));
        assert!(totals.is_exact(), "a call that went nowhere has no price to be known");
    }

    #[test]
    fn a_rejected_answer_was_sent_and_paid_too() {
        let ledger = Ledger::default();
        let mut escalated = receipt(Served::Upstream, Some(Usage::of(10, 1)), Some(3));
        let rejected = |served| Rejected::new("small".into(), served, Some(Usage::of(10, 2)), "empty".into());
        escalated.rejected = vec![rejected(Served::Upstream), rejected(Served::Memory)];
        ledger.receive(&escalated);
        let totals = ledger.totals();
        assert_eq!((totals.calls, totals.sent, totals.input_tokens, totals.output_tokens), (1, 2, 20, 3));
        let mut hit = receipt(Served::Memory, None, None);
        hit.rejected = vec![rejected(Served::Upstream)];
        ledger.receive(&hit);
        assert_eq!(ledger.totals().unpriced, 1, "the hit was free, the rejected answer before it was not");
    }

    #[test]
    fn calls_are_kept_apart_by_tag_and_by_the_model_that_answered() {
        let ledger = Ledger::default();
        let mut one = receipt(Served::Upstream, None, Some(1));
        one.tag = Some("a".into());
        one.asked = Some("big".into());
        one.answered = Some("big-2026-01-01".into());
        ledger.receive(&one);
        ledger.receive(&receipt(Served::Upstream, None, None));
        assert_eq!(ledger.by_tag()[&Some("a".into())].billed, Usd::from_pico(1));
        assert_eq!(ledger.by_tag()[&None].unpriced, 1);
        assert!(ledger.by_model().contains_key(&Some("big-2026-01-01".into())));
        assert_eq!(ledger.totals().uncounted, 2);
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let ledger = Ledger::default();
        let mut one = receipt(Served::Memory, None, None);
        for tag in 0..MAX_NAMES + 50 {
            one.tag = Some(tag.to_string().into());
            ledger.receive(&one);
        }
        let by_tag = ledger.by_tag();
        assert_eq!(by_tag.len(), MAX_NAMES + 1);
        assert_eq!(by_tag[&Some(OTHERS.into())].calls, 50);
        assert_eq!(ledger.totals().calls, MAX_NAMES as u64 + 50, "and nothing is left out of the sum");
    }

    #[test]
    fn threads_add_up() {
        let ledger = Ledger::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let ledger = ledger.clone();
                scope.spawn(move || {
                    (0..500).for_each(|_| ledger.receive(&receipt(Served::Upstream, None, Some(1))))
                });
            }
        });
        assert_eq!(ledger.totals().billed, Usd::from_pico(2000));
    }
}
