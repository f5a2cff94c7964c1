//! Text counts against `tiktoken-rs`, which is slow and exact.
#![cfg(feature = "tiktoken")]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use thrifty::call::Call;
use thrifty::tokens::{Counter, Encoding, Keep, Until, count};
use tiktoken_rs::CoreBPE;

fn pairs() -> [(Encoding, &'static CoreBPE); 2] {
    [
        (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
        (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
    ]
}

fn agree(encoding: Encoding, core: &CoreBPE, text: &str) -> u64 {
    let known = core.encode_ordinary(text).len() as u64;
    assert_eq!(encoding.count(text), known, "{encoding} {:?}", text.chars().take(200).collect::<String>());
    known
}

const CONTEXTS: [fn(char, &mut String); 6] = [
    |c, text| text.push(c),
    |c, text| text.extend(['a', c, 'b']),
    |c, text| text.extend([' ', c]),
    |c, text| text.extend(['A', c, '\n']),
    |c, text| text.extend(['\'', c, '1']),
    |c, text| text.extend([c, c, 'a']),
];

/// In a debug build the planes without characters are sampled, a code point in each block.
fn code_points() -> impl Iterator<Item = char> {
    let sampled =
        |c: char| !cfg!(debug_assertions) || !('\u{40000}'..'\u{e0000}').contains(&c) || c as u32 % 64 == 7;
    ('\0'..=char::MAX).filter(move |c| sampled(*c))
}

fn all_code_points(which: usize) {
    let (encoding, core) = pairs()[which];
    for context in CONTEXTS {
        let mut text = String::new();
        for c in code_points() {
            context(c, &mut text);
            if text.len() > 1000 {
                agree(encoding, core, &text);
                text.clear();
            }
        }
        agree(encoding, core, &text);
    }
}

#[test]
fn all_code_points_in_six_contexts_side_by_side_o200k() {
    all_code_points(0);
}

#[test]
fn all_code_points_in_six_contexts_side_by_side_cl100k() {
    all_code_points(1);
}

#[test]
#[ignore = "thirteen million texts, for a release build"]
fn all_code_points_in_six_contexts_each_alone() {
    for (encoding, core) in pairs() {
        for context in CONTEXTS {
            for c in '\0'..=char::MAX {
                let mut text = String::new();
                context(c, &mut text);
                agree(encoding, core, &text);
            }
        }
    }
}

/// A small generator of its own, so that a run of millions is the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn within(&mut self, first: char, last: char) -> char {
        char::from_u32(first as u32 + self.below(last as usize - first as usize + 1) as u32)
            .unwrap_or('\u{fffd}')
    }
}

/// What splitters trip over: contractions, marks, letters without case, numbers of all kinds, white space.
#[rustfmt::skip]
const BITS: [&str; 84] = [
    "'s", "'S", "'ll", "'LL", "'Re", "'ve", "'t", "'m", "'d", "'\u{17f}", "'", "a", "b", "the", "Word", "HTML", "Z", "x2",
    "ß", "é", "É", "Ж", "ж", "ǅ", "ʰ", "ª", "\u{301}", "\u{300}", "中", "国", "日本", "の", "한국", "ก", "ำ", "ह", "ि", "ن", "ً", "ع",
    "👩\u{200d}👩", "🇩🇪", "🙂", "\u{fe0f}", "1", "23", "٣", "Ⅷ", "½", "²", " ", "  ", "   ", "\t", "\n", "\r\n", "\r",
    "\u{a0}", "\u{3000}", "\u{85}", "\u{2028}", "\0", "\u{feff}", "<|endoftext|>", "/", "//", "!", "...", "=", "(", ")", "{", "\"",
    "_", "-", "\u{1f}", "e", "s", "T", "l", "aaaaaaaa", "        ", "𝒜", "𐐀",
];

fn random_text(dice: &mut Dice, text: &mut String) {
    text.clear();
    let kind = dice.below(12);
    let long = if dice.below(64) == 0 { 400 } else { 24 };
    let alphabet = 1 + dice.below(26);
    for _ in 0..=dice.below(long) {
        match kind {
            0 => text.push(dice.within('\0', char::MAX)),
            1 => text.push([' ', '\t', '\n', '\r', '\u{a0}', '\u{3000}', 'x'][dice.below(7)]),
            2 => text.push(dice.within('\u{4e00}', '\u{5a00}')),
            3 => text.push((b'a' + dice.below(alphabet) as u8) as char),
            4 => text.push(dice.within('\u{430}', '\u{44f}')),
            5 => text.push(['=', '-', '*', '#', '/', '.', '!', '~'][dice.below(1 + alphabet % 8)]),
            _ => text.push_str(BITS[dice.below(BITS.len())]),
        }
    }
}

fn random_texts(number: u64) {
    let (mut dice, mut text) = (Dice(0x9e37_79b9_7f4a_7c15), String::new());
    for turn in 0..number {
        random_text(&mut dice, &mut text);
        for (encoding, core) in pairs() {
            let known = agree(encoding, core, &text);
            if turn % 8 == 0 {
                limits(encoding, core, &text, known, &mut dice);
            }
        }
    }
}

fn limits(encoding: Encoding, core: &CoreBPE, text: &str, known: u64, dice: &mut Dice) {
    for limit in [known.saturating_sub(1), known, known + 1] {
        let found = if known > limit { Until::MoreThan(limit) } else { Until::Exactly(known) };
        assert_eq!(encoding.count_until(text, limit), found, "{encoding} {text:?}");
    }
    let limit = dice.below(known as usize + 2) as u64;
    for keep in [Keep::Front, Keep::Back, Keep::Ends("…"), Keep::Ends(" [cut] ")] {
        let part = encoding.truncate(text, limit, keep);
        let tokens = core.encode_ordinary(&part).len() as u64;
        assert!(tokens <= limit, "{encoding} {text:?} to {limit} by {keep:?} is {part:?}");
        match keep {
            _ if known <= limit => assert_eq!(part, text),
            Keep::Front => assert!(text.starts_with(&*part)),
            Keep::Back => assert!(text.ends_with(&*part)),
            _ => assert!(part.len() <= text.len() + 7),
        }
    }
}

#[test]
fn random_texts_count_as_in_tiktoken() {
    random_texts(20_000);
}

#[test]
#[ignore = "four million texts, for a release build"]
fn four_million_random_texts_count_as_in_tiktoken() {
    random_texts(4_000_000);
}

#[test]
fn public_texts_count_as_in_tiktoken() {
    let root = std::env::var_os("THRIFTY_DATA").map_or_else(
        || std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        std::path::PathBuf::from,
    );
    let Ok(files) = std::fs::read_dir(root.join("token_vectors")) else {
        println!("no token vectors: skipped");
        return;
    };
    let mut texts = Vec::new();
    for file in
        files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let text = std::fs::read_to_string(file).expect("a readable file");
        strings(&serde_json::from_str(&text).expect("JSON"), &mut texts);
        texts.push(text);
    }
    for (encoding, core) in pairs() {
        for text in &texts {
            agree(encoding, core, text);
        }
    }
    println!("{} texts, each in two encodings", texts.len());
}

fn strings(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => into.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        serde_json::Value::Object(members) => members.values().for_each(|item| strings(item, into)),
        _ => {}
    }
}

/// Counts of texts that tiktoken-rs cannot count, or not in a test: by Python's tiktoken and the crate `bpe`.
#[test]
fn ten_million_bytes_of_one_kind_count() {
    for encoding in [Encoding::O200kBase, Encoding::Cl100kBase] {
        assert_eq!(encoding.count(&"a".repeat(10_000_000)), 1_250_000, "{encoding}");
        assert_eq!(encoding.count(&(" ".repeat(10_000_000) + "x")), 78_127, "{encoding}");
    }
}

#[test]
fn hostile_pieces_count_as_in_tiktoken() {
    let mut dice = Dice(42);
    let mut random = |number: usize, first: char, last: char| -> String {
        (0..number).map(|_| dice.within(first, last)).collect()
    };
    let texts = [
        "a".repeat(20_000),
        "ab".repeat(10_000),
        " ".repeat(20_000),
        " \n".repeat(10_000),
        "\t".repeat(20_000),
        "=".repeat(20_000),
        "\0".repeat(3000),
        "\u{301}".repeat(3000),
        "A\u{301}".repeat(3000),
        random(20_000, 'a', 'z'),
        random(5000, 'a', 'b'),
        random(5000, '!', '/'),
        random(5000, '\u{430}', '\u{44f}'),
        random(5000, '\u{4e00}', '\u{9fff}'),
        random(5000, '\u{ac00}', '\u{d7a3}'),
        random(5000, '\u{e01}', '\u{e2e}'),
        random(5000, '\u{1f300}', '\u{1f5ff}'),
        random(5000, '\0', '\u{ffff}'),
    ];
    for (encoding, core) in pairs() {
        for text in &texts {
            agree(encoding, core, text);
            agree(encoding, core, &format!("x{text}y"));
        }
    }
}

/// openai/tiktoken#15 #195 #245, zurawiki/tiktoken-rs#117, goliajp's tiktoken 4.1.2: slower the longer the text.
#[test]
fn long_document_is_linear() {
    let fastest = |text: &str| -> Duration {
        let once = || {
            let start = Instant::now();
            assert!(Encoding::O200kBase.count(text) > 0);
            start.elapsed()
        };
        (0..3).map(|_| once()).min().unwrap_or_default()
    };
    let mut dice = Dice(7);
    let document: String = (0..400_000).map(|_| dice.within('a', 'z')).collect();
    // Sixteen times the text; a quadratic merge would take 256 times as long. On a busy machine the long run is
    // interrupted more often than the short one, so a quiet moment is waited for.
    let tries = || (fastest(&document[..25_000]), fastest(&document));
    let last = (0..20).map(|_| tries()).find(|(small, large)| *large < *small * 64);
    assert!(last.is_some(), "{:?} for 25 KB and for 400 KB", tries());
}

#[test]
fn special_token_spelling_is_text_in_every_context() {
    for (encoding, core) in pairs() {
        for special in core.special_tokens() {
            for text in [special.to_owned(), format!("a{special}b"), special.repeat(40)] {
                assert!(agree(encoding, core, &text) > 1);
            }
        }
    }
    let harmony = tiktoken_rs::o200k_harmony_singleton();
    assert_eq!(agree(Encoding::O200kHarmony, harmony, "<|start|>system<|message|>hi<|end|>"), 17);
}

#[test]
fn bad_input_gets_a_count() {
    let encoding = Encoding::O200kBase;
    assert_eq!(encoding.count_lossy(b"ab\xff\xfe"), (encoding.count("ab\u{fffd}\u{fffd}"), true));
    assert_eq!(encoding.count_lossy("ab".as_bytes()), (1, false));
    assert_eq!(encoding.count_lossy(&[0xe4; 100_000]).0, encoding.count(&"\u{fffd}".repeat(100_000)));
    for text in [r"\ud800", r"\udc00 x", r"\ud83d", r"\ud83d\ud83d"] {
        let body = format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let count = count(&Call::post("https://api.openai.com/v1/chat/completions", body));
        assert!(count.likely > 0 && count.likely <= count.at_most, "{text}");
    }
    assert_eq!(encoding.count(""), 0);
    assert_eq!(encoding.count_until("", 0), Until::Exactly(0));
    assert_eq!(encoding.truncate("", 0, Keep::Front), "");
}

#[test]
#[ignore = "a hundred megabytes, for a release build"]
fn a_hundred_megabytes_count() {
    let mut dice = Dice(3);
    let mut text = String::new();
    let (mut whole, mut parts) = (String::new(), 0);
    while whole.len() < 100_000_000 {
        random_text(&mut dice, &mut text);
        // A new line and a letter are a border whatever stands around them.
        whole.push_str("x\n");
        whole.push_str(&text);
        parts += 1;
    }
    let total = Encoding::O200kBase.count(&whole);
    assert!(total > parts && total < whole.len() as u64);
    assert_eq!(Encoding::O200kBase.count_until(&whole, 1000), Until::MoreThan(1000));
}

/// A text of each kind: running text, code, JSON, scripts of two and three bytes, what splitters trip over, long runs.
fn all_kinds() -> Vec<String> {
    let mut dice = Dice(5);
    let words: String = (0..2000).map(|_| BITS[dice.below(BITS.len())]).collect();
    let mut random = |number: usize, first: char, last: char| -> String {
        (0..number).map(|_| dice.within(first, last)).collect()
    };
    vec![
        "The ferry left the harbour at noon, and 214 people watched it.".repeat(20),
        "    if self.isReady(&name[..4]) {\n\t\treturn Err(Error::NotFound);\n    }\n\n".repeat(20),
        r#"{"id": 4711, "name": "Zoë", "tags": ["a", "b_c"], "ok": true},"#.repeat(20),
        "Паром вышел из гавани в полдень. Η βάρκα έφυγε. غادرت العبارة الميناء.".repeat(20),
        "渡轮在中午离开港口，人们在墙上看着它。フェリーは正午に出港した。".repeat(20),
        words,
        "a".repeat(100_000),
        " ".repeat(100_000),
        "=".repeat(100_000),
        " \n".repeat(50_000),
        random(20_000, 'a', 'z'),
        random(20_000, '\u{430}', '\u{44f}'),
        random(20_000, '\u{4e00}', '\u{9fff}'),
        random(20_000, '\t', '\r'),
        random(20_000, '\0', '\u{ffff}'),
    ]
}

#[test]
fn a_warm_count_allocates_nothing() {
    for encoding in [Encoding::O200kBase, Encoding::O200kHarmony, Encoding::Cl100kBase] {
        for text in &all_kinds() {
            let known = encoding.count(text);
            let used = allocation_counter::measure(|| {
                assert_eq!(encoding.count(text), known);
                assert_eq!(encoding.count_until(text, 10), Until::MoreThan(10));
                assert_eq!(encoding.count_until(text, known), Until::Exactly(known));
            });
            assert_eq!(used.count_total, 0, "{encoding} {:?}", text.chars().take(40).collect::<String>());
        }
    }
}

/// With the counts of its messages remembered, a request costs a few bytes for each of them, however long they are.
#[test]
fn a_remembered_request_allocates_nothing_for_its_texts() {
    for (model, number, length) in [("gpt-4o", 60, 20), ("gpt-4o", 60, 400), ("gpt-4", 120, 400)] {
        let text = "The ferry left at noon. ".repeat(length);
        let messages: Vec<_> =
            (0..number).map(|i| format!(r#"{{"role":"user","content":"{i} {text}"}}"#)).collect();
        let body = format!(r#"{{"model":"{model}","messages":[{}]}}"#, messages.join(","));
        let call = Call::post("https://api.openai.com/v1/chat/completions", body);
        let counter = Counter::default();
        let known = counter.count(&call);
        let used = allocation_counter::measure(|| assert_eq!(counter.count(&call), known));
        println!(
            "{model}, {number} messages of {} bytes: {} allocations of {} bytes",
            text.len(),
            used.count_total,
            used.bytes_total
        );
        assert!(used.count_total <= 32 + 2 * number, "{model}: {} allocations", used.count_total);
        assert!(used.bytes_total <= 4096 + 64 * number, "{model}: {} bytes", used.bytes_total);
    }
}

#[test]
fn every_encoding_truncates() {
    let text = "The ferry left the harbour at noon, 渡轮在中午离开港口。\n\n    And came back.  ";
    for encoding in Encoding::ALL {
        let known = encoding.count(text);
        for limit in 0..=known {
            for keep in [Keep::Front, Keep::Back, Keep::Ends(" ... ")] {
                let part = encoding.truncate(text, limit, keep);
                assert!(encoding.count(&part) <= limit, "{encoding} {limit} {keep:?} {part:?}");
                assert!(
                    limit < 8 || part.len() > text.len() / 16,
                    "{encoding} keeps little: {limit} {keep:?} {part:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_counts_as_in_tiktoken(text in "(\\PC|[ \t\r\n]|[a-zA-Z']){0,60}") {
        for (encoding, core) in pairs() {
            let known = agree(encoding, core, &text);
            limits(encoding, core, &text, known, &mut Dice(text.len() as u64 + 1));
        }
    }
}
