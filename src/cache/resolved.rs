//! Which model a name stands for, and noticing that it stands for another one now.
//!
//! `gpt-5-mini` is answered by `gpt-5-mini-2025-08-07` today and by its successor tomorrow. What is stored under the
//! name would then hide the new model for as long as it lives. Each answer tells who gave it, so the first answer of
//! another model is the news: what the former one gave is not served any more.
//!
//! - Kept in memory, by scope, endpoint and name asked for; some thousand names.
//! - A name that goes **back** to a former model has several of them behind it: a router, or a change that is being
//!   rolled out. No answer of theirs is wrong then, and the name is judged no more.
//! - OpenAI's `system_fingerprint` is not looked at. It names a configuration of the servers, goes to and fro between
//!   values from call to call, and is missing in newer models: each change would empty the cache for nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::HOST;
use moka::sync::Cache as Moka;

use super::store::epochs::Tag;
use crate::call::Call;

/// Names known at a time. One that was forgotten is learnt anew with its next answer.
const MOST: u64 = 4_096;

/// A name that stood for more models than this is a router's.
const MOST_MODELS: usize = 8;

/// The longest time that an answer to a name which may move is served.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// A name asked for, at an endpoint, by somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NameId([u8; 32]);

impl NameId {
    /// The name that `call` asks for, for whoever this tag stands for.
    pub(super) fn of(call: &Call, scope: Tag) -> Self {
        let uri = &call.parts.uri;
        let host = uri.authority().map(|host| host.as_str().as_bytes());
        let host = host.or_else(|| call.parts.headers.get(HOST).map(|host| host.as_bytes()));
        let model = call.model().unwrap_or_default();
        let mut hash = blake3::Hasher::new_derive_key("thrifty 2026-11 cache model name v1");
        let scheme = uri.scheme_str().unwrap_or_default();
        for part in [
            &scope[..],
            call.dialect.name().as_bytes(),
            scheme.as_bytes(),
            host.unwrap_or_default(),
            uri.path().as_bytes(),
            model.as_bytes(),
        ] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(*hash.finalize().as_bytes())
    }
}

/// What one name has stood for.
struct Name {
    /// All models so far, the present one last.
    models: Vec<Arc<str>>,
    /// When the present one was first seen.
    since_ms: i64,
    /// It went back to a former one.
    mixed: bool,
}

impl Name {
    fn present(&self) -> Option<&Arc<str>> {
        self.models.last()
    }
}

/// What all names stand for.
pub(super) struct Resolved {
    names: Moka<NameId, Arc<Name>>,
    /// Taken to change a name.
    change: Mutex<()>,
    moves: AtomicU64,
}

impl Resolved {
    pub(super) fn new() -> Self {
        Self { names: Moka::new(MOST), change: Mutex::new(()), moves: AtomicU64::new(0) }
    }

    /// How often a name was seen to move: while it is 0, nothing else needs to be asked.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// The only model whose answers to this name are still good, if the name has moved.
    pub(super) fn present(&self, name: &NameId) -> Option<Arc<str>> {
        let name = self.names.get(name)?;
        (name.models.len() > 1 && !name.mixed).then(|| name.present().cloned()).flatten()
    }

    /// `model` answered a call for this name that was sent at `sent_ms`. True if the name has moved with that.
    pub(super) fn note(&self, id: NameId, model: &str, sent_ms: i64, now_ms: i64) -> bool {
        let is_known = |name: &Name| {
            // What was sent before the present model was first seen tells nothing about now.
            name.mixed || name.present().is_some_and(|present| **present == *model) || sent_ms < name.since_ms
        };
        if self.names.get(&id).is_some_and(|name| is_known(&name)) {
            return false;
        }
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.names.get(&id);
        if before.as_ref().is_some_and(|name| is_known(name)) {
            return false;
        }
        let mut models = before.as_ref().map(|name| name.models.clone()).unwrap_or_default();
        let mixed = models.len() >= MOST_MODELS || models.iter().any(|known| **known == *model);
        if !mixed {
            models.push(model.into());
        }
        self.names.insert(id, Arc::new(Name { models, since_ms: now_ms, mixed }));
        let moved = before.is_some() && !mixed;
        if moved {
            self.moves.fetch_add(1, Ordering::AcqRel);
        }
        moved
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved").field("moves", &self.moves()).finish_non_exhaustive()
    }
}

/// The time to live of an answer that `answered` gave to a call for `asked`: a name that may move gets a day at most.
///
/// Such a one is told by its answers, which bear another name, or by its own end. A server that only echoes what it was
/// asked for tells nothing, and the layer's time to live is right then.
pub(super) fn capped(ttl: Duration, asked: Option<&str>, answered: Option<&str>) -> Duration {
    let plain = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let floats = match (asked.map(plain), answered.map(plain)) {
        (Some(asked), Some(answered)) => asked != answered || asked.ends_with("latest"),
        (Some(asked), None) => asked.ends_with("latest"),
        (None, _) => false,
    };
    if floats { ttl.min(LONGEST) } else { ttl }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "https://api.openai.com/v1/chat/completions";

    fn id(scope: u8) -> NameId {
        NameId::of(&Call::post(CHAT, r#"{"model":"gpt-5-mini","messages":[]}"#), [scope; 16])
    }

    #[test]
    fn a_name_moves_when_a_model_never_seen_before_answers_it() {
        let resolved = Resolved::new();
        assert!(!resolved.note(id(1), "a", 0, 10) && resolved.present(&id(1)).is_none());
        assert!(!resolved.note(id(1), "a", 20, 30));
        assert!(resolved.note(id(1), "b", 40, 50));
        assert_eq!((resolved.present(&id(1)).as_deref(), resolved.moves()), (Some("b"), 1));
        assert!(!resolved.note(id(1), "a", 45, 60), "a call that was on its way tells nothing about now");
        assert_eq!(resolved.present(&id(1)).as_deref(), Some("b"));
        assert_eq!(resolved.present(&id(2)), None, "another scope has seen nothing of it");
    }

    #[test]
    fn a_name_that_goes_back_has_several_models_and_is_judged_no_more() {
        let resolved = Resolved::new();
        for (at, model) in [(0, "a"), (10, "b"), (20, "a"), (30, "b"), (40, "c")] {
            resolved.note(id(1), model, at, at);
        }
        assert_eq!((resolved.present(&id(1)), resolved.moves()), (None, 1));
        for at in 0..20 {
            resolved.note(id(2), &at.to_string(), at, at);
        }
        assert_eq!(resolved.present(&id(2)), None, "a name of many models is a router's");
    }

    #[test]
    fn a_name_that_may_move_is_stored_for_a_day_at_most() {
        let week = LONGEST * 7;
        for (asked, answered, want) in [
            ("gpt-5-mini", Some("gpt-5-mini-2025-08-07"), LONGEST),
            ("gpt-5-mini-2025-08-07", Some("gpt-5-mini-2025-08-07"), week),
            ("openai/gpt-5-mini", Some("gpt-5-mini"), week),
            ("mistral-large-latest", Some("mistral-large-latest"), LONGEST),
            ("mistral-large-latest", None, LONGEST),
            ("local", None, week),
        ] {
            assert_eq!(capped(week, Some(asked), answered), want, "{asked}");
            let minute = Duration::from_secs(60);
            assert_eq!(capped(minute, Some(asked), answered), minute, "never longer");
        }
        assert_eq!(capped(week, None, Some("m")), week);
    }
}
