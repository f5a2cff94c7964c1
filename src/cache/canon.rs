//! One spelling for every spelling of a JSON body.
//!
//! Clients write the same request differently: members in another order, `1.0` for `1`, `\u00e9` for `é`, spaces. A
//! key over the raw bytes would miss each time. The canonical form names what a body **says**: members sorted by the
//! UTF-8 bytes of their names, numbers as exact decimals, texts unescaped. Nothing is guessed: no default is filled
//! in, no text is trimmed or case-folded, no Unicode is normalised, the order of arrays stays.
//!
//! A body that readers may understand differently (a name twice, a lone surrogate, a number out of range) has no
//! canonical form. That is a [`Bypass`] with a word as reason, never an error.
//!
//! # Example
//! ```
//! use thrifty::cache::digest;
//!
//! let (a, b) = (br#"{"n":1,"s":"\u00e9"}"#, "{ \"s\": \"é\", \"n\": 1.0 }".as_bytes());
//! assert_eq!(digest(a, &[]), digest(b, &[]));
//! assert_ne!(digest(a, &[]), digest(br#"{"n":2,"s":"\u00e9"}"#, &[]));
//! ```
//! # Members that do not count, and where two bodies differ
//! ```
//! use thrifty::cache::{differences, digest};
//!
//! let (a, b) = (br#"{"user":"ann","top_p":1}"#, br#"{"user":"bob","top_p":0.5}"#);
//! assert_eq!(differences(a, b, &["user"]), Ok(vec!["/top_p".to_owned()]));
//! assert_eq!(digest(a, &["user"]), digest(br#"{"top_p":1e0}"#, &["user"]));
//! ```

mod differ;
mod plain;
mod tape;

use std::cell::Cell;

use self::tape::{Kind, Tape};
use super::key::Bypass;
use crate::call::Dialect;

pub use self::differ::differences;

/// Version of the canonical form. Part of every key: a change of form makes old entries unreachable, never wrong.
pub(super) const VERSION: u8 = 2;

/// Largest written exponent of a number whose digits have no trailing zeros.
const MAX_EXPONENT: i64 = 9999;

/// Unkeyed BLAKE3 hash of the canonical form of `body`, without the members that `excluded` names.
///
/// For comparing bodies and for golden vectors; the cache itself uses a keyed hash. A path is names joined by `/`,
/// `*` for each element of an array, and it ends in a name. At most 64 paths count.
///
/// # Errors
/// [`Bypass`] when the body has no canonical form.
pub fn digest(body: &[u8], excluded: &[&str]) -> Result<[u8; 32], Bypass> {
    let mut sink = Sink::unkeyed(body.len());
    let (tape, excluded) = (Tape::read(body)?, Paths::new(excluded));
    encode(&tape, &excluded, &mut sink)?;
    Ok(sink.finish())
}

/// Writes the canonical form of a request body, which is an object, to `sink`; what was written before an error is of
/// no use. Answers whether the body is [plain](plain::is_plain).
pub(super) fn encode_request(
    body: &[u8],
    dialect: Dialect,
    excluded: &Paths<'_>,
    sink: &mut Sink,
) -> Result<bool, Bypass> {
    let tape = Tape::read(body)?;
    if tape.nodes[0].kind != Kind::Object {
        return Err(Bypass("not-an-object"));
    }
    encode(&tape, excluded, sink)?;
    Ok(plain::is_plain(&tape, dialect))
}

fn encode(tape: &Tape<'_>, excluded: &Paths<'_>, sink: &mut Sink) -> Result<(), Bypass> {
    let mut walk = Walk { tape, excluded, members: Vec::with_capacity(32), sink };
    walk.value(0, excluded.all(), 0, false).map(drop)
}

mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const NUMBER: u8 = 3;
    pub(super) const TEXT: u8 = 4;
    pub(super) const ARRAY: u8 = 5;
    pub(super) const OBJECT: u8 = 6;
}

/// Gathers small writes and hashes them in large pieces, which is what makes a hash fast.
pub(super) struct Sink {
    key: Option<[u8; 32]>,
    /// Made when the first piece is full: it is large, and most transcripts are one piece.
    hasher: Option<Box<blake3::Hasher>>,
    buffer: Vec<u8>,
    /// The buffer is the thread's, to be given back.
    lent: bool,
}

thread_local! {
    /// The room of the last body of this thread, at most [`Sink::PIECE`] and a little.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Sink {
    const PIECE: usize = 64 << 10;

    /// A keyed hash of about `expected` bytes of a body; 0 for a few words.
    pub(super) fn keyed(key: &[u8; 32], expected: usize) -> Self {
        Self { key: Some(*key), ..Self::unkeyed(expected) }
    }

    pub(super) fn unkeyed(expected: usize) -> Self {
        let lent = expected > 0;
        let mut buffer = if lent { ROOM.try_with(Cell::take).unwrap_or_default() } else { Vec::new() };
        buffer.clear();
        buffer.reserve((expected + expected / 4 + 512).min(Self::PIECE));
        Self { key: None, hasher: None, buffer, lent }
    }

    #[inline]
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > Self::PIECE {
            self.spill(bytes);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        let hasher = self.hasher.get_or_insert_with(|| {
            Box::new(match &self.key {
                Some(key) => blake3::Hasher::new_keyed(key),
                None => blake3::Hasher::new(),
            })
        });
        hasher.update(&self.buffer);
        self.buffer.clear();
        if bytes.len() < Self::PIECE {
            self.buffer.extend_from_slice(bytes);
        } else {
            hasher.update(bytes);
        }
    }

    /// A tag and a count or length: one byte below 255, else 255 and eight bytes. A number has one spelling only, and
    /// none is the beginning of another's, so that what follows cannot be taken for part of it.
    #[inline]
    pub(super) fn head(&mut self, tag: u8, len: usize) {
        if len < 255 {
            return self.raw(&[tag, len as u8]);
        }
        let mut head = [tag; 10];
        head[1] = 255;
        head[2..].copy_from_slice(&(len as u64).to_le_bytes());
        self.raw(&head);
    }

    /// A tag, the length of `bytes`, and `bytes`: no two sequences of fields are written alike.
    #[inline]
    pub(super) fn field(&mut self, tag: u8, bytes: &[u8]) {
        // Most are names and words: one look at the room left is enough for both writes.
        if bytes.len() < 255 && self.buffer.capacity() - self.buffer.len() > 256 {
            self.buffer.extend_from_slice(&[tag, bytes.len() as u8]);
            self.buffer.extend_from_slice(bytes);
        } else {
            self.head(tag, bytes.len());
            self.raw(bytes);
        }
    }

    pub(super) fn finish(self) -> [u8; 32] {
        let hash = match (self.hasher, &self.key) {
            (Some(mut hasher), _) => hasher.update(&self.buffer).finalize(),
            (None, Some(key)) => blake3::keyed_hash(key, &self.buffer),
            (None, None) => blake3::hash(&self.buffer),
        };
        if self.lent {
            // A thread that ends keeps nothing.
            let _ = ROOM.try_with(|room| room.set(self.buffer));
        }
        *hash.as_bytes()
    }
}

/// Paths of members that do not count. Which of them still fit the place of a walk is one bit each.
pub(super) struct Paths<'a> {
    segments: Vec<&'a str>,
    spans: Vec<(u16, u16)>,
}

impl<'a> Paths<'a> {
    pub(super) const MOST: usize = 64;

    pub(super) fn new(paths: &[&'a str]) -> Self {
        let (mut segments, mut spans) = (Vec::new(), Vec::new());
        for path in paths.iter().take(Self::MOST) {
            let from = segments.len() as u16;
            segments.extend(path.split('/'));
            spans.push((from, segments.len() as u16));
        }
        Self { segments, spans }
    }

    fn all(&self) -> u64 {
        u64::MAX.checked_shr(64 - self.spans.len() as u32).unwrap_or(0)
    }

    /// Those of `open` that have `name` at `depth`, and whether one of them ends there.
    #[inline]
    fn step(&self, open: u64, depth: usize, name: &[u8]) -> (u64, bool) {
        let (mut bits, mut still, mut ends) = (open, 0, false);
        while bits != 0 {
            let path = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            let (from, to) = self.spans[path];
            let at = usize::from(from) + depth;
            if at < usize::from(to) && self.segments[at].as_bytes() == name {
                still |= 1 << path;
                ends |= at + 1 == usize::from(to);
            }
        }
        (still, ends)
    }
}

/// One member of an object on its way to being sorted.
#[derive(Clone, Copy)]
struct Member {
    /// The first eight bytes of the name; most names differ there.
    prefix: u64,
    name: u32,
    open: u64,
    excluded: bool,
}

/// Members of the object at `node`, pushed on `members` and sorted from where it ended.
///
/// A name twice is a [`Bypass`].
fn sorted(
    tape: &Tape<'_>,
    node: usize,
    excluded: &Paths<'_>,
    open: u64,
    depth: usize,
    members: &mut Vec<Member>,
) -> Result<(), Bypass> {
    let base = members.len();
    let mut at = node + 1;
    for _ in 0..tape.nodes[node].len {
        let name = tape.bytes(&tape.nodes[at]);
        // A member that happens to be named `*` is not what a path means by it.
        let (open, ends) =
            if open == 0 || name == b"*" { (0, false) } else { excluded.step(open, depth, name) };
        members.push(Member { prefix: prefix(name), name: at as u32, open, excluded: ends });
        at = tape.nodes[at + 1].next as usize;
    }
    let name = |member: &Member| tape.bytes(&tape.nodes[member.name as usize]);
    let order = |a: &Member, b: &Member| a.prefix.cmp(&b.prefix).then_with(|| name(a).cmp(name(b)));
    let own = &mut members[base..];
    own.sort_unstable_by(order);
    if own.windows(2).any(|pair| order(&pair[0], &pair[1]).is_eq()) {
        return Err(Bypass("duplicate-name"));
    }
    Ok(())
}

/// The first eight bytes, so that a comparison of numbers is one of bytes.
#[inline]
fn prefix(name: &[u8]) -> u64 {
    if let Some((first, _)) = name.split_first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut first = [0; 8];
    first[..name.len()].copy_from_slice(name);
    u64::from_be_bytes(first)
}

struct Walk<'a, 's> {
    tape: &'a Tape<'a>,
    excluded: &'a Paths<'a>,
    members: Vec<Member>,
    sink: &'s mut Sink,
}

impl Walk<'_, '_> {
    /// Writes the value at node `at` and answers the node behind it. `muted` looks for names that occur twice and
    /// writes nothing: a member that does not count must still be clear.
    fn value(&mut self, at: usize, open: u64, depth: usize, muted: bool) -> Result<usize, Bypass> {
        let tape = self.tape;
        let node = &tape.nodes[at];
        match node.kind {
            Kind::Array => {
                if !muted {
                    self.sink.head(tag::ARRAY, node.len as usize);
                }
                let open = if open == 0 { 0 } else { self.excluded.step(open, depth, b"*").0 };
                let mut item = at + 1;
                for _ in 0..node.len {
                    item = self.value(item, open, depth + 1, muted)?;
                }
            }
            Kind::Object => self.object(at, open, depth, muted)?,
            Kind::Number => {
                let number = Number::read(tape.bytes(node))?;
                if !muted {
                    number.write(self.sink);
                }
            }
            _ if muted => {}
            Kind::Null => self.sink.raw(&[tag::NULL]),
            Kind::False => self.sink.raw(&[tag::FALSE]),
            Kind::True => self.sink.raw(&[tag::TRUE]),
            Kind::Text | Kind::Unescaped => self.sink.field(tag::TEXT, tape.bytes(node)),
        }
        Ok(node.next as usize)
    }

    fn object(&mut self, at: usize, open: u64, depth: usize, muted: bool) -> Result<(), Bypass> {
        let base = self.members.len();
        sorted(self.tape, at, self.excluded, open, depth, &mut self.members)?;
        let end = self.members.len();
        if !muted {
            let count = self.members[base..].iter().filter(|member| !member.excluded).count();
            self.sink.head(tag::OBJECT, count);
        }
        for i in base..end {
            let member = self.members[i];
            let muted = muted || member.excluded;
            let name = member.name as usize;
            if !muted {
                self.sink.field(tag::TEXT, self.tape.bytes(&self.tape.nodes[name]));
            }
            self.value(name + 1, member.open, depth + 1, muted)?;
        }
        self.members.truncate(base);
        Ok(())
    }
}

/// A number as an exact decimal: its digits, without zeros at either end, times a power of ten.
///
/// The digits are the two parts put together; zero has none.
#[derive(Debug)]
struct Number<'a> {
    negative: bool,
    exponent: i32,
    digits: (&'a [u8], &'a [u8]),
}

impl<'a> Number<'a> {
    /// Reads a number that the tokenizer has let through.
    fn read(text: &'a [u8]) -> Result<Self, Bypass> {
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&text[..at], written_exponent(&text[at + 1..])),
            None => (text, 0),
        };
        let (int, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
            None => (mantissa, &[][..]),
        };
        let fraction = trim_end(fraction);
        let (mut int, mut exponent) = (trim_start(int), exponent - fraction.len() as i64);
        let mut rest = fraction;
        if fraction.is_empty() {
            let short = trim_end(int);
            exponent += (int.len() - short.len()) as i64;
            int = short;
        }
        if int.is_empty() {
            rest = trim_start(rest);
        }
        if int.is_empty() && rest.is_empty() {
            return Ok(Self { negative: false, exponent: 0, digits: (&[], &[]) });
        }
        if exponent.abs() > MAX_EXPONENT {
            return Err(Bypass("number-range"));
        }
        Ok(Self { negative, exponent: exponent as i32, digits: (int, rest) })
    }

    #[inline]
    fn write(&self, sink: &mut Sink) {
        let (int, rest) = self.digits;
        sink.head(tag::NUMBER, int.len() + rest.len());
        let mut head = [u8::from(self.negative); 5];
        head[1..].copy_from_slice(&self.exponent.to_le_bytes());
        sink.raw(&head);
        sink.raw(int);
        sink.raw(rest);
    }

    fn is(&self, other: &Self) -> bool {
        let digits = |of: &Self| of.digits.0.iter().chain(of.digits.1).copied().collect::<Vec<_>>();
        self.negative == other.negative && self.exponent == other.exponent && digits(self) == digits(other)
    }
}

/// The exponent as written; beyond nine digits it stands for out of range.
fn written_exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = trim_start(digits);
    let size = if digits.len() > 9 {
        i64::from(u32::MAX)
    } else {
        digits.iter().fold(0, |size, digit| size * 10 + i64::from(digit - b'0'))
    };
    if negative { -size } else { size }
}

fn trim_start(mut digits: &[u8]) -> &[u8] {
    while let [b'0', rest @ ..] = digits {
        digits = rest;
    }
    digits
}

fn trim_end(mut digits: &[u8]) -> &[u8] {
    while let [rest @ .., b'0'] = digits {
        digits = rest;
    }
    digits
}

#[cfg(test)]
mod tests;
