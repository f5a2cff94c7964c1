//! Forgetting all answers of one scope.
//!
//! The one place that knows how the store tells scopes apart.

use super::layer::Core;
use crate::call::Scope;

/// Forgets what is stored for a scope; durable on return. Today's store does not tell scopes apart, and forgetting
/// too much costs money, too little a promise: all goes.
pub(super) async fn scope(core: &Core, _: &Scope) {
    core.aliases.clear();
    core.tiers.clear().await;
}
