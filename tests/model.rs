//! The disk tier against a plain map: it may miss, it must never lie.
#![cfg(all(feature = "disk", feature = "test-util"))]

#[path = "support/fault.rs"]
#[expect(dead_code, unreachable_pub, reason = "what other tests need, and no outside")]
mod fault;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fault::{Dice, MAC, NOW, PATH, World, first_seed, key, noise, options, version};
use thrifty::cache::{Disk, Entry};
use thrifty::clock::ManualClock;

const KEYS: u64 = 10;
const SCOPES: u64 = 3;

/// A value that was put: told apart by its version, which is the step it was put at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    version: u64,
    expires_ms: i64,
    created_ms: i64,
}

/// What may be answered for each key.
#[derive(Default)]
struct Model {
    /// The last value put, unless it was removed or purged. After a crash, any value that may have survived.
    allowed: HashMap<u64, Vec<Value>>,
    /// Put since the last thing that made all durable, oldest first; before them what was durable then.
    history: HashMap<u64, Vec<Value>>,
    /// The disk may say no.
    faulty: bool,
}

impl Model {
    fn put(&mut self, n: u64, value: Value) {
        self.allowed.insert(n, vec![value]);
        self.history.entry(n).or_default().push(value);
    }

    /// Removed. On a disk that says no that is durable once it says yes again.
    fn remove(&mut self, n: u64) {
        self.allowed.remove(&n);
        if !self.faulty {
            self.history.remove(&n);
        }
    }

    /// Purged, durably so even then: a file in which that cannot be written is deleted.
    fn purge(&mut self, purged: [u8; 16]) {
        self.allowed.retain(|n, _| scope(*n) != purged);
        self.history.retain(|n, _| scope(*n) != purged);
    }

    fn durable(&mut self) {
        // What a crash left open is still open.
        if !self.faulty {
            self.history = self.allowed.clone();
        }
    }

    fn crash(&mut self) {
        self.allowed = self.history.clone();
        self.faulty = false;
    }
}

/// The scope of a key never changes.
fn scope(n: u64) -> [u8; 16] {
    [(n % SCOPES) as u8; 16]
}

fn sequence(seed: u64, steps: u64, runtime: &tokio::runtime::Runtime) -> u64 {
    let mut dice = Dice::new(seed);
    let clock = ManualClock::at_ms(NOW);
    let mut now = NOW;
    let mut world = World::default();
    let open =
        |world: &World| Disk::open_on(Arc::new(world.clone()), PATH, options(), MAC, Arc::new(clock.clone()));
    let mut disk = open(&world);
    let mut model = Model::default();
    let mut hits = 0;
    // The steps of one seed, to follow what went wrong in it.
    let trace = std::env::var_os("THRIFTY_TRACE").is_some();
    for step in 1..=steps {
        let n = dice.below(KEYS);
        let what = dice.below(40);
        if trace {
            eprintln!(
                "{step}: {what} on {n}; {:?} {:?}; may be {:?}",
                disk.stats().state,
                disk.stats().entries,
                model.allowed.get(&n)
            );
        }
        match what {
            0..14 => {
                let large = dice.one_in(12);
                let len = if large { 200_000 + dice.below(700_000) } else { 20 + dice.below(3000) };
                let ttl = 1 + dice.below(600);
                let body = noise(n, step, len as usize);
                let entry = Entry::new(http::StatusCode::OK, body, now, Duration::from_secs(ttl));
                let value = Value { version: step, expires_ms: now + ttl as i64 * 1000, created_ms: now };
                // Now and then one whose call was sent before a purge.
                let stamp = disk.stamp(scope(n));
                if dice.one_in(10) {
                    disk.purge(scope(n));
                    model.purge(scope(n));
                    disk.put_stamped(key(n), Arc::new(entry), stamp);
                } else {
                    disk.put_stamped(key(n), Arc::new(entry), stamp);
                    model.put(n, value);
                }
            }
            14..30 => {
                let found = runtime.block_on(disk.get(&key(n)));
                if let Some(found) = found {
                    hits += 1;
                    let version = version(n, &found);
                    let allowed = model.allowed.get(&n).map_or(&[][..], Vec::as_slice);
                    let value = allowed.iter().find(|value| value.version == version);
                    let Some(value) = value else {
                        panic!("seed {seed}, step {step}: {n} is {version}, may be {allowed:?}");
                    };
                    assert!(now < value.expires_ms, "seed {seed}, step {step}: {n} is stale");
                    assert!(
                        now >= value.created_ms - 60_000,
                        "seed {seed}, step {step}: {n} is of the future"
                    );
                }
            }
            30 => {
                disk.flush();
                model.durable();
            }
            31 => {
                disk.remove(&key(n));
                model.durable();
                model.remove(n);
            }
            32 => {
                disk.purge(scope(n));
                model.purge(scope(n));
            }
            33 if dice.one_in(2) => {
                disk.clear();
                model = Model { faulty: model.faulty, ..Model::default() };
            }
            34 => {
                now += dice.below(300_000) as i64 - 100_000;
                clock.set_ms(now);
            }
            35 => {
                drop(disk);
                // What could not be written is lost with the process.
                if model.faulty {
                    model.allowed = model.history.clone();
                } else {
                    model.durable();
                }
                disk = open(&world);
            }
            36 | 37 => {
                let next = match dice.one_in(2) {
                    true => world.after_kill(Path::new(PATH)),
                    false => world.after_power_cut(Path::new(PATH), &mut dice),
                };
                drop(disk);
                world = next;
                model.crash();
                disk = open(&world);
            }
            38 => {
                model.faulty = true;
                world.fail_from(world.changes() + 1 + dice.below(30), std::io::ErrorKind::StorageFull);
            }
            _ => {
                world.heal();
                let began = Instant::now();
                while !disk.stats().available {
                    assert!(began.elapsed() < Duration::from_secs(5), "seed {seed}, step {step}: {disk:?}");
                    std::thread::sleep(Duration::from_millis(1));
                }
                disk.flush();
                model.faulty = false;
                model.durable();
            }
        }
    }
    hits
}

fn sequences(count: u64, steps: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let first = first_seed();
    let hits: u64 = (first..first + count).map(|seed| sequence(seed, steps, &runtime)).sum();
    println!("{count} sequences of {steps} steps: {hits} hits, none wrong");
    assert!(hits > count, "a cache that never hits proves nothing");
}

#[test]
fn it_may_miss_but_it_never_lies() {
    sequences(200, 50);
}

#[test]
#[ignore = "minutes"]
fn it_never_lies_in_ten_thousand_sequences() {
    sequences(10_000, 50);
}
