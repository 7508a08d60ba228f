//! Giving an inode its path back that another mount still shows, such as a container's.
//!
//! It was taken out of the path before anybody knew. Whoever writes to it there, or through a
//! descriptor from before, can do so until it is whole again: what is written over is kept where
//! it is not what was read of it when it was taken out.
//!
//! Limit: of content beyond the size of a copy for evidence nothing is kept a second time.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::Patient;
use super::cure::{Held, Outcome, exchanged};
use super::rewrite::{self, EVIDENCE_LIMIT, Evidence};
use crate::baseline::snapshot::snapshot;
use crate::baseline::{Content, Replica, Vault};
use crate::judge::Digest;
use crate::sys;

/// What an exchange took out and another mount shows.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Where it lies.
    pub from: PathBuf,
    /// Its content when it was read as evidence, as far as it was.
    pub read: Option<Digest>,
}

/// The inode that an exchange took out is made good where it lies, and gets the path back in
/// exchange for the replica: who sees it through another mount sees good content at once, and
/// nobody ever sees anything else at the path.
pub(super) fn rejoin(
    patient: &Patient,
    vault: &Vault,
    prepare: &mut dyn FnMut(&OwnedFd, &OsStr) -> io::Result<()>,
) -> io::Result<Outcome> {
    let Some(shown) = patient.shown.as_deref() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let (Some(slot), Some(name)) = (shown.from.parent(), shown.from.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let inode = sys::open::open_path_at(sys::open::open_dir(slot)?.as_fd(), name)?;
    let evidence = rewrite::keep(inode.as_fd(), slot)?;
    let done = rewrite::fill(patient, inode.as_fd(), vault, evidence.as_ref())
        .and_then(|()| take_path(patient, shown, &inode, prepare));
    let mut outcome = done.unwrap_or_else(|e| Outcome::of("rejoin", Err(e)));
    if let Some(Evidence { path, .. }) = evidence {
        if is_news(&path, [shown.read, patient.facts.sha256]) {
            outcome.evidence.push(path);
            outcome.healed.evidence = true;
        } else {
            super::remove_path(&path)?;
        }
    }
    Ok(outcome)
}

fn take_path(
    patient: &Patient,
    shown: &Shown,
    inode: &OwnedFd,
    prepare: &mut dyn FnMut(&OwnedFd, &OsStr) -> io::Result<()>,
) -> io::Result<Outcome> {
    let from = &shown.from;
    let stat = sys::stat::stat_fd(inode.as_fd())?;
    let now = Replica { path: from.clone(), ino: stat.ino, size: stat.size, ctime: stat.ctime };
    let whole = patient.seal.is_some() && patient.look()? == patient.sealed();
    let mut outcome = exchanged(patient, Held::hold(&now)?, prepare)?;
    outcome.healed.action = "rejoin";
    // The copy that lies ready was not needed for this.
    outcome.replica_used = false;
    if whole && !std::mem::take(&mut outcome.evidence).is_empty() {
        outcome.healed.evidence = false;
        super::remove_path(from)?;
    }
    Ok(outcome)
}

/// Whether the copy holds what is not `known`.
fn is_news(copy: &Path, known: [Option<Digest>; 2]) -> bool {
    let found = snapshot(copy, Content::Hash(0, EVIDENCE_LIMIT - 1), &|_| ());
    let digest = found.ok().and_then(|found| found.facts.sha256);
    digest.is_some() && !known.contains(&digest)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;
    use crate::judge::FileKind;
    use crate::respond::{Around, stage};
    use crate::sys::test::disk;

    const GOOD: &[u8] = b"the good content";

    /// What was written to the inode, after `read` of it was evidence, that is kept at the end.
    fn kept(read: &[u8], then: &[u8]) -> Vec<Vec<u8>> {
        let room = disk();
        let dir = room.path().canonicalize().unwrap();
        let (path, slot, vault) = (dir.join("file"), dir.join("slot"), dir.join("vault"));
        std::fs::create_dir(&slot).unwrap();
        std::fs::create_dir(&vault).unwrap();
        std::fs::write(&path, GOOD).unwrap();
        let vault = Vault::open(&vault).unwrap();
        let facts = snapshot(&path, Content::Hash(0, 1000), &|_| ()).unwrap().facts;
        vault.store(&File::open(&path).unwrap(), 1000, &|_| ()).unwrap();
        assert_eq!(facts.kind, FileKind::File);
        // The known-good copy has the path, and what was there lies in the slot.
        let replica = stage(&facts, &vault, &slot, false).unwrap();
        let from = slot.join("taken out");
        std::fs::rename(&path, &from).unwrap();
        std::fs::rename(&replica.path, &path).unwrap();
        std::fs::write(&from, read).unwrap();
        let digest = snapshot(&from, Content::Hash(0, 1000), &|_| ()).unwrap().facts.sha256;
        std::fs::write(&from, then).unwrap();
        let taken = sys::stat::stat(&from).unwrap();
        let mut patient = Patient {
            path: path.as_path().into(),
            seal: None,
            facts: Arc::new(facts),
            replica: None,
            around: Arc::new(Around {
                parents: Arc::new([]),
                mount_point: dir.as_path().into(),
                layers: 1,
            }),
            itself: None,
            pinned: false,
            shown: Some(Box::new(Shown { from: from.clone(), read: digest })),
        };
        patient.set_seal(patient.look().unwrap().unwrap());
        let outcome = rejoin(&patient, &vault, &mut |_, _| Ok(())).unwrap();
        assert!(outcome.healed.result.is_ok(), "{outcome:?}");
        assert_eq!(outcome.healed.evidence, !outcome.evidence.is_empty());
        assert_eq!(std::fs::read(&path).unwrap(), GOOD);
        assert_eq!(sys::stat::stat(&path).unwrap().ino, taken.ino);
        let left = std::fs::read_dir(&slot).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(left.collect::<Vec<_>>(), outcome.evidence);
        outcome.evidence.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    #[test]
    fn what_was_written_to_it_after_it_was_taken_out_and_read_is_kept_too() {
        assert_eq!(kept(b"tampered", b"tampered with again"), [b"tampered with again"]);
        assert_eq!(kept(GOOD, b"tampered"), [b"tampered"]);
    }

    #[test]
    fn what_is_evidence_already_or_is_good_is_not_kept_twice() {
        assert_eq!(kept(b"tampered", b"tampered"), Vec::<Vec<u8>>::new());
        assert_eq!(kept(b"tampered", GOOD), Vec::<Vec<u8>>::new());
    }
}
