//! One stored answer for every kind of caller.
//!
//! An answer is stored in the form it was paid in. A caller who wants the other form gets it made from the stored
//! one by the format; where that cannot be done without guessing, the answer counts as not stored for this caller.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::response::Parts;
use http_body::{Body, Frame};

mod renew;

use self::renew::Anew;
pub(super) use self::renew::FreshIds;
use super::entry::Entry;
use super::freshness::KEPT;
use super::layer::Core;
use super::status;
use crate::BoxError;
use crate::call::{Call, Reply, ReplyBody};
use crate::dialect::{Format, FrameFilter, StreamShape};

/// The kind of answer a caller wants: a stream of this shape, or a document.
pub(super) type Want = Option<StreamShape>;

/// The kind of answer `call` wants.
pub(super) fn want(call: &Call) -> Want {
    call.wants_stream().then(|| call.format().stream_shape(call))
}

/// A stored answer in the form one caller wants.
pub(super) struct Rendered {
    pub(super) parts: Parts,
    pub(super) body: RenderedBody,
}

pub(super) enum RenderedBody {
    Whole(Bytes),
    /// Whole too; most of it is what is stored.
    Pieces(Vec<Bytes>),
    Stream(Box<dyn Iterator<Item = Bytes> + Send + Sync>),
}

/// Headers that a replay may have beyond those that are stored.
const OWN_HEADERS: usize = 3;

/// Where the id is told that a replay's body no longer has.
const ORIGIN_ID: HeaderName = HeaderName::from_static("thrifty-origin-id");

/// `entry` as the caller wants it; `None` where the stored form does not tell enough. A silent reply does not say that
/// it is a stored one.
pub(super) fn render(
    core: &Core,
    format: &dyn Format,
    entry: &Entry,
    want: Want,
    silent: bool,
) -> Option<Rendered> {
    render_at(core, format, entry, want, silent, core.clock.now_ms())
}

/// The same for whoever knows the time.
pub(super) fn render_at(
    core: &Core,
    format: &dyn Format,
    entry: &Entry,
    want: Want,
    silent: bool,
    now_ms: i64,
) -> Option<Rendered> {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = entry.status;
    parts.headers = entry.headers.clone();
    parts.headers.reserve(OWN_HEADERS);
    parts.headers.remove(&KEPT);
    if !silent {
        status::hit(&mut parts.headers, entry, now_ms);
    }
    let anew = match &core.fresh_ids {
        Some(ids) => {
            let identity = entry.identity(format);
            let own = identity.own_id(&entry.body).filter(|_| !silent);
            if let Some(id) = own.and_then(|id| HeaderValue::from_str(id).ok()) {
                parts.headers.insert(ORIGIN_ID, id);
            }
            (!identity.is_empty()).then(|| Anew::new(identity.clone(), ids, now_ms))
        }
        None => None,
    };
    let (body, mut content_type) = (&entry.body, None);
    let body = match (&entry.frames, want) {
        (None, None) => match anew {
            None => RenderedBody::Whole(body.clone()),
            Some(anew) => match anew.pieces(body) {
                pieces if pieces.len() > 1 => RenderedBody::Pieces(pieces),
                pieces => RenderedBody::Whole(pieces.into_iter().next().unwrap_or_default()),
            },
        },
        (None, Some(shape)) => {
            // An array is what it is said to be already.
            content_type = (!shape.array).then(|| HeaderValue::from_static(format.stream_type()));
            let body = anew.map_or_else(|| body.clone(), |anew| anew.whole(body));
            RenderedBody::Stream(Box::new(format.to_stream(&body, shape)?.into_iter()))
        }
        (Some(_), None) => {
            content_type = Some(HeaderValue::from_static("application/json"));
            let body = anew.map_or_else(|| body.clone(), |anew| anew.whole(body));
            RenderedBody::Whole(format.to_document(&body)?)
        }
        (Some(frames), Some(shape)) => {
            let filter = if shape.usage { None } else { format.hide_usage() };
            RenderedBody::Stream(match anew {
                None => filtered(Replay { body: body.clone(), frames: frames.clone(), at: 0 }, filter),
                Some(anew) => filtered(anew.frames(body, frames), filter),
            })
        }
    };
    if let Some(content_type) = content_type {
        parts.headers.insert(CONTENT_TYPE, content_type);
    }
    Some(Rendered { parts, body })
}

impl Rendered {
    /// As a reply.
    pub(super) fn reply(self) -> Reply {
        let body = match self.body {
            RenderedBody::Whole(bytes) => ReplyBody::full(bytes),
            RenderedBody::Pieces(pieces) => ReplyBody::pieces(pieces),
            RenderedBody::Stream(frames) => ReplyBody::stream(Frames(frames)),
        };
        Reply::from_parts(self.parts, body)
    }
}

/// A streamed reply without the usage that only the cache asked for.
pub(super) fn hide_usage(format: &dyn Format, reply: Reply) -> Reply {
    match format.hide_usage() {
        Some(filter) if reply.body().is_stream() => {
            reply.map(|body| ReplyBody::stream(Hidden { body, filter: Some(filter) }))
        }
        _ => reply,
    }
}

/// A live stream on its way through a filter.
struct Hidden {
    body: ReplyBody,
    filter: Option<Box<dyn FrameFilter>>,
}

impl Body for Hidden {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            let Some(filter) = self.filter.as_mut() else { return Poll::Ready(None) };
            let passed = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => filter.pass(data),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let rest = self.filter.take().map(|mut filter| filter.rest()).unwrap_or_default();
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
            };
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }
}

/// The frames a stored stream came in.
struct Replay {
    body: Bytes,
    frames: Arc<[u32]>,
    at: usize,
}

impl Iterator for Replay {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let len = *self.frames.get(self.at)? as usize;
        self.at += 1;
        Some(self.body.split_to(len.min(self.body.len())))
    }
}

/// The frames without what the caller did not ask for.
fn filtered(
    frames: impl Iterator<Item = Bytes> + Send + Sync + 'static,
    filter: Option<Box<dyn FrameFilter>>,
) -> Box<dyn Iterator<Item = Bytes> + Send + Sync> {
    match filter {
        None => Box::new(frames),
        filter => Box::new(Filtered { frames, filter }),
    }
}

struct Filtered<I> {
    frames: I,
    filter: Option<Box<dyn FrameFilter>>,
}

impl<I: Iterator<Item = Bytes>> Iterator for Filtered<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let filter = self.filter.as_mut()?;
            let passed = match self.frames.next() {
                Some(frame) => filter.pass(frame),
                None => self.filter.take()?.rest(),
            };
            if !passed.is_empty() {
                return Some(passed);
            }
        }
    }
}

struct Frames(Box<dyn Iterator<Item = Bytes> + Send + Sync>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|bytes| Ok(Frame::data(bytes))))
    }
}
