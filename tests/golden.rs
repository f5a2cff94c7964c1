//! Every file under `fixtures/dialect` and `fixtures/wire` says what `fixtures/facts.jsonl` says of it.
//!
//! The sidecar has a line for each file: of a request where its model, cap, messages, tools and pictures are; of a
//! reply, a stream or an error who answered, at what use, and how it ended. Unknown is `null`. A file without a line
//! fails, and so does a line without a file.

#![expect(clippy::disallowed_methods, reason = "facts are compared as values, not passed on")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use thrifty::call::{Call, Dialect};
use thrifty::dialect::{Outcome, Part, Usage};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in ["dialect", "wire"] {
        for entry in fs::read_dir(fixtures().join(folder)).expect("the folder is there") {
            let path = entry.expect("it can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("its name is text").to_owned();
            let body = fs::read(&path).expect("it can be read");
            assert!(files.insert(name.clone(), body).is_none(), "{name} is there once");
        }
    }
    files
}

fn dialect_of(name: &str) -> Dialect {
    match name.split(['-', '.']).next().unwrap_or_default() {
        "openai" | "xai" | "groq" | "azure" => Dialect::OpenAiChat,
        "anthropic" => Dialect::AnthropicMessages,
        "responses" => Dialect::OpenAiResponses,
        "gemini" => Dialect::GeminiGenerate,
        "ollama" => Dialect::OllamaChat,
        "embeddings" => Dialect::Embeddings,
        "opaque" => Dialect::Opaque,
        other => panic!("a fixture of no dialect: {other}"),
    }
}

/// Where a request of this name is sent.
fn uri_of(name: &str) -> &'static str {
    match name.split('.').next().unwrap_or_default() {
        "ollama-generate" => "http://127.0.0.1:11434/api/generate",
        "embeddings-openai" => "https://api.openai.com/v1/embeddings",
        "embeddings-gemini" => "https://generativelanguage.googleapis.com/v1beta/models/e:embedContent",
        "embeddings-gemini-batch" => {
            "https://generativelanguage.googleapis.com/v1beta/models/e:batchEmbedContents"
        }
        "embeddings-ollama" => "http://127.0.0.1:11434/api/embed",
        "embeddings-ollama-old" => "http://127.0.0.1:11434/api/embeddings",
        "opaque-images" => "https://api.openai.com/v1/images/generations",
        "opaque-speech" => "https://api.openai.com/v1/audio/speech",
        "opaque-moderation" => "https://api.openai.com/v1/moderations",
        "opaque-transcription" => "https://api.openai.com/v1/audio/transcriptions",
        name => match dialect_of(name) {
            Dialect::OpenAiChat => "https://api.openai.com/v1/chat/completions",
            Dialect::AnthropicMessages => "https://api.anthropic.com/v1/messages",
            Dialect::OpenAiResponses => "https://api.openai.com/v1/responses",
            Dialect::OllamaChat => "http://127.0.0.1:11434/api/chat",
            Dialect::GeminiGenerate => {
                "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"
            }
            other => panic!("no path for {name}, which is {other}"),
        },
    }
}

fn of_request(name: &str, body: &[u8]) -> Value {
    let call = Call::post(uri_of(name), body.to_vec());
    let format = call.format();
    let prompt = format.prompt(&call);
    fn pictures(parts: &[Part<'_>]) -> usize {
        parts
            .iter()
            .map(|part| match part {
                Part::Image(_) => 1,
                Part::ToolResult { parts, .. } => pictures(parts),
                _ => 0,
            })
            .sum()
    }
    json!({
        "dialect": call.dialect.name(),
        "model": call.model(),
        "stream": call.wants_stream(),
        "cap": format.cap(&call),
        "choices": format.choices(&call),
        "system": prompt.system.len(),
        "messages": prompt.messages.len(),
        "tools": prompt.tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(),
        "calls": prompt.messages.iter().flat_map(|message| message.calls()).collect::<Vec<_>>(),
        "results": prompt.messages.iter().flat_map(|message| message.results()).collect::<Vec<_>>(),
        "pictures": prompt.messages.iter().map(|message| pictures(&message.parts)).sum::<usize>(),
        "schema": prompt.response_schema.is_some(),
        "bypass": format.bypass(&call),
    })
}

fn of_outcome(outcome: &Outcome) -> Value {
    json!({
        "model": outcome.model,
        "tier": outcome.service_tier,
        "usage": outcome.usage.map(counts),
        "finish": outcome.finish.name(),
        "empty": outcome.empty,
        "broken": outcome.broken_tool_call,
        "text_bytes": outcome.text_bytes,
    })
}

/// The counts that are known, by name.
fn counts(usage: Usage) -> Value {
    let all = [
        ("input", usage.input),
        ("read", usage.read),
        ("write_short", usage.write_short),
        ("write_long", usage.write_long),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
        ("input_audio", usage.input_audio),
        ("input_image", usage.input_image),
        ("input_video", usage.input_video),
        ("read_audio", usage.read_audio),
        ("read_image", usage.read_image),
        ("read_video", usage.read_video),
        ("output_audio", usage.output_audio),
        ("output_image", usage.output_image),
        ("input_text", usage.input_text),
        ("input_tool", usage.input_tool),
        ("output_text", usage.output_text),
        ("searches", usage.searches),
    ];
    let known = all.into_iter().filter_map(|(name, count)| Some((name.to_owned(), Value::from(count?))));
    Value::Object(known.collect::<Map<_, _>>())
}

fn of_file(name: &str, body: &[u8]) -> Value {
    let format = dialect_of(name).format();
    if name.contains(".request.") {
        of_request(name, body)
    } else if name.contains(".stream.") {
        let mut reader = format.stream_reader();
        reader.push(body);
        of_outcome(&reader.outcome(true))
    } else {
        of_outcome(&format.read_reply(body))
    }
}

#[test]
fn each_file_says_what_is_written_of_it() {
    let text = fs::read_to_string(fixtures().join("facts.jsonl")).unwrap();
    let mut written: BTreeMap<String, Value> = text
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
            let name = line.as_object_mut().unwrap().remove("file").expect("a line names its file");
            (name.as_str().unwrap().to_owned(), line)
        })
        .collect();
    let mut wrong = Vec::new();
    for (name, body) in files() {
        let is = of_file(&name, &body);
        match written.remove(&name) {
            Some(said) if said == is => {}
            said => {
                let mut line = json!({ "file": name });
                line.as_object_mut().unwrap().extend(is.as_object().unwrap().clone());
                wrong.push(format!("{line}\n  was to be {}", said.unwrap_or(Value::Null)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} files say something else:\n{}", wrong.len(), wrong.join("\n"));
    assert!(written.is_empty(), "lines without a file: {:?}", written.keys());
}

/// Wherever a stream is cut, and byte by byte, all that is read of it is the same.
#[test]
fn each_stream_is_read_alike_however_it_is_split() {
    let mut streams = 0;
    for (name, body) in files().into_iter().filter(|(name, _)| name.contains(".stream.")) {
        streams += 1;
        let format = dialect_of(&name).format();
        let read = |chunks: &[&[u8]]| {
            let mut reader = format.stream_reader();
            chunks.iter().for_each(|chunk| reader.push(chunk));
            [true, false].map(|ended| reader.outcome(ended))
        };
        let whole = read(&[&body]);
        for cut in 0..=body.len() {
            assert_eq!(read(&[&body[..cut], &body[cut..]]), whole, "{name} cut at byte {cut}");
        }
        for len in [1, 2, 3, 7, 64] {
            let chunks: Vec<&[u8]> = body.chunks(len).collect();
            assert_eq!(read(&chunks), whole, "{name} in pieces of {len} bytes");
        }
        // What a reader says on the way does not change what it says at the end.
        let mut asked = format.stream_reader();
        for byte in body.chunks(1) {
            asked.push(byte);
            let _ = (asked.outcome(true), asked.outcome(false));
        }
        assert_eq!([true, false].map(|ended| asked.outcome(ended)), whole, "{name} asked after every byte");
    }
    assert!(streams >= 60, "{streams} streams were read");
}

/// A stream or document that lost its end is not whole, wherever it was cut.
#[test]
fn nothing_that_lost_its_end_is_good() {
    for (name, body) in files() {
        // An end marker that is only tolerated may be lost, and a JSON array's end is its bracket.
        if name.contains(".request.") || name == "responses-text-done.stream.txt" {
            continue;
        }
        let format = dialect_of(&name).format();
        // A lone CR ends a line, and after the last bracket or brace white space says nothing.
        let text = body.trim_ascii_end();
        let is_events = name.ends_with(".stream.txt") && !text.ends_with(b"]") && !text.ends_with(b"}]");
        let needed = match is_events || text.ends_with(b"[DONE]") {
            true => body.len() - usize::from(body.ends_with(b"\r\n")),
            false => text.len(),
        };
        if name.contains(".stream.") {
            let mut reader = format.stream_reader();
            for at in 0..needed {
                for ended in [true, false] {
                    assert!(!reader.outcome(ended).is_good(), "{name}, {at} bytes of it");
                }
                reader.push(&body[at..=at]);
            }
        } else {
            for at in 0..needed {
                assert!(!format.read_reply(&body[..at]).is_good(), "{name}, {at} bytes of it");
            }
        }
    }
}
