//! What a reply says about itself.

use std::fmt;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};

use super::{Format, Usage};

/// What a reply says: who answered, at what use, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The model that answered, as the reply names it.
    pub model: Option<String>,
    /// The service tier that served, as the reply names it.
    pub service_tier: Option<String>,
    /// Token counts, if the reply has them.
    pub usage: Option<Usage>,
    /// How it ended.
    pub finish: Finish,
    /// True if it holds neither text nor a tool call.
    pub empty: bool,
    /// True if it holds a tool call whose arguments are not JSON.
    pub broken_tool_call: bool,
    /// The tools it calls that the client is to run. Not kept with a stored answer.
    pub called: Called,
    /// Bytes of generated text and tool arguments, for an estimate when usage never came.
    pub text_bytes: u64,
}

impl Outcome {
    /// True if this is a whole, good answer: one that may be stored and served again.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.finish == Finish::Whole && !self.empty && !self.broken_tool_call
    }
}

/// Names of tools that a reply calls, each once, in the order of their first calls. A call without a name has the
/// name `""`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Called(Vec<Box<str>>);

impl Called {
    /// More names than this are not kept; no API takes as many tools.
    const MOST: usize = 1024;

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// True if no tool is called.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more call, of the tool with this name.
    pub(super) fn add(&mut self, name: &str) {
        if self.0.len() < Self::MOST && !self.names().any(|known| known == name) {
            self.0.push(name.into());
        }
    }
}

impl fmt::Debug for Called {
    /// Their number only: a name that nobody offered is part of an answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Called({})", self.0.len())
    }
}

/// How a reply ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Finish {
    /// The model was done, and the end marker was seen.
    Whole,
    /// The output cap or the context window cut it.
    Truncated,
    /// The model or a filter refused.
    Refused,
    /// An error came under a good status.
    Failed,
    /// The body ended without its end marker.
    Partial,
    /// Another ending, or none that could be read.
    #[default]
    Unknown,
}

impl Finish {
    /// Its name in receipts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Truncated => "truncated",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Partial => "partial",
            Self::Unknown => "unknown",
        }
    }
}

/// True for an error status that says the provider did no work, so that nothing is billed. After a time-out or a bad
/// gateway it may have done the work all the same.
#[must_use]
pub fn is_free_of_charge(status: StatusCode) -> bool {
    !status.is_success() && !matches!(status.as_u16(), 408 | 499 | 502 | 504 | 520..=524)
}

/// True if these headers announce a stream of events, even where all of its bytes are at hand.
#[must_use]
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/event-stream") || kind.eq_ignore_ascii_case("application/x-ndjson")
}

/// What a reply whose bytes are all at hand says, be it a document or a stream.
#[must_use]
pub fn read(format: &dyn Format, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if !is_event_stream(headers) {
        return format.read_reply(body);
    }
    let mut reader = format.stream_reader();
    reader.push(body);
    reader.outcome(true)
}

/// Reads a streamed reply on the side, while its bytes are passed on.
pub trait StreamReader: fmt::Debug + Send + Sync {
    /// Takes the next bytes, split anywhere. Memory stays bounded whatever comes.
    fn push(&mut self, chunk: &[u8]);

    /// What was seen so far. `ended` says that the body ended by itself; otherwise the rest is missing.
    fn outcome(&self, ended: bool) -> Outcome;
}
