//! One behavioural suite through every edge: what works through one client works through all.
#![cfg(all(
    feature = "test-util",
    feature = "reqwest",
    feature = "reqwest-middleware",
    feature = "async-openai-0-43"
))]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use support::{ByAsyncOpenAi, ByMiddleware, ByProxy, ByReqwest, Edge, Server, TestLayer};
use thrifty::call::{Call, Dialect, Reply};
use thrifty::edge::async_openai::HttpService;
use thrifty::edge::reqwest::{Client, Exit};
use thrifty::edge::reqwest_middleware::Bridge;
use thrifty::edge::{AnsweringErrors, FromHttp, Refused, Retry, RetryLayer, ToHttp, Typed, Untyped};
use thrifty::receipt::ReceiptHandle;
use thrifty::stack::Stack;
use thrifty::testing::{Scripted, Upstream};
use thrifty::{BoxError, Error};
use tower::{Layer, ServiceExt, service_fn};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str =
    r#"{ "model":"gpt-5-mini", "messages":[{"role":"user","content":"Name a prime."}], "top_p":1.0e0 }"#;

fn request(edge: &impl Edge, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Request {
    reqwest::Client::new()
        .post(format!("{}{path}", edge.origin()))
        .header("content-type", "application/json")
        .header("authorization", "Bearer k")
        .body(body)
        .build()
        .expect("a request")
}

async fn within<T>(seconds: u64, what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), what).await.expect("it hangs")
}

async fn an_edit_made_inside_arrives_upstream<E: Edge>() {
    let upstream = Upstream::new();
    let server = Server::upstream(&upstream).await;
    let edge = E::around(TestLayer::new().edit("seed", "7"), &server).await;
    let response = edge.send(request(&edge, CHAT, BODY)).await.expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    let seen = upstream.last().expect("a call arrived").call;
    let want = BODY.replace("1.0e0 }", "1.0e0,\"seed\":7 }");
    assert_eq!(seen.doc.bytes(), want.as_bytes(), "and nothing but the edit changed");
}

async fn headers_arrive_and_wishes_do_not<E: Edge>() {
    let upstream = Upstream::new();
    let server = Server::upstream(&upstream).await;
    let edge = E::around(TestLayer::new(), &server).await;
    let mut sent = request(&edge, CHAT, BODY);
    sent.headers_mut().insert("x-mine", "1".parse().expect("a value"));
    sent.headers_mut().insert("thrifty-tag", "t".parse().expect("a value"));
    let response = edge.send(sent).await.expect("a response");
    assert!(response.headers().contains_key("x-request-id"), "headers come back");
    let headers = upstream.last().expect("a call arrived").call.parts.headers;
    assert_eq!(headers.get("x-mine").map(|v| v.as_bytes()), Some(&b"1"[..]));
    assert_eq!(headers.get("authorization").map(|v| v.as_bytes()), Some(&b"Bearer k"[..]));
    assert!(!headers.contains_key("thrifty-tag"));
}

async fn a_remembered_answer_needs_no_provider<E: Edge>() {
    let upstream = Upstream::new();
    let server = Server::upstream(&upstream).await;
    let edge = E::around(TestLayer::new().memo(), &server).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let response = edge.send(request(&edge, CHAT, BODY)).await.expect("a response");
        bodies.push(response.bytes().await.expect("a body"));
    }
    assert_eq!(upstream.calls(), 1, "three equal calls are one upstream call");
    assert!(bodies[0].len() > 100 && bodies[1] == bodies[0] && bodies[2] == bodies[0]);
}

async fn a_stream_is_passed_on_as_it_comes<E: Edge>() {
    let upstream = Upstream::new().frame_gap(Duration::from_millis(15));
    let server = Server::upstream(&upstream).await;
    let edge = E::around(TestLayer::new(), &server).await;
    let body = BODY.replace("\"top_p\"", "\"stream\":true, \"top_p\"");
    let started = Instant::now();
    let mut response = edge.send(request(&edge, CHAT, body)).await.expect("a response");
    let first = response.chunk().await.expect("a frame").expect("a frame");
    let to_first = started.elapsed();
    let (mut frames, mut all) = (1, first.to_vec());
    while let Some(frame) = response.chunk().await.expect("a frame") {
        frames += 1;
        all.extend_from_slice(&frame);
    }
    let to_last = started.elapsed();
    assert!(all.ends_with(b"data: [DONE]\n\n"), "the whole stream arrives");
    assert!(frames > 5, "frame by frame: {frames}");
    assert!(to_first < to_last / 2, "the first frame came after {to_first:?}, the last after {to_last:?}");
}

async fn an_error_of_ours_is_found<E: Edge>() {
    let upstream = Upstream::new();
    let server = Server::upstream(&upstream).await;
    let edge = E::around(TestLayer::new().refuse(), &server).await;
    match edge.send(request(&edge, CHAT, BODY)).await {
        Err(error) => {
            assert!(!E::ANSWERS_ERRORS);
            assert!(Error::find(&*error).is_some_and(Error::is_over_budget), "{error:?}");
        }
        Ok(response) => {
            assert!(E::ANSWERS_ERRORS);
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            let body = response.text().await.expect("a body");
            assert!(body.contains("invalid_request_error") && body.contains("9120"), "{body}");
        }
    }
    assert_eq!(upstream.calls(), 0, "nothing was sent");
}

async fn what_is_not_json_passes_untouched<E: Edge>() {
    let odd = &b"\x00\xff{not json"[..];
    let answer = Scripted::body(StatusCode::OK, odd).header("content-type", "audio/mpeg");
    let upstream = Upstream::new().first(1, answer);
    let server = Server::upstream(&upstream).await;
    let edge = E::around(TestLayer::new().edit("seed", "7"), &server).await;
    let response = edge.send(request(&edge, "/v1/audio/speech", odd)).await.expect("a response");
    assert_eq!(response.bytes().await.expect("a body"), odd);
    assert_eq!(upstream.last().expect("a call arrived").call.doc.bytes(), odd);
}

async fn an_upstream_error_comes_as_the_provider_sent_it<E: Edge>() {
    let upstream = Upstream::new().first(9, Scripted::out_of_quota());
    let server = Server::upstream(&upstream).await;
    let edge = E::around(TestLayer::new(), &server).await;
    let response = edge.send(request(&edge, CHAT, BODY)).await.expect("a response");
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.text().await.expect("a body").contains("insufficient_quota"));
    assert_eq!(upstream.calls(), 1, "an empty account is not asked again");
}

async fn one_permit_is_enough<E: Edge>() {
    let upstream = Upstream::new().latency(Duration::from_millis(5));
    let server = Server::upstream(&upstream).await;
    let edge = E::around(TestLayer::new().limit(1), &server).await;
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let edge = edge.clone();
            tokio::spawn(async move { edge.send(request(&edge, CHAT, BODY)).await.map(|r| r.status()) })
        })
        .collect();
    for call in calls {
        let status = within(5, call).await.expect("no panic").expect("a response");
        assert_eq!(status, StatusCode::OK);
    }
    assert_eq!(upstream.calls(), 4);
}

async fn extensions_and_url_survive<E: Edge>() {
    let server = Server::upstream(&Upstream::new()).await;
    let edge = E::around(TestLayer::new(), &server).await;
    let response = edge.send(request(&edge, CHAT, BODY)).await.expect("a response");
    assert_eq!(response.url().as_str(), format!("{}{CHAT}", edge.origin()));
    let found = response.extensions().get::<ReceiptHandle>().is_some();
    assert_eq!(found, !E::ANSWERS_ERRORS, "what a layer left is there, unless HTTP lies between");
}

/// A thousand equal calls at once through the default stack: one reaches the provider, and all get its bytes.
async fn a_thousand_equal_calls_are_one<E: Edge>() {
    let upstream = Upstream::new().latency(Duration::from_millis(50));
    let server = Server::upstream(&upstream).await;
    let edge = E::around(Stack::builder().build().expect("a stack"), &server).await;
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let edge = edge.clone();
            tokio::spawn(async move {
                let response = edge.send(request(&edge, CHAT, BODY)).await.expect("a response");
                assert_eq!(response.status(), StatusCode::OK);
                response.bytes().await.expect("a body")
            })
        })
        .collect();
    let mut bodies = Vec::new();
    for call in calls {
        bodies.push(within(30, call).await.expect("no panic"));
    }
    assert_eq!(upstream.calls(), 1, "a thousand equal calls were not one");
    // Those who came when the answer was stored already have an id and a time of their own.
    let plain = |body: &Bytes| {
        let mut plain = body.to_vec();
        for place in Dialect::OpenAiChat.format().identity(body, false).places().iter().rev() {
            plain.splice(place.span(), []);
        }
        plain
    };
    let first = plain(&bodies[0]);
    assert!(first.len() > 100 && bodies.iter().all(|body| plain(body) == first), "answers differ");
}

macro_rules! suite {
    ($($name:ident: $edge:ty),* $(,)?) => {$(
        mod $name {
            use super::*;
            suite!(@ $edge:
                an_edit_made_inside_arrives_upstream,
                headers_arrive_and_wishes_do_not,
                a_remembered_answer_needs_no_provider,
                a_stream_is_passed_on_as_it_comes,
                an_error_of_ours_is_found,
                what_is_not_json_passes_untouched,
                an_upstream_error_comes_as_the_provider_sent_it,
                one_permit_is_enough,
                extensions_and_url_survive,
                a_thousand_equal_calls_are_one,
            );
        }
    )*};
    (@ $edge:ty: $($test:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            super::$test::<$edge>().await;
        }
    )*};
}

suite! {
    through_reqwest: ByReqwest,
    through_reqwest_middleware: ByMiddleware,
    through_async_openai: ByAsyncOpenAi,
    through_an_axum_proxy: ByProxy,
}

mod typed {
    use super::*;
    use serde_json::Value;

    /// A typed client of somebody else: takes and gives its own types.
    fn sdk(
        origin: String,
    ) -> impl tower::Service<Value, Response = Value, Error = reqwest::Error, Future: Send> + Clone {
        let client = reqwest::Client::new();
        service_fn(move |ask: Value| {
            let sent = client.post(format!("{origin}{CHAT}")).json(&ask).send();
            async move { sent.await?.error_for_status()?.json().await }
        })
    }

    fn chat<S>(inner: S) -> Typed<S, Value> {
        Typed::new(
            Dialect::OpenAiChat,
            "https://api.openai.com/v1/chat/completions".parse().expect("a URI"),
            inner,
        )
    }

    #[tokio::test]
    async fn a_typed_client_gets_edits_and_remembered_answers() {
        let upstream = Upstream::new();
        let server = Server::upstream(&upstream).await;
        let layer = TestLayer::new().edit("seed", "7").memo();
        let chat = chat(layer.layer(Untyped::<_, Value>::new(sdk(server.origin))));
        let ask: Value = serde_json::from_str(BODY).expect("JSON");
        for _ in 0..3 {
            let said = within(5, chat.clone().oneshot(ask.clone())).await.expect("an answer");
            assert!(said["choices"][0]["message"]["content"].as_str().is_some_and(|text| text.len() > 100));
        }
        assert_eq!(upstream.calls(), 1);
        assert_eq!(upstream.last().expect("a call").call.doc.u64("seed"), Some(7));
    }

    #[tokio::test]
    async fn a_typed_client_finds_our_error_and_its_own() {
        let upstream =
            Upstream::new().first(1, Scripted::error(StatusCode::FORBIDDEN, "permission_error", "no"));
        let server = Server::upstream(&upstream).await;
        let ask: Value = serde_json::from_str(BODY).expect("JSON");
        let refusing =
            chat(TestLayer::new().refuse().layer(Untyped::<_, Value>::new(sdk(server.origin.clone()))));
        let error = refusing.oneshot(ask.clone()).await.expect_err("it is refused");
        assert!(Error::find(&*error).is_some_and(Error::is_over_budget));
        let plain = chat(TestLayer::new().layer(Untyped::<_, Value>::new(sdk(server.origin.clone()))));
        let error = plain.oneshot(ask.clone()).await.expect_err("the provider said no");
        let own = error.downcast_ref::<reqwest::Error>().expect("the client's own error");
        assert_eq!(own.status(), Some(StatusCode::FORBIDDEN));
        assert!(Refused::find(&*error).is_none());
    }
}

mod the_real_async_openai_client {
    use super::*;
    use async_openai::config::OpenAIConfig;
    use async_openai::error::OpenAIError;
    use async_openai::types::chat::CreateChatCompletionRequest;
    use futures_util::StreamExt;

    fn ask(extra: &str) -> CreateChatCompletionRequest {
        serde_json::from_str(&BODY.replace("\"top_p\":1.0e0", &format!("\"top_p\":1{extra}")))
            .expect("a request")
    }

    async fn client(upstream: &Upstream, layer: TestLayer) -> async_openai::Client<OpenAIConfig> {
        let server = Server::upstream(upstream).await;
        let config = OpenAIConfig::new().with_api_base(format!("{}/v1", server.origin)).with_api_key("k");
        async_openai::Client::with_config(config)
            .with_http_service(HttpService::new(&layer, reqwest::Client::new()))
    }

    #[tokio::test]
    async fn recovers_from_a_rate_limit_below_the_stack() {
        let upstream = Upstream::new().first(1, Scripted::rate_limited());
        let client = client(&upstream, TestLayer::new().memo()).await;
        for _ in 0..2 {
            let said = within(5, client.chat().create(ask(""))).await.expect("it recovers");
            assert!(said.choices[0].message.content.is_some());
        }
        assert_eq!(upstream.calls(), 2, "one refused, one good, one remembered");
    }

    #[tokio::test]
    async fn streams() {
        let upstream = Upstream::new().frame_gap(Duration::from_millis(5));
        let client = client(&upstream, TestLayer::new()).await;
        let mut stream = client.chat().create_stream(ask(",\"stream\":true")).await.expect("a stream");
        let mut text = String::new();
        while let Some(chunk) = within(5, stream.next()).await {
            let chunk = chunk.expect("a chunk");
            text.extend(chunk.choices.iter().filter_map(|choice| choice.delta.content.as_deref()));
        }
        assert!(text.len() > 100, "{text}");
    }

    #[tokio::test]
    async fn finds_our_error_both_ways() {
        let client = client(&Upstream::new(), TestLayer::new().refuse()).await;
        let error = client.chat().create(ask("")).await.expect_err("it is refused");
        assert!(Error::find(&error).is_some_and(Error::is_over_budget));
        let OpenAIError::Boxed(boxed) = error else { panic!("another variant: {error:?}") };
        assert!(boxed.downcast_ref::<Error>().is_some_and(Error::is_over_budget));
    }

    #[tokio::test]
    async fn sees_an_api_error_as_such() {
        let upstream = Upstream::new().first(9, Scripted::out_of_quota());
        let client = client(&upstream, TestLayer::new()).await;
        let error = client.chat().create(ask("")).await.expect_err("the account is empty");
        assert!(matches!(error, OpenAIError::ApiError(ref api) if api.status_code == 429), "{error:?}");
        assert_eq!(upstream.calls(), 1);
    }
}

mod the_bridge {
    use super::*;

    async fn client<L>(upstream: &Upstream, layer: L) -> (reqwest_middleware::ClientWithMiddleware, String)
    where
        Bridge<L>: reqwest_middleware::Middleware,
    {
        let server = Server::upstream(upstream).await;
        let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new()).with(Bridge::new(layer));
        (client.build(), format!("{}{CHAT}", server.origin))
    }

    #[tokio::test]
    async fn sends_again_for_a_layer_that_retries() {
        let upstream = Upstream::new().first(1, Scripted::rate_limited());
        let (client, url) = client(&upstream, RetryLayer::new()).await;
        let response = within(5, client.post(url).body(BODY).send()).await.expect("a response");
        assert_eq!((response.status(), upstream.calls()), (StatusCode::OK, 2));
    }

    #[tokio::test]
    async fn lets_a_timeout_inside_fire_while_the_chain_is_busy() {
        let upstream = Upstream::new().latency(Duration::from_secs(30));
        let timeout = tower::timeout::TimeoutLayer::new(Duration::from_millis(100));
        let (client, url) = client(&upstream, timeout).await;
        let error = within(5, client.post(url).body(BODY).send()).await.expect_err("it takes too long");
        let cause = std::error::Error::source(&error).expect("a cause");
        assert!(cause.is::<tower::timeout::error::Elapsed>(), "the layer's own error is found: {error:?}");
    }

    #[tokio::test]
    async fn gives_the_first_attempt_up_for_the_next() {
        // A layer that tries again after a timeout of its own.
        let hasty = tower::layer::layer_fn(|port: thrifty::edge::reqwest_middleware::Port| {
            service_fn(move |call: Call| {
                let port = port.clone();
                async move {
                    for _ in 0..2 {
                        let sent = port.clone().oneshot(call.clone());
                        if let Ok(done) = tokio::time::timeout(Duration::from_secs(2), sent).await {
                            return done;
                        }
                    }
                    Err::<Reply, BoxError>("twice too slow".into())
                }
            })
        });
        let upstream = Upstream::new();
        let slow_once = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let inner = upstream.clone();
        let server = Server::of(
            FromHttp::new(service_fn(move |call: Call| {
                let (inner, slow) =
                    (inner.clone(), slow_once.swap(false, std::sync::atomic::Ordering::SeqCst));
                async move {
                    if slow {
                        tokio::time::sleep(Duration::from_secs(30)).await;
                    }
                    inner.oneshot(call).await
                }
            }))
            .answering_errors(),
        )
        .await;
        let client =
            reqwest_middleware::ClientBuilder::new(reqwest::Client::new()).with(Bridge::new(hasty)).build();
        let sent = client.post(format!("{}{CHAT}", server.origin)).body(BODY).send();
        assert_eq!(within(5, sent).await.expect("the second attempt answers").status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn keeps_the_clients_own_error_in_its_own_variant() {
        let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
            .with(Bridge::new(TestLayer::new()))
            .build();
        let error = client.post("http://127.0.0.1:1/v1/x?key=secret").body("{}").send().await;
        let error = error.expect_err("nobody listens there");
        assert!(error.is_connect(), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("secret"));
    }
}

#[tokio::test]
async fn a_client_of_another_http_version_is_served() {
    let upstream = Upstream::new();
    let server = Server::upstream(&upstream).await;
    for version in [http::Version::HTTP_2, http::Version::HTTP_10] {
        let request = http::Request::post(format!("{}{CHAT}", server.origin))
            .version(version)
            .header("expect", "100-continue")
            .body(http_body_util::Full::<bytes::Bytes>::from(BODY))
            .expect("a request");
        let sent = FromHttp::new(Exit::new(reqwest::Client::new())).oneshot(request);
        let reply = within(5, sent).await.expect("the upstream speaks HTTP/1.1");
        assert_eq!(reply.status(), StatusCode::OK, "{version:?}");
    }
}

#[test]
fn an_exit_shows_no_password() {
    let origin = "https://ann:hush@gw.example/base".parse().expect("a URI");
    let exit = Exit::new(reqwest::Client::new()).with_origin(origin).expect("an origin");
    assert_eq!(format!("{exit:?}"), r#"Exit { origin: Some("https://gw.example/base"), .. }"#);
}

#[test]
fn edges_are_as_capable_as_the_clients_ask() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    type Inner = Retry<Exit>;
    check::<Exit>();
    check::<Client<Inner>>();
    check::<HttpService<Inner>>();
    check::<Bridge<RetryLayer>>();
    check::<FromHttp<Inner>>();
    check::<AnsweringErrors<Inner>>();
    check::<ToHttp<reqwest::Client>>();
    check::<Typed<Inner, ()>>();
    check::<Untyped<Inner, ()>>();
}
