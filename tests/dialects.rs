//! Golden cases of each wire format: what a request, a reply or a stream of the real shape is read as.
//!
//! The bodies under `fixtures/dialect` are made up; their shape is the vendors', their counts add up.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use thrifty::call::{Call, Dialect};
use thrifty::dialect::{CapField, Finish, Image, Outcome, Part, Role, Source, ToolChoice, Usage};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dialect").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn request(uri: &str, name: &str) -> Call {
    Call::post(uri, fixture(name))
}

/// What a whole reply or stream of this file is read as. A stream is read in one piece, cut in two at every byte, and
/// byte for byte; all of these must agree.
fn outcome(dialect: Dialect, name: &str) -> Outcome {
    let body = fixture(name);
    if name.contains(".reply.") {
        return dialect.format().read_reply(&body);
    }
    let read = |chunks: &[&[u8]]| {
        let mut reader = dialect.format().stream_reader();
        chunks.iter().for_each(|chunk| reader.push(chunk));
        reader.outcome(true)
    };
    let whole = read(&[&body]);
    for cut in 0..body.len() {
        assert_eq!(read(&[&body[..cut], &body[cut..]]), whole, "{name} cut at byte {cut}");
    }
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(read(&bytes), whole, "{name} byte for byte");
    whole
}

/// Counts as `(input, read, write_short, write_long, output, reasoning, searches)`.
type Counts = (Option<u64>, Option<u64>, Option<u64>, Option<u64>, Option<u64>, Option<u64>, Option<u64>);

fn counts(usage: Option<Usage>) -> Option<Counts> {
    let usage = usage?;
    let Usage { input, read, write_short, write_long, output, reasoning, searches, .. } = usage;
    Some((input, read, write_short, write_long, output, reasoning, searches))
}

const CHAT: Dialect = Dialect::OpenAiChat;
const MESSAGES: Dialect = Dialect::AnthropicMessages;
const RESPONSES: Dialect = Dialect::OpenAiResponses;
const GEMINI: Dialect = Dialect::GeminiGenerate;
const OLLAMA: Dialect = Dialect::OllamaChat;
const EMBED: Dialect = Dialect::Embeddings;
const OPAQUE: Dialect = Dialect::Opaque;
const N: Option<u64> = None;

fn s<T>(known: T) -> Option<T> {
    Some(known)
}

#[test]
fn each_ending_is_told_from_each_other() {
    let cases = [
        // dialect, fixture, finish, empty, broken tool call, bytes of text
        (CHAT, "openai-text.stream.txt", Finish::Whole, false, false, 14),
        (CHAT, "openai-text.reply.json", Finish::Whole, false, false, 2),
        (CHAT, "xai-text.reply.json", Finish::Whole, false, false, 18),
        (CHAT, "openai-cut.stream.txt", Finish::Partial, false, false, 2),
        (CHAT, "openai-no-done.stream.txt", Finish::Partial, false, false, 2),
        (CHAT, "openai-tools.stream.txt", Finish::Whole, false, false, 30),
        (CHAT, "openai-broken-tool.stream.txt", Finish::Whole, false, true, 8),
        (CHAT, "openai-error.stream.txt", Finish::Failed, false, false, 2),
        (CHAT, "openai-error.reply.json", Finish::Failed, true, false, 0),
        (CHAT, "openai-refusal.stream.txt", Finish::Refused, true, false, 14),
        (CHAT, "openai-refusal.reply.json", Finish::Refused, true, false, 14),
        (CHAT, "openai-two-choices.stream.txt", Finish::Truncated, false, false, 2),
        (CHAT, "openai-length-empty.stream.txt", Finish::Truncated, true, false, 0),
        (CHAT, "groq-text.stream.txt", Finish::Whole, false, false, 2),
        (CHAT, "azure-text.stream.txt", Finish::Refused, false, false, 2),
        (MESSAGES, "anthropic-text.stream.txt", Finish::Whole, false, false, 14),
        (MESSAGES, "anthropic-text.reply.json", Finish::Whole, false, false, 2),
        (MESSAGES, "anthropic-tool.stream.txt", Finish::Whole, false, false, 29),
        (MESSAGES, "anthropic-broken-tool.stream.txt", Finish::Truncated, false, true, 11),
        (MESSAGES, "anthropic-search.stream.txt", Finish::Whole, false, false, 19),
        (MESSAGES, "anthropic-cut.stream.txt", Finish::Partial, false, false, 2),
        (MESSAGES, "anthropic-error.stream.txt", Finish::Failed, false, false, 2),
        (MESSAGES, "anthropic-error.reply.json", Finish::Failed, true, false, 0),
        (MESSAGES, "anthropic-refusal.stream.txt", Finish::Refused, false, false, 6),
        (MESSAGES, "anthropic-pause.reply.json", Finish::Unknown, false, false, 32),
        (RESPONSES, "responses-text.reply.json", Finish::Whole, false, false, 7),
        (RESPONSES, "responses-text.stream.txt", Finish::Whole, false, false, 7),
        (RESPONSES, "responses-text-done.stream.txt", Finish::Whole, false, false, 7),
        (RESPONSES, "responses-tool.reply.json", Finish::Whole, false, false, 24),
        (RESPONSES, "responses-tool.stream.txt", Finish::Whole, false, false, 16),
        (RESPONSES, "responses-broken-tool.reply.json", Finish::Whole, false, true, 8),
        (RESPONSES, "responses-refusal.reply.json", Finish::Refused, true, false, 14),
        (RESPONSES, "responses-refusal.stream.txt", Finish::Refused, true, false, 14),
        (RESPONSES, "responses-truncated.reply.json", Finish::Truncated, false, false, 3),
        (RESPONSES, "responses-truncated.stream.txt", Finish::Truncated, false, false, 3),
        (RESPONSES, "responses-thought-only.reply.json", Finish::Truncated, true, false, 0),
        (RESPONSES, "responses-filtered.reply.json", Finish::Refused, false, false, 3),
        (RESPONSES, "responses-steered.reply.json", Finish::Unknown, false, false, 3),
        (RESPONSES, "responses-queued.reply.json", Finish::Unknown, true, false, 0),
        (RESPONSES, "responses-search.reply.json", Finish::Whole, false, false, 2),
        (RESPONSES, "responses-failed.reply.json", Finish::Failed, true, false, 0),
        (RESPONSES, "responses-failed.stream.txt", Finish::Failed, true, false, 0),
        (RESPONSES, "responses-error.reply.json", Finish::Failed, true, false, 0),
        (RESPONSES, "responses-error.stream.txt", Finish::Failed, false, false, 3),
        (RESPONSES, "responses-cut.stream.txt", Finish::Partial, false, false, 7),
        (GEMINI, "gemini-text.reply.json", Finish::Whole, false, false, 13),
        (GEMINI, "gemini-text.stream.txt", Finish::Whole, false, false, 13),
        (GEMINI, "gemini-vertex.reply.json", Finish::Whole, false, false, 2),
        (GEMINI, "gemini-tool.reply.json", Finish::Whole, false, false, 16),
        (GEMINI, "gemini-tool.stream.txt", Finish::Whole, false, false, 16),
        (GEMINI, "gemini-image.reply.json", Finish::Whole, false, false, 0),
        (GEMINI, "gemini-search.reply.json", Finish::Whole, false, false, 2),
        (GEMINI, "gemini-blocked.reply.json", Finish::Refused, true, false, 0),
        (GEMINI, "gemini-blocked.stream.txt", Finish::Refused, true, false, 0),
        (GEMINI, "gemini-safety.reply.json", Finish::Refused, true, false, 0),
        (GEMINI, "gemini-safety.stream.txt", Finish::Refused, false, false, 3),
        (GEMINI, "gemini-thought-only.reply.json", Finish::Truncated, true, false, 0),
        (GEMINI, "gemini-malformed-call.reply.json", Finish::Unknown, true, false, 0),
        (GEMINI, "gemini-error.reply.json", Finish::Failed, true, false, 0),
        (GEMINI, "gemini-error-list.reply.json", Finish::Failed, true, false, 0),
        (GEMINI, "gemini-error.stream.txt", Finish::Failed, false, false, 3),
        (GEMINI, "gemini-two-candidates.stream.txt", Finish::Truncated, false, false, 3),
        (GEMINI, "gemini-one-of-two.stream.txt", Finish::Partial, false, false, 2),
        (GEMINI, "gemini-cut.stream.txt", Finish::Partial, false, false, 3),
        // Not asked for as server-sent events: one list.
        (GEMINI, "gemini-list.stream.txt", Finish::Whole, false, false, 2),
        (OLLAMA, "ollama-chat.reply.json", Finish::Whole, false, false, 10),
        (OLLAMA, "ollama-chat.stream.ndjson", Finish::Whole, false, false, 10),
        (OLLAMA, "ollama-generate.reply.json", Finish::Whole, false, false, 7),
        (OLLAMA, "ollama-generate.stream.ndjson", Finish::Whole, false, false, 7),
        (OLLAMA, "ollama-tool.reply.json", Finish::Whole, false, false, 16),
        (OLLAMA, "ollama-tool.stream.ndjson", Finish::Whole, false, false, 16),
        (OLLAMA, "ollama-truncated.reply.json", Finish::Truncated, false, false, 3),
        (OLLAMA, "ollama-truncated.stream.ndjson", Finish::Truncated, false, false, 3),
        (OLLAMA, "ollama-old.reply.json", Finish::Whole, false, false, 2),
        (OLLAMA, "ollama-load.reply.json", Finish::Unknown, true, false, 0),
        (OLLAMA, "ollama-unload.reply.json", Finish::Unknown, true, false, 0),
        (OLLAMA, "ollama-error.reply.json", Finish::Failed, true, false, 0),
        (OLLAMA, "ollama-error.stream.ndjson", Finish::Failed, false, false, 3),
        (OLLAMA, "ollama-lost.stream.ndjson", Finish::Partial, false, false, 3),
        (OLLAMA, "ollama-cut.stream.ndjson", Finish::Partial, false, false, 7),
        (EMBED, "embeddings-openai.reply.json", Finish::Whole, false, false, 0),
        (EMBED, "embeddings-base64.reply.json", Finish::Whole, false, false, 0),
        (EMBED, "embeddings-gemini.reply.json", Finish::Whole, false, false, 0),
        (EMBED, "embeddings-gemini-batch.reply.json", Finish::Whole, false, false, 0),
        (EMBED, "embeddings-ollama.reply.json", Finish::Whole, false, false, 0),
        (EMBED, "embeddings-ollama-old.reply.json", Finish::Whole, false, false, 0),
        (EMBED, "embeddings-ollama-empty.reply.json", Finish::Unknown, true, false, 0),
        (EMBED, "embeddings-hole.reply.json", Finish::Unknown, true, false, 0),
        (EMBED, "embeddings-error.reply.json", Finish::Failed, true, false, 0),
        (OPAQUE, "opaque-speech.reply.bin", Finish::Unknown, false, false, 0),
        (OPAQUE, "opaque-images.reply.json", Finish::Unknown, false, false, 0),
        (OPAQUE, "opaque-images.stream.txt", Finish::Unknown, false, false, 0),
        (OPAQUE, "opaque-moderation.reply.json", Finish::Unknown, false, false, 0),
        (OPAQUE, "opaque-transcription.reply.json", Finish::Unknown, false, false, 0),
    ];
    for (dialect, name, finish, empty, broken, text_bytes) in cases {
        let seen = outcome(dialect, name);
        assert_eq!(
            (seen.finish, seen.empty, seen.broken_tool_call, seen.text_bytes),
            (finish, empty, broken, text_bytes),
            "{name}"
        );
        assert_eq!(seen.is_good(), finish == Finish::Whole && !empty && !broken, "{name}");
    }
}

/// A stream that lost its end is not whole, wherever it was cut, and neither is a document.
#[test]
fn nothing_that_lost_its_end_is_whole() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dialect");
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // An end marker that is only tolerated may be lost.
        .filter(|name| name != "responses-text-done.stream.txt")
        .collect();
    names.sort();
    let (mut streams, mut documents) = (0, 0);
    for name in names.iter().filter(|name| name.contains(".stream.") || name.contains(".reply.")) {
        let format = dialect_of(name).format();
        let body = fixture(name);
        // Spaces at the very end say nothing, except in server-sent events, which end with an empty line.
        let needed = match name.ends_with(".txt") {
            // A lone CR ends a line already.
            true => body.len() - usize::from(body.ends_with(b"\r\n")),
            false => body.trim_ascii_end().len(),
        };
        if name.contains(".stream.") {
            streams += 1;
            let mut reader = format.stream_reader();
            for at in 0..needed {
                for ended in [true, false] {
                    assert_ne!(reader.outcome(ended).finish, Finish::Whole, "{name}, {at} bytes of it");
                }
                reader.push(&body[at..=at]);
            }
        } else {
            documents += 1;
            for at in 0..needed {
                assert_ne!(format.read_reply(&body[..at]).finish, Finish::Whole, "{name}, {at} bytes of it");
            }
        }
    }
    assert!(streams >= 40 && documents >= 50, "{streams} streams and {documents} documents were read");
}

fn dialect_of(name: &str) -> Dialect {
    match name.split(['-', '.']).next().unwrap_or_default() {
        "openai" | "xai" | "groq" | "azure" => CHAT,
        "anthropic" => MESSAGES,
        "responses" => RESPONSES,
        "gemini" => GEMINI,
        "ollama" => OLLAMA,
        "embeddings" => EMBED,
        "opaque" => OPAQUE,
        other => panic!("a fixture of no dialect: {other}"),
    }
}

#[test]
fn counts_are_read_from_replies_and_streams() {
    let cases: &[(Dialect, &str, Option<Counts>)] = &[
        (CHAT, "openai-text.stream.txt", s((s(1400), s(1024), N, N, s(74), s(64), N))),
        (CHAT, "openai-text.reply.json", s((s(1400), s(1024), N, N, s(74), s(64), N))),
        (CHAT, "openai-no-done.stream.txt", s((s(1400), s(1024), N, N, s(74), s(64), N))),
        (CHAT, "xai-text.reply.json", s((s(32), s(6), N, N, s(103), s(94), N))),
        (CHAT, "groq-text.stream.txt", s((s(14), N, N, N, s(2), N, N))),
        (CHAT, "openai-cut.stream.txt", None),
        (CHAT, "openai-error.reply.json", None),
        (MESSAGES, "anthropic-text.stream.txt", s((s(5012), s(5000), s(0), s(0), s(5), N, N))),
        (MESSAGES, "anthropic-text.reply.json", s((s(5012), s(5000), s(0), s(0), s(5), N, N))),
        (MESSAGES, "anthropic-tool.stream.txt", s((s(5012), s(5000), s(0), s(0), s(60), s(20), N))),
        // Cumulative counts: the last value of each, never the sum.
        (MESSAGES, "anthropic-search.stream.txt", s((s(7700), s(0), s(100), s(200), s(90), N, s(2)))),
        // Cut before the real output count: it is unknown, not the placeholder.
        (MESSAGES, "anthropic-cut.stream.txt", s((s(5012), s(5000), s(0), s(0), N, N, N))),
        (MESSAGES, "anthropic-error.reply.json", None),
        (RESPONSES, "responses-text.reply.json", s((s(1400), s(0), s(1080), s(300), s(74), s(64), N))),
        (RESPONSES, "responses-text.stream.txt", s((s(1400), s(0), s(1080), s(300), s(74), s(64), N))),
        (RESPONSES, "responses-truncated.stream.txt", s((s(1400), s(0), s(1080), s(300), s(74), s(64), N))),
        (RESPONSES, "responses-search.reply.json", s((s(1400), s(1024), s(0), s(0), s(74), s(64), s(2)))),
        (RESPONSES, "responses-cut.stream.txt", None),
        (RESPONSES, "responses-failed.reply.json", None),
        // Thoughts are beside the answer's tokens, and the count of an empty answer is missing.
        (GEMINI, "gemini-text.reply.json", s((s(1400), s(1024), N, N, s(92), s(90), N))),
        (GEMINI, "gemini-text.stream.txt", s((s(1400), s(1024), N, N, s(92), s(90), N))),
        (GEMINI, "gemini-cut.stream.txt", s((s(1400), N, N, N, s(91), s(90), N))),
        (GEMINI, "gemini-thought-only.reply.json", s((s(8), N, N, N, s(250), s(250), N))),
        (GEMINI, "gemini-blocked.reply.json", s((s(8), N, N, N, s(0), N, N))),
        (GEMINI, "gemini-search.reply.json", s((s(38), N, N, N, s(1), N, N))),
        (GEMINI, "gemini-two-candidates.stream.txt", s((s(8), N, N, N, s(3), N, N))),
        (GEMINI, "gemini-error.reply.json", None),
        (OLLAMA, "ollama-chat.reply.json", s((s(32), s(8), N, N, s(3), N, N))),
        (OLLAMA, "ollama-generate.stream.ndjson", s((s(32), s(8), N, N, s(3), N, N))),
        (OLLAMA, "ollama-truncated.stream.ndjson", s((s(32), s(8), N, N, s(3), N, N))),
        // A count that an older server left out is unknown, not 0.
        (OLLAMA, "ollama-old.reply.json", s((N, N, N, N, s(3), N, N))),
        (OLLAMA, "ollama-cut.stream.ndjson", None),
        (OLLAMA, "ollama-load.reply.json", None),
        (EMBED, "embeddings-openai.reply.json", s((s(2), N, N, N, s(0), N, N))),
        (EMBED, "embeddings-gemini.reply.json", s((s(1), N, N, N, s(0), N, N))),
        (EMBED, "embeddings-gemini-batch.reply.json", None),
        (EMBED, "embeddings-ollama.reply.json", s((s(4), N, N, N, s(0), N, N))),
        (EMBED, "embeddings-ollama-old.reply.json", None),
        (OPAQUE, "opaque-images.reply.json", None),
    ];
    for (dialect, name, want) in cases {
        assert_eq!(counts(outcome(*dialect, name).usage), *want, "{name}");
    }
}

#[test]
fn the_model_and_the_tier_that_served_are_read() {
    for (dialect, name, model, tier) in [
        (CHAT, "openai-text.stream.txt", "gpt-5-mini-2025-08-07", "default"),
        (CHAT, "openai-text.reply.json", "gpt-5-mini-2025-08-07", "default"),
        (CHAT, "azure-text.stream.txt", "gpt-4o-2024-11-20", "default"),
        (MESSAGES, "anthropic-text.stream.txt", "claude-haiku-4-5-20251001", "standard"),
        (MESSAGES, "anthropic-text.reply.json", "claude-haiku-4-5-20251001", "standard"),
        (RESPONSES, "responses-text.reply.json", "gpt-6-luna", "default"),
        (RESPONSES, "responses-tool.stream.txt", "gpt-6-luna", "default"),
        (GEMINI, "gemini-text.reply.json", "gemini-2.5-flash", "standard"),
        (GEMINI, "gemini-text.stream.txt", "gemini-2.5-flash", "standard"),
        (GEMINI, "gemini-vertex.reply.json", "gemini-2.5-flash", "ON_DEMAND"),
    ] {
        let seen = outcome(dialect, name);
        assert_eq!(
            (seen.model.as_deref(), seen.service_tier.as_deref()),
            (Some(model), Some(tier)),
            "{name}"
        );
    }
}

#[test]
fn an_openai_request_is_read_and_edited() {
    let mut call = request("https://api.openai.com/v1/chat/completions", "openai.request.json");
    let format = call.format();
    assert_eq!((call.dialect, call.model().as_deref()), (CHAT, Some("gpt-5-mini")));
    assert!(call.wants_stream());
    assert_eq!((format.cap(&call), format.bypass(&call)), (Some(128), None));
    let prompt = format.prompt(&call);
    assert_eq!(prompt.messages.len(), 4);
    assert!(matches!(&prompt.messages[1].parts[..], [Part::Text(_), Part::Image(_)]));
    assert_eq!(prompt.messages[2].calls().collect::<Vec<_>>(), ["call_1"]);
    assert_eq!(prompt.messages[3].results().collect::<Vec<_>>(), ["call_1"]);
    call.set_model("gpt-5-nano").unwrap();
    let body = String::from_utf8(fixture("openai.request.json")).unwrap();
    assert_eq!(call.doc.bytes(), &body.replace("gpt-5-mini", "gpt-5-nano"), "no other byte moved");
}

#[test]
fn on_azure_the_deployment_is_the_model() {
    let uri = "https://x.openai.azure.com/openai/deployments/mini/chat/completions?api-version=2024-10-21";
    let mut call = Call::post(uri, r#"{"messages":[]}"#);
    assert_eq!((call.dialect, call.model().as_deref()), (CHAT, Some("mini")));
    call.set_model("nano").unwrap();
    assert_eq!(call.parts.uri, *uri.replace("/mini/", "/nano/"));
    assert_eq!(call.doc.bytes(), r#"{"messages":[]}"#, "the body had no model and has none");
    let mut both = Call::post(uri, r#"{"model":"mini","messages":[]}"#);
    both.set_model("nano").unwrap();
    assert_eq!(both.parts.uri, *uri.replace("/mini/", "/nano/"));
    assert_eq!(both.model().as_deref(), Some("nano"));
}

#[test]
fn an_anthropic_request_is_read_and_edited() {
    let mut call = request("https://api.anthropic.com/v1/messages", "anthropic.request.json");
    let format = call.format();
    assert_eq!((call.dialect, call.model().as_deref()), (MESSAGES, Some("claude-haiku-4-5")));
    assert!(call.wants_stream());
    assert_eq!((format.cap(&call), format.cap_floor(&call), format.bypass(&call)), (Some(4096), 2049, None));
    let raws: Vec<&str> = format.prompt(&call).messages.iter().map(|message| message.raw).collect();
    assert_eq!(raws.iter().map(|raw| format.has_cache_mark(raw)).collect::<Vec<_>>(), [false, false, true]);
    assert!(
        format.clear_tool_results(raws[2], "cleared").is_some_and(|cleared| cleared.contains("is_error"))
    );
    call.set_model("claude-sonnet-5").unwrap();
    let body = String::from_utf8(fixture("anthropic.request.json")).unwrap();
    assert_eq!(call.doc.bytes(), &body.replace("claude-haiku-4-5", "claude-sonnet-5"), "no other byte moved");
}

#[test]
fn claude_on_a_cloud_has_its_model_in_the_path() {
    let body = r#"{"anthropic_version":"v","max_tokens":9,"messages":[]}"#;
    for (uri, model, streams) in [
        (
            "https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude-haiku-4-5@20251001:streamRawPredict",
            "claude-haiku-4-5@20251001",
            true,
        ),
        (
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-haiku-4-5-v1%3A0/invoke",
            "anthropic.claude-haiku-4-5-v1:0",
            false,
        ),
    ] {
        let mut call = Call::post(uri, body);
        assert_eq!(
            (call.dialect, call.model().as_deref(), call.wants_stream()),
            (MESSAGES, Some(model), streams)
        );
        call.set_model("anthropic.claude-x").unwrap();
        assert_eq!(call.model().as_deref(), Some("anthropic.claude-x"));
        assert_eq!(call.doc.bytes(), body);
    }
}

#[test]
fn counting_tokens_is_not_taken_for_a_completion() {
    let call = Call::post(
        "https://api.anthropic.com/v1/messages/count_tokens",
        r#"{"model":"claude-haiku-4-5","messages":[]}"#,
    );
    assert_eq!(call.dialect, Dialect::Opaque);
}

#[test]
fn a_responses_request_is_read_and_edited() {
    let mut call = request("https://api.openai.com/v1/responses", "responses.request.json");
    let format = call.format();
    assert_eq!((call.dialect, call.model().as_deref()), (RESPONSES, Some("gpt-6-luna")));
    assert!(call.wants_stream());
    assert_eq!((format.cap(&call), format.cap_floor(&call), format.bypass(&call)), (Some(128), 16, None));
    let prompt = format.prompt(&call);
    let roles: Vec<Role> = prompt.messages.iter().map(|message| message.role).collect();
    assert_eq!(
        roles,
        [
            Role::User,
            Role::Assistant,
            Role::Assistant,
            Role::Tool,
            Role::Assistant,
            Role::Tool,
            Role::Developer
        ]
    );
    assert!(matches!(&prompt.system[..], [Part::Text(text)] if text == "You are brief."));
    assert!(matches!(&prompt.messages[0].parts[..], [Part::Text(_), Part::Image(_)]));
    assert!(matches!(&prompt.messages[1].parts[..], [Part::Thinking(text)] if text == "Look first."));
    for (asks, answers, id) in [(2, 3, "call_1"), (4, 5, "call_2")] {
        assert_eq!(prompt.messages[asks].calls().collect::<Vec<_>>(), [id]);
        assert_eq!(prompt.messages[answers].results().collect::<Vec<_>>(), [id]);
        let cleared = format.clear_tool_results(prompt.messages[answers].raw, "gone").unwrap();
        assert!(
            cleared.contains(r#""output":"gone""#) || cleared.contains(r#""output": "gone""#),
            "{cleared}"
        );
    }
    assert!(prompt.messages[6].bare);
    assert_eq!(
        prompt.tools.iter().map(|tool| (&*tool.name, tool.hosted)).collect::<Vec<_>>(),
        [("look", false), ("sql", false)]
    );
    assert_eq!(prompt.tool_choice, ToolChoice::Named("look".into()));
    assert!(prompt.response_schema.is_some_and(|schema| schema.contains("object")));
    format.set_cap(&mut call, 64, CapField::Auto).unwrap();
    call.set_model("gpt-6-nova").unwrap();
    let body = String::from_utf8(fixture("responses.request.json")).unwrap();
    let want = body
        .replace("gpt-6-luna", "gpt-6-nova")
        .replace(r#""max_output_tokens": 128"#, r#""max_output_tokens": 64"#);
    assert_eq!(call.doc.bytes(), &want, "no other byte moved");
}

#[test]
fn a_gemini_request_is_read_and_edited() {
    let uri = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=k";
    let mut call = request(uri, "gemini.request.json");
    let format = call.format();
    assert_eq!((call.dialect, call.model().as_deref()), (GEMINI, Some("gemini-2.5-flash")));
    assert!(call.wants_stream());
    assert_eq!((format.cap(&call), format.cap_floor(&call), format.bypass(&call)), (Some(256), 129, None));
    assert_eq!(format.choices(&call), 1);
    let prompt = format.prompt(&call);
    let roles: Vec<Role> = prompt.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
    assert!(matches!(
        &prompt.messages[0].parts[..],
        [Part::Text(_), Part::Image(Image { source: Source::Base64 { .. }, .. })]
    ));
    assert_eq!(prompt.messages[1].calls().collect::<Vec<_>>(), ["f1"]);
    assert_eq!(prompt.messages[2].results().collect::<Vec<_>>(), ["f1"]);
    assert!(
        matches!(&prompt.messages[2].parts[..], [Part::ToolResult { parts, .. }] if matches!(&parts[..], [Part::Text(_), Part::Image(_)])),
        "the picture in a function's answer is read too"
    );
    assert_eq!(prompt.tool_choice, ToolChoice::Named("look".into()));
    assert!(prompt.response_schema.is_some() && prompt.system.len() == 1);
    call.set_model("models/gemini-3 pro").unwrap();
    assert_eq!(call.parts.uri, *uri.replace("gemini-2.5-flash", "gemini-3%20pro"), "the query stays");
    assert_eq!(call.model().as_deref(), Some("gemini-3 pro"));
    assert_eq!(call.doc.bytes(), &fixture("gemini.request.json"), "the body names no model and stays");
}

#[test]
fn ollama_requests_are_read_and_stream_unless_they_say_no() {
    let mut call = request("http://127.0.0.1:11434/api/chat", "ollama-chat.request.json");
    let format = call.format();
    assert_eq!((call.dialect, call.model().as_deref()), (OLLAMA, Some("llama3.2:1b")));
    assert!(call.wants_stream(), "a stream is what comes when nothing is said");
    assert_eq!((format.cap(&call), format.bypass(&call)), (Some(32), None));
    let prompt = format.prompt(&call);
    let roles: Vec<Role> = prompt.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    assert!(matches!(&prompt.messages[1].parts[..], [Part::Text(_), Part::Image(_)]));
    assert_eq!(prompt.messages[2].calls().collect::<Vec<_>>(), ["call_1"]);
    assert_eq!(prompt.messages[3].results().collect::<Vec<_>>(), ["call_1"]);
    assert!(prompt.response_schema.is_some() && prompt.tools.len() == 1);
    format.set_cap(&mut call, 16, CapField::Auto).unwrap();
    assert_eq!(format.cap(&call), Some(16));
    assert_eq!(call.doc.object("options").unwrap().u64("num_ctx"), Some(4096), "the other options stay");

    let call = request("http://127.0.0.1:11434/api/generate", "ollama-generate.request.json");
    assert!(!call.wants_stream());
    assert_eq!(format.cap(&call), None, "-1 is no cap");
    let prompt = format.prompt(&call);
    assert!(
        matches!(&prompt.messages[0].parts[..], [Part::Text(_), Part::Text(suffix), Part::Image(_)] if suffix == "return p")
    );
    for body in
        [r#"{"model":"m"}"#, r#"{"model":"m","messages":[]}"#, r#"{"model":"m","prompt":"","keep_alive":0}"#]
    {
        let call = Call::post("http://127.0.0.1:11434/api/generate", body);
        assert_eq!(format.bypass(&call), Some("loads-a-model"), "{body}");
    }
}

#[test]
fn embedding_requests_of_each_api_are_read_and_edited() {
    let google = "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001";
    for (uri, name, model, wanted) in [
        (
            "https://api.openai.com/v1/embeddings",
            "embeddings-openai.request.json",
            "text-embedding-3-small",
            "new",
        ),
        (
            &format!("{google}:embedContent"),
            "embeddings-gemini.request.json",
            "gemini-embedding-001",
            "models/new",
        ),
        (
            &format!("{google}:batchEmbedContents?key=k"),
            "embeddings-gemini-batch.request.json",
            "gemini-embedding-001",
            "models/new",
        ),
        ("http://127.0.0.1:11434/api/embed", "embeddings-ollama.request.json", "all-minilm", "new"),
        ("http://127.0.0.1:11434/api/embeddings", "embeddings-ollama-old.request.json", "all-minilm", "new"),
    ] {
        let mut call = request(uri, name);
        let format = call.format();
        assert_eq!((call.dialect, call.model().as_deref()), (EMBED, Some(model)), "{name}");
        assert_eq!(
            (call.wants_stream(), format.cap(&call), format.bypass(&call)),
            (false, None, None),
            "{name}"
        );
        assert!(format.prompt(&call).messages.is_empty());
        assert!(format.set_cap(&mut call, 9, CapField::Auto).is_err(), "{name}");
        assert_eq!(call.doc.bytes(), &fixture(name), "a refused edit changes nothing");
        call.set_model("new").unwrap();
        assert_eq!(call.model().as_deref(), Some("new"), "{name}");
        let body = String::from_utf8(fixture(name)).unwrap();
        let named = if wanted == "new" { model.to_owned() } else { format!("models/{model}") };
        assert_eq!(
            call.doc.bytes(),
            &body.replace(&named, wanted),
            "{name}: all that names the model, nothing else"
        );
    }
    let uri = "https://x.openai.azure.com/openai/deployments/small/embeddings?api-version=2024-10-21";
    let mut azure = Call::post(uri, r#"{"input":"alpha"}"#);
    assert_eq!((azure.dialect, azure.model().as_deref()), (EMBED, Some("small")));
    azure.set_model("large").unwrap();
    assert_eq!(azure.parts.uri, *uri.replace("/small/", "/large/"));
    assert_eq!(azure.doc.bytes(), r#"{"input":"alpha"}"#);
}

#[test]
fn what_is_no_known_format_is_passed_by() {
    for (path, name) in [
        ("audio/speech", "opaque-speech.request.json"),
        ("images/generations", "opaque-images.request.json"),
        ("audio/transcriptions", "opaque-transcription.request.txt"),
        ("moderations", "opaque-moderation.request.json"),
    ] {
        for base in ["https://api.openai.com/v1", "https://gateway.example/openai/v1", "https://h"] {
            let mut call = request(&format!("{base}/{path}"), name);
            let format = call.format();
            assert_eq!((call.dialect, format.bypass(&call)), (OPAQUE, Some("opaque")), "{name}");
            assert!(
                call.set_model("other").is_err() && format.set_cap(&mut call, 9, CapField::Auto).is_err()
            );
            assert_eq!(call.doc.bytes(), &fixture(name), "{name}: every byte stays");
            assert!(format.prompt(&call).messages.is_empty());
        }
    }
    // Speech has the members of a response, so a path nobody knows must not make it one.
    assert_eq!(request("https://h/tts", "opaque-speech.request.json").dialect, OPAQUE);
}

#[test]
fn what_depends_on_more_than_the_request_is_a_bypass() {
    let gemini = "https://us.aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/m:generateContent";
    let azure = "https://x.openai.azure.com/openai/v1/responses?api-version=preview";
    let chat = "https://api.openai.com/v1/chat/completions";
    let claude = "https://api.anthropic.com/v1/messages";
    let cases = [
        (chat, r#""store":true"#, Some("store-true")),
        (chat, r#""store":null"#, None),
        (chat, r#""web_search_options":{}"#, Some("web-search")),
        (chat, r#""search_parameters":{"mode":"auto"}"#, Some("web-search")),
        (chat, r#""search_parameters":{"mode":"off"}"#, None),
        (chat, r#""enable_search":true"#, Some("web-search")),
        (chat, r#""enable_search":false"#, None),
        (chat, r#""data_sources":[{"type":"azure_search"}]"#, Some("data-sources")),
        (chat, r#""dataSources":[{"type":"AzureCognitiveSearch"}]"#, Some("data-sources")),
        (chat, r#""data_sources":[]"#, None),
        (chat, r#""plugins":[{"id":"web"}]"#, Some("plugins")),
        (chat, r#""plugins":[]"#, None),
        (chat, r#""deferred":true"#, Some("background")),
        (chat, r#""modalities":["text","audio"]"#, Some("audio-output")),
        (chat, r#""modalities":["text"]"#, None),
        (chat, r#""messages":[{"role":"assistant","audio":{"id":"a"}}]"#, Some("earlier-audio")),
        (chat, r#""tools":[{"type":"function","function":{"name":"f"}}]"#, None),
        (chat, r#""tools":[{"type":"custom","custom":{"name":"f"}}]"#, None),
        (chat, r#""tools":[{"type":"web_search"}]"#, Some("hosted-tool")),
        (chat, r#""tools":[{"type":"browser_search"}]"#, Some("hosted-tool")),
        (
            chat,
            r#""tools":[{"type":"builtin_function","function":{"name":"$web_search"}}]"#,
            Some("hosted-tool"),
        ),
        (
            chat,
            r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://h/p"}}]}]"#,
            Some("content-by-url"),
        ),
        (
            chat,
            r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}]"#,
            None,
        ),
        (
            chat,
            r#""messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]"#,
            Some("content-by-id"),
        ),
        (
            chat,
            r#""messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":"https://h/v"}}]}]"#,
            Some("content-by-url"),
        ),
        (claude, r#""container":"c""#, Some("container")),
        (claude, r#""container":{"skills":[]}"#, Some("container")),
        (claude, r#""mcp_servers":[{"type":"url","url":"https://h"}]"#, Some("mcp-servers")),
        (claude, r#""fallbacks":[{"model":"n"}]"#, Some("fallbacks")),
        (claude, r#""thread":"t""#, Some("thread")),
        (claude, r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#, Some("hosted-tool")),
        (claude, r#""tools":[{"type":"web_fetch_20250910","name":"web_fetch"}]"#, Some("hosted-tool")),
        (claude, r#""tools":[{"type":"code_execution_20250825","name":"code"}]"#, Some("hosted-tool")),
        (claude, r#""tools":[{"type":"mcp_toolset","mcp_server_name":"s"}]"#, Some("hosted-tool")),
        (
            claude,
            r#""tools":[{"type":"advisor_20260301","name":"advisor","model":"n"}]"#,
            Some("hosted-tool"),
        ),
        (
            claude,
            r#""tools":[{"type":"bash_20250124","name":"bash"},{"type":"custom","name":"f"},{"name":"g"}]"#,
            None,
        ),
        (claude, r#""max_tokens":0"#, Some("warm-up")),
        (
            claude,
            r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://h/p"}}]}]"#,
            Some("content-by-url"),
        ),
        (
            claude,
            r#""messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]"#,
            Some("content-by-id"),
        ),
        (
            claude,
            r#""messages":[{"role":"user","content":[{"type":"container_upload","file_id":"f"}]}]"#,
            Some("content-by-id"),
        ),
        (gemini, r#""continuation_token":"c""#, Some("continuation")),
        (gemini, r#""mcp_servers":[{"name":"s"}]"#, Some("mcp-servers")),
        (gemini, r#""tools":[{"google_search":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"url_context":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"code_execution":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"function_declarations":[{"name":"f"}]}]"#, None),
        (gemini, r#""cached_content":"cachedContents/c""#, None),
        (
            gemini,
            r#""contents":[{"parts":[{"file_data":{"mime_type":"video/mp4","file_uri":"https://www.youtube.com/watch?v=x"}}]}]"#,
            Some("content-by-url"),
        ),
        (azure, r#""store":true"#, Some("store-true")),
        (azure, r#""store":false"#, None),
        (azure, r#""previous_response_id":"r""#, Some("earlier-response")),
        (azure, r#""previous_response_id":null"#, None),
        (azure, r#""conversation":{"id":"c"}"#, Some("conversation")),
        (azure, r#""background":true"#, Some("background")),
        (azure, r#""background":false"#, None),
        (azure, r#""background_options":{}"#, Some("background")),
        (azure, r#""prompt":{"id":"p"}"#, Some("prompt-without-version")),
        (azure, r#""prompt":{"id":"p","version":"2","variables":{"a":"b"}}"#, None),
        (
            azure,
            r#""prompt":{"id":"p","version":"2","variables":{"a":{"type":"input_file","file_id":"f"}}}"#,
            Some("content-by-id"),
        ),
        (azure, r#""input":[{"type":"item_reference","id":"i"}]"#, Some("item-reference")),
        (azure, r#""tools":[{"type":"web_search"}]"#, Some("hosted-tool")),
        (azure, r#""tools":[{"type":"file_search","vector_store_ids":["v"]}]"#, Some("hosted-tool")),
        (azure, r#""tools":[{"type":"code_interpreter","container":"c"}]"#, Some("hosted-tool")),
        (azure, r#""tools":[{"type":"image_generation"}]"#, Some("hosted-tool")),
        (azure, r#""tools":[{"type":"computer_use_preview"}]"#, Some("hosted-tool")),
        (azure, r#""tools":[{"type":"shell"}]"#, Some("hosted-tool")),
        (azure, r#""tools":[{"type":"mcp","server_url":"https://h"}]"#, Some("hosted-tool")),
        (azure, r#""tools":[{"type":"function","name":"f"},{"type":"custom","name":"g"}]"#, None),
        (
            azure,
            r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"https://h/p"}]}]"#,
            Some("content-by-url"),
        ),
        (
            azure,
            r#""input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]"#,
            Some("content-by-id"),
        ),
        (
            azure,
            r#""input":[{"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","file_id":"f"}}]"#,
            Some("content-by-id"),
        ),
        (
            azure,
            r#""input":[{"type":"function_call_output","call_id":"c","output":[{"type":"input_image","image_url":"https://h/p"}]}]"#,
            Some("content-by-url"),
        ),
        (gemini, r#""store":true"#, Some("store-true")),
        (gemini, r#""store":false"#, None),
        (gemini, r#""continuationToken":"c""#, Some("continuation")),
        (gemini, r#""tools":[{"googleSearch":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"urlContext":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"codeExecution":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"fileSearch":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"googleMaps":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"retrieval":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"computerUse":{}}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"mcpServers":[]}]"#, Some("hosted-tool")),
        (gemini, r#""tools":[{"functionDeclarations":[{"name":"f"}]}]"#, None),
        (gemini, r#""cachedContent":"cachedContents/c""#, None),
        (
            gemini,
            r#""contents":[{"parts":[{"fileData":{"mimeType":"video/mp4","fileUri":"gs://b/o"}}]}]"#,
            Some("content-by-url"),
        ),
        (
            gemini,
            r#""contents":[{"parts":[{"functionResponse":{"name":"f","response":{},"parts":[{"fileData":{"mimeType":"image/png","fileUri":"gs://b/o"}}]}}]}]"#,
            Some("content-by-url"),
        ),
        ("http://h/api/chat", r#""messages":[{"role":"user","content":"x"}]"#, None),
        ("http://h/api/chat", r#""messages":[]"#, Some("loads-a-model")),
        ("http://h/api/generate", r#""prompt":"x","_debug_render_only":true"#, Some("debug")),
        ("http://h/v1/embeddings", r#""input":["https://h is only a text"]"#, None),
        ("http://h/v1/embeddings", r#""input":[[1,2],[3]]"#, None),
        ("http://h/v1/embeddings", r#""input":[{"image":"https://h/p.png"}]"#, Some("content-by-url")),
        (
            "http://h/v1beta/models/e:embedContent",
            r#""content":{"parts":[{"fileData":{"fileUri":"gs://b/o"}}]}"#,
            Some("content-by-url"),
        ),
        (
            "http://h/v1beta/models/e:batchEmbedContents",
            r#""requests":[{"content":{"parts":[{"fileData":{"fileUri":"gs://b/o"}}]}}]"#,
            Some("content-by-url"),
        ),
    ];
    for (uri, member, why) in cases {
        let call = Call::post(uri, format!(r#"{{"model":"m",{member}}}"#));
        assert_ne!(call.dialect, OPAQUE, "{uri}");
        assert_eq!(call.format().bypass(&call), why, "{uri} {member}");
    }
    for (model, why) in [
        ("gpt-4o-search-preview", Some("web-search")),
        ("gpt-5-search-api", Some("web-search")),
        ("perplexity/sonar-pro", Some("web-search")),
        ("openai/gpt-5-mini:online", Some("web-search")),
        ("groq/compound-mini", Some("web-search")),
        ("gpt-5-mini", None),
        ("deep-research-local", None),
    ] {
        let call = Call::post(chat, format!(r#"{{"model":"{model}","messages":[]}}"#));
        assert_eq!(call.format().bypass(&call), why, "{model}");
    }
}

/// Usage objects as providers returned them, each with its expected normal form.
#[test]
fn recorded_usages_get_their_normal_form() {
    let data = std::env::var_os("THRIFTY_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let Ok(text) = fs::read_to_string(data.join("cost_vectors_public.json")) else {
        println!("skipped: no cost_vectors_public.json in the data folder");
        return;
    };
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for vector in vectors["recorded_usages"].as_array().unwrap() {
        let flavor =
            format!("{}/{}", vector["provider"].as_str().unwrap(), vector["api_flavor"].as_str().unwrap());
        let dialect = match flavor.as_str() {
            "openai/chat" | "groq/default" | "mistral/default" | "deepseek/chat" => CHAT,
            "anthropic/default" => MESSAGES,
            "openai/responses" => Dialect::OpenAiResponses,
            "google/default" => Dialect::GeminiGenerate,
            "openai/embeddings" => Dialect::Embeddings,
            other => panic!("a flavor without a dialect: {other}"),
        };
        let raw = vector["raw_usage"].to_string();
        let usage = dialect.format().usage(&raw).unwrap_or_else(|| panic!("{flavor} is not read: {raw}"));
        let want = |name: &str| vector["normalized_usage"][name].as_u64().unwrap_or(0);
        for (name, got) in [
            ("input_tokens", usage.input),
            ("cache_read_tokens", usage.read),
            ("cache_write_tokens", Some(usage.write_short.unwrap_or(0) + usage.write_long.unwrap_or(0))),
            ("cache_write_1h_tokens", usage.write_long),
            ("output_tokens", usage.output),
            ("output_reasoning_tokens", usage.reasoning),
            ("web_searches", usage.searches),
            ("input_audio_tokens", usage.input_audio),
            ("input_image_tokens", usage.input_image),
            ("input_video_tokens", usage.input_video),
            ("cache_audio_read_tokens", usage.read_audio),
            ("cache_image_read_tokens", usage.read_image),
            ("cache_video_read_tokens", usage.read_video),
            ("output_audio_tokens", usage.output_audio),
            ("output_image_tokens", usage.output_image),
            ("input_text_tokens", usage.input_text),
            ("input_tool_tokens", usage.input_tool),
            ("output_text_tokens", usage.output_text),
        ] {
            assert_eq!(got.unwrap_or(0), want(name), "{name} of {flavor}: {raw}");
        }
        assert!(usage.is_known(), "{flavor}: {raw}");
        *seen.entry(flavor).or_default() += 1;
    }
    println!("recorded usages that match: {seen:?}");
    assert!(seen.len() >= 8, "the file holds all flavors: {seen:?}");
}

#[test]
fn each_name_and_alias_of_a_dialect_is_understood() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.name().parse::<Dialect>().unwrap(), dialect);
        assert_eq!(dialect.format().dialect(), dialect);
    }
    for (alias, dialect) in [
        ("Groq", CHAT),
        ("mistral", CHAT),
        ("deepseek", CHAT),
        ("xai", CHAT),
        ("anthropic", MESSAGES),
        ("responses", Dialect::OpenAiResponses),
        ("google", Dialect::GeminiGenerate),
        ("gemini", Dialect::GeminiGenerate),
        ("ollama", Dialect::OllamaChat),
    ] {
        assert_eq!(alias.parse::<Dialect>().unwrap(), dialect, "{alias}");
    }
    assert!("nobody".parse::<Dialect>().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Bytes that hold pieces of real streams in any order, so that every branch is reached.
    #[test]
    fn readers_take_any_bytes_and_any_split(
        pieces in prop::collection::vec(prop_oneof![
            Just("data: "), Just("event: error"), Just("\n"), Just("\r\n\r\n"), Just("\n\n"), Just("[DONE]"), Just("{"), Just("}"),
            Just(r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}"#),
            Just(r#"{"choices":[{"delta":{"tool_calls":[{"index":-1,"function":{"arguments":"{"}}]}}],"usage":{"prompt_tokens":-1}}"#),
            Just(r#"{"type":"message_start","message":{"usage":{"input_tokens":1}}}"#),
            Just(r#"{"type":"content_block_delta","index":9,"delta":{"type":"input_json_delta","partial_json":"{"}}"#),
            Just(r#"{"type":"message_stop"}"#),
            Just(r#"{"candidates":[{"finishReason":"STOP","content":{"parts":[{"text":"é"}]}}]}"#),
            Just(r#"{"done":true,"done_reason":"stop","eval_count":1e99}"#),
            Just("\u{FEFF}é"), Just("null"), Just("[[[["),
        ], 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let text = pieces.concat();
        let bytes = text.as_bytes();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        for dialect in Dialect::ALL {
            let _ = dialect.format().read_reply(bytes);
            let _ = dialect.format().usage(&text);
            let mut whole = dialect.format().stream_reader();
            whole.push(bytes);
            let mut split = dialect.format().stream_reader();
            at.windows(2).for_each(|pair| split.push(&bytes[pair[0]..pair[1]]));
            for ended in [true, false] {
                prop_assert_eq!(whole.outcome(ended), split.outcome(ended), "{}", dialect);
            }
        }
    }

    #[test]
    fn requests_of_any_json_are_read(
        value in prop_oneof![Just("null"), Just("7"), Just("\"x\""), Just("[]"), Just("[1]"), Just("{}"), Just("[{}]"),
            Just(r#"[{"role":"user","content":[{"type":"image"},{"type":"tool_result","content":{}}],"parts":[{}]}]"#)],
        name in prop_oneof![Just("messages"), Just("contents"), Just("input"), Just("system"), Just("tools"),
            Just("tool_choice"), Just("thinking"), Just("generationConfig"), Just("options"), Just("toolConfig")],
    ) {
        let (parts, ()) = http::Request::post("http://h/models/m:x").body(()).unwrap().into_parts();
        for dialect in Dialect::ALL {
            let mut call = Call::new(dialect, parts.clone(), format!(r#"{{"model":"m","{name}":{value}}}"#));
            let format = call.format();
            for message in &format.prompt(&call).messages {
                let _ = (format.has_cache_mark(message.raw), format.clear_tool_results(message.raw, "x"));
            }
            let _ = (format.bypass(&call), format.cap(&call), format.cap_floor(&call), format.choices(&call));
            let before = call.doc.bytes().clone();
            if format.set_cap(&mut call, 9, CapField::Auto).is_err() {
                prop_assert_eq!(call.doc.bytes(), &before, "a refused edit changes nothing");
            } else {
                prop_assert_eq!(format.cap(&call), Some(9));
            }
        }
    }
}
