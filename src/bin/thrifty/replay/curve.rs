//! Dollars over time, in bounded memory.

use thrifty::price::Usd;

/// How many points are kept at most; a picture has fewer columns.
const MOST: usize = 2_048;

/// A sum over time. When it has too many points every second one goes, and from then on every second one is taken.
#[derive(Debug)]
pub(crate) struct Curve {
    points: Vec<(i64, Usd)>,
    stride: u64,
    seen: u64,
    last: Option<(i64, Usd)>,
}

impl Default for Curve {
    fn default() -> Self {
        Self { points: Vec::new(), stride: 1, seen: 0, last: None }
    }
}

impl Curve {
    pub(crate) fn push(&mut self, at_ms: i64, sum: Usd) {
        if self.seen.is_multiple_of(self.stride) {
            self.points.push((at_ms, sum));
        }
        self.seen += 1;
        self.last = Some((at_ms, sum));
        if self.points.len() >= MOST {
            let mut at = 0;
            self.points.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// The points, the last one always among them.
    pub(crate) fn points(&self) -> impl Iterator<Item = (i64, Usd)> + Clone {
        self.points.iter().copied().chain(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_stays_short_and_keeps_its_ends() {
        let mut curve = Curve::default();
        for i in 0..100_000 {
            curve.push(i, Usd::from_pico(i.into()));
        }
        let points: Vec<_> = curve.points().collect();
        assert!(points.len() <= MOST + 1, "{}", points.len());
        assert_eq!(points.first().unwrap().0, 0);
        assert_eq!(points.last().unwrap().0, 99_999);
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
