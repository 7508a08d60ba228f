//! Several incidents in one message: a digest, or a mass change. Each has a line.

use std::fmt::Write as _;

use super::message::{Message, Place, Story};
use super::outcome::outcome;
use super::wording::{bounded, clock, command_line, moment, process, quote};
use crate::record::{Event, Kind};

/// At most this many have a line of their own.
const MAX_INCIDENTS: usize = 100;
const MAX_NOTE: usize = 500;

/// The events of each incident, in the order in which the incidents began. Events that belong to
/// none count as one.
pub(super) fn incidents(events: &[Event]) -> Vec<Vec<Event>> {
    let mut all: Vec<Vec<Event>> = Vec::new();
    for event in events {
        let same = |known: &&mut Vec<Event>| known.iter().any(|k| k.incident == event.incident);
        match all.iter_mut().find(same) {
            Some(known) => known.push(event.clone()),
            None => all.push(vec![event.clone()]),
        }
    }
    all.sort_by_key(|events| events.first().map(|event| event.time));
    all
}

/// Writes the message about several incidents.
pub(super) fn compose(place: &Place, incidents: &[Vec<Event>]) -> Message {
    let is_mass = |event: &&Event| event.kind == Kind::MassChange;
    let mass = incidents.iter().flatten().find(is_mass);
    let each: Vec<&Vec<Event>> =
        incidents.iter().filter(|events| !events.iter().any(|e| is_mass(&e))).collect();
    let worst = each.iter().filter_map(|events| outcome(events)).max();
    let host = bounded(&place.host, 64);
    let mut what = match mass {
        Some(mass) => bounded(mass.note.as_deref().unwrap_or("many files changed"), 120),
        None => format!("{} incidents", each.len()),
    };
    if let Some(actor) = mass.and_then(|mass| mass.actor.as_ref()) {
        let _ = write!(what, " by {}", bounded(&actor.comm, 32));
    }
    let ending = worst.map_or(String::new(), |worst| format!(", {}", worst.in_subject()));
    let subject = format!("[steadfast {host}] {what}{ending}");
    let mut body = format!("Somebody tampered with what steadfast guards on {host}: {what}.\n");
    if let Some(worst) = worst {
        let _ = writeln!(body, "Of all of it the worst: {}", worst.sentence());
    }
    if let Some(mass) = mass {
        describe(place, mass, &mut body);
    }
    body.push_str("\nOne by one (local time)\n");
    for events in each.iter().take(MAX_INCIDENTS) {
        if let (Some(first), Some(story)) = (events.first(), Story::of(events)) {
            let _ = writeln!(body, "  {}  {}", clock(first.time, &place.zone), story.headline());
        }
    }
    if let Some(more) = each.len().checked_sub(MAX_INCIDENTS).filter(|more| *more > 0) {
        let _ = writeln!(body, "  … and {more} more");
    }
    advice(mass, &mut body);
    Message { subject, body }
}

fn describe(place: &Place, mass: &Event, body: &mut String) {
    let _ = writeln!(body, "\n  Until       {}", moment(mass.time, &place.zone));
    if let Some(note) = &mass.note {
        let _ = writeln!(body, "  What        {}", bounded(note, MAX_NOTE));
    }
    if let Some(actor) = &mass.actor {
        let _ = writeln!(body, "  Who         {}", process(actor));
        let _ = writeln!(body, "  Command     {}", command_line(&actor.cmdline));
    }
}

fn advice(mass: Option<&Event>, body: &mut String) {
    body.push_str("\nWhat to do next\n");
    if let Some(path) = mass.and_then(|mass| mass.path.as_ref()) {
        let path = path.to_path();
        let path = quote(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
        let _ = writeln!(body, "  steadfast who {path}\n      who has touched it, and when");
        let _ = writeln!(
            body,
            "  steadfast accept {path}\n      if it was an upgrade: run it again in the end, and \
             accept what is there then"
        );
    }
    body.push_str("  steadfast events --since 2h\n      everything that happened\n");
    body.push_str("  steadfast audit\n      whether all is as it should be\n");
}
