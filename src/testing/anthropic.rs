//! Answers as Anthropic Messages puts them on the wire.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::answer::{Answer, Content, Ending};
use super::openai::pieces;
use super::prompt_cache::Input;
use crate::call::json::quote;

pub(super) fn body(answer: &Answer, input: &Input) -> String {
    let mut blocks = Vec::new();
    if let Some(thinking) = &answer.thinking {
        let (text, signature) = (quote(&thinking.text), signature(answer));
        blocks.push(format!(r#"{{"type":"thinking","thinking":{text},"signature":"{signature}"}}"#));
    }
    for (index, choice) in answer.choices.iter().enumerate() {
        blocks.push(match choice {
            Content::Text(text) | Content::Refusal(text) => {
                format!(r#"{{"type":"text","text":{}}}"#, quote(text))
            }
            Content::Tool { name, .. } => format!(
                r#"{{"type":"tool_use","id":"toolu_{id}_{index}","name":{name},"input":{arguments}}}"#,
                id = answer.id,
                name = quote(name),
                arguments = choice.arguments(),
            ),
        });
    }
    format!(
        r#"{{"id":"msg_{id}","type":"message","role":"assistant","model":{model},"content":[{content}],"stop_reason":"{stop}","stop_sequence":null,"stop_details":null,"usage":{usage}}}"#,
        id = answer.id,
        model = quote(&answer.model),
        content = blocks.join(","),
        stop = stop(answer),
        usage = usage(input, answer.output_tokens(), answer),
    )
}

/// The events of a stream.
pub(super) fn events(answer: &Answer, input: &Input) -> Vec<String> {
    let mut events = vec![event(
        "message_start",
        &format!(
            r#","message":{{"id":"msg_{id}","type":"message","role":"assistant","model":{model},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{usage}}}"#,
            id = answer.id,
            model = quote(&answer.model),
            // The real one starts with a placeholder too: only the closing count is right.
            usage = usage(input, 1, answer),
        ),
    )];
    let first = usize::from(answer.thinking.is_some());
    if let Some(thinking) = &answer.thinking {
        let delta =
            |delta: &str| event("content_block_delta", &format!(r#","index":0,"delta":{{"type":{delta}}}"#));
        let start = r#","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}"#;
        events.push(event("content_block_start", start));
        events.push(event("ping", ""));
        for piece in pieces(&thinking.text) {
            events.push(delta(&format!(r#""thinking_delta","thinking":{}"#, quote(piece))));
        }
        events.push(delta(&format!(r#""signature_delta","signature":"{}""#, signature(answer))));
        events.push(event("content_block_stop", r#","index":0"#));
    }
    for (at, content) in answer.choices.iter().enumerate() {
        let index = first + at;
        let block = match content {
            Content::Text(_) | Content::Refusal(_) => r#"{"type":"text","text":""}"#.to_owned(),
            Content::Tool { name, .. } => format!(
                r#"{{"type":"tool_use","id":"toolu_{id}_{at}","name":{name},"input":{{}}}}"#,
                id = answer.id,
                name = quote(name),
            ),
        };
        events.push(event("content_block_start", &format!(r#","index":{index},"content_block":{block}"#)));
        if index == 0 {
            events.push(event("ping", ""));
        }
        for piece in pieces(content.text()) {
            let piece = quote(piece);
            let delta = match content {
                Content::Tool { .. } => format!(r#"{{"type":"input_json_delta","partial_json":{piece}}}"#),
                _ => format!(r#"{{"type":"text_delta","text":{piece}}}"#),
            };
            events.push(event("content_block_delta", &format!(r#","index":{index},"delta":{delta}"#)));
        }
        events.push(event("content_block_stop", &format!(r#","index":{index}"#)));
    }
    events.push(event(
        "message_delta",
        &format!(
            r#","delta":{{"stop_reason":"{stop}","stop_sequence":null}},"usage":{{"output_tokens":{output}{details}}}"#,
            stop = stop(answer),
            output = answer.output_tokens(),
            details = details(answer),
        ),
    ));
    events.push(event("message_stop", ""));
    events
}

/// The event that tells of a failure under status 200.
pub(super) fn error_event(error: &str) -> String {
    format!("event: error\ndata: {error}\n\n")
}

fn event(name: &str, rest: &str) -> String {
    format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n")
}

fn stop(answer: &Answer) -> &'static str {
    match (answer.ending, answer.choices.first()) {
        (Ending::Length, _) => "max_tokens",
        (Ending::Filtered, _) | (_, Some(Content::Refusal(_))) => "refusal",
        (_, Some(Content::Tool { .. })) => "tool_use",
        _ => "end_turn",
    }
}

/// `input_tokens` excludes what was read from or written to the prompt cache.
fn usage(input: &Input, output: u64, answer: &Answer) -> String {
    let fresh = input.total.saturating_sub(input.read + input.written);
    let (short, long) = if input.long { (0, input.written) } else { (input.written, 0) };
    format!(
        r#"{{"input_tokens":{fresh},"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read},"cache_creation":{{"ephemeral_5m_input_tokens":{short},"ephemeral_1h_input_tokens":{long}}},"output_tokens":{output}{details},"service_tier":"standard"}}"#,
        written = input.written,
        read = input.read,
        // The placeholder of a stream has no parts.
        details = if output == answer.output_tokens() { details(answer) } else { String::new() },
    )
}

fn details(answer: &Answer) -> String {
    let tokens = answer.thought_tokens();
    if tokens == 0 {
        return String::new();
    }
    format!(r#","output_tokens_details":{{"thinking_tokens":{tokens}}}"#)
}

/// A signature that means nothing, as long as it is handed back as it came.
fn signature(answer: &Answer) -> String {
    STANDARD.encode(format!("embedded signature {}", answer.id))
}

/// The answer to `GET /v1/models`.
pub(super) fn models() -> String {
    let models: Vec<_> = MODELS.iter().map(|id| model(id)).collect();
    format!(
        r#"{{"data":[{}],"has_more":false,"first_id":"{}","last_id":"{}"}}"#,
        models.join(","),
        MODELS[0],
        MODELS[MODELS.len() - 1],
    )
}

/// One of them.
pub(super) fn model(id: &str) -> String {
    let id = quote(id);
    format!(
        r#"{{"type":"model","id":{id},"display_name":{id},"created_at":"2026-11-18T11:06:40Z","lifecycle":"active"}}"#
    )
}

/// Models that are listed; calls may name any.
pub(super) const MODELS: [&str; 3] = ["claude-opus-5", "claude-sonnet-4-5", "claude-haiku-4-5"];
