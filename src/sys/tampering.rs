//! What a tamperer does that no crate wraps, for the self-test: the three ways to clear the
//! immutable bit, each by itself and with no other to fall back to, and a write by mapping.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::flags::{FS_XFLAG_IMMUTABLE, by_path};

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820;

/// Clears the bit with `FS_IOC_SETFLAGS` on an open file. `begun` is called just before.
///
/// # Errors
/// As the kernel has them.
pub fn clear_by_setflags(file: BorrowedFd<'_>, begun: impl FnOnce()) -> io::Result<()> {
    let flags = ioctl_getflags(file)?;
    begun();
    Ok(ioctl_setflags(file, flags - IFlags::IMMUTABLE)?)
}

/// Clears the bit with `FS_IOC_FSSETXATTR` on an open file. `begun` is called just before.
///
/// # Errors
/// As the kernel has them.
pub fn clear_by_fssetxattr(file: BorrowedFd<'_>, begun: impl FnOnce()) -> io::Result<()> {
    let mut attr = FsXattr::default();
    // SAFETY: the kernel writes one `struct fsxattr`, for which `attr` has the layout and the
    // room; every bit pattern of it is valid.
    if unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attr) } != 0 {
        return Err(io::Error::last_os_error());
    }
    attr.xflags &= !u32::try_from(FS_XFLAG_IMMUTABLE).unwrap_or(0);
    begun();
    // SAFETY: the kernel reads one `struct fsxattr` from `attr`, which lives for the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attr) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Clears the bit with `file_setattr(2)` on what an `O_PATH` descriptor stands for: nothing is
/// opened. `begun` is called just before.
///
/// # Errors
/// As the kernel has them; `ENOSYS` before Linux 6.17.
pub fn clear_by_file_setattr(fd: BorrowedFd<'_>, begun: impl FnOnce()) -> io::Result<()> {
    let cleared = |now| {
        begun();
        Ok(now & !FS_XFLAG_IMMUTABLE)
    };
    by_path(fd, cleared).map(drop)
}

/// Writes `bytes` to the start of an open file through a shared mapping. The file has to be at
/// least as long. `begun` is called just before.
///
/// # Errors
/// Where it cannot be mapped.
pub fn write_mapped(file: BorrowedFd<'_>, bytes: &[u8], begun: impl FnOnce()) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes.len(),
            protection,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    begun();
    // SAFETY: the mapping has `bytes.len()` writable bytes, nobody here has a reference into it,
    // and it is unmapped once, after its last use. Where the file was made shorter meanwhile the
    // process ends with SIGBUS, which is no undefined behaviour.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast::<u8>(), bytes.len());
        libc::munmap(start, bytes.len());
    }
    Ok(())
}
