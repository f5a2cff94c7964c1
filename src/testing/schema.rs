//! Some JSON that fits a JSON schema.

use super::words::Rng;
use crate::call::json::{self, Object};

/// Some JSON that fits the common part of a JSON schema: types, properties, items, enums, references into the schema
/// itself, the first of several choices. Types may be spelled in capitals, as Gemini does.
pub(super) fn instance(schema: Option<&str>, rng: &mut Rng) -> String {
    let root = schema.and_then(Object::parse).unwrap_or_default();
    build(schema, &root, rng, 0)
}

fn build(schema: Option<&str>, root: &Object<'_>, rng: &mut Rng, depth: usize) -> String {
    let words = |rng: &mut Rng| format!("\"{} {}\"", rng.word(), rng.word());
    let Some(schema) = schema.and_then(Object::parse).filter(|_| depth < 16) else { return words(rng) };
    if let Some(value) = schema.get("const") {
        return value.to_owned();
    }
    if let Some(first) = first_of(&schema, "enum") {
        return first.to_owned();
    }
    if let Some(target) = schema.str("$ref").and_then(|path| follow(root, &path)) {
        return build(Some(target), root, rng, depth + 1);
    }
    let one = ["anyOf", "oneOf", "allOf"].iter().find_map(|name| first_of(&schema, name));
    if one.is_some() {
        return build(one, root, rng, depth + 1);
    }
    let kind = schema.str("type").or_else(|| first_of(&schema, "type").and_then(json::string));
    match kind.map(|kind| kind.to_ascii_lowercase()).as_deref() {
        Some("integer" | "number") => (rng.next() % 100).to_string(),
        Some("boolean") => (rng.next().is_multiple_of(2)).to_string(),
        Some("null") => "null".to_owned(),
        Some("array") => format!("[{}]", build(schema.get("items"), root, rng, depth + 1)),
        Some("string") => words(rng),
        _ if schema.get("properties").is_none() && depth > 0 => words(rng),
        _ => {
            let mut out = String::from("{");
            let properties = schema.object("properties").unwrap_or_default();
            for (name, schema) in properties.iter() {
                if out.len() > 1 {
                    out.push(',');
                }
                out.push_str(&json::quote(name));
                out.push(':');
                out.push_str(&build(Some(schema), root, rng, depth + 1));
            }
            if properties.is_empty() {
                out.push_str("\"answer\":");
                out.push_str(&words(rng));
            }
            out.push('}');
            out
        }
    }
}

fn first_of<'a>(schema: &Object<'a>, name: &str) -> Option<&'a str> {
    schema.elements(name)?.first().copied()
}

/// The part of the schema that `#/a/b` names.
fn follow<'a>(root: &Object<'a>, path: &str) -> Option<&'a str> {
    let (parents, last) = path.strip_prefix("#/")?.rsplit_once('/')?;
    let mut at = root.clone();
    for name in parents.split('/') {
        at = at.object(name)?;
    }
    at.get(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_choices_and_capitals_are_understood() {
        let schema = r##"{"type":"OBJECT","properties":{"at":{"$ref":"#/$defs/Place"},"n":{"anyOf":[{"type":"INTEGER"},{"type":"null"}]}},
            "$defs":{"Place":{"type":"object","properties":{"kind":{"const":"place"},"open":{"type":["boolean","null"]}}}}}"##;
        let made = instance(Some(schema), &mut Rng::new(&[7; 32], 0));
        let made = Object::parse(&made).expect("an object");
        let place = made.object("at").expect("what was referred to");
        assert_eq!((place.str("kind").as_deref(), place.bool("open").is_some()), (Some("place"), true));
        assert!(made.u64("n").is_some());
        assert!(Object::parse(&instance(Some("{}"), &mut Rng::new(&[7; 32], 0))).is_some());
    }
}
