//! Price tables.

use std::sync::{Arc, LazyLock};

use super::{Cost, CostState, Terms};
use crate::Error;
use crate::dialect::Usage;

/// Model -> rates.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {}

impl PriceTable {
    /// The table that ships with this version.
    #[must_use]
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: LazyLock<Arc<PriceTable>> = LazyLock::new(|| Arc::new(PriceTable::default()));
        BUILTIN.clone()
    }

    /// Reads LiteLLM's `model_prices_and_context_window.json`.
    ///
    /// # Errors
    /// [`Kind::BadInput`](crate::Kind::BadInput).
    pub fn from_litellm(_json: &[u8]) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// Name, date and content fingerprint, for receipts.
    #[must_use]
    pub fn id(&self) -> Arc<str> {
        "builtin".into()
    }

    /// What this usage of `model` costs.
    #[must_use]
    pub fn cost(&self, _model: &str, _usage: &Usage, _terms: &Terms) -> Cost {
        Cost { usd: None, state: CostState::Missing, items: Vec::new() }
    }

    /// Largest output of `model` in tokens, if known.
    #[must_use]
    pub fn max_output(&self, _model: &str) -> Option<u64> {
        None
    }

    /// Largest prompt of `model` in tokens, if known.
    #[must_use]
    pub fn max_input(&self, _model: &str) -> Option<u64> {
        None
    }

    /// Prompt length above which all tokens of a call of `model` cost more, if there is such a cliff.
    #[must_use]
    pub fn cliff(&self, _model: &str) -> Option<u64> {
        None
    }

    /// Shortest prefix of `model` the provider caches, in tokens, if known.
    #[must_use]
    pub fn cache_minimum(&self, _model: &str) -> Option<u64> {
        None
    }
}
