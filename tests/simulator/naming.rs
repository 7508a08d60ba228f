//! When a change was made, by which it is asked who made it, and whom a line names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use steadfast::attribute::{
    Act, Actor, Confidence, Deed, InodeKey, Opened, Search, Source, Testimony, Touched, Window,
    Witnessed,
};
use steadfast::engine::{Action, Cure, Healed, Input, Opener};
use steadfast::judge::{FileTime, Policy};
use steadfast::record::{Event, Kind};
use steadfast::sense::{By, Hint};

use crate::case::{Case, FILE, heals};

#[test]
fn what_only_a_reading_shows_may_have_happened_before_the_last_look() {
    let mut case = Case::new(Policy::default());
    case.look();
    let before = Duration::from_micros(case.world.now);
    case.world.change(0, |file| (file.immutable, file.marked) = (false, true));
    case.event(Hint::Metadata);
    assert!(heals(&case.look(), Cure::Relock));
    case.world.change(0, |file| file.immutable = true);
    let relocked = case.world.stat(0);
    case.healed("relock", Ok(Some(relocked)));
    case.world.now += 20_000;
    // The bit, the mode and the times are as they should be. The attribute is not.
    case.event(Hint::Closed);
    assert!(case.look().iter().all(|action| !matches!(action, Action::Heal { .. })));
    assert!(heals(&case.inspected(false), Cure::Repair));
    case.healed("repair-metadata", Ok(Some(relocked)));
    let windows = case.asked().windows;
    assert_eq!(windows.len(), 2, "of the bit and of the attribute");
    assert!(windows.iter().all(|window| window.whole <= before), "{windows:?} {before:?}");
}

#[test]
fn a_change_that_is_seen_before_its_time_is_there_was_made_after_that_time() {
    let mut case = Case::new(Policy::default());
    case.look();
    let mut seen = case.world.stat(0);
    seen.immutable = Some(false);
    let opener = opener(&case, 7);
    case.event(Hint::Opened);
    // The kernel clears the bit, somebody looks, and only then does it set the time.
    let out = case.saw(seen);
    assert!(heals(&out, Cure::Relock), "{out:?}");
    let noticed = case.now().wall.as_second();
    let asked = case.asked();
    assert_eq!({ asked.windows[0].until.sec }, noticed, "it may have been done up to then");
    let told = case.recorded_by(asked.question, vec![opener], Testimony::default());
    assert_eq!(pids(&told), [(Kind::ImmutableCleared, Some(7))], "it may have been opened before");
}

#[test]
fn a_change_was_made_by_the_time_that_the_inode_has_for_it() {
    let mut case = Case::new(Policy::default());
    case.look();
    case.world.change(0, |file| file.immutable = false);
    case.event(Hint::Metadata);
    let (came_later, in_between) = (opener(&case, 7), opener(&case, 8));
    assert!(heals(&case.look(), Cure::Relock));
    let time = case.world.stat(0).ctime;
    let asked = case.asked();
    assert_eq!(asked.windows[0].until, time);
    let before = FileTime { sec: time.sec - 1, ..time };
    let openers = vec![came_later, Opener { found: before, ..in_between }];
    let told = case.recorded_by(asked.question, openers, Testimony::default());
    assert_eq!(pids(&told), [(Kind::ImmutableCleared, Some(8))]);
}

#[test]
fn while_somebody_has_had_a_file_open_all_the_time_whoever_opens_it_is_not_the_only_one() {
    let closed = |mut case: Case, writers| {
        case.look();
        case.inspected(writers);
        case.world.change(0, |file| file.immutable = false);
        case.event(Hint::Metadata);
        case.look();
        case.asked().windows[0].closed
    };
    assert!(closed(Case::new(Policy::default()), false));
    assert!(!closed(Case::held(), true));
    assert!(closed(Case::held(), false), "it was closed meanwhile");
}

/// Somebody who opens the file now, as it is.
fn opener(case: &Case, pid: u32) -> Opener {
    let actor = Arc::new(Actor { pid, start_time: pid.into(), ..Actor::default() });
    let at = Duration::from_micros(case.world.now);
    Opener { actor, at, found: case.world.stat(0).ctime }
}

/// Whom these name.
fn pids(told: &[Event]) -> Vec<(Kind, Option<u32>)> {
    told.iter().map(|event| (event.kind, event.actor.as_ref().map(|actor| actor.pid))).collect()
}

#[test]
fn whoever_opened_it_once_the_bit_was_cleared_may_have_changed_what_was_changed_after_that() {
    let mut case = Case::new(Policy::default());
    case.look();
    case.world.change(0, |file| file.immutable = false);
    case.event(Hint::Metadata);
    case.look();
    let opener = opener(&case, 7);
    case.world.now += 2_000;
    case.world.change(0, |file| (file.content, file.size) = (9, 8));
    let stat = case.world.stat(0);
    case.healed("relock", Ok(Some(stat)));
    case.look();
    case.world.now += 2_000;
    let reader = self::opener(&case, 8);
    let question = case.question();
    let told = case.recorded_by(question, vec![reader, opener], Testimony::default());
    let expected = [(Kind::ImmutableCleared, None), (Kind::ContentChanged, Some(7))];
    assert_eq!(pids(&told), expected);
}

#[test]
fn who_made_a_change_is_named_again_where_a_reading_tells_more_of_it_late() {
    let mut case = Case::new(Policy::default());
    case.look();
    let writer = Actor { pid: 7, start_time: 7, ..Actor::default() };
    let by = By::Process { actor: Arc::new(writer), source: Source::Pidfd };
    case.world.change(0, |file| (file.content, file.size) = (9, 8));
    case.event_by(Hint::Written, by);
    let incident = exchanged(&mut case);
    let named = |case: &mut Case| {
        let question = case.question();
        let events = case.recorded(question);
        let event = events.into_iter().find(|event| event.kind == Kind::ContentChanged).unwrap();
        (event.actor.map(|actor| actor.pid), event.attribution.confidence, event.after)
    };
    let (first, sure, after) = named(&mut case);
    assert_eq!(first, Some(7));
    assert!(!after.contains_key("sha256"), "{after:?}");
    // Now what was taken out has been read.
    case.feed(Input::Evidence {
        file: FILE,
        incident,
        facts: Some(Box::new(case.world.facts(0, true))),
        inode: Some(InodeKey::of(&case.world.stat(0))),
    });
    let (later, as_sure, after) = named(&mut case);
    assert!(after.contains_key("sha256"), "{after:?}");
    assert_eq!((later, as_sure), (first, sure));
}

/// A look leads to an exchange, and what that took out will be read. In which incident.
fn exchanged(case: &mut Case) -> String {
    let incident = case.look().into_iter().find_map(|action| match action {
        Action::Heal { incident, cure: Cure::Replace, .. } => Some(incident),
        _ => None,
    });
    case.world.stage(0);
    let replica = case.world.places[0].replica.expect("staged").0;
    case.world.places[0].name = Some(replica);
    let result = Ok(Some(case.world.stat(replica)));
    let healed = Healed { action: "exchange", result, evidence: true, from: None };
    case.feed(Input::Healed { file: FILE, healed });
    incident.expect("an exchange")
}

/// Another file of the same size is given the path, and is read a while after a heal took it out.
/// Audit knows of these two up to then. What is told of the change of content.
fn read_late(before: &Arc<Actor>, after: &Arc<Actor>) -> Event {
    let mut case = Case::new(Policy::default());
    case.look();
    let other = case.world.create_good();
    case.world.change(other, |file| (file.content, file.immutable) = (9, true));
    case.world.places[0].name = Some(other);
    case.event(Hint::Arrived);
    let incident = exchanged(&mut case);
    let asked = case.asked();
    let acts = [Act::Replaced];
    let mut testimony = done_by(before, &asked.windows, &acts);
    let last = asked.windows.iter().max_by_key(|window| window.until).copied();
    testimony.deeds.extend(done_by(after, last.as_slice(), &acts).deeds);
    let events = case.recorded_with(asked.question, testimony);
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [Kind::Replaced]);
    case.world.now += 30_000_000;
    case.feed(Input::Evidence {
        file: FILE,
        incident,
        facts: Some(Box::new(case.world.facts(other, true))),
        inode: Some(InodeKey::of(&case.world.stat(other))),
    });
    let question = case.question();
    let events = case.recorded(question);
    events.into_iter().find(|event| event.kind == Kind::ContentChanged).expect("told")
}

#[test]
fn who_did_what_is_read_late_is_asked_before_it_is_forgotten() {
    let [one, other] = [7, 8].map(|pid| Actor { pid, start_time: 7, ..Actor::default() });
    let (one, other) = (Arc::new(one), Arc::new(other));
    let line = read_late(&one, &one);
    assert_eq!(line.actor.map(|actor| actor.pid), Some(7));
    assert_eq!(line.attribution.confidence, Confidence::Exact);
    let line = read_late(&one, &other);
    assert_eq!(line.attribution.confidence, Confidence::Opener, "either may have done it");
    assert_eq!(line.others.len(), 1);
}

/// Audit saw this process clear the bit and write in each of these windows, and nobody else.
fn tampered_by(actor: &Arc<Actor>, windows: &[Window]) -> Testimony {
    done_by(actor, windows, &[Act::Flags, Act::Written])
}

/// Audit saw this process do this in each of these windows, and nobody else.
fn done_by(actor: &Arc<Actor>, windows: &[Window], acts: &[Act]) -> Testimony {
    let deed = |window: &Window, act: Act| {
        let of = vec![Touched { file: FILE, key: window.inode? }];
        let deed = Deed {
            act,
            told: true,
            of: of.into(),
            just: Opened::default(),
            inherited: Opened::default(),
            actor: Arc::clone(actor),
            began: window.until,
            over: Instant::now(),
            ended: window.until,
        };
        Witnessed::of(&mut Search::of(FILE), Arc::new(deed), window.whole, windows)
    };
    let deeds = windows.iter().flat_map(|window| acts.iter().map(|act| deed(window, *act)));
    let deeds = deeds.flatten().collect();
    Testimony { deeds, complete: true, ..Testimony::default() }
}

#[test]
fn who_is_healed_a_thousand_times_before_anybody_can_be_asked_is_named_for_all_of_it() {
    let mut case = Case::new(Policy::default());
    case.look();
    for _ in 0..1000 {
        // Another inode has the path each time.
        let there = case.world.places[0].name.unwrap();
        case.world.change(there, |file| (file.immutable, file.content, file.size) = (false, 9, 8));
        case.event(Hint::Metadata);
        assert!(heals(&case.look(), Cure::Replace));
        case.world.stage(0);
        let replica = case.world.places[0].replica.unwrap().0;
        case.world.places[0].name = Some(replica);
        case.world.change(replica, |file| file.immutable = true);
        let stat = case.world.stat(replica);
        case.healed("exchange", Ok(Some(stat)));
        case.look();
    }
    let asked = case.asked();
    let tamperer = Arc::new(Actor { pid: 7, start_time: 7, ..Actor::default() });
    let testimony = tampered_by(&tamperer, &asked.windows);
    let events = case.recorded_with(asked.question, testimony);
    let lines: Vec<_> =
        events.iter().filter(|event| event.kind == Kind::ImmutableCleared).collect();
    assert!((1..=8).contains(&lines.len()), "{} lines", lines.len());
    for line in lines {
        assert_eq!(line.attribution.confidence, Confidence::Exact, "{line:?}");
        assert_eq!(line.actor.as_ref().map(|actor| actor.pid), Some(7));
    }
}

#[test]
fn of_what_a_look_found_just_before_its_event_it_is_not_said_that_no_event_told() {
    let mut case = Case::new(Policy::default());
    case.look();
    case.world.change(0, |file| file.immutable = false);
    assert!(heals(&case.look(), Cure::Relock));
    case.event(Hint::Metadata);
    let question = case.question();
    assert_eq!(case.answered(question), [Kind::ImmutableCleared]);
}

#[test]
fn of_what_no_event_tells_it_is_said_that_none_did() {
    let mut case = Case::new(Policy::default());
    case.look();
    case.world.change(0, |file| file.immutable = false);
    assert!(heals(&case.look(), Cure::Relock));
    let question = case.question();
    assert_eq!(case.answered(question), [Kind::DriftFound, Kind::ImmutableCleared]);
}

#[test]
fn an_event_of_this_run_tells_nothing_of_what_was_changed_before_it() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |file| file.immutable = false);
    assert!(heals(&case.look(), Cure::Relock));
    case.event(Hint::Opened);
    let question = case.question();
    assert_eq!(case.answered(question), [Kind::DriftFound, Kind::ImmutableCleared]);
}
