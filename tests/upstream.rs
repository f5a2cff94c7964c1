#![cfg(feature = "test-util")]
//! What the embedded upstream sends is what the readers of the formats expect, in every dialect.
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use thrifty::call::{Call, Dialect, Reply};
use thrifty::dialect::{Finish, Outcome, Usage};
use thrifty::testing::{Scripted, Upstream};

const GEMINI: &str = "http://fake/v1beta/models/gemini-2.5-flash:";

/// A question to each API that generates, asked for as a document or as a stream.
fn asks(question: &str, stream: bool) -> Vec<Call> {
    let tools = |inner: &str| format!(r#""tools":[{inner}]"#);
    let schema = r#"{"type":"object","properties":{"q":{"type":"string"}}}"#;
    let function = format!(r#"{{"name":"find","parameters":{schema}}}"#);
    let wrapped = tools(&format!(r#"{{"type":"function","function":{function}}}"#));
    let message = format!(r#"[{{"role":"user","content":"{question}"}}]"#);
    let gemini = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    vec![
        Call::post(
            "http://fake/v1/chat/completions",
            format!(
                r#"{{"model":"gpt-5-mini","max_completion_tokens":900,"messages":{message},{wrapped},"stream":{stream},"stream_options":{{"include_usage":true}}}}"#
            ),
        ),
        Call::post(
            "http://fake/v1/messages",
            format!(
                r#"{{"model":"claude-haiku-4-5","max_tokens":4000,"messages":{message},"thinking":{{"type":"enabled","budget_tokens":1024}},{},"stream":{stream}}}"#,
                tools(&format!(r#"{{"name":"find","input_schema":{schema}}}"#))
            ),
        ),
        Call::post(
            "http://fake/v1/responses",
            format!(
                r#"{{"model":"gpt-5-mini","input":"{question}","max_output_tokens":900,"reasoning":{{"summary":"auto"}},{},"stream":{stream}}}"#,
                tools(&format!(r#"{{"type":"function","name":"find","parameters":{schema}}}"#))
            ),
        ),
        Call::post(
            &format!("{GEMINI}{gemini}"),
            format!(
                r#"{{"contents":[{{"role":"user","parts":[{{"text":"{question}"}}]}}],"generationConfig":{{"maxOutputTokens":900,"thinkingConfig":{{"includeThoughts":true}}}},{}}}"#,
                tools(&format!(r#"{{"functionDeclarations":[{function}]}}"#))
            ),
        ),
        Call::post(
            "http://fake/api/chat",
            format!(
                r#"{{"model":"llama3.2:1b","messages":{message},"think":true,{wrapped},"options":{{"num_predict":900}},"stream":{stream}}}"#
            ),
        ),
        Call::post(
            "http://fake/api/generate",
            format!(r#"{{"model":"llama3.2:1b","prompt":"{question}","stream":{stream}}}"#),
        ),
    ]
}

fn get(path: &str, headers: &[&str]) -> Call {
    let mut request = Request::get(format!("http://fake{path}"));
    for name in headers {
        request = request.header(*name, "2023-06-01");
    }
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    Call::from_parts(parts, "")
}

async fn json(reply: Reply) -> Value {
    let bytes = reply.into_body().bytes().await.expect("the body is good");
    serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {bytes:?}"))
}

async fn read(upstream: &Upstream, call: &Call) -> Outcome {
    let reply = upstream.answer(call);
    assert_eq!(reply.status(), StatusCode::OK, "{}", call.dialect);
    let mut body = reply.into_body();
    if let Some(bytes) = body.complete() {
        return call.format().read_reply(&bytes);
    }
    let mut reader = call.format().stream_reader();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.expect("a frame").into_data() {
            reader.push(&data);
        }
    }
    reader.outcome(true)
}

fn billed(usage: Option<Usage>) -> Option<[u64; 6]> {
    usage.map(|u| {
        [u.input, u.read, u.write_short, u.write_long, u.output, u.reasoning].map(Option::unwrap_or_default)
    })
}

#[tokio::test]
async fn every_answer_is_read_as_it_was_meant() {
    for (question, stream) in
        [("Name a prime.", false), ("Name a prime.", true), ("Use the tool.", false), ("Use the tool.", true)]
    {
        for call in asks(question, stream) {
            // Ollama has no word for a refusal or a filter: they are answers like others.
            let is_ollama = call.dialect == Dialect::OllamaChat;
            for (scripted, want) in [
                (Scripted::own(), "Whole"),
                (Scripted::text("eleven"), "Whole"),
                (Scripted::truncated(), "Truncated"),
                (Scripted::refusal(), if is_ollama { "Whole" } else { "Refused" }),
                (Scripted::filtered(), if is_ollama { "Whole" } else { "Filtered Refused" }),
                (Scripted::cut(), "Failed Partial"),
                (Scripted::error_under_200(), "Failed"),
            ] {
                let upstream = Upstream::new().first(1, scripted);
                let outcome = read(&upstream, &call).await;
                let name = format!("{:?}", outcome.finish);
                let what = format!("{} {question} stream {stream}: {want}", call.dialect);
                assert!(want.contains(&name), "{what} was read as {name}");
                if outcome.finish == Finish::Whole {
                    let meant = upstream.last().unwrap().usage;
                    assert_eq!(billed(outcome.usage), billed(meant), "{what}");
                    assert!(meant.is_some_and(|usage| usage.is_known()), "{what} is billed");
                    assert!(outcome.is_good(), "{what} is good");
                }
            }
        }
    }
}

#[tokio::test]
async fn thoughts_are_billed_where_a_model_has_them() {
    for stream in [false, true] {
        for call in asks("Name a prime.", stream).into_iter().filter(|c| c.dialect != Dialect::OllamaChat) {
            let outcome = read(&Upstream::new(), &call).await;
            let usage = outcome.usage.expect("usage");
            assert!(
                usage.reasoning > Some(0) && usage.reasoning < usage.output,
                "{}: {usage:?}",
                call.dialect
            );
        }
    }
    let plain = Call::post(
        "http://fake/v1/chat/completions",
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Name a prime."}]}"#,
    );
    let usage = read(&Upstream::new(), &plain).await.usage.expect("usage");
    assert_eq!(usage.reasoning, Some(0), "this model does not think");
}

#[tokio::test]
async fn a_cap_holds_thoughts_and_text_together() {
    for (call, cap) in [
        (r#"{"model":"gpt-5","max_output_tokens":16,"input":"Name a prime."}"#, 16),
        (
            r#"{"model":"gpt-5","max_output_tokens":400,"reasoning":{"effort":"high"},"input":"Name a prime."}"#,
            400,
        ),
    ] {
        let call = Call::post("http://fake/v1/responses", call);
        let outcome = read(&Upstream::new(), &call).await;
        assert!(outcome.usage.unwrap().output <= Some(cap), "{outcome:?}");
    }
}

#[tokio::test]
async fn the_members_that_official_clients_need_are_there() {
    for (at, members) in [
        "id object created choices model usage",
        "id type role model content stop_reason stop_sequence usage",
        "id object created_at status error incomplete_details instructions metadata model output parallel_tool_calls \
         temperature tool_choice tools top_p max_output_tokens previous_response_id reasoning service_tier store text \
         truncation usage user background top_logprobs",
        "candidates usageMetadata modelVersion responseId",
        "model created_at message done done_reason total_duration load_duration prompt_eval_count \
         prompt_eval_duration eval_count eval_duration",
        "model created_at response done done_reason total_duration load_duration context",
    ]
    .into_iter()
    .enumerate()
    {
        let body = json(Upstream::new().answer(&asks("Use the tool.", false)[at])).await;
        for member in members.split_whitespace() {
            assert!(body.get(member).is_some(), "{member} is missing from {body}");
        }
    }
    let body = json(Upstream::new().answer(&asks("Use the tool.", false)[2])).await;
    let items: Vec<_> = body["output"].as_array().unwrap().iter().map(|item| &item["type"]).collect();
    assert_eq!(items, ["reasoning", "function_call"]);
    assert_eq!(body["tools"][0]["strict"], true, "what was left open is said");
    let body = json(Upstream::new().answer(&asks("Use the tool.", false)[1])).await;
    assert!(body["content"][0]["signature"].is_string(), "{body}");
    let body = json(Upstream::new().answer(&asks("Use the tool.", false)[4])).await;
    assert!(body["message"]["tool_calls"][0]["function"]["arguments"].is_object(), "{body}");
}

#[tokio::test]
async fn a_stream_of_responses_counts_its_events_and_ends_with_the_whole_reply() {
    let [document, stream] = [false, true].map(|stream| asks("Name a prime.", stream).swap_remove(2));
    let bytes = Upstream::new().answer(&stream).into_body().bytes().await.unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("an event is JSON"))
        .collect();
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let mut joined = String::new();
    for (number, (event, name)) in events.iter().zip(&names).enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&Value::from(*name), &number.into()));
        if *name == "response.output_text.delta" {
            joined.push_str(event["delta"].as_str().unwrap());
        }
    }
    assert_eq!(names[..3], ["response.created", "response.in_progress", "response.output_item.added"]);
    let last = &events.last().unwrap()["response"];
    assert_eq!(last["output"][1]["content"][0]["text"], joined);
    let document = json(Upstream::new().answer(&document)).await;
    for member in ["status", "usage", "tools", "model"] {
        assert_eq!(last[member], document[member], "{member}");
    }
}

#[tokio::test]
async fn gemini_streams_one_array_unless_asked_for_events() {
    let body = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let reply = Upstream::new().answer(&Call::post(&format!("{GEMINI}streamGenerateContent"), body));
    assert_eq!(reply.headers()["content-type"], "application/json");
    let chunks = json(reply).await;
    let last = chunks.as_array().and_then(|chunks| chunks.last()).expect("chunks");
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
}

#[tokio::test]
async fn each_kind_of_embedding_is_read_as_it_was_meant() {
    let gemini = |end: &str| format!("{GEMINI}{end}");
    for (uri, body, numbers) in [
        ("http://fake/v1/embeddings", r#"{"model":"text-embedding-3-small","input":"alpha"}"#, 1_536),
        ("http://fake/v1/embeddings", r#"{"model":"m","input":["a","b"],"dimensions":8}"#, 8),
        ("http://fake/v1/embeddings", r#"{"model":"m","input":[[1,2],[3]],"dimensions":8}"#, 8),
        ("http://fake/api/embed", r#"{"model":"m","input":["a","b"]}"#, 768),
        ("http://fake/api/embeddings", r#"{"model":"m","prompt":"a"}"#, 768),
        (&gemini("embedContent"), r#"{"content":{"parts":[{"text":"a"}]},"outputDimensionality":8}"#, 8),
        (&gemini("batchEmbedContents"), r#"{"requests":[{"content":{"parts":[{"text":"a"}]}}]}"#, 3_072),
    ] {
        let upstream = Upstream::new();
        let call = Call::post(uri, body);
        let outcome = read(&upstream, &call).await;
        assert!(outcome.is_good(), "{uri} {body}");
        let meant = upstream.last().unwrap().usage;
        assert!(meant.unwrap().input > Some(0));
        // Ollama's old path tells no counts.
        if !uri.ends_with("/api/embeddings") {
            assert_eq!(billed(outcome.usage), billed(meant), "{uri}");
        }
        let reply = json(upstream.answer(&call)).await;
        let vector =
            ["/data/0/embedding", "/embeddings/0/values", "/embeddings/0", "/embedding/values", "/embedding"]
                .into_iter()
                .find_map(|at| reply.pointer(at)?.as_array())
                .expect("a vector");
        assert_eq!(vector.len(), numbers, "{uri}");
    }
    let call = Call::post(
        "http://fake/v1/embeddings",
        r#"{"model":"m","input":"a","encoding_format":"base64","dimensions":8}"#,
    );
    assert!(json(Upstream::new().answer(&call)).await["data"][0]["embedding"].is_string());
}

#[tokio::test]
async fn lists_counts_and_versions_are_answered() {
    let upstream = Upstream::new();
    let messages = r#"{"model":"m","messages":[{"role":"user","content":"hello world"}]}"#;
    for (call, at) in [
        (get("/v1/models", &[]), "/data/0/id"),
        (get("/v1/models/gpt-5", &[]), "/id"),
        (get("/v1/models", &["anthropic-version"]), "/data/0/display_name"),
        (get("/v1/models/claude-haiku-4-5", &["anthropic-version"]), "/id"),
        (get("/v1/models", &["x-goog-api-key"]), "/models/0/name"),
        (get("/v1beta/models", &[]), "/models/0/name"),
        (get("/v1beta/models/gemini-2.5-pro", &[]), "/inputTokenLimit"),
        (get("/api/tags", &[]), "/models/0/details/family"),
        (get("/api/ps", &[]), "/models"),
        (get("/api/version", &[]), "/version"),
        (Call::post("http://fake/api/show", r#"{"model":"llama3.2:1b"}"#), "/capabilities/1"),
        (Call::post("http://fake/v1/messages/count_tokens", messages), "/input_tokens"),
        (
            Call::post("http://fake/v1/responses/input_tokens", r#"{"model":"m","input":"hi"}"#),
            "/input_tokens",
        ),
        (
            Call::post(&format!("{GEMINI}countTokens"), r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#),
            "/totalTokens",
        ),
    ] {
        let reply = upstream.answer(&call);
        let path = call.parts.uri.path();
        assert_eq!(reply.status(), StatusCode::OK, "{path}");
        let body = json(reply).await;
        assert!(body.pointer(at).is_some(), "{path}: no {at} in {body}");
    }
    let load = json(upstream.answer(&Call::post("http://fake/api/generate", r#"{"model":"m"}"#))).await;
    assert_eq!(load["done_reason"], "load", "an empty prompt loads the model");
}

#[tokio::test]
async fn errors_have_the_shape_of_their_api() {
    let names = ["/error/message", "/error/message", "/error/message", "/error/status", "/error", "/error"];
    for (scripted, status) in [
        (Scripted::unauthorized(), StatusCode::UNAUTHORIZED),
        (Scripted::rate_limited(), StatusCode::TOO_MANY_REQUESTS),
        (Scripted::out_of_quota(), StatusCode::TOO_MANY_REQUESTS),
    ] {
        for (call, at) in asks("Name a prime.", false).iter().zip(names) {
            let reply = Upstream::new().first(1, scripted.clone()).answer(call);
            assert_eq!(reply.status(), status);
            let body = json(reply).await;
            assert!(body.pointer(at).is_some_and(Value::is_string), "{}: {body}", call.dialect);
        }
    }
    for (call, status, at) in [
        (Call::post("http://fake/v1/responses", r#"{"model":"m"}"#), 400, "/error/type"),
        (Call::post("http://fake/v1/embeddings", r#"{"model":"m","input":[]}"#), 400, "/error/type"),
        (Call::post(&format!("{GEMINI}generateContent"), "{}"), 400, "/error/status"),
        (Call::post("http://fake/api/chat", r#"{"messages":[]}"#), 400, "/error"),
        (Call::post("http://fake/api/show", r#"{"model":"nope"}"#), 404, "/error"),
        (get("/v1/models/nope", &[]), 404, "/error/type"),
        (get("/v1beta/models/nope", &[]), 404, "/error/status"),
        (get("/v1/messages", &[]), 405, "/error/type"),
    ] {
        let reply = Upstream::new().answer(&call);
        assert_eq!(reply.status(), status, "{}", call.parts.uri);
        let body = json(reply).await;
        assert!(body.pointer(at).is_some_and(Value::is_string), "{}: {body}", call.parts.uri);
    }
}

/// Google's Python client 3.6 spells the names inside of objects with underscores.
#[tokio::test]
async fn gemini_is_understood_in_both_spellings() {
    let call = Call::post(
        &format!("{GEMINI}generateContent"),
        r#"{"contents":[{"role":"user","parts":[{"text":"Use the tool."}]}],"tools":[{"functionDeclarations":[{"name":"find",
            "parameters_json_schema":{"type":"object","properties":{"q":{"type":"string"}}}}]}],
            "generationConfig":{"thinkingConfig":{"include_thoughts":true}}}"#,
    );
    let body = json(Upstream::new().answer(&call)).await;
    let parts = &body["candidates"][0]["content"]["parts"];
    assert_eq!(parts[0]["thought"], true, "{parts}");
    assert!(parts[1]["functionCall"]["args"]["q"].is_string(), "{parts}");
    let said = thrifty::tokens::count(&call).parts.tools;
    let without = call.doc.bytes().to_vec();
    let without = String::from_utf8(without).unwrap().replace("parameters_json_schema", "unknown");
    let without = Call::post(&format!("{GEMINI}generateContent"), without);
    assert!(said > thrifty::tokens::count(&without).parts.tools, "the schema is counted");
}
