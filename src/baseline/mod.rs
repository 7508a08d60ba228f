//! What is known to be good: facts in a database, content in a vault.

mod complaints;
mod copy;
mod db;
mod error;
mod evidence;
mod gone;
mod hash;
mod heartbeat;
mod meta;
mod path_json;
mod patterns;
mod place;
mod record;
mod records;
mod renew;
mod run;
pub mod snapshot;
mod surroundings;
mod vault;
mod watch;

pub use copy::{Before, NoRoom, copy_sparse, has_room};
pub use db::Baseline;
pub use error::BaselineError;
pub use evidence::Evidence;
pub use hash::{Hasher, sha256};
pub use heartbeat::Heartbeat;
pub use patterns::Patterns;
pub use record::{Origin, Parent, Record, Replica};
pub use snapshot::{Content, Snapshot, SnapshotError};
pub use surroundings::{directory, mount_point, parents};
pub use vault::{Vault, VaultError};
