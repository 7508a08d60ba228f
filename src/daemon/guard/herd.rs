//! What concerns many files at once, kept so that no look at all of them is needed for it: there
//! may be a hundred thousand.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Guard;
use super::ward::Ward;
use crate::baseline::Record;
use crate::judge::{Common, Facts, FileKind};
use crate::respond::Around;
use crate::sense::{FileId, MountTable};

/// So long the mount table is not read again while files come under guard.
const A_MOMENT: Duration = Duration::from_millis(50);
/// Where files have less than this in common, it is not worth to be remembered.
const MOST_COMMONS: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Herd {
    /// Files that something is to be tried for again, now and then.
    troubled: HashSet<FileId>,
    /// Files that are bind-mounted somewhere else.
    pinned: Vec<FileId>,
    /// The mount table, and when it was read.
    mounts: Option<(Instant, MountTable)>,
    /// Where the replicas of many wards lie.
    slots: HashSet<Arc<PathBuf>>,
    /// What many files have in common.
    commons: HashSet<Arc<Common>>,
    /// Where the last one is: the next one nearly always is there too.
    around: Option<Arc<Around>>,
}

impl Herd {
    /// Something will have to be tried again for this file.
    pub(in crate::daemon) fn trouble(&mut self, file: FileId) {
        self.troubled.insert(file);
    }

    /// This file is bind-mounted somewhere else.
    pub(super) fn pin(&mut self, file: FileId) {
        self.pinned.push(file);
    }

    /// The mount table, as it was a moment ago: a start needs it for each file.
    pub(super) fn mounts(&mut self) -> &MountTable {
        let known = self.mounts.take().filter(|(read, _)| read.elapsed() < A_MOMENT);
        let known =
            known.unwrap_or_else(|| (Instant::now(), MountTable::read().unwrap_or_default()));
        &self.mounts.insert(known).1
    }

    /// The same slot, in the same place of memory each time.
    pub(super) fn slot(&mut self, path: PathBuf) -> Arc<PathBuf> {
        if let Some(known) = self.slots.get(&path) {
            return Arc::clone(known);
        }
        let new = Arc::new(path);
        self.slots.insert(Arc::clone(&new));
        new
    }
}

impl Herd {
    /// The facts of this record; what other files have too is in the same place of memory.
    pub(super) fn facts(&mut self, record: &Record) -> Arc<Facts> {
        let mut facts = record.facts.clone();
        if let Some(known) = self.commons.get(&facts.common) {
            facts.common = Arc::clone(known);
        } else {
            if self.commons.len() >= MOST_COMMONS {
                self.commons.clear();
            }
            self.commons.insert(Arc::clone(&facts.common));
        }
        Arc::new(facts)
    }

    /// Where the file of this record is, in the same place of memory as for the one before.
    pub(super) fn around(&mut self, record: &Record, layers: usize) -> Arc<Around> {
        let same = |known: &&Arc<Around>| {
            Arc::ptr_eq(&known.parents, &record.parents)
                && (&*known.mount_point, known.layers) == (&*record.mount_point, layers)
        };
        if let Some(known) = self.around.as_ref().filter(same) {
            return Arc::clone(known);
        }
        let (parents, mount_point) = (record.parents.clone(), record.mount_point.clone());
        let new = Arc::new(Around { parents, mount_point, layers });
        Arc::clone(self.around.insert(new))
    }
}

impl Guard {
    /// Those for which something is to be tried again.
    pub(in crate::daemon) fn troubled(&self) -> impl Iterator<Item = (FileId, &Ward)> {
        self.herd.troubled.iter().filter_map(|file| Some((*file, self.ward(*file)?)))
    }

    /// Forgets those that have nothing to try again for any more.
    pub(in crate::daemon) fn look_after_troubled(&mut self) {
        let wards = &self.wards;
        self.herd.troubled.retain(|file| {
            let ward = wards.get(file);
            ward.is_some_and(|ward| ward.spared().is_some() || !ward.shortcomings().is_empty())
        });
    }

    /// What is bind-mounted somewhere else, and nothing else, is not to be exchanged.
    pub(super) fn pinned(&mut self, paths: &[PathBuf]) {
        let now: Vec<_> = paths.iter().filter_map(|path| self.engine.id_of(path)).collect();
        let before = std::mem::replace(&mut self.herd.pinned, now.clone());
        before.into_iter().for_each(|file| self.set_pinned(file, false));
        now.into_iter().for_each(|file| self.set_pinned(file, true));
        self.life.searched = true;
    }

    fn set_pinned(&mut self, file: FileId, pinned: bool) {
        if let Some(ward) = self.ward_mut(file) {
            ward.patient.pinned = pinned && ward.patient.facts.kind == FileKind::File;
        }
    }
}
