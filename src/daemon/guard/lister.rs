//! Looking through protected directories that changed: whatever is in one and is not protected
//! does not belong there.
//!
//! A little at a time, with a rest in between: no heal waits until all the names are read that
//! somebody put into a directory. That a directory is as it should be is kept beyond a restart
//! only once it was looked through.
//!
//! Pipes, sockets and devices may have been there when it was protected, which passes them by;
//! only an event can tell that one is new.

use std::collections::VecDeque;
use std::fs::{DirEntry, ReadDir};
use std::path::Path;
use std::time::{Duration, Instant};

use super::ward::Ward;
use super::{Guard, strangers};
use crate::config::is_own;
use crate::daemon::scribe::Note;
use crate::engine::Input;
use crate::judge::FileKind;
use crate::sense::FileId;
use crate::sys;

/// It looks on for so long…
const SLICE: Duration = Duration::from_micros(500);
/// …and then not for so long.
const REST: Duration = Duration::from_millis(1);

/// What is still to be looked through.
#[derive(Debug)]
pub(in crate::daemon) struct Lister {
    due: VecDeque<FileId>,
    open: Option<Open>,
    rest_until: Instant,
}

/// A directory that was looked through in part.
#[derive(Debug)]
struct Open {
    file: FileId,
    entries: ReadDir,
    passed_by: Vec<String>,
}

impl Lister {
    pub(in crate::daemon) fn new() -> Self {
        Self { due: VecDeque::new(), open: None, rest_until: Instant::now() }
    }

    /// How long until it looks on; `None` if nothing is to be looked through.
    pub(super) fn wait(&self) -> Option<Duration> {
        let rest = self.rest_until.saturating_duration_since(Instant::now());
        (self.open.is_some() || !self.due.is_empty()).then_some(rest)
    }

    /// Whether this directory is still to be looked through to its end.
    pub(super) fn awaits(&self, file: FileId) -> bool {
        self.open.as_ref().is_some_and(|open| open.file == file) || self.due.contains(&file)
    }
}

impl Guard {
    /// If it is a directory, it is looked through from the start.
    pub(super) fn look_through(&mut self, file: FileId) {
        let is_directory = |ward: &Ward| ward.patient.facts.kind == FileKind::Directory;
        if self.ward(file).is_some_and(is_directory) && !self.lister.due.contains(&file) {
            self.lister.due.push_back(file);
        }
    }

    /// Looks on for a little while, if it is time.
    pub(super) fn look_on(&mut self) {
        if self.lister.wait() != Some(Duration::ZERO) {
            return;
        }
        let until = Instant::now() + SLICE;
        while Instant::now() < until {
            let Some(mut open) = self.lister.open.take().or_else(|| self.open_next()) else {
                break;
            };
            match open.entries.next() {
                Some(Ok(entry)) => {
                    self.look_at(&mut open, &entry);
                    self.lister.open = Some(open);
                }
                // One that cannot be read to its end is told of by its own look.
                Some(Err(_)) | None => self.looked_through(open),
            }
        }
        self.lister.rest_until = Instant::now() + REST;
    }

    fn open_next(&mut self) -> Option<Open> {
        while let Some(file) = self.lister.due.pop_front() {
            let Some(ward) = self.ward(file) else { continue };
            if let Ok(entries) = std::fs::read_dir(&ward.patient.path) {
                return Some(Open { file, entries, passed_by: Vec::new() });
            }
        }
        None
    }

    fn look_at(&mut self, open: &mut Open, entry: &DirEntry) {
        if let Some(special) = strangers::special_one(entry) {
            if open.passed_by.len() < strangers::STRANGERS_MAX {
                open.passed_by.push(special);
            }
        } else if self.engine.id_of(&entry.path()).is_none() && self.is_stranger(&entry.path()) {
            let name = entry.file_name().into_encoded_bytes();
            self.feed(Input::Stranger { file: open.file, name });
        }
    }

    /// Whether there still is something that we did not make ourselves: names are read many at
    /// once, and told of late.
    pub(super) fn is_stranger(&self, path: &Path) -> bool {
        sys::stat::stat(path).is_ok() && !is_own(path, &self.state)
    }

    fn looked_through(&mut self, open: Open) {
        let Open { file, passed_by, .. } = open;
        let is_sealed = !self.lister.awaits(file) && self.engine.is_quiet(file);
        let Some(ward) = self.ward_mut(file) else { return };
        ward.no_longer_falls_short_by(strangers::PASSED_BY);
        ward.falls_short(strangers::told(passed_by));
        if let Some(seal) = ward.patient.sealed().filter(|_| is_sealed) {
            let note = Note::Seal(ward.patient.path.clone(), seal);
            self.scribe.tell(note);
        }
    }
}
