//! The file that keeps what was learned.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::scale::{Running, Sample};
use super::{Key, MOST_MODELS, Models};
use crate::{Error, Kind};

/// The tables of start factors; what was learned on top of others does not hold.
const FACTORS: u32 = 1;
/// A file with more lines than this, and than twice what is worth keeping, is written anew.
const MOST_LINES: usize = 16_384;
/// A larger file is none of ours: twice the samples of all models are 128,000 lines, of 600 bytes at the most.
const MOST_BYTES: u64 = 128 << 20;
/// How a file of ours begins.
const MARK: &[u8] = br#"{"thrifty":"calibration""#;

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
    /// Lines worth keeping when the file was last looked at as a whole.
    live: usize,
    warned: bool,
}

impl Log {
    /// Opens a file and reads what is in it. A torn last line is left out, as is all of another table of factors. A
    /// file whose head is damaged is kept beside, and a new one begun.
    pub(super) fn open(path: &Path) -> Result<(Self, Models), Error> {
        let failed = |error: io::Error| {
            let problem = format!("the calibration file {} cannot be opened", path.display());
            Error::caused_by(Kind::Store, problem, "give a path in a folder that can be written", error)
        };
        let other = || failed(io::Error::other("it is no calibration file"));
        let mut models = Models::default();
        let mut log = Self { path: path.to_owned(), file: None, lines: 0, live: 0, warned: false };
        let mut text = match fs::metadata(path) {
            Ok(meta) if meta.len() > MOST_BYTES || !meta.is_file() => return Err(other()),
            Ok(_) => fs::read(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let mut head = lines_of(&text).next().map(serde_json::from_slice::<Head>);
        if let Some(Err(_)) = head {
            if !is_damaged(&text) {
                return Err(other());
            }
            let aside = log.beside(".damaged");
            fs::rename(path, &aside).map_err(failed)?;
            tracing::warn!(kept = %aside.display(), "the head of the calibration file is damaged; it is learned anew");
            (text, head) = (Vec::new(), None);
        }
        let head = match head {
            Some(Ok(head)) if head.thrifty != "calibration" => return Err(other()),
            Some(Ok(head)) => Some(head),
            _ => None,
        };
        let ours = head.is_some_and(|head| head.factors == FACTORS);
        for line in lines_of(&text).skip(1).filter(|_| ours) {
            log.lines += 1;
            let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
            let sample = Sample { ratio: line.ratio, error: line.error };
            let key =
                Key { host: line.host, dialect: line.dialect, model: line.model, formula: line.formula };
            if models.contains_key(&key) || models.len() < MOST_MODELS {
                let known = models.entry(key).or_insert_with(|| Running::new(line.formula));
                known.restore(line.samples, line.scale, sample);
            }
        }
        log.live = models.values().map(|running| running.recent().count()).sum();
        if !ours || !text.ends_with(b"\n") || log.is_full(0) {
            log.rewrite(&models).map_err(failed)?;
        } else {
            log.file = Some(OpenOptions::new().append(true).open(path).map_err(failed)?);
        }
        Ok((log, models))
    }

    /// True if the file is to be written anew rather than to grow by so many lines.
    pub(super) fn is_full(&self, more: usize) -> bool {
        self.lines.saturating_add(more) > MOST_LINES.max(self.live.saturating_mul(2))
    }

    /// Adds lines, or replaces all by those of `models`. A file that cannot be written fails nothing; it is said once.
    pub(super) fn write(&mut self, lines: &[u8], models: Option<&Models>) {
        self.lines = self.lines.saturating_add(count(lines));
        let rewritten = models.map(|models| self.rewrite(models));
        if let Some(Err(_)) = rewritten {
            // Not tried again at each call.
            self.live = self.lines;
        }
        let written = match (rewritten, &mut self.file) {
            (Some(Ok(())), _) => Ok(()),
            (_, Some(file)) => file.write_all(lines),
            (Some(error), None) => error,
            (None, None) => Ok(()),
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
        for (key, running) in models {
            for sample in running.recent() {
                text.extend(line(key, running, sample));
            }
        }
        let name = self.beside(".new");
        fs::write(&name, &text)?;
        let file = OpenOptions::new().append(true).open(&name)?;
        // A name that points to bytes which never reached the disk would lose the old file too.
        file.sync_all()?;
        fs::rename(&name, &self.path)?;
        self.file = Some(file);
        self.lines = count(&text) - 1;
        self.live = self.lines;
        Ok(())
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(ending);
        name.into()
    }
}

fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn count(lines: &[u8]) -> usize {
    lines.iter().filter(|byte| **byte == b'\n').count()
}

/// True for a file of ours whose head cannot be read: torn, overwritten with zeros, or with samples behind it.
fn is_damaged(text: &[u8]) -> bool {
    let first = lines_of(text).next().unwrap_or_default();
    let torn = first.len() >= 4 && first.len() == text.len() && MARK.starts_with(first);
    torn || first.starts_with(MARK)
        || text.iter().all(|byte| *byte == 0)
        || lines_of(text).any(|line| serde_json::from_slice::<Line>(line).is_ok())
}

/// The line of a sample of `key`.
pub(super) fn line(key: &Key, running: &Running, sample: Sample) -> Vec<u8> {
    let line = Line {
        host: key.host.clone(),
        dialect: key.dialect.clone(),
        model: key.model.clone(),
        samples: running.samples,
        scale: running.scale,
        formula: key.formula,
        ratio: sample.ratio,
        error: sample.error,
    };
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text
}
