//! Calls, answers, and a cache over an upstream that counts.
#![expect(unreachable_pub, reason = "a module of a test has no outside")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use thrifty::BoxError;
use thrifty::cache::{CacheBuilder, CacheHandle, CacheKey, CacheLayer, Keyer, ReplayIdentity, Secret};
use thrifty::call::{Call, Reply, ReplyBody, Scope};
use thrifty::clock::ManualClock;
use thrifty::receipt::{Receipt, ReceiptHandle};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};

pub type Client = BoxCloneSyncService<Call, Reply, BoxError>;

pub const CHAT: &str = "https://api.openai.com/v1/chat/completions";
pub const RESPONSES: &str = "https://api.openai.com/v1/responses";
pub const CLAUDE: &str = "https://api.anthropic.com/v1/messages";
pub const GEMINI: &str = "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent";
pub const OLLAMA: &str = "http://127.0.0.1:11434/api/chat";
pub const EMBEDDINGS: &str = "https://api.openai.com/v1/embeddings";
pub const NOW: i64 = 1_795_000_000_000;

const ASKED: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

/// The members that a call of each format cannot do without.
pub fn bases() -> [(&'static str, String); 6] {
    [
        (CHAT, format!(r#""model":"m",{ASKED}"#)),
        (RESPONSES, r#""model":"m","input":"hi""#.to_owned()),
        (CLAUDE, format!(r#""model":"m","max_tokens":9,{ASKED}"#)),
        (GEMINI, r#""contents":[{"parts":[{"text":"hi"}]}]"#.to_owned()),
        (OLLAMA, format!(r#""model":"m",{ASKED}"#)),
        (EMBEDDINGS, r#""model":"m","input":"hi""#.to_owned()),
    ]
}

pub fn secret() -> Secret {
    Secret::from_bytes([7; 32])
}

pub fn keyer() -> Keyer {
    Keyer::new(&secret())
}

pub fn key(url: &str, body: &str) -> CacheKey {
    let call = Call::post(url, body.to_owned());
    keyer().key(&call, &Scope::default(), &[]).unwrap_or_else(|why| panic!("{why}: {body}"))
}

/// The body of a question in OpenAI's chat format.
pub fn chat(question: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{question}"}}]}}"#)
}

pub fn ask(question: &str) -> Call {
    Call::post(CHAT, chat(question))
}

pub fn ask_stream(question: &str) -> Call {
    Call::post(CHAT, chat(question).replacen('{', r#"{"stream":true,"#, 1))
}

/// The call, with the tool `f` offered.
pub fn with_tool(mut call: Call) -> Call {
    call.doc.set("tools", r#"[{"type":"function","function":{"name":"f"}}]"#).unwrap();
    call
}

pub fn both(question: &str) -> [Call; 2] {
    [ask(question), ask_stream(question)]
}

/// A call with this credential.
pub fn by(credential: &str, mut call: Call) -> Call {
    call.parts.headers.insert("authorization", credential.parse().unwrap());
    call
}

/// The two must not share an answer.
pub fn apart(url: &str, one: &str, other: &str) {
    assert!(key(url, one) == key(url, one), "a key is the same twice");
    assert!(key(url, one) != key(url, other), "{one} shares an answer with {other}");
}

/// The two must share an answer.
pub fn alike(url: &str, one: &str, other: &str) {
    assert!(key(url, one) == key(url, other), "{one} does not share with {other}");
}

/// Each of these members, and their absence, must be a call of its own, in one format or in all.
pub fn each_counts(url: Option<&str>, members: &[&str]) {
    for (at, base) in bases() {
        if url.is_some_and(|url| url != at) {
            continue;
        }
        let bodies: Vec<String> = std::iter::once(format!("{{{base}}}"))
            .chain(members.iter().map(|members| format!("{{{members},{base}}}")))
            .collect();
        for (n, one) in bodies.iter().enumerate() {
            bodies[n + 1..].iter().for_each(|other| apart(at, one, other));
        }
    }
}

/// Functions that say which members count: in the format of a URL, or in all.
macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident in $url:expr => [$($members:literal),+ $(,)?];)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            crate::support::each_counts($url, &[$($members),+]);
        }
    )*};
}

/// Functions that say that two questions are two, however alike they are.
macro_rules! differ {
    ($($(#[$doc:meta])* $name:ident: $one:literal, $other:literal;)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            crate::support::apart(crate::support::CHAT, &crate::support::chat($one), &crate::support::chat($other));
        }
    )*};
}

/// A whole answer that says `text`, of 1,000 tokens in and 100 out.
pub fn whole(text: &str) -> String {
    ending("stop", &format!(r#"{{"role":"assistant","content":"{text}"}}"#))
}

pub const USAGE: &str = r#""usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}"#;

/// An answer that ends like this.
pub fn ending(finish: &str, message: &str) -> String {
    format!(
        r#"{{"model":"m","choices":[{{"index":0,"message":{message},"finish_reason":"{finish}"}}],{USAGE}}}"#
    )
}

/// The events of a stream that says the same, one in each frame.
pub fn events(text: &str) -> Vec<String> {
    [
        format!(
            r#"{{"model":"m","choices":[{{"index":0,"delta":{{"role":"assistant","content":"{text}"}},"finish_reason":null}}]}}"#
        ),
        r#"{"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
        format!(r#"{{"model":"m","choices":[],{USAGE}}}"#),
        "[DONE]".to_owned(),
    ]
    .map(|data| format!("data: {data}\n\n"))
    .into()
}

pub fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    let mut reply = Reply::new(ReplyBody::full(body));
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap();
    reply.headers_mut().insert("content-type", "application/json".parse().unwrap());
    reply
}

/// A stream of these frames, with a pause before each.
pub fn paced(frames: impl IntoIterator<Item = impl Into<Bytes>>, pause: Duration) -> Reply {
    let frames: Vec<Bytes> = frames.into_iter().map(Into::into).collect();
    let frames = futures_util::stream::unfold(frames.into_iter(), move |mut frames| async move {
        let frame = frames.next()?;
        wait(pause).await;
        Some((Ok::<_, BoxError>(Frame::data(frame)), frames))
    });
    let mut reply = Reply::new(ReplyBody::stream(StreamBody::new(frames)));
    reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    reply
}

pub fn streamed(frames: impl IntoIterator<Item = impl Into<Bytes>>) -> Reply {
    paced(frames, Duration::ZERO)
}

async fn wait(pause: Duration) {
    match pause {
        Duration::ZERO => tokio::task::yield_now().await,
        pause => tokio::time::sleep(pause).await,
    }
}

/// A whole answer in the form that the call asks for.
pub fn answer(call: &Call, text: &str) -> Reply {
    if call.wants_stream() { streamed(events(text)) } else { reply(200, whole(text)) }
}

/// An upstream that counts its calls, waits, and then answers.
pub fn upstream<F>(pause: Duration, answer: F) -> (Client, Arc<AtomicUsize>)
where
    F: Fn(usize, &Call) -> Result<Reply, BoxError> + Clone + Send + Sync + 'static,
{
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let service = service_fn(move |call: Call| {
        let n = counted.fetch_add(1, Ordering::SeqCst);
        let answer = answer.clone();
        async move {
            wait(pause).await;
            answer(n, &call)
        }
    });
    (Client::new(service), calls)
}

/// A cache over such an upstream.
pub struct Bench {
    pub client: Client,
    pub handle: CacheHandle,
    pub clock: ManualClock,
    calls: Arc<AtomicUsize>,
}

impl Bench {
    pub fn over(
        settings: impl FnOnce(CacheBuilder) -> CacheBuilder,
        (inner, calls): (Client, Arc<AtomicUsize>),
    ) -> Self {
        let clock = ManualClock::at_ms(NOW);
        let builder = CacheLayer::builder()
            .clock(clock.clone())
            .secret(secret())
            .replay_identity(ReplayIdentity::Original)
            .ttl(Duration::from_secs(3_600));
        let layer = settings(builder).build().unwrap();
        Self { client: Client::new(layer.layer(inner)), handle: layer.handle(), clock, calls }
    }

    /// With the default settings.
    pub fn new(
        answer: impl Fn(usize, &Call) -> Result<Reply, BoxError> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::over(|builder| builder, upstream(Duration::ZERO, answer))
    }

    /// Answers each call with its number, after a pause.
    pub fn counting(pause: Duration) -> Self {
        Self::over(|builder| builder, upstream(pause, |n, call| Ok(answer(call, &n.to_string()))))
    }

    pub async fn send(&self, call: Call) -> Result<Reply, BoxError> {
        self.client.clone().oneshot(call).await
    }

    pub async fn read(&self, call: Call) -> Result<Bytes, BoxError> {
        self.send(call).await?.into_body().bytes().await
    }

    /// What the answer says.
    pub async fn text(&self, call: Call) -> String {
        text(&self.read(call).await.unwrap())
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// The text of an answer in OpenAI's chat format, of either form.
pub fn text(body: &[u8]) -> String {
    let body = std::str::from_utf8(body).unwrap();
    body.split(r#""content":""#).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// An answer and its receipt, from a client with a meter.
pub async fn billed<S>(client: &S, call: Call) -> (Bytes, Receipt)
where
    S: Service<Call, Response = Reply, Error = BoxError> + Clone,
{
    let reply = client.clone().oneshot(call).await.unwrap();
    let handle = reply.extensions().get::<ReceiptHandle>().unwrap().clone();
    let body = reply.into_body().bytes().await.unwrap();
    (body, handle.get().unwrap().clone())
}
