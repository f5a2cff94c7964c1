//! Server-sent events, read incrementally.
//!
//! Streamed replies are server-sent events, and a network cuts them anywhere: inside a UTF-8 sequence, between the
//! CR and the LF of one line end. A reader on the side of a stream must see the same events wherever the cuts are,
//! and must not keep the stream. [`Events`] keeps one unfinished event and no more.
//!
//! # Example
//! ```
//! use thrifty::dialect::sse::Events;
//!
//! let mut seen = Vec::new();
//! let mut events = Events::new();
//! for chunk in ["event: ping\nda", "ta: {}\r", "\n\r\n: a comment\n", "data: [DONE]\n\n"] {
//!     events.push(chunk.as_bytes(), |event| {
//!         seen.push((event.name.map(str::to_owned), event.data.into_owned()));
//!     })?;
//! }
//! assert_eq!(seen, [(Some("ping".into()), "{}".into()), (None, "[DONE]".into())]);
//! # Ok::<(), thrifty::Error>(())
//! ```
//! # A smaller limit
//! ```
//! use thrifty::dialect::sse::Events;
//!
//! let (mut events, mut seen) = (Events::with_limit(16), 0);
//! let long = b"data: far longer than sixteen bytes\n\ndata: short\n\n";
//! assert!(events.push(long, |_| seen += 1).is_err());
//! assert_eq!(seen, 1, "the event that fits is still read");
//! ```
//!
//! The rules are those of the WHATWG HTML standard, section 9.2 "Server-sent events": lines end in LF, CRLF or CR;
//! an empty line ends an event; several `data` lines are joined with LF; a line that begins with a colon is a
//! comment; one space after the first colon is dropped; a BOM at the very start is dropped; bytes that are no UTF-8
//! become U+FFFD; an event without a `data` line is none. An event that the end of the body cuts off is none either.

use std::borrow::Cow;
use std::fmt;

use crate::Error;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// An incremental reader of server-sent events. See the [module docs](crate::dialect::sse).
#[derive(Clone)]
pub struct Events {
    limit: usize,
    /// The line that has begun and not ended, without what is known to be skipped.
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    name: Vec<u8>,
    at_start: bool,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    skip: Skip,
}

/// An event over the limit is not kept; its end is still looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Skip {
    No,
    /// Within the event, at the start of a line.
    LineStart,
    /// Within the event, within a line.
    InLine,
}

/// One event.
#[derive(Clone)]
#[non_exhaustive]
pub struct Event<'a> {
    /// Its `event` field; `None` when there was none or it was empty.
    pub name: Option<&'a str>,
    /// Its `data` lines, joined with LF.
    pub data: Cow<'a, str>,
}

impl fmt::Debug for Event<'_> {
    /// The name and the size: the data is part of an answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("name", &self.name).field("bytes", &self.data.len()).finish()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("limit", &self.limit)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// Largest event by default, in bytes: 4 MiB, room for a picture in base64.
    pub const MAX_EVENT: usize = 4 << 20;

    /// A reader at the start of a body.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(Self::MAX_EVENT)
    }

    /// The same with this many bytes for one event, field names and name included.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: Vec::new(),
            at_start: true,
            after_cr: false,
            skip: Skip::No,
        }
    }

    /// Takes the next bytes and hands every event that ends in them to `each`.
    ///
    /// # Errors
    /// [`Kind::BadInput`](crate::Kind::BadInput) when an event went over the limit. That one is left out; all
    /// bytes are taken and all other events are handed on, so the caller may go on.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Event<'_>)) -> Result<(), Error> {
        let mut over = false;
        let mut rest = chunk;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            over |= self.end_line(&rest[..end], &mut each);
            let cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if cr {
                match rest.first() {
                    Some(b'\n') => rest = &rest[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
        }
        over |= self.keep(rest);
        if over { Err(too_long(self.limit)) } else { Ok(()) }
    }

    fn held(&self) -> usize {
        self.line.len() + self.data.len() + self.name.len()
    }

    /// Keeps the beginning of a line; true if that took the event over the limit.
    fn keep(&mut self, piece: &[u8]) -> bool {
        if piece.is_empty() {
            return false;
        }
        if self.skip != Skip::No {
            self.skip = Skip::InLine;
            return false;
        }
        if self.held() + piece.len() > self.limit {
            self.give_up(Skip::InLine);
            return true;
        }
        self.line.extend_from_slice(piece);
        false
    }

    /// Takes the last piece of a line; true if that took the event over the limit.
    fn end_line(&mut self, piece: &[u8], each: &mut impl FnMut(Event<'_>)) -> bool {
        match self.skip {
            Skip::No => {}
            Skip::LineStart if piece.is_empty() => {
                self.skip = Skip::No;
                return false;
            }
            Skip::LineStart | Skip::InLine => {
                self.skip = Skip::LineStart;
                return false;
            }
        }
        if self.held() + piece.len() > self.limit {
            self.give_up(Skip::LineStart);
            return true;
        }
        if self.line.is_empty() {
            self.take(piece, each);
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(piece);
            self.take(&line, each);
            line.clear();
            self.line = line;
        }
        false
    }

    fn take(&mut self, line: &[u8], each: &mut impl FnMut(Event<'_>)) {
        let line = if self.at_start { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        self.at_start = false;
        if line.is_empty() {
            if self.has_data {
                let name = text(&self.name);
                each(Event { name: Some(&*name).filter(|name| !name.is_empty()), data: text(&self.data) });
            }
            self.data.clear();
            self.name.clear();
            self.has_data = false;
            return;
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ => {}
        }
    }

    /// Lets go of all that is held of this event, memory included.
    #[cold]
    fn give_up(&mut self, skip: Skip) {
        self.line = Vec::new();
        self.data = Vec::new();
        self.name = Vec::new();
        self.has_data = false;
        self.at_start = false;
        self.skip = skip;
    }
}

/// Good UTF-8, nearly all there is, takes a tenth of the time of a search for bad.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

#[cold]
fn too_long(limit: usize) -> Error {
    Error::bad_input(
        format!("a server-sent event is longer than the limit of {limit} bytes"),
        "raise the limit, or go on without that event",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = Vec<(Option<String>, String)>;

    fn read(chunks: &[&[u8]], limit: usize) -> (Seen, usize) {
        let (mut seen, mut errors) = (Vec::new(), 0);
        let mut events = Events::with_limit(limit);
        for chunk in chunks {
            let each = |event: Event<'_>| seen.push((event.name.map(str::to_owned), event.data.into_owned()));
            errors += usize::from(events.push(chunk, each).is_err());
            assert!(events.held() <= limit, "no more than the limit is ever held");
        }
        (seen, errors)
    }

    fn data(text: &str) -> Vec<String> {
        read(&[text.as_bytes()], 1 << 20).0.into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn each_line_end_and_each_form_of_a_field_is_read() {
        for text in ["data: a\ndata: b\n\n", "data:a\r\ndata:b\r\n\r\n", "data: a\rdata: b\r\r"] {
            assert_eq!(data(text), ["a\nb"], "{text:?}");
        }
        assert_eq!(data("\u{FEFF}data: x\n\n"), ["x"], "a BOM at the start is dropped");
        assert_eq!(data("data: x\n\n\u{FEFF}data: y\n\n"), ["x"], "a BOM elsewhere is part of a name");
        assert_eq!(data("data:  x\n\n"), [" x"], "one space is dropped, not two");
        assert_eq!(data("data\n\n"), [""], "a field without a colon has an empty value");
        assert_eq!(data("data: a:b\n\n"), ["a:b"]);
        assert_eq!(data(": ping\n\nevent: x\n\nid: 1\nretry: 5\n\n"), [""; 0], "no data line, no event");
        assert_eq!(data("data: cut off\n"), [""; 0], "an event ends at an empty line");
        assert_eq!(data("\n\n\ndata: x\n\n\n\n"), ["x"]);
    }

    #[test]
    fn a_name_holds_for_one_event() {
        let (seen, _) = read(&[b"event: a\ndata: 1\n\ndata: 2\n\nevent:\ndata: 3\n\n"], 100);
        assert_eq!(
            seen,
            [(Some("a".to_owned()), "1".to_owned()), (None, "2".to_owned()), (None, "3".to_owned())]
        );
    }

    #[test]
    fn an_event_over_the_limit_is_an_error_and_the_next_one_is_read() {
        let long = format!("data: {}\ndata: more\n\ndata: next\n\n", "x".repeat(100));
        let (seen, errors) = read(&[long.as_bytes()], 64);
        assert_eq!((seen.len(), errors), (1, 1));
        assert_eq!(seen[0].1, "next");
        let endless = vec![b'x'; 1000];
        let chunks: Vec<&[u8]> = endless.chunks(7).collect();
        assert_eq!(read(&chunks, 64), (Vec::new(), 1), "an event without an end is one error");
        let lines = "data: 0123456789\n".repeat(50);
        assert_eq!(read(&[lines.as_bytes()], 64).1, 1, "many short lines are one event too");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_split_gives_the_same_events_as_none(
            pieces in prop::collection::vec(prop_oneof![
                Just("data: "), Just("data"), Just("event: e"), Just(":c"), Just("\n"), Just("\r"), Just("\r\n"),
                Just("\n\n"), Just("é€😀"), Just("\u{FEFF}"), Just("x"), Just(" "), Just("data:long long long long"),
            ], 0..60),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            limit in 8usize..80,
        ) {
            let text = pieces.concat();
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let (whole, whole_errors) = read(&[bytes], limit);
            let (split, split_errors) = read(&chunks, limit);
            prop_assert_eq!(whole, split);
            prop_assert_eq!(whole_errors > 0, split_errors > 0);
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let one: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read(&[&bytes], 64).0, read(&one, 64).0);
        }
    }
}
