//! Promise: bytes that were not edited go out as they came in.

use proptest::prelude::*;
use thrifty::call::{Call, Dialect, Doc, Element, Trouble};

/// JSON text in arbitrary spelling: spaces anywhere, numbers no float can hold, escapes that need not be.
fn json(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        "\"([a-zé漢 ,:\\[\\]{}]|\\\\n|\\\\\"|\\\\u00e9|\\\\/){0,12}\"",
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        let spaced = ("[ \n\t]{0,2}", inner, "[ \n]{0,2}").prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        prop_oneof![
            prop::collection::vec(spaced.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(("\"[a-d]{1,2}\"", spaced), 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                format!("{{{}}}", members.join(" , "))
            }),
        ]
    })
    .boxed()
}

/// The members of an object, each with its own spelling and the spaces around it.
fn object() -> impl Strategy<Value = (Vec<(String, String)>, String)> {
    let member = ("[ \n]{0,2}", "[ ]{0,1}", json(3), "[ \n]{0,2}");
    prop::collection::vec(member, 1..6).prop_map(|members| {
        let mut parts = Vec::new();
        let mut text = Vec::new();
        for (i, (before, middle, value, after)) in members.into_iter().enumerate() {
            let name = format!("m{i}");
            text.push(format!("{before}\"{name}\"{middle}:{middle}{value}{after}"));
            parts.push((name, value));
        }
        (parts, format!("{{{}}}", text.join(",")))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_unedited_doc_returns_identical_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), text in json(4)) {
        for source in [bytes, text.into_bytes()] {
            let doc = Doc::new(source.clone());
            let _ = (doc.trouble(), doc.get("a"), doc.elements("b"), doc.members().count());
            prop_assert_eq!(doc.into_bytes(), source);
        }
    }

    #[test]
    fn an_edit_of_one_member_changes_no_other_byte((members, source) in object(), at in any::<prop::sample::Index>()) {
        let (name, value) = &members[at.index(members.len())];
        let mut doc = Doc::new(source.clone());
        doc.set(name, "{\"new\":1}").unwrap();
        let edited = String::from_utf8(doc.bytes().to_vec()).unwrap();
        // The edited text is the source with this one value replaced where it stood.
        let start = source.find(&format!("\"{name}\"")).unwrap();
        let from = start + source[start..].find(':').unwrap() + 1;
        let from = from + (source[from..].len() - source[from..].trim_start_matches([' ', '\n', '\t']).len());
        let trimmed = value.trim();
        let want = format!("{}{}{}", &source[..from], "{\"new\":1}", &source[from + trimmed.len()..]);
        prop_assert_eq!(edited, want);
        for (other, value) in &members {
            if other != name {
                prop_assert_eq!(doc.get(other), Some(value.trim()));
            }
        }
    }

    #[test]
    fn removing_a_member_keeps_the_others((members, source) in object(), at in any::<prop::sample::Index>()) {
        let gone = at.index(members.len());
        let mut doc = Doc::new(source);
        prop_assert!(doc.remove(&members[gone].0).unwrap());
        prop_assert_eq!(doc.trouble(), None, "what is left is one JSON object");
        for (i, (name, value)) in members.iter().enumerate() {
            prop_assert_eq!(doc.get(name), (i != gone).then_some(value.trim()));
        }
    }

    #[test]
    fn elements_that_stay_keep_their_bytes(items in prop::collection::vec((json(2), any::<bool>()), 0..6)) {
        let texts: Vec<_> = items.iter().map(|(text, _)| format!(" {text}\n")).collect();
        let mut doc = Doc::new(format!("{{\"a\":1,\"m\":[{}],\"z\":2}}", texts.join(",")));
        doc.edit_elements("m", |i, _| if items[i].1 { Element::Keep } else { Element::Drop }).unwrap();
        let kept: Vec<_> = items.iter().filter(|(_, keep)| *keep).map(|(text, _)| text.trim()).collect();
        prop_assert_eq!(doc.elements("m").unwrap(), kept);
        prop_assert_eq!((doc.get("a"), doc.get("z")), (Some("1"), Some("2")));
    }
}

#[test]
fn what_is_not_understood_is_opaque_and_untouched() {
    let deep = format!("{{\"model\":\"m\",\"messages\":{}1{}}}", "[".repeat(129), "]".repeat(129));
    let large = format!("{{\"model\":\"m\",\"messages\":[],\"x\":\"{}\"}}", "a".repeat(Doc::MAX_BYTES));
    for (body, trouble) in [
        ("not json".to_owned(), Trouble::NotAnObject { line: 1, column: 2 }),
        ("[1,2]".to_owned(), Trouble::NotAnObject { line: 1, column: 0 }),
        (deep, Trouble::TooDeep),
        (large.clone(), Trouble::TooLarge { len: large.len() }),
    ] {
        let call = Call::post("http://127.0.0.1/v1/chat/completions", body.clone());
        assert_eq!(call.dialect, Dialect::Opaque);
        let found = call.doc.trouble().expect("the body cannot be looked into");
        assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&trouble), "{found}");
        assert_eq!(call.into_request().into_body(), body, "a body that is not understood was changed");
    }
}
