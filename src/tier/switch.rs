//! Whether a call may be sent to another model, and sending it there.

use super::families::{Claude, OpenAi, Vendor, family};
use crate::Error;
use crate::call::json::Object;
use crate::call::{Call, Dialect};
use crate::dialect::{Part, Prompt, Role};
use crate::price::PriceTable;
use crate::tokens;

/// Why sending `call` to `to` in place of `from` would make it invalid, by the limits of the built-in price table;
/// `None` if nothing known speaks against it.
///
/// The reason names the model and the field, such as `gpt-4.1-nano takes no reasoning_effort`, never a value.
/// What [`switch`] mends (`max_tokens` on models that only know `max_completion_tokens`) is no reason.
///
/// # Example
/// ```
/// use thrifty::call::Call;
/// use thrifty::tier::switch_breaks;
///
/// let call = Call::post("https://api.openai.com/v1/chat/completions",
///     r#"{"model":"gpt-5","reasoning_effort":"low","messages":[]}"#);
/// assert_eq!(switch_breaks(&call, "gpt-5", "gpt-5-nano"), None);
/// assert_eq!(switch_breaks(&call, "gpt-5", "gpt-4.1-nano").as_deref(),
///     Some("gpt-4.1-nano takes no reasoning_effort"));
/// ```
#[must_use]
pub fn switch_breaks(call: &Call, from: &str, to: &str) -> Option<String> {
    switch_breaks_by(call, from, to, &PriceTable::builtin())
}

/// [`switch_breaks`] with the token limits of this table.
#[must_use]
pub fn switch_breaks_by(call: &Call, from: &str, to: &str, limits: &PriceTable) -> Option<String> {
    if from == to {
        return None;
    }
    if !call.doc.is_editable() {
        return Some("the body cannot be edited".to_owned());
    }
    if call.parts.uri.path().contains("/deployments/") {
        return Some("the deployment in the path chooses the model".to_owned());
    }
    if call.doc.some("model").is_none() {
        return Some("the body names no model".to_owned());
    }
    let vendor = family(to);
    if let Some(why) = other_vendor(call, family(from), vendor, to) {
        return Some(why);
    }
    let prompt = call.format().prompt(call);
    let refused = match (call.dialect, vendor) {
        (Dialect::OpenAiChat, Vendor::OpenAi(facts)) => openai_refuses(call, &prompt, facts),
        (Dialect::OpenAiChat, Vendor::Anthropic(_) | Vendor::Foreign) => {
            has_role(&prompt, Role::Developer).then(|| "knows no developer role".to_owned())
        }
        (Dialect::AnthropicMessages, Vendor::Anthropic(claude)) => {
            claude_refuses(call, &prompt, family(from), claude)
        }
        _ => None,
    };
    refused.or_else(|| over_limits(call, &prompt, vendor, to, limits)).map(|why| format!("{to} {why}"))
}

/// Sends `call` to `model`, and mends what can be mended: OpenAI's thinking models get `max_completion_tokens` in
/// place of `max_tokens`, a model of another maker on another maker's host the reverse. All other bytes stay.
///
/// # Errors
/// [`Kind::NotEditable`](crate::Kind::NotEditable) when the call cannot be edited; it is then as it was.
///
/// # Example
/// ```
/// use thrifty::call::Call;
///
/// let mut call = Call::post("https://api.openai.com/v1/chat/completions",
///     r#"{"model":"gpt-4.1","max_tokens":64,"messages":[]}"#);
/// thrifty::tier::switch(&mut call, "gpt-5-nano")?;
/// assert_eq!(call.doc.bytes(), r#"{"model":"gpt-5-nano","messages":[],"max_completion_tokens":64}"#);
/// # Ok::<(), thrifty::Error>(())
/// ```
pub fn switch(call: &mut Call, model: &str) -> Result<(), Error> {
    let mut switched = call.clone();
    switched.set_model(model)?;
    if call.dialect == Dialect::OpenAiChat {
        match family(model) {
            Vendor::OpenAi(facts) if facts.thinks => {
                rename(&mut switched, "max_tokens", "max_completion_tokens")?;
            }
            Vendor::Anthropic(_) | Vendor::Foreign if own_host(call).is_none() => {
                rename(&mut switched, "max_completion_tokens", "max_tokens")?;
            }
            _ => {}
        }
    }
    *call = switched;
    Ok(())
}

/// Moves the value of `old` to `new`. Of two caps the one counts that the format reads first, so that is kept.
fn rename(call: &mut Call, old: &str, new: &str) -> Result<(), Error> {
    let Some(value) = call.doc.some(old).map(str::to_owned) else { return Ok(()) };
    if call.doc.u64(new).is_none() || call.doc.u64(old) == call.format().cap(call) {
        call.doc.set(new, &value)?;
    }
    call.doc.remove(old)?;
    Ok(())
}

/// The dialect of the maker whose own host this is.
fn own_host(call: &Call) -> Option<Dialect> {
    let host = call.parts.uri.host()?.to_ascii_lowercase();
    let is = |domain: &str| host == domain || host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.'));
    if is("openai.com") || is("openai.azure.com") {
        Some(Dialect::OpenAiChat)
    } else if is("anthropic.com") {
        Some(Dialect::AnthropicMessages)
    } else {
        None
    }
}

/// A maker's own host serves its own models; elsewhere a bare name of another maker is trusted only if the caller
/// already asks for one, while `maker/model` is the spelling of gateways that serve many.
fn other_vendor(call: &Call, from: Vendor, to: Vendor, name: &str) -> Option<String> {
    let foreign = |vendor: Vendor| match (call.dialect, vendor) {
        (_, Vendor::Other) | (Dialect::Opaque, _) => false,
        (Dialect::OpenAiChat, vendor) => !matches!(vendor, Vendor::OpenAi(_)),
        (_, vendor) => !matches!(vendor, Vendor::Anthropic(_)),
    };
    if !foreign(to) {
        return None;
    }
    let gateway = own_host(call).is_none() && (name.contains('/') || foreign(from));
    (!gateway).then(|| format!("{name} is not served in the format {}", call.dialect))
}

fn has_role(prompt: &Prompt<'_>, role: Role) -> bool {
    prompt.messages.iter().any(|message| message.role == role)
}

fn has_part(prompt: &Prompt<'_>, test: impl Fn(&Part<'_>) -> bool) -> bool {
    let inside = |part: &Part<'_>| match part {
        Part::ToolResult { parts, .. } => parts.iter().any(&test),
        part => test(part),
    };
    prompt.system.iter().chain(prompt.messages.iter().flat_map(|message| &message.parts)).any(inside)
}

fn openai_refuses(call: &Call, prompt: &Prompt<'_>, to: OpenAi) -> Option<String> {
    let doc = &call.doc;
    let no = |what: &str| Some(format!("takes no {what}"));
    let effort = doc.some("reasoning_effort");
    if let Some(level) = effort {
        if to.efforts.is_empty() {
            return no("reasoning_effort");
        }
        let level = doc.str("reasoning_effort").unwrap_or(level.into());
        if !to.efforts.contains(&level.as_ref()) {
            return Some("takes other levels of reasoning_effort".to_owned());
        }
    }
    if doc.some("verbosity").is_some() && !to.verbosity {
        return no("verbosity");
    }
    let samples = !to.thinks
        || to.samples_without_effort && doc.str("reasoning_effort").is_some_and(|level| level == "none");
    if !samples {
        // The default values are accepted.
        for (field, default) in
            [("temperature", 1), ("top_p", 1), ("presence_penalty", 0), ("frequency_penalty", 0)]
        {
            if doc.some(field).is_some() && doc.u64(field) != Some(default) {
                return no(field);
            }
        }
        for field in ["logprobs", "top_logprobs", "logit_bias"] {
            if doc.some(field).is_some_and(|value| value != "false") {
                return no(field);
            }
        }
    }
    if to.thinks && doc.some("prediction").is_some() {
        return no("prediction");
    }
    if doc.some("stop").is_some() && !to.stop {
        return no("stop");
    }
    if has_role(prompt, Role::Developer) && !to.developer {
        return Some("knows no developer role".to_owned());
    }
    if has_role(prompt, Role::System) && !to.system {
        return Some("knows no system role".to_owned());
    }
    if !prompt.tools.is_empty() && !to.tools {
        return no("tools");
    }
    if doc.some("parallel_tool_calls").is_some() && !to.parallel_tools {
        return no("parallel_tool_calls");
    }
    let schema = doc.object("response_format").is_some_and(|format| format.some("json_schema").is_some());
    if schema && !to.schema {
        return no("response_format of type json_schema");
    }
    if doc.some("web_search_options").is_some() {
        return no("web_search_options");
    }
    let sound = doc.some("audio").is_some()
        || doc.get("modalities").is_some_and(|modalities| modalities.contains("\"audio\""))
        || has_part(prompt, |part| matches!(part, Part::Audio(_)));
    if sound && !to.audio {
        return no("audio");
    }
    if has_part(prompt, |part| matches!(part, Part::Image(_))) && !to.images {
        return no("images");
    }
    let cache_options = doc.some("prompt_cache_options").is_some()
        || prompt.messages.iter().any(|message| call.format().has_cache_mark(message.raw));
    if cache_options && !to.cache_options {
        return no("prompt_cache_options");
    }
    if doc.str("service_tier").is_some_and(|tier| tier == "flex") && !to.flex {
        return no("service_tier flex");
    }
    None
}

fn claude_refuses(call: &Call, prompt: &Prompt<'_>, from: Vendor, to: Claude) -> Option<String> {
    let doc = &call.doc;
    let no = |what: &str| Some(format!("takes no {what}"));
    let sampling: Vec<_> =
        ["temperature", "top_p", "top_k"].into_iter().filter(|field| doc.some(field).is_some()).collect();
    if let [field, ..] = sampling[..]
        && !to.samples()
    {
        return no(field);
    }
    if sampling.starts_with(&["temperature", "top_p"]) && !to.samples_both() {
        return no("temperature beside top_p");
    }
    if let Some(thinking) = doc.object("thinking") {
        match thinking.str("type").as_deref() {
            Some("enabled") if !to.budget_tokens() => return no("thinking with budget_tokens"),
            Some("adaptive") if !to.adaptive() => return no("adaptive thinking"),
            Some("disabled") if to.always_thinks() => return Some("always thinks".to_owned()),
            _ => {}
        }
    }
    if let Some(output) = doc.object("output_config") {
        if output.str("effort").is_some_and(|level| !to.effort(&level)) {
            return Some("does not take this effort".to_owned());
        }
        if output.some("format").is_some() && !to.format() {
            return no("output_config.format");
        }
    }
    if doc.str("speed").is_some_and(|speed| speed != "standard") && !to.fast() {
        return no("speed");
    }
    let last_role = doc
        .elements("messages")
        .and_then(|messages| messages.last().copied().and_then(Object::parse))
        .and_then(|last| last.str("role"));
    if last_role.as_deref() == Some("assistant") && !to.prefill() {
        return no("final assistant turn");
    }
    let same_generation = matches!(from, Vendor::Anthropic(from) if from.version == to.version);
    let dated_tool = doc.elements("tools").unwrap_or_default().into_iter().find_map(|tool| {
        Object::parse(tool)?.str("type").filter(|kind| kind != "custom" && kind != "function")
    });
    if let Some(kind) = dated_tool.filter(|_| !same_generation) {
        // The vendor's own tools come in versions that are bound to generations.
        let kind: String = kind.chars().take(40).filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        return Some(format!("may not know the tool version {kind}"));
    }
    if has_part(prompt, |part| matches!(part, Part::Image(_))) && !to.images() {
        return no("images");
    }
    if has_part(prompt, |part| matches!(part, Part::Audio(_))) {
        return no("audio");
    }
    None
}

fn over_limits(
    call: &Call,
    prompt: &Prompt<'_>,
    vendor: Vendor,
    to: &str,
    limits: &PriceTable,
) -> Option<String> {
    let cap = call.format().cap(call);
    if let (Some(cap), Some(most)) = (cap, limits.max_output(to))
        && cap > most
    {
        return Some(format!("writes at most {most} tokens and the cap is {cap}"));
    }
    let window = limits.max_input(to)?;
    // Claude's window holds the answer too.
    let answer = if matches!(vendor, Vendor::Anthropic(_)) { cap.unwrap_or(0) } else { 0 };
    let room = window.saturating_sub(answer);
    // Text is never more tokens than bytes, so a short body needs no count.
    let media = has_part(prompt, |part| !matches!(part, Part::Text(_) | Part::ToolCall { .. }));
    if !media && (call.doc.bytes().len() as u64) <= room {
        return None;
    }
    let needed = tokens::count(call).at_most;
    (needed > room).then(|| format!("reads at most {room} tokens and the prompt may have {needed}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODELS: [&str; 8] = [
        "gpt-5-nano",
        "gpt-4.1-nano",
        "o3",
        "claude-haiku-4-5",
        "claude-opus-5-5",
        "anthropic/claude-sonnet-5",
        "gemini-3-flash",
        "a \"name\" of one's own",
    ];

    /// Bodies that are nearly requests.
    fn body() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "model",
            "messages",
            "max_tokens",
            "max_completion_tokens",
            "stop",
            "thinking",
            "tools",
            "x",
        ]);
        let value = prop::sample::select(vec![
            "1",
            "null",
            "\"gpt-5\"",
            "[]",
            "[{\"role\":\"user\",\"content\":\"Hi\"}]",
            "{\"type\":\"adaptive\"}",
            "1e3",
            "{",
        ]);
        prop::collection::vec((name, value), 0..6).prop_map(|members| {
            let members: Vec<_> =
                members.iter().map(|(name, value)| format!(" \"{name}\" : {value}")).collect();
            format!("{{{} }}", members.join(","))
        })
    }

    #[test]
    fn of_two_caps_the_one_that_counts_is_kept() {
        for (body, model, want) in [
            (r#"{"max_tokens":1e3,"max_completion_tokens":1}"#, "claude-haiku-4-5", r#""max_tokens":1}"#),
            (r#"{"max_tokens":1e3,"max_completion_tokens":1}"#, "gpt-5-nano", r#""max_completion_tokens":1"#),
            (r#"{"max_tokens":7,"max_completion_tokens":null}"#, "claude-haiku-4-5", r#""max_tokens":7"#),
        ] {
            let mut call = Call::post("http://gateway.local/v1/chat/completions", body.to_owned());
            let cap = call.format().cap(&call);
            switch(&mut call, model).expect("it can be edited");
            assert_eq!(call.format().cap(&call), cap, "{body} {model}");
            let text = String::from_utf8_lossy(call.doc.bytes()).replace(' ', "");
            assert!(text.contains(want.trim_end_matches('}')), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_switch_changes_the_model_and_the_caps_name_and_no_other_member(
            body in body(), model in prop::sample::select(MODELS.to_vec()), anthropic: bool,
        ) {
            let uri = if anthropic { "http://gateway.local/v1/messages" } else { "http://gateway.local/v1/chat/completions" };
            let before = Call::post(uri, body);
            let why = switch_breaks(&before, "gpt-5", model);
            let mut after = before.clone();
            match switch(&mut after, model) {
                Ok(()) => {
                    prop_assert_eq!(after.model(), Some(model.to_owned()));
                    let others = |call: &Call| -> Vec<(String, String)> {
                        let moved = ["model", "max_tokens", "max_completion_tokens"];
                        let members = call.doc.members().filter(|(name, _)| !moved.contains(name));
                        members.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
                    };
                    prop_assert_eq!(others(&before), others(&after));
                    let cap = before.format().cap(&before);
                    prop_assert_eq!(after.format().cap(&after), cap, "the cap keeps its value");
                }
                Err(_) => {
                    prop_assert_eq!(before.doc.bytes(), after.doc.bytes());
                    prop_assert!(why.is_some(), "what cannot be switched is said beforehand");
                }
            }
        }
    }
}
