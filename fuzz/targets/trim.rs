//! A plan keeps tool calls and their results together, and what it says is what happens.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use thrifty::call::Call;
use thrifty::trim::{self, TrimPolicy};

const PATHS: [&str; 5] = [
    "http://h/v1/chat/completions",
    "http://h/v1/messages",
    "http://h/v1/responses",
    "http://h/v1beta/models/m:generateContent",
    "http://h/api/chat",
];

fuzz_target!(|data: &[u8]| {
    let [head, budget, data @ ..] = data else { return };
    let mut call = Call::post(PATHS[usize::from(*head) % PATHS.len()], data.to_vec());
    let policy = TrimPolicy::new()
        .with_budget(u64::from(*budget) * 4)
        .with_step(if *head > 127 { 0 } else { 500 })
        .with_cleared_results(*head % 2 == 0);
    let Ok(plan) = trim::plan(&call, &policy) else { return };
    let again = trim::plan(&call, &policy).expect("it went well once");
    assert_eq!(plan.keep, again.keep, "a plan is a pure function");
    let before: Vec<String> =
        call.format().prompt(&call).messages.iter().map(|message| message.raw.to_owned()).collect();
    let tied = ties(&call);
    let untouched = call.doc.bytes().clone();
    if trim::apply(&mut call, &plan).is_err() {
        assert_eq!(call.doc.bytes(), &untouched, "a refused edit changes nothing");
        return;
    }
    if !plan.changes() {
        assert_eq!(call.doc.bytes(), &untouched);
        return;
    }
    let kept = plan.keep.iter().filter(|kept| **kept).count();
    let format = call.format();
    assert_eq!(format.prompt(&call).messages.len(), kept, "as many stay as the plan says");
    assert!(kept <= before.len());
    // A result that had its call before has it after.
    let after: HashSet<String> = calls(&call);
    for result in results(&call) {
        assert!(!tied.contains(&result) || after.contains(&result), "a result without its call");
    }
});

fn calls(call: &Call) -> HashSet<String> {
    let prompt = call.format().prompt(call);
    prompt
        .messages
        .iter()
        .flat_map(|message| message.calls().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn results(call: &Call) -> HashSet<String> {
    let prompt = call.format().prompt(call);
    prompt
        .messages
        .iter()
        .flat_map(|message| message.results().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Ids that are called once and answered once, the call first.
fn ties(call: &Call) -> HashSet<String> {
    let prompt = call.format().prompt(call);
    let mut order: Vec<(String, bool)> = Vec::new();
    for message in &prompt.messages {
        order.extend(message.calls().map(|id| (id.to_owned(), true)));
        order.extend(message.results().map(|id| (id.to_owned(), false)));
    }
    let spots = |id: &str, is_call: bool| -> Vec<usize> {
        (0..order.len()).filter(|at| order[*at].0 == id && order[*at].1 == is_call).collect()
    };
    calls(call)
        .into_iter()
        .filter(
            |id| matches!((&spots(id, true)[..], &spots(id, false)[..]), ([call], [result]) if call < result),
        )
        .collect()
}
