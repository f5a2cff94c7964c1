//! Anthropic Messages.
//!
//! | | from a stream |
//! |---|---|
//! | head | `message_start` |
//! | text, thinking | the start of their block and all deltas, joined |
//! | input of a tool call | `partial_json`, joined; has to be JSON then |
//! | citations | one list per block |
//! | ending, container, context management | `message_delta` |
//! | usage | `message_start`, then the last value of each field |
//!
//! Blocks without deltas (redacted thinking, results of the vendor's tools) stand as they came. An event of an
//! unknown type is passed over only if there is nothing in it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::slots::object;
use super::{Slots, array, compact, named, pieces, read_events};
use crate::call::json::{self, Object};

/// Members of a usage object that are not known when a stream begins.
const LATE: [&str; 3] = ["output_tokens_details", "server_tool_use", "iterations"];

/// A content block so far.
struct Block {
    members: Slots,
    partial_json: String,
    stopped: bool,
}

#[derive(Default)]
struct Message {
    head: Option<Slots>,
    usage: Slots,
    blocks: BTreeMap<u64, Block>,
    /// The real count of the output has come.
    counted: bool,
    stopped: bool,
}

pub(in crate::dialect) fn to_document(stream: &[u8]) -> Option<Bytes> {
    let mut message = Message::default();
    read_events(stream, |name, data| message.event(name, data))?;
    let Message { head, usage, blocks, counted: true, stopped: true } = message else { return None };
    let mut head = head.filter(|head| head.some("stop_reason").is_some())?;
    let blocks: Option<Vec<_>> = blocks.into_values().map(Block::finished).collect();
    head.set("content", array(&blocks?));
    head.set("usage", usage.json());
    Some(head.json().into())
}

impl Message {
    fn event(&mut self, name: Option<&str>, data: &str) -> Option<()> {
        let event = object(data)?;
        let kind = event.str("type").unwrap_or_else(|| name.unwrap_or_default().into());
        if self.stopped && kind != "ping" {
            return None;
        }
        match kind.as_ref() {
            "message_start" if self.head.is_none() => {
                let head = Slots::parse(event.get("message")?)?;
                if json::elements(&head.get("content")?)?.is_empty() {
                    self.usage = Slots::parse(&head.some("usage")?)?;
                    self.head = Some(head);
                    return Some(());
                }
                return None;
            }
            "content_block_start" => {
                let members = Slots::parse(event.get("content_block")?)?;
                let block = Block { members, partial_json: String::new(), stopped: false };
                if self.head.is_none() || self.blocks.insert(event.u64("index")?, block).is_some() {
                    return None;
                }
            }
            "content_block_delta" => self.open(&event)?.delta(&object(event.get("delta")?)?)?,
            "content_block_stop" => self.open(&event)?.stopped = true,
            "message_delta" => self.delta(&event)?,
            "message_stop" => self.stopped = true,
            "ping" => {}
            _ if kind != "error" && event.iter().all(|(name, _)| name == "type") => {}
            _ => return None,
        }
        Some(())
    }

    fn open(&mut self, event: &Object<'_>) -> Option<&mut Block> {
        self.blocks.get_mut(&event.u64("index")?).filter(|block| !block.stopped)
    }

    fn delta(&mut self, event: &Object<'_>) -> Option<()> {
        let head = self.head.as_mut()?;
        for (name, raw) in event.iter() {
            match name {
                "type" => {}
                "delta" => object(raw)?.iter().for_each(|(name, raw)| head.last(name, raw)),
                "usage" => {
                    let usage = object(raw)?;
                    self.counted |= usage.some("output_tokens").is_some();
                    merge(&mut self.usage, &usage)?;
                }
                _ => head.last(name, raw),
            }
        }
        Some(())
    }
}

/// The last value of each field, in objects within too.
fn merge(so_far: &mut Slots, later: &Object<'_>) -> Option<()> {
    for (name, raw) in later.iter() {
        match so_far.get(name).as_deref().and_then(Slots::parse) {
            Some(mut inner) if raw.starts_with('{') => {
                merge(&mut inner, &object(raw)?)?;
                so_far.set(name, inner.json());
            }
            _ => so_far.last(name, raw),
        }
    }
    Some(())
}

impl Block {
    fn delta(&mut self, delta: &Object<'_>) -> Option<()> {
        let (kind, name) = match delta.str("type")?.as_ref() {
            "text_delta" => ("text", "text"),
            "thinking_delta" => ("thinking", "thinking"),
            "signature_delta" => {
                // A signature is one piece; whether two would be joined nobody says.
                return self.members.once("signature", delta.get("signature")?);
            }
            "citations_delta" => {
                return self.members.extend("citations", &array(&[delta.get("citation")?]));
            }
            "input_json_delta" => {
                self.partial_json.push_str(&delta.str("partial_json")?);
                return self.members.get("input").map(drop);
            }
            _ => return None,
        };
        let is_kind = self.members.get("type").as_deref().and_then(json::string).as_deref() == Some(kind);
        if is_kind {
            self.members.join(name, delta.get(name).filter(|raw| raw.starts_with('"'))?)
        } else {
            None
        }
    }

    fn finished(mut self) -> Option<String> {
        if !self.stopped {
            return None;
        }
        let input = self.partial_json.trim_ascii();
        if !input.is_empty() {
            // What came with the start is a place holder.
            if self.members.get("input").as_deref() != Some("{}") {
                return None;
            }
            Object::parse(input)?;
            self.members.set("input", input);
        }
        Some(self.members.json())
    }
}

pub(in crate::dialect) fn to_stream(document: &[u8]) -> Option<Vec<Bytes>> {
    let text = compact(document)?;
    let document = object(&text)?;
    if document.some("error").is_some() || document.str("type")? != "message" {
        return None;
    }
    document.some("stop_reason")?;
    let counts = document.object("usage")?;
    let (mut head, mut usage) = (Slots::parse(&text)?, Slots::parse(document.get("usage")?)?);
    head.set("content", "[]");
    let (mut delta, mut beside, mut late) = (Vec::new(), String::new(), Vec::new());
    for name in ["stop_reason", "stop_sequence", "stop_details", "container"] {
        if let Some(raw) = document.get(name) {
            head.set(name, "null");
            delta.push(format!("\"{name}\":{raw}"));
        }
    }
    if let Some(raw) = head.take("context_management") {
        beside = format!(",\"context_management\":{raw}");
    }
    let output = counts.some("output_tokens")?;
    usage.set("output_tokens", "1");
    for name in ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"] {
        late.extend(counts.get(name).map(|raw| format!("\"{name}\":{raw}")));
    }
    late.push(format!("\"output_tokens\":{output}"));
    for name in LATE {
        late.extend(usage.take(name).map(|raw| format!("\"{name}\":{raw}")));
    }
    head.set("usage", usage.json());

    let mut events = vec![event("message_start", &format!(",\"message\":{}", head.json()))];
    for (at, raw) in document.elements("content")?.into_iter().enumerate() {
        block(&mut events, at, raw)?;
    }
    let (delta, late) = (delta.join(","), late.join(","));
    events.push(event("message_delta", &format!(",\"delta\":{{{delta}}},\"usage\":{{{late}}}{beside}")));
    events.push(event("message_stop", ""));
    Some(events)
}

fn event(kind: &str, rest: &str) -> Bytes {
    named(kind, &format!("{{\"type\":\"{kind}\"{rest}}}"))
}

fn block(events: &mut Vec<Bytes>, at: usize, raw: &str) -> Option<()> {
    let (block, mut start, mut deltas) = (object(raw)?, Slots::parse(raw)?, Vec::new());
    let mut add = |kind: &str, name: &str, raw: &str| {
        deltas.push(format!("{{\"type\":\"{kind}\",\"{name}\":{raw}}}"));
    };
    match block.str("type")?.as_ref() {
        kind @ ("text" | "thinking") => {
            for piece in pieces(&block.str(kind)?) {
                add(&format!("{kind}_delta"), kind, &json::quote(piece));
            }
            start.set(kind, "\"\"");
            if let Some(signature) = block.some("signature").filter(|_| kind == "thinking") {
                json::string(signature)?;
                start.set("signature", "\"\"");
                if signature != "\"\"" {
                    add("signature_delta", "signature", signature);
                }
            }
            if let Some(citations) = block.some("citations").filter(|_| kind == "text") {
                start.set("citations", "[]");
                json::elements(citations)?
                    .into_iter()
                    .for_each(|citation| add("citations_delta", "citation", citation));
            }
        }
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            let input = block.get("input").filter(|input| input.starts_with('{'))?;
            start.set("input", "{}");
            let input = if input == "{}" { "" } else { input };
            add("input_json_delta", "partial_json", "\"\"");
            pieces(input)
                .into_iter()
                .for_each(|piece| add("input_json_delta", "partial_json", &json::quote(piece)));
        }
        // These have no deltas.
        "redacted_thinking" | "container_upload" => {}
        kind if kind.ends_with("_tool_result") => {}
        _ => return None,
    }
    events.push(event("content_block_start", &format!(",\"index\":{at},\"content_block\":{}", start.json())));
    for delta in deltas {
        events.push(event("content_block_delta", &format!(",\"index\":{at},\"delta\":{delta}")));
    }
    events.push(event("content_block_stop", &format!(",\"index\":{at}")));
    Some(())
}
