//! The disk tier's paths, each beside its floor in one group, so that a ratio holds on any machine.
//!
//! - `disk_hit`: an answer out of the file, from a block in memory and by a reader thread; floor: the engine reading
//!   the same bytes from its page cache.
//! - `disk_store`: stores of 3 KiB up to the flush; floor: the engine committing the same bytes in the same groups.
//! - `disk_open`: a file of a gibibyte after a kill; floor: the engine opening it. The index is read behind that.

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

    /// A copy that is on the disk: an opening syncs, and must not be charged for it.
    fn copy(from: &Path, to: &Path) {
        std::fs::copy(from, to).unwrap();
        std::fs::File::open(to).unwrap().sync_all().unwrap();
    }

    /// Prints instead of asking criterion: an opening is made once.
    pub(super) fn reopen(_: &mut Criterion) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.redb");
        let disk = open(&path, 2 << 30);
        let mut n = 0;
        while disk.stats().file_bytes < 1 << 30 {
            for _ in 0..4000 {
                disk.put(key(n), entry(noise(n, 4000)));
                n += 1;
            }
            disk.flush();
        }
        // As a kill leaves it: without a close.
        let killed = dir.path().join("killed.redb");
        copy(&path, &killed);
        let entries = disk.stats().entries;
        drop(disk);
        let raw = dir.path().join("raw.redb");
        copy(&killed, &raw);
        let began = Instant::now();
        let floor = Database::open(&raw).unwrap();
        let floor_took = began.elapsed();
        drop(floor);
        let began = Instant::now();
        let disk = open(&killed, 2 << 30);
        let ready = began.elapsed();
        while disk.stats().loading {
            std::thread::sleep(Duration::from_millis(1));
        }
        println!(
            "disk_open: {} MiB after a kill: engine {floor_took:?}, ready {ready:?}, index of {entries} entries \
             {:?}",
            std::fs::metadata(&killed).unwrap().len() >> 20,
            began.elapsed()
        );
        assert_eq!(disk.stats().entries, entries);
    }
}

criterion::criterion_group!(benches, disk::hit, disk::page_cached, disk::store, disk::reopen);
criterion::criterion_main!(benches);
