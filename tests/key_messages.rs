//! Every member of a message, a part and a tool's answer is in the cache key, except the provider's own cache marks.

use thrifty::cache::{CacheKey, Keyer, Secret};
use thrifty::call::{Call, Scope};

/// Bodies with one list in them, given what is in it.
struct Place {
    uri: &'static str,
    before: &'static str,
    after: &'static str,
    /// Each of these lists is another question.
    lists: &'static [&'static str],
}

const CHAT: Place = Place {
    uri: "https://api.openai.com/v1/chat/completions",
    before: r#"{"model":"m","messages":["#,
    after: "]}",
    lists: &[
        r#"{"role":"user","content":"hi"}"#,
        r#"{"role":"user","content":"Hi"}"#,
        r#"{"role":"user","content":"hi "}"#,
        r#"{"role":"user","content":""}"#,
        r#"{"role":"user","content":null}"#,
        r#"{"role":"user"}"#,
        r#"{"role":"system","content":"hi"}"#,
        r#"{"role":"developer","content":"hi"}"#,
        r#"{"role":"assistant","content":"hi"}"#,
        r#"{"role":"assistant","content":"hi","refusal":"no"}"#,
        r#"{"role":"assistant","content":"hi","reasoning_content":"hm"}"#,
        r#"{"role":"user","content":"hi","name":"ann"}"#,
        r#"{"role":"user","content":"hi","name":"bob"}"#,
        r#"{"role":"user","content":"hi","nobody_knows":1}"#,
        r#"{"role":"user","content":"hi","user":"u"}"#,
        r#"{"role":"user","content":"hi"},{"role":"user","content":"hi"}"#,
        r#"{"role":"system","content":"a"},{"role":"user","content":"hi"}"#,
        r#"{"role":"user","content":"hi"},{"role":"system","content":"a"}"#,
        r#"{"role":"user","content":[{"type":"text","text":"hi"}]}"#,
        r#"{"role":"user","content":[{"type":"text","text":"ho"}]}"#,
        r#"{"role":"user","content":[{"type":"text","text":"h"},{"type":"text","text":"i"}]}"#,
        r#"{"role":"user","content":[{"type":"text","text":"hi","nobody_knows":1}]}"#,
        r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}"#,
        r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAB"}}]}"#,
        r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}]}"#,
        r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}"#,
        r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"mp3"}}]}"#,
        r#"{"role":"user","content":[{"type":"file","file":{"filename":"a","file_data":"data:application/pdf;base64,AAAA"}}]}"#,
        r#"{"role":"user","content":[{"type":"file","file":{"filename":"b","file_data":"data:application/pdf;base64,AAAA"}}]}"#,
        r#"{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
        r#"{"role":"assistant","tool_calls":[{"id":"2","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
        r#"{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"g","arguments":"{}"}}]}"#,
        r#"{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{ }"}}]}"#,
        r#"{"role":"assistant","function_call":{"name":"f","arguments":"{}"}}"#,
        r#"{"role":"tool","tool_call_id":"1","content":"4"}"#,
        r#"{"role":"tool","tool_call_id":"2","content":"4"}"#,
        r#"{"role":"tool","tool_call_id":"1","content":"5"}"#,
        r#"{"role":"tool","content":"4"}"#,
        r#"{"role":"function","name":"f","content":"4"}"#,
    ],
};

const CLAUDE: Place = Place {
    uri: "https://api.anthropic.com/v1/messages",
    before: r#"{"model":"m","max_tokens":9,"messages":["#,
    after: "]}",
    lists: &[
        r#"{"role":"user","content":"hi"}"#,
        r#"{"role":"assistant","content":"hi"}"#,
        r#"{"role":"user","content":"hi","cache_control":{"type":"ephemeral"}}"#,
        r#"{"role":"user","content":[{"type":"text","text":"hi"}]}"#,
        r#"{"role":"user","content":[{"type":"text","text":"hi","citations":[]}]}"#,
        r#"{"role":"user","content":[{"type":"text","text":"hi","nobody_knows":1}]}"#,
        r#"{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]}"#,
        r#"{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAB"}}]}"#,
        r#"{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/gif","data":"AAAA"}}]}"#,
        r#"{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"a"}}]}"#,
        r#"{"role":"user","content":[{"type":"document","title":"t","source":{"type":"text","media_type":"text/plain","data":"a"}}]}"#,
        r#"{"role":"user","content":[{"type":"document","context":"c","source":{"type":"text","media_type":"text/plain","data":"a"}}]}"#,
        r#"{"role":"user","content":[{"type":"document","citations":{"enabled":true},"source":{"type":"text","media_type":"text/plain","data":"a"}}]}"#,
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"}]}"#,
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"t"}]}"#,
        r#"{"role":"assistant","content":[{"type":"redacted_thinking","data":"s"}]}"#,
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]}"#,
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"2","name":"f","input":{}}]}"#,
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"g","input":{}}]}"#,
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{"cache_control":1}}]}"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"4"}]}"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"2","content":"4"}]}"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"4","is_error":true}]}"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"4"}]}]}"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"5"}]}]}"#,
    ],
};

const RESPONSES: Place = Place {
    uri: "https://api.openai.com/v1/responses",
    before: r#"{"model":"m","input":["#,
    after: "]}",
    lists: &[
        r#"{"role":"user","content":"hi"}"#,
        r#"{"type":"message","role":"user","content":"hi"}"#,
        r#"{"role":"developer","content":"hi"}"#,
        r#"{"role":"user","content":"hi","phase":"a"}"#,
        r#"{"role":"user","content":[{"type":"input_text","text":"hi"}]}"#,
        r#"{"role":"user","content":[{"type":"input_text","text":"ho"}]}"#,
        r#"{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,AAAA"}]}"#,
        r#"{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,AAAA","detail":"low"}]}"#,
        r#"{"role":"user","content":[{"type":"input_file","filename":"a","file_data":"data:application/pdf;base64,AAAA"}]}"#,
        r#"{"role":"assistant","content":[{"type":"output_text","text":"hi","annotations":[]}]}"#,
        r#"{"type":"function_call","call_id":"1","name":"f","arguments":"{}"}"#,
        r#"{"type":"function_call","call_id":"2","name":"f","arguments":"{}"}"#,
        r#"{"type":"function_call","call_id":"1","name":"g","arguments":"{}"}"#,
        r#"{"type":"function_call_output","call_id":"1","output":"4"}"#,
        r#"{"type":"function_call_output","call_id":"1","output":"5"}"#,
        r#"{"type":"function_call_output","call_id":"1","output":[{"type":"input_text","text":"4"}]}"#,
        r#"{"type":"custom_tool_call","call_id":"1","name":"f","input":"a"}"#,
        r#"{"type":"custom_tool_call_output","call_id":"1","output":"a"}"#,
        r#"{"type":"reasoning","summary":[],"encrypted_content":"s"}"#,
        r#"{"type":"reasoning","summary":[],"encrypted_content":"t"}"#,
        r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"a"}],"encrypted_content":"s"}"#,
    ],
};

const GEMINI: Place = Place {
    uri: "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent",
    before: r#"{"contents":["#,
    after: "]}",
    lists: &[
        r#"{"parts":[{"text":"hi"}]}"#,
        r#"{"role":"user","parts":[{"text":"hi"}]}"#,
        r#"{"role":"model","parts":[{"text":"hi"}]}"#,
        r#"{"parts":[{"text":"h"},{"text":"i"}]}"#,
        r#"{"parts":[{"text":"hi","thought":true}]}"#,
        r#"{"parts":[{"text":"hi","thoughtSignature":"s"}]}"#,
        r#"{"parts":[{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]}"#,
        r#"{"parts":[{"inlineData":{"mimeType":"image/png","data":"AAAB"}}]}"#,
        r#"{"parts":[{"inlineData":{"mimeType":"image/gif","data":"AAAA"}}]}"#,
        r#"{"parts":[{"inlineData":{"mimeType":"video/mp4","data":"AAAA"},"videoMetadata":{"fps":1}}]}"#,
        r#"{"parts":[{"inlineData":{"mimeType":"image/png","data":"AAAA"},"mediaResolution":{"level":"LOW"}}]}"#,
        r#"{"parts":[{"functionCall":{"name":"f","args":{}}}]}"#,
        r#"{"parts":[{"functionCall":{"name":"f","args":{"a":1}}}]}"#,
        r#"{"parts":[{"functionCall":{"id":"1","name":"f","args":{}}}]}"#,
        r#"{"parts":[{"functionResponse":{"name":"f","response":{"a":1}}}]}"#,
        r#"{"parts":[{"functionResponse":{"name":"f","response":{"a":2}}}]}"#,
        r#"{"parts":[{"functionResponse":{"id":"1","name":"f","response":{"a":1}}}]}"#,
        r#"{"parts":[{"text":"hi","labels":{}}]}"#,
    ],
};

const OLLAMA: Place = Place {
    uri: "http://127.0.0.1:11434/api/chat",
    before: r#"{"model":"m","messages":["#,
    after: "]}",
    lists: &[
        r#"{"role":"user","content":"hi"}"#,
        r#"{"role":"system","content":"hi"}"#,
        r#"{"role":"user","content":"hi","images":["AAAA"]}"#,
        r#"{"role":"user","content":"hi","images":["AAAB"]}"#,
        r#"{"role":"assistant","content":"hi","thinking":"hm"}"#,
        r#"{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]}"#,
        r#"{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}"#,
        r#"{"role":"tool","tool_name":"f","content":"4"}"#,
        r#"{"role":"tool","tool_name":"g","content":"4"}"#,
        r#"{"role":"user","content":"hi","keep_alive":"5m"}"#,
    ],
};

fn key(uri: &str, body: String) -> CacheKey {
    let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
    let call = Call::post(uri, body.clone());
    keyer.key(&call, &Scope::default(), &[]).unwrap_or_else(|why| panic!("{why}: {uri} {body}"))
}

#[test]
fn each_member_of_a_message_changes_the_key() {
    for Place { uri, before, after, lists } in [CHAT, CLAUDE, RESPONSES, GEMINI, OLLAMA] {
        let mut seen: Vec<(CacheKey, &str)> = Vec::new();
        for list in lists {
            let key = key(uri, format!("{before}{list}{after}"));
            if let Some((_, twin)) = seen.iter().find(|(have, _)| *have == key) {
                panic!("{uri}: one key for two calls:\n{twin}\n{list}");
            }
            seen.push((key, list));
        }
    }
}

/// Marks of the provider's own prompt cache change what a call costs and not what it says. `@` is where one may stand.
#[test]
fn a_cache_mark_at_its_own_place_does_not() {
    for (uri, mark, body) in [
        (
            CHAT.uri,
            r#","prompt_cache_breakpoint":{}"#,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"@}]}]}"#,
        ),
        (
            CLAUDE.uri,
            r#","cache_control":{"type":"ephemeral"}"#,
            r#"{"model":"m","max_tokens":9,"system":[{"type":"text","text":"a"@}],"tools":[{"name":"f","input_schema":{}@}],"messages":[{"role":"user","content":[{"type":"text","text":"hi"@},{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"4"@}]@}]}]@}"#,
        ),
        (
            RESPONSES.uri,
            r#","prompt_cache_breakpoint":{}"#,
            r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"hi"@}]},{"type":"function_call_output","call_id":"1","output":[{"type":"input_text","text":"4"@}]}]}"#,
        ),
    ] {
        let plain = key(uri, body.replace('@', ""));
        for (at, _) in body.match_indices('@') {
            let marked = format!("{}{mark}{}", &body[..at], &body[at + 1..]).replace('@', "");
            assert!(key(uri, marked.clone()) == plain, "{marked}");
        }
    }
}
