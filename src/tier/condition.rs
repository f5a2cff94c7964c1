//! Conditions on a call.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::{Call, Dialect, Options};
use crate::tokens;

type Test = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// A condition on a call: one of the ready-made ones, any closure, or several joined.
///
/// Any `Fn(&Call) -> bool` is one. Nobody can know what a closure looks at (a header, the time), so with one in it a
/// policy is [impure](super::TierPolicy::is_pure), whether it has a name or not. One that panics does not hold, and
/// neither does anything it is joined into.
///
/// # Example
/// ```
/// use thrifty::call::Call;
/// use thrifty::tier::Condition;
///
/// let easy = Condition::tokens_below(2_000).and(Condition::without_tools());
/// let call = Call::post("https://api.openai.com/v1/chat/completions",
///     r#"{"model":"gpt-5","messages":[{"role":"user","content":"Hi"}]}"#);
/// assert!(easy.holds(&call));
/// ```
#[derive(Clone)]
pub struct Condition(What);

#[derive(Clone)]
enum What {
    Always,
    TokensBelow(u64),
    Tag(Arc<str>),
    Tools(bool),
    Streamed,
    Dialect(Dialect),
    Asked(Arc<str>),
    Closure { id: Id, test: Test },
    All(Arc<[Condition]>),
    Any(Arc<[Condition]>),
    Not(Arc<Condition>),
}

/// What stands for a closure in a fingerprint.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Id {
    Named(Arc<str>),
    /// Unlike every other one of this process.
    Unnamed(u64),
}

impl Id {
    pub(super) fn unnamed() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Unnamed(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        match self {
            Self::Named(name) => field(hasher, b'n', name.as_bytes()),
            Self::Unnamed(number) => field(hasher, b'u', &number.to_le_bytes()),
        }
    }
}

/// One length-prefixed field of a fingerprint.
pub(super) fn field(hasher: &mut blake3::Hasher, kind: u8, bytes: &[u8]) {
    hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

/// A call and what was found out about it, so that several conditions count it once.
pub(super) struct Subject<'a> {
    call: &'a Call,
    tokens: OnceCell<u64>,
}

impl<'a> Subject<'a> {
    pub(super) fn of(call: &'a Call) -> Self {
        Self { call, tokens: OnceCell::new() }
    }

    fn tokens(&self) -> u64 {
        *self.tokens.get_or_init(|| tokens::count(self.call).likely)
    }
}

impl Condition {
    /// Holds for every call.
    #[must_use]
    pub fn always() -> Self {
        Self(What::Always)
    }

    /// The prompt likely has fewer tokens than this.
    #[must_use]
    pub fn tokens_below(tokens: u64) -> Self {
        Self(What::TokensBelow(tokens))
    }

    /// The caller's [tag](Options::tag) is this one.
    #[must_use]
    pub fn tag(tag: &str) -> Self {
        Self(What::Tag(tag.into()))
    }

    /// The call offers tools to the model.
    #[must_use]
    pub fn with_tools() -> Self {
        Self(What::Tools(true))
    }

    /// The call offers no tools.
    #[must_use]
    pub fn without_tools() -> Self {
        Self(What::Tools(false))
    }

    /// The answer is asked for as a stream.
    #[must_use]
    pub fn streamed() -> Self {
        Self(What::Streamed)
    }

    /// The call speaks this format.
    #[must_use]
    pub fn dialect(dialect: Dialect) -> Self {
        Self(What::Dialect(dialect))
    }

    /// The model asked for is this one; `gpt-5*` holds for every name that begins so.
    #[must_use]
    pub fn asked(model: &str) -> Self {
        Self(What::Asked(model.into()))
    }

    /// A closure without a name. It may hold for one call now and not later, so the policy is not pure, and its
    /// [fingerprint](super::TierPolicy::fingerprint) is like no other.
    #[must_use]
    pub fn of(test: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        Self(What::Closure { id: Id::unnamed(), test: Arc::new(test) })
    }

    /// A closure with a name, which stands for it in the policy's [fingerprint](super::TierPolicy::fingerprint); give
    /// it another name when it changes. The name is no more than that: the policy is not pure, and the shortcut for
    /// exact repeats is off, because the closure may look at what two equal bodies differ in, such as a header.
    #[must_use]
    pub fn named(name: &str, test: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        Self(What::Closure { id: Id::Named(name.into()), test: Arc::new(test) })
    }

    /// Both hold.
    #[must_use]
    pub fn and(self, other: impl Into<Self>) -> Self {
        Self(What::All([self, other.into()].into()))
    }

    /// One of them holds, or both.
    #[must_use]
    pub fn or(self, other: impl Into<Self>) -> Self {
        Self(What::Any([self, other.into()].into()))
    }

    /// It does not hold.
    #[must_use]
    pub fn negated(self) -> Self {
        Self(What::Not(Arc::new(self)))
    }

    /// True if it holds for `call`.
    #[must_use]
    pub fn holds(&self, call: &Call) -> bool {
        self.check(&Subject::of(call))
    }

    pub(super) fn check(&self, subject: &Subject<'_>) -> bool {
        let call = subject.call;
        match &self.0 {
            What::Always => true,
            What::TokensBelow(tokens) => subject.tokens() < *tokens,
            What::Tag(tag) => Options::among(&call.parts.extensions)
                .is_some_and(|options| options.tag.as_ref() == Some(tag)),
            What::Tools(wanted) => call.format().prompt(call).tools.is_empty() != *wanted,
            What::Streamed => call.wants_stream(),
            What::Dialect(dialect) => call.dialect == *dialect,
            What::Asked(wanted) => call.model().is_some_and(|model| match wanted.strip_suffix('*') {
                Some(start) => model.starts_with(start),
                None => model == **wanted,
            }),
            What::Closure { test, .. } => test(call),
            What::All(all) => all.iter().all(|one| one.check(subject)),
            What::Any(any) => any.iter().any(|one| one.check(subject)),
            What::Not(not) => !not.check(subject),
        }
    }

    pub(super) fn is_pure(&self) -> bool {
        match &self.0 {
            What::Closure { .. } => false,
            What::All(parts) | What::Any(parts) => parts.iter().all(Self::is_pure),
            What::Not(not) => not.is_pure(),
            _ => true,
        }
    }

    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        match &self.0 {
            What::Always => field(hasher, b'*', &[]),
            What::TokensBelow(tokens) => field(hasher, b'<', &tokens.to_le_bytes()),
            What::Tag(tag) => field(hasher, b't', tag.as_bytes()),
            What::Tools(wanted) => field(hasher, b'f', &[u8::from(*wanted)]),
            What::Streamed => field(hasher, b's', &[]),
            What::Dialect(dialect) => field(hasher, b'd', dialect.name().as_bytes()),
            What::Asked(model) => field(hasher, b'm', model.as_bytes()),
            What::Closure { id, .. } => id.hash(hasher),
            What::All(parts) | What::Any(parts) => {
                let kind = if matches!(self.0, What::All(_)) { b'&' } else { b'|' };
                field(hasher, kind, &(parts.len() as u64).to_le_bytes());
                parts.iter().for_each(|part| part.hash(hasher));
            }
            What::Not(not) => {
                field(hasher, b'!', &[]);
                not.hash(hasher);
            }
        }
    }
}

impl<F: Fn(&Call) -> bool + Send + Sync + 'static> From<F> for Condition {
    fn from(test: F) -> Self {
        Self::of(test)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            What::Always => f.write_str("always"),
            What::TokensBelow(tokens) => write!(f, "tokens below {tokens}"),
            What::Tag(tag) => write!(f, "tag {tag:?}"),
            What::Tools(wanted) => write!(f, "{} tools", if *wanted { "with" } else { "without" }),
            What::Streamed => f.write_str("streamed"),
            What::Dialect(dialect) => write!(f, "dialect {dialect}"),
            What::Asked(model) => write!(f, "asked for {model:?}"),
            What::Closure { id: Id::Named(name), .. } => write!(f, "named {name:?}"),
            What::Closure { .. } => f.write_str("a closure"),
            What::All(parts) => write!(f, "all of {parts:?}"),
            What::Any(parts) => write!(f, "any of {parts:?}"),
            What::Not(not) => write!(f, "not {not:?}"),
        }
    }
}
