//! An answer becomes a reply: whole or as a stream, sound or broken as the script says.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use super::answer::Answer;
use super::frames::Frames;
use super::prompt_cache::Input;
use super::route::error_body;
use super::script::What;
use super::upstream::InFlight;
use super::{anthropic, gemini, ollama, openai, responses};
use crate::call::{Call, Dialect, Reply, ReplyBody};
use crate::dialect::Usage;

pub(super) const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";

/// How a body travels.
pub(super) struct Manner<'a> {
    pub(super) what: &'a What,
    pub(super) gap: Duration,
    pub(super) guard: Option<InFlight>,
}

impl Manner<'_> {
    fn failure(&self) -> Option<&'static str> {
        matches!(self.what, What::Reset).then_some("connection reset by the embedded upstream")
    }

    fn is_broken(&self) -> bool {
        matches!(self.what, What::Cut | What::Reset)
    }

    fn stream(self, frames: Vec<Bytes>) -> ReplyBody {
        let failure = self.failure();
        ReplyBody::stream(Frames::new(frames, self.gap, failure).hold(self.guard))
    }
}

pub(super) fn reply(status: StatusCode, content_type: &'static str, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// What the answer is billed for.
pub(super) fn usage(call: &Call, answer: &Answer, input: &Input) -> Usage {
    let mut usage = Usage::of(input.total, answer.output_tokens()).with_read(input.read);
    if call.dialect == Dialect::AnthropicMessages {
        let (short, long) = if input.long { (0, input.written) } else { (input.written, 0) };
        (usage.write_short, usage.write_long) = (Some(short), Some(long));
    }
    let tells = matches!(call.dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses);
    if tells || (answer.thinking.is_some() && call.dialect != Dialect::OllamaChat) {
        usage.reasoning = Some(answer.thought_tokens());
    }
    usage
}

/// The answer on the wire.
pub(super) fn answered(call: &Call, answer: &Answer, input: &Input, manner: Manner<'_>) -> Reply {
    if call.wants_stream() {
        return streamed(call, answer, input, manner);
    }
    let body = match call.dialect {
        Dialect::OpenAiResponses if matches!(manner.what, What::ErrorUnder200) => {
            responses::failed(call, answer)
        }
        Dialect::AnthropicMessages => anthropic::body(answer, input),
        Dialect::OpenAiResponses => responses::body(call, answer, input),
        Dialect::GeminiGenerate => gemini::body(call, answer, input),
        Dialect::OllamaChat => ollama::body(call, answer, input),
        _ => openai::body(answer, input),
    };
    document(call, body, manner)
}

/// A whole document, or what the script leaves of it.
pub(super) fn document(call: &Call, body: String, manner: Manner<'_>) -> Reply {
    let is_told_by_body = call.dialect == Dialect::OpenAiResponses;
    let mut bytes = match manner.what {
        What::ErrorUnder200 if !is_told_by_body => overloaded(call),
        _ => Bytes::from(body),
    };
    if manner.is_broken() {
        bytes.truncate(bytes.len() / 2);
    }
    let body = if manner.failure().is_some() { manner.stream(vec![bytes]) } else { ReplyBody::full(bytes) };
    reply(StatusCode::OK, JSON, body)
}

fn streamed(call: &Call, answer: &Answer, input: &Input, manner: Manner<'_>) -> Reply {
    let is_sse = call.dialect != Dialect::GeminiGenerate || asks_for_events(call);
    let mut events = match call.dialect {
        Dialect::AnthropicMessages => anthropic::events(answer, input),
        Dialect::OpenAiResponses => responses::events(call, answer, input),
        Dialect::GeminiGenerate if is_sse => gemini::as_events(gemini::chunks(call, answer, input)),
        Dialect::GeminiGenerate => gemini::as_array(gemini::chunks(call, answer, input)),
        Dialect::OllamaChat => ollama::lines(call, answer, input),
        _ => {
            let options = call.doc.object("stream_options");
            let include_usage = options.is_some_and(|options| options.bool("include_usage") == Some(true));
            openai::events(answer, input, include_usage)
        }
    };
    match manner.what {
        What::ErrorUnder200 => {
            events.truncate(events.len().div_ceil(2).min(4));
            let error = overloaded(call);
            let error = String::from_utf8_lossy(&error);
            events.push(match call.dialect {
                Dialect::AnthropicMessages => anthropic::error_event(&error),
                Dialect::OpenAiResponses => responses::error_event(events.len()),
                Dialect::OllamaChat => format!("{error}\n"),
                Dialect::GeminiGenerate if !is_sse => format!("\r\n,{error}\r\n]"),
                _ => format!("data: {error}\n\n"),
            });
        }
        What::Cut | What::Reset => events.truncate(events.len().div_ceil(2)),
        _ => {}
    }
    let content_type = match call.dialect {
        Dialect::OllamaChat => LINES,
        _ if is_sse => EVENTS,
        _ => JSON,
    };
    let frames = events.into_iter().map(Bytes::from).collect();
    reply(StatusCode::OK, content_type, manner.stream(frames))
}

/// Gemini streams one array unless it is asked for events.
fn asks_for_events(call: &Call) -> bool {
    call.parts.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"))
}

fn overloaded(call: &Call) -> Bytes {
    error_body(call, StatusCode::OK, "overloaded_error", "the model is overloaded")
}
