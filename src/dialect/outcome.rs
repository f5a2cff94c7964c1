//! What a reply says about itself.

use std::fmt;

use super::Usage;

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

/// Reads a streamed reply on the side, while its bytes are passed on.
pub trait StreamReader: fmt::Debug + Send + Sync {
    /// Takes the next bytes, split anywhere. Memory stays bounded whatever comes.
    fn push(&mut self, chunk: &[u8]);

    /// What was seen so far. `ended` says that the body ended by itself; otherwise the rest is missing.
    fn outcome(&self, ended: bool) -> Outcome;
}
