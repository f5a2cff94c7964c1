//! A process that is killed in the middle of its work loses nothing that was flushed.
#![cfg(all(feature = "disk", feature = "test-util", unix))]

#[path = "support/fault.rs"]
#[expect(dead_code, unreachable_pub, reason = "what other tests need, and no outside")]
mod fault;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fault::{Dice, MAC, NOW, entry, first_seed, key, version};
use thrifty::cache::{Disk, DiskOptions, DiskState};
use thrifty::clock::ManualClock;

/// Set in the process that is to be killed: the file, and the first number to store.
const CHILD: &str = "THRIFTY_TEST_KILLED";

/// Keys come again, so that the file stays within its bound and newer answers replace older ones.
const KEYS: u64 = 6000;

fn open(path: &Path) -> Disk {
    let options = DiskOptions { max_bytes: 256 << 20, ..DiskOptions::default() };
    Disk::open(path, options, MAC, Arc::new(ManualClock::at_ms(NOW)))
}

/// Not a test of its own: the process that is killed.
#[test]
#[ignore = "is started by the other tests"]
fn the_process_that_is_killed() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let (path, first) = what.split_once('|').expect("two parts");
    let disk = open(Path::new(path));
    let mut out = std::io::stdout();
    let mut dice = Dice::new(first.parse().expect("a number"));
    let mut n: u64 = first.parse().expect("a number");
    let mut said = Instant::now();
    loop {
        disk.put(key(n % KEYS), entry(n % KEYS, n, 500 + dice.below(3000) as usize));
        if dice.one_in(400) {
            disk.flush();
            writeln!(out, "flushed {n}").and_then(|()| out.flush()).expect("somebody reads");
        } else if said.elapsed() > Duration::from_millis(10) {
            said = Instant::now();
            writeln!(out, "put {n}").and_then(|()| out.flush()).expect("somebody reads");
        }
        n += 1;
        // Some thousand stores a second, more than anybody is billed for.
        if n.is_multiple_of(8) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn kills(count: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("c.redb");
    let first = first_seed();
    let (mut next, mut worst_open, mut worst_window, mut lost) = (1u64, Duration::ZERO, 0u128, 0u64);
    for seed in first..first + count {
        let mut dice = Dice::new(seed);
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "the_process_that_is_killed", "--nocapture"])
            .env(CHILD, format!("{}|{next}", path.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut said: Vec<(bool, u64, Instant)> = Vec::new();
        let mut alive = None;
        let life = Duration::from_millis(200 + dice.below(500));
        while alive.is_none_or(|since: Instant| since.elapsed() < life) {
            let line = lines.next().expect("it lives").expect("a line");
            let mut words = line.split_whitespace();
            if let (Some(what @ ("put" | "flushed")), Some(Ok(n))) =
                (words.next(), words.next().map(str::parse))
            {
                alive.get_or_insert_with(Instant::now);
                said.push((what == "flushed", n, Instant::now()));
            }
        }
        child.kill().expect("it is killed");
        let killed = Instant::now();
        child.wait().expect("it ends");
        let began = Instant::now();
        let disk = open(&path);
        worst_open = worst_open.max(began.elapsed());
        assert_eq!(disk.stats().state, DiskState::Healthy, "seed {seed} opens");
        while disk.stats().loading {
            std::thread::sleep(Duration::from_millis(1));
        }
        let flushed = said.iter().rev().find(|(flushed, ..)| *flushed).map_or(next - 1, |(_, n, _)| *n);
        let last = said.last().map_or(0, |(_, n, _)| *n);
        // The newest number of each key that must be there.
        let mut newest_lost = None;
        for n in next.max(last.saturating_sub(KEYS))..=last {
            let found = runtime.block_on(async {
                for _ in 0..50 {
                    let late = disk.stats().late;
                    let found = disk.get(&key(n % KEYS)).await;
                    if found.is_some() || disk.stats().late == late {
                        return found;
                    }
                }
                None
            });
            let found = found.map(|found| version(n % KEYS, &found));
            // Another one of this life may have taken its place.
            if found.is_some_and(|found| found >= n) {
                continue;
            }
            assert!(n > flushed, "seed {seed}: {n} was flushed (up to {flushed}) and is {found:?}");
            lost += 1;
            newest_lost.get_or_insert(n);
        }
        if let Some(oldest) = newest_lost {
            let at = said.iter().find(|(_, n, _)| *n >= oldest).map_or(killed, |(.., at)| *at);
            worst_window = worst_window.max(killed.saturating_duration_since(at).as_millis());
        }
        assert_eq!((disk.stats().damaged, std::fs::read_dir(dir.path()).expect("reads").count()), (0, 1));
        next = last + KEYS;
        next -= next % KEYS;
        drop(disk);
    }
    println!(
        "{count} kills: always opens (slowest {worst_open:?}), 0 lost after a flush; {lost} lost otherwise, the oldest \
         {worst_window} ms old"
    );
    // The window is 250 ms; the rest is for a machine that does other things too.
    assert!(worst_window < 250 + 500, "{worst_window} ms");
}

#[test]
fn a_kill_loses_nothing_that_was_flushed() {
    kills(10);
}

#[test]
#[ignore = "minutes"]
fn a_hundred_kills_lose_nothing_that_was_flushed() {
    kills(100);
}
