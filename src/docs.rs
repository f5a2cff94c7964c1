//! The pages beside the code, so that the hosted documentation carries the reasons too.

#[doc = include_str!("../DESIGN.md")]
pub mod design {}

#[doc = include_str!("../CHANGELOG.md")]
pub mod changelog {}
