//! Sums of counts that are sure to different degrees.

use super::Accuracy;
use super::encoding::Measured;
use super::hidden::Most;

/// Tokens of a part of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) likely: u64,
    pub(super) at_most: u64,
    pub(super) accuracy: Accuracy,
    /// Of the likely ones, those of pictures, documents, sound and the provider's own tools.
    pub(super) media: u64,
    /// Bytes of `data:` URLs inside plain text.
    pub(super) data_urls: u64,
    /// True if it refers to text kept at the provider, which no figure here covers.
    pub(super) hidden: bool,
}

impl Tally {
    /// A number that a published rule gives.
    pub(super) fn formula(tokens: u64) -> Self {
        Self { likely: tokens, at_most: tokens, accuracy: Accuracy::Formula, ..Self::default() }
    }

    /// Two figures and no rule that gives them.
    pub(super) fn bound(likely: u64, at_most: u64) -> Self {
        Self::of(likely.min(at_most), at_most, Accuracy::UpperBound)
    }

    /// Two figures and how sure they are.
    pub(super) fn of(likely: u64, at_most: u64, accuracy: Accuracy) -> Self {
        Self { likely, at_most, accuracy, ..Self::default() }
    }

    /// The same, all of it no text.
    pub(super) fn as_media(self) -> Self {
        Self { media: self.likely, ..self }
    }

    /// This and that: as sure as the less sure of them.
    pub(super) fn add(&mut self, other: Self) {
        self.likely = self.likely.saturating_add(other.likely);
        self.at_most = self.at_most.saturating_add(other.at_most);
        self.accuracy = self.accuracy.max(other.accuracy);
        self.media = self.media.saturating_add(other.media);
        self.data_urls = self.data_urls.saturating_add(other.data_urls);
        self.hidden |= other.hidden;
    }

    /// So much more at most, if a rule is not quite sure.
    pub(super) fn slack(&mut self, tokens: u64) {
        self.at_most = self.at_most.saturating_add(tokens);
    }

    /// So much less, by a rule.
    pub(super) fn less(&mut self, tokens: u64) {
        self.likely = self.likely.saturating_sub(tokens);
        self.at_most = self.at_most.saturating_sub(tokens);
    }

    /// At least what this JSON text costs in whatever way it is read.
    pub(super) fn widen(&mut self, most: Most) {
        self.at_most = self.at_most.max(most.tokens);
        self.hidden |= most.refers;
        self.weaken(Accuracy::UpperBound);
    }

    /// No surer than `accuracy`.
    pub(super) fn weaken(&mut self, accuracy: Accuracy) {
        self.accuracy = self.accuracy.max(accuracy);
    }
}

impl From<Measured> for Tally {
    fn from(text: Measured) -> Self {
        Self::of(text.likely, text.at_most, text.accuracy)
    }
}
