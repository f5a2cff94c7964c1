//! An answer that is served again: one of its own by id and time, the same in all else.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use thrifty::BoxError;
use thrifty::cache::{CacheBuilder, CacheLayer, RecallLayer, ReplayIdentity};
use thrifty::call::{CacheMode, Call, Dialect, Options, Reply, ReplyBody, Scope};
use thrifty::clock::ManualClock;
use thrifty::dialect::Stamp;
use tower::{Layer, ServiceExt, service_fn};

const THEN: i64 = 1_795_000_000_000;
const ID: &str = "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT";

const CHAT: &str = r#"{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object":"chat.completion","created":1794999999,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"my \"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\"","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"id\":1}"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}"#;

const STREAM: [&str; 4] = [
    "data: {\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1794999999,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"El\"},\"finish_reason\":null}],\"usage\":null}\n\ndata: {\"id\":\"chatcmpl-B9MB",
    "s8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1794999999,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"even\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1794999999,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":1,\"total_tokens\":9}}\n\n",
    "data: [DONE]\n\n",
];

fn ask(url: &str, body: &str, options: Options) -> Call {
    let mut call = Call::post(url, body.to_owned());
    call.parts.headers.insert("authorization", "Bearer k".parse().unwrap());
    call.parts.extensions.insert(options);
    call
}

fn chat(stream: bool) -> Call {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"stream":{stream},"stream_options":{{"include_usage":true}},"tools":[{{"type":"function","function":{{"name":"f"}}}}]}}"#
    );
    ask("https://api.openai.com/v1/chat/completions", &body, Options::new())
}

/// Answers each call the same, with headers that no replay may have.
fn upstream(
    frames: &'static [&'static str],
    streams: bool,
) -> (
    impl tower::Service<Call, Response = Reply, Error = BoxError, Future: Send> + Clone + Send + 'static,
    Arc<AtomicUsize>,
) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let service = service_fn(move |_: Call| {
        counted.fetch_add(1, Ordering::SeqCst);
        let body = if streams {
            let mut frames = frames.iter();
            let body = futures_util::stream::iter(std::iter::from_fn(move || {
                frames.next().map(|frame| {
                    Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(frame.as_bytes())))
                })
            }));
            ReplyBody::stream(http_body_util::StreamBody::new(body))
        } else {
            ReplyBody::full(Bytes::from_static(frames[0].as_bytes()))
        };
        let mut reply = Reply::new(body);
        let kind = if streams { "text/event-stream" } else { "application/json" };
        for (name, value) in [
            ("content-type", kind),
            ("openai-version", "2020-10-01"),
            ("date", "Tue, 24 Nov 2026 10:00:00 GMT"),
            ("x-request-id", "req_1"),
            ("set-cookie", "a=b"),
            ("x-ratelimit-remaining-tokens", "5"),
            ("age", "7"),
            ("cache-status", "edge; hit"),
        ] {
            reply.headers_mut().insert(name, value.parse().unwrap());
        }
        std::future::ready(Ok(reply))
    });
    (service, calls)
}

struct Got {
    headers: HeaderMap,
    frames: Vec<Bytes>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        let all: Vec<_> = self.headers.get_all(name).iter().collect();
        assert!(all.len() < 2, "{name} is one header");
        all.first().map(|value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.frames.concat()).unwrap()
    }

    /// The text with the original's ids and times in it, and the one id it had.
    fn as_original(&self, dialect: Dialect, is_stream: bool) -> (String, String) {
        let mut text = self.text();
        let identity = dialect.format().identity(text.as_bytes(), is_stream);
        let own = identity.own_id(text.as_bytes()).expect("it has an id").to_owned();
        for place in identity.places().iter().rev() {
            match place.what() {
                Stamp::Seconds => text.replace_range(place.span(), "1794999999"),
                _ => {
                    assert_eq!(&text[place.span()], own, "one id in all events");
                    text.replace_range(place.span(), ID);
                }
            }
        }
        (text, own)
    }
}

async fn get(
    service: &(impl tower::Service<Call, Response = Reply, Error = BoxError> + Clone),
    call: Call,
) -> Got {
    use http_body_util::BodyExt;
    let reply = service.clone().oneshot(call).await.unwrap();
    let (parts, mut body) = reply.into_parts();
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        frames.extend(frame.unwrap().into_data());
    }
    Got { headers: parts.headers, frames }
}

fn builder(clock: &ManualClock) -> CacheBuilder {
    CacheLayer::builder().clock(clock.clone()).ttl(Duration::from_secs(300))
}

#[tokio::test]
async fn a_document_has_an_id_and_a_time_of_its_own_each_time() {
    let clock = ManualClock::at_ms(THEN);
    let (inner, calls) = upstream(&[CHAT], false);
    let cache = builder(&clock).build().unwrap();
    let client = RecallLayer::new(&cache, [1; 32]).layer(cache.layer(inner));
    let live = get(&client, chat(false)).await;
    assert_eq!(live.text(), CHAT, "the one who pays sees it as it came");
    assert_eq!(live.header("cache-status"), Some("edge; hit, thrifty; fwd=miss"));
    assert_eq!((live.header("age"), live.header("thrifty-origin-id")), (Some("7"), None));

    clock.advance(Duration::from_millis(60_900));
    let mut ids = vec![ID.to_owned()];
    for _ in 0..3 {
        let again = get(&client, chat(false)).await;
        let (text, own) = again.as_original(Dialect::OpenAiChat, false);
        assert_eq!(text, CHAT, "no other byte is another");
        assert!(again.text().contains("\"created\":1795000060,"), "it is made now");
        assert!(own.starts_with("chatcmpl-") && own.len() == ID.len(), "of the same kind: {own}");
        assert!(!ids.contains(&own), "each replay is one of its own");
        ids.push(own);
        assert_eq!(again.header("thrifty-origin-id"), Some(ID));
        assert_eq!(again.header("cache-status"), Some("thrifty; hit; ttl=239"));
        assert_eq!(again.header("age"), Some("60"));
        assert_eq!(again.header("openai-version"), Some("2020-10-01"));
        for name in ["date", "x-request-id", "set-cookie", "x-ratelimit-remaining-tokens"] {
            assert_eq!(again.header(name), None, "{name} is of another exchange");
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stream_has_one_id_in_all_its_events_and_ends_its_frames_where_it_did() {
    let clock = ManualClock::at_ms(THEN);
    let (inner, calls) = upstream(&STREAM, true);
    let client = builder(&clock).build().unwrap().layer(inner);
    assert_eq!(get(&client, chat(true)).await.text(), STREAM.concat());
    let again = get(&client, chat(true)).await;
    let (text, own) = again.as_original(Dialect::OpenAiChat, true);
    assert_eq!(text, STREAM.concat());
    assert!(own != ID);
    let ends: Vec<usize> = again.frames.iter().map(Bytes::len).collect();
    assert_eq!(ends, STREAM.map(str::len), "delta by delta, as it came");
    assert_eq!(again.header("thrifty-origin-id"), Some(ID));

    // The other kind of caller, and the one who did not ask for usage.
    let document = get(&client, chat(false)).await;
    let own = document.as_original(Dialect::OpenAiChat, false).1;
    assert!(own != ID && document.text().contains("Eleven") && document.text().contains("total_tokens"));
    assert_eq!(document.header("thrifty-origin-id"), Some(ID));
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let bare = get(&client, ask("https://api.openai.com/v1/chat/completions", body, Options::new())).await;
    assert!(!bare.text().contains("usage") && !bare.text().contains(ID), "{}", bare.text());
    assert_eq!(calls.load(Ordering::SeqCst), 1, "one stored answer serves them all");
}

#[tokio::test]
async fn a_stored_document_serves_streams_with_one_fresh_id() {
    let clock = ManualClock::at_ms(THEN);
    let (inner, calls) = upstream(&[CHAT], false);
    let client = builder(&clock).build().unwrap().layer(inner);
    get(&client, chat(false)).await;
    let stream = get(&client, chat(true)).await;
    let (text, own) = stream.as_original(Dialect::OpenAiChat, true);
    assert!(own != ID && stream.frames.len() > 3);
    let document = Dialect::OpenAiChat.format().to_document(text.as_bytes()).unwrap();
    let of = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
    assert_eq!(of(&document), of(CHAT.as_bytes()));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_original_identity_is_the_very_bytes() {
    let clock = ManualClock::at_ms(THEN);
    for (frames, streams) in [(&[CHAT][..], false), (&STREAM, true)] {
        let (inner, _) = upstream(frames, streams);
        let client = builder(&clock).replay_identity(ReplayIdentity::Original).build().unwrap().layer(inner);
        get(&client, chat(streams)).await;
        let again = get(&client, chat(streams)).await;
        assert_eq!(again.text(), frames.concat());
        assert_eq!(again.header("thrifty-origin-id"), None, "the body tells it");
        assert_eq!(again.header("cache-status"), Some("thrifty; hit; ttl=300"));
    }
}

#[tokio::test]
async fn a_shared_scope_does_not_tell_that_somebody_else_asked() {
    let clock = ManualClock::at_ms(THEN);
    let (inner, calls) = upstream(&[CHAT], false);
    let client = builder(&clock).scope(Scope::shared("all")).build().unwrap().layer(inner);
    let live = get(&client, chat(false)).await;
    assert_eq!(live.header("cache-status"), Some("edge; hit"), "ours says nothing, theirs stays");
    let again = get(&client, chat(false)).await;
    for name in ["cache-status", "age", "thrifty-origin-id"] {
        assert_eq!(again.header(name), None, "{name}");
    }
    assert!(!again.text().starts_with(&CHAT[..60]), "nor does the id");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn each_way_past_the_cache_has_its_word() {
    let clock = ManualClock::at_ms(THEN);
    let (inner, _) = upstream(&[CHAT], false);
    let client = builder(&clock).build().unwrap().layer(inner);
    let url = "https://api.openai.com/v1/chat/completions";
    let plain = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let kept = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"store":true}"#;
    for (body, mode, want) in [
        (kept, CacheMode::Default, "edge; hit, thrifty; fwd=bypass; detail=store-true"),
        (plain, CacheMode::NoStore, "edge; hit, thrifty; fwd=request"),
        (plain, CacheMode::ReadOnly, "edge; hit, thrifty; fwd=miss; detail=own-call"),
        (plain, CacheMode::NoCache, "edge; hit, thrifty; fwd=request"),
        (plain, CacheMode::Default, "thrifty; hit; ttl=300"),
    ] {
        let got = get(&client, ask(url, body, Options::new().cache(mode))).await;
        assert_eq!(got.header("cache-status"), Some(want), "{mode:?}");
    }
}

#[tokio::test]
async fn callers_of_one_flight_see_the_live_reply() {
    let clock = ManualClock::at_ms(THEN);
    let (inner, calls) = upstream(&[CHAT], false);
    let slow = service_fn(move |call: Call| {
        let inner = inner.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            inner.oneshot(call).await
        }
    });
    let client = builder(&clock).build().unwrap().layer(slow);
    let (one, other) = tokio::join!(get(&client, chat(false)), get(&client, chat(false)));
    assert_eq!((one.text(), other.text()), (CHAT.to_owned(), CHAT.to_owned()));
    let said = [one.header("cache-status"), other.header("cache-status")];
    let ours = said.map(|said| said.unwrap().rsplit(", ").next().unwrap().to_owned());
    assert_eq!(ours, ["thrifty; fwd=miss", "thrifty; fwd=miss; collapsed"]);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn an_answer_from_disk_is_one_of_its_own_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at_ms(THEN);
    let path = dir.path().join("answers.redb");
    let (inner, calls) = upstream(&[CHAT], false);
    let layer = builder(&clock).disk(&path).build().unwrap();
    get(&layer.layer(inner.clone()), chat(false)).await;
    layer.handle().flush().await;
    drop(layer);
    let layer = builder(&clock).disk(&path).build().unwrap();
    let client = layer.layer(inner);
    let again = get(&client, chat(false)).await;
    let (text, own) = again.as_original(Dialect::OpenAiChat, false);
    assert!(text == CHAT && own != ID);
    assert_eq!(again.header("thrifty-origin-id"), Some(ID));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(layer.handle().stats().disk_hits, 1, "memory was empty");
}

const RESPONSE: &str = r#"{"id":"resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b","object":"response","created_at":1794999999,"status":"completed","error":null,"store":false,"model":"m","output":[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"},{"type":"message","id":"msg_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b","role":"assistant","status":"completed","content":[{"type":"output_text","text":"11","annotations":[]}]}],"usage":{"input_tokens":8,"output_tokens":1,"total_tokens":9}}"#;

#[tokio::test]
async fn of_a_response_that_nobody_keeps_all_ids_are_fresh_but_those_bound_to_secrets() {
    let clock = ManualClock::at_ms(THEN);
    let body = r#"{"model":"m","input":"hi","store":false,"include":["reasoning.encrypted_content"]}"#;
    let url = "https://api.openai.com/v1/responses";
    let (inner, _) = upstream(&[RESPONSE], false);
    let client = builder(&clock).build().unwrap().layer(inner);
    get(&client, ask(url, body, Options::new())).await;
    let again = get(&client, ask(url, body, Options::new())).await;
    let (was, is): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(RESPONSE).unwrap(), serde_json::from_str(&again.text()).unwrap());
    assert_ne!(was["id"], is["id"]);
    assert_eq!(was["output"][0], is["output"][0], "the provider takes the secret under its own id only");
    assert_ne!(was["output"][1]["id"], is["output"][1]["id"]);
    assert!(is["output"][1]["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(is["created_at"], THEN / 1_000);
    assert_eq!(again.header("thrifty-origin-id"), was["id"].as_str());
    let stream =
        get(&client, ask(url, &body.replace("false", "false,\"stream\":true"), Options::new())).await;
    let ids = ["resp_67", "msg_67"].map(|start| {
        let text = stream.text();
        let old = RESPONSE.find(start).map(|at| RESPONSE[at..].split('"').next().unwrap()).unwrap();
        text.contains(old)
    });
    assert_eq!(ids, [false; 2], "in no event");

    // One that the provider keeps goes on to be known by its id, as the next call may name it.
    let kept: &'static str =
        Box::leak(RESPONSE.replace("\"store\":false", "\"store\":true").into_boxed_str());
    let frames: &'static [&'static str] = Box::leak(Box::new([kept]));
    let (inner, _) = upstream(frames, false);
    let client = builder(&clock).build().unwrap().layer(inner);
    let body = r#"{"model":"m","input":"hi"}"#;
    get(&client, ask(url, body, Options::new())).await;
    let again = get(&client, ask(url, body, Options::new())).await;
    assert_eq!(again.header("cache-status"), Some("thrifty; hit; ttl=300"));
    assert_eq!((again.text().as_str(), again.header("thrifty-origin-id")), (kept, None));
}

#[tokio::test]
async fn embeddings_say_how_much_of_them_was_known() {
    const REPLY: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,1.0]}],"model":"e","usage":{"prompt_tokens":1,"total_tokens":1}}"#;
    const TWO: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,1.0]},{"object":"embedding","index":1,"embedding":[0.25,1.0]}],"model":"e","usage":{"prompt_tokens":2,"total_tokens":2}}"#;
    let clock = ManualClock::at_ms(THEN);
    let service = service_fn(|call: Call| {
        let two = call.doc.elements("input").is_some_and(|inputs| inputs.len() == 2);
        std::future::ready(Ok::<_, BoxError>(Reply::new(if two { TWO } else { REPLY }.into())))
    });
    let client = builder(&clock).build().unwrap().layer(service);
    let embed = |input: &str| {
        let body = format!(r#"{{"model":"e","input":{input}}}"#);
        ask("https://api.openai.com/v1/embeddings", &body, Options::new())
    };
    for (input, want) in [
        (r#"["a"]"#, "thrifty; fwd=miss"),
        (r#"["a"]"#, "thrifty; hit; ttl=300"),
        (r#"["a","b"]"#, "thrifty; fwd=partial"),
        (r#"["b","a"]"#, "thrifty; hit; ttl=300"),
        (r#"["c","d"]"#, "thrifty; fwd=miss"),
    ] {
        let got = get(&client, embed(input)).await;
        assert_eq!(got.header("cache-status"), Some(want), "{input}");
        assert_eq!(got.header("thrifty-origin-id"), None);
    }
}
