//! Settings of the cache, and the handle on what its services share.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderName;
use tower_layer::Layer;

use super::embeddings;
use super::entry::Entry;
use super::flight::{Epoch, Flights, Limits, OrphanPolicy};
use super::key::{CacheKey, Keyer};
use super::recall::Aliases;
use super::render::FreshIds;
use super::secret::Secret;
use super::service::Cache;
use super::store::memory::Memory;
use super::store::{StoreStats, Tiers};
use crate::Error;
use crate::call::{Call, Options, Scope};
use crate::clock::{Clock, SystemClock};
use crate::price::PriceTable;

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
    pub(super) flights: Flights,
    pub(super) limits: Limits,
    pub(super) aliases: Aliases,
    pub(super) scope: Scope,
    pub(super) vary: Vec<HeaderName>,
    pub(super) ttl: Duration,
    pub(super) asks_for_usage: bool,
    /// Where replays get their ids; `None` if they keep those of the original.
    pub(super) fresh_ids: Option<FreshIds>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) prices: Arc<PriceTable>,
    pub(super) epoch: Epoch,
    pub(super) counters: Counters,
}

impl CacheLayer {
    /// A cache in memory only, of 64 MiB, scoped by credential.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::builder().build_memory_only()
    }

    /// Settings, to be changed.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// Looks after the cache from outside the stack: figures, purge, flush.
    #[must_use]
    pub fn handle(&self) -> CacheHandle {
        CacheHandle { core: self.core.clone() }
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

/// Which id and time of creation an answer carries when it is served again.
///
/// Callers of one flight see the live reply as it is, whatever is set here.
///
/// # Example
/// ```
/// use thrifty::cache::{CacheLayer, ReplayIdentity};
///
/// // For tests that compare answers byte for byte.
/// let layer = CacheLayer::builder().replay_identity(ReplayIdentity::Original).build()?;
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplayIdentity {
    /// A fresh id of the same kind and the time of the replay, the same in all events of a stream. The original id is
    /// told in the header `thrifty-origin-id`, except in a shared scope. Logs, traces and bills that go by id then
    /// count two answers as two.
    ///
    /// Ids that somebody gives back stay: those of tool calls, of a Responses reply that the provider stores (its
    /// `store` is not `false`), and of items with `encrypted_content`, which the provider accepts under their own id
    /// only. Embeddings and calls of no known format have none.
    #[default]
    Fresh,
    /// Those it was stored with: the very bytes the provider sent.
    Original,
}

/// Settings of a [`CacheLayer`].
#[derive(Debug)]
#[must_use]
pub struct CacheBuilder {
    memory_bytes: u64,
    disk: Option<PathBuf>,
    disk_bytes: u64,
    ttl: Duration,
    asks_for_usage: bool,
    replay_identity: ReplayIdentity,
    scope: Scope,
    vary: Vec<HeaderName>,
    credentials: Vec<HeaderName>,
    secret: Option<Secret>,
    limits: Limits,
    flight_bytes: usize,
    clock: Arc<dyn Clock>,
    prices: Option<Arc<PriceTable>>,
}

impl Default for CacheBuilder {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            disk: None,
            disk_bytes: 1 << 30,
            ttl: Duration::from_secs(24 * 3600),
            asks_for_usage: true,
            replay_identity: ReplayIdentity::Fresh,
            scope: Scope::default(),
            vary: Vec::new(),
            credentials: Vec::new(),
            secret: None,
            limits: Limits::default(),
            flight_bytes: 256 << 20,
            clock: Arc::new(SystemClock),
            prices: None,
        }
    }
}

impl CacheBuilder {
    /// Sets the bound of the memory tier in bytes, keys and fixed costs included.
    ///
    /// Default: 64 MiB, some ten thousand answers.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Keeps answers in this file too, so that they survive a restart. It is made if it does not exist.
    ///
    /// Default: none. One process owns a file at a time; a second one runs without the disk tier and says so once.
    /// Trouble with the file never fails a call: the tier steps aside.
    #[cfg(feature = "disk")]
    pub fn disk(mut self, path: impl Into<PathBuf>) -> Self {
        self.disk = Some(path.into());
        self
    }

    /// Sets the bound of the file's length in bytes. Live data settles at about half of it.
    ///
    /// Default: 1 GiB.
    #[cfg(feature = "disk")]
    pub fn disk_bytes(mut self, bytes: u64) -> Self {
        self.disk_bytes = bytes;
        self
    }

    /// Sets how long an answer may be served again.
    ///
    /// Default: 24 hours. A model behind a floating name may change within a day, and most repeats come within the
    /// hour, so a longer life adds risk and saves little.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Asks for usage in no stream whose caller did not.
    ///
    /// Default: it is asked for (OpenAI's `stream_options.include_usage`) and hidden from the caller, so that a stored
    /// stream has its price and serves callers who want usage. A few compatible servers refuse the member.
    pub fn without_asking_for_usage(mut self) -> Self {
        self.asks_for_usage = false;
        self
    }

    /// Sets which id and time an answer from memory or disk is served with.
    ///
    /// Default: [`ReplayIdentity::Fresh`]. Two answers with one id are one to whoever logs or bills by id.
    pub fn replay_identity(mut self, identity: ReplayIdentity) -> Self {
        self.replay_identity = identity;
        self
    }

    /// Sets who may share answers, for calls that do not say it themselves.
    ///
    /// Default: the credential. A [`Scope::shared`] cache logs its risk once.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Adds a request header that changes answers, and so has to be part of the key.
    ///
    /// Default: none besides the version, beta, organisation and project headers of the known APIs, which always
    /// are.
    pub fn vary_on(mut self, header: HeaderName) -> Self {
        self.vary.push(header);
        self
    }

    /// Adds a request header that tells who asks, under a name that does not say so: `x-user`, say.
    ///
    /// Default: none. Always taken for credentials are the user in a URI, `key=` in a query, and every header whose
    /// name holds `auth`, `token`, `api-key`, `apikey`, `access-key`, `subscription-key`, `secret`, `credential`,
    /// `password`, `jwt`, `cookie` or `session`. What no header says, such as a client certificate, is not seen:
    /// give such callers a [`Scope::tenant`] each.
    pub fn credential_header(mut self, header: HeaderName) -> Self {
        self.credentials.push(header);
        self
    }

    /// Sets the deployment secret that keys and stored answers are bound to.
    ///
    /// Default: 32 random bytes, kept beside the cache file with mode 0600, or in memory only without a file. Give
    /// one if several machines shall read the same file after one another. A changed secret is an empty cache.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Sets how long any upstream call goes on after its last caller has left: both policies below, in one.
    pub fn orphan_grace(self, grace: Duration) -> Self {
        self.orphaned_calls(OrphanPolicy::Grace(grace)).orphaned_streams(OrphanPolicy::Grace(grace))
    }

    /// Sets what becomes of a call for a document when its last caller has left.
    ///
    /// Default: [`OrphanPolicy::Finish`]. The provider writes and bills all of it whether anybody listens or not.
    pub fn orphaned_calls(mut self, policy: OrphanPolicy) -> Self {
        self.limits.orphaned_call = policy;
        self
    }

    /// Sets what becomes of a call for a stream when its last caller has left.
    ///
    /// Default: [`OrphanPolicy::Grace`] of 30 seconds. The prompt is paid already, and a caller that ran into its own
    /// timeout often comes again; after that, what the provider has not written yet need not be paid for.
    pub fn orphaned_streams(mut self, policy: OrphanPolicy) -> Self {
        self.limits.orphaned_stream = policy;
        self
    }

    /// Sets how long an upstream call may take until its reply begins; its callers then get an error.
    ///
    /// Default: 30 minutes, longer than the official clients wait. It is what ends a call that nobody waits for and
    /// nothing below gives up; for a deadline of your own put a timeout above or below.
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.limits.reply_timeout = timeout;
        self
    }

    /// Sets how long a streamed reply may be silent in its middle; its callers then get an error, and nothing is
    /// stored.
    ///
    /// Default: 5 minutes. Providers send pings, or events while a model thinks, far more often.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_timeout = timeout;
        self
    }

    /// Sets the largest reply that is stored, in bytes of its frames and 64 for each; a larger one is passed on and
    /// not kept.
    ///
    /// Default: 16 MiB.
    pub fn largest_reply(mut self, bytes: usize) -> Self {
        self.limits.max_bytes = bytes;
        self
    }

    /// Sets the bound of what all streams in flight hold together, in bytes of their frames and 64 for each.
    ///
    /// A stream that finds no room is passed on without being recorded: its callers get all of it, nobody joins it any
    /// more, it is not stored, and it goes at the pace of its readers. Of several readers one that is far behind keeps
    /// the others waiting once, for 5 seconds, and then gets an error. Such a stream may hold one frame over the bound.
    ///
    /// Default: 256 MiB, some thousands of streams at a time.
    pub fn flight_bytes(mut self, bytes: usize) -> Self {
        self.flight_bytes = bytes;
        self
    }

    /// Sets how many callers may share one upstream call; one more makes its own. Default: 10,000.
    pub fn largest_flight(mut self, callers: usize) -> Self {
        self.limits.max_callers = callers.max(1);
        self
    }

    /// Sets the clock that decides freshness. Default: the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the prices an answer is valued at when it is stored. Default: the built-in table.
    pub fn prices(mut self, prices: Arc<PriceTable>) -> Self {
        self.prices = Some(prices);
        self
    }

    /// The layer.
    ///
    /// # Errors
    /// [`Kind::BadSetting`](crate::Kind::BadSetting) when a bound or the time to live is zero;
    /// [`Kind::Store`](crate::Kind::Store) when the secret beside the cache file cannot be made or read. A cache file
    /// that cannot be used is no error: the tier steps aside.
    #[cfg_attr(not(feature = "disk"), expect(unused_mut, reason = "only a disk tier needs its own secret"))]
    pub fn build(mut self) -> Result<CacheLayer, Error> {
        if self.memory_bytes == 0 || self.disk_bytes == 0 {
            return Err(Error::bad_setting(
                "a cache of 0 bytes holds nothing",
                "give a positive bound, or leave the cache layer out",
            ));
        }
        if self.ttl.is_zero() {
            return Err(Error::bad_setting(
                "a time to live of 0 seconds serves nothing again",
                "give at least a second, or leave the cache layer out",
            ));
        }
        #[cfg(feature = "disk")]
        if self.secret.is_none()
            && let Some(path) = &self.disk
        {
            // A file that is there before its secret is somebody else's; a secret beside it would claim it.
            if super::store::disk::is_unclaimed(path) {
                tracing::warn!(path = %path.display(), "the cache file has no secret beside it and is left alone; \
                    answers are kept in memory only; give another path, or bring its secret back");
                return Ok(self.build_memory_only());
            }
            self.secret = Some(Secret::beside(path)?);
        }
        Ok(self.build_checked())
    }

    fn build_memory_only(mut self) -> CacheLayer {
        self.disk = None;
        self.build_checked()
    }

    fn build_checked(self) -> CacheLayer {
        if self.scope.is_shared() {
            tracing::warn!(
                "cached answers are shared between credentials, as the scope of the cache layer says"
            );
        }
        let keyer =
            Keyer::new(&self.secret.unwrap_or_else(Secret::random)).with_credential_headers(self.credentials);
        let tiers = Tiers::new(Memory::new(self.memory_bytes));
        #[cfg(feature = "disk")]
        let tiers = tiers.with_disk(self.disk.map(|path| {
            let options = super::DiskOptions { max_bytes: self.disk_bytes, ..super::DiskOptions::default() };
            super::Disk::open(&path, options, keyer.mac_key(), self.clock.clone())
        }));
        CacheLayer {
            core: Arc::new(Core {
                keyer,
                tiers,
                flights: Flights::new(self.flight_bytes),
                limits: self.limits,
                aliases: Aliases::new(),
                scope: self.scope,
                vary: self.vary,
                ttl: self.ttl,
                asks_for_usage: self.asks_for_usage,
                fresh_ids: match self.replay_identity {
                    ReplayIdentity::Fresh => Some(FreshIds::new()),
                    ReplayIdentity::Original => None,
                },
                clock: self.clock,
                prices: self.prices.unwrap_or_else(PriceTable::builtin),
                epoch: Epoch::new(),
                counters: Counters::default(),
            }),
        }
    }
}

impl Core {
    /// The scope of a call: its own, or the layer's.
    pub(super) fn scope_of<'a>(&'a self, options: Option<&'a Options>) -> &'a Scope {
        options.and_then(|options| options.scope.as_ref()).unwrap_or(&self.scope)
    }

    /// A fresh entry of the memory tier, young enough for a call with this time to live.
    pub(super) fn remembered(&self, key: &CacheKey, ttl: Option<Duration>) -> Option<Arc<Entry>> {
        self.tiers.get_memory(key, self.clock.now_ms()).filter(|entry| self.is_young(entry, ttl))
    }

    /// True unless the call asks for a younger answer.
    pub(super) fn is_young(&self, entry: &Entry, ttl: Option<Duration>) -> bool {
        let age = self.clock.now_ms() - entry.created_ms;
        ttl.is_none_or(|ttl| u128::try_from(age).unwrap_or(0) < ttl.as_millis())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("scope", &self.scope).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// Looks after a cache from outside the stack. Clones are the same cache.
#[derive(Clone, Debug)]
pub struct CacheHandle {
    core: Arc<Core>,
}

impl CacheHandle {
    /// Figures since the layer was built.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let counters = &self.core.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            memory_hits: get(&counters.memory_hits),
            disk_hits: get(&counters.disk_hits),
            misses: get(&counters.misses),
            joined: get(&counters.joined),
            bypassed: get(&counters.bypassed),
            stored: get(&counters.stored),
            not_stored: get(&counters.not_stored),
            flights: self.core.flights.len() as u64,
            flight_tasks: self.core.flights.running() as u64,
            flight_bytes: self.core.flights.held() as u64,
            store: self.core.tiers.stats(),
        }
    }

    /// Forgets the answer to this call (of embeddings, to each of its inputs), in every tier, durably so on return; one
    /// on its way is not stored. True if its key could be made. The call is taken as the cache sees it, below trim, cap
    /// and tier.
    pub async fn invalidate(&self, call: &Call) -> bool {
        if let Some(plan) = embeddings::plan(&self.core, call) {
            for key in plan.keys() {
                self.core.flights.forget(key);
                self.core.tiers.remove(key).await;
            }
            return true;
        }
        let scope = self.core.scope_of(Options::among(&call.parts.extensions));
        let Ok(key) = self.core.keyer.key(call, scope, &self.core.vary) else { return false };
        self.core.flights.forget(&key);
        self.core.tiers.remove(&key).await;
        true
    }

    /// Forgets everything, durably so on return. Calls in flight go on for their callers but are not stored, and
    /// nobody joins them.
    pub async fn purge_all(&self) {
        self.core.epoch.bump();
        self.core.aliases.clear();
        self.core.tiers.clear().await;
    }

    /// Waits until no upstream call goes on, at most for `timeout`, and until everything stored is safe on disk: for
    /// the end of a program. True if no call was left behind; new ones are not kept from starting.
    pub async fn drain(&self, timeout: Duration) -> bool {
        let drained = self.core.flights.drained(timeout).await;
        self.flush().await;
        drained
    }

    /// Waits until everything stored so far is safe on disk.
    pub async fn flush(&self) {
        self.core.tiers.flush_async().await;
    }

    /// The same, blocking the thread: for the end of a program, outside a runtime.
    pub fn flush_blocking(&self) {
        self.core.tiers.flush();
    }
}

/// Figures of a cache since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Calls answered from memory.
    pub memory_hits: u64,
    /// Calls answered from disk.
    pub disk_hits: u64,
    /// Calls that went to the provider.
    pub misses: u64,
    /// Calls that shared another one's upstream call.
    pub joined: u64,
    /// Calls that passed by the cache.
    pub bypassed: u64,
    /// Answers stored.
    pub stored: u64,
    /// Answers that were not whole and good, or too large.
    pub not_stored: u64,
    /// Upstream calls in progress that an identical call would join.
    pub flights: u64,
    /// Upstream calls in progress, those that nobody can join any more included.
    pub flight_tasks: u64,
    /// Bytes that replies in progress hold, and those that some caller has yet to read to its end.
    pub flight_bytes: u64,
    /// What the tiers hold.
    pub store: StoreStats,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) memory_hits: AtomicU64,
    pub(super) disk_hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) joined: AtomicU64,
    pub(super) bypassed: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) not_stored: AtomicU64,
}

/// Adds one.
pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
