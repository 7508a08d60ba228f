//! What is there, held against what should be. Pure: no clock, no file, no system call.

mod compare;
mod facts;
mod policy;
mod render;
mod seal;
mod verdict;

pub use compare::{Difference, created, deleted, differences, moved, should_be_immutable};
pub use facts::*;
pub use policy::{AlertWhen, Policy, Unexpected};
pub use render::{flag_letters, render_facts};
pub use seal::Seal;
pub use verdict::{Remedy, judge, looks_whole, metadata_matches};
