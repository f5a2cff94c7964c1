//! Which encoding a model has, from its name; and the factors of models whose tokenizer is not public.

use super::{Encoding, Measured};
use crate::tokens::Accuracy;

/// What is known about a model's tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ModelEncoding {
    /// The encoding to count with.
    pub encoding: Encoding,
    /// Whose tokenizer the model really has.
    pub family: Family,
    /// True if the encoding is published for this model; else it is the nearest guess.
    pub sure: bool,
}

/// Whose tokenizer a model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// OpenAI, encodings published.
    OpenAi,
    /// Claude before Opus 4.7.
    ClaudeOld,
    /// Claude from Opus 4.7 on: up to half as many tokens again for the same text.
    ClaudeNew,
    /// Gemini and Gemma.
    Gemini,
    /// Every other model.
    Other,
}

/// Kinds of text that tokenizers treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TextClass {
    /// Running text in a Latin script, and whatever is not the rest.
    Prose,
    /// Program text.
    Code,
    /// JSON and tables.
    Data,
    /// Over 30 % letters of other scripts: Chinese, Japanese, Korean, Cyrillic, Arabic, Hindi.
    Wide,
}

impl TextClass {
    /// The class of a text, by its first 4 KB.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut end = text.len().min(4096);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let head = &text[..end];
        if head.trim_start().starts_with(['{', '[']) || is_table(head) {
            return Self::Data;
        }
        let (mut seen, mut wide, mut signs) = (0usize, 0usize, 0usize);
        for c in head.chars().filter(|c| !c.is_whitespace()) {
            seen += 1;
            // From Greek on, without the blocks of punctuation and symbols.
            wide += usize::from(c >= '\u{370}' && !('\u{2000}'..='\u{2bff}').contains(&c));
            signs +=
                usize::from(matches!(c, '{' | '}' | '(' | ')' | '[' | ']' | ';' | '=' | '<' | '>' | '_'));
        }
        if wide * 10 > seen * 3 {
            Self::Wide
        } else if signs * 100 > seen * 6 && head.contains('\n') {
            Self::Code
        } else {
            Self::Prose
        }
    }
}

/// True if the first two lines have the same two or more separators.
fn is_table(head: &str) -> bool {
    let mut lines = head.lines();
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return false };
    [',', '\t', '|', ';'].into_iter().any(|sign| {
        let columns = first.matches(sign).count();
        columns >= 2 && columns == second.matches(sign).count()
    })
}

impl Family {
    /// Thousandths of the o200k count that are likely for text of this class.
    ///
    /// Start values of 2026-10 from public measurements; they lean high. Those of [`Other`](Self::Other) rest on
    /// no measurement.
    #[must_use]
    pub fn factor(self, class: TextClass) -> u64 {
        use TextClass::{Code, Data, Prose, Wide};
        match (self, class) {
            (Self::OpenAi, _) => 1000,
            (Self::ClaudeOld, _) => 1200,
            (Self::ClaudeNew, Prose) => 1700,
            (Self::ClaudeNew, Code) => 1450,
            (Self::ClaudeNew, Data) => 1550,
            (Self::ClaudeNew, Wide) => 1200,
            (Self::Gemini, Prose | Wide) => 1050,
            (Self::Gemini, Code) => 1150,
            (Self::Gemini, Data) => 1300,
            (Self::Other, Prose | Code) => 1150,
            (Self::Other, Data | Wide) => 1300,
        }
    }

    /// Thousandths of the likely figure that are hardly ever passed.
    fn margin(self) -> u64 {
        match self {
            Self::Other => 1500,
            _ => 1100,
        }
    }
}

impl ModelEncoding {
    /// Name of the encoding, with the factor for prose where there is one: `o200k_base x 1.70`.
    #[must_use]
    pub fn label(self) -> &'static str {
        if cfg!(not(feature = "tiktoken")) {
            return "bytes";
        }
        match self.family {
            Family::OpenAi => self.encoding.name(),
            Family::ClaudeOld => "o200k_base x 1.20",
            Family::ClaudeNew => "o200k_base x 1.70",
            Family::Gemini => "o200k_base x 1.05",
            Family::Other => "o200k_base x 1.15",
        }
    }

    /// Tokens of one text for this model.
    pub(crate) fn measure(self, text: &str) -> Measured {
        let raw = self.encoding.measure(text);
        if self.family == Family::OpenAi && self.sure {
            return raw;
        }
        let bytes = text.len() as u64;
        let factor = self.family.factor(TextClass::of(text));
        // No tokenizer that falls back to bytes makes more tokens than there are bytes.
        let likely = (raw.likely * factor).div_ceil(1000).min(bytes);
        let at_most = match raw.accuracy {
            Accuracy::UpperBound => bytes,
            _ => (likely * self.family.margin()).div_ceil(1000).min(bytes),
        };
        Measured { likely, at_most, accuracy: raw.accuracy.max(Accuracy::Calibrated) }
    }
}

/// Names that begin like this, longest first where one begins another. `exact` names stand alone or before `-`.
struct Row {
    begins: &'static str,
    exact: bool,
    encoding: Encoding,
    sure: bool,
}

const fn row(begins: &'static str, encoding: Encoding) -> Row {
    Row { begins, exact: false, encoding, sure: true }
}

const fn word(begins: &'static str, encoding: Encoding) -> Row {
    Row { begins, exact: true, encoding, sure: true }
}

const TABLE: &[Row] = &[
    row("gpt-oss", Encoding::O200kHarmony),
    row("gpt-4o", Encoding::O200kBase),
    row("chatgpt-4o", Encoding::O200kBase),
    row("gpt-4.1", Encoding::O200kBase),
    row("gpt-4.5", Encoding::O200kBase),
    row("gpt-5", Encoding::O200kBase),
    // Assumed to be that of the generation before; nothing is published.
    Row { begins: "gpt-6", exact: false, encoding: Encoding::O200kBase, sure: false },
    word("o1", Encoding::O200kBase),
    word("o3", Encoding::O200kBase),
    word("o4", Encoding::O200kBase),
    row("codex-", Encoding::O200kBase),
    word("chat-latest", Encoding::O200kBase),
    word("computer-use-preview", Encoding::O200kBase),
    word("gpt-4", Encoding::Cl100kBase),
    row("gpt-3.5", Encoding::Cl100kBase),
    row("gpt-35-", Encoding::Cl100kBase),
    row("text-embedding-3-", Encoding::Cl100kBase),
    word("text-embedding-ada-002", Encoding::Cl100kBase),
    word("davinci-002", Encoding::Cl100kBase),
    word("babbage-002", Encoding::Cl100kBase),
    word("text-davinci-003", Encoding::P50kBase),
    word("text-davinci-002", Encoding::P50kBase),
    row("code-davinci-00", Encoding::P50kBase),
    row("code-cushman-00", Encoding::P50kBase),
    row("text-davinci-edit-", Encoding::P50kEdit),
    row("code-davinci-edit-", Encoding::P50kEdit),
    word("text-davinci-001", Encoding::R50kBase),
    row("text-curie-", Encoding::R50kBase),
    row("text-babbage-", Encoding::R50kBase),
    row("text-ada-", Encoding::R50kBase),
    row("text-similarity-", Encoding::R50kBase),
    row("text-search-", Encoding::R50kBase),
    row("code-search-", Encoding::R50kBase),
    word("davinci", Encoding::R50kBase),
    word("curie", Encoding::R50kBase),
    word("babbage", Encoding::R50kBase),
    word("ada", Encoding::R50kBase),
    word("gpt2", Encoding::R50kBase),
    word("gpt-2", Encoding::R50kBase),
];

/// The bare name: lower case, without provider, region or fine-tuning marks.
pub(crate) fn bare(model: &str) -> String {
    let lower = model.trim().to_ascii_lowercase();
    let name = lower.rsplit('/').next().unwrap_or_default();
    let name = match name.strip_prefix("ft:") {
        Some(tuned) => tuned.split(':').next().unwrap_or_default(),
        None => name,
    };
    let name =
        ["us.", "eu.", "apac.", "global."].iter().find_map(|mark| name.strip_prefix(mark)).unwrap_or(name);
    ["anthropic.", "openai.", "google."]
        .iter()
        .find_map(|mark| name.strip_prefix(mark))
        .unwrap_or(name)
        .to_owned()
}

/// See [`Encoding::for_model`].
pub(super) fn of(model: &str) -> ModelEncoding {
    let name = bare(model);
    let fits = |row: &&Row| {
        name.strip_prefix(row.begins)
            .is_some_and(|rest| !row.exact || rest.is_empty() || rest.starts_with('-'))
    };
    if let Some(row) = TABLE.iter().filter(fits).max_by_key(|row| row.begins.len()) {
        return ModelEncoding { encoding: row.encoding, family: Family::OpenAi, sure: row.sure };
    }
    let family = if let Some(claude) = Claude::of(model) {
        if claude.new_tokenizer() { Family::ClaudeNew } else { Family::ClaudeOld }
    } else if name.starts_with("gemini") || name.starts_with("gemma") {
        Family::Gemini
    } else if name.starts_with("gpt-") || name.starts_with("chatgpt") {
        Family::OpenAi
    } else {
        Family::Other
    };
    ModelEncoding { encoding: Encoding::O200kBase, family, sure: false }
}

/// A Claude model as its name tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claude {
    pub(crate) line: Line,
    /// Major and minor version, if the name has one.
    pub(crate) version: Option<(u32, u32)>,
}

/// The lines of Claude models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Opus,
    Sonnet,
    Haiku,
    Other,
}

impl Claude {
    /// `None` for a name that is no Claude's.
    pub(crate) fn of(model: &str) -> Option<Self> {
        let name = bare(model);
        let rest = &name[name.find("claude")?..];
        let (mut line, mut numbers) = (Line::Other, Vec::new());
        for word in rest.split(['-', '.', '@', '_', ':']) {
            match word {
                "opus" => line = Line::Opus,
                "sonnet" => line = Line::Sonnet,
                "haiku" => line = Line::Haiku,
                // A longer number is a date.
                _ if word.len() <= 2 => numbers.extend(word.parse::<u32>().ok()),
                _ => {}
            }
        }
        // Bedrock ends a name in `-v1:0`: that number stands after a date and is no version.
        let dated =
            rest.split(['-', '@']).any(|word| word.len() == 8 && word.bytes().all(|b| b.is_ascii_digit()));
        if dated && rest.contains(':') {
            numbers.pop();
        }
        let version = numbers.first().map(|major| (*major, numbers.get(1).copied().unwrap_or(0)));
        Some(Self { line, version })
    }

    /// Opus 4.7 and all that is later or unknown: a guess too high is the safe one.
    pub(crate) fn new_tokenizer(self) -> bool {
        self.version.is_none_or(|version| version >= (4, 7))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_name_is_not_swallowed_by_a_shorter() {
        for (model, encoding) in [
            ("gpt-4", Encoding::Cl100kBase),
            ("gpt-4-0613", Encoding::Cl100kBase),
            ("gpt-4-turbo-2024-04-09", Encoding::Cl100kBase),
            ("gpt-4o", Encoding::O200kBase),
            ("openai/gpt-4.1-nano", Encoding::O200kBase),
            ("gpt-4.5-preview", Encoding::O200kBase),
            ("gpt-35-turbo", Encoding::Cl100kBase),
            ("ft:gpt-3.5-turbo-0125:org::id", Encoding::Cl100kBase),
            ("gpt-oss-20b", Encoding::O200kHarmony),
            ("o4-pro", Encoding::O200kBase),
            ("babbage-002", Encoding::Cl100kBase),
            ("text-davinci-003", Encoding::P50kBase),
            ("code-davinci-edit-001", Encoding::P50kEdit),
            ("davinci", Encoding::R50kBase),
        ] {
            let found = of(model);
            assert_eq!((found.encoding, found.sure), (encoding, true), "{model}");
        }
    }

    #[test]
    fn claude_versions_are_read_in_every_spelling() {
        for (model, line, version, new) in [
            ("claude-3-5-sonnet-20241022", Line::Sonnet, Some((3, 5)), false),
            ("claude-opus-4-20250514", Line::Opus, Some((4, 0)), false),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Line::Sonnet, Some((4, 5)), false),
            ("claude-opus-4-5@20251101", Line::Opus, Some((4, 5)), false),
            ("anthropic/claude-opus-4.7", Line::Opus, Some((4, 7)), true),
            ("claude-sonnet-5", Line::Sonnet, Some((5, 0)), true),
            ("claude-mythos-preview", Line::Other, None, true),
        ] {
            let claude = Claude::of(model).expect(model);
            assert_eq!(
                (claude.line, claude.version, claude.new_tokenizer()),
                (line, version, new),
                "{model}"
            );
        }
        assert_eq!(Claude::of("gpt-4o"), None);
    }

    #[test]
    fn an_unknown_name_is_a_guess_and_says_so() {
        for (model, family) in [
            ("gpt-9", Family::OpenAi),
            ("llama-3.3-70b", Family::Other),
            ("models/gemini-3-pro", Family::Gemini),
            ("", Family::Other),
        ] {
            let found = of(model);
            assert_eq!((found.family, found.sure), (family, false), "{model}");
        }
    }

    #[test]
    fn texts_fall_into_the_class_they_look_like() {
        for (text, class) in [
            ("The quick brown fox jumps over the lazy dog.", TextClass::Prose),
            (" {\"a\": 1}", TextClass::Data),
            ("id,name,size\n1,a,3\n2,b,4\n", TextClass::Data),
            ("fn main() {\n    let x = f(1);\n    g(x, y[0]);\n}\n", TextClass::Code),
            ("Привет, мир", TextClass::Wide),
            ("你好，世界", TextClass::Wide),
            ("", TextClass::Prose),
        ] {
            assert_eq!(TextClass::of(text), class, "{text}");
        }
    }
}
