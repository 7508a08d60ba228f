//! Whether anybody has a file open for writing.
//!
//! The kernel grants a read lease only on a file that nobody has open for writing, shared
//! writable mappings included. So asking for one and giving it back at once answers the
//! question without a walk through `/proc/*/fd`.
//!
//! While the lease is held, an open for writing elsewhere breaks it, and the kernel signals the
//! holder with `SIGIO`, whose default action ends the process. `F_SETSIG` makes it `SIGURG`
//! beforehand, which is ignored by default: no handler and no signal mask is needed, and none
//! that the program has is disturbed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `F_SETSIG` of the generic Linux ABI, which libc lacks.
const F_SETSIG: libc::c_int = 10;

/// Whether somebody has the file open for writing. `fd` is open for reading only, and is of a
/// regular file.
///
/// # Errors
/// `EACCES` for another's file without `CAP_LEASE`; `EINVAL` on a filesystem without leases.
/// Either means: not known.
pub fn has_writers(fd: BorrowedFd<'_>) -> io::Result<bool> {
    control(fd, F_SETSIG, libc::SIGURG)?;
    match control(fd, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {
            control(fd, libc::F_SETLEASE, libc::F_UNLCK)?;
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

fn control(fd: BorrowedFd<'_>, command: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the borrow, and both commands take one integer.
    match unsafe { libc::fcntl(fd.as_raw_fd(), command, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::open::open_read_at;
    use crate::sys::test::{file, rooms};

    #[test]
    fn a_writer_is_seen_while_it_has_the_file_open_and_a_reader_is_none() {
        for room in rooms() {
            let (dir, path) = file(room.path(), "f", b"x");
            let ours = open_read_at(dir.as_fd(), OsStr::new("f")).unwrap();
            let reader = File::open(&path).unwrap();
            none_left(ours.as_fd());
            let writer = File::options().append(true).open(&path).unwrap();
            assert!(has_writers(ours.as_fd()).unwrap());
            drop((reader, writer));
            none_left(ours.as_fd());
        }
    }

    /// A child that another test is just spawning holds copies of our descriptors until it
    /// execs, so the last writer may leave a moment later.
    fn none_left(fd: BorrowedFd<'_>) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while has_writers(fd).unwrap() {
            assert!(Instant::now() < deadline, "a writer stays");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_broken_lease_does_not_end_the_process() {
        let room = crate::sys::test::disk();
        let (dir, path) = file(room.path(), "f", b"x");
        let ours = open_read_at(dir.as_fd(), OsStr::new("f")).unwrap();
        none_left(ours.as_fd());
        control(ours.as_fd(), F_SETSIG, libc::SIGURG).unwrap();
        control(ours.as_fd(), libc::F_SETLEASE, libc::F_RDLCK).unwrap();
        let error = rustix::fs::open(
            &path,
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK,
            rustix::fs::Mode::empty(),
        )
        .unwrap_err();
        assert_eq!(error, rustix::io::Errno::AGAIN);
        control(ours.as_fd(), libc::F_SETLEASE, libc::F_UNLCK).unwrap();
    }
}
