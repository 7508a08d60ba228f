//! On every filesystem there is room for.

use std::ffi::OsStr;

use super::*;
use crate::sys::open::{open_dir, open_path_at};
use crate::sys::stat::stat;
use crate::sys::test::{Unlock, disk, file, rooms};

const FS_NODUMP: u32 = 0x40;
const FS_DIRSYNC: u32 = 0x10000;
const FS_EXTENTS: u32 = 0x80000;

#[test]
fn the_immutable_bit_goes_on_and_off_and_touches_no_other_flag() {
    for room in rooms() {
        let (dir, path) = file(room.path(), "f", b"x");
        let _unlock = Unlock(path.clone());
        let held = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
        set(held.as_fd(), FS_NODUMP).unwrap();
        let before = get(held.as_fd()).unwrap().unwrap();
        for _ in 0..2 {
            set_immutable(held.as_fd(), true).unwrap();
            assert_eq!(stat(&path).unwrap().immutable, Some(true));
            assert_eq!(get(held.as_fd()).unwrap(), Some(before | FS_IMMUTABLE));
        }
        assert!(std::fs::write(&path, "y").is_err());
        for _ in 0..2 {
            set_immutable(held.as_fd(), false).unwrap();
            assert_eq!(get(held.as_fd()).unwrap(), Some(before));
        }
    }
}

#[test]
fn the_immutable_bit_is_set_by_name_and_where_a_symlink_has_the_name_on_nothing_else() {
    for room in rooms() {
        let (dir, path) = file(room.path(), "f", b"x");
        let _unlock = Unlock(path.clone());
        let name = OsStr::new("f");
        for on in [true, true, false, true] {
            set_immutable_at(dir.as_fd(), name, on).unwrap();
            assert_eq!(stat(&path).unwrap().immutable, Some(on));
        }
        set_immutable_at(dir.as_fd(), name, false).unwrap();
        std::os::unix::fs::symlink("f", room.path().join("l")).unwrap();
        let _ = set_immutable_at(dir.as_fd(), OsStr::new("l"), true);
        let _ = set_immutable_at(dir.as_fd(), OsStr::new("l"), false);
        assert_eq!(stat(&path).unwrap().immutable, Some(false));
        let refused = set_immutable_at(dir.as_fd(), OsStr::new("../f"), true).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn setting_all_flags_keeps_those_that_are_the_filesystems_own() {
    let room = disk();
    let (dir, path) = file(room.path(), "f", b"x");
    let _unlock = Unlock(path.clone());
    let held = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
    let own = get(held.as_fd()).unwrap().unwrap();
    set(held.as_fd(), FS_IMMUTABLE | FS_APPEND | FS_NODUMP).unwrap();
    let now = get(held.as_fd()).unwrap().unwrap();
    assert_eq!(now & COMPARED_FLAGS, FS_IMMUTABLE | FS_APPEND | FS_NODUMP);
    assert_eq!(now & FS_EXTENTS, own & FS_EXTENTS);
    set(held.as_fd(), 0).unwrap();
    assert_eq!(get(held.as_fd()).unwrap(), Some(own & !COMPARED_FLAGS));
}

#[test]
fn a_flag_that_only_the_ioctl_knows_survives_the_quick_way() {
    let room = disk();
    let path = room.path().join("d");
    std::fs::create_dir(&path).unwrap();
    let _unlock = Unlock(path.clone());
    let held = open_dir(&path).unwrap();
    if let Err(error) = set(held.as_fd(), FS_DIRSYNC) {
        // XFS and tmpfs have no flag that only the ioctl knows.
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        return;
    }
    let before = get(held.as_fd()).unwrap().unwrap();
    assert_eq!(before & FS_DIRSYNC, FS_DIRSYNC);
    set_immutable(held.as_fd(), true).unwrap();
    set_immutable(held.as_fd(), false).unwrap();
    assert_eq!(get(held.as_fd()).unwrap(), Some(before));
}

#[test]
fn what_cannot_be_opened_safely_has_no_flags_or_lets_them_be_set_by_path() {
    let room = disk();
    let dir = open_dir(room.path()).unwrap();
    std::os::unix::fs::symlink("x", room.path().join("l")).unwrap();
    nix::unistd::mkfifo(&room.path().join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["l", "p"] {
        let held = open_path_at(dir.as_fd(), OsStr::new(name)).unwrap();
        set(held.as_fd(), 0).unwrap();
        let done = set_immutable(held.as_fd(), true);
        let flags = get(held.as_fd()).unwrap();
        set(held.as_fd(), 0).unwrap();
        match flags {
            None => assert_eq!(done.unwrap_err().kind(), io::ErrorKind::Unsupported),
            Some(flags) => assert_eq!(flags, FS_IMMUTABLE, "{name} {done:?}"),
        }
        assert_eq!(set(held.as_fd(), FS_DIRSYNC).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}

#[test]
fn the_flags_that_both_ways_know_survive_the_round_trip() {
    let common = BOTH.iter().fold(0, |all, (flag, _)| all | flag);
    assert_eq!(from_xflags(to_xflags(u32::MAX)), common);
    assert_eq!(to_xflags(FS_DIRSYNC), 0);
}

#[test]
fn a_filesystem_without_flags_says_none() {
    let proc = open_dir(std::path::Path::new("/proc")).unwrap();
    let held = open_path_at(proc.as_fd(), OsStr::new("version")).unwrap();
    assert_eq!(get(held.as_fd()).unwrap(), None);
}
