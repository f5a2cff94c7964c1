//! What the tier layer promises, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::{Arc, Mutex};

use http::StatusCode;
use thrifty::call::{Call, Options, Reply, ReplyBody};
use thrifty::price::PriceTable;
use thrifty::receipt::{Draft, Receipt, Served};
use thrifty::tier::{Condition, Rule, Sign, TierLayer, TierPolicy, switch_breaks, switch_breaks_by};
use thrifty::{BoxError, Error, Kind};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const CHAT: &str = "https://api.openai.com/v1/chat/completions";
const CLAUDE: &str = "https://api.anthropic.com/v1/messages";

fn chat(body: &str) -> Call {
    Call::post(CHAT, body.to_owned())
}

fn asks(model: &str) -> Call {
    chat(&format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"Name a prime above 10."}}]}}"#
    ))
}

fn claude(model: &str, rest: &str) -> Call {
    Call::post(
        CLAUDE,
        format!(
            r#"{{"model":"{model}","max_tokens":64,"messages":[{{"role":"user","content":"Hi"}}]{rest}}}"#
        ),
    )
}

/// A chat answer of three and two tokens with this message and ending.
fn answer(message: &str, finish: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"served","choices":[{{"index":0,"message":{message},"finish_reason":"{finish}"}}],"usage":{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}}}"#
    )
}

fn good() -> String {
    answer(r#"{"role":"assistant","content":"11"}"#, "stop")
}

fn reply(status: u16, body: impl Into<ReplyBody>) -> Reply {
    let mut reply = Reply::new(body.into());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap();
    reply
}

type Seen = Arc<Mutex<Vec<Call>>>;

/// What the provider answers to a call for a model.
type Script = Arc<dyn Fn(&str) -> Result<Reply, BoxError> + Send + Sync>;

fn provider(
    script: impl Fn(&str) -> Result<Reply, BoxError> + Send + Sync + 'static,
) -> (impl Service<Call, Response = Reply, Error = BoxError, Future: Send> + Clone + Send + 'static, Seen) {
    let (seen, script): (Seen, Script) = (Seen::default(), Arc::new(script));
    let inner = seen.clone();
    let service = service_fn(move |call: Call| {
        let result = script(&call.model().unwrap_or_default());
        inner.lock().unwrap().push(call);
        async move { result }
    });
    (service, seen)
}

fn models(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().iter().map(|call| call.model().unwrap_or_default()).collect()
}

async fn send(
    policy: TierPolicy,
    call: Call,
    script: impl Fn(&str) -> Result<Reply, BoxError> + Send + Sync + 'static,
) -> (Result<Reply, BoxError>, Seen, Receipt) {
    let (provider, seen) = provider(script);
    let draft = Draft::default();
    let mut call = call;
    call.parts.extensions.insert(draft.clone());
    let result = TierLayer::new(policy).layer(provider).oneshot(call).await;
    (result, seen, draft.peek())
}

fn ladder() -> TierPolicy {
    TierPolicy::builder()
        .rule(Rule::when(Condition::always()).then("gpt-5-nano"))
        .escalate(["gpt-5-nano", "gpt-5-mini", "gpt-5"])
        .build()
        .unwrap()
}

fn fallback() -> TierPolicy {
    TierPolicy::builder().fallback(["gpt-5-mini", "gpt-5-nano"]).build().unwrap()
}

#[test]
fn the_first_rule_that_holds_decides_and_without_one_the_model_asked_for_stays() {
    let policy = TierPolicy::builder()
        .rule(Rule::when(Condition::tag("easy")).then("gpt-5-nano"))
        .rule(Rule::when(|call: &Call| call.doc.get("seed").is_some()).then("gpt-5-mini"))
        .rule(Rule::when(Condition::asked("gpt-5.1*").or(Condition::asked("o3"))).then("gpt-5.4-nano"))
        .build()
        .unwrap();
    let seeded = |call: &Call| {
        let mut call = call.clone();
        call.doc.set("seed", "7").unwrap();
        call
    };
    let of = |call: &Call| policy.choose(call).unwrap();
    let plain = asks("gpt-5");
    assert_eq!((of(&plain).model, of(&plain).note), ("gpt-5".to_owned(), None), "no rule holds");
    let both = seeded(&plain).with(Options::new().tag("easy"));
    assert_eq!(of(&both).model, "gpt-5-nano", "the first of two that hold");
    assert_eq!(of(&both).note.as_deref(), Some("gpt-5-nano by rule 1"));
    assert_eq!(of(&seeded(&plain)).model, "gpt-5-mini");
    assert_eq!(of(&asks("gpt-5.1-codex")).model, "gpt-5.4-nano");
    assert_eq!(of(&asks("o3-mini")).model, "o3-mini", "a name without `*` is the whole name");
    assert!(policy.choose(&Call::post("https://a.b/c", "not json")).is_none());
}

#[test]
fn conditions_see_tokens_tools_dialect_and_streaming() {
    let long = chat(&format!(
        r#"{{"model":"gpt-5","stream":true,"tools":[{{"type":"function","function":{{"name":"f","parameters":{{}}}}}}],"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "a long story ".repeat(500)
    ));
    let short = asks("gpt-5");
    let small = Condition::tokens_below(200);
    assert!(small.holds(&short) && !small.holds(&long) && small.negated().holds(&long));
    assert!(Condition::with_tools().holds(&long) && Condition::without_tools().holds(&short));
    assert!(Condition::streamed().holds(&long) && !Condition::streamed().holds(&short));
    assert!(Condition::dialect(short.dialect).and(Condition::always()).holds(&short));
    assert!(!Condition::dialect(claude("claude-opus-4-5", "").dialect).holds(&short));
}

#[tokio::test]
async fn only_the_model_changes_and_a_kept_call_leaves_byte_for_byte() {
    let body = r#"{ "seed":12345678901234567890123, "model" : "gpt-5",  "messages":[{"role":"user","content":"\u0048i"}] }"#;
    let policy = |to| TierPolicy::builder().rule(Rule::when(Condition::always()).then(to)).build().unwrap();
    let (_, seen, receipt) = send(policy("gpt-5-nano"), chat(body), |_| Ok(reply(200, good()))).await;
    assert_eq!(seen.lock().unwrap()[0].doc.bytes(), body.replace("gpt-5", "gpt-5-nano").as_bytes());
    assert_eq!(
        (receipt.asked.as_deref(), receipt.chosen.as_deref(), receipt.tier_note.as_deref()),
        (Some("gpt-5"), Some("gpt-5-nano"), Some("gpt-5-nano by rule 1"))
    );
    let (_, seen, receipt) = send(policy("gpt-5"), chat(body), |_| Ok(reply(200, good()))).await;
    assert!(!seen.lock().unwrap()[0].doc.is_edited(), "the rule names the model asked for");
    assert_eq!((receipt.chosen.as_deref(), receipt.tier_note), (Some("gpt-5"), None));
}

#[tokio::test]
async fn a_switch_that_would_break_the_request_is_not_made_and_the_receipt_says_why() {
    let policy =
        TierPolicy::builder().rule(Rule::when(Condition::always()).then("gpt-4.1-nano")).build().unwrap();
    let call = chat(r#"{"model":"gpt-5","reasoning_effort":"low","messages":[]}"#);
    let (_, seen, receipt) = send(policy, call, |_| Ok(reply(200, good()))).await;
    assert_eq!(models(&seen), ["gpt-5"]);
    assert_eq!(receipt.tier_note.as_deref(), Some("kept gpt-5: gpt-4.1-nano takes no reasoning_effort"));
}

#[tokio::test]
async fn each_sign_of_a_useless_answer_climbs_one_rung_and_both_are_on_the_receipt() {
    for (message, finish, why) in [
        (r#"{"role":"assistant","content":""}"#, "stop", "empty"),
        (r#"{"role":"assistant","content":"1"}"#, "length", "truncated"),
        (r#"{"role":"assistant","content":null,"refusal":"I can't."}"#, "stop", "refused"),
        (r#"{"role":"assistant","content":"no"}"#, "content_filter", "refused"),
        (
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{\"a\":"}}]}"#,
            "tool_calls",
            "broken tool call",
        ),
    ] {
        let poor = answer(message, finish);
        let (result, seen, receipt) = send(ladder(), asks("gpt-5"), move |model| {
            Ok(reply(200, if model == "gpt-5-nano" { poor.clone() } else { good() }))
        })
        .await;
        assert_eq!(models(&seen), ["gpt-5-nano", "gpt-5-mini"], "{why}");
        assert_eq!(result.unwrap().into_body().bytes().await.unwrap(), good(), "{why}");
        let [rejected] = &receipt.rejected[..] else { panic!("{why}: one answer was rejected") };
        assert_eq!((rejected.model.as_str(), rejected.why.as_str()), ("gpt-5-nano", why));
        assert_eq!(rejected.served, Served::Upstream, "{why}: it was paid for");
        let usage = rejected.usage.expect("its usage is billed");
        assert_eq!((usage.input, usage.output), (Some(3), Some(2)), "{why}");
        assert_eq!(receipt.chosen.as_deref(), Some("gpt-5-mini"));
        let note = receipt.tier_note.unwrap();
        assert!(note.ends_with(&format!("escalated: gpt-5-nano was {why}")), "{note}");
    }
}

#[tokio::test]
async fn the_top_of_the_ladder_is_passed_on_as_it_is() {
    let poor = answer(r#"{"role":"assistant","content":""}"#, "stop");
    let copy = poor.clone();
    let (result, seen, receipt) = send(ladder(), asks("gpt-5"), move |_| Ok(reply(200, copy.clone()))).await;
    assert_eq!(models(&seen), ["gpt-5-nano", "gpt-5-mini", "gpt-5"]);
    assert_eq!(result.unwrap().into_body().bytes().await.unwrap(), poor);
    assert_eq!(receipt.rejected.len(), 2, "the last one was passed on");
}

#[tokio::test]
async fn a_model_that_a_rule_left_is_the_last_rung_if_the_ladder_lacks_it() {
    let poor = answer(r#"{"role":"assistant","content":""}"#, "stop");
    let (_, seen, _) = send(ladder(), asks("gpt-6-sol"), move |model| {
        Ok(reply(200, if model == "gpt-6-sol" { good() } else { poor.clone() }))
    })
    .await;
    assert_eq!(models(&seen), ["gpt-5-nano", "gpt-5-mini", "gpt-5", "gpt-6-sol"]);
}

#[tokio::test]
async fn the_callers_own_check_and_ignored_signs_are_obeyed() {
    let policy = |ignore: Option<Sign>| {
        let builder = TierPolicy::builder().escalate(["gpt-5-nano", "gpt-5"]);
        let builder = builder
            .accept(|outcome, body| outcome.usage.is_some() && body.windows(4).any(|four| four == b"\"11\""));
        ignore.into_iter().fold(builder, |builder, sign| builder.ignore(sign)).build().unwrap()
    };
    let twelve = answer(r#"{"role":"assistant","content":"12"}"#, "stop");
    let (_, seen, receipt) = send(policy(None), asks("gpt-5-nano"), move |model| {
        Ok(reply(200, if model == "gpt-5" { good() } else { twelve.clone() }))
    })
    .await;
    assert_eq!(models(&seen), ["gpt-5-nano", "gpt-5"]);
    assert_eq!(receipt.rejected[0].why, "not accepted");
    let cut = answer(r#"{"role":"assistant","content":"11"}"#, "length");
    let (_, seen, _) =
        send(policy(Some(Sign::Truncated)), asks("gpt-5-nano"), move |_| Ok(reply(200, cut.clone()))).await;
    assert_eq!(models(&seen), ["gpt-5-nano"], "a cut answer that is ignored and accepted stays");
}

#[tokio::test]
async fn a_check_that_panics_lets_the_answer_stand() {
    let policy = TierPolicy::builder()
        .escalate(["gpt-5-nano", "gpt-5"])
        .accept(|_, _| panic!("oops"))
        .build()
        .unwrap();
    let (result, seen, _) = send(policy, asks("gpt-5-nano"), |_| Ok(reply(200, good()))).await;
    assert!(result.unwrap().status().is_success());
    assert_eq!(models(&seen).len(), 1);
}

#[tokio::test]
async fn a_stream_is_passed_on_unread_and_never_escalated() {
    let mut call = asks("gpt-5");
    call.doc.set("stream", "true").unwrap();
    let (result, seen, _) = send(ladder(), call, |_| {
        let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<bytes::Bytes>, BoxError>,
        >());
        Ok(reply(200, ReplyBody::stream(never)))
    })
    .await;
    assert!(result.unwrap().body().is_stream(), "a body that never ends is passed on all the same");
    assert_eq!(models(&seen), ["gpt-5-nano"]);
}

#[tokio::test]
async fn a_whole_answer_that_arrives_in_frames_is_judged_too() {
    let (_, seen, _) = send(ladder(), asks("gpt-5"), |model| {
        let body =
            if model == "gpt-5" { good() } else { answer(r#"{"role":"assistant","content":""}"#, "stop") };
        Ok(reply(200, ReplyBody::stream(http_body_util::Full::new(bytes::Bytes::from(body)))))
    })
    .await;
    assert_eq!(models(&seen), ["gpt-5-nano", "gpt-5-mini", "gpt-5"]);
}

#[tokio::test]
async fn a_model_that_is_down_gives_way_to_the_next_of_the_fallback_list() {
    for status in [408, 429, 500, 502, 503, 504, 529] {
        let (result, seen, receipt) = send(fallback(), asks("gpt-5"), move |model| {
            Ok(if model == "gpt-5-nano" { reply(200, good()) } else { reply(status, "{}") })
        })
        .await;
        assert_eq!(models(&seen), ["gpt-5", "gpt-5-mini", "gpt-5-nano"], "{status}");
        assert!(result.unwrap().status().is_success());
        assert_eq!(receipt.chosen.as_deref(), Some("gpt-5-nano"), "{status}");
        assert!(receipt.rejected.is_empty(), "{status}: failures are not billed");
        assert!(receipt.tier_note.unwrap().starts_with(&format!("fallback: gpt-5 gave status {status}")));
    }
    let (result, seen, _) = send(fallback(), asks("gpt-5"), |model| match model {
        "gpt-5" => Err("connection refused".into()),
        _ => Ok(reply(200, good())),
    })
    .await;
    assert_eq!(models(&seen), ["gpt-5", "gpt-5-mini"], "no connection");
    assert!(result.is_ok());
}

#[tokio::test]
async fn when_all_are_down_the_last_failure_is_passed_on() {
    let (result, seen, _) = send(fallback(), asks("gpt-5"), |_| Ok(reply(503, "{\"error\":{}}"))).await;
    assert_eq!(models(&seen).len(), 3);
    let reply = result.unwrap();
    assert_eq!(reply.status(), 503);
    assert_eq!(reply.into_body().bytes().await.unwrap(), "{\"error\":{}}");
    let (result, _, _) = send(fallback(), asks("gpt-5"), |_| Err("gone".into())).await;
    assert_eq!(result.unwrap_err().to_string(), "gone");
}

#[tokio::test]
async fn refusals_of_our_own_and_an_empty_account_are_no_outage() {
    let (result, seen, _) = send(fallback(), asks("gpt-5"), |_| {
        Err(Error::new(Kind::OverLimit, "the limit is spent", "wait").into())
    })
    .await;
    assert!(Error::find(&*result.unwrap_err()).is_some_and(Error::is_over_limit));
    assert_eq!(models(&seen), ["gpt-5"]);
    let (result, seen, _) = send(fallback(), asks("gpt-5"), |_| {
        Ok(reply(429, r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#))
    })
    .await;
    assert_eq!((result.unwrap().status().as_u16(), models(&seen).len()), (429, 1));
    let (result, seen, _) = send(fallback(), asks("gpt-5"), |_| Ok(reply(401, "{}"))).await;
    assert_eq!((result.unwrap().status().as_u16(), models(&seen).len()), (401, 1));
}

#[tokio::test]
async fn an_error_under_status_200_is_an_outage() {
    let (_, seen, _) = send(fallback(), asks("gpt-5"), |model| {
        Ok(reply(
            200,
            if model == "gpt-5" { r#"{"error":{"message":"overloaded"}}"#.to_owned() } else { good() },
        ))
    })
    .await;
    assert_eq!(models(&seen), ["gpt-5", "gpt-5-mini"]);
}

#[tokio::test]
async fn an_answer_that_was_paid_for_is_better_than_a_failure_above_it() {
    let cut = answer(r#"{"role":"assistant","content":"1"}"#, "length");
    let copy = cut.clone();
    let (result, seen, receipt) = send(ladder(), asks("gpt-5"), move |model| {
        Ok(if model == "gpt-5-nano" { reply(200, copy.clone()) } else { reply(503, "{}") })
    })
    .await;
    assert_eq!(models(&seen), ["gpt-5-nano", "gpt-5-mini"]);
    assert_eq!(result.unwrap().into_body().bytes().await.unwrap(), cut);
    assert!(receipt.rejected.is_empty(), "it was passed on after all, and is not billed twice");
    assert_eq!(receipt.chosen.as_deref(), Some("gpt-5-nano"));
}

#[tokio::test]
async fn a_switched_call_that_the_provider_refuses_goes_once_as_it_came() {
    let policy = TierPolicy::builder().rule(Rule::when(Condition::always()).then("my-tune")).build().unwrap();
    let call = asks("gpt-5");
    let bytes = call.doc.bytes().clone();
    let (result, seen, receipt) = send(policy.clone(), call, |model| {
        Ok(if model == "gpt-5" { reply(200, good()) } else { reply(404, "{}") })
    })
    .await;
    assert_eq!(models(&seen), ["my-tune", "gpt-5"]);
    assert_eq!(seen.lock().unwrap()[1].doc.bytes(), &bytes);
    assert!(result.unwrap().status().is_success());
    assert_eq!(
        receipt.tier_note.as_deref(),
        Some("my-tune by rule 1; back to gpt-5: my-tune gave status 404")
    );
    let (result, seen, _) = send(policy, asks("gpt-5"), |_| Ok(reply(400, "{}"))).await;
    assert_eq!((models(&seen).len(), result.unwrap().status().as_u16()), (2, 400), "once, never blindly");
}

#[tokio::test]
async fn an_answer_of_a_layer_below_keeps_its_origin_on_the_receipt() {
    let poor = answer(r#"{"role":"assistant","content":""}"#, "stop");
    let cached = service_fn(move |call: Call| {
        let from_memory = call.model().as_deref() == Some("gpt-5-nano");
        if from_memory {
            thrifty::receipt::note(&call, |receipt| receipt.served = Served::Memory);
        }
        let body = if from_memory { poor.clone() } else { good() };
        async move { Ok::<_, BoxError>(reply(200, body)) }
    });
    let draft = Draft::default();
    let mut call = asks("gpt-5");
    call.parts.extensions.insert(draft.clone());
    TierLayer::new(ladder()).layer(cached).oneshot(call).await.unwrap();
    let receipt = draft.peek();
    assert_eq!(receipt.rejected[0].served, Served::Memory, "it cost nothing a second time");
    assert_eq!(receipt.served, Served::Nowhere, "nobody has said where the next answer came from");
}

#[tokio::test]
async fn escalation_does_not_hang_behind_a_limit_of_one_call_at_a_time() {
    let poor = answer(r#"{"role":"assistant","content":""}"#, "stop");
    let (provider, seen) = provider(move |_| Ok(reply(200, poor.clone())));
    let mut service =
        ServiceBuilder::new().layer(TierLayer::new(ladder())).concurrency_limit(1).service(provider);
    for round in 1..=3 {
        let call = service.ready().await.unwrap().call(asks("gpt-5"));
        let done = tokio::time::timeout(std::time::Duration::from_secs(5), call).await;
        assert!(done.is_ok(), "round {round} waits for a permit that it holds itself");
    }
    assert_eq!(seen.lock().unwrap().len(), 9);
}

#[test]
fn what_openai_models_refuse_is_known() {
    for (fields, to, why) in [
        (r#""temperature":0.2"#, "gpt-5-nano", Some("takes no temperature")),
        (r#""temperature":1"#, "gpt-5-nano", None),
        (r#""temperature":0.2"#, "gpt-4.1-nano", None),
        (r#""temperature":0.2,"reasoning_effort":"none""#, "gpt-5.4-nano", None),
        (r#""logprobs":true"#, "o4-mini", Some("takes no logprobs")),
        (r#""logprobs":false"#, "o4-mini", None),
        (r#""logit_bias":{"1":2}"#, "gpt-5-nano", Some("takes no logit_bias")),
        (r#""presence_penalty":0.5"#, "gpt-5-nano", Some("takes no presence_penalty")),
        (r#""stop":"\n""#, "o4-mini", Some("takes no stop")),
        (r#""stop":"\n""#, "gpt-4o-mini", None),
        (r#""max_tokens":5"#, "gpt-5-nano", None),
        (r#""reasoning_effort":"minimal""#, "gpt-5-nano", None),
        (r#""reasoning_effort":"minimal""#, "o4-mini", Some("takes other levels of reasoning_effort")),
        (r#""verbosity":"low""#, "gpt-4.1-mini", Some("takes no verbosity")),
        (r#""audio":{"voice":"a"}"#, "gpt-4o-mini", Some("takes no audio")),
        (r#""service_tier":"flex""#, "gpt-4.1-mini", Some("takes no service_tier flex")),
        (
            r#""prompt_cache_options":{"mode":"implicit"}"#,
            "gpt-5.4-nano",
            Some("takes no prompt_cache_options"),
        ),
        (r#""parallel_tool_calls":false"#, "o3-mini", Some("takes no parallel_tool_calls")),
        (r#""tools":[{"type":"function","function":{"name":"f"}}]"#, "o1-mini", Some("takes no tools")),
        (
            r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}}"#,
            "gpt-4-turbo",
            Some("takes no response_format of type json_schema"),
        ),
    ] {
        let call = chat(&format!(r#"{{"model":"gpt-4.1",{fields},"messages":[]}}"#));
        let want = why.map(|why| format!("{to} {why}"));
        assert_eq!(switch_breaks(&call, "gpt-4.1", to), want, "{fields} to {to}");
    }
    for (message, to, why) in [
        (r#"{"role":"developer","content":"Be brief."}"#, "gpt-3.5-turbo", Some("knows no developer role")),
        (r#"{"role":"developer","content":"Be brief."}"#, "gpt-4.1-nano", None),
        (r#"{"role":"system","content":"Be brief."}"#, "o1-mini", Some("knows no system role")),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}"#,
            "gpt-4-0613",
            Some("takes no images"),
        ),
        (
            r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]}"#,
            "gpt-5-nano",
            Some("takes no audio"),
        ),
    ] {
        let call = chat(&format!(r#"{{"model":"gpt-4o","messages":[{message}]}}"#));
        let want = why.map(|why| format!("{to} {why}"));
        assert_eq!(switch_breaks(&call, "gpt-4o", to), want, "{message} to {to}");
    }
}

#[test]
fn what_claude_models_refuse_is_known() {
    for (fields, to, why) in [
        (r#""temperature":0.2"#, "claude-sonnet-5", Some("takes no temperature")),
        (r#""top_k":5"#, "claude-opus-4-7", Some("takes no top_k")),
        (r#""temperature":0.2"#, "claude-haiku-4-5", None),
        (r#""temperature":0.2,"top_p":0.9"#, "claude-haiku-4-5", Some("takes no temperature beside top_p")),
        (
            r#""thinking":{"type":"enabled","budget_tokens":1024}"#,
            "claude-opus-5-5",
            Some("takes no thinking with budget_tokens"),
        ),
        (r#""thinking":{"type":"enabled","budget_tokens":1024}"#, "claude-haiku-4-5", None),
        (r#""thinking":{"type":"adaptive"}"#, "claude-haiku-4-5", Some("takes no adaptive thinking")),
        (r#""thinking":{"type":"adaptive"}"#, "claude-haiku-5-5", None),
        (r#""thinking":{"type":"disabled"}"#, "claude-fable-5-1", Some("always thinks")),
        (r#""output_config":{"effort":"low"}"#, "claude-haiku-4-5", Some("does not take this effort")),
        (r#""output_config":{"effort":"xhigh"}"#, "claude-opus-4-6", Some("does not take this effort")),
        (r#""output_config":{"effort":"xhigh"}"#, "claude-opus-4-7", None),
        (r#""speed":"fast""#, "claude-haiku-5-5", Some("takes no speed")),
        (
            r#""tools":[{"type":"text_editor_20250728","name":"e"}]"#,
            "claude-sonnet-3-7",
            Some("may not know the tool version text_editor_20250728"),
        ),
        (r#""tools":[{"name":"f","input_schema":{}}]"#, "claude-haiku-5-5", None),
    ] {
        let call = claude("claude-opus-4-5", &format!(",{fields}"));
        let want = why.map(|why| format!("{to} {why}"));
        assert_eq!(switch_breaks(&call, "claude-opus-4-5", to), want, "{fields} to {to}");
    }
    let prefill = Call::post(
        CLAUDE,
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"{"}]}"#,
    );
    assert_eq!(
        switch_breaks(&prefill, "claude-haiku-4-5", "claude-sonnet-4-6").as_deref(),
        Some("claude-sonnet-4-6 takes no final assistant turn")
    );
    assert_eq!(switch_breaks(&prefill, "claude-opus-4-5", "claude-haiku-4-5"), None);
}

#[test]
fn a_model_of_another_maker_is_used_only_where_a_gateway_serves_it() {
    let here = asks("gpt-5");
    assert!(switch_breaks(&here, "gpt-5", "claude-haiku-5-5").is_some());
    assert!(switch_breaks(&here, "gpt-5", "anthropic/claude-haiku-5-5").is_some(), "OpenAI's own host");
    assert!(switch_breaks(&claude("claude-opus-5", ""), "claude-opus-5", "gpt-5-nano").is_some());
    let gateway = Call::post("http://gateway.local/v1/chat/completions", here.doc.bytes().clone());
    assert_eq!(switch_breaks(&gateway, "openai/gpt-5", "anthropic/claude-haiku-5-5"), None);
    assert_eq!(switch_breaks(&gateway, "claude-opus-5", "claude-haiku-5-5"), None);
    assert!(switch_breaks(&gateway, "gpt-5", "claude-haiku-5-5").is_some());
    let azure = Call::post(
        "https://me.openai.azure.com/openai/deployments/mine/chat/completions",
        r#"{"model":"gpt-5","messages":[]}"#,
    );
    assert!(switch_breaks(&azure, "gpt-5", "gpt-5-nano").unwrap().contains("deployment"));
    let twice = chat(r#"{"model":"gpt-5","model":"gpt-5","messages":[]}"#);
    assert_eq!(switch_breaks(&twice, "gpt-5", "gpt-5-nano").as_deref(), Some("the body cannot be edited"));
}

#[test]
fn the_limits_of_the_target_are_kept() {
    let table = PriceTable::from_litellm(
        br#"{"gpt-small":{"litellm_provider":"openai","mode":"chat","max_input_tokens":50,"max_output_tokens":100,
             "input_cost_per_token":1e-6,"output_cost_per_token":1e-6}}"#,
    )
    .unwrap();
    let capped =
        |cap: u64| chat(&format!(r#"{{"model":"gpt-5","max_completion_tokens":{cap},"messages":[]}}"#));
    assert_eq!(switch_breaks_by(&capped(100), "gpt-5", "gpt-small", &table), None);
    assert_eq!(
        switch_breaks_by(&capped(101), "gpt-5", "gpt-small", &table).as_deref(),
        Some("gpt-small writes at most 100 tokens and the cap is 101")
    );
    let long = chat(&format!(
        r#"{{"model":"gpt-5","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "one two three four ".repeat(40)
    ));
    let why = switch_breaks_by(&long, "gpt-5", "gpt-small", &table).expect("160 words do not fit 50 tokens");
    assert!(why.starts_with("gpt-small reads at most 50 tokens"), "{why}");
}

#[test]
fn a_policy_has_one_fingerprint_and_says_whether_it_is_pure() {
    let build = |limit: u64, name: &str| {
        TierPolicy::builder()
            .rule(Rule::when(Condition::tokens_below(limit).and(Condition::named(name, |_| true))).then("m"))
            .build()
            .unwrap()
    };
    assert_eq!(build(9, "a").fingerprint(), build(9, "a").fingerprint());
    assert_ne!(build(9, "a").fingerprint(), build(8, "a").fingerprint());
    assert_ne!(build(9, "a").fingerprint(), build(9, "b").fingerprint());
    let plain = TierPolicy::builder().rule(Rule::when(Condition::tokens_below(9)).then("m")).build().unwrap();
    assert!(plain.is_pure() && TierPolicy::default().is_pure());
    assert!(!build(9, "a").is_pure(), "a name does not tell what a closure looks at");
    let closure = || TierPolicy::builder().rule(Rule::when(|_: &Call| true).then("m")).build().unwrap();
    assert!(!closure().is_pure());
    assert_ne!(closure().fingerprint(), closure().fingerprint(), "nobody can compare closures");
    let checked = |named: bool| {
        let builder = TierPolicy::builder().escalate(["a", "b"]);
        let builder =
            if named { builder.accept_named("c", |_, _| true) } else { builder.accept(|_, _| true) };
        builder.build().unwrap()
    };
    assert!(!checked(true).is_pure() && !checked(false).is_pure());
    assert_eq!(checked(true).fingerprint(), checked(true).fingerprint(), "that is what the name is for");
    assert_ne!(checked(true).fingerprint(), TierPolicy::default().fingerprint());
}

#[test]
fn settings_that_make_no_sense_are_refused_at_the_start() {
    let twice = TierPolicy::builder().escalate(["a", "b", "a"]).build().unwrap_err();
    assert!(twice.problem().contains("names a twice"), "{twice}");
    assert!(TierPolicy::builder().fallback([""]).build().is_err());
    assert!(TierPolicy::builder().accept(|_, _| true).build().is_err(), "a check without a ladder");
}
