//! Which inodes the kernel is told to record what is done to.
//!
//! The kernel searches all tags, in 128 lists, for each directory of each path that anybody
//! uses. So of many files only the first are tagged by themselves, with every inode that has
//! their path or is about to; of the others the directories are.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::attribute::InodeKey;
use crate::sense::FileId;
use crate::sys::audit::Control;

/// So many files are tagged by themselves.
const MOST: usize = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct Tags {
    control: Control,
    anchor: PathBuf,
    files: HashSet<FileId>,
    directories: HashSet<InodeKey>,
}

impl Tags {
    pub(super) fn new(control: Control, anchor: &Path) -> Self {
        let (files, directories) = Default::default();
        Self { control, anchor: anchor.to_owned(), files, directories }
    }

    /// Has what has this path recorded. `directory` says which inode a path is.
    pub(super) fn at_path(
        &mut self,
        file: FileId,
        path: &Path,
        directory: impl Fn(&Path) -> io::Result<InodeKey>,
    ) -> io::Result<()> {
        if self.is_by_itself(file) {
            // A file may have the inode number of one that is gone, and the tag went with that.
            return self.control.tag(&self.anchor, path);
        }
        let parent = path.parent().unwrap_or(path);
        let key = directory(parent)?;
        if !self.directories.contains(&key) {
            self.control.tag(&self.anchor, parent)?;
            self.directories.insert(key);
        }
        Ok(())
    }

    /// Has a replica recorded, unless the directory that it is about to move to is.
    pub(super) fn replica(&mut self, file: FileId, path: &Path) -> io::Result<()> {
        if !self.is_by_itself(file) {
            return Ok(());
        }
        self.control.tag(&self.anchor, path)
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
