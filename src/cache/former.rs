//! Answers stored under the secret before this one: read until the longest time to live is over, then gone.
//!
//! A new secret makes new keys, so nothing of the old file could be found any more. It is moved to
//! `<path>.before-<ms>`, read when memory and the new file have no answer, and never written to, except that purges
//! and removals reach it, and that an answer goes when a newer one is stored. What is found there is stored anew under
//! the new secret, and keeps its age.
//!
//! A later start may read a file that this one cannot, so a purge or removal deletes each that is not open here. Too
//! much is forgotten then, never too little.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::embeddings;
use super::entry::Entry;
use super::key::{CacheKey, Keyer};
use super::layer::Core;
use super::switch::Mode;
use super::{Disk, DiskOptions, DiskState};
use crate::call::{CacheMode, Call, Options, Scope};
use crate::clock::Clock;
use crate::lock::lock;

/// What follows the name of the file, and is followed by when it was moved.
const BEFORE: &str = ".before-";

/// The files of earlier secrets beside a cache file.
pub(super) struct Earlier {
    /// The cache file.
    path: PathBuf,
    former: Option<Former>,
}

/// The file of the secret before, and who can read it.
struct Former {
    keyer: Keyer,
    path: PathBuf,
    /// When nothing in it is fresh any more, in milliseconds since 1970-01-01 UTC.
    until_ms: i64,
    disk: Mutex<Option<Arc<Disk>>>,
    /// Held while what it has is stored anew, and while an answer takes the place of one of its own: so that the older
    /// of two is never stored over the newer one.
    turn: Mutex<()>,
}

/// Files of earlier secrets and what was put aside of them, with the time at which each was moved.
fn earlier(path: &Path) -> Vec<(PathBuf, i64)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let begin = format!("{}{BEFORE}", name.to_string_lossy());
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let name = file.file_name();
            // What follows a second dot tells that it was damaged.
            let moved_ms = name.to_string_lossy().strip_prefix(&begin)?.split('.').next()?.parse().ok()?;
            Some((folder.join(name), moved_ms))
        })
        .collect()
}

fn delete(file: &Path) {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %file.display(), %error, "the cache file of an earlier secret cannot be deleted");
        }
        _ => {}
    }
}

/// Work that waits for threads or files, which a caller must not, however it ends.
fn aside(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name("thrifty-disk-close".to_owned()).spawn(work) {
        tracing::warn!(%error, "no thread to delete the cache file of an earlier secret; it stays until its time is over");
    }
}

impl Earlier {
    /// Deletes what nobody needs any more, and moves a file of that secret out of the way of a new one or finds the one
    /// that was moved before.
    pub(super) fn open(path: &Path, before: Option<Keyer>, life: Duration, clock: &Arc<dyn Clock>) -> Self {
        let life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
        let now_ms = clock.now_ms();
        for (file, moved_ms) in earlier(path) {
            if now_ms >= moved_ms.saturating_add(life) {
                delete(&file);
            }
        }
        let former = before.and_then(|keyer| Former::open(path, keyer, life, clock));
        Self { path: path.to_owned(), former }
    }

    /// True if the cache file itself is the one of the secret before: it could not be moved, and starting a new one
    /// would empty it.
    pub(super) fn holds_the_file(&self) -> bool {
        self.former.as_ref().is_some_and(|former| former.path == self.path)
    }

    /// Begins to delete the files that no purge here reaches: another process has them, or they are of another secret.
    /// Told when it is done.
    fn delete_others(&self) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        let (path, former) = (self.path.clone(), self.former.as_ref());
        let covered = former.filter(|former| former.is_covered()).map(|former| former.path.clone());
        let lost = former
            .filter(|_| covered.is_none())
            .map(|former| (former.path.clone(), lock(&former.disk).take()));
        aside(move || {
            let files = earlier(&path).into_iter().map(|(file, _)| file);
            files.filter(|file| Some(file) != covered.as_ref()).for_each(|file| delete(&file));
            if let Some((file, Some(over))) = lost {
                drop(over);
                delete(&file);
            }
            let _ = done.send(());
        });
        wait
    }
}

impl Former {
    /// `None` if there is no file of that secret.
    fn open(path: &Path, keyer: Keyer, life: i64, clock: &Arc<dyn Clock>) -> Option<Self> {
        let now_ms = clock.now_ms();
        let mut stays = false;
        if Disk::belongs_to(path, keyer.mac_key()) {
            let mut target = path.as_os_str().to_owned();
            target.push(format!("{BEFORE}{now_ms}"));
            if let Err(error) = std::fs::rename(path, &target) {
                tracing::warn!(path = %path.display(), %error, "the cache file of the secret before cannot be moved; \
                    it is read where it is, and new answers are kept in memory only until the next start");
                stays = true;
            }
        }
        let (path, moved_ms) = if stays {
            (path.to_owned(), now_ms)
        } else {
            let mut files = earlier(path);
            files.sort_by_key(|(_, moved_ms)| std::cmp::Reverse(*moved_ms));
            files.into_iter().find(|(file, _)| Disk::belongs_to(file, keyer.mac_key()))?
        };
        let options = DiskOptions {
            max_bytes: u64::MAX >> 1,
            // What is encrypted in it is read; nothing is written.
            #[cfg(feature = "encrypt")]
            encrypt: true,
            ..DiskOptions::default()
        };
        let disk = Disk::open(&path, options, keyer.mac_key(), Arc::clone(clock));
        let (until_ms, disk) = (moved_ms.saturating_add(life), Mutex::new(Some(Arc::new(disk))));
        Some(Self { keyer, path, until_ms, disk, turn: Mutex::new(()) })
    }

    /// The file, as long as there may be something fresh in it; after that it is deleted.
    fn disk(&self, now_ms: i64) -> Option<Arc<Disk>> {
        let mut disk = lock(&self.disk);
        if now_ms < self.until_ms {
            return disk.clone();
        }
        if let Some(over) = disk.take() {
            let path = self.path.clone();
            aside(move || {
                drop(over);
                delete(&path);
            });
        }
        None
    }

    /// True if purges through this process reach the file itself.
    fn is_covered(&self) -> bool {
        let state = lock(&self.disk).as_ref().map(|disk| disk.stats().state);
        !matches!(state, None | Some(DiskState::NotOwner | DiskState::Disabled))
    }
}

/// The file of the secret before, and who can read it.
fn former(core: &Core) -> Option<(&Former, Arc<Disk>)> {
    let former = core.former.as_ref()?.former.as_ref()?;
    Some((former, former.disk(core.clock.now_ms())?))
}

/// The key of a call under the secret before, if anything may be stored under it.
pub(super) fn old_key(core: &Core, call: &Call) -> Option<CacheKey> {
    let (former, _) = former(core)?;
    let scope = core.scope_of(Options::among(&call.parts.extensions));
    former.keyer.key(call, scope, &core.vary).ok()
}

/// The answer to a call under the secret before. Afterwards it is stored under this one, where the call may store.
pub(super) async fn find(core: &Core, call: &Call, key: &CacheKey) -> Option<Arc<Entry>> {
    let (former, disk) = former(core)?;
    // Those start anew.
    if embeddings::plan(core, call).is_some() {
        return None;
    }
    let options = Options::among(&call.parts.extensions);
    let scope = core.scope_of(options);
    let (stamp, removals) = (core.tiers.stamp(core.keyer.scope_tag(call, scope)), core.tiers.removals());
    let old = former.keyer.key(call, scope, &core.vary).ok()?;
    let entry = disk.get(&old).await.filter(|entry| entry.is_fresh(core.clock.now_ms()))?;
    let _turn = lock(&former.turn);
    // A newer one may have taken its place meanwhile.
    if !disk.knows(&old) {
        return None;
    }
    let stores = matches!(core.switch.get(), Mode::On | Mode::WriteOnly)
        && !options.is_some_and(|options| matches!(options.cache, CacheMode::ReadOnly | CacheMode::NoStore));
    let may_serve = match stores {
        true => core.tiers.adopt(*key, &entry, stamp, removals),
        false => core.tiers.removals() == removals && core.tiers.is_current(&stamp),
    };
    may_serve.then_some(entry)
}

/// Stores an answer, and forgets the older one under the secret before. Does not wait for the disk.
pub(super) fn replace(core: &Core, old: &CacheKey, put: impl FnOnce()) {
    let Some((former, disk)) = former(core) else { return put() };
    let _turn = lock(&former.turn);
    put();
    disk.remove_soon(old);
}

/// Forgets the answer to a call; durable on return. Like the others below, it is under way when polled once.
pub(super) async fn remove(core: &Core, call: &Call) {
    let key = old_key(core, call);
    forget(core, async |_, disk| {
        if let Some(key) = key {
            disk.remove_async(&key).await;
        }
    })
    .await;
}

/// Forgets what is stored for a scope; durable on return.
pub(super) async fn purge(core: &Core, scope: &Scope) {
    forget(core, async |keyer, disk| match keyer.named_tag(scope) {
        Some(tag) => disk.purge_async(tag).await,
        None => disk.clear_async().await,
    })
    .await;
}

/// Forgets what is stored for the scope a call is in; durable on return.
pub(super) async fn purge_caller(core: &Core, call: &Call) {
    let scope = core.scope_of(Options::among(&call.parts.extensions));
    forget(core, async |keyer, disk| disk.purge_async(keyer.scope_tag(call, scope)).await).await;
}

async fn forget(core: &Core, within: impl AsyncFnOnce(&Keyer, &Disk)) {
    let Some(earlier) = &core.former else { return };
    let others = earlier.delete_others();
    if let Some((former, disk)) = former(core) {
        within(&former.keyer, &disk).await;
    }
    // An error means that there was no thread to do it, which has been said.
    let _ = others.await;
}
