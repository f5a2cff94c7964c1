//! What the stack as a whole promises, where a single layer cannot.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::{Arc, Mutex};

use thrifty::BoxError;
use thrifty::cache::CacheLayer;
use thrifty::call::{Call, Options, Reply};
use thrifty::receipt::{Receipt, ReceiptHandle};
use thrifty::stack::{Stack, StackBuilder};
use thrifty::tier::{Condition, Rule, TierPolicy};
use thrifty::tokens::{Counter, Tokenizer};
use thrifty::trim::TrimPolicy;
use tower::{Layer, Service, ServiceExt, service_fn};

fn asks(model: &str) -> Call {
    Call::post(
        "https://api.openai.com/v1/chat/completions",
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Name a prime above 10."}}]}}"#),
    )
}

/// A good answer by `model`, ended by `finish`.
fn by(model: &str, finish: &str) -> Reply {
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"{model}","choices":[{{"index":0,"message":{{"role":"assistant","content":"11"}},"finish_reason":"{finish}"}}],"usage":{{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}}}"#
    );
    Reply::new(body.into())
}

type Models = Arc<Mutex<Vec<String>>>;

/// Services of `stack` in front of a provider that answers by `script`, and the models it was asked for.
fn over(
    stack: &Stack,
    script: impl Fn(&str) -> Reply + Clone + Send + Sync + 'static,
) -> (impl Service<Call, Response = Reply, Error = BoxError, Future: Send> + Clone + Send + 'static, Models) {
    let models = Models::default();
    let seen = models.clone();
    let provider = service_fn(move |call: Call| {
        let model = call.model().unwrap_or_default();
        let reply = script(&model);
        seen.lock().unwrap().push(model);
        async { Ok::<_, BoxError>(reply) }
    });
    (stack.layer(provider), models)
}

fn receipt(reply: &Reply) -> Receipt {
    reply.extensions().get::<ReceiptHandle>().unwrap().get().unwrap().clone()
}

fn with_tier(policy: TierPolicy) -> Stack {
    StackBuilder::default().tier(policy).build().unwrap()
}

#[tokio::test]
async fn a_named_condition_on_a_header_never_gives_one_caller_the_tier_of_another() {
    let gold = Condition::named("gold", |call: &Call| call.parts.headers.contains_key("x-gold"));
    let stack = with_tier(TierPolicy::builder().rule(Rule::when(gold).then("gpt-5")).build().unwrap());
    let (service, models) = over(&stack, |model| by(model, "stop"));
    let mut golden = asks("gpt-5-mini");
    golden.parts.headers.insert("x-gold", "1".parse().unwrap());
    for (call, model) in [(asks("gpt-5-mini"), "gpt-5-mini"), (golden.clone(), "gpt-5"), (golden, "gpt-5")] {
        let reply = service.clone().oneshot(call).await.unwrap();
        assert_eq!(receipt(&reply).answered.as_deref(), Some(model), "equal bodies, other headers");
    }
    assert_eq!(*models.lock().unwrap(), ["gpt-5-mini", "gpt-5"], "the cache itself still serves repeats");
}

#[tokio::test]
async fn a_hit_that_was_rejected_is_no_saving() {
    let cache = thrifty::cache::CacheLayer::in_memory();
    let plain = StackBuilder::default().cache(cache.clone()).build().unwrap();
    let (service, _) = over(&plain, |model| by(model, "stop"));
    service.oneshot(asks("gpt-5-nano")).await.unwrap();

    let ladder = TierPolicy::builder()
        .escalate(["gpt-5-nano", "gpt-5-mini"])
        .accept(|outcome, _| outcome.model.as_deref() != Some("gpt-5-nano"))
        .build()
        .unwrap();
    let stack = StackBuilder::default().cache(cache).tier(ladder).build().unwrap();
    let (service, models) = over(&stack, |model| by(model, "stop"));
    let receipt = receipt(&service.oneshot(asks("gpt-5-nano")).await.unwrap());
    assert_eq!(*models.lock().unwrap(), ["gpt-5-mini"], "the first rung was in the cache");
    assert_eq!(receipt.rejected.len(), 1);
    assert_eq!(receipt.avoided.cache.to_string(), "0", "what was rejected is no saving");
    // gpt-5-nano: 0.05 in, 0.4 out; gpt-5-mini: 0.25 in, 2 out (USD per million tokens, 2026-11-23).
    assert_eq!(receipt.billed.unwrap().to_string(), "0.00045");
    assert_eq!((receipt.billed.unwrap() + receipt.avoided.total()).to_string(), "0.00009");
}

#[tokio::test]
async fn a_poor_answer_passed_on_after_all_leaves_no_shortcut_to_the_rung_that_failed() {
    let ladder = TierPolicy::builder().escalate(["gpt-5-nano", "gpt-5-mini"]).build().unwrap();
    let stack = with_tier(ladder);
    let (service, _) = over(&stack, |model| {
        let mut reply = by(model, if model == "gpt-5-nano" { "length" } else { "stop" });
        if model == "gpt-5-mini" {
            *reply.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        }
        reply
    });
    for _ in 0..2 {
        let receipt = receipt(&service.clone().oneshot(asks("gpt-5-nano")).await.unwrap());
        assert_eq!(receipt.chosen.as_deref(), Some("gpt-5-nano"));
        assert_eq!(receipt.answered.as_deref(), Some("gpt-5-nano"), "the receipt tells of another answer");
    }
}

#[tokio::test]
async fn an_answer_of_no_use_is_forgotten_whatever_the_layers_made_of_its_call() {
    use thrifty::call::{Options, Scope};
    use thrifty::cap::CapLayer;
    use thrifty::trim::TrimPolicy;

    let turns: Vec<String> = (0..60)
        .map(|n| {
            let role = if n % 2 == 0 { "user" } else { "assistant" };
            format!(r#"{{"role":"{role}","content":"turn {n} of a long talk about primes and what is above them"}}"#)
        })
        .collect();
    let call = Call::post(
        "https://api.openai.com/v1/chat/completions",
        format!(
            r#"{{"model":"gpt-4.1","messages":[{},{{"role":"user","content":"go on"}}]}}"#,
            turns.join(",")
        ),
    );
    let call = call.with(Options::new().scope(Scope::tenant("a")).cap(400));
    let ladder = || TierPolicy::builder().escalate(["gpt-4.1-nano", "gpt-4.1-mini", "gpt-4.1"]);
    let to_nano = || Rule::when(Condition::tokens_below(100_000)).then("gpt-4.1-nano");
    let stacks = [
        ("plain", Stack::builder()),
        ("trimmed", Stack::builder().trim(TrimPolicy::new().with_budget(300))),
        ("capped", Stack::builder().cap(CapLayer::new(100))),
        ("capped on a condition", Stack::builder().cap(CapLayer::new(100).only_when(|_| true))),
        ("switched", {
            let to_mini = Rule::when(Condition::tokens_below(100_000)).then("gpt-4.1-mini");
            Stack::builder().tier(TierPolicy::builder().rule(to_mini).build().unwrap())
        }),
        (
            "all of it",
            Stack::builder()
                .trim(TrimPolicy::new().with_budget(300))
                .cap(CapLayer::new(100))
                .tier(ladder().rule(to_nano()).build().unwrap()),
        ),
    ];
    for (name, builder) in stacks {
        let stack = builder.build().unwrap();
        // The smallest model is refused, so that the ladder is climbed where there is one.
        let (service, models) =
            over(&stack, |model| by(model, if model == "gpt-4.1-nano" { "content_filter" } else { "stop" }));
        let ask = || async {
            let before = models.lock().unwrap().len();
            service.clone().oneshot(call.clone()).await.unwrap();
            models.lock().unwrap().len() - before
        };
        let first = ask().await;
        assert!(first > 0);
        let again = ask().await;
        assert!(again < first, "{name}: nothing was stored");
        if name != "plain" {
            stack.cache().unwrap().invalidate(&call).await;
            assert_eq!(ask().await, again, "{name}: the layers made nothing else of the call");
        }
        assert!(stack.invalidate(&call).await, "{name}");
        assert_eq!(ask().await, first, "{name}: a forgotten answer was served");
        assert_eq!(ask().await, again, "{name}: the new answer was not stored");
    }
    assert!(!Stack::builder().without_cache().build().unwrap().invalidate(&call).await);
}

#[tokio::test]
async fn a_refresh_reserves_budget_and_is_told_to_the_sinks_of_the_stack() {
    use std::time::Duration;
    use thrifty::budget::Budget;
    use thrifty::cache::CacheLayer;
    use thrifty::clock::ManualClock;

    // One answer costs 0.0028 USD, and its worst case 0.0009.
    for (limit, refused) in [("1", false), ("0.003", true)] {
        let clock = ManualClock::at_ms(1_795_000_000_000);
        let cache = CacheLayer::builder()
            .clock(clock.clone())
            .ttl(Duration::from_secs(60))
            .stale_while_revalidate(Duration::from_secs(600));
        let budget = Budget::builder().limit(limit.parse().unwrap()).hard().build().unwrap();
        let told: Arc<Mutex<Vec<Receipt>>> = Arc::default();
        let sink = told.clone();
        let stack = Stack::builder()
            .cache(cache.build().unwrap())
            .budget(budget.clone())
            .sink(move |receipt: &Receipt| sink.lock().unwrap().push(receipt.clone()))
            .build()
            .unwrap();
        let (service, models) = over(&stack, |model| by(model, "stop"));
        let call = || {
            Call::post(
                "https://api.openai.com/v1/chat/completions",
                r#"{"model":"gpt-4.1","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":100}"#,
            )
        };
        service.clone().oneshot(call()).await.unwrap();
        let paid = budget.state().spent;
        clock.advance(Duration::from_secs(61));
        let stale = service.clone().oneshot(call()).await.unwrap();
        assert!(stale.headers()["cache-status"].to_str().unwrap().contains("hit"), "it is served at once");
        assert!(stack.cache().unwrap().drain(Duration::from_secs(5)).await);
        let state = budget.state();
        assert_eq!(state.refused, u64::from(refused), "limit {limit}");
        assert_eq!(models.lock().unwrap().len(), if refused { 1 } else { 2 }, "limit {limit}");
        assert_eq!(state.spent, if refused { paid } else { paid + paid }, "limit {limit}");
        assert_eq!(state.held, thrifty::price::Usd::ZERO);
        let told = told.lock().unwrap();
        let refreshes: Vec<_> = told.iter().filter(|receipt| receipt.notes.contains(&"refresh")).collect();
        assert_eq!(refreshes.len(), 1, "limit {limit}: {told:?}");
        if !refused {
            assert_eq!(refreshes[0].billed, Some(paid), "what nobody waited for is in the books too");
        }
        assert_eq!(stack.stats().unwrap().refreshes, 1);
    }
}

#[tokio::test]
async fn a_stack_is_purged_flushed_and_counted_without_its_cache_at_hand() {
    use thrifty::call::{Options, Scope};

    let stack = Stack::builder().build().unwrap();
    let (service, models) = over(&stack, |model| by(model, "stop"));
    let of = |name: &str| asks("gpt-4.1").with(Options::new().scope(Scope::tenant(name)));
    let calls = async |name: &str| {
        let before = models.lock().unwrap().len();
        service.clone().oneshot(of(name)).await.unwrap();
        models.lock().unwrap().len() - before
    };
    assert_eq!((calls("ann").await, calls("bob").await, calls("ann").await), (1, 1, 0));
    assert!(stack.purge(&Scope::tenant("ann")).await);
    assert_eq!((calls("ann").await, calls("bob").await), (1, 0), "one scope's answers are gone");
    assert!(stack.purge_all().await);
    assert_eq!((calls("ann").await, calls("bob").await), (1, 1));
    stack.flush().await;
    let stats = stack.stats().unwrap();
    assert_eq!((stats.stored, stats.purges, stats.memory_hits), (5, 2, 2));
    let bare = Stack::builder().without_cache().build().unwrap();
    assert!(!bare.purge_all().await && !bare.purge(&Scope::tenant("ann")).await && bare.stats().is_none());
}

/// An answer of Claude's, and its count of a prompt, as a provider that bills `tokens` for any.
fn claude(
    tokens: u64,
) -> (
    impl Service<Call, Response = Reply, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static,
    Models,
) {
    let sent = Models::default();
    let seen = sent.clone();
    let provider = service_fn(move |call: Call| {
        let body = if call.parts.uri.path().ends_with("/count_tokens") {
            format!(r#"{{"input_tokens":{tokens}}}"#)
        } else {
            seen.lock().unwrap().push(call.model().unwrap_or_default());
            format!(
                r#"{{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5","content":[{{"type":"text","text":"Yes."}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":{tokens},"output_tokens":3}}}}"#
            )
        };
        async { Ok::<_, BoxError>(Reply::new(body.into())) }
    });
    (provider, sent)
}

/// A talk of `turns` turns and one question more.
fn talk(url: &str, model: &str, turns: usize) -> Call {
    let mut messages = String::new();
    for turn in 0..turns {
        let text = format!("{turn} The ferry left the harbour at noon, and nobody waved. ").repeat(8);
        messages +=
            &format!(r#"{{"role":"user","content":"{text}"}},{{"role":"assistant","content":"{text}"}},"#);
    }
    Call::post(
        url,
        format!(
            r#"{{"model":"{model}","max_tokens":64,"messages":[{messages}{{"role":"user","content":"And?"}}]}}"#
        ),
    )
}

#[tokio::test]
async fn what_was_trimmed_by_the_providers_count_is_forgotten_too() {
    let talk = talk("https://api.anthropic.com/v1/messages", "claude-opus-5", 20);
    let count = thrifty::tokens::count(&talk);
    let budget = count.likely + (count.at_most - count.likely) * 3 / 4;
    // The provider counts less than may be, so all is kept; or more, so more is cut than by the estimate.
    for told in [count.likely, count.at_most * 2] {
        let (provider, sent) = claude(told);
        let stack =
            Stack::builder().trim(TrimPolicy::new()).count_endpoint(provider.clone()).build().unwrap();
        let service = stack.layer(provider);
        let call = || talk.clone().with(Options::new().budget(budget));
        for _ in 0..2 {
            if let Err(error) = service.clone().oneshot(call()).await {
                panic!("told {told}: {error}");
            }
        }
        assert_eq!(sent.lock().unwrap().len(), 1, "told {told}: the second is a repeat");
        assert!(stack.invalidate(&call()).await);
        service.clone().oneshot(call()).await.unwrap();
        assert_eq!(sent.lock().unwrap().len(), 2, "told {told}: what is forgotten is asked for again");
    }
}

/// Counts each byte.
struct ByByte;

impl Tokenizer for ByByte {
    fn name(&self) -> &'static str {
        "bytes"
    }

    fn count(&self, text: &str) -> Option<u64> {
        Some(text.len() as u64)
    }
}

#[tokio::test]
async fn stacks_that_count_otherwise_take_no_shortcut_of_each_other() {
    let cache = CacheLayer::in_memory();
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let seen = lengths.clone();
    let provider = service_fn(move |call: Call| {
        seen.lock().unwrap().push(call.doc.elements("messages").map_or(0, |messages| messages.len()));
        async { Ok::<_, BoxError>(by("our-chat", "stop")) }
    });
    let talk = talk("https://api.openai.com/v1/chat/completions", "our-chat", 3);
    let of = |counter: Counter| {
        let policy = TrimPolicy::new().with_budget(1_500);
        Stack::builder()
            .cache(cache.clone())
            .trim(policy)
            .counter(counter)
            .build()
            .unwrap()
            .layer(provider.clone())
    };
    of(Counter::default().model("our-chat", "gpt-4o")).oneshot(talk.clone()).await.unwrap();
    of(Counter::default().tokenizer("our-chat", Arc::new(ByByte))).oneshot(talk).await.unwrap();
    let lengths = lengths.lock().unwrap();
    assert!(lengths.len() == 2 && lengths[1] < lengths[0], "each cuts by its own count: {lengths:?}");
}

#[tokio::test]
async fn names_of_any_length_in_calls_that_fail_are_not_kept() {
    let stack = Stack::builder().build().unwrap();
    let (service, models) = over(&stack, |_| {
        let mut reply = Reply::new(r#"{"error":{"message":"no such model"}}"#.into());
        *reply.status_mut() = http::StatusCode::NOT_FOUND;
        reply
    });
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
        Some(pages.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
    };
    let before = resident();
    for n in 0..100 {
        let name = format!("{n}{}", "x".repeat(1 << 20));
        assert_eq!(service.clone().oneshot(asks(&name)).await.unwrap().status(), 404);
        models.lock().unwrap().clear();
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        assert!(after < before + (50 << 20), "{} MiB more", (after - before) >> 20);
    }
}
