//! Answers that a test asks for by name.

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// How the [`Upstream`](super::Upstream) answers one call, in place of its own answer.
///
/// # Example
/// ```
/// use thrifty::call::Call;
/// use thrifty::testing::{Scripted, Upstream};
///
/// // A provider that refuses one subject.
/// let upstream = Upstream::new().answer_with(|call: &Call| {
///     let asked = String::from_utf8_lossy(call.doc.bytes());
///     asked.contains("secret").then(Scripted::refusal)
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Scripted {
    pub(super) what: What,
    pub(super) headers: HeaderMap,
    pub(super) model: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Own,
    Text(String),
    Error { status: StatusCode, kind: String, message: String, code: Option<&'static str> },
    Body { status: StatusCode, bytes: Bytes },
    ErrorUnder200,
    Truncated,
    Refusal,
    Filtered,
    Cut,
    Reset,
    Unreachable,
}

impl Scripted {
    fn of(what: What) -> Self {
        Self { what, headers: HeaderMap::new(), model: None }
    }

    /// The upstream's own answer, to be changed by [`header`](Self::header) or [`model`](Self::model).
    #[must_use]
    pub fn own() -> Self {
        Self::of(What::Own)
    }

    /// A whole answer with this text. The call's cap still holds.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(What::Text(text.into()))
    }

    /// An error in the provider's shape.
    #[must_use]
    pub fn error(status: StatusCode, kind: &str, message: &str) -> Self {
        Self::of(What::Error { status, kind: kind.to_owned(), message: message.to_owned(), code: None })
    }

    /// Status 429 that is worth a retry after a millisecond.
    #[must_use]
    pub fn rate_limited() -> Self {
        Self::error(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "too many requests")
            .header("retry-after-ms", "1")
    }

    /// Status 401: the credential is not known.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::error(StatusCode::UNAUTHORIZED, "authentication_error", "the key is not known")
    }

    /// Status 429 because the account is empty: a retry will not help.
    #[must_use]
    pub fn out_of_quota() -> Self {
        Self::of(What::Error {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: "insufficient_quota".to_owned(),
            message: "the quota is used up".to_owned(),
            code: Some("insufficient_quota"),
        })
    }

    /// These bytes as they are, whatever they mean. `application/json` unless a header says otherwise.
    #[must_use]
    pub fn body(status: StatusCode, bytes: impl Into<Bytes>) -> Self {
        Self::of(What::Body { status, bytes: bytes.into() })
    }

    /// An error under status 200; in a stream after its first frames.
    #[must_use]
    pub fn error_under_200() -> Self {
        Self::of(What::ErrorUnder200)
    }

    /// Half an answer that says it was cut by the cap.
    #[must_use]
    pub fn truncated() -> Self {
        Self::of(What::Truncated)
    }

    /// A refusal by the model.
    #[must_use]
    pub fn refusal() -> Self {
        Self::of(What::Refusal)
    }

    /// An answer stopped by the provider's filter.
    #[must_use]
    pub fn filtered() -> Self {
        Self::of(What::Filtered)
    }

    /// A body that ends cleanly in its middle: a stream without its end marker, or half a document.
    #[must_use]
    pub fn cut() -> Self {
        Self::of(What::Cut)
    }

    /// A body that fails in its middle, as when a connection is reset.
    #[must_use]
    pub fn reset() -> Self {
        Self::of(What::Reset)
    }

    /// No answer at all: the service fails.
    #[must_use]
    pub fn unreachable() -> Self {
        Self::of(What::Unreachable)
    }

    /// Adds a header to the reply, in place of one of the same name.
    ///
    /// # Panics
    /// When it is not a header; it is meant for values written in a test.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a header's name");
        self.headers.insert(name, HeaderValue::try_from(value).expect("a header's value"));
        self
    }

    /// Sets the model the answer says it came from.
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        self.model = Some(model.to_owned());
        self
    }
}
