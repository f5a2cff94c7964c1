//! The provider's own prompt cache, in small: prefixes of a prompt that were seen before cost less.
//!
//! A prefix is the tools, the system text and a number of whole messages. Real providers match token by token and
//! forget after minutes; this one matches message by message and never forgets.

use std::collections::HashMap;

use super::answer::tokens_of;
use crate::call::json::Object;
use crate::call::{Call, Dialect};
use crate::tokens;

/// Shortest prefix that is remembered, in tokens: that of OpenAI, and of most Anthropic models.
const SHORTEST: u64 = 1_024;
/// How far behind a mark Anthropic looks for a known prefix, in messages.
const LOOK_BACK: usize = 20;

/// Prompt tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    /// All of them.
    pub(super) total: u64,
    /// Of these read from the prompt cache.
    pub(super) read: u64,
    /// Of these written to it (Anthropic).
    pub(super) written: u64,
    /// True if they were written for an hour.
    pub(super) long: bool,
}

#[derive(Debug, Default)]
pub(super) struct PromptCache {
    /// Hash of (credential, model, prefix) to its length in tokens.
    known: HashMap<[u8; 32], u64>,
}

/// One place where a prefix can end.
struct Step {
    hash: [u8; 32],
    tokens: u64,
    /// The caller's mark stands here; true within if it asks for an hour.
    mark: Option<bool>,
}

impl PromptCache {
    /// Tokens of `call`, and remembers its prefixes.
    pub(super) fn read(&mut self, call: &Call) -> Input {
        let (total, steps) = steps(call);
        let mut input = Input { total, ..Input::default() };
        if call.dialect == Dialect::AnthropicMessages {
            let marks: Vec<usize> = (0..steps.len()).filter(|at| steps[*at].mark.is_some()).collect();
            let Some(&last) = marks.last() else { return input };
            let near = |at: &usize| marks.iter().any(|mark| at <= mark && mark - at <= LOOK_BACK);
            let known = (0..=last).rev().filter(near).find_map(|at| self.known.get(&steps[at].hash));
            input.read = known.copied().unwrap_or(0).min(total);
            if steps[last].tokens >= SHORTEST {
                input.written = steps[last].tokens.min(total).saturating_sub(input.read);
            }
            input.long = steps[last].mark == Some(true);
            for at in marks {
                self.remember(&steps[at]);
            }
        } else {
            let known = steps.iter().rev().find_map(|step| self.known.get(&step.hash));
            // OpenAI reports cached tokens in steps of 128.
            input.read = known.map_or(0, |tokens| tokens.min(&total) / 128 * 128);
            for step in &steps {
                self.remember(step);
            }
        }
        input
    }

    fn remember(&mut self, step: &Step) {
        if step.tokens >= SHORTEST {
            self.known.insert(step.hash, step.tokens);
        }
    }
}

/// The places where a prefix of `call` can end, shortest first, and the tokens of the whole prompt.
fn steps(call: &Call) -> (u64, Vec<Step>) {
    let raw: Vec<_> = call.format().prompt(call).messages.iter().map(|message| message.raw).collect();
    let count = tokens::count(call);
    let (front, messages, total) = if count.parts.messages.len() == raw.len() {
        let parts = &count.parts;
        (parts.system + parts.tools + parts.response_format, parts.messages.clone(), count.likely)
    } else {
        // The counter could not look into it: the upstream's own rule.
        let front = ["system", "instructions", "systemInstruction", "tools"]
            .map(|name| tokens_of(call.doc.get(name).map_or(0, str::len)));
        let messages: Vec<u64> = raw.iter().map(|message| tokens_of(message.len())).collect();
        let front = front.iter().sum();
        (front, messages.clone(), front + messages.iter().sum::<u64>())
    };

    let mut hasher = blake3::Hasher::new();
    for name in ["authorization", "x-api-key", "api-key", "x-goog-api-key"] {
        feed(&mut hasher, call.parts.headers.get(name).map_or(&[], |value| value.as_bytes()));
    }
    feed(&mut hasher, call.model().unwrap_or_default().as_bytes());
    let mut mark = None;
    for tool in call.doc.elements("tools").unwrap_or_default() {
        mark = block(&mut hasher, tool).or(mark);
    }
    match call.doc.elements("system") {
        Some(blocks) => {
            for part in blocks {
                mark = block(&mut hasher, part).or(mark);
            }
        }
        None => feed(&mut hasher, call.doc.str("system").unwrap_or_default().as_bytes()),
    }
    for name in ["instructions", "systemInstruction"] {
        if let Some(text) = call.doc.get(name) {
            feed(&mut hasher, text.as_bytes());
        }
    }
    let mut tokens = front;
    let mut steps = vec![Step { hash: *hasher.finalize().as_bytes(), tokens, mark }];
    for (message, own) in raw.iter().zip(messages) {
        tokens += own;
        let mark = self::message(&mut hasher, message);
        steps.push(Step { hash: *hasher.finalize().as_bytes(), tokens, mark });
    }
    // A mark at the top level stands for one at the last place there is.
    if let (Some(top), Some(last)) = (call.doc.object("cache_control"), steps.last_mut()) {
        last.mark = Some(is_long(&top));
    }
    (total.max(1), steps)
}

fn message(hasher: &mut blake3::Hasher, raw: &str) -> Option<bool> {
    let Some(message) = Object::parse(raw) else {
        feed(hasher, raw.as_bytes());
        return None;
    };
    let mut mark = None;
    for (name, value) in message.iter() {
        match (name, message.elements("content")) {
            ("content", Some(parts)) => {
                for part in parts {
                    mark = block(hasher, part).or(mark);
                }
            }
            ("content", None) => match message.str("content") {
                Some(text) => text_block(hasher, &text),
                None => feed(hasher, value.as_bytes()),
            },
            _ => {
                feed(hasher, name.as_bytes());
                feed(hasher, value.as_bytes());
            }
        }
    }
    mark
}

/// A block without its mark, since a mark is not part of the prompt: it moves on from turn to turn.
fn block(hasher: &mut blake3::Hasher, raw: &str) -> Option<bool> {
    let Some(block) = Object::parse(raw) else {
        feed(hasher, raw.as_bytes());
        return None;
    };
    if block.str("type").as_deref() == Some("text") {
        text_block(hasher, &block.str("text").unwrap_or_default());
    } else {
        for (name, value) in block.iter().filter(|(name, _)| *name != "cache_control") {
            feed(hasher, name.as_bytes());
            feed(hasher, value.as_bytes());
        }
    }
    block.object("cache_control").map(|mark| is_long(&mark))
}

/// A text is the same to the provider as a string and as a block.
fn text_block(hasher: &mut blake3::Hasher, text: &str) {
    feed(hasher, b"text");
    feed(hasher, text.as_bytes());
}

fn is_long(mark: &Object<'_>) -> bool {
    mark.str("ttl").as_deref() == Some("1h")
}

fn feed(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long() -> String {
        "some rules that never change ".repeat(400)
    }

    #[test]
    fn openai_reads_a_known_prefix_of_the_same_credential_and_model() {
        let mut cache = PromptCache::default();
        let call = |model: &str, key: &str, end: &str| {
            let body = format!(
                r#"{{"model":"{model}","messages":[{{"role":"system","content":"{}"}},{{"role":"user","content":"{end}"}}]}}"#,
                long()
            );
            let mut call = Call::post("http://fake/v1/chat/completions", body);
            call.parts.headers.insert("authorization", key.parse().expect("a header"));
            call
        };
        assert_eq!(cache.read(&call("m", "a", "one")).read, 0, "nothing is known yet");
        let again = cache.read(&call("m", "a", "two"));
        assert!(again.read >= SHORTEST && again.read < again.total, "{again:?}");
        assert_eq!(cache.read(&call("m", "b", "one")).read, 0, "another credential has its own");
        assert_eq!(cache.read(&call("n", "a", "one")).read, 0, "so has another model");
    }

    #[test]
    fn a_short_prompt_is_not_remembered() {
        let mut cache = PromptCache::default();
        let call = Call::post(
            "http://f/v1/chat/completions",
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
        );
        cache.read(&call);
        assert_eq!(cache.read(&call).read, 0);
    }

    #[test]
    fn anthropic_remembers_at_marks_only_and_a_mark_may_move_on() {
        let mut cache = PromptCache::default();
        let mark = r#","cache_control":{"type":"ephemeral"}"#;
        let call = |first: &str, rest: &str| {
            let body = format!(
                r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":[{{"type":"text","text":"{}"{first}}}]}}{rest}]}}"#,
                long()
            );
            Call::post("http://fake/v1/messages", body)
        };
        let plain = cache.read(&call("", ""));
        assert_eq!((plain.read, plain.written), (0, 0), "no mark, no cache");
        let first = cache.read(&call(mark, ""));
        assert!(first.read == 0 && first.written >= SHORTEST, "{first:?}");
        let rest = format!(
            r#",{{"role":"assistant","content":"ok"}},{{"role":"user","content":[{{"type":"text","text":"go on"{mark}}}]}}"#
        );
        let second = cache.read(&call("", &rest));
        assert_eq!(second.read, first.written, "what was written is read, though its mark has gone");
        assert!(second.written > 0 && second.written < 100, "{second:?}");
    }
}
