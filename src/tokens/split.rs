//! A body taken apart without being read as a prompt.

use crate::call::{Call, Doc};

/// A body taken apart into its messages and the rest, without reading either.
pub(super) struct Split<'a> {
    pub(super) member: &'static str,
    /// The text of the whole array, which `messages` are slices of.
    pub(super) array: &'a str,
    pub(super) messages: Vec<&'a str>,
    pub(super) rest: Vec<(&'a str, &'a str)>,
}

impl<'a> Split<'a> {
    /// `None` for a body without messages.
    pub(super) fn of(call: &'a Call) -> Option<Self> {
        let member = call.format().messages_member()?;
        let array = call.doc.get(member)?;
        let messages = crate::call::json::elements(array)?;
        // Sampling settings change from call to call and cost nothing.
        let rest = call.doc.members().filter(|(name, value)| {
            *name != member && *name != "model" && value.starts_with(['{', '[', '"'])
        });
        Some(Self { member, array, messages, rest: rest.collect() })
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
