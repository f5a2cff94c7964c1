//! OpenAI Responses: the last event of a stream holds the whole document, so only the way back is work.
//!
//! Streamed are messages (text, annotations, refusals), calls of functions and of custom tools, and reasoning
//! (summaries and text). An answer with any other item is not: each hosted tool has events of its own.

use bytes::Bytes;

use super::slots::object;
use super::{Slots, array, compact, named, pieces, pieces_by_token, read_events};
use crate::call::json::{self, Object};

pub(in crate::dialect) fn to_document(stream: &[u8]) -> Option<Bytes> {
    let (mut document, mut items, mut done) = (None::<String>, 0usize, false);
    read_events(stream, |name, data| {
        if done {
            return None;
        }
        if data.trim() == "[DONE]" {
            done = true;
            return Some(());
        }
        // Nothing but a marker comes after the terminal event.
        let event = object(data).filter(|_| document.is_none())?;
        let kind = event.str("type").unwrap_or_else(|| name.unwrap_or_default().into());
        match kind.as_ref() {
            "response.completed" | "response.incomplete" => {
                let response = event.get("response")?;
                let held = object(response)?.elements("output")?.len();
                // Some servers leave the items out here, though they sent them.
                if items > 0 && held != items {
                    return None;
                }
                document = Some(response.to_owned());
            }
            "response.output_item.done" => items += 1,
            "error" | "response.failed" | "response.cancelled" => return None,
            _ => {}
        }
        Some(())
    })?;
    document.map(Bytes::from)
}

pub(in crate::dialect) fn to_stream(document: &[u8]) -> Option<Vec<Bytes>> {
    let text = compact(document)?;
    let document = object(&text)?;
    if document.some("error").is_some() {
        return None;
    }
    let terminal = match document.str("status")?.as_ref() {
        "completed" => "response.completed",
        "incomplete" => "response.incomplete",
        _ => return None,
    };
    let mut begun = Slots::parse(&text)?;
    begun.set("status", "\"in_progress\"");
    begun.set("output", "[]");
    for name in ["usage", "incomplete_details", "completed_at"] {
        if begun.get(name).is_some() {
            begun.set(name, "null");
        }
    }
    let begun = format!("\"response\":{}", begun.json());
    let mut events = Writer::default();
    events.event("response.created", &begun);
    events.event("response.in_progress", &begun);
    for (at, raw) in document.elements("output")?.into_iter().enumerate() {
        events.item(at, raw)?;
    }
    events.event(terminal, &format!("\"response\":{text}"));
    Some(events.0)
}

/// The events of a stream, numbered.
#[derive(Default)]
struct Writer(Vec<Bytes>);

impl Writer {
    fn event(&mut self, kind: &str, rest: &str) {
        let number = self.0.len();
        self.0.push(named(kind, &format!(r#"{{"type":"{kind}","sequence_number":{number},{rest}}}"#)));
    }

    fn item(&mut self, at: usize, raw: &str) -> Option<()> {
        let item = object(raw)?;
        let id = item.some("id").filter(|id| id.starts_with('"'))?;
        let place = format!(r#""item_id":{id},"output_index":{at}"#);
        let mut begun = Slots::parse(raw)?;
        if begun.get("status").is_some() {
            begun.set("status", "\"in_progress\"");
        }
        let kind = item.str("type")?;
        let empty: &[(&str, &str)] = match kind.as_ref() {
            "message" => &[("content", "[]")],
            "function_call" => &[("arguments", "\"\"")],
            "custom_tool_call" => &[("input", "\"\"")],
            "reasoning" => &[("content", "[]"), ("summary", "[]")],
            _ => return None,
        };
        for (name, start) in empty {
            if begun.some(name).is_some() {
                begun.set(name, *start);
            }
        }
        self.event("response.output_item.added", &format!(r#""output_index":{at},"item":{}"#, begun.json()));
        match kind.as_ref() {
            "function_call" => {
                let (name, text) = (item.get("name")?, item.get("arguments")?);
                self.text("response.function_call_arguments", &place, &json::string(text)?);
                let rest = format!(r#"{place},"name":{name},"arguments":{text}"#);
                self.event("response.function_call_arguments.done", &rest);
            }
            "custom_tool_call" => {
                let text = item.get("input")?;
                self.text("response.custom_tool_call_input", &place, &json::string(text)?);
                self.event("response.custom_tool_call_input.done", &format!(r#"{place},"input":{text}"#));
            }
            _ => {
                for (at, raw) in list(&item, "summary")?.into_iter().enumerate() {
                    self.summary(&format!(r#"{place},"summary_index":{at}"#), raw)?;
                }
                for (at, raw) in list(&item, "content")?.into_iter().enumerate() {
                    self.part(&kind, &format!(r#"{place},"content_index":{at}"#), raw)?;
                }
            }
        }
        self.event("response.output_item.done", &format!(r#""output_index":{at},"item":{raw}"#));
        Some(())
    }

    /// The deltas of a text.
    fn text(&mut self, family: &str, place: &str, text: &str) {
        for piece in pieces(text) {
            self.event(&format!("{family}.delta"), &format!(r#"{place},"delta":{}"#, json::quote(piece)));
        }
    }

    fn summary(&mut self, place: &str, raw: &str) -> Option<()> {
        let part = object(raw)?;
        part.str("type").filter(|kind| kind == "summary_text")?;
        let text = part.get("text")?;
        self.event(
            "response.reasoning_summary_part.added",
            &format!(r#"{place},"part":{}"#, begun(raw, "text")?),
        );
        self.text("response.reasoning_summary_text", place, &json::string(text)?);
        self.event("response.reasoning_summary_text.done", &format!(r#"{place},"text":{text}"#));
        self.event("response.reasoning_summary_part.done", &format!(r#"{place},"part":{raw}"#));
        Some(())
    }

    fn part(&mut self, item: &str, place: &str, raw: &str) -> Option<()> {
        let part = object(raw)?;
        let kind = part.str("type")?;
        let member = match (item, kind.as_ref()) {
            ("message", "output_text") | ("reasoning", "reasoning_text") => "text",
            ("message", "refusal") => "refusal",
            _ => return None,
        };
        let raw_text = part.get(member)?;
        let text = json::string(raw_text)?;
        self.event("response.content_part.added", &format!(r#"{place},"part":{}"#, begun(raw, member)?));
        match kind.as_ref() {
            "output_text" => {
                let entries = list(&part, "logprobs")?;
                for (piece, entries) in pieces_by_token(&text, &entries) {
                    let rest =
                        format!(r#"{place},"delta":{},"logprobs":{}"#, json::quote(piece), array(&entries));
                    self.event("response.output_text.delta", &rest);
                }
                for (at, annotation) in list(&part, "annotations")?.into_iter().enumerate() {
                    let rest = format!(r#"{place},"annotation_index":{at},"annotation":{annotation}"#);
                    self.event("response.output_text.annotation.added", &rest);
                }
                let rest = format!(r#"{place},"text":{raw_text},"logprobs":{}"#, array(&entries));
                self.event("response.output_text.done", &rest);
            }
            "refusal" => {
                self.text("response.refusal", place, &text);
                self.event("response.refusal.done", &format!(r#"{place},"refusal":{raw_text}"#));
            }
            _ => {
                self.text("response.reasoning_text", place, &text);
                self.event("response.reasoning_text.done", &format!(r#"{place},"text":{raw_text}"#));
            }
        }
        self.event("response.content_part.done", &format!(r#"{place},"part":{raw}"#));
        Some(())
    }
}

/// A part as it is before its text has come.
fn begun(raw: &str, text: &str) -> Option<String> {
    let mut part = Slots::parse(raw)?;
    part.set(text, "\"\"");
    for name in ["annotations", "logprobs"] {
        if part.some(name).is_some() {
            part.set(name, "[]");
        }
    }
    Some(part.json())
}

/// A list that may be absent or null.
fn list<'a>(object: &Object<'a>, name: &str) -> Option<Vec<&'a str>> {
    object.some(name).map_or(Some(Vec::new()), json::elements)
}
