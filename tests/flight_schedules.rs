//! Promise: whatever order the steps of callers, flights and purges come in, one call is made, nobody is left waiting,
//! and nothing old is served. The very files of the cache run here under a scheduler that tries thousands of orders.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

// The files below name these by their place in the crate.
use thrifty::{Error, Kind};

#[path = "../src/cache/flight"]
mod flight {
    #[expect(dead_code, reason = "not everything of it is explored")]
    mod board;
    mod epoch;
    #[expect(dead_code, reason = "not everything of it is explored")]
    mod log;
    mod room;
    mod sync {
        pub(super) use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
        pub(super) use shuttle::sync::{Mutex, MutexGuard, RwLock};
    }

    use std::future::poll_fn;
    use std::sync::Arc;

    use bytes::Bytes;
    use shuttle::future::block_on;
    use shuttle::thread;

    use self::board::{Board, Found};
    use self::epoch::Epoch;
    use self::log::{Flight, Offered, Place};
    use self::sync::{AtomicUsize, Mutex, Ordering};
    use super::{Error, Kind};

    /// Orders tried of each model.
    const SCHEDULES: usize = 5_000;
    const PLENTY: usize = 1 << 20;
    const NAME: &str = "the one question";
    const MINE: [u8; 16] = [1; 16];
    const OTHERS: [u8; 16] = [2; 16];

    /// A cache of one entry and an upstream that answers with its version.
    struct World {
        board: Board<(&'static str, u64), ()>,
        scope: [u8; 16],
        epoch: Epoch,
        stored: Mutex<Option<Bytes>>,
        version: AtomicUsize,
        sent: AtomicUsize,
    }

    impl World {
        fn new(room: usize) -> Arc<Self> {
            Arc::new(Self {
                board: Board::new(room),
                scope: MINE,
                epoch: Epoch::new(),
                stored: Mutex::new(None),
                version: AtomicUsize::new(0),
                sent: AtomicUsize::new(0),
            })
        }

        fn known(&self) -> Option<Bytes> {
            self.stored.lock().unwrap().clone()
        }

        /// One caller, in the steps of the service.
        fn call(self: &Arc<Self>) -> Bytes {
            if let Some(answer) = self.known() {
                return answer;
            }
            let key = (NAME, self.epoch.now(self.scope));
            match self.board.join_or_lead(key, PLENTY) {
                Found::Under(place) => read(&place).unwrap(),
                Found::New(flight, place) => {
                    if let Some(answer) = self.known() {
                        flight.answer((), true, std::iter::once(answer));
                        self.land(&key, &flight, Ok(()));
                        return read(&place).unwrap();
                    }
                    let world = self.clone();
                    let task = thread::spawn(move || world.fly(&key, &flight));
                    let answer = read(&place).unwrap();
                    drop(place);
                    task.join().unwrap();
                    answer
                }
                Found::Full => panic!("there is room for all"),
            }
        }

        /// One upstream call, in the steps of the task.
        fn fly(&self, key: &(&'static str, u64), flight: &Flight<()>) {
            self.sent.fetch_add(1, Ordering::SeqCst);
            let answer = Bytes::from(vec![self.version.load(Ordering::SeqCst) as u8; 3]);
            flight.start(());
            for at in 0..answer.len() {
                assert!(matches!(flight.offer(answer.slice(at..=at), PLENTY), Offered::Kept));
            }
            let (_, body) = flight.recorded().unwrap();
            let put = || *self.stored.lock().unwrap() = Some(body);
            let _ = flight.store(|| self.epoch.store(self.scope, key.1, put));
            self.land(key, flight, Ok(()));
        }

        fn land(&self, key: &(&'static str, u64), flight: &Flight<()>, how: Result<(), Error>) {
            self.board.unlink(key, flight);
            flight.end(how);
            self.board.landed();
        }

        fn is_empty(&self) -> bool {
            self.board.len() == 0 && self.board.running() == 0 && self.board.held() == 0
        }
    }

    /// All bytes of a flight.
    fn read(place: &Place<()>) -> Result<Bytes, Error> {
        block_on(poll_fn(|cx| place.poll_head(cx)))?;
        let mut all = Vec::new();
        while let Some(frame) = block_on(poll_fn(|cx| place.poll_next(cx))) {
            all.extend_from_slice(&frame?);
        }
        Ok(all.into())
    }

    fn explore(model: impl Fn() + Send + Sync + Copy + 'static) {
        shuttle::check_random(model, SCHEDULES / 2);
        // And orders with few switches at telling places.
        shuttle::check_pct(model, SCHEDULES / 2, 3);
    }

    #[test]
    fn equal_callers_make_one_call_in_any_order() {
        explore(|| {
            let world = World::new(PLENTY);
            let callers: Vec<_> = (0..3)
                .map(|_| {
                    let world = world.clone();
                    thread::spawn(move || world.call())
                })
                .collect();
            for caller in callers {
                assert_eq!(caller.join().unwrap(), [0, 0, 0][..]);
            }
            assert_eq!(world.sent.load(Ordering::SeqCst), 1, "equal calls were sent more than once");
            assert!(world.is_empty(), "something was left over");
        });
    }

    #[test]
    fn nothing_from_before_a_purge_is_served_after_it_in_any_order() {
        fn purge(scope: Option<[u8; 16]>) {
            let world = World::new(PLENTY);
            let early = {
                let world = world.clone();
                thread::spawn(move || world.call())
            };
            world.version.store(1, Ordering::SeqCst);
            world.epoch.bump(scope);
            *world.stored.lock().unwrap() = None;
            assert_eq!(world.call(), [1, 1, 1][..], "an answer from before the purge");
            early.join().unwrap();
            assert_eq!(world.call(), [1, 1, 1][..], "an answer from before the purge came back");
            assert!(world.is_empty());
        }
        explore(|| purge(None));
        explore(|| purge(Some(MINE)));
    }

    #[test]
    fn a_purge_of_another_scope_keeps_nobody_from_storing_or_joining_in_any_order() {
        explore(|| {
            let world = World::new(PLENTY);
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    let world = world.clone();
                    thread::spawn(move || world.call())
                })
                .collect();
            world.epoch.bump(Some(OTHERS));
            for caller in callers {
                assert_eq!(caller.join().unwrap(), [0, 0, 0][..]);
            }
            assert_eq!(world.sent.load(Ordering::SeqCst), 1, "equal calls were sent more than once");
            assert!(world.known().is_some(), "another scope's purge kept an answer from being stored");
            assert!(world.is_empty());
        });
    }

    #[test]
    fn nothing_from_before_an_invalidation_is_served_after_it_in_any_order() {
        explore(|| {
            let world = World::new(PLENTY);
            let early = {
                let world = world.clone();
                thread::spawn(move || world.call())
            };
            world.version.store(1, Ordering::SeqCst);
            world.board.forget(|(name, _)| *name == NAME);
            *world.stored.lock().unwrap() = None;
            assert_eq!(world.call(), [1, 1, 1][..], "an answer from before the invalidation");
            early.join().unwrap();
            assert_eq!(world.call(), [1, 1, 1][..], "an invalidated answer came back");
            assert!(world.is_empty());
        });
    }

    #[test]
    fn who_joins_at_the_last_moment_never_gets_a_flight_that_was_given_up() {
        explore(|| {
            let world = World::new(PLENTY);
            let key = (NAME, 0);
            let Found::New(flight, place) = world.board.join_or_lead(key, PLENTY) else {
                panic!("it is empty")
            };
            let task = {
                let world = world.clone();
                thread::spawn(move || {
                    if world.board.give_up(std::iter::once((&key, &*flight))) {
                        let error = Error::new(Kind::Upstream, "given up", "call again");
                        return world.land(&key, &flight, Err(error));
                    }
                    world.fly(&key, &flight);
                })
            };
            let leaves = thread::spawn(move || drop(place));
            match world.board.join_or_lead(key, PLENTY) {
                Found::Under(place) => {
                    assert_eq!(read(&place).unwrap(), [0, 0, 0][..], "a caller who waits was given up");
                }
                Found::New(flight, _place) => world.land(&key, &flight, Ok(())),
                Found::Full => panic!("there is room for all"),
            }
            leaves.join().unwrap();
            task.join().unwrap();
            assert!(world.is_empty());
        });
    }

    #[test]
    fn a_flight_learns_that_all_have_left_in_any_order() {
        explore(|| {
            let world = World::new(PLENTY);
            let key = (NAME, 0);
            let Found::New(flight, first) = world.board.join_or_lead(key, PLENTY) else {
                panic!("it is empty")
            };
            let Found::Under(second) = world.board.join_or_lead(key, PLENTY) else { panic!("it is there") };
            let callers = [first, second].map(|place| thread::spawn(move || drop(place)));
            block_on(poll_fn(|cx| flight.poll_deserted(cx)));
            assert!(world.board.give_up(std::iter::once((&key, &*flight))));
            world.land(&key, &flight, Ok(()));
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            assert!(world.is_empty());
        });
    }

    #[test]
    fn a_stream_without_room_reaches_all_its_readers_in_any_order() {
        explore(|| {
            // Room for two frames of one byte.
            let world = World::new(130);
            let key = (NAME, 0);
            let Found::New(flight, first) = world.board.join_or_lead(key, PLENTY) else {
                panic!("it is empty")
            };
            let Found::Under(second) = world.board.join_or_lead(key, PLENTY) else { panic!("it is there") };
            let readers: Vec<_> = [first, second]
                .into_iter()
                .map(|place| thread::spawn(move || read(&place).unwrap()))
                .collect();
            flight.start(());
            for byte in 0..6_u8 {
                let mut frame = Bytes::copy_from_slice(&[byte]);
                loop {
                    frame = match flight.offer(frame, PLENTY) {
                        Offered::Kept => break,
                        Offered::Outgrown(frame, _) => {
                            world.board.unlink(&key, &flight);
                            flight.become_window();
                            frame
                        }
                        Offered::Full(frame) => {
                            block_on(poll_fn(|cx| flight.poll_room(cx)));
                            frame
                        }
                    };
                    assert!(world.board.held() <= 130, "more than the bound is held");
                }
            }
            world.land(&key, &flight, Ok(()));
            drop(flight);
            for reader in readers {
                assert_eq!(reader.join().unwrap(), [0, 1, 2, 3, 4, 5][..]);
            }
            assert!(world.is_empty());
        });
    }
}
