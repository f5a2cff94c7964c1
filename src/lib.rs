//! Tower layers that make calls to AI APIs cost less.
//!
//! An AI API bills every token sent and, dearer, every token returned. The levers are few: never pay twice for the
//! same answer ([`cache`]), trim the prompt ([`trim`]), cap the output ([`cap`]), take the smallest model that does
//! the job ([`tier`]), keep the provider's own prompt cache warm ([`prefix`]), and hold it all to a limit
//! ([`budget`]). Each is a `tower` layer over `Service<Call, Response = Reply>` that works alone; [`stack::Stack`]
//! puts them in the recommended order; [`meter`] measures in exact dollars what each saved. An [`edge`] connects
//! them to the client you have.
//!
//! Kept: bytes that no layer edited, streams as they arrive, whole good answers. Not kept: prompts. May be wrong:
//! a cached answer when a floating model name moved on within the time to live.
//!
//! # Example
//! A provider that answers twice as long as it is asked is asked once:
//! ```
//! use std::sync::Arc;
//! use thrifty::call::{Call, Reply};
//! use thrifty::receipt::Ledger;
//! use thrifty::stack::Stack;
//! use thrifty::BoxError;
//! use tower::{Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! // Any `Service<Call>` is a provider; see `thrifty::edge` for those that speak to a real one.
//! let provider = service_fn(|_: Call| async {
//!     Ok::<_, BoxError>(Reply::new(r#"{"model":"gpt-5-mini","choices":[{"index":0,"finish_reason":"stop",
//!         "message":{"role":"assistant","content":"11"}}],
//!         "usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}"#.into()))
//! });
//! let ledger = Arc::new(Ledger::default());
//! let mut client = Stack::builder().sink(ledger.clone()).build()?.layer(provider);
//!
//! let call = Call::post("https://api.openai.com/v1/chat/completions",
//!     r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"Name a prime above 10."}]}"#);
//! for _ in 0..10 {
//!     client.ready().await?.call(call.clone()).await?;
//! }
//! let totals = ledger.totals();
//! assert_eq!((totals.calls, totals.sent), (10, 1));
//! assert_eq!(totals.billed.to_string(), "0.00045");
//! assert_eq!(totals.avoided.cache.to_string(), "0.00405");
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//! It does not pick a *better* model, cache by meaning, cache calls that ask the provider to keep state or run tools,
//! fetch prices, or run on wasm32. [The design](docs::design) gives the reasons.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod budget;
pub mod cache;
pub mod call;
pub mod cap;
pub mod clock;
pub mod dialect;
pub mod docs;
pub mod edge;
mod error;
mod guard;
mod lock;
pub mod meter;
pub mod prefix;
pub mod price;
pub mod receipt;
pub mod stack;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod tier;
pub mod tokens;
pub mod trim;

pub use self::error::{BoxError, Error, Kind};

#[cfg(all(doctest, feature = "disk"))]
#[doc = include_str!("../README.md")]
struct Readme;
