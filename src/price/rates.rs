//! What one model costs.

use std::fmt::Write as _;

use super::split::{self, Cells};
use super::{Cost, CostState, Item, Terms, Usd, What, Window};
use crate::dialect::Usage;

/// What one model costs: an amount per token for each kind of token, with other amounts for long prompts, for
/// service tiers and off the peak, and the model's limits.
///
/// A rate that is not stated falls back to its parent's (cache reads to the input rate, reasoning to the output
/// rate), never to zero, and the bill marks it. A stated 0 is a price. A negative amount is not taken.
///
/// # Example
/// ```
/// use thrifty::price::{Rates, Terms, Usage, Usd, What};
///
/// let rates = Rates::new(Usd::per_million("0.25")?, Usd::per_million("2")?)
///     .with(What::Read, Usd::per_million("0.025")?);
/// let cost = rates.cost(&Usage::of(1_000, 100).with_read(400), &Terms::default());
/// assert_eq!(cost.usd, Some("0.00036".parse()?)); // 600 x 0.25 + 400 x 0.025 + 100 x 2
/// # Ok::<(), thrifty::Error>(())
/// ```
/// # Long prompts and service tiers
/// ```
/// use thrifty::price::{Rates, Terms, Usage, Usd, What};
///
/// let rates = Rates::new(Usd::per_million("2")?, Usd::per_million("10")?)
///     .above(272_000, What::Input, Usd::per_million("4")?)
///     .served("flex", What::Input, Usd::per_million("1")?);
/// let input = |tokens, tier: &str| {
///     rates.cost(&Usage::of(tokens, 0), &Terms::default().with_service_tier(Some(tier.into()))).usd
/// };
/// assert_eq!(input(272_000, "default"), Some("0.544".parse()?), "exactly at the threshold is below it");
/// assert_eq!(input(272_001, "default"), Some("1.088004".parse()?), "one more, and every token costs double");
/// assert_eq!(input(1_000, "flex"), Some("0.001".parse()?));
/// assert_eq!(input(272_001, "flex"), Some("1.088004".parse()?), "no flex rate is stated up there");
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    quotes: Vec<Quote>,
    windows: Vec<Window>,
    search: Option<Usd>,
    request: Option<Usd>,
    no_output: bool,
    max_input: Option<u64>,
    max_output: Option<u64>,
    cache_minimum: Option<u64>,
    source: Option<Box<str>>,
}

/// One stated rate and where it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quote {
    pub(super) what: What,
    /// Holds for prompts of more tokens than this; 0 for all.
    pub(super) above: u64,
    /// Holds in this service tier only.
    pub(super) service: Option<Box<str>>,
    /// Holds inside the windows only.
    pub(super) off_peak: bool,
    pub(super) rate: Usd,
}

impl Rates {
    /// A price per input token and one per output token.
    #[must_use]
    pub fn new(input: Usd, output: Usd) -> Self {
        Self::default().with(What::Input, input).with(What::Output, output)
    }

    /// A price per input token of a model that generates nothing, such as an embedding model: a usage without an
    /// output count is then complete.
    #[must_use]
    pub fn embedding(input: Usd) -> Self {
        Self { no_output: true, ..Self::default() }.with(What::Input, input)
    }

    /// With this rate per token.
    #[must_use]
    pub fn with(self, what: What, rate: Usd) -> Self {
        self.state(Quote { what, above: 0, service: None, off_peak: false, rate })
    }

    /// With this rate for every token of a call whose prompt has more than `tokens` tokens.
    #[must_use]
    pub fn above(self, tokens: u64, what: What, rate: Usd) -> Self {
        self.state(Quote { what, above: tokens, service: None, off_peak: false, rate })
    }

    /// With this rate in a service tier (`flex`, `priority`, `batch`, ...).
    #[must_use]
    pub fn served(self, service: &str, what: What, rate: Usd) -> Self {
        self.state(Quote { what, above: 0, service: tier(Some(service)), off_peak: false, rate })
    }

    /// With this rate in a service tier for a prompt of more than `tokens` tokens.
    #[must_use]
    pub fn above_served(self, tokens: u64, service: &str, what: What, rate: Usd) -> Self {
        self.state(Quote { what, above: tokens, service: tier(Some(service)), off_peak: false, rate })
    }

    /// Inside this window the off-peak rates hold.
    #[must_use]
    pub fn off_peak_window(mut self, window: Window) -> Self {
        self.windows.push(window);
        self
    }

    /// With this rate inside the windows.
    #[must_use]
    pub fn off_peak(self, what: What, rate: Usd) -> Self {
        self.state(Quote { what, above: 0, service: None, off_peak: true, rate })
    }

    /// With this fee for one web search.
    #[must_use]
    pub fn per_search(mut self, fee: Usd) -> Self {
        self.search = (fee >= Usd::ZERO).then_some(fee).or(self.search);
        self
    }

    /// With this fee for the call itself.
    #[must_use]
    pub fn per_request(mut self, fee: Usd) -> Self {
        self.request = (fee >= Usd::ZERO).then_some(fee).or(self.request);
        self
    }

    /// With the largest prompt and the largest output in tokens.
    #[must_use]
    pub fn limits(mut self, max_input: Option<u64>, max_output: Option<u64>) -> Self {
        (self.max_input, self.max_output) = (max_input, max_output);
        self
    }

    /// With the shortest prefix the provider caches, in tokens.
    #[must_use]
    pub fn cached_from(mut self, tokens: u64) -> Self {
        self.cache_minimum = Some(tokens);
        self
    }

    /// With the page the figures are from.
    #[must_use]
    pub fn from_page(mut self, page: &str) -> Self {
        self.source = Some(page.into());
        self
    }

    /// States a rate; the last one stated for a place holds.
    pub(super) fn state(mut self, quote: Quote) -> Self {
        if quote.rate < Usd::ZERO {
            return self;
        }
        match self.quotes.iter_mut().find(|have| have.holds_where(&quote)) {
            Some(have) => have.rate = quote.rate,
            None => self.quotes.push(quote),
        }
        self
    }

    pub(super) fn quotes(&self) -> &[Quote] {
        &self.quotes
    }

    pub(super) fn quotes_mut(&mut self) -> &mut Vec<Quote> {
        &mut self.quotes
    }

    pub(super) fn generates_nothing(&mut self) {
        self.no_output = true;
    }

    /// Where lists repeat the parent's rate for a kind of token, the kind goes with its parent everywhere: without
    /// this a reasoning rate equal to the output rate would miss the batch discount stated for the output alone.
    pub(super) fn follow_parents(mut self) -> Self {
        for what in What::ALL {
            let Some(parent) = what.parents().first().copied() else { continue };
            let mut own = self.quotes.iter().filter(|quote| quote.what == what).peekable();
            let same = |quote: &Quote| {
                let twin = Quote { what: parent, ..quote.clone() };
                self.quotes.contains(&twin)
            };
            if own.peek().is_none() || !own.all(same) {
                continue;
            }
            let of_parent: Vec<_> =
                self.quotes.iter().filter(|quote| quote.what == parent).cloned().collect();
            for quote in of_parent {
                self = self.state(Quote { what, ..quote });
            }
        }
        self
    }

    pub(super) fn same_price(&self, other: &Self) -> bool {
        (&self.quotes, &self.windows, self.search, self.request)
            == (&other.quotes, &other.windows, other.search, other.request)
    }

    /// Largest prompt in tokens, if known.
    #[must_use]
    pub fn max_input(&self) -> Option<u64> {
        self.max_input
    }

    /// Largest output in tokens, if known.
    #[must_use]
    pub fn max_output(&self) -> Option<u64> {
        self.max_output
    }

    /// Shortest prefix the provider caches, in tokens, if known.
    #[must_use]
    pub fn cache_minimum(&self) -> Option<u64> {
        self.cache_minimum
    }

    /// The page the figures are from, if stated.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Fee for one web search, if stated.
    #[must_use]
    pub fn search(&self) -> Option<Usd> {
        self.search
    }

    /// True if any rate or fee is stated.
    #[must_use]
    pub fn is_priced(&self) -> bool {
        !self.quotes.is_empty() || self.request.is_some()
    }

    /// Prompt length above which a token of a call costs more in standard service, if there is such a cliff.
    #[must_use]
    pub fn cliff(&self) -> Option<u64> {
        let steps =
            self.quotes.iter().filter(|quote| quote.above > 0 && quote.service.is_none() && !quote.off_peak);
        let dearer = steps.filter(|step| {
            let below = self.quotes.iter().filter(|have| {
                have.what == step.what && have.above < step.above && have.service.is_none() && !have.off_peak
            });
            below.max_by_key(|have| have.above).is_some_and(|below| below.rate < step.rate)
        });
        dearer.map(|step| step.above).min()
    }

    /// The rate of `what` in a call with `prompt` input tokens, by its own statement; `None` when nothing is stated.
    ///
    /// The highest crossed threshold comes first, then its form for the service that served, then its off-peak form.
    #[must_use]
    pub fn stated(&self, what: What, prompt: u64, terms: &Terms) -> Option<Usd> {
        self.pick(what, prompt, self.service(terms).as_deref(), self.is_off_peak(terms.at_ms))
    }

    /// The rate of `what` as it is billed: its own or its parent's, the latter marked `true`.
    #[must_use]
    pub fn rate(&self, what: What, prompt: u64, terms: &Terms) -> Option<(Usd, bool)> {
        self.resolve(what, prompt, self.service(terms).as_deref(), self.is_off_peak(terms.at_ms))
    }

    /// The service tier that served. `fast` is a tier of its own at some vendors and another word for `priority` at
    /// the others.
    fn service(&self, terms: &Terms) -> Option<Box<str>> {
        let name = tier(terms.service_tier.as_deref())?;
        let stated = || self.quotes.iter().any(|quote| quote.service.as_ref() == Some(&name));
        Some(if &*name == "fast" && !stated() { "priority".into() } else { name })
    }

    fn is_off_peak(&self, at_ms: i64) -> bool {
        at_ms != 0 && self.windows.iter().any(|window| window.contains(at_ms))
    }

    fn pick(&self, what: What, prompt: u64, service: Option<&str>, off_peak: bool) -> Option<Usd> {
        let holds = |quote: &&Quote| {
            quote.what == what
                && (quote.above == 0 || prompt > quote.above)
                && (quote.service.is_none() || quote.service.as_deref() == service)
                && (!quote.off_peak || off_peak)
        };
        let best = self.quotes.iter().filter(holds);
        best.max_by_key(|quote| (quote.above, quote.service.is_some(), quote.off_peak))
            .map(|quote| quote.rate)
    }

    fn resolve(&self, what: What, prompt: u64, service: Option<&str>, off_peak: bool) -> Option<(Usd, bool)> {
        if let Some(rate) = self.pick(what, prompt, service, off_peak) {
            return Some((rate, false));
        }
        let mut parents = what.parents().iter();
        parents.find_map(|parent| self.pick(*parent, prompt, service, off_peak)).map(|rate| (rate, true))
    }

    /// What `usage` costs. A pure function of its arguments.
    #[must_use]
    pub fn cost(&self, usage: &Usage, terms: &Terms) -> Cost {
        let service = self.service(terms);
        let (service, off_peak) = (service.as_deref(), self.is_off_peak(terms.at_ms));
        let Some(input) = usage.input else { return Cost::unknown(CostState::UsageUnknown) };
        // An unknown output count matters only where output costs something.
        let output = match usage.output {
            Some(output) => output,
            None if self.no_output => 0,
            None if self.pick(What::Output, input, service, off_peak) == Some(Usd::ZERO) => 0,
            None => return Cost::unknown(CostState::UsageUnknown),
        };
        let Some(cells) = split::cells(usage, input, output) else {
            return Cost::unknown(CostState::UsageUnknown);
        };
        self.bill(&cells, input, usage.searches.unwrap_or(0), service, off_peak)
    }

    fn bill(&self, cells: &Cells, prompt: u64, searches: u64, service: Option<&str>, off_peak: bool) -> Cost {
        let tokens = cells
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|&(what, count)| (what.name(), count, self.resolve(what, prompt, service, off_peak)));
        let searches = (searches > 0).then(|| ("web_search", searches, self.search.map(|fee| (fee, false))));
        let request = self.request.map(|fee| ("request", 1, Some((fee, false))));
        let mut items = Vec::new();
        let mut total = Usd::ZERO;
        for (what, count, rate) in tokens.chain(searches).chain(request) {
            let Some((rate, fallback)) = rate else {
                return Cost { usd: None, state: CostState::Unpriced, items };
            };
            let sum = rate.checked_mul(count).and_then(|usd| Some((usd, total.checked_add(usd)?)));
            let Some((usd, sum)) = sum else { return Cost::unknown(CostState::UsageUnknown) };
            items.push(Item { what, count, rate, usd, fallback });
            total = sum;
        }
        Cost { usd: Some(total), state: CostState::Exact, items }
    }

    /// All of it as one line, for fingerprints.
    pub(super) fn canonical(&self) -> String {
        let mut quotes: Vec<_> = self.quotes.iter().collect();
        quotes.sort_by_key(|quote| (quote.what, quote.above, quote.service.clone(), quote.off_peak));
        let mut line = String::new();
        for quote in quotes {
            let service = quote.service.as_deref().unwrap_or("");
            let (name, rate) = (quote.what.name(), quote.rate.pico());
            let _ = write!(line, "{name}>{}@{service}~{}={rate} ", quote.above, quote.off_peak);
        }
        let _ = write!(
            line,
            "{:?} {:?} {:?} {} {:?} {:?} {:?}",
            self.windows,
            self.search.map(Usd::pico),
            self.request.map(Usd::pico),
            self.no_output,
            self.max_input,
            self.max_output,
            self.cache_minimum
        );
        line
    }
}

impl Quote {
    fn holds_where(&self, other: &Self) -> bool {
        (self.what, self.above, &self.service, self.off_peak)
            == (other.what, other.above, &other.service, other.off_peak)
    }
}

/// A service tier by one name; `None` is standard. Providers and price lists spell them differently.
pub(super) fn tier(name: Option<&str>) -> Option<Box<str>> {
    let name = name?.trim().to_ascii_lowercase();
    let name = name.strip_prefix("service_tier_").unwrap_or(&name);
    match name {
        "" | "default" | "standard" | "auto" | "on_demand" | "unspecified" | "standard_only" => None,
        "batches" => Some("batch".into()),
        "on_demand_priority" => Some("priority".into()),
        "on_demand_flex" => Some("flex".into()),
        name => Some(name.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_million(text: &str) -> Usd {
        Usd::per_million(text).unwrap()
    }

    fn usd(text: &str) -> Option<Usd> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn cached_sound_is_priced_once_and_at_its_own_rate() {
        let rates = Rates::new(per_million("1"), per_million("1"))
            .with(What::Read, per_million("0.25"))
            .with(What::InputAudio, per_million("2"))
            .with(What::ReadAudio, per_million("0.5"));
        let usage =
            Usage { input_audio: Some(300), read_audio: Some(100), ..Usage::of(1000, 0).with_read(400) };
        assert_eq!(rates.cost(&usage, &Terms::default()).usd, usd("0.000925"));
    }

    #[test]
    fn pictures_leave_the_plain_output_before_it_is_priced() {
        let rates =
            Rates::new(per_million("1"), per_million("12")).with(What::OutputImage, per_million("120"));
        let usage = Usage { output_image: Some(1120), reasoning: Some(529), ..Usage::of(0, 2309) };
        assert_eq!(rates.cost(&usage, &Terms::default()).output(), usd("0.148668"));
    }

    #[test]
    fn writes_are_not_charged_as_input_too() {
        // claude-sonnet-4-5 in 2025: BerriAI/litellm#9812 had 0.091311 for it.
        let rates = Rates::new(per_million("3"), per_million("15")).with(What::Write, per_million("3.75"));
        let usage = Usage { write_short: Some(12_304), ..Usage::of(12_307, 550) };
        assert_eq!(rates.cost(&usage, &Terms::default()).usd, usd("0.054399"));
    }

    #[test]
    fn a_missing_rate_is_the_parents_and_a_stated_zero_is_a_price() {
        let rates = Rates::new(per_million("1"), per_million("2"));
        let usage = Usage::of(10_000, 0).with_read(10_000);
        let cost = rates.cost(&usage, &Terms::default());
        assert_eq!((cost.usd, cost.has_fallback()), (usd("0.01"), true));
        let cost = rates.with(What::Read, Usd::ZERO).cost(&usage, &Terms::default());
        assert_eq!((cost.usd, cost.has_fallback()), (usd("0"), false));
    }

    #[test]
    fn what_is_used_and_has_no_rate_is_unpriced_and_never_free() {
        let only_input = Rates::default().with(What::Input, per_million("1"));
        let cost = only_input.cost(&Usage::of(10, 1), &Terms::default());
        assert_eq!((cost.usd, cost.state), (None, CostState::Unpriced));
        let searched = Usage { searches: Some(1), ..Usage::of(10, 0) };
        assert_eq!(only_input.cost(&searched, &Terms::default()).state, CostState::Unpriced);
        let cost = only_input.cost(&Usage::of(0, 0), &Terms::default());
        assert_eq!((cost.usd, cost.state), (usd("0"), CostState::Exact), "nothing used is a real zero");
    }

    #[test]
    fn counts_that_contradict_each_other_or_are_missing_cost_nobody_knows_what() {
        let rates = Rates::new(per_million("1"), per_million("2"));
        for usage in [
            Usage::default(),
            Usage { output: None, ..Usage::of(1, 1) },
            Usage::of(1, 0).with_read(2),
            Usage { write_short: Some(2), ..Usage::of(1, 0) },
            Usage { write_long: Some(u64::MAX), write_short: Some(u64::MAX), ..Usage::of(1, 0) },
            Usage { reasoning: Some(2), ..Usage::of(1, 1) },
            Usage { input_audio: Some(2), ..Usage::of(1, 1) },
            Usage { read_audio: Some(1), input_audio: Some(1), ..Usage::of(1, 1) },
            Usage { output_image: Some(1), output_audio: Some(1), ..Usage::of(1, 1) },
        ] {
            let cost = rates.cost(&usage, &Terms::default());
            assert_eq!((cost.usd, cost.state), (None, CostState::UsageUnknown), "{usage:?}");
        }
        let embedding = Rates::embedding(per_million("0.1"));
        let usage = Usage { output: None, ..Usage::of(10, 0) };
        assert_eq!(embedding.cost(&usage, &Terms::default()).usd, usd("0.000001"));
    }

    #[test]
    fn a_threshold_comes_before_the_service_tier() {
        let rates = Rates::default()
            .with(What::Output, per_million("2"))
            .above(200_000, What::Output, per_million("1"))
            .above_served(128_000, "priority", What::Output, per_million("1.5"));
        let terms = Terms::default().with_service_tier(Some("PRIORITY".into()));
        assert_eq!(rates.stated(What::Output, 250_000, &terms), Some(per_million("1")));
        assert_eq!(rates.stated(What::Output, 200_000, &terms), Some(per_million("1.5")));
        assert_eq!(rates.stated(What::Output, 128_000, &terms), Some(per_million("2")));
    }

    #[test]
    fn a_reasoning_rate_equal_to_the_output_rate_follows_it_into_other_services() {
        let rates = Rates::new(per_million("1"), per_million("9"))
            .with(What::Reasoning, per_million("9"))
            .served("batch", What::Output, per_million("4.5"))
            .follow_parents();
        let batch = Terms::default().with_service_tier(Some("batch".into()));
        assert_eq!(rates.stated(What::Reasoning, 1, &batch), Some(per_million("4.5")));
        assert_eq!(rates.stated(What::Reasoning, 1, &Terms::default()), Some(per_million("9")));
    }

    #[test]
    fn huge_counts_end_in_an_unknown_cost_and_not_in_a_wrong_one() {
        let rates = Rates::new(Usd::from_pico(i128::MAX), Usd::from_pico(1));
        assert_eq!(rates.cost(&Usage::of(2, 0), &Terms::default()).usd, None);
        assert!(rates.cost(&Usage::of(1, 0), &Terms::default()).usd.is_some());
        assert_eq!(rates.cost(&Usage::of(1, 1), &Terms::default()).usd, None);
    }
}
