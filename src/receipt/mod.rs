//! What happened to one call, and what each lever saved.
//!
//! Every layer that changes a call or answers it writes down what it did in the call's [`Draft`], if there is one;
//! the meter opens the draft and settles it into a [`Receipt`] when the body has ended. Receipts never hold prompts,
//! answers or credentials.
//!
//! # Example
//! ```
//! use thrifty::receipt::{Receipt, Sink};
//!
//! // Any function of a receipt is a sink.
//! let sink = |receipt: &Receipt| println!("{:?} billed {:?}", receipt.served, receipt.billed);
//! sink.receive(&Receipt::default());
//! ```

mod draft;
mod ledger;
mod lines;

use std::sync::Arc;
use std::time::Duration;

pub use self::draft::{Draft, Hold, ReceiptHandle, note};
pub use self::ledger::{Ledger, Totals};
pub use self::lines::JsonLines;
use crate::call::Dialect;
use crate::dialect::{Finish, Usage};
use crate::price::{CostState, Usd};
use crate::tokens::Expected;

/// What happened to one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Whose wire format the call spoke.
    pub dialect: Dialect,
    /// The caller's tag.
    pub tag: Option<Arc<str>>,
    /// When it came, in milliseconds since 1970-01-01 UTC.
    pub started_ms: i64,
    /// From the call to the end of its body.
    pub took: Duration,
    /// Where the answer came from.
    pub served: Served,
    /// True if thrifty itself refused the call: nothing was sent.
    pub refused: bool,
    /// HTTP status of the answer; `None` when there was none.
    pub status: Option<u16>,
    /// How the answer ended.
    pub finish: Finish,
    /// True if the body was seen to its end; a stream the caller left is settled at what was seen.
    pub complete: bool,
    /// Why the cache could not serve or would not store, as a word; `None` when it did.
    pub cache_note: Option<&'static str>,
    /// True if the answer may be served again.
    pub stored: bool,
    /// Inputs of an embeddings call that the cache looked up one by one; 0 for all other calls.
    pub inputs: u64,
    /// How many of `inputs` this call did not pay for: they were known, came with somebody else's call, or stood
    /// in it twice.
    pub inputs_known: u64,
    /// Model the caller asked for.
    pub asked: Option<String>,
    /// Model the call was sent with.
    pub chosen: Option<String>,
    /// Model that answered, as the reply names it.
    pub answered: Option<String>,
    /// Why the tier was chosen, kept or left.
    pub tier_note: Option<String>,
    /// Answers that came and were not good enough, before the one that was passed on.
    pub rejected: Vec<Rejected>,
    /// Likely prompt tokens as the caller sent it; `None` when nobody counted.
    pub tokens_before: Option<u64>,
    /// Likely prompt tokens as it was sent on.
    pub tokens_after: Option<u64>,
    /// What the prompt that was sent is expected to be billed; `None` unless a
    /// [`Calibration`](crate::tokens::Calibration) learns from it.
    pub expected: Option<Expected>,
    /// Messages that trimming dropped.
    pub dropped_messages: u64,
    /// True if trimming changed the front of the prompt, so that the provider's prompt cache starts anew.
    pub breaks_prefix: bool,
    /// Output cap the caller sent.
    pub cap_asked: Option<u64>,
    /// Output cap it was sent on with, if a layer set or lowered it.
    pub cap_set: Option<u64>,
    /// True if a layer placed marks of the provider's prompt cache.
    pub prefix_marked: bool,
    /// Token counts the provider reported, of the answer passed on.
    pub usage: Option<Usage>,
    /// Service tier that served, as the reply names it.
    pub service_tier: Option<String>,
    /// What the provider bills for this call, rejected answers included; `None` when that is not known.
    pub billed: Option<Usd>,
    /// How sure `billed` is.
    pub state: CostState,
    /// What the bill probably is where `billed` is not known because no usage came (a stream the caller left).
    /// Kept apart: it is never added to exact sums.
    pub estimate: Option<Usd>,
    /// What `billed` would be beyond, by lever.
    pub avoided: Avoided,
    /// Name, date and fingerprint of the price table.
    pub table: Option<Arc<str>>,
    /// Anything else worth telling: a body that could not be edited, an estimate in place of a count.
    pub notes: Vec<&'static str>,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Served {
    /// Nowhere: the call was refused or failed.
    #[default]
    Nowhere,
    /// The provider, paid by this call.
    Upstream,
    /// The provider, paid by an identical call in flight.
    Flight,
    /// The memory tier.
    Memory,
    /// The disk tier.
    Disk,
}

impl Served {
    /// Its name in ledgers and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::Upstream => "upstream",
            Self::Flight => "flight",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }

    /// True if the provider was not paid for this call.
    #[must_use]
    pub fn is_free(self) -> bool {
        matches!(self, Self::Flight | Self::Memory | Self::Disk)
    }
}

/// Among a reply's extensions: the draft holds the use that is billed, and the body, put together from several
/// answers, another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stated;

/// An answer that came and was not passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// Model asked for it.
    pub model: String,
    /// Where it came from: one from the cache was not paid again.
    pub served: Served,
    /// Its token counts.
    pub usage: Option<Usage>,
    /// Why it was not good enough.
    pub why: String,
}

impl Rejected {
    /// One rejected answer.
    #[must_use]
    pub fn new(model: String, served: Served, usage: Option<Usage>, why: String) -> Self {
        Self { model, served, usage, why }
    }
}

/// A way of saving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Lever {
    /// Never pay twice for the same answer.
    Cache,
    /// A shorter prompt.
    Trim,
    /// A bounded answer.
    Cap,
    /// A smaller model.
    Tier,
    /// The provider's own prompt cache.
    Prefix,
}

impl Lever {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Cache, Self::Trim, Self::Cap, Self::Tier, Self::Prefix];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Trim => "trim",
            Self::Cap => "cap",
            Self::Tier => "tier",
            Self::Prefix => "prefix",
        }
    }
}

/// Money not spent, by lever. Each lever is measured against the state just before it acted, so the parts add up:
/// the bare call would have cost `billed` plus all of these. A part can be negative: a cut that lost the
/// provider's prompt-cache discount costs money. What cannot be known (how long an uncapped answer had been) is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Avoided {
    /// By an answer from the cache or a shared flight.
    pub cache: Usd,
    /// By a shorter prompt.
    pub trim: Usd,
    /// By a bounded answer.
    pub cap: Usd,
    /// By a smaller model; an upper bound, since another model writes other lengths.
    pub tier: Usd,
    /// By the provider's own prompt cache, where thrifty placed the marks.
    pub prefix: Usd,
}

impl Avoided {
    /// That of one lever.
    #[must_use]
    pub fn of(&self, lever: Lever) -> Usd {
        match lever {
            Lever::Cache => self.cache,
            Lever::Trim => self.trim,
            Lever::Cap => self.cap,
            Lever::Tier => self.tier,
            Lever::Prefix => self.prefix,
        }
    }

    /// That of one lever, to be changed.
    pub fn of_mut(&mut self, lever: Lever) -> &mut Usd {
        match lever {
            Lever::Cache => &mut self.cache,
            Lever::Trim => &mut self.trim,
            Lever::Cap => &mut self.cap,
            Lever::Tier => &mut self.tier,
            Lever::Prefix => &mut self.prefix,
        }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> Usd {
        Lever::ALL.into_iter().map(|lever| self.of(lever)).sum()
    }
}

/// Whoever wants receipts: a log, a metric, a ledger. Called once per call, on the task that ends the body; it
/// should return at once.
#[diagnostic::on_unimplemented(message = "`{Self}` takes no receipts", label = "a `Fn(&Receipt)` is a sink")]
pub trait Sink: Send + Sync + 'static {
    /// Takes one receipt.
    fn receive(&self, receipt: &Receipt);
}

/// A sink that is used elsewhere too, such as an `Arc<Ledger>` whose sums are read.
impl<T: Sink + ?Sized> Sink for Arc<T> {
    fn receive(&self, receipt: &Receipt) {
        T::receive(self, receipt);
    }
}

impl<F: Fn(&Receipt) + Send + Sync + 'static> Sink for F {
    fn receive(&self, receipt: &Receipt) {
        self(receipt);
    }
}
