//! The counts of the pieces a thread has seen lately.
//!
//! Nineteen in twenty pieces of a text are words seen before. Two direct-mapped tables: one of up to 15 bytes, whose
//! entries are the bytes themselves beside their count, and a smaller one of up to [`LONG`] bytes.

use std::cell::RefCell;

use super::merge::Large;

/// Entries of the table of short pieces: 16 bytes each.
const SHORT_BITS: u32 = 14;
/// Pieces of fewer bytes are short.
pub(super) const SHORT: usize = 16;
/// Entries of the table of longer pieces: 128 bytes each.
const LONG_BITS: u32 = 10;
/// Longest piece that is remembered.
pub(super) const LONG: usize = 126;

/// Where the count stands in the second word of a short key: the lower half of the last byte.
const COUNT: u64 = 0x0f << 56;

/// What a thread keeps between counts in one encoding: about 400 KB.
pub(super) struct Cache {
    short: Box<[[u64; 2]; 1 << SHORT_BITS]>,
    long: Box<[Long; 1 << LONG_BITS]>,
    pub(super) merge: Large,
    pub(super) borders: [Vec<u32>; 2],
}

#[derive(Clone, Copy)]
struct Long {
    len: u8,
    count: u8,
    bytes: [u8; LONG],
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

/// The last bytes of a text, filled up with zeros.
#[cold]
fn last(text: &[u8], at: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(&text[at..]) {
        *to = *from;
    }
    bytes
}

impl Cache {
    fn new() -> Option<Box<Self>> {
        let empty = Long { len: 0, count: 0, bytes: [0; LONG] };
        Some(Box::new(Self {
            short: vec![[0; 2]; 1 << SHORT_BITS].into_boxed_slice().try_into().ok()?,
            long: vec![empty; 1 << LONG_BITS].into_boxed_slice().try_into().ok()?,
            merge: Large::default(),
            borders: Default::default(),
        }))
    }

    /// Tokens of a short piece; 0 if it is not here.
    #[inline]
    pub(super) fn short(&self, piece: Short) -> u64 {
        let entry = &self.short[piece.slot()];
        let same = entry[0] == piece.0[0] && (entry[1] ^ piece.0[1]) & !COUNT == 0;
        if same { entry[1] >> 56 & 15 } else { 0 }
    }

    #[inline]
    pub(super) fn keep_short(&mut self, piece: Short, count: u64) {
        self.short[piece.slot()] = [piece.0[0], piece.0[1] | count << 56];
    }

    /// Tokens of a piece of [`SHORT`] to [`LONG`] bytes; 0 if it is not here.
    #[inline]
    pub(super) fn long(&self, piece: &[u8]) -> u64 {
        let entry = &self.long[slot(piece)];
        let len = entry.len as usize;
        if len == piece.len() && entry.bytes.get(..len) == Some(piece) { u64::from(entry.count) } else { 0 }
    }

    pub(super) fn keep_long(&mut self, piece: &[u8], count: u64) {
        let entry = &mut self.long[slot(piece)];
        if let (Ok(count), Some(bytes)) = (u8::try_from(count), entry.bytes.get_mut(..piece.len())) {
            bytes.copy_from_slice(piece);
            (entry.len, entry.count) = (piece.len() as u8, count);
        }
    }
}

/// Place of a longer piece, by its first and last bytes and its length.
#[inline]
fn slot(piece: &[u8]) -> usize {
    let word = |chunk: Option<&[u8; 8]>| chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk));
    let middle = word(piece.get(piece.len() / 2..).and_then(<[u8]>::first_chunk));
    let mixed = word(piece.first_chunk())
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(word(piece.last_chunk()) ^ middle.rotate_left(17))
        .wrapping_add(piece.len() as u64)
        .wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    (mixed >> (64 - LONG_BITS)) as usize
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
