//! Settings of the cache.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderName;

use super::flight::{Epoch, Flights, Limits, OrphanPolicy};
use super::freshness::Windows;
use super::key::Keyer;
use super::layer::{CacheLayer, Core};
use super::negative::Negatives;
use super::numbers::Numbers;
use super::policy::{Sampled, StorePolicy};
use super::recall::Aliases;
use super::render::FreshIds;
use super::resolved::Resolved;
use super::secret::Secret;
use super::store::Tiers;
use super::store::memory::Memory;
use super::switch::{Mode, Switch};
use super::varied::Varied;
use crate::Error;
use crate::call::Scope;
use crate::clock::{Clock, SystemClock};
use crate::price::PriceTable;
use crate::receipt::Sink;

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

/// How long an answer may be served where nothing else is said.
const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);

/// Settings of a [`CacheLayer`].
#[must_use]
pub struct CacheBuilder {
    memory_bytes: u64,
    disk: Option<PathBuf>,
    disk_bytes: u64,
    #[cfg(feature = "encrypt")]
    encrypt: bool,
    #[cfg(all(feature = "disk", feature = "test-util"))]
    medium: Arc<dyn super::Medium>,
    ttl: Option<Duration>,
    jitter: Option<u8>,
    left_out: Vec<String>,
    asks_for_usage: bool,
    replay_identity: ReplayIdentity,
    scope: Scope,
    vary: Vec<HeaderName>,
    credentials: Vec<HeaderName>,
    secret: Option<Secret>,
    #[cfg(feature = "disk")]
    secret_before: Option<Secret>,
    limits: Limits,
    flight_bytes: usize,
    clock: Arc<dyn Clock>,
    prices: Option<Arc<PriceTable>>,
    mode: Mode,
    windows: Windows,
    store: StorePolicy,
    sampled: Sampled,
    negative: Duration,
    answers: u8,
    opaque: Vec<String>,
    refreshes: Option<Arc<dyn Sink>>,
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("memory_bytes", &self.memory_bytes)
            .field("disk", &self.disk)
            .field("ttl", &self.ttl)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Default for CacheBuilder {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            disk: None,
            disk_bytes: 1 << 30,
            #[cfg(feature = "encrypt")]
            encrypt: false,
            #[cfg(all(feature = "disk", feature = "test-util"))]
            medium: Arc::new(super::FileMedium),
            ttl: None,
            jitter: None,
            left_out: Vec::new(),
            asks_for_usage: true,
            replay_identity: ReplayIdentity::Fresh,
            scope: Scope::default(),
            vary: Vec::new(),
            credentials: Vec::new(),
            secret: None,
            #[cfg(feature = "disk")]
            secret_before: None,
            limits: Limits::default(),
            flight_bytes: 256 << 20,
            clock: Arc::new(SystemClock),
            prices: None,
            mode: Mode::On,
            windows: Windows::default(),
            store: StorePolicy::default(),
            sampled: Sampled::Always,
            negative: Duration::ZERO,
            answers: 1,
            opaque: Vec::new(),
            refreshes: None,
        }
    }
}

impl CacheBuilder {
    /// Sets the bound of the memory tier in bytes: what entries really take, keys, headers and fixed costs included.
    ///
    /// Default: 64 MiB, some twenty thousand answers of 2 KiB. The whole cache takes up to an eighth more for exact
    /// repeats ([`RecallLayer`](crate::cache::RecallLayer)), and, with a file, about 20 MiB, 80 bytes for each entry
    /// in it and up to 16 MiB of stores that wait to be written. A process grows by at most 1.35 times this bound and
    /// 32 MiB, which is measured with a file of 256 MiB; what calls in flight hold has a
    /// [bound of its own](Self::flight_bytes).
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

    /// Puts other ground under the cache file than the file system.
    #[cfg(all(feature = "disk", feature = "test-util"))]
    #[doc(hidden)]
    pub fn disk_on(mut self, medium: Arc<dyn super::Medium>) -> Self {
        self.medium = medium;
        self
    }

    /// Encrypts the answers in the cache file (XChaCha20-Poly1305, a random nonce each). Needs a
    /// [`secret`](Self::secret) of your own, since one beside the file would open it for whoever has the file.
    ///
    /// Default: not encrypted; forged and moved entries are told all the same. Each scope's key is made with random
    /// bytes that are kept in the file alone: a purge of the scope destroys them, and with them every copy of its
    /// answers in pages that are not used again yet. What was written before this was set stays readable until it
    /// expires. Cost: some 5 us for 4 KiB. Keys, times and sizes of entries are not hidden; keys are keyed hashes.
    ///
    /// ```
    /// use thrifty::cache::{CacheLayer, Secret};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let from_your_vault = [7; 32];
    /// let layer = CacheLayer::builder()
    ///     .disk(dir.path().join("answers.redb"))
    ///     .secret(Secret::from_bytes(from_your_vault))
    ///     .encrypt()
    ///     .build()?;
    /// assert!(CacheLayer::builder().encrypt().build().is_err(), "a secret of your own is needed");
    /// # Ok::<(), thrifty::BoxError>(())
    /// ```
    #[cfg(feature = "encrypt")]
    pub fn encrypt(mut self) -> Self {
        self.encrypt = true;
        self
    }

    /// Sets how long an answer may be served again.
    ///
    /// Default: 24 hours. A model behind a floating name may change within a day, and most repeats come within the
    /// hour, so a longer life adds risk and saves little.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Shortens each answer's time to live by up to this many percent, of which 50 count at most: what was stored at one
    /// time is then not asked for again at one time. By how much follows from the key, so that all processes agree.
    ///
    /// Default: 10 of the default time to live, and 0 of one that you set: that is kept to the second. 0 switches it off.
    /// It is never longer than asked, and a time to live of a call's own is as the call says. Embeddings are left as
    /// they are: inputs of one batch that end at one time are asked for in one call.
    pub fn ttl_jitter(mut self, percent: u8) -> Self {
        self.jitter = Some(percent.min(50));
        self
    }

    /// Leaves a member of request bodies out of the cache key: a JSON pointer with `*` for each element of an array, such
    /// as `/messages/*/id`. Up to 16 of them.
    ///
    /// Default: none beside those that are known not to change an answer. It is for ids that a client makes up anew for
    /// each call, so that no repeat would ever be found. **The risk is yours**: if a provider or a model does look at the
    /// member, calls that differ in it share an answer. Exactly this path is meant, in all formats; a member of the same
    /// name elsewhere counts. Another list of paths is another key, so a changed one begins with an empty cache.
    ///
    /// [`build`](Self::build) refuses a path that means nothing (an element by its number, say), and one whose member is
    /// known to hold what is asked in any format: messages, their content and roles, prompts, tools, the model.
    ///
    /// # Example
    /// ```
    /// use thrifty::cache::CacheLayer;
    ///
    /// let layer = CacheLayer::builder().leave_out("/messages/*/id").build()?;
    /// for wrong in ["messages", "/messages", "/messages/0/id"] {
    ///     assert!(CacheLayer::builder().leave_out(wrong).build().is_err());
    /// }
    /// # Ok::<(), thrifty::Error>(())
    /// ```
    pub fn leave_out(mut self, path: impl Into<String>) -> Self {
        self.left_out.push(path.into());
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

    /// Says which secret was in use before this one, so that a new secret does not empty the cache.
    ///
    /// What was stored under it is served until the longest time to live is over, and stored anew under the new secret
    /// where somebody asks for it; then its file, which is moved to `<path>.before-<ms>` meanwhile and comes on top of
    /// the bound of the new one, is deleted. Purges and removals reach it, and delete such files where a process
    /// without this setting makes them. Embeddings start anew, and it cannot be given together with
    /// [several answers](Self::answers_per_question). Stop whoever uses the file with the old secret first: a file in
    /// use is not moved.
    ///
    /// Default: none; a changed secret is an empty cache.
    #[cfg(feature = "disk")]
    pub fn secret_before(mut self, secret: Secret) -> Self {
        self.secret_before = Some(secret);
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

    /// Sets what the cache does at all. [`CacheHandle::set_mode`](crate::cache::CacheHandle::set_mode) changes it
    /// later.
    ///
    /// Default: [`Mode::On`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets which calls with chance in their answer are cached; the others pass by, counted as `sampled`.
    ///
    /// Default: [`Sampled::Always`]. Whoever adds this layer wants repeats answered from it, and reasoning models take
    /// no temperature that could say so. Cost of anything narrower: most calls state no temperature, and pay each time.
    pub fn sampled(mut self, sampled: Sampled) -> Self {
        self.sampled = sampled;
        self
    }

    /// Stores answers that the output limit cut, too, where the caller itself set that limit.
    ///
    /// Default: they are not stored. A cut answer, JSON above all, is then replayed until it expires. One that was cut
    /// by a cap of ours is never stored.
    pub fn store_truncated(mut self) -> Self {
        self.store.truncated = true;
        self
    }

    /// Stores refusals and filtered answers too, for this long, of which 60 seconds count at most.
    ///
    /// Default: they are not stored. What is refused in one moment may be answered in the next; keeping it for
    /// seconds only breaks a loop that asks again and again.
    pub fn store_refusals(mut self, time: Duration) -> Self {
        self.store.refused = Some(time).filter(|time| !time.is_zero());
        self
    }

    /// Stores no answer that calls a tool.
    ///
    /// Default: they are stored if all arguments are JSON and the call offered each tool. Give this if your tools act on a world that moves on, so
    /// that the same question should lead to another call tomorrow. Cost: the turns of an agent are paid each time.
    pub fn skip_tool_calls(mut self) -> Self {
        self.store.skip_tool_calls = true;
        self
    }

    /// Serves an answer whose time is over for this much longer, at once, while a new one is fetched in the background.
    ///
    /// Default: off. The caller pays with an answer that is older than the time to live, and the provider is asked for
    /// something nobody may ask for again. A refresh goes through the layers below this one, the budget too. Calls
    /// that say how fresh their answer has to be get no stale one. See [`refresh_receipts`](Self::refresh_receipts).
    /// Embeddings are not kept beyond their time: for them this does nothing.
    pub fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.windows.revalidate = time;
        self
    }

    /// Serves an answer whose time is over for this much longer while the provider is down: its call failed, or was
    /// answered with 408, 429 or a 5xx.
    ///
    /// Default: off, so that errors are seen. Refusals of your own budget are not touched by it, nor is a stream that
    /// breaks in its middle: its head has left. Cost: stored answers take their room for so much longer.
    /// Embeddings are not kept beyond their time: for them this does nothing.
    pub fn stale_if_error(mut self, time: Duration) -> Self {
        self.windows.error = time;
        self
    }

    /// Keeps answers whose time is over for this much longer, for calls that take them
    /// ([`Options::max_stale`](crate::call::Options::max_stale), [`Options::stale_if_error`](crate::call::Options::stale_if_error)).
    ///
    /// Default: none beyond the two settings above. Cost: room.
    /// Embeddings are not kept beyond their time: for them this does nothing.
    pub fn keep_stale(mut self, time: Duration) -> Self {
        self.windows.asked = time;
        self
    }

    /// Sets who is told of what refreshes cost. They belong to no caller's receipt: that was closed with the stale
    /// answer. Each comes as a receipt of its own, with the note `refresh`.
    ///
    /// Default: the sinks of the [`Stack`](crate::stack::Stack) that the cache is put into. Without a stack nobody, so give
    /// the sink of your meter if you use [`stale_while_revalidate`](Self::stale_while_revalidate).
    pub fn refresh_receipts(mut self, sink: impl Sink) -> Self {
        self.refreshes = Some(Arc::new(sink));
        self
    }

    /// Answers a call whose like was refused as wrong (400, 404, 413, 422) within this time with the same error; 60
    /// seconds count at most.
    ///
    /// Default: off. It breaks loops that send the same wrong call again and again, and costs the seconds in which the
    /// call would have been right again: a model that was just enabled, say. Kept in memory, 1,024 errors of up to
    /// 16 KiB, apart from answers; never in a shared scope.
    /// For embeddings it does nothing: what was wrong in one batch need not be in the next.
    pub fn negative_ttl(mut self, time: Duration) -> Self {
        self.negative = time;
        self
    }

    /// Keeps up to this many answers to each question, of which each call gets one by chance; 64 count at most.
    ///
    /// Default: 1. For callers who want variety and still save: the first answers are paid until all places are filled,
    /// and each place is served as soon as it is. Cost: up to so many upstream calls, entries and flights for one
    /// question. Embeddings always have one.
    pub fn answers_per_question(mut self, answers: u8) -> Self {
        self.answers = answers;
        self
    }

    /// Caches calls of no known format whose path is or ends with this one, by their exact bytes: `/v1/audio/speech`,
    /// `/v1/images/generations`, `/v1/audio/transcriptions`. Of a form the boundary does not count.
    ///
    /// Default: none. Nobody knows what such a call does beside answering, so the routes are yours to name.
    pub fn opaque_route(mut self, path: &str) -> Self {
        self.opaque.push(path.to_owned());
        self
    }

    /// The layer.
    ///
    /// # Errors
    /// [`Kind::BadSetting`](crate::Kind::BadSetting) when a bound or the time to live is zero, encryption is asked
    /// for without a secret, or [`secret_before`](Self::secret_before) is the secret itself or meets several answers
    /// per question;
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
        if self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Error::bad_setting(
                "a time to live of 0 seconds serves nothing again",
                "give at least a second, or leave the cache layer out",
            ));
        }
        // Told before anything is opened.
        Keyer::new(&Secret::from_bytes([0; 32])).with_left_out(self.left_out.clone())?;
        #[cfg(feature = "encrypt")]
        if self.encrypt && self.secret.is_none() {
            return Err(Error::bad_setting(
                "encryption with a secret beside the file hides nothing",
                "give 32 random bytes of your own with `secret`, kept elsewhere, or leave `encrypt` out",
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
                self.disk = None;
                return self.build_checked();
            }
            self.secret = Some(Secret::beside(path)?);
        }
        self.build_checked()
    }

    fn build_checked(mut self) -> Result<CacheLayer, Error> {
        #[cfg(feature = "disk")]
        if let Some(before) = &self.secret_before {
            if self.secret.as_ref() == Some(before) {
                return Err(Error::bad_setting(
                    "the secret before this one is this one",
                    "give the new secret with `secret` and the old one with `secret_before`, or leave that out",
                ));
            }
            if self.answers > 1 {
                return Err(Error::bad_setting(
                    format!(
                        "{} answers to each question cannot be read from the file of the secret before",
                        self.answers
                    ),
                    "leave `answers_per_question` out until the time to live is over, or leave `secret_before` out and start empty",
                ));
            }
        }
        if self.scope.is_shared() {
            tracing::warn!(
                "cached answers are shared between credentials, as the scope of the cache layer says"
            );
        }
        let (credentials, opaque) = (std::mem::take(&mut self.credentials), std::mem::take(&mut self.opaque));
        let left_out = std::mem::take(&mut self.left_out);
        let keyer_of = |secret: &Secret| {
            Keyer::new(secret)
                .with_credential_headers(credentials.clone())
                .with_opaque_routes(opaque.clone())
                .with_left_out(left_out.clone())
        };
        let ttl = self.ttl.unwrap_or(DEFAULT_TTL);
        #[cfg(feature = "disk")]
        let former = match &self.disk {
            None => None,
            Some(path) => {
                let life = ttl.saturating_add(self.windows.kept());
                let before = self.secret_before.as_ref().map(&keyer_of).transpose()?;
                Some(super::former::Earlier::open(path, before, life, &self.clock))
            }
        };
        #[cfg(feature = "disk")]
        if former.as_ref().is_some_and(super::former::Earlier::holds_the_file) {
            self.disk = None;
        }
        let keyer = keyer_of(&self.secret.take().unwrap_or_else(Secret::random))?;
        let tiers = Tiers::new(Memory::new(self.memory_bytes));
        #[cfg(feature = "disk")]
        let tiers = tiers.with_disk(self.disk.map(|path| {
            let options = super::DiskOptions {
                max_bytes: self.disk_bytes,
                #[cfg(feature = "encrypt")]
                encrypt: self.encrypt,
                ..super::DiskOptions::default()
            };
            #[cfg(feature = "test-util")]
            return super::Disk::open_on(self.medium, &path, options, keyer.mac_key(), self.clock.clone());
            #[cfg(not(feature = "test-util"))]
            super::Disk::open(&path, options, keyer.mac_key(), self.clock.clone())
        }));
        Ok(CacheLayer::of(Core {
            tiers,
            #[cfg(feature = "disk")]
            former,
            flights: Flights::new(self.flight_bytes),
            limits: self.limits,
            aliases: Aliases::new(self.memory_bytes),
            scope: self.scope,
            vary: self.vary,
            ttl,
            jitter: self.jitter.unwrap_or(if self.ttl.is_some() { 0 } else { 10 }),
            asks_for_usage: self.asks_for_usage,
            fresh_ids: match self.replay_identity {
                ReplayIdentity::Fresh => Some(FreshIds::new()),
                ReplayIdentity::Original => None,
            },
            clock: self.clock,
            prices: self.prices.unwrap_or_else(PriceTable::builtin),
            epoch: Epoch::new(),
            resolved: Resolved::new(),
            numbers: Numbers::default(),
            switch: Switch::new(self.mode),
            windows: self.windows,
            store: self.store,
            sampled: self.sampled,
            negatives: Negatives::new(self.negative),
            varied: Varied::new(self.answers, &keyer.mac_key()),
            refreshes: self.refreshes.map_or_else(OnceLock::new, OnceLock::from),
            keyer,
        }))
    }
}
