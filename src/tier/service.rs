//! The service.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::ServiceExt;
use tower_service::Service;

use super::answer::{Answer, assess};
use super::{Choice, TierPolicy, switch};
use crate::BoxError;
use crate::call::{Call, Detour, Reply};
use crate::dialect::{Finish, Usage};
use crate::price::Usd;
use crate::receipt::{Draft, Receipt, Rejected, Served};

/// Sends each call to the model its policy names; made by [`TierLayer`](super::TierLayer).
///
/// **Always ready**: one call may become several, so readiness of the inner service is awaited for each of them, on
/// a clone. A load shedder above it sees no back-pressure.
///
/// **Streams** are passed on at once and never escalated: their reader has already seen the beginning when the sign
/// of a poor answer comes, and holding the stream back to the end would turn the time to the first token into the
/// time to the last. Rules and fallback before the first byte hold for them too.
///
/// An answer that was not good enough is still passed on when the models above it are down: it was paid for, and an
/// escalation never turns an answer into a failure.
#[derive(Clone, Debug)]
pub struct Tier<S> {
    inner: S,
    policy: TierPolicy,
}

impl<S> Tier<S> {
    /// This policy in front of `inner`.
    pub fn new(inner: S, policy: TierPolicy) -> Self {
        Self { inner, policy }
    }
}

impl<S> Service<Call> for Tier<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let inner = self.inner.clone();
        match self.policy.choose(&call) {
            Some(choice) => Box::pin(Climb::new(call, self.policy.clone(), choice).run(inner)),
            None => Box::pin(async move { inner.oneshot(call).await.map_err(Into::into) }),
        }
    }
}

/// One call on its way up the ladder.
struct Climb {
    /// As it came.
    call: Call,
    policy: TierPolicy,
    draft: Option<Draft>,
    asked: String,
    rungs: VecDeque<String>,
    spare: VecDeque<Arc<str>>,
    tried: Vec<String>,
    held: Option<Held>,
    /// True once a failure decided the way: the next such call may fare better, so no shortcut may lead here.
    detour: bool,
}

/// A poor answer that is kept until there is a better one.
struct Held {
    reply: Reply,
    model: String,
    facts: Facts,
    /// Where it stands among the rejected.
    at: Option<usize>,
}

/// What the layers below wrote down about one answer.
#[derive(Default)]
struct Facts {
    served: Served,
    cache: Usd,
    usage: Option<Usage>,
    answered: Option<String>,
    finish: Finish,
    service_tier: Option<String>,
    stored: bool,
    cache_note: Option<&'static str>,
}

impl Facts {
    fn of(receipt: &Receipt) -> Self {
        Self {
            served: receipt.served,
            cache: receipt.avoided.cache,
            usage: receipt.usage,
            answered: receipt.answered.clone(),
            finish: receipt.finish,
            service_tier: receipt.service_tier.clone(),
            stored: receipt.stored,
            cache_note: receipt.cache_note,
        }
    }

    fn restore(self, receipt: &mut Receipt) {
        let Self { served, cache, usage, answered, finish, service_tier, stored, cache_note } = self;
        receipt.served = served;
        receipt.avoided.cache = cache;
        receipt.usage = usage;
        receipt.answered = answered;
        receipt.finish = finish;
        receipt.service_tier = service_tier;
        receipt.stored = stored;
        receipt.cache_note = cache_note;
    }
}

impl Climb {
    fn new(call: Call, policy: TierPolicy, choice: Choice) -> Self {
        let Choice { asked, model, note, rungs } = choice;
        let draft = Draft::of(&call).cloned();
        if let Some(draft) = &draft {
            draft.note(|receipt| {
                receipt.asked.get_or_insert_with(|| asked.clone());
                receipt.chosen = Some(model.clone());
                receipt.tier_note = note;
            });
        }
        let spare = policy.fallback().iter().cloned().collect();
        Self {
            call,
            policy,
            draft,
            asked,
            rungs: rungs.into(),
            spare,
            tried: vec![model],
            held: None,
            detour: false,
        }
    }

    async fn run<S>(mut self, inner: S) -> Result<Reply, BoxError>
    where
        S: Service<Call, Response = Reply> + Clone,
        S::Error: Into<BoxError>,
    {
        loop {
            let model = self.tried[self.tried.len() - 1].clone();
            let result = inner.clone().oneshot(self.outbound(&model)).await.map_err(Into::into);
            let can_act = !self.rungs.is_empty() || !self.spare.is_empty();
            match assess(&self.call, &self.policy, can_act, result).await {
                Answer::Good(reply) => return Ok(reply),
                Answer::Poor { reply, why, usage } => {
                    let Some(next) = self.next_rung() else { return Ok(reply) };
                    self.hold(reply, &model, usage, why);
                    self.go(next, format!("escalated: {model} was {why}"));
                }
                Answer::Invalid { reply, why } => {
                    if self.may_undo() {
                        self.detour = true;
                        self.go(self.asked.clone(), format!("back to {}: {model} gave {why}", self.asked));
                    } else {
                        return self.give_up(Ok(reply), &why);
                    }
                }
                Answer::Refused { result, why } => return self.give_up(result, &why),
                Answer::Down { result, why, paid, usage } => {
                    let Some(next) = self.next_spare() else { return self.give_up(result, &why) };
                    if paid {
                        self.reject(&model, usage, &why);
                    }
                    self.detour = true;
                    self.go(next, format!("fallback: {model} gave {why}"));
                }
            }
        }
    }

    /// The call as it leaves for `model`: untouched for the one asked for.
    fn outbound(&self, model: &str) -> Call {
        let mut call = self.call.clone();
        // While a poor answer is held it may be the one that is passed on after all, so what comes next leaves no
        // shortcut either.
        if self.detour || self.held.is_some() {
            call.parts.extensions.insert(Detour);
        }
        if model != self.asked
            && let Err(error) = switch(&mut call, model)
        {
            // `switch_breaks` has found the body editable, so this is for formats that edit otherwise.
            self.note(format!("kept {}: {}", self.asked, error.problem()));
            if let Some(draft) = &self.draft {
                draft.note(|receipt| receipt.chosen = Some(self.asked.clone()));
            }
        }
        call
    }

    fn may_undo(&self) -> bool {
        !self.tried.contains(&self.asked)
    }

    fn next_rung(&mut self) -> Option<String> {
        while let Some(next) = self.rungs.pop_front() {
            if self.is_open(&next) {
                return Some(next);
            }
        }
        None
    }

    fn next_spare(&mut self) -> Option<String> {
        while let Some(next) = self.spare.pop_front() {
            if self.is_open(&next) {
                return Some(next.to_string());
            }
        }
        None
    }

    /// True if `model` was not tried and the call is valid there.
    fn is_open(&self, model: &str) -> bool {
        if self.tried.iter().any(|tried| tried == model) {
            return false;
        }
        match self.policy.breaks(&self.call, &self.asked, model) {
            None => true,
            Some(why) => {
                self.note(format!("skipped {model}: {why}"));
                false
            }
        }
    }

    fn go(&mut self, next: String, why: String) {
        self.note(why);
        if let Some(draft) = &self.draft {
            draft.note(|receipt| {
                receipt.chosen = Some(next.clone());
                // What the rejected answer brought or saved is not this call's: the next one starts clean.
                Facts::default().restore(receipt);
            });
        }
        self.tried.push(next);
    }

    fn hold(&mut self, reply: Reply, model: &str, usage: Option<Usage>, why: &str) {
        let facts =
            self.draft.as_ref().map(|draft| draft.note(|receipt| Facts::of(receipt))).unwrap_or_default();
        let at = self.reject(model, usage, why);
        self.held = Some(Held { reply, model: model.to_owned(), facts, at });
    }

    /// Writes down an answer that was billed and not passed on, so that its cost is not lost.
    fn reject(&self, model: &str, usage: Option<Usage>, why: &str) -> Option<usize> {
        let Some(draft) = &self.draft else { return None };
        draft.note(|receipt| {
            let served = receipt.served;
            // An answer came, and no layer below says it had it: the provider gave it.
            let from = if served == Served::Nowhere { Served::Upstream } else { served };
            receipt.rejected.push(Rejected::new(model.to_owned(), from, usage, why.to_owned()));
            Some(receipt.rejected.len() - 1)
        })
    }

    /// Nothing more to try: the best answer there is, else the failure.
    fn give_up(&mut self, result: Result<Reply, BoxError>, why: &str) -> Result<Reply, BoxError> {
        let Some(Held { reply, model, facts, at }) = self.held.take() else { return result };
        let down = &self.tried[self.tried.len() - 1];
        self.note(format!("{model} after all: {down} gave {why}"));
        if let Some(draft) = &self.draft {
            draft.note(|receipt| {
                receipt.chosen = Some(model);
                facts.restore(receipt);
                if let Some(at) = at.filter(|at| *at < receipt.rejected.len()) {
                    receipt.rejected.remove(at);
                }
            });
        }
        Ok(reply)
    }

    fn note(&self, text: String) {
        let Some(draft) = &self.draft else { return };
        draft.note(|receipt| match &mut receipt.tier_note {
            Some(note) => *note = format!("{note}; {text}"),
            none => *none = Some(text),
        });
    }
}
