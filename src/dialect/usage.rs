//! Token counts in one normal form.

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
}
