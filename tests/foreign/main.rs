//! Mistakes of other caches and gateways, and for each the test that shows that it cannot happen here.
//!
//! One module for each project, within the file of what went wrong there; one function for each report, named
//! `<owner>_<repo>_<number>_<what_holds>`, or by its subject where the fault is in the code and nobody reported it. The
//! line above a function tells what broke. Reports of token counters are in `foreign_token_bugs.rs`.
//!
//! Storms, kills and damaged files in depth are elsewhere (`flights.rs`, `disk_kill.rs`, ..); here each fault has its
//! small form.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

#[macro_use]
mod support;

mod flight;
mod key;
mod money;
mod scope;
mod secrets;
mod stored;
mod streams;

#[cfg(all(feature = "disk", feature = "test-util"))]
mod disk;
#[cfg(all(feature = "disk", feature = "test-util"))]
#[path = "../support/fault.rs"]
#[expect(dead_code, unreachable_pub, reason = "what other tests need, and no outside")]
mod fault;
