//! One look at a file, held against what is known good: what has to be done next.
//!
//! A look is a `statx`: it costs a microsecond and does not open the file, so it cannot see
//! content. What it cannot rule out it asks to have inspected or read, and says so. It never
//! trusts a time stamp that the owner of a file can set (`mtime`) to prove that content is
//! unchanged; the kernel's own `ctime` has to be the one of the seal.

use super::{Facts, FileKind, Stat};

/// The next step for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// It is as it was when it was last known to be whole.
    None,
    /// Something moved that a look cannot see: read attributes and flags, then content.
    Inspect,
    /// Only the immutable bit is missing, as far as a look can tell: set it, then inspect.
    Relock,
    /// The inode is the right one and its metadata is not: repair it, then verify.
    Repair,
    /// The content, the inode or the type is wrong: put the known-good copy at the path.
    Replace,
    /// Somebody wrote, and nothing shows for it: read the content.
    Verify,
}

/// What a look at a present file calls for.
///
/// `seal` is what a look said when the file was last whole; `written` whether a sensor saw
/// anybody write since.
#[must_use]
pub fn judge(good: &Facts, seal: Option<&Stat>, seen: &Stat, written: bool) -> Remedy {
    if seen.kind != good.kind {
        return Remedy::Replace;
    }
    if good.kind == FileKind::Directory {
        return judge_directory(good, seal, seen);
    }
    let Some(seal) = seal else { return Remedy::Inspect };
    let other_inode = (seen.dev, seen.ino) != (seal.dev, seal.ino);
    let other_content = good.kind == FileKind::File
        && (seen.size != good.size || (written && seen.mtime != good.mtime));
    if other_inode || other_content {
        return Remedy::Replace;
    }
    if !metadata_matches(good, seen) {
        return Remedy::Repair;
    }
    if good.keeps_immutable() && seen.immutable == Some(false) {
        return Remedy::Relock;
    }
    if seen.ctime != seal.ctime {
        return Remedy::Inspect;
    }
    if written { Remedy::Verify } else { Remedy::None }
}

/// A directory's size, times and link count move with what is in it; they are no drift.
fn judge_directory(good: &Facts, seal: Option<&Stat>, seen: &Stat) -> Remedy {
    if (good.mode, good.uid, good.gid) != (seen.mode, seen.uid, seen.gid) {
        return Remedy::Repair;
    }
    match seal {
        Some(seal) if (seal.dev, seal.ino, seal.ctime) == (seen.dev, seen.ino, seen.ctime) => {
            Remedy::None
        }
        _ => Remedy::Inspect,
    }
}

/// Whether a look at `seen` shows the metadata of `good`. Symlinks have no mode of their own.
#[must_use]
pub fn metadata_matches(good: &Facts, seen: &Stat) -> bool {
    (good.kind == FileKind::Symlink || good.mode == seen.mode)
        && (good.uid, good.gid) == (seen.uid, seen.gid)
        && (good.kind == FileKind::Directory || good.mtime == seen.mtime)
}

/// Whether a look shows nothing that differs from `good`, the immutable bit included. It says
/// nothing of content beyond its length.
#[must_use]
pub fn looks_whole(good: &Facts, seen: &Stat) -> bool {
    seen.kind == good.kind
        && (good.kind != FileKind::File || seen.size == good.size)
        && metadata_matches(good, seen)
        && !(good.keeps_immutable() && seen.immutable != Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Common, FS_IMMUTABLE, FileTime};

    fn good() -> Facts {
        Facts {
            size: 10,
            sha256: None,
            mtime: FileTime { sec: 5, nsec: 0 },
            ino: 2,
            common: Common {
                kind: FileKind::File,
                mode: 0o644,
                uid: 0,
                gid: 0,
                flags: Some(FS_IMMUTABLE),
                xattrs: Default::default(),
                nlink: 1,
                target: None,
                dev: 1,
            }
            .into(),
        }
    }

    fn whole() -> Stat {
        Stat {
            kind: FileKind::File,
            size: 10,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: FileTime { sec: 5, nsec: 0 },
            ctime: FileTime { sec: 9, nsec: 0 },
            nlink: 1,
            dev: 1,
            ino: 2,
            immutable: Some(true),
            mount: 3,
        }
    }

    fn verdict(change: impl Fn(&mut Stat), written: bool) -> Remedy {
        let mut seen = whole();
        change(&mut seen);
        judge(&good(), Some(&whole()), &seen, written)
    }

    #[test]
    fn an_untouched_file_needs_nothing() {
        assert_eq!(verdict(|_| (), false), Remedy::None);
    }

    #[test]
    fn a_cleared_bit_is_set_again_without_touching_content() {
        let cleared = |s: &mut Stat| {
            s.immutable = Some(false);
            s.ctime.sec += 1;
        };
        assert_eq!(verdict(cleared, false), Remedy::Relock);
    }

    #[test]
    fn another_size_inode_or_type_calls_for_the_known_good_copy() {
        assert_eq!(verdict(|s| s.size = 11, false), Remedy::Replace);
        assert_eq!(verdict(|s| s.ino = 77, false), Remedy::Replace);
        assert_eq!(verdict(|s| s.kind = FileKind::Fifo, false), Remedy::Replace);
    }

    #[test]
    fn a_new_mtime_alone_is_repaired_and_with_a_seen_write_replaced() {
        let touched = |s: &mut Stat| s.mtime.sec += 1;
        assert_eq!(verdict(touched, false), Remedy::Repair);
        assert_eq!(verdict(touched, true), Remedy::Replace);
    }

    #[test]
    fn a_moved_ctime_is_inspected_even_when_everything_else_agrees() {
        assert_eq!(verdict(|s| s.ctime.sec += 1, false), Remedy::Inspect);
    }

    #[test]
    fn a_write_that_left_no_trace_is_verified() {
        assert_eq!(verdict(|_| (), true), Remedy::Verify);
    }
}
