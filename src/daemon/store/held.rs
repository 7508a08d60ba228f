//! A directory of the state, held by descriptor: so it can be told from whatever else has its
//! name, and found again where it was moved to.
//!
//! No symlink is ever followed on the way to it, and what somebody else has put at its place is
//! moved aside whole, never looked into and never removed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use crate::judge::{FS_APPEND, FS_IMMUTABLE};
use crate::sys::open::{open_dir, open_path_at, self_path};
use crate::sys::stat::{stat, stat_fd};
use crate::sys::{flags, rename};

/// See the module.
#[derive(Debug)]
pub(in crate::daemon) struct Held {
    path: PathBuf,
    mode: u32,
    fd: OwnedFd,
}

/// How a directory came to its place again.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Fate {
    /// It lay somewhere else, and was put back with all that is in it.
    PutBack {
        /// Where it was.
        from: PathBuf,
        /// What had its name lies there now.
        swapped: bool,
    },
    /// It is gone, and an empty one was made.
    MadeAnew {
        /// Where what had its name lies now.
        aside: Option<PathBuf>,
    },
}

impl Held {
    /// Holds the directory at `path`, an absolute path without symlinks, and makes it first
    /// where there is none.
    pub(in crate::daemon) fn hold(path: PathBuf, mode: u32) -> io::Result<Self> {
        let fd = match open_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => make(&path, mode)?,
            opened => opened?,
        };
        Ok(Self { path, mode, fd })
    }

    pub(in crate::daemon) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its path leads to it.
    pub(in crate::daemon) fn is_in_place(&self) -> io::Result<bool> {
        match open_dir(&self.path) {
            Ok(there) => Ok(identity(there.as_fd())? == identity(self.fd.as_fd())?),
            Err(e) => match e.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => Ok(false),
                _ => Err(e),
            },
        }
    }

    /// Puts it back, or makes another where it is gone.
    pub(in crate::daemon) fn bring_back(&mut self) -> io::Result<Fate> {
        let parent = open_parents(&self.path)?;
        let name = name_of(&self.path);
        if let Some(from) = self.whereabouts()? {
            match put_back(&from, parent.as_fd(), name) {
                // It is on another mount now.
                Err(e) if e.raw_os_error() == Some(libc::EXDEV) => {}
                other => return Ok(Fate::PutBack { swapped: other?, from }),
            }
        }
        let aside = set_aside(parent.as_fd(), &self.path)?;
        self.fd = make(&self.path, self.mode)?;
        Ok(Fate::MadeAnew { aside })
    }

    /// Where it is now; `None` where it was removed.
    fn whereabouts(&self) -> io::Result<Option<PathBuf>> {
        // The kernel's word is only a hint: it may name a removed directory.
        let told = std::fs::read_link(self_path(self.fd.as_fd()))?;
        if told == self.path {
            return Err(io::Error::other("a mount covers it: unmount what lies over it"));
        }
        let here = open_dir(&told).and_then(|there| identity(there.as_fd()));
        Ok((here.ok() == Some(identity(self.fd.as_fd())?)).then_some(told))
    }
}

/// Moves whatever is at `path`, below the open `parent`, to a name of its own beside it.
pub(in crate::daemon) fn set_aside(
    parent: BorrowedFd<'_>,
    path: &Path,
) -> io::Result<Option<PathBuf>> {
    let name = name_of(path);
    let held = match open_path_at(parent, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        held => held?,
    };
    soften(held.as_fd());
    let mut aside = name.to_owned();
    aside.push(format!(".foreign-{}", jiff::Timestamp::now().as_microsecond()));
    rename::place(parent, name, parent, &aside)?;
    Ok(Some(path.with_file_name(aside)))
}

fn put_back(from: &Path, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let from_dir = open_dir(from.parent().unwrap_or(Path::new("/")))?;
    let from_name = name_of(from);
    for (dir, name) in [(from_dir.as_fd(), from_name), (parent, name)] {
        if let Ok(held) = open_path_at(dir, name) {
            soften(held.as_fd());
        }
    }
    match rename::place(from_dir.as_fd(), from_name, parent, name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            rename::exchange(from_dir.as_fd(), from_name, parent, name).map(|()| true)
        }
        other => other.map(|()| false),
    }
}

/// Flags would forbid the rename; where they cannot be cleared, it says why.
fn soften(fd: BorrowedFd<'_>) {
    if let Ok(Some(now)) = flags::get(fd)
        && now & (FS_IMMUTABLE | FS_APPEND) != 0
    {
        let _ = flags::set(fd, now & !(FS_IMMUTABLE | FS_APPEND));
    }
}

fn make(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let parent = open_parents(path)?;
    make_in(parent.as_fd(), name_of(path), mode)?;
    open_dir(path)
}

fn make_in(parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?;
    // The umask has taken its share of the mode.
    let made = open_path_at(parent, name)?;
    Ok(rustix::fs::chmod(self_path(made.as_fd()), Mode::from_raw_mode(mode))?)
}

/// The directory that holds `path`; those that are missing above it are made.
fn open_parents(path: &Path) -> io::Result<OwnedFd> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    match open_dir(parent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && parent.parent().is_some() => {
            let above = open_parents(parent)?;
            make_in(above.as_fd(), name_of(parent), 0o755)?;
            open_dir(parent)
        }
        opened => opened,
    }
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn identity(fd: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    stat_fd(fd).map(|found| (found.dev, found.ino))
}

/// Device and inode of what is at `path`; `None` where nothing is.
pub(in crate::daemon) fn identity_at(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match stat(path) {
        Ok(found) => Ok(Some((found.dev, found.ino))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn held() -> (tempfile::TempDir, PathBuf, Held) {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().canonicalize().unwrap().join("state");
        let held = Held::hold(path.clone(), 0o700).unwrap();
        std::fs::write(path.join("mark"), "ours").unwrap();
        (room, path, held)
    }

    #[test]
    fn what_was_moved_away_is_put_back_and_a_link_in_its_place_is_not_followed() {
        let (room, path, mut held) = held();
        let away = room.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        let trap = room.path().join("trap");
        std::fs::create_dir(&trap).unwrap();
        symlink(&trap, &path).unwrap();
        assert!(!held.is_in_place().unwrap());
        let fate = held.bring_back().unwrap();
        assert_eq!(fate, Fate::PutBack { from: away.clone(), swapped: true });
        assert!(held.is_in_place().unwrap());
        assert_eq!(std::fs::read_to_string(path.join("mark")).unwrap(), "ours");
        assert!(away.is_symlink());
        assert_eq!(std::fs::read_dir(&trap).unwrap().count(), 0);
    }

    #[test]
    fn what_was_removed_is_made_anew_and_what_has_its_name_is_set_aside() {
        let (_room, path, mut held) = held();
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("planted"), "x").unwrap();
        assert!(!held.is_in_place().unwrap());
        let Fate::MadeAnew { aside: Some(aside) } = held.bring_back().unwrap() else { panic!() };
        assert!(aside.join("planted").exists());
        assert!(held.is_in_place().unwrap());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }
}
