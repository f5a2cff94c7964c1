//! A `reqwest::Client` with a stack in front: requests and responses stay reqwest's.

mod support;

use thrifty::edge::reqwest::Client;
use thrifty::receipt::ReceiptHandle;
use thrifty::stack::Stack;

#[tokio::main]
async fn main() -> Result<(), thrifty::BoxError> {
    let provider = support::Provider::start().await?;
    let stack = Stack::builder().build()?;

    let http = reqwest::Client::new();
    let client = Client::new(&stack, http.clone());
    for _ in 0..3 {
        let request = http
            .post(format!("{}/v1/chat/completions", provider.origin))
            .bearer_auth(&provider.key)
            .header("thrifty-tag", "example")
            .header("content-type", "application/json")
            .body(provider.ask("Name a prime above 10."))
            .build()?;
        let response = client.execute(request).await?;
        // There when a meter stands in the stack.
        let receipt = response.extensions().get::<ReceiptHandle>().cloned();
        println!("{} {}", response.status(), support::head(&response.text().await?));
        if let Some(receipt) = receipt.as_ref().and_then(ReceiptHandle::get) {
            println!("  served from {}", receipt.served.name());
        }
    }
    provider.tell();
    Ok(())
}
