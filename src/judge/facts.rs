//! What can be known of one file: the vocabulary in which good and bad are compared.
//!
//! [`Stat`] is what one `statx` tells and costs about a microsecond. [`Facts`] is everything
//! the baseline keeps, including the digest of the content. Both are plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Extended attributes by name; POSIX ACLs and file capabilities are among them.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The type of a file, as `stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
}

impl FileKind {
    /// The kind that the `S_IFMT` bits of `mode` name; `None` for a value Linux does not have.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFBLK => Self::BlockDevice,
            libc::S_IFCHR => Self::CharacterDevice,
            _ => return None,
        })
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::BlockDevice => "block device",
            Self::CharacterDevice => "character device",
        })
    }
}

/// A point on the filesystem's clock: seconds since 1970 and nanoseconds. Packed, because there are
/// several for each file, and a quarter of it would be padding.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[repr(C, packed(4))]
pub struct FileTime {
    /// Seconds since 1970-01-01 UTC; negative before.
    pub sec: i64,
    /// Nanoseconds, below one thousand million.
    pub nsec: u32,
}

/// What `statx` says of one path, without following a final symlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stat {
    /// The type of the file.
    pub kind: FileKind,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits, `07777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content; anybody with write permission can set it back.
    pub mtime: FileTime,
    /// Last change of anything, flags included; set by the kernel alone.
    pub ctime: FileTime,
    /// Number of names.
    pub nlink: u32,
    /// Device number, as `makedev` packs it. Not stable over a reboot for every filesystem.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// The immutable bit; `None` where the filesystem has none.
    pub immutable: Option<bool>,
    /// The id of the mount that the path was reached through.
    pub mount: u64,
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Digest {
    /// Reads 64 hexadecimal digits, either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = crate::text::hex_decode(text)?.try_into().ok()?;
        Some(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256 digest"))
    }
}

/// The inode flags that a person or program can set and that steadfast compares; the rest
/// (extents, index, encryption, verity) is the filesystem's own business.
pub const COMPARED_FLAGS: u32 = FS_SECRM
    | FS_UNRM
    | FS_SYNC
    | FS_IMMUTABLE
    | FS_APPEND
    | FS_NODUMP
    | FS_NOATIME
    | FS_JOURNAL_DATA
    | FS_NOTAIL
    | FS_DIRSYNC
    | FS_TOPDIR
    | FS_NOCOW;

const FS_SECRM: u32 = 0x1;
const FS_UNRM: u32 = 0x2;
const FS_SYNC: u32 = 0x8;
/// `chattr +i`: neither content, metadata nor names can change.
pub const FS_IMMUTABLE: u32 = 0x10;
/// `chattr +a`: content can only grow.
pub const FS_APPEND: u32 = 0x20;
const FS_NODUMP: u32 = 0x40;
const FS_NOATIME: u32 = 0x80;
const FS_JOURNAL_DATA: u32 = 0x4000;
const FS_NOTAIL: u32 = 0x8000;
const FS_DIRSYNC: u32 = 0x10000;
const FS_TOPDIR: u32 = 0x20000;
const FS_NOCOW: u32 = 0x0080_0000;

/// Everything the baseline knows of one file. What is in [`Common`] is read and changed as if it
/// were part of this, and may be kept once for many files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Length in bytes; 0 for what has no content.
    pub size: u64,
    /// Digest of the content; only regular files have one.
    pub sha256: Option<Digest>,
    /// Last change of the content.
    pub mtime: FileTime,
    /// Inode number when the facts were taken.
    pub ino: u64,
    /// The rest.
    pub common: Arc<Common>,
}

/// What most files have in common with their neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Common {
    /// The type of the file.
    pub kind: FileKind,
    /// Permission bits, `07777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Inode flags as `FS_IOC_GETFLAGS` has them; `None` where the filesystem has none.
    pub flags: Option<u32>,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// Number of names.
    pub nlink: u32,
    /// Where a symlink points, byte for byte.
    pub target: Option<Vec<u8>>,
    /// Device number when the facts were taken.
    pub dev: u64,
}

impl Deref for Facts {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

impl DerefMut for Facts {
    fn deref_mut(&mut self) -> &mut Common {
        Arc::make_mut(&mut self.common)
    }
}

impl Facts {
    /// Whether the immutable bit belongs on the file.
    #[must_use]
    pub fn keeps_immutable(&self) -> bool {
        self.flags.is_some_and(|flags| flags & FS_IMMUTABLE != 0)
    }

    /// These facts with what a look has seen put over them; content, attributes and the
    /// flags beside the immutable bit are taken to be unchanged.
    #[must_use]
    pub fn overlaid(&self, seen: &Stat) -> Self {
        let flags = match (self.flags, seen.immutable) {
            (Some(flags), Some(true)) => Some(flags | FS_IMMUTABLE),
            (Some(flags), Some(false)) => Some(flags & !FS_IMMUTABLE),
            (flags, _) => flags,
        };
        let size = if seen.kind == FileKind::File { seen.size } else { self.size };
        let mode = if seen.kind == FileKind::Symlink { self.mode } else { seen.mode };
        let common = Common {
            kind: seen.kind,
            mode,
            uid: seen.uid,
            gid: seen.gid,
            nlink: seen.nlink,
            flags,
            dev: seen.dev,
            ..Common::clone(&self.common)
        };
        let (mtime, ino) = (seen.mtime, seen.ino);
        Self { size, sha256: self.sha256, mtime, ino, common: common.into() }
    }
}
