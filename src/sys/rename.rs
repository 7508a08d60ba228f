//! `renameat2`: names exchanged or given in one step.
//!
//! A reader sees the old file or the new one, never none. Both names must be on one mount
//! (`EXDEV` otherwise, even for two mounts of one filesystem) and neither file may be
//! immutable (`EPERM`).

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{RenameFlags, renameat_with};

use super::open::component;

/// A name in an open directory.
type Place<'a> = (BorrowedFd<'a>, &'a OsStr);

/// What the two names stand for changes sides.
///
/// # Errors
/// `EINVAL` where the filesystem cannot exchange; `ENOENT` where one is missing.
pub fn exchange(
    dir1: BorrowedFd<'_>,
    name1: &OsStr,
    dir2: BorrowedFd<'_>,
    name2: &OsStr,
) -> io::Result<()> {
    with((dir1, name1), (dir2, name2), RenameFlags::EXCHANGE)
}

/// Renames, and fails with `EEXIST` where something already has the second name.
///
/// # Errors
/// `EINVAL` where the filesystem cannot promise that.
pub fn place(
    dir1: BorrowedFd<'_>,
    name1: &OsStr,
    dir2: BorrowedFd<'_>,
    name2: &OsStr,
) -> io::Result<()> {
    with((dir1, name1), (dir2, name2), RenameFlags::NOREPLACE)
}

/// Renames over whatever has the second name.
pub fn rename(
    dir1: BorrowedFd<'_>,
    name1: &OsStr,
    dir2: BorrowedFd<'_>,
    name2: &OsStr,
) -> io::Result<()> {
    with((dir1, name1), (dir2, name2), RenameFlags::empty())
}

fn with(from: Place<'_>, to: Place<'_>, flags: RenameFlags) -> io::Result<()> {
    Ok(renameat_with(from.0, component(from.1)?, to.0, component(to.1)?, flags)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::test::{file, rooms};

    #[test]
    fn exchange_swaps_place_refuses_and_rename_replaces() {
        for room in rooms() {
            let (dir, a) = file(room.path(), "a", b"a");
            let (_, b) = file(room.path(), "b", b"b");
            let (dir, x, y) = (dir.as_fd(), OsStr::new("a"), OsStr::new("b"));
            exchange(dir, x, dir, y).unwrap();
            assert_eq!(std::fs::read(&a).unwrap(), b"b");
            let error = place(dir, x, dir, y).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            rename(dir, x, dir, y).unwrap();
            assert_eq!(std::fs::read(&b).unwrap(), b"b");
            place(dir, y, dir, x).unwrap();
            assert!(a.exists() && !b.exists());
            let error = rename(dir, x, dir, OsStr::new("../out")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
