//! What capping promises.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use thrifty::BoxError;
use thrifty::call::{Call, Dialect, Options, Reply, ReplyBody};
use thrifty::cap::{self, CapField, CapLayer, CapOutcome, CapPolicy};
use thrifty::receipt::Draft;
use tower::{Layer, Service, ServiceExt, service_fn};

const OPENAI: &str = "https://api.openai.com/v1/chat/completions";
const LOCAL: &str = "http://127.0.0.1:8000/v1/chat/completions";
const ANTHROPIC: &str = "https://api.anthropic.com/v1/messages";

fn capped(uri: &str, body: &str, policy: &CapPolicy) -> (CapOutcome, String) {
    capped_with(uri, body, policy, Options::new())
}

fn capped_with(uri: &str, body: &str, policy: &CapPolicy, options: Options) -> (CapOutcome, String) {
    let mut call = Call::post(uri, body.to_owned()).with(options);
    let outcome = cap::apply(&mut call, policy);
    (outcome, String::from_utf8(call.doc.into_bytes().to_vec()).expect("a body of text stays one"))
}

#[test]
fn the_field_the_caller_sent_is_lowered_in_place() {
    for (uri, field) in [
        (OPENAI, "max_tokens"),
        (OPENAI, "max_completion_tokens"),
        (LOCAL, "max_completion_tokens"),
        (ANTHROPIC, "max_tokens"),
    ] {
        let body = |cap: u64| format!(r#"{{"model": "m","{field}" : {cap} ,"messages":[],"system":"s"}}"#);
        let (outcome, after) = capped(uri, &body(9_000), &CapPolicy::new(512));
        assert_eq!((outcome.asked, outcome.set), (Some(9_000), Some(512)), "{uri} {field}");
        assert_eq!(after, body(512), "one number changes and nothing else");
    }
}

#[test]
fn a_callers_lower_limit_is_never_raised() {
    for (cap, policy) in [(511, 512), (512, 512), (1, 512), (0, 512)] {
        let body = format!(r#"{{"model":"gpt-4o","max_tokens":{cap},"messages":[]}}"#);
        let (outcome, after) = capped(OPENAI, &body, &CapPolicy::new(policy));
        assert_eq!((outcome.asked, outcome.set, after), (Some(cap), None, body));
    }
}

#[test]
fn a_missing_limit_is_added_in_the_field_the_endpoint_knows() {
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let with = |field: &str| format!(r#"{{"model":"gpt-4o","messages":[],"{field}":512}}"#);
    assert_eq!(capped(OPENAI, body, &CapPolicy::new(512)).1, with("max_completion_tokens"));
    assert_eq!(capped(LOCAL, body, &CapPolicy::new(512)).1, with("max_tokens"));
    let old = CapPolicy::new(512).with_field(CapField::MaxTokens);
    assert_eq!(capped(OPENAI, body, &old).1, with("max_tokens"), "unless the setting says otherwise");
    assert_eq!(capped(OPENAI, body, &CapPolicy::new(512).without_adding()).1, body);
    assert_eq!(capped(OPENAI, body, &CapPolicy::per_call()).1, body, "no limit, no change");
}

#[test]
fn an_empty_limit_counts_as_missing() {
    let body = r#"{"model":"gpt-4o","max_completion_tokens":null,"messages":[]}"#;
    let (outcome, after) = capped(OPENAI, body, &CapPolicy::new(512));
    assert_eq!(outcome.set, Some(512));
    assert_eq!(after, r#"{"model":"gpt-4o","max_completion_tokens":512,"messages":[]}"#);
}

#[test]
fn a_small_limit_is_not_added_to_a_model_that_thinks() {
    let body = r#"{"model":"gpt-5-mini","messages":[]}"#;
    let (outcome, after) = capped(OPENAI, body, &CapPolicy::new(512));
    assert!(outcome.set.is_none() && outcome.note.is_some());
    assert_eq!(after, body, "512 tokens of thinking and no answer would be paid in full");
    assert_eq!(capped(OPENAI, body, &CapPolicy::new(4_096)).0.set, Some(4_096), "a roomy one is");
    let explicit = Options::new().cap(512);
    assert_eq!(
        capped_with(OPENAI, body, &CapPolicy::per_call(), explicit).0.set,
        Some(512),
        "so is one asked for"
    );
    let room = CapPolicy::new(512).with_thinking_room(500);
    assert_eq!(capped(OPENAI, body, &room).0.set, Some(512), "and one the setting calls roomy");
    let quiet = r#"{"model":"gpt-5.5","reasoning_effort":"none","messages":[]}"#;
    assert_eq!(
        capped(OPENAI, quiet, &CapPolicy::new(512)).0.set,
        Some(512),
        "told not to think, it does not"
    );
}

#[test]
fn lowering_a_model_that_thinks_is_told() {
    let body = r#"{"model":"o3","max_completion_tokens":9000,"messages":[]}"#;
    let (outcome, _) = capped(OPENAI, body, &CapPolicy::new(512));
    assert!(outcome.set == Some(512) && outcome.note.is_some());
}

#[test]
fn the_wish_of_a_call_lowers_the_layers_limit_and_never_raises_it() {
    let body = r#"{"model":"gpt-4o","max_tokens":9000,"messages":[]}"#;
    let set = |wish| capped_with(OPENAI, body, &CapPolicy::new(512), Options::new().cap(wish)).0.set;
    assert_eq!(set(64), Some(64));
    assert_eq!(set(2_000), Some(512));
}

#[test]
fn a_limit_of_nothing_is_not_applied() {
    let body = r#"{"model":"gpt-4o","max_tokens":9,"messages":[]}"#;
    assert_eq!(capped(OPENAI, body, &CapPolicy::new(0)).1, body, "providers refuse 0");
}

#[test]
fn a_limit_never_goes_below_the_thinking_budget() {
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":2048},"messages":[]}"#;
    for limit in [1, 512, 2_047, 2_048] {
        let (outcome, after) = capped(ANTHROPIC, body, &CapPolicy::new(limit));
        assert_eq!((outcome.set, after.as_str()), (None, body), "{limit} would be refused with that budget");
        assert!(outcome.note.is_some(), "and it is told");
    }
    assert_eq!(capped(ANTHROPIC, body, &CapPolicy::new(2_049)).0.set, Some(2_049));
}

#[test]
fn a_limit_we_cannot_read_is_left_alone() {
    for value in ["-1", "\"100\"", "12.5", "[]"] {
        for body in [
            format!(r#"{{"model":"m","max_tokens":{value},"messages":[]}}"#),
            format!(r#"{{"model":"m","max_completion_tokens":{value},"max_tokens":900,"messages":[]}}"#),
        ] {
            let (outcome, after) = capped(LOCAL, &body, &CapPolicy::new(512));
            assert_eq!((outcome.set, after), (None, body.clone()), "{body}");
            assert!(outcome.note.is_some(), "and it is told: {body}");
        }
    }
}

#[test]
fn what_has_no_output_or_is_not_understood_is_untouched() {
    let policy = CapPolicy::new(64);
    for (uri, body) in [
        ("https://api.openai.com/v1/embeddings", r#"{"model":"text-embedding-3-small","input":"a"}"#),
        ("https://api.openai.com/v1/audio/speech", r#"{"model":"tts-1","input":"a","voice":"alloy"}"#),
        ("https://example.com/anything", r#"{"max_tokens":900}"#),
        (OPENAI, r#"{"model":"gpt-4o","max_tokens":900,"messages":[],"max_tokens":800}"#),
        (OPENAI, "no JSON"),
    ] {
        let (outcome, after) = capped(uri, body, &policy);
        assert_eq!((outcome.set, after.as_str()), (None, body), "{uri}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn bytes_outside_the_limit_never_change(
        before in "[ \n\t]{0,3}", text in "\\PC{0,40}", caller in prop::option::of(0..5_000u64),
        new_field in any::<bool>(), limit in 0..5_000u64, adds in any::<bool>(), uri in 0..3usize,
        model in prop::sample::select(vec!["gpt-4o", "gpt-5-mini", "claude-haiku-4-5", "llama"]),
    ) {
        let uri = [OPENAI, LOCAL, ANTHROPIC][uri];
        let field = if new_field && uri != ANTHROPIC { "max_completion_tokens" } else { "max_tokens" };
        let member = caller.map(|cap| format!("\"{field}\"{before}:{before}{cap}{before},")).unwrap_or_default();
        let body = format!(r#"{{{before}"seed":1e2,{before}{member}"model":"{model}","messages":[{{"role":"user","content":{text:?}}}]{before}}}"#);
        prop_assume!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
        let policy = if adds { CapPolicy::new(limit) } else { CapPolicy::new(limit).without_adding() };
        let (outcome, after) = capped(uri, &body, &policy);
        prop_assert_eq!(outcome.asked, caller);
        match (outcome.set, caller) {
            (None, _) => prop_assert_eq!(&after, &body),
            (Some(set), Some(caller)) => {
                prop_assert!(set < caller && set == limit);
                let lowered = member.replace(&caller.to_string(), &set.to_string());
                prop_assert_eq!(&after, &body.replacen(&member, &lowered, 1));
            }
            (Some(set), None) => {
                prop_assert!(adds && set == limit);
                let (front, back) = body.split_at(body.rfind(']').expect("it has messages") + 1);
                let added = after.strip_prefix(front).and_then(|rest| rest.strip_suffix(back));
                let added = added.map(|added| added.replace("max_completion_tokens", "max_tokens"));
                prop_assert_eq!(added, Some(format!(",\"max_tokens\":{set}")));
            }
        }
        let again = capped(uri, &after, &policy);
        prop_assert_eq!((again.0.set, again.1), (None, after), "capping twice is capping once");
    }

    #[test]
    fn any_body_is_survived(body in "\\PC{0,200}", limit in 0..100u64) {
        for dialect in Dialect::ALL {
            let mut call = Call::new(dialect, Call::post(OPENAI, "{}").parts, body.clone());
            if cap::apply(&mut call, &CapPolicy::new(limit)).set.is_none() {
                prop_assert_eq!(call.doc.bytes(), body.as_bytes());
            }
        }
    }
}

fn upstream() -> (impl Service<Call, Response = Reply, Error = BoxError> + Clone, Arc<Mutex<Vec<Call>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let calls = seen.clone();
    let service = service_fn(move |call: Call| {
        calls.lock().expect("no test thread panicked").push(call);
        async { Ok::<_, BoxError>(Reply::new(ReplyBody::from("{}"))) }
    });
    (service, seen)
}

async fn sent(layer: &CapLayer, call: Call) -> Call {
    let (upstream, seen) = upstream();
    layer.layer(upstream).oneshot(call).await.expect("capping refuses nothing");
    let sent = seen.lock().expect("no test thread panicked").pop();
    sent.expect("it was sent")
}

#[tokio::test]
async fn the_layer_caps_and_writes_it_down() {
    let mut call = Call::post(OPENAI, r#"{"model":"gpt-4o","max_tokens":900,"messages":[]}"#);
    let draft = Draft::default();
    call.parts.extensions.insert(draft.clone());
    let sent = sent(&CapLayer::new(64), call).await;
    assert_eq!(sent.format().cap(&sent), Some(64));
    let receipt = draft.peek();
    assert_eq!((receipt.cap_asked, receipt.cap_set), (Some(900), Some(64)));
}

#[tokio::test]
async fn a_condition_gates_the_layers_limit_but_not_the_wish_of_a_call() {
    let layer = CapLayer::new(64).only_when(|call| call.parts.uri.path().starts_with("/title/"));
    let body = r#"{"model":"gpt-4o","max_tokens":900,"messages":[]}"#;
    let plain = sent(&layer, Call::post(OPENAI, body)).await;
    assert_eq!(plain.doc.bytes(), body, "the condition is false");
    let title = sent(&layer, Call::post("http://h/title/chat/completions", body)).await;
    assert_eq!(title.format().cap(&title), Some(64));
    let wish = sent(&layer, Call::post(OPENAI, body).with(Options::new().cap(32))).await;
    assert_eq!(wish.format().cap(&wish), Some(32), "what the call itself asks for applies");
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let (mock, mut handle) = tower_test::mock::pair::<Call, Reply>();
    let mut cap = CapLayer::new(64).layer(mock);
    handle.allow(0);
    let busy = std::future::poll_fn(|cx| std::task::Poll::Ready(cap.poll_ready(cx).is_pending())).await;
    assert!(busy, "an inner service that is busy makes it busy");
    handle.allow(1);
    std::future::poll_fn(|cx| cap.poll_ready(cx)).await.expect("now it is ready");
}

#[tokio::test]
async fn a_condition_that_panics_caps_nothing_and_the_call_goes_on() {
    let seen: Arc<Mutex<Vec<Call>>> = Arc::default();
    let inner = seen.clone();
    let provider = service_fn(move |call: Call| {
        inner.lock().expect("no test panics with it").push(call);
        async { Ok::<_, BoxError>(Reply::new(ReplyBody::from("{}"))) }
    });
    let layer = CapLayer::new(512).only_when(|_: &Call| panic!("on purpose"));
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    layer.layer(provider).oneshot(Call::post(OPENAI, body)).await.expect("the answer");
    assert_eq!(&seen.lock().expect("no test panics with it")[0].doc.bytes()[..], body.as_bytes());
}
