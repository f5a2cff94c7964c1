//! What a key has to hold: each fault here gave one answer to two questions, or none to a question asked before.

use thrifty::cache::Bypass;
use thrifty::call::{Call, Dialect, Scope};

use super::support::*;

mod berriai_litellm {
    use super::*;

    counts! {
        /// A provider's own parameters were not in the key.
        berriai_litellm_42400_a_providers_own_parameter_counts in None =>
            [r#""reasoning_split":true"#, r#""reasoning_split":false"#, r#""x_vendor":{"a":1}"#];
        /// `top_k` was not in the key.
        berriai_litellm_5049_top_k_counts in None => [r#""top_k":1"#, r#""top_k":2"#];
        /// Only the messages were in the key.
        berriai_litellm_894_more_than_the_messages_counts in None =>
            [r#""stop":["a"]"#, r#""stop":["b"]"#, r#""n":2"#, r#""seed":1"#, r#""logit_bias":{"1":1}"#];
        /// Members of the Responses API were not in the key.
        berriai_litellm_25673_members_of_responses_count in Some(RESPONSES) =>
            [r#""instructions":"x""#, r#""instructions":"y""#, r#""reasoning":{"effort":"low"}"#,
             r#""text":{"verbosity":"low"}"#, r#""truncation":"auto""#];
    }

    differ! {
        /// An answer to a near match was served.
        berriai_litellm_12234_one_token_apart_is_another_question: "Book a flight to Rome.", "Book a flight from Rome.";
        /// A question in another language was taken for the same.
        berriai_litellm_6954_another_language_is_another_question: "The capital of Peru?", "Die Hauptstadt von Peru?";
        /// Two questions of the same words were taken for one.
        berriai_litellm_31610_the_other_order_is_another_question: "Translate A to B.", "Translate B to A.";
    }

    /// The key depended on the order of arguments.
    #[test]
    fn berriai_litellm_the_order_of_members_changes_nothing() {
        let turned = r#"{"messages":[{"content":"hi","role":"user"}],"model":"m"}"#;
        alike(CHAT, &chat("hi"), turned);
    }

    /// Conversations of more than four messages were never cached, silently.
    #[tokio::test]
    async fn berriai_litellm_a_conversation_of_500_messages_is_a_hit() {
        let bench = Bench::counting(std::time::Duration::ZERO);
        let messages: Vec<String> =
            (0..500).map(|n| format!(r#"{{"role":"user","content":"{n}"}}"#)).collect();
        let of = |n: usize| {
            Call::post(CHAT, format!(r#"{{"model":"m","messages":[{}]}}"#, messages[..n].join(",")))
        };
        let said = [bench.text(of(500)).await, bench.text(of(500)).await, bench.text(of(499)).await];
        assert_eq!(said, ["0", "0", "1"], "a long conversation is a hit, a shorter one another");
    }
}

mod theopenco_llmgateway {
    use super::*;

    counts! {
        /// Verbosity, effort, image settings, plugins and others were not in the key.
        theopenco_llmgateway_3901_nested_settings_count in None =>
            [r#""verbosity":"low""#, r#""reasoning_effort":"low""#, r#""reasoning":{"effort":"low"}"#,
             r#""reasoning":{"effort":"high"}"#, r#""image_config":{"size":"1"}"#, r#""image_config":{"size":"2"}"#];
    }

    /// What plugins do is not in the request, so that calls with some are not cached at all.
    #[test]
    fn theopenco_llmgateway_3901_plugins_pass_by() {
        let call = Call::post(CHAT, chat("hi").replacen('{', r#"{"plugins":[{"id":"a"}],"#, 1));
        assert_eq!(keyer().key(&call, &Scope::default(), &[]), Err(Bypass("plugins")));
    }
}

mod majiayu000_litellm_rs {
    use super::*;

    counts! {
        /// `parallel_tool_calls`, `prediction`, `safety_settings`, `extra_body` and others were not in the key.
        majiayu000_litellm_rs_505_settings_that_steer_count in None =>
            [r#""parallel_tool_calls":true"#, r#""parallel_tool_calls":false"#, r#""prediction":{"content":"a"}"#,
             r#""prediction":{"content":"b"}"#, r#""safety_settings":[{"threshold":"a"}]"#, r#""extra_body":{"a":1}"#];
    }

    /// `cache_control` was not in the key either. At its own places it changes the price alone, and is left out on
    /// purpose; anywhere else it counts.
    #[test]
    fn majiayu000_litellm_rs_505_cache_control_is_left_out_at_its_own_places_only() {
        let body = |part: &str, schema: &str| {
            format!(
                r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":[{{"type":"text","text":"hi"{part}}}]}}],
                "tools":[{{"name":"f","input_schema":{{"properties":{{{schema}}}}}}}]}}"#
            )
        };
        alike(CLAUDE, &body("", ""), &body(r#","cache_control":{"type":"ephemeral"}"#, ""));
        apart(CLAUDE, &body("", ""), &body("", r#""cache_control":{"type":"string"}"#));
    }
}

mod lunargate_ai_gateway {
    use super::*;

    /// The key was made of a list by hand, with the model that was asked for and not the one that was sent.
    #[test]
    fn lunargate_ai_gateway_2_the_model_that_is_sent_counts() {
        let mut call = ask("a");
        let asked = keyer().key(&call, &Scope::default(), &[]).unwrap();
        call.set_model("n").unwrap();
        assert!(keyer().key(&call, &Scope::default(), &[]).unwrap() != asked, "two models share an answer");
        let kept = Call::post(CHAT, chat("a").replacen('{', r#"{"store":true,"#, 1));
        assert_eq!(keyer().key(&kept, &Scope::default(), &[]), Err(Bypass("store-true")));
    }
}

mod continuum_ai_corp_orcarouter_lite {
    use super::*;

    counts! {
        /// The output limit was not in the key, and an absent temperature was that of 0.
        continuum_ai_corp_orcarouter_lite_84_absent_is_not_zero in Some(CHAT) =>
            [r#""temperature":0"#, r#""temperature":1"#, r#""max_tokens":0"#, r#""max_tokens":1"#];
    }
}

mod headroomlabs_ai_headroom {
    use super::*;

    counts! {
        /// System prompt, tools and sampling were not in the key.
        headroomlabs_ai_headroom_1473_system_tools_and_sampling_count in Some(CLAUDE) =>
            [r#""system":"a""#, r#""system":"b""#, r#""tools":[{"name":"f"}]"#, r#""tools":[{"name":"g"}]"#,
             r#""temperature":0"#, r#""top_p":0.5"#, r#""top_k":5"#];
    }

    /// An exclusion by name at any depth took a property out of a tool's schema.
    #[test]
    fn headroomlabs_ai_headroom_3345_a_property_of_an_excluded_name_counts() {
        for (url, before, after) in [
            (CHAT, r#"{"type":"function","function":{"name":"f","parameters":{"properties":"#, "}}}"),
            (RESPONSES, r#"{"type":"function","name":"f","parameters":{"properties":"#, "}}"),
            (CLAUDE, r#"{"name":"f","input_schema":{"properties":"#, "}}"),
            (OLLAMA, r#"{"type":"function","function":{"name":"f","parameters":{"properties":"#, "}}}"),
            (GEMINI, r#"{"functionDeclarations":[{"name":"f","parameters":{"properties":"#, "}}]}"),
        ] {
            let properties =
                ["", "stream", "user", "metadata", "cache_control", "store", "labels", "keep_alive"];
            let tools = properties.map(|name| match name {
                "" => format!(r#""tools":[{before}{{}}{after}]"#),
                _ => format!(r#""tools":[{before}{{"{name}":{{}}}}{after}]"#),
            });
            each_counts(Some(url), &tools.each_ref().map(String::as_str));
        }
    }
}

mod microsoft_autogen {
    use super::*;

    counts! {
        /// `tool_choice` was not in the key.
        microsoft_autogen_8211_the_tool_choice_counts in Some(CHAT) =>
            [r#""tool_choice":"auto""#, r#""tool_choice":"none""#,
             r#""tool_choice":{"type":"function","function":{"name":"f"}}"#];
    }
}

mod agno_agi_agno {
    use super::*;

    counts! {
        /// Of the tools only whether there are any was in the key.
        agno_agi_agno_10138_a_tools_schema_counts in Some(CHAT) =>
            [r#""tools":[{"type":"function","function":{"name":"f"}}]"#,
             r#""tools":[{"type":"function","function":{"name":"g"}}]"#,
             r#""tools":[{"type":"function","function":{"name":"f","description":"d"}}]"#,
             r#""tools":[{"type":"function","function":{"name":"f","parameters":{"required":["a"]}}}]"#];
    }
}

mod genblaze {
    use super::*;

    /// The provider was not in the key.
    #[test]
    fn genblaze_68_another_provider_is_another_question() {
        let there = "https://api.groq.com/openai/v1/chat/completions";
        assert!(key(CHAT, &chat("a")) != key(there, &chat("a")), "two providers share an answer");
    }
}

mod nightscout_nocturne {
    use super::*;

    /// Fields of where a call goes were not in the key.
    #[test]
    fn nightscout_nocturne_321_another_port_is_another_question() {
        let at = |port| key(&format!("http://localhost:{port}/v1/chat/completions"), &chat("a"));
        assert!(at(8_001) != at(8_002), "two servers share an answer");
    }
}

mod miruamel_xingyu {
    use super::*;

    /// The provider behind a gateway was not in the key.
    #[test]
    fn miruamel_xingyu_129_another_base_path_is_another_question() {
        let at = |base| key(&format!("https://gw.example/{base}/v1/chat/completions"), &chat("a"));
        assert!(at("a") != at("b"), "two routes of a gateway share an answer");
    }
}

mod eleutherai_lm_evaluation_harness {
    counts! {
        /// Settings of the generation were no part of an answer's identity.
        eleutherai_lm_evaluation_harness_3881_penalties_and_stops_count in None =>
            [r#""presence_penalty":0"#, r#""presence_penalty":1"#, r#""frequency_penalty":1"#, r#""until":["\n"]"#];
        /// The same once more, for sampling.
        eleutherai_lm_evaluation_harness_3897_sampling_counts in None =>
            [r#""seed":1"#, r#""seed":2"#, r#""temperature":0"#, r#""temperature":0.7"#, r#""do_sample":true"#];
    }
}

mod hkuds_lightrag {
    use super::*;

    fn two(a: &str, b: &str) -> String {
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"{a}"}},{{"role":"user","content":"{b}"}}]}}"#
        )
    }

    /// Parts of the key were joined without a delimiter.
    #[test]
    fn hkuds_lightrag_3392_texts_joined_elsewhere_do_not_meet() {
        apart(CHAT, &two("ab", "c"), &two("a", "bc"));
        apart(CHAT, &two("abc", ""), &two("", "abc"));
        apart(CHAT, &two("ab", "c"), &chat("abc"));
    }

    /// A delimiter was put between the parts that a part may hold itself.
    #[test]
    fn hkuds_lightrag_3435_a_text_that_holds_a_delimiter_does_not_meet_two() {
        for delimiter in ["\\n", ":", "|", "\\u0000", "\\\",\\\""] {
            let (one, other) = (two(&format!("a{delimiter}b"), "c"), two("a", &format!("b{delimiter}c")));
            apart(CHAT, &one, &other);
        }
    }
}

mod zilliztech_gptcache {
    differ! {
        /// An answer to the opposite was served.
        zilliztech_gptcache_388_a_negation_is_another_question: "Is it safe?", "Is it not safe?";
        /// An answer with another number was served.
        zilliztech_gptcache_435_another_number_is_another_question: "Multiply 3 by 11.", "Multiply 3 by 12.";
        /// An answer about somebody else was served.
        zilliztech_gptcache_612_another_name_is_another_question: "Who is Ann?", "Who is Bob?";
        /// An answer to a part of the question was served.
        zilliztech_gptcache_651_a_longer_question_is_another_one: "List the planets", "List the planets and their moons";
    }
}

mod vllm_project_semantic_router {
    differ! {
        /// An answer to the opposite was served.
        vllm_project_semantic_router_1581_an_opposite_is_another_question: "Light on.", "Light off.";
    }
}

mod maximhq_bifrost {
    use super::*;

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
        let strange = (1..1_000).find(|turn| key(CHAT, &body(*turn)) != first);
        assert_eq!(strange, None, "an order of members has a key of its own");
    }

    /// The order of a map changed the hash, and nothing was ever a hit.
    #[test]
    fn maximhq_bifrost_2791_the_order_of_members_changes_nothing() {
        a_thousand_orders_have_one_key("a");
    }

    /// The same, for names that need an escape.
    #[test]
    fn maximhq_bifrost_2912_the_order_of_escaped_members_changes_nothing() {
        a_thousand_orders_have_one_key(r"\u00e9");
    }

    /// The same, for names beyond the basic plane, whose order differs between UTF-8 and UTF-16.
    #[test]
    fn maximhq_bifrost_3190_the_order_of_far_members_changes_nothing() {
        a_thousand_orders_have_one_key("\u{1F600}");
    }

    differ! {
        /// Texts were lower-cased.
        maximhq_bifrost_case_counts: "the US", "the us";
        /// Texts were trimmed.
        maximhq_bifrost_a_last_space_counts: "the US", "the US ";
    }
}

mod ukgovernmentbeis_inspect_ai {
    use super::*;

    fn with_id(id: &str) -> String {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi","id":"{id}"}}]}}"#)
    }

    /// A client made up an id for each message, which was in the key, so that nothing was ever a hit. Nobody can tell
    /// such an id from one that matters, so by default it counts: a miss, and never a wrong answer.
    #[test]
    fn ukgovernmentbeis_inspect_ai_1481_an_unknown_member_of_a_message_counts_by_default() {
        apart(CHAT, &with_id("a"), &with_id("b"));
        alike(CHAT, &with_id("a"), &with_id("a"));
    }
}

mod helicone_helicone {
    use super::*;

    /// A body that has this member at this path, and one that has not.
    fn at(path: &str, leaf: &str) -> String {
        path.rsplit('/').fold(leaf.to_owned(), |inner, name| match name {
            "*" => format!("[{inner}]"),
            _ if inner.is_empty() => r#"{"type":"text"}"#.to_owned(),
            _ => format!(r#"{{"type":"text","{name}":{inner}}}"#),
        })
    }

    /// The names that a setting listed were not left out after all.
    #[test]
    fn helicone_helicone_5768_each_name_on_the_list_is_left_out() {
        let mut seen = 0;
        for dialect in Dialect::ALL {
            let excluded = dialect.format().excluded();
            let digest = |body: &str| thrifty::cache::digest(body.as_bytes(), excluded).unwrap();
            for path in excluded {
                let (without, one, other) = (at(path, ""), at(path, r#"{"a":1}"#), at(path, r#""b""#));
                assert_eq!(digest(&without), digest(&one), "{dialect:?}: {path} counts: {one}");
                assert_eq!(digest(&one), digest(&other), "{dialect:?}: {path} counts: {other}");
                let beside = at(&format!("{path}_"), "1");
                assert_ne!(digest(&without), digest(&beside), "{dialect:?}: {beside} does not count");
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen}");
    }
}

mod tokenmiser {
    use super::*;

    counts! {
        /// Temperatures were put into buckets.
        tokenmiser_temperatures_are_not_rounded in None => [r#""temperature":0.00"#, r#""temperature":0.04"#];
        /// `logprobs` was not in the key.
        tokenmiser_logprobs_count in None => [r#""logprobs":true"#, r#""logprobs":false"#, r#""top_logprobs":2"#];
    }

    /// Of a message only role and text were hashed: not its tool calls, not what it answers, not its name.
    #[test]
    fn tokenmiser_each_member_of_a_message_counts() {
        let members = [
            r#""content":"hi""#,
            r#""content":"hi","tool_call_id":"a""#,
            r#""content":"hi","tool_call_id":"b""#,
            r#""content":"hi","name":"ann""#,
            r#""content":"hi","name":"bob""#,
            r#""content":"hi","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]"#,
            r#""content":"hi","tool_calls":[{"id":"1","type":"function","function":{"name":"g","arguments":"{}"}}]"#,
            r#""content":"hi","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{ }"}}]"#,
        ]
        .map(|members| format!(r#"{{"model":"m","messages":[{{"role":"assistant",{members}}}]}}"#));
        for (n, one) in members.iter().enumerate() {
            members[n + 1..].iter().for_each(|other| apart(CHAT, one, other));
        }
    }
}

mod helicone_ai_gateway {
    use super::*;

    /// The key was a hash of 64 bits without a secret.
    #[test]
    fn helicone_ai_gateway_a_key_has_256_bits_and_a_secret() {
        let call = ask("hi");
        let other = thrifty::cache::Keyer::new(&thrifty::cache::Secret::from_bytes([8; 32]));
        let (mine, theirs) = (key(CHAT, &chat("hi")), other.key(&call, &Scope::default(), &[]).unwrap());
        assert_eq!(mine.as_bytes().len() * 8, 256);
        let same = mine.as_bytes().iter().zip(theirs.as_bytes()).filter(|(a, b)| a == b).count();
        assert!(same < 8, "{same} of 32 bytes do not depend on the secret");
    }

    /// The key was of the raw bytes.
    #[test]
    fn helicone_ai_gateway_white_space_changes_nothing() {
        alike(CHAT, &chat("hi"), &chat("hi").replace(':', " :\n ").replace(',', "\t,"));
    }
}
