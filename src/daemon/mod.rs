//! The shell around the engine: it owns the descriptors, performs the actions, keeps the time.
//!
//! [`run`] is the whole story: check that the work can be done, open and lock the state, bring
//! the baseline in line with the configuration, start the sensors, guard until told to stop,
//! and leave nothing unwritten.

mod acceptance;
pub mod api;
mod backlog;
mod checks;
mod commands;
pub mod control;
mod discarded;
mod evidence;
pub mod failures;
mod globs;
mod guard;
mod handover;
pub mod health;
mod held;
mod herd;
mod hot;
mod keeper;
mod leftovers;
mod life;
mod lock;
mod look;
pub mod offline;
mod onlooker;
mod outbox;
mod own;
mod perform;
pub mod protect;
mod queue;
mod recall;
mod reconcile;
mod reload;
mod reserve;
mod restock;
mod restore;
mod said;
mod scribe;
mod selftest;
mod sensors;
mod service;
mod shortcoming;
mod signals;
mod start;
mod store;
pub mod strangers;
mod sweep;
mod testify;
mod wake;
mod wanted;
mod ward;
mod witness;
mod workers;
mod writer;
mod writers;

pub use lock::LockError;
pub use selftest::tamper;
pub use start::{RunError, RunOptions, run};
pub use store::{Store, StoreError};
