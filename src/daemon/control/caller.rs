//! Which process is at the other end of a connection, to be put on record with what it asks for.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

use crate::attribute::{Confidence, Named, procfs};

/// Who connected.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    pid: Option<u32>,
    /// Tells whether it still has that pid (Linux 6.5).
    pidfd: Option<Arc<OwnedFd>>,
}

impl Caller {
    /// Who is at the other end of this socket.
    pub(super) fn of(socket: &impl AsFd, pid: Option<i32>) -> Self {
        let pidfd = getsockopt(socket, sockopt::PeerPidfd).ok().map(Arc::new);
        Self { pid: pid.and_then(|pid| u32::try_from(pid).ok()), pidfd }
    }

    /// The process as it is now; nobody if it is gone. Where nothing tells whether it still is the
    /// one that connected, that is likely and no more.
    pub(super) fn look(&self) -> Named {
        let Some(actor) = self.pid.and_then(procfs::capture) else { return Named::default() };
        let confidence = match &self.pidfd {
            Some(pidfd) if has_ended(pidfd) => return Named::default(),
            Some(_) => Confidence::Exact,
            None => Confidence::Opener,
        };
        Named::in_command(actor, confidence)
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) != Ok(0)
}
