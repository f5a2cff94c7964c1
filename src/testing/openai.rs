//! Answers as OpenAI chat completions puts them on the wire.

use super::answer::{Answer, Content, Ending};
use super::prompt_cache::Input;
use crate::call::json::quote;

/// Every answer claims to come from this second, so that equal calls get equal bytes.
pub(super) const CREATED: u64 = 1_795_000_000;

pub(super) fn body(answer: &Answer, input: &Input) -> String {
    let mut choices = String::new();
    for (index, content) in answer.choices.iter().enumerate() {
        if index > 0 {
            choices.push(',');
        }
        let message = match content {
            Content::Text(text) => format!(r#""content":{},"refusal":null"#, quote(text)),
            Content::Refusal(text) => format!(r#""content":null,"refusal":{}"#, quote(text)),
            Content::Tool { name, arguments } => format!(
                r#""content":null,"refusal":null,"tool_calls":[{{"id":"call_{id}_{index}","type":"function","function":{{"name":{name},"arguments":{arguments}}}}}]"#,
                id = answer.id,
                name = quote(name),
                arguments = quote(arguments),
            ),
        };
        choices.push_str(&format!(
            r#"{{"index":{index},"message":{{"role":"assistant",{message}}},"finish_reason":"{finish}","logprobs":null}}"#,
            finish = finish(content, answer.ending),
        ));
    }
    format!(
        r#"{{"id":"chatcmpl-{id}","object":"chat.completion","created":{CREATED},"model":{model},"choices":[{choices}],"usage":{usage},"service_tier":"default","system_fingerprint":"fp_embedded"}}"#,
        id = answer.id,
        model = quote(&answer.model),
        usage = usage(answer, input),
    )
}

/// The events of a stream.
pub(super) fn events(answer: &Answer, input: &Input, include_usage: bool) -> Vec<String> {
    let null = if include_usage { r#","usage":null"# } else { "" };
    let chunk = |index: usize, delta: &str, finish: &str| {
        event(
            answer,
            &format!(r#"[{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]"#),
            null,
        )
    };
    let mut events = Vec::new();
    for (index, content) in answer.choices.iter().enumerate() {
        match content {
            Content::Text(_) => events.push(chunk(index, r#"{"role":"assistant","content":"","refusal":null}"#, "null")),
            Content::Refusal(_) => events.push(chunk(index, r#"{"role":"assistant","content":null,"refusal":""}"#, "null")),
            Content::Tool { name, .. } => events.push(chunk(
                index,
                &format!(
                    r#"{{"role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"call_{id}_{index}","type":"function","function":{{"name":{name},"arguments":""}}}}],"refusal":null}}"#,
                    id = answer.id,
                    name = quote(name),
                ),
                "null",
            )),
        }
        for piece in pieces(content.text()) {
            let piece = quote(piece);
            let delta = match content {
                Content::Text(_) => format!(r#"{{"content":{piece}}}"#),
                Content::Refusal(_) => format!(r#"{{"refusal":{piece}}}"#),
                Content::Tool { .. } => {
                    format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{piece}}}}}]}}"#)
                }
            };
            events.push(chunk(index, &delta, "null"));
        }
        events.push(chunk(index, "{}", &format!("\"{}\"", finish(content, answer.ending))));
    }
    if include_usage {
        events.push(event(answer, "[]", &format!(r#","usage":{}"#, usage(answer, input))));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn event(answer: &Answer, choices: &str, usage: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion.chunk\",\"created\":{CREATED},\"model\":{model},\"service_tier\":\"default\",\"system_fingerprint\":\"fp_embedded\",\"choices\":{choices}{usage}}}\n\n",
        id = answer.id,
        model = quote(&answer.model),
    )
}

fn finish(content: &Content, ending: Ending) -> &'static str {
    match (ending, content) {
        (Ending::Length, _) => "length",
        (Ending::Filtered, _) => "content_filter",
        (Ending::Whole, Content::Tool { .. }) => "tool_calls",
        (Ending::Whole, _) => "stop",
    }
}

fn usage(answer: &Answer, input: &Input) -> String {
    let (prompt, output) = (input.total, answer.output_tokens());
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{output},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":{read},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{reasoning},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        total = prompt + output,
        read = input.read,
        reasoning = answer.thought_tokens(),
    )
}

/// A text in pieces of about 24 bytes, cut after spaces.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        if end - from >= 24 && c == ' ' {
            pieces.push(&text[from..end]);
            from = end;
        }
    }
    if from < text.len() {
        pieces.push(&text[from..]);
    }
    pieces
}

/// Models that are listed; calls may name any.
pub(super) const MODELS: [&str; 7] = [
    "gpt-6-luna",
    "gpt-5",
    "gpt-5-mini",
    "gpt-4o",
    "gpt-4o-mini",
    "text-embedding-3-large",
    "text-embedding-3-small",
];

/// The answer to `GET /v1/models`.
pub(super) fn models() -> String {
    let models: Vec<_> = MODELS.iter().map(|id| model(id)).collect();
    format!(r#"{{"object":"list","data":[{}]}}"#, models.join(","))
}

/// One of them.
pub(super) fn model(id: &str) -> String {
    format!(r#"{{"id":{},"object":"model","created":{CREATED},"owned_by":"embedded"}}"#, quote(id))
}
