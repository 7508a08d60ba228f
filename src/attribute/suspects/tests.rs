use std::time::{Duration, Instant};

use super::*;
use crate::attribute::{Act, Deed, InodeKey, Opened, Witnessed};
use crate::judge::FileTime;

fn actor(pid: u32) -> Arc<Actor> {
    Arc::new(Actor { pid, start_time: u64::from(pid), ..Actor::default() })
}

fn none() -> Evidence<'static> {
    static NOTHING: Testimony = Testimony {
        deeds: Vec::new(),
        complete: false,
        unwatched: Vec::new(),
        unrecorded: Vec::new(),
        writing: Vec::new(),
    };
    Evidence { testimony: &NOTHING, windows: &[], nature: Nature::default() }
}

fn suspect(hint: Hint, pid: u32) -> Suspect {
    Suspect { hint, by: By::Process { actor: actor(pid), source: Source::OpenPermission } }
}

#[test]
fn the_only_writer_is_named_exactly_though_others_had_it_open() {
    let named = name_culprit(
        Kind::ContentChanged,
        &[suspect(Hint::Closed, 1), suspect(Hint::Written, 2)],
        &[actor(2), actor(1)],
        &none(),
    );
    assert_eq!(named.actor.unwrap().pid, 2);
    assert_eq!(named.attribution.confidence, Confidence::Exact);
    assert_eq!(named.others.len(), 1);
}

#[test]
fn two_writers_are_both_listed_and_neither_is_exact() {
    let named = name_culprit(
        Kind::ContentChanged,
        &[suspect(Hint::Written, 1), suspect(Hint::Written, 2)],
        &[],
        &none(),
    );
    assert_eq!(named.attribution.confidence, Confidence::Opener);
    assert_eq!(named.others[0].pid, 2);
}

#[test]
fn a_cleared_bit_has_an_opener_at_best() {
    let named =
        name_culprit(Kind::ImmutableCleared, &[suspect(Hint::Closed, 7)], &[actor(7)], &none());
    assert_eq!(named.actor.unwrap().pid, 7);
    assert_eq!(named.attribution.confidence, Confidence::Opener);
}

#[test]
fn a_doer_that_is_gone_is_never_replaced_by_a_bystander() {
    let gone = Suspect { hint: Hint::Written, by: By::Gone { pid: 9 } };
    let named = name_culprit(Kind::ContentChanged, &[gone], &[actor(1)], &none());
    assert!(named.actor.is_none());
    assert_eq!(named.attribution.confidence, Confidence::Unknown);
    assert!(named.note.unwrap().contains('9'));
}

#[test]
fn whoever_lets_go_last_of_a_file_that_is_gone_is_no_suspect() {
    for (kind, did) in [(Kind::Replaced, Hint::Arrived), (Kind::Deleted, Hint::Removed)] {
        let all = [suspect(did, 1), suspect(Hint::Gone, 2)];
        let named = name_culprit(kind, &all, &[], &none());
        assert_eq!(named.actor.unwrap().pid, 1);
        assert_eq!(named.attribution.confidence, Confidence::Exact);
        let alone = name_culprit(kind, &all[1..], &[], &none());
        assert_ne!(alone.attribution.confidence, Confidence::Exact);
    }
}

#[test]
fn a_named_doer_beside_one_that_is_gone_is_not_exact() {
    let gone = Suspect { hint: Hint::Written, by: By::Gone { pid: 9 } };
    let named =
        name_culprit(Kind::ContentChanged, &[suspect(Hint::Written, 1), gone], &[], &none());
    assert_eq!(named.attribution.confidence, Confidence::Opener);
}

const KEY: InodeKey = InodeKey { dev: 1, ino: 2 };

/// A process changed flags through a descriptor of the file, while one that audit does not
/// record read it.
fn flags_changed(just: bool) -> Testimony {
    let time = |sec| FileTime { sec, nsec: 0 };
    let deed = Deed {
        act: Act::Flags,
        told: false,
        of: Opened::default(),
        just: Opened::default(),
        inherited: Opened::default(),
        actor: actor(2),
        began: time(10),
        over: Instant::now(),
        ended: time(11),
    };
    let (deed, over) = (Arc::new(deed), Duration::from_secs(11));
    Testimony {
        deeds: vec![Witnessed { deed, over, of: vec![KEY], just, inherited: Vec::new() }],
        complete: true,
        unwatched: Vec::new(),
        unrecorded: vec![actor(1)],
        writing: Vec::new(),
    }
}

fn who_cleared(testimony: &Testimony) -> Named {
    who_cleared_where(testimony, true)
}

fn who_cleared_where(testimony: &Testimony, own: bool) -> Named {
    let (until, inode) = (FileTime { sec: 12, nsec: 0 }, Some(KEY));
    let window =
        Window { whole: Duration::from_secs(9), until, sharp: false, own, closed: true, inode };
    let evidence = Evidence { testimony, windows: &[window], nature: Nature::default() };
    name_culprit(Kind::ImmutableCleared, &[], &[actor(1), actor(2)], &evidence)
}

#[test]
fn whoever_opened_it_and_changed_flags_at_once_did_it_whoever_else_reads_it() {
    let named = who_cleared(&flags_changed(true));
    assert_eq!(named.actor.unwrap().pid, 2);
    assert_eq!(named.attribution.confidence, Confidence::Exact);
    assert_eq!(named.others[0].pid, 1);
}

#[test]
fn records_that_are_missing_touch_only_what_may_have_been_done_meanwhile() {
    let at = |seconds| Window { whole: Duration::from_secs(seconds), ..Window::default() };
    let gap = Some(Duration::from_secs(10));
    assert!(!at(9).is_after(gap) && !at(10).is_after(gap));
    assert!(!at(11).is_after(gap), "who had it open then may still have it mapped");
    assert!(at(12).is_after(gap) && at(0).is_after(None));
}

#[test]
fn whoever_changed_flags_of_anything_is_not_named_for_an_inode_that_came_without_the_bit() {
    let mut testimony = flags_changed(false);
    testimony.unrecorded.clear();
    testimony.deeds[0].of.clear();
    for inherited in [Vec::new(), vec![KEY]] {
        testimony.deeds[0].inherited = inherited;
        let named = who_cleared_where(&testimony, true);
        assert_eq!(named.actor.unwrap().pid, 2, "nobody else changed flags");
        assert_eq!(named.attribution.confidence, Confidence::Exact);
        let named = who_cleared_where(&testimony, false);
        assert_ne!(named.attribution.confidence, Confidence::Exact);
        assert_eq!(named.attribution.source, Source::OpenPermission);
    }
}

#[test]
fn whoever_held_it_and_changed_some_flags_comes_first_before_one_that_is_not_recorded() {
    let named = who_cleared(&flags_changed(false));
    assert_eq!(named.actor.unwrap().pid, 2);
    assert_eq!(named.attribution.confidence, Confidence::Opener);
    assert_eq!(named.others[0].pid, 1);
}

#[test]
fn whoever_reads_a_file_is_not_said_to_have_mounted_something_over_it() {
    let named = name_culprit(Kind::Shadowed, &[], &[actor(1)], &none());
    assert!(named.actor.is_none());
    assert_eq!(named.attribution.confidence, Confidence::Unknown);
}

#[test]
fn whoever_can_write_goes_before_those_who_came_later_and_can_only_read() {
    let testimony = Testimony { writing: vec![actor(2)], ..Testimony::default() };
    let evidence = Evidence { testimony: &testimony, windows: &[], nature: Nature::default() };
    let openers = [actor(3), actor(2), actor(1)];
    let named = |kind| {
        let named = name_culprit(kind, &[], &openers, &evidence);
        let others: Vec<u32> = named.others.iter().map(|other| other.pid).collect();
        (named.actor.unwrap().pid, others)
    };
    assert_eq!(named(Kind::ContentChanged), (2, vec![3, 1]));
    // That takes no more than to have it open.
    assert_eq!(named(Kind::ImmutableCleared), (3, vec![2, 1]));
}
