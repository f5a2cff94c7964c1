//! What goes out: answers on stdout, one line of trouble on stderr, and the exit code.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use thrifty::{Error, Kind};

/// Where answers are written. Flushed by `main`, and by the JSON Lines driver whenever it has to wait.
pub(crate) type Out = BufWriter<StdoutLock<'static>>;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// Bad use or bad input.
    Bad = 2,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command could not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody reads stdout any more: end quietly.
    Pipe,
    /// Trouble worth a line.
    Trouble(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Trouble(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Pipe;
        }
        Self::Trouble(Error::caused_by(
            Kind::BadInput,
            format!("the output cannot be written: {error}"),
            "check the disk or the pipe it goes to",
            error,
        ))
    }
}

impl From<serde_json::Error> for Stop {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

/// Result of a command.
pub(crate) type Ended = Result<Code, Stop>;

/// The exit code an error of this kind ends with.
pub(crate) fn code_of(error: &Error) -> Code {
    match error.kind() {
        Kind::OverBudget | Kind::OverLimit | Kind::NotCached => Code::No,
        _ => Code::Bad,
    }
}

/// One line on stderr. A message that holds line breaks, as a path may, is put on one line.
pub(crate) fn complain(message: impl std::fmt::Display) {
    let line = message.to_string().replace(['\n', '\r'], " ");
    // There is nowhere left to tell that stderr is gone.
    let _ = writeln!(io::stderr(), "thrifty: {line}");
}

/// An error in the place of an answer, for those who read JSON.
#[derive(Serialize)]
pub(crate) struct Failed {
    error: String,
    kind: &'static str,
    /// False where the prompt is over its budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    fits: Option<bool>,
}

impl Failed {
    pub(crate) fn of(error: &Error) -> Self {
        let fits = error.is_over_budget().then_some(false);
        Self { error: error.to_string(), kind: kind_name(error.kind()), fits }
    }
}

/// The name of a kind in JSON.
fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::OverBudget => "over_budget",
        Kind::OverLimit => "over_limit",
        Kind::BadInput => "bad_input",
        Kind::BadSetting => "bad_setting",
        Kind::NotEditable => "not_editable",
        Kind::Unpriced => "unpriced",
        Kind::Upstream => "upstream",
        Kind::NotCached => "not_cached",
        Kind::Store => "store",
        _ => "other",
    }
}

/// `1 call`, `2 calls`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// One JSON document and a line break.
pub(crate) fn json(out: &mut Out, answer: &impl Serialize) -> Result<(), Stop> {
    serde_json::to_writer(&mut *out, answer)?;
    out.write_all(b"\n")?;
    Ok(())
}

/// A table whose columns from `numbers` on are aligned to the right.
pub(crate) fn table(header: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A whole number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_in_threes() {
        for (number, want) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), want);
        }
    }
}
