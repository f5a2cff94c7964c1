//! Answers whose time is over, and what they are still good for.

use std::sync::Arc;

use http_body_util::BodyExt;
use tower_service::Service;

use super::entry::Entry;
use super::flight::Role;
use super::freshness::{Age, Wish};
use super::key::CacheKey;
use super::layer::Core;
use super::numbers::Tier;
use super::purge::Since;
use super::render::{Want, render};
use super::service::{Caller, fly};
use crate::call::{Call, Options, Reply};
use crate::dialect::is_free_of_charge;
use crate::price::Terms;
use crate::receipt::{Draft, Receipt, Rejected, Served};
use crate::{BoxError, Error, Kind};

/// An entry that is there and not fresh enough.
pub(super) struct Old {
    pub(super) entry: Arc<Entry>,
    pub(super) tier: Tier,
    pub(super) age: Age,
}

impl Old {
    /// Why the call goes out, then.
    pub(super) fn reason(&self) -> &'static str {
        match self.age {
            Age::Good => "form",
            Age::Stale(_) => "stale",
            Age::TooOld => "too-old",
            Age::Moved => "model-moved",
        }
    }

    /// True if it may be served while a new one is fetched.
    pub(super) fn is_good_meanwhile(&self, core: &Core, wish: &Wish) -> bool {
        match self.age {
            Age::Stale(by) => !wish.is_strict() && by < core.windows.revalidate.as_millis(),
            _ => false,
        }
    }

    /// The reply in place of one that tells that the provider is down, if this entry may be that.
    pub(super) fn rescue(
        &self,
        core: &Core,
        caller: &Caller,
        wish: &Wish,
        came: &Result<Reply, BoxError>,
    ) -> Option<Reply> {
        let window = wish.stale_if_error(&core.windows).as_millis();
        let by = match self.age {
            Age::Stale(by) => by,
            Age::TooOld | Age::Moved => 0,
            Age::Good => return None,
        };
        if by >= window || !is_down(came) {
            return None;
        }
        let reply = caller.hit(core, &self.entry, self.tier)?;
        if let Some(draft) = &caller.draft {
            draft.note(|receipt| {
                receipt.notes.push("the provider is down: a stale answer");
                // The work may have been done all the same; that is not 0, and nobody knows what it is.
                if !came.as_ref().is_ok_and(|reply| is_free_of_charge(reply.status())) {
                    let model = receipt.chosen.clone().or_else(|| receipt.asked.clone()).unwrap_or_default();
                    let why = "the provider is down".to_owned();
                    receipt.rejected.push(Rejected::new(model, Served::Upstream, None, why));
                }
            });
        }
        Some(reply)
    }
}

/// True for what says that the provider is down or overloaded. A refusal of a layer of ours is not that.
fn is_down(came: &Result<Reply, BoxError>) -> bool {
    match came {
        Ok(reply) => reply.status().is_server_error() || matches!(reply.status().as_u16(), 408 | 429),
        Err(error) => Error::find(&**error).is_none_or(|error| error.kind() == Kind::Upstream),
    }
}

/// Fetches the answer to a call anew, for whoever asks next. One refresh of a question goes on at a time.
pub(super) fn refresh<S>(core: &Arc<Core>, inner: S, mut call: Call, key: CacheKey, want: Want, asks: bool)
where
    S: Service<Call, Response = Reply> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let since = Since::of(core, &call);
    let Role::Lead(lead, seat) = core.flights.join_or_lead((key, since.epoch, want), &core.limits) else {
        return;
    };
    // Another refresh may have ended between the look and the lead.
    if let Some(entry) = core.remembered(&key, &Wish::default())
        && let Some(rendered) = render(core, call.format(), &entry, want, true)
    {
        return lead.answer(rendered);
    }
    core.numbers.refreshed();
    // The caller's receipt is closed with what it got.
    call.parts.extensions.remove::<Draft>();
    let draft = core.refreshes.get().map(|_| {
        let draft = Draft::begin(Receipt {
            dialect: call.dialect,
            tag: Options::among(&call.parts.extensions).and_then(|options| options.tag.clone()),
            started_ms: core.clock.now_ms(),
            asked: call.model(),
            chosen: call.model(),
            served: Served::Upstream,
            notes: vec!["refresh"],
            ..Receipt::default()
        });
        call.parts.extensions.insert(draft.clone());
        draft
    });
    if asks {
        let format = call.format();
        format.ask_for_usage(&mut call);
    }
    fly(core.clone(), lead, inner, call, key, since);
    if let Some(draft) = draft {
        tell(core.clone(), &draft);
    }
    // A flight that nobody sits in is given up.
    tokio::spawn(async move {
        if let Ok(reply) = seat.reply().await {
            let mut body = reply.into_body();
            while let Some(Ok(_)) = body.frame().await {}
        }
    });
}

/// Gives the receipt of a refresh to who wants it, once it has ended.
fn tell(core: Arc<Core>, draft: &Draft) {
    let written = draft.clone();
    draft.close_when_paid(move |came| {
        let Some(sink) = core.refreshes.get() else { return };
        let mut receipt = written.peek();
        let took = core.clock.now_ms().saturating_sub(receipt.started_ms);
        receipt.took = std::time::Duration::from_millis(u64::try_from(took).unwrap_or(0));
        if let Some(outcome) = came {
            receipt.usage = outcome.usage;
            receipt.finish = outcome.finish;
            receipt.answered = outcome.model;
            receipt.service_tier = outcome.service_tier;
        }
        receipt.complete = true;
        receipt.table = Some(core.prices.id());
        let status = receipt.status.and_then(|status| http::StatusCode::from_u16(status).ok());
        if receipt.usage.is_none() && status.is_some_and(is_free_of_charge) {
            receipt.billed = Some(crate::price::Usd::ZERO);
        } else if let (Some(model), Some(usage)) =
            (receipt.answered.as_deref().or(receipt.chosen.as_deref()), &receipt.usage)
        {
            let terms = Terms::at(receipt.started_ms).with_service_tier(receipt.service_tier.clone());
            let cost = core.prices.cost(model, usage, &terms);
            (receipt.billed, receipt.state) = (cost.usd, cost.state);
        }
        sink.receive(&receipt);
    });
}
