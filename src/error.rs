//! One opaque error for the whole crate.
//!
//! A caller either shows an error or branches on its cause. For the first there is one line that says what was
//! wrong with which value and ends with the way out; for the second there is [`Kind`] and a predicate per cause
//! worth branching on. Prompts, answers and credentials never appear in it.
//!
//! Layers answer with [`BoxError`], so that they stack in any order; [`Error::find`] gets ours back out.
//!
//! # Example
//! ```
//! use thrifty::{Error, Kind};
//!
//! let refused = Error::over_budget(9_120, 8_000);
//! assert_eq!(refused.kind(), Kind::OverBudget);
//! assert!(refused.to_string().contains("9120") && refused.to_string().contains("8000"));
//! ```
//! # Finding it under other layers' errors
//! ```
//! use thrifty::{BoxError, Error};
//!
//! let boxed: BoxError = Error::over_budget(10, 5).into();
//! assert!(Error::find(&*boxed).is_some_and(Error::is_over_budget));
//! ```

use std::fmt;
use std::sync::Arc;

/// The error type between layers, as is the habit among tower services.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What thrifty could not do, in one line, with the way out at its end.
///
/// One word wide and cheap to clone, since every caller of a shared flight gets it.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    problem: String,
    way_out: String,
    source: Option<BoxError>,
}

/// Coarse cause of an [`Error`], for callers that must branch. More variants will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The part of the prompt that may not be cut is over its token budget. Nothing was sent.
    OverBudget,
    /// A spending limit refused the call. Nothing was sent and nothing was billed.
    OverLimit,
    /// A document, log line, price table or usage object could not be read.
    BadInput,
    /// A setting of a layer or an option of the tool makes no sense.
    BadSetting,
    /// A body cannot be edited as it stands (duplicate names, for one).
    NotEditable,
    /// A price is needed and none is known.
    Unpriced,
    /// The inner service failed; its own error is the source.
    Upstream,
    /// A cached answer was demanded and there is none.
    NotCached,
    /// The cache file or the ledger could not be used. Never returned by a call, only by their own methods.
    Store,
}

impl Error {
    /// An error of `kind`: what was wrong with which value, and the way out as an argument of its own.
    #[cold]
    pub fn new(kind: Kind, problem: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, problem: problem.into(), way_out: way_out.into(), source: None }))
    }

    /// The same with the error that led to it.
    #[cold]
    pub fn caused_by(
        kind: Kind,
        problem: impl Into<String>,
        way_out: impl Into<String>,
        source: impl Into<BoxError>,
    ) -> Self {
        let source = Some(source.into());
        Self(Arc::new(Inner { kind, problem: problem.into(), way_out: way_out.into(), source }))
    }

    /// The protected part of a prompt holds `needed` tokens where `allowed` are allowed.
    #[cold]
    pub fn over_budget(needed: u64, allowed: u64) -> Self {
        Self::new(
            Kind::OverBudget,
            format!(
                "the prompt needs {needed} tokens after trimming all that may be cut, and its budget is {allowed}"
            ),
            "shorten the system or the last user message, or raise the budget",
        )
    }

    /// A value that could not be read; see [`Kind::BadInput`].
    #[cold]
    pub fn bad_input(problem: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self::new(Kind::BadInput, problem, way_out)
    }

    /// A setting that makes no sense; see [`Kind::BadSetting`].
    #[cold]
    pub fn bad_setting(problem: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self::new(Kind::BadSetting, problem, way_out)
    }

    /// Coarse cause.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What is wrong, without the way out.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// What to do about it.
    #[must_use]
    pub fn way_out(&self) -> &str {
        &self.0.way_out
    }

    /// True when the prompt does not fit its token budget even after trimming: nothing was sent.
    ///
    /// ```
    /// assert!(thrifty::Error::over_budget(12, 10).is_over_budget());
    /// ```
    #[must_use]
    pub fn is_over_budget(&self) -> bool {
        self.kind() == Kind::OverBudget
    }

    /// True when a spending limit refused the call: nothing was sent and nothing was billed.
    ///
    /// ```
    /// use thrifty::{Error, Kind};
    /// let refused = Error::new(Kind::OverLimit, "the limit of $1 is spent", "wait for the next window");
    /// assert!(refused.is_over_limit());
    /// ```
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.kind() == Kind::OverLimit
    }

    /// The first thrifty error in `error` or in the chain of its sources.
    ///
    /// ```
    /// use thrifty::Error;
    /// let other: thrifty::BoxError = "connection reset".into();
    /// assert!(Error::find(&*other).is_none());
    /// ```
    #[must_use]
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(ours) = error.downcast_ref::<Self>() {
                return Some(ours);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.0.problem, self.0.way_out)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("problem", &self.0.problem)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_one_word_and_crosses_threads() {
        fn check<T: Clone + Send + Sync + 'static>() {}
        check::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn a_message_is_one_line_and_ends_with_the_way_out() {
        let error = Error::bad_setting("a budget of 0 tokens lets nothing through", "give at least 1");
        assert_eq!(error.to_string(), "a budget of 0 tokens lets nothing through; give at least 1");
    }
}
