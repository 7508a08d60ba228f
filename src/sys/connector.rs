//! The kernel's process connector: a message for each fork, exec and exit of the machine, as they
//! happen. Needs CAP_NET_ADMIN and the first network, pid and user namespaces: what it tells are
//! the pids of those.
//!
//! A message that was dropped is noticed: each processor counts its own, and the kernel says where
//! too many waited. That of an exit is sent by whoever has exited already: its pid may be somebody
//! else's by then.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, connect, recvfrom, send, setsockopt, sockopt};

/// `CN_IDX_PROC` and `CN_VAL_PROC`; the first is the group, too.
const PROC: u32 = 1;
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;

const NONE: u32 = 0;
const FORK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 0x8000_0000;

/// `struct nlmsghdr` and `struct cn_msg` behind it, then what, processor and time.
const HEADER: usize = 16;
const BODY: usize = HEADER + 20;
const DATA: usize = BODY + 16;
/// More than a message has.
const LONGEST: usize = 256;
/// Room for some five thousand messages.
const ROOM: usize = 4 << 20;
/// No machine has more processors.
const PROCESSORS: usize = 8192;

/// What the first namespaces have had for inode numbers ever since they have any.
const FIRST: [(&str, u64); 2] =
    [("/proc/self/ns/pid", 0xefff_fffc), ("/proc/self/ns/user", 0xefff_fffd)];

/// Something that happened to a process. Threads are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds of the monotonic clock.
    pub at: u64,
    /// What.
    pub what: What,
}

/// See [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "pids")]
pub enum What {
    /// A process was made. Told before it runs.
    Forked { parent: u32, child: u32 },
    /// It runs another program.
    Executed { pid: u32 },
    /// Its first thread ended, and most likely all of it.
    Ended { pid: u32 },
    /// Nothing that matters.
    Other,
}

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This.
    Event(Event),
    /// Nothing waits.
    Nothing,
    /// Messages before this were dropped; one that came after them may be among those.
    Lost,
}

/// A connection. Dropped, the kernel is told that nobody listens.
#[derive(Debug)]
pub struct Connector {
    socket: OwnedFd,
    /// What each processor counts next.
    counts: HashMap<u32, u32>,
}

impl Connector {
    /// Begins to listen.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and in other namespaces than the first.
    pub fn open() -> io::Result<Self> {
        for (namespace, first) in FIRST {
            if std::fs::metadata(namespace)?.ino() != first {
                return Err(io::ErrorKind::Unsupported.into());
            }
        }
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers; what is returned is checked below.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, PROC))?;
        // To the kernel: nobody else can send here then.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
        let connector = Self { socket, counts: HashMap::new() };
        connector.order(LISTEN)?;
        Ok(connector)
    }

    fn order(&self, order: u32) -> io::Result<()> {
        let mut message = Vec::with_capacity(BODY + 4);
        message.extend(40_u32.to_ne_bytes());
        message.extend(3_u16.to_ne_bytes()); // NLMSG_DONE
        message.extend([0; 10]);
        for number in [PROC, PROC, 0, 0] {
            message.extend(number.to_ne_bytes());
        }
        message.extend(4_u16.to_ne_bytes());
        message.extend([0; 2]);
        message.extend(order.to_ne_bytes());
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(())
    }

    /// The next message. Never blocks. What did not come from the kernel is passed over.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn receive(&mut self) -> io::Result<Heard> {
        let mut buffer = [0; LONGEST];
        let length = loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(sender))) if sender.pid() == 0 => break length,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Heard::Nothing),
                Err(Errno::ENOBUFS) => return Ok(Heard::Lost),
                Err(error) => return Err(error.into()),
            }
        };
        let message = buffer.get(..length).and_then(Message::parse);
        Ok(message.map_or(Heard::Lost, |message| self.in_turn(&message)))
    }

    fn in_turn(&mut self, message: &Message) -> Heard {
        // Answers of old kernels are not counted.
        if message.processor != u32::MAX {
            if self.counts.len() >= PROCESSORS {
                self.counts.clear();
            }
            let next = self.counts.insert(message.processor, message.count.wrapping_add(1));
            if next.is_some_and(|next| next != message.count) {
                return Heard::Lost;
            }
        }
        Heard::Event(message.event)
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // Refused, it counts one listener too many, which costs nobody anything.
        let _ = self.order(IGNORE);
    }
}

/// A message, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    processor: u32,
    count: u32,
    event: Event,
}

impl Message {
    /// `None` for what is none, or is about something else.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let four = bytes.get(at..at.checked_add(4)?)?;
            Some(u32::from_ne_bytes(four.try_into().ok()?))
        };
        let whose = (number(HEADER)?, number(HEADER + 4)?);
        let time = bytes.get(BODY + 8..DATA)?;
        let what = number(BODY)?;
        // Of each, the thread and then its process.
        let first = [number(DATA)?, number(DATA + 4).unwrap_or(0)];
        let is_process = first[0] == first[1];
        let what = match what {
            FORK => {
                let child = [number(DATA + 8)?, number(DATA + 12)?];
                match child[0] == child[1] {
                    true => What::Forked { parent: first[1], child: child[1] },
                    false => What::Other,
                }
            }
            EXEC => What::Executed { pid: first[1] },
            EXIT if is_process => What::Ended { pid: first[1] },
            NONE if first[0] != 0 => return None,
            _ => What::Other,
        };
        let at = u64::from_ne_bytes(time.try_into().ok()?);
        let message = Self {
            processor: number(BODY + 4)?,
            count: number(HEADER + 8)?,
            event: Event { at, what },
        };
        (whose == (PROC, PROC)).then_some(message)
    }

    /// What happened.
    #[must_use]
    pub fn event(&self) -> Event {
        self.event
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(what: u32, count: u32, pids: [u32; 4]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        for number in [PROC, PROC, count, 0, 40, what, 3] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(77_u64.to_ne_bytes());
        bytes.extend(pids.iter().flat_map(|pid| pid.to_ne_bytes()));
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn messages_are_taken_apart_and_threads_are_passed_over() {
        for (what, pids, event) in [
            (FORK, [11, 10, 20, 20], What::Forked { parent: 10, child: 20 }),
            (FORK, [10, 10, 21, 10], What::Other),
            (EXEC, [20, 20, 0, 0], What::Executed { pid: 20 }),
            (EXIT, [20, 20, 0, 17], What::Ended { pid: 20 }),
            (EXIT, [21, 20, 0, 17], What::Other),
            (0x200, [20, 20, 0, 0], What::Other),
            (NONE, [0; 4], What::Other),
        ] {
            let parsed = Message::parse(&message(what, 5, pids)).unwrap();
            let event = Event { at: 77, what: event };
            assert_eq!(parsed, Message { processor: 3, count: 5, event }, "{what:x} {pids:?}");
        }
        // An order that was refused.
        assert_eq!(Message::parse(&message(NONE, 5, [22, 0, 0, 0])), None);
    }

    #[test]
    fn a_dropped_message_is_noticed() {
        let socket = std::fs::File::open("/dev/null").unwrap().into();
        let mut connector = Connector { socket, counts: HashMap::new() };
        let mut hear = |count| {
            let message = Message::parse(&message(EXEC, count, [20, 20, 0, 0])).unwrap();
            connector.in_turn(&message)
        };
        assert!(matches!(hear(u32::MAX), Heard::Event(_)));
        assert!(matches!(hear(0), Heard::Event(_)));
        assert_eq!(hear(2), Heard::Lost);
        assert!(matches!(hear(3), Heard::Event(_)));
    }

    #[test]
    fn a_child_is_told_of_from_its_beginning_to_its_end() {
        let mut connector = match Connector::open() {
            Ok(connector) => connector,
            Err(error) => return crate::sys::test::skipped(&format!("no connector: {error}")),
        };
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (us, pid) = (std::process::id(), child.id());
        child.wait().unwrap();
        let mut wanted = vec![
            What::Forked { parent: us, child: pid },
            What::Executed { pid },
            What::Ended { pid },
        ];
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while let Some(next) = wanted.first() {
            assert!(std::time::Instant::now() < deadline, "{wanted:?} did not come");
            match connector.receive().unwrap() {
                Heard::Event(event) if event.what == *next => drop(wanted.remove(0)),
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Message::parse(&bytes);
            let mut proper = message(FORK, 0, [1, 1, 2, 2]);
            proper.splice(DATA.., bytes);
            let _ = Message::parse(&proper);
        }
    }
}
