//! Kinds of tokens that have a rate.

/// What a rate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum What {
    /// Prompt tokens that no other kind covers.
    Input,
    /// Prompt tokens that are audio.
    InputAudio,
    /// Prompt tokens that are pictures.
    InputImage,
    /// Prompt tokens that are film.
    InputVideo,
    /// Prompt tokens read from the provider's prompt cache.
    Read,
    /// Audio read from the provider's prompt cache.
    ReadAudio,
    /// Pictures read from the provider's prompt cache.
    ReadImage,
    /// Film read from the provider's prompt cache.
    ReadVideo,
    /// Prompt tokens written to the provider's prompt cache for a short time (5 or 30 minutes).
    Write,
    /// Prompt tokens written to the provider's prompt cache for a long time (1 or 12 hours).
    WriteLong,
    /// Generated tokens that no other kind covers.
    Output,
    /// Generated tokens spent on reasoning.
    Reasoning,
    /// Generated audio tokens.
    OutputAudio,
    /// Generated picture tokens.
    OutputImage,
}

impl What {
    /// All of them, in the order of bills.
    pub const ALL: [Self; 14] = [
        Self::Input,
        Self::InputAudio,
        Self::InputImage,
        Self::InputVideo,
        Self::Read,
        Self::ReadAudio,
        Self::ReadImage,
        Self::ReadVideo,
        Self::Write,
        Self::WriteLong,
        Self::Output,
        Self::Reasoning,
        Self::OutputAudio,
        Self::OutputImage,
    ];

    /// Its name in bills.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::InputAudio => "input_audio",
            Self::InputImage => "input_image",
            Self::InputVideo => "input_video",
            Self::Read => "cache_read",
            Self::ReadAudio => "cache_read_audio",
            Self::ReadImage => "cache_read_image",
            Self::ReadVideo => "cache_read_video",
            Self::Write => "cache_write",
            Self::WriteLong => "cache_write_long",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::OutputAudio => "output_audio",
            Self::OutputImage => "output_image",
        }
    }

    /// True for what the model generates.
    #[must_use]
    pub fn is_output(self) -> bool {
        matches!(self, Self::Output | Self::Reasoning | Self::OutputAudio | Self::OutputImage)
    }

    /// Whose rates stand in for a missing one, nearest first.
    pub(super) fn parents(self) -> &'static [Self] {
        match self {
            Self::Input | Self::Output => &[],
            Self::Read | Self::Write | Self::InputAudio | Self::InputImage | Self::InputVideo => {
                &[Self::Input]
            }
            Self::ReadAudio => &[Self::Read, Self::InputAudio, Self::Input],
            Self::ReadImage => &[Self::Read, Self::InputImage, Self::Input],
            Self::ReadVideo => &[Self::Read, Self::InputVideo, Self::Input],
            Self::WriteLong => &[Self::Write, Self::Input],
            Self::Reasoning | Self::OutputAudio | Self::OutputImage => &[Self::Output],
        }
    }
}
