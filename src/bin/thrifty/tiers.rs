//! The tier rule of `explain` and `replay`: easy calls go to a cheaper model of the same maker.

use std::sync::Arc;

use thrifty::Error;
use thrifty::call::Call;
use thrifty::dialect::Role;
use thrifty::price::PriceTable;
use thrifty::tier::{Condition, Rule, TierPolicy};

/// Prompts below this many tokens are easy, unless a tool had its say.
pub(crate) const EASY: u64 = 2_000;

/// Cheaper siblings by list price of 2026-11-23; the first name that the asked model begins with decides.
const SIBLINGS: [(&str, &str); 10] = [
    ("gpt-4o-mini", ""),
    ("gpt-4o", "gpt-4o-mini"),
    ("gpt-4.1-mini", "gpt-4.1-nano"),
    ("gpt-4.1-nano", ""),
    ("gpt-4.1", "gpt-4.1-mini"),
    ("gpt-5-mini", "gpt-5-nano"),
    ("gpt-5-nano", ""),
    ("gpt-5", "gpt-5-mini"),
    ("claude-opus", "claude-haiku-4-5"),
    ("claude-sonnet", "claude-haiku-4-5"),
];

/// The default rules as `FROM=TO`, for the models that have a cheaper sibling.
pub(crate) fn sibling(model: &str) -> Option<&'static str> {
    let fits = |begins: &str| {
        model.strip_prefix(begins).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let row = SIBLINGS.iter().find(|(begins, _)| fits(begins));
    row.map(|(_, to)| *to).filter(|to| !to.is_empty())
}

/// One `FROM=TO` of the command line.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((from, to)) if !from.trim().is_empty() && !to.trim().is_empty() => {
            Ok((from.trim().to_owned(), to.trim().to_owned()))
        }
        _ => Err("write it as FROM=TO, such as gpt-4o=gpt-4o-mini".to_owned()),
    }
}

/// All pairs that are known, for models that are asked for by their plain names.
pub(crate) fn all() -> Vec<(String, String)> {
    let known = SIBLINGS.iter().filter(|(_, to)| !to.is_empty());
    known.map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

/// Easy calls of these models go to their counterparts, as far as the limits in this table allow.
pub(crate) fn policy(pairs: &[(String, String)], prices: &Arc<PriceTable>) -> Result<TierPolicy, Error> {
    pairs
        .iter()
        .fold(TierPolicy::builder().prices(prices.clone()), |builder, (from, to)| {
            let easy = Condition::tokens_below(EASY)
                .and(Condition::named("no tool since the last user message", no_tool_in_last_turn));
            builder.rule(Rule::when(Condition::asked(from).and(easy)).then(to))
        })
        .build()
}

/// True if no tool was called or answered since the last user message.
fn no_tool_in_last_turn(call: &Call) -> bool {
    let prompt = call.format().prompt(call);
    for message in prompt.messages.iter().rev() {
        if message.calls().next().is_some() || message.results().next().is_some() {
            return false;
        }
        if message.role == Role::User {
            return true;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_a_cheaper_sibling_or_none() {
        for (model, want) in [
            ("gpt-4o", Some("gpt-4o-mini")),
            ("gpt-4o-2024-08-06", Some("gpt-4o-mini")),
            ("gpt-4o-mini", None),
            ("gpt-4o-mini-2024-07-18", None),
            ("gpt-4.1-mini", Some("gpt-4.1-nano")),
            ("claude-opus-4-8", Some("claude-haiku-4-5")),
            ("gpt-4", None),
            ("my-own", None),
        ] {
            assert_eq!(sibling(model), want, "{model}");
        }
    }
}
