//! Names that live in the path of a request rather than in its body.

use std::ops::Range;

use http::Uri;
use http::request::Parts;

use crate::call::is_signed;
use crate::{Error, Kind};

/// Where in `path` the name stands that follows the last `after` and ends before `until`. The last, because a gateway
/// may have the same word in its own part of the path.
pub(super) fn segment(path: &str, after: &str, until: char) -> Option<Range<usize>> {
    let start = path.rfind(after)? + after.len();
    let len = path[start..].find(until)?;
    (len > 0).then_some(start..start + len)
}

/// True if `path` is this endpoint of an API: its last name, under nothing, a version (`v1`, `v1beta`) or one of
/// `bases`. `/v1/threads/{id}/messages` ends in `messages` too and is another thing.
pub(super) fn is_endpoint(path: &str, name: &str, bases: &[&str]) -> bool {
    let Some(base) = path.strip_suffix(name).and_then(|base| base.strip_suffix('/')) else { return false };
    let last = base.rsplit('/').next().unwrap_or_default();
    let is_version =
        last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    last.is_empty() || is_version || bases.contains(&last)
}

/// True for the endpoints of known APIs that take bodies like those of a known format and are something else: they
/// count, split, check, rank or file what a call would send, or answer in a shape of their own.
///
/// A path nobody knows is not one of them: gateways have paths of their own, and there the body tells.
pub(super) fn is_elsewhere(path: &str) -> bool {
    const LAST: [&str; 30] = [
        // Counting and splitting: Anthropic, OpenAI, vLLM, llama.cpp.
        "count_tokens",
        "input_tokens",
        "tokenize",
        "detokenize",
        "apply-template",
        "render",
        "derender",
        // Vectors, ranks, classes and checks: vLLM, Mistral, Cohere, OpenAI.
        "pooling",
        "classify",
        "classifications",
        "score",
        "rerank",
        "moderations",
        "embed",
        // Kept by the vendor: conversations, jobs, files.
        "batches",
        "batch",
        "files",
        "uploads",
        "compact",
        "threads",
        "runs",
        "assistants",
        "conversations",
        "interactions",
        "sessions",
        "client_secrets",
        // Shapes of their own: Bedrock, Cohere, other services of OpenAI.
        "converse",
        "converse-stream",
        "speech",
        "translations",
    ];
    // `/v2/chat` is Cohere's; what stands below these names belongs to one kept conversation, job or answer.
    const BELOW: [&str; 10] = [
        "/threads/",
        "/assistants/",
        "/conversations/",
        "/batches/",
        "/files/",
        "/evals/",
        "/fine_tuning/",
        "/responses/",
        "/completions/",
        "/audio/",
    ];
    let last = path.rsplit('/').next().unwrap_or_default();
    LAST.contains(&last) || path.ends_with("/v2/chat") || BELOW.iter().any(|name| path.contains(name))
}

/// True where a cloud's path names the model and what to do with it, whatever the body says: Bedrock's
/// `/model/{model}/invoke`, Google's `/models/{model}:rawPredict`.
pub(super) fn names_task(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.contains(':') || last.starts_with("invoke")
}

/// A name of a path without its percent-encoding; bytes that are no UTF-8 become U+FFFD.
pub(super) fn decoded(name: &str) -> String {
    let bytes = name.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex =
            name.get(at + 1..at + 3).filter(|hex| byte == b'%' && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Puts `name`, percent-encoded, in the place of `segment` of the path; the rest of the URI stays. A signature covers the
/// path, so a signed request is refused.
pub(super) fn replace(parts: &mut Parts, segment: Range<usize>, name: &str) -> Result<(), Error> {
    let refused = || {
        Error::new(
            Kind::NotEditable,
            "the model cannot be written into the path of the request",
            "send the call as it is, or check its URI",
        )
    };
    if name.is_empty() || is_signed(&parts.headers) {
        return Err(refused());
    }
    let path = parts.uri.path();
    let mut target = String::with_capacity(path.len() + name.len());
    target.push_str(path.get(..segment.start).ok_or_else(refused)?);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@') {
            target.push(char::from(byte));
        } else {
            target.push_str(&format!("%{byte:02X}"));
        }
    }
    target.push_str(path.get(segment.end..).ok_or_else(refused)?);
    if let Some(query) = parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(target.parse().map_err(|_| refused())?);
    parts.uri = Uri::from_parts(uri).map_err(|_| refused())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_path_is_read_and_replaced() {
        let uri = "https://h/openai/deployments/a%20b/chat/completions?api-version=1";
        let (mut parts, ()) = http::Request::post(uri).body(()).unwrap().into_parts();
        let find = |parts: &Parts| segment(parts.uri.path(), "/deployments/", '/').unwrap();
        assert_eq!(decoded(&parts.uri.path()[find(&parts)]), "a b");
        let at = find(&parts);
        replace(&mut parts, at, "c/d:é").unwrap();
        assert_eq!(parts.uri, "https://h/openai/deployments/c%2Fd%3A%C3%A9/chat/completions?api-version=1");
        assert_eq!(decoded(&parts.uri.path()[find(&parts)]), "c/d:é");
        let at = find(&parts);
        assert!(replace(&mut parts, at, "").is_err());
        assert_eq!(segment("/models/google/v1beta/models/m:x", "/models/", ':'), Some(29..30));
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%+1"), "%zz%+1");
    }
}
