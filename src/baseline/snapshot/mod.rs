//! Everything there is to know of one path, read so that it belongs together.
//!
//! The path is opened without following a symlink anywhere, looked at before it is read, and
//! looked at again after that: where the two looks differ, somebody was changing it, and what
//! was read is thrown away. Fifos, sockets and devices are refused without being opened.
//!
//! Limits: a program that has the file mapped for writing can change a page without the kernel
//! moving any time stamp at that moment. [`crate::sys::lease`] tells whether there may be one.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::copy::{CopyError, copy};
use super::vault::{Vault, VaultError};
use crate::judge::{Common, Digest, Facts, FileKind, Stat};
use crate::sys::open::{open_dir, open_path_at, reopen_read};
use crate::sys::stat::{stat_at, stat_fd};
use crate::sys::{flags, xattr};

/// How often a file that changes while it is read is read again.
const ATTEMPTS: u32 = 3;
/// Longer than the clock that files are stamped with stands still (10 ms at 100 Hz).
const TICK: Duration = Duration::from_millis(20);

/// Why a path could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is of a type that has no content to protect.
    #[error(
        "{} is a {kind}: only files, directories and symbolic links can be protected",
        crate::text::escape_path(.path)
    )]
    Unsuitable {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// It is not a path that names one thing.
    #[error(
        "{} cannot be protected: give an absolute path without .. that ends in a name",
        crate::text::escape_path(.0)
    )]
    NotAPath(PathBuf),
    /// There is nothing.
    #[error(
        "{} does not exist: check the spelling, or make the file first",
        crate::text::escape_path(.0)
    )]
    Missing(PathBuf),
    /// A directory above it is a symlink.
    #[error(
        "{} is reached through a symbolic link: name it by its real path (realpath prints it)",
        crate::text::escape_path(.0)
    )]
    Symlinked(PathBuf),
    /// Every time it was read it changed meanwhile.
    #[error(
        "{} kept changing while it was read: stop what writes to it and try again",
        crate::text::escape_path(.0)
    )]
    KeptChanging(PathBuf),
    /// Its content could not be kept.
    #[error(transparent)]
    Vault(VaultError),
    /// The kernel refused.
    #[error(
        "cannot read {}: {source}; it needs root, and a filesystem without errors",
        crate::text::escape_path(.path)
    )]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Facts, and what `statx` said at the moment when they were true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The facts.
    pub facts: Facts,
    /// The stat from before and after they were read; a later one that equals it means that
    /// nothing has changed since.
    pub stat: Stat,
}

/// What is done with the content.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// It is not read; the digest stays empty.
    Skip,
    /// It is hashed, if its size lies between these two; otherwise the digest stays empty.
    Hash(u64, u64),
    /// It is hashed and kept, in one reading.
    Keep(&'a Vault),
}

/// The facts of `path`. `progress` is called with the number of bytes read since it was last
/// called; a file that changed while it was read is read again, and counts again.
///
/// # Errors
///
/// See [`SnapshotError`].
pub fn take(path: &Path, progress: &dyn Fn(u64)) -> Result<Facts, SnapshotError> {
    snapshot(path, Content::Hash(0, u64::MAX), progress).map(|found| found.facts)
}

/// [`take`], and keeps the content in `vault`.
///
/// # Errors
///
/// See [`SnapshotError`].
pub fn take_into(
    path: &Path,
    vault: &Vault,
    progress: &dyn Fn(u64),
) -> Result<Facts, SnapshotError> {
    snapshot(path, Content::Keep(vault), progress).map(|found| found.facts)
}

/// The facts of `path` without the digest of its content, which is not read.
///
/// # Errors
///
/// See [`SnapshotError`].
pub fn inspect(path: &Path) -> Result<Facts, SnapshotError> {
    snapshot(path, Content::Skip, &|_| ()).map(|found| found.facts)
}

/// The facts of `path` to hold against a file of `size` bytes: content of another length differs
/// already and is not read, however much there is of it.
///
/// # Errors
///
/// See [`SnapshotError`].
pub fn read_if_sized(path: &Path, size: u64) -> Result<Snapshot, SnapshotError> {
    snapshot(path, Content::Hash(size, size), &|_| ())
}

/// The facts of `path` with the `statx` that they belong to.
///
/// # Errors
///
/// See [`SnapshotError`].
pub fn snapshot(
    path: &Path,
    content: Content<'_>,
    progress: &dyn Fn(u64),
) -> Result<Snapshot, SnapshotError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SnapshotError::NotAPath(path.to_path_buf()));
    };
    let dir = open_dir(parent).map_err(|source| explain(path, source))?;
    snapshot_at(dir.as_fd(), name, content, progress).map_err(|trouble| trouble.about(path))
}

fn snapshot_at(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    content: Content<'_>,
    progress: &dyn Fn(u64),
) -> Result<Snapshot, Trouble> {
    for _ in 0..ATTEMPTS {
        let held = open_path_at(dir, name)?;
        let before = match content {
            Content::Keep(_) => settled(held.as_fd())?,
            Content::Skip | Content::Hash(..) => stat_fd(held.as_fd())?,
        };
        let facts = match facts(held.as_fd(), &before, content, progress) {
            Err(Trouble::Changed) => continue,
            other => other?,
        };
        if stat_fd(held.as_fd())? == before && stat_at(dir, name)? == before {
            return Ok(Snapshot { facts, stat: before });
        }
    }
    Err(Trouble::Changed)
}

/// A stat whose `ctime` no further change can have. Kernels before 6.13 stamp every change
/// within one tick of the clock alike: after a change in this very tick, another one would not
/// show, and the content of neither would be surely known good.
fn settled(held: BorrowedFd<'_>) -> io::Result<Stat> {
    let stat = stat_fd(held)?;
    let seconds = u64::try_from(stat.ctime.sec).unwrap_or_default();
    let changed = UNIX_EPOCH + Duration::new(seconds, stat.ctime.nsec);
    if SystemTime::now().duration_since(changed).is_ok_and(|age| age < TICK) {
        std::thread::sleep(TICK);
        return stat_fd(held);
    }
    Ok(stat)
}

fn facts(
    held: BorrowedFd<'_>,
    stat: &Stat,
    content: Content<'_>,
    progress: &dyn Fn(u64),
) -> Result<Facts, Trouble> {
    let (mut sha256, mut target) = (None, None);
    match stat.kind {
        FileKind::File => sha256 = digest(held, stat.size, content, progress)?,
        FileKind::Directory => {}
        FileKind::Symlink => {
            target = Some(rustix::fs::readlinkat(held, "", Vec::new())?.into_bytes());
        }
        other => return Err(Trouble::Unsuitable(other)),
    }
    Ok(Facts {
        size: if stat.kind == FileKind::File { stat.size } else { 0 },
        sha256,
        mtime: stat.mtime,
        ino: stat.ino,
        common: Common {
            kind: stat.kind,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            flags: flags::get(held)?,
            xattrs: xattr::list_all(held)?,
            nlink: stat.nlink,
            target,
            dev: stat.dev,
        }
        .into(),
    })
}

/// Reads `size` bytes and finds the end there, or the file was changing.
fn digest(
    held: BorrowedFd<'_>,
    size: u64,
    content: Content<'_>,
    progress: &dyn Fn(u64),
) -> Result<Option<Digest>, Trouble> {
    match content {
        Content::Skip => return Ok(None),
        Content::Hash(least, most) if !(least..=most).contains(&size) => return Ok(None),
        Content::Hash(..) | Content::Keep(_) => {}
    }
    let file = File::from(reopen_read(held)?);
    // One byte more than it should have shows that it grew, and no more is read than that.
    let limit = size.saturating_add(1);
    let (digest, read) = match content {
        Content::Keep(vault) => {
            vault.store(&file, limit, progress).map_err(|error| match error {
                VaultError::Source(source) => Trouble::Io(source),
                other => Trouble::Vault(other),
            })?
        }
        Content::Hash(..) | Content::Skip => copy(&file, limit, None, progress)
            .map_err(|(CopyError::Read(error) | CopyError::Write(error))| Trouble::Io(error))?,
    };
    if read == size { Ok(Some(digest)) } else { Err(Trouble::Changed) }
}

/// What went wrong, before it is known which path to name.
enum Trouble {
    Unsuitable(FileKind),
    Changed,
    Vault(VaultError),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl Trouble {
    fn about(self, path: &Path) -> SnapshotError {
        let to_path = || path.to_path_buf();
        match self {
            Self::Unsuitable(kind) => SnapshotError::Unsuitable { path: to_path(), kind },
            Self::Changed => SnapshotError::KeptChanging(to_path()),
            Self::Vault(error) => SnapshotError::Vault(error),
            Self::Io(source) => explain(path, source),
        }
    }
}

pub(super) fn explain(path: &Path, source: io::Error) -> SnapshotError {
    let to_path = || path.to_path_buf();
    match (source.raw_os_error(), source.kind()) {
        (Some(libc::ELOOP), _) => SnapshotError::Symlinked(to_path()),
        (_, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            SnapshotError::Missing(to_path())
        }
        (None, io::ErrorKind::InvalidInput) => SnapshotError::NotAPath(to_path()),
        _ => SnapshotError::Io { path: to_path(), source },
    }
}

#[cfg(test)]
mod tests;
