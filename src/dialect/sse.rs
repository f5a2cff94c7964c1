//! Server-sent events, read incrementally.
