//! Killed while it heals.

use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt};

use steadfast::fault::Point::{self, *};

use crate::common::{GOOD, Guard, MARKER, chattr, cleared_surely, not_root, skip_unless};
use crate::room::Room;

/// From the exchange until everything is on record and the next copy lies ready.
pub const EXCHANGE: &[Point] = &[
    HealBegun,
    HealExchanged,
    HealLocked,
    HealDone,
    StageFilled,
    StageDressed,
    StageSynced,
    StageNamed,
    StageNoted,
    UseNoted,
    SealNoted,
    EvidenceTaken,
    EvidenceNoted,
    JournalTorn,
    JournalWritten,
    JournalSynced,
    JournalNoted,
    MessagePut,
];

fn guard() -> Room {
    Room::new(Guard::on_disk().file("main.py", GOOD).mail())
}

#[test]
fn a_heal_by_exchange_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let mut room = guard();
    let good = room.guard.good(&room.guard.file()).clone();
    for &point in EXCHANGE {
        room.play(&[point], |guard| {
            guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
        });
        assert_eq!(good.differences(&room.guard.file()), "", "{point:?}");
    }
    assert!(room.guard.quarantine_holds(MARKER));
}

/// What has the path is immutable, so that it can be exchanged only when that is cleared.
pub const UNLOCK: &[Point] = &[HealUnlocked, HealExchanged];

#[test]
fn a_heal_of_something_immutable_survives_a_kill() {
    skip_unless!(not_root());
    let mut room = guard();
    let other = room.guard.path("other");
    let good = room.guard.good(&room.guard.file()).clone();
    // Done while no daemon runs: one that does is faster than the bit.
    let prepare = |guard: &Guard, _| {
        let file = guard.file();
        chattr("-i", &file);
        std::fs::write(&other, MARKER).unwrap();
        std::fs::rename(&other, &file).unwrap();
        chattr("+i", &file);
        vec!["run".into()]
    };
    room.play_command(UNLOCK, prepare, |_, _| ());
    assert_eq!(good.differences(&room.guard.file()), "");
}

/// Nothing has the name.
pub const PLACE: &[Point] = &[HealPlaced, HealLocked, HealDone, UseNoted, SealNoted];

#[test]
fn a_heal_of_a_file_that_was_removed_survives_a_kill() {
    skip_unless!(not_root());
    let mut room = guard();
    let good = room.guard.good(&room.guard.file()).clone();
    for &point in PLACE {
        room.play(&[point], |guard| {
            let file = guard.file();
            cleared_surely(guard, &file, || std::fs::remove_file(&file));
        });
        assert_eq!(good.differences(&room.guard.file()), "", "{point:?}");
    }
}

/// The bit alone.
pub const RELOCK: &[Point] = &[HealBegun, Relocked, HealDone];

#[test]
fn setting_the_bit_again_survives_a_kill() {
    skip_unless!(not_root());
    let mut room = guard();
    room.play(RELOCK, |guard| {
        chattr("-i", &guard.file());
    });
}

/// Metadata.
pub const REPAIR: &[Point] = &[RepairUnlocked, RepairDressed, RepairLocked, SealNoted];

#[test]
fn putting_metadata_right_survives_a_kill() {
    skip_unless!(not_root());
    let mut room = guard();
    let good = room.guard.good(&room.guard.file()).clone();
    for &point in REPAIR {
        room.play(&[point], |guard| {
            let file = guard.file();
            cleared_surely(guard, &file, || {
                std::fs::set_permissions(&file, PermissionsExt::from_mode(0o777))
            });
        });
        assert_eq!(good.differences(&room.guard.file()), "", "{point:?}");
    }
}

/// A directory above.
pub const PARENT: &[Point] = &[ParentPutBack, HealDone];

#[test]
fn putting_a_directory_back_survives_a_kill() {
    skip_unless!(not_root());
    let mut room = Room::new(Guard::on_disk().file("app/conf/main.py", GOOD).mail());
    let good = room.guard.good(&room.guard.file()).clone();
    for &point in PARENT {
        room.play(&[point], |guard| {
            std::fs::rename(guard.path("app"), guard.path("away")).unwrap();
        });
        assert_eq!(good.differences(&room.guard.file()), "", "{point:?}");
        assert!(!room.guard.path("away").exists(), "{point:?}");
    }
}

/// A file with another name is written where it is.
pub const REWRITE: &[Point] = &[
    RewriteKept,
    RewriteUnlocked,
    RewriteCopied,
    RewriteDressed,
    RewriteSynced,
    RewriteLocked,
    EvidenceTaken,
    EvidenceNoted,
];

#[test]
fn a_heal_in_place_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let link = |dir: &std::path::Path| {
        std::fs::hard_link(dir.join("main.py"), dir.join("other-name")).unwrap();
    };
    let builder = Guard::on_disk().file("main.py", GOOD).mail().prepare(link);
    let mut room = Room::new(builder);
    let good = room.guard.good(&room.guard.file()).clone();
    for &point in REWRITE {
        room.play(&[point], |guard| {
            guard.write_surely(&guard.path("other-name"), |file| {
                file.set_len(0)?;
                file.write_all(b"[longer than what was good, so that there is something to cut] ")?;
                file.write_all(&MARKER.repeat(GOOD.len()))
            });
        });
        assert_eq!(good.differences(&room.guard.file()), "", "{point:?}");
    }
    assert!(room.guard.quarantine_holds(MARKER));
}
