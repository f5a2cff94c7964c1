//! What a call refers to without holding it, and bodies that can be read in two ways.

use std::borrow::Cow;

use crate::call::json::{self, Object};
use crate::call::{Call, Dialect, Doc};
use crate::dialect::{Image, Message, Part, Prompt, Role, Source};

/// Tokens that a prompt may have beyond what the call holds, when it refers to text kept at the provider: the largest
/// context window published by a provider that keeps any (OpenAI's gpt-5.4, as of 2026-11; Gemini's are 1,048,576).
pub(crate) const WINDOW: u64 = 1_050_000;

/// True if `call` refers to prompt text that the provider keeps, so that its size cannot be told from its bytes.
pub(crate) fn refers_elsewhere(call: &Call) -> bool {
    in_members(&call.doc, call.dialect) || in_messages(&call.format().prompt(call), call.dialect)
}

/// The same of the messages alone.
pub(super) fn in_messages(prompt: &Prompt<'_>, dialect: Dialect) -> bool {
    let unknown = |part: &Part<'_>| matches!(part, Part::Unknown(raw) if names_a_file(raw));
    prompt.system.iter().any(unknown) || prompt.messages.iter().any(|message| in_message(message, dialect))
}

/// True if a member other than the messages refers to such text.
pub(super) fn in_members(doc: &Doc, dialect: Dialect) -> bool {
    const REFERENCES: [&str; 6] = [
        "previous_response_id",
        "conversation",
        "cachedContent",
        "cached_content",
        "continuationToken",
        "continuation_token",
    ];
    let said = |name: &str| doc.some(name).is_some_and(|value| !matches!(value, "false" | "[]"));
    REFERENCES.into_iter().any(said)
        || match dialect {
            Dialect::OpenAiResponses => said("prompt"),
            Dialect::AnthropicMessages => said("container") || said("mcp_servers"),
            Dialect::GeminiGenerate => said("mcpServers") || said("mcp_servers"),
            _ => false,
        }
}

/// True if a message refers to such text: an item or a sound by its id, or a file in a block that is not known.
pub(super) fn in_message(message: &Message<'_>, dialect: Dialect) -> bool {
    fn unknown(part: &Part<'_>) -> bool {
        match part {
            Part::Unknown(raw) => names_a_file(raw),
            Part::ToolResult { parts, .. } => parts.iter().any(unknown),
            _ => false,
        }
    }
    let by_id = match dialect {
        Dialect::OpenAiChat => {
            (message.raw.contains("audio") || message.raw.contains("\\u"))
                && Object::parse(message.raw).is_some_and(|message| message.some("audio").is_some())
        }
        Dialect::OpenAiResponses if message.role == Role::Other => {
            Object::parse(message.raw).is_some_and(|item| match item.str("type").as_deref() {
                Some("item_reference") => true,
                // A picture that was made before.
                Some("image_generation_call") => item.some("result").is_none(),
                None => item.some("id").is_some() && item.some("content").is_none(),
                Some(_) => false,
            })
        }
        _ => false,
    };
    // A screen has a price of its own.
    by_id || (screen(message, dialect).is_none() && message.parts.iter().any(unknown))
}

fn names_a_file(raw: &str) -> bool {
    raw.contains("\"file_id\"")
}

/// The picture that answers a `computer_call` of OpenAI's newer API.
pub(super) fn screen<'a>(message: &Message<'a>, dialect: Dialect) -> Option<Image<'a>> {
    if dialect != Dialect::OpenAiResponses || !matches!(*message.parts, [Part::Unknown(_)]) {
        return None;
    }
    let item = Object::parse(message.raw)?;
    item.str("type").filter(|kind| kind == "computer_call_output")?;
    let output = item.object("output")?;
    let source = match (output.str("image_url"), output.str("file_id")) {
        (Some(url), _) => Source::of_url(url),
        (None, id) => Source::Id(id?),
    };
    Some(Image { source, detail: output.str("detail") })
}

/// What JSON text costs at most, however it is read.
#[derive(Clone, Copy)]
pub(super) struct Most {
    /// By its bytes: no text takes more, and no element's frame more than sixteen.
    pub(super) tokens: u64,
    /// True if some reading of it may hold what has nothing to do with bytes: a picture, a reference, a tool.
    pub(super) refers: bool,
}

impl Most {
    pub(super) fn of(text: &[u8]) -> Self {
        const SIGNS: [&str; 17] = [
            "image",
            "file",
            "audio",
            "video",
            "media",
            "document",
            "url",
            "_id",
            "reference",
            "cache",
            "inline",
            "conversation",
            "container",
            "mcp",
            "source",
            "tool",
            "prompt",
        ];
        // More than a hidden prompt for tools takes.
        const FRAME: u64 = 1024;
        let objects = text.iter().filter(|byte| **byte == b'{').count() as u64;
        let lower = text.to_ascii_lowercase();
        let lower = String::from_utf8_lossy(&lower);
        // An escape may spell any name.
        let refers = lower.contains("\\u") || SIGNS.into_iter().any(|sign| lower.contains(sign));
        Self { tokens: (text.len() as u64).saturating_add(16 * objects + FRAME), refers }
    }
}

/// True if an object somewhere in this JSON text holds a name twice. Readers differ in which of the two they take.
pub(super) fn repeats(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Of each open array or object: where its names begin, if it has any.
    let (mut open, mut names): (Vec<Option<usize>>, Vec<Cow<'_, str>>) = <_>::default();
    let (mut at, mut is_name) = (0, false);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' => {
                open.push(Some(names.len()));
                is_name = true;
            }
            b'[' => {
                open.push(None);
                is_name = false;
            }
            b'}' | b']' => {
                if let Some(Some(from)) = open.pop() {
                    let own = names.get_mut(from..).unwrap_or_default();
                    own.sort_unstable();
                    if own.windows(2).any(|pair| pair[0] == pair[1]) {
                        return true;
                    }
                    names.truncate(from);
                }
                is_name = false;
            }
            b',' => is_name = matches!(open.last(), Some(Some(_))),
            b':' => is_name = false,
            b'"' => {
                let from = at;
                while let Some(step) = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\')) {
                    at += step;
                    if bytes[at] == b'"' {
                        break;
                    }
                    at = (at + 2).min(bytes.len());
                }
                if is_name {
                    let name = text.get(from..at).unwrap_or_default();
                    names.push(match name.contains('\\') {
                        true => json::string(&format!("\"{name}\""))
                            .map_or(Cow::Borrowed(name), |name| Cow::Owned(name.into_owned())),
                        false => Cow::Borrowed(name),
                    });
                }
                at += 1;
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_twice_is_seen_at_any_depth_and_in_any_spelling() {
        for twice in [
            r#"{"a":1,"a":2}"#,
            r#"[{"x":[{"b":{"c":"}","d":"\"","c":1}}]}]"#,
            r#"{"role":"user","\u0072ole":"x"}"#,
            r#"{"a":{"b":1},"c":{"b":1},"a":0}"#,
        ] {
            assert!(repeats(twice), "{twice}");
        }
        for once in [
            "",
            "7",
            "\"",
            r#"{"a":"a","b":"a"}"#,
            r#"[{"a":1},{"a":1}]"#,
            r#"{"a":{"a":{"a":["a","a"]}}}"#,
            r#"{"a":"{\"b\":1,\"b\":2}"}"#,
            "}]{[\"\\",
        ] {
            assert!(!repeats(once), "{once}");
        }
    }
}
