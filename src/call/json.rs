//! Looking into JSON text without building a document: names and the byte spans of their values.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How deep arrays and objects may nest before a body is taken for opaque.
pub(crate) const MAX_DEPTH: usize = 128;

/// One object, looked at from outside: its names (unescaped) and the JSON text of their values.
///
/// A name that occurs twice is kept twice; [`Object::get`] answers the first.
#[derive(Clone, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Object<'a> {
    /// Reads `text`, or `None` when it is not exactly one JSON object.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str::<Members<'a>>(text)
            .ok()
            .map(|members| Self(members.0.into_iter().map(|(name, value)| (name.0, value.get())).collect()))
    }

    /// JSON text of the first member of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| *value)
    }

    /// The member, unless it is absent or `null`.
    #[must_use]
    pub fn some(&self, name: &str) -> Option<&'a str> {
        self.get(name).filter(|value| *value != "null")
    }

    /// The member as a string, unescaped; `None` when it is something else.
    #[must_use]
    pub fn str(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(string)
    }

    /// The member as a whole number that is not negative; `1`, `1.0` and `1e0` are the same.
    #[must_use]
    pub fn u64(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(whole)
    }

    /// The member as a boolean.
    #[must_use]
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(|text| text.parse().ok())
    }

    /// The member as an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Object<'a>> {
        self.get(name).and_then(Object::parse)
    }

    /// The member as an array: the JSON text of each element.
    #[must_use]
    pub fn elements(&self, name: &str) -> Option<Vec<&'a str>> {
        self.get(name).and_then(elements)
    }

    /// Names and values in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Object<'_> {
    /// Names only: values may hold prompts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// The elements of a JSON array as text, or `None` when `text` is not an array.
#[must_use]
pub fn elements(text: &str) -> Option<Vec<&str>> {
    serde_json::from_str::<Elements<'_>>(text).ok().map(|elements| elements.0)
}

/// A JSON string, unescaped, or `None` when `text` is not a string (or holds a lone surrogate).
#[must_use]
pub fn string(text: &str) -> Option<Cow<'_, str>> {
    text.starts_with('"').then(|| serde_json::from_str::<Text<'_>>(text).ok()).flatten().map(|text| text.0)
}

/// A JSON number that is whole and not negative. `128`, `128.0` and `1.28e2` are all 128.
#[must_use]
pub fn whole(text: &str) -> Option<u64> {
    if let Ok(number) = text.parse::<u64>() {
        return Some(number);
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (int, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{int}{fraction}");
    let scale = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return (!int.is_empty() && int.bytes().all(|b| b == b'0')).then_some(0);
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if scale >= 0 {
        if scale > 20 {
            return None;
        }
        digits.parse::<u64>().ok()?.checked_mul(10u64.checked_pow(scale.unsigned_abs())?)
    } else {
        let cut = digits.len().checked_sub(scale.unsigned_abs() as usize)?;
        let (whole, rest) = digits.split_at(cut);
        (rest.bytes().all(|b| b == b'0') && !whole.is_empty()).then(|| whole.parse().ok()).flatten()
    }
}

/// `text` as a JSON string literal.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A name, unescaped, and the span of its value.
pub(super) type Span = (Box<str>, Range<usize>);

/// Names and value spans of the object that is all of `text`, or the line and column where it is none.
pub(super) fn index(text: &str) -> Result<Vec<Span>, (usize, usize)> {
    let members =
        serde_json::from_str::<Members<'_>>(text).map_err(|error| (error.line(), error.column()))?;
    let start = text.as_ptr() as usize;
    Ok(members
        .0
        .into_iter()
        .map(|(name, value)| {
            // The value is borrowed from `text`, so its distance from the start is its span.
            let from = value.get().as_ptr() as usize - start;
            (name.0.into_owned().into_boxed_str(), from..from + value.get().len())
        })
        .collect())
}

/// Deepest nesting of `bytes`, stopping as soon as it passes [`MAX_DEPTH`].
pub(super) fn too_deep(bytes: &[u8]) -> bool {
    // What opens seldom is not deep, and counting takes a tenth of the time of reading.
    if bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visit)
    }
}

struct Members<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(entry) = map.next_entry()? {
                    members.push(entry);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

struct Elements<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Elements<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element::<&'de RawValue>()? {
                    elements.push(element.get());
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_read_in_every_spelling() {
        for (text, want) in [
            ("0", Some(0)),
            ("-0", None),
            ("128", Some(128)),
            ("128.0", Some(128)),
            ("1.28e2", Some(128)),
            ("1280e-1", Some(128)),
            ("0.0", Some(0)),
            ("1.5", None),
            ("-3", None),
            ("1e99", None),
            ("\"7\"", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
        ] {
            assert_eq!(whole(text), want, "{text}");
        }
    }

    #[test]
    fn names_are_compared_unescaped() {
        let object = Object::parse(r#"{"m\u006fdel":"x"}"#).unwrap();
        assert_eq!(object.str("model").as_deref(), Some("x"));
    }

    #[test]
    fn quoted_text_reads_back() {
        let text = "a\"b\\c\nd\u{1}é\u{1F600}";
        assert_eq!(string(&quote(text)).as_deref(), Some(text));
    }
}
