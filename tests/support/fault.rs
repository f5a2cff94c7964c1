//! A file system in memory that fails, stalls, tears and forgets as told, under the disk tier.

use std::collections::HashMap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::{BackendError, StorageBackend};
use thrifty::cache::{CacheKey, Disk, DiskOptions, Entry, Medium};

/// Numbers from a seed, so that a failure comes again.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The first seed of a run; `THRIFTY_SEED` replays one.
pub fn first_seed() -> u64 {
    let seed = std::env::var("THRIFTY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("seeds from {seed} on (set THRIFTY_SEED to replay one)");
    seed
}

enum Op {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Op {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let end = *at as usize + bytes.len();
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[*at as usize..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => data.resize(*len as usize, 0),
        }
    }
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    /// What a power cut would leave for certain, and what has been written since.
    synced: Vec<u8>,
    unsynced: Vec<Op>,
}

#[derive(Default)]
struct File {
    content: Mutex<Content>,
    locked: AtomicBool,
}

/// When something goes wrong.
#[derive(Debug, Default)]
struct Faults {
    /// Operations that change the file, counted from 1.
    changes: AtomicU64,
    /// From this one on each fails; 0 is never.
    fail_from: AtomicU64,
    kind: Mutex<Option<io::ErrorKind>>,
    fail_opens: AtomicBool,
    fail_reads: AtomicBool,
    sync_ms: AtomicU64,
    read_ms: AtomicU64,
    written: AtomicU64,
    reads: AtomicU64,
    longest: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file system. Clones are the same.
#[derive(Clone, Default)]
pub struct World {
    files: Arc<Mutex<HashMap<PathBuf, Arc<File>>>>,
    faults: Arc<Faults>,
    /// Spares the copies that a power cut needs.
    fast: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl Faults {
    fn change(&self) -> io::Result<()> {
        let number = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let from = self.fail_from.load(Ordering::SeqCst);
        if from != 0 && number >= from {
            let kind = lock(&self.kind).unwrap_or(io::ErrorKind::Other);
            return Err(io::Error::new(kind, "the disk says no"));
        }
        Ok(())
    }
}

impl World {
    /// One that knows no power cuts, for large files.
    pub fn without_power_cuts() -> Self {
        Self { fast: true, ..Self::default() }
    }

    pub fn with(path: &Path, bytes: Vec<u8>) -> Self {
        let world = Self::default();
        let content = Content { now: bytes.clone(), synced: bytes, unsynced: Vec::new() };
        let file = File { content: Mutex::new(content), locked: AtomicBool::new(false) };
        lock(&world.files).insert(path.to_owned(), Arc::new(file));
        world
    }

    fn file(&self, path: &Path) -> io::Result<Arc<File>> {
        lock(&self.files).get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Changes made so far.
    pub fn changes(&self) -> u64 {
        self.faults.changes.load(Ordering::SeqCst)
    }

    pub fn written(&self) -> u64 {
        self.faults.written.load(Ordering::SeqCst)
    }

    pub fn reads(&self) -> u64 {
        self.faults.reads.load(Ordering::SeqCst)
    }

    pub fn longest(&self) -> u64 {
        self.faults.longest.load(Ordering::SeqCst)
    }

    /// Fails every change from number `at` on.
    pub fn fail_from(&self, at: u64, kind: io::ErrorKind) {
        *lock(&self.faults.kind) = Some(kind);
        self.faults.fail_from.store(at, Ordering::SeqCst);
    }

    pub fn fail_opens(&self, fail: bool) {
        self.faults.fail_opens.store(fail, Ordering::SeqCst);
    }

    pub fn fail_reads(&self, fail: bool) {
        self.faults.fail_reads.store(fail, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.faults.fail_from.store(0, Ordering::SeqCst);
        self.fail_opens(false);
        self.fail_reads(false);
    }

    pub fn stall_syncs(&self, by: Duration) {
        self.faults.sync_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn stall_reads(&self, by: Duration) {
        self.faults.read_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        self.file(path).map_or_else(|_| Vec::new(), |file| lock(&file.content).now.clone())
    }

    pub fn names(&self) -> Vec<PathBuf> {
        lock(&self.files).keys().cloned().collect()
    }

    /// The machine as it stands after a kill: what was written is there, synced or not.
    pub fn after_kill(&self, path: &Path) -> Self {
        Self::with(path, self.bytes(path))
    }

    /// The machine after a power cut: of what was not synced some is there, in any order, torn at 512 bytes.
    pub fn after_power_cut(&self, path: &Path, dice: &mut Dice) -> Self {
        let Ok(file) = self.file(path) else { return Self::default() };
        let content = lock(&file.content);
        let mut data = content.synced.clone();
        let mut order: Vec<usize> = (0..content.unsynced.len()).collect();
        for n in (1..order.len()).rev() {
            order.swap(n, dice.below(n as u64 + 1) as usize);
        }
        let share = dice.below(5);
        for n in order {
            if dice.below(4) >= share {
                continue;
            }
            match &content.unsynced[n] {
                Op::Write(at, bytes) if dice.one_in(3) => {
                    // Torn: each sector is there or not.
                    for (sector, part) in bytes.chunks(512).enumerate() {
                        if dice.one_in(2) {
                            Op::Write(at + sector as u64 * 512, part.to_vec()).apply(&mut data);
                        }
                    }
                }
                op => op.apply(&mut data),
            }
        }
        drop(content);
        Self::with(path, data)
    }
}

impl Medium for World {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        if self.faults.fail_opens.load(Ordering::SeqCst) {
            return Err(io::Error::other("no opening today"));
        }
        let file = Arc::clone(lock(&self.files).entry(path.to_owned()).or_default());
        Ok(Box::new(Backend {
            file,
            holds: AtomicBool::new(false),
            faults: Arc::clone(&self.faults),
            fast: self.fast,
        }))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(lock(&self.file(path)?.content).now.len() as u64)
    }

    fn probe(&self, _: &Path) -> io::Result<()> {
        self.faults.change()
    }

    fn begin_of_unclaimed(&self, _: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn set_aside(&self, path: &Path, target: &Path) -> io::Result<()> {
        let mut files = lock(&self.files);
        files.retain(|name, _| !name.to_string_lossy().contains(".quarantine-"));
        let file = files.remove(path).ok_or(io::ErrorKind::NotFound)?;
        files.insert(target.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.files).remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug)]
struct Backend {
    file: Arc<File>,
    holds: AtomicBool,
    faults: Arc<Faults>,
    fast: bool,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("File")
    }
}

impl Backend {
    fn op(&self, op: Op) {
        let mut content = lock(&self.file.content);
        op.apply(&mut content.now);
        self.faults.longest.fetch_max(content.now.len() as u64, Ordering::SeqCst);
        if !self.fast {
            content.unsynced.push(op);
        }
    }
}

fn is_whole(start: Bound<u64>, end: Bound<u64>) -> bool {
    matches!(start, Bound::Unbounded | Bound::Included(0)) && end == Bound::Unbounded
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.file.content).now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.reads.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(self.faults.read_ms.load(Ordering::SeqCst)));
        if self.faults.fail_reads.load(Ordering::SeqCst) {
            return Err(io::Error::other("nothing to read today"));
        }
        let content = lock(&self.file.content);
        let from = content.now.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.change()?;
        self.op(Op::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.change()?;
        std::thread::sleep(Duration::from_millis(self.faults.sync_ms.load(Ordering::SeqCst)));
        let mut content = lock(&self.file.content);
        let ops = std::mem::take(&mut content.unsynced);
        ops.iter().for_each(|op| op.apply(&mut content.synced));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.change()?;
        self.faults.written.fetch_add(data.len() as u64, Ordering::SeqCst);
        self.op(Op::Write(offset, data.to_vec()));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        if self.holds.swap(false, Ordering::SeqCst) {
            self.file.locked.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !is_whole(start, end) {
            return Err(BackendError::Unsupported);
        }
        let got = !self.file.locked.swap(true, Ordering::SeqCst);
        self.holds.fetch_or(got, Ordering::SeqCst);
        Ok(got)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if !is_whole(start, end) {
            return Err(BackendError::Unsupported);
        }
        self.close().map_err(|_| BackendError::Unsupported)
    }
}

// What the tests store.

pub const MAC: [u8; 32] = [7; 32];
pub const NOW: i64 = 1_795_000_000_000;
pub const PATH: &str = "/c.redb";

pub fn key(n: u64) -> CacheKey {
    Disk::key_of(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

/// Bytes that do not compress and tell what they are.
pub fn noise(n: u64, version: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.max(16)];
    blake3::Hasher::new()
        .update(&n.to_le_bytes())
        .update(&version.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes[16..]);
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes[8..16].copy_from_slice(&version.to_le_bytes());
    bytes
}

pub fn entry(n: u64, version: u64, len: usize) -> Arc<Entry> {
    let ttl = Duration::from_secs(3600);
    Arc::new(Entry::new(http::StatusCode::OK, noise(n, version, len), NOW, ttl))
}

/// The version of a body of key `n`; panics if a byte of it is wrong.
pub fn version(n: u64, entry: &Entry) -> u64 {
    let number = |at: usize| u64::from_le_bytes(entry.body[at..at + 8].try_into().expect("8 bytes"));
    let version = number(8);
    assert!(entry.body == noise(n, version, entry.body.len()), "a wrong answer for {n}");
    version
}

/// Quick to try again, as a test has no minute to spare.
pub fn options() -> DiskOptions {
    DiskOptions {
        max_bytes: 64 << 20,
        group: Duration::from_millis(20),
        retry: Duration::from_millis(5),
        lock_retry: Duration::from_millis(20),
        ..DiskOptions::default()
    }
}
