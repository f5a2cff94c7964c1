//! Which API a request is for, and what that API checks before it answers.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{anthropic, gemini, ollama, openai};
use crate::call::json::Object;
use crate::call::{Call, Dialect, Doc};
use crate::tokens;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// An answer of a model, in this dialect.
    Generate(Dialect),
    /// Vectors.
    Embed,
    /// The tokens of a prompt in this dialect.
    Count(Dialect),
    /// The list of models.
    Models,
    /// One model.
    Model(String),
    /// Ollama's page on one model.
    Show,
    /// Ollama's models in memory.
    Running,
    /// Ollama's version.
    Version,
}

/// Why a request is not answered: status, kind, message.
pub(super) type Refusal = (StatusCode, &'static str, String);

impl Task {
    /// What `call` asks for, by its path alone.
    pub(super) fn of(call: &Call) -> Option<Self> {
        let path = call.parts.uri.path();
        let counts = [
            ("/messages/count_tokens", Dialect::AnthropicMessages),
            ("/responses/input_tokens", Dialect::OpenAiResponses),
            (":countTokens", Dialect::GeminiGenerate),
        ];
        if let Some((_, dialect)) = counts.iter().find(|(end, _)| path.ends_with(end)) {
            return Some(Self::Count(*dialect));
        }
        if let Some(dialect) = Dialect::ALL.into_iter().find(|dialect| dialect.format().claims_path(path)) {
            return Some(match dialect {
                Dialect::Embeddings => Self::Embed,
                dialect => Self::Generate(dialect),
            });
        }
        match path {
            "/api/tags" => Some(Self::Models),
            "/api/show" => Some(Self::Show),
            "/api/ps" => Some(Self::Running),
            "/api/version" => Some(Self::Version),
            _ if path.ends_with("/models") => Some(Self::Models),
            _ => {
                let (_, name) = path.split_once("/models/")?;
                (!name.is_empty() && !name.contains(':')).then(|| Self::Model(name.to_owned()))
            }
        }
    }

    fn is_read(&self) -> bool {
        matches!(self, Self::Models | Self::Model(_) | Self::Running | Self::Version)
    }
}

/// The dialect whose errors the caller can read. A body that cannot be read makes a call opaque; its path still tells.
pub(super) fn speaker(call: &Call) -> Dialect {
    let path = call.parts.uri.path();
    let has = |name: &str| call.parts.headers.contains_key(name);
    let is_google = has("x-goog-api-key") || has("x-goog-api-client");
    if is_google || path.contains("/v1beta") || path.contains("/publishers/google/") {
        Dialect::GeminiGenerate
    } else if path.starts_with("/api/") {
        Dialect::OllamaChat
    } else if Dialect::AnthropicMessages.format().claims_path(path)
        || path.ends_with("/count_tokens")
        || has("anthropic-version")
    {
        Dialect::AnthropicMessages
    } else {
        match Task::of(call) {
            Some(Task::Generate(dialect) | Task::Count(dialect)) => dialect,
            _ if path.contains(":embedContent") || path.contains(":batchEmbed") => Dialect::GeminiGenerate,
            _ => Dialect::OpenAiChat,
        }
    }
}

/// An error as the API of `call` tells it.
pub(super) fn error_body(call: &Call, status: StatusCode, kind: &str, message: &str) -> Bytes {
    let dialect = speaker(call);
    let kind = if dialect == Dialect::GeminiGenerate { gemini::status_name(status) } else { kind };
    dialect.format().error_body(status, kind, message)
}

/// What a provider checks before it answers.
pub(super) fn check(call: &Call) -> Result<Task, Refusal> {
    let path = call.parts.uri.path();
    let task = Task::of(call).ok_or_else(|| not_found(format!("no such path: {path}")))?;
    let wanted = if task.is_read() { Method::GET } else { Method::POST };
    if call.parts.method != wanted {
        let message = format!("use {wanted}");
        return Err((StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message));
    }
    if task.is_read() {
        return Ok(task);
    }
    if call.doc.trouble().is_some() {
        return Err(bad("the body is not a JSON object"));
    }
    let is_gemini = speaker(call) == Dialect::GeminiGenerate;
    if !is_gemini && call.doc.str("model").is_none() && task != Task::Show {
        return Err(bad("model: a string is required"));
    }
    let (Task::Generate(dialect) | Task::Count(dialect)) = task else { return Ok(task) };
    let holds = |name: &str| call.doc.elements(name).is_some_and(|list| !list.is_empty());
    match dialect {
        Dialect::OpenAiChat | Dialect::AnthropicMessages if !holds("messages") => {
            return Err(bad("messages: at least one message is required"));
        }
        Dialect::OpenAiResponses
            if !holds("input") && call.doc.str("input").is_none() && call.doc.some("prompt").is_none() =>
        {
            return Err(bad("input: a text or a list of items is required"));
        }
        Dialect::GeminiGenerate
            if !holds("contents") && call.doc.some("generateContentRequest").is_none() =>
        {
            return Err(bad("contents: at least one content is required"));
        }
        _ => {}
    }
    if task == Task::Generate(Dialect::AnthropicMessages) && call.doc.u64("max_tokens").is_none() {
        return Err(bad("max_tokens: a number is required"));
    }
    Ok(task)
}

pub(super) fn bad(message: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, "invalid_request_error", message.to_owned())
}

fn not_found(message: String) -> Refusal {
    (StatusCode::NOT_FOUND, "not_found_error", message)
}

/// The answers that need no model: lists, counts, versions.
pub(super) fn look_up(call: &Call, task: &Task) -> Result<String, Refusal> {
    let api = speaker(call);
    match task {
        Task::Models => Ok(match api {
            Dialect::AnthropicMessages => anthropic::models(),
            Dialect::GeminiGenerate => gemini::models(),
            Dialect::OllamaChat => ollama::tags(),
            _ => openai::models(),
        }),
        Task::Model(name) => match api {
            Dialect::AnthropicMessages if anthropic::MODELS.contains(&&**name) => Ok(anthropic::model(name)),
            Dialect::GeminiGenerate if gemini::MODELS.contains(&&**name) => Ok(gemini::model(name)),
            Dialect::OpenAiChat if openai::MODELS.contains(&&**name) => Ok(openai::model(name)),
            _ => Err(not_found(format!("no such model: {name}"))),
        },
        Task::Show => {
            let name = call.doc.str("model").or_else(|| call.doc.str("name")).unwrap_or_default();
            let full = format!("{name}:latest");
            if ollama::MODELS.iter().any(|have| *have == name || *have == full) {
                Ok(ollama::show(&name))
            } else {
                Err(not_found(format!("model '{name}' not found")))
            }
        }
        Task::Running => Ok(r#"{"models":[]}"#.to_owned()),
        Task::Count(dialect) => {
            let tokens = count(call, *dialect);
            Ok(match dialect {
                Dialect::GeminiGenerate => gemini::count(tokens),
                Dialect::OpenAiResponses => {
                    format!(r#"{{"object":"response.input_tokens","input_tokens":{tokens}}}"#)
                }
                _ => format!(r#"{{"input_tokens":{tokens}}}"#),
            })
        }
        Task::Version => Ok(r#"{"version":"0.12.0"}"#.to_owned()),
        Task::Generate(_) | Task::Embed => Err(bad("this needs a model")),
    }
}

fn count(call: &Call, dialect: Dialect) -> u64 {
    let mut call = call.clone();
    call.dialect = dialect;
    // Gemini also takes the whole request that is to be counted.
    let whole = call.doc.some("generateContentRequest").filter(|raw| Object::parse(raw).is_some());
    if let Some(whole) = whole.map(str::to_owned) {
        call.doc = Doc::new(whole);
    }
    tokens::count(&call).likely.max(1)
}
