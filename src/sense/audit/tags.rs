//! Which inodes the kernel is told to record what is done to.
//!
//! The kernel searches all tags, in 128 lists, for each directory of each path that anybody
//! uses. So of many files only the first are tagged by themselves, with every inode that has
//! their path or is about to; of the others the directories are, and those in which their
//! replicas lie: whoever opens a file just when it is exchanged opens it in there.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::attribute::InodeKey;
use crate::judge::FileTime;
use crate::sense::FileId;
use crate::sys::audit::Control;
use crate::sys::stat::stat_with_birth;

/// So many files are tagged by themselves.
const MOST: usize = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct Tags {
    control: Control,
    anchor: PathBuf,
    files: HashSet<FileId>,
    directories: HashSet<Directory>,
}

/// A directory, and when it was made: another may be given the number, and the tag went with the
/// one before.
type Directory = (InodeKey, FileTime);

impl Tags {
    pub(super) fn new(control: Control, anchor: &Path) -> Self {
        let (files, directories) = Default::default();
        Self { control, anchor: anchor.to_owned(), files, directories }
    }

    /// Has what has this path recorded.
    pub(super) fn tag(&mut self, file: FileId, path: &Path) -> io::Result<()> {
        if self.is_by_itself(file) {
            // A file may have the inode number of one that is gone, and the tag went with that.
            return self.control.tag(&self.anchor, path);
        }
        // The kernel does not follow a symlink at the end, such as one of those in /proc.
        let directory = path.parent().unwrap_or(path).join(".");
        let found = born(&directory)?;
        if !found.is_some_and(|found| self.directories.contains(&found)) {
            self.control.tag(&self.anchor, &directory)?;
            self.directories.extend(found);
        }
        Ok(())
    }

    /// The file is protected no longer.
    pub(super) fn forget(&mut self, file: FileId) {
        self.files.remove(&file);
    }

    fn is_by_itself(&mut self, file: FileId) -> bool {
        if self.files.len() < MOST {
            self.files.insert(file);
        }
        self.files.contains(&file)
    }
}

/// `None` where the filesystem does not say when it was made.
fn born(directory: &Path) -> io::Result<Option<Directory>> {
    let (stat, born) = stat_with_birth(directory)?;
    Ok(born.map(|born| (InodeKey::of(&stat), born)))
}
