//! The journal: what happened, in lines that cannot be edited, removed or reordered unnoticed.

mod describe;
mod event;

pub use describe::{
    describe, describe_actor, describe_at, describe_change, describe_duration,
};
pub use event::{Entry, Event, Kind, PathText, Response, Severity};
