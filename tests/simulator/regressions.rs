//! Interleavings that once broke a promise, or that a sweep would hide, each by itself.

use steadfast::attribute::InodeKey;
use steadfast::engine::{Action, Cure, Healed, Input, MISSED, Unread};
use steadfast::judge::Policy;
use steadfast::record::Kind;
use steadfast::sense::Hint;

use crate::case::{Case, FILE, heals, looks, seals, verifies};

#[test]
fn what_is_noticed_in_the_middle_of_a_heal_is_looked_at_after_it() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.immutable = false);
    assert!(heals(&case.look(), Cure::Relock));
    assert!(!looks(&case.event(Hint::Metadata)));
    case.world.change(0, |inode| inode.immutable = true);
    let stat = case.world.stat(0);
    assert!(looks(&case.healed("relock", Ok(Some(stat)))));
}

#[test]
fn a_reading_from_before_a_heal_is_not_believed_after_it() {
    let mut case = Case::new(Policy::default());
    case.event(Hint::Written);
    let out = case.look();
    assert!(verifies(&out));
    let before = case.read(true, false);
    case.world.places[0].covered = true;
    assert!(heals(&case.look(), Cure::Unmount));
    case.world.places[0].covered = false;
    case.healed("unmount", Ok(None));
    let out = case.feed(Input::Verified { file: FILE, epoch: 0, finding: before });
    assert!(!seals(&out) && looks(&out));
    assert!(verifies(&case.look()));
}

#[test]
fn what_an_exchange_put_there_is_sealed_only_once_it_was_read() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.size = 1);
    assert!(heals(&case.look(), Cure::Replace));
    case.world.change(0, |inode| (inode.size, inode.content) = (crate::world::GOOD_SIZE, 9));
    let stat = case.world.stat(0);
    let out = case.healed("exchange", Ok(Some(stat)));
    assert!(verifies(&out) && !seals(&out));
    let finding = case.read(true, false);
    let out = case.feed(Input::Verified { file: FILE, epoch: 1, finding });
    assert!(heals(&out, Cure::Replace) && !seals(&out));
}

#[test]
fn a_heal_that_fails_after_an_inspection_leaves_the_content_to_be_read() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| (inode.immutable, inode.content) = (false, 9));
    assert!(heals(&case.look(), Cure::Relock));
    case.world.change(0, |inode| inode.immutable = true);
    let stat = case.world.stat(0);
    case.healed("relock", Ok(Some(stat)));
    assert!(heals(&case.inspected(true), Cure::Replace));
    case.healed("exchange", Err("Operation not permitted"));
    assert!(verifies(&case.look()));
}

#[test]
fn a_heal_that_outlasts_the_grace_is_still_said_to_have_succeeded() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.size = 1);
    case.look();
    assert!(case.wait(1).contains(&Kind::ContentChanged));
    case.world.change(0, |inode| inode.size = crate::world::GOOD_SIZE);
    let stat = case.world.stat(0);
    case.healed("exchange", Ok(Some(stat)));
    let finding = case.read(true, false);
    case.feed(Input::Verified { file: FILE, epoch: 1, finding });
    assert_eq!(case.wait(5), [Kind::Restored]);
    assert!(case.engine.is_settled(FILE));
}

#[test]
fn what_is_found_while_a_question_is_open_waits_for_an_answer_of_its_own() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.immutable = false);
    case.event(Hint::Metadata);
    assert!(heals(&case.look(), Cure::Relock));
    let first = case.question();
    case.world.change(0, |inode| inode.immutable = true);
    let stat = case.world.stat(0);
    case.healed("relock", Ok(Some(stat)));
    case.world.change(0, |inode| (inode.immutable, inode.size) = (false, 1));
    case.event(Hint::Written);
    assert!(heals(&case.look(), Cure::Replace));
    assert_eq!(case.answered(first), [Kind::ImmutableCleared]);
    let second = case.question();
    let then = case.answered(second);
    assert!(then.contains(&Kind::ContentChanged), "{then:?}");
    assert!(case.answered(second).is_empty(), "an answer counts once");
}

#[test]
fn a_mount_that_was_taken_away_is_said_to_be_gone() {
    let mut case = Case::new(Policy::default());
    case.world.places[0].covered = true;
    assert!(heals(&case.look(), Cure::Unmount));
    case.world.places[0].covered = false;
    assert!(looks(&case.healed("unmount", Ok(None))));
    case.look();
    assert!(case.wait(5).contains(&Kind::Restored));
}

#[test]
fn what_another_filesystem_lacked_is_told_though_it_is_there_again_before_that() {
    let mut case = Case::new(Policy::default());
    let back = case.world.places[0].name.take();
    assert!(heals(&case.look(), Cure::Replace));
    case.world.places[0].name = back;
    let stat = case.world.stat(0);
    case.healed("place", Ok(Some(stat)));
    let out = case.feed(Input::Anew { file: FILE });
    assert!(verifies(&out) && looks(&out));
    let finding = case.read(true, false);
    case.feed(Input::Verified { file: FILE, epoch: 2, finding });
    let told = case.wait(5);
    assert!(told.contains(&Kind::Deleted) && told.contains(&Kind::Restored), "{told:?}");
    assert!(case.engine.is_settled(FILE));
}

#[test]
fn a_missing_file_that_is_not_to_be_restored_is_reported_once() {
    let mut case = Case::new(Policy { restore: false, ..Policy::default() });
    case.world.places[0].name = None;
    case.look();
    assert!(case.wait(5).contains(&Kind::Deleted));
    assert!(case.look().is_empty());
    assert_eq!(case.wait(5), []);
    assert!(case.engine.is_settled(FILE));
}

#[test]
fn a_file_that_was_renamed_away_is_told_as_moved_whether_the_event_or_the_look_came_first() {
    for event_first in [true, false] {
        let mut case = Case::new(Policy { restore: false, ..Policy::default() });
        case.look();
        case.world.places[0].name = None;
        if event_first {
            case.event(Hint::Moved);
        }
        case.look();
        if !event_first {
            case.event(Hint::Moved);
        }
        assert_eq!(case.wait(5), [Kind::Moved]);
    }
}

#[test]
fn the_same_metadata_after_a_repair_is_never_called_whole() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.marked = true);
    assert!(case.look().iter().any(|a| matches!(a, Action::Inspect { .. })));
    assert!(heals(&case.inspected(false), Cure::Repair));
    let stat = case.world.stat(0);
    case.healed("repair-metadata", Ok(Some(stat)));
    assert!(heals(&case.inspected(false), Cure::Replace));
}

#[test]
fn a_cure_that_comes_too_late_for_what_was_seen_is_no_failure() {
    let mut case = Case::new(Policy::default());
    case.world.places[0].name = None;
    assert!(heals(&case.look(), Cure::Replace));
    case.world.places[0].parent = crate::world::Parent::Gone;
    assert!(looks(&case.healed(MISSED, Ok(None))));
    assert!(heals(&case.look(), Cure::PutBackParents));
    case.world.places[0].parent = crate::world::Parent::Right;
    case.healed("put-back-parent", Ok(None));
    assert!(heals(&case.look(), Cure::Replace));
    case.world.places[0].name = Some(0);
    let stat = case.world.stat(0);
    case.healed("place", Ok(Some(stat)));
    let kinds = case.wait(5);
    assert!(kinds.contains(&Kind::Deleted) && kinds.contains(&Kind::Restored), "{kinds:?}");
    assert!(!kinds.contains(&Kind::RestoreFailed), "{kinds:?}");
}

#[test]
fn a_path_that_no_cure_finds_is_said_to_be_broken() {
    let mut case = Case::new(Policy::default());
    case.world.places[0].name = None;
    let mut failed = false;
    for _ in 0..20 {
        case.look();
        let out = case.healed(MISSED, Ok(None));
        failed |= out
            .iter()
            .any(|a| matches!(a, Action::Record(event) if event.kind == Kind::RestoreFailed));
    }
    assert!(failed);
}

#[test]
fn an_inode_that_is_shown_elsewhere_comes_back_after_the_heal_that_is_under_way() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.size = 1);
    assert!(heals(&case.look(), Cure::Replace));
    assert!(!heals(&case.feed(Input::Shown { file: FILE }), Cure::Rejoin));
    case.world.change(0, |inode| inode.size = crate::world::GOOD_SIZE);
    let stat = case.world.stat(0);
    assert!(heals(&case.healed("exchange", Ok(Some(stat))), Cure::Rejoin));
    assert!(!heals(&case.look(), Cure::Rejoin));
    case.healed("rejoin", Ok(Some(stat)));
    let finding = case.read(true, false);
    case.feed(Input::Verified { file: FILE, epoch: 2, finding });
    let kinds = case.wait(5);
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Restored).count(), 1, "{kinds:?}");
    assert!(case.engine.is_settled(FILE));
}

#[test]
fn another_inode_at_the_end_of_a_relock_is_not_adopted() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.immutable = false);
    assert!(heals(&case.look(), Cure::Relock));
    let other = case.world.create_good();
    case.world.places[0].name = Some(other);
    let stat = case.world.stat(other);
    assert!(looks(&case.healed("relock", Ok(Some(stat)))));
    assert!(heals(&case.look(), Cure::Replace));
}

#[test]
fn hands_that_find_another_inode_than_the_engine_do_not_lead_to_the_same_cure_for_ever() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.immutable = false);
    assert!(heals(&case.look(), Cure::Relock));
    assert!(looks(&case.healed("relock", Ok(None))));
    assert!(heals(&case.look(), Cure::Replace));
}

/// What is told, and under which names of incidents, while the bit is cleared once for each of
/// `skews`: so far the clock is off when it is noticed, and as far on the other side afterwards.
fn told_with(skews: [i64; 3]) -> (Vec<Vec<Kind>>, Vec<String>) {
    let mut case = Case::new(Policy::default());
    let (mut told, mut ids) = (Vec::new(), Vec::new());
    for skew in skews {
        case.skew = skew;
        case.world.change(0, |inode| inode.immutable = false);
        let out = case.look();
        assert!(heals(&out, Cure::Relock), "{skew}");
        ids.extend(out.iter().filter_map(|action| match action {
            Action::Heal { incident, .. } => Some(incident.clone()),
            _ => None,
        }));
        case.skew = -skew;
        case.world.change(0, |inode| inode.immutable = true);
        let stat = case.world.stat(0);
        case.healed("relock", Ok(Some(stat)));
        told.push(case.wait(5));
    }
    (told, ids)
}

#[test]
fn a_clock_that_jumps_delays_no_heal_and_changes_nothing_of_what_is_told() {
    const DAY: i64 = 86_400;
    let (told, _) = told_with([0; 3]);
    assert!(told.iter().all(|kinds| kinds.contains(&Kind::Relocked)), "{told:?}");
    let (jumping, ids) = told_with([-DAY, 30 * DAY, -400 * DAY]);
    assert_eq!(jumping, told);
    assert!(ids.is_sorted(), "a later incident has a later name: {ids:?}");
}

#[test]
fn another_inode_that_a_heal_took_out_is_told_of_as_a_replacement() {
    let mut case = Case::new(Policy::default());
    let sealed = case.world.stat(0);
    case.world.change(0, |file| file.immutable = false);
    case.event(Hint::Metadata);
    assert!(heals(&case.look(), Cure::Relock));
    case.world.change(0, |file| file.immutable = true);
    let relocked = case.world.stat(0);
    case.healed("relock", Ok(Some(relocked)));
    let out = case.inspected(true);
    assert!(heals(&out, Cure::Replace));
    let incident = out.iter().find_map(|action| match action {
        Action::Heal { incident, .. } => Some(incident.clone()),
        _ => None,
    });
    // Now another file is renamed over it, which the exchange takes out.
    let other = case.world.create_good();
    case.world.change(other, |file| (file.content, file.size) = (9, 8));
    case.world.stage(0);
    let replica = case.world.places[0].replica.unwrap().0;
    case.world.change(replica, |file| file.immutable = true);
    case.world.places[0].name = Some(replica);
    let result = Ok(Some(case.world.stat(replica)));
    let healed = Healed { action: "exchange", result, evidence: true, from: None };
    case.feed(Input::Healed { file: FILE, healed });
    let stat = case.world.stat(other);
    assert_ne!(stat.ino, sealed.ino);
    case.feed(Input::Evidence {
        file: FILE,
        incident: incident.unwrap(),
        facts: Some(Box::new(case.world.facts(other, true))),
        inode: Some(InodeKey::of(&stat)),
    });
    let told = case.wait(1);
    assert!(told.contains(&Kind::Replaced), "{told:?}");
    assert!(told.contains(&Kind::ContentChanged), "{told:?}");
}

#[test]
fn a_file_that_goes_before_it_is_read_is_looked_at_again_and_no_failure() {
    let mut case = Case::new(Policy::default());
    case.look();
    let mut gone = || {
        case.world.change(0, |file| file.immutable = !file.immutable);
        case.event(Hint::Metadata);
        let finding = Err(Unread::Gone);
        case.feed(Input::Inspected { file: FILE, finding })
    };
    for _ in 0..2 {
        let out = gone();
        assert!(looks(&out), "{out:?}");
        assert!(!out.iter().any(|action| matches!(action, Action::Record(_))), "{out:?}");
    }
    // Where that goes on, somebody has to be told.
    let told = (0..20)
        .flat_map(|_| gone())
        .any(|action| matches!(action, Action::Record(event) if event.kind == Kind::RestoreFailed));
    assert!(told);
}
