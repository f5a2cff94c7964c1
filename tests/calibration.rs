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
    let line = r#"{"host":"","dialect":"anthropic-messages","model":"m","samples":9,"scale":2000000,"formula":false,"ratio":1,"error":1}"#;
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

/// A call by formula and one with an answer format, which is an estimate, of one model.
fn plain_and_schema() -> [Call; 2] {
    let messages = json!([{"role": "user", "content": words(200)}]);
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    [openai(json!({"messages": messages})), openai(json!({"messages": messages, "response_format": format}))]
}

#[test]
fn estimates_of_a_model_do_not_move_its_counts_by_formula() {
    let calibration = Calibration::default();
    let counter = Counter::default().calibrated(calibration.clone());
    let [plain, schema] = plain_and_schema();
    let (before, estimated) = (counter.count(&plain), counter.count(&schema));
    assert!(before.accuracy.is_exact() && !estimated.accuracy.is_exact());
    for _ in 0..20 {
        calibration.learn(&expected(&schema), None, &Usage::of(estimated.likely * 107 / 100, 1));
    }
    calibration.learn(&expected(&plain), None, &Usage::of(before.likely, 1));
    assert_eq!(counter.count(&plain), before);
    assert!(counter.count(&schema).likely > estimated.likely, "the estimates have moved");
    let known = calibration.scales();
    assert_eq!(
        known.iter().map(|known| (known.formula, known.samples)).collect::<Vec<_>>(),
        [(false, 20), (true, 1)]
    );
}

#[test]
fn a_drift_of_a_formula_stays_found_whatever_the_estimates_say() {
    let calibration = Calibration::default();
    let counter = Counter::default().calibrated(calibration.clone());
    let [plain, schema] = plain_and_schema();
    let billed = expected(&plain).tokens() * 11 / 10;
    for _ in 0..20 {
        calibration.learn(&expected(&plain), None, &Usage::of(billed, 1));
    }
    let drifted = counter.count(&plain);
    assert!(drifted.at_most >= billed);
    let estimate = expected(&schema).tokens();
    assert!(counter.count(&schema).at_most >= estimate * 11 / 10, "the formula's drift is the first guess");
    calibration.learn(&expected(&schema), None, &Usage::of(estimate, 1));
    assert_eq!(counter.count(&plain), drifted);
}

#[test]
fn a_file_with_absurd_figures_breaks_no_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("calibration");
    let most = u64::MAX;
    let line = format!(
        r#"{{"host":"api.anthropic.com","dialect":"anthropic-messages","model":"claude-opus-5","samples":{most},"scale":{most},"formula":false,"ratio":{most},"error":{most}}}"#
    );
    let text = format!("{{\"thrifty\":\"calibration\",\"factors\":1}}\n{}", format!("{line}\n").repeat(20));
    fs::write(&path, text).expect("a file");
    let calibration = Calibration::open(&path).expect("a calibration file");
    let counter = Counter::default().calibrated(calibration.clone());
    let call = claude("claude-opus-5", &words(300));
    let (plain, found) = (counter.uncalibrated(&call), counter.count(&call));
    assert!(found.likely <= plain.likely * 3 && found.at_most >= found.likely, "{found:?}");
    calibration.learn(&expected(&call), None, &Usage::of(plain.likely, 1));
    assert!(counter.count(&call).likely < found.likely);
}

#[test]
fn a_damaged_head_is_kept_beside_and_learned_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("calibration");
    let call = claude("claude-opus-5", &words(300));
    bill(&Calibration::open(&path).expect("a new file"), &call, 900, 1);
    let whole = fs::read(&path).expect("bytes");
    let head = whole.iter().position(|byte| *byte == b'\n').expect("a line");
    let zeroed = [vec![0; head], whole[head..].to_vec()].concat();
    let block = [vec![0; head + 20], whole[head + 20..].to_vec(), whole[head + 1..].to_vec()].concat();
    for damaged in [whole[..10].to_vec(), whole[..head - 3].to_vec(), zeroed, block, vec![0; 4096]] {
        fs::write(&path, &damaged).expect("a file");
        let calibration = Calibration::open(&path).expect("a file that was ours");
        assert!(calibration.scales().is_empty());
        bill(&calibration, &call, 900, 1);
        assert_eq!(Calibration::open(&path).expect("the new file").scales().len(), 1);
        let aside = folder.path().join("calibration.damaged");
        assert_eq!(fs::read(aside).expect("what was there"), damaged);
    }
    for other in ["{\n  \"a\": 1\n}\n", "{\"thrifty\":\"receipts\",\"factors\":1}\n", "\0\0\0\u{18}ftypisom"]
    {
        fs::write(&path, other).expect("a file");
        Calibration::open(&path).expect_err("it is another file");
        assert_eq!(fs::read_to_string(&path).expect("text"), other);
    }
}

#[test]
fn the_file_is_written_anew_only_when_half_of_it_is_stale() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("calibration");
    let lines = |samples: usize| {
        let mut text = String::from("{\"thrifty\":\"calibration\",\"factors\":1}\n");
        for i in 0..300 * samples {
            let (model, n) = (i % 300, i / 300 + 1);
            text.push_str(&format!(
                "{{\"host\":\"api.anthropic.com\",\"dialect\":\"anthropic-messages\",\"model\":\"model-{model}\",\"samples\":{n},\"scale\":1000000,\"formula\":false,\"ratio\":1000000,\"error\":0}}\n"
            ));
        }
        text
    };
    let now = || fs::read_to_string(&path).expect("text");
    // 64 samples of each of 300 models are worth keeping: 19,200 lines.
    let text = lines(127);
    fs::write(&path, &text).expect("a file");
    let calibration = Calibration::open(&path).expect("a calibration file");
    let learn = |i: usize| {
        let call = claude(&format!("model-{i}"), &words(100));
        calibration.learn(&expected(&call), None, &Usage::of(900, 1));
    };
    (0..20).for_each(learn);
    assert!(now().starts_with(&text), "it has only grown");
    assert_eq!(now().lines().count(), 1 + 127 * 300 + 20);
    (20..300).for_each(learn);
    assert_eq!(now().lines().count(), 1 + 128 * 300);
    learn(0);
    assert_eq!(now().lines().count(), 1 + 64 * 300, "half of it was stale");
    learn(1);
    assert_eq!(now().lines().count(), 2 + 64 * 300);
    let before = calibration.scales();
    assert_eq!(Calibration::open(&path).expect("the same file").scales(), before);
    fs::write(&path, lines(129)).expect("a file");
    Calibration::open(&path).expect("a calibration file");
    assert_eq!(now().lines().count(), 1 + 64 * 300);
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

/// Calibration as the layers of a stack do it, in front of the embedded upstream.
#[cfg(feature = "test-util")]
mod in_a_stack {
    use std::sync::{Arc, Mutex};

    use http::StatusCode;
    use thrifty::BoxError;
    use thrifty::budget::{Budget, Window};
    use thrifty::call::{Options, Reply};
    use thrifty::receipt::{Receipt, ReceiptHandle};
    use thrifty::stack::{Stack, StackBuilder};
    use thrifty::testing::{Scripted, Upstream};
    use thrifty::trim::TrimPolicy;
    use tower::{Layer, ServiceExt};

    use super::*;

    /// A provider that bills so many hundredths of what the start factors make of each prompt.
    fn billing(hundredths: u64) -> Upstream {
        Upstream::new().answer_with(move |call| {
            let path = call.parts.uri.path();
            let prompt = Call::post("https://api.anthropic.com/v1/messages", call.doc.bytes().clone());
            let billed = thrifty::tokens::count(&prompt).likely * hundredths / 100;
            if path.ends_with("/count_tokens") {
                return Some(Scripted::body(StatusCode::OK, format!(r#"{{"input_tokens":{billed}}}"#)));
            }
            let model = call.model().unwrap_or_default();
            Some(Scripted::body(
                StatusCode::OK,
                json!({"id": "msg_1", "type": "message", "role": "assistant", "model": model,
                    "content": [{"type": "text", "text": "Yes."}], "stop_reason": "end_turn", "stop_sequence": null,
                    "usage": {"input_tokens": billed, "output_tokens": 3}})
                .to_string(),
            ))
        })
    }

    async fn ask(stack: &Stack, upstream: &Upstream, call: Call) -> Result<Receipt, BoxError> {
        let reply: Reply = stack.layer(upstream.clone()).oneshot(call).await?;
        let receipt = reply.extensions().get::<ReceiptHandle>().and_then(ReceiptHandle::get);
        Ok(receipt.expect("a whole reply").clone())
    }

    fn off(count: u64, billed: u64) -> u64 {
        count.abs_diff(billed) * 1000 / billed
    }

    fn budget() -> Budget {
        Budget::builder().limit("100".parse().expect("dollars")).per(Window::Day).build().expect("a budget")
    }

    type Levers = (&'static str, fn() -> StackBuilder);

    /// The levers that count on the way, and none.
    fn stacks() -> [Levers; 4] {
        [
            ("meter alone", Stack::builder),
            ("trim", || Stack::builder().trim(TrimPolicy::new().with_budget(50_000))),
            ("budget", || Stack::builder().budget(budget())),
            ("both", || Stack::builder().trim(TrimPolicy::new().with_budget(50_000)).budget(budget())),
        ]
    }

    #[tokio::test]
    async fn claude_estimate_does_not_lag() {
        for (levers, builder) in stacks() {
            let (upstream, calibration) = (billing(140), Calibration::default());
            let stack = builder().calibration(calibration.clone()).build().expect("a stack");
            let counter = Counter::default().calibrated(calibration.clone());
            let call = |n: usize| claude("claude-opus-5", &words(200 + n));
            assert!(
                off(counter.count(&call(99)).likely, counter.uncalibrated(&call(99)).likely * 14 / 10) > 200
            );
            for n in 0..20 {
                let receipt = ask(&stack, &upstream, call(n)).await.expect("an answer");
                assert!(receipt.expected.is_some(), "{levers}: call {n} was not expected to cost anything");
            }
            let known = &calibration.scales()[0];
            assert_eq!((known.host.as_str(), known.samples), ("api.anthropic.com", 20), "{levers}");
            let billed = counter.uncalibrated(&call(99)).likely * 14 / 10;
            let found = counter.count(&call(99));
            assert!(off(found.likely, billed) <= 2, "{levers}: {} of {billed}", found.likely);
            assert!(
                found.at_most >= billed && off(found.at_most, billed) < 20,
                "{levers}: {}",
                found.at_most
            );
        }
    }

    #[tokio::test]
    async fn what_was_learned_survives_a_restart_of_the_stack() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("receipts.calibration");
        let upstream = billing(140);
        let call = |n: usize| claude("claude-opus-5", &words(200 + n));
        {
            let calibration = Calibration::open(&file).expect("a new file");
            let stack = Stack::builder().calibration(calibration).build().expect("a stack");
            for n in 0..20 {
                ask(&stack, &upstream, call(n)).await.expect("an answer");
            }
        }
        let again = Calibration::open(&file).expect("the same file");
        let counter = Counter::default().calibrated(again.clone());
        let billed = counter.uncalibrated(&call(50)).likely * 14 / 10;
        assert!(off(counter.count(&call(50)).likely, billed) <= 2);
        assert_eq!(again.scales()[0].samples, 20);
    }

    #[tokio::test]
    async fn hits_failures_and_other_models_teach_nothing() {
        let calibration = Calibration::default();
        let stack = Stack::builder().calibration(calibration.clone()).build().expect("a stack");
        let call = || claude("claude-opus-5", &words(200));
        let upstream = billing(140);
        for _ in 0..5 {
            ask(&stack, &upstream, call()).await.expect("an answer");
        }
        assert_eq!(
            (upstream.calls(), calibration.scales()[0].samples),
            (1, 1),
            "a repeat is no further bill"
        );
        let failing = Upstream::new().answer_with(|_| Some(Scripted::rate_limited()));
        ask(&stack, &failing, claude("claude-opus-5", &words(300))).await.expect("an answer");
        let other = Upstream::new().answer_with(|_| Some(Scripted::own().model("claude-haiku-4-5")));
        ask(&stack, &other, claude("claude-opus-5", &words(301))).await.expect("an answer");
        assert_eq!(calibration.scales().len(), 1);
        assert_eq!(calibration.scales()[0].samples, 1);
    }

    #[tokio::test]
    async fn a_client_that_leaves_at_the_end_marker_has_the_whole_bill() {
        use futures_util::StreamExt;
        use http_body_util::BodyExt;
        use thrifty::call::ReplyBody;

        let event = |value: Value| {
            let name = value["type"].as_str().unwrap_or_default();
            format!("event: {name}\ndata: {value}\n\n")
        };
        let events = [
            event(
                json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
                "model": "claude-opus-5", "content": [], "stop_reason": null, "stop_sequence": null,
                "usage": {"input_tokens": 900, "output_tokens": 1}}}),
            ),
            event(
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ),
            event(
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Yes"}}),
            ),
            event(json!({"type": "content_block_stop", "index": 0})),
            event(
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                "usage": {"output_tokens": 3}}),
            ),
            event(json!({"type": "message_stop"})),
        ];
        for (seen, learned) in [(events.len(), 1), (events.len() - 2, 0)] {
            let calibration = Calibration::default();
            let stack =
                Stack::builder().without_cache().calibration(calibration.clone()).build().expect("a stack");
            let sse = events[..seen].concat();
            let provider = tower::service_fn(move |_: Call| {
                let frame = http_body::Frame::data(bytes::Bytes::from(sse.clone()));
                let frames = futures_util::stream::iter([Ok::<_, BoxError>(frame)])
                    .chain(futures_util::stream::pending());
                let mut reply = Reply::new(ReplyBody::stream(http_body_util::StreamBody::new(frames)));
                reply
                    .headers_mut()
                    .insert("content-type", http::HeaderValue::from_static("text/event-stream"));
                std::future::ready(Ok::<_, BoxError>(reply))
            });
            let body = json!({"model": "claude-opus-5", "max_tokens": 64, "stream": true,
                "messages": [{"role": "user", "content": words(300)}]});
            let call = Call::post("https://api.anthropic.com/v1/messages", body.to_string());
            let mut reply = stack.layer(provider).oneshot(call).await.expect("an answer");
            reply.body_mut().frame().await.expect("a frame").expect("data");
            drop(reply);
            assert_eq!(calibration.scales().len(), learned, "after {seen} events");
        }
    }

    #[tokio::test]
    async fn the_same_model_of_another_provider_is_learned_apart() {
        let calibration = Calibration::default();
        let stack = Stack::builder().calibration(calibration.clone()).build().expect("a stack");
        let at = |host: &str, n: usize| {
            let mut call = claude("claude-opus-5", &words(200 + n));
            call.parts.uri = format!("https://{host}/v1/messages").parse().expect("a URI");
            call
        };
        for n in 0..4 {
            ask(&stack, &billing(140), at("api.anthropic.com", n)).await.expect("an answer");
            ask(&stack, &billing(80), at("proxy.example:8443", n)).await.expect("an answer");
        }
        let known: Vec<(String, u64)> = calibration
            .scales()
            .iter()
            .map(|known| (known.host.clone(), (known.scale + 5_000) / 10_000))
            .collect();
        assert_eq!(known, [("api.anthropic.com".to_owned(), 140), ("proxy.example:8443".to_owned(), 80)]);
    }

    fn talk(turns: usize) -> Call {
        let mut messages = Vec::new();
        for n in 0..turns {
            messages.push(json!({"role": "user", "content": format!("{n} {}", words(40))}));
            messages.push(json!({"role": "assistant", "content": format!("{n} {}", words(30))}));
        }
        messages.push(json!({"role": "user", "content": "And then?"}));
        let body = json!({"model": "claude-opus-5", "max_tokens": 64, "messages": messages});
        Call::post("https://api.anthropic.com/v1/messages", body.to_string())
    }

    #[tokio::test]
    async fn a_drifting_calibration_does_not_move_the_cut() {
        let calibration = Calibration::default();
        let stack = Stack::builder()
            .trim(TrimPolicy::new().with_budget(8_000))
            .calibration(calibration.clone())
            .without_cache()
            .build()
            .expect("a stack");
        let upstream = billing(140);
        for n in 0..40 {
            ask(&stack, &upstream, claude("claude-opus-5", &words(300 + n))).await.expect("an answer");
        }
        // The bills wander by a hundredth either way from here on, and the talk stays as it is.
        let (mut kept, mut scales) = (Vec::new(), Vec::new());
        for n in 0..40 {
            let drifting = billing(if n % 2 == 0 { 139 } else { 141 });
            ask(&stack, &drifting, claude("claude-opus-5", &words(400 + n))).await.expect("an answer");
            scales.push(calibration.scales()[0].scale);
            let asked = Arc::new(Mutex::new(None));
            let seen = asked.clone();
            let provider = billing(140).answer_with(move |call: &Call| {
                *seen.lock().expect("no panic") =
                    call.doc.elements("messages").map(|messages| messages.len());
                Some(Scripted::rate_limited())
            });
            ask(&stack, &provider, talk(150)).await.expect("an answer");
            kept.push(*asked.lock().expect("no panic"));
        }
        scales.dedup();
        kept.dedup();
        assert!(scales.len() > 20, "the calibration moved");
        assert_eq!(kept.len(), 1, "the cut moved with it: {kept:?}");
        assert!(kept[0].is_some_and(|kept| kept < 301), "nothing was cut");
    }

    #[tokio::test]
    async fn the_provider_is_asked_where_the_estimate_cannot_decide_on_a_trim() {
        let upstream = billing(100);
        let stack = |provider: &Upstream| {
            Stack::builder()
                .trim(TrimPolicy::new())
                .count_endpoint(provider.clone())
                .without_cache()
                .build()
                .expect("a stack")
        };
        let count = thrifty::tokens::count(&talk(20));
        let with = |budget: u64| talk(20).with(Options::new().budget(budget));
        // The bound does not fit, the likely figure does, and so does the provider's own.
        let near = count.likely + (count.at_most - count.likely) * 3 / 4;
        let receipt = ask(&stack(&upstream), &upstream, with(near)).await.expect("an answer");
        assert_eq!(receipt.dropped_messages, 0, "the provider's word was that it fits");
        assert!(receipt.notes.contains(&"the provider counted the prompt"), "{:?}", receipt.notes);
        let asked = |upstream: &Upstream| {
            upstream
                .seen()
                .iter()
                .filter(|seen| seen.call.parts.uri.path().ends_with("/count_tokens"))
                .count()
        };
        assert_eq!(asked(&upstream), 1);
        // Far from the budget, on either side, nobody asks.
        for budget in [count.at_most * 2, count.at_most, count.likely / 2] {
            let receipt = ask(&stack(&upstream), &upstream, with(budget)).await.expect("an answer");
            assert!(!receipt.notes.contains(&"the provider counted the prompt"));
        }
        assert_eq!(asked(&upstream), 1);
        // An endpoint that fails leaves the estimate.
        let down = Upstream::new().answer_with(|_| Some(Scripted::rate_limited()));
        let receipt = ask(&stack(&down), &upstream, with(near)).await.expect("an answer");
        assert!(receipt.dropped_messages > 0, "the upper bound stood");
        assert!(receipt.notes.iter().any(|note| note.contains("the estimate stood")), "{:?}", receipt.notes);
    }

    #[tokio::test]
    async fn the_provider_is_asked_where_the_estimate_cannot_decide_on_a_reservation() {
        let call = talk(20);
        let prices = thrifty::price::PriceTable::builtin();
        let worst = thrifty::budget::worst_case(&call, &prices, 0).expect("a price");
        let limited = |hundredths: i128| {
            let limit = thrifty::price::Usd::from_pico(worst.pico() * hundredths / 100);
            Budget::builder().limit(limit).per(Window::Day).build().expect("a budget")
        };
        let upstream = billing(100);
        let run = async |provider: Option<&Upstream>, hundredths| {
            let mut builder = Stack::builder().budget(limited(hundredths)).without_cache();
            if let Some(provider) = provider {
                builder = builder.count_endpoint(provider.clone());
            }
            ask(&builder.build().expect("a stack"), &upstream, call.clone()).await
        };
        assert!(run(None, 97).await.is_err(), "the bound does not fit, and nobody is asked");
        let receipt = run(Some(&upstream), 97).await.expect("it fits by the provider's count");
        assert!(receipt.notes.contains(&"the provider counted the prompt"), "{:?}", receipt.notes);
        let (before, down) =
            (upstream.calls(), Upstream::new().answer_with(|_| Some(Scripted::rate_limited())));
        assert!(run(Some(&down), 97).await.is_err(), "the bound stood");
        assert_eq!(down.calls(), 1);
        assert!(run(Some(&upstream), 50).await.is_err(), "no count could make it fit");
        assert_eq!(upstream.calls(), before, "so nobody was asked");
    }
}
