//! Promise: a streamed call is cached, counted and priced as well as a plain one, and one stored answer serves both.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use bytes::Bytes;
use thrifty::BoxError;
use thrifty::cache::digest;
use thrifty::call::{Call, Reply};
use thrifty::price::CostState;
use thrifty::receipt::{Receipt, ReceiptHandle, Served};
use thrifty::stack::Stack;
use thrifty::testing::Upstream;
use tower::{Layer, Service, ServiceExt};

const QUESTION: &str = "Name a prime above 10.";

/// A plain and a streamed call of each format that has both, asking the same.
fn pairs() -> Vec<(&'static str, Call, Call)> {
    let chat = |extra: &str| {
        Call::post(
            "https://api.openai.com/v1/chat/completions",
            format!(
                r#"{{"model":"gpt-5-mini",{extra}"messages":[{{"role":"user","content":"{QUESTION}"}}]}}"#
            ),
        )
    };
    let responses = |extra: &str| {
        Call::post(
            "https://api.openai.com/v1/responses",
            format!(r#"{{"model":"gpt-5-mini",{extra}"store":false,"input":"{QUESTION}"}}"#),
        )
    };
    let anthropic = |extra: &str| {
        Call::post(
            "https://api.anthropic.com/v1/messages",
            format!(
                r#"{{"model":"claude-haiku-4-5","max_tokens":900,{extra}"messages":[{{"role":"user","content":"{QUESTION}"}}]}}"#
            ),
        )
    };
    let gemini = |method: &str| {
        Call::post(
            &format!("https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:{method}"),
            format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"{QUESTION}"}}]}}]}}"#),
        )
    };
    let ollama = |stream: bool| {
        Call::post(
            "http://127.0.0.1:11434/api/chat",
            format!(
                r#"{{"model":"llama3.2:1b","stream":{stream},"messages":[{{"role":"user","content":"{QUESTION}"}}]}}"#
            ),
        )
    };
    let stream = r#""stream":true,"#;
    vec![
        ("chat", chat(""), chat(stream)),
        ("responses", responses(""), responses(stream)),
        ("anthropic", anthropic(""), anthropic(stream)),
        ("gemini", gemini("generateContent"), gemini("streamGenerateContent?alt=sse")),
        ("ollama", ollama(false), ollama(true)),
    ]
}

async fn send<S>(client: &S, call: &Call) -> (Bytes, Receipt)
where
    S: Service<Call, Response = Reply, Error = BoxError> + Clone,
{
    let reply = client.clone().oneshot(call.clone()).await.unwrap();
    assert!(reply.status().is_success());
    let kind = reply.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    if call.wants_stream() {
        assert!(kind.is_some_and(|kind| kind.starts_with(call.format().stream_type())), "a stream's type");
    } else {
        assert!(kind.is_some_and(|kind| kind.starts_with("application/json")), "a document's type");
    }
    let handle = reply.extensions().get::<ReceiptHandle>().unwrap().clone();
    let body = reply.into_body().bytes().await.unwrap();
    (body, handle.get().unwrap().clone())
}

/// What an answer says, free of its form: the canonical document without ids and times.
fn meaning(call: &Call, body: &Bytes) -> [u8; 32] {
    let document = if call.wants_stream() { call.format().to_document(body).unwrap() } else { body.clone() };
    let apart = [
        "id",
        "created",
        "created_at",
        "completed_at",
        "output/*/id",
        "usage",
        "responseId",
        "usageMetadata",
    ];
    digest(&document, &apart).unwrap()
}

#[tokio::test]
async fn one_stored_answer_serves_both_kinds_of_callers_whoever_paid() {
    for (name, plain, streamed) in pairs() {
        for (first, second) in [(&plain, &streamed), (&streamed, &plain)] {
            let upstream = Upstream::new();
            let client = Stack::builder().build().unwrap().layer(upstream.clone());
            let (paid, receipt) = send(&client, first).await;
            assert!(receipt.stored, "{name}: {:?}", receipt.cache_note);
            for _ in 0..2 {
                let (body, receipt) = send(&client, second).await;
                assert_eq!(receipt.served, Served::Memory, "{name}: the other kind was paid for again");
                assert_eq!(meaning(second, &body), meaning(first, &paid), "{name}: another answer");
            }
            assert_eq!(upstream.calls(), 1, "{name}");
        }
    }
}

#[tokio::test]
async fn a_streamed_call_has_an_exact_price_and_its_caller_sees_no_usage_it_did_not_ask_for() {
    let (_, plain, streamed) = pairs().remove(0);
    let mut asking = streamed.clone();
    asking.doc.set("stream_options", r#"{"include_usage":true}"#).unwrap();
    let upstream = Upstream::new();
    let client = Stack::builder().build().unwrap().layer(upstream.clone());
    let (body, receipt) = send(&client, &streamed).await;
    assert_eq!(receipt.state, CostState::Exact, "nobody asked for usage");
    let (hit, _) = send(&client, &streamed).await;
    for body in [&body, &hit] {
        let text = String::from_utf8_lossy(body);
        assert!(!text.contains("\"usage\""), "usage reached a caller who did not ask: {text}");
        assert!(text.ends_with("data: [DONE]\n\n"));
    }
    let (told, hit) = send(&client, &asking).await;
    assert_eq!(hit.served, Served::Memory);
    assert!(
        String::from_utf8_lossy(&told).contains("\"prompt_tokens\""),
        "usage was asked for and is not there"
    );
    assert_eq!(upstream.calls(), 1);

    let bare = Stack::builder().without_cache().build().unwrap().layer(Upstream::new());
    assert_eq!(send(&bare, &plain).await.1.billed, receipt.billed, "a stream costs what a document costs");
}

#[tokio::test]
async fn a_stream_its_caller_left_is_settled_at_what_was_seen_and_never_at_zero() {
    use http_body_util::BodyExt;
    let (_, _, streamed) = pairs().remove(2);
    let upstream = Upstream::new().frame_gap(std::time::Duration::from_millis(5));
    let client = Stack::builder().without_cache().build().unwrap().layer(upstream);
    let reply = client.oneshot(streamed).await.unwrap();
    let handle = reply.extensions().get::<ReceiptHandle>().unwrap().clone();
    let mut body = reply.into_body();
    for _ in 0..4 {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    let receipt = handle.get().unwrap();
    assert!(!receipt.complete);
    assert!(
        receipt.billed.is_some_and(|usd| usd.pico() > 0)
            || receipt.estimate.is_some_and(|usd| usd.pico() > 0)
    );
}
