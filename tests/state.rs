//! The daemon's own memory under attack while it runs: the state directory, the journal, the
//! database, the known-good copies.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use common::{GOOD, Guard, MARKER, clear_everything, incident_of, not_root, poll, skip_unless};
use serde_json::Value;

fn guard() -> Guard {
    Guard::on_disk().file("main.py", GOOD).start()
}

fn journal(guard: &Guard) -> PathBuf {
    guard.state().join("journal/journal.jsonl")
}

/// The state is there again, and the journal in it tells, critically, what was done to it.
fn wait_told(guard: &Guard, what: &str) -> Value {
    poll(
        || {
            let output = guard.steadfast(&["events", "--json"]);
            let lines = output.stdout.split(|byte| *byte == b'\n');
            lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()).find(|line| {
                line["kind"] == "sensor-degraded"
                    && line["severity"] == "critical"
                    && line["note"].as_str().is_some_and(|note| note.contains(what))
            })
        },
        || format!("no line that tells of {what:?}\n{}", guard.story()),
    )
}

/// `status` says so too, and what to do; the terminal has said it once.
fn assert_said(guard: &Guard, what: &str) {
    let status = guard.status();
    assert_eq!(status["state"], "degraded", "{status}");
    let sensors = status["sensors"].as_array().unwrap();
    let state = sensors.iter().find(|one| one["name"] == "state").unwrap();
    assert_eq!(state["state"], "degraded", "{status}");
    let why = state["why"].as_str().unwrap();
    assert!(why.contains("find out who did it"), "what to do: {why}");
    let log = guard.log();
    let errors = log.lines().filter(|line| line.contains("ERROR") && line.contains(what)).count();
    assert_eq!(errors, 1, "{log}");
}

fn verify(guard: &Guard) -> (Option<i32>, String) {
    let output = guard.steadfast(&["journal", "verify"]);
    (output.status.code(), common::text(&output.stdout) + &common::text(&output.stderr))
}

/// What is changed now is healed, told and kept as evidence, as ever.
fn assert_guards(guard: &Guard) {
    let seq = guard.last_seq();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(guard, &guard.file(), seq).assert_any(&["content-changed"]).assert_healed();
    assert!(guard.quarantine_holds(MARKER));
}

fn remove_state(guard: &Guard) {
    clear_everything(&guard.state());
    // The daemon may be making it again by the time the last of it is removed.
    while guard.state().join("baseline.db").exists() && fs::remove_dir_all(guard.state()).is_err() {
        clear_everything(&guard.state());
    }
}

#[test]
fn a_removed_state_directory_is_made_again_and_no_line_that_is_open_is_lost() {
    skip_unless!(not_root());
    let mut guard = guard();
    assert_guards(&guard);
    let before = guard.events();
    remove_state(&guard);
    wait_told(&guard, "state");
    assert_said(&guard, "somebody removed");
    assert_guards(&guard);
    let after = guard.events();
    assert_eq!(after[..before.len()], before[..]);
    let (code, said) = verify(&guard);
    assert_eq!(code, Some(0), "{said}");
    guard.stop();
    assert!(guard.log().lines().any(|line| line.contains("stopped")), "{}", guard.log());
    let seq = guard.events().last().unwrap()["seq"].as_u64().unwrap();
    guard.start();
    assert_eq!(guard.status()["protected"], 1);
    assert_guards(&guard);
    assert!(guard.last_seq() > seq);
    assert_eq!(verify(&guard).0, Some(0));
}

#[test]
fn what_waits_when_the_state_goes_just_before_the_stop_is_written_into_a_new_one() {
    skip_unless!(not_root());
    let mut guard = guard();
    remove_state(&guard);
    guard.stop();
    let kinds: Vec<_> = guard.events().iter().map(|line| line["kind"].clone()).collect();
    assert!(kinds.iter().any(|kind| kind == "stopped"), "{}", guard.story());
    wait_told(&guard, "state");
    guard.start();
    assert_guards(&guard);
}

#[test]
fn a_state_directory_that_is_moved_away_is_put_back_and_a_link_in_its_place_is_not_followed() {
    skip_unless!(not_root());
    let guard = guard();
    let away = guard.state().with_file_name("away");
    let trap = guard.state().with_file_name("trap");
    fs::create_dir(&trap).unwrap();
    let ino = fs::metadata(guard.state()).unwrap().ino();
    fs::rename(guard.state(), &away).unwrap();
    symlink(&trap, guard.state()).unwrap();
    wait_told(&guard, "moved");
    assert_eq!(fs::symlink_metadata(guard.state()).unwrap().ino(), ino);
    assert!(away.is_symlink(), "what was put there is kept");
    assert_eq!(fs::read_dir(&trap).unwrap().count(), 0, "nothing went through the link");
    assert_said(&guard, "moved");
    assert_guards(&guard);
    assert_eq!(verify(&guard).0, Some(0));
}

#[test]
fn every_part_of_the_state_that_is_removed_or_moved_comes_back() {
    skip_unless!(not_root());
    let guard = guard();
    for part in ["journal", "vault", "quarantine", "spool", "replicas"] {
        let path = guard.state().join(part);
        fs::rename(&path, guard.state().join("away")).unwrap();
        wait_told(&guard, &format!("moved {}", path.display()));
        assert!(path.is_dir() && !guard.state().join("away").exists());

        clear_everything(&path);
        fs::remove_dir_all(&path).unwrap();
        wait_told(&guard, &format!("removed {}", path.display()));
        poll(|| path.is_dir().then_some(()), || guard.story());
    }
    assert_guards(&guard);
    assert_eq!(verify(&guard).0, Some(0));
}

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

fn copies(vault: &Path) -> usize {
    fs::read_dir(vault)
        .map_or(0, |all| all.flatten().filter(|entry| entry.file_name().len() == 64).count())
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

fn soften(path: &Path) {
    common::set_flags(path, |flags| flags - rustix::fs::IFlags::APPEND).unwrap();
}

#[test]
fn a_cleared_append_only_bit_of_the_journal_is_told_and_set_again() {
    skip_unless!(not_root());
    let guard = guard();
    soften(&journal(&guard));
    wait_told(&guard, "append-only");
    assert_said(&guard, "append-only");
    assert!(fs::File::options().write(true).open(journal(&guard)).is_err(), "+a is set again");
    assert_eq!(verify(&guard).0, Some(0));
}

#[test]
fn an_edited_line_of_the_journal_is_noticed_and_verify_still_tells_where() {
    skip_unless!(not_root());
    let guard = guard();
    assert_guards(&guard);
    let path = journal(&guard);
    let text = fs::read_to_string(&path).unwrap();
    let at = text.find("main.py").unwrap();
    let line = text[..at].lines().count();
    soften(&path);
    fs::File::options().write(true).open(&path).unwrap().write_all_at(b"X", at as u64).unwrap();
    wait_told(&guard, &format!("from line {line} of journal.jsonl"));
    assert_guards(&guard);
    let (code, said) = verify(&guard);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("line {line}")), "{said}");
}

#[test]
fn a_line_that_somebody_adds_or_cuts_off_is_noticed_and_verify_still_tells_where() {
    skip_unless!(not_root());
    let guard = guard();
    assert_guards(&guard);
    let path = journal(&guard);
    let text = fs::read_to_string(&path).unwrap();
    let foul = text.lines().count() + 1;
    let first = format!("{}\n", text.lines().next().unwrap());
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, first.as_bytes()).unwrap();
    wait_told(&guard, &format!("from line {foul} of journal.jsonl"));
    let (code, said) = verify(&guard);
    assert!(code == Some(1) && said.contains(&format!("line {foul}")), "{said}");

    soften(&path);
    let text = fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap().len() as u64 + 1;
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(text.len() as u64 - last).unwrap();
    let cut =
        wait_told(&guard, &format!("{} bytes and not {}", text.len() as u64 - last, text.len()));
    assert_guards(&guard);
    let (code, said) = verify(&guard);
    assert_eq!(code, Some(1), "{said}");
    assert!(guard.last_seq() > cut["seq"].as_u64().unwrap());
}

#[test]
fn a_removed_journal_file_is_written_again_from_what_is_open() {
    skip_unless!(not_root());
    let guard = guard();
    assert_guards(&guard);
    let before = guard.events();
    soften(&journal(&guard));
    fs::remove_file(journal(&guard)).unwrap();
    wait_told(&guard, "replaced the journal");
    assert_eq!(guard.events()[..before.len()], before[..]);
    assert_eq!(verify(&guard).0, Some(0));
}

/// The window of the only drift that was found.
fn window(guard: &Guard) -> (jiff::Timestamp, jiff::Timestamp) {
    let file = guard.file();
    let drift = || guard.events_about(&file).into_iter().find(|line| line["kind"] == "drift-found");
    let drift = poll(drift, || guard.story());
    let note = drift["note"].as_str().unwrap().to_owned();
    let (_, window) = note.split_once("between ").unwrap();
    let (from, to) = window.split_once(" and ").unwrap();
    (from.parse().unwrap(), to.parse().unwrap())
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
    let degraded = || (guard.status()["state"] == "degraded").then_some(());
    poll(degraded, || format!("it says nothing of the full disk\n{}", guard.story()));
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
    poll(|| (guard.status()["state"] == "watching").then_some(()), || guard.story());
    assert_eq!(verify(&guard).0, Some(0));
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
