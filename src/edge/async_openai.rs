//! A stack inside async-openai 0.43, with retries added: the client loses its own together with its sender.
//!
//! [`Client::with_http_service`](async_openai::Client::with_http_service) replaces the client's sender, and the
//! sender is what retries. [`HttpService`] therefore sends again by itself, below the stack, so that a cache and a
//! budget see one call ([`RetryLayer`] says when and how often).
//!
//! # Example
//! ```no_run
//! use async_openai::Client;
//! use thrifty::edge::async_openai::HttpService;
//! use tower::layer::util::Identity;
//!
//! // Any layer over `Service<Call>` stands in the place of `Identity`.
//! let client = Client::new().with_http_service(HttpService::new(&Identity::new(), reqwest::Client::new()));
//! ```
//! # Without retries, and with a limit
//! ```no_run
//! use async_openai::Client;
//! use thrifty::edge::async_openai::HttpService;
//! use thrifty::edge::reqwest::Exit;
//! use tower::ServiceBuilder;
//!
//! let service = ServiceBuilder::new().concurrency_limit(8).service(Exit::new(reqwest::Client::new()));
//! let client = Client::new().with_http_service(HttpService::over(service));
//! ```
//! # Finding our error in the client's
//! ```
//! use async_openai::error::OpenAIError;
//! use thrifty::Error;
//! use thrifty::edge::async_openai::to_openai_error;
//!
//! let error: OpenAIError = to_openai_error(Error::over_budget(9_120, 8_000).into());
//! assert!(Error::find(&error).is_some_and(Error::is_over_budget));
//! // The boxed error is ours too, for those who match on the variant.
//! assert!(matches!(error, OpenAIError::Boxed(boxed) if boxed.is::<Error>()));
//! ```

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::async_openai::error::OpenAIError;
use ::async_openai::middleware::HttpRequestFactory;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use super::reqwest::{Exit, read, to_response};
use super::retry::{Retry, RetryLayer};
use super::surface;
use crate::BoxError;
use crate::call::{Call, Reply};

/// A service for [`Client::with_http_service`](async_openai::Client::with_http_service), with a stack inside.
///
/// See the [module docs](crate::edge::async_openai).
#[derive(Clone, Debug)]
pub struct HttpService<S> {
    inner: S,
}

impl<S> HttpService<S> {
    /// Puts `layer` in front of `client`, with retries between.
    pub fn new<L: Layer<Retry<Exit>, Service = S>>(layer: &L, client: ::reqwest::Client) -> Self {
        Self { inner: layer.layer(RetryLayer::new().layer(Exit::new(client))) }
    }

    /// A service that was put together by hand. Retries are then your own: add a [`RetryLayer`] if none are there.
    pub fn over(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<HttpRequestFactory> for HttpService<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = ::reqwest::Response;
    type Error = OpenAIError;
    type Future = Pin<Box<dyn Future<Output = Result<::reqwest::Response, OpenAIError>> + Send>>;

    /// Always ready, as the client's own sender is; the stack's readiness holds up its own call only.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move {
            let request = factory.build().await?;
            let url = request.url().clone();
            let call = read(request).await.map_err(to_openai_error)?;
            let reply = inner.oneshot(call).await.map_err(|error| to_openai_error(error.into()))?;
            Ok(to_response(reply, url))
        })
    }
}

/// A layer's error as async-openai's: its own and reqwest's in their own variants, all else boxed.
///
/// Both ways to find a [`thrifty::Error`](crate::Error) lead to it: [`Error::find`](crate::Error::find) on the
/// `OpenAIError`, and a downcast of what [`OpenAIError::Boxed`] holds.
#[must_use]
pub fn to_openai_error(error: BoxError) -> OpenAIError {
    match error.downcast::<OpenAIError>() {
        Ok(error) => *error,
        Err(error) => match error.downcast::<::reqwest::Error>() {
            Ok(error) => OpenAIError::Reqwest(*error),
            Err(error) => OpenAIError::Boxed(Box::new(surface(error))),
        },
    }
}
