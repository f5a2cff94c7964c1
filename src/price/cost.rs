//! The cost of a usage.

use super::{Usd, What};

/// What a usage costs, itemised, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// The amount; `None` unless the state is [`CostState::Exact`].
    pub usd: Option<Usd>,
    /// How sure it is.
    pub state: CostState,
    /// The parts that add up to it.
    pub items: Vec<Item>,
}

/// How sure a cost is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CostState {
    /// The model is known, every used part has a rate, and the usage is complete.
    Exact,
    /// The model is known, but a used part has no rate.
    Unpriced,
    /// The model is not in the table.
    Missing,
    /// The usage is absent, incomplete or contradicts itself.
    #[default]
    UsageUnknown,
}

impl Cost {
    /// A cost that is not known, and why.
    pub(crate) fn unknown(state: CostState) -> Self {
        Self { usd: None, state, items: Vec::new() }
    }

    /// The part for the prompt: tokens sent, cache reads and cache writes; no searches and no fees.
    #[must_use]
    pub fn input(&self) -> Option<Usd> {
        self.side(false)
    }

    /// The part for the answer, reasoning included.
    #[must_use]
    pub fn output(&self) -> Option<Usd> {
        self.side(true)
    }

    fn side(&self, output: bool) -> Option<Usd> {
        let names = || What::ALL.into_iter().filter(move |what| what.is_output() == output);
        let items = self.items.iter().filter(|item| names().any(|what| what.name() == item.what));
        self.usd.map(|_| items.map(|item| item.usd).sum())
    }

    /// True if a part was priced at its parent's rate, for want of one of its own.
    #[must_use]
    pub fn has_fallback(&self) -> bool {
        self.items.iter().any(|item| item.fallback)
    }
}

impl CostState {
    /// Its name in receipts and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Unpriced => "unpriced",
            Self::Missing => "missing",
            Self::UsageUnknown => "usage_unknown",
        }
    }
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// What is billed: `input`, `cache_read`, `output`, ...
    pub what: &'static str,
    /// How many.
    pub count: u64,
    /// Rate for one.
    pub rate: Usd,
    /// `count` times `rate`.
    pub usd: Usd,
    /// True if the rate is that of the parent, for want of one of its own.
    pub fallback: bool,
}

/// What besides model and usage decides a price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// The service tier that served, as the reply names it (`default`, `flex`, `priority`, `batch`, ...).
    pub service_tier: Option<String>,
    /// When the provider took the request, in milliseconds since 1970-01-01 UTC. 0 is "not known": then no time
    /// window applies, which is the dearer side.
    pub at_ms: i64,
}

impl Terms {
    /// Standard service at this time, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at(at_ms: i64) -> Self {
        Self { service_tier: None, at_ms }
    }

    /// The same, served in this tier.
    #[must_use]
    pub fn with_service_tier(mut self, tier: Option<String>) -> Self {
        self.service_tier = tier;
        self
    }
}
