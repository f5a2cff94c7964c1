//! OpenAI chat completions, and the servers that speak it.
//!
//! | | from a stream |
//! |---|---|
//! | members of a chunk | the last value that says something |
//! | usage | the last that is not null, of a chunk, of Groq's `x_groq` or of a choice |
//! | strings of a delta (content, refusal, reasoning and any unknown) | joined |
//! | `tool_calls` | joined by index; names and ids come once |
//! | `annotations`, lists of `logprobs` | made longer |
//! | other members of a delta or a choice | the last value |
//!
//! Not converted: spoken answers, custom tools into a stream, content that is a list of parts.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::slots::object;
use super::{Slots, array, compact, event, pieces, pieces_by_token, read_events};
use crate::call::json::{self, Object};
use crate::dialect::StreamShape;

/// One choice so far.
#[derive(Default)]
struct Choice {
    /// Its members besides index, delta and log probabilities.
    members: Slots,
    message: Slots,
    calls: Option<BTreeMap<u64, Call>>,
    function_call: Option<Slots>,
    /// Null as long as there is nothing in it.
    logprobs: Option<Slots>,
}

/// One tool call so far.
#[derive(Default)]
struct Call {
    members: Slots,
    function: Option<Slots>,
    custom: Option<Slots>,
}

pub(in crate::dialect) fn to_document(stream: &[u8]) -> Option<Bytes> {
    let (mut head, mut choices, mut done) = (Slots::default(), BTreeMap::<u64, Choice>::new(), false);
    read_events(stream, |name, data| {
        // Nothing comes after the end marker, and events have no names here; `error` would be one.
        if done || !matches!(name, None | Some("message")) {
            return None;
        }
        if data.trim() == "[DONE]" {
            done = true;
            return Some(());
        }
        chunk(&mut head, &mut choices, data)
    })?;
    if !done || choices.is_empty() {
        return None;
    }
    head.set("object", "\"chat.completion\"");
    let usage = head.take("usage").filter(|usage| usage != "null");
    let choices: Option<Vec<_>> = choices.into_iter().map(|(at, choice)| choice.finished(at)).collect();
    head.set("choices", array(&choices?));
    if let Some(usage) = usage {
        head.set("usage", usage);
    }
    Some(head.json().into())
}

fn chunk(head: &mut Slots, choices: &mut BTreeMap<u64, Choice>, data: &str) -> Option<()> {
    let chunk = object(data)?;
    let mut usage = None;
    for (name, raw) in chunk.iter() {
        match name {
            "error" if raw != "null" => return None,
            "choices" | "obfuscation" => {}
            "usage" => usage = Some(raw).filter(|raw| *raw != "null").or(usage),
            "x_groq" => {
                let mut groq = Slots::parse(raw)?;
                if let Some(usage) = groq.take("usage").filter(|raw| raw != "null") {
                    head.set("usage", usage);
                }
                head.last(name, &groq.json());
            }
            // Azure's first chunk has zeros and empty strings in place of what it does not know yet.
            "created" if raw == "0" && head.some(name).is_some() => {}
            _ => head.last(name, raw),
        }
    }
    for raw in chunk.elements("choices")? {
        let raw = object(raw)?;
        let index = raw.get("index").map_or(Some(0), json::whole)?;
        let choice = choices.entry(index).or_default();
        for (name, raw) in raw.iter() {
            match name {
                "index" => {}
                "delta" => choice.delta(raw)?,
                "logprobs" => choice.logprobs(raw)?,
                "usage" => usage = Some(raw).filter(|raw| *raw != "null").or(usage),
                "error" if raw != "null" => return None,
                // Content in another place than the delta.
                "message" | "text" => return None,
                _ => choice.members.last(name, raw),
            }
        }
    }
    if let Some(usage) = usage {
        head.set("usage", usage);
    }
    Some(())
}

impl Choice {
    fn delta(&mut self, raw: &str) -> Option<()> {
        if raw == "null" {
            return Some(());
        }
        for (name, raw) in object(raw)?.iter() {
            match name {
                "role" => self.message.last(name, raw),
                "audio" if raw != "null" => return None,
                "content" if !raw.starts_with('"') && raw != "null" => return None,
                "tool_calls" if raw != "null" => {
                    let calls = self.calls.get_or_insert_default();
                    for call in json::elements(raw)? {
                        tool_call(calls, call)?;
                    }
                }
                "function_call" if raw != "null" => {
                    function(self.function_call.get_or_insert_default(), raw, "arguments")?;
                }
                "annotations" => self.message.extend(name, raw)?,
                _ => self.message.join(name, raw)?,
            }
        }
        Some(())
    }

    fn logprobs(&mut self, raw: &str) -> Option<()> {
        let so_far = self.logprobs.get_or_insert_default();
        if raw != "null" {
            for (name, raw) in object(raw)?.iter() {
                so_far.extend(name, raw)?;
            }
        }
        Some(())
    }

    /// JSON text of the finished choice; `None` if it has no end.
    fn finished(mut self, index: u64) -> Option<String> {
        let finish = self.members.take("finish_reason").filter(|reason| reason != "null")?;
        if self.message.some("role").is_none() {
            self.message.set("role", "\"assistant\"");
        }
        if self.message.get("content").is_none() {
            self.message.set("content", "null");
        }
        if let Some(calls) = self.calls {
            let calls: Vec<_> = calls.into_values().map(Call::finished).collect();
            self.message.set("tool_calls", array(&calls));
        }
        if let Some(call) = self.function_call {
            self.message.set("function_call", call.json());
        }
        let mut choice = Slots::default();
        choice.set("index", index.to_string());
        choice.set("message", self.message.json());
        if let Some(logprobs) = self.logprobs {
            let json = logprobs.json();
            choice.set("logprobs", if json == "{}" { "null".to_owned() } else { json });
        }
        choice.set("finish_reason", finish);
        let json = self.members.json();
        for (name, raw) in Object::parse(&json)?.iter() {
            choice.set(name, raw);
        }
        Some(choice.json())
    }
}

impl Call {
    fn finished(mut self) -> String {
        if let Some(function) = self.function {
            self.members.set("function", function.json());
        }
        if let Some(custom) = self.custom {
            self.members.set("custom", custom.json());
        }
        self.members.json()
    }
}

fn tool_call(calls: &mut BTreeMap<u64, Call>, raw: &str) -> Option<()> {
    let piece = object(raw)?;
    let index = match piece.some("index") {
        Some(index) => json::whole(index)?,
        // Some servers send calls whole and without an index. Then a new id is a new call.
        None => {
            let id = piece.some("id").filter(|id| *id != "\"\"")?;
            if calls.values().any(|call| call.members.get("id").as_deref() == Some(id)) {
                return None;
            }
            calls.last_key_value().map_or(0, |(last, _)| last + 1)
        }
    };
    let call = calls.entry(index).or_default();
    for (name, raw) in piece.iter() {
        match name {
            "index" => {}
            "function" if raw != "null" => {
                function(call.function.get_or_insert_default(), raw, "arguments")?;
            }
            "custom" if raw != "null" => function(call.custom.get_or_insert_default(), raw, "input")?,
            // Another id under the same index is a server that does not count its calls.
            _ => call.members.once(name, raw)?,
        }
    }
    Some(())
}

/// The next piece of a function: what `pieces_in` holds is joined, all else comes once.
fn function(so_far: &mut Slots, raw: &str, pieces_in: &str) -> Option<()> {
    for (name, raw) in object(raw)?.iter() {
        if name != pieces_in {
            so_far.once(name, raw)?;
        } else if raw.starts_with('"') || raw == "null" || so_far.some(name).is_none() {
            so_far.join(name, raw)?;
        } else {
            return None;
        }
    }
    Some(())
}

pub(in crate::dialect) fn to_stream(document: &[u8], shape: StreamShape) -> Option<Vec<Bytes>> {
    let document = compact(document)?;
    let document = object(&document)?;
    let usage = document.some("usage");
    let mut writer = Writer::new(&document, shape.usage && usage.is_some())?;
    let mut choices = Vec::new();
    for (at, raw) in document.elements("choices")?.into_iter().enumerate() {
        let choice = object(raw)?;
        let index = choice.get("index").map_or(Some(at as u64), json::whole)?;
        choices.push((index, choice));
    }
    if choices.is_empty() {
        return None;
    }
    let messages: Option<Vec<_>> = choices.iter().map(|(_, choice)| object(choice.get("message")?)).collect();
    let messages = messages?;
    for ((index, choice), message) in choices.iter().zip(&messages) {
        writer.opening(*index, choice, message)?;
    }
    for ((index, choice), message) in choices.iter().zip(&messages) {
        writer.message(*index, choice, message)?;
    }
    for (index, choice) in &choices {
        writer.finish(*index, choice)?;
    }
    if let Some(usage) = usage.filter(|_| shape.usage) {
        writer.frames.push(event(&format!(r#"{{{},"choices":[],"usage":{usage}}}"#, writer.head)));
    }
    writer.frames.push(event("[DONE]"));
    Some(writer.frames)
}

/// The chunks of a stream.
struct Writer {
    /// Members of every chunk.
    head: String,
    /// Members of the first chunk alone: what is large and said once.
    once: String,
    /// What follows the choices.
    tail: &'static str,
    frames: Vec<Bytes>,
}

impl Writer {
    fn new(document: &Object<'_>, with_usage: bool) -> Option<Self> {
        let (mut head, mut once) = (Vec::new(), String::new());
        for (name, raw) in document.iter() {
            match name {
                "error" if raw != "null" => return None,
                "choices" | "usage" => {}
                "object" if json::string(raw)? != "chat.completion" => return None,
                "object" => {}
                _ if raw.starts_with(['{', '[']) => once += &format!(",{}:{raw}", json::quote(name)),
                _ => head.push(format!("{}:{raw}", json::quote(name))),
            }
        }
        // Clients read the id first by habit; the order is otherwise the document's.
        head.insert(usize::from(!head.is_empty()), r#""object":"chat.completion.chunk""#.to_owned());
        let tail = if with_usage { r#","usage":null"# } else { "" };
        Some(Self { head: head.join(","), once, tail, frames: Vec::new() })
    }

    fn chunk(&mut self, index: u64, delta: &str, rest: &str) {
        let (head, once, tail) = (&self.head, std::mem::take(&mut self.once), self.tail);
        let choice = format!(r#"{{"index":{index},"delta":{{{delta}}}{rest}}}"#);
        self.frames.push(event(&format!(r#"{{{head}{once},"choices":[{choice}]{tail}}}"#)));
    }

    /// A chunk in the middle of a choice.
    fn delta(&mut self, index: u64, choice: &Object<'_>, delta: &str) {
        let logprobs = if choice.get("logprobs").is_some() { r#","logprobs":null"# } else { "" };
        self.chunk(index, delta, &format!(r#"{logprobs},"finish_reason":null"#));
    }

    /// The role, and the start of all that is text or nothing.
    fn opening(&mut self, index: u64, choice: &Object<'_>, message: &Object<'_>) -> Option<()> {
        let mut delta = format!(r#""role":{}"#, message.some("role").unwrap_or("\"assistant\""));
        for (name, raw) in message.iter().filter(|(name, _)| *name != "role") {
            let start = match raw {
                "null" => "null",
                raw if raw.starts_with('"') => "\"\"",
                "[]" if name == "tool_calls" => raw,
                _ => continue,
            };
            delta += &format!(",{}:{start}", json::quote(name));
        }
        self.delta(index, choice, &delta);
        Some(())
    }

    fn message(&mut self, index: u64, choice: &Object<'_>, message: &Object<'_>) -> Option<()> {
        let logprobs = choice.some("logprobs").map_or(Some(Object::default()), object)?;
        // Thoughts come before what they led to.
        let texts = || message.iter().filter(|(name, raw)| *name != "role" && raw.starts_with('"'));
        let spoken = |name: &str| matches!(name, "content" | "refusal");
        for (name, raw) in texts().filter(|(name, _)| !spoken(name)) {
            for piece in pieces(&json::string(raw)?) {
                self.delta(index, choice, &format!("{}:{}", json::quote(name), json::quote(piece)));
            }
        }
        for name in ["content", "refusal"] {
            let text = match message.some(name) {
                Some(raw) => json::string(raw)?,
                None => "".into(),
            };
            let entries = logprobs.some(name).map_or(Some(Vec::new()), json::elements)?;
            for (piece, entries) in pieces_by_token(&text, &entries) {
                let delta = match message.some(name) {
                    Some(_) => format!("\"{name}\":{}", json::quote(piece)),
                    None => String::new(),
                };
                if entries.is_empty() {
                    self.delta(index, choice, &delta);
                } else {
                    let (here, other) =
                        (array(&entries), if name == "content" { "refusal" } else { "content" });
                    let other = if logprobs.get(other).is_some() {
                        format!(",\"{other}\":null")
                    } else {
                        String::new()
                    };
                    let rest = format!(r#","logprobs":{{"{name}":{here}{other}}},"finish_reason":null"#);
                    self.chunk(index, &delta, &rest);
                }
            }
        }
        for (name, raw) in message.iter().filter(|(name, _)| *name != "role") {
            match name {
                "audio" if raw != "null" => return None,
                "tool_calls" if raw != "null" => {
                    for (at, call) in json::elements(raw)?.into_iter().enumerate() {
                        self.tool_call(index, choice, at as u64, &object(call)?)?;
                    }
                }
                "function_call" if raw != "null" => {
                    for piece in function_pieces(&object(raw)?)? {
                        self.delta(index, choice, &format!(r#""function_call":{piece}"#));
                    }
                }
                _ if raw == "null" || raw.starts_with('"') => {}
                _ => self.delta(index, choice, &format!("{}:{raw}", json::quote(name))),
            }
        }
        Some(())
    }

    /// The start of a tool call with all but its arguments, then these.
    fn tool_call(&mut self, index: u64, choice: &Object<'_>, at: u64, call: &Object<'_>) -> Option<()> {
        // Chunks know no other kind.
        if call.get("type").is_some_and(|kind| json::string(kind).as_deref() != Some("function"))
            || call.get("index").is_some_and(|index| json::whole(index) != Some(at))
        {
            return None;
        }
        let mut start = format!(r#""index":{at}"#);
        for (name, raw) in call.iter().filter(|(name, _)| !matches!(*name, "index" | "function")) {
            start += &format!(",{}:{raw}", json::quote(name));
        }
        for piece in function_pieces(&call.object("function")?)? {
            self.delta(index, choice, &format!(r#""tool_calls":[{{{start},"function":{piece}}}]"#));
            start = format!(r#""index":{at}"#);
        }
        Some(())
    }

    /// The last chunk of a choice.
    fn finish(&mut self, index: u64, choice: &Object<'_>) -> Option<()> {
        let finish = choice.some("finish_reason")?;
        let mut rest = match choice.some("logprobs") {
            _ if choice.get("logprobs").is_none() => String::new(),
            None => r#","logprobs":null"#.to_owned(),
            // Lists that are empty have not been told yet, nor what is null beside nothing else.
            Some(logprobs) => {
                let (mut empty, logprobs) = (Vec::new(), object(logprobs)?);
                let told = logprobs.iter().any(|(_, raw)| !matches!(raw, "null" | "[]"));
                for (name, raw) in logprobs.iter() {
                    match json::elements(raw) {
                        _ if raw == "null" && told => {}
                        _ if raw == "null" => empty.push(format!("{}:null", json::quote(name))),
                        Some(list) if list.is_empty() => empty.push(format!("{}:[]", json::quote(name))),
                        Some(_) if matches!(name, "content" | "refusal") => {}
                        _ => return None,
                    }
                }
                if empty.is_empty() {
                    r#","logprobs":null"#.to_owned()
                } else {
                    format!(r#","logprobs":{{{}}}"#, empty.join(","))
                }
            }
        };
        rest += &format!(r#","finish_reason":{finish}"#);
        for (name, raw) in choice.iter() {
            match name {
                "index" | "message" | "logprobs" | "finish_reason" => {}
                "error" if raw != "null" => return None,
                "delta" | "text" | "usage" => return None,
                _ => rest += &format!(",{}:{raw}", json::quote(name)),
            }
        }
        self.chunk(index, "", &rest);
        Some(())
    }
}

/// A function in pieces: all but its arguments, then these.
fn function_pieces(function: &Object<'_>) -> Option<Vec<String>> {
    let arguments = json::string(function.get("arguments")?)?;
    let mut start = Vec::new();
    for (name, raw) in function.iter() {
        let raw = if name == "arguments" { "\"\"" } else { raw };
        start.push(format!("{}:{raw}", json::quote(name)));
    }
    let mut all = vec![format!("{{{}}}", start.join(","))];
    let more = |piece| format!(r#"{{"arguments":{}}}"#, json::quote(piece));
    all.extend(pieces(&arguments).into_iter().map(more));
    Some(all)
}
