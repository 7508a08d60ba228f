//! The daemon's own memory under attack while it runs: the state directory, the journal, the
//! database, the known-good copies; and the program and its configuration.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod directory;
mod heartbeat;
mod journal;
mod memory;
mod own;
mod room;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use common::{GOOD, Guard, MARKER, incident_of, poll};
use serde_json::Value;

fn guard() -> Guard {
    Guard::on_disk().file("main.py", GOOD).start()
}

/// The state is there again, and the journal in it tells, critically, what was done to it.
fn wait_told(guard: &Guard, what: &str) -> Value {
    poll(
        || {
            let output = guard.steadfast(&["events", "--json"]);
            let lines = output.stdout.split(|byte| *byte == b'\n');
            lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()).find(|line| {
                line["kind"] == "sensor-degraded"
                    && line["severity"] == "critical"
                    && line["note"].as_str().is_some_and(|note| note.contains(what))
            })
        },
        || format!("no line that tells of {what:?}\n{}", guard.story()),
    )
}

/// `status` says so too, and what to do; the terminal has said it once.
fn assert_said(guard: &Guard, what: &str) {
    let status = guard.status();
    assert_eq!(status["state"], "degraded", "{status}");
    let sensors = status["sensors"].as_array().unwrap();
    let state = sensors.iter().find(|one| one["name"] == "state").unwrap();
    assert_eq!(state["state"], "degraded", "{status}");
    let why = state["why"].as_str().unwrap();
    assert!(why.contains("find out who did it"), "what to do: {why}");
    let log = guard.log();
    let errors = log.lines().filter(|line| line.contains("ERROR") && line.contains(what)).count();
    assert_eq!(errors, 1, "{log}");
}

fn verify(guard: &Guard) -> (Option<i32>, String) {
    let output = guard.steadfast(&["journal", "verify"]);
    (output.status.code(), common::text(&output.stdout) + &common::text(&output.stderr))
}

/// What is changed now is healed, told and kept as evidence, as ever.
fn assert_guards(guard: &Guard) {
    let seq = guard.last_seq();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(guard, &guard.file(), seq).assert_any(&["content-changed"]).assert_healed();
    poll(|| guard.quarantine_holds(MARKER).then_some(()), || guard.story());
}

fn copies(vault: &Path) -> usize {
    fs::read_dir(vault)
        .map_or(0, |all| all.flatten().filter(|entry| entry.file_name().len() == 64).count())
}
