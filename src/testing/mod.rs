//! The embedded upstream: a provider that runs inside the program, for tests, examples and the demo.
//!
//! Trying a stack against a real provider costs money, needs a key and never gives the same answer twice.
//! [`Upstream`] speaks as the real ones do: whole answers and streams, tool calls, thoughts, usage, a prompt cache,
//! errors. It answers equal calls with equal bytes, counts what it was asked, and can be told to misbehave. Behind an
//! HTTP server ([`FromHttp`](crate::edge::FromHttp)) the official clients take it for their own provider.
//!
//! | API | paths |
//! |---|---|
//! | OpenAI | `/chat/completions`, `/responses`, `/responses/input_tokens`, `/embeddings`, `/models`, `/models/{id}` |
//! | Anthropic | `/messages`, `/messages/count_tokens`, `/models`, `/models/{id}` |
//! | Gemini | `:generateContent`, `:streamGenerateContent`, `:countTokens`, `:embedContent`, `:batchEmbedContents`, `/v1beta/models`, `/v1beta/models/{id}` |
//! | Ollama | `/api/chat`, `/api/generate`, `/api/embed`, `/api/embeddings`, `/api/tags`, `/api/show`, `/api/ps`, `/api/version` |
//!
//! It keeps no answers: `store` and `previous_response_id` of Responses are said again, and that is all.
//!
//! Needs the feature `test-util`.
//!
//! # Example
//! ```
//! use thrifty::call::Call;
//! use thrifty::testing::Upstream;
//!
//! let upstream = Upstream::new();
//! let call = Call::post("https://api.openai.com/v1/chat/completions",
//!     r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"Name a prime."}]}"#);
//! let body = upstream.answer(&call).into_body().complete().expect("nobody asked for a stream");
//! let body = std::str::from_utf8(&body)?;
//! assert!(body.contains(r#""finish_reason":"stop""#) && body.contains(r#""usage":{"prompt_tokens":"#));
//! assert_eq!(upstream.calls(), 1);
//! # Ok::<(), std::str::Utf8Error>(())
//! ```
//! # Slow, and rate-limited at first
//! ```
//! use std::time::Duration;
//! use http::StatusCode;
//! use thrifty::call::Call;
//! use thrifty::testing::{Scripted, Upstream};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), thrifty::BoxError> {
//! let upstream = Upstream::new().latency(Duration::from_millis(5)).first(1, Scripted::rate_limited());
//! let call = Call::post("https://api.anthropic.com/v1/messages",
//!     r#"{"model":"claude-haiku-4-5","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#);
//! assert_eq!(upstream.clone().oneshot(call.clone()).await?.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(upstream.clone().oneshot(call).await?.status(), StatusCode::OK);
//! # Ok(()) }
//! ```

mod answer;
mod anthropic;
mod embeddings;
mod frames;
mod gemini;
mod ollama;
mod openai;
mod prompt_cache;
mod render;
mod responses;
mod route;
mod schema;
mod script;
#[cfg(test)]
mod tests;
mod thinking;
mod upstream;
mod words;

pub use self::script::Scripted;
pub use self::upstream::{Seen, Upstream};
