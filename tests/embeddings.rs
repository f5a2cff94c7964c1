//! Promise: embeddings are known input by input. Only inputs nobody has asked for go upstream, each once; the reply
//! is what the provider would have said to the whole call; tokens and costs add up.

#![cfg(feature = "tiktoken")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use proptest::prelude::*;
use thrifty::cache::CacheLayer;
use thrifty::call::{CacheMode, Call, Options, Reply, Scope, json};
use thrifty::clock::ManualClock;
use thrifty::meter::MeterLayer;
use thrifty::price::Usd;
use thrifty::receipt::{Receipt, ReceiptHandle, Served};
use thrifty::stack::Stack;
use thrifty::tokens::{Encoding, count_text};
use thrifty::{BoxError, Error, Kind};
use tokio::sync::Barrier;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

const OPENAI: &str = "https://api.openai.com/v1/embeddings";
const OLLAMA: &str = "http://localhost:11434/api/embed";
const GEMINI: &str =
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents";

/// Picodollars for a token of text-embedding-3-small: 0.02 USD for a million.
const RATE: u64 = 20_000;

type Answer = Arc<dyn Fn(usize, &Call) -> Reply + Send + Sync>;

/// What the provider does to each call: the inputs it got, and what it may answer instead of vectors.
#[derive(Clone)]
struct Upstream {
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    answer: Answer,
    pause: Duration,
    /// Whom an answer waits for before its pause.
    until: Option<Arc<Barrier>>,
}

impl Upstream {
    fn new() -> Self {
        Self::answering(|_, call| good(call))
    }

    fn answering(answer: impl Fn(usize, &Call) -> Reply + Send + Sync + 'static) -> Self {
        Self { seen: Arc::default(), answer: Arc::new(answer), pause: Duration::ZERO, until: None }
    }

    fn slow(self) -> Self {
        self.pausing(Duration::from_millis(20))
    }

    fn pausing(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    fn client(&self) -> Client {
        let this = self.clone();
        BoxCloneSyncService::new(service_fn(move |call: Call| {
            let this = this.clone();
            async move {
                let n = {
                    let mut seen = this.seen.lock().unwrap();
                    seen.push(inputs_of(&call));
                    seen.len() - 1
                };
                if let Some(all) = &this.until {
                    all.wait().await;
                }
                if !this.pause.is_zero() {
                    tokio::time::sleep(this.pause).await;
                }
                Ok::<_, BoxError>((this.answer)(n, &call))
            }
        }))
    }

    fn through(&self, layer: &CacheLayer) -> Client {
        BoxCloneSyncService::new(MeterLayer::silent().layer(layer.layer(self.client())))
    }

    /// The inputs of each call since the last look.
    fn take(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn inputs_of(call: &Call) -> Vec<String> {
    let text = call.doc.get("input").or_else(|| call.doc.get("requests")).unwrap();
    match json::elements(text) {
        Some(all) if !all.iter().all(|id| json::whole(id).is_some()) => {
            all.iter().map(ToString::to_string).collect()
        }
        _ => vec![text.to_owned()],
    }
}

fn tokens_of(input: &str) -> u64 {
    match json::string(input) {
        Some(text) => count_text(&text, Encoding::Cl100kBase),
        None => json::elements(input).map_or(1, |ids| ids.len() as u64),
    }
}

/// A vector that is a function of its input alone.
fn vector_of(input: &str, base64: bool) -> String {
    let hash = input.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    if base64 { format!("\"{hash:08x}AAA=\"") } else { format!("[0.{hash}, -1.5e-3]") }
}

fn tokens_in(call: &Call) -> u64 {
    inputs_of(call).iter().map(|input| tokens_of(input)).sum()
}

fn good(call: &Call) -> Reply {
    let mut reply = Reply::new(body_for(call, tokens_in(call)).into());
    reply.headers_mut().insert("content-type", "application/json".parse().unwrap());
    reply.headers_mut().insert("x-request-id", "r1".parse().unwrap());
    reply
}

fn body_for(call: &Call, tokens: u64) -> String {
    let base64 = call.doc.str("encoding_format").as_deref() == Some("base64");
    let vectors: Vec<String> = inputs_of(call).iter().map(|input| vector_of(input, base64)).collect();
    let path = call.parts.uri.path();
    if path.ends_with("/api/embed") {
        return format!(
            r#"{{"model":"nomic","embeddings":[{}],"total_duration":5,"prompt_eval_count":{tokens}}}"#,
            vectors.join(",")
        );
    }
    if path.ends_with(":batchEmbedContents") {
        let values: Vec<String> = vectors.iter().map(|vector| format!(r#"{{"values": {vector}}}"#)).collect();
        return format!(
            r#"{{"embeddings":[{}],"usageMetadata":{{"promptTokenCount":{tokens}}}}}"#,
            values.join(",")
        );
    }
    let data: Vec<String> = vectors
        .iter()
        .enumerate()
        .map(|(at, vector)| format!(r#"{{"object":"embedding", "index":{at},"embedding":{vector}}}"#))
        .collect();
    format!(
        r#"{{"object":"list", "data":[{}],"model":"text-embedding-3-small","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#,
        data.join(",")
    )
}

fn embed(inputs: &[&str]) -> Call {
    let quoted: Vec<String> = inputs.iter().map(|input| json::quote(input)).collect();
    raw(&format!("[{}]", quoted.join(",")))
}

fn raw(input: &str) -> Call {
    Call::post(OPENAI, format!(r#"{{"model":"text-embedding-3-small", "input":{input} ,"dimensions":2}}"#))
}

fn quoted(inputs: &[&str]) -> Vec<String> {
    inputs.iter().map(|input| json::quote(input)).collect()
}

async fn ask(client: &Client, call: &Call) -> (Bytes, Receipt) {
    let reply = client.clone().oneshot(call.clone()).await.unwrap();
    let receipt = reply.extensions().get::<ReceiptHandle>().and_then(ReceiptHandle::get).cloned();
    (reply.into_body().bytes().await.unwrap(), receipt.unwrap())
}

/// What the provider itself says to the whole call.
fn direct(call: &Call) -> Bytes {
    body_for(call, tokens_in(call)).into()
}

fn usd(tokens: u64) -> Usd {
    Usd::from_pico(i128::from(tokens * RATE))
}

#[tokio::test]
async fn only_inputs_that_are_not_known_are_sent() {
    let upstream = Upstream::new();
    let client = upstream.through(&CacheLayer::in_memory());

    let first = embed(&["alpha", "beta gamma"]);
    let (body, receipt) = ask(&client, &first).await;
    assert_eq!(body, direct(&first));
    assert_eq!((receipt.served, receipt.stored, receipt.inputs_known), (Served::Upstream, true, 0));
    assert_eq!(upstream.take(), [quoted(&["alpha", "beta gamma"])]);

    let second = embed(&["delta", "beta gamma", "delta", "alpha"]);
    let (body, receipt) = ask(&client, &second).await;
    assert_eq!(body, direct(&second), "the reply is not that to the whole call");
    assert_eq!(upstream.take(), [quoted(&["delta"])], "each unknown input goes up once, known ones never");
    assert_eq!((receipt.served, receipt.inputs, receipt.inputs_known), (Served::Upstream, 4, 3));
    let delta = tokens_of("\"delta\"");
    assert_eq!(receipt.usage.unwrap().input, Some(delta), "billed is what was sent");
    assert_eq!(receipt.billed, Some(usd(delta)));
    assert_eq!(receipt.avoided.cache, usd(tokens_in(&second) - delta));

    let (body, receipt) = ask(&client, &second).await;
    assert_eq!(body, direct(&second));
    assert_eq!((receipt.served, receipt.billed, receipt.inputs_known), (Served::Memory, Some(Usd::ZERO), 4));
    assert_eq!(receipt.avoided.cache, usd(tokens_in(&second)));
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn one_text_is_one_question_in_every_form() {
    let upstream = Upstream::new();
    let client = upstream.through(&CacheLayer::in_memory());
    ask(&client, &raw(r#""alpha""#)).await;
    assert_eq!(upstream.take().len(), 1);
    for same in [r#"["alpha"]"#, r#""\u0061lpha""#, r#"["alpha","alpha"]"#] {
        let (body, receipt) = ask(&client, &raw(same)).await;
        assert!(upstream.take().is_empty(), "{same} was sent again");
        assert_eq!(receipt.served, Served::Memory);
        let vectors =
            json::Object::parse(std::str::from_utf8(&body).unwrap()).unwrap().elements("data").unwrap();
        assert_eq!(vectors.len(), inputs_of(&raw(same)).len());
    }
    ask(&client, &raw("[1, 2]")).await;
    ask(&client, &raw("[[3],[1,2]]")).await;
    assert_eq!(upstream.take(), [vec!["[1, 2]".to_owned()], vec!["[3]".to_owned()]]);

    let mut other = raw(r#""alpha""#);
    other.doc.set("dimensions", "3").unwrap();
    ask(&client, &other).await;
    assert_eq!(upstream.take().len(), 1, "other dimensions are another vector");
}

#[tokio::test]
async fn every_api_with_batches_is_taken_apart() {
    for (url, member, inputs) in [
        (OLLAMA, "input", [r#""a b""#, r#""c""#, r#""d""#]),
        (GEMINI, "requests", [r#"{"content":{"parts":[{"text":"a"}]}}"#, r#"{"x":1}"#, "{}"]),
        (OPENAI, "input", [r#""a b""#, r#""c""#, r#""d""#]),
    ] {
        let upstream = Upstream::new();
        let client = upstream.through(&CacheLayer::in_memory());
        let call = |which: &[usize]| {
            let list: Vec<&str> = which.iter().map(|at| inputs[*at]).collect();
            let body =
                format!(r#"{{"model":"m","encoding_format":"base64","{member}":[{}]}}"#, list.join(","));
            Call::post(url, body)
        };
        assert_eq!(ask(&client, &call(&[0, 1])).await.0, direct(&call(&[0, 1])), "{url}");
        let (body, receipt) = ask(&client, &call(&[2, 1, 0])).await;
        assert_eq!(body, direct(&call(&[2, 1, 0])), "{url}");
        assert_eq!(receipt.inputs_known, 2);
        assert_eq!(upstream.take()[1..], [vec![inputs[2].to_owned()]], "{url}");
    }
}

#[derive(Clone, Debug)]
struct Asked {
    inputs: Vec<usize>,
    tokens: bool,
    single: bool,
    base64: bool,
}

impl Asked {
    const TEXTS: [&str; 7] = [
        r#""""#,
        r#""a""#,
        r#""alpha beta""#,
        r#""é\n\"x\"""#,
        r#""[1]""#,
        r#""the quick brown fox""#,
        r#""0""#,
    ];
    const IDS: [&str; 7] = ["[1]", "[2]", "[1,2]", "[1, 2 ,3]", "[0]", "[100257,5]", "[12]"];

    fn list(&self) -> Vec<&'static str> {
        let pool = if self.tokens { Self::IDS } else { Self::TEXTS };
        self.inputs.iter().map(|at| pool[*at]).collect()
    }

    fn call(&self) -> Call {
        let list = self.list();
        let input = match &*list {
            [only] if self.single => (*only).to_owned(),
            _ => format!("[{}]", list.join(" , ")),
        };
        let mut call = raw(&input);
        if self.base64 {
            call.doc.set("encoding_format", "\"base64\"").unwrap();
        }
        call
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    (prop::collection::vec(0usize..7, 1..9), any::<bool>(), any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(inputs, tokens, single, base64)| Asked { inputs, tokens, single, base64 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_asked_before_the_reply_is_that_to_the_whole_call(
        calls in prop::collection::vec(asked(), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let upstream = Upstream::new();
            let client = upstream.through(&CacheLayer::in_memory());
            let mut known = HashSet::new();
            for asked in &calls {
                let call = asked.call();
                let new: Vec<String> = asked
                    .list()
                    .into_iter()
                    .filter(|input| known.insert((*input, asked.base64)))
                    .map(str::to_owned)
                    .collect();
                let (body, receipt) = ask(&client, &call).await;
                prop_assert_eq!(body, direct(&call));
                let sent: Vec<Vec<String>> = upstream.take();
                prop_assert_eq!(sent.concat(), new.clone(), "unknown inputs, each once, in order");
                prop_assert!(sent.len() <= 1);
                let bought: u64 = new.iter().map(|input| tokens_of(input)).sum();
                prop_assert_eq!(receipt.billed, Some(usd(bought)));
                prop_assert_eq!(receipt.billed.unwrap() + receipt.avoided.total(), usd(tokens_in(&call)));
                prop_assert_eq!(receipt.inputs, asked.inputs.len() as u64);
            }
            Ok(())
        })?;
    }

    #[test]
    fn parts_of_a_bill_add_up_whatever_the_provider_counts(total in 0u64..5_000, n in 1usize..9) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let upstream = Upstream::answering(move |_, call| Reply::new(body_for(call, total).into()));
            let client = upstream.through(&CacheLayer::in_memory());
            let texts: Vec<String> = (0..n).map(|at| "word ".repeat(at + 1)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (_, whole) = ask(&client, &embed(&texts)).await;
            let mut sum = Usd::ZERO;
            let mut tokens = 0;
            for text in &texts {
                let (_, part) = ask(&client, &embed(&[*text])).await;
                prop_assert_eq!(part.served, Served::Memory);
                sum += part.avoided.cache;
                tokens += part.usage.unwrap().input.unwrap();
            }
            prop_assert_eq!(tokens, total);
            prop_assert_eq!(Some(sum), whole.billed);
            let mut turned = texts.clone();
            turned.reverse();
            let (_, all) = ask(&client, &embed(&turned)).await;
            prop_assert_eq!(all.usage.unwrap().input, Some(total));
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_overlapping_batches_send_each_input_once() {
    let upstream = Upstream::new().slow();
    let client = upstream.through(&CacheLayer::in_memory());
    let texts: Vec<String> = (0..120).map(|at| format!("text number {at}")).collect();
    let answers = join_all((0..100).map(|from| {
        let texts: Vec<&str> = texts[from..from + 20].iter().map(String::as_str).collect();
        let (client, call) = (client.clone(), embed(&texts));
        tokio::spawn(async move { (ask(&client, &call).await, call) })
    }))
    .await;
    let (mut billed, mut worth, mut whole) = (Usd::ZERO, Usd::ZERO, 0);
    for answer in answers {
        let ((body, receipt), call) = answer.unwrap();
        assert_eq!(body, direct(&call));
        billed += receipt.billed.unwrap();
        worth += receipt.billed.unwrap() + receipt.avoided.total();
        whole += tokens_in(&call);
    }
    let mut sent = upstream.take().concat();
    assert_eq!(billed, usd(sent.iter().map(|input| tokens_of(input)).sum()));
    assert_eq!(worth, usd(whole));
    let count = sent.len();
    sent.sort();
    sent.dedup();
    assert_eq!((sent.len(), count), (119, 119), "each input is sent exactly once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_equal_batches_are_one_call_and_share_its_failure() {
    for fails in [false, true] {
        let upstream = Upstream::answering(move |_, call| if fails { broken(429, "{}") } else { good(call) });
        // The answer comes when all have asked, however long that takes on a busy machine.
        let mut upstream = upstream.pausing(Duration::from_millis(200));
        let all = Arc::new(Barrier::new(1_001));
        upstream.until = Some(all.clone());
        let client = upstream.through(&CacheLayer::in_memory());
        let answers = join_all((0..1_000).map(|_| {
            let (client, all) = (client.clone(), all.clone());
            tokio::spawn(async move {
                let mut reply = std::pin::pin!(client.oneshot(embed(&["a", "b", "a"])));
                assert!(futures_util::poll!(&mut reply).is_pending());
                all.wait().await;
                let reply = tokio::time::timeout(Duration::from_secs(60), reply);
                reply.await.expect("one call answers all").unwrap().status()
            })
        }))
        .await;
        let want = if fails { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
        assert!(answers.into_iter().all(|status| status.unwrap() == want));
        assert_eq!(upstream.take(), [quoted(&["a", "b"])]);
    }
}

fn broken(status: u16, body: &str) -> Reply {
    let mut reply = Reply::new(body.to_owned().into());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_batchs_bad_input_is_not_this_ones() {
    let upstream = Upstream::answering(|_, call| {
        if inputs_of(call).contains(&"\"bad\"".to_owned()) {
            broken(400, r#"{"error":{}}"#)
        } else {
            good(call)
        }
    })
    .slow();
    let client = upstream.through(&CacheLayer::in_memory());
    let (bad, fine) = (embed(&["bad", "a"]), embed(&["a", "b"]));
    let first = tokio::spawn(client.clone().oneshot(bad));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (body, receipt) = ask(&client, &fine).await;
    assert_eq!(body, direct(&fine));
    assert_eq!(receipt.billed, Some(usd(tokens_in(&fine))));
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn bad_replies_are_passed_on_and_not_stored() {
    let good_body = String::from_utf8(direct(&embed(&["a", "b"])).to_vec()).unwrap();
    let cases = [
        (500, good_body.clone()),
        (200, String::from_utf8(direct(&embed(&["a"])).to_vec()).unwrap()),
        (200, good_body.replace("-1.5e-3", "").replacen("[0.", "[", 0).replace("\"index\":1", "\"index\":0")),
        (200, r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[]}]}"#.to_owned()),
        (200, good_body.replace("\"total_tokens\":2", "\"total_tokens\":3")),
        (200, r#"{"error":{"message":"no"}}"#.to_owned()),
        (200, "<html>".to_owned()),
        (200, String::new()),
    ];
    for (status, body) in cases {
        let reply = body.clone();
        let upstream = Upstream::answering(move |_, _| broken(status, &reply));
        let client = upstream.through(&CacheLayer::in_memory());
        for _ in 0..2 {
            let (came, receipt) = ask(&client, &embed(&["a", "b"])).await;
            assert_eq!(came, body, "passed on as it came");
            assert!(!receipt.stored && receipt.cache_note.is_some(), "{body}");
        }
        assert_eq!(upstream.take().len(), 2, "stored: {status} {body}");
    }
}

#[tokio::test]
async fn an_unusable_answer_to_some_inputs_is_never_one_to_all() {
    // The second call, for one input of two, gets two vectors.
    let upstream = Upstream::answering(|n, call| {
        if n == 1 { Reply::new(body_for(&embed(&["x", "y"]), 5).into()) } else { good(call) }
    });
    let client = upstream.through(&CacheLayer::in_memory());
    ask(&client, &embed(&["a"])).await;
    let call = embed(&["a", "b"]);
    let (body, receipt) = ask(&client, &call).await;
    assert_eq!(body, direct(&call));
    assert_eq!(upstream.take(), [quoted(&["a"]), quoted(&["b"]), quoted(&["a", "b"])]);
    assert_eq!(receipt.billed, Some(usd(5 + tokens_in(&call))), "what could not be used was paid, too");
}

#[tokio::test]
async fn vectors_of_two_models_are_never_in_one_reply() {
    let upstream = Upstream::answering(|n, call| {
        let body = body_for(call, tokens_in(call));
        Reply::new(if n == 0 { body.replace("-3-small", "-3-small-v0") } else { body }.into())
    });
    let client = upstream.through(&CacheLayer::in_memory());
    ask(&client, &embed(&["a"])).await;
    let call = embed(&["a", "b"]);
    assert_eq!(ask(&client, &call).await.0, direct(&call));
    assert_eq!(upstream.take().last(), Some(&quoted(&["a", "b"])));
    let (body, receipt) = ask(&client, &call).await;
    assert_eq!((body, receipt.served), (direct(&call), Served::Memory));
}

/// Answers its first call as one model and all others as its successor.
fn moving() -> Upstream {
    let began = AtomicBool::new(false);
    Upstream::answering(move |_, call| {
        let date = if began.swap(true, Ordering::SeqCst) { "-2026-01-01" } else { "-2025-01-01" };
        Reply::new(body_for(call, tokens_in(call)).replace("-3-small", &format!("-3-small{date}")).into())
    })
}

#[tokio::test]
async fn one_index_never_gets_vectors_of_a_former_model() {
    let clock = ManualClock::at_ms(1_795_000_000_000);
    let week = Duration::from_secs(7 * 24 * 3_600);
    let layer = CacheLayer::builder().ttl(week).clock(clock.clone()).build().unwrap();
    let upstream = moving();
    let client = upstream.through(&layer);
    for inputs in [&["a", "b"][..], &["c"]] {
        ask(&client, &embed(inputs)).await;
        clock.advance(Duration::from_secs(1));
    }
    upstream.take();
    let (body, _) = ask(&client, &embed(&["a"])).await;
    assert!(String::from_utf8_lossy(&body).contains("2026"), "{body:?}");
    let (body, receipt) = ask(&client, &embed(&["b", "c", "a"])).await;
    assert!(!String::from_utf8_lossy(&body).contains("2025"), "{body:?}");
    assert_eq!((receipt.inputs, receipt.inputs_known), (3, 2));
    assert_eq!(upstream.take(), [quoted(&["a"]), quoted(&["b"])], "the former model's are asked for anew");
    assert_eq!(layer.handle().stats().misses_by.get("model-moved"), Some(&2));
    // A name that moves tells so with its next answer, or after a day.
    clock.advance(Duration::from_secs(24 * 3_600));
    ask(&client, &embed(&["c"])).await;
    assert_eq!(upstream.take(), [quoted(&["c"])], "a day at most");
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn vectors_of_a_former_model_do_not_come_back_with_a_restart() {
    for again in [["b", "a"], ["a", "b"]] {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at_ms(1_795_000_000_000);
        let open = || {
            let builder = CacheLayer::builder().disk(dir.path().join("vectors.redb"));
            builder.clock(clock.clone()).build().unwrap()
        };
        let upstream = moving();
        {
            let layer = open();
            let client = upstream.through(&layer);
            for input in ["a", "b"] {
                ask(&client, &embed(&[input])).await;
                clock.advance(Duration::from_secs(1));
            }
            layer.handle().flush().await;
        }
        upstream.take();
        let (body, receipt) = ask(&upstream.through(&open()), &embed(&again)).await;
        assert!(!String::from_utf8_lossy(&body).contains("2025"), "{body:?}");
        assert_eq!((upstream.take(), receipt.inputs_known), (vec![quoted(&["a"])], 1));
    }
}

#[tokio::test]
async fn the_modes_are_obeyed() {
    let upstream = Upstream::new();
    let layer = CacheLayer::in_memory();
    let client = upstream.through(&layer);
    let with = |inputs: &[&str], mode| embed(inputs).with(Options::new().cache(mode));
    let not_cached = |error: BoxError| Error::find(&*error).map(Error::kind) == Some(Kind::NotCached);

    ask(&client, &with(&["a"], CacheMode::NoStore)).await;
    ask(&client, &with(&["a"], CacheMode::ReadOnly)).await;
    assert_eq!(upstream.take().len(), 2, "neither stores");
    let only = with(&["a"], CacheMode::OnlyIfCached);
    assert!(not_cached(client.clone().oneshot(only).await.unwrap_err()));

    ask(&client, &embed(&["a"])).await;
    ask(&client, &with(&["a"], CacheMode::ReadOnly)).await;
    ask(&client, &with(&["a"], CacheMode::OnlyIfCached)).await;
    assert_eq!(upstream.take().len(), 1, "all read");
    let partly = with(&["a", "b"], CacheMode::OnlyIfCached);
    assert!(not_cached(client.clone().oneshot(partly).await.unwrap_err()));
    ask(&client, &with(&["a", "b"], CacheMode::NoCache)).await;
    assert_eq!(upstream.take(), [quoted(&["a", "b"])], "asks for all of it anew");
    ask(&client, &embed(&["b"])).await;
    assert!(upstream.take().is_empty(), "and stores it");
    ask(&client, &embed(&["a"]).with(Options::new().scope(Scope::tenant("t")))).await;
    assert_eq!(upstream.take().len(), 1, "another tenant shares nothing");

    assert!(layer.handle().invalidate(&embed(&["a"])).await);
    ask(&client, &embed(&["a", "b"])).await;
    assert_eq!(upstream.take(), [quoted(&["a"])], "only this one was forgotten");
}

#[tokio::test]
async fn inputs_grow_old_and_a_purge_forgets_what_is_on_the_road() {
    let clock = ManualClock::at_ms(1_795_000_000_000);
    let layer = CacheLayer::builder().ttl(Duration::from_secs(60)).clock(clock.clone()).build().unwrap();
    let upstream = Upstream::new().slow();
    let client = upstream.through(&layer);
    ask(&client, &embed(&["a"])).await;
    clock.advance(Duration::from_secs(40));
    ask(&client, &embed(&["b"])).await;
    clock.advance(Duration::from_secs(40));
    ask(&client, &embed(&["a", "b"])).await;
    assert_eq!(upstream.take()[2], quoted(&["a"]), "each input has its own age");

    let on_the_road = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, &embed(&["c", "d"])).await.1 }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    layer.handle().purge_all().await;
    let receipt = on_the_road.await.unwrap();
    assert_eq!((receipt.stored, receipt.cache_note), (false, Some("purged")));
    upstream.take();
    ask(&client, &embed(&["c", "b"])).await;
    assert_eq!(upstream.take(), [quoted(&["c", "b"])]);
}

#[tokio::test]
async fn a_caller_that_leaves_pays_for_an_answer_that_is_kept() {
    let upstream = Upstream::new().slow();
    let layer = CacheLayer::in_memory();
    let client = upstream.through(&layer);
    let left =
        tokio::time::timeout(Duration::from_millis(5), client.clone().oneshot(embed(&["a", "b"]))).await;
    assert!(left.is_err());
    while layer.handle().stats().stored < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (_, receipt) = ask(&client, &embed(&["b", "a"])).await;
    assert_eq!((receipt.served, upstream.take().len()), (Served::Memory, 1));
}

#[tokio::test]
async fn a_call_nobody_listens_to_ends_after_its_grace() {
    let (ended, ends) = tokio::sync::oneshot::channel::<()>();
    let guard = Arc::new(Mutex::new(Some(ended)));
    let inner = service_fn(move |_: Call| {
        let guard = guard.lock().unwrap().take();
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok::<_, BoxError>(Reply::new("{}".into()))
        }
    });
    let layer = CacheLayer::builder().orphan_grace(Duration::from_millis(20)).build().unwrap();
    let client = layer.layer(inner);
    let left = tokio::time::timeout(Duration::from_millis(5), client.oneshot(embed(&["a", "b"]))).await;
    assert!(left.is_err());
    let ended = tokio::time::timeout(Duration::from_secs(2), ends).await;
    assert!(ended.is_ok(), "the call went on for nobody");
    assert_eq!(layer.handle().stats().flights, 0);
}

#[tokio::test]
async fn the_whole_stack_tells_the_same() {
    let upstream = Upstream::new();
    let client = BoxCloneSyncService::new(Stack::builder().build().unwrap().layer(upstream.client()));
    for call in [raw(r#""a""#), embed(&["a"]), embed(&["a", "b"])] {
        for _ in 0..3 {
            let (body, receipt) = ask(&client, &call).await;
            assert_eq!(body, direct(&call));
            assert_eq!(receipt.billed.unwrap() + receipt.avoided.total(), usd(tokens_in(&call)));
        }
    }
    assert_eq!(upstream.take(), [quoted(&["a"]), quoted(&["b"])]);
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn inputs_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vectors.redb");
    let upstream = Upstream::new();
    {
        let layer = CacheLayer::builder().disk(&path).build().unwrap();
        ask(&upstream.through(&layer), &embed(&["a", "b", "c"])).await;
        layer.handle().flush().await;
    }
    let layer = CacheLayer::builder().disk(&path).build().unwrap();
    let client = upstream.through(&layer);
    upstream.take();
    let call = embed(&["c", "a"]);
    let (body, receipt) = ask(&client, &call).await;
    assert_eq!((body, receipt.served), (direct(&call), Served::Disk));
    let call = embed(&["c", "new", "b"]);
    let (body, receipt) = ask(&client, &call).await;
    assert_eq!((body, receipt.inputs_known), (direct(&call), 2));
    assert_eq!(upstream.take(), [quoted(&["new"])]);
    let (_, receipt) = ask(&client, &call).await;
    assert_eq!(receipt.served, Served::Memory);
}
