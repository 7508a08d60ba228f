//! What the daemon keeps to heal from: the baseline, the vault, the copies that lie ready, and
//! the room for them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::WRITE;
use steadfast::baseline::Baseline;

use crate::common::{
    self, GOOD, Guard, Incident, MARKER, Place, Sandbox, assert_code, chattr, incident_of, inode,
    not_root, skip_unless, text,
};

#[test]
fn a_baseline_that_was_taken_away_is_missed_at_the_start_and_nothing_is_taken_for_good() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    sandbox.expect(0, "protect", &file);
    let vault = copies_below(&sandbox.state().join("vault"), GOOD);
    assert!(!vault.is_empty());
    for name in ["baseline.db", "baseline.db-wal", "baseline.db-shm"] {
        let _ = std::fs::remove_file(sandbox.state().join(name));
    }
    chattr("-i", &file);
    std::fs::write(&file, MARKER).unwrap();
    for command in [&["run", "--protect"][..], &["protect"]] {
        let mut args: Vec<_> = command.iter().map(AsRef::as_ref).collect();
        args.push(file.as_os_str());
        let refused = sandbox.steadfast_os(&args);
        assert_code(&refused, 2, "without a baseline");
        let why = text(&refused.stderr);
        assert!(why.contains("baseline.db") && why.contains("gone"), "{why}");
        assert!(!why.contains("panicked"), "{why}");
    }
    assert!(!sandbox.state().join("baseline.db").exists());
    assert_eq!(copies_below(&sandbox.state().join("vault"), GOOD), vault);
}

#[test]
fn a_second_daemon_with_another_state_and_the_same_socket_is_refused_and_touches_nothing() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let other = Sandbox::on(Place::disk());
    let file = other.path("other.py");
    common::write_old(&file, GOOD);
    let ours = std::fs::read_to_string(guard.config()).unwrap();
    let control = ours.lines().find(|line| line.starts_with("control")).unwrap();
    other.configure(&format!("[daemon]\nstate = {:?}\n{control}\n", other.state()));
    let refused = other.steadfast_os(&["run".as_ref(), "--protect".as_ref(), file.as_os_str()]);
    assert_code(&refused, 2, "a second daemon");
    let why = text(&refused.stderr);
    assert!(why.contains("another steadfast") && why.contains("control.sock"), "{why}");
    assert_eq!(common::is_immutable(&file), Some(false));
    assert!(!other.state().join("baseline.db").exists());
    assert!(guard.is_alive());
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
}

#[test]
fn a_file_on_a_full_disk_is_healed_from_the_copy_that_lies_ready_and_then_in_place() {
    skip_unless!(not_root());
    let place = match Place::new("ext4") {
        Ok(place) => place,
        Err(reason) => return common::report_skip(&reason),
    };
    let guard = Guard::on(place).file("main.py", &GOOD.repeat(1000)).start();
    let file = guard.file();
    common::poll(|| lies_ready(&guard).then_some(()), || guard.story());
    common::fill_up(&guard.path("filler"));

    let seq = guard.last_seq();
    guard.write_at_once(&file, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    let incident = incident_of(&guard, &file, seq);
    incident.assert_only(WRITE).assert_healed();
    assert!(answers(&incident).contains(&"exchange".to_owned()), "{}", guard.story());
    assert!(guard.quarantine_holds(MARKER), "{}", guard.story());

    assert!(!lies_ready(&guard), "there is room for another copy");
    let (seq, ino) = (guard.last_seq(), inode(&file));
    guard.write_at_once(&file, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    let incident = incident_of(&guard, &file, seq);
    incident.assert_only(WRITE).assert_healed();
    assert!(answers(&incident).contains(&"rewrite".to_owned()), "{}", guard.story());
    assert_eq!(inode(&file), ino);
    let told = || guard.events_about(&file).into_iter().find(|l| l["kind"] == "evidence-removed");
    let told = common::poll(told, || format!("nobody is told\n{}", guard.story()));
    assert!(told["note"].as_str().unwrap().contains("no room for a copy"), "{told}");
}

#[test]
fn a_damaged_copy_in_the_vault_is_made_again_from_the_file_while_that_is_good() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let vault = guard.state().join("vault");
    guard.stop();
    // Nothing lies ready any more, so the next start needs the vault.
    for ready in copies_below(guard.dir(), GOOD).into_iter().filter(|path| *path != guard.file()) {
        std::fs::remove_file(ready).unwrap();
    }
    for ready in copies_below(&guard.state(), GOOD) {
        match ready.starts_with(&vault) {
            true => damage(&ready),
            false => std::fs::remove_file(ready).unwrap(),
        }
    }
    assert!(copies_below(&vault, GOOD).is_empty());
    guard.start();
    let told = || guard.log().contains("was made again from the file");
    common::poll(
        || (!copies_below(&vault, GOOD).is_empty() && told()).then_some(()),
        || format!("the copy stays damaged\n{}", guard.story()),
    );
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(&guard, &guard.file(), 0).assert_healed();
}

fn answers(incident: &Incident) -> Vec<String> {
    let all = incident.lines.iter().filter_map(|line| line["response"].as_array()).flatten();
    let done = all.filter(|answer| answer["outcome"] == "done");
    done.filter_map(|answer| answer["action"].as_str().map(str::to_owned)).collect()
}

/// Whether a copy of the protected file lies beside it, and the daemon knows.
fn lies_ready(guard: &Guard) -> bool {
    let known = Baseline::open_read_only(&guard.state()).and_then(|all| all.get(&guard.file()));
    let known = known.is_ok_and(|record| record.is_some_and(|record| record.replica.is_some()));
    let good = &guard.good(&guard.file()).content;
    known && copies_below(guard.place.mount_point(), good).len() > 1
}

/// The files below `root` with this content.
fn copies_below(root: &Path, content: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(copies_below(&entry.path(), content)),
            kind if kind.is_file() && std::fs::read(entry.path()).is_ok_and(|is| is == content) => {
                found.push(entry.path());
            }
            _ => {}
        }
    }
    found
}

fn damage(path: &Path) {
    chattr("-i", path);
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(b"X", 3).unwrap();
}
