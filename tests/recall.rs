//! Promise: the shortcut for exact repeats changes no answer, whatever becomes of the policy in front of it; and a hit
//! needs nothing of the provider.
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use thrifty::BoxError;
use thrifty::cache::{CacheLayer, RecallLayer, ReplayIdentity};
use thrifty::call::{Call, Reply};
use thrifty::cap::CapLayer;
use thrifty::clock::ManualClock;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

const CALLS: u64 = 3_000;
const TTL: Duration = Duration::from_secs(100);

fn dice(n: u64, sides: u64) -> u64 {
    let hash = blake3::hash(&n.to_le_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) % sides
}

fn question(n: u64) -> u64 {
    dice(n * 8 + 3, 20)
}

/// A request of the trace: some repeat others to the byte, some in another spelling, form or under another credential.
fn call(n: u64) -> Call {
    let space = ["", " ", "\n"][dice(n * 8 + 1, 3) as usize];
    let stream = ["", r#""stream":true,"#][dice(n * 8 + 2, 2) as usize];
    let question = question(n);
    let mut call = Call::post(
        "https://api.openai.com/v1/chat/completions",
        format!(
            r#"{{"model":"m",{stream}"max_completion_tokens":9000,{space}"messages":[{{"role":"user","content":"{question}"}}]}}"#
        ),
    );
    let who = ["Bearer a", "Bearer b"][dice(n * 8 + 4, 2) as usize];
    call.parts.headers.insert("authorization", who.parse().unwrap());
    call
}

/// Says whom it answers what, under which cap, and when it was asked.
fn answer(n: usize, call: &Call) -> Reply {
    let who = call.parts.headers["authorization"].to_str().unwrap();
    let cap = call.doc.u64("max_completion_tokens").unwrap();
    let body = String::from_utf8_lossy(call.doc.bytes());
    let question = body.split('"').filter_map(|piece| piece.parse::<u64>().ok()).next().unwrap();
    let text = format!("{who}, question {question}, cap {cap}, answer {n}");
    if call.wants_stream() {
        let delta =
            format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#);
        let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        let mut reply = Reply::new(format!("data: {delta}\n\ndata: {end}\n\ndata: [DONE]\n\n").into());
        reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        return reply;
    }
    Reply::new(format!(r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#).into())
}

/// The policy in force at this call of the trace: changed twice, and back to the first one at the end.
fn cap_at(n: u64) -> u64 {
    [5_000, 6_000, 5_000][(n * 3 / CALLS) as usize]
}

/// Plays the trace: bodies, and which of them were hits.
async fn play(recalls: bool) -> Vec<(Bytes, bool)> {
    let clock = ManualClock::at_ms(1_795_000_000_000);
    let cache = CacheLayer::builder()
        .clock(clock.clone())
        .ttl(TTL)
        .replay_identity(ReplayIdentity::Original)
        .build()
        .unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let inner = service_fn(move |call: Call| {
        let n = calls.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, BoxError>(answer(n, &call)) }
    });
    let mut answers = Vec::new();
    for n in 0..CALLS {
        let cap = cap_at(n);
        let below = CapLayer::new(cap).layer(cache.layer(inner.clone()));
        let client = if recalls {
            let policy = *blake3::hash(&cap.to_le_bytes()).as_bytes();
            Client::new(RecallLayer::new(&cache, policy).layer(below))
        } else {
            Client::new(below)
        };
        let reply = client.oneshot(call(n)).await.unwrap();
        let hit = reply.headers()["cache-status"].to_str().unwrap().contains("; hit");
        answers.push((reply.into_body().bytes().await.unwrap(), hit));
        clock.advance(Duration::from_millis(200));
    }
    answers
}

#[tokio::test]
async fn a_trace_reads_the_same_with_and_without_the_shortcut() {
    let (with, without) = (play(true).await, play(false).await);
    for (n, (a, b)) in with.iter().zip(&without).enumerate() {
        assert_eq!(a, b, "call {n}");
    }
    // When each question of each credential was last paid for, under each policy.
    let mut known: HashMap<(u64, u64, String), u64> = HashMap::new();
    let mut repeats = 0;
    for n in 0..CALLS {
        let (body, hit) = &with[n as usize];
        let text = std::str::from_utf8(body).unwrap();
        let asked = call(n);
        let who = asked.parts.headers["authorization"].to_str().unwrap().to_owned();
        let want = format!("{who}, question {}, cap {}, ", question(n), cap_at(n));
        assert!(text.contains(&want), "call {n} got another one's answer: {text}");
        let key = (cap_at(n), question(n), who);
        if let Some(paid) = known.get(&key)
            && (n - paid) * 200 < TTL.as_millis() as u64
        {
            repeats += 1;
            assert!(hit, "call {n} repeats {paid}, and was sent again");
        }
        if !hit {
            known.insert(key, n);
        }
    }
    assert!(repeats > 1_500, "{repeats} repeats say little");
}

/// A provider that is busy sheds what it cannot take; a hit takes nothing from it.
#[tokio::test(start_paused = true)]
async fn a_hit_is_answered_while_the_provider_sheds_load() {
    let second = Duration::from_secs(1);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let inner = service_fn(move |call: Call| {
        let n = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(second).await;
            Ok::<_, BoxError>(answer(n, &call))
        }
    });
    let cache = CacheLayer::in_memory();
    let limited = BoxCloneSyncService::new(LoadShed::new(ConcurrencyLimit::new(inner, 1)));
    let client = Client::new(RecallLayer::new(&cache, [1; 32]).layer(cache.layer(limited)));
    let other = |n| (n..).find(|n| call(*n).doc.bytes() != call(0).doc.bytes()).unwrap();
    let (first, second_) = (other(1), other(other(1) + 1));
    client.clone().oneshot(call(0)).await.unwrap();
    let busy = tokio::spawn(client.clone().oneshot(call(first)));
    tokio::time::sleep(second / 10).await;
    let hit = tokio::time::timeout(second / 2, client.clone().oneshot(call(0))).await;
    assert!(hit.expect("a hit waited for the provider").is_ok());
    assert!(call(first).doc.bytes() != call(second_).doc.bytes(), "two questions");
    let shed = client.clone().oneshot(call(second_)).await;
    assert!(shed.is_err(), "what has to be sent is shed");
    busy.await.unwrap().unwrap();
    let later = client.clone().oneshot(call(second_)).await;
    assert!(later.is_ok(), "an error of its own was kept");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}
