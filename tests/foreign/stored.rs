//! What may be kept: each fault here served for ever what should have been forgotten at once.

use std::time::Duration;

use thrifty::BoxError;
use thrifty::cache::Sampled;
use thrifty::call::{CacheMode, Call, Options, Reply};
use thrifty::cap::CapLayer;
use thrifty::stack::Stack;
use tower::{Layer, ServiceExt};

use super::support::*;

/// An answer made so is never served again, in either form.
async fn is_never_stored(answer: impl Fn(&Call) -> Result<Reply, BoxError> + Clone + Send + Sync + 'static) {
    let bench = Bench::new(move |_, call| answer(call));
    for (n, call) in both("hi").into_iter().enumerate() {
        for _ in 0..2 {
            // It may be a body that breaks off.
            let _ = bench.read(call.clone()).await;
        }
        assert!(bench.handle.drain(Duration::from_secs(5)).await);
        assert_eq!(bench.calls(), 2 * n + 2, "it was served again");
    }
    assert_eq!((bench.handle.stats().stored, bench.handle.stats().store.memory_entries), (0, 0));
}

/// The events of an answer that ends like this.
fn events_ending(finish: &str) -> Vec<String> {
    events("a").into_iter().map(|event| event.replace("\"stop\"", &format!("\"{finish}\""))).collect()
}

fn ends(finish: &'static str) -> impl Fn(&Call) -> Result<Reply, BoxError> + Clone {
    move |call| {
        Ok(match call.wants_stream() {
            true => streamed(events_ending(finish)),
            false => reply(200, ending(finish, r#"{"role":"assistant","content":"{\"a\":"}"#)),
        })
    }
}

mod hkuds_lightrag {
    use super::*;

    /// JSON that a limit had cut was kept and served for ever.
    #[tokio::test]
    async fn hkuds_lightrag_3446_what_a_limit_cut_is_not_stored() {
        is_never_stored(ends("length")).await;
    }

    /// Least of all one that a limit of ours has cut.
    #[tokio::test]
    async fn hkuds_lightrag_3446_what_our_own_cap_cut_is_not_stored() {
        let (inner, calls) = upstream(Duration::ZERO, |_, call| ends("length")(call));
        let client = Stack::builder().cap(CapLayer::new(16)).build().unwrap().layer(inner);
        for _ in 0..2 {
            assert!(!billed(&client, ask("hi")).await.1.stored);
        }
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 2);
    }
}

mod krukov_cashews {
    use super::*;

    /// What a caller had read when it was cancelled was stored as the answer.
    #[tokio::test]
    async fn krukov_cashews_246_a_stream_cut_at_any_byte_is_not_stored() {
        let bench = Bench::counting(Duration::ZERO);
        let all = events("a").concat();
        let put = async |body: String| bench.handle.put(&ask_stream("hi"), streamed([body])).await;
        // The line end after the marker ends its event; before that, it is not there.
        let marked = all.find("[DONE]").unwrap() + "[DONE]".len();
        for cut in 0..marked {
            assert!(put(all[..cut].to_owned()).await.is_err(), "stored at byte {cut}: {}", &all[..cut]);
        }
        assert_eq!(bench.handle.stats().store.memory_entries, 0);
        put(all).await.unwrap();
    }
}

mod tensorrt_llm {
    use super::*;

    /// A call that was cancelled left a result behind that later ones got.
    #[tokio::test(start_paused = true)]
    async fn tensorrt_llm_18289_a_cancelled_stream_leaves_nothing() {
        let bench = Bench::over(
            |builder| builder.orphaned_streams(thrifty::cache::OrphanPolicy::Grace(Duration::ZERO)),
            upstream(Duration::ZERO, |n, _| Ok(paced(events(&n.to_string()), Duration::from_secs(1)))),
        );
        let leaves = tokio::time::timeout(Duration::from_millis(2_500), bench.text(ask_stream("hi"))).await;
        leaves.unwrap_err();
        assert!(bench.handle.drain(Duration::from_millis(1)).await, "it goes on for nobody");
        for _ in 0..2 {
            assert_eq!(bench.text(ask_stream("hi")).await, "1");
        }
        assert_eq!(bench.calls(), 2);
    }
}

mod iii_hq_workers {
    use super::*;

    /// The end of the connection was taken for the end of the answer.
    #[tokio::test]
    async fn iii_hq_workers_878_an_end_without_its_marker_is_no_success() {
        is_never_stored(|call| {
            let (events, body) = (events("a"), whole("a"));
            Ok(match call.wants_stream() {
                true => streamed(events[..3].to_vec()),
                false => reply(200, body[..body.len() - 1].to_owned()),
            })
        })
        .await;
    }
}

mod beeai {
    use super::*;

    /// A tool call whose arguments were no JSON came again and again.
    #[tokio::test]
    async fn beeai_1554_a_broken_tool_call_is_not_stored() {
        for (arguments, stored) in [("{}", 1), (r#"{\"city\":"#, 0), ("city=Rome", 0)] {
            let message = format!(
                r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"1","type":"function","function":{{"name":"f","arguments":"{arguments}"}}}}]}}"#
            );
            let bench = Bench::new(move |_, _| Ok(reply(200, ending("tool_calls", &message))));
            bench.read(with_tool(ask("hi"))).await.unwrap();
            assert_eq!(bench.handle.stats().stored, stored, "{arguments}");
        }
    }
}

mod hermes_agent {
    use super::*;

    /// A tool call that was of no use any more could not be got out of the cache.
    #[tokio::test]
    async fn hermes_agent_70387_an_answer_can_be_forgotten() {
        let bench = Bench::counting(Duration::ZERO);
        assert_eq!(bench.text(ask("hi")).await, "0");
        assert!(bench.handle.invalidate(&ask("hi")).await);
        assert_eq!([bench.text(ask("hi")).await, bench.text(ask("hi")).await], ["1", "1"]);
        assert_eq!(bench.text(ask_stream("hi")).await, "1", "the other form is of the new answer too");
    }
}

mod majiayu000_litellm_rs {
    use super::*;

    /// An answer that a filter had blocked stayed, and could not be got rid of.
    #[tokio::test]
    async fn majiayu000_litellm_rs_1344_a_blocked_answer_is_not_stored_and_a_retry_takes_its_place() {
        is_never_stored(ends("content_filter")).await;
        let bench = Bench::counting(Duration::ZERO);
        bench.text(ask("hi")).await;
        let retry = ask("hi").with(Options::new().cache(CacheMode::NoCache));
        assert_eq!(bench.text(retry).await, "1");
        assert_eq!(bench.text(ask("hi")).await, "1", "the answer of the retry is the one that stays");
    }
}

mod continuum_ai_corp_orcarouter_lite {
    use super::*;

    /// A `top_p` below 1 was taken for a promise to answer alike.
    #[tokio::test]
    async fn continuum_ai_corp_orcarouter_lite_155_only_zero_and_a_seed_count_as_repeatable() {
        for (member, sent) in [
            (r#""top_p":0.1,"#, 2),
            (r#""temperature":0.1,"#, 2),
            ("", 2),
            (r#""temperature":0,"#, 1),
            (r#""seed":1,"#, 1),
        ] {
            let bench = Bench::over(
                |builder| builder.sampled(Sampled::ZeroTempOrSeed),
                upstream(Duration::ZERO, |_, call| Ok(answer(call, "a"))),
            );
            for _ in 0..2 {
                let body = chat("hi").replacen('{', &format!("{{{member}"), 1);
                bench.text(Call::post(CHAT, body)).await;
            }
            assert_eq!(bench.calls(), sent, "{member}");
        }
    }
}

mod portkey_ai_gateway {
    use super::*;

    /// The error of a first attempt was kept and served with status 200.
    #[tokio::test]
    async fn portkey_ai_gateway_an_error_is_not_stored_whatever_its_status() {
        is_never_stored(|_| Ok(reply(500, r#"{"error":{"message":"down"}}"#))).await;
        is_never_stored(|_| Ok(reply(200, r#"{"error":{"message":"down"}}"#))).await;
        is_never_stored(|_| Ok(reply(429, whole("a")))).await;
    }

    /// A greatest age was ignored, or read in another unit.
    #[tokio::test]
    async fn portkey_ai_gateway_201_a_greatest_age_is_in_seconds_and_may_be_0() {
        let bench = Bench::counting(Duration::ZERO);
        let within = |secs| ask("hi").with(Options::new().max_age(Duration::from_secs(secs)));
        assert_eq!(bench.text(within(60)).await, "0");
        bench.clock.advance(Duration::from_secs(59));
        assert_eq!(bench.text(within(60)).await, "0");
        bench.clock.advance(Duration::from_secs(2));
        assert_eq!(bench.text(within(60)).await, "1", "61 seconds are more than 60");
        assert_eq!(bench.text(within(0)).await, "2", "0 is a new answer each time");
    }
}

mod tensorzero_tensorzero {
    use super::*;

    /// Passes by, and comes as it is each time.
    async fn passes_by(url: &str, body: &str) {
        let bench = Bench::new(|n, _| Ok(reply(200, format!(r#"{{"status":"step {n}"}}"#))));
        for n in 0..2 {
            let said = bench.read(Call::post(url, body.to_owned())).await.unwrap();
            assert_eq!(said, format!(r#"{{"status":"step {n}"}}"#), "a batch is another one each time");
        }
        assert_eq!((bench.handle.stats().bypassed, bench.handle.stats().stored), (2, 0));
    }

    /// Batches went through the cache, where the second one got the first one's id.
    #[tokio::test]
    async fn tensorzero_tensorzero_850_starting_a_batch_passes_by() {
        passes_by(
            "https://api.openai.com/v1/batches",
            r#"{"input_file_id":"f","endpoint":"/v1/chat/completions"}"#,
        )
        .await;
        let claude = "https://api.anthropic.com/v1/messages/batches";
        passes_by(claude, r#"{"requests":[{"custom_id":"a","params":{"model":"m","messages":[]}}]}"#).await;
    }

    /// What a batch had come to was asked of the cache.
    #[tokio::test]
    async fn tensorzero_tensorzero_898_asking_for_a_batch_passes_by() {
        passes_by("https://api.openai.com/v1/batches/b_1", "").await;
        passes_by("https://api.anthropic.com/v1/messages/batches/b_1/results", "").await;
    }
}

mod gptcache {
    use super::*;

    /// Of an answer its text was kept, and tool calls and usage were lost.
    #[tokio::test]
    async fn zilliztech_gptcache_all_of_an_answer_comes_back() {
        let message = r#"{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}"#;
        let body = ending("tool_calls", message).replacen('{', r#"{"x_new":[1,2],"#, 1);
        let sent = body.clone();
        let bench = Bench::new(move |_, _| Ok(reply(200, sent.clone())));
        for _ in 0..2 {
            assert_eq!(bench.read(with_tool(ask("hi"))).await.unwrap(), body);
        }
        assert_eq!(bench.calls(), 1);
        let replayed = bench.read(with_tool(ask_stream("hi"))).await.unwrap();
        let replayed = String::from_utf8_lossy(&replayed);
        assert!(replayed.contains(r#""name":"f""#) && replayed.ends_with("data: [DONE]\n\n"), "{replayed}");
    }

    /// And of a stream what had come when its reader left was kept.
    #[tokio::test]
    async fn zilliztech_gptcache_a_part_of_a_stream_is_not_stored() {
        is_never_stored(|_| Ok(streamed(events("a")[..2].to_vec()))).await;
        let bench = Bench::counting(Duration::ZERO);
        let reply = bench.client.clone().oneshot(ask_stream("hi")).await.unwrap();
        drop(reply);
        assert_eq!(bench.text(ask_stream("hi")).await, "0", "a reader who left is no end of the stream");
    }
}

mod berriai_litellm {
    use super::*;

    /// A life of 0 seconds meant no limit.
    #[tokio::test]
    async fn berriai_litellm_a_life_of_0_is_none() {
        let bench = Bench::counting(Duration::ZERO);
        let brief = || ask("hi").with(Options::new().ttl(Duration::ZERO));
        assert_eq!([bench.text(brief()).await, bench.text(brief()).await], ["0", "1"]);
        assert_eq!(bench.text(ask("hi")).await, "2", "nothing of them was left");
    }

    /// An answer that was stored anew kept the time to live of the old one.
    #[tokio::test]
    async fn berriai_litellm_a_new_answer_has_a_life_of_its_own() {
        let bench = Bench::counting(Duration::ZERO);
        let short = ask("a").with(Options::new().ttl(Duration::from_secs(10)));
        bench.handle.put(&short, reply(200, whole("a"))).await.unwrap();
        bench.clock.advance(Duration::from_secs(9));
        bench.handle.put(&ask("a"), reply(200, whole("b"))).await.unwrap();
        bench.clock.advance(Duration::from_secs(3_599));
        assert!(bench.handle.get(&ask("a")).await.is_some(), "it died with the one before it");
        bench.clock.advance(Duration::from_secs(1));
        assert!(bench.handle.get(&ask("a")).await.is_none(), "it outlived its hour");
    }
}
