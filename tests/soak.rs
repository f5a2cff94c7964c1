//! Promise: a cache that runs for long under faults leaks nothing: no file handle, no task, no memory, no panic.
#![cfg(all(feature = "disk", feature = "test-util", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

#[path = "support/fault.rs"]
#[expect(dead_code, unreachable_pub, reason = "what other tests need, and no outside")]
mod fault;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fault::{Dice, MAC, NOW, PATH, World, first_seed};
use http::StatusCode;
use thrifty::BoxError;
use thrifty::cache::{CacheLayer, Disk};
use thrifty::call::{Call, Reply};
use thrifty::clock::ManualClock;
use thrifty::stack::Stack;
use thrifty::testing::{Scripted, Upstream};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};

type Client = BoxCloneSyncService<Call, Reply, BoxError>;

const PER_SECOND: u64 = 500;
/// Of a hundred calls, those that somebody has asked before.
const KNOWN: u64 = 30;
/// Calls in progress at once: a machine that is busy elsewhere is asked less, and says so.
const AT_ONCE: usize = 200;
const LEAST_PER_SECOND: u64 = 40;
const SHORT: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(30);
const MEMORY: u64 = 2 << 20;
/// After the first quarter, in which memory, aliases and threads come up.
/// What the file's own caches and the fake provider's log of 4,096 calls may still take is some 20 MiB of it.
const MOST_GROWTH: i64 = 32 << 20;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    fds: usize,
    tasks: usize,
    resident: i64,
}

impl Held {
    fn now(world: &World) -> Self {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: i64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        // The file system of the test is in memory, and no leak.
        let file = world.bytes(std::path::Path::new(PATH)).len() as i64;
        Self {
            fds: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            resident: pages * 4_096 - file,
        }
    }
}

fn ask(question: u64, stream: bool) -> Call {
    let stream = if stream { r#""stream":true,"# } else { "" };
    Call::post(
        "https://api.openai.com/v1/chat/completions",
        format!(
            r#"{{"model":"gpt-5-mini",{stream}"messages":[{{"role":"user","content":"Question {question}"}}]}}"#
        ),
    )
}

/// Which fault is on: each for an eighth of the time.
fn fault_at(eighth: u64) -> &'static str {
    match eighth {
        2 => "disk",
        4 => "upstream",
        6 => "purge",
        _ => "",
    }
}

async fn answer(client: Client, call: Call) -> Result<Bytes, BoxError> {
    let reply = client.oneshot(call).await?;
    if reply.status() != StatusCode::OK {
        return Err(reply.status().to_string().into());
    }
    reply.into_body().bytes().await
}

async fn soak(time: Duration) {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    let panicked = PANICS.load(Ordering::SeqCst);
    let dir = tempfile::tempdir().unwrap();
    let layer = CacheLayer::builder().memory_bytes(MEMORY).disk(dir.path().join("a.redb")).build().unwrap();
    // Odd while the provider is down.
    let turns = Arc::new(AtomicU64::new(0));
    let is_down = turns.clone();
    let upstream = Upstream::new().latency(Duration::from_millis(5)).answer_with(move |_| {
        (is_down.load(Ordering::SeqCst) % 2 == 1)
            .then(|| Scripted::error(StatusCode::SERVICE_UNAVAILABLE, "server_error", "down"))
    });
    let stack = Stack::builder().cache(layer.clone()).build().unwrap();
    let client = Client::new(stack.layer(upstream.clone()));
    // The tier whose disk says no, beside the one with a file.
    let world = World::without_power_cuts();
    let disk = Disk::open_on(
        Arc::new(world.clone()),
        PATH,
        fault::options(),
        MAC,
        Arc::new(ManualClock::at_ms(NOW)),
    );

    // Vocabularies are read at the first call.
    answer(client.clone(), ask(u64::MAX, false)).await.unwrap();

    let mut dice = Dice::new(first_seed());
    let [failed, strange, wrong] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let (mut asked, mut next, mut phase) = (0u64, 0u64, "");
    let mut start = None;
    let mut curve = Vec::new();
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while began.elapsed() < time {
        ticks.tick().await;
        let eighth = (began.elapsed().as_millis() * 8 / time.as_millis()) as u64;
        if fault_at(eighth) != phase {
            phase = fault_at(eighth);
            if (phase == "upstream") != (turns.load(Ordering::SeqCst) % 2 == 1) {
                turns.fetch_add(1, Ordering::SeqCst);
            }
            match phase {
                "disk" => world.fail_from(world.changes() + 1, ErrorKind::StorageFull),
                "purge" => layer.handle().purge_all().await,
                _ => world.heal(),
            }
        }
        if curve.len() as u64 <= eighth {
            curve.push(Held::now(&world).resident >> 20);
        }
        if eighth >= 2 && start.is_none() {
            start = Some(Held::now(&world));
        }
        // So many as are due by now.
        let due = began.elapsed().as_millis() as u64 * PER_SECOND / 1_000;
        while asked < due && began.elapsed() < time {
            let Ok(place) = places.clone().try_acquire_owned() else { break };
            asked += 1;
            let known = dice.below(100) < KNOWN && next > 0;
            let question = if known { next - 1 - dice.below(next.min(200)) } else { next };
            next += u64::from(!known);
            let (client, turns) = (client.clone(), turns.clone());
            let [failed, strange, wrong] = [&failed, &strange, &wrong].map(Arc::clone);
            let leaves = dice.one_in(50);
            let call = ask(question, dice.one_in(3));
            tokio::spawn(async move {
                let _place = place;
                let turn = turns.load(Ordering::SeqCst);
                let patience = Duration::from_millis(if leaves { 2 } else { 30_000 });
                match tokio::time::timeout(patience, answer(client, call)).await {
                    Ok(Ok(body)) if body.ends_with(b"data: [DONE]\n\n") || body.ends_with(b"}") => {}
                    Ok(Ok(_)) => drop(wrong.fetch_add(1, Ordering::SeqCst)),
                    Ok(Err(_)) => {
                        failed.fetch_add(1, Ordering::SeqCst);
                        let up_all_the_time = turn % 2 == 0 && turns.load(Ordering::SeqCst) == turn;
                        strange.fetch_add(u64::from(up_all_the_time), Ordering::SeqCst);
                    }
                    Err(_) => {}
                }
            });
            let n = question % 64;
            if known {
                if let Some(found) = disk.get(&fault::key(n)).await {
                    fault::version(n, &found);
                }
            } else {
                disk.put(fault::key(n), fault::entry(n, question, 1_000));
            }
        }
    }
    assert!(layer.handle().drain(Duration::from_secs(30)).await, "a call goes on for nobody");
    tokio::time::sleep(Duration::from_millis(300)).await;
    disk.flush();
    let (start, end) = (start.unwrap(), Held::now(&world));
    let (stats, tier) = (layer.handle().stats(), disk.stats());
    let (failed, sent) = (failed.load(Ordering::SeqCst), upstream.calls());
    println!(
        "{asked} calls, {} a second, {sent} sent, {failed} failed while the provider was down; {start:?} .. {end:?}; MiB by eighths {curve:?}",
        asked / time.as_secs()
    );
    assert!(asked > time.as_secs() * LEAST_PER_SECOND, "too few to say anything: {asked}");
    assert_eq!(PANICS.load(Ordering::SeqCst), panicked, "somebody panicked");
    assert_eq!(wrong.load(Ordering::SeqCst), 0, "answers that are cut");
    assert_eq!((stats.flights, stats.flight_tasks, stats.flight_bytes), (0, 0, 0), "{stats:?}");
    // Who joined at the very end of the outage got its last errors.
    let strange = strange.load(Ordering::SeqCst);
    assert!(failed > 0 && strange <= 3, "{strange} of {failed} failed though the provider was up");
    let free = asked - sent.min(asked);
    assert!((asked / 8..asked / 2).contains(&free), "{free} of {asked} were not sent");
    assert!(tier.faults > 0 && tier.available && tier.pending == 0, "the disk came back: {tier:?}");
    assert!(stats.purges == 1 && stats.store.memory_bytes <= MEMORY, "{stats:?}");
    assert!(end.fds <= start.fds + 2, "files were left open: {start:?} .. {end:?}");
    assert!(end.tasks <= start.tasks.min(4), "tasks were left over: {start:?} .. {end:?}");
    assert!(end.resident - start.resident <= MOST_GROWTH, "memory grows: {start:?} .. {end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_seconds_under_faults_leave_nothing_behind() {
    soak(SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute"]
async fn half_a_minute_under_faults_leaves_nothing_behind() {
    soak(LONG).await;
}
