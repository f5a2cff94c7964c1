//! Any bytes as a picture, document or sound: a count within the model's maximum, read from the front alone.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use thrifty::call::Call;
use thrifty::tokens::{Accuracy, Counter, count};

const STARTS: [&[u8]; 7] =
    [b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"%PDF-", b"RIFF\0\0\0\0WAVEfmt "];
const MODELS: [(&str, u64); 6] = [
    ("gpt-4o", 1445),
    ("gpt-4o-mini", 48_169),
    ("gpt-6", 36_001),
    ("claude-opus-5", 4784),
    ("claude-sonnet-4-5", 1568),
    ("gemini-3-pro", 2240),
];

fuzz_target!(|data: &[u8]| {
    let [start, model, detail, rest @ ..] = data else { return };
    let bytes = [STARTS[usize::from(*start) % STARTS.len()], rest].concat();
    // One in four is base64 as it comes, broken or not.
    let base64 = match detail % 4 {
        0 => String::from_utf8_lossy(rest).replace(['"', '\\'], "").chars().filter(|c| !c.is_control()).collect(),
        _ => STANDARD.encode(&bytes),
    };
    let (model, most) = MODELS[usize::from(*model) % MODELS.len()];
    let detail = ["auto", "low", "high", "original"][usize::from(*detail / 4) % 4];
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{base64}","detail":"{detail}"}}}}]}}]}}"#
    );
    let call = Call::post("https://a.example/v1/chat/completions", body);
    let found = count(&call);
    assert!(found.likely <= found.at_most);
    assert!(found.at_most <= most + 16, "{model}: {} tokens", found.at_most);
    assert_eq!(Counter::default().count(&call), found);

    for part in [
        format!(r#"{{"type":"file","file":{{"file_data":"data:application/pdf;base64,{base64}"}}}}"#),
        format!(r#"{{"type":"input_audio","input_audio":{{"format":"wav","data":"{base64}"}}}}"#),
    ] {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":[{part}]}}]}}"#);
        let found = count(&Call::post("https://a.example/v1/chat/completions", body));
        assert!(found.likely <= found.at_most && found.accuracy > Accuracy::Exact);
    }
});
