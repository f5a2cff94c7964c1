//! Fresh ids and times for an answer that is served again.
//!
//! Two answers with one id are one answer to whoever logs, de-duplicates or bills by id, and a creation time from
//! yesterday is a bug report. So a replay gets its own: ids of the same kind and, if that leaves enough chance, the
//! same length, and the time of the replay. All other bytes stay as they were stored.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::dialect::{Identity, Stamp};

/// A source of ids: random in all that is told of it, and as cheap as a hash.
pub(in crate::cache) struct FreshIds {
    key: [u8; 32],
    next: AtomicU64,
}

impl FreshIds {
    /// # Panics
    /// When the operating system has no randomness to give.
    pub(in crate::cache) fn new() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self { key, next: AtomicU64::new(0) }
    }

    fn dice(&self) -> Dice {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&self.next.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        Dice { from: hasher.finalize_xof(), block: [0; 64], at: 64 }
    }
}

impl fmt::Debug for FreshIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FreshIds")
    }
}

/// The chance of one replay.
struct Dice {
    from: blake3::OutputReader,
    block: [u8; 64],
    at: usize,
}

impl Dice {
    fn of(&mut self, letters: &[u8]) -> char {
        if self.at == self.block.len() {
            self.from.fill(&mut self.block);
            self.at = 0;
        }
        let byte = self.block[self.at];
        self.at += 1;
        // Some letters are likelier by a hair, which nobody can make use of at these lengths.
        char::from(letters[usize::from(byte) % letters.len()])
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
    let letters = || rest.bytes().filter(u8::is_ascii_alphanumeric);
    let all = |fits: fn(u8) -> bool| letters().all(fits);
    let mut out = String::with_capacity(id.len().max(kept.len() + 24));
    out.push_str(kept);
    if letters().count() < MIN_RANDOM {
        out.extend((0..24).map(|_| dice.of(LETTERS)));
        return out;
    }
    let alphabet = if all(|byte| byte.is_ascii_digit()) {
        &LETTERS[..10]
    } else if all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        &LETTERS[..16]
    } else if all(|byte| !byte.is_ascii_uppercase()) {
        &LETTERS[..36]
    } else {
        &LETTERS[..]
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

/// A body, and the lengths of its frames if it is a stream, with ids and times made anew.
pub(super) fn renewed(
    body: &Bytes,
    frames: Option<&Arc<[u32]>>,
    identity: &Identity,
    ids: &FreshIds,
    now_ms: i64,
) -> (Bytes, Option<Arc<[u32]>>) {
    let mut dice = ids.dice();
    let mut known: Vec<(u16, String)> = Vec::new();
    let (mut seconds, mut date) = (None::<String>, None::<String>);
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut ends = Ends::new(frames);
    let mut from = 0;
    for place in identity.places() {
        let span = place.span();
        let Some(old) = body.get(span.clone()) else { continue };
        let new = match place.what() {
            Stamp::Id(number) => {
                let at = known.iter().rposition(|(have, _)| *have == number).unwrap_or_else(|| {
                    let id = std::str::from_utf8(old).unwrap_or_default();
                    known.push((number, fresh(id, &mut dice)));
                    known.len() - 1
                });
                known[at].1.as_str()
            }
            Stamp::Seconds => seconds.get_or_insert_with(|| (now_ms.max(0) / 1_000).to_string()),
            Stamp::Date => date.get_or_insert_with(|| {
                let now = jiff::Timestamp::from_millisecond(now_ms.max(0));
                now.map_or_else(|_| String::from_utf8_lossy(old).into_owned(), |now| now.to_string())
            }),
        };
        out.extend_from_slice(&body[from..span.start]);
        ends.pass(span.start, out.len());
        out.extend_from_slice(new.as_bytes());
        ends.pass(span.end, out.len());
        from = span.end;
    }
    out.extend_from_slice(&body[from..]);
    ends.pass(body.len(), out.len());
    let frames = frames.map(|frames| if ends.moved { ends.lengths.into() } else { frames.clone() });
    (out.into(), frames)
}

/// Where frames end when bytes within them become more or fewer.
struct Ends<'a> {
    old: std::slice::Iter<'a, u32>,
    /// Where the next frame ended.
    next: usize,
    lengths: Vec<u32>,
    /// Where the last one ends now.
    last: usize,
    /// How far the old and the new bytes are known to be the same, and by how much they are apart.
    old_at: usize,
    new_at: usize,
    moved: bool,
}

impl<'a> Ends<'a> {
    fn new(frames: Option<&'a Arc<[u32]>>) -> Self {
        let mut old = frames.map_or(&[][..], |frames| &frames[..]).iter();
        let next = old.next().map_or(usize::MAX, |len| *len as usize);
        Self { old, next, lengths: Vec::new(), last: 0, old_at: 0, new_at: 0, moved: false }
    }

    /// The old bytes up to `old` are the new bytes up to `new`. An end within a value that became another one goes
    /// as far into the new one, or to its end.
    fn pass(&mut self, old: usize, new: usize) {
        self.moved |= old != new;
        while self.next <= old {
            let end = if self.next == old { new } else { (self.new_at + self.next - self.old_at).min(new) };
            self.lengths.push(u32::try_from(end - self.last).unwrap_or(u32::MAX));
            self.last = end;
            self.next = self.old.next().map_or(usize::MAX, |len| self.next.saturating_add(*len as usize));
        }
        (self.old_at, self.new_at) = (old, new);
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
            let (new, lengths) = renewed(&stored, Some(&frames), &identity, &FreshIds::new(), 1_900_000_000_999);
            let lengths = lengths.unwrap();
            prop_assert_eq!(lengths.len(), frames.len());
            prop_assert_eq!(lengths.iter().map(|len| *len as usize).sum::<usize>(), new.len());
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
        let (new, lengths) = renewed(&body, Some(&frames), &identity, &FreshIds::new(), 0);
        let own = "c1".len() + 22;
        assert_eq!(new.len(), body.len() + 44);
        assert_eq!(&*lengths.unwrap(), [14, 27, 0, 19 + own as u32 - 2]);
    }
}
