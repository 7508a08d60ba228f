//! From a system call to what it did to which inode.

use super::call::{Call, Name, Role};
use crate::attribute::procfs::{arguments, path_text};
use crate::attribute::{Act, Doer};
use crate::text::escape;

/// `AUDIT_ARCH_X86_64`, and the 32-bit programs that run beside it.
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;

/// `FS_IOC_SETFLAGS` of 64-bit and 32-bit programs.
pub(super) const SET_FLAGS: [u32; 2] = [0x4008_6602, 0x4004_6602];
/// `FS_IOC_FSSETXATTR`.
pub(super) const SET_XATTR: u32 = 0x401c_5820;
/// `file_setattr`, with the same number everywhere.
pub(super) const FILE_SETATTR: u32 = 469;

/// `move_mount`, with the same number everywhere.
pub(super) const MOVE_MOUNT: u32 = 429;

/// The numbers of the system calls that have to be told apart.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) arch: u32,
    pub(super) ioctl: u32,
    /// Of those that set times by a name.
    pub(super) times: &'static [u32],
    /// `mount`; what it is mounted on is the first name.
    pub(super) mount: u32,
    opens: &'static [u32],
    cuts: &'static [u32],
}

const NUMBERS: [Numbers; 4] = [
    Numbers {
        arch: X86_64,
        ioctl: 16,
        times: &[132, 235, 261, 280],
        mount: 165,
        opens: &[2, 85, 257, 437],
        cuts: &[76],
    },
    Numbers {
        arch: I386,
        ioctl: 54,
        times: &[30, 271, 299, 320, 412],
        mount: 21,
        opens: &[5, 8, 295, 437],
        cuts: &[92, 193],
    },
    Numbers { arch: AARCH64, ioctl: 29, times: &[88], mount: 40, opens: &[56, 437], cuts: &[45] },
    Numbers {
        arch: ARM,
        ioctl: 54,
        times: &[30, 269, 326, 348, 412],
        mount: 21,
        opens: &[5, 8, 322, 437],
        cuts: &[92, 193],
    },
];

/// The system call tables of this machine's programs, the native one first.
pub(super) fn native() -> &'static [Numbers] {
    let at = if cfg!(target_arch = "x86_64") { 0 } else { 2 };
    let known = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    NUMBERS.get(at..at + 2).filter(|_| known).unwrap_or_default()
}

/// What the call did, with the name it did it to; no name where flags were changed through a
/// descriptor.
pub(super) fn acts(call: &Call) -> Vec<(Act, Option<&Name>)> {
    let Some(numbers) = NUMBERS.iter().find(|numbers| numbers.arch == call.arch) else {
        return Vec::new();
    };
    if !call.success {
        return Vec::new();
    }
    if call.number == numbers.ioctl {
        let request = u32::try_from(call.arguments[1] & 0xffff_ffff).unwrap_or(0);
        let flags = SET_FLAGS.contains(&request) || request == SET_XATTR;
        return if flags { vec![(Act::Flags, None)] } else { Vec::new() };
    }
    if call.number == numbers.mount || call.number == MOVE_MOUNT {
        return mounted_on(call).map(|name| (Act::Covered, Some(name))).into_iter().collect();
    }
    let fills = call.names.iter().any(|name| name.role == Role::Create);
    let act = |name: &Name| match name.role {
        Role::Normal if call.number == FILE_SETATTR => Some(Act::Flags),
        Role::Normal if numbers.opens.contains(&call.number) => Some(Act::OpenedForWriting),
        Role::Normal if numbers.cuts.contains(&call.number) => Some(Act::Written),
        Role::Normal => Some(Act::Metadata),
        Role::Delete => Some(match given(call, name) {
            (_, true) => Act::Replaced,
            (true, false) => Act::Moved,
            (false, false) => Act::Removed,
        }),
        Role::Parent => fills.then_some(Act::Filled),
        Role::Create => None,
    };
    call.names.iter().filter_map(|name| Some((act(name)?, Some(name)))).collect()
}

/// What something was mounted on; `None` where the call does not tell that from what was moved.
fn mounted_on(call: &Call) -> Option<&Name> {
    let mut names =
        call.names.iter().filter(|name| name.name.as_ref().is_some_and(|name| !name.is_empty()));
    let first = names.next()?;
    (call.number != MOVE_MOUNT || names.next().is_none()).then_some(first)
}

/// Whether the inode was given a name by the same call, and the name another inode.
fn given(call: &Call, gone: &Name) -> (bool, bool) {
    let created = || call.names.iter().filter(|name| name.role == Role::Create);
    (created().any(|name| name.inode == gone.inode), created().any(|name| name.name == gone.name))
}

/// The process, made safe to print.
pub(super) fn doer(call: &Call) -> Doer {
    let path = |bytes: &Vec<u8>| path_text(bytes);
    Doer {
        pid: call.pid,
        ppid: call.ppid,
        uid: call.uid,
        login_uid: call.login_uid,
        session: call.session,
        tty: call.tty.as_deref().map(tty_name),
        comm: escape(&call.comm),
        exe: call.exe.as_ref().map(path),
        cwd: call.cwd.as_ref().map(path),
        cmdline: arguments(&call.title),
        began: call.time,
    }
}

/// Audit writes `pts3` for what is `pts/3` below `/dev`.
fn tty_name(name: &[u8]) -> String {
    match name.strip_prefix(b"pts") {
        Some(number) => format!("pts/{}", escape(number)),
        None => escape(name),
    }
}
