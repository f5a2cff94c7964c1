//! Answers as Ollama puts them on the wire.

use super::answer::{Answer, Content, Ending};
use super::openai::pieces;
use super::prompt_cache::Input;
use crate::call::Call;
use crate::call::json::quote;

/// Every answer claims to come from this second, so that equal calls get equal bytes.
const CREATED: &str = "2026-11-18T11:06:40.000000Z";

/// Models that are listed; calls may name any.
pub(super) const MODELS: [&str; 2] = ["llama3.2:1b", "nomic-embed-text:latest"];

pub(super) fn body(call: &Call, answer: &Answer, input: &Input) -> String {
    let api = Api::of(call);
    let (text, tool) = said(answer);
    let thinking = answer.thinking.as_ref().map_or("", |thinking| &thinking.text);
    line(answer, &api.message(text, thinking, tool), &done(api, answer, input))
}

/// The lines of a stream.
pub(super) fn lines(call: &Call, answer: &Answer, input: &Input) -> Vec<String> {
    let api = Api::of(call);
    let (text, tool) = said(answer);
    let mut lines = Vec::new();
    let mut push = |message: &str, rest: &str| lines.push(line(answer, message, rest) + "\n");
    for piece in answer.thinking.iter().flat_map(|thinking| pieces(&thinking.text)) {
        push(&api.message("", piece, None), r#""done":false"#);
    }
    for piece in pieces(text) {
        push(&api.message(piece, "", None), r#""done":false"#);
    }
    // Tool calls come whole.
    if tool.is_some() {
        push(&api.message("", "", tool), r#""done":false"#);
    }
    push(&api.message("", "", None), &done(api, answer, input));
    lines
}

/// The answer to an empty prompt, which loads the model or lets it go; `None` if there is a prompt.
pub(super) fn load(call: &Call) -> Option<String> {
    let doc = &call.doc;
    let has_messages = doc.elements("messages").is_some_and(|messages| !messages.is_empty());
    if has_messages || doc.str("prompt").is_some_and(|prompt| !prompt.is_empty()) {
        return None;
    }
    let unloads = doc.some("keep_alive").is_some_and(|time| matches!(time, "0" | "\"0\"" | "\"0s\""));
    Some(format!(
        r#"{{"model":{model},"created_at":"{CREATED}",{message},"done":true,"done_reason":"{reason}"}}"#,
        model = quote(&call.model().unwrap_or_default()),
        message = Api::of(call).message("", "", None),
        reason = if unloads { "unload" } else { "load" },
    ))
}

/// The answer to `/api/tags`.
pub(super) fn tags() -> String {
    let models: Vec<_> = MODELS
        .iter()
        .map(|name| {
            format!(
                r#"{{"name":"{name}","model":"{name}","modified_at":"{CREATED}","size":1321098329,"digest":"{digest}","details":{details}}}"#,
                digest = blake3::hash(name.as_bytes()).to_hex(),
                details = details(name),
            )
        })
        .collect();
    format!(r#"{{"models":[{}]}}"#, models.join(","))
}

/// The answer to `/api/show`.
pub(super) fn show(name: &str) -> String {
    let (family, does) =
        if name.contains("embed") { ("nomic-bert", "embedding") } else { ("llama", "completion\",\"tools") };
    format!(
        r#"{{"license":"","modelfile":"FROM embedded","parameters":"","template":"{{{{ .Prompt }}}}","details":{details},"model_info":{{"general.architecture":"{family}","{family}.context_length":131072,"{family}.embedding_length":768}},"capabilities":["{does}"],"modified_at":"{CREATED}"}}"#,
        details = details(name),
    )
}

fn details(name: &str) -> String {
    let family = if name.contains("embed") { "nomic-bert" } else { "llama" };
    format!(
        r#"{{"parent_model":"","format":"gguf","family":"{family}","families":["{family}"],"parameter_size":"1.2B","quantization_level":"Q8_0"}}"#
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Api {
    Chat,
    Generate,
}

impl Api {
    fn of(call: &Call) -> Self {
        if call.parts.uri.path().ends_with("/api/generate") { Self::Generate } else { Self::Chat }
    }

    fn message(self, text: &str, thinking: &str, tool: Option<&Content>) -> String {
        let text = quote(text);
        let thinking =
            if thinking.is_empty() { String::new() } else { format!(r#","thinking":{}"#, quote(thinking)) };
        if self == Self::Generate {
            return format!(r#""response":{text}{thinking}"#);
        }
        let tool = match tool {
            Some(content @ Content::Tool { name, .. }) => format!(
                r#","tool_calls":[{{"function":{{"name":{},"arguments":{}}}}}]"#,
                quote(name),
                content.arguments()
            ),
            _ => String::new(),
        };
        format!(r#""message":{{"role":"assistant","content":{text}{thinking}{tool}}}"#)
    }
}

/// One answer only: there is no field that asks for more.
fn said(answer: &Answer) -> (&str, Option<&Content>) {
    match answer.choices.first() {
        Some(tool @ Content::Tool { .. }) => ("", Some(tool)),
        Some(content) => (content.text(), None),
        None => ("", None),
    }
}

fn line(answer: &Answer, message: &str, rest: &str) -> String {
    format!(r#"{{"model":{},"created_at":"{CREATED}",{message},{rest}}}"#, quote(&answer.model))
}

/// The statistics. Times are in nanoseconds, at a steady pace for each token.
fn done(api: Api, answer: &Answer, input: &Input) -> String {
    let (prompt, output) = (input.total, answer.output_tokens());
    let (load, read, write) = (20_000_000, 100_000 * prompt, 1_000_000 * output);
    format!(
        r#""done":true,"done_reason":"{reason}"{context},"total_duration":{total},"load_duration":{load},"prompt_eval_count":{prompt},"prompt_eval_cached_count":{cached},"prompt_eval_duration":{read},"eval_count":{output},"eval_duration":{write}"#,
        reason = if answer.ending == Ending::Length { "length" } else { "stop" },
        context = if api == Api::Generate { r#","context":[1,2,3]"# } else { "" },
        total = load + read + write,
        cached = input.read,
    )
}
