//! Streams become documents, and documents become streams.
//!
//! One stored answer has to serve the caller that asked for a stream and the one that did not. What an API sends in
//! one form can be said in the other without loss: a document is its deltas joined, a stream is a document cut up.
//! What is not understood is not converted, since no conversion is better than a wrong one. All values that are not
//! joined are carried as the JSON text they came in, so no number is printed anew.
//!
//! # Example
//! ```
//! use thrifty::call::Dialect;
//!
//! let stream = br#"data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"El"},"finish_reason":null}]}
//!
//! data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"even"},"finish_reason":"stop"}]}
//!
//! data: [DONE]
//!
//! "#;
//! let document = Dialect::OpenAiChat.format().to_document(stream).expect("it is whole");
//! assert_eq!(document, r#"{"id":"c1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Eleven"},"finish_reason":"stop"}]}"#);
//! ```
//! # A stream with usage in it, and without
//! ```
//! use thrifty::call::Dialect;
//! use thrifty::dialect::StreamShape;
//!
//! let format = Dialect::OpenAiChat.format();
//! let document = br#"{"id":"c1","object":"chat.completion","choices":[{"index":0,
//!     "message":{"role":"assistant","content":"11"},"finish_reason":"stop"}],
//!     "usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}"#;
//! let frames = |usage| format.to_stream(document, StreamShape::with_usage(usage)).map(|frames| frames.len());
//! assert_eq!(frames(false), Some(4), "opening, text, finish, end marker");
//! assert_eq!(frames(true), Some(5), "and usage before the end marker");
//! ```

pub(super) mod anthropic;
pub(super) mod gemini;
pub(super) mod hide_usage;
pub(super) mod ollama;
pub(super) mod openai_chat;
pub(super) mod responses;
mod slots;
mod split;

use std::borrow::Cow;

use bytes::Bytes;

use self::slots::Slots;
use self::split::{pieces, pieces_by_token};
use super::sse::Events;
use crate::call::json::Object;

/// Hands every event of a whole stream to `each`. `None` as soon as that is `None`, and when the stream cannot be
/// read to its last byte.
fn read_events(stream: &[u8], mut each: impl FnMut(Option<&str>, &str) -> Option<()>) -> Option<()> {
    // The reader of events replaces what is no UTF-8; here that would change an answer.
    std::str::from_utf8(stream).ok()?;
    let (mut events, mut good, mut cut) = (Events::new(), true, false);
    events.push(stream, |event| good = good && each(event.name, &event.data).is_some()).ok()?;
    if !good {
        return None;
    }
    // An event that the end cut off comes to light when it is ended.
    events.push(b"\n\n", |_| cut = true).ok()?;
    (!cut).then_some(())
}

/// A document's text without the white space between its tokens, which would break lines of a stream.
fn compact(document: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(document).ok()?;
    Object::parse(text)?;
    let (mut out, mut kept, mut in_string, mut escaped) = (String::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if byte == b'"' {
            in_string = true;
        } else if byte.is_ascii_whitespace() {
            out.push_str(&text[kept..at]);
            kept = at + 1;
        }
    }
    if kept == 0 {
        return Some(Cow::Borrowed(text));
    }
    out.push_str(&text[kept..]);
    Some(Cow::Owned(out))
}

/// An event without a name.
fn event(data: &str) -> Bytes {
    format!("data: {data}\n\n").into()
}

/// An event with a name.
fn named(name: &str, data: &str) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// A JSON array of these texts.
fn array(elements: &[impl AsRef<str>]) -> String {
    let mut out = String::from("[");
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(element.as_ref());
    }
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_from_between_tokens_only() {
        let text = "{ \"a b\" : [ 1.0 ,\n\t\"x \\\" \\\\\" ] ,\r\n \"c\":{ } }";
        assert_eq!(compact(text.as_bytes()).as_deref(), Some(r#"{"a b":[1.0,"x \" \\"],"c":{}}"#));
        assert_eq!(compact(b"[1]"), None, "a document is an object");
        assert_eq!(compact(b"{\"a\":\"\xff\"}"), None);
    }

    #[test]
    fn a_stream_is_read_to_its_last_byte_or_not_at_all() {
        let read = |text: &[u8]| {
            let mut seen = Vec::new();
            read_events(text, |_, data| {
                seen.push(data.to_owned());
                Some(())
            })
            .map(|()| seen)
        };
        assert_eq!(read(b"data: 1\n\ndata: 2\r\n\r\n"), Some(vec!["1".to_owned(), "2".to_owned()]));
        for cut in
            [&b"data: 1\n\ndata: 2\n"[..], b"data: 1\n\ndata: 2", b"data: 1\n\ndata: 2\r", b"data: \xff\n\n"]
        {
            assert_eq!(read(cut), None);
        }
    }
}
