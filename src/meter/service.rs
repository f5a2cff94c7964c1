//! Opens the receipt, and settles it when the body has ended.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Uri;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::Shared;
use super::learn::learn;
use super::settle::settle;
use super::tap::Tap;
use crate::call::{Call, Doc, Options, Reply, ReplyBody};
use crate::dialect::{Format, Outcome, Reading, read};
use crate::receipt::{Draft, Receipt, ReceiptHandle, Served, Stated};
use crate::{BoxError, Error, Kind};

/// Measures what passes through it. Forwards readiness. See the [module docs](crate::meter).
#[derive(Clone)]
pub struct Meter<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Meter<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S> fmt::Debug for Meter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter")
    }
}

impl<S> Service<Call> for Meter<S>
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
        let draft = Draft::begin(Receipt {
            dialect: call.dialect,
            tag: Options::among(&call.parts.extensions).and_then(|options| options.tag.clone()),
            started_ms: self.shared.clock.now_ms(),
            ..Receipt::default()
        });
        call.parts.extensions.insert(draft.clone());
        // Without usage in a stream nobody knows what it cost. Asking changes no answer and no cache key, and what it
        // brings is taken out again for a caller who did not ask.
        let hides = self.shared.asks_for_usage
            && call.wants_stream()
            && call.format().hide_usage().is_some()
            && !call.format().stream_shape(&call).usage;
        if hides {
            call.format().ask_for_usage(&mut call);
        }
        let open = Open {
            draft,
            hides,
            uri: call.parts.uri.clone(),
            doc: call.doc.clone(),
            format: call.format(),
            handle: ReceiptHandle::default(),
            shared: self.shared.clone(),
        };
        ResponseFuture { inner: self.inner.call(call), open: Some(open) }
    }
}

/// A receipt that is not settled yet. Dropped unsettled, it settles itself as a call that got no answer.
pub(super) struct Open {
    draft: Draft,
    /// The caller did not ask for the usage that comes with the stream.
    hides: bool,
    /// With `doc`, the call as it came: who was asked for is looked up only if no layer has said it. An exact
    /// repeat brings that along, and its body is then never parsed.
    uri: Uri,
    doc: Doc,
    format: &'static dyn Format,
    handle: ReceiptHandle,
    shared: Arc<Shared>,
}

impl Open {
    /// Settles the receipt at `outcome` (nothing known: the draft's own facts stand) and hands it to the sinks.
    pub(super) fn close(&self, outcome: Option<Outcome>, complete: bool) {
        let mut receipt = self.draft.note(std::mem::take);
        receipt.complete = complete;
        if receipt.asked.is_none() {
            receipt.asked = self.model();
        }
        if receipt.chosen.is_none() {
            receipt.chosen.clone_from(&receipt.asked);
        }
        let took = self.shared.clock.now_ms() - receipt.started_ms;
        receipt.took = std::time::Duration::from_millis(u64::try_from(took).unwrap_or(0));
        let mut text_bytes = 0;
        if let Some(outcome) = outcome {
            text_bytes = outcome.text_bytes;
            receipt.finish = outcome.finish;
            receipt.usage = outcome.usage;
            receipt.answered = outcome.model;
            receipt.service_tier = outcome.service_tier;
        }
        if let Some(counter) = &self.shared.learning {
            learn(&mut receipt, counter, || self.call());
        }
        settle(&mut receipt, &self.shared.prices, self.doc.bytes().len() as u64, text_bytes);
        let receipt = self.handle.settle(receipt);
        for sink in &self.shared.sinks {
            // A sink that panics must cost neither the caller the answer nor the other sinks the receipt.
            if catch_unwind(AssertUnwindSafe(|| sink.receive(receipt))).is_err() {
                tracing::error!("a sink of receipts panicked");
            }
        }
    }

    /// The caller has left; what was seen of the answer is `seen`. If the call goes on without it, the receipt waits
    /// for what it will have cost.
    pub(super) fn left(self, seen: Option<Outcome>) {
        let draft = self.draft.clone();
        draft.close_when_paid(move |came| self.close(came.or(seen), false));
    }

    /// The call as it came, without headers.
    fn call(&self) -> Call {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.uri = self.uri.clone();
        Call::new(self.format.dialect(), parts, self.doc.clone())
    }

    fn model(&self) -> Option<String> {
        self.format.model(&self.call())
    }

    fn answered(self, mut reply: Reply) -> Reply {
        reply.extensions_mut().insert(self.handle.clone());
        // What is known before a stream ends is in there.
        reply.extensions_mut().insert(self.draft.clone());
        let known = self.draft.note(|receipt| {
            receipt.status = Some(reply.status().as_u16());
            if receipt.served == Served::Nowhere {
                receipt.served = Served::Upstream;
            }
            // A hit brings the stored facts along; its body needs no second reading.
            matches!(receipt.served, Served::Memory | Served::Disk)
                || reply.extensions().get::<Stated>().is_some()
        });
        match reply.body().is_stream() {
            false => {
                let outcome = (!known).then(|| {
                    let body = reply.body().complete().unwrap_or_default();
                    match Reading::known(reply.extensions(), &body) {
                        Some(outcome) => outcome.clone(),
                        None => read(self.format, reply.headers(), &body),
                    }
                });
                self.close(outcome, true);
                reply
            }
            true => {
                let reading = (!known)
                    .then(|| Reading::of_stream(reply.extensions_mut(), || self.format.stream_reader()));
                let filter = if self.hides { self.format.hide_usage() } else { None };
                reply.map(|body| ReplyBody::stream(Tap::new(body, reading, filter, self)))
            }
        }
    }
}

pin_project! {
    /// Future of [`Meter`]: the inner reply, with a [`ReceiptHandle`] among its extensions.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        open: Option<Open>,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            // The caller left before there was a head.
            if let Some(open) = this.project().open.take() {
                open.draft.note(|receipt: &mut Receipt| receipt.notes.push("the caller left before the answer came"));
                open.left(None);
            }
        }
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Reply, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        let open = this.open.take().expect("a future is not polled after it was ready");
        Poll::Ready(match answer {
            Ok(reply) => Ok(open.answered(reply)),
            Err(error) => {
                let error = error.into();
                let refused = Error::find(&*error).is_some_and(|error| error.kind() != Kind::Upstream);
                open.draft.note(|receipt| receipt.refused = refused);
                open.close(None, false);
                Err(error)
            }
        })
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
