//! A body is given back as it came; an edit changes one member and leaves a body that can be read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thrifty::call::{Doc, Element, json};

fuzz_target!(|data: &[u8]| {
    let doc = Doc::new(data.to_vec());
    let members: Vec<(String, String)> =
        doc.members().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(doc.bytes(), data, "reading changes nothing");
    assert_eq!(doc.clone().into_bytes(), data);
    let parsed = serde_json::from_slice::<serde_json::Value>(data);
    if doc.trouble().is_none() {
        assert!(std::str::from_utf8(data).is_ok());
    }
    if let (true, Ok(parsed)) = (doc.is_editable(), &parsed) {
        assert_eq!(parsed.as_object().map(|object| object.len()), Some(members.len()));
    }
    for name in members.iter().map(|(name, _)| name.as_str()).chain(["model"]) {
        let mut edited = doc.clone();
        if edited.set(name, r#""new""#).is_ok() {
            assert_eq!(edited.str(name).as_deref(), Some("new"));
            others_stay(&members, &edited, name);
            assert!(edited.is_editable(), "an edited body can be edited again");
        } else {
            assert_eq!(edited.bytes(), data, "a refused edit changes nothing");
        }
        let mut removed = doc.clone();
        match removed.remove(name) {
            Ok(true) => {
                assert_eq!(removed.get(name), None);
                others_stay(&members, &removed, name);
            }
            Ok(false) | Err(_) => assert_eq!(removed.bytes(), data),
        }
        elements(&doc, name);
    }
});

fn others_stay(members: &[(String, String)], edited: &Doc, except: &str) {
    for (name, value) in members.iter().filter(|(name, _)| name != except) {
        assert_eq!(edited.get(name), Some(value.as_str()), "the others stay");
    }
}

fn elements(doc: &Doc, name: &str) {
    let Some(all) = doc.elements(name) else { return };
    let mut edited = doc.clone();
    let change = |at: usize, _: &str| match at % 3 {
        0 => Element::Drop,
        1 => Element::Replace("{}".into()),
        _ => Element::Keep,
    };
    if edited.edit_elements(name, change).is_ok() {
        let kept: Vec<&str> = all
            .iter()
            .enumerate()
            .filter(|(at, _)| at % 3 != 0)
            .map(|(at, element)| if at % 3 == 1 { "{}" } else { element })
            .collect();
        assert_eq!(edited.get(name).and_then(json::elements), Some(kept));
    }
}
