//! Putting a file right: the cures, the replicas they need, and what becomes of the evidence.
//!
//! A cure works on names below a directory that was opened without following any symlink, and
//! on inodes held by descriptor, so that nothing planted meanwhile can lead a root write
//! elsewhere. Every cure ends with a look, and the look decides whether it worked.

mod cure;
mod parents;
mod patient;
mod quarantine;
mod ready;
mod rejoin;
mod repair;
mod replace;
mod replica;
mod rewrite;
mod slot;
mod tree;

pub use cure::{Outcome, perform};
pub use parents::known_anew;
pub use patient::{Around, Patient};
pub use quarantine::{Quarantine, QuarantineError};
pub use ready::Ready;
pub use rejoin::Shown;
pub use replace::{Hands, Way, replace};
pub use replica::{
    Make, StageError, discard, discard_at, is_untouched, make_of, stage, stage_from_file, take_out,
};
pub use rewrite::copy_out;
pub use slot::{highest, slot_directory};
pub use tree::remove_path;

/// The incident of what a person's command took out: it is no news.
pub const BY_COMMAND: &str = "restored-by-command";
