//! One model's running ratio and its error.

use std::collections::VecDeque;

/// Millionths of 1.
pub(super) const ONE: u64 = 1_000_000;
/// A scale beyond these says that something else is wrong.
const LEAST: u64 = ONE / 2;
const MOST: u64 = 3 * ONE;
/// No bill within these limits is further from a prediction within them.
const MOST_ERROR: u64 = 5 * ONE;
/// Once the scale rests on this many calls, a call is taken for at most a quarter off it: one bill of something else
/// moves the scale by a fortieth.
const SETTLED: u64 = 10;
/// Errors remembered.
const REMEMBERED: usize = 64;
/// Samples from which on the error is stated.
pub(super) const ENOUGH: u64 = 16;
/// A formula off by more than this, in millionths, over [`ENOUGH`] calls has drifted: 1 %.
const DRIFT: u64 = ONE / 100;

/// What one billed call taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Billed tokens over estimated ones, in millionths.
    pub(super) ratio: u64,
    /// How far the billed tokens were from the prediction, in millionths of the prediction. `None` for the first
    /// sample, which nothing had been learned for.
    pub(super) error: Option<u64>,
}

/// What is known of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) samples: u64,
    /// In millionths.
    pub(super) scale: u64,
    /// True if the estimates are a formula's, whose scale stays at 1 until it has drifted.
    formula: bool,
    /// The tokenizer of the models that answered to a name which does not tell.
    pub(super) answered: Option<&'static str>,
    recent: VecDeque<Sample>,
}

impl Running {
    pub(super) fn new(formula: bool) -> Self {
        Self { samples: 0, scale: ONE, formula, answered: None, recent: VecDeque::new() }
    }

    /// Learns from a call estimated at `estimate` and billed as `billed`, both above 0.
    pub(super) fn learn(&mut self, estimate: u64, billed: u64) -> Sample {
        // A formula may be off by one without being wrong.
        let near = self.formula && billed.abs_diff(estimate) <= 1;
        let ratio = if near { ONE } else { mul_div(billed, ONE, estimate).clamp(LEAST, MOST) };
        let predicted = mul_div(estimate, self.in_force(), ONE).max(1);
        let error =
            if near { 0 } else { mul_div(billed.abs_diff(predicted), ONE, predicted).min(MOST_ERROR) };
        let error = (self.samples > 0 || self.formula).then_some(error);
        let taken = match self.samples {
            SETTLED.. => ratio.clamp(self.scale - self.scale / 4, self.scale + self.scale / 4),
            _ => ratio,
        };
        self.samples = self.samples.saturating_add(1);
        let weight = self.samples.min(SETTLED);
        // The mean of the first ten, from then on a tenth of each new one.
        let moved = self.scale.saturating_mul(weight - 1).saturating_add(taken) / weight;
        self.scale = moved.clamp(LEAST, MOST);
        let sample = Sample { ratio, error };
        self.remember(sample);
        sample
    }

    /// Takes over what was learned before, as a file has it.
    pub(super) fn restore(&mut self, samples: u64, scale: u64, sample: Sample) {
        (self.samples, self.scale) = (samples, scale.clamp(LEAST, MOST));
        self.remember(sample);
    }

    /// Keeps a sample within the limits, wherever it comes from.
    fn remember(&mut self, sample: Sample) {
        let error = sample.error.map(|error| error.min(MOST_ERROR));
        let sample = Sample { ratio: sample.ratio.clamp(LEAST, MOST), error };
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(sample);
    }

    /// The last samples, oldest first.
    pub(super) fn recent(&self) -> impl Iterator<Item = Sample> {
        self.recent.iter().copied()
    }

    /// The scale that estimates are multiplied with, in millionths.
    pub(super) fn in_force(&self) -> u64 {
        if self.formula && !self.drifts() { ONE } else { self.scale }
    }

    /// True for a formula that no longer gives what is billed.
    pub(super) fn drifts(&self) -> bool {
        if !self.formula || self.samples < ENOUGH {
            return false;
        }
        let last = self.recent.iter().rev().take(usize::try_from(ENOUGH).unwrap_or(16));
        quantile(last.map(|sample| sample.ratio), 50).is_some_and(|ratio| ratio.abs_diff(ONE) > DRIFT)
    }

    /// The error that so many hundredths of the recent calls did not pass, in millionths.
    pub(super) fn error(&self, percent: usize) -> Option<u64> {
        quantile(self.recent.iter().filter_map(|sample| sample.error), percent)
    }
}

fn quantile(values: impl Iterator<Item = u64>, percent: usize) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

/// `a * b / c` without overflow; `c` is above 0.
pub(super) fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(b) / u128::from(c.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ten_samples_are_averaged_and_later_ones_move_it_by_a_tenth() {
        let mut running = Running::new(false);
        assert_eq!(running.learn(100, 150), Sample { ratio: 1_500_000, error: None });
        assert_eq!(running.scale, 1_500_000);
        running.learn(100, 130);
        assert_eq!(running.scale, 1_400_000);
        for _ in 0..8 {
            running.learn(100, 140);
        }
        assert_eq!(running.scale, 1_400_000);
        running.learn(100, 150);
        assert_eq!(running.scale, 1_410_000);
    }

    #[test]
    fn the_scale_stays_between_a_half_and_three() {
        let mut running = Running::new(false);
        for _ in 0..40 {
            running.learn(100, 100_000);
        }
        assert_eq!(running.scale, MOST);
        for _ in 0..200 {
            running.learn(100_000, 1);
        }
        assert_eq!(running.scale, LEAST);
        running.learn(u64::MAX, u64::MAX);
        running.learn(1, u64::MAX);
        assert!(running.scale <= MOST);
    }

    #[test]
    fn one_absurd_bill_barely_moves_what_many_have_settled() {
        let mut running = Running::new(false);
        for _ in 0..64 {
            running.learn(100, 100);
        }
        for (estimate, billed) in [(100, u64::MAX), (1, u64::MAX), (u64::MAX, 1)] {
            let before = running.scale;
            let sample = running.learn(estimate, billed);
            assert!(running.scale.abs_diff(before) <= before / 40 + 1, "{before} to {}", running.scale);
            assert!((LEAST..=MOST).contains(&sample.ratio), "{sample:?}");
            assert!(sample.error.is_some_and(|error| error <= MOST_ERROR), "{sample:?}");
        }
        assert_eq!(running.error(95), Some(0), "they are three of 64");
        running.restore(u64::MAX, u64::MAX, Sample { ratio: u64::MAX, error: Some(u64::MAX) });
        running.learn(100, 100);
        assert!(running.scale <= MOST && running.error(100) <= Some(MOST_ERROR));
    }

    #[test]
    fn a_formula_keeps_its_scale_until_the_median_of_sixteen_is_off_by_more_than_a_hundredth() {
        let mut running = Running::new(true);
        for _ in 0..40 {
            running.learn(60, 61);
        }
        assert!(!running.drifts(), "one token more is no drift");
        for i in 0..8 {
            running.learn(1000, 1030);
            assert!(!running.drifts(), "{i}: a few calls are no drift");
        }
        running.learn(1000, 1030);
        assert!(running.drifts());
        assert!(running.in_force() > ONE);
    }

    #[test]
    fn errors_are_those_of_the_last_sixty_four_calls() {
        let mut running = Running::new(false);
        for billed in [100, 200, 50] {
            running.learn(100, billed);
        }
        for _ in 0..64 {
            running.learn(100, 100);
        }
        assert_eq!(running.recent().count(), REMEMBERED);
        assert!(running.error(95).is_some_and(|error| error < ONE / 10), "{:?}", running.error(95));
        assert_eq!(quantile([5, 1, 3, 2, 4].into_iter(), 50), Some(3));
        assert_eq!(quantile(1..=100, 95), Some(95));
        assert_eq!(quantile(std::iter::empty(), 95), None);
    }
}
