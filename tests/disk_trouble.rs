//! Trouble with a real file system, and with the disk under a whole layer: calls are answered, hits from memory stay.
#![cfg(all(feature = "disk", feature = "test-util", unix))]

#[path = "support/fault.rs"]
#[expect(dead_code, unreachable_pub, reason = "what other tests need, and no outside")]
mod fault;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fault::{MAC, NOW, PATH, World, entry, key, options, version};
use thrifty::cache::{CacheHandle, CacheLayer, Disk, DiskOptions, DiskState, Secret};
use thrifty::call::{Call, Reply};
use thrifty::clock::ManualClock;
use tokio::runtime::Runtime;
use tower::{Layer, ServiceExt, service_fn};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn open(path: &Path, options: DiskOptions) -> Disk {
    Disk::open(path, options, MAC, Arc::new(ManualClock::at_ms(NOW)))
}

fn soon(within: Duration, done: impl Fn() -> bool) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < within {
        if done() {
            return Some(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// A client of a layer, and how often its provider was asked.
struct Client {
    call: Box<dyn Fn(u64) -> Reply>,
    asked: Arc<AtomicU64>,
    handle: CacheHandle,
}

fn client(layer: &CacheLayer) -> Client {
    let asked = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&asked);
    let service = layer.layer(service_fn(move |call: Call| {
        counter.fetch_add(1, Ordering::SeqCst);
        let text = blake3::hash(call.doc.bytes()).to_hex().repeat(40);
        let body = format!(
            r#"{{"id":"1","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#
        );
        async move { Ok::<_, thrifty::BoxError>(Reply::new(body.into())) }
    }));
    let runtime = runtime();
    let call = Box::new(move |n| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{n}"}}]}}"#);
        let call = Call::post("https://api.openai.com/v1/chat/completions", body);
        runtime.block_on(service.clone().oneshot(call)).expect("no call fails")
    });
    Client { call, asked, handle: layer.handle() }
}

/// Hits from memory while the disk is in trouble: all of them, each at once.
fn hits_from_memory(client: &Client, time: Duration) -> Duration {
    let (asked, began) = (client.asked.load(Ordering::SeqCst), Instant::now());
    let (mut longest, mut fresh) = (Duration::ZERO, 10_000);
    while began.elapsed() < time {
        for n in 0..50 {
            let call = Instant::now();
            (client.call)(n);
            longest = longest.max(call.elapsed());
        }
        // New answers go on coming, and are kept in memory at least.
        fresh += 1;
        (client.call)(fresh);
        (client.call)(fresh);
        std::thread::sleep(Duration::from_millis(2));
    }
    let paid = client.asked.load(Ordering::SeqCst) - asked;
    assert_eq!(paid, fresh - 10_000, "each new question is paid once, and no known one");
    longest
}

#[test]
fn hits_from_memory_do_not_feel_the_disk() {
    for trouble in ["sync", "full", "no opening", "reads"] {
        let world = World::default();
        let builder = CacheLayer::builder().disk(PATH).disk_on(Arc::new(world.clone()));
        let layer = builder.secret(Secret::from_bytes([1; 32])).build().expect("builds");
        let client = client(&layer);
        (0..50).for_each(|n| drop((client.call)(n)));
        client.handle.flush_blocking();
        match trouble {
            // As long as the promise says; the others fail at once.
            "sync" => world.stall_syncs(Duration::from_secs(5)),
            "full" => world.fail_from(world.changes() + 1, ErrorKind::StorageFull),
            "no opening" => {
                world.fail_opens(true);
                world.fail_from(world.changes() + 1, ErrorKind::Other);
            }
            _ => world.fail_reads(true),
        }
        let time = if trouble == "sync" { Duration::from_secs(5) } else { Duration::from_millis(500) };
        let longest = hits_from_memory(&client, time);
        println!("{trouble}: the longest hit took {longest:?}");
        assert!(longest < Duration::from_millis(250), "{trouble}: a hit took {longest:?}");
        world.stall_syncs(Duration::ZERO);
        world.heal();
        let resumed = soon(Duration::from_secs(5), || {
            client.handle.stats().store.disk.is_some_and(|disk| disk.available)
        });
        assert!(resumed.is_some(), "{trouble}: {:?}", client.handle.stats().store.disk);
    }
}

#[test]
fn writes_resume_within_five_seconds_after_space_returns() {
    let world = World::default();
    let options = DiskOptions { retry: DiskOptions::default().retry, ..options() };
    let disk = Disk::open_on(Arc::new(world.clone()), PATH, options, MAC, Arc::new(ManualClock::at_ms(NOW)));
    disk.put(key(1), entry(1, 1, 1000));
    disk.flush();
    world.fail_from(world.changes() + 1, ErrorKind::StorageFull);
    disk.put(key(2), entry(2, 1, 1000));
    disk.flush();
    assert_eq!(disk.stats().state, DiskState::ReadOnly);
    std::thread::sleep(Duration::from_millis(1500));
    world.heal();
    let resumed = soon(Duration::from_secs(5), || disk.stats().available).expect("within five seconds");
    disk.flush();
    println!("resumed after {resumed:?}");
    let found = runtime().block_on(disk.get(&key(2))).expect("what waited is there");
    assert_eq!(version(2, &found), 1);
    assert_eq!((disk.stats().pending, disk.stats().dropped), (0, 0));
}

#[test]
fn stores_wait_while_the_index_is_read_and_what_is_not_read_yet_is_a_miss() {
    const MANY: u64 = 12_000;
    let runtime = runtime();
    let world = World::without_power_cuts();
    let clock = Arc::new(ManualClock::at_ms(NOW));
    let reopen = || Disk::open_on(Arc::new(world.clone()), PATH, options(), MAC, clock.clone());
    let disk = reopen();
    for n in 0..MANY {
        disk.put(key(n), entry(n, 1, 100));
        if n % 4000 == 3999 {
            disk.flush();
        }
    }
    drop(disk);
    world.stall_reads(Duration::from_millis(12));
    let disk = reopen();
    assert!(disk.stats().loading, "{:?}", disk.stats());
    disk.put(key(MANY), entry(MANY, 2, 100));
    disk.put(key(5), entry(5, 2, 100));
    for n in [MANY, 5] {
        let found = runtime.block_on(disk.get(&key(n))).expect("it waits, and is served");
        assert_eq!(version(n, &found), 2);
    }
    let asked = Instant::now();
    let _ = runtime.block_on(disk.get(&key(0)));
    assert!(asked.elapsed() < Duration::from_millis(200), "nobody waits for the index");
    world.stall_reads(Duration::ZERO);
    // A removal is durable when it returns, so it waits.
    disk.remove(&key(6));
    assert!(!disk.stats().loading);
    disk.flush();
    for (n, newest) in [(MANY, Some(2)), (5, Some(2)), (6, None), (0, Some(1)), (MANY - 1, Some(1))] {
        let found = runtime.block_on(disk.get(&key(n))).map(|found| version(n, &found));
        assert_eq!(found, newest, "{n}");
    }
    assert_eq!(disk.stats().entries, MANY);
}

#[test]
fn hostile_directory_refused() {
    for mode in [0o777, 0o775, 0o702] {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).expect("sets");
        let layer =
            CacheLayer::builder().disk(dir.path().join("c.redb")).build().expect("no error of a caller's");
        let client = client(&layer);
        (0..4).for_each(|n| drop((client.call)(n % 2)));
        assert_eq!(client.asked.load(Ordering::SeqCst), 2, "answers are kept in memory");
        let disk = client.handle.stats().store.disk.expect("a tier");
        assert!(!disk.available && !dir.path().join("c.redb").exists(), "{mode:o}: {disk:?}");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let target = dir.path().join("elsewhere");
    std::fs::write(&target, "precious").expect("writes");
    std::os::unix::fs::symlink(&target, dir.path().join("c.redb")).expect("links");
    let disk = open(&dir.path().join("c.redb"), options());
    disk.put(key(1), entry(1, 1, 100));
    disk.flush();
    assert!(!disk.stats().available);
    drop(disk);
    assert_eq!(std::fs::read(&target).expect("reads"), b"precious", "nothing is written through a link");
}

#[test]
fn a_folder_that_is_removed_meanwhile_fails_no_call() {
    let runtime = runtime();
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("cache");
    let disk = open(&folder.join("c.redb"), options());
    (0..50).for_each(|n| disk.put(key(n), entry(n, 1, 1000)));
    disk.flush();
    std::fs::remove_dir_all(&folder).expect("removes");
    for n in 0..200u64 {
        disk.put(key(n % 60), entry(n % 60, 2, 1000));
        if let Some(found) = runtime.block_on(disk.get(&key(n * 7 % 60))) {
            version(n * 7 % 60, &found);
        }
    }
    disk.flush();
    disk.remove(&key(3));
    assert!(runtime.block_on(disk.get(&key(3))).is_none());
    println!("without its folder: {:?}", disk.stats());
    std::fs::create_dir(&folder).expect("makes");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("sets");
    assert!(soon(Duration::from_secs(5), || disk.stats().available).is_some(), "{:?}", disk.stats());
    disk.put(key(70), entry(70, 1, 1000));
    disk.flush();
    assert!(runtime.block_on(disk.get(&key(70))).is_some(), "and it goes on when it is back");
    assert!(runtime.block_on(disk.get(&key(3))).is_none(), "what was removed stays so");
}

/// Files of earlier secrets.
fn before(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).expect("reads").map(|file| file.expect("a file").file_name());
    names.filter(|name| name.to_string_lossy().contains(".before-")).count()
}

#[test]
fn a_secret_is_changed_under_load_without_an_error_and_nothing_of_the_old_one_outlives_its_time() {
    const KNOWN: u64 = 200;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("c.redb");
    let clock = ManualClock::at_ms(NOW);
    let build = |secret: u8, before: Option<u8>| {
        let ttl = Duration::from_secs(3600);
        let mut builder = CacheLayer::builder().disk(&path).ttl(ttl).clock(clock.clone());
        builder = builder.secret(Secret::from_bytes([secret; 32]));
        if let Some(before) = before {
            builder = builder.secret_before(Secret::from_bytes([before; 32]));
        }
        builder.build().expect("builds")
    };
    // Every caller is answered; how often somebody had to pay.
    let load = |layer: &CacheLayer, questions: std::ops::Range<u64>| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let questions = questions.clone();
                    scope.spawn(move || {
                        let client = client(layer);
                        questions.for_each(|n| drop((client.call)(n)));
                        client.asked.load(Ordering::SeqCst)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no call fails")).sum::<u64>()
        })
    };
    let layer = build(1, None);
    assert_eq!(load(&layer, 0..KNOWN), KNOWN);
    layer.handle().flush_blocking();
    drop(layer);

    let layer = build(2, Some(1));
    clock.set_ms(NOW + 1_800_000);
    assert_eq!(load(&layer, 0..KNOWN / 2), 0, "what is known under the old secret is served");
    assert_eq!(load(&layer, KNOWN..KNOWN + 50), 50, "what is new is paid for and stored under the new one");
    assert_eq!(before(dir.path()), 1);
    // What was forgotten is forgotten under both.
    let forgotten = KNOWN - 1;
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{forgotten}"}}]}}"#);
    let call = Call::post("https://api.openai.com/v1/chat/completions", body);
    assert!(runtime().block_on(layer.handle().invalidate(&call)));
    assert_eq!(load(&layer, forgotten..KNOWN), 1);
    layer.handle().flush_blocking();
    drop(layer);

    let layer = build(2, None);
    assert_eq!(load(&layer, 0..KNOWN / 2), 0, "what was asked for is the new secret's");
    drop(layer);
    let layer = build(2, Some(1));
    assert_eq!(load(&layer, KNOWN / 2..KNOWN), 0, "and the rest still is where it was");
    clock.set_ms(NOW + 3_600_000);
    assert_eq!(load(&layer, 0..3), 3, "its age it keeps");
    assert!(
        soon(Duration::from_secs(5), || before(dir.path()) == 0).is_some(),
        "no entry is left of the old secret"
    );
    let disk = layer.handle().stats().store.disk.expect("a tier");
    assert_eq!((disk.damaged, disk.faults), (0, 0), "a changed secret is no damage");
    drop(layer);

    let layer = build(3, Some(2));
    runtime().block_on(layer.handle().purge_all());
    assert_eq!(load(&layer, KNOWN..KNOWN + 50), 50, "a purge reaches the old secret's answers");
}

/// What the process that other tests start does, and with which file.
const CHILD: &str = "THRIFTY_TEST_TROUBLE";

#[test]
#[ignore = "is started by the other tests"]
fn the_process_in_trouble() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let (what, path) = what.split_once('|').expect("two parts");
    let say = |text: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "\n{text}").and_then(|()| out.flush()).expect("somebody reads");
    };
    let runtime = runtime();
    let disk = open(Path::new(path), DiskOptions { max_bytes: 512 << 20, ..options() });
    match what {
        "limit" => {
            let (mut n, mut full) = (0u64, false);
            loop {
                disk.put(key(n), entry(n, 1, 4000));
                let asked = n * 7919 % (n + 1);
                if let Some(found) = runtime.block_on(disk.get(&key(asked))) {
                    assert_eq!(version(asked, &found), 1);
                }
                n += 1;
                if n.is_multiple_of(500) {
                    disk.flush();
                }
                let stats = disk.stats();
                if !full && stats.faults > 0 && n > 20_000 {
                    full = true;
                    say(&format!("full {} {}", stats.file_bytes, stats.hits));
                }
                // The parent lifts the limit now.
                if full && stats.file_bytes > 90 << 20 {
                    disk.put(key(1 << 40), entry(1 << 40, 1, 100));
                    disk.flush();
                    let there = runtime.block_on(disk.get(&key(1 << 40))).is_some();
                    say(&format!("resumed {there} {}", stats.faults));
                    return;
                }
            }
        }
        _ => {
            disk.put(key(1), entry(1, 1, 100));
            disk.flush();
            disk.remove(&key(2));
            disk.clear();
            assert!(runtime.block_on(disk.get(&key(3))).is_none());
            say(&format!("state {:?}", disk.stats().state));
        }
    }
}

fn start(mut command: Command, what: &str, path: &Path) -> (Child, impl Iterator<Item = String>) {
    let mut child = command
        .arg(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "the_process_in_trouble", "--nocapture"])
        .env(CHILD, format!("{what}|{}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    (child, lines.map_while(Result::ok))
}

#[test]
fn a_real_limit_of_file_size_fails_no_call_and_writes_resume_when_it_is_lifted() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("c.redb");
    let mut shell = Command::new("sh");
    // In blocks of 512 or 1,024 bytes, by the shell: 40 or 80 MB of one file, less than the 512 MiB it wants.
    shell.args(["-c", "trap '' XFSZ; ulimit -S -f 80000; exec \"$@\"", "sh"]);
    let (mut child, mut lines) = start(shell, "limit", &path);
    let full = lines.find(|line| line.starts_with("full ")).expect("it meets the limit and goes on");
    let lifted = Command::new("prlimit")
        .args(["--pid", &child.id().to_string(), "--fsize=unlimited:"])
        .status()
        .is_ok_and(|status| status.success());
    if lifted {
        let began = Instant::now();
        let resumed = lines.find(|line| line.starts_with("resumed ")).expect("it grows again");
        println!("{full}; {resumed} after {:?}", began.elapsed());
        let faults = resumed.rsplit(' ').next().and_then(|faults| faults.parse::<u64>().ok());
        assert!(faults.is_some_and(|faults| faults < 12), "each is a line in the log: {resumed}");
        assert!(resumed.starts_with("resumed true"), "{resumed}");
        assert!(child.wait().expect("it ends").success());
    } else {
        println!("{full}; no prlimit here to lift it");
        child.kill().and_then(|()| child.wait()).expect("it is killed");
    }
}

#[test]
fn a_read_only_folder_fails_no_call() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("cache");
    std::fs::create_dir(&folder).expect("makes");
    let path = folder.join("c.redb");
    // Rights say nothing to root, so somebody else has to try.
    let root = std::fs::write(folder.join("probe"), "").is_ok()
        && std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).is_ok()
        && std::fs::write(folder.join("other"), "").is_ok();
    let mut command = Command::new(if root { "setpriv" } else { "env" });
    if root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("sets");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).expect("sets");
    }
    let (mut child, mut lines) = start(command, "read-only", &path);
    let said = lines.find(|line| line.starts_with("state "));
    let ended = child.wait().expect("it ends");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("sets");
    let Some(said) = said else {
        println!("nobody else may run this test here: {ended}");
        return;
    };
    assert!(ended.success() && said != "state Healthy", "{said}");
    assert!(!path.exists());
}
