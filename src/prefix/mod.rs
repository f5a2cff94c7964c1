//! The provider's own prompt cache: marks where the caller placed none.
//!
//! Providers read a prompt they have seen before at a tenth of the price or less. OpenAI, Gemini and others do so by
//! themselves; Anthropic wants a mark, and a mark costs: what it writes is billed at 1.25 times the input rate, and
//! pays only if it is read again. So marks are placed where a second reader is to be expected, and nowhere else:
//!
//! | call | mark | who reads it |
//! |---|---|---|
//! | tools and system text are longer than the model's minimum | at their end | every other call with the same ones |
//! | the conversation has an earlier answer and is longer than the minimum | at top level, which moves forward by itself | its next turn |
//! | a single question without a long front | none | nobody: it would cost a quarter more for nothing |
//!
//! A caller's own marks win: one mark anywhere, and nothing is touched. OpenAI's models need no marks; what steers
//! them is `prompt_cache_key`, which [`PrefixPolicy::with_cache_key`] sets where it is absent.
//!
//! The layer sits below the cache, so that its marks never enter a cache key.
//!
//! # Example
//! ```
//! use thrifty::call::Call;
//! use thrifty::prefix::{PrefixPolicy, apply};
//!
//! let rules = "Answer as a careful librarian would. ".repeat(600);
//! let mut call = Call::post("https://api.anthropic.com/v1/messages", format!(
//!     r#"{{"model":"claude-sonnet-5","max_tokens":64,"system":"{rules}","messages":[{{"role":"user","content":"Hi"}}]}}"#));
//! let policy = PrefixPolicy::default();
//! assert!(apply(&mut call, &policy));
//! assert!(call.doc.get("system").is_some_and(|system| system.ends_with(r#""cache_control":{"type":"ephemeral"}}]"#)));
//! ```
//! # As a layer, with marks that live an hour and a cache key by tenant
//! ```
//! use thrifty::call::{Call, Options, Reply, ReplyBody};
//! use thrifty::prefix::{PrefixLayer, PrefixPolicy};
//! use tower::{Layer, service_fn};
//!
//! let policy = PrefixPolicy::default()
//!     .long_lived()
//!     .with_cache_key(|call: &Call| Options::of(call).tag.map(|tag| tag.to_string()));
//! let provider = service_fn(|_: Call| async { Ok::<_, thrifty::BoxError>(Reply::new(ReplyBody::from("{}"))) });
//! let _service = PrefixLayer::new(policy).layer(provider);
//! ```

mod layer;
mod marks;
mod service;

pub use self::layer::PrefixLayer;
pub use self::marks::{PrefixPolicy, apply};
pub use self::service::Prefix;
