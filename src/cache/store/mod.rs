//! Where entries live: memory first, then disk.

#[cfg(feature = "disk")]
pub(crate) mod disk;
pub(crate) mod memory;
