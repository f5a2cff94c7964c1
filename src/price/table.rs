//! Price tables.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::{Cost, CostState, Rates, Terms, builtin, litellm, lookup};
use crate::Error;
use crate::dialect::Usage;

/// Model -> rates.
///
/// A model is looked up by its very id, then without a vendor or region in front and a date or version behind
/// (`openai/gpt-5-mini-2025-08-07` is `gpt-5-mini`), never by likeness. A model that is not in it has no price,
/// which is not a price of zero.
///
/// # Example
/// ```
/// use thrifty::price::{CostState, PriceTable, Terms, Usage};
///
/// let table = PriceTable::builtin();
/// let cost = table.cost("gpt-5-mini-2025-08-07", &Usage::of(1_000, 100), &Terms::default());
/// assert_eq!(cost.usd.map(|usd| usd.to_string()).as_deref(), Some("0.00045"));
/// assert_eq!(table.cost("my-own", &Usage::of(1, 1), &Terms::default()).state, CostState::Missing);
/// ```
/// # A price of your own
/// ```
/// use thrifty::price::{PriceTable, Rates, Terms, Usage, Usd};
///
/// let table = PriceTable::clone(&PriceTable::builtin())
///     .with_model("my-own", Rates::new(Usd::ZERO, Usd::ZERO))
///     .with_model("gpt-5-mini", Rates::new(Usd::per_million("0.2")?, Usd::per_million("1.5")?));
/// let usd = |model| table.cost(model, &Usage::of(1_000_000, 0), &Terms::default()).usd;
/// assert_eq!(usd("my-own"), Some(Usd::ZERO), "a stated zero is a price");
/// assert_eq!(usd("gpt-5-mini"), Some("0.2".parse()?));
/// assert_ne!(table.id(), PriceTable::builtin().id(), "receipts tell the tables apart");
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PriceTable {
    name: Box<str>,
    date: Option<Box<str>>,
    /// blake3 over all that was put in.
    content: [u8; 32],
    models: HashMap<Box<str>, Arc<Rates>>,
    /// Ids without the vendor in front; `None` where two models of different rates share one.
    plain: HashMap<Box<str>, Option<Arc<Rates>>>,
    warnings: Arc<Warnings>,
    id: Arc<str>,
}

/// What a reader of a price list left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warnings {
    /// Top-level entries that are no models, or have nothing to say.
    pub skipped: usize,
    /// Price fields of a kind this version does not know.
    pub unknown_fields: usize,
    /// Rates finer than a picodollar, rounded half to even: most carry the tail of a float.
    pub rounded: usize,
    /// Numbers that were not taken, however many.
    pub rejected: usize,
    /// The first 100 of them: model, field and reason.
    pub examples: Vec<String>,
}

impl Warnings {
    pub(super) fn reject(&mut self, model: &str, field: &str, why: &str) {
        self.rejected += 1;
        if self.examples.len() < 100 {
            let short = |text: &str| text.chars().take(80).collect::<String>();
            self.examples.push(format!("{}: {}: {why}", short(model), short(field)));
        }
    }
}

impl Default for PriceTable {
    /// A table without models: everything is [`CostState::Missing`].
    fn default() -> Self {
        Self::of("empty", None, Vec::new(), [0; 32], Warnings::default())
    }
}

impl PriceTable {
    /// The table that ships with this version: list prices of 2026-11-23.
    #[must_use]
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: LazyLock<Arc<PriceTable>> = LazyLock::new(|| Arc::new(builtin::table()));
        BUILTIN.clone()
    }

    /// Reads LiteLLM's `model_prices_and_context_window.json`.
    ///
    /// A number that makes no sense is left out and its entry kept; [`warnings`](Self::warnings) tells which.
    ///
    /// # Example
    /// ```
    /// use thrifty::price::{PriceTable, Terms, Usage};
    ///
    /// let json = br#"{"new-model": {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 5e-06}}"#;
    /// let table = PriceTable::from_litellm(json)?.named("litellm").dated("2026-11-23");
    /// assert!(table.id().starts_with("litellm 2026-11-23 "));
    /// assert_eq!(table.cost("new-model", &Usage::of(1_000, 100), &Terms::default()).usd, Some("0.0015".parse()?));
    /// # Ok::<(), thrifty::Error>(())
    /// ```
    /// # Errors
    /// [`Kind::BadInput`](crate::Kind::BadInput) when it is not one JSON object, or holds no model with a price.
    pub fn from_litellm(json: &[u8]) -> Result<Self, Error> {
        let (models, warnings) = litellm::read(json)?;
        Ok(Self::of("litellm", None, models, *blake3::hash(json).as_bytes(), warnings))
    }

    pub(super) fn of(
        name: &str,
        date: Option<&str>,
        models: Vec<(Box<str>, Rates)>,
        content: [u8; 32],
        warnings: Warnings,
    ) -> Self {
        let mut table = Self {
            name: name.into(),
            date: date.map(Into::into),
            content,
            models: HashMap::with_capacity(models.len()),
            plain: HashMap::new(),
            warnings: Arc::new(warnings),
            id: "".into(),
        };
        for (model, rates) in models {
            table.put(model, Arc::new(rates));
        }
        table.sign();
        table
    }

    fn put(&mut self, model: Box<str>, rates: Arc<Rates>) {
        let mut plain = &*model;
        while let Some(shorter) = lookup::without_path(plain) {
            plain = shorter;
        }
        if plain != &*model {
            let slot = self.plain.entry(plain.into()).or_insert_with(|| Some(rates.clone()));
            let another = slot.as_ref().is_none_or(|have| !have.same_price(&rates));
            // The model itself may be stated anew; two models that share a plain id leave it to neither.
            match self.models.get(&model) {
                Some(old) if slot.as_ref().is_some_and(|have| Arc::ptr_eq(have, old)) => {
                    *slot = Some(rates.clone())
                }
                _ if another => *slot = None,
                _ => {}
            }
        }
        self.models.insert(model, rates);
    }

    fn sign(&mut self) {
        let print = blake3::Hash::from_bytes(self.content).to_hex();
        let date = self.date.as_deref().unwrap_or("undated");
        self.id = format!("{} {date} {}", self.name, &print[..12]).into();
    }

    /// With the price of one model added or replaced. It holds before anything else of this very id.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<Box<str>>, rates: Rates) -> Self {
        let model = model.into();
        let mut hasher = blake3::Hasher::new();
        let line = rates.canonical();
        hasher.update(&self.content);
        for part in [model.as_bytes(), line.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        self.content = *hasher.finalize().as_bytes();
        self.put(model, Arc::new(rates));
        self.sign();
        self
    }

    /// Under this name in receipts.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self.sign();
        self
    }

    /// With the day its prices are of, `YYYY-MM-DD`, for receipts.
    #[must_use]
    pub fn dated(mut self, date: &str) -> Self {
        self.date = Some(date.into());
        self.sign();
        self
    }

    /// Name, date and content fingerprint, for receipts.
    #[must_use]
    pub fn id(&self) -> Arc<str> {
        self.id.clone()
    }

    /// The day its prices are of, if known.
    #[must_use]
    pub fn date(&self) -> Option<&str> {
        self.date.as_deref()
    }

    /// What was left out when it was read.
    #[must_use]
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Number of models.
    #[must_use]
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// True without models.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Ids and rates, in no order.
    pub fn models(&self) -> impl Iterator<Item = (&str, &Rates)> {
        self.models.iter().map(|(model, rates)| (&**model, &**rates))
    }

    /// The rates of `model`, by its id or by another id of the same model.
    #[must_use]
    pub fn rates(&self, model: &str) -> Option<&Rates> {
        self.find(model).map(|(rates, _)| rates)
    }

    /// The rates of `model`, and true if they are those of another id of it.
    #[must_use]
    pub fn find(&self, model: &str) -> Option<(&Rates, bool)> {
        let model = model.trim();
        if let Some(rates) = self.models.get(model) {
            return Some((rates, false));
        }
        let plain = |form: &str| self.plain.get(form).and_then(Option::as_deref);
        if let Some(rates) = plain(model) {
            return Some((rates, true));
        }
        let forms = lookup::forms(model);
        forms
            .iter()
            .find_map(|form| self.models.get(*form).map(|rates| &**rates).or_else(|| plain(form)))
            .map(|r| (r, true))
    }

    /// What this usage of `model` costs.
    #[must_use]
    pub fn cost(&self, model: &str, usage: &Usage, terms: &Terms) -> Cost {
        match self.rates(model) {
            Some(rates) => rates.cost(usage, terms),
            None => Cost::unknown(CostState::Missing),
        }
    }

    /// Largest output of `model` in tokens, if known.
    #[must_use]
    pub fn max_output(&self, model: &str) -> Option<u64> {
        self.rates(model)?.max_output()
    }

    /// Largest prompt of `model` in tokens, if known.
    #[must_use]
    pub fn max_input(&self, model: &str) -> Option<u64> {
        self.rates(model)?.max_input()
    }

    /// Prompt length above which all tokens of a call of `model` cost more, if there is such a cliff.
    #[must_use]
    pub fn cliff(&self, model: &str) -> Option<u64> {
        self.rates(model)?.cliff()
    }

    /// Shortest prefix of `model` the provider caches, in tokens, if known.
    #[must_use]
    pub fn cache_minimum(&self, model: &str) -> Option<u64> {
        self.rates(model)?.cache_minimum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Usd;

    fn rates(pico: i128) -> Rates {
        Rates::new(Usd::from_pico(pico), Usd::from_pico(pico))
    }

    #[test]
    fn an_id_two_models_share_has_no_price() {
        let table = PriceTable::default().with_model("azure/m", rates(1)).with_model("openai/m", rates(2));
        assert!(table.rates("m").is_none(), "the two cost different amounts");
        assert_eq!(table.rates("azure/m"), Some(&rates(1)));
        let table = PriceTable::default().with_model("azure/m", rates(1)).with_model("openai/m", rates(1));
        assert_eq!(table.find("m"), Some((&rates(1), true)), "the two agree");
        let table = table.with_model("m", rates(3));
        assert_eq!(table.find("m"), Some((&rates(3), false)), "the very id comes first");
        let table = PriceTable::default().with_model("xai/m", rates(1)).with_model("xai/m", rates(2));
        assert_eq!(table.rates("m"), Some(&rates(2)), "a model stated anew is the same model");
    }

    #[test]
    fn the_id_tells_every_content_from_every_other() {
        let one = PriceTable::default().with_model("m", rates(1));
        assert_eq!(one.id(), PriceTable::default().with_model("m", rates(1)).id());
        assert_ne!(one.id(), PriceTable::default().with_model("m", rates(2)).id());
        assert!(one.id().starts_with("empty undated "));
    }
}
