//! The audit records, as the kernel sends them to everybody in the group `AUDIT_NLGRP_READLOG`.
//! Needs CAP_AUDIT_READ. It takes nothing from an audit daemon.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{NetlinkAddr, SockFlag, recvfrom, setsockopt, sockopt};

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
