//! The provider itself.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::HeaderValue;
use http::{Response, StatusCode};
use tower_service::Service;

use super::answer::{Answer, Content, Ending};
use super::prompt_cache::PromptCache;
use super::render::{JSON, Manner, answered, document, reply, usage};
use super::route::{Refusal, Task, bad, check, error_body, look_up, speaker};
use super::script::{Scripted, What};
use super::{embeddings, ollama};
use crate::call::{Call, Dialect, Reply, ReplyBody};
use crate::dialect::Usage;
use crate::{BoxError, Error, Kind};

/// A provider inside the program. Clones share their state.
///
/// The text of an answer follows from the last user message alone: 40 to 240 words, or JSON where a format is
/// demanded, or a call of the first tool when tools are offered and the message holds the words `use the tool`. A cap
/// cuts it. Input tokens are those of [`tokens::count`](crate::tokens::count), output tokens a quarter of the bytes.
/// Thoughts are billed where a model has them, in what the text leaves of the cap. Prefixes of 1,024 tokens and more
/// are remembered per credential and model and reported as cached when they come again; with Anthropic only where the
/// request marks them.
///
/// A path of no API is answered with status 404. See the [module docs](crate::testing).
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
            let message = failure.to_string();
            let body = error_body(call, StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", &message);
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
            // Anthropic's clients look for the shorter name.
            reply.headers_mut().insert("request-id", id.clone());
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
                    Some(code) if speaks_openai(call) => format!(
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
        let manner = Manner { what: &scripted.what, gap: self.gap, guard };
        match self.work(call, scripted, manner) {
            Ok((reply, usage)) => (Ok(reply), usage),
            Err((status, kind, message)) => {
                let body = error_body(call, status, kind, &message);
                (Ok(reply(status, JSON, ReplyBody::full(body))), None)
            }
        }
    }

    fn work(
        &self,
        call: &Call,
        scripted: &Scripted,
        manner: Manner<'_>,
    ) -> Result<(Reply, Option<Usage>), Refusal> {
        let task = check(call)?;
        let dialect = match task {
            Task::Generate(dialect) => dialect,
            Task::Embed => {
                let (body, tokens) = embeddings::body(call).map_err(|message| bad(&message))?;
                return Ok((document(call, body, manner), Some(Usage::of(tokens, 0))));
            }
            _ => return Ok((document(call, look_up(call, &task)?, manner), None)),
        };
        let mut call = call.clone();
        call.dialect = dialect;
        if let Some(body) = Some(&call).filter(|_| dialect == Dialect::OllamaChat).and_then(ollama::load) {
            return Ok((document(&call, body, manner), None));
        }
        let mut answer = Answer::to(&call);
        if let Some(model) = &scripted.model {
            answer.model.clone_from(model);
        }
        match &scripted.what {
            What::Text(text) => answer.say(&call, text),
            What::Truncated => {
                let half = answer.said_tokens() / 2;
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
        let input = self.inner().prompts.read(&call);
        let usage = usage(&call, &answer, &input);
        Ok((answered(&call, &answer, &input, manner), Some(usage)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn speaks_openai(call: &Call) -> bool {
    matches!(speaker(call), Dialect::OpenAiChat | Dialect::OpenAiResponses)
}

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
