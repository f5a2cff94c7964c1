//! Trouble with the disk fails no call: errors at every operation, stalls, power cuts, two owners.
#![cfg(all(feature = "disk", feature = "test-util"))]

#[path = "support/fault.rs"]
#[expect(unreachable_pub, reason = "a module of a test has no outside")]
mod fault;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fault::{Dice, MAC, NOW, PATH, World, entry, first_seed, key, options, version};
use thrifty::cache::{Disk, DiskState};
use thrifty::clock::ManualClock;

fn open(world: &World) -> Disk {
    Disk::open_on(Arc::new(world.clone()), PATH, options(), MAC, Arc::new(ManualClock::at_ms(NOW)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// A read that came late on a busy machine is asked again; a real miss stays one.
fn get(disk: &Disk, runtime: &tokio::runtime::Runtime, n: u64) -> Option<Arc<thrifty::cache::Entry>> {
    for _ in 0..100 {
        let late = disk.stats().late;
        let found = runtime.block_on(disk.get(&key(n)));
        if found.is_some() || disk.stats().late == late {
            return found;
        }
    }
    None
}

/// True once `done` holds; gives up after five seconds.
fn soon(done: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

const KINDS: [ErrorKind; 4] =
    [ErrorKind::StorageFull, ErrorKind::Other, ErrorKind::ReadOnlyFilesystem, ErrorKind::QuotaExceeded];

/// Some 200 stores and reads; no call may fail or bring a wrong answer.
fn traffic(disk: &Disk, runtime: &tokio::runtime::Runtime) {
    for n in 0..200u64 {
        disk.put(key(n % 50), entry(n % 50, n, 100 + (n as usize % 7) * 700));
        let asked = n * 7 % 50;
        if let Some(found) = runtime.block_on(disk.get(&key(asked))) {
            let found = version(asked, &found);
            assert!(found <= n && found % 50 == asked, "an answer that was never stored");
            assert!(found + 50 > n, "an older answer than the last: {found} of {asked} at {n}");
        }
        if n % 20 == 19 {
            disk.flush();
        }
        if n == 120 {
            disk.remove(&key(3));
            assert!(runtime.block_on(disk.get(&key(3))).is_none());
        }
    }
}

fn errors_at_every_operation(stride: u64) {
    let runtime = runtime();
    let calm = World::default();
    let disk = open(&calm);
    traffic(&disk, &runtime);
    drop(disk);
    let operations = calm.changes();
    assert!(operations > 100, "{operations}");
    let mut cases = 0;
    for kind in KINDS {
        for at in (1..=operations).step_by(stride as usize) {
            cases += 1;
            let world = World::default();
            world.fail_from(at, kind);
            let disk = open(&world);
            traffic(&disk, &runtime);
            world.heal();
            assert!(soon(|| disk.stats().available), "{kind} at {at}: {:?}", disk.stats());
            disk.put(key(900), entry(900, 1, 500));
            disk.flush();
            let stats = disk.stats();
            assert_eq!(stats.pending, 0, "{kind} at {at}: {stats:?}");
            drop(disk);
            let disk = open(&world);
            let found = get(&disk, &runtime, 900);
            assert!(
                found.is_some_and(|found| version(900, &found) == 1),
                "{kind} at {at}: writes resume: {stats:?}, then {:?}",
                disk.stats()
            );
            if let Some(found) = runtime.block_on(disk.get(&key(3))) {
                assert!(version(3, &found) > 120, "{kind} at {at}: removed, and back");
            }
        }
    }
    println!("{cases} cases over {operations} operations: no call failed");
}

#[test]
fn an_error_at_any_operation_fails_no_call() {
    errors_at_every_operation(41);
}

#[test]
#[ignore = "minutes"]
fn an_error_at_every_operation_fails_no_call() {
    errors_at_every_operation(1);
}

fn power_cuts(images: u64) {
    let runtime = runtime();
    let first = first_seed();
    for seed in first..first + images {
        let mut dice = Dice::new(seed);
        let world = World::default();
        let disk = open(&world);
        let mut flushed = [0u64; 40];
        let mut last = [0u64; 40];
        let mut gone = [false; 40];
        for step in 1..=60 + dice.below(60) {
            let n = dice.below(40);
            match dice.below(20) {
                0 => {
                    disk.flush();
                    flushed = last;
                }
                1 => {
                    disk.remove(&key(n));
                    // A removal commits what was put before it as well.
                    flushed = last;
                    (flushed[n as usize], last[n as usize], gone[n as usize]) = (0, 0, true);
                }
                _ => {
                    disk.put(key(n), entry(n, step, 50 + dice.below(3000) as usize));
                    (last[n as usize], gone[n as usize]) = (step, false);
                }
            }
        }
        // Without a last commit some of it is on its way right now.
        let cut = world.after_power_cut(Path::new(PATH), &mut dice);
        drop(disk);
        let disk = open(&cut);
        assert_eq!(disk.stats().state, DiskState::Healthy, "seed {seed} opens");
        assert_eq!(cut.names().len(), 1, "seed {seed}: nothing was put aside");
        for n in 0..40u64 {
            let found = get(&disk, &runtime, n).map(|found| version(n, &found));
            let (flushed, last) = (flushed[n as usize], last[n as usize]);
            match found {
                Some(found) => assert!(
                    found >= flushed && found <= last,
                    "seed {seed}: {n} is {found}, was {flushed} when flushed and {last} at last"
                ),
                None => assert!(flushed == 0, "seed {seed}: {n} was flushed and is lost"),
            }
            assert!(!gone[n as usize] || found.is_none(), "seed {seed}: {n} was removed and is back");
        }
        assert_eq!(disk.stats().damaged, 0, "seed {seed}");
    }
    println!("{images} power cuts: none lost, none wrong, none unopenable");
}

#[test]
fn a_power_cut_loses_nothing_that_was_flushed() {
    power_cuts(100);
}

#[test]
#[ignore = "a minute"]
fn a_thousand_power_cuts_lose_nothing_that_was_flushed() {
    power_cuts(1000);
}

fn stalled_syncs(by: Duration) {
    let runtime = runtime();
    let world = World::default();
    let disk = open(&world);
    (0..20).for_each(|n| disk.put(key(n), entry(n, 1, 1000)));
    disk.flush();
    world.stall_syncs(by);
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let mut n = 20;
    while began.elapsed() < by {
        let call = Instant::now();
        disk.put(key(n), entry(n, 1, 1000));
        assert!(runtime.block_on(disk.get(&key(n))).is_some(), "what waits is served");
        assert!(runtime.block_on(disk.get(&key(n % 20))).is_some(), "what is there is served");
        longest = longest.max(call.elapsed());
        n += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    world.stall_syncs(Duration::ZERO);
    disk.flush();
    println!("{n} stores while a sync hung for {by:?}: the longest took {longest:?}");
    assert!(longest < Duration::from_millis(200), "{longest:?}: nobody waits for a sync");
    assert_eq!(disk.stats().dropped, 0);
}

#[test]
fn a_sync_that_hangs_delays_nobody() {
    stalled_syncs(Duration::from_millis(500));
}

#[test]
#[ignore = "five seconds"]
fn a_sync_that_hangs_for_five_seconds_delays_nobody() {
    stalled_syncs(Duration::from_secs(5));
}

#[test]
fn a_read_that_hangs_is_a_miss_within_its_deadline() {
    let runtime = runtime();
    let world = World::default();
    let disk = open(&world);
    (0..2000).for_each(|n| disk.put(key(n), entry(n, 1, 1000)));
    disk.flush();
    drop(disk);
    // Nothing is in memory now.
    let disk = open(&world);
    assert!(soon(|| !disk.stats().loading));
    world.stall_reads(Duration::from_secs(1));
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    for n in 0..100 {
        let call = Instant::now();
        let found = runtime.block_on(disk.get(&key(n * 17)));
        longest = longest.max(call.elapsed());
        if let Some(found) = found {
            version(n * 17, &found);
        }
    }
    assert!(longest < Duration::from_millis(20 + 50 + 100), "{longest:?}");
    assert!(began.elapsed() < Duration::from_secs(1), "when all readers hang nobody waits for them");
    assert!(disk.stats().late > 50, "{:?}", disk.stats());
    world.stall_reads(Duration::ZERO);
    assert!(soon(|| runtime.block_on(disk.get(&key(17))).is_some()), "and it comes back");
}

#[test]
fn a_miss_never_touches_the_disk() {
    let runtime = runtime();
    let world = World::default();
    let disk = open(&world);
    (0..100).for_each(|n| disk.put(key(n), entry(n, 1, 1000)));
    disk.flush();
    let reads = world.reads();
    for n in 1000..2000 {
        assert!(runtime.block_on(disk.get(&key(n))).is_none());
    }
    assert_eq!(world.reads(), reads);
}

#[test]
fn reads_go_on_while_nothing_can_be_written_and_it_is_said_once() {
    let runtime = runtime();
    let world = World::default();
    let disk = open(&world);
    (0..500).for_each(|n| disk.put(key(n), entry(n, 1, 1000)));
    disk.flush();
    world.fail_from(world.changes() + 1, ErrorKind::StorageFull);
    for n in 500..600 {
        disk.put(key(n), entry(n, 1, 1000));
        disk.flush();
    }
    let alive = (0..500).filter(|n| get(&disk, &runtime, *n).is_some()).count();
    assert_eq!(disk.stats().state, DiskState::ReadOnly);
    assert_eq!(alive, 500, "all that is there is served");
    assert!(disk.stats().dropped > 50, "{:?}", disk.stats());
    assert_eq!(disk.stats().faults, 1, "one fault, however long it lasts");
    world.heal();
    assert!(soon(|| disk.stats().available));
    disk.put(key(700), entry(700, 1, 1000));
    disk.flush();
    assert!(get(&disk, &runtime, 700).is_some(), "writes resume");
}

#[test]
fn a_purge_that_cannot_be_written_is_made_up_for_before_anything_is_read() {
    let runtime = runtime();
    for all in [false, true] {
        let world = World::default();
        let disk = open(&world);
        (0..50).for_each(|n| disk.put_stamped(key(n), entry(n, 1, 1000), disk.stamp([1; 16])));
        disk.flush();
        world.fail_from(world.changes() + 1, ErrorKind::Other);
        if all {
            disk.clear()
        } else {
            disk.purge([1; 16])
        }
        let alive = || (0..50).filter(|n| runtime.block_on(disk.get(&key(*n))).is_some()).count();
        assert_eq!(alive(), 0, "at return");
        world.heal();
        assert!(soon(|| disk.stats().available));
        disk.flush();
        assert_eq!(alive(), 0, "nor afterwards");
        let killed = open(&world.after_kill(Path::new(PATH)));
        assert!((0..50).all(|n| runtime.block_on(killed.get(&key(n))).is_none()), "nor after a kill");
    }
}

#[test]
fn a_file_that_cannot_be_opened_any_more_leaves_memory_alone_until_it_can() {
    let runtime = runtime();
    let world = World::default();
    let disk = open(&world);
    (0..50).for_each(|n| disk.put(key(n), entry(n, 1, 1000)));
    disk.flush();
    world.fail_opens(true);
    world.fail_from(world.changes() + 1, ErrorKind::Other);
    disk.put(key(60), entry(60, 1, 1000));
    disk.flush();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!disk.stats().available);
    disk.put(key(61), entry(61, 1, 1000));
    disk.flush();
    disk.remove(&key(1));
    disk.clear();
    assert!(runtime.block_on(disk.get(&key(61))).is_none());
    world.heal();
    assert!(soon(|| disk.stats().available), "{:?}", disk.stats());
    assert!((0..70).all(|n| runtime.block_on(disk.get(&key(n))).is_none()), "it was purged meanwhile");
}

#[test]
fn a_second_owner_waits_and_takes_over() {
    let runtime = runtime();
    let world = World::default();
    let owner = open(&world);
    owner.put(key(1), entry(1, 1, 100));
    owner.flush();
    let second = open(&world);
    assert_eq!(second.stats().state, DiskState::NotOwner);
    second.put(key(2), entry(2, 1, 100));
    assert!(runtime.block_on(second.get(&key(1))).is_none());
    drop(owner);
    assert!(soon(|| second.stats().available), "it takes over");
    second.flush();
    assert!(get(&second, &runtime, 1).is_some(), "with what was there");
    assert_eq!(second.stats().faults, 1, "said once");
}

#[test]
#[ignore = "a minute and 300 MiB"]
fn a_million_stores_stay_within_the_bounds() {
    churn(1_000_000, 256 << 20, 2500);
}

#[test]
fn many_stores_stay_within_the_bounds() {
    churn(40_000, 64 << 20, 3000);
}

/// Stores of 2 KiB, twice as fast as anybody is billed for them; write amplification at most `most` thousandths.
fn churn(stores: u64, max_bytes: u64, most: u64) {
    let world = World::without_power_cuts();
    let options = thrifty::cache::DiskOptions { max_bytes, ..options() };
    let clock = Arc::new(ManualClock::at_ms(NOW));
    let disk = Disk::open_on(Arc::new(world.clone()), PATH, options, MAC, clock);
    for n in 0..stores {
        disk.put(key(n), entry(n, 1, 2048));
        if n % 4000 == 3999 {
            disk.flush();
            let stats = disk.stats();
            assert!(stats.file_bytes <= max_bytes, "{} bytes after {n}", stats.file_bytes);
        }
    }
    disk.flush();
    let stats = disk.stats();
    assert_eq!((stats.stored, stats.dropped), (stores, 0));
    assert!(world.longest() <= max_bytes, "{} bytes at the longest", world.longest());
    let amplified = world.written() * 1000 / (stores * 2048);
    println!(
        "{stores} stores of 2 KiB: {} MiB at the longest, write amplification {amplified} thousandths, {} entries in \
         {} MiB, {} commits",
        world.longest() >> 20,
        stats.entries,
        stats.live_bytes >> 20,
        stats.commits
    );
    assert!(amplified <= most, "write amplification {amplified} thousandths");
}
