//! What earlier runs left in the slots and in the quarantine when they ended suddenly.
//!
//! Looked for before this run makes a copy of its own. A slot holds copies of ours, which its
//! names tell, and what was taken out of protected places. A copy that the database knows and
//! that nobody touched stays; any other, whole or cut short, goes. The rest is evidence, whatever
//! it is, and goes to the quarantine with a line in the journal. What lies in the quarantine and
//! not in its index is entered again. What cannot be moved now is found by the next start.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::said::Said;
use crate::alert::Item;
use crate::baseline::snapshot::snapshot;
use crate::baseline::{Content, Evidence, Record, Replica};
use crate::daemon::scribe::Note;
use crate::daemon::store::Store;
use crate::judge::{AlertWhen, Facts, FileKind, FileTime, render_facts};
use crate::record::{self, Event, Filter, Kind, Severity};
use crate::respond::{self, Make};
use crate::sys;
use crate::text::escape_path;

/// A larger copy is told by its size and metadata alone, so that no start waits for it, in bytes.
const MOST_READ: u64 = 64 << 20;
const TAKEN_OUT: &str = "it was taken out of a protected place by an earlier run, which ended \
                         suddenly and had no time to say so";
const CHANGED_COPY: &str = "a copy that lay ready to put it right has a content that is not known \
                            to be good, and was not used";

/// Clears what is left over of `before`, the paths that were protected when this run began, and
/// `records`, those that are now. Returns what is to be written.
pub(super) fn clear(store: &Store, before: &[Record], records: &[Record]) -> Vec<Note> {
    let evidence = match store.baseline.evidence(None) {
        Ok(evidence) => evidence,
        Err(e) => {
            tracing::warn!("{e}; what earlier runs left over stays where it is");
            return Vec::new();
        }
    };
    let now = Timestamp::now();
    let incident = format!("restart-{}", now.strftime("%Y%m%dT%H%M%S.%6f"));
    let mut clearing = Clearing {
        store,
        records,
        incident,
        told: Vec::new(),
        kept: Vec::new(),
        said: OnceCell::new(),
    };
    let slots = slots(&store.state, before.iter().chain(records));
    slots.iter().for_each(|slot| crate::daemon::selftest::clear_slot(slot));
    let adopted = clearing.adopt(&evidence, &slots);
    let mut known: HashSet<PathBuf> =
        evidence.iter().chain(&adopted).map(Evidence::lies_at).collect();
    let replicas = records.iter().filter_map(|record| record.replica.as_ref());
    known.extend(replicas.filter(|replica| is_ready(replica)).map(|replica| replica.path.clone()));
    let left: BTreeSet<PathBuf> = slots.iter().flat_map(|slot| names(slot)).collect();
    for path in left.difference(&known.into_iter().collect()) {
        clearing.see_to(path);
    }
    clearing.tell_of_placed();
    clearing.tell_of_entered(evidence);
    clearing.notes()
}

/// Whether a replica lies where it was left, untouched.
pub(in crate::daemon) fn is_ready(replica: &Replica) -> bool {
    let (Some(slot), Some(name)) = (replica.path.parent(), replica.path.file_name()) else {
        return false;
    };
    sys::open::open_dir(slot).is_ok_and(|dir| respond::is_untouched(replica, dir.as_fd(), name))
}

/// Whether what is at `path` has this inode.
pub(in crate::daemon) fn has_inode(path: &Path, ino: u64) -> bool {
    sys::stat::stat(path).is_ok_and(|stat| stat.ino == ino)
}

struct Clearing<'a> {
    store: &'a Store,
    records: &'a [Record],
    incident: String,
    /// What is told.
    told: Vec<Event>,
    /// The evidence that was found.
    kept: Vec<Evidence>,
    /// Read when it is needed.
    said: OnceCell<Said>,
}

impl Clearing<'_> {
    fn see_to(&mut self, left: &Path) {
        let Ok(stat) = sys::stat::stat(left) else { return };
        let name = left.file_name().unwrap_or_default();
        let make = respond::make_of(name, stat.ino);
        let (ours, of) = match make {
            Make::Unfinished => (true, None),
            Make::Copy => (self.is_known_good(left), None),
            Make::Taken(of) => (false, of),
        };
        if ours {
            if let Err(e) = respond::discard_at(left) {
                tracing::warn!("{}", stays(left, make, &e));
            }
            return;
        }
        let owner = self.owner(left, of);
        let path = owner.map_or(PathBuf::new(), |record| record.path.to_path_buf());
        let kept = self.store.quarantine.take(left, &path, &self.incident);
        match kept {
            Ok(evidence) => {
                let (kind, what) = match make {
                    Make::Copy => (Kind::SensorDegraded, CHANGED_COPY),
                    _ => (Kind::Restored, TAKEN_OUT),
                };
                self.tell(kind, what, evidence, stat.ctime);
            }
            Err(e) => tracing::error!("{e}"),
        }
    }

    /// Whose copy lay there, or whose inode was, or first had been, `of`: what is there now came
    /// from its path.
    fn owner(&self, left: &Path, of: Option<u64>) -> Option<&Record> {
        let lay = |r: &&Record| r.replica.as_ref().is_some_and(|replica| replica.path == left);
        let had = |r: &&Record| {
            of.is_some_and(|of| of == r.facts.ino || r.seal.is_some_and(|seal| seal.ino == of))
        };
        let mut with_inode = self.records.iter().filter(had);
        let only = with_inode.next().filter(|_| with_inode.next().is_none());
        self.records.iter().find(lay).or(only)
    }

    /// Whether it is what some path is known to be good as, so that it tells nothing.
    fn is_known_good(&self, left: &Path) -> bool {
        let Ok(found) = snapshot(left, Content::Hash(0, MOST_READ), &|_| ()) else { return false };
        self.records.iter().any(|record| is_copy(&record.facts, &found.facts))
    }

    /// Enters what lies in the quarantine and is not in the index.
    fn adopt(&mut self, known: &[Evidence], slots: &BTreeSet<PathBuf>) -> Vec<Evidence> {
        let known = known.iter().map(|one| one.location.clone()).collect();
        let mut unlisted = match self.store.quarantine.unlisted(&known, slots) {
            Ok(unlisted) => unlisted,
            Err(e) => {
                tracing::warn!("{e}");
                return Vec::new();
            }
        };
        if unlisted.is_empty() {
            return unlisted;
        }
        let paths = self.paths_of_incidents();
        for evidence in &mut unlisted {
            if let Some(path) = paths.get(&evidence.incident) {
                evidence.path.clone_from(path);
            }
            let what = "it was taken to the quarantine by an earlier run, which ended suddenly and \
                        had no time to enter it there";
            let stat = sys::stat::stat(&evidence.lies_at());
            let taken = stat.map(|stat| stat.ctime).unwrap_or_default();
            self.tell(Kind::Restored, what, evidence.clone(), taken);
        }
        unlisted
    }

    /// Which path each incident on record is about, where it is one.
    fn paths_of_incidents(&self) -> HashMap<String, PathBuf> {
        let mut paths: HashMap<String, Option<PathBuf>> = HashMap::new();
        let entries = record::read(&self.store.state, Filter::default());
        for entry in entries.into_iter().flatten().filter_map(Result::ok) {
            let (Some(incident), Some(path)) = (entry.event.incident, entry.event.path) else {
                continue;
            };
            let path = path.to_path();
            let known = paths.entry(incident).or_insert_with(|| Some(path.clone()));
            if known.as_ref() != Some(&path) {
                *known = None;
            }
        }
        paths.into_iter().filter_map(|(incident, path)| Some((incident, path?))).collect()
    }

    /// A heal that gave a path its name back took nothing out, and may not be on record either.
    fn tell_of_placed(&mut self) {
        for record in self.records {
            let found = |kept: &Evidence| *kept.path == *record.path;
            if let Some(replica) = &record.replica
                && has_inode(&record.path, replica.ino)
                && !self.kept.iter().any(found)
            {
                let event = self.event(&record.path).noting(
                    "it was put right just before an earlier run ended, which had no time to say \
                     by whom it was changed",
                );
                self.told.push(event);
            }
        }
    }

    /// Evidence that was entered, and of which the run that took it out may have had no time to
    /// tell: that was after it was last said that everything is well.
    fn tell_of_entered(&mut self, evidence: Vec<Evidence>) {
        let beat = self.store.baseline.heartbeat().ok().flatten();
        let late = |one: &Evidence| {
            let beat = beat.as_ref().and_then(|beat| beat.of(&one.path));
            beat.is_none_or(|at| one.taken_at >= at) && one.incident != respond::BY_COMMAND
        };
        let late: Vec<Evidence> = evidence.into_iter().filter(late).collect();
        let Some(first) = late.iter().map(|one| one.taken_at).min() else { return };
        let said = self.said.get_or_init(|| Said::since(&self.store.state, Some(first)));
        let mut untold = Vec::new();
        for one in late {
            let found = snapshot(&one.lies_at(), Content::Hash(0, MOST_READ), &|_| ()).ok();
            let taken = sys::stat::stat(&one.lies_at()).map(|stat| stat.ctime);
            let facts = found.map(|found| found.facts);
            let good = self.good(&one.path);
            if !said.tells_of(&one, facts.as_ref(), good, taken.unwrap_or_default()) {
                untold.push((one, facts));
            }
        }
        for (one, facts) in untold {
            let what = "it was put right by an earlier run, which ended suddenly and had no time to \
                        say so";
            self.tell_what(Kind::Restored, what, &one, facts.as_ref());
            if let Some(told) = self.told.last_mut() {
                told.incident = Some(one.incident);
            }
        }
    }

    fn good(&self, path: &Path) -> Option<&Facts> {
        self.records.iter().find(|record| *record.path == *path).map(|record| &record.facts)
    }

    /// Evidence was found, `taken` then. What the run that took it out has said of it need not be
    /// said again.
    fn tell(&mut self, kind: Kind, what: &str, evidence: Evidence, taken: FileTime) {
        let found = snapshot(&evidence.lies_at(), Content::Hash(0, MOST_READ), &|_| ()).ok();
        let facts = found.map(|found| found.facts);
        let said = self.said.get_or_init(|| Said::since(&self.store.state, None));
        if !said.tells_of(&evidence, facts.as_ref(), self.good(&evidence.path), taken) {
            self.tell_what(kind, what, &evidence, facts.as_ref());
        }
        self.kept.push(evidence);
    }

    fn tell_what(&mut self, kind: Kind, what: &str, evidence: &Evidence, facts: Option<&Facts>) {
        let mut event = Event { kind, ..self.event(&evidence.path) };
        event.after = facts.map(render_facts).unwrap_or_default();
        event.after.retain(|fact, _| fact == "size" || fact == "sha256");
        let place = escape_path(&evidence.location);
        self.told.push(event.noting(format!("{what}; it is kept at {place}")));
    }

    fn event(&self, path: &Path) -> Event {
        let mut event = Event::new(Timestamp::now(), Kind::Restored, Severity::Warning);
        event.incident = Some(self.incident.clone());
        if path.as_os_str().is_empty() { event } else { event.about(path) }
    }

    fn notes(self) -> Vec<Note> {
        let silent = |event: &Event| {
            let path = event.path.as_ref().map(record::PathText::to_path);
            let of = self.records.iter().find(|record| Some(&*record.path) == path.as_deref());
            of.is_some_and(|record| record.policy.alert == AlertWhen::Never)
        };
        let events: Vec<Event> = self.told.iter().filter(|e| !silent(e)).cloned().collect();
        let (incident, not_before) = (self.incident, Timestamp::now());
        let message = (!events.is_empty())
            .then(|| Note::Message { item: Item { incident, not_before, events }, waits: false });
        let evidence = self.kept.into_iter().map(Note::Evidence);
        let events = self.told.into_iter().map(|event| Note::Event(Box::new(event)));
        evidence.chain(events).chain(message).collect()
    }
}

/// What is said of a copy of ours that cannot be removed.
fn stays(left: &Path, make: Make, error: &io::Error) -> String {
    let how = match make {
        Make::Unfinished => "is not whole, was never used",
        _ => "is as it should be",
    };
    let why = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "its filesystem is mounted read-only".to_owned(),
        _ => error.to_string(),
    };
    format!(
        "the copy {}, which an earlier run left, {how} and stays: it cannot be removed, since \
         {why}; a later start removes it",
        escape_path(left)
    )
}

/// Whether `found` is a copy of `good` as it lies ready: without its flags, under one name.
fn is_copy(good: &Facts, found: &Facts) -> bool {
    let read = found.kind != FileKind::File || found.size > MOST_READ;
    (good.kind, good.size, good.mode, good.uid, good.gid)
        == (found.kind, found.size, found.mode, found.uid, found.gid)
        && good.target == found.target
        && (good.kind == FileKind::Directory || good.mtime == found.mtime)
        && (read || good.sha256 == found.sha256)
}

/// Every directory where copies for these records lie.
fn slots<'a>(state: &Path, records: impl Iterator<Item = &'a Record>) -> BTreeSet<PathBuf> {
    let mut slots = BTreeSet::from([state.join("replicas")]);
    for record in records {
        slots.extend(respond::slot_directory(&record.path, state).ok());
        let lain = record.replica.as_ref().and_then(|replica| replica.path.parent());
        slots.extend(lain.map(Path::to_owned));
    }
    slots
}

/// What lies in `slot`, if that is a directory of ours.
fn names(slot: &Path) -> Vec<PathBuf> {
    let Ok(dir) = sys::open::open_dir(slot) else { return Vec::new() };
    let own = rustix::process::geteuid().as_raw();
    let private = |stat: crate::judge::Stat| stat.uid == own && stat.mode & 0o022 == 0;
    if !sys::stat::stat_fd(dir.as_fd()).is_ok_and(private) {
        return Vec::new();
    }
    let entries = std::fs::read_dir(sys::open::self_path(dir.as_fd())).into_iter().flatten();
    entries.filter_map(Result::ok).map(|entry| slot.join(entry.file_name())).collect()
}
