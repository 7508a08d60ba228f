//! Who did it, with Linux audit and without: a process that is gone before anybody could look
//! at it is named exactly, by every route, and never a wrong one.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod created;
mod disguised;
mod handover;
mod hot;
mod ledger;
mod lifecycle;
mod lineage;
mod mapped;
mod named;
mod recycled;
mod refused;
mod tamper;

use std::sync::{Mutex, MutexGuard};

use common::Guard;
use serde_json::Value;

/// What `status` says of a sensor.
fn sensor(guard: &Guard, name: &str) -> Value {
    let status = guard.status();
    let sensors = status["sensors"].as_array().unwrap();
    sensors.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{status}")).clone()
}

/// Why this machine has no audit for the daemon; `None` where it has.
fn no_audit() -> Option<String> {
    use steadfast::sys::audit::{Control, Stream};
    let status = Control::open().and_then(|mut control| control.status());
    match (status, Stream::open()) {
        (Ok(status), Ok(_)) if status.enabled == 2 => Some("the audit rules are locked".into()),
        (Ok(_), Ok(_)) => None,
        (Err(error), _) | (_, Err(error)) => Some(format!("needs Linux audit: {error}")),
    }
}

/// Audit is one for the whole machine: the tamperers of one test keep the records of another
/// back for longer than a daemon waits for them.
static MACHINE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(|broken| broken.into_inner())
}
