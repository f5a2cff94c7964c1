//! What the model "says": a pure function of the call.

use super::schema::instance;
use super::thinking::Thinking;
use super::words::{Rng, prose};
use crate::call::json::{self, Object};
use crate::call::{Call, Dialect};
use crate::dialect::{Part, Prompt, Role, Tool, ToolChoice};

/// One answer, before it is put on the wire.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// A name that is the same for equal bodies: 16 hex digits.
    pub(super) id: String,
    pub(super) model: String,
    pub(super) thinking: Option<Thinking>,
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
        let prompt = call.format().prompt(call);
        let (text, seed) = last_user_message(&prompt);
        let tool = tool(&prompt, &text);
        let contents = (0..call.format().choices(call).clamp(1, 8)).map(|index| {
            let mut rng = Rng::new(&seed, index);
            match (tool, json_schema(call)) {
                (Some(tool), _) => Content::Tool {
                    name: tool.name.clone().into_owned(),
                    arguments: instance(tool.parameters, &mut rng),
                },
                (None, Some(schema)) => Content::Text(instance(Some(schema), &mut rng)),
                (None, None) => Content::Text(prose(&mut rng)),
            }
        });
        let mut answer = Self {
            id: blake3::hash(call.doc.bytes()).to_hex()[..16].to_owned(),
            model: call.model().unwrap_or_default(),
            thinking: None,
            choices: contents.collect(),
            ending: Ending::Whole,
        };
        answer.fit(call, &seed);
        answer
    }

    /// Puts `text` in the place of what it says.
    pub(super) fn say(&mut self, call: &Call, text: &str) {
        let (_, seed) = last_user_message(&call.format().prompt(call));
        self.choices = vec![Content::Text(text.to_owned())];
        self.ending = Ending::Whole;
        self.fit(call, &seed);
    }

    /// Cuts it at the cap. Thoughts take what the longest text leaves of it.
    fn fit(&mut self, call: &Call, seed: &[u8; 32]) {
        let cap = call.format().cap(call).unwrap_or(u64::MAX);
        for content in &mut self.choices {
            if content.cut(cap) {
                self.ending = Ending::Length;
            }
        }
        let longest = self.choices.iter().map(Content::tokens).max().unwrap_or(0);
        self.thinking = Thinking::before(call, seed, cap.saturating_sub(longest));
    }

    /// Tokens of what is said in all choices: a quarter of the bytes, rounded up.
    pub(super) fn said_tokens(&self) -> u64 {
        self.choices.iter().map(Content::tokens).sum()
    }

    /// Tokens of the thoughts; 0 without any.
    pub(super) fn thought_tokens(&self) -> u64 {
        self.thinking.as_ref().map_or(0, |thinking| thinking.tokens)
    }

    /// All output tokens.
    pub(super) fn output_tokens(&self) -> u64 {
        self.said_tokens() + self.thought_tokens()
    }
}

/// Tokens by the upstream's own rule: four bytes are one.
pub(super) fn tokens_of(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// Cuts `text` to as many tokens, at the end of a character.
pub(super) fn shorten(text: &mut String, tokens: u64) {
    let room = usize::try_from(tokens.saturating_mul(4)).unwrap_or(usize::MAX);
    let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}

impl Content {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Refusal(text) | Self::Tool { arguments: text, .. } => text,
        }
    }

    fn tokens(&self) -> u64 {
        tokens_of(match self {
            Self::Tool { name, arguments } => name.len() + arguments.len(),
            Self::Text(text) | Self::Refusal(text) => text.len(),
        })
    }

    /// Shortens it to `cap` tokens; true if something went.
    pub(super) fn cut(&mut self, cap: u64) -> bool {
        if self.tokens() <= cap {
            return false;
        }
        let name = if let Self::Tool { name, .. } = self { tokens_of(name.len()) } else { 0 };
        let (Self::Text(text) | Self::Refusal(text) | Self::Tool { arguments: text, .. }) = self;
        shorten(text, cap.saturating_sub(name));
        true
    }

    /// Arguments of a tool call as an object, for APIs that send one. A call cut in the middle has none to show.
    pub(super) fn arguments(&self) -> &str {
        if Object::parse(self.text()).is_some() { self.text() } else { "{}" }
    }
}

/// Text of the last user message, and the hash the answer is drawn from. A tool result in place of text is hashed
/// as it stands.
fn last_user_message(prompt: &Prompt<'_>) -> (String, [u8; 32]) {
    let last = prompt.messages.last();
    let user = prompt
        .messages
        .iter()
        .rfind(|message| message.role == Role::User)
        .filter(|_| last.is_some_and(|last| !matches!(last.role, Role::Tool | Role::Function)));
    let raw = user.or(last).map_or("", |message| message.raw);
    let text: String = user
        .into_iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| if let Part::Text(text) = part { Some(text.as_ref()) } else { None })
        .collect();
    let seed = if text.is_empty() { raw } else { &text };
    let seed = *blake3::hash(seed.as_bytes()).as_bytes();
    (text, seed)
}

/// The tool to use, if one is offered and the user asks for it.
fn tool<'a, 'b>(prompt: &'b Prompt<'a>, text: &str) -> Option<&'b Tool<'a>> {
    let wanted = text.to_ascii_lowercase().contains("use the tool") && prompt.tool_choice != ToolChoice::None;
    prompt.tools.iter().find(|tool| wanted && !tool.hosted && !tool.name.is_empty())
}

/// The schema of the demanded answer format; `{}` when any JSON object will do.
fn json_schema(call: &Call) -> Option<&str> {
    let of = |format: Object<'_>| -> Option<bool> {
        match format.str("type")?.as_ref() {
            "json_object" => Some(false),
            "json_schema" => Some(true),
            _ => None,
        }
    };
    let doc = &call.doc;
    match call.dialect {
        Dialect::OpenAiChat => {
            let format = Object::parse(doc.some("response_format")?)?;
            let has_schema = of(format.clone())?;
            if has_schema { Object::parse(format.get("json_schema")?)?.get("schema") } else { Some("{}") }
        }
        Dialect::OpenAiResponses => {
            let format = Object::parse(Object::parse(doc.some("text")?)?.some("format")?)?;
            if of(format.clone())? { format.get("schema") } else { Some("{}") }
        }
        Dialect::AnthropicMessages => {
            let format = Object::parse(Object::parse(doc.some("output_config")?)?.some("format")?)?;
            format.get("schema")
        }
        Dialect::GeminiGenerate => {
            let config = Object::parse(doc.some("generationConfig")?)?;
            let either = |camel, snake| config.some(camel).or_else(|| config.some(snake));
            let kind = either("responseMimeType", "response_mime_type").and_then(json::string);
            kind.filter(|kind| kind == "application/json")?;
            either("responseJsonSchema", "response_json_schema")
                .or_else(|| either("responseSchema", "response_schema"))
                .or(Some("{}"))
        }
        Dialect::OllamaChat => {
            let format = doc.some("format")?;
            match json::string(format).as_deref() {
                Some("json") => Some("{}"),
                Some(_) => None,
                None => Some(format),
            }
        }
        _ => None,
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
