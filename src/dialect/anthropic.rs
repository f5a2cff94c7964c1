//! Anthropic Messages.

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::opaque::Opaque;
use super::{CapField, Format, Outcome, Prompt, StreamReader, Usage};
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
        path.ends_with("/messages")
    }

    fn claims_body(&self, parts: &Parts, doc: &Doc) -> bool {
        doc.elements("messages").is_some()
            && doc.get("max_tokens").is_some()
            && (doc.get("system").is_some() || parts.headers.contains_key("anthropic-version"))
    }

    fn model(&self, call: &Call) -> Option<String> {
        call.doc.str("model").map(|model| model.into_owned())
    }

    fn set_model(&self, call: &mut Call, model: &str) -> Result<(), Error> {
        call.doc.set("model", &json::quote(model))
    }

    fn wants_stream(&self, call: &Call) -> bool {
        call.doc.bool("stream") == Some(true)
    }

    fn prompt<'a>(&self, _call: &'a Call) -> Prompt<'a> {
        Prompt::default()
    }

    fn messages_member(&self) -> Option<&'static str> {
        Some("messages")
    }

    fn clear_tool_results(&self, _message: &str, _text: &str) -> Option<String> {
        None
    }

    fn has_cache_mark(&self, _message: &str) -> bool {
        false
    }

    fn cap(&self, call: &Call) -> Option<u64> {
        call.doc.u64("max_tokens")
    }

    fn set_cap(&self, call: &mut Call, tokens: u64, _: CapField) -> Result<(), Error> {
        call.doc.set("max_tokens", &tokens.to_string())
    }

    fn cap_floor(&self, _call: &Call) -> u64 {
        1
    }

    fn excluded(&self) -> &'static [&'static str] {
        &[]
    }

    fn bypass(&self, _call: &Call) -> Option<&'static str> {
        None
    }

    fn read_reply(&self, _body: &[u8]) -> Outcome {
        Outcome::default()
    }

    fn stream_reader(&self) -> Box<dyn StreamReader> {
        Opaque.stream_reader()
    }

    fn usage(&self, _json: &str) -> Option<Usage> {
        None
    }

    fn error_body(&self, _: StatusCode, kind: &str, message: &str) -> Bytes {
        let (kind, message) = (json::quote(kind), json::quote(message));
        format!(r#"{{"type":"error","error":{{"type":{kind},"message":{message}}}}}"#).into()
    }
}
