//! Who is guarded: files come, go, and may be others from one moment to the next.

use std::hash::BuildHasher;
use std::path::Path;

use super::brief::Mono;
use super::guarded::Guarded;
use super::{Action, Engine, Moment, Past, Protected};
use crate::sense::{FileId, Observation};

impl Engine {
    pub(super) fn watch(
        &mut self,
        now: Moment,
        file: FileId,
        protected: Protected,
        past: Past,
        out: &mut Vec<Action>,
    ) {
        self.name(&protected.path, file);
        let mut guarded = Guarded::new(protected, now);
        if guarded.sealed().is_none() {
            guarded.unseal();
            guarded.start_verify(file, out);
        }
        self.unseen.forget(&mut self.files, file);
        self.files.insert(file, guarded);
        if let Past::Told { complete, seen } = past {
            self.recall(now, file, complete, seen, out);
        }
        out.push(Action::Look { file });
    }

    /// From now on it is this file that has the path.
    fn name(&mut self, path: &Path, file: FileId) {
        let (files, random) = (&self.files, &self.random);
        let of = |file: &FileId| files.get(file).map(|guarded| &*guarded.protected.path);
        let hash = random.hash_one(path);
        match self.by_path.find_mut(hash, |known| *known == file || of(known) == Some(path)) {
            Some(known) => *known = file,
            None => {
                let rehash = |known: &FileId| random.hash_one(of(known).unwrap_or(path));
                self.by_path.insert_unique(hash, file, rehash);
            }
        }
    }

    /// What was seen of a file before it was watched, as if it were seen now. The look at it
    /// follows.
    fn recall(
        &mut self,
        now: Moment,
        file: FileId,
        complete: bool,
        seen: Vec<Observation>,
        out: &mut Vec<Action>,
    ) {
        if let Some(guarded) = self.files.get_mut(&file) {
            guarded.recalled = Some(complete);
            guarded.seen_whole = Some(Mono::BEGAN);
        }
        let mut more = Vec::new();
        seen.into_iter().for_each(|seen| self.observed(now, seen, &mut more));
        out.extend(more.into_iter().filter(|action| !matches!(action, Action::Look { .. })));
    }

    pub(super) fn unwatch(&mut self, file: FileId) {
        if let Some(guarded) = self.files.get(&file) {
            let hash = self.random.hash_one(&*guarded.protected.path);
            if let Ok(entry) = self.by_path.find_entry(hash, |other| *other == file) {
                entry.remove();
            }
        }
        self.unseen.forget(&mut self.files, file);
        self.files.remove(&file);
        self.timers.forget(file);
    }

    /// What has the path may be another file than before, of another filesystem: it is read
    /// before it is believed. What was found until now is told all the same.
    pub(super) fn anew(&mut self, file: FileId, out: &mut Vec<Action>) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.unseal();
        // What is being read may be the one before.
        guarded.epoch = guarded.epoch.saturating_add(1);
        guarded.start_verify(file, out);
        out.push(Action::Look { file });
    }
}
