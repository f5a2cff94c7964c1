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

use crate::call::{Call, Dialect, Doc};
use crate::dialect::{Finish, Format, Outcome};

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
    head_storable(status, headers)?;
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

/// The same as far as the head tells.
pub(super) fn head_storable(status: StatusCode, headers: &HeaderMap) -> Result<(), &'static str> {
    if !status.is_success() || status == StatusCode::PARTIAL_CONTENT {
        return Err("status");
    }
    let plain = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        return Err("encoded");
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
    /// True leaves out answers that call tools.
    pub(super) skip_tool_calls: bool,
}

/// A refusal is not kept for longer: filters change, and a wrong one should be gone soon.
pub(super) const LONGEST_REFUSAL: Duration = Duration::from_secs(60);

impl StorePolicy {
    /// How long a reply to `doc` may be served again at most, of the time `ttl` its call may have. `capped` says that a
    /// layer of ours set the cap that may have cut it.
    pub(super) fn judge(
        &self,
        format: &dyn Format,
        doc: &Doc,
        parts: &Parts,
        outcome: &Outcome,
        ttl: Duration,
        capped: bool,
    ) -> Result<Duration, &'static str> {
        let allowed = match (outcome.finish, self.refused) {
            (Finish::Truncated, _) if self.truncated && !capped => ttl,
            (Finish::Refused, Some(most)) => ttl.min(most).min(LONGEST_REFUSAL),
            _ => {
                storable(parts.status, &parts.headers, outcome)?;
                ttl
            }
        };
        if outcome.finish != Finish::Whole {
            // Judged as if it had ended well: it has to be good in all else.
            let whole = Outcome { finish: Finish::Whole, ..outcome.clone() };
            storable(parts.status, &parts.headers, &whole)?;
        }
        if !outcome.called.is_empty() {
            if self.skip_tool_calls {
                return Err("tool-call");
            }
            // A client that gets a call of a tool it does not have fails, or asks again: for as long as it is stored.
            if let Some(offered) = format.offered_tools(doc)
                && !outcome.called.names().all(|name| offered.iter().any(|tool| tool == name))
            {
                return Err("unknown-tool");
            }
        }
        Ok(allowed)
    }
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
    fn a_call_of_a_tool_that_was_not_offered_is_not_stored_and_one_that_may_have_been_is() {
        const CHAT: &str = "https://api.openai.com/v1/chat/completions";
        const RESPONSES: &str = "https://api.openai.com/v1/responses";
        const MESSAGES: &str = "https://api.anthropic.com/v1/messages";
        const GEMINI: &str =
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent";
        const OLLAMA: &str = "http://localhost:11434/api/chat";
        let chat = r#"{"choices":[{"message":{"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#;
        let custom = r#"{"choices":[{"message":{"tool_calls":[{"id":"1","custom":{"name":"f","input":"x"}}]},"finish_reason":"tool_calls"}]}"#;
        let old = r#"{"choices":[{"message":{"function_call":{"name":"f","arguments":"{}"}},"finish_reason":"function_call"}]}"#;
        let nameless = r#"{"choices":[{"message":{"tool_calls":[{"id":"1","function":{"arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#;
        let none = r#"{"choices":[{"message":{"tool_calls":[],"function_call":null,"content":"say \"tool_calls\":[1]"},"finish_reason":"stop"}]}"#;
        let response = r#"{"status":"completed","output":[{"type":"function_call","name":"f","arguments":"{}"},{"type":"custom_tool_call","name":"g","input":"x"}]}"#;
        let message = r#"{"content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t","name":"f","input":{}}],"stop_reason":"tool_use"}"#;
        let gemini = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]},"finishReason":"STOP"}]}"#;
        let ollama = r#"{"message":{"tool_calls":[{"function":{"name":"f","arguments":{}}}]},"done":true,"done_reason":"stop"}"#;
        const NO: Result<(), &str> = Err("unknown-tool");
        for (url, members, reply, want) in [
            (CHAT, r#""tools":[{"type":"function","function":{"name":"f"}}]"#, chat, Ok(())),
            (CHAT, r#""tools":[{"type":"function","function":{"name":"F"}}]"#, chat, NO),
            (
                CHAT,
                r#""tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none""#,
                chat,
                Ok(()),
            ),
            (CHAT, r#""tools":[{"type":"custom","custom":{"name":"f"}}]"#, custom, Ok(())),
            (CHAT, r#""tools":[{"type":"custom","custom":{"name":"g"}}]"#, custom, NO),
            (CHAT, r#""functions":[{"name":"f"}]"#, old, Ok(())),
            (CHAT, r#""functions":[{"name":"g"}]"#, old, NO),
            (CHAT, r#""tools":null"#, chat, NO),
            (CHAT, r#""tools":[]"#, none, Ok(())),
            (CHAT, r#""tools":[{"type":"function","function":{"name":"f"}}]"#, nameless, NO),
            // What cannot be told is not held against an answer.
            (CHAT, r#""tools":[{"type":"mcp","server_url":"x"}]"#, chat, Ok(())),
            (CHAT, r#""tools":{"f":{}}"#, chat, Ok(())),
            (
                RESPONSES,
                r#""tools":[{"type":"function","name":"f"},{"type":"custom","name":"g"}]"#,
                response,
                Ok(()),
            ),
            (RESPONSES, r#""tools":[{"type":"function","name":"f"}]"#, response, NO),
            (RESPONSES, r#""tools":[{"type":"namespace","name":"n","tools":[]}]"#, response, Ok(())),
            (RESPONSES, r#""prompt":{"id":"p","version":"1"}"#, response, Ok(())),
            (
                RESPONSES,
                r#""input":[{"type":"tool_search_output","tools":[{"name":"f"}]}]"#,
                response,
                Ok(()),
            ),
            (MESSAGES, r#""tools":[{"name":"f","input_schema":{}}]"#, message, Ok(())),
            (MESSAGES, r#""tools":[{"type":"bash_20250124","name":"bash"}]"#, message, NO),
            (MESSAGES, r#""tools":[{"type":"mcp_toolset","mcp_server_name":"x"}]"#, message, Ok(())),
            (MESSAGES, r#""messages":[]"#, message, NO),
            (GEMINI, r#""tools":[{"functionDeclarations":[{"name":"f"}]}]"#, gemini, Ok(())),
            (GEMINI, r#""tools":[{"function_declarations":[{"name":"g"}]}]"#, gemini, NO),
            (GEMINI, r#""cachedContent":"cachedContents/1""#, gemini, Ok(())),
            (GEMINI, r#""tools":[{"googleSearch":{}}]"#, gemini, Ok(())),
            (OLLAMA, r#""tools":[{"type":"function","function":{"name":"f"}}]"#, ollama, Ok(())),
            (OLLAMA, r#""tools":[{"type":"function","function":{"name":"g"}}]"#, ollama, NO),
        ] {
            let call = Call::post(url, format!("{{{members}}}"));
            let outcome = call.format().read_reply(reply.as_bytes());
            assert!(outcome.is_good(), "{reply}");
            let (parts, ()) = http::Response::new(()).into_parts();
            let judge = |store: StorePolicy| {
                store.judge(call.format(), &call.doc, &parts, &outcome, LONGEST_REFUSAL, false).map(drop)
            };
            assert_eq!(judge(StorePolicy::default()), want, "{url} {members}");
            let skip = StorePolicy { skip_tool_calls: true, ..StorePolicy::default() };
            let skipped = if reply == none { Ok(()) } else { Err("tool-call") };
            assert_eq!(judge(skip), skipped, "{url} {members}");
        }
    }
}
