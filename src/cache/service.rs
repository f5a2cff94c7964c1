//! The way of a call through the cache.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tower::ServiceExt;
use tower_service::Service;

use super::embeddings;
use super::entry::Entry;
use super::flight::{Lead, Recorded, Role};
use super::key::CacheKey;
use super::layer::{Core, bump};
use super::policy::{storable, stored_headers};
use super::recall::Slot;
use crate::call::{CacheMode, Call, Detour, Options, Reply, ReplyBody};
use crate::dialect::StreamReader;
use crate::price::Terms;
use crate::receipt::{Draft, Served};
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
                let sent = self.inner.clone().oneshot(call);
                return CacheFuture::boxed(async move { sent.await.map_err(Into::into) });
            }
        };
        if let Some(slot) = Slot::of(&call) {
            // A fallback's answer must not be what the next repeat gets: the model asked for may be up again.
            slot.set(call.parts.extensions.get::<Detour>().is_none().then_some(key));
        }
        if mode != CacheMode::NoCache
            && let Some(entry) = core.remembered(&key)
        {
            bump(&core.counters.memory_hits);
            return CacheFuture::done(Ok(hit(&call, &entry, Served::Memory)));
        }
        let (core, inner) = (core.clone(), self.inner.clone());
        CacheFuture::boxed(miss(core, inner, call, key, mode))
    }
}

/// Not in memory: disk, then a flight.
async fn miss<S>(
    core: Arc<Core>,
    inner: S,
    call: Call,
    key: CacheKey,
    mode: CacheMode,
) -> Result<Reply, BoxError>
where
    S: Service<Call, Response = Reply> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    if mode != CacheMode::NoCache
        && let Some(entry) = core.tiers.get_disk(&key, core.clock.now_ms()).await
    {
        bump(&core.counters.disk_hits);
        return Ok(hit(&call, &entry, Served::Disk));
    }
    if mode == CacheMode::OnlyIfCached {
        return Err(not_cached("miss").into());
    }
    let epoch = core.epoch.load(Ordering::SeqCst);
    let (lead, seat) = match core.flights.join_or_lead((key, epoch), &core.limits) {
        // A call that wants a new answer must not get that of a flight begun before it came.
        Role::Join(_) | Role::Full if mode == CacheMode::NoCache => return alone(&core, inner, call).await,
        Role::Full => return alone(&core, inner, call).await,
        Role::Join(seat) => {
            let reply = seat.reply().await?;
            bump(&core.counters.joined);
            note(&call, |receipt| receipt.served = Served::Flight);
            return Ok(reply);
        }
        Role::Lead(lead, seat) => (lead, seat),
    };
    // A flight stores before it leaves the map. So between this call's first look and its lead the answer may have
    // come; without a second look it would be paid for again.
    if mode != CacheMode::NoCache
        && let Some(entry) = core.remembered(&key)
    {
        bump(&core.counters.memory_hits);
        let (parts, _) = reply_of(&entry).into_parts();
        lead.answer(parts, Replay::of(&entry).collect(), entry.frames.is_some());
        return Ok(hit(&call, &entry, Served::Memory));
    }
    bump(&core.counters.misses);
    let drafted = Draft::of(&call).cloned();
    fly(core, lead, inner, call, key, epoch, mode);
    let reply = seat.reply().await?;
    if let Some(draft) = drafted {
        draft.note(|receipt| receipt.served = Served::Upstream);
    }
    Ok(reply)
}

/// One call outside any flight, neither read nor stored.
async fn alone<S>(core: &Core, inner: S, call: Call) -> Result<Reply, BoxError>
where
    S: Service<Call, Response = Reply>,
    S::Error: Into<BoxError>,
{
    bump(&core.counters.bypassed);
    note(&call, |receipt| receipt.cache_note = Some("own-call"));
    inner.oneshot(call).await.map_err(Into::into)
}

/// Runs the upstream call of a flight in a task of its own.
fn fly<S>(core: Arc<Core>, lead: Lead, inner: S, call: Call, key: CacheKey, epoch: u64, mode: CacheMode)
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
        read_only: mode == CacheMode::ReadOnly,
        ttl: options.and_then(|options| options.ttl).unwrap_or(core.ttl),
        asked: call.model(),
        draft: Draft::of(&call).cloned(),
    };
    let reader: Arc<Mutex<Box<dyn StreamReader>>> = Arc::new(Mutex::new(format.stream_reader()));
    let seen = reader.clone();
    let limits = core.limits;
    tokio::spawn(async move {
        let sent = async move { inner.oneshot(call).await.map_err(Into::into) };
        let watch = move |frame: &[u8]| lock(&reader).push(frame);
        let store = move |recorded: Recorded| {
            let outcome = match (&recorded.body, &recorded.frames) {
                (Some(body), None) => format.read_reply(body),
                _ => lock(&seen).outcome(true),
            };
            filing.file(&core, recorded, outcome);
        };
        lead.run(sent, limits, watch, store).await;
    });
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is needed to judge and store a reply when it has ended.
struct Filing {
    key: CacheKey,
    epoch: u64,
    read_only: bool,
    ttl: Duration,
    asked: Option<String>,
    draft: Option<Draft>,
}

impl Filing {
    fn file(self, core: &Core, recorded: Recorded, outcome: crate::dialect::Outcome) {
        let judged = match &recorded.body {
            _ if self.read_only => Err("read-only"),
            None => Err("too-large"),
            Some(_) => storable(recorded.parts.status, &recorded.parts.headers, &outcome),
        };
        // The epoch is read before the send and compared again here: an answer that was on the road during a purge
        // must not come back to life.
        let judged = judged.and_then(|()| {
            if core.epoch.load(Ordering::SeqCst) == self.epoch { Ok(()) } else { Err("purged") }
        });
        if let Some(draft) = &self.draft {
            draft.note(|receipt| {
                receipt.stored = judged.is_ok();
                receipt.cache_note = judged.err();
            });
        }
        if let Err(why) = judged {
            bump(&core.counters.not_stored);
            tracing::debug!(why, "an answer was not stored");
            return;
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
            body: recorded.body.unwrap_or_default(),
            frames: recorded.frames,
            created_ms: now,
            ttl: self.ttl,
            outcome,
            cost,
            table: Some(core.prices.id()),
        };
        core.tiers.put(self.key, Arc::new(entry));
        bump(&core.counters.stored);
    }
}

/// The reply of a stored entry, and a line in the draft.
pub(super) fn hit(call: &Call, entry: &Entry, served: Served) -> Reply {
    if let Some(draft) = Draft::of(call) {
        draft.note(|receipt| note_hit(receipt, entry, served));
    }
    reply_of(entry)
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

pub(super) fn reply_of(entry: &Entry) -> Reply {
    let body = match &entry.frames {
        None => ReplyBody::full(entry.body.clone()),
        Some(_) => ReplyBody::stream(Replay::of(entry)),
    };
    let mut reply = Reply::new(body);
    *reply.status_mut() = entry.status;
    *reply.headers_mut() = entry.headers.clone();
    reply
}

/// A stored reply, in the frames it came in; a complete one is a single frame.
struct Replay {
    body: Bytes,
    frames: Option<Arc<[u32]>>,
    at: usize,
}

impl Replay {
    fn of(entry: &Entry) -> Self {
        Self { body: entry.body.clone(), frames: entry.frames.clone(), at: 0 }
    }
}

impl Iterator for Replay {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let len = match &self.frames {
            Some(frames) => *frames.get(self.at)? as usize,
            None if self.at == 0 => self.body.len(),
            None => return None,
        };
        self.at += 1;
        Some(self.body.split_to(len.min(self.body.len())))
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|bytes| Ok(Frame::data(bytes))))
    }
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
