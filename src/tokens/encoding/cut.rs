//! Where a long piece may be cut, because no token joins what stands there.
//!
//! If no token holds the characters `a` and `b` side by side, no merge ever crosses from one to the other, so the
//! parts of a piece on both sides can be counted apart, and remembered apart. Chinese and Japanese text, which comes
//! in pieces of whole clauses, falls into parts of one or two characters. A false answer of the filter only means
//! that a piece stays whole where it could have been cut.

use super::classes::decode;
use super::vocabulary::Tokens;

/// Log 2 of the bits for pairs of characters.
const PAIRS: u32 = 19;

pub(super) struct Joins {
    /// Pairs of characters that are side by side in a token, hashed.
    pairs: Vec<u64>,
    /// The last byte of a character and the first of the next, where a token holds only a part of one of them.
    broken: Vec<u64>,
}

impl Joins {
    pub(super) fn of(tokens: &Tokens) -> Self {
        let mut new = Self { pairs: vec![0; 1 << (PAIRS - 6)], broken: vec![0; 1 << 10] };
        for token in tokens.iter() {
            new.add(token);
        }
        new
    }

    fn add(&mut self, token: &[u8]) {
        // The character that ends at `at`, if the token holds all of it.
        let mut left = None;
        let mut at = 0;
        while at < token.len() {
            let whole = whole(token, at);
            let starts = token[at] & 0xc0 != 0x80;
            if at > 0 && starts {
                let bit = match (left, whole) {
                    (Some(left), Some((right, _))) => {
                        let bit = pair(left, right);
                        self.pairs[bit / 64] |= 1 << (bit % 64);
                        None
                    }
                    _ => Some(bytes(token[at - 1], token[at])),
                };
                if let Some(bit) = bit {
                    self.broken[bit / 64] |= 1 << (bit % 64);
                }
            }
            match whole {
                Some((code, len)) => {
                    left = Some(code);
                    at += len;
                }
                None => {
                    left = None;
                    at += 1;
                }
            }
        }
    }

    /// True if a token may cross from the character `left`, the last byte of which is at `at - 1`, to `right` at `at`.
    #[inline]
    fn joined(&self, text: &[u8], at: usize, left: u32, right: u32) -> bool {
        let (pair, broken) = (pair(left, right), bytes(text[at - 1], text[at]));
        let bits = self.pairs[pair / 64] >> (pair % 64) | self.broken[broken / 64] >> (broken % 64);
        bits & 1 != 0
    }

    /// End of the part that starts at `at` in a text that ends at `end`.
    #[inline]
    pub(super) fn part(&self, text: &[u8], at: usize, end: usize) -> usize {
        let (mut left, mut len) = code(text, at);
        let mut at = at + len;
        while at < end {
            let right;
            (right, len) = code(text, at);
            if !self.joined(text, at, left, right) {
                return at;
            }
            left = right;
            at += len;
        }
        end
    }
}

/// True if the piece is of a script whose characters have three bytes or more, a prefix aside.
#[inline]
pub(super) fn is_wide(piece: &[u8]) -> bool {
    piece.len() > 6 && (piece[0] >= 0xe0 || (piece[0] < 0x80 && piece[1] >= 0xe0))
}

#[inline]
fn code(text: &[u8], at: usize) -> (u32, usize) {
    if text[at] < 0x80 { (u32::from(text[at]), 1) } else { decode(text, at) }
}

/// The character at `at` and its length, if all of it is there.
fn whole(token: &[u8], at: usize) -> Option<(u32, usize)> {
    let len = match token[at] {
        0..0x80 => 1,
        0x80..0xc0 => return None,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    let followed = token.get(at + 1..at + len)?.iter().all(|byte| byte & 0xc0 == 0x80);
    followed.then(|| code(token, at))
}

#[inline]
fn pair(left: u32, right: u32) -> usize {
    let both = (u64::from(left) << 32 | u64::from(right)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((both ^ both << 31) >> (64 - PAIRS)) as usize
}

#[inline]
fn bytes(last: u8, first: u8) -> usize {
    usize::from(last) << 8 | usize::from(first)
}
