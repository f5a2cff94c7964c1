//! Answers as Gemini `generateContent` puts them on the wire.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::answer::{Answer, Content, Ending};
use super::openai::pieces;
use super::prompt_cache::Input;
use super::thinking::is_shown_by_gemini;
use crate::call::Call;
use crate::call::json::quote;

pub(super) fn body(call: &Call, answer: &Answer, input: &Input) -> String {
    let candidates: Vec<_> = answer
        .choices
        .iter()
        .enumerate()
        .map(|(index, content)| {
            let mut parts: Vec<_> = thought(call, answer).into_iter().collect();
            parts.extend(part(answer, content, content.text()));
            candidate(index, &parts.join(","), Some(finish(content, answer.ending)))
        })
        .collect();
    chunk(answer, &candidates.join(","), &usage(answer, input))
}

/// The chunks of a stream, as bare JSON.
pub(super) fn chunks(call: &Call, answer: &Answer, input: &Input) -> Vec<String> {
    let so_far = format!(
        r#"{{"promptTokenCount":{prompt},"totalTokenCount":{total}{thoughts}}}"#,
        prompt = input.total,
        total = input.total + answer.thought_tokens(),
        thoughts = thoughts(answer),
    );
    let mut chunks = Vec::new();
    for (index, content) in answer.choices.iter().enumerate() {
        if let Some(thought) = thought(call, answer) {
            chunks.push(chunk(answer, &candidate(index, &thought, None), &so_far));
        }
        // Function calls come whole.
        let pieces = if matches!(content, Content::Text(_)) { pieces(content.text()) } else { vec![""] };
        for piece in pieces {
            if let Some(part) = part(answer, content, piece) {
                chunks.push(chunk(answer, &candidate(index, &part, None), &so_far));
            }
        }
        let is_last = index + 1 == answer.choices.len();
        let usage = if is_last { usage(answer, input) } else { so_far.clone() };
        let last = candidate(index, r#"{"text":""}"#, Some(finish(content, answer.ending)));
        chunks.push(chunk(answer, &last, &usage));
    }
    chunks
}

/// Chunks as server-sent events.
pub(super) fn as_events(chunks: Vec<String>) -> Vec<String> {
    chunks.into_iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect()
}

/// Chunks as the one array that is sent without `alt=sse`.
pub(super) fn as_array(chunks: Vec<String>) -> Vec<String> {
    let mut pieces: Vec<_> = chunks
        .into_iter()
        .enumerate()
        .map(|(at, chunk)| format!("{}{chunk}", if at == 0 { "[" } else { "\r\n," }))
        .collect();
    pieces.push("\r\n]".to_owned());
    pieces
}

/// Name of a status in Google's errors.
pub(super) fn status_name(status: http::StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 => "UNIMPLEMENTED",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        504 => "DEADLINE_EXCEEDED",
        // An error under status 200 is told by its body alone.
        200 | 503 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

/// The answer to `:countTokens`.
pub(super) fn count(tokens: u64) -> String {
    format!(
        r#"{{"totalTokens":{tokens},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{tokens}}}]}}"#
    )
}

/// Models that are listed; calls may name any.
pub(super) const MODELS: [&str; 3] = ["gemini-2.5-pro", "gemini-2.5-flash", "gemini-embedding-001"];

/// The answer to `GET /v1beta/models`.
pub(super) fn models() -> String {
    let models: Vec<_> = MODELS.iter().map(|id| model(id)).collect();
    format!(r#"{{"models":[{}]}}"#, models.join(","))
}

/// One of them.
pub(super) fn model(id: &str) -> String {
    let methods = if id.contains("embedding") {
        r#""embedContent","countTokens""#
    } else {
        r#""generateContent","countTokens""#
    };
    format!(
        r#"{{"name":{name},"version":"001","displayName":{id},"description":"embedded","inputTokenLimit":1048576,"outputTokenLimit":65536,"supportedGenerationMethods":[{methods}]}}"#,
        name = quote(&format!("models/{id}")),
        id = quote(id),
    )
}

fn chunk(answer: &Answer, candidates: &str, usage: &str) -> String {
    format!(
        r#"{{"candidates":[{candidates}],"usageMetadata":{usage},"modelVersion":{model},"responseId":"{id}"}}"#,
        model = quote(&answer.model),
        id = answer.id,
    )
}

fn candidate(index: usize, parts: &str, finish: Option<&str>) -> String {
    let finish = finish.map(|finish| format!(r#""finishReason":"{finish}","#)).unwrap_or_default();
    // A candidate that was stopped before its first word has no content.
    let content = if parts.is_empty() {
        String::new()
    } else {
        format!(r#""content":{{"parts":[{parts}],"role":"model"}},"#)
    };
    format!(r#"{{{content}{finish}"index":{index}}}"#)
}

fn thought(call: &Call, answer: &Answer) -> Option<String> {
    let thinking = answer.thinking.as_ref().filter(|_| is_shown_by_gemini(call))?;
    Some(format!(r#"{{"text":{},"thought":true}}"#, quote(&thinking.text)))
}

/// A part that says `piece`; a refusal says nothing here.
fn part(answer: &Answer, content: &Content, piece: &str) -> Option<String> {
    match content {
        Content::Refusal(_) => None,
        Content::Text(_) => Some(format!(r#"{{"text":{}}}"#, quote(piece))),
        Content::Tool { name, .. } => {
            let signature = if answer.thinking.is_some() {
                format!(r#","thoughtSignature":"{}""#, STANDARD.encode(format!("embedded {}", answer.id)))
            } else {
                String::new()
            };
            Some(format!(
                r#"{{"functionCall":{{"name":{},"args":{}}}{signature}}}"#,
                quote(name),
                content.arguments()
            ))
        }
    }
}

fn finish(content: &Content, ending: Ending) -> &'static str {
    match (ending, content) {
        (Ending::Length, _) => "MAX_TOKENS",
        (Ending::Filtered, _) => "PROHIBITED_CONTENT",
        (Ending::Whole, Content::Refusal(_)) => "SAFETY",
        (Ending::Whole, _) => "STOP",
    }
}

/// `candidatesTokenCount` excludes thoughts; counts of zero are left out.
fn usage(answer: &Answer, input: &Input) -> String {
    let (prompt, said) = (input.total, answer.said_tokens());
    let cached = if input.read == 0 {
        String::new()
    } else {
        format!(
            r#","cachedContentTokenCount":{read},"cacheTokensDetails":[{{"modality":"TEXT","tokenCount":{read}}}]"#,
            read = input.read
        )
    };
    let candidates = if said == 0 { String::new() } else { format!(r#","candidatesTokenCount":{said}"#) };
    format!(
        r#"{{"promptTokenCount":{prompt}{candidates},"totalTokenCount":{total}{cached},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{prompt}}}]{thoughts}}}"#,
        total = prompt + answer.output_tokens(),
        thoughts = thoughts(answer),
    )
}

fn thoughts(answer: &Answer) -> String {
    match answer.thought_tokens() {
        0 => String::new(),
        tokens => format!(r#","thoughtsTokenCount":{tokens}"#),
    }
}
