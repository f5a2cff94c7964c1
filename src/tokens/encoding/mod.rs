//! The public encodings, and exact counting of one text.

#[cfg(feature = "tiktoken")]
mod cache;
#[cfg(feature = "tiktoken")]
mod classes;
#[cfg(feature = "tiktoken")]
mod cut;
#[cfg(feature = "tiktoken")]
mod engine;
mod family;
#[cfg(feature = "tiktoken")]
mod long;
#[cfg(feature = "tiktoken")]
mod merge;
#[cfg(feature = "tiktoken")]
mod split;
#[cfg(feature = "tiktoken")]
mod tiktoken;
#[cfg(feature = "tiktoken")]
mod vocabulary;

use std::fmt;

pub(super) use self::family::{Claude, Line, bare};
pub use self::family::{Family, ModelEncoding, TextClass};
use super::Accuracy;

/// One of OpenAI's public encodings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// gpt-4o and all later models of OpenAI.
    #[default]
    O200kBase,
    /// gpt-oss; ordinary text counts as in [`O200kBase`](Self::O200kBase).
    O200kHarmony,
    /// gpt-4, gpt-3.5 and the third generation of embeddings.
    Cl100kBase,
    /// text-davinci-003 and code models of its time.
    P50kBase,
    /// Edit models.
    P50kEdit,
    /// gpt-3 and gpt-2.
    R50kBase,
}

/// Tokens of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) likely: u64,
    pub(crate) at_most: u64,
    pub(crate) accuracy: Accuracy,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::O200kBase,
        Self::O200kHarmony,
        Self::Cl100kBase,
        Self::P50kBase,
        Self::P50kEdit,
        Self::R50kBase,
    ];

    /// Its published name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::O200kBase => "o200k_base",
            Self::O200kHarmony => "o200k_harmony",
            Self::Cl100kBase => "cl100k_base",
            Self::P50kBase => "p50k_base",
            Self::P50kEdit => "p50k_edit",
            Self::R50kBase => "r50k_base",
        }
    }

    /// Tokens of `text` as ordinary text: the spelling of a special token is counted as the characters it is.
    ///
    /// Never fails. The length in bytes, which no count exceeds, stands in where the encoding cannot be had:
    /// without the feature `tiktoken`, and for a run of a million and more mixed white-space characters.
    #[must_use]
    pub fn count(self, text: &str) -> u64 {
        self.measure(text).at_most
    }

    /// Reads the vocabulary now, about a tenth of a second, rather than in the first count.
    pub fn prepare(self) {
        self.measure(" ");
    }

    /// The encoding of a model, and how sure that is.
    ///
    /// # Example
    /// ```
    /// use thrifty::tokens::{Encoding, Family};
    ///
    /// let model = Encoding::for_model("gpt-4o-mini-2024-07-18");
    /// assert_eq!((model.encoding, model.family, model.sure), (Encoding::O200kBase, Family::OpenAi, true));
    /// assert_eq!(Encoding::for_model("claude-opus-5").label(), "o200k_base x 1.70");
    /// ```
    #[must_use]
    pub fn for_model(model: &str) -> ModelEncoding {
        family::of(model)
    }

    #[cfg(feature = "tiktoken")]
    pub(crate) fn measure(self, text: &str) -> Measured {
        let found = match engine::Engine::of(self) {
            Some(engine) => engine.count(text, u64::MAX),
            None => tiktoken::count(self, text),
        };
        match found {
            Some(n) => Measured { likely: n, at_most: n, accuracy: Accuracy::Exact },
            None => by_bytes(text.len()),
        }
    }

    #[cfg(not(feature = "tiktoken"))]
    pub(crate) fn measure(self, text: &str) -> Measured {
        by_bytes(text.len())
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A quarter of the bytes is likely; no byte-level encoding makes more tokens than bytes.
fn by_bytes(bytes: usize) -> Measured {
    let bytes = bytes as u64;
    Measured { likely: bytes.div_ceil(4), at_most: bytes, accuracy: Accuracy::UpperBound }
}
