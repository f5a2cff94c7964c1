//! One upstream call that any number of identical callers share.
//!
//! The call runs in a task of its own into an append-only log of its frames; everybody, the caller who caused it
//! included, only reads that log from the start. So callers may come, leave, or join in the middle of a stream: the
//! call goes on and is paid once. A caller that leaves takes nothing with it, and one that is slow slows nobody.
//!
//! All frames that flights hold count against one bound. A reply that outgrows its own bound, or finds no room in the
//! common one, is passed on without being recorded: nobody joins it any more, it is not stored, and its log holds
//! only what some caller has yet to read. Such a stream goes at the pace of its readers, as it would without a cache;
//! one who is far behind keeps the others waiting once, for [`Limits::patience`], and then gets an error. Over the
//! bound each flight may hold one frame, the one that it is passing on.
//!
//! | file | idea |
//! |---|---|
//! | `board` | which flights there are; joining, leading, giving up |
//! | `log` | the frames of one flight and how far each caller has read |
//! | `room` | the common bound |
//! | `epoch` | purges |
//! | `lead` | running the call |
//! | `seat` | a caller's side |
//!
//! The first four use no runtime and no clock: their locks come from `sync`, so that tests explore their schedules.

mod board;
mod epoch;
mod idle;
mod lead;
mod limits;
mod log;
mod room;
mod seat;
mod share;
mod sync;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::response::Parts;
use tokio::sync::Notify;

use self::board::{Board, Found};
use super::key::CacheKey;
use super::render::Want;

pub(super) use self::epoch::Epoch;
pub(super) use self::lead::{Lead, Recorded};
pub(super) use self::limits::Limits;
pub use self::limits::OrphanPolicy;
pub(super) use self::seat::Seat;
pub(super) use self::share::{joined_head, shared, unless};

/// Which calls are one flight: the same key in the same epoch, wanting the same kind of answer. A purge begins a new
/// epoch, so nobody who calls after it joins a flight from before.
pub(super) type FlightKey = (CacheKey, u64, Want);

/// All flights of a cache.
#[derive(Clone)]
pub(super) struct Flights(Arc<Shared>);

struct Shared {
    board: Board<FlightKey, Arc<Parts>>,
    /// Told when the last call has ended.
    landed: Notify,
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

impl Flights {
    /// No flights yet; the frames of all together may hold `room` bytes.
    pub(super) fn new(room: usize) -> Self {
        Self(Arc::new(Shared { board: Board::new(room), landed: Notify::new() }))
    }

    /// Joins the flight of this key, or begins it.
    pub(super) fn join_or_lead(&self, key: FlightKey, limits: &Limits) -> Role {
        self.role(key, self.0.board.join_or_lead(key, limits.max_callers))
    }

    /// The same for several keys at once: of two callers with the same keys, one leads them all.
    pub(super) fn join_or_lead_all(
        &self,
        keys: impl Iterator<Item = FlightKey>,
        limits: &Limits,
    ) -> Vec<Role> {
        let keys: Vec<FlightKey> = keys.collect();
        let found = self.0.board.join_or_lead_all(keys.iter().copied(), limits.max_callers);
        keys.into_iter().zip(found).map(|(key, found)| self.role(key, found)).collect()
    }

    /// Begins a flight in the place of the one there may be: its callers are still served, but what it brings is not
    /// stored, and nobody joins it any more.
    pub(super) fn lead_anew(&self, key: FlightKey) -> (Lead, Seat) {
        let (flight, place) = self.0.board.lead_anew(key);
        (Lead::new(self.clone(), key, flight), Seat { place, leads: true })
    }

    /// What flights of this key bring is not stored, and nobody joins them any more.
    pub(super) fn forget(&self, key: &CacheKey) {
        self.0.board.forget(|(of, _, _)| of == key);
    }

    /// Flights that a caller may still join.
    pub(super) fn len(&self) -> usize {
        self.0.board.len()
    }

    /// Calls that go on, those that nobody can join any more included.
    pub(super) fn running(&self) -> usize {
        self.0.board.running()
    }

    /// Bytes that their frames hold.
    pub(super) fn held(&self) -> usize {
        self.0.board.held()
    }

    /// Waits until no call goes on, at most for `timeout`. True if none does.
    pub(super) async fn drained(&self, timeout: Duration) -> bool {
        let drained = async {
            loop {
                let landed = self.0.landed.notified();
                tokio::pin!(landed);
                // From here on it is told, so that no end between the look and the wait is missed.
                landed.as_mut().enable();
                if self.running() == 0 {
                    return;
                }
                landed.await;
            }
        };
        tokio::time::timeout(timeout, drained).await.is_ok()
    }

    fn role(&self, key: FlightKey, found: Found<Arc<Parts>>) -> Role {
        match found {
            Found::New(flight, place) => {
                Role::Lead(Lead::new(self.clone(), key, flight), Seat { place, leads: true })
            }
            Found::Under(place) => Role::Join(Seat { place, leads: false }),
            Found::Full => Role::Full,
        }
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &self.len()).field("running", &self.running()).finish()
    }
}
