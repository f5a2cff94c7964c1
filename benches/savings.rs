//! Dollars by lever on public traces, with honest baselines beside them.
//!
//! No stopwatch here: `cargo bench --bench savings` prints what the levers are worth on recorded traffic. The traces
//! are not part of the project; they are read from `THRIFTY_DATA` (default `../shared/data`) and what is absent is
//! skipped with one line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use thrifty::call::json::{Object, elements, whole};
use thrifty::dialect::Usage;
use thrifty::price::{PriceTable, Terms, Usd};

fn main() {
    let data = std::env::var_os("THRIFTY_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let prices = PriceTable::builtin();
    println!("prices: {}", prices.id());
    for name in ["mooncake_conversation", "mooncake_synthetic"] {
        if let Some(lines) = lines(&data.join(format!("traces/{name}.jsonl.gz"))) {
            chat(name, lines, &prices);
        }
    }
    if let Some(lines) = lines(&data.join("traces/claude_code_requests.csv.gz")) {
        agent(lines, &prices);
    }
}

fn lines(path: &Path) -> Option<impl Iterator<Item = String> + use<>> {
    match File::open(path) {
        Ok(file) => Some(BufReader::new(GzDecoder::new(file)).lines().map_while(Result::ok)),
        Err(error) => {
            println!("skipped: {} ({error})", path.display());
            None
        }
    }
}

fn cost(prices: &PriceTable, model: &str, usage: &Usage) -> Usd {
    prices.cost(model, usage, &Terms::default()).usd.expect("the model has a price")
}

/// A part in hundredths of a per cent of a whole.
fn share(part: u128, whole: u128) -> String {
    let hundredths = part * 10_000 / whole.max(1);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

/// Chat traffic: what an exact cache is worth, and what a perfect prefix cache of the provider could read.
fn chat(name: &str, lines: impl Iterator<Item = String>, prices: &PriceTable) {
    const MODEL: &str = "gpt-4.1";
    const BLOCK: u64 = 512;
    const SPANS_S: [u64; 3] = [60, 300, 3_600];
    let mut seen: HashMap<[u8; 32], ()> = HashMap::new();
    let mut used: HashMap<u64, u64> = HashMap::new();
    let (mut requests, mut repeats, mut input_all) = (0u64, 0u64, 0u128);
    let (mut bare, mut saved) = (Usd::ZERO, Usd::ZERO);
    let mut readable = [0u128; SPANS_S.len()];
    for line in lines {
        let Some(row) = Object::parse(&line) else { continue };
        let number = |name| row.u64(name).unwrap_or(0);
        let (at, input, output) = (number("timestamp"), number("input_length"), number("output_length"));
        let ids = row.get("hash_ids").and_then(elements).unwrap_or_default();
        let usd = cost(prices, MODEL, &Usage::of(input, output));
        requests += 1;
        input_all += u128::from(input);
        bare += usd;
        let prompt = format!("{input} {}", row.get("hash_ids").unwrap_or_default());
        if seen.insert(*blake3::hash(prompt.as_bytes()).as_bytes(), ()).is_some() {
            repeats += 1;
            saved += usd;
        }
        let ids: Vec<u64> = ids.into_iter().filter_map(whole).collect();
        for (span, sum) in SPANS_S.iter().zip(&mut readable) {
            let known =
                ids.iter().take_while(|id| used.get(id).is_some_and(|last| at - last <= span * 1_000));
            *sum += u128::from((known.count() as u64 * BLOCK).min(input));
        }
        used.extend(ids.into_iter().map(|id| (id, at)));
    }
    println!("\n{name}: {requests} requests, {} at {MODEL} list prices", bare.display(2));
    println!(
        "  cache   {repeats} exact repeats ({}): {} saved",
        share(repeats.into(), requests.into()),
        saved.display(2)
    );
    for (span, sum) in SPANS_S.iter().zip(readable) {
        println!(
            "  prefix  {} of the input readable from a perfect prefix cache of {span} s",
            share(sum, input_all)
        );
    }
}

/// One request of a coding agent.
struct Turn {
    thread: (u64, u64),
    input: u64,
    output: u64,
    /// Leading tokens that were seen before, and whether within five minutes.
    prefix: u64,
    warm: bool,
    /// System text and tools, which are never cut.
    front: u64,
}

/// A coding agent: trimming against the provider's prompt cache.
fn agent(lines: impl Iterator<Item = String>, prices: &PriceTable) {
    const MODEL: &str = "claude-opus-5-5";
    let turns: Vec<Turn> = lines.skip(1).filter_map(|line| turn(&line)).collect();
    let sum = |usage: &dyn Fn(&Turn) -> Usage| {
        turns.iter().map(|turn| cost(prices, MODEL, &usage(turn))).sum::<Usd>()
    };
    let none = sum(&|turn| Usage::of(turn.input, turn.output));
    let cached = sum(&|turn| {
        let read = if turn.warm { turn.prefix.min(turn.input) } else { 0 };
        written(turn.input, read, turn.output)
    });
    println!("\nclaude_code_requests: {} requests at {MODEL} list prices", turns.len());
    println!("  bare    {} without the provider's prompt cache", none.display(0));
    println!("  prefix  {} with a five-minute one", cached.display(0));
    for budget in [200_000, 100_000, 64_000] {
        for (keep, what) in [(1_000, "sliding"), (700, "cut to 0.7"), (500, "cut to 0.5")] {
            let (usd, cuts) = trimmed(&turns, prices, MODEL, budget, keep);
            println!(
                "  trim    {} at {budget} tokens, {what} ({cuts} cuts), with the five-minute cache",
                usd.display(0)
            );
        }
    }
    println!(
        "  The trace has no texts: where a cut falls is by tokens, and what it costs in quality cannot be seen."
    );
}

fn turn(line: &str) -> Option<Turn> {
    let cells: Vec<&str> = line.split(',').collect();
    let number = |at: usize| cells.get(at)?.parse::<u64>().ok();
    // Seconds with decimals; -1 stands for never.
    let gap = cells.get(11)?.split('.').next()?.parse::<i64>().ok()?;
    let warm = gap >= 0 && (gap < 300 || *cells.get(11)? == "300" || *cells.get(11)? == "300.0");
    Some(Turn {
        thread: (number(0)?, number(1)?),
        input: number(7)?,
        output: number(8)?,
        prefix: number(10)?,
        warm,
        front: number(12)?,
    })
}

/// All that is not read is written.
fn written(input: u64, read: u64, output: u64) -> Usage {
    let mut usage = Usage::of(input, output).with_read(read);
    usage.write_short = Some(input - read);
    usage
}

/// What the trace costs when each prompt over `budget` is cut behind its front to `keep` thousandths of the budget,
/// and the cut stays where it is until the prompt is over again.
fn trimmed(turns: &[Turn], prices: &PriceTable, model: &str, budget: u64, keep: u64) -> (Usd, u64) {
    let mut offsets: HashMap<(u64, u64), u64> = HashMap::new();
    let (mut sum, mut cuts) = (Usd::ZERO, 0);
    for turn in turns {
        let offset = offsets.entry(turn.thread).or_default();
        // A conversation that was compacted or begun anew has nothing left of what was cut.
        if turn.input < turn.front.saturating_add(*offset) || turn.prefix < turn.front.saturating_add(*offset)
        {
            *offset = 0;
        }
        let before = *offset;
        if turn.input - *offset > budget {
            *offset = (turn.input - budget * keep / 1_000).min(turn.input.saturating_sub(turn.front));
            cuts += u64::from(*offset != before);
        }
        let input = turn.input - *offset;
        let same = *offset == before;
        let read = match (turn.warm, same) {
            (false, _) => 0,
            (true, true) => turn.prefix.saturating_sub(before),
            (true, false) => turn.prefix.min(turn.front),
        };
        sum += cost(prices, model, &written(input, read.min(input), turn.output));
    }
    (sum, cuts)
}
