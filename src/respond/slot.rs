//! Where replicas lie: on the filesystem of the file, and reached through the same mount, or
//! the exchange is refused with `EXDEV`.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys;

/// The directory for replicas of files that lie where `path` lies.
///
/// That is a directory of the state where this is on the same filesystem and mount, and else
/// `.steadfast` at the highest directory above the file that still is: the root of its mount
/// or, on btrfs, of its subvolume.
///
/// # Errors
/// When a directory above cannot be looked at.
pub fn slot_directory(path: &Path, state: &Path) -> io::Result<PathBuf> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let here = place(parent)?;
    if place(state).is_ok_and(|there| there == here) {
        return Ok(state.join("replicas"));
    }
    Ok(highest(parent)?.join(SLOT))
}

/// The name of such a directory on a filesystem that the state is not on.
const SLOT: &str = ".steadfast";

/// The highest directory above `dir`, or itself, that is on its filesystem and mount.
///
/// # Errors
/// When a directory above cannot be looked at.
pub fn highest(dir: &Path) -> io::Result<&Path> {
    let here = place(dir)?;
    let mut highest = dir;
    for above in dir.ancestors().skip(1) {
        if place(above)? != here {
            break;
        }
        highest = above;
    }
    Ok(highest)
}

/// Filesystem and mount.
fn place(dir: &Path) -> io::Result<(u64, u64)> {
    sys::stat::stat(dir).map(|stat| (stat.dev, stat.mount))
}
