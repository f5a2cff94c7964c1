//! The provider's own count, where an estimate cannot decide.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Limited};
use moka::sync::Cache;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tower_service::Service;

use super::{Accuracy, Count, Counter, hidden};
use crate::BoxError;
use crate::call::json::{Object, quote};
use crate::call::{Call, Dialect, Doc, Reply};

/// An answer to a count is a line; more of it is not read.
const MOST_BYTES: usize = 64 << 10;
/// How long a provider may take to count.
const PATIENCE: Duration = Duration::from_secs(2);
/// Answers remembered, and for how long.
const REMEMBERED: u64 = 1024;
const FRESH: Duration = Duration::from_secs(600);
/// How long a provider that did not count is not asked the same again.
const PAUSE: Duration = Duration::from_secs(30);

/// A provider's count endpoint: how it is asked and what it answers. Plain functions, for those who call it
/// themselves; [`CountEndpoint`] does.
///
/// | format | endpoint | its answer |
/// |---|---|---|
/// | OpenAI Responses | `/responses/input_tokens` | exact |
/// | Anthropic Messages | `/messages/count_tokens` | an estimate, says the vendor; tokens that it adds itself may not be billed |
/// | Gemini | `:countTokens` | exact |
///
/// The other formats have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    dialect: Dialect,
}

impl Endpoint {
    /// Members of a request that the endpoint takes; it refuses others.
    const OPENAI: [&'static str; 11] = [
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "conversation",
        "previous_response_id",
        "truncation",
        "parallel_tool_calls",
    ];
    const ANTHROPIC: [&'static str; 8] =
        ["model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "mcp_servers"];

    /// That of this format, if it has one.
    #[must_use]
    pub fn of(dialect: Dialect) -> Option<Self> {
        matches!(dialect, Dialect::OpenAiResponses | Dialect::AnthropicMessages | Dialect::GeminiGenerate)
            .then_some(Self { dialect })
    }

    /// The call that asks for the count of `call`, with the same headers but for those that are its own; `None` if its
    /// path is not the usual one of its format (Vertex counts in another way), its body cannot be read, a signature
    /// covers it, or it refers to text kept at the provider, which the endpoint may not count.
    #[must_use]
    pub fn ask(self, call: &Call) -> Option<Call> {
        if !self.serves(call) || call.doc.trouble().is_some() || !call.doc.is_editable() {
            return None;
        }
        if hidden::refers_elsewhere(call) {
            return None;
        }
        let path = call.parts.uri.path();
        let (path, body) = match self.dialect {
            Dialect::OpenAiResponses if path.ends_with("/responses") => {
                (format!("{path}/input_tokens"), only(&call.doc, &Self::OPENAI))
            }
            Dialect::AnthropicMessages if path.ends_with("/messages") => {
                (format!("{path}/count_tokens"), only(&call.doc, &Self::ANTHROPIC))
            }
            Dialect::GeminiGenerate => {
                let (model, verb) = path.rsplit_once(':')?;
                if !matches!(verb, "generateContent" | "streamGenerateContent") {
                    return None;
                }
                // The model stands in the body once more, under the name it has in the path.
                let name = &model[model.rfind("models/")?..];
                let mut inner = format!("{{\"model\":{}", quote(name));
                for (member, value) in call.doc.members().filter(|(member, _)| *member != "model") {
                    inner.push(',');
                    inner.push_str(&quote(member));
                    inner.push(':');
                    inner.push_str(value);
                }
                (format!("{model}:countTokens"), format!("{{\"generateContentRequest\":{inner}}}}}"))
            }
            _ => return None,
        };
        let mut uri = call.parts.uri.clone().into_parts();
        // `alt=sse` is for streams; a key in the query is the caller's credential.
        let query =
            call.parts.uri.query().map(|query| {
                query.split('&').filter(|pair| *pair != "alt=sse").collect::<Vec<_>>().join("&")
            });
        uri.path_and_query = Some(match query.filter(|query| !query.is_empty()) {
            Some(query) => format!("{path}?{query}").parse().ok()?,
            None => path.parse().ok()?,
        });
        let mut parts = call.parts.clone();
        parts.uri = Uri::from_parts(uri).ok()?;
        // The key would give the call the question's answer, and no one unpacks the answer.
        for own in ["content-length", "idempotency-key", "accept-encoding"] {
            parts.headers.remove(own);
        }
        // What layers keep with a call belongs to that call.
        parts.extensions = http::Extensions::new();
        Some(Call::new(Dialect::Opaque, parts, Doc::new(body)))
    }

    /// True if it can be asked about calls to this path with these members.
    fn serves(self, call: &Call) -> bool {
        let path = call.parts.uri.path();
        let vertex = self.dialect == Dialect::GeminiGenerate
            && ["/projects/", "/publishers/", "/endpoints/"].into_iter().any(|part| path.contains(part));
        !vertex && !hidden::in_members(&call.doc, call.dialect)
    }

    /// The count in the endpoint's answer.
    #[must_use]
    pub fn read(self, body: &[u8]) -> Option<u64> {
        let body = Object::parse(std::str::from_utf8(body).ok()?)?;
        body.u64(if self.dialect == Dialect::GeminiGenerate { "totalTokens" } else { "input_tokens" })
    }

    /// How sure the answer is.
    #[must_use]
    pub fn accuracy(self) -> Accuracy {
        if self.dialect == Dialect::AnthropicMessages { Accuracy::Calibrated } else { Accuracy::Exact }
    }
}

fn only(doc: &Doc, members: &[&str]) -> String {
    let kept: Vec<String> = doc
        .members()
        .filter(|(name, _)| members.contains(name))
        .map(|(name, value)| format!("{}:{value}", quote(name)))
        .collect();
    format!("{{{}}}", kept.join(","))
}

/// Counts calls, and asks the provider where its answer decides: when the budget lies between the likely figure and
/// the upper bound, or as near below it.
///
/// A count endpoint is free, and has a rate limit of its own; but it takes a round trip. `S` is the way to the
/// provider, as under the other layers. When it fails, answers otherwise or takes more than two seconds, the estimate
/// stands. 1,024 answers are remembered for ten minutes, so that the same prompt is asked about once; callers with it at
/// the same time share one question. What the provider did not count it is not asked again for half a minute.
///
/// # Example
/// ```
/// use thrifty::call::{Call, Reply, ReplyBody};
/// use thrifty::tokens::{CountEndpoint, Counter};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
/// # runtime.block_on(async {
/// let provider = tower::service_fn(|call: Call| async move {
///     assert_eq!(call.parts.uri.path(), "/v1/messages/count_tokens");
///     Ok::<_, thrifty::BoxError>(Reply::new(ReplyBody::full(r#"{"input_tokens":14}"#)))
/// });
/// let counter = CountEndpoint::new(Counter::default(), provider);
/// let call = Call::post("https://api.anthropic.com/v1/messages",
///     r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"Hello, Claude"}]}"#);
/// assert_eq!(counter.count(&call, 11).await.likely, 14); // 11 were estimated
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
/// # Never asked where the estimate decides
/// ```
/// use thrifty::call::{Call, Reply};
/// use thrifty::tokens::{CountEndpoint, Counter};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
/// # runtime.block_on(async {
/// let provider = tower::service_fn(|_: Call| async { Err::<Reply, _>("not asked") });
/// let counter = CountEndpoint::new(Counter::default(), provider).patience(std::time::Duration::from_millis(500));
/// let call = Call::post("https://api.anthropic.com/v1/messages",
///     r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"Hello, Claude"}]}"#);
/// assert!(counter.count(&call, 10_000).await.likely < 30);
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct CountEndpoint<S> {
    counter: Counter,
    inner: S,
    patience: Duration,
    numbers: Arc<Numbers>,
    answers: Answers,
}

/// What was told, by the hash of the question.
type Answers = Cache<[u8; 32], Arc<OnceCell<Told>>>;

#[derive(Clone, Copy)]
enum Told {
    Tokens(u64),
    Nothing { at: Instant },
}

impl Told {
    fn is_stale(self) -> bool {
        matches!(self, Self::Nothing { at } if at.elapsed() >= PAUSE)
    }
}

/// How long a call has waited for counts so far, among its extensions.
#[derive(Clone, Copy)]
struct Waited(Duration);

/// A [`CountEndpoint`] whose way to the provider is boxed, as the layers take it.
pub type BoxCountEndpoint = CountEndpoint<BoxCloneSyncService<Call, Reply, BoxError>>;

#[derive(Default)]
struct Numbers {
    asked: AtomicU64,
    told: AtomicU64,
}

/// How often a provider was asked for its count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointNumbers {
    /// Questions sent.
    pub asked: u64,
    /// Answers that took the place of an estimate. For the others the estimate stood.
    pub told: u64,
}

/// What came of asking.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Provider(Count),
    /// A question was sent, and no answer came.
    Estimate(Count),
    /// None was sent.
    Unasked(Count),
}

impl Asked {
    pub(crate) fn count(&self) -> &Count {
        let (Self::Provider(count) | Self::Estimate(count) | Self::Unasked(count)) = self;
        count
    }

    /// For the receipt.
    pub(crate) fn note(&self) -> Option<&'static str> {
        match self {
            Self::Provider(_) => Some("the provider counted the prompt"),
            Self::Estimate(_) => Some("the provider did not count the prompt, the estimate stood"),
            Self::Unasked(_) => None,
        }
    }
}

impl<S> CountEndpoint<S> {
    /// Counts by `counter`, and asks through `inner`.
    pub fn new(counter: Counter, inner: S) -> Self {
        let answers = Cache::builder().max_capacity(REMEMBERED).time_to_live(FRESH).build();
        Self { counter, inner, patience: PATIENCE, numbers: Arc::default(), answers }
    }

    /// How long a call waits for the provider's counts in all, two seconds by default.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How often this endpoint and its clones have asked.
    #[must_use]
    pub fn numbers(&self) -> EndpointNumbers {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        EndpointNumbers { asked: read(&self.numbers.asked), told: read(&self.numbers.told) }
    }

    /// True if there is an endpoint that counts such calls.
    pub(crate) fn can_ask(&self, call: &Call) -> bool {
        Endpoint::of(call.dialect).is_some_and(|endpoint| endpoint.serves(call))
    }
}

impl<S> CountEndpoint<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    /// The same for layers, which take any way to the provider.
    #[must_use]
    pub fn boxed(self) -> BoxCountEndpoint {
        let Self { counter, inner, patience, numbers, answers } = self;
        let inner = BoxCloneSyncService::new(inner.map_err(Into::into));
        CountEndpoint { counter, inner, patience, numbers, answers }
    }
}

impl<S> CountEndpoint<S>
where
    S: Service<Call, Response = Reply> + Clone,
    S::Error: Into<BoxError>,
{
    /// Tokens of `call`; the provider's word on them if that settles whether they are within `budget`.
    pub async fn count(&self, call: &Call, budget: u64) -> Count {
        let count = self.counter.count(call);
        if !is_near(&count, budget) {
            return count;
        }
        self.ask(call, count).await.count().clone()
    }

    /// [`ask`](Self::ask), on account of the time that the call may wait in all.
    pub(crate) async fn ask_once(&self, call: &mut Call, count: Count) -> Asked {
        let from = Instant::now();
        let asked = self.ask(call, count).await;
        let before = call.parts.extensions.get::<Waited>().map_or(Duration::ZERO, |waited| waited.0);
        call.parts.extensions.insert(Waited(before.saturating_add(from.elapsed())));
        asked
    }

    /// Asks for the tokens of `call`, estimated as `count`, unless the answer is remembered.
    pub(crate) async fn ask(&self, call: &Call, count: Count) -> Asked {
        let waited = call.parts.extensions.get::<Waited>().map_or(Duration::ZERO, |waited| waited.0);
        let patience = self.patience.saturating_sub(waited);
        let Some(endpoint) = Endpoint::of(call.dialect).filter(|_| !patience.is_zero()) else {
            return Asked::Unasked(count);
        };
        let Some(question) = endpoint.ask(call) else { return Asked::Unasked(count) };
        let key = key_of(&question);
        let fresh = || Arc::new(OnceCell::new());
        let stale = |cell: &Arc<OnceCell<Told>>| cell.get().is_some_and(|told| told.is_stale());
        let cell = self.answers.entry(key).or_insert_with_if(fresh, stale).into_value();
        let remembered = cell.get().copied();
        let told = match remembered {
            Some(told) => told,
            None => {
                let until = Instant::now() + patience;
                let question = cell.get_or_init(|| self.send(endpoint, question, until));
                match tokio::time::timeout_at(until, question).await {
                    Ok(told) => *told,
                    Err(_) => {
                        // Whoever sent the question may have left; nobody else waits for its answer.
                        let nothing = Told::Nothing { at: Instant::now() };
                        if cell.get().is_none() {
                            self.answers.insert(key, Arc::new(OnceCell::new_with(Some(nothing))));
                        }
                        nothing
                    }
                }
            }
        };
        match told {
            Told::Tokens(tokens) => Asked::Provider(exactly(count, tokens, endpoint.accuracy())),
            Told::Nothing { .. } if remembered.is_some() => Asked::Unasked(count),
            Told::Nothing { .. } => Asked::Estimate(count),
        }
    }

    /// Sends the question, and waits for the answer until then.
    async fn send(&self, endpoint: Endpoint, question: Call, until: Instant) -> Told {
        self.numbers.asked.fetch_add(1, Ordering::Relaxed);
        let inner = self.inner.clone();
        let asked = async {
            let reply = inner.oneshot(question).await.map_err(Into::into)?;
            if !reply.status().is_success() {
                return Err(BoxError::from(reply.status().to_string()));
            }
            let body = Limited::new(reply.into_body(), MOST_BYTES).collect().await?.to_bytes();
            Ok::<Bytes, BoxError>(body)
        };
        let told = match tokio::time::timeout_at(until, asked).await {
            Ok(Ok(body)) => endpoint.read(&body),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(tokens) = told else {
            tracing::debug!("the provider did not count, the estimate stands");
            return Told::Nothing { at: Instant::now() };
        };
        self.numbers.told.fetch_add(1, Ordering::Relaxed);
        Told::Tokens(tokens)
    }
}

/// What the answer depends on: where it is asked, the model among it, and what.
fn key_of(question: &Call) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(question.parts.uri.to_string().as_bytes());
    for name in ["anthropic-version", "anthropic-beta"] {
        for value in question.parts.headers.get_all(name) {
            part(value.as_bytes());
        }
        part(b"");
    }
    part(question.doc.bytes());
    *hash.finalize().as_bytes()
}

impl<S> fmt::Debug for CountEndpoint<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountEndpoint").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// True if the count's error may be what decides about `budget`.
pub(crate) fn is_near(count: &Count, budget: u64) -> bool {
    let error = count.at_most - count.likely;
    count.accuracy > Accuracy::Formula
        && budget < count.at_most
        && budget.saturating_add(error) >= count.likely
}

/// The provider's figure in place of ours; the parts share the difference.
fn exactly(count: Count, tokens: u64, accuracy: Accuracy) -> Count {
    let mut count = super::calibration::spread_to(count, tokens);
    // What Anthropic's answer may lack are a few tokens of framing.
    count.at_most = match accuracy {
        Accuracy::Exact => tokens,
        _ => tokens.saturating_add(tokens / 100).saturating_add(8),
    };
    count.accuracy = accuracy;
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::ReplyBody;

    fn asked(uri: &str, body: &str) -> Option<(String, String)> {
        let call = Call::post(uri, body.to_owned());
        let question = Endpoint::of(call.dialect)?.ask(&call)?;
        let body = String::from_utf8(question.doc.bytes().to_vec()).expect("UTF-8");
        Some((question.parts.uri.to_string(), body))
    }

    #[test]
    fn each_endpoint_is_asked_in_its_own_way() {
        let (uri, body) = asked(
            "https://api.openai.com/v1/responses",
            r#"{"model":"gpt-5.5","input":"hi","stream":true,"max_output_tokens":9,"tools":[]}"#,
        )
        .expect("an endpoint");
        assert_eq!(uri, "https://api.openai.com/v1/responses/input_tokens");
        assert_eq!(body, r#"{"model":"gpt-5.5","input":"hi","tools":[]}"#);

        let (uri, body) = asked(
            "https://api.anthropic.com/v1/messages?beta=true",
            r#"{"model":"claude-opus-5","max_tokens":9,"system":"a","messages":[],"temperature":1}"#,
        )
        .expect("an endpoint");
        assert_eq!(uri, "https://api.anthropic.com/v1/messages/count_tokens?beta=true");
        assert_eq!(body, r#"{"model":"claude-opus-5","system":"a","messages":[]}"#);

        let (uri, body) = asked(
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse",
            r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#,
        )
        .expect("an endpoint");
        assert_eq!(uri, "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:countTokens");
        assert_eq!(
            body,
            r#"{"generateContentRequest":{"model":"models/gemini-3-pro","contents":[{"parts":[{"text":"hi"}]}]}}"#
        );

        for (uri, body) in [
            ("https://api.openai.com/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#),
            ("https://api.anthropic.com/v1/messages", "{"),
        ] {
            assert_eq!(asked(uri, body), None, "{uri}");
        }
    }

    #[test]
    fn the_answer_is_read_and_nothing_else_taken_for_it() {
        let of = |dialect| Endpoint::of(dialect).expect("an endpoint");
        assert_eq!(of(Dialect::AnthropicMessages).read(br#"{"input_tokens":2095}"#), Some(2095));
        assert_eq!(of(Dialect::GeminiGenerate).read(br#"{"totalTokens":31,"x":1}"#), Some(31));
        for odd in [&br#"{"input_tokens":"7"}"#[..], b"{}", b"", b"\xff", br#"{"error":{}}"#] {
            assert_eq!(of(Dialect::OpenAiResponses).read(odd), None);
        }
    }

    fn answered(status: u16, body: ReplyBody) -> Reply {
        let mut reply = Reply::new(body);
        *reply.status_mut() = http::StatusCode::from_u16(status).expect("a status");
        reply
    }

    fn near() -> (Call, u64) {
        let call = Call::post(
            "https://api.anthropic.com/v1/messages",
            r#"{"model":"claude-opus-5","max_tokens":9,"system":"Be kind.","messages":[{"role":"user","content":"hello there"}]}"#,
        );
        let budget = Counter::default().count(&call).likely;
        (call, budget)
    }

    #[tokio::test(start_paused = true)]
    async fn the_estimate_stands_when_the_provider_does_not_count() {
        let (call, budget) = near();
        let estimate = Counter::default().count(&call);
        type Answer = fn() -> Result<Reply, BoxError>;
        let answers: [Answer; 4] = [
            || Err("down".into()),
            || Ok(answered(429, ReplyBody::full(r#"{"input_tokens":1}"#))),
            || Ok(answered(200, ReplyBody::full("<html>"))),
            || Ok(answered(200, ReplyBody::full(vec![b' '; MOST_BYTES + 1]))),
        ];
        for answer in answers {
            let provider = tower::service_fn(move |_: Call| async move { answer() });
            let counter = CountEndpoint::new(Counter::default(), provider);
            assert_eq!(counter.count(&call, budget).await, estimate);
        }
        let silent = tower::service_fn(|_: Call| std::future::pending::<Result<Reply, BoxError>>());
        assert_eq!(CountEndpoint::new(Counter::default(), silent).count(&call, budget).await, estimate);
    }

    #[tokio::test]
    async fn the_providers_word_takes_the_place_of_the_estimate() {
        let (call, budget) = near();
        let provider = tower::service_fn(|question: Call| async move {
            assert!(question.doc.get("max_tokens").is_none(), "the endpoint takes no cap");
            Ok::<_, BoxError>(answered(200, ReplyBody::full(r#"{"input_tokens":23}"#)))
        });
        let found = CountEndpoint::new(Counter::default(), provider).count(&call, budget).await;
        assert_eq!((found.likely, found.at_most, found.accuracy), (23, 31, Accuracy::Calibrated));
        let parts = &found.parts;
        assert_eq!(parts.system + parts.framing + parts.messages.iter().sum::<u64>(), 23);
    }

    #[test]
    fn only_a_budget_within_the_error_asks() {
        let count = Count { likely: 100, at_most: 110, accuracy: Accuracy::Calibrated, ..Count::default() };
        let asks: Vec<u64> = (80..120).filter(|budget| is_near(&count, *budget)).collect();
        assert_eq!((asks.first(), asks.last()), (Some(&90), Some(&109)));
        let sure = Count { accuracy: Accuracy::Formula, ..count };
        assert!(!is_near(&sure, 105), "a formula is not asked about");
    }

    #[test]
    fn what_it_cannot_count_it_is_not_asked() {
        let vertex = "https://eu-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/gemini-3-pro:generateContent";
        let provider = tower::service_fn(|_: Call| async { Err::<Reply, BoxError>("never".into()) });
        let endpoint = CountEndpoint::new(Counter::default(), provider);
        for (uri, body) in [
            (vertex, r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#),
            ("https://a.example/v1/responses", r#"{"model":"gpt-5.5","input":"hi","prompt":{"id":"p"}}"#),
            ("https://a.example/v1/responses", r#"{"model":"gpt-5.5","input":"hi","conversation":"c"}"#),
        ] {
            assert_eq!(asked(uri, body), None, "{uri} {body}");
            assert!(!endpoint.can_ask(&Call::post(uri, body)), "{uri} {body}");
        }
        let item = r#"{"model":"gpt-5.5","input":[{"type":"item_reference","id":"i"}]}"#;
        assert_eq!(asked("https://a.example/v1/responses", item), None);
    }

    #[test]
    fn headers_of_the_call_alone_stay_with_it() {
        let (mut call, _) = near();
        for (name, value) in [("idempotency-key", "k"), ("accept-encoding", "gzip"), ("x-api-key", "s")] {
            call.parts.headers.insert(name, http::HeaderValue::from_static(value));
        }
        let question =
            Endpoint::of(call.dialect).and_then(|endpoint| endpoint.ask(&call)).expect("a question");
        let names: Vec<_> = question.parts.headers.keys().map(|name| name.as_str()).collect();
        assert!(names.contains(&"x-api-key"), "{names:?}");
        assert!(!names.contains(&"idempotency-key") && !names.contains(&"accept-encoding"), "{names:?}");
    }

    #[tokio::test]
    async fn the_same_prompt_is_asked_about_once_also_by_a_crowd() {
        let (call, budget) = near();
        let provider = tower::service_fn(|_: Call| async {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(answered(200, ReplyBody::full(r#"{"input_tokens":23}"#)))
        });
        let endpoint = CountEndpoint::new(Counter::default(), provider);
        let crowd = futures_util::future::join_all((0..100).map(|_| endpoint.count(&call, budget))).await;
        assert!(crowd.iter().all(|count| count.likely == 23));
        let boxed = endpoint.clone().boxed();
        assert_eq!(boxed.count(&call, budget).await.likely, 23, "one memory for all clones");
        assert_eq!(endpoint.numbers(), EndpointNumbers { asked: 1, told: 1 });
        let mut other = call.clone();
        other.doc.set("model", "\"claude-opus-4-8\"").expect("an object");
        endpoint.count(&other, budget).await;
        assert_eq!(endpoint.numbers().asked, 2, "another model is another question");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_failed_is_let_rest_and_a_call_waits_once() {
        let (mut call, _) = near();
        let estimate = Counter::default().count(&call);
        let silent = tower::service_fn(|_: Call| std::future::pending::<Result<Reply, BoxError>>());
        let endpoint = CountEndpoint::new(Counter::default(), silent);
        let from = Instant::now();
        let first = endpoint.ask(&call, estimate.clone()).await;
        assert!(matches!(first, Asked::Estimate(_)) && from.elapsed() >= PATIENCE);
        let from = Instant::now();
        let second = endpoint.ask(&call, estimate.clone()).await;
        assert!(second.note().is_none() && from.elapsed().is_zero(), "no question was sent");
        tokio::time::advance(PAUSE).await;
        let from = Instant::now();
        let third = endpoint.ask_once(&mut call, estimate.clone()).await;
        assert!(third.note().is_some() && from.elapsed() >= PATIENCE);
        call.doc.set("system", "\"Be brief.\"").expect("an object");
        let from = Instant::now();
        let trimmed = endpoint.ask(&call, estimate).await;
        assert!(trimmed.note().is_none() && from.elapsed().is_zero(), "the call has waited its time");
        assert_eq!(endpoint.numbers().asked, 2);
    }
}
