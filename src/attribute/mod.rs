//! Observations to processes: who did it, where that is known from, and how sure it is.

mod actor;

pub use actor::{Actor, Ancestor, Attribution, Confidence, Source};
