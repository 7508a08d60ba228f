//! Whoever had a file open for writing before its bit was set may write on where the filesystem
//! lets them, and through a mapping without any event. The bit keeps others from joining them. So
//! as long as somebody is left, the file is not only looked at, but read.

use std::os::fd::AsFd;

use crate::daemon::guard::Guard;
use crate::judge::FileKind;
use crate::respond::Patient;
use crate::sense::{By, FileId, Hint, Observation, Sensor};
use crate::sys;

/// How the shortcoming begins.
const HELD: &str = "somebody had it open for writing before it was locked";

impl Guard {
    /// Whether somebody still has the file open for writing, though it is locked.
    pub(in crate::daemon) fn is_held(&mut self, file: FileId) -> bool {
        let Some(ward) = self.ward_mut(file) else { return false };
        let facts = &ward.patient.facts;
        let lockable = facts.kind == FileKind::File && facts.keeps_immutable();
        let held = lockable && has_writers(&ward.patient);
        if held != std::mem::replace(&mut ward.held, held) {
            ward.no_longer_falls_short_by(HELD);
            if held {
                ward.falls_short([format!(
                    "{HELD}, and still has: it is read now and then, as a write through a \
                     mapping makes no event"
                )]);
            }
        }
        held
    }

    /// Reads the file where somebody may be writing to it unseen.
    pub(in crate::daemon) fn read_if_held(&mut self, file: FileId) {
        if self.ward(file).is_some_and(|ward| ward.held) && self.is_held(file) {
            self.read_again(file);
        }
    }

    /// A look cannot see content, so the file is treated as written.
    pub(in crate::daemon) fn read_again(&mut self, file: FileId) {
        self.observe(Observation {
            at: std::time::Instant::now(),
            sensor: Sensor::Sweep,
            file,
            hint: Hint::Written,
            by: By::Nobody,
            retired: false,
        });
    }
}

/// Whether anybody has the file open for writing. If that cannot be told, nobody has.
fn has_writers(patient: &Patient) -> bool {
    let open = || {
        let dir = patient.open_parent()?;
        sys::open::open_read_at(dir.as_fd(), patient.name())
    };
    open().and_then(|fd| sys::lease::has_writers(fd.as_fd())).unwrap_or(false)
}
