//! Prices against recorded usages and a public price list. The data is optional: `THRIFTY_DATA` names its folder.
#![expect(clippy::unwrap_used, reason = "data that cannot be read fails the test")]

use std::path::PathBuf;

use thrifty::call::json::{self, Object};
use thrifty::price::{CostState, PriceTable, Rates, Terms, Usage, Usd, What, Window};

/// The text of an optional file, or one line on why the test has nothing to do.
fn data(name: &str) -> Option<String> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let path = std::env::var_os("THRIFTY_DATA").map_or_else(default, PathBuf::from).join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("skipped: there is no {}; THRIFTY_DATA names the folder", path.display());
    }
    text
}

/// The rates of a vector: a string, or `{base, tiers: [{start, price}]}`, by name.
fn rates(text: &str) -> Rates {
    let object = Object::parse(text).expect("rates are an object");
    let mut rates = Rates::default();
    for (name, value) in object.iter() {
        let name = name.strip_suffix("_mtok").unwrap_or(name);
        let thousandth = |text: &str| {
            let thousand: Usd = text.parse().expect("a fee for a thousand");
            assert_eq!(thousand.pico() % 1000, 0, "{text} for a thousand is whole for one");
            Usd::from_pico(thousand.pico() / 1000)
        };
        let what = match name {
            "input" => What::Input,
            "output" => What::Output,
            "cache_read" => What::Read,
            "cache_write" => What::Write,
            "cache_write_1h" => What::WriteLong,
            "input_audio" => What::InputAudio,
            "cache_audio_read" => What::ReadAudio,
            "output_image" => What::OutputImage,
            "web_searches_kcount" => {
                rates = rates.per_search(thousandth(&json::string(value).unwrap()));
                continue;
            }
            "per_1k_requests" => {
                rates = rates.per_request(thousandth(&json::string(value).unwrap()));
                continue;
            }
            // `output_above_200000_priority`
            name => {
                let (kind, rest) =
                    name.split_once("_above_").unwrap_or_else(|| panic!("a rate named {name}"));
                let (above, service) = rest.split_once('_').map_or((rest, None), |(a, s)| (a, Some(s)));
                let what = if kind == "input" { What::Input } else { What::Output };
                let (above, rate) = (above.parse().unwrap(), per_million(value));
                rates = match service {
                    Some(service) => rates.above_served(above, service, what, rate),
                    None => rates.above(above, what, rate),
                };
                continue;
            }
        };
        match Object::parse(value) {
            None => rates = rates.with(what, per_million(value)),
            Some(tiers) => {
                rates = rates.with(what, per_million(tiers.get("base").unwrap()));
                for tier in tiers.elements("tiers").unwrap() {
                    let tier = Object::parse(tier).unwrap();
                    let rate = per_million(tier.get("price").unwrap());
                    rates = rates.above(tier.u64("start").unwrap(), what, rate);
                }
            }
        }
    }
    rates
}

fn per_million(value: &str) -> Usd {
    Usd::per_million(&json::string(value).expect("a rate is a string")).expect("and a decimal")
}

/// The normal form of the vectors, where a count that is 0 is left out.
fn usage(text: &str) -> Usage {
    let object = Object::parse(text).expect("a usage is an object");
    let count = |name| object.u64(name);
    let mut usage = Usage::of(count("input_tokens").unwrap_or(0), count("output_tokens").unwrap_or(0));
    usage.read = count("cache_read_tokens");
    usage.write_long = count("cache_write_1h_tokens");
    usage.write_short = count("cache_write_tokens").map(|all| all - usage.write_long.unwrap_or(0));
    usage.reasoning = count("output_reasoning_tokens");
    usage.input_audio = count("input_audio_tokens");
    usage.input_image = count("input_image_tokens");
    usage.input_video = count("input_video_tokens");
    usage.read_audio = count("cache_audio_read_tokens");
    usage.read_image = count("cache_image_read_tokens");
    usage.read_video = count("cache_video_read_tokens");
    usage.output_image = count("output_image_tokens");
    usage.output_audio = count("output_audio_tokens");
    usage.searches = count("web_searches");
    usage
}

fn usd(object: &Object<'_>, name: &str) -> Option<Usd> {
    object.str(name).map(|text| text.parse().expect("an amount is a decimal"))
}

#[test]
fn every_recorded_usage_costs_exactly_what_it_should() {
    let Some(text) = data("cost_vectors_public.json") else { return };
    let vectors = Object::parse(&text).unwrap();
    let mut wrong = Vec::new();
    let recorded = vectors.elements("recorded_usages").unwrap();
    for (at, vector) in recorded.iter().enumerate() {
        let vector = Object::parse(vector).unwrap();
        let rates = rates(vector.get("rates_usd_per_mtok").unwrap());
        let cost = rates.cost(&usage(vector.get("normalized_usage").unwrap()), &Terms::default());
        let want = ["expected_input_usd", "expected_output_usd", "expected_total_usd"]
            .map(|name| usd(&vector, name));
        if [cost.input(), cost.output(), cost.usd] != want {
            wrong.push(format!("{at}: {cost:?} is not {want:?}"));
        }
    }
    println!("recorded usages: {} of {} exact", recorded.len() - wrong.len(), recorded.len());
    assert!(!recorded.is_empty() && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rule_vector_costs_exactly_what_it_should() {
    let Some(text) = data("cost_vectors_public.json") else { return };
    let vectors = Object::parse(&text).unwrap();
    let rules = vectors.elements("rule_vectors").unwrap();
    for rule in &rules {
        let vector = Object::parse(rule).unwrap();
        let cost = rates(vector.get("rates_usd_per_mtok").unwrap())
            .cost(&usage(vector.get("usage").unwrap()), &Terms::default());
        assert_eq!(cost.state, CostState::Exact, "{rule}");
        assert_eq!(cost.input(), usd(&vector, "expected_input_usd"), "{rule}");
        assert_eq!(cost.output(), usd(&vector, "expected_output_usd"), "{rule}");
        if let Some(total) = usd(&vector, "expected_total_usd") {
            assert_eq!(cost.usd, Some(total), "{rule}");
        }
    }
    println!("rule vectors: {} exact", rules.len());
    assert!(!rules.is_empty());
}

#[test]
fn every_rate_window_and_refusal_is_chosen_as_it_should() {
    let Some(text) = data("cost_vectors_public.json") else { return };
    let vectors = Object::parse(&text).unwrap();
    let rules = vectors.elements("rate_selection_rules").unwrap();
    for rule in &rules {
        let vector = Object::parse(rule).unwrap();
        if let Some(windows) = vector.elements("windows_utc") {
            let windows: Vec<Window> =
                windows.into_iter().map(|window| json::string(window).unwrap().parse().unwrap()).collect();
            for case in vector.elements("cases").unwrap() {
                let case = json::elements(case).unwrap();
                let at = time(&json::string(case[0]).unwrap());
                let inside = windows.iter().any(|window| window.contains(at));
                assert_eq!(inside.to_string(), case[1], "{} in {rule}", case[0]);
            }
        } else if vector.get("expected_error").is_some() {
            let cost = Rates::new(Usd::from_pico(1), Usd::from_pico(1))
                .cost(&usage(vector.get("usage").unwrap()), &Terms::default());
            assert_eq!((cost.usd, cost.state), (None, CostState::UsageUnknown), "{rule}");
        } else {
            let rates = rates(vector.get("rates_usd_per_mtok").unwrap());
            let usage = usage(vector.get("usage").unwrap());
            let terms = Terms::default().with_service_tier(vector.str("service_tier").map(Into::into));
            let expected = vector.object("expected_rates").unwrap();
            for (name, rate) in expected.iter() {
                let what = What::ALL.into_iter().find(|what| what.name() == name).unwrap();
                let stated = rates.stated(what, usage.input.unwrap(), &terms);
                assert_eq!(stated, Some(per_million(rate)), "{name} in {rule}");
            }
        }
    }
    println!("rate selection rules: {} as expected", rules.len());
    assert!(!rules.is_empty());
}

/// `HH:MM[:SS[.mmm]]` of some day, in milliseconds.
fn time(text: &str) -> i64 {
    let mut parts = text.split(':');
    let mut whole = || parts.next().map_or(0, |part| part.parse::<i64>().unwrap());
    let minutes = whole() * 60 + whole();
    let (seconds, millis) = parts.next().map_or((0, 0), |part| {
        let (seconds, millis) = part.split_once('.').unwrap_or((part, "0"));
        (seconds.parse::<i64>().unwrap(), millis.parse::<i64>().unwrap())
    });
    86_400_000 + (minutes * 60 + seconds) * 1000 + millis
}

#[test]
fn the_table_that_ships_agrees_with_every_row_of_the_list() {
    let Some(text) = data("prices.csv") else { return };
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let table = PriceTable::builtin();
    let mut rows = 0;
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |name: &str| {
            Some(cells[head.iter().position(|have| *have == name).unwrap()]).filter(|s| !s.is_empty())
        };
        let model = cell("model").unwrap();
        let (rates, alias) = table.find(model).unwrap_or_else(|| panic!("{model} is in the table"));
        assert!(!alias, "{model} by its own id");
        let threshold: u64 = cell("long_ctx_threshold").map_or(0, |text| text.parse().unwrap());
        let rate = |column: &str, what: What, prompt: u64, service: &str| {
            let Some(want) = cell(column) else { return };
            let terms = Terms::default().with_service_tier(Some(service.into()));
            let have = rates.rate(what, prompt, &terms).map(|(rate, _)| rate);
            // A model that generates nothing needs no output rate to be free of one.
            let want = Usd::per_million(want).unwrap();
            assert!(have == Some(want), "{model}: {column} is {have:?} and not {want:?}");
        };
        rate("input", What::Input, 1, "default");
        rate("cached_read", What::Read, 1, "default");
        rate("cache_write", What::Write, 1, "default");
        rate("cache_write_long", What::WriteLong, 1, "default");
        rate("output", What::Output, 1, "default");
        rate("output_reasoning", What::Reasoning, 1, "default");
        rate("batch_input", What::Input, 1, "batch");
        rate("batch_output", What::Output, 1, "batch");
        rate("flex_input", What::Input, 1, "flex");
        rate("priority_input", What::Input, 1, "priority");
        rate("input", What::Input, threshold, "default");
        rate("long_ctx_input", What::Input, threshold + 1, "default");
        rate("long_ctx_output", What::Output, threshold + 1, "default");
        rate("long_ctx_cached_read", What::Read, threshold + 1, "default");
        let count = |column: &str| cell(column).map(|text| text.parse::<u64>().unwrap());
        assert_eq!(rates.cliff(), count("long_ctx_threshold"), "{model}");
        assert_eq!(rates.max_input(), count("max_input_tokens"), "{model}");
        let cap = count("max_output_tokens").filter(|cap| Some(*cap) != count("max_input_tokens"));
        assert_eq!(rates.max_output(), cap, "{model}: equal values are the window");
        assert_eq!(rates.cache_minimum(), count("prompt_cache_min_tokens"), "{model}");
        if let Some(source) = cell("source") {
            assert_eq!(rates.source(), Some(source), "{model}");
        }
        rows += 1;
    }
    println!("prices: {rows} rows agree");
    assert!(rows > 0);
}

// A few cases by hand, so that something is checked without the data.

#[test]
fn a_recorded_anthropic_call_costs_what_its_bill_said() {
    // claude-sonnet-4-5, list price of 2025-11: 3 input, 3.75 written, 15 output.
    let table = PriceTable::builtin();
    let mut usage = Usage::of(12_307, 550);
    usage.write_short = Some(12_304);
    let cost = table.cost("claude-sonnet-4-5-20250929", &usage, &Terms::default());
    assert_eq!(cost.usd, Some("0.054399".parse().unwrap()));
    assert_eq!(cost.items.len(), 3, "fresh, written, generated");
}

#[test]
fn flex_above_a_threshold_without_a_flex_rate_pays_the_standard_one() {
    let per_million = |text| Usd::per_million(text).unwrap();
    let rates = Rates::new(per_million("2"), per_million("10"))
        .served("flex", What::Input, per_million("1"))
        .above(200_000, What::Input, per_million("4"));
    let flex = Terms::default().with_service_tier(Some("flex".into()));
    let cost = |input| rates.cost(&Usage::of(input, 0), &flex).usd.unwrap().to_string();
    assert_eq!((cost(200_000), cost(200_001)), ("0.2".into(), "0.800004".into()));
}

#[test]
fn a_model_goes_by_many_ids_and_never_by_its_neighbours() {
    let table = PriceTable::builtin();
    let same = |id: &str, as_id: &str| {
        assert!(table.rates(id).is_some(), "{id} is known");
        assert_eq!(table.rates(id), table.rates(as_id), "{id} is {as_id}");
    };
    same("openai/gpt-5-mini", "gpt-5-mini");
    same("gpt-5-mini-2025-08-07", "gpt-5-mini");
    same("azure/gpt-5-mini-2025-08-07", "gpt-5-mini");
    same("anthropic/claude-haiku-4-5-20251001", "claude-haiku-4-5");
    same("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5");
    same("vertex_ai/claude-haiku-4-5@20251001", "claude-haiku-4-5");
    same("claude-haiku-4-5@default", "claude-haiku-4-5");
    same("claude-sonnet-5-5-latest", "claude-sonnet-5-5");
    same("models/gemini-2.5-pro", "gemini/gemini-2.5-pro");
    same("gemini-2.5-pro", "gemini/gemini-2.5-pro");
    same("us.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0");
    for id in [
        "gpt-5-mini-turbo",
        "gpt-5-m",
        "xgpt-5-mini",
        "gpt-4",
        "claude-haiku",
        "",
        "ft:gpt-4o-mini-2024-07-18:me::x",
    ] {
        let cost = table.cost(id, &Usage::of(1, 1), &Terms::default());
        assert_eq!((cost.usd, cost.state), (None, CostState::Missing), "{id} is not in the table");
    }
}

#[test]
fn a_public_list_read_at_run_time_prices_like_the_table_that_ships() {
    // Optional: the file of the version the built-in table was made from.
    let Some(path) = std::env::var_os("THRIFTY_LITELLM") else {
        println!("skipped: THRIFTY_LITELLM names no price list");
        return;
    };
    let table = PriceTable::from_litellm(&std::fs::read(path).unwrap()).unwrap();
    println!("{}: {} models, {:?}", table.id(), table.len(), table.warnings());
    let builtin = PriceTable::builtin();
    for (model, ours) in builtin.models() {
        let theirs = table.rates(model).unwrap_or_else(|| panic!("{model} is in the list"));
        for what in What::ALL {
            for prompt in [1, 100_001, 200_001, 272_001] {
                for tier in ["default", "batch", "flex", "priority", "fast"] {
                    for at in [0, 1_795_392_000_000, 1_795_395_600_000] {
                        let terms = Terms::at(at).with_service_tier(Some(tier.into()));
                        let rate = |rates: &Rates| rates.rate(what, prompt, &terms).map(|(rate, _)| rate);
                        assert_eq!(rate(ours), rate(theirs), "{model} {what:?} {prompt} {tier} {at}");
                    }
                }
            }
        }
        assert_eq!(ours.search(), theirs.search(), "{model}");
        assert_eq!(
            (ours.max_input(), ours.cache_minimum()),
            (theirs.max_input(), theirs.cache_minimum()),
            "{model}"
        );
    }
}
