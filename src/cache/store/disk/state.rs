//! How it is with the file, and what to do when it cannot be used.
//!
//! | state | enters on | meanwhile | leaves |
//! |---|---|---|---|
//! | `Healthy` | an opening | all | |
//! | `ReadOnly` | a failed write | reads go on, stores are dropped and counted | when a trial write succeeds: opened again |
//! | `Reopening` | from `ReadOnly`, or a failed opening | memory only | to `Healthy`; after three failures in a row, full disks not counted, to a new file |
//! | `Disabled` | a file that is not ours, or damaged and cannot be replaced | memory only | with the next start |
//! | `NotOwner` | a file in use elsewhere | memory only | tried again at intervals |
//!
//! A damaged file is put aside and a new one started. Leaving `Healthy` is said once, and so is the way back. The
//! engine writes whenever it opens a file, so a full disk is no reason to give one up, however long it lasts.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::backend::QUARANTINE;
use super::engine::{self, Change, Engine as _, Fault, Found};
use super::writer::{Writer, pause};
use super::{Shared, count, lock};

/// How it is with the file of a [`Disk`](super::Disk).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum DiskState {
    /// Not open; it is tried again.
    #[default]
    Reopening = 0,
    /// All is well.
    Healthy = 1,
    /// A write failed: what is there is served, nothing is added.
    ReadOnly = 2,
    /// Another process has it; it is tried again.
    NotOwner = 3,
    /// Given up until the next start.
    Disabled = 4,
}

impl DiskState {
    pub(super) fn of(shared: &Shared) -> Self {
        match shared.state.load(Ordering::Acquire) {
            0 => Self::Reopening,
            1 => Self::Healthy,
            2 => Self::ReadOnly,
            3 => Self::NotOwner,
            _ => Self::Disabled,
        }
    }

    pub(super) fn set(self, shared: &Shared) {
        shared.state.store(self as u8, Ordering::Release);
    }
}

/// Failed openings in a row before a new file is started.
const ATTEMPTS: u32 = 3;

impl Writer {
    /// Opens the file for the first time. Its index is read later.
    pub(super) fn open(&mut self) {
        if let Err(fault) = self.try_open() {
            self.not_opened(&fault);
        }
    }

    /// Lets go of the file and opens it again.
    pub(super) fn reopen(&mut self) {
        self.retry = None;
        // After a write that failed there may be no room.
        let make_room = DiskState::of(&self.shared) == DiskState::ReadOnly;
        // While nothing can be written the file would not open, and what can be read now would be lost.
        if make_room && self.shared.medium.probe(&self.shared.path).is_err() {
            return self.try_later();
        }
        self.close();
        if let Err(fault) = self.try_open().and_then(|()| self.load()) {
            return self.not_opened(&fault);
        }
        match if make_room { self.evict_some() } else { Ok(()) } {
            Ok(()) => self.recovered(),
            Err(Fault::Damaged(why)) => {
                self.close();
                self.put_aside(&why);
            }
            Err(fault) => {
                self.enter(DiskState::ReadOnly, fault.text());
                self.try_later();
            }
        }
        if DiskState::of(&self.shared) == DiskState::Healthy && !self.batch.is_empty() {
            self.due = Some(Instant::now());
        }
    }

    /// The file cannot be opened, or its index not be read.
    pub(super) fn not_opened(&mut self, fault: &Fault) {
        self.close();
        self.retry = None;
        match fault {
            Fault::Damaged(why) => self.put_aside(why),
            Fault::Busy => {
                self.enter(DiskState::NotOwner, fault.text());
                self.retry = Some(Instant::now() + self.shared.options.lock_retry);
                self.drop_batch();
            }
            Fault::Foreign => self.disable(fault.text()),
            Fault::Full(why) => {
                self.enter(DiskState::Reopening, why);
                self.try_later();
            }
            Fault::Other(why) => {
                self.enter(DiskState::Reopening, why);
                self.failed_opens += 1;
                if self.failed_opens >= ATTEMPTS {
                    self.put_aside(why);
                } else {
                    self.try_later();
                }
            }
        }
    }

    fn try_later(&mut self) {
        self.retry = Some(Instant::now() + pause(self.shared.options.retry, self.attempts));
        self.attempts += 1;
    }

    fn recovered(&mut self) {
        self.failed_opens = 0;
        if self.said {
            self.said = false;
            tracing::info!(path = %self.shared.path.display(), "the cache file is in use again");
        }
    }

    /// Moves the file out of the way and starts a new one.
    pub(super) fn put_aside(&mut self, why: &str) {
        let shared = Arc::clone(&self.shared);
        if !self.said {
            count(&shared.counters.faults, 1);
        }
        let path = shared.path.display();
        let mut target = shared.path.as_os_str().to_owned();
        target.push(format!("{QUARANTINE}{}", shared.clock.now_ms()));
        let target = PathBuf::from(target);
        match shared.medium.set_aside(&shared.path, &target) {
            Ok(()) => {
                tracing::warn!(%path, to = %target.display(), why, "the cache file is damaged; a new one is started");
            }
            Err(error) => {
                tracing::warn!(%path, %error, why, "the cache file is damaged and cannot be moved");
                self.failed_opens = 0;
                return self.try_later();
            }
        }
        lock(&shared.index).unload();
        // There is nothing in it to be read.
        match self.try_open() {
            Ok(()) => self.recovered(),
            Err(fault @ (Fault::Full(_) | Fault::Other(_))) => {
                self.enter(DiskState::Reopening, fault.text());
                self.failed_opens = 0;
                self.try_later();
            }
            Err(fault) => self.disable(fault.text()),
        }
    }

    fn disable(&mut self, why: &str) {
        self.retry = None;
        self.enter(DiskState::Disabled, why);
        self.drop_batch();
    }

    fn try_open(&mut self) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let key = &shared.head_key;
        let mut engine = engine::open(&*shared.medium, &shared.path, shared.options.max_bytes)?;
        let found = engine.head(key)?;
        if let Found::Useless(why) = &found {
            tracing::info!(path = %shared.path.display(), "the cache file is {why}; it starts empty");
        }
        let mut wipe = self.owes_clear;
        match &found {
            Found::Head(head) => {
                if !head.clean && head.suspect {
                    engine.check_integrity()?;
                }
                shared.epochs.adopt(head.global, &head.scopes, self.owes_clear, &self.owed);
                self.clean = head.clean;
                self.next_seq = self.next_seq.max(head.next_seq);
            }
            _ => wipe = true,
        }
        let last = engine.records_before(u64::MAX, 1)?.first().map(|(seq, _)| *seq);
        if let Some(last) = last {
            self.next_seq = self.next_seq.max(last.saturating_add(1));
        }
        let shred: Vec<_> = self.owed.iter().copied().collect();
        if wipe || !shred.is_empty() {
            let head = self.head(false);
            let change = Change { wipe, head: Some(&head), shred: &shred, ..Change::default() };
            engine.apply(&change, key)?;
            self.clean = false;
        }
        self.suspect = false;
        self.owes_clear = false;
        self.owed.clear();
        *lock(&shared.salts) = engine.salts(key)?;
        *lock(&shared.damage) = None;
        if wipe {
            lock(&shared.index).clear();
        }
        *shared.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(engine));
        DiskState::Healthy.set(&shared);
        Ok(())
    }

    /// A commit went wrong, and whether it is in the file is not known: what is there is read anew.
    pub(super) fn fail(&mut self, fault: Fault) {
        match fault {
            Fault::Damaged(why) => {
                self.close();
                self.put_aside(&why);
            }
            fault => {
                if let (Fault::Full(_), Ok(len)) = (&fault, self.shared.medium.len(&self.shared.path)) {
                    // Where other files find room, this one has a limit of its own, and goes on within its length.
                    let pause = pause(self.shared.options.retry, self.ceilings);
                    self.ceiling = Some((len, Instant::now() + pause));
                    self.ceilings += 1;
                }
                self.enter(DiskState::ReadOnly, fault.text());
                self.reopen();
            }
        }
    }

    /// Says so once, until all is well again.
    fn enter(&mut self, state: DiskState, why: &str) {
        let path = self.shared.path.display();
        tracing::debug!(%path, ?state, why, "the cache file's state changes");
        state.set(&self.shared);
        if !self.said {
            self.said = true;
            count(&self.shared.counters.faults, 1);
            tracing::warn!(%path, why, "the cache file cannot be used; answers are kept in memory only");
        }
    }

    /// Lets go of the file. Readers hold it for one read each, so it is closed at the latest when they are done.
    pub(super) fn close(&mut self) {
        let shared = Arc::clone(&self.shared);
        DiskState::Reopening.set(&shared);
        lock(&shared.index).unload();
        shared.hot.clear();
        let engine = shared.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(engine) = engine else { return };
        for _ in 0..1000 {
            if Arc::strong_count(&engine) == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        engine::drop_quietly(engine);
    }

    /// Closes the file for good, and says in it that this was a proper close.
    pub(super) fn retire(&mut self) {
        let shared = Arc::clone(&self.shared);
        if DiskState::of(&shared) == DiskState::Healthy
            && let Some(engine) = shared.engine()
            && !self.clean
        {
            let head = self.head(true);
            let _ = engine.apply(&Change { head: Some(&head), ..Change::default() }, &shared.head_key);
        }
        self.close();
    }

    /// Deletes a file that should be empty and cannot be written, unless it is another process's.
    pub(super) fn delete_file(&mut self) {
        let shared = Arc::clone(&self.shared);
        if matches!(DiskState::of(&shared), DiskState::NotOwner | DiskState::Disabled) {
            return;
        }
        self.close();
        match shared.medium.remove(&shared.path) {
            Ok(()) => {
                tracing::warn!(path = %shared.path.display(), "the cache file could not be emptied and is deleted")
            }
            Err(error) => {
                tracing::warn!(path = %shared.path.display(), %error, "a purge of the cache file is not durable yet");
            }
        }
        self.open();
    }
}
