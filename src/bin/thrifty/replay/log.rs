//! Lines of a request log.

use thrifty::Error;
use thrifty::call::json::{self, Object, quote};
use thrifty::call::{Call, Dialect, Doc, Options, Scope};
use thrifty::dialect::Usage;
use thrifty::tokens::{Count, Counter};

use crate::input;
use crate::replay::pairs::is_paired;

/// One request of the log, and all that the recorded upstream needs to answer it.
#[derive(Debug)]
pub(crate) struct Record {
    /// When it was sent, in milliseconds.
    pub(crate) at_ms: i64,
    pub(crate) call: Call,
    /// Whose prompt cache at the provider it uses.
    pub(crate) scope: String,
    pub(crate) model: String,
    /// The recorded answer, or a made-up one.
    pub(crate) response: Doc,
    /// Token counts of the recorded answer, if it has them.
    pub(crate) usage: Option<Usage>,
    pub(crate) count: Count,
    /// Tokens of the answer, counted.
    pub(crate) output: u64,
    /// True if each tool result has its call and each call its result.
    pub(crate) paired: bool,
}

impl Record {
    /// Reads a line: `{"time", "dialect", "scope", "tag", "request", "response"}`.
    pub(crate) fn read(line: &[u8], counter: &Counter) -> Result<Self, Error> {
        let bad = |problem: &str| {
            let form = r#"write {"time": seconds, "dialect", "request": {...}, "response": {...} or null}"#;
            Error::bad_input(problem, form)
        };
        let text = std::str::from_utf8(line).map_err(|_| bad("it is not UTF-8"))?;
        let object = Object::parse(text).ok_or_else(|| bad("it is not one JSON object"))?;
        let time = object.some("time").ok_or_else(|| bad("it has no `time`"))?;
        let at_ms = input::time(&input::plain(time))?;
        let dialect = match object.some("dialect") {
            None => None,
            Some(_) => Some(object.str("dialect").ok_or_else(|| bad("`dialect` is not a string"))?.parse()?),
        };
        let request = object.some("request").ok_or_else(|| bad("it has no `request`"))?;
        let call = input::call(request.to_owned(), dialect, None)?;
        let mut options = Options::new();
        let scope = object.str("scope").unwrap_or_default().into_owned();
        if !scope.is_empty() {
            options = options.scope(Scope::tenant(&scope));
        }
        if let Some(tag) = object.str("tag") {
            options = options.tag(&tag);
        }
        let call = call.with(options);
        let model = call.model().unwrap_or_default();
        let response = match object.some("response") {
            Some(text) if Object::parse(text).is_some() => Doc::new(text.to_owned()),
            Some(_) => return Err(bad("its `response` is neither an object nor null")),
            None => made_up(call.dialect, &model),
        };
        let usage = response.some(usage_member(call.dialect)).and_then(|usage| call.format().usage(usage));
        let output =
            usage.and_then(|usage| usage.output).unwrap_or_else(|| output(&call, &response, counter));
        let (count, paired) = (counter.count(&call), is_paired(&call));
        Ok(Self { at_ms, call, scope, model, response, usage, count, output, paired })
    }
}

const SHORT: &str = "No answer was recorded for this request.";

/// A short answer in place of one that was not recorded.
fn made_up(dialect: Dialect, model: &str) -> Doc {
    let (model, text) = (quote(model), quote(SHORT));
    Doc::new(match dialect {
        Dialect::AnthropicMessages => format!(
            r#"{{"id":"msg_0","type":"message","role":"assistant","model":{model},"content":[{{"type":"text","text":{text}}}],"stop_reason":"end_turn"}}"#
        ),
        Dialect::OpenAiResponses => format!(
            r#"{{"id":"resp_0","object":"response","status":"completed","model":{model},"output":[{{"type":"message","role":"assistant","status":"completed","content":[{{"type":"output_text","text":{text}}}]}}]}}"#
        ),
        Dialect::GeminiGenerate => format!(
            r#"{{"modelVersion":{model},"candidates":[{{"content":{{"role":"model","parts":[{{"text":{text}}}]}},"finishReason":"STOP"}}]}}"#
        ),
        _ => format!(
            r#"{{"id":"0","object":"chat.completion","model":{model},"choices":[{{"index":0,"message":{{"role":"assistant","content":{text}}},"finish_reason":"stop"}}]}}"#
        ),
    })
}

/// Tokens of an answer: those of its messages when they come back as part of a prompt, without the frame.
fn output(call: &Call, response: &Doc, counter: &Counter) -> u64 {
    const FRAME: u64 = 4;
    let messages: Vec<String> = match call.dialect {
        Dialect::AnthropicMessages => {
            let content = response.some("content").unwrap_or("[]");
            vec![format!(r#"{{"role":"assistant","content":{content}}}"#)]
        }
        Dialect::OpenAiResponses => {
            let items = response.elements("output").unwrap_or_default();
            items.into_iter().map(str::to_owned).collect()
        }
        Dialect::GeminiGenerate => {
            let candidates = response.elements("candidates").unwrap_or_default();
            let content = |candidate: &str| Object::parse(candidate)?.some("content").map(str::to_owned);
            candidates.into_iter().filter_map(content).collect()
        }
        _ => {
            let choices = response.elements("choices").unwrap_or_default();
            let message = |choice: &str| Object::parse(choice)?.some("message").map(str::to_owned);
            choices.into_iter().filter_map(message).collect()
        }
    };
    let body = format!(
        r#"{{"model":{},"max_tokens":1,{}:[{}]}}"#,
        quote(&call.model().unwrap_or_default()),
        quote(call.format().messages_member().unwrap_or("messages")),
        messages.join(",")
    );
    let mut answer = call.clone();
    answer.doc = Doc::new(body);
    counter.count(&answer).parts.messages.iter().map(|tokens| tokens.saturating_sub(FRAME).max(1)).sum()
}

/// The member of an answer that holds its token counts.
pub(crate) fn usage_member(dialect: Dialect) -> &'static str {
    if dialect == Dialect::GeminiGenerate { "usageMetadata" } else { "usage" }
}

/// The member of an answer that names the model.
pub(crate) fn model_member(dialect: Dialect) -> &'static str {
    if dialect == Dialect::GeminiGenerate { "modelVersion" } else { "model" }
}

/// The token counts of an answer as its provider would write them.
pub(crate) fn usage_json(dialect: Dialect, usage: &Usage) -> String {
    let of = |count: Option<u64>| count.unwrap_or(0);
    let (input, output, read) = (of(usage.input), of(usage.output), of(usage.read));
    match dialect {
        Dialect::AnthropicMessages => {
            let written = of(usage.write_short);
            format!(
                r#"{{"input_tokens":{},"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read},"output_tokens":{output}}}"#,
                input.saturating_sub(read).saturating_sub(written)
            )
        }
        Dialect::OpenAiResponses => format!(
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":{read}}},"output_tokens":{output},"total_tokens":{}}}"#,
            input.saturating_add(output)
        ),
        Dialect::GeminiGenerate => format!(
            r#"{{"promptTokenCount":{input},"cachedContentTokenCount":{read},"candidatesTokenCount":{output},"totalTokenCount":{}}}"#,
            input.saturating_add(output)
        ),
        _ => format!(
            r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{read}}}}}"#,
            input.saturating_add(output)
        ),
    }
}

/// Model and prompt tokens of a line, for a first look at a log; `None` for a line that cannot be used.
pub(crate) fn glance(line: &[u8], counter: &Counter) -> Option<(String, u64)> {
    let object = Object::parse(std::str::from_utf8(line).ok()?)?;
    let dialect = object.get("dialect").and_then(json::string).and_then(|name| name.parse().ok());
    let call = input::call(object.some("request")?.to_owned(), dialect, None).ok()?;
    Some((call.model()?, counter.count(&call).at_most))
}
