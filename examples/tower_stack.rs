//! Layers put together by hand with tower's `ServiceBuilder`, tower's own among them.
//!
//! The order is yours here. `thrifty::stack::Stack` has the recommended one; the reasons are in its docs.

mod support;

use std::sync::Arc;
use std::time::Duration;

use thrifty::cache::CacheLayer;
use thrifty::call::{Call, Options};
use thrifty::cap::CapLayer;
use thrifty::edge::RetryLayer;
use thrifty::edge::reqwest::Exit;
use thrifty::meter::MeterLayer;
use thrifty::receipt::Ledger;
use thrifty::trim::{TrimLayer, TrimPolicy};
use tower::{ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), thrifty::BoxError> {
    let provider = support::Provider::start().await?;
    let ledger = Arc::new(Ledger::default());
    let service = ServiceBuilder::new()
        .layer(MeterLayer::new(ledger.clone()))
        .layer(TrimLayer::new(TrimPolicy::new().with_budget(8_000)))
        .layer(CapLayer::new(4_096))
        .layer(CacheLayer::in_memory())
        // A hit has been answered above: it takes no permit and waits for nobody.
        .layer(RetryLayer::new().attempts(2))
        .concurrency_limit(4)
        .timeout(Duration::from_secs(60))
        .service(Exit::new(reqwest::Client::new()));

    let url = format!("{}/v1/chat/completions", provider.origin);
    for question in ["Name a prime above 10.", "Name a prime above 20.", "Name a prime above 10."] {
        let mut call = Call::post(&url, provider.ask(question)).with(Options::new().tag("example"));
        call.parts.headers.insert("authorization", format!("Bearer {}", provider.key).parse()?);
        let reply = service.clone().oneshot(call.clone()).await?;
        let outcome = call.format().read_reply(&reply.into_body().bytes().await?);
        println!("{question} {:?}", outcome.finish);
    }
    let totals = ledger.totals();
    println!("{totals}");
    provider.tell();
    Ok(())
}
