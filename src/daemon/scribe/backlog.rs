//! What the database is to be told and could not be: a full disk delays it and loses nothing.
//!
//! Everything goes in its order, and the later word about a path takes the place of the earlier.
//! That it fails is said once, and once that it works again.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::Note;
use crate::baseline::{Baseline, BaselineError, Record};

/// More than this is not kept: the earliest go.
const MOST: usize = 100_000;

/// See the module.
#[derive(Default)]
pub(super) struct Backlog {
    notes: BTreeMap<u64, Note>,
    places: HashMap<(PathBuf, Matter), u64>,
    next: u64,
    dropped: u64,
    why: Option<String>,
}

/// What a note is about, so that the next one of the same path and matter replaces it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Matter {
    Record,
    Seal,
    Parents,
    Replica,
    Heartbeat,
    Patterns,
    Complaints,
}

impl Backlog {
    /// Writes it, or keeps it until [`Backlog::retry`].
    pub(super) fn take(&mut self, note: Note, baseline: &Baseline) {
        if !self.notes.is_empty() {
            return self.keep(note);
        }
        if let Err(e) = store(&note, baseline) {
            tracing::error!("{e}; what is to be noted there waits");
            self.why = Some(e.to_string());
            self.keep(note);
        }
    }

    /// Writes what waits, in order, until something cannot be written.
    pub(super) fn retry(&mut self, baseline: &Baseline) {
        let mut written = 0_usize;
        while let Some(first) = self.notes.first_entry() {
            if let Err(e) = store(first.get(), baseline) {
                self.why = Some(e.to_string());
                break;
            }
            let (at, note) = first.remove_entry();
            if let Some(place) = place(&note)
                && self.places.get(&place) == Some(&at)
            {
                self.places.remove(&place);
            }
            written += 1;
        }
        if self.notes.is_empty() && self.why.take().is_some() {
            let dropped = std::mem::take(&mut self.dropped);
            tracing::info!(
                "the baseline can be written again: {written} notes had waited, {dropped} were \
                 too many"
            );
        }
    }

    /// All records were written anew: what waits about them is old.
    pub(super) fn forget_records(&mut self) {
        let apart = |note: &Note| {
            matches!(
                note,
                Note::Evidence(_) | Note::Heartbeat(_) | Note::Patterns(_) | Note::Complaints(_)
            )
        };
        self.notes.retain(|_, note| apart(note));
        self.places.retain(|_, at| self.notes.contains_key(at));
    }

    /// So many notes wait.
    pub(super) fn len(&self) -> usize {
        self.notes.len()
    }

    /// Why something waits.
    pub(super) fn trouble(&self) -> Option<String> {
        let why = self.why.as_ref()?;
        Some(format!("{why}; {} notes wait", self.notes.len()))
    }

    fn keep(&mut self, note: Note) {
        let at = self.next;
        self.next += 1;
        if let Some(place) = place(&note) {
            if place.1 == Matter::Record {
                for matter in [Matter::Seal, Matter::Parents, Matter::Replica] {
                    self.forget(&(place.0.clone(), matter));
                }
            }
            self.forget(&place);
            self.places.insert(place, at);
        }
        self.notes.insert(at, note);
        if self.notes.len() > MOST && self.notes.pop_first().is_some() {
            self.dropped += 1;
        }
    }

    fn forget(&mut self, place: &(PathBuf, Matter)) {
        if let Some(before) = self.places.remove(place) {
            self.notes.remove(&before);
        }
    }
}

fn place(note: &Note) -> Option<(PathBuf, Matter)> {
    let (path, matter) = match note {
        Note::Seal(path, _) => (path.to_path_buf(), Matter::Seal),
        Note::Parents(path, _) => (path.to_path_buf(), Matter::Parents),
        Note::Replica(path, _) => (path.to_path_buf(), Matter::Replica),
        Note::Protect(record) | Note::Own(record) => (record.path.to_path_buf(), Matter::Record),
        Note::Release(path) | Note::OwnGone(path) => (path.clone(), Matter::Record),
        Note::Heartbeat(_) => (PathBuf::new(), Matter::Heartbeat),
        Note::Patterns(_) => (PathBuf::new(), Matter::Patterns),
        Note::Complaints(_) => (PathBuf::new(), Matter::Complaints),
        Note::Evidence(_)
        | Note::Records(_)
        | Note::Discarded(_)
        | Note::Cramped { .. }
        | Note::Event(_)
        | Note::Failure(..)
        | Note::Message { .. }
        | Note::Delivery(_)
        | Note::Then(_) => return None,
    };
    Some((path, matter))
}

fn store(note: &Note, baseline: &Baseline) -> Result<(), BaselineError> {
    match note {
        Note::Seal(path, stat) => baseline.set_seal(path, Some(stat)).map(drop),
        Note::Parents(path, parents) => match baseline.get(path)? {
            Some(record) => baseline.put(&Record { parents: parents.clone(), ..record }),
            None => Ok(()),
        },
        Note::Replica(path, replica) => baseline.set_replica(path, replica.as_ref()).map(drop),
        Note::Evidence(evidence) => baseline.add_evidence(evidence).map(drop),
        Note::Protect(record) => baseline.put(record),
        Note::Release(path) => baseline.remove(path).map(drop),
        Note::Own(record) => baseline.put_own(record),
        Note::OwnGone(path) => baseline.remove_own(path),
        Note::Heartbeat(beat) => baseline.set_heartbeat(beat),
        Note::Patterns(patterns) => baseline.set_patterns(patterns),
        Note::Complaints(told) => baseline.set_complaints(told),
        // These are not for the database.
        Note::Records(_)
        | Note::Discarded(_)
        | Note::Cramped { .. }
        | Note::Event(_)
        | Note::Failure(..)
        | Note::Message { .. }
        | Note::Delivery(_)
        | Note::Then(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Replica;
    use crate::judge::FileTime;

    fn ready(path: &str, ino: u64) -> Note {
        let ctime = FileTime { sec: 1, nsec: 2 };
        let path = std::path::Path::new(path).into();
        Note::Replica(path, Some(Replica { path: "/r".into(), ino, size: 3, ctime }))
    }

    #[test]
    fn the_later_word_about_a_path_replaces_the_earlier_and_a_release_replaces_all() {
        let mut backlog = Backlog::default();
        for ino in 0..10 {
            backlog.keep(ready("/a", ino));
            backlog.keep(ready("/b", ino));
        }
        assert_eq!(backlog.notes.len(), 2);
        backlog.keep(Note::Release("/a".into()));
        assert_eq!(backlog.notes.len(), 2);
        let dir = tempfile::tempdir().unwrap();
        backlog.retry(&Baseline::open(dir.path()).unwrap());
        assert!(backlog.notes.is_empty() && backlog.places.is_empty());
    }
}
