//! Limit how many tokens a model may write.
//!
//! Output tokens cost several times what input tokens cost, and a request that names no limit leaves the size of
//! the bill to the provider. [`Cap`] writes a limit where there is none, lowers one that is too high, and never
//! raises one. A limit also makes the worst case of a call finite, which is what a spending limit reserves.
//!
//! A cap is a guard for the tail, not a way to shorter answers: an answer it cuts off is paid and useless. Set it
//! from the route's own long answers. On recorded chat traffic 512 tokens cut 3 % of the answers and saved 1 % of
//! the output tokens; 256 cut a third of them.
//!
//! Models that think before they write spend the same limit on thinking, so a small one buys an empty answer at full
//! price. To a call of such a model that names no limit, a limit below [`CapPolicy::with_thinking_room`] is not
//! added unless the call itself asks for it; and no limit goes below a thinking budget.
//!
//! # Example
//! ```
//! use thrifty::cap::CapLayer;
//!
//! let layer = CapLayer::new(4_096); // output tokens
//! ```
//! # Customised, and as a plain function
//! ```
//! use thrifty::call::Call;
//! use thrifty::cap::{self, CapLayer, CapPolicy};
//!
//! // Titles are short; every other call keeps its own limit.
//! let layer = CapLayer::new(64).only_when(|call| call.parts.uri.path().starts_with("/title/"));
//!
//! let mut call = Call::post("https://api.openai.com/v1/chat/completions",
//!     r#"{"model":"gpt-4o","max_tokens":9000,"messages":[]}"#);
//! let outcome = cap::apply(&mut call, &CapPolicy::new(2_000).without_adding());
//! assert_eq!((outcome.asked, outcome.set), (Some(9_000), Some(2_000)));
//! assert_eq!(call.doc.bytes(), r#"{"model":"gpt-4o","max_tokens":2000,"messages":[]}"#);
//! ```

mod apply;
mod future;
mod layer;
mod policy;
mod service;
mod thinks;

pub use self::apply::{CapOutcome, apply};
pub use self::future::ResponseFuture;
pub use self::layer::CapLayer;
pub use self::policy::CapPolicy;
pub use self::service::Cap;
pub use crate::dialect::CapField;
