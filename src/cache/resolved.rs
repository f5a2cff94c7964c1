//! Which model a name stands for, and noticing that it stands for another one now.
//!
//! `gpt-5-mini` is answered by `gpt-5-mini-2025-08-07` today and by its successor tomorrow. What is stored under the
//! name would then hide the new model for as long as it lives. Each answer tells who gave it, so the first answer of
//! another model is the news: what the former one gave is not served any more.
//!
//! - Kept in memory, by scope, endpoint and name asked for: a provider may pin accounts to different models, and a
//!   gateway decides by key. The 65,536 names that were asked for last are known; one that was forgotten is learnt anew
//!   with its next answer, and until its next move a former model's answers may be served again.
//! - After a restart it is learnt from the provider's answers and from those read from disk, of which the newer one
//!   tells what the name stands for. So a former model's answer is served as long as nothing by its successor has
//!   been seen since the start; nobody can tell then that it is one.
//! - A name that goes **back** to a former model has several of them behind it: a router, or a change that is being
//!   rolled out. No answer of theirs is wrong then, and the name is judged no more.
//! - An answer that a former model gave while the news came in is not stored.
//! - OpenAI's `system_fingerprint` is not looked at. It names a configuration of the servers, goes to and fro between
//!   values from call to call, and is missing in newer models: each change would empty the cache for nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::HOST;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::store::epochs::Tag;
use crate::call::Call;
use crate::lock::lock;

/// Names known at a time, those asked for last. Each takes some 300 bytes.
const MOST: u64 = 65_536;

/// A model's name of more bytes is no name, and is not remembered.
const LONGEST_NAME: usize = 256;

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

/// A model, and when it is known to have answered to a name.
struct Span {
    model: Arc<str>,
    first_ms: i64,
    last_ms: i64,
}

/// What one name has stood for.
#[derive(Default)]
struct Name {
    /// All models so far, the present one last.
    spans: Vec<Span>,
    /// It went back to a former one.
    mixed: bool,
}

impl Name {
    /// One model answered between two answers of another one.
    fn is_mixed(&self) -> bool {
        self.mixed
            || self.spans.len() > MOST_MODELS
            || self.spans.iter().enumerate().any(|(at, one)| {
                let mut others = self.spans[at + 1..].iter();
                others.any(|other| one.first_ms < other.last_ms && other.first_ms < one.last_ms)
            })
    }

    fn judge(&mut self) {
        if !self.mixed && self.is_mixed() {
            *self = Self { spans: Vec::new(), mixed: true };
        }
    }
}

/// What an answer tells of the name that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing new.
    None,
    /// The name stands for another model from now on.
    Moved,
    /// It was sent before the name moved, and a former model gave it: nobody would be served it.
    Former,
}

/// What all names stand for.
pub(super) struct Resolved {
    names: Moka<NameId, Arc<Mutex<Name>>>,
    moves: AtomicU64,
}

impl Resolved {
    pub(super) fn new() -> Self {
        // By use alone: a policy that prefers what is asked for often would keep no name of a busy crowd.
        let names = Moka::builder().max_capacity(MOST).eviction_policy(EvictionPolicy::lru()).build();
        Self { names, moves: AtomicU64::new(0) }
    }

    /// How often a name was found to have stood for another model: while it is 0, nothing else needs to be asked.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// The only model whose answers to this name are still good, if the name has moved.
    pub(super) fn present(&self, name: &NameId) -> Option<Arc<str>> {
        let name = self.names.get(name)?;
        let name = lock(&name);
        match &name.spans[..] {
            [_, .., present] => Some(present.model.clone()),
            _ => None,
        }
    }

    /// `model` answered a call for this name that was sent at `sent_ms`.
    pub(super) fn note(&self, id: NameId, model: &str, sent_ms: i64, now_ms: i64) -> News {
        if model.len() > LONGEST_NAME {
            return News::None;
        }
        let name = self.names.get_with(id, Arc::default);
        let mut name = lock(&name);
        if name.mixed {
            return News::None;
        }
        match name.spans.last_mut() {
            Some(present) if *present.model == *model => {
                present.last_ms = present.last_ms.max(now_ms);
                return News::None;
            }
            // What was sent before the present model was first seen tells nothing about now.
            Some(present) if sent_ms < present.first_ms => return News::Former,
            _ => {}
        }
        if name.spans.iter().any(|span| *span.model == *model) {
            *name = Name { spans: Vec::new(), mixed: true };
            return News::None;
        }
        let moved = !name.spans.is_empty();
        // A clock that was set back makes no answer older than the one before it.
        let at_ms = name.spans.iter().map(|span| span.last_ms).fold(now_ms, i64::max);
        name.spans.push(Span { model: model.into(), first_ms: at_ms, last_ms: at_ms });
        name.judge();
        if !moved || name.mixed {
            return News::None;
        }
        self.moves.fetch_add(1, Ordering::AcqRel);
        News::Moved
    }

    /// An answer to this name that `model` gave at `created_ms` was read from disk. True if the name is known to have
    /// moved with that; an answer that is older than what is known makes its model a former one.
    pub(super) fn learn(&self, id: NameId, model: &str, created_ms: i64) -> bool {
        if model.len() > LONGEST_NAME {
            return false;
        }
        let name = self.names.get_with(id, Arc::default);
        let mut name = lock(&name);
        if name.mixed {
            return false;
        }
        let before = name.spans.last().map(|present| present.model.clone());
        match name.spans.iter_mut().find(|span| *span.model == *model) {
            Some(span) => {
                span.first_ms = span.first_ms.min(created_ms);
                span.last_ms = span.last_ms.max(created_ms);
            }
            None => {
                let span = Span { model: model.into(), first_ms: created_ms, last_ms: created_ms };
                // Of two at the same time the one that was known first is the present one.
                name.spans.insert(0, span);
                if before.is_some() {
                    self.moves.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
        name.spans.sort_by_key(|span| span.last_ms);
        name.judge();
        let now = name.spans.last().map(|present| &present.model);
        before.is_some() && now.is_some() && now != before.as_ref()
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
        assert_eq!((resolved.note(id(1), "a", 0, 10), resolved.present(&id(1))), (News::None, None));
        assert_eq!(resolved.note(id(1), "a", 20, 30), News::None);
        assert_eq!(resolved.note(id(1), "b", 40, 50), News::Moved);
        assert_eq!((resolved.present(&id(1)).as_deref(), resolved.moves()), (Some("b"), 1));
        let late = resolved.note(id(1), "a", 45, 60);
        assert_eq!(late, News::Former, "a call that was on its way tells nothing about now");
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
    fn of_stored_answers_the_newer_one_tells_what_a_name_stands_for_in_whatever_order_they_are_read() {
        let present = |answers: &[(&str, i64)]| {
            let resolved = Resolved::new();
            let moved = answers.iter().filter(|(model, at)| resolved.learn(id(1), model, *at)).count();
            (resolved.present(&id(1)).map(|model| model.to_string()), moved, resolved.moves())
        };
        let b = || Some("b".to_owned());
        assert_eq!(present(&[("b", 9)]), (None, 0, 0), "one model is no news");
        assert_eq!(present(&[("a", 1), ("b", 9)]), (b(), 1, 1));
        assert_eq!(present(&[("b", 9), ("a", 1)]), (b(), 0, 1), "the older one is that of a former model");
        assert_eq!(present(&[("b", 9), ("b", 5), ("a", 1), ("a", 3)]), (b(), 0, 1));
        for mut answers in [[("a", 1), ("b", 5), ("a", 9)], [("b", 5), ("a", 9), ("a", 1)]] {
            assert_eq!(present(&answers).0, None, "it went back");
            answers.reverse();
            assert_eq!(present(&answers).0, None, "it went back");
        }
    }

    #[test]
    fn what_the_provider_says_now_is_newer_than_what_was_stored() {
        let resolved = Resolved::new();
        assert!(!resolved.learn(id(1), "a", 100));
        assert_eq!(resolved.note(id(1), "b", 200, 210), News::Moved);
        assert!(!resolved.learn(id(1), "a", 150), "another one of the former model");
        assert_eq!(resolved.present(&id(1)).as_deref(), Some("b"));
        assert_eq!(resolved.note(id(1), "b", 300, 310), News::None);
        assert!(!resolved.learn(id(1), "b", 120), "the change was being rolled out");
        assert_eq!(resolved.present(&id(1)), None);
    }

    #[test]
    fn the_names_asked_for_last_are_known_however_many_there_are() {
        let resolved = Resolved::new();
        let of = |n: u64| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_le_bytes());
            NameId(id)
        };
        for n in 0..2 * MOST {
            for (model, at) in [("a", 0), ("b", 10)] {
                resolved.note(of(n), model, at, at);
            }
        }
        resolved.names.run_pending_tasks();
        let known = (MOST..2 * MOST).filter(|n| resolved.present(&of(*n)).is_some()).count();
        assert_eq!(known as u64, MOST);
        let long = "m".repeat(LONGEST_NAME + 1);
        resolved.note(of(0), "a", 0, 0);
        assert_eq!(resolved.note(of(0), &long, 10, 10), News::None, "no caller's text is kept");
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
