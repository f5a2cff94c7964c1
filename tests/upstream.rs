#![cfg(feature = "test-util")]
//! What the embedded upstream sends is what the readers of the formats expect.
use http_body_util::BodyExt;
use thrifty::call::Call;
use thrifty::dialect::{Finish, Outcome};
use thrifty::testing::{Scripted, Upstream};

fn calls(extra: &str) -> [Call; 2] {
    let rest =
        format!(r#""max_tokens":900,"messages":[{{"role":"user","content":"Use the tool."}}]{extra}}}"#);
    [
        Call::post("http://fake/v1/chat/completions", format!(r#"{{"model":"gpt-5-mini",{rest}"#)),
        Call::post("http://fake/v1/messages", format!(r#"{{"model":"claude-haiku-4-5",{rest}"#)),
    ]
}

async fn read(upstream: &Upstream, call: &Call) -> Outcome {
    let mut body = upstream.answer(call).into_body();
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

#[tokio::test]
async fn every_answer_is_read_as_it_was_meant() {
    let stream = r#","stream":true,"stream_options":{"include_usage":true}"#;
    for extra in ["", stream] {
        for call in calls(extra) {
            for (scripted, want) in [
                (Scripted::own(), "Whole"),
                (Scripted::truncated(), "Truncated"),
                (Scripted::refusal(), "Refused"),
                (Scripted::filtered(), "Filtered Refused"),
                (Scripted::cut(), "Failed Partial"),
                (Scripted::error_under_200(), "Failed"),
            ] {
                let upstream = Upstream::new().first(1, scripted);
                let outcome = read(&upstream, &call).await;
                let name = format!("{:?}", outcome.finish);
                assert!(want.contains(&name), "{} {extra}: {want} was read as {name}", call.dialect);
                if outcome.finish == Finish::Whole {
                    let billed = |usage: Option<thrifty::dialect::Usage>| {
                        usage.map(|u| {
                            (u.input, u.read, u.write_short.unwrap_or(0), u.write_long.unwrap_or(0), u.output)
                        })
                    };
                    assert_eq!(
                        billed(outcome.usage),
                        billed(upstream.last().unwrap().usage),
                        "{} {extra}",
                        call.dialect
                    );
                }
            }
        }
    }
}
