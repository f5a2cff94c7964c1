//! A body taken apart without being read as a prompt.

use crate::call::{Call, Doc};

/// A body taken apart into the array of its messages and the rest, without reading either.
pub(super) struct Split<'a> {
    pub(super) member: &'static str,
    /// The text of the whole array of messages.
    pub(super) array: &'a str,
    pub(super) rest: Vec<(&'a str, &'a str)>,
}

impl<'a> Split<'a> {
    /// `None` for a body without messages.
    pub(super) fn of(call: &'a Call) -> Option<Self> {
        let member = call.format().messages_member()?;
        let array = call.doc.get(member).filter(|array| array.starts_with('['))?;
        // Sampling settings change from call to call and cost nothing.
        let rest = call.doc.members().filter(|(name, value)| {
            *name != member && *name != "model" && value.starts_with(['{', '[', '"'])
        });
        Some(Self { member, array, rest: rest.collect() })
    }

    pub(super) fn rest_hash(&self, model: &str) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        for text in std::iter::once(model).chain(self.rest.iter().flat_map(|(name, value)| [*name, *value])) {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        *hash.finalize().as_bytes()
    }

    /// The same call with these messages alone.
    pub(super) fn call_with(&self, call: &Call, messages: &[&str]) -> Call {
        let mut body = format!("{{{}:[{}]", crate::call::json::quote(self.member), messages.join(","));
        for (name, value) in self.rest.iter().filter(|_| messages.is_empty()) {
            body.push(',');
            body.push_str(&crate::call::json::quote(name));
            body.push(':');
            body.push_str(value);
        }
        body.push('}');
        // The URI tells the model in some formats; headers and extensions cost nothing.
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.uri = call.parts.uri.clone();
        Call { dialect: call.dialect, parts, doc: Doc::new(body) }
    }
}

/// Where the last few elements of a JSON array end, the last one first.
///
/// Read from the end, since a conversation grows there: the front, which may be long, is not looked at. In JSON that is
/// unambiguous: no backslash stands in front of a quote that opens a string, and a quote inside one has an odd number of
/// them. Of a text that is no array the places mean nothing, and are still places in it.
pub(super) fn last_ends(array: &str, most: usize) -> Vec<usize> {
    let bytes = array.as_bytes();
    let mut ends = Vec::with_capacity(most);
    let mut at = array.trim_end().len();
    if !array.starts_with('[') || !array[..at].ends_with(']') {
        return ends;
    }
    at -= 1;
    let mut end = at;
    let mut depth = 0u32;
    while at > 0 && ends.len() < most {
        at -= 1;
        match bytes[at] {
            b'"' => match opening(array, at) {
                Some(open) => at = open,
                None => break,
            },
            b'}' | b']' => depth += 1,
            b'{' | b'[' if depth > 0 => depth -= 1,
            b',' | b'[' if depth == 0 => {
                let element = array.get(at + 1..end).map(str::trim_end).unwrap_or_default();
                if !element.trim_start().is_empty() {
                    ends.push(at + 1 + element.len());
                }
                end = at;
                if bytes[at] == b'[' {
                    break;
                }
            }
            _ => {}
        }
    }
    ends
}

/// The quote that opens the string which the one at `close` ends.
fn opening(text: &str, close: usize) -> Option<usize> {
    let mut at = close;
    loop {
        at = text.get(..at)?.rfind('"')?;
        let slashes = text.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if slashes % 2 == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ends of all elements by the reader of the whole array, the last one first.
    fn by_reading(array: &str) -> Option<Vec<usize>> {
        let elements = crate::call::json::elements(array)?;
        let end = |element: &&str| element.as_ptr() as usize - array.as_ptr() as usize + element.len();
        Some(elements.iter().rev().map(end).collect())
    }

    #[test]
    fn ends_read_from_behind_are_those_of_the_elements() {
        for array in [
            "[]",
            "[ ]",
            "[1]",
            r#"[ {"a": "]"} , "x,\"" ,[1, [2]],null , "\\" ]"#,
            r#"["\\\"","\\\\","\"",""]"#,
            r#"[{"role":"user","content":"a\\\" , ] } b"}, {"x":[{"y":"{"}]}]"#,
            "[\"\u{e9}\u{4e16}\",\t2\n,true ]\n",
        ] {
            let known = by_reading(array).expect("an array");
            assert_eq!(last_ends(array, 99), known, "{array}");
            assert_eq!(last_ends(array, 2), known[..known.len().min(2)], "{array}");
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let text = "[a\\u{e9}\"\\\\,{}\\[\\] ]{0,8}".prop_map(|text| crate::call::json::quote(&text));
        let leaf = prop_oneof![text, Just("1".to_owned()), Just(" null ".to_owned())];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|items| format!("[{}]", items.join(" ,"))),
                prop::collection::vec(inner, 0..3).prop_map(|items| {
                    let members: Vec<String> =
                        items.iter().map(|item| format!("\"k\\\"\" : {item}")).collect();
                    format!("{{{}}}", members.join(", "))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn from_behind_or_from_the_front_elements_end_at_the_same_places(items in prop::collection::vec(json(), 0..6)) {
            let array = format!("[{}]", items.join(","));
            prop_assert_eq!(Some(last_ends(&array, 99)), by_reading(&array));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\[[\\[\\]{}\",\\\\\u{e9} ]{0,40}\\]") {
            let ends = last_ends(&text, 99);
            prop_assert!(ends.iter().all(|end| text.is_char_boundary(*end)));
        }
    }
}
