//! Calibration over many calls, and across restarts.
#![cfg(feature = "tiktoken")]
#![expect(clippy::disallowed_methods, reason = "`json!` writes the bodies of these tests")]

use std::fs;

use serde_json::{Value, json};
use thrifty::call::Call;
use thrifty::dialect::Usage;
use thrifty::tokens::{Accuracy, Calibration, Counter, Expected, Learned};

fn words(n: usize) -> String {
    let some = ["The ferry", " left the", " harbour at", " noon, and", " nobody waved."];
    (0..n).map(|i| some[(i * 7 + n) % 5]).collect()
}

fn claude(model: &str, text: &str) -> Call {
    let body = json!({"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": text}]});
    Call::post("https://api.anthropic.com/v1/messages", body.to_string())
}

fn openai(mut body: Value) -> Call {
    body["model"] = "gpt-4o".into();
    Call::post("https://api.openai.com/v1/chat/completions", body.to_string())
}

fn expected(call: &Call) -> Expected {
    Expected::of(call, &Counter::default().uncalibrated(call)).expect("a call to learn from")
}

/// A provider that bills this many thousandths of our estimate, with a few hundredths of noise.
fn bill(calibration: &Calibration, call: &Call, thousandths: u64, i: u64) -> u64 {
    let expected = expected(call);
    let noise = 980 + i * 37 % 41;
    let billed = expected.tokens() * thousandths * noise / 1_000_000;
    assert_eq!(calibration.learn(&expected, None, &Usage::of(billed, 1)), Learned::Taken);
    billed
}

#[test]
fn the_stated_error_holds_for_nineteen_of_twenty_later_calls() {
    let calibration = Calibration::default();
    let counter = Counter::default().calibrated(calibration.clone());
    for i in 0..64 {
        bill(&calibration, &claude("claude-opus-5", &words(200 + i)), 870, i as u64);
    }
    let known = &calibration.scales()[0];
    assert_eq!((known.dialect.as_str(), known.model.as_str()), ("anthropic-messages", "claude-opus-5"));
    assert!(known.scale.abs_diff(870_000) < 20_000, "{known}");
    let (median, p95) = (known.median_error.expect("an error"), known.p95_error.expect("an error"));
    assert!(median <= p95 && p95 < 50_000, "{known}");
    let mut within = 0;
    for i in 64..164 {
        let call = claude("claude-opus-5", &words(200 + i));
        let found = counter.count(&call);
        within += usize::from(found.at_most >= bill(&calibration, &call, 870, i as u64));
    }
    assert!(within >= 95, "{within} of 100 were within the bound");
}

#[test]
fn the_margin_is_a_tenth_before_sixteen_calls() {
    let calibration = Calibration::default();
    let counter = Counter::default().calibrated(calibration.clone());
    let call = claude("claude-opus-5", &words(300));
    for i in 0..15 {
        calibration.learn(&expected(&call), None, &Usage::of(expected(&call).tokens() * 12 / 10, 1));
        let found = counter.count(&call);
        assert!(found.at_most >= found.likely + found.likely / 10, "after {i} calls");
    }
    calibration.learn(&expected(&call), None, &Usage::of(expected(&call).tokens() * 12 / 10, 1));
    let found = counter.count(&call);
    assert!(found.at_most < found.likely + found.likely / 10, "sixteen calls without an error are believed");
}

#[test]
fn it_goes_on_after_a_restart_where_it_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("receipts.calibration");
    let call = claude("claude-opus-5", &words(300));
    let before = {
        let calibration = Calibration::open(&path).expect("a new file");
        for i in 0..100 {
            bill(&calibration, &call, 900, i);
        }
        calibration.scales()
    };
    let again = Calibration::open(&path).expect("the same file");
    assert_eq!(again.scales(), before);

    // A line torn by a crash is left out, and those after it are whole.
    let text = fs::read_to_string(&path).expect("text");
    fs::write(&path, &text[..text.len() - 9]).expect("a shorter file");
    let torn = Calibration::open(&path).expect("the same file");
    assert_eq!(torn.scales()[0].samples, 99);
    bill(&torn, &call, 900, 100);
    assert_eq!(Calibration::open(&path).expect("the same file").scales()[0].samples, 100);
    assert!(!text.contains("ferry"), "no prompt is in it");
}

#[test]
fn what_was_learned_on_other_factors_is_forgotten_and_other_files_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old");
    let line = r#"{"dialect":"anthropic-messages","model":"m","samples":9,"scale":2000000,"formula":false,"ratio":1,"error":1}"#;
    fs::write(&path, format!("{{\"thrifty\":\"calibration\",\"factors\":0}}\n{line}\n")).expect("a file");
    assert!(Calibration::open(&path).expect("an older file").scales().is_empty());
    let other = folder.path().join("other");
    fs::write(&other, "my notes\n").expect("a file");
    let error = Calibration::open(&other).expect_err("it is another file");
    assert_eq!(error.kind(), thrifty::Kind::Store);
    assert_eq!(fs::read_to_string(&other).expect("text"), "my notes\n");
    Calibration::open(folder.path().join("no/such")).expect_err("no such folder");
}

#[test]
fn a_formula_stays_until_it_has_drifted_and_then_is_calibrated() {
    let calibration = Calibration::default();
    let counter = Counter::default().calibrated(calibration.clone());
    let call = openai(json!({"messages": [{"role": "user", "content": words(200)}]}));
    let right = counter.count(&call);
    assert_eq!(right.accuracy, Accuracy::Formula);
    for _ in 0..40 {
        calibration.learn(&expected(&call), Some("gpt-4o-2024-08-06"), &Usage::of(right.likely + 1, 1));
    }
    assert_eq!(counter.count(&call), right, "one token more is within a formula");
    for _ in 0..16 {
        calibration.learn(&expected(&call), None, &Usage::of(right.likely * 21 / 20, 1));
    }
    let found = counter.count(&call);
    assert!(calibration.scales()[0].drifts);
    assert_eq!(found.accuracy, Accuracy::Calibrated);
    assert!(found.likely > right.likely && found.at_most >= right.likely * 21 / 20, "{}", found.at_most);
}

#[test]
fn calls_that_teach_nothing_are_passed_over() {
    let calibration = Calibration::default();
    let call = claude("claude-opus-5", &words(300));
    let expected = expected(&call);
    for (answered, usage) in
        [(Some("claude-haiku-4-5"), Usage::of(900, 1)), (None, Usage::default()), (None, Usage::of(49, 1))]
    {
        assert!(matches!(calibration.learn(&expected, answered, &usage), Learned::Skipped(_)));
    }
    assert!(calibration.scales().is_empty());

    let text = words(300);
    let dull = |uri: &str, body: Value| {
        let call = Call::post(uri, body.to_string());
        assert!(Expected::of(&call, &Counter::default().count(&call)).is_none(), "{uri}");
    };
    let user = json!([{"role": "user", "content": text}]);
    dull(
        "https://api.openai.com/v1/chat/completions",
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}),
    );
    dull("https://api.openai.com/v1/chat/completions", json!({"messages": user}));
    dull(
        "https://api.openai.com/v1/responses",
        json!({"model": "gpt-5.5", "input": text, "previous_response_id": "r"}),
    );
    dull(
        "https://api.openai.com/v1/responses",
        json!({"model": "gpt-5.5", "input": text, "tools": [{"type": "web_search"}]}),
    );
    dull(
        "https://api.openai.com/v1/chat/completions",
        json!({"model": "gpt-4o", "messages": [{"role": "user",
        "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]}]}),
    );
}

#[test]
fn models_and_formats_are_kept_apart_and_bounded() {
    let calibration = Calibration::default();
    let counter = Counter::default().calibrated(calibration.clone());
    let call = claude("claude-opus-5", &words(300));
    for i in 0..20 {
        bill(&calibration, &call, 1500, i);
    }
    let other = claude("claude-sonnet-4-5", &words(300));
    assert_eq!(counter.count(&other), counter.uncalibrated(&other));
    let dated = claude("claude-opus-5-20260801", &words(300));
    assert_ne!(counter.count(&dated), counter.uncalibrated(&dated), "a date is no other model");
    for i in 0..1_200 {
        let call = claude(&format!("model-{i}"), &words(300));
        calibration.learn(&expected(&call), None, &Usage::of(900, 1));
    }
    assert_eq!(calibration.scales().len(), 1_000);
}

#[test]
fn a_calibrated_call_fits_exactly_if_its_upper_bound_does() {
    let calibration = Calibration::default();
    let counter = Counter::default().calibrated(calibration.clone());
    for thousandths in [600, 2_900] {
        let call = claude("claude-opus-5", &words(120));
        for i in 0..30 {
            bill(&calibration, &call, thousandths, i);
        }
        let at_most = counter.count(&call).at_most;
        for budget in [at_most / 2, at_most - 1, at_most, at_most + 1, at_most * 2] {
            assert_eq!(counter.fits(&call, budget), at_most <= budget, "{at_most} of {budget}");
        }
    }
}
