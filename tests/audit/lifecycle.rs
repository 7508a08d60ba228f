//! Our rules come and go with the daemon, and come back when somebody takes them away.

use steadfast::sys::audit::{Control, Rule};

use crate::common::{GOOD, Guard, incident_of, not_root, poll, skip_unless};
use crate::named::assert_exact;
use crate::no_audit;
use crate::tamper::{finish, start};

/// The rules of the process with this pid.
pub fn rules_of(pid: u32) -> Vec<Rule> {
    let prefix = format!("steadfast-{pid}-");
    let mut rules = Control::open().unwrap().rules().unwrap();
    rules.retain(|rule| rule.its_key().is_some_and(|key| key.starts_with(&prefix)));
    rules
}

fn tamper_and_name(guard: &Guard) {
    let seq = guard.last_seq();
    let child = start("setflags", "nothing", &guard.file());
    let pid = child.id();
    finish(child);
    assert_exact(&incident_of(guard, &guard.file(), seq), pid);
}

#[test]
fn its_rules_are_there_while_it_runs_and_gone_when_it_has_stopped() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let pid = guard.pid();
    let count = rules_of(pid).len();
    assert!((1..=20).contains(&count), "a few rules, however many files: {count}");
    guard.stop();
    assert_eq!(rules_of(pid), []);
}

#[test]
fn the_rules_of_a_daemon_that_was_killed_are_replaced_at_the_next_start() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let killed = guard.pid();
    guard.kill();
    guard.start();
    assert_eq!(rules_of(killed), []);
    assert_ne!(rules_of(guard.pid()), []);
    tamper_and_name(&guard);
}

#[test]
fn rules_that_somebody_deletes_come_back_and_it_is_said() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let all = rules_of(guard.pid());
    let mut control = Control::open().unwrap();
    for rule in &all {
        control.delete(rule).unwrap();
    }
    poll(|| (rules_of(guard.pid()).len() == all.len()).then_some(()), || guard.log());
    poll(
        || guard.events().iter().any(|line| line["kind"] == "sensor-degraded").then_some(()),
        || guard.story(),
    );
    let why = crate::sensor(&guard, "audit")["why"].as_str().unwrap().to_owned();
    assert!(why.contains("lost"), "{why}");
    // What happens from then on is proof again, as soon as the file was seen whole once.
    poll(
        || {
            let seq = guard.last_seq();
            finish(start("setflags", "nothing", &guard.file()));
            let incident = incident_of(&guard, &guard.file(), seq);
            let exact = |line: &serde_json::Value| line["attribution"]["confidence"] == "exact";
            incident.changes().all(exact).then_some(())
        },
        || guard.story(),
    );
}

#[test]
fn two_daemons_do_not_disturb_each_other() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    let mut first = Guard::on_disk().file("main.py", GOOD).start();
    let second = Guard::on_disk().file("main.py", GOOD).start();
    tamper_and_name(&first);
    tamper_and_name(&second);
    first.stop();
    tamper_and_name(&second);
}
