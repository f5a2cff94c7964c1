//! Running the call of a flight.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http_body::{Body, Frame};

use super::idle::Idle;
use super::log::{Flight, Offered};
use super::share::{shared, unless};
use super::{FlightKey, Flights, Limits};
use crate::cache::render::{Rendered, RenderedBody};
use crate::call::{Reply, ReplyBody};
use crate::dialect::is_event_stream;
use crate::{BoxError, Error, Kind};

/// The duty to run the call and to publish what comes. Dropping it unfinished tells every caller that it failed.
pub(in super::super) struct Lead {
    flights: Flights,
    key: FlightKey,
    flight: Arc<Flight<Arc<Parts>>>,
}

/// What a reply was, for the one who stores it.
pub(in super::super) struct Recorded {
    /// Status, headers, extensions.
    pub(in super::super) parts: Arc<Parts>,
    /// All bytes, or why they were not kept: `too-large`, or `no-room` among all flights.
    pub(in super::super) body: Result<Bytes, &'static str>,
    /// Lengths of the frames of a stream; `None` for a complete reply.
    pub(in super::super) frames: Option<Arc<[u32]>>,
}

/// What the upstream did.
enum Came {
    Frame(Option<Result<Frame<Bytes>, BoxError>>),
    Silence,
    Desertion,
}

impl Lead {
    pub(super) fn new(flights: Flights, key: FlightKey, flight: Arc<Flight<Arc<Parts>>>) -> Self {
        Self { flights, key, flight }
    }

    /// Stores what the flight brought, unless it was replaced or invalidated; neither can happen meanwhile.
    pub(in super::super) fn store<T>(&self, store: impl FnOnce() -> T) -> Option<T> {
        self.flight.store(store)
    }

    /// Runs the call to its end. `watch` sees each frame of a stream as it passes; `store` is called with a reply
    /// that ended cleanly, before anybody learns that it ended, so that whoever calls next finds it stored.
    pub(in super::super) async fn run<F>(
        &self,
        call: F,
        limits: Limits,
        mut watch: impl FnMut(&[u8]) + Send,
        store: impl FnOnce(Recorded, &Self) + Send,
    ) where
        F: Future<Output = Result<Reply, BoxError>> + Send,
    {
        let grace = limits.grace(self.key.2.is_some());
        let mut deserted = pin!(self.deserted(grace));
        let begun = tokio::time::timeout(limits.reply_timeout, call);
        let Some(begun) = unless(begun, deserted.as_mut()).await else { return };
        let reply = match begun {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return self.end(Err(shared(error))),
            Err(_) => return self.end(Err(silent("no reply began", limits.reply_timeout, "reply_timeout"))),
        };
        let (parts, mut body) = reply.into_parts();
        let parts = Arc::new(parts);
        if let Some(bytes) = body.complete() {
            // A stream whose bytes are all at hand is still a stream, of one frame.
            let frames = is_event_stream(&parts.headers)
                .then(|| [u32::try_from(bytes.len()).unwrap_or(u32::MAX)].into());
            let kept = if bytes.len() <= limits.max_bytes { Ok(bytes.clone()) } else { Err("too-large") };
            store(Recorded { parts: parts.clone(), body: kept, frames }, self);
            self.flight.answer(parts, false, std::iter::once(bytes));
            return self.end(Ok(()));
        }
        self.flight.start(parts.clone());
        let mut idle = Idle::new(limits.idle_timeout);
        let mut lost = None;
        loop {
            let frame = match next(&mut body, &mut idle, deserted.as_mut()).await {
                Came::Frame(Some(Ok(frame))) => frame,
                Came::Frame(None) => break,
                Came::Frame(Some(Err(error))) => return self.end(Err(shared(error))),
                Came::Silence => {
                    let what = "the reply fell silent in its middle";
                    return self.end(Err(silent(what, limits.idle_timeout, "idle_timeout")));
                }
                Came::Desertion => return,
            };
            // Trailers say nothing an AI API's client reads; only data is kept and passed on.
            let Ok(data) = frame.into_data() else { continue };
            watch(&data);
            if !self.pass(data, &limits, &mut lost, deserted.as_mut()).await {
                return;
            }
            // A body that never waits must not keep its readers from running.
            tokio::task::coop::consume_budget().await;
        }
        let recorded = match (lost, self.flight.recorded()) {
            (None, Some((frames, body))) => Recorded { parts, body: Ok(body), frames: Some(frames) },
            (why, _) => Recorded { parts, body: Err(why.unwrap_or("too-large")), frames: None },
        };
        store(recorded, self);
        self.end(Ok(()));
    }

    /// Puts a frame into the log, waiting for room once the log is a window. False if nobody is left to read it.
    async fn pass(
        &self,
        mut data: Bytes,
        limits: &Limits,
        lost: &mut Option<&'static str>,
        mut deserted: Pin<&mut impl Future<Output = ()>>,
    ) -> bool {
        loop {
            data = match self.flight.offer(data, limits.max_bytes) {
                // What nobody hears and nobody can store is worth nothing to anybody.
                Offered::Kept => return lost.is_none() || !self.flight.is_deserted(),
                Offered::Outgrown(data, why) => {
                    // First off the board: whoever joined now would miss the start.
                    self.flights.0.board.unlink(&self.key, &self.flight);
                    self.flight.become_window();
                    *lost = Some(why);
                    data
                }
                Offered::Full(data) => {
                    let room = poll_fn(|cx| self.flight.poll_room(cx));
                    match unless(tokio::time::timeout(limits.patience, room), deserted.as_mut()).await {
                        None => return false,
                        Some(Err(_)) => self.flight.expel(),
                        Some(Ok(())) => {}
                    }
                    data
                }
            };
        }
    }

    /// Answers all callers with a reply that turned out to be stored already; nothing is sent.
    pub(in super::super) fn answer(self, rendered: Rendered) {
        let Rendered { parts, body } = rendered;
        match body {
            RenderedBody::Whole(bytes) => {
                self.flight.answer(Arc::new(parts), false, std::iter::once(bytes));
            }
            RenderedBody::Pieces(pieces) => {
                let bytes = pieces.concat().into();
                self.flight.answer(Arc::new(parts), false, std::iter::once(bytes));
            }
            RenderedBody::Stream(frames) => self.flight.answer(Arc::new(parts), true, frames),
        }
        self.end(Ok(()));
    }

    /// Resolves once nobody has been listening to any of these for `grace`. Nobody joins one after that.
    pub(in super::super) async fn all_deserted(leads: &[Self], grace: Option<Duration>) {
        let Some((first, grace)) = leads.first().zip(grace) else {
            // Without a flight nobody else can be listening.
            return match leads {
                [] => (),
                _ => std::future::pending().await,
            };
        };
        loop {
            for lead in leads {
                poll_fn(|cx| lead.flight.poll_deserted(cx)).await;
            }
            tokio::time::sleep(grace).await;
            if first.flights.0.board.give_up(leads.iter().map(|lead| (&lead.key, &*lead.flight))) {
                return;
            }
        }
    }

    async fn deserted(&self, grace: Option<Duration>) {
        Self::all_deserted(std::slice::from_ref(self), grace).await;
    }

    fn end(&self, how: Result<(), Error>) {
        // Off the board first: whoever comes now finds the stored answer or starts afresh, and a failure is shared
        // only with those who were there.
        self.flights.0.board.unlink(&self.key, &self.flight);
        self.flight.end(how);
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
        if self.flights.0.board.landed() {
            self.flights.0.landed.notify_waiters();
        }
    }
}

async fn next(
    body: &mut ReplyBody,
    idle: &mut Idle,
    mut deserted: Pin<&mut impl Future<Output = ()>>,
) -> Came {
    idle.restart();
    poll_fn(|cx| {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(Came::Frame(frame));
        }
        if idle.poll(cx).is_ready() {
            return Poll::Ready(Came::Silence);
        }
        deserted.as_mut().poll(cx).map(|()| Came::Desertion)
    })
    .await
}

fn silent(what: &str, waited: Duration, setting: &str) -> Error {
    Error::new(
        Kind::Upstream,
        format!("{what} for {} s", waited.as_secs()),
        format!("call again, or allow more with `CacheBuilder::{setting}`"),
    )
}
