//! `thrifty`: the command line tool. It shows and uses the library of the same name; nothing is computed here that
//! the library does not offer.
//!
//! Exit codes: 0 done, 1 the answer is no, 2 bad use or bad input, with one line on stderr that ends with the way out.

mod cache;
mod cost;
mod count;
mod demo;
mod explain;
mod input;
mod key;
mod lines;
mod output;
mod progress;
mod replay;
mod report;
mod serve;
mod tiers;
mod trim;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::output::{Code, Stop, code_of, complain};

/// Makes calls to AI APIs cost less: counts, trims, prices and explains requests, and shows what a cache and
/// cheaper models would save.
///
/// Start with `thrifty demo`. Everything runs on this machine; no command but `serve` calls a provider.
#[derive(Parser, Debug)]
#[command(name = "thrifty", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 the answer is no, 2 bad use or bad input.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Demo(demo::DemoArgs),
    Count(count::CountArgs),
    Trim(trim::TrimArgs),
    Cost(cost::CostArgs),
    Explain(explain::ExplainArgs),
    Key(key::KeyArgs),
    Replay(replay::ReplayArgs),
    Cache(cache::CacheArgs),
    Serve(serve::ServeArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let ended = match &cli.command {
        Command::Demo(args) => demo::run(args, &mut out),
        Command::Count(args) => count::run(args, &mut out),
        Command::Trim(args) => trim::run(args, &mut out),
        Command::Cost(args) => cost::run(args, &mut out),
        Command::Explain(args) => explain::run(args, &mut out),
        Command::Key(args) => key::run(args, &mut out),
        Command::Replay(args) => replay::run(args, &mut out),
        Command::Cache(args) => cache::run(args, &mut out),
        Command::Serve(args) => serve::run(args),
    };
    // What was written before trouble came is worth reading too.
    let ended = match (ended, out.flush().map_err(Stop::from)) {
        (Ok(_), Err(stop)) => Err(stop),
        (ended, _) => ended,
    };
    match ended {
        Ok(code) => code,
        Err(Stop::Pipe) => Code::Done,
        Err(Stop::Trouble(error)) => {
            complain(&error);
            code_of(&error)
        }
    }
    .into()
}

/// Help and version go to stdout; bad use becomes one line.
fn usage(error: &clap::Error) -> Code {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is no trouble.
            let _ = error.print();
            Code::Done
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            complain("no command is given; try `thrifty demo`, or `thrifty --help` for all of them");
            Code::Bad
        }
        _ => {
            let text = error.to_string();
            let first: Vec<&str> =
                text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
            let problem = first.join(" ");
            let problem = problem.strip_prefix("error: ").unwrap_or(&problem);
            complain(format_args!("{problem}; see `thrifty --help` or the help of the command"));
            Code::Bad
        }
    }
}
