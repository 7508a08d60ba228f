//! The audit records, as the kernel sends them to everybody in the group `AUDIT_NLGRP_READLOG`.
//! Needs CAP_AUDIT_READ. It takes nothing from an audit daemon.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{NetlinkAddr, SockFlag, getsockname, recvfrom, setsockopt, sockopt};

use super::{BUFFER, message, open};

const READLOG: u32 = 1;
/// Room for some ten thousand records; more than that have to come before one is read.
const ROOM: usize = 64 << 20;

/// See the module.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `AUDIT_SYSCALL` and so on.
    pub kind: u16,
    /// From `audit(` to the end.
    pub text: &'a [u8],
}

/// What reading gave.
#[derive(Debug)]
pub enum Received<'a> {
    /// A record.
    Record(Message<'a>),
    /// Nothing waits.
    Nothing,
    /// The kernel dropped records because too many waited.
    Lost,
}

impl Stream {
    /// Joins the group.
    ///
    /// # Errors
    /// `EPERM` without CAP_AUDIT_READ.
    pub fn open() -> io::Result<Self> {
        let socket = open(READLOG, SockFlag::SOCK_NONBLOCK)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
            // Without CAP_NET_ADMIN as much as everybody may have.
            let _ = setsockopt(&socket, sockopt::RcvBuf, &ROOM);
        }
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// One that another process has opened, with what waits in it.
    ///
    /// # Errors
    /// `InvalidInput` where it is none.
    pub fn of(socket: OwnedFd) -> io::Result<Self> {
        let listens = getsockname::<NetlinkAddr>(socket.as_raw_fd())
            .is_ok_and(|address| address.groups() == READLOG);
        if !listens || protocol_of(socket.as_fd()) != Some(libc::NETLINK_AUDIT) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// The next record. Never blocks. What did not come from the kernel is passed over.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn receive(&mut self) -> io::Result<Received<'_>> {
        let length = loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut self.buffer) {
                Ok((length, Some(sender))) if sender.pid() == 0 => break length,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Received::Nothing),
                Err(Errno::ENOBUFS) => return Ok(Received::Lost),
                Err(error) => return Err(error.into()),
            }
        };
        let read = self.buffer.get(..length).unwrap_or_default();
        Ok(match message(read) {
            Some((kind, _, text)) => Received::Record(Message { kind, text }),
            None => Received::Nothing,
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn protocol_of(socket: BorrowedFd<'_>) -> Option<libc::c_int> {
    let mut protocol: libc::c_int = -1;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).ok()?;
    // SAFETY: both point to locals, and the length is that of the first.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PROTOCOL,
            (&raw mut protocol).cast(),
            &raw mut length,
        )
    };
    (done == 0).then_some(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_socket_is_taken_for_one_of_records() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Stream::of(one.into()).is_err() && Stream::of(other.into()).is_err());
        // Netlink, and audit, but not in the group.
        let control = open(0, SockFlag::empty()).unwrap();
        assert!(Stream::of(control).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Stream::of(file.into()).is_err());
    }

    #[test]
    fn a_stream_of_another_is_taken_up() {
        // Refused without the capability, and there is nothing to take up.
        let Ok(stream) = Stream::open() else { return };
        assert!(Stream::of(stream.as_fd().try_clone_to_owned().unwrap()).is_ok());
    }
}
