//! Fit a prompt into a token budget without breaking it, and without losing the provider's prompt cache.
//!
//! A conversation grows with every turn, and all of it is paid again on every call. Cutting it naively does harm
//! twice. A tool result without its call, or a call without its results, is refused by every provider. And a
//! prompt whose front moves on every turn is never found in the provider's prompt cache: on 46,000 recorded agent
//! requests sliding at 100,000 tokens sent 31 % fewer tokens and cost three times as much as not trimming at all.
//!
//! [`Trim`] drops whole turns from the front, rarely and deep, at places that depend on the history alone: the
//! same on every node and after every restart, with nothing to remember. When one turn alone is too long, as in an
//! agent's loop, it clears old tool results to the constant [`CLEARED`] while their calls stay (switch it off with
//! [`TrimPolicy::with_cleared_results`]), and then drops the oldest calls of that turn together with their
//! results. What else is kept is kept byte for byte and in order. What is never dropped: system and developer messages,
//! tools, the last user message, the newest exchange with a tool, and whatever is not understood. If that much does
//! not fit, the call fails with [`Kind::OverBudget`](crate::Kind::OverBudget) and nothing is sent.
//!
//! Trimming forgets. A budget saves money where a window, a price cliff or a limit asks for one; with a warm prompt
//! cache and none of these, leaving the history alone is cheaper.
//!
//! # Example
//! ```
//! use thrifty::trim::{TrimLayer, TrimPolicy};
//!
//! let layer = TrimLayer::new(TrimPolicy::new().with_budget(100_000)); // prompt tokens
//! ```
//! # Customised, and as a plain function
//! ```
//! use thrifty::call::{Call, Options};
//! use thrifty::trim::{self, TrimPolicy};
//!
//! // No default budget; calls that name one are cut to it exactly, and tool results stay as they are.
//! let policy = TrimPolicy::new().with_step(0).with_cleared_results(false);
//! let mut call = Call::post("https://api.openai.com/v1/chat/completions", format!(
//!     r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{}"}},{{"role":"assistant","content":"Yes."}},
//!         {{"role":"user","content":"Why?"}}]}}"#, "Is that so? ".repeat(100)))
//!     .with(Options::new().budget(200));
//! let plan = trim::plan(&call, &policy)?;
//! trim::apply(&mut call, &plan)?;
//! assert_eq!(plan.keep, [false, false, true]);
//! assert_eq!(call.doc.elements("messages").map(|messages| messages.len()), Some(1));
//! # Ok::<(), thrifty::Error>(())
//! ```

mod ask;
mod future;
mod grid;
mod layer;
mod plan;
mod policy;
mod service;
mod shape;

pub use self::ask::{Ask, AskLayer};
pub use self::future::ResponseFuture;
pub use self::layer::TrimLayer;
pub use self::plan::{CLEARED, Plan, apply, plan, plan_with};
pub use self::policy::TrimPolicy;
pub use self::service::Trim;
