//! Counting with a memory: a message that was counted once is looked up afterwards.

use std::fmt;

use moka::sync::Cache;

use super::request::{self, MessageCount, Profile, RestCount};
use super::tally::Tally;
use super::{Accuracy, Count, CountParts};
use crate::call::{Call, Dialect, Doc};
use crate::dialect::Prompt;

/// Elements remembered by default.
const REMEMBERED: u64 = 65_536;
/// Counts calls, and remembers what each message counted. Cheap to clone; clones share one memory.
///
/// Messages stand apart in every wire format, so their counts add up exactly, and a conversation that grew by one
/// message costs the counting of that message. What is remembered are hashes and numbers, never text.
///
/// # Example
/// ```
/// use thrifty::call::Call;
/// use thrifty::tokens::Counter;
///
/// let counter = Counter::default();
/// let call = Call::post("https://api.openai.com/v1/chat/completions",
///     r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello world"}]}"#);
/// assert_eq!(counter.count(&call), thrifty::tokens::count(&call));
/// assert!(counter.fits(&call, 1000));
/// ```
#[derive(Clone)]
pub struct Counter {
    memo: Cache<Key, Known>,
}

type Key = (Profile, Element, [u8; 32]);

/// What an element is to the request around it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Element {
    /// Another thing than its like later on: Claude's frame is counted apart from it.
    FirstMessage,
    LaterMessage,
    Rest,
}

#[derive(Clone)]
enum Known {
    Message(MessageCount),
    Rest(Box<RestCount>),
}

impl Default for Counter {
    fn default() -> Self {
        Self::with_capacity(REMEMBERED)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("remembered", &self.memo.entry_count()).finish()
    }
}

impl Counter {
    /// A counter that remembers at most `elements` messages, about 200 bytes each.
    #[must_use]
    pub fn with_capacity(elements: u64) -> Self {
        Self { memo: Cache::new(elements) }
    }

    /// Tokens of `call`, by part: the very numbers of [`count`](super::count).
    #[must_use]
    pub fn count(&self, call: &Call) -> Count {
        self.assemble(call, u64::MAX)
    }

    /// True if `call` takes at most `budget` tokens, by [`Count::at_most`].
    ///
    /// The bytes decide where they can: no text takes more tokens than bytes. Else messages are counted until
    /// the budget is passed.
    #[must_use]
    pub fn fits(&self, call: &Call, budget: u64) -> bool {
        let bytes = call.doc.bytes().len() as u64;
        // Whether messages hold pictures takes a look at them, so it is taken only where it may settle the question.
        if bytes < budget
            && call.doc.trouble().is_none()
            && let Some(beyond) = request::beyond_bytes(&call.format().prompt(call), call.dialect)
            && bytes.saturating_add(beyond) <= budget
        {
            return true;
        }
        self.assemble(call, budget).at_most <= budget
    }

    /// Counts until `limit` is passed; a count cut short has an `at_most` above it.
    fn assemble(&self, call: &Call, limit: u64) -> Count {
        let Some(parts) = Split::of(call) else { return without_memo(call) };
        let profile = Profile::of(call);
        let model = call.model().unwrap_or_default();
        let rest = self.rest(profile, call, &parts, &model);
        let mut sum = Sum::new(profile, rest, parts.messages.len());

        let key = |(i, raw): (usize, &&str)| {
            let element = if i == 0 { Element::FirstMessage } else { Element::LaterMessage };
            (profile, element, *blake3::hash(raw.as_bytes()).as_bytes())
        };
        let keys: Vec<Key> = parts.messages.iter().enumerate().map(key).collect();
        let known: Vec<_> = keys.iter().map(|key| self.memo.get(key)).collect();
        // Only what is not remembered is read.
        let fresh: Vec<&str> = std::iter::zip(&parts.messages, &known)
            .filter(|(_, known)| !matches!(known, Some(Known::Message(_))))
            .map(|(raw, _)| *raw)
            .collect();
        let fresh_call = (!fresh.is_empty()).then(|| parts.call_with(call, &fresh));
        let prompt = fresh_call.as_ref().map(|call| call.format().prompt(call)).unwrap_or_default();
        if prompt.messages.len() != fresh.len() {
            return without_memo(call);
        }
        let mut fresh = prompt.messages.iter();
        for (i, (key, known)) in keys.into_iter().zip(known).enumerate() {
            let count = match known {
                Some(Known::Message(count)) => count,
                _ => {
                    let Some(message) = fresh.next() else { break };
                    let count = profile.message(message, i == 0);
                    self.memo.insert(key, Known::Message(count));
                    count
                }
            };
            sum.push(count);
            // A system message that takes a little off again may still come.
            if sum.total.at_most > limit.saturating_add(RestCount::JOIN) {
                break;
            }
        }
        sum.finish()
    }

    fn rest(&self, profile: Profile, call: &Call, parts: &Split<'_>, model: &str) -> RestCount {
        if parts.rest.is_empty() {
            return RestCount::default();
        }
        let key = (profile, Element::Rest, parts.rest_hash(model));
        if let Some(Known::Rest(rest)) = self.memo.get(&key) {
            return *rest;
        }
        let without = parts.call_with(call, &[]);
        let prompt = without.format().prompt(&without);
        let rest = profile.rest(&without.doc, &prompt, model);
        self.memo.insert(key, Known::Rest(Box::new(rest)));
        rest
    }
}

/// A request being added up.
struct Sum {
    profile: Profile,
    total: Tally,
    parts: CountParts,
    /// True while a system message would change what the tools cost.
    unjoined: bool,
}

impl Sum {
    fn new(profile: Profile, rest: RestCount, messages: usize) -> Self {
        let framing = profile.framing(messages);
        let mut total = framing;
        for part in [rest.system, rest.tools, rest.response_format] {
            total.add(part);
        }
        let parts = CountParts {
            system: rest.system.likely,
            messages: Vec::with_capacity(messages),
            tools: rest.tools.likely,
            response_format: rest.response_format.likely,
            framing: framing.likely,
        };
        Self { profile, total, parts, unjoined: rest.joins }
    }

    fn push(&mut self, message: MessageCount) {
        let mut tally = message.tally;
        if message.system && self.unjoined {
            self.unjoined = false;
            tally.likely += message.line_end;
            tally.at_most += message.line_end;
            for sum in [&mut self.parts.tools, &mut self.total.likely, &mut self.total.at_most] {
                *sum = sum.saturating_sub(RestCount::JOIN);
            }
        }
        self.parts.messages.push(tally.likely);
        self.total.add(tally);
    }

    fn finish(self) -> Count {
        finish(self.total, self.profile.model.label(), self.parts)
    }
}

/// A body taken apart into its messages and the rest, without reading either.
struct Split<'a> {
    member: &'static str,
    messages: Vec<&'a str>,
    rest: Vec<(&'a str, &'a str)>,
}

impl<'a> Split<'a> {
    /// `None` for a body without messages.
    fn of(call: &'a Call) -> Option<Self> {
        let member = call.format().messages_member()?;
        let messages = call.doc.elements(member)?;
        // Sampling settings change from call to call and cost nothing.
        let rest = call.doc.members().filter(|(name, value)| {
            *name != member && *name != "model" && value.starts_with(['{', '[', '"'])
        });
        Some(Self { member, messages, rest: rest.collect() })
    }

    fn rest_hash(&self, model: &str) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        for text in std::iter::once(model).chain(self.rest.iter().flat_map(|(name, value)| [*name, *value])) {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        *hash.finalize().as_bytes()
    }

    /// The same call with these messages alone.
    fn call_with(&self, call: &Call, messages: &[&str]) -> Call {
        let mut body = format!("{{{}:[{}]", crate::call::json::quote(self.member), messages.join(","));
        for (name, value) in self.rest.iter().filter(|_| messages.is_empty()) {
            body.push(',');
            body.push_str(&crate::call::json::quote(name));
            body.push(':');
            body.push_str(value);
        }
        body.push('}');
        Call { dialect: call.dialect, parts: call.parts.clone(), doc: Doc::new(body) }
    }
}

/// Tokens of a call, read as a whole.
fn without_memo(call: &Call) -> Count {
    let profile = Profile::of(call);
    if (call.dialect == Dialect::Embeddings || call.parts.uri.path().ends_with("/embeddings"))
        && let Some(count) = inputs(profile, call)
    {
        return count;
    }
    let prompt: Prompt<'_> = call.format().prompt(call);
    let listed = call.format().messages_member().is_some_and(|member| call.doc.elements(member).is_some());
    if !listed && prompt.messages.is_empty() && prompt.system.is_empty() && prompt.tools.is_empty() {
        let bytes = call.doc.bytes().len() as u64;
        let parts = CountParts { framing: bytes.div_ceil(4), ..CountParts::default() };
        return finish(Tally::bound(bytes.div_ceil(4), bytes), "bytes", parts);
    }
    let model = call.model().unwrap_or_default();
    let rest = profile.rest(&call.doc, &prompt, &model);
    let mut sum = Sum::new(profile, rest, prompt.messages.len());
    for (i, message) in prompt.messages.iter().enumerate() {
        sum.push(profile.message(message, i == 0));
    }
    sum.finish()
}

/// The inputs of an embeddings call: texts, or token ids.
fn inputs(profile: Profile, call: &Call) -> Option<Count> {
    let mut counts = Vec::new();
    if let Some(text) = call.doc.str("input") {
        counts.push(profile.plain(&text));
    } else {
        let elements = call.doc.elements("input")?;
        let ids = |elements: &[&str]| elements.iter().all(|id| crate::call::json::whole(id).is_some());
        let exactly = |n: usize| Tally { likely: n as u64, at_most: n as u64, accuracy: Accuracy::Exact };
        if ids(&elements) {
            counts.push(exactly(elements.len()));
        } else {
            for element in elements {
                if let Some(text) = crate::call::json::string(element) {
                    counts.push(profile.plain(&text));
                } else {
                    let inner = crate::call::json::elements(element)?;
                    counts.push(ids(&inner).then(|| exactly(inner.len()))?);
                }
            }
        }
    }
    let mut total = Tally::default();
    for count in &counts {
        total.add(*count);
    }
    let messages = counts.iter().map(|count| count.likely).collect();
    Some(finish(total, profile.model.label(), CountParts { messages, ..CountParts::default() }))
}

fn finish(total: Tally, encoding: &'static str, parts: CountParts) -> Count {
    Count { likely: total.likely, at_most: total.at_most, accuracy: total.accuracy, encoding, parts }
}

/// Tokens of `call` without remembering anything.
pub(super) fn count(call: &Call) -> Count {
    without_memo(call)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "`json!` writes the bodies of these tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_the_body_holds_there_is_a_count() {
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "\u{1F600}",
            r#"{"messages":7}"#,
            r#"{"messages":[]}"#,
            r#"{"messages":[null,7,"x",{}]}"#,
            r#"{"model":7,"messages":[{"role":7,"content":7}],"tools":[7,{}],"tool_choice":7}"#,
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":"\ud800"}]}"#,
            r#"{"messages":[],"tools":[{"type":"function","function":{"name":"a","parameters":[]}}]}"#,
        ] {
            for uri in ["/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/other"] {
                let call = Call::post(&format!("https://a.example{uri}"), body.to_owned());
                let found = count(&call);
                assert!(found.likely <= found.at_most, "{body} at {uri}");
                assert_eq!(Counter::default().count(&call), found, "{body} at {uri}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_call_fits_exactly_if_its_upper_bound_does(
            model in prop::sample::select(vec!["gpt-4o", "gpt-4", "claude-opus-5", "gemini-3-pro", "llama"]),
            path in prop::sample::select(vec!["/v1/chat/completions", "/v1/messages"]),
            texts in prop::collection::vec("[a-z \"\\\\\u{e9}\u{4e16}\n<|>]{0,40}", 0..4),
            tools in prop::collection::vec("[a-z]{0,3}", 0..3),
            choice in prop::sample::select(vec![json!(null), json!("none"), json!({"function": {"name": "a"}})]),
            budget in 0u64..1600,
        ) {
            let messages: Vec<_> = texts
                .iter()
                .enumerate()
                .map(|(i, text)| {
                    let role = ["user", "assistant", "system", "tool"][i % 4];
                    json!({"role": role, "content": text, "name": text})
                })
                .collect();
            let tools: Vec<_> = tools.iter().map(|name| json!({"function": {"name": name, "parameters": {
                "type": "object", "properties": {name: {"anyOf": [{}, {"type": "object"}]}}}}})).collect();
            let body = json!({"model": model, "messages": messages, "tools": tools, "tool_choice": choice});
            let call = Call::post(&format!("https://a.example{path}"), body.to_string());
            let counter = Counter::default();
            let at_most = count(&call).at_most;
            for budget in [budget, at_most, at_most.saturating_sub(1)] {
                prop_assert_eq!(counter.fits(&call, budget), at_most <= budget, "{} of {}", at_most, budget);
            }
        }

        #[test]
        fn remembered_counts_are_the_same_counts(body in "\\PC{0,60}", at in 0usize..120) {
            let whole = r#"{"model":"gpt-4o","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text"}]}]}"#;
            let at = at.min(whole.len());
            let text = format!("{}{body}{}", &whole[..at], &whole[at..]);
            let call = Call::post("https://a.example/v1/chat/completions", text);
            let counter = Counter::default();
            prop_assert_eq!(counter.count(&call), count(&call));
            prop_assert_eq!(counter.count(&call), count(&call));
        }
    }

    #[test]
    fn an_element_is_counted_once_and_remembered_by_its_bytes() {
        let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"one"},{"role":"user","content":"two"}]}"#;
        let call = Call::post("https://a.example/v1/chat/completions", body);
        let counter = Counter::default();
        let first = counter.count(&call);
        counter.memo.run_pending_tasks();
        assert_eq!(counter.memo.entry_count(), 2, "one for each message");
        assert_eq!(counter.clone().count(&call), first);
        counter.memo.run_pending_tasks();
        assert_eq!(counter.memo.entry_count(), 2, "nothing new");
    }

    #[test]
    fn the_memory_is_bounded() {
        let counter = Counter::with_capacity(8);
        for i in 0..200 {
            let body =
                json!({"model": "gpt-4o", "messages": [{"role": "user", "content": format!("message {i}")}]});
            let count = counter.count(&Call::post("https://a.example/v1/chat/completions", body.to_string()));
            assert!(count.likely > 7);
        }
        counter.memo.run_pending_tasks();
        assert!(counter.memo.entry_count() <= 8);
    }

    #[cfg(not(feature = "tiktoken"))]
    #[test]
    fn without_the_vocabulary_bytes_are_the_bound() {
        let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello world!"}]}"#;
        let count = Counter::default().count(&Call::post("https://a.example/v1/chat/completions", body));
        assert_eq!((count.likely, count.at_most), (7 + 3, 7 + 12 + 1));
        assert_eq!((count.encoding, count.accuracy), ("bytes", Accuracy::UpperBound));
    }
}
