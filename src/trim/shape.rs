//! Which messages stand or fall together, and which may not fall.

use std::collections::HashMap;

use crate::dialect::{Message, Part, Role};

/// A conversation as trimming sees it. Messages in neither part are fixed: they always stay.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The turns ahead of the last one, oldest first: what each may lose.
    pub(super) ahead: Vec<Vec<usize>>,
    /// The units of the last turn behind its opening message, oldest first.
    pub(super) units: Vec<Unit>,
}

/// Messages that stand or fall together: the calls of one message and all their results, or one message alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Their places in the conversation.
    pub(super) messages: Vec<usize>,
    /// True if it holds tool results.
    pub(super) tool: bool,
    /// True if it stays whatever happens; its results may still be cleared.
    pub(super) fixed: bool,
}

impl Shape {
    pub(super) fn of(messages: &[Message<'_>]) -> Self {
        let turns = turns(messages);
        let last = turns.last().copied().unwrap_or(0);
        let pairs = Pairs::of(messages);
        let kept = fixed(messages, &turns, &pairs);

        let mut ahead = vec![Vec::new(); last];
        let mut units: Vec<Unit> = Vec::new();
        let mut unit_of: HashMap<usize, usize> = HashMap::new();
        for (i, message) in messages.iter().enumerate() {
            if kept[i] {
                continue;
            }
            if turns[i] < last {
                ahead[turns[i]].push(i);
                continue;
            }
            let tool = message.results().next().is_some();
            let nth = *unit_of.entry(pairs.group[i]).or_insert(units.len());
            if nth == units.len() {
                units.push(Unit { messages: Vec::new(), tool: false, fixed: false });
            }
            units[nth].messages.push(i);
            units[nth].tool |= tool;
        }
        // The newest exchange, and the last words of the user, even if they came along with a tool's result.
        let newest = units.iter().flat_map(|unit| &unit.messages).max().copied();
        let words = messages.iter().rposition(has_words);
        for unit in &mut units {
            unit.fixed = [newest, words].into_iter().flatten().any(|i| unit.messages.contains(&i));
        }
        Self { ahead, units }
    }
}

/// The turn of each message. A turn starts at a user message without tool results; what stands before the first
/// such message is a turn of its own.
fn turns(messages: &[Message<'_>]) -> Vec<usize> {
    let mut turn = 0;
    let mut seen = false;
    messages
        .iter()
        .map(|message| {
            if opens_turn(message) {
                turn += usize::from(seen);
                seen = true;
            } else if !always_stays(message.role) {
                seen = true;
            }
            turn
        })
        .collect()
}

fn opens_turn(message: &Message<'_>) -> bool {
    message.role == Role::User && message.results().next().is_none()
}

fn always_stays(role: Role) -> bool {
    matches!(role, Role::System | Role::Developer | Role::Other)
}

fn has_words(message: &Message<'_>) -> bool {
    message.role == Role::User && message.parts.iter().any(|part| !matches!(part, Part::ToolResult { .. }))
}

/// Tool calls and their results.
struct Pairs {
    /// The first message of the group each message belongs to.
    group: Vec<usize>,
    /// True if some pairing within the message is not one call and one result.
    broken: Vec<bool>,
}

impl Pairs {
    fn of<'m>(messages: &'m [Message<'_>]) -> Self {
        let mut group: Vec<usize> = (0..messages.len()).collect();
        let mut broken = vec![false; messages.len()];
        // Servers reuse ids from turn to turn, so a result answers the nearest call ahead of it.
        let mut open: HashMap<&'m str, usize> = HashMap::new();
        let mut answers: HashMap<(usize, &'m str), u32> = HashMap::new();
        for (i, message) in messages.iter().enumerate() {
            for id in message.results() {
                match open.get(id) {
                    Some(&caller) => {
                        join(&mut group, caller, i);
                        *answers.entry((caller, id)).or_default() += 1;
                    }
                    None => broken[i] = true,
                }
            }
            for id in message.calls() {
                broken[i] |= answers.insert((i, id), 0).is_some();
                open.insert(id, i);
            }
        }
        for ((caller, _), answered) in answers {
            broken[caller] |= answered != 1;
        }
        for i in 0..group.len() {
            group[i] = first(&group, i);
        }
        Self { group, broken }
    }
}

fn first(group: &[usize], mut i: usize) -> usize {
    while group[i] != i {
        i = group[i];
    }
    i
}

fn join(group: &mut [usize], a: usize, b: usize) {
    let (a, b) = (first(group, a), first(group, b));
    group[a.max(b)] = a.min(b);
}

/// Which messages always stay. Around a call or a result that has no partner nothing is touched: the whole group
/// stays, and ahead of the last turn the whole turn with it, so that it still starts with its user message.
fn fixed(messages: &[Message<'_>], turns: &[usize], pairs: &Pairs) -> Vec<bool> {
    let last = turns.last().copied().unwrap_or(0);
    let mut spans: HashMap<usize, (usize, usize, bool)> = HashMap::new();
    for (i, &group) in pairs.group.iter().enumerate() {
        let (from, to, broken) = spans.entry(group).or_insert((turns[i], turns[i], false));
        *from = turns[i].min(*from);
        *to = turns[i].max(*to);
        // A message that always stays cannot be half of a unit that falls.
        *broken |= pairs.broken[i];
        *broken |= always_stays(messages[i].role) && group != i;
        *broken |= from != to;
    }
    let mut stays: Vec<bool> = messages.iter().map(|message| always_stays(message.role)).collect();
    let mut whole_turn = vec![false; last + 1];
    for (i, group) in pairs.group.iter().enumerate() {
        let (.., broken) = spans[group];
        let caller_stays = always_stays(messages[*group].role) && *group != i;
        if broken || caller_stays {
            stays[i] = true;
            if turns[i] < last {
                whole_turn[turns[i]] = true;
            }
        }
    }
    let opening = messages.iter().rposition(opens_turn);
    for i in 0..messages.len() {
        stays[i] |= whole_turn[turns[i]] || Some(i) == opening;
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;

    fn shape(messages: &str) -> Shape {
        let body = format!(r#"{{"model":"gpt-4o","messages":[{messages}]}}"#);
        let call = Call::post("https://api.openai.com/v1/chat/completions", body);
        Shape::of(&call.format().prompt(&call).messages)
    }

    fn chat(letters: &str) -> String {
        let one = |message: &str| match message.split_at(1) {
            ("s", _) => r#"{"role":"system","content":"rules"}"#.to_owned(),
            ("d", _) => r#"{"role":"developer","content":"rules"}"#.to_owned(),
            ("u", _) => r#"{"role":"user","content":"hm?"}"#.to_owned(),
            ("x", _) => r#"{"role":"narrator","content":"night"}"#.to_owned(),
            ("a", "") => r#"{"role":"assistant","content":"so"}"#.to_owned(),
            ("a", ids) => {
                let call = |id| {
                    format!(
                        r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#
                    )
                };
                let calls: Vec<_> = ids.chars().map(call).collect();
                format!(r#"{{"role":"assistant","content":null,"tool_calls":[{}]}}"#, calls.join(","))
            }
            ("t", id) => format!(r#"{{"role":"tool","tool_call_id":"{id}","content":"ok"}}"#),
            ("f", _) => r#"{"role":"function","name":"f","content":"ok"}"#.to_owned(),
            ("c", _) => {
                r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}"#
                    .to_owned()
            }
            _ => unreachable!("no such letter"),
        };
        letters.split(' ').map(one).collect::<Vec<_>>().join(",")
    }

    fn ahead(letters: &str) -> Vec<Vec<usize>> {
        shape(&chat(letters)).ahead
    }

    fn units(letters: &str) -> Vec<Vec<usize>> {
        shape(&chat(letters)).units.into_iter().map(|unit| unit.messages).collect()
    }

    #[test]
    fn a_turn_runs_from_one_user_message_to_the_next() {
        assert_eq!(ahead("s u a u a1 t1 a u"), [vec![1, 2], vec![3, 4, 5, 6]]);
        assert_eq!(ahead("u a d u a u"), [vec![0, 1], vec![3, 4]], "rules in the middle stay");
        assert_eq!(
            ahead("s a u a u"),
            [vec![1], vec![2, 3]],
            "a greeting ahead of the first user message is a turn"
        );
        assert_eq!(ahead("x u a u"), [vec![1, 2]], "a role we do not know stays");
    }

    #[test]
    fn a_call_and_all_its_results_are_one_unit() {
        assert_eq!(units("u a12 t2 t1 a3 t3 a"), [vec![1, 2, 3], vec![4, 5], vec![6]]);
        assert_eq!(units("u a1 t1 a1 t1"), [vec![1, 2], vec![3, 4]], "ids may be used again");
        assert_eq!(units("u c f c f"), [vec![1, 2], vec![3, 4]], "the old functions pair by their place");
    }

    #[test]
    fn around_a_broken_pair_nothing_is_touched() {
        assert_eq!(units("u a1 a2 t2"), [vec![2, 3]], "a call never answered stays");
        assert_eq!(units("u t9 a2 t2"), [vec![2, 3]], "a result without its call stays");
        assert_eq!(units("u a1 t1 t1 a2 t2"), [vec![4, 5]], "a call answered twice stays with both");
        assert_eq!(units("u a11 t1 a2 t2"), [vec![3, 4]], "an id called twice stays");
        assert_eq!(
            ahead("u a1 a u a u"),
            [vec![], vec![3, 4]],
            "ahead of the last turn the whole turn stays"
        );
        assert_eq!(ahead("u a1 u t1 u a u"), [vec![], vec![], vec![4, 5]], "a pair across turns holds both");
    }

    #[test]
    fn the_newest_exchange_is_fixed() {
        let fixed =
            |letters| shape(&chat(letters)).units.into_iter().map(|unit| unit.fixed).collect::<Vec<_>>();
        assert_eq!(fixed("u a1 t1 a2 t2"), [false, true]);
        assert_eq!(fixed("u a12 t1 t2"), [true]);
        assert_eq!(shape(""), Shape::default());
    }
}
