//! The JSON body of a call: looked at without being touched, edited without being re-printed.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::json;
use crate::{Error, Kind};

/// The JSON body of a call.
///
/// Read at most once, on first need, whatever number of layers and clones look at it. Unedited it gives back the
/// very bytes it was made from. An edit splices one member and leaves every other byte where it was: spacing,
/// number spelling, order. Bytes matter in money, since providers' prompt caches match prefixes byte for byte.
///
/// A body that is not one JSON object, nests deeper than 128 or is larger than [`Doc::MAX_BYTES`] is not an error:
/// it cannot be looked into ([`Doc::trouble`] says why) and goes through as it came. A body with a name twice can
/// be looked into but not edited, since readers disagree on which of the two counts. Nor is one edited that is
/// [sealed](Doc::sealed).
///
/// # Example
/// ```
/// use thrifty::call::Doc;
///
/// let mut doc = Doc::new(r#"{ "model": "gpt-5-mini", "seed": 12345678901234567890123 }"#);
/// doc.set("model", "\"gpt-5-nano\"")?;
/// assert_eq!(doc.bytes(), r#"{ "model": "gpt-5-nano", "seed": 12345678901234567890123 }"#);
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone)]
pub struct Doc {
    shared: Arc<Shared>,
    edited: bool,
    sealed: bool,
}

struct Shared {
    raw: Bytes,
    index: OnceLock<Result<Index, Trouble>>,
}

struct Index {
    members: Vec<json::Span>,
    duplicate: Option<Box<str>>,
}

/// Why a body cannot be looked into. It is passed on as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// Larger than [`Doc::MAX_BYTES`].
    TooLarge {
        /// Length in bytes.
        len: usize,
    },
    /// Arrays and objects nest deeper than 128.
    TooDeep,
    /// Not UTF-8.
    NotUtf8,
    /// Not one JSON object; `line` and `column` count from 1.
    NotAnObject {
        /// Line of the first character that does not fit.
        line: usize,
        /// Column of the first character that does not fit.
        column: usize,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len } => {
                write!(f, "the body of {len} bytes is over the limit of {}", Doc::MAX_BYTES)
            }
            Self::TooDeep => write!(f, "the body nests deeper than {}", json::MAX_DEPTH),
            Self::NotUtf8 => f.write_str("the body is not UTF-8"),
            Self::NotAnObject { line, column } => {
                write!(f, "the body is not one JSON object (line {line}, column {column})")
            }
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        Self::bad_input(trouble.to_string(), "send one JSON object, or let the call pass through as it is")
    }
}

impl Doc {
    /// Largest body that is looked into, in bytes. A larger one passes through.
    pub const MAX_BYTES: usize = 16 << 20;

    /// A document of these bytes; nothing is read yet.
    #[must_use]
    pub fn new(raw: impl Into<Bytes>) -> Self {
        Self {
            shared: Arc::new(Shared { raw: raw.into(), index: OnceLock::new() }),
            edited: false,
            sealed: false,
        }
    }

    /// The bytes as they would be sent now.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.shared.raw
    }

    /// The bytes as they would be sent now.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match Arc::try_unwrap(self.shared) {
            Ok(shared) => shared.raw,
            Err(shared) => shared.raw.clone(),
        }
    }

    /// True once an edit changed a byte.
    #[must_use]
    pub fn is_edited(&self) -> bool {
        self.edited
    }

    /// Why the body cannot be looked into, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.index().err()
    }

    /// A top-level name that occurs twice, if any. Such a body is passed through and never edited.
    #[must_use]
    pub fn duplicate_name(&self) -> Option<&str> {
        self.index().ok().and_then(|index| index.duplicate.as_deref())
    }

    /// This document, never to be edited: something outside it vouches for its very bytes, such as a signature.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.sealed = true;
        self
    }

    /// True if the body is one JSON object without a name twice, and not sealed.
    #[must_use]
    pub fn is_editable(&self) -> bool {
        !self.sealed && self.index().is_ok_and(|index| index.duplicate.is_none())
    }

    /// JSON text of the member `name`, exactly as it stands; the first if the name occurs twice.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.index().ok()?;
        let (_, span) = index.members.iter().find(|(have, _)| &**have == name)?;
        Some(self.text(span.clone()))
    }

    /// The member, unless it is absent or `null`.
    #[must_use]
    pub fn some(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|text| *text != "null")
    }

    /// The member as a string, unescaped.
    #[must_use]
    pub fn str(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).and_then(json::string)
    }

    /// The member as a whole number that is not negative.
    #[must_use]
    pub fn u64(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(json::whole)
    }

    /// The member as a boolean.
    #[must_use]
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(|text| text.parse().ok())
    }

    /// The member as an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<json::Object<'_>> {
        self.get(name).and_then(json::Object::parse)
    }

    /// The member as an array: the JSON text of each element.
    #[must_use]
    pub fn elements(&self, name: &str) -> Option<Vec<&str>> {
        self.get(name).and_then(json::elements)
    }

    /// Names and JSON texts of all members, in the order of the body. Empty when the body cannot be looked into.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        let members = self.index().map_or(&[][..], |index| &index.members);
        members.iter().map(|(name, span)| (&**name, self.text(span.clone())))
    }

    /// Replaces the value of `name` by this JSON text, or adds the member at the end.
    ///
    /// # Errors
    /// [`Kind::NotEditable`] when the body cannot be looked into, has a name twice or is sealed; [`Kind::BadInput`]
    /// when `value` is not JSON. The body is then as it was.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if serde_json::from_str::<&serde_json::value::RawValue>(value).is_err() {
            return Err(Error::bad_input(
                format!("the new value of `{name}` is not JSON"),
                "give one JSON value; a string needs its quotes",
            ));
        }
        let index = self.editable()?;
        let raw = &self.shared.raw;
        let mut out = Vec::with_capacity(raw.len() + name.len() + value.len() + 8);
        if let Some((_, span)) = index.members.iter().find(|(have, _)| &**have == name) {
            if self.text(span.clone()) == value.trim() {
                return Ok(());
            }
            out.extend_from_slice(&raw[..span.start]);
            out.extend_from_slice(value.trim().as_bytes());
            out.extend_from_slice(&raw[span.end..]);
        } else {
            let at = index.members.last().map_or_else(|| first_brace(raw) + 1, |(_, span)| span.end);
            out.extend_from_slice(&raw[..at]);
            if !index.members.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(json::quote(name).as_bytes());
            out.push(b':');
            out.extend_from_slice(value.trim().as_bytes());
            out.extend_from_slice(&raw[at..]);
        }
        self.replace(out);
        Ok(())
    }

    /// Removes the member `name` with its comma; true if it was there.
    ///
    /// # Errors
    /// [`Kind::NotEditable`] when the body cannot be looked into, has a name twice or is sealed.
    pub fn remove(&mut self, name: &str) -> Result<bool, Error> {
        let index = self.editable()?;
        let raw = &self.shared.raw;
        let Some(at) = index.members.iter().position(|(have, _)| &**have == name) else { return Ok(false) };
        let end = index.members[at].1.end;
        // Between two values stand one comma, one name, one colon and spaces, so what goes is bounded by values.
        let cut = if at > 0 {
            index.members[at - 1].1.end..end
        } else {
            let comma = raw[end..].iter().position(|b| *b == b',').map_or(end, |comma| end + comma + 1);
            first_brace(raw) + 1..if index.members.len() > 1 { comma } else { end }
        };
        let mut out = Vec::with_capacity(raw.len());
        out.extend_from_slice(&raw[..cut.start]);
        out.extend_from_slice(&raw[cut.end..]);
        self.replace(out);
        Ok(true)
    }

    /// Replaces elements of the array `name`: `change` gets each element's index and text and says what becomes
    /// of it. Elements that stay keep their bytes, and so do the spaces around them.
    ///
    /// # Errors
    /// As [`Doc::set`]; [`Kind::NotEditable`] too when the member is not an array.
    pub fn edit_elements(
        &mut self,
        name: &str,
        mut change: impl FnMut(usize, &str) -> Element,
    ) -> Result<(), Error> {
        let Some(array) = self.get(name) else { return Err(not_editable(format!("`{name}` is missing"))) };
        let Some(elements) = json::elements(array) else {
            return Err(not_editable(format!("`{name}` is not an array")));
        };
        let start = array.as_ptr() as usize;
        let mut out = String::with_capacity(array.len());
        let (mut done, mut kept, mut changed) = (1, 0, false);
        out.push('[');
        for (i, element) in elements.iter().enumerate() {
            let from = element.as_ptr() as usize - start;
            // What stands before an element: spaces, and a comma unless it is the first.
            let gap = &array[done..from];
            done = from + element.len();
            let text = match change(i, element) {
                Element::Keep => Cow::Borrowed(*element),
                Element::Drop => {
                    changed = true;
                    continue;
                }
                Element::Replace(text) => {
                    changed = true;
                    Cow::Owned(text)
                }
            };
            // The first of those that stay has no comma before it.
            let comma = if kept == 0 { gap.find(',') } else { None };
            out.push_str(&gap[comma.map_or(0, |comma| comma + 1)..]);
            kept += 1;
            out.push_str(&text);
        }
        if !changed {
            return Ok(());
        }
        out.push_str(&array[done..]);
        self.set(name, &out)
    }

    fn index(&self) -> Result<&Index, Trouble> {
        self.shared.index.get_or_init(|| read(&self.shared.raw)).as_ref().map_err(|trouble| *trouble)
    }

    fn editable(&self) -> Result<&Index, Error> {
        if self.sealed {
            return Err(not_editable("the body is signed or otherwise sealed".to_owned()));
        }
        let index = self.index().map_err(|trouble| not_editable(trouble.to_string()))?;
        match &index.duplicate {
            None => Ok(index),
            Some(name) => Err(not_editable(format!("the body holds the name `{name}` twice"))),
        }
    }

    fn replace(&mut self, raw: Vec<u8>) {
        *self = Self::new(raw);
        self.edited = true;
    }

    fn text(&self, span: Range<usize>) -> &str {
        // The index exists only when the whole body is UTF-8, and its spans are those of whole values.
        std::str::from_utf8(&self.shared.raw[span]).unwrap_or_default()
    }
}

/// What becomes of one element of an array; see [`Doc::edit_elements`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// Stays, byte for byte.
    Keep,
    /// Goes, with its comma.
    Drop,
    /// Becomes this JSON text.
    Replace(String),
}

fn read(raw: &Bytes) -> Result<Index, Trouble> {
    if raw.len() > Doc::MAX_BYTES {
        return Err(Trouble::TooLarge { len: raw.len() });
    }
    if json::too_deep(raw) {
        return Err(Trouble::TooDeep);
    }
    let text = std::str::from_utf8(raw).map_err(|_| Trouble::NotUtf8)?;
    let members = json::index(text).map_err(|(line, column)| Trouble::NotAnObject { line, column })?;
    let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    let duplicate = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].into());
    Ok(Index { members, duplicate })
}

fn first_brace(raw: &[u8]) -> usize {
    raw.iter().position(|b| *b == b'{').unwrap_or(0)
}

#[cold]
fn not_editable(problem: String) -> Error {
    Error::new(Kind::NotEditable, problem, "the call can still be passed through as it is")
}

impl fmt::Debug for Doc {
    /// Names and sizes, never contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doc").field("bytes", &self.shared.raw.len()).field("edited", &self.edited).finish()
    }
}

impl From<Bytes> for Doc {
    fn from(raw: Bytes) -> Self {
        Self::new(raw)
    }
}

impl From<&'static str> for Doc {
    fn from(raw: &'static str) -> Self {
        Self::new(raw)
    }
}

impl From<String> for Doc {
    fn from(raw: String) -> Self {
        Self::new(raw)
    }
}

impl From<Vec<u8>> for Doc {
    fn from(raw: Vec<u8>) -> Self {
        Self::new(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(source: &'static str, edit: impl FnOnce(&mut Doc)) -> String {
        let mut doc = Doc::new(source);
        edit(&mut doc);
        String::from_utf8(doc.into_bytes().to_vec()).unwrap()
    }

    #[test]
    fn looking_is_not_touching() {
        let source = r#"{ "temperature" : 1.0e2, "seed":12345678901234567890123 }"#;
        let doc = Doc::new(source);
        assert_eq!(doc.get("temperature"), Some("1.0e2"));
        assert_eq!(doc.into_bytes(), source.as_bytes());
    }

    #[test]
    fn a_member_is_added_at_the_end_and_removed_with_its_comma() {
        assert_eq!(edited("{ }", |doc| doc.set("a", "1").unwrap()), r#"{"a":1 }"#);
        assert_eq!(edited(r#"{"a":1 }"#, |doc| doc.set("b", "[2]").unwrap()), r#"{"a":1,"b":[2] }"#);
        let source = r#"{ "a" : 1, "b" : 2 , "c":3 }"#;
        assert_eq!(edited(source, |doc| assert!(doc.remove("a").unwrap())), r#"{ "b" : 2 , "c":3 }"#);
        assert_eq!(edited(source, |doc| assert!(doc.remove("b").unwrap())), r#"{ "a" : 1 , "c":3 }"#);
        assert_eq!(edited(source, |doc| assert!(doc.remove("c").unwrap())), r#"{ "a" : 1, "b" : 2 }"#);
        assert_eq!(edited(r#"{ "a":1 }"#, |doc| assert!(doc.remove("a").unwrap())), "{ }");
        assert!(!Doc::new("{}").remove("a").unwrap());
    }

    #[test]
    fn elements_that_stay_keep_their_bytes_and_spaces() {
        let source = r#"{"m":[ {"a": 1} , [2],  "three" ],"z":0}"#;
        let keep_two = edited(source, |doc| {
            doc.edit_elements("m", |i, _| if i == 0 { Element::Drop } else { Element::Keep }).unwrap();
        });
        assert_eq!(keep_two, r#"{"m":[ [2],  "three" ],"z":0}"#);
        let none = edited(source, |doc| doc.edit_elements("m", |_, _| Element::Drop).unwrap());
        assert_eq!(Doc::new(none).elements("m").unwrap(), Vec::<&str>::new());
    }

    #[test]
    fn a_name_twice_is_reported_and_never_edited() {
        let source = r#"{"a":1,"\u0061":2}"#;
        let mut doc = Doc::new(source);
        assert_eq!(doc.duplicate_name(), Some("a"));
        assert_eq!(doc.set("b", "1").unwrap_err().kind(), Kind::NotEditable);
        assert_eq!(doc.bytes(), source);
    }

    #[test]
    fn what_is_no_object_has_a_trouble_and_keeps_its_bytes() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for (source, want) in [
            ("hello".to_owned(), Trouble::NotAnObject { line: 1, column: 1 }),
            (format!("{{\"a\":{deep}}}"), Trouble::TooDeep),
        ] {
            let doc = Doc::new(source.clone());
            assert_eq!(doc.trouble(), Some(want));
            assert_eq!(doc.get("a"), None);
            assert_eq!(doc.into_bytes(), source);
        }
        assert_eq!(Doc::new(&b"{\"a\":\"\xff\"}"[..]).trouble(), Some(Trouble::NotUtf8));
        assert!(Doc::new("[1]").trouble().is_some());
        assert!(Doc::new("{} {}").trouble().is_some());
    }

    #[test]
    fn what_is_sealed_is_looked_into_and_never_edited() {
        let mut doc = Doc::new(r#"{"a":[1]}"#).sealed();
        assert!(!doc.is_editable() && !doc.clone().is_editable());
        assert_eq!(doc.get("a"), Some("[1]"));
        assert_eq!(doc.set("b", "1").unwrap_err().kind(), Kind::NotEditable);
        assert_eq!(doc.remove("a").unwrap_err().kind(), Kind::NotEditable);
        assert!(doc.edit_elements("a", |_, _| Element::Drop).is_err());
        assert_eq!(doc.bytes(), r#"{"a":[1]}"#);
    }

    #[test]
    fn debug_prints_no_content() {
        assert_eq!(format!("{:?}", Doc::new(r#"{"secret":1}"#)), "Doc { bytes: 12, edited: false }");
    }
}
