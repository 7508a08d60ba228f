//! What is known to be good: facts in a database, content in a vault.

mod record;

pub use record::{Origin, Parent, Record, Replica};
