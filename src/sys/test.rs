//! Rooms for the tests: a directory on the disk's filesystem and one on tmpfs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::open::{open_dir, open_path_at};

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
    (open_dir(dir).unwrap(), path)
}

/// Clears the flags on drop, so that a failed assertion leaves nothing behind.
pub(crate) struct Unlock(pub(crate) PathBuf);

impl Drop for Unlock {
    fn drop(&mut self) {
        let (Some(dir), Some(name)) = (self.0.parent(), self.0.file_name()) else { return };
        let held = open_dir(dir).and_then(|dir| open_path_at(dir.as_fd(), name));
        let _ = held.and_then(|held| super::flags::set(held.as_fd(), 0));
    }
}

/// Says on the terminal, and in the list that the test command prints at its end, that this test
/// could not run here.
pub(crate) fn skipped(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("a test"));
    if let Some(list) = std::env::var_os("STEADFAST_SKIPPED") {
        let file = std::fs::File::options().append(true).open(list);
        let _ = file.and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()));
    }
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}
