//! What most servers run: the distribution's own kernel, which is older than the one that this
//! was written on. A virtual machine boots it once, and there audit can be locked as well,
//! which holds until the next boot.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod machine;

use std::collections::BTreeSet;

use common::skip_unless;
use machine::{Told, no_machine, told};
use serde_json::Value;
use steadfast::sys::audit::{Change, Control, LOCKED};

/// Not a test of its own: `auditctl -e 2` in the virtual machine, and nowhere else.
#[test]
#[ignore = "a program of the virtual machine"]
fn lock_the_rules() {
    if std::fs::read_to_string("/proc/cmdline").unwrap().contains(machine::MARK) {
        Control::open().unwrap().set(Change::Enabled(LOCKED)).unwrap();
    }
}

/// Where in the scenario something is tampered with.
const PARTS: [&str; 5] = ["free", "ahead", "back", "locked-meanwhile", "locked-before"];

/// What `status` says of a sensor.
fn sensor(status: &Value, name: &str) -> (String, String) {
    let sensors = status["sensors"].as_array().unwrap();
    let one = sensors.iter().find(|one| one["name"] == name).unwrap();
    let word = |name: &str| one[name].as_str().unwrap().to_owned();
    (word("state"), word("why"))
}

fn pid(of: &Value) -> Option<u64> {
    of["pid"].as_u64()
}

/// Everybody that a line of the journal names.
fn named(line: &Value) -> BTreeSet<u64> {
    let others = line["others"].as_array().unwrap();
    others.iter().chain([&line["actor"]]).filter_map(pid).collect()
}

/// Lines about `path` that say that it was changed.
fn changes<'a>(told: &'a Told, path: &str) -> impl Iterator<Item = &'a Value> {
    let kinds = ["immutable-cleared", "content-changed", "deleted", "replaced"];
    let of =
        move |line: &&Value| line["path"] == path && kinds.iter().any(|kind| line["kind"] == *kind);
    told.all("event", "-").filter(of)
}

/// What was done in this part was undone, who did it last is named so, and no other is exactly.
fn assert_named(told: &Told, at: &str, confidence: &str) {
    let done: Vec<&Value> = told.all("tampering", at).collect();
    let paths: BTreeSet<&str> = done.iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert!(!paths.is_empty(), "{told}");
    for path in paths {
        let here = || done.iter().filter(|one| one["path"] == path);
        assert!(here().all(|one| one["whole"] == true), "{path} is not whole again\n{told}");
        let last = here().next_back().and_then(|one| pid(one)).unwrap();
        let by_last = |line: &&Value| named(line).contains(&last);
        let says: Vec<_> = changes(told, path).filter(by_last).collect();
        assert!(
            says.iter().any(|line| line["attribution"]["confidence"] == confidence),
            "{path}: process {last} is not named as {confidence}: {says:#?}\n{told}"
        );
    }
}

#[test]
fn on_a_stock_kernel_what_is_done_to_a_file_is_undone_and_whoever_did_it_is_named_exactly() {
    skip_unless!(no_machine());
    let told = told();
    assert_named(told, "free", "exact");
    for kind in ["immutable-cleared", "content-changed", "deleted", "replaced"] {
        let of = |line: &&Value| line["kind"] == kind;
        assert!(told.all("event", "-").any(|line| of(&line)), "no {kind}\n{told}");
    }
}

#[test]
fn on_a_stock_kernel_nobody_is_named_exactly_who_did_not_do_it() {
    skip_unless!(no_machine());
    let told = told();
    for path in ["/srv/locked", "/srv/written", "/srv/deleted", "/srv/replaced"] {
        let done = PARTS.iter().flat_map(|at| told.all("tampering", at));
        let done = done.filter(|one| one["path"] == path);
        let did: BTreeSet<_> = done.filter_map(pid).collect();
        for line in changes(told, path).filter(|l| l["attribution"]["confidence"] == "exact") {
            let who = pid(&line["actor"]).unwrap();
            assert!(did.contains(&who), "{who} is none of {did:?}: {line}\n{told}");
        }
    }
}

#[test]
fn on_a_stock_kernel_every_sensor_works_and_every_way_that_it_has_is_tried_and_named() {
    skip_unless!(no_machine());
    let told = told();
    let status = told.one("status", "free");
    assert_eq!(status["state"], "watching", "{told}");
    for one in status["sensors"].as_array().unwrap() {
        assert_eq!(one["state"], "working", "{one}\n{told}");
    }
    let test = told.one("selftest", "free");
    for one in test["routes"].as_array().unwrap() {
        assert_eq!(one["result"], "passed", "{one}\n{told}");
    }
    for one in test["not_possible"].as_array().unwrap() {
        assert_eq!(
            (&one["route"], &one["absent"]),
            (&"file-setattr".into(), &true.into()),
            "{one}"
        );
    }
    assert_eq!(told.one("doctor", "free")["problems"], 0, "{told}");
}

#[test]
fn a_clock_that_is_set_a_day_ahead_and_two_back_costs_neither_a_heal_nor_a_name() {
    skip_unless!(no_machine());
    let told = told();
    assert_named(told, "ahead", "exact");
    assert_named(told, "back", "exact");
    assert_eq!(*told.one("journal", "back"), 0, "{told}");
}

#[test]
fn audit_rules_that_are_locked_while_it_runs_go_on_naming_and_that_they_stay_is_said() {
    skip_unless!(no_machine());
    let told = told();
    assert_named(told, "locked-meanwhile", "exact");
    let (state, why) = sensor(told.one("status", "locked-meanwhile"), "audit");
    assert_eq!(state, "working", "{why}\n{told}");
    let stop = told.one("stop", "locked-meanwhile");
    assert_eq!((&stop["code"], &stop["stays"]), (&0.into(), &1.into()), "{told}");
}

#[test]
fn audit_rules_that_were_locked_before_are_said_and_the_next_sensor_names_who_opened_the_file() {
    skip_unless!(no_machine());
    let told = told();
    let status = told.one("status", "locked-before");
    assert_eq!(status["state"], "degraded", "{told}");
    let (state, why) = sensor(status, "audit");
    assert_eq!(state, "unavailable", "{told}");
    for word in ["locked (-e 2)", "/etc/audit", "boot"] {
        assert!(why.contains(word), "{why}");
    }
    let said = |line: &Value| {
        line["kind"] == "sensor-degraded" && line["note"].to_string().contains("locked (-e 2)")
    };
    assert!(told.all("event", "-").any(said), "{told}");
    let doctor = told.one("doctor", "locked-before")["findings"].as_array().unwrap();
    let limit = |one: &Value| one["about"] == "audit" && one["level"] == "limit";
    assert!(doctor.iter().any(limit), "{told}");
    assert_named(told, "locked-before", "opener");
    for one in told.one("selftest", "locked-before")["routes"].as_array().unwrap() {
        assert_eq!((&one["seen"], &one["healed"]), (&true.into(), &true.into()), "{one}\n{told}");
    }
}
