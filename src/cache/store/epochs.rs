//! Purges as numbers: what was asked before one is not served after it.
//!
//! Deleting is not enough, since a call on the road during a purge would store its answer afterwards. So every entry
//! carries the numbers of the moment before its call was sent, and is served only while they are still the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locates what belongs to one scope: [`Keyer::scope_tag`](crate::cache::Keyer::scope_tag).
pub(crate) type Tag = [u8; 16];

/// Whose an entry is, and which purges were before the call that brought it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(not(feature = "disk"), expect(unreachable_pub, reason = "others see it with a disk tier alone"))]
pub struct Stamp {
    /// The tag of its scope.
    pub scope: [u8; 16],
    /// Purges of everything.
    pub global: u32,
    /// Purges of its scope since then.
    pub epoch: u32,
}

/// The purges so far.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    global: AtomicU32,
    /// False while no scope has been purged alone, which is the usual case and needs no look at the table.
    any: AtomicBool,
    scopes: RwLock<HashMap<Tag, u32>>,
}

/// More scopes than this, and a purge of everything takes the place of theirs: too much is gone, never too little.
const MOST_SCOPES: usize = 65_536;

impl Epochs {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Tag, u32>> {
        self.scopes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Tag, u32>> {
        self.scopes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stamp of a call about to be sent.
    pub(crate) fn stamp(&self, scope: Tag) -> Stamp {
        let scopes = self.read();
        let epoch = scopes.get(&scope).copied().unwrap_or(0);
        Stamp { scope, global: self.global.load(Ordering::SeqCst), epoch }
    }

    /// True while nothing the stamp belongs to has been purged.
    pub(crate) fn is_current(&self, stamp: &Stamp) -> bool {
        if stamp.global != self.global.load(Ordering::SeqCst) {
            return false;
        }
        let epoch = match self.any.load(Ordering::SeqCst) {
            true => self.read().get(&stamp.scope).copied().unwrap_or(0),
            false => 0,
        };
        stamp.epoch == epoch
    }

    /// Purges one scope. True if everything was purged in its place.
    pub(crate) fn bump(&self, scope: Tag) -> bool {
        let mut scopes = self.write();
        if scopes.len() >= MOST_SCOPES && !scopes.contains_key(&scope) {
            self.forget(&mut scopes);
            return true;
        }
        let epoch = scopes.entry(scope).or_insert(0);
        *epoch = epoch.wrapping_add(1);
        self.any.store(true, Ordering::SeqCst);
        false
    }

    /// Purges everything.
    pub(crate) fn bump_all(&self) {
        self.forget(&mut self.write());
    }

    fn forget(&self, scopes: &mut HashMap<Tag, u32>) {
        self.global.fetch_add(1, Ordering::SeqCst);
        // An older stamp is told by its global number.
        scopes.clear();
        self.any.store(false, Ordering::SeqCst);
    }

    /// Both numbers, to be kept.
    #[cfg(feature = "disk")]
    pub(crate) fn snapshot(&self) -> (u32, HashMap<Tag, u32>) {
        let scopes = self.read();
        (self.global.load(Ordering::SeqCst), scopes.clone())
    }

    /// Takes over what a file says was purged; what was purged here while the file was out of reach comes on top.
    #[cfg(feature = "disk")]
    pub(crate) fn adopt(
        &self,
        global: u32,
        kept: &HashMap<Tag, u32>,
        owed_all: bool,
        owed: &std::collections::HashSet<Tag>,
    ) {
        let mut scopes = self.write();
        let mine = self.global.load(Ordering::SeqCst);
        if owed_all {
            self.global.store(mine.max(global).wrapping_add(1), Ordering::SeqCst);
            scopes.clear();
            self.any.store(false, Ordering::SeqCst);
            return;
        }
        if global > mine {
            scopes.clear();
            self.global.store(global, Ordering::SeqCst);
        }
        if global >= mine {
            for (tag, epoch) in kept {
                let mine = scopes.entry(*tag).or_insert(0);
                *mine = (*mine).max(*epoch);
            }
        }
        for tag in owed {
            let epoch = scopes.entry(*tag).or_insert(0);
            *epoch = epoch.wrapping_add(1);
        }
        self.any.store(!scopes.is_empty(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_ends_what_was_stamped_before_it_and_nothing_else() {
        let epochs = Epochs::default();
        let (mine, other) = (epochs.stamp([1; 16]), epochs.stamp([2; 16]));
        epochs.bump([1; 16]);
        assert!(!epochs.is_current(&mine) && epochs.is_current(&other));
        let mine = epochs.stamp([1; 16]);
        assert!(epochs.is_current(&mine));
        epochs.bump_all();
        assert!(!epochs.is_current(&mine) && !epochs.is_current(&other));
        assert!(epochs.is_current(&epochs.stamp([1; 16])));
    }

    #[cfg(feature = "disk")]
    #[test]
    fn a_purge_made_while_the_file_was_out_of_reach_is_not_lost() {
        let epochs = Epochs::default();
        epochs.bump([1; 16]);
        let kept = HashMap::from([([1; 16], 4), ([2; 16], 1)]);
        epochs.adopt(0, &kept, false, &[[1; 16]].into());
        for (stamp, current) in [
            (Stamp { scope: [1; 16], global: 0, epoch: 4 }, false),
            (Stamp { scope: [1; 16], global: 0, epoch: 5 }, true),
            (Stamp { scope: [2; 16], global: 0, epoch: 0 }, false),
            (Stamp { scope: [2; 16], global: 0, epoch: 1 }, true),
            (Stamp { scope: [3; 16], global: 0, epoch: 0 }, true),
        ] {
            assert_eq!(epochs.is_current(&stamp), current, "{stamp:?}");
        }
        epochs.adopt(9, &kept, true, &[].into());
        assert_eq!(epochs.stamp([1; 16]), Stamp { scope: [1; 16], global: 10, epoch: 0 });
    }
}
