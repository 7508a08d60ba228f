//! How closely it is known when drift happened that only a start finds.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::guard;
use crate::common::{GOOD, Guard, MARKER, not_root, poll, skip_unless};

/// The window of the only drift that was found.
fn window(guard: &Guard) -> (jiff::Timestamp, jiff::Timestamp) {
    let file = guard.file();
    let drift = || guard.events_about(&file).into_iter().find(|line| line["kind"] == "drift-found");
    let drift = poll(drift, || guard.story());
    let at = |end: &str| drift["window"][end].as_str().unwrap().parse().unwrap();
    (at("from"), at("to"))
}

#[test]
fn drift_after_a_stop_happened_after_the_last_sign_of_life() {
    skip_unless!(not_root());
    let mut guard = guard();
    guard.stop();
    let stopped = jiff::Timestamp::now();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    let tampered = jiff::Timestamp::now();
    guard.start();
    guard.wait_whole();
    let (from, to) = window(&guard);
    assert!(from <= stopped && tampered <= to, "{from} {stopped} {tampered} {to}");
    let early = stopped.duration_since(from).as_secs();
    assert!(early < 5, "not as late as it could be: {early} s before the end");
}

#[test]
fn drift_after_a_kill_happened_after_the_last_heartbeat_and_not_since_it_was_protected() {
    skip_unless!(not_root());
    let mut guard = guard();
    let protected = jiff::Timestamp::now();
    let baseline = guard.state().join("baseline.db-wal");
    // A heartbeat later than this is written while nothing else is.
    let length = || fs::metadata(&baseline).map_or(0, |found| found.len());
    guard.wait_settled();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let before = length();
    poll(|| (length() > before).then_some(()), || guard.story());
    guard.kill();
    let killed = jiff::Timestamp::now();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.start();
    guard.wait_whole();
    let (from, _) = window(&guard);
    assert!(protected < from && from <= killed, "{protected} {from} {killed}");
}

#[test]
fn a_file_that_was_not_whole_at_the_last_heartbeat_is_not_said_to_have_been() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).policy("immutable = false\nrestore = false");
    let mut guard = guard.start();
    let before = jiff::Timestamp::now();
    fs::write(guard.file(), MARKER).unwrap();
    let changed = |guard: &Guard| {
        let lines = guard.events_about(&guard.file());
        lines.iter().any(|line| line["kind"] == "content-changed").then_some(())
    };
    poll(|| changed(&guard), || guard.story());
    guard.stop();
    guard.start();
    let (from, _) = window(&guard);
    assert!(from <= before, "{from} {before}");
}
