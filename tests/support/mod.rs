//! The embedded upstream on a loopback port, and every edge behind one trait.
#![expect(unreachable_pub, reason = "a module of a test has no outside")]

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_openai::middleware::HttpRequestFactory;
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use thrifty::call::{Call, Reply, ReplyBody};
use thrifty::edge::async_openai::HttpService;
use thrifty::edge::reqwest::{Client, Exit};
use thrifty::edge::reqwest_middleware::{Bridge, Port};
use thrifty::edge::{FromHttp, Retry, ToHttp};
use thrifty::receipt::ReceiptHandle;
use thrifty::testing::Upstream;
use thrifty::{BoxError, Error};
use tower::limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt};

/// An HTTP server on a free loopback port; it stops when the runtime of the test does.
#[derive(Clone)]
pub struct Server {
    pub origin: String,
}

impl Server {
    /// Serves `service`, each frame sent as it comes.
    pub async fn of<S>(service: S) -> Self
    where
        S: Service<axum::extract::Request, Response = Reply, Error = std::convert::Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a fresh socket"));
        let app = axum::Router::new().fallback_service(service);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { origin }
    }

    /// Serves the embedded upstream.
    pub async fn upstream(upstream: &Upstream) -> Self {
        Self::of(FromHttp::new(upstream.clone()).answering_errors()).await
    }
}

/// A layer that fits around `Inner`.
pub trait Over<Inner>:
    Layer<
        Inner,
        Service: Service<Call, Response = Reply, Error = BoxError, Future: Send + 'static>
                     + Clone
                     + Send
                     + Sync
                     + 'static,
    >
{
}
impl<L, Inner> Over<Inner> for L where
    L: Layer<
            Inner,
            Service: Service<Call, Response = Reply, Error = BoxError, Future: Send + 'static>
                         + Clone
                         + Send
                         + Sync
                         + 'static,
        >
{
}

type Hyper = hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>;
type ToHyper = ToHttp<Hyper, Full<Bytes>>;
type Boxed = BoxCloneSyncService<Call, Reply, BoxError>;

/// A layer that fits into every edge.
pub trait Everywhere:
    Over<Exit> + Over<Retry<Exit>> + Over<Port> + Over<ToHyper> + Send + Sync + 'static
{
}
impl<L> Everywhere for L where
    L: Over<Exit> + Over<Retry<Exit>> + Over<Port> + Over<ToHyper> + Send + Sync + 'static
{
}

/// One way into a stack and out of it. What a user has in hand is an HTTP request and a response.
pub trait Edge: Clone + Send + Sync + Sized + 'static {
    /// True if errors come as replies.
    const ANSWERS_ERRORS: bool = false;

    /// This edge with `layer` inside, sending to `upstream`.
    fn around<L: Everywhere>(layer: L, upstream: &Server) -> impl Future<Output = Self> + Send;

    /// Where requests go to.
    fn origin(&self) -> &str;

    /// Sends one request through it.
    fn send(
        &self,
        request: reqwest::Request,
    ) -> impl Future<Output = Result<reqwest::Response, BoxError>> + Send;
}

/// reqwest with the stack in front.
#[derive(Clone)]
pub struct ByReqwest(Client<Boxed>, String);

impl Edge for ByReqwest {
    async fn around<L: Everywhere>(layer: L, upstream: &Server) -> Self {
        let service = Layer::<Exit>::layer(&layer, Exit::new(reqwest::Client::new()));
        Self(Client::over(Boxed::new(service)), upstream.origin.clone())
    }

    fn origin(&self) -> &str {
        &self.1
    }

    async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, BoxError> {
        self.0.execute(request).await
    }
}

/// A middleware of reqwest-middleware.
#[derive(Clone)]
pub struct ByMiddleware(reqwest_middleware::ClientWithMiddleware, String);

impl Edge for ByMiddleware {
    async fn around<L: Everywhere>(layer: L, upstream: &Server) -> Self {
        let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new());
        Self(
            client.with(Bridge::new(Under::<L, Port>(layer, Default::default()))).build(),
            upstream.origin.clone(),
        )
    }

    fn origin(&self) -> &str {
        &self.1
    }

    async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, BoxError> {
        Ok(self.0.execute(request).await?)
    }
}

/// A layer seen as a layer over `Inner` alone.
struct Under<L, Inner>(L, std::marker::PhantomData<fn(Inner)>);

impl<L: Over<Inner>, Inner> Layer<Inner> for Under<L, Inner> {
    type Service = L::Service;

    fn layer(&self, inner: Inner) -> L::Service {
        self.0.layer(inner)
    }
}

/// The service that async-openai sends with, handed requests as that client does.
#[derive(Clone)]
pub struct ByAsyncOpenAi(HttpService<Boxed>, String);

impl Edge for ByAsyncOpenAi {
    async fn around<L: Everywhere>(layer: L, upstream: &Server) -> Self {
        let layer = Under::<L, Retry<Exit>>(layer, Default::default());
        let layer = tower::layer::layer_fn(|inner| Boxed::new(layer.layer(inner)));
        Self(HttpService::new(&layer, reqwest::Client::new()), upstream.origin.clone())
    }

    fn origin(&self) -> &str {
        &self.1
    }

    async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, BoxError> {
        let request = Arc::new(request);
        let factory = HttpRequestFactory::new(move || {
            let request = request.try_clone().expect("its body is in memory");
            async move { Ok(request) }
        });
        // It is always ready.
        let sent = self.0.clone().call(factory);
        Ok(sent.await?)
    }
}

/// A proxy under axum, with hyper's client behind.
#[derive(Clone)]
pub struct ByProxy(reqwest::Client, String);

impl Edge for ByProxy {
    const ANSWERS_ERRORS: bool = true;

    async fn around<L: Everywhere>(layer: L, upstream: &Server) -> Self {
        let hyper: Hyper = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        let exit =
            ToHyper::new(hyper).with_origin(upstream.origin.parse().expect("a URI")).expect("an origin");
        let stack = Boxed::new(Layer::<ToHyper>::layer(&layer, exit));
        let proxy = Server::of(FromHttp::new(stack).answering_errors()).await;
        Self(reqwest::Client::new(), proxy.origin)
    }

    fn origin(&self) -> &str {
        &self.1
    }

    async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, BoxError> {
        Ok(self.0.execute(request).await?)
    }
}

/// A small layer for tests: edits, remembers, refuses, and limits what is below it.
#[derive(Clone)]
pub struct TestLayer {
    edit: Option<(&'static str, &'static str)>,
    refuse: bool,
    memo: Option<Memo>,
    limit: GlobalConcurrencyLimitLayer,
}

type Memo = Arc<tokio::sync::Mutex<HashMap<Bytes, (StatusCode, HeaderMap, Bytes)>>>;

impl TestLayer {
    pub fn new() -> Self {
        Self { edit: None, refuse: false, memo: None, limit: GlobalConcurrencyLimitLayer::new(1_024) }
    }

    /// Sets a member of every body that can be edited.
    pub fn edit(mut self, name: &'static str, value: &'static str) -> Self {
        self.edit = Some((name, value));
        self
    }

    /// Refuses every call.
    pub fn refuse(mut self) -> Self {
        self.refuse = true;
        self
    }

    /// Answers a body it has seen as it did before. One call at a time, so that equal ones meet.
    pub fn memo(mut self) -> Self {
        self.memo = Some(Memo::default());
        self
    }

    /// Lets at most this many calls through at a time.
    pub fn limit(mut self, calls: usize) -> Self {
        self.limit = GlobalConcurrencyLimitLayer::new(calls);
        self
    }
}

impl<S> Layer<S> for TestLayer {
    type Service = Tested<S>;

    fn layer(&self, inner: S) -> Tested<S> {
        Tested { inner: self.limit.layer(inner), settings: self.clone() }
    }
}

/// Service of [`TestLayer`]; always ready.
#[derive(Clone)]
pub struct Tested<S> {
    inner: ConcurrencyLimit<S>,
    settings: TestLayer,
}

impl<S> Service<Call> for Tested<S>
where
    S: Service<Call, Response = Reply, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let Self { inner, settings } = self.clone();
        Box::pin(async move {
            if settings.refuse {
                return Err(Error::over_budget(9_120, 8_000).into());
            }
            if let Some((name, value)) = settings.edit {
                // A body that cannot be edited passes as it is.
                let _ = call.doc.set(name, value);
            }
            let Some(memo) = settings.memo else {
                let mut reply = inner.oneshot(call).await?;
                reply.extensions_mut().insert(ReceiptHandle::default());
                return Ok(reply);
            };
            let key = call.doc.bytes().clone();
            let mut memo = memo.lock().await;
            if let Some((status, headers, bytes)) = memo.get(&key) {
                let mut reply = Reply::new(ReplyBody::full(bytes.clone()));
                (*reply.status_mut(), *reply.headers_mut()) = (*status, headers.clone());
                return Ok(reply);
            }
            let reply = inner.oneshot(call).await?;
            if let Some(bytes) = reply.body().complete() {
                memo.insert(key, (reply.status(), reply.headers().clone(), bytes));
            }
            Ok(reply)
        })
    }
}
