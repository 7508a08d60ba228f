//! The time in which a change was made, by which audit is asked who made it.

use std::time::Duration;

use steadfast::engine::{Action, Cure};
use steadfast::judge::Policy;
use steadfast::sense::Hint;

use crate::case::{Case, heals};

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
    case.event(Hint::Opened);
    // The kernel clears the bit, somebody looks, and only then does it set the time.
    let out = case.saw(seen);
    assert!(heals(&out, Cure::Relock), "{out:?}");
    let noticed = case.now().wall.as_second();
    let asked = case.asked();
    assert_eq!(asked.windows[0].until.sec, noticed, "it may have been done up to then");
    assert_eq!(asked.changed, None, "whoever opened it at that time opened it before the change");
}

#[test]
fn a_change_was_made_by_the_time_that_the_inode_has_for_it() {
    let mut case = Case::new(Policy::default());
    case.look();
    case.world.change(0, |file| file.immutable = false);
    case.event(Hint::Metadata);
    assert!(heals(&case.look(), Cure::Relock));
    let time = case.world.stat(0).ctime;
    let asked = case.asked();
    assert_eq!((asked.windows[0].until, asked.changed), (time, Some(time)));
}
