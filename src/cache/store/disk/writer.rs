//! The one thread that writes: groups, eviction, and what to do when the file cannot be used.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use redb::Database;

use super::file::{self, Change, Fault, Put};
use super::index::{self, Index, Locator};
use super::{Shared, count, lock};
use crate::cache::entry::Entry;
use crate::cache::key::CacheKey;

/// Told when something is durable, or given up.
pub(super) type Done = Box<dyn FnOnce() + Send>;

pub(super) enum Job {
    Put(CacheKey, Arc<Entry>),
    Remove(Locator, Done),
    Clear(Done),
    Flush(Done),
    /// Too much in the file is damaged.
    Distrust,
    Close,
}

/// Whether the file can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not yet opened, or to be tried again.
    Waiting,
    On,
    /// Given up until the next start.
    Off,
}

impl State {
    pub(super) fn of(shared: &Shared) -> Self {
        match shared.state.load(Ordering::Acquire) {
            0 => Self::Waiting,
            1 => Self::On,
            _ => Self::Off,
        }
    }

    pub(super) fn set(self, shared: &Shared) {
        shared.state.store(self as u8, Ordering::Release);
    }
}

/// Entries of one commit, at most.
const GROUP: usize = 256;
const GROUP_BYTES: u64 = 4 << 20;

/// How long until somebody else's lock is tried again.
const BUSY_RETRY: Duration = Duration::from_secs(30);

/// Failed openings in a row before the tier is given up.
const ATTEMPTS: u32 = 3;

pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    batch: Vec<(CacheKey, Arc<Entry>)>,
    batch_bytes: u64,
    /// When the batch must be committed.
    due: Option<Instant>,
    /// When the file is tried again.
    retry: Option<Instant>,
    failures: u32,
    next_seq: u64,
    /// Removals that could not be made durable; they are made before the file is used again.
    owed: HashSet<Locator>,
    owes_clear: bool,
    said: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, jobs: Receiver<Job>) -> Self {
        Self {
            shared,
            jobs,
            batch: Vec::new(),
            batch_bytes: 0,
            due: None,
            retry: None,
            failures: 0,
            next_seq: 0,
            owed: HashSet::new(),
            owes_clear: false,
            said: false,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.next() {
                Ok(Job::Put(key, entry)) => self.take(key, entry),
                Ok(Job::Remove(key, done)) => {
                    self.commit();
                    self.remove(key);
                    done();
                }
                Ok(Job::Clear(done)) => {
                    self.clear();
                    done();
                }
                Ok(Job::Flush(done)) => {
                    self.commit();
                    done();
                }
                Ok(Job::Distrust) if State::of(&self.shared) == State::On => {
                    self.close();
                    self.put_aside("too many of its entries are damaged");
                }
                Ok(Job::Distrust) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    if self.due.is_some_and(|due| due <= now) {
                        self.commit();
                    }
                    if self.retry.is_some_and(|retry| retry <= now) {
                        self.open();
                    }
                }
                Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => {
                    self.commit();
                    self.close();
                    State::Off.set(&self.shared);
                    // Who came too late must not wait for ever.
                    while let Ok(job) = self.jobs.try_recv() {
                        match job {
                            Job::Put(key, entry) => self.drop_put(&key, &entry),
                            Job::Remove(_, done) | Job::Clear(done) | Job::Flush(done) => done(),
                            Job::Distrust | Job::Close => {}
                        }
                    }
                    return;
                }
            }
        }
    }

    fn next(&self) -> Result<Job, RecvTimeoutError> {
        let until = match (self.due, self.retry) {
            (Some(due), Some(retry)) => due.min(retry),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        self.jobs.recv_timeout(until.saturating_duration_since(Instant::now()))
    }

    fn take(&mut self, key: CacheKey, entry: Arc<Entry>) {
        self.batch_bytes += u64::from(entry.weight());
        self.batch.push((key, entry));
        self.due.get_or_insert_with(|| Instant::now() + self.shared.options.group);
        let most = GROUP_BYTES.min(self.shared.options.max_bytes / 32);
        if self.batch.len() >= GROUP || self.batch_bytes >= most {
            self.commit();
        }
    }

    /// Commits the batch: afterwards each of its entries is in the index, or given up.
    fn commit(&mut self) {
        self.due = None;
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return;
        }
        let Some(db) = self.shared.db() else {
            batch.iter().for_each(|(key, entry)| self.drop_put(key, entry));
            return;
        };
        let puts = self.seal(&batch);
        let more: u64 = puts.iter().map(|put| index::allocated(put.sealed.len())).sum();
        let len = fs::metadata(&self.shared.path).map_or(0, |about| about.len());
        let bound = index::bound(len, self.shared.options.max_bytes);
        let (deletes, evicted) = lock(&self.shared.index).make_room(more, bound);
        let committed = file::apply(&db, &Change { deletes: &deletes, puts: &puts, ..Change::default() });
        drop(db);
        match committed {
            Ok(()) => {
                let mut index = lock(&self.shared.index);
                for put in &puts {
                    index.insert(put.seq, put.key, put.expires_ms, put.sealed.len());
                }
                drop(index);
                count(&self.shared.counters.stored, puts.len() as u64);
                count(&self.shared.counters.evicted, evicted);
                // Only now: a reader looks there first, and then in the index.
                batch.iter().for_each(|(key, entry)| settle(&self.shared, key, entry));
            }
            Err(fault) => {
                batch.iter().for_each(|(key, entry)| self.drop_put(key, entry));
                self.fail(fault);
            }
        }
    }

    /// Seals what is still wanted of the batch: an entry that is pending no longer was removed or superseded.
    fn seal(&mut self, batch: &[(CacheKey, Arc<Entry>)]) -> Vec<Put> {
        let shared = &self.shared;
        let epoch = shared.epoch.load(Ordering::Acquire);
        let mut puts = Vec::with_capacity(batch.len());
        for (key, entry) in batch {
            let wanted = lock(&shared.pending).get(key).is_some_and(|last| Arc::ptr_eq(last, entry));
            if wanted {
                let sealed = entry.encode(key, epoch, &shared.mac_key);
                let (seq, key) = (self.next_seq, key.locator());
                puts.push(Put { seq, key, expires_ms: entry.expires_ms(), sealed });
                self.next_seq += 1;
            }
        }
        puts
    }

    fn remove(&mut self, key: Locator) {
        let Some(db) = self.shared.db() else {
            self.owed.insert(key);
            return;
        };
        let deletes = {
            let mut index = lock(&self.shared.index);
            index.forget(&key);
            index.make_room(0, u64::MAX).0
        };
        if deletes.is_empty() {
            return;
        }
        let done = file::apply(&db, &Change { deletes: &deletes, ..Change::default() });
        drop(db);
        if let Err(fault) = done {
            self.owed.insert(key);
            self.fail(fault);
        }
    }

    fn clear(&mut self) {
        lock(&self.shared.index).clear();
        let epoch = self.shared.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        let Some(db) = self.shared.db() else {
            self.owes_clear = true;
            return;
        };
        let head = Some((check(&self.shared.mac_key), epoch));
        let done = file::apply(&db, &Change { wipe: true, head, ..Change::default() });
        drop(db);
        if let Err(fault) = done {
            self.owes_clear = true;
            self.fail(fault);
        }
    }

    fn drop_put(&self, key: &CacheKey, entry: &Arc<Entry>) {
        settle(&self.shared, key, entry);
        count(&self.shared.counters.dropped, 1);
    }

    /// Opens the file, after a damaged one is out of the way.
    pub(super) fn open(&mut self) {
        self.retry = None;
        match self.try_open() {
            Ok(()) => {}
            Err(Fault::Damaged(why)) => self.put_aside(&why),
            Err(fault) => self.wait(&fault),
        }
    }

    fn put_aside(&mut self, why: &str) {
        let now_ms = self.shared.clock.now_ms();
        let shared = Arc::clone(&self.shared);
        let path = shared.path.display();
        match file::quarantine(&self.shared.path, now_ms) {
            Ok(to) => {
                tracing::warn!(%path, to = %to.display(), why, "the cache file is damaged; a new one is started");
            }
            Err(error) => {
                tracing::warn!(%path, %error, why, "the cache file is damaged and cannot be moved");
                return self.give_up();
            }
        }
        match self.try_open() {
            Ok(()) => {}
            Err(Fault::Damaged(why)) => {
                tracing::warn!(%path, why, "no cache file can be started; answers are kept in memory only");
                self.give_up();
            }
            Err(fault) => self.wait(&fault),
        }
    }

    fn try_open(&mut self) -> Result<(), Fault> {
        let shared = &self.shared;
        let opened = file::open(&shared.path, shared.options.max_bytes, &check(&shared.mac_key))?;
        if opened.other_secret {
            tracing::info!(path = %shared.path.display(), "the cache file is of another secret; it starts empty");
        }
        self.next_seq = opened.rows.last().map_or(0, |(seq, ..)| seq + 1);
        let mut index = Index::of(opened.rows);
        let mut epoch = opened.epoch;
        if self.owes_clear {
            epoch = epoch.max(shared.epoch.load(Ordering::Acquire)) + 1;
            let head = Some((check(&shared.mac_key), epoch));
            file::apply(&opened.db, &Change { wipe: true, head, ..Change::default() })?;
            index.clear();
        }
        if !self.owed.is_empty() {
            self.owed.iter().for_each(|key| index.forget(key));
            let (deletes, _) = index.make_room(0, u64::MAX);
            file::apply(&opened.db, &Change { deletes: &deletes, ..Change::default() })?;
        }
        self.owes_clear = false;
        self.owed.clear();
        self.failures = 0;
        *lock(&shared.damage) = None;
        *lock(&shared.index) = index;
        shared.epoch.store(epoch, Ordering::Release);
        *shared.db.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(opened.db));
        State::On.set(shared);
        if self.said {
            self.said = false;
            tracing::info!(path = %shared.path.display(), "the cache file is in use again");
        }
        Ok(())
    }

    /// A commit went wrong, and whether it is in the file is not known: what is there is read anew.
    fn fail(&mut self, fault: Fault) {
        self.close();
        match fault {
            Fault::Damaged(why) => self.put_aside(&why),
            fault => self.wait(&fault),
        }
    }

    /// Goes on without the file for a while.
    fn wait(&mut self, fault: &Fault) {
        State::Waiting.set(&self.shared);
        let path = self.shared.path.display();
        if !self.said {
            self.said = true;
            tracing::warn!(%path, why = fault.text(), "the cache file cannot be used; answers are kept in memory only");
        }
        let pause = match fault {
            Fault::Busy => BUSY_RETRY,
            Fault::Foreign => return self.give_up(),
            _ => {
                self.failures += 1;
                if self.failures > ATTEMPTS {
                    return self.give_up();
                }
                Duration::from_secs(1 << self.failures)
            }
        };
        self.retry = Some(Instant::now() + pause);
    }

    fn give_up(&mut self) {
        self.retry = None;
        State::Off.set(&self.shared);
    }

    /// Lets go of the file. Readers hold it for one read each, so it is closed at the latest when they are done.
    fn close(&mut self) {
        State::Waiting.set(&self.shared);
        lock(&self.shared.index).clear();
        let db = self.shared.db.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut db) = db else { return };
        for _ in 0..1000 {
            match Arc::<Database>::try_unwrap(db) {
                Ok(db) => return file::drop_quietly(db),
                Err(shared) => db = shared,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// An entry no longer waits, unless a newer one of its key does.
pub(super) fn settle(shared: &Shared, key: &CacheKey, entry: &Arc<Entry>) {
    let mut pending = lock(&shared.pending);
    if pending.get(key).is_some_and(|last| Arc::ptr_eq(last, entry)) {
        pending.remove(key);
    }
    drop(pending);
    shared.queued.fetch_sub(1, Ordering::Relaxed);
    shared.queued_bytes.fetch_sub(u64::from(entry.weight()), Ordering::Relaxed);
}

/// What the secret makes of a constant: tells a file of another secret from a damaged one.
fn check(mac_key: &[u8; 32]) -> [u8; 16] {
    let mut check = [0; 16];
    check.copy_from_slice(&blake3::keyed_hash(mac_key, b"thrifty cache file check v1").as_bytes()[..16]);
    check
}
