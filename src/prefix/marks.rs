//! Where marks go.

use std::fmt;
use std::sync::Arc;

use crate::call::json::{self, Object};
use crate::call::{Call, Dialect, Doc, Element};
use crate::dialect::Role;
use crate::guard::guarded;
use crate::price::PriceTable;
use crate::tokens;

const MARK: &str = "cache_control";

/// A shorter prefix is cached by hardly any model, so this stands in where the table does not know (tokens).
const USUAL_MINIMUM: u64 = 1_024;

type KeyOf = Arc<dyn Fn(&Call) -> Option<String> + Send + Sync>;

/// How the provider's prompt cache is used. Cheap to clone.
#[derive(Clone, Default)]
pub struct PrefixPolicy {
    key: Option<KeyOf>,
    prices: Option<Arc<PriceTable>>,
    least: Option<u64>,
    long: bool,
}

impl PrefixPolicy {
    /// Sets OpenAI's `prompt_cache_key` to what this says, where the caller set none. Calls with one key meet in one
    /// cache, so give those one key that share a long front, and no more than some fifteen of them a minute. No key
    /// is set when this says none or panics.
    #[must_use]
    pub fn with_cache_key(mut self, key: impl Fn(&Call) -> Option<String> + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(key));
        self
    }

    /// Places marks that live an hour in place of five minutes. What they write costs 2 times the input rate in
    /// place of 1.25: worth it when calls with one front come less often than every five minutes.
    #[must_use]
    pub fn long_lived(mut self) -> Self {
        self.long = true;
        self
    }

    /// Shortest prefix worth a mark, in tokens, in place of the model's own minimum.
    #[must_use]
    pub fn least(mut self, tokens: u64) -> Self {
        self.least = Some(tokens);
        self
    }

    /// The table that knows the models' minimums; the built-in one if not set.
    #[must_use]
    pub fn prices(mut self, prices: Arc<PriceTable>) -> Self {
        self.prices = Some(prices);
        self
    }

    fn minimum(&self, call: &Call) -> u64 {
        let known = || {
            let model = call.model()?;
            match &self.prices {
                Some(prices) => prices.cache_minimum(&model),
                None => PriceTable::builtin().cache_minimum(&model),
            }
        };
        self.least.unwrap_or_else(|| known().unwrap_or(USUAL_MINIMUM))
    }

    fn mark(&self) -> &'static str {
        if self.long { r#"{"type":"ephemeral","ttl":"1h"}"# } else { r#"{"type":"ephemeral"}"# }
    }
}

impl fmt::Debug for PrefixPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefixPolicy")
            .field("key", &self.key.is_some())
            .field("least", &self.least)
            .field("long", &self.long)
            .finish_non_exhaustive()
    }
}

/// Places marks in `call` as the [module docs](crate::prefix) tell; true if it placed one. A `prompt_cache_key`
/// alone is no mark: the provider caches without it too. A call that cannot be edited stays as it is.
#[must_use = "a receipt should say that marks were placed"]
pub fn apply(call: &mut Call, policy: &PrefixPolicy) -> bool {
    match call.dialect {
        Dialect::OpenAiChat => {
            let key = policy.key.as_ref().filter(|_| call.doc.get("prompt_cache_key").is_none());
            if let Some(key) = key.and_then(|key| guarded("prompt cache key", None, || key(call))) {
                // A body that cannot be edited goes without.
                let _ = call.doc.set("prompt_cache_key", &json::quote(&key));
            }
            false
        }
        Dialect::AnthropicMessages => call.doc.is_editable() && !has_mark(call) && mark(call, policy),
        _ => false,
    }
}

/// True if the caller placed a mark anywhere, or said at top level that there is to be none.
fn has_mark(call: &Call) -> bool {
    let doc = &call.doc;
    let marked = |element: &str| Object::parse(element).is_some_and(|object| object.some(MARK).is_some());
    let any = |name| doc.elements(name).is_some_and(|elements| elements.into_iter().any(marked));
    doc.get(MARK).is_some()
        || any("system")
        || any("tools")
        || doc
            .elements("messages")
            .is_some_and(|messages| messages.iter().any(|message| call.format().has_cache_mark(message)))
}

fn mark(call: &mut Call, policy: &PrefixPolicy) -> bool {
    let minimum = policy.minimum(call);
    // Text is never more tokens than bytes.
    if (call.doc.bytes().len() as u64) < minimum {
        return false;
    }
    let count = tokens::count(call);
    let front = count.parts.system + count.parts.tools >= minimum;
    let goes_on = count.likely >= minimum
        && call.format().prompt(call).messages.iter().any(|message| message.role == Role::Assistant);
    let mut placed = front && mark_front(&mut call.doc, policy.mark());
    // The clouds' own forms of the API carry the version in the body and know no top-level mark.
    if goes_on && call.doc.get("anthropic_version").is_none() {
        placed |= call.doc.set(MARK, policy.mark()).is_ok();
    }
    placed
}

/// Marks the last block of the system text, or else the last tool.
fn mark_front(doc: &mut Doc, mark: &str) -> bool {
    if let Some(text) = doc.get("system").filter(|text| text.starts_with('"')) {
        if text == "\"\"" {
            return false;
        }
        let block = format!(r#"[{{"type":"text","text":{text},"{MARK}":{mark}}}]"#);
        return doc.set("system", &block).is_ok();
    }
    mark_last(doc, "system", mark) || mark_last(doc, "tools", mark)
}

fn mark_last(doc: &mut Doc, name: &str, mark: &str) -> bool {
    let Some(elements) = doc.elements(name) else { return false };
    let Some((last, element)) = elements.iter().enumerate().next_back() else { return false };
    let Some(object) = Object::parse(element) else { return false };
    // An empty text takes no mark, and neither does a tool that is loaded later.
    let empty = object.str("text").is_some_and(|text| text.is_empty());
    if empty || object.bool("defer_loading") == Some(true) {
        return false;
    }
    let mut marked = Doc::new((*element).to_owned());
    if marked.set(MARK, mark).is_err() {
        return false;
    }
    let Ok(text) = String::from_utf8(marked.into_bytes().to_vec()) else { return false };
    let mut text = Some(text);
    let edit = |i, _: &str| match text.take_if(|_| i == last) {
        Some(text) => Element::Replace(text),
        None => Element::Keep,
    };
    doc.edit_elements(name, edit).is_ok()
}
