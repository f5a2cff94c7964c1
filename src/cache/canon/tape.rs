//! JSON text as a flat tape of values: one pass, no document, no allocation per value.

use std::cell::Cell;

use super::super::key::Bypass;
use crate::call::Doc;
use crate::call::json::MAX_DEPTH;

/// What a node of the tape is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    False,
    True,
    Number,
    /// Text that stands in the source as it is.
    Text,
    /// Text that had escapes; it stands unescaped in the arena.
    Unescaped,
    Array,
    Object,
}

/// One value. A container is followed by its items; an object by name, value, name, value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Where a number or text begins.
    start: u32,
    /// Length of a number or text in bytes; number of items or members of a container.
    pub(super) len: u32,
    /// The node behind this value and all it holds.
    pub(super) next: u32,
}

/// A JSON document as a list of nodes, the first of which is the whole.
pub(super) struct Tape<'a> {
    source: &'a [u8],
    at: usize,
    arena: Vec<u8>,
    pub(super) nodes: Vec<Node>,
}

thread_local! {
    /// The nodes of the last tape of this thread: places and lengths, none of its contents.
    static NODES: Cell<Vec<Node>> = const { Cell::new(Vec::new()) };
}

/// More nodes than these are not kept for the next tape: 256 KB.
const KEPT_NODES: usize = 16_384;

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        if self.nodes.capacity() <= KEPT_NODES {
            // A thread that ends keeps nothing.
            let _ = NODES.try_with(|nodes| nodes.set(std::mem::take(&mut self.nodes)));
        }
    }
}

impl<'a> Tape<'a> {
    /// Reads `source`, which must be exactly one JSON value.
    pub(super) fn read(source: &'a [u8]) -> Result<Self, Bypass> {
        // Offsets are kept in 32 bits, which the limit on the length leaves ample.
        if source.len() > Doc::MAX_BYTES {
            return Err(Bypass("too-large"));
        }
        if source.starts_with(b"\xef\xbb\xbf") {
            return Err(Bypass("byte-order-mark"));
        }
        if std::str::from_utf8(source).is_err() {
            return Err(Bypass("not-utf8"));
        }
        let mut nodes = NODES.try_with(Cell::take).unwrap_or_default();
        nodes.clear();
        nodes.reserve(source.len() / 12 + 16);
        let mut tape = Self { source, at: 0, arena: Vec::new(), nodes };
        tape.value(0)?;
        match tape.peek() {
            None => Ok(tape),
            Some(_) => Err(NOT_JSON),
        }
    }

    /// The bytes of a number as written, or of a text unescaped.
    pub(super) fn bytes(&self, node: &Node) -> &[u8] {
        let from = if node.kind == Kind::Unescaped { &self.arena[..] } else { self.source };
        &from[node.start as usize..][..node.len as usize]
    }

    /// The next byte that is not a space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.source.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    #[inline]
    fn push(&mut self, kind: Kind, start: usize, len: usize) {
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { kind, start: start as u32, len: len as u32, next });
    }

    fn value(&mut self, depth: usize) -> Result<(), Bypass> {
        match self.peek() {
            Some(b'"') => self.text(),
            Some(b'{') => self.container(depth, Kind::Object),
            Some(b'[') => self.container(depth, Kind::Array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Kind::True),
            Some(b'f') => self.word(b"false", Kind::False),
            Some(b'n') => self.word(b"null", Kind::Null),
            _ => Err(NOT_JSON),
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<(), Bypass> {
        if !self.source[self.at..].starts_with(word) {
            return Err(NOT_JSON);
        }
        self.at += word.len();
        self.push(kind, 0, 0);
        Ok(())
    }

    fn container(&mut self, depth: usize, kind: Kind) -> Result<(), Bypass> {
        if depth >= MAX_DEPTH {
            return Err(Bypass("too-deep"));
        }
        self.at += 1;
        let (me, mut count) = (self.nodes.len(), 0);
        let close = if kind == Kind::Object { b'}' } else { b']' };
        self.push(kind, 0, 0);
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            if kind == Kind::Object {
                if self.peek() != Some(b'"') {
                    return Err(NOT_JSON);
                }
                self.text()?;
                if self.peek() != Some(b':') {
                    return Err(NOT_JSON);
                }
                self.at += 1;
            }
            self.value(depth + 1)?;
            count += 1;
            let end = self.peek();
            self.at += 1;
            match end {
                Some(b',') => {}
                Some(byte) if byte == close => break,
                _ => return Err(NOT_JSON),
            }
        }
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[me];
        (node.len, node.next) = (count, next);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Bypass> {
        let start = self.at;
        if self.source[self.at] == b'-' {
            self.at += 1;
        }
        let first = self.at;
        let int = self.digits();
        if int == 0 || (int > 1 && self.source[first] == b'0') {
            return Err(NOT_JSON);
        }
        if self.source.get(self.at) == Some(&b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(NOT_JSON);
            }
        }
        if let Some(b'e' | b'E') = self.source.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.source.get(self.at) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(NOT_JSON);
            }
        }
        self.push(Kind::Number, start, self.at - start);
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let count = self.source[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    #[inline]
    fn text(&mut self) -> Result<(), Bypass> {
        self.at += 1;
        let start = self.at;
        let end = start + plain(&self.source[start..]);
        if self.source.get(end) == Some(&b'"') {
            self.at = end + 1;
            self.push(Kind::Text, start, end - start);
            return Ok(());
        }
        self.escaped_text(start, end)
    }

    /// The rest of a text with escapes; `end` is the first byte that is not plain.
    fn escaped_text(&mut self, mut start: usize, mut end: usize) -> Result<(), Bypass> {
        let source = self.source;
        let from = self.arena.len();
        loop {
            self.arena.extend_from_slice(&source[start..end]);
            match source.get(end) {
                Some(b'"') => break,
                Some(b'\\') => start = self.escape(end + 1)?,
                _ => return Err(NOT_JSON),
            }
            end = start + plain(&source[start..]);
        }
        self.at = end + 1;
        self.push(Kind::Unescaped, from, self.arena.len() - from);
        Ok(())
    }

    /// Unescapes what follows a backslash; answers where the text goes on.
    #[inline]
    fn escape(&mut self, at: usize) -> Result<usize, Bypass> {
        let byte = match self.source.get(at) {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'u') => return self.unicode(at + 1),
            _ => return Err(NOT_JSON),
        };
        self.arena.push(byte);
        Ok(at + 1)
    }

    fn unicode(&mut self, at: usize) -> Result<usize, Bypass> {
        let (mut code, mut next) = (self.hex(at)?, at + 4);
        if (0xd800..0xdc00).contains(&code) {
            if self.source.get(next..next + 2) != Some(b"\\u") {
                return Err(LONE);
            }
            let low = self.hex(next + 2)?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(LONE);
            }
            code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            next += 6;
        }
        let c = char::from_u32(code).ok_or(LONE)?;
        self.arena.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(next)
    }

    fn hex(&self, at: usize) -> Result<u32, Bypass> {
        let digits = self.source.get(at..at + 4).ok_or(NOT_JSON)?;
        digits.iter().try_fold(0, |code, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(NOT_JSON)?;
            Ok(code << 4 | digit)
        })
    }
}

const NOT_JSON: Bypass = Bypass("not-json");
const LONE: Bypass = Bypass("lone-surrogate");

/// Number of bytes before the first quote, backslash or control character.
#[inline]
fn plain(text: &[u8]) -> usize {
    let mut at = 0;
    // Names and words are short: 8 bytes at a time. Prose is long: 32 at a time, which compilers turn into vectors.
    for round in 0.. {
        if round >= 2 {
            while let Some((block, _)) = text[at..].split_first_chunk::<32>() {
                if block.iter().fold(false, |stop, byte| stop | is_special(*byte)) {
                    break;
                }
                at += 32;
            }
        }
        let Some((block, _)) = text[at..].split_first_chunk::<8>() else { break };
        let stops = specials(u64::from_le_bytes(*block));
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + text[at..].iter().position(|byte| is_special(*byte)).unwrap_or(text.len() - at)
}

#[inline]
fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// The high bit of each byte that is special. Bytes above the lowest hit may be marked by a borrow; the lowest is
/// exact, and only it is used.
#[inline]
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero(word ^ (ONES * b'"' as u64));
    let slash = zero(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | slash | control) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_stops_at_the_first_special_byte_wherever_it_is() {
        for len in 0..100 {
            for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                for around in [b'a', b' ', 0x7f, 0x80, 0xff, b'!', b'#'] {
                    let mut text = vec![around; len];
                    assert_eq!(plain(&text), len, "no special byte among {len} of {around}");
                    text.push(special);
                    text.extend([around, b'"', special]);
                    assert_eq!(plain(&text), len, "{special} behind {len} of {around}");
                }
            }
        }
    }
}
