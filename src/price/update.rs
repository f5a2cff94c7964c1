//! A newer table in place of an older one.

use super::{PriceTable, Usd, What};
use crate::Error;

/// A table smaller than this is no list of current models.
const FEWEST: usize = 50;

/// How far a rate may move before it is told.
const FAR: u64 = 10;

/// A rate that moved by more than ten times between two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// The model's id.
    pub model: String,
    /// Which of its base rates.
    pub what: What,
    /// The rate per token before.
    pub from: Usd,
    /// The rate per token now.
    pub to: Usd,
}

impl PriceTable {
    /// Checks `new` before it takes the place of this table, and tells which base rates moved by more than ten times.
    ///
    /// One bad download must not change every bill: a table that has shrunk to less than half of this one is no update.
    /// Hand the table to calls as an [`Arc`](std::sync::Arc), so that one call sees one table.
    ///
    /// # Example
    /// ```
    /// use thrifty::price::{PriceTable, Rates, Usd};
    ///
    /// let old = PriceTable::builtin();
    /// let new = PriceTable::clone(&old).with_model("gpt-5-mini", Rates::new(Usd::per_million("25")?, Usd::per_million("2")?));
    /// let moved = old.check_update(&new)?;
    /// assert_eq!((moved.len(), moved[0].model.as_str()), (1, "gpt-5-mini"), "someone slipped by two digits");
    /// assert!(old.check_update(&PriceTable::default()).is_err());
    /// # Ok::<(), thrifty::Error>(())
    /// ```
    /// # Errors
    /// [`Kind::BadInput`](crate::Kind::BadInput) when `new` has fewer than 50 priced models, or fewer than half as many
    /// as this table.
    pub fn check_update(&self, new: &Self) -> Result<Vec<Moved>, Error> {
        let priced = |table: &Self| table.models().filter(|(_, rates)| rates.is_priced()).count();
        let (have, least) = (priced(new), FEWEST.max(priced(self).div_ceil(2)));
        if have < least {
            return Err(Error::bad_input(
                format!("the new price table has {have} priced models where at least {least} are expected"),
                "keep the old table, and look at what the new one was read from",
            ));
        }
        let mut moved = Vec::new();
        for (model, rates) in new.models() {
            // By its very id: an alias has moved with its model.
            let Some((before, false)) = self.find(model) else { continue };
            for what in [What::Input, What::Read, What::Write, What::Output] {
                let of = |rates: &super::Rates| rates.stated(what, 0, &super::Terms::default());
                let (Some(from), Some(to)) = (of(before), of(rates)) else { continue };
                let far = |small: Usd, large: Usd| small.checked_mul(FAR).is_some_and(|bound| large > bound);
                if far(from, to) || far(to, from) {
                    moved.push(Moved { model: model.into(), what, from, to });
                }
            }
        }
        moved.sort_by(|a, b| (&a.model, a.what).cmp(&(&b.model, b.what)));
        Ok(moved)
    }
}
