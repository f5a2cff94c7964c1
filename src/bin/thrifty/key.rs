//! `thrifty key`: whether two requests are the same to the cache, and where they differ.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use thrifty::cache::{self, Bypass, Keyer, Secret};
use thrifty::call::{Call, Dialect, Scope};

use crate::input;
use crate::lines::{self, Line};
use crate::output::{Code, Ended, Out, json};

/// The cache's view of a request: its fingerprint, or where two requests differ
///
/// Two requests with one fingerprint share one cached answer. The fingerprint compares runs of this command with
/// each other; those in your logs are bound to your deployment's own secret and look different. With two bodies the
/// exit code is 0 if they are the same to the cache and 1 if not.
#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// File with the JSON body of a request; `-` reads standard input
    a: PathBuf,
    /// File with another one to compare it with
    b: Option<PathBuf>,
    /// Format of the requests (openai-chat, anthropic-messages, openai-responses, gemini-generate, ...); recognised by the bodies if left out
    #[arg(long)]
    dialect: Option<Dialect>,
    /// Member that does not count, as a JSON pointer with `*` for each element of an array, such as /messages/*/id; may be
    /// given several times
    #[arg(long, value_name = "PATH")]
    leave_out: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Read one request per line, as {"id", "dialect", "model", "body"}; answer each with a line
    #[arg(long, conflicts_with = "b")]
    jsonl: bool,
}

#[derive(Serialize)]
struct Fingerprinted {
    cacheable: bool,
    /// Null for a request that goes past the cache.
    fingerprint: Option<String>,
    /// Why it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Compared {
    fingerprint: Option<String>,
    equal: bool,
    /// True if both may be cached.
    cacheable: bool,
    /// Which may not: `a`, `b` or both.
    uncacheable: Vec<&'static str>,
    /// JSON pointers.
    differences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

pub(crate) fn run(args: &KeyArgs, out: &mut Out) -> Ended {
    let keyer = keyer().with_left_out(args.leave_out.iter().cloned())?;
    let fingerprint = |call: &Call| fingerprint_by(&keyer, call);
    if args.jsonl {
        return lines::drive(&args.a, out, |line: &Line<'_>| {
            Ok(fingerprinted(fingerprint(&line.call(args.dialect, None)?)))
        });
    }
    let call = |path: &Path| input::call(input::read(path)?, args.dialect, None);
    let a = call(&args.a)?;
    let Some(b) = &args.b else {
        let answer = fingerprinted(fingerprint(&a));
        if args.json {
            json(out, &answer)?;
        } else if let Some(why) = answer.reason {
            writeln!(out, "goes past the cache: {}", in_words(why))?;
        } else {
            writeln!(out, "{}", answer.fingerprint.unwrap_or_default())?;
        }
        return Ok(Code::Done);
    };
    if input::is_stdin(&args.a) && input::is_stdin(b) {
        return Err(thrifty::Error::bad_setting(
            "standard input can be read once, and both bodies are `-`",
            "give a file for one of them",
        )
        .into());
    }
    let answer = compare(&a, &call(b)?, &keyer, &args.leave_out);
    let code = if answer.equal { Code::Done } else { Code::No };
    if args.json {
        json(out, &answer)?;
        return Ok(code);
    }
    if answer.equal {
        writeln!(out, "the same to the cache: {}", answer.fingerprint.unwrap_or_default())?;
    } else if let Some(why) = answer.reason {
        let which = match answer.uncacheable.as_slice() {
            ["a"] => "the first one: ",
            ["b"] => "the second one: ",
            _ => "",
        };
        writeln!(out, "not shared: {which}{}", in_words(why))?;
    } else {
        writeln!(out, "different to the cache, at:")?;
    }
    for pointer in &answer.differences {
        writeln!(out, "  {pointer}")?;
    }
    Ok(code)
}

/// Why a request would go past the cache, or its fingerprint.
pub(crate) fn fingerprint(call: &Call) -> Result<String, Bypass> {
    fingerprint_by(&keyer(), call)
}

fn keyer() -> Keyer {
    // One secret for all runs, so that fingerprints of two runs compare. It protects nothing.
    Keyer::new(&Secret::from_bytes(*b"the command line tool of thrifty"))
}

fn fingerprint_by(keyer: &Keyer, call: &Call) -> Result<String, Bypass> {
    keyer.key(call, &Scope::credential(), &[]).map(|key| keyer.fingerprint(&key))
}

fn fingerprinted(fingerprint: Result<String, Bypass>) -> Fingerprinted {
    match fingerprint {
        Ok(fingerprint) => Fingerprinted { cacheable: true, fingerprint: Some(fingerprint), reason: None },
        Err(bypass) => Fingerprinted { cacheable: false, fingerprint: None, reason: Some(bypass.0) },
    }
}

fn compare(a: &Call, b: &Call, keyer: &Keyer, left_out: &[String]) -> Compared {
    let (first, second) = (fingerprint_by(keyer, a), fingerprint_by(keyer, b));
    let bodies = [("a", first.is_err()), ("b", second.is_err())];
    let uncacheable: Vec<_> = bodies.into_iter().filter(|body| body.1).map(|body| body.0).collect();
    let mut excluded = if a.dialect == b.dialect { a.format().excluded() } else { &[] }.to_vec();
    excluded.extend(left_out.iter().filter_map(|path| path.strip_prefix('/')));
    let reason = first.as_ref().err().or(second.as_ref().err()).map(|bypass| bypass.0);
    // A body without a canonical form goes past the cache, and the reason says so.
    let mut differences = cache::differences(a.doc.bytes(), b.doc.bytes(), &excluded).unwrap_or_default();
    // What decides by the kind of answer rather than by its text is kept out of the canonical form.
    for name in ["stream", "stream_options"] {
        let pointer = format!("/{name}");
        if a.doc.some(name) != b.doc.some(name) && first != second && !differences.contains(&pointer) {
            differences.push(pointer);
        }
    }
    let other = a.dialect != b.dialect;
    let reason = reason.or(other.then_some("other-dialect"));
    let equal = reason.is_none() && first == second;
    if equal {
        differences.clear();
    }
    Compared {
        equal,
        cacheable: uncacheable.is_empty(),
        uncacheable,
        differences,
        reason,
        fingerprint: first.ok(),
    }
}

/// A word of [`Bypass`] as a reason for people; the word itself where there is nothing to add.
pub(crate) fn in_words(word: &str) -> String {
    let why = match word {
        "content-by-url" => "it names content by URL, which may change",
        "content-by-id" => "it names content that the provider keeps, which may change",
        "hosted-tool" | "web-search" => "the provider runs a tool whose result changes",
        "store-true" => "it asks the provider to store the answer",
        "audio-output" | "earlier-audio" => "its answer is sound that is kept at the provider",
        "duplicate-name" => "a name occurs twice in the body, and readers disagree on which one counts",
        "not-json" | "not-an-object" => "the body is not one JSON object",
        "number-range" => "a number is out of the range that all readers agree on",
        "lone-surrogate" => "a text is not valid Unicode",
        "other-dialect" => "the two are requests to different APIs",
        _ => return word.to_owned(),
    };
    format!("{why} ({word})")
}
