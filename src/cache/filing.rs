//! Judging a reply that has ended, and storing it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::entry::{Entry, Places};
use super::flight::{Lead, Recorded};
use super::freshness::jittered;
use super::key::CacheKey;
use super::layer::Core;
use super::policy::stored_headers;
use super::purge::Since;
use super::resolved::{NameId, capped};
use super::service::is_another_model;
use crate::call::{Call, Capped, Doc, Options};
use crate::dialect::{Called, Finish, Format, Outcome};
use crate::price::Terms;
use crate::receipt::Draft;

/// What is needed to judge and store a reply when it has ended.
pub(super) struct Filing {
    key: CacheKey,
    /// The key under the secret before, while that is of use.
    #[cfg(feature = "disk")]
    old: Option<CacheKey>,
    /// The purges of its scope before it was sent.
    pub(super) since: Since,
    name: NameId,
    sent_ms: i64,
    ttl: Duration,
    /// Which tools it offers is looked up when one is called. It shares its bytes with the call.
    doc: Doc,
    format: &'static dyn Format,
    asked: Option<String>,
    pub(super) draft: Option<Draft>,
    /// A layer of ours set the output limit.
    capped: bool,
    /// No format reads it; its bytes are the answer, in whatever pieces they came.
    raw: bool,
    shared: bool,
    pub(super) verdict: Verdict,
}

/// Why a reply was not stored, once that is known.
pub(super) type Verdict = Arc<OnceLock<&'static str>>;

impl Filing {
    /// For the answer to `call`, sent after these purges.
    pub(super) fn of(core: &Core, call: &Call, key: CacheKey, since: Since) -> Self {
        let options = Options::among(&call.parts.extensions);
        Self {
            key,
            #[cfg(feature = "disk")]
            old: super::former::old_key(core, call),
            since,
            name: NameId::of(call, since.stamp.scope),
            sent_ms: core.clock.now_ms(),
            // The layer's time to live is the longest: a call may only ask for less.
            ttl: match options.and_then(|options| options.ttl) {
                Some(ttl) => ttl.min(core.ttl),
                None => jittered(core.ttl, core.jitter, &key),
            },
            verdict: Verdict::default(),
            doc: call.doc.clone(),
            format: call.format(),
            asked: call.model(),
            draft: Draft::of(call).cloned(),
            capped: call.parts.extensions.get::<Capped>().is_some(),
            raw: core.keyer.names_opaque(call),
            shared: core.scope_of(options).is_shared(),
        }
    }

    /// The entry of a reply, or why there is none.
    pub(super) fn entry(
        &self,
        core: &Core,
        recorded: Recorded,
        outcome: Outcome,
    ) -> Result<Entry, &'static str> {
        let Recorded { parts, body, frames } = recorded;
        let body = body?;
        let ttl = core.store.judge(self.format, &self.doc, &parts, &outcome, self.ttl, self.capped)?;
        if let (Some(asked), Some(answered)) = (&self.asked, &outcome.model)
            && is_another_model(&core.prices, asked, answered)
        {
            return Err("other-model");
        }
        let now = core.clock.now_ms();
        if let Some(answered) = &outcome.model {
            core.note_model(self.name, answered, self.sent_ms, now)?;
        }
        let ttl = capped(ttl, self.asked.as_deref(), outcome.model.as_deref());
        let model = outcome.model.as_deref().or(self.asked.as_deref());
        let terms = Terms::at(now).with_service_tier(outcome.service_tier.clone());
        let cost = match (model, &outcome.usage) {
            (Some(model), Some(usage)) => core.prices.cost(model, usage, &terms).usd,
            _ => None,
        };
        let mut headers = stored_headers(&parts.headers);
        // A refusal or a cut answer is nothing to fall back on.
        let ttl = match outcome.finish {
            Finish::Whole => core.windows.stretch(ttl, &mut headers),
            _ => ttl,
        };
        Ok(Entry {
            status: parts.status,
            headers,
            body,
            frames: frames.filter(|_| !self.raw),
            created_ms: now,
            ttl,
            outcome: Outcome { called: Called::default(), ..outcome },
            cost,
            table: Some(core.prices.id()),
            identity: Places::default(),
        })
    }

    /// Stores an entry in place of every older one.
    pub(super) fn put(&self, core: &Core, entry: Entry) {
        let put = || core.tiers.put_stamped(self.key, Arc::new(entry), self.since.stamp);
        #[cfg(feature = "disk")]
        if let Some(old) = &self.old {
            return super::former::replace(core, old, put);
        }
        put();
    }

    /// Judges a reply and stores it, unless something forbids that.
    pub(super) fn file(&self, core: &Arc<Core>, lead: &Lead, recorded: Recorded, outcome: Outcome) {
        let failed = match &recorded.body {
            Ok(body) if !self.shared => Some((recorded.parts.clone(), body.clone())),
            _ => None,
        };
        let entry = match self.entry(core, recorded, outcome) {
            Ok(entry) => entry,
            Err(why) => {
                if let (Some((parts, body)), "status") = (failed, why) {
                    let put = || core.negatives.put(self.key, &parts, &body, core.clock.now_ms());
                    lead.store(|| self.since.store(core, put));
                }
                return self.refuse(core, why);
            }
        };
        // An answer that was on the road during a purge must not come back to life, nor one that was replaced or
        // invalidated meanwhile. Neither can happen between these looks and the store.
        let put = || self.put(core, entry);
        match lead.store(|| self.since.store(core, put)) {
            None => return self.refuse(core, "replaced"),
            Some(None) => return self.refuse(core, "purged"),
            Some(Some(())) => {}
        }
        core.negatives.remove(&self.key);
        if let Some(draft) = &self.draft {
            draft.note(|receipt| receipt.stored = true);
        }
        core.numbers.stored();
    }

    fn refuse(&self, core: &Core, why: &'static str) {
        let _ = self.verdict.set(why);
        if let Some(draft) = &self.draft {
            draft.note(|receipt| receipt.cache_note = Some(why));
        }
        core.numbers.refused(why);
    }
}
