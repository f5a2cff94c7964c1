//! What a picture costs, by model, width and height.

pub(super) mod size;

use super::encoding::Family;
use super::tally::Tally;
use super::{Accuracy, Encoding};
use crate::dialect::{Image, Source};

/// How a model counts pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// OpenAI, older: a base, and so much for each tile of 512 pixels.
    Tiles { base: u64, tile: u64 },
    /// OpenAI, newer: patches of 32 pixels times hundredths.
    Patches { hundredths: u64, levels: Levels },
    /// Claude: squares of 28 pixels after shrinking to an edge and a number of tokens.
    Claude { edge: u64, cap: u64 },
    /// Gemini 3: a budget whatever the size.
    GeminiBudget,
    /// Gemini 2.5.
    Gemini25,
    /// Gemini 2.0: tiles of 768 pixels.
    GeminiTiles,
    /// No rule known: counted as OpenAI's dearest would.
    Unknown,
}

/// Limits by level of detail of a family that counts patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Levels {
    Gpt6,
    Gpt56,
    Gpt55,
    Gpt54,
    /// One limit for all levels of detail.
    Flat {
        budget: u64,
        at_most: u64,
    },
}

/// Most patches of a picture, and its longest edge in pixels.
#[derive(Clone, Copy)]
struct Limit {
    patches: u64,
    edge: u64,
}

/// Above this many patches OpenAI refuses a picture.
const MOST_PATCHES: u64 = 30_000;
/// No picture counts more, whatever model it is sent to.
const DEAREST: u64 = 48_169;

impl Rule {
    /// The rule of a model.
    pub(super) fn of(model: &str) -> Self {
        let found = Encoding::for_model(model);
        let name = super::encoding::bare(model);
        match found.family {
            Family::ClaudeOld => Self::Claude { edge: 1568, cap: 1568 },
            Family::ClaudeNew => Self::Claude { edge: 2576, cap: 4784 },
            Family::Gemini if name.starts_with("gemini-2.5") => Self::Gemini25,
            Family::Gemini if name.starts_with("gemini-2") || name.starts_with("gemini-1") => {
                Self::GeminiTiles
            }
            Family::Gemini => Self::GeminiBudget,
            Family::OpenAi => Self::of_openai(&name),
            Family::Other => Self::Unknown,
        }
    }

    fn of_openai(name: &str) -> Self {
        let tiles = |base, tile| Self::Tiles { base, tile };
        let patches = |hundredths, levels| Self::Patches { hundredths, levels };
        let flat = Levels::Flat { budget: 6144, at_most: 6144 };
        let small = Levels::Flat { budget: 1536, at_most: 6144 };
        // The first that fits: longer names stand ahead of those they begin with.
        let rows = [
            ("gpt-4o-mini", tiles(2833, 5667)),
            ("gpt-4.1-mini", patches(162, flat)),
            ("gpt-4.1-nano", patches(246, flat)),
            ("gpt-4", tiles(85, 170)),
            ("chatgpt-4o", tiles(85, 170)),
            ("gpt-5-mini", patches(120, small)),
            ("gpt-5-nano", patches(150, small)),
            ("gpt-5.2", patches(120, flat)),
            ("gpt-5.3", patches(120, flat)),
            ("gpt-5.4", patches(120, Levels::Gpt54)),
            ("gpt-5.5", patches(120, Levels::Gpt55)),
            ("gpt-5.6", patches(120, Levels::Gpt56)),
            ("gpt-5", tiles(70, 140)),
            ("gpt-6", patches(120, Levels::Gpt6)),
            ("o4", patches(172, flat)),
            ("codex-mini", patches(172, flat)),
            ("o1", tiles(75, 150)),
            ("o3", tiles(75, 150)),
            ("computer-use-preview", tiles(65, 129)),
        ];
        rows.into_iter().find(|(begins, _)| name.starts_with(begins)).map_or(Self::Unknown, |(_, rule)| rule)
    }

    /// Tokens of a picture of `size`, width and height in pixels.
    pub(super) fn tokens(self, size: (u64, u64), detail: Option<&str>) -> Tally {
        let (width, height) = size;
        match self {
            Self::Tiles { base, tile } => Tally::formula(match detail {
                Some("low") => base,
                _ => base + tile * tiles(width, height),
            }),
            Self::Patches { hundredths, levels } => {
                let (limit, safe) = levels.limits(detail);
                let price = |limit| (patches(width, height, limit) * hundredths).div_ceil(100);
                // Chat completions billed one more than the rule for each picture.
                let at_most = price(limit).max(price(safe)) + 1;
                Tally::of(price(limit), at_most, Accuracy::Formula)
            }
            Self::Claude { edge, cap } => Tally::formula(claude(width, height, edge, cap)),
            Self::GeminiBudget => Tally::formula(gemini(width, height, detail)),
            Self::Gemini25 => Tally::of(256, 2048, Accuracy::Calibrated),
            Self::GeminiTiles if width <= 384 && height <= 384 => Tally::formula(258),
            Self::GeminiTiles => Tally::formula(258 * width.div_ceil(768) * height.div_ceil(768)),
            Self::Unknown => {
                let likely = 85 + 170 * tiles(width, height);
                Tally::of(likely, DEAREST, Accuracy::UpperBound)
            }
        }
    }

    /// Tokens of a picture whose size is not known: that of 1024 x 1024 pixels, and the model's maximum.
    pub(super) fn unknown_size(self, detail: Option<&str>) -> Tally {
        let at_most = match self {
            Self::Tiles { base, .. } if detail == Some("low") => base,
            Self::Tiles { base, tile } => base + 8 * tile,
            Self::Patches { hundredths, levels } => {
                let (limit, safe) = levels.limits(detail);
                (limit.most().max(safe.most()) * hundredths).div_ceil(100) + 1
            }
            Self::Claude { cap, .. } => cap,
            Self::GeminiBudget => gemini_budget(detail),
            Self::Gemini25 => 2048,
            Self::GeminiTiles | Self::Unknown => DEAREST,
        };
        Tally::of(self.tokens((1024, 1024), detail).likely, at_most, Accuracy::UpperBound)
    }

    /// Tokens of a picture part; `otherwise` is the detail of one that says none.
    pub(super) fn count(self, image: &Image<'_>, otherwise: Option<&str>) -> Tally {
        let detail = image.detail.as_deref().or(otherwise);
        match &image.source {
            Source::Base64 { data, .. } => match size::of_base64(data) {
                Some(size) => self.tokens(size, detail),
                None => self.unknown_size(detail),
            },
            Source::Url(_) | Source::Id(_) => self.unknown_size(detail),
        }
    }
}

impl Limit {
    /// Most patches there can be: those of a square of the longest edge, if the edge binds first.
    fn most(self) -> u64 {
        self.patches.min(self.edge.div_ceil(32).pow(2))
    }
}

impl Levels {
    /// The limit in force, and that of the upper bound.
    fn limits(self, detail: Option<&str>) -> (Limit, Limit) {
        let limit = |patches, edge| Limit { patches, edge };
        let low = limit(MOST_PATCHES, 512);
        let full = limit(MOST_PATCHES, 65_535);
        let chosen = match (self, detail.unwrap_or("auto")) {
            (Self::Flat { budget, at_most }, _) => return (limit(budget, 2048), limit(at_most, 2048)),
            (Self::Gpt54, "low") => limit(6144, 2048),
            (_, "low") => low,
            (Self::Gpt6, "high") => limit(2500, 65_535),
            (_, "high") => limit(2500, 2048),
            (Self::Gpt54, "original") | (Self::Gpt55, _) => limit(10_000, 6000),
            (Self::Gpt54, _) => limit(2500, 2048),
            (Self::Gpt6 | Self::Gpt56, _) => full,
        };
        (chosen, chosen)
    }
}

/// Tiles of 512 pixels after fitting into 2048 x 2048 and then bringing the shorter side down to 768.
fn tiles(width: u64, height: u64) -> u64 {
    let (long, short) = (width.max(height), width.min(height));
    // With whole numbers: 768 and 2048 are 3/2 and 4 tiles.
    let fitted_short_over_768 = if long > 2048 { short * 2048 > 768 * long } else { short > 768 };
    if fitted_short_over_768 {
        2 * (3 * long).div_ceil(2 * short)
    } else if long > 2048 {
        4 * (4 * short).div_ceil(long).max(1)
    } else {
        long.div_ceil(512) * short.div_ceil(512)
    }
}

/// Patches of 32 pixels within a limit.
fn patches(width: u64, height: u64, limit: Limit) -> u64 {
    let (mut width, mut height) = (width, height);
    let long = width.max(height);
    if long > limit.edge {
        width = (width * limit.edge / long).max(1);
        height = (height * limit.edge / long).max(1);
    }
    let count = |width: u64, height: u64| width.div_ceil(32).max(1) * height.div_ceil(32).max(1);
    if count(width, height) <= limit.patches {
        return count(width, height);
    }
    // The scale that just holds the budget, then down to whole patches along the side that loses less by it.
    let across = (limit.patches * width / height).isqrt();
    let down = (limit.patches * height / width).isqrt();
    let (w, h) = if across * height <= down * width {
        (32 * across, 32 * across * height / width)
    } else {
        (32 * down * width / height, 32 * down)
    };
    count(w, h).min(limit.patches)
}

/// Squares of 28 pixels of the largest picture of this shape that fits the edge and the cap.
fn claude(width: u64, height: u64, edge: u64, cap: u64) -> u64 {
    let (long, short) = (width.max(height), width.min(height));
    let shrunk = |side: u64| round_half_even(side * short, long).max(1);
    let squares = |side: u64| side.div_ceil(28) * shrunk(side).div_ceil(28);
    let fits = |side: u64| side.div_ceil(28) * 28 <= edge && squares(side) <= cap;
    if fits(long) {
        return squares(long);
    }
    let (mut good, mut bad) = (1, long);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    squares(good)
}

fn round_half_even(over: u64, under: u64) -> u64 {
    let (whole, rest) = (over / under, over % under);
    match (2 * rest).cmp(&under) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + whole % 2,
    }
}

/// Tokens a picture may take at this resolution. `low` and the rest of OpenAI's words are what its compatible
/// endpoint passes on.
fn gemini_budget(detail: Option<&str>) -> u64 {
    match detail {
        Some("low" | "MEDIA_RESOLUTION_LOW") => 280,
        Some("medium" | "MEDIA_RESOLUTION_MEDIUM") => 560,
        Some("ultra_high" | "MEDIA_RESOLUTION_ULTRA_HIGH") => 2240,
        _ => 1120,
    }
}

fn gemini(width: u64, height: u64, detail: Option<&str>) -> u64 {
    let budget = gemini_budget(detail);
    let across = (budget * width / height).isqrt().clamp(1, budget);
    let down = (budget * height / width).isqrt().clamp(1, budget);
    (across * down).min(budget)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn likely(model: &str, size: (u64, u64), detail: Option<&str>) -> u64 {
        Rule::of(model).tokens(size, detail).likely
    }

    #[test]
    fn published_values_come_out() {
        for (model, size, detail, want) in [
            ("gpt-4o", (1, 1), None, 255),
            ("gpt-4o", (1024, 1024), Some("high"), 765),
            ("gpt-4o", (2048, 4096), None, 1105),
            ("gpt-4o", (4096, 8192), Some("low"), 85),
            ("gpt-4o-mini", (1, 1), None, 8500),
            ("gpt-5.5", (4032, 3024), None, 11_868),
            ("gpt-6", (4032, 3024), None, 14_364),
            ("gpt-6", (3840, 2160), Some("high"), 2931),
            ("gpt-5-mini", (1600, 1600), None, 1826),
            ("claude-opus-5", (1000, 1000), None, 1296),
            ("claude-opus-5", (1920, 1080), None, 2691),
            ("claude-sonnet-4-5", (1920, 1080), None, 1560),
            ("claude-opus-5", (3840, 2160), None, 4784),
            ("claude-sonnet-4-5", (3840, 2160), None, 1560),
            ("claude-sonnet-4-5", (1075, 1520), None, 1551),
            ("gemini-3-pro", (512, 512), None, 1089),
            ("gemini-3-pro", (1920, 1080), None, 1100),
            ("gemini-3-pro", (4032, 3024), None, 1064),
            ("gemini-2.0-flash", (384, 384), None, 258),
        ] {
            assert_eq!(likely(model, size, detail), want, "{model} {size:?} {detail:?}");
        }
    }

    proptest! {
        #[test]
        fn no_size_passes_the_models_maximum(
            width in prop_oneof![1u64..70_000, 1u64..=u64::from(u32::MAX)],
            height in prop_oneof![1u64..70_000, 1u64..=u64::from(u32::MAX)],
            detail in prop::sample::select(vec![None, Some("low"), Some("high"), Some("original"), Some("auto")]),
        ) {
            for model in ["gpt-4o", "gpt-4o-mini", "gpt-5.4", "gpt-5.5", "gpt-6", "gpt-5-nano", "claude-opus-5",
                "claude-sonnet-4-5", "gemini-3-pro", "gemini-2.5-pro", "llama", "o4-mini"] {
                let rule = Rule::of(model);
                let count = rule.tokens((width, height), detail);
                prop_assert!(count.likely >= 1 && count.likely <= count.at_most, "{}", model);
                prop_assert!(count.at_most <= rule.unknown_size(detail).at_most, "{}", model);
            }
        }
    }
}
