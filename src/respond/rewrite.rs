//! Writing the known-good content into the inode that is there.
//!
//! For what an exchange would break: a file with other names (hard links), one that is itself
//! a mount point or is bind-mounted elsewhere, a filesystem that cannot exchange. Readers may
//! see the file half-written; that is the price, and why it is not the first choice.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::Patient;
use super::replica::{REWRITTEN, set_metadata};
use crate::baseline::{Vault, VaultError, copy_sparse};
use crate::fault::{Point, reach};
use crate::judge::{FileKind, Stat};
use crate::sys;

/// At most this much of the tampered content is copied to the quarantine, in bytes.
pub(super) const EVIDENCE_LIMIT: u64 = 64 << 20;
/// How much is compared with the evidence at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// A copy of the tampered content.
pub(super) struct Evidence {
    pub(super) path: PathBuf,
    file: File,
    /// What it was made of.
    of: File,
}

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
    let same = patient.sealed().is_none_or(|seal| (seal.dev, seal.ino) == (stat.dev, stat.ino));
    let (true, FileKind::File, Some(digest)) = (same, stat.kind, patient.facts.sha256) else {
        return Ok(None);
    };
    vault.verify(&digest).map_err(|e| io::Error::other(e.to_string()))?;
    let held = File::from(sys::open::reopen_read(inode.as_fd())?);
    vault
        .require_room(&digest, &held, patient.parent())
        .map_err(|e| io::Error::other(e.to_string()))?;
    // Most who write are refused from here on; for the others there is `Evidence::catch_up`.
    let _ = sys::flags::set_immutable(inode.as_fd(), true);
    let evidence = keep(inode.as_fd(), slot)?;
    reach(Point::RewriteKept);
    if let Err(e) = fill(patient, inode.as_fd(), vault, evidence.as_ref()) {
        if let (io::ErrorKind::WouldBlock, Some(evidence)) = (e.kind(), &evidence) {
            // It was not written to, so what it holds is still there.
            let _ = std::fs::remove_file(&evidence.path);
        }
        return Err(e);
    }
    if let Some(flags) = patient.facts.flags {
        sys::flags::set(inode.as_fd(), flags)?;
    }
    reach(Point::RewriteLocked);
    let look = patient.look_in(&parent, patient.name())?;
    Ok(Some((look, evidence.map(|evidence| evidence.path))))
}

/// Gives an inode the known-good content and metadata, but for the flags that would forbid an
/// exchange. Others may be writing to it: what is written over is evidence first.
pub(super) fn fill(
    patient: &Patient,
    inode: BorrowedFd<'_>,
    vault: &Vault,
    evidence: Option<&Evidence>,
) -> io::Result<()> {
    let told = |e: VaultError| io::Error::other(e.to_string());
    sys::flags::unlock(inode)?;
    reach(Point::RewriteUnlocked);
    let mut file = File::from(sys::open::reopen_write(inode)?);
    let mut before = |at, length| {
        if let Some(evidence) = evidence {
            // What cannot be kept is no reason to leave the file as it is.
            let _ = evidence.catch_up(at, length);
        }
    };
    let size = patient.facts.size;
    if let Some(digest) = patient.facts.sha256 {
        vault.copy_over(&digest, size, &mut file, &mut before).map_err(told)?;
    }
    reach(Point::RewriteCopied);
    before(size, u64::MAX - size);
    file.set_len(size)?;
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
    Ok(keep(inode.as_fd(), slot)?.map(|evidence| evidence.path))
}

/// Copies the tampered content, up to the limit, to a fresh name in the slot. What does not
/// fit the disk, or has no slot that is ours, is not worth failing the heal for.
pub(super) fn keep(inode: BorrowedFd<'_>, slot: &Path) -> io::Result<Option<Evidence>> {
    let from = File::from(sys::open::reopen_read(inode)?);
    // No symlink in place of the slot leads the copy elsewhere.
    let Ok(dir) = sys::open::open_dir(slot) else { return Ok(None) };
    let (now, ino) = (jiff::Timestamp::now().as_microsecond(), sys::stat::stat_fd(inode)?.ino);
    let name = format!("{REWRITTEN}-{now:x}-{ino:x}");
    let held = sys::open::self_path(dir.as_fd()).join(&name);
    let copied = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&held)
        .and_then(|mut to| copy_sparse(&from, EVIDENCE_LIMIT, &mut to).map(|()| to));
    let Ok(file) = copied else {
        let _ = std::fs::remove_file(&held);
        return Ok(None);
    };
    if let Ok(like) = from.metadata() {
        dress(&file, &like);
    }
    Ok(Some(Evidence { path: slot.join(name), file, of: from }))
}

/// What the copy is like tells what else was changed. One that cannot be so is still evidence.
fn dress(copy: &File, like: &std::fs::Metadata) {
    let _ = fchown(copy, Some(like.uid()), Some(like.gid()));
    let _ = copy.set_permissions(like.permissions());
    let _ = like.modified().and_then(|at| copy.set_modified(at));
}

impl Evidence {
    /// Takes in what somebody wrote to these bytes since they were copied. Between this and the
    /// writing over them, microseconds later, a write leaves no trace.
    fn catch_up(&self, mut at: u64, length: u64) -> io::Result<()> {
        let end = at.saturating_add(length).min(EVIDENCE_LIMIT).min(self.of.metadata()?.len());
        let (mut now, mut kept) = (vec![0; CHUNK], vec![0; CHUNK]);
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let had = read_full(&self.file, kept.get_mut(..want).unwrap_or_default(), at)?;
            let has = read_full(&self.of, now.get_mut(..want).unwrap_or_default(), at)?;
            let bytes = now.get(..has).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if Some(bytes) != kept.get(..had) {
                self.file.write_all_at(bytes, at)?;
            }
            at += has as u64;
        }
        Ok(())
    }
}

/// As many bytes as there are, up to the buffer's length.
fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::test::disk;

    fn evidence_of(first: &[u8], then: &[u8]) -> Vec<u8> {
        let room = disk();
        let path = room.path().join("file");
        std::fs::write(&path, first).unwrap();
        let there = File::open(&path).unwrap();
        let evidence = keep(there.as_fd(), room.path()).unwrap().unwrap();
        std::fs::write(&path, then).unwrap();
        evidence.catch_up(0, 4).unwrap();
        evidence.catch_up(4, u64::MAX - 4).unwrap();
        std::fs::read(evidence.path).unwrap()
    }

    #[test]
    fn the_copy_is_like_what_it_was_made_of() {
        let room = disk();
        let path = room.path().join("file");
        std::fs::write(&path, b"content").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o4751))
            .unwrap();
        let there = File::open(&path).unwrap();
        there.set_modified(std::time::UNIX_EPOCH).unwrap();
        let evidence = keep(there.as_fd(), room.path()).unwrap().unwrap();
        let copy = std::fs::metadata(evidence.path).unwrap();
        assert_eq!((copy.mode() & 0o7777, copy.mtime(), copy.len()), (0o4751, 0, 7));
    }

    #[test]
    fn what_is_written_after_the_copy_and_before_the_heal_is_evidence_too() {
        assert_eq!(evidence_of(b"first", b"first"), b"first");
        assert_eq!(evidence_of(b"first", b"other"), b"other");
        assert_eq!(evidence_of(b"first", b"longer than it was"), b"longer than it was");
        assert_eq!(evidence_of(b"first", b"cut"), b"cutst");
        assert_eq!(evidence_of(b"", b"something"), b"something");
        let large = vec![b'x'; 3 * CHUNK + 1];
        let mut other = large.clone();
        *other.last_mut().unwrap() = b'y';
        assert!(evidence_of(&large, &other) == other);
    }
}
