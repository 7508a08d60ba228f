use std::path::Path;

use super::*;
use crate::record::Severity;

fn at(secs: u64) -> Moment {
    let wall = Timestamp::from_second(1_795_229_488 + secs.cast_signed()).unwrap();
    Moment { mono: Duration::from_secs(secs), wall }
}

fn event(kind: Kind, n: usize) -> Event {
    let path = format!("/srv/f{n}");
    let mut event = Event::new(at(0).wall, kind, Severity::Warning).about(Path::new(&path));
    event.incident = Some(format!("i-{n}"));
    event
}

fn item(now: Moment, n: usize, kinds: &[Kind]) -> Item {
    let events = kinds.iter().map(|kind| event(*kind, n)).collect();
    Item { incident: format!("i-{n}"), not_before: now.wall, events }
}

const CHANGED: &[Kind] = &[Kind::ContentChanged, Kind::Restored];

fn incidents(item: &Item) -> BTreeSet<String> {
    item.events.iter().filter_map(|event| event.incident.clone()).collect()
}

#[test]
fn a_message_that_is_not_to_wait_is_put_as_it_is() {
    let mut gatherer = Gatherer::default();
    gatherer.take(at(0), item(at(0), 1, CHANGED), false);
    let turnout = gatherer.turnout(at(0), false);
    assert_eq!(turnout.items, [item(at(0), 1, CHANGED)]);
    assert_eq!(gatherer.turnout(at(1), false), Turnout::default());
}

#[test]
fn what_can_wait_is_told_in_one_message_an_hour_and_is_on_the_disk_at_once() {
    let mut gatherer = Gatherer::default();
    let mut put: BTreeMap<String, Item> = BTreeMap::new();
    // One incident a minute for three hours, each of which grows once.
    for minute in 0..180 {
        let now = at(minute * 60);
        let n = usize::try_from(minute).unwrap();
        for kinds in [&CHANGED[..1], CHANGED] {
            gatherer.take(now, item(now, n, kinds), true);
            let turnout = gatherer.turnout(now, false);
            assert_eq!(turnout.items.len(), 1, "on the disk at once");
            put.extend(turnout.items.into_iter().map(|item| (item.incident.clone(), item)));
        }
    }
    assert_eq!(put.len(), 3, "{:?}", put.keys());
    let told: Vec<_> = put.values().map(|item| (incidents(item).len(), item.not_before)).collect();
    let due = |hour: u64| at(hour * 3600).wall;
    assert_eq!(told, [(60, due(1)), (60, due(2)), (60, due(3))]);
    assert!(put.values().all(|item| item.events.len() == 120), "as much as is known");
}

#[test]
fn nothing_is_put_again_that_has_not_changed() {
    let mut gatherer = Gatherer::default();
    gatherer.take(at(0), item(at(0), 1, CHANGED), true);
    assert_eq!(gatherer.turnout(at(0), false).items.len(), 1);
    gatherer.take(at(5), item(at(5), 1, CHANGED), true);
    assert_eq!(gatherer.turnout(at(5), false), Turnout::default());
}

#[test]
fn a_digest_that_is_full_is_due_at_once_and_loses_nothing() {
    let mut gatherer = Gatherer::default();
    let mut put: BTreeMap<String, Item> = BTreeMap::new();
    for n in 0..500 {
        let now =
            Moment { mono: Duration::ZERO, wall: at(0).wall + SignedDuration::from_millis(n) };
        gatherer.take(now, item(now, usize::try_from(n).unwrap(), CHANGED), true);
        let items = gatherer.turnout(now, false).items;
        put.extend(items.into_iter().map(|item| (item.incident.clone(), item)));
    }
    let sizes: Vec<usize> = put.values().map(|item| incidents(item).len()).collect();
    assert_eq!(sizes, [200, 200, 100]);
}

/// Every file of a mass: its event is recorded, its message taken and put.
fn mass(count: usize, kinds: &[Kind]) -> (Gatherer, BTreeMap<String, Item>) {
    let mut gatherer = Gatherer::default();
    let mut spool = BTreeMap::new();
    for n in 0..count {
        gatherer.recorded(at(0), &event(Kind::ContentChanged, n));
        gatherer.take(at(0), item(at(0), n, kinds), false);
        play(&mut spool, gatherer.turnout(at(0), false));
    }
    (gatherer, spool)
}

fn play(spool: &mut BTreeMap<String, Item>, turnout: Turnout) -> Vec<Event> {
    spool.extend(turnout.items.into_iter().map(|item| (item.incident.clone(), item)));
    turnout.withdrawn.iter().for_each(|incident| drop(spool.remove(incident)));
    turnout.events
}

#[test]
fn a_mass_is_one_event_and_one_message_instead_of_one_for_each_file() {
    let (mut gatherer, mut spool) = mass(40, CHANGED);
    assert_eq!(spool.len(), 1, "{:?}", spool.keys());
    assert!(spool.values().all(|item| item.not_before > at(50).wall), "it may still grow");
    let events = play(&mut spool, gatherer.turnout(at(6), false));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].after["files"], 40);
    let item = spool.values().next().unwrap();
    assert_eq!((spool.len(), item.not_before), (1, at(6).wall));
    assert_eq!(item.events[0], events[0]);
    assert_eq!(incidents(item).len(), 41);
    assert_eq!(gatherer.turnout(at(90), false), Turnout::default());
}

#[test]
fn what_comes_of_it_later_follows_in_the_same_thread_and_of_every_file() {
    let (mut gatherer, mut spool) = mass(400, CHANGED);
    play(&mut spool, gatherer.turnout(at(6), false));
    assert_eq!(incidents(spool.values().next().unwrap()).len(), MOST_IN_MASS + 1);
    gatherer.take(at(9), item(at(9), 399, &[Kind::ContentChanged]), false);
    gatherer.take(at(9), item(at(9), 398, &[Kind::ContentChanged, Kind::RestoreFailed]), false);
    play(&mut spool, gatherer.turnout(at(9), false));
    assert_eq!(spool.len(), 1, "no message for each: {:?}", spool.keys());
    let item = spool.values().next().unwrap();
    assert!(incidents(item).contains("i-398"), "what failed is told in any case");
    assert_eq!(item.not_before, at(39).wall);
    // Another change of the same file is another matter.
    gatherer.take(at(50), item_of("later", 1), false);
    play(&mut spool, gatherer.turnout(at(50), false));
    assert!(spool.contains_key("later"));
}

fn item_of(incident: &str, n: usize) -> Item {
    Item { incident: incident.to_owned(), ..item(at(50), n, CHANGED) }
}

#[test]
fn a_mass_that_nobody_wants_to_be_told_of_is_recorded_and_not_mailed() {
    let mut gatherer = Gatherer::default();
    (0..40).for_each(|n| gatherer.recorded(at(0), &event(Kind::Deleted, n)));
    let turnout = gatherer.turnout(at(0), true);
    assert_eq!((turnout.events.len(), turnout.items.len()), (1, 0));
}
