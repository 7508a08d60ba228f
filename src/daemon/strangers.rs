//! Strangers: what is in a protected directory and is not protected.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::config::is_own;

/// So many strangers in one directory are told one by one.
pub const STRANGERS_MAX: usize = 10_000;

/// The names in `directory` that are neither protected nor steadfast's own, up to
/// [`STRANGERS_MAX`]. One that is a directory stands for everything in it.
///
/// Pipes and sockets are left out: they hold no content, and were passed by when the directory
/// was protected.
///
/// # Errors
/// When the directory cannot be listed.
pub fn list(
    directory: &Path,
    state: &Path,
    is_known: impl Fn(&Path) -> bool,
) -> std::io::Result<Vec<PathBuf>> {
    // A link that was put in the directory's place leads elsewhere.
    if !directory.symlink_metadata()?.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(directory)?.filter_map(|entry| {
        let entry = entry.ok()?;
        let kind = entry.file_type().ok()?;
        let path = entry.path();
        let strange = !kind.is_fifo() && !kind.is_socket();
        (strange && !is_known(&path) && !is_own(&path, state)).then_some(path)
    });
    let mut found: Vec<PathBuf> = entries.take(STRANGERS_MAX).collect();
    found.sort_unstable();
    Ok(found)
}
