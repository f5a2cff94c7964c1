//! One reading of a reply for all who want to know what it says.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Extensions;

use super::{Format, Outcome, StreamReader, read};
use crate::call::Reply;
use crate::lock::lock;

/// What a reply says, read once, and asked for by every layer that the reply passes on its way out.
///
/// It travels among the extensions of the reply it was made from, so it belongs to one answer of one upstream call,
/// whatever calls came before (an escalation, a fallback) and whoever else gets the same answer (a shared flight).
///
/// **Whoever puts it there feeds it**: the innermost layer that reads, which sees each frame of a stream before any
/// layer outside of it. So what is known here is never behind what a layer outside has passed on. It can be ahead,
/// where a flight runs before its callers: then it says what the provider has sent, which is what is paid for.
///
/// A layer in between may have put another body under the same head. Who judges the body, and not only what was paid
/// for, asks with the bytes ([`Reading::of_whole`]) or the number of bytes ([`Reading::is_of`]) that it has itself.
#[derive(Clone)]
pub(crate) struct Reading(Source);

#[derive(Clone)]
enum Source {
    Whole(Arc<(Bytes, Outcome)>),
    Stream(Arc<Mutex<Stream>>),
}

struct Stream {
    reader: Box<dyn StreamReader>,
    bytes: u64,
}

impl Reading {
    /// That of the stream with these extensions, and whether the one who asks has to feed it, as the first who did.
    pub(crate) fn of_stream(
        extensions: &mut Extensions,
        reader: impl FnOnce() -> Box<dyn StreamReader>,
    ) -> (Self, bool) {
        if let Some(reading) = extensions.get::<Self>()
            && matches!(reading.0, Source::Stream(_))
        {
            return (reading.clone(), false);
        }
        let stream = Stream { reader: reader(), bytes: 0 };
        let reading = Self(Source::Stream(Arc::new(Mutex::new(stream))));
        extensions.insert(reading.clone());
        (reading, true)
    }

    /// What `body`, all that came under this head, says; reads it if nobody did.
    pub(crate) fn of_whole(reply: &mut Reply, format: &dyn Format, body: &Bytes) -> Outcome {
        if let Some(outcome) = Self::known(reply.extensions(), body) {
            return outcome.clone();
        }
        let outcome = read(format, reply.headers(), body);
        let source = Source::Whole(Arc::new((body.clone(), outcome.clone())));
        reply.extensions_mut().insert(Self(source));
        outcome
    }

    /// What these very bytes say, if that was read.
    pub(crate) fn known<'a>(extensions: &'a Extensions, body: &Bytes) -> Option<&'a Outcome> {
        match &extensions.get::<Self>()?.0 {
            // The bytes read are kept, so no others can have come to lie in their place.
            Source::Whole(read) if read.0.as_ptr() == body.as_ptr() && read.0.len() == body.len() => {
                Some(&read.1)
            }
            _ => None,
        }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&self, frame: &[u8]) {
        if let Source::Stream(stream) = &self.0 {
            let mut stream = lock(stream);
            stream.bytes += frame.len() as u64;
            stream.reader.push(frame);
        }
    }

    /// What was seen by now; `ended` as in [`StreamReader::outcome`].
    pub(crate) fn outcome(&self, ended: bool) -> Outcome {
        match &self.0 {
            Source::Whole(read) => read.1.clone(),
            Source::Stream(stream) => lock(stream).reader.outcome(ended),
        }
    }

    /// True if it is that of so many bytes.
    pub(crate) fn is_of(&self, bytes: u64) -> bool {
        match &self.0 {
            Source::Whole(read) => read.0.len() as u64 == bytes,
            Source::Stream(stream) => lock(stream).bytes == bytes,
        }
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Dialect;
    use crate::dialect::Finish;

    const ANSWER: &str =
        r#"{"model":"m","choices":[{"index":0,"message":{"content":"11"},"finish_reason":"stop"}]}"#;

    #[test]
    fn a_whole_reply_is_read_once_and_another_body_under_its_head_again() {
        let format = Dialect::OpenAiChat.format();
        let body = Bytes::from(ANSWER.to_owned());
        let mut reply = Reply::new(body.clone().into());
        assert_eq!(Reading::known(reply.extensions(), &body), None);
        let outcome = Reading::of_whole(&mut reply, format, &body);
        assert_eq!(Reading::known(reply.extensions(), &body), Some(&outcome));
        let other = Bytes::from(ANSWER.replace("stop", "length"));
        assert_eq!(Reading::known(reply.extensions(), &other), None, "other bytes say something else");
        assert_eq!(Reading::of_whole(&mut reply, format, &other).finish, Finish::Truncated);
    }

    #[test]
    fn the_first_who_asks_for_a_stream_feeds_it_and_all_others_ask() {
        let reader = || Dialect::OpenAiChat.format().stream_reader();
        let mut extensions = Extensions::new();
        let (inner, feeds) = Reading::of_stream(&mut extensions, reader);
        assert!(feeds);
        let (outer, feeds) = Reading::of_stream(&mut extensions, reader);
        assert!(!feeds, "a second feeder would count every frame twice");
        let frame = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"four\"}}]}\n\n";
        inner.push(frame);
        assert_eq!(outer.outcome(false).text_bytes, 4);
        assert!(outer.is_of(frame.len() as u64) && !outer.is_of(1));
        assert_eq!(outer.outcome(true).finish, Finish::Partial);
        inner.push(b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
        assert!(outer.outcome(true).is_good());
    }
}
