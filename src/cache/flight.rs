//! One upstream call that any number of identical callers share.
//!
//! The call runs in a task of its own into an append-only log of its frames; everybody, the caller who caused it
//! included, only reads that log from the start. So callers may come, leave, or join in the middle of a stream: the
//! call goes on and is paid once. A caller that leaves takes nothing with it. One that is slow slows nobody, until a
//! reply outgrows the bound: then the log cannot hold it all, and the slowest sets the pace for a while.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::sync::watch;

use super::key::CacheKey;
use super::policy::stored_headers;
use super::render::{Rendered, RenderedBody, Want};
use crate::call::{Reply, ReplyBody};
use crate::dialect::is_event_stream;
use crate::{BoxError, Error, Kind};

/// Which calls are one flight: the same key in the same epoch, wanting the same kind of answer. A purge begins a new
/// epoch, so nobody who calls after it joins a flight from before.
pub(super) type FlightKey = (CacheKey, u64, Want);

/// All flights of a cache.
#[derive(Clone, Default)]
pub(super) struct Flights(Arc<Shared>);

#[derive(Default)]
struct Shared {
    map: Mutex<HashMap<FlightKey, Arc<Flight>>>,
    /// Held by a caller that takes several places, so that two equal callers do not end up with half of them each.
    several: Mutex<()>,
    next: AtomicU64,
}

/// What a flight may hold and how long it outlives its callers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Callers of one flight; one more makes its own call.
    pub(super) max_callers: usize,
    /// Bytes of one reply that are kept for joiners and for storing.
    pub(super) max_bytes: usize,
    /// How long a flight goes on after its last caller has left.
    pub(super) orphan_grace: Duration,
}

/// One upstream call in progress.
struct Flight {
    id: u64,
    log: Mutex<Log>,
    /// Ticks when the log changed. Its receivers are the callers.
    tick: watch::Sender<u64>,
    /// True once what it brings must not be stored: it was replaced, or its answer invalidated.
    doomed: AtomicBool,
}

#[derive(Default)]
struct Log {
    head: Option<Head>,
    frames: Vec<Bytes>,
    /// Frames before this one have been read by everybody and were let go, after the log outgrew its bound.
    base: usize,
    /// How far each caller has read; only kept up once the log has outgrown its bound.
    read: HashMap<u64, usize>,
    /// Callers that lagged behind the others for too long.
    expelled: HashSet<u64>,
    kept_bytes: usize,
    end: Option<Result<(), Error>>,
}

#[derive(Clone)]
struct Head {
    parts: Arc<http::response::Parts>,
    /// False for a reply that was complete when it came: it is handed on complete.
    stream: bool,
}

/// What a caller gets.
pub(super) enum Role {
    /// This caller has to start the call; the others wait for it.
    Lead(Lead, Seat),
    /// The call is already under way.
    Join(Seat),
    /// Too many callers wait already.
    Full,
}

/// A caller's place at a flight.
pub(super) struct Seat {
    /// True for the caller who began the flight.
    leads: bool,
    flight: Arc<Flight>,
    tick: watch::Receiver<u64>,
    id: u64,
    at: usize,
}

/// The duty to run the call and to publish what comes. Dropping it unfinished tells every caller that it failed.
pub(super) struct Lead {
    flights: Flights,
    key: FlightKey,
    flight: Arc<Flight>,
}

impl Flights {
    /// Joins the flight of this key, or begins it.
    pub(super) fn join_or_lead(&self, key: FlightKey, limits: &Limits) -> Role {
        let mut map = self.map();
        if let Some(flight) = map.get(&key) {
            if flight.tick.receiver_count() >= limits.max_callers {
                return Role::Full;
            }
            return Role::Join(self.seat(flight));
        }
        let (lead, seat) = self.begin(&mut map, key);
        Role::Lead(lead, seat)
    }

    /// Begins a flight in the place of the one there may be: its callers are still served, but what it brings is not
    /// stored, and nobody joins it any more.
    pub(super) fn lead_anew(&self, key: FlightKey) -> (Lead, Seat) {
        let mut map = self.map();
        if let Some(older) = map.remove(&key) {
            older.doomed.store(true, Ordering::SeqCst);
        }
        self.begin(&mut map, key)
    }

    /// What flights of this key bring is not stored, and nobody joins them any more.
    pub(super) fn forget(&self, key: &CacheKey) {
        self.map().retain(|(of, _, _), flight| {
            if of == key {
                flight.doomed.store(true, Ordering::SeqCst);
            }
            of != key
        });
    }

    fn begin(&self, map: &mut HashMap<FlightKey, Arc<Flight>>, key: FlightKey) -> (Lead, Seat) {
        let flight = Arc::new(Flight {
            id: self.0.next.fetch_add(1, Ordering::Relaxed),
            log: Mutex::default(),
            tick: watch::Sender::new(0),
            doomed: AtomicBool::new(false),
        });
        let mut seat = self.seat(&flight);
        seat.leads = true;
        map.insert(key, flight.clone());
        (Lead { flights: self.clone(), key, flight }, seat)
    }

    /// The same for several keys at once: of two callers with the same keys, one leads them all.
    pub(super) fn join_or_lead_all(
        &self,
        keys: impl Iterator<Item = FlightKey>,
        limits: &Limits,
    ) -> Vec<Role> {
        let _alone = self.0.several.lock().unwrap_or_else(PoisonError::into_inner);
        keys.map(|key| self.join_or_lead(key, limits)).collect()
    }

    /// Flights in progress.
    pub(super) fn len(&self) -> usize {
        self.map().len()
    }

    fn seat(&self, flight: &Arc<Flight>) -> Seat {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let tick = flight.tick.subscribe();
        flight.log().read.insert(id, 0);
        Seat { leads: false, flight: flight.clone(), tick, id, at: 0 }
    }

    /// Takes a flight off the map, unless another one took its place.
    fn unlink(&self, key: &FlightKey, id: u64) {
        let mut map = self.map();
        if map.get(key).is_some_and(|flight| flight.id == id) {
            map.remove(key);
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<FlightKey, Arc<Flight>>> {
        self.0.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &self.len()).finish()
    }
}

impl Flight {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, write: impl FnOnce(&mut Log)) {
        write(&mut self.log());
        self.tick.send_modify(|tick| *tick = tick.wrapping_add(1));
    }
}

/// What a reply was, for the one who stores it.
pub(super) struct Recorded {
    /// Status, headers, extensions.
    pub(super) parts: Arc<http::response::Parts>,
    /// All bytes; `None` when they outgrew the bound.
    pub(super) body: Option<Bytes>,
    /// Lengths of the frames of a stream; `None` for a complete reply.
    pub(super) frames: Option<Arc<[u32]>>,
    /// True if it was replaced or invalidated meanwhile.
    pub(super) doomed: bool,
}

impl Lead {
    pub(super) fn is_doomed(&self) -> bool {
        self.flight.doomed.load(Ordering::SeqCst)
    }

    /// Runs the call to its end. `watch` sees each frame of a stream as it passes; `store` is called with a reply
    /// that ended cleanly, before anybody learns that it ended, so that whoever calls next finds it stored.
    pub(super) async fn run<F>(
        self,
        call: F,
        limits: Limits,
        mut watch: impl FnMut(&[u8]) + Send,
        store: impl FnOnce(Recorded) + Send,
    ) where
        F: Future<Output = Result<Reply, BoxError>> + Send,
    {
        let flight = self.flight.clone();
        let mut abandoned = pin!(flight.abandoned(limits.orphan_grace));
        let Some(sent) = unless(call, abandoned.as_mut()).await else { return };
        let reply = match sent {
            Ok(reply) => reply,
            Err(error) => return self.end(Err(shared(error))),
        };
        let (parts, mut body) = reply.into_parts();
        let parts = Arc::new(parts);
        if let Some(bytes) = body.complete() {
            // A stream whose bytes are all at hand is still a stream, of one frame.
            let frames = is_event_stream(&parts.headers)
                .then(|| [u32::try_from(bytes.len()).unwrap_or(u32::MAX)].into());
            let kept = (bytes.len() <= limits.max_bytes).then(|| bytes.clone());
            store(Recorded { parts: parts.clone(), body: kept, frames, doomed: self.is_doomed() });
            flight.publish(|log| {
                log.head = Some(Head { parts, stream: false });
                log.frames.push(bytes);
            });
            return self.end(Ok(()));
        }
        flight.publish(|log| log.head = Some(Head { parts: parts.clone(), stream: true }));
        let mut bounded = false;
        loop {
            let Some(frame) = unless(body.frame(), abandoned.as_mut()).await else { return };
            match frame {
                None => break,
                Some(Err(error)) => return self.end(Err(shared(error))),
                Some(Ok(frame)) => {
                    // Trailers say nothing an AI API's client reads; only data is kept and passed on.
                    let Ok(data) = frame.into_data() else { continue };
                    watch(&data);
                    let mut over = false;
                    flight.publish(|log| {
                        log.kept_bytes += data.len();
                        log.frames.push(data);
                        over = log.kept_bytes > limits.max_bytes;
                    });
                    if over {
                        if !bounded {
                            // Nobody can join any more: the start is about to be let go.
                            self.flights.unlink(&self.key, flight.id);
                            bounded = true;
                        }
                        flight.room(limits).await;
                    }
                }
            }
        }
        if !bounded {
            let (frames, body) = {
                let log = flight.log();
                let lens = log.frames.iter().map(|frame| u32::try_from(frame.len()).unwrap_or(u32::MAX));
                (lens.collect(), log.frames.concat().into())
            };
            store(Recorded { parts, body: Some(body), frames: Some(frames), doomed: self.is_doomed() });
        } else {
            store(Recorded { parts, body: None, frames: None, doomed: true });
        }
        self.end(Ok(()));
    }

    /// Answers all callers with a reply that turned out to be stored already; nothing is sent.
    pub(super) fn answer(self, rendered: Rendered) {
        let Rendered { parts, body } = rendered;
        let (frames, stream) = match body {
            RenderedBody::Whole(bytes) => (vec![bytes], false),
            RenderedBody::Stream(frames) => (frames.collect(), true),
        };
        self.flight.publish(|log| {
            log.head = Some(Head { parts: Arc::new(parts), stream });
            log.frames = frames;
        });
        self.end(Ok(()));
    }

    /// Resolves once nobody has been listening to any of these for `grace`.
    pub(super) async fn all_abandoned(leads: &[Self], grace: Duration) {
        loop {
            for lead in leads {
                lead.flight.tick.closed().await;
            }
            tokio::time::sleep(grace).await;
            if leads.iter().all(|lead| lead.flight.tick.is_closed()) {
                return;
            }
        }
    }

    fn end(&self, how: Result<(), Error>) {
        // Off the map first: whoever comes now finds the stored answer or starts afresh, and a failure is shared
        // only with those who were there.
        self.flights.unlink(&self.key, self.flight.id);
        self.flight.publish(|log| {
            log.end.get_or_insert(how);
        });
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // A no-op after `end`. It speaks when the task panicked, was aborted, or was left by all callers.
        self.end(Err(Error::new(
            Kind::Upstream,
            "the shared upstream call ended without an answer",
            "call again; the next call starts afresh",
        )));
    }
}

impl Flight {
    /// Resolves once nobody has been listening for `grace`.
    async fn abandoned(&self, grace: Duration) {
        loop {
            self.tick.closed().await;
            tokio::time::sleep(grace).await;
            if self.tick.is_closed() {
                return;
            }
        }
    }

    /// Lets go of what everybody has read, and waits while the slowest caller is more than the bound behind. One that
    /// keeps others waiting for longer than the grace time gets an error; a caller alone sets its own pace.
    async fn room(&self, limits: Limits) {
        let (mut wait, mut waited) = (Duration::from_millis(1), Duration::ZERO);
        loop {
            {
                let mut log = self.log();
                let slowest = log.read.values().copied().min().unwrap_or(usize::MAX);
                while log.base < slowest.min(log.frames.len()) {
                    let at = log.base;
                    let gone = std::mem::take(&mut log.frames[at]);
                    log.kept_bytes -= gone.len();
                    log.base += 1;
                }
                if log.kept_bytes <= limits.max_bytes {
                    return;
                }
                if waited > limits.orphan_grace && log.read.values().any(|at| *at > slowest) {
                    let laggards: Vec<u64> =
                        log.read.iter().filter(|(_, at)| **at == slowest).map(|(id, _)| *id).collect();
                    for id in laggards {
                        log.read.remove(&id);
                        log.expelled.insert(id);
                    }
                    continue;
                }
            }
            // A reply over the bound is rare and its slowest reader sets the pace; a short sleep is plain and enough.
            tokio::time::sleep(wait).await;
            waited += wait;
            wait = (wait * 2).min(Duration::from_millis(50));
        }
    }
}

impl Seat {
    /// Waits for the reply's head; a reply that came complete is handed on complete.
    pub(super) async fn reply(mut self) -> Result<Reply, BoxError> {
        loop {
            self.tick.mark_unchanged();
            {
                let log = self.flight.log();
                match (&log.head, &log.end) {
                    (Some(head), end) if head.stream || end.is_some() => {
                        let head = head.clone();
                        let bytes = (!head.stream).then(|| log.frames.first().cloned().unwrap_or_default());
                        drop(log);
                        let parts = self.parts(&head.parts);
                        let body = match bytes {
                            Some(bytes) => ReplyBody::full(bytes),
                            None => ReplyBody::stream(FlightBody::new(self)),
                        };
                        return Ok(Reply::from_parts(parts, body));
                    }
                    (_, Some(Err(error))) => return Err(error.clone().into()),
                    _ => {}
                }
            }
            // The sender lives in the flight, which this seat holds; `changed` cannot fail.
            let _ = self.tick.changed().await;
        }
    }

    /// The head as this caller may see it. Cookies, request ids and whatever else is about the one call that was sent
    /// are for the caller who sent it.
    fn parts(&self, parts: &http::response::Parts) -> http::response::Parts {
        if self.leads { parts.clone() } else { joined_head(parts) }
    }

    /// The same place, with the head as it is: for a flight whose head was made here and tells of no call.
    pub(super) fn with_whole_head(mut self) -> Self {
        self.leads = true;
        self
    }

    /// The next frame: `None` while there is none yet.
    fn next(&mut self) -> Option<Option<Result<Bytes, Error>>> {
        self.tick.mark_unchanged();
        let mut log = self.flight.log();
        if log.expelled.contains(&self.id) {
            return Some(Some(Err(Error::new(
                Kind::Upstream,
                "this caller of a shared stream read far too slowly and kept the others waiting",
                "read faster, or send the call with `no-store` to have a stream of its own",
            ))));
        }
        if let Some(frame) = log.frames.get(self.at) {
            let frame = frame.clone();
            self.at += 1;
            log.read.insert(self.id, self.at);
            return Some(Some(Ok(frame)));
        }
        match &log.end {
            None => None,
            Some(Ok(())) => Some(None),
            Some(Err(error)) => Some(Some(Err(error.clone()))),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flight.log().read.remove(&self.id);
    }
}

type Waiting = Pin<Box<dyn Future<Output = Seat> + Send>>;

/// The body of a streamed reply: the flight's log from its start, then live.
struct FlightBody {
    seat: Option<Seat>,
    waiting: Option<Waiting>,
}

impl FlightBody {
    fn new(seat: Seat) -> Self {
        Self { seat: Some(seat), waiting: None }
    }
}

impl Body for FlightBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                match waiting.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(seat) => {
                        self.waiting = None;
                        self.seat = Some(seat);
                    }
                }
            }
            let Some(mut seat) = self.seat.take() else { return Poll::Ready(None) };
            match seat.next() {
                Some(None) => return Poll::Ready(None),
                Some(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Some(Some(Ok(bytes))) => {
                    self.seat = Some(seat);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                None => {
                    self.waiting = Some(Box::pin(async move {
                        let _ = seat.tick.changed().await;
                        seat
                    }));
                }
            }
        }
    }
}

/// The head of somebody else's call.
pub(super) fn joined_head(parts: &http::response::Parts) -> http::response::Parts {
    let (mut own, ()) = http::Response::new(()).into_parts();
    own.status = parts.status;
    own.headers = stored_headers(&parts.headers);
    if let Some(after) = parts.headers.get(RETRY_AFTER) {
        own.headers.insert(RETRY_AFTER, after.clone());
    }
    own
}

/// What `work` gives, or `None` if `end` comes first.
pub(super) async fn unless<F: Future>(
    work: F,
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> Option<F::Output> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// An error that many callers can hold: ours as it is, another one as the source of ours.
pub(super) fn shared(error: BoxError) -> Error {
    match Error::find(&*error) {
        Some(ours) => ours.clone(),
        None => Error::caused_by(
            Kind::Upstream,
            "the upstream call failed",
            "see the source of this error; calling again starts a new one",
            error,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const LIMITS: Limits =
        Limits { max_callers: 10_000, max_bytes: 1 << 20, orphan_grace: Duration::from_millis(20) };

    fn key() -> FlightKey {
        (CacheKey::from_bytes([7; 32]), 0, None)
    }

    async fn run(lead: Lead, call: impl Future<Output = Result<Reply, BoxError>> + Send + 'static) {
        lead.run(call, LIMITS, |_| {}, |_| {}).await;
    }

    #[tokio::test]
    async fn ten_thousand_callers_make_one_call() {
        let (flights, calls) = (Flights::default(), Arc::new(AtomicUsize::new(0)));
        let mut callers = Vec::new();
        for _ in 0..10_000 {
            let seat = match flights.join_or_lead(key(), &LIMITS) {
                Role::Lead(lead, seat) => {
                    let calls = calls.clone();
                    tokio::spawn(run(lead, async move {
                        calls.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok(Reply::new("answer".into()))
                    }));
                    seat
                }
                Role::Join(seat) => seat,
                Role::Full => panic!("the bound is not reached"),
            };
            callers.push(tokio::spawn(seat.reply()));
        }
        for caller in callers {
            let reply = caller.await.unwrap().unwrap();
            assert_eq!(reply.into_body().complete().unwrap(), "answer");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1, "identical callers made more than one call");
        assert_eq!(flights.len(), 0, "a flight was left on the map");
    }

    #[tokio::test]
    async fn a_flight_whose_task_panics_tells_its_callers_and_leaves_the_map() {
        let flights = Flights::default();
        let Role::Lead(lead, seat) = flights.join_or_lead(key(), &LIMITS) else { panic!("the first leads") };
        let task = tokio::spawn(run(lead, async { panic!("upstream code broke") }));
        let error = seat.reply().await.unwrap_err();
        assert_eq!(Error::find(&*error).map(Error::kind), Some(Kind::Upstream));
        assert!(task.await.is_err());
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_flight_left_by_all_ends_after_the_grace_time() {
        let flights = Flights::default();
        let Role::Lead(lead, seat) = flights.join_or_lead(key(), &LIMITS) else { panic!("the first leads") };
        let task = tokio::spawn(run(lead, std::future::pending()));
        drop(seat);
        task.await.unwrap();
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_late_joiner_gets_a_stream_from_its_start() {
        let flights = Flights::default();
        let Role::Lead(lead, first) = flights.join_or_lead(key(), &LIMITS) else { panic!("the first leads") };
        let (tx, rx) = tokio::sync::mpsc::channel::<Bytes>(1);
        let body = ReplyBody::stream(http_body_util::StreamBody::new(futures_util::stream::unfold(
            rx,
            |mut rx| async {
                let frame = rx.recv().await?;
                Some((Ok::<_, BoxError>(Frame::data(frame)), rx))
            },
        )));
        tokio::spawn(run(lead, async { Ok(Reply::new(body)) }));
        tx.send("one ".into()).await.unwrap();
        let mut first = first.reply().await.unwrap().into_body();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
        let Role::Join(late) = flights.join_or_lead(key(), &LIMITS) else {
            panic!("the flight is under way")
        };
        let late = tokio::spawn(async { late.reply().await.unwrap().into_body().bytes().await.unwrap() });
        tx.send("two".into()).await.unwrap();
        drop(tx);
        assert_eq!(first.bytes().await.unwrap(), "two");
        assert_eq!(late.await.unwrap(), "one two");
    }
}
