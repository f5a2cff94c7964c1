//! Facts about model families: which fields they refuse. State of 2026-11-24.
//!
//! Sources, by letter: (W) the vendors' API references for chat completions and Messages as of November 2026;
//! (L) the flags of LiteLLM's price table 1.109.1; (C) what users of the vendors' APIs reported of refused fields
//! (community.openai.com topic 1110750, BerriAI/litellm#13781, #16658, #28662, vercel/ai#10932).
//! Where the sources leave a gap the stricter reading stands, since a switch that is not made costs less than one
//! that fails. A name that no rule knows is `Vendor::Other`, of which nothing is assumed.

/// Who makes a model, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    OpenAi(OpenAi),
    Anthropic(Claude),
    /// Known to be neither of the two above.
    Foreign,
    /// A free name: a deployment, a fine-tune, a local model.
    Other,
}

/// What an OpenAI model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenAi {
    /// Thinks before it writes, and so refuses `max_tokens`, sampling fields, penalties and log probabilities (W).
    pub(super) thinks: bool,
    /// Samples like a plain model when `reasoning_effort` is `none`: gpt-5.1 and later (C: vercel/ai#10932).
    pub(super) samples_without_effort: bool,
    /// Effort levels; empty when the field is refused.
    pub(super) efforts: &'static [&'static str],
    /// gpt-5 and later take `verbosity` (W).
    pub(super) verbosity: bool,
    /// o3 and o4-mini refuse `stop` (W), and so do gpt-5, its mini and nano (C: litellm#28662).
    pub(super) stop: bool,
    /// The `developer` role: not on o1-mini and o1-preview (C), gpt-3.5 and the first gpt-4.
    pub(super) developer: bool,
    /// The `system` role: not on o1-mini and o1-preview (C).
    pub(super) system: bool,
    /// Tools: not on o1-mini, o1-preview and chatgpt-4o (C).
    pub(super) tools: bool,
    /// `parallel_tool_calls`: not on the o-series (W).
    pub(super) parallel_tools: bool,
    /// Pictures: not on gpt-3.5, the first gpt-4, o1-mini, o1-preview, o3-mini (C, L).
    pub(super) images: bool,
    /// Sound: only the audio models (L).
    pub(super) audio: bool,
    /// `response_format` of type json_schema: from gpt-4o and o1 on (C).
    pub(super) schema: bool,
    /// `service_tier` flex: o3, o4-mini, gpt-5 and later (W).
    pub(super) flex: bool,
    /// `prompt_cache_options` and breakpoints: gpt-5.6 and later (W).
    pub(super) cache_options: bool,
}

/// Which Claude it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claude {
    /// Major and minor number; (0, 0) when the name has none.
    pub(super) version: (u32, u32),
    pub(super) line: Line,
}

/// The line of a Claude model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Haiku,
    Sonnet,
    Opus,
    Fable,
    Mythos,
    Unknown,
}

impl Claude {
    /// Sampling fields are refused from 4.7 on (W).
    pub(super) fn samples(self) -> bool {
        self.version < (4, 7)
    }

    /// `temperature` and `top_p` at once are refused from 4.1 on (C).
    pub(super) fn samples_both(self) -> bool {
        self.version < (4, 1)
    }

    /// A final assistant turn is refused from 4.6 on (W, L).
    pub(super) fn prefill(self) -> bool {
        self.version < (4, 6)
    }

    /// `thinking` of type enabled with `budget_tokens`: 3.7 to 4.6 (W).
    pub(super) fn budget_tokens(self) -> bool {
        self.version >= (3, 7) && self.version < (4, 7)
    }

    /// `thinking` of type adaptive: from 4.6 on (W).
    pub(super) fn adaptive(self) -> bool {
        self.version >= (4, 6)
    }

    /// Thinks whatever is asked: opus-5-5, sonnet-5-5, every fable and mythos (W).
    pub(super) fn always_thinks(self) -> bool {
        match self.line {
            Line::Fable | Line::Mythos => true,
            Line::Opus | Line::Sonnet => self.version >= (5, 5),
            Line::Haiku | Line::Unknown => false,
        }
    }

    /// `output_config.effort`: opus from 4.5 on, all from 4.6 on; `max` from 4.6, `xhigh` from 4.7 on (W).
    pub(super) fn effort(self, level: &str) -> bool {
        let takes = self.version >= (4, 6) || self.line == Line::Opus && self.version >= (4, 5);
        takes
            && match level {
                "low" | "medium" | "high" => true,
                "max" => self.version >= (4, 6),
                "xhigh" => self.version >= (4, 7),
                _ => false,
            }
    }

    /// `output_config.format`: from 4.1 on.
    pub(super) fn format(self) -> bool {
        self.version >= (4, 1)
    }

    /// `speed` fast: opus from 4.6 on.
    pub(super) fn fast(self) -> bool {
        self.line == Line::Opus && self.version >= (4, 6)
    }

    /// Pictures: from 3 on.
    pub(super) fn images(self) -> bool {
        self.version >= (3, 0)
    }
}

const O_SERIES: &[&str] = &["low", "medium", "high"];
const GPT_5: &[&str] = &["minimal", "low", "medium", "high"];
const GPT_5_1: &[&str] = &["none", "low", "medium", "high"];
const GPT_5_2: &[&str] = &["none", "low", "medium", "high", "xhigh"];
const GPT_5_6: &[&str] = &["none", "low", "medium", "high", "xhigh", "max"];

/// Names that are surely of neither OpenAI nor Anthropic.
const FOREIGN: [&str; 8] =
    ["gemini", "mistral", "llama", "deepseek", "grok", "qwen", "command-r", "amazon.nova"];

/// The family of a model name; gateway prefixes (`openai/`), `ft:` and dates are looked through.
pub(super) fn family(model: &str) -> Vendor {
    let name = model.to_ascii_lowercase();
    let name = name.rsplit('/').next().unwrap_or(&name);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    if let Some(at) = name.find("claude") {
        return Vendor::Anthropic(claude(&name[at + 6..]));
    }
    if let Some(facts) = openai(name) {
        return Vendor::OpenAi(facts);
    }
    if FOREIGN.iter().any(|word| name.starts_with(word)) { Vendor::Foreign } else { Vendor::Other }
}

fn claude(rest: &str) -> Claude {
    let mut numbers = Vec::new();
    let mut line = Line::Unknown;
    for word in rest.split(['-', '.', '@', ':']) {
        match word {
            "haiku" => line = Line::Haiku,
            "sonnet" => line = Line::Sonnet,
            "opus" => line = Line::Opus,
            "fable" => line = Line::Fable,
            "mythos" => line = Line::Mythos,
            // A date has eight digits, and `v1` is a cloud's own version.
            _ if word.len() <= 2 => numbers.extend(word.parse::<u32>().ok()),
            _ => {}
        }
    }
    let at = |i: usize| numbers.get(i).copied().unwrap_or(0);
    Claude { version: (at(0), at(1)), line }
}

fn openai(name: &str) -> Option<OpenAi> {
    let plain = OpenAi {
        thinks: false,
        samples_without_effort: false,
        efforts: &[],
        verbosity: false,
        stop: true,
        developer: true,
        system: true,
        tools: true,
        parallel_tools: true,
        images: true,
        audio: false,
        schema: true,
        flex: false,
        cache_options: false,
    };
    if name.starts_with("chatgpt-") {
        return Some(OpenAi { tools: false, schema: false, ..plain });
    }
    if name.starts_with("gpt-audio") || name.contains("-audio") && name.starts_with("gpt-") {
        return Some(OpenAi { images: false, audio: true, schema: false, ..plain });
    }
    if let Some(rest) = name.strip_prefix('o')
        && rest.starts_with(|c: char| c.is_ascii_digit())
    {
        return Some(o_series(name, OpenAi { thinks: true, parallel_tools: false, ..plain }));
    }
    let rest = name.strip_prefix("gpt-")?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let major: u32 = digits(rest).parse().ok()?;
    let minor: u32 = rest.split_once('.').map_or(0, |(_, rest)| digits(rest).parse().unwrap_or(0));
    let version = (major, if rest.starts_with(&format!("{major}.")) { minor } else { 0 });
    if major >= 5 && !rest.contains("-chat") {
        let efforts = match version {
            (5, 0) if rest.contains("-pro") => &["high"],
            (5, 0) => GPT_5,
            (5, 1) => GPT_5_1,
            (5, 2..=5) => GPT_5_2,
            _ => GPT_5_6,
        };
        return Some(OpenAi {
            thinks: true,
            samples_without_effort: version >= (5, 1),
            efforts,
            verbosity: true,
            stop: version >= (5, 1),
            flex: true,
            cache_options: version >= (5, 6),
            ..plain
        });
    }
    let old =
        rest.starts_with("3.5") || matches!(rest, "4" | "4-0314" | "4-0613") || rest.starts_with("4-32k");
    let turbo = rest.starts_with("4-turbo") || rest.starts_with("4-1106") || rest.starts_with("4-0125");
    let schema = !old && !turbo;
    Some(OpenAi { developer: !old, images: !old, schema, ..plain })
}

fn o_series(name: &str, thinking: OpenAi) -> OpenAi {
    if name.starts_with("o1-mini") || name.starts_with("o1-preview") {
        return OpenAi {
            developer: false,
            system: false,
            tools: false,
            images: false,
            schema: false,
            ..thinking
        };
    }
    let o1_or_o3_mini = name.starts_with("o1") || name.starts_with("o3-mini");
    OpenAi {
        efforts: O_SERIES,
        stop: o1_or_o3_mini,
        images: !name.starts_with("o3-mini"),
        flex: !o1_or_o3_mini,
        ..thinking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_openai(name: &str) -> OpenAi {
        match family(name) {
            Vendor::OpenAi(facts) => facts,
            other => panic!("{name} is taken for {other:?}"),
        }
    }

    #[test]
    fn claude_names_of_every_spelling_have_their_version() {
        for (name, version, line) in [
            ("claude-haiku-4-5-20251001", (4, 5), Line::Haiku),
            ("claude-3-5-sonnet-20241022", (3, 5), Line::Sonnet),
            ("claude-opus-4-20250514", (4, 0), Line::Opus),
            ("anthropic/claude-sonnet-4.6", (4, 6), Line::Sonnet),
            ("us.anthropic.claude-opus-4-7-20260401-v1:0", (4, 7), Line::Opus),
            ("claude-sonnet-4-5@20250929", (4, 5), Line::Sonnet),
            ("claude-fable-5-1", (5, 1), Line::Fable),
            ("claude-opus-5", (5, 0), Line::Opus),
        ] {
            assert_eq!(family(name), Vendor::Anthropic(Claude { version, line }), "{name}");
        }
    }

    #[test]
    fn openai_names_of_every_spelling_are_told_apart() {
        for thinking in
            ["o1", "o3-mini", "o4-mini", "gpt-5", "openai/gpt-5-nano", "gpt-6.1-sol", "ft:gpt-5-mini:me"]
        {
            assert!(of_openai(thinking).thinks, "{thinking}");
        }
        for plain in
            ["gpt-4o-mini", "gpt-4.1-nano", "gpt-3.5-turbo", "gpt-5-chat-latest", "chatgpt-4o-latest"]
        {
            assert!(!of_openai(plain).thinks, "{plain}");
        }
        assert!(!of_openai("gpt-5").samples_without_effort && of_openai("gpt-5.1").samples_without_effort);
        assert!(!of_openai("gpt-5.5").cache_options && of_openai("gpt-6-luna").cache_options);
        assert!(
            of_openai("gpt-4o").images && !of_openai("gpt-4-0613").images && of_openai("gpt-4-turbo").images
        );
        assert!(of_openai("gpt-4o-audio-preview").audio && !of_openai("gpt-4o").audio);
        assert!(!of_openai("o3").stop && of_openai("o3-mini").stop && !of_openai("o4-mini").stop);
    }

    #[test]
    fn of_a_free_name_nothing_is_assumed() {
        for name in ["my-deployment", "", "ollama3", "opus", "gpt-oss", "o"] {
            assert_eq!(family(name), Vendor::Other, "{name:?}");
        }
        assert_eq!(family("google/gemini-3-flash"), Vendor::Foreign);
    }
}
