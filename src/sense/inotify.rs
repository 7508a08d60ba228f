//! inotify, for where fanotify is refused: the same watching, but nobody is named.
//!
//! Our own reading and healing comes back as events, because inotify cannot tell whose they
//! are. `OPEN` is not watched: every hash of a file would be an event. What remains of our own
//! leads to one more look, which opens nothing, and there it ends.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask};

use super::index::{Index, Part};
use super::inodes::inodes_of;
use super::nodes::Place;
use super::{By, FileId, Observation, ReadOutcome, SenseError, Sensor, Watched};
use crate::sys::fanotify::MaskFlags;
use crate::sys::open::self_path;

const WHAT: &str = "inotify";
/// Room for several hundred events a read.
const BUFFER: usize = 64 << 10;
const ROUNDS: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct InotifySensor {
    inotify: Inotify,
    index: Index<WatchDescriptor>,
    buffer: Box<[u8]>,
}

impl InotifySensor {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn new() -> Result<Self, SenseError> {
        let inotify = Inotify::init().map_err(|source| SenseError::Refused {
            what: WHAT,
            remedy: "fs.inotify.max_user_instances may have to be raised",
            source,
        })?;
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Self { inotify, index: Index::default(), buffer })
    }

    /// Readable when events wait.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// As [`super::FanotifySensor::watch`].
    ///
    /// # Errors
    /// The first inode that cannot be watched; all others are watched nevertheless.
    /// `fs.inotify.max_user_watches` may have to be raised.
    pub fn watch(&mut self, id: FileId, path: &Arc<Path>, kind: Watched) -> Result<(), SenseError> {
        let mut first = Ok(());
        let mut wanted = Vec::new();
        for needed in inodes_of(path, kind) {
            match self.add(id, path, needed.fd.as_fd(), needed.part) {
                Ok(place) => wanted.push((place, needed.part)),
                Err(e) => first = first.and(Err(SenseError::watch(WHAT, &needed.path, e))),
            }
        }
        let lost = self.index.retain(id, |place, part| wanted.contains(&(place, part)));
        self.release(lost);
        first
    }

    /// Watches `id` no longer.
    pub fn unwatch(&mut self, id: FileId) {
        let lost = self.index.retain(id, |_, _| false);
        self.release(lost);
    }

    /// Turns what waits into observations, none of which names a process. Never blocks.
    pub fn read(&mut self, at: Instant, out: &mut Vec<Observation>) -> ReadOutcome {
        let mut lost = false;
        for _ in 0..ROUNDS {
            match self.inotify.read_events(&mut self.buffer) {
                Ok(events) => {
                    for event in events {
                        lost |= event.mask.contains(EventMask::Q_OVERFLOW);
                        observe(&self.index, &event, at, out);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "events of protected files could not be read");
                    lost = true;
                    break;
                }
            }
        }
        ReadOutcome { lost }
    }

    /// One watch an inode: adding to its mask, so that the parts played before go on.
    fn add(
        &mut self,
        id: FileId,
        path: &Arc<Path>,
        fd: BorrowedFd<'_>,
        part: Part,
    ) -> io::Result<Place> {
        let mask = watch_mask(Index::<WatchDescriptor>::mask_of(part)) | WatchMask::MASK_ADD;
        let wd = self.inotify.watches().add(self_path(fd), mask)?;
        Ok(self.index.add(id, path, &wd, part))
    }

    fn release(&mut self, lost: Vec<WatchDescriptor>) {
        for wd in lost {
            if self.index.mask(&wd).is_empty() {
                // It fails where the inode, and so the watch, is gone already.
                let _ = self.inotify.watches().remove(wd);
            }
        }
    }
}

fn observe(
    index: &Index<WatchDescriptor>,
    event: &Event<&OsStr>,
    at: Instant,
    out: &mut Vec<Observation>,
) {
    let mask = MaskFlags::from_bits_retain(event.mask.bits().into());
    let hints = match event.name {
        Some(name) => {
            let place = (event.wd.clone(), name.as_bytes().to_vec());
            index.hints(mask, None, Some(&place))
        }
        None => index.hints(mask, Some(&event.wd), None),
    };
    out.extend(hints.into_iter().map(|(file, hint)| Observation {
        at,
        sensor: Sensor::Inotify,
        file,
        hint,
        by: By::Nobody,
        retired: false,
    }));
}

/// The numbers are the same; `OPEN` is left out, and directories need no asking for.
fn watch_mask(mask: MaskFlags) -> WatchMask {
    let left_out = MaskFlags::FAN_OPEN | MaskFlags::FAN_ONDIR;
    WatchMask::from_bits_truncate(u32::try_from((mask - left_out).bits()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::sense::Hint;
    use crate::sys::open::open_dir;
    use crate::sys::test::rooms;

    const A: FileId = FileId(1);

    fn seen(sensor: &mut InotifySensor) -> Vec<Hint> {
        let mut out = Vec::new();
        assert!(!sensor.read(Instant::now(), &mut out).lost);
        assert!(out.iter().all(|seen| matches!(seen.by, By::Nobody) && seen.file == A));
        out.into_iter().map(|seen| seen.hint).collect()
    }

    fn shell(dir: &Path, script: &str) {
        let mut command = Command::new("sh");
        assert!(command.args(["-c", script]).current_dir(dir).status().unwrap().success());
    }

    #[test]
    fn changes_are_seen_and_opening_is_not() {
        for (script, hint) in [
            ("echo x >> f", Hint::Written),
            ("cat f > /dev/null", Hint::Closed),
            ("chmod 600 f", Hint::Metadata),
            ("rm f", Hint::Removed),
            ("mv f g", Hint::Moved),
            ("echo x > n; mv n f", Hint::Arrived),
        ] {
            for room in rooms() {
                std::fs::write(room.path().join("f"), "x").unwrap();
                let mut sensor = InotifySensor::new().unwrap();
                sensor.watch(A, &room.path().join("f").into(), Watched::File).unwrap();
                shell(room.path(), script);
                let seen = seen(&mut sensor);
                assert!(seen.contains(&hint), "no {hint:?} in {seen:?}");
                assert!(!seen.contains(&Hint::Opened), "{seen:?}");
            }
        }
    }

    #[test]
    fn what_was_exchanged_in_is_watched_once_the_path_is_watched_again_and_what_came_out_is_not() {
        for room in rooms() {
            for name in ["f", "replica"] {
                std::fs::write(room.path().join(name), "x").unwrap();
            }
            let dir = open_dir(room.path()).unwrap();
            let (f, replica) = (OsStr::new("f"), OsStr::new("replica"));
            let mut sensor = InotifySensor::new().unwrap();
            sensor.watch(A, &room.path().join("f").into(), Watched::File).unwrap();
            crate::sys::rename::exchange(dir.as_fd(), f, dir.as_fd(), replica).unwrap();
            sensor.watch(A, &room.path().join("f").into(), Watched::File).unwrap();
            seen(&mut sensor);
            shell(room.path(), "echo x >> replica");
            assert!(seen(&mut sensor).is_empty());
            shell(room.path(), "echo x >> f");
            assert!(seen(&mut sensor).contains(&Hint::Written));
            sensor.unwatch(A);
            shell(room.path(), "echo x >> f; rm f");
            assert!(seen(&mut sensor).is_empty());
        }
    }

    #[test]
    fn a_protected_directory_tells_the_names_that_come_up_in_it() {
        for room in rooms() {
            let mut sensor = InotifySensor::new().unwrap();
            sensor.watch(A, &room.path().into(), Watched::Directory).unwrap();
            shell(room.path(), "touch x");
            assert!(seen(&mut sensor).contains(&Hint::Child(b"x".to_vec())));
        }
    }
}
