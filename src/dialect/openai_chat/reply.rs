//! Replies, streams and usage objects of OpenAI chat completions.

use std::collections::BTreeMap;

use crate::call::json::{self, Object};
use crate::dialect::mould::Mould;
use crate::dialect::stream::{Arguments, Facts, Names, is_json, worse};
use crate::dialect::usage::{Contradiction, add, count};
use crate::dialect::{Finish, Outcome, Usage};

/// Choices looked at in one reply; the API allows 128.
const MAX_CHOICES: usize = 1024;

/// A usage object in normal form. See the table of [`super`].
pub(super) fn usage(text: &str) -> Option<Usage> {
    Object::parse(text).and_then(|object| read_usage(&object).ok().flatten())
}

fn read_usage(object: &Object<'_>) -> Result<Option<Usage>, Contradiction> {
    let (prompt, completion) = (count(object, "prompt_tokens")?, count(object, "completion_tokens")?);
    let total = count(object, "total_tokens")?;
    if prompt.is_none() && completion.is_none() {
        return Ok(None);
    }
    let input_details = object.object("prompt_tokens_details").unwrap_or_default();
    let output_details = object.object("completion_tokens_details").unwrap_or_default();
    let reasoning = count(&output_details, "reasoning_tokens")?;
    // xAI counts reasoning beside the completion; the total gives that away.
    let beside = add([prompt, completion, reasoning])?;
    let is_additive = reasoning.is_some_and(|reasoning| reasoning > 0)
        && total.is_some()
        && add([prompt, completion])? != total
        && beside == total;
    let read = match count(&input_details, "cached_tokens")? {
        Some(read) => Some(read),
        // DeepSeek's own name. Mistral's `num_cached_tokens` is not billed as a cache read.
        None => count(object, "prompt_cache_hit_tokens")?,
    };
    let usage = Usage {
        input: prompt,
        read,
        write_short: count(&input_details, "cache_write_tokens")?,
        output: if is_additive { add([completion, reasoning])? } else { completion },
        reasoning,
        input_audio: count(&input_details, "audio_tokens")?,
        input_image: count(&input_details, "image_tokens")?,
        input_video: count(&input_details, "video_tokens")?,
        output_audio: count(&output_details, "audio_tokens")?,
        output_image: count(&output_details, "image_tokens")?,
        ..Usage::default()
    };
    usage.checked(total).map(Some)
}

/// The usage object of a reply or a chunk, wherever this server keeps it.
fn find_usage<'a>(object: &Object<'a>) -> Option<&'a str> {
    object.some("usage").or_else(|| object.object("x_groq")?.some("usage")).or_else(|| {
        // Moonshot puts it beside the finish reason.
        object.elements("choices")?.into_iter().find_map(|choice| Object::parse(choice)?.some("usage"))
    })
}

fn finish(reason: &str) -> Finish {
    match reason {
        "stop" | "tool_calls" | "function_call" => Finish::Whole,
        "length" | "model_length" => Finish::Truncated,
        "content_filter" => Finish::Refused,
        "error" => Finish::Failed,
        _ => Finish::Unknown,
    }
}

/// What a complete reply says.
pub(super) fn read(body: &[u8]) -> Outcome {
    let failed = Outcome { finish: Finish::Failed, empty: true, ..Outcome::default() };
    let Some(object) = std::str::from_utf8(body).ok().and_then(Object::parse) else { return failed };
    let mut facts = ChatFacts::default();
    facts.head(&object);
    for choice in object.elements("choices").unwrap_or_default() {
        facts.choice(choice, "message");
    }
    facts.done = true;
    facts.outcome(true)
}

/// What was seen of a reply, in one piece or as a stream.
#[derive(Debug, Default)]
pub(super) struct ChatFacts {
    model: Option<String>,
    service_tier: Option<String>,
    usage: Option<Usage>,
    choices: BTreeMap<u64, Choice>,
    arguments: Arguments,
    names: Names,
    text_bytes: u64,
    failed: bool,
    /// The end marker was seen.
    done: bool,
    /// This many choices were asked of a server that sends no end marker.
    unmarked: Option<u64>,
    /// Something could not be looked into.
    unread: bool,
    last: Mould,
}

#[derive(Debug, Default)]
struct Choice {
    finish: Option<Finish>,
    refused: bool,
    has_content: bool,
}

impl ChatFacts {
    /// Of a stream whose end is that of its body, once each of `choices` has a finish reason.
    pub(super) fn unmarked(choices: u64) -> Self {
        Self { unmarked: Some(choices), ..Self::default() }
    }

    /// The members of a reply or a chunk that are not choices.
    fn head(&mut self, object: &Object<'_>) {
        self.failed |= object.some("error").is_some();
        // Azure's first chunk names no model.
        if let Some(model) = object.str("model").filter(|model| !model.is_empty()) {
            keep(&mut self.model, &model);
        }
        if let Some(tier) = object.str("service_tier") {
            keep(&mut self.service_tier, &tier);
        }
        if let Some(text) = find_usage(object) {
            self.usage = usage(text);
        }
    }

    /// One choice, its content in the member `message` or `delta`.
    fn choice(&mut self, raw: &str, content_in: &str) {
        let Some(object) = Object::parse(raw) else {
            self.unread = true;
            return;
        };
        let index = object.u64("index").unwrap_or(if content_in == "message" {
            // Some servers leave the index out; without one each is its own.
            self.choices.len() as u64
        } else {
            0
        });
        if !self.choices.contains_key(&index) && self.choices.len() == MAX_CHOICES {
            self.unread = true;
            return;
        }
        let mut choice = self.choices.remove(&index).unwrap_or_default();
        if let Some(reason) = object.str("finish_reason") {
            choice.finish = Some(finish(&reason));
        }
        self.failed |= object.some("error").is_some();
        if let Some(message) = object.object(content_in) {
            self.content(index, &mut choice, &message);
        }
        self.choices.insert(index, choice);
    }

    fn content(&mut self, index: u64, choice: &mut Choice, message: &Object<'_>) {
        let said = message.some("content").map_or(0, text_len);
        choice.has_content |= said > 0;
        self.text_bytes += said;
        if let Some(refusal) = message.some("refusal") {
            choice.refused = true;
            self.text_bytes += json::string(refusal).map_or(0, |text| text.len() as u64);
        }
        // Two names for the same thing; a server that sends both sends the same text twice.
        for name in ["reasoning_content", "reasoning"] {
            if let Some(text) = message.str(name) {
                self.text_bytes += text.len() as u64;
                break;
            }
        }
        if let Some(audio) = message.object("audio") {
            choice.has_content = true;
            self.text_bytes += audio.str("transcript").map_or(0, |text| text.len() as u64);
        }
        choice.has_content |= message.elements("images").is_some_and(|images| !images.is_empty());
        for (at, call) in message.elements("tool_calls").unwrap_or_default().into_iter().enumerate() {
            choice.has_content = true;
            let Some(call) = Object::parse(call) else {
                self.unread = true;
                continue;
            };
            let at = call.u64("index").unwrap_or(at as u64);
            if let Some(custom) = call.object("custom") {
                self.names.add((index, at), custom.str("name").as_deref());
                self.text_bytes += custom.str("input").map_or(0, |text| text.len() as u64);
            } else {
                self.function(&call.object("function").unwrap_or_default(), (index, at));
            }
        }
        if let Some(function) = message.object("function_call") {
            choice.has_content = true;
            self.function(&function, (index, u64::MAX));
        }
    }

    fn function(&mut self, function: &Object<'_>, key: (u64, u64)) {
        self.names.add(key, function.str("name").as_deref());
        let Some(arguments) = function.some("arguments") else {
            self.arguments.push(key, "");
            return;
        };
        // A string by the book; some servers send the object itself.
        let text = json::string(arguments).unwrap_or(arguments.into());
        self.text_bytes += text.len() as u64;
        self.arguments.push(key, &text);
    }

    fn ending(&self, ended: bool) -> Finish {
        if self.failed {
            return Finish::Failed;
        }
        let finished = self.choices.values().filter(|choice| choice.finish.is_some()).count() as u64;
        let ends_unmarked = ended && self.unmarked == Some(finished) && finished == self.choices.len() as u64;
        if !self.done && !ends_unmarked {
            return Finish::Partial;
        }
        if self.choices.is_empty() || self.unread {
            return Finish::Unknown;
        }
        self.choices.values().fold(Finish::Whole, |so_far, choice| {
            let finish = choice.finish.unwrap_or(Finish::Unknown);
            worse(so_far, if choice.refused { worse(finish, Finish::Refused) } else { finish })
        })
    }
}

impl Facts for ChatFacts {
    fn event(&mut self, name: Option<&str>, data: &str) {
        if let Some(said) = self.last.fit(name, data) {
            self.text_bytes += said;
            return;
        }
        if data.trim() == "[DONE]" {
            self.done = true;
            return;
        }
        self.failed |= name == Some("error");
        let Some(object) = Object::parse(data) else {
            self.unread = true;
            return;
        };
        self.head(&object);
        let choices = object.elements("choices").unwrap_or_default();
        for choice in &choices {
            self.choice(choice, "delta");
        }
        // Where something could not be looked into, its text is not counted either.
        if let [choice] = choices[..]
            && !self.unread
            && let Some(text) = only_text(&object, choice)
        {
            self.last.set(name, data, text, [object.get("obfuscation")]);
        }
    }

    fn outcome(&self, ended: bool) -> Outcome {
        let mut ending = self.ending(ended);
        if ending == Finish::Whole && self.choices.values().any(|choice| choice.finish.is_none()) {
            ending = Finish::Unknown;
        }
        Outcome {
            model: self.model.clone(),
            service_tier: self.service_tier.clone(),
            usage: self.usage,
            finish: ending,
            empty: self.choices.is_empty() || self.choices.values().any(|choice| !choice.has_content),
            broken_tool_call: self.arguments.broken(is_json),
            called: self.names.called(),
            text_bytes: self.text_bytes,
        }
    }
}

/// The text of a chunk that says nothing else which counts twice when it is said twice.
fn only_text<'a>(chunk: &Object<'a>, choice: &'a str) -> Option<&'a str> {
    if find_usage(chunk).is_some() {
        return None;
    }
    let delta = Object::parse(choice)?.object("delta")?;
    let mut said = delta.iter().filter(|(name, value)| *value != "null" && *name != "role");
    let (name, value) = said.next()?;
    let is_text = matches!(name, "content" | "reasoning_content" | "reasoning")
        && json::string(value).is_some_and(|text| !text.is_empty());
    (is_text && said.next().is_none()).then_some(value)
}

/// Takes over a value that every chunk repeats, without a new allocation for each.
fn keep(slot: &mut Option<String>, value: &str) {
    if slot.as_deref() != Some(value) {
        *slot = Some(value.to_owned());
    }
}

/// Bytes of text in a content: a string, or a list of parts.
fn text_len(content: &str) -> u64 {
    if let Some(text) = json::string(content) {
        return text.len() as u64;
    }
    let parts = json::elements(content).unwrap_or_default();
    parts.into_iter().filter_map(|part| Object::parse(part)?.str("text")).map(|text| text.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(choices: &str) -> Outcome {
        read(format!(r#"{{"model":"m","choices":{choices}}}"#).as_bytes())
    }

    #[test]
    fn a_usage_object_gets_its_normal_form() {
        let openai = r#"{"prompt_tokens":1400,"completion_tokens":74,"total_tokens":1474,
            "prompt_tokens_details":{"cached_tokens":1024,"audio_tokens":0,"cache_write_tokens":30},
            "completion_tokens_details":{"reasoning_tokens":64,"audio_tokens":0}}"#;
        let usage_of = usage(openai).unwrap();
        assert_eq!((usage_of.input, usage_of.output), (Some(1400), Some(74)));
        assert_eq!(
            (usage_of.read, usage_of.write_short, usage_of.reasoning),
            (Some(1024), Some(30), Some(64))
        );
        assert_eq!(usage_of.write_long, None, "unknown is not 0");

        let xai = r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,
            "completion_tokens_details":{"reasoning_tokens":94}}"#;
        assert_eq!(usage(xai).unwrap().output, Some(103), "reasoning beside the completion is added");
        let inside = r#"{"prompt_tokens":32,"completion_tokens":103,"total_tokens":135,
            "completion_tokens_details":{"reasoning_tokens":94}}"#;
        assert_eq!(usage(inside).unwrap().output, Some(103), "reasoning inside it is not added again");

        let deepseek = r#"{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11,
            "prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":2}"#;
        assert_eq!(usage(deepseek).unwrap().read, Some(8));
        let mistral = r#"{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11,"num_cached_tokens":8}"#;
        assert_eq!(usage(mistral).unwrap().read, None);
    }

    #[test]
    fn counts_that_contradict_each_other_are_unknown() {
        for wrong in [
            r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
            r#"{"prompt_tokens":10,"completion_tokens":1,"total_tokens":12}"#,
            r#"{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":11}}"#,
            r#"{"prompt_tokens":10,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}"#,
            r#"{"prompt_tokens":"10","completion_tokens":1}"#,
            "{}",
            "[]",
            "null",
        ] {
            assert_eq!(usage(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_ending_has_its_meaning() {
        for (reason, want) in [
            ("\"stop\"", Finish::Whole),
            ("\"tool_calls\"", Finish::Whole),
            ("\"length\"", Finish::Truncated),
            ("\"model_length\"", Finish::Truncated),
            ("\"content_filter\"", Finish::Refused),
            ("\"new_reason\"", Finish::Unknown),
            ("null", Finish::Unknown),
        ] {
            let choices = format!(r#"[{{"message":{{"content":"x"}},"finish_reason":{reason}}}]"#);
            assert_eq!(body(&choices).finish, want, "{reason}");
        }
        let refused = r#"[{"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}]"#;
        assert_eq!(body(refused).finish, Finish::Refused, "a refusal comes with `stop`");
    }

    #[test]
    fn an_error_or_anything_but_json_under_a_good_status_is_a_failure() {
        for text in
            [r#"{"error":{"message":"x"}}"#, "", "<html>bad gateway</html>", "[]", "{\"choices\":[", "\u{1}"]
        {
            let outcome = read(text.as_bytes());
            assert_eq!((outcome.finish, outcome.empty), (Finish::Failed, true), "{text}");
        }
        assert_eq!(read(b"\xff").finish, Finish::Failed);
    }

    #[test]
    fn without_an_end_marker_every_choice_asked_for_must_have_ended() {
        let chunk = |index: u64, finish: &str| {
            format!(
                r#"{{"choices":[{{"index":{index},"delta":{{"content":"x"}},"finish_reason":{finish}}}]}}"#
            )
        };
        let finish = |asked: u64, chunks: &[String], ended: bool| {
            let mut facts = ChatFacts::unmarked(asked);
            chunks.iter().for_each(|chunk| facts.event(None, chunk));
            facts.outcome(ended).finish
        };
        let (one, two) = (chunk(0, "\"stop\""), chunk(1, "\"stop\""));
        assert_eq!(finish(1, std::slice::from_ref(&one), true), Finish::Whole);
        assert_eq!(finish(1, std::slice::from_ref(&one), false), Finish::Partial, "the body broke off");
        assert_eq!(finish(2, std::slice::from_ref(&one), true), Finish::Partial, "the second never came");
        assert_eq!(finish(2, &[one.clone(), chunk(1, "null")], true), Finish::Partial);
        assert_eq!(finish(2, &[one, two], true), Finish::Whole);
        assert_eq!(finish(1, &[chunk(0, "\"length\"")], true), Finish::Truncated);
        assert_eq!(finish(1, &[chunk(0, "null")], true), Finish::Partial);
    }

    #[test]
    fn one_bad_choice_spoils_the_reply() {
        let choices = r#"[{"index":0,"message":{"content":"x"},"finish_reason":"stop"},
            {"index":1,"message":{"content":"y"},"finish_reason":"length"}]"#;
        assert_eq!(body(choices).finish, Finish::Truncated);
        let choices = r#"[{"message":{"content":"x"},"finish_reason":"stop"},
            {"message":{"content":""},"finish_reason":"stop"}]"#;
        let outcome = body(choices);
        assert!(outcome.empty && !outcome.is_good(), "an empty answer among others is not good");
        assert!(body("[]").empty);
    }

    #[test]
    fn arguments_that_are_not_json_are_a_broken_call() {
        for (arguments, broken) in [
            (r#""{\"a\":1}""#, false),
            (r#""{\"a\":""#, true),
            (r#""""#, true),
            (r#"{"a":1}"#, false),
            ("null", true),
        ] {
            let choices = format!(
                r#"[{{"message":{{"content":null,"tool_calls":[{{"id":"c","type":"function",
                "function":{{"name":"f","arguments":{arguments}}}}}]}},"finish_reason":"tool_calls"}}]"#
            );
            let outcome = body(&choices);
            assert_eq!((outcome.broken_tool_call, outcome.empty), (broken, false), "{arguments}");
        }
        let custom = r#"[{"message":{"tool_calls":[{"id":"c","type":"custom","custom":{"name":"f","input":"free text"}}]},
            "finish_reason":"tool_calls"}]"#;
        assert!(body(custom).is_good(), "a custom tool takes any text");
    }
}
