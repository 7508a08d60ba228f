//! The journal: what happened, in lines that cannot be edited, removed or reordered unnoticed.

mod abridge;
mod chain;
mod describe;
mod error;
mod event;
mod fouls;
#[cfg(fuzzing)]
mod fuzz;
mod journal;
mod lines;
pub mod pattern;
mod read;
mod recovery;
mod segments;
mod trouble;
mod verify;
mod watch;

pub use chain::{Link, MAX_LINE};
pub use describe::{describe_actor, describe_at, describe_change, describe_duration};
pub use error::JournalError;
pub use event::{Entry, Event, Kind, PathText, Response, Severity, Span};
#[cfg(fuzzing)]
pub use fuzz::fuzz;
pub use journal::{Journal, Limits};
pub use read::{Entries, Filter, read};
pub use recovery::{Finding, Recovery};
pub use trouble::Trouble;
pub use verify::{Fault, Verdict, What, verify};

#[cfg(test)]
mod tests;
