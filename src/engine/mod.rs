//! The state machine that guards: observations, looks and outcomes in, actions out.
//!
//! It does no I/O and reads no clock, so that a simulator can play any interleaving of
//! tampering, events, lost events, sweeps and failing actions. Its invariants:
//!
//! - A file is believed whole only after a look, an inspection or a reading said so; an event
//!   is a reason to look, and no event is no reason to believe anything.
//! - At most one action that changes a file is under way for it. What is noticed meanwhile
//!   leads to another look afterwards, so tampering in the middle of a heal is never taken
//!   for the heal.
//! - Every drift is part of an incident, every incident is recorded, and one that cannot be
//!   healed is tried again until it can.

mod away;
mod brief;
mod draft;
mod failing;
mod guarded;
mod heal;
mod history;
mod incident;
mod io;
mod left;
mod newcomer;
mod outgoing;
mod reading;
mod report;
mod roster;
mod seen;
mod timers;
mod under_way;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use hashbrown::HashTable;
use jiff::Timestamp;

use crate::judge::Remedy;
use crate::sense::{FileId, FileMap, Hint, Observation, Sensor};

pub use guarded::Protected;
pub use io::{
    Action, Cure, Healed, Input, Inspection, MISSED, Moment, Opener, Past, Sight, Unread,
};

pub(crate) use outgoing::later;

use away::Unseen;
use guarded::Guarded;
use heal::Drift;
use heal::{EVIDENCE_GRACE, GRACE};
use incident::Incident;
use timers::{Timer, Timers};

/// The engine. See the module for what it promises.
pub struct Engine {
    files: FileMap<Guarded>,
    /// By what `random` makes of the path, which is kept with the file.
    by_path: HashTable<FileId>,
    random: RandomState,
    timers: Timers,
    unseen: Unseen,
    last_incident: Timestamp,
    /// A heal was ordered, and what was wrong is still to be worked out.
    drift: Option<Drift>,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            files: FileMap::default(),
            by_path: HashTable::new(),
            random: RandomState::new(),
            timers: Timers::default(),
            unseen: Unseen::default(),
            last_incident: Timestamp::UNIX_EPOCH,
            drift: None,
        }
    }
}

impl Engine {
    /// Takes one input and appends what is to be done to `out`, in order.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Action>) {
        if let Some(drift) = self.drift.take() {
            self.work_out(drift);
        }
        match input {
            Input::Watch { file, protected, past } => {
                self.watch(now, file, *protected, past, out);
            }
            Input::Unwatch { file } => self.unwatch(file),
            Input::Anew { file } => self.anew(file, out),
            Input::Policy { file, policy } => {
                if let Some(guarded) = self.files.get_mut(&file) {
                    guarded.set_policy(file, policy, out);
                }
            }
            Input::Observed(observation) => self.observed(now, observation, out),
            Input::Named(observation) => {
                if let Some(guarded) = self.files.get_mut(&observation.file) {
                    guarded.suspect(now.mono, &observation);
                }
            }
            Input::Written { file } => {
                if let Some(guarded) = self.files.get_mut(&file) {
                    guarded.written = true;
                    guarded.told = true;
                }
            }
            Input::Looked { file, sight } => self.looked(now, file, sight, out),
            Input::Inspected { file, finding } => self.inspected(now, file, finding, out),
            Input::Verified { file, epoch, finding } => {
                self.verified(now, file, epoch, finding, out);
            }
            Input::Healed { file, healed } => {
                self.healed(now, file, healed, out);
                if self.files.get(&file).is_some_and(|guarded| guarded.shown) {
                    self.shown(now, file, out);
                }
            }
            Input::Shown { file } => self.shown(now, file, out),
            Input::Evidence { file, incident, facts, inode } => {
                self.evidence(now, file, &incident, facts.as_deref().zip(inode));
            }
            Input::Stranger { file, name } => self.stranger(now, file, name, out),
            Input::Evicted { file, name, gone } => self.evicted(file, name, gone, out),
            Input::Openers { file, question, openers, testimony } => {
                self.finalize(now, file, question, (&openers, &testimony), out);
            }
            Input::Tick => self.tick(now, out),
        }
    }

    /// When the next [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.drift.is_some() {
            return Some(Duration::ZERO);
        }
        self.timers.next()
    }

    /// The file that protects `path` itself.
    #[must_use]
    pub fn id_of(&self, path: &Path) -> Option<FileId> {
        let files = &self.files;
        let same = |file: &FileId| files.get(file).is_some_and(|g| *g.protected.path == *path);
        self.by_path.find(self.random.hash_one(path), same).copied()
    }

    /// Incidents that have not settled, or whose file is not whole.
    #[must_use]
    pub fn open_incidents(&self) -> usize {
        self.files.values().filter(|g| g.incident.is_some()).count()
    }

    /// Files that are not whole and could not be healed so far, with the last reason.
    pub fn broken(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files
            .values()
            .filter_map(|g| Some((&*g.protected.path, g.failing.as_ref()?.why.as_str())))
    }

    /// Files of which it cannot be said just now that they are whole, and when they last were.
    pub fn doubtful(&self) -> impl Iterator<Item = (&Path, Timestamp)> {
        let doubtful = self.files.values().filter(|g| g.is_doubtful());
        doubtful.map(|g| (&*g.protected.path, g.whole_before_wall.get()))
    }

    /// Whether an incident of this file has not settled.
    #[must_use]
    pub fn has_incident(&self, file: FileId) -> bool {
        self.files.get(&file).is_some_and(|g| g.incident.is_some())
    }

    /// The state that differs, is on record, and is left as it is, unless more is under way.
    #[must_use]
    pub fn left_as(&self, file: FileId) -> Option<&Sight> {
        let guarded = self.files.get(&file)?;
        // What its content is may still be read, to be told too.
        let on_record = guarded.is_quiet_but_for_reading() && !guarded.is_unfinished();
        guarded.tolerated.as_deref().filter(|_| on_record)
    }

    /// Whether nothing is under way for the file, though an incident may not have settled.
    #[must_use]
    pub fn is_quiet(&self, file: FileId) -> bool {
        self.files.get(&file).is_none_or(|g| g.is_quiet())
    }

    /// Whether the file is whole as far as the engine knows, with nothing under way.
    #[must_use]
    pub fn is_settled(&self, file: FileId) -> bool {
        self.files.get(&file).is_none_or(|g| g.is_quiet() && g.incident.is_none())
    }

    /// Whether the file was held against the baseline, and put right or found impossible to.
    #[must_use]
    pub fn is_compared(&self, file: FileId) -> bool {
        self.files.get(&file).is_none_or(|g| g.is_compared())
    }

    /// Whether a heal is under way, or something that was found is not on record yet.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.drift.is_some() || self.files.values().any(|g| g.is_unfinished())
    }

    /// When the change became known that is being put right.
    #[must_use]
    pub fn learned(&self, file: FileId) -> Option<Duration> {
        self.files.get(&file)?.learned
    }

    fn observed(&mut self, now: Moment, seen: Observation, out: &mut Vec<Action>) {
        let file = seen.file;
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let tells = seen.sensor != Sensor::Sweep && seen.hint != Hint::Mounts;
        guarded.suspect(now.mono, &seen);
        if let Some(incident) = guarded.incident.as_mut().filter(|_| tells) {
            incident.was_announced();
        }
        if seen.hint == Hint::Moved {
            guarded.was_renamed();
        }
        if seen.retired {
            return;
        }
        if let Hint::Child(name) = seen.hint {
            guarded.made(&name, &seen.by);
            let child = guarded.child(&name);
            if self.id_of(&child).is_none() {
                out.push(Action::CheckStranger { file, name });
            }
            return;
        }
        guarded.told |= tells;
        guarded.written |= seen.hint == Hint::Written;
        guarded.unread |= seen.hint == Hint::WriterClosed && guarded.is_file();
        guarded.learned.get_or_insert(now.mono);
        if seen.hint == Hint::Opened {
            self.timers.arm_relook(file, now.mono);
        }
        if guarded.busy {
            guarded.again = true;
        } else {
            out.push(Action::Look { file });
        }
    }

    fn looked(&mut self, now: Moment, file: FileId, sight: Sight, out: &mut Vec<Action>) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        if guarded.busy {
            guarded.again = true;
            return;
        }
        if guarded.tolerates(now, &sight) {
            return guarded.read_again(file, out);
        }
        guarded.tolerates_no_more();
        if let Sight::Away { .. } | Sight::Unreadable(_) = sight {
            return self.unseen(now, file, sight, out);
        }
        self.is_back(now, file, out);
        let Sight::Present(stat) = sight else {
            return self.astray(now, file, sight, out);
        };
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let good = &guarded.protected.facts;
        let remedy = crate::judge::judge(good, guarded.sealed().as_ref(), &stat, guarded.written);
        if remedy == Remedy::None {
            guarded.seen_whole = Some(now.mono.into());
        }
        match remedy {
            Remedy::None if guarded.unread => guarded.start_verify(file, out),
            Remedy::None => guarded.found_whole(now),
            Remedy::Inspect => out.push(Action::Inspect { file }),
            Remedy::Verify => guarded.start_verify(file, out),
            Remedy::Relock => self.drifted(now, file, &stat, Cure::Relock, out),
            Remedy::Repair => self.drifted(now, file, &stat, Cure::Repair, out),
            Remedy::Replace => self.drifted(now, file, &stat, Cure::Replace, out),
        }
    }

    fn tick(&mut self, now: Moment, out: &mut Vec<Action>) {
        while let Some((file, timer)) = self.timers.pop_due(now.mono) {
            let Some(guarded) = self.files.get_mut(&file) else { continue };
            match timer {
                Timer::Relook if guarded.busy => guarded.again = true,
                Timer::Relook => {
                    // It was an open that told to look again.
                    guarded.told = true;
                    out.push(Action::Look { file });
                }
                Timer::Retry => {
                    guarded.nothing_persists();
                    out.push(Action::Look { file });
                }
                Timer::Finalize => {
                    let incident = guarded.incident.as_deref();
                    let later = incident.and_then(|i| i.incomplete_until(EVIDENCE_GRACE));
                    if let Some(later) = later.filter(|later| *later > now.mono) {
                        self.timers.set(file, Timer::Finalize, later);
                        continue;
                    }
                    // What came since is asked about then.
                    if !incident.is_some_and(Incident::awaits_an_answer) {
                        out.push(guarded.ask(now, file));
                    }
                    let evidence = guarded.incident.as_deref().and_then(Incident::asks_by);
                    if let Some(by) = evidence {
                        self.timers.set_once(file, Timer::Finalize, by.max(now.mono + GRACE));
                    }
                }
                Timer::Settle => self.settle(now, file, out),
            }
        }
    }
}
