//! One incident as a message to a person. Pure: the host and its time zone are arguments.
//!
//! Paths, command lines and names were chosen by whoever tampered. They are escaped, so none
//! of them can begin a new line, let alone a header, and every part has a limit, so none can
//! bury the rest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::outcome::{Outcome, outcome};
use super::several;
use super::wording::{
    bounded, clock, clock_and_day, command_line, confidence, deed, moment, path, process, quote,
    rank, took, user, value,
};
use crate::attribute::{Actor, Confidence};
use crate::record::{Event, Kind, PathText, Response};

/// The longest path in a subject, and in a body, characters.
const SUBJECT_PATH: usize = 80;
const BODY_PATH: usize = 1000;

/// At most this many of each: events, differing facts, parents, bystanders, paths.
const MAX_EVENTS: usize = 40;
const MAX_FACTS: usize = 24;
const MAX_PARENTS: usize = 16;
const MAX_OTHERS: usize = 8;
const MAX_PATHS: usize = 5;

/// Where it happened.
#[derive(Clone, Debug)]
pub struct Place {
    /// The host's name.
    pub host: String,
    /// The zone that its people live in.
    pub zone: TimeZone,
}

/// A message, plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line of printable characters.
    pub subject: String,
    /// Lines that end in `\n`.
    pub body: String,
}

/// Writes the message about an incident, whose `events` come oldest first, or about several.
#[must_use]
pub fn compose(place: &Place, events: &[Event]) -> Message {
    let incidents = several::incidents(events);
    if incidents.len() > 1 {
        return several::compose(place, &incidents);
    }
    let Some(story) = Story::of(events) else {
        let subject = format!("[steadfast {}] nothing is known", bounded(&place.host, 64));
        return Message { body: format!("{subject}\n"), subject };
    };
    let subject = format!("[steadfast {}] {}", bounded(&place.host, 64), story.headline());
    let mut body = format!("{}\n\n", story.first_sentence(place));
    story.summary(place, &mut body);
    story.differences(&mut body);
    story.culprit(&mut body);
    story.bystanders(&mut body);
    story.timeline(&mut body, &place.zone);
    story.advice(&mut body);
    Message { subject, body }
}

/// An incident, looked at as a whole.
pub(super) struct Story<'a> {
    events: &'a [Event],
    /// The event that stands for the incident.
    head: &'a Event,
    /// The event that names the process best.
    by: &'a Event,
    paths: Vec<&'a PathText>,
    /// `None` where nobody tampered with anything.
    outcome: Option<Outcome>,
}

impl<'a> Story<'a> {
    pub(super) fn of(events: &'a [Event]) -> Option<Self> {
        // Of equals the first.
        let head = events.iter().rev().max_by_key(|event| rank(event.kind))?;
        let known = events.iter().filter(|event| event.actor.is_some());
        let by = if head.actor.is_some() {
            head
        } else {
            known.rev().max_by_key(|event| event.attribution.confidence).unwrap_or(head)
        };
        let mut paths: Vec<&PathText> = Vec::new();
        for path in head.path.iter().chain(events.iter().filter_map(|event| event.path.as_ref())) {
            if paths.len() <= MAX_PATHS && !paths.contains(&path) {
                paths.push(path);
            }
        }
        Some(Self { events, head, by, paths, outcome: outcome(events) })
    }

    pub(super) fn headline(&self) -> String {
        let Some(subject) = self.paths.first() else {
            let mut text = deed(self.head.kind).to_owned();
            if let Some(note) = &self.head.note {
                let _ = write!(text, ": {}", bounded(note, SUBJECT_PATH));
            }
            return text;
        };
        let mut text = path(subject, SUBJECT_PATH);
        match self.paths.len() {
            1 => {}
            all if all > MAX_PATHS => text.push_str(" and many more"),
            all => text.push_str(&format!(" and {} more", all - 1)),
        }
        let _ = write!(text, " {}", deed(self.head.kind));
        let Some(outcome) = self.outcome else { return text };
        if matches!(self.head.kind, Kind::Restored | Kind::Relocked) {
            return text;
        }
        if let Some(actor) = &self.by.actor {
            let name = bounded(&actor.comm, 32);
            let _ = match self.by.attribution.confidence {
                Confidence::Exact => write!(text, " by {name}"),
                Confidence::Opener | Confidence::Unknown => write!(text, ", {name} had it open"),
            };
        }
        let _ = write!(text, ", {}", outcome.in_subject());
        text
    }

    fn first_sentence(&self, place: &Place) -> String {
        let host = bounded(&place.host, 64);
        match self.outcome {
            Some(outcome) => format!(
                "Somebody tampered with what steadfast guards on {host}.\n{}",
                outcome.sentence()
            ),
            None => format!("steadfast on {host} has something to tell."),
        }
    }

    fn summary(&self, place: &Place, body: &mut String) {
        for path_text in self.paths.iter().take(MAX_PATHS) {
            line(body, "What", &path(path_text, BODY_PATH));
        }
        if self.paths.len() > MAX_PATHS {
            line(body, "", "… and more");
        }
        line(body, "Event", deed(self.head.kind));
        line(body, "When", &moment(self.head.time, &place.zone));
        if self.outcome.is_some() {
            if let Some(actor) = &self.by.actor {
                line(body, "Who", &process(actor));
            }
            line(body, "", &confidence(self.by));
            match self.actors().len() {
                0 | 1 => {}
                2 => line(body, "", "Another process did something too: see what happened, below."),
                all => {
                    let rest = all - 1;
                    line(
                        body,
                        "",
                        &format!("{rest} others did something too: see what happened, below."),
                    );
                }
            }
        }
        // Several events tell of one answer: each is told once, as it was last.
        let mut answers: Vec<&Response> = Vec::new();
        for response in self.events.iter().flat_map(|event| &event.response) {
            let same = |known: &&Response| {
                (&known.action, &known.outcome) == (&response.action, &response.outcome)
            };
            match answers.iter().position(same) {
                Some(at) => drop(answers.splice(at..=at, [response])),
                None => answers.push(response),
            }
        }
        for response in answers.into_iter().take(MAX_EVENTS) {
            let (action, outcome) =
                (bounded(&response.action, 40), bounded(&response.outcome, 300));
            line(body, "Answer", &format!("{action}: {outcome}, after {}", took(response.took_us)));
        }
        if let Some(incident) = &self.head.incident {
            line(body, "Incident", &bounded(incident, 64));
        }
    }

    fn differences(&self, body: &mut String) {
        let mut facts: BTreeMap<(&str, &str), (String, String)> = BTreeMap::new();
        for event in self.events {
            let path = event.path.as_ref().map_or("", |path| path.path.as_str());
            for name in event.before.keys().chain(event.after.keys()) {
                let (was, is) = (value(event.before.get(name)), value(event.after.get(name)));
                // Of two reports the later one tells how it was found last.
                facts.insert((path, name), (was, is));
            }
        }
        if facts.is_empty() {
            return;
        }
        body.push_str("\nWhat differed (known good -> found)\n");
        for ((path, name), (was, is)) in facts.iter().take(MAX_FACTS) {
            let of = match self.paths.len() {
                0 | 1 => String::new(),
                _ => format!("  [{}]", bounded(path, 200)),
            };
            line(body, &bounded(name, 40), &format!("{was} -> {is}{of}"));
        }
        more(body, facts.len(), MAX_FACTS);
    }

    fn culprit(&self, body: &mut String) {
        let Some(actor) = &self.by.actor else { return };
        body.push_str("\nThe process\n");
        describe(body, actor);
    }

    fn bystanders(&self, body: &mut String) {
        let mut told = self.actors();
        let mut others: Vec<&Actor> = Vec::new();
        for other in self.events.iter().flat_map(|event| &event.others) {
            if !told.iter().any(|known| known.is_same(other)) {
                told.push(other);
                others.push(other);
            }
        }
        if others.is_empty() {
            return;
        }
        body.push_str("\nAlso had it open\n");
        for actor in others.iter().take(MAX_OTHERS) {
            let _ = writeln!(body, "  {}: {}", process(actor), command_line(&actor.cmdline));
        }
        more(body, others.len(), MAX_OTHERS);
    }

    /// Everybody who is named for something, once.
    fn actors(&self) -> Vec<&'a Actor> {
        let mut all: Vec<&Actor> = Vec::new();
        for actor in self.events.iter().filter_map(|event| event.actor.as_ref()) {
            if !all.iter().any(|known| known.is_same(actor)) {
                all.push(actor);
            }
        }
        all
    }

    fn timeline(&self, body: &mut String, zone: &TimeZone) {
        body.push_str("\nWhat happened, in order (local time)\n");
        // What took long to find out is on record later than what came after it.
        let mut events: Vec<&Event> = self.events.iter().collect();
        events.sort_by_key(|event| event.time);
        for event in events.into_iter().take(MAX_EVENTS) {
            let _ = write!(body, "  {}  {}", clock(event.time, zone), event.kind.name());
            if let Some(path_text) = event.path.as_ref().filter(|_| self.paths.len() > 1) {
                let _ = write!(body, "  {}", path(path_text, 200));
            }
            if let Some(actor) = &event.actor {
                let name = format!("{} (pid {})", bounded(&actor.comm, 64), actor.pid);
                let _ = match event.attribution.confidence {
                    Confidence::Exact => write!(body, "  by {name}"),
                    Confidence::Opener | Confidence::Unknown => {
                        write!(body, "  {name} had it open")
                    }
                };
            }
            if let Some(note) = &event.note {
                let _ = write!(body, "  ({})", bounded(note, 300));
            }
            if let Some(span) = event.window {
                let (from, to) = (clock_and_day(span.from, zone), clock_and_day(span.to, zone));
                let _ = write!(body, "  (between {from} and {to})");
            }
            body.push('\n');
        }
        more(body, self.events.len(), MAX_EVENTS);
    }

    fn advice(&self, body: &mut String) {
        body.push_str("\nWhat to do next\n");
        let Some(first) = self.paths.first() else {
            body.push_str("  steadfast status\n");
            return;
        };
        let path = first.to_path();
        let path = quote(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
        let _ = writeln!(body, "  steadfast who {path}\n      who has touched it, and when");
        if self.head.kind == Kind::Created {
            let _ = writeln!(
                body,
                "  steadfast accept {path}\n      if it belongs there; otherwise remove it"
            );
            return;
        }
        let kept = |event: &Event| {
            let taken_out = matches!(event.kind, Kind::ContentChanged | Kind::Replaced);
            taken_out && event.response.iter().any(|response| response.outcome == "done")
        };
        if self.events.iter().any(kept) {
            let _ =
                writeln!(body, "  steadfast diff --last {path}\n      what they tried to change");
        }
        let is_wrong = [Outcome::Failed, Outcome::Open, Outcome::Contested].map(Some);
        if is_wrong.contains(&self.outcome) {
            let _ =
                writeln!(body, "  steadfast restore {path}\n      put the known-good copy back");
            let _ = writeln!(
                body,
                "  steadfast accept {path}\n      or keep what is there now, if it is legitimate"
            );
        }
    }
}

/// Everything about a process.
fn describe(body: &mut String, actor: &Actor) {
    let text = |text: &Option<String>| text.as_ref().map(|text| bounded(text, 500));
    line(body, "name", &bounded(&actor.comm, 64));
    optional(body, "executable", text(&actor.exe));
    line(body, "command", &command_line(&actor.cmdline));
    line(body, "pid", &actor.pid.to_string());
    line(body, "user", &user(actor.uid, actor.user.as_deref()));
    let login = actor.login_uid.map(|uid| user(uid, actor.login_user.as_deref()));
    line(body, "logged in", &login.unwrap_or_else(|| "nobody: no login started it".to_owned()));
    optional(body, "session", actor.session.map(|session| session.to_string()));
    optional(body, "terminal", text(&actor.tty));
    optional(body, "directory", text(&actor.cwd));
    optional(body, "unit", text(&actor.unit));
    optional(body, "user's unit", text(&actor.user_unit));
    optional(body, "container", text(&actor.container_name));
    optional(body, "its id", text(&actor.container));
    for (at, parent) in actor.ancestry.iter().take(MAX_PARENTS).enumerate() {
        let label = if at == 0 { "started by" } else { "" };
        let (comm, command) = (bounded(&parent.comm, 64), command_line(&parent.cmdline));
        line(body, label, &format!("{comm} (pid {}): {}", parent.pid, bounded(&command, 300)));
    }
    more(body, actor.ancestry.len(), MAX_PARENTS);
}

fn optional(body: &mut String, label: &str, value: Option<String>) {
    if let Some(value) = value {
        line(body, label, &value);
    }
}

fn line(body: &mut String, label: &str, value: &str) {
    let _ = writeln!(body, "  {label:<12}{value}");
}

fn more(body: &mut String, all: usize, shown: usize) {
    if let Some(rest) = all.checked_sub(shown).filter(|rest| *rest > 0) {
        let _ = writeln!(body, "  … and {rest} more");
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
