//! The recorded upstream: answers with what the log holds, at the time of the log.

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use thrifty::call::json::quote;
use thrifty::call::{Call, Dialect, Reply, ReplyBody};
use thrifty::clock::{Clock, ManualClock};
use thrifty::dialect::Usage;
use thrifty::price::PriceTable;
use thrifty::tokens::Counter;
use thrifty::{BoxError, Error};
use tower::Service;

use crate::replay::log::{Record, model_member, usage_json, usage_member};
use crate::replay::pairs::is_paired;
use crate::replay::prompt_cache::PromptCache;

/// The record a call comes from. It travels in the call's extensions, past all layers.
#[derive(Clone, Debug)]
pub(crate) struct Origin(pub(crate) Arc<Record>);

/// The provider of one policy: a prompt cache of its own, and the answers of the log. Clones share the cache.
#[derive(Clone)]
pub(crate) struct Upstream {
    cache: Arc<Mutex<PromptCache>>,
    invalid: Arc<AtomicU64>,
    counter: Counter,
    clock: ManualClock,
    prices: Arc<PriceTable>,
}

impl Upstream {
    pub(crate) fn new(counter: Counter, clock: ManualClock, prices: Arc<PriceTable>) -> Self {
        Self { cache: Arc::default(), invalid: Arc::default(), counter, clock, prices }
    }

    /// Requests that came here broken, and were not so in the log.
    pub(crate) fn invalid(&self) -> u64 {
        self.invalid.load(Ordering::Relaxed)
    }

    fn answer(&self, call: &Call) -> Result<Reply, BoxError> {
        let Some(Origin(record)) = call.parts.extensions.get::<Origin>() else {
            return Err(Error::bad_input("a call of no record came", "send calls of the log only").into());
        };
        let unchanged = call.doc.bytes() == record.call.doc.bytes();
        let count = if unchanged { record.count.clone() } else { self.counter.count(call) };
        if !unchanged && record.paired && !is_paired(call) {
            self.invalid.fetch_add(1, Ordering::Relaxed);
        }
        let now = self.clock.now_ms();
        let cached = self.cache.lock().unwrap_or_else(PoisonError::into_inner).pass(
            call,
            &count,
            &record.scope,
            &self.prices,
            now,
        );

        let mut body = record.response.clone();
        if body.some("error").is_some() {
            return Ok(reply(StatusCode::BAD_REQUEST, body.into_bytes()));
        }
        let recorded = record.usage.filter(|usage| unchanged && usage.is_known());
        if recorded.is_none() {
            // What was billed for the request as it was, and what our count says of the change.
            let before = record.usage.and_then(|usage| usage.input).unwrap_or(record.count.likely);
            let input = before.saturating_add(count.likely).saturating_sub(record.count.likely).max(1);
            let mut usage = Usage::of(input, record.output).with_read(cached.read.min(input));
            if call.dialect == Dialect::AnthropicMessages {
                usage.write_short = Some(cached.written.min(input - cached.read.min(input)));
            }
            // The other formats answer as recorded: their counts stand among the rest of the answer.
            let writes = [
                Dialect::OpenAiChat,
                Dialect::AnthropicMessages,
                Dialect::OpenAiResponses,
                Dialect::GeminiGenerate,
            ];
            if writes.contains(&call.dialect) {
                body.set(usage_member(call.dialect), &usage_json(call.dialect, &usage))?;
            }
        }
        let model = call.model().unwrap_or_default();
        if model != record.model {
            body.set(model_member(call.dialect), &quote(&model))?;
        }
        Ok(reply(StatusCode::OK, body.into_bytes()))
    }
}

fn reply(status: StatusCode, body: bytes::Bytes) -> Reply {
    let mut reply = Reply::new(ReplyBody::full(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

impl Service<Call> for Upstream {
    type Response = Reply;
    type Error = BoxError;
    type Future = Ready<Result<Reply, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        ready(self.answer(&call))
    }
}
