//! Answers as OpenAI Responses puts them on the wire.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::answer::{Answer, Content, Ending};
use super::openai::{CREATED, pieces};
use super::prompt_cache::Input;
use crate::call::Call;
use crate::call::json::{Object, quote};

/// One element of `output`.
enum Item<'a> {
    Reasoning { summary: Option<&'a str>, encrypted: bool },
    Message { text: &'a str, is_refusal: bool },
    Call { name: &'a str, arguments: &'a str },
}

pub(super) fn body(call: &Call, answer: &Answer, input: &Input) -> String {
    let output: Vec<_> =
        items(call, answer).iter().enumerate().map(|(index, item)| item.json(answer, index, true)).collect();
    let (status, details) = match answer.ending {
        Ending::Whole => ("completed", "null"),
        Ending::Length => ("incomplete", r#"{"reason":"max_output_tokens"}"#),
        Ending::Filtered => ("incomplete", r#"{"reason":"content_filter"}"#),
    };
    response(call, answer, status, "null", details, &output.join(","), &usage(answer, input))
}

/// A reply of status 200 that says that it failed.
pub(super) fn failed(call: &Call, answer: &Answer) -> String {
    let error = r#"{"code":"server_error","message":"the model is overloaded"}"#;
    response(call, answer, "failed", error, "null", "", "null")
}

/// The event that tells of a failure under status 200, after `events` others.
pub(super) fn error_event(events: usize) -> String {
    format!(
        "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":{events},\"code\":\"server_error\",\"message\":\"the model is overloaded\",\"param\":null}}\n\n"
    )
}

/// The events of a stream.
pub(super) fn events(call: &Call, answer: &Answer, input: &Input) -> Vec<String> {
    let mut events = Events(Vec::new());
    let begun = response(call, answer, "in_progress", "null", "null", "", "null");
    events.push("response.created", &format!(r#""response":{begun}"#));
    events.push("response.in_progress", &format!(r#""response":{begun}"#));
    for (index, item) in items(call, answer).iter().enumerate() {
        let added = item.json(answer, index, false);
        events.push("response.output_item.added", &format!(r#""output_index":{index},"item":{added}"#));
        let at = format!(r#""item_id":"{}","output_index":{index}"#, item.id(answer, index));
        match item {
            Item::Reasoning { summary: None, .. } => {}
            Item::Reasoning { summary: Some(text), .. } => {
                let at = format!(r#"{at},"summary_index":0"#);
                let part = |text: &str| format!(r#"{at},"part":{}"#, summary_part(text));
                events.push("response.reasoning_summary_part.added", &part(""));
                for piece in pieces(text) {
                    let delta = format!(r#"{at},"delta":{}"#, quote(piece));
                    events.push("response.reasoning_summary_text.delta", &delta);
                }
                let done = format!(r#"{at},"text":{}"#, quote(text));
                events.push("response.reasoning_summary_text.done", &done);
                events.push("response.reasoning_summary_part.done", &part(text));
            }
            Item::Message { text, is_refusal } => {
                let at = format!(r#"{at},"content_index":0"#);
                let (name, whole) =
                    if *is_refusal { ("refusal", "refusal") } else { ("output_text", "text") };
                let logprobs = if *is_refusal { "" } else { r#","logprobs":[]"# };
                let part = |text: &str| format!(r#"{at},"part":{}"#, content_part(text, *is_refusal));
                events.push("response.content_part.added", &part(""));
                for piece in pieces(text) {
                    let delta = format!(r#"{at},"delta":{}{logprobs}"#, quote(piece));
                    events.push(&format!("response.{name}.delta"), &delta);
                }
                let done = format!(r#"{at},"{whole}":{}{logprobs}"#, quote(text));
                events.push(&format!("response.{name}.done"), &done);
                events.push("response.content_part.done", &part(text));
            }
            Item::Call { name, arguments } => {
                for piece in pieces(arguments) {
                    let delta = format!(r#"{at},"delta":{}"#, quote(piece));
                    events.push("response.function_call_arguments.delta", &delta);
                }
                let done = format!(r#"{at},"name":{},"arguments":{}"#, quote(name), quote(arguments));
                events.push("response.function_call_arguments.done", &done);
            }
        }
        let done = item.json(answer, index, true);
        events.push("response.output_item.done", &format!(r#""output_index":{index},"item":{done}"#));
    }
    let end = if answer.ending == Ending::Whole { "response.completed" } else { "response.incomplete" };
    events.push(end, &format!(r#""response":{}"#, body(call, answer, input)));
    events.0
}

/// Events with their numbers.
struct Events(Vec<String>);

impl Events {
    fn push(&mut self, name: &str, rest: &str) {
        let number = self.0.len();
        self.0.push(format!(
            "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{number},{rest}}}\n\n"
        ));
    }
}

fn items<'a>(call: &Call, answer: &'a Answer) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    if let Some(thinking) = &answer.thinking {
        let wants_summary =
            call.doc.object("reasoning").is_some_and(|reasoning| reasoning.some("summary").is_some());
        let include = call.doc.elements("include").unwrap_or_default();
        items.push(Item::Reasoning {
            summary: wants_summary.then_some(thinking.text.as_str()),
            encrypted: include.contains(&r#""reasoning.encrypted_content""#),
        });
    }
    items.extend(answer.choices.iter().map(|content| match content {
        Content::Text(text) => Item::Message { text, is_refusal: false },
        Content::Refusal(text) => Item::Message { text, is_refusal: true },
        Content::Tool { name, arguments } => Item::Call { name, arguments },
    }));
    items
}

impl Item<'_> {
    fn id(&self, answer: &Answer, index: usize) -> String {
        let kind = match self {
            Self::Reasoning { .. } => "rs",
            Self::Message { .. } => "msg",
            Self::Call { .. } => "fc",
        };
        format!("{kind}_{}_{index}", answer.id)
    }

    /// As it stands when it begins, or when it is done.
    fn json(&self, answer: &Answer, index: usize, is_done: bool) -> String {
        let id = self.id(answer, index);
        let status = match answer.ending {
            _ if !is_done => "in_progress",
            Ending::Whole => "completed",
            _ => "incomplete",
        };
        match self {
            Self::Reasoning { summary, encrypted } => {
                let summary = summary.filter(|_| is_done).map(summary_part).unwrap_or_default();
                let encrypted = if *encrypted {
                    format!(r#","encrypted_content":"{}""#, STANDARD.encode(format!("embedded {id}")))
                } else {
                    String::new()
                };
                format!(r#"{{"id":"{id}","type":"reasoning","summary":[{summary}]{encrypted}}}"#)
            }
            Self::Message { text, is_refusal } => {
                let content = if is_done { content_part(text, *is_refusal) } else { String::new() };
                format!(
                    r#"{{"id":"{id}","type":"message","status":"{status}","role":"assistant","content":[{content}]}}"#
                )
            }
            Self::Call { name, arguments } => format!(
                r#"{{"id":"{id}","type":"function_call","status":"{status}","call_id":"call_{call}_{index}","name":{name},"arguments":{arguments}}}"#,
                call = answer.id,
                name = quote(name),
                arguments = quote(if is_done { arguments } else { "" }),
            ),
        }
    }
}

fn summary_part(text: &str) -> String {
    format!(r#"{{"type":"summary_text","text":{}}}"#, quote(text))
}

fn content_part(text: &str, is_refusal: bool) -> String {
    let text = quote(text);
    if is_refusal {
        format!(r#"{{"type":"refusal","refusal":{text}}}"#)
    } else {
        format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":{text}}}"#)
    }
}

/// The reply as it stands: what was asked for is said again, with the defaults of what was not.
fn response(
    call: &Call,
    answer: &Answer,
    status: &str,
    error: &str,
    details: &str,
    output: &str,
    usage: &str,
) -> String {
    let asked = |name: &str, default: &str| call.doc.some(name).unwrap_or(default).to_owned();
    let inner = |name: &str, member: &str, default: &str| {
        let object = call.doc.object(name).unwrap_or_default();
        object.some(member).unwrap_or(default).to_owned()
    };
    let completed = if status == "completed" { CREATED.to_string() } else { "null".to_owned() };
    let effort = if answer.thinking.is_some() { r#""medium""# } else { "null" };
    let reasoning = format!(
        r#"{{"effort":{},"summary":{}}}"#,
        inner("reasoning", "effort", effort),
        inner("reasoning", "summary", "null")
    );
    let text = format!(
        r#"{{"format":{},"verbosity":{}}}"#,
        inner("text", "format", r#"{"type":"text"}"#),
        inner("text", "verbosity", r#""medium""#)
    );
    let members = [
        ("id", quote(&format!("resp_{}", answer.id))),
        ("object", quote("response")),
        ("created_at", CREATED.to_string()),
        ("status", quote(status)),
        ("background", asked("background", "false")),
        ("completed_at", completed),
        ("error", error.to_owned()),
        ("incomplete_details", details.to_owned()),
        ("instructions", asked("instructions", "null")),
        ("max_output_tokens", asked("max_output_tokens", "null")),
        ("max_tool_calls", asked("max_tool_calls", "null")),
        ("metadata", asked("metadata", "{}")),
        ("model", quote(&answer.model)),
        ("output", format!("[{output}]")),
        ("parallel_tool_calls", asked("parallel_tool_calls", "true")),
        ("previous_response_id", asked("previous_response_id", "null")),
        ("prompt_cache_key", asked("prompt_cache_key", "null")),
        ("reasoning", reasoning),
        ("safety_identifier", asked("safety_identifier", "null")),
        ("service_tier", quote("default")),
        ("store", asked("store", "true")),
        ("temperature", asked("temperature", "1.0")),
        ("text", text),
        ("tool_choice", asked("tool_choice", r#""auto""#)),
        ("tools", tools(call)),
        ("top_logprobs", asked("top_logprobs", "0")),
        ("top_p", asked("top_p", "1.0")),
        ("truncation", asked("truncation", r#""disabled""#)),
        ("usage", usage.to_owned()),
        ("user", asked("user", "null")),
    ];
    let members: Vec<_> = members.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    format!("{{{}}}", members.join(","))
}

/// The tools as they were offered, each with a word on how strictly its schema is followed.
fn tools(call: &Call) -> String {
    let tool = |raw: &str| {
        let tool = Object::parse(raw)?;
        let is_open = tool.str("type").as_deref() == Some("function") && tool.get("strict").is_none();
        Some(format!(r#"{},"strict":true}}"#, raw.trim_end().strip_suffix('}').filter(|_| is_open)?))
    };
    let tools: Vec<_> = call
        .doc
        .elements("tools")
        .unwrap_or_default()
        .into_iter()
        .map(|raw| tool(raw).unwrap_or_else(|| raw.to_owned()))
        .collect();
    format!("[{}]", tools.join(","))
}

fn usage(answer: &Answer, input: &Input) -> String {
    let (prompt, output) = (input.total, answer.output_tokens());
    format!(
        r#"{{"input_tokens":{prompt},"input_tokens_details":{{"cached_tokens":{read},"cache_write_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":{reasoning}}},"total_tokens":{total}}}"#,
        read = input.read,
        reasoning = answer.thought_tokens(),
        total = prompt + output,
    )
}
