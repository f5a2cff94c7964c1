//! The stack as a reqwest-middleware 0.5 middleware.
//!
//! A middleware gets the rest of the chain as a borrowed value that lives for one request, and a stack wants an
//! inner service that it may keep. [`Bridge`] brings the two together: the innermost service ([`Port`]) posts each
//! call, and the middleware, which runs the stack and the sending side by side, sends it down the chain.
//!
//! # Example
//! ```
//! use reqwest_middleware::ClientBuilder;
//! use thrifty::edge::reqwest_middleware::Bridge;
//! use tower::layer::util::Identity;
//!
//! // Any layer over `Service<Call>` stands in the place of `Identity`.
//! let client = ClientBuilder::new(reqwest::Client::new()).with(Bridge::new(Identity::new())).build();
//! ```
//! # With retries of our own
//! ```
//! use reqwest_middleware::ClientBuilder;
//! use thrifty::edge::RetryLayer;
//! use thrifty::edge::reqwest_middleware::Bridge;
//!
//! let client = ClientBuilder::new(reqwest::Client::new())
//!     .with(Bridge::new(RetryLayer::new().attempts(2)))
//!     .build();
//! ```

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use ::reqwest::{Request, Response};
use ::reqwest_middleware::{Error as MiddlewareError, Middleware, Next};
use async_trait::async_trait;
use http::Extensions;
use tokio::sync::{mpsc, oneshot};
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use super::reqwest::{read, to_reqwest, to_response};
use super::response::{Expecting, receive};
use super::surface;
use crate::call::{Call, Reply};
use crate::{BoxError, Error, Kind};

/// A middleware that runs a stack. See the [module docs](crate::edge::reqwest_middleware).
///
/// The layer builds its service anew for each request, so what it shares must live in the layer, as it does in all
/// of ours. Calls of one request are sent one after another: a layer that hedges gets no second call in parallel.
/// Both sides are polled together, so a timeout inside the stack fires while the chain is busy and gives the
/// sending up. A call that outlives its request, such as that of a flight whose first caller left, can no
/// longer be sent and fails with [`Kind::Upstream`].
///
/// # Errors
/// `reqwest_middleware::Error::Middleware`, with the layers' error inside for [`Error::find`];
/// `Error::Reqwest` for a failure of the client itself.
#[derive(Clone, Debug)]
pub struct Bridge<L>(L);

impl<L> Bridge<L> {
    /// A middleware that runs this stack.
    pub fn new(layer: L) -> Self {
        Self(layer)
    }
}

struct CallOut {
    call: Call,
    back: oneshot::Sender<Result<Reply, BoxError>>,
}

/// The innermost service under a [`Bridge`]: posts a call and waits for the answer. Always ready.
#[derive(Clone)]
pub struct Port(mpsc::Sender<CallOut>);

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Port")
    }
}

impl Service<Call> for Port {
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let posts = self.0.clone();
        Box::pin(async move {
            let (back, answer) = oneshot::channel();
            posts.send(CallOut { call, back }).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }
}

#[cold]
fn gone() -> BoxError {
    let problem = "the request this call belonged to has ended";
    Error::new(Kind::Upstream, problem, "send the call again").into()
}

#[async_trait]
impl<L, S> Middleware for Bridge<L>
where
    L: Layer<Port, Service = S> + Send + Sync + 'static,
    S: Service<Call, Response = Reply> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response, MiddlewareError> {
        let url = request.url().clone();
        let call = read(request).await.map_err(lower)?;
        let (posts, mut posted) = mpsc::channel(1);
        let stack = self.0.layer(Port(posts));
        // The error is turned inside the block: `S::Error` need not be `Send` across the wait.
        let mut run = pin!(async move { stack.oneshot(call).await.map_err(Into::<BoxError>::into) });
        loop {
            let event = poll_fn(|cx| match run.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Event::Done(done)),
                Poll::Pending => match posted.poll_recv(cx) {
                    Poll::Ready(Some(out)) => Poll::Ready(Event::Out(out)),
                    // All ports are gone, so the stack ends without another call.
                    Poll::Ready(None) | Poll::Pending => Poll::Pending,
                },
            });
            let CallOut { call, mut back } = match event.await {
                Event::Done(done) => return finish(done, url),
                Event::Out(out) => out,
            };
            let expecting = Expecting::of(&call);
            let request = match to_reqwest(call) {
                Ok(request) => request,
                Err(error) => {
                    let _ = back.send(Err(error.into()));
                    continue;
                }
            };
            let sending = next.clone().run(request, extensions);
            let mut sending =
                pin!(async move { receive(sending.await.map_err(lift)?.into(), expecting).await });
            let event = poll_fn(|cx| {
                if let Poll::Ready(done) = run.as_mut().poll(cx) {
                    return Poll::Ready(Sending::Done(done));
                }
                if let Poll::Ready(answer) = sending.as_mut().poll(cx) {
                    return Poll::Ready(Sending::Answered(answer));
                }
                back.poll_closed(cx).map(|()| Sending::GivenUp)
            });
            match event.await {
                Sending::Done(done) => return finish(done, url),
                Sending::Answered(answer) => {
                    let _ = back.send(answer);
                }
                // A layer stopped waiting; it may post the next attempt.
                Sending::GivenUp => {}
            }
        }
    }
}

type Outcome = Result<Reply, BoxError>;

enum Event {
    Done(Outcome),
    Out(CallOut),
}

enum Sending {
    Done(Outcome),
    Answered(Outcome),
    GivenUp,
}

fn finish(outcome: Outcome, url: ::reqwest::Url) -> Result<Response, MiddlewareError> {
    outcome.map(|reply| to_response(reply, url)).map_err(lower)
}

/// The chain's error as the layers see it: reqwest's own is not wrapped, so that layers can recognise it.
fn lift(error: MiddlewareError) -> BoxError {
    match error {
        MiddlewareError::Reqwest(error) => error.without_url().into(),
        other @ MiddlewareError::Middleware(_) => Box::new(other),
    }
}

/// The layers' error as the chain's.
fn lower(error: BoxError) -> MiddlewareError {
    match error.downcast::<MiddlewareError>() {
        Ok(error) => *error,
        Err(error) => match error.downcast::<::reqwest::Error>() {
            Ok(error) => MiddlewareError::Reqwest(*error),
            Err(error) => MiddlewareError::middleware(surface(error)),
        },
    }
}
