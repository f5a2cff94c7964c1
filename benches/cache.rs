//! The cache's paths, each beside its floor in one group, so that a ratio holds on any machine.
//!
//! - `memory_hit/<body>`: a repeat through the default stack, from a call that is there to a reply that is dropped;
//!   floor: blake3 of the body and two moka gets.
//! - `miss_overhead`: what the whole default stack adds to a call that nobody asked before; floor: the inner service.
//! - `replay/<reply>`: a repeat whose reply gets a fresh id; floor: the same with the stored bytes as they are.
//! - `disk_hit`: an answer read from the file; floor: redb reading the same bytes.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use thrifty::BoxError;
use thrifty::cache::{CacheLayer, ReplayIdentity};
use thrifty::call::{Call, Reply};
use thrifty::stack::Stack;
use tower::{Layer, Service, ServiceExt, service_fn};

fn answer(bytes: usize) -> String {
    let text = "word ".repeat(bytes / 5);
    format!(
        r#"{{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1795000000,"model":"gpt-5-mini-2025-08-07","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}}}"#
    )
}

fn ask(bytes: usize, n: u64) -> Call {
    let text = "the quick brown fox ".repeat(bytes / 20);
    Call::post(
        "https://api.openai.com/v1/chat/completions",
        format!(r#"{{"model":"gpt-5-mini","messages":[{{"role":"user","content":"{n} {text}"}}]}}"#),
    )
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn provider(
    bytes: usize,
) -> impl Service<Call, Response = Reply, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let answer = bytes::Bytes::from(answer(bytes));
    service_fn(move |_: Call| {
        let answer = answer.clone();
        async move { Ok(Reply::new(answer.into())) }
    })
}

/// The time `n` repeats of a call take. Making a call is its caller's work, so that is done ahead, a few at a time.
async fn repeats<S>(client: &mut S, call: &Call, n: u64) -> std::time::Duration
where
    S: Service<Call, Response = Reply, Error = BoxError>,
{
    let (mut took, mut left) = (std::time::Duration::ZERO, n);
    let mut calls = Vec::with_capacity(64);
    while left > 0 {
        calls.extend((0..left.min(64)).map(|_| call.clone()));
        left -= calls.len() as u64;
        let start = std::time::Instant::now();
        for call in calls.drain(..) {
            black_box(client.ready().await.unwrap().call(black_box(call)).await.unwrap());
        }
        took += start.elapsed();
    }
    took
}

fn memory_hit(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("memory_hit");
    for kib in [1usize, 4, 32, 256] {
        let call = ask(kib << 10, 0);
        let client = Stack::builder().build().unwrap().layer(provider(1 << 10));
        runtime.block_on(async { client.clone().oneshot(call.clone()).await.unwrap() });
        group.bench_function(BenchmarkId::new("recall", format!("{kib}K")), |b| {
            let mut client = client.clone();
            b.iter_custom(|n| runtime.block_on(repeats(&mut client, &call, n)));
        });
        let moka: moka::sync::Cache<[u8; 32], std::sync::Arc<Vec<u8>>> =
            moka::sync::Cache::builder().max_capacity(1 << 20).build();
        let key = *blake3::keyed_hash(&[7; 32], call.doc.bytes()).as_bytes();
        moka.insert(key, std::sync::Arc::new(vec![0; 1 << 10]));
        group.bench_function(BenchmarkId::new("floor", format!("{kib}K")), |b| {
            b.iter(|| {
                let key = blake3::keyed_hash(&[7; 32], black_box(call.doc.bytes()));
                black_box((moka.get(key.as_bytes()), moka.get(key.as_bytes())))
            });
        });
    }
    group.finish();
}

fn replay(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("replay");
    for kib in [1usize, 32, 256] {
        for (name, identity) in [("floor", ReplayIdentity::Original), ("fresh", ReplayIdentity::Fresh)] {
            let layer = CacheLayer::builder().replay_identity(identity).build().unwrap();
            let client = layer.layer(provider(kib << 10));
            let call = ask(1 << 10, 0);
            runtime.block_on(async { client.clone().oneshot(call.clone()).await.unwrap() });
            group.bench_function(BenchmarkId::new(name, format!("{kib}K")), |b| {
                let mut client = client.clone();
                b.iter_custom(|n| runtime.block_on(repeats(&mut client, &call, n)));
            });
        }
    }
    group.finish();
}

fn miss_overhead(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("miss_overhead");
    let next = AtomicU64::new(0);
    let bare = provider(1 << 10);
    group.bench_function("floor", |b| {
        b.to_async(&runtime).iter_batched(
            || (bare.clone(), ask(4 << 10, next.fetch_add(1, Ordering::Relaxed))),
            |(client, call)| async move { black_box(client.oneshot(call).await.unwrap()) },
            criterion::BatchSize::SmallInput,
        );
    });
    let stack = Stack::builder().build().unwrap().layer(provider(1 << 10));
    group.bench_function("stack", |b| {
        b.to_async(&runtime).iter_batched(
            || (stack.clone(), ask(4 << 10, next.fetch_add(1, Ordering::Relaxed))),
            |(client, call)| async move { black_box(client.oneshot(call).await.unwrap()) },
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

#[cfg(feature = "disk")]
fn disk_hit(c: &mut Criterion) {
    use redb::ReadableDatabase;
    const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("t");
    let runtime = runtime();
    let dir = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("disk_hit");
    // A memory tier too small to hold an answer, so that every repeat is read from the file.
    let layer = CacheLayer::builder().disk(dir.path().join("a.redb")).memory_bytes(1).build().unwrap();
    let client = layer.layer(provider(4 << 10));
    let call = ask(4 << 10, 0);
    runtime.block_on(async { client.clone().oneshot(call.clone()).await.unwrap() });
    layer.handle().flush_blocking();
    group.bench_function("cache", |b| {
        b.to_async(&runtime).iter(|| {
            let (client, call) = (client.clone(), call.clone());
            async move { black_box(client.oneshot(call).await.unwrap()) }
        });
    });
    assert!(layer.handle().stats().disk_hits > 0, "the bench did not read from disk");
    let db = redb::Database::create(dir.path().join("b.redb")).unwrap();
    let tx = db.begin_write().unwrap();
    tx.open_table(TABLE).unwrap().insert(7, answer(4 << 10).as_bytes()).unwrap();
    tx.commit().unwrap();
    group.bench_function("floor", |b| {
        b.iter(|| {
            let tx = db.begin_read().unwrap();
            let table = tx.open_table(TABLE).unwrap();
            black_box(table.get(7).unwrap().unwrap().value().to_vec())
        });
    });
    group.finish();
}

#[cfg(not(feature = "disk"))]
fn disk_hit(_: &mut Criterion) {}

fn one_flight(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("identical_calls");
    group.sample_size(10);
    let slow = || {
        let answer = bytes::Bytes::from(answer(1 << 10));
        service_fn(move |_: Call| {
            let answer = answer.clone();
            async move {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                Ok::<_, BoxError>(Reply::new(answer.into()))
            }
        })
    };
    group.bench_function("floor_one_call", |b| {
        b.to_async(&runtime).iter(|| async { black_box(slow().oneshot(ask(1 << 10, 0)).await.unwrap()) });
    });
    group.bench_function("ten_thousand_callers", |b| {
        b.to_async(&runtime).iter(|| async {
            let client = CacheLayer::in_memory().layer(slow());
            let call = ask(1 << 10, 0);
            futures_util::future::join_all((0..10_000).map(|_| client.clone().oneshot(call.clone()))).await
        });
    });
    group.finish();
}

criterion_group!(benches, memory_hit, replay, miss_overhead, disk_hit, one_flight);
criterion_main!(benches);
