//! Rooms for the tests: a directory on the disk's filesystem and one on tmpfs.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory on the filesystem of the temporary directory.
pub(crate) fn disk() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A directory on tmpfs.
pub(crate) fn memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Both.
pub(crate) fn rooms() -> [TempDir; 2] {
    [disk(), memory()]
}

/// A file with content, and a `O_PATH` descriptor of its directory.
pub(crate) fn file(dir: &Path, name: &str, content: &[u8]) -> (OwnedFd, PathBuf) {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    (super::open::open_dir(dir).unwrap(), path)
}

/// Clears the immutable bit on drop, so that a failed assertion leaves nothing behind.
pub(crate) struct Unlock(pub(crate) PathBuf);

impl Drop for Unlock {
    fn drop(&mut self) {
        if let Ok(file) = File::open(&self.0) {
            let _ = rustix::fs::ioctl_setflags(file.as_fd(), rustix::fs::IFlags::empty());
        }
    }
}
