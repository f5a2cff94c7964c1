//! What the upstream promises as a whole.

use http::StatusCode;
use http_body_util::BodyExt;
use std::time::Duration;
use tower::ServiceExt;

use super::{Scripted, Upstream};
use crate::call::json::Object;
use crate::call::{Call, Reply};

fn chat(extra: &str) -> Call {
    Call::post(
        "https://api.openai.com/v1/chat/completions",
        format!(
            r#"{{"model":"gpt-5-mini","messages":[{{"role":"user","content":"Name a prime."}}]{extra}}}"#
        ),
    )
}

fn messages(extra: &str) -> Call {
    Call::post(
        "https://api.anthropic.com/v1/messages",
        format!(
            r#"{{"model":"claude-haiku-4-5","max_tokens":900,"messages":[{{"role":"user","content":"Name a prime."}}]{extra}}}"#
        ),
    )
}

async fn text(reply: Reply) -> String {
    let bytes = reply.into_body().bytes().await.expect("the body is good");
    String::from_utf8(bytes.to_vec()).expect("the body is text")
}

/// The `data:` payloads of a stream.
fn data(stream: &str) -> Vec<&str> {
    stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

#[tokio::test]
async fn a_stream_says_the_same_as_the_whole_answer() {
    let upstream = Upstream::new();
    let whole = text(upstream.answer(&chat(""))).await;
    let whole = Object::parse(&whole).expect("an object");
    let choice = Object::parse(whole.elements("choices").expect("choices")[0]).expect("a choice");
    let said = choice.object("message").and_then(|message| message.str("content").map(|s| s.into_owned()));

    let stream =
        text(upstream.answer(&chat(r#","stream":true,"stream_options":{"include_usage":true}"#))).await;
    let data = data(&stream);
    assert_eq!(data.last(), Some(&"[DONE]"));
    let mut joined = String::new();
    for event in &data[..data.len() - 2] {
        let event = Object::parse(event).expect("an object");
        assert_eq!(event.get("usage"), Some("null"), "all chunks but the last carry no usage");
        let choice = Object::parse(event.elements("choices").expect("choices")[0]).expect("a choice");
        if let Some(text) =
            choice.object("delta").and_then(|delta| delta.str("content").map(|s| s.into_owned()))
        {
            joined.push_str(&text);
        }
    }
    assert_eq!(Some(joined), said);
    let last = Object::parse(data[data.len() - 2]).expect("an object");
    assert_eq!(last.get("usage"), whole.get("usage"), "and the usage is that of the whole answer");
    assert_eq!(last.get("choices"), Some("[]"));

    let quiet = text(upstream.answer(&chat(r#","stream":true"#))).await;
    assert!(!quiet.contains("\"usage\""), "nobody asked for usage");
}

#[tokio::test]
async fn an_anthropic_stream_runs_from_message_start_to_message_stop() {
    let stream = text(Upstream::new().answer(&messages(r#","stream":true"#))).await;
    let names: Vec<_> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert!(data(&stream).iter().all(|event| Object::parse(event).is_some()), "every event is an object");
}

#[tokio::test]
async fn equal_calls_get_equal_bytes_and_are_counted_by_body() {
    let upstream = Upstream::new();
    for call in [chat(""), messages("")] {
        let bytes = call.doc.bytes().clone();
        assert_eq!(text(upstream.answer(&call)).await, text(upstream.answer(&call)).await);
        assert_eq!(upstream.calls_for(&bytes), 2);
    }
    assert_eq!(upstream.calls(), 4);
    assert_eq!(upstream.calls_for(b"{}"), 0);
}

#[tokio::test]
async fn what_a_provider_refuses_is_refused_in_its_own_shape() {
    let upstream = Upstream::new();
    for (call, status) in [
        (Call::post("http://fake/v1/nothing", "{}"), StatusCode::NOT_FOUND),
        (Call::post("http://fake/v1/chat/completions", "not json"), StatusCode::BAD_REQUEST),
        (Call::post("http://fake/v1/messages", r#"{"model":"m","messages":[{}]}"#), StatusCode::BAD_REQUEST),
    ] {
        let reply = upstream.answer(&call);
        assert_eq!(reply.status(), status);
        let body = text(reply).await;
        let error = Object::parse(&body).and_then(|body| body.get("error").and_then(Object::parse));
        assert!(error.is_some_and(|error| error.str("message").is_some()), "{body}");
    }
}

#[tokio::test]
async fn scripts_are_played() {
    let stream = r#","stream":true"#;
    let played =
        |scripted: Scripted, extra: &str| text(Upstream::new().first(1, scripted).answer(&chat(extra)));
    assert!(played(Scripted::truncated(), "").await.contains(r#""finish_reason":"length""#));
    assert!(played(Scripted::refusal(), "").await.contains(r#""refusal":"I "#));
    assert!(played(Scripted::filtered(), stream).await.contains("content_filter"));
    assert!(!played(Scripted::cut(), stream).await.contains("[DONE]"));
    assert!(played(Scripted::cut(), "").await.parse::<serde_json::Value>().is_err());
    assert!(played(Scripted::error_under_200(), stream).await.contains(r#"data: {"error":"#));
    assert!(played(Scripted::text("eleven").model("other"), "").await.contains(r#""model":"other""#));

    let reset = Upstream::new().first(1, Scripted::reset()).answer(&chat(stream));
    assert!(reset.into_body().bytes().await.is_err(), "the body fails in its middle");
    let upstream = Upstream::new().first(1, Scripted::unreachable());
    assert!(upstream.clone().oneshot(chat("")).await.is_err());
    assert!(upstream.oneshot(chat("")).await.is_ok(), "only the first call was scripted");
}

#[tokio::test(start_paused = true)]
async fn latency_and_gaps_are_kept_and_calls_are_in_flight_until_their_body_ends() {
    let upstream = Upstream::new().latency(Duration::from_millis(200)).frame_gap(Duration::from_millis(10));
    let started = tokio::time::Instant::now();
    let mut body = upstream.clone().oneshot(chat(r#","stream":true"#)).await.expect("a reply").into_body();
    assert!(started.elapsed() >= Duration::from_millis(200));
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        frame.expect("a frame");
        frames += 1;
        assert!(
            frames < 3 || started.elapsed() >= Duration::from_millis(220),
            "a pause stands between frames"
        );
        if frames == 2 {
            assert_eq!(upstream.in_flight(), 1);
        }
    }
    assert!(frames > 5);
    assert_eq!((upstream.in_flight(), upstream.most_in_flight()), (0, 1));
}

#[test]
fn upstream_crosses_threads() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Upstream>();
}
