//! Whose an entry is, and forgetting all that is somebody's.
//!
//! The one place that knows how the store tells scopes apart. The scope that flights are told apart by is the same tag.

use super::layer::Core;
use super::store::epochs::{Stamp, Tag};
use crate::call::{Call, Options, Scope};

/// Whose answers a call gets.
pub(super) fn tag(core: &Core, call: &Call) -> Tag {
    let scope = core.scope_of(Options::among(&call.parts.extensions));
    core.keyer.scope_tag(call, scope)
}

/// What was purged before a call is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Since {
    /// Told to the store, which serves an entry only while nothing of it has been purged since.
    pub(super) stamp: Stamp,
    /// Told to the flights: the same for what is still on its way.
    pub(super) epoch: u64,
}

impl Since {
    /// To be taken before a call is sent; what it brings is stored with it.
    pub(super) fn of(core: &Core, call: &Call) -> Self {
        let tag = tag(core, call);
        Self { epoch: core.epoch.now(tag), stamp: core.tiers.stamp(tag) }
    }

    /// Stores, unless something of this scope has been purged since; no purge of it ends meanwhile.
    pub(super) fn store<T>(&self, core: &Core, store: impl FnOnce() -> T) -> Option<T> {
        core.epoch.store(self.stamp.scope, self.epoch, store)
    }
}

/// Forgets what is stored for a scope; durable on return where this process has the file. One without a name is that of every credential: all goes.
pub(super) async fn scope(core: &Core, scope: &Scope) {
    let purged = async {
        match core.keyer.named_tag(scope) {
            Some(tag) => of(core, tag).await,
            None => {
                core.begin_purge(None);
                core.tiers.clear().await;
            }
        }
    };
    #[cfg(feature = "disk")]
    both(super::former::purge(core, scope), purged).await;
    #[cfg(not(feature = "disk"))]
    purged.await;
}

/// Forgets what is stored for the scope a call is in; durable on return where this process has the file.
pub(super) async fn caller(core: &Core, call: &Call) {
    let purged = of(core, tag(core, call));
    #[cfg(feature = "disk")]
    both(super::former::purge_caller(core, call), purged).await;
    #[cfg(not(feature = "disk"))]
    purged.await;
}

/// Forgets in the file of the secret before and in the tiers. Both are under way once this is polled, so whoever stops
/// waiting takes nothing back. In this order, and without a wait between them, nothing can be taken over from the old
/// file after the purge of the tiers: its stamp would have to be newer than the purge of what it was found in.
#[cfg(feature = "disk")]
pub(super) async fn both(former: impl Future<Output = ()>, tiers: impl Future<Output = ()>) {
    tokio::join!(biased; former, tiers);
}

/// Forgets everything; durable on return where this process has the file.
pub(super) async fn all(core: &Core) {
    scope(core, &Scope::credential()).await;
}

async fn of(core: &Core, tag: Tag) {
    core.begin_purge(Some(tag));
    core.tiers.purge(tag).await;
}
