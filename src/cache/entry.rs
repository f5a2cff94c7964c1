//! One stored answer, and the sealed form in which it leaves the process.
//!
//! Whoever can write to the disk must not be able to forge an answer, move one to another question, or crash the
//! reader. So the envelope carries its full key and a keyed hash over everything before it, and nothing in it is
//! interpreted until that hash is right.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use thrifty::cache::Entry;
//!
//! let mut entry = Entry::new(http::StatusCode::OK, "{}", 1_795_000_000_000, Duration::from_secs(60));
//! entry.headers.insert("content-type", "application/json".parse()?);
//! assert!(entry.is_fresh(1_795_000_059_999));
//! assert!(!entry.is_fresh(1_795_000_060_000));
//! # Ok::<(), thrifty::BoxError>(())
//! ```
//! # Sealed and opened again
//! ```
//! use std::time::Duration;
//! use thrifty::cache::{Entry, Keyer, Secret};
//! use thrifty::call::{Call, Scope};
//!
//! let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
//! let call = Call::post("https://api.openai.com/v1/chat/completions", r#"{"model":"m","messages":[]}"#);
//! let key = keyer.key(&call, &Scope::credential(), &[]).unwrap();
//! let entry = Entry::new(http::StatusCode::OK, "{}", 1_795_000_000_000, Duration::from_secs(60));
//! let sealed = entry.encode(&key, 3, &keyer.mac_key());
//! assert_eq!(Entry::decode(&sealed, &key, &keyer.mac_key()), Ok((entry, 3)));
//! assert_eq!(Entry::decode(&sealed, &key, &[0; 32]), Err("mac"));
//! ```

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::key::CacheKey;
use crate::dialect::{Finish, Format, Identity, Outcome, Usage};
use crate::price::Usd;

/// One stored answer. See the [module docs](crate::cache).
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The status it came with.
    pub status: StatusCode,
    /// The headers that describe the answer.
    pub headers: HeaderMap,
    /// The body; of a stream, all of its frames.
    pub body: Bytes,
    /// Lengths in bytes of the frames of a stream, in order; `None` for a complete body.
    pub frames: Option<Arc<[u32]>>,
    /// When the call that brought it was made, in milliseconds since 1970-01-01 UTC.
    pub created_ms: i64,
    /// How long after that it may be served.
    pub ttl: Duration,
    /// What it says about itself.
    pub outcome: Outcome,
    /// What it cost when it was made; `None` if its price is not known.
    pub cost: Option<Usd>,
    /// The version of the price table behind `cost`.
    pub table: Option<Arc<str>>,
    /// Where its body says which one it is, once somebody asked; never leaves memory.
    pub(super) identity: Places,
}

/// The places of ids and times in an entry's body, looked up when first needed. They follow from the body, so two
/// entries that differ in nothing else are equal.
#[derive(Clone, Default)]
pub(super) struct Places(OnceLock<Identity>);

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

/// An entry from the future by more than this means that the clock went back, and nobody knows how far.
const CLOCK_SLACK_MS: i64 = 60_000;

/// Bytes that an entry takes in memory beyond its contents, rounded up from 385 measured.
const FIXED_WEIGHT: usize = 400;

impl Entry {
    /// A complete answer without headers or known cost.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>, created_ms: i64, ttl: Duration) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
            frames: None,
            created_ms,
            ttl,
            outcome: Outcome::default(),
            cost: None,
            table: None,
            identity: Places::default(),
        }
    }

    /// Where the body says which one it is.
    pub(super) fn identity(&self, format: &dyn Format) -> &Identity {
        self.identity.0.get_or_init(|| format.identity(&self.body, self.frames.is_some()))
    }

    /// When it stops being fresh, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn expires_ms(&self) -> i64 {
        let ttl = i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX);
        self.created_ms.saturating_add(ttl)
    }

    /// True if it may be served at `now_ms`: not too old, and not from a future that a clock set back has made.
    #[must_use]
    pub fn is_fresh(&self, now_ms: i64) -> bool {
        now_ms < self.expires_ms() && now_ms >= self.created_ms.saturating_sub(CLOCK_SLACK_MS)
    }

    /// Bytes it takes in memory: body, headers, frame lengths, the places of ids in a stream, and a fixed share.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        // Each chunk repeats an id and a time, whose places take 16 bytes; hardly any chunk is shorter than 128.
        let frames = self.frames.as_ref().map_or(0, |frames| frames.len() * 4 + self.body.len() / 8);
        u32::try_from(self.body.len() + headers + frames + FIXED_WEIGHT).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Entry {
    /// Status and sizes, never contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("body", &self.body.len())
            .field("frames", &self.frames.as_ref().map(|frames| frames.len()))
            .field("created_ms", &self.created_ms)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// The envelope, all numbers little-endian:
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 4 | `THRF` |
/// | 4 | 1 | format, 1 |
/// | 5 | 3 | key id, codec, flags: 0 |
/// | 8 | 8 | length of the payload |
/// | 16 | 8 | created, ms |
/// | 24 | 8 | ttl, ms |
/// | 32 | 8 | epoch |
/// | 40 | 32 | key |
/// | 72 | n | payload |
/// | 72 + n | 16 | first half of the keyed hash over everything before it |
mod layout {
    pub(super) const START: [u8; 8] = *b"THRF\x01\0\0\0";
    pub(super) const KEY: usize = 40;
    pub(super) const PAYLOAD: usize = 72;
    pub(super) const MAC: usize = 16;
}

impl Entry {
    /// The sealed form, bound to its key and epoch. A time to live is kept in whole milliseconds.
    #[must_use]
    pub fn encode(&self, key: &CacheKey, epoch: u64, mac_key: &[u8; 32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.weight() as usize + layout::PAYLOAD);
        out.extend_from_slice(&layout::START);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        out.extend_from_slice(&ttl.to_le_bytes());
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(key.as_bytes());
        self.write(&mut out);
        let len = (out.len() - layout::PAYLOAD) as u64;
        out[8..16].copy_from_slice(&len.to_le_bytes());
        let mac = blake3::keyed_hash(mac_key, &out);
        out.extend_from_slice(&mac.as_bytes()[..layout::MAC]);
        out
    }

    /// Opens a sealed entry and its epoch. Total: whatever the bytes are, the worst answer is a word.
    ///
    /// # Errors
    /// `short`, `format` (not ours, or of another version), `length`, `key` (it belongs to another question), `mac`
    /// (damaged or forged), `payload`.
    pub fn decode(bytes: &[u8], key: &CacheKey, mac_key: &[u8; 32]) -> Result<(Self, u64), &'static str> {
        let mac_at =
            bytes.len().checked_sub(layout::MAC).filter(|at| *at >= layout::PAYLOAD).ok_or("short")?;
        let (sealed, mac) = bytes.split_at(mac_at);
        let mut head = Reader(sealed);
        if head.array() != Some(layout::START) {
            return Err("format");
        }
        let len = head.u64().ok_or("short")?;
        if len != (mac_at - layout::PAYLOAD) as u64 {
            return Err("length");
        }
        let created_ms = head.array().map(i64::from_le_bytes).ok_or("short")?;
        let ttl = head.u64().map(Duration::from_millis).ok_or("short")?;
        let epoch = head.u64().ok_or("short")?;
        if !same(&sealed[layout::KEY..layout::PAYLOAD], key.as_bytes()) {
            return Err("key");
        }
        if !same(mac, &blake3::keyed_hash(mac_key, sealed).as_bytes()[..layout::MAC]) {
            return Err("mac");
        }
        let entry = Self::read(&sealed[layout::PAYLOAD..], created_ms, ttl).ok_or("payload")?;
        Ok((entry, epoch))
    }

    fn write(&self, out: &mut Vec<u8>) {
        // Taken apart whole, so that a new field does not compile until it is decided whether it is stored.
        let Self { status, headers, body, frames, created_ms: _, ttl: _, outcome, cost, table, identity: _ } =
            self;
        let Outcome { model, service_tier, usage, finish, empty, broken_tool_call, text_bytes } = outcome;
        out.extend_from_slice(&status.as_u16().to_le_bytes());
        out.push(finish_code(*finish));
        out.push(u8::from(*empty) | u8::from(*broken_tool_call) << 1);
        out.extend_from_slice(&text_bytes.to_le_bytes());
        write_text(out, model.as_deref());
        write_text(out, service_tier.as_deref());
        write_text(out, table.as_deref());
        match cost {
            None => out.push(0),
            Some(cost) => {
                out.push(1);
                out.extend_from_slice(&cost.pico().to_le_bytes());
            }
        }
        match usage {
            None => out.push(0),
            Some(usage) => {
                out.push(1);
                for count in counts(usage) {
                    out.push(u8::from(count.is_some()));
                    out.extend_from_slice(&count.unwrap_or(0).to_le_bytes());
                }
            }
        }
        out.extend_from_slice(&(headers.len() as u32).to_le_bytes());
        for (name, value) in headers {
            write_bytes(out, name.as_str().as_bytes());
            write_bytes(out, value.as_bytes());
        }
        match frames {
            None => out.push(0),
            Some(frames) => {
                out.push(1);
                out.extend_from_slice(&(frames.len() as u64).to_le_bytes());
                frames.iter().for_each(|frame| out.extend_from_slice(&frame.to_le_bytes()));
            }
        }
        write_bytes(out, body);
    }

    fn read(payload: &[u8], created_ms: i64, ttl: Duration) -> Option<Self> {
        let mut from = Reader(payload);
        let status = StatusCode::from_u16(u16::from_le_bytes(from.array()?)).ok()?;
        let finish = finish_of(from.byte()?)?;
        let flags = from.byte()?;
        let text_bytes = from.u64()?;
        let (model, service_tier, table) = (from.text()?, from.text()?, from.text()?);
        let cost = match from.byte()? {
            0 => None,
            _ => Some(Usd::from_pico(i128::from_le_bytes(from.array()?))),
        };
        let usage = match from.byte()? {
            0 => None,
            _ => Some(from.usage()?),
        };
        let mut headers = HeaderMap::new();
        for _ in 0..u32::from_le_bytes(from.array()?) {
            let name = HeaderName::from_bytes(from.bytes()?).ok()?;
            headers.try_append(name, HeaderValue::from_bytes(from.bytes()?).ok()?).ok()?;
        }
        let frames = match from.byte()? {
            0 => None,
            _ => {
                let len = usize::try_from(from.u64()?).ok()?.checked_mul(4)?;
                let (frames, _) = from.take(len)?.as_chunks::<4>();
                Some(frames.iter().map(|frame| u32::from_le_bytes(*frame)).collect())
            }
        };
        let body = Bytes::copy_from_slice(from.bytes()?);
        let outcome = Outcome {
            model: model.map(str::to_owned),
            service_tier: service_tier.map(str::to_owned),
            usage,
            finish,
            empty: flags & 1 != 0,
            broken_tool_call: flags & 2 != 0,
            text_bytes,
        };
        let table = table.map(Arc::from);
        from.0.is_empty().then_some(Self {
            status,
            headers,
            body,
            frames,
            created_ms,
            ttl,
            outcome,
            cost,
            table,
            identity: Places::default(),
        })
    }
}

/// Equality in a time that does not depend on where the two differ. Both are at most 32 bytes long.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let widen = |bytes: &[u8]| {
        let mut wide = [0; 32];
        wide[..bytes.len()].copy_from_slice(bytes);
        blake3::Hash::from(wide)
    };
    a.len() == b.len() && widen(a) == widen(b)
}

fn finish_code(finish: Finish) -> u8 {
    match finish {
        Finish::Unknown => 0,
        Finish::Whole => 1,
        Finish::Truncated => 2,
        Finish::Refused => 3,
        Finish::Failed => 4,
        Finish::Partial => 5,
    }
}

fn finish_of(code: u8) -> Option<Finish> {
    [Finish::Unknown, Finish::Whole, Finish::Truncated, Finish::Refused, Finish::Failed, Finish::Partial]
        .into_iter()
        .find(|finish| finish_code(*finish) == code)
}

const COUNTS: usize = 18;

fn counts(usage: &Usage) -> [Option<u64>; COUNTS] {
    let Usage {
        input,
        read,
        write_short,
        write_long,
        output,
        reasoning,
        input_audio,
        input_image,
        input_video,
        read_audio,
        read_image,
        read_video,
        output_audio,
        output_image,
        input_text,
        input_tool,
        output_text,
        searches,
    } = *usage;
    [
        input,
        read,
        write_short,
        write_long,
        output,
        reasoning,
        input_audio,
        input_image,
        input_video,
        read_audio,
        read_image,
        read_video,
        output_audio,
        output_image,
        input_text,
        input_tool,
        output_text,
        searches,
    ]
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn write_text(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        write_bytes(out, text.as_bytes());
    }
}

/// Takes fields off the front; `None` where the bytes end. Every length is checked against what is there before
/// anything is allocated for it.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        self.take(len)
    }

    fn text(&mut self) -> Option<Option<&'a str>> {
        match self.byte()? {
            0 => Some(None),
            _ => std::str::from_utf8(self.bytes()?).ok().map(Some),
        }
    }

    fn usage(&mut self) -> Option<Usage> {
        let mut read = [None; COUNTS];
        for count in &mut read {
            let known = self.byte()? != 0;
            let value = self.u64()?;
            *count = known.then_some(value);
        }
        let [
            input,
            read,
            write_short,
            write_long,
            output,
            reasoning,
            input_audio,
            input_image,
            input_video,
            read_audio,
            read_image,
            read_video,
            output_audio,
            output_image,
            input_text,
            input_tool,
            output_text,
            searches,
        ] = read;
        Some(Usage {
            input,
            read,
            write_short,
            write_long,
            output,
            reasoning,
            input_audio,
            input_image,
            input_video,
            read_audio,
            read_image,
            read_video,
            output_audio,
            output_image,
            input_text,
            input_tool,
            output_text,
            searches,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 32] = [5; 32];

    fn entries() -> impl Strategy<Value = Entry> {
        let headers = prop::collection::vec(("[a-z][a-z0-9-]{0,12}", "[ -~]{0,20}"), 0..5);
        let outcome = (
            prop::option::of(".{0,12}"),
            prop::option::of("[a-z]{0,8}"),
            prop::option::of(prop::array::uniform13(prop::option::of(any::<u64>()))),
            0u8..6,
            any::<(bool, bool, u64)>(),
        );
        let rest = (
            prop::option::of(prop::collection::vec(any::<u32>(), 0..9)),
            any::<i64>(),
            any::<u64>(),
            prop::option::of(any::<i128>()),
            prop::option::of(".{0,12}"),
        );
        let body = prop::collection::vec(any::<u8>(), 0..300);
        (100u16..1000, headers, outcome, rest, body).prop_map(|(status, fields, outcome, rest, body)| {
            let (model, service_tier, counts, finish, (empty, broken_tool_call, text_bytes)) = outcome;
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let mut bytes = Vec::new();
            for count in counts.into_iter().flatten() {
                bytes.push(u8::from(count.is_some()));
                bytes.extend(count.unwrap_or(0).to_le_bytes());
            }
            let (frames, created_ms, ttl, cost, table) = rest;
            Entry {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body: body.into(),
                frames: frames.map(Arc::from),
                created_ms,
                ttl: Duration::from_millis(ttl),
                outcome: Outcome {
                    model,
                    service_tier,
                    usage: counts.and_then(|_| Reader(&bytes).usage()),
                    finish: finish_of(finish).unwrap(),
                    empty,
                    broken_tool_call,
                    text_bytes,
                },
                cost: cost.map(Usd::from_pico),
                table: table.map(Arc::from),
                identity: Places::default(),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_is_sealed_opens_again(entry in entries(), key: [u8; 32], epoch: u64) {
            let key = CacheKey::from_bytes(key);
            let sealed = entry.encode(&key, epoch, &MAC);
            prop_assert_eq!(Entry::decode(&sealed, &key, &MAC), Ok((entry, epoch)));
        }

        #[test]
        fn any_flipped_bit_and_any_cut_is_refused(
            entry in entries(), at: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index,
        ) {
            let key = CacheKey::from_bytes([1; 32]);
            let mut sealed = entry.encode(&key, 0, &MAC);
            prop_assert!(Entry::decode(&sealed[..cut.index(sealed.len())], &key, &MAC).is_err());
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(Entry::decode(&sealed, &key, &MAC).is_err(), "byte {}", at);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Entry::decode(&bytes, &CacheKey::from_bytes([1; 32]), &MAC);
            // As if the hash had been right.
            let _ = Entry::read(&bytes, 0, Duration::ZERO);
        }
    }

    #[test]
    fn an_entry_does_not_open_under_another_key_or_secret() {
        let entry = Entry::new(StatusCode::OK, "answer", 0, Duration::from_secs(1));
        let (mine, other) = (CacheKey::from_bytes([1; 32]), CacheKey::from_bytes([2; 32]));
        let mut sealed = entry.encode(&mine, 0, &MAC);
        assert_eq!(Entry::decode(&sealed, &other, &MAC), Err("key"));
        sealed[layout::KEY..layout::PAYLOAD].copy_from_slice(other.as_bytes());
        assert_eq!(Entry::decode(&sealed, &other, &MAC), Err("mac"), "moved to another question");
        assert_eq!(Entry::decode(&entry.encode(&mine, 0, &[6; 32]), &mine, &MAC), Err("mac"));
    }

    #[test]
    fn an_entry_is_stale_when_old_and_when_the_clock_went_back() {
        let entry = Entry::new(StatusCode::OK, "", 1_000_000, Duration::from_secs(10));
        for (now, fresh) in [
            (1_000_000, true),
            (1_009_999, true),
            (1_010_000, false),
            (940_000, true),
            (939_999, false),
            (i64::MIN, false),
        ] {
            assert_eq!(entry.is_fresh(now), fresh, "{now}");
        }
        let forever = Entry::new(StatusCode::OK, "", i64::MAX - 1, Duration::MAX);
        assert!(forever.is_fresh(i64::MAX - 1), "no overflow at the end of time");
    }

    #[test]
    fn debug_shows_no_content() {
        let entry = Entry::new(StatusCode::OK, "private answer", 0, Duration::ZERO);
        assert!(!format!("{entry:?}").contains("private"));
    }
}
