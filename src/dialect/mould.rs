//! Telling the next event of a stream by the one before.

use std::fmt;

/// The form of the last event: all of its text but for a few values.
///
/// A stream is mostly one event over and over, with another piece of text in it. An event that has the bytes of the
/// one before, but for the insides of the strings (and digits of the numbers) named when that was taken apart, is the
/// same JSON with the same members in the same order. So it says again what that said, and its facts stand as they
/// are, but for the count of its text: comparing bytes tells all that taking it apart would.
///
/// This holds only for the event right before, and only if what that said may be said twice: whoever sets a mould
/// answers for that. Any other event clears it.
#[derive(Default)]
pub(super) struct Mould {
    name: Option<Box<str>>,
    event: String,
    /// In the order of the text; none while there is no mould.
    holes: Vec<Hole>,
}

struct Hole {
    from: usize,
    to: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The text that is counted.
    Counted,
    Text,
    Number,
}

impl Mould {
    /// A longer event is not worth keeping.
    const MAX_BYTES: usize = 4096;

    /// Bytes of the counted text, unescaped, if this event is of the form of the last.
    pub(super) fn fit(&mut self, name: Option<&str>, data: &str) -> Option<u64> {
        if self.holes.is_empty() {
            return None;
        }
        let counted = (self.name.as_deref() == name).then(|| self.measure(data.as_bytes())).flatten();
        if counted.is_none() {
            self.holes.clear();
        }
        counted
    }

    /// Takes the form of this event. `counted` is the JSON text of a string in it, and so is each of `others`, or a
    /// whole number: values that mean nothing to the facts.
    pub(super) fn set<'a>(
        &mut self,
        name: Option<&str>,
        data: &'a str,
        counted: &'a str,
        others: impl IntoIterator<Item = Option<&'a str>>,
    ) {
        self.holes.clear();
        if data.len() > Self::MAX_BYTES || hole(data, counted, Kind::Counted).is_none() {
            return;
        }
        self.holes.extend(hole(data, counted, Kind::Counted));
        for other in others.into_iter().flatten() {
            let kind = if other.starts_with('"') { Kind::Text } else { Kind::Number };
            self.holes.extend(hole(data, other, kind));
        }
        self.holes.sort_unstable_by_key(|hole| hole.from);
        self.event.clear();
        self.event.push_str(data);
        if self.name.as_deref() != name {
            self.name = name.map(Into::into);
        }
    }

    fn measure(&self, data: &[u8]) -> Option<u64> {
        let (mould, mut at) = (self.event.as_bytes(), 0);
        let (mut rest, mut counted) = (data, 0);
        for hole in &self.holes {
            rest = rest.strip_prefix(&mould[at..hole.from])?;
            let len = match hole.kind {
                Kind::Number => digits(rest)?,
                Kind::Text => inside(rest)?.0,
                Kind::Counted => {
                    let (len, unescaped) = inside(rest)?;
                    counted = unescaped;
                    len
                }
            };
            (rest, at) = (&rest[len..], hole.to);
        }
        (*rest == mould[at..]).then_some(counted)
    }
}

impl fmt::Debug for Mould {
    /// Sizes only: events are part of an answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mould").field("holes", &self.holes.len()).finish_non_exhaustive()
    }
}

/// Where `value`, a part of `data`, may differ; `None` if it cannot be told.
fn hole(data: &str, value: &str, kind: Kind) -> Option<Hole> {
    let from = (value.as_ptr() as usize).checked_sub(data.as_ptr() as usize)?;
    let to = from + value.len();
    if data.get(from..to)? != value {
        return None;
    }
    match kind {
        Kind::Number => (digits(value.as_bytes())? == value.len()).then_some(Hole { from, to, kind }),
        Kind::Counted | Kind::Text => {
            let is_string = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
            is_string.then(|| Hole { from: from + 1, to: to - 1, kind })
        }
    }
}

/// Length of the string that has begun, up to its closing quote, as it stands and unescaped. `None` where it is no
/// JSON, or has an escape whose length takes more than a look.
fn inside(text: &[u8]) -> Option<(usize, u64)> {
    let (mut at, mut escapes) = (0, 0);
    loop {
        match *text.get(at)? {
            b'"' => return Some((at, (at - escapes) as u64)),
            b'\\' => {
                if !matches!(text.get(at + 1)?, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') {
                    return None;
                }
                at += 2;
                escapes += 1;
            }
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// Digits of the whole number that begins here.
fn digits(text: &[u8]) -> Option<usize> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (len == 1 || (len > 1 && text[0] != b'0')).then_some(len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::Dialect;
    use crate::call::json::{self, Object};

    fn of(event: &str) -> Mould {
        let object = Object::parse(event).unwrap();
        let mut mould = Mould::default();
        mould.set(Some("e"), event, object.get("t").unwrap(), [object.get("n"), object.get("o")]);
        mould
    }

    #[test]
    fn only_the_named_values_may_differ() {
        let event = r#"{"n":7,"t":"one","k":"x","o":"pad"}"#;
        for (next, want) in [
            (r#"{"n":8,"t":"three","k":"x","o":""}"#, Some(5)),
            (r#"{"n":123,"t":"","k":"x","o":"\\"}"#, Some(0)),
            (r#"{"n":8,"t":"a\n\"b\"","k":"x","o":"p"}"#, Some(5)),
            (r#"{"n":8,"t":"é","k":"x","o":"p"}"#, Some(2)),
            (r#"{"n":8,"t":"\u00e9","k":"x","o":"p"}"#, None),
            (r#"{"n":8,"t":"one","k":"y","o":"p"}"#, None),
            (r#"{"n":8,"t":"one","k":"x","o":"p","z":1}"#, None),
            (r#"{"n":8,"t":"one","k":"x","o":"p"} "#, None),
            (r#"{"n":08,"t":"one","k":"x","o":"p"}"#, None),
            (r#"{"n":-8,"t":"one","k":"x","o":"p"}"#, None),
            (r#"{"n":"8","t":"one","k":"x","o":"p"}"#, None),
            (r#"{"n":8,"t":"one","error":1,"k":"x","o":"p"}"#, None),
            (r#"{"n":8,"t":"one"#, None),
            ("{\"n\":8,\"t\":\"o\u{1}e\",\"k\":\"x\",\"o\":\"p\"}", None),
        ] {
            assert_eq!(of(event).fit(Some("e"), next), want, "{next}");
        }
        assert_eq!(of(event).fit(None, event), None, "another name is another event");
        let mut mould = of(event);
        assert_eq!(mould.fit(Some("e"), "{}"), None);
        assert_eq!(mould.fit(Some("e"), event), None, "another event clears it");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_fits_is_json_with_a_text_of_that_length(text in r#"[a"\\u0-9né\x01{}:,]{0,12}"#) {
            let next = format!(r#"{{"n":8,"t":"{text}","k":"x","o":"p"}}"#);
            let length = of(r#"{"n":7,"t":"one","k":"x","o":"pad"}"#).fit(Some("e"), &next);
            if let Some(length) = length {
                let object = Object::parse(&next).expect("what fits is JSON");
                prop_assert_eq!(object.len(), 4);
                let text = object.get("t").and_then(json::string).unwrap();
                prop_assert_eq!(text.len() as u64, length);
            }
        }
    }

    /// Events of which many fit the one before; after them one that says nothing and so clears the mould.
    fn events(dialect: Dialect) -> (&'static [&'static str], &'static str) {
        match dialect {
            Dialect::AnthropicMessages => (
                &[
                    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"TEXT"}}"#,
                    r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"TEXT"}}"#,
                    r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"TEXT"}}"#,
                    r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"TEXT"}}"#,
                    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#,
                    r#"{"type":"message_stop"}"#,
                ],
                r#"{"type":"ping"}"#,
            ),
            Dialect::OpenAiResponses => (
                &[
                    r#"{"type":"response.output_text.delta","sequence_number":4,"delta":"TEXT","obfuscation":"ab"}"#,
                    r#"{"type":"response.output_text.delta","sequence_number":5,"delta":"TEXT","obfuscation":"TEXT"}"#,
                    r#"{"type":"response.reasoning_text.delta","sequence_number":17,"delta":"TEXT"}"#,
                    r#"{"type":"error"}"#,
                ],
                r#"{"type":"response.in_progress"}"#,
            ),
            _ => (
                &[
                    r#"{"model":"m","choices":[{"index":0,"delta":{"content":"TEXT"},"finish_reason":null}]}"#,
                    r#"{"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"TEXT"}}],"obfuscation":"TEXT"}"#,
                    r#"{"model":"m","choices":[{"index":1,"delta":{"content":"TEXT"},"finish_reason":null}]}"#,
                    r#"{"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"TEXT","content":null}}]}"#,
                    r#"{"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"TEXT"}}]}}]}"#,
                    r#"{"model":"m","choices":[{"index":0,"delta":{"content":"TEXT"},"finish_reason":"stop"}]}"#,
                    r#"{"model":"n","choices":[{"index":0,"delta":{"content":"TEXT"},"error":"TEXT"}]}"#,
                    r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#,
                    "[DONE]",
                ],
                r#"{"choices":[]}"#,
            ),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_stream_says_the_same_with_and_without_a_mould(
            which in 0..3usize,
            seen in proptest::collection::vec((0..9usize, r#"(a|b|\\n|\\"|\\u00e9|\\ud83d|"|é|\{|\\x){0,4}"#, 1..4usize), 0..12),
        ) {
            let dialect =
                [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::OpenAiResponses][which];
            let (events, nothing) = events(dialect);
            let (mut with, mut without) = (dialect.format().stream_reader(), dialect.format().stream_reader());
            for (event, text, times) in seen {
                for time in 0..times {
                    let text = if time == 0 { text.clone() } else { format!("{text}+") };
                    let data = events[event % events.len()].replace("TEXT", &text);
                    with.push(format!("data: {data}\n\n").as_bytes());
                    without.push(format!("data: {data}\n\ndata: {nothing}\n\n").as_bytes());
                    for ended in [false, true] {
                        prop_assert_eq!(with.outcome(ended), without.outcome(ended), "{}", data);
                    }
                }
            }
        }
    }
}
