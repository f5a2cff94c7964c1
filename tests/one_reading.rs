//! Promise: a reply is read once, and the cache, the budget and the receipt say the same of it, however it ends.
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use thrifty::BoxError;
use thrifty::budget::{Budget, BudgetLayer};
use thrifty::cache::CacheLayer;
use thrifty::call::{Call, Reply, ReplyBody};
use thrifty::dialect::{Finish, StreamEnd};
use thrifty::meter::MeterLayer;
use thrifty::receipt::{Receipt, ReceiptHandle, Served};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

fn call() -> Call {
    Call::post(
        "https://api.openai.com/v1/chat/completions",
        r#"{"model":"gpt-5-mini","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#,
    )
}

fn answer(end: &'static str) -> Vec<Bytes> {
    let delta = r#"data: {"model":"gpt-5-mini","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}"#;
    let last = r#"data: {"model":"gpt-5-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let usage =
        r#"data: {"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}"#;
    let mut frames: Vec<Bytes> =
        [delta, delta, delta, last, usage].map(|data| format!("{data}\n\n").into()).into();
    frames.push(Bytes::from(end));
    frames
}

fn provider(frames: Vec<Bytes>) -> Client {
    BoxCloneSyncService::new(service_fn(move |_: Call| {
        let frames =
            stream::iter(frames.clone().into_iter().map(|frame| Ok::<_, BoxError>(Frame::data(frame))));
        let mut reply = Reply::new(ReplyBody::stream(StreamBody::new(frames)));
        reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        async { Ok(reply) }
    }))
}

fn budget() -> Budget {
    Budget::builder().limit("1".parse().unwrap()).build().unwrap()
}

fn cache() -> CacheLayer {
    CacheLayer::builder().memory_bytes(1 << 20).build().unwrap()
}

async fn receipt(client: &Client, call: Call) -> Receipt {
    let reply = client.clone().oneshot(call).await.unwrap();
    let handle = reply.extensions().get::<ReceiptHandle>().unwrap().clone();
    reply.into_body().bytes().await.unwrap();
    handle.get().unwrap().clone()
}

/// 1,000 in at 0.25 and 100 out at 2 USD per million tokens (2026-11-23).
const COST: &str = "0.00045";

#[tokio::test]
async fn the_layers_say_the_same_alone_and_in_any_company() {
    let inner = provider(answer("data: [DONE]\n\n"));
    for with_cache in [false, true] {
        for with_budget in [false, true] {
            let spent = budget();
            let layers = ServiceBuilder::new()
                .layer(MeterLayer::silent())
                .option_layer(with_cache.then(cache))
                .option_layer(with_budget.then(|| BudgetLayer::new(spent.clone())));
            let client = BoxCloneSyncService::new(layers.service(inner.clone()));
            let receipt = receipt(&client, call()).await;
            let case = format!("cache {with_cache}, budget {with_budget}");
            assert_eq!(receipt.finish, Finish::Whole, "{case}");
            assert_eq!(receipt.usage.and_then(|usage| usage.output), Some(100), "{case}");
            assert_eq!(receipt.billed.map(|usd| usd.to_string()).as_deref(), Some(COST), "{case}");
            assert_eq!(receipt.stored, with_cache, "{case}: {:?}", receipt.cache_note);
            let want = if with_budget { COST } else { "0" };
            assert_eq!(spent.state().spent.to_string(), want, "{case}: what the budget was charged");
        }
    }
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_is_told_of_what_it_saw_where_no_flight_goes_on() {
    let (sent, seen) = std::sync::mpsc::channel();
    let layer = MeterLayer::new(move |receipt: &Receipt| sent.send(receipt.clone()).unwrap());
    let client = layer.layer(BudgetLayer::new(budget()).layer(provider(answer("data: [DONE]\n\n"))));
    let mut body = client.oneshot(call()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let receipt = seen.recv().unwrap();
    assert_eq!((receipt.complete, receipt.finish, receipt.usage), (false, Finish::Partial, None));
    assert_eq!(receipt.answered.as_deref(), Some("gpt-5-mini"));
}

#[tokio::test]
async fn a_caller_who_leaves_after_the_flight_has_ended_is_billed_what_it_cost() {
    let (sent, seen) = std::sync::mpsc::channel();
    let layer = MeterLayer::new(move |receipt: &Receipt| sent.send(receipt.clone()).unwrap());
    let cache = cache();
    let client = layer.layer(cache.layer(provider(answer("data: [DONE]\n\n"))));
    let mut body = client.oneshot(call()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    while cache.handle().stats().flights > 0 {
        tokio::task::yield_now().await;
    }
    drop(body);
    let receipt = seen.recv().unwrap();
    assert_eq!((receipt.complete, receipt.served), (false, Served::Upstream));
    assert_eq!(
        receipt.billed.map(|usd| usd.to_string()).as_deref(),
        Some(COST),
        "the provider was paid in full"
    );
}

#[tokio::test]
async fn a_body_that_a_layer_in_between_has_changed_is_not_stored_on_the_word_of_another() {
    let cut = tower::util::MapResponseLayer::new(|reply: Reply| {
        reply.map(|body| {
            let first =
                stream::once(async move { body.bytes().await.map(|all| Frame::data(all.slice(..40))) });
            ReplyBody::stream(StreamBody::new(Box::pin(first)))
        })
    });
    let layers = ServiceBuilder::new()
        .layer(MeterLayer::silent())
        .layer(cache())
        .layer(cut)
        .layer(BudgetLayer::new(budget()));
    let client = BoxCloneSyncService::new(layers.service(provider(answer("data: [DONE]\n\n"))));
    let receipt = receipt(&client, call()).await;
    assert!(!receipt.stored, "a cut answer was stored");
    assert_eq!(receipt.billed.map(|usd| usd.to_string()).as_deref(), Some(COST), "what was paid is paid");
}

#[tokio::test]
async fn a_budget_knows_of_endpoints_without_an_end_marker() {
    let spent = budget();
    let client = BudgetLayer::new(spent.clone()).layer(provider(answer(": bye\n\n")));
    let mut call = call();
    call.parts.extensions.insert(StreamEnd::FinishReason);
    client.oneshot(call).await.unwrap().into_body().bytes().await.unwrap();
    assert_eq!(spent.state().spent.to_string(), COST, "charged at its usage, not at the reservation");
}
