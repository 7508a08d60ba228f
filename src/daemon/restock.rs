//! Known-good copies again, where somebody took them away: from the protected file as long as it
//! is whole, or else from the copy that lies ready for a heal.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::failures::Failure;
use super::guard::Guard;
use super::workers::{Chore, mend};
use crate::baseline::{Replica, Vault};
use crate::judge::{Digest, Facts};
use crate::respond;
use crate::sense::FileId;
use crate::sys;

/// How the shortcoming of a missing known-good copy begins.
const NO_COPY: &str = "its known-good copy is gone";

/// A file whose copy the vault should have.
#[derive(Debug)]
pub struct Stocked {
    file: FileId,
    path: PathBuf,
    facts: Facts,
    digest: Digest,
    replica: Option<Replica>,
}

/// Makes the copies that are missing again, and returns those for which that is not possible.
pub(super) fn restock(all: &[Stocked], vault: &Vault) -> Vec<FileId> {
    let missing = |one: &&Stocked| !vault.has(&one.digest, one.facts.size);
    let hopeless = |one: &&Stocked| {
        let ready = one.replica.as_ref().map(|replica| replica.path.as_path());
        let sources = [Some(one.path.as_path()), ready];
        !sources.into_iter().flatten().any(|path| mend(path, &one.facts, vault))
    };
    all.iter().filter(missing).filter(hopeless).map(|one| one.file).collect()
}

impl Guard {
    /// Something is missing from the vault or from the slots: has it made again.
    pub(super) fn restock(&mut self) {
        let mut wanted = Vec::new();
        let mut bare = Vec::new();
        for (file, ward) in self.wards_mut() {
            let patient = &mut ward.patient;
            if let Some(digest) = patient.facts.sha256 {
                let (path, facts) = (patient.path.clone(), patient.facts.clone());
                let replica = patient.replica.clone();
                wanted.push(Stocked { file, path, facts, digest, replica });
            }
            if let (Some(replica), Some((slot, name))) = (&patient.replica, patient.slot())
                && !sys::open::open_dir(&slot)
                    .is_ok_and(|dir| respond::is_untouched(replica, dir.as_fd(), &name))
            {
                patient.replica = None;
                ward.replica_watched = false;
                bare.push(file);
            }
        }
        self.stager.push(Chore::Restock(wanted));
        bare.into_iter().for_each(|file| self.stage(file));
    }

    /// Tries again where a copy could not be made: the file may be whole by now.
    pub(super) fn restock_again(&mut self) {
        let lacks = |why: &String| why.starts_with(NO_COPY);
        if self.wards().any(|(_, ward)| ward.shortcomings.iter().any(lacks)) {
            self.restock();
        }
    }

    /// These copies could not be made again.
    pub(super) fn lost_copies(&mut self, files: &[FileId]) {
        let mut news = Vec::new();
        for (file, ward) in self.wards_mut() {
            let told = ward.shortcomings.iter().any(|why| why.starts_with(NO_COPY));
            ward.shortcomings.retain(|why| !why.starts_with(NO_COPY));
            if files.contains(&file) {
                if !told {
                    news.push(ward.patient.path.clone());
                }
                ward.shortcomings.push(format!(
                    "{NO_COPY}, and what is there now is not good: put the file right from a \
                     backup, and it is made again"
                ));
            }
        }
        for path in news {
            let why = format!("{NO_COPY}, and what is there now is not good");
            tracing::error!("{}: {why}", crate::text::escape_path(&path));
            self.fail(Failure::CopyLost, Some(path), why);
        }
    }
}
