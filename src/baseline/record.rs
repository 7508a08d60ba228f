//! One protected path, as the baseline keeps it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::judge::{Common, Facts, FileTime, Policy, Stat};

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
    pub path: Arc<Path>,
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
    pub mount_point: Arc<Path>,
    /// What `statx` said when the file was last known to be whole.
    pub seal: Option<Stat>,
    /// The prepared copy.
    pub replica: Option<Replica>,
    /// Since when.
    pub protected_at: Timestamp,
}

impl Record {
    /// The same, with what the record before it had in common where that is equal: files of one
    /// directory come one after the other, and there may be many.
    #[must_use]
    pub fn sharing(mut self, last: &mut Option<Alike>) -> Self {
        let Alike(parents, mount_point, common) = last.get_or_insert_with(|| {
            let (parents, mount_point) = (self.parents.clone(), self.mount_point.clone());
            Alike(parents, mount_point, self.facts.common.clone())
        });
        share(&mut self.parents, parents);
        share(&mut self.mount_point, mount_point);
        share(&mut self.facts.common, common);
        self
    }
}

/// What records of one directory have in common.
#[derive(Debug)]
pub struct Alike(Arc<[Parent]>, Arc<Path>, Arc<Common>);

fn share<T: PartialEq + ?Sized>(own: &mut Arc<T>, last: &mut Arc<T>) {
    match own == last {
        true => own.clone_from(last),
        false => last.clone_from(own),
    }
}
