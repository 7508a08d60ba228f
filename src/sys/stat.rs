//! `statx`: what is at a path, in one system call and without opening anything.
//!
//! A final symlink is looked at, never followed, and no automount is set off. The kernel is
//! asked to be as fresh as `stat` is: on a network filesystem that can mean a question to the
//! server, and an answer from a cache would be no look at all.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

use super::open::component;
use crate::judge::{FileKind, FileTime, Stat};

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): a mount id that is never used again. An older kernel
/// answers with the one of `/proc/self/mountinfo`; one kernel always gives the same kind.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID).union(MNT_ID_UNIQUE);

const LOOK: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);

/// What is at `path`, without following a final symlink. Symlinks in its parents are followed.
pub fn stat(path: &Path) -> io::Result<Stat> {
    look(CWD, path.as_os_str(), LOOK)
}

/// What `name` in the directory `dir` is.
///
/// # Errors
/// `InvalidInput` for a name that is not one component, besides what `statx(2)` says.
pub fn stat_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Stat> {
    look(dir, component(name)?, LOOK)
}

/// What `fd` is a descriptor of; `O_PATH` suffices.
pub fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    look(fd, OsStr::new(""), AtFlags::EMPTY_PATH)
}

/// [`stat`], and when it was made; `None` where the filesystem does not know.
pub fn stat_with_birth(path: &Path) -> io::Result<(Stat, Option<FileTime>)> {
    let found = rustix::fs::statx(CWD, path, LOOK, MASK | StatxFlags::BTIME)?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    Ok((from_statx(&found)?, known.then(|| time(found.stx_btime))))
}

fn look(dir: impl AsFd, path: &OsStr, flags: AtFlags) -> io::Result<Stat> {
    from_statx(&rustix::fs::statx(dir, path, flags, MASK)?)
}

fn from_statx(found: &Statx) -> io::Result<Stat> {
    let kind = FileKind::from_mode(found.stx_mode.into()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "a type of file that Linux does not have")
    })?;
    let has_bit = found.stx_attributes_mask.contains(StatxAttributes::IMMUTABLE);
    Ok(Stat {
        kind,
        size: found.stx_size,
        mode: found.stx_mode & 0o7777,
        uid: found.stx_uid,
        gid: found.stx_gid,
        mtime: time(found.stx_mtime),
        ctime: time(found.stx_ctime),
        nlink: found.stx_nlink,
        dev: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
        ino: found.stx_ino,
        immutable: has_bit.then(|| found.stx_attributes.contains(StatxAttributes::IMMUTABLE)),
        mount: found.stx_mnt_id,
    })
}

fn time(at: StatxTimestamp) -> FileTime {
    FileTime { sec: at.tv_sec, nsec: at.tv_nsec }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::sys::test::{file, rooms};

    #[test]
    fn all_three_ways_of_looking_agree_with_each_other_and_with_std() {
        for room in rooms() {
            let (dir, path) = file(room.path(), "f", b"hello");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4750)).unwrap();
            let std = std::fs::metadata(&path).unwrap();
            let by_path = stat(&path).unwrap();
            let name = OsStr::new("f");
            let held = crate::sys::open::open_path_at(dir.as_fd(), name).unwrap();
            assert_eq!(by_path, stat_at(dir.as_fd(), name).unwrap());
            assert_eq!(by_path, stat_fd(held.as_fd()).unwrap());
            assert_eq!(by_path.kind, FileKind::File);
            assert_eq!((by_path.size, by_path.mode), (5, 0o4750));
            assert_eq!((by_path.dev, by_path.ino), (std.dev(), std.ino()));
            assert_eq!({ by_path.mtime.sec }, std.mtime());
            assert_eq!(i64::from(by_path.ctime.nsec), std.ctime_nsec());
            assert_eq!(by_path.immutable, Some(false));
            assert_ne!(by_path.mount, 0);
        }
    }

    #[test]
    fn a_symlink_is_looked_at_and_not_followed() {
        for room in rooms() {
            let link = room.path().join("l");
            symlink("/etc/passwd", &link).unwrap();
            assert_eq!(stat(&link).unwrap().kind, FileKind::Symlink);
        }
    }

    #[test]
    fn a_name_with_any_bytes_is_found_and_a_path_is_no_name() {
        let room = crate::sys::test::disk();
        let name = OsStr::from_bytes(b"\xff\n \x1b");
        std::fs::write(room.path().join(name), "x").unwrap();
        let dir = crate::sys::open::open_dir(room.path()).unwrap();
        assert_eq!(stat_at(dir.as_fd(), name).unwrap().size, 1);
        for bad in ["", ".", "..", "a/b", "/etc/passwd"] {
            let error = stat_at(dir.as_fd(), OsStr::new(bad)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn a_directory_that_is_made_again_was_born_later() {
        let room = crate::sys::test::disk();
        let dir = room.path().join("d");
        let born = || {
            std::fs::create_dir(&dir).unwrap();
            let (stat, born) = stat_with_birth(&dir.join(".")).unwrap();
            assert_eq!(stat, super::stat(&dir).unwrap());
            std::fs::remove_dir(&dir).unwrap();
            born.unwrap()
        };
        let first = born();
        // Longer than a step of the clock that files are stamped with.
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(born() > first);
    }
}
