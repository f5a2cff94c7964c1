//! Which questions a batch asks.

use std::collections::HashMap;

use super::super::key::CacheKey;
use super::super::layer::Core;
use crate::call::{Call, Options};
use crate::dialect::embeddings::batch;

/// The questions of a batch, each once.
#[derive(Debug)]
pub(in crate::cache) struct Plan {
    /// The key of each question, in the order of its first place.
    pub(super) keys: Vec<CacheKey>,
    /// Where each question stands first in the call.
    pub(super) first: Vec<usize>,
    /// The question at each place of the call.
    pub(super) order: Vec<usize>,
}

/// The plan of a call whose inputs can be answered apart from each other; `None` for any other call.
pub(in crate::cache) fn plan(core: &Core, call: &Call) -> Option<Plan> {
    let inputs = batch::split(call)?;
    let scope = core.scope_of(Options::among(&call.parts.extensions));
    let asked = inputs.each(|single| core.keyer.key(single, scope, &core.vary).ok())?;
    let mut plan = Plan { keys: Vec::with_capacity(asked.len()), first: Vec::new(), order: Vec::new() };
    let mut seen = HashMap::with_capacity(asked.len());
    for (at, key) in asked.into_iter().enumerate() {
        let question = *seen.entry(key).or_insert_with(|| {
            plan.keys.push(key);
            plan.first.push(at);
            plan.keys.len() - 1
        });
        plan.order.push(question);
    }
    Some(plan)
}

impl Plan {
    /// The keys of all questions.
    pub(in crate::cache) fn keys(&self) -> &[CacheKey] {
        &self.keys
    }

    /// The call with only these questions; `None` if that is the call as it came.
    pub(super) fn narrow(&self, call: &Call, questions: &[usize]) -> Option<Call> {
        let places: Vec<usize> = questions.iter().map(|question| self.first[*question]).collect();
        batch::split(call)?.narrow(&places)
    }
}
