//! The disk tier's paths, each beside its floor in one group, so that a ratio holds on any machine.
//!
//! - `disk_hit`: an answer out of the file, from a block in memory and by a reader thread; floor: the engine reading
//!   the same bytes from its page cache.
//! - `disk_store`: stores of 3 KiB up to the flush; floor: the engine committing the same bytes in the same groups.
//! - `disk_open`: a file after a kill of its process in the middle of its stores; floor: the engine opening it. The
//!   index is read behind that. 256 MiB, or `THRIFTY_OPEN_MIB`. Alone: `THRIFTY_OPEN_ONLY=1`.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

mod disk {
    use std::hint::black_box;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use criterion::{BenchmarkId, Criterion};
    use redb::{Database, ReadableDatabase, TableDefinition};
    use thrifty::cache::{CacheKey, Disk, DiskOptions, Entry, Keyer, Secret};
    use thrifty::call::{Call, Scope};
    use thrifty::clock::SystemClock;

    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("t");
    const MAC: [u8; 32] = [7; 32];

    fn key(n: u64) -> CacheKey {
        let keyer = Keyer::new(&Secret::from_bytes([9; 32]));
        let call =
            Call::post("https://api.openai.com/v1/chat/completions", format!(r#"{{"model":"m","n":{n}}}"#));
        keyer.key(&call, &Scope::shared("bench"), &[]).unwrap()
    }

    /// Bytes that do not compress.
    fn noise(n: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn now_ms() -> i64 {
        thrifty::clock::Clock::now_ms(&SystemClock)
    }

    fn entry(body: Vec<u8>) -> Arc<Entry> {
        Arc::new(Entry::new(http::StatusCode::OK, body, now_ms(), Duration::from_secs(24 * 3600)))
    }

    fn open(path: &Path, max_bytes: u64) -> Disk {
        let options = DiskOptions { max_bytes, ..DiskOptions::default() };
        Disk::open(path, options, MAC, Arc::new(SystemClock))
    }

    pub(super) fn hit(c: &mut Criterion) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut group = c.benchmark_group("disk_hit");
        for kib in [1usize, 4, 16] {
            let path = dir.path().join(format!("{kib}.redb"));
            let raw = Database::create(dir.path().join(format!("{kib}.raw"))).unwrap();
            let count = 64u64;
            let text = "All happy families are alike; each unhappy family is unhappy in its own way. ";
            let body = |n: u64| -> Vec<u8> {
                let mut body = format!("{n} ").into_bytes();
                body.extend(noise(n, kib << 8));
                body.extend(text.bytes().cycle().take((kib << 10) - (kib << 8)));
                body
            };
            let disk = open(&path, 1 << 30);
            let write = raw.begin_write().unwrap();
            for n in 0..count {
                disk.put(key(n), entry(body(n)));
                write.open_table(TABLE).unwrap().insert(n, body(n).as_slice()).unwrap();
            }
            write.commit().unwrap();
            disk.flush();
            let keys: Vec<CacheKey> = (0..count).map(key).collect();
            group.bench_function(BenchmarkId::new("floor", format!("{kib}K")), |b| {
                let mut n = 0;
                b.iter(|| {
                    n = (n + 1) % count;
                    let table = raw.begin_read().unwrap().open_table(TABLE).unwrap();
                    black_box(table.get(n).unwrap().unwrap().value().to_vec())
                });
            });
            let get = |disk: &Disk, b: &mut criterion::Bencher<'_>| {
                b.iter_custom(|times| {
                    runtime.block_on(async {
                        let began = Instant::now();
                        for n in 0..times {
                            black_box(disk.get(&keys[(n % count) as usize]).await);
                        }
                        began.elapsed()
                    })
                });
            };
            group.bench_function(BenchmarkId::new("written_here", format!("{kib}K")), |b| get(&disk, b));
            assert!(disk.stats().hot > 0);
            drop(disk);
            let disk = open(&path, 1 << 30);
            group.bench_function(BenchmarkId::new("read_once", format!("{kib}K")), |b| get(&disk, b));
            drop(disk);
        }
        group.finish();
    }

    /// Blocks are too many for memory here, so each read goes through a reader thread.
    pub(super) fn page_cached(c: &mut Criterion) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.redb");
        let disk = open(&path, 1 << 30);
        let count = 20_000u64;
        let raw = Database::create(dir.path().join("b.redb")).unwrap();
        let mut write = raw.begin_write().unwrap();
        write.set_quick_repair(true);
        for n in 0..count {
            disk.put(key(n), entry(noise(n, 4000)));
            write.open_table(TABLE).unwrap().insert(n, noise(n, 4096).as_slice()).unwrap();
            if n % 1000 == 999 {
                disk.flush();
            }
        }
        write.commit().unwrap();
        let keys: Vec<CacheKey> = (0..count).map(key).collect();
        let mut group = c.benchmark_group("disk_hit_wide");
        group.bench_function("floor", |b| {
            let mut n = 0;
            b.iter(|| {
                n = (n + 7919) % count;
                let table = raw.begin_read().unwrap().open_table(TABLE).unwrap();
                black_box(table.get(n).unwrap().unwrap().value().to_vec())
            });
        });
        group.bench_function("cache", |b| {
            let mut n = 0;
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let began = Instant::now();
                    for _ in 0..times {
                        n = (n + 7919) % count;
                        black_box(disk.get(&keys[n as usize]).await);
                    }
                    began.elapsed()
                })
            });
        });
        group.finish();
    }

    pub(super) fn store(c: &mut Criterion) {
        const GROUP: u64 = 1024;
        let dir = tempfile::tempdir().unwrap();
        let mut group = c.benchmark_group("disk_store");
        group.sample_size(10);
        let entries: Vec<_> = (0..GROUP).map(|n| (key(n), noise(n, 3000))).collect();
        let raw = Database::create(dir.path().join("b.redb")).unwrap();
        let mut seq = 0u64;
        group.bench_function("floor", |b| {
            b.iter(|| {
                for chunk in entries.chunks(256) {
                    let mut write = raw.begin_write().unwrap();
                    write.set_quick_repair(true);
                    {
                        let mut table = write.open_table(TABLE).unwrap();
                        for (_, body) in chunk {
                            seq += 1;
                            table.insert(seq % (16 * GROUP), body.as_slice()).unwrap();
                        }
                    }
                    write.commit().unwrap();
                }
            });
        });
        let disk = open(&dir.path().join("a.redb"), 256 << 20);
        group.bench_function("cache", |b| {
            b.iter(|| {
                for (key, body) in &entries {
                    disk.put(*key, entry(body.clone()));
                }
                disk.flush();
            });
        });
        group.finish();
    }

    /// Set in the process that is to be killed: the file, its bound and how long it grows, in MiB.
    const CHILD: &str = "THRIFTY_BENCH_KILLED";

    /// Fills a file and goes on storing until it is killed.
    pub(super) fn be_killed() {
        let Ok(what) = std::env::var(CHILD) else { return };
        let (path, mib) = what.split_once('|').unwrap();
        let most = mib.parse::<u64>().unwrap() << 20;
        let disk = open(Path::new(path), 2 * most);
        let mut n = 0;
        loop {
            for _ in 0..500 {
                disk.put(key(n), entry(noise(n, 4000)));
                n += 1;
            }
            disk.flush();
            // The file doubles when it is full, so at this length it is at least half full.
            if disk.stats().file_bytes >= most && disk.stats().live_bytes >= most / 8 * 5 {
                println!("full");
            }
        }
    }

    /// Prints instead of asking criterion: an opening is made once. A process is killed in the middle of its stores;
    /// what it wrote is synced, so that nothing is written behind the opening's back.
    pub(super) fn reopen(_: &mut Criterion) {
        use std::io::BufRead;
        let mib = std::env::var("THRIFTY_OPEN_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(256u64);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.redb");
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .env(CHILD, format!("{}|{mib}", path.display()))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        while lines.next().unwrap().unwrap() != "full" {}
        child.kill().unwrap();
        child.wait().unwrap();
        let raw = dir.path().join("raw.redb");
        std::fs::copy(&path, &raw).unwrap();
        for path in [&path, &raw] {
            std::fs::File::open(path).unwrap().sync_all().unwrap();
        }
        let engine = || {
            let mut builder = redb::Builder::new();
            builder
                .set_cache_size(16 << 20)
                .set_repair_callback(|_| println!("disk_open: a walk over the whole file"));
            let began = Instant::now();
            (builder.open(&raw).unwrap(), began.elapsed())
        };
        let (floor, floor_took) = engine();
        drop(floor);
        let (floor, floor_again) = engine();
        drop(floor);
        let began = Instant::now();
        let disk = open(&path, 2 * (mib << 20));
        let ready = began.elapsed();
        while disk.stats().loading {
            std::thread::sleep(Duration::from_millis(1));
        }
        let loaded = began.elapsed();
        println!(
            "disk_open: {} MiB after a kill: the engine alone {floor_took:?} (again, after a close: {floor_again:?}); \
             ready for stores {ready:?}; index of {} entries complete after {loaded:?}",
            std::fs::metadata(&path).unwrap().len() >> 20,
            disk.stats().entries,
        );
        assert!(disk.stats().available && disk.stats().entries > 0);
    }
}

fn benches() {
    // The process that is killed never gets further.
    disk::be_killed();
    let mut criterion = criterion::Criterion::default().configure_from_args();
    let all: [fn(&mut criterion::Criterion); 4] = [disk::reopen, disk::hit, disk::page_cached, disk::store];
    let alone = std::env::var_os("THRIFTY_OPEN_ONLY").is_some();
    for bench in all.into_iter().take(if alone { 1 } else { 4 }) {
        bench(&mut criterion);
    }
    criterion.final_summary();
}

criterion::criterion_main!(benches);
