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
mod truncate;
#[cfg(feature = "tiktoken")]
mod vocabulary;

use std::fmt;

pub(super) use self::family::{Claude, Line, bare};
pub use self::family::{Family, ModelEncoding, TextClass};
pub use self::truncate::Keep;
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

/// What [`Encoding::count_until`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Until {
    /// So many tokens, no more than the limit.
    Exactly(u64),
    /// More tokens than this limit; how many more was not counted.
    MoreThan(u64),
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
    /// Never fails, and takes time in proportion to the text whatever is in it. The length in bytes, which no count
    /// exceeds, stands in where the encoding cannot be had: without the feature `tiktoken`, and in the encodings
    /// before cl100k where the pattern engine of `tiktoken-rs` gives up.
    #[must_use]
    pub fn count(self, text: &str) -> u64 {
        self.measure(text).at_most
    }

    /// Tokens of bytes that should be UTF-8: what is not counts as the replacement character it becomes. The second
    /// is true if there was any.
    ///
    /// # Example
    /// ```
    /// use thrifty::tokens::Encoding;
    ///
    /// let (tokens, lossy) = Encoding::O200kBase.count_lossy(b"caf\xe9");
    /// assert_eq!((tokens, lossy), (Encoding::O200kBase.count("caf\u{fffd}"), true));
    /// ```
    #[must_use]
    pub fn count_lossy(self, bytes: &[u8]) -> (u64, bool) {
        let text = String::from_utf8_lossy(bytes);
        (self.count(&text), matches!(text, std::borrow::Cow::Owned(_)))
    }

    /// Counts no further than is needed to know whether `text` has more than `limit` tokens.
    ///
    /// # Example
    /// ```
    /// use thrifty::tokens::{Encoding, Until};
    ///
    /// let letter = "The ferry is late. ".repeat(1000);
    /// assert_eq!(Encoding::O200kBase.count_until(&letter, 10), Until::MoreThan(10));
    /// assert_eq!(Encoding::O200kBase.count_until("The ferry is late.", 20), Until::Exactly(Encoding::O200kBase.count("The ferry is late.")));
    /// ```
    #[must_use]
    pub fn count_until(self, text: &str, limit: u64) -> Until {
        let found = self.counted(text, limit).unwrap_or(text.len() as u64);
        if found > limit { Until::MoreThan(limit) } else { Until::Exactly(found) }
    }

    /// `text`, or the part of it that has at most `limit` tokens, cut between two characters.
    ///
    /// # Example
    /// ```
    /// use thrifty::tokens::{Encoding, Keep};
    ///
    /// let text = "The ferry left the harbour at noon.";
    /// let encoding = Encoding::O200kBase;
    /// # #[cfg(feature = "tiktoken")]
    /// # {
    /// assert_eq!(encoding.truncate(text, 3, Keep::Front), "The ferry left");
    /// assert_eq!(encoding.truncate(text, 2, Keep::Back), " noon.");
    /// assert_eq!(encoding.truncate(text, 5, Keep::Ends(" ...")), "The ferry ... noon.");
    /// # }
    /// assert_eq!(encoding.truncate(text, 100, Keep::Front), text);
    /// ```
    #[must_use]
    pub fn truncate<'t>(self, text: &'t str, limit: u64, keep: Keep<'_>) -> std::borrow::Cow<'t, str> {
        truncate::truncate(self, text, limit, keep)
    }

    /// Makes the tables of this encoding now rather than in the first count: some tenths of a second of one core,
    /// once in a process.
    pub fn prepare(self) {
        self.measure(" ");
    }

    /// Has a thread of its own [`prepare`](Self::prepare) this encoding, once in a process, and does not wait for it.
    ///
    /// For whoever builds a service and will count in its first call. Where no thread can be had, the first count
    /// makes the tables.
    pub fn warm(self) {
        static WARMED: [std::sync::Once; Encoding::ALL.len()] =
            [const { std::sync::Once::new() }; Encoding::ALL.len()];
        WARMED[self as usize].call_once(|| {
            let thread = std::thread::Builder::new().name("thrifty-tables".to_owned());
            drop(thread.spawn(move || self.prepare()));
        });
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

    pub(crate) fn measure(self, text: &str) -> Measured {
        match self.counted(text, u64::MAX) {
            Some(n) => Measured { likely: n, at_most: n, accuracy: Accuracy::Exact },
            None => by_bytes(text.len()),
        }
    }

    /// Tokens of `text`, or more than `limit` if there are more.
    #[cfg(feature = "tiktoken")]
    fn counted(self, text: &str, limit: u64) -> Option<u64> {
        match engine::Engine::of(self) {
            Some(engine) => engine.count(text, limit),
            None => tiktoken::count(self, text),
        }
    }

    #[cfg(not(feature = "tiktoken"))]
    fn counted(self, _: &str, _: u64) -> Option<u64> {
        None
    }

    /// About where the token number `tokens` of `text` ends.
    fn place(self, text: &str, tokens: u64) -> usize {
        #[cfg(feature = "tiktoken")]
        if let Some(place) = engine::Engine::of(self).and_then(|engine| engine.place(text, tokens)) {
            return place;
        }
        // Without tokens to look at, the halving of the text that fits.
        let (mut low, mut high) = (0, text.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            let end = truncate::ceil(text, middle);
            if end <= high && self.count(&text[..end]) <= tokens {
                low = end;
            } else {
                high = middle - 1;
            }
        }
        low
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
