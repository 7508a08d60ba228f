//! What is there, held against what should be. Pure: no clock, no file, no system call.

mod facts;
mod policy;

pub use facts::*;
pub use policy::{AlertWhen, Policy, Unexpected};
