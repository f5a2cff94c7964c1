//! What the readers of all streamed formats share: from bytes to facts, in bounded memory.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::IgnoredAny;

use super::json_array::Elements;
use super::sse::{Event, Events};
use super::{Called, Finish, Outcome, StreamReader};

/// What one format makes of the events of a stream.
pub(super) trait Facts: fmt::Debug + Send + Sync {
    /// Takes one event.
    fn event(&mut self, name: Option<&str>, data: &str);

    /// What was seen so far; `ended` as in [`StreamReader::outcome`].
    fn outcome(&self, ended: bool) -> Outcome;
}

/// Reads the facts of a stream of server-sent events.
#[derive(Debug)]
pub(super) struct SseReader<F> {
    events: Events,
    facts: F,
    /// An event was too large to be looked into, so nobody knows what the answer holds.
    unread: bool,
}

impl<F: Facts> SseReader<F> {
    pub(super) fn new(facts: F) -> Self {
        Self { events: Events::new(), facts, unread: false }
    }
}

impl<F: Facts> StreamReader for SseReader<F> {
    fn push(&mut self, chunk: &[u8]) {
        let facts = &mut self.facts;
        let each = |event: Event<'_>| facts.event(event.name, &event.data);
        self.unread |= self.events.push(chunk, each).is_err();
    }

    fn outcome(&self, ended: bool) -> Outcome {
        let mut outcome = self.facts.outcome(ended);
        if self.unread && outcome.finish == Finish::Whole {
            outcome.finish = Finish::Unknown;
        }
        outcome
    }
}

/// Reads the facts of a stream that is one JSON array, or server-sent events: its first byte tells which, so that a
/// reader needs neither the call nor the headers.
#[derive(Debug)]
pub(super) struct ArrayOrEvents<F> {
    events: Events,
    elements: Elements,
    facts: F,
    unread: bool,
    is_array: Option<bool>,
}

impl<F: Facts> ArrayOrEvents<F> {
    pub(super) fn new(facts: F) -> Self {
        Self { events: Events::new(), elements: Elements::new(), facts, unread: false, is_array: None }
    }
}

impl<F: Facts> StreamReader for ArrayOrEvents<F> {
    fn push(&mut self, chunk: &[u8]) {
        // White space and a byte order mark begin both forms. Until more comes both readers get them.
        let silent = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF);
        if self.is_array.is_none() {
            self.is_array = chunk.iter().find(|byte| !silent(byte)).map(|first| *first == b'[');
        }
        let facts = &mut self.facts;
        if self.is_array != Some(true) {
            self.unread |= self.events.push(chunk, |event| facts.event(event.name, &event.data)).is_err();
        }
        if self.is_array != Some(false) {
            self.unread |= self.elements.push(chunk, |element| facts.event(None, element)).is_err();
        }
    }

    fn outcome(&self, ended: bool) -> Outcome {
        // The closing bracket is an end marker; events have none here.
        let ended = if self.is_array == Some(true) { self.elements.is_closed() } else { ended };
        let mut outcome = self.facts.outcome(ended);
        if self.unread && outcome.finish == Finish::Whole {
            outcome.finish = Finish::Unknown;
        }
        outcome
    }
}

/// Reads the facts of a stream of lines, one JSON object on each.
///
/// A last line may lack its end, so what is held is tried as a line when the outcome is asked for.
pub(super) struct LineReader<F> {
    line: Vec<u8>,
    facts: F,
    /// The line under way is over the limit and let go of.
    skips: bool,
    unread: bool,
}

impl<F: Facts> LineReader<F> {
    pub(super) fn new(facts: F) -> Self {
        Self { line: Vec::new(), facts, skips: false, unread: false }
    }
}

impl<F> fmt::Debug for LineReader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineReader").field("held", &self.line.len()).finish_non_exhaustive()
    }
}

impl<F: Facts + Clone + 'static> StreamReader for LineReader<F> {
    fn push(&mut self, chunk: &[u8]) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            if !self.skips && self.line.len() + piece.len() > Events::MAX_EVENT {
                (self.skips, self.unread) = (true, true);
                self.line = Vec::new();
            }
            if !self.skips {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                take_line(&mut self.facts, &self.line);
                self.line.clear();
                self.skips = false;
            }
        }
    }

    fn outcome(&self, ended: bool) -> Outcome {
        let mut outcome = if ended && !self.line.is_empty() {
            let mut facts = self.facts.clone();
            take_line(&mut facts, &self.line);
            facts.outcome(ended)
        } else {
            self.facts.outcome(ended)
        };
        if self.unread && outcome.finish == Finish::Whole {
            outcome.finish = Finish::Unknown;
        }
        outcome
    }
}

fn take_line(facts: &mut impl Facts, line: &[u8]) {
    let line = line.trim_ascii();
    if !line.is_empty() {
        facts.event(None, &String::from_utf8_lossy(line));
    }
}

/// The ending of an answer made of several, or told more than once: the worse of the two.
pub(super) fn worse(one: Finish, other: Finish) -> Finish {
    let badness = |finish| match finish {
        Finish::Failed => 5,
        Finish::Partial => 4,
        Finish::Refused => 3,
        Finish::Truncated => 2,
        Finish::Unknown => 1,
        Finish::Whole => 0,
    };
    if badness(one) >= badness(other) { one } else { other }
}

/// True if `text` is exactly one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The arguments of tool calls, which come in pieces, until they can be checked.
#[derive(Default)]
pub(super) struct Arguments {
    open: BTreeMap<(u64, u64), String>,
    held: usize,
    /// More was sent than is kept; what is missing is not checked.
    unchecked: bool,
    broken: bool,
}

impl Arguments {
    /// Bytes kept for all tool calls of a reply together.
    pub(super) const MAX_BYTES: usize = 1 << 20;
    /// Tool calls looked at in one reply.
    const MAX_CALLS: usize = 4096;

    /// The next piece of the arguments at `key`.
    pub(super) fn push(&mut self, key: (u64, u64), piece: &str) {
        if self.unchecked {
            return;
        }
        let is_new = !self.open.contains_key(&key);
        if self.held + piece.len() > Self::MAX_BYTES || (is_new && self.open.len() == Self::MAX_CALLS) {
            self.unchecked = true;
            self.open = BTreeMap::new();
            self.held = 0;
            return;
        }
        self.held += piece.len();
        self.open.entry(key).or_default().push_str(piece);
    }

    /// The arguments at `key` are complete; `check` says whether they are good.
    pub(super) fn close(&mut self, key: (u64, u64), check: impl Fn(&str) -> bool) {
        if let Some(text) = self.open.remove(&key) {
            self.held -= text.len();
            self.broken |= !check(&text);
        }
    }

    /// True if any that were closed are not good, or any that are open would not be.
    pub(super) fn broken(&self, check: impl Fn(&str) -> bool) -> bool {
        self.broken || self.open.values().any(|text| !check(text))
    }
}

/// The names of the tools that are called, which come once for each call, with its first piece.
#[derive(Clone, Default)]
pub(super) struct Names(BTreeMap<(u64, u64), Box<str>>);

impl Names {
    /// A piece of the call at `key`, with its name if it has one.
    pub(super) fn add(&mut self, key: (u64, u64), name: Option<&str>) {
        if self.0.len() == Arguments::MAX_CALLS && !self.0.contains_key(&key) {
            return;
        }
        let known = self.0.entry(key).or_default();
        if let Some(name) = name.filter(|_| known.is_empty()) {
            *known = name.into();
        }
    }

    /// All of them, each once.
    pub(super) fn called(&self) -> Called {
        let mut called = Called::default();
        self.0.values().for_each(|name| called.add(name));
        called
    }
}

impl fmt::Debug for Names {
    /// Their number only: names are part of an answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Names").field(&self.0.len()).finish()
    }
}

impl fmt::Debug for Arguments {
    /// Sizes only: arguments are part of an answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arguments")
            .field("open", &self.open.len())
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked_by_call_and_bounded() {
        let mut arguments = Arguments::default();
        arguments.push((0, 0), "{\"a\":");
        arguments.push((0, 1), "{}");
        assert!(arguments.broken(is_json), "the first is not complete");
        arguments.push((0, 0), "1}");
        assert!(!arguments.broken(is_json), "interleaved pieces are joined by call");
        for _ in 0..40 {
            arguments.push((0, 2), &"x".repeat(100_000));
            assert!(arguments.held <= Arguments::MAX_BYTES);
        }
        assert!(!arguments.broken(is_json), "what is over the bound is unchecked");
    }
}
