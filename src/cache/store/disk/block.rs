//! Many sealed entries in one row, and what is said about them beside it.
//!
//! The engine gives a row whole pages, so small answers share one of 16 KiB. What stands where is kept in a second,
//! small row of the same number: an index is built, and an entry removed, without a look at the answers.

use super::index::row_bytes;
use crate::cache::store::epochs::Tag;

/// The largest row that still takes 16 KiB; one of 16,384 bytes takes 32.
pub(super) const BLOCK: usize = 16_304;

/// Where an entry stands in its block, and what must be known of it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: [u8; 32],
    pub(super) scope: Tag,
    pub(super) off: u32,
    pub(super) len: u32,
    pub(super) created_ms: i64,
    pub(super) expires_ms: i64,
    /// [`Record::BLANK`], or 0.
    pub(super) flags: u16,
    pub(super) epoch: u32,
}

impl Record {
    const LEN: usize = 78;

    /// Says that an entry was here and is no more; its place in the block stays until the block goes.
    const BLANK: u16 = 1;

    /// The record of a removed entry: where it stood, and nothing else of it.
    pub(super) fn blank(&self) -> Self {
        let (off, len) = (self.off, self.len);
        Self {
            key: [0; 32],
            scope: [0; 16],
            off,
            len,
            created_ms: 0,
            expires_ms: 0,
            flags: Self::BLANK,
            epoch: 0,
        }
    }

    pub(super) fn is_blank(&self) -> bool {
        self.flags & Self::BLANK != 0
    }

    /// The half of the key that locates an entry.
    pub(super) fn locator(&self) -> [u8; 16] {
        let mut half = [0; 16];
        half.copy_from_slice(&self.key[..16]);
        half
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.scope);
        out.extend_from_slice(&self.off.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&self.expires_ms.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
    }

    fn read(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let mut rest = &bytes[..];
        Some(Self {
            key: take(&mut rest)?,
            scope: take(&mut rest)?,
            off: u32::from_le_bytes(take(&mut rest)?),
            len: u32::from_le_bytes(take(&mut rest)?),
            created_ms: i64::from_le_bytes(take(&mut rest)?),
            expires_ms: i64::from_le_bytes(take(&mut rest)?),
            flags: u16::from_le_bytes(take(&mut rest)?),
            epoch: u32::from_le_bytes(take(&mut rest)?),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

/// The row beside a block.
pub(super) fn write_records(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() * Record::LEN);
    records.iter().for_each(|record| record.write(&mut out));
    out
}

/// The way back; of a damaged row, what can be read.
pub(super) fn read_records(meta: &[u8]) -> Vec<Record> {
    meta.as_chunks::<{ Record::LEN }>().0.iter().filter_map(Record::read).collect()
}

/// Part of a block.
pub(super) fn part(block: &[u8], off: u32, len: u32) -> Option<&[u8]> {
    let off = usize::try_from(off).ok()?;
    block.get(off..off.checked_add(usize::try_from(len).ok()?)?)
}

/// A block about to be written.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) seq: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Record>,
}

/// Fills blocks in turn. An entry larger than a block has one of its own.
#[derive(Debug)]
pub(super) struct Packer {
    next_seq: u64,
    done: Vec<Block>,
    open: Block,
}

impl Packer {
    pub(super) fn new(next_seq: u64) -> Self {
        Self { next_seq, done: Vec::new(), open: Block::default() }
    }

    /// Adds a sealed entry; where it stands in its record does not count.
    pub(super) fn push(&mut self, record: Record, sealed: &[u8]) {
        if !self.open.bytes.is_empty() && self.open.bytes.len() + sealed.len() > BLOCK {
            self.close();
        }
        let (off, len) = (self.open.bytes.len() as u32, sealed.len() as u32);
        self.open.records.push(Record { off, len, ..record });
        self.open.bytes.extend_from_slice(sealed);
    }

    /// Bytes of the entries so far.
    pub(super) fn bytes(&self) -> usize {
        self.done.iter().map(|block| block.bytes.len()).sum::<usize>() + self.open.bytes.len()
    }

    /// Bytes the blocks so far take in the file.
    pub(super) fn allocated(&self) -> u64 {
        let open = (!self.open.records.is_empty()).then_some(&self.open);
        self.done.iter().chain(open).map(|block| row_bytes(block.bytes.len(), block.records.len())).sum()
    }

    fn close(&mut self) {
        let mut block = std::mem::take(&mut self.open);
        block.seq = self.next_seq;
        self.next_seq += 1;
        self.done.push(block);
    }

    /// The blocks, and the number of the next one.
    pub(super) fn finish(mut self) -> (Vec<Block>, u64) {
        if !self.open.records.is_empty() {
            self.close();
        }
        (self.done, self.next_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(n: u8) -> Record {
        Record {
            key: [n; 32],
            scope: [n; 16],
            off: 1,
            len: 2,
            created_ms: 3,
            expires_ms: 4,
            flags: 5,
            epoch: 6,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_is_packed_is_found_again(lens in prop::collection::vec(1usize..40_000, 1..40)) {
            let mut packer = Packer::new(7);
            let sealed: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(n, len)| vec![n as u8; *len]).collect();
            for (n, sealed) in sealed.iter().enumerate() {
                packer.push(record(n as u8), sealed);
            }
            let (blocks, next) = packer.finish();
            prop_assert_eq!(next, 7 + blocks.len() as u64);
            let mut found = 0;
            for (n, block) in blocks.iter().enumerate() {
                prop_assert_eq!(block.seq, 7 + n as u64);
                prop_assert!(block.bytes.len() <= BLOCK || block.records.len() == 1);
                for record in read_records(&write_records(&block.records)) {
                    prop_assert_eq!(part(&block.bytes, record.off, record.len), Some(&sealed[found][..]));
                    found += 1;
                }
            }
            prop_assert_eq!(found, sealed.len());
        }

        #[test]
        fn arbitrary_rows_never_panic(meta: Vec<u8>, block: Vec<u8>) {
            for record in read_records(&meta) {
                let _ = part(&block, record.off, record.len);
            }
        }
    }
}
