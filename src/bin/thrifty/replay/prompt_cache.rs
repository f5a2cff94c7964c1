//! The provider's own prompt cache at the time of the log.
//!
//! A prefix is the front (tools and system text) and a number of whole messages. It is known for five minutes after
//! it was last used. OpenAI finds the longest known one by itself, from 1,024 tokens on and in steps of 128;
//! Anthropic only at marks, and looks back 20 messages from each.

use std::collections::HashMap;

use thrifty::call::{Call, Dialect};
use thrifty::dialect::Part;
use thrifty::price::PriceTable;
use thrifty::tokens::Count;

/// How long a prefix is known after its last use, in milliseconds.
const LIFETIME_MS: i64 = 300_000;
/// Shortest prefix that is remembered where the price table states none, in tokens.
const SHORTEST: u64 = 1_024;
/// How far behind a mark Anthropic looks, in messages.
const LOOK_BACK: usize = 20;
/// How many prefixes may gather before stale ones are thrown out.
const MANY: usize = 100_000;

/// Tokens read from the prompt cache, and written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cached {
    pub(crate) read: u64,
    pub(crate) written: u64,
}

#[derive(Debug, Default)]
pub(crate) struct PromptCache {
    /// Hash of (scope, model, prefix) -> when it was last used.
    known: HashMap<[u8; 32], i64>,
}

/// A place where a prefix can end.
struct Step {
    hash: [u8; 32],
    tokens: u64,
    marked: bool,
}

impl PromptCache {
    /// What of `call` is read and written at `now_ms`; remembers its prefixes.
    pub(crate) fn pass(
        &mut self,
        call: &Call,
        count: &Count,
        scope: &str,
        prices: &PriceTable,
        now_ms: i64,
    ) -> Cached {
        let steps = steps(call, count, scope);
        let shortest = call.model().and_then(|model| prices.cache_minimum(&model)).unwrap_or(SHORTEST).max(1);
        let fresh = |hash: &[u8; 32]| {
            self.known.get(hash).is_some_and(|last| now_ms.saturating_sub(*last) <= LIFETIME_MS)
        };
        let mut cached = Cached::default();
        let mut used: Vec<[u8; 32]> = Vec::new();
        if call.dialect == Dialect::AnthropicMessages {
            let marks: Vec<usize> = (0..steps.len()).filter(|at| steps[*at].marked).collect();
            let Some(last) = marks.last().copied().filter(|at| steps[*at].tokens >= shortest) else {
                return cached;
            };
            let near = |at: &usize| marks.iter().any(|mark| at <= mark && mark - at <= LOOK_BACK);
            let hit = (0..=last).rev().filter(near).find(|at| fresh(&steps[*at].hash));
            cached.read = hit.map_or(0, |at| steps[at].tokens);
            cached.written = steps[last].tokens.saturating_sub(cached.read);
            used.extend(hit.map(|at| steps[at].hash));
            used.extend(marks.iter().filter(|at| steps[**at].tokens >= shortest).map(|at| steps[*at].hash));
        } else if matches!(call.dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses) {
            let long = || steps.iter().filter(|step| step.tokens >= shortest);
            let hit = long().rev().find(|step| fresh(&step.hash));
            cached.read = hit.map_or(0, |step| step.tokens.min(count.likely) / 128 * 128);
            used.extend(long().map(|step| step.hash));
        }
        self.known.extend(used.into_iter().map(|hash| (hash, now_ms)));
        if self.known.len() > MANY {
            self.known.retain(|_, last| now_ms.saturating_sub(*last) <= LIFETIME_MS);
        }
        cached
    }
}

/// The places where a prefix of `call` can end, shortest first.
fn steps(call: &Call, count: &Count, scope: &str) -> Vec<Step> {
    let anthropic = call.dialect == Dialect::AnthropicMessages;
    let prompt = call.format().prompt(call);
    let mut hasher = blake3::Hasher::new();
    feed(&mut hasher, scope.as_bytes());
    feed(&mut hasher, call.model().unwrap_or_default().as_bytes());
    for tool in &prompt.tools {
        feed(&mut hasher, tool.name.as_bytes());
        feed(&mut hasher, tool.description.as_deref().unwrap_or_default().as_bytes());
        feed(&mut hasher, tool.parameters.unwrap_or_default().as_bytes());
    }
    prompt.system.iter().for_each(|part| part_of(&mut hasher, part));
    let marked = |name| call.doc.get(name).is_some_and(|text| text.contains("\"cache_control\""));
    let parts = &count.parts;
    let mut tokens = parts.system + parts.tools + parts.response_format;
    let mut steps = vec![Step {
        hash: *hasher.finalize().as_bytes(),
        tokens,
        marked: marked("tools") || marked("system"),
    }];
    for (message, own) in prompt.messages.iter().zip(&parts.messages) {
        tokens += own;
        if anthropic {
            // A mark is no part of the prompt: it moves on from turn to turn.
            feed(&mut hasher, format!("{:?}", message.role).as_bytes());
            message.parts.iter().for_each(|part| part_of(&mut hasher, part));
        } else {
            feed(&mut hasher, message.raw.as_bytes());
        }
        let marked = call.format().has_cache_mark(message.raw);
        steps.push(Step { hash: *hasher.finalize().as_bytes(), tokens, marked });
    }
    if let (Some(_), Some(last)) = (call.doc.some("cache_control"), steps.last_mut()) {
        last.marked = true;
    }
    steps
}

fn part_of(hasher: &mut blake3::Hasher, part: &Part<'_>) {
    match part {
        Part::Text(text) | Part::Thinking(text) => feed(hasher, text.as_bytes()),
        Part::ToolCall { id, name, arguments, .. } => {
            [id, name, arguments].into_iter().for_each(|text| feed(hasher, text.as_bytes()));
        }
        Part::ToolResult { id, parts } => {
            feed(hasher, id.as_bytes());
            parts.iter().for_each(|part| part_of(hasher, part));
        }
        Part::Image(image) => source(hasher, &image.source),
        Part::Audio(from) | Part::File(from) => source(hasher, from),
        Part::Unknown(raw) => feed(hasher, raw.as_bytes()),
        _ => feed(hasher, b"?"),
    }
}

fn source(hasher: &mut blake3::Hasher, source: &thrifty::dialect::Source<'_>) {
    use thrifty::dialect::Source;
    match source {
        Source::Base64 { data: text, .. } | Source::Url(text) | Source::Id(text) => {
            feed(hasher, text.as_bytes())
        }
        _ => feed(hasher, b"?"),
    }
}

fn feed(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input;

    fn call(end: &str) -> Call {
        let rules = "some rules that never change ".repeat(400);
        let body = format!(
            r#"{{"model":"gpt-4o","messages":[{{"role":"system","content":"{rules}"}},{{"role":"user","content":"{end}"}}]}}"#
        );
        input::call(body, None, None).unwrap()
    }

    #[test]
    fn a_known_prefix_is_read_for_five_minutes_after_its_last_use() {
        let prices = PriceTable::builtin();
        let mut cache = PromptCache::default();
        let mut pass = |end: &str, at_ms| {
            let call = call(end);
            cache.pass(&call, &thrifty::tokens::count(&call), "", &prices, at_ms).read
        };
        assert_eq!(pass("a", 0), 0, "nothing is known yet");
        let read = pass("b", 300_000);
        assert!(read >= 1_024 && read % 128 == 0, "{read}");
        assert_eq!(pass("c", 600_000), read, "each use starts the five minutes anew");
        assert_eq!(pass("d", 900_001), 0, "forgotten");
    }
}
