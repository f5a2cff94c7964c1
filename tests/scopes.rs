//! Promise: nobody is ever served what another scope was answered, in any tier, form, flight or race with a purge.
#![cfg(feature = "disk")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use thrifty::BoxError;
use thrifty::cache::{CacheHandle, CacheLayer};
use thrifty::call::{Call, Options, Reply, ReplyBody, Scope};
use thrifty::stack::Stack;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

/// Thirty-two credentials of one beginning, and of one more credential sixteen tenants and sixteen shared names.
const SCOPES: usize = 64;
/// All scopes ask the same.
const PROMPTS: usize = 24;
/// Calls of one run with every submission, and of the long one.
const LOOKUPS: u64 = 16_000;
const MANY_LOOKUPS: u64 = 1_000_000;
const WORKERS: u64 = 8;
/// One of so many calls is a purge of a single scope.
const PURGE: u64 = 60;
/// Holds a fraction of what is asked, so that the file is read all the time.
const MEMORY: u64 = 1 << 20;

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

/// Numbers from a seed; `THRIFTY_SEED` replays a run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    Stream,
    /// A batch of this prompt and the next two.
    Embeddings,
}

/// What the provider knows of each scope.
struct Provider {
    sent: AtomicU64,
    crossed: AtomicU64,
    /// Which answers it gives now: a purge is announced here before it begins.
    now: [AtomicU64; SCOPES],
    /// The oldest answers that may be served: a purge that is over.
    least: [AtomicU64; SCOPES],
}

impl Provider {
    fn new() -> Arc<Self> {
        let [now, least] = [(); 2].map(|()| [const { AtomicU64::new(0) }; SCOPES]);
        Arc::new(Self { sent: AtomicU64::new(0), crossed: AtomicU64::new(0), now, least })
    }
}

fn scope(n: usize) -> Option<Scope> {
    match n {
        0..32 => None,
        32..48 => Some(Scope::tenant(&format!("t{n}"))),
        _ => Some(Scope::shared(&format!("s{n}"))),
    }
}

/// The same question of everybody. Who asks is in a header that is no part of any key.
fn call(who: usize, prompt: usize, form: Form) -> Call {
    let mut call = match form {
        Form::Embeddings => {
            let inputs: Vec<String> = (prompt..prompt + 3).map(|n| format!("\"{}\"", n % PROMPTS)).collect();
            let body = format!(r#"{{"model":"m","input":[{}]}}"#, inputs.join(","));
            Call::post("https://api.openai.com/v1/embeddings", body)
        }
        form => {
            let stream = if matches!(form, Form::Stream) { r#""stream":true,"# } else { "" };
            let body =
                format!(r#"{{"model":"m",{stream}"messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
            Call::post("https://api.openai.com/v1/chat/completions", body)
        }
    };
    let token = if who < 32 {
        format!("Bearer sk-abcdefghijklmnopqrstuvwxyz-{who:02}")
    } else {
        "Bearer sk-all".into()
    };
    call.parts.headers.insert("authorization", token.parse().unwrap());
    call.parts.headers.insert("x-who", who.to_string().parse().unwrap());
    match scope(who) {
        Some(scope) => call.with(Options::new().scope(scope)),
        None => call,
    }
}

/// The provider's answer: each text and each vector tells whose it is, what was asked, and since which purge.
fn answer(provider: &Provider, call: &Call) -> Reply {
    let who: usize = call.parts.headers["x-who"].to_str().unwrap().parse().unwrap();
    let now = provider.now[who].load(Ordering::SeqCst);
    let body = String::from_utf8_lossy(call.doc.bytes()).into_owned();
    let numbers =
        |text: &str| -> Vec<usize> { text.split('"').filter_map(|piece| piece.parse().ok()).collect() };
    if call.parts.uri.path().ends_with("/embeddings") {
        let vectors: Vec<String> = numbers(&body)
            .iter()
            .enumerate()
            .map(|(at, n)| format!(r#"{{"object":"embedding","index":{at},"embedding":[{who},{n},{now}]}}"#))
            .collect();
        return Reply::new(
            format!(
                r#"{{"object":"list","data":[{}],"model":"m","usage":{{"prompt_tokens":3,"total_tokens":3}}}}"#,
                vectors.join(",")
            )
            .into(),
        );
    }
    let text = format!("[{who},{},{now}]", numbers(&body)[0]);
    let filler = "x".repeat(500);
    if !call.wants_stream() {
        return Reply::new(format!(r#"{{"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text} {filler}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1,"completion_tokens":1}}}}"#).into());
    }
    let frames = [
        format!(
            r#"{{"model":"m","choices":[{{"index":0,"delta":{{"role":"assistant","content":"{text} {filler}"}},"finish_reason":null}}]}}"#
        ),
        r#"{"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
        r#"{"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#.to_owned(),
        "[DONE]".to_owned(),
    ];
    let frames = frames.map(|data| Ok::<_, BoxError>(Frame::data(Bytes::from(format!("data: {data}\n\n")))));
    let mut reply = Reply::new(ReplyBody::stream(StreamBody::new(futures_util::stream::iter(frames))));
    reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    reply
}

/// A cache on this file, bare and within a stack, in front of the provider.
struct Bench {
    provider: Arc<Provider>,
    clients: [Client; 2],
    handle: CacheHandle,
}

impl Bench {
    fn new(path: &Path, provider: &Arc<Provider>) -> Self {
        let layer = CacheLayer::builder().memory_bytes(MEMORY).disk(path).build().unwrap();
        let known = provider.clone();
        let inner = service_fn(move |call: Call| {
            let provider = known.clone();
            async move {
                let slow = provider.sent.fetch_add(1, Ordering::SeqCst).is_multiple_of(4);
                let reply = answer(&provider, &call);
                if slow {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, BoxError>(reply)
            }
        });
        let stack = Stack::builder().cache(layer.clone()).build().unwrap();
        let clients = [Client::new(layer.layer(inner.clone())), Client::new(stack.layer(inner))];
        Self { provider: provider.clone(), clients, handle: layer.handle() }
    }

    /// Asks, and looks at each answer in the reply.
    async fn ask(&self, dice: u64, who: usize, prompt: usize, form: Form) {
        let least = self.provider.least[who].load(Ordering::SeqCst);
        let client = self.clients[dice as usize % 2].clone();
        let reply = client.oneshot(call(who, prompt, form)).await.unwrap();
        let body = reply.into_body().bytes().await.unwrap();
        let body = std::str::from_utf8(&body).unwrap();
        let answers: Vec<[u64; 3]> = body
            .split('[')
            .skip(1)
            .filter_map(|rest| {
                let numbers: Vec<u64> =
                    rest.split(']').next()?.split(',').map_while(|number| number.parse().ok()).collect();
                numbers.try_into().ok()
            })
            .collect();
        let prompts = if matches!(form, Form::Embeddings) { 3 } else { 1 };
        assert_eq!(answers.len(), prompts, "{form:?}: {body}");
        for (at, [whose, asked, since]) in answers.into_iter().enumerate() {
            if whose != who as u64 {
                self.provider.crossed.fetch_add(1, Ordering::SeqCst);
            }
            assert_eq!(whose, who as u64, "{form:?}: {who} got what {whose} was answered");
            assert_eq!(asked, ((prompt + at) % PROMPTS) as u64, "{form:?}: another question's answer");
            assert!(since >= least, "{form:?}: {who} got an answer from before a purge: {since} < {least}");
        }
    }

    async fn purge(&self, who: usize) {
        let next = self.provider.now[who].fetch_add(1, Ordering::SeqCst) + 1;
        match scope(who) {
            Some(scope) => self.handle.purge(&scope).await,
            None => self.handle.purge_caller(&call(who, 0, Form::Plain)).await,
        }
        self.provider.least[who].fetch_max(next, Ordering::SeqCst);
    }

    /// Random calls, several at once so that flights meet, and now and then a purge.
    async fn traffic(self: Arc<Self>, seed: u64, lookups: u64) {
        let mut dice = Dice(seed);
        let mut asked = 0;
        while asked < lookups {
            if dice.below(PURGE) == 0 {
                self.purge(dice.below(SCOPES as u64) as usize).await;
            }
            // Some prompts are asked more than others, and neighbours ask the same at the same time.
            let prompt = (dice.below(PROMPTS as u64) * dice.below(PROMPTS as u64)) as usize / PROMPTS;
            let form = [Form::Plain, Form::Stream, Form::Plain, Form::Embeddings][dice.below(4) as usize];
            let who = dice.below(SCOPES as u64) as usize;
            let next = (who + 1) % SCOPES;
            let [a, b, c, d] = [(); 4].map(|()| dice.below(2));
            tokio::join!(
                self.ask(a, who, prompt, form),
                self.ask(b, next, prompt, form),
                self.ask(c, who, prompt, form),
                self.ask(d, next, prompt, form),
            );
            asked += 4;
        }
    }
}

fn matrix(lookups: u64) {
    let seed = std::env::var("THRIFTY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("seed {seed} (set THRIFTY_SEED to replay one)");
    let began = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.redb");
    let provider = Provider::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    // The second round begins with the file that the first one left.
    for round in 0..2 {
        let bench = Arc::new(Bench::new(&path, &provider));
        let sent = provider.sent.load(Ordering::SeqCst);
        let stats = runtime.block_on(async {
            let workers: Vec<_> = (0..WORKERS)
                .map(|n| {
                    let seed = seed * 1_000 + round * WORKERS + n;
                    tokio::spawn(bench.clone().traffic(seed, lookups / WORKERS / 2))
                })
                .collect();
            for worker in workers {
                worker.await.unwrap();
            }
            assert!(bench.handle.drain(Duration::from_secs(10)).await);
            bench.handle.stats()
        });
        let sent = provider.sent.load(Ordering::SeqCst) - sent;
        println!(
            "round {round}: {} lookups, {sent} sent, {} from memory, {} from disk, {} joined, {} purges, {:?}",
            lookups / 2,
            stats.memory_hits,
            stats.disk_hits,
            stats.joined,
            stats.purges,
            began.elapsed()
        );
        for (count, what) in [
            (stats.memory_hits, "memory"),
            (stats.disk_hits, "the file"),
            (stats.joined, "a flight"),
            (stats.purges, "a purge"),
        ] {
            assert!(count > lookups / 4_000, "{what} had no part in it: {count}; {stats:?}");
        }
        assert!(sent < lookups / 2, "all was sent");
    }
    assert_eq!(provider.crossed.load(Ordering::SeqCst), 0);
}

#[test]
fn no_answer_crosses_from_one_scope_to_another() {
    matrix(LOOKUPS);
}

#[test]
#[ignore = "minutes"]
fn no_answer_of_a_million_crosses_from_one_scope_to_another() {
    matrix(MANY_LOOKUPS);
}

/// A purge of one scope costs that scope its answers and nobody else one of theirs.
#[tokio::test]
async fn a_purge_of_one_scope_touches_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Provider::new();
    let bench = Bench::new(&dir.path().join("answers.redb"), &provider);
    let all = async || {
        let before = provider.sent.load(Ordering::SeqCst);
        for who in 0..SCOPES {
            for form in [Form::Plain, Form::Embeddings] {
                bench.ask(0, who, 0, form).await;
            }
        }
        provider.sent.load(Ordering::SeqCst) - before
    };
    assert_eq!(all().await, 2 * SCOPES as u64);
    for who in [0, 31, 32, 47, 48, 63] {
        assert_eq!(all().await, 0, "all is known");
        bench.purge(who).await;
        assert_eq!(all().await, 2, "{who} alone asks anew");
    }
}
