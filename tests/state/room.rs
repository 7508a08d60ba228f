//! A state directory on a disk without room.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::verify;
use crate::common::{
    self, GOOD, Guard, MARKER, clear_everything, incident_of, not_root, poll, skip_unless,
};

#[test]
fn a_full_disk_delays_what_is_to_be_noted_and_loses_nothing() {
    skip_unless!(not_root());
    // The files lie elsewhere, or there would be no room for the heals.
    let place = match common::Place::new("tmpfs") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&why),
    };
    let mut guard = Guard::on(place).file("main.py", GOOD).file("other.py", b"other").start();
    guard.stop();
    clear_everything(&guard.state());
    fs::remove_dir_all(guard.state()).unwrap();
    fs::create_dir(guard.state()).unwrap();
    let args = ["-t", "tmpfs", "-o", "size=4m,mode=700", "none"].map(std::ffi::OsStr::new);
    common::must("mount", &[&args[..], &[guard.state().as_os_str()]].concat());
    guard.start();
    let before = guard.last_seq();
    let ballast = guard.state().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_ok() {}
    }
    for path in [guard.file(), guard.path("other.py")] {
        guard.write_surely(&path, |file| file.write_all_at(MARKER, 2));
        guard.wait_whole_at(&path);
    }
    let journal = |state: &str| {
        let status = guard.status();
        let sensors = status["sensors"].as_array().unwrap();
        let journal = sensors.iter().find(|one| one["name"] == "journal").unwrap();
        (journal["state"] == state).then_some(())
    };
    poll(|| journal("degraded"), || format!("it says nothing of the disk\n{}", guard.story()));
    poll(
        || guard.log().contains("what is to be noted there waits").then_some(()),
        || guard.story(),
    );
    // Time for further tries, which are not to be told one by one.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let log = guard.log();
    assert!(log.matches("ERROR").count() <= 3, "one line for each thing that fails: {log}");
    drop(file);
    fs::remove_file(&ballast).unwrap();
    poll(
        || guard.log().contains("the baseline can be written again").then_some(()),
        || guard.story(),
    );
    for path in [guard.file(), guard.path("other.py")] {
        let incident = incident_of(&guard, &path, before);
        incident.assert_any(&["content-changed"]).assert_healed();
        let last = guard.steadfast_os(&["diff".as_ref(), "--last".as_ref(), path.as_os_str()]);
        let said = common::text(&last.stdout) + &common::text(&last.stderr);
        assert_ne!(last.status.code(), Some(2), "the evidence is in the index: {said}");
    }
    poll(|| journal("working"), || guard.story());
    assert_eq!(verify(&guard).0, Some(0));
}

#[test]
fn a_daemon_that_ended_on_a_full_disk_begins_again_and_guards() {
    skip_unless!(not_root());
    let place = match common::Place::new("tmpfs") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&why),
    };
    let mut guard = Guard::on(place).file("main.py", GOOD).start();
    guard.stop();
    clear_everything(&guard.state());
    fs::remove_dir_all(guard.state()).unwrap();
    fs::create_dir(guard.state()).unwrap();
    let args = ["-t", "tmpfs", "-o", "size=16m,mode=700", "none"].map(std::ffi::OsStr::new);
    common::must("mount", &[&args[..], &[guard.state().as_os_str()]].concat());
    guard.start();
    guard.stop();
    let ballast = guard.state().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_ok() {}
    }
    guard.start();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    guard.stop();
    drop(file);
    fs::remove_file(&ballast).unwrap();
    guard.start();
    assert_eq!(verify(&guard).0, Some(0));
}
