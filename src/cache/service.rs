//! The way of a call through the cache.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use tower::ServiceExt;
use tower_service::Service;

use http::Version;
use http::response::Parts;

use super::embeddings;
use super::entry::Entry;
pub(super) use super::filing::Filing;
use super::filing::Verdict;
use super::flight::{Lead, Recorded, Role};
use super::freshness::{Age, Wish};
use super::key::CacheKey;
use super::layer::Core;
use super::numbers::Tier;
use super::policy::head_storable;
use super::purge::Since;
use super::recall::Slot;
use super::render::{Want, hide_usage, render, want};
use super::stale::{Old, refresh};
use super::status::{self, Sent, is_silent, sent};
use crate::call::{CacheMode, Call, Detour, Framed, Options, Reply, ReplyBody};
use crate::dialect::{Finish, Format, Outcome, Reading, read, read_raw};
use crate::lock::lock;
use crate::price::PriceTable;
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
        let mode = core.mode_of(options);
        if mode == CacheMode::OnlyIfCached && !core.switch.reads() {
            return CacheFuture::done(Err(not_cached("off")));
        }
        if mode != CacheMode::NoStore
            && let Some(plan) = embeddings::plan(core, &call)
        {
            return embeddings::serve(core, &self.inner, call, plan, mode);
        }
        let asked = options.is_some_and(|options| options.cache == CacheMode::NoStore);
        let key = match mode {
            CacheMode::NoStore if asked => Err("no-store"),
            CacheMode::NoStore => Err("off"),
            _ => core.key_of(&call, options),
        };
        let key = match key {
            Ok(key) => key,
            Err(why) if mode == CacheMode::OnlyIfCached => return CacheFuture::done(Err(not_cached(why))),
            Err(why) => {
                if let Some(slot) = Slot::of(&call) {
                    slot.set(None);
                }
                core.numbers.bypassed(why);
                note(&call, |receipt| receipt.cache_note = Some(why));
                let how = if asked { Sent::Request } else { Sent::Bypass(why) };
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
        let key = core.varied.choose(key);
        let (want, wish) = (want(&call), core.wish(&call, options));
        let mut old = None;
        if mode.reads() {
            let silent = is_silent(core, &call);
            if let Some(entry) = core.tiers.get_memory(&key, core.clock.now_ms()) {
                let age = core.judge(&entry, &wish);
                if age == Age::Good
                    && let Some(reply) =
                        hit(core, call.format(), Draft::of(&call), silent, &entry, want, Tier::Memory)
                {
                    return CacheFuture::done(Ok(reply));
                }
                old = Some(Old { entry, tier: Tier::Memory, age });
            } else if let Some(entry) = core.negatives.get(&key, core.clock.now_ms())
                && core.judge(&entry, &wish) == Age::Good
            {
                return CacheFuture::done(Ok(negative(core, &call, &entry, silent)));
            }
        }
        let (core, inner) = (core.clone(), self.inner.clone());
        CacheFuture::boxed(miss(core, inner, call, key, Asks { want, mode, wish, old }))
    }
}

/// What a call that memory has no answer for wants, and what is there of it.
struct Asks {
    want: Want,
    mode: CacheMode,
    wish: Wish,
    old: Option<Old>,
}

/// Who gets the reply to a call that has been sent on.
pub(super) struct Caller {
    format: &'static dyn Format,
    want: Want,
    silent: bool,
    pub(super) draft: Option<Draft>,
}

impl Caller {
    /// The reply of a stored entry for this caller, counted and noted.
    pub(super) fn hit(&self, core: &Core, entry: &Entry, tier: Tier) -> Option<Reply> {
        hit(core, self.format, self.draft.as_ref(), self.silent, entry, self.want, tier)
    }
}

/// Not in memory: disk, then a flight.
async fn miss<S>(core: Arc<Core>, inner: S, call: Call, key: CacheKey, asks: Asks) -> Result<Reply, BoxError>
where
    S: Service<Call, Response = Reply> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let Asks { want, mode, mut wish, mut old } = asks;
    let format = call.format();
    // In a shared scope what failed for another credential need not fail for this one.
    let shared = is_silent(&core, &call);
    let caller = Caller { format, want, silent: shared, draft: Draft::of(&call).cloned() };
    if mode.reads()
        && old.is_none()
        && let Some(entry) = core.on_disk(&call, &key).await
    {
        wish = wish.by(core.present(&call));
        let age = core.judge(&entry, &wish);
        if age == Age::Good
            && let Some(reply) = caller.hit(&core, &entry, Tier::Disk)
        {
            return Ok(reply);
        }
        old = Some(Old { entry, tier: Tier::Disk, age });
    }
    if mode == CacheMode::OnlyIfCached {
        return Err(not_cached("miss").into());
    }
    // A stream is stored with its usage, whoever pays for it: the next caller may want it. This one sees what it asked
    // for.
    let hides =
        core.asks_for_usage && want.is_some_and(|shape| !shape.usage) && format.hide_usage().is_some();
    if mode == CacheMode::Default
        && let Some(old) = &old
        && old.is_good_meanwhile(&core, &wish)
        && let Some(reply) = caller.hit(&core, &old.entry, old.tier)
    {
        refresh(&core, inner, call, key, want, hides);
        return Ok(reply);
    }
    let rescue = |came: &_| old.as_ref()?.rescue(&core, &caller, &wish, came);
    if mode == CacheMode::ReadOnly {
        // What it brings is not stored, so nobody may count on it: it shares no flight.
        let came = alone(&core, inner, call).await;
        return rescue(&came).map_or(came, Ok);
    }
    let seen = |reply| if hides { hide_usage(format, reply) } else { reply };
    let since = Since::of(&core, &call);
    let role = match mode {
        // A call that wants a new answer must not get that of a flight begun before it came.
        CacheMode::NoCache => {
            let (lead, seat) = core.flights.lead_anew((key, since.epoch, want));
            Role::Lead(lead, seat)
        }
        _ => core.flights.join_or_lead((key, since.epoch, want), &core.limits),
    };
    let (lead, seat) = match role {
        Role::Full => {
            let came = alone(&core, inner, call).await;
            return rescue(&came).map_or(came, Ok);
        }
        Role::Join(seat) => {
            let came = match seat.reply().await {
                Ok(reply) if shared && !reply.status().is_success() => alone(&core, inner, call).await,
                Err(_) if shared => alone(&core, inner, call).await,
                came => {
                    return match rescue(&came) {
                        Some(reply) => Ok(reply),
                        None => came.map(|reply| {
                            core.numbers.joined();
                            note(&call, |receipt| receipt.served = Served::Flight);
                            sent(seen(reply), Sent::Collapsed, shared)
                        }),
                    };
                }
            };
            return rescue(&came).map_or(came, Ok);
        }
        Role::Lead(lead, seat) => (lead, seat),
    };
    // A flight stores before it leaves the map. So between this call's first look and its lead the answer may have
    // come; without a second look it would be paid for again.
    if mode.reads()
        && let Some(entry) = core.remembered(&key, &wish)
        && let Some(rendered) = render(&core, format, &entry, want, true)
        && let Some(reply) = caller.hit(&core, &entry, Tier::Memory)
    {
        lead.answer(rendered);
        return Ok(reply);
    }
    core.numbers.miss(match (mode.reads(), &old) {
        (false, _) => "asked",
        (true, Some(old)) => old.reason(),
        (true, None) => "absent",
    });
    note(&call, |receipt| receipt.served = Served::Upstream);
    let mut call = call;
    if hides {
        format.ask_for_usage(&mut call);
    }
    let verdict = fly(core.clone(), lead, inner, call, key, since);
    let came = seat.reply().await;
    if let Some(reply) = rescue(&came) {
        return Ok(reply);
    }
    if let (Some(draft), Err(_)) = (&caller.draft, &came) {
        draft.note(|receipt| receipt.served = Served::Nowhere);
    }
    came.map(|reply| {
        let refused = verdict.get().copied().or(head_storable(reply.status(), reply.headers()).err());
        let how = match (refused, mode.reads()) {
            (Some(why), reads) => Sent::NotStored(!reads, why),
            (None, true) => Sent::Miss,
            (None, false) => Sent::Request,
        };
        sent(seen(reply), how, shared)
    })
}

/// One call outside any flight, neither read nor stored.
async fn alone<S>(core: &Core, inner: S, call: Call) -> Result<Reply, BoxError>
where
    S: Service<Call, Response = Reply>,
    S::Error: Into<BoxError>,
{
    core.numbers.bypassed("own-call");
    note(&call, |receipt| receipt.cache_note = Some("own-call"));
    let silent = is_silent(core, &call);
    inner.oneshot(call).await.map(|reply| sent(reply, Sent::Alone, silent)).map_err(Into::into)
}

/// Runs the upstream call of a flight in a task of its own.
pub(super) fn fly<S>(
    core: Arc<Core>,
    lead: Lead,
    inner: S,
    call: Call,
    key: CacheKey,
    since: Since,
) -> Verdict
where
    S: Service<Call, Response = Reply> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let format = call.format();
    let filing = Filing::of(&core, &call, key, since);
    let verdict = filing.verdict.clone();
    let raw = core.keyer.names_opaque(&call);
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
                (Ok(body), _) if raw => read_raw(&framed(&recorded.parts), body),
                (Ok(body), frames) if frames.is_none() || !seen.began() => {
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
    verdict
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

    /// True if its frames were watched as they passed.
    fn began(&self) -> bool {
        self.reading.get().is_some()
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

/// True if `answered` is known to be another model than `asked`, as after a silent fallback below us: its answer must
/// not be served to whoever asks for `asked`. A dated or longer spelling of the same name is the same model, and of a
/// name the price table does not know (a deployment's own) nothing can be said.
pub(super) fn is_another_model(prices: &PriceTable, asked: &str, answered: &str) -> bool {
    let plain = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let (asked, answered) = (plain(asked), plain(answered));
    let asked = asked.strip_suffix("-latest").unwrap_or(&asked);
    if asked == answered || prices.rates(asked).is_none() {
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
    !(same(asked, &answered) || same(&answered, asked))
}

/// The head of a reply as the judge of unread bodies wants it: what the edge took off stands in its version.
pub(super) fn framed(parts: &Parts) -> Parts {
    let mut parts = parts.clone();
    if parts.extensions.get::<Framed>().is_some() {
        parts.version = parts.version.max(Version::HTTP_2);
    }
    parts
}

/// The reply of a stored entry as the caller wants it, counted, and a line in the draft; `None` where it does not tell
/// enough.
fn hit(
    core: &Core,
    format: &'static dyn Format,
    draft: Option<&Draft>,
    silent: bool,
    entry: &Entry,
    want: Want,
    tier: Tier,
) -> Option<Reply> {
    let rendered = render(core, format, entry, want, silent)?;
    core.count_hit(tier, entry);
    if let Some(draft) = draft {
        let served = match tier {
            Tier::Memory => Served::Memory,
            Tier::Disk => Served::Disk,
        };
        draft.note(|receipt| note_hit(receipt, entry, served));
    }
    Some(rendered.reply())
}

/// The error an identical call had moments ago.
fn negative(core: &Core, call: &Call, entry: &Entry, silent: bool) -> Reply {
    core.numbers.negative();
    note(call, |receipt| {
        receipt.served = Served::Memory;
        receipt.cache_note = Some("negative");
    });
    let mut reply = Reply::new(ReplyBody::full(entry.body.clone()));
    *reply.status_mut() = entry.status;
    *reply.headers_mut() = entry.headers.clone();
    if !silent {
        status::hit(reply.headers_mut(), entry, core.clock.now_ms());
    }
    reply
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
