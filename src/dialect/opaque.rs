//! Anything that is no known format: passed through, never edited.

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::{CapField, Finish, Format, Outcome, Prompt, StreamReader, Usage, not_understood};
use crate::Error;
use crate::call::{Call, Dialect, Doc, json};

/// The format of what is not understood.
#[derive(Debug)]
pub(super) struct Opaque;

impl Format for Opaque {
    fn dialect(&self) -> Dialect {
        Dialect::Opaque
    }

    fn claims_path(&self, _: &str) -> bool {
        false
    }

    fn claims_body(&self, _: &Parts, _: &Doc) -> bool {
        false
    }

    fn model(&self, call: &Call) -> Option<String> {
        call.doc.str("model").map(|model| model.into_owned())
    }

    fn set_model(&self, _: &mut Call, _: &str) -> Result<(), Error> {
        Err(not_understood("the model"))
    }

    fn wants_stream(&self, call: &Call) -> bool {
        call.doc.bool("stream") == Some(true)
    }

    fn prompt<'a>(&self, _: &'a Call) -> Prompt<'a> {
        Prompt::default()
    }

    fn messages_member(&self) -> Option<&'static str> {
        None
    }

    fn clear_tool_results(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn has_cache_mark(&self, _: &str) -> bool {
        false
    }

    fn cap(&self, _: &Call) -> Option<u64> {
        None
    }

    fn set_cap(&self, _: &mut Call, _: u64, _: CapField) -> Result<(), Error> {
        Err(not_understood("a cap"))
    }

    fn cap_floor(&self, _: &Call) -> u64 {
        1
    }

    fn excluded(&self) -> &'static [&'static str] {
        &[]
    }

    fn bypass(&self, _: &Call) -> Option<&'static str> {
        Some("opaque")
    }

    fn read_reply(&self, _: &[u8]) -> Outcome {
        Outcome::default()
    }

    fn stream_reader(&self) -> Box<dyn StreamReader> {
        Box::new(Blind)
    }

    fn usage(&self, _: &str) -> Option<Usage> {
        None
    }

    fn error_body(&self, _: StatusCode, kind: &str, message: &str) -> Bytes {
        let (kind, message) = (json::quote(kind), json::quote(message));
        format!(r#"{{"error":{{"type":{kind},"message":{message}}}}}"#).into()
    }
}

#[derive(Debug)]
struct Blind;

impl StreamReader for Blind {
    fn push(&mut self, _: &[u8]) {}

    fn outcome(&self, _: bool) -> Outcome {
        Outcome { finish: Finish::Unknown, ..Outcome::default() }
    }
}
