//! The shell around the engine: it owns the descriptors, performs the actions, keeps the time.
//!
//! [`run`] is the whole story: check that the work can be done, open and lock the state, bring
//! the baseline in line with the configuration, start the sensors, guard until told to stop,
//! and leave nothing unwritten.

pub mod api;
pub mod commands;
mod complaints;
pub mod control;
pub mod failures;
mod guard;
pub mod health;
mod own;
mod reload;
mod scribe;
mod selftest;
mod sensors;
mod service;
mod shortcoming;
mod signals;
mod start;
mod store;
mod sweep;
mod wake;
mod workers;

pub use guard::strangers;
pub use selftest::tamper;
pub use start::{RunError, RunOptions, run};
pub use store::lock::LockError;
pub use store::{Store, StoreError};
