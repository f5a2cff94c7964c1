//! `thrifty replay`: what a recorded request log would have cost under each policy.

mod curve;
mod log;
mod pairs;
mod prompt_cache;
mod svg;
mod upstream;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use thrifty::cache::CacheLayer;
use thrifty::call::{Call, Options};
use thrifty::clock::ManualClock;
use thrifty::price::PriceTable;
use thrifty::receipt::Ledger;
use thrifty::stack::{Stack, StackBuilder};
use thrifty::tokens::Counter;
use thrifty::trim::TrimPolicy;
use thrifty::{BoxError, Error, Kind};
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt};

use self::curve::Curve;
use self::log::{Record, glance};
use self::upstream::{Origin, Upstream};
use crate::cost::prices;
use crate::input;
use crate::output::{Code, Ended, Out, Stop, complain, counted, grouped, json};
use crate::progress;
use crate::report::{self, Policy, Row};
use crate::tiers::{self, EASY, pair};

/// What a recorded request log would have cost under each policy, as a table and as a picture
///
/// The log has one JSON object per line: {"time": seconds, "dialect": "openai-chat", "scope": "optional", "tag":
/// "optional", "request": {...}, "response": {...} or null}. Each request goes through the real layers to an upstream
/// that answers as recorded; where the log has no token counts they are counted, and the
/// provider's prompt cache is simulated. The tier column assumes that the cheaper model's answers are as long and as
/// good. Nothing is sent anywhere.
#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// The log; `-` reads standard input
    log: PathBuf,
    /// Write a picture of the dollars over time to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Most prompt tokens for the trimming policies. Default: half of the largest prompt of the log, at least 1,000
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true, value_parser = budget)]
    budget: Option<u64>,
    /// Sends easy requests for FROM to TO; may be repeated. Easy: under 2,000 tokens, no tool since the last user
    /// message. Default: the cheaper sibling of each model of the log, where one is known
    #[arg(long, value_name = "FROM=TO", value_parser = pair)]
    tier: Vec<(String, String)>,
    /// Price table in the form of LiteLLM's model_prices_and_context_window.json; the built-in one if left out
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Never replace old tool results of a long last turn by a constant; drop them with their calls instead
    #[arg(long)]
    keep_results: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Replayed {
    policies: Vec<Policy>,
    requests: u64,
    unusable_lines: u64,
    /// Trimmed requests that a provider would refuse. Has to be 0.
    invalid: u64,
    budget: u64,
    /// `FROM=TO`.
    tier: Vec<String>,
    table: String,
}

/// A budget on the command line.
fn budget(text: &str) -> Result<u64, String> {
    input::tokens(text)
        .and_then(|tokens| if tokens > 0 { Ok(tokens) } else { Err("give at least 1".to_owned()) })
}

/// Budget for a log that can be read only once.
const UNSEEN_BUDGET: u64 = 8_000;
const LEAST_BUDGET: u64 = 1_000;
/// How many messages are remembered by the counter, which all policies share.
const REMEMBERED: u64 = 262_144;

/// What holds for the whole run.
struct Settings {
    prices: Arc<PriceTable>,
    counter: Counter,
    clock: ManualClock,
    budget: u64,
    tier: Vec<(String, String)>,
    keep_results: bool,
}

/// One policy: a real stack in front of a recorded upstream.
struct Runner {
    name: &'static str,
    service: BoxCloneService<Call, thrifty::call::Reply, BoxError>,
    upstream: Upstream,
    ledger: Ledger,
    curve: Curve,
    over_budget: u64,
}

pub(crate) fn run(args: &ReplayArgs, out: &mut Out) -> Ended {
    if let Some(path) = &args.svg {
        svg::check(path)?;
    }
    let settings = settings(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (runners, requests, unusable, complaints) = runtime.block_on(replay(args, &settings))?;
    if requests == 0 {
        let problem = match complaints.first() {
            Some(first) => format!("none of {} of the log can be used ({first})", counted(unusable, "line")),
            None => "the log holds no requests".to_owned(),
        };
        return Err(Error::bad_input(problem, "give a log with one JSON object per line").into());
    }
    complaints.iter().for_each(complain);
    let rows: Vec<Row> = runners.iter().map(|runner| runner.row(requests)).collect();
    let invalid = rows.iter().map(|row| row.invalid).sum();
    let tier: Vec<String> = settings.tier.iter().map(|(from, to)| format!("{from}={to}")).collect();
    if let Some(path) = &args.svg {
        let curves: Vec<(&str, &Curve)> = runners.iter().map(|runner| (runner.name, &runner.curve)).collect();
        let title = format!("{}: cost by policy", counted(requests, "recorded request"));
        svg::draw(path, &title, &foot(&settings), &curves)?;
    }
    if args.json {
        let policies = rows.iter().map(|row| row.policy(&rows[0])).collect();
        json(
            out,
            &Replayed {
                policies,
                requests,
                unusable_lines: unusable,
                invalid,
                budget: settings.budget,
                tier,
                table: settings.prices.id().to_string(),
            },
        )?;
    } else {
        writeln!(out, "{}, priced by {}.", counted(requests, "request"), settings.prices.id())?;
        writeln!(
            out,
            "trim: at most {} prompt tokens{}.",
            grouped(settings.budget),
            match args.budget {
                Some(_) => "",
                None if input::is_stdin(&args.log) => " (the default for a log from a pipe; see --budget)",
                None => " (half of the largest prompt, at least 1,000; see --budget)",
            }
        )?;
        match tier.is_empty() {
            true => writeln!(out, "tier: no cheaper sibling is known for these models; see --tier.")?,
            false => writeln!(
                out,
                "tier: {} for prompts under {} tokens without a tool in the last turn.",
                tier.join(", "),
                grouped(EASY)
            )?,
        }
        writeln!(out)?;
        report::show(out, &rows)?;
        tell(out, &rows, invalid)?;
        for line in foot(&settings) {
            writeln!(out, "{line}")?;
        }
    }
    if unusable > 0 {
        complain(format_args!(
            "{} of the log could not be used and left out; the first three are named above",
            counted(unusable, "line")
        ));
        return Ok(Code::Bad);
    }
    Ok(Code::Done)
}

/// What the figures rest on.
fn foot(settings: &Settings) -> Vec<String> {
    let rules: Vec<String> = settings.tier.iter().take(4).map(|(from, to)| format!("{from}={to}")).collect();
    let more = if settings.tier.len() > rules.len() { ", ..." } else { "" };
    let rules = if rules.is_empty() { "none".to_owned() } else { rules.join(", ") };
    vec![
        format!(
            "Prices: {}. The provider's prompt cache is simulated where usage was not recorded.",
            settings.prices.id()
        ),
        format!(
            "Budget: {} prompt tokens. Tier rules: {rules}{more}, for prompts under {} tokens without a tool in the last turn.",
            grouped(settings.budget),
            grouped(EASY)
        ),
        "The tier column assumes that the cheaper model's answers are as long and as good.".to_owned(),
    ]
}

/// What the table does not say by itself.
fn tell(out: &mut Out, rows: &[Row], invalid: u64) -> Result<(), Stop> {
    writeln!(
        out,
        "Rest: what no lever claims, so that each row adds up: a hit, a cut or another model changes what the provider's\n\
         own prompt cache finds later on. A negative rest means that discounts were lost."
    )?;
    for row in rows.iter().filter(|row| row.over_budget > 0) {
        writeln!(
            out,
            "{}: {} did not fit the budget after all that may go, and went untrimmed.",
            row.name,
            counted(row.over_budget, "request")
        )?;
    }
    writeln!(out, "Trimmed requests a provider would refuse: {invalid}.")?;
    Ok(())
}

/// Looks through the log once where the budget or the tier rules depend on it.
fn settings(args: &ReplayArgs) -> Result<Settings, Error> {
    let prices = prices(args.prices.as_deref())?;
    let counter = Counter::with_capacity(REMEMBERED);
    let (mut budget, mut tier) = (args.budget, args.tier.clone());
    if (budget.is_none() || tier.is_empty()) && !input::is_stdin(&args.log) {
        let mut models: BTreeMap<String, Option<&'static str>> = BTreeMap::new();
        let mut largest = 0;
        let bar = progress_of(args, "looking");
        let mut reader = input::open(&args.log)?;
        let mut line = Vec::new();
        while input::next_line(&mut *reader, &mut line).map_err(|error| broken(&error))? {
            bar.inc(line.len() as u64 + 1);
            if let Some((model, tokens)) = glance(&line, &counter) {
                largest = largest.max(tokens);
                if models.len() < 1_000 {
                    models.entry(model).or_insert_with_key(|model| tiers::sibling(model));
                }
            }
        }
        bar.finish_and_clear();
        budget = budget.or(Some((largest / 2).max(LEAST_BUDGET)));
        if tier.is_empty() {
            tier = models.into_iter().filter_map(|(from, to)| Some((from, to?.to_owned()))).collect();
        }
    }
    if tier.is_empty() && input::is_stdin(&args.log) {
        tier = tiers::all();
    }
    Ok(Settings {
        prices,
        counter,
        clock: ManualClock::at_ms(0),
        budget: budget.unwrap_or(UNSEEN_BUDGET),
        tier,
        keep_results: args.keep_results,
    })
}

fn progress_of(args: &ReplayArgs, what: &'static str) -> ProgressBar {
    let length = std::fs::metadata(&args.log).map(|meta| meta.len()).unwrap_or(0);
    if length == 0 { ProgressBar::hidden() } else { progress::bar(what, length) }
}

#[cold]
fn broken(error: &std::io::Error) -> Error {
    Error::new(Kind::BadInput, format!("the log cannot be read on ({error})"), "check the file")
}

/// Sends each request through each policy; answers how many there were, how many lines were unusable, and why the
/// first three were.
async fn replay(
    args: &ReplayArgs,
    settings: &Settings,
) -> Result<(Vec<Runner>, u64, u64, Vec<String>), Stop> {
    let mut runners = runners(settings)?;
    let bar = progress_of(args, "replaying");
    let mut reader = input::open(&args.log)?;
    let (mut line, mut complaints) = (Vec::new(), Vec::new());
    let (mut number, mut requests, mut unusable) = (0u64, 0u64, 0u64);
    while input::next_line(&mut *reader, &mut line).map_err(|error| broken(&error))? {
        number += 1;
        bar.inc(line.len() as u64 + 1);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let record = match Record::read(&line, &settings.counter) {
            Ok(record) => Arc::new(record),
            Err(error) => {
                unusable += 1;
                if complaints.len() < 3 {
                    complaints.push(format!("line {number}: {error}"));
                }
                continue;
            }
        };
        requests += 1;
        settings.clock.set_ms(record.at_ms);
        for runner in &mut runners {
            runner.send(&record).await.map_err(|error| trouble(number, runner.name, error))?;
        }
    }
    bar.finish_and_clear();
    Ok((runners, requests, unusable, complaints))
}

#[cold]
fn trouble(line: u64, policy: &str, error: BoxError) -> Error {
    let problem = format!("line {line} got no answer under the policy `{policy}` ({error})");
    Error::caused_by(Kind::Upstream, problem, "leave the line out of the log", error)
}

fn runners(settings: &Settings) -> Result<Vec<Runner>, Error> {
    let cache =
        || CacheLayer::builder().clock(settings.clock.clone()).prices(settings.prices.clone()).build();
    let trim = || TrimPolicy::new().with_budget(settings.budget).with_cleared_results(!settings.keep_results);
    let tier = || tiers::policy(&settings.tier, &settings.prices);
    let plain = || Stack::builder().without_cache().without_prefix();
    let everything = || Ok::<_, Error>(Stack::builder().cache(cache()?).trim(trim()).tier(tier()?));
    [
        ("bare", plain()),
        ("cache", plain().cache(cache()?)),
        ("trim", plain().trim(trim())),
        ("tier", plain().tier(tier()?)),
        ("everything", everything()?),
    ]
    .into_iter()
    .map(|(name, builder)| Runner::new(name, builder, settings))
    .collect()
}

impl Runner {
    fn new(name: &'static str, builder: StackBuilder, settings: &Settings) -> Result<Self, Error> {
        let ledger = Ledger::default();
        let (clock, prices) = (settings.clock.clone(), settings.prices.clone());
        let stack = builder.sink(ledger.clone()).prices(prices.clone()).clock(clock.clone()).build()?;
        let upstream = Upstream::new(settings.counter.clone(), clock, prices);
        let service = BoxCloneService::new(stack.layer(upstream.clone()));
        Ok(Self { name, service, upstream, ledger, curve: Curve::default(), over_budget: 0 })
    }

    /// Sends the request of `record`, and reads the answer to its end.
    async fn send(&mut self, record: &Arc<Record>) -> Result<(), BoxError> {
        let mut call = record.call.clone();
        call.parts.extensions.insert(Origin(record.clone()));
        let reply = match self.service.clone().oneshot(call.clone()).await {
            Err(error) if Error::find(&*error).is_some_and(Error::is_over_budget) => {
                // The work has to be done all the same: it goes as it is, and is counted.
                self.over_budget += 1;
                let untrimmed = Options::of(&call).budget(u64::MAX);
                self.service.clone().oneshot(call.with(untrimmed)).await?
            }
            answered => answered?,
        };
        reply.into_body().bytes().await?;
        self.curve.push(record.at_ms, self.ledger.totals().billed);
        Ok(())
    }

    fn row(&self, requests: u64) -> Row {
        Row {
            name: self.name,
            totals: self.ledger.totals(),
            calls: requests,
            latency_us: None,
            over_budget: self.over_budget,
            invalid: self.upstream.invalid(),
        }
    }
}
