//! Secrets, forged entries and hostile places: what was read, sent or believed elsewhere that should not have been.

use std::time::Duration;

use bytes::Bytes;
use thrifty::call::{Call, Options, Scope};
use thrifty::receipt::{Ledger, Receipt};
use thrifty::stack::Stack;
use tower::{Layer, ServiceExt};

use super::support::*;

/// A token that begins like this is somebody else's.
const TOKEN: &str = "Bearer sk-abcdefghijklmnopqrst";
const CANARY: &str = "canary-4711";

/// CVE-2026-35030 (LiteLLM): an identity was cached under the first 20 characters of its token.
#[tokio::test]
async fn cve_2026_35030_same_prefix_credentials_never_share() {
    let bench = Bench::counting(Duration::ZERO);
    let of = |who: String| bench.text(by(&who, ask("hi")));
    assert_eq!(of(format!("{TOKEN}1")).await, "0");
    assert_eq!(of(format!("{TOKEN}2")).await, "1", "two tokens of one beginning share");
    assert_eq!(of(TOKEN.to_owned()).await, "2", "a token is not its beginning");
    let long = "x".repeat(4_000);
    assert_eq!(of(format!("{long}1")).await, "3");
    assert_eq!(of(format!("{long}2")).await, "4", "nothing is cut off");
}

/// CVE-2024-6587 (LiteLLM): an address in the body sent the provider's key elsewhere.
#[tokio::test]
async fn cve_2024_6587_body_cannot_steer_origin() {
    let (inner, _) = upstream(Duration::ZERO, |_, call| {
        let (uri, key) = (&call.parts.uri, call.parts.headers["authorization"].to_str().unwrap());
        assert_eq!((uri.to_string().as_str(), key), (CHAT, TOKEN));
        Ok(answer(call, "a"))
    });
    let client = Stack::builder().build().unwrap().layer(inner);
    for member in ["api_base", "base_url", "url", "endpoint", "api_key", "custom_llm_provider"] {
        let body = chat("hi").replacen('{', &format!(r#"{{"{member}":"https://evil.example/v1","#), 1);
        let reply = client.clone().oneshot(by(TOKEN, Call::post(CHAT, body))).await.unwrap();
        assert!(reply.status().is_success(), "{member}");
    }
}

/// litellm PR #28246: an address of IPv4 within IPv6 slipped by a list of forbidden ones. There is no list here to slip
/// by: whatever stands in a body, a call goes where it was sent, and each spelling of an origin is an origin of its own.
#[tokio::test]
async fn berriai_litellm_28246_mapped_v6_steers_nothing() {
    let (inner, _) = upstream(Duration::ZERO, |_, call| {
        assert_eq!(call.parts.uri.to_string(), CHAT);
        Ok(answer(call, "a"))
    });
    let client = Stack::builder().build().unwrap().layer(inner);
    for host in [
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "0251.0376.0251.0376",
        "2852039166",
        "169.254.169.254",
    ] {
        let body = chat("hi").replacen('{', &format!(r#"{{"api_base":"http://{host}/latest","#), 1);
        client.clone().oneshot(Call::post(CHAT, body)).await.unwrap();
        assert!(
            key(&format!("http://{host}/v1/chat/completions"), &chat("hi")) != key(CHAT, &chat("hi")),
            "{host}"
        );
    }
}

/// CVE-2025-46570 (vLLM): how fast an answer came told that somebody else had asked. Between credentials nothing is
/// shared, so there is nothing to tell; where sharing was asked for, no header says so.
#[tokio::test]
async fn cve_2025_46570_a_hit_tells_nobody_of_another_callers_question() {
    let bench = Bench::counting(Duration::ZERO);
    bench.text(by("Bearer a", ask("hi"))).await;
    let probe = bench.send(by("Bearer b", ask("hi"))).await.unwrap();
    assert!(probe.headers()["cache-status"].to_str().unwrap().contains("fwd=miss"));
    let shared = |who| by(who, ask("ho")).with(Options::new().scope(Scope::shared("s")));
    bench.text(shared("Bearer a")).await;
    let probe = bench.send(shared("Bearer b")).await.unwrap();
    let told = |name: &str| probe.headers().contains_key(name);
    assert!(!told("cache-status") && !told("age"), "{:?}", probe.headers());
}

/// CacheAttack: questions made to lie near each other stole each other's answers.
#[tokio::test]
async fn one_token_apart_never_shares() {
    let bench = Bench::counting(Duration::ZERO);
    let questions: Vec<String> = (0..200).map(|n| format!("Transfer {n} to account A.")).collect();
    for (n, question) in questions.iter().enumerate() {
        assert_eq!(bench.text(ask(question)).await, n.to_string(), "{question}");
    }
    for (n, question) in questions.iter().enumerate() {
        assert_eq!(bench.text(ask(question)).await, n.to_string(), "{question} once more");
    }
}

/// All that a program may come to print of a call with a secret in it.
fn shown(url: &str, header: &'static str) -> String {
    let mut call = Call::post(url, chat(CANARY));
    call.parts.headers.insert(header, CANARY.parse().unwrap());
    let entry = thrifty::cache::Entry::new(http::StatusCode::OK, whole(CANARY), NOW, Duration::from_secs(1));
    let made = keyer().key(&call, &Scope::tenant(CANARY), &[]);
    let wishes = call.clone().with(Options::new().scope(Scope::tenant(CANARY)));
    format!(
        "{call:?} {wishes:?} {entry:?} {made:?} {:?} {:?} {:?}",
        keyer(),
        secret(),
        reply(200, whole(CANARY))
    )
}

/// A key was written to a log, or stood in an address that was.
macro_rules! keys_in_logs {
    ($($(#[$doc:meta])* $name:ident: $header:literal, $url:literal;)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            let shown = shown($url, $header);
            assert!(!shown.contains(CANARY), "{shown}");
        }
    )*};
}

keys_in_logs! {
    /// The header of a request was logged with the key in it.
    vllm_project_semantic_router_2132_a_bearer_token_is_not_shown: "authorization", "https://api.openai.com/v1/chat/completions";
    /// The key stood in the query of an address that was logged.
    ha_llmvision_334_a_key_in_a_query_is_not_shown: "x-goog-api-key", "https://g.example/v1/chat/completions?key=canary-4711";
    /// A header of another name was logged.
    llm_gateway_34_a_key_of_any_header_is_not_shown: "x-api-key", "https://api.openai.com/v1/chat/completions";
    /// The key of a deployment was logged.
    edutelligence_358_a_deployments_key_is_not_shown: "api-key", "https://r.openai.azure.com/openai/deployments/d/chat/completions";
}

/// Neither a key nor a prompt nor an answer is in an error, a receipt, a figure or a header.
#[tokio::test]
async fn canaries_are_nowhere() {
    let (inner, _) = upstream(Duration::ZERO, |n, call| match n {
        0 => Err(format!("no route for {}", call.parts.uri.path()).into()),
        1 => Ok(reply(500, r#"{"error":{"message":"down"}}"#)),
        _ => Ok(answer(call, CANARY)),
    });
    let (ledger, seen) = (Ledger::default(), std::sync::Arc::new(std::sync::Mutex::new(String::new())));
    let lines = seen.clone();
    let sink = move |receipt: &Receipt| lines.lock().unwrap().push_str(&format!("{receipt:?}\n"));
    let stack = Stack::builder().sink(ledger.clone()).sink(sink).build().unwrap();
    let client = stack.layer(inner);
    let mut told = String::new();
    for _ in 0..4 {
        for call in both(CANARY) {
            let call = by(CANARY, call).with(Options::new().scope(Scope::tenant(CANARY)));
            match client.clone().oneshot(call).await {
                Err(error) => told.push_str(&format!("{error} {error:?}\n")),
                Ok(reply) => {
                    told.push_str(&format!("{:?} {:?}\n", reply.headers(), reply));
                    let body: Bytes = reply.into_body().bytes().await.unwrap();
                    assert!(body.is_empty() || !told.is_empty());
                }
            }
        }
    }
    let handle = stack.cache().unwrap();
    told.push_str(&format!("{handle:?} {:?} {} {:?}", handle.stats(), ledger.totals(), seen.lock().unwrap()));
    assert!(told.contains("thrifty; hit"), "the cache had something to tell: {told}");
    assert!(!told.contains(CANARY), "{told}");
}

/// headroom#3284, #3325, GHSA-cp58-wc9q-qv53 (OneUptime), CVE-2026-49855 (tornado): a few kilobytes were unpacked into
/// hundreds of megabytes. A packed body is none of the cache's business: it passes by as it came and is not stored.
async fn a_packed_answer_passes_as_it_came(encoding: &'static str) {
    use std::io::Write;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![b' '; 16 << 20]).unwrap();
    let packed = Bytes::from(packed.finish().unwrap());
    let sent = packed.clone();
    let bench = Bench::new(move |_, _| {
        let mut reply = reply(200, sent.clone());
        reply.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        Ok(reply)
    });
    for call in both("hi") {
        assert_eq!(bench.read(call).await.unwrap(), packed);
    }
    let stats = bench.handle.stats();
    assert_eq!((stats.stored, stats.not_stored, stats.flight_bytes), (0, 2, 0), "{stats:?}");
}

macro_rules! bombs {
    ($($name:ident: $encoding:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            a_packed_answer_passes_as_it_came($encoding).await;
        }
    )*};
}

bombs! {
    headroomlabs_ai_headroom_3284_a_packed_answer_is_not_unpacked: "gzip";
    headroomlabs_ai_headroom_3325_an_answer_packed_twice_is_not_unpacked: "gzip, gzip";
    cve_2026_49855_an_answer_of_another_packing_is_not_unpacked: "deflate";
    ghsa_cp58_wc9q_qv53_an_unknown_packing_is_not_unpacked: "x-new";
}

#[cfg(feature = "disk")]
mod entries {
    use thrifty::cache::{CacheLayer, Entry, Stamp};

    use super::*;

    const MAC: [u8; 32] = [7; 32];
    const SCOPE: [u8; 16] = [3; 16];

    fn sealed(len: usize) -> (Vec<u8>, thrifty::cache::CacheKey) {
        let entry = Entry::new(http::StatusCode::OK, vec![b'a'; len], NOW, Duration::from_secs(60));
        let made = key(CHAT, &chat("hi"));
        let stamp = Stamp { scope: SCOPE, global: 1, epoch: 2 };
        (entry.encode(&made, &stamp, &MAC), made)
    }

    /// CVE-2026-42208 and its kin: who could write to the store could make it say anything, tool calls too.
    #[test]
    fn forged_entry_is_a_miss() {
        let (good, mine) = sealed(20);
        let open = |bytes: &[u8], of: &_, scope: &[u8; 16]| Entry::decode(bytes, of, scope, &MAC).err();
        assert_eq!(open(&good, &mine, &SCOPE), None);
        // Places of the envelope, see its table.
        for (at, what) in [(16, "age"), (24, "ttl"), (28, "epoch"), (32, "epoch of the scope"), (69, "body")]
        {
            let mut forged = good.clone();
            forged[at] ^= 1;
            assert_eq!(open(&forged, &mine, &SCOPE), Some("mac"), "{what}");
        }
        let other = key(CHAT, &chat("ho"));
        assert_eq!(open(&good, &other, &SCOPE), Some("key"), "of another question");
        let mut moved = good.clone();
        moved[36..68].copy_from_slice(other.as_bytes());
        assert_eq!(open(&moved, &other, &SCOPE), Some("mac"), "moved to another question");
        assert_eq!(open(&good, &mine, &[4; 16]), Some("mac"), "of another scope");
        assert_eq!(Entry::decode(&good, &mine, &SCOPE, &[8; 32]).err(), Some("mac"), "of another secret");
    }

    /// No byte of an entry is understood before its hash is right: whatever its head claims, the answer is `mac`.
    fn nothing_is_parsed_first(at: usize, forged: &[u8]) {
        let (mut bytes, mine) = sealed(4_000);
        bytes[at..at + forged.len()].copy_from_slice(forged);
        assert_eq!(Entry::decode(&bytes, &mine, &SCOPE, &MAC).err(), Some("mac"));
    }

    /// CVE-2025-69872 (diskcache): reading an entry ran the code in it.
    #[test]
    fn cve_2025_69872_no_parse_before_mac() {
        // A codec, an encryption, a body that are none.
        nothing_is_parsed_first(6, &[9]);
        nothing_is_parsed_first(7, &[255]);
        nothing_is_parsed_first(68, b"cos\nsystem\n(S'id'\ntR.");
    }

    /// CVE-2026-27794 (LangGraph): the same, by a field that said how to read it.
    #[test]
    fn cve_2026_27794_no_parse_before_mac() {
        // The length it unpacks to, and the version of its key.
        nothing_is_parsed_first(8, &u32::MAX.to_le_bytes());
        nothing_is_parsed_first(5, &[1]);
    }

    /// headroom#3284 in a file: an entry that claims to be 4 GiB is refused before there is room for it, even with its
    /// hash right, which nobody without the secret can make.
    #[test]
    fn headroomlabs_ai_headroom_3284_an_entry_that_claims_to_be_large_is_refused() {
        let (mut bytes, mine) = sealed(4_000);
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let end = bytes.len() - 16;
        let scoped = blake3::keyed_hash(&MAC, &SCOPE);
        let mac = blake3::keyed_hash(scoped.as_bytes(), &bytes[..end]);
        bytes[end..].copy_from_slice(&mac.as_bytes()[..16]);
        assert_eq!(Entry::decode(&bytes, &mine, &SCOPE, &MAC).err(), Some("codec"));
    }

    /// Elsewhere a link or loose permissions let another user read the secret, or put a file of their own in place.
    #[cfg(unix)]
    #[test]
    fn hostile_directory_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let loose = dir.path().join("loose.redb");
        let at = |path: &std::path::Path| CacheLayer::builder().disk(path).build();
        std::fs::write(dir.path().join("loose.redb.secret"), [7; 32]).unwrap();
        std::fs::set_permissions(dir.path().join("loose.redb.secret"), PermissionsExt::from_mode(0o644))
            .unwrap();
        assert!(at(&loose).unwrap_err().to_string().contains("may be read by others"));
        symlink(dir.path().join("loose.redb.secret"), dir.path().join("link.redb.secret")).unwrap();
        assert!(at(&dir.path().join("link.redb")).unwrap_err().to_string().contains("is a link"));
        let good = dir.path().join("good.redb");
        at(&good).unwrap();
        let mode =
            |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("good.redb.secret"), 0o600);
        // A file behind a link, and a directory that others may write to: the tier steps aside and touches nothing.
        let (target, linked) = (dir.path().join("target"), dir.path().join("linked.redb"));
        std::fs::write(&target, b"somebody's").unwrap();
        symlink(&target, &linked).unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        for path in [linked, open.join("c.redb")] {
            let layer = CacheLayer::builder().secret(secret()).disk(&path).build().unwrap();
            let disk = layer.handle().stats().store.disk.unwrap();
            assert!(!disk.available, "{}: {disk:?}", path.display());
        }
        assert_eq!(std::fs::read(&target).unwrap(), b"somebody's");
        assert_eq!(std::fs::read_dir(&open).unwrap().count(), 0, "something was put there");
    }
}
