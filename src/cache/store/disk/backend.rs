//! Where the bytes of the file are: the file system, or what a test puts in its place.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Bound;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// The few things the tier asks of a file system.
#[cfg_attr(not(feature = "test-util"), expect(unreachable_pub, reason = "others need it for tests alone"))]
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// Opens the file for reading and writing, or makes it.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Tries whether anything can be written beside the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn probe(&self, path: &Path) -> io::Result<()>;

    /// The first bytes of a file that is there, is not empty and has no secret beside it; otherwise none.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn begin_of_unclaimed(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Moves the file out of the way; an earlier one that was moved is deleted.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn set_aside(&self, path: &Path, target: &Path) -> io::Result<()>;

    /// Deletes the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(feature = "test-util"), expect(unreachable_pub, reason = "others need it for tests alone"))]
pub struct FileMedium;

impl Medium for FileMedium {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let file = open(path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn probe(&self, path: &Path) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".probe");
        // More than a page, so that a disk is not taken for free on the last one.
        let tried =
            OpenOptions::new().write(true).create(true).truncate(true).open(&name).and_then(|mut file| {
                file.write_all(&[0; 64 << 10])?;
                file.sync_data()
            });
        let removed = fs::remove_file(&name);
        tried.and(removed)
    }

    fn begin_of_unclaimed(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        if !is_unclaimed(path) {
            return Ok(None);
        }
        let mut begin = Vec::new();
        fs::File::open(path)?.take(16).read_to_end(&mut begin)?;
        Ok(Some(begin))
    }

    fn set_aside(&self, path: &Path, target: &Path) -> io::Result<()> {
        let (folder, Some(name)) = (folder(path), path.file_name()) else {
            return Err(io::Error::other("it has no name"));
        };
        let mut prefix = name.to_owned();
        prefix.push(QUARANTINE);
        for other in fs::read_dir(folder)?.flatten() {
            if other.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
                fs::remove_file(other.path())?;
            }
        }
        fs::rename(path, target)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// What follows the name of a file that was moved out of the way, and is followed by the time.
pub(super) const QUARANTINE: &str = ".quarantine-";

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// True for a file that is not empty and has no secret beside it.
pub(in crate::cache) fn is_unclaimed(path: &Path) -> bool {
    let mut secret = path.as_os_str().to_owned();
    secret.push(".secret");
    fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.len() > 0)
        && !fs::symlink_metadata(secret).is_ok_and(|about| about.is_file())
}

/// Makes the file and its folder, for the owner alone. Links are refused, and so are folders in which others may
/// write: they could put a file of theirs in its place.
fn open(path: &Path) -> io::Result<fs::File> {
    match fs::symlink_metadata(path) {
        Ok(about) if !about.file_type().is_file() => {
            return Err(io::Error::other("it is a link or no plain file"));
        }
        _ => {}
    }
    let folder = folder(path);
    if !folder.exists() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(folder)?.permissions().mode();
        // In a sticky folder, as `/tmp` is, nobody moves another's file.
        if mode & 0o022 != 0 && mode & 0o1000 == 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others may write in its folder; give it one of its own, or take that right away (chmod go-w)",
            ));
        }
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o077 != 0 {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(file)
}

/// Refuses to grow beyond a bound, whatever the engine believes it needs.
#[derive(Debug)]
pub(super) struct Bounded {
    pub(super) inner: Box<dyn StorageBackend>,
    pub(super) max_bytes: u64,
}

impl StorageBackend for Bounded {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.max_bytes && len > self.inner.len()? {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the file would outgrow its bound"));
        }
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    // Without these the file would not be locked at all.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
