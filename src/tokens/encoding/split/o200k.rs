//! The pattern of o200k: words end where an upper-case letter follows a lower-case one.

use super::{HIGH, Pattern, White, contraction, first, letters, load, numbers_or_signs, white};
use crate::tokens::encoding::classes::{BYTE, Classes, LETTER, LINE, LONGER, LOWER, NUMBER, UPPER};

pub(in crate::tokens::encoding) struct O200k;

impl Pattern for O200k {
    #[inline]
    fn end(classes: &Classes, text: &[u8], at: usize) -> usize {
        let class = BYTE[text[at] as usize];
        let prefix = usize::from(class & (LETTER | NUMBER | LINE | LONGER) == 0);
        let next = text.get(at + prefix).map_or(0, |&byte| BYTE[byte as usize]);
        if next & LETTER != 0 {
            let end = ascii_word(text, at + prefix);
            return match text.get(end) {
                Some(b'\'') => end + contraction(text, end),
                // An accent or a letter may follow.
                Some(0x80..) => word(classes, text, at).unwrap_or(end),
                _ => end,
            };
        }
        if (class | next) & LONGER != 0
            && let Some(end) = word(classes, text, at)
        {
            return end;
        }
        no_word(classes, text, at)
    }
}

/// End of the ASCII letters from `at` on, upper case before lower case.
#[inline]
fn ascii_word(text: &[u8], at: usize) -> usize {
    let (mut end, mut carry) = (at, 0);
    loop {
        let word = load(text, end);
        let letters = letters(word);
        // Bit 5 tells the cases apart.
        let upper = letters & (!word << 2);
        let lower = letters & !upper;
        let stop = (!letters & HIGH) | (upper & (lower << 8 | carry));
        end += first(stop);
        if stop != 0 {
            return end;
        }
        carry = lower >> 56;
    }
}

/// A word with its prefix or without, or `None` if none starts at `at`.
#[inline(never)]
fn word(classes: &Classes, text: &[u8], at: usize) -> Option<usize> {
    let (class, len) = classes.at(text, at);
    let after = (class & (LETTER | NUMBER | LINE) == 0).then_some(at + len);
    let with = after.map(|at| Runs::of(classes, text, at));
    let without = Runs::of(classes, text, at);
    // The pattern's first rule asks for a lower run, with the prefix and then without; the second for an upper one.
    let end = with
        .as_ref()
        .and_then(|runs| runs.lower)
        .or(without.lower)
        .or_else(|| with.and_then(|runs| runs.upper))
        .or(without.upper)?;
    Some(end + contraction(text, end))
}

/// What could be a word at one place.
struct Runs {
    /// End of an upper run that may be empty and a lower run that is not.
    lower: Option<usize>,
    /// End of an upper run that is not empty.
    upper: Option<usize>,
}

impl Runs {
    fn of(classes: &Classes, text: &[u8], at: usize) -> Self {
        let (mut end, mut both) = (at, None);
        while end < text.len() {
            let (class, len) = classes.at(text, end);
            if class & UPPER == 0 {
                break;
            }
            end += len;
            if class & LOWER != 0 {
                both = Some(end);
            }
        }
        let upper = (end > at).then_some(end);
        let mut low = end;
        while low < text.len() {
            let (class, len) = classes.at(text, low);
            if class & LOWER == 0 {
                break;
            }
            low += len;
        }
        // Without a lower run the upper one gives back what it must: up to a character that may stand in both.
        Self { lower: if low > end { Some(low) } else { both }, upper }
    }
}

#[inline]
fn no_word(classes: &Classes, text: &[u8], at: usize) -> usize {
    if let Some(end) = numbers_or_signs(classes, text, at, b"\r\n/") {
        return end;
    }
    match white(classes, text, at) {
        White { line: line @ 1.., .. } => line,
        White { end, .. } if end == text.len() => end,
        White { end, last, .. } if last == at => end,
        White { last, .. } => last,
    }
}
