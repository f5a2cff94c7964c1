//! The one thread that writes: groups, eviction, removals, purges.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use super::block::{Block, Packer, Record};
use super::engine::{Change, Engine, Fault, Head};
use super::index::{self, Locator};
use super::{DiskState, Shared, count, lock};
use crate::cache::entry::Entry;
use crate::cache::envelope;
use crate::cache::key::CacheKey;
use crate::cache::store::epochs::{Stamp, Tag};

/// Told when something is durable, or given up.
pub(super) type Done = Box<dyn FnOnce() + Send>;

pub(super) enum Job {
    Put(CacheKey, Arc<Entry>),
    /// The key is forgotten already.
    Remove(Locator, Done),
    Purge(Tag, Done),
    Clear(Done),
    Flush(Done),
    /// Something in the file is damaged; with `distrust`, too much.
    Suspect {
        distrust: bool,
    },
    Close,
}

/// Entries of one commit, at most; and callers that wait for one.
const GROUP: usize = 256;
const GROUP_BYTES: u64 = 4 << 20;

/// Records that one commit takes out, at most.
const MOST_DEAD: usize = 8192;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    jobs: Receiver<Job>,
    /// Entries to be committed next.
    pub(super) batch: Vec<(CacheKey, Arc<Entry>)>,
    batch_bytes: u64,
    /// Who waits for that commit.
    waiting: Vec<Done>,
    /// When the batch must be committed.
    pub(super) due: Option<Instant>,
    /// When the file is tried again, and how often that was in vain.
    pub(super) retry: Option<Instant>,
    pub(super) attempts: u32,
    pub(super) failed_opens: u32,
    pub(super) next_seq: u64,
    /// What the head of the file says.
    pub(super) clean: bool,
    pub(super) suspect: bool,
    head_is_due: bool,
    /// Purges that could not be made durable; they are made before the file is used again.
    pub(super) owed: HashSet<Tag>,
    pub(super) owes_clear: bool,
    pub(super) said: bool,
    /// The file could not grow beyond this length, and until when that is not tried again; and how often it was.
    pub(super) ceiling: Option<(u64, Instant)>,
    pub(super) ceilings: u32,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, jobs: Receiver<Job>) -> Self {
        Self {
            shared,
            jobs,
            batch: Vec::new(),
            batch_bytes: 0,
            waiting: Vec::new(),
            due: None,
            retry: None,
            attempts: 0,
            failed_opens: 0,
            next_seq: 0,
            clean: false,
            suspect: false,
            head_is_due: false,
            owed: HashSet::new(),
            owes_clear: false,
            said: false,
            ceiling: None,
            ceilings: 0,
        }
    }

    pub(super) fn run(mut self, loaded: &Sender<()>) {
        if let Err(fault) = self.load() {
            self.not_opened(&fault);
        }
        let _ = loaded.send(());
        while let Some(job) = self.next() {
            match job {
                None => self.tick(),
                Some(Job::Put(key, entry)) => self.take(key, entry),
                Some(Job::Remove(key, done)) => {
                    // Again: a commit under way meanwhile may have brought it.
                    lock(&self.shared.index).forget(&key);
                    self.waiting.push(done);
                }
                Some(Job::Flush(done)) => self.waiting.push(done),
                Some(Job::Purge(tag, done)) => {
                    self.purge(tag);
                    done();
                }
                Some(Job::Clear(done)) => {
                    self.clear();
                    done();
                }
                Some(Job::Suspect { distrust }) => {
                    self.head_is_due |= !self.suspect;
                    self.suspect = true;
                    self.due.get_or_insert_with(|| Instant::now() + self.shared.options.group);
                    if distrust && DiskState::of(&self.shared) == DiskState::Healthy {
                        self.close();
                        self.put_aside("too many of its entries are damaged");
                    }
                }
                Some(Job::Close) => break,
            }
            if self.waiting.len() >= GROUP {
                self.commit();
            }
        }
        self.finish();
    }

    /// The next job; `Some(None)` when it is time for something else, `None` when there will be no more.
    fn next(&mut self) -> Option<Option<Job>> {
        if !self.waiting.is_empty() {
            match self.jobs.try_recv() {
                Ok(job) => return Some(Some(job)),
                Err(TryRecvError::Disconnected) => return None,
                // Nobody else comes along.
                Err(TryRecvError::Empty) => self.commit(),
            }
        }
        let until = match (self.due, self.retry) {
            (Some(due), Some(retry)) => due.min(retry),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return self.jobs.recv().ok().map(Some),
        };
        match self.jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(job) => Some(Some(job)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            self.commit();
        }
        if self.retry.is_some_and(|retry| retry <= now) {
            self.reopen();
        }
    }

    fn finish(mut self) {
        self.commit();
        self.retire();
        self.drop_batch();
        DiskState::Disabled.set(&self.shared);
        // Who came too late must not wait for ever.
        while let Ok(job) = self.jobs.try_recv() {
            match job {
                Job::Put(key, entry) => give_up(&self.shared, &key, &entry),
                Job::Remove(_, done) | Job::Purge(_, done) | Job::Clear(done) | Job::Flush(done) => done(),
                Job::Suspect { .. } | Job::Close => {}
            }
        }
    }

    fn take(&mut self, key: CacheKey, entry: Arc<Entry>) {
        if DiskState::of(&self.shared) != DiskState::Healthy {
            return give_up(&self.shared, &key, &entry);
        }
        self.batch_bytes += u64::from(entry.weight());
        self.batch.push((key, entry));
        self.due.get_or_insert_with(|| Instant::now() + self.shared.options.group);
        let most = GROUP_BYTES.min(self.shared.options.max_bytes / 32);
        if self.batch.len() >= GROUP || self.batch_bytes >= most {
            self.commit();
        }
    }

    /// Commits what waits: afterwards it is durable, given up, or kept for when the file can be used again.
    pub(super) fn commit(&mut self) {
        self.due = None;
        let waiting = std::mem::take(&mut self.waiting);
        // A second time if the first one ended in a file opened anew: whoever waits, waits for it to be durable.
        for _ in 0..2 {
            if DiskState::of(&self.shared) == DiskState::Healthy
                && let Some(engine) = self.shared.engine()
                && self.write_group(engine)
            {
                break;
            }
        }
        waiting.into_iter().for_each(|done| done());
    }

    /// True if it is done.
    fn write_group(&mut self, engine: Arc<dyn Engine>) -> bool {
        let shared = Arc::clone(&self.shared);
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let dead = {
            let mut index = lock(&shared.index);
            index.begin_commit();
            index.take_dead(MOST_DEAD)
        };
        let done = self.write(&*engine, &batch, &dead);
        drop(engine);
        let mut index = lock(&shared.index);
        match done {
            Ok(()) => {
                index.end_commit();
                let (has_dead, overflown) = (index.has_dead(), index.is_overflown());
                drop(index);
                // Only now: a reader looks there first, and then in the index.
                for (key, entry) in &batch {
                    settle(&shared, key, entry);
                }
                self.attempts = 0;
                if has_dead {
                    self.due.get_or_insert_with(|| Instant::now() + shared.options.group);
                }
                if overflown {
                    self.wipe();
                }
            }
            Err(fault) => {
                index.give_back(dead);
                drop(index);
                // Whether it is in the file is not known. It stays pending, and is written again later; what is
                // forgotten until then must not be found when the file is read anew, so the commit is not ended.
                self.batch = batch;
                self.fail(fault);
                return false;
            }
        }
        true
    }

    fn write(
        &mut self,
        engine: &dyn Engine,
        batch: &[(CacheKey, Arc<Entry>)],
        dead: &[(u64, Locator)],
    ) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let mut prune: BTreeMap<u64, Vec<Locator>> = BTreeMap::new();
        dead.iter().for_each(|(seq, key)| prune.entry(*seq).or_default().push(*key));
        let wanted = wanted(&shared, batch);
        let salts = self.salts(&wanted);
        let mut packer = Packer::new(self.next_seq);
        let mut keys = HashSet::new();
        for (key, entry, stamp) in &wanted {
            let locator = key.locator();
            if !keys.insert(locator) {
                continue;
            }
            let Some(sealing) = shared.sealing_keys(&stamp.scope) else {
                // An earlier one of its key must not take its place.
                lock(&shared.index).forget(&locator);
                keys.remove(&locator);
                count(&shared.counters.dropped, 1);
                continue;
            };
            let sealed = envelope::seal(entry, key, stamp, &sealing);
            packer.push(record(key, entry, stamp), &sealed);
            if let Some(earlier) = lock(&shared.index).find(&locator) {
                prune.entry(earlier.seq).or_default().push(locator);
            }
        }
        let len = shared.medium.len(&shared.path)?;
        let bound = index::bound(len, self.most_bytes(len));
        let room = self.make_room(engine, &mut packer, &keys, bound)?;
        let (blocks, next_seq) = packer.finish();
        let head = (self.head_is_due || self.clean).then(|| self.head(false));
        if blocks.is_empty() && prune.is_empty() && room.evict.is_empty() && head.is_none() {
            return Ok(());
        }
        let change = Change {
            head: head.as_ref(),
            salts: &salts,
            evict: &room.evict,
            prune,
            add: &blocks,
            ..Change::default()
        };
        let emptied = engine.apply(&change, &shared.head_key)?;
        (self.clean, self.head_is_due) = (false, false);
        self.next_seq = next_seq;
        let mut evicted = 0;
        {
            let mut index = lock(&shared.index);
            for (seq, records) in room.evict.iter().zip(&room.records) {
                evicted += index.evicted(*seq, records);
            }
            emptied.into_iter().for_each(|seq| index.emptied(seq));
            for block in &blocks {
                index.add(block, |tag| shared.keys(tag));
            }
        }
        for Block { seq, bytes, .. } in blocks {
            shared.hot.keep(seq, bytes, true);
        }
        count(&shared.counters.stored, keys.len() as u64);
        count(&shared.counters.evicted, evicted.saturating_sub(room.kept));
        count(&shared.counters.kept, room.kept);
        count(&shared.counters.commits, 1);
        Ok(())
    }

    /// How long the file may be: as long as was set, or as it is, where it could not grow a while ago.
    fn most_bytes(&mut self, len: u64) -> u64 {
        let most = self.shared.options.max_bytes;
        match self.ceiling {
            Some((ceiling, _)) if len > ceiling => {
                (self.ceiling, self.ceilings) = (None, 0);
                most
            }
            Some((ceiling, until)) if Instant::now() < until => ceiling.min(most),
            _ => most,
        }
    }

    /// The oldest blocks have to go. What was in demand there is written again, as far as a quarter of what is new.
    fn make_room(
        &self,
        engine: &dyn Engine,
        packer: &mut Packer,
        fresh: &HashSet<Locator>,
        bound: u64,
    ) -> Result<Room, Fault> {
        let shared = &self.shared;
        let more = packer.allocated();
        let mut room = Room::default();
        if more == 0 {
            return Ok(room);
        }
        room.evict = lock(&shared.index).to_evict(more + more / 4 + 16_384, bound);
        let mut budget = packer.bytes() / 4;
        let now_ms = shared.clock.now_ms();
        for seq in &room.evict {
            let records = engine.records(*seq)?;
            let wanted: Vec<&Record> = {
                let index = lock(&shared.index);
                records
                    .iter()
                    .filter(|record| index.is_wanted(*seq, record, now_ms))
                    .filter(|record| !fresh.contains(&record.locator()))
                    .collect()
            };
            if !wanted.is_empty() && budget > 0 {
                let block = engine.block(*seq)?.unwrap_or_default();
                for record in wanted {
                    let sealed = super::block::part(&block, record.off, record.len);
                    if let Some(sealed) = sealed.filter(|sealed| sealed.len() <= budget) {
                        budget -= sealed.len();
                        packer.push(*record, sealed);
                        room.kept += 1;
                    }
                }
            }
            room.records.push(records);
        }
        Ok(room)
    }

    /// New salts for scopes that have none, when entries are encrypted.
    #[cfg(feature = "encrypt")]
    fn salts(&self, wanted: &[(CacheKey, Arc<Entry>, Stamp)]) -> Vec<(Tag, [u8; 32])> {
        let shared = &self.shared;
        if !shared.options.encrypt {
            return Vec::new();
        }
        let mut new = Vec::new();
        for (_, _, Stamp { scope, .. }) in wanted {
            let mut salt = [0; 32];
            if !lock(&shared.salts).contains_key(scope) && getrandom::fill(&mut salt).is_ok() {
                lock(&shared.salts).insert(*scope, salt);
                lock(&shared.index).scopes.forget(scope);
                new.push((*scope, salt));
            }
        }
        new
    }

    #[cfg(not(feature = "encrypt"))]
    #[expect(clippy::unused_self, reason = "the other one needs it")]
    fn salts(&self, _: &[(CacheKey, Arc<Entry>, Stamp)]) -> Vec<(Tag, [u8; 32])> {
        Vec::new()
    }

    pub(super) fn head(&self, clean: bool) -> Head {
        let (global, scopes) = self.shared.epochs.snapshot();
        Head { global, scopes, clean, suspect: self.suspect, next_seq: self.next_seq }
    }

    fn purge(&mut self, tag: Tag) {
        let shared = Arc::clone(&self.shared);
        lock(&shared.salts).remove(&tag);
        let done = shared.engine().filter(|_| DiskState::of(&shared) == DiskState::Healthy).map(|engine| {
            let head = self.head(false);
            engine.apply(&Change { head: Some(&head), shred: &[tag], ..Change::default() }, &shared.head_key)
        });
        match done {
            Some(Ok(_)) => {
                self.clean = false;
                // The rest is not urgent: what is still there is of an older epoch.
                lock(&shared.index).forget_scope(&tag);
                self.due.get_or_insert_with(|| Instant::now() + shared.options.group);
            }
            Some(Err(fault)) => {
                self.owed.insert(tag);
                self.fail(fault);
            }
            None => {
                self.owed.insert(tag);
            }
        }
        if !self.owed.is_empty() {
            self.delete_file();
        }
    }

    fn clear(&mut self) {
        self.drop_batch();
        if DiskState::of(&self.shared) != DiskState::Healthy {
            self.owes_clear = true;
        } else if let Err(fault) = self.wipe_file() {
            self.owes_clear = true;
            self.fail(fault);
        }
        // What cannot be emptied is deleted, if it is ours: it must not be found by the next start. On a full disk
        // that makes room, too.
        if self.owes_clear {
            self.delete_file();
        }
    }

    /// Forgets what is in the file, though nobody purged it.
    fn wipe(&mut self) {
        if let Err(fault) = self.wipe_file() {
            self.owes_clear = true;
            self.fail(fault);
        }
    }

    fn wipe_file(&mut self) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        lock(&shared.index).clear();
        lock(&shared.salts).clear();
        shared.hot.clear();
        let Some(engine) = shared.engine() else { return Ok(()) };
        let head = self.head(false);
        engine.apply(&Change { wipe: true, head: Some(&head), ..Change::default() }, &shared.head_key)?;
        self.clean = false;
        Ok(())
    }

    /// Gives up what waits to be written.
    pub(super) fn drop_batch(&mut self) {
        self.batch_bytes = 0;
        for (key, entry) in std::mem::take(&mut self.batch) {
            give_up(&self.shared, &key, &entry);
        }
    }
}

/// What has to go for a commit, and what of it stays.
#[derive(Default)]
struct Room {
    evict: Vec<u64>,
    /// What was said about each of these.
    records: Vec<Vec<Record>>,
    kept: u64,
}

/// What is still wanted of a batch: an entry that is pending no longer was removed or superseded.
fn wanted(shared: &Shared, batch: &[(CacheKey, Arc<Entry>)]) -> Vec<(CacheKey, Arc<Entry>, Stamp)> {
    let pending = lock(&shared.pending);
    let wanted = batch.iter().filter_map(|(key, entry)| {
        let (last, stamp) = pending.get(key)?;
        Arc::ptr_eq(last, entry).then(|| (*key, Arc::clone(entry), *stamp))
    });
    wanted.filter(|(_, _, stamp)| shared.epochs.is_current(stamp)).collect()
}

fn record(key: &CacheKey, entry: &Entry, stamp: &Stamp) -> Record {
    Record {
        key: *key.as_bytes(),
        scope: stamp.scope,
        off: 0,
        len: 0,
        created_ms: entry.created_ms,
        expires_ms: envelope::expires_ms(entry),
        flags: 0,
        epoch: stamp.epoch,
    }
}

/// An entry no longer waits, unless a newer one of its key does.
fn settle(shared: &Shared, key: &CacheKey, entry: &Arc<Entry>) -> bool {
    let mut pending = lock(&shared.pending);
    let last = pending.get(key).is_some_and(|(last, _)| Arc::ptr_eq(last, entry));
    if last {
        pending.remove(key);
    }
    drop(pending);
    shared.queued.fetch_sub(1, Ordering::Relaxed);
    shared.queued_bytes.fetch_sub(u64::from(entry.weight()), Ordering::Relaxed);
    last
}

/// An entry is not written after all. An earlier one of its key must not take its place.
pub(super) fn give_up(shared: &Shared, key: &CacheKey, entry: &Arc<Entry>) {
    if settle(shared, key, entry) {
        lock(&shared.index).forget(&key.locator());
    }
    count(&shared.counters.dropped, 1);
}

/// Reads the index of the file, from its end. What is stored meanwhile waits.
const LOAD: usize = 256;

impl Writer {
    /// Reads what is in the file into the index.
    pub(super) fn load(&mut self) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let Some(engine) = shared.engine() else { return Ok(()) };
        if lock(&shared.index).is_complete() {
            return Ok(());
        }
        let mut before = u64::MAX;
        loop {
            let blocks = engine.records_before(before, LOAD)?;
            let Some((last, _)) = blocks.last() else { break };
            before = *last;
            let mut index = lock(&shared.index);
            for (seq, records) in &blocks {
                let current = |record: &Record| shared.epochs.stamp(record.scope).epoch == record.epoch;
                index.load(*seq, records, current, |tag| shared.keys(tag));
            }
        }
        drop(engine);
        let overflown = {
            let mut index = lock(&shared.index);
            let overflown = index.is_overflown();
            index.finish();
            overflown
        };
        if overflown { self.wipe_file() } else { Ok(()) }
    }

    /// Evicts a tenth, so that there is room to write at all.
    pub(super) fn evict_some(&mut self) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let Some(engine) = shared.engine() else { return Ok(()) };
        let evict = {
            let index = lock(&shared.index);
            index.to_evict(0, index.allocated() / 10 * 9)
        };
        let mut records = Vec::with_capacity(evict.len());
        for seq in &evict {
            records.push(engine.records(*seq)?);
        }
        let head = self.head(false);
        let change = Change { head: Some(&head), evict: &evict, ..Change::default() };
        engine.apply(&change, &shared.head_key)?;
        self.clean = false;
        let mut index = lock(&shared.index);
        let evicted = evict.iter().zip(&records).map(|(seq, records)| index.evicted(*seq, records)).sum();
        count(&shared.counters.evicted, evicted);
        Ok(())
    }
}

/// How long to wait after so many attempts in vain.
pub(super) fn pause(first: Duration, attempts: u32) -> Duration {
    first.saturating_mul(1 << attempts.min(16)).min(Duration::from_secs(60).max(first))
}
