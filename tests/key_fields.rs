//! Every documented field of every format is in the cache key, except those that are written down as left out.
//!
//! Fields whose presence means that a call is not cached at all have no key; `dialects.rs` has these. What is within
//! messages is in `key_messages.rs`.

use thrifty::cache::{CacheKey, Keyer, Secret};
use thrifty::call::{Call, Dialect, Scope};

fn key(uri: &str, body: &str) -> CacheKey {
    let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
    let call = Call::post(uri, body.to_owned());
    keyer.key(&call, &Scope::default(), &[]).unwrap_or_else(|why| panic!("{why}: {uri} {body}"))
}

/// A body of these members and one more, in front of those of the same name.
fn with(base: &[(&str, &str)], name: &str, value: &str) -> String {
    let kept = base.iter().filter(|(have, _)| *have != name).copied();
    let members: Vec<String> =
        kept.chain([(name, value)]).map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

struct Walk {
    dialect: Dialect,
    uri: &'static str,
    base: &'static [(&'static str, &'static str)],
    /// Each value, and each absence, is another answer.
    counts: &'static [(&'static str, &'static [&'static str])],
    /// These say nothing about the answer.
    left_out: &'static [(&'static str, &'static str)],
}

const CHAT: Walk = Walk {
    dialect: Dialect::OpenAiChat,
    uri: "https://api.openai.com/v1/chat/completions",
    base: &[("model", r#""m""#), ("messages", r#"[{"role":"user","content":"hi"}]"#)],
    counts: &[
        ("model", &[r#""n""#, r#""M""#]),
        ("messages", &[r#"[{"role":"user","content":"ho"}]"#, "[]"]),
        (
            "tools",
            &[
                "[]",
                r#"[{"type":"function","function":{"name":"f"}}]"#,
                r#"[{"type":"function","function":{"name":"g"}}]"#,
                r#"[{"type":"function","function":{"name":"f","description":"d"}}]"#,
                r#"[{"type":"function","function":{"name":"f","strict":true}}]"#,
                r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#,
                r#"[{"type":"function","function":{"name":"f","parameters":{"required":["a"]}}}]"#,
                r#"[{"type":"custom","custom":{"name":"f"}}]"#,
                r#"[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]"#,
                r#"[{"type":"function","function":{"name":"g"}},{"type":"function","function":{"name":"f"}}]"#,
            ],
        ),
        ("functions", &[r#"[{"name":"f"}]"#, r#"[{"name":"g"}]"#]),
        ("tool_choice", &[r#""none""#, r#""required""#, r#"{"type":"function","function":{"name":"f"}}"#]),
        ("function_call", &[r#""none""#, r#"{"name":"f"}"#]),
        ("parallel_tool_calls", &["false", "true"]),
        (
            "response_format",
            &[
                r#"{"type":"json_object"}"#,
                r#"{"type":"json_schema","json_schema":{"name":"a","schema":{}}}"#,
                r#"{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object"}}}"#,
                r#"{"type":"json_schema","json_schema":{"name":"a","strict":true,"schema":{}}}"#,
            ],
        ),
        ("temperature", &["0", "1", "0.7", "0.70000001", "null"]),
        ("top_p", &["0", "0.5"]),
        ("n", &["1", "2"]),
        ("seed", &["1", "9007199254740992", "9007199254740993"]),
        ("stop", &[r#""a""#, r#"["a"]"#, r#"["a","b"]"#, r#"["b","a"]"#]),
        ("logit_bias", &[r#"{"1":1}"#, r#"{"2":1}"#, r#"{"1":2}"#]),
        ("presence_penalty", &["0", "1"]),
        ("frequency_penalty", &["0", "1"]),
        ("logprobs", &["true", "false"]),
        ("top_logprobs", &["0", "2"]),
        ("max_tokens", &["64", "65"]),
        ("max_completion_tokens", &["64", "65"]),
        ("reasoning_effort", &[r#""low""#, r#""high""#]),
        ("verbosity", &[r#""low""#]),
        ("modalities", &[r#"["text"]"#]),
        ("audio", &[r#"{"voice":"a"}"#, r#"{"voice":"b"}"#]),
        ("prediction", &[r#"{"type":"content","content":"a"}"#, r#"{"type":"content","content":"b"}"#]),
        ("moderation", &["{}"]),
        ("nobody_knows", &["1", "2", r#""1""#, "[1]", r#"{"a":1}"#]),
    ],
    left_out: &[
        ("stream", "true"),
        ("stream_options", r#"{"include_usage":true}"#),
        ("user", r#""u""#),
        ("safety_identifier", r#""s""#),
        ("metadata", r#"{"a":"b"}"#),
        ("prompt_cache_key", r#""k""#),
        ("prompt_cache_options", r#"{"mode":"explicit"}"#),
        ("prompt_cache_retention", r#""24h""#),
        ("service_tier", r#""flex""#),
        ("store", "false"),
    ],
};

const CLAUDE: Walk = Walk {
    dialect: Dialect::AnthropicMessages,
    uri: "https://api.anthropic.com/v1/messages",
    base: &[("model", r#""m""#), ("max_tokens", "64"), ("messages", r#"[{"role":"user","content":"hi"}]"#)],
    counts: &[
        ("model", &[r#""n""#]),
        ("messages", &[r#"[{"role":"user","content":"ho"}]"#]),
        ("max_tokens", &["65"]),
        (
            "system",
            &[r#""a""#, r#""b""#, r#"[{"type":"text","text":"a"}]"#, r#"[{"type":"text","text":"b"}]"#],
        ),
        (
            "tools",
            &[
                r#"[{"name":"f","input_schema":{}}]"#,
                r#"[{"name":"g","input_schema":{}}]"#,
                r#"[{"name":"f","description":"d","input_schema":{}}]"#,
                r#"[{"name":"f","input_schema":{"properties":{"cache_control":{}}}}]"#,
                r#"[{"type":"bash_20250124","name":"bash"}]"#,
            ],
        ),
        ("tool_choice", &[r#"{"type":"any"}"#, r#"{"type":"tool","name":"f"}"#]),
        ("stop_sequences", &[r#"["a"]"#, r#"["b"]"#]),
        (
            "thinking",
            &[
                r#"{"type":"disabled"}"#,
                r#"{"type":"adaptive"}"#,
                r#"{"type":"enabled","budget_tokens":1024}"#,
                r#"{"type":"enabled","budget_tokens":1025}"#,
            ],
        ),
        (
            "output_config",
            &[r#"{"effort":"low"}"#, r#"{"effort":"high"}"#, r#"{"format":{"type":"json_schema"}}"#],
        ),
        ("temperature", &["0", "1"]),
        ("top_p", &["0.5"]),
        ("top_k", &["1", "2"]),
        ("context_management", &[r#"{"edits":[]}"#]),
        ("nobody_knows", &["1"]),
    ],
    left_out: &[
        ("stream", "true"),
        ("metadata", r#"{"user_id":"u"}"#),
        ("service_tier", r#""auto""#),
        ("inference_geo", r#""us""#),
        ("speed", r#""fast""#),
        ("diagnostics", "{}"),
        ("cache_control", r#"{"type":"ephemeral"}"#),
    ],
};

const RESPONSES: Walk = Walk {
    dialect: Dialect::OpenAiResponses,
    uri: "https://api.openai.com/v1/responses",
    base: &[("model", r#""m""#), ("input", r#""hi""#)],
    counts: &[
        ("model", &[r#""n""#]),
        ("input", &[r#""ho""#, r#"[{"role":"user","content":"hi"}]"#, r#"[{"role":"user","content":"ho"}]"#]),
        ("instructions", &[r#""a""#, r#""b""#]),
        ("text", &[r#"{"verbosity":"low"}"#, r#"{"format":{"type":"json_object"}}"#]),
        ("reasoning", &[r#"{"effort":"low"}"#, r#"{"effort":"high"}"#, r#"{"summary":"auto"}"#]),
        ("max_output_tokens", &["64", "65"]),
        ("max_tool_calls", &["1"]),
        ("include", &[r#"["reasoning.encrypted_content"]"#]),
        ("truncation", &[r#""auto""#]),
        ("tools", &[r#"[{"type":"function","name":"f"}]"#, r#"[{"type":"custom","name":"f"}]"#]),
        ("tool_choice", &[r#""none""#, r#""required""#]),
        ("parallel_tool_calls", &["false", "true"]),
        ("temperature", &["0", "1", "0.5"]),
        ("top_p", &["0.5"]),
        ("top_logprobs", &["2"]),
        ("moderation", &["{}"]),
        ("context_management", &[r#"[{"type":"compaction"}]"#]),
        ("image", &["{}"]),
        ("access_programs", &["[]"]),
        ("prompt", &[r#"{"id":"p","version":"1"}"#, r#"{"id":"p","version":"2"}"#]),
        ("background", &["false"]),
        ("nobody_knows", &["1"]),
    ],
    left_out: &[
        ("stream", "true"),
        ("stream_options", "{}"),
        ("user", r#""u""#),
        ("safety_identifier", r#""s""#),
        ("metadata", r#"{"a":"b"}"#),
        ("prompt_cache_key", r#""k""#),
        ("prompt_cache_options", r#"{"mode":"explicit"}"#),
        ("prompt_cache_retention", r#""24h""#),
        ("service_tier", r#""flex""#),
        ("store", "false"),
    ],
};

const GEMINI: Walk = Walk {
    dialect: Dialect::GeminiGenerate,
    uri: "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent",
    base: &[("contents", r#"[{"parts":[{"text":"hi"}]}]"#)],
    counts: &[
        (
            "contents",
            &[r#"[{"parts":[{"text":"ho"}]}]"#, r#"[{"parts":[{"text":"hi","thoughtSignature":"s"}]}]"#],
        ),
        ("systemInstruction", &[r#"{"parts":[{"text":"a"}]}"#]),
        ("tools", &[r#"[{"functionDeclarations":[{"name":"f"}]}]"#]),
        ("toolConfig", &[r#"{"functionCallingConfig":{"mode":"ANY"}}"#]),
        ("safetySettings", &[r#"[{"category":"c","threshold":"t"}]"#]),
        (
            "generationConfig",
            &[
                r#"{"temperature":0}"#,
                r#"{"topP":0.5}"#,
                r#"{"topK":5}"#,
                r#"{"candidateCount":2}"#,
                r#"{"maxOutputTokens":64}"#,
                r#"{"stopSequences":["x"]}"#,
                r#"{"seed":1}"#,
                r#"{"presencePenalty":1}"#,
                r#"{"frequencyPenalty":1}"#,
                r#"{"responseMimeType":"application/json"}"#,
                r#"{"responseSchema":{}}"#,
                r#"{"responseJsonSchema":{}}"#,
                r#"{"responseLogprobs":true}"#,
                r#"{"logprobs":1}"#,
                r#"{"responseModalities":["TEXT"]}"#,
                r#"{"mediaResolution":"LOW"}"#,
                r#"{"speechConfig":{}}"#,
                r#"{"imageConfig":{}}"#,
                r#"{"thinkingConfig":{"thinkingBudget":0}}"#,
                r#"{"thinkingConfig":{"thinkingLevel":"LOW"}}"#,
                r#"{"labels":{}}"#,
                r#"{"store":false}"#,
            ],
        ),
        ("modelArmorConfig", &["{}"]),
        ("cachedContent", &[r#""cachedContents/a""#]),
        ("nobodyKnows", &["1"]),
    ],
    left_out: &[("labels", r#"{"team":"a"}"#), ("serviceTier", r#""flex""#), ("store", "false")],
};

const OLLAMA_CHAT: Walk = Walk {
    dialect: Dialect::OllamaChat,
    uri: "http://127.0.0.1:11434/api/chat",
    base: &[("model", r#""m""#), ("messages", r#"[{"role":"user","content":"hi"}]"#)],
    counts: &[
        ("model", &[r#""m:1b""#]),
        (
            "messages",
            &[r#"[{"role":"user","content":"ho"}]"#, r#"[{"role":"user","content":"hi","images":["AAAA"]}]"#],
        ),
        ("format", &[r#""json""#, r#"{"type":"object"}"#]),
        ("think", &["true", r#""low""#]),
        ("tools", &[r#"[{"type":"function","function":{"name":"f"}}]"#]),
        ("truncate", &["false"]),
        ("shift", &["false"]),
        ("logprobs", &["true"]),
        ("top_logprobs", &["2"]),
        (
            "options",
            &[
                r#"{"num_ctx":4096}"#,
                r#"{"num_predict":9}"#,
                r#"{"seed":1}"#,
                r#"{"temperature":0}"#,
                r#"{"keep_alive":"5m"}"#,
            ],
        ),
        ("nobody_knows", &["1"]),
    ],
    left_out: &[("stream", "true"), ("keep_alive", r#""5m""#)],
};

const OLLAMA_GENERATE: Walk = Walk {
    dialect: Dialect::OllamaChat,
    uri: "http://127.0.0.1:11434/api/generate",
    base: &[("model", r#""m""#), ("prompt", r#""hi""#)],
    counts: &[
        ("prompt", &[r#""ho""#]),
        ("suffix", &[r#""x""#]),
        ("images", &[r#"["AAAA"]"#]),
        ("system", &[r#""a""#]),
        ("template", &[r#""t""#]),
        ("raw", &["true"]),
        ("context", &["[1,2]"]),
        ("width", &["8"]),
        ("height", &["8"]),
        ("steps", &["2"]),
    ],
    left_out: &[("stream", "true"), ("keep_alive", "0")],
};

const EMBEDDINGS: Walk = Walk {
    dialect: Dialect::Embeddings,
    uri: "https://api.openai.com/v1/embeddings",
    base: &[("model", r#""m""#), ("input", r#""hi""#)],
    counts: &[
        ("model", &[r#""n""#]),
        ("input", &[r#""ho""#, r#"["hi"]"#, "[1,2]", "[[1,2]]", r#"["hi","ho"]"#, r#"["ho","hi"]"#]),
        ("dimensions", &["2"]),
        ("encoding_format", &[r#""float""#, r#""base64""#]),
        ("input_type", &[r#""query""#]),
        ("task", &[r#""t""#]),
    ],
    left_out: &[("user", r#""u""#)],
};

const EMBEDDINGS_GEMINI: Walk = Walk {
    dialect: Dialect::Embeddings,
    uri: "https://generativelanguage.googleapis.com/v1beta/models/e:embedContent",
    base: &[("content", r#"{"parts":[{"text":"hi"}]}"#)],
    counts: &[
        ("content", &[r#"{"parts":[{"text":"ho"}]}"#]),
        ("taskType", &[r#""RETRIEVAL_QUERY""#]),
        ("title", &[r#""t""#]),
        ("outputDimensionality", &["2"]),
    ],
    left_out: &[],
};

const EMBEDDINGS_OLLAMA: Walk = Walk {
    dialect: Dialect::Embeddings,
    uri: "http://127.0.0.1:11434/api/embed",
    base: &[("model", r#""m""#), ("input", r#""hi""#)],
    counts: &[("dimensions", &["2"]), ("truncate", &["false"]), ("options", &[r#"{"num_ctx":8}"#])],
    left_out: &[("keep_alive", r#""5m""#)],
};

const ALL: [Walk; 9] = [
    CHAT,
    CLAUDE,
    RESPONSES,
    GEMINI,
    OLLAMA_CHAT,
    OLLAMA_GENERATE,
    EMBEDDINGS,
    EMBEDDINGS_GEMINI,
    EMBEDDINGS_OLLAMA,
];

#[test]
fn each_documented_field_changes_the_key_but_the_written_exclusions() {
    for Walk { dialect, uri, base, counts, left_out } in ALL {
        let body = with(base, base[0].0, base[0].1);
        assert_eq!(Call::post(uri, body.clone()).dialect, dialect, "{uri}");
        let plain = key(uri, &body);
        let mut seen = vec![(plain, body)];
        for (name, values) in counts {
            for value in *values {
                let body = with(base, name, value);
                let key = key(uri, &body);
                if let Some((_, twin)) = seen.iter().find(|(have, _)| *have == key) {
                    panic!("{uri}: one key for two calls:\n{twin}\n{body}");
                }
                seen.push((key, body));
            }
        }
        for (name, value) in left_out {
            assert!(key(uri, &with(base, name, value)) == plain, "{uri}: `{name}` does not count");
        }
    }
}

/// Both ways: a name that a format leaves out without a row here fails too.
#[test]
fn what_is_left_out_is_what_the_format_lists() {
    for dialect in Dialect::ALL {
        let of_it = ALL.iter().filter(|walk| walk.dialect == dialect);
        let rows: Vec<&str> = of_it.flat_map(|walk| walk.left_out).map(|(name, _)| *name).collect();
        let listed = dialect.format().excluded();
        for name in listed.iter().filter(|path| !path.contains('/')) {
            assert!(rows.contains(name), "{dialect:?} leaves out `{name}`, which has no row");
        }
        for name in rows {
            assert!(listed.contains(&name), "{dialect:?} does not list `{name}`");
        }
    }
}

/// The path names the model. The kind of answer it names too is no part of the key, except for a stream that is one
/// JSON array, which nothing is made of.
#[test]
fn a_model_in_the_path_is_in_the_key() {
    let body = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let of =
        |tail: &str| key(&format!("https://generativelanguage.googleapis.com/v1beta/models/{tail}"), body);
    let plain = of("m:generateContent");
    assert!(plain != of("n:generateContent"));
    assert!(plain == of("m:streamGenerateContent?alt=sse"), "one answer serves both");
    assert!(plain != of("m:streamGenerateContent"));
}

/// A name that is left out at its place counts everywhere else: in a tool's schema it is a property like any other.
#[test]
fn a_name_that_is_left_out_counts_elsewhere() {
    for (uri, one, other) in [
        (
            RESPONSES.uri,
            r#"{"model":"m","input":"hi","tools":[{"type":"function","name":"f","parameters":{"properties":{"user":{},"stream":{}}}}]}"#,
            r#"{"model":"m","input":"hi","tools":[{"type":"function","name":"f","parameters":{"properties":{"stream":{}}}}]}"#,
        ),
        (
            RESPONSES.uri,
            r#"{"model":"m","input":[{"role":"user","content":"hi","metadata":{"a":"b"}}]}"#,
            r#"{"model":"m","input":[{"role":"user","content":"hi"}]}"#,
        ),
        (
            OLLAMA_CHAT.uri,
            r#"{"model":"m","messages":[{"role":"user","content":"hi","stream":true}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
        ),
    ] {
        assert!(key(uri, one) != key(uri, other), "{one}");
    }
    let mark = |mark: &str| {
        key(
            RESPONSES.uri,
            &format!(
                r#"{{"model":"m","input":[{{"role":"user","content":[{{"type":"input_text","text":"hi"{mark}}}]}},
            {{"type":"function_call_output","call_id":"c","output":[{{"type":"input_text","text":"hi"{mark}}}]}}]}}"#
            ),
        )
    };
    assert!(mark("") == mark(r#","prompt_cache_breakpoint":{}"#), "a mark on a part does not count");
}
