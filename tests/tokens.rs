//! Counts against published token ids and billed prompt tokens.
//!
//! The vectors are read from `$THRIFTY_DATA/token_vectors` where present; the named tests run without them.
#![cfg(feature = "tiktoken")]
#![expect(clippy::disallowed_methods, reason = "`json!` writes the bodies of these tests")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thrifty::call::Call;
use thrifty::call::json::Object;
use thrifty::tokens::{Accuracy, Count, Counter, Encoding, count, count_text};

/// Requests of the 2023 set whose likely figure is the billed one.
const HMARR: usize = 13;

fn vectors(file: &str) -> Option<Value> {
    vector_text(file).map(|text| serde_json::from_str(&text).expect("the vectors are JSON"))
}

fn vector_text(file: &str) -> Option<String> {
    let root = std::env::var_os("THRIFTY_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    match std::fs::read_to_string(root.join("token_vectors").join(file)) {
        Ok(text) => Some(text),
        Err(_) => {
            println!("{file} is not there: skipped");
            None
        }
    }
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn encoding(name: &str) -> Encoding {
    Encoding::ALL.into_iter().find(|one| one.name() == name).unwrap_or_else(|| panic!("no encoding {name}"))
}

fn chat(body: &Value) -> Call {
    Call::post("https://api.openai.com/v1/chat/completions", body.to_string())
}

fn tally(body: &Value) -> Count {
    tally_text(&body.to_string())
}

/// The count, after checking what holds for every count.
fn tally_text(body: &str) -> Count {
    let call = Call::post("https://api.openai.com/v1/chat/completions", body.to_owned());
    let whole = count(&call);
    let counter = Counter::default();
    for _ in 0..2 {
        assert_eq!(counter.count(&call), whole, "remembered counts are the same counts");
    }
    let parts = &whole.parts;
    let sum: u64 = parts.messages.iter().sum();
    assert_eq!(whole.likely, parts.system + sum + parts.tools + parts.response_format + parts.framing);
    assert!(whole.likely <= whole.at_most);
    assert!(counter.fits(&call, whole.at_most), "a request fits its own upper bound");
    whole
}

#[derive(Default)]
struct Score {
    of: usize,
    exact: usize,
    below: usize,
    misses: Vec<i64>,
    /// How far the upper bound is above the billed number.
    over: std::collections::BTreeMap<i64, usize>,
}

impl Score {
    fn add(&mut self, count: &Count, billed: &Value) {
        let billed = billed.as_u64().expect("a number of tokens");
        self.of += 1;
        *self.over.entry(count.at_most.cast_signed() - billed.cast_signed()).or_default() += 1;
        self.below += usize::from(count.at_most < billed);
        if count.likely == billed {
            self.exact += 1;
        } else {
            self.misses.push(count.likely.cast_signed() - billed.cast_signed());
        }
    }

    fn report(&self, name: &str, floor: usize) {
        println!(
            "{name}: {} of {} exact, at_most below in {}, misses {:?}, at_most over by {:?}",
            self.exact, self.of, self.below, self.misses, self.over
        );
        assert!(self.exact >= floor, "{name}: {} exact, {floor} expected", self.exact);
    }
}

fn texts(file: &str, cases: &[Value], default: Option<&str>) -> usize {
    for case in cases.iter().filter(|case| case.get("allowed_special").is_none()) {
        let name = case["encoding"].as_str().or(default).expect("an encoding");
        let text = case["text"].as_str().expect("a text");
        let want = list(case, "tokens").len() as u64;
        assert_eq!(count_text(text, encoding(name)), want, "{file}, {name}: {text:?}");
    }
    println!("{file}: {} texts equal", cases.len());
    cases.len()
}

#[test]
fn published_texts_have_their_published_counts() {
    for file in ["jtokkit_cl100k_base.json", "jtokkit_o200k_base.json", "gpt_tokenizer_testplans.json"] {
        if let Some(data) = vectors(file) {
            assert!(texts(file, list(&data, "cases"), data["encoding"].as_str()) > 0);
        }
    }
    if let Some(data) = vectors("openai_cookbook.json") {
        texts("openai_cookbook.json", list(&data, "strings"), None);
    }
    if let Some(data) = vectors("tiktoken_upstream.json") {
        texts("tiktoken_upstream.json", list(&data, "cases"), None);
        for piece in list(&data["must_not_raise"][0], "repeat_each_10000") {
            let text = piece.as_str().expect("a text").repeat(10_000);
            for encoding in Encoding::ALL {
                assert!(count_text(&text, encoding) > 0);
                assert!(count_text(&format!(" {text}\n"), encoding) > 0);
            }
        }
    }
}

#[test]
fn chat_formula_vectors() {
    // Cookbook, 2024: the example conversation billed 129 on cl100k models, 124 on o200k, 127 on 0301.
    let messages = json!([
        {"role": "system", "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
        {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
        {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
        {"role": "system", "name": "example_user", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
        {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
        {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
    ]);
    for (model, want) in [("gpt-4-0314", 129), ("gpt-4o", 124), ("gpt-3.5-turbo-0301", 127)] {
        let found = tally(&json!({"model": model, "messages": messages}));
        assert_eq!(
            (found.likely, found.at_most, found.accuracy),
            (want, want + 1, Accuracy::Formula),
            "{model}"
        );
    }

    if let Some(data) = vectors("openai_messages_token_helper.json") {
        let (mut cl100k, mut o200k) = (Score::default(), Score::default());
        for case in list(&data, "messages") {
            let body = |model| json!({"model": model, "messages": [case["message"]]});
            cl100k.add(&tally(&body("gpt-4")), &case["count"]);
            o200k.add(&tally(&body("gpt-4o")), &case["count_omni"]);
        }
        cl100k.report("openai_messages_token_helper messages, cl100k", cl100k.of);
        o200k.report("openai_messages_token_helper messages, o200k", o200k.of);
    }
    if let Some(data) = vectors("openai_cookbook.json") {
        let mut score = Score::default();
        for case in list(&data, "chat") {
            for (model, billed) in case["prompt_tokens"].as_object().expect("by model") {
                score.add(&tally(&json!({"model": model, "messages": case["messages"]})), billed);
            }
        }
        score.report("openai_cookbook chat", score.of);
    }
    if let Some(data) = vectors("tiktoken_rs_tests.json") {
        let mut score = Score::default();
        for case in list(&data, "cases") {
            let body = json!({"model": case["model"], "messages": case["messages"]});
            score.add(&tally(&body), &case["prompt_tokens"]);
        }
        score.report("tiktoken_rs_tests", score.of);
    }
    if let Some(data) = vectors("litellm_token_counter.json") {
        let mut score = Score::default();
        for case in list(&data, "messages") {
            score.add(
                &tally(&json!({"model": case["model"], "messages": case["messages"]})),
                &case["prompt_tokens"],
            );
        }
        score.report("litellm_token_counter messages", score.of);
    }
}

#[test]
fn tool_formula_vectors() {
    // One of each data set by hand: 2023 (hmarr/openai-chat-tokens) and 2024 (openai-messages-token-helper).
    let foo =
        json!({"name": "foo", "description": "Do a foo", "parameters": {"type": "object", "properties": {}}});
    let hello = json!([{"role": "user", "content": "hello"}]);
    let found = tally(&json!({"model": "gpt-3.5-turbo", "messages": hello, "functions": [foo]}));
    assert_eq!(found.likely, 36);
    let search = json!({"type": "function", "function": {"name": "search_sources",
        "description": "Retrieve sources from the Azure AI Search index",
        "parameters": {"type": "object", "properties": {"search_query": {"type": "string"}}}}});
    let system = json!([{"role": "system", "content": "You are a bot."}]);
    let found =
        tally(&json!({"model": "gpt-4", "messages": system, "tools": [search], "tool_choice": "auto"}));
    assert_eq!((found.likely, found.accuracy), (49, Accuracy::Formula));

    let mut below = 0;
    let members = ["messages", "tools", "functions", "tool_choice", "function_call"];
    for (file, list, model, billed, floor) in [
        ("hmarr_openai_chat_tokens.json", "cases", "gpt-3.5-turbo", "tokens", HMARR),
        ("openai_messages_token_helper.json", "functions", "gpt-4", "count", 11),
        ("litellm_token_counter.json", "tools", "gpt-4", "openai_prompt_tokens", 11),
        // What that library says, not what was billed: a miss is no fault.
        ("gpt_tokenizer_function_calling_o200k.json", "cases", "gpt-4o", "tokens", 0),
    ] {
        let Some(text) = vector_text(file) else { continue };
        let mut score = Score::default();
        for case in Object::parse(&text).and_then(|data| data.elements(list)).expect("a list of cases") {
            let case = Object::parse(case).expect("a case");
            // Spliced as text: the order of a schema's properties is part of the prompt.
            let mut body = format!(r#"{{"model":"{model}""#);
            if let Some(system) = case.get("system_message") {
                body.push_str(&format!(r#","messages":[{system}]"#));
            }
            for name in members {
                if let Some(value) = case.get(name) {
                    body.push_str(&format!(r#","{name}":{value}"#));
                }
            }
            body.push('}');
            score.add(&tally_text(&body), &case.u64(billed).expect("a number of tokens").into());
        }
        score.report(&format!("{file} {list}"), floor);
        below += if floor > 0 { score.below } else { 0 };
    }
    if let Some(data) = vectors("openai_cookbook.json") {
        let mut score = Score::default();
        for case in list(&data, "tools") {
            for (model, billed) in case["prompt_tokens"].as_object().expect("by model") {
                let body = json!({"model": model, "messages": case["messages"], "tools": case["tools"]});
                score.add(&tally(&body), billed);
            }
        }
        score.report("openai_cookbook tools", score.of);
        below += score.below;
    }
    assert_eq!(below, 0, "the upper bound is never below what was billed");
}

#[test]
fn special_token_spelling_is_text() {
    for encoding in Encoding::ALL {
        assert!(count_text("<|endoftext|>", encoding) > 1, "{encoding}");
    }
    assert_eq!(count_text("<|endoftext|>", Encoding::O200kBase), 7);
    assert_eq!(count_text("<|start|>system<|message|>hi<|end|>", Encoding::O200kHarmony), 17);
    let plain =
        tally(&json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "<|endoftext|>"}]}));
    assert_eq!(plain.likely, 3 + 4 + 7);
}

#[test]
fn a_million_letters_count_quickly() {
    let text = "a".repeat(1_000_000);
    let start = Instant::now();
    assert_eq!(count_text(&text, Encoding::O200kBase), 125_000);
    println!("a million letters: {:?}", start.elapsed());
    // Far above what an unoptimised build takes, far below what a quadratic merge would.
    assert!(start.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_million_spaces_count() {
    let spaces = " ".repeat(1_000_000);
    assert_eq!(count_text(&spaces, Encoding::O200kBase), 7813);
    let start = Instant::now();
    assert_eq!(count_text(&format!("{}x", " ".repeat(10_000_000)), Encoding::O200kBase), 78_127);
    println!("ten million spaces: {:?}", start.elapsed());
    for encoding in [Encoding::O200kBase, Encoding::Cl100kBase, Encoding::R50kBase] {
        for white in [" ", "\n", " \t"] {
            let text = format!("{}x", white.repeat(1_200_000));
            let found = count_text(&text, encoding);
            assert!(found > 0 && found <= text.len() as u64, "{encoding} {white:?}");
        }
    }
    let body =
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": " \t".repeat(1_000_000) + "x"}]});
    assert_eq!(count(&chat(&body)).accuracy, Accuracy::Formula, "such a run is counted like any text");
}

#[test]
fn claude_is_not_counted_as_gpt35() {
    let body = |model| json!({"model": model, "messages": [{"role": "user", "content": "The quick brown fox jumps over the lazy dog, twice a day."}]});
    let (gpt, old, new) =
        (tally(&body("gpt-3.5-turbo")), tally(&body("claude-sonnet-4-5")), tally(&body("claude-opus-5")));
    assert_eq!((gpt.encoding, gpt.accuracy), ("cl100k_base", Accuracy::Formula));
    assert_eq!((old.encoding, old.accuracy), ("o200k_base x 1.20", Accuracy::Calibrated));
    assert_eq!((new.encoding, new.accuracy), ("o200k_base x 1.70", Accuracy::Calibrated));
    assert!(gpt.likely < old.likely && old.likely < new.likely && new.likely < new.at_most);
}

#[test]
fn picture_rule_by_model() {
    // A PNG header alone: 1 x 1, 1024 x 1024, 4032 x 3024 pixels.
    let png = |width: u32, height: u32| {
        use base64::Engine;
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
    };
    let picture = |model: &str, url: String, detail: Option<&str>| {
        let mut image = json!({"url": url});
        if let Some(detail) = detail {
            image["detail"] = detail.into();
        }
        let content = json!([{"type": "image_url", "image_url": image}]);
        tally(&json!({"model": model, "messages": [{"role": "user", "content": content}]}))
    };
    // A request with a picture alone costs 7 besides the picture.
    for (model, size, detail, want) in [
        ("gpt-4o", (1024, 1024), None, 765),
        ("gpt-4o", (1024, 1024), Some("low"), 85),
        ("gpt-5.5", (4032, 3024), None, 11_868),
        ("gpt-5-mini", (1600, 1600), Some("high"), 1826),
        ("gemini-3-pro", (1024, 1024), None, 1089),
    ] {
        let found = picture(model, png(size.0, size.1), detail);
        assert_eq!(found.likely, 7 + want, "{model} {size:?} {detail:?}");
    }
    for url in ["https://example.com/a.png".to_owned(), "data:image/png;base64,AAAA".to_owned()] {
        let found = picture("gpt-4o", url, None);
        assert_eq!((found.at_most, found.accuracy), (7 + 1445 + 1, Accuracy::UpperBound));
    }

    if let Some(data) = vectors("openai_messages_token_helper.json") {
        let (mut gpt_4o, mut mini) = (Score::default(), Score::default());
        for case in list(&data, "images") {
            let mut message = case["message"].clone();
            for part in message["content"].as_array_mut().expect("parts") {
                if let Some(size) = part.get("_image_px").cloned() {
                    let side = |i: usize| u32::try_from(size[i].as_u64().expect("pixels")).expect("pixels");
                    part["image_url"]["url"] = png(side(0), side(1)).into();
                }
            }
            gpt_4o.add(&tally(&json!({"model": "gpt-4o", "messages": [message]})), &case["count"]);
            mini.add(&tally(&json!({"model": "gpt-4o-mini", "messages": [message]})), &case["count_4o_mini"]);
        }
        gpt_4o.report("openai_messages_token_helper images, gpt-4o", gpt_4o.of);
        mini.report("openai_messages_token_helper images, gpt-4o-mini", mini.of);
    }
    if let Some(data) = vectors("image_tokens_measured.json") {
        let mut score = Score::default();
        for (size, row) in data["E"]["rows"].as_object().expect("rows") {
            let (width, height) = size.split_once('x').expect("a size");
            let (width, height): (u32, u32) =
                (width.parse().expect("pixels"), height.parse().expect("pixels"));
            for (column, model, detail, more) in [
                (0, "claude-fable-5-5", None, 77),
                (1, "claude-sonnet-4-5", None, 65),
                (2, "gemini-3-pro", None, 1),
                (3, "gpt-6", None, 0),
                (4, "gpt-6", Some("high"), 0),
                (5, "gpt-5.5", None, 0),
            ] {
                // The client shrank larger pictures for Claude before it sent them.
                if column < 2 && width.max(height) > 2000 {
                    continue;
                }
                let mut found = picture(model, png(width, height), detail);
                found.likely = found.likely - 7 + more;
                found.at_most = found.at_most - 7 + more;
                score.add(&found, &row[column]);
            }
        }
        score.report("image_tokens_measured E", score.of);
    }
}

#[test]
fn tools_system_and_nested_pictures_count() {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "description": "Looks a thing up",
        "parameters": {"type": "object", "properties": {"q": {"type": "string", "description": "what to look up"}}}}})
    };
    let tools: Vec<_> = (0..160).map(|i| tool(&format!("tool_{i}"))).collect();
    let found =
        tally(&json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "tools": tools}));
    assert!(found.parts.tools > 160 * 10, "{} tokens of tools", found.parts.tools);

    let answered = json!({"model": "gpt-4o", "messages": [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"sea\"}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": [
            {"type": "text", "text": "a ship"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
    ]});
    let found = tally(&answered);
    assert!(found.parts.messages[1] > 7, "calls in the history count");
    assert!(found.parts.messages[2] > 700, "a picture inside a tool result counts");
    assert_eq!(found.accuracy, Accuracy::UpperBound);
    assert!(!Counter::default().fits(&chat(&answered), 1000), "a short URL may be a dear picture");

    // Blocks nobody knows are counted, and the request with them.
    let odd = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": [{"type": "hologram", "depth": 3}]}]});
    assert_eq!(tally(&odd).accuracy, Accuracy::UpperBound);
}

#[test]
fn embeddings_inputs_count_exactly() {
    let embed = |input: Value| {
        let body = json!({"model": "text-embedding-3-small", "input": input}).to_string();
        count(&Call::post("https://api.openai.com/v1/embeddings", body))
    };
    for (input, want) in [
        (json!("2 + 2 = 4"), 7),
        (json!(["2 + 2 = 4", "2 + 2 = 4"]), 14),
        (json!([17, 489, 220]), 3),
        (json!([[17, 489], [220]]), 3),
    ] {
        let found = embed(input);
        assert_eq!((found.likely, found.at_most, found.accuracy), (want, want, Accuracy::Exact));
    }
}

#[test]
#[ignore = "a hundred megabytes, for a release build"]
fn a_message_of_a_hundred_megabytes_counts() {
    let line = "The ferry left at noon, and 214 people \u{4e16}\u{754c} watched it. ";
    let text = line.repeat(100_000_000 / line.len());
    let call = Call::post(
        "https://api.openai.com/v1/chat/completions",
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}).to_string(),
    );
    let counter = Counter::default();
    let mut took = Vec::new();
    for _ in 0..2 {
        let start = std::time::Instant::now();
        let found = counter.count(&call);
        took.push(start.elapsed());
        assert!(found.likely > text.len() as u64 / 8 && found.likely <= found.at_most, "{found:?}");
        assert!(!counter.fits(&call, 1_000_000));
    }
    println!("{} bytes: {took:?}, {:?}", text.len(), counter.count(&call).accuracy);
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_counts_the_texts_of_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("inner")).expect("a folder");
    std::fs::create_dir_all(at(".hidden")).expect("a folder");
    std::fs::write(at("a.txt"), "2 + 2 = 4").expect("a file");
    std::fs::write(at("inner/b.txt"), "hello world").expect("a file");
    std::fs::write(at("c.bin"), b"\xff\xfe").expect("a file");
    std::fs::write(at(".hidden/d.txt"), "hello world").expect("a file");
    let run = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_thrifty"))
            .args(["count", "--text"])
            .args(more)
            .arg(folder.path())
            .output()
            .expect("the tool runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    };
    let found: Value = serde_json::from_slice(&run(&["--json"]).stdout).expect("one JSON document");
    assert_eq!(
        found,
        json!({"tokens": 9, "upper_bound": 9, "accuracy": "exact", "encoding": "o200k_base",
            "files": [{"path": "a.txt", "bytes": 9, "tokens": 7}, {"path": "inner/b.txt", "bytes": 11, "tokens": 2}],
            "skipped": ["c.bin"]})
    );
    let plain = run(&["--model", "claude-opus-5"]);
    let text = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(text.contains("inner/b.txt") && text.contains("calibrated"), "{text}");
    assert!(String::from_utf8_lossy(&plain.stderr).contains("no text"), "what was left out is said");
}

const CHAT: &str = "https://api.openai.com/v1/chat/completions";
const RESPONSES: &str = "https://api.openai.com/v1/responses";
const CLAUDE: &str = "https://api.anthropic.com/v1/messages";
const GEMINI: &str = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent";
/// OpenAI's gpt-5.4 takes so much.
const WINDOW: u64 = 1_050_000;

fn post(uri: &str, body: &Value) -> Call {
    Call::post(uri, body.to_string())
}

#[test]
fn what_is_kept_at_the_provider_may_fill_a_window() {
    let go_on = json!([{"role": "user", "content": "go on"}]);
    let gemini = json!([{"role": "user", "parts": [{"text": "go on"}]}]);
    let calls = [
        (RESPONSES, json!({"model": "gpt-5.5", "input": "go on", "previous_response_id": "resp_1"})),
        (RESPONSES, json!({"model": "gpt-5.5", "input": go_on, "previous_response_id": "resp_1"})),
        (RESPONSES, json!({"model": "gpt-5.5", "input": go_on, "conversation": {"id": "conv_1"}})),
        (RESPONSES, json!({"model": "gpt-5.5", "prompt": {"id": "pmpt_1"}})),
        (RESPONSES, json!({"model": "gpt-5.5", "input": [{"type": "item_reference", "id": "msg_1"}]})),
        (
            RESPONSES,
            json!({"model": "gpt-5.5", "input": [{"id": "msg_1"}, {"role": "user", "content": "a"}]}),
        ),
        (RESPONSES, json!({"model": "gpt-5.5", "input": [{"type": "image_generation_call", "id": "ig_1"}]})),
        (GEMINI, json!({"contents": gemini, "cachedContent": "cachedContents/1"})),
        (GEMINI, json!({"contents": gemini, "cached_content": "cachedContents/1"})),
        (
            CHAT,
            json!({"model": "gpt-4o-audio-preview", "messages": [
            {"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "go on"}]}),
        ),
        (
            CLAUDE,
            json!({"model": "claude-opus-5", "max_tokens": 9, "messages": go_on,
            "container": "container_1"}),
        ),
        (
            CLAUDE,
            json!({"model": "claude-opus-5", "max_tokens": 9, "messages": [
            {"role": "user", "content": [{"type": "container_upload", "file_id": "file_1"}]}]}),
        ),
    ];
    for (uri, body) in calls {
        let call = post(uri, &body);
        let (found, counter) = (count(&call), Counter::default());
        assert!(found.at_most >= WINDOW + found.likely, "{body}: {}", found.at_most);
        assert!(found.likely < 100, "what can be counted is likely: {body}");
        assert_eq!(found.accuracy, Accuracy::UpperBound, "{body}");
        for _ in 0..2 {
            assert_eq!(counter.count(&call), found, "remembered: {body}");
        }
        assert!(!counter.fits(&call, 1_000_000) && counter.fits(&call, found.at_most), "{body}");
    }
    for body in [
        json!({"model": "gpt-5.5", "input": "go on", "previous_response_id": null}),
        json!({"model": "gpt-5.5", "input": [{"role": "user", "content": "conversation: {\"file_id\"}"}]}),
    ] {
        assert!(Counter::default().fits(&post(RESPONSES, &body), 200), "nothing is hidden in {body}");
    }
}

#[test]
fn a_screen_by_url_costs_what_the_picture_does() {
    let url = "https://a.example/screen.png";
    let screen = post(
        RESPONSES,
        &json!({"model": "gpt-5.5", "input": [{"type": "computer_call_output",
        "call_id": "c", "output": {"type": "computer_screenshot", "image_url": url}}]}),
    );
    let picture = post(
        RESPONSES,
        &json!({"model": "gpt-5.5", "input": [{"role": "user",
        "content": [{"type": "input_image", "image_url": url}]}]}),
    );
    let (screen, picture) = (count(&screen), count(&picture));
    assert!(screen.at_most >= picture.at_most && screen.likely >= picture.likely);
    assert!(screen.at_most < WINDOW);
}

#[test]
fn a_member_that_stands_twice_counts_in_either_reading() {
    let long = "The ferry left the harbour at nine. ".repeat(500);
    let user = |content: &str| format!(r#"{{"role":"user","content":"{content}"}}"#);
    let bodies = [
        format!(r#"{{"model":"gpt-4o","messages":[{}],"messages":[{}]}}"#, user("hi"), user(&long)),
        format!(r#"{{"model":"gpt-4o","messages":[{}],"messages":[{}]}}"#, user(&long), user("hi")),
        format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"hi","content":"{long}"}}]}}"#),
        format!(
            r#"{{"model":"gpt-4o","messages":[{{"role":"user","\u0063ontent":"{long}","content":"hi"}}]}}"#
        ),
    ];
    let honest = count(&chat(&json!({"model": "gpt-4o", "messages": [{"role": "user", "content": long}]})));
    for body in bodies {
        let call = Call::post(CHAT, body.clone());
        let found = count(&call);
        assert!(found.at_most >= body.len() as u64 && found.at_most > honest.likely);
        assert_eq!(found.accuracy, Accuracy::UpperBound);
        let counter = Counter::default();
        assert_eq!(counter.count(&call), found);
        assert!(!counter.fits(&call, honest.likely) && counter.fits(&call, found.at_most));
        let budget = thrifty::budget::Budget::builder().limit("0.001".parse().expect("dollars")).build();
        let refused = budget.expect("a budget").reserve(&call).expect_err("too dear in one of its readings");
        assert!(refused.is_over_limit(), "{refused}");
    }
    let picture = r#"{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"image_url",
        "image_url":{"url":"https://a/b.png"}}],"content":"hi"}]}"#;
    assert!(count(&Call::post(CHAT, picture)).at_most > WINDOW, "the other reading may hold pictures");
}

#[test]
fn a_hard_budget_says_why_it_refuses_what_it_cannot_see() {
    let call = post(
        RESPONSES,
        &json!({"model": "gpt-5.5", "input": "go on", "max_output_tokens": 16, "previous_response_id": "r"}),
    );
    let limit = |dollars: &str| {
        thrifty::budget::Budget::builder().limit(dollars.parse().expect("dollars")).build().expect("a budget")
    };
    let refused = limit("1").reserve(&call).expect_err("a window costs more");
    assert!(refused.is_over_limit());
    let said = refused.to_string();
    assert!(said.contains("kept at the provider") && said.contains("soft budget"), "{said}");
    assert!(limit("1000").reserve(&call).is_ok());
    let policy = thrifty::trim::TrimPolicy::new().with_budget(8000);
    let call = post(
        RESPONSES,
        &json!({"model": "gpt-5.5", "input": [{"role": "user", "content": "go on"}], "conversation": "c"}),
    );
    let said = thrifty::trim::plan(&call, &policy).expect_err("nothing can be cut there").to_string();
    assert!(said.contains("kept at the provider"), "{said}");
}

struct Tenfold;

impl thrifty::tokens::Tokenizer for Tenfold {
    fn name(&self) -> &'static str {
        "tenfold"
    }

    fn count(&self, text: &str) -> Option<u64> {
        Some(text.len() as u64 * 10)
    }
}

#[test]
fn a_tokenizer_of_ones_own_need_not_go_by_bytes() {
    let counter = Counter::default().tokenizer("llama", std::sync::Arc::new(Tenfold));
    let call =
        chat(&json!({"model": "llama-3", "messages": [{"role": "user", "content": "a ferry".repeat(100)}]}));
    let at_most = counter.count(&call).at_most;
    assert!(at_most > 7000);
    for budget in [call.doc.bytes().len() as u64 + 200, at_most - 1, at_most] {
        assert_eq!(counter.fits(&call, budget), at_most <= budget, "{budget}");
    }
}

#[test]
fn films_cost_by_the_frames_asked_for_and_sound_by_the_longest() {
    use base64::Engine;
    let mut mp4 = b"\0\0\0\x18ftypisom\0\0\0\0isom\0\0\x01\0moov\0\0\0\x6cmvhd".to_vec();
    mp4.extend([0u8; 12]);
    mp4.extend(1000u32.to_be_bytes());
    mp4.extend(60_000u32.to_be_bytes());
    let data = base64::engine::general_purpose::STANDARD.encode(mp4);
    let film = |fps: Value| {
        count(&post(
            GEMINI,
            &json!({"contents": [{"role": "user", "parts": [
            {"inlineData": {"mimeType": "video/mp4", "data": data}, "videoMetadata": {"fps": fps}}]}]}),
        ))
    };
    let frames = |fps: Value| (film(fps).likely - 60 * 32) / (60 * 70);
    let found =
        [json!(1), json!(0.5), json!(2.0), json!(2.5), json!("24"), json!(100), json!(1e1), json!("x")];
    assert_eq!(found.map(frames), [1, 1, 2, 3, 24, 24, 10, 24]);
    assert!(film(json!(24)).at_most >= 60 * (24 * 280 + 32));
    let sound = count(&post(
        GEMINI,
        &json!({"contents": [{"role": "user", "parts": [
        {"fileData": {"mimeType": "audio/mp3", "fileUri": "https://g/files/1"}}]}]}),
    ));
    assert!(sound.at_most >= 34_200 * 32, "9.5 hours: {}", sound.at_most);
}

#[test]
fn data_urls_are_seen_in_bare_text_and_in_arguments() {
    let text = format!("look: data:image/png;base64,{}", "iVBORw0KGgo".repeat(50));
    let urls = tally(&json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]})).data_urls;
    assert_eq!(urls, 22 + 550);
    assert_eq!(thrifty::tokens::count_text_for(&text, "gpt-4o").data_urls, urls);
    let arguments = tally(&json!({"model": "gpt-4o", "messages": [{"role": "assistant", "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": text}}]}]}));
    assert_eq!(arguments.data_urls, urls);
}
