//! A filesystem small enough to know everything about: inodes, the names that lead to them,
//! and a kernel that obeys the rules the design rests on.
//!
//! - The kernel alone sets `ctime`, and every change moves it.
//! - The immutable bit refuses writes, metadata and renames; a descriptor that was open for
//!   writing before goes on writing where the filesystem is `permissive` (xfs, btrfs).
//! - Inode numbers of removed files are used again.

use std::collections::VecDeque;
use std::path::PathBuf;

use steadfast::engine::Sight;
use steadfast::judge::{Common, Digest, FS_IMMUTABLE, Facts, FileKind, FileTime, Stat};
use steadfast::sense::Hint;

/// An inode's place in the table; never used again, unlike its number.
pub type Key = usize;

pub const GOOD_SIZE: u64 = 100;
pub const GOOD_MODE: u16 = 0o644;
pub const GOOD_MTIME: i64 = 7;

#[derive(Clone, Debug)]
pub struct Inode {
    pub ino: u64,
    pub kind: FileKind,
    /// Which content; 0 is the good one.
    pub content: u8,
    pub size: u64,
    pub mode: u16,
    pub mtime: i64,
    pub ctime: i64,
    /// An extended attribute that does not belong there.
    pub marked: bool,
    pub immutable: bool,
    /// A heal took it out of its path.
    pub retired: bool,
}

/// The directory that holds a protected file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    Right,
    /// Renamed, with what is in it.
    Moved,
    /// Removed, with what was in it.
    Gone,
}

/// Where every filesystem is mounted.
pub const MOUNT_POINT: &str = "/srv";

/// A protected path.
#[derive(Debug)]
pub struct Place {
    pub path: PathBuf,
    pub name: Option<Key>,
    pub parent: Parent,
    pub covered: bool,
    pub mounted: bool,
    /// It was mounted since the shell saw the file last.
    pub anew: bool,
    /// The policy keeps the immutable bit.
    pub locked: bool,
    /// The staged copy and its `ctime` when it was staged.
    pub replica: Option<(Key, i64)>,
    pub evidence: Vec<Key>,
}

/// What the kernel has to tell and steadfast has not read yet.
#[derive(Debug)]
pub struct Pending {
    pub place: usize,
    /// The inode it is about; `None` for the name itself.
    pub inode: Option<Key>,
    pub hint: Hint,
    pub process: Option<usize>,
    /// When it happened.
    pub at: u64,
}

/// What a process truly did.
#[derive(Debug)]
pub struct Act {
    pub place: usize,
    pub process: usize,
    pub hint: Hint,
    pub at: u64,
    /// The inode was out of its path by then.
    pub retired: bool,
}

/// A descriptor open for writing.
#[derive(Debug)]
pub struct Held {
    pub process: usize,
    pub place: usize,
    pub inode: Key,
    pub wrote: bool,
}

#[derive(Debug)]
pub struct World {
    /// Microseconds.
    pub now: u64,
    pub inodes: Vec<Inode>,
    pub places: Vec<Place>,
    pub held: Vec<Held>,
    pub events: VecDeque<Pending>,
    pub acts: Vec<Act>,
    /// Whether a descriptor opened earlier writes to an immutable file.
    pub permissive: bool,
    changes: i64,
    next_ino: u64,
}

impl World {
    pub fn new(permissive: bool) -> Self {
        Self {
            now: 1_000_000,
            inodes: Vec::new(),
            places: Vec::new(),
            held: Vec::new(),
            events: VecDeque::new(),
            acts: Vec::new(),
            permissive,
            changes: 10,
            next_ino: 100,
        }
    }

    pub fn add_place(&mut self, locked: bool) {
        let key = self.create_good();
        self.inodes[key].immutable = locked;
        let path = PathBuf::from(format!("{MOUNT_POINT}/f{}", self.places.len()));
        self.places.push(Place {
            path,
            name: Some(key),
            parent: Parent::Right,
            covered: false,
            mounted: true,
            anew: false,
            locked,
            replica: None,
            evidence: Vec::new(),
        });
    }

    pub fn create_good(&mut self) -> Key {
        self.next_ino += 1;
        self.changes += 1;
        self.inodes.push(Inode {
            ino: self.next_ino,
            kind: FileKind::File,
            content: 0,
            size: GOOD_SIZE,
            mode: GOOD_MODE,
            mtime: GOOD_MTIME,
            ctime: self.changes,
            marked: false,
            immutable: false,
            retired: false,
        });
        self.inodes.len() - 1
    }

    pub fn stage(&mut self, place: usize) {
        let key = self.create_good();
        self.places[place].replica = Some((key, self.inodes[key].ctime));
    }

    /// Changes an inode as the kernel does: its `ctime` moves.
    pub fn change(&mut self, key: Key, how: impl FnOnce(&mut Inode)) {
        self.changes += 1;
        let inode = &mut self.inodes[key];
        how(inode);
        inode.ctime = self.changes;
    }

    /// A value that no time stamp had before.
    pub fn fresh_time(&mut self) -> i64 {
        self.changes += 1;
        self.changes
    }

    pub fn stat(&self, key: Key) -> Stat {
        let inode = &self.inodes[key];
        Stat {
            kind: inode.kind,
            size: inode.size,
            mode: inode.mode,
            uid: 0,
            gid: 0,
            mtime: FileTime { sec: inode.mtime, nsec: 0 },
            ctime: FileTime { sec: inode.ctime, nsec: 0 },
            nlink: 1,
            dev: 1,
            ino: inode.ino,
            immutable: Some(inode.immutable),
            mount: 1,
        }
    }

    pub fn facts(&self, key: Key, read: bool) -> Facts {
        let inode = &self.inodes[key];
        let xattrs = match inode.marked {
            true => [(b"user.mark".to_vec(), b"x".to_vec())].into(),
            false => Default::default(),
        };
        Facts {
            size: inode.size,
            sha256: (read && inode.kind == FileKind::File).then_some(Digest([inode.content; 32])),
            mtime: FileTime { sec: inode.mtime, nsec: 0 },
            ino: inode.ino,
            common: Common {
                kind: inode.kind,
                mode: inode.mode,
                uid: 0,
                gid: 0,
                flags: Some(if inode.immutable { FS_IMMUTABLE } else { 0 }),
                xattrs,
                nlink: 1,
                target: None,
                dev: 1,
            }
            .into(),
        }
    }

    /// What a look at the path says.
    pub fn sight(&self, place: usize) -> Sight {
        let it = &self.places[place];
        if !it.mounted {
            return Sight::Away { mount_point: PathBuf::from(MOUNT_POINT) };
        }
        match (it.covered, it.parent, it.name) {
            (true, ..) => Sight::Covered,
            (_, Parent::Moved | Parent::Gone, _) => Sight::ParentMissing,
            (_, _, None) => Sight::Missing,
            (_, _, Some(key)) => Sight::Present(self.stat(key)),
        }
    }

    /// The inode that the path leads to.
    pub fn reach(&self, place: usize) -> Option<Key> {
        match self.sight(place) {
            Sight::Present(_) => self.places[place].name,
            _ => None,
        }
    }

    /// Whether an inode is what the baseline says, in everything but the immutable bit.
    pub fn is_good(&self, key: Key) -> bool {
        let i = &self.inodes[key];
        i.kind == FileKind::File
            && (i.content, i.size, i.mode, i.mtime, i.marked)
                == (0, GOOD_SIZE, GOOD_MODE, GOOD_MTIME, false)
    }

    /// Whether the path leads to what the baseline says, in every respect.
    pub fn is_whole(&self, place: usize) -> bool {
        self.reach(place).is_some_and(|key| {
            self.is_good(key) && self.inodes[key].immutable == self.places[place].locked
        })
    }

    pub fn has_writer(&self, key: Key) -> bool {
        self.held.iter().any(|held| held.inode == key)
    }
}
