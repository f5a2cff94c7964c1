//! A receipt while it is being written.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Receipt;
use crate::call::Call;

/// The receipt of a call in progress, shared by the layers the call goes through. It travels in the call's
/// extensions; clones are the same draft.
#[derive(Clone, Default)]
pub struct Draft(Arc<Mutex<Receipt>>);

impl Draft {
    /// A draft that starts with these facts.
    #[must_use]
    pub fn begin(receipt: Receipt) -> Self {
        Self(Arc::new(Mutex::new(receipt)))
    }

    /// The draft of `call`, if a meter opened one.
    #[must_use]
    pub fn of(call: &Call) -> Option<&Self> {
        call.parts.extensions.get::<Self>()
    }

    /// Writes something down.
    pub fn note<T>(&self, write: impl FnOnce(&mut Receipt) -> T) -> T {
        write(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
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
