//! Many protected files changed within moments: one upgrade, one `rm -rf`. Pure: the clock is
//! an argument.
//!
//! A mass begins with the tenth path that is changed within ten seconds, and ends when no other
//! has been for five, or after a minute. What they have in common is said only where it holds
//! for every one of them.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::attribute::Actor;
use crate::engine::Moment;
use crate::record::{Event, Kind, Severity};
use crate::text::{escape, escape_path};

/// So many paths make a mass.
const MANY: usize = 10;
/// If they change within this time.
const WITHIN: Duration = Duration::from_secs(10);
/// It is over when no other path has changed for so long.
const QUIET: Duration = Duration::from_secs(5);
/// And after this long in any case: a person wants to know.
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// Of more paths than this the rest is not counted.
const MOST: usize = 100_000;

/// What was seen of one path.
#[derive(Debug)]
struct Change {
    at: Duration,
    path: PathBuf,
    incident: Option<String>,
    event: Event,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Mass {
    /// Changes of the last moments, the oldest first.
    recent: VecDeque<Change>,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    id: String,
    began: Duration,
    last: Duration,
    paths: BTreeSet<PathBuf>,
    incidents: BTreeSet<String>,
    common: Common,
}

/// What holds for every change so far.
#[derive(Debug)]
struct Common {
    /// The first change.
    first: Event,
    directory: PathBuf,
    /// The process, and the ones that started it, as far as they are the same: the nearest first.
    line: Vec<(u32, String)>,
    same_process: bool,
    unit: Option<String>,
}

impl Mass {
    /// Takes note of a change. True if with it a mass began.
    pub(super) fn note(&mut self, now: Moment, event: &Event) -> bool {
        // A stranger is no protected file, and all those of a directory are one incident.
        let counts = event.kind.is_tampering() && event.kind != Kind::Created;
        let Some(path) = event.path.as_ref().filter(|_| counts) else {
            return false;
        };
        let change = Change {
            at: now.mono,
            path: path.to_path(),
            incident: event.incident.clone(),
            event: event.clone(),
        };
        if let Some(under_way) = &mut self.under_way {
            under_way.add(&change);
            return false;
        }
        self.recent.retain(|one| now.mono.saturating_sub(one.at) < WITHIN);
        if self.recent.iter().any(|one| one.path == change.path) {
            return false;
        }
        self.recent.push_back(change);
        if self.recent.len() < MANY {
            return false;
        }
        let id = format!("mass-{}", now.wall.strftime("%Y%m%dT%H%M%S.%6f"));
        let mut changes = std::mem::take(&mut self.recent).into_iter();
        self.under_way = changes.next().map(|first| {
            let mut under_way = UnderWay::new(id, now.mono, &first);
            changes.for_each(|change| under_way.add(&change));
            under_way
        });
        true
    }

    /// The mass that is under way: its name, and how it looks so far.
    pub(super) fn so_far(&self, wall: Timestamp) -> Option<(String, Event)> {
        let under_way = self.under_way.as_ref()?;
        Some((under_way.id.clone(), under_way.event(wall)))
    }

    /// Whether this incident is part of the mass that is under way.
    pub(super) fn has(&self, incident: &str) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| under_way.incidents.contains(incident))
    }

    /// The mass that is over now, or has to be, and the incidents that were part of it.
    pub(super) fn ended(
        &mut self,
        now: Moment,
        at_once: bool,
    ) -> Option<(Event, BTreeSet<String>)> {
        let over = self.under_way.take_if(|under_way| {
            at_once
                || now.mono.saturating_sub(under_way.last) >= QUIET
                || now.mono.saturating_sub(under_way.began) >= LONGEST
        });
        over.map(|over| (over.event(now.wall), over.incidents))
    }
}

impl UnderWay {
    fn new(id: String, now: Duration, first: &Change) -> Self {
        let mut new = Self {
            id,
            began: now,
            last: now,
            paths: BTreeSet::new(),
            incidents: BTreeSet::new(),
            common: Common::of(first),
        };
        new.add(first);
        new
    }

    fn add(&mut self, change: &Change) {
        if self.paths.len() >= MOST {
            return;
        }
        if self.paths.insert(change.path.clone()) {
            self.last = self.last.max(change.at);
        }
        self.incidents.extend(change.incident.clone());
        self.common.narrow(change);
    }

    fn event(&self, wall: Timestamp) -> Event {
        let Common { first, directory, .. } = &self.common;
        let mut event = Event::new(wall, Kind::MassChange, Severity::Critical).about(directory);
        event.incident = Some(self.id.clone());
        event.after.insert("files".to_owned(), self.paths.len().into());
        if self.common.same_process {
            event.actor.clone_from(&first.actor);
            event.attribution = first.attribution;
        }
        let count = match self.paths.len() {
            all if all >= MOST => format!("{all} protected files or more"),
            all => format!("{all} protected files"),
        };
        let place = match directory.parent() {
            Some(_) => format!(" below {}", escape_path(directory)),
            None => String::new(),
        };
        event.noting(format!("{count} changed{place}{}", self.common.by()))
    }
}

impl Common {
    fn of(first: &Change) -> Self {
        let actor = first.event.actor.as_ref();
        Self {
            first: first.event.clone(),
            directory: first.path.parent().unwrap_or(Path::new("/")).to_owned(),
            line: actor.map(line).unwrap_or_default(),
            same_process: actor.is_some(),
            unit: actor.and_then(|actor| actor.unit.clone()),
        }
    }

    fn narrow(&mut self, change: &Change) {
        while !change.path.starts_with(&self.directory) && self.directory.pop() {}
        let actor = change.event.actor.as_ref();
        let same = |a: &Actor, b: &Actor| (a.pid, a.start_time) == (b.pid, b.start_time);
        self.same_process &= actor.zip(self.first.actor.as_ref()).is_some_and(|(a, b)| same(a, b));
        let attribution = &mut self.first.attribution;
        // The whole is as sure as its least sure part.
        if change.event.attribution.confidence < attribution.confidence {
            *attribution = change.event.attribution;
        }
        let line = actor.map(line).unwrap_or_default();
        self.line.retain(|one| line.contains(one));
        if self.unit.as_ref() != actor.and_then(|actor| actor.unit.as_ref()) {
            self.unit = None;
        }
    }

    /// Who did it, as the end of a sentence, where it was not one process.
    fn by(&self) -> String {
        match (self.same_process, self.line.first(), &self.unit) {
            (true, ..) => String::new(),
            (false, Some((pid, comm)), _) => {
                format!(", all by what {} (pid {pid}) started", escape(comm.as_bytes()))
            }
            (false, None, Some(unit)) => {
                format!(", all by processes of {}", escape(unit.as_bytes()))
            }
            (false, None, None) => String::new(),
        }
    }
}

/// A process and those that started it, but for the first process of all, which started
/// everything.
fn line(actor: &Actor) -> Vec<(u32, String)> {
    let own = std::iter::once((actor.pid, actor.comm.clone()));
    let above = actor.ancestry.iter().map(|one| (one.pid, one.comm.clone()));
    own.chain(above).filter(|(pid, _)| *pid != 1).collect()
}

#[cfg(test)]
#[path = "mass_tests.rs"]
mod tests;
