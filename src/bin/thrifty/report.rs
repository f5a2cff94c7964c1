//! Policies side by side: what `demo` and `replay` answer with.

use std::io::Write;

use serde::Serialize;
use thrifty::price::Usd;
use thrifty::receipt::{Lever, Totals};

use crate::output::{Out, Stop, counted, grouped, table};

/// What one policy made of a workload.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) totals: Totals,
    /// Calls of the workload; the ledger also counts tries that were refused.
    pub(crate) calls: u64,
    /// Median and 95th percentile, in microseconds, where time was measured.
    pub(crate) latency_us: Option<(u64, u64)>,
    /// Calls that trimming refused, and that were sent untrimmed instead.
    pub(crate) over_budget: u64,
    /// Requests that were valid before trimming and not afterwards. Has to be 0.
    pub(crate) invalid: u64,
}

#[derive(Serialize)]
pub(crate) struct Policy {
    name: &'static str,
    calls: u64,
    sent: u64,
    hits: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    /// Null when the price of every call is unknown; see `unpriced`.
    usd: Option<String>,
    saved_usd: Saved,
    /// What the first policy cost beyond `usd` and all of `saved_usd`; null if either has calls without a price.
    rest_usd: Option<String>,
    /// Calls that were sent and are not in `usd`, since their price is unknown.
    unpriced: u64,
    served: Served,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
    over_budget: u64,
    invalid: u64,
}

#[derive(Serialize)]
struct Saved {
    cache: String,
    trim: String,
    cap: String,
    tier: String,
    prefix: String,
}

/// Where the answers came from.
#[derive(Serialize)]
struct Served {
    upstream: u64,
    flight: u64,
    memory: u64,
    disk: u64,
}

/// Milliseconds as decimal strings.
#[derive(Serialize)]
struct Latency {
    p50: String,
    p95: String,
}

impl Row {
    fn usd(&self) -> Option<Usd> {
        let known = self.totals.unpriced < self.totals.sent || self.totals.sent == 0;
        known.then_some(self.totals.billed)
    }

    /// What `bare` cost beyond this policy's bill and all it says it saved; `None` where a price is unknown.
    pub(crate) fn rest(&self, bare: &Self) -> Option<Usd> {
        let exact = self.totals.is_exact() && bare.totals.is_exact();
        exact.then(|| bare.totals.billed - self.totals.billed - self.totals.avoided.total())
    }

    pub(crate) fn policy(&self, bare: &Self) -> Policy {
        let saved = |lever| self.totals.avoided.of(lever).to_string();
        Policy {
            name: self.name,
            calls: self.calls,
            sent: self.totals.sent,
            hits: self.totals.hits(),
            input_tokens: self.totals.input_tokens,
            cached_tokens: self.totals.cached_tokens,
            output_tokens: self.totals.output_tokens,
            usd: self.usd().map(|usd| usd.to_string()),
            saved_usd: Saved {
                cache: saved(Lever::Cache),
                trim: saved(Lever::Trim),
                cap: saved(Lever::Cap),
                tier: saved(Lever::Tier),
                prefix: saved(Lever::Prefix),
            },
            rest_usd: self.rest(bare).map(|usd| usd.to_string()),
            unpriced: self.totals.unpriced,
            served: Served {
                upstream: self.totals.sent,
                flight: self.totals.hits_flight,
                memory: self.totals.hits_memory,
                disk: self.totals.hits_disk,
            },
            latency_ms: self.latency_us.map(|(p50, p95)| Latency { p50: millis(p50), p95: millis(p95) }),
            over_budget: self.over_budget,
            invalid: self.invalid,
        }
    }
}

/// Microseconds as milliseconds, to a hundredth.
pub(crate) fn millis(us: u64) -> String {
    let hundredths = us.div_ceil(10);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// The policies side by side, the first one being what the others are measured against.
pub(crate) fn show(out: &mut Out, rows: &[Row]) -> Result<(), Stop> {
    let Some(bare) = rows.first() else { return Ok(()) };
    let with_latency = bare.latency_us.is_some();
    let mut header = vec!["policy", "calls", "sent", "hits", "tokens in", "of it cached", "out", "dollars"];
    if with_latency {
        header.extend(["p50 ms", "p95 ms"]);
    }
    let mut used = table(&header, 1);
    for row in rows {
        let totals = &row.totals;
        let mut cells = vec![
            row.name.to_owned(),
            grouped(row.calls),
            grouped(totals.sent),
            grouped(totals.hits()),
            grouped(totals.input_tokens),
            grouped(totals.cached_tokens),
            grouped(totals.output_tokens),
            row.usd().map_or_else(|| "unknown".to_owned(), |usd| usd.display(4)),
        ];
        if let Some((p50, p95)) = row.latency_us {
            cells.extend([millis(p50), millis(p95)]);
        }
        used.add_row(cells);
    }
    writeln!(out, "{used}\n\nSaved against {}, by lever:", bare.name)?;
    let mut saved =
        table(&["policy", "cache", "trim", "cap", "tier", "prefix", "rest", "in all", "share"], 1);
    for row in &rows[1..] {
        let mut cells = vec![row.name.to_owned()];
        cells.extend(Lever::ALL.map(|lever| row.totals.avoided.of(lever).display(4)));
        match row.rest(bare) {
            Some(rest) => {
                let all = bare.totals.billed - row.totals.billed;
                cells.extend([rest.display(4), all.display(4), share(all, bare.totals.billed)]);
            }
            // A call without a price may be in one bill and not in the other.
            None => cells.extend(["unknown"; 3].map(str::to_owned)),
        }
        saved.add_row(cells);
    }
    writeln!(out, "{saved}")?;
    let unpriced = rows.iter().map(|row| row.totals.unpriced).max().unwrap_or(0);
    if unpriced > 0 {
        writeln!(
            out,
            "Up to {} of a policy have no known price and are in none of these dollars, so what is saved in all is not \
             known; see --prices.",
            counted(unpriced, "call")
        )?;
    }
    Ok(())
}

/// A part in per cent of a whole, to a tenth.
pub(crate) fn share(part: Usd, whole: Usd) -> String {
    let thousandths = part.pico().saturating_mul(1_000).checked_div(whole.pico()).unwrap_or(0);
    let sign = if thousandths < 0 { "-" } else { "" };
    format!("{sign}{}.{} %", thousandths.unsigned_abs() / 10, thousandths.unsigned_abs() % 10)
}

/// The value that `thousandths` of the sorted values do not pass; 0 without values.
pub(crate) fn percentile(sorted: &[u64], thousandths: usize) -> u64 {
    let at = (sorted.len() * thousandths).div_ceil(1_000).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_percentiles_are_whole_numbers_inside() {
        assert_eq!(share(Usd::from_pico(-25), Usd::from_pico(1_000)), "-2.5 %");
        assert_eq!(share(Usd::ZERO, Usd::ZERO), "0.0 %");
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&values, 500), percentile(&values, 950), percentile(&[], 500)), (50, 95, 0));
        assert_eq!(millis(12_345), "12.35");
    }
}
