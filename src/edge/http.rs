//! The HTTP rim: any `http` request in, any `http` service out.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower::ServiceExt;
use tower_service::Service;

use super::headers::inward;
use super::refusal::refuse;
use super::response::{Expecting, receive};
use crate::call::{Call, Dialect, Reply, is_signed};
use crate::{BoxError, Error, Kind};

/// Largest request body an edge collects, in bytes, unless told otherwise: that of Anthropic's API.
pub(super) const MAX_REQUEST: usize = 32 << 20;

/// Turns HTTP requests into calls: the front of a proxy.
///
/// The request's body is collected, its `thrifty-..` headers become
/// [`Options`](crate::call::Options) (the [module docs](crate::edge) list them), and headers that hold for one hop
/// only are taken off, with `host`, `content-length`, `accept-encoding` and `expect`. The reply's body is passed on as
/// it comes.
///
/// A signed request (AWS SigV4) keeps its `host`, and no layer edits it: the signature covers both host and body.
///
/// Always ready: the stack is asked for room once the request is here whole, so a slow upload holds no permit. To bound
/// how many uploads are held in memory, put a limit around this service, not inside it.
///
/// Errors stay errors; [`answering_errors`](Self::answering_errors) turns them into replies.
#[derive(Clone, Debug)]
pub struct FromHttp<S> {
    inner: S,
    max_body: usize,
    trust: bool,
}

impl<S> FromHttp<S> {
    /// Puts HTTP in front of a stack.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, max_body: MAX_REQUEST, trust: true }
    }

    /// Sets the largest request body, in bytes. A larger one is refused with [`Kind::BadInput`].
    ///
    /// Default: 32 MiB, the limit of Anthropic's API.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Takes `thrifty-..` headers off without following them, whatever they say. Default: they are followed, and one
    /// that makes no sense is refused.
    ///
    /// For a proxy whose clients are not trusted with caps, scopes and cache modes.
    #[must_use]
    pub fn ignoring_wishes(mut self) -> Self {
        self.trust = false;
        self
    }

    /// The same service, answering errors with replies in the provider's shape. Its own error is [`Infallible`],
    /// as axum wants it.
    #[must_use]
    pub fn answering_errors(self) -> AnsweringErrors<S> {
        AnsweringErrors { inner: self }
    }

    /// The stack.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, B> Service<http::Request<B>> for FromHttp<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<Reply, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Self { inner, max_body, trust } = self.clone();
        Box::pin(async move {
            let call = read(request, max_body, trust).await?;
            inner.oneshot(call).await.map(outward).map_err(Into::into)
        })
    }
}

/// [`FromHttp`] whose errors are replies: statuses by [`Kind`], bodies in the provider's shape.
///
/// | error | status |
/// |---|---|
/// | prompt over its budget, body not understood | 400 |
/// | request body over the limit | 413 |
/// | spending limit reached | 429 |
/// | a cached answer was demanded and there is none | 504 |
/// | the provider could not be reached, and all errors of other layers | 502 |
/// | anything else of ours | 500 |
///
/// What an error of another crate says is not shown: it may hold a URL with a key in it.
///
/// Always ready, so that a server never stops accepting because the stack is busy: an inner service that is not
/// ready holds up its own call only.
#[derive(Clone, Debug)]
pub struct AnsweringErrors<S> {
    inner: FromHttp<S>,
}

impl<S, B> Service<http::Request<B>> for AnsweringErrors<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = Infallible;
    type Future = BoxFuture<Reply, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let FromHttp { inner, max_body, trust } = self.inner.clone();
        // Kept for an error that may come; a clone of a URI copies nothing.
        let uri = request.uri().clone();
        Box::pin(async move {
            let path = uri.path();
            let (dialect, outcome) = match read(request, max_body, trust).await {
                Ok(call) => (call.dialect, inner.oneshot(call).await.map_err(Into::into)),
                Err(error) => (claimed_by(path), Err(error.into())),
            };
            Ok(outcome.map_or_else(|error| answer(dialect, path, &error), outward))
        })
    }
}

/// The request as a call.
pub(super) async fn read<B>(request: http::Request<B>, max_body: usize, trust: bool) -> Result<Call, Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (mut parts, body) = request.into_parts();
    inward(&mut parts, trust)?;
    match Limited::new(body, max_body).collect().await {
        Ok(body) => Ok(Call::from_parts(parts, body.to_bytes())),
        Err(cause) if cause.is::<LengthLimitError>() => Err(Error::caused_by(
            Kind::BadInput,
            format!("the request body is over the limit of {max_body} bytes"),
            "send less, or raise it (`FromHttp::max_body`; `max_body_bytes` of `thrifty serve`)",
            cause,
        )),
        Err(cause) => {
            // A body of our own says better what happened to it.
            if let Some(ours) = Error::find(&*cause) {
                return Err(ours.clone());
            }
            let way_out = "send the request again";
            Err(Error::caused_by(Kind::BadInput, "the request body could not be read", way_out, cause))
        }
    }
}

/// The server works the length out by itself: a layer may have changed the body.
fn outward(mut reply: Reply) -> Reply {
    reply.headers_mut().remove(CONTENT_LENGTH);
    reply
}

fn claimed_by(path: &str) -> Dialect {
    Dialect::ALL.into_iter().find(|dialect| dialect.format().claims_path(path)).unwrap_or_default()
}

/// An error as a reply that the clients of this format can show.
fn answer(dialect: Dialect, path: &str, error: &BoxError) -> Reply {
    let (status, message) = match Error::find(&**error) {
        Some(ours) => (status(ours), ours.to_string()),
        None => (StatusCode::BAD_GATEWAY, "the provider could not be reached; try again".to_owned()),
    };
    refuse(dialect, path, status, &message)
}

fn status(error: &Error) -> StatusCode {
    let too_large = || std::error::Error::source(error).is_some_and(|cause| cause.is::<LengthLimitError>());
    match error.kind() {
        Kind::BadInput if too_large() => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::OverBudget | Kind::BadInput | Kind::NotEditable => StatusCode::BAD_REQUEST,
        Kind::OverLimit => StatusCode::TOO_MANY_REQUESTS,
        Kind::NotCached => StatusCode::GATEWAY_TIMEOUT,
        Kind::Upstream => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Sends calls through any HTTP service: the back of a proxy.
///
/// `B` is the request body the service takes, anything made from [`Bytes`]. A JSON answer arrives whole; a stream
/// is passed on frame by frame.
pub struct ToHttp<S, B = Bytes> {
    inner: S,
    origin: Option<Uri>,
    body: PhantomData<fn(Bytes) -> B>,
}

impl<S, B> ToHttp<S, B> {
    /// Sends calls through this service.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, origin: None, body: PhantomData }
    }

    /// Sends every call to this origin, whatever its own is. A path stands before each call's path.
    ///
    /// # Errors
    /// [`Kind::BadSetting`] when `origin` lacks its scheme or host, or has a query.
    pub fn with_origin(mut self, origin: Uri) -> Result<Self, Error> {
        self.origin = Some(checked(origin)?);
        Ok(self)
    }

    /// The HTTP service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: Clone, B> Clone for ToHttp<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), origin: self.origin.clone(), body: PhantomData }
    }
}

impl<S, B> fmt::Debug for ToHttp<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToHttp").field("origin", &self.origin.as_ref().map(shown)).finish_non_exhaustive()
    }
}

impl<S, B, RB> Service<Call> for ToHttp<S, B>
where
    S: Service<http::Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: From<Bytes>,
    RB: Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<Reply, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(ready!(self.inner.poll_ready(cx)).map_err(Into::into))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let expecting = Expecting::of(&call);
        if let Some(origin) = &self.origin
            && let Err(error) = redirect(&mut call, origin)
        {
            return Box::pin(std::future::ready(Err(error.into())));
        }
        let sent = self.inner.call(call.into_request().map(B::from));
        Box::pin(async move { receive(sent.await.map_err(Into::into)?, expecting).await })
    }
}

/// The origin, if it is one.
pub(super) fn checked(origin: Uri) -> Result<Uri, Error> {
    if origin.scheme().is_none() || origin.host().is_none() || origin.query().is_some() {
        return Err(Error::bad_setting(
            "an origin needs a scheme and a host, and no query",
            "give one such as `https://api.openai.com`",
        ));
    }
    Ok(origin)
}

/// An origin without its user and password.
pub(super) fn shown(origin: &Uri) -> String {
    let authority = origin.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{}://{host}{}", origin.scheme_str().unwrap_or_default(), origin.path())
}

/// Sends `call` to another origin.
pub(super) fn redirect(call: &mut Call, origin: &Uri) -> Result<(), Error> {
    let moved = moved(&call.parts.uri, origin)?;
    let from = std::mem::replace(&mut call.parts.uri, moved);
    let headers = &mut call.parts.headers;
    if !is_signed(headers) {
        headers.remove(HOST);
    } else if !headers.contains_key(HOST)
        && let Some(host) = from.authority().map(|all| all.as_str()).and_then(|all| all.rsplit('@').next())
        && let Ok(host) = HeaderValue::from_str(host)
    {
        // The signature holds for the host the call came for.
        headers.insert(HOST, host);
    }
    Ok(())
}

/// `uri` at another origin.
fn moved(uri: &Uri, origin: &Uri) -> Result<Uri, Error> {
    let base = origin.path().trim_end_matches('/');
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut parts = origin.clone().into_parts();
    parts.path_and_query = format!("{base}{path}").parse().ok();
    Uri::from_parts(parts).map_err(|cause| {
        let way_out = "send it to a path that starts with `/`";
        Error::caused_by(Kind::BadInput, "the request's path does not fit the origin", way_out, cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::ReplyBody;
    use http_body_util::Full;
    use tower::service_fn;

    fn post(path: &str, body: &'static str) -> http::Request<Full<Bytes>> {
        http::Request::post(path).body(Full::from(body)).expect("a request")
    }

    #[test]
    fn the_rim_is_as_capable_as_its_inner_service() {
        fn check<T: Clone + Send + Sync + 'static>() {}
        check::<FromHttp<()>>();
        check::<AnsweringErrors<()>>();
        check::<ToHttp<(), std::cell::Cell<()>>>();
    }

    #[test]
    fn a_call_moves_to_another_origin_with_its_path_and_query() {
        for (origin, want) in [
            ("https://api.example.com", "https://api.example.com/v1/x?y=1"),
            ("https://api.example.com/base/", "https://api.example.com/base/v1/x?y=1"),
        ] {
            let moved = moved(&Uri::from_static("/v1/x?y=1"), &origin.parse().expect("a URI"));
            assert_eq!(moved.expect("it fits").to_string(), want);
        }
        assert!(ToHttp::<(), Bytes>::new(()).with_origin(Uri::from_static("/v1")).is_err());
    }

    #[test]
    fn an_origin_is_shown_without_its_password() {
        let origin = Uri::from_static("https://ann:hush@gw.example:8443/base");
        let edge = ToHttp::<(), Bytes>::new(()).with_origin(origin).expect("an origin");
        assert_eq!(format!("{edge:?}"), r#"ToHttp { origin: Some("https://gw.example:8443/base"), .. }"#);
    }

    #[tokio::test]
    async fn a_get_without_a_body_has_no_length() {
        let client = service_fn(|request: http::Request<Full<Bytes>>| async move {
            let told = format!("{:?} {:?}", request.version(), request.headers());
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(told)))
        });
        let edge = FromHttp::new(ToHttp::new(client));
        let told = async |request: http::request::Builder| {
            let request = request.version(http::Version::HTTP_2).body(Full::<Bytes>::default());
            let reply = edge.clone().oneshot(request.expect("a request")).await.expect("a reply");
            reply.into_body().bytes().await.expect("bytes")
        };
        let get = http::Request::get("http://x/v1/models").header("expect", "100-continue");
        assert_eq!(told(get).await, "HTTP/1.1 {}");
        let post = http::Request::post("http://x/v1/chat/completions");
        assert_eq!(told(post).await, r#"HTTP/1.1 {"content-length": "0"}"#);
    }

    #[tokio::test]
    async fn a_signed_call_leaves_as_it_was_signed() {
        const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AK/20261124, SignedHeaders=host, Signature=ab";
        let body = r#"{"model":"gpt-5-mini","stream":true,"messages":[]}"#;
        let client = service_fn(|request: http::Request<Full<Bytes>>| async move {
            assert_eq!(request.uri().host(), Some("real.example"));
            let host = request.headers().get(HOST).cloned();
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            Ok::<_, BoxError>(Response::new(Full::from(format!(
                "{host:?} {}",
                String::from_utf8_lossy(&body)
            ))))
        });
        let exit = ToHttp::<_, Full<Bytes>>::new(client)
            .with_origin(Uri::from_static("https://real.example"))
            .expect("an origin");
        let edits = service_fn(move |mut call: Call| {
            let capped = crate::cap::apply(&mut call, &crate::cap::CapPolicy::new(64));
            assert_eq!(capped.set, None);
            assert_eq!(call.set_model("gpt-5").map_err(|error| error.kind()), Err(Kind::NotEditable));
            call.format().ask_for_usage(&mut call);
            exit.clone().oneshot(call)
        });
        let send = async |request: http::request::Builder| {
            let request = request.header("authorization", SIGNED).body(Full::<Bytes>::from(body));
            let reply = FromHttp::new(edits.clone()).oneshot(request.expect("a request")).await;
            reply.expect("a reply").into_body().bytes().await.expect("bytes")
        };
        let want = format!(r#"Some("signed.example") {body}"#);
        let by_header = http::Request::post("/v1/chat/completions").header("host", "signed.example");
        assert_eq!(send(by_header).await, want);
        assert_eq!(send(http::Request::post("http://signed.example/v1/chat/completions")).await, want);
        let azure = http::Request::post("http://x/openai/deployments/a/chat/completions?api-version=1")
            .header("authorization", SIGNED);
        let (parts, ()) = azure.body(()).expect("a request").into_parts();
        let mut call = Call::from_parts(parts, r#"{"messages":[]}"#);
        assert!(call.set_model("b").is_err(), "nor is the path edited");
        assert!(call.parts.uri.path().contains("/deployments/a/"));
    }

    #[tokio::test]
    async fn a_slow_upload_holds_no_permit() {
        let stack = tower::ServiceBuilder::new()
            .concurrency_limit(1)
            .service(service_fn(|_: Call| async { Ok::<_, BoxError>(Reply::new(ReplyBody::from("{}"))) }));
        let edge = FromHttp::new(stack);
        let never = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, BoxError>>();
        let slow = http::Request::post("/").body(http_body_util::StreamBody::new(never)).expect("a request");
        let mut slow = Box::pin(edge.clone().oneshot(slow));
        assert!(futures_util::poll!(&mut slow).is_pending());
        let other = edge.oneshot(post("/", "{}"));
        tokio::time::timeout(std::time::Duration::from_secs(5), other)
            .await
            .expect("it need not wait for the slow one")
            .expect("a reply");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_before_anything_is_sent() {
        let stack = service_fn(|_: Call| async { Err::<Reply, BoxError>("it was sent".into()) });
        let edge = FromHttp::new(stack).max_body(4);
        let error = edge.clone().oneshot(post("/v1/messages", "12345")).await.expect_err("too large");
        assert_eq!(Error::find(&*error).map(Error::kind), Some(Kind::BadInput));
        let reply = edge.answering_errors().oneshot(post("/v1/messages", "12345")).await.expect("a reply");
        assert_eq!(reply.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let body = reply.into_body().bytes().await.expect("bytes");
        assert!(body.starts_with(br#"{"type":"error","error":{"type":"request_too_large""#), "{body:?}");
    }

    #[tokio::test]
    async fn every_kind_of_error_has_its_status() {
        let kinds = [
            (Kind::OverBudget, 400),
            (Kind::OverLimit, 429),
            (Kind::NotCached, 504),
            (Kind::Upstream, 502),
            (Kind::Unpriced, 500),
        ];
        for (kind, status) in kinds {
            let stack = service_fn(move |_: Call| async move {
                Err::<Reply, BoxError>(Error::new(kind, "no", "do something else").into())
            });
            let edge = FromHttp::new(stack).answering_errors();
            let reply = edge.oneshot(post("/v1/chat/completions", "{}")).await.expect("a reply");
            assert_eq!(reply.status(), status, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn an_error_of_another_crate_is_not_shown() {
        let stack = service_fn(|_: Call| async { Err::<Reply, BoxError>("https://x/?key=secret".into()) });
        let edge = FromHttp::new(stack).answering_errors();
        let reply = edge.oneshot(post("/v1/chat/completions", "{}")).await.expect("a reply");
        assert_eq!(reply.status(), StatusCode::BAD_GATEWAY);
        let body = reply.into_body().bytes().await.expect("bytes");
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }
}
