//! The append-only log of one flight: one task writes, any number of callers read, each at its own pace.
//!
//! While there is room the log keeps everything, so that whoever comes later reads it from the start. Once it has
//! outgrown its bound it is a window: frames that all callers present have read are let go, and the writer waits for
//! room. Nobody may come any more then.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::room::Room;
use super::sync::{Mutex, MutexGuard};
use crate::{Error, Kind};

/// One upstream call in progress. `H` is the head of its reply.
pub(super) struct Flight<H> {
    pub(super) id: u64,
    room: Arc<Room>,
    log: Mutex<Log<H>>,
    /// True once what it brings must not be stored: it was replaced, or its answer invalidated.
    doomed: Mutex<bool>,
}

struct Log<H> {
    head: Option<Head<H>>,
    frames: VecDeque<Bytes>,
    /// Frames that were let go.
    base: usize,
    /// What the frames take of the room.
    kept: usize,
    window: bool,
    callers: Callers,
    end: Option<Result<(), Error>>,
    /// The task that runs the call, when it waits for callers to read or to leave.
    runner: Option<Waker>,
}

/// The head, with the bytes of a reply that came complete.
pub(super) type Begun<H> = Result<(Head<H>, Option<Bytes>), Error>;

/// The head of a reply.
#[derive(Clone)]
pub(super) struct Head<H> {
    pub(super) head: H,
    /// False for a reply that was complete when it came: it is handed on complete.
    pub(super) stream: bool,
}

#[derive(Default)]
struct Callers {
    slots: Vec<Option<Caller>>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Caller {
    /// Frames read.
    at: usize,
    /// It lagged behind the others for too long.
    expelled: bool,
    waker: Option<Waker>,
}

/// What became of a frame.
pub(super) enum Offered {
    /// It is in the log.
    Kept,
    /// The log is to become a window first; the word says why.
    Outgrown(Bytes, &'static str),
    /// The callers have to read first.
    Full(Bytes),
}

/// A caller's place at a flight.
pub(super) struct Place<H> {
    flight: Arc<Flight<H>>,
    slot: usize,
}

impl<H> Flight<H> {
    pub(super) fn new(id: u64, room: Arc<Room>) -> Self {
        let log = Log {
            head: None,
            frames: VecDeque::new(),
            base: 0,
            kept: 0,
            window: false,
            callers: Callers::default(),
            end: None,
            runner: None,
        };
        Self { id, room, log: Mutex::new(log), doomed: Mutex::new(false) }
    }

    /// One more caller; `None` where they are `most` already, or the start is gone.
    pub(super) fn seat(self: &Arc<Self>, most: usize) -> Option<Place<H>> {
        let mut log = self.log();
        if log.window || log.callers.len() >= most {
            return None;
        }
        let slot = log.callers.add();
        Some(Place { flight: self.clone(), slot })
    }

    /// True if nobody listens.
    pub(super) fn is_deserted(&self) -> bool {
        self.log().callers.len() == 0
    }

    /// Ready once nobody listens.
    pub(super) fn poll_deserted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut log = self.log();
        if log.callers.len() == 0 {
            return Poll::Ready(());
        }
        remember(&mut log.runner, cx);
        Poll::Pending
    }

    /// Publishes the head of a stream.
    pub(super) fn start(&self, head: H) {
        self.change(|log| log.head = Some(Head { head, stream: true }));
    }

    /// Publishes a reply that is at hand, whatever room it takes. Its callers learn of it with the end.
    pub(super) fn answer(&self, head: H, stream: bool, frames: impl Iterator<Item = Bytes>) {
        let mut log = self.log();
        log.head = Some(Head { head, stream });
        for frame in frames {
            self.room.force(Room::cost(frame.len()));
            log.push(frame);
        }
    }

    /// Appends a frame, if `most` and the room of all flights allow.
    pub(super) fn offer(&self, frame: Bytes, most: usize) -> Offered {
        self.change(|log| {
            let cost = Room::cost(frame.len());
            if log.window {
                log.let_go(&self.room);
            }
            let too_large = log.kept.saturating_add(cost) > most;
            if too_large || !self.room.take(cost) {
                if !log.window {
                    return Offered::Outgrown(frame, if too_large { "too-large" } else { "no-room" });
                }
                if !log.frames.is_empty() {
                    return Offered::Full(frame);
                }
                // To be passed on at all, one frame has to be held.
                self.room.force(cost);
            }
            log.push(frame);
            Offered::Kept
        })
    }

    /// Lets go of what has been read from here on. It has to be off the board by then: nobody may come any more.
    pub(super) fn become_window(&self) {
        let mut log = self.log();
        log.window = true;
        log.let_go(&self.room);
    }

    /// Ready once callers have read and there is room again.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut log = self.log();
        let before = log.base;
        log.let_go(&self.room);
        if log.base > before || log.frames.is_empty() {
            return Poll::Ready(());
        }
        remember(&mut log.runner, cx);
        Poll::Pending
    }

    /// Sends away those who are furthest behind, if others have read everything and wait for them.
    pub(super) fn expel(&self) {
        self.change(|log| {
            let last = log.base + log.frames.len();
            let slowest = log.callers.slowest().unwrap_or(last);
            if log.callers.present().any(|caller| caller.at == last) {
                let behind = |caller: &&mut Caller| caller.at == slowest && slowest < last;
                log.callers.present_mut().filter(behind).for_each(|caller| caller.expelled = true);
            }
        });
    }

    /// All frames, if the log has kept them.
    pub(super) fn recorded(&self) -> Option<(Arc<[u32]>, Bytes)> {
        let log = self.log();
        if log.window {
            return None;
        }
        let lens = log.frames.iter().map(|frame| u32::try_from(frame.len()).unwrap_or(u32::MAX)).collect();
        let mut body = Vec::with_capacity(log.frames.iter().map(Bytes::len).sum());
        log.frames.iter().for_each(|frame| body.extend_from_slice(frame));
        Some((lens, body.into()))
    }

    /// Publishes the end; the first one stays.
    pub(super) fn end(&self, how: Result<(), Error>) {
        self.change(|log| {
            log.end.get_or_insert(how);
        });
    }

    /// What it brings must not be stored. On return no store of it is under way, and none comes after it.
    pub(super) fn doom(&self) {
        *self.doomed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Stores what it brought, unless that must not be, and keeps it from being doomed meanwhile.
    pub(super) fn store<T>(&self, store: impl FnOnce() -> T) -> Option<T> {
        let doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner);
        (!*doomed).then(store)
    }

    /// Changes the log and wakes the callers who wait for that.
    fn change<T>(&self, change: impl FnOnce(&mut Log<H>) -> T) -> T {
        let (made, wakers) = {
            let mut log = self.log();
            let made = change(&mut log);
            (made, log.callers.wakers())
        };
        // Outside of the lock: a woken caller goes for it at once.
        wakers.into_iter().for_each(Waker::wake);
        made
    }

    fn log(&self) -> MutexGuard<'_, Log<H>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H> Drop for Flight<H> {
    fn drop(&mut self) {
        let kept = self.log().kept;
        self.room.give(kept);
    }
}

impl<H> Log<H> {
    fn push(&mut self, frame: Bytes) {
        self.kept += Room::cost(frame.len());
        self.frames.push_back(frame);
    }

    /// Drops the frames that all callers present have read.
    fn let_go(&mut self, room: &Room) {
        let slowest = self.callers.slowest().unwrap_or(usize::MAX);
        while self.base < slowest
            && let Some(frame) = self.frames.pop_front()
        {
            let cost = Room::cost(frame.len());
            self.kept -= cost;
            room.give(cost);
            self.base += 1;
        }
    }
}

impl Callers {
    fn add(&mut self) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Caller::default());
        slot
    }

    fn remove(&mut self, slot: usize) {
        if self.slots[slot].take().is_some() {
            self.free.push(slot);
        }
    }

    /// Callers who have not left, the expelled included.
    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn present(&self) -> impl Iterator<Item = &Caller> {
        self.slots.iter().flatten().filter(|caller| !caller.expelled)
    }

    fn present_mut(&mut self) -> impl Iterator<Item = &mut Caller> {
        self.slots.iter_mut().flatten().filter(|caller| !caller.expelled)
    }

    fn slowest(&self) -> Option<usize> {
        self.present().map(|caller| caller.at).min()
    }

    fn wakers(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().flatten().filter_map(|caller| caller.waker.take()).collect()
    }
}

impl<H: Clone> Place<H> {
    /// How the reply begins.
    pub(super) fn poll_head(&self, cx: &Context<'_>) -> Poll<Begun<H>> {
        let mut log = self.flight.log();
        match (&log.head, &log.end) {
            (Some(head), end) if head.stream || end.is_some() => {
                let whole = (!head.stream).then(|| log.frames.front().cloned().unwrap_or_default());
                Poll::Ready(Ok((head.clone(), whole)))
            }
            (_, Some(Err(error))) => Poll::Ready(Err(error.clone())),
            _ => {
                self.wait(&mut log, cx);
                Poll::Pending
            }
        }
    }

    /// The next frame.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let mut log = self.flight.log();
        let Some(caller) = log.callers.slots[self.slot].as_ref() else { return Poll::Ready(None) };
        if caller.expelled {
            return Poll::Ready(Some(Err(Error::new(
                Kind::Upstream,
                "this caller of a shared stream read far too slowly and kept the others waiting",
                "read faster, or send the call with `no-store` to have a stream of its own",
            ))));
        }
        // Nothing is let go that somebody present has not read.
        let frame = log.frames.get(caller.at - log.base).cloned();
        if let Some(frame) = frame {
            if let Some(caller) = log.callers.slots[self.slot].as_mut() {
                caller.at += 1;
            }
            let runner = if log.window { log.runner.take() } else { None };
            drop(log);
            if let Some(runner) = runner {
                runner.wake();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        match &log.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error.clone()))),
            None => {
                self.wait(&mut log, cx);
                Poll::Pending
            }
        }
    }

    fn wait(&self, log: &mut Log<H>, cx: &Context<'_>) {
        if let Some(caller) = log.callers.slots[self.slot].as_mut() {
            remember(&mut caller.waker, cx);
        }
    }
}

impl<H> Drop for Place<H> {
    fn drop(&mut self) {
        let runner = {
            let mut log = self.flight.log();
            log.callers.remove(self.slot);
            log.runner.take()
        };
        if let Some(runner) = runner {
            runner.wake();
        }
    }
}

fn remember(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}
