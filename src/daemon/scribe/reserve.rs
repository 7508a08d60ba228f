//! Room that is kept for the next start. On a full disk the database cannot even be opened, so a
//! daemon that ended there could not begin again, and nobody would guard: then this is given up.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// So much is kept, in bytes…
const SIZE: u64 = 1 << 20;
/// …where so much is free.
const PLENTY: u64 = 8 * SIZE;

/// Keeps it, unless the disk is too full for that.
pub(in crate::daemon) fn keep(state: &Path) {
    let path = path(state);
    if path.symlink_metadata().is_ok() || free(state).is_none_or(|free| free < PLENTY) {
        return;
    }
    let make = || {
        let mut how = OpenOptions::new();
        let file = how.write(true).create_new(true).mode(0o600).open(&path)?;
        fallocate(&file, FallocateFlags::empty(), 0, SIZE)?;
        io::Result::Ok(())
    };
    if let Err(e) = make() {
        tracing::debug!("{}: {e}", crate::text::escape_path(&path));
        let _ = fs::remove_file(&path);
    }
}

/// Does `work`, and again with this room where the disk is too full for it.
pub(in crate::daemon) fn with<T, E: Display>(
    state: &Path,
    work: impl Fn() -> Result<T, E>,
) -> Result<T, E> {
    match work() {
        Err(e) if give_up(state) => {
            tracing::warn!("{e}; the room that was kept for this is used");
            work()
        }
        done => done,
    }
}

/// Gives it up where the disk is full. Says whether that made room.
fn give_up(state: &Path) -> bool {
    free(state).is_some_and(|free| free < SIZE) && fs::remove_file(path(state)).is_ok()
}

fn path(state: &Path) -> PathBuf {
    state.join("reserve")
}

fn free(state: &Path) -> Option<u64> {
    let disk = statvfs(state).ok()?;
    Some(disk.f_bfree.saturating_mul(disk.f_frsize))
}
