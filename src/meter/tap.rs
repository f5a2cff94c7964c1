//! Reads a stream on the side while it is passed on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::service::Open;
use crate::BoxError;
use crate::call::ReplyBody;
use crate::dialect::{FrameFilter, Reading};

/// A body whose end settles a receipt. Dropped before its end, it settles at what was seen, marked incomplete.
pub(super) struct Tap {
    body: ReplyBody,
    /// What it says, fed here if nobody within reads it; none where that is known from elsewhere.
    reading: Option<(Reading, bool)>,
    /// Takes out what the meter asked for and the caller did not.
    filter: Option<Box<dyn FrameFilter>>,
    open: Option<Open>,
    ended: bool,
}

impl Tap {
    pub(super) fn new(
        body: ReplyBody,
        reading: Option<(Reading, bool)>,
        filter: Option<Box<dyn FrameFilter>>,
        open: Open,
    ) -> Self {
        Self { body, reading, filter, open: Some(open), ended: false }
    }

    fn close(&mut self, ended: bool) {
        if let Some(open) = self.open.take() {
            open.close(self.reading.as_ref().map(|(reading, _)| reading.outcome(ended)), ended);
        }
    }
}

impl Body for Tap {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.close(false);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    self.close(true);
                    let rest =
                        self.filter.as_mut().map(|filter| filter.rest()).filter(|rest| !rest.is_empty());
                    return Poll::Ready(rest.map(|rest| Ok(Frame::data(rest))));
                }
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            if let Some((reading, true)) = &self.reading {
                reading.push(&data);
            }
            let passed = match &mut self.filter {
                Some(filter) => filter.pass(data),
                None => data,
            };
            // A frame that was all hidden, or is held until its event is whole, is no frame.
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            open.left(self.reading.as_ref().map(|(reading, _)| reading.outcome(false)));
        }
    }
}
