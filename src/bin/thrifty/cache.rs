//! `thrifty cache`: looks after a cache file.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use thrifty::cache::{CacheHandle, CacheLayer, Disk, DiskStats, Keyer, Secret};
use thrifty::{Error, Kind};

use crate::output::{Code, Ended, Out, complain, grouped, json, table};

/// Look after a cache file: what it holds, whether it is sound, empty it, or make it shorter
///
/// One process owns a cache file at a time: stop the program that uses it first. Exit code 1 if there is no such file,
/// it is in use, or `verify` found damage.
#[derive(Args, Debug)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// How many answers the file holds, and how large it is
    Stats(Which),
    /// Check every page and every answer in the file; takes as long as reading it
    Verify(Which),
    /// Forget all answers in the file
    Purge(Which),
    /// Make the file as short as what it holds allows
    Compact(Which),
}

#[derive(Args, Debug)]
struct Which {
    /// The cache file
    #[arg(long)]
    path: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Figures {
    entries: u64,
    live_bytes: u64,
    file_bytes: u64,
    /// Answers forgotten by this command.
    purged: u64,
}

#[derive(Serialize)]
struct Verified {
    sound: bool,
    entries: u64,
    damaged: u64,
    file_bytes: u64,
}

#[derive(Serialize)]
struct Shortened {
    file_bytes_before: u64,
    file_bytes: u64,
}

pub(crate) fn run(args: &CacheArgs, out: &mut Out) -> Ended {
    let which = match &args.what {
        What::Stats(which) | What::Verify(which) | What::Purge(which) | What::Compact(which) => which,
    };
    if !which.path.is_file() {
        let problem = format!("there is no cache file `{}`", which.path.display());
        complain(Error::new(Kind::Store, problem, "give the path that the cache layer was built with"));
        return Ok(Code::No);
    }
    match &args.what {
        What::Stats(_) => look(which, false, out),
        What::Purge(_) => look(which, true, out),
        What::Verify(_) => verify(which, out),
        What::Compact(_) => compact(which, out),
    }
}

fn look(which: &Which, purge: bool, out: &mut Out) -> Ended {
    let handle = open(&which.path)?;
    let Some(before) = figures(&handle) else {
        let problem = format!("the cache file `{}` cannot be opened", which.path.display());
        complain(Error::new(Kind::Store, problem, "stop the program that uses it, and try again"));
        return Ok(Code::No);
    };
    let mut purged = 0;
    if purge {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(handle.purge_all());
        purged = before.entries;
    }
    let now = figures(&handle).unwrap_or_default();
    let figures =
        Figures { entries: now.entries, live_bytes: now.live_bytes, file_bytes: now.file_bytes, purged };
    if which.json {
        json(out, &figures)?;
        return Ok(Code::Done);
    }
    let mut lines = vec![
        ("answers", figures.entries),
        ("bytes they take", figures.live_bytes),
        ("bytes of the file", figures.file_bytes),
    ];
    if purge {
        lines.push(("answers forgotten", purged));
    }
    print(out, &lines)
}

fn verify(which: &Which, out: &mut Out) -> Ended {
    let checked = match Disk::verify(&which.path, mac_key(&which.path)?) {
        Ok(checked) => checked,
        Err(error) => return no(error),
    };
    let verdict = if checked.is_good() { Code::Done } else { Code::No };
    let verified = Verified {
        sound: checked.sound,
        entries: checked.entries,
        damaged: checked.damaged,
        file_bytes: checked.file_bytes,
    };
    if which.json {
        json(out, &verified)?;
        return Ok(verdict);
    }
    print(
        out,
        &[
            ("answers that are right", verified.entries),
            ("answers that are damaged", verified.damaged),
            ("bytes of the file", verified.file_bytes),
        ],
    )?;
    let pages = if verified.sound { "its pages are right" } else { "its pages are damaged" };
    writeln!(out, "{pages}")?;
    Ok(verdict)
}

fn compact(which: &Which, out: &mut Out) -> Ended {
    let done = match Disk::compact(&which.path, mac_key(&which.path)?) {
        Ok(done) => done,
        Err(error) => return no(error),
    };
    if which.json {
        json(out, &Shortened { file_bytes_before: done.before, file_bytes: done.after })?;
        return Ok(Code::Done);
    }
    print(out, &[("bytes of the file before", done.before), ("bytes of the file now", done.after)])
}

/// The answer is 'no', for a reason.
fn no(error: Error) -> Ended {
    complain(error);
    Ok(Code::No)
}

fn print(out: &mut Out, lines: &[(&str, u64)]) -> Ended {
    let mut rows = table(&["", "count"], 1);
    for (what, count) in lines {
        rows.add_row([(*what).to_owned(), grouped(*count)]);
    }
    writeln!(out, "{rows}")?;
    Ok(Code::Done)
}

/// Refuses a file that is there and is no cache file: it would be left alone, and nothing kept.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    if !path.exists() || path.metadata().is_ok_and(|about| about.is_file() && about.len() == 0) {
        return Ok(());
    }
    let mut secret = OsString::from(path);
    secret.push(".secret");
    if path.is_file() && Path::new(&secret).is_file() {
        return Ok(());
    }
    Err(Error::bad_setting(
        format!("`{}` is there already and is no cache file (no `.secret` beside it)", path.display()),
        "give a path that does not exist yet, or move that file away; it was not touched",
    ))
}

/// The key that answers in the file are sealed with.
fn mac_key(path: &Path) -> Result<[u8; 32], Error> {
    is_claimed(path)?;
    Ok(Keyer::new(&Secret::beside(path)?).mac_key())
}

/// Without its secret a file would be taken for a stranger's and emptied.
fn is_claimed(path: &Path) -> Result<(), Error> {
    let mut secret = OsString::from(path);
    secret.push(".secret");
    if Path::new(&secret).is_file() {
        return Ok(());
    }
    Err(Error::bad_input(
        format!("the secret of the cache file `{}` is not beside it", path.display()),
        "look at the file from the program that was given its secret, or bring `<path>.secret` back",
    ))
}

/// Opens the file as the cache layer would.
fn open(path: &Path) -> Result<CacheHandle, Error> {
    is_claimed(path)?;
    // The largest bound there is, so that looking at a file never makes room in it.
    let layer = CacheLayer::builder().disk(path).disk_bytes(u64::MAX >> 1).build()?;
    Ok(layer.handle())
}

/// The figures of the disk tier, once it knows all that is in the file; `None` while it cannot be used.
fn figures(handle: &CacheHandle) -> Option<DiskStats> {
    handle.flush_blocking();
    handle.stats().store.disk.filter(|disk| disk.available)
}
