//! Byte pair merging: the tokens of one piece.
//!
//! The rule of these encodings: of all neighbours whose joined bytes are a token, join those of the lowest rank, the
//! leftmost first, until none are left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::vocabulary::{NONE, PADDING, Vocabulary};

/// Longest piece that [`Small`] merges.
pub(super) const SMALL: usize = 128;

/// A join as one number: its rank above the [`PLACE`] bits of where its left part starts. The least one is next.
const PLACE: u32 = 7;
/// No join; above all of them.
const NO_JOIN: i32 = i32::MAX;

/// Merges a piece of up to `LEAVES` bytes, a power of two and at most [`SMALL`], on the stack.
pub(super) struct Small<const LEAVES: usize> {
    /// By start of a part: its end.
    ends: [u8; LEAVES],
    parts: usize,
}

impl<const LEAVES: usize> Small<LEAVES> {
    /// Merges `buffer[..len]`, of at least one byte, with padding behind.
    #[inline]
    pub(super) fn merge(vocabulary: &Vocabulary, buffer: &[u8], len: usize) -> Self {
        let mut ends = [0u8; LEAVES];
        let mut before = [0u8; LEAVES];
        let mut joins = Tree::<LEAVES>::new();
        let number = |rank: u32, start: usize| {
            if rank == NONE { NO_JOIN } else { (rank << PLACE | start as u32) as i32 }
        };
        for at in 0..len {
            ends[at] = at as u8 + 1;
            before[at] = (at as u8).wrapping_sub(1);
        }
        for at in 0..len - 1 {
            *joins.leaf(at) = number(vocabulary.pair(buffer[at], buffer[at + 1]), at);
        }
        joins.grow();
        let mut parts = len;
        loop {
            let next = joins.least();
            if next == NO_JOIN {
                return Self { ends, parts };
            }
            // The part at `at` takes in the next one.
            let at = next as usize & (SMALL - 1);
            let taken = ends[at] as usize;
            let end = ends[taken] as usize;
            ends[at] = end as u8;
            parts -= 1;
            joins.set(taken, NO_JOIN);
            let mut join = NO_JOIN;
            if end < len {
                before[end] = at as u8;
                join = number(vocabulary.join(buffer, at, ends[end] as usize), at);
            }
            joins.set(at, join);
            if at > 0 {
                let ahead = before[at] as usize;
                joins.set(ahead, number(vocabulary.join(buffer, ahead, end), ahead));
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.parts
    }

    /// Where the parts end.
    pub(super) fn borders(&self) -> impl Iterator<Item = u32> {
        let mut at = 0;
        (0..self.parts).map(move |_| {
            at = self.ends[at] as usize;
            at as u32
        })
    }
}

/// Numbers, and at each node above two of them the lesser.
///
/// A number that changes is compared on its way up with one neighbour at each level, without a branch.
struct Tree<const LEAVES: usize> {
    /// By node from 1 on: its two children, which are nodes or, from `LEAVES / 2` on, leaves.
    nodes: [[i32; 2]; LEAVES],
}

impl<const LEAVES: usize> Tree<LEAVES> {
    fn new() -> Self {
        Self { nodes: [[NO_JOIN; 2]; LEAVES] }
    }

    fn leaf(&mut self, at: usize) -> &mut i32 {
        &mut self.nodes[(LEAVES + at) / 2][at % 2]
    }

    /// Makes all nodes after their leaves.
    fn grow(&mut self) {
        for node in (2..LEAVES).rev() {
            let [left, right] = self.nodes[node];
            self.nodes[node / 2][node % 2] = left.min(right);
        }
    }

    #[inline]
    fn set(&mut self, at: usize, number: i32) {
        let (mut node, mut number) = (LEAVES + at, number);
        while node > 1 {
            let side = node % 2;
            let children = &mut self.nodes[node / 2 % LEAVES];
            children[side] = number;
            number = number.min(children[1 - side]);
            node /= 2;
        }
    }

    #[inline]
    fn least(&self) -> i32 {
        let [left, right] = self.nodes[1];
        left.min(right)
    }
}

/// Merges longer pieces, with memory that is kept from one to the next.
#[derive(Default)]
pub(super) struct Large {
    /// The piece, padded.
    buffer: Vec<u8>,
    /// By start of a part: its end, and the start of the part ahead.
    ends: Vec<u32>,
    before: Vec<u32>,
    /// By start of a part: the rank of its join with the next, or [`NONE`].
    ranks: Vec<u32>,
    /// `rank << 32 | start`, least first; stale ones differ from `ranks`.
    heap: BinaryHeap<Reverse<u64>>,
}

impl Large {
    /// The borders of the tokens of `piece`, from 0 to its length, into `borders`.
    pub(super) fn merge(&mut self, vocabulary: &Vocabulary, piece: &[u8], borders: &mut Vec<u32>) {
        let len = piece.len();
        self.buffer.clear();
        self.buffer.extend_from_slice(piece);
        self.buffer.extend_from_slice(&[0; PADDING]);
        self.ends.clear();
        self.ends.extend(1..=len as u32);
        self.before.clear();
        self.before.extend((0..len as u32).map(|at| at.wrapping_sub(1)));
        self.ranks.clear();
        self.ranks.extend((0..len).map(|at| {
            if at + 1 < len { vocabulary.pair(self.buffer[at], self.buffer[at + 1]) } else { NONE }
        }));
        let mut joins = std::mem::take(&mut self.heap).into_vec();
        joins.clear();
        joins.extend(
            self.ranks
                .iter()
                .enumerate()
                .filter(|(_, rank)| **rank != NONE)
                .map(|(at, &rank)| Reverse(u64::from(rank) << 32 | at as u64)),
        );
        self.heap = BinaryHeap::from(joins);
        while let Some(Reverse(join)) = self.heap.pop() {
            let (rank, at) = ((join >> 32) as u32, join as u32 as usize);
            if self.ranks[at] != rank {
                continue;
            }
            let next = self.ends[at] as usize;
            let end = self.ends[next];
            self.ends[at] = end;
            self.ranks[next] = NONE;
            if (end as usize) < len {
                self.before[end as usize] = at as u32;
            }
            self.rank_join(vocabulary, at, len);
            if at > 0 {
                self.rank_join(vocabulary, self.before[at] as usize, len);
            }
        }
        borders.clear();
        let mut at = 0;
        borders.push(0);
        while at < len {
            borders.push(self.ends[at]);
            at = self.ends[at] as usize;
        }
    }

    fn rank_join(&mut self, vocabulary: &Vocabulary, at: usize, len: usize) {
        let next = self.ends[at] as usize;
        self.ranks[at] =
            if next < len { vocabulary.join(&self.buffer, at, self.ends[next] as usize) } else { NONE };
        if self.ranks[at] != NONE {
            self.heap.push(Reverse(u64::from(self.ranks[at]) << 32 | at as u64));
        }
    }

    /// Lets go of memory beyond `bytes` of piece.
    pub(super) fn shrink(&mut self, bytes: usize) {
        if self.buffer.capacity() > bytes {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::encoding::vocabulary::Tokens;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn both_ways_of_merging_agree(piece in "([a-e ]{1,20}|[\\PC\u{4e00}-\u{4e20}]{1,10}|=*| *){1,6}") {
            static VOCABULARY: std::sync::OnceLock<Vocabulary> = std::sync::OnceLock::new();
            let vocabulary = VOCABULARY.get_or_init(|| {
                Vocabulary::of(&Tokens::read(tiktoken_rs::cl100k_base_singleton()).unwrap())
            });
            let piece = &piece.as_bytes()[..piece.len().min(SMALL)];
            prop_assume!(!piece.is_empty());
            let mut buffer = [0; SMALL + PADDING];
            buffer[..piece.len()].copy_from_slice(piece);
            let small: Vec<u32> = Small::<SMALL>::merge(vocabulary, &buffer, piece.len()).borders().collect();
            let mut borders = Vec::new();
            Large::default().merge(vocabulary, piece, &mut borders);
            prop_assert_eq!(&borders[1..], &small);
        }
    }
}
