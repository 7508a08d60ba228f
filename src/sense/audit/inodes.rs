//! Which protected files an inode belongs to, and since when.
//!
//! Inode numbers are used again: what was taken out of a path is removed sooner or later, and
//! the next replica, of any file, may get its number. So each number has its *lives*, and what
//! was done to an earlier one is not laid on a later. What somebody removes may come back as a
//! file that is none of ours, so a life ends with the last name.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::attribute::{InodeKey, Touched};
use crate::judge::FileTime;
use crate::sense::FileId;
use crate::sense::nodes::Ids;

/// Device and inode as audit has them.
pub(super) type Number = ((u32, u32), u64);

/// Inodes of one file that are known: what has the path, the replica, and what was taken out. A
/// tamperer that is healed again and again uses many before the records of the first are read.
const MOST_INODES: usize = 64;
/// Lives of one number that are told apart.
const MOST_LIVES: usize = 64;

/// A moment, by the clock of audit records and by ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    pub(super) call: FileTime,
    pub(super) open: Instant,
}

/// An inode from when it was made to when its number was used again.
#[derive(Debug)]
struct Life {
    key: InodeKey,
    /// `None` for one that is older than the watch.
    since: Option<Since>,
    files: Ids,
    /// It has other names too, or is a directory.
    links: bool,
    over: bool,
    /// Up to then it may have had the path without being recorded; `None` if it never had.
    unrecorded: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    lives: HashMap<Number, Vec<Life>>,
    /// Where `statx` has another number than audit.
    numbers: HashMap<InodeKey, Number>,
    of_file: HashMap<FileId, OfFile>,
    /// The directories above.
    directories: HashMap<PathBuf, Number>,
}

#[derive(Debug, Default)]
struct OfFile {
    path: Option<Arc<Path>>,
    /// The latest last.
    numbers: Vec<Number>,
}

impl Inodes {
    /// Notes an inode that has the path of the file, and was not recorded up to now. Two files
    /// may be names of one inode, which then has `links`.
    pub(super) fn at_path(
        &mut self,
        (file, path): (FileId, &Arc<Path>),
        (number, key): (Number, InodeKey),
        links: bool,
        now: Since,
    ) {
        let lives = self.lives.entry(number).or_default();
        let life = |since| {
            let unrecorded = Some(now.open);
            Life { key, since, files: Ids::One(file), links, over: false, unrecorded }
        };
        match lives.last_mut().filter(|last| last.key == key) {
            Some(last) if last.files.contains(file) && !last.over => {}
            Some(last) if links && !last.over => last.files.insert(file),
            Some(_) => lives.push(life(Some(now))),
            None => {
                let since = (!lives.is_empty()).then_some(now);
                lives.reserve_exact(1);
                lives.push(life(since));
            }
        }
        let of_file = self.of_file.entry(file).or_default();
        of_file.path = Some(Arc::clone(path));
        self.keep(file, number, key);
    }

    /// Notes an inode that had the path when an earlier run last saw to it.
    pub(super) fn had(&mut self, file: FileId, (number, key): (Number, InodeKey), now: Since) {
        let known = self.lives.get(&number).map(Vec::as_slice).unwrap_or_default();
        if known.iter().any(|life| life.files.contains(file)) {
            return;
        }
        // Whether that run had it recorded all the time is not known.
        let (files, unrecorded) = (Ids::One(file), Some(now.open));
        let life = Life { key, since: None, files, links: false, over: false, unrecorded };
        self.lives.entry(number).or_default().insert(0, life);
        self.keep(file, number, key);
    }

    /// Notes a replica that was just made, and is recorded before it can take the path.
    pub(super) fn replica(&mut self, file: FileId, (number, key): (Number, InodeKey), now: Since) {
        let (since, files) = (Some(now), Ids::One(file));
        let life = Life { key, since, files, links: false, over: false, unrecorded: None };
        let lives = self.lives.entry(number).or_default();
        lives.reserve_exact(1);
        lives.push(life);
        if lives.len() > MOST_LIVES {
            lives.remove(0);
        }
        self.keep(file, number, key);
    }

    /// The life that began last begins only now.
    pub(super) fn begins(&mut self, number: &Number, now: Since) {
        let last = self.lives.get_mut(number).and_then(|lives| lives.last_mut());
        if let Some(since) = last.and_then(|last| last.since.as_mut()) {
            *since = now;
        }
    }

    fn keep(&mut self, file: FileId, number: Number, key: InodeKey) {
        if number_of(key) != number {
            self.numbers.insert(key, number);
        }
        let known = &mut self.of_file.entry(file).or_default().numbers;
        known.retain(|other| *other != number);
        known.reserve_exact(1);
        known.push(number);
        if known.len() > MOST_INODES {
            let oldest = known.remove(0);
            self.remove(file, &oldest);
        }
    }

    /// The file is protected no longer.
    pub(super) fn forget(&mut self, file: FileId) {
        for number in self.of_file.remove(&file).unwrap_or_default().numbers {
            self.remove(file, &number);
        }
    }

    fn remove(&mut self, file: FileId, number: &Number) {
        let Some(lives) = self.lives.get_mut(number) else { return };
        lives.iter_mut().for_each(|life| life.files.remove(file));
        let numbers = &mut self.numbers;
        lives.retain(|life| {
            let unused = life.files.is_empty();
            if unused {
                numbers.remove(&life.key);
            }
            !unused
        });
        for life in lives.iter().filter(|life| number_of(life.key) != *number) {
            numbers.insert(life.key, *number);
        }
        if lives.is_empty() {
            self.lives.remove(number);
        }
    }

    /// What a call that began then did something to.
    pub(super) fn called(&self, number: &Number, began: FileTime) -> Vec<Touched> {
        let Some(lives) = self.lives.get(number) else { return Vec::new() };
        let life = at(lives, began).and_then(|at| lives.get(at)).filter(|life| !life.over);
        life.map(Life::touched).unwrap_or_default()
    }

    /// A call that began then took the inode its name.
    pub(super) fn removed(&mut self, number: &Number, began: FileTime) {
        let Some(lives) = self.lives.get_mut(number) else { return };
        let life = at(lives, began).and_then(|at| lives.get_mut(at));
        if let Some(life) = life.filter(|life| !life.links) {
            life.over = true;
        }
    }

    /// Whether the number was another's before.
    pub(super) fn is_used_again(&self, number: &Number) -> bool {
        self.lives.get(number).is_some_and(|lives| lives.len() > 1)
    }

    /// What was opened then.
    pub(super) fn opened(&self, key: InodeKey, at: Instant) -> Vec<Touched> {
        let lives = self.lives.get(&self.number(key)).map(Vec::as_slice).unwrap_or_default();
        let then =
            |life: &&Life| life.key == key && life.since.is_none_or(|since| since.open <= at);
        lives.iter().rev().find(then).map(Life::touched).unwrap_or_default()
    }

    /// Whether everything that was done to this inode of the file after `whole` is recorded.
    pub(super) fn is_recorded(&self, file: FileId, key: InodeKey, whole: Instant) -> bool {
        let mut lives = self.lives.get(&self.number(key)).into_iter().flatten();
        let life = lives.rfind(|life| life.key == key && life.files.contains(file));
        life.is_some_and(|life| life.unrecorded.is_none_or(|until| until <= whole))
    }

    /// The inode at that path could not be made to be recorded.
    pub(super) fn is_refused(&mut self, file: FileId, number: &Number, until: Instant) {
        let lives = self.lives.get_mut(number).into_iter().flatten();
        if let Some(life) = lives.rev().find(|life| life.files.contains(file)) {
            life.unrecorded = Some(until);
        }
    }

    /// Whether this is a name of the file. Another one of the same inode is no concern of ours:
    /// a hard link, or that of a later file that was given the number.
    pub(super) fn is_called(&self, file: FileId, name: Option<&[u8]>) -> bool {
        let own = self.of_file.get(&file).and_then(|of_file| of_file.path.as_ref()?.file_name());
        let (Some(own), Some(name)) = (own, name) else { return true };
        name.rsplit(|byte| *byte == b'/').next() == Some(own.as_encoded_bytes())
    }

    /// Those of the directories above this path that are not known yet.
    pub(super) fn unknown_above<'a>(&self, path: &'a Path) -> Vec<&'a Path> {
        path.ancestors().skip(1).filter(|dir| !self.directories.contains_key(*dir)).collect()
    }

    /// Notes a directory above a file.
    pub(super) fn above(&mut self, directory: &Path, number: Number) {
        self.directories.insert(directory.to_owned(), number);
    }

    /// What is hidden by a mount on this inode: the file that it is, or all below.
    pub(super) fn covered(&self, number: &Number, began: FileTime) -> Vec<Touched> {
        let mut hidden = self.called(number, began);
        for (dir, _) in self.directories.iter().filter(|(_, known)| *known == number) {
            for (file, of_file) in &self.of_file {
                if of_file.path.as_ref().is_some_and(|path| path.starts_with(dir)) {
                    let lives = of_file.numbers.iter().filter_map(|own| self.lives.get(own));
                    let keys = lives.flatten().map(|life| Touched { file: *file, key: life.key });
                    hidden.extend(keys);
                }
            }
        }
        hidden
    }

    /// Every inode that is known.
    pub(super) fn keys(&self) -> HashSet<InodeKey> {
        self.lives.values().flatten().map(|life| life.key).collect()
    }

    fn number(&self, key: InodeKey) -> Number {
        self.numbers.get(&key).copied().unwrap_or_else(|| number_of(key))
    }
}

/// What audit calls an inode, as a rule.
fn number_of(key: InodeKey) -> Number {
    ((rustix::fs::major(key.dev), rustix::fs::minor(key.dev)), key.ino)
}

/// The life to which a call belongs that began then. That is told in steps of some
/// milliseconds; in the step in which a life begins, the one before has to have ended first.
fn at(lives: &[Life], began: FileTime) -> Option<usize> {
    let since = |life: &Life| life.since.map(|since| since.call);
    let mut found = lives.iter().rposition(|life| since(life).is_none_or(|call| call < began));
    for (at, life) in lives.iter().enumerate() {
        let open = found.and_then(|found| lives.get(found)).is_some_and(|life| !life.over);
        if since(life) == Some(began) && !open {
            found = Some(at);
        }
    }
    found
}

impl Life {
    fn touched(&self) -> Vec<Touched> {
        self.files.iter().map(|file| Touched { file, key: self.key }).collect()
    }
}

#[cfg(test)]
mod tests;
