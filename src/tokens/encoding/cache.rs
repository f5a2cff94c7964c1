//! The counts of the pieces a thread has seen lately.
//!
//! Nineteen in twenty pieces of a text are words seen before. Four direct-mapped tables, by length: up to 15 bytes,
//! where an entry is the bytes themselves beside their count, up to 32, up to [`LONG`], and up to [`LONGEST`].

use std::cell::RefCell;

use super::merge::Large;

/// Places of the table of short pieces: two entries of 16 bytes each.
const SHORT_BITS: u32 = 14;
/// Pieces of fewer bytes are short.
pub(super) const SHORT: usize = 16;
/// Entries of the table of pieces of up to [`MIDDLE`] bytes: 40 bytes each.
const MIDDLE_BITS: u32 = 12;
const MIDDLE: usize = 32;
/// Entries of the table of longer pieces: 128 bytes each.
const LONG_BITS: u32 = 10;
const LONG: usize = 124;
/// Entries of the table of pieces longer still, mostly ruled lines and runs of spaces: 1 KB each.
const LONGEST_BITS: u32 = 5;
/// Longest piece that is remembered.
pub(super) const LONGEST: usize = 1020;

/// Where the count stands in the second word of a short key: the lower half of the last byte.
const COUNT: u64 = 0x0f << 56;

/// What a thread keeps between counts in one encoding: about 830 KB.
pub(super) struct Cache {
    short: Box<[[[u64; 2]; 2]; 1 << SHORT_BITS]>,
    middle: Box<[Middle; 1 << MIDDLE_BITS]>,
    long: Box<[Long<LONG>; 1 << LONG_BITS]>,
    longest: Box<[Long<LONGEST>; 1 << LONGEST_BITS]>,
    pub(super) merge: Large,
    pub(super) borders: [Vec<u32>; 2],
}

/// A piece of 16 to 32 bytes.
#[derive(Clone, Copy, Default)]
struct Middle {
    /// The first 16 bytes and the last; with the length they tell it all.
    words: [u64; 4],
    len: u8,
    count: u8,
}

#[derive(Clone, Copy)]
struct Long<const MOST: usize> {
    len: u16,
    count: u16,
    bytes: [u8; MOST],
}

impl<const MOST: usize> Long<MOST> {
    const EMPTY: Self = Self { len: 0, count: 0, bytes: [0; MOST] };

    fn count(&self, piece: &[u8]) -> u64 {
        let len = self.len as usize;
        if len == piece.len() && self.bytes.get(..len) == Some(piece) { u64::from(self.count) } else { 0 }
    }

    fn keep(&mut self, piece: &[u8], count: u64) {
        if let Some(bytes) = self.bytes.get_mut(..piece.len()) {
            bytes.copy_from_slice(piece);
            // Neither is above `MOST`.
            (self.len, self.count) = (piece.len() as u16, count as u16);
        }
    }
}

/// A short piece: its bytes, and its length in the upper half of the last byte.
#[derive(Clone, Copy)]
pub(super) struct Short([u64; 2]);

/// What to keep of 16 bytes for a piece of each length.
const MASKS: [[u64; 2]; SHORT] = {
    let mut masks = [[0; 2]; SHORT];
    let mut len = 1;
    while len < SHORT {
        masks[len] =
            if len <= 8 { [u64::MAX >> (64 - 8 * len), 0] } else { [u64::MAX, u64::MAX >> (128 - 8 * len)] };
        len += 1;
    }
    masks
};

impl Short {
    /// Of the `len` bytes at `at`, 1 to 15.
    #[inline]
    pub(super) fn of(text: &[u8], at: usize, len: usize) -> Self {
        let bytes = match text[at..].first_chunk::<16>() {
            Some(bytes) => *bytes,
            None => last(text, at),
        };
        let both = u128::from_le_bytes(bytes);
        let mask = &MASKS[len & 15];
        Self([both as u64 & mask[0], (both >> 64) as u64 & mask[1] | (len as u64) << 60])
    }

    #[inline]
    fn slot(self) -> usize {
        let mixed = self.0[0]
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(self.0[1].wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
        (mixed >> (64 - SHORT_BITS)) as usize
    }
}

/// The last bytes of a text, fewer than 16, filled up with zeros.
#[inline]
fn last(text: &[u8], at: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    let rest = &text[at..];
    if let Some(chunk) = text.last_chunk::<16>() {
        return (u128::from_le_bytes(*chunk) >> (8 * (16 - rest.len()))).to_le_bytes();
    }
    for (to, from) in bytes.iter_mut().zip(rest) {
        *to = *from;
    }
    bytes
}

impl Cache {
    fn new() -> Option<Box<Self>> {
        Some(Box::new(Self {
            short: vec![[[0; 2]; 2]; 1 << SHORT_BITS].into_boxed_slice().try_into().ok()?,
            middle: vec![Middle::default(); 1 << MIDDLE_BITS].into_boxed_slice().try_into().ok()?,
            long: vec![Long::EMPTY; 1 << LONG_BITS].into_boxed_slice().try_into().ok()?,
            longest: vec![Long::EMPTY; 1 << LONGEST_BITS].into_boxed_slice().try_into().ok()?,
            merge: Large::default(),
            borders: Default::default(),
        }))
    }

    /// Tokens of a short piece; 0 if it is not here.
    #[inline]
    pub(super) fn short(&self, piece: Short) -> u64 {
        let [first, second] = &self.short[piece.slot()];
        // Without a branch for which of them it is.
        let count = |entry: &[u64; 2]| {
            let differs = (entry[0] ^ piece.0[0]) | ((entry[1] ^ piece.0[1]) & !COUNT);
            if differs == 0 { entry[1] >> 56 & 15 } else { 0 }
        };
        count(first) | count(second)
    }

    /// The newest comes first; what was second is forgotten.
    #[inline]
    pub(super) fn keep_short(&mut self, piece: Short, count: u64) {
        let place = &mut self.short[piece.slot()];
        *place = [[piece.0[0], piece.0[1] | count << 56], place[0]];
    }

    /// Tokens of a piece of [`SHORT`] to [`LONGEST`] bytes; 0 if it is not here.
    #[inline]
    pub(super) fn longer(&self, piece: &[u8]) -> u64 {
        let (words, hash) = words(piece);
        if piece.len() <= MIDDLE {
            let entry = &self.middle[(hash >> (64 - MIDDLE_BITS)) as usize];
            let same = entry.words == words && entry.len as usize == piece.len();
            return if same { u64::from(entry.count) } else { 0 };
        }
        if piece.len() <= LONG {
            self.long[(hash >> (64 - LONG_BITS)) as usize].count(piece)
        } else {
            self.longest[(hash >> (64 - LONGEST_BITS)) as usize].count(piece)
        }
    }

    pub(super) fn keep_longer(&mut self, piece: &[u8], count: u64) {
        let (words, hash) = words(piece);
        if piece.len() <= MIDDLE {
            // A piece has no more tokens than bytes.
            let (len, count) = (piece.len() as u8, count as u8);
            self.middle[(hash >> (64 - MIDDLE_BITS)) as usize] = Middle { words, len, count };
        } else if piece.len() <= LONG {
            self.long[(hash >> (64 - LONG_BITS)) as usize].keep(piece, count);
        } else {
            self.longest[(hash >> (64 - LONGEST_BITS)) as usize].keep(piece, count);
        }
    }
}

/// The first and the last 16 bytes of a piece, and a hash of them and its length.
#[inline]
fn words(piece: &[u8]) -> ([u64; 4], u64) {
    let both = |bytes: Option<&[u8; 16]>| {
        let both = u128::from_le_bytes(bytes.copied().unwrap_or_default());
        [both as u64, (both >> 64) as u64]
    };
    let ([a, b], [c, d]) = (both(piece.first_chunk()), both(piece.last_chunk()));
    let first = (a ^ c.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let second = (b ^ d.rotate_left(32) ^ piece.len() as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    ([a, b, c, d], (first ^ second.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

thread_local! {
    /// One for each encoding.
    static CACHES: [RefCell<Option<Box<Cache>>>; 2] = const { [RefCell::new(None), RefCell::new(None)] };
}

/// Runs `work` with this thread's cache of an encoding.
#[inline]
pub(super) fn with<T>(encoding: usize, work: impl FnOnce(&mut Cache) -> T) -> Option<T> {
    let mut work = Some(work);
    let mut run = |cache: &mut Option<Box<Cache>>| {
        if cache.is_none() {
            *cache = Cache::new();
        }
        Some(work.take()?(cache.as_mut()?))
    };
    let found = CACHES.try_with(|caches| run(&mut *caches.get(encoding)?.try_borrow_mut().ok()?));
    // The thread is at its end.
    found.unwrap_or_else(|_| run(&mut None))
}
