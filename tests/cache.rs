//! Promise: never a wrong, partial or foreign answer; identical calls are one upstream call; a hit needs no provider.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::BodyExt;
use thrifty::cache::CacheLayer;
use thrifty::call::{CacheMode, Call, Options, Reply, ReplyBody, Scope};
use thrifty::clock::ManualClock;
use thrifty::receipt::{ReceiptHandle, Served};
use thrifty::stack::Stack;
use thrifty::{BoxError, Error, Kind};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

/// Without an id, so that a replay is the same bytes; `replay.rs` is about answers that have one.
const WHOLE: &str = r#"{"model":"gpt-5-mini-2025-08-07","choices":[{"index":0,"message":{"role":"assistant","content":"11"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}"#;

fn stream_frames() -> Vec<&'static str> {
    vec![
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"1\"},\"finish_reason\":null}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"1\"},\"finish_reason\":null}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    ]
}

fn ask(question: &str) -> Call {
    Call::post(
        "https://api.openai.com/v1/chat/completions",
        format!(r#"{{"model":"gpt-5-mini","messages":[{{"role":"user","content":"{question}"}}]}}"#),
    )
}

fn ask_stream() -> Call {
    Call::post(
        "https://api.openai.com/v1/chat/completions",
        r#"{"model":"gpt-5-mini","stream":true,"messages":[{"role":"user","content":"Name a prime above 10."}]}"#,
    )
}

fn with_key(mut call: Call, key: &'static str) -> Call {
    call.parts.headers.insert("authorization", key.parse().unwrap());
    call
}

/// A body that sends these frames with a pause before each.
fn paced(frames: Vec<&'static str>, pause: Duration) -> ReplyBody {
    let frames = futures_util::stream::unfold(frames.into_iter(), move |mut frames| async move {
        let frame = frames.next()?;
        tokio::time::sleep(pause).await;
        Some((Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(frame.as_bytes()))), frames))
    });
    ReplyBody::stream(http_body_util::StreamBody::new(frames))
}

/// An upstream that counts its calls and answers each with what `answer` makes of the number of calls so far.
fn upstream<F>(answer: F) -> (Client, Arc<AtomicUsize>)
where
    F: Fn(usize) -> Reply + Clone + Send + Sync + 'static,
{
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let service = service_fn(move |_: Call| {
        let n = counted.fetch_add(1, Ordering::SeqCst);
        let answer = answer.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, BoxError>(answer(n))
        }
    });
    (BoxCloneSyncService::new(service), calls)
}

fn cached<S>(layer: &CacheLayer, inner: S) -> Client
where
    S: Service<Call, Response = Reply, Error = BoxError> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    BoxCloneSyncService::new(layer.layer(inner))
}

async fn body(client: &Client, call: Call) -> Bytes {
    client.clone().oneshot(call).await.unwrap().into_body().bytes().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_identical_callers_make_one_upstream_call() {
    for (call, want) in [(ask("hi"), WHOLE.to_owned()), (ask_stream(), stream_frames().concat())] {
        let streamed = call.wants_stream();
        let (inner, calls) = upstream(move |_| {
            if streamed {
                Reply::new(paced(stream_frames(), Duration::from_millis(5)))
            } else {
                Reply::new(WHOLE.into())
            }
        });
        let layer = CacheLayer::in_memory();
        let client = cached(&layer, inner);
        let answers = join_all((0..10_000).map(|_| {
            tokio::spawn({
                let (client, call) = (client.clone(), call.clone());
                async move { body(&client, call).await }
            })
        }))
        .await;
        for answer in answers {
            assert_eq!(answer.unwrap(), want);
        }
        assert_eq!(
            calls.load(Ordering::SeqCst),
            1,
            "10,000 identical calls (streamed: {streamed}) were not one"
        );
        assert_eq!(layer.handle().stats().flights, 0, "a flight was left behind");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_leaving_callers_costs_one_call_and_serves_the_patient_one() {
    let (inner, calls) = upstream(|_| Reply::new(paced(stream_frames(), Duration::from_millis(10))));
    let layer = CacheLayer::in_memory();
    let client = cached(&layer, inner);
    // The impatient come first, so the flight is begun by one who leaves.
    let storm: Vec<_> = (0..2_000u64)
        .map(|i| {
            let client = client.clone();
            let patience = Duration::from_micros(blake3::hash(&i.to_le_bytes()).as_bytes()[0] as u64 * 150);
            tokio::spawn(
                async move { tokio::time::timeout(patience, body(&client, ask_stream())).await.is_ok() },
            )
        })
        .collect();
    let patient = body(&client, ask_stream()).await;
    assert_eq!(patient, stream_frames().concat());
    for caller in storm {
        caller.await.expect("no caller panics");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1, "callers that left made the call be sent again");
    assert_eq!(layer.handle().stats().flights, 0);
}

#[tokio::test]
async fn a_stream_is_passed_on_as_it_arrives_and_replayed_in_its_frames() {
    let (inner, calls) = upstream(|_| Reply::new(paced(stream_frames(), Duration::from_millis(30))));
    let client = cached(&CacheLayer::in_memory(), inner);
    for round in 0..2 {
        let mut reply = client.clone().oneshot(ask_stream()).await.unwrap().into_body();
        let mut frames = Vec::new();
        while let Some(frame) = reply.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
            if round == 0 && frames.len() == 1 {
                assert_eq!(calls.load(Ordering::SeqCst), 1);
            }
        }
        assert_eq!(frames, stream_frames(), "round {round}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the second round was not served from the cache");
}

#[tokio::test]
async fn two_credentials_never_share_an_answer_unless_they_say_so() {
    let (inner, calls) = upstream(|n| Reply::new(WHOLE.replace("\"11\"", &format!("\"{n}\"")).into()));
    let client = cached(&CacheLayer::in_memory(), inner);
    let a = body(&client, with_key(ask("hi"), "Bearer a")).await;
    let b = body(&client, with_key(ask("hi"), "Bearer b")).await;
    assert_ne!(a, b, "one key was served what another one paid for");
    let tenant = |name| with_key(ask("hi"), "Bearer a").with(Options::new().scope(Scope::tenant(name)));
    assert_ne!(body(&client, tenant("x")).await, body(&client, tenant("y")).await);
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    let shared = |key| with_key(ask("hi"), key).with(Options::new().scope(Scope::shared("docs")));
    assert_eq!(body(&client, shared("Bearer a")).await, body(&client, shared("Bearer b")).await);
    assert_eq!(calls.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn another_models_answer_is_not_stored_under_the_name_that_was_asked() {
    for (answered, stored) in
        [("gpt-5-mini-2025-08-07", true), ("gpt-5-mini", true), ("gpt-3.5-turbo", false), ("gpt-5", false)]
    {
        let (inner, calls) =
            upstream(move |_| Reply::new(WHOLE.replace("gpt-5-mini-2025-08-07", answered).into()));
        let client = cached(&CacheLayer::in_memory(), inner);
        body(&client, ask("hi")).await;
        body(&client, ask("hi")).await;
        assert_eq!(calls.load(Ordering::SeqCst) == 1, stored, "gpt-5-mini answered by {answered}");
    }
}

#[tokio::test]
async fn a_call_paid_for_a_caller_who_left_is_in_the_ledger() {
    use thrifty::receipt::Ledger;
    for call in [ask("hi"), ask_stream()] {
        let streamed = call.wants_stream();
        let (inner, calls) = upstream(move |_| {
            if streamed {
                let mut frames = stream_frames();
                frames.insert(3, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":100,\"total_tokens\":1100}}\n\n");
                Reply::new(paced(frames, Duration::from_millis(10)))
            } else {
                Reply::new(WHOLE.into())
            }
        });
        let ledger = Ledger::default();
        let client = Stack::builder().sink(ledger.clone()).build().unwrap().layer(inner);
        // The caller leaves before the answer, or in the middle of it.
        let leaves = tokio::time::timeout(
            Duration::from_millis(if streamed { 35 } else { 5 }),
            body_of(&client, call),
        );
        assert!(leaves.await.is_err(), "the caller leaves early");
        for _ in 0..100 {
            if ledger.totals().calls == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let totals = ledger.totals();
        assert_eq!(
            (totals.calls, totals.sent, calls.load(Ordering::SeqCst)),
            (1, 1, 1),
            "streamed: {streamed}"
        );
        assert_eq!(totals.billed.to_string(), "0.00045", "what was paid is lost (streamed: {streamed})");
    }
}

async fn body_of<S>(client: &S, call: Call) -> Bytes
where
    S: Service<Call, Response = Reply, Error = BoxError> + Clone,
{
    client.clone().oneshot(call).await.unwrap().into_body().bytes().await.unwrap()
}

#[tokio::test]
async fn a_joiner_gets_no_cookie_and_no_request_id() {
    let (inner, _) = upstream(|_| {
        let mut reply = Reply::new(WHOLE.into());
        for (name, value) in
            [("set-cookie", "a=b"), ("x-request-id", "r1"), ("content-type", "application/json")]
        {
            reply.headers_mut().insert(name, value.parse().unwrap());
        }
        reply
    });
    let client = cached(&CacheLayer::in_memory(), inner);
    let (first, second) =
        futures_util::future::join(client.clone().oneshot(ask("hi")), client.clone().oneshot(ask("hi")))
            .await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.headers().contains_key("set-cookie"), "the caller who sent it gets it all");
    assert!(!second.headers().contains_key("set-cookie") && !second.headers().contains_key("x-request-id"));
    assert!(second.headers().contains_key("content-type"));
}

#[tokio::test]
async fn in_a_shared_scope_one_credentials_failure_is_not_anothers() {
    let inner = service_fn(|call: Call| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut reply = Reply::new(WHOLE.into());
        if call.parts.headers["authorization"] == "Bearer bad" {
            *reply.status_mut() = http::StatusCode::UNAUTHORIZED;
        }
        Ok::<_, BoxError>(reply)
    });
    let client = cached(&CacheLayer::builder().scope(Scope::shared("docs")).build().unwrap(), inner);
    let send = |key| client.clone().oneshot(with_key(ask("hi"), key));
    let (bad, good) = futures_util::future::join(send("Bearer bad"), send("Bearer good")).await;
    assert_eq!(bad.unwrap().status(), http::StatusCode::UNAUTHORIZED);
    assert_eq!(good.unwrap().status(), http::StatusCode::OK, "a joiner got another credential's 401");
}

#[tokio::test]
async fn a_new_answer_takes_the_place_of_one_that_is_on_its_way() {
    let (inner, _) = upstream(|n| Reply::new(WHOLE.replace("\"11\"", &format!("\"{n}\"")).into()));
    let client = cached(&CacheLayer::in_memory(), inner);
    let older = client.clone().oneshot(ask("hi"));
    let newer = client.clone().oneshot(ask("hi").with(Options::new().cache(CacheMode::NoCache)));
    let (older, newer) = futures_util::future::join(older, newer).await;
    let newer = newer.unwrap().into_body().bytes().await.unwrap();
    assert_ne!(older.unwrap().into_body().bytes().await.unwrap(), newer);
    assert_eq!(body(&client, ask("hi")).await, newer, "the older answer was stored over the newer one");
}

#[tokio::test]
async fn a_calls_own_time_to_live_is_obeyed_and_never_longer_than_the_layers() {
    let clock = ManualClock::at_ms(1_795_000_000_000);
    let layer = CacheLayer::builder().ttl(Duration::from_secs(60)).clock(clock.clone()).build().unwrap();
    let (inner, calls) = upstream(|_| Reply::new(WHOLE.into()));
    let client = cached(&layer, inner);
    let with = |ttl| ask("hi").with(Options::new().ttl(ttl));
    body(&client, with(Duration::MAX)).await;
    clock.advance(Duration::from_secs(10));
    body(&client, with(Duration::from_secs(5))).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2, "an answer older than the call allows was served");
    clock.advance(Duration::from_secs(60));
    body(&client, with(Duration::MAX)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3, "a call lengthened the layer's time to live");
}

#[tokio::test]
async fn a_sink_that_panics_costs_nobody_anything() {
    use thrifty::receipt::{Ledger, Receipt};
    let ledger = Ledger::default();
    let (inner, _) = upstream(|_| Reply::new(WHOLE.into()));
    let stack =
        Stack::builder().sink(|_: &Receipt| panic!("a broken sink")).sink(ledger.clone()).build().unwrap();
    assert_eq!(body_of(&stack.layer(inner), ask("hi")).await, WHOLE);
    assert_eq!(ledger.totals().calls, 1);
}

#[tokio::test]
async fn only_whole_good_answers_are_stored() {
    let cut = |to| WHOLE.replace("\"stop\"", to);
    let cases: Vec<(&str, Reply)> = vec![
        ("truncated", Reply::new(cut("\"length\"").into())),
        ("filtered", Reply::new(cut("\"content_filter\"").into())),
        ("empty", Reply::new(WHOLE.replace("\"11\"", "\"\"").into())),
        ("error under 200", Reply::new(r#"{"error":{"message":"no","type":"server_error"}}"#.into())),
        ("not JSON", Reply::new("<html>busy</html>".into())),
        ("no bytes", Reply::new(ReplyBody::empty())),
        ("429", {
            let mut reply = Reply::new(r#"{"error":{"message":"slow down","type":"rate_limit"}}"#.into());
            *reply.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
            reply
        }),
        ("500 with a good body", {
            let mut reply = Reply::new(WHOLE.into());
            *reply.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            reply
        }),
    ];
    for (what, reply) in cases {
        let (status, bytes) = (reply.status(), reply.into_body().bytes().await.unwrap());
        let (inner, calls) = upstream(move |_| {
            let mut reply = Reply::new(bytes.clone().into());
            *reply.status_mut() = status;
            reply
        });
        let client = cached(&CacheLayer::in_memory(), inner);
        body(&client, ask("hi")).await;
        body(&client, ask("hi")).await;
        assert_eq!(calls.load(Ordering::SeqCst), 2, "an answer was stored that is {what}");
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_before_its_end_marker_is_never_stored() {
    let frames = stream_frames();
    for keep in 0..frames.len() {
        let part: Vec<_> = frames[..keep].to_vec();
        let (inner, calls) = upstream(move |_| Reply::new(paced(part.clone(), Duration::ZERO)));
        let client = cached(&CacheLayer::in_memory(), inner);
        body(&client, ask_stream()).await;
        body(&client, ask_stream()).await;
        assert_eq!(calls.load(Ordering::SeqCst), 2, "a stream of {keep} frames without its end was stored");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_reaches_its_callers_as_a_break() {
    let broken = || {
        let frames = futures_util::stream::iter([
            Ok(http_body::Frame::data(Bytes::from_static(stream_frames()[0].as_bytes()))),
            Err::<_, BoxError>("connection reset".into()),
        ]);
        Reply::new(ReplyBody::stream(http_body_util::StreamBody::new(frames)))
    };
    let (inner, _) = upstream(move |_| broken());
    let client = cached(&CacheLayer::in_memory(), inner);
    let error = client.clone().oneshot(ask_stream()).await.unwrap().into_body().bytes().await.unwrap_err();
    assert_eq!(Error::find(&*error).map(Error::kind), Some(Kind::Upstream));
}

#[tokio::test]
async fn a_purge_covers_what_is_in_flight() {
    let (inner, calls) = upstream(|n| Reply::new(WHOLE.replace("\"11\"", &format!("\"{n}\"")).into()));
    let layer = CacheLayer::in_memory();
    let client = cached(&layer, inner);
    let before = tokio::spawn({
        let client = client.clone();
        async move { body(&client, ask("hi")).await }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    layer.handle().purge_all().await;
    let after = body(&client, ask("hi")).await;
    assert_ne!(before.await.unwrap(), after, "a caller after the purge joined a flight from before it");
    assert_eq!(body(&client, ask("hi")).await, after, "what came before the purge was stored after it");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert!(layer.handle().invalidate(&ask("hi")).await);
    body(&client, ask("hi")).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3, "an invalidated answer was served");
}

#[tokio::test]
async fn the_modes_of_a_call_are_obeyed() {
    let (inner, calls) = upstream(|n| Reply::new(WHOLE.replace("\"11\"", &format!("\"{n}\"")).into()));
    let client = cached(&CacheLayer::in_memory(), inner);
    let with = |mode| ask("hi").with(Options::new().cache(mode));
    let error = client.clone().oneshot(with(CacheMode::OnlyIfCached)).await.unwrap_err();
    assert_eq!(Error::find(&*error).map(Error::kind), Some(Kind::NotCached));
    body(&client, with(CacheMode::NoStore)).await;
    body(&client, with(CacheMode::ReadOnly)).await;
    let first = body(&client, with(CacheMode::Default)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3, "no-store or read-only stored an answer");
    assert_eq!(body(&client, with(CacheMode::OnlyIfCached)).await, first);
    assert_ne!(body(&client, with(CacheMode::NoStore)).await, first, "no-store was answered from the cache");
    let fresh = body(&client, with(CacheMode::NoCache)).await;
    assert_ne!(fresh, first);
    assert_eq!(body(&client, with(CacheMode::Default)).await, fresh, "no-cache did not store the new answer");
}

#[tokio::test]
async fn an_answer_is_served_within_its_time_to_live_and_no_longer() {
    let clock = ManualClock::at_ms(1_795_000_000_000);
    let layer = CacheLayer::builder().ttl(Duration::from_secs(60)).clock(clock.clone()).build().unwrap();
    let (inner, calls) = upstream(|_| Reply::new(WHOLE.into()));
    let client = cached(&layer, inner);
    body(&client, ask("hi")).await;
    clock.advance(Duration::from_secs(59));
    body(&client, ask("hi")).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    clock.advance(Duration::from_secs(1));
    body(&client, ask("hi")).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2, "a stale answer was served");
    clock.set_ms(1_794_000_000_000);
    body(&client, ask("hi")).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3, "a clock that went back made an answer immortal");
}

#[tokio::test]
async fn a_hit_needs_no_provider() {
    let layer = CacheLayer::in_memory();
    let warm = cached(&layer, upstream(|_| Reply::new(WHOLE.into())).0);
    body(&warm, ask("hi")).await;

    let (mut service, mut provider) = mock::spawn_with(|inner: mock::Mock<Call, Reply>| layer.layer(inner));
    provider.allow(0);
    tokio_test_ready(&mut service);
    let reply = service.call(ask("hi")).await.unwrap();
    assert_eq!(reply.into_body().bytes().await.unwrap(), WHOLE);
    assert!(provider.poll_request().is_pending(), "a hit asked the provider");
}

fn tokio_test_ready(service: &mut mock::Spawn<thrifty::cache::Cache<mock::Mock<Call, Reply>>>) {
    assert!(service.poll_ready::<Call>().is_ready(), "the cache waited for its inner service");
}

#[tokio::test]
async fn a_miss_under_a_concurrency_limit_of_one_does_not_hang() {
    let mut service = ServiceBuilder::new()
        .layer(CacheLayer::in_memory())
        .concurrency_limit(1)
        .service(upstream(|_| Reply::new(WHOLE.into())).0);
    for question in ["one", "two"] {
        let answer = service.ready().await.unwrap().call(ask(question));
        let answer = tokio::time::timeout(Duration::from_secs(2), answer).await;
        assert!(answer.is_ok(), "the layer polled one inner service and called another");
    }
}

#[tokio::test]
async fn the_stack_tells_where_an_answer_came_from_and_what_it_saved() {
    let (inner, calls) = upstream(|_| Reply::new(WHOLE.into()));
    let stack = Stack::builder().build().unwrap();
    let client = stack.layer(inner);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let reply = client.clone().oneshot(ask("hi")).await.unwrap();
        let receipt = reply.extensions().get::<ReceiptHandle>().and_then(ReceiptHandle::get).unwrap().clone();
        seen.push(receipt);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!((seen[0].served, seen[1].served), (Served::Upstream, Served::Memory));
    assert!(seen[0].stored);
    assert_eq!(seen[0].billed.unwrap().to_string(), "0.00045");
    assert_eq!(seen[1].billed.unwrap().to_string(), "0");
    assert_eq!(seen[1].avoided.cache, seen[0].billed.unwrap());
    assert_eq!(seen[1].usage, seen[0].usage, "a hit lost the usage of its answer");
}

#[tokio::test]
async fn a_changed_policy_never_serves_what_the_old_one_asked_for() {
    use thrifty::cap::CapLayer;
    let layer = CacheLayer::in_memory();
    let (inner, calls) = upstream(|n| Reply::new(WHOLE.replace("\"11\"", &format!("\"{n}\"")).into()));
    let mut answers = Vec::new();
    for cap in [5_000, 6_000, 5_000] {
        let stack = Stack::builder().cache(layer.clone()).cap(CapLayer::new(cap)).build().unwrap();
        let call = Call::post(
            "https://api.openai.com/v1/chat/completions",
            r#"{"model":"gpt-5-mini","max_completion_tokens":9000,"messages":[{"role":"user","content":"hi"}]}"#,
        );
        for _ in 0..2 {
            let reply = stack.layer(inner.clone()).oneshot(call.clone()).await.unwrap();
            answers.push(reply.into_body().bytes().await.unwrap());
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert!(answers[0] == answers[1] && answers[0] == answers[4] && answers[0] == answers[5]);
    assert_ne!(answers[0], answers[2]);
}

#[tokio::test]
async fn a_fallback_is_left_as_soon_as_the_model_asked_for_is_up_again() {
    use thrifty::tier::TierPolicy;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let inner = service_fn(move |call: Call| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let model = call.model().unwrap_or_default();
            let mut reply = Reply::new(WHOLE.replace("gpt-5-mini-2025-08-07", &model).into());
            if first {
                *reply.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok::<_, BoxError>(reply)
        }
    });
    let policy = TierPolicy::builder().fallback(["gpt-5-nano"]).build().unwrap();
    let client = Stack::builder().tier(policy).build().unwrap().layer(inner);
    let mut answered = Vec::new();
    for _ in 0..3 {
        let reply = client.clone().oneshot(ask("hi")).await.unwrap();
        let bytes = reply.into_body().bytes().await.unwrap();
        answered.push(String::from_utf8_lossy(&bytes).contains("\"gpt-5-nano\""));
    }
    assert_eq!(answered, [true, false, false], "a shortcut led to the answer of a fallback");
    assert_eq!(calls.load(Ordering::SeqCst), 3, "down, fallback, asked; then from the cache");
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn answers_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.redb");
    let (inner, calls) = upstream(|_| Reply::new(WHOLE.into()));
    for _ in 0..3 {
        let layer = CacheLayer::builder().disk(&path).build().unwrap();
        let client = cached(&layer, inner.clone());
        assert_eq!(body(&client, ask("hi")).await, WHOLE);
        layer.handle().flush().await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1, "a restart lost what was flushed");
}

#[tokio::test]
async fn a_call_that_is_not_understood_passes_by_untouched() {
    let (mut service, mut provider) =
        mock::spawn_with(|inner: mock::Mock<Call, Reply>| CacheLayer::in_memory().layer(inner));
    tokio_test_ready(&mut service);
    let answer = service.call(Call::post("https://api.openai.com/v1/audio/speech", "not json {"));
    let answer = tokio::spawn(answer);
    let (request, respond) = provider.next_request().await.unwrap();
    assert_eq!(request.doc.bytes(), "not json {");
    respond.send_response(Reply::new("bytes".into()));
    assert_eq!(answer.await.unwrap().unwrap().into_body().bytes().await.unwrap(), "bytes");
}
