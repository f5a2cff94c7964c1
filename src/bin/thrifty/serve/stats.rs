//! The server's own pages.

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use thrifty::call::{Reply, ReplyBody};
use thrifty::receipt::{Lever, Totals};

use super::front::Books;

/// The page of this name, if there is one.
pub(super) fn answer(name: &str, books: &Books) -> Option<Reply> {
    let page = match name {
        "health" => json!({"status": "ok"}),
        "stats" => stats(books),
        _ => return None,
    };
    let mut reply = Reply::new(ReplyBody::from(format!("{page}\n")));
    *reply.status_mut() = StatusCode::OK;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(reply)
}

/// Sums; dollars as decimal strings. Neither tags, which may name people, nor anything of a call.
fn stats(books: &Books) -> Value {
    let models = books
        .ledger
        .by_model()
        .into_iter()
        .map(|(model, sums)| (model.as_deref().unwrap_or("(unknown)").to_owned(), totals(&sums)));
    let mut page = json!({
        "up_seconds": books.started.elapsed().as_secs(),
        "totals": totals(&books.ledger.totals()),
        "models": models.collect::<serde_json::Map<_, _>>(),
    });
    if let Some(cache) = &books.cache {
        let stats = cache.stats();
        page["cache"] = json!({
            "memory_entries": stats.store.memory_entries,
            "memory_bytes": stats.store.memory_bytes,
            "on_disk": stats.store.disk.is_some(),
            "stored": stats.stored,
            "not_stored": stats.not_stored,
            "bypassed": stats.bypassed,
            "flights": stats.flights,
        });
    }
    if let Some(budget) = &books.budget {
        let state = budget.state();
        page["budget"] = json!({
            "limit_usd": state.limit.to_string(),
            "spent_usd": state.spent.to_string(),
            "held_usd": state.held.to_string(),
            "refused": state.refused,
        });
    }
    page
}

fn totals(sums: &Totals) -> Value {
    let avoided = Lever::ALL
        .into_iter()
        .map(|lever| (lever.name().to_owned(), Value::from(sums.avoided.of(lever).to_string())));
    json!({
        "calls": sums.calls,
        "sent": sums.sent,
        "hits": { "flight": sums.hits_flight, "memory": sums.hits_memory, "disk": sums.hits_disk },
        "failed": sums.nowhere,
        "input_tokens": sums.input_tokens,
        "cached_tokens": sums.cached_tokens,
        "output_tokens": sums.output_tokens,
        "billed_usd": sums.billed.to_string(),
        "unpriced": sums.unpriced,
        "avoided_usd": avoided.collect::<serde_json::Map<_, _>>(),
    })
}
