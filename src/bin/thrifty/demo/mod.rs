//! `thrifty demo`: the main job on an embedded upstream, with and without the library.

mod workload;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use thrifty::BoxError;
use thrifty::cache::{CacheHandle, CacheLayer};
use thrifty::call::{Call, Reply};
use thrifty::cap::CapLayer;
use thrifty::price::PriceTable;
use thrifty::receipt::Ledger;
use thrifty::stack::{Stack, StackBuilder};
use thrifty::testing::Upstream;
use thrifty::tier::{Condition, Rule, TierPolicy};
use thrifty::trim::TrimPolicy;
use thrifty::{Error, Kind};
use tokio::task::JoinSet;
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt};

use self::workload::{MODEL, Phase, SMALL, phases};
use crate::output::{Code, Ended, Out, Stop, grouped, json};
use crate::progress;
use crate::report::{self, Policy, Row, millis, percentile, share};

/// The same workload through a bare client and through thrifty, side by side: calls, tokens, dollars, latency
///
/// A support bot's calls go to a provider that runs inside this program: no network, no key, no bill. The dollars are
/// list prices of the real models. With --cache a second run serves from disk what the first one paid for.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Keep answers in this file too, so that the next run finds them
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown {
    policies: Vec<Policy>,
    /// Prices of the dollars above.
    table: String,
}

/// Time to the first byte of the embedded upstream. Real ones take ten times as long.
const LATENCY: Duration = Duration::from_millis(30);
const FRAME_GAP: Duration = Duration::from_millis(1);
/// Prompt tokens at most.
const BUDGET: u64 = 8_000;
/// Output tokens at most.
const CAP: u64 = 512;

pub(crate) fn run(args: &DemoArgs, out: &mut Out) -> Ended {
    args.cache.as_deref().map(crate::cache::check).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bar =
        progress::bar("calling", 2 * phases().iter().map(|phase| phase.calls.len() as u64).sum::<u64>());
    let (thrifty, cache) = thrifty(args)?;
    // The cached run first: whoever stops the demo half-way has something in the file.
    let second = runtime.block_on(work("thrifty", &thrifty, &bar))?;
    if let Some(cache) = cache {
        runtime.block_on(cache.flush());
    }
    let bare = Stack::builder().without_cache().without_prefix();
    let first = runtime.block_on(work("bare", &Client::new(bare)?, &bar))?;
    bar.finish_and_clear();

    let rows = [first, second];
    if args.json {
        let policies = rows.iter().map(|row| row.policy(&rows[0])).collect();
        json(out, &Shown { policies, table: PriceTable::builtin().id().to_string() })?;
        return Ok(Code::Done);
    }
    writeln!(
        out,
        "A support bot's {} calls to {MODEL}, through a bare client and through thrifty.",
        rows[0].calls
    )?;
    writeln!(
        out,
        "thrifty: cache{}; prompts to {} tokens; answers to {CAP}; titles and labels by {SMALL}.\n",
        args.cache.as_ref().map_or_else(String::new, |path| format!(" (in {})", path.display())),
        grouped(BUDGET),
    )?;
    report::show(out, &rows)?;
    in_words(out, &rows[0], &rows[1])?;
    Ok(Code::Done)
}

/// A client of the embedded upstream, and what its calls cost.
struct Client {
    service: BoxCloneService<Call, Reply, BoxError>,
    ledger: Ledger,
}

impl Client {
    fn new(builder: StackBuilder) -> Result<Self, Error> {
        let ledger = Ledger::default();
        let stack = builder.sink(ledger.clone()).build()?;
        let upstream = Upstream::new().latency(LATENCY).frame_gap(FRAME_GAP).answer_with(workload::answer);
        Ok(Self { service: BoxCloneService::new(stack.layer(upstream)), ledger })
    }
}

/// The default stack with what a sensible user would add.
fn thrifty(args: &DemoArgs) -> Result<(Client, Option<CacheHandle>), Error> {
    let mut cache = CacheLayer::builder();
    if let Some(path) = &args.cache {
        cache = cache.disk(path);
    }
    let cache = cache.build()?;
    let handle = args.cache.is_some().then(|| cache.handle());
    let easy = Condition::tag("title").or(Condition::tag("label"));
    let tier = TierPolicy::builder().rule(Rule::when(easy).then(SMALL)).build()?;
    let trim = TrimPolicy::new().with_budget(BUDGET);
    let builder = Stack::builder().cache(cache).trim(trim).cap(CapLayer::new(CAP)).tier(tier);
    Ok((Client::new(builder)?, handle))
}

/// Makes all calls of the workload.
async fn work(name: &'static str, client: &Client, bar: &ProgressBar) -> Result<Row, Error> {
    let mut took = Vec::new();
    for Phase { calls, at_once } in phases() {
        if at_once {
            let mut tasks = JoinSet::new();
            for call in calls {
                tasks.spawn(timed(client.service.clone(), call));
            }
            while let Some(done) = tasks.join_next().await {
                took.push(done.map_err(|error| failed(&error))?.map_err(|error| failed(&*error))?);
                bar.inc(1);
            }
        } else {
            for call in calls {
                took.push(timed(client.service.clone(), call).await.map_err(|error| failed(&*error))?);
                bar.inc(1);
            }
        }
    }
    let calls = took.len() as u64;
    took.sort_unstable();
    Ok(Row {
        name,
        totals: client.ledger.totals(),
        calls,
        latency_us: Some((percentile(&took, 500), percentile(&took, 950))),
        over_budget: 0,
        invalid: 0,
    })
}

/// Microseconds from the call to the end of its answer.
async fn timed(service: BoxCloneService<Call, Reply, BoxError>, call: Call) -> Result<u64, BoxError> {
    let began = Instant::now();
    let reply = service.oneshot(call).await?;
    if !reply.status().is_success() {
        return Err(format!("status {}", reply.status()).into());
    }
    reply.into_body().bytes().await?;
    Ok(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
}

#[cold]
fn failed(error: &(dyn std::error::Error + 'static)) -> Error {
    let way_out = "this should not happen; please report it with this line";
    Error::new(Kind::Upstream, format!("a call of the demo failed ({error})"), way_out)
}

fn in_words(out: &mut Out, bare: &Row, thrifty: &Row) -> Result<(), Stop> {
    let (paid, less) = (bare.totals.billed, bare.totals.billed - thrifty.totals.billed);
    writeln!(
        out,
        "\nThe bare client paid {} for this work and thrifty {}: {} less ({}).",
        paid.display(4),
        thrifty.totals.billed.display(4),
        less.display(4),
        share(less, paid),
    )?;
    let totals = &thrifty.totals;
    writeln!(
        out,
        "Of {} answers {} came from the provider, {} from memory, {} from disk, and {} shared a call in flight.",
        thrifty.calls, totals.sent, totals.hits_memory, totals.hits_disk, totals.hits_flight,
    )?;
    let p50 = |row: &Row| millis(row.latency_us.map_or(0, |latency| latency.0));
    writeln!(out, "Half of the answers came within {} ms instead of {}.", p50(thrifty), p50(bare))?;
    writeln!(
        out,
        "Rest: what no lever claims. Answers that the cap cut would have cost more, which only a demo can know; and the\n\
         provider's own prompt cache finds less where calls are cut, switched or never sent."
    )?;
    Ok(())
}
