//! Purges, counted, so that what was on the road during one is not stored after it.

use std::collections::HashMap;
use std::sync::PoisonError;

use super::sync::RwLock;

/// Whose answers: what locates a scope in the store.
type Tag = [u8; 16];

/// Purges so far. A flight remembers the number of its scope at its start and stores nothing if that has changed since.
/// A purge of another scope does not change it.
#[derive(Debug)]
pub(in super::super) struct Epoch(RwLock<Purges>);

#[derive(Debug, Default)]
struct Purges {
    /// All of them.
    count: u64,
    /// The last one of everything.
    all: u64,
    /// The last one of each scope since then.
    scopes: HashMap<Tag, u64>,
}

/// More scopes than this, and a purge of everything takes the place of theirs: too much is not stored, never too little.
const MOST_SCOPES: usize = 65_536;

impl Purges {
    fn of(&self, scope: &Tag) -> u64 {
        match self.scopes.is_empty() {
            true => self.all,
            false => self.scopes.get(scope).copied().unwrap_or(self.all),
        }
    }
}

impl Epoch {
    pub(in super::super) fn new() -> Self {
        Self(RwLock::new(Purges::default()))
    }

    /// The number of the last purge that covered this scope.
    pub(in super::super) fn now(&self, scope: Tag) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).of(&scope)
    }

    /// Begins the next epoch of one scope, or of all. On return no store of an earlier one is under way, and none comes
    /// after it.
    pub(in super::super) fn bump(&self, scope: Option<Tag>) {
        let mut purges = self.0.write().unwrap_or_else(PoisonError::into_inner);
        purges.count += 1;
        let count = purges.count;
        match scope {
            Some(tag) if purges.scopes.len() < MOST_SCOPES || purges.scopes.contains_key(&tag) => {
                purges.scopes.insert(tag, count);
            }
            _ => {
                purges.all = count;
                purges.scopes.clear();
            }
        }
    }

    /// Stores while it still is the epoch of `since` for this scope, and keeps it from ending meanwhile.
    pub(in super::super) fn store<T>(&self, scope: Tag, since: u64, store: impl FnOnce() -> T) -> Option<T> {
        let now = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (now.of(&scope) == since).then(store)
    }
}
