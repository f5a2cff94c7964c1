//! Layers put together by hand with tower's `ServiceBuilder`, tower's own among them.

mod support;

use std::time::Duration;

use thrifty::call::{Call, Options};
use thrifty::edge::RetryLayer;
use thrifty::edge::reqwest::Exit;
use tower::{ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), thrifty::BoxError> {
    let provider = support::Provider::start().await?;
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new().attempts(2))
        .concurrency_limit(4)
        .timeout(Duration::from_secs(60))
        .service(Exit::new(reqwest::Client::new()));

    let url = format!("{}/v1/chat/completions", provider.origin);
    for question in ["Name a prime above 10.", "Name a prime above 20."] {
        let mut call = Call::post(&url, provider.ask(question)).with(Options::new().tag("example"));
        call.parts.headers.insert("authorization", format!("Bearer {}", provider.key).parse()?);
        let reply = service.clone().oneshot(call.clone()).await?;
        let outcome = call.format().read_reply(&reply.into_body().bytes().await?);
        println!(
            "{question} {:?} {:?}",
            outcome.finish,
            outcome.usage.map(|usage| (usage.input, usage.output))
        );
    }
    provider.tell();
    Ok(())
}
