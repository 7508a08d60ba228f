//! Inode flags: what `chattr` sets, in the numbers of `FS_IOC_GETFLAGS`.
//!
//! The kernel has two ways to them, and neither is enough:
//!
//! - The ioctls carry every flag but need the file open, which others can see, delay (a lease)
//!   and be asked about (a permission event). They exist for regular files and directories.
//! - `file_getattr(2)` and `file_setattr(2)`, Linux 6.17, take a path, open nothing and notify
//!   nobody; but they speak of seven flags only: immutable, append, sync, noatime, nodump, dax
//!   and project inheritance. When they set, the kernel keeps every other flag as it is, under
//!   the inode's lock.
//!
//! So [`get`] and [`set`], which owe all flags, use the ioctls for what can be opened, and
//! [`set_immutable`], which has to be quick and quiet, uses the new calls where the kernel has
//! them. So does everything else that is about a symlink, a fifo or a device, which are never
//! opened; of the usual filesystems only XFS gives those flags. The new calls refuse an
//! `O_PATH` descriptor with `EBADF`, so it is named by its path under `/proc/self/fd`.

use std::ffi::{CString, OsStr, c_char, c_int, c_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::open::{component, open_path_at, reopen_read};
use super::stat::stat_fd;
use crate::judge::{COMPARED_FLAGS, FS_APPEND, FS_IMMUTABLE, FileKind};

/// The flags of the inode behind an `O_PATH` descriptor; `None` where it has none: on a
/// filesystem without them, and on most for a symlink, a fifo or a device.
///
/// # Errors
/// `EAGAIN` where somebody holds a lease on the file.
pub fn get(fd: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    if may_be_opened(fd)? {
        return none_if_unsupported(read(reopen_read(fd)?.as_fd()));
    }
    none_if_unsupported(by_path(fd, Ok).map(|(now, _)| from_xflags(now)))
}

/// Gives the inode behind an `O_PATH` descriptor these flags. Only those of
/// [`COMPARED_FLAGS`] are set or cleared; the filesystem's own stay as they are.
///
/// # Errors
/// `Unsupported` where the inode has no such flags; `EPERM` without `CAP_LINUX_IMMUTABLE`;
/// `EAGAIN` as [`get`].
pub fn set(fd: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    let wanted = flags & COMPARED_FLAGS;
    let done = if may_be_opened(fd)? {
        set_opened(reopen_read(fd)?.as_fd(), wanted)
    } else {
        by_path(fd, |now| {
            let ours = to_xflags(COMPARED_FLAGS);
            let sayable = from_xflags(to_xflags(wanted)) == wanted;
            let new = (now & !ours) | to_xflags(wanted);
            sayable.then_some(new).ok_or_else(|| io::ErrorKind::Unsupported.into())
        })
        .map(drop)
    };
    match done {
        Err(error) if wanted == 0 && is_unsupported(&error) => Ok(()),
        Err(error) if is_unsupported(&error) => Err(io::ErrorKind::Unsupported.into()),
        other => other,
    }
}

fn set_opened(open: BorrowedFd<'_>, wanted: u32) -> io::Result<()> {
    let now = read(open)?;
    change(open, now, (now & !COMPARED_FLAGS) | wanted)
}

/// Sets or clears the immutable bit and touches no other flag. At most one call to read and
/// one to write; none is written when the bit is already so.
///
/// # Errors
/// `Unsupported` where the inode has no such bit; `EPERM` without `CAP_LINUX_IMMUTABLE`.
pub fn set_immutable(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let refused = match by_path(fd, |now| Ok(with_immutable(now, on))) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    // Filesystems learn the new calls one by one, and a filter may forbid them.
    let try_ioctl = is_unsupported(&refused) || refused.raw_os_error() == Some(libc::EPERM);
    if !try_ioctl || !may_be_opened(fd)? {
        let unsupported = is_unsupported(&refused);
        return Err(if unsupported { io::ErrorKind::Unsupported.into() } else { refused });
    }
    let open = reopen_read(fd)?;
    let now = none_if_unsupported(read(open.as_fd()))?.ok_or(io::ErrorKind::Unsupported)?;
    change(open.as_fd(), now, with_bit(now, FS_IMMUTABLE, on))
}

/// Sets or clears the immutable bit of what `name` in `dir` is, a symlink included, as
/// [`set_immutable`] does it, with less work for the kernel. It does not tell which inode that
/// was: look before, and after.
///
/// # Errors
/// As [`set_immutable`]; `InvalidInput` for a name that is not one component.
pub fn set_immutable_at(dir: BorrowedFd<'_>, name: &OsStr, on: bool) -> io::Result<()> {
    let wanted = |now| Ok(with_immutable(now, on));
    let plain = CString::new(component(name)?.as_bytes())?;
    match change_at(dir.as_raw_fd(), &plain, libc::AT_SYMLINK_NOFOLLOW, wanted) {
        Ok(_) => Ok(()),
        Err(_) => set_immutable(open_path_at(dir, name)?.as_fd(), on),
    }
}

/// Clears the immutable and the append bit of the inode behind an `O_PATH` descriptor, where it
/// has them.
///
/// # Errors
/// `EPERM` without `CAP_LINUX_IMMUTABLE`; `EAGAIN` as [`get`].
pub fn unlock(fd: BorrowedFd<'_>) -> io::Result<()> {
    if by_path(fd, |now| Ok(now & !(FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND))).is_ok() {
        return Ok(());
    }
    match get(fd)? {
        Some(found) if found & (FS_IMMUTABLE | FS_APPEND) != 0 => {
            set(fd, found & !(FS_IMMUTABLE | FS_APPEND))
        }
        _ => Ok(()),
    }
}

fn with_immutable(now: u64, on: bool) -> u64 {
    if on { now | FS_XFLAG_IMMUTABLE } else { now & !FS_XFLAG_IMMUTABLE }
}

fn may_be_opened(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(matches!(stat_fd(fd)?.kind, FileKind::File | FileKind::Directory))
}

fn read(open: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(ioctl_getflags(open)?.bits())
}

fn change(open: BorrowedFd<'_>, now: u32, wanted: u32) -> io::Result<()> {
    if now != wanted {
        ioctl_setflags(open, IFlags::from_bits_retain(wanted))?;
    }
    Ok(())
}

fn with_bit(flags: u32, bit: u32, on: bool) -> u32 {
    if on { flags | bit } else { flags & !bit }
}

fn none_if_unsupported(read: io::Result<u32>) -> io::Result<Option<u32>> {
    match read {
        Ok(flags) => Ok(Some(flags)),
        Err(error) if is_unsupported(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the filesystem, or the kernel, has no such flags or call.
#[must_use]
pub fn is_unsupported(error: &io::Error) -> bool {
    // ENOSYS is what some FUSE filesystems answer.
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL | libc::ENOSYS))
}

/// `struct file_attr` of `linux/fs.h`, its first version.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FileAttr {
    xflags: u64,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
}

pub(super) const FS_XFLAG_IMMUTABLE: u64 = 0x8;
const FS_XFLAG_APPEND: u64 = 0x10;

/// The seven flags that both ways know: `FS_*_FL`, and `FS_XFLAG_*`.
const BOTH: [(u32, u64); 7] = [
    (FS_IMMUTABLE, FS_XFLAG_IMMUTABLE),
    (FS_APPEND, FS_XFLAG_APPEND),
    (0x8, 0x20),           // sync
    (0x80, 0x40),          // noatime
    (0x40, 0x80),          // nodump
    (0x0200_0000, 0x8000), // dax
    (0x2000_0000, 0x200),  // project inheritance
];

fn from_xflags(xflags: u64) -> u32 {
    BOTH.iter().filter(|(_, x)| xflags & x != 0).fold(0, |all, (flag, _)| all | flag)
}

fn to_xflags(flags: u32) -> u64 {
    BOTH.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |all, (_, x)| all | x)
}

/// The same numbers on every architecture: all calls since 5.1 are in one table.
const SYS_FILE_GETATTR: c_long = 468;
const SYS_FILE_SETATTR: c_long = 469;

/// Set once the kernel, or a system call filter, has said that it has no such call.
static NO_FILE_ATTR: AtomicBool = AtomicBool::new(false);

/// Whether the kernel has answered one of the new calls with anything but `ENOSYS` so far.
#[cfg(test)]
pub(crate) fn has_path_calls() -> bool {
    !NO_FILE_ATTR.load(Ordering::Relaxed)
}

/// Reads the attributes and writes them back with the flags that `wanted` makes of those that
/// are there, if they differ. Gives back both.
pub(super) fn by_path(
    fd: BorrowedFd<'_>,
    wanted: impl FnOnce(u64) -> io::Result<u64>,
) -> io::Result<(u64, u64)> {
    // They refuse an `O_PATH` descriptor with `EBADF`.
    let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    change_at(libc::AT_FDCWD, &path, 0, wanted)
}

fn change_at(
    dir: RawFd,
    path: &CString,
    flags: c_int,
    wanted: impl FnOnce(u64) -> io::Result<u64>,
) -> io::Result<(u64, u64)> {
    if NO_FILE_ATTR.load(Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    let mut attr = FileAttr::default();
    let got = file_attr(SYS_FILE_GETATTR, dir, path, &mut attr, flags);
    if got.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS)) {
        NO_FILE_ATTR.store(true, Ordering::Relaxed);
    }
    got?;
    let now = attr.xflags;
    attr.xflags = wanted(now)?;
    if attr.xflags != now {
        file_attr(SYS_FILE_SETATTR, dir, path, &mut attr, flags)?;
    }
    Ok((now, attr.xflags))
}

fn file_attr(
    call: c_long,
    dir: RawFd,
    path: &CString,
    attr: &mut FileAttr,
    flags: c_int,
) -> io::Result<()> {
    let size = size_of::<FileAttr>();
    let path: *const c_char = path.as_ptr();
    // SAFETY: `path` is a string that lives for the call, and `attr` points to `size` bytes
    // that the kernel reads or writes; every bit pattern of them is valid.
    match unsafe { libc::syscall(call, dir, path, attr as *mut FileAttr, size, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
