//! Whose an entry is, and forgetting all that is somebody's.
//!
//! The one place that knows how the store tells scopes apart.

use super::layer::Core;
use super::store::epochs::Stamp;
use crate::call::{Call, Options, Scope};

/// The purges before a call is sent; what it brings is stored with it.
pub(super) fn stamp(core: &Core, call: &Call) -> Stamp {
    let scope = core.scope_of(Options::among(&call.parts.extensions));
    core.tiers.stamp(core.keyer.scope_tag(call, scope))
}

/// Forgets what is stored for a scope; durable on return. One without a name is that of every credential: all goes.
pub(super) async fn scope(core: &Core, scope: &Scope) {
    #[cfg(feature = "disk")]
    super::former::purge(core, scope).await;
    match core.keyer.named_tag(scope) {
        Some(tag) => core.tiers.purge(tag).await,
        None => core.tiers.clear().await,
    }
}

/// Forgets what is stored for the scope a call is in; durable on return.
pub(super) async fn caller(core: &Core, call: &Call) {
    #[cfg(feature = "disk")]
    super::former::purge_caller(core, call).await;
    core.tiers.purge(stamp(core, call).scope).await;
}
