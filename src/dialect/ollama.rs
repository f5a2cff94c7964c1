//! Ollama's own chat and generate calls.
//!
//! | what | where it is read |
//! |---|---|
//! | model asked, served | `model`; the reply only echoes it |
//! | stream | `stream`, true when it is not said |
//! | messages, tools | `system`, `messages` or `prompt`; `tools`; a schema in `format` |
//! | cap | `options.num_predict`; -1 and -2 are none |
//! | input, cache read, output | `prompt_eval_count`, `prompt_eval_cached_count`, `eval_count` of the object with `done: true` |
//! | ending | `done_reason` |
//! | error | `error`, of a reply or on a line of its own |
//! | whole stream | a line with `done: true` |
//!
//! A streamed reply is one JSON object per line, not server-sent events. Reasoning is not counted apart.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::identity::find;
use super::openai_chat::{function_tool, role};
use super::prompt::offered;
use super::stream::{Facts, LineReader};
use super::usage::{Contradiction, count};
use super::{
    Called, CapField, Finish, Format, Identity, Image, Message, Outcome, Part, Prompt, Role, Source,
    StreamReader, StreamShape, Tool, ToolChoice, Usage, assemble,
};
use crate::Error;
use crate::call::json::{self, Object};
use crate::call::{Call, Dialect, Doc};

/// Ollama's own chat and generate calls.
#[derive(Debug)]
pub(super) struct Ollama;

impl Format for Ollama {
    fn dialect(&self) -> Dialect {
        Dialect::OllamaChat
    }

    fn claims_path(&self, path: &str) -> bool {
        path.ends_with("/api/chat") || path.ends_with("/api/generate")
    }

    fn claims_body(&self, _: &Parts, _: &Doc) -> bool {
        false
    }

    fn model(&self, call: &Call) -> Option<String> {
        call.doc.str("model").map(Cow::into_owned)
    }

    fn set_model(&self, call: &mut Call, model: &str) -> Result<(), Error> {
        call.doc.set("model", &json::quote(model))
    }

    fn wants_stream(&self, call: &Call) -> bool {
        call.doc.bool("stream") != Some(false)
    }

    /// The `prompt` of a generate call is one message, which cannot be edited as an element.
    fn prompt<'a>(&self, call: &'a Call) -> Prompt<'a> {
        let doc = &call.doc;
        let mut messages: Vec<_> =
            doc.elements("messages").unwrap_or_default().into_iter().map(message).collect();
        if let Some((raw, text)) = doc.some("prompt").and_then(|raw| Some((raw, json::string(raw)?))) {
            let mut parts = vec![Part::Text(text)];
            parts.extend(doc.str("suffix").map(Part::Text));
            parts.extend(images(doc.elements("images")));
            messages.push(Message { raw, role: Role::User, name: None, parts, bare: true });
        }
        Prompt {
            system: doc.str("system").map(Part::Text).into_iter().collect(),
            messages,
            tools: doc.elements("tools").unwrap_or_default().into_iter().map(tool).collect(),
            tool_choice: ToolChoice::Auto,
            response_schema: doc.some("format").filter(|format| format.starts_with('{')),
        }
    }

    fn messages_member(&self) -> Option<&'static str> {
        Some("messages")
    }

    fn clear_tool_results(&self, message: &str, text: &str) -> Option<String> {
        Object::parse(message)?.str("role").filter(|role| role == "tool")?;
        let mut doc = Doc::new(message.to_owned());
        doc.set("content", &json::quote(text)).ok()?;
        String::from_utf8(doc.into_bytes().into()).ok()
    }

    fn has_cache_mark(&self, _: &str) -> bool {
        false
    }

    fn cap(&self, call: &Call) -> Option<u64> {
        call.doc.object("options")?.u64("num_predict")
    }

    fn set_cap(&self, call: &mut Call, tokens: u64, _: CapField) -> Result<(), Error> {
        let mut options = Doc::new(call.doc.some("options").unwrap_or("{}").to_owned());
        options.set("num_predict", &tokens.to_string())?;
        let text = std::str::from_utf8(options.bytes()).unwrap_or("{}").to_owned();
        call.doc.set("options", &text)
    }

    fn cap_floor(&self, _: &Call) -> u64 {
        1
    }

    fn excluded(&self) -> &'static [&'static str] {
        &["stream", "keep_alive"]
    }

    fn bypass(&self, call: &Call) -> Option<&'static str> {
        let doc = &call.doc;
        let has_messages = doc.elements("messages").is_some_and(|messages| !messages.is_empty());
        let has_prompt = doc.str("prompt").is_some_and(|prompt| !prompt.is_empty());
        if !has_messages && !has_prompt {
            return Some("loads-a-model");
        }
        let debugs = doc.members().any(|(name, value)| name.starts_with("_debug") && value != "false");
        debugs.then_some("debug")
    }

    fn offered_tools<'a>(&self, doc: &'a Doc) -> Option<Vec<Cow<'a, str>>> {
        match doc.some("tools") {
            None => Some(Vec::new()),
            Some(_) => offered(doc.elements("tools")?.into_iter().map(tool)),
        }
    }

    fn read_reply(&self, body: &[u8]) -> Outcome {
        match std::str::from_utf8(body).ok().and_then(Object::parse) {
            Some(reply) => {
                let mut facts = OllamaFacts::default();
                facts.object(&reply);
                facts.outcome(true)
            }
            None => Outcome { finish: Finish::Failed, empty: true, ..Outcome::default() },
        }
    }

    fn stream_reader(&self) -> Box<dyn StreamReader> {
        Box::new(LineReader::new(OllamaFacts::default()))
    }

    fn identity(&self, body: &[u8], is_stream: bool) -> Identity {
        find(body, is_stream, |finder, line| finder.date(line, "created_at"))
    }

    fn to_document(&self, stream: &[u8]) -> Option<Bytes> {
        assemble::ollama::to_document(stream)
    }

    fn to_stream(&self, document: &[u8], _: StreamShape) -> Option<Vec<Bytes>> {
        assemble::ollama::to_stream(document)
    }

    fn stream_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn usage(&self, json: &str) -> Option<Usage> {
        read_usage(&Object::parse(json)?).ok().flatten()
    }

    fn error_body(&self, _: StatusCode, _: &str, message: &str) -> Bytes {
        format!(r#"{{"error":{}}}"#, json::quote(message)).into()
    }
}

fn message(raw: &str) -> Message<'_> {
    let Some(object) = Object::parse(raw) else {
        return Message { raw, role: Role::Other, name: None, parts: vec![Part::Unknown(raw)], bare: false };
    };
    let role = object.str("role").map_or(Role::Other, |name| role(&name));
    let mut parts: Vec<Part<'_>> = object.str("content").map(Part::Text).into_iter().collect();
    parts.extend(object.str("thinking").map(Part::Thinking));
    parts.extend(images(object.elements("images")));
    for call in object.elements("tool_calls").unwrap_or_default() {
        let function = Object::parse(call).and_then(|call| call.object("function")).unwrap_or_default();
        parts.push(Part::ToolCall {
            // Older servers give no ids: results answer in the order of the calls.
            id: Object::parse(call).and_then(|call| call.str("id")).unwrap_or_default(),
            name: function.str("name").unwrap_or_default(),
            arguments: Cow::Borrowed(function.some("arguments").unwrap_or("{}")),
            legacy: false,
        });
    }
    if role == Role::Tool {
        parts = vec![Part::ToolResult { id: object.str("tool_call_id").unwrap_or_default(), parts }];
    }
    Message { raw, role, name: object.str("tool_name"), parts, bare: object.elements("images").is_none() }
}

fn images(list: Option<Vec<&str>>) -> impl Iterator<Item = Part<'_>> {
    list.unwrap_or_default().into_iter().map(|raw| match json::string(raw) {
        Some(data) => Part::Image(Image { source: Source::Base64 { media_type: None, data }, detail: None }),
        None => Part::Unknown(raw),
    })
}

fn tool(raw: &str) -> Tool<'_> {
    let function = Object::parse(raw).and_then(|tool| tool.object("function")).unwrap_or_default();
    function_tool(raw, &function)
}

fn read_usage(object: &Object<'_>) -> Result<Option<Usage>, Contradiction> {
    let usage = Usage {
        input: count(object, "prompt_eval_count")?,
        read: count(object, "prompt_eval_cached_count")?,
        output: count(object, "eval_count")?,
        ..Usage::default()
    };
    if usage.input.is_none() && usage.output.is_none() { Ok(None) } else { usage.checked(None).map(Some) }
}

#[derive(Clone, Debug, Default)]
struct OllamaFacts {
    model: Option<String>,
    usage: Option<Usage>,
    /// How it ended; set by the object with `done: true`.
    finish: Option<Finish>,
    has_content: bool,
    broken: bool,
    called: Called,
    text_bytes: u64,
    failed: bool,
    unread: bool,
}

impl OllamaFacts {
    fn object(&mut self, object: &Object<'_>) {
        self.failed |= object.some("error").is_some();
        if let Some(model) = object.str("model").filter(|model| self.model.as_deref() != Some(model)) {
            self.model = Some(model.into_owned());
        }
        let message = object.object("message").unwrap_or_default();
        let len = |object: &Object<'_>, name: &str| object.str(name).map_or(0, |text| text.len() as u64);
        let said = len(&message, "content") + len(object, "response");
        // `image` is what models that draw answer with.
        self.has_content |= said > 0 || len(object, "image") > 0;
        self.text_bytes += said + len(&message, "thinking") + len(object, "thinking");
        for call in message.elements("tool_calls").unwrap_or_default() {
            self.has_content = true;
            let function = Object::parse(call).and_then(|call| call.object("function"));
            // Arguments are an object here, a text in OpenAI's format.
            let function = function.unwrap_or_default();
            self.called.add(&function.str("name").unwrap_or_default());
            let arguments = function.some("arguments").unwrap_or_default();
            self.text_bytes += arguments.len() as u64;
            self.broken |= !arguments.starts_with('{');
        }
        if object.bool("done") == Some(true) {
            self.usage = read_usage(object).ok().flatten();
            self.finish = Some(match object.str("done_reason").as_deref() {
                Some("stop") => Finish::Whole,
                Some("length") => Finish::Truncated,
                Some("") => Finish::Partial,
                _ => Finish::Unknown,
            });
        }
    }
}

impl Facts for OllamaFacts {
    fn event(&mut self, _: Option<&str>, data: &str) {
        match Object::parse(data) {
            Some(object) => self.object(&object),
            None => self.unread = true,
        }
    }

    fn outcome(&self, _ended: bool) -> Outcome {
        let finish = match self.finish {
            _ if self.failed => Finish::Failed,
            None => Finish::Partial,
            Some(_) if self.unread => Finish::Unknown,
            Some(finish) => finish,
        };
        Outcome {
            model: self.model.clone(),
            service_tier: None,
            usage: self.usage,
            finish,
            empty: !self.has_content,
            broken_tool_call: self.broken,
            called: self.called.clone(),
            text_bytes: self.text_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_and_edited() {
        let mut call = Call::post(
            "http://127.0.0.1:11434/api/chat",
            r#"{"model":"llama3.2:1b","messages":[{"role":"user","content":"hi"}],"options":{"num_ctx":4096}}"#,
        );
        assert_eq!((call.dialect, call.wants_stream(), Ollama.cap(&call)), (Dialect::OllamaChat, true, None));
        assert_eq!(Ollama.bypass(&call), None);
        Ollama.set_cap(&mut call, 32, CapField::Auto).unwrap();
        assert_eq!(Ollama.cap(&call), Some(32));
        assert_eq!(call.doc.get("options"), Some(r#"{"num_ctx":4096,"num_predict":32}"#));
        let load = Call::post("http://127.0.0.1:11434/api/generate", r#"{"model":"llama3.2:1b"}"#);
        assert_eq!(Ollama.bypass(&load), Some("loads-a-model"));
    }

    #[test]
    fn a_stream_of_lines_is_read_wherever_it_is_cut() {
        let stream = "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"é\"},\"done\":false}\n{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":32,\"prompt_eval_cached_count\":8,\"eval_count\":3}\n";
        for cut in 0..=stream.len() {
            let mut reader = Ollama.stream_reader();
            reader.push(&stream.as_bytes()[..cut]);
            reader.push(&stream.as_bytes()[cut..]);
            let outcome = reader.outcome(true);
            assert!(outcome.is_good(), "cut at {cut}");
            assert_eq!(outcome.usage, Some(Usage::of(32, 3).with_read(8)));
            assert_eq!(outcome.text_bytes, 2);
        }
        let mut reader = Ollama.stream_reader();
        reader.push(stream.trim_end().as_bytes());
        assert!(reader.outcome(true).is_good(), "the last line may lack its end");
        let mut reader = Ollama.stream_reader();
        reader.push(stream.split_inclusive('\n').next().unwrap().as_bytes());
        assert_eq!(reader.outcome(true).finish, Finish::Partial);
        reader.push(b"{\"error\":\"out of memory\"}\n");
        assert_eq!(reader.outcome(true).finish, Finish::Failed);
    }
}
