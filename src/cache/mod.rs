//! Never pay twice for the same answer.
//!
//! A call whose answer is known costs a lookup instead of money and seconds. [`Cache`] serves a repeated call from
//! memory, then from disk, and otherwise lets exactly one caller pay for it while identical callers wait or follow
//! its stream. What may go wrong in such a layer is a wrong answer, so the rules are strict:
//!
//! - The key is taken over the whole **outbound** call, unknown members included, bound to a [`Scope`]: by default
//!   two credentials never share an answer.
//! - Only whole, good answers are stored: a 2xx whose end marker was seen, neither truncated nor refused nor empty.
//! - Calls whose answer depends on more than the request (tools the provider runs, content by URL, stored
//!   conversations) pass by.
//! - A batch of embeddings is looked up input by input, and only inputs that are not known are sent.
//! - When the name asked for stands for another model, what the former one gave is not served any more. That is known
//!   as soon as an answer of the new model has been seen in the same scope, from the provider or from disk, since the
//!   start; for the 65,536 names asked for last. Answers to a name that may move are stored for a day at most.
//! - Trouble with the cache file never fails or slows a call.
//!
//! An answer that is served again gets an id and a time of its own; see [`ReplayIdentity`]. Each reply says in the
//! header `cache-status` (RFC 9211) how it came, a hit its `age` too, except in a shared scope, where that would tell
//! that somebody else asked the same. (`thrifty serve` adds `thrifty-served` to replies whose bill is settled: the
//! tier, which `cache-status` has no word for.)
//!
//! Kept: status, a few headers, the body. Not kept: the prompt. Who pays: the first caller. When it may be wrong: a
//! floating model name moved on and nothing of the new model has been seen yet, or answers are meant to vary; say
//! [`CacheMode::NoCache`](crate::call::CacheMode) for a call that wants a new answer.
//!
//! # Example
//! ```
//! use thrifty::cache::CacheLayer;
//! # use thrifty::call::{Call, Reply};
//! # use thrifty::{BoxError, Error};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let answer = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"11"},"finish_reason":"stop"}]}"#;
//! let mut service = ServiceBuilder::new()
//!     .layer(CacheLayer::in_memory())
//!     .service(service_fn(move |_: Call| async move { Ok::<_, BoxError>(Reply::new(answer.into())) }));
//!
//! let call = Call::post("https://api.openai.com/v1/chat/completions",
//!     r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"Name a prime above 10."}]}"#);
//! for _ in 0..3 {
//!     let reply = service.ready().await?.call(call.clone()).await?;
//!     assert_eq!(reply.into_body().bytes().await?, answer);
//! }
//! # Ok(())
//! # }
//! ```
//! # On disk, shared by name, for a day
//! ```
//! use std::time::Duration;
//! use thrifty::cache::CacheLayer;
//! use thrifty::call::Scope;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("answers.redb");
//! # #[cfg(feature = "disk")]
//! let layer = CacheLayer::builder()
//!     .disk(path)
//!     .memory_bytes(64 << 20)
//!     .ttl(Duration::from_secs(24 * 3600))
//!     .scope(Scope::shared("docs-bot"))
//!     .build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a call may wish, and what an operator may set
//! A call says in its [`Options`](crate::call::Options), or in an HTTP request's `cache-control`, how fresh its answer
//! has to be and whether it reads and stores at all. The builder holds what is off by default: answers served
//! [while a new one is fetched](CacheBuilder::stale_while_revalidate) or
//! [while the provider is down](CacheBuilder::stale_if_error), [errors kept for seconds](CacheBuilder::negative_ttl),
//! [several answers to one question](CacheBuilder::answers_per_question), and routes of
//! [calls that no format reads](CacheBuilder::opaque_route). [`numbers`] tells what came of it.
//! ```
//! use std::time::Duration;
//! use thrifty::cache::{CacheLayer, Mode, Sampled};
//! use thrifty::call::Scope;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), thrifty::Error> {
//! let layer = CacheLayer::builder()
//!     .sampled(Sampled::ZeroTempOrSeed)
//!     .stale_if_error(Duration::from_secs(3_600))
//!     .opaque_route("/v1/audio/speech")
//!     .build()?;
//! let handle = layer.handle();
//! handle.set_mode(Mode::ReadOnly);
//! handle.purge(&Scope::tenant("ann")).await;
//! println!("{:?}", handle.stats().misses_by);
//! # Ok(())
//! # }
//! ```
//!
//! [`Scope`]: crate::call::Scope

mod canon;
mod embeddings;
mod entry;
#[cfg(feature = "disk")]
mod envelope;
mod filing;
mod flight;
#[cfg(feature = "disk")]
mod former;
mod freshness;
mod handle;
mod key;
mod layer;
mod negative;
pub mod numbers;
mod policy;
mod purge;
mod recall;
mod render;
mod resolved;
mod secret;
mod service;
mod settings;
mod stale;
mod status;
mod store;
mod switch;
mod varied;

pub use self::canon::{differences, digest};
pub use self::entry::Entry;
#[cfg(feature = "disk")]
pub use self::envelope::Stamp;
pub use self::flight::OrphanPolicy;
pub use self::handle::CacheHandle;
pub use self::key::{Bypass, CacheKey, Keyer};
pub use self::layer::CacheLayer;
pub use self::numbers::CacheStats;
pub use self::policy::{Sampled, storable, stored_headers};
pub use self::recall::{Recall, RecallLayer};
pub use self::secret::Secret;
pub use self::service::{Cache, CacheFuture};
pub use self::settings::{CacheBuilder, ReplayIdentity};
pub use self::store::StoreStats;
#[cfg(feature = "disk")]
pub use self::store::disk::{Checked, Compacted, Disk, DiskOptions, DiskState, DiskStats};
#[cfg(all(feature = "disk", feature = "test-util"))]
#[doc(hidden)]
pub use self::store::disk::{FileMedium, Medium};
pub use self::switch::Mode;
