//! Sums of receipts.

/// Sums of receipts.
#[derive(Debug, Default)]
pub struct Ledger {}

/// One sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {}
