//! The only place that knows where things live on the wire: model, messages, cap, usage, end of stream.
//!
//! Each API has its own names for the same ideas. Every other room asks a [`Format`] and stays free of field
//! names, so a new API is one new file here.
//!
//! | | path ends in | body has |
//! |---|---|---|
//! | [`OpenAiChat`](Dialect::OpenAiChat) | `/chat/completions` | `model`, and `messages` that each have a `role` |
//! | [`AnthropicMessages`](Dialect::AnthropicMessages) | `/messages` of an API's root, Vertex's `/publishers/anthropic/models/{model}:rawPredict`, Bedrock's `/model/{model}/invoke` | `messages`, `max_tokens`, and `system` or an `anthropic-version` header |
//! | [`OpenAiResponses`](Dialect::OpenAiResponses) | `/responses` of an API's root | `input`, and `instructions`, `max_output_tokens` or `previous_response_id` |
//! | [`GeminiGenerate`](Dialect::GeminiGenerate) | `/models/{model}:generateContent`, `:streamGenerateContent` | |
//! | [`OllamaChat`](Dialect::OllamaChat) | `/api/chat`, `/api/generate` | |
//! | [`Embeddings`](Dialect::Embeddings) | `/embeddings`, `/api/embed`, `:embedContent`, `:batchEmbedContents` | |
//! | [`Opaque`](Dialect::Opaque) | anything else | |
//!
//! The body is asked only where the path is nobody's: a gateway's own. Endpoints that count, split, rank, check or file
//! what a call would send (`/tokenize`, `/threads/..`, `/batches`) are opaque whatever their body, and so are those with
//! a shape of their own (Cohere's `/v2/chat`, Bedrock's `converse`).
//!
//! # Example
//! ```
//! use thrifty::call::Call;
//!
//! let call = Call::post("https://api.openai.com/v1/chat/completions",
//!     r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":128}"#);
//! assert_eq!(call.model().as_deref(), Some("gpt-5-mini"));
//! assert_eq!(call.format().cap(&call), Some(128));
//! ```
//! # Reading an answer
//! ```
//! use thrifty::call::Dialect;
//! use thrifty::dialect::{Finish, Format};
//!
//! let outcome = Dialect::OpenAiChat.format().read_reply(
//!     br#"{"model":"gpt-5-mini-2025-08-07","choices":[{"index":0,"message":{"role":"assistant","content":"11"},
//!          "finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}"#);
//! assert_eq!(outcome.finish, Finish::Whole);
//! assert_eq!(outcome.usage.and_then(|usage| usage.input), Some(8));
//! ```

mod anthropic;
mod assemble;
pub(crate) mod embeddings;
mod gemini;
mod identity;
pub mod json_array;
mod mould;
mod ollama;
mod opaque;
mod openai_chat;
mod outcome;
mod path;
mod prompt;
mod reading;
mod responses;
pub mod sse;
mod stream;
mod usage;

use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Request, StatusCode};

pub use self::identity::{Identity, Place, Stamp};
pub use self::opaque::{RawIdentity, read_raw};
pub use self::outcome::{Called, Finish, Outcome, StreamReader, is_event_stream, is_free_of_charge, read};
pub use self::prompt::{Image, Message, Part, Prompt, Role, Source, Tool, ToolChoice};
pub(crate) use self::reading::Reading;
pub use self::usage::Usage;
pub(crate) use self::usage::each_count;
use crate::call::{Call, Dialect, Doc};
use crate::{Error, Kind};

/// One wire format. All methods are pure; those that read are total: what cannot be read is `None` or empty.
pub trait Format: fmt::Debug + Send + Sync + 'static {
    /// Which one this is.
    fn dialect(&self) -> Dialect;

    /// True if a request to this path speaks this format.
    fn claims_path(&self, path: &str) -> bool;

    /// True if this body, posted to a path nobody claims, is clearly this format.
    fn claims_body(&self, parts: &Parts, doc: &Doc) -> bool;

    /// The model asked for, wherever it lives.
    fn model(&self, call: &Call) -> Option<String>;

    /// Asks for another model.
    ///
    /// # Errors
    /// [`Kind::NotEditable`] when the call cannot be edited; it is then as it was.
    fn set_model(&self, call: &mut Call, model: &str) -> Result<(), Error>;

    /// True if the answer is asked for as a stream.
    fn wants_stream(&self, call: &Call) -> bool;

    /// The prompt in the neutral form; empty for what cannot be read.
    fn prompt<'a>(&self, call: &'a Call) -> Prompt<'a>;

    /// Name of the top-level member whose elements are [`Prompt::messages`].
    fn messages_member(&self) -> Option<&'static str>;

    /// JSON text of `message` with the content of its tool results replaced by `text`; `None` if it has none.
    fn clear_tool_results(&self, message: &str, text: &str) -> Option<String>;

    /// True if `message` carries a mark of the provider's prompt cache set by the caller.
    fn has_cache_mark(&self, message: &str) -> bool;

    /// The output cap the caller sent, in tokens.
    fn cap(&self, call: &Call) -> Option<u64>;

    /// Sets the output cap: in the caller's field if there is one, else in the one that `field` names.
    ///
    /// # Errors
    /// [`Kind::NotEditable`] when the call cannot be edited; it is then as it was.
    fn set_cap(&self, call: &mut Call, tokens: u64, field: CapField) -> Result<(), Error>;

    /// Smallest cap that leaves the request valid: a thinking budget plus one, or 1.
    fn cap_floor(&self, call: &Call) -> u64;

    /// How many answers are asked for (`n`); the cap holds for each of them.
    fn choices(&self, call: &Call) -> u64 {
        let _ = call;
        1
    }

    /// Members that do not change the answer and are left out of the cache key, as exact paths: names joined by
    /// `/`, `*` for each element of an array. `messages/*/content/*/cache_control` names one member of each part.
    fn excluded(&self) -> &'static [&'static str];

    /// The path and the query parts by which the call is known in a cache key: those of the wire, unless a format
    /// tells there what kind of answer is wanted.
    fn key_path<'a>(&self, uri: &'a http::Uri) -> (std::borrow::Cow<'a, str>, Vec<&'a str>) {
        (uri.path().into(), uri.query().into_iter().flat_map(|query| query.split('&')).collect())
    }

    /// Why this call may be neither looked up nor stored nor joined, as a word for logs, if so.
    fn bypass(&self, call: &Call) -> Option<&'static str>;

    /// Names of the tools that this body offers and the client runs; `None` where that cannot be told for certain: what
    /// the provider runs or keeps may offer more.
    fn offered_tools<'a>(&self, doc: &'a Doc) -> Option<Vec<std::borrow::Cow<'a, str>>> {
        let _ = doc;
        None
    }

    /// What a complete reply body says.
    fn read_reply(&self, body: &[u8]) -> Outcome;

    /// A reader for the frames of a streamed reply body.
    fn stream_reader(&self) -> Box<dyn StreamReader>;

    /// Where a reply says which one it is and when it was made: what is made anew when it is served again. None where
    /// nothing does, or where it has to stay. Ids of tool calls are part of the answer.
    fn identity(&self, body: &[u8], is_stream: bool) -> Identity {
        let _ = (body, is_stream);
        Identity::default()
    }

    /// The same for the reply to this call, which may say how its endpoint ends a stream: [`StreamEnd`].
    fn stream_reader_for(&self, call: &Call) -> Box<dyn StreamReader> {
        let _ = call;
        self.stream_reader()
    }

    /// The document that says the same as this whole stream (its end marker seen); `None` where that cannot be told.
    fn to_document(&self, stream: &[u8]) -> Option<Bytes> {
        let _ = stream;
        None
    }

    /// The frames of a stream that says the same as this document; `None` where that cannot be told.
    fn to_stream(&self, document: &[u8], shape: StreamShape) -> Option<Vec<Bytes>> {
        let _ = (document, shape);
        None
    }

    /// `content-type` of a streamed reply.
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// How this caller wants a stream to look.
    fn stream_shape(&self, call: &Call) -> StreamShape {
        let _ = call;
        StreamShape::with_usage(true)
    }

    /// Asks for usage at the end of the stream where a caller did not and the format needs asking; the body is left
    /// as it is if it cannot be edited. What comes of it has to be hidden from that caller: [`Format::hide_usage`].
    fn ask_for_usage(&self, call: &mut Call) {
        let _ = call;
    }

    /// A filter for the frames of a stream that takes out what only [`Format::ask_for_usage`] brought in; `None` for
    /// formats that never need it.
    fn hide_usage(&self) -> Option<Box<dyn FrameFilter>> {
        None
    }

    /// A provider's usage object in normal form; `None` if it is not one or its counts contradict each other.
    fn usage(&self, json: &str) -> Option<Usage>;

    /// An error body that clients of this format can show.
    fn error_body(&self, status: StatusCode, kind: &str, message: &str) -> Bytes;
}

/// How an endpoint ends its streams: a value among a call's extensions, for servers that are known to be lax.
///
/// OpenAI ends a stream with `data: [DONE]`, and a stream without it may have lost its end, so it is partial and never
/// stored. A few servers never send the marker. Where one is known to be such,
/// [`FinishReason`](StreamEnd::FinishReason) takes a stream for whole when the body ended by itself and every answer
/// that was asked for (`n`) has its finish reason, which stands in its last piece. Formats with another end marker, or
/// with none, do not look at this.
///
/// # Example
/// ```
/// use thrifty::call::Call;
/// use thrifty::dialect::{Finish, StreamEnd};
///
/// let mut call = Call::post("http://127.0.0.1:8000/v1/chat/completions",
///     r#"{"model":"local","messages":[{"role":"user","content":"hi"}],"stream":true}"#);
/// let stream = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"11\"},\"finish_reason\":\"stop\"}]}\n\n";
/// let finish = |call: &Call| {
///     let mut reader = call.format().stream_reader_for(call);
///     reader.push(stream);
///     reader.outcome(true).finish
/// };
/// assert_eq!(finish(&call), Finish::Partial, "strict, where nothing is said");
/// call.parts.extensions.insert(StreamEnd::FinishReason);
/// assert_eq!(finish(&call), Finish::Whole);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamEnd {
    /// With the format's end marker.
    #[default]
    Marker,
    /// With a finish reason for every answer, and a body that ends by itself.
    FinishReason,
}

/// How a caller wants a stream to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StreamShape {
    /// True if usage is part of the stream for this caller.
    pub usage: bool,
    /// True if the stream is one JSON array rather than events (Gemini without `alt=sse`).
    pub array: bool,
}

impl StreamShape {
    /// A stream with usage in it, or without.
    #[must_use]
    pub fn with_usage(usage: bool) -> Self {
        Self { usage, array: false }
    }

    /// The same as one JSON array.
    #[must_use]
    pub fn as_array(self) -> Self {
        Self { array: true, ..self }
    }
}

/// Changes the frames of a stream on their way, split anywhere. Memory is bounded by one event.
pub trait FrameFilter: fmt::Debug + Send + Sync {
    /// What is passed on of the next bytes; may be empty while an event is not whole.
    fn pass(&mut self, frame: Bytes) -> Bytes;

    /// What was held back when the stream has ended.
    fn rest(&mut self) -> Bytes {
        Bytes::new()
    }
}

/// Which field a new output cap goes into, for formats that have had more than one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CapField {
    /// By the model and the host: OpenAI's own take the new field, all others the old one.
    #[default]
    Auto,
    /// OpenAI's `max_completion_tokens`.
    MaxCompletionTokens,
    /// `max_tokens`, the only one most compatible servers know.
    MaxTokens,
}

impl Dialect {
    /// What this format means.
    #[must_use]
    pub fn format(self) -> &'static dyn Format {
        match self {
            Self::OpenAiChat => &openai_chat::OpenAiChat,
            Self::AnthropicMessages => &anthropic::AnthropicMessages,
            Self::OpenAiResponses => &responses::Responses,
            Self::GeminiGenerate => &gemini::Gemini,
            Self::OllamaChat => &ollama::Ollama,
            Self::Embeddings => &embeddings::Embeddings,
            Self::Opaque => &opaque::Opaque,
        }
    }

    /// Recognises a format by the path, else by the body. A body that cannot be looked into is opaque.
    #[must_use]
    pub fn recognise(parts: &Parts, doc: &Doc) -> Self {
        if doc.trouble().is_some() {
            return Self::Opaque;
        }
        let path = parts.uri.path();
        let known = Self::ALL.into_iter().filter(|dialect| *dialect != Self::Opaque);
        known
            .clone()
            .find(|dialect| dialect.format().claims_path(path))
            // The least telling body is OpenAI's, which comes first among all.
            .or_else(|| known.clone().rev().find(|dialect| dialect.format().claims_body(parts, doc)))
            .unwrap_or(Self::Opaque)
    }
}

impl Call {
    /// A call from an HTTP head and a body, its format recognised. Never fails: what is not understood is opaque, and
    /// the body of a signed call is [sealed](Doc::sealed).
    #[must_use]
    pub fn from_parts(parts: Parts, doc: impl Into<Doc>) -> Self {
        let doc = doc.into();
        Self::new(Dialect::recognise(&parts, &doc), parts, doc)
    }

    /// A POST of this JSON body, its format recognised.
    ///
    /// # Panics
    /// When `uri` is not one; it is meant for URIs written in the program.
    #[must_use]
    pub fn post(uri: &str, doc: impl Into<Doc>) -> Self {
        let request = Request::post(uri).header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (parts, ()) = request.body(()).expect("the URI is valid").into_parts();
        Self::from_parts(parts, doc)
    }

    /// What this call's format means.
    #[must_use]
    pub fn format(&self) -> &'static dyn Format {
        self.dialect.format()
    }

    /// The model asked for, wherever the format keeps it.
    #[must_use]
    pub fn model(&self) -> Option<String> {
        self.format().model(self)
    }

    /// Asks for another model.
    ///
    /// # Errors
    /// [`Kind::NotEditable`] when the body cannot be edited.
    pub fn set_model(&mut self, model: &str) -> Result<(), Error> {
        self.format().set_model(self, model)
    }

    /// True if the answer is asked for as a stream.
    #[must_use]
    pub fn wants_stream(&self) -> bool {
        self.format().wants_stream(self)
    }
}

/// The refusal of every edit of a call whose format is not known.
#[cold]
fn not_understood(what: &str) -> Error {
    Error::new(
        Kind::NotEditable,
        format!("the call's format is not known, so {what} cannot be set"),
        "send it to a path of a known API, or name its dialect",
    )
}
