//! Writing the known-good content into the inode that is there.
//!
//! For what an exchange would break: a file with other names (hard links), one that is itself
//! a mount point or is bind-mounted elsewhere, a filesystem that cannot exchange. Readers may
//! see the file half-written; that is the price, and why it is not the first choice.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Patient;
use super::replica::{REWRITTEN, set_metadata};
use crate::baseline::{Vault, VaultError, copy_sparse};
use crate::fault::{Point, reach};
use crate::judge::{FileKind, Stat};
use crate::sys;

/// At most this much of the tampered content is copied to the quarantine, in bytes.
const EVIDENCE_LIMIT: u64 = 64 << 20;
/// Whoever writes on and on while the content is copied is not waited for longer than so often.
const COPIES: usize = 3;

/// Rewrites the file in place and returns the look at the end and where the copy of the
/// tampered content lies; `None` when what has the path is not a regular file with the
/// original inode, so that there is nothing to preserve.
pub(super) fn rewrite(
    patient: &Patient,
    vault: &Vault,
    slot: &Path,
) -> io::Result<Option<(Option<Stat>, Option<PathBuf>)>> {
    let parent = patient.open_parent()?;
    let inode = match sys::open::open_path_at(parent.as_fd(), patient.name()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let stat = sys::stat::stat_fd(inode.as_fd())?;
    let same = patient.seal.is_none_or(|seal| (seal.dev, seal.ino) == (stat.dev, stat.ino));
    let (true, FileKind::File, Some(digest)) = (same, stat.kind, patient.facts.sha256) else {
        return Ok(None);
    };
    vault.verify(&digest).map_err(|e| io::Error::other(e.to_string()))?;
    let held = File::from(sys::open::reopen_read(inode.as_fd())?);
    vault
        .require_room(&digest, &held, patient.parent())
        .map_err(|e| io::Error::other(e.to_string()))?;
    let evidence = keep_last(inode.as_fd(), slot)?;
    reach(Point::RewriteKept);
    fill(patient, inode.as_fd(), vault)?;
    if let Some(flags) = patient.facts.flags {
        sys::flags::set(inode.as_fd(), flags)?;
    }
    reach(Point::RewriteLocked);
    Ok(Some((patient.look_in(&parent, patient.name())?, evidence)))
}

/// Gives an inode the known-good content and metadata, but for the flags that would forbid an
/// exchange.
pub(super) fn fill(patient: &Patient, inode: BorrowedFd<'_>, vault: &Vault) -> io::Result<()> {
    let told = |e: VaultError| io::Error::other(e.to_string());
    sys::flags::unlock(inode)?;
    reach(Point::RewriteUnlocked);
    let mut file = File::from(sys::open::reopen_write(inode)?);
    if let Some(digest) = patient.facts.sha256 {
        vault.copy_verified(&digest, patient.facts.size, &mut file).map_err(told)?;
    }
    reach(Point::RewriteCopied);
    file.set_len(patient.facts.size)?;
    set_metadata(&patient.facts, inode)?;
    reach(Point::RewriteDressed);
    file.sync_all()?;
    reach(Point::RewriteSynced);
    // Only now: closing a descriptor that wrote moves no time, but a write back would.
    set_metadata(&patient.facts, inode)
}

/// A copy of the file at `from`, beside it, as far as evidence goes.
///
/// # Errors
/// When it cannot be opened; where there is no room for a copy there is none.
pub fn copy_out(from: &Path) -> io::Result<Option<PathBuf>> {
    let slot = from.parent().unwrap_or(Path::new("/"));
    let dir = sys::open::open_dir(slot)?;
    let inode = sys::open::open_path_at(dir.as_fd(), from.file_name().unwrap_or_default())?;
    keep(inode.as_fd(), slot)
}

/// A copy of the content, made again where somebody wrote meanwhile: what is written after it,
/// and before the file is filled, leaves no trace. The bit keeps most from writing; where there
/// are no flags that cannot be helped.
fn keep_last(inode: BorrowedFd<'_>, slot: &Path) -> io::Result<Option<PathBuf>> {
    for _ in 1..COPIES {
        let _ = sys::flags::set_immutable(inode, true);
        let before = sys::stat::stat_fd(inode)?.mtime;
        let copy = keep(inode, slot)?;
        if sys::stat::stat_fd(inode)?.mtime == before {
            return Ok(copy);
        }
        if let Some(outdated) = copy {
            let _ = std::fs::remove_file(outdated);
        }
    }
    keep(inode, slot)
}

/// Copies the tampered content, up to the limit, to a fresh name in the slot. What does not
/// fit the disk, or has no slot that is ours, is not worth failing the heal for.
fn keep(inode: BorrowedFd<'_>, slot: &Path) -> io::Result<Option<PathBuf>> {
    let from = File::from(sys::open::reopen_read(inode)?);
    // No symlink in place of the slot leads the copy elsewhere.
    let Ok(dir) = sys::open::open_dir(slot) else { return Ok(None) };
    let (now, ino) = (jiff::Timestamp::now().as_microsecond(), sys::stat::stat_fd(inode)?.ino);
    let name = format!("{REWRITTEN}-{now:x}-{ino:x}");
    let held = sys::open::self_path(dir.as_fd()).join(&name);
    let copied = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&held)
        .and_then(|mut to| copy_sparse(&from, EVIDENCE_LIMIT, &mut to));
    if copied.is_err() {
        let _ = std::fs::remove_file(&held);
        return Ok(None);
    }
    Ok(Some(slot.join(name)))
}
