//! The secret that binds keys, entries and log fingerprints to one deployment.
//!
//! Without it nobody can test offline whether some prompt was asked, or forge an entry on disk. Processes that share
//! a cache file share its secret; a changed secret starts an empty cache.
//!
//! # Example
//! ```
//! use thrifty::cache::{Keyer, Secret};
//!
//! let keyer = Keyer::new(&Secret::random());
//! # let _ = keyer;
//! ```
//! # Kept beside a cache file
//! ```
//! use thrifty::cache::Secret;
//!
//! let dir = tempfile::tempdir()?;
//! let file = dir.path().join("answers.redb");
//! assert!(Secret::beside(&file)? == Secret::beside(&file)?);
//! # Ok::<(), thrifty::BoxError>(())
//! ```

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Kind};

/// 32 secret bytes. See the [module docs](crate::cache).
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Fresh bytes from the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, as nothing secret can then be made.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// These bytes: a random key, never a password.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret in the file `<path>.secret`, made on first use with mode 0600.
    ///
    /// # Errors
    /// [`Kind::Store`] when the file cannot be made or read, is a link or no plain file, does not hold 32 bytes, or
    /// may be read by others.
    pub fn beside(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut name = OsString::from(path.as_ref());
        name.push(".secret");
        let path = PathBuf::from(name);
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            create(&path).map_err(|error| unusable(&path, "cannot be made", error))?;
        }
        read(&path)
    }

    /// A key of its own for each purpose.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }
}

/// Written whole under another name and then linked, so that of two processes one wins and none reads half a secret.
fn create(path: &Path) -> io::Result<()> {
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let mut name = OsString::from(path);
    name.push(format!(".{:016x}", u64::from_le_bytes(nonce)));
    let temporary = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    let written = file.write_all(&Secret::random().0).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn read(path: &Path) -> Result<Secret, Error> {
    let refuse = |why| Err(unusable(path, why, io::Error::from(io::ErrorKind::InvalidData)));
    let about = fs::symlink_metadata(path).map_err(|error| unusable(path, "cannot be read", error))?;
    if !about.file_type().is_file() {
        return refuse("is a link or no plain file");
    }
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0 {
        return refuse("may be read by others");
    }
    let mut bytes = Vec::with_capacity(33);
    let file = fs::File::open(path).map_err(|error| unusable(path, "cannot be read", error))?;
    file.take(33).read_to_end(&mut bytes).map_err(|error| unusable(path, "cannot be read", error))?;
    match bytes.try_into() {
        Ok(bytes) => Ok(Secret(bytes)),
        Err(_) => refuse("does not hold 32 bytes"),
    }
}

#[cold]
fn unusable(path: &Path, why: &str, source: io::Error) -> Error {
    Error::caused_by(
        Kind::Store,
        format!("the secret file `{}` {why}", path.display()),
        "give the cache a directory of its own, set the file's mode to 600, or pass the secret yourself",
        source,
    )
}

impl PartialEq for Secret {
    /// In a time that does not depend on where the two differ.
    fn eq(&self, other: &Self) -> bool {
        blake3::Hash::from(self.0) == blake3::Hash::from(other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_beside_a_file_is_made_once_and_read_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.redb");
        let racing: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8).map(|_| scope.spawn(|| Secret::beside(&path).unwrap())).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(racing.windows(2).all(|pair| pair[0] == pair[1]), "all who race get the same secret");
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "nothing but the secret stays behind");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let file = dir.path().join("c.redb.secret");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            assert_eq!(Secret::beside(&path).unwrap_err().kind(), Kind::Store, "others may read it");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_or_a_short_file_in_its_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, [7; 32]).unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("a.secret")).unwrap();
        assert!(Secret::beside(dir.path().join("a")).is_err(), "a link is refused");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("b.secret")).unwrap();
        assert!(Secret::beside(dir.path().join("b")).is_err(), "a dangling link is refused too");
        let short = dir.path().join("c.secret");
        create(&short).unwrap();
        fs::write(&short, [7; 31]).unwrap();
        assert!(Secret::beside(dir.path().join("c")).is_err(), "31 bytes are no secret");
    }

    #[test]
    fn debug_shows_no_byte() {
        assert_eq!(format!("{:?}", Secret::from_bytes([0xab; 32])), "Secret");
    }
}
