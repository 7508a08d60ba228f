//! A file that its owner does not want healed: what differs is told once, and nobody is named for
//! what was done before or after.

use std::sync::Arc;
use std::time::Duration;

use steadfast::attribute::{Actor, Confidence, Source};
use steadfast::engine::Action;
use steadfast::judge::Policy;
use steadfast::record::Kind;
use steadfast::sense::{By, Hint};

use crate::case::{Case, verifies};

fn left_alone() -> Case {
    let mut case = Case::new(Policy { restore: false, immutable: false, ..Policy::default() });
    case.look();
    case
}

fn by(pid: u32) -> By {
    let actor = Actor { pid, start_time: pid.into(), ..Actor::default() };
    By::Process { actor: Arc::new(actor), source: Source::Pidfd }
}

fn heals(out: &[Action]) -> bool {
    out.iter().any(|action| matches!(action, Action::Heal { .. }))
}

#[test]
fn what_is_done_to_a_file_that_was_left_is_not_laid_on_whoever_changed_it_before() {
    let mut case = left_alone();
    case.world.change(0, |file| (file.content, file.size) = (9, 8));
    case.event_by(Hint::Written, by(7));
    assert!(!heals(&case.look()));
    let question = case.question();
    let told = case.recorded(question);
    assert_eq!(told.iter().map(|event| event.kind).collect::<Vec<_>>(), [Kind::ContentChanged]);
    assert_eq!(told[0].actor.as_ref().map(|actor| actor.pid), Some(7));

    assert!(verifies(&case.look()));
    case.verified();
    let left = Duration::from_micros(case.world.now);
    case.world.now += 5_000_000;
    case.world.change(0, |file| file.mode = 0o777);
    case.event_by(Hint::Metadata, by(8));
    assert!(!heals(&case.look()));
    let asked = case.asked();
    let since = left.saturating_sub(Duration::from_millis(20));
    assert!(asked.windows.iter().all(|window| window.whole >= since), "{:?}", asked.windows);
    // Audit knows what was done to the inode that belongs there, and not to what is there now.
    assert!(asked.windows.iter().all(|window| window.inode.is_none()), "{:?}", asked.windows);
    let told = case.recorded(asked.question);
    // That the content is another is told already.
    assert_eq!(told.iter().map(|event| event.kind).collect::<Vec<_>>(), [Kind::MetadataChanged]);
    assert_eq!(told[0].actor.as_ref().map(|actor| actor.pid), Some(8));
    assert_eq!(told[0].attribution.confidence, Confidence::Opener);
}

#[test]
fn of_a_file_that_was_left_another_content_of_the_same_length_is_told_too() {
    let mut case = left_alone();
    case.world.stage(0);
    let other = case.world.places[0].replica.unwrap().0;
    case.world.places[0].name = Some(other);
    case.world.change(0, |file| file.content = 9);
    case.event(Hint::Arrived);
    let out = case.look();
    assert!(verifies(&out) && !heals(&out), "{out:?}");
    assert!(out.iter().any(|action| matches!(action, Action::Watch { .. })), "{out:?}");
    case.verified();
    let question = case.question();
    let told = case.answered(question);
    assert!(told.contains(&Kind::Replaced) && told.contains(&Kind::ContentChanged), "{told:?}");
}

/// The kernel sets the time of a write before it copies what is written: a look and a reading in
/// between find the time of the write, and the content of before.
#[test]
fn of_a_file_that_was_left_a_write_is_told_that_ends_after_it_was_read() {
    let mut case = left_alone();
    case.world.change(0, |file| file.mtime = 77);
    assert!(!heals(&case.event_by(Hint::Metadata, by(7))));
    assert!(verifies(&case.look()));
    case.verified();
    let question = case.question();
    assert_eq!(case.answered(question), [Kind::MetadataChanged]);

    for settled in [0, 60] {
        case.wait(settled);
        case.world.inodes[0].content += 9;
        case.event_by(Hint::Written, by(7));
        assert!(verifies(&case.look()));
        // Somebody goes on writing while it is read.
        case.event_by(Hint::WriterClosed, by(7));
        assert!(!verifies(&case.look()));
        assert!(verifies(&case.verified()));
        assert!(!verifies(&case.verified()));
        let question = case.question();
        let told = case.recorded(question);
        let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::ContentChanged]);
        assert_eq!(told[0].actor.as_ref().map(|actor| actor.pid), Some(7));
        assert!(!verifies(&case.look()));
    }
}
