//! The permission thread: it sees who opens a protected file while the opener waits.
//!
//! A plain event comes after the fact, and a short-lived process is gone by then. A permission
//! event holds the process in `open` until it is answered, so `/proc` still has it.
//!
//! Every open of every protected file passes through here, so the thread does nothing else. It
//! opens nothing outside `/proc`, logs nothing, takes no lock that anybody holds over I/O, and
//! answers yes whatever happens: a request that is dropped is answered by that alone.
//!
//! Reading `/proc/PID/cmdline` can wait for a lock in the kernel that the opener itself holds
//! and need not give back. So there is a relief: a second thread that watches a clock, which
//! the first winds before it looks at a process and stops afterwards. When it runs out, the
//! relief answers in the first one's place and sets another to work; the one that hangs ends
//! when it wakes. A tamperer gains a delay of [`PATIENCE`] an open by it, and after
//! [`SPARE`] times not even that: processes are then let through unseen, and `status` says so.
//!
//! While the whole process stands still, another one answers: see [`stand_in`].
//!
//! An inode that is opened thousands of times a second is told of, once: whoever hears of it
//! may have it left alone.

mod desk;
mod stand_in;

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use super::{Health, SenseError, Watched};
use crate::attribute::{Captures, InodeKey};
use crate::sys::open::open_path_at;
use desk::Desk;
use stand_in::StandIn;

pub use stand_in::stand_in;

/// How long one process may be looked at. The usual is a tenth of a millisecond.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// Threads that may hang at the same time.
pub const SPARE: u32 = 16;

const WHAT: &str = "the fanotify permission group";

/// Is told which inode is opened all the time.
pub type TellHot = Box<dyn Fn(InodeKey) + Send + Sync>;

/// The group and its threads. Dropping it lets everybody through and ends them.
pub struct PermissionSensor {
    desk: Arc<Desk>,
    relief: Option<JoinHandle<()>>,
    stand_in: StandIn,
}

impl PermissionSensor {
    /// Starts the threads. Nothing is asked about yet.
    ///
    /// `bell` rings before an opener is looked at, at most once a millisecond: waking a thread
    /// takes an idle processor longer than healing a file takes, and who is awake by the time
    /// the opener does its harm comes sooner.
    ///
    /// # Errors
    /// Where the kernel refuses the group, or a thread.
    pub fn start(
        captures: Arc<Captures>,
        bell: Arc<EventFd>,
        tell: TellHot,
    ) -> Result<Self, SenseError> {
        Self::with_patience(captures, PATIENCE, bell, tell)
    }

    fn with_patience(
        captures: Arc<Captures>,
        patience: Duration,
        bell: Arc<EventFd>,
        tell: TellHot,
    ) -> Result<Self, SenseError> {
        let refused = |source| SenseError::Refused {
            what: WHAT,
            remedy: "it needs CAP_SYS_ADMIN and a kernel with fanotify permission events; \
                     short-lived processes will not be named",
            source,
        };
        let desk = Arc::new(Desk::new(captures, patience, bell, tell).map_err(refused)?);
        let relieving = Arc::clone(&desk);
        Desk::set_to_work(&desk, 0).map_err(refused)?;
        let relief = std::thread::Builder::new()
            .name("relief".to_owned())
            .spawn(move || Desk::relieve(&relieving));
        match relief {
            Ok(relief) => Ok(Self { desk, relief: Some(relief), stand_in: StandIn::default() }),
            Err(error) => {
                desk.close();
                Err(refused(error))
            }
        }
    }

    /// Asks about opens of what `name` in `dir` is now, or of all that is in it or comes to be. A
    /// symlink is marked itself.
    ///
    /// # Errors
    /// Where it cannot be marked.
    pub fn watch(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        what: Watched,
    ) -> Result<(), SenseError> {
        let gatekeeper = &self.desk.gatekeeper;
        Self::change(dir, name, |fd| match what {
            Watched::Directory => gatekeeper.mark_children(fd),
            Watched::File => {
                // Hardly ever was it to be left alone.
                let _ = gatekeeper.heed(fd);
                gatekeeper.mark(fd)
            }
        })
    }

    /// Asks no longer about what is in the directory `name` in `dir`, for its own sake.
    ///
    /// # Errors
    /// Where it is not there, or was not watched.
    pub fn unwatch_children(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), SenseError> {
        Self::change(dir, name, |fd| self.desk.gatekeeper.unmark_children(fd))
    }

    /// Asks about opens of the file `name` in `dir` no longer, until it is watched again.
    ///
    /// # Errors
    /// Where it is not there, or was not watched.
    pub fn leave_alone(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), SenseError> {
        Self::change(dir, name, |fd| self.desk.gatekeeper.ignore(fd))
    }

    fn change(
        dir: BorrowedFd<'_>,
        name: &OsStr,
        change: impl Fn(BorrowedFd<'_>) -> std::io::Result<()>,
    ) -> Result<(), SenseError> {
        let changed = open_path_at(dir, name).and_then(|fd| change(fd.as_fd()));
        changed.map_err(|source| SenseError::watch(WHAT, name.as_ref(), source))
    }

    /// Sees to it that another process answers if this one stands still. To be called once in a
    /// while, by a thread that lives as long as the process.
    pub fn tend(&mut self) {
        self.stand_in.tend(&self.desk);
    }

    /// How it does.
    #[must_use]
    pub fn health(&self) -> Health {
        let shift = self.desk.shift();
        if shift.hanging >= SPARE {
            let why = "too many processes could not be looked at in time; openers pass unseen";
            return Health::Degraded(why.to_owned());
        }
        let trouble = shift.trouble.clone().or_else(|| self.stand_in.trouble());
        trouble.map_or(Health::Working, Health::Degraded)
    }
}

impl Drop for PermissionSensor {
    fn drop(&mut self) {
        self.desk.close();
        if let Some(relief) = self.relief.take() {
            // It never hangs: it looks at no process.
            let _ = relief.join();
        }
    }
}

#[cfg(test)]
mod tests;
