//! The server's own pages.

use std::collections::BTreeMap;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use thrifty::call::{Reply, ReplyBody};
use thrifty::receipt::{Lever, Totals};

use super::front::Books;

/// The page of this name, if there is one.
pub(super) fn answer(name: &str, books: &Books) -> Option<Reply> {
    let page = match name {
        "health" => r#"{"status":"ok"}"#.to_owned(),
        "stats" => serde_json::to_string(&Page::of(books)).ok()?,
        _ => return None,
    };
    let mut reply = Reply::new(ReplyBody::from(page + "\n"));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(reply)
}

/// Sums; dollars as decimal strings. Neither tags, which may name people, nor anything of a call.
#[derive(Serialize)]
struct Page {
    up_seconds: u64,
    totals: Sums,
    models: BTreeMap<String, Sums>,
    cache: Option<Cache>,
    budget: Option<Budget>,
}

#[derive(Serialize)]
struct Sums {
    calls: u64,
    sent: u64,
    hits: Hits,
    failed: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    billed_usd: String,
    unpriced: u64,
    avoided_usd: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Hits {
    flight: u64,
    memory: u64,
    disk: u64,
}

#[derive(Serialize)]
struct Cache {
    memory_entries: u64,
    memory_bytes: u64,
    on_disk: bool,
    stored: u64,
    not_stored: u64,
    bypassed: u64,
    flights: u64,
    /// Why, by reason.
    misses_by: BTreeMap<&'static str, u64>,
    not_stored_by: BTreeMap<&'static str, u64>,
    bypassed_by: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct Budget {
    limit_usd: String,
    spent_usd: String,
    held_usd: String,
    refused: u64,
}

impl Page {
    fn of(books: &Books) -> Self {
        let models = books.ledger.by_model().into_iter();
        Self {
            up_seconds: books.started.elapsed().as_secs(),
            totals: Sums::of(&books.ledger.totals()),
            models: models
                .map(|(model, sums)| (model.as_deref().unwrap_or("(unknown)").to_owned(), Sums::of(&sums)))
                .collect(),
            cache: books.cache.as_ref().map(|cache| {
                let stats = cache.stats();
                Cache {
                    memory_entries: stats.store.memory_entries,
                    memory_bytes: stats.store.memory_bytes,
                    on_disk: stats.store.disk.is_some(),
                    stored: stats.stored,
                    not_stored: stats.not_stored,
                    bypassed: stats.bypassed,
                    flights: stats.flights,
                    misses_by: stats.misses_by,
                    not_stored_by: stats.refused_by,
                    bypassed_by: stats.bypassed_by,
                }
            }),
            budget: books.budget.as_ref().map(|budget| {
                let state = budget.state();
                Budget {
                    limit_usd: state.limit.to_string(),
                    spent_usd: state.spent.to_string(),
                    held_usd: state.held.to_string(),
                    refused: state.refused,
                }
            }),
        }
    }
}

impl Sums {
    fn of(sums: &Totals) -> Self {
        let avoided = Lever::ALL.into_iter();
        Self {
            calls: sums.calls,
            sent: sums.sent,
            hits: Hits { flight: sums.hits_flight, memory: sums.hits_memory, disk: sums.hits_disk },
            failed: sums.nowhere,
            input_tokens: sums.input_tokens,
            cached_tokens: sums.cached_tokens,
            output_tokens: sums.output_tokens,
            billed_usd: sums.billed.to_string(),
            unpriced: sums.unpriced,
            avoided_usd: avoided.map(|lever| (lever.name(), sums.avoided.of(lever).to_string())).collect(),
        }
    }
}
