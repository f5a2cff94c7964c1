//! A body that comes frame by frame.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use super::upstream::InFlight;
use crate::BoxError;

/// Frames with a pause before each but the first.
pub(super) struct Frames {
    frames: VecDeque<Bytes>,
    gap: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    /// How the body fails after its last frame, if it does.
    failure: Option<&'static str>,
    guard: Option<InFlight>,
}

impl Frames {
    pub(super) fn new(frames: Vec<Bytes>, gap: Duration, failure: Option<&'static str>) -> Self {
        Self { frames: frames.into(), gap, pause: None, failure, guard: None }
    }

    /// The call counts as in flight until the body has ended or is dropped.
    pub(super) fn hold(mut self, guard: Option<InFlight>) -> Self {
        self.guard = guard;
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let Some(frame) = self.frames.pop_front() else {
            self.guard = None;
            return Poll::Ready(self.failure.take().map(|failure| Err(failure.into())));
        };
        if !self.gap.is_zero() && !self.frames.is_empty() {
            self.pause = Some(Box::pin(tokio::time::sleep_until(Instant::now() + self.gap)));
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }
}
