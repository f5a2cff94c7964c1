//! Whether a call's model thinks before it writes, and so spends its output limit on what nobody sees.

use crate::call::Call;

/// Parts of names of models that think, by 2026-11: open weights and vendors' own. When in doubt a model is taken
/// for one that thinks, since the harm is one-sided: an empty answer costs as much as a full one.
const NAMES: &[&str] = &[
    "thinking",
    "reason",
    "deepseek-r1",
    "deepseek-v4",
    "qwq",
    "qwen3",
    "gpt-oss",
    "magistral",
    "grok-3-mini",
    "grok-4",
    "grok-5",
    "gemini-2.5",
    "gemini-3",
    "glm-4.5",
    "glm-4.6",
    "glm-5",
    "minimax-m",
    "kimi-k3",
    "opus-4-7",
    "opus-4-8",
    "opus-5",
    "sonnet-5",
    "haiku-5",
    "fable",
    "mythos",
];

/// True if the model thinks, by what the request says or else by its name.
pub(super) fn thinks(call: &Call) -> bool {
    if let Some(said) = said(call) {
        return said;
    }
    let Some(model) = call.model() else { return false };
    let name = model.rsplit('/').next().unwrap_or(&model).to_ascii_lowercase();
    if name.contains("non-reasoning") || name.contains("non-thinking") {
        return false;
    }
    openai_reasoning(&name) || NAMES.iter().any(|part| name.contains(part))
}

/// What the request itself says about thinking, in the members the vendors have for it.
fn said(call: &Call) -> Option<bool> {
    if let Some(effort) = call.doc.str("reasoning_effort") {
        return Some(effort != "none");
    }
    if let Some(kind) = call.doc.object("thinking").and_then(|thinking| thinking.str("type")) {
        return Some(kind != "disabled");
    }
    call.doc.bool("enable_thinking")
}

/// OpenAI's o-series, and gpt-5 and later. (Azure spells gpt-3.5 as gpt-35.)
fn openai_reasoning(name: &str) -> bool {
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let version = |prefix: &str| -> Option<u32> {
        let rest = name.strip_prefix(prefix)?;
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest[..digits].parse().ok()
    };
    version("o").is_some() || version("gpt-").is_some_and(|version| (5..35).contains(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(body: String) -> Call {
        Call::post("https://api.openai.com/v1/chat/completions", body)
    }

    #[test]
    fn models_that_think_are_known_by_name() {
        for model in [
            "o3-mini",
            "gpt-5-mini",
            "gpt-6.1-sol",
            "ft:gpt-5:me",
            "deepseek/deepseek-reasoner",
            "Qwen/QwQ-32B",
        ] {
            assert!(thinks(&asks(format!(r#"{{"model":"{model}"}}"#))), "{model} thinks");
        }
        for model in
            ["gpt-4o", "gpt-4.1", "gpt-35-turbo", "llama-3.3-70b", "grok-2", "omni", "claude-3-5-haiku"]
        {
            assert!(!thinks(&asks(format!(r#"{{"model":"{model}"}}"#))), "{model} does not think");
        }
    }

    #[test]
    fn what_the_request_says_counts_more_than_the_name() {
        assert!(!thinks(&asks(r#"{"model":"gpt-5.5","reasoning_effort":"none"}"#.into())));
        assert!(thinks(&asks(
            r#"{"model":"local","thinking":{"type":"enabled","budget_tokens":2048}}"#.into()
        )));
        assert!(!thinks(&asks(r#"{"model":"qwen3-8b","enable_thinking":false}"#.into())));
    }
}
