//! Known-good copies again, where somebody took them away: from the protected file as long as it
//! is whole, or else from the copy that lies ready for a heal.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use super::{Chore, Reading, mend};
use crate::baseline::{Origin, Vault, VaultError};
use crate::daemon::failures::Failure;
use crate::daemon::guard::Guard;
use crate::daemon::guard::ward::Ward;
use crate::judge::{AlertWhen, Digest, Facts};
use crate::record::Event;
use crate::respond::{self, Ready};
use crate::sense::FileId;
use crate::sys;

/// How the shortcoming of a missing known-good copy begins.
const NO_COPY: &str = "its known-good copy is gone or damaged";
const WHAT_TO_DO: &str = "and what is there now is not good: put the file right from a backup, and \
                          the copy is made again";
const MADE_AGAIN: &str = "its known-good copy in the vault was damaged or gone; it was made again \
                          from the file, which is good";

/// A file whose copy the vault should have.
#[derive(Debug)]
pub struct Stocked {
    file: FileId,
    path: Arc<Path>,
    facts: Arc<Facts>,
    ready: Option<Ready>,
    /// Its copy was found damaged or missing before.
    doubtful: bool,
}

/// What became of copies that were damaged or gone.
#[derive(Debug, Default)]
pub struct Copies {
    /// They were made again.
    mended: Vec<FileId>,
    /// They cannot be made: what is at the path is not good either.
    lost: Vec<FileId>,
}

impl Copies {
    /// This one was made again.
    pub(super) fn mended(file: FileId) -> Self {
        Self { mended: vec![file], lost: Vec::new() }
    }
}

/// Makes the copies that are missing again.
pub(super) fn restock(all: &[Stocked], vault: &Vault) -> Copies {
    let mut copies = Copies::default();
    let mut done = HashSet::new();
    let lacks = |one: &&Stocked| {
        one.doubtful || !one.digest().is_some_and(|digest| vault.has(&digest, one.facts.size))
    };
    for one in all.iter().filter(lacks) {
        if !done.insert(one.digest()) {
            continue;
        }
        // Several files may have the content, and one of them be good.
        let same = || all.iter().filter(|other| other.digest() == one.digest());
        let list = match same().any(|other| make_again(other, vault)) {
            true => &mut copies.mended,
            false => &mut copies.lost,
        };
        list.extend(same().map(|other| other.file));
    }
    copies
}

/// Reads a copy, and makes it again where it is not what it should be.
pub(super) fn check(one: &Stocked, vault: &Vault) -> Option<Copies> {
    match vault.verify(&one.digest()?) {
        Err(VaultError::Damaged { .. } | VaultError::Missing { .. }) => {}
        Err(e) => {
            tracing::warn!("{e}");
            return None;
        }
        Ok(_) => return None,
    }
    Some(match make_again(one, vault) {
        true => Copies::mended(one.file),
        false => Copies { mended: Vec::new(), lost: vec![one.file] },
    })
}

fn make_again(one: &Stocked, vault: &Vault) -> bool {
    let good = |path: &Path| mend(path, &one.facts, vault);
    good(&one.path) || one.ready.as_ref().is_some_and(|ready| good(&ready.path()))
}

impl Stocked {
    /// `None` for what has no content, or none that is kept.
    fn of(file: FileId, ward: &Ward) -> Option<Self> {
        if ward.origin == Origin::Own {
            return None;
        }
        let patient = &ward.patient;
        patient.facts.sha256?;
        let (path, facts) = (patient.path.clone(), patient.facts.clone());
        let (ready, doubtful) = (patient.replica.clone(), ward.falls_short_by(NO_COPY));
        Some(Self { file, path, facts, ready, doubtful })
    }

    fn digest(&self) -> Option<Digest> {
        self.facts.sha256
    }
}

impl Guard {
    /// Something is missing from the vault or from the slots: has it made again.
    pub(in crate::daemon) fn restock(&mut self) {
        let mut wanted = Vec::with_capacity(self.wards.len());
        let mut bare = Vec::new();
        for (file, ward) in self.wards_mut() {
            wanted.extend(Stocked::of(file, ward));
            let patient = &mut ward.patient;
            if let (Some(replica), Some((slot, name))) = (&patient.replica, patient.slot())
                && !sys::open::open_dir(&slot)
                    .is_ok_and(|dir| respond::is_untouched(&replica.replica(), dir.as_fd(), &name))
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
    pub(in crate::daemon) fn restock_again(&mut self) {
        if self.troubled().any(|(_, ward)| ward.falls_short_by(NO_COPY)) {
            self.restock();
        }
    }

    /// Has every copy in the vault read, each once.
    pub(in crate::daemon) fn check_copies(&self) {
        let mut seen = HashSet::new();
        for (file, ward) in self.wards() {
            if let Some(stocked) = Stocked::of(file, ward)
                && seen.insert(stocked.digest())
            {
                self.reader.push(Reading::CheckCopy(Box::new(stocked)));
            }
        }
    }

    /// Somebody was at the known-good copies: a journal line, a message, and `status`.
    pub(in crate::daemon) fn tell_of_copies(&mut self, copies: &Copies) {
        let mut news = Vec::new();
        let mut made = HashSet::new();
        let real = |file: &&FileId| !self.canaries.has(**file);
        let mended: Vec<_> = copies.mended.iter().filter(real).copied().collect();
        let lost: Vec<_> = copies.lost.iter().filter(real).copied().collect();
        for file in mended {
            let Some(ward) = self.ward_mut(file) else { continue };
            ward.no_longer_falls_short_by(NO_COPY);
            if made.insert(ward.patient.facts.sha256) {
                news.push((file, Failure::CopyDamaged, MADE_AGAIN.to_owned()));
            }
        }
        for file in lost {
            let Some(ward) = self.ward_mut(file) else { continue };
            if !ward.falls_short_by(NO_COPY) {
                let why = format!("{NO_COPY}, {WHAT_TO_DO}");
                ward.falls_short([why.clone()]);
                self.herd.trouble(file);
                news.push((file, Failure::CopyLost, why));
            }
        }
        let told = news.into_iter().filter_map(|news| self.event_of_copy(news)).collect();
        self.alarm("vault", told);
    }

    /// What is to be said of it, and whether aloud.
    fn event_of_copy(
        &self,
        (file, failure, why): (FileId, Failure, String),
    ) -> Option<(Event, bool)> {
        let ward = self.ward(file)?;
        tracing::warn!("{}: {why}", crate::text::escape_path(&*ward.patient.path));
        self.health.counts.failure(failure);
        let event = failure.event(why)?.about(&ward.patient.path);
        Some((event, ward.policy.alert != AlertWhen::Never))
    }
}
