//! Opening what may be hostile.
//!
//! Every descriptor starts as `O_PATH`, which touches nothing: no fifo blocks, no device wakes,
//! no permission event asks. Only when `statx` has said that it is a regular file (or a
//! directory) is it opened for real, through `/proc/self/fd`, which reaches the very same inode
//! whatever the name has become meanwhile.
//!
//! `O_NONBLOCK` stays on: with it, an open that meets somebody's lease fails with `EAGAIN`
//! instead of waiting for up to `/proc/sys/fs/lease-break-time` seconds.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::stat::stat_fd;
use crate::judge::FileKind;

const STRAIGHT: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);
const QUIETLY: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// The directory `path`, as `O_PATH`. No component of it may be a symlink.
///
/// # Errors
/// `InvalidInput` for a path that is relative or has a `..`; `ELOOP` where there is a symlink;
/// `ENOTDIR` for what is no directory.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an absolute, plain path"));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(CWD, path, flags, Mode::empty(), STRAIGHT)?)
}

/// Whatever `name` in `dir` is, symlinks included, as `O_PATH`.
///
/// # Errors
/// `InvalidInput` for a name that is not one component.
pub fn open_path_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    // Here NOFOLLOW gives the symlink itself; RESOLVE_NO_SYMLINKS would refuse it. One
    // component has no other place where a symlink could stand.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let straight = ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(dir, component(name)?, flags, Mode::empty(), straight)?)
}

/// The regular file or directory `name` in `dir`, for reading; its access time stays where the
/// kernel lets it.
///
/// # Errors
/// `InvalidInput` for what is neither, which is then not opened; `EAGAIN` where somebody holds
/// a lease on it.
pub fn open_read_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    reopen_read(open_path_at(dir, name)?.as_fd())
}

/// The regular file `name` in `dir`, for reading and writing.
///
/// # Errors
/// As [`open_read_at`]; `ETXTBSY` while it is being executed.
pub fn open_write_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    reopen_write(open_path_at(dir, name)?.as_fd())
}

/// The inode of an `O_PATH` descriptor, for reading. Same terms as [`open_read_at`].
pub fn reopen_read(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    if !matches!(stat_fd(fd)?.kind, FileKind::File | FileKind::Directory) {
        return Err(refused("neither a regular file nor a directory"));
    }
    match reopen(fd, OFlags::RDONLY | OFlags::NOATIME) {
        // NOATIME is for the owner and CAP_FOWNER.
        Err(Errno::PERM) => Ok(reopen(fd, OFlags::RDONLY)?),
        other => Ok(other?),
    }
}

/// The inode of an `O_PATH` descriptor, for reading and writing. Same terms as
/// [`open_write_at`].
pub fn reopen_write(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    if stat_fd(fd)?.kind != FileKind::File {
        return Err(refused("not a regular file"));
    }
    Ok(reopen(fd, OFlags::RDWR)?)
}

/// A path that stands for the inode of `fd` as long as `fd` is open. A call that follows it
/// arrives at that inode, and at a symlink itself where `fd` is one.
#[must_use]
pub fn self_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// `name` if it is one component that names something in its directory.
///
/// # Errors
/// `InvalidInput` otherwise: empty, `.`, `..`, or with a slash or a NUL.
pub fn component(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|b| matches!(b, b'/' | 0)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"));
    }
    Ok(name)
}

fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, self_path(fd), flags | QUIETLY, Mode::empty())
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::test::{disk, file, rooms};

    #[test]
    fn a_directory_is_not_reached_through_a_symlink_or_dots() {
        let room = disk();
        std::fs::create_dir_all(room.path().join("a/b")).unwrap();
        symlink("a", room.path().join("s")).unwrap();
        open_dir(&room.path().join("a/b")).unwrap();
        let error = |path: &str| open_dir(&room.path().join(path)).unwrap_err();
        assert_eq!(error("s/b").raw_os_error(), Some(libc::ELOOP));
        assert_eq!(error("s").raw_os_error(), Some(libc::ELOOP));
        assert_eq!(error("a/../a").kind(), io::ErrorKind::InvalidInput);
        let error = open_dir(Path::new("tmp")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_is_read_and_written_through_its_descriptor_after_its_name_has_gone() {
        for room in rooms() {
            let (dir, path) = file(room.path(), "f", b"one");
            let held = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "planted").unwrap();
            let mut writer = std::fs::File::from(reopen_write(held.as_fd()).unwrap());
            writer.write_all(b"two").unwrap();
            let mut text = String::new();
            let mut reader = std::fs::File::from(reopen_read(held.as_fd()).unwrap());
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "two");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "planted");
        }
    }

    #[test]
    fn a_fifo_a_device_and_a_symlink_are_looked_at_but_not_opened() {
        let room = disk();
        let dir = open_dir(room.path()).unwrap();
        let fifo = OsStr::new("p");
        nix::unistd::mkfifo(&room.path().join(fifo), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/etc/passwd", room.path().join("l")).unwrap();
        let dev = open_dir(Path::new("/dev")).unwrap();
        for (dir, name) in [(&dir, "p"), (&dir, "l"), (&dev, "null")] {
            let name = OsStr::new(name);
            open_path_at(dir.as_fd(), name).unwrap();
            for refused in [open_read_at(dir.as_fd(), name), open_write_at(dir.as_fd(), name)] {
                assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
        }
    }

    #[test]
    fn a_lease_that_somebody_holds_does_not_make_an_open_wait() {
        let room = disk();
        let (dir, path) = file(room.path(), "f", b"x");
        let holder = std::fs::File::options().write(true).open(&path).unwrap();
        // SIGURG is ignored by default, so breaking the lease cannot end the test.
        // SAFETY: fcntl with integers on an open descriptor.
        let rc = unsafe {
            libc::fcntl(holder.as_raw_fd(), 10, libc::SIGURG);
            libc::fcntl(holder.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
        };
        assert_eq!(rc, 0, "{}", io::Error::last_os_error());
        let refused = open_read_at(dir.as_fd(), OsStr::new("f")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
