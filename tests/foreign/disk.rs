//! The file: each fault here lost, kept or brought back what it should not have, or grew without end.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thrifty::cache::{Disk, DiskOptions, Entry};
use thrifty::clock::ManualClock;

use super::fault::{Dice, MAC, NOW, PATH, World, entry, key, noise, options, version};

fn open(world: &World) -> Disk {
    open_at(world, options(), ManualClock::at_ms(NOW))
}

fn open_at(world: &World, options: DiskOptions, clock: ManualClock) -> Disk {
    let disk = Disk::open_on(Arc::new(world.clone()), PATH, options, MAC, Arc::new(clock));
    let began = Instant::now();
    while disk.stats().loading && began.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    disk
}

/// A read that came late on a busy machine is asked again; a real miss stays one.
fn get(disk: &Disk, n: u64) -> Option<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for _ in 0..100 {
        let late = disk.stats().late;
        let found = runtime.block_on(disk.get(&key(n)));
        if found.is_some() || disk.stats().late == late {
            return found.map(|found| version(n, &found));
        }
    }
    None
}

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

/// Stores an answer of 64 KiB for each, never more at once than may wait for the disk.
fn fill(disk: &Disk, numbers: std::ops::Range<u64>) {
    for n in numbers {
        disk.put(key(n), entry(n, 1, 64 << 10));
        if n % 100 == 99 {
            disk.flush();
        }
    }
    disk.flush();
}

/// Puts so many mebibytes of entries of 64 KiB, each key anew.
fn put_mebibytes(disk: &Disk, world: &World, mebibytes: u64) -> u64 {
    fill(disk, 0..mebibytes * 16);
    world.longest()
}

const BOUND: u64 = 64 << 20;

mod foyer {
    use super::*;

    /// An entry that waited to be written was reported as absent.
    #[test]
    fn foyer_1336_what_waits_to_be_written_is_found() {
        let world = World::default();
        let disk = open(&world);
        world.stall_syncs(Duration::from_millis(300));
        for n in 0..50 {
            disk.put(key(n), entry(n, 1, 500));
            assert_eq!(get(&disk, n), Some(1), "{n} was put a moment ago");
        }
        world.stall_syncs(Duration::ZERO);
        disk.flush();
        assert_eq!((disk.stats().pending, get(&disk, 49)), (0, Some(1)));
    }

    /// The program crashed on what it found in its file.
    #[test]
    fn foyer_1315_a_damaged_file_crashes_nobody() {
        let mut dice = Dice::new(1_315);
        let world = World::default();
        let disk = open(&world);
        (0..20).for_each(|n| disk.put(key(n), entry(n, 1, 2_000)));
        drop(disk);
        let good = world.bytes(Path::new(PATH));
        for _ in 0..15 {
            let mut bytes = good.clone();
            let at = dice.below(bytes.len() as u64 - 4_096) as usize;
            bytes[at..at + 4_096].fill(dice.next() as u8);
            let disk = open(&World::with(Path::new(PATH), bytes));
            for n in 0..20 {
                assert!(matches!(get(&disk, n), None | Some(1)), "a wrong answer for {n}");
            }
        }
    }

    /// A write that hung hung all who read and wrote.
    #[test]
    fn foyer_1305_a_disk_that_hangs_holds_nobody_up() {
        let world = World::default();
        let disk = open(&world);
        disk.put(key(1), entry(1, 1, 500));
        disk.flush();
        world.stall_syncs(Duration::from_millis(800));
        let began = Instant::now();
        for n in 2..200 {
            disk.put(key(n), entry(n, 1, 500));
        }
        assert_eq!((get(&disk, 1), get(&disk, 199), get(&disk, 999)), (Some(1), Some(1), None));
        assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
        world.stall_syncs(Duration::ZERO);
    }

    /// What waited for a slow disk was without bound.
    #[test]
    fn foyer_1118_what_waits_for_a_slow_disk_is_bounded() {
        let world = World::default();
        let disk = open(&world);
        world.stall_syncs(Duration::from_millis(500));
        // 320 MiB, while nothing can be written; the bodies are one and the same.
        let body = bytes::Bytes::from(noise(0, 1, 1_000_000));
        for n in 0..320 {
            disk.put(
                key(n),
                Arc::new(Entry::new(http::StatusCode::OK, body.clone(), NOW, Duration::from_secs(60))),
            );
        }
        let stats = disk.stats();
        assert!(stats.dropped > 0 && stats.pending < 200, "{stats:?}");
        world.stall_syncs(Duration::ZERO);
    }
}

mod mjc_nntp_proxy {
    use super::*;

    /// The disk tier grew beyond what it had been given.
    #[test]
    fn mjc_nntp_proxy_112_the_file_stays_within_its_bound() {
        let world = World::without_power_cuts();
        let disk = open(&world);
        let longest = put_mebibytes(&disk, &world, 100);
        assert!(longest <= BOUND, "{longest} bytes");
        assert!(disk.stats().evicted > 0 && disk.stats().entries > 200, "{:?}", disk.stats());
    }
}

mod systeminit_si {
    use super::*;

    /// A full disk stopped the service.
    #[test]
    fn systeminit_si_5154_a_full_disk_stops_nothing_and_is_used_again() {
        let world = World::default();
        let disk = open(&world);
        disk.put(key(1), entry(1, 1, 500));
        disk.flush();
        world.fail_from(world.changes() + 1, ErrorKind::StorageFull);
        (2..50).for_each(|n| disk.put(key(n), entry(n, 1, 5_000)));
        disk.flush();
        assert_eq!(get(&disk, 1), Some(1), "reading goes on");
        world.heal();
        assert!(soon(|| disk.stats().available), "{:?}", disk.stats());
        disk.put(key(60), entry(60, 1, 500));
        disk.flush();
        assert_eq!((disk.stats().pending, get(&disk, 60)), (0, Some(1)));
    }
}

mod cberner_redb {
    use super::*;

    /// A file grew to many times what was in it.
    #[test]
    fn cberner_redb_934_writing_the_same_keys_does_not_grow_the_file() {
        let world = World::without_power_cuts();
        let disk = open(&world);
        let round = |v: u64| (0..40).for_each(|n| disk.put(key(n), entry(n, v, 20_000)));
        for v in 1..=40 {
            round(v);
            disk.flush();
        }
        assert_eq!(get(&disk, 7), Some(40));
        // 800 KB are alive; 32 MB were written.
        let len = world.bytes(Path::new(PATH)).len() as u64;
        assert!(len <= 40 << 20, "{len} bytes for 800 KB");
    }

    /// How a file grows could not be bounded: it doubled.
    #[test]
    fn cberner_redb_652_a_file_never_doubles_beyond_its_bound() {
        let world = World::without_power_cuts();
        let disk = open(&world);
        let mut before = 0;
        for n in 0..1_200 {
            disk.put(key(n), entry(n, 1, 64 << 10));
            if n % 16 == 15 {
                disk.flush();
                assert!(world.longest() <= BOUND, "{} after {before}", world.longest());
                before = world.longest();
            }
        }
    }

    fn at_rest(mebibytes: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.redb");
        let disk = Disk::open(&path, options(), MAC, Arc::new(ManualClock::at_ms(NOW)));
        for n in 0..mebibytes * 16 {
            disk.put(key(n), entry(n, 1, 64 << 10));
        }
        disk.flush();
        for n in 0..mebibytes * 16 - 4 {
            disk.remove(&key(n));
        }
        disk.flush();
        (dir, path)
    }

    /// Compacting made a file longer.
    #[test]
    fn cberner_redb_1165_compacting_never_grows_a_file() {
        let (_dir, path) = at_rest(4);
        let before = std::fs::metadata(&path).unwrap().len();
        Disk::compact(&path, MAC).unwrap();
        let after = std::fs::metadata(&path).unwrap().len();
        assert!(after <= before, "{before} bytes became {after}");
        let disk = Disk::open(&path, options(), MAC, Arc::new(ManualClock::at_ms(NOW)));
        assert!(soon(|| get(&disk, 63) == Some(1)), "what was left is there");
    }

    /// Compacting did not end.
    #[test]
    fn cberner_redb_907_compacting_ends() {
        let (_dir, path) = at_rest(4);
        let began = Instant::now();
        for _ in 0..3 {
            Disk::compact(&path, MAC).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(Disk::verify(&path, MAC).unwrap().is_good());
    }

    /// Compacting went on in a file that others had open.
    #[test]
    fn cberner_redb_852_a_file_in_use_is_not_compacted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.redb");
        let disk = Disk::open(&path, options(), MAC, Arc::new(ManualClock::at_ms(NOW)));
        disk.put(key(1), entry(1, 1, 500));
        disk.flush();
        assert!(Disk::compact(&path, MAC).is_err(), "somebody writes into it");
        assert_eq!(get(&disk, 1), Some(1));
    }

    /// A commit that was rolled back was half there (changelog of 4.2 to 4.6).
    #[test]
    fn cberner_redb_a_commit_that_failed_is_not_there_in_part() {
        let world = World::default();
        let disk = open(&world);
        for step in 1..=12 {
            (0..8).for_each(|n| disk.put(key(n), entry(n, step, 3_000)));
            if step % 2 == 0 {
                world.fail_from(world.changes() + 1 + step, ErrorKind::Other);
            }
            disk.flush();
            world.heal();
            assert!(soon(|| disk.stats().available));
        }
        disk.flush();
        drop(disk);
        let disk = open(&world.after_kill(Path::new(PATH)));
        for n in 0..8 {
            assert!(
                matches!(get(&disk, n), None | Some(12)),
                "{n} is of a commit that failed: {:?}",
                get(&disk, n)
            );
        }
    }

    /// A damaged file was opened as an empty one, and its answers overwritten without a word.
    #[test]
    fn cberner_redb_a_file_that_is_damaged_is_set_aside_and_kept() {
        let world = World::default();
        let disk = open(&world);
        disk.put(key(1), entry(1, 1, 500));
        drop(disk);
        let mut bytes = world.bytes(Path::new(PATH));
        bytes[..512].fill(0xAA);
        let world = World::with(Path::new(PATH), bytes);
        let disk = open(&world);
        assert_eq!(get(&disk, 1), None);
        assert!(soon(|| disk.stats().available), "{:?}", disk.stats());
        let aside = world.names().iter().any(|name| name.to_string_lossy().contains(".quarantine-"));
        assert!(aside, "{:?}", world.names());
        disk.put(key(1), entry(1, 2, 500));
        disk.flush();
        assert_eq!(get(&disk, 1), Some(2), "and a new one takes its place");
    }
}

mod ordinals_ord {
    use super::*;

    /// Each commit wrote out all of the table of free pages, more and more as the file grew.
    #[test]
    fn ordinals_ord_4084_a_commit_writes_no_more_in_a_large_file() {
        let world = World::without_power_cuts();
        let disk = open(&world);
        let commits = |from: u64| {
            let before = world.written();
            for n in from..from + 10 {
                disk.put(key(n), entry(n, 1, 1_000));
                disk.flush();
            }
            world.written() - before
        };
        let small = commits(0);
        fill(&disk, 1_000..1_500);
        let large = commits(100);
        assert!(
            large <= small * 4,
            "ten commits wrote {small} bytes into a small file and {large} into one of 32 MB"
        );
    }
}

mod seaweedfs {
    use super::*;

    /// A file without a quick repair was walked as a whole after each crash.
    #[test]
    fn seaweedfs_11203_a_file_opens_after_a_kill_without_a_walk() {
        let world = World::without_power_cuts();
        let disk = open(&world);
        fill(&disk, 0..400);
        let after = World::with(Path::new(PATH), world.bytes(Path::new(PATH)));
        let disk = open(&after);
        assert!(disk.stats().available);
        // A walk would read each of some 400 blocks, in pieces of a page and more.
        assert!(after.reads() < 200, "{} reads to open 26 MB", after.reads());
        assert_eq!(get(&disk, 399), Some(1));
    }
}

mod http_cache {
    use super::*;

    /// What had been deleted came back after a crash.
    #[test]
    fn http_cache_what_is_removed_stays_removed_after_a_kill() {
        let world = World::default();
        let disk = open(&world);
        (0..10).for_each(|n| disk.put(key(n), entry(n, 1, 500)));
        disk.flush();
        disk.remove(&key(3));
        let mut dice = Dice::new(1);
        for world in [world.after_kill(Path::new(PATH)), world.after_power_cut(Path::new(PATH), &mut dice)] {
            let disk = open(&world);
            assert_eq!((get(&disk, 3), get(&disk, 4)), (None, Some(1)));
        }
        disk.clear();
        let disk = open(&world.after_power_cut(Path::new(PATH), &mut dice));
        assert_eq!(get(&disk, 4), None, "all were forgotten");
    }
}

/// An entry with an hour to live is served as these steps of the clock have it: hours, and whether it is served.
fn under_a_clock_that_steps(steps: &[(i64, bool)]) {
    const HOUR: i64 = 3_600_000;
    let (world, clock) = (World::default(), ManualClock::at_ms(NOW));
    let disk = open_at(&world, options(), clock.clone());
    disk.put(key(1), entry(1, 1, 500));
    disk.flush();
    for (hours, served) in steps {
        clock.set_ms(NOW + hours * HOUR + 30_000 * i64::from(*hours == 0));
        assert_eq!(get(&disk, 1).is_some(), *served, "{hours} hours on");
    }
    drop(disk);
    // What has a new day has a new life, whatever the clock said before.
    clock.set_ms(NOW);
    let disk = open_at(&world, options(), clock.clone());
    disk.put(key(2), entry(2, 1, 500));
    assert_eq!(get(&disk, 2), Some(1));
    clock.set_ms(NOW + 2 * HOUR);
    assert_eq!(get(&disk, 2), None, "immortal");
}

mod grafana {
    /// A clock that was set back made entries immortal.
    #[test]
    fn grafana_125052_a_clock_set_back_makes_nothing_immortal() {
        super::under_a_clock_that_steps(&[(0, true), (-1, false), (-10 * 8_766, false), (1, false)]);
    }
}

mod coredns {
    /// A clock that was set forward made all stale for good.
    #[test]
    fn coredns_8346_a_clock_set_forward_is_no_end() {
        super::under_a_clock_that_steps(&[(0, true), (1, false), (10 * 8_766, false)]);
    }
}

mod apcu {
    /// Entries written before a step of the clock lived as long as the step was.
    #[test]
    fn apcu_412_an_entry_lives_no_longer_for_a_step_of_the_clock() {
        super::under_a_clock_that_steps(&[(-1, false), (2, false)]);
    }
}
