//! Which incidents are told of together: those that can wait, once an hour, and those of a mass
//! change. Pure: the clock is an argument.
//!
//! Whatever is gathered is put at once, with a moment before which it is not to be delivered, and
//! put again as it grows: a daemon that dies in between loses none of it. What a message told
//! of before it was known to be part of a mass is withdrawn, if it was not delivered yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::item::Item;
use super::mass::{LONGEST, Mass};
use crate::engine::{Moment, later};
use crate::record::{Event, Kind};

/// What can wait is told of so long after the first of it.
const DIGEST: SignedDuration = SignedDuration::from_hours(1);
/// A digest of more incidents than this is sent before its time.
const MOST_IN_DIGEST: usize = 200;
/// A message about a mass tells of this many incidents one by one.
const MOST_IN_MASS: usize = 100;
/// What could not be put right is told of beyond that, up to this many.
const MOST_FAILED: usize = 1000;
/// And of this many events of each incident.
const MOST_EVENTS: usize = 6;
/// What still happens to the files of a mass that was told of is told so much later.
const AFTERWARDS: SignedDuration = SignedDuration::from_secs(30);
/// So long it may be found that an incident is part of a mass.
const RECENT: Duration = Duration::from_secs(10);
/// So many of these are remembered.
const MOST_RECENT: usize = 64;

/// What is to be done now.
#[derive(Debug, Default, PartialEq)]
pub struct Turnout {
    /// To be recorded: a mass change that is over.
    pub events: Vec<Event>,
    /// To be put into the spool.
    pub items: Vec<Item>,
    /// Incidents whose items are to be withdrawn once the others are put.
    pub withdrawn: Vec<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Gatherer {
    mass: Mass,
    recent: VecDeque<Recent>,
    /// The message about the mass that is under way, or was last.
    together: Option<Bundle>,
    /// The incidents of that mass, once it is over.
    parts: BTreeSet<String>,
    digest: Option<Bundle>,
    turnout: Turnout,
}

/// A message about one incident, which may turn out to be part of a mass.
#[derive(Debug)]
struct Recent {
    at: Duration,
    item: Item,
    /// It was handed out to be put.
    put: bool,
}

/// Incidents that are told of in one message.
#[derive(Debug)]
struct Bundle {
    id: String,
    not_before: Timestamp,
    /// What stands before them.
    head: Option<Event>,
    members: BTreeMap<String, Vec<Event>>,
    /// It is not on the disk as it is.
    changed: bool,
}

impl Gatherer {
    /// Takes note of an event that is recorded.
    pub fn recorded(&mut self, now: Moment, event: &Event) {
        if !self.mass.note(now, event) {
            return;
        }
        let Some((id, head)) = self.mass.so_far(now.wall) else { return };
        let longest = SignedDuration::try_from(LONGEST).unwrap_or(AFTERWARDS);
        let mut together = Bundle::new(id, later(now.wall, longest));
        together.head = Some(head);
        for Recent { item, put, .. } in self.recent.drain(..) {
            if self.mass.has(&item.incident) {
                self.turnout.withdrawn.push(item.incident.clone());
                together.add(item, MOST_IN_MASS);
            } else if !put {
                self.turnout.items.push(item);
            }
        }
        self.together = Some(together);
    }

    /// Takes a message about one incident; `waits` if it is for the digest.
    pub fn take(&mut self, now: Moment, item: Item, waits: bool) {
        if waits {
            return self.take_for_digest(now, item);
        }
        if let Some(together) = &mut self.together
            && (self.mass.has(&item.incident) || self.parts.contains(&item.incident))
        {
            if together.not_before < now.wall {
                together.not_before = later(now.wall, AFTERWARDS);
            }
            return together.add(item, MOST_IN_MASS);
        }
        // What it says takes the place of what was said before.
        self.recent.retain(|old| old.item.incident != item.incident);
        let is_old = |old: &Recent| now.mono.saturating_sub(old.at) >= RECENT;
        while self.recent.len() >= MOST_RECENT || self.recent.front().is_some_and(is_old) {
            let Some(old) = self.recent.pop_front() else { break };
            if !old.put {
                self.turnout.items.push(old.item);
            }
        }
        self.recent.push_back(Recent { at: now.mono, item, put: false });
    }

    fn take_for_digest(&mut self, now: Moment, item: Item) {
        let due = |digest: &mut Bundle| {
            let behind = digest.not_before <= now.wall;
            // A clock that was set back does not keep it for longer.
            behind || digest.not_before > later(now.wall, DIGEST)
        };
        if let Some(mut over) = self.digest.take_if(due) {
            self.turnout.items.extend(over.item());
        }
        let id = || format!("digest-{}", now.wall.strftime("%Y%m%dT%H%M%S.%6f"));
        let digest = self.digest.get_or_insert_with(|| Bundle::new(id(), later(now.wall, DIGEST)));
        digest.add(item, usize::MAX);
        if digest.members.len() >= MOST_IN_DIGEST
            && let Some(mut full) = self.digest.take()
        {
            full.not_before = now.wall;
            self.turnout.items.extend(full.item());
        }
    }

    /// What is to be done now. With `at_once` nothing is waited for any longer.
    pub fn turnout(&mut self, now: Moment, at_once: bool) -> Turnout {
        if let Some((event, parts)) = self.mass.ended(now, at_once) {
            self.parts = parts;
            if let Some(together) = &mut self.together {
                together.head = Some(event.clone());
                together.not_before = now.wall;
                together.changed = true;
            }
            self.turnout.events.push(event);
        }
        let mut turnout = std::mem::take(&mut self.turnout);
        for recent in self.recent.iter_mut().filter(|recent| !recent.put) {
            recent.put = true;
            turnout.items.push(recent.item.clone());
        }
        let bundles = [&mut self.together, &mut self.digest];
        turnout.items.extend(bundles.into_iter().flatten().filter_map(Bundle::item));
        turnout
    }
}

impl Bundle {
    fn new(id: String, not_before: Timestamp) -> Self {
        Self { id, not_before, head: None, members: BTreeMap::new(), changed: false }
    }

    /// Adds an incident, or what more is known of one, as long as there are not too many.
    fn add(&mut self, item: Item, most: usize) {
        let Item { incident, mut events, .. } = item;
        let failed = |event: &Event| matches!(event.kind, Kind::RestoreFailed | Kind::Contested);
        let most = if events.iter().any(failed) { most.max(MOST_FAILED) } else { most };
        if self.members.len() >= most && !self.members.contains_key(&incident) {
            return;
        }
        if let Some(surplus) = events.len().checked_sub(MOST_EVENTS) {
            // The first tell what happened, the last how it ended.
            let half = MOST_EVENTS / 2;
            events.drain(half..half + surplus);
        }
        if self.members.get(&incident) != Some(&events) {
            self.members.insert(incident, events);
            self.changed = true;
        }
    }

    /// What is to be put, if that is not on the disk yet. A mass that nobody wants to be told of
    /// has no members.
    fn item(&mut self) -> Option<Item> {
        if !std::mem::take(&mut self.changed) || self.members.is_empty() {
            return None;
        }
        let members = self.members.values().flatten();
        let events = self.head.iter().chain(members).cloned().collect();
        Some(Item { incident: self.id.clone(), not_before: self.not_before, events })
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
