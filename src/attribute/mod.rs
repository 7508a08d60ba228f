//! Observations to processes: who did it, where that is known from, and how sure it is.

mod actor;
mod suspects;

pub use actor::{Actor, Ancestor, Attribution, Confidence, Source};
pub use suspects::{Named, Suspect, name_culprit};
