//! Settling a call at the end of its body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};

use super::Ticket;
use crate::BoxError;
use crate::call::{Call, Dialect, Doc, ReplyBody};
use crate::dialect::{Finish, Outcome, Reading, StreamReader};
use crate::price::{Terms, Usd};

/// What the price of a call depends on besides its reply.
pub(super) struct Bill {
    pub(super) dialect: Dialect,
    asked: Option<String>,
    /// For the stream that was asked for.
    reader: Option<Box<dyn StreamReader>>,
}

impl Bill {
    pub(super) fn of(call: &Call) -> Self {
        let reader = call.wants_stream().then(|| call.format().stream_reader_for(call));
        Self { dialect: call.dialect, asked: call.model(), reader }
    }

    /// Charges what `outcome` costs, else the reservation.
    pub(super) fn settle(&self, outcome: &Outcome, ticket: Ticket) {
        let cost = self.cost(outcome, &ticket);
        ticket.settle(cost);
    }

    fn cost(&self, outcome: &Outcome, ticket: &Ticket) -> Option<Usd> {
        // Without its end marker a body has only begun to count.
        if outcome.finish == Finish::Partial {
            return None;
        }
        let usage = outcome.usage.as_ref().filter(|usage| usage.is_known())?;
        let terms = Terms::at(ticket.at_ms()).with_service_tier(outcome.service_tier.clone());
        let prices = ticket.budget().prices();
        // The model that answered; if the table does not know it, the one asked for.
        let models = outcome.model.iter().chain(&self.asked);
        models.into_iter().find_map(|model| prices.cost(model, usage, &terms).usd)
    }
}

/// True unless the body is a stream of events or lines.
fn is_document(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    !media.starts_with("text/event-stream") && !media.contains("ndjson")
}

/// A body that passes on as it comes and settles its call's ticket when it ends or is dropped.
pub(super) struct Tap {
    body: ReplyBody,
    source: Source,
    ticket: Option<Ticket>,
    bill: Bill,
}

enum Source {
    /// Fed here, if this is the first who reads.
    Stream(Reading, bool),
    /// Frames of a document; they share their bytes with those passed on.
    Document(Vec<Bytes>, usize),
}

impl Tap {
    pub(super) fn new(body: ReplyBody, head: &mut Parts, ticket: Ticket, mut bill: Bill) -> Self {
        let source = if is_document(&head.headers) {
            Source::Document(Vec::new(), 0)
        } else {
            let reader = bill.reader.take();
            let reader = || reader.unwrap_or_else(|| bill.dialect.format().stream_reader());
            let (reading, feeds) = Reading::of_stream(&mut head.extensions, reader);
            Source::Stream(reading, feeds)
        };
        Self { body, source, ticket: Some(ticket), bill }
    }

    fn read(&mut self, data: &Bytes) {
        match &mut self.source {
            Source::Stream(reading, true) => reading.push(data),
            Source::Stream(_, false) => {}
            Source::Document(frames, len) => {
                *len = len.saturating_add(data.len());
                if *len <= Doc::MAX_BYTES {
                    frames.push(data.clone());
                } else {
                    // Too long to be looked into: the reservation is charged.
                    frames.clear();
                }
            }
        }
    }

    fn settle(&mut self, ended: bool) {
        let Some(ticket) = self.ticket.take() else { return };
        let outcome = match &self.source {
            Source::Stream(reading, _) => reading.outcome(ended),
            Source::Document(frames, len) => {
                let mut whole = BytesMut::with_capacity((*len).min(Doc::MAX_BYTES));
                frames.iter().for_each(|frame| whole.extend_from_slice(frame));
                self.bill.dialect.format().read_reply(&whole)
            }
        };
        // Clients often leave at the end marker, before the end of the body. Counts before that are not final.
        if ended || matches!(outcome.finish, Finish::Whole | Finish::Truncated | Finish::Refused) {
            self.bill.settle(&outcome, ticket);
        } else {
            ticket.settle(None);
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
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.read(data);
                }
            }
            Poll::Ready(Some(Err(_))) => self.settle(false),
            Poll::Ready(None) => self.settle(true),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.settle(false);
    }
}
