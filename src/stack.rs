//! The recommended order of the layers, as one layer.
//!
//! Each layer works alone, but their order decides what they are worth: the cache has to see what trim, cap and tier
//! made of a call, a spent budget should still serve hits, and an exact repeat should skip everything.
//! [`Stack::builder`] knows the order: meter, recall, tier, trim, cap, cache, prefix, budget. Whatever counts shares one
//! counter, and one calibration if there is one.
//!
//! # Example
//! ```
//! use thrifty::stack::Stack;
//! # use thrifty::call::{Call, Reply};
//! # use thrifty::BoxError;
//! use tower::{Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let provider = service_fn(|_: Call| async { Ok::<_, BoxError>(Reply::new("{}".into())) });
//! let mut service = Stack::builder().build()?.layer(provider);
//!
//! let call = Call::post("https://api.openai.com/v1/chat/completions", r#"{"model":"gpt-5-mini","messages":[]}"#);
//! assert!(service.ready().await?.call(call).await?.status().is_success());
//! # Ok(())
//! # }
//! ```
//! # Customised
//! ```
//! use std::sync::Arc;
//! use thrifty::cache::CacheLayer;
//! use thrifty::cap::CapLayer;
//! use thrifty::receipt::Ledger;
//! use thrifty::stack::Stack;
//! use thrifty::trim::TrimPolicy;
//!
//! let ledger = Arc::new(Ledger::default());
//! let stack = Stack::builder()
//!     .cache(CacheLayer::builder().memory_bytes(16 << 20).build()?)
//!     .trim(TrimPolicy::new().with_budget(32_000))
//!     .cap(CapLayer::new(1_024))
//!     .sink(ledger.clone())
//!     .build()?;
//! # Ok::<(), thrifty::Error>(())
//! ```
//! # Learning what is billed
//! ```
//! use thrifty::stack::Stack;
//! use thrifty::tokens::Calibration;
//! use thrifty::trim::TrimPolicy;
//!
//! # let dir = std::env::temp_dir().join(format!("thrifty-doc-stack-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir).ok();
//! let calibration = Calibration::open(dir.join("receipts.calibration"))?; // goes on where it ended
//! let stack = Stack::builder()
//!     .trim(TrimPolicy::new().with_budget(100_000))
//!     .calibration(calibration.clone())
//!     .build()?;
//! for model in calibration.scales() {
//!     println!("{model}"); // by how much estimates are corrected, and their error
//! }
//! # std::fs::remove_dir_all(&dir).ok();
//! # Ok::<(), thrifty::Error>(())
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tower::util::{Either, MapErr, option_layer};
use tower_layer::{Identity, Layer};
use tower_service::Service;

use crate::budget::{Budget, BudgetLayer, Budgeted};
use crate::cache::{Cache, CacheHandle, CacheLayer, CacheStats, Recall, RecallLayer};
use crate::call::{Call, Reply, Scope};
use crate::cap::{Cap, CapLayer};
use crate::clock::Clock;
use crate::meter::{Meter, MeterLayer};
use crate::prefix::{Prefix, PrefixLayer, PrefixPolicy};
use crate::price::PriceTable;
use crate::receipt::{Receipt, Sink};
use crate::tier::{Tier, TierLayer, TierPolicy, switch};
use crate::tokens::{BoxCountEndpoint, Calibration, CountEndpoint, Counter};
use crate::trim::{Ask, AskLayer, Trim, TrimLayer, TrimPolicy};
use crate::{BoxError, Error};

/// Stacks with a counter of their own, so far.
static COUNTERS: AtomicU64 = AtomicU64::new(0);

/// All layers in the recommended order, as one. Clones, and all services made from them, share one cache, one
/// budget, one set of sinks.
///
/// See the [module docs](crate::stack).
#[derive(Clone)]
pub struct Stack {
    meter: MeterLayer,
    recall: Option<RecallLayer>,
    tier: Option<TierLayer>,
    ask: Option<AskLayer>,
    trim: Option<TrimLayer>,
    cap: Option<CapLayer>,
    cache: Option<CacheLayer>,
    prefix: Option<PrefixLayer>,
    budget: Option<BudgetLayer>,
}

impl Stack {
    /// The default stack, to be changed: a memory cache scoped by credential, the provider's prompt-cache marks, and
    /// receipts. Nothing is trimmed, capped or sent to another model unless you say so.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// The cache, to look after it; `None` in a stack without one.
    #[must_use]
    pub fn cache(&self) -> Option<CacheHandle> {
        self.cache.as_ref().map(CacheLayer::handle)
    }

    /// Forgets every answer that this stack may have stored for `call`, for a caller who found it of no use: that of
    /// the model asked for, and of each model of the tier policy, trimmed and capped as the layers do it. One on its
    /// way is not stored. Durable on return. True if a key could be made.
    ///
    /// The call is taken as it goes into the stack: the same bytes, headers and [`Options`](crate::call::Options).
    /// What a stack of other settings stored is under keys that this one does not know. [`CacheHandle::invalidate`] takes the call as it comes out instead.
    pub async fn invalidate(&self, call: &Call) -> bool {
        let Some(cache) = self.cache() else { return false };
        let mut forgotten = false;
        for outbound in self.outbound(call) {
            forgotten |= cache.invalidate(&outbound).await;
        }
        forgotten
    }

    /// Forgets all stored answers of a scope; see [`CacheHandle::purge`], also for how durably. False in a stack without
    /// a cache.
    pub async fn purge(&self, scope: &Scope) -> bool {
        let Some(cache) = self.cache() else { return false };
        cache.purge(scope).await;
        true
    }

    /// Forgets every stored answer; see [`CacheHandle::purge_all`], also for how durably. False in a stack without a
    /// cache.
    pub async fn purge_all(&self) -> bool {
        let Some(cache) = self.cache() else { return false };
        cache.purge_all().await;
        true
    }

    /// Waits until everything stored so far is safe on disk. Nothing to wait for in a stack without a cache.
    pub async fn flush(&self) {
        if let Some(cache) = self.cache() {
            cache.flush().await;
        }
    }

    /// Figures of the cache; `None` in a stack without one.
    #[must_use]
    pub fn stats(&self) -> Option<CacheStats> {
        self.cache().map(|cache| cache.stats())
    }

    /// What the layers above the cache may make of `call`, each once.
    fn outbound(&self, call: &Call) -> Vec<Call> {
        let asked = call.model();
        let models = self.tier.iter().flat_map(|tier| tier.policy().models());
        let switched = models.filter(|model| asked.as_deref() != Some(*model)).filter_map(|model| {
            let mut call = call.clone();
            switch(&mut call, model).ok().map(|()| call)
        });
        let mut calls: Vec<Call> = Vec::new();
        for outbound in std::iter::once(call.clone()).chain(switched) {
            let trimmed = match &self.trim {
                Some(trim) => trim.outcomes(&outbound, self.ask.is_some()),
                None => vec![outbound],
            };
            let capped = trimmed.into_iter().flat_map(|outbound| match &self.cap {
                Some(cap) => cap.outcomes(&outbound).collect(),
                None => vec![outbound],
            });
            for outbound in capped {
                let same = |other: &Call| {
                    other.doc.bytes() == outbound.doc.bytes() && other.parts.uri == outbound.parts.uri
                };
                if !calls.iter().any(same) {
                    calls.push(outbound);
                }
            }
        }
        calls
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("tier", &self.tier.is_some())
            .field("trim", &self.trim.is_some())
            .field("cap", &self.cap.is_some())
            .field("cache", &self.cache.is_some())
            .field("prefix", &self.prefix.is_some())
            .field("budget", &self.budget.is_some())
            .finish_non_exhaustive()
    }
}

/// A layer that may be left out.
pub type Maybe<L, S> = Either<L, S>;
/// The innermost service with its error boxed, so that layers may be left out without changing a type.
pub type Boxing<S> = MapErr<S, fn(<S as Service<Call>>::Error) -> BoxError>;

type Budgeting<S> = Maybe<Budgeted<Boxing<S>>, Boxing<S>>;
type Prefixing<S> = Maybe<Prefix<Budgeting<S>>, Budgeting<S>>;
type Caching<S> = Maybe<Cache<Prefixing<S>>, Prefixing<S>>;
type Capping<S> = Maybe<Cap<Caching<S>>, Caching<S>>;
type Trimming<S> = Maybe<Trim<Capping<S>>, Capping<S>>;
type Asking<S> = Maybe<Ask<Trimming<S>>, Trimming<S>>;
type Tiering<S> = Maybe<Tier<Asking<S>>, Asking<S>>;
type Recalling<S> = Maybe<Recall<Tiering<S>>, Tiering<S>>;

impl<S> Layer<S> for Stack
where
    S: Service<Call>,
    S::Error: Into<BoxError>,
{
    type Service = Meter<Recalling<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        let boxed: Boxing<S> = MapErr::new(inner, Into::into);
        let inner = maybe(&self.budget, boxed);
        let inner = maybe(&self.prefix, inner);
        let inner = maybe(&self.cache, inner);
        let inner = maybe(&self.cap, inner);
        let inner = maybe(&self.trim, inner);
        let inner = maybe(&self.ask, inner);
        let inner = maybe(&self.tier, inner);
        let inner = maybe(&self.recall, inner);
        self.meter.layer(inner)
    }
}

fn maybe<L: Layer<S> + Clone, S>(layer: &Option<L>, inner: S) -> Either<L::Service, S> {
    let layer: Either<L, Identity> = option_layer(layer.clone());
    layer.layer(inner)
}

/// Settings of a [`Stack`].
#[derive(Debug)]
#[must_use]
pub struct StackBuilder {
    meter: MeterLayer,
    prices: Option<Arc<PriceTable>>,
    clock: Option<Arc<dyn Clock>>,
    tier: Option<TierPolicy>,
    trim: Option<TrimPolicy>,
    cap: Option<CapLayer>,
    cache: Option<CacheLayer>,
    without_cache: bool,
    prefix: Option<PrefixLayer>,
    budget: Option<Budget>,
    counter: Option<Counter>,
    calibration: Option<Calibration>,
    endpoint: Option<BoxCountEndpoint>,
}

impl Default for StackBuilder {
    fn default() -> Self {
        Self {
            meter: MeterLayer::silent(),
            prices: None,
            clock: None,
            tier: None,
            trim: None,
            cap: None,
            cache: None,
            without_cache: false,
            prefix: Some(PrefixLayer::new(PrefixPolicy::default())),
            budget: None,
            counter: None,
            calibration: None,
            endpoint: None,
        }
    }
}

impl StackBuilder {
    /// Sets the cache. Default: in memory, 64 MiB, scoped by credential.
    pub fn cache(mut self, cache: CacheLayer) -> Self {
        (self.cache, self.without_cache) = (Some(cache), false);
        self
    }

    /// Leaves the cache out, and with it the sharing of identical calls in flight.
    pub fn without_cache(mut self) -> Self {
        (self.cache, self.without_cache) = (None, true);
        self
    }

    /// Trims prompts by this policy. Default: none; a prompt is what the caller made it.
    pub fn trim(mut self, policy: TrimPolicy) -> Self {
        self.trim = Some(policy);
        self
    }

    /// Caps answers. Default: none.
    pub fn cap(mut self, cap: CapLayer) -> Self {
        self.cap = Some(cap);
        self
    }

    /// Chooses models by this policy. Default: none; the model asked for answers.
    pub fn tier(mut self, policy: TierPolicy) -> Self {
        self.tier = Some(policy);
        self
    }

    /// Sets how the provider's prompt-cache marks are placed. Default: one moving mark for Anthropic, where the
    /// caller placed none.
    pub fn prefix(mut self, prefix: PrefixLayer) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Places no marks of the provider's prompt cache.
    pub fn without_prefix(mut self) -> Self {
        self.prefix = None;
        self
    }

    /// Holds calls to this budget. Hits never reserve any of it. Default: none.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Counts with this counter, for names of models or tokenizers of one's own. Trim and budget share it and its
    /// memory. Default: a fresh one.
    pub fn counter(mut self, counter: Counter) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Learns from what is billed, and corrects by it what trim and budget count. Default: none; counts rest on start
    /// factors.
    ///
    /// [`Calibration::open`] keeps it in a file, beside that of the receipts. Each provider's answer that tells its
    /// use teaches; a call that no lever has counted is counted once it is answered. What was learned changes over
    /// time what trim makes of the same call, so with a trim policy there is no shortcut for exact repeats: they are
    /// looked up by what is left after trimming.
    pub fn calibration(mut self, calibration: Calibration) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// Has trim and budget ask the provider for its own count where an estimate cannot decide. Default: none; the
    /// upper bound decides.
    ///
    /// Sent through `provider`, the way to it without this stack. A question takes a round trip and two seconds at
    /// most; then the estimate stands. As what is asked for once may be counted otherwise later, a stack with a trim
    /// policy has no shortcut for exact repeats.
    pub fn count_endpoint<P>(mut self, provider: P) -> Self
    where
        P: Service<Call, Response = Reply> + Clone + Send + Sync + 'static,
        P::Future: Send,
        P::Error: Into<BoxError>,
    {
        self.endpoint = Some(CountEndpoint::new(Counter::default(), provider).boxed());
        self
    }

    /// Adds a sink for receipts, such as an `Arc<Ledger>` or any `Fn(&Receipt)`.
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.meter = self.meter.with_sink(sink);
        self
    }

    /// Sets the prices receipts are settled at. Default: the built-in table. A cache and a budget carry their own.
    pub fn prices(mut self, prices: Arc<PriceTable>) -> Self {
        self.prices = Some(prices);
        self
    }

    /// Sets the clock of the receipts. Default: the system's. A cache and a budget carry their own.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The stack.
    ///
    /// # Errors
    /// [`Kind::BadSetting`](crate::Kind::BadSetting) when a policy makes no sense.
    pub fn build(self) -> Result<Stack, Error> {
        let mut meter = self.meter;
        if let Some(prices) = self.prices {
            meter = meter.with_prices(prices);
        }
        if let Some(clock) = self.clock {
            meter = meter.with_clock(clock);
        }
        // Another counter may cut the same call elsewhere, and what it does cannot be told from its settings.
        let own_counter = self.counter.is_some().then(|| COUNTERS.fetch_add(1, Ordering::Relaxed));
        let mut counter = self.counter.unwrap_or_default();
        if let Some(calibration) = self.calibration {
            counter = counter.calibrated(calibration);
        }
        if counter.calibration().is_some() {
            meter = meter.learning(counter.clone());
        }
        let cache = match self.cache {
            None if !self.without_cache => Some(CacheLayer::in_memory()),
            cache => cache,
        };
        // What is fetched in the background is paid for too.
        let sinks = meter.sinks();
        if let (Some(cache), false) = (&cache, sinks.is_empty()) {
            cache
                .tell_refreshes(move |receipt: &Receipt| sinks.iter().for_each(|sink| sink.receive(receipt)));
        }
        // The shortcut may only be taken where the same call always ends up as the same outbound call.
        let pure = self.tier.as_ref().is_none_or(TierPolicy::is_pure)
            && self.cap.as_ref().is_none_or(CapLayer::is_pure)
            && (self.trim.is_none() || (counter.calibration().is_none() && self.endpoint.is_none()));
        let trim = self.trim.map(|policy| TrimLayer::new(policy).with_counter(counter.clone()));
        let ask = trim.clone().zip(self.endpoint.clone()).map(|(trim, endpoint)| trim.asking(endpoint));
        let budget = self.budget.map(|budget| {
            let budget = BudgetLayer::new(budget).with_counter(counter.clone());
            match self.endpoint {
                Some(endpoint) => budget.with_count_endpoint(endpoint),
                None => budget,
            }
        });
        let recall = cache.as_ref().filter(|_| pure).map(|cache| {
            let mut hash = blake3::Hasher::new_derive_key("thrifty 2026-11 recall policy v1");
            for part in [
                self.tier.as_ref().map(TierPolicy::fingerprint),
                trim.as_ref().map(|trim| trim.policy().fingerprint()),
                self.cap.as_ref().map(|cap| cap.policy().fingerprint()),
            ] {
                hash.update(&[u8::from(part.is_some())]);
                hash.update(&part.unwrap_or_default());
            }
            if let Some(number) = own_counter.filter(|_| trim.is_some()) {
                hash.update(&number.to_le_bytes());
            }
            RecallLayer::new(cache, *hash.finalize().as_bytes())
        });
        Ok(Stack {
            meter,
            recall,
            tier: self.tier.map(TierLayer::new),
            ask,
            trim,
            cap: self.cap,
            cache,
            prefix: self.prefix,
            budget,
        })
    }
}
