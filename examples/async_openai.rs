//! async-openai with a stack inside: the client's own types, one line more.

mod support;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::CreateChatCompletionRequest;
use thrifty::edge::async_openai::HttpService;
use thrifty::stack::Stack;

#[tokio::main]
async fn main() -> Result<(), thrifty::BoxError> {
    let provider = support::Provider::start().await?;
    let stack = Stack::builder().build()?;

    let config = OpenAIConfig::new()
        .with_api_base(format!("{}/v1", provider.origin))
        .with_api_key(provider.key.as_str());
    let client =
        Client::with_config(config).with_http_service(HttpService::new(&stack, reqwest::Client::new()));

    for _ in 0..3 {
        let ask: CreateChatCompletionRequest = serde_json::from_str(&provider.ask("Name a prime above 10."))?;
        let said = client.chat().create(ask).await?;
        let text = said.choices.first().and_then(|choice| choice.message.content.as_deref());
        println!("{}", support::head(text.unwrap_or_default()));
    }
    provider.tell();
    Ok(())
}
