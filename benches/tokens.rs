//! Counting of text beside tiktoken-rs, and re-counting of a conversation beside counting its new message.
//!
//! Ratios within one run are what to compare.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use thrifty::call::Call;
use thrifty::tokens::{Counter, Encoding, count_text};

fn prose(bytes: usize) -> String {
    let words = "The ferry left the harbour at noon, and 214 people watched it from the wall. ";
    words.chars().cycle().take(bytes).collect()
}

fn wide(bytes: usize) -> String {
    "渡轮在中午离开港口，人们在墙上看着它。".chars().cycle().take(bytes / 3).collect()
}

fn text(c: &mut Criterion) {
    let mut group = c.benchmark_group("count_text");
    for (name, text) in [("ascii_8k", prose(8192)), ("cjk_8k", wide(8192))] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("{name}/thrifty"), |b| {
            b.iter(|| count_text(black_box(&text), Encoding::O200kBase));
        });
        let core = tiktoken_rs::o200k_base_singleton();
        group.bench_function(format!("{name}/floor_tiktoken_rs"), |b| {
            b.iter(|| core.encode_ordinary(black_box(&text)).len());
        });
    }
    group.finish();
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
                criterion::BatchSize::SmallInput,
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
            criterion::BatchSize::SmallInput,
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
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, text, recount);
criterion_main!(benches);
