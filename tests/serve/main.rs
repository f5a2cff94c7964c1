//! `thrifty serve`, run as a program in front of a real server: what passes, what is kept, and what never leaks.
#![cfg(all(feature = "cli", unix))]

mod limits;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;

const CHAT: &str = "/v1/chat/completions";
const GAP: Duration = Duration::from_millis(80);
const FRAMES: u64 = 12;

/// A provider that does what the header `x-do` says and writes down what came.
#[derive(Clone, Default)]
struct Provider {
    seen: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
    sent: Arc<Mutex<Vec<Instant>>>,
    other: Arc<Mutex<String>>,
    calls: Arc<AtomicU64>,
    /// Lets one frame of a stream by steps go.
    gate: Arc<tokio::sync::Notify>,
}

/// Odd on purpose: nobody may write it anew. Without an id, which a replay has of its own.
const ANSWER: &str = "{ \"model\" : \"gpt-4o-2024-08-06\", \"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\
    \"content\":\"\\u0041\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":1,\"total_tokens\":9}, \"n\":1.0e0 }\n";

fn frame(n: u64) -> String {
    let finish = if n + 1 == FRAMES { r#""stop""# } else { "null" };
    let done = if n + 1 == FRAMES { "data: [DONE]\n\n" } else { "" };
    format!(
        "data: {{\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w{n} \"}},\"finish_reason\":{finish}}}]}}\n\n{done}"
    )
}

const USAGE: &str = "data: {\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":1,\"total_tokens\":9}}\n\n";

impl Provider {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let provider = self.clone();
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let provider = provider.clone();
            async move { provider.answer(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        origin
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 22).await.expect("a body");
        self.seen.lock().expect("seen").push((parts.uri.to_string(), parts.headers.clone(), body));
        let what = parts.headers.get("x-do").and_then(|what| what.to_str().ok()).unwrap_or("document");
        let stream = |frames: u64, then: Option<Then>| {
            let sent = self.sent.clone();
            let body = futures_util::stream::unfold(0, move |n| {
                let sent = sent.clone();
                async move {
                    if n < frames {
                        tokio::time::sleep(if n == 0 { Duration::ZERO } else { GAP }).await;
                        sent.lock().expect("sent").push(Instant::now());
                        return Some((Ok(Bytes::from(frame(n))), n + 1));
                    }
                    match then {
                        Some(Then::Break) if n == frames => {
                            // The frames before it are on their way by then.
                            tokio::time::sleep(GAP).await;
                            Some((Err("it broke"), n + 1))
                        }
                        Some(Then::Silence) => std::future::pending().await,
                        _ => None,
                    }
                }
            });
            Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(body))
        };
        match what {
            "stream" => stream(FRAMES, None),
            "break" => stream(2, Some(Then::Break)),
            "silence" => stream(2, Some(Then::Silence)),
            "hang" => std::future::pending().await,
            "steps" => {
                let gate = self.gate.clone();
                let body = futures_util::stream::unfold(0, move |n| {
                    let gate = gate.clone();
                    async move {
                        if n == FRAMES {
                            return None;
                        }
                        gate.notified().await;
                        Some((Ok::<_, &str>(Bytes::from(frame(n))), n + 1))
                    }
                });
                Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(body))
            }
            "priced" => Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from(frame(0) + USAGE + &frame(FRAMES - 1))),
            "unmarked" => Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from(frame(0) + frame(FRAMES - 1).trim_end_matches("data: [DONE]\n\n"))),
            "large" => {
                let pieces = std::iter::repeat_n(Ok::<_, &str>(Bytes::from(vec![b'x'; 1 << 20])), 64);
                Response::builder().body(Body::from_stream(futures_util::stream::iter(pieces)))
            }
            "redirect" => Response::builder()
                .status(307)
                .header("location", self.other.lock().expect("other").clone())
                .body(Body::empty()),
            _ => Response::builder()
                .header("content-type", "application/json")
                .header("x-request-id", "r1")
                .header("set-cookie", "a=b")
                .body(Body::from(ANSWER)),
        }
        .expect("a response")
    }
}

#[derive(Clone, Copy)]
enum Then {
    Break,
    Silence,
}

/// The program, killed when the test is over.
struct Server {
    child: Child,
    origin: String,
    stderr: Arc<Mutex<String>>,
}

impl Server {
    fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thrifty"))
            .args(["serve", "--listen", "127.0.0.1:0", "--verbose"])
            .args(args)
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (mut first, stderr) = (String::new(), Arc::new(Mutex::new(String::new())));
        lines.read_line(&mut first).expect("a line");
        let told = stderr.clone();
        told.lock().expect("stderr").push_str(&first);
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                told.lock().expect("stderr").push_str(&std::mem::take(&mut line));
            }
        });
        let origin = first
            .strip_prefix("thrifty: listening on ")
            .and_then(|rest| rest.split(',').next())
            .unwrap_or_else(|| panic!("a start line, not {first}"))
            .to_owned();
        Self { child, origin, stderr }
    }

    /// What it has printed, once `line` is among it.
    async fn told(&self, line: &str) -> String {
        for _ in 0..500 {
            let told = self.stderr.lock().expect("stderr").clone();
            if told.contains(line) {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{line} is not among {}", self.stderr.lock().expect("stderr"))
    }

    fn with_config(dir: &Path, text: &str, env: &[(&str, &str)]) -> Self {
        let path = dir.join("serve.toml");
        std::fs::write(&path, text).expect("a file");
        Self::start(&["--config", path.to_str().expect("UTF-8")], env)
    }

    fn request(&self, path: &str, what: &str, body: &str) -> reqwest::RequestBuilder {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client")
            .post(format!("{}{path}", self.origin))
            .header("content-type", "application/json")
            .header("authorization", "Bearer client-1")
            .header("x-do", what)
            .body(body.to_owned())
    }

    async fn send(&self, path: &str, what: &str, body: &str) -> reqwest::Response {
        within(self.request(path, what, body).send()).await.expect("a response")
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    }

    async fn ended(&mut self) -> Option<i32> {
        for _ in 0..1_500 {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the server does not end")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it hangs")
}

fn chat(text: &str, more: &str) -> String {
    format!(
        r#"{{ "model":"gpt-4o", "messages":[{{"role":"user","content":"{text}"}}], "top_p":1.0e0{more} }}"#
    )
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// What came of a stream: its text, the time of each piece, and whether it broke.
async fn read(mut response: reqwest::Response) -> (String, Vec<Instant>, bool) {
    let (mut text, mut times) = (String::new(), Vec::new());
    loop {
        match within(response.chunk()).await {
            Ok(Some(piece)) => {
                times.push(Instant::now());
                text.push_str(&String::from_utf8_lossy(&piece));
            }
            Ok(None) => return (text, times, false),
            Err(_) => return (text, times, true),
        }
    }
}

async fn json(response: reqwest::Response) -> Value {
    let bytes = within(response.bytes()).await.expect("a body");
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_as_they_are_and_a_repeat_is_served_here() {
    let provider = Provider::default();
    let server = Server::start(&["--upstream", &provider.start().await], &[]);
    let body = chat("hi", "");
    for served in ["upstream", "memory", "memory"] {
        let response = server.send(CHAT, "document", &body).await;
        assert_eq!(header(&response, "thrifty-served"), Some(served));
        assert_eq!(header(&response, "thrifty-input-tokens"), Some("8"));
        // gpt-4o: $2.50 and $10 a million; 8 tokens in, 1 out.
        let (cost, saved) = if served == "upstream" { ("0.00003", "0") } else { ("0", "0.00003") };
        assert_eq!(
            (header(&response, "thrifty-cost-usd"), header(&response, "thrifty-saved-usd")),
            (Some(cost), Some(saved))
        );
        assert_eq!(header(&response, "set-cookie"), None, "cookies of a provider are not this host's");
        assert_eq!(within(response.bytes()).await.expect("a body"), ANSWER, "{served}");
    }
    assert_eq!(provider.calls(), 1);
    let (uri, headers, seen) = provider.seen.lock().expect("seen")[0].clone();
    assert_eq!((uri.as_str(), &seen[..]), (CHAT, body.as_bytes()), "the request passed as it was");
    assert_eq!(headers["authorization"], "Bearer client-1");

    let unknown = server.send("/v1/files?purpose=x", "document", "not json").await;
    assert_eq!(within(unknown.bytes()).await.expect("a body"), ANSWER, "what is not understood passes too");
    let (uri, _, seen) = provider.seen.lock().expect("seen")[1].clone();
    assert_eq!((uri.as_str(), &seen[..]), ("/v1/files?purpose=x", &b"not json"[..]));

    let stats = json(reqwest::get(format!("{}/thrifty/stats", server.origin)).await.expect("stats")).await;
    assert_eq!(
        (stats["totals"]["calls"].as_u64(), stats["totals"]["hits"]["memory"].as_u64()),
        (Some(4), Some(2))
    );
    let health = json(reqwest::get(format!("{}/thrifty/health", server.origin)).await.expect("health")).await;
    assert_eq!(health["status"], "ok");
    let told = server.told("POST /v1/files -> upstream 200").await;
    assert!(!told.contains("purpose") && !told.contains("client-1"), "no query, no key: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_both_formats_without_a_provider() {
    let server = Server::start(&["--upstream", "demo"], &[]);
    let answer = json(server.send(CHAT, "", &chat("hi", "")).await).await;
    assert_eq!(answer["object"], "chat.completion");
    let body = r#"{"model":"claude-haiku-4-5","max_tokens":20,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let (text, _, broke) = read(server.send("/v1/messages", "", body).await).await;
    assert!(!broke && text.contains("event: message_stop"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_arrive_one_by_one_as_they_are_sent() {
    let provider = Provider::default();
    let server = Server::start(&["--upstream", &provider.start().await], &[]);
    let (text, times, broke) =
        read(server.send(CHAT, "stream", &chat("count", r#","stream":true"#)).await).await;
    assert!(!broke);
    assert_eq!(text, (0..FRAMES).map(frame).collect::<String>());
    assert_eq!(times.len() as u64, FRAMES, "each frame is a piece of its own");
    let sent = provider.sent.lock().expect("sent").clone();
    let late = sent.iter().zip(&times).filter(|(sent, came)| came.duration_since(**sent) > GAP / 2).count();
    assert!(late <= 1, "{late} of {FRAMES} frames were more than half a gap late");

    let (again, ..) = read(server.send(CHAT, "stream", &chat("count", r#","stream":true"#)).await).await;
    assert_eq!((again, provider.calls()), (text, 1), "a whole stream is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_shape_of_the_format() {
    let dir = tempfile::tempdir().expect("a directory");
    let provider = Provider::default();
    let origin = provider.start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let server = Server::with_config(
        dir.path(),
        &format!(
            "[[upstream]]\nname = \"claude\"\norigin = \"{origin}\"\ndialects = [\"anthropic\"]\nmax_body_bytes = 200\n\
             answer_timeout = 1\n[[upstream]]\nname = \"gone\"\norigin = \"http://{closed}\"\nprefix = \"/gone\"\n"
        ),
        &[],
    );
    let large = server.send("/v1/messages", "", &chat(&"x".repeat(300), "")).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body = json(large).await;
    assert_eq!(
        (body["type"].as_str(), body["error"]["type"].as_str()),
        (Some("error"), Some("request_too_large"))
    );

    let nowhere = server.send(CHAT, "", &chat("hi", "")).await;
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
    assert!(
        json(nowhere).await["error"]["message"].as_str().is_some_and(|text| text.contains("no upstream"))
    );

    let gone = server.send(&format!("/gone{CHAT}"), "", &chat("hi", "")).await;
    assert_eq!(gone.status(), StatusCode::BAD_GATEWAY);
    let message = json(gone).await["error"]["message"].to_string();
    assert!(message.contains("`gone` could not be reached"), "{message}");

    let slow = server.send("/v1/messages", "hang", &chat("hi", "")).await;
    assert_eq!(slow.status(), StatusCode::BAD_GATEWAY);
    let body = json(slow).await;
    assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains("answer_timeout")), "{body}");
    assert_eq!(provider.calls(), 1, "what was refused was not sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_or_falls_silent_says_so_and_is_not_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let provider = Provider::default();
    let origin = provider.start().await;
    let text = format!("[[upstream]]\nname = \"up\"\norigin = \"{origin}\"\nidle_timeout = 1\n");
    let server = Server::with_config(dir.path(), &text, &[]);
    for (what, why) in [("break", "broke off in its middle"), ("silence", "fell silent")] {
        for _ in 0..2 {
            let body = chat(what, r#","stream":true"#);
            let (text, _, broke) = read(server.send(CHAT, what, &body).await).await;
            assert!(broke, "{what}: nobody may take it for whole");
            let rest = text.strip_prefix(&(frame(0) + &frame(1))).unwrap_or_else(|| panic!("{what}: {text}"));
            let event =
                rest.strip_prefix("data: ").unwrap_or_else(|| panic!("{what}: an event, not {rest:?}"));
            let event: Value = serde_json::from_str(event.trim()).expect("JSON");
            assert!(event["error"]["message"].as_str().is_some_and(|text| text.contains(why)), "{event}");
        }
    }
    assert_eq!(provider.calls(), 4, "none of them was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cannot_choose_where_it_goes() {
    let (provider, evil) = (Provider::default(), Provider::default());
    let (origin, elsewhere) = (provider.start().await, evil.start().await);
    let server = Server::start(&["--upstream", &origin], &[]);
    let host = elsewhere.strip_prefix("http://").expect("a host").to_owned();
    let body = chat("hi", &format!(r#","api_base":"{elsewhere}","base_url":"{elsewhere}""#));
    let address = server.origin.strip_prefix("http://").expect("an address").to_owned();
    for target in
        [format!("{elsewhere}{CHAT}"), format!("//{host}{CHAT}"), format!("/@{host}{CHAT}"), CHAT.to_owned()]
    {
        let raw = format!(
            "POST {target} HTTP/1.1\r\nhost: {host}\r\nx-forwarded-host: {host}\r\nforwarded: host={host}\r\n\
             authorization: Bearer k\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let address = address.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            stream.write_all(raw.as_bytes()).expect("it is sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        });
        assert!(answer.await.expect("an answer").starts_with("HTTP/1.1 "), "{target}");
    }
    *provider.other.lock().expect("other") = format!("{elsewhere}{CHAT}");
    let moved = server.send(CHAT, "redirect", &chat("follow", "")).await;
    assert_eq!(moved.status(), StatusCode::TEMPORARY_REDIRECT, "it is for the client to follow");
    assert_eq!(evil.calls(), 0, "nothing went where a request or an answer pointed");
    assert!(provider.calls() >= 4);
    for (_, headers, _) in provider.seen.lock().expect("seen").iter() {
        assert!(!headers.contains_key("x-forwarded-host") && !headers.contains_key("forwarded"));
        assert_ne!(headers["host"], host.as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_server_goes_to_its_own_upstream_only() {
    const SECRET: &str = "sk-of-the-server-12345";
    let dir = tempfile::tempdir().expect("a directory");
    let (mine, other) = (Provider::default(), Provider::default());
    let (a, b) = (mine.start().await, other.start().await);
    *mine.other.lock().expect("other") = format!("{b}{CHAT}");
    let text = format!(
        "[[upstream]]\nname = \"a\"\norigin = \"{a}\"\nprefix = \"/a\"\nkey_env = \"TEST_KEY\"\n\
         [[upstream]]\nname = \"b\"\norigin = \"{b}\"\n"
    );
    let server = Server::with_config(dir.path(), &text, &[("TEST_KEY", SECRET)]);
    let path = format!("/a{CHAT}");
    let mut shown = String::new();
    for what in ["document", "redirect", "break"] {
        let response = server.send(&path, what, &chat(what, "")).await;
        shown.push_str(&format!("{:?}", response.headers()));
        shown.push_str(&read(response).await.0);
    }
    let claude =
        server.request("/a/v1/messages?key=mine", "", &chat("claude", "")).header("x-api-key", "client-2");
    assert!(within(claude.send()).await.expect("a response").status().is_success());
    server.send(CHAT, "document", &chat("to b", "")).await;
    let stats = reqwest::get(format!("{}/thrifty/stats", server.origin)).await.expect("stats");
    shown.push_str(&stats.text().await.expect("text"));
    shown.push_str(&server.stderr.lock().expect("stderr"));
    assert!(!shown.contains(SECRET), "no client ever sees the key");

    let seen = mine.seen.lock().expect("seen").clone();
    for (uri, headers, _) in &seen {
        let anthropic = uri.contains("messages");
        let (name, want) = if anthropic {
            ("x-api-key", SECRET.to_owned())
        } else {
            ("authorization", format!("Bearer {SECRET}"))
        };
        assert_eq!(headers[name], want.as_str(), "{uri}");
        let all = format!("{uri}{headers:?}");
        assert!(!all.contains("client-") && !all.contains("key=mine"), "no client's key goes there: {all}");
    }
    let seen = other.seen.lock().expect("seen").clone();
    assert_eq!(seen.len(), 1, "only its own call came to b");
    assert_eq!(seen[0].1["authorization"], "Bearer client-1");
    assert!(!format!("{seen:?}").contains(SECRET));

    // The client's own credential still tells whose answers are whose.
    let before = mine.calls();
    let body = chat("document", "");
    let again = server.send(&path, "document", &body).await;
    assert_eq!(header(&again, "thrifty-served"), Some("memory"));
    let stranger = server.request(&path, "document", &body).header("api-key", "another").send().await;
    assert_eq!(header(&stranger.expect("a response"), "thrifty-served"), Some("upstream"));
    assert_eq!(mine.calls(), before + 1);
    let page = server.request(&path, "document", &body).header("origin", "https://evil.example").send().await;
    assert_eq!(page.expect("a response").status(), StatusCode::FORBIDDEN, "a web page may not spend the key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_lets_a_stream_end_and_the_next_start_serves_from_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("answers.redb");
    let provider = Provider::default();
    let origin = provider.start().await;
    let args = ["--upstream", &origin, "--cache", file.to_str().expect("UTF-8")];
    let mut server = Server::start(&args, &[]);
    assert_eq!(header(&server.send(CHAT, "", &chat("kept", "")).await, "thrifty-served"), Some("upstream"));
    let mut response = server.send(CHAT, "stream", &chat("long", r#","stream":true"#)).await;
    let first = within(response.chunk()).await.expect("a piece").expect("a piece");
    server.terminate();
    let (rest, _, broke) = read(response).await;
    assert!(!broke, "the stream ended as it should");
    let whole: String = (0..FRAMES).map(frame).collect();
    assert_eq!(String::from_utf8_lossy(&first).into_owned() + &rest, whole);
    assert_eq!(server.ended().await, Some(0));

    let server = Server::start(&args, &[]);
    let response = server.send(CHAT, "", &chat("kept", "")).await;
    assert_eq!(header(&response, "thrifty-served"), Some("disk"));
    assert_eq!(within(response.bytes()).await.expect("a body"), ANSWER);
    let (text, ..) = read(server.send(CHAT, "stream", &chat("long", r#","stream":true"#)).await).await;
    assert_eq!((text, provider.calls()), (whole, 2), "the stream that ended during the stop was kept too");
}

#[test]
fn bad_settings_are_one_line_with_the_way_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("serve.toml");
    for (text, want) in [
        ("[cache]\nsize = 1\n", "line 2: unknown key `size`; known here: "),
        ("listen = \"0.0.0.0:0\"\n[[upstream]]\nname = \"a\"\norigin = \"demo\"\n", "beyond_loopback"),
        ("[[upstream]]\nname = \"a\"\norigin = \"demo\"\nkey_env = \"THRIFTY_TEST_UNSET\"\n", "is not set"),
        ("", "no upstream"),
    ] {
        std::fs::write(&path, text).expect("a file");
        let output = Command::new(env!("CARGO_BIN_EXE_thrifty"))
            .args(["serve", "--config", path.to_str().expect("UTF-8")])
            .output()
            .expect("the tool runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.lines().count() == 1 && told.contains(want) && told.contains("; "), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_without_an_end_marker_and_ids_are_handled_as_the_settings_say() {
    let provider = Provider::default();
    let origin = provider.start().await;
    for (settings, stored) in [("", false), ("stream_end = \"finish-reason\"\n", true)] {
        let dir = tempfile::tempdir().expect("a directory");
        let config = format!(
            "[cache]\nreplay_identity = \"original\"\nleave_out = [\"/trace\"]\n[[upstream]]\nname = \"u\"\norigin = \"{origin}\"\n{settings}"
        );
        let server = Server::with_config(dir.path(), &config, &[]);
        let before = provider.calls();
        for trace in ["1", "2"] {
            let body = format!(r#"{{"model":"gpt-4o","messages":[],"stream":true,"trace":"{trace}"}}"#);
            let reply = server.send(CHAT, "unmarked", &body).await;
            assert!(within(reply.text()).await.expect("a body").contains("w0"), "{settings}");
        }
        let calls = if stored { 1 } else { 2 };
        assert_eq!(provider.calls() - before, calls, "{settings}");
        let stats =
            json(reqwest::get(format!("{}/thrifty/stats", server.origin)).await.expect("stats")).await;
        let why = &stats["cache"]["not_stored_by"];
        assert_eq!(why["partial"].as_u64(), (!stored).then_some(2), "{stats}");
        assert_eq!(stats["cache"]["misses_by"]["absent"].as_u64(), Some(calls), "{stats}");
    }
}
