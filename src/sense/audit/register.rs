//! Having inodes recorded: told to the kernel, and noted in [`Inodes`](super::inodes::Inodes).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::inodes::{Number, Since};
use super::tags::Tags;
use super::{FileId, Shared};
use crate::attribute::InodeKey;
use crate::judge::FileKind;
use crate::sense::MountTable;
use crate::sys::clock;
use crate::sys::open::{open_dir, open_path_at};

/// Whoever changes the path while we look is not waited for longer than so often.
const TRIES: usize = 3;
/// The clock of calls goes in steps of ten milliseconds at most, unless somebody sets it back.
const LONGEST_STEP: Duration = Duration::from_millis(50);
/// As good as for ever.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Shared {
    /// Has what is at `path` recorded from now on.
    pub(super) fn at_path(&self, file: FileId, path: &Arc<Path>) {
        for _ in 0..TRIES {
            let Ok(found) = Found::at(path) else { return };
            let done = self.tags().tag(file, path);
            // Up to here.
            let now = since();
            if Found::at(path).is_ok_and(|again| again.number != found.number) {
                continue;
            }
            let mut state = self.state();
            state.inodes.at_path((file, path), (found.number, found.key), found.links, now);
            if let Err(error) = done {
                state.inodes.is_refused(file, &found.number, now.open + NEVER);
                let path = crate::text::escape_path(&**path);
                tracing::debug!("{path}: what is done to it is not recorded: {error}");
            }
            drop(state);
            self.above(path);
            return;
        }
    }

    /// Notes an inode that had the path of the file before this run.
    pub(super) fn had(&self, file: FileId, key: InodeKey) {
        // On btrfs audit has another device: there it tells nothing of the time before.
        let number = ((rustix::fs::major(key.dev), rustix::fs::minor(key.dev)), key.ino);
        self.state().inodes.had(file, (number, key), since());
    }

    /// Notes the directories above, which something may be mounted on.
    fn above(&self, path: &Path) {
        let unknown = self.state().inodes.unknown_above(path);
        for dir in unknown {
            if let Ok(found) = Found::at(dir) {
                self.state().inodes.above(dir, found.number);
            }
        }
    }

    /// Has a replica recorded, before anybody can have got at it by the file's path. If it is
    /// not `urgent`, what was done to an earlier inode of the number is told apart for sure.
    pub(super) fn replica(&self, file: FileId, dir: BorrowedFd<'_>, name: &OsStr, urgent: bool) {
        let Ok(found) = Found::of(dir, name, None) else { return };
        let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
        let now = since();
        self.state().inodes.replica(file, (found.number, found.key), now);
        if let Err(error) = self.tags().tag(file, &path) {
            self.state().inodes.is_refused(file, &found.number, now.open + NEVER);
            tracing::debug!("what is done to a replica is not recorded: {error}");
        }
        if !urgent && self.state().inodes.is_used_again(&found.number) {
            let next = next_step(now);
            self.state().inodes.begins(&found.number, next);
        }
    }

    pub(super) fn tags(&self) -> MutexGuard<'_, Tags> {
        self.tags.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

/// Calls that begin from now on.
fn since() -> Since {
    Since { call: clock::of_calls(), open: Instant::now() }
}

/// Waits until the clock of calls has gone a step further.
fn next_step(from: Since) -> Since {
    let started = Instant::now();
    while since().call <= from.call && started.elapsed() < LONGEST_STEP {
        std::thread::sleep(Duration::from_millis(1));
    }
    since()
}

/// The inode that has a name: as audit numbers it, and as `statx` does.
struct Found {
    number: Number,
    key: InodeKey,
    /// It has other names too, or is a directory.
    links: bool,
}

impl Found {
    fn at(path: &Path) -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::InvalidInput);
        let dir = open_dir(path.parent().ok_or_else(missing)?)?;
        Self::of(dir.as_fd(), path.file_name().ok_or_else(missing)?, Some(path))
    }

    fn of(dir: BorrowedFd<'_>, name: &OsStr, path: Option<&Path>) -> io::Result<Self> {
        let fd = open_path_at(dir, name)?;
        let stat = crate::sys::stat::stat_fd(fd.as_fd())?;
        // btrfs shows a device of its own for each subvolume; audit has the filesystem's.
        const BTRFS: rustix::fs::FsWord = 0x9123_683e;
        let on_btrfs = rustix::fs::fstatfs(&fd).is_ok_and(|fs| fs.f_type == BTRFS);
        let dev = match on_btrfs {
            true => {
                let own = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
                let path = path.map_or(own, |path| Ok(path.to_owned()))?;
                let within = MountTable::read()?.in_filesystem(&path);
                within.ok_or(io::ErrorKind::NotFound)?.0
            }
            false => stat.dev,
        };
        let number = ((rustix::fs::major(dev), rustix::fs::minor(dev)), stat.ino);
        let key = InodeKey::of(&stat);
        Ok(Self { number, key, links: stat.nlink > 1 || stat.kind == FileKind::Directory })
    }
}
