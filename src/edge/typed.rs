//! Typed clients: a request type in, a response type out, a document in between.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_service::Service;

use crate::call::{Call, Dialect, Doc, Options, Reply, ReplyBody};
use crate::{BoxError, Error, Kind};

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// The outside of a stack for a typed client: takes any request that serialises, gives back `Res`.
///
/// Kept: what the types keep. A field the types do not know is lost here, before any layer sees it. Streams do not
/// go this way: an answer that is not one JSON document is an error.
///
/// # Errors
/// [`Kind::BadInput`] when the request does not serialise or the answer does not fit `Res`; [`Kind::Upstream`] with
/// a [`Refused`] inside for an answer that is not 2xx; those of the stack and of the typed client, as they are.
///
/// # Example
/// ```
/// use thrifty::call::Dialect;
/// use thrifty::edge::{Typed, Untyped};
/// use tower::{ServiceExt, service_fn};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Ask { model: String, messages: Vec<String> }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Said { text: String }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), thrifty::BoxError> {
/// // The client's own method, whatever it is.
/// let sdk = service_fn(|ask: Ask| async move { Ok::<_, std::io::Error>(Said { text: ask.model }) });
/// // Layers go around `Untyped`.
/// let uri = http::Uri::from_static("https://api.openai.com/v1/chat/completions");
/// let chat = Typed::<_, Said>::new(Dialect::OpenAiChat, uri, Untyped::<_, Ask>::new(sdk));
/// let said = chat.oneshot(Ask { model: "gpt-5-mini".into(), messages: vec![] }).await?;
/// assert_eq!(said.text, "gpt-5-mini");
/// # Ok(()) }
/// ```
pub struct Typed<S, Res> {
    inner: S,
    dialect: Dialect,
    uri: Uri,
    headers: HeaderMap,
    options: Option<Options>,
    response: PhantomData<fn() -> Res>,
}

impl<S, Res> Typed<S, Res> {
    /// Puts a typed front before a stack. `dialect` and `uri` are those the client's requests would go to; they
    /// are part of the cache key.
    #[must_use]
    pub fn new(dialect: Dialect, uri: Uri, inner: S) -> Self {
        Self { inner, dialect, uri, headers: HeaderMap::new(), options: None, response: PhantomData }
    }

    /// Sets headers that every call carries. With a credential among them answers are kept apart by it.
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the wishes of every call.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = Some(options);
        self
    }

    fn call_of(&self, request: &impl Serialize) -> Result<Call, Error> {
        let body = serde_json::to_vec(request).map_err(|cause| {
            let way_out = "its `Serialize` must write JSON";
            Error::caused_by(Kind::BadInput, "the request does not serialise", way_out, cause)
        })?;
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = http::Method::POST;
        parts.uri = self.uri.clone();
        parts.headers = self.headers.clone();
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let call = Call::new(self.dialect, parts, Doc::new(body));
        Ok(match &self.options {
            Some(options) => call.with(options.clone()),
            None => call,
        })
    }
}

impl<S: Clone, Res> Clone for Typed<S, Res> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            dialect: self.dialect,
            uri: self.uri.clone(),
            headers: self.headers.clone(),
            options: self.options.clone(),
            response: PhantomData,
        }
    }
}

impl<S, Res> fmt::Debug for Typed<S, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl<S, Req, Res> Service<Req> for Typed<S, Res>
where
    S: Service<Call, Response = Reply>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    Req: Serialize,
    Res: DeserializeOwned,
{
    type Response = Res;
    type Error = BoxError;
    type Future = BoxFuture<Res>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(ready!(self.inner.poll_ready(cx)).map_err(Into::into))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let call = match self.call_of(&request) {
            Ok(call) => call,
            Err(error) => return Box::pin(async move { Err(error.into()) }),
        };
        let answered = self.inner.call(call);
        Box::pin(async move {
            let (parts, body) = answered.await.map_err(Into::into)?.into_parts();
            let body = body.bytes().await?;
            if !parts.status.is_success() {
                let refused = Refused { status: parts.status, body };
                let way_out = "see the `Refused` inside for what it said";
                return Err(Error::caused_by(Kind::Upstream, refused.to_string(), way_out, refused).into());
            }
            serde_json::from_slice(&body).map_err(|cause| {
                // What serde says may quote the answer, so it is told by place alone.
                let place = format!("line {}, column {}", cause.line(), cause.column());
                let problem = format!("the answer does not fit the response type ({place})");
                Error::bad_input(problem, "ask for a whole answer, not a stream, or widen the type").into()
            })
        })
    }
}

/// An answer that was not 2xx, found inside the [`Error`] of [`Typed`].
///
/// # Example
/// ```
/// use thrifty::edge::Refused;
/// let other: thrifty::BoxError = "no answer at all".into();
/// assert!(Refused::find(&*other).is_none());
/// ```
#[derive(Clone)]
pub struct Refused {
    status: StatusCode,
    body: Bytes,
}

impl Refused {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The first one in `error` or in the chain of its sources.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(refused) = error.downcast_ref::<Self>() {
                return Some(refused);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the provider answered with status {}", self.status)
    }
}

impl fmt::Debug for Refused {
    /// Status and size, never the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("status", &self.status).field("bytes", &self.body.len()).finish()
    }
}

impl std::error::Error for Refused {}

/// The inside of a stack for a typed client: gives it its own request type back, and its answer to the layers.
///
/// The client's error is passed on as it is, so the caller of [`Typed`] can downcast to it.
///
/// # Errors
/// [`Kind::BadInput`] when the call's body is no `Req` any more, or the client's answer does not serialise.
pub struct Untyped<S, Req> {
    inner: S,
    request: PhantomData<fn(Req)>,
}

impl<S, Req> Untyped<S, Req> {
    /// Wraps a typed client.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, request: PhantomData }
    }
}

impl<S: Clone, Req> Clone for Untyped<S, Req> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), request: PhantomData }
    }
}

impl<S, Req> fmt::Debug for Untyped<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Untyped")
    }
}

impl<S, Req> Service<Call> for Untyped<S, Req>
where
    S: Service<Req>,
    S::Response: Serialize,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    Req: DeserializeOwned,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<Reply>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(ready!(self.inner.poll_ready(cx)).map_err(Into::into))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let request = match serde_json::from_slice::<Req>(call.doc.bytes()) {
            Ok(request) => request,
            Err(cause) => {
                let place = format!("line {}, column {}", cause.line(), cause.column());
                let problem = format!("the call does not fit the client's request type ({place})");
                let error = Error::bad_input(problem, "see which layer added what the type does not know");
                return Box::pin(std::future::ready(Err(error.into())));
            }
        };
        let answered = self.inner.call(request);
        Box::pin(async move {
            let response = answered.await.map_err(Into::into)?;
            let body = serde_json::to_vec(&response).map_err(|cause| {
                let way_out = "its `Serialize` must write JSON";
                Error::caused_by(Kind::BadInput, "the client's answer does not serialise", way_out, cause)
            })?;
            let mut reply = Response::new(ReplyBody::full(body));
            reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(reply)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tower::{ServiceExt, service_fn};

    fn uri() -> Uri {
        Uri::from_static("https://api.openai.com/v1/chat/completions")
    }

    #[test]
    fn typed_edges_cross_threads_whatever_their_types() {
        fn check<T: Clone + Send + Sync + 'static>() {}
        check::<Typed<(), Cell<()>>>();
        check::<Untyped<(), Cell<()>>>();
    }

    #[tokio::test]
    async fn an_answer_that_is_not_good_tells_its_status() {
        let stack = service_fn(|_: Call| async {
            let mut reply = Reply::new(ReplyBody::from("busy"));
            *reply.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            Ok::<_, BoxError>(reply)
        });
        let chat = Typed::<_, Vec<u8>>::new(Dialect::OpenAiChat, uri(), stack);
        let error = chat.oneshot(()).await.expect_err("it was refused");
        let refused = Refused::find(&*error).expect("the status is told");
        assert_eq!((refused.status(), &refused.body()[..]), (StatusCode::TOO_MANY_REQUESTS, &b"busy"[..]));
        assert!(!format!("{error} {error:?}").contains("busy"), "and the body is not shown");
    }

    #[tokio::test]
    async fn the_typed_clients_own_error_comes_out_as_it_is() {
        let sdk = service_fn(|_: Vec<u8>| async { Err::<Vec<u8>, _>(std::io::Error::other("mine")) });
        let chat = Typed::<_, Vec<u8>>::new(Dialect::OpenAiChat, uri(), Untyped::<_, Vec<u8>>::new(sdk));
        let error = chat.oneshot(Vec::<u8>::new()).await.expect_err("the client failed");
        assert!(error.downcast_ref::<std::io::Error>().is_some());
    }

    #[tokio::test]
    async fn an_answer_of_another_shape_is_told_by_place_and_not_by_content() {
        let stack =
            service_fn(|_: Call| async { Ok::<_, BoxError>(Reply::new(ReplyBody::from("\"secret\""))) });
        let chat = Typed::<_, u64>::new(Dialect::OpenAiChat, uri(), stack);
        let error = chat.oneshot(()).await.expect_err("a string is no number");
        assert!(error.to_string().contains("line 1") && !error.to_string().contains("secret"), "{error}");
    }
}
