//! Tokens of a call before it is sent.
//!
//! A budget, a trim or a price needs the number of tokens while the call can still be changed. Providers bill more
//! than the text: each message has a frame, tool definitions are rewritten, a picture costs by its pixels, and the
//! tokenizers of some models are not public. A [`Count`] therefore has two figures, [`likely`](Count::likely) and
//! [`at_most`](Count::at_most), and says how sure they are.
//!
//! # Example
//! ```
//! use thrifty::call::Call;
//! use thrifty::tokens::count;
//!
//! let call = Call::post("https://api.openai.com/v1/chat/completions",
//!     r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello world"}]}"#);
//! let count = count(&call);
//! # #[cfg(feature = "tiktoken")]
//! # {
//! assert_eq!(count.likely, 9);
//! assert_eq!(count.encoding, "o200k_base");
//! assert!(count.accuracy.is_exact());
//! # }
//! assert!(count.likely <= count.at_most);
//! ```
//! # A conversation that grows
//! ```
//! use thrifty::call::Call;
//! use thrifty::tokens::Counter;
//!
//! // Remembers 1,000 messages by their hash, so that at each turn only the new message is counted.
//! let counter = Counter::with_capacity(1000);
//! let mut turns = vec![r#"{"role":"user","content":"Where is the ferry?"}"#];
//! for answer in [r#"{"role":"assistant","content":"At sea."}"#, r#"{"role":"user","content":"Since when?"}"#] {
//!     turns.push(answer);
//!     let body = format!(r#"{{"model":"claude-opus-5","max_tokens":64,"messages":[{}]}}"#, turns.join(","));
//!     let call = Call::post("https://api.anthropic.com/v1/messages", body);
//!     assert!(counter.fits(&call, 10_000), "decided by the bytes alone");
//! }
//! ```
//! # How sure
//!
//! | [`Accuracy`] | when | `at_most` |
//! |---|---|---|
//! | `Exact` | one text in a public encoding, token ids, embeddings inputs, a vendor's exact count | `likely` |
//! | `Formula` | OpenAI chat on models whose encoding is published; a PDF for Gemini 3 | 1 more, 1 for each picture by patches, 8 for each tool call or result by id; of tools the dearer layout; of pages the higher resolution |
//! | `Calibrated` | Claude, Gemini and others: the o200k count times a factor by class of text, up to 4,096 bytes of which are looked at; schema words and answer formats without published numbers; a tokenizer of your own | 1.1 times, 1.5 for models nothing is known of, never over the bytes; after 16 billed calls the 95th percentile of the error seen |
//! | `UpperBound` | text kept at the provider (`previous_response_id`, `conversation`, a stored `prompt`, `cachedContent`, an item or a sound by its id), for which a whole context window of 1,050,000 tokens is added; a member that stands twice; a picture by URL, a broken header, a document whose pages cannot be seen, a film whose length cannot, a tool the provider runs, an unknown block or format, a model behind Ollama's template | the published maximum, or the bytes |
//!
//! A request is as sure as its least sure part. Text kept at the provider is no part of `likely`, and a hard budget has
//! to reserve the whole window for it: send the text itself where that matters. The spelling of a special token inside a text is text.
//!
//! # One text
//!
//! [`Encoding`] counts bare text: [`count`](Encoding::count), [`count_until`](Encoding::count_until) a limit, and
//! [`truncate`](Encoding::truncate) to one. Counts in o200k and cl100k equal those of the crate `tiktoken-rs`, whose
//! vocabulary they use, at ten times its speed and more, in time proportional to the text whatever is in it. The
//! tables of an encoding, 12 to 22 MB, are made at first use, in some tenths of a second; [`Encoding::warm`] has a
//! thread do that ahead of the first call. A thread keeps the pieces of text it has seen lately, about 1 MB for each
//! encoding it counts in.
//!
//! # What providers bill
//!
//! A [`Calibration`] learns from billed calls; [`Counter::calibrated`] corrects counts by it. A stack that is given one
//! ([`StackBuilder::calibration`](crate::stack::StackBuilder::calibration)) feeds it. Where only the provider's own
//! count decides, a [`CountEndpoint`] asks for it. A [`Tokenizer`] of your own, such as the `tokenizer.json` of
//! an open-weight model (feature `tokenizers`), takes the place of estimates.
//!
//! # Checked against
//!
//! Published token ids and billed prompt tokens, as of 2026-11: a part of each project's cases. No published figure is
//! above `at_most`, in any row. `tests/token_vectors.rs` prints this table and fails when a row gets worse.
//!
//! | set | exact | misses |
//! |---|---|---|
//! | jtokkit, cl100k and o200k | 415 of 415 | |
//! | gpt-tokenizer, five encodings | 142 of 142 | |
//! | tiktoken, OpenAI cookbook | 7 of 7 | |
//! | openai-messages-token-helper, messages, cl100k and o200k | 16 of 16 | |
//! | LiteLLM's copies of them | 9 of 9 | |
//! | tiktoken-rs conversations, old function calls | 3 of 3 | |
//! | openai-messages-token-helper, tools of 2024 | 11 of 11 | |
//! | LiteLLM's copies of them | 11 of 11 | |
//! | hmarr/openai-chat-tokens, functions of 2023 | 18 of 18 | |
//! | gpt-tokenizer, functions (that library's formula, not billed) | 18 of 18 | |
//! | openai-messages-token-helper, pictures, gpt-4o and gpt-4o-mini | 4 of 4 | |
//! | one picture in two levels of detail, gpt-4.1 | 2 of 2 | |
//! | one picture at ten sizes, Claude, Gemini 3, gpt-6, gpt-5.5 | 32 of 32 | |
//! | 1,600 x 1,600 pixels, gpt-5.4 and gpt-5-mini, two endpoints | 1 of 6 | -1 in three; +194 for gpt-5.4 in chat, which fits no rule |
//! | the most a picture of those models costs at high detail | 0 of 4 | -22, -17; +1,157 in two, billed under an older limit |
//! | PDF pages, Gemini 3 | 4 of 4 | |
//! | PDF pages, Claude | 0 of 8 | -5 % to +3 % of text and tables, +36 % to +50 % of a scan |
//! | a table as text, Gemini 3 | 0 of 1 | +5 % |
//! | newer over older Claude tokenizer, within the start factors and their tenth | 17 of 19 | Haskell by 0.1 %, `a` 512 times |
//!
//! No single layout of tool definitions fits both years. The likely one is that of the year whose member the request
//! uses, `functions` of 2023 or `tools`; the bound covers both.

mod anthropic;
mod calibration;
mod counter;
mod document;
mod encoding;
mod endpoint;
mod hidden;
mod own;
mod picture;
mod request;
mod split;
mod tally;
mod tools;

pub use self::calibration::{Calibration, Expected, Learned, Scale};
pub(crate) use self::counter::Both;
pub use self::counter::Counter;
pub use self::encoding::{Encoding, Family, Keep, ModelEncoding, TextClass, Until};
pub(crate) use self::endpoint::{Asked, is_near};
pub use self::endpoint::{BoxCountEndpoint, CountEndpoint, Endpoint, EndpointNumbers};
pub(crate) use self::hidden::{WINDOW, refers_elsewhere};
pub use self::own::Tokenizer;
#[cfg(feature = "tokenizers")]
pub use self::own::TokenizerJson;
use crate::call::Call;

/// Tokens of a request: the likely figure, the safe one, and how sure both are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// The likely number; receipts and savings use it.
    pub likely: u64,
    /// Never less than what will be billed; budgets use it.
    pub at_most: u64,
    /// How sure this is: that of the least sure part.
    pub accuracy: Accuracy,
    /// Name of the encoding counted with, such as `o200k_base`.
    pub encoding: &'static str,
    /// Where the tokens are.
    pub parts: CountParts,
    /// Of the likely ones, those of pictures, documents, sound, unknown blocks and tools the provider runs.
    pub media: u64,
    /// Bytes of `data:` URLs in base64 that stand inside plain text. They are counted, and billed, as the text they
    /// are: a picture that was meant to be seen costs hundreds of times as much so. 0 for almost all calls.
    pub data_urls: u64,
}

/// Likely tokens by part; they add up to [`Count::likely`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountParts {
    /// System text that is not a message.
    pub system: u64,
    /// Each message with its framing, pictures included, in the order of the wire.
    pub messages: Vec<u64>,
    /// Tool definitions, and what the provider adds for them.
    pub tools: u64,
    /// The demanded answer format.
    pub response_format: u64,
    /// What stands around it all.
    pub framing: u64,
}

/// How sure a count is, from the surest down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Accuracy {
    /// Plain text in a known encoding.
    #[default]
    Exact,
    /// Every ingredient follows a rule that reproduces published billed numbers.
    Formula,
    /// An estimate times a factor.
    Calibrated,
    /// Only a bound is known.
    UpperBound,
}

impl Accuracy {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Formula => "formula",
            Self::Calibrated => "calibrated",
            Self::UpperBound => "upper_bound",
        }
    }

    /// True for [`Exact`](Self::Exact) and [`Formula`](Self::Formula); the others are estimates.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self <= Self::Formula
    }
}

/// Tokens of `call`, by part. Always a count, whatever the body holds.
#[must_use]
pub fn count(call: &Call) -> Count {
    counter::count(call)
}

/// Tokens of a text in an encoding, special tokens spelled in it counted as the text they are.
///
/// # Example
/// ```
/// use thrifty::tokens::{Encoding, count_text};
///
/// # #[cfg(feature = "tiktoken")]
/// assert_eq!(count_text("2 + 2 = 4", Encoding::Cl100kBase), 7);
/// ```
#[must_use]
pub fn count_text(text: &str, encoding: Encoding) -> u64 {
    encoding.count(text)
}

/// Tokens of a bare text for a model, without the frame of any request.
///
/// # Example
/// ```
/// use thrifty::tokens::{Accuracy, count_text_for};
///
/// # #[cfg(feature = "tiktoken")]
/// # {
/// assert_eq!(count_text_for("2 + 2 = 4", "gpt-4").likely, 7);
/// assert_eq!(count_text_for("2 + 2 = 4", "claude-opus-5").accuracy, Accuracy::Calibrated);
/// # }
/// ```
#[must_use]
pub fn count_text_for(text: &str, model: &str) -> Count {
    let profile = request::Profile::new(crate::call::Dialect::Opaque, model);
    let tally = profile.plain(text);
    let parts = CountParts { messages: vec![tally.likely], ..CountParts::default() };
    let (likely, at_most, accuracy) = (tally.likely, tally.at_most, tally.accuracy);
    Count {
        likely,
        at_most,
        accuracy,
        encoding: profile.encoding(),
        parts,
        data_urls: tally.data_urls,
        ..Count::default()
    }
}
