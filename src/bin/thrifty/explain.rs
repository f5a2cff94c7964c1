//! `thrifty explain`: everything that would happen to one request.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use thrifty::Error;
use thrifty::call::{Call, Dialect};
use thrifty::cap::{self, CapPolicy};
use thrifty::clock::{Clock, SystemClock};
use thrifty::price::{PriceTable, Terms, Usage};
use thrifty::tokens;
use thrifty::trim::TrimPolicy;

use crate::cost::{self, Priced};
use crate::count::{self, Counted};
use crate::input;
use crate::key;
use crate::lines::{self, Line};
use crate::output::{Code, Ended, Out, Stop, complain, grouped, json};
use crate::tiers::{self, EASY, pair};
use crate::trim;

/// Everything that would happen to a request: count, tier, trim, cap, estimated cost, cacheable or why not
///
/// Nothing is sent. The cost is an estimate: the prompt as counted, and an answer as long as it may get.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// File with the JSON body of a request; `-` reads standard input
    body: PathBuf,
    /// Format of the request (openai-chat, anthropic-messages, openai-responses, gemini-generate, ...); recognised by the body if left out
    #[arg(long)]
    dialect: Option<Dialect>,
    /// Model in place of the body's own
    #[arg(long)]
    model: Option<String>,
    /// Most prompt tokens; without it nothing is trimmed
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true, value_parser = input::tokens)]
    budget: Option<u64>,
    /// Most output tokens; without it the request's own limit stands
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true, value_parser = input::tokens)]
    cap: Option<u64>,
    /// Sends easy requests for FROM to TO; may be repeated. Default: the cheaper sibling, where one is known
    #[arg(long, value_name = "FROM=TO", value_parser = pair)]
    tier: Vec<(String, String)>,
    /// Price table in the form of LiteLLM's model_prices_and_context_window.json; the built-in one if left out
    #[arg(long)]
    prices: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Read one request per line, as {"id", "dialect", "model", "body"}; answer each with a line
    #[arg(long)]
    jsonl: bool,
}

#[derive(Serialize)]
struct Explained {
    dialect: &'static str,
    model: Option<String>,
    count: Counted,
    trim: Trimming,
    cap: Capping,
    tier: Tiering,
    cost: Estimate,
    cacheable: bool,
    /// Why not.
    reason: Option<&'static str>,
    /// That of the call as it would be sent.
    fingerprint: Option<String>,
}

#[derive(Serialize)]
struct Trimming {
    budget: Option<u64>,
    fits: Option<bool>,
    kept: Option<usize>,
    dropped: Option<u64>,
    cleared: Option<usize>,
    tokens_before: Option<u64>,
    tokens_after: Option<u64>,
    breaks_prefix: bool,
    note: Option<String>,
}

#[derive(Serialize)]
struct Capping {
    asked: Option<u64>,
    set: Option<u64>,
    note: Option<&'static str>,
}

#[derive(Serialize)]
struct Tiering {
    model: Option<String>,
    changed: bool,
    note: String,
}

#[derive(Serialize)]
struct Estimate {
    #[serde(flatten)]
    priced: Priced,
    input_tokens: u64,
    /// What the answer is assumed to have; null when nobody knows its limit, and then only the prompt is priced.
    output_tokens: Option<u64>,
    /// Where `output_tokens` comes from.
    output_is: &'static str,
}

pub(crate) fn run(args: &ExplainArgs, out: &mut Out) -> Ended {
    let prices = cost::prices(args.prices.as_deref())?;
    if args.jsonl {
        return lines::drive(&args.body, out, |line: &Line<'_>| {
            explain(args, &line.call(args.dialect, args.model.as_deref())?, &prices).map(|done| done.0)
        });
    }
    let call = input::call(input::read(&args.body)?, args.dialect, args.model.as_deref())?;
    let (answer, over) = explain(args, &call, &prices)?;
    if args.json {
        json(out, &answer)?;
    } else {
        show(out, &call, &answer)?;
    }
    if !over {
        return Ok(Code::Done);
    }
    complain(answer.trim.note.as_deref().unwrap_or("the prompt is over its budget; raise it"));
    Ok(Code::No)
}

/// The answer, and whether what must stay is over the budget.
fn explain(args: &ExplainArgs, call: &Call, prices: &Arc<PriceTable>) -> Result<(Explained, bool), Error> {
    let asked = call.model();
    let counted = tokens::count(call);
    let mut sent = call.clone();

    let pairs = if args.tier.is_empty() {
        let to = asked.as_deref().and_then(tiers::sibling);
        to.zip(asked.clone()).map(|(to, from)| (from, to.to_owned())).into_iter().collect()
    } else {
        args.tier.clone()
    };
    let choice = tiers::policy(&pairs, prices)?.choose(call);
    let changed = choice.as_ref().is_some_and(|choice| choice.model != choice.asked);
    let tier = Tiering {
        model: choice.as_ref().map(|choice| choice.model.clone()),
        changed,
        note: match choice {
            None => "the request names no model".to_owned(),
            Some(choice) => choice.note.unwrap_or_else(|| match pairs.first() {
                None => "no cheaper sibling is known; give one with --tier".to_owned(),
                Some(_) => format!(
                    "no rule holds: it needs a prompt under {EASY} tokens and no tool in the last turn"
                ),
            }),
        },
    };
    let tier = Tiering {
        note: if args.tier.is_empty() { format!("default rule: {}", tier.note) } else { tier.note },
        ..tier
    };
    if changed && let Some(model) = &tier.model {
        thrifty::tier::switch(&mut sent, model)?;
    }

    let mut over = false;
    let trim = match args.budget {
        None => Trimming::none(),
        Some(budget) => match trim::cut(sent.clone(), None, budget, &TrimPolicy::new()) {
            Ok((trimmed, plan)) => {
                sent = trimmed;
                Trimming {
                    budget: Some(budget),
                    fits: plan.note.is_none().then_some(true),
                    kept: Some(plan.keep.iter().filter(|stays| **stays).count()),
                    dropped: Some(plan.dropped),
                    cleared: Some(plan.cleared.len()),
                    tokens_before: plan.before,
                    tokens_after: plan.after,
                    breaks_prefix: plan.breaks_prefix,
                    note: plan.note.map(str::to_owned),
                }
            }
            Err(error) if error.is_over_budget() => {
                over = true;
                Trimming {
                    budget: Some(budget),
                    fits: Some(false),
                    tokens_before: Some(counted.likely),
                    note: Some(error.to_string()),
                    ..Trimming::none()
                }
            }
            Err(error) => return Err(error),
        },
    };

    let policy = args.cap.map_or_else(CapPolicy::per_call, CapPolicy::new).with_prices(prices.clone());
    let capped = cap::apply(&mut sent, &policy);
    let cost = estimate(&sent, tier.model.as_deref().or(asked.as_deref()), prices);
    let fingerprint = key::fingerprint(&sent);
    let reason = fingerprint.as_ref().err().map(|bypass| bypass.0);
    let answer = Explained {
        dialect: call.dialect.name(),
        model: asked,
        count: Counted::of(counted),
        trim,
        cap: Capping { asked: capped.asked, set: capped.set, note: capped.note },
        tier,
        cost,
        cacheable: reason.is_none(),
        reason,
        fingerprint: fingerprint.ok(),
    };
    Ok((answer, over))
}

impl Trimming {
    fn none() -> Self {
        Self {
            budget: None,
            fits: None,
            kept: None,
            dropped: None,
            cleared: None,
            tokens_before: None,
            tokens_after: None,
            breaks_prefix: false,
            note: None,
        }
    }
}

/// The prompt as counted, and an answer as long as it may get.
fn estimate(sent: &Call, model: Option<&str>, prices: &PriceTable) -> Estimate {
    let input = tokens::count(sent).likely;
    let choices = sent.format().choices(sent).max(1);
    let most = model.and_then(|model| prices.max_output(model));
    let (output, output_is) = match (sent.format().cap(sent), most) {
        (Some(cap), _) => {
            (Some(cap.saturating_mul(choices)), "the output limit of the request as it would be sent")
        }
        (None, Some(most)) => (Some(most.saturating_mul(choices)), "the most this model can write"),
        (None, None) => (None, "unknown: no limit is set, so only the prompt is priced"),
    };
    let usage = Usage::of(input, output.unwrap_or(0));
    let at = Terms::at(SystemClock.now_ms());
    let cost = prices.cost(model.unwrap_or_default(), &usage, &at);
    Estimate { priced: Priced::of(&cost, prices), input_tokens: input, output_tokens: output, output_is }
}

fn show(out: &mut Out, call: &Call, answer: &Explained) -> Result<(), Stop> {
    writeln!(out, "A request to {} for {}.", answer.dialect, answer.model.as_deref().unwrap_or("no model"))?;
    count::show(out, call, &tokens::count(call))?;
    match (&answer.tier.model, answer.tier.changed) {
        (Some(model), true) => writeln!(out, "tier:  would go to {model} ({})", answer.tier.note)?,
        _ => writeln!(out, "tier:  stays ({})", answer.tier.note)?,
    }
    let trim = &answer.trim;
    match (trim.budget, &trim.note) {
        (None, _) => writeln!(out, "trim:  no budget given (--budget)")?,
        (Some(_), Some(note)) => writeln!(out, "trim:  {note}")?,
        (Some(budget), None) if trim.dropped == Some(0) && trim.cleared == Some(0) => {
            writeln!(out, "trim:  fits into {} tokens as it is", grouped(budget))?;
        }
        (Some(_), None) => writeln!(
            out,
            "trim:  drops {} messages and clears {} tool results: {} tokens become {}{}",
            trim.dropped.unwrap_or(0),
            trim.cleared.unwrap_or(0),
            grouped(trim.tokens_before.unwrap_or(0)),
            grouped(trim.tokens_after.unwrap_or(0)),
            if trim.breaks_prefix { "; the provider's prompt cache starts anew behind the cut" } else { "" },
        )?,
    }
    match (answer.cap.set, answer.cap.asked, answer.cap.note) {
        (Some(set), Some(asked), _) => {
            writeln!(out, "cap:   lowered from {} to {}", grouped(asked), grouped(set))?
        }
        (Some(set), None, _) => writeln!(out, "cap:   set to {}", grouped(set))?,
        (None, _, Some(note)) => writeln!(out, "cap:   {note}")?,
        (None, Some(asked), None) => writeln!(out, "cap:   stays at {}", grouped(asked))?,
        (None, None, None) => {
            writeln!(out, "cap:   none; the answer may get as long as the model can write")?
        }
    }
    let cost = &answer.cost;
    let output = cost.output_tokens.map_or_else(|| "?".to_owned(), grouped);
    writeln!(
        out,
        "cost:  {} for {} tokens in and {output} out (output: {})",
        cost.priced.usd.as_ref().map_or_else(|| "unknown".to_owned(), |usd| format!("at most ${usd}")),
        grouped(cost.input_tokens),
        cost.output_is,
    )?;
    match (answer.reason, &answer.fingerprint) {
        (None, Some(fingerprint)) => writeln!(
            out,
            "cache: can be served again, as {fingerprint} (the fingerprint of the call as it would be sent)"
        )?,
        (reason, _) => writeln!(out, "cache: goes past it; {}", key::in_words(reason.unwrap_or("unknown")))?,
    }
    Ok(())
}
