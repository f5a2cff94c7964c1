//! A caller's side of a flight: the head, then the log from its start, then live.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::response::Parts;
use http_body::{Body, Frame};

use super::log::Place;
use super::share::joined_head;
use crate::BoxError;
use crate::call::{Reply, ReplyBody};

/// A caller's place at a flight; dropped, the caller has left.
pub(in super::super) struct Seat {
    pub(super) place: Place<Arc<Parts>>,
    /// True for the caller who began the flight.
    pub(super) leads: bool,
}

impl Seat {
    /// Waits for the reply's head; a reply that came complete is handed on complete.
    pub(in super::super) async fn reply(self) -> Result<Reply, BoxError> {
        let (head, whole) = poll_fn(|cx| self.place.poll_head(cx)).await?;
        let parts = if self.leads { Parts::clone(&head.head) } else { joined_head(&head.head) };
        let body = match whole {
            Some(bytes) => ReplyBody::full(bytes),
            None => ReplyBody::stream(FlightBody { place: Some(self.place) }),
        };
        Ok(Reply::from_parts(parts, body))
    }

    /// The same place, with the head as it is: for a flight whose head was made here and tells of no call.
    pub(in super::super) fn with_whole_head(mut self) -> Self {
        self.leads = true;
        self
    }
}

/// The body of a streamed reply.
struct FlightBody {
    place: Option<Place<Arc<Parts>>>,
}

impl Body for FlightBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(place) = &self.place else { return Poll::Ready(None) };
        match place.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(ended) => {
                // What the log holds for this caller is let go at once.
                self.place = None;
                Poll::Ready(ended.map(|error| error.map(Frame::data).map_err(Into::into)))
            }
        }
    }
}
