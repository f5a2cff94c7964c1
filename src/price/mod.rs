//! What a call costs, as an exact integer, or that nobody knows.
//!
//! A bill has more to it than tokens times a rate: cached tokens are cheaper, written ones dearer, a prompt of one
//! token too many doubles every rate, a service tier or an hour of the night changes them, and audio that was cached
//! must not be charged twice. All of it is here, in integers of a picodollar, as a pure function of usage, rates
//! and [`Terms`]. What has no price stays unknown: [`Cost::usd`] is then `None`, with the reason in [`Cost::state`].
//!
//! # Example
//! ```
//! use thrifty::price::{PriceTable, Terms, Usage};
//!
//! let cost = PriceTable::builtin().cost("claude-opus-5-5", &Usage::of(10_000, 500).with_read(8_000), &Terms::default());
//! assert_eq!(cost.usd.map(|usd| usd.display(4)).as_deref(), Some("$0.0196"));
//! assert_eq!(cost.items.len(), 3, "fresh input, cache reads, output");
//! ```
//! # Prices of your own, and a list read at run time
//! ```
//! use thrifty::price::{PriceTable, Rates, Terms, Usage, Usd, What};
//!
//! let list = br#"{"some-model": {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6, "mode": "chat"}}"#;
//! let table = PriceTable::from_litellm(list)?
//!     .with_model("llama-at-home", Rates::new(Usd::per_million("0.01")?, Usd::per_million("0.01")?))
//!     .with_model("agreed", Rates::new(Usd::per_million("1")?, Usd::per_million("4")?)
//!         .served("batch", What::Input, Usd::per_million("0.5")?));
//! let batch = Terms::default().with_service_tier(Some("batch".into()));
//! assert_eq!(table.cost("agreed", &Usage::of(1_000, 0), &batch).usd, Some("0.0005".parse()?));
//! assert_eq!(table.len(), 3);
//! # Ok::<(), thrifty::Error>(())
//! ```

mod builtin;
mod cost;
mod litellm;
mod lookup;
mod rates;
mod split;
mod table;
mod update;
mod usd;
mod what;
mod window;

pub use self::cost::{Cost, CostState, Item, Terms};
pub use self::rates::Rates;
pub use self::table::{PriceTable, Warnings};
pub use self::update::Moved;
pub use self::usd::Usd;
pub use self::what::What;
pub use self::window::Window;
pub use crate::dialect::Usage;
