use std::task::{Context, Poll};

use tower_service::Service;

use super::ask::Told;
use super::plan::{Planned, budget_of, plan_told};
use super::{Plan, ResponseFuture, TrimPolicy, apply};
use crate::call::{Call, Reply};
use crate::receipt::{self, Draft};
use crate::tokens::{Count, Counter};
use crate::{BoxError, Error, Kind};

/// Fits each call's prompt into its budget, or refuses the call. See the [module docs](crate::trim).
///
/// Refused: a call whose protected part alone is over its budget; nothing is sent. Passed on as it came: a call
/// without a budget, of an unknown format, or with a body that cannot be edited. Readiness is that of the inner
/// service.
#[derive(Clone, Debug)]
pub struct Trim<S> {
    inner: S,
    policy: TrimPolicy,
    counter: Counter,
}

impl<S> Trim<S> {
    pub(super) fn new(inner: S, policy: TrimPolicy, counter: Counter) -> Self {
        Self { inner, policy, counter }
    }

    fn trim(&self, call: &mut Call) -> Result<(), Error> {
        let told = Told::of(call);
        // Where nobody wants the number, a call that clearly fits need not be counted.
        let unseen = Draft::of(call).is_none();
        if budget_of(call, &self.policy)
            .is_some_and(|budget| told.is_none() && unseen && self.counter.fits(call, budget))
        {
            return Ok(());
        }
        let Planned { plan, raw_after } = plan_told(call, &self.policy, &self.counter, told.as_ref())?;
        match apply(call, &plan) {
            Ok(()) => {
                note(call, &plan);
                self.expect(call, raw_after.as_ref());
            }
            Err(error) if error.kind() == Kind::NotEditable => {
                note(call, &Plan { note: Some("not trimmed: the body cannot be edited"), ..Plan::default() });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl<S> Trim<S> {
    /// Notes what the call is expected to be billed, if someone learns from that.
    fn expect(&self, call: &Call, raw: Option<&Count>) {
        let (Some(draft), Some(raw)) = (Draft::of(call), raw) else { return };
        if self.counter.calibration().is_some() {
            let expected = self.counter.expected(call, raw);
            draft.note(|receipt| receipt.expected = expected);
        }
    }
}

fn note(call: &Call, plan: &Plan) {
    receipt::note(call, |receipt| {
        if plan.before.is_some() {
            receipt.tokens_before = receipt.tokens_before.or(plan.before);
            receipt.tokens_after = plan.after;
        }
        receipt.dropped_messages += plan.dropped;
        receipt.breaks_prefix |= plan.breaks_prefix;
        receipt.notes.extend(plan.note);
        if !plan.cleared.is_empty() {
            receipt.notes.push("old tool results were cleared");
        }
        if plan.crosses_mark {
            receipt.notes.push("trimmed in front of the caller's cache mark");
        }
    });
}

impl<S> Service<Call> for Trim<S>
where
    S: Service<Call, Response = Reply>,
    S::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        match self.trim(&mut call) {
            Ok(()) => ResponseFuture::sent(self.inner.call(call)),
            Err(error) => ResponseFuture::refused(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trim_is_as_capable_as_its_inner_service() {
        fn check<T: Clone + Send + Sync>() {}
        check::<Trim<()>>();
    }
}
