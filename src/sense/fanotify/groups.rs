//! The notification groups. One does for most filesystems; one whose id is not that of the whole
//! filesystem, such as a btrfs subvolume, may not have marks in a group with others (`EXDEV`),
//! and gets a group of its own. Linux 6.8 and later let it have that.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::fanotify::{Event, MaskFlags, Notifier, ObjectKey};
use crate::sys::stat::stat_fd;

/// What the sensor calls an inode. The group belongs to it: two filesystems that have no id
/// share a key, and no group. Of all that only the bytes of the handle differ within a filesystem,
/// and there are several inodes for each file, so an inode is known by the number of its kind and
/// those bytes. The same inode always has the same form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Inode {
    /// Of most filesystems.
    Short { kind: u16, length: u8, bytes: [u8; SHORT] },
    /// Hardly one is, and one pointer is smaller than all it points to.
    Long(Box<(u16, Box<[u8]>)>),
}

/// The bytes of a short handle: more make every inode larger.
const SHORT: usize = 12;

impl Inode {
    fn of(kind: u16, handle: Box<[u8]>) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..handle.len()), u8::try_from(handle.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(&handle);
                Self::Short { kind, length, bytes }
            }
            _ => Self::Long(Box::new((kind, handle))),
        }
    }

    fn kind(&self) -> u16 {
        match self {
            Self::Short { kind, .. } => *kind,
            Self::Long(long) => long.0,
        }
    }

    fn handle(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes, .. } => {
                bytes.get(..usize::from(*length)).unwrap_or_default()
            }
            Self::Long(long) => &long.1,
        }
    }
}

/// What inodes have in common: the group, the filesystem and the type of the handle.
type Kind = (usize, [i32; 2], i32);

/// See the module.
#[derive(Debug)]
pub(super) struct Groups {
    all: Vec<Notifier>,
    /// Devices that have marks outside of the first.
    apart: HashMap<u64, usize>,
    /// A few for each filesystem.
    kinds: Vec<Kind>,
}

impl Groups {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { all: vec![Notifier::new()?], apart: HashMap::new(), kinds: Vec::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().map(AsFd::as_fd)
    }

    /// Adds `mask` to what is told of the inode behind `fd`.
    ///
    /// # Errors
    /// Where neither a group that there is nor one of its own takes the mark.
    pub(super) fn mark(&mut self, fd: BorrowedFd<'_>, mask: MaskFlags) -> io::Result<Inode> {
        let key = ObjectKey::of(fd)?;
        let dev = stat_fd(fd)?.dev;
        let group = self.group_of(dev);
        match self.all.get(group).map(|notifier| notifier.mark(fd, mask)) {
            Some(Err(e)) if e.raw_os_error() == Some(libc::EXDEV) => {}
            Some(Err(e)) => return Err(e),
            Some(Ok(())) => return Ok(self.name(group, key)),
            None => {}
        }
        let apart = Notifier::new()?;
        apart.mark(fd, mask)?;
        let group = self.all.len();
        self.all.push(apart);
        self.apart.insert(dev, group);
        Ok(self.name(group, key))
    }

    /// What the inode behind `fd` is called, whether it has a mark or not.
    ///
    /// # Errors
    /// As [`ObjectKey::of`].
    pub(super) fn inode(&mut self, fd: BorrowedFd<'_>) -> io::Result<Inode> {
        let group = self.group_of(stat_fd(fd)?.dev);
        Ok(self.name(group, ObjectKey::of(fd)?))
    }

    /// What the sensor calls the inode that a group calls so.
    pub(super) fn name(&mut self, group: usize, key: ObjectKey) -> Inode {
        self.known(group, &key).unwrap_or_else(|| {
            self.kinds.push((group, key.fsid, key.kind));
            let kind = u16::try_from(self.kinds.len() - 1).unwrap_or(u16::MAX);
            Inode::of(kind, key.bytes)
        })
    }

    /// The same, where there is an inode of the kind.
    pub(super) fn known(&self, group: usize, key: &ObjectKey) -> Option<Inode> {
        let kind = self.kinds.iter().position(|kind| *kind == (group, key.fsid, key.kind))?;
        Some(Inode::of(u16::try_from(kind).ok()?, key.bytes.clone()))
    }

    /// The group of an inode, and what that calls it.
    pub(super) fn key(&self, inode: &Inode) -> Option<(usize, ObjectKey)> {
        let (group, fsid, kind) = *self.kinds.get(usize::from(inode.kind()))?;
        Some((group, ObjectKey { fsid, kind, bytes: inode.handle().into() }))
    }

    /// Takes `mask` off again.
    pub(super) fn unmark(&self, group: usize, fd: BorrowedFd<'_>, mask: MaskFlags) {
        if let Some(notifier) = self.all.get(group) {
            // What is not there need not be taken away.
            let _ = notifier.unmark(fd, mask);
        }
    }

    /// Takes `mask` off in whichever group has it.
    pub(super) fn spare(&self, fd: BorrowedFd<'_>, mask: MaskFlags) {
        let Ok(stat) = stat_fd(fd) else { return };
        self.unmark(self.group_of(stat.dev), fd, mask);
    }

    fn group_of(&self, dev: u64) -> usize {
        self.apart.get(&dev).copied().unwrap_or(0)
    }

    /// The next events of each group, with its number. Never blocks.
    pub(super) fn read(&mut self) -> impl Iterator<Item = (usize, io::Result<Vec<Event>>)> {
        self.all.iter_mut().map(Notifier::read).enumerate()
    }
}
