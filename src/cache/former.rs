//! Answers stored under the secret before this one: read until the longest time to live is over, then gone.
//!
//! A new secret makes new keys, so nothing of the old file could be found any more. It is moved to
//! `<path>.before-<ms>`, read when memory and the new file have no answer, and never written to, except that purges
//! and removals reach it. What is found there is stored anew under the new secret, and keeps its age.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::entry::Entry;
use super::key::{CacheKey, Keyer};
use super::layer::Core;
use super::{Disk, DiskOptions};
use crate::call::{Call, Options, Scope};
use crate::clock::Clock;

/// What follows the name of the file, and is followed by when it was moved.
const BEFORE: &str = ".before-";

/// The file of the secret before, and who can read it.
pub(super) struct Former {
    keyer: Keyer,
    path: PathBuf,
    /// When nothing in it is fresh any more, in milliseconds since 1970-01-01 UTC.
    until_ms: i64,
    disk: Mutex<Option<Arc<Disk>>>,
}

/// Files of earlier secrets, with the time until which they may be of use.
fn earlier(path: &Path, life: Duration) -> Vec<(PathBuf, i64)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let begin = format!("{}{BEFORE}", name.to_string_lossy());
    let life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let moved_ms: i64 = file.file_name().to_string_lossy().strip_prefix(&begin)?.parse().ok()?;
            Some((folder.join(file.file_name()), moved_ms.saturating_add(life)))
        })
        .collect()
}

/// Deletes files of earlier secrets in which nothing can be fresh.
pub(super) fn sweep(path: &Path, life: Duration, now_ms: i64) {
    for (file, until_ms) in earlier(path, life) {
        if now_ms >= until_ms
            && let Err(error) = std::fs::remove_file(&file)
        {
            tracing::warn!(path = %file.display(), %error, "the cache file of an earlier secret cannot be deleted");
        }
    }
}

impl Former {
    /// Moves a file of that secret out of the way of a new one, or finds the one that was moved before. `None` if there
    /// is neither.
    pub(super) fn open(path: &Path, keyer: Keyer, life: Duration, clock: &Arc<dyn Clock>) -> Option<Self> {
        let now_ms = clock.now_ms();
        if Disk::belongs_to(path, keyer.mac_key()) {
            let mut target = path.as_os_str().to_owned();
            target.push(format!("{BEFORE}{now_ms}"));
            if let Err(error) = std::fs::rename(path, &target) {
                tracing::warn!(path = %path.display(), %error, "the cache file of the secret before cannot be moved");
            }
        }
        let mut files = earlier(path, life);
        files.sort_by_key(|(_, until_ms)| -until_ms);
        let (path, until_ms) = files.into_iter().find(|(file, _)| Disk::belongs_to(file, keyer.mac_key()))?;
        let options = DiskOptions {
            max_bytes: u64::MAX >> 1,
            // What is encrypted in it is read; nothing is written.
            #[cfg(feature = "encrypt")]
            encrypt: true,
            ..DiskOptions::default()
        };
        let disk = Disk::open(&path, options, keyer.mac_key(), Arc::clone(clock));
        Some(Self { keyer, path, until_ms, disk: Mutex::new(Some(Arc::new(disk))) })
    }

    /// The file, as long as there may be something fresh in it; after that it is deleted.
    fn disk(&self, now_ms: i64) -> Option<Arc<Disk>> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms < self.until_ms {
            return disk.clone();
        }
        if let Some(over) = disk.take() {
            let path = self.path.clone();
            // Closing waits for threads, which a caller must not.
            let close = move || {
                drop(over);
                let _ = std::fs::remove_file(path);
            };
            let _ = std::thread::Builder::new().name("thrifty-disk-close".to_owned()).spawn(close);
        }
        None
    }
}

/// The file of the secret before, and who can read it.
fn former(core: &Core) -> Option<(&Keyer, Arc<Disk>)> {
    let former = core.former.as_ref()?;
    Some((&former.keyer, former.disk(core.clock.now_ms())?))
}

/// The answer to a call under the secret before. Afterwards it is stored under this one.
pub(super) async fn find(core: &Core, call: &Call, key: &CacheKey) -> Option<Arc<Entry>> {
    let (keyer, disk) = former(core)?;
    let scope = core.scope_of(Options::among(&call.parts.extensions));
    let (stamp, removals) = (core.tiers.stamp(core.keyer.scope_tag(call, scope)), core.tiers.removals());
    let old = keyer.key(call, scope, &core.vary).ok()?;
    let entry = disk.get(&old).await.filter(|entry| entry.is_fresh(core.clock.now_ms()))?;
    core.tiers.adopt(*key, &entry, stamp, removals).then_some(entry)
}

/// Forgets the answer to a call; durable on return.
pub(super) async fn remove(core: &Core, call: &Call) {
    let Some((keyer, disk)) = former(core) else { return };
    let scope = core.scope_of(Options::among(&call.parts.extensions));
    if let Ok(key) = keyer.key(call, scope, &core.vary) {
        disk.remove_async(&key).await;
    }
}

/// Forgets what is stored for a scope; durable on return.
pub(super) async fn purge(core: &Core, scope: &Scope) {
    let Some((keyer, disk)) = former(core) else { return };
    match keyer.named_tag(scope) {
        Some(tag) => disk.purge_async(tag).await,
        None => disk.clear_async().await,
    }
}

/// Forgets what is stored for the scope a call is in; durable on return.
pub(super) async fn purge_caller(core: &Core, call: &Call) {
    let Some((keyer, disk)) = former(core) else { return };
    let scope = core.scope_of(Options::among(&call.parts.extensions));
    disk.purge_async(keyer.scope_tag(call, scope)).await;
}
