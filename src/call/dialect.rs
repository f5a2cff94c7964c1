//! The name of a wire format. What a format means is told in [`crate::dialect`].

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Whose wire format a call speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dialect {
    /// OpenAI chat completions, and the many servers that speak it.
    OpenAiChat,
    /// Anthropic Messages.
    AnthropicMessages,
    /// OpenAI Responses.
    OpenAiResponses,
    /// Gemini `generateContent`, also on Vertex.
    GeminiGenerate,
    /// Ollama's own chat and generate calls.
    OllamaChat,
    /// Embeddings of OpenAI and its kin, of Gemini and of Ollama.
    Embeddings,
    /// Anything else: passed through, priced as unknown, cached only where the user says so.
    #[default]
    Opaque,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OpenAiChat,
        Self::AnthropicMessages,
        Self::OpenAiResponses,
        Self::GeminiGenerate,
        Self::OllamaChat,
        Self::Embeddings,
        Self::Opaque,
    ];

    /// Its name in logs, on the command line and in replay logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::AnthropicMessages => "anthropic-messages",
            Self::OpenAiResponses => "openai-responses",
            Self::GeminiGenerate => "gemini-generate",
            Self::OllamaChat => "ollama-chat",
            Self::Embeddings => "embeddings",
            Self::Opaque => "opaque",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let plain = name.trim().to_ascii_lowercase();
        match plain.as_str() {
            "openai" | "chat" | "groq" | "mistral" | "deepseek" | "xai" => return Ok(Self::OpenAiChat),
            "anthropic" | "messages" => return Ok(Self::AnthropicMessages),
            "responses" => return Ok(Self::OpenAiResponses),
            "google" | "gemini" => return Ok(Self::GeminiGenerate),
            "ollama" => return Ok(Self::OllamaChat),
            "embedding" => return Ok(Self::Embeddings),
            _ => {}
        }
        Self::ALL.into_iter().find(|dialect| dialect.name() == plain).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|dialect| dialect.name()).collect();
            Error::bad_input(format!("`{name}` is no dialect"), format!("give one of {}", known.join(", ")))
        })
    }
}
