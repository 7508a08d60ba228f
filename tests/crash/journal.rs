//! Killed while it begins a new segment of the journal, and drops the oldest.

use std::path::Path;

use steadfast::baseline::Baseline;
use steadfast::fault::Point::{self, *};
use steadfast::record::{Event, Journal, JournalError, Kind, Limits, Recovery, Severity};

use crate::common::{GOOD, Guard, not_root, poll, skip_unless};
use crate::room::Room;

/// In the order in which they are passed.
pub const ROTATE: &[Point] = &[
    RotateUnlocked,
    RotateRenamed,
    RotateRetired,
    RotateMade,
    RotateAnchored,
    RotateOpened,
    RotateDropped,
];

/// Fills the journal up: as many segments as are kept, and a full one to write to.
fn fill(state: &Path) {
    let baseline = Baseline::open(state).unwrap();
    let limits = Limits::default();
    let event = |length: usize| {
        let event = Event::new(jiff::Timestamp::now(), Kind::Started, Severity::Info);
        event.noting("x".repeat(length))
    };
    let many = Limits { segment_bytes: 1, segments: 1000 };
    let (mut journal, _) = Journal::open_with(state, &baseline, many).unwrap();
    let segments = || std::fs::read_dir(state.join("journal")).unwrap().count();
    while segments() < limits.segments {
        journal.append(&[event(1)]).unwrap();
    }
    drop(journal);
    let (mut journal, _) = open(state, &baseline);
    let length = || std::fs::metadata(state.join("journal/journal.jsonl")).unwrap().len();
    let before = length();
    journal.append(&[event(1)]).unwrap();
    // Lines differ by some digits of their times and numbers: one that were a byte too long would begin
    // another segment, to be filled from the beginning.
    let around = length() - before + 40;
    // Until whatever the daemon says when it starts is too much.
    while let left = limits.segment_bytes - length()
        && left > around
    {
        let note = usize::try_from(left - around).unwrap();
        journal.append(&[event(note.min(900_000))]).unwrap();
    }
}

/// A child that another test is just spawning holds the lock until it execs.
fn open(state: &Path, baseline: &Baseline) -> (Journal, Recovery) {
    let free = || match Journal::open(state, baseline) {
        Err(JournalError::Busy(_)) => None,
        opened => Some(opened.unwrap()),
    };
    poll(free, || "the journal stays locked".to_owned())
}

#[test]
fn a_rotation_of_the_journal_survives_a_kill_at_every_step() {
    skip_unless!(not_root());
    let mut room = Room::new(Guard::on_disk().file("main.py", GOOD));
    let prepare = |guard: &Guard, _| {
        fill(&guard.state());
        vec!["run".into()]
    };
    let after = |guard: &Guard, point| {
        let kept = std::fs::read_dir(guard.state().join("journal")).unwrap().count();
        assert!(kept <= Limits::default().segments, "{kept} segments after {point:?}");
    };
    room.play_command(ROTATE, prepare, after);
}
