//! What does not go on for ever, what is bounded, and what the settings change.

use std::net::Shutdown;

use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::*;

const MANY: Duration = Duration::from_secs(15);

fn one_upstream(origin: &str, more: &str) -> String {
    format!("{more}\n[[upstream]]\nname = \"up\"\norigin = \"{origin}\"\n")
}

/// Sends bytes on a connection of their own and reads until the server closes it.
async fn raw(server: &Server, bytes: Vec<u8>) -> String {
    let address = server.origin.strip_prefix("http://").expect("an address").to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(MANY)).expect("a timeout");
        stream.write_all(&bytes).expect("it is sent");
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it hangs: {bytes:?}"),
            _ => String::from_utf8_lossy(&answer).into_owned(),
        }
    });
    answer.await.expect("an answer")
}

fn post(what: &str, more: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer client-1\r\nx-do: {what}\r\n{more}connection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_without_a_handshake_of_tls_is_served_too() {
    let provider = Provider::default();
    let server = Server::start(&["--upstream", &provider.start().await], &[]);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for (what, served, want) in [
        ("document", "upstream", ANSWER.to_owned()),
        ("document", "memory", ANSWER.to_owned()),
        ("stream", "upstream", (0..FRAMES).map(frame).collect()),
    ] {
        let body = chat(what, if what == "stream" { r#","stream":true"# } else { "" });
        let request = Request::post(format!("{}{CHAT}", server.origin))
            .header("authorization", "Bearer client-1")
            .header("x-do", what)
            .body(Full::from(body))
            .expect("a request");
        let response = within(client.request(request)).await.expect("a response");
        assert_eq!(response.version(), axum::http::Version::HTTP_2);
        assert_eq!(response.headers()["thrifty-served"], served);
        let body = within(response.into_body().collect()).await.expect("a body").to_bytes();
        assert_eq!(body, want);
    }
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_or_half_of_it_is_let_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let provider = Provider::default();
    let text = one_upstream(&provider.start().await, "head_timeout = 1\nbody_timeout = 1");
    let server = Server::with_config(dir.path(), &text, &[]);
    let half = "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 100\r\n\r\n{\"model\":";
    let (nothing, letter, head, preface, body) = tokio::join!(
        raw(&server, Vec::new()),
        raw(&server, b"P".to_vec()),
        raw(&server, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: 1".to_vec()),
        raw(&server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        raw(&server, half.into()),
    );
    for answer in [nothing, letter, head, preface] {
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert!(body.starts_with("HTTP/1.1 400 ") && body.contains("stopped coming"), "{body}");
    assert_eq!(provider.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_waits_and_an_answer_nobody_reads_gives_its_place_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let provider = Provider::default();
    let text = one_upstream(&provider.start().await, "max_connections = 1\nbody_timeout = 2");
    let server = Server::with_config(dir.path(), &text, &[]);
    let address = server.origin.strip_prefix("http://").expect("an address");
    let mut first = TcpStream::connect(address).expect("a connection");
    first.write_all(&post("large", "", &chat("a lot", ""))).expect("it is sent");
    let body = chat("hi", "");
    let mut second = Box::pin(server.send(CHAT, "document", &body));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut second).await;
    assert!(early.is_err(), "there is no place yet");
    assert_eq!(second.await.status(), StatusCode::OK, "the other one was let go");
    let _ = first.shutdown(Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_goes_on_too_long_after_a_signal_is_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let provider = Provider::default();
    let text = one_upstream(&provider.start().await, "stop_timeout = 1");
    let mut server = Server::with_config(dir.path(), &text, &[]);
    let mut response = server.send(CHAT, "silence", &chat("long", r#","stream":true"#)).await;
    within(response.chunk()).await.expect("a piece").expect("a piece");
    server.terminate();
    assert_eq!(server.ended().await, Some(0));
    assert!(read(response).await.2, "nobody may take it for whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn budget_tier_and_trim_do_what_the_settings_say() {
    let dir = tempfile::tempdir().expect("a directory");
    let provider = Provider::default();
    let origin = provider.start().await;
    let text = one_upstream(&origin, "[budget]\nusd_per_day = \"0.0001\"");
    let server = Server::with_config(dir.path(), &text, &[]);
    let refused = server.send(CHAT, "document", &chat("hi", "")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "x-should-retry"), None, "calls in flight may give back what they reserved");
    assert_eq!(json(refused).await["error"]["type"], "insufficient_quota");
    assert_eq!(provider.calls(), 0, "what does not fit is not sent");
    let stats = json(reqwest::get(format!("{}/thrifty/stats", server.origin)).await.expect("stats")).await;
    assert_eq!(stats["budget"]["refused"], 1);

    let rules =
        "[trim]\nbudget = 9000\n[[tier]]\nasked = \"gpt-4o\"\ntokens_below = 1000\nmodel = \"gpt-4o-mini\"";
    let server = Server::with_config(dir.path(), &one_upstream(&origin, rules), &[]);
    let small = server.send(CHAT, "priced", &chat("hi", r#","stream":true"#)).await;
    assert!(header(&small, "thrifty-input-tokens").is_some(), "what was counted is told before the stream");
    read(small).await;
    server.send(CHAT, "document", &chat(&"much ".repeat(2_000), "")).await;
    let models: Vec<String> = provider
        .seen
        .lock()
        .expect("seen")
        .iter()
        .map(|(_, _, body)| {
            let body: Value = serde_json::from_slice(body).expect("JSON");
            body["model"].as_str().expect("a model").to_owned()
        })
        .collect();
    assert_eq!(models, ["gpt-4o-mini", "gpt-4o"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_its_cost_after_it_to_whoever_reads_trailers() {
    let provider = Provider::default();
    let server = Server::start(&["--upstream", &provider.start().await], &[]);
    let body = chat("hi", r#","stream":true"#);
    let told = raw(&server, post("priced", "te: trailers\r\n", &body)).await;
    assert!(told.contains("trailer: thrifty-cost-usd\r\n"), "{told}");
    assert!(told.ends_with("\r\n0\r\nthrifty-cost-usd: 0.00003\r\n\r\n"), "{told}");
    // Of a stored stream everything is known before it begins.
    let again = raw(&server, post("priced", "te: trailers\r\n", &body)).await;
    let head = again.split("\r\n\r\n").next().expect("a head");
    for line in [
        "thrifty-cost-usd: 0",
        "thrifty-saved-usd: 0.00003",
        "thrifty-input-tokens: 8",
        "thrifty-served: memory",
    ] {
        assert!(head.lines().any(|have| have == line), "{line} is not in {head}");
    }
    let other = raw(&server, post("priced", "", &chat("another", r#","stream":true"#))).await;
    assert!(other.ends_with("\r\n0\r\n\r\n") && !other.contains("cost-usd"), "nobody asked for it: {other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_format_gets_errors_of_its_own_shape() {
    let dir = tempfile::tempdir().expect("a directory");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let text = format!("[[upstream]]\nname = \"gone\"\norigin = \"http://{closed}\"\nprefix = \"/gone\"\n");
    let server = Server::with_config(dir.path(), &text, &[]);
    let gemini = "/v1beta/models/gemini-2.5-flash:generateContent";
    for (path, pointer, not_found, gone) in [
        (CHAT, "/error/type", "invalid_request_error", "server_error"),
        ("/v1/responses", "/error/type", "invalid_request_error", "server_error"),
        ("/v1/messages", "/error/type", "not_found_error", "api_error"),
        (gemini, "/error/status", "NOT_FOUND", "UNAVAILABLE"),
        ("/v1beta/models/e:embedContent", "/error/status", "NOT_FOUND", "UNAVAILABLE"),
        ("/api/chat", "/error", "no upstream serves this path", "`gone` could not be reached"),
    ] {
        for (path, status, want) in [
            (path.to_owned(), StatusCode::NOT_FOUND, not_found),
            (format!("/gone{path}"), StatusCode::BAD_GATEWAY, gone),
        ] {
            let response = server.send(&path, "", &chat("hi", "")).await;
            assert_eq!(response.status(), status, "{path}");
            let body = json(response).await;
            let told = body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            assert!(told.contains(want), "{path}: {body}");
        }
    }
}

/// Reads a stream whose next frame is sent only when the one before has come: how many came late.
async fn step_by_step(provider: &Provider, request: reqwest::RequestBuilder) -> usize {
    let mut response = within(request.send()).await.expect("a response");
    let mut late = 0;
    for n in 0..FRAMES {
        let sent = Instant::now();
        provider.gate.notify_one();
        let piece = within(response.chunk()).await.expect("a piece").expect("a piece");
        assert_eq!(piece, frame(n), "frame {n} came alone, before the next one was sent");
        late += usize::from(sent.elapsed() > Duration::from_millis(35));
    }
    assert!(within(response.chunk()).await.expect("an end").is_none());
    late
}

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_has_arrived_before_the_next_is_sent() {
    let provider = Provider::default();
    let origin = provider.start().await;
    let server = Server::start(&["--upstream", &origin], &[]);
    let body = chat("steps", r#","stream":true"#);
    let bare =
        reqwest::Client::new().post(format!("{origin}{CHAT}")).header("x-do", "steps").body(body.clone());
    let floor = step_by_step(&provider, bare).await;
    let late = step_by_step(&provider, server.request(CHAT, "steps", &body)).await;
    // Without TCP_NODELAY nearly every frame would wait for some 40 ms.
    assert!(late <= floor + 3, "{late} of {FRAMES} frames came late, {floor} without the proxy");
}

#[test]
fn a_file_that_is_no_cache_file_is_not_taken_for_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "dear diary").expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_thrifty"))
        .args(["serve", "--upstream", "demo", "--cache", path.to_str().expect("UTF-8")])
        .output()
        .expect("the tool runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.lines().count() == 1 && told.contains("is no cache file"), "{told}");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "dear diary");
}
