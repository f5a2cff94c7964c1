//! Promise: streams with an end of another kind are counted and stored too, and never without that end.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;
use thrifty::BoxError;
use thrifty::cache::{CacheLayer, ReplayIdentity};
use thrifty::call::{Call, Reply, ReplyBody};
use thrifty::dialect::StreamEnd;
use thrifty::price::CostState;
use thrifty::receipt::{Receipt, ReceiptHandle, Served};
use thrifty::stack::Stack;
use thrifty::testing::{Scripted, Upstream};
use tower::{Layer, Service, ServiceExt, service_fn};

async fn send<S>(client: &S, call: &Call) -> (Option<String>, Bytes, Receipt)
where
    S: Service<Call, Response = Reply, Error = BoxError> + Clone,
{
    let reply = client.clone().oneshot(call.clone()).await.unwrap();
    let kind = reply.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let handle = reply.extensions().get::<ReceiptHandle>().unwrap().clone();
    let body = reply.into_body().bytes().await.unwrap();
    (kind, body, handle.get().unwrap().clone())
}

/// Gemini's stream that is one JSON array.
fn array() -> Call {
    Call::post(
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        r#"{"contents":[{"role":"user","parts":[{"text":"Name a prime above 10."}]}]}"#,
    )
}

#[tokio::test]
async fn a_stream_that_is_one_json_array_is_priced_and_served_again_as_it_came() {
    let upstream = Upstream::new();
    let client = Stack::builder().build().unwrap().layer(upstream.clone());
    let (kind, body, paid) = send(&client, &array()).await;
    assert!(body.starts_with(b"[") && body.ends_with(b"]"));
    assert_eq!((paid.state, paid.stored), (CostState::Exact, true), "{:?}", paid.cache_note);
    let (again, same, hit) = send(&client, &array()).await;
    assert_eq!((again, same), (kind, body), "every byte, and its type");
    assert_eq!((hit.served, upstream.calls()), (Served::Memory, 1));
}

#[tokio::test]
async fn an_array_whose_bytes_are_all_at_hand_is_served_again_as_one() {
    let (_, body, _) = send(&Stack::builder().build().unwrap().layer(Upstream::new()), &array()).await;
    let answer = Scripted::body(StatusCode::OK, body.clone()).header("content-type", "application/json");
    let upstream = Upstream::new().answer_with(move |_| Some(answer.clone()));
    let client = Stack::builder().build().unwrap().layer(upstream.clone());
    for _ in 0..2 {
        let (kind, same, _) = send(&client, &array()).await;
        assert_eq!((kind.as_deref(), &same), (Some("application/json"), &body));
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn an_array_that_lost_its_bracket_is_not_stored() {
    let (_, body, _) = send(&Stack::builder().build().unwrap().layer(Upstream::new()), &array()).await;
    let cut = body.slice(..body.len() - 1);
    let (client, calls) = server(vec![cut]);
    for _ in 0..2 {
        let (_, _, receipt) = send(&client, &array()).await;
        assert!(!receipt.stored);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

type Client = tower::util::BoxCloneSyncService<Call, Reply, BoxError>;

/// A stack in front of a server that always streams these frames, and how often it was asked.
fn server(frames: Vec<Bytes>) -> (Client, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let asked = calls.clone();
    let upstream = service_fn(move |call: Call| {
        asked.fetch_add(1, Ordering::Relaxed);
        let frames = frames.clone().into_iter().map(|frame| Ok::<_, Infallible>(Frame::data(frame)));
        let kind =
            if call.parts.uri.path().contains("Generate") { "application/json" } else { "text/event-stream" };
        let mut reply = Reply::new(ReplyBody::stream(StreamBody::new(stream::iter(frames))));
        reply.headers_mut().insert("content-type", kind.parse().unwrap());
        std::future::ready(Ok::<_, BoxError>(reply))
    });
    // These compare bytes, and a replay has an id of its own.
    let cache = CacheLayer::builder().replay_identity(ReplayIdentity::Original).build().unwrap();
    (Client::new(Stack::builder().cache(cache).build().unwrap().layer(upstream)), calls)
}

#[tokio::test]
async fn a_stream_without_an_end_marker_is_stored_only_where_the_endpoint_is_said_to_send_none() {
    let chunk = |delta: &str, finish: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"local\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        ))
    };
    let whole =
        vec![chunk(r#"{"role":"assistant","content":"1"}"#, "null"), chunk(r#"{"content":"1"}"#, "\"stop\"")];
    let plain = Call::post(
        "http://127.0.0.1:8000/v1/chat/completions",
        r#"{"model":"local","messages":[{"role":"user","content":"hi"}],"stream":true}"#,
    );
    let mut lax = plain.clone();
    lax.parts.extensions.insert(StreamEnd::FinishReason);
    for (call, frames, want) in
        [(&plain, whole.clone(), 2), (&lax, whole.clone(), 1), (&lax, whole[..1].to_vec(), 2)]
    {
        let (client, calls) = server(frames.clone());
        for _ in 0..2 {
            let (_, body, _) = send(&client, call).await;
            assert_eq!(body, frames.concat(), "the caller gets what came");
        }
        assert_eq!(calls.load(Ordering::Relaxed), want, "{} frames", frames.len());
    }
}
