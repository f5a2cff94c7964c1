//! Where the examples send their calls: the embedded upstream, or a real provider.
#![allow(unreachable_pub, dead_code, clippy::allow_attributes, reason = "each example uses its own part")]

use axum::serve::ListenerExt;
use thrifty::BoxError;
use thrifty::call::json;
use thrifty::edge::FromHttp;
use thrifty::testing::Upstream;

/// A provider to talk to.
pub struct Provider {
    /// Without the path, as in `https://api.openai.com`.
    pub origin: String,
    pub key: String,
    pub model: String,
    upstream: Option<Upstream>,
}

impl Provider {
    /// OpenAI when `OPENAI_API_KEY` is set (another origin by `OPENAI_ORIGIN`, another model by `OPENAI_MODEL`), else
    /// the embedded upstream on a free loopback port.
    pub async fn start() -> Result<Self, BoxError> {
        let model = std::env::var("OPENAI_MODEL").unwrap_or_else(|_| "gpt-5-mini".to_owned());
        if let Ok(key) = std::env::var("OPENAI_API_KEY") {
            let origin =
                std::env::var("OPENAI_ORIGIN").unwrap_or_else(|_| "https://api.openai.com".to_owned());
            return Ok(Self { origin, key, model, upstream: None });
        }
        let upstream = Upstream::new().latency(std::time::Duration::from_millis(300));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let service = FromHttp::new(upstream.clone()).answering_errors();
        let app = axum::Router::new().fallback_service(service);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { origin, key: "none".to_owned(), model, upstream: Some(upstream) })
    }

    /// A question as a chat completions body.
    pub fn ask(&self, question: &str) -> String {
        let (model, question) = (json::quote(&self.model), json::quote(question));
        format!(
            r#"{{"model":{model},"max_completion_tokens":400,"messages":[{{"role":"user","content":{question}}}]}}"#
        )
    }

    /// Tells how many calls arrived, where that is known.
    pub fn tell(&self) {
        match &self.upstream {
            Some(upstream) => println!("calls that reached the embedded upstream: {}", upstream.calls()),
            None => println!("sent to {}", self.origin),
        }
    }
}

/// The first line of an answer.
pub fn head(text: &str) -> String {
    text.chars().take(72).collect()
}
