//! fanotify groups: one that is told, and one that is asked.
//!
//! nix makes the group and the marks; reading is our own, because what a file identifier group
//! says stands in records after the fixed part of an event, and because every event may carry
//! descriptors that have to be closed exactly once. [`record`] takes the bytes apart and is
//! pure; here each descriptor gets its owner before anything else can fail.

mod gatekeeper;
mod notifier;
pub mod record;

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags};
use rustix::fs::CWD;

pub use gatekeeper::{Gatekeeper, Request, RequestId};
pub use nix::sys::fanotify::MaskFlags;
pub use notifier::{Event, Notifier};

use super::handle::{fsid, identifier};
use super::open::{open_path_at, self_path};

/// What a file identifier event calls an inode: the filesystem's id and the file handle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// `f_fsid` of `statfs(2)`.
    pub fsid: [i32; 2],
    /// The type of the handle.
    pub kind: i32,
    /// The bytes of the handle.
    pub bytes: Box<[u8]>,
}

impl ObjectKey {
    /// The key under which events about the inode behind `fd` will come; `O_PATH` suffices.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the filesystem has no handles, which fanotify refuses to mark too.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let handle = identifier(fd)?;
        Ok(Self { fsid: fsid(fd)?, kind: handle.kind, bytes: handle.bytes.as_slice().into() })
    }

    /// [`ObjectKey::of`] for what `name` in `dir` is now, symlinks not followed.
    pub fn at(dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> io::Result<Self> {
        Self::of(open_path_at(dir, name)?.as_fd())
    }
}

/// Makes a group that carries pidfds where the kernel can (Linux 5.15), and says whether. It may
/// have any number of marks: there are as many as there are files to protect.
fn init(flags: InitFlags, files: EventFFlags) -> io::Result<(Fanotify, bool)> {
    let flags =
        flags | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | InitFlags::FAN_UNLIMITED_MARKS;
    match Fanotify::init(flags | InitFlags::FAN_REPORT_PIDFD, files) {
        Ok(group) => Ok((group, true)),
        Err(nix::Error::EINVAL) => Ok((Fanotify::init(flags, files)?, false)),
        Err(error) => Err(error.into()),
    }
}

/// The flags of the group behind `fd`, as they were given when it was made; `None` where it is no
/// fanotify group.
fn flags_of(fd: BorrowedFd<'_>) -> Option<u32> {
    let fd = fd.as_raw_fd();
    let what = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    if what.as_os_str() != "anon_inode:[fanotify]" {
        return None;
    }
    // The first lines; one for each mark follows.
    let mut info = String::new();
    let file = std::fs::File::open(format!("/proc/self/fdinfo/{fd}")).ok()?;
    file.take(1024).read_to_string(&mut info).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("fanotify flags:"))?;
    u32::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok()
}

/// Adds or removes `mask` on the inode behind `fd`. Going through `/proc/self/fd` marks that
/// inode and no other, even where `fd` is a symlink or its name was given away meanwhile.
fn mark(group: &Fanotify, how: MarkFlags, mask: MaskFlags, fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(group.mark(how, mask, CWD, Some(&self_path(fd)))?)
}

/// One `read` of as many events as there are and `buffer` takes; none where none are there.
fn read(group: &Fanotify, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(group.as_fd(), &mut *buffer) {
            Ok(length) => return Ok(length),
            Err(rustix::io::Errno::AGAIN) => return Ok(0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The owner of a descriptor that came in an event; `None` for the negative numbers that stand
/// for no descriptor.
///
/// # Safety
/// `fd` was read from a group just now, and this is the only call for it.
unsafe fn own(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: the kernel installed the descriptor for this reader, and the caller vouches that
    // no other owner is made of it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}
