//! What a memory hit takes from the heap: a number that must not grow with the body.
//!
//! For requests and answers of 1, 4, 32 and 256 KB, plain and streamed, with the ids of the original and with fresh
//! ones: allocations and bytes of one repeat through the default stack, its body read frame by frame to the end. Fails
//! when a repeat of the largest takes more than one of the smallest, but for the 16 bytes by which numbers differ.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::process::ExitCode;

use allocation_counter::AllocationInfo;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use thrifty::BoxError;
use thrifty::cache::{CacheLayer, ReplayIdentity};
use thrifty::call::{Call, Reply, ReplyBody};
use thrifty::stack::Stack;
use tower::{Layer, Service, ServiceExt, service_fn};

const ID: &str = "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT";

fn document(bytes: usize) -> Bytes {
    let text = "word ".repeat(bytes / 5);
    format!(
        r#"{{"id":"{ID}","object":"chat.completion","created":1795000000,"model":"gpt-5-mini-2025-08-07","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}}}"#
    )
    .into()
}

/// The events of a stream of about `bytes` bytes.
fn events(bytes: usize) -> Vec<Bytes> {
    let chunk = |rest: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"{ID}\",\"object\":\"chat.completion.chunk\",\"created\":1795000000,\"model\":\"gpt-5-mini-2025-08-07\",{rest}}}\n\n"
        ))
    };
    let piece = |delta: &str, finish: &str| {
        chunk(&format!(r#""choices":[{{"index":0,"delta":{{{delta}}},"finish_reason":{finish}}}]"#))
    };
    let mut events = vec![piece(r#""role":"assistant","content":"""#, "null")];
    events.extend((0..bytes / 200).map(|n| piece(&format!(r#""content":"word {n}""#), "null")));
    events.push(piece("", "\"stop\""));
    events.push(chunk(
        r#""choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}"#,
    ));
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

fn ask(bytes: usize, streamed: bool) -> Call {
    let text = "the quick brown fox ".repeat(bytes / 20);
    let stream = if streamed { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
    let body =
        format!(r#"{{"model":"gpt-5-mini",{stream}"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let mut call = Call::post("https://api.openai.com/v1/chat/completions", body);
    call.parts.headers.insert("authorization", "Bearer sk-of-nobody".parse().unwrap());
    call
}

fn provider(
    bytes: usize,
    streamed: bool,
) -> impl Service<Call, Response = Reply, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let (document, events) = (document(bytes), events(bytes));
    service_fn(move |_: Call| {
        let mut reply = Reply::new(document.clone().into());
        if streamed {
            let frames: Vec<_> = events
                .iter()
                .cloned()
                .map(|event| Ok::<_, BoxError>(http_body::Frame::data(event)))
                .collect();
            *reply.body_mut() = ReplyBody::stream(StreamBody::new(futures_util::stream::iter(frames)));
            reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        }
        async move { Ok(reply) }
    })
}

async fn read<S>(client: S, call: Call) -> usize
where
    S: Service<Call, Response = Reply, Error = BoxError>,
{
    let mut body = client.oneshot(call).await.unwrap().into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().unwrap().len();
    }
    bytes
}

/// What one repeat takes.
fn repeat(kib: usize, streamed: bool, identity: ReplayIdentity) -> (usize, AllocationInfo) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cache = CacheLayer::builder().replay_identity(identity).build().unwrap();
    let handle = cache.handle();
    let client = Stack::builder().cache(cache).build().unwrap().layer(provider(kib << 10, streamed));
    let call = ask(kib << 10, streamed);
    runtime.block_on(async {
        // The first is a miss, and a few more let all that is made once be made.
        for _ in 0..20 {
            read(client.clone(), call.clone()).await;
        }
    });
    let before = handle.stats().memory_hits;
    let (client, call, mut bytes) = (client.clone(), call.clone(), 0);
    // Whatever else the thread does from time to time (moka looks after its queues) is not in every repeat.
    let least = (0..20)
        .map(|_| {
            let (client, call) = (client.clone(), call.clone());
            allocation_counter::measure(|| bytes = runtime.block_on(read(client, call)))
        })
        .min_by_key(|used| used.bytes_total)
        .unwrap();
    assert_eq!(handle.stats().memory_hits - before, 20, "every repeat is a hit");
    (bytes, least)
}

fn main() -> ExitCode {
    let mut good = true;
    println!(
        "{:<8} {:<9} {:>7}  {:>9}  {:>11}  {:>9}",
        "reply", "ids", "size", "body", "allocations", "bytes"
    );
    for streamed in [false, true] {
        for (ids, identity) in [("original", ReplayIdentity::Original), ("fresh", ReplayIdentity::Fresh)] {
            let mut first = None::<AllocationInfo>;
            for kib in [1, 4, 32, 256] {
                let (body, used) = repeat(kib, streamed, identity);
                let grows = first.is_some_and(|first| {
                    used.bytes_total > first.bytes_total + 16 || used.count_total > first.count_total
                });
                good &= !grows;
                first.get_or_insert(used);
                println!(
                    "{:<8} {ids:<9} {:>4} KB  {body:>9}  {:>11}  {:>9}{}",
                    if streamed { "stream" } else { "document" },
                    kib,
                    used.count_total,
                    used.bytes_total,
                    if grows { "  <- grows with the body" } else { "" },
                );
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
