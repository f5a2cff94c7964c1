//! Any URI is some format's; its model can be read, and another one put in its place or nothing changes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thrifty::call::{Call, Dialect};

const BODIES: [&str; 4] = [
    r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
    r#"{"anthropic_version":"v","max_tokens":9,"messages":[]}"#,
    r#"{"model":"models/m","requests":[{"model":"models/m","content":{"parts":[]}}]}"#,
    r#"{"contents":[]}"#,
];

fuzz_target!(|data: &[u8]| {
    let Some((&head, data)) = data.split_first() else { return };
    let body = BODIES[usize::from(head) % BODIES.len()];
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (target, model) = text.split_once('\n').unwrap_or((text, "new/model"));
    let Ok(uri) = target.parse::<http::Uri>() else { return };
    let Ok(request) = http::Request::post(uri).body(()) else { return };
    let call = Call::from_parts(request.into_parts().0, body);
    let claims = Dialect::ALL.iter().filter(|dialect| dialect.format().claims_path(call.parts.uri.path()));
    assert!(claims.count() <= 1, "one path is not two formats");
    change(call.clone(), model);
    for dialect in Dialect::ALL {
        change(Call::new(dialect, call.parts.clone(), call.doc.clone()), model);
    }
});

fn change(mut call: Call, model: &str) {
    let (uri, doc, dialect) = (call.parts.uri.clone(), call.doc.bytes().clone(), call.dialect);
    let _ = (call.model(), call.wants_stream(), call.format().key_path(&uri));
    if call.set_model(model).is_err() {
        assert_eq!((&call.parts.uri, call.doc.bytes()), (&uri, &doc), "a refused edit changes nothing");
        return;
    }
    // Google's own names may have their folder in front.
    let bare = model.strip_prefix("models/").unwrap_or(model);
    let read = call.model().expect("what was set is there");
    assert!(read == model || read == bare, "{dialect}: {model:?} was set and {read:?} is read");
    assert_eq!(call.parts.uri.query(), uri.query());
    assert_eq!((call.parts.uri.scheme(), call.parts.uri.authority()), (uri.scheme(), uri.authority()));
    if dialect.format().claims_path(uri.path()) && dialect != Dialect::AnthropicMessages {
        assert!(dialect.format().claims_path(call.parts.uri.path()), "it is the same format afterwards");
    }
    assert!(serde_json::from_slice::<serde_json::Value>(call.doc.bytes()).is_ok());
}
