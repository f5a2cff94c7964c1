//! The file that keeps what was learned.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::scale::{Running, Sample};
use super::{Key, Models};
use crate::{Error, Kind};

/// The tables of start factors; what was learned on top of others does not hold.
const FACTORS: u32 = 1;
/// A file with more lines than this is written anew.
const MOST_LINES: usize = 16_384;
/// A larger file is none of ours.
const MOST_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Head {
    thrifty: String,
    factors: u32,
}

/// One sample, and what was known after it.
#[derive(Serialize, Deserialize)]
struct Line {
    host: String,
    dialect: String,
    model: String,
    samples: u64,
    scale: u64,
    formula: bool,
    ratio: u64,
    error: Option<u64>,
}

/// A file of samples, one JSON document a line.
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    lines: usize,
    warned: bool,
}

impl Log {
    /// Opens a file and reads what is in it. A torn last line is left out, as is all of another table of factors.
    pub(super) fn open(path: &Path) -> Result<(Self, Models), Error> {
        let failed = |error: io::Error| {
            let problem = format!("the calibration file {} cannot be opened", path.display());
            Error::caused_by(Kind::Store, problem, "give a path in a folder that can be written", error)
        };
        let mut models = Models::default();
        let mut log = Self { path: path.to_owned(), file: None, lines: 0, warned: false };
        let text = match fs::metadata(path) {
            Ok(meta) if meta.len() > MOST_BYTES || !meta.is_file() => {
                return Err(failed(io::Error::other("it is no calibration file")));
            }
            Ok(_) => fs::read(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut whole = text.is_empty() || text.ends_with(b"\n");
        if let Some(first) = lines.next() {
            let head: Head = serde_json::from_slice(first)
                .ok()
                .filter(|head: &Head| head.thrifty == "calibration")
                .ok_or_else(|| failed(io::Error::other("it is no calibration file")))?;
            whole &= head.factors == FACTORS;
            if head.factors == FACTORS {
                for line in lines {
                    log.lines += 1;
                    let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
                    let known = models
                        .entry(Key { host: line.host, dialect: line.dialect, model: line.model })
                        .or_default();
                    let sample = Sample { ratio: line.ratio, error: line.error };
                    known.restore(line.samples, line.scale, line.formula, sample);
                }
            }
        }
        if text.is_empty() || !whole || log.lines > MOST_LINES {
            log.rewrite(&models).map_err(failed)?;
        }
        log.file = Some(OpenOptions::new().append(true).open(path).map_err(failed)?);
        Ok((log, models))
    }

    /// Adds a sample. A file that cannot be written fails nothing; it is said once.
    pub(super) fn push(&mut self, key: &Key, sample: Sample, models: &Models) {
        let Some(running) = models.get(key) else { return };
        self.lines += 1;
        let written = if self.lines > MOST_LINES {
            self.rewrite(models).and_then(|()| {
                self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
                Ok(())
            })
        } else {
            self.file.as_mut().map_or(Ok(()), |file| file.write_all(&line(key, running, sample)))
        };
        match written {
            Ok(()) => self.warned = false,
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(%error, "the calibration cannot be written to its file");
            }
            Err(_) => {}
        }
    }

    /// Replaces the file by one with the last samples of each model.
    fn rewrite(&mut self, models: &Models) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Head { thrifty: "calibration".to_owned(), factors: FACTORS })?;
        text.push(b'\n');
        self.lines = 0;
        for (key, running) in models {
            for sample in running.recent() {
                text.extend(line(key, running, sample));
                self.lines += 1;
            }
        }
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        fs::write(&name, text)?;
        fs::rename(&name, &self.path)
    }
}

fn line(key: &Key, running: &Running, sample: Sample) -> Vec<u8> {
    let line = Line {
        host: key.host.clone(),
        dialect: key.dialect.clone(),
        model: key.model.clone(),
        samples: running.samples,
        scale: running.scale,
        formula: running.formula,
        ratio: sample.ratio,
        error: sample.error,
    };
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text
}
