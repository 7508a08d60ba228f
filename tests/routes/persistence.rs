//! A daemon that stops, and the daemon's own traces.

use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, CWD};

use super::WRITE;
use crate::common::{self, GOOD, Guard, MARKER, incident_of, is_immutable, not_root, skip_unless};

#[test]
fn its_own_heals_are_never_taken_for_tampering() {
    skip_unless!(not_root());
    let names: Vec<_> = (0..20).map(|n| format!("{n:02}.conf")).collect();
    let builder = Guard::on_disk().daemon("flag_sweep = \"50ms\"\ncontent_sweep = \"1s\"");
    let guard = names.iter().fold(builder, |builder, name| builder.file(name, GOOD)).start();
    for name in &names {
        guard.write_surely(&guard.path(name), |file| file.write_all_at(MARKER, 2));
    }
    for path in names.iter().map(|name| guard.path(name)) {
        guard.wait_whole_at(&path);
        incident_of(&guard, &path, 0).assert_any(WRITE).assert_healed();
    }
    // What would be a second incident is given the time of two content sweeps to appear.
    std::thread::sleep(std::time::Duration::from_secs(2));
    for path in names.iter().map(|name| guard.path(name)) {
        guard.wait_whole_at(&path);
        incident_of(&guard, &path, 0);
    }
}

#[test]
fn a_change_while_the_daemon_was_killed_is_found_at_the_next_start() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let seq = guard.last_seq();
    guard.kill();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.start();
    guard.wait_whole();
    incident_of(&guard, &guard.file(), seq).assert_any(&["drift-found"]).assert_healed();
    assert!(guard.quarantine_holds(MARKER));
    assert_eq!(guard.steadfast(&["journal", "verify"]).status.code(), Some(0));
}

#[test]
fn who_opens_a_file_after_the_change_is_not_named_for_it() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let file = guard.file();
    for _ in 0..4 {
        let seq = guard.last_seq();
        if let Err(error) = common::clear_through_file_setattr(&file) {
            return common::report_skip(&format!("no file_setattr here: {error}"));
        }
        // No event told of that, so it is this open that leads to the look.
        common::must("cat", &[file.as_os_str()]);
        guard.wait_whole();
        let incident = incident_of(&guard, &file, seq);
        for line in &incident.lines {
            assert_ne!(line["actor"]["comm"], "cat", "{line}");
        }
    }
}

#[test]
fn a_file_that_is_only_watched_is_reported_and_left_as_it_is() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).policy("immutable = false\nrestore = false");
    let guard = guard.start();
    let file = guard.file();
    assert_eq!(is_immutable(&file), Some(false));
    std::fs::write(&file, MARKER).unwrap();
    common::poll(
        || guard.events_about(&file).iter().any(|l| l["kind"] == "content-changed").then_some(()),
        || guard.story(),
    );
    assert_eq!(std::fs::read(&file).unwrap(), MARKER);
    let stat = rustix::fs::statat(CWD, &file, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    assert_eq!(stat.st_uid, 1234);
}

#[test]
fn the_daemon_tells_an_incident_on_its_terminal() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let before = guard.log().len();
    guard.sh(r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE""#);
    guard.wait_whole();
    let story = incident_of(&guard, &guard.file(), 0).story;
    let log = guard.log();
    let told = &log[before..];
    let line = told.lines().find(|line| line.contains("main.py")).expect("a line about it");
    let all = ["chattr", "bash"].iter().any(|program| told.contains(program));
    assert!(all, "by which process: {story}");
    let unit = ["µs", "us", "ms"].iter().any(|unit| told.contains(unit));
    assert!(unit, "how long it took: {told}");
    assert!(!line.contains('\u{1b}'), "no colour in a file: {line}");
}
