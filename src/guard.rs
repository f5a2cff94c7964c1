//! Callers' own functions: what they throw ends here.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `callback` says, or `careful` if it panics: a paid answer is not lost to a slip in a caller's function.
/// `what` names the function in the log; what it was given and what it threw stay out of it.
pub(crate) fn guarded<T>(what: &'static str, careful: T, callback: impl FnOnce() -> T) -> T {
    // What a callback leaves half done is its own; of ours it holds only shared references.
    catch_unwind(AssertUnwindSafe(callback)).unwrap_or_else(|_| {
        tracing::warn!(
            what,
            "a function the caller gave panicked; going on as if it had said the careful thing"
        );
        careful
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_careful_answer_and_anything_else_passes() {
        assert_eq!(guarded("test", 1, || 2), 2);
        assert_eq!(guarded("test", 1, || panic!("on purpose")), 1);
    }
}
