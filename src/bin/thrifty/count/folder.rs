//! The text files of a folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thrifty::{Error, Kind};

use super::Counted;
use crate::output::{Code, Ended, Out, complain, grouped, json, table};
use crate::{input, progress};

/// The answer for a folder; the sums are those of its files.
#[derive(Serialize)]
pub(super) struct Folder {
    tokens: u64,
    upper_bound: u64,
    accuracy: &'static str,
    encoding: &'static str,
    files: Vec<File>,
    /// Files that are no text.
    skipped: Vec<String>,
}

#[derive(Serialize)]
struct File {
    path: String,
    bytes: u64,
    tokens: u64,
}

/// Counts every text file in a folder and the folders in it, hidden ones and links left out.
pub(super) fn count(root: &Path, of_text: impl Fn(&str) -> Counted) -> Result<Folder, Error> {
    let mut paths = Vec::new();
    walk(root, &mut paths)?;
    paths.sort();
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    let bar = progress::bar("counting", paths.iter().map(size).sum());
    let (mut files, mut skipped) = (Vec::new(), Vec::new());
    let (mut tokens, mut upper_bound) = (0u64, 0u64);
    // An empty text says how sure a count of none is, and by which encoding.
    let mut sure = of_text("");
    for path in paths {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let text = input::read_text(&path);
        bar.inc(size(&path));
        let Ok(text) = text else {
            skipped.push(name);
            continue;
        };
        let counted = of_text(&text);
        tokens = tokens.saturating_add(counted.tokens);
        upper_bound = upper_bound.saturating_add(counted.upper_bound);
        files.push(File { path: name, bytes: text.len() as u64, tokens: counted.tokens });
        if !text.is_empty() {
            sure = counted;
        }
    }
    bar.finish_and_clear();
    Ok(Folder { tokens, upper_bound, accuracy: sure.accuracy, encoding: sure.encoding, files, skipped })
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let unreadable = |error: std::io::Error| {
        let problem = format!("the folder `{}` cannot be read ({error})", folder.display());
        Error::caused_by(Kind::BadInput, problem, "give a folder that you may read", error)
    };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            walk(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

pub(super) fn show(out: &mut Out, counted: &Folder, as_json: bool) -> Ended {
    if as_json {
        json(out, counted)?;
        return Ok(Code::Done);
    }
    let mut rows = table(&["file", "bytes", "tokens"], 1);
    for file in &counted.files {
        rows.add_row([file.path.clone(), grouped(file.bytes), grouped(file.tokens)]);
    }
    writeln!(out, "{rows}")?;
    let n = counted.files.len() as u64;
    let files = if n == 1 { "file" } else { "files" };
    let tokens = grouped(counted.tokens);
    writeln!(out, "{tokens} tokens in {} {files} ({}, {}).", grouped(n), counted.accuracy, counted.encoding)?;
    if !counted.skipped.is_empty() {
        match counted.skipped.len() {
            1 => complain(format_args!("1 file is no text and is not counted")),
            n => complain(format_args!("{n} files are no text and are not counted")),
        }
    }
    Ok(Code::Done)
}
