//! A client's connection, with limits to how long it may stand still where the HTTP server sets none.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection that fails when its client does not say which protocol it speaks, or leaves an answer unread.
pub(super) struct Patient<T> {
    io: T,
    /// How long the client may take to begin.
    head: Duration,
    /// How long it may take nothing of an answer that is there.
    body: Duration,
    start: Start,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

/// What was read first. The server's own timeout begins once it knows that this is HTTP/1.
#[derive(Default)]
struct Start {
    bytes: [u8; 3],
    seen: usize,
}

/// Length of the preface of HTTP/2 and the head of the frame that has to follow.
const PREFACE: usize = 24 + 9;

impl Start {
    fn saw(&mut self, data: &[u8]) {
        for (have, byte) in self.bytes.iter_mut().skip(self.seen).zip(data) {
            *have = *byte;
        }
        self.seen += data.len();
    }

    fn is_over(&self) -> bool {
        self.seen >= PREFACE || (self.seen >= self.bytes.len() && &self.bytes != b"PRI")
    }
}

impl<T> Patient<T> {
    pub(super) fn new(io: T, head: Duration, body: Duration) -> Self {
        Self { io, head, body, start: Start::default(), reading: None, writing: None }
    }
}

/// `polled`, or an error once it has been pending for `longest`.
fn patient<R>(
    pause: &mut Option<Pin<Box<Sleep>>>,
    longest: Duration,
    cx: &mut Context<'_>,
    polled: Poll<io::Result<R>>,
) -> Poll<io::Result<R>> {
    if polled.is_ready() {
        *pause = None;
        return polled;
    }
    ready!(pause.get_or_insert_with(|| Box::pin(sleep(longest))).as_mut().poll(cx));
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if this.start.is_over() {
            return polled;
        }
        this.start.saw(&buf.filled()[before..]);
        if polled.is_ready() {
            // The time is for all of the beginning, so a byte now and then does not buy more of it.
            return polled;
        }
        patient(&mut this.reading, this.head, cx, polled)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.io).poll_write(cx, data);
        patient(&mut this.writing, this.body, cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, data);
        patient(&mut this.writing, this.body, cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const HEAD: Duration = Duration::from_secs(5);
    const BODY: Duration = Duration::from_secs(50);

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_in_time() {
        let (_client, server) = duplex(8);
        let mut server = Patient::new(server, HEAD, BODY);
        let began = tokio::time::Instant::now();
        let error = server.write_all(&[0; 64]).await.expect_err("the client takes only 8 bytes");
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_protocol_that_is_never_named_ends_in_time_and_a_slow_request_may_go_on() {
        for (start, ends) in [("P", true), ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true), ("GET", false)] {
            let (mut client, server) = duplex(64);
            let mut server = Patient::new(server, HEAD, BODY);
            client.write_all(start.as_bytes()).await.expect("there is room");
            let mut bytes = vec![0; 64];
            let read = async {
                while server.read(&mut bytes).await? > 0 {}
                Ok(())
            };
            let read: Result<io::Result<()>, _> = tokio::time::timeout(HEAD * 10, read).await;
            assert_eq!(read.is_ok_and(|read| read.is_err()), ends, "{start}");
        }
    }
}
