//! Which model a call is sent to, and which ones come after it.

use std::fmt;
use std::sync::Arc;

use super::condition::{Condition, Id, Subject, field};
use super::switch_breaks_by;
use crate::Error;
use crate::call::Call;
use crate::dialect::{Finish, Outcome};
use crate::guard::guarded;
use crate::price::PriceTable;

type Check = Arc<dyn Fn(&Outcome, &[u8]) -> bool + Send + Sync>;

/// When a [`Condition`] holds, a model.
#[derive(Clone, Debug)]
pub struct Rule {
    when: Condition,
    then: Arc<str>,
}

/// The first half of a [`Rule`].
#[derive(Clone, Debug)]
pub struct When(Condition);

impl Rule {
    /// Begins a rule: a condition, or any `|call: &Call| -> bool`.
    #[must_use]
    pub fn when(condition: impl Into<Condition>) -> When {
        When(condition.into())
    }
}

impl When {
    /// The model that calls are sent to when the condition holds.
    #[must_use]
    pub fn then(self, model: &str) -> Rule {
        Rule { when: self.0, then: model.into() }
    }
}

/// A sign that an answer does not do the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sign {
    /// Neither text nor a tool call.
    Empty,
    /// Cut by the output cap or the context window, or without its end.
    Truncated,
    /// The model or a filter refused.
    Refused,
    /// A tool call whose arguments are not JSON.
    BrokenToolCall,
    /// The caller's own check said no.
    Unaccepted,
}

impl Sign {
    /// As it stands in receipts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::Refused => "refused",
            Self::BrokenToolCall => "broken tool call",
            Self::Unaccepted => "not accepted",
        }
    }
}

/// Which model a call is sent to, and which ones come after it. Cheap to clone.
///
/// See the [module docs](crate::tier).
#[derive(Clone, Debug, Default)]
pub struct TierPolicy(Arc<Settings>);

#[derive(Clone, Default)]
struct Settings {
    rules: Vec<Rule>,
    ladder: Vec<Arc<str>>,
    fallback: Vec<Arc<str>>,
    ignored: Vec<Sign>,
    accept: Option<(Id, Check)>,
    prices: Option<Arc<PriceTable>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("rules", &self.rules)
            .field("ladder", &self.ladder)
            .field("fallback", &self.fallback)
            .field("ignored", &self.ignored)
            .field("accept", &self.accept.is_some())
            .finish_non_exhaustive()
    }
}

/// Collects the settings of a [`TierPolicy`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TierPolicyBuilder(Settings);

impl TierPolicyBuilder {
    /// Adds a rule behind those before it; the first that holds decides.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.0.rules.push(rule);
        self
    }

    /// The ladder, from the smallest model up. An answer that shows a [`Sign`] is asked for again one rung higher.
    ///
    /// The ladder lowers nothing by itself: a call starts at the model its rule names, or the one it asks for. When
    /// a rule switched away from a model that is not on the ladder, that model is the last rung.
    pub fn escalate<I: IntoIterator<Item: AsRef<str>>>(mut self, ladder: I) -> Self {
        self.0.ladder = ladder.into_iter().map(|model| model.as_ref().into()).collect();
        self
    }

    /// Models to try in this order when the chosen one is down: no connection, or status 408, 429, 500, 502, 503,
    /// 504 or 529.
    pub fn fallback<I: IntoIterator<Item: AsRef<str>>>(mut self, models: I) -> Self {
        self.0.fallback = models.into_iter().map(|model| model.as_ref().into()).collect();
        self
    }

    /// The caller's own check of a whole answer (what it says of itself, and its bytes): false asks one rung higher.
    pub fn accept(mut self, check: impl Fn(&Outcome, &[u8]) -> bool + Send + Sync + 'static) -> Self {
        self.0.accept = Some((Id::unnamed(), Arc::new(check)));
        self
    }

    /// [`accept`](Self::accept) with a name, which stands for the check in the
    /// [fingerprint](TierPolicy::fingerprint). The policy is not pure for all that.
    pub fn accept_named(
        mut self,
        name: &str,
        check: impl Fn(&Outcome, &[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.0.accept = Some((Id::Named(name.into()), Arc::new(check)));
        self
    }

    /// Takes this sign for no reason to escalate. Callers who send tiny caps on purpose (one token as a verdict)
    /// ignore [`Sign::Truncated`]: every rung would be cut alike.
    pub fn ignore(mut self, sign: Sign) -> Self {
        self.0.ignored.push(sign);
        self
    }

    /// The table whose token limits the targets are held against; the built-in one if not set.
    pub fn prices(mut self, prices: Arc<PriceTable>) -> Self {
        self.0.prices = Some(prices);
        self
    }

    /// The policy.
    ///
    /// # Errors
    /// [`Kind::BadSetting`](crate::Kind::BadSetting) when a model has no name, the ladder or the fallback list names
    /// one twice, or a check is given without a ladder.
    pub fn build(self) -> Result<TierPolicy, Error> {
        let Settings { rules, ladder, fallback, accept, .. } = &self.0;
        let names = rules.iter().map(|rule| &rule.then).chain(ladder).chain(fallback);
        if names.into_iter().any(|name| name.trim().is_empty()) {
            return Err(Error::bad_setting("a tier policy names a model ``", "give every model its name"));
        }
        for (list, what) in [(ladder, "escalation ladder"), (fallback, "fallback list")] {
            if let Some(twice) = (1..list.len()).find(|i| list[..*i].contains(&list[*i])) {
                let problem = format!("the {what} names {} twice", list[twice]);
                return Err(Error::bad_setting(problem, "name each model once, the smallest first"));
            }
        }
        if accept.is_some() && ladder.is_empty() {
            let problem = "a check of answers has no effect without an escalation ladder";
            return Err(Error::bad_setting(
                problem,
                "give `escalate` the models to climb, or drop the check",
            ));
        }
        Ok(TierPolicy(Arc::new(self.0)))
    }
}

/// Where a call goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice {
    /// Model the caller asked for.
    pub asked: String,
    /// Model to send it to.
    pub model: String,
    /// Why, if a rule had a say: `gpt-5-nano by rule 1`, or `kept gpt-5: gpt-4.1-nano takes no reasoning_effort`.
    pub note: Option<String>,
    /// Models to climb to when the answer does not do the job, in order.
    pub rungs: Vec<String>,
}

impl TierPolicy {
    /// Begins a policy without rules: every call goes to the model it asks for.
    pub fn builder() -> TierPolicyBuilder {
        TierPolicyBuilder::default()
    }

    /// Where `call` goes first; `None` when it names no model.
    #[must_use]
    pub fn choose(&self, call: &Call) -> Option<Choice> {
        let asked = call.model()?;
        let subject = Subject::of(call);
        let (mut model, mut note) = (asked.clone(), None);
        let hit = self.0.rules.iter().enumerate().find(|(_, rule)| rule.when.check(&subject));
        if let Some((i, rule)) = hit.filter(|(_, rule)| *rule.then != *asked) {
            match self.breaks(call, &asked, &rule.then) {
                None => {
                    model = rule.then.to_string();
                    note = Some(format!("{model} by rule {}", i + 1));
                }
                Some(why) => note = Some(format!("kept {asked}: {why}")),
            }
        }
        let ladder = &self.0.ladder;
        let at = ladder.iter().position(|rung| **rung == *model);
        let above = at.map_or(&[][..], |at| &ladder[at + 1..]);
        let mut rungs: Vec<String> = above.iter().map(ToString::to_string).collect();
        if !ladder.is_empty() && model != asked && !ladder.iter().any(|rung| **rung == *asked) {
            rungs.push(asked.clone());
        }
        Some(Choice { asked, model, note, rungs })
    }

    /// Why `call` may not be sent to `to`; see [`switch_breaks`](super::switch_breaks).
    pub(super) fn breaks(&self, call: &Call, from: &str, to: &str) -> Option<String> {
        match &self.0.prices {
            Some(prices) => switch_breaks_by(call, from, to, prices),
            None => super::switch_breaks(call, from, to),
        }
    }

    /// Every model that this policy may send a call to in place of the one asked for.
    pub(crate) fn models(&self) -> impl Iterator<Item = &str> {
        let Settings { rules, ladder, fallback, .. } = &*self.0;
        rules.iter().map(|rule| &rule.then).chain(ladder).chain(fallback).map(|model| &**model)
    }

    pub(super) fn fallback(&self) -> &[Arc<str>] {
        &self.0.fallback
    }

    /// The sign by which this answer does not do the job, if any.
    #[must_use]
    pub fn judge(&self, outcome: &Outcome, body: &[u8]) -> Option<Sign> {
        let signs = [
            (Sign::Refused, outcome.finish == Finish::Refused),
            (Sign::Truncated, matches!(outcome.finish, Finish::Truncated | Finish::Partial)),
            (Sign::Empty, outcome.empty),
            (Sign::BrokenToolCall, outcome.broken_tool_call),
        ];
        let seen = signs.into_iter().find(|(sign, seen)| *seen && !self.0.ignored.contains(sign));
        seen.map(|(sign, _)| sign).or_else(|| {
            let (_, check) = self.0.accept.as_ref()?;
            // A check that panics has no opinion: the answer stands.
            let accepted = guarded("check of an answer", true, || check(outcome, body));
            (!accepted && !self.0.ignored.contains(&Sign::Unaccepted)).then_some(Sign::Unaccepted)
        })
    }

    /// Fingerprint of all that decides: two policies with the same one treat every call alike. An unnamed closure
    /// is like no other of this process; fingerprints of impure policies mean nothing outside it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let Settings { rules, ladder, fallback, ignored, accept, prices } = &*self.0;
        let mut hasher = blake3::Hasher::new_derive_key("thrifty 2026-11 tier policy fingerprint");
        field(&mut hasher, b'v', env!("CARGO_PKG_VERSION").as_bytes());
        field(&mut hasher, b'r', &(rules.len() as u64).to_le_bytes());
        for rule in rules {
            rule.when.hash(&mut hasher);
            field(&mut hasher, b'>', rule.then.as_bytes());
        }
        for list in [ladder, fallback] {
            field(&mut hasher, b'l', &(list.len() as u64).to_le_bytes());
            list.iter().for_each(|model| field(&mut hasher, b'm', model.as_bytes()));
        }
        for sign in ignored {
            field(&mut hasher, b'i', sign.name().as_bytes());
        }
        if let Some((id, _)) = accept {
            id.hash(&mut hasher);
        }
        let table = prices.as_ref().map_or_else(|| PriceTable::builtin().id(), |prices| prices.id());
        field(&mut hasher, b'p', table.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// True if a call of the same bytes with the same [`Options`](crate::call::Options) always gets the same choice
    /// and the same answer the same verdict: no closure, with a name or without. A
    /// [`Stack`](crate::stack::Stack) takes its shortcut for exact repeats only with a pure policy.
    #[must_use]
    pub fn is_pure(&self) -> bool {
        self.0.rules.iter().all(|rule| rule.when.is_pure()) && self.0.accept.is_none()
    }
}
