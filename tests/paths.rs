//! Which path of which vendor is which format, where its model is, and that another model can be asked for.

use thrifty::call::{Call, Dialect};

const CHAT: Dialect = Dialect::OpenAiChat;
const MESSAGES: Dialect = Dialect::AnthropicMessages;
const RESPONSES: Dialect = Dialect::OpenAiResponses;
const GEMINI: Dialect = Dialect::GeminiGenerate;
const OLLAMA: Dialect = Dialect::OllamaChat;
const EMBED: Dialect = Dialect::Embeddings;
const OPAQUE: Dialect = Dialect::Opaque;

const TURN: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

/// Where the model of a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    Body,
    Path,
    /// It is not known, or nobody may change it.
    Nowhere,
}

/// The body a client of this kind sends.
fn body(kind: &str) -> String {
    match kind {
        "chat" => format!(r#"{{"model":"m","max_tokens":9,{TURN}}}"#),
        // Azure's and Bedrock's bodies name no model.
        "bare" => format!("{{{TURN}}}"),
        "claude" => format!(r#"{{"model":"m","max_tokens":9,"system":"s",{TURN}}}"#),
        "cloud" => format!(r#"{{"anthropic_version":"v","max_tokens":9,{TURN}}}"#),
        "input" => r#"{"model":"m","input":"hi","instructions":"s"}"#.to_owned(),
        "vector" => r#"{"model":"m","input":"hi"}"#.to_owned(),
        "gemini" => r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#.to_owned(),
        "google-vector" => r#"{"model":"models/m","content":{"parts":[{"text":"hi"}]}}"#.to_owned(),
        "prompt" => r#"{"model":"m","prompt":"hi"}"#.to_owned(),
        other => panic!("no such body: {other}"),
    }
}

#[rustfmt::skip]
const PATHS: &[(&str, &str, Dialect, In, &str)] = &[
    // OpenAI.
    ("https://api.openai.com/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    ("https://api.openai.com/v1/responses", "input", RESPONSES, In::Body, "m"),
    ("https://api.openai.com/v1/embeddings", "vector", EMBED, In::Body, "m"),
    ("https://api.openai.com/v1/completions", "prompt", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/responses/input_tokens", "input", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/responses/compact", "input", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/responses/resp_1/cancel", "input", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/audio/speech", "input", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/images/generations", "prompt", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/moderations", "vector", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/batches", "chat", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/files", "chat", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/threads", "chat", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/threads/runs", "claude", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/threads/thread_1/messages", "claude", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/threads/thread_1/runs", "input", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/chat/completions/chatcmpl-1/messages", "chat", OPAQUE, In::Nowhere, "m"),
    ("https://api.openai.com/v1/conversations", "input", OPAQUE, In::Nowhere, "m"),
    // Azure, classic and v1.
    ("https://x.openai.azure.com/openai/deployments/d-1/chat/completions?api-version=2024-10-21", "bare", CHAT, In::Path, "d-1"),
    ("https://x.openai.azure.com/openai/deployments/d%201/embeddings?api-version=2024-10-21", "vector", EMBED, In::Path, "d 1"),
    ("https://x.openai.azure.com/openai/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    ("https://x.openai.azure.com/openai/v1/responses?api-version=preview", "input", RESPONSES, In::Body, "m"),
    ("https://x.openai.azure.com/openai/responses?api-version=2025-04-01-preview", "input", RESPONSES, In::Body, "m"),
    ("https://x.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview", "chat", CHAT, In::Body, "m"),
    ("https://x.services.ai.azure.com/anthropic/v1/messages", "claude", MESSAGES, In::Body, "m"),
    ("https://x.openai.azure.com/openai/deployments/d-1/audio/transcriptions", "chat", OPAQUE, In::Nowhere, "m"),
    // Anthropic, and its like at other vendors.
    ("https://api.anthropic.com/v1/messages", "claude", MESSAGES, In::Body, "m"),
    ("https://api.anthropic.com/v1/messages?beta=true", "chat", MESSAGES, In::Body, "m"),
    ("https://api.anthropic.com/v1/messages/count_tokens", "claude", OPAQUE, In::Nowhere, "m"),
    ("https://api.anthropic.com/v1/messages/batches", "claude", OPAQUE, In::Nowhere, "m"),
    ("https://api.deepseek.com/anthropic/v1/messages", "claude", MESSAGES, In::Body, "m"),
    ("https://gateway.example/claude/messages", "claude", MESSAGES, In::Body, "m"),
    // Bedrock.
    ("https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-x-v1%3A0/invoke", "cloud", MESSAGES, In::Path, "us.anthropic.claude-x-v1:0"),
    ("https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-x/invoke-with-response-stream", "cloud", MESSAGES, In::Path, "anthropic.claude-x"),
    ("https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-x/converse", "bare", OPAQUE, In::Nowhere, ""),
    ("https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-x/converse-stream", "chat", OPAQUE, In::Nowhere, "m"),
    ("https://bedrock-runtime.us-east-1.amazonaws.com/model/openai.gpt-oss/invoke", "chat", OPAQUE, In::Nowhere, "m"),
    ("https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    // Vertex.
    ("https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:rawPredict", "cloud", MESSAGES, In::Path, "claude-x@1"),
    ("https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:streamRawPredict", "cloud", MESSAGES, In::Path, "claude-x@1"),
    ("https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict", "bare", MESSAGES, In::Path, "count-tokens"),
    ("https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/mistralai/models/x:rawPredict", "chat", OPAQUE, In::Nowhere, "m"),
    ("https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/gemini-x:generateContent", "gemini", GEMINI, In::Path, "gemini-x"),
    ("https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/gemini-x:streamGenerateContent?alt=sse", "gemini", GEMINI, In::Path, "gemini-x"),
    ("https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/42:streamGenerateContent", "gemini", GEMINI, In::Nowhere, "42"),
    ("https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi/chat/completions", "chat", CHAT, In::Body, "m"),
    ("https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/e:predict", "gemini", OPAQUE, In::Nowhere, ""),
    // Gemini's own API.
    ("https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent?key=k", "gemini", GEMINI, In::Path, "gemini-x"),
    ("https://generativelanguage.googleapis.com/v1/models/gemini-x:streamGenerateContent", "gemini", GEMINI, In::Path, "gemini-x"),
    ("https://generativelanguage.googleapis.com/v1beta/tunedModels/mine:generateContent", "gemini", GEMINI, In::Path, "mine"),
    ("https://generativelanguage.googleapis.com/v1beta/models/gemini-x:countTokens", "gemini", OPAQUE, In::Nowhere, ""),
    ("https://generativelanguage.googleapis.com/v1beta/models/gemini-x:batchGenerateContent", "gemini", OPAQUE, In::Nowhere, ""),
    ("https://generativelanguage.googleapis.com/v1beta/models/e:embedContent", "google-vector", EMBED, In::Path, "e"),
    ("https://generativelanguage.googleapis.com/v1beta/models/e:batchEmbedContents", "google-vector", EMBED, In::Path, "e"),
    ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "chat", CHAT, In::Body, "m"),
    ("https://generativelanguage.googleapis.com/v1beta/interactions", "input", OPAQUE, In::Nowhere, "m"),
    ("https://generativelanguage.googleapis.com/v1beta/cachedContents", "gemini", OPAQUE, In::Nowhere, ""),
    // Ollama, its own calls and those of others.
    ("http://127.0.0.1:11434/api/chat", "chat", OLLAMA, In::Body, "m"),
    ("http://127.0.0.1:11434/api/generate", "prompt", OLLAMA, In::Body, "m"),
    ("http://127.0.0.1:11434/api/embed", "vector", EMBED, In::Body, "m"),
    ("http://127.0.0.1:11434/api/embeddings", "prompt", EMBED, In::Body, "m"),
    ("http://127.0.0.1:11434/api/show", "vector", OPAQUE, In::Nowhere, "m"),
    ("http://127.0.0.1:11434/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    ("http://127.0.0.1:11434/v1/messages", "chat", MESSAGES, In::Body, "m"),
    // Many servers of OpenAI's format.
    ("https://openrouter.ai/api/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    ("https://openrouter.ai/api/v1/responses", "input", RESPONSES, In::Body, "m"),
    ("https://openrouter.ai/api/v1/messages", "claude", MESSAGES, In::Body, "m"),
    ("https://api.groq.com/openai/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    ("https://api.groq.com/openai/v1/responses", "input", RESPONSES, In::Body, "m"),
    ("https://api.mistral.ai/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    ("https://api.mistral.ai/v1/chat/moderations", "vector", OPAQUE, In::Nowhere, "m"),
    ("https://api.mistral.ai/v1/agents/completions", "bare", OPAQUE, In::Nowhere, ""),
    ("https://api.mistral.ai/v1/conversations", "input", OPAQUE, In::Nowhere, "m"),
    ("https://api.together.xyz/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    ("https://api.cohere.com/v2/chat", "chat", OPAQUE, In::Nowhere, "m"),
    ("https://api.cohere.com/compatibility/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    ("https://api.cohere.com/v2/embed", "vector", OPAQUE, In::Nowhere, "m"),
    ("http://127.0.0.1:8000/v1/chat/completions", "chat", CHAT, In::Body, "m"),
    ("http://127.0.0.1:8000/tokenize", "chat", OPAQUE, In::Nowhere, "m"),
    ("http://127.0.0.1:8000/pooling", "chat", OPAQUE, In::Nowhere, "m"),
    ("http://127.0.0.1:8000/score", "chat", OPAQUE, In::Nowhere, "m"),
    ("http://127.0.0.1:1234/api/v0/chat/completions", "chat", CHAT, In::Body, "m"),
    ("http://127.0.0.1:8080/chat/completions", "chat", CHAT, In::Body, "m"),
    ("http://127.0.0.1:8080/apply-template", "chat", OPAQUE, In::Nowhere, "m"),
    // A gateway's own paths: the body tells.
    ("https://gateway.example/llm", "chat", CHAT, In::Body, "m"),
    ("https://gateway.example/llm", "claude", MESSAGES, In::Body, "m"),
    ("https://gateway.example/llm", "input", RESPONSES, In::Body, "m"),
    ("https://gateway.example/channels/7/messages", "bare", OPAQUE, In::Nowhere, ""),
    ("https://gateway.example/forms/7/responses", "vector", OPAQUE, In::Nowhere, "m"),
];

#[test]
fn each_path_is_its_format_and_its_model_can_be_read_and_changed() {
    for (uri, kind, dialect, place, model) in PATHS {
        let mut call = Call::post(uri, body(kind));
        assert_eq!(call.dialect, *dialect, "{uri} with a body of {kind}");
        assert_eq!(call.model().as_deref().unwrap_or_default(), *model, "{uri}");
        let (before, doc) = (call.parts.uri.clone(), call.doc.bytes().clone());
        let set = call.set_model("new/model 1");
        let (moved, edited) = (call.parts.uri != before, *call.doc.bytes() != doc);
        match place {
            In::Nowhere => assert!(set.is_err() && !moved && !edited, "{uri}: nothing is touched"),
            _ => {
                assert!(set.is_ok(), "{uri}");
                assert_eq!(call.model().as_deref(), Some("new/model 1"), "{uri}");
                assert_eq!(moved, *place == In::Path, "{uri}: the path names it");
                assert_eq!(call.parts.uri.query(), before.query(), "{uri}: the query stays");
                assert!(edited || *place == In::Path, "{uri}: the body names it");
                assert_eq!(
                    Call::from_parts(call.parts.clone(), call.doc.clone()).dialect,
                    *dialect,
                    "{uri}: it is the same format afterwards"
                );
            }
        }
    }
}

/// A gateway may have any base, with words of other APIs in it, and any query.
#[test]
fn a_base_in_front_of_a_path_changes_nothing() {
    for (uri, kind, dialect, _, model) in PATHS.iter().filter(|row| row.0.contains("/v1")) {
        let path = &uri[uri.find('/').unwrap() + 2..];
        let path = &path[path.find('/').unwrap()..];
        for base in ["https://h", "https://h:8443/gateway/v2", "https://h/models/google"] {
            let call = Call::post(&format!("{base}{path}"), body(kind));
            assert_eq!(call.dialect, *dialect, "{base}{path}");
            assert_eq!(call.model().as_deref().unwrap_or_default(), *model, "{base}{path}");
        }
    }
}

/// What the path says is not for the body to change: both name the model, and the path decides.
#[test]
fn where_path_and_body_name_a_model_both_follow() {
    for (uri, name) in [
        ("https://h/openai/deployments/old/chat/completions", "old"),
        ("https://h/model/anthropic.old/invoke", "anthropic.old"),
        ("https://h/v1/projects/p/locations/l/publishers/anthropic/models/old:rawPredict", "old"),
    ] {
        let mut call = Call::post(uri, format!(r#"{{"model":"{name}","max_tokens":9,{TURN}}}"#));
        call.set_model("anthropic.new").unwrap();
        assert_eq!(call.parts.uri, *uri.replace(name, "anthropic.new"));
        assert_eq!(call.doc.str("model").as_deref(), Some("anthropic.new"), "{uri}");
    }
}

/// A signature covers the path, so a model in it cannot change.
#[test]
fn a_signed_call_keeps_its_model() {
    let request =
        http::Request::post("https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.x/invoke")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c");
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let mut call = Call::from_parts(parts, body("cloud"));
    assert_eq!((call.dialect, call.model().as_deref()), (MESSAGES, Some("anthropic.x")));
    assert!(call.set_model("anthropic.y").is_err());
    assert_eq!(call.parts.uri.path(), "/model/anthropic.x/invoke");
}
