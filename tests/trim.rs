//! What trimming promises, over made-up and recorded conversations.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::Value;
use thrifty::call::{Call, Dialect, Options, Reply, ReplyBody};
use thrifty::receipt::Draft;
use thrifty::tokens::{Counter, count};
use thrifty::trim::{self, CLEARED, TrimLayer, TrimPolicy};
use thrifty::{BoxError, Error};
use tower::{Layer, Service, ServiceExt, service_fn};

const URI: &str = "https://api.openai.com/v1/chat/completions";

fn chat(messages: &[String]) -> Call {
    let messages = messages.join(",\n ");
    Call::post(
        URI,
        format!(
            "{{\"model\":\"gpt-4o\", \"messages\" : [ {messages} ],\"seed\":12345678901234567890123,\"n\":1 }}"
        ),
    )
}

fn said(role: &str, text: &str) -> String {
    format!(r#"{{"role":{role:?},"content":{text:?}}}"#)
}

fn calls(ids: &[String]) -> String {
    let calls: Vec<String> = ids
        .iter()
        .map(|id| {
            format!(r#"{{"id":"{id}","type":"function","function":{{"name":"look","arguments":"{{\"at\": 1.50}}"}}}}"#)
        })
        .collect();
    format!(r#"{{ "role":"assistant","content":null,"tool_calls":[{}] }}"#, calls.join(", "))
}

fn result(id: &str, text: &str) -> String {
    format!(r#"{{"tool_call_id" : "{id}","role":"tool","content":{text:?}}}"#)
}

fn messages(call: &Call) -> Vec<String> {
    call.doc.elements("messages").unwrap_or_default().into_iter().map(str::to_owned).collect()
}

fn role(message: &str) -> String {
    let message: Value = serde_json::from_str(message).expect("messages are JSON");
    message["role"].as_str().unwrap_or_default().to_owned()
}

fn read(message: &str) -> Value {
    serde_json::from_str(message).expect("messages are JSON")
}

/// Why a provider would refuse this conversation, read independently of the crate.
fn refusal(messages: &[String]) -> Option<String> {
    let mut open: HashSet<String> = HashSet::new();
    for (i, raw) in messages.iter().enumerate() {
        let message: Value = serde_json::from_str(raw).ok()?;
        let role = message["role"].as_str().unwrap_or_default();
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            if !open.remove(id) {
                return Some(format!("message {i} answers {id}, which nobody called"));
            }
            continue;
        }
        if !open.is_empty() {
            return Some(format!("message {i} comes while {open:?} is unanswered"));
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            open.insert(call["id"].as_str().unwrap_or_default().to_owned());
        }
    }
    (!open.is_empty()).then(|| format!("{open:?} is never answered"))
}

/// The least that may be sent: rules, the last user message and the newest exchange.
fn protected(all: &[String]) -> Vec<String> {
    let roles: Vec<String> = all.iter().map(|message| role(message)).collect();
    let user = roles.iter().rposition(|role| role == "user").unwrap_or(0);
    let rules = |role: &String| matches!(role.as_str(), "system" | "developer");
    let end = roles.iter().rposition(|role| !rules(role)).unwrap_or(0);
    let mut newest = end;
    while newest > user && roles[newest] == "tool" {
        newest -= 1;
    }
    (0..all.len())
        .filter(|&i| rules(&roles[i]) || i == user || (newest..=end).contains(&i))
        .map(|i| all[i].clone())
        .collect()
}

/// Trims and checks every promise that holds for any conversation. `None` when it was refused.
fn trim_and_check(call: &Call, policy: &TrimPolicy) -> Option<Call> {
    let budget = policy.budget().expect("the test names a budget");
    let before = messages(call);
    let valid = refusal(&before).is_none();
    let plan = match trim::plan(call, policy) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(error.is_over_budget(), "only too small a budget is a reason to refuse: {error}");
            if valid {
                let least = count(&chat(&protected(&before))).at_most;
                assert!(least > budget, "the protected part of {least} fits {budget}, yet: {error}");
            }
            return None;
        }
    };
    assert_eq!(plan, trim::plan(call, policy).expect("it worked once"), "the same input gives the same plan");
    let mut trimmed = call.clone();
    trim::apply(&mut trimmed, &plan).expect("its own plan can be applied");
    let after = messages(&trimmed);

    let counted = count(&trimmed);
    assert!(counted.at_most <= budget, "{} tokens are over the budget of {budget}", counted.at_most);
    assert_eq!((plan.after, plan.at_most_after), (Some(counted.likely), Some(counted.at_most)));
    assert_eq!(plan.dropped as usize, before.len() - after.len());
    if count(call).at_most <= budget {
        assert_eq!(trimmed.doc.bytes(), call.doc.bytes(), "what fits is untouched");
    }

    let kept: Vec<usize> = (0..before.len()).filter(|&i| plan.keep[i]).collect();
    assert_eq!(kept.len(), after.len());
    for (&i, now) in kept.iter().zip(&after) {
        if plan.cleared.contains(&i) {
            let (then, now): (Value, Value) = (read(&before[i]), read(now));
            assert_eq!(then["tool_call_id"], now["tool_call_id"], "a cleared result still answers its call");
            assert_eq!(now["content"], CLEARED);
            assert_eq!(now["role"], "tool", "only tool results are cleared");
        } else {
            assert_eq!(&before[i], now, "message {i} is kept byte for byte, in order");
        }
    }
    for (i, message) in before.iter().enumerate() {
        let role = role(message);
        let last_user = role == "user" && !before[i + 1..].iter().any(|later| self::role(later) == "user");
        if matches!(role.as_str(), "system" | "developer") || last_user || i + 1 == before.len() {
            assert!(plan.keep[i], "message {i} ({role}) may never be dropped");
        }
    }
    for name in ["model", "seed", "n"] {
        assert_eq!(call.doc.get(name), trimmed.doc.get(name), "`{name}` keeps its spelling");
    }
    if valid {
        assert_eq!(refusal(&after), None, "a valid conversation stays valid");
        if let Some(first) = after
            .iter()
            .map(|message| role(message))
            .find(|role| !matches!(role.as_str(), "system" | "developer") && plan.dropped > 0)
        {
            let had_user = before.iter().any(|message| role_is(message, "user"));
            assert!(
                first == "user" || !had_user,
                "the first message after the rules is the user's, not {first}"
            );
        }
    }
    let again = trim::plan(&trimmed, policy).expect("what was trimmed fits");
    assert!(!again.changes(), "trimming twice is trimming once");
    Some(trimmed)
}

fn role_is(message: &str, name: &str) -> bool {
    role(message) == name
}

#[derive(Clone, Debug)]
enum Step {
    Tools { results: Vec<usize>, reversed: bool },
    Say(usize),
    Rule(bool),
}

#[derive(Clone, Debug)]
struct Turn {
    words: usize,
    picture: bool,
    steps: Vec<Step>,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (prop::collection::vec(0..60usize, 1..4), any::<bool>())
            .prop_map(|(results, reversed)| Step::Tools { results, reversed }),
        3 => (0..40usize).prop_map(Step::Say),
        1 => any::<bool>().prop_map(Step::Rule),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    (0..40usize, prop::bool::weighted(0.15), prop::collection::vec(step(), 0..8))
        .prop_map(|(words, picture, steps)| Turn { words, picture, steps })
}

/// A valid conversation: rules, perhaps a greeting, turns with parallel tool calls answered in any order.
fn conversation() -> impl Strategy<Value = Vec<String>> {
    (prop::option::of(0..30usize), any::<bool>(), any::<bool>(), prop::collection::vec(turn(), 1..10)).prop_map(
        |(rules, greeting, fresh_ids, turns)| {
            let mut out = Vec::new();
            out.extend(rules.map(|words| said("system", &"règle ".repeat(words))));
            out.extend(greeting.then(|| said("assistant", "Hello! \u{1f600}")));
            let mut id = 0;
            for turn in turns {
                out.push(if turn.picture {
                    r#"{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}"#.to_owned()
                } else {
                    said("user", &"mot \n".repeat(turn.words))
                });
                for step in turn.steps {
                    match step {
                        Step::Say(words) => out.push(said("assistant", &"ja \"so\" ".repeat(words))),
                        Step::Rule(true) => out.push(said("developer", "Be kind.")),
                        Step::Rule(false) => out.push(said("system", "Be brief.")),
                        Step::Tools { results, reversed } => {
                            // Some servers number the calls of each message from 0 again.
                            id = if fresh_ids { id } else { 0 };
                            let ids: Vec<String> = (0..results.len()).map(|n| format!("call_{}", id + n)).collect();
                            id += ids.len();
                            out.push(calls(&ids));
                            let mut answers: Vec<String> = ids
                                .iter()
                                .zip(&results)
                                .map(|(id, words)| result(id, &"[1.0, \"x\"] ".repeat(*words)))
                                .collect();
                            if reversed {
                                answers.reverse();
                            }
                            out.extend(answers);
                        }
                    }
                }
            }
            out
        },
    )
}

fn policies() -> impl Strategy<Value = TrimPolicy> {
    (0..1_001u32, any::<bool>(), 0..5usize).prop_map(|(step, clear, keep)| {
        TrimPolicy::new().with_step(step).with_cleared_results(clear).with_kept_results(keep)
    })
}

/// Counting is slow in the slower build.
const CASES: u32 = if cfg!(debug_assertions) { 100 } else { 400 };

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn every_promise_holds_for_any_conversation(
        conversation in conversation(), policy in policies(), share in 0..1_200u64,
    ) {
        let call = chat(&conversation);
        // Messages that break nothing but this policy's own rule of kept results are judged inside.
        let budget = count(&call).at_most * share / 1_000;
        trim_and_check(&call, &policy.with_budget(budget));
    }

    #[test]
    fn broken_pairs_are_left_as_they_were(
        conversation in conversation(), gone in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        share in 100..1_000u64,
    ) {
        let mut conversation = conversation;
        for index in gone {
            if conversation.len() > 1 {
                conversation.remove(index.index(conversation.len()));
            }
        }
        let call = chat(&conversation);
        let policy = TrimPolicy::new().with_budget(count(&call).at_most * share / 1_000);
        let Some(trimmed) = trim_and_check(&call, &policy) else { return Ok(()) };
        prop_assert!(flaws(&messages(&trimmed)) <= flaws(&messages(&call)), "trimming broke a pair that was whole");
    }

    #[test]
    fn any_body_is_survived(body in "\\PC{0,200}", budget in 0..100u64) {
        for body in [body.clone(), format!(r#"{{"messages":[{body}]}}"#), format!(r#"{{"messages":[{{"role":"user","content":{body:?}}}]}}"#)] {
            let parts = Call::post(URI, "{}").parts;
            for dialect in Dialect::ALL {
                let call = Call::new(dialect, parts.clone(), body.clone());
                if let Ok(plan) = trim::plan(&call, &TrimPolicy::new().with_budget(budget)) {
                    let mut trimmed = call.clone();
                    trim::apply(&mut trimmed, &plan).expect("its own plan can be applied");
                }
            }
        }
    }
}

/// Calls without a result and results without a call, by the nearest pairing.
fn flaws(messages: &[String]) -> usize {
    let mut open: Vec<String> = Vec::new();
    let mut flaws = 0;
    for raw in messages {
        let message: Value = serde_json::from_str(raw).expect("messages are JSON");
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            match open.iter().rposition(|open| open == id) {
                Some(at) => drop(open.remove(at)),
                None => flaws += 1,
            }
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            open.push(call["id"].as_str().unwrap_or_default().to_owned());
        }
    }
    flaws + open.len()
}

fn half_of(conversation: &[String]) -> TrimPolicy {
    TrimPolicy::new().with_budget(count(&chat(conversation)).at_most / 2)
}

fn at_all_budgets(conversation: &[String]) {
    let call = chat(conversation);
    let most = count(&call).at_most;
    for clear in [true, false] {
        let mut fitted = 0;
        for budget in (0..=10).map(|n| most * n / 10) {
            let policy = TrimPolicy::new().with_budget(budget).with_cleared_results(clear);
            fitted += u32::from(trim_and_check(&call, &policy).is_some());
        }
        assert!(fitted > 0, "the whole budget lets everything through");
    }
}

#[test]
fn result_never_without_its_call() {
    let text = "word ".repeat(30);
    at_all_budgets(&[
        said("user", &text),
        calls(&["a".into(), "b".into()]),
        result("b", &text),
        result("a", &text),
        said("user", "go on"),
    ]);
    // The cut falls within the last turn.
    let mut long = vec![said("user", "do it")];
    for i in 0..12 {
        long.push(calls(&[format!("c{i}"), format!("d{i}")]));
        long.push(result(&format!("d{i}"), &text));
        long.push(result(&format!("c{i}"), &text));
    }
    at_all_budgets(&long);
}

#[test]
fn call_never_without_its_results() {
    let text = "word ".repeat(30);
    let conversation = [
        said("system", "rules"),
        said("user", &text),
        calls(&["a".into()]),
        result("a", &text),
        said("assistant", &text),
        said("user", "and?"),
        calls(&["b".into(), "c".into(), "d".into()]),
        result("b", &text),
        result("c", &text),
        result("d", &text),
    ];
    at_all_budgets(&conversation);
}

#[test]
fn trim_shrinks_and_ends() {
    let huge = "word ".repeat(50_000);
    at_all_budgets(&[said("user", &huge), said("assistant", "ok"), said("user", "short")]);
    let call = chat(&[said("user", "short"), said("assistant", "ok"), said("user", &huge)]);
    let error = trim::plan(&call, &TrimPolicy::new().with_budget(100))
        .expect_err("the last message alone is too long");
    assert!(error.is_over_budget(), "it is an error, never the untouched input in silence");
}

#[test]
fn list_content_is_trimmed() {
    let list = |text: &str| format!(r#"{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}"#);
    let conversation = [list(&"word ".repeat(90)), said("assistant", "ok"), list("and now?")];
    let trimmed = trim_and_check(&chat(&conversation), &half_of(&conversation)).expect("it fits");
    assert_eq!(messages(&trimmed), [list("and now?")]);
}

#[test]
fn system_survives_in_place() {
    let text = "word ".repeat(120);
    let conversation = [
        said("system", "first"),
        said("user", &text),
        said("system", "second"),
        said("assistant", &text),
        said("developer", "third"),
        said("user", "last"),
    ];
    let trimmed = trim_and_check(&chat(&conversation), &half_of(&conversation)).expect("it fits");
    let kept = [0, 2, 4, 5].map(|i| conversation[i].clone());
    assert_eq!(messages(&trimmed), kept, "rules stay, in order, never merged");
}

#[test]
fn thinking_is_whole_or_absent() {
    let thought = |id: &str| {
        calls(&[id.to_owned()])
            .replace("\"content\":null", "\"content\":null,\"reasoning_content\":\"hm \\u00e9 hm\"")
    };
    let mut conversation = vec![said("user", "go")];
    for i in 0..9 {
        conversation.push(thought(&format!("c{i}")));
        conversation.push(result(&format!("c{i}"), &"word ".repeat(20)));
    }
    // Kept messages are compared byte for byte in there.
    at_all_budgets(&conversation);
}

#[test]
fn prefix_holds_between_cuts() {
    let mut conversation = vec![said("system", &"rule ".repeat(100))];
    let mut before: Vec<String> = Vec::new();
    let (mut moves, mut turns) = (0, 0);
    for turn in 0..150 {
        conversation.push(said("user", &format!("question {turn} {}", "word ".repeat(30))));
        let trimmed =
            trim_and_check(&chat(&conversation), &TrimPolicy::new().with_budget(8_000)).expect("it fits");
        let now = messages(&trimmed);
        assert_eq!(now[0], conversation[0], "the rules in front never change");
        turns += u32::from(now.len() < conversation.len());
        moves += u32::from(!now.starts_with(&before));
        before = now;
        conversation.push(said("assistant", &"word ".repeat(35)));
    }
    assert!(turns > 0, "the conversation outgrew its budget");
    assert!(moves * 4 <= turns, "the front moved {moves} times in {turns} turns that were trimmed");
}

fn data(name: &str) -> Option<Vec<u8>> {
    let base = std::env::var_os("THRIFTY_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let bytes = std::fs::read(base.join(name)).ok();
    if bytes.is_none() {
        println!("skipped: {name} is not there (set THRIFTY_DATA)");
    }
    bytes
}

/// A message of the vectors, whose tool calls are bare ids, as OpenAI spells it.
fn of_vector(message: &Value) -> String {
    let role = message["role"].as_str().unwrap_or("user");
    if role == "tool" {
        let id = message["tool_call_id"].as_str().unwrap_or_default();
        return format!(r#"{{"role":"tool","tool_call_id":"{id}","content":{}}}"#, message["content"]);
    }
    let ids: Vec<String> = message["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|id| Some(id.as_str().or_else(|| id["id"].as_str())?.to_owned()))
        .collect();
    if ids.is_empty() {
        return format!(r#"{{"role":{role:?},"content":{}}}"#, message["content"]);
    }
    calls(&ids)
}

#[test]
fn conversations_that_broke_elsewhere_stay_valid() {
    let (mut cases, mut flagged) = (0, 0);
    for name in ["trim_vectors/langchain_tool_pairing.json", "trim_vectors/langchain_trim_messages.json"] {
        let Some(bytes) = data(name) else { return };
        let file: Value = serde_json::from_slice(&bytes).expect("the vectors are JSON");
        for case in ["cases", "suite", "generated"]
            .iter()
            .flat_map(|list| file[list].as_array().into_iter().flatten())
        {
            let conversation: Vec<String> =
                case["messages"].as_array().into_iter().flatten().map(of_vector).collect();
            cases += 1;
            flagged += u32::from(case["langchain_output_has_orphan_tool_message"] == true);
            at_all_budgets(&conversation);
        }
    }
    assert!(cases > 50 && flagged > 0, "{cases} cases, {flagged} of them counter-examples");
}

#[test]
fn recorded_agent_conversations_stay_valid() {
    let Some(bytes) = data("traces/tau_bench_gpt4o_airline.json.gz") else { return };
    let file: Value =
        serde_json::from_reader(flate2::read::GzDecoder::new(&bytes[..])).expect("the trace is JSON");
    let counter = Counter::default();
    let (mut requests, mut trimmed, mut refused) = (0, 0, 0);
    for episode in file.as_array().into_iter().flatten() {
        let all: Vec<&Value> = episode["traj"].as_array().into_iter().flatten().collect();
        let texts: Vec<String> = all.iter().map(|message| message.to_string()).collect();
        for end in (1..all.len()).filter(|&end| all[end]["role"] == "assistant") {
            requests += 1;
            let call = chat(&texts[..end]);
            let most = counter.count(&call).at_most;
            // The slower build takes the budgets in turn.
            let shares =
                if cfg!(debug_assertions) { &[[950, 700, 450][requests % 3]][..] } else { &[950, 700, 450] };
            for thousandths in shares {
                match trim::plan_with(
                    &call,
                    &TrimPolicy::new().with_budget(most * thousandths / 1_000),
                    &counter,
                ) {
                    Ok(plan) => {
                        let mut call = call.clone();
                        trim::apply(&mut call, &plan).expect("its own plan can be applied");
                        assert_eq!(refusal(&messages(&call)), None, "task {}", episode["task_id"]);
                        trimmed += u32::from(plan.changes());
                    }
                    Err(error) => {
                        assert!(error.is_over_budget(), "{error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    println!("{requests} requests, {trimmed} plans that cut, {refused} over budget");
    assert!(requests > 1_000 && trimmed > 500, "{requests} requests, {trimmed} plans that cut");
}

/// One message of an Anthropic conversation: what it holds, spelt as on the wire.
fn blocks(role: &str, blocks: &[String]) -> String {
    format!(r#"{{"role":"{role}","content":[{}]}}"#, blocks.join(", "))
}

/// Why Anthropic would refuse this conversation.
fn anthropic_refusal(messages: &[String]) -> Option<String> {
    let mut open: HashSet<String> = HashSet::new();
    for (i, raw) in messages.iter().enumerate() {
        let message: Value = serde_json::from_str(raw).expect("messages are JSON");
        let of_kind = |kind: &str, id: &str| -> HashSet<String> {
            let blocks = message["content"].as_array().into_iter().flatten();
            let these = blocks.filter(|block| block["type"] == kind);
            these.map(|block| block[id].as_str().unwrap_or_default().to_owned()).collect()
        };
        let results = of_kind("tool_result", "tool_use_id");
        if results != open {
            return Some(format!("message {i} answers {results:?} where {open:?} was called just before"));
        }
        open = of_kind("tool_use", "id");
        if i == 0 && message["role"] != "user" {
            return Some("the first message is not the user's".to_owned());
        }
    }
    (!open.is_empty()).then(|| format!("{open:?} is never answered"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn anthropic_conversations_stay_valid(
        turns in prop::collection::vec(turn(), 1..8), share in 0..1_000u64, words in any::<bool>(), marked in any::<bool>(),
    ) {
        let text = |text: &str| format!(r#"{{"type":"text","text":{text:?}}}"#);
        let mark = if marked { r#","cache_control":{"type":"ephemeral"}"# } else { "" };
        let (mut all, mut id) = (Vec::new(), 0);
        for turn in &turns {
            all.push(said("user", &format!("so? {}", "mot \n".repeat(turn.words))));
            for step in &turn.steps {
                let Step::Tools { results, .. } = step else {
                    all.push(blocks("assistant", &[text("Very well.")]));
                    continue;
                };
                let ids: Vec<String> = results.iter().map(|_| { id += 1; format!("toolu_{id}") }).collect();
                let mut said = vec![r#"{"type":"thinking","thinking":"hm","signature":"c2ln"}"#.to_owned(), text("Let me see.")];
                said.extend(ids.iter().map(|id| format!(r#"{{"type":"tool_use","id":"{id}","name":"look","input":{{"at":1.50}}}}"#)));
                all.push(blocks("assistant", &said));
                let answer = |(id, words): (&String, &usize)| {
                    format!(r#"{{"type":"tool_result","tool_use_id":"{id}","content":{:?}{mark}}}"#, "res ult ".repeat(*words))
                };
                let mut answers: Vec<String> = ids.iter().zip(results).map(answer).collect();
                if words && id % 3 == 0 {
                    answers.push(text("and hurry"));
                }
                all.push(blocks("user", &answers));
            }
        }
        prop_assert_eq!(anthropic_refusal(&all), None, "the test makes valid conversations");
        let body = format!(r#"{{"model":"claude-haiku-4-5","max_tokens":64,"system":"Rules.","messages":[{}]}}"#, all.join(","));
        let call = Call::post("https://api.anthropic.com/v1/messages", body);
        let budget = count(&call).at_most * share / 1_000;
        let plan = match trim::plan(&call, &TrimPolicy::new().with_budget(budget)) {
            Ok(plan) => plan,
            Err(error) => { prop_assert!(error.is_over_budget(), "{}", error); return Ok(()) }
        };
        prop_assert_eq!(plan.note, None, "the conversation was read");
        let mut trimmed = call.clone();
        trim::apply(&mut trimmed, &plan).expect("its own plan can be applied");
        let after = messages(&trimmed);
        prop_assert!(count(&trimmed).at_most <= budget);
        prop_assert_eq!(anthropic_refusal(&after), None, "a valid conversation stays valid");
        let kept = (0..all.len()).filter(|&i| plan.keep[i]);
        for (i, now) in kept.zip(&after) {
            prop_assert!(plan.cleared.contains(&i) || &all[i] == now, "message {i} is kept byte for byte, thinking and all");
            prop_assert!(!plan.cleared.contains(&i) || now.contains(CLEARED) && !now.contains("res ult res"));
        }
        prop_assert!(plan.keep.last() == Some(&true), "the newest exchange stays");
        prop_assert!(!trim::plan(&trimmed, &TrimPolicy::new().with_budget(budget)).expect("it fits").changes());
    }
}

fn upstream() -> (impl Service<Call, Response = Reply, Error = BoxError> + Clone, Arc<Mutex<Vec<Call>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let calls = seen.clone();
    let service = service_fn(move |call: Call| {
        calls.lock().expect("no test thread panicked").push(call);
        async { Ok::<_, BoxError>(Reply::new(ReplyBody::from("{}"))) }
    });
    (service, seen)
}

#[tokio::test]
async fn the_layer_trims_and_writes_it_down() {
    let (upstream, seen) = upstream();
    let text = "word ".repeat(60);
    let mut call = chat(&[said("user", &text), said("assistant", &text), said("user", "go on")]);
    let draft = Draft::default();
    call.parts.extensions.insert(draft.clone());
    let before = count(&call);
    let policy = TrimPolicy::new().with_budget(before.at_most * 2 / 3);

    TrimLayer::new(policy).layer(upstream).oneshot(call).await.expect("it fits");

    let sent = seen.lock().expect("no test thread panicked").pop().expect("it was sent");
    assert_eq!(messages(&sent), [said("user", "go on")]);
    let receipt = draft.peek();
    assert_eq!(receipt.tokens_before, Some(before.likely));
    assert_eq!(receipt.tokens_after, Some(count(&sent).likely));
    assert_eq!(receipt.dropped_messages, 2);
    assert!(receipt.breaks_prefix, "the call before this one fitted whole");
    assert!(receipt.notes.is_empty(), "{:?}", receipt.notes);
}

#[tokio::test]
async fn a_call_over_its_budget_is_refused_and_nothing_is_sent() {
    let (upstream, seen) = upstream();
    let call = chat(&[said("user", &"word ".repeat(60))]).with(Options::new().budget(7));
    let error =
        TrimLayer::new(TrimPolicy::new()).layer(upstream).oneshot(call).await.expect_err("it cannot fit");
    let ours = Error::find(&*error).expect("the error is ours");
    assert!(ours.is_over_budget() && ours.to_string().contains("is 7"), "{ours}");
    assert!(seen.lock().expect("no test thread panicked").is_empty(), "nothing was sent");
}

#[tokio::test]
async fn what_is_not_understood_passes_untouched() {
    let long = said("user", &"word ".repeat(60));
    let parts = || Call::post(URI, "{}").parts;
    for (call, told) in [
        (Call::new(Dialect::Opaque, parts(), "word ".repeat(60)), true),
        (Call::new(Dialect::OpenAiChat, parts(), format!(r#"{{"messages":[{long}],"messages":[]}}"#)), true),
        (Call::new(Dialect::OpenAiChat, parts(), format!(r#"{{"messages":"{}"}}"#, "x".repeat(99))), true),
    ] {
        let (upstream, seen) = upstream();
        let mut call = call;
        let draft = Draft::default();
        call.parts.extensions.insert(draft.clone());
        let before = call.doc.bytes().clone();
        TrimLayer::new(TrimPolicy::new().with_budget(7))
            .layer(upstream)
            .oneshot(call)
            .await
            .expect("it passes");
        let sent = seen.lock().expect("no test thread panicked").pop().expect("it was sent");
        assert_eq!(sent.doc.bytes(), &before, "byte for byte");
        assert_eq!(!draft.peek().notes.is_empty(), told, "and the receipt says why");
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let (mock, mut handle) = tower_test::mock::pair::<Call, Reply>();
    let mut trim = TrimLayer::new(TrimPolicy::new()).layer(mock);
    handle.allow(0);
    let ready = std::future::poll_fn(|cx| std::task::Poll::Ready(trim.poll_ready(cx).is_pending())).await;
    assert!(ready, "an inner service that is busy makes it busy");
    handle.allow(1);
    std::future::poll_fn(|cx| trim.poll_ready(cx)).await.expect("now it is ready");
}
