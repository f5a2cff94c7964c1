//! The embedded upstream and other fakes.
