//! Streams become documents and documents streams, without loss, for every format that has both.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use thrifty::cache::digest;
use thrifty::call::json::quote;
use thrifty::call::{Call, Dialect};
use thrifty::dialect::{Outcome, StreamShape};

const CHAT: Dialect = Dialect::OpenAiChat;

/// More cases at will: `THRIFTY_CASES=100000`.
fn cases() -> ProptestConfig {
    let cases = std::env::var("THRIFTY_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    ProptestConfig::with_cases(cases)
}

/// Choices from a list of numbers, so that a failing case shrinks to a small document.
struct Dice(std::vec::IntoIter<u16>);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0.next().map_or(0, usize::from) % n
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn times(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> String) -> String {
        let n = self.below(most + 1);
        let all: Vec<String> = (0..n).map(|_| one(self)).collect();
        format!("[{}]", all.join(","))
    }

    fn plain(&mut self) -> String {
        let of = [
            "",
            "a",
            " ",
            "é€😀",
            "\"",
            "\\",
            "\n",
            "\r\n",
            "\u{0}",
            "}",
            "lorem ipsum dolor sit amet, ",
            "data: x\n\n",
        ];
        (0..self.below(12)).map(|_| self.pick(&of)).collect()
    }

    fn text(&mut self) -> String {
        quote(&self.plain())
    }

    /// A value of a kind that nobody knows, as an API may send it.
    fn value(&mut self) -> String {
        let number = self.pick(&["1.50", "12345678901234567890123", "-0.0e3", "7"]).to_owned();
        match self.below(3) {
            0 => format!(r#"{{"n": {number},"t":{}}}"#, self.text()),
            1 => format!(r#"{{"list":[{number},{},null ,true]}}"#, self.text()),
            _ => format!(r#"{{"a":{{"b":{number}}}}}"#),
        }
    }

    /// JSON text of an object, as the arguments of a tool.
    fn arguments(&mut self) -> String {
        match self.below(3) {
            0 => "{}".to_owned(),
            1 => format!(r#"{{"q":{},"n":1.0}}"#, self.text()),
            _ => format!(r#"{{"deep":{{"list":[1,2.50,{}]}}}}"#, self.text()),
        }
    }

    /// Log probabilities, of the text's own tokens or of others.
    fn logprobs(&mut self, text: &str) -> String {
        let tokens: Vec<&str> =
            if self.flip() { text.split_inclusive(' ').collect() } else { vec!["x", "é"] };
        let entry = |token: &str| {
            format!(r#"{{"token":{},"logprob":-0.50,"bytes":null,"top_logprobs":[]}}"#, quote(token))
        };
        format!("[{}]", tokens.into_iter().map(entry).collect::<Vec<_>>().join(","))
    }
}

/// An object of the members that are there.
fn object<const N: usize>(members: [(&str, Option<String>); N]) -> String {
    let members = members.into_iter().filter_map(|(name, raw)| Some(format!("{}:{}", quote(name), raw?)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(" , "))
}

fn s(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn chat(d: &mut Dice) -> String {
    let choices: Vec<String> = (0..1 + d.below(3)).map(|index| choice(d, index)).collect();
    let usage = d.flip().then(|| {
        s(r#"{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16,"completion_tokens_details":{"reasoning_tokens":2}}"#)
    });
    object([
        ("id", s("\"chatcmpl-1\"")),
        ("object", s("\"chat.completion\"")),
        ("created", s("1795000000")),
        ("model", s("\"gpt-5-mini-2025-08-07\"")),
        ("choices", Some(format!("[{}]", choices.join(",")))),
        ("usage", usage.flatten()),
        ("service_tier", d.flip().then(|| "\"default\"".to_owned())),
        ("system_fingerprint", d.flip().then(|| d.pick(&["null", "\"fp\""]).to_owned())),
        ("citations", d.flip().then(|| d.times(2, Dice::text))),
        ("cost", d.flip().then(|| "0.0010".to_owned())),
    ])
}

fn choice(d: &mut Dice, index: usize) -> String {
    let content = d.plain();
    let logprobs = match d.below(5) {
        0 => s("null"),
        1 => Some(format!(r#"{{"content":{},"refusal":null}}"#, d.logprobs(&content))),
        2 => s(r#"{"content":[],"refusal":null}"#),
        3 if d.flip() => {
            Some(format!(r#"{{"content":{},"refusal":{}}}"#, d.logprobs(&content), d.logprobs("")))
        }
        3 => Some(format!(r#"{{"content":null,"refusal":{}}}"#, d.logprobs(""))),
        _ => None,
    };
    let calls = match d.below(4) {
        0 => s("[]"),
        1 => None,
        _ => Some(d.times(3, |d| {
            let function = object([("name", Some(d.text())), ("arguments", Some(quote(&d.arguments())))]);
            let id = quote(&format!("call_{}", d.below(9)));
            object([
                ("id", Some(id)),
                ("type", s("\"function\"")),
                ("function", Some(function)),
                ("extra_content", d.flip().then(|| d.value())),
            ])
        })),
    };
    let message = object([
        ("role", s("\"assistant\"")),
        ("content", Some(if d.flip() { quote(&content) } else { "null".to_owned() })),
        ("refusal", d.flip().then(|| if d.flip() { "null".to_owned() } else { d.text() })),
        ("reasoning_content", d.flip().then(|| d.text())),
        ("some_text", d.flip().then(|| d.text())),
        ("some_value", d.flip().then(|| d.value())),
        ("tool_calls", calls),
        (
            "function_call",
            d.flip().then(|| object([("name", s("\"f\"")), ("arguments", Some(quote(&d.arguments())))])),
        ),
        ("annotations", d.flip().then(|| d.times(2, Dice::value))),
        ("audio", d.flip().then(|| "null".to_owned())),
    ]);
    object([
        ("index", Some(index.to_string())),
        ("message", Some(message)),
        ("logprobs", logprobs),
        ("finish_reason", Some(quote(d.pick(&["stop", "tool_calls", "length", "content_filter"])))),
        ("content_filter_results", d.flip().then(|| d.value())),
    ])
}

fn responses(d: &mut Dice) -> String {
    let output = d.times(4, |d| match d.below(4) {
        0 => object([
            ("type", s("\"message\"")),
            ("id", s("\"msg_1\"")),
            ("role", s("\"assistant\"")),
            ("status", s("\"completed\"")),
            (
                "content",
                Some(d.times(2, |d| {
                    let text = d.plain();
                    if d.below(4) == 0 {
                        return object([("type", s("\"refusal\"")), ("refusal", Some(quote(&text)))]);
                    }
                    object([
                        ("type", s("\"output_text\"")),
                        ("text", Some(quote(&text))),
                        ("annotations", Some(d.times(2, Dice::value))),
                        ("logprobs", d.flip().then(|| d.logprobs(&text))),
                    ])
                })),
            ),
        ]),
        1 => object([
            ("type", s("\"function_call\"")),
            ("id", s("\"fc_1\"")),
            ("call_id", s("\"call_1\"")),
            ("name", s("\"f\"")),
            ("arguments", Some(quote(&d.arguments()))),
            ("status", d.flip().then(|| "\"completed\"".to_owned())),
        ]),
        2 => object([
            ("type", s("\"custom_tool_call\"")),
            ("id", s("\"ctc_1\"")),
            ("call_id", s("\"call_1\"")),
            ("name", s("\"f\"")),
            ("input", Some(d.text())),
        ]),
        _ => object([
            ("type", s("\"reasoning\"")),
            ("id", s("\"rs_1\"")),
            ("summary", Some(d.times(2, |d| format!(r#"{{"type":"summary_text","text":{}}}"#, d.text())))),
            (
                "content",
                d.flip()
                    .then(|| d.times(2, |d| format!(r#"{{"type":"reasoning_text","text":{}}}"#, d.text()))),
            ),
            ("encrypted_content", d.flip().then(|| d.text())),
        ]),
    });
    let cut = d.below(4) == 0;
    object([
        ("id", s("\"resp_1\"")),
        ("object", s("\"response\"")),
        ("created_at", s("1795000000")),
        ("status", s(if cut { "\"incomplete\"" } else { "\"completed\"" })),
        ("error", s("null")),
        ("incomplete_details", s(if cut { r#"{"reason":"max_output_tokens"}"# } else { "null" })),
        ("model", s("\"gpt-6-luna\"")),
        ("output", Some(output)),
        (
            "usage",
            s(
                r#"{"input_tokens":14,"input_tokens_details":{"cached_tokens":0},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":21}"#,
            ),
        ),
        ("temperature", s("1.0")),
        ("some_value", d.flip().then(|| d.value())),
    ])
}

fn anthropic(d: &mut Dice) -> String {
    let content = d.times(5, |d| match d.below(6) {
        0 | 1 => object([
            ("type", s("\"text\"")),
            ("text", Some(d.text())),
            (
                "citations",
                d.flip().then(|| if d.flip() { "null".to_owned() } else { d.times(3, Dice::value) }),
            ),
        ]),
        2 => object([
            ("type", s("\"thinking\"")),
            ("thinking", Some(d.text())),
            ("signature", d.flip().then(|| d.text())),
        ]),
        3 if d.below(4) == 0 => r#"{"type":"container_upload","file_id":"file_1"}"#.to_owned(),
        3 => object([("type", s("\"redacted_thinking\"")), ("data", Some(d.text()))]),
        4 => object([
            ("type", Some(quote(d.pick(&["tool_use", "server_tool_use", "mcp_tool_use"])))),
            ("id", s("\"toolu_1\"")),
            ("name", s("\"f\"")),
            ("input", Some(d.arguments())),
            ("caller", d.flip().then(|| d.value())),
        ]),
        _ => object([
            (
                "type",
                Some(quote(d.pick(&[
                    "web_search_tool_result",
                    "web_fetch_tool_result",
                    "code_execution_tool_result",
                    "mcp_tool_result",
                ]))),
            ),
            ("tool_use_id", s("\"toolu_1\"")),
            ("content", Some(d.times(2, Dice::value))),
        ]),
    });
    let usage = object([
        ("input_tokens", s("12")),
        ("cache_creation_input_tokens", s("300")),
        ("cache_read_input_tokens", d.flip().then(|| d.pick(&["0", "5000", "null"]).to_owned())),
        ("cache_creation", s(r#"{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200}"#)),
        ("output_tokens", Some(d.pick(&["0", "1", "503"]).to_owned())),
        ("output_tokens_details", d.flip().then(|| r#"{"thinking_tokens":0}"#.to_owned())),
        ("server_tool_use", d.flip().then(|| d.pick(&["null", r#"{"web_search_requests":1}"#]).to_owned())),
        ("service_tier", s("\"standard\"")),
    ]);
    object([
        ("id", s("\"msg_1\"")),
        ("type", s("\"message\"")),
        ("role", s("\"assistant\"")),
        ("model", s("\"claude-haiku-4-5-20251001\"")),
        ("content", Some(content)),
        (
            "stop_reason",
            Some(quote(d.pick(&["end_turn", "tool_use", "max_tokens", "refusal", "stop_sequence"]))),
        ),
        ("stop_sequence", Some(if d.flip() { d.text() } else { "null".to_owned() })),
        ("stop_details", d.flip().then(|| if d.flip() { d.value() } else { "null".to_owned() })),
        ("usage", Some(usage)),
        ("container", d.flip().then(|| if d.flip() { d.value() } else { "null".to_owned() })),
        ("context_management", d.flip().then(|| d.value())),
    ])
}

fn gemini(d: &mut Dice) -> String {
    let candidates: Vec<String> = (0..1 + d.below(2)).map(|index| candidate(d, index)).collect();
    object([
        ("candidates", Some(format!("[{}]", candidates.join(",")))),
        ("usageMetadata", d.flip().then(|| r#"{"promptTokenCount":8,"candidatesTokenCount":2,"thoughtsTokenCount":90,"totalTokenCount":100,"promptTokensDetails":[{"modality":"TEXT","tokenCount":8}]}"#.to_owned())),
        ("modelVersion", s("\"gemini-2.5-flash\"")),
        ("responseId", s("\"r1\"")),
        ("some_value", d.flip().then(|| d.value())),
    ])
}

fn candidate(d: &mut Dice, index: usize) -> String {
    let (mut parts, mut before) = (Vec::new(), 9);
    for at in 0..d.below(6) {
        let kind = d.below(6);
        // A whole answer has neither two texts of one kind in a row nor an empty one after other parts.
        if kind < 2 && kind == before {
            continue;
        }
        before = kind;
        let text = if at == 0 { d.text() } else { quote(&format!("x{}", d.plain())) };
        parts.push(match kind {
            0 => format!(r#"{{"text":{text}}}"#),
            1 => format!(r#"{{"thought":true,"text":{text}}}"#),
            2 => format!(r#"{{"text":{text},"thoughtSignature":"c2ln"}}"#),
            3 => format!(
                r#"{{"functionCall":{{"id":"f{at}","name":"f","args":{}}},"thoughtSignature":"c2ln"}}"#,
                d.arguments()
            ),
            4 => format!(r#"{{"functionCall":{{"name":"f","args":{}}}}}"#, d.arguments()),
            _ => d
                .pick(&[
                    r#"{"inlineData":{"mimeType":"image/png","data":"AA=="}}"#,
                    r#"{"executableCode":{"language":"PYTHON","code":"1+1"}}"#,
                    r#"{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"2"}}"#,
                ])
                .to_owned(),
        });
    }
    let content = match d.below(5) {
        0 => None,
        1 => s(r#"{"role":"model"}"#),
        _ => Some(format!(r#"{{"parts":[{}],"role":"model"}}"#, parts.join(","))),
    };
    object([
        ("index", (index > 0 || d.flip()).then(|| index.to_string())),
        ("content", content),
        ("finishReason", Some(quote(d.pick(&["STOP", "MAX_TOKENS", "SAFETY"])))),
        ("safetyRatings", d.flip().then(|| d.times(2, Dice::value))),
        ("citationMetadata", d.flip().then(|| d.value())),
        (
            "groundingMetadata",
            d.flip().then(|| {
                let chunk = |d: &mut Dice| {
                    object([("web", Some(object([("uri", Some(d.text())), ("title", Some(d.text()))])))])
                };
                object([
                    ("groundingChunks", Some(d.times(2, chunk))),
                    ("groundingSupports", Some(d.times(2, Dice::value))),
                    ("webSearchQueries", Some(d.times(2, Dice::text))),
                ])
            }),
        ),
        ("urlContextMetadata", d.flip().then(|| d.value())),
        ("avgLogprobs", d.flip().then(|| "-0.50".to_owned())),
        (
            "logprobsResult",
            d.flip().then(|| {
                format!(r#"{{"chosenCandidates":{},"logProbabilitySum":-1.0}}"#, d.times(2, Dice::value))
            }),
        ),
    ])
}

fn ollama(d: &mut Dice) -> String {
    let (is_chat, text) = (d.flip(), d.plain());
    let thinking = d.flip().then(|| d.text());
    let message = object([
        ("role", s("\"assistant\"")),
        ("content", Some(quote(&text))),
        ("thinking", thinking.clone()),
        (
            "tool_calls",
            d.flip().then(|| {
                d.times(2, |d| format!(r#"{{"function":{{"name":"f","arguments":{}}}}}"#, d.arguments()))
            }),
        ),
    ]);
    object([
        ("model", s("\"llama3.2:1b\"")),
        ("created_at", s("\"2026-11-23T10:00:00Z\"")),
        ("message", is_chat.then_some(message)),
        ("response", (!is_chat).then(|| quote(&text))),
        ("thinking", thinking.filter(|_| !is_chat)),
        ("done", s("true")),
        ("done_reason", Some(quote(d.pick(&["stop", "length"])))),
        ("context", (!is_chat).then(|| "[1,2,3]".to_owned())),
        ("total_duration", s("300000000")),
        ("prompt_eval_count", s("32")),
        ("eval_count", s("3")),
        ("logprobs", d.flip().then(|| d.logprobs(&text))),
    ])
}

type Generator = fn(&mut Dice) -> String;

const FORMATS: [(Dialect, Generator); 5] = [
    (CHAT, chat),
    (Dialect::OpenAiResponses, responses),
    (Dialect::AnthropicMessages, anthropic),
    (Dialect::GeminiGenerate, gemini),
    (Dialect::OllamaChat, ollama),
];

fn stream(dialect: Dialect, document: &str, usage: bool) -> Vec<Bytes> {
    let shape = StreamShape::with_usage(usage);
    dialect.format().to_stream(document.as_bytes(), shape).unwrap_or_else(|| panic!("{dialect:?} {document}"))
}

fn read<'a>(dialect: Dialect, chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = dialect.format().stream_reader();
    chunks.into_iter().for_each(|chunk| reader.push(chunk));
    reader.outcome(true)
}

/// All that is promised of one document.
fn check(dialect: Dialect, document: &str, usage: bool, cuts: &[prop::sample::Index]) {
    let frames = stream(dialect, document, usage);
    let whole = frames.concat();
    let shown = String::from_utf8_lossy(&whole);
    let back = dialect.format().to_document(&whole).unwrap_or_else(|| panic!("{document}\n{shown}"));
    let hides = dialect == CHAT && !usage;
    let excluded: &[&str] = if hides { &["usage"] } else { &[] };
    assert!(
        digest(&back, excluded) == digest(document.as_bytes(), excluded) && digest(&back, &[]).is_ok(),
        "{document}\n{}\n{shown}",
        String::from_utf8_lossy(&back)
    );

    let mut want = dialect.format().read_reply(document.as_bytes());
    if hides {
        want.usage = None;
    }
    let frames = frames.iter().map(|frame| &frame[..]);
    assert_eq!(read(dialect, frames), want, "{document}\n{shown}");
    assert_eq!(read(dialect, whole.chunks(1)), want, "byte for byte");
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
    at.extend([0, whole.len()]);
    at.sort_unstable();
    assert_eq!(read(dialect, at.windows(2).map(|pair| &whole[pair[0]..pair[1]])), want, "cut at {at:?}");
}

fn dice() -> impl Strategy<Value = Dice> {
    prop::collection::vec(any::<u16>(), 0..250).prop_map(|list| Dice(list.into_iter()))
}

impl std::fmt::Debug for Dice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_document_comes_back_from_its_stream(
        mut dice in dice(),
        usage in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        for (dialect, generate) in FORMATS {
            check(dialect, &generate(&mut dice), usage, &cuts);
        }
    }

    #[test]
    fn choices_may_come_in_turns(mut dice in dice(), order in prop::collection::vec(any::<u16>(), 0..60)) {
        for (dialect, generate, list) in [(CHAT, chat as Generator, "choices"), (Dialect::GeminiGenerate, gemini, "candidates")] {
            let document = generate(&mut dice);
            let frames = stream(dialect, &document, true);
            let mut order = order.iter().map(|turn| usize::from(*turn));
            let mixed = in_turns(&frames, list, || order.next().unwrap_or(0)).concat();
            let back = dialect.format().to_document(&mixed);
            let shown = String::from_utf8_lossy(&mixed);
            prop_assert!(
                back.is_some_and(|back| digest(&back, &[]) == digest(document.as_bytes(), &[])),
                "{document}\n{shown}"
            );
        }
    }

    #[test]
    fn hiding_usage_gives_the_stream_of_a_caller_who_did_not_ask(
        mut dice in dice(),
        crlf in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let document = chat(&mut dice);
        let text = |usage| {
            let text = String::from_utf8(stream(CHAT, &document, usage).concat()).unwrap();
            if crlf { text.replace('\n', "\r\n") } else { text }
        };
        let (with, without) = (text(true), text(false));
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(with.len() + 1)).collect();
        at.extend([0, with.len()]);
        at.sort_unstable();
        let mut filter = CHAT.format().hide_usage().expect("this format has one");
        let mut out = Vec::new();
        for pair in at.windows(2) {
            out.extend_from_slice(&filter.pass(Bytes::copy_from_slice(&with.as_bytes()[pair[0]..pair[1]])));
        }
        out.extend_from_slice(&filter.rest());
        prop_assert_eq!(String::from_utf8(out).unwrap(), without);
    }

    #[test]
    fn a_stream_is_legal_for_a_strict_client(mut dice in dice(), usage in any::<bool>()) {
        legal_chat(&chat(&mut dice), usage);
        legal_responses(&responses(&mut dice));
        legal_anthropic(&anthropic(&mut dice));
    }

    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), mut dice in dice(), cut in any::<prop::sample::Index>()) {
        for (dialect, generate) in FORMATS {
            let format = dialect.format();
            prop_assert!(format.to_document(&bytes).is_none());
            prop_assert!(format.to_stream(&bytes, StreamShape::with_usage(true)).is_none());
            // A stream that was cut off is no document.
            let whole = stream(dialect, &generate(&mut dice), true).concat();
            let cut = cut.index(whole.trim_ascii_end().len());
            prop_assert!(format.to_document(&whole[..cut]).is_none() || dialect == Dialect::GeminiGenerate);
        }
    }
}

/// The frames of several choices in an order that keeps that of each choice; those of no choice stay last.
fn in_turns(frames: &[Bytes], list: &str, mut turn: impl FnMut() -> usize) -> Vec<Bytes> {
    let (mut of, mut rest) = (BTreeMap::<u64, VecDeque<&Bytes>>::new(), Vec::new());
    for frame in frames {
        match serde_json::from_slice::<Value>(&frame[6..]).ok().and_then(|data| data[list].get(0).cloned()) {
            Some(choice) => of.entry(choice["index"].as_u64().unwrap_or(0)).or_default().push_back(frame),
            None => rest.push(frame),
        }
    }
    let mut mixed = Vec::new();
    while !of.is_empty() {
        let key = *of.keys().nth(turn() % of.len()).unwrap();
        let queue = of.get_mut(&key).unwrap();
        mixed.extend(queue.pop_front().cloned());
        if queue.is_empty() {
            of.remove(&key);
        }
    }
    mixed.extend(rest.into_iter().cloned());
    mixed
}

fn data(frame: &Bytes) -> Value {
    let text = std::str::from_utf8(frame).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("a line of data");
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn legal_chat(document: &str, usage: bool) {
    use async_openai::types::chat::CreateChatCompletionStreamResponse as Chunk;
    let frames = stream(CHAT, document, usage);
    let (done, chunks) = frames.split_last().unwrap();
    assert_eq!(done, "data: [DONE]\n\n");
    let (mut open, mut ended, mut named) = (Vec::new(), Vec::new(), Vec::new());
    for (at, frame) in chunks.iter().enumerate() {
        let chunk = data(frame);
        let typed: Chunk =
            serde_json::from_value(chunk.clone()).unwrap_or_else(|error| panic!("{error}: {chunk}"));
        if typed.choices.is_empty() {
            assert!(
                usage && typed.usage.is_some() && at == chunks.len() - 1,
                "usage comes last, if asked for"
            );
        }
        for choice in typed.choices {
            let index = choice.index;
            assert!(!ended.contains(&index), "nothing comes after the finish");
            if choice.delta.role.is_some() {
                open.push(index);
            }
            assert!(open.contains(&index), "the role comes first");
            for call in choice.delta.tool_calls.unwrap_or_default() {
                let function = call.function.expect("a function");
                let key = (index, call.index);
                if call.id.is_some() && function.name.is_some() {
                    named.push(key);
                }
                assert!(named.contains(&key), "id and name come before the arguments");
            }
            if choice.finish_reason.is_some() {
                ended.push(index);
            }
        }
    }
    open.sort_unstable();
    ended.sort_unstable();
    assert_eq!(open, ended, "each choice has one role and one finish");
}

fn legal_responses(document: &str) {
    let frames = stream(Dialect::OpenAiResponses, document, true);
    let (mut text, mut item) = (String::new(), None);
    for (at, frame) in frames.iter().enumerate() {
        let event = data(frame);
        let kind = event["type"].as_str().unwrap();
        assert!(frame.starts_with(format!("event: {kind}\n").as_bytes()), "the name is the type");
        assert_eq!(event["sequence_number"], at);
        match kind {
            "response.output_item.added" => item = Some(event["output_index"].clone()),
            "response.output_item.done" => assert_eq!(item.take(), Some(event["output_index"].clone())),
            _ if event.get("item_id").is_some() => {
                assert_eq!(item, Some(event["output_index"].clone()), "{kind}")
            }
            _ => assert!(item.is_none(), "{kind} within an item"),
        }
        if kind.ends_with(".delta") {
            text += event["delta"].as_str().unwrap();
        }
        let done = ["text", "refusal", "arguments", "input"].iter().find_map(|name| event[name].as_str());
        if let Some(done) = done.filter(|_| kind.ends_with(".done")) {
            assert_eq!(std::mem::take(&mut text), done, "{kind} says what the deltas said");
        }
    }
    assert_eq!(data(&frames[0])["type"], "response.created");
    let last = data(frames.last().unwrap());
    assert!(["response.completed", "response.incomplete"].contains(&last["type"].as_str().unwrap()));
}

fn legal_anthropic(document: &str) {
    let frames = stream(Dialect::AnthropicMessages, document, true);
    let (mut open, mut next) = (None, 0);
    let kinds: Vec<String> = frames
        .iter()
        .map(|frame| {
            let event = data(frame);
            match event["type"].as_str().unwrap() {
                "content_block_start" => {
                    assert_eq!((open, event["index"].as_u64()), (None, Some(next)), "blocks come one by one");
                    open = Some(next);
                }
                "content_block_delta" => assert_eq!(event["index"].as_u64(), open),
                "content_block_stop" => {
                    assert_eq!(event["index"].as_u64(), open.take());
                    next += 1;
                }
                _ => assert_eq!(open, None),
            }
            event["type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds[0], "message_start");
    assert_eq!(kinds[kinds.len() - 2..], ["message_delta", "message_stop"]);
    let usage = &data(&frames[0])["message"]["usage"];
    assert_eq!((&usage["output_tokens"], &usage["input_tokens"]), (&Value::from(1), &Value::from(12)));
}

#[test]
fn the_stream_of_a_rich_document_reads_the_same_cut_at_every_byte() {
    for (dialect, generate) in FORMATS {
        // Many choices that are not the first of their kind.
        let mut dice =
            Dice((0..400u16).map(|at| at.wrapping_mul(31) ^ (at >> 1)).collect::<Vec<_>>().into_iter());
        let document = generate(&mut dice);
        let whole = stream(dialect, &document, true).concat();
        let want = dialect.format().read_reply(document.as_bytes());
        for cut in 0..=whole.len() {
            assert_eq!(read(dialect, [&whole[..cut], &whole[cut..]]), want, "{dialect:?} cut at {cut}");
        }
    }
}

/// Streams of the shapes that vendors and servers send.
#[test]
fn recorded_shapes_become_documents_that_read_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dialect");
    let mut refused = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((name, _)) = name.split_once(".stream.") else { continue };
        let dialect = match name.split('-').next() {
            Some("anthropic") => Dialect::AnthropicMessages,
            Some("responses") => Dialect::OpenAiResponses,
            Some("gemini") => Dialect::GeminiGenerate,
            Some("ollama") => Dialect::OllamaChat,
            Some("opaque") => Dialect::Opaque,
            _ => CHAT,
        };
        let body = fs::read(&path).unwrap();
        match dialect.format().to_document(&body) {
            None => refused.push(name.to_owned()),
            Some(document) => {
                let (mut was, mut is) = (read(dialect, [&body[..]]), dialect.format().read_reply(&document));
                // Sums of pieces, not of the whole: an argument's spacing is not counted twice.
                (was.text_bytes, is.text_bytes) = (0, 0);
                assert_eq!(was, is, "{name}");
            }
        }
    }
    refused.sort();
    assert_eq!(
        refused,
        [
            "anthropic-broken-tool",
            "anthropic-cut",
            "anthropic-error",
            "anthropic-search",
            "gemini-blocked",
            "gemini-cut",
            "gemini-error",
            "gemini-list",
            "gemini-one-of-two",
            "ollama-cut",
            "ollama-error",
            "ollama-lost",
            "opaque-images",
            "openai-cut",
            "openai-error",
            "openai-no-done",
            "responses-cut",
            "responses-error",
            "responses-failed",
        ],
        "broken, cut off, failed, or with an event that nobody knows"
    );
}

/// One stream for each format with all it has, in the pieces and the order in which the vendors send them.
#[test]
fn what_the_vendors_stream_becomes_what_they_send_whole() {
    for (dialect, stream, want) in [
        (
            CHAT,
            &[
                r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x"}"#,
                r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":1,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}"#,
                r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":1,"delta":{"refusal":"No"},"logprobs":{"content":null,"refusal":[{"token":"No"}]},"finish_reason":null}],"usage":null}"#,
                r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"El"},"logprobs":{"content":[{"token":"El"}],"refusal":null},"finish_reason":null}],"usage":null}"#,
                r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"even","annotations":[{"type":"url_citation"}]},"logprobs":{"content":[{"token":"even"}],"refusal":null},"finish_reason":null}],"usage":null}"#,
                r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":1,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#,
                r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#,
                r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"total_tokens":9}}"#,
                "[DONE]",
            ][..],
            r#"{"id":"c","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Eleven","refusal":null,"annotations":[{"type":"url_citation"}]},"logprobs":{"content":[{"token":"El"},{"token":"even"}],"refusal":null},"finish_reason":"stop"},{"index":1,"message":{"role":"assistant","content":"","refusal":"No"},"logprobs":{"content":null,"refusal":[{"token":"No"}]},"finish_reason":"stop"}],"usage":{"total_tokens":9}}"#,
        ),
        (
            Dialect::AnthropicMessages,
            &[
                r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let "}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"me."}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"ZGF0YQ"}}"#,
                r#"{"type":"content_block_stop","index":1}"#,
                r#"{"type":"ping"}"#,
                r#"{"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}}"#,
                r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
                r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"query\":"}}"#,
                r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":" \"primes\"}"}}"#,
                r#"{"type":"content_block_stop","index":2}"#,
                r#"{"type":"content_block_start","index":3,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","encrypted_content":"x"}]}}"#,
                r#"{"type":"content_block_stop","index":3}"#,
                r#"{"type":"content_block_start","index":4,"content_block":{"type":"text","text":"","citations":[]}}"#,
                r#"{"type":"content_block_delta","index":4,"delta":{"type":"citations_delta","citation":{"cited_text":"a"}}}"#,
                r#"{"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":"Eleven"}}"#,
                r#"{"type":"content_block_delta","index":4,"delta":{"type":"citations_delta","citation":{"cited_text":"b"}}}"#,
                r#"{"type":"content_block_stop","index":4}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":7,"server_tool_use":{"web_search_requests":1}}}"#,
                r#"{"type":"message_stop"}"#,
            ],
            r#"{"id":"m","type":"message","role":"assistant","content":[{"type":"thinking","thinking":"Let me.","signature":"c2ln"},{"type":"redacted_thinking","data":"ZGF0YQ"},{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"primes"}},{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","encrypted_content":"x"}]},{"type":"text","text":"Eleven","citations":[{"cited_text":"a"},{"cited_text":"b"}]}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":7,"server_tool_use":{"web_search_requests":1}}}"#,
        ),
        (
            Dialect::GeminiGenerate,
            &[
                r#"{"candidates":[{"content":{"parts":[{"text":"Let ","thought":true}],"role":"model"},"index":0},{"content":{"parts":[{"text":"Sev"}],"role":"model"},"index":1}],"responseId":"r"}"#,
                r#"{"candidates":[{"content":{"parts":[{"text":"me.","thought":true},{"text":"El"}],"role":"model"},"index":0}],"responseId":"r"}"#,
                r#"{"candidates":[{"content":{"parts":[{"text":"even"},{"functionCall":{"name":"f","args":{}},"thoughtSignature":"c2ln"}],"role":"model"},"index":0},{"content":{"parts":[{"text":"en"}],"role":"model"},"finishReason":"STOP","index":1}],"responseId":"r"}"#,
                r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0,"groundingMetadata":{"webSearchQueries":["q"]},"logprobsResult":{"chosenCandidates":[{"token":"El"}]}}],"usageMetadata":{"totalTokenCount":9},"responseId":"r"}"#,
            ],
            r#"{"candidates":[{"content":{"parts":[{"text":"Let me.","thought":true},{"text":"Eleven"},{"functionCall":{"name":"f","args":{}},"thoughtSignature":"c2ln"}],"role":"model"},"finishReason":"STOP","index":0,"groundingMetadata":{"webSearchQueries":["q"]},"logprobsResult":{"chosenCandidates":[{"token":"El"}]}},{"content":{"parts":[{"text":"Seven"}],"role":"model"},"finishReason":"STOP","index":1}],"usageMetadata":{"totalTokenCount":9},"responseId":"r"}"#,
        ),
        (
            Dialect::OllamaChat,
            &[
                r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"","thinking":"Let "},"done":false}"#,
                r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"","thinking":"me."},"done":false}"#,
                r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"Eleven"},"done":false,"logprobs":[{"token":"El"}]}"#,
                r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]},"done":false}"#,
                r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"g","arguments":{}}}]},"done":false}"#,
                r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","eval_count":3}"#,
            ],
            r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"Eleven","thinking":"Let me.","tool_calls":[{"function":{"name":"f","arguments":{}}},{"function":{"name":"g","arguments":{}}}]},"done":true,"done_reason":"stop","logprobs":[{"token":"El"}],"eval_count":3}"#,
        ),
        (
            Dialect::OllamaChat,
            &[
                r#"{"model":"m","created_at":"t","response":"","thinking":"Let me.","done":false}"#,
                r#"{"model":"m","created_at":"t","response":"El","done":false}"#,
                r#"{"model":"m","created_at":"t","response":"even","done":false}"#,
                r#"{"model":"m","created_at":"t","response":"","done":true,"done_reason":"stop","context":[1,2],"eval_count":3}"#,
            ],
            r#"{"model":"m","created_at":"t","response":"Eleven","thinking":"Let me.","done":true,"done_reason":"stop","context":[1,2],"eval_count":3}"#,
        ),
    ] {
        let text: String = stream
            .iter()
            .map(|data| match dialect {
                Dialect::OllamaChat => format!("{data}\n"),
                _ => format!("data: {data}\n\n"),
            })
            .collect();
        let document = dialect.format().to_document(text.as_bytes()).unwrap_or_else(|| panic!("{dialect:?}"));
        let shown = String::from_utf8_lossy(&document);
        assert_eq!(digest(&document, &[]), digest(want.as_bytes(), &[]), "{shown}\n{want}");
        check(dialect, want, true, &[]);
    }
}

fn chunks(deltas: &[&str]) -> Option<String> {
    let mut text = String::new();
    for delta in deltas {
        text +=
            &format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n");
    }
    text += "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let document = CHAT.format().to_document(text.as_bytes())?;
    Some(serde_json::from_slice::<Value>(&document).unwrap()["choices"][0]["message"].to_string())
}

#[test]
fn pieces_of_tool_calls_are_joined_by_index() {
    let message = chunks(&[
        r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{"}},{"index":1,"function":{"arguments":"[1"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"","function":{"name":null,"arguments":"}"}},{"index":1,"function":{"arguments":"]"}}]}"#,
    ]);
    assert_eq!(
        message.as_deref(),
        Some(
            r#"{"content":null,"role":"assistant","tool_calls":[{"function":{"arguments":"{}","name":"f"},"id":"a","type":"function"},{"function":{"arguments":"[1]","name":"g"},"id":"b","type":"function"}]}"#
        )
    );
    let bare = |id: &str| {
        format!(r#"{{"tool_calls":[{{"id":"{id}","function":{{"name":"f","arguments":"{{}}"}}}}]}}"#)
    };
    assert!(chunks(&[&bare("a"), &bare("b")]).is_some(), "whole calls without an index");
    assert_eq!(chunks(&[&bare("a"), &bare("a")]), None, "or pieces of one: nobody knows");
}

#[test]
fn what_is_not_understood_is_not_converted() {
    for delta in [
        r#"{"audio":{"id":"a"}}"#,
        r#"{"content":[{"type":"thinking"}]}"#,
        r#"{"content":"a","content":"b"}"#,
        r#"{"content":"\ud800"}"#,
        r#"{"tool_calls":[{"index":0,"id":"a"},{"index":0,"id":"b"}]}"#,
        "7",
    ] {
        assert_eq!(chunks(&["{\"content\":\"x\"}", delta]), None, "{delta}");
    }
    for (dialect, document) in [
        (CHAT, r#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":null}]}"#),
        (CHAT, r#"{"choices":[]}"#),
        (CHAT, r#"{"error":{"message":"x"}}"#),
        (
            CHAT,
            r#"{"choices":[{"message":{"tool_calls":[{"id":"c","type":"custom","custom":{"name":"f","input":"x"}}]},"finish_reason":"tool_calls"}]}"#,
        ),
        (
            Dialect::OpenAiResponses,
            r#"{"status":"completed","output":[{"type":"web_search_call","id":"w"}]}"#,
        ),
        (Dialect::OpenAiResponses, r#"{"status":"failed","output":[]}"#),
        (
            Dialect::AnthropicMessages,
            r#"{"type":"message","content":[{"type":"new"}],"stop_reason":"end_turn","usage":{"output_tokens":1}}"#,
        ),
        (Dialect::GeminiGenerate, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#),
        (Dialect::OllamaChat, r#"{"model":"m","message":{"content":"x"},"done":false}"#),
        (Dialect::Embeddings, r#"{"data":[]}"#),
    ] {
        let shape = StreamShape::with_usage(true);
        assert_eq!(dialect.format().to_stream(document.as_bytes(), shape), None, "{document}");
    }
}

#[test]
fn usage_is_asked_for_once_and_only_in_streams() {
    for (body, asked) in [
        (r#"{"messages":[],"model":"m"}"#, None),
        (r#"{"messages":[],"stream":false}"#, None),
        (r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#, None),
        (r#"{"messages":[],"stream":true,"stream_options":7}"#, None),
        (
            r#"{"messages":[],"stream":true}"#,
            Some(r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#),
        ),
        (
            r#"{"messages":[], "stream":true, "stream_options":{"include_obfuscation":false,"include_usage":false}}"#,
            Some(
                r#"{"messages":[], "stream":true, "stream_options":{"include_obfuscation":false,"include_usage":true}}"#,
            ),
        ),
    ] {
        let mut call = Call::post("https://api.openai.com/v1/chat/completions", body);
        assert_eq!(call.format().stream_shape(&call).usage, body.contains("usage\":true"), "{body}");
        call.format().ask_for_usage(&mut call);
        assert_eq!(call.doc.bytes(), asked.unwrap_or(body));
    }
}
