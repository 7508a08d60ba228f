//! The copies that are to lie ready for a heal: having them made, and watched.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Guard;
use super::ward::{NO_REPLICA, Ward};
use crate::baseline::Replica;
use crate::daemon::failures::Failure;
use crate::daemon::scribe::Note;
use crate::daemon::start::leftovers::{has_inode, is_ready};
use crate::daemon::workers::Chore;
use crate::judge::Stat;
use crate::respond::Ready;
use crate::sense::FileId;
use crate::sys;

/// So many copies the stager is to make at a time: what it has to know of each takes room, and
/// after a first start there is one for each file.
const MOST: usize = 1000;

/// Files that a copy is to be made for.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Line {
    waiting: VecDeque<FileId>,
    /// How many more the stager was told of and is not done with.
    with_stager: usize,
}

impl Line {
    /// Who is next, if the stager has not enough to do.
    fn next(&mut self) -> Option<FileId> {
        if self.with_stager >= MOST {
            return None;
        }
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.waiting = VecDeque::new();
        }
        next
    }
}

impl Guard {
    /// Has a replica prepared, unless there is one or one is not needed.
    pub(in crate::daemon) fn stage(&mut self, file: FileId) {
        let Some(ward) = self.ward_mut(file) else { return };
        let needed = ward.patient.replica.is_none() && ward.policy.restore;
        if needed && !ward.staging && ward.slot_is_there() {
            ward.staging = true;
            self.line.waiting.push_back(file);
            self.stage_next();
        }
    }

    /// Gives the stager as much to do as it is to have at once.
    fn stage_next(&mut self) {
        while let Some(file) = self.line.next() {
            let Some(ward) = self.wards.get_mut(&file) else { continue };
            // It may have lost its slot while it waited.
            let Some(slot) = ward.slot.clone() else {
                ward.staging = false;
                continue;
            };
            let (path, facts) = (Arc::clone(&ward.patient.path), Arc::clone(&ward.patient.facts));
            self.line.with_stager += 1;
            self.stager.push(Chore::Stage { file, path, facts, slot });
        }
    }

    /// Tries again where no replica could be made: there may be room by now.
    pub(in crate::daemon) fn stage_again(&mut self) {
        let bare = self.troubled().filter(|(_, ward)| ward.lacks_replica());
        let bare: Vec<FileId> = bare.map(|(file, _)| file).collect();
        bare.into_iter().for_each(|file| self.stage(file));
    }

    /// A replica is ready.
    pub(super) fn staged(&mut self, file: FileId, staged: Result<Replica, String>) {
        self.line.with_stager = self.line.with_stager.saturating_sub(1);
        self.stage_next();
        let Some(ward) = self.ward_mut(file) else {
            if let Ok(replica) = staged {
                self.stager.push(Chore::Unneeded(replica));
            }
            return;
        };
        ward.staging = false;
        let lacking = ward.lacks_replica();
        ward.no_longer_falls_short_by(NO_REPLICA);
        match staged {
            Ok(replica) => {
                ward.patient.replica = Some(Ready::of(&replica, ward.slot.as_ref()));
                let path = ward.patient.path.clone();
                self.scribe.tell(Note::Replica(path, Some(replica)));
                self.watch_ready(file);
            }
            Err(why) => {
                ward.falls_short([format!("{NO_REPLICA}: {why}")]);
                let path = ward.patient.path.clone();
                self.herd.trouble(file);
                if !lacking {
                    self.fail(Failure::ReplicaMissing, Some(path.to_path_buf()), why);
                }
            }
        }
    }

    /// Watches the replica from now on, so that a heal need not do it first.
    pub(super) fn watch_ready(&mut self, file: FileId) {
        let Some((slot, name)) = self.ward(file).and_then(|ward| ward.patient.slot()) else {
            return;
        };
        // What cannot be opened now cannot be exchanged either, and another is made then.
        let Ok(slot) = sys::open::open_dir(&slot) else { return };
        self.sensors.watch_replica(file, &slot, &name);
        if let Some(ward) = self.ward_mut(file) {
            ward.replica_watched = true;
        }
    }

    /// Trusts a replica of an earlier run only as it left it. One that is not there was used by a
    /// heal which that run had no time to note: then another inode is no news, and the file is
    /// read before it is believed.
    pub(super) fn trust_replica(ward: &mut Ward) {
        let patient = &mut ward.patient;
        if patient.replica.as_ref().is_some_and(|one| is_ready(&one.replica())) {
            return;
        }
        patient.replica = None;
        let sealed = |seal: Stat| has_inode(&patient.path, seal.ino);
        if !patient.sealed().is_some_and(sealed) {
            patient.seal = None;
        }
    }
}
