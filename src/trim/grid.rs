//! What to drop, from token counts alone.

use std::cell::OnceCell;
use std::collections::HashSet;

use super::shape::{Shape, Unit};

/// What goes, and whether more could.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// Messages to drop, in order.
    pub(super) drop: Vec<usize>,
    /// Messages whose tool results are to be cleared, in order; none of them is dropped.
    pub(super) clear: Vec<usize>,
    /// True if nothing more can be dropped or cleared.
    pub(super) exhausted: bool,
}

/// Likely tokens of a request and of its messages.
#[derive(Clone, Copy)]
pub(super) struct Costs<'a> {
    /// Of the whole request.
    pub(super) total: u64,
    /// Of each message.
    pub(super) messages: &'a [u64],
    /// Of each message once its tool results are cleared; as long as `messages`. Made only when needed.
    pub(super) cleared: &'a OnceCell<Vec<u64>>,
    /// Makes `cleared`.
    pub(super) clear: &'a dyn Fn() -> Vec<u64>,
}

/// The limits a decision is held to, in likely tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Tokens allowed.
    pub(super) budget: u64,
    /// Least depth of a cut; at least 1.
    pub(super) step: u64,
    /// Whether tool results may be cleared.
    pub(super) clear: bool,
    /// Newest exchanges with tools that keep their results.
    pub(super) keep_results: usize,
}

/// The next line of the grid at or above `excess`.
///
/// The line stays where it is while the history grows, until the excess passes it. Whoever cuts at the first place
/// behind the line cuts at the same place until then, and remembers nothing.
fn line(excess: u64, step: u64) -> u64 {
    excess.div_ceil(step).saturating_mul(step)
}

/// What to drop so that the request fits, each means only if those before it do not suffice: turns from the front,
/// old tool results of the last turn, old units of the last turn.
pub(super) fn decide(shape: &Shape, costs: &Costs<'_>, limits: Limits) -> Decision {
    let mut decision = Decision::default();
    cut(shape, costs, limits, &mut decision);
    decision.drop.sort_unstable();
    decision.clear.retain(|i| decision.drop.binary_search(i).is_err());
    decision.clear.sort_unstable();
    decision
}

fn cut(shape: &Shape, costs: &Costs<'_>, limits: Limits, decision: &mut Decision) {
    let excess = costs.total.saturating_sub(limits.budget);
    if excess == 0 {
        return;
    }
    let wanted = line(excess, limits.step);

    let mut saved = 0;
    for turn in &shape.ahead {
        if saved >= wanted {
            return;
        }
        saved += sum(turn, costs.messages);
        decision.drop.extend(turn);
    }
    if saved >= excess {
        return;
    }

    if limits.clear {
        let tools: Vec<&Unit> = shape.units.iter().filter(|unit| unit.tool).collect();
        let old = tools.len().saturating_sub(limits.keep_results);
        for unit in &tools[..old] {
            if saved >= wanted {
                return;
            }
            for &i in &unit.messages {
                let gain = costs.messages[i].saturating_sub(costs.cleared(i));
                if gain > 0 {
                    saved += gain;
                    decision.clear.push(i);
                }
            }
        }
        if saved >= excess {
            return;
        }
    }

    // From here on the old results are all cleared, so the rest is cut as a conversation of its own, on a grid of
    // its own: its excess grows slowly, and so the cut still moves rarely.
    let excess = excess - saved;
    let wanted = line(excess, limits.step);
    let falls: Vec<&Unit> = shape.units.iter().filter(|unit| !unit.fixed).collect();
    let fixed = shape.units.len() - falls.len();
    let young = limits.keep_results.saturating_sub(fixed).min(falls.len());
    let cleared: HashSet<usize> = decision.clear.iter().copied().collect();
    let mut freed = 0;
    for (nth, unit) in falls.iter().enumerate() {
        let enough = if nth < falls.len() - young { wanted } else { excess };
        if freed >= enough {
            return;
        }
        for &i in &unit.messages {
            freed += if cleared.contains(&i) { costs.cleared(i) } else { costs.messages[i] };
            decision.drop.push(i);
        }
    }
    decision.exhausted = true;
}

fn sum(places: &[usize], costs: &[u64]) -> u64 {
    places.iter().map(|&i| costs[i]).sum()
}

impl Costs<'_> {
    fn cleared(&self, i: usize) -> u64 {
        self.cleared.get_or_init(self.clear).get(i).copied().unwrap_or(u64::MAX)
    }
}
