//! How far to trim, and where to cut.

/// How far to trim, and where to cut.
///
/// # Example
/// ```
/// use thrifty::trim::TrimPolicy;
///
/// let policy = TrimPolicy::new().with_budget(32_000).with_step(500);
/// assert_ne!(policy.fingerprint(), TrimPolicy::new().fingerprint());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrimPolicy {
    budget: Option<u64>,
    step: u32,
    clear: bool,
    keep_results: usize,
}

impl TrimPolicy {
    /// No budget of its own: only calls that name one with
    /// [`Options::budget`](crate::call::Options::budget) are trimmed.
    #[must_use]
    pub fn new() -> Self {
        Self { budget: None, step: 300, clear: true, keep_results: 3 }
    }

    /// Sets the most prompt tokens of calls that name no budget themselves. Default: none, nothing is trimmed.
    ///
    /// The upper bound of the count is held to it, so the provider never bills more prompt tokens. Below a price
    /// cliff or a context window leave room for the answer.
    #[must_use]
    pub fn with_budget(mut self, tokens: u64) -> Self {
        self.budget = Some(tokens);
        self
    }

    /// Sets how deep a cut goes at least, in thousandths of the budget; 1,000 is the most.
    ///
    /// Default: 300, so that a growing prompt swings between 0.7 and 1.0 of its budget and its front stays put in
    /// between. 0 cuts just enough at every call: right only where the provider has no prompt cache. Below about
    /// 200 the front moves so often that most of the cache's discount is lost.
    #[must_use]
    pub fn with_step(mut self, thousandths: u32) -> Self {
        self.step = thousandths.min(1_000);
        self
    }

    /// Sets whether old tool results of a turn that is too long by itself may be replaced by [`CLEARED`].
    ///
    /// Default: true. Without it whole calls are dropped with their results, and the model no longer sees that it
    /// made them.
    ///
    /// [`CLEARED`]: crate::trim::CLEARED
    #[must_use]
    pub fn with_cleared_results(mut self, allowed: bool) -> Self {
        self.clear = allowed;
        self
    }

    /// Sets how many of the newest exchanges with tools keep their results when older ones are cleared.
    ///
    /// Default: 3. With 0 even the newest result may be cleared.
    #[must_use]
    pub fn with_kept_results(mut self, exchanges: usize) -> Self {
        self.keep_results = exchanges;
        self
    }

    /// The budget of calls that name none, in tokens.
    #[must_use]
    pub fn budget(&self) -> Option<u64> {
        self.budget
    }

    /// Names this policy: two policies that may trim differently have different fingerprints.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let Self { budget, step, clear, keep_results } = self;
        let mut hasher = blake3::Hasher::new_derive_key("thrifty 2026-11-24 trim policy 1");
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        field(&budget.map(u64::to_le_bytes).map_or(Vec::new(), Vec::from));
        field(&step.to_le_bytes());
        field(&[u8::from(*clear)]);
        field(&(*keep_results as u64).to_le_bytes());
        field(super::CLEARED.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Least depth of a cut in a budget of `tokens`.
    pub(super) fn step_of(&self, tokens: u64) -> u64 {
        let step = u128::from(tokens) * u128::from(self.step) / 1_000;
        u64::try_from(step).unwrap_or(u64::MAX).max(1)
    }

    /// Whether tool results may be cleared, and how many of the newest exchanges keep theirs.
    pub(super) fn clearing(&self) -> (bool, usize) {
        (self.clear, self.keep_results)
    }
}

impl Default for TrimPolicy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_in_the_fingerprint() {
        let base = TrimPolicy::new();
        let others = [
            base.clone().with_budget(1),
            base.clone().with_budget(2),
            base.clone().with_step(1),
            base.clone().with_cleared_results(false),
            base.clone().with_kept_results(0),
        ];
        let mut prints: Vec<_> = others.iter().map(TrimPolicy::fingerprint).collect();
        prints.push(base.fingerprint());
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), others.len() + 1, "two policies share a fingerprint");
        assert_eq!(base.fingerprint(), TrimPolicy::default().fingerprint());
    }

    #[test]
    fn the_step_is_a_share_of_the_budget_and_never_nothing() {
        assert_eq!(TrimPolicy::new().step_of(40_000), 12_000);
        assert_eq!(TrimPolicy::new().with_step(0).step_of(40_000), 1);
        assert_eq!(TrimPolicy::new().with_step(9_999).step_of(10), 10);
        assert_eq!(TrimPolicy::new().with_step(1_000).step_of(u64::MAX), u64::MAX);
    }
}
