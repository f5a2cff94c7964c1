//! Gemini `generateContent`, streamed with `alt=sse`.
//!
//! | | from a stream |
//! |---|---|
//! | parts | in a row; a text that follows a text of the same kind is joined to it |
//! | parts with a thought signature or anything unknown beside their text | never joined, since the signature is of that part |
//! | lists of `logprobsResult` | made longer |
//! | finish reason, ratings, counts, usage, model, id | the last value |
//! | other objects and lists (citations, grounding) | the only value |
//!
//! Nothing marks the end but a finish reason for every candidate. Calls whose arguments come in pieces are not
//! converted.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::slots::object;
use super::{Slots, array, compact, event, pieces, read_events};
use crate::call::json::{self, Object};

/// One candidate so far.
#[derive(Default)]
struct Candidate {
    members: Slots,
    content: Option<Slots>,
    parts: Option<Vec<Part>>,
    logprobs: Option<Slots>,
}

enum Part {
    /// Text, unescaped, and the raw `thought` member.
    Plain(String, Option<String>),
    Other(String),
}

pub(in crate::dialect) fn to_document(stream: &[u8]) -> Option<Bytes> {
    let (mut head, mut candidates) = (Slots::default(), BTreeMap::<u64, Candidate>::new());
    read_events(stream, |name, data| {
        if !matches!(name, None | Some("message")) {
            return None;
        }
        let chunk = object(data)?;
        for (name, raw) in chunk.iter() {
            match name {
                "error" if raw != "null" => return None,
                "candidates" => {
                    for raw in json::elements(raw)? {
                        let candidate = object(raw)?;
                        let index = candidate.get("index").map_or(Some(0), json::whole)?;
                        candidates.entry(index).or_default().chunk(&candidate)?;
                    }
                }
                "usageMetadata" => head.last(name, raw),
                _ if raw.starts_with(['[', '{']) => head.once(name, raw)?,
                _ => head.last(name, raw),
            }
        }
        Some(())
    })?;
    if candidates.is_empty() {
        return None;
    }
    let candidates: Option<Vec<_>> = candidates.into_values().map(Candidate::finished).collect();
    head.set("candidates", array(&candidates?));
    Some(head.json().into())
}

impl Candidate {
    fn chunk(&mut self, candidate: &Object<'_>) -> Option<()> {
        for (name, raw) in candidate.iter() {
            match name {
                "content" if raw != "null" => {
                    let content = self.content.get_or_insert_default();
                    for (name, raw) in object(raw)?.iter() {
                        if name != "parts" {
                            content.once(name, raw)?;
                            continue;
                        }
                        let parts = self.parts.get_or_insert_default();
                        for part in json::elements(raw)? {
                            add(parts, part)?;
                        }
                    }
                }
                "logprobsResult" if raw != "null" => {
                    let so_far = self.logprobs.get_or_insert_default();
                    for (name, raw) in object(raw)?.iter() {
                        if raw.starts_with('[') {
                            so_far.extend(name, raw)?
                        } else {
                            so_far.once(name, raw)?
                        }
                    }
                }
                "safetyRatings" => self.members.last(name, raw),
                _ if raw.starts_with(['[', '{']) => self.members.once(name, raw)?,
                _ => self.members.last(name, raw),
            }
        }
        Some(())
    }

    /// JSON text of the finished candidate; `None` if it has no end.
    fn finished(mut self) -> Option<String> {
        self.members.some("finishReason")?;
        if let Some(mut content) = self.content {
            if let Some(parts) = self.parts {
                let parts: Vec<_> = parts.iter().map(Part::json).collect();
                content.set("parts", array(&parts));
            }
            self.members.set("content", content.json());
        }
        if let Some(logprobs) = self.logprobs {
            self.members.set("logprobsResult", logprobs.json());
        }
        Some(self.members.json())
    }
}

/// The text of a part that has nothing beside it but its kind.
fn plain<'a>(part: &Object<'a>) -> Option<(std::borrow::Cow<'a, str>, Option<&'a str>)> {
    let text = part.str("text")?;
    part.iter().all(|(name, _)| matches!(name, "text" | "thought")).then(|| (text, part.get("thought")))
}

fn add(parts: &mut Vec<Part>, raw: &str) -> Option<()> {
    let part = object(raw)?;
    let Some((text, thought)) = plain(&part) else {
        if let Some(call) = part.some("functionCall") {
            let call = object(call)?;
            if call.some("partialArgs").is_some() || call.some("willContinue").is_some() {
                return None;
            }
        }
        parts.push(Part::Other(raw.to_owned()));
        return Some(());
    };
    match parts.last_mut() {
        Some(Part::Plain(so_far, kind)) if is_thought(kind.as_deref()) == is_thought(thought) => {
            so_far.push_str(&text);
        }
        // The chunk with the finish reason often has an empty text.
        Some(_) if text.is_empty() => {}
        _ => parts.push(Part::Plain(text.into_owned(), thought.map(str::to_owned))),
    }
    Some(())
}

fn is_thought(thought: Option<&str>) -> bool {
    thought == Some("true")
}

impl Part {
    fn json(&self) -> String {
        match self {
            Self::Plain(text, None) => format!("{{\"text\":{}}}", json::quote(text)),
            Self::Plain(text, Some(thought)) => {
                format!("{{\"text\":{},\"thought\":{thought}}}", json::quote(text))
            }
            Self::Other(raw) => raw.clone(),
        }
    }
}

pub(in crate::dialect) fn to_stream(document: &[u8]) -> Option<Vec<Bytes>> {
    let text = compact(document)?;
    let document = object(&text)?;
    if document.some("error").is_some() {
        return None;
    }
    let mut chunks = Vec::new();
    for raw in document.elements("candidates")? {
        candidate(&mut chunks, raw)?;
    }
    if chunks.is_empty() {
        return None;
    }
    // What names the answer is in every chunk, what sums it up in the last.
    let (mut every, mut last) = (String::new(), String::new());
    for (name, raw) in document.iter().filter(|(name, _)| *name != "candidates") {
        let member = format!(",{}:{raw}", json::quote(name));
        if raw.starts_with(['[', '{']) { last += &member } else { every += &member }
    }
    let end = chunks.len() - 1;
    let all = chunks.into_iter().enumerate().map(|(at, chunk)| {
        let last = if at == end { &*last } else { "" };
        event(&format!("{{\"candidates\":[{chunk}]{last}{every}}}"))
    });
    Some(all.collect())
}

/// The chunks of one candidate; the last has all that is not content.
fn candidate(chunks: &mut Vec<String>, raw: &str) -> Option<()> {
    let (candidate, mut rest) = (object(raw)?, Slots::parse(raw)?);
    candidate.some("finishReason")?;
    let index = rest.take("index").map(|index| format!("\"index\":{index},")).unwrap_or_default();
    let Some(content) = candidate.some("content") else {
        chunks.push(raw.to_owned());
        return Some(());
    };
    rest.take("content");
    let (content, mut around) = (object(content)?, Slots::parse(content)?);
    around.take("parts");
    let mut parts = Vec::new();
    for raw in content.some("parts").map_or(Some(Vec::new()), json::elements)? {
        match plain(&object(raw)?) {
            Some((text, thought)) if !text.is_empty() => parts.extend(
                pieces(&text)
                    .into_iter()
                    .map(|p| Part::Plain(p.to_owned(), thought.map(str::to_owned)).json()),
            ),
            _ => parts.push(raw.to_owned()),
        }
    }
    let with = |parts: Option<&str>| {
        let mut content = Slots::default();
        if let Some(part) = parts {
            content.set("parts", format!("[{part}]"));
        }
        let around = around.json();
        for (name, raw) in Object::parse(&around)?.iter() {
            content.set(name, raw);
        }
        Some(format!("{index}\"content\":{}", content.json()))
    };
    let last = parts.pop();
    for part in &parts {
        chunks.push(format!("{{{}}}", with(Some(part))?));
    }
    let last = last.or_else(|| content.some("parts").map(|_| String::new()));
    let rest = rest.json();
    chunks.push(format!("{{{},{}", with(last.as_deref())?, &rest[1..]));
    Some(())
}
