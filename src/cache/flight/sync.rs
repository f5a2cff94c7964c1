//! Locks and counters under a name of our own: the tests that explore schedules put theirs in their place.

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard, RwLock};
