//! The files of the journal: one that grows, and older ones that are full.
//!
//! The growing one is `journal.jsonl`. A full one is renamed to `journal-N.jsonl`, where N is
//! the number of its first line in 20 digits, so that names sort as lines do. All of them are
//! append-only (`chattr +a`) wherever the filesystem knows that; to cut or rename one, the bit
//! is cleared for that moment.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, RenameFlags};

use super::chain::Claim;
use super::error::JournalError;
use super::lines::{Line, Lines};
use crate::baseline::Baseline;
use crate::fault::{Point, reach};
use crate::judge::FS_APPEND;
use crate::sys::open::{open_dir, open_read_at, reopen_read, self_path};
use crate::sys::{flags, stat};

pub(super) const CURRENT: &str = "journal.jsonl";

/// How often a reader starts again because files were renamed under its eyes.
const ATTEMPTS: u32 = 16;

/// One file, open for reading.
pub(super) struct Segment {
    pub(super) name: String,
    /// The number in its name; `None` for the growing one.
    pub(super) first: Option<u64>,
    pub(super) file: File,
}

impl Segment {
    /// Device and inode: the file itself, whatever its name is by now.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        identity(&self.file)
    }

    /// What its first line claims to be.
    pub(super) fn first_claim(&self) -> io::Result<Option<Claim>> {
        let mut lines = Lines::new(self.file.try_clone()?)?;
        Ok(match lines.next()? {
            Line::Whole(line) => Claim::read(line),
            _ => None,
        })
    }
}

pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|found| (found.dev(), found.ino()))
}

/// What to say of a journal that is not there: where nothing was ever protected, that.
fn missing(state: &Path, journal: PathBuf) -> JournalError {
    match Baseline::open_read_only(state) {
        Err(error) => error.into(),
        Ok(_) => JournalError::Missing(journal),
    }
}

/// The directory that holds them.
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens it, and makes it first where it does not exist.
    pub(super) fn make(state: &Path) -> Result<Self, JournalError> {
        let path = state.join("journal");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| JournalError::Io { doing: "make", path, source })?;
        Self::open(state)
    }

    /// Opens it.
    pub(super) fn open(state: &Path) -> Result<Self, JournalError> {
        let wanted = state.join("journal");
        let found = state.canonicalize().and_then(|state| {
            let path = state.join("journal");
            let fd = reopen_read(open_dir(&path)?.as_fd())?;
            Ok(Self { fd, path })
        });
        found.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => missing(state, wanted),
            _ => JournalError::Io { doing: "open", path: wanted, source },
        })
    }

    /// Makes this process the only one that writes here.
    pub(super) fn lock(&self) -> Result<(), JournalError> {
        rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            match errno {
                rustix::io::Errno::WOULDBLOCK => JournalError::Busy(self.path.clone()),
                _ => self.failed("lock", "", errno.into()),
            }
        })
    }

    pub(super) fn failed(
        &self,
        doing: &'static str,
        name: &str,
        source: io::Error,
    ) -> JournalError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        JournalError::Io { doing, path, source }
    }

    /// All of them as they are at one moment, the oldest first.
    ///
    /// The growing one is opened before the others are listed. If it is renamed in between,
    /// it turns up among them and is the last; so nothing is missed and nothing seen twice.
    pub(super) fn segments(&self) -> Result<Vec<Segment>, JournalError> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..ATTEMPTS {
            match self.try_segments() {
                Ok(segments) => return Ok(segments),
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => error = gone,
                Err(other) => return Err(self.failed("open", "", other)),
            }
        }
        Err(self.failed("open", "", error))
    }

    fn try_segments(&self) -> io::Result<Vec<Segment>> {
        let current = match self.read(CURRENT) {
            Ok(file) => Some(Segment { name: CURRENT.to_owned(), first: None, file }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let last = current.as_ref().map(Segment::identity).transpose()?;
        let mut all = Vec::new();
        for (first, name) in self.full()? {
            let file = self.read(&name)?;
            let segment = Segment { name, first: Some(first), file };
            let is_last = Some(segment.identity()?) == last;
            all.push(segment);
            if is_last {
                return Ok(all);
            }
        }
        all.extend(current);
        Ok(all)
    }

    /// The full ones by number and name, in order. Files with other names are not ours.
    pub(super) fn full(&self) -> io::Result<Vec<(u64, String)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self_path(self.fd.as_fd()))? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str()
                && let Some(first) = first_of(name)
            {
                found.push((first, name.to_owned()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn read(&self, name: &str) -> io::Result<File> {
        open_read_at(self.fd.as_fd(), OsStr::new(name)).map(File::from)
    }

    /// The growing one, open for appending; made where it does not exist.
    pub(super) fn append_to_current(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self_path(self.fd.as_fd()).join(CURRENT))?;
        if !file.metadata()?.is_file() {
            let why = "something that is not a regular file has its name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        set_append_only(file.as_fd(), true)?;
        self.sync()?;
        Ok(file)
    }

    /// Which file has the name of the growing one.
    pub(super) fn current_identity(&self) -> io::Result<Option<(u64, u64)>> {
        match stat::stat_at(self.fd.as_fd(), OsStr::new(CURRENT)) {
            Ok(found) => Ok(Some((found.dev, found.ino))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the growing one, `file`, its name as a full one.
    pub(super) fn retire(&self, file: &File, first: u64) -> io::Result<String> {
        set_append_only(file.as_fd(), false)?;
        reach(Point::RotateUnlocked);
        let renamed = (first..).take(1000).find_map(|number| {
            let name = full_name(number);
            match self.rename(CURRENT, &name) {
                Err(rustix::io::Errno::EXIST) => None,
                other => Some(other.map(|()| name)),
            }
        });
        reach(Point::RotateRenamed);
        set_append_only(file.as_fd(), true)?;
        let name = renamed.ok_or(io::ErrorKind::AlreadyExists)??;
        self.sync()?;
        reach(Point::RotateRetired);
        Ok(name)
    }

    /// Takes [`Directory::retire`] back.
    pub(super) fn reinstate(&self, file: &File, name: &str) -> io::Result<()> {
        set_append_only(file.as_fd(), false)?;
        let renamed = self.rename(name, CURRENT);
        set_append_only(file.as_fd(), true)?;
        Ok(renamed?)
    }

    fn rename(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE)
    }

    /// Removes a full one.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        set_append_only(self.read(name)?.as_fd(), false)?;
        reach(Point::RotateOpened);
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?;
        reach(Point::RotateDropped);
        self.sync()
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

/// Cuts `file`, which is open for appending, to `length` bytes, and waits for the disk.
pub(super) fn cut(file: &File, length: u64) -> io::Result<()> {
    set_append_only(file.as_fd(), false)?;
    let done = file.set_len(length).and_then(|()| file.sync_all());
    set_append_only(file.as_fd(), true)?;
    done
}

/// Whether `chattr +a` is on; `None` where there is no such thing.
pub(super) fn is_append_only(fd: BorrowedFd<'_>) -> io::Result<Option<bool>> {
    Ok(flags::get(fd)?.map(|flags| flags & FS_APPEND != 0))
}

/// `chattr +a` or `-a`, and whether it is so now. A filesystem that has no such bit, or a process
/// that may not set it, has a journal without it.
pub(super) fn set_append_only(fd: BorrowedFd<'_>, on: bool) -> io::Result<bool> {
    let Some(now) = flags::get(fd)? else { return Ok(!on) };
    let wanted = if on { now | FS_APPEND } else { now & !FS_APPEND };
    if wanted == now {
        return Ok(true);
    }
    match flags::set(fd, wanted) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

fn full_name(first: u64) -> String {
    format!("journal-{first:020}.jsonl")
}

fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("journal-")?.strip_suffix(".jsonl")?;
    let first = digits.parse().ok()?;
    (full_name(first) == name).then_some(first)
}
