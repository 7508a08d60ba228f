//! Disks that fail, under the daemon's own state and under what it protects: frozen, read-only,
//! broken. Whatever else is whole is healed all the same, nothing hangs, and it is told.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;
// The other users of it ask on loopback too.
#[allow(dead_code)]
#[path = "health/http.rs"]
mod http;

use std::fs::File;
use std::os::unix::fs::{FileExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{
    GOOD, Guard, MARKER, Place, clear_at_once, fill_up, incident_of, must, not_root, poll, quiet,
    skip_unless,
};
use serde_json::Value;
use steadfast::baseline::Baseline;

/// A filesystem of the test's own, or the reason why not.
macro_rules! place {
    ($kind:expr) => {
        match Place::new($kind) {
            Ok(place) => place,
            Err(reason) => return common::report_skip(&format!("no {} here: {reason}", $kind)),
        }
    };
}

/// A guard for `main.py` on `files`, with `part` of its state ("" for all of it) on `disk`. Where
/// that is all, what lies ready for a heal lies at the root of the filesystem of the files, which
/// for that reason is to be the test's own.
fn guard_with_state_on(disk: &Place, part: &str, files: Place) -> Guard {
    std::fs::set_permissions(disk.dir(), PermissionsExt::from_mode(0o700)).unwrap();
    let mut guard = Guard::on(files).file("main.py", GOOD).start();
    guard.stop();
    let at = guard.state().join(part);
    clear_at_once(&guard.state());
    std::fs::remove_dir_all(guard.state()).unwrap();
    std::fs::DirBuilder::new().recursive(true).create(&at).unwrap();
    std::fs::set_permissions(guard.state(), PermissionsExt::from_mode(0o700)).unwrap();
    must("mount", &["--bind".as_ref(), disk.dir().as_os_str(), at.as_os_str()]);
    guard.start();
    wait_ready(&guard);
    guard
}

/// Where the copy lies that is ready for the next heal.
fn replica(guard: &Guard) -> Option<PathBuf> {
    let baseline = Baseline::open_read_only(&guard.state()).unwrap();
    baseline.get(&guard.file()).unwrap().and_then(|record| Some(record.replica?.path))
}

/// Waits until another copy than `spent` lies ready for the next heal.
fn wait_ready_after(guard: &Guard, spent: Option<&PathBuf>) -> PathBuf {
    poll(|| replica(guard).filter(|ready| Some(ready) != spent), || guard.story())
}

fn wait_ready(guard: &Guard) -> PathBuf {
    wait_ready_after(guard, None)
}

fn tamper_and_wait(guard: &Guard) {
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
}

/// What was done since the line `after` is on record with its heals.
fn assert_told(guard: &Guard, after: u64) {
    guard.wait_settled();
    let file = guard.file();
    let since = |event: &Value| event["seq"].as_u64() > Some(after);
    let told = || {
        let events: Vec<_> = guard.events_about(&file).into_iter().filter(since).collect();
        let has = |kind: &str| events.iter().any(|event| event["kind"] == kind);
        (has("content-changed") && has("restored")).then_some(())
    };
    poll(told, || guard.story());
}

fn row(guard: &Guard, name: &str) -> Value {
    let status = guard.status();
    let sensors = status["sensors"].as_array().unwrap();
    sensors.iter().find(|one| one["name"] == name).unwrap().clone()
}

fn wait_degraded(guard: &Guard, name: &str) -> String {
    let degraded = || {
        let row = row(guard, name);
        (row["state"] == "degraded").then(|| row["why"].as_str().unwrap().to_owned())
    };
    poll(degraded, || format!("{name} is not degraded\n{}", guard.log()))
}

/// Lets the filesystem go on, also where the test fails.
struct Frozen<'a>(&'a Place);

impl<'a> Frozen<'a> {
    fn new(place: &'a Place) -> Self {
        must("fsfreeze", &["-f".as_ref(), place.mount_point().as_os_str()]);
        Self(place)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = quiet("fsfreeze", &["-u".as_ref(), self.0.mount_point().as_os_str()]);
    }
}

#[test]
fn while_the_disk_of_the_state_hangs_files_elsewhere_are_healed_and_nothing_is_lost() {
    skip_unless!(not_root());
    let disk = place!("ext4");
    let guard = guard_with_state_on(&disk, "", place!("tmpfs"));
    let before = guard.last_seq();
    {
        let _frozen = Frozen::new(&disk);
        // Again and again: what is taken out can be kept nowhere meanwhile, and no copy made.
        for _ in 0..3 {
            tamper_and_wait(&guard);
        }
        assert_eq!(guard.status()["protected"], 1);
    }
    assert_told(&guard, before);
    poll(|| guard.quarantine_holds(MARKER).then_some(()), || guard.story());
    common::assert_code(&guard.steadfast(&["journal", "verify"]), 0, "journal verify");
    tamper_and_wait(&guard);
}

#[test]
fn where_the_disk_of_the_state_becomes_read_only_files_elsewhere_are_healed_and_it_is_told() {
    skip_unless!(not_root());
    let mut disk = place!("ext4");
    let mut guard = guard_with_state_on(&disk, "", place!("tmpfs"));
    // As the kernel does itself when it finds the filesystem damaged: what is open is no
    // obstacle, and nobody can write from one moment to the next.
    disk.remount("abort");
    for _ in 0..3 {
        tamper_and_wait(&guard);
    }
    let why = wait_degraded(&guard, "journal");
    assert!(why.contains("journal") && why.contains("os error"), "{why}");
    let log = guard.log();
    let said = |what: &str| log.lines().filter(|l| l.contains("ERROR") && l.contains(what)).count();
    assert_eq!([said("cannot write the journal"), said("the baseline")], [1, 1], "{log}");
    guard.stop();
    must("umount", &[guard.state().as_os_str()]);
    disk.unmount().unwrap();
    disk.mount().unwrap();
    must("mount", &["--bind".as_ref(), disk.dir().as_os_str(), guard.state().as_os_str()]);
    guard.start();
    assert_eq!(guard.status()["protected"], 1);
    common::assert_code(&guard.steadfast(&["journal", "verify"]), 0, "journal verify");
    let before = guard.last_seq();
    tamper_and_wait(&guard);
    incident_of(&guard, &guard.file(), before).assert_any(&["content-changed"]).assert_healed();
}

/// Has every block of `file`, on the image below `disk`, be gone from memory and from the disk.
fn lose_content(disk: &Place, file: &Path) {
    let open = File::open(file).unwrap();
    open.sync_all().unwrap();
    disk.remount("abort");
    let image = disk.mount_point().with_file_name("image");
    File::options().write(true).open(image).unwrap().set_len(0).unwrap();
    rustix::fs::fadvise(&open, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let error = std::fs::read(file).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
}

#[test]
fn known_good_copies_that_cannot_be_read_any_more_keep_nothing_from_being_healed() {
    skip_unless!(not_root());
    let disk = place!("ext4");
    let guard = guard_with_state_on(&disk, "vault", Place::disk());
    let mut inside = std::fs::read_dir(disk.dir()).unwrap().map(|entry| entry.unwrap().path());
    let copy = inside.find(|path| path.is_file()).unwrap();
    lose_content(&disk, &copy);
    let before = guard.last_seq();
    // The first heal takes the copy that lay ready; each after it needs another one.
    let mut ready = wait_ready(&guard);
    for _ in 0..3 {
        guard.write_at_once(&guard.file(), |file| file.write_all_at(MARKER, 2));
        guard.wait_whole();
        ready = wait_ready_after(&guard, Some(&ready));
    }
    assert_told(&guard, before);
    let told = || {
        let events = guard.events_about(&guard.file());
        events.into_iter().find(|event| event["kind"] == "sensor-degraded")
    };
    let told = poll(told, || guard.story());
    assert!(told["note"].as_str().unwrap().contains("known-good copy"), "{told}");
    let now = http::metrics(&guard.control());
    assert!(now["steadfast_failures_total{failure=\"copy-unreadable\"}"] >= 1.0, "{now:#?}");
}

#[test]
fn a_file_on_a_disk_that_became_read_only_is_told_and_healed_once_that_can_be_written() {
    skip_unless!(not_root());
    let mut guard = Guard::on(place!("ext4")).file("main.py", GOOD).start();
    guard.stop();
    let file = guard.file();
    guard.write_at_once(&file, |file| file.write_all_at(MARKER, 2));
    guard.place.remount("ro");
    let before = guard.last_seq();
    guard.start();
    let failed = || guard.events_about(&file).into_iter().find(|e| e["kind"] == "restore-failed");
    let failed = poll(failed, || guard.story());
    assert!(failed.to_string().contains("ead-only"), "{failed}");
    assert_eq!(guard.status()["open_incidents"], 1);
    guard.place.remount("rw");
    guard.wait_whole();
    assert_told(&guard, before);
    guard.expect(0, "audit", &file);
    let told = guard.events_about(&file);
    let failed = told.iter().filter(|event| event["kind"] == "restore-failed").count();
    assert_eq!(failed, 1, "what is tried again is not told again: {}", guard.story());
}

#[test]
fn good_copies_that_cannot_be_removed_from_a_read_only_disk_are_said_to_be_good_and_no_evidence() {
    skip_unless!(not_root());
    let mut guard = Guard::on(place!("ext4")).file("main.py", GOOD).file("b.py", b"b\n").start();
    wait_ready(&guard);
    guard.wait_settled();
    guard.stop();
    // As they are there when a run ends between the making of a copy and the noting of it.
    let slot = guard.place.mount_point().join(".steadfast");
    let ready: Vec<PathBuf> =
        std::fs::read_dir(&slot).unwrap().map(|entry| entry.unwrap().path()).collect();
    let left = |name: String, from: &Path| {
        let new = slot.join("new");
        must("cp", &["-p".as_ref(), from.as_os_str(), new.as_os_str()]);
        let name = name.replace("INO", &format!("{:x}", common::inode(&new)));
        std::fs::rename(&new, slot.join(&name)).unwrap();
        slot.join(name)
    };
    let good = [0, 1].map(|at| left(format!("64a1f0-1c-{at}-1-INO"), &ready[at]));
    let begun = left("unfinished-64a1f0-1c-0".into(), &ready[0]);
    guard.place.remount("ro");
    let (seq, said) = (guard.last_seq(), guard.log().len());
    guard.start();
    let log = guard.log().split_off(said);
    for (path, what) in
        [(&good[0], "as it should be"), (&good[1], "as it should be"), (&begun, "not whole")]
    {
        let line = log.lines().find(|line| line.contains(path.to_str().unwrap()));
        let line = line.unwrap_or_else(|| panic!("nothing of {}: {log}", path.display()));
        assert!(line.contains("read-only") && line.contains(what), "{line}");
    }
    guard.expect(0, "audit", &guard.file());
    assert!(guard.quarantine().is_empty(), "{}", guard.story());
    let told = |line: &Value| {
        line["seq"].as_u64() > Some(seq) && line["note"].to_string().contains("kept at")
    };
    assert!(!guard.events().iter().any(told), "{}", guard.story());
    guard.stop();
    guard.place.remount("rw");
    guard.start();
    let gone = || [&good[0], &good[1], &begun].iter().all(|path| !path.exists()).then_some(());
    poll(gone, || guard.story());
}

/// Fills the filesystem that `dir` is on, to the last byte, with a file there.
fn fill(dir: &Path) -> PathBuf {
    let ballast = dir.join("ballast");
    let mut file = File::create(&ballast).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_ok() {}
    }
    ballast
}

#[test]
fn evidence_makes_room_for_a_file_that_cannot_be_put_back_on_a_full_disk() {
    skip_unless!(not_root());
    // More than ext4 keeps back for itself.
    let guard = Guard::on(place!("ext4")).file("main.py", &vec![b'g'; 24 << 20]).start();
    let file = guard.file();
    wait_ready(&guard);
    fill_up(&guard.path("ballast"));
    // The copy that lay ready takes the path, and what it took the place of is on the same disk.
    guard.write_at_once(&file, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    poll(|| guard.quarantine_holds(MARKER).then_some(()), || guard.story());
    fill_up(&guard.path("the rest"));

    guard.tamper_surely(|| {
        common::chattr("-i", &file);
        std::fs::remove_file(&file).is_ok()
    });
    guard.wait_whole();
    let removed = |line: &Value| {
        line["kind"] == "evidence-removed"
            && line["note"].to_string().contains("a known-good copy needs the room")
    };
    poll(|| guard.events().iter().any(removed).then_some(()), || guard.story());
}

#[test]
fn on_a_full_disk_a_file_is_healed_by_the_copy_that_lay_ready_and_then_by_what_room_there_is() {
    skip_unless!(not_root());
    let place = place!("tmpfs");
    place.remount("size=4m");
    let content = vec![b'g'; 1 << 20];
    let guard = Guard::on(place).file("main.py", &content).start();
    wait_ready(&guard);
    let ballast = fill(guard.dir());
    let before = guard.last_seq();
    let ready = wait_ready(&guard);
    tamper_and_wait(&guard);
    // No room for another copy while the evidence of this one is there; that it is taken to the
    // quarantine, on another disk, makes room again. Where the copy took the path between the
    // opening and the writing, the next try was put right in place, with no room to keep it.
    let lost = || guard.events().iter().any(|line| line["kind"] == "evidence-removed");
    let dealt_with = || (guard.quarantine_holds(MARKER) || lost()).then_some(());
    poll(dealt_with, || guard.story());
    tamper_and_wait(&guard);
    assert_told(&guard, before);
    std::fs::remove_file(&ballast).unwrap();
    wait_ready_after(&guard, Some(&ready));
}
