//! What the prefix layer promises, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use thrifty::BoxError;
use thrifty::call::{Call, Reply, ReplyBody};
use thrifty::prefix::{PrefixLayer, PrefixPolicy, apply};
use thrifty::receipt::Draft;
use tower::{Layer, ServiceExt, service_fn};

const QUESTION: &str = r#"{"role":"user","content":"Name a prime above 10."}"#;
const TURNS: &str = r#"{"role":"user","content":"Name a prime."},{"role":"assistant","content":"7"},{"role":"user","content":"Above 10."}"#;

fn claude(front: &str, messages: &str) -> Call {
    Call::post(
        "https://api.anthropic.com/v1/messages",
        format!(r#"{{"model":"claude-sonnet-5","max_tokens":64,{front}"messages":[{messages}]}}"#),
    )
}

fn rules() -> String {
    "Answer as a careful librarian would, and name your sources. ".repeat(400)
}

fn body(call: &Call) -> &str {
    std::str::from_utf8(call.doc.bytes()).unwrap()
}

/// What `apply` did and the body after it.
fn applied(mut call: Call, policy: &PrefixPolicy) -> (bool, String) {
    let placed = apply(&mut call, policy);
    (placed, body(&call).to_owned())
}

#[test]
fn a_long_front_is_marked_at_its_end_and_all_else_stays() {
    let (rules, policy) = (rules(), PrefixPolicy::default());
    let bare = claude(&format!(r#""system":"{rules}","#), QUESTION);
    let (placed, after) = applied(bare.clone(), &policy);
    assert!(placed);
    let block = format!(r#"[{{"type":"text","text":"{rules}","cache_control":{{"type":"ephemeral"}}}}]"#);
    assert_eq!(after, body(&bare).replace(&format!("\"{rules}\""), &block));
    let blocks = claude(
        &format!(r#""system":[{{"type":"text","text":"a"}}, {{"type":"text","text":"{rules}"}}],"#),
        QUESTION,
    );
    let (placed, after) = applied(blocks.clone(), &policy);
    assert!(placed);
    let mark = r#","cache_control":{"type":"ephemeral"}}],"messages""#;
    assert_eq!(after, body(&blocks).replace(r#"}],"messages""#, mark), "only the last block");
    let tools = claude(
        &format!(r#""tools":[{{"name":"f","description":"{rules}","input_schema":{{}}}}],"#),
        QUESTION,
    );
    let (placed, after) = applied(tools, &policy);
    assert!(placed && after.contains(r#""input_schema":{},"cache_control":{"type":"ephemeral"}}]"#));
}

#[test]
fn a_conversation_that_goes_on_is_marked_at_top_level_where_the_mark_moves_by_itself() {
    let call = claude("", TURNS);
    let (placed, after) = applied(call.clone(), &PrefixPolicy::default().least(5));
    assert!(placed);
    let bare = body(&call);
    assert_eq!(after, format!(r#"{},"cache_control":{{"type":"ephemeral"}}}}"#, &bare[..bare.len() - 1]));
    let (_, after) = applied(call, &PrefixPolicy::default().least(5).long_lived());
    assert!(after.ends_with(r#""cache_control":{"type":"ephemeral","ttl":"1h"}}"#));
}

#[test]
fn what_nobody_will_read_again_or_is_too_short_is_not_marked() {
    let long = format!(r#"{{"role":"user","content":"{}"}}"#, rules());
    for (call, policy, why) in [
        (claude("", &long), PrefixPolicy::default(), "a single question is read once"),
        (claude(r#""system":"Be brief.","#, TURNS), PrefixPolicy::default(), "under the minimum"),
        (claude(r#""anthropic_version":"v","#, TURNS), PrefixPolicy::default().least(5), "a cloud's form"),
    ] {
        let bytes = body(&call).to_owned();
        assert_eq!(applied(call, &policy), (false, bytes), "{why}");
    }
}

#[test]
fn one_mark_of_the_callers_and_nothing_is_touched() {
    let policy = PrefixPolicy::default().least(0);
    let mark = r#""cache_control":{"type":"ephemeral"}"#;
    for (front, messages) in [
        (format!("{mark},"), TURNS.to_owned()),
        (r#""cache_control":null,"#.to_owned(), TURNS.to_owned()),
        (format!(r#""system":[{{"type":"text","text":"a",{mark}}}],"#), TURNS.to_owned()),
        (format!(r#""tools":[{{"name":"f","input_schema":{{}},{mark}}}],"#), TURNS.to_owned()),
        (
            String::new(),
            format!(r#"{{"role":"user","content":[{{"type":"text","text":"a",{mark}}}]}},{TURNS}"#),
        ),
    ] {
        let call = claude(&front, &messages);
        let bytes = body(&call).to_owned();
        assert_eq!(applied(call, &policy), (false, bytes));
    }
}

#[test]
fn openai_gets_a_cache_key_where_it_has_none_and_never_a_mark() {
    let policy = PrefixPolicy::default().least(0).with_cache_key(|_| Some("tenant \"7\"".to_owned()));
    let chat = |rest: &str| {
        Call::post(
            "https://api.openai.com/v1/chat/completions",
            format!(r#"{{"model":"gpt-6-sol","messages":[{TURNS}]{rest}}}"#),
        )
    };
    let mut call = chat("");
    assert!(!apply(&mut call, &policy), "a key alone is no mark");
    assert_eq!(call.doc.str("prompt_cache_key").as_deref(), Some("tenant \"7\""));
    assert!(!body(&call).contains("cache_control"));
    let own = chat(r#","prompt_cache_key":"mine""#);
    let bytes = body(&own).to_owned();
    assert_eq!(applied(own, &policy), (false, bytes));
}

#[test]
fn what_cannot_be_edited_goes_through_as_it_came() {
    for text in [r#"{"model":"claude-sonnet-5","max_tokens":1,"max_tokens":2,"messages":[]}"#, "[1]", ""] {
        let call = Call::post("https://api.anthropic.com/v1/messages", text);
        assert_eq!(applied(call, &PrefixPolicy::default().least(0)), (false, text.to_owned()));
    }
}

#[tokio::test]
async fn the_receipt_says_that_marks_were_placed() {
    let provider = service_fn(|_: Call| async { Ok::<_, BoxError>(Reply::new(ReplyBody::empty())) });
    let service = PrefixLayer::new(PrefixPolicy::default().least(5)).layer(provider);
    for (messages, marked) in [(TURNS, true), (QUESTION, false)] {
        let (mut call, draft) = (claude("", messages), Draft::default());
        call.parts.extensions.insert(draft.clone());
        service.clone().oneshot(call).await.unwrap();
        assert_eq!(draft.peek().prefix_marked, marked);
    }
}

#[test]
fn a_cache_key_function_that_panics_sets_no_key() {
    let body = r#"{"model":"gpt-5","messages":[]}"#;
    let mut call = Call::post("https://api.openai.com/v1/chat/completions", body);
    let policy = PrefixPolicy::default().with_cache_key(|_: &Call| panic!("on purpose"));
    assert!(!apply(&mut call, &policy));
    assert_eq!(std::str::from_utf8(call.doc.bytes()).unwrap(), body);
}
