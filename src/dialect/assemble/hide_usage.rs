//! Takes the usage of a stream back out that its caller did not ask for.

use std::fmt;

use bytes::Bytes;

use crate::call::json::{self, Object};
use crate::dialect::FrameFilter;
use crate::dialect::sse::Events;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Hides usage from OpenAI chat's chunks: the chunk that has nothing else goes, from all others the member.
///
/// All other bytes pass unchanged. An event is held until it is whole only while it may be one to change.
pub(in crate::dialect) struct HideUsage {
    limit: usize,
    /// Bytes of the event under way that have not been passed on.
    held: Vec<u8>,
    /// Where the current line begins in `held`.
    line: usize,
    mode: Mode,
    /// The last byte was a CR. A LF that follows belongs to it and goes the same way.
    after_cr: Option<Way>,
    at_start: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The event may have to be changed.
    Hold,
    /// The line is a comment: it passes, and nothing is known about what follows.
    PassLine,
    /// The event passes. True at the start of a line.
    PassEvent(bool),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    Held,
    Away,
}

impl fmt::Debug for HideUsage {
    /// Sizes only: events are part of an answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HideUsage").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl HideUsage {
    pub(in crate::dialect) fn new() -> Self {
        Self::with_limit(Events::MAX_EVENT)
    }

    fn with_limit(limit: usize) -> Self {
        Self { limit, held: Vec::new(), line: 0, mode: Mode::Hold, after_cr: None, at_start: true }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let Some(way) = self.after_cr.take()
            && byte == b'\n'
        {
            match way {
                Way::Out => out.push(byte),
                Way::Away => {}
                Way::Held => {
                    self.held.push(byte);
                    self.line = self.held.len();
                }
            }
            return;
        }
        let ends = matches!(byte, b'\n' | b'\r');
        let way = match self.mode {
            Mode::Hold => {
                self.held.push(byte);
                if ends { self.end_line(out) } else { self.bound(out) }
            }
            Mode::PassLine | Mode::PassEvent(_) => {
                out.push(byte);
                self.mode = match self.mode {
                    Mode::PassEvent(at_start) if !(ends && at_start) => Mode::PassEvent(ends),
                    Mode::PassLine if !ends => Mode::PassLine,
                    _ => Mode::Hold,
                };
                Way::Out
            }
        };
        if byte == b'\r' {
            self.after_cr = Some(way);
        }
    }

    /// A line has ended while its event is held.
    fn end_line(&mut self, out: &mut Vec<u8>) -> Way {
        let line = &self.held[self.line..self.held.len() - 1];
        if line.is_empty() {
            let kept = change(&self.held, self.at_start);
            let way = if matches!(kept, Change::Remove) { Way::Away } else { Way::Out };
            kept.write(&self.held, out);
            self.restart();
            return way;
        }
        if self.line == 0 && line.starts_with(b":") {
            out.extend_from_slice(&self.held);
            self.restart();
            return Way::Out;
        }
        self.line = self.held.len();
        self.bound(out);
        if self.mode == Mode::Hold { Way::Held } else { Way::Out }
    }

    fn restart(&mut self) {
        self.held.clear();
        (self.line, self.at_start) = (0, false);
    }

    /// Lets an event over the limit pass.
    fn bound(&mut self, out: &mut Vec<u8>) -> Way {
        if self.held.len() > self.limit {
            self.pass_held(Mode::PassEvent(self.line == self.held.len()), out);
            self.held = Vec::new();
        }
        Way::Out
    }

    fn pass_held(&mut self, mode: Mode, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.held);
        self.restart();
        self.mode = mode;
        // A LF that belongs to a CR among these follows them.
        if self.after_cr == Some(Way::Held) {
            self.after_cr = Some(Way::Out);
        }
    }

    /// True for whole events that say nothing of usage, where none is under way: all of them pass, and nothing is
    /// held after them.
    fn is_all_to_keep(&self, frame: &[u8]) -> bool {
        self.mode == Mode::Hold
            && self.held.is_empty()
            && self.after_cr.is_none()
            && frame.len() <= self.limit
            && frame.ends_with(b"\n\n")
            && !frame.contains(&b'\r')
            && !says_usage(frame)
    }

    /// Passes on what can be told already not to be changed.
    fn release(&mut self, out: &mut Vec<u8>) {
        if self.mode != Mode::Hold || self.held.is_empty() {
            return;
        }
        let line = &self.held[self.line..];
        if self.line == 0 && line.starts_with(b":") {
            self.pass_held(Mode::PassLine, out);
            return;
        }
        // The first line of data decides: what is no object has no members.
        let mut lines = self.held.split(|byte| matches!(byte, b'\n' | b'\r'));
        let first = lines.find_map(|line| line.strip_prefix(BOM).unwrap_or(line).strip_prefix(b"data:"));
        let first = first.unwrap_or_default().trim_ascii_start();
        if !first.is_empty() && first[0] != b'{' {
            self.pass_held(Mode::PassEvent(self.line == self.held.len()), out);
        }
    }
}

impl FrameFilter for HideUsage {
    fn pass(&mut self, frame: Bytes) -> Bytes {
        if self.is_all_to_keep(&frame) {
            self.at_start = false;
            return frame;
        }
        let mut out = Vec::with_capacity(self.held.len() + frame.len());
        for byte in &frame {
            self.byte(*byte, &mut out);
        }
        self.release(&mut out);
        if out == frame { frame } else { out.into() }
    }

    /// An event without its end: some clients read it all the same.
    fn rest(&mut self) -> Bytes {
        let mut out = Vec::new();
        change(&self.held, self.at_start).write(&self.held, &mut out);
        self.restart();
        out.into()
    }
}

/// What becomes of an event.
enum Change {
    Keep,
    Remove,
    Replace(Vec<u8>),
}

impl Change {
    fn write(self, event: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Keep => out.extend_from_slice(event),
            Self::Remove => {}
            Self::Replace(new) => out.extend_from_slice(&new),
        }
    }
}

fn says_usage(bytes: &[u8]) -> bool {
    bytes.windows(5).any(|five| five == b"usage")
}

fn change(event: &[u8], at_start: bool) -> Change {
    if !says_usage(event) {
        return Change::Keep;
    }
    read_change(event, at_start).unwrap_or(Change::Keep)
}

fn read_change(event: &[u8], at_start: bool) -> Option<Change> {
    let text = std::str::from_utf8(event).ok()?;
    let start = if at_start && event.starts_with(BOM) { BOM.len() } else { 0 };
    let (before, lines) = text.split_at(start);
    let lines = lines_of(lines);
    let data: Vec<&str> = lines.iter().filter_map(|(line, _)| data_of(line)).collect();
    let joined = data.join("\n");
    let object = Object::parse(&joined)?;
    object.get("usage")?;
    let chunk = object.some("choices").map_or(Some(Vec::new()), json::elements)?;
    if object.some("error").is_some() {
        return None;
    }
    if chunk.is_empty() && object.some("usage").is_some() {
        return Some(Change::Remove);
    }
    let edited = without_usage(&joined, &object)?;
    // The edited data goes where the first line of it was; all other lines stay.
    let (mut out, mut edited) = (before.to_owned(), Some(edited));
    for (line, end) in lines {
        match data_of(line) {
            None => out.extend([line, end]),
            Some(value) => {
                let name = &line[..line.len() - value.len()];
                for part in edited.take().iter().flat_map(|edited| edited.split('\n')) {
                    out.extend([name, part, end]);
                }
            }
        }
    }
    Some(Change::Replace(out.into_bytes()))
}

/// Lines and their ends.
fn lines_of(mut text: &str) -> Vec<(&str, &str)> {
    let mut lines = Vec::new();
    while !text.is_empty() {
        let len = text.find(['\n', '\r']).unwrap_or(text.len());
        let (line, rest) = text.split_at(len);
        let end = if rest.starts_with("\r\n") { 2 } else { rest.len().min(1) };
        lines.push((line, &rest[..end]));
        text = &rest[end..];
    }
    lines
}

/// The value of a line of data.
fn data_of(line: &str) -> Option<&str> {
    let value = line.strip_prefix("data:")?;
    Some(value.strip_prefix(' ').unwrap_or(value))
}

/// The text of an object without its members named `usage`, each with the comma in front of it or behind.
fn without_usage(text: &str, object: &Object<'_>) -> Option<String> {
    let (mut out, mut kept) = (String::with_capacity(text.len()), 0);
    let mut removed_all_so_far = true;
    for (name, raw) in object.iter() {
        // Borrowed from `text`, so the distance from its start is where the value stands.
        let value = raw.as_ptr() as usize - text.as_ptr() as usize;
        if name != "usage" {
            removed_all_so_far = false;
            continue;
        }
        let before = text[..value].trim_end().strip_suffix(':')?.trim_end().strip_suffix("\"usage\"")?;
        let (mut from, mut to) = (before.len(), value + raw.len());
        if removed_all_so_far {
            // Nothing stays in front, so the comma behind goes.
            if let Some(rest) = text[to..].trim_start().strip_prefix(',') {
                to = text.len() - rest.len();
            }
        } else {
            from = before.trim_end().strip_suffix(',')?.len();
        }
        out.push_str(&text[kept..from]);
        kept = to;
    }
    out.push_str(&text[kept..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filtered(text: &[u8], cuts: &[usize], limit: usize) -> String {
        let mut filter = HideUsage::with_limit(limit);
        let (mut out, mut from) = (Vec::new(), 0);
        for cut in cuts.iter().copied().chain([text.len()]) {
            out.extend_from_slice(&filter.pass(Bytes::copy_from_slice(&text[from..cut])));
            assert!(filter.held.len() <= limit + 1, "memory is bounded by one event");
            from = cut;
        }
        out.extend_from_slice(&filter.rest());
        String::from_utf8(out).unwrap()
    }

    fn hidden(text: &str) -> String {
        let whole = filtered(text.as_bytes(), &[], 1 << 20);
        for cut in 0..=text.len() {
            assert_eq!(filtered(text.as_bytes(), &[cut], 1 << 20), whole, "cut at {cut}");
        }
        let every: Vec<usize> = (0..text.len()).collect();
        assert_eq!(filtered(text.as_bytes(), &every, 1 << 20), whole, "byte for byte");
        whole
    }

    #[test]
    fn the_member_goes_and_every_other_byte_stays() {
        for (with, without) in [
            (r#"{"choices":[{}],"usage":null}"#, r#"{"choices":[{}]}"#),
            (r#"{"choices":[{}] , "usage" : null , "x":1.0}"#, r#"{"choices":[{}]  , "x":1.0}"#),
            (r#"{"usage":null,"choices":[{}]}"#, r#"{"choices":[{}]}"#),
            (r#"{ "usage":{"a":[1]}, "usage":null,"choices":[{}]}"#, r#"{  "choices":[{}]}"#),
            (r#"{"choices":[{"usage":1}],"usage":{"a":"usage"}}"#, r#"{"choices":[{"usage":1}]}"#),
            (r#"{"choices":[],"usage":null}"#, r#"{"choices":[]}"#),
            (
                r#"{"choices":[{"delta":{"content":"\"usage\":null"}}]}"#,
                r#"{"choices":[{"delta":{"content":"\"usage\":null"}}]}"#,
            ),
            (r#"{"error":{},"usage":{}}"#, r#"{"error":{},"usage":{}}"#),
            (r#"{"choices":[{}],"usage":"#, r#"{"choices":[{}],"usage":"#),
        ] {
            let event = |data: &str| format!("data: {data}\n\n");
            assert_eq!(hidden(&event(with)), event(without));
        }
    }

    #[test]
    fn the_chunk_of_usage_alone_goes_with_its_line_ends() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ": hi\ndata: {\"choices\":[{}]}\n\nevent: x\ndata: {\"choices\":[],\"usage\":{\"a\":1}}\n\n: usage\ndata: [DONE]\n\n";
            let want = ": hi\ndata: {\"choices\":[{}]}\n\n: usage\ndata: [DONE]\n\n";
            assert_eq!(hidden(&text.replace('\n', end)), want.replace('\n', end));
        }
        let lines = "data: {\"choices\":[{}],\ndata: \"usage\":null\nid: 7\ndata: }\n\n";
        assert_eq!(hidden(lines), "data: {\"choices\":[{}]\ndata: }\nid: 7\n\n", "data on several lines");
        assert_eq!(
            hidden("\u{FEFF}data: {\"choices\":[{}],\"usage\":1}\n\n"),
            "\u{FEFF}data: {\"choices\":[{}]}\n\n"
        );
    }

    #[test]
    fn what_cannot_be_an_event_to_change_is_not_held() {
        let mut filter = HideUsage::new();
        for piece in [": keep", "-alive\n", "data: [", "DONE]", "\n", "\n", "\n"] {
            assert_eq!(filter.pass(piece.into()), piece);
        }
        assert_eq!(filter.pass("data: {\"choices\":[{}]".into()), "");
        assert_eq!(filter.pass("}\n".into()), "");
        assert_eq!(filter.pass("\nda".into()), "data: {\"choices\":[{}]}\n\n");
    }

    #[test]
    fn an_event_over_the_limit_passes_and_the_next_one_is_changed() {
        let long = format!("data: {{\"choices\":[\"{}\"],\"usage\":null}}\n\n", "x".repeat(100));
        let text = format!("{long}data: {{\"choices\":[1],\"usage\":null}}\n\n");
        assert_eq!(
            filtered(text.as_bytes(), &[3, 50, 90], 64),
            format!("{long}data: {{\"choices\":[1]}}\n\n")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_text_without_usage_passes_whatever_the_cuts(
            pieces in prop::collection::vec(prop_oneof![
                Just("data: "), Just("data:{"), Just("event: e"), Just(":c"), Just("\n"), Just("\r"), Just("\r\n"),
                Just("\n\n"), Just("é€😀"), Just("\u{FEFF}"), Just("}"), Just(" "), Just("data:long long long long"),
            ], 0..60),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            limit in 8usize..80,
        ) {
            let text = pieces.concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.sort_unstable();
            prop_assert_eq!(filtered(text.as_bytes(), &at, limit), text);
        }
    }
}
