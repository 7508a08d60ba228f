//! The fanotify notification group: what was done to a protected file, by which process.
//!
//! For each protected path it marks the inode itself, the directory that holds the name, and
//! every directory above, up to the root. Marks are of inodes and not of paths: when a name was
//! given to another inode, [`FanotifySensor::watch`] again finds the new one and forgets the
//! old. A replica is marked before it is exchanged in, so no change to it is missed.
//!
//! What our own process does is dropped here. What it cannot see: clearing the immutable bit
//! through a descriptor that was opened before, or with `file_setattr(2)`; writing through a
//! mapping; anything on a filesystem that changes elsewhere.

mod bygone;
mod groups;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

pub use bygone::Bygone;
use groups::{Groups, Inode};

use super::index::{self, Index, Part};
use super::inodes::{inodes_of, part_of};
use super::nodes::Place;
use super::{By, FileId, FileMap, Hint, Observation, ReadOutcome, SenseError, Sensor, Watched};
use crate::attribute::Captures;
use crate::attribute::procfs::capture;
use crate::sys::fanotify::{Event, MaskFlags, ObjectKey};
use crate::sys::handle::{Handle, open_by_handle};
use crate::sys::open::{open_dir, open_path_at};

const WHAT: &str = "fanotify";
/// Buffers read in one go; then others have their turn, and the descriptor is still readable.
const ROUNDS: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct FanotifySensor {
    groups: Groups,
    index: Index<Inode>,
    files: FileMap<File>,
    /// Events that were read and whose process was not looked at yet.
    unnamed: Vec<Unnamed>,
    us: u32,
    /// The program that we run, where we are the first process.
    program: Option<String>,
}

#[derive(Debug)]
struct Unnamed {
    pid: u32,
    pidfd: Option<OwnedFd>,
    object: Option<Inode>,
    at: Instant,
    hints: Vec<(FileId, Hint)>,
}

#[derive(Debug)]
struct File {
    /// The inode that has the path.
    current: Option<Place>,
    /// The marked replica that waits to be exchanged in.
    staged: Option<Place>,
}

impl FanotifySensor {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// Where the kernel refuses the group.
    pub fn new() -> Result<Self, SenseError> {
        let groups = Groups::new().map_err(|source| SenseError::Refused {
            what: WHAT,
            remedy: "it needs CAP_SYS_ADMIN, Linux 5.9 and a system call filter that lets it",
            source,
        })?;
        let (index, files) = (Index::default(), FileMap::default());
        let us = std::process::id();
        let program = if us == 1 { capture(us).and_then(|actor| actor.exe) } else { None };
        Ok(Self { groups, index, files, unnamed: Vec::new(), us, program })
    }

    /// One of them is readable when events wait.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.groups.fds()
    }

    /// Watches whatever `path` names now, its directory and those above. Again, and as often as
    /// you like: inodes that no longer belong to the path are forgotten. A path that does not
    /// exist is watched for from the nearest directory that does.
    ///
    /// # Errors
    /// The first inode that cannot be marked; all others are marked nevertheless.
    pub fn watch(&mut self, id: FileId, path: &Arc<Path>, kind: Watched) -> Result<(), SenseError> {
        if !self.files.contains_key(&id) && self.watch_beside(id, path, kind).is_some() {
            return Ok(());
        }
        let mut first = Ok(());
        let mut wanted = Vec::new();
        let mut current = None;
        for needed in inodes_of(path, kind) {
            match self.add(id, path, needed.fd.as_fd(), needed.part) {
                Ok(place) => {
                    if matches!(needed.part, Part::Itself | Part::ItselfDirectory) {
                        current = Some(place);
                    }
                    wanted.push((place, needed.part));
                }
                Err(e) => first = first.and(Err(SenseError::watch(WHAT, &needed.path, e))),
            }
        }
        let staged = self.files.remove(&id).and_then(|file| file.staged);
        // A replica that has arrived at the path is staged no more.
        let staged = staged.filter(|place| !wanted.contains(&(*place, Part::Itself)));
        let lost = self
            .index
            .retain(id, |place, part| staged == Some(place) || wanted.contains(&(place, part)));
        self.files.insert(id, File { current, staged });
        self.release(path, lost);
        first
    }

    /// Watches a path in a directory that another path is watched in: those above have their
    /// marks. `None` where it has to be done in full.
    fn watch_beside(&mut self, id: FileId, path: &Arc<Path>, kind: Watched) -> Option<()> {
        let dir = open_dir(path.parent()?).ok()?;
        let holder = self.groups.inode(dir.as_fd()).ok()?;
        let above = self.index.above(path, self.index.place(&holder)?)?;
        let itself = open_path_at(dir.as_fd(), path.file_name()?).ok()?;
        let current = self.add(id, path, itself.as_fd(), part_of(kind)).ok()?;
        self.add(id, path, dir.as_fd(), Part::Holds(0)).ok()?;
        self.index.add_above(id, above);
        self.files.insert(id, File { current: Some(current), staged: None });
        Some(())
    }

    /// Marks the replica `name` in `dir`, so that its events are those of `id` from now on. A
    /// replica staged for it before is forgotten.
    ///
    /// # Errors
    /// Where it cannot be marked; or where `id` is not watched.
    pub fn watch_replica(
        &mut self,
        id: FileId,
        dir: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), SenseError> {
        let failed = |source| SenseError::watch(WHAT, Path::new(name), source);
        let path = self.index.path(id).map(Arc::clone);
        let path = path.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let replica = open_path_at(dir, name).map_err(failed)?;
        let place = self.add(id, &path, replica.as_fd(), Part::Itself).map_err(failed)?;
        let Some(file) = self.files.get_mut(&id) else { return Ok(()) };
        let before = file.staged.replace(place).filter(|old| *old != place);
        if let Some(old) = before {
            let lost = self.index.remove_object(id, old);
            self.release(&path, lost);
        }
        Ok(())
    }

    fn add(
        &mut self,
        id: FileId,
        path: &Arc<Path>,
        fd: BorrowedFd<'_>,
        part: Part,
    ) -> io::Result<Place> {
        let inode = self.groups.mark(fd, Index::<Inode>::mask_of(part))?;
        Ok(self.index.add(id, path, &inode, part))
    }

    /// The replica has been exchanged in: what is at the path of `id` now is the file. The
    /// inode that came out is still the file's too, until the next [`FanotifySensor::watch`].
    /// Costs no system call.
    pub fn adopt(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id)
            && let Some(replica) = file.staged.take()
        {
            file.current = Some(replica);
        }
    }

    /// Of `name` in `dir` it is no longer told who opens it and only reads, until it is watched
    /// again.
    pub fn spare_openers(&self, dir: BorrowedFd<'_>, name: &OsStr) {
        let reading = MaskFlags::FAN_OPEN | MaskFlags::FAN_CLOSE_NOWRITE;
        if let Ok(inode) = open_path_at(dir, name) {
            self.groups.spare(inode.as_fd(), reading);
        }
    }

    /// Watches `id` no longer.
    pub fn unwatch(&mut self, id: FileId) {
        self.files.remove(&id);
        let Some(path) = self.index.path(id).map(Arc::clone) else { return };
        let lost = self.index.retain(id, |_, _| false);
        self.release(&path, lost);
    }

    /// Turns what waits into observations that name nobody: looking at a process costs more than
    /// looking at a file, and the file comes first. Never blocks.
    pub fn read(&mut self, at: Instant, out: &mut Vec<Observation>) -> ReadOutcome {
        let mut lost = false;
        for _ in 0..ROUNDS {
            let mut some = false;
            let read: Vec<_> = self.groups.read().collect();
            for (group, read) in read {
                match read {
                    Ok(events) => {
                        some |= !events.is_empty();
                        for event in events {
                            lost |= event.is_overflow();
                            self.observe(group, event, at, out);
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "events of protected files could not be read");
                        lost = true;
                    }
                }
            }
            if !some {
                break;
            }
        }
        ReadOutcome { lost }
    }

    /// The same observations once more, each with its process. An inode that left the path
    /// since they were read makes them retired.
    pub fn name(&mut self, captures: &Captures, out: &mut Vec<Observation>) {
        for Unnamed { pid, pidfd, object, at, mut hints } in std::mem::take(&mut self.unnamed) {
            let by = captures.by_event(pid, pidfd.as_ref().map(AsFd::as_fd));
            if self.is_our_child(&by) {
                // Until it runs a program it has what we have open, and what we wrote meanwhile it
                // is the last to close.
                hints.retain(|(_, hint)| *hint != Hint::WriterClosed);
            }
            self.tell(object.as_ref(), at, &hints, &by, out);
        }
    }

    /// Whether we started it. The first process has others as children too, but they do not run
    /// our program; what one runs cannot be told while that begins.
    fn is_our_child(&self, by: &By) -> bool {
        let By::Process { actor, .. } = by else { return false };
        let ours = self.us != 1 || (actor.exe.is_some() && actor.exe == self.program);
        actor.ppid == self.us && ours
    }

    fn observe(&mut self, group: usize, event: Event, at: Instant, out: &mut Vec<Observation>) {
        let taken = MaskFlags::FAN_MOVE | MaskFlags::FAN_MOVE_SELF | MaskFlags::FAN_DELETE_SELF;
        if event.is_overflow()
            || event.mask.contains(MaskFlags::FAN_ONDIR) && event.mask.intersects(taken)
        {
            self.index.doubt_above();
        }
        if event.pid == self.us {
            return;
        }
        let mut inode = |key: ObjectKey| self.groups.name(group, key);
        let object = event.object.map(&mut inode);
        let dir = event.dir.map(|(key, name)| (inode(key), name));
        let hints = self.index.hints(event.mask, object.as_ref(), dir.as_ref());
        if !hints.is_empty() {
            // Nothing has to be put right for a name in a directory: who gave it can come along.
            let urgent: Vec<_> =
                hints.iter().filter(|(_, hint)| !matches!(hint, Hint::Child(_))).cloned().collect();
            self.tell(object.as_ref(), at, &urgent, &By::Nobody, out);
            let Event { pid, pidfd, .. } = event;
            self.unnamed.push(Unnamed { pid, pidfd, object, at, hints });
        }
    }

    fn tell(
        &self,
        object: Option<&Inode>,
        at: Instant,
        hints: &[(FileId, Hint)],
        by: &By,
        out: &mut Vec<Observation>,
    ) {
        out.extend(hints.iter().cloned().map(|(file, hint)| {
            let retired = self.has_left(file, object, &hint);
            Observation { at, sensor: Sensor::Fanotify, file, hint, by: by.clone(), retired }
        }));
    }

    /// Whether the event is of an inode that was taken out of the path. What is told of the
    /// name, and not of the inode, is always of the path.
    fn has_left(&self, file: FileId, object: Option<&Inode>, hint: &Hint) -> bool {
        let of_the_inode = !matches!(
            hint,
            Hint::Removed | Hint::Gone | Hint::Moved | Hint::Arrived | Hint::Child(_)
        );
        let Some(file) = self.files.get(&file) else { return false };
        of_the_inode
            && file.current.is_some()
            && object.is_some_and(|key| {
                let place = self.index.place(key);
                place.is_none() || (file.current != place && file.staged != place)
            })
    }

    /// Takes marks off inodes that lost a part. They are found by their handle, for they may be
    /// anywhere; one that is not found, or cannot be opened, tells nobody anything any more.
    fn release(&self, near: &Path, lost: Vec<Inode>) {
        let mount = near.ancestors().skip(1).find_map(|dir| open_dir(dir).ok());
        for inode in lost {
            let extra = index::EVERYTHING.difference(self.index.mask(&inode));
            let Some((group, key)) = self.groups.key(&inode) else { continue };
            let handle = Handle { kind: key.kind, bytes: key.bytes.to_vec() };
            let Some(Ok(fd)) = mount.as_ref().map(|fd| open_by_handle(fd.as_fd(), &handle)) else {
                continue;
            };
            if !extra.is_empty() && ObjectKey::of(fd.as_fd()).is_ok_and(|found| found == key) {
                self.groups.unmark(group, fd.as_fd(), extra);
            }
        }
    }
}

#[cfg(test)]
mod tests;
