//! How closely it is known when drift happened that only a start finds.

use std::fs;
use std::os::unix::fs::FileExt as _;

use steadfast::baseline::Baseline;

use super::guard;
use crate::common::{GOOD, Guard, MARKER, not_root, poll, skip_unless};

/// The window of the only drift that was found.
fn window(guard: &Guard) -> (jiff::Timestamp, jiff::Timestamp) {
    window_after(guard, 0)
}

/// The window of the only drift that was found after this line of the journal.
fn window_after(guard: &Guard, seq: u64) -> (jiff::Timestamp, jiff::Timestamp) {
    let file = guard.file();
    let is_it = |line: &serde_json::Value| {
        line["kind"] == "drift-found" && line["seq"].as_u64().is_some_and(|number| number > seq)
    };
    let drift = || guard.events_about(&file).into_iter().find(is_it);
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
fn a_file_that_was_healed_just_before_a_stop_was_whole_in_that_run_and_not_only_when_protected() {
    skip_unless!(not_root());
    let mut guard = guard();
    guard.stop();
    let later = jiff::Timestamp::now();
    guard.start();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    // The incident is open still.
    guard.stop();
    let told = guard.last_seq();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.start();
    guard.wait_whole();
    let (from, _) = window_after(&guard, told);
    assert!(from > later, "{from} {later}");
}

#[test]
fn a_file_that_was_not_whole_at_the_last_heartbeat_is_not_said_to_have_been() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).policy("immutable = false\nrestore = false");
    let mut guard = guard.start();
    fs::write(guard.file(), MARKER).unwrap();
    // Until then it may have been seen whole.
    let written = jiff::Timestamp::now();
    let changed = |guard: &Guard| {
        let lines = guard.events_about(&guard.file());
        lines.iter().any(|line| line["kind"] == "content-changed").then_some(())
    };
    poll(|| changed(&guard), || guard.story());
    let beat = || Baseline::open_read_only(&guard.state()).ok()?.heartbeat().ok()?;
    poll(|| beat().filter(|beat| beat.at > written).map(drop), || guard.story());
    guard.stop();
    guard.start();
    let (from, _) = window(&guard);
    assert!(from <= written, "{from} {written}");
}

#[test]
fn a_start_tells_that_the_run_before_was_killed_and_until_when_it_lived_but_not_of_an_orderly_end()
{
    skip_unless!(not_root());
    let before = jiff::Timestamp::now();
    let mut guard = guard();
    // Every start, and what it says of the end before it.
    let ends = |guard: &Guard| -> Vec<Option<jiff::Timestamp>> {
        let events = guard.events().into_iter().filter(|line| line["kind"] == "started");
        let notes = events.map(|line| line["note"].as_str().unwrap().to_owned());
        let end =
            |note: String| Some(note.split_once("ended suddenly, after ")?.1.parse().unwrap());
        notes.map(end).collect()
    };
    guard.kill();
    let killed = jiff::Timestamp::now();
    guard.start();
    let told = ends(&guard);
    // It is told in milliseconds.
    let lived = |lived: i64| before.as_millisecond() <= lived && lived <= killed.as_millisecond();
    let is_right = matches!(told[..], [None, Some(at)] if lived(at.as_millisecond()));
    assert!(is_right, "{before} {told:?} {killed}");
    guard.stop();
    guard.start();
    let told = ends(&guard);
    assert!(matches!(told[..], [None, Some(_), None]), "{told:?}");
}
