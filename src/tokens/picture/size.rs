//! Width and height of a picture from its header, decoding only as much base64 as that takes.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Base64 characters looked at first; enough for all but JPEG with large metadata.
const FIRST: usize = 1024;
/// And at most: a JPEG's frame header may lie behind several blocks of metadata of 64 KiB each.
const MOST: usize = 1 << 20;

/// The first `limit` characters of base64 text as bytes, white space left out; what is broken ends them.
pub(in crate::tokens) fn decode_prefix(data: &str, limit: usize) -> Vec<u8> {
    let mut clean: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).take(limit).collect();
    for byte in &mut clean {
        // The URL-safe alphabet is met too.
        *byte = match *byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
    }
    let good = clean.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"+/".contains(byte));
    clean.truncate(good.unwrap_or(clean.len()));
    if clean.len() % 4 == 1 {
        clean.pop();
    }
    LENIENT.decode(&clean).unwrap_or_default()
}

/// Width and height in pixels, both above 0; `None` when the header cannot be read.
pub(in crate::tokens) fn of_base64(data: &str) -> Option<(u64, u64)> {
    let head = decode_prefix(data, FIRST);
    let size = of_bytes(&head).or_else(|| {
        let jpeg = head.starts_with(&[0xff, 0xd8]) && data.len() > FIRST;
        jpeg.then(|| of_bytes(&decode_prefix(data, MOST))).flatten()
    });
    size.filter(|(width, height)| *width > 0 && *height > 0)
}

fn of_bytes(bytes: &[u8]) -> Option<(u64, u64)> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => {
            (bytes.get(12..16)? == b"IHDR").then_some(())?;
            Some((big(bytes.get(16..20)?), big(bytes.get(20..24)?)))
        }
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => {
            Some((little(bytes.get(6..8)?), little(bytes.get(8..10)?)))
        }
        [0xff, 0xd8, ..] => jpeg(bytes),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(bytes),
        _ => None,
    }
}

/// The first start-of-frame segment.
fn jpeg(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut at = 2;
    loop {
        if *bytes.get(at)? != 0xff {
            return None;
        }
        let kind = *bytes.get(at + 1)?;
        match kind {
            // A fill byte, and segments without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xc0..=0xcf if !matches!(kind, 0xc4 | 0xc8 | 0xcc) => {
                return Some((big(bytes.get(at + 7..at + 9)?), big(bytes.get(at + 5..at + 7)?)));
            }
            0xd9 | 0xda => return None,
            _ => {
                let length = big(bytes.get(at + 2..at + 4)?);
                at += 2 + usize::try_from(length).ok().filter(|length| *length >= 2)?;
            }
        }
    }
}

fn webp(bytes: &[u8]) -> Option<(u64, u64)> {
    match bytes.get(12..16)? {
        b"VP8 " => {
            (bytes.get(23..26)? == [0x9d, 0x01, 0x2a]).then_some(())?;
            Some((little(bytes.get(26..28)?) & 0x3fff, little(bytes.get(28..30)?) & 0x3fff))
        }
        b"VP8L" => {
            (*bytes.get(20)? == 0x2f).then_some(())?;
            let bits = little(bytes.get(21..25)?);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => Some((little(bytes.get(24..27)?) + 1, little(bytes.get(27..30)?) + 1)),
        _ => None,
    }
}

fn big(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes
    }

    fn jpeg_with_metadata(blocks: usize) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8];
        for _ in 0..blocks {
            bytes.extend([0xff, 0xe1, 0xff, 0xff]);
            bytes.extend(std::iter::repeat_n(0, 0xfffd));
        }
        bytes.extend([0xff, 0xc2, 0, 17, 8, 0x04, 0x38, 0x07, 0x80, 3]);
        bytes
    }

    #[test]
    fn each_format_tells_its_size() {
        let gif = b"GIF89a\x40\x01\xf0\x00\0\0".to_vec();
        let lossy = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x20\x03\x58\x02".to_vec();
        let mut lossless = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f".to_vec();
        lossless.extend(((800u32 - 1) | (600 - 1) << 14).to_le_bytes());
        let extended = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x1f\x03\0\x57\x02\0".to_vec();
        for (bytes, size) in [
            (png(4032, 3024), (4032, 3024)),
            (gif, (320, 240)),
            (jpeg_with_metadata(0), (1920, 1080)),
            (jpeg_with_metadata(3), (1920, 1080)),
            (lossy, (800, 600)),
            (lossless, (800, 600)),
            (extended, (800, 600)),
        ] {
            assert_eq!(of_base64(&STANDARD.encode(&bytes)), Some(size));
        }
    }

    #[test]
    fn a_size_of_zero_or_a_cut_header_is_no_size() {
        assert_eq!(of_base64(&STANDARD.encode(png(0, 5))), None);
        assert_eq!(of_base64(&STANDARD.encode(&png(7, 5)[..20])), None);
        assert_eq!(of_base64("not base64!"), None);
        assert_eq!(of_base64(""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            start in prop::sample::select(vec![&b"\xff\xd8"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b""]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = of_base64(&STANDARD.encode([start, &rest].concat()));
        }
    }
}
