//! The journal as a whole, on real files.

mod append;
mod property;
mod reading;
mod recovering;
mod verifying;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tempfile::TempDir;

use super::segments::{CURRENT, is_append_only, set_append_only};
use super::*;
use crate::baseline::{Baseline, BaselineError};

/// A state directory. Its journal can be removed again when the test is over, whatever
/// happened.
struct Room {
    dir: TempDir,
    baseline: Baseline,
}

impl Room {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    fn on(dir: TempDir) -> Self {
        let baseline = Baseline::open(dir.path()).unwrap();
        Self { dir, baseline }
    }

    fn state(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.state().join("journal").join(name)
    }

    fn open(&self) -> (Journal, Recovery) {
        Journal::open(self.state(), &self.baseline).unwrap()
    }

    fn open_with(&self, limits: Limits) -> Journal {
        Journal::open_with(self.state(), &self.baseline, limits).unwrap().0
    }

    /// A journal with lines 1 to `count`, closed again.
    fn with_lines(count: u64) -> Self {
        let room = Self::new();
        let (mut journal, _) = room.open();
        for seq in 1..=count {
            journal.append(&[event(seq)]).unwrap();
        }
        room
    }

    /// Does to a file what somebody with root can do.
    fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = std::fs::read(self.file(name)).unwrap();
        change(&mut content);
        self.soften();
        std::fs::write(self.file(name), content).unwrap();
    }

    /// Clears the append-only bit of every file.
    fn soften(&self) {
        for name in self.names() {
            if !self.file(&name).metadata().unwrap().is_file() {
                continue;
            }
            set_append_only(File::open(self.file(&name)).unwrap().as_fd(), false).unwrap();
        }
    }

    /// The journal's files in order, the growing one last.
    fn names(&self) -> Vec<String> {
        let Ok(found) = std::fs::read_dir(self.state().join("journal")) else { return Vec::new() };
        let mut names: Vec<String> =
            found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_by_key(|name| (name == CURRENT, name.clone()));
        names
    }

    fn is_append_only(&self, name: &str) -> bool {
        is_append_only(File::open(self.file(name)).unwrap().as_fd()).unwrap() == Some(true)
    }

    fn seqs(&self) -> Vec<u64> {
        read(self.state(), Filter::default()).unwrap().map(|entry| entry.unwrap().seq).collect()
    }

    fn faults(&self) -> Vec<String> {
        verify(self.state()).unwrap().faults.iter().map(ToString::to_string).collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.soften();
    }
}

/// An event that can be told from others.
fn event(number: u64) -> Event {
    let time = Timestamp::from_second(i64::try_from(number).unwrap()).unwrap();
    Event::new(time, Kind::ContentChanged, Severity::Warning)
        .about(Path::new("/srv/app/main.py"))
        .noting(format!("event {number}"))
}
