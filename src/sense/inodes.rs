//! Which inodes have to be watched for a path: what it names, what holds the name, what is above.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Watched;
use super::index::Part;
use crate::sys::open::{open_dir, open_path_at};

/// An inode that a path needs marked.
pub(super) struct Needed {
    /// `O_PATH`.
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) part: Part,
}

/// The inodes that have to be marked for `path`, as far as it exists. A directory that is
/// reached through a symlink is none: somebody has put it there.
pub(super) fn inodes_of(path: &Path, kind: Watched) -> Vec<Needed> {
    let mut all = Vec::new();
    let mut held = false;
    for (up, above) in (0..).zip(path.ancestors().skip(1)) {
        if let Ok(fd) = open_dir(above) {
            if !held {
                add_holder(&mut all, &fd, above, up, path, kind);
                held = true;
            }
            all.push(Needed { fd, path: above.to_owned(), part: Part::Above });
        }
    }
    all
}

/// The part that is played by what a path names.
pub(super) fn part_of(kind: Watched) -> Part {
    match kind {
        Watched::File => Part::Itself,
        Watched::Directory => Part::ItselfDirectory,
    }
}

/// The last name of the path, or the one so many above that.
pub(super) fn name_of(path: &Path, up: u16) -> Option<&[u8]> {
    Some(path.ancestors().nth(up.into())?.file_name()?.as_bytes())
}

/// The nearest directory that exists, and what it has at `name`, if that is all of `path`.
fn add_holder(
    all: &mut Vec<Needed>,
    fd: &OwnedFd,
    above: &Path,
    up: u16,
    path: &Path,
    kind: Watched,
) {
    let Some(name) = name_of(path, up).map(OsStr::from_bytes) else { return };
    if let Ok(itself) = open_path_at(fd.as_fd(), name)
        && path.parent() == Some(above)
    {
        all.push(Needed { fd: itself, path: path.to_owned(), part: part_of(kind) });
    }
    if let Ok(fd) = fd.try_clone() {
        all.push(Needed { fd, path: above.to_owned(), part: Part::Holds(up) });
    }
}
