//! More audit records than the kernel keeps for a daemon that does not read them.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
};
use rustix::process::Signal;
use serde_json::Value;
use steadfast::sys::audit::{Control, Stream};

use crate::common::{
    GOOD, Guard, TAMPERING, clear_through_file_setattr, missing, not_root, poll, skip_unless,
};
use crate::http::metrics;
use crate::socket::listening;

/// Records of one kind that anybody may make who has CAP_AUDIT_WRITE, and their size: the larger,
/// the fewer are needed.
const USER_MESSAGE: u16 = 1100;
const LONG: usize = 4000;
/// More than any socket has room for.
const MOST: usize = 1_000_000;

/// Why this machine has no audit for the daemon; `None` where it has.
fn no_audit() -> Option<String> {
    let status = Control::open().and_then(|mut control| control.status());
    let error = match (status, Stream::open()) {
        (Ok(_), Ok(_)) => return None,
        (Err(error), _) | (_, Err(error)) => error,
    };
    Some(format!("needs Linux audit: {error}"))
}

/// Makes records until the kernel drops them for this daemon.
fn overrun(daemon: u32) {
    let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let socket = socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkAudit).unwrap();
    let mut message = Vec::new();
    message.extend(u32::try_from(16 + LONG).unwrap().to_ne_bytes());
    message.extend(USER_MESSAGE.to_ne_bytes());
    message.extend(1_u16.to_ne_bytes()); // NLM_F_REQUEST
    message.extend([0; 8]);
    message.extend([b'x'; LONG]);
    for number in 0..MOST {
        sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()).unwrap();
        if number % 100 == 0 && listening(daemon, libc::NETLINK_AUDIT)[0].dropped > 0 {
            return;
        }
    }
    panic!("nothing is dropped: {:?}", listening(daemon, libc::NETLINK_AUDIT));
}

/// Opens a file, says so, and changes the flags of another when it is told to: it might have been
/// those of the first.
const BYSTANDER: &str = "\
import fcntl, struct, sys
get, put, nodump = 0x80086601, 0x40086602, 0x40
with open(sys.argv[1], 'rb') as first, open(sys.argv[2], 'rb') as other:
    print('open', flush=True)
    sys.stdin.readline()
    flags, = struct.unpack('l', fcntl.ioctl(other, get, struct.pack('l', 0)))
    fcntl.ioctl(other, put, struct.pack('l', flags ^ nodump))
    print('done', flush=True)
    sys.stdin.readline()
";

struct Bystander {
    child: Child,
    input: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Bystander {
    fn start(first: &Path, other: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", BYSTANDER]).args([first, other]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut said = BufReader::new(output).lines();
        assert_eq!(said.next().unwrap().unwrap(), "open");
        Self { child, input, said }
    }

    fn change_the_other(&mut self) {
        self.input.write_all(b"\n").unwrap();
        assert_eq!(self.said.next().unwrap().unwrap(), "done");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn changes(guard: &Guard, file: &Path) -> Vec<Value> {
    let mut events = guard.events_about(file);
    events.retain(|event| TAMPERING.contains(&event["kind"].as_str().unwrap()));
    events
}

#[test]
fn records_that_ran_over_are_told_everything_is_healed_and_nobody_else_is_named_for_them() {
    skip_unless!(not_root().or_else(no_audit).or_else(|| missing(&["python3"])));
    // The sweep by itself would come far too late for this test.
    let guard = Guard::on_disk().daemon("flag_sweep = \"1h\"").file("main.py", GOOD);
    let guard = (0..9).fold(guard, |all, number| all.file(format!("later-{number}"), GOOD));
    let guard = guard.file("other.py", GOOD).bystander("unprotected", b"").start();
    let (file, other) = (guard.path("main.py"), guard.path("other.py"));
    let mut bystander = Bystander::start(&file, &guard.path("unprotected"));
    let seq = guard.last_seq();

    guard.signal(Signal::STOP);
    bystander.change_the_other();
    overrun(guard.pid());
    // The records of this are dropped.
    for file in [&file, &other] {
        clear_through_file_setattr(file).unwrap();
    }
    guard.signal(Signal::CONT);

    for file in [&file, &other] {
        guard.wait_whole_at(file);
        let told = || Some(changes(&guard, file)).filter(|told| !told.is_empty());
        for line in poll(told, || guard.story()) {
            let (named, how) = (&line["actor"]["pid"], &line["attribution"]["confidence"]);
            assert!(how != "exact" || *named == std::process::id(), "{line}\n{}", guard.story());
        }
    }
    assert_told(&guard, seq);
    assert_named_again(&guard);
}

/// That records were lost: in the journal, in `status` and to whoever counts.
fn assert_told(guard: &Guard, seq: u64) {
    let of_it = |event: &Value| {
        let note = event["note"].as_str().unwrap_or_default();
        event["kind"] == "events-lost" && note.contains("audit records were lost")
    };
    let told = poll(|| guard.events().into_iter().find(of_it), || guard.story());
    assert!(told["seq"].as_u64() > Some(seq), "{told}");
    assert!(told["note"].as_str().unwrap().contains("looked at again"), "{told}");
    let degraded = |event: &Value| {
        let note = event["note"].as_str().unwrap_or_default();
        event["kind"] == "sensor-degraded" && note.contains("audit records were lost")
    };
    poll(|| guard.events().into_iter().find(degraded), || guard.story());
    let status = guard.status();
    assert_eq!(status["state"], "degraded", "{status}");
    assert!(status["sensors"].to_string().contains("audit records were lost"), "{status}");
    let now = metrics(&guard.control());
    assert!(now["steadfast_queue_overflows_total"] >= 1.0, "{now:#?}");
    assert!(now["steadfast_failures_total{failure=\"events-lost\"}"] >= 1.0, "{now:#?}");
}

/// Once all that waited is read, whoever tampers is known again.
fn assert_named_again(guard: &Guard) {
    let read = || listening(guard.pid(), libc::NETLINK_AUDIT)[0].waiting == 0;
    poll(|| read().then_some(()), || "records wait".to_owned());
    let named = (0..9).any(|number| {
        let file = guard.path(format!("later-{number}"));
        let mut chattr = Command::new("chattr").arg("-i").arg(&file).spawn().unwrap();
        assert!(chattr.wait().unwrap().success());
        guard.wait_whole_at(&file);
        let told = || Some(changes(guard, &file)).filter(|told| !told.is_empty());
        poll(told, || guard.story()).iter().any(|line| {
            let exact = line["attribution"]["confidence"] == "exact";
            assert!(!exact || line["actor"]["pid"] == chattr.id(), "{line}");
            exact
        })
    });
    assert!(named, "{}", guard.story());
}
