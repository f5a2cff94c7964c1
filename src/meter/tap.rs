//! Reads a stream on the side while it is passed on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::service::Open;
use crate::BoxError;
use crate::call::ReplyBody;
use crate::dialect::StreamReader;

/// A body whose end settles a receipt. Dropped before its end, it settles at what was seen, marked incomplete.
pub(super) struct Tap {
    body: ReplyBody,
    reader: Option<Box<dyn StreamReader>>,
    open: Option<Open>,
}

impl Tap {
    pub(super) fn new(body: ReplyBody, reader: Option<Box<dyn StreamReader>>, open: Open) -> Self {
        Self { body, reader, open: Some(open) }
    }

    fn close(&mut self, ended: bool) {
        if let Some(open) = self.open.take() {
            open.close(self.reader.as_ref().map(|reader| reader.outcome(ended)), ended);
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
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(reader)) = (frame.data_ref(), &mut self.reader) {
                    reader.push(data);
                }
            }
            Some(Err(_)) => self.close(false),
            None => self.close(true),
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.close(false);
    }
}
