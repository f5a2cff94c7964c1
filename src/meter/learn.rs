//! What is billed, told to the calibration.

use crate::call::Call;
use crate::dialect::Finish;
use crate::receipt::{Receipt, Served};
use crate::tokens::Counter;

/// Has the calibration of `counter` learn from a receipt that is about to be settled, if the provider answered the
/// call to its end and told the use. `call` is the call as it came; it is made only if nobody has counted what was sent.
pub(super) fn learn(receipt: &mut Receipt, counter: &Counter, call: impl FnOnce() -> Call) {
    let Some(calibration) = counter.calibration() else { return };
    // A client may leave as soon as it has seen the end marker, before the body has ended; the use is then told in full.
    let told = match receipt.finish {
        Finish::Whole | Finish::Truncated | Finish::Refused => true,
        Finish::Partial => false,
        _ => receipt.complete,
    };
    // An embeddings call whose inputs were in part known is billed for the others alone.
    let whole = receipt.served == Served::Upstream && told && receipt.inputs == 0;
    let Some(usage) = receipt.usage.filter(|usage| whole && usage.input.is_some()) else { return };
    // Whoever cut the call or chose another model sent another one than came.
    let as_it_came = receipt.tokens_before == receipt.tokens_after && receipt.asked == receipt.chosen;
    if receipt.expected.is_none() && as_it_came {
        let call = call();
        receipt.expected = counter.expected(&call, &counter.uncalibrated(&call));
    }
    if let Some(expected) = &receipt.expected {
        calibration.learn(expected, receipt.answered.as_deref(), &usage);
    }
}
