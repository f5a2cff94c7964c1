//! Embeddings of OpenAI and its kin, of Gemini and of Ollama.
//!
//! | what | where it is read |
//! |---|---|
//! | model asked | Gemini's and Azure's in the path, else `model` |
//! | input | `usage.prompt_tokens`, Gemini's `usageMetadata.promptTokenCount`, Ollama's `prompt_eval_count` |
//! | output | always 0: nothing is generated |
//! | error | `error` |
//! | whole reply | a vector that is not empty for each entry of `data`, `embeddings` or `embedding` |
//!
//! There are no messages, no caps and no streams.

pub(crate) mod batch;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::openai_chat::OpenAiChat;
use super::usage::{Contradiction, count};
use super::{CapField, Finish, Format, Outcome, Prompt, StreamReader, Usage, gemini, opaque, path};
use crate::call::json::{self, Object};
use crate::call::{Call, Dialect, Doc, Element};
use crate::{Error, Kind};

/// Embeddings.
#[derive(Debug)]
pub(super) struct Embeddings;

impl Format for Embeddings {
    fn dialect(&self) -> Dialect {
        Dialect::Embeddings
    }

    fn claims_path(&self, path: &str) -> bool {
        ["/embeddings", "/api/embed", ":embedContent", ":batchEmbedContents"]
            .iter()
            .any(|end| path.ends_with(end))
    }

    fn claims_body(&self, _: &Parts, _: &Doc) -> bool {
        false
    }

    fn model(&self, call: &Call) -> Option<String> {
        let path = call.parts.uri.path();
        let in_path = gemini::model_in(path).or_else(|| deployment(path));
        in_path
            .map(|segment| path::decoded(&path[segment]))
            .or_else(|| call.doc.str("model").map(Cow::into_owned))
    }

    fn set_model(&self, call: &mut Call, model: &str) -> Result<(), Error> {
        let path = call.parts.uri.path();
        let mut doc = call.doc.clone();
        match (gemini::model_in(path), deployment(path)) {
            (Some(segment), _) => {
                // Gemini wants its bodies to name the model that the path names.
                let model = model.strip_prefix("models/").unwrap_or(model);
                let named = json::quote(&format!("models/{model}"));
                if doc.get("model").is_some() {
                    doc.set("model", &named)?;
                }
                if doc.elements("requests").is_some() {
                    doc.edit_elements("requests", |_, request| rename(request, &named))?;
                }
                path::replace(&mut call.parts, segment, model)?;
            }
            (None, Some(segment)) => {
                if doc.get("model").is_some() {
                    doc.set("model", &json::quote(model))?;
                }
                path::replace(&mut call.parts, segment, model)?;
            }
            (None, None) => doc.set("model", &json::quote(model))?,
        }
        call.doc = doc;
        Ok(())
    }

    fn wants_stream(&self, _: &Call) -> bool {
        false
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
        Err(Error::new(
            Kind::NotEditable,
            "an embedding generates nothing, so a cap cannot be set",
            "leave embeddings without a cap",
        ))
    }

    fn cap_floor(&self, _: &Call) -> u64 {
        1
    }

    fn excluded(&self) -> &'static [&'static str] {
        &["user", "keep_alive"]
    }

    /// Pictures and documents can be embedded too; what is only named by its address is not in the request.
    fn bypass(&self, call: &Call) -> Option<&'static str> {
        let doc = &call.doc;
        let requests = doc.elements("requests").unwrap_or_default();
        let contents = doc
            .object("content")
            .into_iter()
            .chain(requests.into_iter().filter_map(|request| Object::parse(request)?.object("content")));
        let gemini = contents.flat_map(|content| content.elements("parts").unwrap_or_default()).any(|part| {
            Object::parse(part)
                .is_some_and(|part| part.some("fileData").or_else(|| part.some("file_data")).is_some())
        });
        let others = doc.elements("input").unwrap_or_default().into_iter().filter_map(Object::parse);
        let by_url = gemini
            || others.flat_map(|input| input.iter().map(|(_, value)| value).collect::<Vec<_>>()).any(is_url);
        by_url.then_some("content-by-url")
    }

    fn read_reply(&self, body: &[u8]) -> Outcome {
        let failed = Outcome { finish: Finish::Failed, empty: true, ..Outcome::default() };
        let Some(reply) = std::str::from_utf8(body).ok().and_then(Object::parse) else { return failed };
        if reply.some("error").is_some() {
            return failed;
        }
        let vectors = reply.elements("data").or_else(|| reply.elements("embeddings"));
        let is_full = match vectors {
            Some(vectors) => !vectors.is_empty() && vectors.into_iter().all(is_vector),
            None => reply.get("embedding").is_some_and(is_vector),
        };
        Outcome {
            model: reply.str("model").map(Cow::into_owned),
            usage: read_usage(&reply).ok().flatten(),
            finish: if is_full { Finish::Whole } else { Finish::Unknown },
            empty: !is_full,
            ..Outcome::default()
        }
    }

    fn stream_reader(&self) -> Box<dyn StreamReader> {
        opaque::Opaque.stream_reader()
    }

    fn usage(&self, json: &str) -> Option<Usage> {
        read_usage(&Object::parse(json)?).ok().flatten()
    }

    fn error_body(&self, status: StatusCode, kind: &str, message: &str) -> Bytes {
        OpenAiChat.error_body(status, kind, message)
    }
}

/// Where Azure keeps the name of the deployment in the path.
fn deployment(path: &str) -> Option<Range<usize>> {
    path::segment(path, "/openai/deployments/", '/')
}

/// One request of a batch with another model, if it names one.
fn rename(request: &str, named: &str) -> Element {
    let mut doc = Doc::new(request.to_owned());
    let renamed = doc.get("model").is_some() && doc.set("model", named).is_ok();
    match String::from_utf8(doc.into_bytes().into()) {
        Ok(text) if renamed => Element::Replace(text),
        _ => Element::Keep,
    }
}

fn is_url(value: &str) -> bool {
    let has_scheme = |text: &str, scheme: &str| {
        text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    json::string(value)
        .is_some_and(|text| ["http://", "https://", "gs://"].iter().any(|scheme| has_scheme(&text, scheme)))
}

/// A list of numbers, a base64 text, or an object that holds one of them.
fn is_vector(text: &str) -> bool {
    if let Some(object) = Object::parse(text) {
        return object.get("embedding").or_else(|| object.get("values")).is_some_and(is_vector);
    }
    json::string(text).is_some_and(|text| !text.is_empty())
        || json::elements(text).is_some_and(|numbers| !numbers.is_empty())
}

/// Of a usage object, or of the reply that holds one.
fn read_usage(object: &Object<'_>) -> Result<Option<Usage>, Contradiction> {
    let inner = object.object("usage").or_else(|| object.object("usageMetadata"));
    let object = inner.as_ref().unwrap_or(object);
    for name in ["prompt_tokens", "promptTokenCount", "prompt_eval_count", "total_tokens"] {
        if let Some(input) = count(object, name)? {
            return Usage::of(input, 0).checked(count(object, "total_tokens")?).map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_each_api_is_read() {
        for (body, input) in [
            (
                r#"{"object":"list","model":"m","data":[{"index":0,"embedding":[0.6,0.8]}],"usage":{"prompt_tokens":2,"total_tokens":2}}"#,
                Some(2),
            ),
            (
                r#"{"model":"m","data":[{"embedding":"AACAPw=="}],"usage":{"prompt_tokens":2,"total_tokens":2}}"#,
                Some(2),
            ),
            (r#"{"model":"m","embeddings":[[0.1,0.2]],"prompt_eval_count":3}"#, Some(3)),
            (r#"{"embedding":{"values":[0.1]}}"#, None),
        ] {
            let outcome = Embeddings.read_reply(body.as_bytes());
            assert!(outcome.is_good(), "{body}");
            assert_eq!(outcome.usage.and_then(|usage| usage.input), input, "{body}");
        }
        for body in [r#"{"data":[]}"#, r#"{"data":[{"embedding":[]}]}"#, "{}", r#"{"error":"x"}"#, "<html>"] {
            assert!(!Embeddings.read_reply(body.as_bytes()).is_good(), "{body}");
        }
    }
}
