//! Usage and money: each fault here billed a hit, or lost what a call had cost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use thrifty::BoxError;
use thrifty::budget::Budget;
use thrifty::cache::CacheLayer;
use thrifty::call::{Call, Reply};
use thrifty::price::Usd;
use thrifty::receipt::{Ledger, Receipt, Served};
use thrifty::stack::Stack;
use tower::Layer;

use super::support::*;

/// 1,000 tokens in at 0.25 and 100 out at 2 USD per million (2026-11-23).
const COST: &str = "0.00045";

/// The question to a model that has a price.
fn priced(streams: bool) -> Call {
    let body = both("hi")[usize::from(streams)].doc.bytes().clone();
    let body = String::from_utf8_lossy(&body)
        .replace(r#""model":"m""#, r#""model":"gpt-5-mini","max_completion_tokens":500"#);
    Call::post(CHAT, body)
}

/// Of that model.
fn named(text: impl Into<String>) -> String {
    text.into().replace(r#""model":"m""#, r#""model":"gpt-5-mini""#)
}

fn named_events() -> Vec<String> {
    events("a").into_iter().map(named).collect()
}

fn priced_answer(call: &Call) -> Reply {
    if call.wants_stream() { streamed(named_events()) } else { reply(200, named(whole("a"))) }
}

/// Pays for an answer, then gets it again: both bodies and receipts.
async fn paid_and_hit(streams: bool, document: &'static str) -> [(Bytes, Receipt); 2] {
    let (inner, _) = upstream(Duration::ZERO, move |_, call| {
        Ok(if document.is_empty() { priced_answer(call) } else { reply(200, document) })
    });
    let cache =
        CacheLayer::builder().replay_identity(thrifty::cache::ReplayIdentity::Original).build().unwrap();
    let client = Stack::builder().cache(cache).build().unwrap().layer(inner);
    let paid = billed(&client, priced(streams)).await;
    assert!(paid.1.stored, "{:?}", paid.1.cache_note);
    [paid, billed(&client, priced(streams)).await]
}

fn is_a_hit(receipt: &Receipt) {
    assert_eq!((receipt.served, receipt.billed), (Served::Memory, Some(Usd::ZERO)));
}

/// What a hit says is what was paid for, to the byte and to the token.
async fn a_hit_has_all_of(document: &'static str) {
    let [(paid, first), (again, second)] = paid_and_hit(false, document).await;
    assert_eq!(paid, again);
    assert_eq!(first.usage, second.usage);
    is_a_hit(&second);
}

mod berriai_litellm {
    use super::*;

    /// Hits had lost the thoughts of the answer.
    #[tokio::test]
    async fn berriai_litellm_42244_a_hit_keeps_the_thoughts() {
        a_hit_has_all_of(r#"{"model":"gpt-5-mini","choices":[{"index":0,"message":{"role":"assistant","reasoning_content":"hm","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":8,"completion_tokens_details":{"reasoning_tokens":7}}}"#).await;
    }

    /// Tokens were counted again on hits, and used up a budget.
    #[tokio::test]
    async fn berriai_litellm_39057_a_budget_is_unmoved_by_hits() {
        for streams in [false, true] {
            let budget = Budget::builder().limit("1".parse().unwrap()).build().unwrap();
            let (inner, calls) = upstream(Duration::ZERO, |_, call| Ok(priced_answer(call)));
            let client = Stack::builder().budget(budget.clone()).build().unwrap().layer(inner);
            for _ in 0..5 {
                billed(&client, priced(streams)).await;
                assert_eq!(budget.state().spent.to_string(), COST);
            }
            assert_eq!((calls.load(Ordering::SeqCst), budget.state().held), (1, Usd::ZERO));
        }
    }

    /// A hit was billed.
    #[tokio::test]
    async fn berriai_litellm_1783_a_hit_costs_nothing_and_says_what_it_saved() {
        for streams in [false, true] {
            let [(_, paid), (_, hit)] = paid_and_hit(streams, "").await;
            assert_eq!(paid.billed.unwrap().to_string(), COST);
            is_a_hit(&hit);
            assert_eq!(hit.avoided.cache.to_string(), COST);
        }
    }

    /// A hit on a stream was not marked as one.
    #[tokio::test]
    async fn berriai_litellm_5401_a_streamed_hit_is_known_as_one() {
        let [_, (_, hit)] = paid_and_hit(true, "").await;
        is_a_hit(&hit);
    }

    /// A hit lacked the header that says so.
    #[tokio::test]
    async fn berriai_litellm_8570_each_hit_has_its_header() {
        for streams in [false, true] {
            let bench = Bench::counting(Duration::ZERO);
            for want in ["fwd=miss", "; hit"] {
                let reply = bench.send(both("hi")[usize::from(streams)].clone()).await.unwrap();
                let status = reply.headers()["cache-status"].to_str().unwrap().to_owned();
                assert!(status.contains(want), "{status}");
                reply.into_body().bytes().await.unwrap();
            }
        }
    }

    /// Usage in a last event that has choices too was dropped, and the bill was four times too high or nothing.
    #[tokio::test]
    async fn berriai_litellm_36168_usage_beside_choices_is_read() {
        let (inner, _) = upstream(Duration::ZERO, |_, _| {
            let last = format!(
                r#"data: {{"model":"gpt-5-mini","choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}],{USAGE}}}"#
            );
            Ok(streamed([named(events("a").remove(0)), format!("{last}\n\n"), "data: [DONE]\n\n".to_owned()]))
        });
        let client = Stack::builder().build().unwrap().layer(inner);
        for want in [COST, "0"] {
            assert_eq!(billed(&client, priced(true)).await.1.billed.unwrap().to_string(), want);
        }
    }

    /// A caller leaves after so many frames; what the ledger says once all is over.
    async fn left_after(frames: usize, streams: bool) -> thrifty::receipt::Totals {
        let (inner, calls) = upstream(Duration::from_secs(1), move |_, _| {
            Ok(match streams {
                true => paced(named_events(), Duration::from_secs(1)),
                false => reply(200, named(whole("a"))),
            })
        });
        let ledger = Ledger::default();
        let stack = Stack::builder().sink(ledger.clone()).build().unwrap();
        let client = stack.layer(inner);
        if frames == 0 {
            let sent = tower::ServiceExt::oneshot(client, priced(streams));
            tokio::time::timeout(Duration::from_millis(500), sent).await.map(drop).unwrap_err();
        } else {
            let reply = tower::ServiceExt::oneshot(client, priced(streams)).await.unwrap();
            let mut body = reply.into_body();
            for _ in 0..frames {
                body.frame().await.unwrap().unwrap();
            }
        }
        assert!(stack.cache().unwrap().drain(Duration::from_secs(60)).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        ledger.totals()
    }

    /// A stream that its caller left was not billed.
    #[tokio::test(start_paused = true)]
    async fn berriai_litellm_14457_a_stream_left_in_its_middle_is_billed() {
        let totals = left_after(1, true).await;
        assert_eq!((totals.calls, totals.billed.to_string().as_str()), (1, COST));
    }

    /// The usage of a stream was lost when its caller left before the last event.
    #[tokio::test(start_paused = true)]
    async fn berriai_litellm_33736_a_stream_left_before_its_usage_is_billed() {
        let totals = left_after(2, true).await;
        assert_eq!((totals.calls, totals.billed.to_string().as_str()), (1, COST));
    }

    /// A stream that its caller left before its first event was not billed.
    #[tokio::test(start_paused = true)]
    async fn berriai_litellm_30630_a_stream_left_before_its_first_event_is_billed() {
        let totals = left_after(0, true).await;
        assert_eq!((totals.calls, totals.billed.to_string().as_str()), (1, COST));
    }

    /// A plain call whose caller ran out of patience was not billed.
    #[tokio::test(start_paused = true)]
    async fn berriai_litellm_36008_a_plain_call_left_by_its_caller_is_billed() {
        let totals = left_after(0, false).await;
        assert_eq!((totals.calls, totals.billed.to_string().as_str()), (1, COST));
    }

    /// A stream that broke off was free.
    #[tokio::test]
    async fn berriai_litellm_37558_a_stream_that_breaks_off_is_not_free() {
        let (inner, _) = upstream(Duration::ZERO, |_, _| Ok(streamed(named_events()[..1].to_vec())));
        let budget = Budget::builder().limit("1".parse().unwrap()).build().unwrap();
        let client = Stack::builder().budget(budget.clone()).build().unwrap().layer(inner);
        let (_, receipt) = billed(&client, priced(true)).await;
        assert!(receipt.estimate.unwrap() > Usd::ZERO, "{receipt:?}");
        assert!(budget.state().spent > Usd::ZERO && budget.state().held == Usd::ZERO, "{:?}", budget.state());
    }

    /// The provider went on writing, and billing, when the client had left.
    #[tokio::test(start_paused = true)]
    async fn berriai_litellm_17364_a_stream_left_by_all_is_cancelled() {
        use thrifty::cache::OrphanPolicy;
        for (policy, stored) in [(OrphanPolicy::Grace(Duration::from_secs(2)), 0), (OrphanPolicy::Finish, 1)]
        {
            let bench = Bench::over(
                |builder| builder.orphaned_streams(policy),
                upstream(Duration::ZERO, |_, _| Ok(paced(events("a"), Duration::from_secs(10)))),
            );
            let mut body = bench.send(ask_stream("hi")).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            drop(body);
            let most = Duration::from_secs(if stored == 0 { 3 } else { 60 });
            assert!(bench.handle.drain(most).await, "{policy:?}: it goes on for nobody");
            assert_eq!(bench.handle.stats().stored, stored, "{policy:?}");
        }
    }
}

mod tensorzero_tensorzero {
    use super::*;

    /// Hits had lost how much of the prompt the provider had read from its own cache.
    #[tokio::test]
    async fn tensorzero_tensorzero_1791_a_hit_keeps_the_detail_of_its_usage() {
        a_hit_has_all_of(r#"{"model":"gpt-5-mini","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2000,"prompt_tokens_details":{"cached_tokens":1024},"completion_tokens":8}}"#).await;
    }

    /// Hits had no usage at all.
    #[tokio::test]
    async fn tensorzero_tensorzero_1226_a_hit_has_the_usage_of_its_answer() {
        let [(_, paid), (_, hit)] = paid_and_hit(false, "").await;
        let usage = hit.usage.expect("a hit has usage");
        assert_eq!((usage.input, usage.output), (Some(1_000), Some(100)));
        assert_eq!(paid.usage, hit.usage);
    }

    /// Streamed hits had none.
    #[tokio::test]
    async fn tensorzero_tensorzero_5267_a_streamed_hit_has_it_too() {
        let [(_, paid), (_, hit)] = paid_and_hit(true, "").await;
        assert_eq!(paid.usage, hit.usage);
        assert_eq!(hit.usage.and_then(|usage| usage.output), Some(100));
    }
}

mod incidents {
    use super::*;

    /// Elsewhere a client that hung up got its money back, and so its answer for nothing.
    #[tokio::test]
    async fn abort_is_billed() {
        let budget = Budget::builder().limit("1".parse().unwrap()).build().unwrap();
        let (inner, _) = upstream(Duration::ZERO, |_, _| -> Result<Reply, BoxError> {
            Ok(paced(named_events(), Duration::from_millis(1)))
        });
        let stack = Stack::builder().without_cache().budget(budget.clone()).build().unwrap();
        let reply = tower::ServiceExt::oneshot(stack.layer(inner), priced(true)).await.unwrap();
        let mut body = reply.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        let state = budget.state();
        assert!(state.spent > Usd::ZERO && state.held == Usd::ZERO, "{state:?}");
    }
}
