//! The tokens of an encoding, to be asked for by their bytes.
//!
//! A merge asks for two pairs at each step and the common answer is no, so a filter of one bit per token stands in
//! front. Keys are the bytes themselves, in one word or two: no string is hashed or followed by a pointer, but for
//! the two in a hundred tokens that are longer.

use tiktoken_rs::CoreBPE;

/// Bits of a rank, at most. A middle token's length stands above them.
pub(super) const RANK: u32 = 24;
/// No such token.
pub(super) const NONE: u32 = u32::MAX;
/// No token of any of these encodings is longer.
pub(super) const LONGEST: usize = 128;
/// How far behind the bytes asked for a buffer must reach.
pub(super) const PADDING: usize = 8;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0xc2b2_ae3d_27d4_eb4f;
/// Log 2 of the bits in the filter.
const FILTER: u32 = 20;

pub(super) struct Vocabulary {
    /// Rank of the token of two bytes.
    pairs: Vec<u32>,
    filter: Vec<u64>,
    /// 3 to 7 bytes, and 1.
    short: Table<u64>,
    /// 8 to 16 bytes.
    middle: Table<(u64, u64)>,
    /// 17 bytes and more: (place in `bytes`, length).
    long: Table<(u32, u32)>,
    bytes: Vec<u8>,
}

/// Open addressing with linear probing, at most five eighths full: the filter answers most of what is not here.
struct Table<K> {
    /// Side by side, so that a yes costs one look.
    slots: Vec<(K, u32)>,
    shift: u32,
}

impl<K: Copy + Default + PartialEq> Table<K> {
    fn for_entries(entries: usize) -> Self {
        let slots = (entries * 8 / 5 + 1).next_power_of_two();
        Self { slots: vec![(K::default(), NONE); slots], shift: 64 - slots.trailing_zeros() }
    }

    fn insert(&mut self, hash: u64, key: K, rank: u32) {
        let mut slot = (hash >> self.shift) as usize;
        while self.slots[slot].1 != NONE {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = (key, rank);
    }

    /// Rank by key. No key that is asked for is the default, which marks an empty slot.
    #[inline]
    fn get(&self, hash: u64, same: impl Fn(K) -> bool) -> u32 {
        let mut slot = (hash >> self.shift) as usize;
        loop {
            let (key, rank) = self.slots[slot];
            if same(key) {
                return rank;
            }
            if key == K::default() {
                return NONE;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }
}

#[inline]
fn pair(first: u8, second: u8) -> usize {
    usize::from(first) | usize::from(second) << 8
}

#[inline]
fn word(buffer: &[u8], at: usize) -> u64 {
    match buffer[at..].first_chunk() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => 0,
    }
}

/// The key of 1 to 7 bytes. The length keeps a zero byte apart from no byte.
#[inline]
fn short(buffer: &[u8], start: usize, len: usize) -> u64 {
    word(buffer, start) & ((1 << (8 * len)) - 1) | (len as u64) << 56
}

/// Hash of 8 to 16 bytes, by the first and last eight.
#[inline]
fn middle((first, last): (u64, u64), len: usize) -> u64 {
    let mixed = (first ^ (len as u64)).wrapping_mul(MULTIPLIER) ^ last;
    (mixed ^ mixed >> 32).wrapping_mul(SECOND)
}

fn long(bytes: &[u8]) -> u64 {
    let hash = bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let word = chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        (hash ^ word).wrapping_mul(MULTIPLIER).rotate_left(29)
    });
    hash.wrapping_mul(SECOND)
}

impl Vocabulary {
    /// The tables of these tokens.
    pub(super) fn of(tokens: &Tokens) -> Self {
        let mut lengths = [0; 4];
        for token in tokens.iter() {
            lengths[match token.len() {
                2 => 0,
                ..8 => 1,
                8..=16 => 2,
                _ => 3,
            }] += 1;
        }
        let mut new = Self {
            pairs: vec![NONE; 1 << 16],
            filter: vec![0; 1 << (FILTER - 6)],
            short: Table::for_entries(lengths[1]),
            middle: Table::for_entries(lengths[2]),
            long: Table::for_entries(lengths[3]),
            bytes: Vec::new(),
        };
        let mut buffer = [0; LONGEST + PADDING];
        for (rank, token) in tokens.iter().enumerate() {
            buffer[..token.len()].copy_from_slice(token);
            new.insert(&buffer, token.len(), rank as u32);
        }
        new
    }

    fn insert(&mut self, buffer: &[u8], len: usize, rank: u32) {
        if len == 2 {
            self.pairs[pair(buffer[0], buffer[1])] = rank;
            return;
        }
        let hash = match len {
            ..8 => {
                let key = short(buffer, 0, len);
                let hash = key.wrapping_mul(MULTIPLIER);
                self.short.insert(hash, key, rank);
                hash
            }
            8..=16 => {
                let key = (word(buffer, 0), word(buffer, len - 8));
                let hash = middle(key, len);
                self.middle.insert(hash, key, rank | (len as u32) << RANK);
                hash
            }
            _ => {
                let hash = long(&buffer[..len]);
                self.long.insert(hash, (self.bytes.len() as u32 + 1, len as u32), rank);
                self.bytes.extend_from_slice(&buffer[..len]);
                hash
            }
        };
        let bit = hash >> (64 - FILTER);
        self.filter[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    /// Rank of the token of these two bytes, or [`NONE`].
    #[inline]
    pub(super) fn pair(&self, first: u8, second: u8) -> u32 {
        self.pairs[pair(first, second)]
    }

    /// True if `buffer[..len]`, of at least one byte with [`PADDING`] bytes of anything behind, is a token.
    #[inline]
    pub(super) fn contains(&self, buffer: &[u8], len: usize) -> bool {
        let rank = if len == 2 { self.pair(buffer[0], buffer[1]) } else { self.join(buffer, 0, len) };
        rank != NONE
    }

    /// Rank of `buffer[start..end]`, of one byte or three and more, with [`PADDING`] bytes of anything behind; or
    /// [`NONE`].
    #[inline(always)]
    pub(super) fn join(&self, buffer: &[u8], start: usize, end: usize) -> u32 {
        let len = end - start;
        if len >= 8 {
            return self.join_longer(buffer, start, end);
        }
        let key = short(buffer, start, len);
        let hash = key.wrapping_mul(MULTIPLIER);
        if self.may_hold(hash) { self.short.get(hash, |known| known == key) } else { NONE }
    }

    #[inline(never)]
    fn join_longer(&self, buffer: &[u8], start: usize, end: usize) -> u32 {
        let len = end - start;
        if len > LONGEST {
            return NONE;
        }
        if len > 16 {
            let hash = long(&buffer[start..end]);
            return if self.may_hold(hash) { self.long(hash, &buffer[start..end]) } else { NONE };
        }
        let key = (word(buffer, start), word(buffer, end - 8));
        let hash = middle(key, len);
        if self.may_hold(hash) { self.middle(hash, key, len) } else { NONE }
    }

    #[inline]
    fn may_hold(&self, hash: u64) -> bool {
        let bit = hash >> (64 - FILTER);
        self.filter[(bit / 64) as usize] >> (bit % 64) & 1 != 0
    }

    /// Two lengths may share first and last bytes.
    #[inline]
    fn middle(&self, hash: u64, key: (u64, u64), len: usize) -> u32 {
        let table = &self.middle;
        let mut slot = (hash >> table.shift) as usize;
        loop {
            let (known, rank) = table.slots[slot];
            if known == key && rank >> RANK == len as u32 {
                return rank & ((1 << RANK) - 1);
            }
            if rank == NONE {
                return NONE;
            }
            slot = (slot + 1) & (table.slots.len() - 1);
        }
    }

    #[cold]
    fn long(&self, hash: u64, token: &[u8]) -> u32 {
        self.long.get(hash, |(place, len)| {
            let place = place as usize;
            place > 0 && self.bytes.get(place - 1..place - 1 + len as usize) == Some(token)
        })
    }
}

/// All tokens by rank, while the tables are made.
pub(super) struct Tokens {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Tokens {
    /// Room for the tokens of any of these encodings.
    pub(super) fn room() -> Self {
        Self { bytes: Vec::with_capacity(2 << 20), ends: Vec::with_capacity(200_000) }
    }

    /// Reads all tokens out. `None` if they are not what they should be: at least every byte, none too long.
    #[cfg(test)]
    pub(super) fn read(core: &CoreBPE) -> Option<Self> {
        Self::room().fill(core)
    }

    /// The same, into this room.
    pub(super) fn fill(self, core: &CoreBPE) -> Option<Self> {
        let mut new = self;
        // Ranks are without a gap; special tokens come after one.
        while let Ok(token) = core.decode_bytes(&[u32::try_from(new.ends.len()).ok()?]) {
            if token.is_empty() || token.len() > LONGEST {
                return None;
            }
            new.bytes.extend_from_slice(&token);
            new.ends.push(u32::try_from(new.bytes.len()).ok()?);
        }
        (new.ends.len() >= 256 && new.ends.len() < 1 << RANK).then_some(new)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start as usize..end as usize])
    }
}
