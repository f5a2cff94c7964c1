//! Requests of Anthropic Messages: the prompt in the neutral form, and edits of it.

use std::borrow::Cow;

use crate::call::json::{self, Object};
use crate::call::{Call, Doc, Element};
use crate::dialect::prompt::offered;
use crate::dialect::{Image, Message, Part, Prompt, Role, Source, Tool, ToolChoice};

/// How deep results of tools may nest before the rest is taken as it stands. The API knows one level.
const MAX_NESTING: usize = 4;

/// Tools defined by the vendor and run by the client.
const CLIENT_RUN: [&str; 4] = ["bash_", "text_editor_", "memory_", "computer_"];

pub(super) fn prompt(call: &Call) -> Prompt<'_> {
    let doc = &call.doc;
    Prompt {
        system: doc.some("system").map(|system| parts(system, 0)).unwrap_or_default(),
        messages: doc.elements("messages").unwrap_or_default().into_iter().map(message).collect(),
        tools: doc.elements("tools").unwrap_or_default().into_iter().map(tool).collect(),
        tool_choice: tool_choice(doc),
        response_schema: doc
            .object("output_config")
            .and_then(|config| config.object("format"))
            .or_else(|| doc.object("output_format"))
            .and_then(|format| format.some("schema")),
    }
}

fn message(raw: &str) -> Message<'_> {
    let Some(object) = Object::parse(raw) else {
        return Message { raw, role: Role::Other, name: None, parts: vec![Part::Unknown(raw)], bare: false };
    };
    let role = match object.str("role").as_deref() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => Role::Other,
    };
    let content = object.some("content");
    Message {
        raw,
        role,
        name: None,
        parts: content.map(|content| parts(content, 0)).unwrap_or_default(),
        bare: content.is_some_and(|content| content.starts_with('"')),
    }
}

/// A content: one string, or a list of blocks.
fn parts(content: &str, depth: usize) -> Vec<Part<'_>> {
    if let Some(text) = json::string(content) {
        return vec![Part::Text(text)];
    }
    match json::elements(content) {
        Some(blocks) => blocks.into_iter().map(|block| part(block, depth)).collect(),
        None => vec![Part::Unknown(content)],
    }
}

fn part(raw: &str, depth: usize) -> Part<'_> {
    let read = || -> Option<Part<'_>> {
        let block = Object::parse(raw)?;
        Some(match block.str("type")?.as_ref() {
            "text" => Part::Text(block.str("text")?),
            "image" => Part::Image(Image { source: source(&block.object("source")?)?, detail: None }),
            "document" => document(&block.object("source")?, depth)?,
            "tool_use" => Part::ToolCall {
                id: block.str("id")?,
                name: block.str("name")?,
                arguments: Cow::Borrowed(block.some("input").unwrap_or("{}")),
                legacy: false,
            },
            "tool_result" if depth < MAX_NESTING => Part::ToolResult {
                id: block.str("tool_use_id")?,
                parts: block.some("content").map(|content| parts(content, depth + 1)).unwrap_or_default(),
            },
            "thinking" => Part::Thinking(block.str("thinking")?),
            // Encrypted, but billed like the text it stands for.
            "redacted_thinking" => Part::Thinking(block.str("data")?),
            _ => return None,
        })
    };
    read().unwrap_or(Part::Unknown(raw))
}

fn source<'a>(source: &Object<'a>) -> Option<Source<'a>> {
    Some(match source.str("type")?.as_ref() {
        "base64" => Source::Base64 { media_type: source.str("media_type"), data: source.str("data")? },
        "url" => Source::Url(source.str("url")?),
        "file" => Source::Id(source.str("file_id")?),
        _ => return None,
    })
}

fn document<'a>(object: &Object<'a>, depth: usize) -> Option<Part<'a>> {
    match object.str("type")?.as_ref() {
        "text" => Some(Part::Text(object.str("data")?)),
        // A list of blocks in the place of one; a single text is all that the neutral form has room for.
        "content" if depth < MAX_NESTING => match parts(object.some("content")?, depth + 1) {
            mut parts if parts.len() == 1 => parts.pop(),
            _ => None,
        },
        _ => source(object).map(Part::File),
    }
}

fn tool(raw: &str) -> Tool<'_> {
    let Some(tool) = Object::parse(raw) else {
        return Tool { raw, name: Cow::Borrowed(""), description: None, parameters: None, hosted: true };
    };
    let hosted = tool.str("type").is_some_and(|kind| {
        // A search over the tools of this very request depends on nothing else.
        kind != "custom"
            && !kind.starts_with("tool_search_")
            && !CLIENT_RUN.iter().any(|run| kind.starts_with(run))
    });
    Tool {
        raw,
        name: tool.str("name").unwrap_or_default(),
        description: tool.str("description"),
        parameters: tool.some("input_schema"),
        hosted,
    }
}

/// The names of all tools, if the client runs them all.
pub(super) fn offered_tools(doc: &Doc) -> Option<Vec<Cow<'_, str>>> {
    match doc.some("tools") {
        None => Some(Vec::new()),
        Some(_) => offered(doc.elements("tools")?.into_iter().map(tool)),
    }
}

fn tool_choice(doc: &Doc) -> ToolChoice<'_> {
    let Some(choice) = doc.object("tool_choice") else { return ToolChoice::Auto };
    match choice.str("type").as_deref() {
        Some("none") => ToolChoice::None,
        Some("any") => ToolChoice::Required,
        Some("tool") => choice.str("name").map_or(ToolChoice::Auto, ToolChoice::Named),
        _ => ToolChoice::Auto,
    }
}

/// The message with the content of its tool results replaced; ids, `is_error` and marks stay as they are.
pub(super) fn clear_tool_results(message: &str, text: &str) -> Option<String> {
    let is_result = |block: &str| {
        Object::parse(block).is_some_and(|block| block.str("type").as_deref() == Some("tool_result"))
    };
    let blocks = Object::parse(message)?.elements("content")?;
    if !blocks.into_iter().any(is_result) {
        return None;
    }
    let (text, mut failed) = (json::quote(text), false);
    let mut doc = Doc::new(message.to_owned());
    doc.edit_elements("content", |_, block| {
        if !is_result(block) {
            return Element::Keep;
        }
        let mut result = Doc::new(block.to_owned());
        match result
            .set("content", &text)
            .ok()
            .and_then(|()| String::from_utf8(result.into_bytes().into()).ok())
        {
            Some(block) => Element::Replace(block),
            None => {
                failed = true;
                Element::Keep
            }
        }
    })
    .ok()?;
    if failed { None } else { String::from_utf8(doc.into_bytes().into()).ok() }
}

/// True if a block of the message, or one inside a tool result of it, carries a mark.
pub(super) fn has_cache_mark(message: &str) -> bool {
    let marked = |block: &Object<'_>| block.some("cache_control").is_some();
    fn blocks<'a>(object: &Object<'a>) -> Vec<&'a str> {
        object.elements("content").unwrap_or_default()
    }
    Object::parse(message).is_some_and(|message| {
        blocks(&message).into_iter().filter_map(Object::parse).any(|block| {
            marked(&block) || blocks(&block).into_iter().filter_map(Object::parse).any(|inner| marked(&inner))
        })
    })
}

/// Why the call may not be cached, if so.
pub(super) fn bypass(call: &Call) -> Option<&'static str> {
    let doc = &call.doc;
    for (name, why) in [
        ("container", "container"),
        ("mcp_servers", "mcp-servers"),
        ("fallbacks", "fallbacks"),
        ("fallback_credit_token", "fallbacks"),
        ("compaction", "compaction"),
        ("thread", "thread"),
    ] {
        // An empty list asks for nothing.
        if doc.some(name).is_some_and(|value| json::elements(value).is_none_or(|list| !list.is_empty())) {
            return Some(why);
        }
    }
    if doc.u64("max_tokens") == Some(0) {
        return Some("warm-up");
    }
    let prompt = prompt(call);
    if prompt.tools.iter().any(|tool| tool.hosted) {
        return Some("hosted-tool");
    }
    let mut all = prompt.system.iter().chain(prompt.messages.iter().flat_map(|message| &message.parts));
    all.find_map(|part| elsewhere(part, 0))
}

/// Content that is not in the request.
fn elsewhere(part: &Part<'_>, depth: usize) -> Option<&'static str> {
    match part {
        Part::ToolResult { parts, .. } => parts.iter().find_map(|part| elsewhere(part, depth)),
        Part::Image(Image { source, .. }) | Part::Audio(source) | Part::File(source) => match source {
            Source::Url(_) => Some("content-by-url"),
            Source::Id(_) => Some("content-by-id"),
            Source::Base64 { .. } => None,
        },
        Part::Unknown(raw) if depth < MAX_NESTING => unknown_elsewhere(raw, depth),
        _ => None,
    }
}

/// A block of an unknown kind, or a document of several blocks, may still say where its content is.
fn unknown_elsewhere(raw: &str, depth: usize) -> Option<&'static str> {
    let block = Object::parse(raw)?;
    if block.str("type").as_deref() == Some("container_upload") {
        return Some("content-by-id");
    }
    let source = block.object("source")?;
    match source.str("type")?.as_ref() {
        "url" => Some("content-by-url"),
        "file" => Some("content-by-id"),
        "content" => {
            let inner = parts(source.some("content")?, depth + 1);
            inner.iter().find_map(|part| elsewhere(part, depth + 1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &str) -> Call {
        Call::post("https://api.anthropic.com/v1/messages", body.to_owned())
    }

    #[test]
    fn a_prompt_is_read_in_all_its_forms() {
        let call = call(
            r#"{"model":"claude-haiku-4-5","max_tokens":64,"system":[{"type":"text","text":"rules"}],
            "tools":[{"name":"f","description":"d","input_schema":{"type":"object"}},
                {"type":"web_search_20250305","name":"web_search"},{"type":"bash_20250124","name":"bash"}],
            "tool_choice":{"type":"any"},
            "messages":[{"role":"user","content":"hi"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},
                {"type":"redacted_thinking","data":"xx"},{"type":"tool_use","id":"t1","name":"f","input":{"a":1}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"r"},
                {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA"}}]},
                {"type":"document","source":{"type":"text","media_type":"text/plain","data":"doc"}},
                {"type":"new_kind","x":1}]}]}"#,
        );
        let prompt = prompt(&call);
        assert!(matches!(&prompt.system[..], [Part::Text(text)] if text == "rules"));
        assert_eq!(prompt.tools.iter().map(|tool| tool.hosted).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(prompt.tool_choice, ToolChoice::Required);
        assert!(prompt.messages[0].bare && !prompt.messages[1].bare);
        assert!(matches!(&prompt.messages[1].parts[..],
            [Part::Thinking(_), Part::Thinking(_), Part::ToolCall { id, arguments, .. }]
            if id == "t1" && arguments == r#"{"a":1}"#));
        assert_eq!(prompt.messages[1].calls().collect::<Vec<_>>(), ["t1"]);
        assert_eq!(prompt.messages[2].results().collect::<Vec<_>>(), ["t1"]);
        assert!(matches!(&prompt.messages[2].parts[..],
            [Part::ToolResult { parts, .. }, Part::Text(doc), Part::Unknown(_)]
            if parts.len() == 2 && doc == "doc"));
        assert_eq!(call.format().bypass(&call), Some("hosted-tool"));
    }

    #[test]
    fn clearing_tool_results_keeps_everything_else_byte_for_byte() {
        let message = r#"{"role":"user", "content":[{"type":"tool_result","tool_use_id":"t", "content":[{"type":"text","text":"long"}],"is_error":true,"cache_control":{"type":"ephemeral"}}, {"type":"text","text":"go on"} ]}"#;
        let want = r#"{"role":"user", "content":[{"type":"tool_result","tool_use_id":"t", "content":"gone","is_error":true,"cache_control":{"type":"ephemeral"}}, {"type":"text","text":"go on"} ]}"#;
        assert_eq!(clear_tool_results(message, "gone").as_deref(), Some(want));
        assert_eq!(clear_tool_results(r#"{"role":"user","content":"hi"}"#, "gone"), None);
        assert!(has_cache_mark(message));
        assert!(!has_cache_mark(r#"{"role":"user","content":"cache_control"}"#));
        assert!(has_cache_mark(
            r#"{"content":[{"type":"tool_result","content":[{"type":"text","text":"x","cache_control":{}}]}]}"#
        ));
    }

    #[test]
    fn what_depends_on_more_than_the_request_is_a_bypass() {
        let with = |member: &str| {
            let call = call(&format!(r#"{{"model":"m","max_tokens":9,"messages":[],{member}}}"#));
            call.format().bypass(&call)
        };
        let content = |block: &str| with(&format!(r#""system":[{block}]"#));
        assert_eq!(with(r#""metadata":{"user_id":"u"}"#), None);
        assert_eq!(with(r#""container":"c""#), Some("container"));
        assert_eq!(with(r#""mcp_servers":[]"#), None);
        assert_eq!(with(r#""mcp_servers":[{"url":"x"}]"#), Some("mcp-servers"));
        assert_eq!(
            with(r#""tools":[{"type":"web_fetch_20250910","name":"web_fetch"}]"#),
            Some("hosted-tool")
        );
        assert_eq!(with(r#""tools":[{"type":"computer_20250124","name":"c"},{"name":"f"}]"#), None);
        let url = r#"{"type":"image","source":{"type":"url","url":"https://h/p.png"}}"#;
        assert_eq!(content(url), Some("content-by-url"));
        assert_eq!(
            content(&format!(r#"{{"type":"tool_result","tool_use_id":"t","content":[{url}]}}"#)),
            Some("content-by-url"),
            "inside a tool result too"
        );
        assert_eq!(
            content(&format!(
                r#"{{"type":"document","source":{{"type":"content","content":[{{"type":"text","text":"x"}},{url}]}}}}"#
            )),
            Some("content-by-url"),
            "inside a document of blocks too"
        );
        let file = r#"{"type":"document","source":{"type":"file","file_id":"f"}}"#;
        assert_eq!(content(file), Some("content-by-id"));
        let warm = call(r#"{"model":"m","max_tokens":0,"messages":[]}"#);
        assert_eq!(warm.format().bypass(&warm), Some("warm-up"));
    }
}
