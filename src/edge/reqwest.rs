//! reqwest 0.13 around the stack and inside it.
//!
//! A `reqwest::Client` takes no layers: its own middleware sees connections, not requests. [`Client`] stands around
//! one with a stack between, and [`Exit`] is the innermost service of any stack that leaves by reqwest.
//!
//! # Example
//! ```no_run
//! use thrifty::edge::reqwest::Client;
//! use tower::layer::util::Identity;
//!
//! # async fn run() -> Result<(), thrifty::BoxError> {
//! // Any layer over `Service<Call>` stands in the place of `Identity`.
//! let client = Client::new(&Identity::new(), reqwest::Client::new());
//! let request = reqwest::Client::new()
//!     .post("https://api.openai.com/v1/chat/completions")
//!     .bearer_auth("sk-..")
//!     .body(r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}]}"#)
//!     .build()?;
//! let response = client.execute(request).await?;
//! # Ok(()) }
//! ```
//! # One layer by hand
//! ```no_run
//! use thrifty::edge::RetryLayer;
//! use thrifty::edge::reqwest::Exit;
//! use tower::ServiceBuilder;
//!
//! let service = ServiceBuilder::new().layer(RetryLayer::new()).service(Exit::new(reqwest::Client::new()));
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::reqwest::{Body, Request, Response, ResponseBuilderExt, Url};
use http::Uri;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use super::http::{MAX_REQUEST, checked, read as read_http, redirect, shown};
use super::response::{Expecting, receive};
use crate::call::{Call, Reply};
use crate::{BoxError, Error};

/// The innermost service of a stack: sends each call through a `reqwest::Client`. Always ready.
///
/// # Errors
/// The `reqwest::Error` as it is, without its URL, which may hold a key.
#[derive(Clone)]
pub struct Exit {
    client: ::reqwest::Client,
    origin: Option<Uri>,
}

impl Exit {
    /// Sends through this client, with its TLS, proxies and timeouts.
    #[must_use]
    pub fn new(client: ::reqwest::Client) -> Self {
        Self { client, origin: None }
    }

    /// Sends every call to this origin, whatever its own is: the back of a proxy. A path stands before each call's
    /// path.
    ///
    /// # Errors
    /// [`Kind::BadSetting`](crate::Kind::BadSetting) when `origin` lacks its scheme or host, or has a query.
    pub fn with_origin(mut self, origin: Uri) -> Result<Self, Error> {
        self.origin = Some(checked(origin)?);
        Ok(self)
    }
}

impl fmt::Debug for Exit {
    /// The origin without its password, and nothing of the client, which may hold headers with a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exit").field("origin", &self.origin.as_ref().map(shown)).finish_non_exhaustive()
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl Service<Call> for Exit {
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<Reply>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let Self { client, origin } = self.clone();
        Box::pin(async move {
            if let Some(origin) = origin {
                redirect(&mut call, &origin)?;
            }
            let expecting = Expecting::of(&call);
            let sent = client.execute(to_reqwest(call)?).await.map_err(::reqwest::Error::without_url)?;
            receive(sent.into(), expecting).await
        })
    }
}

/// A `reqwest::Client` with a stack in front. Clones share both.
///
/// See the [module docs](crate::edge::reqwest).
#[derive(Clone, Debug)]
pub struct Client<S> {
    inner: S,
}

impl<S> Client<S> {
    /// Puts `layer` in front of `client`.
    pub fn new<L: Layer<Exit, Service = S>>(layer: &L, client: ::reqwest::Client) -> Self {
        Self { inner: layer.layer(Exit::new(client)) }
    }

    /// A client over a service that was put together by hand.
    pub fn over(inner: S) -> Self {
        Self { inner }
    }

    /// Sends one request through the stack. The response carries the extensions that layers left, the
    /// [`ReceiptHandle`](crate::receipt::ReceiptHandle) among them.
    ///
    /// # Errors
    /// Those of the layers and of reqwest; [`Error::find`] gets ours out.
    pub async fn execute(&self, request: Request) -> Result<Response, BoxError>
    where
        S: Service<Call, Response = Reply> + Clone,
        S::Error: Into<BoxError>,
    {
        let url = request.url().clone();
        let call = read(request).await?;
        let reply = self.inner.clone().oneshot(call).await.map_err(Into::into)?;
        Ok(to_response(reply, url))
    }
}

impl<S> Service<Request> for Client<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<Response>;

    /// Always ready, as a `reqwest::Client` is; the stack's own readiness holds up its own call only.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.execute(request).await })
    }
}

/// The request as a call. Extensions stay, a timeout of this request among them.
pub(super) async fn read(request: Request) -> Result<Call, BoxError> {
    let request: http::Request<Body> = request.try_into()?;
    Ok(read_http(request, MAX_REQUEST, true).await?)
}

/// The call as a request.
pub(super) fn to_reqwest(call: Call) -> Result<Request, Error> {
    call.into_request().try_into().map_err(|cause: ::reqwest::Error| {
        let way_out = "give the call an absolute URI such as `https://api.openai.com/v1/..`";
        let cause = cause.without_url();
        Error::caused_by(crate::Kind::BadInput, "the call's URI is no URL", way_out, cause)
    })
}

/// The reply as a response, which claims to come from `url`.
pub(super) fn to_response(reply: Reply, url: Url) -> Response {
    let mut reply = reply.map(Body::wrap);
    // The URL travels in an extension whose type is reqwest's own, so it is moved over from a made-up response.
    if let Ok(mut with_url) = http::Response::builder().url(url).body(()) {
        reply.extensions_mut().extend(std::mem::take(with_url.extensions_mut()));
    }
    reply.into()
}
