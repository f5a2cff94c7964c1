//! Pictures, documents and sound in every format: by the rules of the model, from the header alone.
#![expect(clippy::disallowed_methods, reason = "`json!` writes the bodies of these tests")]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use thrifty::call::Call;
use thrifty::tokens::{Accuracy, Count, count};

const GEMINI: &str = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent";

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes
}

/// 1920 x 1080, its frame header behind so many blocks of metadata of 64 KiB.
fn jpeg(blocks: usize) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    for _ in 0..blocks {
        bytes.extend([0xff, 0xe1, 0xff, 0xff]);
        bytes.extend(std::iter::repeat_n(0, 0xfffd));
    }
    bytes.extend([0xff, 0xc2, 0, 17, 8, 0x04, 0x38, 0x07, 0x80, 3]);
    bytes
}

fn found(uri: &str, body: &Value) -> Count {
    count(&Call::post(uri, body.to_string()))
}

fn claude(model: &str, data: &str) -> Count {
    let block =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}});
    found(
        "https://api.anthropic.com/v1/messages",
        &json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": [block]}]}),
    )
}

fn gemini(picture: Value, config: Value) -> Count {
    found(GEMINI, &json!({"contents": [{"role": "user", "parts": [picture]}], "generationConfig": config}))
}

fn inline(bytes: &[u8]) -> Value {
    json!({"inlineData": {"mimeType": "image/png", "data": STANDARD.encode(bytes)}})
}

#[test]
fn a_picture_costs_the_same_in_chat_and_in_responses() {
    let url = format!("data:image/png;base64,{}", STANDARD.encode(png(1024, 1024)));
    for (model, want) in [("gpt-4o", 765), ("gpt-5.5", 1229), ("o3", 675), ("gpt-5-nano", 1536)] {
        let chat = found(
            "https://api.openai.com/v1/chat/completions",
            &json!({"model": model, "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": url}}]}]}),
        );
        let responses = found(
            "https://api.openai.com/v1/responses",
            &json!({"model": model, "input": [{"role": "user", "content": [
                {"type": "input_image", "image_url": url}]}]}),
        );
        assert_eq!(chat.media, want, "{model}");
        assert_eq!((responses.media, responses.likely), (want, chat.likely), "{model}");
    }
}

#[test]
fn every_header_is_found_in_both_alphabets_of_base64() {
    let gif = b"GIF89a\x40\x01\xf0\x00\0\0".to_vec();
    let webp = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x1f\x03\0\x57\x02\0".to_vec();
    // ceil(w / 28) * ceil(h / 28)
    for (bytes, want) in [(png(1000, 1000), 1296), (jpeg(0), 2691), (jpeg(3), 2691), (gif, 108), (webp, 638)]
    {
        for data in [STANDARD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            let count = claude("claude-opus-5", &data);
            assert_eq!(count.media, want);
            assert_ne!(count.accuracy, Accuracy::UpperBound);
        }
    }
}

#[test]
fn a_broken_header_has_the_published_maximum_and_says_so() {
    let broken = ["", "AAAA", "iVBORw0KGgo", "!!!", &STANDARD.encode(&png(9, 9)[..18])].map(str::to_owned);
    for data in broken.iter().chain([&STANDARD.encode(png(0, 100)), &STANDARD.encode(jpeg(40))]) {
        let count = claude("claude-sonnet-4-5", data);
        assert_eq!(count.accuracy, Accuracy::UpperBound);
        assert!((1568..1568 + 20).contains(&count.at_most), "{}", count.at_most);
        assert!(count.likely <= count.at_most);
    }
}

#[test]
fn geminis_resolution_is_that_of_the_part_else_of_the_request() {
    let square = inline(&png(1024, 1024));
    for (level, want) in [("LOW", 256), ("MEDIUM", 529), ("HIGH", 1089), ("ULTRA_HIGH", 2209)] {
        let word = format!("MEDIA_RESOLUTION_{level}");
        assert_eq!(gemini(square.clone(), json!({"mediaResolution": word})).media, want, "{level}");
        let mut part = square.clone();
        part["mediaResolution"] = json!({"level": word});
        assert_eq!(gemini(part, json!({"mediaResolution": "MEDIA_RESOLUTION_LOW"})).media, want, "{level}");
    }
    assert_eq!(gemini(square, json!({})).media, 1089);
}

#[test]
fn pages_and_sound_follow_what_was_measured() {
    let pdf = |pages: usize| STANDARD.encode(format!("%PDF-1.4 {}", "<</Type/Page>> ".repeat(pages)));
    for pages in [1, 5, 10] {
        let part = json!({"inlineData": {"mimeType": "application/pdf", "data": pdf(pages)}});
        assert_eq!(gemini(part, json!({})).media, 560 * pages as u64);
    }
    let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    wav.extend(24_000u32.to_le_bytes());
    wav.extend(48_000u32.to_le_bytes());
    wav.resize(44 + 48_000 * 73 / 10, 0);
    let sound =
        json!({"type": "input_audio", "input_audio": {"format": "wav", "data": STANDARD.encode(wav)}});
    let count = found(
        "https://api.openai.com/v1/chat/completions",
        &json!({"model": "gpt-4o-audio-preview", "messages": [{"role": "user", "content": [sound]}]}),
    );
    assert!(
        count.media.abs_diff(73) <= 1 && count.at_most >= 73,
        "7.30 s were billed as 73 each way: {}",
        count.media
    );
}

#[test]
fn the_picture_of_an_open_model_is_bounded() {
    let body = json!({"model": "llava", "messages": [
        {"role": "user", "content": "what is it", "images": [STANDARD.encode(png(640, 480))]}]});
    let count = found("http://localhost:11434/api/chat", &body);
    assert_eq!(count.accuracy, Accuracy::UpperBound);
    assert!(count.media > 0 && count.at_most >= 10_000);
}
