//! Steadfast's own files: the program, the configuration in use, and the units that start it.
//!
//! They are watched by default, like any protected file, and who changed one is told at once.
//! But an upgrade and an edit are for their owner to make: nothing is put back and no bit is set.
//! What is there once it was told counts as right from then on, and is remembered, so that what
//! is changed while the daemon is stopped is found too. Who wants more names them in the
//! configuration: then they are protected as it says.
//!
//! Whoever opens the program or a unit is not asked to wait: the daemon starts the program itself,
//! and the service manager reads the units. State directory and control socket have guards of
//! their own.

mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::Watches;
use jiff::{SignedDuration, Timestamp};

use self::units::{Bell, is_unit, units};
use super::commands::protect;
use super::guard::Guard;
use super::guard::ward::Ward;
use super::scribe::Note;
use super::workers::Reading;
use crate::alert::Item;
use crate::baseline::{Origin, Record};
use crate::config::{USUAL_FILE, canonical_path};
use crate::engine::{Sight, later};
use crate::judge::{AlertWhen, Policy, Stat, Unexpected};
use crate::record::{Event, Kind, Severity};
use crate::sense::FileId;
use crate::text::escape_path;

/// What is changed within this time of one another is told in one message, as after an upgrade…
const TOGETHER: SignedDuration = SignedDuration::from_secs(3);
/// …but none waits for longer.
const LONGEST: SignedDuration = SignedDuration::from_secs(30);

/// The units are looked through this often where a bell rings for each change of them…
const SELDOM: Duration = Duration::from_secs(300);
/// …and where none does.
const OFTEN: Duration = Duration::from_secs(5);

const ADOPTED: &str =
    "it is one of steadfast's own files: what is there now counts as right from here on";
const CAME: &str = "it is new, and has a say in how steadfast is run";

/// See the module.
pub(super) struct Own {
    /// The program, as it was started.
    program: Option<PathBuf>,
    /// The configuration in use.
    config: PathBuf,
    /// Rings when a unit may have come; `None` where that is refused.
    bell: Option<Bell>,
    /// When to look for one all the same.
    next: Duration,
    /// It is being looked for one.
    under_way: bool,
    /// Being read for the first time; and whether they were not there before.
    reading: BTreeMap<PathBuf, bool>,
    /// A change of them is on record.
    told: BTreeSet<FileId>,
    /// It is over, and what is there now is being read.
    adopted: BTreeSet<FileId>,
    message: Option<Message>,
}

/// What goes into one message.
struct Message {
    id: String,
    began: Timestamp,
    not_before: Timestamp,
    incidents: BTreeMap<String, Vec<Event>>,
}

/// What is wanted for all of them.
const POLICY: Policy = Policy {
    immutable: false,
    restore: false,
    alert: AlertWhen::Now,
    unexpected: Unexpected::Report,
};

/// Our units, and whether whatever comes or goes from here on is told.
pub(super) fn look(watches: Option<Watches>) -> (BTreeSet<PathBuf>, bool) {
    units::watched_units(watches)
}

/// Reads one, without keeping a copy.
pub(super) fn read(path: &Path) -> Result<Record, String> {
    protect::take_as_it_is(path, POLICY, Origin::Own).map_err(|e| e.to_string())
}

impl Own {
    /// Of a daemon with this configuration.
    pub(super) fn of(config_file: Option<&Path>) -> Self {
        Self {
            program: program(),
            config: real(config_file.unwrap_or(Path::new(USUAL_FILE))),
            bell: Bell::new().ok(),
            next: Duration::ZERO,
            under_way: false,
            reading: BTreeMap::new(),
            told: BTreeSet::new(),
            adopted: BTreeSet::new(),
            message: None,
        }
    }

    /// Whether openers of this file may be asked to wait.
    pub(super) fn may_ask_openers(&self, ward: &Ward) -> bool {
        ward.origin != Origin::Own || *ward.patient.path == *self.config
    }

    fn all(&self) -> BTreeSet<PathBuf> {
        let named = self.program.iter().chain([&self.config]).cloned();
        let there = named.filter(|path| path.symlink_metadata().is_ok_and(|m| m.is_file()));
        there.chain(units()).collect()
    }

    /// Readable when a unit may have come.
    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(Bell::fd)
    }

    /// Whether it is still one, be it there or not.
    pub(super) fn is_one(&self, path: &Path) -> bool {
        self.program.as_deref() == Some(path) || self.config == path || is_unit(path)
    }

    /// The message that now tells of this incident too.
    fn gather(&mut self, incident: String, events: Vec<Event>, wall: Timestamp) -> Item {
        let open = |message: &mut Message| message.not_before > wall;
        let mut message = self.message.take_if(open).unwrap_or_else(|| Message {
            id: format!("own-{incident}"),
            began: wall,
            not_before: wall,
            incidents: BTreeMap::new(),
        });
        message.not_before = later(wall, TOGETHER).min(later(message.began, LONGEST));
        message.incidents.insert(incident, events);
        let events = message.incidents.values().flatten().cloned().collect();
        let item = Item { incident: message.id.clone(), not_before: message.not_before, events };
        self.message = Some(message);
        item
    }
}

/// Where the program lies. An upgrade may have put another in its place since it was started.
fn program() -> Option<PathBuf> {
    let path = std::fs::read_link("/proc/self/exe").ok()?;
    if path.symlink_metadata().is_ok() {
        return Some(path);
    }
    let text = path.to_str()?.strip_suffix(" (deleted)")?;
    Some(PathBuf::from(text))
}

/// The file itself, where a link leads to it.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| canonical_path(path))
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.dev, a.ino, a.ctime) == (b.dev, b.ino, b.ctime)
}

impl Guard {
    /// Of our own files, which were `known` to an earlier run, those that are to be held against
    /// what is remembered. Not what is `protected` as somebody wants it.
    pub(super) fn known_own(&self, mut known: Vec<Record>, protected: &[Record]) -> Vec<Record> {
        known.retain(|own| {
            let is_one = self.own.is_one(&own.path);
            if !is_one {
                self.scribe.tell(Note::OwnGone(own.path.to_path_buf()));
            }
            is_one && protected.iter().all(|record| record.path != own.path)
        });
        known
    }

    /// Has what is there and not watched read; `late` if what was there is known already.
    pub(super) fn look_for_own(&mut self, late: bool) {
        let all = self.own.all();
        self.read_own(all, late);
    }

    fn read_own(&mut self, all: BTreeSet<PathBuf>, late: bool) {
        for path in all {
            if self.engine.id_of(&path).is_none() && !self.own.reading.contains_key(&path) {
                self.own.reading.insert(path.clone(), late && is_unit(&path));
                self.reader.push(Reading::Own(path));
            }
        }
    }

    /// The bell rang: a unit or a drop-in may have come.
    pub(super) fn own_may_have_come(&mut self) {
        if self.own.bell.as_mut().is_some_and(Bell::has_rung) {
            self.own.next = Duration::ZERO;
        }
        self.look_for_own_again();
    }

    /// Has the units looked through where that is due.
    pub(super) fn look_for_own_again(&mut self) {
        let now = self.now().mono;
        if !self.own.under_way && now >= self.own.next {
            self.own.under_way = true;
            self.own.next = now + SELDOM;
            self.reader.push(Reading::Units(self.own.bell.as_ref().map(Bell::watches)));
        }
    }

    /// These units are there now; `told` if the bell rings for others that come.
    pub(super) fn own_found(&mut self, all: BTreeSet<PathBuf>, told: bool) {
        self.own.under_way = false;
        if !told {
            self.own.next = self.own.next.min(self.now().mono + OFTEN);
        }
        self.read_own(all, true);
        // It may have rung meanwhile.
        self.look_for_own_again();
    }

    /// One was read: for the first time, or after it was told that it is not as it was.
    pub(super) fn own_read(&mut self, path: &Path, record: Result<Box<Record>, String>) {
        let new = self.own.reading.remove(path).unwrap_or(false);
        if let Some(file) = self.engine.id_of(path) {
            self.own.adopted.remove(&file);
        }
        let record = match record {
            Ok(record) => *record,
            // It is looked for again when something changes.
            Err(why) => return tracing::warn!("{}: {why}", escape_path(path)),
        };
        match self.engine.id_of(path) {
            None => {
                self.scribe.tell(Note::Own(Box::new(record.clone())));
                self.guard(record);
                if new {
                    self.tell_of_new_unit(path);
                }
            }
            Some(file) if self.is_own(file) => self.adopt(file, record),
            Some(_) => {}
        }
    }

    fn tell_of_new_unit(&self, path: &Path) {
        let event = Event::new(Timestamp::now(), Kind::Created, Severity::Warning);
        self.alarm("own", vec![(event.about(path).noting(CAME), true)]);
    }

    /// Whether it is one of our own files, and nobody wants it protected in another way.
    pub(super) fn is_own(&self, file: FileId) -> bool {
        self.ward(file).is_some_and(|ward| ward.origin == Origin::Own)
    }

    /// Those that are watched, in order.
    pub(super) fn own_files(&self) -> Vec<PathBuf> {
        let own = self.wards().filter(|(_, ward)| ward.origin == Origin::Own);
        let mut paths: Vec<PathBuf> =
            own.map(|(_, ward)| ward.patient.path.to_path_buf()).collect();
        paths.sort();
        paths
    }

    /// Somebody wants it protected in another way, or at least asks for it.
    pub(super) fn give_up_own(&mut self, path: &Path) {
        if let Some(file) = self.engine.id_of(path).filter(|file| self.is_own(*file)) {
            self.forget(file);
        }
    }

    /// What is recorded of one is noted, so that it counts as right once that has settled.
    pub(super) fn note_own(&mut self, event: &Event) {
        let path = event.path.as_ref().map(crate::record::PathText::to_path);
        let file = path.and_then(|path| self.engine.id_of(&path));
        if let Some(file) = file.filter(|file| self.is_own(*file)) {
            self.own.told.insert(file);
        }
    }

    /// An incident as a message: those of our own files are told of together.
    pub(super) fn message(
        &mut self,
        incident: String,
        not_before: Timestamp,
        events: Vec<Event>,
    ) -> Item {
        let path = events.first().and_then(|event| event.path.as_ref());
        let file = path.and_then(|path| self.engine.id_of(&path.to_path()));
        match file.filter(|file| self.is_own(*file)) {
            Some(_) => self.own.gather(incident, events, Timestamp::now()),
            None => Item { incident, not_before, events },
        }
    }

    /// Has those read whose change was told and is over.
    pub(super) fn adopt_own(&mut self) {
        if self.own.told.is_empty() {
            return;
        }
        for file in std::mem::take(&mut self.own.told) {
            if !self.engine.is_settled(file) {
                self.own.told.insert(file);
                continue;
            }
            let Some(path) = self.ward(file).map(|ward| ward.patient.path.clone()) else {
                continue;
            };
            match self.engine.left_as(file) {
                Some(Sight::Present(_)) => {
                    self.own.adopted.insert(file);
                    self.reader.push(Reading::Own(path.to_path_buf()));
                }
                Some(Sight::Missing | Sight::ParentMissing) if is_unit(&path) => {
                    self.forget(file);
                    self.scribe.tell(Note::OwnGone(path.to_path_buf()));
                }
                _ => {}
            }
        }
    }

    /// What was told of one counts as right, if it still is so.
    fn adopt(&mut self, file: FileId, record: Record) {
        let as_told = match self.engine.left_as(file) {
            Some(Sight::Present(told)) => record.seal.is_some_and(|seal| same(told, &seal)),
            _ => false,
        };
        if !as_told {
            // It goes on, and is noted again when that is told.
            return;
        }
        let event = Event::new(Timestamp::now(), Kind::Accepted, Severity::Info);
        let event = event.about(&record.path).noting(ADOPTED);
        self.scribe.tell(Note::Event(Box::new(event)));
        self.scribe.tell(Note::Own(Box::new(record.clone())));
        self.forget(file);
        self.guard(record);
    }

    /// The daemon stops: what was told already is not to be told again at the next start.
    pub(super) fn adopt_own_at_once(&mut self) {
        let mut all = std::mem::take(&mut self.own.told);
        // The reader may not have come to the end of them.
        all.append(&mut self.own.adopted);
        for file in all {
            let path = self.ward(file).map(|ward| ward.patient.path.clone());
            if let Some(Ok(record)) = path.map(|path| read(&path)) {
                self.adopt(file, record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_within_moments_is_one_message_and_what_comes_later_is_another() {
        let mut own = Own::of(None);
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let event = |path: &str| {
            vec![Event::new(at(0), Kind::Replaced, Severity::Critical).about(Path::new(path))]
        };
        let first = own.gather("a".into(), event("/a"), at(0));
        let both = own.gather("b".into(), event("/b"), at(2));
        assert_eq!((both.incident.as_str(), both.events.len()), (first.incident.as_str(), 2));
        assert_eq!(both.not_before, at(5));
        let later = own.gather("c".into(), event("/c"), at(6));
        assert_ne!(later.incident, both.incident);
        assert_eq!(later.events.len(), 1);
        let mut began = BTreeMap::from([(later.incident, at(6))]);
        for second in 7..60 {
            let next = own.gather("d".into(), event("/d"), at(second));
            let first = *began.entry(next.incident).or_insert(at(second));
            assert!(next.not_before <= first + LONGEST);
        }
        assert_eq!(began.len(), 2);
    }
}
