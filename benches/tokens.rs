//! Counting of text beside other exact counters, and re-counting of a conversation beside counting its new message.
//!
//! Ratios within one run are what to compare. `warm` counts a text again and again, `cold` each time another text of
//! the same kind. Texts are of our own making: words drawn by how often they occur, a tenth of them never seen before.
//! What this machine's files count like: put texts into `$THRIFTY_TEXTS`.

#![expect(clippy::disallowed_methods, reason = "`json!` writes the bodies of the replay")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use thrifty::call::Call;
use thrifty::tokens::{Counter, Encoding};

mod texts;

use self::texts::{Dice, HOSTILE, KINDS, code, english, json, text};

type Count = Box<dyn Fn(&str) -> usize>;

fn counters(encoding: Encoding) -> Vec<(&'static str, Count)> {
    let (tiktoken, bpe) = match encoding {
        Encoding::Cl100kBase => (tiktoken_rs::cl100k_base_singleton(), bpe_openai::cl100k_base()),
        _ => (tiktoken_rs::o200k_base_singleton(), bpe_openai::o200k_base()),
    };
    let toktok = toktok::Tokenizer::builtin(encoding.name()).expect("a known encoding");
    vec![
        ("thrifty", Box::new(move |text| encoding.count(text) as usize)),
        ("floor_tiktoken_rs", Box::new(move |text| tiktoken.encode_ordinary(text).len())),
        ("bpe_openai", Box::new(move |text| bpe.count(text))),
        ("toktok", Box::new(move |text| toktok.count(text.as_bytes()))),
    ]
}

fn warm(c: &mut Criterion) {
    for encoding in [Encoding::O200kBase, Encoding::Cl100kBase] {
        let counters = counters(encoding);
        for (kind, make) in KINDS {
            let mut group = c.benchmark_group(format!("count_warm/{encoding}/{kind}"));
            for bytes in [16, 256, 4096, 65_536, 1 << 20] {
                let text = text(make, 1, bytes);
                let known = counters[1].1(&text);
                group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(10);
                for (name, count) in &counters {
                    assert_eq!(count(&text), known, "{name} on {kind}");
                    group.bench_function(BenchmarkId::new(*name, bytes), |b| {
                        b.iter(|| count(black_box(&text)))
                    });
                }
            }
            group.finish();
        }
    }
}

/// Each text is new; what a counter remembers comes from texts of another seed.
fn cold(c: &mut Criterion) {
    for encoding in [Encoding::O200kBase, Encoding::Cl100kBase] {
        let counters = counters(encoding);
        for (kind, make) in KINDS {
            let mut group = c.benchmark_group(format!("count_cold/{encoding}/{kind}"));
            group.throughput(Throughput::Bytes(65_536)).sample_size(10);
            for (name, count) in &counters {
                let mut seed = 100;
                let mut next = || {
                    seed += 1;
                    text(make, seed, 65_536)
                };
                group.bench_function(*name, |b| {
                    b.iter_batched(&mut next, |text| count(&text), BatchSize::PerIteration);
                });
            }
            group.finish();
        }
    }
}

/// What breaks counters: each input at two sizes, which should take the same time for a byte.
fn hostile(c: &mut Criterion) {
    let counters = counters(Encoding::O200kBase);
    for (kind, make) in HOSTILE {
        let mut group = c.benchmark_group(format!("hostile/{kind}"));
        for bytes in [1000, 100_000, 10_000_000] {
            let text = make(&mut Dice(9), bytes);
            group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(10);
            for (name, count) in &counters {
                // The others take seconds, or run out of stack.
                if bytes > 100_000 && *name != "thrifty" {
                    continue;
                }
                group.bench_function(BenchmarkId::new(*name, bytes), |b| b.iter(|| count(black_box(&text))));
            }
        }
        group.finish();
    }
}

/// The machine's own texts, each in parts of 8 KB.
fn files(c: &mut Criterion) {
    let Some(folder) = std::env::var_os("THRIFTY_TEXTS") else {
        println!("no THRIFTY_TEXTS: the machine's own texts are skipped");
        return;
    };
    let counters = counters(Encoding::O200kBase);
    for path in
        std::fs::read_dir(folder).expect("THRIFTY_TEXTS is a folder").flatten().map(|file| file.path())
    {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
        let mut group =
            c.benchmark_group(format!("files/{}", path.file_name().unwrap_or_default().to_string_lossy()));
        group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(10);
        for (name, count) in &counters {
            group.bench_function(*name, |b| b.iter(|| parts(&text).map(count).sum::<usize>()));
        }
        group.finish();
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = (rest.len().min(8192)..=rest.len()).find(|&at| rest.is_char_boundary(at))?;
        let part;
        (part, rest) = rest.split_at(end);
        (!part.is_empty()).then_some(part)
    })
}

/// A limit far below the text, and a cut to one.
fn limits(c: &mut Criterion) {
    let text = text(english, 3, 1 << 20);
    let encoding = Encoding::O200kBase;
    let mut group = c.benchmark_group("limits_1m");
    group.sample_size(10);
    group.bench_function("count", |b| b.iter(|| encoding.count(black_box(&text))));
    group.bench_function("count_until_2000", |b| b.iter(|| encoding.count_until(black_box(&text), 2000)));
    group.bench_function("truncate_front_2000", |b| {
        b.iter(|| encoding.truncate(black_box(&text), 2000, thrifty::tokens::Keep::Front).len());
    });
    group.finish();
}

fn prose(bytes: usize) -> String {
    let words = "The ferry left the harbour at noon, and 214 people watched it from the wall. ";
    words.chars().cycle().take(bytes).collect()
}

fn conversation(messages: &[String]) -> Call {
    let body = format!(r#"{{"model":"gpt-4o","messages":[{}]}}"#, messages.join(","));
    Call::post("https://api.openai.com/v1/chat/completions", body)
}

fn recount(c: &mut Criterion) {
    let mut group = c.benchmark_group("recount_60_messages");
    let message = |i: usize| {
        let role = ["user", "assistant"][i % 2];
        format!(r#"{{"role":"{role}","content":"{i} {}"}}"#, prose(2048))
    };
    let mut messages: Vec<String> = (0..60).map(message).collect();
    let counter = Counter::default();
    black_box(counter.count(&conversation(&messages)));
    // A message never seen before at each turn.
    let mut next = 60;
    for (name, looked_into) in [("counter", true), ("counter_unread_body", false)] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    next += 1;
                    messages.truncate(60);
                    messages.push(message(next));
                    let call = conversation(&messages);
                    // In a stack a layer ahead has read the body, once for all of them.
                    if looked_into {
                        black_box(call.doc.trouble());
                    }
                    call
                },
                |call| counter.count(&call),
                BatchSize::SmallInput,
            );
        });
    }
    group.bench_function("floor_new_message_alone", |b| {
        b.iter_batched(
            || {
                next += 1;
                conversation(&[message(next)])
            },
            |call| thrifty::tokens::count(&call),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("without_memory", |b| {
        b.iter_batched(
            || {
                next += 1;
                messages.truncate(60);
                messages.push(message(next));
                conversation(&messages)
            },
            |call| thrifty::tokens::count(&call),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// An agent's conversation of 60 turns, counted anew at each of them: 9.7 MB of text in all.
fn replay(c: &mut Criterion) {
    const TURNS: usize = 60;
    let contents: Vec<[String; 4]> = (0..TURNS as u64)
        .map(|turn| {
            let of = |kind, seed, bytes| text(kind, 1000 + turn * 4 + seed, bytes);
            [of(english, 0, 200), of(english, 1, 500), of(code, 2, 2700), of(json, 3, 1900)]
        })
        .collect();
    let body = |turns: &[[String; 4]]| {
        let mut messages = Vec::new();
        for (i, [asked, said, argument, result]) in turns.iter().enumerate() {
            messages.push(serde_json::json!({"role": "user", "content": asked}));
            messages.push(serde_json::json!({"role": "assistant", "content": said, "tool_calls": [
                {"id": format!("c{i}"), "type": "function", "function": {"name": "edit", "arguments": argument}}]}));
            messages.push(
                serde_json::json!({"role": "tool", "tool_call_id": format!("c{i}"), "content": result}),
            );
        }
        serde_json::json!({"model": "gpt-4o", "messages": messages}).to_string()
    };
    let bodies: Vec<String> = (1..=TURNS).map(|turns| body(&contents[..turns])).collect();
    let calls = || -> Vec<Call> {
        let call = |body: &String| Call::post("https://api.openai.com/v1/chat/completions", body.clone());
        bodies.iter().map(call).collect()
    };
    let mut group = c.benchmark_group("replay_60_turns");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    let text_bytes: usize =
        (1..=TURNS).map(|turns| contents[..turns].iter().flatten().map(String::len).sum::<usize>()).sum();
    group.throughput(Throughput::Bytes(text_bytes as u64));
    for (name, looked_into) in [("counter", true), ("counter_unread_bodies", false)] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let calls = calls();
                    // In a stack a layer ahead has read each body, once for all of them.
                    if looked_into {
                        black_box(calls.iter().filter(|call| call.doc.trouble().is_some()).count());
                    }
                    (Counter::default(), calls)
                },
                |(counter, calls)| {
                    let sum = calls.iter().map(|call| counter.count(call).likely).sum::<u64>();
                    // Freeing the bodies is not part of it.
                    (sum, counter, calls)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.bench_function("without_memory", |b| {
        b.iter_batched(
            calls,
            |calls| (calls.iter().map(|call| thrifty::tokens::count(call).likely).sum::<u64>(), calls),
            BatchSize::PerIteration,
        );
    });
    // The texts alone: it need not read the bodies.
    let tiktoken = tiktoken_rs::o200k_base_singleton();
    group.bench_function("floor_tiktoken_rs_texts_alone", |b| {
        b.iter(|| {
            let all = (1..=TURNS).flat_map(|turns| contents[..turns].iter().flatten());
            all.map(|text| tiktoken.encode_ordinary(text).len()).sum::<usize>()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700));
    targets = warm, cold, hostile, files, limits, recount, replay
}
criterion_main!(benches);
