//! The machine's audit, as a test may change it for a moment: what `auditctl` does.

use std::cell::RefCell;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};
use steadfast::sys::audit::{Control, Status, Stream};

const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD: u16 = 1011;
const DELETE: u16 = 1012;
/// A request that wants to be confirmed.
const REQUEST: u16 = 1 | 4;
/// What the status holds at these places, and the bits that say which of it is to be set.
const ENABLED: (usize, u32) = (1, 1);
const FAILURE: usize = 2;
const RATE: (usize, u32) = (4, 8);

/// Why audit cannot be troubled here; `None` where it can.
pub fn no_audit() -> Option<String> {
    let status = Control::open().and_then(|mut control| control.status());
    let panics = || ask(GET, &[]).is_ok_and(|words| words.get(FAILURE) == Some(&2));
    match (status, Stream::open()) {
        (Ok(status), Ok(_)) if status.enabled == 2 => Some("the audit rules are locked".into()),
        (Ok(_), Ok(_)) => panics().then(|| "a lost audit record stops this machine".into()),
        (Err(error), _) | (_, Err(error)) => Some(format!("needs Linux audit: {error}")),
    }
}

/// One test at a time.
static MACHINE: Mutex<()> = Mutex::new(());

/// The machine's audit. Dropping it puts back what was changed; where the test is killed, another
/// process does.
pub struct Machine {
    before: Status,
    changed: RefCell<Vec<Change>>,
    heir: Child,
    _alone: MutexGuard<'static, ()>,
}

/// Not a test of its own: what puts audit back when the test is gone.
#[test]
#[ignore = "the heir of the other tests"]
fn heir() {
    let Ok(rate) = std::env::var("STEADFAST_AUDIT_RATE") else { return };
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let _none_is_left = ask(DELETE, &task_never());
    set(RATE, rate.parse().unwrap());
}

#[derive(Clone, Copy)]
enum Change {
    Silenced,
    Off,
    Rate,
}

impl Machine {
    /// Waits until no other test has it.
    pub fn take() -> Self {
        let alone = MACHINE.lock().unwrap_or_else(|broken| broken.into_inner());
        let before = status();
        let mut heir = Command::new(std::env::current_exe().unwrap());
        heir.args(["--ignored", "--exact", "machine::heir"])
            .env("STEADFAST_AUDIT_RATE", before.rate_limit.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0);
        let heir = heir.spawn().unwrap();
        Self { before, changed: RefCell::default(), heir, _alone: alone }
    }

    /// `auditctl -a task,never`
    pub fn record_no_new_process(&self) {
        self.note(Change::Silenced);
        ask(ADD, &task_never()).unwrap();
    }

    /// `auditctl -e 0`
    pub fn switch_off(&self) {
        self.note(Change::Off);
        set(ENABLED, 0);
    }

    /// `auditctl -e 1`
    pub fn switch_on(&self) {
        set(ENABLED, 1);
    }

    /// `auditctl -r 1`
    pub fn let_through_one_record_a_second(&self) {
        self.note(Change::Rate);
        set(RATE, 1);
    }

    /// Whether audit is on.
    pub fn is_on(&self) -> bool {
        status().enabled == 1
    }

    /// As it was.
    pub fn put_back(&self) {
        for change in self.changed.take() {
            match change {
                Change::Silenced => drop(ask(DELETE, &task_never())),
                Change::Rate => set(RATE, self.before.rate_limit),
                // Whoever wants it on has turned it on, and the last daemon turns it off.
                Change::Off if self.before.enabled == 1 => set(ENABLED, 1),
                Change::Off => {}
            }
        }
    }

    fn note(&self, change: Change) {
        self.changed.borrow_mut().push(change);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.put_back();
        drop(self.heir.stdin.take());
        let _ = self.heir.wait();
    }
}

fn status() -> Status {
    Control::open().unwrap().status().unwrap()
}

fn set((at, mask): (usize, u32), value: u32) {
    let mut words = [0; 16];
    (words[0], words[at]) = (mask, value);
    ask(SET, &words).unwrap();
}

/// `struct audit_rule_data` for the list of new processes (1) with the action never (0).
fn task_never() -> Vec<u32> {
    let mut words = vec![0; 3 + 4 * 64 + 1];
    words[0] = 1;
    words
}

/// One request to the kernel; of a question, the first answer.
fn ask(kind: u16, words: &[u32]) -> io::Result<Vec<u32>> {
    let (family, flags) = (AddressFamily::Netlink, SockFlag::SOCK_CLOEXEC);
    let socket = socket(family, SockType::Raw, flags, SockProtocol::NetlinkAudit)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let length = u32::try_from(16 + words.len() * 4).unwrap();
    let kinds = u32::from(REQUEST) << 16 | u32::from(kind);
    let header = [length, kinds, 1, 0];
    let request: Vec<u8> = header.iter().chain(words).flat_map(|word| word.to_ne_bytes()).collect();
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    loop {
        let mut answer = [0; 4096];
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let words: Vec<u32> = answer[..length]
            .chunks_exact(4)
            .map(|four| u32::from_ne_bytes(four.try_into().unwrap()))
            .collect();
        match (words[1] & 0xffff, words[4].cast_signed()) {
            (2, 0) if kind != GET => return Ok(Vec::new()),
            (2, 0) => {}
            (2, error) => return Err(io::Error::from_raw_os_error(-error)),
            _ if kind == GET => return Ok(words[4..].to_vec()),
            _ => {}
        }
    }
}
