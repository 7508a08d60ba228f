//! One protected path, as the baseline keeps it.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::judge::{Facts, FileTime, Policy, Stat};

/// Why a path is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The configuration names it, and it leaves with the configuration.
    Configuration,
    /// A person named it, and it stays until a person releases it.
    Command,
    /// It is one of steadfast's own files: it is watched, and no copy of it is kept.
    Own,
}

/// A directory above a protected path, enough to make it again or to find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The path, absolute and without symlinks.
    #[serde(with = "super::path_json")]
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Inode number when the baseline was taken.
    pub ino: u64,
    /// The kernel's file handle: type and bytes. It finds the directory wherever it was
    /// renamed to; `None` where the filesystem has no handles.
    pub handle: Option<(i32, Vec<u8>)>,
}

/// A prepared copy that waits to be exchanged with the file it replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Where it lies: on the filesystem, and reached through the mount, of the file.
    #[serde(with = "super::path_json")]
    pub path: PathBuf,
    /// Inode number; what lies at `path` with another inode is evidence from a heal whose
    /// clean-up did not happen.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// The kernel moves it at every change, so an untouched replica has it still.
    pub ctime: FileTime,
}

/// One protected path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Absolute, and without symlinks in its parents.
    pub path: PathBuf,
    /// What is known to be good.
    pub facts: Facts,
    /// What the owner wants.
    pub policy: Policy,
    /// Why it is protected.
    pub origin: Origin,
    /// Directories from the filesystem root down to the one that holds the file. Files in one
    /// directory share them.
    pub parents: Arc<[Parent]>,
    /// The mount point that the file is under.
    pub mount_point: PathBuf,
    /// What `statx` said when the file was last known to be whole.
    pub seal: Option<Stat>,
    /// The prepared copy.
    pub replica: Option<Replica>,
    /// Since when.
    pub protected_at: Timestamp,
}

impl Record {
    /// The same, with the parents of the record before it where they are equal: files of one
    /// directory come one after the other, and there may be many.
    #[must_use]
    pub fn sharing(self, last: &mut Option<Arc<[Parent]>>) -> Self {
        match last {
            Some(known) if **known == *self.parents => Self { parents: Arc::clone(known), ..self },
            _ => {
                *last = Some(Arc::clone(&self.parents));
                self
            }
        }
    }
}
