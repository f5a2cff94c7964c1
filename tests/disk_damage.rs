//! A damaged file is a miss, or is put aside: no wrong answer, no panic that escapes, every call answered.
#![cfg(all(feature = "disk", feature = "test-util"))]

#[path = "support/fault.rs"]
#[expect(dead_code, unreachable_pub, reason = "what other tests need, and no outside")]
mod fault;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fault::{Dice, MAC, NOW, PATH, World, entry, first_seed, key, options, version};
use thrifty::cache::Disk;
use thrifty::clock::ManualClock;

const ENTRIES: u64 = 1500;

fn open(world: &World) -> Disk {
    Disk::open_on(Arc::new(world.clone()), PATH, options(), MAC, Arc::new(ManualClock::at_ms(NOW)))
}

/// Some 4 MiB, with a removed and a purged part.
fn base() -> Vec<u8> {
    let world = World::default();
    let disk = open(&world);
    for n in 0..ENTRIES {
        disk.put_stamped(key(n), entry(n, 1, 200 + n as usize % 3000), disk.stamp([(n % 3) as u8; 16]));
    }
    disk.flush();
    disk.purge([2; 16]);
    (0..30).for_each(|n| disk.remove(&key(n)));
    drop(disk);
    world.bytes(Path::new(PATH))
}

/// Another program's database.
fn foreign() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("other.redb");
    let theirs = redb::Database::create(&path).expect("opens");
    let write = theirs.begin_write().expect("begins");
    write
        .open_table(redb::TableDefinition::<u64, u64>::new("rows"))
        .expect("opens")
        .insert(1, 2)
        .expect("writes");
    write.commit().expect("commits");
    drop(theirs);
    std::fs::read(path).expect("reads")
}

fn mutant(base: &[u8], foreign: &[u8], dice: &mut Dice) -> Vec<u8> {
    const PAGE: u64 = 4096;
    let mut bytes = base.to_vec();
    let pages = base.len() as u64 / PAGE;
    let page = |dice: &mut Dice| {
        let at = (dice.below(pages) * PAGE) as usize;
        at..at + PAGE as usize
    };
    match dice.below(12) {
        0..4 => {
            for _ in 0..1 + dice.below(20) {
                let at = dice.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << dice.below(8);
            }
        }
        4 | 5 => (0..1 + dice.below(8)).for_each(|_| bytes[page(dice)].fill(0)),
        6 => {
            let (a, b) = (page(dice), page(dice));
            let (left, right) = (bytes[a.clone()].to_vec(), bytes[b.clone()].to_vec());
            bytes[a].copy_from_slice(&right);
            bytes[b].copy_from_slice(&left);
        }
        7 => bytes.truncate(dice.below(base.len() as u64) as usize),
        8 => {
            let at = page(dice);
            bytes[at].iter_mut().for_each(|byte| *byte = dice.next() as u8);
        }
        9 => {
            // The head of the engine's file.
            let at = dice.below(400) as usize;
            bytes[at] = dice.next() as u8;
        }
        10 => {
            // A newer format of ours, wherever the number stands.
            let name = b"format";
            let mut at = 0;
            while let Some(found) = bytes[at..].windows(name.len()).position(|window| window == name) {
                at += found + name.len();
                if let Some(number) = bytes[at..].iter().take(200).position(|byte| *byte == 2) {
                    bytes[at + number] = 3;
                }
            }
        }
        _ => match dice.below(3) {
            0 => bytes.clear(),
            1 => bytes = foreign.to_vec(),
            _ => bytes = (0..dice.below(100_000)).map(|_| dice.next() as u8).collect(),
        },
    }
    bytes
}

fn mutants(count: u64) {
    let engine = |info: &std::panic::PanicHookInfo<'_>| {
        info.location().is_some_and(|location| location.file().contains("redb"))
    };
    let usual = std::panic::take_hook();
    // What the engine panics about is expected here, and caught.
    std::panic::set_hook(Box::new(move |info| {
        if !engine(info) {
            usual(info);
        }
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (base, foreign) = (base(), foreign());
    let first = first_seed();
    let (mut hits, mut aside, mut empty, mut longest) = (0, 0, 0, Duration::ZERO);
    for seed in first..first + count {
        let mut dice = Dice::new(seed);
        let world = World::with(Path::new(PATH), mutant(&base, &foreign, &mut dice));
        let began = Instant::now();
        let disk = open(&world);
        let before = hits;
        for n in 0..ENTRIES {
            let Some(found) = runtime.block_on(disk.get(&key(n))) else { continue };
            assert_eq!(version(n, &found), 1, "seed {seed}");
            assert!(n >= 30 && n % 3 != 2, "seed {seed}: {n} was removed or purged, and is back");
            hits += 1;
        }
        longest = longest.max(began.elapsed());
        empty += u64::from(hits == before);
        disk.put(key(5000), entry(5000, 1, 100));
        disk.flush();
        disk.remove(&key(40));
        disk.purge([1; 16]);
        if let Some(found) = runtime.block_on(disk.get(&key(5000))) {
            assert_eq!(version(5000, &found), 1, "seed {seed}");
        }
        let _ = format!("{disk:?}");
        drop(disk);
        aside += u64::from(world.names().len() > 1);
    }
    println!(
        "{count} damaged files: {hits} right answers, none wrong; {aside} put aside, {empty} without any answer; the \
         longest took {longest:?} for an opening and {ENTRIES} reads"
    );
    assert!(aside > 0 && hits > 0 && empty < count, "the damage is neither nothing nor everything");
}

#[test]
fn a_damaged_file_brings_no_wrong_answer() {
    mutants(200);
}

#[test]
#[ignore = "minutes"]
fn two_thousand_damaged_files_bring_no_wrong_answer() {
    mutants(2000);
}
