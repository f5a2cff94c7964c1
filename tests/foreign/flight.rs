//! One call for all who ask the same: each fault here sent it twice, left somebody waiting, or kept too much.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use thrifty::cache::CacheHandle;
use thrifty::call::{Call, Reply};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, ServiceExt};

use super::support::*;

const SECOND: Duration = Duration::from_secs(1);

async fn nothing_is_left(handle: &CacheHandle) {
    assert!(handle.drain(Duration::from_secs(120)).await, "a call goes on for nobody");
    let left = || {
        let stats = handle.stats();
        (stats.flights, stats.flight_tasks, stats.flight_bytes)
    };
    // The last task gives back what it held a moment after it is over.
    for _ in 0..200 {
        if left() == (0, 0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(left(), (0, 0, 0), "something was left over");
}

/// So many callers at once get one answer from one call.
async fn one_call_for(callers: usize, call: &Call) {
    let bench = Bench::counting(Duration::from_millis(20));
    let sent = (0..callers).map(|_| tokio::spawn(bench.client.clone().oneshot(call.clone())));
    for reply in join_all(sent).await {
        assert_eq!(text(&reply.unwrap().unwrap().into_body().bytes().await.unwrap()), "0");
    }
    assert_eq!(bench.calls(), 1, "{callers} callers were not one call");
    nothing_is_left(&bench.handle).await;
}

mod moka_rs_moka {
    use super::*;

    /// A leader that nobody polled blocked all who waited for it.
    #[tokio::test(start_paused = true)]
    async fn moka_rs_moka_240_a_leader_that_is_not_polled_blocks_nobody() {
        let bench = Bench::counting(SECOND);
        let mut leader = Box::pin(bench.send(ask("hi")));
        assert!(futures_util::poll!(&mut leader).is_pending());
        let joined = tokio::time::timeout(2 * SECOND, bench.text(ask("hi"))).await;
        assert_eq!(joined.expect("it waited for one who sleeps"), "0");
        assert_eq!(bench.calls(), 1);
    }

    /// After 200 leaders that left, the next one panicked.
    #[tokio::test(start_paused = true)]
    async fn moka_rs_moka_four_hundred_leaders_may_leave() {
        let bench = Bench::counting(SECOND);
        for _ in 0..400 {
            let mut leader = Box::pin(bench.send(ask("hi")));
            assert!(futures_util::poll!(&mut leader).is_pending());
        }
        assert_eq!((bench.text(ask("hi")).await.as_str(), bench.calls()), ("0", 1));
        nothing_is_left(&bench.handle).await;
    }

    /// What was put at the moment of an `invalidate_all` was gone or not, as the clock had it.
    #[tokio::test(start_paused = true)]
    async fn moka_rs_moka_155_a_purge_has_a_before_and_an_after() {
        let bench = Bench::counting(SECOND);
        for n in 0..50 {
            bench.handle.put(&ask("hi"), reply(200, whole("old"))).await.unwrap();
            bench.handle.purge_all().await;
            assert!(bench.handle.get(&ask("hi")).await.is_none(), "round {n}: an old answer");
            bench.handle.put(&ask("hi"), reply(200, whole("new"))).await.unwrap();
            assert!(bench.handle.get(&ask("hi")).await.is_some(), "round {n}: the new one is gone too");
        }
        let (before, ()) = tokio::join!(bench.text(ask("ho")), async {
            tokio::time::sleep(SECOND / 2).await;
            bench.handle.purge_all().await;
        });
        assert_eq!(
            (before.as_str(), bench.text(ask("ho")).await.as_str()),
            ("0", "1"),
            "sent before, not kept"
        );
    }

    /// Eviction came to a halt when keys were used again and again (mended in #592).
    #[tokio::test]
    async fn moka_rs_moka_590_keys_used_again_and_again_stay_within_the_bound() {
        let body = whole(&"a".repeat(4_000));
        let answers = upstream(Duration::ZERO, move |_, _| Ok(reply(200, body.clone())));
        let bench = Bench::over(|builder| builder.memory_bytes(1 << 20), answers);
        for n in 0..4_000 {
            // Nine of ten calls come back to one of fifty questions, the others are new.
            let question = if n % 10 == 0 { n } else { n % 50 };
            bench.read(ask(&question.to_string())).await.unwrap();
        }
        let stats = bench.handle.stats();
        assert!(stats.store.memory_bytes <= 1 << 20, "{stats:?}");
        assert!(stats.memory_hits > 1_000, "what is asked again and again is served: {stats:?}");
    }

    /// Puts that came faster than evictions overshot the capacity.
    #[tokio::test]
    async fn moka_rs_moka_543_a_burst_of_answers_stays_within_the_bound() {
        let bench = Bench::over(
            |builder| builder.memory_bytes(1 << 20),
            upstream(Duration::ZERO, |_, _| Ok(reply(200, whole(&"a".repeat(8_000))))),
        );
        for round in 0..5 {
            join_all((0..200).map(|n| bench.read(ask(&format!("{round} {n}"))))).await;
            let held = bench.handle.stats().store.memory_bytes;
            assert!(held <= 1 << 20, "round {round}: {held} bytes");
        }
    }

    /// The capacity counted entries of whatever size, or sizes that nobody had told.
    #[tokio::test]
    async fn moka_rs_moka_72_the_bound_is_of_real_sizes() {
        let bench = Bench::over(
            |builder| builder.memory_bytes(1 << 20),
            upstream(Duration::ZERO, |n, _| Ok(reply(200, whole(&"a".repeat(100 << (n % 12)))))),
        );
        for n in 0..200 {
            bench.read(ask(&n.to_string())).await.unwrap();
        }
        let store = bench.handle.stats().store;
        let least = store.memory_entries * 300;
        assert!((least..=1 << 20).contains(&store.memory_bytes), "{store:?}");
    }

    /// What was on its way was outside the capacity.
    #[tokio::test]
    async fn moka_rs_moka_471_what_is_on_its_way_has_a_bound_of_its_own() {
        let frame = format!("data: {}\n\n", " ".repeat(16_000));
        let answers =
            upstream(Duration::ZERO, move |_, _| Ok(streamed(std::iter::repeat_n(frame.clone(), 20))));
        let bench = Bench::over(|builder| builder.flight_bytes(100_000), answers);
        let mut bodies = Vec::new();
        for n in 0..8 {
            bodies.push(bench.send(ask_stream(&n.to_string())).await.unwrap().into_body());
        }
        for _ in 0..200 {
            tokio::task::yield_now().await;
            let held = bench.handle.stats().flight_bytes;
            assert!(held <= 100_000 + 8 * 16_100, "{held} bytes are held for readers who do not read");
        }
        for body in join_all(bodies.into_iter().map(thrifty::call::ReplyBody::bytes)).await {
            assert_eq!(body.unwrap().len(), 20 * 16_008, "a slow reader lost something");
        }
        nothing_is_left(&bench.handle).await;
    }
}

mod haruki_sekai_api {
    use super::*;

    /// The place of a call that failed, panicked or was left stayed taken.
    #[tokio::test(start_paused = true)]
    async fn haruki_sekai_api_59_each_flight_gives_its_place_back() {
        let answers = upstream(SECOND, |n, call| match n % 3 {
            0 => Err("down".into()),
            1 => panic!("on purpose"),
            _ => Ok(answer(call, "a")),
        });
        let bench = Bench::over(|builder| builder, answers);
        for n in 0..30 {
            let call = both(&n.to_string())[n / 3 % 2].clone();
            let asked = bench.read(call);
            let answered = if n % 5 == 0 {
                tokio::time::timeout(SECOND / 2, asked).await.ok()
            } else {
                Some(asked.await)
            };
            assert_eq!(answered.is_some_and(|reply| reply.is_ok()), n % 3 == 2 && n % 5 != 0, "{n}");
        }
        nothing_is_left(&bench.handle).await;
        assert_eq!(bench.calls(), 30);
    }
}

mod async_singleflight {
    use super::*;

    /// Many leaders were elected at once.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn async_singleflight_12_there_is_exactly_one_leader() {
        for _ in 0..5 {
            one_call_for(400, &ask("hi")).await;
        }
    }
}

mod deltawi_deltallm {
    use super::*;

    /// A shared call ended with the caller who had begun it.
    #[tokio::test(start_paused = true)]
    async fn deltawi_deltallm_237_a_call_outlives_who_began_it() {
        for call in both("hi") {
            let bench = Bench::counting(SECOND);
            let mut leader = Box::pin(bench.send(call.clone()));
            assert!(futures_util::poll!(&mut leader).is_pending());
            let joins = tokio::spawn(bench.client.clone().oneshot(call));
            tokio::time::sleep(SECOND / 2).await;
            drop(leader);
            let body = joins.await.unwrap().unwrap().into_body().bytes().await.unwrap();
            assert_eq!((text(&body).as_str(), bench.calls()), ("0", 1));
        }
    }

    /// And nothing bounded how many waited for it.
    #[tokio::test(start_paused = true)]
    async fn deltawi_deltallm_237_a_flight_has_a_greatest_number_of_callers() {
        let answers = upstream(SECOND, |n, call| Ok(answer(call, &n.to_string())));
        let bench = Bench::over(|builder| builder.largest_flight(10), answers);
        let said = join_all((0..11).map(|_| bench.text(ask("hi")))).await;
        let most = ["0", "1"].map(|one| said.iter().filter(|said| *said == one).count());
        assert!(most == [1, 10] || most == [10, 1], "{said:?}");
        assert_eq!(bench.calls(), 2, "the eleventh makes its own call");
    }
}

mod joshrotenberg_tower_resilience {
    use super::*;

    /// Those who waited for a call ran in a busy loop.
    #[tokio::test(start_paused = true)]
    async fn joshrotenberg_tower_resilience_161_waiters_sleep() {
        let polls = Arc::new(AtomicUsize::new(0));
        let bench = Bench::counting(SECOND);
        let waiters: Vec<_> = (0..1_000)
            .map(|_| {
                let polls = polls.clone();
                let mut call = Box::pin(bench.client.clone().oneshot(ask("hi")));
                tokio::spawn(std::future::poll_fn(move |cx| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    call.as_mut().poll(cx).map(|reply| reply.is_ok())
                }))
            })
            .collect();
        for waiter in waiters {
            assert!(waiter.await.unwrap());
        }
        let polls = polls.load(Ordering::Relaxed);
        assert!(polls <= 10_000, "1,000 waiters were polled {polls} times in a second of waiting");
    }

    /// When the one who had made the call was gone, all who waited got an error.
    #[tokio::test(start_paused = true)]
    async fn joshrotenberg_tower_resilience_a_leader_who_leaves_fails_nobody() {
        let bench = Bench::counting(SECOND);
        let (leader, joined) = tokio::join!(
            tokio::time::timeout(SECOND / 2, bench.text(ask("hi"))),
            join_all((0..50).map(|_| bench.read(ask("hi"))))
        );
        assert!(leader.is_err(), "the first one left");
        assert!(joined.iter().all(Result::is_ok), "those behind it got an error");
        assert_eq!(bench.calls(), 1);
    }
}

mod tokenmiser {
    use super::*;

    /// A burst of 120 equal calls was sent 61 times.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tokenmiser_a_burst_of_120_is_one_call() {
        one_call_for(120, &ask("hi")).await;
    }

    /// Streams were sent once for each caller.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tokenmiser_a_burst_of_streams_is_one_call_too() {
        one_call_for(120, &ask_stream("hi")).await;
    }

    /// An error was given to all, and to those who came later.
    #[tokio::test(start_paused = true)]
    async fn tokenmiser_an_error_is_not_given_to_who_comes_later() {
        let answers = upstream(SECOND, |n, call| match n {
            0 => Err("down".into()),
            _ => Ok(answer(call, "up")),
        });
        let bench = Bench::over(|builder| builder, answers);
        let burst = join_all((0..20).map(|_| bench.read(ask("hi")))).await;
        assert!(burst.iter().all(Result::is_err), "who asked during the outage");
        assert_eq!((bench.text(ask("hi")).await.as_str(), bench.calls()), ("up", 2));
    }
}

mod helicone_ai_gateway {
    use super::*;

    /// A figure of bytes was used as a number of entries.
    #[tokio::test]
    async fn helicone_ai_gateway_the_bound_is_in_bytes() {
        let bench = Bench::over(
            |builder| builder.memory_bytes(1 << 20),
            upstream(Duration::ZERO, |_, _| Ok(reply(200, whole(&"a".repeat(64_000))))),
        );
        for n in 0..100 {
            bench.read(ask(&n.to_string())).await.unwrap();
        }
        let store = bench.handle.stats().store;
        assert!((1..=16).contains(&store.memory_entries) && store.memory_bytes <= 1 << 20, "{store:?}");
    }
}

mod http_cache_tower {
    use super::*;

    /// A cache hung above a limit of one call at a time.
    #[tokio::test(start_paused = true)]
    async fn http_cache_tower_a_limit_of_one_below_hangs_nobody_and_stops_no_hit() {
        let (inner, calls) = upstream(SECOND, |n, call: &Call| -> Result<Reply, thrifty::BoxError> {
            Ok(answer(call, &n.to_string()))
        });
        let cache = thrifty::cache::CacheLayer::in_memory();
        let client =
            Client::new(cache.layer(tower::util::BoxCloneSyncService::new(ConcurrencyLimit::new(inner, 1))));
        let read = async |call: Call| {
            let reply = client.clone().oneshot(call).await.unwrap();
            text(&reply.into_body().bytes().await.unwrap())
        };
        assert_eq!(read(ask("hi")).await, "0");
        let misses = join_all(["a", "b", "c"].map(|question| read(ask(question))));
        let hit = tokio::time::timeout(SECOND / 2, async {
            tokio::time::sleep(SECOND / 10).await;
            read(ask("hi")).await
        });
        let (misses, hit) = tokio::join!(misses, hit);
        assert_eq!(hit.expect("a hit waited for the provider's permit"), "0");
        assert_eq!((misses.len(), calls.load(Ordering::SeqCst)), (3, 4));
    }
}
