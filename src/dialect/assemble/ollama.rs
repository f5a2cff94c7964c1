//! Ollama's chat and generate calls: lines, not events.
//!
//! Content, thoughts and answers are joined, tool calls and log probabilities become one list; of all else the last
//! line that has it counts, which for statistics is the one with `done: true`.

use bytes::Bytes;

use super::slots::object;
use super::{Slots, array, compact, pieces, pieces_by_token};
use crate::call::json::{self, Object};

pub(in crate::dialect) fn to_document(stream: &[u8]) -> Option<Bytes> {
    let (mut head, mut message, mut done) = (Slots::default(), None::<Slots>, false);
    for line in std::str::from_utf8(stream).ok()?.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
        let line = object(line).filter(|_| !done)?;
        for (name, raw) in line.iter() {
            match name {
                "error" if raw != "null" => return None,
                "message" => {
                    let message = message.get_or_insert_default();
                    for (name, raw) in object(raw)?.iter() {
                        match name {
                            "content" | "thinking" => message.join(name, raw)?,
                            "tool_calls" => message.extend(name, raw)?,
                            _ => message.once(name, raw)?,
                        }
                    }
                }
                "response" | "thinking" => head.join(name, raw)?,
                "logprobs" => head.extend(name, raw)?,
                // Numbers and words move on from line to line; what is longer has to be the same.
                _ if raw.starts_with(['[', '{']) => head.once(name, raw)?,
                _ => head.last(name, raw),
            }
        }
        done = line.bool("done") == Some(true);
    }
    // An empty reason is a connection that was lost.
    if !done || head.get("done_reason").is_some_and(|reason| reason == "\"\"") {
        return None;
    }
    if let Some(message) = message {
        head.set("message", message.json());
    }
    Some(head.json().into())
}

pub(in crate::dialect) fn to_stream(document: &[u8]) -> Option<Vec<Bytes>> {
    let document = compact(document)?;
    let document = object(&document)?;
    if document.some("error").is_some() || document.bool("done") != Some(true) {
        return None;
    }
    let mut head = String::new();
    for name in ["model", "created_at"] {
        if let Some(raw) = document.get(name) {
            head += &format!("\"{name}\":{raw},");
        }
    }
    let entries = document.some("logprobs").map_or(Some(Vec::new()), json::elements)?;
    let mut lines = Vec::new();
    let mut line = |body: &str, entries: &[&str]| {
        let logprobs =
            if entries.is_empty() { String::new() } else { format!(",\"logprobs\":{}", array(entries)) };
        lines.push(Bytes::from(format!("{{{head}{body},\"done\":false{logprobs}}}\n")));
    };
    let last = match document.get("message").map(object) {
        Some(message) => chat(&message?, &entries, &mut line)?,
        None => {
            let text = json::string(document.get("response")?)?;
            for piece in pieces(&optional(&document, "thinking")?) {
                line(&format!("\"response\":\"\",\"thinking\":{}", json::quote(piece)), &[]);
            }
            for (piece, entries) in pieces_by_token(&text, &entries) {
                line(&format!("\"response\":{}", json::quote(piece)), &entries);
            }
            "\"response\":\"\"".to_owned()
        }
    };
    let mut rest = String::new();
    for (name, raw) in document.iter() {
        match name {
            "model" | "created_at" | "message" | "response" => {}
            "logprobs" if !entries.is_empty() => {}
            "thinking" if raw.starts_with('"') => {
                rest += if raw == "\"\"" { ",\"thinking\":\"\"" } else { "" }
            }
            _ => rest += &format!(",{}:{raw}", json::quote(name)),
        }
    }
    lines.push(format!("{{{head}{last}{rest}}}\n").into());
    Some(lines)
}

/// Writes the lines of a message; what the last line has of it.
fn chat(message: &Object<'_>, entries: &[&str], line: &mut impl FnMut(&str, &[&str])) -> Option<String> {
    let (role, content) = (message.some("role")?, json::string(message.get("content")?)?);
    let thinking = optional(message, "thinking")?;
    let start = format!("\"role\":{role},\"content\":");
    for piece in pieces(&thinking) {
        line(&format!("\"message\":{{{start}\"\",\"thinking\":{}}}", json::quote(piece)), &[]);
    }
    for (piece, entries) in pieces_by_token(&content, entries) {
        line(&format!("\"message\":{{{start}{}}}", json::quote(piece)), &entries);
    }
    let calls = message.some("tool_calls").filter(|calls| *calls != "[]");
    if let Some(calls) = calls {
        json::elements(calls)?;
        line(&format!("\"message\":{{{start}\"\",\"tool_calls\":{calls}}}"), &[]);
    }
    let mut last = format!("\"message\":{{{start}\"\"");
    for (name, raw) in message.iter() {
        match name {
            "role" | "content" => {}
            "tool_calls" if calls.is_some() => {}
            "thinking" if raw.starts_with('"') => {
                last += if raw == "\"\"" { ",\"thinking\":\"\"" } else { "" }
            }
            _ => last += &format!(",{}:{raw}", json::quote(name)),
        }
    }
    Some(last + "}")
}

/// A string that may be absent or null.
fn optional<'a>(object: &Object<'a>, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    object.some(name).map_or(Some("".into()), json::string)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: a stream made of it would have said more than it does.
    #[test]
    fn a_message_without_a_role_or_content_is_no_stream() {
        for (message, is_stream) in [
            (r#"{"role":"assistant","content":"hi"}"#, true),
            (r#"{"content":"hi"}"#, false),
            (r#"{"role":"assistant"}"#, false),
            (r#"{"role":"assistant","content":null}"#, false),
        ] {
            let document = format!(r#"{{"model":"m","done":true,"message":{message}}}"#);
            let frames = to_stream(document.as_bytes());
            assert_eq!(frames.is_some(), is_stream, "{message}");
            if let Some(frames) = frames {
                assert_eq!(to_document(&frames.concat()).as_deref(), Some(document.as_bytes()));
            }
        }
    }
}
