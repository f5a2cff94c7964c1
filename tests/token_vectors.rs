//! Every file of published token vectors: how many of its figures come out, file by file.
//!
//! Read from `$THRIFTY_DATA/token_vectors` where present. `cargo test --test token_vectors -- --nocapture` prints the
//! table; each row has a floor below which the test fails.
#![cfg(feature = "tiktoken")]
#![expect(clippy::disallowed_methods, reason = "`json!` writes the bodies of these tests")]

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thrifty::call::Call;
use thrifty::call::json::Object;
use thrifty::tokens::{Accuracy, Count, Counter, Encoding, Family, TextClass, count};

/// What must come out of one set of one file. No published figure is above the upper bound, in any of them.
struct Floor {
    set: &'static str,
    /// Likely figures that equal the published ones, of how many.
    exact: (usize, usize),
}

const fn floor(set: &'static str, exact: usize, of: usize) -> Floor {
    Floor { set, exact: (exact, of) }
}

/// The files, with their sets; a file that is in the folder and not here fails the test.
const FILES: &[(&str, &[Floor])] = &[
    ("jtokkit_cl100k_base.json", &[floor("texts", 209, 209)]),
    ("jtokkit_o200k_base.json", &[floor("texts", 206, 206)]),
    ("gpt_tokenizer_testplans.json", &[floor("texts", 142, 142)]),
    ("tiktoken_upstream.json", &[floor("texts", 4, 4), floor("must not fail", 72, 72)]),
    ("openai_cookbook.json", &[floor("strings", 3, 3)]),
    (
        "openai_messages_token_helper.json",
        &[
            floor("messages, cl100k", 8, 8),
            floor("messages, o200k", 8, 8),
            floor("tools", 11, 11),
            floor("pictures, gpt-4o", 2, 2),
            floor("pictures, gpt-4o-mini", 2, 2),
        ],
    ),
    ("hmarr_openai_chat_tokens.json", &[floor("functions of 2023", 18, 18)]),
    ("tiktoken_rs_tests.json", &[floor("conversations", 3, 3)]),
    (
        "litellm_token_counter.json",
        &[floor("tools", 11, 11), floor("messages", 8, 8), floor("conversations (behaviour)", 1, 1)],
    ),
    // Another library's formula, of which nobody says that it was billed.
    ("gpt_tokenizer_function_calling_o200k.json", &[floor("functions (behaviour)", 18, 18)]),
    (
        "image_tokens_measured.json",
        &[
            floor("A: detail", 2, 2),
            // 1,600 x 1,600 pixels: gpt-5.4 in chat (2,813) fits no rule, and its frame is one token more.
            floor("B: patches", 1, 6),
            floor("B: most at high", 0, 4),
            floor("E: ten sizes", 32, 32),
            // Documents are calibrated: the bound is what counts.
            floor("F: pages, Gemini 3", 4, 4),
            floor("F: pages, Claude", 0, 8),
            floor("F: a table as text", 0, 1),
        ],
    ),
    ("claude_tokenizer_ratios.json", &[floor("ratios within start factors", 17, 19)]),
    ("tool_formula_fit.json", &[floor("layouts that were chosen", 2, 2)]),
];

#[derive(Default)]
struct Row {
    set: String,
    of: usize,
    exact: usize,
    above: usize,
    misses: Vec<i64>,
}

impl Row {
    fn new(set: &str) -> Self {
        Self { set: set.to_owned(), ..Self::default() }
    }

    fn add(&mut self, likely: u64, at_most: u64, want: u64) {
        self.of += 1;
        self.above += usize::from(at_most < want);
        if likely == want {
            self.exact += 1;
        } else {
            self.misses.push(likely.cast_signed() - want.cast_signed());
        }
    }

    fn count(&mut self, found: &Count, want: u64) {
        self.add(found.likely, found.at_most, want);
    }
}

fn folder() -> PathBuf {
    std::env::var_os("THRIFTY_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from)
        .join("token_vectors")
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number of tokens")
}

fn encoding(name: &str) -> Encoding {
    Encoding::ALL.into_iter().find(|one| one.name() == name).unwrap_or_else(|| panic!("no encoding {name}"))
}

fn chat_text(body: &str) -> Count {
    let call = Call::post("https://api.openai.com/v1/chat/completions", body.to_owned());
    let found = count(&call);
    assert_eq!(Counter::default().count(&call), found, "remembered counts are the same counts");
    found
}

fn chat(body: &Value) -> Count {
    chat_text(&body.to_string())
}

fn texts(data: &Value, member: &str, set: &str) -> Row {
    let mut row = Row::new(set);
    for case in list(data, member).iter().filter(|case| case.get("allowed_special").is_none()) {
        let name = case["encoding"].as_str().or(data["encoding"].as_str()).expect("an encoding");
        let found = encoding(name).count(case["text"].as_str().expect("a text"));
        row.add(found, found, list(case, "tokens").len() as u64);
    }
    row
}

/// Requests spliced as text: the order of a schema's properties is part of the prompt.
fn requests(text: &str, member: &str, model: &str, billed: &str, set: &str) -> Row {
    let mut row = Row::new(set);
    let cases = Object::parse(text).and_then(|data| data.elements(member)).expect("a list of cases");
    for case in cases {
        let case = Object::parse(case).expect("a case");
        let model = case.str("model").unwrap_or(model.into());
        let mut body = format!(r#"{{"model":"{model}""#);
        for (from, to) in [("system_message", "messages"), ("message", "messages")] {
            if let Some(message) = case.get(from) {
                body.push_str(&format!(r#","{to}":[{message}]"#));
            }
        }
        for name in ["messages", "tools", "functions", "tool_choice", "function_call"] {
            if let Some(value) = case.get(name) {
                body.push_str(&format!(r#","{name}":{value}"#));
            }
        }
        body.push('}');
        if let Some(want) = case.u64(billed) {
            row.count(&chat_text(&body), want);
        }
    }
    row
}

/// A header that says how large the picture is; no model needs more of it to count.
fn png(width: u64, height: u64) -> String {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    for side in [width, height] {
        bytes.extend(u32::try_from(side).expect("pixels").to_be_bytes());
    }
    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
}

fn picture(model: &str, size: (u64, u64), detail: Option<&str>) -> Count {
    let mut image = json!({"url": png(size.0, size.1)});
    if let Some(detail) = detail {
        image["detail"] = detail.into();
    }
    let content = json!([{"type": "image_url", "image_url": image}]);
    chat(&json!({"model": model, "messages": [{"role": "user", "content": content}]}))
}

/// A request with a picture and nothing else costs 7 besides it.
const FRAME: u64 = 7;

fn measured(data: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut a = Row::new("A: detail");
    for (model, row) in data["A"]["rows"].as_object().expect("rows") {
        for (i, detail) in ["low", "high"].into_iter().enumerate() {
            let found = picture(model, (128, 64), Some(detail));
            // Five words of text besides the picture.
            a.add(found.likely + 5, found.at_most + 5, number(&row[i]));
        }
    }
    rows.push(a);

    let mut b = Row::new("B: patches");
    for (model, row) in data["B"]["rows"].as_object().expect("rows") {
        let found = picture(model, (1600, 1600), None);
        for billed in row.as_array().expect("a row") {
            b.count(&found, number(billed));
        }
    }
    rows.push(b);
    let mut most = Row::new("B: most at high");
    for (model, billed) in data["B"]["max_billed_at_high"].as_object().expect("by model") {
        let found = picture(model, (30_000, 30_000), Some("high"));
        most.add(found.likely - FRAME, found.at_most - FRAME, number(billed));
    }
    rows.push(most);

    let mut e = Row::new("E: ten sizes");
    for (size, row) in data["E"]["rows"].as_object().expect("rows") {
        let (width, height) = size.split_once('x').expect("a size");
        let size: (u64, u64) = (width.parse().expect("pixels"), height.parse().expect("pixels"));
        for (column, model, detail, more) in [
            (0, "claude-fable-5-5", None, 77),
            (1, "claude-sonnet-4-5", None, 65),
            (2, "gemini-3-pro", None, 1),
            (3, "gpt-6", None, 0),
            (4, "gpt-6", Some("high"), 0),
            (5, "gpt-5.5", None, 0),
        ] {
            // The client shrank larger pictures for Claude before it sent them.
            if column < 2 && size.0.max(size.1) > 2000 {
                continue;
            }
            let found = picture(model, size, detail);
            e.add(found.likely - FRAME + more, found.at_most - FRAME + more, number(&row[column]));
        }
    }
    rows.push(e);
    rows.extend(pages(data));
    rows
}

fn pages(data: &Value) -> Vec<Row> {
    let (mut gemini, mut claude) = (Row::new("F: pages, Gemini 3"), Row::new("F: pages, Claude"));
    for (name, row) in data["F"]["rows"].as_object().expect("rows") {
        if name == "table_plain" {
            continue;
        }
        let n = if name.ends_with("10p") { 10 } else { 1 };
        let pdf = STANDARD.encode(format!("%PDF-1.4 {}", "<</Type/Page>> ".repeat(n)));
        let call = Call::post(
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent",
            json!({"contents": [{"role": "user", "parts": [
                {"inlineData": {"mimeType": "application/pdf", "data": pdf}}]}]})
            .to_string(),
        );
        let found = count(&call);
        gemini.add(found.likely + 1, found.at_most + 1, number(&row[2]));
        for (column, model, prompt) in [(0, "claude-fable-5-5", 77), (1, "claude-sonnet-4-5", 65)] {
            let body = json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": [
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": pdf}}]}]});
            let found = count(&Call::post("https://api.anthropic.com/v1/messages", body.to_string()));
            assert_eq!(found.accuracy, Accuracy::Calibrated);
            claude.add(found.likely - FRAME + prompt, found.at_most - FRAME + prompt, number(&row[column]));
        }
    }
    // The text of the table is not published; its o200k count is, and the factor for tables must hold it.
    let row = &data["F"]["rows"]["table_plain"];
    let mut table = Row::new("F: a table as text");
    let likely = number(&row[3]) * Family::Gemini.factor(TextClass::Data) / 1000;
    table.add(likely, likely + likely / 10, number(&row[2]));
    vec![gemini, claude, table]
}

/// A number of the JSON in units of its last of so many decimals.
fn decimal(value: &Value, places: usize) -> u64 {
    let text = value.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}{part:0<places$.places$}").parse().expect("a ratio")
}

/// Ratios of the newer Claude tokenizer over the older one. Ours is the quotient of the start factors, which lean high.
fn ratios(data: &Value) -> Row {
    let mut row = Row::new("ratios within start factors");
    for (kind, ratio) in data["sol.ava.dev_2026-04-17"].as_object().expect("by kind of text") {
        let class = match kind.as_str() {
            "haskell" | "python" | "go" | "ruby" | "c" | "rust" | "typescript" => TextClass::Code,
            "json_log_text_heavy" | "uuid_timestamps" => TextClass::Data,
            "russian" | "zh_ja_ko" | "arabic_hindi" => TextClass::Wide,
            _ => TextClass::Prose,
        };
        let thousandths = |value: &Value| decimal(value, 3);
        let measured =
            ratio.as_array().and_then(|both| both.last()).map_or_else(|| thousandths(ratio), thousandths);
        let ours = Family::ClaudeNew.factor(class) * 1100 / Family::ClaudeOld.factor(class);
        row.of += 1;
        if measured <= ours {
            row.exact += 1;
        } else {
            row.misses.push(ours.cast_signed());
        }
    }
    row
}

/// The layouts of tool definitions that we take, and what the fit said of them.
fn fit(data: &Value) -> Row {
    let mut row = Row::new("layouts that were chosen");
    let whole = |layout: &str, set: &str| {
        let text = data["results"][layout][set].as_str().unwrap_or_default();
        let (exact, of) = text.split_once('/').unwrap_or_default();
        !exact.is_empty() && of.split(' ').next() == Some(exact)
    };
    row.add(u64::from(whole("hmarr_2023_layout", "A")), 1, 1);
    row.add(u64::from(whole("layout_2024 (ours, below)", "B")), 1, 1);
    row
}

fn rows(file: &str, text: &str) -> Vec<Row> {
    let data: Value = serde_json::from_str(text).expect("the vectors are JSON");
    match file {
        "jtokkit_cl100k_base.json" | "jtokkit_o200k_base.json" | "gpt_tokenizer_testplans.json" => {
            vec![texts(&data, "cases", "texts")]
        }
        "tiktoken_upstream.json" => {
            let mut hostile = Row::new("must not fail");
            for piece in list(&data["must_not_raise"][0], "repeat_each_10000") {
                let text = piece.as_str().expect("a text").repeat(10_000);
                for encoding in Encoding::ALL {
                    for text in [text.clone(), format!(" {text}\n")] {
                        let found = encoding.count(&text);
                        assert!(found > 0 && found <= text.len() as u64);
                        hostile.add(found, found, found);
                    }
                }
            }
            vec![texts(&data, "cases", "texts"), hostile]
        }
        "openai_cookbook.json" => vec![texts(&data, "strings", "strings")],
        "openai_messages_token_helper.json" => {
            let (mut gpt_4o, mut mini) = (Row::new("pictures, gpt-4o"), Row::new("pictures, gpt-4o-mini"));
            for case in list(&data, "images") {
                let mut message = case["message"].clone();
                for part in message["content"].as_array_mut().expect("parts") {
                    if let Some(size) = part.get("_image_px").cloned() {
                        part["image_url"]["url"] = png(number(&size[0]), number(&size[1])).into();
                    }
                }
                gpt_4o
                    .count(&chat(&json!({"model": "gpt-4o", "messages": [message]})), number(&case["count"]));
                let body = json!({"model": "gpt-4o-mini", "messages": [message]});
                mini.count(&chat(&body), number(&case["count_4o_mini"]));
            }
            vec![
                requests(text, "messages", "gpt-4", "count", "messages, cl100k"),
                requests(text, "messages", "gpt-4o", "count_omni", "messages, o200k"),
                requests(text, "functions", "gpt-4", "count", "tools"),
                gpt_4o,
                mini,
            ]
        }
        "hmarr_openai_chat_tokens.json" => {
            vec![requests(text, "cases", "gpt-3.5-turbo", "tokens", "functions of 2023")]
        }
        "tiktoken_rs_tests.json" => vec![requests(text, "cases", "", "prompt_tokens", "conversations")],
        "litellm_token_counter.json" => vec![
            requests(text, "tools", "gpt-4", "openai_prompt_tokens", "tools"),
            requests(text, "messages", "gpt-4", "prompt_tokens", "messages"),
            requests(text, "conversations", "", "count", "conversations (behaviour)"),
        ],
        "gpt_tokenizer_function_calling_o200k.json" => {
            vec![requests(text, "cases", "gpt-4o", "tokens", "functions (behaviour)")]
        }
        "image_tokens_measured.json" => measured(&data),
        "claude_tokenizer_ratios.json" => vec![ratios(&data)],
        "tool_formula_fit.json" => vec![fit(&data)],
        other => panic!("{other} is a file of vectors that no test reads"),
    }
}

#[test]
fn every_vector_file_comes_out_as_before_or_better() {
    let Ok(entries) = fs::read_dir(folder()) else {
        println!("the token vectors are not there: skipped");
        return;
    };
    let mut files: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".json"))
        .collect();
    files.sort();
    let mut worse = Vec::new();
    println!("| file | set | exact | above the bound | misses |\n|---|---|---|---|---|");
    for file in &files {
        let text = fs::read_to_string(folder().join(file)).expect("a file of vectors");
        let floors = FILES.iter().find(|(name, _)| name == file).map_or(&[][..], |(_, floors)| floors);
        let rows = rows(file, &text);
        for row in &rows {
            let Row { set, of, exact, above, misses } = row;
            println!("| {file} | {set} | {exact} of {of} | {above} | {misses:?} |");
            match floors.iter().find(|floor| floor.set == set) {
                Some(floor) if *exact >= floor.exact.0 && *of >= floor.exact.1 && *above == 0 => {}
                Some(floor) => {
                    worse.push(format!("{file}, {set}: {:?} expected and none above the bound", floor.exact))
                }
                None => worse.push(format!("{file}, {set}: no floor is set")),
            }
        }
    }
    assert!(worse.is_empty(), "worse than before: {worse:#?}");
}
