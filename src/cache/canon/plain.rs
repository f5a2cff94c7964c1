//! Is this body certainly one whose answer depends on the request alone?
//!
//! A format's [`bypass`](crate::dialect::Format::bypass) looks for tools the provider runs and for content that is
//! kept elsewhere, and reads the whole prompt for it. Most bodies consist of names that have nothing to do with either;
//! those are told from the tape at hand, in one run over it. Anything not listed here makes the format look for itself,
//! so a list that lacks a name costs time and never an answer.

use std::sync::OnceLock;

use super::tape::{Kind, Tape};
use crate::call::Dialect;

/// What bodies of one format may consist of and still be plain.
struct Lists {
    names: &'static [&'static str],
    /// Values of members called `type`.
    types: &'static [&'static str],
    /// Names of members whose value belongs to the caller: schemas, arguments, results.
    closed: &'static [&'static str],
    /// A tool without a `type` may be anything.
    typed_tools: bool,
    /// What has the type `function` or `custom` is one only with a member of that name.
    named_kinds: bool,
}

const CHAT: Lists = Lists {
    names: &[
        "arguments",
        "cache_control",
        "content",
        "custom",
        "description",
        "detail",
        "effort",
        "frequency_penalty",
        "function",
        "id",
        "include_obfuscation",
        "include_usage",
        "input",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "min_p",
        "model",
        "n",
        "name",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning",
        "reasoning_content",
        "reasoning_effort",
        "refusal",
        "repetition_penalty",
        "role",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "stream",
        "stream_options",
        "strict",
        "temperature",
        "text",
        "thinking",
        "tool_call_id",
        "tool_calls",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "ttl",
        "type",
        "user",
        "verbosity",
    ],
    types: &[
        "custom",
        "disabled",
        "enabled",
        "ephemeral",
        "function",
        "json_object",
        "json_schema",
        "refusal",
        "text",
    ],
    closed: &["json_schema", "logit_bias", "metadata", "parameters", "response_format"],
    typed_tools: true,
    named_kinds: true,
};

const RESPONSES: Lists = Lists {
    names: &[
        "arguments",
        "call_id",
        "content",
        "description",
        "effort",
        "encrypted_content",
        "id",
        "include",
        "include_obfuscation",
        "input",
        "instructions",
        "logprobs",
        "max_output_tokens",
        "model",
        "name",
        "output",
        "parallel_tool_calls",
        "phase",
        "prompt_cache_key",
        "reasoning",
        "refusal",
        "role",
        "safety_identifier",
        "service_tier",
        "status",
        "stream",
        "stream_options",
        "strict",
        "summary",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "type",
        "user",
        "verbosity",
    ],
    types: &[
        "custom",
        "custom_tool_call",
        "custom_tool_call_output",
        "function",
        "function_call",
        "function_call_output",
        "input_text",
        "json_object",
        "json_schema",
        "message",
        "output_text",
        "reasoning",
        "refusal",
        "summary_text",
        "reasoning_text",
        "text",
    ],
    closed: &["format", "metadata", "parameters"],
    typed_tools: true,
    named_kinds: false,
};

const ANTHROPIC: Lists = Lists {
    names: &[
        "budget_tokens",
        "cache_control",
        "content",
        "data",
        "description",
        "disable_parallel_tool_use",
        "effort",
        "id",
        "is_error",
        "max_tokens",
        "media_type",
        "messages",
        "model",
        "name",
        "output_config",
        "role",
        "service_tier",
        "signature",
        "source",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "text",
        "thinking",
        "tool_choice",
        "tool_use_id",
        "tools",
        "top_k",
        "top_p",
        "ttl",
        "type",
    ],
    types: &[
        "adaptive",
        "any",
        "auto",
        "base64",
        "custom",
        "disabled",
        "enabled",
        "ephemeral",
        "image",
        "none",
        "redacted_thinking",
        "text",
        "thinking",
        "tool",
        "tool_result",
        "tool_use",
    ],
    closed: &["format", "input", "input_schema", "metadata", "output_format"],
    typed_tools: false,
    named_kinds: false,
};

const GEMINI: Lists = Lists {
    names: &[
        "allowedFunctionNames",
        "candidateCount",
        "category",
        "contents",
        "data",
        "description",
        "frequencyPenalty",
        "functionCall",
        "functionCallingConfig",
        "functionDeclarations",
        "functionResponse",
        "generationConfig",
        "id",
        "includeThoughts",
        "inlineData",
        "maxOutputTokens",
        "mimeType",
        "mode",
        "model",
        "name",
        "parts",
        "presencePenalty",
        "responseMimeType",
        "role",
        "safetySettings",
        "seed",
        "stopSequences",
        "systemInstruction",
        "system_instruction",
        "temperature",
        "text",
        "thinkingBudget",
        "thinkingConfig",
        "thinkingLevel",
        "thought",
        "thoughtSignature",
        "threshold",
        "toolConfig",
        "tools",
        "topK",
        "topP",
    ],
    types: &[],
    closed: &[
        "args",
        "parameters",
        "parametersJsonSchema",
        "response",
        "responseJsonSchema",
        "responseSchema",
    ],
    typed_tools: false,
    named_kinds: false,
};

/// True if the format would find nothing in this body that speaks against a cached answer. False says nothing.
pub(in crate::cache) fn is_plain(tape: &Tape<'_>, dialect: Dialect) -> bool {
    static CHECKS: [OnceLock<Check>; 4] = [const { OnceLock::new() }; 4];
    let (at, lists) = match dialect {
        Dialect::OpenAiChat => (0, CHAT),
        Dialect::OpenAiResponses => (1, RESPONSES),
        Dialect::AnthropicMessages => (2, ANTHROPIC),
        Dialect::GeminiGenerate => (3, GEMINI),
        _ => return false,
    };
    CHECKS[at].get_or_init(|| Check::new(&lists)).is_plain(tape, 0)
}

struct Check {
    names: Words,
    types: Words,
    closed: Words,
    typed_tools: bool,
    named_kinds: bool,
}

impl Check {
    fn new(lists: &Lists) -> Self {
        Self {
            names: Words::new(lists.names),
            types: Words::new(lists.types),
            closed: Words::new(lists.closed),
            typed_tools: lists.typed_tools,
            named_kinds: lists.named_kinds,
        }
    }

    /// The tape is no deeper than its reader allows, so this is not either.
    fn is_plain(&self, tape: &Tape<'_>, at: usize) -> bool {
        let node = &tape.nodes[at];
        match node.kind {
            Kind::Array => items(tape, at).all(|item| self.is_plain(tape, item)),
            Kind::Object => self.is_plain_object(tape, at),
            _ => true,
        }
    }

    fn is_plain_object(&self, tape: &Tape<'_>, at: usize) -> bool {
        let mut kind: Option<&[u8]> = None;
        let (mut has_function, mut has_custom) = (false, false);
        for name in members(tape, at) {
            let (word, value) = (tape.bytes(&tape.nodes[name]), name + 1);
            if self.closed.has(word) {
                continue;
            }
            let holds = &tape.nodes[value];
            match word {
                b"type" => {
                    if holds.kind != Kind::Text || !self.types.has(tape.bytes(holds)) {
                        return false;
                    }
                    kind = Some(tape.bytes(holds));
                }
                // Zero asks for nothing but a warm prompt cache.
                b"max_tokens" if matches!(tape.bytes(holds), [b'1'..=b'9', ..]) => {}
                b"max_tokens" => return false,
                b"tools" if !self.are_plain_tools(tape, value) => return false,
                _ if !self.names.has(word) => return false,
                _ if !self.is_plain(tape, value) => return false,
                _ => {
                    has_function |= word == b"function" && holds.kind == Kind::Object;
                    has_custom |= word == b"custom" && holds.kind == Kind::Object;
                }
            }
        }
        match kind {
            Some(b"function") if self.named_kinds => has_function,
            Some(b"custom") if self.named_kinds => has_custom,
            _ => true,
        }
    }

    fn are_plain_tools(&self, tape: &Tape<'_>, at: usize) -> bool {
        tape.nodes[at].kind == Kind::Array
            && items(tape, at).all(|tool| {
                let typed = || members(tape, tool).any(|name| tape.bytes(&tape.nodes[name]) == b"type");
                tape.nodes[tool].kind == Kind::Object
                    && (!self.typed_tools || typed())
                    && self.is_plain(tape, tool)
            })
    }
}

/// Nodes of the items of the array at `at`.
fn items<'t>(tape: &'t Tape<'_>, at: usize) -> impl Iterator<Item = usize> + 't {
    let mut next = at + 1;
    (0..tape.nodes[at].len).map(move |_| {
        let after = tape.nodes[next].next as usize;
        std::mem::replace(&mut next, after)
    })
}

/// Nodes of the names of the object at `at`; their values follow them.
fn members<'t>(tape: &'t Tape<'_>, at: usize) -> impl Iterator<Item = usize> + 't {
    let mut next = at + 1;
    (0..tape.nodes[at].len).map(move |_| {
        let after = tape.nodes[next + 1].next as usize;
        std::mem::replace(&mut next, after)
    })
}

/// A few words, looked up by their length and ends.
struct Words {
    slots: [u8; Self::SLOTS],
    words: &'static [&'static str],
}

impl Words {
    const SLOTS: usize = 256;
    const NONE: u8 = u8::MAX;

    fn new(words: &'static [&'static str]) -> Self {
        let mut slots = [Self::NONE; Self::SLOTS];
        for (at, word) in words.iter().enumerate() {
            let mut slot = Self::slot(word.as_bytes());
            while slots[slot] != Self::NONE {
                slot = (slot + 1) % Self::SLOTS;
            }
            slots[slot] = at as u8;
        }
        Self { slots, words }
    }

    #[inline]
    fn slot(word: &[u8]) -> usize {
        let (first, last) = (word.first().copied().unwrap_or(0), word.last().copied().unwrap_or(0));
        let mixed = usize::from(first) * 31 + usize::from(last) * 7 + word.len() * 17;
        mixed % Self::SLOTS
    }

    #[inline]
    fn has(&self, word: &[u8]) -> bool {
        let mut slot = Self::slot(word);
        loop {
            match self.slots[slot] {
                Self::NONE => return false,
                at if self.words[usize::from(at)].as_bytes() == word => return true,
                _ => slot = (slot + 1) % Self::SLOTS,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::call::Call;

    const URLS: [&str; 4] = [
        "https://api.openai.com/v1/chat/completions",
        "https://api.openai.com/v1/responses",
        "https://api.anthropic.com/v1/messages",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
    ];

    fn plain(url: &str, body: &str) -> bool {
        let call = Call::post(url, body.to_owned());
        is_plain(&Tape::read(body.as_bytes()).expect("JSON"), call.dialect)
    }

    #[test]
    fn usual_bodies_are_told_without_reading_the_prompt() {
        for (url, body) in [
            (
                URLS[0],
                r#"{"model":"gpt-5-mini","temperature":0.2,"stream":true,"stream_options":{"include_usage":true},
                "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"url":{}}}}}],
                "messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"hi"}]},
                {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
                {"role":"tool","tool_call_id":"c","content":"12"}]}"#,
            ),
            (
                URLS[1],
                r#"{"model":"gpt-5","instructions":"Be brief.","max_output_tokens":64,"text":{"format":{"type":"json_schema","schema":{}}},
                "tools":[{"type":"function","name":"f","parameters":{}}],"input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]},
                {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"1"}]}"#,
            ),
            (
                URLS[2],
                r#"{"model":"claude-haiku-4-5","max_tokens":64,"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}],
                "tools":[{"name":"f","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":"hi"},
                {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"url":1}}]},
                {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"r"}]}]}"#,
            ),
            (
                URLS[3],
                r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"tools":[{"functionDeclarations":[{"name":"f","parameters":{}}]}],
                "generationConfig":{"maxOutputTokens":64}}"#,
            ),
        ] {
            assert!(plain(url, body), "{body}");
        }
    }

    #[test]
    fn what_may_depend_on_more_is_left_to_the_format() {
        for (url, body) in [
            (URLS[0], r#"{"tools":[{}]}"#),
            (URLS[0], r#"{"tools":[{"type":"function","name":"f"}]}"#),
            (URLS[0], r#"{"tools":{"type":"function"}}"#),
            (URLS[0], r#"{"st\u006fre":true}"#),
            (
                URLS[0],
                r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]}"#,
            ),
            (URLS[1], r#"{"input":[{"type":"item_reference","id":"i"}]}"#),
            (URLS[1], r#"{"tools":[{"name":"web_search"}]}"#),
            (URLS[2], r#"{"max_tokens":0}"#),
            (URLS[2], r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#),
            (URLS[2], r#"{"messages":[{"content":[{"type":"image","source":{"type":"url","url":"u"}}]}]}"#),
            (URLS[3], r#"{"tools":[{"googleSearch":{}}]}"#),
            (URLS[3], r#"{"cachedContent":"c"}"#),
            ("https://api.openai.com/v1/embeddings", r#"{"input":"x"}"#),
        ] {
            assert!(!plain(url, body), "{body}");
        }
    }

    const SUSPECTS: [&str; 24] = [
        "store",
        "image_url",
        "file",
        "file_id",
        "url",
        "fileData",
        "googleSearch",
        "container",
        "audio",
        "modalities",
        "web_search_options",
        "web_search",
        "item_reference",
        "previous_response_id",
        "computer_call_output",
        "document",
        "container_upload",
        "mcp_servers",
        "input_image",
        "prompt",
        "input_audio",
        "image",
        "conversation",
        "file_data",
    ];

    /// Values of the names and kinds that bodies have, put together at random.
    fn value() -> impl Strategy<Value = Value> {
        let words: Vec<&'static str> = [CHAT, RESPONSES, ANTHROPIC, GEMINI]
            .iter()
            .flat_map(|lists| lists.names.iter().chain(lists.types).chain(lists.closed))
            .copied()
            .chain(SUSPECTS)
            .collect();
        let leaf = prop_oneof![
            prop::sample::select(words.clone()).prop_map(Value::from),
            Just(Value::from("https://h/p")),
            Just(Value::from(1)),
            Just(Value::from(0)),
            Just(Value::Null),
            Just(Value::from(true)),
        ];
        let name = prop_oneof![
            2 => prop::sample::select(words),
            1 => prop::sample::select(vec!["type", "tools", "messages", "input", "contents", "content", "parts", "source"]),
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((name.clone(), inner), 0..5).prop_map(|members| {
                    Value::Object(
                        members
                            .into_iter()
                            .map(|(name, value)| (name.to_owned(), value))
                            .collect::<Map<_, _>>(),
                    )
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_plain_body_is_one_the_format_has_nothing_against(body in value(), url in prop::sample::select(URLS.to_vec())) {
            let text = match body {
                Value::Object(_) => body.to_string(),
                other => format!(r#"{{"messages":{other},"input":{other},"contents":{other}}}"#),
            };
            let call = Call::post(url, text.clone());
            if is_plain(&Tape::read(text.as_bytes()).expect("JSON"), call.dialect) {
                prop_assert_eq!(call.format().bypass(&call), None, "{}", text);
            }
        }
    }
}
