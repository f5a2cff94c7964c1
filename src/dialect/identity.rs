//! Where a reply says which one it is and when it was made.
//!
//! Ids and times belong to the exchange that brought an answer, not to the answer. Who serves a stored answer again
//! makes them anew, and has to do so at each place: every chunk of a stream repeats them. The places are looked up
//! by exact paths, never by name at any depth, since an answer may hold members of the same names.
//!
//! # Example
//! ```
//! use thrifty::call::Dialect;
//!
//! let body = br#"{"id":"chatcmpl-1","created":1795000000,"choices":[{"message":{"tool_calls":[{"id":"call_1"}]}}]}"#;
//! let identity = Dialect::OpenAiChat.format().identity(body, false);
//! assert_eq!(identity.own_id(body), Some("chatcmpl-1"));
//! assert_eq!(identity.places().len(), 2, "a tool call's id is sent back by the caller, so it is part of the answer");
//! ```
//! # An id that has to stay
//! ```
//! use thrifty::call::Dialect;
//!
//! let kept = br#"{"id":"resp_1","created_at":1795000000,"store":true,"output":[]}"#;
//! let identity = Dialect::OpenAiResponses.format().identity(kept, false);
//! assert_eq!(identity.own_id(kept), None, "the provider knows it by this id");
//! ```

use std::ops::Range;

use crate::call::json::{self, Object};

/// All places of a reply where it says which one it is and when it was made, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity(Box<[Place]>);

/// One place: the span of a value, without the quotes of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    at: u32,
    len: u16,
    what: u16,
}

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stamp {
    /// An id: places of the same number have the same one. 0 is that of the reply itself.
    Id(u16),
    /// A time in seconds since 1970-01-01 UTC.
    Seconds,
    /// A time as a date, in the form of RFC 3339.
    Date,
}

const SECONDS: u16 = u16::MAX;
const DATE: u16 = u16::MAX - 1;

impl Identity {
    /// The places in the order of the bytes; they do not overlap.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.0
    }

    /// True if there is nothing to be made anew.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The reply's own id in its body, if that is one to be made anew.
    #[must_use]
    pub fn own_id<'a>(&self, body: &'a [u8]) -> Option<&'a str> {
        let own = self.0.iter().find(|place| place.what() == Stamp::Id(0))?;
        std::str::from_utf8(body.get(own.span())?).ok()
    }
}

impl Place {
    /// The bytes of the value.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        let at = self.at as usize;
        at..at + usize::from(self.len)
    }

    /// What they say.
    #[must_use]
    pub fn what(&self) -> Stamp {
        match self.what {
            SECONDS => Stamp::Seconds,
            DATE => Stamp::Date,
            id => Stamp::Id(id),
        }
    }
}

/// Collects the places of one reply.
pub(super) struct Finder<'a> {
    body: &'a str,
    /// Ids seen so far; the place in the list is the number.
    ids: Vec<&'a str>,
    /// Ids that have to stay as they are.
    kept: Vec<&'a str>,
    places: Vec<Place>,
    /// False once something could not be noted: then all stays as it is.
    good: bool,
}

/// Shows each object of a reply (the document, the data of each event, each line) to `each`. A reply that cannot be
/// read to its end has no places: changed here and not there, it would contradict itself.
pub(super) fn find<'a>(
    body: &'a [u8],
    is_stream: bool,
    mut each: impl FnMut(&mut Finder<'a>, &Object<'a>),
) -> Identity {
    let Ok(text) = std::str::from_utf8(body) else { return Identity::default() };
    let mut finder = Finder { body: text, ids: Vec::new(), kept: Vec::new(), places: Vec::new(), good: true };
    let mut show = |finder: &mut Finder<'a>, text: &'a str| match Object::parse(text) {
        Some(object) => each(finder, &object),
        None => finder.good = false,
    };
    if is_stream {
        for line in text.split(['\n', '\r']) {
            let data = match line.strip_prefix("data:") {
                Some(data) => data.trim(),
                // A line of its own is one of Ollama's; all others are fields of events or comments.
                None if line.starts_with('{') => line,
                None => continue,
            };
            if !matches!(data, "" | "[DONE]") {
                show(&mut finder, data);
            }
        }
    } else {
        show(&mut finder, text);
    }
    finder.finished()
}

impl<'a> Finder<'a> {
    /// The member of this name, if it is an id.
    pub(super) fn id(&mut self, object: &Object<'a>, name: &str) {
        let Some(id) = object.get(name).and_then(unquoted).filter(|id| !id.is_empty()) else { return };
        // The own id is seen first, and often again.
        let number = self.ids.iter().rposition(|known| *known == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        match u16::try_from(number).ok().filter(|number| *number < DATE) {
            Some(number) => self.note(id, number),
            None => self.good = false,
        }
    }

    /// The id of this object stays as it is, here and everywhere.
    pub(super) fn keep(&mut self, object: &Object<'a>, name: &str) {
        self.kept.extend(object.get(name).and_then(unquoted));
    }

    /// The member of this name, if it is a time in seconds.
    pub(super) fn seconds(&mut self, object: &Object<'a>, name: &str) {
        // A zero or null stands for a time that is not known yet.
        if let Some(raw) = object.get(name)
            && json::whole(raw).is_some_and(|seconds| seconds > 0)
        {
            self.note(raw, SECONDS);
        }
    }

    /// The member of this name, if it is a date.
    pub(super) fn date(&mut self, object: &Object<'a>, name: &str) {
        if let Some(date) = object.get(name).and_then(unquoted)
            && date.len() >= "2026-01-01T00:00:00Z".len()
            && date.as_bytes()[4] == b'-'
        {
            self.note(date, DATE);
        }
    }

    /// Nothing of this reply is made anew.
    pub(super) fn leave(&mut self) {
        self.good = false;
    }

    fn note(&mut self, value: &'a str, what: u16) {
        // The value is borrowed from the body, so its distance from the start is its place.
        let at = value.as_ptr() as usize - self.body.as_ptr() as usize;
        match (u32::try_from(at), u16::try_from(value.len())) {
            (Ok(at), Ok(len)) => self.places.push(Place { at, len, what }),
            _ => self.good = false,
        }
    }

    fn finished(self) -> Identity {
        let Self { ids, kept, mut places, good, .. } = self;
        if !good {
            return Identity::default();
        }
        places.retain(|place| match place.what() {
            Stamp::Id(number) => !kept.contains(&ids[usize::from(number)]),
            _ => true,
        });
        places.sort_unstable_by_key(|place| place.at);
        Identity(places.into_boxed_slice())
    }
}

/// A JSON string that stands for itself.
fn unquoted(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

#[cfg(test)]
mod tests {
    use crate::call::Dialect;
    use crate::dialect::Stamp;

    /// The values of all places, each with its kind.
    fn places(dialect: Dialect, body: &str, is_stream: bool) -> Vec<(&str, Stamp)> {
        let identity = dialect.format().identity(body.as_bytes(), is_stream);
        identity.places().iter().map(|place| (&body[place.span()], place.what())).collect()
    }

    #[test]
    fn of_a_chat_the_head_of_each_chunk_is_found_and_no_tool_call() {
        let stream = concat!(
            ": hello\n\n",
            "data: {\"id\":\"\",\"created\":0,\"choices\":[]}\n\n",
            "data: {\"id\":\"c1\",\"created\":7,\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"call_1\"}]}}]}\r\n\r\n",
            "data:{\"choices\":[],\"x\":{\"id\":\"no\",\"created\":1},\"created\":8,\"id\":\"c1\"}\n\n",
            "data: [DONE]\n\n",
        );
        let (id, seconds) = (Stamp::Id(0), Stamp::Seconds);
        assert_eq!(
            places(Dialect::OpenAiChat, stream, true),
            [("c1", id), ("7", seconds), ("8", seconds), ("c1", id)]
        );
    }

    #[test]
    fn what_cannot_be_read_to_its_end_is_left_alone() {
        for stream in ["data: {\"id\":\"c1\"}\n\ndata: {\"id\":\ndata: \"c1\"}\n\n", "[{\"id\":\"c1\"}]", ""]
        {
            assert_eq!(places(Dialect::OpenAiChat, stream, true), [], "{stream}");
        }
        assert_eq!(places(Dialect::OpenAiChat, "{\"id\":\"c1\"", false), []);
        assert_eq!(places(Dialect::OpenAiChat, "{\"id\":\"c\\u0031\",\"created\":\"x\"}", false), []);
        for dialect in [Dialect::Opaque, Dialect::Embeddings] {
            assert_eq!(places(dialect, "{\"id\":\"e1\",\"created\":7}", false), []);
        }
    }

    #[test]
    fn of_responses_items_are_found_unless_their_secret_is_bound_to_them() {
        let document = r#"{"id":"resp_1","created_at":7,"completed_at":9,"store":false,"output":[
            {"type":"reasoning","id":"rs_1","encrypted_content":"gA"},{"type":"reasoning","id":"rs_2","encrypted_content":null},
            {"type":"function_call","id":"fc_1","call_id":"call_1"}]}"#;
        let seconds = Stamp::Seconds;
        assert_eq!(
            places(Dialect::OpenAiResponses, document, false),
            [
                ("resp_1", Stamp::Id(0)),
                ("7", seconds),
                ("9", seconds),
                ("rs_2", Stamp::Id(2)),
                ("fc_1", Stamp::Id(3))
            ]
        );
        let stream = concat!(
            "event: response.created\ndata: {\"response\":{\"id\":\"resp_1\",\"store\":false,\"output\":[]}}\n\n",
            "data: {\"item\":{\"id\":\"rs_1\"}}\n\ndata: {\"item_id\":\"rs_1\"}\n\ndata: {\"item_id\":\"msg_1\"}\n\n",
            "data: {\"item\":{\"id\":\"rs_1\",\"encrypted_content\":\"gA\"}}\n\n",
        );
        assert_eq!(
            places(Dialect::OpenAiResponses, stream, true),
            [("resp_1", Stamp::Id(0)), ("msg_1", Stamp::Id(2))]
        );
        for store in ["true", "null", "1"] {
            let document = document.replace("\"store\":false", &format!("\"store\":{store}"));
            assert_eq!(places(Dialect::OpenAiResponses, &document, false), [], "{store}");
            let stream = stream.replace("\"store\":false", &format!("\"store\":{store}"));
            assert_eq!(places(Dialect::OpenAiResponses, &stream, true), [], "{store}");
        }
    }

    #[test]
    fn the_other_formats_have_one_id_or_one_date() {
        let stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\"}}\n\ndata: {\"content_block\":{\"id\":\"toolu_1\"}}\n\n";
        assert_eq!(places(Dialect::AnthropicMessages, stream, true), [("msg_1", Stamp::Id(0))]);
        let document = r#"{"id":"msg_1","content":[{"id":"toolu_1"}]}"#;
        assert_eq!(places(Dialect::AnthropicMessages, document, false), [("msg_1", Stamp::Id(0))]);
        let gemini = r#"{"responseId":"r1","createTime":"2026-01-01T00:00:00.5Z","candidates":[{"content":{"parts":[{"functionCall":{"id":"f"}}]}}]}"#;
        let found = [("r1", Stamp::Id(0)), ("2026-01-01T00:00:00.5Z", Stamp::Date)];
        assert_eq!(places(Dialect::GeminiGenerate, gemini, false), found);
        assert_eq!(places(Dialect::GeminiGenerate, &format!("data: {gemini}\r\n\r\n"), true), found);
        let ollama = "{\"created_at\":\"2026-01-01T00:00:00Z\",\"done\":false}\n{\"created_at\":\"2026-01-01T00:00:01Z\",\"done\":true}\n";
        assert_eq!(places(Dialect::OllamaChat, ollama, true).len(), 2);
        assert_eq!(places(Dialect::OllamaChat, "{\"created_at\":\"soon\"}", false), []);
    }
}
