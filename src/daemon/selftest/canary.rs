//! The canaries: two small files in a directory of their own, one with the immutable bit and one
//! without. One pair is below the state directory, and one on each other filesystem, where the
//! copies of its protected files lie. They are there only while a self-test runs.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::baseline::{Origin, Record, Vault};
use crate::daemon::commands::protect;
use crate::judge::{AlertWhen, FileKind, Policy, Unexpected};
use crate::respond;
use crate::sys;
use crate::text::escape_path;

/// The directory below the state directory.
const ROOM: &str = "canary";
/// The names in it.
const LOCKED: &str = "steadfast-canary-locked";
const PLAIN: &str = "steadfast-canary-plain";
/// Where their replicas lie.
const SLOT: &str = "ready";
/// What they hold.
const CONTENT: &[u8] =
    b"This file is tampered with by steadfast itself, to see whether it notices.\n\
    It is there only while a self-test runs.\n";

/// Where canaries stand for all files of a filesystem.
#[derive(Clone, Debug)]
pub struct Room {
    /// Where the filesystem begins, for people.
    pub(super) filesystem: String,
    /// Its device.
    pub(super) dev: u64,
    /// The mount through which its files were seen last; 0 where that is not known.
    mount: u64,
    /// The directory of the canaries.
    pub(super) dir: PathBuf,
    /// It is not below the state directory, which is known to be root's.
    apart: bool,
}

impl Room {
    /// On the filesystem of the state.
    pub(super) fn of_state(state: &Path) -> Self {
        let begins = respond::highest(state).unwrap_or(state);
        let dev = sys::stat::stat(state).map_or(0, |stat| stat.dev);
        let dir = state.join(ROOM);
        Self { filesystem: escape_path(begins), dev, mount: 0, dir, apart: false }
    }

    /// On a filesystem of which copies lie in `slot`, while it is mounted there as `mount`.
    pub(super) fn of_slot(slot: &Path, dev: u64, mount: u64) -> Self {
        let begins = slot.parent().unwrap_or(slot);
        Self { filesystem: escape_path(begins), dev, mount, dir: slot.join(ROOM), apart: true }
    }

    /// Has it stand where nobody but root can put something else in its place.
    fn prepare(&self) -> io::Result<()> {
        let slot = self.dir.parent().unwrap_or(Path::new("/"));
        if self.apart {
            require_roots_above(slot)?;
            let above = slot.parent().unwrap_or(slot);
            if self.mount != 0 && sys::stat::stat(above)?.mount != self.mount {
                return Err(io::Error::other("its filesystem is not mounted"));
            }
            make_dir(slot)?;
            require_roots(slot)?;
        }
        clear(&self.dir)?;
        make_dir(&self.dir)
    }
}

fn require_roots_above(dir: &Path) -> io::Result<()> {
    dir.ancestors().skip(1).try_for_each(require_roots)
}

/// A directory that is root's, and that others can write to at most as they can to `/tmp`.
fn require_roots(dir: &Path) -> io::Result<()> {
    let stat = sys::stat::stat(dir)?;
    let closed = stat.mode & 0o022 == 0 || stat.mode & 0o1000 != 0;
    if stat.kind == FileKind::Directory && stat.uid == 0 && closed {
        return Ok(());
    }
    Err(io::Error::other(format!("others than root can write to {}", escape_path(dir))))
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// The canaries that an earlier run left in `slot`, if it ended during a test, are gone. Where
/// others can write it had none.
pub(in crate::daemon) fn clear_slot(slot: &Path) {
    let ours = require_roots_above(slot).and_then(|()| require_roots(slot));
    if ours.is_ok()
        && let Err(e) = clear(&slot.join(ROOM))
    {
        tracing::warn!("{}: {e}", escape_path(slot));
    }
}

/// The slot of a canary's replicas: its own, so that everything goes with the directory.
pub(super) fn slot(path: &Path) -> Option<PathBuf> {
    is_canary(path).then(|| path.parent().map(|room| room.join(SLOT))).flatten()
}

/// What [`Route::RenameOver`](crate::selftest::Route::RenameOver) renames.
pub(super) fn other(path: &Path) -> PathBuf {
    path.with_file_name("steadfast-canary-other")
}

/// Whether `path` can be nothing but a canary.
pub(super) fn is_canary(path: &Path) -> bool {
    let is = |name: Option<&std::ffi::OsStr>, wanted: &str| name.is_some_and(|name| name == wanted);
    let room = path.parent().and_then(Path::file_name);
    is(room, ROOM) && (is(path.file_name(), LOCKED) || is(path.file_name(), PLAIN))
}

/// Makes both anew, the locked one first, whatever an earlier run left there.
///
/// # Errors
/// A sentence: what cannot be made.
pub(super) fn make(room: &Room, vault: &Vault) -> Result<[Record; 2], String> {
    let dir = &room.dir;
    let failed = |e: io::Error| format!("no canary can be made in {}: {e}", escape_path(dir));
    room.prepare().map_err(failed)?;
    let take = |name: &str, immutable| {
        let path = dir.join(name);
        fs::write(&path, CONTENT).map_err(failed)?;
        let policy = Policy {
            immutable,
            restore: true,
            alert: AlertWhen::Never,
            unexpected: Unexpected::Report,
        };
        protect::take(&path, policy, Origin::Command, vault, &|_| ()).map_err(|e| e.to_string())
    };
    Ok([take(LOCKED, true)?, take(PLAIN, false)?])
}

/// Takes away everything in the directory, and it.
pub(super) fn clear(room: &Path) -> io::Result<()> {
    for dir in [room.join(SLOT), room.to_owned()] {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                protect::unlock(&entry.path())?;
                gone(fs::remove_file(entry.path()))?;
            }
        }
        match fs::remove_dir(&dir) {
            // Something was mounted there, or put there: it is not ours to take away.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
                ) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Somebody else may have been faster.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_a_canary() {
        assert!(is_canary(Path::new("/state/canary/steadfast-canary-plain")));
        for path in ["/state/canary/x", "/etc/steadfast-canary-plain", "/canary", "/"] {
            assert!(!is_canary(Path::new(path)), "{path}");
        }
    }
}
