//! A changed secret: what was stored under the one before is served, and nothing that was forgotten comes back.
#![cfg(feature = "disk")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use thrifty::cache::{CacheBuilder, CacheLayer, Mode, Secret};
use thrifty::call::{CacheMode, Call, Options, Reply, Scope};
use thrifty::clock::ManualClock;
use thrifty::{BoxError, Kind};
use tower::{Layer, ServiceExt, service_fn};

const NOW: i64 = 1_795_000_000_000;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A cache file, started with one secret or another.
struct Place {
    dir: tempfile::TempDir,
    path: PathBuf,
    clock: ManualClock,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("c.redb");
        Self { dir, path, clock: ManualClock::at_ms(NOW) }
    }

    fn builder(&self, secret: u8, before: Option<u8>) -> CacheBuilder {
        let builder = CacheLayer::builder().disk(&self.path).ttl(secs(3600)).clock(self.clock.clone());
        let builder = builder.secret(Secret::from_bytes([secret; 32]));
        match before {
            Some(before) => builder.secret_before(Secret::from_bytes([before; 32])),
            None => builder,
        }
    }

    fn start(&self, secret: u8, before: Option<u8>) -> CacheLayer {
        self.builder(secret, before).build().expect("builds")
    }

    /// Whose secret is 1 answers these questions with `OLD`.
    async fn fill(&self, questions: &[&str]) {
        let layer = self.start(1, None);
        for question in questions {
            assert_eq!(answer(&layer, "OLD", ask(question)).await, ("OLD".to_owned(), 1));
        }
        layer.handle().flush().await;
    }

    fn earlier(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir.path()).expect("reads").map(|file| file.expect("a file"));
        let names = names.map(|file| file.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains(".before-")).collect()
    }
}

fn ask(question: &str) -> Call {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{question}"}}]}}"#);
    Call::post("https://api.openai.com/v1/chat/completions", body)
}

/// What a call gets where the provider would say `says`, and how often the provider was asked.
async fn answer(layer: &CacheLayer, says: &'static str, call: Call) -> (String, u64) {
    let asked = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&asked);
    let service = layer.layer(service_fn(move |_: Call| {
        counter.fetch_add(1, Ordering::SeqCst);
        let body = format!(
            r#"{{"id":"1","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{says}"}},"finish_reason":"stop"}}]}}"#
        );
        async move { Ok::<_, BoxError>(Reply::new(body.into())) }
    }));
    let reply = service.oneshot(call).await.expect("no call fails");
    let body = reply.into_body().collect().await.expect("it comes whole").to_bytes();
    let text = String::from_utf8_lossy(&body);
    let said = text.split(r#""content":""#).nth(1).and_then(|rest| rest.split('"').next());
    (said.unwrap_or_default().to_owned(), asked.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_does_not_come_back_from_a_file_that_was_not_open() {
    for how in ["all", "scope", "caller", "one"] {
        for without in [None, Some(9)] {
            let place = Place::new();
            place.fill(&["a"]).await;
            drop(place.start(2, Some(1)));
            assert_eq!(place.earlier().len(), 1);
            // As a quarantine leaves it.
            std::fs::write(place.dir.path().join(format!("c.redb.before-{NOW}.quarantine-{NOW}")), "x")
                .expect("writes");
            let layer = place.start(2, without);
            let handle = layer.handle();
            match how {
                "all" => handle.purge_all().await,
                "scope" => handle.purge(&Scope::tenant("ann")).await,
                "caller" => handle.purge_caller(&ask("a")).await,
                _ => assert!(handle.invalidate(&ask("a")).await),
            }
            assert_eq!(place.earlier(), Vec::<String>::new(), "{how}");
            drop((handle, layer));
            let layer = place.start(2, Some(1));
            assert_eq!(
                answer(&layer, "NEW", ask("a")).await,
                ("NEW".to_owned(), 1),
                "{how}, before: {without:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_through_another_process_reaches_the_old_file_too() {
    let place = Place::new();
    place.fill(&["a"]).await;
    let owner = place.start(2, Some(1));
    // As in another process: both files are in use.
    let other = place.start(2, Some(1));
    other.handle().purge_all().await;
    drop((other, owner));
    let layer = place.start(2, Some(1));
    assert_eq!(answer(&layer, "NEW", ask("a")).await, ("NEW".to_owned(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_one_scope_leaves_the_rest_of_an_open_old_file() {
    let place = Place::new();
    let of = |who: &str| ask("a").with(Options::new().scope(Scope::tenant(who)));
    let layer = place.start(1, None);
    answer(&layer, "OLD", of("ann")).await;
    answer(&layer, "OLD", of("bob")).await;
    layer.handle().flush().await;
    drop(layer);
    let layer = place.start(2, Some(1));
    layer.handle().purge(&Scope::tenant("ann")).await;
    assert_eq!(answer(&layer, "NEW", of("ann")).await, ("NEW".to_owned(), 1));
    assert_eq!(answer(&layer, "NEW", of("bob")).await, ("OLD".to_owned(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_answer_does_not_come_back_after_a_newer_one() {
    for put in [false, true] {
        let place = Place::new();
        place.fill(&["a", "b"]).await;
        let anew = || ask("a").with(Options::new().cache(CacheMode::NoCache).ttl(secs(60)));
        let layer = place.start(2, Some(1));
        place.clock.advance(secs(10));
        if put {
            let body = r#"{"id":"1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"NEW"},"finish_reason":"stop"}]}"#;
            layer.handle().put(&anew(), Reply::new(body.into())).await.expect("it is stored");
        } else {
            assert_eq!(answer(&layer, "NEW", anew()).await, ("NEW".to_owned(), 1));
        }
        place.clock.advance(secs(30));
        assert_eq!(answer(&layer, "NEWER", ask("a")).await, ("NEW".to_owned(), 0));
        place.clock.advance(secs(40));
        layer.handle().flush().await;
        drop(layer);
        let layer = place.start(2, Some(1));
        assert_eq!(answer(&layer, "NEWER", ask("a")).await, ("NEWER".to_owned(), 1), "after its minute");
        assert_eq!(answer(&layer, "NEWER", ask("b")).await, ("OLD".to_owned(), 0), "others stay");
    }
}

#[test]
fn settings_that_would_lose_the_old_file_are_refused() {
    let place = Place::new();
    std::fs::write(place.dir.path().join("c.redb.secret"), [7; 32]).expect("writes");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = place.dir.path().join("c.redb.secret");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("sets");
    }
    let beside = CacheLayer::builder().disk(&place.path).secret_before(Secret::from_bytes([7; 32]));
    let several = place.builder(2, Some(1)).answers_per_question(2);
    for builder in [place.builder(1, Some(1)), beside, several] {
        let error = builder.build().expect_err("it is refused");
        assert_eq!(error.kind(), Kind::BadSetting, "{error}");
        let text = error.to_string();
        assert!(text.contains("secret_before") && !text.contains('\n'), "{text}");
        assert!(!place.path.exists(), "and nothing is opened");
    }
    place.builder(2, Some(1)).answers_per_question(1).build().expect("one answer is the default");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_only_reads_stores_nothing_of_the_old_file() {
    let place = Place::new();
    place.fill(&["a"]).await;
    for read_only in [true, false] {
        let layer = place.builder(2, Some(1)).mode(if read_only { Mode::ReadOnly } else { Mode::On }).build();
        let layer = layer.expect("builds");
        let call = match read_only {
            true => ask("a"),
            false => ask("a").with(Options::new().cache(CacheMode::ReadOnly)),
        };
        assert_eq!(answer(&layer, "NEW", call).await, ("OLD".to_owned(), 0));
        layer.handle().flush().await;
        let store = layer.handle().stats().store;
        assert_eq!((store.memory_entries, store.disk.expect("a tier").entries), (0, 0));
    }
    let layer = place.start(2, Some(1));
    assert_eq!(answer(&layer, "NEW", ask("a")).await, ("OLD".to_owned(), 0));
    layer.handle().flush().await;
    assert_eq!(layer.handle().stats().store.disk.expect("a tier").entries, 1, "any other is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_whose_caller_stops_waiting_is_made_all_the_same() {
    use std::future::Future;
    use std::task::{Context, Waker};
    for how in ["all", "caller", "one"] {
        let place = Place::new();
        place.fill(&["a", "b"]).await;
        let layer = place.start(2, Some(1));
        assert_eq!(answer(&layer, "NEW", ask("a")).await, ("OLD".to_owned(), 0), "in the new file too");
        layer.handle().flush().await;
        let handle = layer.handle();
        {
            let purge = async {
                match how {
                    "all" => handle.purge_all().await,
                    "caller" => handle.purge_caller(&ask("a")).await,
                    _ => drop(handle.invalidate(&ask("a")).await),
                }
            };
            let mut purge = std::pin::pin!(purge);
            let _ = purge.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        assert!(handle.get(&ask("a")).await.is_none(), "{how}");
        assert_eq!(handle.get(&ask("b")).await.is_some(), how == "one", "{how}");
        drop((handle, layer));
        let layer = place.start(2, Some(1));
        assert!(layer.handle().get(&ask("a")).await.is_none(), "{how}: after a restart");
    }
}

/// Reads that began before a purge end after it, and the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_taken_over_from_the_old_file_around_a_purge() {
    let questions: Vec<String> = (0..200).map(|n| format!("q{n}")).collect();
    let place = Place::new();
    place.fill(&questions.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let layer = place.start(2, Some(1));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (handle, questions) = (layer.handle(), questions.clone());
            tokio::spawn(async move {
                for n in 0..questions.len() {
                    let _ = handle.get(&ask(&questions[(n + reader * 60) % questions.len()])).await;
                }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    layer.handle().purge_all().await;
    for reader in readers {
        reader.await.expect("it ends");
    }
    for question in &questions {
        assert!(layer.handle().get(&ask(question)).await.is_none(), "{question} is back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_file_that_cannot_be_moved_is_neither_emptied_nor_out_of_reach_of_a_purge() {
    let place = Place::new();
    place.fill(&["a", "b"]).await;
    // Nothing is renamed to a folder.
    let in_the_way = place.dir.path().join(format!("c.redb.before-{NOW}"));
    std::fs::create_dir_all(in_the_way.join("x")).expect("makes");
    let layer = place.start(2, Some(1));
    assert!(layer.handle().stats().store.disk.is_none(), "no new file is started over it");
    assert_eq!(answer(&layer, "NEW", ask("a")).await, ("OLD".to_owned(), 0), "it is read where it is");
    assert!(layer.handle().invalidate(&ask("a")).await);
    assert_eq!(answer(&layer, "NEW", ask("a")).await, ("NEW".to_owned(), 1));
    drop(layer);
    std::fs::remove_dir_all(&in_the_way).expect("removes");
    let layer = place.start(2, Some(1));
    assert!(layer.handle().stats().store.disk.is_some());
    assert_eq!(answer(&layer, "NEW", ask("b")).await, ("OLD".to_owned(), 0), "the next start moves it");
    assert_eq!(answer(&layer, "NEW", ask("a")).await, ("NEW".to_owned(), 1), "what was forgotten stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_aside_of_an_old_file_goes_with_its_time() {
    let place = Place::new();
    let aside = |moved: i64| place.dir.path().join(format!("c.redb.before-{moved}.quarantine-{NOW}"));
    let foreign: &Path = &place.dir.path().join("c.redb.before-the-move");
    for path in [&aside(NOW - 3_600_000), &aside(NOW - 3_599_999)] {
        std::fs::write(path, "x").expect("writes");
    }
    std::fs::write(foreign, "x").expect("writes");
    drop(place.start(1, None));
    assert!(!aside(NOW - 3_600_000).exists(), "its time is over");
    assert!(aside(NOW - 3_599_999).exists() && foreign.exists());
}
