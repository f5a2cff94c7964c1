//! Promise: whatever the clock does, nothing is served beyond its time, nothing lives for ever, and nothing is fetched
//! again and again.
#![cfg(feature = "disk")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thrifty::BoxError;
use thrifty::cache::{CacheBuilder, CacheHandle, CacheLayer};
use thrifty::call::{Call, Reply};
use thrifty::clock::{Clock, ManualClock};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

const NOW: i64 = 1_795_000_000_000;
const HOUR: i64 = 3_600_000;
const TEN_YEARS: i64 = 10 * 8_766 * HOUR;
const TTL_S: u64 = 300;
/// What a clock may be set back by and an answer still be served.
const SLACK_MS: i64 = 60_000;

/// A cache in front of a provider whose answers say when they were made.
struct Bench {
    client: Client,
    handle: CacheHandle,
    clock: ManualClock,
    calls: Arc<AtomicU64>,
}

impl Bench {
    fn new(settings: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Self {
        let clock = ManualClock::at_ms(NOW);
        let builder = CacheLayer::builder().clock(clock.clone()).ttl(Duration::from_secs(TTL_S));
        let layer = settings(builder).build().unwrap();
        let calls = Arc::new(AtomicU64::new(0));
        let (counted, time) = (calls.clone(), clock.clone());
        let inner = service_fn(move |_: Call| {
            counted.fetch_add(1, Ordering::SeqCst);
            let body = format!(
                r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"@{}@"}},"finish_reason":"stop"}}]}}"#,
                time.now_ms()
            );
            async { Ok::<_, BoxError>(Reply::new(body.into())) }
        });
        Self { client: Client::new(layer.layer(inner)), handle: layer.handle(), clock, calls }
    }

    /// When the answer was made.
    async fn ask(&self, question: u64) -> i64 {
        let call = Call::post(
            "https://api.openai.com/v1/chat/completions",
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{question}"}}]}}"#),
        );
        let body = self.client.clone().oneshot(call).await.unwrap().into_body().bytes().await.unwrap();
        std::str::from_utf8(&body).unwrap().split('@').nth(1).unwrap().parse().unwrap()
    }
}

/// Steps by which a clock moves: small ones, an hour of summer time, ten years of an empty battery.
fn steps() -> impl Iterator<Item = i64> {
    let jumps = [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS, -HOUR, HOUR, -TEN_YEARS, TEN_YEARS];
    jumps.into_iter().flat_map(|jump| [1_000, 100_000, jump, 1_000, 150_000, 0, -30_000, 200_000])
}

#[tokio::test]
async fn nothing_is_served_beyond_its_time_whatever_the_clock_does() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bench) in [
        ("memory", Bench::new(|builder| builder)),
        // Hardly anything fits into this memory.
        ("disk", Bench::new(|builder| builder.memory_bytes(1_000).disk(dir.path().join("a.redb")))),
    ] {
        let mut now = NOW;
        for (n, step) in steps().enumerate() {
            now += step;
            bench.clock.set_ms(now);
            for question in 0..6 {
                let made = bench.ask(question).await;
                let ttl = TTL_S as i64 * 1_000;
                assert!(now < made + ttl, "{name}, step {n}: an answer of {} s ago", (now - made) / 1_000);
                assert!(made - now <= SLACK_MS, "{name}, step {n}: one of {} s ahead", (made - now) / 1_000);
            }
        }
        let stats = bench.handle.stats();
        assert!(stats.memory_hits + stats.disk_hits > 60, "{name}: nothing was ever served: {stats:?}");
    }
}

/// A jump costs each answer one fetch at most, though all are stale at once and asked for all the time.
#[tokio::test]
async fn a_jump_of_the_clock_fetches_each_answer_once() {
    for jump in [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS] {
        let bench = Bench::new(|builder| builder.stale_while_revalidate(Duration::from_secs(2 * 3_600)));
        for question in 0..20 {
            bench.ask(question).await;
        }
        bench.clock.set_ms(NOW + jump);
        for _ in 0..10 {
            for question in 0..20 {
                bench.ask(question).await;
            }
            assert!(bench.handle.drain(Duration::from_secs(5)).await);
        }
        let calls = bench.calls.load(Ordering::SeqCst);
        assert_eq!(calls, 40, "a jump by {} hours", jump / HOUR);
    }
}
