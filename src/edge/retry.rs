//! The retries that providers' own clients make, for edges that take the place of such a client's sender.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use http_body::Body;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use crate::BoxError;
use crate::call::json::Object;
use crate::call::{Call, Reply, ReplyBody};
use crate::clock::{Clock, SystemClock};

/// Sends a call again when the provider says so, as its own client would.
///
/// Again: status 408, 409, 429 and 5xx, and a connection that could not be made. Not again: a 429 with
/// `insufficient_quota`, and any failure after the request may have arrived, since the provider may have billed it.
/// The header `x-should-retry` decides over the status. The wait is `retry-after-ms`, else `retry-after` (seconds or
/// a date), else 500 ms, 1 s, 2 s and so on up to 8 s. It has no jitter: retries stand below the cache, where equal
/// calls are one. A provider that asks for more than a minute gets its answer passed on instead.
///
/// Belongs below cache and budget and above limits and timeouts, so that each attempt waits for its own permit.
///
/// # Example
/// ```
/// use thrifty::edge::RetryLayer;
/// use tower::ServiceBuilder;
///
/// let service = ServiceBuilder::new().layer(RetryLayer::new()).concurrency_limit(8).service(());
/// # drop(service);
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer {
    attempts: u32,
    clock: Arc<dyn Clock>,
}

/// Longest wait a provider may ask for.
const LONGEST: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MOST_WAIT: Duration = Duration::from_secs(8);

impl RetryLayer {
    /// Three attempts: one and two more, as the official clients.
    #[must_use]
    pub fn new() -> Self {
        Self { attempts: 3, clock: Arc::new(SystemClock) }
    }

    /// Sets how often a call is sent at most; 0 counts as 1. Default: 3.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Sets the clock that dates in `retry-after` are compared with. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How long to wait after attempt number `done` (from 1) got this answer; `None` to pass it on.
    fn wait(
        &self,
        done: u32,
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Option<Duration> {
        if done >= self.attempts || status.is_success() {
            return None;
        }
        match text(headers, "x-should-retry") {
            Some("true") => {}
            Some("false") => return None,
            _ if !worth_it(status) => return None,
            _ if status == StatusCode::TOO_MANY_REQUESTS && body.is_some_and(is_out_of_quota) => return None,
            _ => {}
        }
        Some(self.asked(headers).unwrap_or_else(|| backoff(done))).filter(|wait| *wait <= LONGEST)
    }

    /// The wait the provider asks for.
    fn asked(&self, headers: &HeaderMap) -> Option<Duration> {
        if let Some(ms) = text(headers, "retry-after-ms").and_then(whole) {
            return Some(Duration::from_millis(ms));
        }
        let after = text(headers, RETRY_AFTER.as_str())?;
        if let Some(seconds) = whole(after) {
            return Some(Duration::from_secs(seconds));
        }
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(after).ok()?.as_millisecond();
        Some(Duration::from_millis(u64::try_from(at - self.clock.now_ms()).unwrap_or(0)))
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner, settings: self.clone() }
    }
}

/// Service of [`RetryLayer`]. Always ready: each attempt waits for a clone of the inner service by itself.
#[derive(Clone)]
pub struct Retry<S> {
    inner: S,
    settings: RetryLayer,
}

impl<S> Retry<S> {
    /// The inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S> fmt::Debug for Retry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("attempts", &self.settings.attempts).finish_non_exhaustive()
    }
}

impl<S> Service<Call> for Retry<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { inner, settings } = self.clone();
        Box::pin(async move {
            let mut done = 0;
            loop {
                done += 1;
                let wait = match inner.clone().oneshot(call.clone()).await.map_err(Into::into) {
                    Ok(reply) => {
                        let reply = readable(reply).await?;
                        let body = reply.body().complete();
                        match settings.wait(done, reply.status(), reply.headers(), body.as_deref()) {
                            Some(wait) => wait,
                            None => return Ok(reply),
                        }
                    }
                    Err(error) if done < settings.attempts && never_arrived(&error) => backoff(done),
                    Err(error) => return Err(error),
                };
                tracing::debug!(attempt = done, wait_ms = wait.as_millis(), "the call is sent again");
                tokio::time::sleep(wait).await;
            }
        })
    }
}

/// A 429 with its body at hand if it is short enough to be an error's, since two very different causes share it.
async fn readable(reply: Reply) -> Result<Reply, BoxError> {
    let short = reply.body().size_hint().upper().is_some_and(|most| most <= 64 << 10);
    if reply.status() != StatusCode::TOO_MANY_REQUESTS || !reply.body().is_stream() || !short {
        return Ok(reply);
    }
    let (parts, body) = reply.into_parts();
    Ok(Reply::from_parts(parts, ReplyBody::full(body.bytes().await?)))
}

fn backoff(done: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << done.saturating_sub(1).min(8)).min(MOST_WAIT)
}

fn worth_it(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 429) || status.is_server_error()
}

fn is_out_of_quota(body: &[u8]) -> bool {
    let Ok(body) = std::str::from_utf8(body) else { return false };
    let error = Object::parse(body).and_then(|body| body.object("error"));
    error.is_some_and(|error| {
        ["code", "type"].iter().any(|name| error.str(name).as_deref() == Some("insufficient_quota"))
    })
}

/// True if the request cannot have reached the provider.
fn never_arrived(error: &BoxError) -> bool {
    #[cfg(feature = "reqwest")]
    {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<::reqwest::Error>() {
                return error.is_connect();
            }
            next = error.source();
        }
    }
    let _ = error;
    false
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// A count before a decimal point; parts of a unit do not matter here.
fn whole(text: &str) -> Option<u64> {
    text.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tower::service_fn;

    fn wait(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Option<Duration> {
        // 2026-11-24 00:00:00 UTC.
        let layer = RetryLayer::new().clock(ManualClock::at_ms(1_795_478_400_000));
        let headers = headers
            .iter()
            .map(|(k, v)| (http::HeaderName::from_static(k), http::HeaderValue::from_static(v)));
        let status = StatusCode::from_u16(status).expect("a status");
        layer.wait(1, status, &headers.collect(), Some(body.as_bytes()))
    }

    #[test]
    fn the_provider_says_whether_and_when() {
        let ms = Duration::from_millis;
        assert_eq!(wait(429, &[], "{}"), Some(ms(500)));
        assert_eq!(wait(503, &[("retry-after", "3")], ""), Some(ms(3_000)));
        assert_eq!(wait(503, &[("retry-after", "3"), ("retry-after-ms", "20.5")], ""), Some(ms(20)));
        assert_eq!(wait(503, &[("retry-after", "Tue, 24 Nov 2026 00:00:05 GMT")], ""), Some(ms(5_000)));
        assert_eq!(wait(503, &[("retry-after", "Mon, 23 Nov 2026 00:00:05 GMT")], ""), Some(ms(0)));
        assert_eq!(wait(503, &[("retry-after", "3600")], ""), None, "an hour is too long to wait");
        assert_eq!(wait(429, &[], r#"{"error":{"code":"insufficient_quota"}}"#), None);
        assert_eq!(wait(503, &[("x-should-retry", "false")], ""), None);
        assert_eq!(wait(400, &[("x-should-retry", "true")], ""), Some(ms(500)));
        for status in [200, 400, 401, 404, 413] {
            assert_eq!(wait(status, &[], ""), None, "{status}");
        }
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        let waits: Vec<_> = [1, 2, 3, 9, u32::MAX].map(|done| backoff(done).as_millis()).into();
        assert_eq!(waits, [500, 1_000, 2_000, 8_000, 8_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_is_passed_on_after_a_few_attempts() {
        static SENT: AtomicU32 = AtomicU32::new(0);
        let busy = service_fn(|_: Call| async {
            SENT.fetch_add(1, Ordering::SeqCst);
            let mut reply = Reply::new(ReplyBody::from("busy"));
            *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok::<_, BoxError>(reply)
        });
        let reply =
            RetryLayer::new().layer(busy).oneshot(Call::post("http://fake/", "{}")).await.expect("a reply");
        assert_eq!((reply.status().as_u16(), SENT.load(Ordering::SeqCst)), (503, 3));
    }

    #[tokio::test]
    async fn a_failure_that_may_have_been_billed_is_not_repeated() {
        static SENT: AtomicU32 = AtomicU32::new(0);
        let broken = service_fn(|_: Call| async {
            SENT.fetch_add(1, Ordering::SeqCst);
            Err::<Reply, BoxError>("connection reset".into())
        });
        RetryLayer::new()
            .layer(broken)
            .oneshot(Call::post("http://fake/", "{}"))
            .await
            .expect_err("it failed");
        assert_eq!(SENT.load(Ordering::SeqCst), 1);
    }
}
