//! Every format reads any request; an edit that is refused changes nothing, one that is not can be read back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thrifty::call::{Call, Dialect};
use thrifty::dialect::CapField;

const PATHS: [&str; 8] = [
    "http://h/v1/chat/completions",
    "http://h/v1/messages",
    "http://h/v1/responses",
    "http://h/v1beta/models/m:generateContent?key=k",
    "http://h/api/chat",
    "http://h/v1beta/models/m:batchEmbedContents",
    "http://h/openai/deployments/d/embeddings?api-version=1",
    "http://h/nobody/knows",
];

fuzz_target!(|data: &[u8]| {
    let Some((&head, data)) = data.split_first() else { return };
    let uri = PATHS[usize::from(head) % PATHS.len()];
    let call = Call::post(uri, data.to_vec());
    read(&call);
    for dialect in Dialect::ALL {
        let call = Call::new(dialect, call.parts.clone(), call.doc.clone());
        read(&call);
        edit(call, data);
    }
});

fn read(call: &Call) {
    let format = call.format();
    let prompt = format.prompt(call);
    if let Some(elements) = format.messages_member().and_then(|name| call.doc.elements(name)) {
        let raws: Vec<&str> = prompt.messages.iter().map(|message| message.raw).collect();
        assert!(elements.is_empty() || raws.starts_with(&elements), "one message for each element, in order");
    }
    for message in &prompt.messages {
        let _ = (message.calls().count(), message.results().count(), format.has_cache_mark(message.raw));
        if let Some(cleared) = format.clear_tool_results(message.raw, "gone") {
            assert!(serde_json::from_str::<serde_json::Value>(&cleared).is_ok());
        }
    }
    let _ = (format.bypass(call), format.model(call), format.wants_stream(call), format.stream_shape(call));
    assert!(format.choices(call) >= 1 && format.cap_floor(call) >= 1);
}

fn edit(mut call: Call, data: &[u8]) {
    let format = call.format();
    if format.set_cap(&mut call, 4096, CapField::Auto).is_ok() {
        assert_eq!(format.cap(&call), Some(4096));
    } else {
        assert_eq!(call.doc.bytes(), data);
    }
    let (before, uri) = (call.doc.bytes().clone(), call.parts.uri.clone());
    if call.set_model("other/model").is_ok() {
        assert_eq!(call.model().as_deref(), Some("other/model"));
    } else {
        assert_eq!((call.doc.bytes(), &call.parts.uri), (&before, &uri));
    }
    format.ask_for_usage(&mut call);
}
