//! A process held by a descriptor, which never comes to mean another one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// `PID_FS_MAGIC`, the filesystem of pidfds from Linux 6.9.
const PIDFS: rustix::fs::FsWord = 0x5049_4446;

/// The process that has this pid now.
///
/// # Errors
/// `ESRCH` where none has it.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// A number that no other process has had or will have until the next boot; `None` before
/// Linux 6.9, and where a machine's inode numbers are too short to promise that.
#[must_use]
pub fn identity(pidfd: BorrowedFd<'_>) -> Option<u64> {
    let on_pidfs = rustix::fs::fstatfs(pidfd).ok()?.f_type == PIDFS;
    let unique = on_pidfs && cfg!(target_pointer_width = "64");
    unique.then(|| rustix::fs::fstat(pidfd).ok().map(|stat| stat.st_ino)).flatten()
}

/// Whether the process has not ended yet; a zombie has.
#[must_use]
pub fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    let mut ends = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut ends, Some(&at_once)), Ok(0))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_keeps_its_identity_and_loses_its_life() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (one, two) = (open(child.id()).unwrap(), open(child.id()).unwrap());
        let us = open(std::process::id()).unwrap();
        assert_eq!(identity(one.as_fd()), identity(two.as_fd()));
        if identity(us.as_fd()).is_some() {
            assert_ne!(identity(us.as_fd()), identity(one.as_fd()));
        }
        assert!(is_alive(one.as_fd()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!is_alive(one.as_fd()));
        assert_eq!(open(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
