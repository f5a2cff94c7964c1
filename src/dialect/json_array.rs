//! One JSON array, read while its elements arrive.
//!
//! Gemini streams an answer as a JSON array unless it is asked for server-sent events: the bracket comes first, an
//! element every now and then, the closing bracket at the end. A reader must see each element when it is whole,
//! wherever the network cut, and must not keep the array. [`Elements`] keeps one unfinished element and no more.
//!
//! # Example
//! ```
//! use thrifty::dialect::json_array::Elements;
//!
//! let (mut seen, mut elements) = (Vec::new(), Elements::new());
//! for chunk in ["[{\"a\":", "\"]\"}\r\n", ",\r\n{\"b\":[1]}", "\r\n]"] {
//!     elements.push(chunk.as_bytes(), |element| seen.push(element.to_owned()))?;
//! }
//! assert_eq!(seen, [r#"{"a":"]"}"#, r#"{"b":[1]}"#]);
//! assert!(elements.is_closed());
//! # Ok::<(), thrifty::Error>(())
//! ```
//! # A smaller limit
//! ```
//! use thrifty::dialect::json_array::Elements;
//!
//! let (mut elements, mut seen) = (Elements::with_limit(8), 0);
//! assert!(elements.push(b"[\"far longer than eight bytes\", 1]", |_| seen += 1).is_err());
//! assert_eq!(seen, 1, "the element that fits is still read");
//! ```
//!
//! Brackets, commas and strings are followed, nothing more: whether an element is good JSON is for its reader to
//! find out. What cannot be an array at all is [broken](Elements::is_broken) and read no further.

use std::fmt;

use super::sse::Events;
use crate::Error;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// An incremental reader of one JSON array. See the [module docs](crate::dialect::json_array).
#[derive(Clone)]
pub struct Elements {
    limit: usize,
    /// The element that has begun and not ended; empty while it is skipped.
    held: Vec<u8>,
    at: At,
    /// Bytes of a byte order mark seen at the very start.
    marks: usize,
    /// Open brackets of the element, and where in a string it is.
    depth: usize,
    text: Text,
    /// The element is over the limit; its end is still looked for.
    skips: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the opening bracket.
    Start,
    /// After it: an element or the closing bracket.
    First,
    /// After a comma.
    Next,
    Element,
    /// After an element: a comma or the closing bracket.
    After,
    /// After the closing bracket.
    Closed,
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    /// After a backslash.
    Escape,
}

impl fmt::Debug for Elements {
    /// Sizes only: elements are part of an answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elements")
            .field("limit", &self.limit)
            .field("held", &self.held.len())
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Default for Elements {
    fn default() -> Self {
        Self::new()
    }
}

impl Elements {
    /// A reader at the start of a body, with the limit of [`Events::MAX_EVENT`] bytes for one element.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(Events::MAX_EVENT)
    }

    /// The same with this many bytes for one element.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, held: Vec::new(), at: At::Start, marks: 0, depth: 0, text: Text::Outside, skips: false }
    }

    /// Takes the next bytes and hands every element that ends in them to `each`, as it stands.
    ///
    /// # Errors
    /// [`Kind::BadInput`](crate::Kind::BadInput) when an element went over the limit: that one is left out, all other
    /// elements are handed on and the caller may go on. The same once when the bytes turn out to be no array.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&str)) -> Result<(), Error> {
        let (mut over, mut broke, mut at) = (false, false, 0);
        while let Some(&byte) = chunk.get(at) {
            if self.at == At::Element {
                let (len, ended) = self.scan(&chunk[at..]);
                over |= self.take(&chunk[at..at + len], ended, &mut each);
                broke |= self.at == At::Broken;
                at += len;
                continue;
            }
            at += 1;
            self.at = match (self.at, byte) {
                (At::Start, byte) if BOM.get(self.marks) == Some(&byte) => {
                    self.marks += 1;
                    At::Start
                }
                (At::Broken, _) => At::Broken,
                (At::Start, _) if !matches!(self.marks, 0 | 3) => {
                    broke = true;
                    At::Broken
                }
                (state, b' ' | b'\t' | b'\n' | b'\r') => {
                    // A byte order mark is one only at the very start.
                    if state == At::Start {
                        self.marks = BOM.len();
                    }
                    state
                }
                (At::Start, b'[') => At::First,
                (At::First | At::After, b']') => At::Closed,
                (At::After, b',') => At::Next,
                (At::First | At::Next, byte) if !matches!(byte, b',' | b']' | b'}' | b':') => {
                    // The element begins with this byte.
                    at -= 1;
                    At::Element
                }
                _ => {
                    broke = true;
                    At::Broken
                }
            };
        }
        if over {
            return Err(too_long(self.limit));
        }
        if broke { Err(no_array()) } else { Ok(()) }
    }

    /// True once the closing bracket has come, and nothing but white space after it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.at == At::Closed
    }

    /// True if the bytes so far are not the start of an array.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.at == At::Broken
    }

    /// How many of these bytes belong to the element, and whether it ends with them.
    fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, byte) in bytes.iter().enumerate() {
            match (self.text, byte) {
                (Text::Escape, _) => self.text = Text::Inside,
                (Text::Inside, b'\\') => self.text = Text::Escape,
                (Text::Inside, b'"') => {
                    self.text = Text::Outside;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                (Text::Inside, _) => {}
                (Text::Outside, b'"') => {
                    // A text that follows a bare word is no part of it.
                    if self.depth == 0 && (at > 0 || self.goes_on()) {
                        return (at, true);
                    }
                    self.text = Text::Inside;
                }
                (Text::Outside, b'{' | b'[') => {
                    if self.depth == 0 && (at > 0 || self.goes_on()) {
                        return (at, true);
                    }
                    self.depth += 1;
                }
                (Text::Outside, b'}' | b']') if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                // A number or a word ends in front of these.
                (Text::Outside, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r') if self.depth == 0 => {
                    return (at, true);
                }
                _ => {}
            }
        }
        (bytes.len(), false)
    }

    /// True if the element under way has begun in an earlier chunk.
    fn goes_on(&self) -> bool {
        self.skips || !self.held.is_empty()
    }

    /// Takes a piece of the element; true if that took it over the limit.
    fn take(&mut self, piece: &[u8], ended: bool, each: &mut impl FnMut(&str)) -> bool {
        let over = !self.skips && self.held.len() + piece.len() > self.limit;
        if over {
            self.skips = true;
            self.held = Vec::new();
        }
        if !ended {
            if !self.skips {
                self.held.extend_from_slice(piece);
            }
            return over;
        }
        self.at = At::After;
        if !self.skips {
            let mut held = std::mem::take(&mut self.held);
            let whole = if held.is_empty() {
                piece
            } else {
                held.extend_from_slice(piece);
                &held
            };
            match std::str::from_utf8(whole) {
                Ok(text) => each(text),
                Err(_) => self.at = At::Broken,
            }
            held.clear();
            self.held = held;
        }
        self.skips = false;
        over
    }
}

#[cold]
fn too_long(limit: usize) -> Error {
    Error::bad_input(
        format!("an element of a streamed array is longer than the limit of {limit} bytes"),
        "raise the limit, or go on without that element",
    )
}

#[cold]
fn no_array() -> Error {
    Error::bad_input("a streamed body is not one JSON array", "check which kind of stream was asked for")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// Elements, errors, and whether the array was closed.
    fn read(chunks: &[&[u8]], limit: usize) -> (Vec<String>, bool, bool) {
        let (mut seen, mut failed) = (Vec::new(), false);
        let mut elements = Elements::with_limit(limit);
        for chunk in chunks {
            failed |= elements.push(chunk, |element| seen.push(element.to_owned())).is_err();
            assert!(elements.held.len() <= limit, "no more than the limit is ever held");
        }
        (seen, failed, elements.is_closed())
    }

    #[test]
    fn elements_are_seen_when_they_are_whole() {
        let mut elements = Elements::new();
        let mut push = |text: &str| {
            let mut seen = Vec::new();
            elements.push(text.as_bytes(), |element| seen.push(element.to_owned())).unwrap();
            seen
        };
        assert_eq!(push("[{\"a\":1"), [""; 0]);
        assert_eq!(push("}"), ["{\"a\":1}"], "at its last byte, not at the next comma");
        assert_eq!(push("\r\n,\r\n{\"b\":\"}]\\\"\"},7"), ["{\"b\":\"}]\\\"\"}"]);
        assert_eq!(push("5 ]"), ["75"]);
        assert!(elements.is_closed());
    }

    #[test]
    fn what_is_no_array_is_broken_once() {
        for text in ["{}", "x[]", "[,1]", "[1,,2]", "[1 2]", "[1}", "[]]", "[1],", "[\"a\"\"b\"]", "[1\"a\"]"]
        {
            let (_, failed, closed) = read(&[text.as_bytes()], 99);
            assert!(failed && !closed, "{text}");
        }
        let mut elements = Elements::new();
        assert!(elements.push(b"x", |_| ()).is_err());
        assert!(
            elements.push(b"[1]", |_| panic!("nothing is read after that")).is_ok() && elements.is_broken()
        );
        for (text, count) in [("[]", 0), (" [ ] \n", 0), ("\u{FEFF}[1]", 1), ("[[1,[2]],{}]", 2)] {
            let (seen, failed, closed) = read(&[text.as_bytes()], 99);
            assert_eq!((seen.len(), failed, closed), (count, false, true), "{text}");
        }
        assert!(read(&[b"[\"\xff\"]"], 99).1, "bytes that are no UTF-8 are no JSON");
        assert!(!read(&[b"[1"], 99).2 && !read(&[b"[1,"], 99).2 && !read(&[b""], 99).2);
    }

    #[test]
    fn an_element_over_the_limit_is_an_error_and_the_next_one_is_read() {
        let text = format!("[\"{}\",{{\"a\":[\"{}\"]}},2]", "x".repeat(50), "]".repeat(50));
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        for chunks in [&bytes[..], &[text.as_bytes()]] {
            assert_eq!(read(chunks, 16), (vec!["2".to_owned()], true, true));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn any_split_gives_the_same_elements_as_none_and_as_another_reader(
            pieces in prop::collection::vec(prop_oneof![
                Just("["), Just("]"), Just("{"), Just("}"), Just(","), Just("\""), Just("\\\""), Just("{\"a\":[1,\"]\"]}"),
                Just("é€😀"), Just("\u{FEFF}"), Just("12"), Just("null"), Just(" "), Just("\r\n"), Just("\"x\\\\\""), Just(":"),
            ], 0..24),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            limit in 8usize..80,
            wrapped in any::<bool>(),
        ) {
            let text = if wrapped { format!("[{}]", pieces.join(",")) } else { pieces.concat() };
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&[bytes], limit), read(&chunks, limit));

            let (seen, _, closed) = read(&chunks, 1 << 20);
            match serde_json::from_str::<Vec<Box<RawValue>>>(&text) {
                Ok(theirs) => {
                    let theirs: Vec<&str> = theirs.iter().map(|raw| raw.get()).collect();
                    prop_assert!(closed);
                    prop_assert_eq!(seen, theirs);
                }
                Err(_) => {
                    let all_good = seen.iter().all(|raw| serde_json::from_str::<&RawValue>(raw).is_ok());
                    let marked = text.starts_with('\u{FEFF}');
                    prop_assert!(!closed || !all_good || marked, "{}", text);
                }
            }
        }
    }
}
