//! Answers as Anthropic Messages puts them on the wire.

use super::answer::{Answer, Content, Ending};
use super::openai::pieces;
use super::prompt_cache::Input;
use crate::call::json::quote;

pub(super) fn body(answer: &Answer, input: &Input) -> String {
    let mut content = String::new();
    for (index, choice) in answer.choices.iter().enumerate() {
        if index > 0 {
            content.push(',');
        }
        content.push_str(&match choice {
            Content::Text(text) | Content::Refusal(text) => {
                format!(r#"{{"type":"text","text":{}}}"#, quote(text))
            }
            Content::Tool { name, arguments } => format!(
                r#"{{"type":"tool_use","id":"toolu_{id}_{index}","name":{name},"input":{arguments}}}"#,
                id = answer.id,
                name = quote(name),
                // A call cut in the middle has no whole arguments to show.
                arguments = if answer.ending == Ending::Length { "{}" } else { arguments },
            ),
        });
    }
    format!(
        r#"{{"id":"msg_{id}","type":"message","role":"assistant","model":{model},"content":[{content}],"stop_reason":"{stop}","stop_sequence":null,"stop_details":null,"usage":{usage}}}"#,
        id = answer.id,
        model = quote(&answer.model),
        stop = stop(answer),
        usage = usage(input, answer.output_tokens()),
    )
}

/// The events of a stream, without the end marker.
pub(super) fn events(answer: &Answer, input: &Input) -> Vec<String> {
    let mut events = vec![event(
        "message_start",
        &format!(
            r#","message":{{"id":"msg_{id}","type":"message","role":"assistant","model":{model},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{usage}}}"#,
            id = answer.id,
            model = quote(&answer.model),
            // The real one starts with a placeholder too: only the closing count is right.
            usage = usage(input, 1),
        ),
    )];
    for (index, content) in answer.choices.iter().enumerate() {
        let block = match content {
            Content::Text(_) | Content::Refusal(_) => r#"{"type":"text","text":""}"#.to_owned(),
            Content::Tool { name, .. } => format!(
                r#"{{"type":"tool_use","id":"toolu_{id}_{index}","name":{name},"input":{{}}}}"#,
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
            r#","delta":{{"stop_reason":"{}","stop_sequence":null}},"usage":{{"output_tokens":{}}}"#,
            stop(answer),
            answer.output_tokens()
        ),
    ));
    events
}

/// What ends a stream.
pub(super) const STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

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
fn usage(input: &Input, output: u64) -> String {
    let fresh = input.total.saturating_sub(input.read + input.written);
    let (short, long) = if input.long { (0, input.written) } else { (input.written, 0) };
    format!(
        r#"{{"input_tokens":{fresh},"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read},"cache_creation":{{"ephemeral_5m_input_tokens":{short},"ephemeral_1h_input_tokens":{long}}},"output_tokens":{output},"service_tier":"standard"}}"#,
        written = input.written,
        read = input.read,
    )
}
