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
    above.into_iter().map(|(path, stat)| parent(path, &stat)).collect()
}

/// The directory `path`, as it is one above what is in it.
///
/// # Errors
///
/// Where it cannot be looked at, or is a symlink.
pub fn directory(path: &Path) -> Result<Parent, SnapshotError> {
    let found = look(path).map_err(|error| explain(path, error))?;
    parent(path.to_owned(), &found)
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
    Ok(Parent { path, mode: mode.into(), uid, gid, ino, handle })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::sys::handle::{Handle, open_by_handle};
    use crate::sys::test::memory;

    #[test]
    fn parents_lead_from_the_mount_point_down_to_the_directory() {
        let room = memory();
        let dir = room.path().join(OsStr::from_bytes(b"a\xff"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("f"), "x").unwrap();
        let found = parents(&dir.join("f")).unwrap();
        let paths: Vec<&Path> = found.iter().map(|parent| parent.path.as_path()).collect();
        assert_eq!(paths, [Path::new("/dev/shm"), room.path(), &dir]);
        assert_eq!(mount_point(&dir.join("f")).unwrap(), Path::new("/dev/shm"));

        let moved = room.path().join("elsewhere");
        std::fs::rename(&dir, &moved).unwrap();
        let (kind, bytes) = found[2].handle.clone().unwrap();
        let mount = open_dir(Path::new("/dev/shm")).unwrap();
        let again = open_by_handle(mount.as_fd(), &Handle { kind, bytes }).unwrap();
        assert_eq!(stat_fd(again.as_fd()).unwrap().ino, found[2].ino);
        assert_eq!(stat(&moved).unwrap().ino, found[2].ino);
    }

    #[test]
    fn a_mount_point_is_its_own_and_the_root_has_no_parents() {
        assert_eq!(mount_point(Path::new("/proc")).unwrap(), Path::new("/proc"));
        assert_eq!(parents(Path::new("/etc")).unwrap().len(), 1);
        assert!(matches!(parents(Path::new("/")), Err(SnapshotError::NotAPath(_))));
    }

    #[test]
    fn a_path_through_a_symlink_has_no_parents_to_speak_of() {
        let room = memory();
        std::fs::create_dir(room.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", room.path().join("link")).unwrap();
        let error = parents(&room.path().join("link/f")).unwrap_err();
        assert!(matches!(error, SnapshotError::Symlinked(_)), "{error}");
    }
}
