//! Protected directories, and what appears in them.

use std::os::unix::fs::FileExt as _;

use super::WRITE;
use crate::common::{
    self, GOOD, Guard, MARKER, Whole, incident_of, is_immutable, not_root, skip_unless,
};

#[test]
fn a_file_below_a_protected_directory_is_whole_again() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().bystander("conf.d/a/one.conf", GOOD).protect("conf.d").start();
    let path = guard.path("conf.d/a/one.conf");
    assert_eq!(is_immutable(&path), Some(true));
    let good = Whole::of(&path).unwrap();
    guard.regard_as_good(&path, good);
    let seq = guard.last_seq();
    guard.write_surely(&path, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole_at(&path);
    incident_of(&guard, &path, seq).assert_any(WRITE).assert_healed();
}

#[test]
fn a_file_that_appears_in_a_protected_directory_is_reported_and_stays() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().bystander("conf.d/one.conf", GOOD).protect("conf.d").start();
    let stranger = guard.path("conf.d/stranger.conf");
    std::fs::write(&stranger, MARKER).unwrap();
    common::poll(
        || guard.events_about(&stranger).iter().any(|line| line["kind"] == "created").then_some(()),
        || guard.story(),
    );
    assert_eq!(std::fs::read(&stranger).unwrap(), MARKER);
}

#[test]
fn a_file_that_appears_in_a_protected_directory_is_quarantined_where_that_is_wanted() {
    skip_unless!(not_root());
    let guard = Guard::on_disk()
        .bystander("conf.d/one.conf", GOOD)
        .protect("conf.d")
        .policy("unexpected = \"quarantine\"")
        .start();
    let stranger = guard.path("conf.d/stranger.conf");
    std::fs::write(&stranger, MARKER).unwrap();
    common::poll(
        || (!stranger.exists() && guard.quarantine_holds(MARKER)).then_some(()),
        || guard.story(),
    );
    assert!(guard.events_about(&stranger).iter().any(|line| line["kind"] == "created"));
}
