//! What Anthropic adds for tools: a hidden system prompt, once, and each definition as JSON.

use std::borrow::Cow;

use super::Accuracy;
use super::encoding::{Claude, Line};
use super::request::Profile;
use super::tally::Tally;
use super::tools::compact;
use crate::call::json::Object;
use crate::dialect::{Tool, ToolChoice};

/// Tokens of the hidden prompt by line and version, newest first: with a free choice (auto, none), and with a
/// forced one. The vendor's page as of 2026-11.
const HIDDEN: [(Line, (u32, u32), u64, u64); 14] = [
    (Line::Opus, (5, 0), 286, 406),
    (Line::Opus, (4, 8), 290, 410),
    (Line::Opus, (4, 7), 675, 804),
    (Line::Opus, (4, 6), 497, 589),
    (Line::Opus, (4, 5), 496, 588),
    (Line::Opus, (4, 1), 313, 315),
    (Line::Opus, (4, 0), 313, 315),
    (Line::Sonnet, (5, 0), 354, 474),
    (Line::Sonnet, (4, 6), 497, 589),
    (Line::Sonnet, (4, 5), 496, 588),
    (Line::Sonnet, (4, 0), 313, 315),
    (Line::Haiku, (4, 5), 496, 588),
    // Nothing is published for older ones; pages have said 346 and 313.
    (Line::Opus, (0, 0), 313, 315),
    (Line::Sonnet, (0, 0), 313, 315),
];
/// The largest of them.
const MOST_HIDDEN: u64 = 804;

/// Tokens of the hidden prompt.
fn hidden(model: &str, forced: bool) -> Tally {
    let claude = Claude::of(model);
    let line = claude.map_or(Line::Other, |claude| claude.line);
    let version = claude.and_then(|claude| claude.version).unwrap_or((u32::MAX, 0));
    // Of a line without a row of its own the dearest of its age is taken, by Opus.
    let line =
        if line == Line::Other || (line == Line::Haiku && version < (4, 5)) { Line::Opus } else { line };
    let row = HIDDEN.iter().find(|row| row.0 == line && row.1 <= version);
    let (known, free, named) = row.map_or((false, 496, 588), |row| (row.1 == version, row.2, row.3));
    let likely = if forced { named } else { free };
    let at_most = if known { likely } else { MOST_HIDDEN };
    Tally::of(likely, at_most, Accuracy::Calibrated)
}

fn kind<'a>(tool: &Tool<'a>) -> Cow<'a, str> {
    Object::parse(tool.raw).and_then(|tool| tool.str("type")).unwrap_or_default()
}

/// True for a tool whose definition is the provider's own.
pub(super) fn is_built_in(tool: &Tool<'_>) -> bool {
    !matches!(&*kind(tool), "" | "custom")
}

/// Tools, hidden prompt included.
pub(super) fn tools(profile: Profile<'_>, tools: &[Tool<'_>], choice: &ToolChoice<'_>, model: &str) -> Tally {
    let forced = matches!(choice, ToolChoice::Required | ToolChoice::Named(_));
    let mut total = hidden(model, forced);
    let newer = Claude::of(model).is_none_or(Claude::new_tokenizer);
    for tool in tools {
        let kind = kind(tool);
        let json = profile.plain(&compact(tool.raw));
        let set = |likely, at_most| Tally::of(likely, at_most, Accuracy::Calibrated);
        total.add(match &*kind {
            "" | "custom" => json,
            kind if kind.starts_with("bash_") => set(if newer { 325 } else { 244 }, 325),
            kind if kind.starts_with("text_editor_") => set(700, 700),
            kind if kind.starts_with("computer_2025") || kind.starts_with("computer_2024") => {
                set(735, 735 + 499)
            }
            kind if kind.starts_with("computer_") => set(4520, 4590),
            kind if kind.starts_with("browser_") => set(6610, 6670),
            // A tool the provider runs: its definition is the provider's own.
            _ => Tally::bound(json.likely, tool.raw.len() as u64).as_media(),
        });
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Dialect;

    #[test]
    fn the_hidden_prompt_is_that_of_the_model() {
        for (model, forced, likely, at_most) in [
            ("claude-opus-5", false, 286, 286),
            ("claude-opus-4-7", true, 804, 804),
            ("claude-sonnet-5", false, 354, 354),
            ("claude-haiku-4-5-20251001", true, 588, 588),
            ("claude-sonnet-4-20250514", false, 313, 313),
            ("claude-opus-5-1", false, 286, MOST_HIDDEN),
            ("claude-mythos-5", false, 286, 286),
            ("claude-3-haiku-20240307", false, 313, MOST_HIDDEN),
        ] {
            let count = hidden(model, forced);
            assert_eq!((count.likely, count.at_most), (likely, at_most), "{model}");
        }
    }

    #[test]
    fn tools_are_counted_with_what_the_provider_adds() {
        let model = "claude-opus-4-5";
        let profile = Profile::new(Dialect::AnthropicMessages, model);
        let tool = |raw| Tool { raw, name: "t".into(), description: None, parameters: None, hosted: false };
        let bash = tool(r#"{"type":"bash_20250124","name":"bash"}"#);
        assert_eq!(tools(profile, std::slice::from_ref(&bash), &ToolChoice::Auto, model).likely, 496 + 244);
        let search = tool(r#"{"type":"web_search_20250305","name":"web_search"}"#);
        let count = tools(profile, &[bash, search], &ToolChoice::Auto, model);
        assert_eq!(count.accuracy, Accuracy::UpperBound);
        assert!(count.likely > 496 + 244);
    }
}
