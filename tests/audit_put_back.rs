//! Audit is as it was before, once the last daemon has stopped. By itself, so that no other
//! test has a daemon at the time.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use common::{GOOD, Guard, not_root, skip_unless};
use steadfast::sys::audit::{Control, Rule};

#[test]
fn audit_is_put_back_when_the_last_daemon_stops() {
    skip_unless!(not_root());
    let Ok(before) = Control::open().and_then(|mut control| control.status()) else {
        common::report_skip("needs Linux audit");
        return;
    };
    skip_unless!((before.enabled == 2).then(|| "the audit rules are locked".to_owned()));
    // Rules of a daemon that was killed may be there before, and go when another starts.
    let others = || {
        let mut rules = Control::open().unwrap().rules().unwrap();
        rules.retain(|rule| !rule.its_key().is_some_and(|key| key.starts_with("steadfast-")));
        rules
    };
    let of = |pid: u32| {
        let rules = Control::open().unwrap().rules().unwrap();
        let prefix = format!("steadfast-{pid}-");
        let its = |rule: &Rule| rule.its_key().is_some_and(|key| key.starts_with(&prefix));
        rules.iter().filter(|rule| its(rule)).count()
    };
    let rules = others();
    let mut first = Guard::on_disk().file("main.py", GOOD).start();
    let mut second = Guard::on_disk().file("main.py", GOOD).start();
    let pids = [first.pid(), second.pid()];
    assert!(pids.into_iter().all(|pid| of(pid) > 0));
    let status = || Control::open().unwrap().status().unwrap();
    assert_eq!(status().enabled, 1);
    first.stop();
    assert_eq!(status().enabled, 1, "the second still needs it");
    second.stop();
    let after = status();
    assert_eq!((after.enabled, after.backlog_limit), (before.enabled, before.backlog_limit));
    assert_eq!(others(), rules);
    assert_eq!(pids.map(of), [0, 0]);
}
