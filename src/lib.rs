//! Tower layers that make calls to AI APIs cost less.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod budget;
pub mod cache;
pub mod call;
pub mod cap;
pub mod clock;
pub mod dialect;
pub mod edge;
mod error;
pub mod meter;
pub mod prefix;
pub mod price;
pub mod receipt;
pub mod stack;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod tier;
pub mod tokens;
pub mod trim;

pub use self::error::{BoxError, Error, Kind};
