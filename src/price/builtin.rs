//! The table that ships with this version.

use super::rates::{Quote, tier};
use super::table::Warnings;
use super::{PriceTable, Rates, Usd, What, Window};

const TEXT: &str = include_str!("builtin.txt");
const DATE: &str = "2026-11-23";

pub(super) fn table() -> PriceTable {
    let lines = TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let models = lines.map(|text| line(text).expect("a test reads every line")).collect();
    PriceTable::of(
        "builtin",
        Some(DATE),
        models,
        *blake3::hash(TEXT.as_bytes()).as_bytes(),
        Warnings::default(),
    )
}

/// Id, mode, page, then fields as the head of the file has them.
fn line(text: &str) -> Option<(Box<str>, Rates)> {
    let mut words = text.split_ascii_whitespace();
    let (model, mode, page) = (words.next()?, words.next()?, words.next()?);
    let mut rates = Rates::default().from_page(page);
    if mode == "embedding" {
        rates.generates_nothing();
    }
    let (mut max_input, mut max_output) = (None, None);
    for word in words {
        let (field, value) = word.split_once('=')?;
        match field {
            "window" => rates = rates.off_peak_window(window(value)?),
            "search" => rates = rates.per_search(value.parse().ok()?),
            "max_input" => max_input = Some(value.parse().ok()?),
            "max_output" => max_output = Some(value.parse().ok()?),
            "cache_from" => rates = rates.cached_from(value.parse().ok()?),
            _ => rates = rates.state(quote(field, value)?),
        }
    }
    Some((model.into(), rates.limits(max_input, max_output).follow_parents()))
}

fn quote(field: &str, value: &str) -> Option<Quote> {
    let (field, off_peak) = field.strip_suffix('~').map_or((field, false), |field| (field, true));
    let (field, service) = field.split_once('@').map_or((field, None), |(field, name)| (field, Some(name)));
    let (field, above) = match field.split_once('>') {
        Some((field, above)) => (field, above.parse().ok()?),
        None => (field, 0),
    };
    let what = What::ALL.into_iter().find(|what| what.name() == field)?;
    Some(Quote { what, above, service: tier(service), off_peak, rate: Usd::per_million(value).ok()? })
}

fn window(text: &str) -> Option<Window> {
    let (hours, days) = text.split_once('/').map_or((text, None), |(hours, days)| (hours, Some(days)));
    let window: Window = hours.parse().ok()?;
    Some(match days {
        Some(days) => window.on(days.bytes().map(|digit| digit.wrapping_sub(b'0'))),
        None => window,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::{CostState, Terms, Usage};

    #[test]
    fn every_line_is_read_and_priced_and_names_its_page() {
        let lines: Vec<_> = TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        for text in &lines {
            let (model, rates) = line(text).unwrap_or_else(|| panic!("{text}"));
            assert!(
                rates.is_priced() && rates.source().is_some_and(|page| page.starts_with("https://")),
                "{model}"
            );
        }
        assert_eq!(PriceTable::builtin().len(), lines.len(), "no model twice");
        assert!(lines.len() >= 60);
        assert!(TEXT.contains(DATE), "the head of the file has the day");
    }

    #[test]
    fn a_long_prompt_of_haiku_5_5_costs_five_times_as_much() {
        let table = PriceTable::builtin();
        assert_eq!(table.cliff("claude-haiku-5-5"), Some(100_000));
        let usd =
            |input| table.cost("claude-haiku-5-5", &Usage::of(input, 0), &Terms::default()).usd.unwrap();
        assert_eq!((usd(100_000).to_string(), usd(100_001).to_string()), ("0.01".into(), "0.0500005".into()));
        assert_eq!(table.cliff("claude-haiku-4-5"), None);
    }

    #[test]
    fn deepseek_costs_half_off_its_peak() {
        let table = PriceTable::builtin();
        let usd =
            |at_ms| table.cost("deepseek-v4-pro", &Usage::of(1_000_000, 0), &Terms::at(at_ms)).usd.unwrap();
        // 2026-11-23 is a Monday.
        let monday = 1_795_392_000_000;
        let hour = 3_600_000;
        for (at, want) in [
            (monday, "0.66"),
            (monday + hour, "1.32"),
            (monday + 4 * hour, "0.66"),
            (monday + 9 * hour, "1.32"),
            (monday - hour, "0.66"),
            (0, "1.32"),
        ] {
            assert_eq!(usd(at).to_string(), want, "{at}");
        }
    }

    #[test]
    fn a_dated_id_with_a_price_of_its_own_keeps_it() {
        let table = PriceTable::builtin();
        let usd = |model| {
            table.cost(model, &Usage::of(1_000_000, 0), &Terms::default()).usd.map(|usd| usd.to_string())
        };
        assert_eq!(usd("gpt-4o-2024-05-13").as_deref(), Some("5"));
        assert_eq!(usd("gpt-4o-2024-08-06").as_deref(), Some("2.5"));
        assert_eq!(table.cost("gpt-4o-like", &Usage::of(1, 1), &Terms::default()).state, CostState::Missing);
    }
}
