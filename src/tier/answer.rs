//! An answer on its way back: down, poor, or to be passed on.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::TierPolicy;
use crate::call::json::Object;
use crate::call::{Call, Doc, Reply, ReplyBody};
use crate::dialect::{Finish, Usage};
use crate::{BoxError, Error, Kind};

/// What is to be made of an answer.
pub(super) enum Answer {
    /// Pass it on.
    Good(Reply),
    /// The model is down: try another, else pass this on.
    Down { result: Result<Reply, BoxError>, why: String, paid: bool, usage: Option<Usage> },
    /// The provider refuses the request as it stands.
    Invalid { reply: Reply, why: String },
    /// Refused, and no other model would help.
    Refused { result: Result<Reply, BoxError>, why: String },
    /// A whole answer that does not do the job.
    Poor { reply: Reply, why: &'static str, usage: Option<Usage> },
}

/// Looks at an answer; its body is read only if there is something to be done about it (`can_act`) and it is no
/// stream.
pub(super) async fn assess(
    call: &Call,
    policy: &TierPolicy,
    can_act: bool,
    result: Result<Reply, BoxError>,
) -> Answer {
    let reply = match result {
        Ok(reply) => reply,
        // Our own refusals are answers, not outages: another model would get around a limit.
        Err(error) if Error::find(&*error).is_some_and(|ours| ours.kind() != Kind::Upstream) => {
            return Answer::Refused { result: Err(error), why: "a refusal".to_owned() };
        }
        Err(error) => {
            return Answer::Down {
                result: Err(error),
                why: "no connection".to_owned(),
                paid: false,
                usage: None,
            };
        }
    };
    let status = reply.status();
    if is_down(status) {
        let why = format!("status {}", status.as_u16());
        return match if can_act { gather(reply).await } else { Gathered::Rest(reply) } {
            Gathered::Whole(reply, body) if out_of_quota(&body) => Answer::Refused { result: Ok(reply), why },
            Gathered::Whole(reply, _) | Gathered::Rest(reply) => {
                Answer::Down { result: Ok(reply), why, paid: false, usage: None }
            }
            Gathered::Broken(error) => Answer::Down { result: Err(error), why, paid: false, usage: None },
        };
    }
    if !status.is_success() {
        let why = format!("status {}", status.as_u16());
        return if matches!(status.as_u16(), 400 | 403 | 404 | 422) {
            Answer::Invalid { reply, why }
        } else {
            Answer::Refused { result: Ok(reply), why }
        };
    }
    if !can_act || is_stream(call, &reply) {
        return Answer::Good(reply);
    }
    match gather(reply).await {
        Gathered::Rest(reply) => Answer::Good(reply),
        Gathered::Broken(error) => Answer::Down {
            result: Err(error),
            why: "the answer broke off".to_owned(),
            paid: true,
            usage: None,
        },
        Gathered::Whole(reply, body) => {
            let outcome = call.format().read_reply(&body);
            if outcome.finish == Finish::Failed {
                let why = format!("an error under status {}", status.as_u16());
                let paid = outcome.usage.is_some();
                return Answer::Down { result: Ok(reply), why, paid, usage: outcome.usage };
            }
            match policy.judge(&outcome, &body) {
                Some(sign) => Answer::Poor { reply, why: sign.name(), usage: outcome.usage },
                None => Answer::Good(reply),
            }
        }
    }
}

fn is_down(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504 | 529)
}

/// No other model helps when the account itself is empty.
fn out_of_quota(body: &[u8]) -> bool {
    let read = || {
        let body = Object::parse(std::str::from_utf8(body).ok()?)?;
        let error = body.object("error")?;
        let is = |name| error.str(name).is_some_and(|word| word == "insufficient_quota");
        Some(is("code") || is("type"))
    };
    read().unwrap_or(false)
}

/// True if the body must be passed on as it comes, or cannot be read.
fn is_stream(call: &Call, reply: &Reply) -> bool {
    let header = |name| reply.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = header(CONTENT_TYPE).to_ascii_lowercase();
    let coded = !matches!(header(CONTENT_ENCODING), "" | "identity");
    coded || call.wants_stream() || media.starts_with("text/event-stream") || media.contains("ndjson")
}

enum Gathered {
    Whole(Reply, Bytes),
    /// Too long to be looked into; nothing of it is lost.
    Rest(Reply),
    Broken(BoxError),
}

/// Waits for the rest of a body of at most [`Doc::MAX_BYTES`].
async fn gather(reply: Reply) -> Gathered {
    if let Some(bytes) = reply.body().complete() {
        return Gathered::Whole(reply, bytes);
    }
    let (parts, mut body) = reply.into_parts();
    let mut bytes = BytesMut::new();
    loop {
        match body.frame().await {
            None => {
                let bytes = bytes.freeze();
                return Gathered::Whole(Reply::from_parts(parts, ReplyBody::full(bytes.clone())), bytes);
            }
            Some(Err(error)) => return Gathered::Broken(error),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data);
                }
                if bytes.len() > Doc::MAX_BYTES {
                    let rest = Resumed { head: Some(bytes.freeze()), rest: body };
                    return Gathered::Rest(Reply::from_parts(parts, ReplyBody::stream(rest)));
                }
            }
        }
    }
}

/// What was read already, and the rest.
struct Resumed {
    head: Option<Bytes>,
    rest: ReplyBody,
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.head.take() {
            Some(head) => Poll::Ready(Some(Ok(Frame::data(head)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
}
