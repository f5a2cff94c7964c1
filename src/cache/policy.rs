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
        let mut headers = HeaderMap::new();
        for name in [
            "content-type",
            "openai-version",
            "content-encoding",
            "content-length",
            "transfer-encoding",
            "connection",
            "date",
            "set-cookie",
            "x-request-id",
            "request-id",
            "openai-processing-ms",
            "openai-organization",
            "x-ratelimit-remaining-tokens",
            "anthropic-ratelimit-tokens-remaining",
            "cf-ray",
            "retry-after",
        ] {
            headers.insert(name, "1".parse().unwrap());
        }
        let stored = stored_headers(&headers);
        let mut names: Vec<_> = stored.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "openai-version"]);
    }
}
