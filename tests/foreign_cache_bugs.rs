//! Mistakes of other caches, and the test that shows each cannot happen here.
//!
//! A bug that a test elsewhere shows already is not shown again; this table says where it is. The functions below are
//! named after the others. A test reads the table and looks for each function.
//!
//! | seen in | file | test |
//! |---|---|---|
//! | beeai#1554, LightRAG#3446 | tests/policy.rs | the_table_of_what_may_be_stored |
//! | litellm-rs#1344, hermes-agent#70387 | tests/policy.rs | an_answer_is_put_got_and_forgotten_by_hand |
//! | OrcaRouter-Lite#155 | tests/policy.rs | calls_with_chance_in_them_are_cached_as_the_setting_says |
//! | Portkey-AI/gateway#201, LiteLLM (source: `s-maxage=0`) | tests/policy.rs | what_a_call_asks_of_an_answers_age_is_obeyed |
//! | Helicone#5768 | tests/key_fields.rs | what_is_left_out_is_what_the_format_lists |
//! | TokenMiser (source: `logprobs`) | tests/key_fields.rs | each_documented_field_changes_the_key_but_the_written_exclusions |
//! | Helicone ai-gateway (source: raw bytes), LiteLLM (source: argument order) | tests/cache_key.rs | every_spelling_of_a_body_has_one_key |
//! | LightRAG PR #3435 | tests/cache_key.rs | a_text_split_elsewhere_is_another_list |
//! | semantic-router#1448, #2134 | tests/cache_key.rs | scopes_do_not_meet |
//! | llmgateway#3758 = GHSA-h9ww-f95j-h54c | tests/cache.rs | two_credentials_never_share_an_answer_unless_they_say_so |
//! | kilocode#14080 | tests/cache.rs | in_a_shared_scope_one_credentials_failure_is_not_anothers |
//! | k-skill#151 (outages), Portkey OSS (source) | tests/cache.rs | only_whole_good_answers_are_stored |
//! | cashews#246, TensorRT-LLM#18289, iii-hq/workers#878 | tests/cache.rs | a_stream_cut_anywhere_before_its_end_marker_is_never_stored |
//! | the same, for a body that breaks | tests/cache.rs | a_stream_that_breaks_reaches_its_callers_as_a_break |
//! | litellm#30216 | tests/cache.rs | a_stream_is_passed_on_as_it_arrives_and_replayed_in_its_frames |
//! | litellm#42244, tensorzero#1791, #1226, #5267 | tests/streams.rs | one_stored_answer_serves_both_kinds_of_callers_whoever_paid |
//! | langchain#13119, #23701, #24120, #25161 | tests/streams.rs | one_stored_answer_serves_both_kinds_of_callers_whoever_paid |
//! | litellm#1783, #5401 | tests/cache.rs | the_stack_tells_where_an_answer_came_from_and_what_it_saved |
//! | litellm#8570 | tests/replay.rs | each_way_past_the_cache_has_its_word |
//! | litellm#14457, #33736, #30630, #36008, #37558 | tests/cache.rs | a_call_paid_for_a_caller_who_left_is_in_the_ledger |
//! | litellm#17364 | tests/flights.rs | the_orphan_policies_do_what_they_say |
//! | tensorzero#850, #898 | tests/cache.rs | a_call_that_is_not_understood_passes_by_untouched |
//! | Kong (changelog: end markers) | tests/stream_ends.rs | a_stream_without_an_end_marker_is_stored_only_where_the_endpoint_is_said_to_send_none |
//! | GPTCache (source: tool calls lost) | tests/assemble.rs | a_document_comes_back_from_its_stream |
//! | moka#240, moka (source: retry limit) | tests/flights.rs | four_hundred_impatient_callers_and_one_patient_make_one_call |
//! | moka#155 | tests/flights.rs | a_purge_or_an_invalidation_in_the_middle_of_a_flight_ends_joining_and_storing |
//! | moka#471 | tests/flights.rs | many_large_streams_hold_no_more_than_the_bound_and_lose_nothing |
//! | moka#543, #72 | tests/disk.rs | distinct_answers_stay_within_both_bounds |
//! | Helicone ai-gateway (source: bytes as entries) | src/cache/store/memory.rs | the_bound_is_in_bytes |
//! | Haruki-Sekai-API#59 | tests/flights.rs | a_panic_below_is_one_error_for_each_caller_and_the_next_call_starts_afresh |
//! | async_singleflight#12 | tests/flight_schedules.rs | equal_callers_make_one_call_in_any_order |
//! | deltallm#237 | tests/flights.rs | two_hundred_callers_of_one_stream_a_third_of_them_leaving_make_one_call |
//! | deltallm#237 (no bound of callers) | tests/flights.rs | one_caller_more_than_a_flight_takes_makes_its_own_call |
//! | TokenMiser (source: a burst) | tests/cache.rs | ten_thousand_identical_callers_make_one_upstream_call |
//! | http-cache-tower (source) | tests/cache.rs | a_miss_under_a_concurrency_limit_of_one_does_not_hang |
//! | foyer#1336 | src/cache/store/mod.rs | what_memory_lost_comes_back_from_disk_into_memory |
//! | foyer#1315, #1305, #1118, nntp-proxy#112, si#5154, redb#934, #652 | tests/disk_faults.rs | many_stores_stay_within_the_bounds |
//! | redb#1165, #907, #852 | src/cache/store/disk/tests.rs | a_file_at_rest_is_verified_and_compacted_and_one_in_use_is_refused |
//! | seaweedfs#11203, ord#4084 | tests/disk_kill.rs | a_kill_loses_nothing_that_was_flushed |
//! | redb 4.2-4.6 (changelog) | tests/disk_damage.rs | a_damaged_file_brings_no_wrong_answer |
//! | http-cache (source: deletes) | src/cache/store/disk/tests.rs | what_is_removed_or_cleared_does_not_come_back |
//! | grafana#125052, coredns#8346, apcu#412 | src/cache/entry.rs | an_entry_is_stale_when_old_and_when_the_clock_went_back |
//!
//! Not shown, since it is not so: a message id that a client invents at random (inspect_ai#1481) is in the key like all
//! else, and there is no setting to leave it out.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thrifty::BoxError;
use thrifty::cache::{CacheKey, CacheLayer, Keyer, Secret};
use thrifty::call::{Call, Options, Reply, ReplyBody, Scope};
use thrifty::clock::ManualClock;
use tower::{Layer, ServiceExt, service_fn};

const CHAT: &str = "https://api.openai.com/v1/chat/completions";
const CLAUDE: &str = "https://api.anthropic.com/v1/messages";
const RESPONSES: &str = "https://api.openai.com/v1/responses";

#[test]
fn each_test_of_the_table_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for row in include_str!("foreign_cache_bugs.rs").lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let [_, file, test] = cells[..] else { panic!("a row has three cells: {row}") };
        if file == "file" {
            continue;
        }
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert!(text.contains(&format!("fn {test}(")), "{file} has no test named {test}");
        found += 1;
    }
    assert!(found > 30, "{found} rows are too few to be the table");
}

fn key(url: &str, body: &str) -> CacheKey {
    let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
    let call = Call::post(url, body.to_owned());
    keyer.key(&call, &Scope::default(), &[]).unwrap_or_else(|why| panic!("{why}: {body}"))
}

fn chat(question: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{question}"}}]}}"#)
}

/// Two calls must not share an answer.
fn apart(url: &str, one: &str, other: &str) {
    assert!(key(url, one) == key(url, one), "a key is the same twice");
    assert!(key(url, one) != key(url, other), "{one} shares an answer with {other}");
}

/// A field was not in the key: two bodies that differ in these members only.
macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident: $url:ident, $one:literal, $other:literal;)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            let base = if $url == RESPONSES { r#""input":"a""# } else { r#""messages":[],"max_tokens":9"# };
            let body = |members: &str| match members {
                "" => format!(r#"{{"model":"m",{base}}}"#),
                _ => format!(r#"{{"model":"m",{base},{members}}}"#),
            };
            apart($url, &body($one), &body($other));
        }
    )*};
}

counts! {
    /// A provider's own parameters were not in the key.
    berriai_litellm_42400_reasoning_effort_counts: CHAT, r#""reasoning_effort":"low""#, r#""reasoning_effort":"high""#;
    /// `top_k` was not in the key.
    berriai_litellm_5049_top_k_counts: CLAUDE, r#""top_k":1"#, r#""top_k":2"#;
    /// Only the messages were in the key.
    berriai_litellm_894_more_than_the_messages_counts: CHAT, r#""stop":["a"]"#, r#""stop":["b"]"#;
    /// Members of the Responses API were not in the key.
    berriai_litellm_25673_instructions_count: RESPONSES, r#""instructions":"x""#, r#""instructions":"y""#;
    /// Verbosity and five other settings were not in the key.
    theopenco_llmgateway_3901_nested_settings_count: RESPONSES, r#""text":{"verbosity":"low"}"#, r#""text":{"verbosity":"high"}"#;
    /// `parallel_tool_calls`, `prediction` and others were not in the key.
    majiayu000_litellm_rs_505_parallel_tool_calls_count: CHAT, r#""parallel_tool_calls":true"#, r#""parallel_tool_calls":false"#;
    /// An absent temperature had the key of 0.
    orcarouter_lite_84_an_absent_temperature_is_not_zero: CHAT, "", r#""temperature":0"#;
    /// System prompt, tools and sampling were not in the key.
    headroomlabs_ai_headroom_1473_the_system_prompt_counts: CLAUDE, r#""system":"a""#, r#""system":"b""#;
    /// An exclusion by name at any depth took a property out of a tool's schema.
    headroomlabs_ai_headroom_3345_a_property_of_an_excluded_name_counts: CLAUDE,
        r#""tools":[{"name":"f","input_schema":{"properties":{"cache_control":{"type":"string"}}}}]"#,
        r#""tools":[{"name":"f","input_schema":{"properties":{}}}]"#;
    /// `tool_choice` was not in the key.
    microsoft_autogen_8211_the_tool_choice_counts: CHAT, r#""tool_choice":"auto""#, r#""tool_choice":"none""#;
    /// Of the tools only whether there are any was in the key.
    agno_agi_agno_10138_a_tools_schema_counts: CHAT,
        r#""tools":[{"type":"function","function":{"name":"f"}}]"#,
        r#""tools":[{"type":"function","function":{"name":"g"}}]"#;
    /// Settings of the generation were no part of an answer's identity.
    eleutherai_lm_evaluation_harness_3881_a_penalty_counts: CHAT, r#""presence_penalty":0"#, r#""presence_penalty":1"#;
    /// The same once more.
    eleutherai_lm_evaluation_harness_3897_a_seed_counts: CHAT, r#""seed":1"#, r#""seed":2"#;
    /// Temperatures were put into buckets.
    tokenmiser_source_temperatures_are_not_rounded: CHAT, r#""temperature":0.00"#, r#""temperature":0.04"#;
}

/// A near match was served as the answer to another question.
macro_rules! differ {
    ($($name:ident: $one:literal, $other:literal;)*) => {$(
        #[test]
        fn $name() {
            apart(CHAT, &chat($one), &chat($other));
        }
    )*};
}

differ! {
    zilliztech_gptcache_388_a_negation_is_another_question: "Is it safe?", "Is it not safe?";
    zilliztech_gptcache_435_another_number_is_another_question: "Multiply 3 by 11.", "Multiply 3 by 12.";
    zilliztech_gptcache_612_another_name_is_another_question: "Who is Ann?", "Who is Bob?";
    zilliztech_gptcache_651_a_longer_question_is_another_one: "List the planets", "List the planets and their moons";
    berriai_litellm_12234_one_token_apart_is_another_question: "Book a flight to Rome.", "Book a flight from Rome.";
    berriai_litellm_6954_another_language_is_another_question: "The capital of Peru?", "Die Hauptstadt von Peru?";
    berriai_litellm_31610_the_other_order_is_another_question: "Translate A to B.", "Translate B to A.";
    vllm_project_semantic_router_1581_an_opposite_is_another_question: "Light on.", "Light off.";
    maximhq_bifrost_source_case_counts: "the US", "the us";
    maximhq_bifrost_source_a_last_space_counts: "the US", "the US ";
}

/// The key had the model that was asked for, not the one that was sent.
#[test]
fn lunargate_ai_gateway_2_the_model_that_is_sent_counts() {
    let mut call = Call::post(CHAT, chat("a"));
    let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
    let asked = keyer.key(&call, &Scope::default(), &[]).unwrap();
    call.set_model("n").unwrap();
    assert!(keyer.key(&call, &Scope::default(), &[]).unwrap() != asked);
}

/// Parts of the key were joined without a delimiter.
#[test]
fn hkuds_lightrag_3392_texts_joined_elsewhere_do_not_meet() {
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"{a}"}},{{"role":"user","content":"{b}"}}]}}"#
        )
    };
    apart(CHAT, &two("ab", "c"), &two("a", "bc"));
}

/// What a message answers was not hashed.
#[test]
fn tokenmiser_source_the_call_a_tool_answers_counts() {
    let result = |id: &str| {
        format!(r#"{{"model":"m","messages":[{{"role":"tool","tool_call_id":"{id}","content":"1"}}]}}"#)
    };
    apart(CHAT, &result("a"), &result("b"));
}

/// The provider was not in the key.
#[test]
fn genblaze_68_another_provider_is_another_question() {
    assert!(key(CHAT, &chat("a")) != key("https://api.groq.com/openai/v1/chat/completions", &chat("a")));
}

/// The same.
#[test]
fn nightscout_nocturne_321_another_port_is_another_question() {
    let at = |port| key(&format!("http://localhost:{port}/v1/chat/completions"), &chat("a"));
    assert!(at(8_001) != at(8_002));
}

/// The same.
#[test]
fn miruamel_xingyu_129_another_base_path_is_another_question() {
    let at = |base| key(&format!("https://gw.example/{base}/v1/chat/completions"), &chat("a"));
    assert!(at("a") != at("b"));
}

/// One key served several routes.
#[test]
fn nomadamas_k_skill_151_the_route_counts() {
    assert!(
        key("https://gw.example/v1/completions", &chat("a"))
            != key("https://gw.example/v1/chat/completions", &chat("a"))
    );
}

/// Conversations of more than four messages were never cached, silently.
#[test]
fn berriai_litellm_source_a_long_conversation_has_a_key() {
    let messages: Vec<String> = (0..500).map(|n| format!(r#"{{"role":"user","content":"{n}"}}"#)).collect();
    let body = |messages: &[String]| format!(r#"{{"model":"m","messages":[{}]}}"#, messages.join(","));
    apart(CHAT, &body(&messages), &body(&messages[..499]));
}

/// Members came in the order of a map, another one each time, and each order had a hash of its own.
fn a_thousand_orders_have_one_key(member: &str) {
    let names: Vec<String> = (0..6).map(|n| format!("\"{member}{n}\":{n}")).collect();
    let body = |turn: usize| {
        let (mut names, mut seed) = (names.clone(), turn);
        for at in (1..names.len()).rev() {
            names.swap(at, seed % (at + 1));
            seed /= at + 1;
        }
        format!(r#"{{"model":"m","messages":[],{}}}"#, names.join(","))
    };
    let first = key(CHAT, &body(0));
    assert!(
        (1..1_000).all(|turn| key(CHAT, &body(turn)) == first),
        "an order of members has a key of its own"
    );
}

#[test]
fn maximhq_bifrost_2791_the_order_of_members_changes_nothing() {
    a_thousand_orders_have_one_key("a");
}

/// For names that need an escape.
#[test]
fn maximhq_bifrost_2912_the_order_of_escaped_members_changes_nothing() {
    a_thousand_orders_have_one_key(r"\u00e9");
}

/// For names beyond the basic plane, whose order differs between UTF-8 and UTF-16.
#[test]
fn maximhq_bifrost_3190_the_order_of_far_members_changes_nothing() {
    a_thousand_orders_have_one_key("\u{1F600}");
}

/// A request could say who shares its answers. No member of a body and no header does here.
fn nothing_in_a_request_widens_its_scope(member: &str, value: &str) {
    let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
    let of = |credential: &'static str| {
        let body = format!(r#"{{"model":"m","messages":[],"{member}":"{value}"}}"#);
        let mut call = Call::post(CHAT, body);
        call.parts.headers.insert("authorization", credential.parse().unwrap());
        call.parts.headers.insert("x-cache-scope", "shared".parse().unwrap());
        keyer.key(&call, &Scope::default(), &[]).unwrap()
    };
    assert!(of("Bearer a") != of("Bearer b"), "`{member}` brought two credentials together");
}

/// A semantic cache was shared by all.
#[test]
fn wso2_api_platform_733_a_request_cannot_share_by_a_member() {
    nothing_in_a_request_widens_its_scope("scope", "shared");
}

/// A request could lower the floor of similarity.
#[test]
fn maximhq_bifrost_6101_a_request_cannot_loosen_the_match() {
    nothing_in_a_request_widens_its_scope("cache_threshold", "0");
}

/// A request could name the key.
#[test]
fn maximhq_bifrost_5769_a_request_cannot_name_its_key() {
    nothing_in_a_request_widens_its_scope("cache_key", "k");
}

fn whole(text: &str) -> String {
    format!(
        r#"{{"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#
    )
}

/// The key stood in a header, and was the same for two teams.
#[tokio::test]
async fn berriai_litellm_29955_no_header_shows_a_key() {
    let layer = CacheLayer::builder().secret(Secret::from_bytes([7; 32])).build().unwrap();
    let inner = service_fn(|_: Call| async { Ok::<_, BoxError>(Reply::new(ReplyBody::from(whole("a")))) });
    let bytes = *key(CHAT, &chat("a")).as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    for _ in 0..2 {
        let reply = layer.layer(inner).oneshot(Call::post(CHAT, chat("a"))).await.unwrap();
        let headers = format!("{:?}", reply.headers());
        assert!(headers.contains("thrifty; "), "{headers}");
        assert!(!headers.contains(&hex[..16]) && !headers.contains("key="), "{headers}");
    }
}

/// Tokens and money were counted again on a hit.
#[tokio::test]
async fn berriai_litellm_39057_a_hit_is_not_sent_and_so_not_counted_below() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let inner = service_fn(move |_: Call| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, BoxError>(Reply::new(ReplyBody::from(whole("a")))) }
    });
    let layer = CacheLayer::in_memory();
    for _ in 0..5 {
        layer.layer(inner.clone()).oneshot(Call::post(CHAT, chat("a"))).await.unwrap();
    }
    assert_eq!(
        sent.load(Ordering::SeqCst),
        1,
        "budgets stand below the cache, and saw more than what was paid"
    );
}

/// Eviction came to a halt when keys were used again and again.
#[tokio::test]
async fn moka_rs_moka_590_keys_used_again_and_again_stay_within_the_bound() {
    let layer = CacheLayer::builder().memory_bytes(1 << 20).build().unwrap();
    let body = whole(&"a".repeat(4_000));
    let inner = service_fn(move |_: Call| {
        let body = body.clone();
        async move { Ok::<_, BoxError>(Reply::new(ReplyBody::from(body))) }
    });
    for n in 0..4_000 {
        // Nine of ten calls come back to one of fifty questions, the others are new.
        let question = if n % 10 == 0 { n } else { n % 50 };
        layer.layer(inner.clone()).oneshot(Call::post(CHAT, chat(&question.to_string()))).await.unwrap();
    }
    let stats = layer.handle().stats();
    assert!(stats.store.memory_bytes <= 1 << 20, "{stats:?}");
    assert!(stats.memory_hits > 1_000, "what is asked again and again is served: {stats:?}");
}

/// Those who waited for a call ran in a busy loop.
#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn joshrotenberg_tower_resilience_161_waiters_sleep() {
    let polls = Arc::new(AtomicUsize::new(0));
    let inner = service_fn(|_: Call| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, BoxError>(Reply::new(ReplyBody::from(whole("a"))))
    });
    let layer = CacheLayer::in_memory();
    let waiters: Vec<_> = (0..1_000)
        .map(|_| {
            let polls = polls.clone();
            let mut call = Box::pin(layer.layer(inner).oneshot(Call::post(CHAT, chat("a"))));
            tokio::spawn(std::future::poll_fn(move |cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                call.as_mut().poll(cx).map(|reply| reply.is_ok())
            }))
        })
        .collect();
    for waiter in waiters {
        assert!(waiter.await.unwrap());
    }
    let polls = polls.load(Ordering::Relaxed);
    assert!(polls <= 10_000, "1,000 waiters were polled {polls} times in a second of waiting");
}

/// An answer that was stored anew kept the time to live of the old one.
#[tokio::test]
async fn berriai_litellm_source_a_new_answer_has_a_life_of_its_own() {
    let clock = ManualClock::at_ms(1_795_000_000_000);
    let layer = CacheLayer::builder().clock(clock.clone()).ttl(Duration::from_secs(100)).build().unwrap();
    let handle = layer.handle();
    let call = || Call::post(CHAT, chat("a"));
    let short = call().with(Options::new().ttl(Duration::from_secs(10)));
    handle.put(&short, Reply::new(ReplyBody::from(whole("a")))).await.unwrap();
    clock.advance(Duration::from_secs(9));
    handle.put(&call(), Reply::new(ReplyBody::from(whole("b")))).await.unwrap();
    clock.advance(Duration::from_secs(99));
    assert!(handle.get(&call()).await.is_some(), "it died with the one before it");
    clock.advance(Duration::from_secs(1));
    assert!(handle.get(&call()).await.is_none());
}
