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
    let here = sys::stat::stat(parent)?;
    let same = |other: &Path| {
        sys::stat::stat(other).map(|stat| (stat.dev, stat.mount) == (here.dev, here.mount))
    };
    if same(state).unwrap_or(false) {
        return Ok(state.join("replicas"));
    }
    let mut highest = parent;
    for above in parent.ancestors().skip(1) {
        if !same(above)? {
            break;
        }
        highest = above;
    }
    Ok(highest.join(".steadfast"))
}
