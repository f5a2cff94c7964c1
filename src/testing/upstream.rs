//! The provider itself.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use tower_service::Service;

use super::answer::{Answer, Content, Ending};
use super::frames::Frames;
use super::prompt_cache::{Input, PromptCache};
use super::script::{Scripted, What};
use super::{anthropic, openai};
use crate::call::{Call, Dialect, Reply, ReplyBody};
use crate::dialect::Usage;
use crate::{BoxError, Error, Kind};

/// A provider inside the program. Clones share their state.
///
/// Knows OpenAI chat completions and Anthropic Messages; any other path is answered with status 404. The text of an
/// answer follows from the last user message alone: 40 to 240 words, or JSON where a format is demanded, or a call
/// of the first tool when tools are offered and the message holds the words `use the tool`. A cap cuts it. Input
/// tokens are those of [`tokens::count`](crate::tokens::count), output tokens a quarter of the bytes. Prefixes of
/// 1,024 tokens and more are remembered per credential and model and reported as cached when they come again; with
/// Anthropic only where the request marks them.
///
/// See the [module docs](crate::testing).
#[derive(Clone)]
pub struct Upstream {
    state: Arc<State>,
    latency: Duration,
    gap: Duration,
    script: Option<Script>,
    first: Option<(u64, Scripted)>,
}

type Script = Arc<dyn Fn(&Call) -> Option<Scripted> + Send + Sync>;

/// How many calls the log keeps.
const KEPT: usize = 4_096;

#[derive(Default)]
struct State {
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    calls: u64,
    by_body: HashMap<[u8; 32], u64>,
    log: VecDeque<Seen>,
    prompts: PromptCache,
}

/// One call as it arrived.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Seen {
    /// The call.
    pub call: Call,
    /// Status it was answered with; `None` for no answer at all.
    pub status: Option<StatusCode>,
    /// What it is billed for; `None` for errors.
    pub usage: Option<Usage>,
}

impl Upstream {
    /// A provider that answers at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            latency: Duration::ZERO,
            gap: Duration::ZERO,
            script: None,
            first: None,
        }
    }

    /// Sets the time to the first byte. Default: none. Needs tokio's timer.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the pause between the frames of a stream. Default: none. Needs tokio's timer.
    #[must_use]
    pub fn frame_gap(mut self, gap: Duration) -> Self {
        self.gap = gap;
        self
    }

    /// Asks `script` for each call; where it says `None` the upstream answers by itself.
    #[must_use]
    pub fn answer_with(mut self, script: impl Fn(&Call) -> Option<Scripted> + Send + Sync + 'static) -> Self {
        self.script = Some(Arc::new(script));
        self
    }

    /// Answers the first `calls` calls this way, whatever the script says.
    #[must_use]
    pub fn first(mut self, calls: u64, answer: Scripted) -> Self {
        self.first = Some((calls, answer));
        self
    }

    /// Number of calls that arrived.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.inner().calls
    }

    /// Number of calls that arrived with exactly this body.
    #[must_use]
    pub fn calls_for(&self, body: &[u8]) -> u64 {
        let hash = *blake3::hash(body).as_bytes();
        self.inner().by_body.get(&hash).copied().unwrap_or(0)
    }

    /// The calls that arrived, oldest first; the last 4,096 of them.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.inner().log.iter().cloned().collect()
    }

    /// The last call that arrived.
    #[must_use]
    pub fn last(&self) -> Option<Seen> {
        self.inner().log.back().cloned()
    }

    /// Number of calls whose answer has not ended yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.state.in_flight.load(Ordering::SeqCst)
    }

    /// The most calls that were in flight at a time.
    #[must_use]
    pub fn most_in_flight(&self) -> u64 {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }

    /// The answer to `call`, without waiting for the latency. A scripted failure becomes status 503.
    ///
    /// With a [`frame_gap`](Self::frame_gap) the body of a stream needs tokio's timer, else no runtime.
    #[must_use]
    pub fn answer(&self, call: &Call) -> Reply {
        self.respond(call, None).unwrap_or_else(|failure| {
            let body = call.format().error_body(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded_error",
                &failure.to_string(),
            );
            reply(StatusCode::SERVICE_UNAVAILABLE, "application/json", ReplyBody::full(body))
        })
    }

    fn respond(&self, call: &Call, guard: Option<InFlight>) -> Result<Reply, BoxError> {
        let number = {
            let mut inner = self.inner();
            inner.calls += 1;
            *inner.by_body.entry(*blake3::hash(call.doc.bytes()).as_bytes()).or_default() += 1;
            inner.calls
        };
        let scripted = match &self.first {
            Some((calls, scripted)) if number <= *calls => Some(scripted.clone()),
            _ => self.script.as_ref().and_then(|script| script(call)),
        };
        let scripted = scripted.unwrap_or_else(Scripted::own);
        let (result, usage) = self.play(call, &scripted, guard);
        let status = result.as_ref().ok().map(Response::status);
        let mut inner = self.inner();
        if inner.log.len() == KEPT {
            inner.log.pop_front();
        }
        inner.log.push_back(Seen { call: call.clone(), status, usage });
        drop(inner);
        let mut reply = result?;
        let id = format!("req_{number}");
        if let Ok(id) = HeaderValue::try_from(id) {
            reply.headers_mut().insert("x-request-id", id);
        }
        for (name, value) in &scripted.headers {
            reply.headers_mut().insert(name, value.clone());
        }
        Ok(reply)
    }

    fn play(
        &self,
        call: &Call,
        scripted: &Scripted,
        guard: Option<InFlight>,
    ) -> (Result<Reply, BoxError>, Option<Usage>) {
        match &scripted.what {
            What::Unreachable => {
                let error = Error::new(
                    Kind::Upstream,
                    "the embedded upstream was told not to answer",
                    "script another answer",
                );
                return (Err(error.into()), None);
            }
            What::Error { status, kind, message, code } => {
                let body = match code {
                    // OpenAI's clients look for the code.
                    Some(code) if call.dialect != Dialect::AnthropicMessages => format!(
                        r#"{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":"{code}"}}}}"#
                    )
                    .into(),
                    _ => error_body(call, *status, kind, message),
                };
                return (Ok(reply(*status, JSON, ReplyBody::full(body))), None);
            }
            What::Body { status, bytes } => {
                return (Ok(reply(*status, JSON, ReplyBody::full(bytes.clone()))), None);
            }
            _ => {}
        }
        if let Err((status, kind, message)) = check(call) {
            return (
                Ok(reply(status, JSON, ReplyBody::full(error_body(call, status, kind, &message)))),
                None,
            );
        }

        let mut answer = Answer::to(call);
        if let Some(model) = &scripted.model {
            answer.model.clone_from(model);
        }
        match &scripted.what {
            What::Text(text) => {
                let mut content = Content::Text(text.clone());
                let cut = call.format().cap(call).is_some_and(|cap| content.cut(cap));
                answer.ending = if cut { Ending::Length } else { Ending::Whole };
                answer.choices = vec![content];
            }
            What::Truncated => {
                let half = answer.output_tokens() / 2;
                answer.choices.truncate(1);
                for content in &mut answer.choices {
                    content.cut(half);
                }
                answer.ending = Ending::Length;
            }
            What::Refusal => {
                answer.choices = vec![Content::Refusal("I cannot help with that.".to_owned())];
                answer.ending = Ending::Whole;
            }
            What::Filtered => answer.ending = Ending::Filtered,
            _ => {}
        }
        let input = self.inner().prompts.read(call);
        let reply = render(call, &answer, &input, &scripted.what, self.gap, guard);
        (Ok(reply), Some(usage(call, &answer, &input)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const JSON: &str = "application/json";

impl Default for Upstream {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("latency", &self.latency)
            .field("frame_gap", &self.gap)
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}

impl Service<Call> for Upstream {
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let upstream = self.clone();
        let guard = InFlight::enter(&self.state);
        Box::pin(async move {
            if !upstream.latency.is_zero() {
                tokio::time::sleep(upstream.latency).await;
            }
            upstream.respond(&call, Some(guard))
        })
    }
}

/// Counts one call as in flight while it lives.
pub(super) struct InFlight(Arc<State>);

impl InFlight {
    fn enter(state: &Arc<State>) -> Self {
        let now = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(state))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn error_body(call: &Call, status: StatusCode, kind: &str, message: &str) -> Bytes {
    // OpenAI's shape is what most clients can read. A body that cannot be read makes a call opaque; its path still
    // tells whose error it gets.
    let path = call.parts.uri.path();
    let anthropic = Dialect::AnthropicMessages.format().claims_path(path);
    let dialect = if anthropic { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
    dialect.format().error_body(status, kind, message)
}

/// What a provider checks before it answers.
fn check(call: &Call) -> Result<(), (StatusCode, &'static str, String)> {
    let path = call.parts.uri.path();
    let spoken = [Dialect::OpenAiChat, Dialect::AnthropicMessages];
    let known = spoken.iter().any(|dialect| dialect.format().claims_path(path));
    if !known {
        return Err((StatusCode::NOT_FOUND, "not_found_error", format!("no such path: {path}")));
    }
    let bad = |message: &str| (StatusCode::BAD_REQUEST, "invalid_request_error", message.to_owned());
    if call.parts.method != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "use POST".to_owned()));
    }
    if call.doc.trouble().is_some() {
        return Err(bad("the body is not a JSON object"));
    }
    if call.doc.str("model").is_none() {
        return Err(bad("model: a string is required"));
    }
    if call.doc.elements("messages").is_none_or(|messages| messages.is_empty()) {
        return Err(bad("messages: at least one message is required"));
    }
    if call.dialect == Dialect::AnthropicMessages && call.doc.u64("max_tokens").is_none() {
        return Err(bad("max_tokens: a number is required"));
    }
    Ok(())
}

fn usage(call: &Call, answer: &Answer, input: &Input) -> Usage {
    let mut usage = Usage::of(input.total, answer.output_tokens()).with_read(input.read);
    if call.dialect == Dialect::AnthropicMessages {
        let (short, long) = if input.long { (0, input.written) } else { (input.written, 0) };
        (usage.write_short, usage.write_long) = (Some(short), Some(long));
    }
    usage
}

fn render(
    call: &Call,
    answer: &Answer,
    input: &Input,
    what: &What,
    gap: Duration,
    guard: Option<InFlight>,
) -> Reply {
    let anthropic = call.dialect == Dialect::AnthropicMessages;
    let failure = matches!(what, What::Reset).then_some("connection reset by the embedded upstream");
    let broken = matches!(what, What::Cut | What::Reset);
    let error = || {
        let body = error_body(call, StatusCode::OK, "overloaded_error", "the model is overloaded");
        String::from_utf8_lossy(&body).into_owned()
    };

    if !call.wants_stream() {
        let body = match (what, anthropic) {
            (What::ErrorUnder200, _) => error(),
            (_, true) => anthropic::body(answer, input),
            (_, false) => openai::body(answer, input),
        };
        let mut bytes = Bytes::from(body);
        if broken {
            bytes.truncate(bytes.len() / 2);
        }
        let body = match failure {
            None => ReplyBody::full(bytes),
            Some(_) => ReplyBody::stream(Frames::new(vec![bytes], gap, failure).hold(guard)),
        };
        return reply(StatusCode::OK, JSON, body);
    }

    let mut events = if anthropic {
        anthropic::events(answer, input)
    } else {
        let options = call.doc.object("stream_options");
        let include_usage = options.is_some_and(|options| options.bool("include_usage") == Some(true));
        openai::events(answer, input, include_usage)
    };
    match what {
        What::ErrorUnder200 => {
            events.truncate(4);
            events.push(if anthropic {
                anthropic::error_event(&error())
            } else {
                format!("data: {}\n\n", error())
            });
        }
        What::Cut | What::Reset => events.truncate(events.len().div_ceil(2)),
        _ => events.push(if anthropic { anthropic::STOP } else { openai::DONE }.to_owned()),
    }
    let frames = events.into_iter().map(Bytes::from).collect();
    let body = ReplyBody::stream(Frames::new(frames, gap, failure).hold(guard));
    reply(StatusCode::OK, "text/event-stream", body)
}
