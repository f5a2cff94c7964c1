//! One key for all spellings of a body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use thrifty::cache::{Keyer, Secret, differences, digest};
use thrifty::call::{Call, Scope};

fuzz_target!(|data: &[u8]| {
    let plain = digest(data, &[]);
    let _ = differences(data, data, &["a/*/b"]);
    let mut spaced = b" \n".to_vec();
    spaced.extend_from_slice(data);
    spaced.extend_from_slice(b"\t ");
    assert_eq!(plain.is_ok(), digest(&spaced, &[]).is_ok());
    if let Ok(plain) = plain {
        assert_eq!(Ok(plain), digest(&spaced, &[]), "spaces around are nothing");
        // Another reader agrees that this is JSON, and what it writes has the same digest. Its numbers are f64, so
        // only whole numbers are compared.
        if let Ok(value) = serde_json::from_slice::<Value>(data)
            && whole_numbers(&value)
        {
            assert_eq!(Ok(plain), digest(value.to_string().as_bytes(), &[]), "one spelling or another");
            assert_eq!(Ok(plain), digest(format!("{value:#}").as_bytes(), &[]));
        }
    }
    let _ = digest(data, &["a/*/b", "stream", "messages/*/content/*/cache_control"]);
    let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
    let call = Call::post("https://api.openai.com/v1/chat/completions", data.to_vec());
    let key = keyer.key(&call, &Scope::credential(), &[]);
    if key.is_ok() {
        assert!(plain.is_ok(), "a body with a key has a digest");
    }
});

fn whole_numbers(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_u64() || number.is_i64(),
        Value::Array(all) => all.iter().all(whole_numbers),
        Value::Object(all) => all.values().all(whole_numbers),
        _ => true,
    }
}
