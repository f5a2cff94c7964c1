//! Any client with types of its own: `Untyped` inside, `Typed` outside, layers between.

mod support;

use serde::{Deserialize, Serialize};
use thrifty::call::Dialect;
use thrifty::edge::{Typed, Untyped};
use thrifty::stack::Stack;
use tower::{Layer, ServiceExt, service_fn};

#[derive(Clone, Serialize, Deserialize)]
struct Ask {
    model: String,
    messages: Vec<Turn>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Turn {
    role: String,
    content: String,
}

#[derive(Serialize, Deserialize)]
struct Said {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

/// What the layers read has to be among the client's own types: without `finish_reason` nobody can tell a whole
/// answer from one that was cut, so it would not be kept, and without `usage` nobody can tell what it cost.
#[derive(Serialize, Deserialize)]
struct Choice {
    message: Turn,
    finish_reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// The client: in real life somebody else's crate.
#[derive(Clone)]
struct Sdk {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Sdk {
    async fn chat(self, ask: Ask) -> reqwest::Result<Said> {
        let sent = self.http.post(self.url).bearer_auth(self.key).json(&ask).send().await?;
        sent.error_for_status()?.json().await
    }
}

#[tokio::main]
async fn main() -> Result<(), thrifty::BoxError> {
    let provider = support::Provider::start().await?;
    let url = format!("{}/v1/chat/completions", provider.origin);
    let sdk = Sdk { http: reqwest::Client::new(), url: url.clone(), key: provider.key.clone() };
    let stack = Stack::builder().build()?;

    let inside = Untyped::<_, Ask>::new(service_fn(move |ask| sdk.clone().chat(ask)));
    let chat = Typed::<_, Said>::new(Dialect::OpenAiChat, url.parse()?, stack.layer(inside));

    let question = Turn { role: "user".to_owned(), content: "Name a prime above 10.".to_owned() };
    let ask = Ask { model: provider.model.clone(), messages: vec![question] };
    for _ in 0..3 {
        let said = chat.clone().oneshot(ask.clone()).await?;
        println!("{}", support::head(said.choices.first().map_or("", |choice| &choice.message.content)));
    }
    provider.tell();
    Ok(())
}
