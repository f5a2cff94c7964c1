//! A request's tokens, element by element, by the rules of its wire format and model.

use super::document;
use super::encoding::{Family, ModelEncoding};
use super::own::Own;
use super::picture::Rule;
use super::tally::Tally;
use super::tools::{self, Layout};
use super::{Accuracy, Encoding, anthropic, hidden};
use crate::call::{Call, Dialect, Doc};
use crate::dialect::{Message, Part, Prompt, Role, Source, Tool, ToolChoice};

/// All that decides what an element costs, besides the element.
#[derive(Clone, Copy)]
pub(super) struct Profile<'t> {
    pub(super) model: ModelEncoding,
    pub(super) picture: Rule,
    frame: Frame,
    dialect: Dialect,
    /// Resolution of pictures that the whole request asks for (Gemini).
    resolution: Option<&'static str>,
    /// Frames of a film that are looked at in a second, at most.
    pub(super) frames: u64,
    own: Option<&'t Own>,
}

/// What tells one profile from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Terms {
    model: ModelEncoding,
    picture: Rule,
    frame: Frame,
    dialect: Dialect,
    resolution: Option<&'static str>,
    own: Option<u64>,
}

/// What stands around messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Frame {
    /// OpenAI: 3 a message, 1 a name, 3 for the answer.
    Chat,
    /// gpt-3.5-turbo-0301: 4 a message, a name takes the role's place.
    Chat0301,
    /// OpenAI's newer API: the frame of chat, calls of tools being items of their own.
    Responses,
    /// Claude: 7 around the first message, 4 for each other.
    Anthropic,
    /// Ollama: the model's own template.
    Template,
    /// Nothing known.
    None,
}

/// Tokens of one message, and what the rest of the request must know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageCount {
    pub(super) tally: Tally,
    /// True for a system message, which changes what tool definitions cost.
    pub(super) system: bool,
    /// Tokens more, if tools are offered and this is the first system message: it then ends with a line end.
    pub(super) line_end: u64,
}

/// Tokens of what is not a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RestCount {
    pub(super) system: Tally,
    pub(super) tools: Tally,
    pub(super) response_format: Tally,
    /// True if tools of the caller are offered in OpenAI's way, so that a system message changes their cost.
    pub(super) joins: bool,
}

impl<'t> Profile<'t> {
    pub(super) fn new(dialect: Dialect, name: &str) -> Self {
        let frame = match dialect {
            Dialect::OpenAiChat if name.contains("gpt-3.5-turbo-0301") => Frame::Chat0301,
            Dialect::OpenAiChat => Frame::Chat,
            Dialect::OpenAiResponses => Frame::Responses,
            Dialect::AnthropicMessages => Frame::Anthropic,
            Dialect::OllamaChat => Frame::Template,
            _ => Frame::None,
        };
        let (model, picture) = (Encoding::for_model(name), Rule::of(name));
        Self { model, picture, frame, dialect, resolution: None, frames: 1, own: None }
    }

    /// That of a call to the model of this name. Its body may say how finely pictures are looked at.
    pub(super) fn of(call: &Call, name: &str) -> Self {
        let (doc, profile) = (&call.doc, Self::new(call.dialect, name));
        if call.dialect != Dialect::GeminiGenerate {
            return profile;
        }
        let config = ["generationConfig", "generation_config"].into_iter().find_map(|name| doc.object(name));
        let asked = config.and_then(|config| {
            ["mediaResolution", "media_resolution"].into_iter().find_map(|name| config.some(name))
        });
        Self { resolution: asked.and_then(resolution), ..profile }
    }

    /// The same with the caller's own tokenizer.
    pub(super) fn with(self, own: &'t Own) -> Self {
        Self { own: Some(own), ..self }
    }

    pub(super) fn terms(self) -> Terms {
        Terms {
            model: self.model,
            picture: self.picture,
            frame: self.frame,
            dialect: self.dialect,
            resolution: self.resolution,
            own: self.own.map(|own| own.id),
        }
    }

    /// Name of what texts are counted with.
    pub(super) fn encoding(self) -> &'static str {
        match self.own {
            Some(own) => own.tokenizer.name(),
            None if self.model.family == Family::OpenAi && !self.model.sure && cfg!(feature = "tiktoken") => {
                "o200k_base (assumed)"
            }
            None => self.model.label(),
        }
    }

    fn is_chat(self) -> bool {
        matches!(self.frame, Frame::Chat | Frame::Chat0301)
    }

    /// What stands around all messages.
    pub(super) fn framing(self, messages: usize) -> Tally {
        match self.frame {
            // One more at most: the accounting has changed by so much before.
            Frame::Chat | Frame::Chat0301 | Frame::Responses => Tally::of(3, 4, Accuracy::Formula),
            Frame::Anthropic if messages > 0 => Tally::of(7, 8, Accuracy::Calibrated),
            // A template may begin with rules of its own.
            Frame::Template if messages > 0 => Tally::bound(4, 64),
            Frame::Anthropic | Frame::Template | Frame::None => Tally::default(),
        }
    }

    /// One message with its framing.
    pub(super) fn message(self, message: &Message<'_>, first: bool) -> MessageCount {
        let system = matches!(message.role, Role::System | Role::Developer);
        let mut count = MessageCount { tally: Tally::default(), system, line_end: 0 };
        let tally = &mut count.tally;
        if self.frame == Frame::Responses
            && message.parts.iter().any(|part| matches!(part, Part::Thinking(_)))
        {
            // Most of it is encrypted; what it costs is in the usage of the call that made it, at most its bytes.
            let bytes = message.raw.len() as u64;
            *tally = Tally::bound(bytes.div_ceil(4), bytes).as_media();
            return count;
        }
        match self.frame {
            Frame::Responses if !message.parts.is_empty() && message.parts.iter().all(is_call) => {
                tally.add(Tally::of(0, 4, Accuracy::Formula));
            }
            Frame::Chat | Frame::Chat0301 | Frame::Responses => {
                let role = if message.role == Role::Other { 4 } else { 1 };
                tally.add(Tally::formula(if self.frame == Frame::Chat0301 { 4 } else { 3 } + role));
                if let Some(name) = &message.name {
                    tally.add(self.text(name));
                    match self.frame {
                        Frame::Chat0301 => tally.less(1),
                        _ => tally.add(Tally::formula(1)),
                    }
                }
                if message.role == Role::Other {
                    tally.weaken(Accuracy::Calibrated);
                }
            }
            Frame::Anthropic => {
                if !first {
                    tally.add(Tally::of(4, 5, Accuracy::Calibrated));
                }
            }
            Frame::Template => tally.add(Tally::bound(5, 16)),
            Frame::None => tally.weaken(Accuracy::Calibrated),
        }
        if self.own.is_some() {
            // The tokenizer is known, the template around the messages is not.
            tally.weaken(Accuracy::Calibrated);
            tally.slack(12);
        }
        // A part may say it too; which one does not matter for the bound.
        let finest = match self.model.family {
            Family::Gemini if message.raw.contains("MEDIA_RESOLUTION_") => resolution(message.raw),
            _ => None,
        };
        let frames = match self.model.family {
            Family::Gemini => document::frames(message.raw),
            _ => 1,
        };
        let profile = Self { resolution: finest.or(self.resolution), frames, ..self };
        match hidden::screen(message, self.dialect) {
            Some(image) => {
                let picture = match &image.source {
                    Source::Base64 { data, .. } => data.len() as u64,
                    _ => 0,
                };
                let bytes = (message.raw.len() as u64).saturating_sub(picture);
                tally.add(self.picture.count(&image, None).as_media());
                tally.add(Tally::bound(bytes / 4, bytes).as_media());
            }
            None => {
                for part in &message.parts {
                    tally.add(profile.part(part));
                }
            }
        }
        tally.hidden |= hidden::in_message(message, self.dialect);
        if hidden::repeats(message.raw) {
            tally.widen(hidden::Most::of(message.raw.as_bytes()));
        }
        if message.role == Role::Function {
            tally.less(2);
        } else if message.role == Role::Tool {
            // No billed number is published for results by id.
            tally.slack(8);
        }
        if system && self.is_chat() {
            count.line_end = self.line_end(message);
        }
        count
    }

    fn line_end(self, message: &Message<'_>) -> u64 {
        match message.parts.last() {
            Some(Part::Text(text)) => {
                let longer = self.text(&format!("{text}\n")).likely;
                longer.saturating_sub(self.text(text).likely)
            }
            _ => 1,
        }
    }

    fn text(self, text: &str) -> Tally {
        match self.own {
            Some(own) => own.count(text),
            None => self.model.measure(text).into(),
        }
    }

    /// One piece of a message.
    fn part(self, part: &Part<'_>) -> Tally {
        match part {
            Part::Text(text) => self.plain(text),
            Part::Thinking(text) => {
                let mut count = self.text(text);
                count.weaken(Accuracy::Calibrated);
                count
            }
            Part::Image(image) => self.picture.count(image, self.resolution).as_media(),
            Part::Audio(source) => document::audio(source, self.model).as_media(),
            Part::File(source) => document::file(source, self).as_media(),
            Part::ToolCall { name, arguments, legacy, .. } => {
                let mut count = self.text(name);
                count.add(self.plain(arguments));
                count.add(Tally::formula(3));
                if !legacy {
                    count.slack(8);
                }
                count
            }
            Part::ToolResult { parts, .. } => {
                let mut count = Tally::default();
                for part in parts {
                    count.add(self.part(part));
                }
                if self.frame == Frame::Anthropic {
                    count.add(Tally::of(3, 11, Accuracy::Calibrated));
                }
                count
            }
            Part::Unknown(raw) => {
                let bytes = raw.len() as u64;
                Tally::bound(bytes.div_ceil(3), bytes).as_media()
            }
        }
    }

    /// All that is not a message.
    pub(super) fn rest(self, doc: &Doc, prompt: &Prompt<'_>, model: &str) -> RestCount {
        let mut count = RestCount::default();
        for part in &prompt.system {
            count.system.add(self.part(part));
        }
        if self.frame == Frame::Responses && !prompt.system.is_empty() {
            // Instructions are one system message.
            count.system.add(Tally::formula(4));
        }
        if !prompt.tools.is_empty() {
            count.tools = match self.frame {
                Frame::Anthropic => anthropic::tools(self, &prompt.tools, &prompt.tool_choice, model),
                Frame::Template | Frame::None => self.json_tools(&prompt.tools),
                _ => self.openai_tools(doc, &prompt.tools, &prompt.tool_choice),
            };
            count.joins = self.is_chat() && prompt.tools.iter().any(|tool| !tool.hosted);
        } else if doc.some("web_search_options").is_some() {
            count.tools = Tally::bound(0, 0);
        }
        if let Some(schema) = prompt.response_schema {
            count.response_format = self.response_format(doc, schema);
        }
        count.system.hidden |= hidden::in_members(doc, self.dialect)
            || prompt
                .system
                .iter()
                .any(|part| matches!(part, Part::Unknown(raw) if raw.contains("\"file_id\"")));
        let messages = self.dialect.format().messages_member();
        for (name, value) in doc.members().filter(|(name, _)| Some(*name) != messages) {
            if hidden::repeats(value) {
                let mut most = hidden::Most::of(value.as_bytes());
                most.refers |= hidden::Most::of(name.as_bytes()).refers;
                count.tools.add(Tally::bound(0, most.tokens));
                count.tools.hidden |= most.refers;
            }
        }
        count
    }

    /// Tools of an API that says nothing about how they are read: their JSON.
    fn json_tools(self, tools: &[Tool<'_>]) -> Tally {
        let mut total = Tally::default();
        for tool in tools {
            let mut count = self.text(&tools::compact(tool.raw));
            if tool.hosted {
                count = Tally::bound(count.likely, tool.raw.len() as u64).as_media();
            }
            count.weaken(Accuracy::Calibrated);
            total.add(count);
        }
        total
    }

    /// Tools with the OpenAI frame; without a system message.
    fn openai_tools(self, doc: &Doc, tools: &[Tool<'_>], choice: &ToolChoice<'_>) -> Tally {
        let mut total = Tally::default();
        let mut own = tools.iter().filter(|tool| !tool.hosted).peekable();
        if cfg!(not(feature = "tiktoken")) {
            let json: u64 = own.by_ref().map(|tool| tool.raw.len() as u64 + 8).sum();
            total.add(Tally::bound(json / 4, json));
        } else if own.peek().is_some() {
            // Billed numbers of 2023 are of requests with the old member, those of 2024 of requests with the new one.
            let (likely, other) = match doc.some("tools").is_none() && doc.some("functions").is_some() {
                true => (Layout::Of2023, Layout::Of2024),
                false => (Layout::Of2024, Layout::Of2023),
            };
            let (text, known) = tools::render(own.clone(), likely);
            let mut count = self.text(&text);
            count.at_most = count.at_most.max(self.text(&tools::render(own.clone(), other).0).at_most);
            if !known || own.clone().any(|tool| tool.parameters.is_none() && tool.raw.contains("\"custom\""))
            {
                let json: u64 = own.map(|tool| self.text(&tools::compact(tool.raw)).at_most + 1).sum();
                count.at_most = count.at_most.max(json);
                count.weaken(Accuracy::Calibrated);
            }
            count.add(Tally::formula(9));
            count.add(Tally::formula(match choice {
                ToolChoice::None => 1,
                _ => 0,
            }));
            if let ToolChoice::Named(name) = choice {
                let old = doc.some("tool_choice").is_none() && doc.some("function_call").is_some();
                count.add(self.text(name));
                count.add(Tally::formula(if old { 4 } else { 7 }));
            }
            total.add(count);
        }
        for tool in tools.iter().filter(|tool| tool.hosted) {
            let json = self.text(&tools::compact(tool.raw)).likely;
            total.add(Tally::bound(json, tool.raw.len() as u64).as_media());
        }
        total
    }

    fn response_format(self, doc: &Doc, schema: &str) -> Tally {
        let format = doc.object("response_format").and_then(|format| format.object("json_schema"));
        let mut count = self.text(&tools::compact(schema));
        for name in ["name", "description"] {
            if let Some(text) = format.as_ref().and_then(|format| format.str(name)) {
                count.add(self.text(&text));
            }
        }
        count.add(Tally::of(10, 20, Accuracy::Calibrated));
        count
    }

    /// One text as the model's tokenizer sees it.
    pub(super) fn plain(self, text: &str) -> Tally {
        Tally { data_urls: data_urls(text), ..self.text(text) }
    }
}

impl RestCount {
    /// Tokens that tool definitions save when a system message stands ahead of them.
    pub(super) const JOIN: u64 = 4;
}

/// The finest of Gemini's resolutions that a text names.
fn resolution(text: &str) -> Option<&'static str> {
    [
        "MEDIA_RESOLUTION_ULTRA_HIGH",
        "MEDIA_RESOLUTION_HIGH",
        "MEDIA_RESOLUTION_MEDIUM",
        "MEDIA_RESOLUTION_LOW",
    ]
    .into_iter()
    .find(|level| text.contains(level))
}

fn is_call(part: &Part<'_>) -> bool {
    matches!(part, Part::ToolCall { .. })
}

/// Tokens that a prompt may cost beyond the bytes of its body; `None` if it holds something whose cost has nothing
/// to do with the bytes it takes, such as a picture by URL.
pub(super) fn beyond_bytes(prompt: &Prompt<'_>, dialect: Dialect) -> Option<u64> {
    fn heavy(part: &Part<'_>) -> bool {
        match part {
            Part::Image(_) | Part::Audio(_) | Part::File(_) | Part::Unknown(_) => true,
            Part::ToolResult { parts, .. } => parts.iter().any(heavy),
            _ => false,
        }
    }
    let heavy = prompt.tools.iter().any(|tool| tool.hosted)
        || prompt.system.iter().any(heavy)
        || prompt.messages.iter().any(|message| message.parts.iter().any(heavy));
    if heavy || (dialect == Dialect::AnthropicMessages && prompt.tools.iter().any(anthropic::is_built_in)) {
        return None;
    }
    // An element's frame is at most sixteen tokens more than its shortest JSON; Claude's hidden prompt takes 804.
    let elements = (prompt.messages.len() + prompt.tools.len()) as u64;
    Some(16 * elements + if dialect == Dialect::AnthropicMessages { 1024 } else { 80 })
}

#[cfg(all(test, feature = "tiktoken"))]
mod tests {
    use super::*;
    use crate::dialect::{Image, Source};

    fn message<'a>(role: Role, parts: Vec<Part<'a>>) -> Message<'a> {
        Message { raw: "{}", role, name: None, parts, bare: false }
    }

    fn text(text: &str) -> Part<'_> {
        Part::Text(text.into())
    }

    #[test]
    fn claudes_frame_is_seven_and_four_for_each_further_message() {
        // The vendor's example: 14 in all, system included, where o200k counts 7 for the texts.
        let profile = Profile::new(Dialect::AnthropicMessages, "claude-sonnet-4-5");
        assert_eq!(profile.framing(1).likely, 7);
        let hello = message(Role::User, vec![text("Hello, Claude")]);
        let first = profile.message(&hello, true).tally;
        let later = profile.message(&hello, false).tally;
        assert_eq!(first.likely, profile.plain("Hello, Claude").likely);
        assert_eq!(later.likely, first.likely + 4);
        assert_eq!(later.accuracy, Accuracy::Calibrated);
    }

    #[test]
    fn system_text_and_pictures_inside_tool_results_count() {
        let profile = Profile::new(Dialect::AnthropicMessages, "claude-opus-5");
        let image = Part::Image(Image { source: Source::Url("https://a/b.png".into()), detail: None });
        let result = Part::ToolResult { id: "t1".into(), parts: vec![text("a ship"), image] };
        let count = profile.message(&message(Role::User, vec![result]), false).tally;
        assert!(count.at_most >= 4784 && count.accuracy == Accuracy::UpperBound);
        let prompt = Prompt { system: vec![text("Be brief and kind.")], ..Prompt::default() };
        let rest = profile.rest(&Doc::new("{}"), &prompt, "claude-opus-5");
        assert!(rest.system.likely >= 5, "{}", rest.system.likely);
        assert!(!rest.joins);
    }

    #[test]
    fn unknown_blocks_count_their_bytes_and_thinking_is_text() {
        let profile = Profile::new(Dialect::OpenAiChat, "gpt-4o");
        let unknown = profile.message(&message(Role::User, vec![Part::Unknown(r#"{"type":"new"}"#)]), false);
        assert_eq!((unknown.tally.likely, unknown.tally.at_most), (4 + 5, 4 + 14));
        let thinking =
            profile.message(&message(Role::Assistant, vec![Part::Thinking("I see".into())]), false);
        assert_eq!((thinking.tally.likely, thinking.tally.accuracy), (4 + 2, Accuracy::Calibrated));
    }
}

/// Bytes of the `data:` URLs in a text whose base64 is longer than anyone writes by hand.
fn data_urls(text: &str) -> u64 {
    const MARK: &str = ";base64,";
    const SHORTEST: usize = 64;
    // A media type before the mark is short.
    const LONGEST_TYPE: usize = 100;
    if !text.contains(MARK) {
        return 0;
    }
    let (mut found, mut from) = (0, 0);
    while let Some(at) = text[from..].find(MARK).map(|at| from + at) {
        let front = &text.as_bytes()[from.max(at.saturating_sub(LONGEST_TYPE))..at];
        let data = text.as_bytes()[at + MARK.len()..].iter();
        let length = data.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte)).count();
        if let Some(scheme) = front.windows(5).rposition(|scheme| scheme == b"data:")
            && length >= SHORTEST
        {
            found += (front.len() - scheme + MARK.len() + length) as u64;
        }
        from = at + MARK.len() + length;
    }
    found
}
