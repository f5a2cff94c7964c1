//! One request to an AI API, its JSON body, and its answer.
//!
//! AI clients differ in their types, but on the wire each sends HTTP with a JSON document. A [`Call`] is that:
//! whose wire format, the HTTP head, and the body as a [`Doc`] that every layer can look into without anybody
//! paying for more than one read. Layers are `Service<Call, Response = Reply>` and know no client.
//!
//! # Example
//! ```
//! use thrifty::call::{Call, Dialect};
//!
//! let call = Call::post("https://api.openai.com/v1/chat/completions", r#"{"model":"gpt-5-mini","messages":[]}"#);
//! assert_eq!(call.dialect, Dialect::OpenAiChat);
//! assert_eq!(call.model().as_deref(), Some("gpt-5-mini"));
//! ```
//! # From an HTTP request, with wishes for this call alone
//! ```
//! use thrifty::call::{Call, Options, Scope};
//!
//! let (parts, body) = http::Request::post("http://127.0.0.1/v1/messages")
//!     .header("x-api-key", "k")
//!     .body(r#"{"model":"claude-haiku-4-5","max_tokens":64,"messages":[]}"#)?
//!     .into_parts();
//! let call = Call::from_parts(parts, body).with(Options::new().scope(Scope::tenant("user-7")));
//! assert_eq!(call.dialect.name(), "anthropic-messages");
//! # Ok::<(), http::Error>(())
//! ```

mod dialect;
mod doc;
pub mod json;
mod options;
mod reply;
mod scope;

use std::fmt;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, Method};

pub use self::dialect::Dialect;
pub use self::doc::{Doc, Element, Trouble};
pub use self::options::{CacheMode, Capped, Detour, Framed, Freshness, Options};
pub use self::reply::{Reply, ReplyBody};
pub use self::scope::Scope;

/// One request to an AI API. Cheap to clone, so retries and tiers can send it again.
///
/// See the [module docs](crate::call).
#[derive(Clone)]
pub struct Call {
    /// Whose wire format the body speaks.
    pub dialect: Dialect,
    /// Method, URI, headers and extensions.
    pub parts: Parts,
    /// The JSON body.
    pub doc: Doc,
}

impl Call {
    /// A call of this dialect; nothing is recognised or checked. The body of a signed one (AWS SigV4) is
    /// [sealed](Doc::sealed), since the signature covers it.
    ///
    /// Whoever signs a call later, by changing its headers, seals its `doc` too, unless no editing layer follows.
    #[must_use]
    pub fn new(dialect: Dialect, parts: Parts, doc: impl Into<Doc>) -> Self {
        let doc = doc.into();
        let doc = if is_signed(&parts.headers) { doc.sealed() } else { doc };
        Self { dialect, parts, doc }
    }

    /// This call with these wishes in place of what it had.
    #[must_use]
    pub fn with(mut self, options: Options) -> Self {
        self.parts.extensions.insert(options);
        self
    }

    /// The call as an HTTP request with a complete body, `content-length` set right. One without a body has none,
    /// unless its method is meant to come with a body.
    #[must_use]
    pub fn into_request(self) -> http::Request<Bytes> {
        let Self { dialect: _, mut parts, doc } = self;
        let bytes = doc.into_bytes();
        if bytes.is_empty() && ![Method::POST, Method::PUT, Method::PATCH].contains(&parts.method) {
            parts.headers.remove(CONTENT_LENGTH);
        } else {
            parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
        }
        http::Request::from_parts(parts, bytes)
    }
}

/// True if a signature in the headers covers path, host and body (AWS SigV4).
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    headers.get_all(AUTHORIZATION).iter().any(|value| is_signature(value.as_bytes()))
}

/// AWS Signature Version 4 (and 4A): new for each request, and the key id in it is no secret.
pub(crate) fn is_signature(value: &[u8]) -> bool {
    value.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AWS4-"))
}

impl fmt::Debug for Call {
    /// Names and sizes, never headers or contents: they hold credentials and prompts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("dialect", &self.dialect)
            .field("method", &self.parts.method)
            .field("path", &self.parts.uri.path())
            .field("doc", &self.doc)
            .finish_non_exhaustive()
    }
}
