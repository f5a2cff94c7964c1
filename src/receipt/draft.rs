//! A receipt while it is being written.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use super::Receipt;
use crate::call::Call;
use crate::dialect::Outcome;
use crate::lock::lock;

/// The receipt of a call in progress, shared by the layers the call goes through. It travels in the call's
/// extensions; clones are the same draft.
#[derive(Clone, Default)]
pub struct Draft(Arc<Shared>);

#[derive(Default)]
struct Shared {
    receipt: Mutex<Receipt>,
    late: Mutex<Late>,
}

/// Who settles a receipt whose caller has left.
#[derive(Default)]
struct Late {
    /// Upstream calls that go on whether the caller waits or not.
    holds: usize,
    close: Option<Box<dyn FnOnce(Option<Outcome>) + Send>>,
}

impl Draft {
    /// A draft that starts with these facts.
    #[must_use]
    pub fn begin(receipt: Receipt) -> Self {
        Self(Arc::new(Shared { receipt: Mutex::new(receipt), late: Mutex::default() }))
    }

    /// The draft of `call`, if a meter opened one.
    #[must_use]
    pub fn of(call: &Call) -> Option<&Self> {
        call.parts.extensions.get::<Self>()
    }

    /// Writes something down.
    pub fn note<T>(&self, write: impl FnOnce(&mut Receipt) -> T) -> T {
        write(&mut lock(&self.0.receipt))
    }

    /// Says that the provider is being paid for this call by a task that goes on when the caller leaves. If the
    /// caller does, the receipt is settled when the hold is.
    pub fn hold(&self) -> Hold {
        lock(&self.0.late).holds += 1;
        Hold { draft: Some(self.clone()) }
    }

    /// Closes the receipt of a caller who has left: at once, or when what is still being paid for it has come. `close`
    /// gets what came.
    pub fn close_when_paid(&self, close: impl FnOnce(Option<Outcome>) + Send + 'static) {
        let mut late = lock(&self.0.late);
        if late.holds == 0 {
            drop(late);
            return close(None);
        }
        late.close = Some(Box::new(close));
    }

    /// What is written down by now.
    #[must_use]
    pub fn peek(&self) -> Receipt {
        self.note(|receipt| receipt.clone())
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Draft")
    }
}

/// An upstream call that is paid whether its caller waits or not. Dropped unsettled, it says that nothing is known.
#[must_use = "a hold that is dropped at once holds nothing"]
pub struct Hold {
    draft: Option<Draft>,
}

impl Hold {
    /// The call has ended with this.
    pub fn settle(mut self, outcome: Outcome) {
        self.release(Some(outcome));
    }

    fn release(&mut self, outcome: Option<Outcome>) {
        let Some(draft) = self.draft.take() else { return };
        let mut late = lock(&draft.0.late);
        late.holds = late.holds.saturating_sub(1);
        // The first end settles it; what comes later finds nothing to close.
        let close = late.close.take();
        drop(late);
        if let Some(close) = close {
            close(outcome);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release(None);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

/// Writes something down in the draft of `call`; nothing happens without one.
pub fn note(call: &Call, write: impl FnOnce(&mut Receipt)) {
    if let Some(draft) = Draft::of(call) {
        draft.note(write);
    }
}

/// The receipt among a reply's extensions. For a stream it is there once the body has ended.
#[derive(Clone, Default)]
pub struct ReceiptHandle(Arc<OnceLock<Receipt>>);

impl ReceiptHandle {
    /// The receipt, once the body has ended.
    #[must_use]
    pub fn get(&self) -> Option<&Receipt> {
        self.0.get()
    }

    /// Settles it; the first one stays.
    pub(crate) fn settle(&self, receipt: Receipt) -> &Receipt {
        self.0.get_or_init(|| receipt)
    }
}

impl fmt::Debug for ReceiptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReceiptHandle").field(&self.get()).finish()
    }
}
