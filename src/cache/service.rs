//! The way of a call through the cache.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tower::ServiceExt;
use tower_service::Service;

use super::embeddings;
use super::entry::Entry;
use super::flight::{Lead, Recorded, Role};
use super::key::CacheKey;
use super::layer::{Core, bump};
use super::policy::{storable, stored_headers};
use super::recall::Slot;
use super::render::{Want, hide_usage, render, want};
use super::status::{Sent, is_silent, sent};
use crate::call::{CacheMode, Call, Detour, Options, Reply};
use crate::dialect::{Finish, Outcome, Reading, read};
use crate::price::{PriceTable, Terms};
use crate::receipt::{Draft, Hold, Served};
use crate::{BoxError, Error, Kind};

/// Serves repeated calls from memory or disk; identical calls at the same time share one.
///
/// Always ready: a hit neither waits for nor takes a permit of the inner service, and a miss goes out on a fresh
/// clone of it. The price: load shedding above this layer sees no back-pressure. A miss runs in a task of its own,
/// so this service has to be called within a tokio runtime.
///
/// See the [module docs](crate::cache).
#[derive(Clone)]
pub struct Cache<S> {
    inner: S,
    core: Arc<Core>,
}

impl<S> Cache<S> {
    pub(super) fn new(inner: S, core: Arc<Core>) -> Self {
        Self { inner, core }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S> fmt::Debug for Cache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("core", &self.core).finish_non_exhaustive()
    }
}

impl<S> Service<Call> for Cache<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = CacheFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> CacheFuture {
        let core = &self.core;
        let options = Options::among(&call.parts.extensions);
        let mode = options.map_or(CacheMode::Default, |options| options.cache);
        if mode != CacheMode::NoStore
            && let Some(plan) = embeddings::plan(core, &call)
        {
            return embeddings::serve(core, &self.inner, call, plan, mode);
        }
        let key = match mode {
            CacheMode::NoStore => Err("no-store"),
            _ => core.keyer.key(&call, core.scope_of(options), &core.vary).map_err(|bypass| bypass.0),
        };
        let key = match key {
            Ok(key) => key,
            Err(why) if mode == CacheMode::OnlyIfCached => return CacheFuture::done(Err(not_cached(why))),
            Err(why) => {
                if let Some(slot) = Slot::of(&call) {
                    slot.set(None);
                }
                bump(&core.counters.bypassed);
                note(&call, |receipt| receipt.cache_note = Some(why));
                let how = if mode == CacheMode::NoStore { Sent::Request } else { Sent::Bypass(why) };
                let silent = is_silent(core, &call);
                let reply = self.inner.clone().oneshot(call);
                return CacheFuture::boxed(async move {
                    reply.await.map(|reply| sent(reply, how, silent)).map_err(Into::into)
                });
            }
        };
        if let Some(slot) = Slot::of(&call) {
            // A fallback's answer must not be what the next repeat gets: the model asked for may be up again.
            slot.set(call.parts.extensions.get::<Detour>().is_none().then_some(key));
        }
        let (want, ttl) = (want(&call), options.and_then(|options| options.ttl));
        if mode != CacheMode::NoCache
            && let Some(entry) = core.remembered(&key, ttl)
            && let Some(reply) = hit(core, &call, &entry, want, Served::Memory)
        {
            bump(&core.counters.memory_hits);
            return CacheFuture::done(Ok(reply));
        }
        let (core, inner) = (core.clone(), self.inner.clone());
        CacheFuture::boxed(miss(core, inner, call, key, want, mode))
    }
}

/// Not in memory: disk, then a flight.
async fn miss<S>(
    core: Arc<Core>,
    inner: S,
    call: Call,
    key: CacheKey,
    want: Want,
    mode: CacheMode,
) -> Result<Reply, BoxError>
where
    S: Service<Call, Response = Reply> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let ttl = Options::among(&call.parts.extensions).and_then(|options| options.ttl);
    if mode != CacheMode::NoCache
        && let Some(entry) = core.tiers.get_disk(&key, core.clock.now_ms()).await
        && core.is_young(&entry, ttl)
        && let Some(reply) = hit(&core, &call, &entry, want, Served::Disk)
    {
        bump(&core.counters.disk_hits);
        return Ok(reply);
    }
    if mode == CacheMode::OnlyIfCached {
        return Err(not_cached("miss").into());
    }
    if mode == CacheMode::ReadOnly {
        // What it brings is not stored, so nobody may count on it: it shares no flight.
        return alone(&core, inner, call).await;
    }
    // A stream is stored with its usage, whoever pays for it: the next caller may want it. This one sees what it asked
    // for.
    let format = call.format();
    let hides =
        core.asks_for_usage && want.is_some_and(|shape| !shape.usage) && format.hide_usage().is_some();
    let seen = |reply| if hides { hide_usage(format, reply) } else { reply };
    let epoch = core.epoch.now();
    let role = match mode {
        // A call that wants a new answer must not get that of a flight begun before it came.
        CacheMode::NoCache => {
            let (lead, seat) = core.flights.lead_anew((key, epoch, want));
            Role::Lead(lead, seat)
        }
        _ => core.flights.join_or_lead((key, epoch, want), &core.limits),
    };
    let (lead, seat) = match role {
        Role::Full => return alone(&core, inner, call).await,
        Role::Join(seat) => {
            let shared = core.scope_of(Options::among(&call.parts.extensions)).is_shared();
            return match seat.reply().await {
                // What failed for another credential need not fail for this one.
                Ok(reply) if shared && !reply.status().is_success() => alone(&core, inner, call).await,
                Err(_) if shared => alone(&core, inner, call).await,
                Ok(reply) => {
                    bump(&core.counters.joined);
                    note(&call, |receipt| receipt.served = Served::Flight);
                    Ok(sent(seen(reply), Sent::Collapsed, shared))
                }
                Err(error) => Err(error),
            };
        }
        Role::Lead(lead, seat) => (lead, seat),
    };
    // A flight stores before it leaves the map. So between this call's first look and its lead the answer may have
    // come; without a second look it would be paid for again.
    if mode != CacheMode::NoCache
        && let Some(entry) = core.remembered(&key, ttl)
        && let Some(rendered) = render(&core, call.format(), &entry, want, true)
        && let Some(reply) = hit(&core, &call, &entry, want, Served::Memory)
    {
        bump(&core.counters.memory_hits);
        lead.answer(rendered);
        return Ok(reply);
    }
    bump(&core.counters.misses);
    let drafted = Draft::of(&call).cloned();
    if let Some(draft) = &drafted {
        draft.note(|receipt| receipt.served = Served::Upstream);
    }
    let mut call = call;
    if hides {
        format.ask_for_usage(&mut call);
    }
    let how = if mode == CacheMode::NoCache { Sent::Request } else { Sent::Miss };
    let silent = is_silent(&core, &call);
    fly(core, lead, inner, call, key, epoch);
    let reply = seat.reply().await;
    if let (Some(draft), Err(_)) = (drafted, &reply) {
        draft.note(|receipt| receipt.served = Served::Nowhere);
    }
    reply.map(|reply| sent(seen(reply), how, silent))
}

/// One call outside any flight, neither read nor stored.
async fn alone<S>(core: &Core, inner: S, call: Call) -> Result<Reply, BoxError>
where
    S: Service<Call, Response = Reply>,
    S::Error: Into<BoxError>,
{
    bump(&core.counters.bypassed);
    note(&call, |receipt| receipt.cache_note = Some("own-call"));
    let silent = is_silent(core, &call);
    inner.oneshot(call).await.map(|reply| sent(reply, Sent::Alone, silent)).map_err(Into::into)
}

/// Runs the upstream call of a flight in a task of its own.
fn fly<S>(core: Arc<Core>, lead: Lead, inner: S, call: Call, key: CacheKey, epoch: u64)
where
    S: Service<Call, Response = Reply> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let format = call.format();
    let options = Options::among(&call.parts.extensions);
    let filing = Filing {
        key,
        epoch,
        // The layer's time to live is the longest: a call may only ask for less.
        ttl: options.and_then(|options| options.ttl).map_or(core.ttl, |ttl| ttl.min(core.ttl)),
        asked: call.model(),
        draft: Draft::of(&call).cloned(),
    };
    let reader = format.stream_reader_for(&call);
    let (seen, hold) = (Arc::new(Seen::default()), Draft::of(&call).map(Draft::hold));
    let settling = Settling { seen: seen.clone(), hold: Mutex::new(hold) };
    let limits = core.limits;
    tokio::spawn(async move {
        // What is dropped last is declared first: a flight counts as landed when it is settled.
        let lead = lead;
        let settling = settling;
        let sent = async {
            let mut reply = inner.oneshot(call).await.map_err(Into::into)?;
            match reply.body().complete() {
                Some(body) => drop(Reading::of_whole(&mut reply, format, &body)),
                None => seen.begin(Reading::of_stream(reply.extensions_mut(), || reader)),
            }
            Ok(reply)
        };
        let watch = |frame: &[u8]| seen.push(frame);
        let store = |recorded: Recorded, lead: &Lead| {
            let outcome = match (&recorded.body, &recorded.frames) {
                (Ok(body), frames) if frames.is_none() || is_whole(&recorded) => {
                    match Reading::known(&recorded.parts.extensions, body) {
                        Some(outcome) => outcome.clone(),
                        None => read(format, &recorded.parts.headers, body),
                    }
                }
                _ => seen.outcome(true),
            };
            if let Some(draft) = &filing.draft {
                draft.note(|receipt| receipt.status = Some(recorded.parts.status.as_u16()));
            }
            let came = outcome.clone();
            filing.file(&core, lead, recorded, outcome);
            settling.settle(came);
        };
        lead.run(sent, limits, watch, store).await;
    });
}

/// What a flight has seen of its stream.
#[derive(Default)]
struct Seen {
    /// Fed here, if nobody within reads it.
    reading: OnceLock<(Reading, bool)>,
    bytes: AtomicU64,
}

impl Seen {
    fn begin(&self, reading: (Reading, bool)) {
        // One flight has one reply.
        let _ = self.reading.set(reading);
    }

    fn push(&self, frame: &[u8]) {
        match self.reading.get() {
            Some((reading, true)) => reading.push(frame),
            Some(_) => drop(self.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed)),
            None => {}
        }
    }

    fn outcome(&self, ended: bool) -> Outcome {
        let Some((reading, feeds)) = self.reading.get() else {
            return Outcome { finish: Finish::Partial, empty: true, ..Outcome::default() };
        };
        let mut outcome = reading.outcome(ended);
        // A layer in between has put another body there: what that is worth nobody has looked into.
        if !feeds && outcome.is_good() && !reading.is_of(self.bytes.load(Ordering::Relaxed)) {
            outcome.finish = Finish::Unknown;
        }
        outcome
    }
}

/// Settles a flight that did not end well at what was seen of it, however it ended: failed, silent, left by all,
/// panicked, or shut down with its runtime.
struct Settling {
    seen: Arc<Seen>,
    hold: Mutex<Option<Hold>>,
}

impl Settling {
    fn settle(&self, outcome: Outcome) {
        if let Some(hold) = lock(&self.hold).take() {
            hold.settle(outcome);
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.settle(self.seen.outcome(false));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is needed to judge and store a reply when it has ended.
struct Filing {
    key: CacheKey,
    epoch: u64,
    ttl: Duration,
    asked: Option<String>,
    draft: Option<Draft>,
}

impl Filing {
    fn file(self, core: &Arc<Core>, lead: &Lead, recorded: Recorded, outcome: Outcome) {
        let body = match recorded.body {
            Ok(body) => body,
            Err(why) => return self.refuse(core, why),
        };
        if let Err(why) = storable(recorded.parts.status, &recorded.parts.headers, &outcome) {
            return self.refuse(core, why);
        }
        if let (Some(asked), Some(answered)) = (&self.asked, &outcome.model)
            && is_another_model(&core.prices, asked, answered)
        {
            return self.refuse(core, "other-model");
        }
        let now = core.clock.now_ms();
        let model = outcome.model.as_deref().or(self.asked.as_deref());
        let terms = Terms::at(now).with_service_tier(outcome.service_tier.clone());
        let cost = match (model, &outcome.usage) {
            (Some(model), Some(usage)) => core.prices.cost(model, usage, &terms).usd,
            _ => None,
        };
        let entry = Entry {
            status: recorded.parts.status,
            headers: stored_headers(&recorded.parts.headers),
            body,
            frames: recorded.frames,
            created_ms: now,
            ttl: self.ttl,
            outcome,
            cost,
            table: Some(core.prices.id()),
            identity: super::entry::Places::default(),
        };
        // An answer that was on the road during a purge must not come back to life, nor one that was replaced or
        // invalidated meanwhile. Neither can happen between these looks and the store.
        let put = || core.tiers.put(self.key, Arc::new(entry));
        match lead.store(|| core.epoch.store(self.epoch, put)) {
            None => return self.refuse(core, "replaced"),
            Some(None) => return self.refuse(core, "purged"),
            Some(Some(())) => {}
        }
        if let Some(draft) = &self.draft {
            draft.note(|receipt| receipt.stored = true);
        }
        bump(&core.counters.stored);
    }

    fn refuse(&self, core: &Core, why: &'static str) {
        if let Some(draft) = &self.draft {
            draft.note(|receipt| receipt.cache_note = Some(why));
        }
        bump(&core.counters.not_stored);
        tracing::debug!(why, "an answer was not stored");
    }
}

/// True if `answered` is known to be another model than `asked`, as after a silent fallback below us: its answer must
/// not be served to whoever asks for `asked`. A dated or longer spelling of the same name is the same model, and of a
/// name the price table does not know (a deployment's own) nothing can be said.
pub(super) fn is_another_model(prices: &PriceTable, asked: &str, answered: &str) -> bool {
    let plain = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let (asked, answered) = (plain(asked), plain(answered));
    if asked == answered || prices.rates(&asked).is_none() {
        return false;
    }
    // What follows a name in its dated spelling: `-2025-08-07`, `-20251001`, `-001`, `@20250101`, `-latest`.
    let same = |short: &str, long: &str| {
        long.strip_prefix(short).is_some_and(|rest| {
            let rest = rest.trim_start_matches(['-', '@', ':', '.']);
            rest == "latest"
                || rest == "default"
                || rest.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'v' || b == b':')
        })
    };
    !(same(&asked, &answered) || same(&answered, &asked))
}

/// True if the reply came complete though it is a stream: nobody watched its frames pass.
fn is_whole(recorded: &Recorded) -> bool {
    recorded.frames.as_deref().is_some_and(|frames| frames.len() == 1)
}

/// The reply of a stored entry as the caller wants it, and a line in the draft; `None` where it does not tell enough.
fn hit(core: &Core, call: &Call, entry: &Entry, want: Want, served: Served) -> Option<Reply> {
    let rendered = render(core, call.format(), entry, want, is_silent(core, call))?;
    if let Some(draft) = Draft::of(call) {
        draft.note(|receipt| note_hit(receipt, entry, served));
    }
    Some(rendered.reply())
}

pub(super) fn note_hit(receipt: &mut crate::receipt::Receipt, entry: &Entry, served: Served) {
    receipt.served = served;
    receipt.cache_note = None;
    receipt.answered = entry.outcome.model.clone();
    receipt.usage = entry.outcome.usage;
    receipt.service_tier = entry.outcome.service_tier.clone();
    receipt.finish = entry.outcome.finish;
    receipt.avoided.cache = entry.cost.unwrap_or_default();
}

pub(super) fn not_cached(why: &str) -> Error {
    Error::new(
        Kind::NotCached,
        format!("the answer is not in the cache ({why}) and the call allows nothing else"),
        "call again without `only-if-cached`",
    )
}

fn note(call: &Call, write: impl FnOnce(&mut crate::receipt::Receipt)) {
    crate::receipt::note(call, write);
}

/// Future of [`Cache`]: a hit from memory is ready at once and costs no allocation.
#[must_use = "futures do nothing unless polled"]
pub struct CacheFuture(Step);

enum Step {
    Done(Option<Result<Reply, BoxError>>),
    Boxed(Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>),
}

impl CacheFuture {
    pub(super) fn done(answer: Result<Reply, Error>) -> Self {
        Self(Step::Done(Some(answer.map_err(Into::into))))
    }

    pub(super) fn boxed(work: impl Future<Output = Result<Reply, BoxError>> + Send + 'static) -> Self {
        Self(Step::Boxed(Box::pin(work)))
    }
}

impl Future for CacheFuture {
    type Output = Result<Reply, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Step::Done(answer) => {
                Poll::Ready(answer.take().expect("a future is not polled after it was ready"))
            }
            Step::Boxed(work) => work.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for CacheFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheFuture")
    }
}
