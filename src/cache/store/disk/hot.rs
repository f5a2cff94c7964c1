//! Blocks that were just written or read, kept so that a caller may read them on its own thread.
//!
//! A caller's thread must never wait for a disk, and the engine's own page cache does not say what it holds. So a
//! block found here is read at once, without the engine; any other one is left to a reader thread, at the price of two
//! changes of thread.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::lock;

/// Bytes kept, about.
const MOST_BYTES: usize = 4 << 20;

/// A block and which of its entries are known to be right.
pub(super) struct HotBlock {
    pub(super) bytes: Vec<u8>,
    /// It was made by this process and never left it.
    own: bool,
    /// Where the entries stand whose hash was checked.
    checked: Mutex<Vec<u32>>,
}

impl HotBlock {
    pub(super) fn is_checked(&self, off: u32) -> bool {
        self.own || lock(&self.checked).contains(&off)
    }

    pub(super) fn set_checked(&self, off: u32) {
        if !self.own {
            let mut checked = lock(&self.checked);
            if !checked.contains(&off) {
                checked.push(off);
            }
        }
    }
}

#[derive(Default)]
struct Inner {
    blocks: HashMap<u64, Arc<HotBlock>>,
    order: VecDeque<u64>,
    bytes: usize,
}

/// The last blocks, oldest out first.
#[derive(Default)]
pub(super) struct Hot(Mutex<Inner>);

impl Hot {
    pub(super) fn get(&self, seq: u64) -> Option<Arc<HotBlock>> {
        lock(&self.0).blocks.get(&seq).cloned()
    }

    /// Keeps a block that was just read, or, if `own`, written.
    pub(super) fn keep(&self, seq: u64, bytes: Vec<u8>, own: bool) -> Arc<HotBlock> {
        let len = bytes.len();
        let block = Arc::new(HotBlock { bytes, own, checked: Mutex::default() });
        if len > MOST_BYTES / 8 {
            return block;
        }
        let mut inner = lock(&self.0);
        if let Some(there) = inner.blocks.get(&seq) {
            return Arc::clone(there);
        }
        inner.blocks.insert(seq, Arc::clone(&block));
        inner.order.push_back(seq);
        inner.bytes += len;
        while inner.bytes > MOST_BYTES {
            let Some(oldest) = inner.order.pop_front() else { break };
            if let Some(gone) = inner.blocks.remove(&oldest) {
                inner.bytes -= gone.bytes.len();
            }
        }
        block
    }

    pub(super) fn clear(&self) {
        *lock(&self.0) = Inner::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let hot = Hot::default();
        (0..20).for_each(|seq| drop(hot.keep(seq, vec![0; 1 << 19], true)));
        assert!(hot.get(0).is_none() && hot.get(11).is_none());
        assert!(hot.get(12).is_some() && hot.get(19).is_some());
        hot.clear();
        assert!(hot.get(19).is_none());
    }

    #[test]
    fn what_was_read_is_checked_once() {
        let hot = Hot::default();
        let block = hot.keep(1, vec![0; 10], false);
        assert!(!block.is_checked(4));
        block.set_checked(4);
        assert!(hot.get(1).unwrap().is_checked(4) && !block.is_checked(5));
        assert!(hot.keep(2, vec![], true).is_checked(0));
    }
}
