//! Tool definitions as OpenAI's models read them: TypeScript-like text in one of two layouts.

use std::borrow::Cow;

use crate::call::json::{self, Object};
use crate::dialect::Tool;

/// How the text is laid out. Two sets of billed numbers exist, and each fits one layout only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Indented, one property a line, descriptions of top-level properties only.
    Of2023,
    /// Not indented, short objects in one line, descriptions at every depth.
    Of2024,
}

/// Schemas nested deeper than this are not rendered further.
const DEEPEST: usize = 32;

/// Words of a schema that billed numbers cover, or that are known to cost nothing.
const KNOWN: [&str; 8] =
    ["type", "properties", "required", "description", "items", "enum", "anyOf", "additionalProperties"];

/// The text of these tools, and whether each word of their schemas is one that billed numbers cover.
pub(super) fn render<'a>(tools: impl Iterator<Item = &'a Tool<'a>>, layout: Layout) -> (String, bool) {
    let mut writer = Writer { layout, out: String::from("namespace functions {\n\n"), known: true, level: 0 };
    for tool in tools {
        writer.tool(tool);
    }
    writer.out.push_str("} // namespace functions");
    (writer.out, writer.known)
}

/// JSON text without the white space between its values.
pub(super) fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            if in_string {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => in_string = false,
                    _ => {}
                }
                return true;
            }
            in_string = *c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

fn described<'a>(property: Option<&Object<'a>>) -> Option<Cow<'a, str>> {
    property.and_then(|property| property.str("description"))
}

struct Writer {
    layout: Layout,
    out: String,
    known: bool,
    /// Schemas around the one being written, arrays and unions included.
    level: usize,
}

impl Writer {
    fn tool(&mut self, tool: &Tool<'_>) {
        if let Some(text) = tool.description.as_deref().filter(|text| !text.is_empty()) {
            self.comment(text);
        }
        self.out.push_str("type ");
        self.out.push_str(&tool.name);
        self.out.push_str(" = (");
        let schema = tool.parameters.and_then(Object::parse);
        if tool.parameters.is_some() && schema.is_none() {
            self.known = false;
        }
        if let Some(schema) = schema {
            self.check(&schema);
            if schema.object("properties").is_some_and(|properties| !properties.is_empty()) {
                self.out.push_str("_: ");
                self.object(&schema, 0);
            }
        }
        self.out.push_str(") => any;\n\n");
    }

    fn comment(&mut self, text: &str) {
        self.out.push_str("// ");
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn check(&mut self, schema: &Object<'_>) {
        self.known &= schema.iter().all(|(name, _)| KNOWN.contains(&name));
    }

    fn object(&mut self, schema: &Object<'_>, depth: usize) {
        let properties: Vec<_> = match schema.object("properties") {
            Some(properties) => {
                properties.iter().map(|(name, text)| (name.to_owned(), Object::parse(text))).collect()
            }
            None => Vec::new(),
        };
        let required: Vec<_> =
            schema.elements("required").unwrap_or_default().into_iter().filter_map(json::string).collect();
        let inline = self.layout == Layout::Of2024
            && properties.iter().all(|(_, property)| described(property.as_ref()).is_none());
        let indent = match self.layout {
            Layout::Of2023 => 2 * depth,
            Layout::Of2024 => 0,
        };
        self.out.push_str(if inline { "{ " } else { "{\n" });
        for (i, (name, property)) in properties.iter().enumerate() {
            if let Some(text) =
                described(property.as_ref()).filter(|_| self.layout == Layout::Of2024 || depth == 0)
            {
                self.pad(indent);
                self.comment(&text);
            }
            self.pad(if inline { 0 } else { indent });
            self.out.push_str(name);
            self.out.push_str(if required.iter().any(|one| one == name) { ": " } else { "?: " });
            match property {
                Some(property) => self.value(property, depth + 1),
                None => {
                    self.known = false;
                    self.out.push_str("any");
                }
            }
            let last = i + 1 == properties.len();
            self.out.push_str(match self.layout {
                Layout::Of2023 => ",\n",
                Layout::Of2024 if inline => {
                    if last {
                        " "
                    } else {
                        ", "
                    }
                }
                Layout::Of2024 => {
                    if last {
                        "\n"
                    } else {
                        ",\n"
                    }
                }
            });
        }
        if properties.is_empty() && self.layout == Layout::Of2023 {
            self.out.push('\n');
        }
        self.out.push('}');
    }

    fn pad(&mut self, columns: usize) {
        self.out.extend(std::iter::repeat_n(' ', columns));
    }

    fn value(&mut self, schema: &Object<'_>, depth: usize) {
        if self.level == DEEPEST {
            self.known = false;
            self.out.push_str("any");
            return;
        }
        self.level += 1;
        self.choice(schema, depth);
        self.level -= 1;
    }

    fn choice(&mut self, schema: &Object<'_>, depth: usize) {
        self.check(schema);
        if let Some(values) = schema.elements("enum") {
            return self.joined(&values, |writer, value| writer.out.push_str(&compact(value)));
        }
        if let Some(value) = schema.get("const").filter(|_| self.layout == Layout::Of2024) {
            return self.out.push_str(&compact(value));
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(choices) = schema.elements(word) {
                return self.joined(&choices, |writer, choice| match Object::parse(choice) {
                    Some(choice) => writer.value(&choice, depth),
                    None => writer.out.push_str("any"),
                });
            }
        }
        if let Some(types) = schema.elements("type") {
            self.known = false;
            let names: Vec<_> = types.into_iter().filter_map(json::string).collect();
            return self.joined(&names, |writer, name| writer.of_type(name, schema, depth));
        }
        let name = schema.str("type");
        self.of_type(name.as_deref().unwrap_or_default(), schema, depth);
    }

    fn joined<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Self, &T)) {
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                self.out.push_str(" | ");
            }
            write(self, value);
        }
    }

    fn of_type(&mut self, name: &str, schema: &Object<'_>, depth: usize) {
        match name {
            "string" | "number" | "boolean" | "null" => self.out.push_str(name),
            "integer" => self.out.push_str("number"),
            "array" => {
                match schema.object("items") {
                    Some(items) => self.value(&items, depth),
                    None => self.out.push_str("any"),
                }
                self.out.push_str("[]");
            }
            "object" => self.object(schema, depth),
            _ if schema.some("properties").is_some() => self.object(schema, depth),
            _ => self.out.push_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(parameters: &str) -> Tool<'_> {
        Tool {
            raw: "{}",
            name: "f".into(),
            description: Some("does".into()),
            parameters: Some(parameters),
            hosted: false,
        }
    }

    #[test]
    fn both_layouts_are_written_as_published() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"object","description":"d","properties":
            {"b":{"type":"string","enum":["x","y"]},"c":{"type":"integer"}}},"e":{"type":"array"}},"required":["a"]}"#;
        let tools = [tool(schema)];
        let (text, known) = render(tools.iter(), Layout::Of2023);
        assert!(known);
        assert_eq!(
            text,
            "namespace functions {\n\n// does\ntype f = (_: {\n// d\na: {\n  b?: \"x\" | \"y\",\n  c?: number,\n},\n\
             e?: any[],\n}) => any;\n\n} // namespace functions"
        );
        let (text, _) = render(tools.iter(), Layout::Of2024);
        assert_eq!(
            text,
            "namespace functions {\n\n// does\ntype f = (_: {\n// d\na: { b?: \"x\" | \"y\", c?: number },\n\
             e?: any[]\n}) => any;\n\n} // namespace functions"
        );
    }

    #[test]
    fn words_no_billed_number_covers_are_noticed() {
        for schema in [
            r#"{"type":"object","properties":{"a":{"$ref":"x"}}}"#,
            r#"{"type":"object","properties":{"a":{"type":["string","null"]}}}"#,
            r#"{"type":"object","properties":{"a":{"type":"string","format":"date"}}}"#,
            "7",
        ] {
            assert!(!render([tool(schema)].iter(), Layout::Of2024).1, "{schema}");
        }
        let deep = r#"{"type":"array","items":"#.repeat(60) + "{}" + &"}".repeat(60);
        let schema = format!(r#"{{"properties":{{"a":{deep}}}}}"#);
        assert!(!render([tool(&schema)].iter(), Layout::Of2024).1);
    }

    #[test]
    fn compact_json_keeps_the_spaces_inside_strings() {
        assert_eq!(compact("{ \"a b\\\" c\" :\n [1, 2] }"), r#"{"a b\" c":[1,2]}"#);
    }
}
