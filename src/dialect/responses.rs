//! OpenAI Responses.
//!
//! | what | where it is read |
//! |---|---|
//! | model asked, served | `model` of the request, of the reply |
//! | stream | `stream` |
//! | messages, tools | `instructions`, `input`; `tools`; a schema in `text.format.schema` |
//! | cap | `max_output_tokens`, 16 or more |
//! | input, output | `usage.input_tokens`, `usage.output_tokens`, both with their parts |
//! | cache read, cache write | `input_tokens_details.cached_tokens`; `cache_write_tokens`, of which `cache_write_tokens_details.ttl_12h_tokens` is long |
//! | reasoning | `output_tokens_details.reasoning_tokens` |
//! | searches | `tool_usage.web_search.num_requests`, beside `usage` |
//! | ending | `status`, `incomplete_details.reason`, a content part of type `refusal` |
//! | whole stream | `response.completed`, which holds the whole reply |
//! | error | `error` of a reply, `status: failed`, an event `error` |

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::identity::{Finder, find};
use super::mould::Mould;
use super::openai_chat::{
    OpenAiChat, content_part, content_parts, elsewhere, function_tool, marked, role, tool_choice,
};
use super::prompt::offered;
use super::stream::{Facts, SseReader, is_json, worse};
use super::usage::{Contradiction, count};
use super::{
    CapField, Finish, Format, Identity, Image, Message, Outcome, Part, Prompt, Role, Source, StreamReader,
    StreamShape, Tool, ToolChoice, Usage, assemble, path,
};
use crate::Error;
use crate::call::json::{self, Object};
use crate::call::{Call, Dialect, Doc};

/// OpenAI Responses.
#[derive(Debug)]
pub(super) struct Responses;

impl Format for Responses {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAiResponses
    }

    fn claims_path(&self, path: &str) -> bool {
        path::is_endpoint(path, "responses", &["openai"])
    }

    fn claims_body(&self, parts: &Parts, doc: &Doc) -> bool {
        let telling = ["max_output_tokens", "instructions", "previous_response_id"];
        // Counting and compacting have the same members and are no answers; speech has an input and instructions.
        !path::is_elsewhere(parts.uri.path())
            && doc.get("voice").is_none()
            && doc.get("input").is_some()
            && telling.iter().any(|name| doc.get(name).is_some())
    }

    fn model(&self, call: &Call) -> Option<String> {
        call.doc.str("model").map(Cow::into_owned)
    }

    fn set_model(&self, call: &mut Call, model: &str) -> Result<(), Error> {
        call.doc.set("model", &json::quote(model))
    }

    fn wants_stream(&self, call: &Call) -> bool {
        call.doc.bool("stream") == Some(true)
    }

    /// An input that is one string is one message, which cannot be edited as an element.
    fn prompt<'a>(&self, call: &'a Call) -> Prompt<'a> {
        let doc = &call.doc;
        let input = doc.some("input").unwrap_or("[]");
        let messages = match (json::string(input), json::elements(input)) {
            (Some(text), _) => vec![Message {
                raw: input,
                role: Role::User,
                name: None,
                parts: vec![Part::Text(text)],
                bare: true,
            }],
            (None, items) => items.unwrap_or_default().into_iter().map(item).collect(),
        };
        Prompt {
            system: doc.str("instructions").map(Part::Text).into_iter().collect(),
            messages,
            tools: doc.elements("tools").unwrap_or_default().into_iter().map(tool).collect(),
            tool_choice: choice(doc),
            response_schema: doc
                .object("text")
                .and_then(|text| text.object("format"))
                .and_then(|format| format.some("schema")),
        }
    }

    fn messages_member(&self) -> Option<&'static str> {
        Some("input")
    }

    fn clear_tool_results(&self, message: &str, text: &str) -> Option<String> {
        Object::parse(message)?.str("type").filter(|kind| kind.ends_with("_call_output"))?;
        let mut doc = Doc::new(message.to_owned());
        doc.set("output", &json::quote(text)).ok()?;
        String::from_utf8(doc.into_bytes().into()).ok()
    }

    fn has_cache_mark(&self, message: &str) -> bool {
        OpenAiChat.has_cache_mark(message)
            || Object::parse(message)
                .and_then(|message| message.elements("output"))
                .is_some_and(|parts| parts.iter().any(|part| marked(part)))
    }

    fn cap(&self, call: &Call) -> Option<u64> {
        call.doc.u64("max_output_tokens")
    }

    fn set_cap(&self, call: &mut Call, tokens: u64, _: CapField) -> Result<(), Error> {
        call.doc.set("max_output_tokens", &tokens.to_string())
    }

    /// The API refuses less than 16.
    fn cap_floor(&self, _: &Call) -> u64 {
        16
    }

    fn excluded(&self) -> &'static [&'static str] {
        &[
            "stream",
            "stream_options",
            "user",
            "safety_identifier",
            "metadata",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "input/*/content/*/prompt_cache_breakpoint",
            "input/*/output/*/prompt_cache_breakpoint",
            "service_tier",
            "store",
        ]
    }

    fn bypass(&self, call: &Call) -> Option<&'static str> {
        let doc = &call.doc;
        if doc.some("store").is_some_and(|store| store != "false") {
            return Some("store-true");
        }
        for (name, why) in [
            ("previous_response_id", "earlier-response"),
            ("conversation", "conversation"),
            ("background", "background"),
            ("background_options", "background"),
        ] {
            if doc.some(name).is_some_and(|value| value != "false") {
                return Some(why);
            }
        }
        if let Some(prompt) = doc.object("prompt") {
            if prompt.some("version").is_none() {
                return Some("prompt-without-version");
            }
            let variables = prompt.object("variables").unwrap_or_default();
            if let Some(why) = variables.iter().find_map(|(_, value)| elsewhere(&content_part(value))) {
                return Some(why);
            }
        }
        let prompt = self.prompt(call);
        if prompt.tools.iter().any(|tool| tool.hosted) {
            return Some("hosted-tool");
        }
        prompt.messages.iter().find_map(|message| {
            let kind = Object::parse(message.raw).and_then(|item| item.str("type"));
            if kind.as_deref() == Some("item_reference") {
                return Some("item-reference");
            }
            let screen = screenshot(message.raw);
            message.parts.iter().find_map(elsewhere).or_else(|| elsewhere(&screen?))
        })
    }

    /// A prompt that is kept at the provider brings tools of its own, and an item may bring more.
    fn offered_tools<'a>(&self, doc: &'a Doc) -> Option<Vec<Cow<'a, str>>> {
        let brings = |item: &str| Object::parse(item).is_none_or(|item| item.some("tools").is_some());
        if doc.some("prompt").is_some() || doc.elements("input").unwrap_or_default().into_iter().any(brings) {
            return None;
        }
        match doc.some("tools") {
            None => Some(Vec::new()),
            Some(_) => offered(doc.elements("tools")?.into_iter().map(tool)),
        }
    }

    fn read_reply(&self, body: &[u8]) -> Outcome {
        match std::str::from_utf8(body).ok().and_then(Object::parse) {
            Some(reply) => read(&reply),
            None => Outcome { finish: Finish::Failed, empty: true, ..Outcome::default() },
        }
    }

    fn stream_reader(&self) -> Box<dyn StreamReader> {
        Box::new(SseReader::new(ResponseFacts::default()))
    }

    fn identity(&self, body: &[u8], is_stream: bool) -> Identity {
        find(body, is_stream, |finder, event| {
            if !is_stream {
                return identity_of(finder, event);
            }
            if let Some(object) = event.object("response") {
                identity_of(finder, &object);
            }
            if let Some(object) = event.object("item") {
                identity_of_item(finder, &object);
            }
            finder.id(event, "item_id");
        })
    }

    fn to_document(&self, stream: &[u8]) -> Option<Bytes> {
        assemble::responses::to_document(stream)
    }

    fn to_stream(&self, document: &[u8], _: StreamShape) -> Option<Vec<Bytes>> {
        assemble::responses::to_stream(document)
    }

    fn usage(&self, json: &str) -> Option<Usage> {
        read_usage(&Object::parse(json)?).ok().flatten()
    }

    fn error_body(&self, status: StatusCode, kind: &str, message: &str) -> Bytes {
        OpenAiChat.error_body(status, kind, message)
    }
}

/// A response, unless it is kept at the provider: then it goes on to be known by its id.
fn identity_of<'a>(finder: &mut Finder<'a>, response: &Object<'a>) {
    if response.bool("store") != Some(false) {
        return finder.leave();
    }
    finder.id(response, "id");
    finder.seconds(response, "created_at");
    finder.seconds(response, "completed_at");
    let items = response.elements("output").unwrap_or_default();
    items.into_iter().filter_map(Object::parse).for_each(|item| identity_of_item(finder, &item));
}

/// An item. What is encrypted is bound to the id and comes back with it: the provider refuses it under another one.
fn identity_of_item<'a>(finder: &mut Finder<'a>, item: &Object<'a>) {
    finder.id(item, "id");
    if item.some("encrypted_content").is_some() {
        finder.keep(item, "id");
    }
}

fn item(raw: &str) -> Message<'_> {
    let unknown =
        || Message { raw, role: Role::Other, name: None, parts: vec![Part::Unknown(raw)], bare: false };
    let Some(object) = Object::parse(raw) else { return unknown() };
    let plain = |role, part| Message { raw, role, name: None, parts: vec![part], bare: false };
    match object.str("type").as_deref() {
        None | Some("message") => {
            let content = object.some("content");
            Message {
                raw,
                role: object.str("role").map_or(Role::Other, |name| role(&name)),
                name: None,
                parts: content.map(content_parts).unwrap_or_default(),
                bare: content.is_some_and(|content| content.starts_with('"')),
            }
        }
        Some(kind @ ("function_call" | "custom_tool_call")) => {
            let arguments = object.str(if kind == "function_call" { "arguments" } else { "input" });
            plain(
                Role::Assistant,
                Part::ToolCall {
                    id: object.str("call_id").unwrap_or_default(),
                    name: object.str("name").unwrap_or_default(),
                    arguments: arguments.unwrap_or_default(),
                    legacy: false,
                },
            )
        }
        Some("function_call_output" | "custom_tool_call_output") => plain(
            Role::Tool,
            Part::ToolResult {
                id: object.str("call_id").unwrap_or_default(),
                parts: object.some("output").map(content_parts).unwrap_or_default(),
            },
        ),
        Some("reasoning") => {
            let texts = |name| object.elements(name).unwrap_or_default();
            let parts = texts("content").into_iter().chain(texts("summary"));
            let text: String =
                parts.filter_map(|part| Object::parse(part)?.str("text").map(Cow::into_owned)).collect();
            plain(Role::Assistant, Part::Thinking(Cow::Owned(text)))
        }
        Some(_) => match content_part(raw) {
            Part::Unknown(_) => unknown(),
            part => plain(Role::User, part),
        },
    }
}

/// The picture that answers a `computer_call`.
fn screenshot(raw: &str) -> Option<Part<'_>> {
    let item = Object::parse(raw)?;
    item.str("type").filter(|kind| kind == "computer_call_output")?;
    let output = item.object("output")?;
    let source = match (output.str("image_url"), output.str("file_id")) {
        (Some(url), _) => Source::of_url(url),
        (None, id) => Source::Id(id?),
    };
    Some(Part::Image(Image { source, detail: None }))
}

/// As in chat, but the list of allowed tools stands in the choice itself.
fn choice(doc: &Doc) -> ToolChoice<'_> {
    let said = doc.object("tool_choice").unwrap_or_default();
    match (said.str("type").as_deref(), said.str("mode").as_deref()) {
        (Some("allowed_tools"), Some("required")) => ToolChoice::Required,
        (Some("allowed_tools"), _) => ToolChoice::Auto,
        _ => tool_choice(doc),
    }
}

fn tool(raw: &str) -> Tool<'_> {
    let object = Object::parse(raw).unwrap_or_default();
    let hosted = !matches!(object.str("type").as_deref(), Some("function" | "custom"));
    Tool { hosted, ..function_tool(raw, &object) }
}

fn read_usage(object: &Object<'_>) -> Result<Option<Usage>, Contradiction> {
    let (input, output) = (count(object, "input_tokens")?, count(object, "output_tokens")?);
    if input.is_none() && output.is_none() {
        return Ok(None);
    }
    let of_input = object.object("input_tokens_details").unwrap_or_default();
    let of_output = object.object("output_tokens_details").unwrap_or_default();
    let split = of_input.object("cache_write_tokens_details").unwrap_or_default();
    let written = count(&of_input, "cache_write_tokens")?;
    let write_long = count(&split, "ttl_12h_tokens")?;
    let write_short = match written {
        Some(written) => Some(written.checked_sub(write_long.unwrap_or(0)).ok_or(Contradiction)?),
        None => count(&split, "ttl_30m_tokens")?,
    };
    let usage = Usage {
        input,
        read: count(&of_input, "cached_tokens")?,
        write_short,
        write_long,
        output,
        reasoning: count(&of_output, "reasoning_tokens")?,
        input_audio: count(&of_input, "audio_tokens")?,
        input_image: count(&of_input, "image_tokens")?,
        output_audio: count(&of_output, "audio_tokens")?,
        output_image: count(&of_output, "image_tokens")?,
        ..Usage::default()
    };
    usage.checked(count(object, "total_tokens")?).map(Some)
}

fn read(reply: &Object<'_>) -> Outcome {
    let reason = reply.object("incomplete_details").and_then(|details| details.str("reason"));
    let mut outcome = Outcome {
        model: reply.str("model").map(Cow::into_owned),
        service_tier: reply.str("service_tier").map(Cow::into_owned),
        usage: reply.object("usage").and_then(|usage| read_usage(&usage).ok().flatten()),
        finish: match (reply.str("status").as_deref(), reason.as_deref()) {
            _ if reply.some("error").is_some() => Finish::Failed,
            (Some("completed"), _) => Finish::Whole,
            (Some("incomplete"), Some("max_output_tokens")) => Finish::Truncated,
            (Some("incomplete"), Some("content_filter")) => Finish::Refused,
            (Some("failed"), _) => Finish::Failed,
            _ => Finish::Unknown,
        },
        empty: true,
        ..Outcome::default()
    };
    let searches = reply
        .object("tool_usage")
        .and_then(|tools| tools.object("web_search"))
        .and_then(|search| search.u64("num_requests"));
    if let Some(usage) = &mut outcome.usage {
        usage.searches = searches;
    }
    for item in reply.elements("output").unwrap_or_default() {
        match Object::parse(item) {
            Some(item) => output_item(&mut outcome, &item),
            None => outcome.finish = worse(outcome.finish, Finish::Unknown),
        }
    }
    outcome
}

fn output_item(outcome: &mut Outcome, item: &Object<'_>) {
    let len = |object: &Object<'_>, name: &str| object.str(name).map_or(0, |text| text.len() as u64);
    let parts = |name: &str| item.elements(name).unwrap_or_default().into_iter().filter_map(Object::parse);
    match item.str("type").as_deref() {
        Some("message") => {
            for part in parts("content") {
                let (text, refusal) = (len(&part, "text"), len(&part, "refusal"));
                outcome.text_bytes += text + refusal;
                outcome.empty &= text == 0;
                if part.str("type").as_deref() == Some("refusal") {
                    outcome.finish = worse(outcome.finish, Finish::Refused);
                }
            }
        }
        Some("function_call") => {
            outcome.empty = false;
            outcome.text_bytes += len(item, "arguments");
            outcome.broken_tool_call |= !item.str("arguments").is_some_and(|text| is_json(&text));
            outcome.called.add(&item.str("name").unwrap_or_default());
        }
        Some("custom_tool_call") => {
            outcome.empty = false;
            outcome.text_bytes += len(item, "input");
            outcome.called.add(&item.str("name").unwrap_or_default());
        }
        Some("reasoning") => {
            outcome.text_bytes += parts("content").map(|part| len(&part, "text")).sum::<u64>();
        }
        Some("image_generation_call") => outcome.empty &= item.some("result").is_none(),
        _ => {}
    }
}

#[derive(Debug, Default)]
struct ResponseFacts {
    /// What the terminal event says: it holds the whole reply.
    terminal: Option<Outcome>,
    model: Option<String>,
    text_bytes: u64,
    has_content: bool,
    failed: bool,
    last: Mould,
}

impl Facts for ResponseFacts {
    fn event(&mut self, name: Option<&str>, data: &str) {
        if let Some(said) = self.last.fit(name, data) {
            self.text_bytes += said;
            return;
        }
        let Some(object) = Object::parse(data) else {
            self.failed |= name == Some("error");
            return;
        };
        let kind = object.str("type").unwrap_or_else(|| name.unwrap_or_default().into());
        match kind.as_ref() {
            "response.completed" | "response.incomplete" | "response.failed" => {
                let mut outcome = object.object("response").map(|reply| read(&reply)).unwrap_or_default();
                if kind != "response.completed" && outcome.finish == Finish::Whole {
                    outcome.finish = Finish::Unknown;
                }
                if kind == "response.failed" {
                    outcome.finish = Finish::Failed;
                }
                self.terminal = Some(outcome);
            }
            "response.created" => {
                self.model =
                    object.object("response").and_then(|reply| Some(reply.str("model")?.into_owned()));
            }
            "error" => self.failed = true,
            kind if kind.ends_with(".delta") => {
                let len = object.str("delta").map_or(0, |text| text.len() as u64);
                self.text_bytes += len;
                self.has_content |= len > 0 && !kind.contains("reasoning") && !kind.contains("refusal");
                if let Some(text) = object.get("delta").filter(|_| len > 0) {
                    let others = [object.get("sequence_number"), object.get("obfuscation")];
                    self.last.set(name, data, text, others);
                }
            }
            _ => {}
        }
    }

    fn outcome(&self, _ended: bool) -> Outcome {
        let mut outcome = self.terminal.clone().unwrap_or_else(|| Outcome {
            model: self.model.clone(),
            finish: Finish::Partial,
            empty: !self.has_content,
            text_bytes: self.text_bytes,
            ..Outcome::default()
        });
        if self.failed {
            outcome.finish = Finish::Failed;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = r#"{"id":"resp_T1","object":"response","status":"completed","error":null,"incomplete_details":null,"model":"gpt-6-luna","output":[{"type":"reasoning","id":"rs_1","summary":[]},{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"11","annotations":[]}]}],"usage":{"input_tokens":1400,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":1380,"cache_write_tokens_details":{"ttl_30m_tokens":1080,"ttl_12h_tokens":300}},"output_tokens":74,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":1474},"service_tier":"default","store":false}"#;

    #[test]
    fn a_reply_and_a_stream_of_it_are_read_alike() {
        let whole = Responses.read_reply(REPLY.as_bytes());
        let usage = whole.usage.unwrap();
        assert!(whole.is_good());
        assert_eq!((usage.input, usage.write_short, usage.write_long), (Some(1400), Some(1080), Some(300)));
        let start = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-6-luna\",\"status\":\"in_progress\"}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"11\"}\n\n";
        let end = format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{REPLY}}}\n\n"
        );
        let mut reader = Responses.stream_reader();
        reader.push(start.as_bytes());
        let partial = reader.outcome(true);
        assert_eq!((partial.finish, partial.text_bytes, partial.usage), (Finish::Partial, 2, None));
        reader.push(end.as_bytes());
        assert_eq!(reader.outcome(true), whole);
    }

    #[test]
    fn each_ending_has_its_meaning() {
        for (from, to, want) in [
            (
                "\"completed\",\"error\":null",
                "\"failed\",\"error\":{\"code\":\"server_error\"}",
                Finish::Failed,
            ),
            (
                "\"status\":\"completed\",\"error\":null,\"incomplete_details\":null",
                "\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"}",
                Finish::Truncated,
            ),
            ("\"type\":\"output_text\",\"text\"", "\"type\":\"refusal\",\"refusal\"", Finish::Refused),
        ] {
            assert!(REPLY.contains(from));
            assert_eq!(Responses.read_reply(REPLY.replace(from, to).as_bytes()).finish, want, "{to}");
        }
    }

    #[test]
    fn a_request_is_read_and_what_depends_on_more_is_a_bypass() {
        let call = |body: &str| Call::post("https://api.openai.com/v1/responses", body.to_owned());
        let good = call(
            r#"{"model":"m","instructions":"be brief","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]},
            {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"42"}],
            "tools":[{"type":"function","name":"f","parameters":{}}],"max_output_tokens":64,"store":false}"#,
        );
        assert_eq!(
            (good.dialect, Responses.cap(&good), Responses.bypass(&good)),
            (Dialect::OpenAiResponses, Some(64), None)
        );
        let prompt = Responses.prompt(&good);
        assert_eq!(prompt.messages[1].calls().next(), prompt.messages[2].results().next());
        let cleared = Responses.clear_tool_results(prompt.messages[2].raw, "gone").unwrap();
        assert_eq!(cleared, r#"{"type":"function_call_output","call_id":"c","output":"gone"}"#);
        for (member, why) in [
            (r#""store":true"#, "store-true"),
            (r#""previous_response_id":"r""#, "earlier-response"),
            (r#""background":true"#, "background"),
            (r#""prompt":{"id":"p"}"#, "prompt-without-version"),
            (r#""tools":[{"type":"web_search"}]"#, "hosted-tool"),
            (r#""input":[{"type":"item_reference","id":"i"}]"#, "item-reference"),
            (
                r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"https://h/p.png"}]}]"#,
                "content-by-url",
            ),
            (r#""input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]"#, "content-by-id"),
        ] {
            let call = call(&format!(r#"{{"model":"m",{member}}}"#));
            assert_eq!(Responses.bypass(&call), Some(why), "{member}");
        }
    }
}
