//! Killed while it does what a person asked for: the command without a daemon, and the daemon.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use steadfast::fault::Point::{self, *};

use crate::common::{
    self, GOOD, Guard, MARKER, chattr, is_immutable, not_root, skip_unless, write_old,
};
use crate::room::Room;

fn room() -> Room {
    Room::new(Guard::on_disk().file("main.py", GOOD))
}

fn command(name: &str, path: &Path) -> Vec<OsString> {
    vec![name.into(), path.into()]
}

/// A file of its own for each point, with content of its own.
fn new_file(guard: &Guard, point: Point) -> PathBuf {
    let path = guard.path(point.name());
    write_old(&path, format!("for {}\n", point.name()).as_bytes());
    path
}

/// Doing it again does what the first time was to do.
fn again(guard: &Guard, name: &str, path: &Path) {
    guard.expect(0, name, path);
    guard.expect(0, "audit", path);
    assert_eq!(is_immutable(path), Some(true));
}

/// Content goes to the vault, the bit is set, and both are noted.
pub const PROTECT: &[Point] = &[
    VaultMade,
    VaultCopied,
    VaultSynced,
    VaultNamed,
    VaultLocked,
    TakeKept,
    TakeLocked,
    RecordPut,
    JournalTorn,
    JournalWritten,
    JournalSynced,
    JournalNoted,
];

#[test]
fn a_protect_without_a_daemon_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let prepare = |guard: &Guard, point| command("protect", &new_file(guard, point));
    let after = |guard: &Guard, point: Point| again(guard, "protect", &guard.path(point.name()));
    room().play_command(PROTECT, prepare, after);
}

#[test]
fn a_protect_by_the_daemon_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let mut room = room();
    for &point in PROTECT {
        room.play(&[point], |guard| {
            let path = new_file(guard, point);
            let output = guard.steadfast_os(&["protect".as_ref(), path.as_os_str()]);
            common::assert_code(&output, 2, "protect, of a daemon that dies");
        });
        again(&room.guard, "protect", &room.guard.path(point.name()));
    }
}

#[test]
fn taking_what_the_configuration_names_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let prepare = |guard: &Guard, point| {
        let path = new_file(guard, point);
        let both = [guard.file(), path];
        let table = format!("[[protect]]\npaths = {both:?}\n");
        guard.configure(&(guard.daemon_table("") + &table));
        vec!["run".into()]
    };
    let after = |guard: &Guard, point: Point| {
        assert_eq!(is_immutable(&guard.path(point.name())), Some(true), "{point:?}");
        assert_eq!(guard.status()["protected"], 2, "{}", guard.story());
    };
    let points: Vec<Point> = PROTECT.iter().chain([&VaultUnlocked]).copied().collect();
    room().play_command(&points, prepare, after);
}

/// The same, and the copy for what was good before goes.
pub const ACCEPT: &[Point] = &[
    VaultMade,
    VaultSynced,
    VaultLocked,
    TakeKept,
    TakeLocked,
    ReplicaDiscarded,
    RecordPut,
    JournalTorn,
    JournalSynced,
    JournalNoted,
];

#[test]
fn an_accept_without_a_daemon_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let mut room = room();
    let before = std::cell::RefCell::new(GOOD.to_vec());
    let prepare = |guard: &Guard, point: Point| {
        let file = guard.file();
        before.replace(std::fs::read(&file).unwrap());
        chattr("-i", &file);
        std::fs::write(&file, point.name()).unwrap();
        command("accept", &file)
    };
    let after = |guard: &Guard, point: Point| {
        let now = std::fs::read(guard.file()).unwrap();
        let recorded = [RecordPut, JournalTorn, JournalSynced, JournalNoted].contains(&point);
        let expected = if recorded { point.name().as_bytes().to_vec() } else { before.take() };
        assert_eq!(now, expected, "{point:?}");
        // Nothing of ours passes for evidence.
        let ours = |(_, content): &(PathBuf, Vec<u8>)| *content != point.name().as_bytes();
        if recorded {
            assert!(guard.quarantine().iter().all(|one| ours(one) && one.1 != GOOD));
        }
    };
    room.play_command(ACCEPT, prepare, after);
}

#[test]
fn an_accept_by_the_daemon_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let mut room = room();
    let points =
        [VaultMade, VaultCopied, TakeKept, TakeLocked, ReplicaDiscarded, RecordPut, JournalSynced];
    for point in points {
        room.play(&[point], |guard| {
            let output = guard.steadfast_os(&["accept".as_ref(), guard.file().as_os_str()]);
            common::assert_code(&output, 2, "accept, of a daemon that dies");
        });
        assert_eq!(room.guard.good(&room.guard.file()).differences(&room.guard.file()), "");
        assert!(room.guard.quarantine().is_empty(), "{point:?}\n{}", room.guard.story());
    }
}

/// The bit goes, the copy goes, the record goes.
pub const RELEASE: &[Point] =
    &[ReleaseUnlocked, ReplicaDiscarded, RecordRemoved, JournalTorn, JournalSynced, JournalNoted];

/// Protected or not: one of the two, and nothing between.
fn assert_either(guard: &Guard, path: &Path) {
    let released = guard.steadfast_os(&["audit".as_ref(), path.as_os_str()]);
    match is_immutable(path) {
        Some(true) => common::assert_code(&released, 0, "audit of what is still protected"),
        _ => common::assert_code(&released, 2, "audit of what is not protected any more"),
    }
    assert!(guard.quarantine().is_empty(), "{}", guard.story());
}

#[test]
fn a_release_without_a_daemon_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let mut room = room();
    for &point in RELEASE {
        let path = new_file(&room.guard, point);
        room.guard.expect(0, "protect", &path);
        room.wait_ready();
        let after = |guard: &Guard, _| {
            assert_either(guard, &path);
            let _ = guard.steadfast_os(&["release".as_ref(), path.as_os_str()]);
            assert_eq!(is_immutable(&path), Some(false), "{point:?}");
        };
        room.play_command(&[point], |_, _| command("release", &path), after);
    }
}

#[test]
fn a_release_by_the_daemon_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let mut room = room();
    for &point in RELEASE {
        let path = new_file(&room.guard, point);
        room.guard.expect(0, "protect", &path);
        room.wait_ready();
        room.play(&[point], |guard| {
            let output = guard.steadfast_os(&["release".as_ref(), path.as_os_str()]);
            common::assert_code(&output, 2, "release, of a daemon that dies");
        });
        assert_either(&room.guard, &path);
    }
}

/// What was tampered with is put back.
pub const RESTORE: &[Point] = &[
    HealBegun,
    HealExchanged,
    HealLocked,
    HealDone,
    StageFilled,
    StageNamed,
    EvidenceTaken,
    EvidenceNoted,
    RecordPut,
    JournalWritten,
    JournalNoted,
];

#[test]
fn a_restore_without_a_daemon_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let mut room = room();
    let good = room.guard.good(&room.guard.file()).clone();
    let prepare = |guard: &Guard, _| {
        let file = guard.file();
        chattr("-i", &file);
        std::fs::write(&file, MARKER).unwrap();
        command("restore", &file)
    };
    let after = |guard: &Guard, point| {
        assert_eq!(good.differences(&guard.file()), "", "{point:?}");
    };
    room.play_command(RESTORE, prepare, after);
}

/// Content that nothing refers to any more is removed at the start.
pub const FORGET: &[Point] = &[VaultUnlocked];

#[test]
fn removing_old_content_survives_a_kill() {
    skip_unless!(not_root());
    let prepare = |guard: &Guard, point| {
        let path = new_file(guard, point);
        guard.expect(0, "protect", &path);
        guard.expect(0, "release", &path);
        vec!["run".into()]
    };
    room().play_command(FORGET, prepare, |_, _| ());
}
