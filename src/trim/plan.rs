//! What to cut out of a call, worked out without touching it.

use std::cell::OnceCell;

use super::TrimPolicy;
use super::grid::{Costs, Decision, Limits, decide};
use super::shape::Shape;
use crate::call::{Call, Element, Options};
use crate::dialect::Prompt;
use crate::tokens::{self, Both, Count, Counter};
use crate::{Error, Kind};

/// What stands in place of a tool result that was cleared. The same for every call, so that it never moves a prefix.
/// It asks for nothing: a tool that runs again may act again.
pub const CLEARED: &str = "[This tool result was removed to save room.]";

/// How often a cut is tried deeper before all that may go goes.
const ATTEMPTS: u32 = 8;

/// Counts are scaled in sixteenths, so that a bound that drifts a little does not move a cut.
const SIXTEENTHS: u64 = 16;

/// What to cut out of a call. See the [module docs](crate::trim).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// For each message in the order of the wire, whether it stays. Empty when the call was not looked into.
    pub keep: Vec<bool>,
    /// Messages whose tool results are cleared, as places in `keep`, in order; all of them stay.
    pub cleared: Vec<usize>,
    /// How many messages go.
    pub dropped: u64,
    /// Likely prompt tokens as the caller sent it; `None` when nobody counted.
    pub before: Option<u64>,
    /// Likely prompt tokens once the plan is applied; `None` when nobody counted.
    pub after: Option<u64>,
    /// Upper bound of the prompt tokens once the plan is applied; at most the budget.
    pub at_most_after: Option<u64>,
    /// Place of the first message that is dropped or changed; all bytes in front of it stay.
    pub cut_at: Option<usize>,
    /// True if the cut lies elsewhere than it lay for the call before this one in the same conversation, so that the
    /// provider's prompt cache is read only up to the cut. Told from the history: the call before ended at the
    /// last answer.
    pub breaks_prefix: bool,
    /// True if the cut lies in front of a cache mark the caller set, which then marks another prefix.
    pub crosses_mark: bool,
    /// Why the call could not be trimmed, if so; it is then left as it is.
    pub note: Option<&'static str>,
}

impl Plan {
    /// True if applying it changes the call.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.cut_at.is_some()
    }

    /// Likely tokens the plan saves.
    #[must_use]
    pub fn saved(&self) -> u64 {
        self.before.unwrap_or(0).saturating_sub(self.after.unwrap_or(0))
    }

    fn fitting(counted: &Count, messages: usize) -> Self {
        Self {
            keep: vec![true; messages],
            before: Some(counted.likely),
            after: Some(counted.likely),
            at_most_after: Some(counted.at_most),
            ..Self::default()
        }
    }

    fn of(decision: &Decision, messages: usize) -> Self {
        let mut keep = vec![true; messages];
        for &i in &decision.drop {
            keep[i] = false;
        }
        Self {
            dropped: decision.drop.len() as u64,
            cut_at: decision.drop.iter().chain(&decision.clear).min().copied(),
            cleared: decision.clear.clone(),
            keep,
            ..Self::default()
        }
    }
}

/// What to cut out of `call` so that it fits the budget of its [`Options`] or else of `policy`. Nothing without a
/// budget, and nothing from a call that cannot be looked into or edited ([`Plan::note`] says why).
///
/// Pure: the same call and policy give the same plan, and a call that was trimmed is not trimmed again.
///
/// # Errors
/// [`Kind::OverBudget`] when what may not be cut does not fit; the message names both numbers.
pub fn plan(call: &Call, policy: &TrimPolicy) -> Result<Plan, Error> {
    let count = |call: &Call| Both { raw: tokens::count(call), corrected: None };
    plan_by(call, policy, &count).map(|planned| planned.plan)
}

/// The plan that [`plan`] makes, counted by a counter that remembers the messages it has seen.
///
/// A conversation that grew by one message costs the counting of that message. A counter's
/// [`Calibration`](crate::tokens::Calibration) decides whether the call fits, and no more than the depth of a cut by
/// sixteenths: the grid that cuts lie on stays where it is while the calibration learns.
///
/// # Errors
/// As [`plan`].
pub fn plan_with(call: &Call, policy: &TrimPolicy, counter: &Counter) -> Result<Plan, Error> {
    plan_told(call, policy, counter, None).map(|planned| planned.plan)
}

/// What is to be cut, and what the start factors make of the call once it is.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// `None` when nobody counted.
    pub(super) raw_after: Option<Count>,
}

/// [`plan_with`], with what the provider told of the call as it stands.
pub(super) fn plan_told(
    call: &Call,
    policy: &TrimPolicy,
    counter: &Counter,
    told: Option<&Count>,
) -> Result<Planned, Error> {
    let untouched = call.doc.bytes().as_ptr();
    plan_by(call, policy, &|call| {
        let mut both = counter.both(call);
        if let Some(told) = told.filter(|_| call.doc.bytes().as_ptr() == untouched) {
            both.corrected = Some(told.clone());
        }
        both
    })
}

impl Planned {
    fn untouched(note: Option<&'static str>) -> Self {
        Self { plan: Plan { note, ..Plan::default() }, raw_after: None }
    }
}

/// The budget `call` is held to, if any.
pub(super) fn budget_of(call: &Call, policy: &TrimPolicy) -> Option<u64> {
    let asked = Options::among(&call.parts.extensions).and_then(|options| options.budget);
    asked.or(policy.budget())
}

/// A call that has a budget and messages that can be cut.
struct Subject<'a> {
    budget: u64,
    member: &'static str,
    prompt: Prompt<'a>,
}

impl<'a> Subject<'a> {
    /// # Errors
    /// Why there is nothing to cut, if that is worth a note.
    fn of(call: &'a Call, policy: &TrimPolicy) -> Result<Self, Option<&'static str>> {
        let budget = budget_of(call, policy).ok_or(None)?;
        let member =
            call.format().messages_member().ok_or(Some("not trimmed: the call's format is not known"))?;
        if !call.doc.is_editable() {
            return Err(Some("not trimmed: the body cannot be edited"));
        }
        let prompt = call.format().prompt(call);
        if call.doc.elements(member).map(|messages| messages.len()) != Some(prompt.messages.len()) {
            return Err(Some("not trimmed: the body has no messages that can be read"));
        }
        Ok(Self { budget, member, prompt })
    }
}

/// [`plan`], counting with `count`.
fn plan_by(call: &Call, policy: &TrimPolicy, count: &dyn Fn(&Call) -> Both) -> Result<Planned, Error> {
    let Subject { budget, member, prompt } = match Subject::of(call, policy) {
        Ok(subject) => subject,
        Err(why) => return Ok(Planned::untouched(why)),
    };
    let elements = prompt.messages.len();
    let counted = count(call);
    if counted.now().at_most <= budget {
        let plan = Plan::fitting(counted.now(), elements);
        return Ok(Planned { plan, raw_after: Some(counted.raw) });
    }
    let mut costs = counted.raw.parts.messages.clone();
    costs.resize(elements, 0);

    let shape = Shape::of(&prompt.messages);
    let clear = || cleared_costs(call, member, &shape, &costs, count);
    let cleared = OnceCell::new();
    let costs = Costs { total: counted.raw.likely, messages: &costs, cleared: &cleared, clear: &clear };

    let mut scale = ratio(&counted);
    let mut attempt = 0;
    loop {
        attempt += 1;
        // Each attempt cuts deeper; the last one leaves only what may never go.
        let last = attempt == ATTEMPTS;
        let limits = if last { to_the_bone(policy) } else { limits(policy, budget, scale) };
        let decision =
            decide(&shape, &Costs { total: if last { u64::MAX } else { costs.total }, ..costs }, limits);
        let mut plan = Plan::of(&decision, elements);
        let after = if plan.changes() {
            let mut trimmed = call.clone();
            apply(&mut trimmed, &plan)?;
            count(&trimmed)
        } else {
            counted.clone()
        };
        if after.now().at_most > budget {
            if last || decision.exhausted {
                return Err(refusal(call, after.now().at_most, budget));
            }
            // What stays is less surely counted than the whole was, a picture for one: cut for the worse of both.
            scale = ratio(&after).max(scale.saturating_add(1));
            continue;
        }
        plan.before = Some(counted.now().likely);
        plan.after = Some(after.now().likely);
        plan.at_most_after = Some(after.now().at_most);
        let cut = plan.cut_at.unwrap_or(elements);
        plan.crosses_mark =
            prompt.messages[cut..].iter().any(|message| call.format().has_cache_mark(message.raw));
        plan.breaks_prefix = moved(&prompt.messages, &decision, &costs, limits);
        return Ok(Planned { plan, raw_after: Some(after.raw) });
    }
}

/// Scales beyond which no count is corrected, in sixteenths: four times the start factors.
const SCALES: std::ops::RangeInclusive<u64> = 1..=4 * SIXTEENTHS;

/// Every plan but that of leaving all as it is which some count of the provider's, or something learned, could have
/// led to.
pub(super) fn plans_at_any_scale(call: &Call, policy: &TrimPolicy, counter: &Counter) -> Vec<Plan> {
    let Ok(Subject { budget, member, prompt }) = Subject::of(call, policy) else { return Vec::new() };
    let elements = prompt.messages.len();
    if elements == 0 {
        return Vec::new();
    }
    let raw = counter.uncalibrated(call);
    let mut costs = raw.parts.messages.clone();
    costs.resize(elements, 0);
    let shape = Shape::of(&prompt.messages);
    let count = |call: &Call| counter.both(call);
    let clear = || cleared_costs(call, member, &shape, &costs, &count);
    let cleared = OnceCell::new();
    let costs = Costs { total: raw.likely, messages: &costs, cleared: &cleared, clear: &clear };
    let bone = decide(&shape, &Costs { total: u64::MAX, ..costs }, to_the_bone(policy));
    let mut plans: Vec<Plan> = Vec::new();
    for decision in SCALES.map(|scale| decide(&shape, &costs, limits(policy, budget, scale))).chain([bone]) {
        let plan = Plan::of(&decision, elements);
        if plan.changes() && !plans.contains(&plan) {
            plans.push(plan);
        }
    }
    plans
}

#[cold]
fn refusal(call: &Call, needed: u64, budget: u64) -> Error {
    if !tokens::refers_elsewhere(call) {
        return Error::over_budget(needed, budget);
    }
    let problem = format!(
        "the prompt may take {needed} tokens, {} of them text kept at the provider that it refers to, and its budget is {budget}",
        tokens::WINDOW
    );
    Error::new(Kind::OverBudget, problem, "send that text in the call, or leave this call without a budget")
}

/// Upper bound over the count by start factors, in sixteenths, rounded up: what was learned moves it rarely.
fn ratio(count: &Both) -> u64 {
    count.now().at_most.saturating_mul(SIXTEENTHS).div_ceil(count.raw.likely.max(1)).max(1)
}

fn limits(policy: &TrimPolicy, budget: u64, scale: u64) -> Limits {
    let budget =
        u64::try_from(u128::from(budget) * u128::from(SIXTEENTHS) / u128::from(scale)).unwrap_or(budget);
    let (clear, keep_results) = policy.clearing();
    Limits { budget, step: policy.step_of(budget), clear, keep_results }
}

/// Limits that leave only what may never go, together with an endless total.
fn to_the_bone(policy: &TrimPolicy) -> Limits {
    let (clear, keep_results) = policy.clearing();
    Limits { budget: 0, step: 1, clear, keep_results }
}

/// Costs of the messages once all old tool results of the last turn are cleared.
fn cleared_costs(
    call: &Call,
    member: &str,
    shape: &Shape,
    costs: &[u64],
    count: &dyn Fn(&Call) -> Both,
) -> Vec<u64> {
    let format = call.format();
    let mut cleared = call.clone();
    let mut tools: Vec<usize> =
        shape.units.iter().filter(|unit| unit.tool).flat_map(|unit| unit.messages.clone()).collect();
    tools.sort_unstable();
    let edited = cleared.doc.edit_elements(member, |i, message| {
        match tools.binary_search(&i).is_ok().then(|| format.clear_tool_results(message, CLEARED)).flatten() {
            Some(text) => Element::Replace(text),
            None => Element::Keep,
        }
    });
    let after = edited.map(|()| count(&cleared).raw.parts.messages);
    after.ok().filter(|after| after.len() == costs.len()).unwrap_or_else(|| costs.to_vec())
}

/// True if the same rule cut the call before this one elsewhere. That call ended where the last answer begins.
fn moved(
    messages: &[crate::dialect::Message<'_>],
    decision: &Decision,
    costs: &Costs<'_>,
    limits: Limits,
) -> bool {
    use crate::dialect::Role;
    let newest = messages.len() - 1;
    let Some(answer) = messages[..newest].iter().rposition(|message| message.role == Role::Assistant) else {
        return false;
    };
    let since: u64 = costs.messages[answer..].iter().sum();
    let before = Costs { total: costs.total.saturating_sub(since), ..*costs };
    let earlier = decide(&Shape::of(&messages[..answer]), &before, limits);
    let same = |now: &[usize], then: &[usize]| now.iter().filter(|i| **i < answer).eq(then);
    !same(&decision.drop, &earlier.drop) || !same(&decision.clear, &earlier.clear)
}

/// Cuts out of `call` what `plan` says. What stays keeps its bytes.
///
/// # Errors
/// [`Kind::NotEditable`] when the body cannot be edited, [`Kind::BadInput`] when the plan was made for another call.
/// The call is then as it was.
pub fn apply(call: &mut Call, plan: &Plan) -> Result<(), Error> {
    if !plan.changes() {
        return Ok(());
    }
    let format = call.format();
    let Some(member) = format.messages_member() else {
        return Err(Error::new(
            Kind::NotEditable,
            "the call's format is not known, so it cannot be trimmed",
            "send it to a path of a known API, or name its dialect",
        ));
    };
    let messages = call.doc.elements(member).map_or(0, |messages| messages.len());
    if messages != plan.keep.len() {
        return Err(Error::bad_input(
            format!("the plan is for {} messages and the call has {messages}", plan.keep.len()),
            "apply a plan to the call it was made for",
        ));
    }
    call.doc.edit_elements(member, |i, message| {
        if !plan.keep[i] {
            return Element::Drop;
        }
        match plan
            .cleared
            .binary_search(&i)
            .is_ok()
            .then(|| format.clear_tool_results(message, CLEARED))
            .flatten()
        {
            Some(text) => Element::Replace(text),
            None => Element::Keep,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Dialect;

    const URI: &str = "https://api.openai.com/v1/chat/completions";

    fn call(messages: &[String]) -> Call {
        Call::post(URI, format!(r#"{{"model":"gpt-4o","messages":[{}]}}"#, messages.join(",")))
    }

    fn said(role: &str, tokens: usize) -> String {
        format!(r#"{{"role":"{role}","content":"{}"}}"#, "word ".repeat(tokens))
    }

    /// One token for each word, and pictures whose bound is far over what is likely.
    fn words(call: &Call) -> Count {
        let mut count = tokens::count(call);
        let prompt = call.format().prompt(call);
        let pictures =
            prompt.messages.iter().filter(|message| message.raw.contains("image_url")).count() as u64;
        count.parts.messages =
            prompt.messages.iter().map(|message| message.raw.matches("word ").count() as u64 + 4).collect();
        count.likely = count.parts.messages.iter().sum::<u64>() + 3;
        count.at_most = count.likely + 500 * pictures;
        count
    }

    fn raw(count: impl Fn(&Call) -> Count) -> impl Fn(&Call) -> Both {
        move |call| Both { raw: count(call), corrected: None }
    }

    fn planned(call: &Call, budget: u64) -> Result<Plan, Error> {
        plan_by(call, &TrimPolicy::new().with_budget(budget), &raw(words)).map(|planned| planned.plan)
    }

    fn trimmed(call: &Call, plan: &Plan) -> Vec<String> {
        let mut call = call.clone();
        apply(&mut call, plan).unwrap();
        call.doc.elements("messages").unwrap().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn without_a_budget_nothing_is_counted_or_cut() {
        let call = call(&[said("user", 9_000)]);
        let count = |_: &Call| panic!("nobody asked for a count");
        let planned = plan_by(&call, &TrimPolicy::new(), &raw(count)).unwrap();
        assert_eq!(planned.plan, Plan::default());
        assert!(planned.raw_after.is_none());
    }

    #[test]
    fn the_budget_of_the_call_counts_more_than_that_of_the_policy() {
        let messages = [said("user", 50), said("assistant", 50), said("user", 10)];
        let call = call(&messages).with(Options::new().budget(1_000));
        assert!(!planned(&call, 20).unwrap().changes());
    }

    #[test]
    fn fitting_history_is_untouched() {
        let call =
            call(&[said("user", 10), said("assistant", 10), r#"{"role":"tool","content":"x"}"#.into()]);
        let plan = planned(&call, words(&call).at_most).unwrap();
        assert!(!plan.changes() && plan.keep == [true; 3] && plan.before == plan.after);
    }

    #[test]
    fn what_is_less_sure_is_cut_deeper() {
        let picture = r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a/b"}}]}"#;
        let messages = [
            said("user", 300),
            said("assistant", 300),
            picture.to_owned(),
            said("assistant", 9),
            said("user", 9),
        ];
        let plan = planned(&call(&messages), 400).unwrap();
        assert_eq!(plan.keep, [false, false, false, false, true], "the bound of the picture alone is 500");
        assert!(plan.at_most_after.is_some_and(|bound| bound <= 400));
    }

    #[test]
    fn over_budget_names_both_numbers() {
        let call = call(&[said("system", 50), said("user", 70), said("assistant", 20), said("user", 80)]);
        let error = planned(&call, 100).unwrap_err();
        assert!(error.is_over_budget());
        let needed = 54 + 84 + 3;
        assert!(error.problem().contains(&needed.to_string()) && error.problem().contains("100"), "{error}");
        assert!(planned(&call, needed).is_ok(), "and the number is the least that works");
    }

    #[test]
    fn a_prompt_that_is_all_weight_and_no_messages_ends_in_an_error() {
        let call = call(&[said("user", 1)]);
        let heavy = |_: &Call| Count { likely: 0, at_most: 10, ..Count::default() };
        let planned = plan_by(&call, &TrimPolicy::new().with_budget(5), &raw(heavy));
        assert!(planned.is_err_and(|error| error.is_over_budget()));
    }

    #[test]
    fn breaks_prefix_says_when_the_kept_front_moved() {
        let mut messages = vec![said("system", 40)];
        let (mut before, mut breaks): (Vec<String>, u32) = (Vec::new(), 0);
        for turn in 0..120 {
            messages.push(said("user", 20 + turn % 7));
            let call = call(&messages);
            let plan = planned(&call, 1_000).unwrap();
            let now = trimmed(&call, &plan);
            assert_eq!(plan.breaks_prefix, !now.starts_with(&before), "turn {turn}");
            breaks += u32::from(plan.breaks_prefix);
            before = now;
            messages.push(said("assistant", 30));
        }
        // About 6,100 tokens do not fit, and a step is 300.
        assert!((15..=24).contains(&breaks), "{breaks} cuts");
    }

    #[test]
    fn an_agent_loop_keeps_its_front_between_cuts_too() {
        let mut messages = vec![said("system", 40), said("user", 30)];
        let mut before: Vec<String> = Vec::new();
        let mut breaks = 0;
        for i in 0..100 {
            let id = format!("c{i}");
            messages.push(format!(
                r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{}"}}}}]}}"#,
                "word ".repeat(5)
            ));
            messages.push(format!(
                r#"{{"role":"tool","tool_call_id":"{id}","content":"{}"}}"#,
                "word ".repeat(60)
            ));
            let call = call(&messages);
            let plan = planned(&call, 1_500).unwrap();
            let now = trimmed(&call, &plan);
            assert_eq!(plan.breaks_prefix, !now.starts_with(&before), "call {i}");
            // Some of the old results may be cleared in the same breath as the newest comes.
            let front = before.len().saturating_sub(6);
            breaks += u32::from(!now.starts_with(&before[..front]));
            before = now;
        }
        assert!(breaks <= 20, "the front moved {breaks} times in 100 calls");
    }

    #[test]
    fn a_cut_in_front_of_a_cache_mark_is_told() {
        let marked =
            r#"{"role":"user","content":[{"type":"text","text":"hm","cache_control":{"type":"ephemeral"}}]}"#;
        let early =
            [said("user", 50), said("assistant", 50), marked.into(), said("assistant", 5), said("user", 5)];
        assert!(planned(&call(&early), 60).unwrap().crosses_mark);
        let none = [said("user", 50), said("assistant", 50), said("user", 5)];
        assert!(!planned(&call(&none), 60).unwrap().crosses_mark);
    }

    #[test]
    fn what_cannot_be_edited_is_left_alone_and_told() {
        let parts = || Call::post(URI, "{}").parts;
        let long = said("user", 500);
        for body in [
            format!(r#"{{"messages":[{long},{long}],"messages":[]}}"#),
            format!(r#"{{"messages":{long}}}"#),
            format!(r#"{{"prompt":"{long:?}"}}"#),
            "not JSON".to_owned(),
        ] {
            let call = Call::new(Dialect::OpenAiChat, parts(), body.clone());
            let plan = planned(&call, 10).unwrap();
            assert!(!plan.changes() && plan.note.is_some(), "{body}");
        }
        let opaque = Call::new(Dialect::Opaque, parts(), format!(r#"{{"messages":[{long}]}}"#));
        assert!(planned(&opaque, 10).unwrap().note.is_some());
    }

    #[test]
    fn a_plan_for_another_call_is_refused() {
        let plan = planned(&call(&[said("user", 90), said("assistant", 9), said("user", 9)]), 60).unwrap();
        let mut other = call(&[said("user", 9)]);
        let before = other.doc.bytes().clone();
        assert_eq!(apply(&mut other, &plan).unwrap_err().kind(), Kind::BadInput);
        assert_eq!(other.doc.bytes(), &before);
    }
}
