//! Anthropic Messages.
//!
//! | what | where it is read |
//! |---|---|
//! | model asked | Vertex's `/publishers/anthropic/models/{model}:` or Bedrock's `/model/{model}/` in the path, else `model` |
//! | model served | `model` of the reply, `message.model` of `message_start` |
//! | service tier | `usage.service_tier`; `fast` when `usage.speed` says so |
//! | stream | `stream`; on the clouds the path: `:streamRawPredict`, `/invoke-with-response-stream` |
//! | messages, tools | `system`, `messages`; `tools`; a schema in `output_config.format.schema` |
//! | cap | `max_tokens` |
//! | smallest cap | `thinking.budget_tokens` plus one while thinking is enabled |
//! | input | `input_tokens` + `cache_read_input_tokens` + `cache_creation_input_tokens` |
//! | cache read, cache write | `cache_read_input_tokens`; `cache_creation.ephemeral_5m_input_tokens` and `.._1h_..`, the rest of `cache_creation_input_tokens` is short |
//! | output, reasoning | `output_tokens`, `output_tokens_details.thinking_tokens` |
//! | searches | `server_tool_use.web_search_requests` |
//! | usage of a stream | `message_start` without its output count, then the last value of each field of `message_delta` |
//! | ending | `stop_reason`, of `message_delta` in a stream; `type: error` |
//! | whole stream | `message_stop` |
//!
//! | error | `type: error` of a body or an event, `error` |
//!
//! Of `usage.iterations` a reply's `message` entries are in the counts of the whole and `compaction` entries come on top.
//! An entry of another model (`advisor_message`) makes the usage unknown: one set of counts cannot tell two models'
//! work, and too little would be wrong. [`Format::usage`] reads the counts of the whole alone.

mod reply;
mod request;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::identity::find;
use super::stream::SseReader;
use super::{CapField, Format, Identity, Outcome, Prompt, StreamReader, StreamShape, Usage, assemble, path};
use crate::Error;
use crate::call::{Call, Dialect, Doc, json};

/// Anthropic Messages.
#[derive(Debug)]
pub(super) struct AnthropicMessages;

impl Format for AnthropicMessages {
    fn dialect(&self) -> Dialect {
        Dialect::AnthropicMessages
    }

    fn claims_path(&self, path: &str) -> bool {
        path::is_endpoint(path, "messages", &["anthropic"])
            || model_in(path).is_some_and(|segment| {
                // Bedrock serves other vendors' models too, in formats of their own.
                path.contains(VERTEX) || path[segment].contains("anthropic.")
            })
    }

    fn claims_body(&self, parts: &Parts, doc: &Doc) -> bool {
        !path::is_elsewhere(parts.uri.path())
            && doc.elements("messages").is_some()
            && doc.get("max_tokens").is_some()
            && (doc.get("system").is_some()
                || doc.get("anthropic_version").is_some()
                || parts.headers.contains_key("anthropic-version"))
    }

    fn model(&self, call: &Call) -> Option<String> {
        // Where the path names one it decides, whatever the body says.
        let path = call.parts.uri.path();
        match model_in(path) {
            Some(segment) => Some(path::decoded(&path[segment])),
            None => call.doc.str("model").map(Cow::into_owned),
        }
    }

    fn set_model(&self, call: &mut Call, model: &str) -> Result<(), Error> {
        let Some(segment) = model_in(call.parts.uri.path()) else {
            return call.doc.set("model", &json::quote(model));
        };
        let mut doc = call.doc.clone();
        if doc.get("model").is_some() {
            doc.set("model", &json::quote(model))?;
        }
        path::replace(&mut call.parts, segment, model)?;
        call.doc = doc;
        Ok(())
    }

    fn wants_stream(&self, call: &Call) -> bool {
        let path = call.parts.uri.path();
        call.doc.bool("stream") == Some(true)
            || path.ends_with(":streamRawPredict")
            || path.ends_with("/invoke-with-response-stream")
    }

    fn prompt<'a>(&self, call: &'a Call) -> Prompt<'a> {
        request::prompt(call)
    }

    fn messages_member(&self) -> Option<&'static str> {
        Some("messages")
    }

    fn clear_tool_results(&self, message: &str, text: &str) -> Option<String> {
        request::clear_tool_results(message, text)
    }

    fn has_cache_mark(&self, message: &str) -> bool {
        request::has_cache_mark(message)
    }

    fn cap(&self, call: &Call) -> Option<u64> {
        call.doc.u64("max_tokens")
    }

    fn set_cap(&self, call: &mut Call, tokens: u64, _: CapField) -> Result<(), Error> {
        call.doc.set("max_tokens", &tokens.to_string())
    }

    fn cap_floor(&self, call: &Call) -> u64 {
        let thinking =
            call.doc.object("thinking").filter(|thinking| thinking.str("type").as_deref() == Some("enabled"));
        thinking
            .and_then(|thinking| thinking.u64("budget_tokens"))
            .map_or(1, |budget| budget.saturating_add(1))
    }

    fn excluded(&self) -> &'static [&'static str] {
        &[
            "stream",
            "metadata",
            "service_tier",
            "inference_geo",
            "speed",
            "diagnostics",
            "cache_control",
            "system/*/cache_control",
            "messages/*/content/*/cache_control",
            "messages/*/content/*/content/*/cache_control",
            "tools/*/cache_control",
        ]
    }

    fn bypass(&self, call: &Call) -> Option<&'static str> {
        request::bypass(call)
    }

    fn offered_tools<'a>(&self, doc: &'a Doc) -> Option<Vec<Cow<'a, str>>> {
        request::offered_tools(doc)
    }

    fn read_reply(&self, body: &[u8]) -> Outcome {
        reply::read(body)
    }

    fn stream_reader(&self) -> Box<dyn StreamReader> {
        Box::new(SseReader::new(reply::MessageFacts::default()))
    }

    fn identity(&self, body: &[u8], is_stream: bool) -> Identity {
        find(body, is_stream, |finder, event| match event.object("message") {
            Some(message) if is_stream => finder.id(&message, "id"),
            _ if is_stream => {}
            _ => finder.id(event, "id"),
        })
    }

    fn to_document(&self, stream: &[u8]) -> Option<Bytes> {
        assemble::anthropic::to_document(stream)
    }

    fn to_stream(&self, document: &[u8], _: StreamShape) -> Option<Vec<Bytes>> {
        assemble::anthropic::to_stream(document)
    }

    fn usage(&self, json: &str) -> Option<Usage> {
        reply::usage(json)
    }

    fn error_body(&self, _: StatusCode, kind: &str, message: &str) -> Bytes {
        let (kind, message) = (json::quote(kind), json::quote(message));
        format!(r#"{{"type":"error","error":{{"type":{kind},"message":{message}}}}}"#).into()
    }
}

/// What stands in front of a model on Vertex.
const VERTEX: &str = "/publishers/anthropic/models/";

/// Where clouds that serve Claude keep the model: a range of the path, still percent-encoded. On Bedrock it may be the
/// name of a profile, which tells no vendor.
fn model_in(path: &str) -> Option<Range<usize>> {
    if path.ends_with(":rawPredict") || path.ends_with(":streamRawPredict") {
        return path::segment(path, VERTEX, ':');
    }
    let bedrock = path.ends_with("/invoke") || path.ends_with("/invoke-with-response-stream");
    path::segment(path, "/model/", '/').filter(|_| bedrock)
}
