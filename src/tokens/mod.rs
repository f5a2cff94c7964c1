//! Tokens of a call before it is sent.

mod anthropic;
mod counter;
mod document;
mod encoding;
mod picture;
mod request;
mod tally;
mod tools;

pub use self::counter::Counter;
pub use self::encoding::{Encoding, Family, ModelEncoding, TextClass};
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
