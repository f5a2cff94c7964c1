//! Counting in o200k and cl100k.
//!
//! A text falls into pieces by the encoding's pattern ([`split`](super::split)); the count of a piece is remembered
//! ([`cache`]) or found out: it is a token, or it is cut where no token joins ([`cut`](super::cut)) and its parts
//! are merged ([`merge`](super::merge), [`long`]).

use std::sync::OnceLock;

use super::Encoding;
use super::cache::{self, Cache, LONGEST, SHORT, Short};
use super::classes::Classes;
use super::cut::{Joins, is_wide};
use super::long;
use super::merge::{SMALL, Small};
use super::split::{Cl100k, O200k, Pattern};
use super::vocabulary::{PADDING, Tokens, Vocabulary};

/// The tables of one encoding.
pub(super) struct Engine {
    classes: &'static Classes,
    vocabulary: Vocabulary,
    joins: Joins,
    split: Split,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    O200k,
    Cl100k,
}

impl Engine {
    /// The engine of an encoding, made at the first call. `None` for those that have none.
    pub(super) fn of(encoding: Encoding) -> Option<&'static Self> {
        static ENGINES: [OnceLock<Option<Engine>>; 2] = [const { OnceLock::new() }; 2];
        let split = match encoding {
            // Harmony differs in its special tokens alone.
            Encoding::O200kBase | Encoding::O200kHarmony => Split::O200k,
            Encoding::Cl100kBase => Split::Cl100k,
            _ => return None,
        };
        ENGINES[split as usize].get_or_init(|| Self::new(split)).as_ref()
    }

    fn new(split: Split) -> Option<Self> {
        let classes = Classes::get()?;
        // What is kept longer than `core` is asked for ahead of it, so that its memory, three times as much as our
        // tables take, lies at the end of the heap when it is freed and goes back to the system.
        let room = Tokens::room();
        let core = match split {
            Split::O200k => tiktoken_rs::o200k_base(),
            Split::Cl100k => tiktoken_rs::cl100k_base(),
        };
        let core = core.ok()?;
        let tokens = room.fill(&core)?;
        drop(core);
        Some(Self { classes, vocabulary: Vocabulary::of(&tokens), joins: Joins::of(&tokens), split })
    }

    /// Tokens of `text` as ordinary text, or more than `limit` if there are more.
    pub(super) fn count(&self, text: &str, limit: u64) -> Option<u64> {
        cache::with(self.split as usize, |cache| match self.split {
            Split::O200k => self.run::<O200k>(cache, text.as_bytes(), limit),
            Split::Cl100k => self.run::<Cl100k>(cache, text.as_bytes(), limit),
        })
    }

    fn run<P: Pattern>(&self, cache: &mut Cache, text: &[u8], limit: u64) -> u64 {
        let (mut total, mut at) = (0, 0);
        while at < text.len() && total <= limit {
            let end = P::end(self.classes, text, at);
            total += self.piece(cache, text, at, end, limit - total);
            at = end;
        }
        total
    }

    /// Where the token number `tokens` of `text` ends, on a character border or behind it; the length if there are
    /// no more.
    pub(super) fn place(&self, text: &str, tokens: u64) -> Option<usize> {
        cache::with(self.split as usize, |cache| match self.split {
            Split::O200k => self.place_by::<O200k>(cache, text.as_bytes(), tokens),
            Split::Cl100k => self.place_by::<Cl100k>(cache, text.as_bytes(), tokens),
        })
    }

    fn place_by<P: Pattern>(&self, cache: &mut Cache, text: &[u8], tokens: u64) -> usize {
        let (mut left, mut at) = (tokens, 0);
        while at < text.len() {
            let end = P::end(self.classes, text, at);
            let count = self.piece(cache, text, at, end, left);
            if count > left {
                return at + self.place_in(cache, &text[at..end], left);
            }
            (left, at) = (left - count, end);
        }
        at
    }

    /// The same in a piece of more tokens.
    fn place_in(&self, cache: &mut Cache, piece: &[u8], tokens: u64) -> usize {
        let (mut left, mut place) = (tokens, 0);
        long::walk(&self.vocabulary, cache, piece, |at, ends| {
            match usize::try_from(left).ok().filter(|&left| left < ends.len()) {
                Some(0) => {}
                Some(left) => place = at + ends[left - 1] as usize,
                None => {
                    place = ends.last().map_or(place, |&end| at + end as usize);
                    left -= ends.len() as u64;
                    return left > 0;
                }
            }
            false
        });
        place
    }

    /// Tokens of the piece `text[at..end]`.
    #[inline]
    fn piece(&self, cache: &mut Cache, text: &[u8], at: usize, end: usize, limit: u64) -> u64 {
        let len = end - at;
        if len < SHORT {
            let short = Short::of(text, at, len);
            match cache.short(short) {
                0 => self.new_short(cache, text, at, end, short),
                known => known,
            }
        } else {
            self.longer(cache, text, at, end, limit)
        }
    }

    #[inline(never)]
    fn new_short(&self, cache: &mut Cache, text: &[u8], at: usize, end: usize, short: Short) -> u64 {
        let piece = &text[at..end];
        let mut buffer = [0; SHORT + PADDING];
        buffer[..piece.len()].copy_from_slice(piece);
        let part = if is_wide(piece) { self.joins.part(text, at, end) } else { end };
        let count = if part < end {
            self.parts(cache, text, at, end, part, u64::MAX)
        } else if self.vocabulary.contains(&buffer, piece.len()) {
            1
        } else {
            Small::<16>::merge(&self.vocabulary, &buffer, piece.len()).count() as u64
        };
        cache.keep_short(short, count);
        count
    }

    /// Tokens of the piece `text[at..end]`, which may be cut at `part` first.
    fn parts(&self, cache: &mut Cache, text: &[u8], at: usize, end: usize, part: usize, limit: u64) -> u64 {
        let (mut from, mut to, mut count) = (at, part, 0);
        loop {
            count += if to - from < SHORT {
                self.piece(cache, text, from, to, u64::MAX)
            } else {
                self.whole(cache, &text[from..to], limit - count)
            };
            if to == end || count > limit {
                return count;
            }
            from = to;
            to = self.joins.part(text, from, end);
        }
    }

    #[inline(never)]
    fn longer(&self, cache: &mut Cache, text: &[u8], at: usize, end: usize, limit: u64) -> u64 {
        if is_wide(&text[at..end]) {
            let part = self.joins.part(text, at, end);
            return self.parts(cache, text, at, end, part, limit);
        }
        self.whole(cache, &text[at..end], limit)
    }

    /// Tokens of a piece of [`SHORT`] bytes or more that is not cut.
    fn whole(&self, cache: &mut Cache, piece: &[u8], limit: u64) -> u64 {
        if piece.len() > LONGEST {
            return self.unkept(cache, piece, limit);
        }
        match cache.longer(piece) {
            0 => {
                let count = self.unkept(cache, piece, u64::MAX);
                cache.keep_longer(piece, count);
                count
            }
            known => known,
        }
    }

    fn unkept(&self, cache: &mut Cache, piece: &[u8], limit: u64) -> u64 {
        let len = piece.len();
        if len > SMALL {
            return long::count(&self.vocabulary, cache, piece, limit);
        }
        let mut buffer = [0; SMALL + PADDING];
        buffer[..len].copy_from_slice(piece);
        if self.vocabulary.contains(&buffer, len) {
            1
        } else if len <= 32 {
            Small::<32>::merge(&self.vocabulary, &buffer, len).count() as u64
        } else {
            Small::<SMALL>::merge(&self.vocabulary, &buffer, len).count() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What counting in parts rests on: a piece that is a token counts one, and so does it inside a longer piece.
    #[test]
    fn every_token_is_what_merging_its_bytes_gives() {
        for (encoding, core) in [
            (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
            (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
        ] {
            let engine = Engine::of(encoding).unwrap();
            // All of them in a release build; in a debug build the long ones and a part of the others.
            let part = if cfg!(debug_assertions) { 16 } else { 1 };
            for (rank, token) in Tokens::read(core).unwrap().iter().enumerate() {
                if token.len() < 32 && rank % part != 0 {
                    continue;
                }
                let mut buffer = [0; SMALL + PADDING];
                buffer[..token.len()].copy_from_slice(token);
                assert!(engine.vocabulary.contains(&buffer, token.len()), "{encoding} {rank}");
                let merged = Small::<SMALL>::merge(&engine.vocabulary, &buffer, token.len());
                assert_eq!(merged.count(), 1, "{encoding} {rank}");
            }
        }
    }
}
