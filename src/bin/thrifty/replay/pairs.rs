//! Whether a request is one that providers accept: no tool result without its call, no call without its result.

use std::collections::HashSet;

use thrifty::call::Call;

/// True if every tool result answers a call of the assistant turn in front of it, and every call of a turn is
/// answered before the next one speaks.
pub(crate) fn is_paired(call: &Call) -> bool {
    let prompt = call.format().prompt(call);
    let mut open: HashSet<String> = HashSet::new();
    for message in &prompt.messages {
        let results: Vec<&str> = message.results().collect();
        // One message may hold several results, and other text behind them.
        if !results.iter().all(|id| open.remove(*id)) {
            return false;
        }
        if results.is_empty() && !open.is_empty() {
            return false;
        }
        open.extend(message.calls().map(str::to_owned));
    }
    open.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input;

    #[test]
    fn an_orphan_is_seen() {
        let of = |messages: &str| {
            let body = format!(r#"{{"model":"m","messages":[{messages}]}}"#);
            is_paired(&input::call(body, None, None).unwrap())
        };
        let user = r#"{"role":"user","content":"q"}"#;
        let asks = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
        let result = r#"{"role":"tool","tool_call_id":"a","content":"r"}"#;
        assert!(of(&[user, asks, result].join(",")));
        assert!(of(user));
        for broken in
            [vec![user, result], vec![user, asks], vec![user, asks, user], vec![user, asks, result, result]]
        {
            assert!(!of(&broken.join(",")), "{broken:?}");
        }
    }
}
