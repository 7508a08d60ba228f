//! A process, read from `/proc` while it is there.
//!
//! Everything is read below one open descriptor of `/proc/PID`. The kernel ties that
//! directory to the process and not to its number: once the process is gone, reading below it
//! fails, even when the number belongs to somebody else by then. So what is read is of one
//! process, or it is nothing.
//!
//! The ancestors are other processes, and one may go, and its number be used again, between
//! learning the number and opening the directory. A parent is believed only if it started no
//! later than its child, and if the child still calls it its parent after it was opened.
//!
//! Every read is bounded. What these files hold was chosen by whoever started the process, so
//! all text is escaped. Nothing outside `/proc` is opened: the caller may be the permission
//! thread, which would wait for itself.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{CWD, Mode, OFlags};

use super::{Actor, Ancestor, cgroup, users};
use crate::text::escape;

/// Bytes of a command line that are kept, and arguments.
const CMDLINE: usize = 4096;
const ARGUMENTS: usize = 64;
/// Of an ancestor's: podman's monitor has the container's name behind 700 bytes of paths.
const ANCESTOR_CMDLINE: usize = 1024;
/// How far up the parents are followed.
const ANCESTORS: usize = 32;
/// `/proc/PID/stat`, `status` and `cgroup` are well below.
const FILE: usize = 16 << 10;

/// The process `pid` as it is now; `None` if it is gone, or goes while it is looked at.
#[must_use]
pub fn capture(pid: u32) -> Option<Actor> {
    Process::open(pid)?.capture()
}

/// A process that stays this process: see the module.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    dir: OwnedFd,
}

impl Process {
    /// Whatever process has this number now.
    #[must_use]
    pub fn open(pid: u32) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
        Some(Self { pid, dir })
    }

    /// Clock ticks after boot at which it started.
    #[must_use]
    pub fn start_time(&self) -> Option<u64> {
        Some(self.stat()?.start_time)
    }

    /// What tells that it has not called `execve` since: executable and command line.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        Some(Image { exe: self.link("exe"), cmdline: self.read("cmdline", CMDLINE)? })
    }

    /// Everything there is to know.
    #[must_use]
    pub fn capture(&self) -> Option<Actor> {
        self.capture_without(self.image()?)
    }

    /// Everything but what it runs, which is known already. Of a process that has ended and was
    /// not waited for yet, that is all there is.
    #[must_use]
    pub fn capture_without(&self, image: Image) -> Option<Actor> {
        let stat = self.stat()?;
        let uid = effective_uid(&self.read("status", FILE)?)?;
        let login_uid = self.number("loginuid");
        let cgroup = self.cgroup();
        let part = |find: fn(&str) -> Option<&str>| {
            cgroup.as_deref().and_then(find).map(|text| escape(text.as_bytes()))
        };
        let actor = Actor {
            pid: self.pid,
            start_time: stat.start_time,
            comm: escape(&stat.comm),
            exe: image.exe.as_deref().map(path_text),
            cmdline: arguments(&image.cmdline),
            cwd: self.link("cwd").as_deref().map(path_text),
            tty: tty_name(stat.tty),
            uid,
            user: users::name(uid),
            login_uid,
            login_user: login_uid.and_then(users::name),
            session: self.number("sessionid"),
            ppid: stat.ppid,
            ancestry: self.ancestry(stat.ppid, stat.start_time),
            unit: part(cgroup::unit_in),
            user_unit: part(cgroup::user_unit_in),
            container: part(cgroup::container_in),
            container_name: None,
            cgroup: cgroup.as_deref().map(|text| escape(text.as_bytes())),
        };
        // Gone meanwhile: the optional parts may be missing for no better reason.
        (self.start_time() == Some(actor.start_time)).then_some(actor)
    }

    /// What a child of it would be told of it, with what proves that it is the one. Of a process
    /// that has ended there is the name alone.
    pub(super) fn portrait(&self) -> Option<Portrait> {
        Some(self.portrait_with(self.stat()?))
    }

    fn portrait_with(&self, stat: Stat) -> Portrait {
        let cmdline = self.read("cmdline", ANCESTOR_CMDLINE).unwrap_or_default();
        let image = Image { exe: self.link("exe"), cmdline };
        Portrait { start_time: stat.start_time, ppid: stat.ppid, comm: stat.comm, image }
    }

    fn ancestry(&self, ppid: u32, start_time: u64) -> Vec<Ancestor> {
        let mut all = Vec::new();
        let mut above = self.parent(ppid, start_time);
        while let Some((process, stat)) = above {
            let portrait = process.portrait_with(stat);
            all.push(portrait.of(process.pid, portrait.start_time));
            if all.len() == ANCESTORS {
                break;
            }
            above = process.parent(portrait.ppid, portrait.start_time);
        }
        all
    }

    fn parent(&self, ppid: u32, start_time: u64) -> Option<(Self, Stat)> {
        if ppid == 0 {
            return None;
        }
        let parent = Self::open(ppid)?;
        let stat = parent.stat()?;
        let believed = stat.start_time <= start_time && self.stat()?.ppid == ppid;
        believed.then_some((parent, stat))
    }

    fn stat(&self) -> Option<Stat> {
        parse_stat(&self.read("stat", FILE)?)
    }

    fn cgroup(&self) -> Option<String> {
        let text = self.read("cgroup", FILE)?;
        cgroup::path_in(&String::from_utf8_lossy(&text)).map(str::to_owned)
    }

    /// A file with one number; all bits set stands for none.
    fn number(&self, name: &str) -> Option<u32> {
        let text = self.read(name, 32)?;
        let number = str::from_utf8(&text).ok()?.trim().parse().ok()?;
        (number != u32::MAX).then_some(number)
    }

    fn link(&self, name: &str) -> Option<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.dir, name, Vec::new()).ok()?;
        Some(target.into_bytes())
    }

    fn read(&self, name: &str, limit: usize) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::empty()).ok()?;
        let mut buffer = vec![0; limit];
        let mut length = 0;
        while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
            match rustix::io::read(file.as_fd(), room) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        buffer.truncate(length);
        Some(buffer)
    }
}

/// The parents from `ppid` upwards of a process that is gone and was there at the tick `born`.
/// Whoever has the number now had it then, if it had started by then.
pub(super) fn ancestry_from(ppid: u32, born: u64) -> Vec<Ancestor> {
    let Some(parent) = Process::open(ppid) else { return Vec::new() };
    let Some(stat) = parent.stat().filter(|stat| stat.start_time < born) else { return Vec::new() };
    let portrait = parent.portrait_with(stat);
    let mut all = vec![portrait.of(ppid, portrait.start_time)];
    all.extend(parent.ancestry(portrait.ppid, portrait.start_time));
    all
}

/// See [`Process::portrait`].
#[derive(Debug)]
pub(super) struct Portrait {
    pub(super) start_time: u64,
    pub(super) ppid: u32,
    pub(super) comm: Vec<u8>,
    pub(super) image: Image,
}

impl Portrait {
    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        let Image { exe, cmdline } = &self.image;
        size_of::<Self>() + self.comm.len() + exe.as_ref().map_or(0, Vec::len) + cmdline.len()
    }

    /// That of this process, which started then. What a child has not replaced yet is its
    /// parent's.
    pub(super) fn of(&self, pid: u32, started: u64) -> Ancestor {
        Ancestor {
            pid,
            started,
            comm: escape(&self.comm),
            exe: self.image.exe.as_deref().map(path_text),
            cmdline: arguments(&self.image.cmdline),
        }
    }
}

/// What a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    exe: Option<Vec<u8>>,
    cmdline: Vec<u8>,
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: Vec<u8>,
    ppid: u32,
    tty: u32,
    start_time: u64,
}

/// `pid (comm) state ppid …`: the name may hold spaces, parentheses and line ends, so it ends
/// at the last parenthesis.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let comm = text.get(open + 1..close)?.to_vec();
    let mut fields = str::from_utf8(text.get(close + 1..)?).ok()?.split_ascii_whitespace();
    // Counted from the state, which is field 3: parent 4, terminal 7, start 22.
    let ppid = fields.nth(1)?.parse().ok()?;
    let tty = fields.nth(2)?.parse::<i32>().ok()?.cast_unsigned();
    let start_time = fields.nth(14)?.parse().ok()?;
    Some(Stat { comm, ppid, tty, start_time })
}

/// `Uid: real effective saved filesystem` of `/proc/PID/status`.
fn effective_uid(status: &[u8]) -> Option<u32> {
    // The kernel escapes line ends in the name, so no name can forge the line.
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Arguments end with a NUL each. A process may overwrite them with anything.
pub(crate) fn arguments(cmdline: &[u8]) -> Vec<String> {
    let text = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == 0).take(ARGUMENTS).map(escape).collect()
}

pub(crate) fn path_text(target: &[u8]) -> String {
    let name = target.strip_suffix(b" (deleted)").unwrap_or(target);
    crate::text::escape_path(OsStr::from_bytes(name))
}

/// The terminal as it is called below `/dev`, from `tty_nr`.
fn tty_name(number: u32) -> Option<String> {
    let major = (number >> 8) & 0xfff;
    let minor = (number & 0xff) | ((number >> 12) & 0xf_ff00);
    Some(match major {
        0 => return None,
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        229 => format!("hvc{minor}"),
        _ => format!("{major}:{minor}"),
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = " S 1 4711 4711 34819 4711 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n";

    #[test]
    fn a_name_full_of_spaces_parentheses_and_lines_is_read_whole() {
        for name in ["cat", "a b", ") S 9 9 9", "x)\n(y", "", "((("] {
            let stat = parse_stat(format!("4711 ({name}){TAIL}").as_bytes()).unwrap();
            assert_eq!(stat.comm, name.as_bytes());
            assert_eq!((stat.ppid, stat.tty, stat.start_time), (1, 34819, 987_654));
        }
    }

    #[test]
    fn terminals_have_their_names() {
        for (number, name) in [
            (0, None),
            (34819, Some("pts/3")),
            (136 << 8 | 0xff | 1 << 20, Some("pts/511")),
            (4 << 8 | 1, Some("tty1")),
            (4 << 8 | 64, Some("ttyS0")),
            (5 << 8 | 1, Some("console")),
            (204 << 8 | 64, Some("204:64")),
        ] {
            assert_eq!(tty_name(number).as_deref(), name, "{number}");
        }
    }

    #[test]
    fn arguments_are_split_escaped_and_counted() {
        assert_eq!(arguments(b"sh\0-c\0\0echo \x1b[2J\0"), ["sh", "-c", "", "echo \\x1b[2J"]);
        assert_eq!(arguments(b"nginx: worker"), ["nginx: worker"]);
        assert!(arguments(b"").is_empty());
        assert_eq!(arguments(&[0; 4096]).len(), ARGUMENTS);
    }

    #[test]
    fn a_forged_uid_line_in_a_name_is_not_believed() {
        let status = b"Name:\tx\\nUid:\t7\t7\nUmask:\t0022\nUid:\t1000\t1001\t2\t3\n";
        assert_eq!(effective_uid(status), Some(1001));
        assert_eq!(effective_uid(b"Uid:\n"), None);
    }

    #[test]
    fn a_child_is_captured_with_its_parents() {
        users::refresh();
        let room = crate::sys::test::disk();
        let mut child = Command::new("cat")
            .arg("--")
            .arg("-")
            .current_dir(room.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let cmdline = ["cat", "--", "-"];
        // Between fork and exec it is still a copy of us.
        let actor = std::iter::repeat_with(|| capture(child.id()).unwrap())
            .find(|actor| actor.cmdline == cmdline)
            .unwrap();
        assert_eq!(actor.pid, child.id());
        assert_eq!(actor.comm, "cat");
        assert!(actor.exe.unwrap().ends_with("/cat"));
        assert_eq!(actor.cwd.as_deref(), room.path().to_str());
        assert_eq!((actor.uid, actor.user.as_deref()), (0, Some("root")));
        assert_eq!(actor.ppid, std::process::id());
        assert_eq!(actor.ancestry[0].pid, std::process::id());
        assert_eq!(actor.ancestry.last().unwrap().pid, 1);
        drop(child.stdin.take());
        let held = Process::open(child.id()).unwrap();
        child.wait().unwrap();
        assert_eq!(held.capture(), None);
        assert_eq!(capture(child.id()), None);
    }

    proptest! {
        #[test]
        fn rubbish_in_proc_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_stat(&bytes), effective_uid(&bytes), arguments(&bytes));
        }
    }
}
