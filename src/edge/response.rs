//! An HTTP response becomes a [`Reply`]: whole where it is a document, frame by frame where it is a stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::headers::strip_hop_by_hop;
use crate::call::{Call, Dialect, Doc, Framed, Reply, ReplyBody};
use crate::{BoxError, Error, Kind};

/// What is known of a call when its answer comes.
#[derive(Clone, Copy)]
pub(super) struct Expecting {
    /// A known format, and no stream was asked for.
    whole: bool,
}

impl Expecting {
    pub(super) fn of(call: &Call) -> Self {
        Self { whole: call.dialect != Dialect::Opaque && !call.wants_stream() }
    }
}

/// The response as a reply.
///
/// A JSON document is collected, since every layer wants to read it: if its length is known, if it is an error, or
/// if the call did not ask for a stream. All else is passed on as it comes; so is a document that turns out to be
/// larger than [`Doc::MAX_BYTES`].
pub(super) async fn receive<B>(response: http::Response<B>, expecting: Expecting) -> Result<Reply, BoxError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (mut parts, body) = response.into_parts();
    if is_chunked(&parts.headers) {
        // What says where the body ends goes with the hop; that it was said is kept.
        parts.extensions.insert(Framed);
    }
    strip_hop_by_hop(&mut parts.headers);
    let length = body.size_hint().exact().or_else(|| declared(&parts.headers));
    let is_error = !parts.status.is_success();
    let collect = match length {
        Some(length) => is_json(&parts.headers) && length <= Doc::MAX_BYTES as u64,
        None => is_json(&parts.headers) && (expecting.whole || is_error),
    };
    let body = if collect { gather(body).await? } else { ReplyBody::stream(body) };
    Ok(http::Response::from_parts(parts, body))
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let coding = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
    let last = coding.and_then(|value| value.to_str().ok()).and_then(|value| value.rsplit(',').next());
    last.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

async fn gather<B>(body: B) -> Result<ReplyBody, BoxError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut body = Box::pin(body);
    let (mut frames, mut length) = (VecDeque::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| {
            let way_out = "send the call again; the provider may have billed it";
            Error::caused_by(Kind::Upstream, "the answer broke off in its middle", way_out, cause)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        frames.push_back(data);
        if length > Doc::MAX_BYTES {
            return Ok(ReplyBody::stream(Resumed { frames, rest: body }));
        }
    }
    // Copied even if it is one piece: a piece is a window into a client's read buffer, and an answer that is kept
    // would keep that whole buffer, and make the client begin a new one.
    let mut all = BytesMut::with_capacity(length);
    frames.iter().for_each(|data| all.extend_from_slice(data));
    Ok(ReplyBody::full(all))
}

/// Frames that were read already, then the others.
struct Resumed<B> {
    frames: VecDeque<Bytes>,
    rest: Pin<Box<B>>,
}

impl<B: Body<Data = Bytes>> Body for Resumed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.frames.pop_front() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => self.rest.as_mut().poll_frame(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};

    fn response<B>(kind: &str, body: B) -> http::Response<B> {
        http::Response::builder().header("content-type", kind).body(body).expect("a response")
    }

    fn unsized_body(data: Vec<Bytes>) -> impl Body<Data = Bytes, Error = BoxError> + Send {
        StreamBody::new(futures_util::stream::iter(data.into_iter().map(|data| Ok(Frame::data(data)))))
    }

    #[tokio::test]
    async fn a_document_arrives_whole_and_a_stream_does_not_wait() {
        let (whole, streamed) = (Expecting { whole: true }, Expecting { whole: false });
        let full = || Full::<Bytes>::from("{}");
        for kind in ["application/json", "application/json; charset=utf-8", "application/problem+json"] {
            let reply = receive(response(kind, full()), streamed).await.expect("a reply");
            assert!(!reply.body().is_stream(), "{kind} of known length");
        }
        for kind in ["text/event-stream", "application/x-ndjson", "audio/mpeg"] {
            let reply = receive(response(kind, full()), whole).await.expect("a reply");
            assert!(reply.body().is_stream(), "{kind}");
        }
        let pieces = || unsized_body(vec!["{".into(), "}".into()]);
        let reply = receive(response("application/json", pieces()), whole).await.expect("a reply");
        assert_eq!(reply.body().complete().as_deref(), Some(&b"{}"[..]));
        let reply = receive(response("application/json", pieces()), streamed).await.expect("a reply");
        assert!(reply.body().is_stream(), "a JSON array may be streamed element by element");
    }

    #[tokio::test]
    async fn that_chunks_told_the_end_of_a_body_is_kept_when_their_header_goes() {
        for (coding, framed) in [("chunked", true), ("gzip, Chunked", true), ("gzip", false)] {
            let mut response = response("audio/mpeg", unsized_body(vec!["a".into()]));
            response.headers_mut().insert("transfer-encoding", coding.parse().expect("a value"));
            let reply = receive(response, Expecting { whole: false }).await.expect("a reply");
            assert!(reply.headers().get("transfer-encoding").is_none());
            assert_eq!(reply.extensions().get::<Framed>().is_some(), framed, "{coding}");
        }
        let reply = receive(response("audio/mpeg", unsized_body(vec![])), Expecting { whole: false }).await;
        let reply = reply.expect("a reply");
        assert!(reply.extensions().get::<Framed>().is_none(), "it ends with the connection");
    }

    #[tokio::test]
    async fn a_document_over_the_limit_is_passed_on_without_losing_a_byte() {
        let data = vec![Bytes::from(vec![b' '; Doc::MAX_BYTES]), Bytes::from("{"), Bytes::from("}")];
        let response = response("application/json", unsized_body(data));
        let reply = receive(response, Expecting { whole: true }).await.expect("a reply");
        assert!(reply.body().is_stream());
        assert_eq!(reply.into_body().bytes().await.expect("bytes").len(), Doc::MAX_BYTES + 2);
    }
}
