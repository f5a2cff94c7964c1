//! Golden cases of each wire format: what a request, a reply or a stream of the real shape is read as.
//!
//! The bodies under `fixtures/dialect` are made up; their shape is the vendors', their counts add up.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use thrifty::call::{Call, Dialect};
use thrifty::dialect::{CapField, Finish, Outcome, Part, Usage};

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
