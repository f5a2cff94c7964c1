//! `thrifty count`: tokens of a request, by part, or of texts.

mod folder;

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use thrifty::call::{Call, Dialect};
use thrifty::tokens::{self, Accuracy, Count, Encoding};
use thrifty::{Error, dialect::Role};

use crate::input;
use crate::lines::{self, Line};
use crate::output::{Code, Ended, Out, complain, grouped, json, table};

/// Tokens of a request, by part, before it is sent
///
/// Says how sure the figure is: exact (text in a known encoding), formula (rules that reproduce billed numbers),
/// calibrated (an estimate, for models whose tokenizer is not public), upper_bound (only a bound is known).
#[derive(Args, Debug)]
pub(crate) struct CountArgs {
    /// File with the JSON body of a request; after --text a file of bare text, or a folder of them; `-` reads standard input
    file: PathBuf,
    /// Format of the request (openai-chat, anthropic-messages, openai-responses, gemini-generate, ...); recognised by the body if left out
    #[arg(long)]
    dialect: Option<Dialect>,
    /// Count as if for this model; the body's own if left out
    #[arg(long)]
    model: Option<String>,
    /// Count bare text instead of a request
    #[arg(long)]
    text: bool,
    /// Encoding of bare text: o200k_base (the default), cl100k_base, ...
    #[arg(long, requires = "text", conflicts_with = "model")]
    encoding: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Read one request per line, as {"id", "dialect", "model", "body"} or with "text" for "body"; answer each with a line
    #[arg(long, conflicts_with = "text")]
    jsonl: bool,
}

/// The answer for people who read JSON.
#[derive(Serialize)]
pub(crate) struct Counted {
    pub(crate) tokens: u64,
    upper_bound: u64,
    accuracy: &'static str,
    encoding: &'static str,
    /// Bytes of `data:` URLs billed as text.
    #[serde(skip_serializing_if = "is_zero")]
    data_urls: u64,
    /// The text was not all UTF-8, and is counted as what it becomes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lossy: bool,
    parts: Parts,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
#[serde(untagged)]
enum Parts {
    Request { system: u64, messages: Vec<u64>, tools: u64, response_format: u64, framing: u64 },
    Text { text: u64 },
}

impl Counted {
    pub(crate) fn of(count: Count) -> Self {
        let parts = count.parts;
        Self {
            tokens: count.likely,
            upper_bound: count.at_most,
            accuracy: count.accuracy.name(),
            encoding: count.encoding,
            data_urls: count.data_urls,
            lossy: false,
            parts: Parts::Request {
                system: parts.system,
                messages: parts.messages,
                tools: parts.tools,
                response_format: parts.response_format,
                framing: parts.framing,
            },
        }
    }

    fn of_text(text: &str, encoding: Option<Encoding>, model: Option<&str>) -> Self {
        let count = tokens::count_text_for(text, model.unwrap_or("gpt-4o"));
        let data_urls = count.data_urls;
        let (tokens, upper_bound, accuracy, encoding) = match encoding {
            // That of the model, or the default one, which is gpt-4o's.
            None => (count.likely, count.at_most, count.accuracy, count.encoding),
            Some(encoding) => {
                let count = encoding.count(text);
                (count, count, Accuracy::Exact, encoding.name())
            }
        };
        let parts = Parts::Text { text: tokens };
        Self { tokens, upper_bound, accuracy: accuracy.name(), encoding, data_urls, lossy: false, parts }
    }
}

pub(crate) fn run(args: &CountArgs, out: &mut Out) -> Ended {
    let model = args.model.as_deref();
    if args.jsonl {
        return lines::drive(&args.file, out, |line| answer(args, line));
    }
    if args.text {
        let encoding = args.encoding.as_deref().map(encoding).transpose()?;
        if args.file.is_dir() {
            let counted = folder::count(&args.file, |text| Counted::of_text(text, encoding, model))?;
            return folder::show(out, &counted, args.json);
        }
        let bytes = input::read(&args.file)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut counted = Counted::of_text(&text, encoding, model);
        counted.lossy = matches!(text, Cow::Owned(_));
        if counted.lossy {
            complain(format_args!(
                "`{}` is not all UTF-8: what is not is counted as the replacement character U+FFFD",
                args.file.display()
            ));
        }
        if args.json {
            json(out, &counted)?;
        } else {
            writeln!(out, "{} tokens ({}, {})", grouped(counted.tokens), counted.accuracy, counted.encoding)?;
        }
        return Ok(Code::Done);
    }
    if args.file.is_dir() {
        let problem = format!("`{}` is a folder", args.file.display());
        return Err(Error::bad_input(
            problem,
            "add --text to count the texts in it, or give a request's file",
        )
        .into());
    }
    let call = input::call(input::read(&args.file)?, args.dialect, model)?;
    let count = tokens::count(&call);
    if args.json {
        json(out, &Counted::of(count))?;
    } else {
        show(out, &call, &count)?;
    }
    Ok(Code::Done)
}

fn answer(args: &CountArgs, line: &Line<'_>) -> Result<Counted, Error> {
    let model = line.model(args.model.as_deref())?;
    if let Some(text) = line.string("text")? {
        let named = line.string("encoding")?.as_deref().map(encoding).transpose()?;
        return Ok(Counted::of_text(&text, named, model.as_deref()));
    }
    Ok(Counted::of(tokens::count(&line.call(args.dialect, args.model.as_deref())?)))
}

fn encoding(name: &str) -> Result<Encoding, Error> {
    Encoding::ALL.into_iter().find(|encoding| encoding.name() == name).ok_or_else(|| {
        let known = Encoding::ALL.map(Encoding::name).join(", ");
        Error::bad_input(format!("`{name}` is no encoding"), format!("give one of {known}"))
    })
}

/// The table by part.
pub(crate) fn show(out: &mut Out, call: &Call, count: &Count) -> Result<(), crate::output::Stop> {
    let mut rows = table(&["part", "tokens"], 1);
    let parts = &count.parts;
    let prompt = call.format().prompt(call);
    if parts.system > 0 {
        rows.add_row(["system".to_owned(), grouped(parts.system)]);
    }
    for (i, tokens) in parts.messages.iter().enumerate() {
        let role = prompt.messages.get(i).map_or("message", |message| role(message.role));
        rows.add_row([format!("message {} ({role})", i + 1), grouped(*tokens)]);
    }
    for (what, tokens) in
        [("tools", parts.tools), ("response format", parts.response_format), ("framing", parts.framing)]
    {
        if tokens > 0 {
            rows.add_row([what.to_owned(), grouped(tokens)]);
        }
    }
    rows.add_row(["all".to_owned(), grouped(count.likely)]);
    writeln!(out, "{rows}")?;
    writeln!(
        out,
        "{} tokens, at most {} ({}, counted with {}).",
        grouped(count.likely),
        grouped(count.at_most),
        match count.accuracy {
            Accuracy::Exact => "exact",
            Accuracy::Formula => "by a formula that reproduces billed numbers",
            Accuracy::Calibrated => "a calibrated estimate",
            _ => "only the upper bound is sure",
        },
        count.encoding,
    )?;
    if count.data_urls > 0 {
        writeln!(
            out,
            "{} bytes of `data:` URLs stand inside plain text and are billed as text: send them as picture or file parts.",
            grouped(count.data_urls),
        )?;
    }
    Ok(())
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::Function => "function",
        _ => "other",
    }
}
