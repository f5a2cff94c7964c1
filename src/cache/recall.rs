//! The exact-repeat shortcut in front of the stack.
//!
//! A repeat whose bytes are those of an earlier call needs no count, no trim, no canonical key: one hash over its raw
//! bytes leads to the key the earlier call ended up with, and that to the answer.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use moka::sync::Cache as Moka;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use super::freshness::Wish;
use super::key::CacheKey;
use super::layer::{CacheLayer, Core};
use super::numbers::Tier;
use super::render::{Want, render_at, want};
use super::service::{CacheFuture, note_hit};
use crate::BoxError;
use crate::call::{Call, Options, Reply};
use crate::receipt::{Draft, Receipt, Served};

/// How many exact repeats are remembered, at most.
const ALIASES: u64 = 65_536;

/// Bytes of memory that one takes, about: both keys, what is told in receipts, its place in the table.
const ALIAS: u64 = 640;

/// Bytes of text in receipts that are kept with one: names of models. A call with longer ones goes the long way.
const MOST_TEXT: usize = 256;

/// What they may take of the memory tier's bytes, on top of these: an eighth.
const SHARE: u64 = 8;

/// Answers an exact repeat before anything below is asked: one hash, two lookups.
///
/// `policy` stands for all that the layers between this one and the cache would do: a changed policy is another
/// hash, so it can never serve what an old policy asked for. If what they do depends on more than the call and their
/// settings (time, chance, health), leave this layer out.
#[derive(Clone, Debug)]
pub struct RecallLayer {
    core: Arc<Core>,
    policy: [u8; 32],
}

impl RecallLayer {
    /// The shortcut to this cache.
    #[must_use]
    pub fn new(cache: &CacheLayer, policy: [u8; 32]) -> Self {
        Self { core: cache.core().clone(), policy }
    }
}

impl<S> Layer<S> for RecallLayer {
    type Service = Recall<S>;

    fn layer(&self, inner: S) -> Recall<S> {
        Recall { inner, core: self.core.clone(), policy: self.policy }
    }
}

/// Service of [`RecallLayer`]. Always ready, like the cache it stands in front of.
#[derive(Clone)]
pub struct Recall<S> {
    inner: S,
    core: Arc<Core>,
    policy: [u8; 32],
}

impl<S> fmt::Debug for Recall<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recall").field("core", &self.core).finish_non_exhaustive()
    }
}

impl<S> Service<Call> for Recall<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = CacheFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> CacheFuture {
        let core = &self.core;
        let options = Options::among(&call.parts.extensions);
        if !core.mode_of(options).reads() {
            let sent = self.inner.clone().oneshot(call);
            return CacheFuture::boxed(async move { sent.await.map_err(Into::into) });
        }
        // What one call wishes of cap and budget changes what is sent, so it is part of the policy.
        let policy = match options {
            Some(Options { cap, budget, tag, .. }) if cap.is_some() || budget.is_some() || tag.is_some() => {
                let mut hash = blake3::Hasher::new_keyed(&self.policy);
                for number in [cap, budget] {
                    hash.update(&[u8::from(number.is_some())]);
                    hash.update(&number.unwrap_or_default().to_le_bytes());
                }
                hash.update(tag.as_deref().unwrap_or_default().as_bytes());
                *hash.finalize().as_bytes()
            }
            _ => self.policy,
        };
        let wish = Wish::of(options);
        let alias = core.keyer.alias(&call, core.scope_of(options), &core.vary, &policy);
        // After a name has moved, whose answers are good is for the cache to say.
        let moves = core.resolved.moves();
        if let Some(remembered) = core.aliases.get(&alias).filter(|remembered| remembered.moves == moves)
            && let now_ms = core.clock.now_ms()
            && let Some(entry) = core.remembered_at(&core.varied.choose(remembered.key), &wish, now_ms)
            && let Some(rendered) = render_at(
                core,
                call.format(),
                &entry,
                remembered.want,
                core.scope_of(options).is_shared(),
                now_ms,
            )
        {
            core.count_hit(Tier::Memory, &entry);
            if let Some(draft) = Draft::of(&call) {
                draft.note(|receipt| {
                    remembered.facts.restore(receipt);
                    note_hit(receipt, &entry, Served::Memory);
                });
            }
            return CacheFuture::done(Ok(rendered.reply()));
        }
        let slot = Slot::default();
        call.parts.extensions.insert(slot.clone());
        let (draft, want) = (Draft::of(&call).cloned(), want(&call));
        if let Some(draft) = &draft {
            let asked = call.model();
            draft.note(|receipt| receipt.asked = asked);
        }
        let (core, sent) = (core.clone(), self.inner.clone().oneshot(call));
        CacheFuture::boxed(async move {
            let reply = sent.await.map_err(Into::into)?;
            // What failed is not stored, so nothing leads to it.
            if let Some(key) = slot.take().filter(|_| reply.status().is_success()) {
                let facts = draft.map(|draft| draft.note(|receipt| Facts::of(receipt))).unwrap_or_default();
                if facts.text() <= MOST_TEXT {
                    core.aliases.insert(alias, Remembered { key, want, facts, moves });
                }
            }
            Ok(reply)
        })
    }
}

/// Where the cache leaves the key of the call that gave the answer, for whoever stands in front.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<CacheKey>>>);

impl Slot {
    pub(super) fn of(call: &Call) -> Option<&Self> {
        call.parts.extensions.get::<Self>()
    }

    /// The last key stays: after an escalation it is that of the answer which was passed on.
    pub(super) fn set(&self, key: Option<CacheKey>) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = key;
    }

    fn take(&self) -> Option<CacheKey> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

/// Exact repeats seen so far, in memory only.
#[derive(Debug)]
pub(super) struct Aliases(Moka<CacheKey, Arc<Remembered>>);

#[derive(Debug)]
struct Remembered {
    key: CacheKey,
    /// Equal bytes want the same kind of answer.
    want: Want,
    facts: Facts,
    /// Moves of model names when the key was looked up.
    moves: u64,
}

impl Aliases {
    pub(super) fn new(memory_bytes: u64) -> Self {
        Self(Moka::new((memory_bytes / SHARE / ALIAS).clamp(64, ALIASES)))
    }

    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }

    fn get(&self, alias: &CacheKey) -> Option<Arc<Remembered>> {
        self.0.get(alias)
    }

    fn insert(&self, alias: CacheKey, remembered: Remembered) {
        self.0.insert(alias, Arc::new(remembered));
    }
}

/// What the layers in between wrote down the first time, so that a repeat's receipt tells the same.
#[derive(Debug, Default)]
struct Facts {
    asked: Option<String>,
    chosen: Option<String>,
    tier_note: Option<String>,
    tokens_before: Option<u64>,
    tokens_after: Option<u64>,
    dropped_messages: u64,
    breaks_prefix: bool,
    cap_asked: Option<u64>,
    cap_set: Option<u64>,
}

impl Facts {
    /// Bytes of text, which the caller and the policy choose.
    fn text(&self) -> usize {
        [&self.asked, &self.chosen, &self.tier_note].into_iter().flatten().map(String::len).sum()
    }

    fn of(receipt: &Receipt) -> Self {
        Self {
            asked: receipt.asked.clone(),
            chosen: receipt.chosen.clone(),
            tier_note: receipt.tier_note.clone(),
            tokens_before: receipt.tokens_before,
            tokens_after: receipt.tokens_after,
            dropped_messages: receipt.dropped_messages,
            breaks_prefix: receipt.breaks_prefix,
            cap_asked: receipt.cap_asked,
            cap_set: receipt.cap_set,
        }
    }

    fn restore(&self, receipt: &mut Receipt) {
        let Self {
            asked,
            chosen,
            tier_note,
            tokens_before,
            tokens_after,
            dropped_messages,
            breaks_prefix,
            cap_asked,
            cap_set,
        } = self;
        receipt.asked.clone_from(asked);
        receipt.chosen.clone_from(chosen);
        receipt.tier_note.clone_from(tier_note);
        receipt.tokens_before = *tokens_before;
        receipt.tokens_after = *tokens_after;
        receipt.dropped_messages = *dropped_messages;
        receipt.breaks_prefix = *breaks_prefix;
        receipt.cap_asked = *cap_asked;
        receipt.cap_set = *cap_set;
    }
}
