//! `thrifty cache`: looks after a cache file.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use thrifty::cache::{CacheHandle, CacheLayer, DiskStats};
use thrifty::{Error, Kind};

use crate::output::{Code, Ended, Out, complain, grouped, json, table};

/// Look after a cache file: what it holds, or empty it
///
/// One process owns a cache file at a time: stop the program that uses it first. Exit code 1 if there is no such file
/// or it is in use.
#[derive(Args, Debug)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// How many answers the file holds, and how large it is
    Stats(Which),
    /// Forget all answers in the file
    Purge(Which),
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

pub(crate) fn run(args: &CacheArgs, out: &mut Out) -> Ended {
    let (which, purge) = match &args.what {
        What::Stats(which) => (which, false),
        What::Purge(which) => (which, true),
    };
    if !which.path.is_file() {
        let problem = format!("there is no cache file `{}`", which.path.display());
        complain(Error::new(Kind::Store, problem, "give the path that the cache layer was built with"));
        return Ok(Code::No);
    }
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
    let mut rows = table(&["", "count"], 1);
    for (what, count) in [
        ("answers", figures.entries),
        ("bytes they take", figures.live_bytes),
        ("bytes of the file", figures.file_bytes),
    ] {
        rows.add_row([what.to_owned(), grouped(count)]);
    }
    if purge {
        rows.add_row(["answers forgotten".to_owned(), grouped(purged)]);
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

/// Opens the file as the cache layer would. Without its secret it would be taken for a stranger's and emptied.
fn open(path: &Path) -> Result<CacheHandle, Error> {
    let mut secret = OsString::from(path);
    secret.push(".secret");
    if !Path::new(&secret).is_file() {
        return Err(Error::bad_input(
            format!("the secret of the cache file `{}` is not beside it", path.display()),
            "look at the file from the program that was given its secret, or bring `<path>.secret` back",
        ));
    }
    // The largest bound there is, so that looking at a file never makes room in it.
    let layer = CacheLayer::builder().disk(path).disk_bytes(u64::MAX >> 1).build()?;
    Ok(layer.handle())
}

/// The figures of the disk tier; `None` while it cannot be used.
fn figures(handle: &CacheHandle) -> Option<DiskStats> {
    handle.stats().store.disk.filter(|disk| disk.available)
}
