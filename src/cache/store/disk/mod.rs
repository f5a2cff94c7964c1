//! Answers on disk, so that they survive a restart.
//!
//! A disk is slow, full, locked or broken at times, and none of that is the caller's business. So nothing here
//! fails or makes a call wait: stores are handed to one writer thread and committed in groups; a read that takes
//! too long is a miss; a file that cannot be used leaves the tier without effect, says so once and is tried again.
//! Only what must be durable before it returns (a removal, a purge, a flush) waits for the disk.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use thrifty::cache::{Disk, DiskOptions, Keyer, Secret};
//! use thrifty::clock::SystemClock;
//!
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("answers.redb");
//! let keyer = Keyer::new(&Secret::beside(&path)?);
//! let disk = Disk::open(&path, DiskOptions::default(), keyer.mac_key(), Arc::new(SystemClock));
//! assert_eq!(disk.stats().entries, 0);
//! # Ok::<(), thrifty::BoxError>(())
//! ```
//! # A smaller file, and commits more often
//! ```
//! use std::time::Duration;
//! use thrifty::cache::DiskOptions;
//!
//! let options = DiskOptions { max_bytes: 128 << 20, group: Duration::from_millis(50), ..DiskOptions::default() };
//! assert_eq!(options.max_entry_bytes, 1 << 20);
//! ```

pub(in crate::cache) mod file;
mod index;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::Database;
use tokio::sync::oneshot;

use self::index::{Index, Locator};
use self::writer::{Job, Writer};
use crate::cache::entry::Entry;
use crate::cache::key::CacheKey;
use crate::clock::Clock;

/// A read that takes longer is a miss.
const READ_DEADLINE: Duration = Duration::from_millis(20);

/// Reads that may wait for a reader thread; one more is a miss.
const READ_QUEUE: usize = 1024;

const READERS: usize = 2;

/// Stores that may wait for the writer; one more is dropped and counted.
const WRITE_QUEUE: u64 = 8192;
const WRITE_QUEUE_BYTES: u64 = 64 << 20;

/// More damaged entries than this in a minute, and the file is put aside.
const DAMAGED_PER_MINUTE: u32 = 8;

/// Settings of a [`Disk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Largest length of the file in bytes; at least 32 MiB is taken. The entries in it take 40 to 70 % of that.
    pub max_bytes: u64,
    /// Larger entries, sealed, stay in memory only.
    pub max_entry_bytes: usize,
    /// How long a store may wait for others to be committed with: what a crash can lose.
    pub group: Duration,
}

impl Default for DiskOptions {
    /// 1 GiB, 1 MiB, 200 ms.
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_entry_bytes: 1 << 20, group: Duration::from_millis(200) }
    }
}

impl DiskOptions {
    const LEAST_BYTES: u64 = 32 << 20;
}

/// What a [`Disk`] holds and has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskStats {
    /// False while the file cannot be used.
    pub available: bool,
    /// Entries in the file.
    pub entries: u64,
    /// Bytes they take in it.
    pub live_bytes: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Entries that wait to be written.
    pub pending: u64,
    /// Entries written.
    pub stored: u64,
    /// Stores given up: too large, too many at once, or no file.
    pub dropped: u64,
    /// Entries served.
    pub hits: u64,
    /// Reads given up because they took too long.
    pub late: u64,
    /// Entries that were damaged or forged, and not served.
    pub damaged: u64,
    /// Entries that had to make room.
    pub evicted: u64,
}

#[derive(Debug, Default)]
struct Counters {
    stored: AtomicU64,
    dropped: AtomicU64,
    hits: AtomicU64,
    late: AtomicU64,
    damaged: AtomicU64,
    evicted: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// A lock is never held over code that may panic, and what it guards is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What callers, readers and the writer share.
struct Shared {
    path: PathBuf,
    options: DiskOptions,
    mac_key: [u8; 32],
    clock: Arc<dyn Clock>,
    /// `None` while the file cannot be used.
    db: RwLock<Option<Arc<Database>>>,
    /// Set by the writer alone; see `writer::State`.
    state: AtomicU8,
    epoch: AtomicU64,
    index: Mutex<Index>,
    /// Stored, but not yet committed.
    pending: Mutex<HashMap<CacheKey, Arc<Entry>>>,
    queued: AtomicU64,
    queued_bytes: AtomicU64,
    counters: Counters,
    /// When the current minute of damage began, and how much there was in it.
    damage: Mutex<Option<(Instant, u32)>>,
}

impl Shared {
    fn db(&self) -> Option<Arc<Database>> {
        self.db.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a damaged entry; true when it is one too many.
    fn is_too_damaged(&self) -> bool {
        count(&self.counters.damaged, 1);
        let mut damage = lock(&self.damage);
        let minute = damage.get_or_insert_with(|| (Instant::now(), 0));
        if minute.0.elapsed() > Duration::from_secs(60) {
            *minute = (Instant::now(), 0);
        }
        minute.1 += 1;
        minute.1 > DAMAGED_PER_MINUTE
    }
}

/// Answers in one file. See the [module docs](crate::cache).
pub struct Disk {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    reads: Option<SyncSender<Read>>,
    threads: Vec<JoinHandle<()>>,
}

struct Read {
    key: CacheKey,
    seq: u64,
    answer: oneshot::Sender<Option<Arc<Entry>>>,
}

impl Disk {
    /// Opens the file at `path` or starts one, readable by its owner alone. Blocks until its index is read.
    ///
    /// Never fails. A file in use elsewhere, or one that cannot be opened, leaves a tier without effect that says so
    /// once and tries again. A damaged file is renamed to `<path>.quarantine-<ms>` and a new one is started, but only
    /// if it was a cache file: one that is not empty, is not of the storage engine and has no `<path>.secret` beside
    /// it is somebody else's and never touched, and neither is a damaged one without its secret. A file of another
    /// secret starts empty.
    #[must_use]
    pub fn open(
        path: impl AsRef<Path>,
        options: DiskOptions,
        mac_key: [u8; 32],
        clock: Arc<dyn Clock>,
    ) -> Self {
        let max_bytes = options.max_bytes.max(DiskOptions::LEAST_BYTES);
        let shared = Arc::new(Shared {
            path: path.as_ref().to_owned(),
            options: DiskOptions { max_bytes, ..options },
            mac_key,
            clock,
            db: RwLock::new(None),
            state: AtomicU8::new(0),
            epoch: AtomicU64::new(0),
            index: Mutex::default(),
            pending: Mutex::default(),
            queued: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            counters: Counters::default(),
            damage: Mutex::default(),
        });
        let (jobs, inbox) = mpsc::channel();
        let mut writer = Writer::new(Arc::clone(&shared), inbox);
        writer.open();
        let mut threads = Vec::new();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        let mut spawned = spawn("thrifty-disk-write", Box::new(move || writer.run())).map(|thread| {
            threads.push(thread);
        });
        let (reads, asked) = mpsc::sync_channel(READ_QUEUE);
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..READERS {
            let (shared, asked, jobs) = (Arc::clone(&shared), Arc::clone(&asked), jobs.clone());
            let run = Box::new(move || serve(&shared, &asked, &jobs));
            spawned = spawned.and(spawn("thrifty-disk-read", run).map(|thread| threads.push(thread)));
        }
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for the cache's disk tier; answers are kept in memory only");
            *shared.db.write().unwrap_or_else(PoisonError::into_inner) = None;
            writer::State::Off.set(&shared);
        }
        Self { shared, jobs, reads: Some(reads), threads }
    }

    /// The entry of `key` if it is there, whole and fresh. Needs a tokio runtime with time; a read that takes longer
    /// than 20 ms is a miss, and a key that is not there never touches the disk.
    pub async fn get(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        let now_ms = self.shared.clock.now_ms();
        let waiting = lock(&self.shared.pending).get(key).cloned();
        let found = match waiting {
            Some(entry) => entry.is_fresh(now_ms).then_some(entry),
            None => {
                let slot = {
                    let mut index = lock(&self.shared.index);
                    let slot = index.find(&key.locator())?;
                    if slot.expires_ms <= now_ms {
                        index.forget(&key.locator());
                        return None;
                    }
                    slot
                };
                let (answer, found) = oneshot::channel();
                self.reads.as_ref()?.try_send(Read { key: *key, seq: slot.seq, answer }).ok()?;
                match tokio::time::timeout(READ_DEADLINE, found).await {
                    Ok(found) => found.ok().flatten(),
                    Err(_) => {
                        count(&self.shared.counters.late, 1);
                        None
                    }
                }
            }
        };
        count(&self.shared.counters.hits, u64::from(found.is_some()));
        found
    }

    /// Hands an entry to the writer. Never blocks; without room or a file it is dropped and counted.
    pub fn put(&self, key: CacheKey, entry: Arc<Entry>) {
        let shared = &self.shared;
        let bytes = u64::from(entry.weight());
        let fits = bytes <= shared.options.max_entry_bytes as u64
            && shared.queued.load(Ordering::Relaxed) < WRITE_QUEUE
            && shared.queued_bytes.load(Ordering::Relaxed) + bytes <= WRITE_QUEUE_BYTES;
        if !fits || writer::State::of(shared) != writer::State::On {
            count(&shared.counters.dropped, 1);
            return;
        }
        count(&shared.queued, 1);
        count(&shared.queued_bytes, bytes);
        // Pending before queued, so that the writer finds it there.
        lock(&shared.pending).insert(key, Arc::clone(&entry));
        if let Err(mpsc::SendError(Job::Put(key, entry))) = self.jobs.send(Job::Put(key, entry)) {
            writer::settle(shared, &key, &entry);
            count(&shared.counters.dropped, 1);
        }
    }

    /// Removes an entry and blocks until that is durable.
    pub fn remove(&self, key: &CacheKey) {
        self.forget(key);
        self.wait(|done| Job::Remove(key.locator(), done));
    }

    /// The same without blocking the thread.
    pub async fn remove_async(&self, key: &CacheKey) {
        self.forget(key);
        self.until(|done| Job::Remove(key.locator(), done)).await;
    }

    /// Removes all entries and blocks until that is durable.
    pub fn clear(&self) {
        lock(&self.shared.pending).clear();
        self.wait(Job::Clear);
    }

    /// The same without blocking the thread.
    pub async fn clear_async(&self) {
        lock(&self.shared.pending).clear();
        self.until(Job::Clear).await;
    }

    /// Blocks until all that was put before is durable, or given up.
    pub fn flush(&self) {
        self.wait(Job::Flush);
    }

    /// The same without blocking the thread.
    pub async fn flush_async(&self) {
        self.until(Job::Flush).await;
    }

    /// What it holds and has done.
    #[must_use]
    pub fn stats(&self) -> DiskStats {
        let shared = &self.shared;
        let (entries, live_bytes) = {
            let index = lock(&shared.index);
            (index.len() as u64, index.allocated())
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let available = writer::State::of(shared) == writer::State::On;
        let len = std::fs::metadata(&shared.path).map_or(0, |about| about.len());
        DiskStats {
            available,
            entries,
            live_bytes,
            file_bytes: if available { len } else { 0 },
            pending: lock(&shared.pending).len() as u64,
            stored: read(&shared.counters.stored),
            dropped: read(&shared.counters.dropped),
            hits: read(&shared.counters.hits),
            late: read(&shared.counters.late),
            damaged: read(&shared.counters.damaged),
            evicted: read(&shared.counters.evicted),
        }
    }

    fn forget(&self, key: &CacheKey) {
        lock(&self.shared.pending).remove(key);
        lock(&self.shared.index).forget(&key.locator());
    }

    /// Waits without blocking the thread. Dropping the future does not take the job back.
    async fn until(&self, job: impl FnOnce(writer::Done) -> Job) {
        let (done, wait) = oneshot::channel::<()>();
        let done = Box::new(move || {
            let _ = done.send(());
        });
        if self.jobs.send(job(done)).is_ok() {
            let _ = wait.await;
        }
    }

    fn wait(&self, job: impl FnOnce(writer::Done) -> Job) {
        let (done, wait) = mpsc::channel::<()>();
        let done = Box::new(move || {
            let _ = done.send(());
        });
        if self.jobs.send(job(done)).is_ok() {
            // An error means that the writer is gone, and with it whatever there was to wait for.
            let _ = wait.recv();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Close);
        self.reads = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("path", &self.shared.path).field("stats", &self.stats()).finish()
    }
}

/// A reader thread.
fn serve(shared: &Shared, asked: &Mutex<Receiver<Read>>, jobs: &Sender<Job>) {
    loop {
        let next = lock(asked).recv();
        let Ok(Read { key, seq, answer }) = next else { return };
        // Nobody waits any more.
        if answer.is_closed() {
            continue;
        }
        let _ = answer.send(read(shared, &key, seq, jobs));
    }
}

fn read(shared: &Shared, key: &CacheKey, seq: u64, jobs: &Sender<Job>) -> Option<Arc<Entry>> {
    let db = shared.db()?;
    let found = match file::read(&db, seq) {
        Ok(None) => return None,
        Ok(Some(sealed)) => Entry::decode(&sealed, key, &shared.mac_key),
        Err(file::Fault::Damaged(_)) => Err("read"),
        Err(_) => return None,
    };
    drop(db);
    let locator: Locator = key.locator();
    match found {
        Ok((entry, epoch)) => {
            let good = epoch == shared.epoch.load(Ordering::Acquire) && entry.is_fresh(shared.clock.now_ms());
            good.then(|| Arc::new(entry))
        }
        Err(reason) => {
            lock(&shared.index).forget_at(&locator, seq);
            tracing::debug!(reason, "a stored answer cannot be used and is dropped");
            if shared.is_too_damaged() {
                let _ = jobs.send(Job::Distrust);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests;
