//! The cache file as others see it: the tool at rest, released formats, the layer over the tier.
#![cfg(all(feature = "disk", feature = "test-util"))]

#[path = "support/fault.rs"]
#[expect(dead_code, unreachable_pub, reason = "what other tests need, and no outside")]
mod fault;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fault::{MAC, NOW, World, entry, key, options, version};
use thrifty::cache::{Disk, Stamp};
use thrifty::clock::ManualClock;

fn open(world: &World) -> Disk {
    Disk::open_on(Arc::new(world.clone()), fault::PATH, options(), MAC, Arc::new(ManualClock::at_ms(NOW)))
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cache/format-2.redb.gz")
}

const SCOPE: [u8; 16] = [5; 16];

/// How the fixture was made; run it by hand only for a new format, under a new name.
#[test]
#[ignore = "writes the fixture of the format"]
fn write_the_fixture_of_this_format() {
    let world = World::default();
    let disk = open(&world);
    disk.purge(SCOPE);
    for n in 0..20 {
        let stamp = if n < 10 { disk.stamp(SCOPE) } else { Stamp::default() };
        disk.put_stamped(key(n), entry(n, 7, 40 + n as usize * 100), stamp);
    }
    // One that compresses, one with a block of its own, one that is removed.
    let text = thrifty::cache::Entry::new(
        http::StatusCode::OK,
        "so it goes ".repeat(500),
        NOW,
        std::time::Duration::from_secs(3600),
    );
    disk.put(key(50), Arc::new(text));
    disk.put(key(51), entry(51, 7, 30_000));
    disk.put(key(52), entry(52, 7, 100));
    disk.flush();
    disk.remove(&key(52));
    drop(disk);
    let file = std::fs::File::create(fixture()).expect("writes");
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::best());
    packed.write_all(&world.bytes(Path::new(fault::PATH))).expect("writes");
    packed.finish().expect("writes");
}

#[test]
fn the_first_released_format_is_read() {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(fixture()).expect("it is there");
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("reads");
    let world = World::with(Path::new(fault::PATH), bytes);
    let disk = open(&world);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for n in (0..20).chain([51]) {
        let found = runtime.block_on(disk.get(&key(n))).expect("it is in the file");
        assert_eq!((version(n, &found), found.ttl.as_secs()), (7, 3600));
    }
    let text = runtime.block_on(disk.get(&key(50))).expect("it is in the file");
    assert_eq!(text.body, "so it goes ".repeat(500));
    assert!(runtime.block_on(disk.get(&key(52))).is_none(), "it was removed");
    assert_eq!((disk.stats().damaged, disk.stats().entries), (0, 22));
    assert_eq!(disk.stamp(SCOPE).epoch, 1, "the purges are in it too");
}

#[cfg(feature = "cli")]
mod tool {
    use std::process::Command;

    use serde_json::Value;
    use thrifty::cache::{DiskOptions, Keyer, Secret};
    use thrifty::clock::SystemClock;

    use super::*;

    struct Run {
        code: Option<i32>,
        out: String,
        err: String,
    }

    fn run(what: &str, path: &Path, json: bool) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thrifty"));
        command.args(["cache", what, "--path"]).arg(path).args(json.then_some("--json"));
        let done = command.output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Run { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
    }

    fn filled(path: &Path) -> Disk {
        let mac_key = Keyer::new(&Secret::beside(path).expect("a secret")).mac_key();
        let disk = Disk::open(path, DiskOptions::default(), mac_key, Arc::new(SystemClock));
        (0..300).for_each(|n| disk.put(key(n), entry(n, 1, 5000)));
        disk.flush();
        disk
    }

    #[test]
    fn a_sound_file_is_verified_and_made_shorter() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("c.redb");
        drop(filled(&path));
        for what in ["stats", "verify", "compact"] {
            let plain = run(what, &path, false);
            assert_eq!((plain.code, plain.err.as_str()), (Some(0), ""), "{what}: {}", plain.out);
            let run = run(what, &path, true);
            let json: Value = serde_json::from_str(&run.out).expect("one document");
            assert!(json["file_bytes"].as_u64() > Some(300 * 5000), "{what}: {json}");
            if what == "verify" {
                assert_eq!((json["sound"].as_bool(), json["entries"].as_u64()), (Some(true), Some(300)));
                assert_eq!(json["damaged"].as_u64(), Some(0));
            }
        }
        assert_eq!(run("purge", &path, false).code, Some(0));
        let before = std::fs::metadata(&path).expect("there").len();
        let json: Value = serde_json::from_str(&run("compact", &path, true).out).expect("one document");
        assert_eq!(json["file_bytes_before"].as_u64(), Some(before));
        assert!(json["file_bytes"].as_u64() < Some(before), "{json}");
    }

    #[test]
    fn damage_is_a_no() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("c.redb");
        drop(filled(&path));
        let mut bytes = std::fs::read(&path).expect("reads");
        let body = fault::noise(7, 1, 5000);
        let at = bytes.windows(64).position(|window| window == &body[64..128]).expect("it is in the file");
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).expect("writes");
        let run = run("verify", &path, true);
        let json: Value = serde_json::from_str(&run.out).expect("one document");
        assert_eq!((run.code, json["damaged"].as_u64()), (Some(1), Some(1)), "{json}");
        assert_eq!(json["sound"].as_bool(), Some(false), "{json}");
    }

    #[test]
    fn a_file_in_use_or_of_nobody_is_refused_in_one_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("c.redb");
        let disk = filled(&path);
        for what in ["stats", "verify", "purge", "compact"] {
            let run = run(what, &path, false);
            assert_eq!((run.code, run.err.lines().count()), (Some(1), 1), "{what}: {}", run.err);
            assert!(run.err.contains("stop the program"), "{what}: {}", run.err);
        }
        drop(disk);
        let other = dir.path().join("other.redb");
        std::fs::copy(&path, &other).expect("copies");
        for what in ["verify", "compact"] {
            let run = run(what, &other, false);
            assert_eq!((run.code, run.err.lines().count()), (Some(2), 1), "{what}: {}", run.err);
        }
        let none = run("verify", &dir.path().join("none"), false);
        assert_eq!((none.code, none.err.lines().count()), (Some(1), 1), "{}", none.err);
        assert_eq!(run("verify", &path, false).code, Some(0), "nothing was touched");
    }
}

#[cfg(feature = "encrypt")]
#[test]
fn an_encrypted_cache_shows_no_answer_and_a_lost_secret_is_an_empty_cache() {
    use thrifty::cache::{CacheLayer, Secret};
    use thrifty::call::{Call, Reply, Scope};
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("c.redb");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let build = |secret: u8| {
        let builder = CacheLayer::builder().disk(&path).secret(Secret::from_bytes([secret; 32])).encrypt();
        builder.build().expect("builds").handle()
    };
    let call = |n: u8| {
        let mut options = thrifty::call::Options::default();
        options.scope = Some(Scope::tenant(&format!("t{n}")));
        let body = format!(r#"{{"model":"m","messages":[],"n":{n}}}"#);
        Call::post("https://api.openai.com/v1/chat/completions", body).with(options)
    };
    let body = r#"{"id":"1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"canary"},"finish_reason":"stop"}]}"#;
    let handle = build(1);
    for n in [1, 2] {
        runtime.block_on(handle.put(&call(n), Reply::new(body.into()))).expect("is stored");
    }
    drop(handle);
    let bytes = std::fs::read(&path).expect("reads");
    assert!(!bytes.windows(6).any(|window| window == b"canary"), "the answer can be read in the file");
    assert!(!path.with_extension("redb.secret").exists(), "no secret lies beside it");
    let handle = build(1);
    assert!(runtime.block_on(handle.get(&call(1))).is_some(), "with the secret it is served");
    runtime.block_on(handle.purge(&Scope::tenant("t1")));
    assert!(
        runtime.block_on(handle.get(&call(1))).is_none() && runtime.block_on(handle.get(&call(2))).is_some()
    );
    drop(handle);
    let handle = build(2);
    assert!(runtime.block_on(handle.get(&call(2))).is_none());
    let disk = handle.stats().store.disk.expect("a tier");
    assert_eq!(
        (disk.available, disk.entries, disk.damaged, disk.faults),
        (true, 0, 0, 0),
        "a lost secret is no damage"
    );
    assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 1, "nothing is put aside");
    let error = CacheLayer::builder()
        .disk(&path)
        .encrypt()
        .build()
        .expect_err("without a secret of one's own")
        .to_string();
    assert!(error.lines().count() == 1 && error.contains("`secret`"), "{error}");
}

/// What grows with every call: resident memory of this process in bytes, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4096)
}

/// Calls that are all different, each answered with some 2 KiB and stored in all tiers, behind the shortcut for exact
/// repeats. The bounds hold at every sample.
fn distinct_calls(count: u64, memory: u64, file: Option<u64>) {
    use thrifty::cache::{CacheLayer, RecallLayer};
    use thrifty::call::{Call, Reply};
    use tower::{Layer, ServiceExt, service_fn};
    let dir = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bare = resident();
    let mut builder = CacheLayer::builder().memory_bytes(memory);
    if let Some(file) = file {
        builder = builder.disk(dir.path().join("c.redb")).disk_bytes(file);
    }
    let layer = builder.build().expect("builds");
    let provider = service_fn(|call: Call| async move {
        let seed = blake3::hash(call.doc.bytes());
        let text: String =
            (0..30u8).map(|n| blake3::keyed_hash(seed.as_bytes(), &[n]).to_hex().to_string()).collect();
        let body = format!(
            r#"{{"id":"chatcmpl-1","model":"gpt-5-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":900}}}}"#
        );
        let mut reply = Reply::new(body.into());
        reply.headers_mut().insert("content-type", "application/json".parse().expect("a value"));
        reply.headers_mut().insert("x-request-id", "req_0123456789".parse().expect("a value"));
        Ok::<_, thrifty::BoxError>(reply)
    });
    let client = RecallLayer::new(&layer, [1; 32]).layer(layer.layer(provider));
    let most = memory / 100 * 135 + (32 << 20);
    let (mut highest, mut longest) = (0, 0);
    for n in 0..count {
        let body = format!(r#"{{"model":"gpt-5-mini","messages":[{{"role":"user","content":"{n}"}}]}}"#);
        let call = Call::post("https://api.openai.com/v1/chat/completions", body);
        runtime.block_on(client.clone().oneshot(call)).expect("it is answered");
        if n % 2000 == 1999 {
            let stats = layer.handle().stats();
            assert!(stats.store.memory_bytes <= memory, "after {n}: {stats:?}");
            if let Some(disk) = stats.store.disk {
                assert!(disk.available && Some(disk.file_bytes) <= file, "after {n}: {disk:?}");
                longest = longest.max(disk.file_bytes);
            }
            assert_eq!((stats.flights, stats.flight_bytes), (0, 0), "nothing is left of a call");
            if let Some((now, bare)) = resident().zip(bare) {
                highest = highest.max(now.saturating_sub(bare));
                assert!(highest <= most, "{} MiB more than before, after {n}: {stats:?}", highest >> 20);
            }
        }
    }
    layer.handle().flush_blocking();
    let stats = layer.handle().stats();
    println!(
        "{count} calls: memory grew by {} MiB at most, of {}; the file to {} MiB; {stats:?}",
        highest >> 20,
        most >> 20,
        longest >> 20
    );
    assert_eq!(stats.stored, count);
}

/// A process of its own, as memory is the process's: its count, bound of memory and of the file, all in the environment.
const BOUNDS: &str = "THRIFTY_TEST_BOUNDS";

#[test]
#[ignore = "is started by the other tests"]
fn the_process_that_is_measured() {
    let Ok(bounds) = std::env::var(BOUNDS) else { return };
    let mut numbers = bounds.split(',').map(|number| number.parse::<u64>().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    let (count, memory, file) = (next(), next() << 20, next() << 20);
    distinct_calls(count, memory, Some(file).filter(|file| *file > 0));
}

fn in_a_process_of_its_own(bounds: &str) {
    let done = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "the_process_that_is_measured", "--nocapture"])
        .env(BOUNDS, bounds)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    println!("{bounds}: {said}");
    assert!(done.status.success(), "{bounds}: {said}");
}

#[test]
fn distinct_answers_stay_within_both_bounds() {
    in_a_process_of_its_own("30000,16,64");
    in_a_process_of_its_own("30000,16,0");
}

#[test]
#[ignore = "minutes"]
fn a_million_distinct_answers_stay_within_both_bounds() {
    in_a_process_of_its_own("1000000,64,256");
    in_a_process_of_its_own("1000000,64,0");
}
