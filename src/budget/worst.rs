//! The most that a call can cost.

use crate::call::Call;
use crate::dialect::{Part, Usage};
use crate::price::{PriceTable, Terms, Usd};
use crate::tokens::{self, Counter};
use crate::{Error, Kind};

/// The most that `call` can cost when it is sent at `at_ms` (milliseconds since 1970-01-01 UTC).
///
/// The prompt at its upper bound, once as fresh input and once each as written to the provider's cache for a short
/// and a long time, and the output cap (else the model's largest output) times the number of answers, once all
/// reasoning; in the service tier asked for and in the standard one. The dearest of these counts. Fees for searches
/// that the provider runs are not in it: their number has no bound. A call that refers to text kept at the provider, such
/// as `previous_response_id`, may fill a context window, and so it is priced.
///
/// # Errors
/// [`Kind::Unpriced`] when the call names no model, the table has no price for it, or neither the call nor the table
/// bounds its output.
pub fn worst_case(call: &Call, prices: &PriceTable, at_ms: i64) -> Result<Usd, Error> {
    worst_of(call, || tokens::count(call).at_most, prices, at_ms)
}

/// [`worst_case`], with the prompt counted by a counter that remembers, knows names, or learns.
///
/// # Errors
/// As [`worst_case`].
pub fn worst_case_with(
    call: &Call,
    counter: &Counter,
    prices: &PriceTable,
    at_ms: i64,
) -> Result<Usd, Error> {
    worst_of(call, || counter.count(call).at_most, prices, at_ms)
}

/// The most that `call` can cost with so many prompt tokens, which are counted only if they matter.
pub(super) fn worst_of(
    call: &Call,
    input: impl FnOnce() -> u64,
    prices: &PriceTable,
    at_ms: i64,
) -> Result<Usd, Error> {
    let Some(model) = call.model() else {
        return Err(unpriced("the call names no model, so its price is not known"));
    };
    let format = call.format();
    let Some(cap) = format.cap(call).or_else(|| prices.max_output(&model)) else {
        let problem = format!("the call has no output cap, and the largest output of `{model}` is not known");
        return Err(Error::new(Kind::Unpriced, problem, "set an output cap, or use a soft budget"));
    };
    let output = cap.saturating_mul(format.choices(call));
    let input = input();
    let asked =
        ["service_tier", "speed"].into_iter().filter_map(|name| call.doc.str(name)).flat_map(|tier| {
            // OpenAI serves `fast` as `priority`, and `auto` as what the project is set to.
            let served = matches!(tier.as_ref(), "fast" | "auto").then(|| "priority".to_owned());
            [Some(tier.into_owned()), served].into_iter().flatten()
        });
    let plain = Terms::at(at_ms);
    let terms: Vec<Terms> =
        asked.map(|tier| plain.clone().with_service_tier(Some(tier))).chain([plain.clone()]).collect();
    let shapes = shapes(call, input, output);
    let costs = terms
        .iter()
        .flat_map(|terms| shapes.iter().filter_map(|usage| prices.cost(&model, usage, terms).usd));
    costs.max().ok_or_else(|| unpriced(format!("the price of `{model}` is not known")))
}

/// The ways in which these tokens can be billed.
fn shapes(call: &Call, input: u64, output: u64) -> Vec<Usage> {
    let plain = Usage::of(input, output);
    let thought = Usage { reasoning: Some(output), ..plain };
    let mut shapes = Vec::new();
    for usage in [plain, thought] {
        shapes.push(usage);
        shapes.push(Usage { write_short: Some(input), ..usage });
        shapes.push(Usage { write_long: Some(input), ..usage });
    }
    let prompt = call.format().prompt(call);
    let mut parts = prompt.messages.iter().flat_map(|message| &message.parts);
    let sound = call.doc.some("audio").is_some();
    if sound
        || parts.any(|part| {
            matches!(part, Part::Audio(_) | Part::Image(_) | Part::File(_) | Part::ToolResult { .. })
        })
        || tokens::refers_elsewhere(call)
    {
        let out = sound.then_some(output);
        shapes.push(Usage { input_audio: Some(input), output_audio: out, ..plain });
        shapes.push(Usage { input_image: Some(input), output_audio: out, ..plain });
    }
    shapes
}

#[cold]
fn unpriced(problem: impl Into<String>) -> Error {
    Error::new(Kind::Unpriced, problem, "add it to the price table, or use a soft budget")
}
