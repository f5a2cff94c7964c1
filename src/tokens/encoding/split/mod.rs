//! Where the pieces of a text end: the encodings' published patterns, by hand.
//!
//! The patterns look ahead and never behind, so a piece's end depends on its start and what follows alone. Each
//! pattern is a [`Pattern`]; what they share is here. Words of ASCII letters are read eight bytes at a time.

mod cl100k;
mod o200k;
#[cfg(test)]
mod tests;

pub(super) use self::cl100k::Cl100k;
pub(super) use self::o200k::O200k;
use super::classes::{BYTE, Classes, LETTER, LINE, NUMBER, SPACE};

/// The pattern of an encoding.
pub(super) trait Pattern {
    /// End of the piece that starts at `at`: on a character border, below the length of `text`.
    fn end(classes: &Classes, text: &[u8], at: usize) -> usize;
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// The eight bytes at `at`, filled up with zeros at the end of the text.
#[inline]
fn load(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load_last(text, at),
    }
}

#[cold]
fn load_last(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    match text.last_chunk::<8>() {
        Some(chunk) if !rest.is_empty() => u64::from_le_bytes(*chunk) >> (8 * (8 - rest.len())),
        _ => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// The high bit of each byte that is an ASCII letter.
#[inline]
const fn letters(word: u64) -> u64 {
    let low = (word | (0x20 * ONES)) & !HIGH;
    let from_a = low + (0x80 - b'a' as u64) * ONES;
    let past_z = low + (0x7f - b'z' as u64) * ONES;
    from_a & !past_z & !word & HIGH
}

/// Number of bytes below the lowest high bit; 8 without one.
#[inline]
const fn first(bits: u64) -> usize {
    (bits.trailing_zeros() / 8) as usize
}

/// Length of a contraction at `at`, an apostrophe and one or two letters in any case; 0 without one.
#[inline]
fn contraction(text: &[u8], at: usize) -> usize {
    if text.get(at) != Some(&b'\'') {
        return 0;
    }
    match text.get(at + 1).copied().unwrap_or(0).to_ascii_lowercase() {
        b's' | b't' | b'm' | b'd' => 2,
        first => match (first, text.get(at + 2).copied().unwrap_or(0).to_ascii_lowercase()) {
            (b'l', b'l') | (b'v' | b'r', b'e') => 3,
            // The long s folds to an s.
            (0xc5, 0xbf) => 3,
            _ => 0,
        },
    }
}

/// One to three numbers, the first at `at`.
#[inline]
fn numbers(classes: &Classes, text: &[u8], at: usize) -> usize {
    let mut end = at;
    for _ in 0..3 {
        match text.get(end) {
            Some(_) => {
                let (class, len) = classes.at(text, end);
                if class & NUMBER == 0 {
                    break;
                }
                end += len;
            }
            None => break,
        }
    }
    end
}

/// Signs from `at` on: what is neither space nor letter nor number.
#[inline]
fn signs(classes: &Classes, text: &[u8], at: usize) -> usize {
    let mut end = at;
    while end < text.len() {
        let class = BYTE[text[end] as usize];
        if class == 0 {
            end += 1;
            continue;
        }
        let (class, len) = classes.at(text, end);
        if class & (SPACE | LETTER | NUMBER) != 0 {
            break;
        }
        end += len;
    }
    end
}

/// Bytes of `of` from `at` on.
#[inline]
fn trail(text: &[u8], at: usize, of: &[u8]) -> usize {
    let mut end = at;
    while text.get(end).is_some_and(|byte| of.contains(byte)) {
        end += 1;
    }
    end
}

/// The end of what stands at `at` if that is numbers, or signs with a space ahead and any of `behind` after them; none
/// for white space.
#[inline]
fn numbers_or_signs(classes: &Classes, text: &[u8], at: usize, behind: &[u8]) -> Option<usize> {
    let (class, len) = classes.at(text, at);
    if class & NUMBER != 0 {
        return Some(numbers(classes, text, at));
    }
    let from = if text[at] == b' ' { at + 1 } else { at };
    let end = signs(classes, text, from);
    if end > from {
        return Some(trail(text, end, behind));
    }
    // Not reached with anything but a space: what is no space, number or sign is a letter, and a word.
    (class & SPACE == 0).then_some(at + len)
}

/// A run of white space from `at` on.
struct White {
    end: usize,
    /// Where its last character starts.
    last: usize,
    /// End of its last line end; 0 without one.
    line: usize,
}

#[inline]
fn white(classes: &Classes, text: &[u8], at: usize) -> White {
    let mut run = White { end: at, last: at, line: 0 };
    while run.end < text.len() {
        // A word of nothing but spaces is zero here.
        let spaces = (load(text, run.end) ^ (0x20 * ONES)).trailing_zeros() as usize / 8;
        if spaces > 0 {
            run.end += spaces;
            run.last = run.end - 1;
            continue;
        }
        let (class, len) = classes.at(text, run.end);
        if class & SPACE == 0 {
            break;
        }
        run.last = run.end;
        run.end += len;
        if class & LINE != 0 {
            run.line = run.end;
        }
    }
    run
}
