//! `thrifty trim`: fits a request into a token budget.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use thrifty::call::{Call, Dialect};
use thrifty::tokens;
use thrifty::trim::{self, Plan, TrimPolicy};
use thrifty::{Error, Kind};

use crate::input;
use crate::lines::{self, Line, missing};
use crate::output::{Code, Ended, Failed, Out, code_of, complain, grouped, json};

/// Fit a request into a token budget: the trimmed body on stdout, what was cut on stderr
///
/// Whole turns go, oldest first; system text, tools, the last user message and the newest tool exchange always stay,
/// and no tool result is ever separated from its call. Where the last turn alone is too long, its old tool results are
/// replaced by a constant that says so, and their calls stay (see --keep-results). What else stays keeps its bytes. Exit code 1 if what must stay is
/// over the budget.
#[derive(Args, Debug)]
pub(crate) struct TrimArgs {
    /// File with the JSON body of a request; `-` reads standard input
    body: PathBuf,
    /// Most prompt tokens the request may have (the upper bound of the count is held to it)
    #[arg(long, value_name = "TOKENS", required_unless_present = "jsonl", allow_hyphen_values = true, value_parser = input::tokens)]
    budget: Option<u64>,
    /// Format of the request (openai-chat, anthropic-messages, openai-responses, gemini-generate, ...); recognised by the body if left out
    #[arg(long)]
    dialect: Option<Dialect>,
    /// Count as if for this model; the body's own if left out. The body keeps its model
    #[arg(long)]
    model: Option<String>,
    /// How deep a cut goes at least, in thousandths of the budget; 0 cuts just enough
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(0..=1000))]
    step: u32,
    /// Never replace old tool results of a long last turn by a constant; drop them with their calls instead
    #[arg(long)]
    keep_results: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Read one request per line, as {"id", "dialect", "model", "body"} and perhaps "budget"; answer each with a line
    #[arg(long)]
    jsonl: bool,
}

#[derive(Serialize)]
struct Trimmed {
    body: Box<RawValue>,
    /// True if the upper bound is within the budget.
    fits: bool,
    /// Places of the messages that stay, from 0.
    kept: Vec<usize>,
    dropped: Vec<usize>,
    tokens_before: u64,
    tokens_after: u64,
    /// Upper bound of `tokens_after`: what is held to the budget.
    upper_bound_after: u64,
    /// Places of the messages whose tool results were cleared; they are among `kept`.
    cleared: Vec<usize>,
    /// Why nothing could be cut, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

pub(crate) fn run(args: &TrimArgs, out: &mut Out) -> Ended {
    if args.jsonl {
        return lines::drive(&args.body, out, |line: &Line<'_>| {
            let budget = match line.some("budget") {
                Some(text) => thrifty::call::json::whole(text).ok_or_else(|| {
                    Error::bad_input(
                        "`budget` is not a whole number of tokens",
                        "write it as a number such as 8000",
                    )
                })?,
                None => args.budget.ok_or_else(|| missing("budget"))?,
            };
            let body = line.some("body").ok_or_else(|| missing("body"))?;
            let call = input::call(body.to_owned(), line.dialect(args.dialect)?, None)?;
            let (call, plan) =
                cut(call, line.model(args.model.as_deref())?.as_deref(), budget, &args.policy())?;
            Trimmed::of(&call, &plan, budget)
        });
    }
    let budget = args.budget.ok_or_else(|| missing("budget"))?;
    let call = input::call(input::read(&args.body)?, args.dialect, None)?;
    let messages = call.format().prompt(&call).messages.len();
    let (call, plan) = match cut(call, args.model.as_deref(), budget, &args.policy()) {
        Err(error) if args.json && error.is_over_budget() => {
            json(out, &Failed::of(&error))?;
            complain(&error);
            return Ok(code_of(&error));
        }
        done => done?,
    };
    let answer = Trimmed::of(&call, &plan, budget)?;
    if args.json {
        json(out, &answer)?;
        return Ok(Code::Done);
    }
    out.write_all(call.doc.bytes())?;
    let sizes =
        format!("{} tokens before, {} after", grouped(answer.tokens_before), grouped(answer.tokens_after));
    complain(match (answer.note, plan.changes()) {
        (Some(note), _) => note.to_owned(),
        (None, false) => {
            format!("nothing to cut: {} tokens fit into {}", grouped(answer.tokens_before), grouped(budget))
        }
        (None, true) => format!(
            "dropped {} of {messages} messages ({}), cleared the tool results of {}; {sizes}",
            answer.dropped.len(),
            places(&answer.dropped),
            answer.cleared.len(),
        ),
    });
    Ok(Code::Done)
}

impl TrimArgs {
    fn policy(&self) -> TrimPolicy {
        TrimPolicy::new().with_step(self.step).with_cleared_results(!self.keep_results)
    }
}

/// Trims `call` as if it were for `model`. The body keeps its own.
pub(crate) fn cut(
    mut call: Call,
    model: Option<&str>,
    budget: u64,
    policy: &TrimPolicy,
) -> Result<(Call, Plan), Error> {
    if budget == 0 {
        return Err(Error::bad_setting("a budget of 0 tokens lets nothing through", "give at least 1"));
    }
    let policy = policy.clone().with_budget(budget);
    let mut counted = call.clone();
    if let Some(model) = model {
        counted.set_model(model)?;
    }
    let plan = trim::plan(&counted, &policy)?;
    if let Some(note) = plan.note {
        let at_most = tokens::count(&counted).at_most;
        if at_most > budget {
            return Err(Error::new(
                Kind::OverBudget,
                format!("{note}, and it may have {at_most} tokens where the budget is {budget}"),
                "give one JSON object of a known API without a name twice, or raise the budget",
            ));
        }
    }
    trim::apply(&mut call, &plan)?;
    Ok((call, plan))
}

impl Trimmed {
    fn of(call: &Call, plan: &Plan, budget: u64) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(call.doc.bytes());
        let body = RawValue::from_string(text.trim().to_owned()).map_err(|error| {
            Error::bad_input(format!("the body is not JSON ({error})"), "give one JSON object")
        })?;
        let places = |stays: bool| (0..plan.keep.len()).filter(|i| plan.keep[*i] == stays).collect();
        let counted = || tokens::count(call);
        let upper_bound_after = plan.at_most_after.unwrap_or_else(|| counted().at_most);
        Ok(Self {
            body,
            kept: places(true),
            dropped: places(false),
            tokens_before: plan.before.unwrap_or_else(|| counted().likely),
            tokens_after: plan.after.unwrap_or_else(|| counted().likely),
            upper_bound_after,
            fits: upper_bound_after <= budget,
            cleared: plan.cleared.clone(),
            note: plan.note,
        })
    }
}

/// Places as people count them: `2-5, 8`.
fn places(of: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &place in of {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == place => *end = place,
            _ => runs.push((place, place)),
        }
    }
    let run = |(from, to): &(usize, usize)| {
        if from == to { (from + 1).to_string() } else { format!("{}-{}", from + 1, to + 1) }
    };
    if runs.is_empty() { "none".to_owned() } else { runs.iter().map(run).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_runs() {
        assert_eq!(places(&[1, 2, 3, 7]), "2-4, 8");
        assert_eq!(places(&[]), "none");
    }
}
