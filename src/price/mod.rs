//! What a call costs, as an exact integer, or that nobody knows.

mod cost;
mod table;
mod usd;

pub use self::cost::{Cost, CostState, Item, Terms};
pub use self::table::PriceTable;
pub use self::usd::Usd;
pub use crate::dialect::Usage;
