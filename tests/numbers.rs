//! Promise: what a cache did is told by place and by reason, in a plain struct, to `tracing` and through `metrics`, and
//! no name of a tenant, a key or a prompt is in any of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use thrifty::BoxError;
use thrifty::cache::{CacheLayer, CacheStats};
use thrifty::call::{CacheMode, Call, Options, Reply, ReplyBody, Scope};
use thrifty::clock::ManualClock;
use tower::{Layer, Service, ServiceExt, service_fn};

const CANARY: &str = "canary-5f1e";
const NOW: i64 = 1_795_000_000_000;

fn ask(members: &str) -> Call {
    let body =
        format!(r#"{{"model":"gpt-5-mini","messages":[{{"role":"user","content":"{CANARY}"}}]{members}}}"#);
    let mut call = Call::post("https://api.openai.com/v1/chat/completions", body);
    call.parts.headers.insert("authorization", format!("Bearer {CANARY}").parse().unwrap());
    call.with(Options::new().scope(Scope::tenant(CANARY)).tag(CANARY))
}

/// Who listens to events is asked at the first of each, in whatever thread that is: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Sends a bit of everything through a cache and gives its figures.
async fn traffic() -> CacheStats {
    let finish = |call: &Call| if call.doc.get("stop").is_some() { "length" } else { "stop" };
    let inner = service_fn(move |call: Call| {
        let body = format!(
            r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{CANARY}"}},"finish_reason":"{}"}}]}}"#,
            finish(&call)
        );
        async move {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(Reply::new(ReplyBody::from(body)))
        }
    });
    let clock = ManualClock::at_ms(NOW);
    let layer =
        CacheLayer::builder().clock(clock.clone()).ttl(std::time::Duration::from_secs(60)).build().unwrap();
    let cache = layer.layer(inner);
    let send = async |call: Call| drop(cache.clone().ready().await.unwrap().call(call).await.unwrap());
    let with = |options: Options| ask("").with(options.scope(Scope::tenant(CANARY)));
    tokio::join!(send(ask("")), send(ask(""))); // absent, joined
    send(ask("")).await; // a hit
    send(with(Options::new().cache(CacheMode::NoCache))).await; // asked
    send(with(Options::new().max_age(std::time::Duration::ZERO))).await; // too old
    send(with(Options::new().cache(CacheMode::NoStore))).await; // bypassed
    send(ask(r#","store":true"#)).await; // bypassed
    send(ask(r#","stop":["x"]"#)).await; // absent, refused
    clock.advance(std::time::Duration::from_secs(60));
    send(ask("")).await; // absent: nobody keeps stale answers here
    layer.handle().purge_all().await;
    layer.handle().stats()
}

#[test]
fn every_call_is_counted_once_by_its_reason() {
    let _one = ONE.lock();
    let stats = runtime().block_on(traffic());
    assert_eq!((stats.memory_hits, stats.joined, stats.misses, stats.bypassed), (1, 1, 5, 2), "{stats:?}");
    let by = |counts: &[(&'static str, u64)]| counts.iter().copied().collect();
    assert_eq!(stats.misses_by, by(&[("absent", 3), ("asked", 1), ("too-old", 1)]));
    assert_eq!(stats.bypassed_by, by(&[("no-store", 1), ("store-true", 1)]));
    assert_eq!(stats.refused_by, by(&[("truncated", 1)]));
    assert_eq!((stats.stored, stats.not_stored, stats.purges, stats.stale_hits), (4, 1, 1, 0));
}

/// Writes down each event.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

struct Visitor<'a>(&'a mut String);

impl tracing::field::Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut lines = self.0.lock().unwrap();
        let _ = write!(lines, "{}", event.metadata().target());
        event.record(&mut Visitor(&mut lines));
        lines.push('\n');
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn each_event_is_told_to_tracing_without_a_secret() {
    let _one = ONE.lock();
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        runtime().block_on(traffic());
    });
    let lines = lines.0.lock().unwrap();
    for want in [
        "thrifty::cache message=hit tier=\"memory\"",
        "thrifty::cache message=miss reason=\"too-old\"",
        "thrifty::cache message=joined",
        "thrifty::cache message=bypassed reason=\"store-true\"",
        "thrifty::cache message=not stored reason=\"truncated\"",
        "thrifty::cache message=stored",
        "thrifty::cache message=purge",
    ] {
        assert!(lines.lines().any(|line| line == want), "{want} is not among\n{lines}");
    }
    assert!(!lines.contains(CANARY), "a secret, a tenant or a prompt was told");
}

#[cfg(feature = "metrics")]
mod facade {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use super::{CANARY, ONE, runtime, traffic};

    type Values = Arc<Mutex<BTreeMap<String, u64>>>;

    #[derive(Default)]
    struct Kept(Values);

    struct Cell(Values, String);

    impl CounterFn for Cell {
        fn increment(&self, value: u64) {
            *self.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
        }

        fn absolute(&self, value: u64) {
            self.0.lock().unwrap().insert(self.1.clone(), value);
        }
    }

    impl GaugeFn for Cell {
        fn increment(&self, _: f64) {}

        fn decrement(&self, _: f64) {}

        fn set(&self, value: f64) {
            self.0.lock().unwrap().insert(self.1.clone(), value as u64);
        }
    }

    impl Recorder for Kept {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::new(Cell(self.0.clone(), key.to_string())))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::new(Cell(self.0.clone(), key.to_string())))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn the_facade_is_told_what_the_struct_says() {
        let _one = ONE.lock();
        let kept = Kept::default();
        let stats = metrics::with_local_recorder(&kept, || runtime().block_on(traffic()));
        let values = kept.0.lock().unwrap();
        let sum = |name: &str| {
            let of = values.iter().filter(|(key, _)| key.contains(name));
            of.map(|(_, value)| *value).sum::<u64>()
        };
        assert_eq!(sum("thrifty_cache_hits_total"), stats.memory_hits);
        assert_eq!(sum("thrifty_cache_misses_total"), stats.misses);
        assert_eq!(sum("thrifty_cache_bypassed_total"), stats.bypassed);
        assert_eq!(sum("thrifty_cache_joined_total"), stats.joined);
        assert_eq!(sum("thrifty_cache_stored_total"), stats.stored);
        assert_eq!(sum("thrifty_cache_refused_total"), stats.not_stored);
        assert_eq!(sum("thrifty_cache_purges_total"), stats.purges);
        assert_eq!(sum("thrifty_cache_memory_bytes"), stats.store.memory_bytes);
        let labelled: Vec<&String> = values.keys().filter(|key| key.contains("misses")).collect();
        assert_eq!(labelled.len(), 3, "one counter for each reason: {labelled:?}");
        assert!(!format!("{values:?}").contains(CANARY), "a label tells who asked what");
    }
}
