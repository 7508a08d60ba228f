//! What is above a protected path: enough to find it or make it again.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::record::Parent;
use super::snapshot::{SnapshotError, explain};
use crate::judge::Stat;
use crate::sys::handle::handle_fd;
use crate::sys::open::open_dir;
use crate::sys::stat::{stat, stat_fd};

/// The directories above `path`, from the root of the filesystem that the last of them is on
/// down to that one.
///
/// # Errors
///
/// Where one of them cannot be looked at, or is a symlink.
pub fn parents(path: &Path) -> Result<Vec<Parent>, SnapshotError> {
    let above = directories_above(path)?;
    let found = above.into_iter().map(|(path, stat)| parent(path, &stat)).collect();
    found
}

/// Where the filesystem is mounted that `path` is on: `path` itself, where it is a mount point.
///
/// # Errors
///
/// As [`parents`]; and where `path` does not exist.
pub fn mount_point(path: &Path) -> Result<PathBuf, SnapshotError> {
    let above = directories_above(path)?;
    let here = stat(path).map_err(|error| explain(path, error))?;
    let (Some((root, _)), Some((_, nearest))) = (above.first(), above.last()) else {
        return Ok(PathBuf::from("/"));
    };
    Ok(if here.mount == nearest.mount { root.clone() } else { path.to_path_buf() })
}

/// From the mount point down; at least one, the directory that holds `path`.
fn directories_above(path: &Path) -> Result<Vec<(PathBuf, Stat)>, SnapshotError> {
    let mut found: Vec<(PathBuf, Stat)> = Vec::new();
    for dir in path.ancestors().skip(1) {
        let stat = look(dir).map_err(|error| explain(dir, error))?;
        if found.last().is_some_and(|(_, below)| below.mount != stat.mount) {
            break;
        }
        found.push((dir.to_path_buf(), stat));
    }
    if found.is_empty() {
        return Err(SnapshotError::NotAPath(path.to_path_buf()));
    }
    found.reverse();
    Ok(found)
}

fn look(dir: &Path) -> io::Result<Stat> {
    stat_fd(open_dir(dir)?.as_fd())
}

fn parent(path: PathBuf, stat: &Stat) -> Result<Parent, SnapshotError> {
    let held = open_dir(&path).map_err(|error| explain(&path, error))?;
    let handle = match handle_fd(held.as_fd()) {
        Ok(handle) => Some((handle.kind, handle.bytes)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => None,
        Err(error) => return Err(explain(&path, error)),
    };
    let Stat { mode, uid, gid, ino, .. } = *stat;
    Ok(Parent { path, mode, uid, gid, ino, handle })
}
