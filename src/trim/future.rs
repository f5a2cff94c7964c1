use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::call::Reply;
use crate::{BoxError, Error};

pin_project! {
    /// Answer of [`Trim`](super::Trim): that of the inner service, or the refusal of a call that does not fit.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = Projected]
    #[derive(Debug)]
    enum State<F> {
        Sent { #[pin] inner: F },
        Refused { error: Error },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn sent(inner: F) -> Self {
        Self { state: State::Sent { inner } }
    }

    pub(super) fn refused(error: Error) -> Self {
        Self { state: State::Refused { error } }
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Reply, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Sent { inner } => inner.poll(cx).map_err(Into::into),
            Projected::Refused { error } => Poll::Ready(Err(error.clone().into())),
        }
    }
}
