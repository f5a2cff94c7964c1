//! The response cache.

mod canon;
mod entry;
mod key;
mod policy;
mod secret;
mod store;

pub use self::canon::{differences, digest};
pub use self::entry::Entry;
pub use self::key::{Bypass, CacheKey, Keyer};
pub use self::policy::{storable, stored_headers};
pub use self::secret::Secret;
pub use self::store::StoreStats;
#[cfg(feature = "disk")]
pub use self::store::disk::{Disk, DiskOptions, DiskStats};
