//! A spending limit that holds.
//!
//! A limit that is checked before a call and charged after it lets through whatever is sent in between: ten calls at
//! once pass a check that one of them spends. So each call first *reserves* the most it can cost, and is settled
//! at what it did cost: what is spent and what is held never exceed a hard limit together, however many callers
//! there are.
//!
//! - **Reserved**: the prompt's upper bound at the dearest rate that can apply (a cache write, the rates above a
//!   length threshold), and the output cap (else the model's largest output) times the number of answers.
//! - **Settled once**, into the window that reserved it, at the provider's own counts; at the reservation when they
//!   never came (a caller who left, a connection that broke); at nothing when nothing was sent or the provider
//!   refused.
//! - **Hard** refuses before sending when the reservation does not fit, and refuses what has no price. **Soft** lets
//!   both through and notes it on the receipt.
//!
//! What the provider bills beyond the reservation (a cap it ignored, searches it ran, a changed price) is recorded in
//! full and summed in [`State::overshoot`]: a hard limit is passed by no more than that. The books live in this
//! process; they do not survive it and are not shared with others. Retries *below* the layer share one reservation,
//! so put a retry layer above it if failed attempts are billed.
//!
//! # Example
//! ```
//! use thrifty::budget::{Budget, Window};
//!
//! let budget = Budget::builder().limit("5".parse()?).per(Window::Day).hard().build()?;
//! assert_eq!(budget.state().left(), "5".parse()?);
//! # Ok::<(), thrifty::Error>(())
//! ```
//! # Reserving by hand, with a price table of one's own
//! ```
//! use std::sync::Arc;
//! use thrifty::budget::{Budget, Window};
//! use thrifty::call::Call;
//! use thrifty::price::PriceTable;
//!
//! let table = PriceTable::from_litellm(br#"{"mine":{"litellm_provider":"openai","mode":"chat",
//!     "input_cost_per_token":1e-6,"output_cost_per_token":4e-6,"max_output_tokens":1000}}"#)?;
//! let budget = Budget::builder().limit("0.01".parse()?).per(Window::Month).hard().prices(Arc::new(table)).build()?;
//! let call = Call::post("https://api.openai.com/v1/chat/completions",
//!     r#"{"model":"mine","max_completion_tokens":100,"messages":[{"role":"user","content":"Hi"}]}"#);
//! let mut ticket = budget.reserve(&call)?;
//! ticket.dispatch(); // From here on, losing the ticket charges the reservation.
//! ticket.settle(Some("0.0001".parse()?));
//! assert_eq!(budget.state().spent, "0.0001".parse()?);
//! # Ok::<(), thrifty::Error>(())
//! ```

mod books;
mod layer;
mod service;
mod tap;
mod ticket;
mod worst;

pub use self::books::{Budget, BudgetBuilder, State, Window};
pub use self::layer::BudgetLayer;
pub use self::service::Budgeted;
pub use self::ticket::Ticket;
pub use self::worst::{worst_case, worst_case_with};
