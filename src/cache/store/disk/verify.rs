//! Looks after a file at rest: is all of it right, and can it be shorter?

use std::path::Path;
use std::sync::Arc;

use super::backend::{FileMedium, Medium};
use super::engine::{self, Engine as _, Fault, Found, HeadKey, Redb};
use super::{Disk, block};
use crate::cache::envelope::{self, Keys};
use crate::{Error, Kind};

/// What [`Disk::verify`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// True if the pages of the file are right.
    pub sound: bool,
    /// Entries whose keyed hash is right.
    pub entries: u64,
    /// Entries that are damaged or forged.
    pub damaged: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
}

impl Checked {
    /// True if there is nothing wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.sound && self.damaged == 0
    }
}

/// What [`Disk::compact`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Length of the file in bytes before.
    pub before: u64,
    /// And after.
    pub after: u64,
}

const BATCH: usize = 256;

impl Disk {
    /// Checks every page and the keyed hash of every entry of a file that nobody uses. Takes as long as reading it.
    ///
    /// # Errors
    /// [`Kind::Store`] if there is no such file, it is in use, belongs to another secret, or is no cache file.
    pub fn verify(path: impl AsRef<Path>, mac_key: [u8; 32]) -> Result<Checked, Error> {
        let path = path.as_ref();
        let medium = FileMedium;
        let mut checked = Checked { file_bytes: len(&medium, path)?, ..Checked::default() };
        let key = HeadKey::new(&mac_key);
        let mut engine = match open(&medium, path) {
            Err(Fault::Damaged(_)) => return Ok(checked),
            other => other.map_err(|fault| unusable(path, &fault))?,
        };
        checked.sound = match engine.check_integrity() {
            Ok(sound) => sound,
            Err(Fault::Damaged(_)) => false,
            Err(fault) => return Err(unusable(path, &fault)),
        };
        match engine.head(&key) {
            Ok(Found::Head(_) | Found::Nothing) => {}
            Ok(Found::Useless(why)) => return Err(refuse(path, &format!("is {why}"))),
            Err(_) => checked.sound = false,
        }
        if let Err(fault) = scan(&engine, &mac_key, &mut checked) {
            match fault {
                Fault::Damaged(_) => checked.sound = false,
                fault => return Err(unusable(path, &fault)),
            }
        }
        engine::drop_quietly(engine);
        Ok(checked)
    }

    /// Frees the space at the end of a file that nobody uses. May take seconds for each gibibyte.
    ///
    /// # Errors
    /// [`Kind::Store`] if there is no such file, it is in use, is damaged, or belongs to another secret.
    pub fn compact(path: impl AsRef<Path>, mac_key: [u8; 32]) -> Result<Compacted, Error> {
        let path = path.as_ref();
        let medium = FileMedium;
        let before = len(&medium, path)?;
        let wrong = |fault| unusable(path, &fault);
        let mut engine = open(&medium, path).map_err(wrong)?;
        if let Found::Useless(why) = engine.head(&HeadKey::new(&mac_key)).map_err(wrong)? {
            return Err(refuse(path, &format!("is {why}")));
        }
        engine.compact().map_err(wrong)?;
        engine::drop_quietly(engine);
        Ok(Compacted { before, after: len(&medium, path)? })
    }
}

impl Disk {
    /// True for a cache file that nobody uses and this secret has written.
    pub(in crate::cache) fn belongs_to(path: &Path, mac_key: [u8; 32]) -> bool {
        let Some(engine) = path.is_file().then(|| open(&FileMedium, path).ok()).flatten() else {
            return false;
        };
        let ours = matches!(engine.head(&HeadKey::new(&mac_key)), Ok(Found::Head(_)));
        engine::drop_quietly(engine);
        ours
    }
}

/// Opens the file as it is: nothing is evicted, deleted or started anew.
fn open(medium: &dyn Medium, path: &Path) -> Result<Redb, Fault> {
    engine::open(medium, path, u64::MAX >> 1)
}

fn scan(engine: &Redb, mac_key: &[u8; 32], checked: &mut Checked) -> Result<(), Fault> {
    let mut before = u64::MAX;
    loop {
        let blocks = engine.records_before(before, BATCH)?;
        let Some((last, _)) = blocks.last() else { return Ok(()) };
        before = *last;
        for (seq, records) in &blocks {
            let bytes = Arc::new(engine.block(*seq)?.unwrap_or_default());
            for record in records.iter().filter(|record| !record.is_blank()) {
                let keys = Keys::new(mac_key, &record.scope);
                let sealed = block::part(&bytes, record.off, record.len);
                let good = sealed.is_some_and(|sealed| envelope::is_authentic(sealed, &record.key, &keys));
                *(if good { &mut checked.entries } else { &mut checked.damaged }) += 1;
            }
        }
    }
}

fn len(medium: &FileMedium, path: &Path) -> Result<u64, Error> {
    // An opening would make it.
    if !path.is_file() {
        return Err(Error::new(
            Kind::Store,
            format!("there is no cache file `{}`", path.display()),
            "give the path that the cache layer was built with",
        ));
    }
    medium.len(path).map_err(|error| unusable(path, &error.into()))
}

fn unusable(path: &Path, fault: &Fault) -> Error {
    let way_out = match fault {
        Fault::Busy => "stop the program that uses it, and try again",
        Fault::Damaged(_) => "start the program that uses it: it puts the file aside and begins a new one",
        Fault::Foreign => "give the path that the cache layer was built with",
        Fault::Full(_) | Fault::Other(_) => "see to the disk or the rights of the file, and try again",
    };
    let why = match fault {
        Fault::Busy => "is in use",
        other => &format!("cannot be used: {}", other.text()),
    };
    Error::new(Kind::Store, format!("the cache file `{}` {why}", path.display()), way_out)
}

fn refuse(path: &Path, why: &str) -> Error {
    Error::new(
        Kind::Store,
        format!("the cache file `{}` {why}", path.display()),
        "bring the secret back that it was written with",
    )
}
