//! What one call wishes of the layers: typed values that travel in its extensions.

use std::sync::Arc;
use std::time::Duration;

use http::Extensions;

use super::{Call, Scope};

/// Wishes of one call; a layer's builder holds the defaults for the others.
///
/// # Example
/// ```
/// use thrifty::call::{Call, CacheMode, Options};
///
/// let call = Call::post("https://api.openai.com/v1/chat/completions", r#"{"model":"gpt-5-mini","messages":[]}"#)
///     .with(Options::new().tag("nightly-eval").cache(CacheMode::NoStore).cap(256));
/// assert_eq!(Options::of(&call).tag.as_deref(), Some("nightly-eval"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Who may share the answer; `None` takes the cache layer's default.
    pub scope: Option<Scope>,
    /// A name of the caller's choice that receipts and tier rules see. Never part of the cache key.
    pub tag: Option<Arc<str>>,
    /// How the cache treats this call.
    pub cache: CacheMode,
    /// How long this answer may be served again, and how old one may be that this call gets; `None` takes the cache
    /// layer's default.
    pub ttl: Option<Duration>,
    /// How fresh the answer has to be, beyond that.
    pub fresh: Freshness,
    /// Output tokens this call may have at most; lowers the layer's cap, never raises the request's own.
    pub cap: Option<u64>,
    /// Prompt tokens this call may have at most; `None` takes the trim layer's default.
    pub budget: Option<u64>,
}

/// How the cache treats one call. The words are those of HTTP's `Cache-Control`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheMode {
    /// Read, and store what may be stored.
    #[default]
    Default,
    /// Neither read nor store nor join a flight.
    NoStore,
    /// Do not read; call, and store the new answer.
    NoCache,
    /// Answer from the cache or fail with [`Kind::NotCached`](crate::Kind::NotCached).
    OnlyIfCached,
    /// Read, never store.
    ReadOnly,
    /// Store, never read; an identical call under way is joined all the same. Unlike [`NoCache`](Self::NoCache) it
    /// may thus get an answer that was asked for a moment before.
    WriteOnly,
}

impl CacheMode {
    /// True if a stored answer may be served.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Default | Self::OnlyIfCached | Self::ReadOnly)
    }
}

/// How fresh a stored answer has to be for one call: the request directives of HTTP's `Cache-Control` (RFC 9111,
/// section 5.2.1, and RFC 5861). Zero is a bound like any other.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use thrifty::call::Options;
///
/// let options = Options::new().max_age(Duration::from_secs(300)).max_stale(Duration::from_secs(60));
/// assert_eq!(options.fresh.max_age, Some(Duration::from_secs(300)));
/// assert_eq!(options.fresh.min_fresh, None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Freshness {
    /// The answer may be at most this old; with zero none is young enough.
    pub max_age: Option<Duration>,
    /// It has to stay fresh for at least this long.
    pub min_fresh: Option<Duration>,
    /// It may be stale by this much, as far as the layer keeps stale answers
    /// ([`CacheBuilder::keep_stale`](crate::cache::CacheBuilder::keep_stale)).
    pub max_stale: Option<Duration>,
    /// While the provider is down it may be stale by this much, in place of the layer's own bound.
    pub stale_if_error: Option<Duration>,
}

impl Options {
    /// No wishes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets who may share the answer.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Sets the tag.
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Sets the cache mode.
    #[must_use]
    pub fn cache(mut self, mode: CacheMode) -> Self {
        self.cache = mode;
        self
    }

    /// Sets how long the answer may be served again.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets how old the answer may be at most; see [`Freshness::max_age`].
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.fresh.max_age = Some(age);
        self
    }

    /// Sets how long the answer has to stay fresh; see [`Freshness::min_fresh`].
    #[must_use]
    pub fn min_fresh(mut self, time: Duration) -> Self {
        self.fresh.min_fresh = Some(time);
        self
    }

    /// Sets how stale the answer may be; see [`Freshness::max_stale`].
    #[must_use]
    pub fn max_stale(mut self, time: Duration) -> Self {
        self.fresh.max_stale = Some(time);
        self
    }

    /// Sets how stale the answer may be while the provider is down; see [`Freshness::stale_if_error`].
    #[must_use]
    pub fn stale_if_error(mut self, time: Duration) -> Self {
        self.fresh.stale_if_error = Some(time);
        self
    }

    /// Sets the most output tokens.
    #[must_use]
    pub fn cap(mut self, tokens: u64) -> Self {
        self.cap = Some(tokens);
        self
    }

    /// Sets the most prompt tokens.
    #[must_use]
    pub fn budget(mut self, tokens: u64) -> Self {
        self.budget = Some(tokens);
        self
    }

    /// The wishes of `call`; none if it came without.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        Self::among(&call.parts.extensions).cloned().unwrap_or_default()
    }

    /// The wishes among these extensions, without a clone.
    #[must_use]
    pub fn among(extensions: &Extensions) -> Option<&Self> {
        extensions.get::<Self>()
    }
}

/// Marks a call that took another way than the policy's own, as a fallback does while a model is down. Its answer
/// is stored under its own key, but no shortcut may lead there: the next such call tries the usual way again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detour;

/// Marks a call whose output limit a layer of ours set: an answer which that cut is not stored, whatever the settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capped;

/// Among a reply's extensions: HTTP's framing told where its body ends, by chunks whose header ended at the edge. A
/// body that no format reads is known to be whole by that alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framed;
