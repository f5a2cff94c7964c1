//! What a stream costs on its way through, beside the same stream without it, in the same run.
//!
//! - `first_byte/*`: from the call to the first frame of a stream that the provider sends at once; floor: the inner
//!   service alone. What the cache adds here is one task, one lock and one wake.
//! - `frames/*`: all frames of a stream of 2,000 deltas, some 340 KB; floor: the inner service alone. `reader` is the
//!   reader of a tap alone: what it takes to look into each frame once.
//! - `over_http/*`: both again, with the provider behind HTTP/1.1 on loopback and hyper's client in front of it.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioExecutor;
use thrifty::BoxError;
use thrifty::budget::{Budget, BudgetLayer};
use thrifty::cache::CacheLayer;
use thrifty::call::{Call, Dialect, Reply, ReplyBody};
use thrifty::edge::{FromHttp, ToHttp};
use thrifty::meter::MeterLayer;
use thrifty::stack::Stack;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

const FRAMES: usize = 2_000;

fn frames() -> Vec<Bytes> {
    let delta = |n: usize| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-5-mini\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{n}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let last = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-5-mini\",\
                \"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let usage = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-5-mini\",\
                 \"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":2000,\"total_tokens\":3000}}\n\n";
    (0..FRAMES - 3)
        .map(|n| delta(n).into())
        .chain([last.into(), usage.into(), "data: [DONE]\n\n".into()])
        .collect()
}

fn reply(frames: Vec<Bytes>) -> Reply {
    let frames =
        futures_util::stream::iter(frames.into_iter().map(|frame| Ok::<_, BoxError>(Frame::data(frame))));
    let mut reply = Reply::new(ReplyBody::stream(http_body_util::StreamBody::new(frames)));
    reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    reply
}

fn provider() -> Client {
    let all = frames();
    BoxCloneSyncService::new(service_fn(move |_: Call| {
        let reply = reply(all.clone());
        async { Ok::<_, BoxError>(reply) }
    }))
}

/// A call nobody asked before.
fn ask(origin: &str) -> Call {
    static N: AtomicU64 = AtomicU64::new(0);
    let n = N.fetch_add(1, Ordering::Relaxed);
    Call::post(
        &format!("{origin}/v1/chat/completions"),
        format!(
            r#"{{"model":"gpt-5-mini","stream":true,"messages":[{{"role":"user","content":"question {n}"}}]}}"#
        ),
    )
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The layers in front of `inner`, one by one and together.
fn stacks(inner: &Client) -> Vec<(&'static str, Client)> {
    let cache = || CacheLayer::builder().memory_bytes(16 << 20).build().unwrap();
    let budget = || Budget::builder().limit("1000000".parse().unwrap()).build().unwrap();
    vec![
        ("floor", inner.clone()),
        ("cache", BoxCloneSyncService::new(cache().layer(inner.clone()))),
        ("meter", BoxCloneSyncService::new(MeterLayer::silent().layer(inner.clone()))),
        ("budget", BoxCloneSyncService::new(BudgetLayer::new(budget()).layer(inner.clone()))),
        (
            "stack",
            BoxCloneSyncService::new(
                Stack::builder().cache(cache()).budget(budget()).build().unwrap().layer(inner.clone()),
            ),
        ),
    ]
}

fn measure(
    c: &mut Criterion,
    group: &str,
    runtime: &tokio::runtime::Runtime,
    inner: &Client,
    origin: &'static str,
) {
    let mut first = c.benchmark_group(format!("{group}/first_byte"));
    for (name, client) in stacks(inner) {
        first.bench_function(name, |b| {
            b.iter_custom(|n| {
                runtime.block_on(async {
                    let mut took = Duration::ZERO;
                    for _ in 0..n {
                        let (call, client) = (ask(origin), client.clone());
                        let start = Instant::now();
                        let mut body = client.oneshot(call).await.unwrap().into_body();
                        black_box(body.frame().await.unwrap().unwrap());
                        took += start.elapsed();
                        // To its end, so that every way has the same behind it.
                        while body.frame().await.is_some() {}
                    }
                    took
                })
            });
        });
    }
    first.finish();
    let mut all = c.benchmark_group(format!("{group}/frames"));
    all.throughput(Throughput::Elements(FRAMES as u64));
    for (name, client) in stacks(inner) {
        all.bench_function(name, |b| {
            b.iter_custom(|n| {
                runtime.block_on(async {
                    let start = Instant::now();
                    for _ in 0..n {
                        let mut body = client.clone().oneshot(ask(origin)).await.unwrap().into_body();
                        while let Some(frame) = body.frame().await {
                            black_box(frame.unwrap());
                        }
                    }
                    start.elapsed()
                })
            });
        });
    }
    all.finish();
}

fn in_memory(c: &mut Criterion) {
    measure(c, "in_memory", &runtime(), &provider(), "https://api.openai.com");
    let mut reader = c.benchmark_group("in_memory/reader");
    reader.throughput(Throughput::Elements(FRAMES as u64));
    let all = frames();
    reader.bench_function("one", |b| {
        b.iter(|| {
            let mut reader = Dialect::OpenAiChat.format().stream_reader();
            all.iter().for_each(|frame| reader.push(frame));
            black_box(reader.outcome(true))
        });
    });
    reader.finish();
}

fn over_http(c: &mut Criterion) {
    let runtime = runtime();
    let origin: &'static str = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback_service(FromHttp::new(provider()).answering_errors());
        tokio::spawn(async move { axum::serve(listener, app).await });
        origin.leak()
    });
    let client =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let inner: Client = BoxCloneSyncService::new(ToHttp::new(client));
    measure(c, "over_http", &runtime, &inner, origin);
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = settings(); targets = in_memory, over_http }
criterion_main!(benches);
