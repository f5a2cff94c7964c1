//! Where a client's own request becomes a [`Call`](crate::call::Call), and where a call leaves again.
//!
//! Every AI client has its own request type, and most offer one place where a tower service fits. An edge is the
//! few lines that turn that place into `Service<Call>` and back, so that one stack serves them all.
//!
//! | client | in | out | feature |
//! |---|---|---|---|
//! | axum, hyper, any http service | [`FromHttp`] | [`ToHttp`] | |
//! | a typed client | [`Typed`] | [`Untyped`] | |
//! | reqwest 0.13 | `edge::reqwest::Client` | `edge::reqwest::Exit` | `reqwest` |
//! | reqwest-middleware 0.5 | `edge::reqwest_middleware::Bridge` | the next middleware | `reqwest-middleware` |
//! | async-openai 0.43 | `edge::async_openai::HttpService` | `edge::reqwest::Exit`, with retries | `async-openai-0-43` |
//!
//! All edges that start from an HTTP request read the same headers as wishes for that call alone, and none of
//! them travels on:
//!
//! | header | value | sets |
//! |---|---|---|
//! | `thrifty-tag` | any text | [`Options::tag`](crate::call::Options::tag) |
//! | `thrifty-cap` | output tokens | [`Options::cap`](crate::call::Options::cap) |
//! | `thrifty-budget` | prompt tokens | [`Options::budget`](crate::call::Options::budget) |
//! | `thrifty-scope` | name of a tenant | [`Options::scope`](crate::call::Options::scope), as [`Scope::tenant`](crate::call::Scope::tenant) |
//! | `thrifty-cache` | `default`, `no-store`, `no-cache` or `refresh`, `only-if-cached`, `read-only`, `write-only` | [`Options::cache`](crate::call::Options::cache) |
//! | `thrifty-ttl` | seconds | [`Options::ttl`](crate::call::Options::ttl) |
//!
//! So do they follow the request's own `cache-control`, which travels on: `no-store`, `no-cache`, `only-if-cached` (an
//! answer or 504), `max-age`, `min-fresh`, `max-stale` and `stale-if-error`, in seconds, 0 included.
//!
//! # Example
//! ```
//! use http_body_util::Full;
//! use thrifty::call::{Call, Options, Reply, ReplyBody};
//! use thrifty::edge::FromHttp;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), thrifty::BoxError> {
//! // Any `Service<Call>` will do; here is one that tells the tag it was called with.
//! let stack = service_fn(|call: Call| async move {
//!     let tag = Options::of(&call).tag.unwrap_or_default();
//!     Ok::<_, thrifty::BoxError>(Reply::new(ReplyBody::from(tag.to_string())))
//! });
//! let request = http::Request::post("/v1/chat/completions")
//!     .header("thrifty-tag", "nightly")
//!     .body(Full::from(r#"{"model":"gpt-5-mini","messages":[]}"#))?;
//! let reply = FromHttp::new(stack).oneshot(request).await?;
//! assert_eq!(reply.into_body().bytes().await?, "nightly");
//! # Ok(()) }
//! ```
//! # A proxy, from front to back
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use thrifty::edge::{FromHttp, ToHttp};
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), thrifty::BoxError> {
//! // In place of hyper's client.
//! let client = service_fn(|request: http::Request<Full<Bytes>>| async move {
//!     assert_eq!(request.uri(), "https://api.openai.com/v1/models");
//!     Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::from("[]")))
//! });
//! // Layers go between the two.
//! let proxy = FromHttp::new(ToHttp::new(client).with_origin("https://api.openai.com".parse()?)?)
//!     .answering_errors();
//! let reply = proxy.oneshot(http::Request::get("/v1/models").body(Full::<Bytes>::default())?).await?;
//! assert_eq!(reply.status(), 200);
//! # Ok(()) }
//! ```

#[cfg(feature = "async-openai-0-43")]
#[cfg_attr(docsrs, doc(cfg(feature = "async-openai-0-43")))]
pub mod async_openai;
mod headers;
mod http;
mod refusal;
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub mod reqwest;
#[cfg(feature = "reqwest-middleware")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest-middleware")))]
pub mod reqwest_middleware;
mod response;
mod retry;
mod typed;

pub use self::http::{AnsweringErrors, FromHttp, ToHttp};
pub use self::refusal::{error_body, refuse};
pub use self::retry::{Retry, RetryLayer};
pub use self::typed::{Refused, Typed, Untyped};

/// Makes the first error of ours in `error` reachable from a client's error that shows its source and hides itself.
///
/// Such "transparent" wrappers begin the chain one step too deep. Ours is therefore put on top of itself: a downcast
/// of the wrapped value finds the outer one, a walk along the sources the inner one.
#[cfg(any(feature = "reqwest-middleware", feature = "async-openai-0-43"))]
fn surface(error: crate::BoxError) -> crate::Error {
    match crate::Error::find(&*error).cloned() {
        Some(ours) => crate::Error::caused_by(ours.kind(), ours.problem(), ours.way_out(), error),
        None => {
            let way_out = "see its source for the cause";
            crate::Error::caused_by(crate::Kind::Upstream, "the call could not be sent", way_out, error)
        }
    }
}
