//! Gemini `generateContent`, on Google's own hosts and on Vertex.
//!
//! | what | where it is read |
//! |---|---|
//! | model asked, stream | the path: `/models/{model}:generateContent` or `:streamGenerateContent` |
//! | model served | `modelVersion` |
//! | messages, tools | `systemInstruction`, `contents`; `tools[].functionDeclarations`; a schema in `generationConfig.responseSchema` or `.responseJsonSchema` |
//! | cap | `generationConfig.maxOutputTokens` (thoughts included) |
//! | smallest cap | `thinkingConfig.thinkingBudget` plus one |
//! | input | `promptTokenCount` + `toolUsePromptTokenCount` |
//! | cache read | `cachedContentTokenCount` |
//! | output, reasoning | `candidatesTokenCount` + `thoughtsTokenCount`; a count that is missing beside a total is 0 |
//! | text, sound, pictures, film | the `..TokensDetails` lists; DOCUMENT counts as pictures |
//! | usage of a stream | the last `usageMetadata` |
//! | ending | `candidates[].finishReason`, `promptFeedback.blockReason` |
//! | whole stream | a finish reason for every candidate, and a body that ended by itself; of an array, its closing bracket |
//! | error | `error`, of the body or of the only element of an array |
//!
//! A stream asked for without `alt=sse` is one JSON array of the same chunks, which arrive one by one. It is read and
//! stored as it is: it has a key of its own, and no other kind of answer is made from it. An array whose bracket never
//! came is partial, whatever its candidates said.
//!
//! Field names are read in camelCase and, since Google's own clients send them too, in snake_case.

mod reply;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, Uri};

use self::reply::{GeminiFacts, read_usage};
use super::identity::find;
use super::openai_chat::elsewhere;
use super::prompt::offered;
use super::stream::{ArrayOrEvents, Facts};
use super::{
    CapField, Finish, Format, Identity, Image, Message, Outcome, Part, Prompt, Role, Source, StreamReader,
    StreamShape, Tool, ToolChoice, Usage, assemble, path,
};
use crate::call::json::{self, Object};
use crate::call::{Call, Dialect, Doc};
use crate::{Error, Kind};

/// Gemini `generateContent`.
#[derive(Debug)]
pub(super) struct Gemini;

impl Format for Gemini {
    fn dialect(&self) -> Dialect {
        Dialect::GeminiGenerate
    }

    fn claims_path(&self, path: &str) -> bool {
        (path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent"))
            && named_in(path).is_some()
    }

    fn claims_body(&self, _: &Parts, _: &Doc) -> bool {
        false
    }

    fn model(&self, call: &Call) -> Option<String> {
        let path = call.parts.uri.path();
        named_in(path)
            .map(|(_, segment)| path::decoded(&path[segment]))
            .or_else(|| call.doc.str("model").map(Cow::into_owned))
    }

    fn set_model(&self, call: &mut Call, model: &str) -> Result<(), Error> {
        let segment = model_in(call.parts.uri.path()).ok_or_else(|| {
            Error::new(Kind::NotEditable, "the path names no model", "send the call to a path of the API")
        })?;
        path::replace(&mut call.parts, segment, model.strip_prefix("models/").unwrap_or(model))
    }

    fn wants_stream(&self, call: &Call) -> bool {
        call.parts.uri.path().ends_with(":streamGenerateContent")
    }

    /// With `alt=sse` a stream says the same as a document, so both have one key. Without it the stream is one JSON
    /// array, which is another kind of answer.
    fn key_path<'a>(&self, uri: &'a Uri) -> (Cow<'a, str>, Vec<&'a str>) {
        let query = uri.query().into_iter().flat_map(|query| query.split('&'));
        match uri.path().strip_suffix(":streamGenerateContent") {
            Some(model) if is_sse(uri) => {
                (format!("{model}:generateContent").into(), query.filter(|pair| *pair != "alt=sse").collect())
            }
            _ => (uri.path().into(), query.collect()),
        }
    }

    fn prompt<'a>(&self, call: &'a Call) -> Prompt<'a> {
        let doc = &call.doc;
        let system = either(doc, "systemInstruction", "system_instruction");
        let config = config(doc);
        Prompt {
            system: system
                .and_then(Object::parse)
                .and_then(|system| system.elements("parts"))
                .map(|list| list.into_iter().map(part).collect())
                .unwrap_or_default(),
            messages: doc.elements("contents").unwrap_or_default().into_iter().map(message).collect(),
            tools: doc.elements("tools").unwrap_or_default().into_iter().flat_map(tools).collect(),
            tool_choice: tool_choice(doc),
            response_schema: [
                "responseSchema",
                "responseJsonSchema",
                "response_schema",
                "response_json_schema",
            ]
            .into_iter()
            .find_map(|name| config.some(name)),
        }
    }

    fn messages_member(&self) -> Option<&'static str> {
        Some("contents")
    }

    /// Results of functions are objects here, so the text becomes the only member of one.
    fn clear_tool_results(&self, message: &str, text: &str) -> Option<String> {
        let answer = format!(r#"{{"result":{}}}"#, json::quote(text));
        let cleared = |part: &str| -> Option<String> {
            let object = Object::parse(part)?;
            let (name, response) = ["functionResponse", "function_response"]
                .into_iter()
                .find_map(|name| Some((name, object.some(name)?)))?;
            let mut inner = Doc::new(response.to_owned());
            inner.set("response", &answer).ok()?;
            let mut doc = Doc::new(part.to_owned());
            doc.set(name, std::str::from_utf8(inner.bytes()).ok()?).ok()?;
            String::from_utf8(doc.into_bytes().into()).ok()
        };
        let mut doc = Doc::new(message.to_owned());
        doc.elements("parts")?.into_iter().find_map(cleared)?;
        doc.edit_elements("parts", |_, part| {
            cleared(part).map_or(crate::call::Element::Keep, crate::call::Element::Replace)
        })
        .ok()?;
        String::from_utf8(doc.into_bytes().into()).ok()
    }

    fn has_cache_mark(&self, _: &str) -> bool {
        false
    }

    fn cap(&self, call: &Call) -> Option<u64> {
        let config = config(&call.doc);
        config.u64("maxOutputTokens").or_else(|| config.u64("max_output_tokens"))
    }

    fn set_cap(&self, call: &mut Call, tokens: u64, _: CapField) -> Result<(), Error> {
        let has_snake =
            call.doc.some("generation_config").is_some() && call.doc.some("generationConfig").is_none();
        let name = if has_snake { "generation_config" } else { "generationConfig" };
        let mut config = Doc::new(call.doc.some(name).unwrap_or("{}").to_owned());
        let field =
            if config.some("max_output_tokens").is_some() { "max_output_tokens" } else { "maxOutputTokens" };
        config.set(field, &tokens.to_string())?;
        let text = std::str::from_utf8(config.bytes()).unwrap_or("{}").to_owned();
        call.doc.set(name, &text)
    }

    fn cap_floor(&self, call: &Call) -> u64 {
        let config = config(&call.doc);
        let thinking = config.object("thinkingConfig").or_else(|| config.object("thinking_config"));
        let budget = thinking.and_then(|t| t.u64("thinkingBudget").or_else(|| t.u64("thinking_budget")));
        budget.map_or(1, |budget| budget.saturating_add(1))
    }

    fn choices(&self, call: &Call) -> u64 {
        let config = config(&call.doc);
        config.u64("candidateCount").or_else(|| config.u64("candidate_count")).unwrap_or(1).max(1)
    }

    fn excluded(&self) -> &'static [&'static str] {
        &["labels", "serviceTier", "store"]
    }

    /// `cachedContent` is no reason: its name is given once and what it names never changes, only when it expires.
    fn bypass(&self, call: &Call) -> Option<&'static str> {
        let doc = &call.doc;
        if doc.some("store").is_some_and(|store| store != "false") {
            return Some("store-true");
        }
        if either(doc, "continuationToken", "continuation_token").is_some() {
            return Some("continuation");
        }
        let servers = either(doc, "mcpServers", "mcp_servers").and_then(json::elements);
        if servers.is_some_and(|servers| !servers.is_empty()) {
            return Some("mcp-servers");
        }
        let prompt = self.prompt(call);
        if prompt.tools.iter().any(|tool| tool.hosted) {
            return Some("hosted-tool");
        }
        let mut parts = prompt.system.iter().chain(prompt.messages.iter().flat_map(|message| &message.parts));
        parts.find_map(elsewhere)
    }

    /// Cached content may hold tools.
    fn offered_tools<'a>(&self, doc: &'a Doc) -> Option<Vec<Cow<'a, str>>> {
        if either(doc, "cachedContent", "cached_content").is_some() {
            return None;
        }
        match doc.some("tools") {
            None => Some(Vec::new()),
            Some(_) => offered(doc.elements("tools")?.into_iter().flat_map(tools)),
        }
    }

    fn read_reply(&self, body: &[u8]) -> Outcome {
        let failed = || Outcome { finish: Finish::Failed, empty: true, ..Outcome::default() };
        let Ok(text) = std::str::from_utf8(body) else { return failed() };
        let mut facts = GeminiFacts::default();
        if let Some(reply) = Object::parse(text) {
            facts.chunk(&reply);
        } else if let Some(chunks) = json::elements(text) {
            // A stream of one array whose bytes are all at hand, or an error in a list.
            chunks.into_iter().for_each(|chunk| facts.event(None, chunk));
        } else {
            return failed();
        }
        facts.outcome(true)
    }

    fn stream_reader(&self) -> Box<dyn StreamReader> {
        Box::new(ArrayOrEvents::new(GeminiFacts::default()))
    }

    fn stream_shape(&self, call: &Call) -> StreamShape {
        let shape = StreamShape::with_usage(true);
        if is_sse(&call.parts.uri) { shape } else { shape.as_array() }
    }

    fn identity(&self, body: &[u8], is_stream: bool) -> Identity {
        find(body, is_stream, |finder, chunk| {
            finder.id(chunk, "responseId");
            finder.date(chunk, "createTime");
        })
    }

    fn to_document(&self, stream: &[u8]) -> Option<Bytes> {
        assemble::gemini::to_document(stream)
    }

    fn to_stream(&self, document: &[u8], shape: StreamShape) -> Option<Vec<Bytes>> {
        if shape.array {
            // Stored under a key of its own, it came as the array it is.
            let is_array = document.trim_ascii_start().first() == Some(&b'[');
            return is_array.then(|| vec![Bytes::copy_from_slice(document)]);
        }
        assemble::gemini::to_stream(document)
    }

    fn usage(&self, json: &str) -> Option<Usage> {
        read_usage(&Object::parse(json)?).ok().flatten()
    }

    fn error_body(&self, status: StatusCode, kind: &str, message: &str) -> Bytes {
        let (code, kind, message) = (status.as_u16(), json::quote(kind), json::quote(message));
        format!(r#"{{"error":{{"code":{code},"message":{message},"status":{kind}}}}}"#).into()
    }
}

/// True if a stream is asked for as server-sent events rather than as one array.
fn is_sse(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"))
}

/// What stands before an endpoint of Vertex with a tuned model. Its name is no model to choose, so it is only read.
const ENDPOINTS: &str = "/endpoints/";

/// Where a path of Google's names what is to answer, and after which word; the last such word counts. What is to be
/// done stands behind the last colon, at the very end.
fn named_in(path: &str) -> Option<(&'static str, Range<usize>)> {
    let (head, task) = path.rsplit_once(':')?;
    let words = ["/models/", "/tunedModels/", ENDPOINTS].into_iter();
    words
        .filter_map(|after| Some((after, head.rfind(after)? + after.len()..head.len())))
        .max_by_key(|(_, segment)| segment.start)
        .filter(|(_, segment)| !segment.is_empty() && !task.contains('/'))
}

/// Where the model stands in a path of Google's, still percent-encoded.
pub(super) fn model_in(path: &str) -> Option<Range<usize>> {
    named_in(path).filter(|(after, _)| *after != ENDPOINTS).map(|(_, segment)| segment)
}

fn either<'a>(doc: &'a Doc, camel: &str, snake: &str) -> Option<&'a str> {
    doc.some(camel).or_else(|| doc.some(snake))
}

fn config(doc: &Doc) -> Object<'_> {
    either(doc, "generationConfig", "generation_config").and_then(Object::parse).unwrap_or_default()
}

fn message(raw: &str) -> Message<'_> {
    let object = Object::parse(raw).unwrap_or_default();
    let role = match object.str("role").as_deref() {
        Some("user") | None => Role::User,
        Some("model") => Role::Assistant,
        Some("function" | "tool") => Role::Tool,
        Some(_) => Role::Other,
    };
    let parts = match object.elements("parts") {
        Some(parts) => parts.into_iter().map(part).collect(),
        None => vec![Part::Unknown(raw)],
    };
    Message { raw, role, name: None, parts, bare: false }
}

fn part(raw: &str) -> Part<'_> {
    let read = || -> Option<Part<'_>> {
        let part = Object::parse(raw)?;
        let object = |camel: &str, snake: &str| part.object(camel).or_else(|| part.object(snake));
        if let Some(text) = part.str("text") {
            let thought = part.bool("thought") == Some(true);
            return Some(if thought { Part::Thinking(text) } else { Part::Text(text) });
        }
        if let Some(call) = object("functionCall", "function_call") {
            return Some(Part::ToolCall {
                id: call.str("id").or_else(|| call.str("name")).unwrap_or_default(),
                name: call.str("name").unwrap_or_default(),
                arguments: Cow::Borrowed(call.some("args").unwrap_or("{}")),
                legacy: false,
            });
        }
        if let Some(result) = object("functionResponse", "function_response") {
            return Some(Part::ToolResult {
                id: result.str("id").or_else(|| result.str("name")).unwrap_or_default(),
                parts: result
                    .some("response")
                    .map(|response| Part::Text(response.into()))
                    .into_iter()
                    .chain(result.elements("parts").unwrap_or_default().into_iter().map(part_of_result))
                    .collect(),
            });
        }
        let (data, source) = match (object("inlineData", "inline_data"), object("fileData", "file_data")) {
            (Some(data), _) => {
                let source = Source::Base64 { media_type: media_type(&data), data: data.str("data")? };
                (data, source)
            }
            (None, Some(data)) => {
                let url = data.str("fileUri").or_else(|| data.str("file_uri"))?;
                (data, Source::Url(url))
            }
            (None, None) => return None,
        };
        let kind = media_type(&data).unwrap_or_default();
        Some(if kind.starts_with("image/") {
            Part::Image(Image { source, detail: None })
        } else if kind.starts_with("audio/") {
            Part::Audio(source)
        } else {
            Part::File(source)
        })
    };
    read().unwrap_or(Part::Unknown(raw))
}

/// A picture or document within a function's answer. It holds no answers itself, so depth is bounded.
fn part_of_result(raw: &str) -> Part<'_> {
    let nests = Object::parse(raw)
        .is_some_and(|part| part.get("functionResponse").or_else(|| part.get("function_response")).is_some());
    if nests { Part::Unknown(raw) } else { part(raw) }
}

fn media_type<'a>(data: &Object<'a>) -> Option<Cow<'a, str>> {
    data.str("mimeType").or_else(|| data.str("mime_type"))
}

/// The functions of one entry of `tools`; each other member is a tool that Google runs.
fn tools(raw: &str) -> Vec<Tool<'_>> {
    let Some(object) = Object::parse(raw) else { return Vec::new() };
    let mut all = Vec::new();
    for (name, value) in object.iter().filter(|(_, value)| *value != "null") {
        if !matches!(name, "functionDeclarations" | "function_declarations") {
            let name = Cow::Owned(name.to_owned());
            all.push(Tool { raw, name, description: None, parameters: None, hosted: true });
            continue;
        }
        for raw in json::elements(value).unwrap_or_default() {
            let function = Object::parse(raw).unwrap_or_default();
            all.push(Tool {
                raw,
                name: function.str("name").unwrap_or_default(),
                description: function.str("description"),
                parameters: ["parameters", "parametersJsonSchema", "parameters_json_schema"]
                    .into_iter()
                    .find_map(|name| function.some(name)),
                hosted: false,
            });
        }
    }
    all
}

fn tool_choice<'a>(doc: &'a Doc) -> ToolChoice<'a> {
    let config = either(doc, "toolConfig", "tool_config").and_then(Object::parse).unwrap_or_default();
    let calling = config.object("functionCallingConfig").or_else(|| config.object("function_calling_config"));
    let calling = calling.unwrap_or_default();
    let allowed = |calling: &Object<'a>| {
        calling.elements("allowedFunctionNames").or_else(|| calling.elements("allowed_function_names"))
    };
    match calling.str("mode").as_deref() {
        Some("ANY") => match allowed(&calling).as_deref() {
            Some([name]) => json::string(name).map_or(ToolChoice::Required, ToolChoice::Named),
            _ => ToolChoice::Required,
        },
        Some("NONE") => ToolChoice::None,
        _ => ToolChoice::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str =
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent";

    #[test]
    fn the_model_is_in_the_path_and_the_cap_in_the_config() {
        let mut call = Call::post(
            URI,
            r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"generationConfig":{"maxOutputTokens":256,"thinkingConfig":{"thinkingBudget":128}}}"#,
        );
        assert_eq!(
            (call.dialect, call.model().as_deref()),
            (Dialect::GeminiGenerate, Some("gemini-2.5-flash"))
        );
        assert_eq!(
            (Gemini.cap(&call), Gemini.cap_floor(&call), Gemini.bypass(&call)),
            (Some(256), 129, None)
        );
        call.set_model("gemini-2.5-pro").unwrap();
        assert_eq!(call.parts.uri, URI.replace("flash", "pro").as_str());
        Gemini.set_cap(&mut call, 200, CapField::Auto).unwrap();
        assert_eq!(
            call.doc.bytes(),
            r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"generationConfig":{"maxOutputTokens":200,"thinkingConfig":{"thinkingBudget":128}}}"#
        );
        let mut bare = Call::post(URI, r#"{"contents":[]}"#);
        Gemini.set_cap(&mut bare, 9, CapField::Auto).unwrap();
        assert_eq!(bare.doc.bytes(), r#"{"contents":[],"generationConfig":{"maxOutputTokens":9}}"#);
        for (body, why) in [
            (r#"{"tools":[{"googleSearch":{}}]}"#, "hosted-tool"),
            (r#"{"store":true}"#, "store-true"),
            (
                r#"{"contents":[{"parts":[{"fileData":{"mimeType":"image/png","fileUri":"gs://b/o"}}]}]}"#,
                "content-by-url",
            ),
        ] {
            assert_eq!(Gemini.bypass(&Call::post(URI, body)), Some(why), "{body}");
        }
    }

    #[test]
    fn a_stream_is_whole_when_every_candidate_finished_and_the_body_ended() {
        let stream = "data: {\"candidates\":[{\"index\":0,\"content\":{\"parts\":[{\"text\":\"1\"}]}}],\"usageMetadata\":{\"promptTokenCount\":8,\"totalTokenCount\":98,\"thoughtsTokenCount\":90}}\r\n\r\ndata: {\"candidates\":[{\"index\":0,\"content\":{\"parts\":[{\"text\":\"1\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":8,\"candidatesTokenCount\":2,\"thoughtsTokenCount\":90,\"totalTokenCount\":100},\"modelVersion\":\"gemini-2.5-flash\"}\r\n\r\n";
        for cut in 0..=stream.len() {
            let mut reader = Gemini.stream_reader();
            reader.push(&stream.as_bytes()[..cut]);
            reader.push(&stream.as_bytes()[cut..]);
            let outcome = reader.outcome(true);
            assert!(outcome.is_good(), "cut at {cut}");
            assert_eq!(outcome.usage.and_then(|usage| usage.output), Some(92));
            assert_eq!(reader.outcome(false).finish, Finish::Partial);
        }
    }

    #[test]
    fn a_blocked_prompt_and_a_candidate_without_content_are_no_answers() {
        let blocked = Gemini.read_reply(br#"{"promptFeedback":{"blockReason":"SAFETY"}}"#);
        assert_eq!(blocked.finish, Finish::Refused);
        let empty = Gemini.read_reply(br#"{"candidates":[{"finishReason":"MAX_TOKENS"}]}"#);
        assert_eq!((empty.finish, empty.empty), (Finish::Truncated, true));
        assert_eq!(Gemini.read_reply(br#"[{"error":{"code":429}}]"#).finish, Finish::Failed);
    }
}
