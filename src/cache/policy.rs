//! What may be stored: whole, good answers, and of their headers only those that describe the answer.
//!
//! A cache that stores an answer cut short, a refusal or an error repeats it until it expires. What is not clearly
//! whole is therefore not stored, and each refusal has a word for logs and receipts.
//!
//! # Example
//! ```
//! use http::{HeaderMap, StatusCode};
//! use thrifty::cache::storable;
//! use thrifty::dialect::Outcome;
//!
//! let unread = Outcome::default();
//! assert_eq!(storable(StatusCode::BAD_GATEWAY, &HeaderMap::new(), &unread), Err("status"));
//! ```
//! # Headers
//! ```
//! use http::HeaderMap;
//! use thrifty::cache::stored_headers;
//!
//! let mut headers = HeaderMap::new();
//! headers.insert("content-type", "application/json".parse()?);
//! headers.insert("set-cookie", "session=1".parse()?);
//! assert_eq!(stored_headers(&headers).len(), 1);
//! # Ok::<(), thrifty::BoxError>(())
//! ```

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::call::{Call, Dialect};
use crate::dialect::{Finish, Outcome};

/// Headers that describe the answer. All others belong to the exchange that brought it: cookies, request ids, rate
/// limits, timings, dates.
const STORED: [HeaderName; 5] = [
    CONTENT_TYPE,
    HeaderName::from_static("openai-model"),
    HeaderName::from_static("openai-version"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("api-version"),
];

/// The headers of a reply that are stored and served again with it.
#[must_use]
pub fn stored_headers(headers: &HeaderMap) -> HeaderMap {
    let mut stored = HeaderMap::new();
    for name in &STORED {
        for value in headers.get_all(name) {
            // A copy: a client's header is a window into its read buffer, and would keep all of that in the cache.
            stored.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone()));
        }
    }
    stored
}

/// Whether a reply may be stored and served again.
///
/// # Errors
/// Why not, as a word: `status` (not a 2xx, or only a part), `encoded` (a compressed body), `truncated`, `refused`,
/// `failed`, `partial` (the body ended before its end marker), `unknown` (no ending that could be read), `empty`,
/// `broken-tool-call`.
pub fn storable(status: StatusCode, headers: &HeaderMap, outcome: &Outcome) -> Result<(), &'static str> {
    if !status.is_success() || status == StatusCode::PARTIAL_CONTENT {
        return Err("status");
    }
    let plain = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        return Err("encoded");
    }
    if outcome.finish != Finish::Whole {
        return Err(outcome.finish.name());
    }
    if outcome.broken_tool_call {
        return Err("broken-tool-call");
    }
    if outcome.empty {
        return Err("empty");
    }
    Ok(())
}

/// Which calls with chance in their answer are cached.
///
/// A repeat gets the stored answer, which is what a cache is for; whoever wants another draw each time does not want
/// one. Reasoning models take no temperature at all, so a rule by temperature leaves out most of what is asked today.
///
/// # Example
/// ```
/// use thrifty::cache::{CacheLayer, Sampled};
///
/// let layer = CacheLayer::builder().sampled(Sampled::ZeroTempOrSeed).build()?;
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sampled {
    /// All of them.
    #[default]
    Always,
    /// Calls that say temperature 0, or give a seed. `top_p` makes nothing repeatable, and neither does silence.
    ZeroTempOrSeed,
    /// Calls that say temperature 0: a seed is best effort with most providers.
    Never,
}

impl Sampled {
    /// True if a call is cached. Embeddings hold no chance, and of what no format reads nothing is known; both are.
    pub(super) fn admits(self, call: &Call) -> bool {
        if self == Self::Always || matches!(call.dialect, Dialect::Embeddings | Dialect::Opaque) {
            return true;
        }
        let inner = match call.dialect {
            Dialect::GeminiGenerate => call.doc.object("generationConfig"),
            Dialect::OllamaChat => call.doc.object("options"),
            _ => None,
        };
        let member = |name| match call.dialect {
            Dialect::GeminiGenerate | Dialect::OllamaChat => {
                inner.as_ref().and_then(|inner| inner.some(name))
            }
            _ => call.doc.some(name),
        };
        let cold = member("temperature").is_some_and(is_zero);
        cold || (self == Self::ZeroTempOrSeed && member("seed").is_some())
    }
}

/// True for a JSON number that is zero, however it is spelled.
fn is_zero(number: &str) -> bool {
    let digits = number.split(['e', 'E']).next().unwrap_or_default();
    digits.contains('0') && digits.bytes().all(|byte| matches!(byte, b'0' | b'.' | b'-'))
}

/// What is stored beside whole, good answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StorePolicy {
    /// Answers that the caller's own cap cut.
    pub(super) truncated: bool,
    /// Refusals, for so long.
    pub(super) refused: Option<Duration>,
    /// False leaves out answers that call tools.
    pub(super) skip_tool_calls: bool,
}

/// A refusal is not kept for longer: filters change, and a wrong one should be gone soon.
pub(super) const LONGEST_REFUSAL: Duration = Duration::from_secs(60);

impl StorePolicy {
    /// How long a reply may be served again at most, of the time `ttl` its call may have. `capped` says that a layer
    /// of ours set the cap that may have cut it.
    pub(super) fn judge(
        &self,
        parts: &Parts,
        body: &[u8],
        outcome: &Outcome,
        ttl: Duration,
        capped: bool,
    ) -> Result<Duration, &'static str> {
        let why = match storable(parts.status, &parts.headers, outcome) {
            Ok(()) if self.skip_tool_calls && calls_tools(body) => return Err("tool-call"),
            Ok(()) => return Ok(ttl),
            Err(why) => why,
        };
        // Judged again as if it had ended well: it has to be good in all else.
        let whole = Outcome { finish: Finish::Whole, ..outcome.clone() };
        let allowed = match (outcome.finish, self.refused) {
            (Finish::Truncated, _) if self.truncated && !capped => ttl,
            (Finish::Refused, Some(most)) => ttl.min(most).min(LONGEST_REFUSAL),
            _ => return Err(why),
        };
        storable(parts.status, &parts.headers, &whole)?;
        Ok(allowed)
    }
}

/// True if a reply calls a tool, in any of the formats. Within a text these quotes would be escaped.
fn calls_tools(body: &[u8]) -> bool {
    const WORDS: [&[u8]; 6] = [
        b"\"tool_calls\"",
        b"\"tool_use\"",
        b"\"function_call\"",
        b"\"functionCall\"",
        b"\"custom_tool_call\"",
        b"\"mcp_call\"",
    ];
    let calls = |at: usize, word: &[u8]| {
        // Some servers name the member and leave it empty.
        let rest = body[at + word.len()..].trim_ascii_start();
        match rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start) {
            Some(value) => {
                !value.starts_with(b"null")
                    && !value.strip_prefix(b"[").is_some_and(|list| list.trim_ascii_start().starts_with(b"]"))
            }
            None => true,
        }
    };
    let mut at = 0;
    while let Some(next) = body[at..].iter().position(|byte| *byte == b'"') {
        at += next;
        if WORDS.iter().any(|word| body[at..].starts_with(word) && calls(at, word)) {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_good_plain_2xx_is_stored() {
        let good = Outcome { finish: Finish::Whole, ..Outcome::default() };
        let none = HeaderMap::new();
        assert_eq!(storable(StatusCode::OK, &none, &good), Ok(()));
        for status in [206, 304, 400, 401, 404, 408, 409, 422, 429, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(storable(status, &none, &good), Err("status"), "{status}");
        }
        for finish in [Finish::Truncated, Finish::Refused, Finish::Failed, Finish::Partial, Finish::Unknown] {
            let bad = Outcome { finish, ..good.clone() };
            assert_eq!(storable(StatusCode::OK, &none, &bad), Err(finish.name()));
        }
        let empty = Outcome { empty: true, ..good.clone() };
        assert_eq!(storable(StatusCode::OK, &none, &empty), Err("empty"));
        let broken = Outcome { broken_tool_call: true, ..good.clone() };
        assert_eq!(storable(StatusCode::OK, &none, &broken), Err("broken-tool-call"));
        for (encoding, want) in [("gzip", Err("encoded")), ("identity", Ok(()))] {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding.parse().unwrap())]);
            assert_eq!(storable(StatusCode::OK, &headers, &good), want, "{encoding}");
        }
    }

    #[test]
    fn headers_of_the_exchange_are_not_stored() {
        // What the vendors and what stands in front of them send, by kind.
        let not_stored = [
            // One connection only.
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            // One message only.
            "content-length",
            "content-encoding",
            "content-md5",
            "digest",
            "etag",
            "date",
            "age",
            "expires",
            "cache-control",
            "cache-status",
            "vary",
            "via",
            "alt-svc",
            "server",
            "server-timing",
            "strict-transport-security",
            "x-content-type-options",
            "access-control-allow-origin",
            // One caller only.
            "set-cookie",
            "set-cookie2",
            "www-authenticate",
            "authorization",
            "openai-organization",
            "openai-project",
            "anthropic-organization-id",
            // One exchange only.
            "x-request-id",
            "request-id",
            "apim-request-id",
            "x-ms-request-id",
            "x-ms-client-request-id",
            "x-amzn-requestid",
            "x-goog-request-id",
            "x-groq-region",
            "traceparent",
            "openai-processing-ms",
            "x-envoy-upstream-service-time",
            "cf-ray",
            "cf-cache-status",
            "cf-mitigated",
            // Limits of the moment.
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
            "ratelimit",
            "ratelimit-policy",
            "x-ratelimit-limit-requests",
            "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-requests",
            "x-ratelimit-reset-tokens",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-priority-input-tokens-remaining",
            // Ours, of another thrifty below.
            "thrifty-origin-id",
            "thrifty-cost-usd",
            "thrifty-served",
            // One that nobody knows yet.
            "x-something-new",
        ];
        for name in not_stored {
            let headers = HeaderMap::from_iter([(name.parse::<HeaderName>().unwrap(), "1".parse().unwrap())]);
            assert!(stored_headers(&headers).is_empty(), "{name}");
        }
        let stored = ["content-type", "openai-model", "openai-version", "anthropic-version", "api-version"];
        for name in stored {
            let headers = HeaderMap::from_iter([(name.parse::<HeaderName>().unwrap(), "1".parse().unwrap())]);
            assert_eq!(stored_headers(&headers), headers, "{name}");
        }
    }

    #[test]
    fn a_zero_is_one_however_it_is_spelled() {
        for zero in ["0", "0.0", "-0", "0e5", "0.000E-3"] {
            assert!(is_zero(zero), "{zero}");
        }
        for other in ["1", "0.1", "1e-9", "\"0\"", "null", "."] {
            assert!(!is_zero(other), "{other}");
        }
    }

    #[test]
    fn which_calls_are_cached_follows_from_their_temperature_and_seed() {
        use Sampled::{Always, Never, ZeroTempOrSeed};
        let chat = "https://api.openai.com/v1/chat/completions";
        let gemini =
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent";
        let ollama = "http://localhost:11434/api/chat";
        for (url, body, seeded, zero) in [
            (chat, r#"{"model":"m","messages":[]}"#, false, false),
            (chat, r#"{"model":"m","messages":[],"temperature":0}"#, true, true),
            (chat, r#"{"model":"m","messages":[],"temperature":0.04}"#, false, false),
            (chat, r#"{"model":"m","messages":[],"temperature":null,"top_p":0.1}"#, false, false),
            (chat, r#"{"model":"m","messages":[],"temperature":1,"seed":7}"#, true, false),
            (gemini, r#"{"contents":[],"generationConfig":{"temperature":0.0}}"#, true, true),
            (gemini, r#"{"contents":[],"temperature":0}"#, false, false),
            (ollama, r#"{"model":"m","messages":[],"options":{"seed":1}}"#, true, false),
            ("https://api.openai.com/v1/embeddings", r#"{"model":"m","input":"x"}"#, true, true),
        ] {
            let call = Call::post(url, body);
            let admitted = [Always, ZeroTempOrSeed, Never].map(|sampled| sampled.admits(&call));
            assert_eq!(admitted, [true, seeded, zero], "{url} {body}");
        }
    }

    #[test]
    fn a_tool_call_is_seen_and_talk_of_one_is_not() {
        for (body, calls) in [
            (r#"{"message":{"tool_calls":[{"id":"1"}]}}"#, true),
            (r#"{"content":[{"type" : "tool_use"}]}"#, true),
            (r#"{"parts":[{"functionCall": {"name":"f"}}]}"#, true),
            (r#"{"message":{"tool_calls": null,"function_call":null}}"#, false),
            (r#"{"message":{"tool_calls":[ ],"content":"say \"tool_calls\": [1]"}}"#, false),
            (r#"{"usage":{"server_tool_use":{}}}"#, false),
        ] {
            assert_eq!(calls_tools(body.as_bytes()), calls, "{body}");
        }
    }
}
