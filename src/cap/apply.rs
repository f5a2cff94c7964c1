//! Sets or lowers the output limit of one call.

use super::{CapPolicy, thinks::thinks};
use crate::call::{Call, Options, json};

/// What became of a call's output limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapOutcome {
    /// Limit the caller sent, in tokens.
    pub asked: Option<u64>,
    /// Limit that was set or lowered; `None` when the call is as it came.
    pub set: Option<u64>,
    /// Why a limit that the policy or the call names was not applied, or what it risks.
    pub note: Option<&'static str>,
}

/// Sets or lowers the output limit of `call` to that of its [`Options`] and of `policy`, whichever is lower.
///
/// Never raises what the caller sent, never goes below a thinking budget, never makes a valid request invalid. A
/// call of an unknown format, or one that cannot be edited, stays as it is, byte for byte.
///
/// # Example
/// ```
/// use thrifty::call::{Call, Options};
/// use thrifty::cap::{self, CapPolicy};
///
/// let mut call = Call::post("https://api.openai.com/v1/chat/completions",
///     r#"{"model":"gpt-5-mini","messages":[]}"#).with(Options::new().cap(256));
/// let outcome = cap::apply(&mut call, &CapPolicy::per_call());
/// assert_eq!(outcome.set, Some(256));
/// assert_eq!(call.doc.u64("max_completion_tokens"), Some(256));
/// ```
pub fn apply(call: &mut Call, policy: &CapPolicy) -> CapOutcome {
    let format = call.format();
    let asked = format.cap(call);
    let untouched = |note| CapOutcome { asked, set: None, note };

    let wish = Options::among(&call.parts.extensions).and_then(|options| options.cap);
    let Some(limit) = [wish, policy.tokens()].into_iter().flatten().min() else { return untouched(None) };
    // A format without messages has no output to limit.
    if format.messages_member().is_none() {
        return untouched(None);
    }
    if asked.is_some_and(|asked| asked <= limit) {
        return untouched(None);
    }
    if !call.doc.is_editable() {
        return untouched(Some("not capped: the body cannot be edited"));
    }
    let floor = format.cap_floor(call);
    if limit < floor {
        return untouched(Some("not capped: the limit is below the least the request allows"));
    }
    let mut note = None;
    if asked.is_none() {
        if !policy.adds() {
            return untouched(None);
        }
        if wish.is_none() && limit < policy.thinking_room() && thinks(call) {
            return untouched(Some("not capped: the limit leaves too little room for a model that thinks"));
        }
        let most = call.model().and_then(|model| policy.max_output(&model));
        if most.is_some_and(|most| most <= limit) {
            return untouched(None);
        }
    } else if limit < policy.thinking_room() && thinks(call) {
        note = Some("capped a model that thinks: it may run out before it answers");
    }

    let mut capped = call.clone();
    if format.set_cap(&mut capped, limit, policy.field()).is_err() {
        return untouched(Some("not capped: the body cannot be edited"));
    }
    // The member that was written must be new, empty, or the one that was read: anything else is a value of the
    // caller's that means something to somebody (-1 for "no limit", say), and is not ours to replace.
    let foreign = capped.doc.members().any(|(name, now)| {
        call.doc.some(name).is_some_and(|then| then != now && (asked.is_none() || json::whole(then) != asked))
    });
    if foreign {
        return untouched(Some("not capped: the request's own limit cannot be read"));
    }
    call.doc = capped.doc;
    CapOutcome { asked, set: Some(limit), note }
}
