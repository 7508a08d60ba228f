//! Which protected files an inode belongs to, and since when.
//!
//! Inode numbers are used again: what was taken out of a path is removed sooner or later, and
//! the next replica, of any file, may get its number. So each number has its *lives*, and what
//! was done to an earlier one is not laid on a later. What somebody removes may come back as a
//! file that is none of ours, so a life ends with the last name.

mod life;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::life::{Life, Lives, Nanos, all_at, at, number_of};
use crate::attribute::{InodeKey, Touched};
use crate::judge::FileTime;
use crate::sense::few::Few;
use crate::sense::nodes::{Nodes, Place};
use crate::sense::{FileId, FileMap};

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

/// See the module.
#[derive(Debug)]
pub(super) struct Inodes {
    lives: Nodes<Number, Lives>,
    /// Where `statx` has another number than audit.
    numbers: HashMap<InodeKey, Number>,
    of_file: FileMap<OfFile>,
    /// The directories above.
    directories: HashMap<PathBuf, Number>,
    began: Instant,
}

#[derive(Debug, Default)]
struct OfFile {
    path: Option<Arc<Path>>,
    /// The latest last.
    inodes: Few<Place, 3>,
}

impl Default for Inodes {
    fn default() -> Self {
        let (lives, numbers, of_file, directories) = Default::default();
        Self { lives, numbers, of_file, directories, began: Instant::now() }
    }
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
        let unrecorded = Some(self.nanos(now.open));
        let life = |since: (Option<Nanos>, Option<Nanos>)| Life {
            links,
            unrecorded,
            ..Life::of(file, (number, key), since)
        };
        let again = self.begin(now);
        let place = self.lives.place(&number);
        let Some(lives) = self.lives.get_mut(place) else { return };
        let older = if lives.is_empty() { (None, None) } else { again };
        match lives.last_mut().filter(|last| last.key(&number) == key) {
            Some(last) if last.is_of(file) && !last.over => {}
            Some(last) if links && !last.over => last.insert(file),
            Some(_) => lives.push(life(again)),
            None => lives.push(life(older)),
        }
        if let Some(of_file) = self.of_file.get_or_insert_with(file, OfFile::default) {
            of_file.path = Some(Arc::clone(path));
        }
        self.keep(file, number, key);
    }

    /// Notes an inode that had the path when an earlier run last saw to it.
    pub(super) fn had(&mut self, file: FileId, (number, key): (Number, InodeKey), now: Since) {
        if self.of(&number).any(|life| life.is_of(file)) {
            return;
        }
        // Whether that run had it recorded all the time is not known.
        let unrecorded = Some(self.nanos(now.open));
        let life = Life { unrecorded, ..Life::of(file, (number, key), (None, None)) };
        let place = self.lives.place(&number);
        if let Some(lives) = self.lives.get_mut(place) {
            lives.change(|lives| lives.insert(0, life));
        }
        self.keep(file, number, key);
    }

    /// Notes a replica that was just made, and is recorded before it can take the path.
    pub(super) fn replica(&mut self, file: FileId, (number, key): (Number, InodeKey), now: Since) {
        let life = Life::of(file, (number, key), self.begin(now));
        let place = self.lives.place(&number);
        let Some(lives) = self.lives.get_mut(place) else { return };
        lives.push(life);
        let oldest = (lives.len() > MOST_LIVES).then(|| lives.change(|lives| lives.remove(0)));
        self.keep(file, number, key);
        for file in oldest.iter().flat_map(Life::files) {
            self.let_go(file, place);
        }
    }

    /// The life that began last begins only now.
    pub(super) fn begins(&mut self, number: &Number, now: Since) {
        let (call, open) = self.begin(now);
        let last = self.of_mut(number).and_then(Few::last_mut);
        if let Some(last) = last.filter(|last| last.call.is_some()) {
            (last.call, last.open) = (call, open);
        }
    }

    fn keep(&mut self, file: FileId, number: Number, key: InodeKey) {
        if number_of(key) != number {
            self.numbers.insert(key, number);
        }
        let place = self.lives.place(&number);
        let Some(known) = self.of_file.get_or_insert_with(file, OfFile::default) else { return };
        known.inodes.extract(|other| *other == place);
        known.inodes.push(place);
        if known.inodes.len() > MOST_INODES {
            let oldest = known.inodes.change(|inodes| inodes.remove(0));
            self.remove(file, oldest);
        }
    }

    /// A life of the file's is forgotten: the number is no more its, unless another life is.
    fn let_go(&mut self, file: FileId, place: Place) {
        let mut lives = self.lives.get(place).into_iter().flat_map(Few::iter);
        if !lives.any(|life| life.is_of(file))
            && let Some(known) = self.of_file.get_mut(&file)
        {
            known.inodes.extract(|other| *other == place);
        }
    }

    /// The file is protected no longer.
    pub(super) fn forget(&mut self, file: FileId) {
        for place in self.of_file.remove(&file).unwrap_or_default().inodes.iter() {
            self.remove(file, *place);
        }
    }

    fn remove(&mut self, file: FileId, place: Place) {
        let Some(number) = self.lives.key(place).copied() else { return };
        let Some(lives) = self.lives.get_mut(place) else { return };
        for unused in lives.extract(|life| life.is_only_of(file)) {
            self.numbers.remove(&unused.key(&number));
        }
        lives.iter_mut().for_each(|life| life.remove(file));
        for key in lives.iter().map(|life| life.key(&number)) {
            if number_of(key) != number {
                self.numbers.insert(key, number);
            }
        }
        if lives.is_empty() {
            self.lives.remove(place);
        }
    }

    /// What a call that began then, and used this name, did something to; or may have, where the
    /// number was used again at that very time.
    pub(super) fn called(
        &self,
        number: &Number,
        began: FileTime,
        name: Option<&[u8]>,
    ) -> Vec<Touched> {
        let Some((_, lives)) = self.lives.find(number) else { return Vec::new() };
        let named = |life: &Life| life.files().any(|file| self.is_called(file, name));
        let lives =
            all_at(lives, began, |life| name.is_some() && named(life)).filter(|life| !life.over);
        lives.flat_map(|life| life.touched(number)).collect()
    }

    /// A call that began then took the inode its name.
    pub(super) fn removed(&mut self, number: &Number, began: FileTime) {
        let Some(lives) = self.of_mut(number) else { return };
        let life = at(lives, began).and_then(|at| lives.iter_mut().nth(at));
        if let Some(life) = life.filter(|life| !life.links) {
            life.over = true;
        }
    }

    /// Whether the number was another's before.
    pub(super) fn is_used_again(&self, number: &Number) -> bool {
        self.of(number).count() > 1
    }

    /// What was opened then.
    pub(super) fn opened(&self, key: InodeKey, at: Instant) -> Vec<Touched> {
        let (number, at) = (self.number(key), self.nanos(at));
        let then =
            |life: &&Life| life.key(&number) == key && life.open.is_none_or(|open| open <= at);
        self.of(&number).rev().find(then).map(|life| life.touched(&number)).unwrap_or_default()
    }

    /// Whether everything that was done to this inode of the file after `whole` is recorded.
    pub(super) fn is_recorded(&self, file: FileId, key: InodeKey, whole: Instant) -> bool {
        let (number, whole) = (self.number(key), self.nanos(whole));
        let its = |life: &&Life| life.key(&number) == key && life.is_of(file);
        let life = self.of(&number).rfind(its);
        life.is_some_and(|life| life.unrecorded.is_none_or(|until| until <= whole))
    }

    /// The inode at that path could not be made to be recorded.
    pub(super) fn is_refused(&mut self, file: FileId, number: &Number, until: Instant) {
        let until = self.nanos(until);
        let lives = self.of_mut(number).into_iter().flat_map(Few::iter_mut);
        if let Some(life) = lives.rev().find(|life| life.is_of(file)) {
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
    pub(super) fn covered(
        &self,
        number: &Number,
        began: FileTime,
        name: Option<&[u8]>,
    ) -> Vec<Touched> {
        let mut hidden = self.called(number, began, name);
        for (dir, _) in self.directories.iter().filter(|(_, known)| *known == number) {
            for (file, of_file) in self.of_file.iter() {
                if of_file.path.as_ref().is_some_and(|path| path.starts_with(dir)) {
                    let numbers = of_file.inodes.iter().filter_map(|at| self.lives.key(*at));
                    hidden.extend(numbers.flat_map(|number| {
                        self.of(number).map(move |life| Touched { file, key: life.key(number) })
                    }));
                }
            }
        }
        hidden
    }

    /// Every inode that is known.
    pub(super) fn keys(&self) -> HashSet<InodeKey> {
        let of = |(number, lives): &(Number, Lives)| -> Vec<InodeKey> {
            lives.iter().map(|life| life.key(number)).collect()
        };
        self.lives.iter().flat_map(of).collect()
    }

    /// The lives of a number, in order.
    fn of(&self, number: &Number) -> impl DoubleEndedIterator<Item = &Life> {
        self.lives.find(number).into_iter().flat_map(|(_, lives)| lives.iter())
    }

    fn of_mut(&mut self, number: &Number) -> Option<&mut Lives> {
        let (place, _) = self.lives.find(number)?;
        self.lives.get_mut(place)
    }

    fn number(&self, key: InodeKey) -> Number {
        self.numbers.get(&key).copied().unwrap_or_else(|| number_of(key))
    }

    fn nanos(&self, at: Instant) -> Nanos {
        let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        Nanos::of(match at.checked_duration_since(self.began) {
            Some(later) => nanoseconds(later),
            None => -nanoseconds(self.began.duration_since(at)),
        })
    }

    fn begin(&self, since: Since) -> (Option<Nanos>, Option<Nanos>) {
        (Some(Nanos::of_call(since.call)), Some(self.nanos(since.open)))
    }
}

#[cfg(test)]
mod tests;
