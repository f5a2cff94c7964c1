//! Pieces longer than any token, in linear time.
//!
//! Such a piece is read through windows. A row of tokens is what merging makes of its bytes exactly if each two
//! neighbours in it are what merging makes of theirs: until the first merge that crosses a border, both sides go
//! their way as if they were alone, so whether one ever does is between two neighbours only. Hence two windows, the
//! second of which starts at a border of the first, can be put together where both have the same next token: each
//! two neighbours then stand side by side in one of them. If they do not agree, the window grows.

use super::cache::Cache;
use super::merge::{SMALL, Small};
use super::vocabulary::{PADDING, Vocabulary};

/// Bytes of the first window. Larger ones cost more for each byte, smaller ones agree less often.
const WINDOW: usize = 128;
/// The last of so many parts of a window is unsure.
const TAIL: usize = 8;
/// Borders to hand over at that are tried before the window grows.
const TRIES: usize = 3;
/// Windows that agree before the window shrinks again.
const PATIENCE: usize = 4;
/// Memory for larger windows that is kept.
const KEPT: usize = 1 << 16;

/// Tokens of `piece`, or more than `limit` if there are more.
pub(super) fn count(vocabulary: &Vocabulary, cache: &mut Cache, piece: &[u8], limit: u64) -> u64 {
    let mut total = 0;
    walk(vocabulary, cache, piece, |_, ends| {
        total += ends.len() as u64;
        total <= limit
    });
    total
}

/// Tells `seen` where tokens end, some at a time: a place, and ends from there on; until it says no.
pub(super) fn walk(
    vocabulary: &Vocabulary,
    cache: &mut Cache,
    piece: &[u8],
    mut seen: impl FnMut(usize, &[u32]) -> bool,
) {
    let [mut here, mut next] = std::mem::take(&mut cache.borders);
    let (mut at, mut size, mut agreed) = (0, WINDOW, 0);
    merge(vocabulary, cache, window(piece, at, size), &mut here);
    'windows: while at + size < piece.len() {
        // The last tokens of a window are unsure; the first of those is where the next one starts.
        let sure = here.partition_point(|&border| border as usize <= size - size / TAIL) - 1;
        for token in (1..=sure.min(here.len() - 2)).rev().take(TRIES) {
            let (border, after) = (here[token] as usize, (here[token + 1] - here[token]));
            let (old, new) = (window(piece, at, size), window(piece, at + border, size));
            let same = old == new;
            if same {
                next.clone_from(&here);
            } else {
                merge(vocabulary, cache, new, &mut next);
            }
            if next.get(1) != Some(&after) {
                continue;
            }
            if !seen(at, &here[1..=token]) {
                break 'windows;
            }
            at += border;
            agreed += 1;
            if agreed > PATIENCE && size > WINDOW && !same {
                (agreed, size) = (0, size / 2);
                merge(vocabulary, cache, window(piece, at, size), &mut next);
            }
            std::mem::swap(&mut here, &mut next);
            continue 'windows;
        }
        (agreed, size) = (0, size * 2);
        merge(vocabulary, cache, window(piece, at, size), &mut here);
    }
    if size >= piece.len() - at {
        seen(at, &here[1..]);
    }
    cache.merge.shrink(KEPT);
    for borders in [&mut here, &mut next] {
        if borders.capacity() > KEPT {
            *borders = Vec::new();
        }
    }
    cache.borders = [here, next];
}

fn window(piece: &[u8], at: usize, size: usize) -> &[u8] {
    &piece[at..piece.len().min(at + size)]
}

fn merge(vocabulary: &Vocabulary, cache: &mut Cache, window: &[u8], borders: &mut Vec<u32>) {
    if window.len() > SMALL {
        return cache.merge.merge(vocabulary, window, borders);
    }
    let mut buffer = [0; SMALL + PADDING];
    buffer[..window.len()].copy_from_slice(window);
    borders.clear();
    borders.push(0);
    borders.extend(Small::<SMALL>::merge(vocabulary, &buffer, window.len()).borders());
}
