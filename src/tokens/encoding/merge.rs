//! Byte pair merging: the tokens of one piece.
//!
//! The rule of these encodings: of all neighbours whose joined bytes are a token, join those of the lowest rank, the
//! leftmost first, until none are left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::vocabulary::{NONE, PADDING, Vocabulary};

/// Bytes of a group, whose least join is kept.
const GROUP: usize = 8;
/// Longest piece that [`Small`] merges in `GROUPS` groups of joins.
pub(super) const SMALL: usize = 128;

/// A join as one number: its rank, and above which part it stands in the lowest bits. The least one is next.
const PLACE: u32 = 7;
/// No join. Ranks stay below, as signed numbers.
const NO_JOIN: i32 = i32::MAX;

/// Merges a piece of up to `8 * GROUPS` bytes, at most [`SMALL`], on the stack.
pub(super) struct Small<const GROUPS: usize> {
    /// By start of a part: its join with the next.
    joins: [[i32; GROUP]; GROUPS],
    /// By start of a part: its end.
    ends: [[u8; GROUP]; GROUPS],
    parts: usize,
}

impl<const GROUPS: usize> Small<GROUPS> {
    /// Merges `buffer[..len]`, of at least one byte, with padding behind.
    #[inline]
    pub(super) fn merge(vocabulary: &Vocabulary, buffer: &[u8], len: usize) -> Self {
        let mut new = Self { joins: [[NO_JOIN; GROUP]; GROUPS], ends: [[0; GROUP]; GROUPS], parts: len };
        let mut before = [[0u8; GROUP]; GROUPS];
        let mut least = [NO_JOIN; GROUPS];
        let join = |start: usize, end: usize| {
            let rank = vocabulary.rank(buffer, start, end);
            if rank == NONE { NO_JOIN } else { (rank << PLACE | start as u32) as i32 }
        };
        {
            let (joins, ends) = (new.joins.as_flattened_mut(), new.ends.as_flattened_mut());
            let before = before.as_flattened_mut();
            for at in 0..len {
                ends[at] = at as u8 + 1;
                before[at] = (at as u8).wrapping_sub(1);
                if at + 1 < len {
                    joins[at] = join(at, at + 2);
                }
            }
        }
        for (least, group) in least.iter_mut().zip(&new.joins) {
            *least = smallest(group);
        }
        loop {
            let next = smallest(&least);
            if next == NO_JOIN {
                return new;
            }
            let (joins, ends) = (new.joins.as_flattened_mut(), new.ends.as_flattened_mut());
            let before = before.as_flattened_mut();
            // The part at `at` takes in the next one.
            let at = next as usize & (SMALL - 1);
            let taken = ends[at] as usize;
            let end = ends[taken];
            ends[at] = end;
            new.parts -= 1;
            joins[taken] = NO_JOIN;
            joins[at] = match ends.get(end as usize) {
                Some(&further) if (end as usize) < len => {
                    before[end as usize] = at as u8;
                    join(at, further as usize)
                }
                _ => NO_JOIN,
            };
            let ahead = before[at] as usize;
            if at > 0 {
                joins[ahead] = join(ahead, end as usize);
                least[ahead / GROUP] = smallest(&new.joins[ahead / GROUP]);
            }
            least[taken / GROUP] = smallest(&new.joins[taken / GROUP]);
            least[at / GROUP] = smallest(&new.joins[at / GROUP]);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.parts
    }

    /// Where the parts end.
    pub(super) fn borders(&self) -> impl Iterator<Item = u32> {
        let ends = self.ends.as_flattened();
        let mut at = 0;
        (0..self.parts).map(move |_| {
            at = ends[at] as usize;
            at as u32
        })
    }
}

/// The least of a few numbers, without a branch.
#[inline]
fn smallest<const N: usize>(numbers: &[i32; N]) -> i32 {
    numbers.iter().fold(NO_JOIN, |least, &number| least.min(number))
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
