//! Byte pair merging: the tokens of one piece.
//!
//! The rule of these encodings: of all neighbours whose joined bytes are a token, join those of the lowest rank, the
//! leftmost first, until none are left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::vocabulary::{NONE, PADDING, Vocabulary};

/// Pieces of up to this many bytes are merged in arrays on the stack.
pub(super) const SMALL: usize = 128;

/// Borders of the tokens of a piece.
pub(super) struct Small {
    /// Where each part starts, and the end behind the last.
    starts: [u8; SMALL + 1],
    parts: usize,
}

impl Small {
    /// Merges `buffer[..len]`, of 1 to [`SMALL`] bytes with padding behind.
    #[inline]
    pub(super) fn merge(vocabulary: &Vocabulary, buffer: &[u8], len: usize) -> Self {
        let mut starts = [0u8; SMALL + 1];
        let mut ranks = [NONE; SMALL];
        for (at, start) in starts[..=len].iter_mut().enumerate() {
            *start = at as u8;
        }
        let (mut least, mut place) = (NONE, 0);
        for (at, rank) in ranks[..len - 1].iter_mut().enumerate() {
            *rank = vocabulary.rank(buffer, at, at + 2);
            if *rank < least {
                (least, place) = (*rank, at);
            }
        }
        let mut parts = len;
        while least != NONE {
            // The parts at `place` and behind it become one.
            starts.copy_within(place + 2..=parts, place + 1);
            ranks.copy_within(place + 1..parts - 1, place);
            parts -= 1;
            let join = |at: usize| vocabulary.rank(buffer, starts[at] as usize, starts[at + 2] as usize);
            if place + 1 < parts {
                ranks[place] = join(place);
            }
            if place > 0 {
                ranks[place - 1] = join(place - 1);
            }
            least = NONE;
            for (at, &rank) in ranks[..parts - 1].iter().enumerate() {
                if rank < least {
                    (least, place) = (rank, at);
                }
            }
        }
        Self { starts, parts }
    }

    pub(super) fn count(&self) -> usize {
        self.parts
    }

    pub(super) fn starts(&self) -> &[u8] {
        &self.starts[..=self.parts]
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
        self.ranks.extend(
            (0..len).map(|at| if at + 1 < len { vocabulary.rank(&self.buffer, at, at + 2) } else { NONE }),
        );
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
            if next < len { vocabulary.rank(&self.buffer, at, self.ends[next] as usize) } else { NONE };
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
