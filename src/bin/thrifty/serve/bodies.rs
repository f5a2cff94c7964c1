//! Bodies that do not hang and do not end without a word.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};
use thrifty::call::{Dialect, ReplyBody, json};
use thrifty::edge::error_body;
use thrifty::receipt::ReceiptHandle;
use thrifty::{BoxError, Error};
use tokio::time::{Instant, Sleep, sleep};

/// A body that fails when it pauses for too long, and says whose it is when it breaks.
pub(super) struct Idle<B> {
    body: Pin<Box<B>>,
    /// Made at the first pause: most bodies are there when they are asked for.
    pause: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    longest: Duration,
    troubles: Arc<Troubles>,
}

/// What is said when a body fails.
pub(super) struct Troubles {
    /// After a pause that was too long.
    pub(super) silent: Error,
    /// When its connection broke.
    pub(super) broken: Error,
}

impl<B> Idle<B> {
    /// `body`, which may pause for `longest`.
    pub(super) fn new(body: B, longest: Duration, troubles: Arc<Troubles>) -> Self {
        Self { body: Box::pin(body), pause: None, waiting: false, longest, troubles }
    }
}

impl<B> Body for Idle<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|cause| {
                    let ours = &this.troubles.broken;
                    Error::caused_by(ours.kind(), ours.problem(), ours.way_out(), cause).into()
                })
            }));
        }
        let pause = this.pause.get_or_insert_with(|| Box::pin(sleep(this.longest)));
        if !this.waiting {
            this.waiting = true;
            pause.as_mut().reset(Instant::now() + this.longest);
        }
        ready!(pause.as_mut().poll(cx));
        Poll::Ready(Some(Err(this.troubles.silent.clone().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that tells what went wrong in its own format before it breaks off.
///
/// The event is sent only between two events: put into half of one it would be read as part of it. The connection is
/// broken after it all the same, so that nobody takes the stream for whole.
pub(super) struct Telling {
    body: ReplyBody,
    dialect: Dialect,
    path: String,
    /// The last bytes that were passed on.
    tail: [u8; 2],
    broken: Option<(BoxError, Pin<Box<Sleep>>)>,
}

/// Time for the last event to leave before the connection breaks.
const GRACE: Duration = Duration::from_millis(20);

impl Telling {
    pub(super) fn new(body: ReplyBody, dialect: Dialect, path: String) -> Self {
        Self { body, dialect, path, tail: *b"\n\n", broken: None }
    }

    fn between_events(&self) -> bool {
        // The end of a blank line; in NDJSON every line is an event.
        match self.tail {
            [b'\n' | b'\r', b'\n'] => true,
            [_, b'\n'] => self.dialect == Dialect::OllamaChat,
            _ => false,
        }
    }

    fn saw(&mut self, data: &[u8]) {
        // `\r\n\r\n` and `\n\n` both read `\n\n` without the carriage returns.
        let mut last = data.iter().rev().filter(|byte| **byte != b'\r');
        self.tail = match (last.next(), last.next()) {
            (Some(last), Some(before)) => [*before, *last],
            (Some(last), None) => [self.tail[1], *last],
            (None, _) => return,
        };
    }
}

impl Body for Telling {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some((_, grace)) = &mut this.broken {
            ready!(grace.as_mut().poll(cx));
            return Poll::Ready(this.broken.take().map(|(error, _)| Err(error)));
        }
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Err(error)) if this.between_events() => {
                let event = event(this.dialect, &this.path, &error);
                this.broken = Some((error, Box::pin(sleep(GRACE))));
                Poll::Ready(Some(Ok(Frame::data(event))))
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.saw(data);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A stream that tells what it cost when it has ended, in a trailer: its head left before anybody knew.
pub(super) struct Costing {
    body: ReplyBody,
    receipt: Option<ReceiptHandle>,
}

/// The header of the cost, and the trailer.
pub(super) const COST: HeaderName = HeaderName::from_static("thrifty-cost-usd");

impl Costing {
    pub(super) fn new(body: ReplyBody, receipt: ReceiptHandle) -> Self {
        Self { body, receipt: Some(receipt) }
    }
}

impl Body for Costing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.receipt.is_none() {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if frame.is_some() {
            return Poll::Ready(frame);
        }
        let receipt = this.receipt.take();
        let billed = receipt.as_ref().and_then(|receipt| receipt.get()?.billed);
        let trailers = billed.and_then(|billed| {
            let value = HeaderValue::try_from(billed.to_string()).ok()?;
            Some(Frame::trailers(HeaderMap::from_iter([(COST, value)])))
        });
        Poll::Ready(trailers.map(Ok))
    }
}

/// `error` as an event that clients of this format show.
fn event(dialect: Dialect, path: &str, error: &BoxError) -> Bytes {
    let message = Error::find(&**error).map_or_else(
        || "the answer broke off in its middle; send the call again".to_owned(),
        ToString::to_string,
    );
    let body = error_body(dialect, path, StatusCode::BAD_GATEWAY, &message);
    let body = String::from_utf8_lossy(&body);
    match dialect {
        Dialect::OllamaChat => format!("{body}\n"),
        Dialect::AnthropicMessages => format!("event: error\ndata: {body}\n\n"),
        Dialect::OpenAiResponses => {
            let message = json::quote(&message);
            let event =
                format!(r#"{{"type":"error","code":"server_error","message":{message},"param":null}}"#);
            format!("event: error\ndata: {event}\n\n")
        }
        _ => format!("data: {body}\n\n"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use thrifty::Kind;

    fn broken(frames: &[&'static str]) -> ReplyBody {
        let frames: Vec<Result<Frame<Bytes>, BoxError>> = frames
            .iter()
            .map(|frame| Ok(Frame::data(Bytes::from_static(frame.as_bytes()))))
            .chain([Err(Error::new(Kind::Upstream, "it broke", "try again").into())])
            .collect();
        ReplyBody::stream(StreamBody::new(futures_util::stream::iter(frames)))
    }

    async fn all(mut body: impl Body<Data = Bytes, Error = BoxError> + Unpin) -> (String, bool) {
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data"))),
                Err(_) => return (text, true),
            }
        }
        (text, false)
    }

    #[tokio::test]
    async fn a_stream_that_breaks_says_so_in_its_format_and_still_breaks() {
        for dialect in [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::OpenAiResponses] {
            let (text, failed) =
                all(Telling::new(broken(&["data: {}\r\n", "\r\n"]), dialect, String::new())).await;
            assert!(failed, "nobody may take it for whole");
            let rest = text.strip_prefix("data: {}\r\n\r\n").expect("what came stays");
            assert!(rest.ends_with("\n\n") && rest.contains("it broke; try again"), "{dialect}: {rest}");
        }
    }

    #[tokio::test]
    async fn nothing_is_put_into_half_of_an_event() {
        let (text, failed) =
            all(Telling::new(broken(&["data: {\"a\"", ":1}\n"]), Dialect::OpenAiChat, String::new())).await;
        assert_eq!((text.as_str(), failed), ("data: {\"a\":1}\n", true));
        let (text, _) = all(Telling::new(broken(&["{\"a\":1}\n"]), Dialect::OllamaChat, String::new())).await;
        assert!(text.starts_with("{\"a\":1}\n{\"error\""), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_pauses_too_long_fails_and_a_slow_one_does_not() {
        let slow = futures_util::stream::unfold(0u64, |n| async move {
            let pause = if n < 5 { 9 } else { 11 };
            sleep(Duration::from_secs(pause)).await;
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))), n + 1))
        });
        let error = |problem| Error::new(Kind::Upstream, problem, "wait");
        let troubles = Troubles { silent: error("silence"), broken: error("broken") };
        let body = Idle::new(StreamBody::new(Box::pin(slow)), Duration::from_secs(10), troubles.into());
        assert_eq!(all(body).await, ("xxxxx".to_owned(), true));
    }
}
