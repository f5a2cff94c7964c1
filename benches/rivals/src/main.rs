//! The counting engine beside every exact counter known to be quick, by CPU time.
//!
//! `cargo run --release -- [warm] [cold] [hostile] [start]`, in this folder; all of them without a word. CPU time, so
//! that a busy machine disturbs little; each line is of one run, and the counters take turns, so its ratios hold.

#[path = "../../texts/mod.rs"]
mod texts;
mod vocabulary;

use std::hint::black_box;
use std::time::Duration;

use cpu_time::ProcessTime;
use thrifty::tokens::Encoding;
use tokenizers::pipeline::EncodeOptions;

use self::texts::{Dice, HOSTILE, KINDS, text};

type Count = Box<dyn Fn(&str) -> usize>;

const NAMES: [&str; 6] = ["thrifty", "tiktoken-rs", "bpe-openai", "toktok", "fastokens", "tokenizers-rc"];
const ENCODINGS: [Encoding; 2] = [Encoding::O200kBase, Encoding::Cl100kBase];

fn counter(name: &str, encoding: Encoding) -> Count {
    let large = encoding == Encoding::O200kBase;
    match name {
        "thrifty" => Box::new(move |text| encoding.count(text) as usize),
        "tiktoken-rs" => {
            let core = vocabulary::core(encoding);
            Box::new(move |text| core.encode_ordinary(text).len())
        }
        "bpe-openai" => {
            let bpe = if large { bpe_openai::o200k_base() } else { bpe_openai::cl100k_base() };
            Box::new(move |text| bpe.count(text))
        }
        "toktok" => {
            let toktok = toktok::Tokenizer::builtin(encoding.name()).expect("a known encoding");
            Box::new(move |text| toktok.count(text.as_bytes()))
        }
        "fastokens" => {
            let fast = vocabulary::fastokens(encoding);
            Box::new(move |text| fast.encode_ordinary(text).expect("it encodes").len())
        }
        _ => {
            let pipeline = vocabulary::pipeline(encoding);
            let out = std::cell::RefCell::new(Vec::new());
            Box::new(move |text| {
                let mut out = out.borrow_mut();
                out.clear();
                pipeline.encode_into(text, &EncodeOptions::no_specials(), &mut out).expect("it encodes");
                out.len()
            })
        }
    }
}

fn counters(encoding: Encoding) -> Vec<Count> {
    NAMES.iter().map(|name| counter(name, encoding)).collect()
}

/// CPU time of `work` each time it is done.
fn each(times: u32, mut work: impl FnMut()) -> f64 {
    let start = ProcessTime::now();
    for _ in 0..times {
        work();
    }
    start.elapsed().as_secs_f64() / f64::from(times)
}

fn best(times: impl IntoIterator<Item = f64>) -> f64 {
    times.into_iter().fold(f64::INFINITY, f64::min)
}

fn head(title: &str) {
    print!("\n{title:<30} {:>12}", "ns per byte");
    for name in &NAMES[1..] {
        print!(" {name:>13}");
    }
    println!("   (times as long as ours)");
}

/// Our time for a byte, and the others' as multiples of it.
fn line(title: &str, bytes: usize, times: &[Option<f64>]) {
    let ours = times[0].expect("our own");
    print!("{title:<30} {:>12.2}", ours * 1e9 / bytes as f64);
    for time in &times[1..] {
        match time {
            Some(time) => print!(" {:>13.2}", time / ours),
            None => print!(" {:>13}", "-"),
        }
    }
    println!();
}

fn warm() {
    head("warm");
    for encoding in ENCODINGS {
        let counters = counters(encoding);
        for (kind, make) in KINDS {
            for bytes in [16, 256, 4096, 65_536, 1 << 20] {
                let text = text(make, 1, bytes);
                let known = counters[1](&text);
                let mut times = vec![Some(f64::INFINITY); counters.len()];
                for (count, name) in counters.iter().zip(NAMES) {
                    assert_eq!(count(&text), known, "{name} on {kind}");
                }
                for _ in 0..5 {
                    for (count, time) in counters.iter().zip(&mut times) {
                        let once = each(1, || {
                            black_box(count(black_box(&text)));
                        });
                        let turns = (2e-3 / once.max(1e-7)).clamp(1.0, 1e5) as u32;
                        let new = each(turns, || {
                            black_box(count(black_box(&text)));
                        });
                        *time = time.map(|time| time.min(new));
                    }
                }
                line(&format!("{encoding} {kind} {bytes}"), text.len(), &times);
            }
        }
    }
}

/// Each text is new; what a counter remembers comes from texts of another seed.
fn cold() {
    head("cold, 64 KiB");
    for encoding in ENCODINGS {
        let counters = counters(encoding);
        for (kind, make) in KINDS {
            let mut times = vec![Vec::new(); counters.len()];
            for seed in 100..124 {
                let text = text(make, seed, 65_536);
                let known = counters[1](&text);
                for (at, count) in counters.iter().enumerate() {
                    // The reference has no memory of texts.
                    let time = each(1, || assert_eq!(count(&text), known, "{} on {kind}", NAMES[at]));
                    times[at].push(time);
                }
            }
            let times: Vec<_> = times
                .into_iter()
                .map(|mut times| {
                    times.drain(..4);
                    times.sort_by(f64::total_cmp);
                    Some(times[times.len() / 4])
                })
                .collect();
            line(&format!("{encoding} {kind}"), 65_536, &times);
        }
    }
}

fn hostile() {
    for encoding in ENCODINGS {
        let counters = counters(encoding);
        head(&format!("hostile, {encoding}"));
        for (kind, make) in HOSTILE {
            for bytes in [1000, 100_000, 10_000_000] {
                let text = make(&mut Dice(9), bytes);
                let rounds = if bytes > 100_000 { 2 } else { 5 };
                let time = |at: usize| {
                    // The others take seconds, or run out of stack.
                    let skip =
                        at > 0 && (bytes > 100_000 || (at > 3 && bytes > 1000 && kind == "spaces_and_x"));
                    (!skip).then(|| {
                        let count = &counters[at];
                        let once = each(1, || {
                            black_box(count(&text));
                        });
                        let turns = (2e-3 / once.max(1e-7)).clamp(1.0, 1e4) as u32;
                        best((0..rounds).map(|_| {
                            each(turns, || {
                                black_box(count(black_box(&text)));
                            })
                        }))
                    })
                };
                let times: Vec<_> = (0..counters.len()).map(time).collect();
                line(&format!("{kind} {bytes}"), text.len(), &times);
            }
        }
    }
}

/// Each in a process of its own.
fn start() {
    println!("\nstart to first count: CPU ms, resident MB (of 5 runs the best)");
    let own = std::env::current_exe().expect("a path");
    for encoding in ENCODINGS {
        for name in ["nothing", NAMES[0], NAMES[1], NAMES[2], NAMES[3], NAMES[4], NAMES[5]] {
            let runs = (0..5).map(|_| {
                let out = std::process::Command::new(&own).args(["first", name, encoding.name()]).output();
                let out = String::from_utf8(out.expect("it runs").stdout).expect("text");
                let mut numbers = out.split_whitespace().map(|n| n.parse::<f64>().expect("a number"));
                (numbers.next().expect("one"), numbers.next().expect("two"))
            });
            let (cpu, memory) =
                runs.fold((f64::INFINITY, f64::INFINITY), |a, b| (a.0.min(b.0), a.1.min(b.1)));
            println!("{encoding} {name:<14} {cpu:>8.1} {memory:>8.1}");
        }
    }
}

fn first(name: &str, encoding: &str) {
    let encoding = ENCODINGS.into_iter().find(|known| known.name() == encoding).expect("an encoding");
    // What the rivals need to be told is made ahead, in a process of its own.
    let start = ProcessTime::now();
    if name != "nothing" {
        black_box(counter(name, encoding)("The ferry left the harbour at noon."));
    }
    let cpu: Duration = start.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    let kilobytes: f64 = resident.trim().trim_end_matches(" kB").parse().unwrap_or(0.0);
    println!("{} {}", cpu.as_secs_f64() * 1e3, kilobytes / 1024.0);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, encoding] = words.as_slice()
        && word == "first"
    {
        return first(name, encoding);
    }
    for (name, run) in [("warm", warm as fn()), ("cold", cold), ("hostile", hostile), ("start", start)] {
        if words.is_empty() || words.iter().any(|word| word == name) {
            run();
        }
    }
}
