//! The file itself: every call into the engine, guarded.

use std::any::Any;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};

use super::index::{Locator, Row};

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const META: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("meta");
const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");

/// Version of the tables above.
const FORMAT: u64 = 1;

/// Memory for pages, in bytes. The engine's own default is a gibibyte.
const PAGE_CACHE: usize = 32 << 20;

/// Why the file could not be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// Somebody else has it open.
    Busy,
    /// What it holds cannot be believed.
    Damaged(String),
    /// The file is no cache file, or nothing tells that it is one: it is not touched.
    Foreign,
    /// Anything else, such as a full disk.
    Other(String),
}

impl Fault {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Busy => "it is open elsewhere",
            Self::Foreign => "the file is not one of this cache; give another path, or move the file away",
            Self::Damaged(text) | Self::Other(text) => text,
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        use redb::Error as E;
        let text = error.to_string();
        match error {
            E::DatabaseAlreadyOpen | E::LockProtocolMismatch => Self::Busy,
            E::Io(error) if damaged(error.kind()) => Self::Damaged(text),
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

fn damaged(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
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

/// An open file and what it said about itself.
pub(super) struct Opened {
    pub(super) db: Database,
    pub(super) epoch: u64,
    /// Oldest first.
    pub(super) rows: Vec<Row>,
    /// True if what was there belongs to another secret and was thrown away.
    pub(super) other_secret: bool,
}

/// Opens the file or starts a new one. `check` is what the secret makes of a constant.
pub(super) fn open(path: &Path, max_bytes: u64, check: &[u8; 16]) -> Result<Opened, Fault> {
    let ours = is_ours(path)?;
    prepare(path)?;
    // Without a sign that the file was ours, damage is no reason to move it.
    let strict = |fault| match fault {
        Fault::Damaged(_) if !ours => Fault::Foreign,
        fault => fault,
    };
    let mut db = create(path).map_err(strict)?;
    if !guarded(|| holds_answers(&db)).map_err(strict)? {
        drop_quietly(db);
        return Err(Fault::Foreign);
    }
    if fs::metadata(path)?.len() > max_bytes {
        // Only here is nobody reading, which a compaction needs.
        guarded(|| Ok(db.compact()?))?;
        if fs::metadata(path)?.len() > max_bytes {
            drop_quietly(db);
            fs::remove_file(path)?;
            prepare(path)?;
            db = create(path)?;
        }
    }
    let (head, rows) = guarded(|| load(&db))?;
    let fresh = |db: Database, epoch, other_secret| {
        apply(&db, &Change { wipe: true, head: Some((*check, epoch)), ..Change::default() })?;
        Ok(Opened { db, epoch, rows: Vec::new(), other_secret })
    };
    match head {
        None => fresh(db, 0, false),
        Some((FORMAT, stored, epoch)) if stored == *check => {
            Ok(Opened { db, epoch, rows, other_secret: false })
        }
        Some((FORMAT, _, epoch)) => fresh(db, epoch, true),
        Some((format, ..)) => Err(Fault::Damaged(format!("its format {format} is not known"))),
    }
}

/// The first bytes of every file of the engine.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// True for a file that is absent or empty, or has its secret beside it. False for one of the engine without: what
/// is in it has to tell.
///
/// # Errors
/// [`Fault::Foreign`] for any other file.
fn is_ours(path: &Path) -> Result<bool, Fault> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() && about.len() > 0 => {}
        // Links and the like are refused where the file is made.
        _ => return Ok(true),
    }
    if !is_unclaimed(path) {
        return Ok(true);
    }
    let mut begins = Vec::new();
    fs::File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut begins)?;
    if begins == MAGIC { Ok(false) } else { Err(Fault::Foreign) }
}

/// True for a file that is not empty and has no secret beside it.
pub(in crate::cache) fn is_unclaimed(path: &Path) -> bool {
    let mut secret = OsString::from(path);
    secret.push(".secret");
    fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.len() > 0)
        && !fs::symlink_metadata(secret).is_ok_and(|about| about.is_file())
}

/// True if the file has the head of a cache file, or nothing yet.
fn holds_answers(db: &Database) -> Result<bool, redb::Error> {
    let read = db.begin_read()?;
    let mut tables = read.list_tables()?.peekable();
    Ok(tables.peek().is_none() || tables.any(|table| table.name() == HEAD.name()))
}

/// Makes the file and its folder, for the owner alone. Links are refused.
fn prepare(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(about) if !about.file_type().is_file() => {
            return Err(io::Error::other("it is a link or no plain file"));
        }
        _ => {}
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o077 != 0 {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    drop(file);
    Ok(())
}

fn create(path: &Path) -> Result<Database, Fault> {
    guarded(|| Ok(Builder::new().set_cache_size(PAGE_CACHE).create(path)?))
}

type Head = (u64, [u8; 16], u64);

fn load(db: &Database) -> Result<(Option<Head>, Vec<Row>), redb::Error> {
    let read = db.begin_read()?;
    let head = match read.open_table(HEAD) {
        Err(TableError::TableDoesNotExist(_)) => return Ok((None, Vec::new())),
        other => other?,
    };
    let number = |name| -> Result<u64, redb::Error> {
        let bytes = head.get(name)?.and_then(|bytes| bytes.value().try_into().ok());
        Ok(bytes.map_or(0, u64::from_le_bytes))
    };
    let check = head.get("check")?.and_then(|bytes| bytes.value().try_into().ok()).unwrap_or_default();
    let found = (number("format")?, check, number("epoch")?);
    let mut rows = Vec::new();
    if found.0 == FORMAT {
        for row in read.open_table(META)?.iter()? {
            let (seq, meta) = row?;
            if let Some((key, expires_ms, len)) = read_meta(meta.value()) {
                rows.push((seq.value(), key, expires_ms, len));
            }
        }
    }
    Ok((Some(found), rows))
}

fn write_meta(key: &Locator, expires_ms: i64, len: usize) -> [u8; 28] {
    let mut meta = [0; 28];
    meta[..16].copy_from_slice(key);
    meta[16..24].copy_from_slice(&expires_ms.to_le_bytes());
    meta[24..].copy_from_slice(&(len as u32).to_le_bytes());
    meta
}

fn read_meta(meta: &[u8]) -> Option<(Locator, i64, u32)> {
    let meta: [u8; 28] = meta.try_into().ok()?;
    let (key, rest) = meta.split_first_chunk()?;
    let (expires_ms, len) = rest.split_first_chunk()?;
    Some((*key, i64::from_le_bytes(*expires_ms), u32::from_le_bytes(len.try_into().ok()?)))
}

/// A row about to be written.
pub(super) struct Put {
    pub(super) seq: u64,
    pub(super) key: Locator,
    pub(super) expires_ms: i64,
    pub(super) sealed: Vec<u8>,
}

/// All of it in one durable commit, or nothing.
#[derive(Default)]
pub(super) struct Change<'a> {
    /// Deletes all rows first.
    pub(super) wipe: bool,
    /// Check value and epoch.
    pub(super) head: Option<([u8; 16], u64)>,
    pub(super) deletes: &'a [u64],
    pub(super) puts: &'a [Put],
}

pub(super) fn apply(db: &Database, change: &Change<'_>) -> Result<(), Fault> {
    guarded(|| {
        let mut write = db.begin_write()?;
        // Costs two fsyncs per commit and spares the walk over the whole file after a crash.
        write.set_quick_repair(true);
        if change.wipe {
            write.delete_table(ROWS)?;
            write.delete_table(META)?;
        }
        {
            let (mut rows, mut meta) = (write.open_table(ROWS)?, write.open_table(META)?);
            for seq in change.deletes {
                rows.remove(seq)?;
                meta.remove(seq)?;
            }
            for put in change.puts {
                rows.insert(put.seq, put.sealed.as_slice())?;
                let about = write_meta(&put.key, put.expires_ms, put.sealed.len());
                meta.insert(put.seq, about.as_slice())?;
            }
            if let Some((check, epoch)) = change.head {
                let mut head = write.open_table(HEAD)?;
                head.insert("format", FORMAT.to_le_bytes().as_slice())?;
                head.insert("check", check.as_slice())?;
                head.insert("epoch", epoch.to_le_bytes().as_slice())?;
            }
        }
        write.commit()?;
        Ok(())
    })
}

/// A copy of the row at `seq`; the page is let go at once.
pub(super) fn read(db: &Database, seq: u64) -> Result<Option<Vec<u8>>, Fault> {
    guarded(|| {
        let rows = db.begin_read()?.open_table(ROWS)?;
        let row = rows.get(seq)?.map(|row| row.value().to_vec());
        Ok(row)
    })
}

/// Closes; a panic of the engine on the way stays here.
pub(super) fn drop_quietly(db: Database) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
}

/// Moves the file out of the way, for somebody to look at. One such file is kept.
pub(super) fn quarantine(path: &Path, now_ms: i64) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else { return Err(io::Error::other("it has no name")) };
    let mut prefix = OsString::from(name);
    prefix.push(".quarantine-");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for other in fs::read_dir(folder)?.flatten() {
        if other.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            fs::remove_file(other.path())?;
        }
    }
    prefix.push(now_ms.to_string());
    let target = path.with_file_name(prefix);
    fs::rename(path, &target)?;
    Ok(target)
}
