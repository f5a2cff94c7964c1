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

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 40_000;
    const SYSTEM: u64 = 4_000;
    const TURN: u64 = 1_500;

    fn unit(messages: Vec<usize>, fixed: bool) -> Unit {
        Unit { messages, tool: true, fixed }
    }

    fn decided(shape: &Shape, total: u64, costs: &[u64], cleared: u64, limits: Limits) -> Decision {
        let cell = OnceCell::new();
        let clear = || costs.iter().map(|cost| cleared.min(*cost)).collect();
        decide(shape, &Costs { total, messages: costs, cleared: &cell, clear: &clear }, limits)
    }

    /// How many turns are dropped at each of 300 calls of a conversation that grows by one turn a call.
    fn cuts(step: u64) -> Vec<usize> {
        (1..=300)
            .map(|turns: usize| {
                let shape = Shape { ahead: (0..turns - 1).map(|i| vec![i]).collect(), units: Vec::new() };
                let limits = Limits { budget: BUDGET, step, clear: true, keep_results: 3 };
                let total = SYSTEM + TURN * turns as u64;
                let decision = decided(&shape, total, &vec![TURN; turns], 0, limits);
                let left = total - TURN * decision.drop.len() as u64;
                assert!(left <= BUDGET, "{left} tokens are left of {total}");
                decision.drop.len()
            })
            .collect()
    }

    /// How often the front moved, and what the prompts cost in tokens at a write rate of 1.25 and a read rate of 0.1,
    /// in hundredths, a call.
    fn simulated(cuts: &[usize]) -> (usize, u64) {
        let (mut moves, mut cost, mut cut_before, mut kept_before) = (0, 0, 0, 0);
        for (i, &cut) in cuts.iter().enumerate() {
            let kept = SYSTEM + TURN * (i + 1 - cut) as u64;
            let read = if cut == cut_before { kept_before } else { SYSTEM };
            moves += usize::from(cut != cut_before);
            cost += read * 10 + (kept - read) * 125;
            (cut_before, kept_before) = (cut, kept);
        }
        (moves, cost / cuts.len() as u64)
    }

    #[test]
    fn prefix_holds_between_cuts() {
        // 276 turns do not fit. With a step of 12,000 and 1,500 a turn the front holds for 8 turns.
        let (moves, cost) = simulated(&cuts(BUDGET * 3 / 10));
        assert_eq!(moves, 35, "one cut for each 8 turns");
        let (sliding_moves, sliding_cost) = simulated(&cuts(1));
        assert_eq!(sliding_moves, 276, "cutting just enough moves the front at every turn");
        assert!(sliding_cost > 4 * cost, "sliding costs {sliding_cost}, the grid {cost} hundredths a call");
    }

    #[test]
    fn grid_beats_plain_low_water_mark() {
        // Cutting to 0.7 of the budget without a grid and without memory moves with every turn.
        let mark = |turns: u64| (SYSTEM + TURN * turns).saturating_sub(BUDGET * 7 / 10).div_ceil(TURN);
        let marked: Vec<usize> = (1..=300)
            .map(|turns| if SYSTEM + TURN * turns > BUDGET { mark(turns) as usize } else { 0 })
            .collect();
        let (grid, mark) = (simulated(&cuts(BUDGET * 3 / 10)), simulated(&marked));
        assert!(grid.0 < mark.0 / 5 && grid.1 < mark.1, "moves and cost: grid {grid:?}, mark {mark:?}");
    }

    #[test]
    fn a_cut_never_moves_back_while_the_history_grows() {
        for step in [1, 700, 4_000, 12_000, 20_000, 40_000] {
            assert!(cuts(step).is_sorted(), "step {step}: a dropped turn came back");
        }
    }

    #[test]
    fn an_agent_loop_loses_old_results_first_and_old_calls_last() {
        // One turn: message 0 asks, units of a call (10 tokens) and a result (500) follow.
        let costs: Vec<u64> = (0..21).map(|i| if i == 0 { 20 } else { [500, 10][i % 2] }).collect();
        let units: Vec<Unit> = (0..10).map(|n| unit(vec![2 * n + 1, 2 * n + 2], n == 9)).collect();
        let shape = Shape { ahead: Vec::new(), units };
        let total = costs.iter().sum();
        let limits = |budget| Limits { budget, step: 1, clear: true, keep_results: 3 };
        let at = |budget| decided(&shape, total, &costs, 30, limits(budget));
        assert_eq!(at(total), Decision::default(), "what fits is untouched");
        assert_eq!(at(total - 1).clear, [2], "the oldest result goes first");
        let all = at(20 + 10 * 10 + 3 * 500 + 7 * 30);
        assert_eq!((all.clear.len(), all.drop.len()), (7, 0), "the newest 3 keep their results");
        let more = at(20 + 9 * 10 + 3 * 500 + 6 * 30);
        assert_eq!(
            (more.drop, more.clear.len()),
            (vec![1, 2], 6),
            "then the oldest call goes, cleared result and all"
        );
        let least = at(20 + 510);
        assert!(least.exhausted && least.clear.is_empty(), "the newest exchange stays whole");
        assert_eq!(least.drop, (1..19).collect::<Vec<_>>());
        assert!(at(0).exhausted);
    }

    #[test]
    fn keep_zero_keeps_none() {
        let costs = [20, 10, 500];
        let shape = Shape { ahead: Vec::new(), units: vec![unit(vec![1, 2], true)] };
        let limits = |keep_results| Limits { budget: 100, step: 1, clear: true, keep_results };
        assert_eq!(decided(&shape, 530, &costs, 30, limits(0)).clear, [2], "0 means none, not all");
        assert!(decided(&shape, 530, &costs, 30, limits(1)).exhausted);
    }

    #[test]
    fn a_result_shorter_than_the_constant_is_not_cleared() {
        let costs = [20, 10, 5, 10, 900];
        let units = vec![unit(vec![1, 2], false), unit(vec![3, 4], true)];
        let limits = Limits { budget: 900, step: 1, clear: true, keep_results: 0 };
        let decision = decided(&Shape { ahead: Vec::new(), units }, 945, &costs, 30, limits);
        assert_eq!(
            (decision.clear, decision.drop),
            (vec![4], vec![]),
            "clearing never makes a prompt longer"
        );
    }
}
