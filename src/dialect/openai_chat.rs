//! OpenAI chat completions, and the many servers that speak it.
//!
//! | what | where it is read |
//! |---|---|
//! | model asked | `model`; without it Azure's `/deployments/{name}/` in the path |
//! | model served, service tier | `model`, `service_tier` of the reply, of any chunk |
//! | stream | `stream`; `stream_options.include_usage` is asked for where a caller did not |
//! | messages, tools | `messages`; `tools` and `functions`; a schema in `response_format.json_schema.schema` |
//! | cap | `max_completion_tokens`, else `max_tokens`; for each of `n` answers |
//! | input, output | `usage.prompt_tokens`, `usage.completion_tokens` (reasoning is added when the total says it is beside) |
//! | cache read | `prompt_tokens_details.cached_tokens`, else DeepSeek's `prompt_cache_hit_tokens`; never Mistral's `num_cached_tokens` |
//! | cache write | `prompt_tokens_details.cache_write_tokens` |
//! | reasoning | `completion_tokens_details.reasoning_tokens` |
//! | sound, pictures, film | `audio_tokens`, `image_tokens`, `video_tokens` of the details |
//! | usage of a stream | the last that is not null, of any chunk; Groq's `x_groq.usage`, Moonshot's `choices[].usage` |
//! | ending | `choices[].finish_reason`, worst of all choices; `refusal` that is not null; `error` |
//! | whole stream | a finish reason for every choice, and `data: [DONE]`; for endpoints said to send none ([`StreamEnd`]) a finish reason for each of the `n` choices and a body that ended by itself |
//! | error | `error` of a reply, a chunk or a choice; an event named `error` |

mod reply;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::identity::find;
use super::prompt::offered;
use super::stream::SseReader;
use super::{
    CapField, Format, FrameFilter, Identity, Image, Message, Outcome, Part, Prompt, Role, Source, StreamEnd,
    StreamReader, StreamShape, Tool, ToolChoice, Usage, assemble, path,
};
use crate::Error;
use crate::call::json::{self, Object};
use crate::call::{Call, Dialect, Doc};

/// OpenAI chat completions.
#[derive(Debug)]
pub(super) struct OpenAiChat;

impl Format for OpenAiChat {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAiChat
    }

    fn claims_path(&self, path: &str) -> bool {
        path.ends_with("/chat/completions")
    }

    fn claims_body(&self, parts: &Parts, doc: &Doc) -> bool {
        // Each message has a role; a model is named. Converse has no model, a UI's own protocol no roles.
        let is_message = |raw: &&str| Object::parse(raw).is_some_and(|message| message.str("role").is_some());
        let path = parts.uri.path();
        !path::is_elsewhere(path)
            && !path::names_task(path)
            && doc.str("model").is_some()
            && doc.elements("messages").is_some_and(|messages| messages.iter().all(is_message))
    }

    fn model(&self, call: &Call) -> Option<String> {
        call.doc.str("model").map(Cow::into_owned).or_else(|| {
            let path = call.parts.uri.path();
            Some(path::decoded(&path[deployment(path)?]))
        })
    }

    fn set_model(&self, call: &mut Call, model: &str) -> Result<(), Error> {
        // On Azure the path decides, whatever the body says; clients send the name in both.
        let deployment = deployment(call.parts.uri.path());
        let mut doc = call.doc.clone();
        if deployment.is_none() || doc.get("model").is_some() {
            doc.set("model", &json::quote(model))?;
        }
        if let Some(segment) = deployment {
            path::replace(&mut call.parts, segment, model)?;
        }
        call.doc = doc;
        Ok(())
    }

    fn wants_stream(&self, call: &Call) -> bool {
        call.doc.bool("stream") == Some(true)
    }

    fn prompt<'a>(&self, call: &'a Call) -> Prompt<'a> {
        let doc = &call.doc;
        let tools = tools(doc).collect();
        Prompt {
            system: Vec::new(),
            messages: doc.elements("messages").unwrap_or_default().into_iter().map(message).collect(),
            tools,
            tool_choice: tool_choice(doc),
            response_schema: doc
                .object("response_format")
                .and_then(|format| format.object("json_schema"))
                .and_then(|schema| schema.some("schema")),
        }
    }

    fn messages_member(&self) -> Option<&'static str> {
        Some("messages")
    }

    fn clear_tool_results(&self, message: &str, text: &str) -> Option<String> {
        let object = Object::parse(message)?;
        if !matches!(object.str("role")?.as_ref(), "tool" | "function") {
            return None;
        }
        let mut doc = Doc::new(message.to_owned());
        doc.set("content", &json::quote(text)).ok()?;
        String::from_utf8(doc.into_bytes().into()).ok()
    }

    fn has_cache_mark(&self, message: &str) -> bool {
        marked(message)
            || Object::parse(message)
                .and_then(|message| message.elements("content"))
                .is_some_and(|parts| parts.iter().any(|part| marked(part)))
    }

    fn cap(&self, call: &Call) -> Option<u64> {
        call.doc.u64("max_completion_tokens").or_else(|| call.doc.u64("max_tokens"))
    }

    fn set_cap(&self, call: &mut Call, tokens: u64, field: CapField) -> Result<(), Error> {
        let name = if call.doc.some("max_completion_tokens").is_some() {
            "max_completion_tokens"
        } else if call.doc.some("max_tokens").is_some() {
            "max_tokens"
        } else {
            match field {
                CapField::MaxCompletionTokens => "max_completion_tokens",
                CapField::MaxTokens => "max_tokens",
                CapField::Auto if speaks_new_cap(call) => "max_completion_tokens",
                CapField::Auto => "max_tokens",
            }
        };
        call.doc.set(name, &tokens.to_string())
    }

    fn cap_floor(&self, _: &Call) -> u64 {
        1
    }

    fn choices(&self, call: &Call) -> u64 {
        call.doc.u64("n").unwrap_or(1).max(1)
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
            "messages/*/content/*/prompt_cache_breakpoint",
            "service_tier",
            "store",
        ]
    }

    fn bypass(&self, call: &Call) -> Option<&'static str> {
        let doc = &call.doc;
        if doc.some("store").is_some_and(|store| store != "false") {
            return Some("store-true");
        }
        if searches(call) {
            return Some("web-search");
        }
        // Azure puts passages of its own index in front of the prompt.
        if ["data_sources", "dataSources"]
            .into_iter()
            .any(|name| doc.some(name).is_some_and(|list| list != "[]"))
        {
            return Some("data-sources");
        }
        if asks(doc, "plugins") {
            return Some("plugins");
        }
        if asks(doc, "deferred") || asks(doc, "background") {
            return Some("background");
        }
        // Spoken answers carry an id that expires.
        let speaks = |kind: &&str| json::string(kind).as_deref() == Some("audio");
        if doc.elements("modalities").is_some_and(|kinds| kinds.iter().any(speaks)) {
            return Some("audio-output");
        }
        let prompt = self.prompt(call);
        if prompt.tools.iter().any(|tool| tool.hosted) {
            return Some("hosted-tool");
        }
        for message in &prompt.messages {
            if let Some(why) = message.parts.iter().find_map(elsewhere) {
                return Some(why);
            }
            if Object::parse(message.raw).is_some_and(|message| message.some("audio").is_some()) {
                return Some("earlier-audio");
            }
        }
        None
    }

    fn offered_tools<'a>(&self, doc: &'a Doc) -> Option<Vec<Cow<'a, str>>> {
        let is_list = |name| doc.some(name).is_none() || doc.elements(name).is_some();
        offered(tools(doc)).filter(|_| is_list("tools") && is_list("functions"))
    }

    fn read_reply(&self, body: &[u8]) -> Outcome {
        reply::read(body)
    }

    fn stream_reader(&self) -> Box<dyn StreamReader> {
        Box::new(SseReader::new(reply::ChatFacts::default()))
    }

    fn identity(&self, body: &[u8], is_stream: bool) -> Identity {
        find(body, is_stream, |finder, chunk| {
            finder.id(chunk, "id");
            finder.seconds(chunk, "created");
        })
    }

    fn stream_reader_for(&self, call: &Call) -> Box<dyn StreamReader> {
        match call.parts.extensions.get::<StreamEnd>() {
            Some(StreamEnd::FinishReason) => {
                Box::new(SseReader::new(reply::ChatFacts::unmarked(self.choices(call))))
            }
            _ => self.stream_reader(),
        }
    }

    fn to_document(&self, stream: &[u8]) -> Option<Bytes> {
        assemble::openai_chat::to_document(stream)
    }

    fn to_stream(&self, document: &[u8], shape: StreamShape) -> Option<Vec<Bytes>> {
        assemble::openai_chat::to_stream(document, shape)
    }

    fn stream_shape(&self, call: &Call) -> StreamShape {
        let options = call.doc.object("stream_options").unwrap_or_default();
        StreamShape::with_usage(options.bool("include_usage") == Some(true))
    }

    fn ask_for_usage(&self, call: &mut Call) {
        if !self.wants_stream(call) || self.stream_shape(call).usage {
            return;
        }
        let mut options = Doc::new(call.doc.some("stream_options").unwrap_or("{}").to_owned());
        // What cannot be edited stays as it is: the answer is then without usage.
        if options.set("include_usage", "true").is_ok()
            && let Ok(text) = std::str::from_utf8(options.bytes())
        {
            let _ = call.doc.set("stream_options", text);
        }
    }

    fn hide_usage(&self) -> Option<Box<dyn FrameFilter>> {
        Some(Box::new(assemble::hide_usage::HideUsage::new()))
    }

    fn usage(&self, json: &str) -> Option<Usage> {
        reply::usage(json)
    }

    fn error_body(&self, _: StatusCode, kind: &str, message: &str) -> Bytes {
        let (kind, message) = (json::quote(kind), json::quote(message));
        format!(r#"{{"error":{{"message":{message},"type":{kind},"param":null,"code":null}}}}"#).into()
    }
}

/// True if the answer draws on a search of the web: asked for in one of the vendors' ways, or done by the model itself.
fn searches(call: &Call) -> bool {
    let doc = &call.doc;
    let is_off = || {
        let parameters = doc.object("search_parameters");
        parameters.and_then(|said| said.str("mode")).is_some_and(|mode| mode == "off")
    };
    doc.some("web_search_options").is_some()
        || (doc.some("search_parameters").is_some() && !is_off())
        || asks(doc, "enable_search")
        || call.model().is_some_and(|model| {
            let name = model.rsplit('/').next().unwrap_or_default();
            name.ends_with(":online")
                || name.contains("-search-preview")
                || name.contains("-search-api")
                || name.starts_with("sonar")
                || name.starts_with("compound")
        })
}

/// True if a member is there and is not `false`, nor an empty list.
fn asks(doc: &Doc, name: &str) -> bool {
    doc.some(name)
        .is_some_and(|value| value != "false" && json::elements(value).is_none_or(|list| !list.is_empty()))
}

/// Content that is not in the request.
pub(super) fn elsewhere(part: &Part<'_>) -> Option<&'static str> {
    match part {
        Part::ToolResult { parts, .. } => parts.iter().find_map(elsewhere),
        Part::Image(Image { source, .. }) | Part::Audio(source) | Part::File(source) => match source {
            Source::Url(url) if url.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("data:")) => None,
            Source::Url(_) => Some("content-by-url"),
            Source::Id(_) => Some("content-by-id"),
            Source::Base64 { .. } => None,
        },
        _ => None,
    }
}

/// Where Azure keeps the name of the deployment in the path.
fn deployment(path: &str) -> Option<Range<usize>> {
    path::segment(path, "/openai/deployments/", '/')
}

/// OpenAI's own hosts know `max_completion_tokens`; of other servers most know only `max_tokens`.
fn speaks_new_cap(call: &Call) -> bool {
    let host = call.parts.uri.host().unwrap_or_default();
    let theirs = host.ends_with("openai.com") || host.ends_with("openai.azure.com");
    // Reasoning models refuse the old field, whoever forwards to them.
    theirs || call.model().is_some_and(|model| is_openai_reasoning(&model))
}

/// True for OpenAI's models that think before they write: o-series, gpt-5 and later.
pub(crate) fn is_openai_reasoning(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let after = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.chars().next());
    after("o").is_some_and(|c| c.is_ascii_digit()) || after("gpt-").is_some_and(|c| ('5'..='9').contains(&c))
}

pub(super) fn marked(part: &str) -> bool {
    Object::parse(part).is_some_and(|part| {
        part.some("prompt_cache_breakpoint").is_some() || part.some("cache_control").is_some()
    })
}

pub(super) fn role(name: &str) -> Role {
    match name {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => Role::Function,
        _ => Role::Other,
    }
}

fn message(raw: &str) -> Message<'_> {
    let Some(object) = Object::parse(raw) else {
        return Message { raw, role: Role::Other, name: None, parts: vec![Part::Unknown(raw)], bare: false };
    };
    let role = object.str("role").map_or(Role::Other, |name| role(&name));
    let content = object.some("content");
    let bare = content.is_some_and(|content| content.starts_with('"'));
    let mut parts = content.map(content_parts).unwrap_or_default();
    if let Some(refusal) = object.str("refusal") {
        parts.push(Part::Text(refusal));
    }
    // DeepSeek and others send the reasoning back beside the content.
    if let Some(thinking) = object.str("reasoning_content") {
        parts.push(Part::Thinking(thinking));
    }
    for call in object.elements("tool_calls").unwrap_or_default() {
        parts.push(tool_call(call));
    }
    if let Some(call) = object.object("function_call") {
        parts.push(Part::ToolCall {
            id: "".into(),
            name: call.str("name").unwrap_or_default(),
            arguments: call.str("arguments").unwrap_or_default(),
            legacy: true,
        });
    }
    if role == Role::Tool {
        let id = object.str("tool_call_id").unwrap_or_default();
        parts = vec![Part::ToolResult { id, parts }];
    } else if role == Role::Function {
        parts = vec![Part::ToolResult { id: "".into(), parts }];
    }
    Message { raw, role, name: object.str("name"), parts, bare }
}

fn tool_call(raw: &str) -> Part<'_> {
    let Some(call) = Object::parse(raw) else { return Part::Unknown(raw) };
    let (body, text) = match (call.object("function"), call.object("custom")) {
        (Some(function), _) => (function, "arguments"),
        (None, Some(custom)) => (custom, "input"),
        (None, None) => return Part::Unknown(raw),
    };
    Part::ToolCall {
        id: call.str("id").unwrap_or_default(),
        name: body.str("name").unwrap_or_default(),
        arguments: body.str(text).unwrap_or_default(),
        legacy: false,
    }
}

pub(super) fn content_parts(content: &str) -> Vec<Part<'_>> {
    if let Some(text) = json::string(content) {
        return vec![Part::Text(text)];
    }
    match json::elements(content) {
        Some(parts) => parts.into_iter().map(content_part).collect(),
        None => vec![Part::Unknown(content)],
    }
}

pub(super) fn content_part(raw: &str) -> Part<'_> {
    let read = || -> Option<Part<'_>> {
        let part = Object::parse(raw)?;
        Some(match part.str("type")?.as_ref() {
            "text" | "input_text" | "output_text" => Part::Text(part.str("text")?),
            "refusal" => Part::Text(part.str("refusal")?),
            "image_url" => {
                let (url, detail) = match part.object("image_url") {
                    Some(image) => (image.str("url")?, image.str("detail")),
                    None => (part.str("image_url")?, part.str("detail")),
                };
                Part::Image(Image { source: Source::of_url(url), detail })
            }
            "input_audio" => {
                let audio = part.object("input_audio")?;
                Part::Audio(Source::Base64 { media_type: audio.str("format"), data: audio.str("data")? })
            }
            "file" => {
                let file = part.object("file")?;
                Part::File(match (file.str("file_data"), file.str("file_id")) {
                    (Some(data), _) => match Source::of_url(data) {
                        Source::Url(data) => Source::Base64 { media_type: None, data },
                        source => source,
                    },
                    (None, id) => Source::Id(id?),
                })
            }
            "input_image" => {
                let source = match part.str("image_url") {
                    Some(url) => Source::of_url(url),
                    None => Source::Id(part.str("file_id")?),
                };
                Part::Image(Image { source, detail: part.str("detail") })
            }
            "input_file" => Part::File(match (part.str("file_data"), part.str("file_url")) {
                (Some(data), _) => match Source::of_url(data) {
                    Source::Url(data) => Source::Base64 { media_type: None, data },
                    source => source,
                },
                (None, Some(url)) => Source::of_url(url),
                (None, None) => Source::Id(part.str("file_id")?),
            }),
            // Mistral's `document_url`, OpenRouter's `video_url` and their like.
            kind if kind.ends_with("_url") => {
                let url = part.object(kind).and_then(|inner| inner.str("url")).or_else(|| part.str(kind));
                Part::File(Source::of_url(url?))
            }
            _ => return None,
        })
    };
    read().unwrap_or(Part::Unknown(raw))
}

/// All tools, those under the old name too.
fn tools(doc: &Doc) -> impl Iterator<Item = Tool<'_>> {
    let functions = doc.elements("functions").unwrap_or_default().into_iter();
    let functions = functions.filter_map(|raw| Some(function_tool(raw, &Object::parse(raw)?)));
    doc.elements("tools").unwrap_or_default().into_iter().map(tool).chain(functions)
}

fn tool(raw: &str) -> Tool<'_> {
    let unknown = || Tool { raw, name: Cow::Borrowed(""), description: None, parameters: None, hosted: true };
    let Some(tool) = Object::parse(raw) else { return unknown() };
    if tool.str("type").is_some_and(|kind| !matches!(&*kind, "function" | "custom")) {
        // Moonshot's `builtin_function` and others' searches run at the vendor, whatever they hold.
        return unknown();
    }
    if let Some(function) = tool.object("function") {
        return function_tool(raw, &function);
    }
    if let Some(custom) = tool.object("custom") {
        return function_tool(raw, &custom);
    }
    unknown()
}

pub(super) fn function_tool<'a>(raw: &'a str, function: &Object<'a>) -> Tool<'a> {
    Tool {
        raw,
        name: function.str("name").unwrap_or_default(),
        description: function.str("description"),
        parameters: function.some("parameters"),
        hosted: false,
    }
}

pub(super) fn tool_choice(doc: &Doc) -> ToolChoice<'_> {
    let Some(choice) = doc.some("tool_choice").or_else(|| doc.some("function_call")) else {
        return ToolChoice::Auto;
    };
    if let Some(word) = json::string(choice) {
        return match word.as_ref() {
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => ToolChoice::Auto,
        };
    }
    let Some(choice) = Object::parse(choice) else { return ToolChoice::Auto };
    if let Some(allowed) = choice.object("allowed_tools") {
        let required = allowed.str("mode").as_deref() == Some("required");
        return if required { ToolChoice::Required } else { ToolChoice::Auto };
    }
    let named = choice.object("function").or_else(|| choice.object("custom")).unwrap_or(choice);
    named.str("name").map_or(ToolChoice::Auto, ToolChoice::Named)
}
