//! The part of a text that has no more tokens than a limit.

use std::borrow::Cow;

use super::{Encoding, Until};

/// Which part of a text stays when it is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Keep<'m> {
    /// Its beginning.
    #[default]
    Front,
    /// Its end.
    Back,
    /// Both ends, half of the tokens each, with this mark between them. Where the mark alone is too long, the
    /// beginning stays.
    Ends(&'m str),
}

pub(super) fn truncate<'t>(encoding: Encoding, text: &'t str, limit: u64, keep: Keep<'_>) -> Cow<'t, str> {
    if fits(encoding, text, limit) {
        return Cow::Borrowed(text);
    }
    match keep {
        Keep::Front => Cow::Borrowed(front(encoding, text, limit)),
        Keep::Back => Cow::Borrowed(back(encoding, text, limit)),
        Keep::Ends(mark) => ends(encoding, text, limit, mark)
            .map_or_else(|| Cow::Borrowed(front(encoding, text, limit)), Cow::Owned),
    }
}

fn fits(encoding: Encoding, text: &str, limit: u64) -> bool {
    matches!(encoding.count_until(text, limit), Until::Exactly(_))
}

/// The token borders of the whole text are where to look; what is cut there is counted again, since its last piece
/// may fall apart in another way.
fn front(encoding: Encoding, text: &str, limit: u64) -> &str {
    let (mut end, mut step) = (floor(text, encoding.place(text, limit)), 1);
    while !fits(encoding, &text[..end], limit) {
        end = floor(text, end.saturating_sub(step));
        step *= 2;
    }
    &text[..end]
}

fn back(encoding: Encoding, text: &str, limit: u64) -> &str {
    let total = encoding.count(text);
    let (mut start, mut step) = (ceil(text, encoding.place(text, total.saturating_sub(limit))), 1);
    while !fits(encoding, &text[start..], limit) {
        start = ceil(text, start + step);
        step *= 2;
    }
    &text[start..]
}

fn ends(encoding: Encoding, text: &str, limit: u64, mark: &str) -> Option<String> {
    let mut room = limit.checked_sub(encoding.count(mark))?;
    loop {
        let head = front(encoding, text, room / 2);
        let tail = back(encoding, text, room - room / 2);
        if head.len() + tail.len() < text.len() {
            let joined = [head, mark, tail].concat();
            if fits(encoding, &joined, limit) {
                return Some(joined);
            }
        }
        // What is joined at the mark may count a little more.
        room = room.checked_sub(1 + room / 64)?;
    }
}

/// The last border of two characters up to `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The first border of two characters from `at` on.
pub(super) fn ceil(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}
