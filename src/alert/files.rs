//! Small files in a directory that is held open: replaced whole or not at all, and read
//! without trusting what lies there.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

/// More entries than this in one directory are left for later.
const MAX_NAMES: usize = 100_000;

/// Opens the directory `path` as it is.
pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Opens `name` below `parent`, never through a symlink.
pub(super) fn open_subdirectory(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// [`open_subdirectory`], which is made first if it is not there.
pub(super) fn make_subdirectory(
    parent: BorrowedFd<'_>,
    name: &str,
    mode: u32,
) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::mkdirat(parent, name, mode) {
        Err(rustix::io::Errno::EXIST) => open_subdirectory(parent, name),
        Err(error) => Err(error.into()),
        Ok(()) => {
            let directory = open_subdirectory(parent, name)?;
            // The umask has taken its share of the mode.
            rustix::fs::fchmod(&directory, mode)?;
            rustix::fs::fsync(parent)?;
            Ok(directory)
        }
    }
}

/// The names in `directory`, without `.` and `..`.
pub(super) fn names(directory: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
        if names.len() >= MAX_NAMES {
            break;
        }
    }
    Ok(names)
}

/// Distinguishes one version of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    ino: u64,
    size: i64,
    ctime: (i64, i64),
}

/// The [`Stamp`] of `name`; `None` if there is no such name.
pub(super) fn stamp(directory: impl AsFd, name: &str) -> io::Result<Option<Stamp>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Stamp {
            ino: stat.st_ino,
            size: stat.st_size,
            ctime: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        })),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The content of the regular file `name`; `None` if there is no such name. Symlinks, pipes,
/// devices and files of more than `max` bytes are errors of kind
/// [`InvalidData`](io::ErrorKind::InvalidData) and are not read.
pub(super) fn read(directory: impl AsFd, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
    let directory = directory.as_fd();
    // Looked at first, because the mere opening of a device can do something.
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
        Ok(stat) => check(&stat, max)?,
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(rubbish("it is a symbolic link")),
        opened => opened?,
    };
    check(&rustix::fs::fstat(&file)?, max)?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(rubbish("it grows while it is read"));
    }
    Ok(Some(bytes))
}

fn check(stat: &rustix::fs::Stat, max: u64) -> io::Result<()> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(rubbish("it is not a regular file"));
    }
    if u64::try_from(stat.st_size).map_or(true, |size| size > max) {
        return Err(rubbish("it is too large"));
    }
    Ok(())
}

/// The error for a file that holds nothing usable.
pub(super) fn rubbish(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Makes `bytes` the content of `name`: whoever opens it, whatever happens meanwhile, finds
/// the old content or the new. On return it is on the disk.
pub(super) fn replace(directory: impl AsFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let directory = directory.as_fd();
    let temporary = format!(".{name}.new");
    let written = write_new(directory, &temporary, bytes)
        .and_then(|()| Ok(rustix::fs::renameat(directory, &temporary, directory, name)?));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
    }
    written?;
    Ok(rustix::fs::fsync(directory)?)
}

fn write_new(directory: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> io::Result<()> {
    remove(directory, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: std::fs::File =
        rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?.into();
    file.write_all(bytes)?;
    // The process at the other end runs as another user.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
    file.sync_all()
}

/// Removes `name`; it is no error if it is not there.
pub(super) fn remove(directory: impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
