//! Replies, streams and usage objects of Anthropic Messages.

use crate::call::json::{self, Object};
use crate::dialect::mould::Mould;
use crate::dialect::stream::{Arguments, Facts, Names, is_json};
use crate::dialect::usage::{Contradiction, add, count};
use crate::dialect::{Finish, Outcome, Usage};

/// A usage object in normal form. See the table of [`super`].
pub(super) fn usage(text: &str) -> Option<Usage> {
    let mut counts = Counts::default();
    counts.merge(&Object::parse(text)?, true).ok()?;
    counts.normal().ok().flatten()
}

/// The counts as they come on the wire, the last value seen of each.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    input: Option<u64>,
    read: Option<u64>,
    written: Option<u64>,
    written_5m: Option<u64>,
    written_1h: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
    searches: Option<u64>,
}

impl Counts {
    /// Takes over what `object` says. The output count of a stream's first event is a placeholder.
    fn merge(&mut self, object: &Object<'_>, with_output: bool) -> Result<(), Contradiction> {
        fn take(slot: &mut Option<u64>, object: &Object<'_>, name: &str) -> Result<(), Contradiction> {
            *slot = count(object, name)?.or(*slot);
            Ok(())
        }
        take(&mut self.input, object, "input_tokens")?;
        take(&mut self.read, object, "cache_read_input_tokens")?;
        take(&mut self.written, object, "cache_creation_input_tokens")?;
        if let Some(split) = object.object("cache_creation") {
            take(&mut self.written_5m, &split, "ephemeral_5m_input_tokens")?;
            take(&mut self.written_1h, &split, "ephemeral_1h_input_tokens")?;
        }
        if let Some(tools) = object.object("server_tool_use") {
            take(&mut self.searches, &tools, "web_search_requests")?;
        }
        if with_output {
            take(&mut self.output, object, "output_tokens")?;
            if let Some(details) = object.object("output_tokens_details") {
                take(&mut self.thinking, &details, "thinking_tokens")?;
            }
        }
        Ok(())
    }

    fn plus(&self, other: &Self) -> Result<Self, Contradiction> {
        Ok(Self {
            input: add([self.input, other.input])?,
            read: add([self.read, other.read])?,
            written: add([self.written, other.written])?,
            written_5m: add([self.written_5m, other.written_5m])?,
            written_1h: add([self.written_1h, other.written_1h])?,
            output: add([self.output, other.output])?,
            thinking: add([self.thinking, other.thinking])?,
            searches: add([self.searches, other.searches])?,
        })
    }

    fn normal(&self) -> Result<Option<Usage>, Contradiction> {
        if self.input.is_none() && self.output.is_none() {
            return Ok(None);
        }
        let split = add([self.written_5m, self.written_1h])?;
        let written = self.written.or(split);
        let write_long = self.written_1h;
        // What an incomplete split leaves open was written for the short time.
        let write_short = match (written, split) {
            (Some(written), Some(split)) if split > written => return Err(Contradiction),
            (Some(written), _) => Some(written - write_long.unwrap_or(0)),
            (None, _) => None,
        };
        // The count of the input leaves out what was read from and written to the prompt cache.
        let input = match self.input {
            Some(_) => add([self.input, self.read, written])?,
            None => None,
        };
        let usage = Usage {
            input,
            read: self.read,
            write_short,
            write_long,
            output: self.output,
            reasoning: self.thinking,
            searches: self.searches,
            ..Usage::default()
        };
        usage.checked(None).map(Some)
    }
}

/// What the entries of `usage.iterations` say was used beside the counts of the whole. Those of messages add up to
/// these; a compaction comes on top and is the same model's. Another model's work (an advisor's) cannot be told in one
/// set of counts, and neither can what is not known: then the usage is unknown rather than too small.
fn beside(rounds: &[&str]) -> Result<Counts, Contradiction> {
    let mut sum = Counts::default();
    for round in rounds {
        let round = Object::parse(round).ok_or(Contradiction)?;
        match round.str("type").as_deref() {
            Some("message" | "fallback_message") => {}
            Some("compaction") if round.some("model").is_none() => {
                let mut counts = Counts::default();
                counts.merge(&round, true)?;
                sum = sum.plus(&counts)?;
            }
            _ => return Err(Contradiction),
        }
    }
    Ok(sum)
}

fn finish(reason: &str) -> Finish {
    match reason {
        "end_turn" | "stop_sequence" | "tool_use" => Finish::Whole,
        "max_tokens" | "model_context_window_exceeded" => Finish::Truncated,
        "refusal" => Finish::Refused,
        // `pause_turn` and `compaction` wait for another request; what is not known is not good.
        _ => Finish::Unknown,
    }
}

/// The arguments of a tool call are one object; an empty text stands for the empty one.
fn is_input(text: &str) -> bool {
    let text = text.trim_ascii();
    text.is_empty() || (text.starts_with('{') && is_json(text))
}

/// What a complete reply says.
pub(super) fn read(body: &[u8]) -> Outcome {
    let failed = Outcome { finish: Finish::Failed, empty: true, ..Outcome::default() };
    let Some(object) = std::str::from_utf8(body).ok().and_then(Object::parse) else { return failed };
    let failed = object.some("error").is_some() || object.str("type").as_deref() == Some("error");
    let mut facts = MessageFacts { failed, ..MessageFacts::default() };
    facts.message(&object, true);
    for (at, block) in object.elements("content").unwrap_or_default().into_iter().enumerate() {
        match Object::parse(block) {
            Some(block) => facts.block(at as u64, &block),
            None => facts.unread = true,
        }
    }
    facts.stopped = true;
    facts.outcome(true)
}

/// What was seen of a reply, in one piece or as a stream.
#[derive(Debug, Default)]
pub(super) struct MessageFacts {
    model: Option<String>,
    service_tier: Option<String>,
    counts: Counts,
    /// What came on top of them.
    beside: Counts,
    /// A usage object came that cannot be true.
    contradiction: bool,
    finish: Option<Finish>,
    arguments: Arguments,
    names: Names,
    has_content: bool,
    broken: bool,
    text_bytes: u64,
    failed: bool,
    /// The end marker was seen.
    stopped: bool,
    /// Something could not be looked into.
    unread: bool,
    last: Mould,
}

impl MessageFacts {
    /// The head of a message: that of a reply, or of the first event of a stream.
    fn message(&mut self, message: &Object<'_>, with_output: bool) {
        if let Some(model) = message.str("model") {
            self.model = Some(model.into_owned());
        }
        self.ending(message);
        self.usage(message, with_output);
    }

    fn ending(&mut self, holder: &Object<'_>) {
        if let Some(reason) = holder.str("stop_reason") {
            self.finish = Some(finish(&reason));
        }
    }

    fn usage(&mut self, holder: &Object<'_>, with_output: bool) {
        let Some(usage) = holder.object("usage") else { return };
        self.contradiction |= self.counts.merge(&usage, with_output).is_err();
        if let Some(rounds) = usage.elements("iterations") {
            match beside(&rounds) {
                Ok(beside) => self.beside = beside,
                Err(Contradiction) => self.contradiction = true,
            }
        }
        if let Some(tier) = usage.str("service_tier") {
            self.service_tier = Some(tier.into_owned());
        }
        // Fast mode has its own price, whatever tier it ran in.
        if usage.str("speed").as_deref() == Some("fast") {
            self.service_tier = Some("fast".to_owned());
        }
    }

    /// The counts and what came on top of them, once the whole of both is known.
    fn billed(&self) -> Result<Option<Usage>, Contradiction> {
        match self.counts.output {
            Some(_) => self.counts.plus(&self.beside)?.normal(),
            None => self.counts.normal(),
        }
    }

    /// A content block as it stands in a reply, or as it begins in a stream.
    fn block(&mut self, index: u64, block: &Object<'_>) {
        match block.str("type").as_deref() {
            Some("text") => self.text(block, "text", true),
            Some("thinking") => self.text(block, "thinking", false),
            Some(kind @ ("tool_use" | "server_tool_use" | "mcp_tool_use")) => {
                // What the vendor's own tools are asked is billed, and is no answer.
                if kind == "tool_use" {
                    self.has_content = true;
                    self.names.add((index, 0), block.str("name").as_deref());
                }
                let input = block.some("input").unwrap_or("{}");
                self.broken |= !is_input(input);
                if input != "{}" {
                    self.text_bytes += input.len() as u64;
                }
                self.arguments.push((index, 0), "");
            }
            _ => {}
        }
    }

    fn text(&mut self, holder: &Object<'_>, name: &str, is_answer: bool) {
        let len = holder.get(name).and_then(json::string).map_or(0, |text| text.len() as u64);
        self.text_bytes += len;
        self.has_content |= is_answer && len > 0;
    }

    fn delta(&mut self, index: u64, delta: &Object<'_>) {
        match delta.str("type").as_deref() {
            Some("text_delta") => self.text(delta, "text", true),
            Some("thinking_delta") => self.text(delta, "thinking", false),
            Some("input_json_delta") => {
                if let Some(piece) = delta.str("partial_json") {
                    self.text_bytes += piece.len() as u64;
                    self.arguments.push((index, 0), &piece);
                }
            }
            _ => {}
        }
    }
}

/// The text of a delta that says nothing which counts twice when it is said twice.
fn only_text<'a>(delta: &Object<'a>) -> Option<&'a str> {
    let text = match delta.str("type")?.as_ref() {
        "text_delta" => delta.get("text"),
        "thinking_delta" => delta.get("thinking"),
        _ => None,
    };
    text.filter(|text| json::string(text).is_some_and(|text| !text.is_empty()))
}

impl Facts for MessageFacts {
    fn event(&mut self, name: Option<&str>, data: &str) {
        if let Some(said) = self.last.fit(name, data) {
            self.text_bytes += said;
            return;
        }
        let Some(object) = Object::parse(data) else {
            self.failed |= name == Some("error");
            self.unread = true;
            return;
        };
        let kind = object.str("type").unwrap_or_else(|| name.unwrap_or_default().into());
        let index = object.u64("index").unwrap_or(0);
        match kind.as_ref() {
            "message_start" => match object.object("message") {
                Some(message) => self.message(&message, false),
                None => self.unread = true,
            },
            "content_block_start" => match object.object("content_block") {
                Some(block) => self.block(index, &block),
                None => self.unread = true,
            },
            "content_block_delta" => match object.object("delta") {
                Some(delta) => {
                    self.delta(index, &delta);
                    if let Some(text) = only_text(&delta) {
                        self.last.set(name, data, text, []);
                    }
                }
                None => self.unread = true,
            },
            "content_block_stop" => self.arguments.close((index, 0), is_input),
            "message_delta" => {
                if let Some(delta) = object.object("delta") {
                    self.ending(&delta);
                }
                self.usage(&object, true);
            }
            "message_stop" => self.stopped = true,
            "error" => self.failed = true,
            // New kinds of events may come at any time.
            _ => {}
        }
    }

    fn outcome(&self, _ended: bool) -> Outcome {
        let finish = if self.failed {
            Finish::Failed
        } else if !self.stopped {
            Finish::Partial
        } else if self.unread {
            Finish::Unknown
        } else {
            self.finish.unwrap_or(Finish::Unknown)
        };
        Outcome {
            model: self.model.clone(),
            service_tier: self.service_tier.clone(),
            usage: (!self.contradiction).then(|| self.billed().ok().flatten()).flatten(),
            finish,
            empty: !self.has_content,
            broken_tool_call: self.broken || self.arguments.broken(is_input),
            called: self.names.called(),
            text_bytes: self.text_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_takes_in_what_was_read_and_written() {
        let usage = usage(
            r#"{"input_tokens":12,"cache_creation_input_tokens":300,"cache_read_input_tokens":5000,
            "cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":150},"output_tokens":50,
            "output_tokens_details":{"thinking_tokens":20},"server_tool_use":{"web_search_requests":2}}"#,
        )
        .unwrap();
        assert_eq!(usage.input, Some(5312));
        assert_eq!(usage.read, Some(5000));
        assert_eq!(usage.write_long, Some(150));
        assert_eq!(usage.write_short, Some(150), "the rest of an incomplete split is short");
        assert_eq!((usage.output, usage.reasoning, usage.searches), (Some(50), Some(20), Some(2)));
    }

    #[test]
    fn what_is_not_said_is_unknown_and_not_nothing() {
        let usage = usage(r#"{"input_tokens":12,"output_tokens":5}"#).unwrap();
        assert_eq!((usage.input, usage.output), (Some(12), Some(5)));
        assert_eq!(
            (usage.read, usage.write_short, usage.write_long, usage.reasoning),
            (None, None, None, None)
        );
    }

    #[test]
    fn counts_that_contradict_each_other_are_unknown() {
        for wrong in [
            r#"{"input_tokens":-1,"output_tokens":5}"#,
            r#"{"input_tokens":1,"output_tokens":5,"output_tokens_details":{"thinking_tokens":6}}"#,
            r#"{"input_tokens":1,"output_tokens":5,"cache_creation_input_tokens":4,
                "cache_creation":{"ephemeral_5m_input_tokens":5}}"#,
            r#"{"input_tokens":18446744073709551615,"cache_read_input_tokens":1,"output_tokens":5}"#,
            "{}",
            "7",
        ] {
            assert_eq!(usage(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_compaction_used_comes_on_top_and_another_models_work_is_unknown() {
        let reply = |rounds: &str| {
            let body = format!(
                r#"{{"content":[{{"type":"text","text":"x"}}],"stop_reason":"end_turn","usage":{{"input_tokens":180,
                "output_tokens":8,"iterations":[{rounds}]}}}}"#
            );
            read(body.as_bytes()).usage
        };
        let message = r#"{"type":"message","input_tokens":180,"output_tokens":8}"#;
        assert_eq!(reply(message), Some(Usage::of(180, 8)), "the entries of messages are in the whole");
        let compaction = format!(
            r#"{message},{{"type":"compaction","input_tokens":100,"output_tokens":82,"cache_creation_input_tokens":5000}}"#
        );
        let usage = reply(&compaction).unwrap();
        assert_eq!((usage.input, usage.output, usage.write_short), (Some(5280), Some(90), Some(5000)));
        let advisor = format!(
            r#"{message},{{"type":"advisor_message","model":"n","input_tokens":1,"output_tokens":2}}"#
        );
        assert_eq!(reply(&advisor), None, "two models' counts are not one usage");
        assert_eq!(reply(r#"{"type":"new_kind","output_tokens":9}"#), None);
    }

    #[test]
    fn each_ending_has_its_meaning() {
        for (reason, want) in [
            ("end_turn", Finish::Whole),
            ("stop_sequence", Finish::Whole),
            ("tool_use", Finish::Whole),
            ("max_tokens", Finish::Truncated),
            ("model_context_window_exceeded", Finish::Truncated),
            ("refusal", Finish::Refused),
            ("pause_turn", Finish::Unknown),
            ("compaction", Finish::Unknown),
        ] {
            let body = format!(
                r#"{{"type":"message","content":[{{"type":"text","text":"x"}}],"stop_reason":"{reason}"}}"#
            );
            assert_eq!(read(body.as_bytes()).finish, want, "{reason}");
        }
    }

    #[test]
    fn an_error_or_anything_but_json_under_a_good_status_is_a_failure() {
        for text in [r#"{"type":"error","error":{"type":"overloaded_error"}}"#, "", "<html></html>"] {
            assert_eq!(read(text.as_bytes()).finish, Finish::Failed, "{text}");
        }
    }

    #[test]
    fn thinking_alone_is_an_empty_answer() {
        let body = br#"{"type":"message","content":[{"type":"thinking","thinking":"hm","signature":"s"}],
            "stop_reason":"end_turn"}"#;
        let outcome = read(body);
        assert!(outcome.empty && !outcome.is_good());
        assert_eq!(outcome.text_bytes, 2, "it was generated and is billed");
    }

    #[test]
    fn the_input_of_a_tool_call_is_an_object() {
        for (input, broken) in [("{}", false), (r#"{"a":[1]}"#, false), ("\"x\"", true), ("[1]", true)] {
            let body = format!(
                r#"{{"content":[{{"type":"tool_use","id":"t","name":"f","input":{input}}}],"stop_reason":"tool_use"}}"#
            );
            let outcome = read(body.as_bytes());
            assert_eq!((outcome.broken_tool_call, outcome.empty), (broken, false), "{input}");
        }
    }
}
