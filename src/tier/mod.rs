//! The smallest model that does the job.
//!
//! Between the largest and the smallest model of one maker lies a factor of a hundred in price, so where the small
//! one does the job this is the largest lever of all. A layer cannot know quality; it can follow the caller's
//! rules, see that an answer is useless, and get out of the way of a model that is down. It does these three:
//!
//! - **Rules** in order, the first that holds decides; without one the model asked for stays.
//! - **Escalation** up a ladder when an answer is empty, truncated, refused, has a broken tool call, or fails the
//!   caller's own check. Both answers are billed, and the receipt shows both ([`Receipt::rejected`]).
//! - **Fallback** to other models when one is down. Such a call leaves as a call of its *own* model, so a cache
//!   below keys its answer by the model that gave it, and never serves it for the model that was down.
//!
//! A switch that would make the request invalid is not made, and the receipt says why ([`Receipt::tier_note`]). If a
//! provider still refuses a switched call with 400, 403, 404 or 422, the call goes once to the model asked for,
//! byte for byte as it came.
//!
//! Tier's saving is against the model asked for at the same number of tokens, and another model writes other lengths:
//! take it for an upper bound. A switch also starts the provider's prompt cache anew. What a single cheaper model
//! would have saved is the honest thing to compare with.
//!
//! # Example
//! ```
//! use thrifty::call::Call;
//! use thrifty::tier::{Condition, Rule, TierPolicy};
//!
//! let policy = TierPolicy::builder()
//!     .rule(Rule::when(Condition::tokens_below(2_000).and(Condition::without_tools())).then("gpt-5-nano"))
//!     .build()?;
//! let call = Call::post("https://api.openai.com/v1/chat/completions",
//!     r#"{"model":"gpt-5","messages":[{"role":"user","content":"Name a prime above 10."}]}"#);
//! assert_eq!(policy.choose(&call).map(|choice| choice.model).as_deref(), Some("gpt-5-nano"));
//! # Ok::<(), thrifty::Error>(())
//! ```
//! # Escalation, a check of one's own, and fallback, as a layer
//! ```
//! use thrifty::call::{Call, Reply, ReplyBody};
//! use thrifty::tier::{Condition, Rule, TierLayer, TierPolicy};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let policy = TierPolicy::builder()
//!     .rule(Rule::when(Condition::tag("extract")).then("gpt-5-nano"))
//!     .rule(Rule::when(|call: &Call| call.doc.get("seed").is_some()).then("gpt-5-mini"))
//!     .escalate(["gpt-5-nano", "gpt-5-mini", "gpt-5"])
//!     .accept_named("has a table", |_outcome, body| body.windows(6).any(|six| six == b"<table"))
//!     .fallback(["gpt-4.1-mini"])
//!     .build()?;
//! assert!(!policy.is_pure(), "nobody knows what a closure looks at");
//!
//! let provider = service_fn(|_: Call| async { Ok::<_, thrifty::BoxError>(Reply::new(ReplyBody::from("<table>"))) });
//! let _service = TierLayer::new(policy).layer(provider);
//! # Ok::<(), thrifty::Error>(())
//! ```
//!
//! [`Receipt::rejected`]: crate::receipt::Receipt::rejected
//! [`Receipt::tier_note`]: crate::receipt::Receipt::tier_note

mod answer;
mod condition;
mod families;
mod layer;
mod policy;
mod service;
mod switch;

pub use self::condition::Condition;
pub use self::layer::TierLayer;
pub use self::policy::{Choice, Rule, Sign, TierPolicy, TierPolicyBuilder, When};
pub use self::service::Tier;
pub use self::switch::{switch, switch_breaks, switch_breaks_by};
