//! Documents, sound and film.

use super::Accuracy;
use super::encoding::{Family, ModelEncoding};
use super::picture::{Rule, size};
use super::request::Profile;
use super::tally::Tally;
use crate::dialect::Source;

/// Pages an API takes at most, when the file does not tell how many it has.
const MOST_PAGES: u64 = 600;
/// What a Gemini model reads at most: no film costs more.
const WINDOW: u64 = 1 << 20;
/// Base64 characters of a document that are looked into.
const MOST_BASE64: usize = 64 << 20;

/// Tokens of a document.
pub(super) fn file(source: &Source<'_>, profile: Profile<'_>) -> Tally {
    let Source::Base64 { media_type, data } = source else {
        let mut count = pages(None, profile);
        if profile.model.family == Family::Gemini {
            // It may be a film.
            count.at_most = count.at_most.max(WINDOW);
        }
        return count;
    };
    if profile.model.family == Family::Gemini
        && media_type.as_deref().is_some_and(|media| media.starts_with("video/"))
    {
        return film(data, profile.picture, profile.frames);
    }
    if media_type.as_deref().is_some_and(|media| media.starts_with("text/")) {
        return plain_text(data, profile);
    }
    let bytes = size::decode_prefix(data, MOST_BASE64);
    pages(page_count(&bytes), profile)
}

/// A text document: base64 of text, or else the text itself.
fn plain_text(data: &str, profile: Profile<'_>) -> Tally {
    let bytes = size::decode_prefix(data, MOST_BASE64);
    let whole = bytes.len() * 4 + 8 > data.len() * 3;
    let decoded = String::from_utf8(bytes).ok().filter(|_| whole);
    let mut count = profile.plain(decoded.as_deref().unwrap_or(data));
    // Nothing says what a file costs beside its text.
    count.weaken(Accuracy::Calibrated);
    count.slack(count.at_most / 10 + 16);
    count
}

/// A film for Gemini, at one frame a second unless it asks for more, with its sound.
fn film(data: &str, rule: Rule, frames: u64) -> Tally {
    // 3: 70 tokens a frame, 280 at high resolution, and 32 a second of sound. Before: 263 a second in all.
    let (likely, at_most) = if rule == Rule::GeminiBudget {
        (70 * frames + 32, 280 * frames + 32)
    } else {
        (258 * frames + 5, 258 * frames + 32 + 10)
    };
    let bytes = size::decode_prefix(data, MOST_BASE64);
    match film_seconds(&bytes) {
        Some(seconds) => Tally::of(
            seconds.saturating_mul(likely).min(WINDOW),
            (seconds + 1).saturating_mul(at_most).min(WINDOW),
            Accuracy::Calibrated,
        ),
        // 1 Mbit/s is usual.
        None => Tally::bound((data.len() as u64 / 4 * 3 / 125_000 + 1) * likely, WINDOW),
    }
}

/// The most frames a second that a message asks for in any `videoMetadata`: one if it asks for none, and at most 24.
pub(super) fn frames(message: &str) -> u64 {
    const MOST: u64 = 24;
    let mut asked = 1;
    for (at, name) in message.match_indices("\"fps\"") {
        let Some(value) = message[at + name.len()..].trim_start().strip_prefix(':') else { continue };
        let value = value.trim_start().trim_start_matches('"');
        let whole: String = value.chars().take_while(char::is_ascii_digit).collect();
        let rest = value[whole.len()..].trim_start_matches(['.', '0']);
        // Anything but a plain number may be as much as there is.
        let odd = whole.is_empty() || rest.starts_with(['e', 'E', '+', '-', '\\']);
        let part = u64::from(rest.starts_with(|c: char| c.is_ascii_digit()));
        let number = whole.parse::<u64>().unwrap_or(MOST).saturating_add(part);
        // A fraction may end in an exponent.
        let tail = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let many = odd || tail.starts_with(['e', 'E']);
        asked = asked.max(if many { MOST } else { number.min(MOST) });
    }
    asked
}

/// Length of an MP4 or QuickTime film by its movie header, rounded up.
fn film_seconds(bytes: &[u8]) -> Option<u64> {
    let header = &bytes[find(bytes, b"mvhd")? + 4..];
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        Some(header.get(range)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (scale, duration) = match header.first()? {
        0 => (number(12..16)?, number(16..20)?),
        1 => (number(20..24)?, number(24..32)?),
        _ => return None,
    };
    // All ones stand for a length that is not known.
    let known = scale > 0 && duration > 0 && duration != u64::from(u32::MAX) && duration != u64::MAX;
    known.then(|| duration.div_ceil(scale))
}

fn pages(found: Option<u64>, profile: Profile<'_>) -> Tally {
    let (model, rule) = (profile.model, profile.picture);
    let picture = rule.unknown_size(None).at_most;
    // Likely and at most for one page: its text, and a picture of it.
    let (likely, at_most, accuracy) = match model.family {
        Family::ClaudeNew => (2321, 3000 + picture, Accuracy::Calibrated),
        Family::ClaudeOld => (2096, 3000 + picture, Accuracy::Calibrated),
        Family::Gemini if rule == Rule::Gemini25 => (256 + 500, 256 + 3000, Accuracy::Calibrated),
        // Pages of text, tables and scans alike were billed 560; twice that at high resolution.
        Family::Gemini => (560, 1120, Accuracy::Formula),
        _ => (2000, 3000 + picture, Accuracy::UpperBound),
    };
    match found {
        Some(n) => Tally::of(n * likely, n * at_most, accuracy),
        None => Tally::bound(likely, MOST_PAGES * at_most),
    }
}

/// Pages of a PDF whose page tree stands in the open; `None` for any other file.
fn page_count(bytes: &[u8]) -> Option<u64> {
    // Object streams are compressed, and may hold pages that are not seen.
    if !bytes.starts_with(b"%PDF") || find(bytes, b"/ObjStm").is_some() {
        return None;
    }
    let (mut pages, mut rest) = (0u64, bytes);
    while let Some(at) = find(rest, b"/Type") {
        rest = &rest[at + 5..];
        let after = rest.trim_ascii_start();
        if let Some(next) = after.strip_prefix(b"/Page") {
            pages += u64::from(!next.first().is_some_and(u8::is_ascii_alphanumeric));
        }
    }
    (pages > 0).then_some(pages)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let (&first, tail) = what.split_first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == first) {
        if bytes[from + at + 1..].starts_with(tail) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Tokens of sound put in: 10 a second for OpenAI, 32 for Gemini.
pub(super) fn audio(source: &Source<'_>, model: ModelEncoding) -> Tally {
    let per_second = if model.family == Family::Gemini { 32 } else { 10 };
    let Source::Base64 { data, .. } = source else {
        // Gemini takes 9.5 hours of sound in a prompt; no other API takes two hours.
        let longest = if model.family == Family::Gemini { 34_200 } else { 7200 };
        return Tally::bound(60 * per_second, longest * per_second);
    };
    let bytes = data.len() as u64 / 4 * 3;
    match wav_rate(&size::decode_prefix(data, 256)) {
        Some(rate) if model.family == Family::OpenAi => {
            let likely = (bytes.saturating_sub(44) * per_second) / rate;
            Tally::of(likely, likely + 1, Accuracy::Formula)
        }
        Some(rate) => Tally::bound(bytes * per_second / rate, bytes * per_second / rate + 1),
        // Compressed: 128 kbit/s is usual, less than 8 kbit/s is not.
        None => Tally::bound((bytes * per_second).div_ceil(16_000), (bytes * per_second).div_ceil(1000)),
    }
}

/// Bytes a second of an uncompressed WAV file.
fn wav_rate(head: &[u8]) -> Option<u64> {
    let wav = head.starts_with(b"RIFF") && head.get(8..16)? == b"WAVEfmt ";
    let rate: [u8; 4] = head.get(28..32)?.try_into().ok()?;
    wav.then(|| u64::from(u32::from_le_bytes(rate))).filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::call::Dialect;
    use crate::tokens::Encoding;

    fn base64(bytes: &[u8]) -> Source<'static> {
        Source::Base64 { media_type: None, data: STANDARD.encode(bytes).into() }
    }

    fn file_for(model: &str, source: &Source<'_>) -> Tally {
        file(source, Profile::new(Dialect::OpenAiChat, model))
    }

    #[test]
    fn pages_that_can_be_seen_are_counted() {
        let pdf =
            base64(b"%PDF-1.4 1 0 obj<</Type /Pages/Count 2>> <</Type/Page>> <</Type /Page /Parent 1 0 R>>");
        let count = file_for("claude-opus-5", &pdf);
        assert_eq!((count.likely, count.accuracy), (2 * 2321, Accuracy::Calibrated));
        assert_eq!(file_for("gemini-3-pro", &pdf).likely, 1120);
        assert_eq!(file_for("gpt-5.5", &pdf).accuracy, Accuracy::UpperBound);
    }

    #[test]
    fn a_document_that_cannot_be_seen_has_the_apis_limit() {
        for source in [base64(b"%PDF-1.7 /ObjStm /Type/Page"), base64(b""), Source::Id("file-1".into())] {
            let count = file_for("claude-opus-5", &source);
            assert_eq!(count.accuracy, Accuracy::UpperBound);
            assert_eq!(count.at_most, MOST_PAGES * (3000 + 4784));
        }
    }

    #[test]
    fn a_film_is_counted_by_the_length_in_its_header() {
        let film = |version: u8, seconds: u32| {
            let mut mp4 = b"\0\0\0\x18ftypisom\0\0\0\0isom\0\0\x01\0moov\0\0\0\x6cmvhd".to_vec();
            mp4.extend([version, 0, 0, 0]);
            let wide = if version == 1 { 8 } else { 4 };
            mp4.extend(vec![0; 2 * wide]);
            mp4.extend(1000u32.to_be_bytes());
            mp4.extend(vec![0; wide - 4]);
            mp4.extend((seconds * 1000).to_be_bytes());
            Source::Base64 { media_type: Some("video/mp4".into()), data: STANDARD.encode(mp4).into() }
        };
        for version in [0, 1] {
            let newer = file(&film(version, 90), Profile::new(Dialect::GeminiGenerate, "gemini-3-pro"));
            assert_eq!(
                (newer.likely, newer.accuracy),
                (90 * (70 + 32), Accuracy::Calibrated),
                "version {version}"
            );
            let older = file(&film(version, 90), Profile::new(Dialect::GeminiGenerate, "gemini-2.0-flash"));
            assert_eq!(older.likely, 90 * 263);
            assert!(older.at_most >= older.likely && newer.at_most >= 91 * (280 + 32));
        }
        let gemini = Profile::new(Dialect::GeminiGenerate, "gemini-3-pro");
        let broken = Source::Base64 { media_type: Some("video/mp4".into()), data: "AAAA".into() };
        for source in [broken, Source::Url("https://a.example/film.mp4".into()), film(0, 0), film(9, 5)] {
            let count = file(&source, gemini);
            assert_eq!((count.at_most, count.accuracy), (WINDOW, Accuracy::UpperBound));
        }
    }

    #[test]
    fn sound_is_counted_by_its_length() {
        // 24 kHz, 16 bit, mono, 5.85 s: billed as 58.
        let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend(24_000u32.to_le_bytes());
        wav.extend(48_000u32.to_le_bytes());
        wav.resize(44 + 280_800, 0);
        let count = audio(&base64(&wav), Encoding::for_model("gpt-4o-audio-preview"));
        assert_eq!((count.likely, count.accuracy), (58, Accuracy::Formula));
        let mp3 = audio(&base64(&[0xff; 16_000]), Encoding::for_model("gpt-4o-audio-preview"));
        assert_eq!(mp3.accuracy, Accuracy::UpperBound);
        assert!(mp3.at_most >= 160);
    }
}
