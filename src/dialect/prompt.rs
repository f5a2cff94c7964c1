//! A request's prompt in one neutral form, borrowed from its body.
//!
//! Counting and trimming need to know who said what, which tool result answers which call, and where a picture is;
//! they do not need to know how each wire format spells it.

use std::borrow::Cow;
use std::fmt;

/// All a model gets to read: system text, messages, tools.
#[derive(Clone, Default)]
pub struct Prompt<'a> {
    /// System text that is not a message (Anthropic's `system`); OpenAI's system turns are messages.
    pub system: Vec<Part<'a>>,
    /// The messages, one for each element of the wire array and in its order.
    pub messages: Vec<Message<'a>>,
    /// The tools offered to the model.
    pub tools: Vec<Tool<'a>>,
    /// How the model may use them.
    pub tool_choice: ToolChoice<'a>,
    /// JSON text of the demanded answer format's schema, if any.
    pub response_schema: Option<&'a str>,
}

/// One message.
#[derive(Clone)]
pub struct Message<'a> {
    /// The element as it stands on the wire.
    pub raw: &'a str,
    /// Who speaks.
    pub role: Role,
    /// Name of the speaker, where the format has one.
    pub name: Option<Cow<'a, str>>,
    /// What is said. Tool calls and tool results are parts, in OpenAI's format too.
    pub parts: Vec<Part<'a>>,
    /// True if the content was one bare string rather than a list of parts.
    pub bare: bool,
}

impl<'a> Message<'a> {
    /// Ids of the tool calls this message makes.
    pub fn calls(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall { id, .. } => Some(&**id),
            _ => None,
        })
    }

    /// Ids of the tool calls this message answers.
    pub fn results(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolResult { id, .. } => Some(&**id),
            _ => None,
        })
    }
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Rules from the operator.
    System,
    /// Rules from the developer, as newer OpenAI models call them.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool's result (OpenAI).
    Tool,
    /// A function's result (OpenAI, old).
    Function,
    /// A role we do not know; such a message is never dropped.
    Other,
}

/// A piece of a message.
#[derive(Clone)]
#[non_exhaustive]
pub enum Part<'a> {
    /// Plain text.
    Text(Cow<'a, str>),
    /// A picture.
    Image(Image<'a>),
    /// Sound, in OpenAI's `input_audio` or alike.
    Audio(Source<'a>),
    /// A document.
    File(Source<'a>),
    /// The model asks for a tool to be run.
    ToolCall {
        /// What the result will refer to. The old `function_call` has none: `""`.
        id: Cow<'a, str>,
        /// Name of the tool.
        name: Cow<'a, str>,
        /// JSON text of the arguments.
        arguments: Cow<'a, str>,
        /// True for OpenAI's old `function_call` member.
        legacy: bool,
    },
    /// What a tool answered.
    ToolResult {
        /// The call it answers.
        id: Cow<'a, str>,
        /// What it said.
        parts: Vec<Part<'a>>,
    },
    /// Reasoning text that came back from the provider and goes to it again, with its signature.
    Thinking(Cow<'a, str>),
    /// Anything else: its JSON text.
    Unknown(&'a str),
}

/// A picture.
#[derive(Clone)]
pub struct Image<'a> {
    /// Where its bytes are.
    pub source: Source<'a>,
    /// OpenAI's `detail`: low, high, original, auto.
    pub detail: Option<Cow<'a, str>>,
}

/// Where the bytes of a picture, sound or document are.
#[derive(Clone)]
#[non_exhaustive]
pub enum Source<'a> {
    /// In the request, as base64.
    Base64 {
        /// Such as `image/png`, if said.
        media_type: Option<Cow<'a, str>>,
        /// The base64 text.
        data: Cow<'a, str>,
    },
    /// Elsewhere, at a URL.
    Url(Cow<'a, str>),
    /// At the provider, under an id.
    Id(Cow<'a, str>),
}

impl<'a> Source<'a> {
    /// A `data:` URL becomes [`Source::Base64`], any other URL stays one.
    #[must_use]
    pub fn of_url(url: Cow<'a, str>) -> Self {
        let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
        let Some((head, _)) = url.split_once(',').filter(|_| is_data) else { return Self::Url(url) };
        if !head.get(5..).is_some_and(|head| head.to_ascii_lowercase().ends_with(";base64")) {
            return Self::Url(url);
        }
        let (media, at) = (head[5..head.len() - 7].to_owned(), head.len() + 1);
        let data = match url {
            Cow::Borrowed(url) => Cow::Borrowed(&url[at..]),
            Cow::Owned(url) => Cow::Owned(url[at..].to_owned()),
        };
        Self::Base64 { media_type: (!media.is_empty()).then_some(Cow::Owned(media)), data }
    }
}

/// A tool offered to the model.
#[derive(Clone)]
pub struct Tool<'a> {
    /// The element as it stands on the wire.
    pub raw: &'a str,
    /// Its name.
    pub name: Cow<'a, str>,
    /// What it is said to do.
    pub description: Option<Cow<'a, str>>,
    /// JSON text of its parameters' schema.
    pub parameters: Option<&'a str>,
    /// True if the provider runs it itself (search, code): the answer then depends on the world.
    pub hosted: bool,
}

/// The names of `tools`; `None` if one has none or is run by the provider.
pub(super) fn offered<'a>(tools: impl IntoIterator<Item = Tool<'a>>) -> Option<Vec<Cow<'a, str>>> {
    tools.into_iter().map(|tool| Some(tool.name).filter(|name| !tool.hosted && !name.is_empty())).collect()
}

/// How the model may use the tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    /// As it likes, or not said.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(Cow<'a, str>),
}

macro_rules! debug_by_name {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type<'_> {
            /// The type only: its contents are prompts.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($type))
            }
        }
    )*};
}
debug_by_name!(Prompt, Message, Part, Image, Source, Tool);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_url_is_base64_and_any_other_stays_a_url() {
        let png = Source::of_url("data:image/png;base64,AAAA".into());
        assert!(
            matches!(png, Source::Base64 { media_type: Some(m), data } if m == "image/png" && data == "AAAA")
        );
        for url in ["https://a/b.png", "data:text/plain,hi", "data:", ""] {
            assert!(matches!(Source::of_url(url.into()), Source::Url(_)), "{url}");
        }
    }
}
