//! Fresh ids and times for an answer that is served again.
//!
//! Two answers with one id are one answer to whoever logs, de-duplicates or bills by id, and a creation time from
//! yesterday is a bug report. So a replay gets its own: ids of the same kind and, if that leaves enough chance, the
//! same length, and the time of the replay. All other bytes stay as they were stored.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use crate::dialect::{Identity, Stamp};

/// A source of ids: random in all that is told of it, and as cheap as a copy.
pub(in crate::cache) struct FreshIds {
    key: [u8; 32],
}

/// Counts the blocks of all sources, so that no two are alike.
static BLOCKS: AtomicU64 = AtomicU64::new(0);

/// Made at once, for many ids: a hash is fast in large pieces.
const BLOCK: usize = 512;

thread_local! {
    /// What is left of this thread's block.
    static LEFT: RefCell<([u8; BLOCK], usize)> = const { RefCell::new(([0; BLOCK], BLOCK)) };
}

impl FreshIds {
    /// # Panics
    /// When the operating system has no randomness to give.
    pub(in crate::cache) fn new() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self { key }
    }

    fn dice(&self) -> Dice {
        Dice { key: self.key, block: [0; 32], at: 32 }
    }
}

impl fmt::Debug for FreshIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FreshIds")
    }
}

/// The chance of one replay.
struct Dice {
    key: [u8; 32],
    block: [u8; 32],
    at: usize,
}

impl Dice {
    fn refill(&mut self) {
        let Self { key, block, at } = self;
        LEFT.with_borrow_mut(|(left, next)| {
            if *next == BLOCK {
                let mut hasher = blake3::Hasher::new_keyed(key);
                hasher.update(&BLOCKS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
                hasher.finalize_xof().fill(left);
                *next = 0;
            }
            // What has been told is not kept.
            let taken = &mut left[*next..*next + block.len()];
            block.copy_from_slice(taken);
            taken.fill(0);
            *next += block.len();
        });
        *at = 0;
    }

    fn of(&mut self, letters: &[u8]) -> char {
        if self.at == self.block.len() {
            self.refill();
        }
        let byte = self.block[self.at];
        self.at += 1;
        // Some letters are likelier by a hair, which nobody can make use of at these lengths.
        char::from(letters[(usize::from(byte) * letters.len()) >> 8])
    }
}

/// Fewer random letters than this can be guessed.
const MIN_RANDOM: usize = 16;

const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// An id of the same kind: words up to a separator stand (`chatcmpl-`, `msg_`), of the rest each letter is another
/// one of the alphabet the rest is made of. A rest that is too short to be anybody's own becomes longer.
fn fresh(id: &str, dice: &mut Dice) -> String {
    let mut rest = id;
    while let Some((word, after)) = rest.split_once(['-', '_'])
        && (2..=12).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphabetic())
        && !after.is_empty()
    {
        rest = after;
    }
    let kept = &id[..id.len() - rest.len()];
    let (mut count, mut digits, mut hex, mut lower) = (0, true, true, true);
    for byte in rest.bytes().filter(u8::is_ascii_alphanumeric) {
        count += 1;
        digits &= byte.is_ascii_digit();
        hex &= matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        lower &= !byte.is_ascii_uppercase();
    }
    let mut out = String::with_capacity(id.len().max(kept.len() + 24));
    out.push_str(kept);
    if count < MIN_RANDOM {
        out.extend((0..24).map(|_| dice.of(LETTERS)));
        return out;
    }
    let alphabet = match (digits, hex, lower) {
        (true, ..) => &LETTERS[..10],
        (_, true, _) => &LETTERS[..16],
        (.., true) => &LETTERS[..36],
        _ => &LETTERS[..],
    };
    // The version and the variant of a UUID tell readers how it was made.
    let uuid = rest.len() == 36 && [8, 13, 18, 23].iter().all(|at| rest.as_bytes()[*at] == b'-');
    out.extend(rest.char_indices().map(|(at, c)| match c {
        _ if uuid && matches!(at, 14 | 19) => c,
        c if c.is_ascii_alphanumeric() => dice.of(alphabet),
        c => c,
    }));
    out
}

/// What stands at each place of one replay.
pub(super) struct Anew {
    identity: Arc<Identity>,
    now_ms: i64,
    dice: Dice,
    known: Vec<(Stamp, String)>,
}

/// Up to so many bytes between two places are copied; more than that are shared with the stored body.
const SHORT: usize = 512;

impl Anew {
    pub(super) fn new(identity: Arc<Identity>, ids: &FreshIds, now_ms: i64) -> Self {
        Self { identity, now_ms, dice: ids.dice(), known: Vec::new() }
    }

    /// What takes the place of `old`: the same wherever the same stood.
    fn text(&mut self, what: Stamp, old: &[u8]) -> &str {
        let at = self.known.iter().rposition(|(have, _)| *have == what).unwrap_or_else(|| {
            let now_ms = self.now_ms.max(0);
            let new = match what {
                Stamp::Id(_) => fresh(std::str::from_utf8(old).unwrap_or_default(), &mut self.dice),
                Stamp::Seconds => (now_ms / 1_000).to_string(),
                Stamp::Date => jiff::Timestamp::from_millisecond(now_ms)
                    .map_or_else(|_| String::from_utf8_lossy(old).into_owned(), |now| now.to_string()),
            };
            self.known.push((what, new));
            self.known.len() - 1
        });
        &self.known[at].1
    }

    /// A body with ids and times made anew, in pieces. Long parts without any are those of `body`, not copies.
    pub(super) fn pieces(mut self, body: &Bytes) -> Vec<Bytes> {
        let (mut pieces, mut out, mut from) = (Vec::new(), Vec::with_capacity(SHORT / 2), 0);
        let mut pass = |out: &mut Vec<u8>, gap: Range<usize>| {
            if gap.len() <= SHORT {
                return out.extend_from_slice(&body[gap]);
            }
            if !out.is_empty() {
                pieces.push(Bytes::from(std::mem::take(out)));
            }
            pieces.push(body.slice(gap));
        };
        for place in self.identity.clone().places() {
            let span = place.span();
            let Some(old) = body.get(span.clone()) else { continue };
            pass(&mut out, from..span.start);
            out.extend_from_slice(self.text(place.what(), old).as_bytes());
            from = span.end;
        }
        pass(&mut out, from..body.len());
        if !out.is_empty() {
            pieces.push(out.into());
        }
        pieces
    }

    /// The same in one piece, for whoever has to read it.
    pub(super) fn whole(self, body: &Bytes) -> Bytes {
        self.pieces(body).concat().into()
    }

    /// The frames of a stream with ids and times made anew, each when its turn comes.
    pub(super) fn frames(self, body: &Bytes, frames: &Arc<[u32]>) -> Frames {
        Frames {
            anew: self,
            body: body.clone(),
            frames: frames.clone(),
            frame: 0,
            at: 0,
            place: 0,
            into: 0,
            room: BytesMut::new(),
        }
    }
}

/// See [`Anew::frames`].
pub(super) struct Frames {
    anew: Anew,
    body: Bytes,
    frames: Arc<[u32]>,
    /// The next frame, and where it begins in the stored body.
    frame: usize,
    at: usize,
    /// The next place, and how much of its new value is told.
    place: usize,
    into: usize,
    /// Frames are made here. Once their readers have let go of them, the same bytes serve for the next ones.
    room: BytesMut,
}

/// Room for a few frames.
const ROOM: usize = 2 << 10;

impl Iterator for Frames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let len = *self.frames.get(self.frame)? as usize;
        self.frame += 1;
        let end = self.at.saturating_add(len).min(self.body.len());
        let identity = self.anew.identity.clone();
        if identity.places().get(self.place).is_none_or(|place| place.span().start >= end) {
            let frame = self.body.slice(self.at..end);
            self.at = end;
            return Some(frame);
        }
        // What stands at a place becomes longer by some 20 bytes at most.
        if self.room.capacity() < len + 64 {
            self.room.reserve((len + 64).max(ROOM));
        }
        while let Some(place) = identity.places().get(self.place)
            && place.span().start < end
        {
            let span = place.span();
            let Some(old) = self.body.get(span.clone()) else {
                self.place += 1;
                continue;
            };
            if self.at < span.start {
                self.room.extend_from_slice(&self.body[self.at..span.start]);
            }
            let new = self.anew.text(place.what(), old).as_bytes();
            if span.end > end {
                // An end within a value that became another one goes as far into the new one, or to its end.
                let into = (end - span.start).min(new.len());
                self.room.extend_from_slice(&new[self.into.min(into)..into]);
                (self.into, self.at) = (into, end);
                break;
            }
            self.room.extend_from_slice(&new[self.into..]);
            (self.place, self.into, self.at) = (self.place + 1, 0, span.end);
        }
        if self.at < end {
            self.room.extend_from_slice(&self.body[self.at..end]);
            self.at = end;
        }
        Some(self.room.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::Dialect;

    #[test]
    fn a_fresh_id_is_of_the_same_kind() {
        let ids = FreshIds::new();
        for (id, kept, alphabet) in [
            ("chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "chatcmpl-", "A-Za-z0-9"),
            ("resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b", "resp_", "a-f0-9"),
            ("msg_bdrk_01XFDUDYJgAACzvnptvVoYEL", "msg_bdrk_", "A-Za-z0-9"),
            ("gen-1749854123456789012", "gen-", "0-9"),
        ] {
            let (one, other) = (fresh(id, &mut ids.dice()), fresh(id, &mut ids.dice()));
            assert!(one != id && one != other, "{one}");
            assert_eq!(one.len(), id.len());
            let rest = one.strip_prefix(kept).expect("the kind is kept");
            assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{rest}");
            if alphabet != "A-Za-z0-9" {
                assert!(!rest.bytes().any(|byte| byte.is_ascii_uppercase() || byte > b'f'), "{rest}");
            }
        }
        let uuid = fresh("0f8fad5b-d9cb-469f-a165-70867728950e", &mut ids.dice());
        assert_eq!((uuid.len(), &uuid[13..15], &uuid[18..20]), (36, "-4", "-a"));
        for short in ["chatcmpl-1", "x", "r1", "msg_1"] {
            assert!(fresh(short, &mut ids.dice()).len() >= 24, "{short} leaves nothing to chance");
        }
    }

    proptest! {
        #[test]
        fn any_id_becomes_another_one(id in "[a-zA-Z0-9_é-]{1,50}") {
            let ids = FreshIds::new();
            let one = fresh(&id, &mut ids.dice());
            prop_assert!(one != id && one != fresh(&id, &mut ids.dice()));
        }

        #[test]
        fn all_bytes_but_those_of_ids_and_times_stay_where_they_were(
            texts in prop::collection::vec("[a-z\"é ]{0,12}", 1..6),
            long in any::<bool>(),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
        ) {
            let id = if long { "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT" } else { "c1" };
            let mut body = String::new();
            for text in &texts {
                let text = crate::call::json::quote(text);
                body += &format!("data: {{\"id\":\"{id}\",\"x\":{text},\"created\":1795000000}}\n\n");
            }
            let mut at: Vec<usize> = cuts.drain(..).map(|cut| cut.index(body.len() + 1)).collect();
            at.extend([0, body.len()]);
            at.sort_unstable();
            let frames: Arc<[u32]> = at.windows(2).map(|pair| (pair[1] - pair[0]) as u32).collect();
            let identity = Dialect::OpenAiChat.format().identity(body.as_bytes(), true);
            let stored = Bytes::from(body.clone());
            let anew = || Anew::new(Arc::new(identity.clone()), &FreshIds::new(), 1_900_000_000_999);
            let parts: Vec<Bytes> = anew().frames(&stored, &frames).collect();
            prop_assert_eq!(parts.len(), frames.len());
            let new = parts.concat();
            let whole = anew().whole(&stored);
            prop_assert_eq!(new.len(), whole.len());
            for (new, whole) in new.split(|byte| *byte == b'\n').zip(whole.split(|byte| *byte == b'\n')) {
                prop_assert_eq!(&new[new.len().saturating_sub(22)..], &whole[whole.len().saturating_sub(22)..]);
            }
            let new = std::str::from_utf8(&new).unwrap();
            let again = Dialect::OpenAiChat.format().identity(new.as_bytes(), true);
            let own = again.own_id(new.as_bytes()).unwrap();
            prop_assert!(own != id);
            prop_assert_eq!(new.replace(own, id).replace(":1900000000}", ":1795000000}"), body);
        }
    }

    #[test]
    fn ends_of_frames_move_with_the_bytes_before_them() {
        let body = Bytes::from_static(b"data: {\"id\":\"c1\"}\n\ndata: {\"id\":\"c1\"}\n\n");
        let identity = Dialect::OpenAiChat.format().identity(&body, true);
        let frames: Arc<[u32]> = Arc::new([14, 5, 0, 19]);
        let frames = Anew::new(Arc::new(identity), &FreshIds::new(), 0).frames(&body, &frames);
        let parts: Vec<Bytes> = frames.collect();
        assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [14, 27, 0, 19 + 22]);
        assert_eq!(parts.concat().len(), body.len() + 44);
    }

    #[test]
    fn long_parts_are_those_that_are_stored_and_short_ones_are_copied_together() {
        let text = "x".repeat(4_000);
        let body = Bytes::from(format!(
            r#"{{"id":"chatcmpl-1","created":7,"model":"m","choices":[],"x":"{text}"}}"#
        ));
        let identity = Arc::new(Dialect::OpenAiChat.format().identity(&body, false));
        let pieces = Anew::new(identity.clone(), &FreshIds::new(), 9_000).pieces(&body);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1].as_ptr_range().end, body.as_ptr_range().end, "not copied");
        let text = String::from_utf8(pieces.concat()).unwrap();
        let (_, rest) = text.split_once("\",").unwrap();
        assert!(rest.starts_with("\"created\":9,\"model\""), "{rest:.40}");
        assert_eq!(rest.len() + 2, body.len() - body.iter().position(|b| *b == b',').unwrap() + 1);
    }
}
