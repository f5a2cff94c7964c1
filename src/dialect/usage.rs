//! Token counts in one normal form.

use crate::call::json::{self, Object};

/// Hands the names of all counts of a [`Usage`] to the macro named, for those who write or read each of them. The order
/// is that of stored entries: a new count goes last, and the format's version up.
macro_rules! each_count {
    ($with:ident) => {
        $with!(
            input,
            read,
            write_short,
            write_long,
            output,
            reasoning,
            input_audio,
            input_image,
            input_video,
            read_audio,
            read_image,
            read_video,
            output_audio,
            output_image,
            input_text,
            input_tool,
            output_text,
            searches
        );
    };
}
pub(crate) use each_count;

/// Token counts of one call as the provider reported them, in one normal form.
///
/// `input` includes cached tokens and `output` includes reasoning, whatever the provider's own habit is. Unknown is
/// `None`, never 0: a provider that says nothing about reasoning has not said "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// All prompt tokens, cached ones included.
    pub input: Option<u64>,
    /// Part of `input` that came from the provider's prompt cache.
    pub read: Option<u64>,
    /// Part of `input` written to the provider's prompt cache for a short time (5 or 30 minutes).
    pub write_short: Option<u64>,
    /// Part of `input` written to the provider's prompt cache for a long time (1 or 12 hours).
    pub write_long: Option<u64>,
    /// All generated tokens, reasoning included.
    pub output: Option<u64>,
    /// Part of `output` spent on reasoning.
    pub reasoning: Option<u64>,
    /// Part of `input` that is audio.
    pub input_audio: Option<u64>,
    /// Part of `input` that is pictures.
    pub input_image: Option<u64>,
    /// Part of `input` that is film.
    pub input_video: Option<u64>,
    /// Part of both `read` and `input_audio`.
    pub read_audio: Option<u64>,
    /// Part of both `read` and `input_image`.
    pub read_image: Option<u64>,
    /// Part of both `read` and `input_video`.
    pub read_video: Option<u64>,
    /// Part of `output` that is audio.
    pub output_audio: Option<u64>,
    /// Part of `output` that is pictures.
    pub output_image: Option<u64>,
    /// Part of `input` that is plain text, where a provider lists it.
    pub input_text: Option<u64>,
    /// Part of `input` that the provider's own tools put there (Gemini).
    pub input_tool: Option<u64>,
    /// Part of `output` that is plain text, where a provider lists it.
    pub output_text: Option<u64>,
    /// Web searches the provider ran and bills by the thousand.
    pub searches: Option<u64>,
}

impl Usage {
    /// Input and output tokens, no parts.
    #[must_use]
    pub fn of(input: u64, output: u64) -> Self {
        Self { input: Some(input), output: Some(output), ..Self::default() }
    }

    /// The same with this many input tokens read from the provider's prompt cache.
    #[must_use]
    pub fn with_read(mut self, read: u64) -> Self {
        self.read = Some(read);
        self
    }

    /// True if both sides are known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.input.is_some() && self.output.is_some()
    }

    /// True if no part is larger than its whole. Counts that contradict each other cannot be priced.
    ///
    /// # Example
    /// ```
    /// use thrifty::dialect::Usage;
    ///
    /// assert!(Usage::of(100, 5).with_read(100).is_consistent());
    /// assert!(!Usage::of(100, 5).with_read(101).is_consistent());
    /// ```
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let cached = sum([self.read, self.write_short, self.write_long]);
        fits(cached, self.input)
            && fits(sum([self.input_audio, self.input_image, self.input_video, self.input_text]), self.input)
            && fits(self.input_tool, self.input)
            && fits(sum([self.read_audio, self.read_image, self.read_video]), self.read)
            && fits(self.read_audio, self.input_audio)
            && fits(self.read_image, self.input_image)
            && fits(self.read_video, self.input_video)
            && fits(self.reasoning, self.output)
            && fits(sum([self.output_audio, self.output_image, self.output_text]), self.output)
    }

    /// This, unless its counts contradict each other or the `total` that the provider gave.
    pub(super) fn checked(self, total: Option<u64>) -> Result<Self, Contradiction> {
        let adds_up = match (self.input, self.output, total) {
            (Some(input), Some(output), Some(total)) => input.checked_add(output) == Some(total),
            _ => true,
        };
        if adds_up && self.is_consistent() { Ok(self) } else { Err(Contradiction) }
    }
}

/// A usage object that cannot be true: a count that is no whole number, or parts larger than their whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contradiction;

/// A count of `object`: absent and `null` are unknown, anything but a whole number from 0 on is an error.
pub(super) fn count(object: &Object<'_>, name: &str) -> Result<Option<u64>, Contradiction> {
    object.some(name).map(|text| json::whole(text).ok_or(Contradiction)).transpose()
}

/// The sum, unknown only if every part is; a sum past `u64` is an error.
pub(super) fn add<const N: usize>(parts: [Option<u64>; N]) -> Result<Option<u64>, Contradiction> {
    parts.into_iter().flatten().try_fold(None, |sum: Option<u64>, part| {
        sum.unwrap_or(0).checked_add(part).map(Some).ok_or(Contradiction)
    })
}

fn sum<const N: usize>(parts: [Option<u64>; N]) -> Option<u64> {
    add(parts).unwrap_or(Some(u64::MAX))
}

/// A part of something unknown cannot be too large.
fn fits(part: Option<u64>, whole: Option<u64>) -> bool {
    match (part, whole) {
        (Some(part), Some(whole)) => part <= whole,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_whole_number_or_unknown_or_a_contradiction() {
        let object = Object::parse(r#"{"a":1.0,"b":null,"c":-1,"d":"7","e":1.5}"#).unwrap();
        assert_eq!(count(&object, "a"), Ok(Some(1)));
        assert_eq!(count(&object, "b"), Ok(None));
        assert_eq!(count(&object, "z"), Ok(None));
        for name in ["c", "d", "e"] {
            assert_eq!(count(&object, name), Err(Contradiction), "{name}");
        }
    }

    #[test]
    fn parts_larger_than_their_whole_contradict_it() {
        let of = Usage::of(10, 5);
        for wrong in [
            Usage { read: Some(6), write_short: Some(5), ..of },
            Usage { reasoning: Some(6), ..of },
            Usage { input_audio: Some(11), ..of },
            Usage { read: Some(u64::MAX), write_long: Some(u64::MAX), ..of },
            Usage { output_image: Some(3), output_audio: Some(3), ..of },
        ] {
            assert!(!wrong.is_consistent(), "{wrong:?}");
        }
        assert!(Usage { reasoning: Some(5), read: Some(4), write_short: Some(6), ..of }.is_consistent());
        assert!(Usage { reasoning: Some(5), ..Usage::default() }.is_consistent(), "of an unknown whole");
        assert_eq!(of.checked(Some(16)), Err(Contradiction));
        assert_eq!(of.checked(Some(15)), Ok(of));
    }
}
