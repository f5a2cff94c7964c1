//! Where calls leave: to the upstream their path chose, over a client of its own.
//!
//! Each upstream has its own connections and its own key, so that neither can reach another one's host. No redirect
//! is followed and no proxy of the environment is used.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thrifty::call::{Call, Reply};
use thrifty::edge::ToHttp;
use thrifty::testing::Upstream;
use thrifty::{BoxError, Error, Kind};
use tower::Service;

use super::bodies::{Idle, Troubles};
use super::config::{self, DEMO};
use super::keys::Key;
use super::routes::Via;

/// The innermost service of the stack.
#[derive(Clone)]
pub(super) struct Exit(Arc<[Way]>);

struct Way {
    out: Out,
    key: Option<Key>,
}

enum Out {
    Demo(Upstream),
    Http(ToHttp<Timed, Full<Bytes>>),
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl Exit {
    pub(super) fn new(upstreams: &[config::Upstream]) -> Result<Self, Error> {
        let ways: Result<Vec<Way>, Error> = upstreams
            .iter()
            .map(|upstream| {
                let out = if upstream.origin == DEMO {
                    Out::Demo(
                        Upstream::new()
                            .latency(Duration::from_millis(30))
                            .frame_gap(Duration::from_millis(2)),
                    )
                } else {
                    Out::Http(ToHttp::new(Timed::new(upstream)?))
                };
                Ok(Way { out, key: Key::of(upstream)? })
            })
            .collect();
        Ok(Self(ways?.into()))
    }
}

impl Service<Call> for Exit {
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<Reply>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let way = call.parts.extensions.get::<Via>().and_then(|via| self.0.get(via.0));
        let Some(way) = way else {
            let error =
                Error::new(Kind::Upstream, "the call has no upstream", "send it to a path that one serves");
            return Box::pin(std::future::ready(Err(error.into())));
        };
        if let Some(key) = &way.key {
            key.place(&mut call.parts);
        }
        match &way.out {
            Out::Demo(demo) => demo.clone().call(call),
            Out::Http(http) => http.clone().call(call),
        }
    }
}

/// An upstream's own HTTP client, with limits to how long it may be silent.
#[derive(Clone)]
struct Timed {
    client: Connections,
    limits: Arc<Limits>,
}

struct Limits {
    name: String,
    answer: Duration,
    idle: Duration,
    troubles: Arc<Troubles>,
}

#[derive(Clone)]
enum Connections {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Secure(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Timed {
    fn new(upstream: &config::Upstream) -> Result<Self, Error> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(upstream.connect_timeout.0));
        http.set_keepalive(Some(Duration::from_secs(60)));
        let mut client = Client::builder(TokioExecutor::new());
        client
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60));
        let client = if upstream.uri()?.scheme_str() == Some("https") {
            http.enforce_http(false);
            let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(|cause| {
                let problem = format!("the certificates of this system cannot be read: {cause}");
                let way_out = "install them (ca-certificates), or name a file in SSL_CERT_FILE";
                Error::caused_by(Kind::BadSetting, problem, way_out, cause)
            })?;
            Connections::Secure(client.build(tls.https_only().enable_all_versions().wrap_connector(http)))
        } else {
            Connections::Plain(client.build(http))
        };
        let limits = Limits {
            name: upstream.name.clone(),
            answer: upstream.answer_timeout.0,
            idle: upstream.idle_timeout.0,
            troubles: troubles(&upstream.name, upstream.idle_timeout.0).into(),
        };
        Ok(Self { client, limits: Arc::new(limits) })
    }
}

impl Service<Request<Full<Bytes>>> for Timed {
    type Response = Response<Idle<Incoming>>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        // The connection decides; a client's version is its own affair.
        *request.version_mut() = Version::HTTP_11;
        let sent = match &self.client {
            Connections::Plain(client) => client.request(request),
            Connections::Secure(client) => client.request(request),
        };
        let limits = self.limits.clone();
        Box::pin(async move {
            let Limits { name, answer, idle, troubles } = &*limits;
            let response = tokio::time::timeout(*answer, sent)
                .await
                .map_err(|_| {
                    let problem =
                        format!("the upstream `{name}` sent no answer within {} s", answer.as_secs());
                    Error::new(Kind::Upstream, problem, "send the call again, or raise its answer_timeout")
                })?
                .map_err(|error| unreachable(name, error))?;
            Ok(response.map(|body| Idle::new(body, *idle, troubles.clone())))
        })
    }
}

#[cold]
fn unreachable(name: &str, error: ClientError) -> Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let (problem, way_out) = if error.is_connect() {
        (format!("the upstream `{name}` could not be reached ({cause})"), "check its origin and the network")
    } else {
        (format!("the upstream `{name}` broke off before it answered ({cause})"), "send the call again")
    };
    Error::caused_by(Kind::Upstream, problem, way_out, error)
}

fn troubles(name: &str, idle: Duration) -> Troubles {
    Troubles {
        silent: Error::new(
            Kind::Upstream,
            format!("the upstream `{name}` fell silent in its answer for {} s", idle.as_secs()),
            "send the call again, or raise its idle_timeout",
        ),
        broken: Error::new(
            Kind::Upstream,
            format!("the answer of the upstream `{name}` broke off in its middle"),
            "send the call again; the provider may have billed it",
        ),
    }
}
