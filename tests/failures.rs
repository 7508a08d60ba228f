//! The table of the watchdog's own failures: each row is brought about, counted, and put on record
//! where the table says so.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;
// The other users of it ask on loopback too.
#[allow(dead_code)]
#[path = "health/http.rs"]
mod http;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use common::{
    Builder, GOOD, Guard, MARKER, Place, clear_everything, missing, must, not_root, poll,
    skip_unless,
};
use http::{metrics, try_ask};
use steadfast::daemon::failures::{Failure, TABLE};

/// One test for each row.
macro_rules! rows {
    ($($test:ident: $($failure:ident)+ => $play:expr;)*) => {
        const HERE: &[Failure] = &[$($(Failure::$failure),+),*];

        $(#[test]
        fn $test() {
            skip_unless!(not_root().or_else(|| missing(&["setpriv", "mount"])));
            let Some(guard) = $play else { return };
            $(assert_met(&guard, Failure::$failure);)+
        })*
    };
}

rows! {
    a_sensor_that_is_refused_is_counted_and_on_record: SensorDegraded =>
        Some(main().without("sys_admin").start());
    a_route_that_fails_in_the_self_test_is_counted_and_on_record: SelftestFailed =>
        Some(self_test());
    a_file_that_cannot_be_put_right_is_counted_and_on_record: HealFailed => read_only();
    a_copy_for_which_there_is_no_room_is_counted: ReplicaMissing => no_room();
    a_damaged_copy_in_the_vault_is_counted_and_on_record: CopyDamaged => Some(damaged_copy());
    a_copy_that_is_gone_for_good_is_counted_and_on_record: CopyLost => Some(lost_copy());
    evidence_that_cannot_be_kept_is_counted_and_on_record: EvidenceLost => Some(no_quarantine());
    a_full_disk_under_the_state_is_counted_and_on_record: JournalUnwritable BaselineUnwritable =>
        full_state();
    a_state_that_is_tampered_with_is_counted_and_on_record: StateTampered => Some(moved_part());
    a_control_socket_that_is_removed_is_counted_and_on_record: ControlLost => Some(no_socket());
    a_message_that_nobody_takes_is_counted_and_on_record: AlertFailed => Some(untold());
    a_mail_process_that_ends_is_counted: MailProcessEnded => Some(mail_process_killed());
}

/// Rows that other tests bring about: where, and by which name.
const ELSEWHERE: &[(Failure, &str, &str)] = &[
    (
        Failure::EventsLost,
        include_str!("lost/main.rs"),
        "a_queue_that_ran_over_has_everything_looked_at_at_once_and_is_told",
    ),
    (
        Failure::ConfigurationRefused,
        include_str!("health/reload.rs"),
        "a_wrong_file_is_refused_with_every_problem_and_changes_nothing",
    ),
    (
        Failure::CopyUnreadable,
        include_str!("storage.rs"),
        "known_good_copies_that_cannot_be_read_any_more_keep_nothing_from_being_healed",
    ),
    (
        Failure::UnfinishedAtStop,
        include_str!("health/stop.rs"),
        "a_worker_that_does_not_end_holds_up_nothing",
    ),
    (
        Failure::LinesDropped,
        include_str!("../src/daemon/scribe/writer_tests.rs"),
        "lines_that_are_too_many_are_given_up_oldest_first_counted_and_told",
    ),
];

#[test]
fn every_row_is_brought_about() {
    for row in TABLE {
        let elsewhere = |(failure, source, test): &(Failure, &str, &str)| {
            let is_there = source.contains(&format!("fn {test}("));
            *failure == row.failure && is_there
        };
        let here = HERE.contains(&row.failure);
        assert!(here || ELSEWHERE.iter().any(elsewhere), "nothing brings {} about", row.name);
    }
}

/// The failure is counted; and on record, if it is to be.
fn assert_met(guard: &Guard, failure: Failure) {
    let row = failure.row();
    let name = format!("steadfast_failures_total{{failure=\"{}\"}}", row.name);
    let counted = || (metrics(&guard.control())[&name] >= 1.0).then_some(());
    poll(counted, || format!("{} is not counted\n{}", row.name, guard.story()));
    let Some(kind) = row.event else { return };
    let on_record = || {
        let severity = format!("{:?}", row.severity).to_lowercase();
        let is = |event: &serde_json::Value| {
            event["kind"] == kind.name() && event["severity"] == severity
        };
        guard.events().iter().any(is).then_some(())
    };
    poll(on_record, || format!("{} is not on record\n{}", row.name, guard.story()));
}

fn main() -> Builder {
    Guard::on_disk().file("main.py", GOOD)
}

fn self_test() -> Guard {
    let guard = main().without("sys_admin").without("audit_control").without("audit_read");
    let guard = guard.start();
    common::assert_code(&guard.steadfast(&["selftest"]), 1, "selftest");
    guard
}

/// A guard on a filesystem of its own, or the reason why not is told.
fn place(kind: &str) -> Option<Place> {
    Place::new(kind).map_err(|why| common::report_skip(&why)).ok()
}

fn read_only() -> Option<Guard> {
    let mut guard = Guard::on(place("ext4")?).file("main.py", GOOD).start();
    guard.stop();
    guard.write_at_once(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.place.remount("ro");
    guard.start();
    Some(guard)
}

fn fill(dir: &Path) -> File {
    let mut file = File::create(dir.join("ballast")).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_ok() {}
    }
    file
}

fn no_room() -> Option<Guard> {
    let place = place("tmpfs")?;
    place.remount("size=4m");
    let guard = Guard::on(place).file("main.py", &vec![b'g'; 1 << 20]).start();
    fill(guard.dir());
    // What is taken out needs the room of the copy that took its place.
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    Some(guard)
}

fn damaged_copy() -> Guard {
    let guard = main().daemon("content_sweep = \"1s\"").start();
    let vault = guard.state().join("vault");
    clear_everything(&vault);
    for copy in fs::read_dir(vault).unwrap() {
        let path = copy.unwrap().path();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        File::options().write(true).open(path).unwrap().write_all_at(b"X", 3).unwrap();
    }
    guard
}

fn lost_copy() -> Guard {
    let guard = main().policy("restore = false\nimmutable = false").start();
    fs::write(guard.file(), MARKER).unwrap();
    let vault = guard.state().join("vault");
    clear_everything(&vault);
    fs::read_dir(vault).unwrap().for_each(|copy| fs::remove_file(copy.unwrap().path()).unwrap());
    guard
}

/// A filesystem with these options over a directory; it goes with the sandbox.
fn mount_over(dir: &Path, options: &str) {
    let args = ["-t", "tmpfs", "-o", options, "none"].map(OsStr::new);
    must("mount", &[&args[..], &[dir.as_os_str()]].concat());
}

fn no_quarantine() -> Guard {
    let mut guard = main().start();
    guard.stop();
    mount_over(&guard.state().join("quarantine"), "size=64k,nr_inodes=1,mode=700");
    guard.start();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    guard
}

fn full_state() -> Option<Guard> {
    // The files lie elsewhere, or there would be no room for the heals.
    let mut guard = Guard::on(place("tmpfs")?).file("main.py", GOOD).start();
    guard.stop();
    clear_everything(&guard.state());
    fs::remove_dir_all(guard.state()).unwrap();
    fs::create_dir(guard.state()).unwrap();
    mount_over(&guard.state(), "size=4m,mode=700");
    guard.start();
    let ballast = fill(&guard.state());
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    for failure in [Failure::JournalUnwritable, Failure::BaselineUnwritable] {
        let name = format!("steadfast_failures_total{{failure=\"{}\"}}", failure.name());
        let counted = || (metrics(&guard.control())[&name] >= 1.0).then_some(());
        poll(counted, || format!("{} is not counted\n{}", failure.name(), guard.log()));
    }
    // Only now can it be on record.
    drop(ballast);
    fs::remove_file(guard.state().join("ballast")).unwrap();
    Some(guard)
}

fn moved_part() -> Guard {
    let guard = main().start();
    let part = guard.state().join("quarantine");
    fs::rename(&part, guard.state().with_file_name("away")).unwrap();
    poll(|| part.is_dir().then_some(()), || guard.story());
    guard
}

fn no_socket() -> Guard {
    let guard = main().start();
    fs::remove_file(guard.control()).unwrap();
    poll(|| try_ask(&guard.control(), "/livez").map(drop), || guard.log());
    guard
}

fn untold() -> Guard {
    let guard = main().mail().start();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard
}

fn mail_process_killed() -> Guard {
    let guard = main().mail().start();
    let children = format!("/proc/{0}/task/{0}/children", guard.pid());
    let mailer = || {
        let mut pids = Vec::new();
        for task in fs::read_dir(Path::new(&children).ancestors().nth(2)?).ok()?.flatten() {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            pids.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        pids.into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"deliver")
        })
    };
    let pid = poll(mailer, || guard.log());
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    guard
}
