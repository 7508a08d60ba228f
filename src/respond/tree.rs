//! Whatever was put at a protected path, as large, deep and strange as it may be: what it holds,
//! and getting rid of it.
//!
//! A tree from a tamperer may be deeper than any path is long, hold more names than there is
//! time for, be immutable all over, and have other filesystems mounted in it. So nothing here
//! recurses, all that takes long is bounded, and neither goes into another mount: what is
//! mounted there belongs to somebody.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::AtFlags;

use crate::judge::FileKind;
use crate::sys;

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) kind: FileKind,
    /// Length in bytes, of a directory that of all in it.
    pub(super) size: u64,
    /// What it takes on the disk, in blocks of 512 bytes.
    pub(super) blocks: u64,
    /// How many names are in it, and below.
    pub(super) names: u64,
}

/// No more names than this are looked at to tell how much a tree holds.
const MOST_MEASURED: u64 = 10_000;
/// So many names are removed at a time.
const MOST_REMOVED: u32 = 10_000;

pub(super) fn measure(path: &Path) -> io::Result<Measure> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path)?;
    let kind = FileKind::from_mode(meta.mode()).unwrap_or(FileKind::File);
    let mut found = Measure { kind, size: meta.size(), blocks: meta.blocks(), names: 0 };
    if kind != FileKind::Directory {
        return Ok(found);
    }
    found.size = 0;
    let mount = sys::stat::stat(path)?.mount;
    let mut ahead = vec![path.to_owned()];
    while let Some(dir) = ahead.pop() {
        // What cannot be listed, for its depth if nothing else, is not counted.
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let Ok(meta) = entry.metadata() else { continue };
            found.names += 1;
            found.blocks = found.blocks.saturating_add(meta.blocks());
            let same = || sys::stat::stat(&entry.path()).is_ok_and(|stat| stat.mount == mount);
            match meta.is_dir() {
                true if same() => ahead.push(entry.path()),
                true => {}
                false => found.size = found.size.saturating_add(meta.size()),
            }
            if found.names >= MOST_MEASURED {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Removes whatever lies at `path`, a directory with all that is in it.
///
/// # Errors
/// As `unlink` has them; `EBUSY` where something is mounted in it.
pub fn remove_path(path: &Path) -> io::Result<()> {
    while !remove_some(path)? {}
    Ok(())
}

/// Removes so much of what lies at `path` as takes no long time; true if nothing is left.
///
/// # Errors
/// As [`remove_path`] has them.
pub(super) fn remove_some(path: &Path) -> io::Result<bool> {
    let parent = sys::open::open_dir(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mount = sys::stat::stat_fd(parent.as_fd())?.mount;
    if sys::stat::stat_at(parent.as_fd(), name)?.kind != FileKind::Directory {
        unlink(parent.as_fd(), name)?;
        return Ok(true);
    }
    let tree = open_tree(parent.as_fd(), name, mount)?;
    let mut left = MOST_REMOVED;
    let mut fresh = 0;
    while !is_removed(parent.as_fd(), name)? {
        for name in names(tree.as_fd())? {
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            if sys::stat::stat_at(tree.as_fd(), &name)?.kind == FileKind::Directory {
                flatten(tree.as_fd(), &name, mount, &mut fresh)?;
            } else {
                unlink(tree.as_fd(), &name)?;
            }
        }
    }
    Ok(true)
}

/// Removes the directory `name` in `tree`; what is in it moves up into `tree`.
fn flatten(tree: BorrowedFd<'_>, name: &OsStr, mount: u64, fresh: &mut u64) -> io::Result<()> {
    let inner = open_tree(tree, name, mount)?;
    while !is_removed(tree, name)? {
        for name in names(inner.as_fd())? {
            if sys::stat::stat_at(inner.as_fd(), &name)?.kind != FileKind::Directory {
                unlink(inner.as_fd(), &name)?;
                continue;
            }
            // A locked one cannot be moved either.
            drop(open_tree(inner.as_fd(), &name, mount)?);
            loop {
                let up = OsString::from(fresh.to_string());
                *fresh += 1;
                match sys::rename::place(inner.as_fd(), &name, tree, &up) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    moved => break moved?,
                }
            }
        }
    }
    Ok(())
}

/// The directory, without the flags that keep it as it is.
fn open_tree(dir: BorrowedFd<'_>, name: &OsStr, mount: u64) -> io::Result<OwnedFd> {
    let tree = sys::open::open_path_at(dir, name)?;
    if sys::stat::stat_fd(tree.as_fd())?.mount != mount {
        return Err(rustix::io::Errno::BUSY.into());
    }
    sys::flags::unlock(tree.as_fd())?;
    Ok(tree)
}

/// True if the empty directory is gone; false if it is not empty.
fn is_removed(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(true),
        Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn unlink(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let unlink = || rustix::fs::unlinkat(dir, name, AtFlags::empty());
    match unlink() {
        Err(rustix::io::Errno::PERM) => {
            sys::flags::unlock(sys::open::open_path_at(dir, name)?.as_fd())?;
            Ok(unlink()?)
        }
        Err(rustix::io::Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

/// Some of the names in `dir`.
fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let entries = std::fs::read_dir(sys::open::self_path(dir))?;
    entries.take(MOST_REMOVED as usize).map(|entry| Ok(entry?.file_name())).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Deeper than a path can tell and a stack can hold.
    const DEEP: usize = 5_000;

    #[test]
    fn a_tree_that_is_deeper_than_any_path_is_measured_and_removed() {
        let room = tempfile::tempdir().unwrap();
        let top = room.path().join("top");
        std::fs::create_dir(&top).unwrap();
        let mut dir = sys::open::open_dir(&top).unwrap();
        for level in 0..DEEP {
            let name = OsString::from((level % 7).to_string());
            rustix::fs::mkdirat(&dir, &name, rustix::fs::Mode::RWXU).unwrap();
            dir = sys::open::open_path_at(dir.as_fd(), &name).unwrap();
            let file = sys::open::self_path(dir.as_fd()).join("file");
            std::fs::write(file, "x").unwrap();
        }
        let found = measure(&top).unwrap();
        assert_eq!(found.kind, FileKind::Directory);
        assert!(found.names > 1_000 && found.size > 500, "{found:?}");
        remove_path(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn what_is_immutable_in_a_tree_is_removed_and_what_links_lead_to_is_not() {
        let room = tempfile::tempdir_in("/var/tmp").unwrap();
        let kept = room.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        let top = room.path().join("top");
        std::fs::create_dir_all(top.join("a/b/c")).unwrap();
        std::fs::write(top.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, top.join("a/link")).unwrap();
        if !rustix::process::geteuid().is_root() {
            return sys::test::skipped("it takes root to lock a file");
        }
        for locked in ["a/b/file", "a/b/c", "a/b", "a"] {
            let held = std::fs::File::open(top.join(locked)).unwrap();
            sys::flags::set_immutable(held.as_fd(), true).unwrap();
        }
        remove_path(&top).unwrap();
        assert!(!top.exists() && kept.join("file").exists());
    }

    #[test]
    fn what_is_mounted_in_a_tree_is_left_alone() {
        if !rustix::process::geteuid().is_root() {
            return sys::test::skipped("it takes root to mount");
        }
        let room = tempfile::tempdir().unwrap();
        let precious = room.path().join("precious");
        std::fs::create_dir(&precious).unwrap();
        std::fs::write(precious.join("file"), "x").unwrap();
        let top = room.path().join("top");
        let shown = top.join("a/shown");
        std::fs::create_dir_all(&shown).unwrap();
        let run = |program: &str, args: &[&Path]| {
            assert!(Command::new(program).args(args).status().unwrap().success());
        };
        run("mount", &[Path::new("--bind"), &precious, &shown]);
        let measured = measure(&top).unwrap();
        let refused = remove_path(&top);
        run("umount", &[&shown]);
        assert_eq!(measured.size, 0, "{measured:?}");
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBUSY));
        assert!(precious.join("file").exists());
        remove_path(&top).unwrap();
    }
}
