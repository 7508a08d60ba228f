//! What is known to be good: the database and the copies in the vault.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{assert_guards, assert_said, copies, guard, wait_told};
use crate::common::{
    self, GOOD, Guard, MARKER, chattr, clear_everything, not_root, poll, skip_unless,
};

#[test]
fn a_removed_database_is_written_again_from_what_is_open() {
    skip_unless!(not_root());
    let mut guard = guard();
    let database = guard.state().join("baseline.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", database.display()));
    }
    wait_told(&guard, "baseline.db");
    assert_guards(&guard);
    guard.kill();
    guard.start();
    assert_eq!(guard.status()["protected"], 1);
    assert_guards(&guard);
}

/// After `spoil` the daemon tells of it and goes on, and so does the next one.
fn spoilt(spoil: impl Fn(&Path)) {
    let mut guard = guard();
    assert_guards(&guard);
    let database = guard.state().join("baseline.db");
    spoil(&database);
    wait_told(&guard, "somebody wrote to");
    assert_said(&guard, "somebody wrote to");
    assert_guards(&guard);
    guard.kill();
    guard.start();
    assert_eq!(guard.status()["protected"], 1);
    assert_guards(&guard);
    let verify = guard.steadfast(&["journal", "verify"]);
    common::assert_code(&verify, 0, "journal verify");
}

#[test]
fn a_database_that_is_overwritten_in_place_is_written_again_from_memory() {
    skip_unless!(not_root());
    spoilt(|database| {
        let file = fs::File::options().write(true).open(database).unwrap();
        let size = file.metadata().unwrap().len();
        file.write_all_at(&vec![b'x'; usize::try_from(size).unwrap()], 0).unwrap();
    });
}

#[test]
fn a_database_that_is_cut_off_is_written_again_from_memory() {
    skip_unless!(not_root());
    spoilt(|database| {
        fs::File::options().write(true).open(database).unwrap().set_len(100).unwrap();
    });
}

#[test]
fn a_log_of_the_database_that_somebody_writes_to_is_not_believed() {
    skip_unless!(not_root());
    spoilt(|database| {
        let log = format!("{}-wal", database.display());
        let mut file = fs::File::options().append(true).open(log).unwrap();
        file.write_all(&[0xee; 4096]).unwrap();
    });
}

#[test]
fn known_good_copies_that_are_removed_are_made_again_from_the_protected_files() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("a", b"one").file("b", b"two").file("c", b"three").start();
    let vault = guard.state().join("vault");
    assert_eq!(copies(&vault), 3);
    clear_everything(&vault);
    for entry in fs::read_dir(&vault).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    poll(|| (copies(&vault) == 3).then_some(()), || guard.story());
    clear_everything(&vault);
    let _ = fs::remove_dir_all(&vault);
    poll(|| (copies(&vault) == 3).then_some(()), || guard.story());
    assert_guards(&guard);
}

fn damage(vault: &Path) {
    for entry in fs::read_dir(vault).unwrap().flatten() {
        chattr("-i", &entry.path());
        let file = fs::File::options().write(true).open(entry.path()).unwrap();
        file.write_all_at(b"X", 3).unwrap();
    }
}

fn damaged(vault: &Path) -> bool {
    fs::read_dir(vault)
        .unwrap()
        .flatten()
        .any(|entry| fs::read(entry.path()).is_ok_and(|content| content != GOOD))
}

#[test]
fn a_copy_that_is_damaged_in_the_vault_is_found_told_and_made_again() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).daemon("content_sweep = \"1s\"").start();
    let vault = guard.state().join("vault");
    damage(&vault);
    wait_told_of(&guard, "warning", "made again from the file");
    poll(|| (!damaged(&vault)).then_some(()), || guard.story());
    assert_guards(&guard);
}

/// A line about the protected file.
fn wait_told_of(guard: &Guard, severity: &str, what: &str) {
    let told = |line: &serde_json::Value| {
        line["kind"] == "sensor-degraded"
            && line["severity"] == severity
            && line["note"].as_str().is_some_and(|note| note.contains(what))
    };
    poll(
        || guard.events_about(&guard.file()).iter().any(told).then_some(()),
        || format!("no line tells of {what:?}\n{}", guard.story()),
    );
}

#[test]
fn what_cannot_be_put_right_is_told_once_and_not_each_second() {
    skip_unless!(not_root());
    let guard = guard();
    // No copy in the vault, and none that lies ready.
    let vault = guard.state().join("vault");
    damage(&vault);
    let replicas = guard.state().join("replicas");
    clear_everything(&replicas);
    for entry in fs::read_dir(&replicas).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    guard.write_at_once(&guard.file(), |file| file.write_all_at(MARKER, 2));
    let lines = |kind: &str| {
        guard.events_about(&guard.file()).iter().filter(|line| line["kind"] == kind).count()
    };
    poll(|| (lines("restore-failed") > 0).then_some(()), || guard.story());
    // Time for further tries, which are not to be told one by one.
    std::thread::sleep(std::time::Duration::from_secs(4));
    let counts = ["restore-failed", "drift-found", "content-changed"].map(lines);
    assert!(counts.iter().all(|count| *count <= 3), "{counts:?}\n{}", guard.story());
}

#[test]
fn a_daemon_without_its_baseline_does_not_take_what_is_there_for_good() {
    skip_unless!(not_root());
    let mut guard = guard();
    guard.stop();
    let state = guard.state();
    clear_everything(&state);
    clear_everything(guard.dir());
    let vault = state.join("vault");
    fs::write(guard.file(), MARKER).unwrap();
    for entry in fs::read_dir(&state).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("baseline.db") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let refused = |witness: &str| {
        let config = guard.config();
        let program = env!("CARGO_BIN_EXE_steadfast");
        let args = ["20", program, "run", "--config"].map(std::ffi::OsStr::new);
        let output = common::quiet("timeout", &[&args[..], &[config.as_os_str()]].concat());
        common::assert_code(&output, 2, "run");
        let said = common::text(&output.stderr);
        assert!(said.contains("baseline.db is gone") && said.contains(witness), "{said}");
        assert!(said.contains("from a backup"), "what to do: {said}");
        assert_eq!(copies(&vault), 1, "the known-good copy is still there");
        assert_eq!(fs::read(guard.file()).unwrap(), MARKER, "nothing was touched");
    };
    refused("journal");
    fs::remove_dir_all(state.join("journal")).unwrap();
    refused("vault");
    // As it says: moved away, it begins anew.
    fs::rename(&vault, state.with_file_name("vault")).unwrap();
    guard.start();
    assert_eq!(guard.status()["protected"], 1);
}
