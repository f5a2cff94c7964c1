//! Documents and sound.

use super::Accuracy;
use super::encoding::{Family, ModelEncoding};
use super::picture::{Rule, size};
use super::request::Profile;
use super::tally::Tally;
use crate::dialect::Source;

/// Pages an API takes at most, when the file does not tell how many it has.
const MOST_PAGES: u64 = 600;
/// Base64 characters of a document that are looked into.
const MOST_BASE64: usize = 64 << 20;

/// Tokens of a document.
pub(super) fn file(source: &Source<'_>, profile: Profile<'_>) -> Tally {
    let Source::Base64 { media_type, data } = source else {
        return pages(None, profile);
    };
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
        // Two hours: no API takes more in one request.
        return Tally::bound(60 * per_second, 7200 * per_second);
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
