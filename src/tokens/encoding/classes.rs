//! What the encodings' patterns ask of a character, in one byte.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// May stand in the upper run of a word: Lu, Lt, Lm, Lo, M.
pub(super) const UPPER: u8 = 1;
/// May stand in the lower run of a word: Ll, Lm, Lo, M.
pub(super) const LOWER: u8 = 2;
/// A letter, L.
pub(super) const LETTER: u8 = 4;
/// A number, N.
pub(super) const NUMBER: u8 = 8;
/// White space.
pub(super) const SPACE: u8 = 16;
/// Carriage return or line feed; also [`SPACE`].
pub(super) const LINE: u8 = 32;
/// In [`BYTE`] alone: the byte belongs to a longer character, ask [`Classes`].
pub(super) const LONGER: u8 = 64;

/// Classes of the ASCII characters, by byte.
pub(super) const BYTE: [u8; 256] = {
    let mut table = [LONGER; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'A'..=b'Z' => UPPER | LETTER,
            b'a'..=b'z' => LOWER | LETTER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => SPACE | LINE,
            b'\t' | 0x0b | 0x0c | b' ' => SPACE,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// Code points of a block.
const BLOCK: usize = 64;
const LAST: usize = char::MAX as usize;

/// Classes of all characters, in two stages.
pub(super) struct Classes {
    /// Block number by code point / [`BLOCK`].
    stages: Vec<u16>,
    blocks: Vec<[u8; BLOCK]>,
}

impl Classes {
    /// The one table, made at the first call.
    pub(super) fn get() -> Option<&'static Self> {
        static CLASSES: OnceLock<Option<Classes>> = OnceLock::new();
        CLASSES.get_or_init(Self::new).as_ref()
    }

    /// From the Unicode tables of the pattern engine that `tiktoken-rs` uses, so that both are of one Unicode version.
    fn new() -> Option<Self> {
        let mut table = vec![0u8; (LAST + 1).next_multiple_of(BLOCK)];
        for (pattern, class) in [
            (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", UPPER),
            (r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", LOWER),
            (r"\p{L}", LETTER),
            (r"\p{N}", NUMBER),
            (r"\s", SPACE),
            (r"[\r\n]", LINE),
        ] {
            let parsed = regex_syntax::parse(pattern).ok()?;
            let HirKind::Class(Class::Unicode(ranges)) = parsed.kind() else { return None };
            for range in ranges.ranges() {
                for known in &mut table[range.start() as usize..=range.end() as usize] {
                    *known |= class;
                }
            }
        }
        let (mut stages, mut blocks) = (Vec::with_capacity(table.len() / BLOCK), Vec::<[u8; BLOCK]>::new());
        let mut known = HashMap::new();
        for block in table.chunks_exact(BLOCK) {
            let next = u16::try_from(blocks.len()).ok()?;
            let number = *known.entry(block).or_insert(next);
            if number == next {
                blocks.push(block.try_into().ok()?);
            }
            stages.push(number);
        }
        Some(Self { stages, blocks })
    }

    /// Class and length in bytes of the character at `at`, which is on a character border.
    #[inline]
    pub(super) fn at(&self, text: &[u8], at: usize) -> (u8, usize) {
        let first = text[at];
        if first < 0x80 {
            return (BYTE[first as usize], 1);
        }
        let (code, len) = decode(text, at);
        (self.of(code), len)
    }

    #[inline]
    fn of(&self, code: u32) -> u8 {
        let code = code as usize;
        match self.stages.get(code / BLOCK) {
            Some(&block) => self.blocks[block as usize][code % BLOCK],
            None => 0,
        }
    }
}

/// Code point and length in bytes of the character of more than one byte at `at`.
#[inline]
pub(super) fn decode(text: &[u8], at: usize) -> (u32, usize) {
    let low = |offset: usize| u32::from(text.get(at + offset).copied().unwrap_or(0) & 0x3f);
    let first = u32::from(text[at]);
    if first < 0xe0 {
        ((first & 0x1f) << 6 | low(1), 2)
    } else if first < 0xf0 {
        ((first & 0x0f) << 12 | low(1) << 6 | low(2), 3)
    } else {
        ((first & 0x07) << 18 | low(1) << 12 | low(2) << 6 | low(3), 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_agrees_with_the_unicode_tables_and_white_space_with_rust() {
        let classes = Classes::get().unwrap();
        for c in '\0'..=char::MAX {
            let mut buffer = [0; 4];
            let text = c.encode_utf8(&mut buffer).as_bytes();
            let (class, len) = classes.at(text, 0);
            assert_eq!((class, len), (classes.of(c as u32), c.len_utf8()), "{c:?}");
            assert_eq!(class & SPACE != 0, c.is_whitespace(), "{c:?}");
        }
    }
}
