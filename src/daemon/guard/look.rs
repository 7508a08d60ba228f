//! Looking at a file: what has its name, what the last events tell of it, and what else it has.

use std::time::{Duration, Instant};

use super::Guard;
use super::strangers;
use crate::baseline::snapshot::snapshot;
use crate::baseline::{Content, Snapshot, SnapshotError};
use crate::config::special;
use crate::engine::{Input, Inspection, Sight, Unread};
use crate::judge::FileKind;
use crate::sense::{FileId, Hint, Observation};

/// So many strangers in one directory are told one by one.
const MOST_STRANGERS: usize = 1000;
/// So long a write that has begun is waited for: the usual takes a fraction of that.
const UNDER_WAY: Duration = Duration::from_micros(200);

impl Guard {
    /// A modification time that moved is a write or a `touch`. The event that tells which comes
    /// as soon as that system call ends. Knowing it spares reading a large file before it is
    /// healed, and locking one with changes that have to be written to the disk first.
    pub(super) fn listen_for_writes(&mut self, file: FileId, sight: &Sight) {
        let Sight::Present(stat) = sight else { return };
        let Some(ward) = self.ward(file) else { return };
        let good = &ward.patient.facts;
        if stat.kind != FileKind::File || stat.mtime == good.mtime || stat.size != good.size {
            return;
        }
        let until = Instant::now() + UNDER_WAY;
        loop {
            self.listen(false);
            let told = |hints: &[Hint]| {
                let of_it = |seen: &&Observation| seen.file == file && !seen.retired;
                self.pending.iter().filter(of_it).any(|seen| hints.contains(&seen.hint))
            };
            if told(&[Hint::Written]) {
                let now = self.now();
                self.engine.handle(now, Input::Written { file }, &mut Vec::new());
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || told(&[Hint::Metadata]) || !self.sensors.await_event(left) {
                return;
            }
        }
    }

    /// Looks at a file, and notices when its filesystem came back.
    pub(in crate::daemon) fn sight(&mut self, file: FileId) -> Sight {
        let Some(ward) = self.ward_mut(file) else { return Sight::Missing };
        let sight = ward.look();
        if let Sight::Present(stat) = sight {
            let before = std::mem::replace(&mut ward.mount, stat.mount);
            if before != stat.mount {
                if !ward.slot_is_there() {
                    self.find_slot(file);
                }
                if before != 0 {
                    self.begin_again(file);
                }
            }
        }
        sight
    }

    pub(super) fn inspect(&mut self, file: FileId) -> Option<Result<Inspection, Unread>> {
        let path = self.ward(file)?.patient.path.clone();
        Some(match snapshot(&path, Content::Skip, &|_| ()) {
            Ok(Snapshot { facts, stat }) => {
                let writers = facts.kind == FileKind::File && self.is_held(file);
                Ok(Inspection { facts, stat, writers })
            }
            Err(e) => Err(unread(&e)),
        })
    }

    /// A directory changed: whatever is in it that is not protected does not belong there.
    /// Pipes, sockets and devices may have been there when it was protected, which passes them
    /// by; only an event can tell that one is new.
    pub(super) fn look_for_strangers(&mut self, file: FileId) {
        let Some(ward) = self.ward(file) else { return };
        if ward.patient.facts.kind != FileKind::Directory {
            return;
        }
        let Ok(entries) = std::fs::read_dir(&ward.patient.path) else { return };
        let plain = |kind: std::fs::FileType| special(kind).is_none();
        let passed_by = strangers::passed_by(&ward.patient.path);
        let names: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(plain))
            .filter(|entry| self.engine.id_of(&entry.path()).is_none())
            .map(|entry| entry.file_name().into_encoded_bytes())
            .take(MOST_STRANGERS)
            .collect();
        if let Some(ward) = self.ward_mut(file) {
            ward.no_longer_falls_short_by(strangers::PASSED_BY);
            ward.falls_short(passed_by);
        }
        for name in names {
            self.feed(Input::Stranger { file, name });
        }
    }
}

/// The engine's word for it.
pub(in crate::daemon) fn unread(error: &SnapshotError) -> Unread {
    match error {
        SnapshotError::Missing(_) => Unread::Gone,
        error => Unread::Refused(error.to_string()),
    }
}
