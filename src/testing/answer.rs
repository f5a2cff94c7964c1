//! What the model "says": a pure function of the call.

use crate::call::json::{self, Object};
use crate::call::{Call, Dialect};

const WORDS: [&str; 64] = [
    "a", "the", "of", "and", "to", "in", "that", "it", "is", "for", "with", "as", "on", "each", "one", "by",
    "river", "stone", "clock", "price", "harbour", "letter", "garden", "signal", "number", "window", "paper",
    "winter", "engine", "market", "bridge", "copper", "keeps", "finds", "moves", "carries", "holds", "turns",
    "counts", "answers", "follows", "grows", "meets", "opens", "small", "steady", "early", "plain", "narrow",
    "quiet", "second", "common", "often", "seldom", "there", "again", "before", "after", "between", "under",
    "when", "while", "because", "so",
];

/// One answer, before it is put on the wire.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// A name that is the same for equal bodies: 16 hex digits.
    pub(super) id: String,
    pub(super) model: String,
    pub(super) choices: Vec<Content>,
    pub(super) ending: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Tool { name: String, arguments: String },
    Refusal(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Whole,
    Length,
    Filtered,
}

impl Answer {
    /// The answer to `call`, which has been found to be good.
    pub(super) fn to(call: &Call) -> Self {
        let (text, seed) = last_user_message(call);
        let choices = call.format().choices(call).clamp(1, 8);
        let mut ending = Ending::Whole;
        let mut contents = Vec::new();
        for index in 0..choices {
            let mut rng = Rng::new(&seed, index);
            let content = match tool(call, &text) {
                Some((name, schema)) => {
                    Content::Tool { name, arguments: instance(schema.as_deref(), &mut rng, 0) }
                }
                None => match json_schema(call) {
                    Some(schema) => Content::Text(instance(Some(schema), &mut rng, 0)),
                    None => Content::Text(prose(&mut rng)),
                },
            };
            contents.push(content);
        }
        if let Some(cap) = call.format().cap(call) {
            for content in &mut contents {
                if content.cut(cap) {
                    ending = Ending::Length;
                }
            }
        }
        Self {
            id: blake3::hash(call.doc.bytes()).to_hex()[..16].to_owned(),
            model: call.model().unwrap_or_default(),
            choices: contents,
            ending,
        }
    }

    /// Output tokens of all choices: a quarter of the bytes, rounded up.
    pub(super) fn output_tokens(&self) -> u64 {
        self.choices.iter().map(|content| tokens_of(content.bytes())).sum()
    }
}

/// Tokens by the upstream's own rule: four bytes are one.
pub(super) fn tokens_of(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

impl Content {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Refusal(text) | Self::Tool { arguments: text, .. } => text,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Tool { name, arguments } => name.len() + arguments.len(),
            Self::Text(text) | Self::Refusal(text) => text.len(),
        }
    }

    /// Shortens it to `cap` tokens; true if something went.
    pub(super) fn cut(&mut self, cap: u64) -> bool {
        if tokens_of(self.bytes()) <= cap {
            return false;
        }
        let name = if let Self::Tool { name, .. } = self { name.len() } else { 0 };
        let room = usize::try_from(cap.saturating_mul(4)).unwrap_or(usize::MAX).saturating_sub(name);
        let (Self::Text(text) | Self::Refusal(text) | Self::Tool { arguments: text, .. }) = self;
        let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        true
    }
}

/// Text of the last user message, and the hash the answer is drawn from. A tool result in place of text is hashed
/// as it stands.
fn last_user_message(call: &Call) -> (String, [u8; 32]) {
    let messages = call.doc.elements("messages").unwrap_or_default();
    let last_is_result = messages
        .last()
        .and_then(|raw| Object::parse(raw))
        .is_some_and(|message| message.str("role").is_some_and(|role| role == "tool" || role == "function"));
    let last = messages.iter().rev().find_map(|raw| {
        let message = Object::parse(raw)?;
        (message.str("role")? == "user").then_some((*raw, message))
    });
    let (raw, text) = match last {
        Some((raw, message)) if !last_is_result => (raw, text_of(&message)),
        _ => (messages.last().copied().unwrap_or_default(), String::new()),
    };
    let seed = if text.is_empty() { raw } else { &text };
    let seed = *blake3::hash(seed.as_bytes()).as_bytes();
    (text, seed)
}

fn text_of(message: &Object<'_>) -> String {
    if let Some(text) = message.str("content") {
        return text.into_owned();
    }
    let mut all = String::new();
    for part in message.elements("content").unwrap_or_default() {
        if let Some(text) =
            Object::parse(part).and_then(|part| part.str("text").map(|text| text.into_owned()))
        {
            all.push_str(&text);
        }
    }
    all
}

/// Name and parameter schema of the tool to use, if one is offered and the user asks for it.
fn tool(call: &Call, text: &str) -> Option<(String, Option<String>)> {
    if !text.to_ascii_lowercase().contains("use the tool")
        || call.doc.str("tool_choice").as_deref() == Some("none")
    {
        return None;
    }
    let first = Object::parse(call.doc.elements("tools")?.first()?)?;
    let (tool, schema) = match call.dialect {
        Dialect::AnthropicMessages => (first, "input_schema"),
        _ => (first.object("function")?, "parameters"),
    };
    Some((tool.str("name")?.into_owned(), tool.some(schema).map(str::to_owned)))
}

/// The schema of the demanded answer format; `{}` when any JSON object will do.
fn json_schema(call: &Call) -> Option<&str> {
    let format = Object::parse(call.doc.some("response_format")?)?;
    match format.str("type")?.as_ref() {
        "json_object" => Some("{}"),
        "json_schema" => Object::parse(format.get("json_schema")?)?.get("schema"),
        _ => None,
    }
}

/// Some JSON that fits the common part of a JSON schema: types, properties, items, enums.
fn instance(schema: Option<&str>, rng: &mut Rng, depth: usize) -> String {
    let words = |rng: &mut Rng| format!("\"{} {}\"", rng.word(), rng.word());
    let Some(schema) = schema.and_then(Object::parse).filter(|_| depth < 16) else { return words(rng) };
    if let Some(first) =
        schema.elements("enum").and_then(|values| values.first().map(|text| (*text).to_owned()))
    {
        return first;
    }
    match schema.str("type").as_deref() {
        Some("integer" | "number") => (rng.next() % 100).to_string(),
        Some("boolean") => (rng.next().is_multiple_of(2)).to_string(),
        Some("null") => "null".to_owned(),
        Some("array") => format!("[{}]", instance(schema.get("items"), rng, depth + 1)),
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
                out.push_str(&instance(Some(schema), rng, depth + 1));
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

/// 40 to 240 words.
fn prose(rng: &mut Rng) -> String {
    let words = 40 + rng.next() % 201;
    let mut text = String::new();
    let mut start = true;
    for i in 0..words {
        let word = rng.word();
        if !text.is_empty() {
            text.push(' ');
        }
        if start {
            text.push_str(&word[..1].to_ascii_uppercase());
            text.push_str(&word[1..]);
        } else {
            text.push_str(word);
        }
        start = i + 1 == words || rng.next().is_multiple_of(12);
        if start {
            text.push('.');
        }
    }
    text
}

/// Numbers drawn from a hash: the same on every machine, for ever.
struct Rng(blake3::OutputReader);

impl Rng {
    fn new(seed: &[u8; 32], index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(&index.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn word(&mut self) -> &'static str {
        let at = usize::try_from(self.next() % WORDS.len() as u64).unwrap_or_default();
        WORDS[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: &str) -> Answer {
        Answer::to(&Call::post("http://fake/v1/chat/completions", body.to_owned()))
    }

    #[test]
    fn equal_questions_get_equal_answers_and_others_do_not() {
        let one = ask(r#"{"model":"m","messages":[{"role":"user","content":"one"}]}"#);
        let parts =
            ask(r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"one"}]}]}"#);
        let two = ask(r#"{"model":"m","messages":[{"role":"user","content":"two"}]}"#);
        assert_eq!(one.choices, parts.choices, "the text counts, not its spelling");
        assert_ne!(one.choices, two.choices);
    }

    #[test]
    fn a_small_cap_cuts_the_answer() {
        let answer = ask(r#"{"model":"m","max_tokens":7,"messages":[{"role":"user","content":"one"}]}"#);
        assert_eq!((answer.output_tokens(), answer.ending), (7, Ending::Length));
    }

    #[test]
    fn a_tool_is_called_when_offered_and_asked_for_and_its_arguments_fit_the_schema() {
        let tools = r#""tools":[{"type":"function","function":{"name":"find","parameters":{"type":"object",
            "properties":{"q":{"type":"string"},"n":{"type":"integer"}}}}}]"#;
        let asked = ask(&format!(
            r#"{{"model":"m",{tools},"messages":[{{"role":"user","content":"Use the tool."}}]}}"#
        ));
        let Content::Tool { name, arguments } = &asked.choices[0] else { panic!("no tool call: {asked:?}") };
        assert_eq!(name, "find");
        let arguments = Object::parse(arguments).expect("arguments are an object");
        assert!(arguments.str("q").is_some() && arguments.u64("n").is_some());
        let answered = ask(&format!(
            r#"{{"model":"m",{tools},"messages":[{{"role":"user","content":"Use the tool."}},
                {{"role":"assistant","content":null}},{{"role":"tool","tool_call_id":"x","content":"42"}}]}}"#
        ));
        assert!(matches!(answered.choices[0], Content::Text(_)), "a tool's result is answered in words");
    }

    #[test]
    fn a_demanded_format_is_kept() {
        let answer = ask(
            r#"{"model":"m","response_format":{"type":"json_schema","json_schema":{"name":"a","schema":
            {"type":"object","properties":{"ok":{"type":"boolean"}}}}},"messages":[{"role":"user","content":"x"}]}"#,
        );
        assert!(Object::parse(answer.choices[0].text()).and_then(|object| object.bool("ok")).is_some());
    }
}
