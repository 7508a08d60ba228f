//! Questions and orders to the kernel's audit system. Needs CAP_AUDIT_CONTROL, and the first
//! pid and user namespace: elsewhere the kernel refuses the connection.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::socket::{MsgFlags, SockFlag, recv, send, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::{BUFFER, HEADER, Rule, message, number, open};

const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD: u16 = 1011;
const DELETE: u16 = 1012;
const LIST: u16 = 1013;
const MAKE_EQUIVALENT: u16 = 1015;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// The kernel takes some milliseconds for each rule that somebody deletes, and one at a time.
const PATIENCE: i64 = 2000;
/// Room for the rules of a machine, a kibibyte or two each: the kernel does not wait for long until
/// they are read.
const ROOM: usize = 4 << 20;
/// No machine has more answers to one question.
const MOST_ANSWERS: usize = 1 << 20;

/// What of `struct audit_status` matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// 0 off, 1 on, 2 on and locked until the next boot.
    pub enabled: u32,
    /// The audit daemon; 0 for none.
    pub daemon: u32,
    /// Records a second; 0 for no limit.
    pub rate_limit: u32,
    /// Records that may wait before whoever makes one is made to wait too.
    pub backlog_limit: u32,
    /// Records that were dropped since the boot.
    pub lost: u32,
}

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// See [`Status::enabled`].
    Enabled(u32),
    /// See [`Status::backlog_limit`].
    BacklogLimit(u32),
}

/// A connection.
#[derive(Debug)]
pub struct Control {
    socket: OwnedFd,
    sequence: u32,
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` on a kernel without audit; what is not allowed is refused later.
    pub fn open() -> io::Result<Self> {
        let socket = open(0, SockFlag::empty())?;
        if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
            // Without CAP_NET_ADMIN as much as everybody may have.
            let _ = setsockopt(&socket, sockopt::RcvBuf, &ROOM);
        }
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// How audit is.
    pub fn status(&mut self) -> io::Result<Status> {
        let answers = self.ask(GET, 0, &[])?;
        let word = |at: usize| answers.first().and_then(|(_, bytes)| number(bytes, at * 4));
        let status = || {
            Some(Status {
                enabled: word(1)?,
                daemon: word(3)?,
                rate_limit: word(4)?,
                backlog_limit: word(5)?,
                lost: word(6)?,
            })
        };
        status().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Sets one thing.
    pub fn set(&mut self, change: Change) -> io::Result<()> {
        let (mask, at, value) = match change {
            Change::Enabled(value) => (1_u32, 1_usize, value),
            Change::BacklogLimit(value) => (0x10, 5, value),
        };
        let mut words = [0_u32; 8];
        words[0] = mask;
        words[at] = value;
        let payload: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.ask(SET, NLM_F_ACK, &payload).map(drop)
    }

    /// Every rule there is, whoever made it. What cannot be read is left out.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        let answers = self.ask(LIST, 0, &[])?;
        let listed = answers.iter().filter(|(kind, _)| *kind == LIST);
        Ok(listed.filter_map(|(_, bytes)| Rule::decode(bytes)).collect())
    }

    /// Adds a rule.
    pub fn add(&mut self, rule: &Rule) -> io::Result<()> {
        self.ask(ADD, NLM_F_ACK, &rule.encode()).map(drop)
    }

    /// Deletes a rule. The kernel takes its time: about ten milliseconds.
    pub fn delete(&mut self, rule: &Rule) -> io::Result<()> {
        self.ask(DELETE, NLM_F_ACK, &rule.encode()).map(drop)
    }

    /// From now on the inode that has the name `path`, and all below it, count as below
    /// `anchor` for every rule about what is below that directory. A last symlink is not
    /// followed.
    pub fn tag(&mut self, anchor: &Path, path: &Path) -> io::Result<()> {
        let names = [anchor.as_os_str().as_bytes(), path.as_os_str().as_bytes()];
        let mut payload = Vec::new();
        for name in names {
            payload.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_ne_bytes());
        }
        payload.extend(names.concat());
        self.ask(MAKE_EQUIVALENT, NLM_F_ACK, &payload).map(drop)
    }

    /// Sends one request and takes its answers, up to the last.
    fn ask(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend(0_u32.to_ne_bytes());
        request.extend_from_slice(payload);
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        while answers.len() < MOST_ANSWERS {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let read = buffer.get(..length).unwrap_or_default();
            let Some((answer, sequence, bytes)) = message(read) else { continue };
            if sequence != self.sequence {
                // The late answer to a question that was given up.
                continue;
            }
            match answer {
                NLMSG_ERROR => {
                    let code = number(bytes, 0).unwrap_or(0).cast_signed();
                    match code {
                        0 if flags & NLM_F_ACK != 0 => return Ok(answers),
                        0 => {}
                        code => return Err(io::Error::from_raw_os_error(-code)),
                    }
                }
                NLMSG_DONE => return Ok(answers),
                _ => {
                    answers.push((answer, bytes.to_vec()));
                    if kind == GET {
                        return Ok(answers);
                    }
                }
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}
