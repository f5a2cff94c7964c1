//! What the model thinks before it answers.

use super::answer::{shorten, tokens_of};
use super::words::{Rng, prose};
use crate::call::json::Object;
use crate::call::{Call, Dialect};

/// Thoughts, in the dialects and by the models that have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thinking {
    /// Output tokens they are billed as.
    pub(super) tokens: u64,
    /// What is shown where the API shows thoughts. It may be less than what is billed.
    pub(super) text: String,
}

impl Thinking {
    /// The thoughts behind the answer drawn from `seed`, in at most `left` tokens.
    pub(super) fn before(call: &Call, seed: &[u8; 32], left: u64) -> Option<Self> {
        let mut rng = Rng::new(seed, u64::MAX);
        let steps = 1 + rng.next() % 4;
        let (tokens, is_shown) = match call.dialect {
            Dialect::OpenAiChat => {
                (by_effort(call, call.doc.str("reasoning_effort").as_deref(), steps)?, false)
            }
            Dialect::OpenAiResponses => {
                let reasoning = call.doc.object("reasoning").unwrap_or_default();
                (by_effort(call, reasoning.str("effort").as_deref(), steps)?, false)
            }
            Dialect::AnthropicMessages => {
                let thinking = call.doc.object("thinking")?;
                match thinking.str("type").as_deref() {
                    Some("enabled") => (thinking.u64("budget_tokens").unwrap_or(1_024), true),
                    Some("adaptive") => (1_024, true),
                    _ => return None,
                }
            }
            Dialect::GeminiGenerate => {
                let model = call.model().unwrap_or_default();
                let thinking = of_gemini(call);
                let budget = thinking.u64("thinkingBudget").or_else(|| thinking.u64("thinking_budget"));
                let thinks = ["gemini-2.5", "gemini-3"].iter().any(|name| model.contains(name));
                (budget.unwrap_or(1_024), thinks.then_some(true)?)
            }
            Dialect::OllamaChat => {
                let think = call.doc.some("think").filter(|think| *think != "false");
                (1_024, think.map(|_| true)?)
            }
            _ => return None,
        };
        let tokens = tokens.min(left);
        let mut text = prose(&mut rng);
        shorten(&mut text, tokens);
        let tokens = if is_shown { tokens_of(text.len()) } else { tokens };
        (tokens > 0).then_some(Self { tokens, text })
    }
}

/// OpenAI's models bill thoughts in steps of 64 tokens and do not show them.
fn by_effort(call: &Call, effort: Option<&str>, steps: u64) -> Option<u64> {
    let model = call.model()?;
    let thinks = ["gpt-5", "gpt-6", "o1", "o3", "o4"].iter().any(|name| model.starts_with(name));
    match effort {
        _ if !thinks => None,
        Some("none" | "minimal") => None,
        Some("low") => Some(64),
        Some("high" | "xhigh" | "max") => Some(64 * steps * 4),
        _ => Some(64 * steps),
    }
}

/// What a caller of Gemini says about thinking. Its clients spell inner names in both ways.
fn of_gemini(call: &Call) -> Object<'_> {
    let config = call.doc.object("generationConfig").unwrap_or_default();
    config.object("thinkingConfig").or_else(|| config.object("thinking_config")).unwrap_or_default()
}

/// True if the caller of Gemini wants to see thoughts.
pub(super) fn is_shown_by_gemini(call: &Call) -> bool {
    let thinking = of_gemini(call);
    thinking.bool("includeThoughts").or_else(|| thinking.bool("include_thoughts")) == Some(true)
}
