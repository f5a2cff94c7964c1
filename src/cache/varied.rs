//! Several answers to one question, of which each call gets one.

use std::sync::atomic::{AtomicU64, Ordering};

use super::key::CacheKey;

/// More would hardly ever be filled.
pub(super) const MOST: u8 = 64;

/// Chooses among the places of a question. The place is part of the key, so each has its own entry and flight.
#[derive(Debug)]
pub(super) struct Varied {
    places: u8,
    turn: AtomicU64,
    seed: [u8; 32],
}

impl Varied {
    /// One answer is the usual case; 0 counts as 1.
    pub(super) fn new(places: u8, secret: &[u8; 32]) -> Self {
        let seed = blake3::derive_key("thrifty 2026-11 cache choice v1", secret);
        Self { places: places.clamp(1, MOST), turn: AtomicU64::new(0), seed }
    }

    /// One of the keys of this question, each as likely as the others.
    pub(super) fn choose(&self, key: CacheKey) -> CacheKey {
        if self.places == 1 {
            return key;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::keyed_hash(&self.seed, &turn.to_le_bytes());
        // 64 divides 256, and for other numbers the bias of eight bytes is nothing anybody could see.
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        let place = u64::from_le_bytes([a, b, c, d, e, f, g, h]) % u64::from(self.places);
        key.at_place(u8::try_from(place).unwrap_or(0))
    }

    /// All keys of this question.
    pub(super) fn all(&self, key: CacheKey) -> impl Iterator<Item = CacheKey> + use<> {
        (0..self.places).map(move |place| key.at_place(place))
    }
}
