//! Sums of counts that are sure to different degrees.

use super::Accuracy;
use super::encoding::Measured;

/// Tokens of a part of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) likely: u64,
    pub(super) at_most: u64,
    pub(super) accuracy: Accuracy,
}

impl Tally {
    /// A number that a published rule gives.
    pub(super) fn formula(tokens: u64) -> Self {
        Self { likely: tokens, at_most: tokens, accuracy: Accuracy::Formula }
    }

    /// Two figures and no rule that gives them.
    pub(super) fn bound(likely: u64, at_most: u64) -> Self {
        Self { likely: likely.min(at_most), at_most, accuracy: Accuracy::UpperBound }
    }

    /// This and that: as sure as the less sure of them.
    pub(super) fn add(&mut self, other: Self) {
        self.likely = self.likely.saturating_add(other.likely);
        self.at_most = self.at_most.saturating_add(other.at_most);
        self.accuracy = self.accuracy.max(other.accuracy);
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

    /// No surer than `accuracy`.
    pub(super) fn weaken(&mut self, accuracy: Accuracy) {
        self.accuracy = self.accuracy.max(accuracy);
    }
}

impl From<Measured> for Tally {
    fn from(text: Measured) -> Self {
        Self { likely: text.likely, at_most: text.at_most, accuracy: text.accuracy }
    }
}
