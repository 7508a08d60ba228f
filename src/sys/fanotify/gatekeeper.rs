//! The group that is asked: every open of a marked file waits for its answer.
//!
//! A question that is not answered holds a process in the kernel for ever, so a [`Request`]
//! answers when it is dropped, if nothing has done so before: a panic or an early return lets
//! the opener through. When the group is closed, the kernel lets everybody through.
//!
//! The kernel opens the file for the reader of the question. If that fails (no descriptor
//! left), the kernel itself refuses the opener; keep `RLIMIT_NOFILE` generous.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};

use super::{init, mark, own, read, record};

/// Room for one question, with its pidfd, and not for two: the next stays in the kernel, where
/// another thread can still take it, while this one is thought about.
const BUFFER: usize = 40;

const CHILDREN: MaskFlags = MaskFlags::FAN_OPEN_PERM.union(MaskFlags::FAN_EVENT_ON_CHILD);
/// Writing to the file changes nothing about it.
const IGNORED: MarkFlags =
    MarkFlags::FAN_MARK_IGNORED_MASK.union(MarkFlags::FAN_MARK_IGNORED_SURV_MODIFY);

/// A permission group that asks about opens. Its queue is unlimited: it has no more questions
/// than processes wait, and one that finds it full would be let through unasked.
#[derive(Debug)]
pub struct Gatekeeper {
    group: Fanotify,
}

/// Stands for a [`Request`] that another thread holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(std::os::fd::RawFd);

impl RequestId {
    /// For another process that has the group; never 0.
    #[must_use]
    pub fn to_number(self) -> u64 {
        u64::try_from(self.0).map_or(0, |fd| fd + 1)
    }

    /// Back again; `None` for 0.
    #[must_use]
    pub fn of_number(number: u64) -> Option<Self> {
        number.checked_sub(1).and_then(|fd| std::os::fd::RawFd::try_from(fd).ok()).map(Self)
    }
}

/// A process that waits in `open`.
#[derive(Debug)]
pub struct Request<'a> {
    gatekeeper: &'a Gatekeeper,
    file: OwnedFd,
    pid: u32,
    pidfd: Option<OwnedFd>,
    answered: bool,
}

impl Gatekeeper {
    /// An empty group.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` on a kernel without permission events
    /// (`CONFIG_FANOTIFY_ACCESS_PERMISSIONS`).
    pub fn new() -> io::Result<Self> {
        let files = EventFFlags::O_RDONLY
            | EventFFlags::O_CLOEXEC
            | EventFFlags::O_LARGEFILE
            | EventFFlags::O_NOATIME
            | EventFFlags::O_NONBLOCK;
        Ok(Self {
            group: init(InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_UNLIMITED_QUEUE, files)?.0,
        })
    }

    /// A group that another process made and gave to this one.
    #[must_use]
    pub fn of(group: OwnedFd) -> Self {
        // SAFETY: at worst it is no group, and every call refuses it.
        Self { group: unsafe { Fanotify::from_owned_fd(group) } }
    }

    /// Asks about opens of the inode behind `fd` from now on; `O_PATH` suffices. Opens with
    /// `O_PATH` are never asked about.
    pub fn mark(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        mark(&self.group, MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_PERM, fd)
    }

    /// Asks about opens of whatever is in the directory behind `fd`, or comes to be, and is no
    /// directory: whoever makes a file by opening it waits too.
    pub fn mark_children(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        mark(&self.group, MarkFlags::FAN_MARK_ADD, CHILDREN, fd)
    }

    /// [`Self::mark_children`] no longer.
    pub fn unmark_children(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        mark(&self.group, MarkFlags::FAN_MARK_REMOVE, CHILDREN, fd)
    }

    /// Asks no longer, not for its directory's sake either, until [`Self::heed`].
    pub fn ignore(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        mark(&self.group, MarkFlags::FAN_MARK_REMOVE, MaskFlags::FAN_OPEN_PERM, fd)?;
        let how = MarkFlags::FAN_MARK_ADD | IGNORED;
        mark(&self.group, how, MaskFlags::FAN_OPEN_PERM, fd)
    }

    /// [`Self::ignore`] no longer.
    pub fn heed(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let how = MarkFlags::FAN_MARK_REMOVE | IGNORED;
        mark(&self.group, how, MaskFlags::FAN_OPEN_PERM, fd)
    }

    /// Takes all marks off: nobody is asked any more, but who waits goes on waiting.
    pub fn unmark_all(&self) -> io::Result<()> {
        let nothing = MaskFlags::empty();
        let path = None::<&std::path::Path>;
        Ok(self.group.mark(MarkFlags::FAN_MARK_FLUSH, nothing, rustix::fs::CWD, path)?)
    }

    /// The next question, if one waits. Never blocks.
    pub fn read(&self) -> io::Result<Option<Request<'_>>> {
        let mut buffer = [0; BUFFER];
        let length = read(&self.group, &mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        Ok(record::parse(bytes).next().and_then(|record| {
            // SAFETY: this is the only record, and it is visited once, right after the kernel
            // wrote it.
            let (file, pidfd) = unsafe { (own(record.fd), own(record.pidfd)) };
            let pid = u32::try_from(record.pid).unwrap_or(0);
            Some(Request { gatekeeper: self, file: file?, pid, pidfd, answered: false })
        }))
    }

    /// Lets the opener of a request through that another thread holds, and whose descriptor it
    /// has not closed.
    pub fn allow(&self, request: RequestId) -> io::Result<()> {
        loop {
            // SAFETY: the number is only written into a message, never used as a descriptor.
            let fd = unsafe { BorrowedFd::borrow_raw(request.0) };
            match self.group.write_response(FanotifyResponse::new(fd, Response::FAN_ALLOW)) {
                Err(nix::Error::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl AsFd for Gatekeeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

impl Request<'_> {
    /// The file that is being opened.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The process that opens it; 0 for one outside our pid namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The same, as a descriptor (Linux 5.15).
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Its number, while it lives.
    #[must_use]
    pub fn id(&self) -> RequestId {
        RequestId(self.file.as_raw_fd())
    }

    /// Lets it through.
    pub fn allow(mut self) -> io::Result<()> {
        self.answered = true;
        self.gatekeeper.allow(self.id())
    }

    /// Another thread has answered it.
    pub fn was_answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // If the kernel does not take the answer, there is no other to give.
            let _ = self.gatekeeper.allow(self.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::open::open_path_at;
    use crate::sys::test::{file, rooms};

    fn next(group: &Gatekeeper) -> Request<'_> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(request) = group.read().unwrap() {
                return request;
            }
            assert!(Instant::now() < deadline, "nobody asks");
        }
    }

    #[test]
    fn an_opener_waits_until_it_is_answered_or_the_question_is_dropped_or_the_group_closed() {
        for room in rooms() {
            let (dir, path) = file(room.path(), "f", b"x");
            let held = open_path_at(dir.as_fd(), "f".as_ref()).unwrap();
            let group = Gatekeeper::new().unwrap();
            group.mark(held.as_fd()).unwrap();
            let (done, opened) = mpsc::channel();
            let opener = std::thread::spawn(move || {
                for _ in 0..3 {
                    done.send(std::fs::File::open(&path).is_ok()).unwrap();
                }
            });
            let request = next(&group);
            assert!(opened.try_recv().is_err());
            assert_eq!(request.pid(), std::process::id());
            let seen = rustix::fs::fstat(request.file()).unwrap().st_ino;
            assert_eq!(seen, rustix::fs::fstat(&held).unwrap().st_ino);
            request.allow().unwrap();
            assert!(opened.recv().unwrap());
            drop(next(&group));
            assert!(opened.recv().unwrap());
            drop(group);
            assert!(opened.recv().unwrap());
            opener.join().unwrap();
        }
    }
}
