//! What many callers can hold of one reply.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;

use http::header::RETRY_AFTER;
use http::response::Parts;

use crate::cache::policy::stored_headers;
use crate::dialect::Reading;
use crate::{BoxError, Error, Kind};

/// The head of somebody else's call: cookies, request ids and whatever else is about the one call that was sent are
/// for the caller who sent it.
pub(in super::super) fn joined_head(parts: &Parts) -> Parts {
    let (mut own, ()) = http::Response::new(()).into_parts();
    own.status = parts.status;
    own.headers = stored_headers(&parts.headers);
    if let Some(after) = parts.headers.get(RETRY_AFTER) {
        own.headers.insert(RETRY_AFTER, after.clone());
    }
    // What the answer says is the same for all who get it.
    if let Some(reading) = parts.extensions.get::<Reading>() {
        own.extensions.insert(reading.clone());
    }
    own
}

/// An error that many callers can hold: ours as it is, another one as the source of ours.
pub(in super::super) fn shared(error: BoxError) -> Error {
    match Error::find(&*error) {
        Some(ours) => ours.clone(),
        None => Error::caused_by(
            Kind::Upstream,
            "the upstream call failed",
            "see the source of this error; calling again starts a new one",
            error,
        ),
    }
}

/// What `work` gives, or `None` if `end` comes first.
pub(in super::super) async fn unless<F: Future>(
    work: F,
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> Option<F::Output> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}
