//! Noticing that nothing comes any more.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Fires when nothing has come for a while. The timer is set anew when it fires, not with each frame.
pub(super) struct Idle {
    limit: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: Instant::now(), timer: Box::pin(sleep(limit)) }
    }

    /// Something came, or was not waited for.
    pub(super) fn restart(&mut self) {
        self.since = Instant::now();
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let left = self.limit.saturating_sub(self.since.elapsed());
            if left.is_zero() {
                return Poll::Ready(());
            }
            self.timer.set(sleep(left));
        }
    }
}
