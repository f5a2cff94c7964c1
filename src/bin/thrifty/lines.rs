//! JSON Lines: one request per line in, one answer per line out, in order.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;
use thrifty::call::json::Object;
use thrifty::call::{Call, Dialect};
use thrifty::{Error, Kind};

use crate::input;
use crate::output::{Code, Ended, Failed, Out, Stop, code_of, complain, json};

/// One line: an object whose members stand in for the options of the command.
pub(crate) struct Line<'a> {
    object: Object<'a>,
}

/// An answer with the `id` of its line in front.
#[derive(Serialize)]
struct Answered<'a, T> {
    id: Option<&'a RawValue>,
    #[serde(flatten)]
    answer: T,
}

#[derive(Serialize)]
struct Unusable<'a> {
    id: Option<&'a RawValue>,
    #[serde(flatten)]
    failed: Failed,
}

impl<'a> Line<'a> {
    /// JSON text of a member, unless it is absent or `null`.
    pub(crate) fn some(&self, name: &str) -> Option<&'a str> {
        self.object.some(name)
    }

    /// A member that has to be a string if it is there.
    pub(crate) fn string(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(text) = self.some(name) else { return Ok(None) };
        self.object.str(name).map(|text| Some(text.into_owned())).ok_or_else(|| {
            let text: String = text.chars().take(40).collect();
            Error::bad_input(
                format!("`{name}` is not a string ({text})"),
                "put it in quotes, or leave it out",
            )
        })
    }

    /// The dialect the line names, else `default`.
    pub(crate) fn dialect(&self, default: Option<Dialect>) -> Result<Option<Dialect>, Error> {
        self.string("dialect")?.map(|name| name.parse()).transpose().map(|named| named.or(default))
    }

    /// The model the line names, else `default`.
    pub(crate) fn model(&self, default: Option<&str>) -> Result<Option<String>, Error> {
        Ok(self.string("model")?.or_else(|| default.map(str::to_owned)))
    }

    /// The member `body` as a call.
    pub(crate) fn call(&self, dialect: Option<Dialect>, model: Option<&str>) -> Result<Call, Error> {
        let body = self.some("body").ok_or_else(|| missing("body"))?;
        input::call(body.to_owned(), self.dialect(dialect)?, self.model(model)?.as_deref())
    }
}

/// The refusal of a line that lacks a member.
pub(crate) fn missing(name: &str) -> Error {
    Error::bad_input(format!("the line has no `{name}`"), format!("add a member `{name}`"))
}

/// Answers each line of `path` by `answer`. An unusable line gets an error in its place and the rest go on; the exit
/// code is then that of bad input. A line whose answer is "no" gets its error too.
pub(crate) fn drive<T: Serialize>(
    path: &Path,
    out: &mut Out,
    mut answer: impl FnMut(&Line<'_>) -> Result<T, Error>,
) -> Ended {
    let mut reader = input::open(path)?;
    let mut buffer = Vec::new();
    let (mut number, mut bad, mut no) = (0u64, 0u64, 0u64);
    loop {
        let more = input::next_line(&mut *reader, &mut buffer).map_err(|error| {
            let problem = format!("reading stopped after line {number} ({error})");
            Stop::Trouble(Error::caused_by(Kind::BadInput, problem, "check where the lines come from", error))
        })?;
        if !more {
            break;
        }
        number += 1;
        if buffer.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let text = std::str::from_utf8(&buffer);
        let object = text.ok().and_then(Object::parse);
        let raw = object.as_ref().and_then(|object| object.get("id"));
        let id = raw.and_then(|raw| serde_json::from_str::<&RawValue>(raw).ok());
        let answered = match object {
            Some(object) => answer(&Line { object }),
            None => Err(Error::bad_input(
                if text.is_ok() { "the line is not one JSON object" } else { "the line is not UTF-8" },
                "write one request per line",
            )),
        };
        match answered {
            Ok(answer) => json(out, &Answered { id, answer })?,
            Err(error) => {
                match code_of(&error) {
                    Code::No => no += 1,
                    _ => bad += 1,
                }
                json(out, &Unusable { id, failed: Failed::of(&error) })?;
            }
        }
        // A program at the other end may wait for this answer before it writes its next line.
        out.flush()?;
    }
    if bad > 0 {
        complain(format_args!("{bad} of {number} lines could not be used; their answers say why"));
        return Ok(Code::Bad);
    }
    Ok(if no > 0 { Code::No } else { Code::Done })
}
