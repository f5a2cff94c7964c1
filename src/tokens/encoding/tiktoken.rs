//! Counting with the `tiktoken-rs` crate, guarded against what breaks it: in the encodings before cl100k, and where
//! the [`engine`](super::engine) cannot be had.
//!
//! Its pattern engine runs out of stack on a white-space run of a million characters, and slows down long before.
//! Such a run is one piece of the encoding's pattern with borders that can be told without it, so it is counted
//! apart. Texts without a long run, nearly all, go through untouched.

use std::collections::HashSet;

use tiktoken_rs::CoreBPE;

use super::Encoding;

/// White-space runs of more characters than this are counted apart.
const LONG_RUN: usize = 4096;
/// Length of the longest token of spaces, in both encodings that have one.
const SPACES: usize = 128;
/// Above this many spaces each further [`SPACES`] add one token.
const SETTLED: usize = 8 * SPACES;

/// Tokens of `text` as ordinary text; `None` when the pattern engine gave up.
pub(super) fn count(encoding: Encoding, text: &str) -> Option<u64> {
    if text.len() <= LONG_RUN {
        return plain(encoding, text);
    }
    let (mut total, mut rest) = (0, text);
    while let Some((start, end)) = long_piece(encoding, rest) {
        total += plain(encoding, &rest[..start])? + white(encoding, &rest[start..end])?;
        // The pattern looks ahead and never behind, so what follows a border splits as it did before.
        rest = &rest[end..];
    }
    Some(total + plain(encoding, rest)?)
}

fn core(encoding: Encoding) -> &'static CoreBPE {
    match encoding {
        // Harmony differs in its special tokens alone.
        Encoding::O200kBase | Encoding::O200kHarmony => tiktoken_rs::o200k_base_singleton(),
        Encoding::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        Encoding::P50kBase => tiktoken_rs::p50k_base_singleton(),
        Encoding::P50kEdit => tiktoken_rs::p50k_edit_singleton(),
        Encoding::R50kBase => tiktoken_rs::r50k_base_singleton(),
    }
}

/// Only `encode` reports trouble; the crate's other methods unwrap it.
fn plain(encoding: Encoding, text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let (tokens, _) = core(encoding).encode(text, &HashSet::new()).ok()?;
    Some(tokens.len() as u64)
}

/// A piece of white space alone.
fn white(encoding: Encoding, piece: &str) -> Option<u64> {
    let n = piece.len();
    let settles = matches!(encoding, Encoding::O200kBase | Encoding::O200kHarmony | Encoding::Cl100kBase);
    if settles && n > 2 * SETTLED && piece.bytes().all(|byte| byte == b' ') {
        let short = SETTLED + (n - SETTLED) % SPACES;
        return Some(plain(encoding, &piece[..short])? + ((n - short) / SPACES) as u64);
    }
    plain(encoding, piece)
}

/// Byte range of the first white-space piece of over [`LONG_RUN`] characters.
///
/// In the o200k and cl100k patterns line ends close a piece, so such a piece holds none: it starts after the last
/// line end of its run, or where the run starts. In the older patterns it is the run. Its last character belongs
/// to what follows, if anything does.
fn long_piece(encoding: Encoding, text: &str) -> Option<(usize, usize)> {
    let lines_close = matches!(encoding, Encoding::O200kBase | Encoding::O200kHarmony | Encoding::Cl100kBase);
    let (mut start, mut chars, mut last) = (0, 0, 0);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() && !(lines_close && matches!(c, '\r' | '\n')) {
            if chars == 0 {
                start = at;
            }
            (chars, last) = (chars + 1, at);
        } else {
            // A line end later in the same run draws the spaces ahead of it into its own piece.
            if chars > LONG_RUN && !c.is_whitespace() {
                return Some((start, last));
            }
            chars = 0;
        }
    }
    (chars > LONG_RUN).then_some((start, text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LARGE: [Encoding; 2] = [Encoding::O200kBase, Encoding::Cl100kBase];

    #[test]
    fn counting_a_long_white_space_piece_apart_changes_nothing() {
        let run = " \t".repeat(LONG_RUN);
        for encoding in Encoding::ALL {
            for (head, tail) in [
                ("", ""),
                ("", "x"),
                ("a", " \u{a0}x"),
                ("!", "\t!"),
                ("!\n\n", "\n!"),
                (" \n", "\n"),
                ("a \r\n", "'s"),
                ("é\n", "\u{3000}7"),
                ("!\u{301}", "\u{301}b"),
                ("/\n", "/"),
            ] {
                let text = format!("{head}{run}{tail}");
                assert_eq!(count(encoding, &text), plain(encoding, &text), "{encoding} {head:?} {tail:?}");
            }
        }
    }

    #[test]
    fn spaces_repeat_after_the_longest_token() {
        for encoding in LARGE {
            for n in 2 * SETTLED + 1..2 * SETTLED + SPACES + 2 {
                let text = " ".repeat(n);
                assert_eq!(white(encoding, &text), plain(encoding, &text), "{encoding}, {n} spaces");
            }
            let text = " ".repeat(100_003);
            assert_eq!(white(encoding, &text), plain(encoding, &text));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_neighbours_of_a_long_run_keep_the_count(
            head in "[a!/'\u{301}\u{a0} \t\r\n]{0,5}",
            tail in "[a!/'\u{301}\u{a0} \t\r\n]{0,5}",
            kind in "[ \t\u{a0}]{1,3}",
        ) {
            let text = format!("{head}{}{tail}", kind.repeat(LONG_RUN + 1));
            for encoding in [Encoding::O200kBase, Encoding::Cl100kBase, Encoding::P50kBase] {
                prop_assert_eq!(count(encoding, &text), plain(encoding, &text), "{} {:?} {:?}", encoding, &head, &tail);
            }
        }
    }
}
