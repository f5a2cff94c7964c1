//! What comes in: bodies from files or stdin, made into calls.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use bytes::Bytes;
use thrifty::call::{Call, Dialect, Doc, json};
use thrifty::{Error, Kind};

/// Largest line or file that is read, in bytes. A body above [`Doc::MAX_BYTES`] is refused anyway.
const MOST: u64 = 256 << 20;

/// `-` is stdin.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Opens a file, or stdin for `-`.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>, Error> {
    if is_stdin(path) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(unreadable(path, io::Error::from(io::ErrorKind::IsADirectory)));
    }
    Ok(Box::new(BufReader::with_capacity(256 << 10, file)))
}

/// All bytes of a file, or of stdin for `-`.
pub(crate) fn read(path: &Path) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    open(path)?.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    if bytes.len() as u64 > MOST {
        return Err(Error::bad_input(
            format!("`{}` is larger than {} MiB", path.display(), MOST >> 20),
            "give it one request at a time",
        ));
    }
    Ok(bytes.into())
}

/// A file as UTF-8 text.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    String::from_utf8(read(path)?.into()).map_err(|error| {
        Error::bad_input(
            format!("`{}` is not UTF-8 (byte {})", path.display(), error.utf8_error().valid_up_to()),
            "convert it to UTF-8 first",
        )
    })
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::caused_by(
        Kind::BadInput,
        format!("`{}` cannot be read ({error})", path.display()),
        "give the path of a file, or `-` for standard input",
        error,
    )
}

/// Reads the next line into `line`, without its line break; false at the end.
///
/// # Errors
/// That of the reader. A line above the limit is passed over and comes back cut, which no JSON survives.
pub(crate) fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut input = input;
    if Read::take(&mut input, MOST).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() != Some(&b'\n') && line.len() as u64 >= MOST {
        input.skip_until(b'\n')?;
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(true)
}

/// Where calls of this dialect usually go.
fn url(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat => "https://api.openai.com/v1/chat/completions",
        Dialect::AnthropicMessages => "https://api.anthropic.com/v1/messages",
        Dialect::OpenAiResponses => "https://api.openai.com/v1/responses",
        Dialect::GeminiGenerate => {
            "https://generativelanguage.googleapis.com/v1beta/models/any:generateContent"
        }
        Dialect::OllamaChat => "http://localhost:11434/api/chat",
        Dialect::Embeddings => "https://api.openai.com/v1/embeddings",
        _ => "http://localhost/",
    }
}

/// A call with this body. Without a dialect it is recognised by the body, and a model takes the place of its own.
///
/// # Errors
/// When the body is not a request of that dialect.
pub(crate) fn call(
    body: impl Into<Bytes>,
    dialect: Option<Dialect>,
    model: Option<&str>,
) -> Result<Call, Error> {
    let body = body.into();
    let refuse = |problem| Err(Error::bad_input(problem, "give the JSON body of one request, as UTF-8"));
    if body.iter().all(u8::is_ascii_whitespace) {
        return refuse("the body is empty");
    }
    if body.starts_with(b"\xEF\xBB\xBF") {
        return refuse("the body starts with a byte order mark, which JSON does not allow");
    }
    let doc = Doc::new(body);
    if let Some(trouble) = doc.trouble() {
        return Err(Error::bad_input(trouble.to_string(), "give the JSON body of one request"));
    }
    let dialect = match dialect {
        Some(dialect) => dialect,
        None => recognise(&doc, model)?,
    };
    if let Some(member) = dialect.format().messages_member()
        && !has_prompt(dialect, &doc, member)
    {
        return Err(Error::bad_input(
            format!("the body has no list of `{member}`, which {dialect} requests have"),
            "give the JSON body of one request, or another --dialect",
        ));
    }
    // Gemini's model stands in the path, which a file does not have.
    let in_path = dialect == Dialect::GeminiGenerate;
    let model = model.map(str::to_owned).or_else(|| doc.str("model").filter(|_| in_path).map(Into::into));
    let url = if in_path && model.is_none() { "http://localhost/" } else { url(dialect) };
    let mut call = Call::post(url, doc);
    call.dialect = dialect;
    if let Some(model) = model {
        call.set_model(model.strip_prefix("models/").unwrap_or(&model))?;
    }
    Ok(call)
}

/// True if there is something to count and to cut; a few formats take a bare text in place of a list.
fn has_prompt(dialect: Dialect, doc: &Doc, member: &str) -> bool {
    let text = |name| doc.str(name).is_some();
    doc.elements(member).is_some()
        || dialect == Dialect::OpenAiResponses && text(member)
        || dialect == Dialect::OllamaChat && text("prompt")
}

fn recognise(doc: &Doc, model: Option<&str>) -> Result<Dialect, Error> {
    let known = Call::post("http://localhost/", doc.clone()).dialect;
    if known == Dialect::AnthropicMessages {
        return Ok(known);
    }
    let named = model.map(str::to_owned).or_else(|| doc.str("model").map(Into::into)).unwrap_or_default();
    let messages = doc.elements("messages");
    // A short Anthropic request looks like an OpenAI one; the maker's own name for a model tells them apart.
    if messages.is_some() && doc.get("max_tokens").is_some() && named.starts_with("claude") {
        return Ok(Dialect::AnthropicMessages);
    }
    let has = |name: &str| doc.some(name).is_some();
    match known {
        Dialect::Opaque if doc.elements("contents").is_some() => Ok(Dialect::GeminiGenerate),
        Dialect::Opaque if has("input") && named.contains("embed") => Ok(Dialect::Embeddings),
        Dialect::Opaque if has("input") && !named.is_empty() => Ok(Dialect::OpenAiResponses),
        Dialect::Opaque if messages.is_some() => Ok(Dialect::OpenAiChat),
        Dialect::Opaque => Err(Error::bad_input(
            "the body is no request of a known API: it has no list of `messages`",
            format!("name its format with --dialect ({})", names()),
        )),
        known => Ok(known),
    }
}

/// A number of tokens on the command line.
pub(crate) fn tokens(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it is not a whole number of tokens, such as 8000".to_owned())
}

/// The names of all dialects, for messages.
pub(crate) fn names() -> String {
    Dialect::ALL.map(Dialect::name).join(", ")
}

/// A time as milliseconds since 1970-01-01 UTC: unix seconds, or ISO 8601. Without a zone it is UTC.
pub(crate) fn time(text: &str) -> Result<i64, Error> {
    let text = text.trim();
    if let Some(ms) = seconds(text).filter(|ms| *ms >= 0) {
        return Ok(ms);
    }
    let zoned = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok();
        let day = || {
            text.parse::<jiff::civil::Date>().ok().map(|day| day.to_datetime(jiff::civil::Time::midnight()))
        };
        jiff::tz::Offset::UTC.to_timestamp(civil.or_else(day)?).ok()
    });
    zoned.map(jiff::Timestamp::as_millisecond).ok_or_else(|| {
        Error::bad_input(
            format!("`{text}` is no time"),
            "write it as 2026-11-24T15:30:00Z, 2026-11-24, or in seconds since 1970",
        )
    })
}

/// Decimal seconds as whole milliseconds, read as decimals and not as floats; the rest is cut off.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    // The reader of amounts takes any decimal, at a trillionth.
    let pico = text.parse::<thrifty::price::Usd>().ok()?.pico();
    i64::try_from(pico / 1_000_000_000).ok()
}

/// The JSON text of a member that may be a string or a number, as plain text.
pub(crate) fn plain(text: &str) -> String {
    json::string(text).map_or_else(|| text.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_usual_spelling() {
        let noon = 1_795_521_600_000;
        for text in [
            "1795521600",
            "1795521600.0",
            "2026-11-24T12:00:00Z",
            "2026-11-24T12:00:00",
            "2026-11-24T13:00+01",
        ] {
            assert_eq!(time(text).unwrap(), noon, "{text}");
        }
        assert_eq!(time("2026-11-24").unwrap(), noon - 12 * 3_600_000);
        assert_eq!(seconds("5.0625").unwrap(), 5_062);
        for text in ["", "soon", "2026-13-01", "-5"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_body_is_recognised_by_what_it_holds() {
        let of = |body: &'static str| call(body, None, None).map(|call| call.dialect);
        assert_eq!(of(r#"{"model":"gpt-4o","messages":[]}"#).unwrap(), Dialect::OpenAiChat);
        assert_eq!(of(r#"{"messages":[]}"#).unwrap(), Dialect::OpenAiChat);
        assert_eq!(
            of(r#"{"model":"claude-haiku-4-5","max_tokens":9,"messages":[]}"#).unwrap(),
            Dialect::AnthropicMessages
        );
        assert_eq!(of(r#"{"model":"gpt-5","input":"hi"}"#).unwrap(), Dialect::OpenAiResponses);
        assert_eq!(of(r#"{"model":"text-embedding-3-small","input":["hi"]}"#).unwrap(), Dialect::Embeddings);
        let gemini = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
        assert_eq!(of(gemini).unwrap(), Dialect::GeminiGenerate);
        let named = call(gemini, None, Some("gemini-2.5-pro")).unwrap();
        assert_eq!(named.model().as_deref(), Some("gemini-2.5-pro"));
        assert_eq!(named.doc.bytes(), gemini, "its model stands in the path");
        for body in ["[]", "", r#"{"input":"x"}"#, "{", r#"{"messages":7}"#] {
            assert!(of(body).is_err(), "{body}");
        }
    }
}
