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

use std::ffi::{CString, c_char, c_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::open::reopen_read;
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
    let wanted = |now| if on { now | FS_XFLAG_IMMUTABLE } else { now & !FS_XFLAG_IMMUTABLE };
    let refused = match by_path(fd, |now| Ok(wanted(now))) {
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

/// The seven flags that both ways know: `FS_*_FL`, and `FS_XFLAG_*`.
const BOTH: [(u32, u64); 7] = [
    (FS_IMMUTABLE, FS_XFLAG_IMMUTABLE),
    (FS_APPEND, 0x10),
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
    if NO_FILE_ATTR.load(Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let mut attr = FileAttr::default();
    let got = file_attr(SYS_FILE_GETATTR, &path, &mut attr);
    if got.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS)) {
        NO_FILE_ATTR.store(true, Ordering::Relaxed);
    }
    got?;
    let now = attr.xflags;
    attr.xflags = wanted(now)?;
    if attr.xflags != now {
        file_attr(SYS_FILE_SETATTR, &path, &mut attr)?;
    }
    Ok((now, attr.xflags))
}

fn file_attr(call: c_long, path: &CString, attr: &mut FileAttr) -> io::Result<()> {
    let (size, flags) = (size_of::<FileAttr>(), 0);
    let path: *const c_char = path.as_ptr();
    // SAFETY: `path` is a string that lives for the call, and `attr` points to `size` bytes
    // that the kernel reads or writes; every bit pattern of them is valid.
    match unsafe { libc::syscall(call, libc::AT_FDCWD, path, attr as *mut FileAttr, size, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::sys::open::{open_dir, open_path_at};
    use crate::sys::stat::stat;
    use crate::sys::test::{Unlock, disk, file, rooms};

    const FS_NODUMP: u32 = 0x40;
    const FS_DIRSYNC: u32 = 0x10000;
    const FS_EXTENTS: u32 = 0x80000;

    #[test]
    fn the_immutable_bit_goes_on_and_off_and_touches_no_other_flag() {
        for room in rooms() {
            let (dir, path) = file(room.path(), "f", b"x");
            let _unlock = Unlock(path.clone());
            let held = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
            set(held.as_fd(), FS_NODUMP).unwrap();
            let before = get(held.as_fd()).unwrap().unwrap();
            for _ in 0..2 {
                set_immutable(held.as_fd(), true).unwrap();
                assert_eq!(stat(&path).unwrap().immutable, Some(true));
                assert_eq!(get(held.as_fd()).unwrap(), Some(before | FS_IMMUTABLE));
            }
            assert!(std::fs::write(&path, "y").is_err());
            for _ in 0..2 {
                set_immutable(held.as_fd(), false).unwrap();
                assert_eq!(get(held.as_fd()).unwrap(), Some(before));
            }
        }
    }

    #[test]
    fn setting_all_flags_keeps_those_that_are_the_filesystems_own() {
        let room = disk();
        let (dir, path) = file(room.path(), "f", b"x");
        let _unlock = Unlock(path.clone());
        let held = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
        let own = get(held.as_fd()).unwrap().unwrap();
        set(held.as_fd(), FS_IMMUTABLE | FS_APPEND | FS_NODUMP).unwrap();
        let now = get(held.as_fd()).unwrap().unwrap();
        assert_eq!(now & COMPARED_FLAGS, FS_IMMUTABLE | FS_APPEND | FS_NODUMP);
        assert_eq!(now & FS_EXTENTS, own & FS_EXTENTS);
        set(held.as_fd(), 0).unwrap();
        assert_eq!(get(held.as_fd()).unwrap(), Some(own & !COMPARED_FLAGS));
    }

    #[test]
    fn a_flag_that_only_the_ioctl_knows_survives_the_quick_way() {
        let room = disk();
        let path = room.path().join("d");
        std::fs::create_dir(&path).unwrap();
        let _unlock = Unlock(path.clone());
        let held = open_dir(&path).unwrap();
        if let Err(error) = set(held.as_fd(), FS_DIRSYNC) {
            // XFS and tmpfs have no flag that only the ioctl knows.
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            return;
        }
        let before = get(held.as_fd()).unwrap().unwrap();
        assert_eq!(before & FS_DIRSYNC, FS_DIRSYNC);
        set_immutable(held.as_fd(), true).unwrap();
        set_immutable(held.as_fd(), false).unwrap();
        assert_eq!(get(held.as_fd()).unwrap(), Some(before));
    }

    #[test]
    fn what_cannot_be_opened_safely_has_no_flags_or_lets_them_be_set_by_path() {
        let room = disk();
        let dir = open_dir(room.path()).unwrap();
        std::os::unix::fs::symlink("x", room.path().join("l")).unwrap();
        nix::unistd::mkfifo(&room.path().join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["l", "p"] {
            let held = open_path_at(dir.as_fd(), OsStr::new(name)).unwrap();
            set(held.as_fd(), 0).unwrap();
            let done = set_immutable(held.as_fd(), true);
            let flags = get(held.as_fd()).unwrap();
            set(held.as_fd(), 0).unwrap();
            match flags {
                None => assert_eq!(done.unwrap_err().kind(), io::ErrorKind::Unsupported),
                Some(flags) => assert_eq!(flags, FS_IMMUTABLE, "{name} {done:?}"),
            }
            assert_eq!(
                set(held.as_fd(), FS_DIRSYNC).unwrap_err().kind(),
                io::ErrorKind::Unsupported
            );
        }
    }

    #[test]
    fn the_flags_that_both_ways_know_survive_the_round_trip() {
        let common = BOTH.iter().fold(0, |all, (flag, _)| all | flag);
        assert_eq!(from_xflags(to_xflags(u32::MAX)), common);
        assert_eq!(to_xflags(FS_DIRSYNC), 0);
    }

    #[test]
    fn a_filesystem_without_flags_says_none() {
        let proc = open_dir(std::path::Path::new("/proc")).unwrap();
        let held = open_path_at(proc.as_fd(), OsStr::new("version")).unwrap();
        assert_eq!(get(held.as_fd()).unwrap(), None);
    }
}
