//! The sum under a receipt.

use http::StatusCode;

use crate::dialect::{Usage, is_free_of_charge};
use crate::price::{Cost, CostState, PriceTable, Terms, Usd};
use crate::receipt::{Receipt, Served};

/// Prices a receipt: what is billed, and what each lever saved, each measured against the state just before it
/// acted, so that `billed + avoided` is what the bare call would have cost.
///
/// `body_bytes` and `text_bytes` (of the request, and of generated text seen) serve an estimate when no usage came.
pub fn settle(receipt: &mut Receipt, prices: &PriceTable, body_bytes: u64, text_bytes: u64) {
    receipt.table = Some(prices.id());
    let terms = Terms::at(receipt.started_ms).with_service_tier(receipt.service_tier.clone());
    let cost = |model: Option<&str>, usage: Option<&Usage>| match (model, usage) {
        (Some(model), Some(usage)) => prices.cost(model, usage, &terms),
        (model, _) => {
            let state = match model {
                Some(model) if prices.cost(model, &Usage::of(0, 0), &terms).state != CostState::Missing => {
                    CostState::UsageUnknown
                }
                _ => CostState::Missing,
            };
            Cost::unknown(state)
        }
    };

    let rejected = rejected_cost(receipt, prices, &terms);
    if matches!(receipt.served, Served::Memory | Served::Disk) && receipt.avoided.cache != Usd::ZERO {
        // The answer was priced when it was stored, discounts and all.
        receipt.billed = rejected;
        receipt.state = CostState::Exact;
        return levers(receipt, rejected.unwrap_or_default(), |model, usage| {
            prices.cost(model, usage, &terms).usd
        });
    }
    let answered = receipt.answered.as_deref().or(receipt.chosen.as_deref());
    let chosen = receipt.chosen.as_deref();
    let mut last = cost(answered, receipt.usage.as_ref());
    if last.state == CostState::Missing && receipt.answered.is_some() {
        // A dated name the table does not know: the name that was asked for has the same price.
        last = cost(chosen, receipt.usage.as_ref());
    }

    let status = receipt.status.and_then(|status| StatusCode::from_u16(status).ok());
    let free = receipt.refused || (status.is_some_and(is_free_of_charge) && receipt.usage.is_none());
    match receipt.served {
        Served::Upstream | Served::Nowhere if free => {
            receipt.billed = rejected;
            receipt.state = CostState::Exact;
        }
        Served::Upstream => {
            receipt.billed = rejected.zip(last.usd).map(|(rejected, last)| rejected + last);
            receipt.state = last.state;
        }
        Served::Nowhere => {
            // It may have been sent, and the provider may have worked on it: nobody knows, and that is not 0.
            receipt.billed = None;
            receipt.state = last.state;
        }
        Served::Flight | Served::Memory | Served::Disk => {
            receipt.billed = rejected;
            receipt.state = last.state;
            receipt.avoided.cache = last.usd.unwrap_or_default();
        }
    }

    let seen = receipt.usage.unwrap_or_default();
    if !receipt.served.is_free() && receipt.billed.is_none() && !seen.is_known() {
        let input = seen.input.or(receipt.tokens_after).unwrap_or(body_bytes.div_ceil(4));
        let output = seen.output.unwrap_or(text_bytes.div_ceil(4));
        let usage = Usage { input: Some(input), output: Some(output), ..seen };
        receipt.estimate = cost(chosen, Some(&usage)).usd;
    }
    if receipt.served != Served::Nowhere {
        levers(receipt, rejected.unwrap_or_default(), |model, usage| prices.cost(model, usage, &terms).usd);
    }
}

/// Tier first, then trim: the order in which they act.
fn levers(receipt: &mut Receipt, rejected: Usd, cost: impl Fn(&str, &Usage) -> Option<Usd>) {
    let (Some(chosen), Some(usage)) = (&receipt.chosen, receipt.usage) else { return };
    let cut = match (receipt.tokens_before, receipt.tokens_after) {
        (Some(before), Some(after)) => before.saturating_sub(after),
        _ => 0,
    };
    let mut untrimmed = Usage { input: usage.input.map(|input| input + cut), ..usage };
    if usage.read.is_some_and(|read| read > 0) || receipt.breaks_prefix {
        // Where the provider's prompt cache is at work, what was cut off the front would have been read from it. At
        // the full rate trimming would be credited with a discount that is the provider's.
        untrimmed.read = Some(usage.read.unwrap_or(0) + cut);
    }
    if cut > 0
        && let (Some(before), Some(after)) = (cost(chosen, &untrimmed), cost(chosen, &usage))
    {
        receipt.avoided.trim = before - after;
    }
    let asked = receipt.asked.as_ref().unwrap_or(chosen);
    if asked != chosen
        && let (Some(before), Some(after)) = (cost(asked, &untrimmed), cost(chosen, &untrimmed))
    {
        receipt.avoided.tier = before - after;
    }
    // What was paid for answers that were not good enough is the price of trying a smaller model first.
    receipt.avoided.tier -= rejected;
}

/// What the rejected answers were billed; `None` when one of them cannot be priced.
fn rejected_cost(receipt: &Receipt, prices: &PriceTable, terms: &Terms) -> Option<Usd> {
    let paid = receipt.rejected.iter().filter(|rejected| rejected.served == Served::Upstream);
    paid.map(|rejected| prices.cost(&rejected.model, rejected.usage.as_ref()?, terms).usd).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::Rejected;

    fn receipt(served: Served) -> Receipt {
        Receipt {
            served,
            status: Some(200),
            asked: Some("gpt-5".into()),
            chosen: Some("gpt-5-mini".into()),
            answered: Some("gpt-5-mini-2025-08-07".into()),
            tokens_before: Some(3_000),
            tokens_after: Some(1_000),
            usage: Some(Usage::of(1_000, 100)),
            ..Receipt::default()
        }
    }

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    // gpt-5: 1.25 in, 10 out; gpt-5-mini: 0.25 in, 2 out (USD per million tokens, 2026-11-23).
    const MINI: &str = "0.00045";
    const BARE: &str = "0.00475"; // gpt-5, 3,000 in, 100 out

    #[test]
    fn billed_and_avoided_add_up_to_the_bare_call() {
        for served in [Served::Upstream, Served::Memory, Served::Flight] {
            let mut receipt = receipt(served);
            settle(&mut receipt, &PriceTable::builtin(), 0, 0);
            assert_eq!(receipt.state, CostState::Exact);
            assert_eq!(receipt.billed.unwrap() + receipt.avoided.total(), usd(BARE), "{served:?}");
            assert_eq!(receipt.avoided.trim, usd("0.0005"));
        }
    }

    #[test]
    fn a_hit_bills_nothing_and_avoids_what_its_filling_cost() {
        let mut receipt = receipt(Served::Memory);
        receipt.avoided.cache = usd("0.0003"); // filled with part of the prompt read from the provider's cache
        settle(&mut receipt, &PriceTable::builtin(), 0, 0);
        assert_eq!(receipt.billed, Some(Usd::ZERO));
        assert_eq!(receipt.avoided.cache, usd("0.0003"));
    }

    #[test]
    fn trimming_is_not_credited_with_the_providers_own_discount() {
        let mut warm = receipt(Served::Upstream);
        warm.usage = Some(Usage::of(1_000, 100).with_read(900));
        settle(&mut warm, &PriceTable::builtin(), 0, 0);
        // 2,000 tokens of gpt-5-mini at the cached rate of 0.025, not at 0.25.
        assert_eq!(warm.avoided.trim, usd("0.00005"));
    }

    #[test]
    fn an_escalated_call_is_billed_for_both_rungs() {
        let mut receipt = receipt(Served::Upstream);
        receipt.rejected.push(Rejected::new(
            "gpt-5-nano".into(),
            Served::Upstream,
            Some(Usage::of(1_000, 0)),
            "empty".into(),
        ));
        settle(&mut receipt, &PriceTable::builtin(), 0, 0);
        assert_eq!(receipt.billed, Some(usd(MINI) + usd("0.00005")));
        assert_eq!(receipt.billed.unwrap() + receipt.avoided.total(), usd(BARE));
    }

    #[test]
    fn what_is_not_known_is_never_zero() {
        let mut unknown = receipt(Served::Upstream);
        unknown.answered = Some("somebody's own model".into());
        unknown.chosen = unknown.answered.clone();
        settle(&mut unknown, &PriceTable::builtin(), 0, 0);
        assert_eq!((unknown.billed, unknown.state), (None, CostState::Missing));

        for (served, status) in [(Served::Nowhere, None), (Served::Upstream, Some(504))] {
            let mut lost = receipt(served);
            (lost.status, lost.usage) = (status, None);
            settle(&mut lost, &PriceTable::builtin(), 0, 0);
            assert_eq!((lost.billed, lost.state), (None, CostState::UsageUnknown), "{served:?} {status:?}");
        }
        let mut refused = receipt(Served::Nowhere);
        (refused.refused, refused.status, refused.usage) = (true, None, None);
        settle(&mut refused, &PriceTable::builtin(), 0, 0);
        assert_eq!((refused.billed, refused.state), (Some(Usd::ZERO), CostState::Exact));

        let mut cut = receipt(Served::Upstream);
        cut.usage = None;
        settle(&mut cut, &PriceTable::builtin(), 0, 400);
        assert_eq!((cut.billed, cut.state), (None, CostState::UsageUnknown));
        assert_eq!(cut.estimate, Some(usd(MINI)), "a stream that was left is estimated at what was seen");
    }
}
