//! Errors of one's own in the shape of the provider's, so that clients show them well.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::call::{Dialect, Reply, ReplyBody};

/// A reply with this status and message, in the shape of this dialect's own errors. `path` is that of the request:
/// the providers of embeddings share a dialect and differ in their errors.
///
/// All but 502 and 429 carry `x-should-retry: false`, which providers' clients obey first: the same request would be
/// refused again. A limit may have room again as soon as a call in flight turns out cheaper than what it reserved.
///
/// # Example
/// ```
/// use thrifty::call::Dialect;
/// use thrifty::edge::refuse;
///
/// let reply = refuse(Dialect::GeminiGenerate, "/", http::StatusCode::NOT_FOUND, "no such page");
/// let body = reply.body().complete().unwrap_or_default();
/// assert_eq!(body, r#"{"error":{"code":404,"message":"no such page","status":"NOT_FOUND"}}"#);
/// ```
#[must_use]
pub fn refuse(dialect: Dialect, path: &str, status: StatusCode, message: &str) -> Reply {
    let mut reply = Reply::new(ReplyBody::full(error_body(dialect, path, status, message)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !matches!(status, StatusCode::BAD_GATEWAY | StatusCode::TOO_MANY_REQUESTS) {
        reply.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
    }
    reply
}

/// The body of [`refuse`] alone, for an error that comes where no head can be sent any more.
#[must_use]
pub fn error_body(dialect: Dialect, path: &str, status: StatusCode, message: &str) -> Bytes {
    let shape = match dialect {
        Dialect::Embeddings if path.contains(":embedContent") || path.contains(":batchEmbed") => {
            Dialect::GeminiGenerate
        }
        Dialect::Embeddings if path.contains("/api/embed") => Dialect::OllamaChat,
        Dialect::Embeddings => Dialect::OpenAiChat,
        other => other,
    };
    shape.format().error_body(status, kind(shape, status), message)
}

/// What the provider calls an error of this status.
fn kind(dialect: Dialect, status: StatusCode) -> &'static str {
    match dialect {
        Dialect::AnthropicMessages => match status.as_u16() {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            409 => "conflict_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        },
        Dialect::GeminiGenerate => match status.as_u16() {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            409 => "ABORTED",
            429 => "RESOURCE_EXHAUSTED",
            502 | 503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            500.. => "INTERNAL",
            _ => "INVALID_ARGUMENT",
        },
        _ => match status.as_u16() {
            // Ours is a limit that waiting a moment does not lift; OpenAI's word for that.
            429 => "insufficient_quota",
            // Only a call that wished for a stored answer gets this one.
            504 => "not_cached",
            500.. => "server_error",
            _ => "invalid_request_error",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_gets_the_error_body_its_provider_documents() {
        // Error bodies as the providers document them, read 2026-11-24.
        let cases = [
            (
                Dialect::OpenAiChat,
                "",
                400,
                r#"{"error":{"message":"m","type":"invalid_request_error","param":null,"code":null}}"#,
            ),
            (
                Dialect::OpenAiResponses,
                "",
                429,
                r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":null}}"#,
            ),
            (
                Dialect::OpenAiChat,
                "",
                502,
                r#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#,
            ),
            (
                Dialect::AnthropicMessages,
                "",
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"m"}}"#,
            ),
            (
                Dialect::AnthropicMessages,
                "",
                413,
                r#"{"type":"error","error":{"type":"request_too_large","message":"m"}}"#,
            ),
            (
                Dialect::AnthropicMessages,
                "",
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#,
            ),
            (
                Dialect::AnthropicMessages,
                "",
                502,
                r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#,
            ),
            (
                Dialect::AnthropicMessages,
                "",
                504,
                r#"{"type":"error","error":{"type":"timeout_error","message":"m"}}"#,
            ),
            (
                Dialect::GeminiGenerate,
                "",
                400,
                r#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}"#,
            ),
            (
                Dialect::GeminiGenerate,
                "",
                413,
                r#"{"error":{"code":413,"message":"m","status":"INVALID_ARGUMENT"}}"#,
            ),
            (
                Dialect::GeminiGenerate,
                "",
                429,
                r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}"#,
            ),
            (Dialect::GeminiGenerate, "", 500, r#"{"error":{"code":500,"message":"m","status":"INTERNAL"}}"#),
            (
                Dialect::GeminiGenerate,
                "",
                502,
                r#"{"error":{"code":502,"message":"m","status":"UNAVAILABLE"}}"#,
            ),
            (Dialect::OllamaChat, "", 404, r#"{"error":"m"}"#),
            (
                Dialect::Embeddings,
                "/v1/embeddings",
                400,
                r#"{"error":{"message":"m","type":"invalid_request_error","param":null,"code":null}}"#,
            ),
            (
                Dialect::Embeddings,
                "/v1beta/models/e:embedContent",
                404,
                r#"{"error":{"code":404,"message":"m","status":"NOT_FOUND"}}"#,
            ),
            (Dialect::Embeddings, "/api/embed", 404, r#"{"error":"m"}"#),
        ];
        for (dialect, path, status, want) in cases {
            let status = StatusCode::from_u16(status).expect("a status");
            let reply = refuse(dialect, path, status, "m");
            assert_eq!(reply.status(), status);
            assert_eq!(reply.body().complete().as_deref(), Some(want.as_bytes()), "{dialect} {status}");
            let again = !reply.headers().contains_key("x-should-retry");
            let may_change = matches!(status, StatusCode::BAD_GATEWAY | StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(again, may_change, "a provider out of reach and a limit are worth a retry");
        }
    }
}
