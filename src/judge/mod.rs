//! What is there, held against what should be. Pure: no clock, no file, no system call.

mod facts;
mod policy;
mod verdict;

pub use facts::*;
pub use policy::{AlertWhen, Policy, Unexpected};
pub use verdict::{Remedy, judge, looks_whole, metadata_matches};
