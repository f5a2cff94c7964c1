//! Reads: from what waits to be written, from blocks in memory, and from the file by threads of their own.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::engine::Fault;
use super::hot::HotBlock;
use super::index::Slot;
use super::writer::Job;
use super::{Shared, block, count, lock};
use crate::cache::entry::Entry;
use crate::cache::envelope::{self, Keys, Trust};
use crate::cache::key::CacheKey;
use crate::cache::store::epochs::{Stamp, Tag};

/// A read that takes longer is a miss.
const DEADLINE: Duration = Duration::from_millis(20);

/// Reads that may wait for a reader thread; one more is a miss.
pub(super) const QUEUE: usize = 1024;

pub(super) const READERS: usize = 2;

/// More damaged entries than this in a minute, and the file is put aside.
const DAMAGED_PER_MINUTE: u32 = 8;

type Found = Option<(Arc<Entry>, Stamp)>;

/// A read for a thread that may wait for the disk.
pub(super) struct Read {
    wanted: Wanted,
    answer: oneshot::Sender<Found>,
}

/// An entry, and where the index says it is.
struct Wanted {
    key: CacheKey,
    slot: Slot,
    scope: Tag,
    keys: Keys,
}

pub(super) async fn get(
    shared: &Shared,
    reads: &SyncSender<Read>,
    jobs: &Sender<Job>,
    key: &CacheKey,
) -> Found {
    let now_ms = shared.clock.now_ms();
    let waiting = lock(&shared.pending).get(key).cloned();
    if let Some((entry, stamp)) = waiting {
        return (entry.is_fresh(now_ms) && shared.epochs.is_current(&stamp)).then_some((entry, stamp));
    }
    let (slot, scope, keys) = lock(&shared.index).hit(&key.locator(), now_ms)?;
    let wanted = Wanted { key: *key, slot, scope, keys };
    if let Some(block) = shared.hot.get(slot.seq) {
        count(&shared.counters.hot, 1);
        return take(shared, jobs, &wanted, &block);
    }
    if are_all_stuck(shared) {
        count(&shared.counters.late, 1);
        return None;
    }
    let (answer, found) = oneshot::channel();
    reads.try_send(Read { wanted, answer }).ok()?;
    match tokio::time::timeout(DEADLINE, found).await {
        Ok(found) => found.ok().flatten(),
        Err(_) => {
            count(&shared.counters.late, 1);
            None
        }
    }
}

fn since_start(shared: &Shared) -> u64 {
    // Never 0, which says that nothing is read.
    shared.started.elapsed().as_millis() as u64 + 1
}

/// True if no reader thread has come back within the time that anybody would wait.
fn are_all_stuck(shared: &Shared) -> bool {
    let now = since_start(shared);
    shared.reading.iter().all(|since| {
        let since = since.load(Ordering::Relaxed);
        since != 0 && now.saturating_sub(since) > DEADLINE.as_millis() as u64
    })
}

/// A reader thread.
pub(super) fn serve(shared: &Shared, number: usize, asked: &Mutex<Receiver<Read>>, jobs: &Sender<Job>) {
    loop {
        let next = lock(asked).recv();
        let Ok(Read { wanted, answer }) = next else { return };
        // Nobody waits any more.
        if answer.is_closed() {
            continue;
        }
        shared.reading[number].store(since_start(shared), Ordering::Relaxed);
        let found = fetch(shared, jobs, &wanted);
        shared.reading[number].store(0, Ordering::Relaxed);
        let _ = answer.send(found);
    }
}

fn fetch(shared: &Shared, jobs: &Sender<Job>, wanted: &Wanted) -> Found {
    // Another read may have brought it meanwhile.
    if let Some(block) = shared.hot.get(wanted.slot.seq) {
        return take(shared, jobs, wanted, &block);
    }
    let engine = shared.engine()?;
    count(&shared.counters.reads, 1);
    let read = engine.block(wanted.slot.seq);
    drop(engine);
    match read {
        Ok(Some(bytes)) => take(shared, jobs, wanted, &shared.hot.keep(wanted.slot.seq, bytes, false)),
        Ok(None) => None,
        Err(Fault::Damaged(_)) => refuse(shared, jobs, wanted, "read"),
        Err(_) => None,
    }
}

/// The entry in its block, if it is what it should be.
fn take(shared: &Shared, jobs: &Sender<Job>, wanted: &Wanted, block: &HotBlock) -> Found {
    let Slot { off, len, .. } = wanted.slot;
    let Some(sealed) = block::part(&block.bytes, off, len) else {
        return refuse(shared, jobs, wanted, "place");
    };
    let trust = if block.is_checked(off) { Trust::Verified } else { Trust::Verify };
    match envelope::open(sealed, &wanted.key, &wanted.keys, trust) {
        Ok((entry, [global, epoch])) => {
            block.set_checked(off);
            let stamp = Stamp { scope: wanted.scope, global, epoch };
            let good = shared.epochs.is_current(&stamp) && entry.is_fresh(shared.clock.now_ms());
            good.then(|| (Arc::new(entry), stamp))
        }
        // Its salt was destroyed, or it is not to be read without encryption: no damage.
        Err("encrypted") => {
            lock(&shared.index).forget_at(&wanted.key.locator(), &wanted.slot);
            None
        }
        Err(reason) => refuse(shared, jobs, wanted, reason),
    }
}

fn refuse(shared: &Shared, jobs: &Sender<Job>, wanted: &Wanted, reason: &'static str) -> Found {
    lock(&shared.index).forget_at(&wanted.key.locator(), &wanted.slot);
    tracing::debug!(reason, "a stored answer cannot be used and is dropped");
    let _ = jobs.send(Job::Suspect { distrust: is_too_damaged(shared) });
    None
}

/// Counts a damaged entry; true when it is one too many.
fn is_too_damaged(shared: &Shared) -> bool {
    count(&shared.counters.damaged, 1);
    let mut damage = lock(&shared.damage);
    let minute = damage.get_or_insert_with(|| (Instant::now(), 0));
    if minute.0.elapsed() > Duration::from_secs(60) {
        *minute = (Instant::now(), 0);
    }
    minute.1 += 1;
    minute.1 > DAMAGED_PER_MINUTE
}
