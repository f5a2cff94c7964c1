//! What limit calls get, and where it is written.

use std::fmt;
use std::sync::Arc;

use crate::dialect::CapField;
use crate::price::PriceTable;

/// What limit calls get, and where it is written.
///
/// # Example
/// ```
/// use thrifty::cap::{CapField, CapPolicy};
///
/// // A local server that knows only the old field, in front of a model that does not think.
/// let policy = CapPolicy::new(1_024).with_field(CapField::MaxTokens);
/// assert_ne!(policy.fingerprint(), CapPolicy::new(1_024).fingerprint());
/// ```
#[derive(Clone)]
pub struct CapPolicy {
    tokens: Option<u64>,
    field: CapField,
    add: bool,
    thinking_room: u64,
    prices: Option<Arc<PriceTable>>,
}

impl CapPolicy {
    /// At most this many output tokens for each answer. 0 is no limit a provider accepts and is not applied.
    #[must_use]
    pub fn new(tokens: u64) -> Self {
        Self { tokens: Some(tokens), ..Self::per_call() }
    }

    /// No limit but that which calls name with [`Options::cap`](crate::call::Options::cap).
    #[must_use]
    pub fn per_call() -> Self {
        Self { tokens: None, field: CapField::Auto, add: true, thinking_room: 4_096, prices: None }
    }

    /// Sets the field a new limit is written to, for APIs that have had more than one. A field the caller sent is
    /// always the one that is lowered.
    ///
    /// Default: [`CapField::Auto`], which is right for OpenAI and for servers that know only its old field.
    #[must_use]
    pub fn with_field(mut self, field: CapField) -> Self {
        self.field = field;
        self
    }

    /// Only lowers limits the caller sent; a call without one stays without.
    ///
    /// Default: a limit is added. It is what bounds a runaway answer, so most callers should leave it.
    #[must_use]
    pub fn without_adding(mut self) -> Self {
        self.add = false;
        self
    }

    /// Sets the least limit that is added unasked to a call of a model that thinks, in tokens.
    ///
    /// Default: 4,096. Thinking counts towards the limit, and an answer that runs out of it while thinking is empty
    /// and paid in full. A limit that the call itself names applies whatever its size.
    #[must_use]
    pub fn with_thinking_room(mut self, tokens: u64) -> Self {
        self.thinking_room = tokens;
        self
    }

    /// Sets the table that knows how much each model can write at most; a limit above that is not added, since
    /// providers refuse it. Default: the table that ships with this version.
    #[must_use]
    pub fn with_prices(mut self, prices: Arc<PriceTable>) -> Self {
        self.prices = Some(prices);
        self
    }

    /// The limit of calls that name none, in tokens.
    #[must_use]
    pub fn tokens(&self) -> Option<u64> {
        self.tokens
    }

    /// Names this policy: two policies that may set different limits have different fingerprints.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let Self { tokens, field, add, thinking_room, prices } = self;
        let field = match field {
            CapField::Auto => 0,
            CapField::MaxCompletionTokens => 1,
            CapField::MaxTokens => 2,
        };
        let mut hasher = blake3::Hasher::new_derive_key("thrifty 2026-11-24 cap policy 1");
        let mut write = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        write(&tokens.map(u64::to_le_bytes).map_or(Vec::new(), Vec::from));
        write(&[field, u8::from(*add)]);
        write(&thinking_room.to_le_bytes());
        write(prices.as_ref().map_or_else(PriceTable::builtin, Arc::clone).id().as_bytes());
        *hasher.finalize().as_bytes()
    }

    pub(super) fn field(&self) -> CapField {
        self.field
    }

    pub(super) fn adds(&self) -> bool {
        self.add
    }

    pub(super) fn thinking_room(&self) -> u64 {
        self.thinking_room
    }

    /// The most `model` can write, if known.
    pub(super) fn max_output(&self, model: &str) -> Option<u64> {
        match &self.prices {
            Some(prices) => prices.max_output(model),
            None => PriceTable::builtin().max_output(model),
        }
    }

    /// The same without a limit of its own.
    pub(super) fn only_asked(&self) -> Self {
        Self { tokens: None, ..self.clone() }
    }
}

impl fmt::Debug for CapPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokens, field, add, thinking_room, prices: _ } = self;
        f.debug_struct("CapPolicy")
            .field("tokens", tokens)
            .field("field", field)
            .field("add", add)
            .field("thinking_room", thinking_room)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_in_the_fingerprint() {
        let policies = [
            CapPolicy::per_call(),
            CapPolicy::new(0),
            CapPolicy::new(1),
            CapPolicy::new(1).with_field(CapField::MaxTokens),
            CapPolicy::new(1).with_field(CapField::MaxCompletionTokens),
            CapPolicy::new(1).without_adding(),
            CapPolicy::new(1).with_thinking_room(0),
        ];
        let mut prints: Vec<_> = policies.iter().map(CapPolicy::fingerprint).collect();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), policies.len(), "two policies share a fingerprint");
        let explicit = CapPolicy::new(1).with_prices(PriceTable::builtin());
        assert_eq!(
            explicit.fingerprint(),
            CapPolicy::new(1).fingerprint(),
            "naming the default changes nothing"
        );
    }
}
