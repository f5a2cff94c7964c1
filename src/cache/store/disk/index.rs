//! What the file holds, in memory: a miss never touches the disk.

use std::collections::{BTreeMap, HashMap};

/// The half of a key that locates an entry.
pub(super) type Locator = [u8; 16];

/// Where an entry stands and until when it is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) seq: u64,
    pub(super) expires_ms: i64,
}

/// Sequence number, locator, expiry and length of a row in the file.
pub(super) type Row = (u64, Locator, i64, u32);

/// Whose a row is, and what it takes.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: Locator,
    allocated: u64,
}

/// Entries by key, and rows in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: HashMap<Locator, Slot>,
    rows: BTreeMap<u64, Place>,
    allocated: u64,
    /// Rows that no slot points to. The next commit deletes them.
    dead: Vec<u64>,
}

impl Index {
    /// An index of rows that are there already, oldest first.
    pub(super) fn of(rows: impl IntoIterator<Item = Row>) -> Self {
        let mut index = Self::default();
        for (seq, key, expires_ms, len) in rows {
            index.insert(seq, key, expires_ms, len as usize);
        }
        index
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, key: &Locator) -> Option<Slot> {
        self.slots.get(key).copied()
    }

    /// Bytes the rows take in the file.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Takes in a row; an earlier one of the same key is dead.
    pub(super) fn insert(&mut self, seq: u64, key: Locator, expires_ms: i64, len: usize) {
        let allocated = allocated(len);
        self.rows.insert(seq, Place { key, allocated });
        self.allocated += allocated;
        if let Some(earlier) = self.slots.insert(key, Slot { seq, expires_ms }) {
            self.dead.push(earlier.seq);
        }
    }

    /// Makes a key unknown; its row is dead.
    pub(super) fn forget(&mut self, key: &Locator) {
        if let Some(slot) = self.slots.remove(key) {
            self.dead.push(slot.seq);
        }
    }

    /// The same, only if the key still stands at `seq`.
    pub(super) fn forget_at(&mut self, key: &Locator, seq: u64) {
        if self.slots.get(key).is_some_and(|slot| slot.seq == seq) {
            self.forget(key);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Rows to delete so that `more` bytes fit under `bound`: the dead ones, then the oldest. They are no longer
    /// in the index, and the number of live ones among them comes second.
    pub(super) fn make_room(&mut self, more: u64, bound: u64) -> (Vec<u64>, u64) {
        let mut gone = std::mem::take(&mut self.dead);
        for seq in &gone {
            if let Some(row) = self.rows.remove(seq) {
                self.allocated -= row.allocated;
            }
        }
        let mut evicted = 0;
        while self.allocated + more > bound {
            let Some((seq, row)) = self.rows.pop_first() else { break };
            self.allocated -= row.allocated;
            self.slots.remove(&row.key);
            gone.push(seq);
            evicted += 1;
        }
        (gone, evicted)
    }
}

/// Bytes a row of `len` bytes takes: pages come in powers of two from 4 KiB, and small rows share one that may be
/// half empty.
pub(super) fn allocated(len: usize) -> u64 {
    let len = len as u64;
    if len <= 1024 { 2 * (len + 64) } else { (len + 24).next_power_of_two().max(4096) }
}

/// How many bytes of rows the file may hold before it is let grow, so that its length stays within `max`.
///
/// The engine at least doubles a file that is full, so a step that would end beyond `max` must not begin.
pub(super) fn bound(file_len: u64, max: u64) -> u64 {
    let reach = if file_len.saturating_mul(2) <= max { file_len * 2 } else { file_len };
    // Far below the limit even two steps at once stay within it.
    (reach / 4 * 3).max(max / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_rows_make_room_and_dead_ones_go_first() {
        let mut index = Index::default();
        for n in 0..4u8 {
            index.insert(u64::from(n), [n; 16], 100, 4000);
        }
        index.insert(4, [1; 16], 200, 4000);
        assert_eq!(index.find(&[1; 16]), Some(Slot { seq: 4, expires_ms: 200 }));
        assert_eq!(index.allocated(), 5 * 4096, "a superseded row takes its place until it is deleted");
        let (gone, evicted) = index.make_room(4096, 4 * 4096);
        assert_eq!((gone, evicted), (vec![1, 0], 1));
        assert_eq!(index.find(&[0; 16]), None);
        assert_eq!((index.len(), index.allocated()), (3, 3 * 4096));
        index.forget_at(&[1; 16], 1);
        assert!(index.find(&[1; 16]).is_some(), "a newer row stays");
    }

    #[test]
    fn a_row_one_byte_over_a_page_takes_two() {
        assert_eq!(allocated(16_360), 16_384);
        assert_eq!(allocated(16_361), 32_768);
        assert_eq!(allocated(1_500), 4096);
    }

    #[test]
    fn a_file_is_let_grow_only_if_twice_its_length_is_allowed() {
        const MIB: u64 = 1 << 20;
        assert_eq!(bound(100 * MIB, 1024 * MIB), 150 * MIB);
        assert_eq!(bound(600 * MIB, 1024 * MIB), 450 * MIB);
        assert_eq!(bound(2 * MIB, 1024 * MIB), 128 * MIB);
    }
}
