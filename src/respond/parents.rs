//! Putting back what leads to a file: directories that were renamed or removed, and the mount
//! that somebody laid over it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, Uid};

use super::Patient;
use crate::baseline::Parent;
use crate::fault::{Point, reach};
use crate::sense::MountTable;
use crate::sys;
use crate::sys::handle::Handle;

/// Makes every directory above the file the one it was: found by its handle and renamed back
/// where it still exists, made anew where it does not. Those that are there afterwards are
/// known by [`known_anew`]. Returns where the file was meanwhile, if it was renamed away with one
/// of them.
pub(super) fn put_back(patient: &Patient) -> io::Result<Option<PathBuf>> {
    let mut from = None;
    for parent in patient.around.parents.iter() {
        if *parent.path == *patient.around.mount_point || parent.path == Path::new("/") {
            continue;
        }
        let right = match sys::stat::stat(&parent.path) {
            Ok(stat) => {
                stat.ino == parent.ino
                    || (stat.kind == crate::judge::FileKind::Directory
                        && find(parent, patient).is_none())
            }
            Err(_) => false,
        };
        if !right {
            let found = put_back_one(parent, patient)?;
            reach(Point::ParentPutBack);
            let below = patient.path.strip_prefix(&parent.path).unwrap_or(Path::new(""));
            from = from.or(found.map(|found| found.join(below)));
        }
    }
    Ok(from)
}

/// The same for a directory that is itself protected. `None` if it is nowhere to be found.
pub(super) fn put_back_itself(patient: &Patient) -> io::Result<Option<PathBuf>> {
    match &patient.itself {
        Some(itself) if find(itself, patient).is_some() => put_back_one(itself, patient),
        _ => Ok(None),
    }
}

/// The directories above the file as they are now, with the mode and owner that they should
/// have: after some were made anew they have other inodes and handles.
#[must_use]
pub fn known_anew(patient: &Patient) -> Arc<[Parent]> {
    let now = crate::baseline::parents(&patient.path).unwrap_or_default();
    let anew = |known: &Parent| {
        let found = now.iter().find(|parent| parent.path == known.path)?;
        Some(Parent { ino: found.ino, handle: found.handle.clone(), ..known.clone() })
    };
    patient
        .around
        .parents
        .iter()
        .map(|known| anew(known).unwrap_or_else(|| known.clone()))
        .collect()
}

/// Where it was found, if it was.
fn put_back_one(parent: &Parent, patient: &Patient) -> io::Result<Option<PathBuf>> {
    let (Some(above), Some(name)) = (parent.path.parent(), parent.path.file_name()) else {
        return Ok(None);
    };
    let dir = sys::open::open_dir(above)?;
    let original = find(parent, patient);
    if original.is_none() {
        clear_the_way(&dir, name)?;
        make(&dir, name, parent)?;
        return Ok(None);
    }
    let Some((old_dir, old_name)) = original else { return Ok(None) };
    let from = sys::handle::current_path(old_dir.as_fd()).ok().map(|at| at.join(&old_name));
    let moved = match sys::rename::place(old_dir.as_fd(), &old_name, dir.as_fd(), name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            sys::rename::exchange(old_dir.as_fd(), &old_name, dir.as_fd(), name)
        }
        moved => moved,
    };
    match moved {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            for fd in [&old_dir, &dir] {
                sys::flags::unlock(fd.as_fd())?;
            }
            sys::flags::unlock(sys::open::open_path_at(old_dir.as_fd(), &old_name)?.as_fd())?;
            sys::rename::exchange(old_dir.as_fd(), &old_name, dir.as_fd(), name)
                .or_else(|_| sys::rename::place(old_dir.as_fd(), &old_name, dir.as_fd(), name))
        }
        moved => moved,
    }?;
    Ok(from)
}

/// Where the original directory is now: the directory that holds it, and its name there.
fn find(parent: &Parent, patient: &Patient) -> Option<(OwnedFd, std::ffi::OsString)> {
    let (kind, bytes) = parent.handle.clone()?;
    let mount = sys::open::open_dir(&patient.around.mount_point).ok()?;
    let found = sys::handle::open_by_handle(mount.as_fd(), &Handle { kind, bytes }).ok()?;
    let path = sys::handle::current_path(found.as_fd()).ok()?;
    let dir = sys::open::open_dir(path.parent()?).ok()?;
    let name = path.file_name()?.to_owned();
    let stat = sys::stat::stat_at(dir.as_fd(), &name).ok()?;
    (stat.ino == parent.ino).then_some((dir, name))
}

/// What is no directory and has the name of one is moved aside, under a name that tells.
fn clear_the_way(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let stat = match sys::stat::stat_at(dir.as_fd(), name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        stat => stat?,
    };
    if stat.kind == crate::judge::FileKind::Directory {
        return Ok(());
    }
    let mut aside = name.to_owned();
    aside.push(format!(".displaced-{:x}", jiff::Timestamp::now().as_microsecond()));
    match sys::rename::place(dir.as_fd(), name, dir.as_fd(), &aside) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            sys::flags::unlock(sys::open::open_path_at(dir.as_fd(), name)?.as_fd())?;
            sys::rename::place(dir.as_fd(), name, dir.as_fd(), &aside)
        }
        moved => moved,
    }
}

fn make(dir: &OwnedFd, name: &OsStr, parent: &Parent) -> io::Result<()> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
        Err(rustix::io::Errno::EXIST) => {}
        Err(rustix::io::Errno::PERM) => {
            sys::flags::unlock(dir.as_fd())?;
            rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
        }
        made => made?,
    }
    let fd = sys::open::open_path_at(dir.as_fd(), name)?;
    let owner = (Some(Uid::from_raw(parent.uid)), Some(Gid::from_raw(parent.gid)));
    rustix::fs::chownat(&fd, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?;
    Ok(rustix::fs::chmod(sys::open::self_path(fd.as_fd()), Mode::from_raw_mode(parent.mode))?)
}

/// Takes away the mounts that cover the file, the topmost first.
pub(super) fn uncover(patient: &Patient) -> io::Result<()> {
    let table = MountTable::read()?;
    let covering =
        table.covering(&patient.path, &patient.around.mount_point, patient.around.layers);
    covering.iter().rev().try_for_each(|mount| sys::mount::detach(&mount.mount_point))
}
