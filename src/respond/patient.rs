//! Everything a cure has to know of one file, so that it can be carried out on any thread.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Ready, Shown};
use crate::baseline::Parent;
use crate::judge::{Facts, FileKind, Seal, Stat};
use crate::sys;

/// See the module.
#[derive(Clone, Debug)]
pub struct Patient {
    /// The protected path.
    pub path: Arc<Path>,
    /// What is good, with the immutable bit among the flags where it is to be kept.
    pub facts: Arc<Facts>,
    /// What a look said when it was last whole.
    pub seal: Option<Seal>,
    /// The prepared copy.
    pub replica: Option<Ready>,
    /// Where it is.
    pub around: Arc<Around>,
    /// Of a directory, enough to find it wherever it was renamed to.
    pub itself: Option<Box<Parent>>,
    /// An exchange would be wrong: the file is bind-mounted somewhere, or is a mount point.
    pub pinned: bool,
    /// What an exchange took out and another mount shows.
    pub shown: Option<Box<Shown>>,
}

/// What the files of a directory have in common.
#[derive(Clone, Debug)]
pub struct Around {
    /// The directories above, from the root of its filesystem down.
    pub parents: Arc<[Parent]>,
    /// Where its filesystem is mounted.
    pub mount_point: Arc<Path>,
    /// How many mounts lie over each other there; more cover the file.
    pub layers: usize,
}

impl Patient {
    /// What a look said when it was last whole.
    #[must_use]
    pub fn sealed(&self) -> Option<Stat> {
        self.seal.as_ref().map(|seal| seal.stat(&self.facts))
    }

    /// A look said this, and it is whole.
    pub fn set_seal(&mut self, stat: Stat) {
        self.seal = Some(Seal::of(stat, &self.facts));
    }

    /// The last component of the path.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// The directory that holds the file.
    #[must_use]
    pub fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Opens the directory that holds the file, as a place and not for reading.
    ///
    /// # Errors
    /// Where a component is missing, is a symlink or is no directory.
    pub fn open_parent(&self) -> io::Result<OwnedFd> {
        sys::open::open_dir(self.parent())
    }

    /// Whether the exchange of inodes would be wrong, so that content has to be written in
    /// place.
    #[must_use]
    pub fn in_place(&self) -> bool {
        self.facts.kind == FileKind::File && (self.pinned || self.facts.nlink > 1)
    }

    /// Looks at the path.
    ///
    /// # Errors
    /// As `statx` has them; a missing file is `None`.
    pub fn look(&self) -> io::Result<Option<Stat>> {
        present(sys::stat::stat(&self.path))
    }

    /// Looks at the name below the directory `dir`.
    ///
    /// # Errors
    /// As `statx` has them; a missing file is `None`.
    pub fn look_in(&self, dir: impl AsFd, name: &OsStr) -> io::Result<Option<Stat>> {
        present(sys::stat::stat_at(dir.as_fd(), name))
    }

    /// The directory and the name of the replica.
    #[must_use]
    pub fn slot(&self) -> Option<(PathBuf, OsString)> {
        let replica = self.replica.as_ref()?;
        Some((replica.slot().to_owned(), replica.name()))
    }
}

fn present(looked: io::Result<Stat>) -> io::Result<Option<Stat>> {
    match looked {
        Ok(stat) => Ok(Some(stat)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}
