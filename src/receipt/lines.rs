//! Receipts as lines of a file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Lever, Receipt, Rejected, Served, Sink};
use crate::dialect::{Usage, each_count};
use crate::price::{CostState, Usd};
use crate::{Error, Kind};

/// Lines are gathered up to this many bytes before they are written.
const BUFFER: usize = 64 * 1024;

/// What a file that cannot be written may leave in memory; receipts beyond it are lost, and counted.
const MAX_UNWRITTEN: usize = 8 * 1024 * 1024;

/// A [`Sink`] that appends each receipt to a file as one line of JSON. Money is in decimal strings of dollars; neither
/// prompts nor answers are in it. Clones write to the same file.
///
/// Lines are buffered; [`flush`](Self::flush) hands them to the system, as does dropping the last clone. A file that
/// cannot be written never fails a call: it is said once in the log, and again by `flush`.
///
/// # Example
/// ```
/// use thrifty::receipt::{JsonLines, Ledger, Receipt, Served, Sink};
/// # let dir = std::env::temp_dir().join(format!("thrifty-doc-lines-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).ok();
/// # let path = dir.join("receipts.jsonl");
/// # std::fs::remove_file(&path).ok();
///
/// let sink = JsonLines::append(&path)?;
/// let mut receipt = Receipt::default();
/// receipt.served = Served::Upstream;
/// receipt.billed = Some("0.0019175".parse()?);
/// sink.receive(&receipt);
/// sink.flush()?;
/// assert_eq!(Ledger::read(&path)?.totals().billed.to_string(), "0.0019175");
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), thrifty::Error>(())
/// ```
/// # A file and a running sum
/// ```
/// use thrifty::receipt::{JsonLines, Ledger, Receipt, Sink};
/// # let dir = std::env::temp_dir().join(format!("thrifty-doc-both-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).ok();
/// # let path = dir.join("receipts.jsonl");
///
/// let (file, ledger) = (JsonLines::append(&path)?, Ledger::default());
/// let both = {
///     let (file, ledger) = (file.clone(), ledger.clone());
///     move |receipt: &Receipt| {
///         file.receive(receipt);
///         ledger.receive(receipt);
///     }
/// };
/// both.receive(&Receipt::default());
/// assert_eq!(ledger.totals().calls, 1);
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone)]
pub struct JsonLines(Arc<Mutex<Out>>);

struct Out {
    file: File,
    buffer: Vec<u8>,
    lost: u64,
    warned: bool,
}

impl JsonLines {
    /// Appends to this file, which is made if it is not there.
    ///
    /// # Errors
    /// [`Kind::Store`] when it cannot be opened.
    pub fn append(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let open = || {
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
            // A line torn by a crash must not swallow the next one.
            let mut buffer = Vec::new();
            if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
                let mut last = [0];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    buffer.push(b'\n');
                }
            }
            Ok(Out { file, buffer, lost: 0, warned: false })
        };
        open().map(|out| Self(Arc::new(Mutex::new(out)))).map_err(|error: io::Error| {
            let problem = format!("the receipts file {} cannot be opened", path.display());
            Error::caused_by(Kind::Store, problem, "give a path in a folder that can be written", error)
        })
    }

    /// Hands all lines to the system.
    ///
    /// # Errors
    /// [`Kind::Store`] when they cannot be written; they are kept and tried again, up to 8 MiB of them.
    pub fn flush(&self) -> Result<(), Error> {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = out.write();
        let lost = out.lost;
        drop(out);
        written.map_err(|error| {
            let problem = format!("receipts cannot be written to their file, {lost} are lost by now");
            Error::caused_by(Kind::Store, problem, "free space on the disk or open another file", error)
        })
    }

    /// Receipts that were given up since the file could not be written for long.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lost
    }
}

impl Out {
    fn push(&mut self, line: &[u8]) {
        if self.buffer.len() + line.len() > MAX_UNWRITTEN {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.buffer.extend_from_slice(line);
        if self.buffer.len() < BUFFER {
            return;
        }
        match self.write() {
            Ok(()) => self.warned = false,
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(%error, "receipts cannot be written to their file; they are kept for now");
            }
            Err(_) => {}
        }
    }

    /// Writes what is buffered; what could not be written stays.
    fn write(&mut self) -> io::Result<()> {
        let mut done = 0;
        let result = loop {
            match self.file.write(&self.buffer[done..]) {
                Ok(_) if done == self.buffer.len() => break Ok(()),
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.buffer.drain(..done);
        result
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Err(error) = self.write() {
            tracing::warn!(%error, "the last receipts cannot be written to their file");
        }
    }
}

impl Sink for JsonLines {
    fn receive(&self, receipt: &Receipt) {
        let Ok(mut line) = serde_json::to_vec(&Line::of(receipt)) else { return };
        line.push(b'\n');
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(&line);
    }
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonLines")
    }
}

/// Reads every line of a file; answers how many could not be read.
pub(super) fn read(path: &Path, each: impl FnMut(Receipt)) -> Result<u64, Error> {
    File::open(path).and_then(|file| read_from(BufReader::new(file), each)).map_err(|error| {
        let problem = format!("the receipts file {} cannot be read", path.display());
        Error::caused_by(Kind::Store, problem, "give a file that `JsonLines` wrote", error)
    })
}

/// A line is held in memory as far as a receipt could be long.
fn read_from(mut file: impl BufRead, mut each: impl FnMut(Receipt)) -> io::Result<u64> {
    const LONGEST: u64 = 1024 * 1024;
    let (mut line, mut unread, mut within) = (Vec::new(), 0, false);
    loop {
        line.clear();
        if file.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(unread);
        }
        let ended = line.ends_with(b"\n");
        let text = line.trim_ascii();
        match serde_json::from_slice::<Line>(text).ok().and_then(Line::receipt) {
            Some(receipt) if !within => each(receipt),
            // A piece of a line is counted once.
            _ => unread += u64::from(!within && !text.is_empty()),
        }
        within = !ended;
    }
}

/// A receipt on the wire.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    at_ms: i64,
    took_us: u64,
    dialect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    served: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    finish: String,
    complete: bool,
    stored: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier_note: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<RejectedLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_after: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    dropped_messages: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    breaks_prefix: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cap_asked: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cap_set: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    prefix_marked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<String>,
    /// `null` is not zero, so it is always written.
    billed_usd: Option<String>,
    state: String,
    avoided_usd: AvoidedLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct RejectedLine {
    model: String,
    served: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageLine>,
    why: String,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct AvoidedLine(std::collections::BTreeMap<String, String>);

impl Default for AvoidedLine {
    fn default() -> Self {
        Self(Lever::ALL.into_iter().map(|lever| (lever.name().into(), "0".into())).collect())
    }
}

macro_rules! usage_line {
    ($($field:ident),*) => {
        #[derive(Default, Serialize, Deserialize)]
        #[serde(default)]
        struct UsageLine {
            $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<u64>,)*
        }

        impl From<Usage> for UsageLine {
            fn from(usage: Usage) -> Self {
                Self { $($field: usage.$field,)* }
            }
        }

        impl From<UsageLine> for Usage {
            fn from(line: UsageLine) -> Self {
                Self { $($field: line.$field,)* }
            }
        }
    };
}

each_count!(usage_line);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn served(name: &str) -> Option<Served> {
    [Served::Nowhere, Served::Upstream, Served::Flight, Served::Memory, Served::Disk]
        .into_iter()
        .find(|served| served.name() == name)
}

impl Line {
    fn of(receipt: &Receipt) -> Self {
        let avoided = |lever: Lever| (lever.name().into(), receipt.avoided.of(lever).to_string());
        Self {
            at_ms: receipt.started_ms,
            took_us: u64::try_from(receipt.took.as_micros()).unwrap_or(u64::MAX),
            dialect: receipt.dialect.name().into(),
            tag: receipt.tag.as_deref().map(Into::into),
            served: receipt.served.name().into(),
            status: receipt.status,
            finish: receipt.finish.name().into(),
            complete: receipt.complete,
            stored: receipt.stored,
            cache_note: receipt.cache_note.map(Into::into),
            asked: receipt.asked.clone(),
            chosen: receipt.chosen.clone(),
            answered: receipt.answered.clone(),
            tier_note: receipt.tier_note.clone(),
            rejected: receipt.rejected.iter().map(RejectedLine::of).collect(),
            tokens_before: receipt.tokens_before,
            tokens_after: receipt.tokens_after,
            dropped_messages: receipt.dropped_messages,
            breaks_prefix: receipt.breaks_prefix,
            cap_asked: receipt.cap_asked,
            cap_set: receipt.cap_set,
            prefix_marked: receipt.prefix_marked,
            usage: receipt.usage.map(Into::into),
            service_tier: receipt.service_tier.clone(),
            billed_usd: receipt.billed.map(|usd| usd.to_string()),
            state: receipt.state.name().into(),
            avoided_usd: AvoidedLine(Lever::ALL.into_iter().map(avoided).collect()),
            table: receipt.table.as_deref().map(Into::into),
            notes: receipt.notes.iter().map(|note| (*note).into()).collect(),
        }
    }

    /// What sums need of it; `None` when an amount or a place is none.
    fn receipt(self) -> Option<Receipt> {
        let mut receipt = Receipt {
            dialect: self.dialect.parse().unwrap_or_default(),
            tag: self.tag.map(Into::into),
            started_ms: self.at_ms,
            took: Duration::from_micros(self.took_us),
            served: served(&self.served)?,
            status: self.status,
            complete: self.complete,
            stored: self.stored,
            asked: self.asked,
            chosen: self.chosen,
            answered: self.answered,
            tier_note: self.tier_note,
            rejected: self.rejected.into_iter().map(RejectedLine::rejected).collect::<Option<_>>()?,
            tokens_before: self.tokens_before,
            tokens_after: self.tokens_after,
            dropped_messages: self.dropped_messages,
            breaks_prefix: self.breaks_prefix,
            cap_asked: self.cap_asked,
            cap_set: self.cap_set,
            prefix_marked: self.prefix_marked,
            usage: self.usage.map(Into::into),
            service_tier: self.service_tier,
            billed: self
                .billed_usd
                .map(|text| text.parse::<Usd>().ok())
                .map_or(Some(None), |usd| usd.map(Some))?,
            state: state(&self.state)?,
            table: self.table.map(Into::into),
            ..Receipt::default()
        };
        for lever in Lever::ALL {
            if let Some(text) = self.avoided_usd.0.get(lever.name()) {
                *receipt.avoided.of_mut(lever) = text.parse().ok()?;
            }
        }
        Some(receipt)
    }
}

fn state(name: &str) -> Option<CostState> {
    [CostState::Exact, CostState::Unpriced, CostState::Missing, CostState::UsageUnknown]
        .into_iter()
        .find(|state| state.name() == name)
}

impl RejectedLine {
    fn of(rejected: &Rejected) -> Self {
        Self {
            model: rejected.model.clone(),
            served: rejected.served.name().into(),
            usage: rejected.usage.map(Into::into),
            why: rejected.why.clone(),
        }
    }

    fn rejected(self) -> Option<Rejected> {
        Some(Rejected::new(self.model, served(&self.served)?, self.usage.map(Into::into), self.why))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::receipt::Ledger;

    fn receipt() -> Receipt {
        let mut receipt = Receipt {
            tag: Some("night \"ly\"\n".into()),
            served: Served::Upstream,
            asked: Some("gpt-5-mini".into()),
            usage: Some(Usage::of(100, 10).with_read(40)),
            billed: Some("0.000000000001".parse().unwrap()),
            state: CostState::Exact,
            ..Receipt::default()
        };
        receipt.avoided.trim = Usd::from_pico(-5);
        receipt.rejected = vec![Rejected::new("m".into(), Served::Upstream, None, "empty".into())];
        receipt
    }

    #[test]
    fn sums_rebuilt_from_the_file_are_the_sums_that_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipts.jsonl");
        let live = Ledger::default();
        let file = JsonLines::append(&path).unwrap();
        for billed in [Some(Usd::from_pico(1)), None, Some(Usd::ZERO)] {
            let receipt = Receipt { billed, ..receipt() };
            live.receive(&receipt);
            file.receive(&receipt);
        }
        drop(file);
        let read = Ledger::read(&path).unwrap();
        assert_eq!(
            (read.totals(), read.by_tag(), read.by_model()),
            (live.totals(), live.by_tag(), live.by_model())
        );
        assert_eq!(read.unread_lines(), 0);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(
            text.contains("\"billed_usd\":\"0.000000000001\"") && text.contains("\"billed_usd\":null"),
            "{text}"
        );
    }

    #[test]
    fn a_torn_last_line_costs_itself_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipts.jsonl");
        let write = || {
            let file = JsonLines::append(&path).unwrap();
            file.receive(&receipt());
            file.flush().unwrap();
        };
        write();
        write();
        let text = std::fs::read(&path).unwrap();
        for cut in text.len() / 2 + 1..text.len() - 1 {
            std::fs::write(&path, &text[..cut]).unwrap();
            let read = Ledger::read(&path).unwrap();
            assert_eq!((read.totals().calls, read.unread_lines()), (1, 1), "cut at {cut}");
        }
        write();
        let read = Ledger::read(&path).unwrap();
        assert_eq!((read.totals().calls, read.unread_lines()), (2, 1), "what came after the crash is whole");
    }

    #[test]
    fn lines_that_are_no_receipts_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipts.jsonl");
        let long = "x".repeat(3 * 1024 * 1024);
        std::fs::write(&path, format!("[]\n\n{{\"served\":\"moon\"}}\n{long}\n\u{0}\n")).unwrap();
        let file = JsonLines::append(&path).unwrap();
        file.receive(&receipt());
        file.flush().unwrap();
        let read = Ledger::read(&path).unwrap();
        assert_eq!((read.totals().calls, read.unread_lines()), (1, 4));
        assert!(Ledger::read(dir.path().join("none")).is_err());
        assert!(JsonLines::append(dir.path().join("no/folder")).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_fails_no_call_and_is_told_by_flush() {
        let file = JsonLines::append("/dev/full").unwrap();
        for _ in 0..1_000 {
            file.receive(&receipt());
        }
        let error = file.flush().unwrap_err();
        assert_eq!(error.kind(), Kind::Store);
        assert_eq!(file.lost(), 0, "they are kept");
    }

    proptest! {
        #[test]
        fn a_file_damaged_anywhere_is_read_as_far_as_it_can_be(
            at in any::<proptest::sample::Index>(), bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let whole = serde_json::to_vec(&Line::of(&receipt())).unwrap();
            let mut file = [&whole[..], b"\n", &whole, b"\n", &whole, b"\n"].concat();
            let at = at.index(whole.len());
            file.splice(at..(at + bytes.len()).min(whole.len()), bytes);
            let mut calls = 0;
            let unread = read_from(&file[..], |_| calls += 1).unwrap();
            prop_assert!(calls >= 2, "only the first line was touched, and {calls} were read");
            prop_assert!(calls + unread >= 3, "what was not read is counted");
        }
    }
}
