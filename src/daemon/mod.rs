//! The shell around the engine: it owns the descriptors, performs the actions, keeps the time.

pub mod api;
pub mod control;
pub mod offline;
mod run;

pub use run::{RunOptions, run};
