//! Promises: what is stored and for whom it is served is a table; a call's wishes and the operator's switch are obeyed;
//! a purge is durable and complete; stale answers are served where somebody asked for that and nowhere else.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::StatusCode;
use thrifty::cache::{
    CacheBuilder, CacheHandle, CacheLayer, Mode, RecallLayer, ReplayIdentity, Sampled, Secret,
};
use thrifty::call::{CacheMode, Call, Capped, Framed, Options, Reply, ReplyBody, Scope};
use thrifty::clock::ManualClock;
use thrifty::receipt::Receipt;
use thrifty::{BoxError, Error, Kind};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

const CHAT: &str = "https://api.openai.com/v1/chat/completions";
const NOW: i64 = 1_795_000_000_000;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ask(question: &str) -> Call {
    Call::post(
        CHAT,
        format!(r#"{{"model":"gpt-5-mini","messages":[{{"role":"user","content":"{question}"}}]}}"#),
    )
}

fn wish(options: Options) -> Call {
    ask("hi").with(options)
}

fn ending(finish: &str, message: &str) -> String {
    format!(
        r#"{{"model":"gpt-5-mini","choices":[{{"index":0,"message":{message},"finish_reason":"{finish}"}}]}}"#
    )
}

fn whole(text: &str) -> String {
    ending("stop", &format!(r#"{{"role":"assistant","content":"{text}"}}"#))
}

fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    let mut reply = Reply::new(ReplyBody::full(body));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap();
    reply.headers_mut().insert("content-type", "application/json".parse().unwrap());
    reply
}

/// A cache over an upstream that answers its n-th call with what `answer` makes of n.
struct Bench {
    client: Client,
    handle: CacheHandle,
    clock: ManualClock,
    calls: Arc<AtomicUsize>,
}

impl Bench {
    fn new(
        settings: impl FnOnce(CacheBuilder) -> CacheBuilder,
        answer: impl Fn(usize) -> Result<Reply, BoxError> + Clone + Send + Sync + 'static,
    ) -> Self {
        let clock = ManualClock::at_ms(NOW);
        let builder = CacheLayer::builder()
            .clock(clock.clone())
            .replay_identity(ReplayIdentity::Original)
            .ttl(secs(3_600));
        let layer = settings(builder).build().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let inner = service_fn(move |_: Call| {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            async move {
                tokio::task::yield_now().await;
                answer(n)
            }
        });
        Self { client: Client::new(layer.layer(inner)), handle: layer.handle(), clock, calls }
    }

    /// Answers each call with its number.
    fn counting(settings: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Self {
        Self::new(settings, |n| Ok(reply(200, whole(&n.to_string()))))
    }

    async fn send(&self, call: Call) -> Result<Reply, BoxError> {
        self.client.clone().oneshot(call).await
    }

    async fn body(&self, call: Call) -> Bytes {
        self.send(call).await.unwrap().into_body().bytes().await.unwrap()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn wait(&self, time: Duration) {
        self.clock.advance(time);
    }
}

#[tokio::test]
async fn the_table_of_what_may_be_stored() {
    let plain = |builder: CacheBuilder| builder;
    let truncated = |builder: CacheBuilder| builder.store_truncated();
    let refusals = |builder: CacheBuilder| builder.store_refusals(secs(600));
    let no_tools = |builder: CacheBuilder| builder.skip_tool_calls();
    let text = r#"{"role":"assistant","content":"a"}"#;
    let tool = |arguments: &str| {
        format!(
            r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":"{arguments}"}}}}]}}"#
        )
    };
    type Settings = fn(CacheBuilder) -> CacheBuilder;
    // Settings, status, body, whether the call's output was capped by a layer of ours; the reason, or stored.
    type Row = (Settings, u16, String, bool, Result<(), &'static str>);
    let rows: Vec<Row> = vec![
        (plain, 200, ending("stop", text), false, Ok(())),
        (plain, 200, ending("tool_calls", &tool("{}")), false, Ok(())),
        (plain, 200, ending("tool_calls", &tool("{}").replace("\"f\"", "\"g\"")), false, Err("unknown-tool")),
        (plain, 200, ending("tool_calls", &tool("{")), false, Err("broken-tool-call")),
        (no_tools, 200, ending("tool_calls", &tool("{}")), false, Err("tool-call")),
        (no_tools, 200, ending("stop", text), false, Ok(())),
        (plain, 200, ending("length", text), false, Err("truncated")),
        (truncated, 200, ending("length", text), false, Ok(())),
        (truncated, 200, ending("length", text), true, Err("truncated")),
        (truncated, 200, ending("length", &tool("{")), false, Err("broken-tool-call")),
        (plain, 200, ending("content_filter", text), false, Err("refused")),
        (refusals, 200, ending("content_filter", text), false, Ok(())),
        (truncated, 200, ending("content_filter", text), false, Err("refused")),
        (plain, 200, r#"{"model":"gpt-5-mini","choices":[]}"#.into(), false, Err("unknown")),
        (plain, 200, r#"{"error":{"message":"no"}}"#.into(), false, Err("failed")),
        (plain, 200, ending("stop", r#"{"role":"assistant","content":""}"#), false, Err("empty")),
        (plain, 206, ending("stop", text), false, Err("status")),
        (plain, 400, r#"{"error":{}}"#.into(), false, Err("status")),
        (plain, 401, r#"{"error":{}}"#.into(), false, Err("status")),
        (plain, 429, r#"{"error":{}}"#.into(), false, Err("status")),
        (plain, 500, ending("stop", text), false, Err("status")),
    ];
    for (at, (settings, status, body, capped, want)) in rows.into_iter().enumerate() {
        let answer = body.clone();
        let bench = Bench::new(settings, move |_| Ok(reply(status, answer.clone())));
        let call = || {
            let mut call = Call::post(
                CHAT,
                r#"{"model":"gpt-5-mini","messages":[],"tools":[{"type":"function","function":{"name":"f"}}]}"#,
            );
            if capped {
                call.parts.extensions.insert(Capped);
            }
            call
        };
        for _ in 0..2 {
            assert_eq!(bench.body(call()).await, body, "row {at}: whatever is stored, the caller gets it");
        }
        let stats = bench.handle.stats();
        match want {
            Ok(()) => assert_eq!((bench.calls(), stats.stored), (1, 1), "row {at} {body}: {stats:?}"),
            Err(why) => {
                assert_eq!((bench.calls(), stats.stored), (2, 0), "row {at} {body}: {stats:?}");
                // What no words of ours tell apart is no promise; the reason has to be one all the same.
                let reasons: Vec<_> = stats.refused_by.into_iter().collect();
                assert!(
                    reasons == [(why, 2)] || (why == "unknown" && reasons.len() == 1),
                    "row {at} {body}: {reasons:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_is_kept_for_a_minute_at_most() {
    let refusal = ending("content_filter", r#"{"role":"assistant","content":"a"}"#);
    let bench =
        Bench::new(|builder| builder.store_refusals(secs(600)), move |_| Ok(reply(200, refusal.clone())));
    for (wait, calls) in [(0, 1), (59, 1), (1, 2)] {
        bench.wait(secs(wait));
        bench.body(ask("hi")).await;
        assert_eq!(bench.calls(), calls, "after {wait} s more");
    }
}

#[tokio::test]
async fn calls_with_chance_in_them_are_cached_as_the_setting_says() {
    let call = |members: &str| Call::post(CHAT, format!(r#"{{"model":"m","messages":[]{members}}}"#));
    for (sampled, plain, cold, seeded) in
        [(Sampled::Always, 1, 1, 1), (Sampled::ZeroTempOrSeed, 2, 1, 1), (Sampled::Never, 2, 1, 2)]
    {
        for (members, want) in [
            ("", plain),
            (r#","temperature":1,"top_p":0.1"#, plain),
            (r#","temperature":0.0"#, cold),
            (r#","seed":7"#, seeded),
        ] {
            let bench = Bench::counting(|builder| builder.sampled(sampled));
            bench.body(call(members)).await;
            bench.body(call(members)).await;
            assert_eq!(bench.calls(), want, "{sampled:?} {members}");
            let by = bench.handle.stats().bypassed_by;
            assert_eq!(by.get("sampled").copied().unwrap_or(0), if want == 2 { 2 } else { 0 });
        }
    }
}

#[tokio::test]
async fn the_operators_switch_is_turned_while_calls_go_on() {
    let bench = Bench::counting(|builder| builder);
    assert_eq!(bench.body(ask("hi")).await, whole("0"));
    for (mode, want, calls) in [
        (Mode::On, "0", 1),
        (Mode::Off, "1", 2),
        (Mode::ReadOnly, "0", 2),
        (Mode::WriteOnly, "2", 3),
        (Mode::On, "2", 3),
    ] {
        bench.handle.set_mode(mode);
        assert_eq!(bench.body(ask("hi")).await, whole(want), "{mode:?}");
        assert_eq!(bench.calls(), calls, "{mode:?}");
    }
    bench.handle.set_mode(Mode::ReadOnly);
    bench.body(ask("new")).await;
    bench.handle.set_mode(Mode::On);
    let before = bench.calls();
    bench.body(ask("new")).await;
    assert_eq!(bench.calls(), before + 1, "a cache that is only read stores nothing");
    for mode in [Mode::Off, Mode::WriteOnly] {
        bench.handle.set_mode(mode);
        let error = bench.send(wish(Options::new().cache(CacheMode::OnlyIfCached))).await.unwrap_err();
        assert_eq!(Error::find(&*error).map(Error::kind), Some(Kind::NotCached), "{mode:?}");
    }
}

#[tokio::test]
async fn what_a_call_asks_of_an_answers_age_is_obeyed() {
    let get = |options: Options| wish(options);
    // An hour to live, two more kept; asked for at this age.
    for (age, options, from_cache) in [
        (100, Options::new(), true),
        (100, Options::new().max_age(secs(100)), true),
        (100, Options::new().max_age(secs(99)), false),
        (0, Options::new().max_age(secs(0)), false),
        (100, Options::new().min_fresh(secs(3_500)), true),
        (100, Options::new().min_fresh(secs(3_501)), false),
        (3_600, Options::new(), false),
        (3_600, Options::new().max_stale(secs(0)), true),
        (4_600, Options::new().max_stale(secs(1_000)), true),
        (4_600, Options::new().max_stale(secs(999)), false),
        (3_600 * 3, Options::new().max_stale(secs(1 << 31)), false),
        (100, Options::new().ttl(secs(100)), false),
        (100, Options::new().ttl(secs(101)), true),
        (100, Options::new().cache(CacheMode::NoCache), false),
        (100, Options::new().cache(CacheMode::WriteOnly), false),
        (100, Options::new().cache(CacheMode::NoStore), false),
        (4_600, Options::new().cache(CacheMode::OnlyIfCached).max_stale(secs(1_000)), true),
    ] {
        let bench = Bench::counting(|builder| builder.keep_stale(secs(7_200)));
        bench.body(ask("hi")).await;
        bench.wait(secs(age));
        let answer = bench.send(get(options.clone())).await.unwrap();
        let status = answer.headers()["cache-status"].to_str().unwrap().to_owned();
        assert!(answer.headers().get("thrifty-kept").is_none(), "a mark of ours left the process");
        let want = whole(if from_cache { "0" } else { "1" });
        assert_eq!(answer.into_body().bytes().await.unwrap(), want, "at {age} s, {options:?}");
        if from_cache {
            let left = 3_600 - i64::try_from(age).unwrap();
            assert_eq!(status, format!("thrifty; hit; ttl={left}"), "at {age} s, {options:?}");
        }
    }
}

#[tokio::test]
async fn a_write_only_call_joins_what_is_on_its_way_and_its_answer_is_the_one_that_stays() {
    let bench = Bench::counting(|builder| builder);
    bench.body(ask("hi")).await;
    let write = || wish(Options::new().cache(CacheMode::WriteOnly));
    let (a, b) = tokio::join!(bench.body(write()), bench.body(write()));
    assert_eq!((a, b), (whole("1").into(), whole("1").into()), "both calls share one");
    assert_eq!(bench.body(ask("hi")).await, whole("1"));
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn an_answer_is_put_got_and_forgotten_by_hand() {
    let bench = Bench::counting(|builder| builder);
    let handle = &bench.handle;
    assert!(handle.get(&ask("hi")).await.is_none());
    handle.put(&ask("hi"), reply(200, whole("by hand"))).await.unwrap();
    assert_eq!(bench.body(ask("hi")).await, whole("by hand"));
    let got = handle.get(&ask("hi")).await.expect("it is there");
    assert_eq!(got.into_body().bytes().await.unwrap(), whole("by hand"));
    assert_eq!(bench.calls(), 0);
    for (body, why) in [(ending("length", r#"{"content":"a"}"#), "truncated"), (String::new(), "")] {
        let error = handle.put(&ask("other"), reply(200, body)).await.unwrap_err();
        assert!(error.kind() == Kind::BadInput && error.to_string().contains(why), "{error}");
    }
    let passing = Call::post(CHAT, r#"{"model":"m","messages":[],"store":true}"#);
    assert!(handle.put(&passing, reply(200, whole("x"))).await.is_err(), "it may not be cached");
    assert!(handle.invalidate(&ask("hi")).await);
    assert!(handle.get(&ask("hi")).await.is_none());
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn a_purge_of_a_scope_or_of_all_outlives_the_process_that_did_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.redb");
    let tenant = |name: &str| wish(Options::new().scope(Scope::tenant(name)));
    for all in [false, true] {
        {
            let bench = Bench::counting(|builder| builder.disk(&path));
            bench.body(tenant("ann")).await;
            bench.body(tenant("bob")).await;
            bench.handle.flush().await;
            if all {
                bench.handle.purge_all().await;
            } else {
                bench.handle.purge(&Scope::tenant("ann")).await;
            }
            assert!(bench.handle.get(&tenant("ann")).await.is_none(), "gone at once");
        }
        let bench = Bench::counting(|builder| builder.disk(&path));
        assert!(bench.handle.get(&tenant("ann")).await.is_none(), "gone after a restart (all: {all})");
        let bob = bench.handle.get(&tenant("bob")).await.is_some();
        assert_eq!(bob, !all, "another scope's answers go with a purge of all alone");
    }
}

/// An upstream that answers once and then fails in this way.
fn failing(
    settings: impl FnOnce(CacheBuilder) -> CacheBuilder,
    how: impl Fn() -> Result<Reply, BoxError> + Clone + Send + Sync + 'static,
) -> Bench {
    Bench::new(settings, move |n| if n == 0 { Ok(reply(200, whole("0"))) } else { how() })
}

#[tokio::test]
async fn while_the_provider_is_down_the_last_good_answer_is_served_if_that_is_set() {
    type How = fn() -> Result<Reply, BoxError>;
    let ways: [(How, bool); 6] = [
        (|| Err("connection refused".into()), true),
        (|| Ok(reply(503, "{}")), true),
        (|| Ok(reply(529, "{}")), true),
        (|| Ok(reply(429, "{}")), true),
        (|| Ok(reply(401, "{}")), false),
        (|| Err(Error::over_budget(2, 1).into()), false),
    ];
    for (at, (how, is_down)) in ways.into_iter().enumerate() {
        let with = |builder: CacheBuilder| builder.stale_if_error(secs(600));
        for (wait, window) in [(3_700, true), (4_200, false)] {
            let bench = failing(with, how);
            bench.body(ask("hi")).await;
            bench.wait(secs(wait));
            let came = bench.send(ask("hi")).await;
            assert_eq!(bench.calls(), 2, "the provider is asked first");
            let rescued = came.is_ok_and(|came| came.status() == 200);
            assert_eq!(rescued, is_down && window, "way {at} after {wait} s");
            assert_eq!(bench.handle.stats().stale_hits, u64::from(is_down && window), "way {at}");
        }
        let bench = failing(|builder| builder, how);
        bench.body(ask("hi")).await;
        bench.wait(secs(3_600));
        assert!(!bench.send(ask("hi")).await.is_ok_and(|came| came.status() == 200), "it is off by default");
    }
}

#[tokio::test]
async fn a_stale_answer_is_served_at_once_and_fetched_anew_once() {
    let told: Arc<Mutex<Vec<Receipt>>> = Arc::default();
    let sink = told.clone();
    let bench = Bench::counting(|builder| {
        builder
            .stale_while_revalidate(secs(60))
            .refresh_receipts(move |receipt: &Receipt| sink.lock().unwrap().push(receipt.clone()))
    });
    bench.body(ask("hi")).await;
    bench.wait(secs(3_610));
    let strict = bench.body(wish(Options::new().max_age(secs(3_700)))).await;
    assert_eq!(strict, whole("1"), "who says how fresh it has to be gets no stale answer");
    bench.wait(secs(3_610));
    assert_eq!(bench.body(ask("hi")).await, whole("1"), "stale, and at once");
    assert_eq!(bench.body(ask("hi")).await, whole("1"));
    bench.handle.drain(secs(5)).await;
    assert_eq!(bench.calls(), 3, "one refresh for both");
    assert_eq!(bench.body(ask("hi")).await, whole("2"));
    let stats = bench.handle.stats();
    assert_eq!((stats.refreshes, stats.stale_hits, stats.flights), (1, 2, 0));
    bench.wait(secs(3_660));
    assert_eq!(bench.body(ask("hi")).await, whole("3"), "past the window the caller waits");
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "what nobody waited for is told to the sink");
    assert!(told[0].notes.contains(&"refresh") && told[0].status == Some(200), "{:?}", told[0]);
}

#[tokio::test]
async fn an_error_that_repeats_itself_is_kept_for_seconds_if_that_is_set() {
    for (status, kept) in [
        (400, true),
        (404, true),
        (413, true),
        (422, true),
        (401, false),
        (403, false),
        (429, false),
        (500, false),
    ] {
        let bench = Bench::new(
            |builder| builder.negative_ttl(secs(10)),
            move |_| Ok(reply(status, "{\"error\":{}}")),
        );
        for (wait, calls) in [(0, 1), (9, if kept { 1 } else { 2 }), (1, if kept { 2 } else { 3 })] {
            bench.wait(secs(wait));
            let came = bench.send(ask("hi")).await.unwrap();
            assert_eq!((came.status().as_u16(), bench.calls()), (status, calls), "{status} after {wait} s");
        }
        let other = bench.send(wish(Options::new().scope(Scope::tenant("bob")))).await.unwrap();
        assert_eq!(other.status().as_u16(), status);
        let calls = bench.calls();
        bench.handle.invalidate(&ask("hi")).await;
        bench.send(ask("hi")).await.unwrap();
        assert_eq!(bench.calls(), calls + 1, "an invalidation covers errors too");
        let shared = || wish(Options::new().scope(Scope::shared("all")));
        bench.send(shared()).await.unwrap();
        bench.send(shared()).await.unwrap();
        assert_eq!(bench.calls(), calls + 3, "never in a shared scope");
    }
    let bench = Bench::new(|builder| builder, |_| Ok(reply(400, "{}")));
    bench.send(ask("hi")).await.unwrap();
    bench.send(ask("hi")).await.unwrap();
    assert_eq!(bench.calls(), 2, "it is off by default");
}

#[tokio::test]
async fn several_answers_to_one_question_are_each_served_from_the_first_one_on() {
    // The choice follows from the secret, so this one is always the same.
    let bench =
        Bench::counting(|builder| builder.answers_per_question(4).secret(Secret::from_bytes([7; 32])));
    let mut seen = std::collections::BTreeSet::new();
    let mut hits = 0;
    for _ in 0..200 {
        let before = bench.calls();
        seen.insert(bench.body(ask("hi")).await);
        hits += usize::from(bench.calls() == before && before < 4);
    }
    assert_eq!((bench.calls(), seen.len()), (4, 4), "as many calls as places, and each place is served");
    assert!(hits > 0, "stored answers are served before all places are filled");
    bench.handle.invalidate(&ask("hi")).await;
    bench.body(ask("hi")).await;
    assert_eq!(bench.calls(), 5, "an invalidation covers all places");
}

/// A form with one file, under this boundary.
fn form(boundary: &str) -> Call {
    let body = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--{boundary}--\r\n"
    );
    let request = http::Request::post("https://api.openai.com/v1/audio/transcriptions")
        .header("content-type", format!("multipart/form-data; boundary={boundary}"));
    Call::from_parts(request.body(()).unwrap().into_parts().0, body)
}

#[tokio::test]
async fn calls_that_no_format_reads_are_cached_on_named_routes_only() {
    const SPEECH: &str = "https://api.openai.com/v1/audio/speech";
    let sound: Bytes = vec![0xff, 0xfb, 0x00, 0x0a, 0x0d, 0x90].into();
    let named = |builder: CacheBuilder| {
        builder.opaque_route("/v1/audio/speech").opaque_route("/v1/audio/transcriptions")
    };
    let chunked = {
        let sound = sound.clone();
        move |_| {
            let frames = [sound.slice(..2), sound.slice(2..)]
                .map(|data| Ok::<_, BoxError>(http_body::Frame::data(data)));
            let mut reply = Reply::new(ReplyBody::stream(http_body_util::StreamBody::new(
                futures_util::stream::iter(frames),
            )));
            reply.headers_mut().insert("content-type", "audio/mpeg".parse().unwrap());
            reply.extensions_mut().insert(Framed);
            Ok(reply)
        }
    };
    let say = |text: &str| Call::post(SPEECH, format!(r#"{{"model":"tts-1","input":"{text}"}}"#));
    let bench = Bench::new(named, chunked.clone());
    for _ in 0..3 {
        let came = bench.send(say("hi")).await.unwrap();
        assert_eq!(came.headers()["content-type"], "audio/mpeg");
        assert_eq!(came.into_body().bytes().await.unwrap(), sound, "byte for byte");
    }
    assert_eq!(bench.calls(), 1);
    bench.body(say("ho")).await;
    assert_eq!(bench.calls(), 2, "another text is another question");

    let bench = Bench::new(|builder| builder, chunked);
    bench.body(say("hi")).await;
    bench.body(say("hi")).await;
    assert_eq!(bench.calls(), 2, "a route that nobody named");

    let text = |_| {
        let mut reply = reply(200, r#"{"text":"hello"}"#);
        reply.headers_mut().insert("content-length", "16".parse().unwrap());
        Ok(reply)
    };
    let bench = Bench::new(named, text);
    for boundary in ["a1", "b2", "a1"] {
        assert_eq!(bench.body(form(boundary)).await, r#"{"text":"hello"}"#);
    }
    assert_eq!(bench.calls(), 1, "the boundary of a form is no part of the question");

    // Without framing nobody knows whether all of it came.
    let bench = Bench::new(named, |_| {
        let mut reply = reply(200, "sound");
        reply.headers_mut().insert("content-type", "audio/mpeg".parse().unwrap());
        Ok(reply)
    });
    bench.body(say("hi")).await;
    bench.body(say("hi")).await;
    assert_eq!((bench.calls(), bench.handle.stats().refused_by.get("partial")), (2, Some(&2)));
}

#[tokio::test]
async fn a_purge_of_a_scope_covers_what_is_on_its_way() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = gate.clone();
    let inner = service_fn(move |_: Call| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, BoxError>(reply(200, whole("0")))
        }
    });
    let layer = CacheLayer::in_memory();
    let (client, handle) = (Client::new(layer.layer(inner)), layer.handle());
    let ann = || wish(Options::new().scope(Scope::tenant("ann")));
    let before = tokio::spawn(client.clone().oneshot(ann()));
    while handle.stats().flights == 0 {
        tokio::task::yield_now().await;
    }
    handle.purge(&Scope::tenant("ann")).await;
    let after = tokio::spawn(client.clone().oneshot(ann()));
    while handle.stats().flights < 2 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    assert!(before.await.unwrap().is_ok(), "its caller is served");
    assert_eq!(handle.stats().refused_by.get("purged"), Some(&1));
    assert!(handle.get(&ann()).await.is_none(), "what was asked before a purge is not stored after it");
    gate.add_permits(1);
    assert!(after.await.unwrap().is_ok());
    assert!(handle.get(&ann()).await.is_some(), "what was asked after it is");
    handle.purge_caller(&ann()).await;
    assert!(handle.get(&ann()).await.is_none(), "a call tells whose answers are to go");
}

#[tokio::test]
async fn a_purge_of_one_scope_leaves_what_is_on_its_way_for_others_alone() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = gate.clone();
    let inner = service_fn(move |_: Call| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, BoxError>(reply(200, whole("0")))
        }
    });
    let layer = CacheLayer::in_memory();
    let (client, handle) = (Client::new(layer.layer(inner)), layer.handle());
    let of = |name: &str| wish(Options::new().scope(Scope::tenant(name)));
    let sent = tokio::spawn(client.clone().oneshot(of("bob")));
    while handle.stats().flights == 0 {
        tokio::task::yield_now().await;
    }
    handle.purge(&Scope::tenant("ann")).await;
    handle.purge_caller(&of("ann")).await;
    let joined = tokio::spawn(client.clone().oneshot(of("bob")));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(handle.stats().flights, 1, "the same question is still the same flight");
    gate.add_permits(1);
    assert!(sent.await.unwrap().is_ok() && joined.await.unwrap().is_ok());
    let stats = handle.stats();
    assert_eq!((stats.stored, stats.joined, stats.purges), (1, 1, 2), "{stats:?}");
    assert!(handle.get(&of("bob")).await.is_some(), "it is stored");
}

/// Answers as this model.
fn by(model: &str, n: usize) -> String {
    whole(&n.to_string()).replace("gpt-5-mini", model)
}

#[tokio::test]
async fn when_a_name_stands_for_another_model_what_the_former_one_gave_is_not_served() {
    const MODELS: [&str; 8] = [
        "gpt-5-mini-2025-08-07",
        "gpt-5-mini-2025-08-07",
        "gpt-5-mini-2025-08-07",
        "gpt-5-mini-2026-02-01",
        "gpt-5-mini-2026-02-01",
        "gpt-5-mini-2025-08-07",
        "gpt-5-mini-2026-02-01",
        "gpt-5-mini-2026-02-01",
    ];
    for with_shortcut in [false, true] {
        let mut bench = Bench::new(|builder| builder, |n| Ok(reply(200, by(MODELS[n], n))));
        if with_shortcut {
            let layer = CacheLayer::builder()
                .clock(bench.clock.clone())
                .replay_identity(ReplayIdentity::Original)
                .build()
                .unwrap();
            let calls = bench.calls.clone();
            let inner = service_fn(move |_: Call| {
                let n = calls.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, BoxError>(reply(200, by(MODELS[n], n))) }
            });
            bench.handle = layer.handle();
            bench.client = Client::new(RecallLayer::new(&layer, [0; 32]).layer(layer.layer(inner)));
        }
        let bob = || wish(Options::new().scope(Scope::tenant("bob")));
        for (call, want) in [
            (ask("one"), 0),
            (ask("two"), 1),
            (bob(), 2),
            (ask("one"), 0),
            (ask("three"), 3), // the news
            (ask("three"), 3),
            (ask("one"), 4), // fetched anew
            (ask("one"), 4),
            (bob(), 2), // another scope has seen nothing of it
        ] {
            bench.wait(secs(1));
            assert_eq!(bench.body(call).await, by(MODELS[want], want), "{want}, shortcut: {with_shortcut}");
        }
        assert!(bench.handle.get(&ask("two")).await.is_none());
        assert_eq!(bench.handle.stats().misses_by.get("model-moved"), Some(&1));
        // It goes back: a router, or a change under way. None of its answers is wrong.
        bench.wait(secs(1));
        assert_eq!(bench.body(ask("four")).await, by(MODELS[5], 5));
        assert_eq!(bench.body(ask("two")).await, by(MODELS[1], 1));
        assert_eq!(bench.body(ask("one")).await, by(MODELS[4], 4));
        assert_eq!(bench.calls(), 6);
    }
}

const OLD: &str = "gpt-5-mini-2025-08-07";
const NEW: &str = "gpt-5-mini-2026-02-01";

#[cfg(feature = "disk")]
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_bring_back_what_a_former_model_gave() {
    // What is asked after the restart, before the former model's answer is.
    for asked in [&["two"][..], &["three"], &["two", "three"]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.redb");
        let open = |model: fn(usize) -> &'static str| {
            Bench::new(
                |builder| builder.disk(&path).secret(Secret::from_bytes([1; 32])),
                move |n| Ok(reply(200, by(model(n), n))),
            )
        };
        let bench = open(|n| if n == 0 { OLD } else { NEW });
        for question in ["one", "two"] {
            bench.body(ask(question)).await;
            bench.wait(secs(1));
        }
        assert!(bench.handle.get(&ask("one")).await.is_none(), "moved");
        bench.handle.flush().await;
        drop(bench);

        let bench = open(|_| NEW);
        bench.wait(secs(2));
        for question in asked {
            bench.body(ask(question)).await;
        }
        let before = bench.calls();
        assert_eq!(bench.body(ask("one")).await, by(NEW, before), "after {asked:?}");
        assert_eq!(bench.body(ask("one")).await, by(NEW, before), "it is stored");
        let stats = bench.handle.stats();
        assert_eq!(stats.misses_by.get("model-moved"), Some(&1), "after {asked:?}: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_tenants_does_not_make_the_cache_forget_a_move() {
    const CROWD: usize = 6_000;
    let models = Arc::new(AtomicUsize::new(0));
    let present = models.clone();
    let bench = Bench::new(
        |builder| builder.memory_bytes(256 << 20),
        move |n| Ok(reply(200, by([OLD, NEW][present.load(Ordering::SeqCst)], n))),
    );
    let of = |question: &str, who: usize| {
        ask(question).with(Options::new().scope(Scope::tenant(&who.to_string())))
    };
    for (at, question) in ["one", "two"].into_iter().enumerate() {
        models.store(at, Ordering::SeqCst);
        for who in 0..CROWD {
            bench.body(of(question, who)).await;
        }
        bench.wait(secs(1));
    }
    let mut served = [0; 2];
    for who in 0..CROWD {
        for (served, question) in served.iter_mut().zip(["one", "two"]) {
            *served += usize::from(bench.handle.get(&of(question, who)).await.is_some());
        }
    }
    assert_eq!(served, [0, CROWD], "of the former model, of the present one");
}

#[tokio::test]
async fn a_former_models_answer_that_was_on_its_way_is_not_stored() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (opened, calls) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let clock = ManualClock::at_ms(NOW);
    let layer = CacheLayer::builder().clock(clock.clone()).build().unwrap();
    let inner = service_fn(move |_: Call| {
        let (gate, n) = (opened.clone(), calls.fetch_add(1, Ordering::SeqCst));
        async move {
            if n == 1 {
                gate.acquire().await.unwrap().forget();
            }
            Ok::<_, BoxError>(reply(200, by([OLD, OLD, NEW][n], n)))
        }
    });
    let (client, handle) = (Client::new(layer.layer(inner)), layer.handle());
    let send = |question| client.clone().oneshot(ask(question));
    send("one").await.unwrap();
    clock.advance(secs(1));
    let slow = tokio::spawn(send("two"));
    while handle.stats().flights == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(secs(1));
    send("three").await.unwrap();
    clock.advance(secs(1));
    gate.add_permits(1);
    assert!(slow.await.unwrap().is_ok(), "its caller gets it");
    assert_eq!(handle.stats().refused_by.get("model-moved"), Some(&1));
    assert!(handle.get(&ask("three")).await.is_some() && handle.get(&ask("one")).await.is_none());
}

#[tokio::test]
async fn an_answer_to_a_name_that_may_move_lives_for_a_day_at_most() {
    let day = 24 * 3_600;
    for (answered, ttl) in [("gpt-5-mini-2025-08-07", day), ("gpt-5-mini", 7 * day)] {
        let bench =
            Bench::new(|builder| builder.ttl(secs(7 * day)), move |n| Ok(reply(200, by(answered, n))));
        bench.body(ask("hi")).await;
        for (wait, calls) in [(ttl - 1, 1), (1, 2)] {
            bench.wait(secs(wait));
            bench.body(ask("hi")).await;
            assert_eq!(bench.calls(), calls, "{answered} after {wait} s more");
        }
    }
}

#[tokio::test]
async fn the_head_of_an_answer_says_why_it_is_not_stored_where_that_is_known() {
    let cut = ending("length", r#"{"role":"assistant","content":"a"}"#);
    let streamed = |status: u16| {
        let frame = Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(b"data: {}\n\n")));
        let frames = futures_util::stream::iter([frame]).chain(futures_util::stream::pending());
        let mut reply = Reply::new(ReplyBody::stream(http_body_util::StreamBody::new(frames)));
        *reply.status_mut() = StatusCode::from_u16(status).unwrap();
        reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        reply
    };
    type Answer = Box<dyn Fn() -> Reply + Send + Sync>;
    let answers: [(&str, Answer, &str); 6] = [
        ("good", Box::new(|| reply(200, whole("a"))), "thrifty; fwd=miss"),
        ("cut", Box::new(move || reply(200, cut.clone())), "thrifty; fwd=miss; detail=truncated"),
        ("error", Box::new(|| reply(500, "{}")), "thrifty; fwd=miss; detail=status"),
        ("bad stream", Box::new(move || streamed(429)), "thrifty; fwd=miss; detail=status"),
        // Its end is not known when its head leaves.
        ("cut stream", Box::new(move || streamed(200)), "thrifty; fwd=miss"),
        ("not json", Box::new(|| reply(200, "<html>")), "thrifty; fwd=miss; detail=failed"),
    ];
    for (name, answer, want) in answers {
        let answer = Arc::new(answer);
        let bench = Bench::new(|builder| builder, move |_| Ok(answer()));
        let said = |reply: Reply| reply.headers()["cache-status"].to_str().unwrap().to_owned();
        assert_eq!(said(bench.send(ask("hi")).await.unwrap()), want, "{name}");
        let anew = bench.send(wish(Options::new().cache(CacheMode::NoCache))).await.unwrap();
        assert_eq!(said(anew), want.replace("fwd=miss", "fwd=request"), "{name}");
        let silent = bench.send(wish(Options::new().scope(Scope::shared("all")))).await.unwrap();
        assert!(silent.headers().get("cache-status").is_none(), "{name}");
    }
}

#[tokio::test]
async fn members_left_out_by_the_operator_do_not_count_and_the_shortcut_knows_it() {
    let call = |id: &str, text: &str| {
        Call::post(
            CHAT,
            format!(
                r#"{{"model":"gpt-5-mini","messages":[{{"role":"user","id":"{id}","content":"{text}"}}]}}"#
            ),
        )
    };
    for (paths, calls) in [(&[][..], 3), (&["/messages/*/id"][..], 2)] {
        let bench = Bench::counting(|builder| paths.iter().copied().fold(builder, CacheBuilder::leave_out));
        for (id, text) in [("1", "hi"), ("2", "hi"), ("1", "hi"), ("1", "ho")] {
            bench.body(call(id, text)).await;
        }
        assert_eq!(bench.calls(), calls, "{paths:?}");
    }
}

#[test]
fn a_path_that_takes_the_question_out_of_the_key_or_means_nothing_is_refused() {
    for path in [
        "/messages",
        "/messages/*/content",
        "/messages/*/role",
        "/contents/*/parts",
        "/input",
        "/prompt/id",
        "/system",
        "/instructions",
        "/model",
        "/tools",
        "/messages/*",
        "/messages/0/id",
        "/messages/*id",
        "/messages/ * /id",
    ] {
        let error = CacheLayer::builder().leave_out(path).build().unwrap_err();
        assert_eq!(error.kind(), Kind::BadSetting, "{path}");
        let text = error.to_string();
        assert!(text.contains(path) && !text.contains('\n'), "{path}: {text}");
    }
}

#[tokio::test]
async fn the_default_time_to_live_is_shortened_a_little_and_a_chosen_one_is_not() {
    let day = 24 * 3_600;
    let ttl = async |settings: fn(CacheBuilder) -> CacheBuilder, options: Options| {
        let clock = ManualClock::at_ms(NOW);
        let builder = CacheLayer::builder().clock(clock).secret(Secret::from_bytes([7; 32]));
        let layer = settings(builder).build().unwrap();
        let call = wish(options);
        layer.handle().put(&call, reply(200, whole("a"))).await.unwrap();
        let got = layer.handle().get(&call).await.unwrap();
        let status = got.headers()["cache-status"].to_str().unwrap().to_owned();
        status.rsplit('=').next().unwrap().parse::<u64>().unwrap()
    };
    let (plain, own) = (Options::new, || Options::new().ttl(secs(1_000)));
    let short = ttl(|builder| builder, plain()).await;
    assert!((day * 9 / 10..day).contains(&short), "{short}");
    assert_eq!(short, ttl(|builder| builder, plain()).await, "it follows from the key");
    assert_eq!(ttl(|builder| builder.ttl_jitter(0), plain()).await, day);
    assert_eq!(ttl(|builder| builder.ttl(secs(50_000)), plain()).await, 50_000);
    let both = ttl(|builder| builder.ttl(secs(50_000)).ttl_jitter(10), plain()).await;
    assert!((45_000..50_000).contains(&both), "{both}");
    assert_eq!(ttl(|builder| builder.ttl_jitter(50), own()).await, 1_000, "a call gets what it asked for");
}

#[tokio::test]
async fn at_the_http_edge_cache_control_is_obeyed() {
    let bench = Bench::counting(|builder| builder);
    let edge = thrifty::edge::FromHttp::new(bench.client.clone()).answering_errors();
    let send = async |directives: &str| {
        let request = http::Request::post(CHAT)
            .header("cache-control", directives)
            .body(http_body_util::Full::<Bytes>::from(ask("hi").doc.bytes().clone()))
            .unwrap();
        let reply = edge.clone().oneshot(request).await.unwrap();
        (reply.status().as_u16(), reply.into_body().bytes().await.unwrap())
    };
    assert_eq!(send("only-if-cached").await.0, 504, "nothing is there");
    for (wait, directives, want) in [
        (0, "", "0"),
        (0, "only-if-cached", "0"),
        (0, "max-age=0", "1"),
        (5, "max-age=5", "1"),
        (1, "max-age=5", "2"),
        (0, "no-cache", "3"),
        (0, "no-store", "4"),
        (0, "min-fresh=3600", "3"),
        (1, "min-fresh=3600", "5"),
        (0, "max-age=later", "6"),
    ] {
        bench.wait(secs(wait));
        assert_eq!(send(directives).await, (200, whole(want).into()), "{directives}");
    }
}
