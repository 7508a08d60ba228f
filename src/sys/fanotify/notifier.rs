//! The group that is told: what changed, by which process, after the fact.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use super::{ObjectKey, flags_of, init, mark, own, read, record};
use crate::sys::open::open_path_at;

/// Room for several hundred events a read.
const BUFFER: usize = 64 << 10;

const IDENTIFIERS: InitFlags = InitFlags::from_bits_retain(
    libc::FAN_REPORT_FID | libc::FAN_REPORT_DIR_FID | libc::FAN_REPORT_NAME,
);

/// One thing, or several merged, that was done to a marked inode.
#[derive(Debug)]
pub struct Event {
    /// What was done.
    pub mask: MaskFlags,
    /// By which process, 0 for one outside our pid namespace. It may be gone.
    pub pid: u32,
    /// The process, if it was still there when the event was read.
    pub pidfd: Option<OwnedFd>,
    /// The inode it was done to.
    pub object: Option<ObjectKey>,
    /// The directory it was done in, and the name: empty for the directory itself.
    pub dir: Option<(ObjectKey, Vec<u8>)>,
}

impl Event {
    /// Whether the kernel dropped events before this one.
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        self.mask.contains(MaskFlags::FAN_Q_OVERFLOW)
    }
}

/// A notification group that reports identifiers and names.
///
/// Its queue holds `fs.fanotify.max_queued_events` events, 16,384 by default, and says when it
/// ran over. An unlimited one never does: anybody who may make files beside a protected one would
/// fill the kernel's memory with names while its reader is stopped.
#[derive(Debug)]
pub struct Notifier {
    group: Fanotify,
    buffer: Box<[u8]>,
    has_pidfd: bool,
}

impl Notifier {
    /// An empty group.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`; `ENOSYS` or `EINVAL` on a kernel before 5.9.
    pub fn new() -> io::Result<Self> {
        let (group, has_pidfd) =
            init(InitFlags::FAN_CLASS_NOTIF | IDENTIFIERS, EventFFlags::O_RDONLY)?;
        Ok(Self { group, buffer: vec![0; BUFFER].into_boxed_slice(), has_pidfd })
    }

    /// A group that [`Notifier::new`] of another process has made, with what waits in it.
    ///
    /// # Errors
    /// `InvalidInput` where it is no such group: nobody is to be asked by mistake, or to be told
    /// of by descriptors that nobody closes.
    pub fn of(group: OwnedFd) -> io::Result<Self> {
        let flags = flags_of(group.as_fd()).map(InitFlags::from_bits_retain);
        let classes = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLASS_PRE_CONTENT;
        let ours = flags.filter(|flags| flags.contains(IDENTIFIERS) && !flags.intersects(classes));
        let Some(flags) = ours else { return Err(io::ErrorKind::InvalidInput.into()) };
        rustix::io::ioctl_fionbio(&group, true)?;
        let has_pidfd = flags.contains(InitFlags::FAN_REPORT_PIDFD);
        // SAFETY: it is a group, as the kernel says.
        let group = unsafe { Fanotify::from_owned_fd(group) };
        Ok(Self { group, buffer: vec![0; BUFFER].into_boxed_slice(), has_pidfd })
    }

    /// Whether events carry a pidfd (Linux 5.15).
    #[must_use]
    pub fn has_pidfd(&self) -> bool {
        self.has_pidfd
    }

    /// Adds `mask` to what is reported about the inode behind `fd`; `O_PATH` suffices.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `ENODEV` or `EXDEV` where the filesystem cannot name its inodes.
    pub fn mark(&self, fd: BorrowedFd<'_>, mask: MaskFlags) -> io::Result<()> {
        mark(&self.group, MarkFlags::FAN_MARK_ADD, mask, fd)
    }

    /// Takes `mask` off again.
    ///
    /// # Errors
    /// `NotFound` where there was no mark.
    pub fn unmark(&self, fd: BorrowedFd<'_>, mask: MaskFlags) -> io::Result<()> {
        mark(&self.group, MarkFlags::FAN_MARK_REMOVE, mask, fd)
    }

    /// [`Notifier::mark`] for what `name` in `dir` is now, and the key of its events. A symlink
    /// is marked itself.
    pub fn mark_at(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        mask: MaskFlags,
    ) -> io::Result<ObjectKey> {
        let fd = open_path_at(dir, name)?;
        let key = ObjectKey::of(fd.as_fd())?;
        self.mark(fd.as_fd(), mask)?;
        Ok(key)
    }

    /// [`Notifier::unmark`] for what `name` in `dir` is now.
    pub fn unmark_at(&self, dir: BorrowedFd<'_>, name: &OsStr, mask: MaskFlags) -> io::Result<()> {
        self.unmark(open_path_at(dir, name)?.as_fd(), mask)
    }

    /// The next events, empty when none wait. Never blocks.
    pub fn read(&mut self) -> io::Result<Vec<Event>> {
        let length = read(&self.group, &mut self.buffer)?;
        let bytes = self.buffer.get(..length).unwrap_or_default();
        Ok(record::parse(bytes)
            .map(|record| {
                // SAFETY: each record of this buffer is visited once, here, right after the
                // kernel wrote it.
                let pidfd = unsafe { own(record.pidfd) };
                Event {
                    mask: record.mask,
                    pid: u32::try_from(record.pid).unwrap_or(0),
                    pidfd,
                    object: record.object,
                    dir: record.dir,
                }
            })
            .collect())
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::test::{Unlock, file, rooms};

    /// Reads until `enough` says so.
    fn events(group: &mut Notifier, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut all = Vec::new();
        while !enough(&all) {
            assert!(Instant::now() < deadline, "not enough: {all:?}");
            all.extend(group.read().unwrap());
        }
        all
    }

    fn has(events: &[Event], mask: MaskFlags) -> bool {
        events.iter().any(|event| event.mask.contains(mask))
    }

    #[test]
    fn events_carry_the_key_that_was_foretold_and_the_process() {
        for room in rooms() {
            let (dir, path) = file(room.path(), "f", b"x");
            let mut group = Notifier::new().unwrap();
            let key = group
                .mark_at(dir.as_fd(), "f".as_ref(), MaskFlags::FAN_MODIFY | MaskFlags::FAN_ATTRIB)
                .unwrap();
            std::fs::write(&path, "y").unwrap();
            let seen = events(&mut group, |all| has(all, MaskFlags::FAN_MODIFY));
            for event in &seen {
                assert_eq!(event.object.as_ref(), Some(&key));
                assert_eq!(event.pid, std::process::id());
                assert_eq!(event.pidfd.is_some(), group.has_pidfd());
            }
            group.unmark_at(dir.as_fd(), "f".as_ref(), MaskFlags::all()).unwrap_err();
            let both = MaskFlags::FAN_MODIFY | MaskFlags::FAN_ATTRIB;
            group.unmark_at(dir.as_fd(), "f".as_ref(), both).unwrap();
            std::fs::write(&path, "z").unwrap();
            assert!(group.read().unwrap().is_empty());
        }
    }

    #[test]
    fn a_directory_tells_the_names_that_come_and_go() {
        for room in rooms() {
            let (dir, path) = file(room.path(), "f", b"x");
            let mut group = Notifier::new().unwrap();
            let names = MaskFlags::FAN_CREATE
                | MaskFlags::FAN_DELETE
                | MaskFlags::FAN_MOVED_FROM
                | MaskFlags::FAN_MOVED_TO
                | MaskFlags::FAN_ONDIR;
            let key = ObjectKey::of(dir.as_fd()).unwrap();
            group.mark(dir.as_fd(), names).unwrap();
            std::fs::rename(&path, room.path().join("g")).unwrap();
            std::fs::remove_file(room.path().join("g")).unwrap();
            std::fs::create_dir(room.path().join("h")).unwrap();
            let seen = events(&mut group, |all| has(all, MaskFlags::FAN_CREATE));
            for (mask, name) in [
                (MaskFlags::FAN_MOVED_FROM, b"f"),
                (MaskFlags::FAN_MOVED_TO, b"g"),
                (MaskFlags::FAN_DELETE, b"g"),
                (MaskFlags::FAN_CREATE, b"h"),
            ] {
                let place = Some((key.clone(), name.to_vec()));
                let found = seen.iter().any(|e| e.mask.contains(mask) && e.dir == place);
                assert!(found, "{mask:?} in {seen:?}");
            }
        }
    }

    #[test]
    fn setting_the_immutable_bit_through_a_path_descriptor_makes_no_event() {
        for room in rooms() {
            let (dir, path) = file(room.path(), "f", b"x");
            let _unlock = Unlock(path);
            let held = open_path_at(dir.as_fd(), "f".as_ref()).unwrap();
            let mut group = Notifier::new().unwrap();
            let everything = MaskFlags::FAN_OPEN | MaskFlags::FAN_CLOSE | MaskFlags::FAN_ATTRIB;
            group.mark(held.as_fd(), everything).unwrap();
            crate::sys::flags::set_immutable(held.as_fd(), true).unwrap();
            crate::sys::flags::set_immutable(held.as_fd(), false).unwrap();
            let seen = group.read().unwrap();
            if crate::sys::flags::has_path_calls() {
                assert!(seen.is_empty(), "{seen:?}");
            } else {
                assert!(has(&seen, MaskFlags::FAN_OPEN));
            }
        }
    }

    #[test]
    fn no_pidfd_is_left_behind_and_none_is_closed_twice() {
        let [room, _] = rooms();
        let (dir, path) = file(room.path(), "f", b"x");
        let mut group = Notifier::new().unwrap();
        group.mark_at(dir.as_fd(), "f".as_ref(), MaskFlags::FAN_OPEN).unwrap();
        let mut child = std::process::Command::new("cat")
            .args([path.as_os_str(), "-".as_ref()])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let seen = events(&mut group, |all| has(all, MaskFlags::FAN_OPEN));
        assert_eq!(pidfds_of(child.id()), usize::from(group.has_pidfd()));
        assert_eq!(
            seen.iter().filter(|event| event.pidfd.is_some()).count(),
            pidfds_of(child.id())
        );
        drop(seen);
        assert_eq!(pidfds_of(child.id()), 0);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_group_of_another_is_taken_up_with_what_waits_and_nothing_else_is() {
        let [room, _] = rooms();
        let (dir, path) = file(room.path(), "f", b"x");
        let group = Notifier::new().unwrap();
        let key = group.mark_at(dir.as_fd(), "f".as_ref(), MaskFlags::FAN_MODIFY).unwrap();
        let kept = group.as_fd().try_clone_to_owned().unwrap();
        drop(group);
        std::fs::write(&path, "y").unwrap();
        let mut next = Notifier::of(kept).unwrap();
        let seen = events(&mut next, |all| has(all, MaskFlags::FAN_MODIFY));
        assert_eq!(seen[0].object.as_ref(), Some(&key));
        assert_eq!(seen[0].pidfd.is_some(), next.has_pidfd());

        let asking = super::super::Gatekeeper::new().unwrap();
        let of = |fd: BorrowedFd<'_>| Notifier::of(fd.try_clone_to_owned().unwrap());
        assert!(of(asking.as_fd()).is_err());
        assert!(of(dir.as_fd()).is_err());
        let other = Fanotify::init(InitFlags::FAN_CLASS_NOTIF, EventFFlags::O_RDONLY).unwrap();
        assert!(of(other.as_fd()).is_err(), "it opens files for its reader");
    }

    /// How many of our descriptors are pidfds of this process.
    fn pidfds_of(pid: u32) -> usize {
        let wanted = format!("Pid:\t{pid}\n");
        std::fs::read_dir("/proc/self/fdinfo")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
            .filter(|info| info.contains(&wanted))
            .count()
    }
}
