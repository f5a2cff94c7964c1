//! Promise: one upstream call serves all who ask the same, come and go as they may; what they hold is bounded, and
//! nothing is left over.
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use thrifty::cache::{CacheBuilder, CacheHandle, CacheLayer, OrphanPolicy};
use thrifty::call::{CacheMode, Call, Options, Reply, ReplyBody};
use thrifty::edge::FromHttp;
use thrifty::receipt::Receipt;
use thrifty::stack::Stack;
use thrifty::{BoxError, Error, Kind};
use tokio::sync::{Semaphore, mpsc, watch};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

const URL: &str = "https://api.openai.com/v1/chat/completions";
const STREAMED: &str =
    r#"{"model":"gpt-5-mini","stream":true,"messages":[{"role":"user","content":"Name a prime above 10."}]}"#;
const PLAIN: &str =
    r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"Name a prime above 10."}]}"#;
const WHOLE: &str = r#"{"model":"gpt-5-mini","choices":[{"index":0,"message":{"role":"assistant","content":"11"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}"#;
const LAST: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

fn ask(body: &'static str) -> Call {
    Call::post(URL, body)
}

/// The `n`th frame of a stream, of about `len` bytes.
fn delta(n: usize, len: usize) -> String {
    let text = "x".repeat(len);
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{n} {text}\"}}}}]}}\n\n")
}

/// An upstream whose streams send what the test feeds them.
struct Hand {
    calls: Arc<AtomicUsize>,
    feeds: mpsc::UnboundedReceiver<Feed>,
}

/// One stream of it. Dropped, the stream ends.
struct Feed(mpsc::Sender<Result<Bytes, BoxError>>);

impl Feed {
    async fn send(&self, frame: impl Into<Bytes>) {
        self.0.send(Ok(frame.into())).await.expect("the flight listens");
    }
}

impl Hand {
    fn new() -> (Self, Client) {
        let calls = Arc::new(AtomicUsize::new(0));
        let (opened, feeds) = mpsc::unbounded_channel();
        let counted = calls.clone();
        let service = service_fn(move |_: Call| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (feed, frames) = mpsc::channel(1);
            opened.send(Feed(feed)).expect("the test goes on");
            async move {
                let frames = futures_util::stream::unfold(frames, |mut frames| async move {
                    let frame: Result<Bytes, BoxError> = frames.recv().await?;
                    Some((frame.map(Frame::data), frames))
                });
                let mut reply = Reply::new(ReplyBody::stream(http_body_util::StreamBody::new(frames)));
                reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
                Ok::<_, BoxError>(reply)
            }
        });
        (Self { calls, feeds }, BoxCloneSyncService::new(service))
    }

    async fn next(&mut self) -> Feed {
        self.feeds.recv().await.expect("a call was made")
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// The cache in front of a hand-fed upstream.
fn set_up(builder: CacheBuilder) -> (Client, CacheHandle, Hand) {
    let layer = builder.build().unwrap();
    let (hand, inner) = Hand::new();
    (BoxCloneSyncService::new(layer.layer(inner)), layer.handle(), hand)
}

/// Nothing goes on and nothing is held.
async fn nothing_left(handle: &CacheHandle) {
    assert!(handle.drain(Duration::from_secs(60)).await, "a call goes on for nobody");
    let stats = handle.stats();
    assert_eq!((stats.flights, stats.flight_tasks, stats.flight_bytes), (0, 0, 0), "something was left over");
}

async fn frame_of(body: &mut ReplyBody) -> Option<Result<Bytes, BoxError>> {
    Some(body.frame().await?.map(|frame| frame.into_data().expect("no trailers")))
}

async fn read(client: &Client, call: Call) -> Result<Bytes, BoxError> {
    client.clone().oneshot(call).await?.into_body().bytes().await
}

/// Lets everything run that can, without waiting for time.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// 200 callers of one stream: each joins when so many frames were sent, and a third leave after some frames.
async fn two_hundred(send: impl AsyncFn() -> ReplyBody + Clone + Send + 'static, mut hand: Hand) -> usize {
    const FRAMES: usize = 40;
    let frames: Vec<String> = (0..FRAMES).map(|n| delta(n, 200)).chain([LAST.to_owned()]).collect();
    let all = frames.concat();
    let dice =
        |caller: usize, what: usize| usize::from(blake3::hash(&[caller as u8, what as u8]).as_bytes()[0]);
    let (sent, progress) = watch::channel(0);
    let joined = Arc::new(Semaphore::new(0));
    let joins = |caller: usize| if caller == 0 { 0 } else { dice(caller, 0) % FRAMES };
    let local = tokio::task::LocalSet::new();
    let callers: Vec<_> = (0..200)
        .map(|caller| {
            let (send, mut progress, joined, all) =
                (send.clone(), progress.clone(), joined.clone(), all.clone());
            // The one who begins it leaves, too.
            let stays = if caller % 3 == 0 { dice(caller, 1) % FRAMES } else { usize::MAX };
            let from = joins(caller);
            local.spawn_local(async move {
                progress.wait_for(|sent| *sent >= from).await.unwrap();
                let mut body = send().await;
                joined.add_permits(1);
                let (mut got, mut frames) = (Vec::new(), 0);
                while frames < stays
                    && let Some(frame) = frame_of(&mut body).await
                {
                    got.extend_from_slice(&frame.unwrap());
                    frames += 1;
                }
                if stays == usize::MAX {
                    assert_eq!(got, all.as_bytes(), "a caller who joined at {from} misses something");
                } else {
                    assert!(all.as_bytes().starts_with(&got));
                }
            })
        })
        .collect();
    local
        .run_until(async move {
            let feed = hand.next().await;
            for (n, frame) in frames.into_iter().enumerate() {
                sent.send_replace(n);
                let here = (0..200).filter(|caller| joins(*caller) == n).count();
                joined.acquire_many(u32::try_from(here).unwrap()).await.unwrap().forget();
                settle().await;
                feed.send(frame).await;
            }
            drop(feed);
            for caller in join_all(callers).await {
                caller.expect("no caller panics");
            }
            hand.calls()
        })
        .await
}

#[tokio::test]
async fn two_hundred_callers_of_one_stream_a_third_of_them_leaving_make_one_call() {
    let (client, handle, hand) = set_up(CacheLayer::builder());
    let send = async move || client.clone().oneshot(ask(STREAMED)).await.unwrap().into_body();
    assert_eq!(two_hundred(send, hand).await, 1);
    nothing_left(&handle).await;
    assert_eq!(handle.stats().stored, 1);
}

#[tokio::test]
async fn so_they_do_through_the_whole_stack_and_its_http_edge() {
    let stack = Stack::builder().build().unwrap();
    let (hand, inner) = Hand::new();
    let edge = FromHttp::new(BoxCloneSyncService::new(stack.layer(inner))).answering_errors();
    let send = async move || {
        let request = http::Request::post(URL).header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from_static(STREAMED.as_bytes()))).unwrap();
        edge.clone().oneshot(request).await.unwrap().into_body()
    };
    assert_eq!(two_hundred(send, hand).await, 1);
    nothing_left(&stack.cache().unwrap()).await;
}

#[tokio::test]
async fn a_caller_who_does_not_read_slows_nobody() {
    let (client, handle, mut hand) = set_up(CacheLayer::builder());
    let (fast, slow) =
        tokio::join!(client.clone().oneshot(ask(STREAMED)), client.clone().oneshot(ask(STREAMED)));
    let (mut fast, slow) = (fast.unwrap().into_body(), slow.unwrap().into_body());
    let feed = hand.next().await;
    let mut all = Vec::new();
    for n in 0..1_000 {
        let frame = Bytes::from(delta(n, 100));
        feed.send(frame.clone()).await;
        assert_eq!(frame_of(&mut fast).await.unwrap().unwrap(), frame, "the reader waits for the other");
        all.extend_from_slice(&frame);
    }
    drop(feed);
    assert!(frame_of(&mut fast).await.is_none());
    assert_eq!(slow.bytes().await.unwrap(), all, "who reads later gets it all");
    drop(fast);
    nothing_left(&handle).await;
}

#[tokio::test(start_paused = true)]
async fn many_large_streams_hold_no_more_than_the_bound_and_lose_nothing() {
    const FLIGHTS: usize = 24;
    const FRAMES: usize = 64;
    const LEN: usize = 4_096;
    const BOUND: usize = 256 << 10;
    let (client, handle, mut hand) = set_up(CacheLayer::builder().flight_bytes(BOUND));
    let most = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for n in 0..FLIGHTS {
        let body = STREAMED.replace("10", &n.to_string());
        let call = Call::post(URL, body);
        let readers = join_all((0..2).map(|_| client.clone().oneshot(call.clone()))).await;
        let feed = hand.next().await;
        let frames: Vec<Bytes> = (0..FRAMES).map(|n| delta(n, LEN).into()).chain([LAST.into()]).collect();
        let all = frames.concat();
        let (handle, most) = (handle.clone(), most.clone());
        tasks.push(tokio::spawn(async move {
            for frame in frames {
                feed.send(frame).await;
                let held = usize::try_from(handle.stats().flight_bytes).unwrap();
                most.fetch_max(held, Ordering::SeqCst);
            }
        }));
        for reader in readers {
            let (body, all) = (reader.unwrap().into_body(), all.clone());
            tasks.push(tokio::spawn(async move {
                assert_eq!(body.bytes().await.unwrap(), all, "a stream without room lost bytes");
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    nothing_left(&handle).await;
    let most = most.load(Ordering::SeqCst);
    assert!(most > BOUND / 2, "the bound was not tried: {most}");
    assert!(most <= BOUND + FLIGHTS * (LEN + 256), "{most} bytes in flight");
    assert!(handle.stats().not_stored > 0, "what was not recorded is not stored");
}

#[tokio::test(start_paused = true)]
async fn without_room_a_laggard_gets_an_error_and_a_reader_alone_sets_the_pace() {
    let (client, handle, mut hand) = set_up(CacheLayer::builder().flight_bytes(8 << 10));
    let ask_it = || client.clone().oneshot(ask(STREAMED));
    let (fast, lags) = tokio::join!(ask_it(), ask_it());
    let (fast, mut lags) = (fast.unwrap().into_body(), lags.unwrap().into_body());
    let feed = hand.next().await;
    let fast = tokio::spawn(fast.bytes());
    let mut all = Vec::new();
    for n in 0..100 {
        let frame = delta(n, 1_000);
        all.extend_from_slice(frame.as_bytes());
        feed.send(frame).await;
    }
    drop(feed);
    assert_eq!(fast.await.unwrap().unwrap(), all, "a laggard cost the others their stream");
    let error = loop {
        if let Err(error) = frame_of(&mut lags).await.expect("it is not told that this was all") {
            break error;
        }
    };
    assert!(Error::find(&*error).unwrap().to_string().contains("read far too slowly"));
    drop(lags);
    nothing_left(&handle).await;

    let mut alone = ask_it().await.unwrap().into_body();
    let feed = hand.next().await;
    let fed = tokio::spawn(async move {
        for n in 0..100 {
            feed.send(delta(n, 1_000)).await;
        }
    });
    let mut got = Vec::new();
    while let Some(frame) = frame_of(&mut alone).await {
        got.extend_from_slice(&frame.unwrap());
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    fed.await.unwrap();
    assert_eq!(got, all);
    nothing_left(&handle).await;
}

#[tokio::test]
async fn nobody_joins_a_stream_whose_start_is_gone_and_a_reply_over_its_own_bound_is_not_stored() {
    let (client, handle, mut hand) = set_up(CacheLayer::builder().largest_reply(3_000));
    let mut first = client.clone().oneshot(ask(STREAMED)).await.unwrap().into_body();
    let feed = hand.next().await;
    for n in 0..5 {
        feed.send(delta(n, 1_000)).await;
        frame_of(&mut first).await.unwrap().unwrap();
    }
    assert_eq!(handle.stats().flights, 0, "it cannot be joined");
    assert_eq!(handle.stats().flight_tasks, 1, "it goes on");
    let second = client.clone().oneshot(ask(STREAMED)).await.unwrap().into_body();
    let other = hand.next().await;
    let small = delta(0, 10) + LAST;
    other.send(small.clone()).await;
    drop(other);
    assert_eq!(second.bytes().await.unwrap(), small);
    feed.send(LAST).await;
    drop(feed);
    assert_eq!(first.bytes().await.unwrap(), LAST);
    nothing_left(&handle).await;
    assert_eq!((handle.stats().stored, handle.stats().not_stored, hand.calls()), (1, 1, 2));
}

/// A stack whose receipts are kept.
fn metered(builder: CacheBuilder) -> (Client, CacheHandle, Hand, Arc<Mutex<Vec<Receipt>>>) {
    let receipts = Arc::new(Mutex::new(Vec::new()));
    let kept = receipts.clone();
    let sink = move |receipt: &Receipt| kept.lock().unwrap().push(receipt.clone());
    let stack = Stack::builder().cache(builder.build().unwrap()).sink(sink).build().unwrap();
    let (hand, inner) = Hand::new();
    (BoxCloneSyncService::new(stack.layer(inner)), stack.cache().unwrap(), hand, receipts)
}

#[tokio::test(start_paused = true)]
async fn a_stream_left_by_all_waits_for_someone_to_come_and_is_then_cancelled_and_paid_as_far_as_it_came() {
    let (client, handle, mut hand, receipts) = metered(CacheLayer::builder());
    let mut first = client.clone().oneshot(ask(STREAMED)).await.unwrap().into_body();
    let feed = hand.next().await;
    feed.send(delta(0, 400)).await;
    frame_of(&mut first).await.unwrap().unwrap();
    drop(first);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(!feed.0.is_closed(), "it was cancelled within the grace time");
    let mut second = client.clone().oneshot(ask(STREAMED)).await.unwrap().into_body();
    assert_eq!(frame_of(&mut second).await.unwrap().unwrap(), delta(0, 400), "who comes late gets the start");
    tokio::time::sleep(Duration::from_secs(60)).await;
    feed.send(delta(1, 400)).await;
    assert_eq!(frame_of(&mut second).await.unwrap().unwrap(), delta(1, 400), "someone listens: it goes on");
    drop(second);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(!feed.0.is_closed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(feed.0.is_closed(), "nobody came, and it goes on");
    nothing_left(&handle).await;
    assert_eq!((hand.calls(), handle.stats().stored), (1, 0));
    let receipts = receipts.lock().unwrap();
    assert_eq!(receipts.len(), 2);
    let paid = receipts.iter().find(|receipt| !receipt.served.is_free()).expect("one of them paid");
    assert!(receipts.iter().all(|receipt| !receipt.complete));
    assert_eq!(paid.billed, None, "nobody knows what it cost");
    // Two frames of some 400 bytes were written: about 200 tokens at 2 USD per million, more than one frame's worth.
    assert!(paid.estimate.unwrap().pico() > 350_000_000, "{:?}", paid.estimate);
}

#[tokio::test(start_paused = true)]
async fn the_orphan_policies_do_what_they_say() {
    for (policy, closed_after_an_hour) in
        [(OrphanPolicy::Finish, false), (OrphanPolicy::Grace(Duration::ZERO), true)]
    {
        let builder = CacheLayer::builder().idle_timeout(Duration::from_secs(7_200)).orphaned_streams(policy);
        let (client, handle, mut hand) = set_up(builder);
        let mut body = client.clone().oneshot(ask(STREAMED)).await.unwrap().into_body();
        let feed = hand.next().await;
        feed.send(delta(0, 10)).await;
        frame_of(&mut body).await.unwrap().unwrap();
        drop(body);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(feed.0.is_closed(), closed_after_an_hour, "{policy:?}");
        if !closed_after_an_hour {
            feed.send(LAST).await;
        }
        drop(feed);
        nothing_left(&handle).await;
        assert_eq!(handle.stats().stored, u64::from(!closed_after_an_hour), "{policy:?}");
    }
}

/// The cache in front of an upstream that answers whole after `pause`.
fn slow(builder: CacheBuilder, pause: Duration) -> (Client, CacheHandle, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let inner = service_fn(move |_: Call| {
        let counted = counted.clone();
        async move {
            tokio::time::sleep(pause).await;
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, BoxError>(Reply::new(WHOLE.into()))
        }
    });
    let layer = builder.build().unwrap();
    (BoxCloneSyncService::new(layer.layer(inner)), layer.handle(), calls)
}

#[tokio::test(start_paused = true)]
async fn a_plain_call_left_by_all_is_finished_and_stored_unless_the_policy_says_otherwise() {
    let answers_in = Duration::from_secs(600);
    let leaves_in = Duration::from_secs(1);
    let (client, handle, calls) = slow(CacheLayer::builder(), answers_in);
    tokio::time::timeout(leaves_in, read(&client, ask(PLAIN))).await.unwrap_err();
    nothing_left_in(&handle, Duration::from_secs(1_000)).await;
    assert_eq!(read(&client, ask(PLAIN)).await.unwrap(), WHOLE);
    assert_eq!(calls.load(Ordering::SeqCst), 1, "what was paid for was not kept");

    let (client, handle, calls) =
        slow(CacheLayer::builder().orphan_grace(Duration::from_secs(30)), answers_in);
    tokio::time::timeout(leaves_in, read(&client, ask(PLAIN))).await.unwrap_err();
    nothing_left_in(&handle, Duration::from_secs(31)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0, "it was cancelled");
}

async fn nothing_left_in(handle: &CacheHandle, most: Duration) {
    assert!(handle.drain(most).await, "a call goes on after {most:?}");
    nothing_left(handle).await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_falls_silent_is_an_error_to_all_and_stores_nothing() {
    let (client, handle, mut hand) = set_up(CacheLayer::builder());
    let ask_it = || client.clone().oneshot(ask(STREAMED));
    let (first, second) = tokio::join!(ask_it(), ask_it());
    let mut callers = [first.unwrap().into_body(), second.unwrap().into_body()];
    let feed = hand.next().await;
    for n in 0..2 {
        // Slow is not silent.
        tokio::time::sleep(Duration::from_secs(299)).await;
        feed.send(delta(n, 10)).await;
    }
    let before = tokio::time::Instant::now();
    for caller in &mut callers {
        for n in 0..2 {
            assert_eq!(frame_of(caller).await.unwrap().unwrap(), delta(n, 10));
        }
        let error = frame_of(caller).await.unwrap().unwrap_err();
        let error = Error::find(&*error).unwrap();
        assert_eq!(error.kind(), Kind::Upstream);
        assert!(error.to_string().contains("silent"), "{error}");
        assert!(frame_of(caller).await.is_none(), "after an error nothing comes");
    }
    assert_eq!(before.elapsed().as_secs(), 300);
    assert!(feed.0.is_closed(), "the upstream's connection was kept");
    nothing_left(&handle).await;
    assert_eq!(handle.stats().stored, 0);

    let (client, handle, _) = slow(CacheLayer::builder(), Duration::from_secs(86_400));
    let error = read(&client, ask(PLAIN)).await.unwrap_err();
    assert!(error.to_string().contains("no reply began"), "{error}");
    nothing_left(&handle).await;
}

#[tokio::test]
async fn a_stream_without_its_end_or_with_an_error_event_comes_as_it_is_and_is_never_stored() {
    let error_event = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    let cut = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"st";
    for ending in ["", error_event, cut] {
        let (client, handle, mut hand) = set_up(CacheLayer::builder());
        for round in 1..=2 {
            let ask_it = || client.clone().oneshot(ask(STREAMED));
            let (first, second) = tokio::join!(ask_it(), ask_it());
            let feed = hand.next().await;
            feed.send(delta(0, 10)).await;
            feed.send(ending).await;
            drop(feed);
            for caller in [first, second] {
                let got = caller.unwrap().into_body().bytes().await.unwrap();
                assert_eq!(got, format!("{}{ending}", delta(0, 10)), "ending {ending:?}");
            }
            assert_eq!(hand.calls(), round, "it was served again: {ending:?}");
        }
        nothing_left(&handle).await;
        assert_eq!(handle.stats().stored, 0, "ending {ending:?}");
    }
}

#[tokio::test]
async fn a_panic_below_is_one_error_for_each_caller_and_the_next_call_starts_afresh() {
    struct Breaks(usize);
    impl http_body::Body for Breaks {
        type Data = Bytes;
        type Error = BoxError;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0 += 1;
            assert!(self.0 < 3, "a body that breaks on purpose");
            std::task::Poll::Ready(Some(Ok(Frame::data("data: {}\n\n".into()))))
        }
    }
    for breaks_in_its_body in [false, true] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let inner = service_fn(move |_: Call| {
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                assert!(!first || breaks_in_its_body, "a service that breaks on purpose");
                let body = if first { ReplyBody::stream(Breaks(0)) } else { LAST.into() };
                let mut reply = Reply::new(body);
                reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
                Ok::<_, BoxError>(reply)
            }
        });
        let layer = CacheLayer::in_memory();
        let client: Client = BoxCloneSyncService::new(layer.layer(inner));
        let callers = join_all((0..10).map(|_| read(&client, ask(STREAMED)))).await;
        for caller in callers {
            let error = caller.expect_err("half an answer is none");
            assert_eq!(Error::find(&*error).map(Error::kind), Some(Kind::Upstream));
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        nothing_left(&layer.handle()).await;
        assert_eq!(read(&client, ask(STREAMED)).await.unwrap(), LAST, "the next call starts afresh");
        nothing_left(&layer.handle()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_caller_more_than_a_flight_takes_makes_its_own_call() {
    let pause = Duration::from_secs(1);
    let (client, handle, calls) = slow(CacheLayer::builder().largest_flight(3), pause);
    for answer in join_all((0..5).map(|_| read(&client, ask(PLAIN)))).await {
        assert_eq!(answer.unwrap(), WHOLE);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3, "one for three callers, and two of their own");
    nothing_left(&handle).await;

    let (client, handle, calls) = slow(CacheLayer::builder(), pause);
    for answer in join_all((0..10_002).map(|_| read(&client, ask(PLAIN)))).await {
        assert_eq!(answer.unwrap(), WHOLE);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3, "10,000 callers share one call by default");
    nothing_left(&handle).await;
}

#[tokio::test]
async fn a_purge_or_an_invalidation_in_the_middle_of_a_flight_ends_joining_and_storing() {
    for purge in [true, false] {
        let (client, handle, mut hand) = set_up(CacheLayer::builder());
        let ask_it = || client.clone().oneshot(ask(STREAMED));
        let (first, second) = tokio::join!(ask_it(), ask_it());
        let before = hand.next().await;
        before.send(delta(0, 10)).await;
        if purge {
            handle.purge_all().await;
        } else {
            assert!(handle.invalidate(&ask(STREAMED)).await);
        }
        let third = ask_it().await.unwrap();
        let after = hand.next().await;
        before.send(LAST).await;
        drop(before);
        for caller in [first, second] {
            let got = caller.unwrap().into_body().bytes().await.unwrap();
            assert_eq!(got, format!("{}{LAST}", delta(0, 10)), "who was there is served (purge: {purge})");
        }
        assert_eq!(handle.stats().stored, 0, "what was on the road was stored (purge: {purge})");
        let new = delta(1, 10) + LAST;
        after.send(new.clone()).await;
        drop(after);
        assert_eq!(third.into_body().bytes().await.unwrap(), new, "it joined an old flight (purge: {purge})");
        assert_eq!(read(&client, ask(STREAMED)).await.unwrap(), new);
        assert_eq!(hand.calls(), 2, "the new answer is stored (purge: {purge})");
        nothing_left(&handle).await;
    }
}

#[tokio::test]
async fn no_store_and_read_only_join_nothing_and_no_cache_leads_anew() {
    let (client, handle, mut hand) = set_up(CacheLayer::builder());
    let first = client.clone().oneshot(ask(STREAMED)).await.unwrap();
    let feed = hand.next().await;
    for (mode, flights) in
        [(CacheMode::NoStore, 1), (CacheMode::ReadOnly, 1), (CacheMode::NoCache, 1), (CacheMode::NoCache, 1)]
    {
        let own = client.clone().oneshot(ask(STREAMED).with(Options::new().cache(mode))).await.unwrap();
        let feed = hand.next().await;
        assert_eq!(handle.stats().flights, flights, "{mode:?}");
        let mut said = delta(1, 10);
        said.push_str(LAST);
        feed.send(said.clone()).await;
        drop(feed);
        assert_eq!(own.into_body().bytes().await.unwrap(), said, "{mode:?}");
    }
    feed.send(LAST).await;
    drop(feed);
    assert_eq!(first.into_body().bytes().await.unwrap(), LAST, "it was replaced, not cut");
    assert_eq!(hand.calls(), 5);
    nothing_left(&handle).await;
    assert_ne!(
        read(&client, ask(STREAMED)).await.unwrap(),
        LAST,
        "the older answer was stored over the newer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_is_on_its_way_and_says_when_it_could_not() {
    let (client, handle, calls) = slow(CacheLayer::builder(), Duration::from_secs(20));
    let caller = tokio::spawn(async move { read(&client, ask(PLAIN)).await });
    settle().await;
    assert!(!handle.drain(Duration::from_secs(10)).await, "a call was on its way");
    assert!(handle.drain(Duration::from_secs(11)).await);
    assert_eq!((calls.load(Ordering::SeqCst), handle.stats().stored), (1, 1), "it is stored when drained");
    assert_eq!(caller.await.unwrap().unwrap(), WHOLE);
    assert!(handle.drain(Duration::ZERO).await, "nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn four_hundred_impatient_callers_and_one_patient_make_one_call() {
    let (client, handle, calls) = slow(CacheLayer::builder(), Duration::from_secs(2));
    let storm: Vec<_> = (0..400u64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n * 4)).await;
                tokio::time::timeout(Duration::from_millis(100), read(&client, ask(PLAIN))).await.is_err()
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(read(&client, ask(PLAIN)).await.unwrap(), WHOLE);
    let left =
        join_all(storm).await.into_iter().filter(|left| *left.as_ref().expect("nobody panics")).count();
    assert_eq!((left, calls.load(Ordering::SeqCst)), (400, 1));
    nothing_left(&handle).await;
}
