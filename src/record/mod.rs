//! The journal: what happened, in lines that cannot be edited, removed or reordered unnoticed.

mod event;

pub use event::{Entry, Event, Kind, PathText, Response, Severity};
