//! What flights may hold, and how long they may take.

use std::time::Duration;

/// What becomes of an upstream call when its last caller has left.
///
/// Providers bill the prompt as soon as they have it, and what they write until they are told to stop. A reply that is
/// no stream is written to its end whether anybody listens or not, so by default it is waited for and stored: it is
/// paid for. A stream ends at the provider when the connection does, so by default it goes on only for a grace time,
/// in which a caller who ran into its own timeout, or whose connection broke, may come again and finds all of it.
/// What was cancelled is settled at the usage that was seen, else at an estimate, and marked incomplete; never at
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrphanPolicy {
    /// It goes on to its end and is stored, if the upstream does not fall silent. One that can no longer be stored
    /// (it is too large) is cancelled at once.
    Finish,
    /// It goes on for so long and is then cancelled, unless a caller has joined; zero cancels it at once.
    Grace(Duration),
}

/// What a flight may hold and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Limits {
    /// Callers of one flight; one more makes its own call.
    pub(in super::super) max_callers: usize,
    /// Bytes of one reply that are kept for joiners and for storing.
    pub(in super::super) max_bytes: usize,
    /// When nobody listens to a call that asks for a document.
    pub(in super::super) orphaned_call: OrphanPolicy,
    /// When nobody listens to a call that asks for a stream.
    pub(in super::super) orphaned_stream: OrphanPolicy,
    /// How long a call may take until its reply begins.
    pub(in super::super) reply_timeout: Duration,
    /// How long a stream may be silent in its middle.
    pub(in super::super) idle_timeout: Duration,
    /// How long those who have read everything wait for those who have not, once a reply has outgrown its bound.
    pub(in super::super) patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_callers: 10_000,
            max_bytes: 16 << 20,
            orphaned_call: OrphanPolicy::Finish,
            orphaned_stream: OrphanPolicy::Grace(Duration::from_secs(30)),
            reply_timeout: Duration::from_secs(30 * 60),
            idle_timeout: Duration::from_secs(5 * 60),
            patience: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// How long a call without callers goes on; `None` is to its end.
    pub(in super::super) fn grace(&self, stream: bool) -> Option<Duration> {
        match if stream { self.orphaned_stream } else { self.orphaned_call } {
            OrphanPolicy::Finish => None,
            OrphanPolicy::Grace(grace) => Some(grace),
        }
    }
}
