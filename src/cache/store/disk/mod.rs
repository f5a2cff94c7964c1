//! Answers on disk, so that they survive a restart.
//!
//! A disk is slow, full, locked or broken at times, and none of that is the caller's business. So nothing here
//! fails or makes a call wait: stores are handed to one writer thread and committed in groups; a read that takes
//! too long is a miss; a file that cannot be used leaves the tier without effect, says so once and is tried again.
//! Only what must be durable before it returns (a removal, a purge, a flush) waits for the disk.
//! While another process has the file there is nothing to wait for: they count here, and in the file once it is had.
//!
//! # Memory
//! About 20 MiB (16 for the engine's pages, 4 for blocks read or written last), 80 bytes for each entry in the file,
//! and at most 16 MiB of stores that wait to be written; those are mostly the memory tier's own.
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

mod backend;
mod block;
mod engine;
mod hot;
mod index;
mod reader;
mod state;
mod stats;
mod verify;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub(in crate::cache) use self::backend::is_unclaimed;
#[cfg(feature = "test-util")]
pub use self::backend::{FileMedium, Medium};
#[cfg(not(feature = "test-util"))]
use self::backend::{FileMedium, Medium};
use self::engine::{Engine, HeadKey};
use self::hot::Hot;
use self::index::Index;
use self::reader::{READERS, Read};
pub use self::state::DiskState;
use self::stats::Counters;
pub use self::stats::DiskStats;
pub use self::verify::{Checked, Compacted};
use self::writer::{Job, Writer};
use crate::cache::entry::Entry;
use crate::cache::envelope::Keys;
use crate::cache::key::CacheKey;
use crate::cache::store::epochs::{Epochs, Stamp, Tag};
use crate::clock::Clock;
use crate::lock::lock;

/// Stores that may wait for the writer; one more is dropped and counted.
const WRITE_QUEUE: u64 = 8192;
/// In bytes of memory. Four commits: enough for a disk that hangs for a second at five thousand stores a second, and
/// little beside what the memory tier takes, which mostly holds the same answers.
const WRITE_QUEUE_BYTES: u64 = 16 << 20;

/// How long an opening waits for the index of what is in the file. That of a small file is there within moments, unless
/// the machine is very busy; that of a large one is read behind the opening.
fn index_wait(file_bytes: u64) -> Duration {
    Duration::from_millis(if file_bytes <= 64 << 20 { 1000 } else { 20 })
}

/// Settings of a [`Disk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Largest length of the file in bytes; at least 64 MiB is taken. The entries in it take 40 to 70 % of that.
    pub max_bytes: u64,
    /// Larger entries stay in memory only.
    pub max_entry_bytes: usize,
    /// How long a store may wait for others to be committed with: what a crash can lose.
    pub group: Duration,
    /// How long after a failed write or opening the file is opened again; each time in a row doubles it, up to a
    /// minute.
    pub retry: Duration,
    /// How often a file in use elsewhere is tried again.
    pub lock_retry: Duration,
    /// Encrypts what is written from now on. Worth something only if the secret is not kept beside the file.
    #[cfg(feature = "encrypt")]
    pub encrypt: bool,
}

impl Default for DiskOptions {
    /// 1 GiB, 1 MiB, 200 ms, 1 s, 30 s, not encrypted.
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_entry_bytes: 1 << 20,
            group: Duration::from_millis(200),
            retry: Duration::from_secs(1),
            lock_retry: Duration::from_secs(30),
            #[cfg(feature = "encrypt")]
            encrypt: false,
        }
    }
}

impl DiskOptions {
    const LEAST_BYTES: u64 = 64 << 20;
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What callers, readers and the writer share.
struct Shared {
    path: PathBuf,
    options: DiskOptions,
    medium: Arc<dyn Medium>,
    mac_key: [u8; 32],
    head_key: HeadKey,
    clock: Arc<dyn Clock>,
    /// `None` while the file cannot be used.
    engine: RwLock<Option<Arc<dyn Engine>>>,
    /// Set by the writer alone; see [`DiskState`].
    state: AtomicU8,
    epochs: Arc<Epochs>,
    index: Mutex<Index>,
    hot: Hot,
    /// The salts of scopes whose entries are encrypted.
    salts: Mutex<HashMap<Tag, [u8; 32]>>,
    /// Stored, but not yet committed.
    pending: Mutex<HashMap<CacheKey, (Arc<Entry>, Stamp)>>,
    queued: AtomicU64,
    queued_bytes: AtomicU64,
    /// Since when each reader thread is at its read; 0 if it is not.
    reading: [AtomicU64; READERS],
    started: Instant,
    counters: Counters,
    /// When the current minute of damage began, and how much there was in it.
    damage: Mutex<Option<(Instant, u32)>>,
}

impl Shared {
    fn engine(&self) -> Option<Arc<dyn Engine>> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys of a scope.
    fn keys(&self, tag: &Tag) -> Keys {
        #[cfg(feature = "encrypt")]
        if self.options.encrypt
            && let Some(salt) = lock(&self.salts).get(tag)
        {
            return Keys::encrypting(&self.mac_key, tag, salt);
        }
        Keys::new(&self.mac_key, tag)
    }

    /// The keys that seal an entry of a scope; `None` where it is to be encrypted and has no salt.
    fn sealing_keys(&self, tag: &Tag) -> Option<Keys> {
        #[cfg(feature = "encrypt")]
        if self.options.encrypt && !lock(&self.salts).contains_key(tag) {
            return None;
        }
        Some(self.keys(tag))
    }

    /// Makes a key unknown at once, so that no older entry of it is served; its record goes with the next commit.
    fn forget(&self, key: &CacheKey) {
        lock(&self.pending).remove(key);
        lock(&self.index).forget(&key.locator());
    }
}

/// Answers in one file. See the [module docs](crate::cache).
pub struct Disk {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    reads: Option<SyncSender<Read>>,
    threads: Vec<JoinHandle<()>>,
}

impl Disk {
    /// Opens the file at `path` or starts one, readable by its owner alone. The index of a large one (more than some
    /// fifty thousand entries) is read after that; what is not read yet is a miss.
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
        Self::start(Arc::new(FileMedium), path.as_ref(), options, mac_key, clock)
    }

    /// The same on other ground than the file system.
    #[cfg(feature = "test-util")]
    #[doc(hidden)]
    #[must_use]
    pub fn open_on(
        medium: Arc<dyn Medium>,
        path: impl AsRef<Path>,
        options: DiskOptions,
        mac_key: [u8; 32],
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::start(medium, path.as_ref(), options, mac_key, clock)
    }

    /// The key of these bytes, for tests that must not depend on how keys are made.
    #[cfg(feature = "test-util")]
    #[doc(hidden)]
    #[must_use]
    pub fn key_of(bytes: [u8; 32]) -> CacheKey {
        CacheKey::from_bytes(bytes)
    }

    fn start(
        medium: Arc<dyn Medium>,
        path: &Path,
        options: DiskOptions,
        mac_key: [u8; 32],
        clock: Arc<dyn Clock>,
    ) -> Self {
        let max_bytes = options.max_bytes.max(DiskOptions::LEAST_BYTES);
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            options: DiskOptions { max_bytes, ..options },
            medium,
            mac_key,
            head_key: HeadKey::new(&mac_key),
            clock,
            engine: RwLock::new(None),
            state: AtomicU8::new(DiskState::Reopening as u8),
            epochs: Arc::default(),
            index: Mutex::default(),
            hot: Hot::default(),
            salts: Mutex::default(),
            pending: Mutex::default(),
            queued: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            reading: Default::default(),
            started: Instant::now(),
            counters: Counters::default(),
            damage: Mutex::default(),
        });
        let (jobs, inbox) = mpsc::channel();
        let (loaded, load) = mpsc::channel();
        let mut writer = Writer::new(Arc::clone(&shared), inbox);
        writer.open();
        let mut threads = Vec::new();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        let run = Box::new(move || writer.run(&loaded));
        let mut spawned = spawn("thrifty-disk-write", run).map(|thread| threads.push(thread));
        let (reads, asked) = mpsc::sync_channel(reader::QUEUE);
        let asked = Arc::new(Mutex::new(asked));
        for number in 0..READERS {
            let (shared, asked, jobs) = (Arc::clone(&shared), Arc::clone(&asked), jobs.clone());
            let run = Box::new(move || reader::serve(&shared, number, &asked, &jobs));
            spawned = spawned.and(spawn("thrifty-disk-read", run).map(|thread| threads.push(thread)));
        }
        match spawned {
            // An error means that there is nothing to read.
            Ok(()) => {
                let len = shared.medium.len(path).unwrap_or(0);
                let _ = load.recv_timeout(index_wait(len));
            }
            Err(error) => {
                tracing::warn!(%error, "no thread for the cache's disk tier; answers are kept in memory only");
                *shared.engine.write().unwrap_or_else(PoisonError::into_inner) = None;
                DiskState::Disabled.set(&shared);
            }
        }
        Self { shared, jobs, reads: Some(reads), threads }
    }

    /// The entry of `key` if it is there, whole, fresh and not purged. Needs a tokio runtime with time; a read that
    /// takes longer than 20 ms is a miss, and a key that is not there never touches the disk.
    pub async fn get(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.get_stamped(key).await.map(|(entry, _)| entry)
    }

    /// The same with the stamp it was put with.
    pub async fn get_stamped(&self, key: &CacheKey) -> Option<(Arc<Entry>, Stamp)> {
        let found = reader::get(&self.shared, self.reads.as_ref()?, &self.jobs, key).await;
        count(&self.shared.counters.hits, u64::from(found.is_some()));
        found
    }

    /// The purges so far, for a scope: to be taken before a call is sent.
    #[must_use]
    pub fn stamp(&self, scope: [u8; 16]) -> Stamp {
        self.shared.epochs.stamp(scope)
    }

    pub(in crate::cache) fn epochs(&self) -> Arc<Epochs> {
        Arc::clone(&self.shared.epochs)
    }

    /// Hands an entry of no particular scope to the writer; see [`Disk::put_stamped`].
    pub fn put(&self, key: CacheKey, entry: Arc<Entry>) {
        self.put_stamped(key, entry, self.stamp(Tag::default()));
    }

    /// Hands an entry to the writer. Never blocks; without room or a file it is dropped and counted, and an earlier
    /// entry of the key is served no more.
    pub fn put_stamped(&self, key: CacheKey, entry: Arc<Entry>, stamp: Stamp) {
        let shared = &self.shared;
        let bytes = u64::from(entry.weight());
        let fits = bytes <= shared.options.max_entry_bytes as u64
            && shared.queued.load(Ordering::Relaxed) < WRITE_QUEUE
            && shared.queued_bytes.load(Ordering::Relaxed) + bytes <= WRITE_QUEUE_BYTES;
        if !fits || DiskState::of(shared) != DiskState::Healthy {
            count(&shared.counters.dropped, 1);
            // What another process keeps in its file is as good as what is known here.
            if DiskState::of(shared) != DiskState::NotOwner {
                shared.forget(&key);
            }
            return;
        }
        count(&shared.queued, 1);
        count(&shared.queued_bytes, bytes);
        // Pending before queued, so that the writer finds it there.
        lock(&shared.pending).insert(key, (Arc::clone(&entry), stamp));
        if let Err(mpsc::SendError(Job::Put(key, entry))) = self.jobs.send(Job::Put(key, entry)) {
            writer::give_up(shared, &key, &entry);
        }
    }

    /// Removes an entry and blocks until that is durable.
    pub fn remove(&self, key: &CacheKey) {
        self.shared.forget(key);
        self.wait(|done| Job::Remove(key.locator(), done));
    }

    /// The same without blocking the thread.
    pub async fn remove_async(&self, key: &CacheKey) {
        self.shared.forget(key);
        self.until(|done| Job::Remove(key.locator(), done)).await;
    }

    /// Makes an entry unknown at once, and durably so soon.
    pub(in crate::cache) fn remove_soon(&self, key: &CacheKey) {
        self.shared.forget(key);
        // An error means that the writer is gone.
        let _ = self.jobs.send(Job::Remove(key.locator(), Box::new(|| {})));
    }

    /// True while nothing has taken an entry of the file away.
    pub(in crate::cache) fn knows(&self, key: &CacheKey) -> bool {
        lock(&self.shared.index).find(&key.locator()).is_some()
    }

    /// Makes an entry unknown at once, and durably so with the next commit.
    pub(in crate::cache) fn forget(&self, key: &CacheKey) {
        self.shared.forget(key);
    }

    /// Purges a scope and blocks until that is durable: what was stamped before is served no more.
    pub fn purge(&self, scope: [u8; 16]) {
        match self.shared.epochs.bump(scope) {
            true => self.clear(),
            false => self.wait(|done| Job::Purge(scope, done)),
        }
    }

    /// The same without blocking the thread.
    pub async fn purge_async(&self, scope: [u8; 16]) {
        match self.shared.epochs.bump(scope) {
            true => self.clear_async().await,
            false => self.until(|done| Job::Purge(scope, done)).await,
        }
    }

    /// Purges everything and blocks until that is durable.
    pub fn clear(&self) {
        self.shared.epochs.bump_all();
        lock(&self.shared.pending).clear();
        self.wait(Job::Clear);
    }

    /// The same without blocking the thread.
    pub async fn clear_async(&self) {
        self.shared.epochs.bump_all();
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
        stats::of(&self.shared)
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

#[cfg(test)]
mod tests;
