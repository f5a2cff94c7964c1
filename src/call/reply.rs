//! The answer to a call: complete bytes, or a stream of frames.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use sync_wrapper::SyncWrapper;

use crate::BoxError;

/// The answer to a [`Call`](super::Call): status, headers and extensions for free.
pub type Reply = http::Response<ReplyBody>;

/// Body of a [`Reply`]: complete bytes, or a stream passed on frame by frame. `Send` and `Sync`.
///
/// # Example
/// ```
/// use thrifty::call::ReplyBody;
///
/// let body = ReplyBody::from("{}");
/// assert_eq!(body.complete().as_deref(), Some(&b"{}"[..]));
/// ```
pub struct ReplyBody(Inner);

enum Inner {
    Complete(Option<Bytes>),
    /// Complete too, in pieces that are not copied into one before somebody asks for that.
    Pieces(std::vec::IntoIter<Bytes>),
    Stream(SyncWrapper<UnsyncBoxBody<Bytes, BoxError>>),
}

impl ReplyBody {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self(Inner::Complete(None))
    }

    /// All bytes at hand.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(Inner::Complete((!bytes.is_empty()).then_some(bytes)))
    }

    /// All bytes at hand, in pieces that are sent one after the other.
    pub(crate) fn pieces(pieces: Vec<Bytes>) -> Self {
        Self(Inner::Pieces(pieces.into_iter()))
    }

    /// Frames as they come.
    pub fn stream<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Inner::Stream(SyncWrapper::new(body.map_err(Into::into).boxed_unsync())))
    }

    /// The bytes, if all of them are at hand. Those of a replay with a fresh id are put together here.
    #[must_use]
    pub fn complete(&self) -> Option<Bytes> {
        match &self.0 {
            Inner::Complete(bytes) => Some(bytes.clone().unwrap_or_default()),
            Inner::Pieces(pieces) => Some(pieces.as_slice().concat().into()),
            Inner::Stream(_) => None,
        }
    }

    /// True if frames are still to come.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.0, Inner::Stream(_))
    }

    /// All bytes, waiting for the frames of a stream.
    ///
    /// # Errors
    /// That of the stream.
    pub async fn bytes(self) -> Result<Bytes, BoxError> {
        match self.0 {
            Inner::Complete(bytes) => Ok(bytes.unwrap_or_default()),
            Inner::Pieces(pieces) => Ok(pieces.as_slice().concat().into()),
            Inner::Stream(body) => Ok(body.into_inner().collect().await?.to_bytes()),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Complete(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Pieces(pieces) => Poll::Ready(pieces.next().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Stream(body) => Pin::new(body.get_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Complete(bytes) => bytes.is_none(),
            Inner::Pieces(pieces) => pieces.as_slice().is_empty(),
            Inner::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Complete(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Inner::Pieces(pieces) => {
                SizeHint::with_exact(pieces.as_slice().iter().map(|bytes| bytes.len() as u64).sum())
            }
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for ReplyBody {
    /// Its shape, never its contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_stream() { "ReplyBody(stream)" } else { "ReplyBody(complete)" })
    }
}

impl Default for ReplyBody {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for ReplyBody {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl From<&'static str> for ReplyBody {
    fn from(text: &'static str) -> Self {
        Self::full(text)
    }
}

impl From<String> for ReplyBody {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<http_body_util::Full<Bytes>> for ReplyBody {
    fn from(full: http_body_util::Full<Bytes>) -> Self {
        Self::stream(full.map_err(|never: Infallible| match never {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_one_body() {
        let pieces = || ReplyBody::pieces(vec!["an".into(), "swer".into()]);
        assert_eq!((pieces().complete().as_deref(), pieces().is_stream()), (Some(&b"answer"[..]), false));
        assert_eq!(pieces().bytes().await.unwrap(), "answer");
        let mut body = pieces();
        for (left, piece) in [(6, "an"), (4, "swer")] {
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(left), false));
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
        }
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert_eq!(body.complete().unwrap(), "", "what was taken is gone, as from any body");
    }

    #[test]
    fn reply_body_crosses_every_client_boundary() {
        fn check<T: Send + Sync + Body<Data = Bytes> + 'static>() {}
        check::<ReplyBody>();
    }
}
