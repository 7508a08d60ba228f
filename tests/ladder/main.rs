//! Linux audit in trouble: it is noticed and said, and the next sensor names whom it can.
//!
//! Audit is one for the whole machine, so this is a program of its own, its tests come one after
//! the other, and each puts back what it changed.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod machine;

use std::process::Command;

use common::{GOOD, Guard, Incident, incident_of, missing, not_root, poll, skip_unless};
use machine::Machine;
use serde_json::Value;

/// What `status` says of audit.
fn audit(guard: &Guard) -> (String, String) {
    let status = guard.status();
    let sensors = status["sensors"].as_array().unwrap();
    let audit = sensors.iter().find(|one| one["name"] == "audit").unwrap();
    let word = |name: &str| audit[name].as_str().unwrap().to_owned();
    (word("state"), word("why"))
}

/// Waits until `status` says all of this of audit in one line, and the whole daemon is degraded.
fn wait_said(guard: &Guard, state: &str, says: &[&str]) {
    poll(
        || {
            let (is, why) = audit(guard);
            (is == state && says.iter().all(|word| why.contains(word))).then_some(())
        },
        || format!("it is {:?}, not {state} {says:?}\n{}", audit(guard), guard.story()),
    );
    let (_, why) = audit(guard);
    assert!(!why.contains('\n'), "one line: {why:?}");
    assert_eq!(guard.status()["state"], "degraded");
}

/// Waits until a line of the journal says all of this.
fn wait_told(guard: &Guard, kind: &str, says: &[&str]) {
    let told = |line: &Value| {
        let note = line["note"].as_str().unwrap_or_default();
        line["kind"] == kind && says.iter().all(|word| note.contains(word))
    };
    poll(
        || guard.events().iter().any(told).then_some(()),
        || format!("no {kind} that says {says:?}\n{}", guard.story()),
    );
}

/// A `chattr -i` by a process that is gone before anybody could look; its pid.
fn chattr(guard: &Guard) -> (u32, Incident) {
    let seq = guard.last_seq();
    let mut child = Command::new("chattr").arg("-i").arg(guard.file()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let incident = incident_of(guard, &guard.file(), seq);
    guard.wait_whole();
    (child.id(), incident)
}

/// The one who did it is named by all lines, with a confidence that is one of these.
fn assert_named((pid, incident): (u32, Incident), confidence: &[&str]) {
    incident.assert_healed();
    let changes: Vec<&Value> = incident.changes().collect();
    assert!(!changes.is_empty(), "{}", incident.story);
    for line in changes {
        assert_eq!(line["actor"]["pid"], pid, "{line}\n{}", incident.story);
        let is = line["attribution"]["confidence"].as_str().unwrap();
        assert!(confidence.contains(&is), "{line}\n{}", incident.story);
    }
}

/// Waits until whoever tampers is named exactly again; never is another.
fn wait_exact(guard: &Guard) {
    poll(
        || {
            let (pid, incident) = chattr(guard);
            let exact = |line: &Value| {
                assert_eq!(line["actor"]["pid"], pid, "{line}");
                line["attribution"]["confidence"] == "exact"
            };
            incident.changes().all(exact).then_some(())
        },
        || guard.story(),
    );
}

#[test]
fn where_new_processes_are_not_recorded_it_is_said_and_who_opened_the_file_is_named() {
    skip_unless!(not_root().or_else(machine::no_audit));
    let machine = Machine::take();
    machine.record_no_new_process();
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    wait_said(&guard, "degraded", &["-a task,never", "auditctl -d task,never"]);
    assert_named(chattr(&guard), &["opener"]);
    // The rule gone, nothing has to be started again.
    machine.put_back();
    wait_exact(&guard);
}

fn wait_mailed(guard: &Guard, count: usize) {
    poll(
        || (guard.mailed("selftest") == count).then_some(()),
        || format!("{} messages, not {count}\n{}", guard.mailed("selftest"), guard.story()),
    );
}

fn selftest(guard: &Guard) -> Value {
    guard.json(0, &["selftest".as_ref(), "--json".as_ref()])
}

/// The route that audit alone can name.
fn route(test: &Value) -> &Value {
    let routes = test["routes"].as_array().unwrap();
    routes.iter().find(|one| one["route"] == "file-setattr").unwrap_or_else(|| panic!("{test}"))
}

#[test]
fn a_route_that_worked_and_names_nobody_any_more_is_told_and_mailed_and_so_is_its_recovery() {
    skip_unless!(not_root().or_else(machine::no_audit).or_else(|| missing(&["chattr"])));
    let machine = Machine::take();
    let guard = Guard::on_disk().mail().file("main.py", GOOD).start();
    let first = selftest(&guard);
    let absent = |one: &Value| one["route"] == "file-setattr" && one["absent"] == true;
    if first["not_possible"].as_array().unwrap().iter().any(absent) {
        return common::report_skip("needs file_setattr, of Linux 6.17");
    }
    assert_eq!(route(&first)["source"], "audit", "{first}\n{}", guard.story());
    assert_eq!(guard.mailed("selftest"), 0);

    machine.record_no_new_process();
    wait_said(&guard, "degraded", &["-a task,never", "auditctl -d task,never"]);
    wait_told(&guard, "sensor-degraded", &["-a task,never"]);
    // By itself: the guard tests again when a sensor gets worse.
    wait_told(&guard, "sensor-degraded", &["file-setattr (", ", which worked before)"]);
    wait_mailed(&guard, 1);
    // It is still seen and healed, and a test of that alone would have said nothing.
    let now = selftest(&guard);
    assert_eq!((&route(&now)["seen"], &route(&now)["healed"]), (&true.into(), &true.into()));
    assert_eq!(route(&now)["named"], false, "{now}");
    assert_named(chattr(&guard), &["opener"]);

    machine.put_back();
    let named = || route(&selftest(&guard))["named"] == true;
    poll(|| named().then_some(()), || guard.story());
    wait_told(&guard, "sensor-recovered", &["self-test passes again"]);
    wait_mailed(&guard, 2);
    assert_named(chattr(&guard), &["exact"]);
}

#[test]
fn audit_that_somebody_switches_off_is_on_again_and_that_records_were_lost_is_said() {
    skip_unless!(not_root().or_else(machine::no_audit));
    let machine = Machine::take();
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    machine.switch_off();
    // Recorded or not, by whoever turned it on first.
    assert_named(chattr(&guard), &["exact", "opener"]);
    poll(|| machine.is_on().then_some(()), || format!("audit stays off\n{}", guard.story()));
    wait_said(&guard, "degraded", &["audit was off"]);
    wait_told(&guard, "sensor-degraded", &["audit was off"]);
    wait_told(&guard, "events-lost", &["audit records were lost"]);
    wait_exact(&guard);
}

#[test]
fn audit_that_was_off_for_a_moment_is_noticed_though_it_is_on_again_when_anybody_looks() {
    skip_unless!(not_root().or_else(machine::no_audit));
    let machine = Machine::take();
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    machine.switch_off();
    machine.switch_on();
    wait_said(&guard, "degraded", &["audit was off"]);
    wait_exact(&guard);
}

#[test]
fn records_above_a_rate_limit_are_missed_said_and_no_proof_and_the_next_sensor_names() {
    skip_unless!(not_root().or_else(machine::no_audit));
    let machine = Machine::take();
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    machine.let_through_one_record_a_second();
    assert_named(chattr(&guard), &["opener"]);
    wait_said(&guard, "degraded", &["lost", "auditctl", "-r 0"]);
    wait_told(&guard, "events-lost", &["audit records were lost"]);
    machine.put_back();
    wait_exact(&guard);
}
