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

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};

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
}
