//! The canonical key beside the parse it must beat: `serde_json` reading the same body.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use thrifty::cache::{Keyer, Secret, digest};
use thrifty::call::{Call, Scope};

/// A conversation with tools of about `bytes` bytes.
fn body(bytes: usize) -> String {
    let mut body = String::from(
        r#"{"model":"gpt-5-mini","temperature":0.2,"max_completion_tokens":512,"user":"u-17","tools":[{"type":"function","function":{"name":"search","description":"Searches the handbook.","parameters":{"type":"object","properties":{"query":{"type":"string"},"limit":{"type":"integer","minimum":1,"maximum":50}},"required":["query"],"additionalProperties":false}}}],"messages":[{"role":"system","content":"You answer questions about the handbook.\nBe brief, and name the page."}"#,
    );
    let mut turn = 0;
    while body.len() < bytes - 300 {
        let _ = write!(
            body,
            r#",{{"role":"user","content":"Question {turn}: what does the \"handbook\" say about travel in the second quarter?\nI only need the sentence on rail."}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_{turn}","type":"function","function":{{"name":"search","arguments":"{{\"query\":\"travel rail\",\"limit\":{turn}}}"}}}}]}},{{"role":"tool","tool_call_id":"call_{turn}","content":"Page 12 – Trains are preferred where the journey takes less than five hours. Tickets are bought through the desk, and receipts are handed in within thirty days. Exceptions need the consent of the head of the department."}}"#
        );
        turn += 1;
    }
    body.push_str("]}");
    body
}

fn key(c: &mut Criterion) {
    let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
    let excluded = Call::post("https://api.openai.com/v1/chat/completions", "{}").format().excluded();
    for (name, bytes) in [("2 KB", 2 << 10), ("42 KB", 42 << 10)] {
        let body = body(bytes);
        let call = Call::post("https://api.openai.com/v1/chat/completions", body.clone());
        assert!(keyer.key(&call, &Scope::credential(), &[]).is_ok());
        let mut group = c.benchmark_group(format!("key/{name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("floor: serde_json parse", |b| {
            b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(body.as_bytes())));
        });
        group.bench_function("canonical form and hash", |b| {
            b.iter(|| digest(black_box(body.as_bytes()), excluded));
        });
        group.bench_function("key of a call that was looked into", |b| {
            b.iter(|| keyer.key(black_box(&call), &Scope::credential(), &[]));
        });
        group.bench_function("alias", |b| {
            b.iter(|| keyer.alias(black_box(&call), &Scope::credential(), &[], &[0; 32]));
        });
        group.finish();
    }
}

criterion_group!(benches, key);
criterion_main!(benches);
