//! Anything that is no known format: passed through, never edited.
//!
//! | what | where it is read |
//! |---|---|
//! | model asked, stream | `model`, `stream` of a JSON body; the model cannot be set |
//! | messages, cap, tools, usage | nowhere |
//! | identity | [`RawIdentity`]: media type and exact bytes; of a multipart form its parts, since its boundary is random |
//! | whole reply | [`read_raw`]: the framing of HTTP alone |
//! | error | `error` of a JSON reply |
//!
//! Speech, pictures, transcriptions and moderation have side effects and shapes of their own, so nothing of them is
//! cached unless a route is named. What a cache of such routes needs to know stands here.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use http::request::Parts;
use http::{StatusCode, Version, response};

use super::{
    CapField, Finish, Format, Outcome, Prompt, StreamReader, Usage, is_event_stream, not_understood,
};
use crate::Error;
use crate::call::json::{self, Object};
use crate::call::{Call, Dialect, Doc};

/// The format of what is not understood.
#[derive(Debug)]
pub(super) struct Opaque;

impl Format for Opaque {
    fn dialect(&self) -> Dialect {
        Dialect::Opaque
    }

    fn claims_path(&self, _: &str) -> bool {
        false
    }

    fn claims_body(&self, _: &Parts, _: &Doc) -> bool {
        false
    }

    fn model(&self, call: &Call) -> Option<String> {
        call.doc.str("model").map(|model| model.into_owned())
    }

    fn set_model(&self, _: &mut Call, _: &str) -> Result<(), Error> {
        Err(not_understood("the model"))
    }

    fn wants_stream(&self, call: &Call) -> bool {
        call.doc.bool("stream") == Some(true)
    }

    fn prompt<'a>(&self, _: &'a Call) -> Prompt<'a> {
        Prompt::default()
    }

    fn messages_member(&self) -> Option<&'static str> {
        None
    }

    fn clear_tool_results(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn has_cache_mark(&self, _: &str) -> bool {
        false
    }

    fn cap(&self, _: &Call) -> Option<u64> {
        None
    }

    fn set_cap(&self, _: &mut Call, _: u64, _: CapField) -> Result<(), Error> {
        Err(not_understood("a cap"))
    }

    fn cap_floor(&self, _: &Call) -> u64 {
        1
    }

    fn excluded(&self) -> &'static [&'static str] {
        &[]
    }

    fn bypass(&self, _: &Call) -> Option<&'static str> {
        Some("opaque")
    }

    fn read_reply(&self, _: &[u8]) -> Outcome {
        Outcome::default()
    }

    fn stream_reader(&self) -> Box<dyn StreamReader> {
        Box::new(Blind)
    }

    fn usage(&self, _: &str) -> Option<Usage> {
        None
    }

    fn error_body(&self, _: StatusCode, kind: &str, message: &str) -> Bytes {
        let (kind, message) = (json::quote(kind), json::quote(message));
        format!(r#"{{"error":{{"type":{kind},"message":{message}}}}}"#).into()
    }
}

/// What tells one call that no format reads from another, beside its method and URI.
///
/// # Example
/// ```
/// use thrifty::call::Call;
/// use thrifty::dialect::RawIdentity;
///
/// let form = |boundary: &str| {
///     let kind = format!("multipart/form-data; boundary={boundary}");
///     let body = format!("--{boundary}\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--{boundary}--\r\n");
///     let request = http::Request::post("https://api.openai.com/v1/audio/transcriptions").header("content-type", kind);
///     Call::from_parts(request.body(()).expect("it is valid").into_parts().0, body)
/// };
/// let (one, other) = (form("a1"), form("b2"));
/// assert_eq!(RawIdentity::of(&one), RawIdentity::of(&other));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RawIdentity<'a> {
    /// The media type in lower case with its parameters as they stand; of a multipart body without its boundary.
    pub content_type: String,
    /// The exact bytes; of a multipart body each part after its length, which is one to one.
    pub body: Cow<'a, [u8]>,
}

impl std::fmt::Debug for RawIdentity<'_> {
    /// The type and the size: the bytes are a prompt.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawIdentity")
            .field("content_type", &self.content_type)
            .field("bytes", &self.body.len())
            .finish()
    }
}

impl<'a> RawIdentity<'a> {
    /// That of this call.
    ///
    /// # Errors
    /// A word for logs: `content-type` where there are two or one that is no text, `multipart` where the parts cannot
    /// be told apart beyond doubt. Such a call has no identity and cannot be cached.
    pub fn of(call: &'a Call) -> Result<Self, &'static str> {
        let body = call.doc.bytes();
        let mut kinds = call.parts.headers.get_all(CONTENT_TYPE).iter();
        let kind = match (kinds.next(), kinds.next()) {
            (None, _) => "",
            (Some(kind), None) => kind.to_str().map_err(|_| "content-type")?,
            (Some(_), Some(_)) => return Err("content-type"),
        };
        let (media, rest) = kind.split_once(';').unwrap_or((kind, ""));
        let media = media.trim().to_ascii_lowercase();
        if !media.starts_with("multipart/") {
            let rest = rest.trim();
            let content_type = if rest.is_empty() { media } else { format!("{media}; {rest}") };
            return Ok(Self { content_type, body: Cow::Borrowed(body) });
        }
        let boundary = only_boundary(rest).ok_or("multipart")?;
        let parts = form_parts(body, boundary).ok_or("multipart")?;
        let mut lengths = Vec::with_capacity(body.len());
        for part in parts {
            lengths.extend_from_slice(&(part.len() as u64).to_le_bytes());
            lengths.extend_from_slice(part);
        }
        Ok(Self { content_type: media, body: Cow::Owned(lengths) })
    }
}

/// The boundary, if it is the only parameter and made of nothing but the usual characters.
fn only_boundary(parameters: &str) -> Option<&str> {
    let (name, value) = parameters.trim().trim_end_matches(';').split_once('=')?;
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = quoted.unwrap_or(value);
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    let is_good = name.trim().eq_ignore_ascii_case("boundary")
        && (1..=70).contains(&value.len())
        && !value.ends_with(' ')
        && value.bytes().all(usual);
    is_good.then_some(value)
}

/// The parts of a form, headers included; `None` unless each place where the boundary stands is a delimiter in its
/// strict form and the last one closes.
fn form_parts<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<&'a [u8]>> {
    let delimiter = format!("--{boundary}");
    let mut rest = body.strip_prefix(delimiter.as_bytes())?;
    let mut parts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix(b"--") {
            return (matches!(end, b"" | b"\r\n") && !parts.is_empty()).then_some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let at = rest.windows(delimiter.len()).position(|window| window == delimiter.as_bytes())?;
        parts.push(rest[..at].strip_suffix(b"\r\n")?);
        rest = &rest[at + delimiter.len()..];
    }
}

/// What a reply that no format reads says about itself, its bytes all at hand and its body ended without an error.
///
/// There is no end marker in such a body, so only the framing of HTTP tells whether it is whole: its declared length is
/// reached, or the last chunk or frame was seen. A body that ends with the connection may have lost its end. Streams of
/// events are left alone, since an error may stand in them; so is JSON that does not parse, and JSON that names a
/// picture by an address, which expires.
#[must_use]
pub fn read_raw(parts: &response::Parts, body: &[u8]) -> Outcome {
    let finish = if !is_framed(&parts.headers, parts.version, body.len() as u64) {
        Finish::Partial
    } else if is_event_stream(&parts.headers) {
        Finish::Unknown
    } else if is_json(&parts.headers) {
        match std::str::from_utf8(body).ok().and_then(Object::parse) {
            Some(reply) if reply.some("error").is_some() => Finish::Failed,
            Some(reply) if !names_an_address(&reply) => Finish::Whole,
            _ => Finish::Unknown,
        }
    } else {
        Finish::Whole
    };
    Outcome { finish, empty: body.is_empty(), ..Outcome::default() }
}

/// True if the end of this body is known to be its end.
fn is_framed(headers: &HeaderMap, version: Version, len: u64) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(CONTENT_LENGTH) {
        Some(declared) => declared.trim().parse() == Ok(len),
        // A chunked body without its last chunk is an error of the body, and so is a stream that was reset.
        None => {
            version >= Version::HTTP_2
                || text(TRANSFER_ENCODING)
                    .is_some_and(|codings| codings.trim().to_ascii_lowercase().ends_with("chunked"))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media.ends_with("+json")
}

fn names_an_address(reply: &Object<'_>) -> bool {
    let entries = reply.elements("data").unwrap_or_default();
    entries.into_iter().filter_map(Object::parse).any(|entry| entry.some("url").is_some())
}

#[derive(Debug)]
struct Blind;

impl StreamReader for Blind {
    fn push(&mut self, _: &[u8]) {}

    fn outcome(&self, _: bool) -> Outcome {
        Outcome { finish: Finish::Unknown, ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(kind: &str, body: impl Into<Vec<u8>>) -> Call {
        let request = http::Request::post("https://h/v1/audio/transcriptions").header(CONTENT_TYPE, kind);
        Call::from_parts(request.body(()).unwrap().into_parts().0, body.into())
    }

    fn form(boundary: &str, parts: &[&[u8]]) -> Call {
        let mut body = Vec::new();
        for part in parts {
            body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
            body.extend_from_slice(part);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        call(&format!("multipart/form-data; boundary={boundary}"), body)
    }

    fn reply(headers: &[(&str, &str)], version: Version) -> response::Parts {
        let mut reply = http::Response::builder().version(version);
        for (name, value) in headers {
            reply = reply.header(*name, *value);
        }
        reply.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_form_is_told_by_its_parts_and_all_else_by_its_bytes() {
        let part = &b"content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF"[..];
        let (one, other) = (form("x", &[part, b"2"]), form("------y'(z)", &[part, b"2"]));
        assert_eq!(RawIdentity::of(&one), RawIdentity::of(&other), "the boundary does not count");
        assert_ne!(RawIdentity::of(&one), RawIdentity::of(&form("x", &[part, b"3"])));
        assert_ne!(RawIdentity::of(&one), RawIdentity::of(&form("x", &[b"2", part])), "the order counts");
        let quoted = call("Multipart/Form-Data; boundary=\"x\"", one.doc.bytes().to_vec());
        assert_eq!(RawIdentity::of(&one), RawIdentity::of(&quoted));
        let json = call("application/json", "{\"a\":1}");
        let spaced = call("application/json", "{\"a\": 1}");
        assert_ne!(RawIdentity::of(&json), RawIdentity::of(&spaced), "what is not understood is its bytes");
        let text = call("text/plain", "{\"a\":1}");
        assert_ne!(RawIdentity::of(&json), RawIdentity::of(&text), "the type counts");
    }

    #[test]
    fn a_form_that_can_be_read_in_two_ways_has_no_identity() {
        let kind = "multipart/form-data; boundary=x";
        for (kind, body) in [
            (kind, "--x\r\na\r\n--x"),
            (kind, "--x\r\na\r\n"),
            (kind, "--x\r\na--x\r\n--x--"),
            (kind, "--x\na\n--x--"),
            (kind, "preamble\r\n--x\r\na\r\n--x--"),
            (kind, "--x\r\na\r\n--x--\r\nepilogue"),
            (kind, "--x--\r\n"),
            (kind, ""),
            ("multipart/form-data", "--x\r\na\r\n--x--"),
            ("multipart/form-data; boundary=x; charset=utf-8", "--x\r\na\r\n--x--"),
            ("multipart/form-data; boundary=\"\"", "--\r\na\r\n----"),
        ] {
            assert_eq!(RawIdentity::of(&call(kind, body)), Err("multipart"), "{kind} {body:?}");
        }
    }

    #[test]
    fn a_raw_reply_is_whole_when_its_framing_says_so() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        let audio = ("content-type", "audio/mpeg");
        for (headers, version, body, want) in [
            (vec![audio, ("content-length", "4")], one, "\u{1}\0xy", Finish::Whole),
            (vec![audio, ("content-length", "5")], one, "\u{1}\0xy", Finish::Partial),
            (vec![audio, ("content-length", "5")], two, "\u{1}\0xy", Finish::Partial),
            (vec![audio], one, "xy", Finish::Partial),
            (vec![audio], two, "xy", Finish::Whole),
            (vec![audio, ("transfer-encoding", "chunked")], one, "xy", Finish::Whole),
            (vec![("content-type", "application/json")], two, r#"{"results":[]}"#, Finish::Whole),
            (vec![("content-type", "application/json")], two, r#"{"error":{"code":1}}"#, Finish::Failed),
            (vec![("content-type", "application/json")], two, r#"{"results":["#, Finish::Unknown),
            (
                vec![("content-type", "application/json")],
                two,
                r#"{"data":[{"b64_json":"AA"}]}"#,
                Finish::Whole,
            ),
            (
                vec![("content-type", "application/json")],
                two,
                r#"{"data":[{"url":"https://h/p"}]}"#,
                Finish::Unknown,
            ),
            (vec![("content-type", "text/event-stream")], two, "data: {}\n\n", Finish::Unknown),
        ] {
            let said = read_raw(&reply(&headers, version), body.as_bytes());
            assert_eq!(said.finish, want, "{headers:?} {body:?}");
        }
        assert!(!read_raw(&reply(&[("content-length", "0")], one), b"").is_good(), "nothing is no answer");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Two forms have one identity only if they have the same parts.
        #[test]
        fn forms_are_told_apart(
            one in prop::collection::vec("(a|--x|\r\n|--|y){0,6}", 1..4),
            other in prop::collection::vec("(a|--x|\r\n|--|y){0,6}", 1..4),
        ) {
            let texts = |parts: &[String]| parts.iter().map(|part| part.clone().into_bytes()).collect::<Vec<_>>();
            // A part with the boundary in it is two parts, whoever wrote it.
            prop_assume!(!one.iter().any(|part| part.contains("--x")));
            let (one, other) = (texts(&one), texts(&other));
            let of = |parts: &[Vec<u8>], boundary: &str| {
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                let call = form(boundary, &parts);
                RawIdentity::of(&call).map(|raw| raw.body.into_owned())
            };
            if let (Ok(a), Ok(b)) = (of(&one, "x"), of(&other, "boundary-2")) {
                prop_assert_eq!(a == b, one == other);
            }
        }
    }
}
