//! The kernel's audit system over netlink: asking and changing ([`Control`]), rules ([`Rule`])
//! and the records as everybody may read them ([`Stream`]).
//!
//! Written here and not taken from a library: what is needed is a few numbers in a row.

mod control;
mod rule;
mod stream;

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};

pub use control::{Change, Control, Status};
pub use rule::{Comparison, Field, Rule};
pub use stream::{Message, Received, Stream};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// More than any message of the kernel has.
const BUFFER: usize = 16 << 10;

/// [`Status::enabled`] once `auditctl -e 2` was called: nothing changes until the next boot.
pub const LOCKED: u32 = 2;

/// A system call that fails and does nothing, for a rule to find: an ioctl that no driver knows.
pub const SIGNAL: u32 = 0x5afe_0a0d;

/// Makes that call on `fd` (which has to be one without ioctls, such as an eventfd), with a
/// number that the record repeats.
pub fn signal(fd: std::os::fd::BorrowedFd<'_>, number: u32) {
    use std::os::fd::AsRawFd;
    // SAFETY: the kernel knows no such request on an eventfd; the argument is no address.
    let _ = unsafe { libc::ioctl(fd.as_raw_fd(), SIGNAL as libc::Ioctl, number as libc::c_ulong) };
}

fn open(groups: u32, flags: SockFlag) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | flags;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkAudit)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// A number of the message at `at`.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

/// The first message in `bytes`: its type and its payload.
fn message(bytes: &[u8]) -> Option<(u16, u32, &[u8])> {
    let length = number(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    // Records of the kernel count the header or do not, by version; the datagram is the measure.
    let payload = bytes.get(HEADER..).unwrap_or_default();
    let payload = match length.checked_sub(HEADER) {
        Some(length) if length <= payload.len() => payload.get(..length).unwrap_or(payload),
        _ => payload,
    };
    Some((kind, number(bytes, 8)?, payload))
}
