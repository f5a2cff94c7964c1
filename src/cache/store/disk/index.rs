//! What the file holds, in memory: a miss never touches the disk.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::block::{Block, Record};
use crate::cache::envelope::Keys;
use crate::cache::store::epochs::Tag;

/// The half of a key that locates an entry.
pub(super) type Locator = [u8; 16];

/// Where an entry stands and until when it is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) seq: u64,
    pub(super) expires_ms: i64,
    pub(super) off: u32,
    pub(super) len: u32,
    /// Number of the scope in [`Scopes`].
    pub(super) scope: u32,
    /// It was read since it was written.
    pub(super) hit: bool,
}

/// What a block takes in the file, and how many of its entries are of use.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    allocated: u64,
    live: u32,
}

/// The scopes that have entries here.
#[derive(Default)]
pub(super) struct Scopes {
    numbers: HashMap<Tag, u32>,
    all: Vec<(Tag, Keys)>,
}

impl Scopes {
    /// The number of a scope; `keys` makes those of a new one.
    pub(super) fn number(&mut self, tag: &Tag, keys: impl FnOnce() -> Keys) -> u32 {
        if let Some(number) = self.numbers.get(tag) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.all.push((*tag, keys()));
        self.numbers.insert(*tag, number);
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&(Tag, Keys)> {
        self.all.get(number as usize)
    }

    /// Makes the keys of a scope anew when they are next asked for.
    pub(super) fn forget(&mut self, tag: &Tag) -> Option<u32> {
        self.numbers.remove(tag)
    }
}

/// More removals than this that wait for the index, and it is not worth keeping what is in the file.
const MOST_TOMBS: usize = 65_536;

/// Entries by key, and blocks in the order in which they were written.
#[derive(Default)]
pub(super) struct Index {
    slots: HashMap<Locator, Slot>,
    rows: BTreeMap<u64, Row>,
    allocated: u64,
    pub(super) scopes: Scopes,
    /// Records of entries that are known no more. The next commit takes them out.
    dead: Vec<(u64, Locator)>,
    /// True once it knows all that is in the file.
    complete: bool,
    /// True while a commit is under way.
    committing: bool,
    /// Keys that must not come back when the rest of the file is read, or the commit is done.
    tombs: HashSet<Locator>,
    overflown: bool,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bytes the rows take in the file.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    pub(super) fn find(&self, key: &Locator) -> Option<Slot> {
        self.slots.get(key).copied()
    }

    /// The slot, which is marked as read, and the keys of its scope.
    pub(super) fn hit(&mut self, key: &Locator, now_ms: i64) -> Option<(Slot, Tag, Keys)> {
        let slot = self.slots.get_mut(key)?;
        if slot.expires_ms <= now_ms {
            return None;
        }
        slot.hit = true;
        let (tag, keys) = self.scopes.get(slot.scope)?;
        Some((*slot, *tag, keys.clone()))
    }

    /// Takes in a block that was just written. Its entries supersede earlier ones, whose records are out already.
    pub(super) fn add(&mut self, block: &Block, keys: impl Fn(&Tag) -> Keys) {
        let mut row = Row { allocated: row_bytes(block.bytes.len(), block.records.len()), live: 0 };
        for record in &block.records {
            let key = record.locator();
            if self.tombs.contains(&key) {
                self.dead.push((block.seq, key));
                continue;
            }
            row.live += 1;
            let slot = self.slot_of(block.seq, record, &keys);
            if let Some(earlier) = self.slots.insert(key, slot) {
                if earlier.seq == block.seq { row.live -= 1 } else { self.lose(earlier.seq) }
            }
        }
        self.allocated += row.allocated;
        self.rows.insert(block.seq, row);
    }

    /// Takes in a block found in the file. What is known already is newer, and what was removed meanwhile is dead.
    pub(super) fn load(
        &mut self,
        seq: u64,
        records: &[Record],
        current: impl Fn(&Record) -> bool,
        keys: impl Fn(&Tag) -> Keys,
    ) {
        if self.rows.contains_key(&seq) {
            return;
        }
        let end = records.iter().map(|record| u64::from(record.off) + u64::from(record.len)).max();
        let len = usize::try_from(end.unwrap_or(0)).unwrap_or(usize::MAX).min(1 << 30);
        let mut row = Row { allocated: row_bytes(len, records.len()), live: 0 };
        for record in records.iter().filter(|record| !record.is_blank()) {
            let key = record.locator();
            if self.tombs.contains(&key) || self.slots.contains_key(&key) || !current(record) {
                self.dead.push((seq, key));
                continue;
            }
            let slot = self.slot_of(seq, record, &keys);
            self.slots.insert(key, slot);
            row.live += 1;
        }
        self.allocated += row.allocated;
        self.rows.insert(seq, row);
    }

    /// Everything in the file is known now.
    pub(super) fn finish(&mut self) {
        self.complete = true;
        self.committing = false;
        self.tombs = HashSet::new();
        self.overflown = false;
    }

    /// From here on what is forgotten is not brought back by [`Index::add`].
    pub(super) fn begin_commit(&mut self) {
        self.committing = true;
    }

    pub(super) fn end_commit(&mut self) {
        self.committing = false;
        if self.complete {
            self.tombs.clear();
        }
    }

    fn slot_of(&mut self, seq: u64, record: &Record, keys: impl Fn(&Tag) -> Keys) -> Slot {
        let scope = self.scopes.number(&record.scope, || keys(&record.scope));
        let Record { off, len, expires_ms, .. } = *record;
        Slot { seq, expires_ms, off, len, scope, hit: false }
    }

    fn lose(&mut self, seq: u64) {
        if let Some(row) = self.rows.get_mut(&seq) {
            row.live = row.live.saturating_sub(1);
        }
    }

    /// Makes a key unknown; its record is dead.
    pub(super) fn forget(&mut self, key: &Locator) {
        if let Some(slot) = self.slots.remove(key) {
            self.lose(slot.seq);
            self.dead.push((slot.seq, *key));
        }
        if !self.complete || self.committing {
            self.bury(*key);
        }
    }

    fn bury(&mut self, key: Locator) {
        if self.tombs.len() < MOST_TOMBS {
            self.tombs.insert(key);
        } else {
            self.overflown = true;
        }
    }

    /// The same, only if the key still stands there.
    pub(super) fn forget_at(&mut self, key: &Locator, slot: &Slot) {
        if self.slots.get(key).is_some_and(|now| (now.seq, now.off) == (slot.seq, slot.off)) {
            self.forget(key);
        }
    }

    /// Makes a scope unknown.
    pub(super) fn forget_scope(&mut self, tag: &Tag) {
        let Some(number) = self.scopes.forget(tag) else { return };
        let gone: Vec<Locator> =
            self.slots.iter().filter(|(_, slot)| slot.scope == number).map(|(key, _)| *key).collect();
        gone.iter().for_each(|key| self.forget(key));
    }

    /// True if more was removed while the file was out of reach than is worth remembering.
    pub(super) fn is_overflown(&self) -> bool {
        self.overflown
    }

    /// Nothing is in the file.
    pub(super) fn clear(&mut self) {
        *self = Self { complete: true, ..Self::default() };
    }

    /// Nothing is known of the file, except what must not be found in it.
    pub(super) fn unload(&mut self) {
        let (dead, tombs, overflown) =
            (std::mem::take(&mut self.dead), std::mem::take(&mut self.tombs), self.overflown);
        *self = Self { tombs, overflown, ..Self::default() };
        dead.into_iter().for_each(|(_, key)| self.bury(key));
    }

    /// Records to take out, at most about `most`.
    pub(super) fn take_dead(&mut self, most: usize) -> Vec<(u64, Locator)> {
        let from = self.dead.len().saturating_sub(most);
        self.dead.split_off(from)
    }

    /// Records that could not be taken out after all.
    pub(super) fn give_back(&mut self, dead: Vec<(u64, Locator)>) {
        self.dead.extend(dead);
    }

    pub(super) fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// The oldest blocks that have to go so that `more` bytes fit under `bound`, the empty ones first.
    pub(super) fn to_evict(&self, more: u64, bound: u64) -> Vec<u64> {
        let mut left = self.allocated + more;
        let mut gone = Vec::new();
        if left <= bound {
            return gone;
        }
        for (seq, row) in &self.rows {
            if left <= bound {
                break;
            }
            left -= row.allocated;
            gone.push(*seq);
        }
        gone
    }

    /// A block is gone; what of it still stood there comes back as a number.
    pub(super) fn evicted(&mut self, seq: u64, records: &[Record]) -> u64 {
        let mut gone = 0;
        for record in records {
            let key = record.locator();
            if self.slots.get(&key).is_some_and(|slot| slot.seq == seq) {
                self.slots.remove(&key);
                gone += 1;
            }
        }
        if let Some(row) = self.rows.remove(&seq) {
            self.allocated -= row.allocated;
        }
        gone
    }

    /// A block that the commit has deleted with its last record.
    pub(super) fn emptied(&mut self, seq: u64) {
        self.evicted(seq, &[]);
    }

    /// True if the entry that stands there was read since it was written.
    pub(super) fn is_wanted(&self, seq: u64, record: &Record, now_ms: i64) -> bool {
        let slot = self.slots.get(&record.locator());
        slot.is_some_and(|slot| {
            slot.seq == seq && slot.off == record.off && slot.hit && slot.expires_ms > now_ms
        })
    }
}

/// Bytes a block and its records take.
pub(super) fn row_bytes(block: usize, records: usize) -> u64 {
    allocated(block) + allocated(records * 78)
}

/// Bytes a row of `len` bytes takes: pages come in powers of two from 4 KiB, and small rows share one that may be
/// half empty.
fn allocated(len: usize) -> u64 {
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

    fn keys(tag: &Tag) -> Keys {
        Keys::new(&[7; 32], tag)
    }

    fn record(n: u8) -> Record {
        Record {
            key: [n; 32],
            scope: [n; 16],
            off: 0,
            len: 16_000,
            created_ms: 0,
            expires_ms: 100,
            flags: 0,
            epoch: 0,
        }
    }

    fn block(seq: u64, n: u8) -> Block {
        Block { seq, bytes: vec![0; 16_000], records: vec![record(n)] }
    }

    #[test]
    fn the_oldest_blocks_make_room() {
        let mut index = Index::default();
        index.clear();
        (0..4).for_each(|n| index.add(&block(u64::from(n), n), keys));
        let each = row_bytes(16_000, 1);
        assert_eq!((index.len(), index.allocated()), (4, 4 * each));
        assert_eq!(index.to_evict(each, 4 * each), [0]);
        assert_eq!(index.to_evict(2 * each, 4 * each), [0, 1]);
        assert_eq!(index.evicted(0, &[record(0)]), 1);
        assert_eq!((index.len(), index.allocated()), (3, 3 * each));
        assert!(index.to_evict(each, 4 * each).is_empty());
    }

    #[test]
    fn a_newer_entry_of_the_same_key_is_the_one_that_is_found() {
        let mut index = Index::default();
        index.clear();
        index.add(&block(1, 1), keys);
        index.add(&block(2, 1), keys);
        assert_eq!(index.find(&[1; 16]).unwrap().seq, 2);
        assert_eq!(index.evicted(1, &[record(1)]), 0, "what was superseded is no loss");
        assert!(index.find(&[1; 16]).is_some());
        let mut index = Index::default();
        index.load(2, &[record(1)], |_| true, keys);
        index.load(1, &[record(1)], |_| true, keys);
        assert_eq!(index.find(&[1; 16]).unwrap().seq, 2, "the file is read from its end");
        assert_eq!(index.take_dead(9), [(1, [1; 16])]);
    }

    #[test]
    fn what_is_removed_while_the_file_is_read_does_not_come_back() {
        let mut index = Index::default();
        index.forget(&[1; 16]);
        index.load(1, &[record(1), record(2)], |_| true, keys);
        assert!(index.find(&[1; 16]).is_none() && index.find(&[2; 16]).is_some());
        index.finish();
        assert_eq!(index.take_dead(9), [(1, [1; 16])]);
        index.forget(&[2; 16]);
        index.unload();
        index.load(1, &[record(2)], |_| true, keys);
        assert!(index.find(&[2; 16]).is_none(), "nor when its removal was never committed");
    }

    #[test]
    fn a_block_one_byte_over_takes_two() {
        assert_eq!(allocated(super::super::block::BLOCK), 16_384);
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
