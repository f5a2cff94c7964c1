//! The sealed form of an answer: any bytes, bytes whose hash is right, and the way there and back.

#![no_main]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use thrifty::cache::{CacheKey, Entry, Keyer, Secret, Stamp};
use thrifty::call::{Call, Scope};

const ROOT: [u8; 32] = [7; 32];
const SCOPE: [u8; 16] = [3; 16];
const STAMP: Stamp = stamp();

/// Where the payload begins, and how long the hash behind it is.
const PAYLOAD: usize = 68;
const MAC: usize = 16;

const fn stamp() -> Stamp {
    Stamp { scope: SCOPE, global: 1, epoch: 2 }
}

fn key() -> &'static CacheKey {
    static KEY: OnceLock<CacheKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let call = Call::post("https://api.openai.com/v1/chat/completions", r#"{"model":"m","messages":[]}"#);
        let keyer = Keyer::new(&Secret::from_bytes([9; 32]));
        keyer.key(&call, &Scope::shared("fuzz"), &[]).expect("a call that may be cached")
    })
}

fn decode(bytes: &[u8]) -> Result<(Entry, Stamp), &'static str> {
    Entry::decode(bytes, key(), &SCOPE, &ROOT)
}

/// Puts the right hash at the end.
fn authentic(mut bytes: Vec<u8>) -> Vec<u8> {
    let scope = blake3::keyed_hash(&ROOT, &SCOPE);
    let mac = blake3::keyed_hash(scope.as_bytes(), &bytes);
    bytes.extend_from_slice(&mac.as_bytes()[..MAC]);
    bytes
}

fuzz_target!(|data: &[u8]| {
    let _ = decode(data);

    let Some((head, rest)) = data.split_first_chunk::<16>() else { return };
    let body = rest.to_vec();
    let ttl = Duration::from_secs(u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]])));
    let mut entry = Entry::new(http::StatusCode::OK, body, i64::from(head[4]) << 32, ttl);
    if head[5] & 1 != 0 {
        entry.frames = Some(rest.chunks(32).map(|frame| frame.len() as u32).collect());
    }
    if head[5] & 2 != 0 {
        let value = rest.split(|byte| *byte < b' ').next().unwrap_or_default();
        if let Ok(value) = http::HeaderValue::from_bytes(value) {
            entry.headers.append("x-fuzz", value);
        }
        entry.table = Some(Arc::from("table"));
    }
    let sealed = entry.encode(key(), &STAMP, &ROOT);
    assert_eq!(decode(&sealed), Ok((entry, STAMP)), "what is sealed opens again");
    assert!(Entry::decode(&sealed, key(), &[4; 16], &ROOT).is_err(), "under another scope it does not");

    // One bit, anywhere.
    let mut damaged = sealed.clone();
    let at = usize::from(u16::from_le_bytes([head[6], head[7]])) % damaged.len();
    damaged[at] ^= 1 << (head[8] & 7);
    assert!(decode(&damaged).is_err(), "a flipped bit is told");
    assert!(decode(&sealed[..at]).is_err(), "so is a cut");

    // What only a holder of the key could write: the codec, the lengths and the payload are what they are.
    let mut forged = sealed[..PAYLOAD].to_vec();
    forged[6] = head[9] & 3;
    forged[7] = head[10] & 3;
    forged[8..12].copy_from_slice(&head[12..16]);
    forged[12..16].copy_from_slice(&(rest.len() as u32).to_le_bytes());
    forged.extend_from_slice(rest);
    if let Ok((entry, stamp)) = decode(&authentic(forged.clone())) {
        let again = entry.encode(key(), &stamp, &ROOT);
        assert_eq!(decode(&again), Ok((entry, stamp)), "what can be read can be written");
    }
    // The length of the payload as it is, so that its reader is reached.
    forged[6] = 0;
    forged[7] = 0;
    forged[8..12].copy_from_slice(&(rest.len() as u32).to_le_bytes());
    let _ = decode(&authentic(forged));
});
