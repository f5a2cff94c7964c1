//! The pattern of cl100k: words are letters of any case, a contraction is a piece of its own.

use super::{HIGH, Pattern, White, contraction, first, letters, load, numbers_or_signs, white};
use crate::tokens::encoding::classes::{BYTE, Classes, LETTER, LINE, LONGER, NUMBER};

pub(in crate::tokens::encoding) struct Cl100k;

impl Pattern for Cl100k {
    #[inline]
    fn end(classes: &Classes, text: &[u8], at: usize) -> usize {
        let class = BYTE[text[at] as usize];
        let prefix = usize::from(class & (LETTER | NUMBER | LINE | LONGER) == 0);
        let next = text.get(at + prefix).map_or(0, |&byte| BYTE[byte as usize]);
        if text[at] == b'\'' {
            let len = contraction(text, at);
            if len > 0 {
                return at + len;
            }
        }
        if next & LETTER != 0 {
            let end = ascii_word(text, at + prefix);
            return match text.get(end) {
                Some(0x80..) => run(classes, text, end),
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

/// End of the ASCII letters from `at` on.
#[inline]
fn ascii_word(text: &[u8], at: usize) -> usize {
    let mut end = at;
    loop {
        let stop = !letters(load(text, end)) & HIGH;
        end += first(stop);
        if stop != 0 {
            return end;
        }
    }
}

/// End of the letters from `at` on.
#[inline(never)]
fn run(classes: &Classes, text: &[u8], at: usize) -> usize {
    let mut end = at;
    while end < text.len() {
        let (class, len) = classes.at(text, end);
        if class & LETTER == 0 {
            break;
        }
        end += len;
    }
    end
}

fn word(classes: &Classes, text: &[u8], at: usize) -> Option<usize> {
    let (class, len) = classes.at(text, at);
    let from = if class & (LETTER | NUMBER | LINE) == 0 { at + len } else { at };
    let end = run(classes, text, from);
    (end > from).then_some(end)
}

#[inline]
fn no_word(classes: &Classes, text: &[u8], at: usize) -> usize {
    if let Some(end) = numbers_or_signs(classes, text, at, b"\r\n") {
        return end;
    }
    match white(classes, text, at) {
        White { end, .. } if end == text.len() => end,
        White { line: line @ 1.., .. } => line,
        White { end, last, .. } if last == at => end,
        White { last, .. } => last,
    }
}
