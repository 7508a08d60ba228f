//! Inode flags by every route the kernel has.
//!
//! The only unsafe code among the tests: system calls that no crate wraps.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, IFlags, StatxAttributes, StatxFlags};

/// Changes flags, by a process of its own: see [`clear_everything`](super::clear_everything).
pub fn chattr(change: &str, path: &Path) {
    super::must("chattr", &[change.as_ref(), path.as_os_str()]);
}

/// Whether the immutable bit is set; `None` where the filesystem has none, or nothing is there.
pub fn is_immutable(path: &Path) -> Option<bool> {
    let stat =
        rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).ok()?;
    stat.stx_attributes_mask
        .contains(StatxAttributes::IMMUTABLE)
        .then(|| stat.stx_attributes.contains(StatxAttributes::IMMUTABLE))
}

/// Sets exactly `flags` among those a person can set, through `FS_IOC_SETFLAGS`.
pub fn set_flags(path: &Path, change: impl FnOnce(IFlags) -> IFlags) -> io::Result<()> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    let flags = rustix::fs::ioctl_getflags(&file)?;
    let wanted = change(flags);
    if wanted != flags {
        rustix::fs::ioctl_setflags(&file, wanted)?;
    }
    Ok(())
}

/// Clears `+i` and `+a` of everything below `root`, so that it can be removed before a daemon that
/// runs sets them again.
pub fn clear_at_once(root: &Path) {
    let Ok(metadata) = std::fs::symlink_metadata(root) else { return };
    if metadata.is_file() || metadata.is_dir() {
        let _ = set_flags(root, |flags| flags - IFlags::IMMUTABLE - IFlags::APPEND);
    }
    if metadata.is_dir() {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            clear_at_once(&entry.path());
        }
    }
}

/// The same, by a process of its own: this one may have files of other tests open, and would be
/// a suspect there.
pub fn clear_everything(root: &Path) {
    // Where nothing is there any more, or the filesystem has no flags, there is nothing to clear.
    let _ = Command::new("chattr").args(["-R", "-f", "-i", "-a", "--"]).arg(root).output();
}

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

const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820;
const FS_XFLAG_IMMUTABLE: u32 = 0x8;

/// Clears `+i` as `xfs_io` does.
pub fn clear_through_fssetxattr(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let mut attributes = FsXattr::default();
    // SAFETY: the kernel writes one `struct fsxattr` to a live value of that layout.
    if unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) } != 0 {
        return Err(io::Error::last_os_error());
    }
    attributes.xflags &= !FS_XFLAG_IMMUTABLE;
    // SAFETY: the kernel reads one `struct fsxattr` from a live value of that layout.
    if unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attributes) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `struct file_attr` of `linux/fs.h`, Linux 6.17.
#[repr(C)]
#[derive(Default)]
struct FileAttr {
    xflags: u64,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
}

const FILE_GETATTR: libc::c_long = 468;
const FILE_SETATTR: libc::c_long = 469;

/// Clears `+i` with `file_setattr(2)`: by path, without a descriptor and without an event.
pub fn clear_through_file_setattr(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = FileAttr::default();
    let size = size_of::<FileAttr>();
    // SAFETY: a NUL-terminated path, and a live value of the size that is given.
    let got = unsafe {
        libc::syscall(
            FILE_GETATTR,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut attributes,
            size,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    attributes.xflags &= !u64::from(FS_XFLAG_IMMUTABLE);
    // SAFETY: as above; the kernel only reads the value.
    let set = unsafe {
        libc::syscall(
            FILE_SETATTR,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const attributes,
            size,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the calling thread run before the guard, which has the lowest real-time priority.
pub fn run_before_the_guard() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 50 };
    // SAFETY: thread 0 is the caller, and the kernel only reads the structure.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writes through a shared mapping of the whole file, which makes no event.
pub fn write_through_mapping(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_through_mapping_of(&File::options().read(true).write(true).open(path)?, bytes)
}

/// [`write_through_mapping`] of a file that is open already.
pub fn write_through_mapping_of(file: &File, bytes: &[u8]) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if length < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping of a file, where the kernel wants it.
    let at =
        unsafe { libc::mmap(std::ptr::null_mut(), length, access, shared, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Where the bit comes back in the middle of it, a plain store would end the process.
    let memory = File::options().write(true).open("/proc/self/mem");
    let written = memory.and_then(|memory| memory.write_all_at(bytes, at as u64));
    // SAFETY: the mapping is whole, and nobody else of ours has it.
    unsafe { libc::munmap(at, length) };
    written
}

/// Clears `+i` through a descriptor that is open already.
pub fn clear_through_descriptor(file: &File) -> io::Result<()> {
    let flags = rustix::fs::ioctl_getflags(file)?;
    Ok(rustix::fs::ioctl_setflags(file, flags - IFlags::IMMUTABLE)?)
}

/// Names this thread, with whatever bytes.
pub fn call_myself(name: &std::ffi::CStr) {
    // SAFETY: the kernel reads a NUL-terminated name.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Starts a program with this very pid, which nobody may have at the moment.
pub fn run_with_pid(pid: u32, program: &[&std::ffi::CStr]) -> io::Result<()> {
    let wanted = libc::pid_t::try_from(pid).unwrap();
    let mut arguments: Vec<_> = program.iter().map(|argument| argument.as_ptr()).collect();
    arguments.push(std::ptr::null());
    // SAFETY: a structure of numbers, for which zeros stand for nothing.
    let mut order: libc::clone_args = unsafe { std::mem::zeroed() };
    order.exit_signal = u64::try_from(libc::SIGCHLD).unwrap();
    order.set_tid = (&raw const wanted).addr() as u64;
    order.set_tid_size = 1;
    // SAFETY: as fork(2); the child calls nothing but execve and _exit, with what was made before.
    unsafe {
        match libc::syscall(libc::SYS_clone3, &raw const order, size_of::<libc::clone_args>()) {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                libc::execv(program[0].as_ptr(), arguments.as_ptr());
                libc::_exit(127)
            }
            _ => Ok(()),
        }
    }
}
