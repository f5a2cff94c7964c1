//! Counting with a memory: a message that was counted once is looked up afterwards.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use moka::sync::Cache;

use super::own::{Meaning, Names};
use super::request::{self, MessageCount, Profile, RestCount, Terms};
use super::split::{Split, last_ends};
use super::tally::Tally;
use super::{Accuracy, Calibration, Count, CountParts, Expected, Tokenizer, hidden};
use crate::call::{Call, Dialect, Trouble};
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
    names: Arc<Names>,
    calibration: Option<Calibration>,
}

/// A count by the start factors alone, and the one corrected by what was billed.
#[derive(Clone, Debug)]
pub(crate) struct Both {
    /// What places of cuts rest on, and what is learned from.
    pub(crate) raw: Count,
    pub(crate) corrected: Option<Count>,
}

impl Both {
    /// What budgets are held to.
    pub(crate) fn now(&self) -> &Count {
        self.corrected.as_ref().unwrap_or(&self.raw)
    }
}

type Key = (Terms, Element, [u8; 32]);

/// What an element is to the request around it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Element {
    /// Another thing than its like later on: Claude's frame is counted apart from it.
    FirstMessage,
    LaterMessage,
    /// The first messages of a conversation together.
    Beginning,
    Rest,
}

#[derive(Clone)]
enum Known {
    Message(MessageCount),
    Beginning(Arc<Sum>),
    Rest(Box<RestCount>),
}

impl Known {
    /// In elements: what is remembered of a conversation's beginning is eight bytes for each of its messages.
    fn weight(&self) -> u32 {
        match self {
            Self::Beginning(sum) => u32::try_from(1 + sum.messages.len() / 25).unwrap_or(u32::MAX),
            _ => 1,
        }
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::with_capacity(REMEMBERED)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("remembered", &self.memo.entry_count()).finish_non_exhaustive()
    }
}

impl Counter {
    /// A counter that remembers at most `elements` messages, about 200 bytes each.
    #[must_use]
    pub fn with_capacity(elements: u64) -> Self {
        let memo = Cache::builder().max_capacity(elements).weigher(|_, known: &Known| known.weight()).build();
        Self { memo, names: Arc::default(), calibration: None }
    }

    /// Counts calls to `name` (upper or lower case alike) as those to `model`: for an Azure deployment or a proxy
    /// with names of its own.
    ///
    /// # Example
    /// ```
    /// use thrifty::call::Call;
    /// use thrifty::tokens::Counter;
    ///
    /// let counter = Counter::default().model("our-chat", "gpt-4o");
    /// let call = Call::post("https://api.openai.com/v1/chat/completions",
    ///     r#"{"model":"our-chat","messages":[{"role":"user","content":"hello world"}]}"#);
    /// # #[cfg(feature = "tiktoken")]
    /// assert!(counter.count(&call).accuracy.is_exact());
    /// ```
    #[must_use]
    pub fn model(mut self, name: &str, model: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.names).add(name, Meaning::Model(model.into()));
        self
    }

    /// Counts the texts of calls to models whose names begin with `begins` by a tokenizer of the caller's own.
    #[must_use]
    pub fn tokenizer(mut self, begins: &str, tokenizer: Arc<dyn Tokenizer>) -> Self {
        Arc::make_mut(&mut self.names).add(begins, Meaning::own(tokenizer));
        self
    }

    /// Corrects what is counted by what providers have billed.
    #[must_use]
    pub fn calibrated(mut self, calibration: Calibration) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// What corrects its counts, if anything does.
    #[must_use]
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// Tokens of `call`, by part: the very numbers of [`count`](super::count), unless names, tokenizers or a
    /// calibration were given.
    #[must_use]
    pub fn count(&self, call: &Call) -> Count {
        let count = self.uncalibrated(call);
        match &self.calibration {
            Some(calibration) => self.bounded(calibration.adjust(call, count), call),
            None => count,
        }
    }

    /// Tokens of `call`, counted once and given both ways.
    pub(crate) fn both(&self, call: &Call) -> Both {
        let raw = self.uncalibrated(call);
        let corrected = self
            .calibration
            .as_ref()
            .map(|calibration| self.bounded(calibration.adjust(call, raw.clone()), call));
        Both { raw, corrected }
    }

    /// What `call`, counted as `raw`, is expected to be billed; `None` where nobody learns from that.
    pub(crate) fn expected(&self, call: &Call, raw: &Count) -> Option<Expected> {
        self.calibration.as_ref().and_then(|_| Expected::of(call, raw))
    }

    /// Tokens of `call` by the start factors alone: figures that do not move as a calibration learns. What is learned
    /// from, and the places of cuts, rest on these.
    #[must_use]
    pub fn uncalibrated(&self, call: &Call) -> Count {
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
        if bytes < budget && self.most_by_bytes(call).is_some_and(|most| most <= budget) {
            return true;
        }
        match self.calibration {
            Some(_) => self.count(call).at_most <= budget,
            None => self.assemble(call, budget).at_most <= budget,
        }
    }

    /// The model that counts, and the profile that it and the format give.
    fn profile(&self, call: &Call) -> (Profile<'_>, String) {
        let name = call.model().unwrap_or_default();
        match self.names.find(&name) {
            None => (Profile::of(call, &name), name),
            Some(Meaning::Model(model)) => (Profile::of(call, model), model.clone()),
            Some(Meaning::Own(own)) => (Profile::of(call, &name).with(own), name),
        }
    }

    /// Counts until `limit` is passed; a count cut short has an `at_most` above it.
    fn assemble(&self, call: &Call, limit: u64) -> Count {
        in_each_reading(self.one_reading(call, limit), call)
    }

    /// The most that a call can take by its bytes alone, if that can be said.
    fn most_by_bytes(&self, call: &Call) -> Option<u64> {
        // A tokenizer of the caller's own need not go by bytes.
        let own = matches!(self.names.find(&call.model().unwrap_or_default()), Some(Meaning::Own(_)));
        if own || call.doc.trouble().is_some() || hidden::in_members(&call.doc, call.dialect) {
            return None;
        }
        let prompt = call.format().prompt(call);
        let beyond = request::beyond_bytes(&prompt, call.dialect)?;
        let text = std::str::from_utf8(call.doc.bytes()).ok()?;
        if hidden::in_messages(&prompt, call.dialect) || hidden::repeats(text) {
            return None;
        }
        Some((text.len() as u64).saturating_add(beyond))
    }

    /// A learned margin never goes beyond what the bytes allow.
    fn bounded(&self, mut count: Count, call: &Call) -> Count {
        if count.at_most > call.doc.bytes().len() as u64
            && let Some(most) = self.most_by_bytes(call)
        {
            count.at_most = count.at_most.min(most).max(count.likely);
        }
        count
    }

    fn one_reading(&self, call: &Call, limit: u64) -> Count {
        let (profile, model) = self.profile(call);
        let Some(parts) = Split::of(call) else { return without_memo(call, profile, &model) };
        let terms = profile.terms();
        let mut beginnings = Beginnings::of(parts.array);
        let (read, mut sum) = self.remembered(terms, &mut beginnings);
        let done = sum.messages.len();
        // Only what came after is taken apart.
        let grown = (read > 0).then(|| after(parts.array, read));
        let Some(later) = crate::call::json::elements(grown.as_deref().unwrap_or(parts.array)) else {
            return without_memo(call, profile, &model);
        };
        let rest = self.rest(profile, call, &parts, &model);

        let key = |(i, raw): (usize, &&str)| {
            let element = if done + i == 0 { Element::FirstMessage } else { Element::LaterMessage };
            (terms, element, *blake3::hash(raw.as_bytes()).as_bytes())
        };
        let keys: Vec<Key> = later.iter().enumerate().map(key).collect();
        let known: Vec<_> = keys.iter().map(|key| self.memo.get(key)).collect();
        // Only what is not remembered is read.
        let fresh: Vec<&str> = std::iter::zip(&later, &known)
            .filter(|(_, known)| !matches!(known, Some(Known::Message(_))))
            .map(|(raw, _)| *raw)
            .collect();
        let fresh_call = (!fresh.is_empty()).then(|| parts.call_with(call, &fresh));
        let prompt = fresh_call.as_ref().map(|call| call.format().prompt(call)).unwrap_or_default();
        if prompt.messages.len() != fresh.len() {
            return without_memo(call, profile, &model);
        }
        let whole = done + later.len();
        let around = profile.framing(whole).at_most
            + rest.system.at_most
            + rest.tools.at_most
            + rest.response_format.at_most;
        let mut fresh = prompt.messages.iter();
        for (i, (key, known)) in keys.into_iter().zip(known).enumerate() {
            let count = match known {
                Some(Known::Message(count)) => count,
                _ => {
                    let Some(message) = fresh.next() else { break };
                    let count = profile.message(message, done + i == 0);
                    self.memo.insert(key, Known::Message(count));
                    count
                }
            };
            sum.push(count);
            // A system message that takes a little off again may still come.
            if sum.total.at_most.saturating_add(around) > limit.saturating_add(RestCount::JOIN) {
                break;
            }
        }
        if let Some(hash) = beginnings.whole
            && sum.messages.len() == whole
            && whole > done
            && whole >= Beginnings::SHORTEST
        {
            self.memo.insert((terms, Element::Beginning, hash), Known::Beginning(Arc::new(sum.clone())));
        }
        sum.finish(profile, rest)
    }

    /// The longest beginning that is remembered: where in the text it ends, and its sum.
    fn remembered(&self, terms: Terms, beginnings: &mut Beginnings<'_>) -> (usize, Sum) {
        for newest in [0..3, 3..Beginnings::MOST] {
            let found = beginnings.hashes(newest).into_iter().rev().find_map(|(end, hash)| {
                match self.memo.get(&(terms, Element::Beginning, hash)) {
                    Some(Known::Beginning(sum)) => Some((end, Sum::clone(&sum))),
                    _ => None,
                }
            });
            if let Some(found) = found {
                return found;
            }
        }
        <_>::default()
    }

    fn rest(&self, profile: Profile<'_>, call: &Call, parts: &Split<'_>, model: &str) -> RestCount {
        if parts.rest.is_empty() {
            return RestCount::default();
        }
        let key = (profile.terms(), Element::Rest, parts.rest_hash(model));
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

/// A conversation's beginnings: whole, without its last message, without its last two, and so on.
///
/// A conversation grows by a few messages, so one of these was the whole of it the last time. One long run of bytes
/// is hashed several times as fast as its pieces one by one, and is not taken apart.
struct Beginnings<'a> {
    array: &'a str,
    /// Hash of the whole, once it is known.
    whole: Option<[u8; 32]>,
}

impl<'a> Beginnings<'a> {
    /// Shorter conversations are looked up message by message.
    const SHORTEST: usize = 4;
    /// A turn that adds more messages is looked up message by message too.
    const MOST: usize = 12;

    fn of(array: &'a str) -> Self {
        Self { array, whole: None }
    }

    /// Ends and hashes of those without so many of the last messages, the shortest first.
    fn hashes(&mut self, without: Range<usize>) -> Vec<(usize, [u8; 32])> {
        let ends = last_ends(self.array, without.end.max(Self::SHORTEST));
        if ends.len() < Self::SHORTEST {
            return Vec::new();
        }
        let chosen = without.start.min(ends.len())..without.end.min(ends.len());
        let (mut hash, mut hashed) = (blake3::Hasher::new(), 0);
        let mut hash_to = |end: usize| {
            hash.update(self.array.as_bytes().get(hashed..end).unwrap_or_default());
            hashed = end;
            (end, *hash.finalize().as_bytes())
        };
        let found: Vec<_> = ends[chosen].iter().rev().map(|end| hash_to(*end)).collect();
        if without.start == 0 {
            self.whole = found.last().map(|(_, hash)| *hash);
        }
        found
    }
}

/// What follows in an array on its first `read` bytes, which end with an element, as an array.
fn after(array: &str, read: usize) -> String {
    let later = array.get(read..).unwrap_or_default().trim_start();
    format!("[{}", later.strip_prefix(',').unwrap_or(later))
}

/// Messages added up, from the first on.
#[derive(Clone, Default)]
struct Sum {
    total: Tally,
    messages: Vec<u64>,
    /// Which was the first system message, and what it costs more where tools are offered.
    system: Option<(usize, u64)>,
}

impl Sum {
    fn push(&mut self, message: MessageCount) {
        if message.system && self.system.is_none() {
            self.system = Some((self.messages.len(), message.line_end));
        }
        self.messages.push(message.tally.likely);
        self.total.add(message.tally);
    }

    /// The whole request, with what stands around these messages.
    fn finish(mut self, profile: Profile<'_>, rest: RestCount) -> Count {
        let framing = profile.framing(self.messages.len());
        for part in [framing, rest.system, rest.tools, rest.response_format] {
            self.total.add(part);
        }
        let mut tools = rest.tools.likely;
        if let Some((i, line_end)) = self.system.filter(|_| rest.joins) {
            self.messages[i] += line_end;
            self.total.likely += line_end;
            self.total.at_most += line_end;
            for sum in [&mut tools, &mut self.total.likely, &mut self.total.at_most] {
                *sum = sum.saturating_sub(RestCount::JOIN);
            }
        }
        let parts = CountParts {
            system: rest.system.likely,
            messages: self.messages,
            tools,
            response_format: rest.response_format.likely,
            framing: framing.likely,
        };
        finish(self.total, profile.encoding(), parts)
    }
}

/// Tokens of a call, read as a whole.
fn without_memo(call: &Call, profile: Profile<'_>, model: &str) -> Count {
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
        let hidden = hidden::in_members(&call.doc, call.dialect);
        return finish(Tally { hidden, ..Tally::bound(bytes.div_ceil(4), bytes) }, "bytes", parts);
    }
    let rest = profile.rest(&call.doc, &prompt, model);
    let mut sum = Sum::default();
    for (i, message) in prompt.messages.iter().enumerate() {
        sum.push(profile.message(message, i == 0));
    }
    sum.finish(profile, rest)
}

/// The inputs of an embeddings call: texts, or token ids.
fn inputs(profile: Profile<'_>, call: &Call) -> Option<Count> {
    let mut counts = Vec::new();
    if let Some(text) = call.doc.str("input") {
        counts.push(profile.plain(&text));
    } else {
        let elements = call.doc.elements("input")?;
        let ids = |elements: &[&str]| elements.iter().all(|id| crate::call::json::whole(id).is_some());
        let exactly = |n: usize| Tally::of(n as u64, n as u64, Accuracy::Exact);
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
    Some(finish(total, profile.encoding(), CountParts { messages, ..CountParts::default() }))
}

fn finish(total: Tally, encoding: &'static str, parts: CountParts) -> Count {
    let Tally { likely, mut at_most, mut accuracy, media, data_urls, hidden } = total;
    if hidden {
        at_most = at_most.saturating_add(hidden::WINDOW);
        accuracy = Accuracy::UpperBound;
    }
    Count { likely, at_most, accuracy, encoding, parts, media, data_urls }
}

/// Tokens of `call` without remembering anything.
pub(super) fn count(call: &Call) -> Count {
    let model = call.model().unwrap_or_default();
    in_each_reading(without_memo(call, Profile::of(call, &model), &model), call)
}

/// A body that holds a member twice is counted by its bytes: nobody knows which of the two the provider reads. So is
/// one that nests too deeply to be looked into.
fn in_each_reading(mut count: Count, call: &Call) -> Count {
    if call.doc.duplicate_name().is_some() || call.doc.trouble() == Some(Trouble::TooDeep) {
        let most = hidden::Most::of(call.doc.bytes());
        let refers = if most.refers { hidden::WINDOW } else { 0 };
        count.at_most = count.at_most.max(most.tokens.saturating_add(refers));
        count.accuracy = Accuracy::UpperBound;
    }
    count
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
    fn a_conversation_that_grew_by_any_number_of_messages_counts_as_if_read_anew() {
        for step in 1..16 {
            let (counter, mut messages) = (Counter::default(), Vec::new());
            for turn in 0..6 {
                for i in 0..step {
                    let role = ["user", "assistant", "system"][(turn + i) % 3];
                    messages.push(json!({"role": role, "content": format!("{turn} {i} \\ \", [{{")}));
                }
                let body = json!({"model": "gpt-4o", "messages": messages, "tools": [
                    {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}}]});
                for text in [body.to_string(), format!("{body:#}")] {
                    let call = Call::post("https://a.example/v1/chat/completions", text);
                    assert_eq!(counter.count(&call), count(&call), "{step} more each turn, turn {turn}");
                    assert_eq!(counter.count(&call), count(&call), "and again");
                }
            }
        }
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
