//! Reading LiteLLM's price list.
//!
//! The list is edited by many hands, every day: entries that are no models, numbers of every spelling, new fields,
//! zeros that mean "no such fee". One odd number must not cost the entry, one odd entry not the file; and a number
//! is read from its decimal text, never through a float.

use std::borrow::Cow;
use std::collections::HashMap;

use super::rates::{Quote, tier};
use super::table::Warnings;
use super::usd::scaled;
use super::{Rates, Usd, What, Window};
use crate::Error;
use crate::call::json::{self, Object};

/// No token costs more than a dollar; what says so is in another unit.
const ABSURD_RATE: Usd = Usd::from_pico(1_000_000_000_000);
/// Nor does a search or a request cost more than a thousand.
const ABSURD_FEE: Usd = Usd::from_pico(1_000_000_000_000_000);

/// Field names of rates per token. What follows a name tells where the rate holds.
const RATES: &[(&str, What)] = &[
    ("input_cost_per_token", What::Input),
    ("input_cost_per_audio_token", What::InputAudio),
    ("input_cost_per_image_token", What::InputImage),
    ("input_cost_per_video_token", What::InputVideo),
    ("cache_read_input_token_cost", What::Read),
    ("cache_read_input_audio_token_cost", What::ReadAudio),
    ("cache_read_input_image_token_cost", What::ReadImage),
    ("cache_read_input_video_token_cost", What::ReadVideo),
    ("cache_creation_input_token_cost", What::Write),
    ("output_cost_per_token", What::Output),
    ("output_cost_per_reasoning_token", What::Reasoning),
    ("output_cost_per_audio_token", What::OutputAudio),
    ("output_cost_per_image_token", What::OutputImage),
];

/// An entry with more rates or windows than this is no price of a model.
const MAX_QUOTES: usize = 500;

const SERVICES: &[&str] = &["batches", "flex", "priority", "balanced", "ultrafast", "decisions"];

/// Top-level members that are no models whatever they hold.
const RESERVED: &[&str] = &["sample_spec", "rules", "fallback_generalizations"];

/// Ids and rates in the order of the file.
type Models = Vec<(Box<str>, Rates)>;

pub(super) fn read(bytes: &[u8]) -> Result<(Models, Warnings), Error> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let refused = |why: &str| {
        Error::bad_input(
            format!("the price list {why}"),
            "give the bytes of LiteLLM's model_prices_and_context_window.json, an object of models",
        )
    };
    let text = std::str::from_utf8(bytes).map_err(|_| refused("is not UTF-8"))?;
    let text = quote_non_numbers(text);
    let list = Object::parse(&text).ok_or_else(|| refused("is not exactly one JSON object"))?;
    let mut warnings = Warnings::default();

    // A model stated twice with different figures has none that can be trusted.
    let mut seen: HashMap<&str, Option<&str>> = HashMap::with_capacity(list.len());
    for (model, entry) in list.iter() {
        let have = seen.entry(model).or_insert(Some(entry));
        if have.is_some_and(|have| have != entry) {
            *have = None;
        }
    }
    let mut models = Vec::with_capacity(seen.len());
    for (model, _) in list.iter() {
        let Some(entry) = seen.remove(model) else { continue };
        let Some(entry) = entry else {
            warnings.reject(model, "the entry", "it is there twice, with different figures");
            continue;
        };
        let object = Object::parse(entry).filter(|_| !RESERVED.contains(&model) && !model.trim().is_empty());
        match object.and_then(|entry| Reader { model, warnings: &mut warnings }.entry(&entry)) {
            Some(rates) => models.push((model.into(), rates)),
            None => warnings.skipped += 1,
        }
    }
    if !models.iter().any(|(_, rates)| rates.is_priced()) {
        return Err(refused("holds no model with a price"));
    }
    Ok((models, warnings))
}

struct Reader<'w> {
    model: &'w str,
    warnings: &'w mut Warnings,
}

impl Reader<'_> {
    /// The rates of an entry, none if its prices are of other kinds; `None` when it has neither a mode nor a price.
    fn entry(&mut self, entry: &Object<'_>) -> Option<Rates> {
        let mode = entry.str("mode");
        let mode = mode.as_deref();
        let mut rates = Rates::default();
        if matches!(mode, Some("embedding" | "rerank" | "moderation")) {
            rates.generates_nothing();
        }
        rates = self.rates(rates, entry, 0, false);
        for tier in entry.elements("tiered_pricing").unwrap_or_default().into_iter().take(MAX_QUOTES) {
            rates = self.tier(rates, tier);
        }
        if let Some(off_peak) = entry.object("off_peak_pricing") {
            rates = self.off_peak(rates, &off_peak);
        }
        let request = entry.some("input_cost_per_request");
        if let Some(fee) = request.and_then(|fee| self.amount("input_cost_per_request", fee, ABSURD_FEE)) {
            rates = rates.per_request(fee);
        }
        if let Some(fee) = self.search(entry) {
            rates = rates.per_search(fee);
        }
        if let Some(times) = entry.object("provider_specific_entry").and_then(|entry| entry.get("fast")) {
            rates = self.fast(rates, times);
        }
        if !matches!(mode, Some("embedding" | "rerank" | "moderation")) {
            without_placeholders(&mut rates);
        }
        let has_price = || entry.iter().any(|(field, _)| field.contains("cost"));
        if mode.is_none() && !has_price() {
            return None;
        }
        let (max_input, max_output) = (entry.u64("max_input_tokens"), entry.u64("max_output_tokens"));
        // Equal figures: the output one repeats the window and is no cap.
        let max_output = max_output.filter(|output| *output > 0 && max_input != Some(*output));
        rates = rates.limits(max_input.filter(|input| *input > 0), max_output);
        if let Some(tokens) = entry.u64("prompt_cache_min_tokens") {
            rates = rates.cached_from(tokens);
        }
        if let Some(page) = entry.str("source").filter(|page| page.len() <= 500) {
            rates = rates.from_page(&page);
        }
        Some(rates.follow_parents())
    }

    /// Takes the rates among the members of `object`, for prompts of more than `above` tokens.
    fn rates(&mut self, mut rates: Rates, object: &Object<'_>, above: u64, off_peak: bool) -> Rates {
        let mut found: Vec<(Quote, bool)> = Vec::new();
        for (field, value) in object.iter() {
            let Some(place) = place(field) else {
                if field.contains("cost_per") || field.contains("token_cost") {
                    self.warnings.unknown_fields += 1;
                }
                continue;
            };
            if value == "null" {
                continue;
            }
            let Some(rate) = self.amount(field, value, ABSURD_RATE) else { continue };
            // "No write fee exists": such tokens cost what input costs.
            if rate == Usd::ZERO && matches!(place.what, What::Write | What::WriteLong) {
                continue;
            }
            let quote = Quote { above: place.above.max(above), off_peak, rate, ..place };
            let same = |have: &Quote| {
                (have.what, have.above, &have.service) == (quote.what, quote.above, &quote.service)
            };
            let full = rates.quotes().len() + found.len() >= MAX_QUOTES;
            match found.iter_mut().find(|(have, _)| same(have)) {
                Some((have, sound)) if have.rate != rate => {
                    *sound = false;
                    self.warnings.reject(self.model, field, "it is there twice, with different amounts");
                }
                Some(_) => {}
                None if full => {
                    self.warnings.reject(self.model, field, "the entry has more rates than any model");
                    break;
                }
                None => found.push((quote, true)),
            }
        }
        for (quote, sound) in found {
            if sound {
                rates = rates.state(quote);
            }
        }
        rates
    }

    /// One element of `tiered_pricing`: rates for prompts in a range. Its lower bound is still the tier below.
    fn tier(&mut self, rates: Rates, text: &str) -> Rates {
        let Some(object) = Object::parse(text) else {
            self.warnings.reject(self.model, "tiered_pricing", "an element is no object");
            return rates;
        };
        let start = object.elements("range").and_then(|range| json::whole(range.first()?));
        match start {
            Some(start) => self.rates(rates, &object, start, false),
            None => {
                self.warnings.reject(self.model, "tiered_pricing", "a range has no whole start");
                rates
            }
        }
    }

    fn off_peak(&mut self, rates: Rates, object: &Object<'_>) -> Rates {
        let mut windows = Vec::new();
        for text in object.elements("windows").unwrap_or_default() {
            match self::windows(text) {
                Some(read) => windows.extend(read),
                None => self.warnings.reject(self.model, "off_peak_pricing", "a window cannot be read"),
            }
        }
        if windows.is_empty() {
            return rates;
        }
        let rates = self.rates(rates, object, 0, true);
        windows.into_iter().take(MAX_QUOTES).fold(rates, Rates::off_peak_window)
    }

    /// The fee of one search, where it is the same whatever the size of its context.
    fn search(&mut self, entry: &Object<'_>) -> Option<Usd> {
        let fees = entry.object("search_context_cost_per_query")?;
        let mut same = None;
        for (field, value) in fees.iter().filter(|(_, value)| *value != "null") {
            let fee = self.amount(field, value, ABSURD_FEE)?;
            if same.is_some_and(|have| have != fee) {
                return None;
            }
            same = Some(fee);
        }
        same
    }

    /// A service called `fast` at a multiple of every standard rate.
    fn fast(&mut self, rates: Rates, text: &str) -> Rates {
        let Some(times) =
            scaled(text, 3).and_then(|times| u64::try_from(times).ok()).filter(|n| (1..=100_000).contains(n))
        else {
            self.warnings.reject(self.model, "provider_specific_entry.fast", "it is no sensible multiple");
            return rates;
        };
        let mut all = rates;
        let standard: Vec<_> =
            all.quotes_mut().iter().filter(|quote| quote.service.is_none()).cloned().collect();
        for quote in standard {
            let Some(rate) = quote.rate.checked_mul(times) else { continue };
            let rate = Usd::from_pico((rate.pico() + 500) / 1000);
            all = all.state(Quote { service: tier(Some("fast")), rate, ..quote });
        }
        all
    }

    /// An amount from its decimal text, whole picodollars; `None` with a warning when it makes no sense.
    fn amount(&mut self, field: &str, text: &str, absurd: Usd) -> Option<Usd> {
        let quoted = json::string(text);
        let digits = quoted.as_deref().unwrap_or(text).trim();
        let why = match scaled(digits, 12).map(Usd::from_pico) {
            None => "it is no finite number",
            Some(amount) if amount < Usd::ZERO => "it is negative",
            Some(amount) if amount > absurd => "it is more than anything costs; the unit is dollars for one",
            Some(amount) => {
                let finer = scaled(digits, 24);
                self.warnings.rounded += usize::from(finer != amount.pico().checked_mul(1_000_000_000_000));
                return Some(amount);
            }
        };
        self.warnings.reject(self.model, field, why);
        None
    }
}

/// In chat entries a zero input price is a placeholder as often as a gift, so it is no price; and what else is zero
/// then is none either.
fn without_placeholders(rates: &mut Rates) {
    let zero_input = |quote: &Quote| {
        quote.what == What::Input && quote.above == 0 && quote.service.is_none() && quote.rate == Usd::ZERO
    };
    if rates.quotes_mut().iter().any(zero_input) {
        rates.quotes_mut().retain(|quote| quote.rate != Usd::ZERO);
    }
}

/// What a field's rate is for and where it holds; `None` for fields that are no rate per token. The amount is yet
/// to be filled in.
fn place(field: &str) -> Option<Quote> {
    let named = |(name, what): &(&'static str, What)| Some((field.strip_prefix(name)?, *what));
    // The order of what follows: how long a write lasts, the threshold, the service.
    let (mut rest, mut what) =
        RATES.iter().filter_map(named).find(|(rest, _)| rest.is_empty() || rest.starts_with('_'))?;
    if what == What::Write {
        for long in ["_above_1hr", "_above_12hr"] {
            if let Some(after) = rest.strip_prefix(long) {
                (rest, what) = (after, What::WriteLong);
            }
        }
    }
    let mut above = 0;
    if let Some(after) = rest.strip_prefix("_above_") {
        let (thousands, after) = after.split_once("k_tokens")?;
        above = thousands.parse::<u64>().ok()?.checked_mul(1000)?;
        rest = after;
    }
    let service = match rest {
        "" => None,
        rest => {
            let name = rest.strip_prefix('_').filter(|name| SERVICES.contains(name))?;
            tier(Some(name))
        }
    };
    Some(Quote { what, above, service, off_peak: false, rate: Usd::ZERO })
}

/// `{hours_utc: "a-b" or ["a-b", ..], weekdays: [1..7]}`.
fn windows(text: &str) -> Option<Vec<Window>> {
    let object = Object::parse(text)?;
    let hours = object.get("hours_utc")?;
    let texts = json::elements(hours).unwrap_or_else(|| vec![hours]);
    // An empty list is no restriction.
    let days = match object
        .some("weekdays")
        .filter(|days| json::elements(days).is_none_or(|days| !days.is_empty()))
    {
        Some(days) => {
            let day = |text: &str| {
                json::whole(text).and_then(|day| u8::try_from(day).ok()).filter(|day| (1..=7).contains(day))
            };
            Some(json::elements(days)?.into_iter().map(day).collect::<Option<Vec<_>>>()?)
        }
        None => None,
    };
    let read = |text: &str| {
        let window = json::string(text)?.parse::<Window>().ok()?;
        Some(days.iter().fold(window, |window, days| window.on(days.iter().copied())))
    };
    texts.into_iter().map(read).collect()
}

/// `text` with bare `NaN` and `Infinity`, which some writers of JSON emit, made strings: the number is refused then
/// and the rest of the file is read.
fn quote_non_numbers(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    let (mut rest, mut in_string) = (text, false);
    while let Some(first) = rest.chars().next() {
        let taken = if in_string {
            match first {
                '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
                _ => first.len_utf8(),
            }
        } else {
            let word = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| rest.starts_with(word));
            if let Some(word) = word {
                out.push('"');
                out.push_str(word);
                out.push('"');
                rest = &rest[word.len()..];
                continue;
            }
            first.len_utf8()
        };
        in_string ^= first == '"';
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::price::{CostState, PriceTable, Terms, Usage};

    fn usd(table: &PriceTable, model: &str, usage: Usage, terms: &Terms) -> Option<String> {
        table.cost(model, &usage, terms).usd.map(|usd| usd.to_string())
    }

    fn plain(table: &PriceTable, model: &str, usage: Usage) -> Option<String> {
        usd(table, model, usage, &Terms::default())
    }

    #[test]
    fn numbers_of_every_spelling_are_read_from_their_text() {
        let table = PriceTable::from_litellm(
            br#"{"a": {"mode": "chat", "input_cost_per_token": 3.0001999999999996e-07, "output_cost_per_token": 1E-6,
                       "cache_read_input_token_cost": "4e-8", "prompt_cache_min_tokens": 4096.0, "max_input_tokens": 1e5,
                       "max_output_tokens": 100000}}"#,
        )
        .unwrap();
        assert_eq!(plain(&table, "a", Usage::of(1_000_000, 0)).as_deref(), Some("0.30002"));
        assert_eq!(plain(&table, "a", Usage::of(1_000_000, 0).with_read(1_000_000)).as_deref(), Some("0.04"));
        assert_eq!(table.cache_minimum("a"), Some(4096));
        assert_eq!(
            (table.max_input("a"), table.max_output("a")),
            (Some(100_000), None),
            "the window is no cap"
        );
    }

    #[test]
    fn suffixes_say_how_long_how_much_and_in_which_service() {
        let table = PriceTable::from_litellm(
            br#"{"a": {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
                "cache_creation_input_token_cost": 2e-6, "cache_creation_input_token_cost_above_1hr": 3e-6,
                "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 4e-6,
                "cache_creation_input_token_cost_above_1hr_above_200k_tokens_priority": 5e-6,
                "input_cost_per_token_batches": 5e-7, "input_cost_per_token_cache_hit": 9, "input_cost_per_token_odd": 9}}"#,
        )
        .unwrap();
        let long = |n| Usage { write_long: Some(n), ..Usage::of(n, 0) };
        let priority = Terms::default().with_service_tier(Some("priority".into()));
        assert_eq!(plain(&table, "a", long(1000)).as_deref(), Some("0.003"));
        assert_eq!(plain(&table, "a", long(200_001)).as_deref(), Some("0.800004"));
        assert_eq!(usd(&table, "a", long(200_001), &priority).as_deref(), Some("1.000005"));
        let batch = Terms::default().with_service_tier(Some("batch".into()));
        assert_eq!(usd(&table, "a", Usage::of(1000, 0), &batch).as_deref(), Some("0.0005"));
        assert_eq!(table.warnings().unknown_fields, 2);
    }

    #[test]
    fn tiers_windows_and_multiples_are_read() {
        let table = PriceTable::from_litellm(
            br#"{"a": {"mode": "chat", "tiered_pricing": [
                    {"range": [0, 32000.0], "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6},
                    {"range": [32000.0, 128000], "input_cost_per_token": 2e-6, "output_cost_per_token": 2e-6}]},
                 "b": {"mode": "chat", "input_cost_per_token": 2e-6, "output_cost_per_token": 2e-6,
                    "off_peak_pricing": {"input_cost_per_token": 1e-6,
                        "windows": [{"hours_utc": ["16:30-00:30"], "weekdays": [5.0]}, {"hours_utc": "9-10"}]}},
                 "c": {"mode": "chat", "input_cost_per_token": 4e-6, "output_cost_per_token": 2e-6,
                    "provider_specific_entry": {"us": 1.1, "fast": 2.5}}}"#,
        )
        .unwrap();
        assert_eq!(plain(&table, "a", Usage::of(32_000, 0)).as_deref(), Some("0.032"));
        assert_eq!(plain(&table, "a", Usage::of(32_001, 0)).as_deref(), Some("0.064002"));
        assert_eq!(table.cliff("a"), Some(32_000));
        let day = 86_400_000;
        assert_eq!(
            usd(&table, "b", Usage::of(1000, 0), &Terms::at(2 * day - 1)).as_deref(),
            Some("0.001"),
            "Friday"
        );
        assert_eq!(
            usd(&table, "b", Usage::of(1000, 0), &Terms::at(day - 1)).as_deref(),
            Some("0.002"),
            "Thursday"
        );
        assert_eq!(table.warnings().rejected, 1, "{:?}", table.warnings().examples);
        let fast = Terms::default().with_service_tier(Some("fast".into()));
        assert_eq!(usd(&table, "c", Usage::of(1000, 0), &fast).as_deref(), Some("0.01"));
        assert_eq!(usd(&table, "b", Usage::of(1000, 0), &fast).as_deref(), Some("0.002"), "none of its own");
    }

    #[test]
    fn two_zeros_are_no_prices_and_the_others_are() {
        let table = PriceTable::from_litellm(
            br#"{"write": {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6,
                    "cache_creation_input_token_cost": 0.0, "cache_read_input_token_cost": 0.0},
                 "free": {"mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0},
                 "embed": {"mode": "embedding", "input_cost_per_token": 0, "output_cost_per_token": 0}}"#,
        )
        .unwrap();
        let written = Usage { write_short: Some(1000), ..Usage::of(1000, 0) };
        assert_eq!(plain(&table, "write", written).as_deref(), Some("0.001"), "no write fee: the input rate");
        assert_eq!(plain(&table, "write", Usage::of(1000, 0).with_read(1000)).as_deref(), Some("0"));
        let cost = table.cost("free", &Usage::of(1, 1), &Terms::default());
        assert_eq!((cost.usd, cost.state), (None, CostState::Unpriced), "free and unknown look alike");
        assert_eq!(plain(&table, "embed", Usage { output: None, ..Usage::of(9, 0) }).as_deref(), Some("0"));
    }

    #[test]
    fn one_odd_number_or_entry_costs_neither_the_entry_nor_the_file() {
        let table = PriceTable::from_litellm(
            br#"{"sample_spec": {"mode": "one of: chat", "input_cost_per_token": 0.0}, "rules": [1], "note": "x", "flat": {},
                 "nan": {"mode": "chat", "input_cost_per_token": NaN, "output_cost_per_token": 1e-6, "source": "a \"NaN\""},
                 "less": {"mode": "chat", "input_cost_per_token": -1e-6, "output_cost_per_token": Infinity},
                 "much": {"mode": "chat", "input_cost_per_token": 2.5, "output_cost_per_token": 1e-6},
                 "text": {"mode": "chat", "input_cost_per_token": "cheap", "output_cost_per_token": [1]},
                 "twice": {"mode": "chat", "input_cost_per_token": 1e-6, "input_cost_per_token": 2e-6, "output_cost_per_token": 1e-6},
                 "same": {"mode": "chat", "input_cost_per_token": 1e-6, "input_cost_per_token": 1e-6},
                 "clash": {"mode": "chat", "input_cost_per_token": 1e-6}, "clash": {"mode": "chat", "input_cost_per_token": 2e-6}}"#,
        )
        .unwrap();
        let output = |model| plain(&table, model, Usage::of(0, 1_000_000));
        assert_eq!(output("nan").as_deref(), Some("1"));
        assert_eq!(output("much").as_deref(), Some("1"));
        assert_eq!(output("twice").as_deref(), Some("1"));
        for model in ["nan", "less", "much", "text", "twice"] {
            let cost = table.cost(model, &Usage::of(1, 0), &Terms::default());
            assert_eq!(cost.state, CostState::Unpriced, "{model}");
        }
        assert_eq!(plain(&table, "same", Usage::of(1_000_000, 0)).as_deref(), Some("1"));
        assert!(table.rates("clash").is_none());
        let warnings = table.warnings();
        assert_eq!((warnings.skipped, warnings.rejected), (4, 8), "{warnings:?}");
        assert!(warnings.examples.iter().any(|line| line == "less: input_cost_per_token: it is negative"));
    }

    #[test]
    fn a_file_that_is_no_list_is_refused_with_the_way_out() {
        for bytes in [
            &b""[..],
            b"[]",
            b"1",
            b"{}",
            b"\xff{}",
            b"{\"a\": {\"mode\": \"chat\"}}",
            b"{\"a\": {\"input_cost_per_token\": 1e-6}} {}",
            b"{\"a\": {\"input_cost_per_token\": 1e-6}",
        ] {
            let error = PriceTable::from_litellm(bytes).unwrap_err();
            assert!(error.to_string().contains("model_prices_and_context_window.json"), "{error}");
        }
        let deep = format!("{{\"a\": {}", "[".repeat(200_000));
        assert!(PriceTable::from_litellm(deep.as_bytes()).is_err());
        assert!(PriceTable::from_litellm(b"\xEF\xBB\xBF{\"a\": {\"input_cost_per_token\": 1e-6}}").is_ok());
    }

    fn json(depth: u32) -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,12})?",
            Just("NaN".to_owned()),
            Just("-Infinity".to_owned()),
            Just("null".to_owned()),
            Just("\"16:30-00:30\"".to_owned()),
            Just("\"\\\"NaN\"".to_owned()),
            Just("\"chat\"".to_owned()),
        ];
        leaf.prop_recursive(depth, 64, 6, |inner| {
            let name = prop_oneof![
                "[a-z_]{0,8}",
                Just("mode".to_owned()),
                Just("input_cost_per_token".to_owned()),
                "(input_cost_per_token|cache_creation_input_token_cost)(_above_1hr)?_above_[0-9]{1,22}k_tokens(_flex)?",
                Just("tiered_pricing".to_owned()),
                Just("range".to_owned()),
                Just("off_peak_pricing".to_owned()),
                Just("windows".to_owned()),
                Just("hours_utc".to_owned()),
                Just("weekdays".to_owned()),
                Just("provider_specific_entry".to_owned()),
                Just("fast".to_owned()),
                Just("search_context_cost_per_query".to_owned()),
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(","))),
                proptest::collection::vec((name, inner), 0..6).prop_map(|all| {
                    let all: Vec<_> = all.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                    format!("{{{}}}", all.join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn any_json_is_read_or_refused(entry in json(4), at in any::<i64>(), tokens in any::<u64>()) {
            let text = format!("{{\"a\":{entry},\"b\":{{\"input_cost_per_token\":1e-6}}}}");
            let table = PriceTable::from_litellm(text.as_bytes()).expect("it holds one model");
            let cost = table.cost("a", &Usage::of(tokens, tokens), &Terms::at(at));
            prop_assert!(cost.usd.is_none_or(|usd| usd.pico() >= 0));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = PriceTable::from_litellm(&bytes);
        }
    }
}
