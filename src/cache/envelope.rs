//! The sealed form in which an answer leaves the process.
//!
//! Whoever can write to the disk must not be able to forge an answer, move one to another question, tenant or time, or
//! crash the reader. So the envelope carries its full key and the purges it was made after, and a keyed hash over
//! everything before it; nothing in it is interpreted until that hash is right.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use thrifty::cache::{Entry, Keyer, Secret, Stamp};
//! use thrifty::call::{Call, Scope};
//!
//! let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
//! let call = Call::post("https://api.openai.com/v1/chat/completions", r#"{"model":"m","messages":[]}"#);
//! let key = keyer.key(&call, &Scope::credential(), &[]).unwrap();
//! let stamp = Stamp { scope: keyer.scope_tag(&call, &Scope::credential()), ..Stamp::default() };
//! let entry = Entry::new(http::StatusCode::OK, "{}", 1_795_000_000_000, Duration::from_secs(60));
//! let sealed = entry.encode(&key, &stamp, &keyer.mac_key());
//! assert_eq!(Entry::decode(&sealed, &key, &stamp.scope, &keyer.mac_key()), Ok((entry, stamp)));
//! ```
//! # Another tenant's is refused
//! ```
//! use std::time::Duration;
//! use thrifty::cache::{Entry, Keyer, Secret, Stamp};
//! use thrifty::call::{Call, Scope};
//!
//! let call = Call::post("https://api.openai.com/v1/chat/completions", r#"{"model":"m","messages":[]}"#);
//! let key = Keyer::new(&Secret::random()).key(&call, &Scope::credential(), &[]).unwrap();
//! let entry = Entry::new(http::StatusCode::OK, "{}", 1_795_000_000_000, Duration::from_secs(60));
//! let sealed = entry.encode(&key, &Stamp { scope: [1; 16], ..Stamp::default() }, &[7; 32]);
//! assert_eq!(Entry::decode(&sealed, &key, &[2; 16], &[7; 32]), Err("mac"));
//! assert_eq!(Entry::decode(&sealed, &key, &[1; 16], &[0; 32]), Err("mac"));
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::entry::Entry;
use super::key::CacheKey;

pub use super::store::epochs::Stamp;

/// The envelope, all numbers little-endian:
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 4 | `THRF` |
/// | 4 | 1 | format, 2 |
/// | 5 | 1 | key id, 0 |
/// | 6 | 1 | codec: 0 as it is, 1 lz4 |
/// | 7 | 1 | flags: 1 encrypted |
/// | 8 | 4 | length of the payload, plain |
/// | 12 | 4 | length of what stands at 68 |
/// | 16 | 8 | created, ms |
/// | 24 | 4 | ttl, s |
/// | 28 | 4 | global epoch |
/// | 32 | 4 | epoch of the scope |
/// | 36 | 32 | key |
/// | 68 | n | payload; encrypted: nonce (24 bytes), ciphertext, tag (16 bytes) |
/// | 68 + n | 16 | first half of the keyed hash over everything before it |
mod layout {
    pub(super) const MAGIC: [u8; 4] = *b"THRF";
    pub(super) const FORMAT: u8 = 2;
    pub(super) const RAW: u8 = 0;
    pub(super) const LZ4: u8 = 1;
    pub(super) const ENCRYPTED: u8 = 1;
    pub(super) const KEY: usize = 36;
    pub(super) const PAYLOAD: usize = 68;
    pub(super) const MAC: usize = 16;
    #[cfg(feature = "encrypt")]
    pub(super) const NONCE: usize = 24;
}

/// Smaller payloads are not worth the time.
const COMPRESS_FROM: usize = 1024;

/// Nothing this large is ever stored, so nothing claims to be.
const LARGEST_PAYLOAD: usize = 64 << 20;

/// lz4 cannot do better than this, so what claims to has not been written here.
const BEST_RATIO: usize = 256;

/// What seals the entries of one scope.
#[derive(Clone)]
pub(super) struct Keys {
    mac: [u8; 32],
    #[cfg(feature = "encrypt")]
    aead: Option<[u8; 32]>,
}

impl Keys {
    /// Keys that authenticate.
    pub(super) fn new(root: &[u8; 32], scope: &[u8; 16]) -> Self {
        Self {
            mac: *blake3::keyed_hash(root, scope).as_bytes(),
            #[cfg(feature = "encrypt")]
            aead: None,
        }
    }

    /// Keys that encrypt too. With the salt destroyed nobody can make them again.
    #[cfg(feature = "encrypt")]
    pub(super) fn encrypting(root: &[u8; 32], scope: &[u8; 16], salt: &[u8; 32]) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("thrifty cache entry encryption v1");
        hash.update(root).update(scope).update(&[0]).update(salt);
        Self { aead: Some(*hash.finalize().as_bytes()), ..Self::new(root, scope) }
    }
}

/// Whether the hash over an envelope has to be checked: bytes that never left this process are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Verify,
    Verified,
}

impl Entry {
    /// The sealed form, bound to its key, its scope and the purges before it. A time to live is kept in whole seconds,
    /// rounded down.
    #[must_use]
    pub fn encode(&self, key: &CacheKey, stamp: &Stamp, mac_key: &[u8; 32]) -> Vec<u8> {
        seal(self, key, stamp, &Keys::new(mac_key, &stamp.scope))
    }

    /// Opens a sealed entry of a scope. Total: whatever the bytes are, the worst answer is a word.
    ///
    /// # Errors
    /// `short`, `format` (not ours, or of another version), `length`, `key` (it belongs to another question), `mac`
    /// (damaged, forged or of another scope), `encrypted` (and no key for it), `codec`, `payload`.
    pub fn decode(
        bytes: &[u8],
        key: &CacheKey,
        scope: &[u8; 16],
        mac_key: &[u8; 32],
    ) -> Result<(Self, Stamp), &'static str> {
        let (entry, [global, epoch]) = open(bytes, key, &Keys::new(mac_key, scope), Trust::Verify)?;
        Ok((entry, Stamp { scope: *scope, global, epoch }))
    }
}

pub(super) fn seal(entry: &Entry, key: &CacheKey, stamp: &Stamp, keys: &Keys) -> Vec<u8> {
    let mut plain = Vec::with_capacity(entry.weight() as usize);
    entry.write(&mut plain);
    let raw_len = plain.len();
    let (codec, payload) = compress(plain);
    let mut out = Vec::with_capacity(layout::PAYLOAD + payload.len() + 40 + layout::MAC);
    out.extend_from_slice(&layout::MAGIC);
    out.extend_from_slice(&[layout::FORMAT, 0, codec, flags(keys)]);
    let len = payload.len() + overhead(keys);
    // An entry of more than 4 GiB is refused long before; were it not, its own length would tell.
    out.extend_from_slice(&u32::try_from(raw_len).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&entry.created_ms.to_le_bytes());
    out.extend_from_slice(&ttl_s(entry).to_le_bytes());
    out.extend_from_slice(&stamp.global.to_le_bytes());
    out.extend_from_slice(&stamp.epoch.to_le_bytes());
    out.extend_from_slice(key.as_bytes());
    encrypt(&mut out, payload, keys);
    let mac = blake3::keyed_hash(&keys.mac, &out);
    out.extend_from_slice(&mac.as_bytes()[..layout::MAC]);
    out
}

/// The time to live that is kept, in seconds.
fn ttl_s(entry: &Entry) -> u32 {
    u32::try_from(entry.ttl.as_secs()).unwrap_or(u32::MAX)
}

/// When a sealed entry stops being fresh.
pub(super) fn expires_ms(entry: &Entry) -> i64 {
    entry.created_ms.saturating_add(i64::from(ttl_s(entry)) * 1000)
}

/// The entry and the two epochs it was made in, global and of its scope.
pub(super) fn open(
    bytes: &[u8],
    key: &CacheKey,
    keys: &Keys,
    trust: Trust,
) -> Result<(Entry, [u32; 2]), &'static str> {
    let mac_at = bytes.len().checked_sub(layout::MAC).filter(|at| *at >= layout::PAYLOAD).ok_or("short")?;
    let (sealed, mac) = bytes.split_at(mac_at);
    let (head, payload) = sealed.split_at(layout::PAYLOAD);
    if head[..4] != layout::MAGIC || head[4] != layout::FORMAT {
        return Err("format");
    }
    if number(head, 12) as usize != payload.len() {
        return Err("length");
    }
    if !same(&head[layout::KEY..], key.as_bytes()) {
        return Err("key");
    }
    if trust == Trust::Verify && !same(mac, &blake3::keyed_hash(&keys.mac, sealed).as_bytes()[..layout::MAC])
    {
        return Err("mac");
    }
    let [key_id, codec, flags] = [head[5], head[6], head[7]];
    if key_id != 0 || flags & !layout::ENCRYPTED != 0 {
        return Err("format");
    }
    let raw_len = number(head, 8) as usize;
    let decrypted;
    let payload = if flags & layout::ENCRYPTED == 0 {
        payload
    } else {
        decrypted = decrypt(head, payload, keys)?;
        &decrypted
    };
    let plain = decompress(codec, payload, raw_len)?;
    let created_ms = i64::from_le_bytes(head[16..24].try_into().map_err(|_| "short")?);
    let ttl = Duration::from_secs(u64::from(number(head, 24)));
    let entry = Entry::read(&plain, created_ms, ttl).ok_or("payload")?;
    Ok((entry, [number(head, 28), number(head, 32)]))
}

/// Checks the hash alone: for a look over a whole file.
pub(super) fn is_authentic(bytes: &[u8], key: &[u8; 32], keys: &Keys) -> bool {
    let Some(mac_at) = bytes.len().checked_sub(layout::MAC).filter(|at| *at >= layout::PAYLOAD) else {
        return false;
    };
    let (sealed, mac) = bytes.split_at(mac_at);
    same(&sealed[layout::KEY..layout::PAYLOAD], key)
        && same(mac, &blake3::keyed_hash(&keys.mac, sealed).as_bytes()[..layout::MAC])
}

/// The number at `at`, which is within the head.
fn number(head: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&head[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn compress(plain: Vec<u8>) -> (u8, Vec<u8>) {
    if plain.len() < COMPRESS_FROM {
        return (layout::RAW, plain);
    }
    let packed = lz4_flex::block::compress(&plain);
    if packed.len() < plain.len() { (layout::LZ4, packed) } else { (layout::RAW, plain) }
}

fn decompress(codec: u8, payload: &[u8], raw_len: usize) -> Result<Bytes, &'static str> {
    match codec {
        layout::RAW if payload.len() == raw_len => Ok(Bytes::copy_from_slice(payload)),
        layout::LZ4 if raw_len <= LARGEST_PAYLOAD && raw_len / BEST_RATIO <= payload.len() => {
            let mut plain = vec![0; raw_len];
            match lz4_flex::block::decompress_into(payload, &mut plain) {
                Ok(len) if len == raw_len => Ok(plain.into()),
                _ => Err("codec"),
            }
        }
        _ => Err("codec"),
    }
}

#[cfg(feature = "encrypt")]
mod crypt {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};

    use super::{Keys, layout};

    pub(super) fn flags(keys: &Keys) -> u8 {
        if keys.aead.is_some() { layout::ENCRYPTED } else { 0 }
    }

    pub(super) fn overhead(keys: &Keys) -> usize {
        if keys.aead.is_some() { layout::NONCE + 16 } else { 0 }
    }

    /// Appends the payload, under a random nonce: one made from a counter would come again after a crash.
    pub(super) fn encrypt(out: &mut Vec<u8>, payload: Vec<u8>, keys: &Keys) {
        let Some(key) = &keys.aead else { return out.extend_from_slice(&payload) };
        let mut nonce = [0; layout::NONCE];
        // Without randomness nothing may be written; a payload of no bytes is refused by whoever reads it.
        if getrandom::fill(&mut nonce).is_err() {
            return;
        }
        let cipher = XChaCha20Poly1305::new(&(*key).into());
        let message = Payload { msg: &payload, aad: &out[..] };
        if let Ok(sealed) = cipher.encrypt(&XNonce::from(nonce), message) {
            out.extend_from_slice(&nonce);
            out.extend_from_slice(&sealed);
        }
    }

    pub(super) fn decrypt(head: &[u8], payload: &[u8], keys: &Keys) -> Result<Vec<u8>, &'static str> {
        let key = keys.aead.as_ref().ok_or("encrypted")?;
        let (nonce, sealed) = payload.split_first_chunk::<{ layout::NONCE }>().ok_or("short")?;
        let cipher = XChaCha20Poly1305::new(&(*key).into());
        cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: head }).map_err(|_| "encrypted")
    }
}

#[cfg(not(feature = "encrypt"))]
mod crypt {
    use super::Keys;

    pub(super) fn flags(_: &Keys) -> u8 {
        0
    }

    pub(super) fn overhead(_: &Keys) -> usize {
        0
    }

    pub(super) fn encrypt(out: &mut Vec<u8>, payload: Vec<u8>, _: &Keys) {
        out.extend_from_slice(&payload);
    }

    pub(super) fn decrypt(_: &[u8], _: &[u8], _: &Keys) -> Result<Vec<u8>, &'static str> {
        Err("encrypted")
    }
}

use self::crypt::{decrypt, encrypt, flags, overhead};

/// Equality in a time that does not depend on where the two differ. Both are at most 32 bytes long.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let widen = |bytes: &[u8]| {
        let mut wide = [0; 32];
        wide[..bytes.len()].copy_from_slice(bytes);
        blake3::Hash::from(wide)
    };
    a.len() == b.len() && widen(a) == widen(b)
}

#[cfg(test)]
mod tests {
    use super::super::entry::stored::tests::entries;
    use super::*;
    use http::StatusCode;
    use proptest::prelude::*;

    const ROOT: [u8; 32] = [5; 32];

    fn stamp() -> Stamp {
        Stamp { scope: [3; 16], global: 7, epoch: 9 }
    }

    fn keyed() -> Vec<Keys> {
        vec![
            Keys::new(&ROOT, &[3; 16]),
            #[cfg(feature = "encrypt")]
            Keys::encrypting(&ROOT, &[3; 16], &[1; 32]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_is_sealed_opens_again(entry in entries(), key: [u8; 32], repeats in 1usize..20) {
            let key = CacheKey::from_bytes(key);
            let entry = Entry { body: entry.body.repeat(repeats).into(), ..entry };
            for keys in keyed() {
                let sealed = seal(&entry, &key, &stamp(), &keys);
                prop_assert_eq!(open(&sealed, &key, &keys, Trust::Verify), Ok((entry.clone(), [7, 9])));
                prop_assert!(is_authentic(&sealed, key.as_bytes(), &keys));
            }
        }

        #[test]
        fn any_flipped_bit_and_any_cut_is_refused(
            entry in entries(), at: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index,
        ) {
            let key = CacheKey::from_bytes([1; 32]);
            for keys in keyed() {
                let mut sealed = seal(&entry, &key, &stamp(), &keys);
                prop_assert!(open(&sealed[..cut.index(sealed.len())], &key, &keys, Trust::Verify).is_err());
                let at = at.index(sealed.len());
                sealed[at] ^= 1 << bit;
                prop_assert!(open(&sealed, &key, &keys, Trust::Verify).is_err(), "byte {}", at);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let key = CacheKey::from_bytes([1; 32]);
            for keys in keyed() {
                let _ = open(&bytes, &key, &keys, Trust::Verify);
                // As if the hash, the format and the key had been right.
                if bytes.len() > layout::PAYLOAD + layout::MAC {
                    bytes[..4].copy_from_slice(&layout::MAGIC);
                    bytes[4] = layout::FORMAT;
                    bytes[5] = 0;
                    bytes[6] &= 1;
                    bytes[7] &= 1;
                    let len = (bytes.len() - layout::PAYLOAD - layout::MAC) as u32;
                    bytes[12..16].copy_from_slice(&len.to_le_bytes());
                    bytes[layout::KEY..layout::PAYLOAD].copy_from_slice(key.as_bytes());
                    let _ = open(&bytes, &key, &keys, Trust::Verified);
                }
            }
        }
    }

    #[test]
    fn an_entry_opens_under_no_other_key_scope_epoch_or_secret() {
        let entry = Entry::new(StatusCode::OK, "answer", 0, Duration::from_secs(1));
        let (mine, other) = (CacheKey::from_bytes([1; 32]), CacheKey::from_bytes([2; 32]));
        let keys = Keys::new(&ROOT, &[3; 16]);
        let sealed = seal(&entry, &mine, &stamp(), &keys);
        let refused = |bytes: &[u8], key, keys: &Keys| open(bytes, key, keys, Trust::Verify).unwrap_err();
        assert_eq!(refused(&sealed, &other, &keys), "key");
        assert_eq!(refused(&sealed, &mine, &Keys::new(&ROOT, &[4; 16])), "mac", "of another scope");
        assert_eq!(refused(&sealed, &mine, &Keys::new(&[6; 32], &[3; 16])), "mac", "of another secret");
        for (at, what) in [(16, "age"), (24, "ttl"), (28, "global epoch"), (32, "scope epoch"), (70, "body")]
        {
            let mut moved = sealed.clone();
            moved[at] ^= 1;
            assert_eq!(refused(&moved, &mine, &keys), "mac", "a forged {what}");
        }
        let mut moved = sealed.clone();
        moved[layout::KEY..layout::PAYLOAD].copy_from_slice(other.as_bytes());
        assert_eq!(refused(&moved, &other, &keys), "mac", "moved to another question");
        let mut newer = sealed;
        newer[4] = layout::FORMAT + 1;
        assert_eq!(refused(&newer, &mine, &keys), "format", "of a newer version");
    }

    #[test]
    fn what_compresses_is_compressed_and_what_does_not_is_left() {
        let key = CacheKey::from_bytes([1; 32]);
        let keys = Keys::new(&ROOT, &[3; 16]);
        let sealed = |body: Vec<u8>| {
            seal(&Entry::new(StatusCode::OK, body, 0, Duration::from_secs(1)), &key, &stamp(), &keys)
        };
        assert!(sealed(vec![b'x'; 10_000]).len() < 500);
        let noise: Vec<u8> = (0..300u32).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
        let kept = sealed(noise);
        assert_eq!((kept[6], kept.len() > 9_600), (layout::RAW, true));
        assert_eq!(sealed(vec![b'x'; 500])[6], layout::RAW, "below a kibibyte it is not tried");
    }

    #[test]
    fn a_claimed_length_is_refused_before_room_is_made_for_it() {
        assert_eq!(decompress(layout::LZ4, &[0; 10], 3_000), Err("codec"));
        assert_eq!(decompress(layout::LZ4, &[0; 10], u32::MAX as usize), Err("codec"));
        assert_eq!(decompress(layout::RAW, &[0; 10], 11), Err("codec"));
        assert_eq!(decompress(2, &[0; 10], 10), Err("codec"));
    }

    #[cfg(feature = "encrypt")]
    #[test]
    fn an_encrypted_entry_shows_nothing_and_needs_its_salt() {
        let entry = Entry::new(StatusCode::OK, "private answer", 0, Duration::from_secs(1));
        let key = CacheKey::from_bytes([1; 32]);
        let keys = Keys::encrypting(&ROOT, &[3; 16], &[1; 32]);
        let sealed = seal(&entry, &key, &stamp(), &keys);
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        assert_ne!(sealed, seal(&entry, &key, &stamp(), &keys), "a nonce of its own each time");
        let shredded = Keys::encrypting(&ROOT, &[3; 16], &[2; 32]);
        assert_eq!(open(&sealed, &key, &shredded, Trust::Verify), Err("encrypted"));
        assert_eq!(open(&sealed, &key, &Keys::new(&ROOT, &[3; 16]), Trust::Verify), Err("encrypted"));
    }
}
