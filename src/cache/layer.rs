//! The layer, and what its services share.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderName;
use tower_layer::Layer;

use super::entry::Entry;
use super::flight::{Epoch, Flights, Limits};
use super::freshness::{Age, Windows, Wish};
use super::handle::CacheHandle;
use super::key::{CacheKey, Keyer};
use super::negative::Negatives;
use super::numbers::{Numbers, Tier};
use super::policy::{Sampled, StorePolicy};
use super::recall::Aliases;
use super::render::FreshIds;
use super::resolved::{NameId, News, Resolved};
use super::service::Cache;
use super::settings::CacheBuilder;
use super::store::Tiers;
use super::store::epochs::Tag;
use super::switch::Switch;
use super::varied::Varied;
use crate::call::{CacheMode, Call, Options, Scope};
use crate::clock::Clock;
use crate::price::PriceTable;
use crate::receipt::Sink;

/// Serves repeated calls from memory or disk. Clones, and all services made from them, share one cache.
///
/// See the [module docs](crate::cache).
#[derive(Clone, Debug)]
pub struct CacheLayer {
    core: Arc<Core>,
}

/// What all services of one cache share.
pub(super) struct Core {
    pub(super) keyer: Keyer,
    pub(super) tiers: Tiers,
    /// What is left of earlier secrets, if there is a cache file.
    #[cfg(feature = "disk")]
    pub(super) former: Option<super::former::Earlier>,
    pub(super) flights: Flights,
    pub(super) limits: Limits,
    pub(super) aliases: Aliases,
    pub(super) scope: Scope,
    pub(super) vary: Vec<HeaderName>,
    pub(super) ttl: Duration,
    /// By how many percent it is shortened at most.
    pub(super) jitter: u8,
    pub(super) asks_for_usage: bool,
    /// Where replays get their ids; `None` if they keep those of the original.
    pub(super) fresh_ids: Option<FreshIds>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) prices: Arc<PriceTable>,
    pub(super) epoch: Epoch,
    pub(super) resolved: Resolved,
    pub(super) numbers: Numbers,
    pub(super) switch: Switch,
    pub(super) windows: Windows,
    pub(super) store: StorePolicy,
    pub(super) sampled: Sampled,
    pub(super) negatives: Negatives,
    pub(super) varied: Varied,
    /// Told of refreshes that no caller pays for.
    pub(super) refreshes: OnceLock<Arc<dyn Sink>>,
}

impl CacheLayer {
    /// A cache in memory only, of 64 MiB, scoped by credential.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::builder().build().expect("the defaults make sense")
    }

    /// Settings, to be changed.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// Looks after the cache from outside the stack: figures, purge, flush.
    #[must_use]
    pub fn handle(&self) -> CacheHandle {
        CacheHandle::new(self.core.clone())
    }

    /// Tells this sink of refreshes, unless the builder or an earlier stack named another one.
    pub(crate) fn tell_refreshes(&self, sink: impl Sink) {
        let _ = self.core.refreshes.set(Arc::new(sink));
    }

    pub(super) fn of(core: Core) -> Self {
        Self { core: Arc::new(core) }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache::new(inner, self.core.clone())
    }
}

impl Core {
    /// The scope of a call: its own, or the layer's.
    pub(super) fn scope_of<'a>(&'a self, options: Option<&'a Options>) -> &'a Scope {
        options.and_then(|options| options.scope.as_ref()).unwrap_or(&self.scope)
    }

    /// What the cache does for a call.
    pub(super) fn mode_of(&self, options: Option<&Options>) -> CacheMode {
        self.switch.allows(options.map_or(CacheMode::Default, |options| options.cache))
    }

    /// The key of a call, of all its places; or why it passes by.
    pub(super) fn key_of(&self, call: &Call, options: Option<&Options>) -> Result<CacheKey, &'static str> {
        if !self.sampled.admits(call) {
            return Err("sampled");
        }
        self.keyer.key(call, self.scope_of(options), &self.vary).map_err(|bypass| bypass.0)
    }

    /// What `call` asks of an answer's age, and of who gave it.
    pub(super) fn wish(&self, call: &Call, options: Option<&Options>) -> Wish {
        Wish::of(options).by(self.present(call))
    }

    /// The only model whose answers to `call` are still good, if the name it asks for has moved.
    pub(super) fn present(&self, call: &Call) -> Option<Arc<str>> {
        if self.resolved.moves() == 0 {
            return None;
        }
        self.resolved.present(&self.name_of(call))
    }

    fn name_of(&self, call: &Call) -> NameId {
        let scope = self.scope_of(Options::among(&call.parts.extensions));
        NameId::of(call, self.keyer.scope_tag(call, scope))
    }

    /// Takes note of who answered a call that was sent at `sent_ms`. An answer that nobody would be served is not
    /// stored either.
    pub(super) fn note_model(
        &self,
        name: NameId,
        model: &str,
        sent_ms: i64,
        now_ms: i64,
    ) -> Result<(), &'static str> {
        match self.resolved.note(name, model, sent_ms, now_ms) {
            News::None => Ok(()),
            News::Moved => {
                self.numbers.moved();
                Ok(())
            }
            News::Former => Err("model-moved"),
        }
    }

    /// Takes note of who gave an answer to `call` that was read from disk.
    pub(super) fn learn_model(&self, call: &Call, entry: &Entry) {
        if let Some(model) = &entry.outcome.model
            && self.resolved.learn(self.name_of(call), model, entry.created_ms)
        {
            self.numbers.moved();
        }
    }

    /// An entry of the memory tier that a call with this wish may have.
    pub(super) fn remembered(&self, key: &CacheKey, wish: &Wish) -> Option<Arc<Entry>> {
        self.remembered_at(key, wish, self.clock.now_ms())
    }

    /// The same for whoever knows the time.
    pub(super) fn remembered_at(&self, key: &CacheKey, wish: &Wish, now_ms: i64) -> Option<Arc<Entry>> {
        if !self.switch.reads() {
            return None;
        }
        let entry = self.tiers.get_memory(key, now_ms)?;
        (wish.judge(&entry, self.ttl, now_ms) == Age::Good).then_some(entry)
    }

    /// An entry that memory does not have: of the file, or of that of the secret before. It may tell that the name which
    /// was asked for has moved, so [`present`](Self::present) is to be asked again.
    pub(super) async fn on_disk(&self, call: &Call, key: &CacheKey) -> Option<Arc<Entry>> {
        let found = self.tiers.get_disk(key, self.clock.now_ms()).await;
        #[cfg(feature = "disk")]
        let found = match found {
            None => super::former::find(self, call, key).await,
            found => found,
        };
        if let Some(entry) = &found {
            self.learn_model(call, entry);
        }
        found
    }

    /// Whether an entry may be served to a call with this wish.
    pub(super) fn judge(&self, entry: &Entry, wish: &Wish) -> Age {
        wish.judge(entry, self.ttl, self.clock.now_ms())
    }

    /// From here on nothing of this scope, or of all, that is on its way is stored, and nobody joins it.
    pub(super) fn begin_purge(&self, scope: Option<Tag>) {
        self.numbers.purged();
        self.epoch.bump(scope);
        self.negatives.clear();
    }

    /// Counts a hit.
    pub(super) fn count_hit(&self, tier: Tier, entry: &Entry) {
        self.numbers.hit(tier);
        if !self.windows.kept().is_zero() && self.judge(entry, &Wish::default()) != Age::Good {
            self.numbers.stale();
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("scope", &self.scope).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
