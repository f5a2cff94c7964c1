//! The storage engine behind a trait of ours: the few calls the tier makes, each guarded.
//!
//! The engine may panic on a damaged file and fails for good after some errors; neither reaches anybody. What it
//! reads it does not verify, so the rows that decide about purges carry a keyed hash of their own.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};

use super::backend::{Bounded, Medium};
use super::block::{self, Block, Record};
use crate::cache::envelope::same;
use crate::cache::store::epochs::Tag;

const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const META: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("meta");
/// Keys taken out of a block. Said a second time, so that a page of old records that comes back brings none of them.
const GONE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("gone");
const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");

/// Version of the tables above.
const FORMAT: u64 = 2;

/// Memory for pages, in bytes. The engine's own default is a gibibyte.
const PAGE_CACHE: usize = 16 << 20;

/// Why the file could not be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// Somebody else has it open.
    Busy,
    /// What it holds cannot be believed.
    Damaged(String),
    /// The file is no cache file, or nothing tells that it is one: it is not touched.
    Foreign,
    /// There is no room, or no right to write: that passes, and says nothing against the file.
    Full(String),
    /// Anything else.
    Other(String),
}

impl Fault {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Busy => "it is open elsewhere",
            Self::Foreign => "the file is not one of this cache; give another path, or move the file away",
            Self::Damaged(text) | Self::Full(text) | Self::Other(text) => text,
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        use redb::Error as E;
        let text = error.to_string();
        match error {
            E::DatabaseAlreadyOpen | E::LockProtocolMismatch => Self::Busy,
            E::Io(error) => Self::from(error),
            E::Corrupted(_)
            | E::UpgradeRequired(_)
            | E::RepairAborted
            | E::TableTypeMismatch { .. }
            | E::TypeDefinitionChanged { .. }
            | E::TableIsMultimap(_)
            | E::TableIsNotMultimap(_)
            | E::TableDoesNotExist(_) => Self::Damaged(text),
            _ => Self::Other(text),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as K;
        let text = error.to_string();
        match error.kind() {
            K::InvalidData | K::UnexpectedEof => Self::Damaged(text),
            K::StorageFull
            | K::QuotaExceeded
            | K::FileTooLarge
            | K::ReadOnlyFilesystem
            | K::PermissionDenied => Self::Full(text),
            _ => Self::Other(text),
        }
    }
}

/// The engine may panic on a damaged file; that must not reach anybody.
fn guarded<T>(call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(done) => done.map_err(Fault::from),
        Err(panic) => Err(Fault::Damaged(message(&*panic))),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the storage engine panicked: {}", text.unwrap_or("without a word"))
}

/// What the file says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Purges of everything, and of scopes.
    pub(super) global: u32,
    pub(super) scopes: HashMap<Tag, u32>,
    /// The last close was a proper one.
    pub(super) clean: bool,
    /// Damage was seen.
    pub(super) suspect: bool,
    /// The number of the next block.
    pub(super) next_seq: u64,
}

/// Whether there is a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The file is new.
    Nothing,
    /// What is in it is of no use: it belongs to another secret, or is older than the first release.
    Useless(&'static str),
    Head(Head),
}

/// The keys that the rows of the head are checked with.
#[derive(Clone)]
pub(super) struct HeadKey {
    check: [u8; 16],
    mac: [u8; 32],
}

impl HeadKey {
    pub(super) fn new(root: &[u8; 32]) -> Self {
        let mut check = [0; 16];
        check.copy_from_slice(&blake3::keyed_hash(root, b"thrifty cache file check v2").as_bytes()[..16]);
        Self { check, mac: *blake3::keyed_hash(root, b"thrifty cache file head v2").as_bytes() }
    }

    fn mac(&self, name: &str, value: &[u8]) -> [u8; 16] {
        let mut hash = blake3::Hasher::new_keyed(&self.mac);
        hash.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(value);
        let mut mac = [0; 16];
        mac.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        mac
    }

    fn seal(&self, name: &str, mut value: Vec<u8>) -> Vec<u8> {
        let mac = self.mac(name, &value);
        value.extend_from_slice(&mac);
        value
    }

    fn open<'a>(&self, name: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
        let (value, mac) = sealed.split_last_chunk::<16>()?;
        same(mac, &self.mac(name, value)).then_some(value)
    }
}

/// All of it in one durable commit, or nothing.
#[derive(Debug, Default)]
pub(super) struct Change<'a> {
    /// Deletes all blocks first.
    pub(super) wipe: bool,
    pub(super) head: Option<&'a Head>,
    /// Salts of scopes to be kept, and scopes whose salt is destroyed.
    pub(super) salts: &'a [(Tag, [u8; 32])],
    pub(super) shred: &'a [Tag],
    /// Blocks to delete.
    pub(super) evict: &'a [u64],
    /// Records to take out, by block.
    pub(super) prune: BTreeMap<u64, Vec<[u8; 16]>>,
    pub(super) add: &'a [Block],
}

/// What the tier asks of a storage engine. Every call returns; none panics.
pub(super) trait Engine: Send + Sync {
    /// What the file says about itself.
    fn head(&self, key: &HeadKey) -> Result<Found, Fault>;
    /// The salts of all scopes.
    fn salts(&self, key: &HeadKey) -> Result<HashMap<Tag, [u8; 32]>, Fault>;
    /// A copy of a block; its pages are let go at once.
    fn block(&self, seq: u64) -> Result<Option<Vec<u8>>, Fault>;
    /// What is said about a block.
    fn records(&self, seq: u64) -> Result<Vec<Record>, Fault>;
    /// The same for up to `most` blocks before `seq`, newest first.
    fn records_before(&self, seq: u64, most: usize) -> Result<Vec<(u64, Vec<Record>)>, Fault>;
    /// Makes the change. Blocks that lost their last record by it are gone, and told.
    fn apply(&self, change: &Change<'_>, key: &HeadKey) -> Result<Vec<u64>, Fault>;
}

/// The engine in use.
pub(super) struct Redb(Database);

/// Opens the file or starts a new one. One that is longer than it may be is compacted, and if that does not help,
/// started anew.
pub(super) fn open(medium: &dyn Medium, path: &Path, max_bytes: u64) -> Result<Redb, Fault> {
    let ours = match medium.begin_of_unclaimed(path)? {
        None => true,
        Some(begin) if begin.starts_with(&MAGIC) => false,
        Some(_) => return Err(Fault::Foreign),
    };
    // Without a sign that the file was ours, damage is no reason to move it.
    let strict = |fault| match fault {
        Fault::Damaged(_) if !ours => Fault::Foreign,
        fault => fault,
    };
    let mut engine = create(medium, path, max_bytes).map_err(strict)?;
    if !engine.holds_answers().map_err(strict)? {
        return Err(Fault::Foreign);
    }
    if medium.len(path)? > max_bytes {
        // Only here is nobody reading, which a compaction needs.
        engine.compact()?;
        if medium.len(path)? > max_bytes {
            drop_quietly(engine);
            medium.remove(path)?;
            engine = create(medium, path, max_bytes)?;
        }
    }
    Ok(engine)
}

/// The first bytes of every file of the engine.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

fn create(medium: &dyn Medium, path: &Path, max_bytes: u64) -> Result<Redb, Fault> {
    let inner = medium.open(path)?;
    let backend = Bounded { inner, max_bytes };
    guarded(|| Ok(Builder::new().set_cache_size(PAGE_CACHE).create_with_backend(backend)?)).map(Redb)
}

impl Redb {
    /// True if the file has the head of a cache file, or nothing yet.
    fn holds_answers(&self) -> Result<bool, Fault> {
        guarded(|| {
            let read = self.0.begin_read()?;
            let mut tables = read.list_tables()?.peekable();
            Ok(tables.peek().is_none() || tables.any(|table| table.name() == HEAD.name()))
        })
    }

    /// Frees space at the end of the file. Nobody may be reading.
    pub(super) fn compact(&mut self) -> Result<(), Fault> {
        guarded(|| Ok(self.0.compact()?)).map(drop)
    }

    /// Looks at every page of the file; false if something had to be repaired.
    pub(super) fn check_integrity(&mut self) -> Result<bool, Fault> {
        guarded(|| Ok(self.0.check_integrity()?))
    }

    fn get(&self, table: TableDefinition<'_, u64, &[u8]>, seq: u64) -> Result<Option<Vec<u8>>, Fault> {
        guarded(|| {
            let table = match self.0.begin_read()?.open_table(table) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                other => other?,
            };
            let row = table.get(seq)?.map(|row| row.value().to_vec());
            Ok(row)
        })
    }
}

const EPOCHS: &str = "epochs";
const STATE: &str = "state";
const SALT: &str = "salt:";

impl Engine for Redb {
    fn head(&self, key: &HeadKey) -> Result<Found, Fault> {
        let rows = guarded(|| {
            let table = match self.0.begin_read()?.open_table(HEAD) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                other => other?,
            };
            let get = |name: &str| -> Result<Option<Vec<u8>>, redb::Error> {
                Ok(table.get(name)?.map(|row| row.value().to_vec()))
            };
            Ok(Some((get("format")?, get("check")?, get(EPOCHS)?, get(STATE)?)))
        })?;
        let Some((format, check, epochs, state)) = rows else { return Ok(Found::Nothing) };
        let broken = |what: &str| Fault::Damaged(format!("its {what} cannot be read"));
        let format = format.and_then(|format| format.try_into().ok()).map(u64::from_le_bytes);
        match format.ok_or_else(|| broken("format"))? {
            FORMAT => {}
            // Never released; nothing of it is worth a reader.
            1 => return Ok(Found::Useless("of an older format")),
            newer => return Err(Fault::Damaged(format!("its format {newer} is not known"))),
        }
        if check.as_deref() != Some(&key.check) {
            return Ok(Found::Useless("of another secret"));
        }
        let mut head = Head::default();
        let epochs = epochs.as_deref().and_then(|sealed| key.open(EPOCHS, sealed));
        let (global, scopes) = epochs.and_then(<[u8]>::split_first_chunk).ok_or_else(|| broken("epochs"))?;
        head.global = u32::from_le_bytes(*global);
        for scope in scopes.as_chunks::<20>().0 {
            if let Some((tag, epoch)) = scope.split_first_chunk::<16>() {
                head.scopes.insert(*tag, u32::from_le_bytes(epoch.try_into().unwrap_or_default()));
            }
        }
        let state = state.as_deref().and_then(|sealed| key.open(STATE, sealed));
        let (flags, seq) = state.and_then(<[u8]>::split_first).ok_or_else(|| broken("state"))?;
        (head.clean, head.suspect) = (flags & 1 != 0, flags & 2 != 0);
        head.next_seq = seq.try_into().map(u64::from_le_bytes).map_err(|_| broken("state"))?;
        Ok(Found::Head(head))
    }

    fn salts(&self, key: &HeadKey) -> Result<HashMap<Tag, [u8; 32]>, Fault> {
        guarded(|| {
            let mut salts = HashMap::new();
            let table = match self.0.begin_read()?.open_table(HEAD) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(salts),
                other => other?,
            };
            for row in table.range(SALT..)? {
                let (name, value) = row?;
                if !name.value().starts_with(SALT) {
                    break;
                }
                // One that is damaged is as good as destroyed: its entries are misses.
                let value = key.open(name.value(), value.value()).and_then(<[u8]>::split_first_chunk::<16>);
                if let Some((tag, salt)) = value
                    && let Ok(salt) = salt.try_into()
                {
                    salts.insert(*tag, salt);
                }
            }
            Ok(salts)
        })
    }

    fn block(&self, seq: u64) -> Result<Option<Vec<u8>>, Fault> {
        self.get(BLOCKS, seq)
    }

    fn records(&self, seq: u64) -> Result<Vec<Record>, Fault> {
        Ok(self.get(META, seq)?.map_or_else(Vec::new, |meta| block::read_records(&meta)))
    }

    fn records_before(&self, seq: u64, most: usize) -> Result<Vec<(u64, Vec<Record>)>, Fault> {
        guarded(|| {
            let table = match self.0.begin_read()?.open_table(META) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                other => other?,
            };
            let gone = match self.0.begin_read()?.open_table(GONE) {
                Err(TableError::TableDoesNotExist(_)) => None,
                other => Some(other?),
            };
            let mut found = Vec::new();
            for row in table.range(..seq)?.rev().take(most) {
                let (seq, meta) = row?;
                let mut records = block::read_records(meta.value());
                if let Some(row) = gone.as_ref().map(|gone| gone.get(seq.value())).transpose()?.flatten() {
                    let gone = row.value().as_chunks::<16>().0;
                    for record in records.iter_mut().filter(|record| gone.contains(&record.locator())) {
                        *record = record.blank();
                    }
                }
                found.push((seq.value(), records));
            }
            Ok(found)
        })
    }

    fn apply(&self, change: &Change<'_>, key: &HeadKey) -> Result<Vec<u64>, Fault> {
        guarded(|| {
            let mut emptied = Vec::new();
            let mut write = self.0.begin_write()?;
            // Costs two fsyncs per commit and spares the walk over the whole file after a crash.
            write.set_quick_repair(true);
            if change.wipe {
                write.delete_table(BLOCKS)?;
                write.delete_table(META)?;
                write.delete_table(GONE)?;
            }
            {
                let (mut blocks, mut meta) = (write.open_table(BLOCKS)?, write.open_table(META)?);
                let mut gone = write.open_table(GONE)?;
                for seq in change.evict {
                    blocks.remove(seq)?;
                    meta.remove(seq)?;
                    gone.remove(seq)?;
                }
                for (seq, keys) in &change.prune {
                    let found = meta.get(seq)?.map(|row| block::read_records(row.value()));
                    let Some(mut records) = found else { continue };
                    for record in records.iter_mut().filter(|record| keys.contains(&record.locator())) {
                        *record = record.blank();
                    }
                    if records.iter().all(Record::is_blank) {
                        blocks.remove(seq)?;
                        meta.remove(seq)?;
                        gone.remove(seq)?;
                        emptied.push(*seq);
                    } else {
                        let mut all = gone.get(seq)?.map_or_else(Vec::new, |row| row.value().to_vec());
                        all.extend(keys.iter().flatten());
                        gone.insert(seq, all.as_slice())?;
                        meta.insert(seq, block::write_records(&records).as_slice())?;
                    }
                }
                for block in change.add {
                    blocks.insert(block.seq, block.bytes.as_slice())?;
                    meta.insert(block.seq, block::write_records(&block.records).as_slice())?;
                }
                write_head(&mut write.open_table(HEAD)?, change, key)?;
            }
            write.commit()?;
            Ok(emptied)
        })
    }
}

/// Closes; a panic of the engine on the way stays here.
pub(super) fn drop_quietly<T>(engine: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(engine)));
}

fn write_head(
    table: &mut redb::Table<'_, &str, &[u8]>,
    change: &Change<'_>,
    key: &HeadKey,
) -> Result<(), redb::Error> {
    if let Some(head) = change.head {
        table.insert("format", FORMAT.to_le_bytes().as_slice())?;
        table.insert("check", key.check.as_slice())?;
        let mut epochs = head.global.to_le_bytes().to_vec();
        for (tag, epoch) in &head.scopes {
            epochs.extend_from_slice(tag);
            epochs.extend_from_slice(&epoch.to_le_bytes());
        }
        table.insert(EPOCHS, key.seal(EPOCHS, epochs).as_slice())?;
        let mut state = vec![u8::from(head.clean) | u8::from(head.suspect) << 1];
        state.extend_from_slice(&head.next_seq.to_le_bytes());
        table.insert(STATE, key.seal(STATE, state).as_slice())?;
    }
    let name = |tag: &Tag| -> String {
        let digits: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{SALT}{digits}")
    };
    if change.wipe {
        // What they were for is gone.
        table.retain(|name, _| !name.starts_with(SALT))?;
    }
    for tag in change.shred {
        table.remove(name(tag).as_str())?;
    }
    for (tag, salt) in change.salts {
        let name = name(tag);
        let sealed = key.seal(&name, [&tag[..], &salt[..]].concat());
        table.insert(name.as_str(), sealed.as_slice())?;
    }
    Ok(())
}
