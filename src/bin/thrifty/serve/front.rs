//! What happens to one request: its path chooses an upstream, the stack answers, the receipt goes into the head.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{
    CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HeaderMap, HeaderName, HeaderValue, ORIGIN, SET_COOKIE, TE,
    TRAILER,
};
use http::{Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use thrifty::budget::Budget;
use thrifty::cache::CacheHandle;
use thrifty::call::{Dialect, Reply, ReplyBody};
use thrifty::dialect::StreamEnd;
use thrifty::edge::{FromHttp, refuse};
use thrifty::price::{CostState, Usd};
use thrifty::receipt::{Draft, Ledger, Receipt, ReceiptHandle, Served};
use thrifty::stack::Stack;
use thrifty::{Error, Kind};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};

use super::bodies::{COST, Costing, Idle, Telling, Troubles};
use super::config::{Config, End};
use super::exit::Exit;
use super::routes::{Routes, dialect_of};
use super::stats;

type Edge = BoxCloneSyncService<Request<Idle<Incoming>>, Reply, Infallible>;

/// Answers requests. Shared by all connections.
pub(super) struct Front {
    routes: Routes,
    /// One for each upstream, by its number.
    doors: Vec<Door>,
    body_timeout: Duration,
    troubles: Arc<Troubles>,
    pub(super) books: Books,
    verbose: bool,
}

struct Door {
    name: String,
    edge: Edge,
    stream_end: StreamEnd,
    /// Web pages that may come in; `None` where everybody brings a key of their own.
    pages: Option<Vec<String>>,
}

/// What can be looked at from outside.
pub(super) struct Books {
    pub(super) ledger: Ledger,
    pub(super) cache: Option<CacheHandle>,
    pub(super) budget: Option<Budget>,
    pub(super) started: Instant,
}

impl Front {
    pub(super) fn new(config: &Config, stack: &Stack, books: Books, verbose: bool) -> Result<Self, Error> {
        let service = stack.layer(Exit::new(&config.upstream)?);
        let doors = config.upstream.iter().map(|upstream| {
            let mut edge = FromHttp::new(service.clone()).max_body(upstream.max_body_bytes);
            if !config.follow_wishes {
                edge = edge.ignoring_wishes();
            }
            Door {
                name: upstream.name.clone(),
                stream_end: match upstream.stream_end {
                    End::Marker => StreamEnd::Marker,
                    End::FinishReason => StreamEnd::FinishReason,
                },
                edge: BoxCloneSyncService::new(edge.answering_errors()),
                pages: upstream.key_env.is_some().then(|| upstream.allow_origins.clone()),
            }
        });
        Ok(Self {
            routes: Routes::new(&config.upstream)?,
            doors: doors.collect(),
            body_timeout: config.body_timeout.0,
            troubles: Arc::new(Troubles {
                silent: Error::bad_input("the request's body stopped coming", "send the request again"),
                broken: Error::bad_input("the request's body broke off", "send the request again"),
            }),
            books,
            verbose,
        })
    }

    /// The answer to one request. Never an error: those are answers too.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Reply, Infallible> {
        let came = Instant::now();
        // The query stays out of the line: it may hold a key.
        let line = self.verbose.then(|| format!("{} {}", request.method(), request.uri().path()));
        let trailers = wants_trailers(request.headers());
        let (mut reply, door) = self.route(request).await;
        *reply.version_mut() = Version::HTTP_11;
        reply.headers_mut().remove(SET_COOKIE);
        let served = tell(&mut reply);
        if trailers && reply.body().is_stream() && !reply.headers().contains_key(COST) {
            reply = with_trailer(reply);
        }
        if let Some(line) = line {
            let name = door.map_or("-", |door| &door.name);
            let line = line.replace(char::is_control, " ");
            eprintln!(
                "{line} -> {name} {} {} {} ms",
                reply.status().as_u16(),
                served.unwrap_or("here"),
                came.elapsed().as_millis()
            );
        }
        Ok(reply)
    }

    async fn route(&self, request: Request<Incoming>) -> (Reply, Option<&Door>) {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path();
        let dialect = dialect_of(path);
        if let Some(own) = path.strip_prefix("/thrifty/") {
            let known = parts.method == Method::GET || parts.method == Method::HEAD;
            let own = if known { stats::answer(own, &self.books) } else { None };
            let way_out = "GET /thrifty/stats or /thrifty/health";
            return (own.unwrap_or_else(|| not_found(dialect, path, "no such page", way_out)), None);
        }
        let found = self.routes.find(&parts.uri, dialect).filter(|_| parts.method != Method::CONNECT);
        let Some((via, uri)) = found else {
            let way_out = "check the base URL of the client, or add an upstream to the server's settings";
            return (not_found(dialect, path, "no upstream serves this path", way_out), None);
        };
        let door = &self.doors[via.0];
        if let Some(page) = parts.headers.get(ORIGIN)
            && door
                .pages
                .as_ref()
                .is_some_and(|pages| !pages.iter().any(|known| known.as_bytes() == page.as_bytes()))
        {
            let error = Error::new(
                Kind::BadInput,
                "a web page may not spend the server's key",
                "name its origin in the upstream's allow_origins",
            );
            return (refuse(dialect, path, StatusCode::FORBIDDEN, &error.to_string()), Some(door));
        }
        own_head(&mut parts.headers);
        let asked = std::mem::replace(&mut parts.uri, uri);
        // What the server attached (a handle to upgrade the connection) has no place in a call that may outlive it.
        parts.extensions.clear();
        parts.extensions.insert(via);
        parts.extensions.insert(door.stream_end);
        let body = Idle::new(body, self.body_timeout, self.troubles.clone());
        let reply = match door.edge.clone().oneshot(Request::from_parts(parts, body)).await {
            Ok(reply) => reply,
            Err(never) => match never {},
        };
        let is_events = reply.headers().get(CONTENT_TYPE).is_some_and(|kind| {
            [&b"text/event-stream"[..], b"application/x-ndjson"]
                .iter()
                .any(|events| kind.as_bytes().starts_with(events))
        });
        let reply = if is_events && reply.body().is_stream() {
            reply.map(|body| ReplyBody::stream(Telling::new(body, dialect, asked.path().to_owned())))
        } else {
            reply
        };
        (reply, Some(door))
    }
}

/// Takes off what a client says of the way to this server, and what its browser added.
fn own_head(headers: &mut HeaderMap) {
    let along: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-forwarded-")).cloned().collect();
    for name in along.iter().chain(&[COOKIE, EXPECT, FORWARDED, HeaderName::from_static("x-real-ip")]) {
        headers.remove(name);
    }
}

/// True if the client says that it reads what comes after a body.
fn wants_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// The stream with its cost after it.
fn with_trailer(mut reply: Reply) -> Reply {
    let Some(receipt) = reply.extensions().get::<ReceiptHandle>().cloned() else { return reply };
    reply.headers_mut().insert(TRAILER, HeaderValue::from(COST));
    reply.map(|body| ReplyBody::stream(Costing::new(body, receipt)))
}

/// Writes the receipt into the head, and says where the answer came from. The receipt of a stream is not settled yet:
/// its head tells what is known by now.
fn tell(reply: &mut Reply) -> Option<&'static str> {
    const NAMES: [HeaderName; 4] = [
        COST,
        HeaderName::from_static("thrifty-saved-usd"),
        HeaderName::from_static("thrifty-input-tokens"),
        HeaderName::from_static("thrifty-served"),
    ];
    // An upstream may be a thrifty too; what it says is of its own calls.
    for name in &NAMES {
        reply.headers_mut().remove(name);
    }
    let settled = reply.extensions().get::<ReceiptHandle>().and_then(ReceiptHandle::get);
    let known = match settled {
        Some(receipt) => Known::of(receipt),
        None => reply.extensions().get::<Draft>()?.note(|receipt| Known::of(receipt)),
    };
    let headers = reply.headers_mut();
    let [cost, saved, input, served] = NAMES;
    let mut set = |name: HeaderName, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    };
    set(cost, known.billed.map(|billed| billed.to_string()));
    set(saved, known.saved.map(|saved| saved.to_string()));
    set(input, known.input.map(|tokens| tokens.to_string()));
    headers.insert(served, HeaderValue::from_static(known.served));
    Some(known.served)
}

struct Known {
    billed: Option<Usd>,
    saved: Option<Usd>,
    input: Option<u64>,
    served: &'static str,
}

impl Known {
    fn of(receipt: &Receipt) -> Self {
        let billed = match receipt.billed {
            // Nothing is paid for a stored stream, unless something was tried before it.
            None if matches!(receipt.served, Served::Memory | Served::Disk)
                && receipt.rejected.is_empty() =>
            {
                Some(Usd::ZERO)
            }
            billed => billed,
        };
        let saved = receipt.avoided.total();
        // What a stored answer without a price had cost is not known, and that is not 0.
        let is_known =
            if receipt.served.is_free() { receipt.state == CostState::Exact } else { billed.is_some() };
        Self {
            billed,
            saved: (is_known || saved != Usd::ZERO).then_some(saved),
            input: receipt.usage.and_then(|usage| usage.input).or(receipt.tokens_after),
            served: receipt.served.name(),
        }
    }
}

fn not_found(dialect: Dialect, path: &str, problem: &str, way_out: &str) -> Reply {
    let error = Error::bad_input(problem, way_out);
    refuse(dialect, path, StatusCode::NOT_FOUND, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stored_answer_without_a_price_saved_is_not_said_to_be_nothing() {
        let mut receipt = Receipt::default();
        receipt.served = Served::Memory;
        receipt.billed = Some(Usd::ZERO);
        receipt.state = CostState::Missing;
        assert_eq!(Known::of(&receipt).saved, None, "nobody knows what this model costs");
        receipt.state = CostState::Exact;
        assert_eq!(Known::of(&receipt).saved, Some(Usd::ZERO), "a free model saves nothing");
    }
}
