//! An object under construction: members that are replaced, joined or made longer.

use std::borrow::Cow;
use std::fmt;

use super::array;
use crate::call::json::{self, Object};

/// The value of a member so far.
pub(super) enum Slot {
    /// A string, unescaped, that may become longer.
    Text(String),
    /// The elements of an array that may become longer.
    List(Vec<String>),
    /// Anything, as JSON text.
    Raw(String),
}

impl Slot {
    fn json(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => json::quote(text).into(),
            Self::List(list) => array(list).into(),
            Self::Raw(raw) => raw.as_str().into(),
        }
    }
}

/// Names and values in the order in which the names were first seen.
#[derive(Default)]
pub(super) struct Slots(Vec<(String, Slot)>);

impl fmt::Debug for Slots {
    /// Names only: values are answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Slots {
    /// The members of an object as they stand; `None` for anything else and for a name that is there twice.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let object = object(text)?;
        Some(Self(object.iter().map(|(name, raw)| (name.to_owned(), Slot::Raw(raw.to_owned()))).collect()))
    }

    pub(super) fn slot(&mut self, name: &str) -> Option<&mut Slot> {
        self.0.iter_mut().find(|(have, _)| have == name).map(|(_, slot)| slot)
    }

    /// JSON text of a member.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, slot)| slot.json())
    }

    /// JSON text of a member that is neither absent nor null.
    pub(super) fn some(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).filter(|raw| raw != "null")
    }

    pub(super) fn set(&mut self, name: &str, raw: impl Into<String>) {
        self.put(name, Slot::Raw(raw.into()));
    }

    fn put(&mut self, name: &str, new: Slot) {
        match self.slot(name) {
            Some(slot) => *slot = new,
            None => self.0.push((name.to_owned(), new)),
        }
    }

    /// Takes a member out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(have, _)| have == name)?;
        Some(self.0.remove(at).1.json().into_owned())
    }

    /// The last value counts; one that says nothing (null, an empty string) never replaces one that does.
    pub(super) fn last(&mut self, name: &str, raw: &str) {
        if self.get(name).is_none_or(|old| old == "null" || !matches!(raw, "null" | "\"\"")) {
            self.set(name, raw);
        }
    }

    /// The same value again, or one in place of nothing; `None` when two values contradict each other.
    pub(super) fn once(&mut self, name: &str, raw: &str) -> Option<()> {
        let says = |text: &str| !matches!(text, "null" | "\"\"");
        let differs = self.get(name).is_some_and(|old| says(&old) && says(raw) && *old != *raw);
        if differs {
            return None;
        }
        self.last(name, raw);
        Some(())
    }

    /// The next piece of a member: strings are joined, of other values the last counts. `None` when that could be
    /// wrong: a string and something else, or two lists.
    pub(super) fn join(&mut self, name: &str, raw: &str) -> Option<()> {
        let text = if raw.starts_with('"') { Some(json::string(raw)?) } else { None };
        match (self.slot(name), text) {
            (None, Some(text)) => self.put(name, Slot::Text(text.into_owned())),
            (None, None) => self.set(name, raw),
            (Some(_), None) if raw == "null" => {}
            (Some(Slot::Text(so_far)), Some(text)) => so_far.push_str(&text),
            (Some(slot @ Slot::Raw(_)), text) => {
                let Slot::Raw(old) = &*slot else { return None };
                *slot = match (old.as_str(), text) {
                    ("null", Some(text)) => Slot::Text(text.into_owned()),
                    (old, Some(text)) if old.starts_with('"') => {
                        Slot::Text(json::string(old)?.into_owned() + &text)
                    }
                    ("null", None) => Slot::Raw(raw.to_owned()),
                    (old, None) if old == raw => return Some(()),
                    (old, None) if !old.starts_with(['[', '"']) && !raw.starts_with('[') => {
                        Slot::Raw(raw.to_owned())
                    }
                    _ => return None,
                };
            }
            _ => return None,
        }
        Some(())
    }

    /// More elements of a list; null adds none.
    pub(super) fn extend(&mut self, name: &str, raw: &str) -> Option<()> {
        if raw == "null" {
            if self.slot(name).is_none() {
                self.set(name, raw);
            }
            return Some(());
        }
        let more = json::elements(raw)?.into_iter().map(str::to_owned);
        match self.slot(name) {
            Some(Slot::List(list)) => list.extend(more),
            Some(Slot::Raw(old)) if old != "null" => {
                let mut list: Vec<String> = json::elements(old)?.into_iter().map(str::to_owned).collect();
                list.extend(more);
                self.put(name, Slot::List(list));
            }
            Some(Slot::Text(_)) => return None,
            _ => self.put(name, Slot::List(more.collect())),
        }
        Some(())
    }

    pub(super) fn json(&self) -> String {
        let mut out = String::from("{");
        for (name, slot) in &self.0 {
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(&json::quote(name));
            out.push(':');
            out.push_str(&slot.json());
        }
        out.push('}');
        out
    }
}

/// An object with each name once. Readers disagree on which of two values counts.
pub(super) fn object(text: &str) -> Option<Object<'_>> {
    let object = Object::parse(text)?;
    let mut names: Vec<&str> = object.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1]).then_some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[&str]) -> Option<String> {
        let mut slots = Slots::default();
        pieces.iter().try_for_each(|piece| slots.join("x", piece))?;
        Some(slots.json())
    }

    #[test]
    fn strings_are_joined_and_of_other_values_the_last_counts() {
        for (pieces, want) in [
            (&["null", "\"a\"", "null", "\"\\u0062\""][..], Some(r#"{"x":"ab"}"#)),
            (&["1.0", "2.50", "null"], Some(r#"{"x":2.50}"#)),
            (&["[1]", "[1]"], Some(r#"{"x":[1]}"#)),
            (&["[1]", "[2]"], None),
            (&["\"a\"", "1"], None),
            (&["1", "\"a\""], None),
            (&["\"\\ud800\""], None),
        ] {
            assert_eq!(joined(pieces).as_deref(), want, "{pieces:?}");
        }
    }

    #[test]
    fn lists_become_longer() {
        let mut slots = Slots::parse(r#"{"x":null}"#).unwrap();
        for raw in ["null", "[]", "[1,\"a\"]", "null", "[{}]"] {
            slots.extend("x", raw).unwrap();
        }
        assert_eq!(slots.json(), r#"{"x":[1,"a",{}]}"#);
        assert!(slots.extend("x", "1").is_none());
    }

    #[test]
    fn what_says_nothing_replaces_nothing() {
        let mut slots = Slots::default();
        for raw in ["\"\"", "null", "\"m\"", "\"\"", "null"] {
            slots.last("x", raw);
        }
        assert_eq!(slots.json(), r#"{"x":"m"}"#);
        assert!(slots.once("x", "\"m\"").is_some() && slots.once("x", "\"n\"").is_none());
        assert!(Slots::parse(r#"{"a":1,"\u0061":2}"#).is_none(), "a name twice");
    }
}
