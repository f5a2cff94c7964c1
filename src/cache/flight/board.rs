//! All flights of a cache that a caller may still join.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError};

use super::log::{Flight, Place};
use super::room::Room;
use super::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};

/// Flights by their key. A lock on the map comes before one on a flight, never after.
pub(super) struct Board<K, H> {
    map: Mutex<HashMap<K, Arc<Flight<H>>>>,
    /// Held by a caller that takes several places, so that two equal callers do not end up with half of them each.
    several: Mutex<()>,
    next: AtomicU64,
    /// Flights whose call goes on, those that nobody can join any more included.
    running: AtomicUsize,
    room: Arc<Room>,
}

/// What a caller finds.
pub(super) enum Found<H> {
    /// Nothing: the flight is this caller's to run.
    New(Arc<Flight<H>>, Place<H>),
    /// A flight under way.
    Under(Place<H>),
    /// A flight with too many callers.
    Full,
}

impl<K: Copy + Eq + Hash, H> Board<K, H> {
    pub(super) fn new(room: usize) -> Self {
        Self {
            map: Mutex::new(HashMap::new()),
            several: Mutex::new(()),
            next: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            room: Arc::new(Room::new(room)),
        }
    }

    /// Joins the flight of this key, or begins it.
    pub(super) fn join_or_lead(&self, key: K, most: usize) -> Found<H> {
        let mut map = self.map();
        match map.get(&key) {
            Some(flight) => flight.seat(most).map_or(Found::Full, Found::Under),
            None => {
                let (flight, place) = self.begin(&mut map, key);
                Found::New(flight, place)
            }
        }
    }

    /// The same for several keys at once: of two callers with the same keys, one leads them all.
    pub(super) fn join_or_lead_all(&self, keys: impl Iterator<Item = K>, most: usize) -> Vec<Found<H>> {
        let _alone = self.several.lock().unwrap_or_else(PoisonError::into_inner);
        keys.map(|key| self.join_or_lead(key, most)).collect()
    }

    /// Begins a flight in the place of the one there may be: its callers are still served, but what it brings is not
    /// stored, and nobody joins it any more.
    pub(super) fn lead_anew(&self, key: K) -> (Arc<Flight<H>>, Place<H>) {
        let mut map = self.map();
        if let Some(older) = map.remove(&key) {
            older.doom();
        }
        self.begin(&mut map, key)
    }

    /// What flights of these keys bring is not stored, and nobody joins them any more.
    pub(super) fn forget(&self, which: impl Fn(&K) -> bool) {
        self.map().retain(|key, flight| {
            let forgotten = which(key);
            if forgotten {
                flight.doom();
            }
            !forgotten
        });
    }

    /// Takes a flight off the board, unless another one took its place.
    pub(super) fn unlink(&self, key: &K, flight: &Flight<H>) {
        Self::remove(&mut self.map(), key, flight);
    }

    /// Takes these flights off the board if nobody listens to any of them. Nobody joins one in between.
    pub(super) fn give_up<'a>(&self, flights: impl Iterator<Item = (&'a K, &'a Flight<H>)> + Clone) -> bool
    where
        K: 'a,
        H: 'a,
    {
        let mut map = self.map();
        let deserted = flights.clone().all(|(_, flight)| flight.is_deserted());
        if deserted {
            flights.for_each(|(key, flight)| Self::remove(&mut map, key, flight));
        }
        deserted
    }

    /// The call of a flight has ended. True if no other goes on.
    pub(super) fn landed(&self) -> bool {
        self.running.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn len(&self) -> usize {
        self.map().len()
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    pub(super) fn held(&self) -> usize {
        self.room.held()
    }

    fn begin(&self, map: &mut HashMap<K, Arc<Flight<H>>>, key: K) -> (Arc<Flight<H>>, Place<H>) {
        let flight = Arc::new(Flight::new(self.next.fetch_add(1, Ordering::Relaxed), self.room.clone()));
        let place = flight.seat(usize::MAX).expect("a new flight has room for its first caller");
        map.insert(key, flight.clone());
        self.running.fetch_add(1, Ordering::AcqRel);
        (flight, place)
    }

    fn remove(map: &mut HashMap<K, Arc<Flight<H>>>, key: &K, flight: &Flight<H>) {
        if map.get(key).is_some_and(|there| there.id == flight.id) {
            map.remove(key);
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<K, Arc<Flight<H>>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
