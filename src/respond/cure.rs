//! Carrying out one cure on the real filesystem.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::replace::{Hands, Way, replace};
use super::replica::is_as_staged;
use super::{Patient, Ready, parents, rejoin, repair, rewrite, stage};
use crate::baseline::{Replica, Vault};
use crate::engine::{Cure, Healed, MISSED};
use crate::fault::{Point, reach};
use crate::judge::{FS_APPEND, FS_IMMUTABLE, Stat};
use crate::sys;

/// What a cure did.
#[derive(Debug)]
pub struct Outcome {
    /// For the engine.
    pub healed: Healed,
    /// What was at the path, or a copy of what it held, lies here now.
    pub evidence: Vec<PathBuf>,
    /// The replica took the path, or is not to be trusted: another has to be staged.
    pub replica_used: bool,
    /// It had no time to reach the disk and has to be synced.
    pub unsynced: bool,
    /// There is no room for a known-good copy, and nothing that it could be written over.
    pub cramped: bool,
}

impl Outcome {
    /// Whether the file was put right, for whoever waits for it.
    ///
    /// # Errors
    /// Why it was not.
    pub fn conclude(self) -> Result<Option<Stat>, String> {
        match self.healed.action {
            MISSED => Err("its path leads nowhere, or somebody is changing it just now".into()),
            _ => self.healed.result,
        }
    }

    pub(super) fn of(action: &'static str, result: io::Result<Option<Stat>>) -> Self {
        let (action, result) = match result {
            Err(e) if is_lost(&e) => (MISSED, Ok(None)),
            other => (action, other.map_err(|e| e.to_string())),
        };
        let healed = Healed { action, result, evidence: false, from: None };
        let evidence = Vec::new();
        Self { healed, evidence, replica_used: false, unsynced: false, cramped: false }
    }

    /// Of a cure that is not to be carried out.
    #[must_use]
    pub fn refused(action: &'static str, why: &'static str) -> Self {
        Self::of(action, Err(io::Error::other(why)))
    }
}

/// What the look had found is not there, or is no longer where the path leads.
fn is_lost(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ESTALE))
}

/// Carries out `cure`. `prepare` is called with the directory and name of the replica before
/// the exchange, so that its inode is watched when it takes the path.
pub fn perform(
    cure: Cure,
    patient: &Patient,
    vault: &Vault,
    slot: &std::path::Path,
    prepare: &mut dyn FnMut(&OwnedFd, &OsStr) -> io::Result<()>,
) -> Outcome {
    reach(Point::HealBegun);
    let outcome = match cure {
        Cure::Relock => Outcome::of("relock", repair::relock(patient)),
        Cure::Repair => Outcome::of("repair-metadata", repair::repair(patient)),
        Cure::PutBackParents => renamed_back(parents::put_back(patient)),
        Cure::Unmount => Outcome::of("unmount", parents::uncover(patient).map(|()| None)),
        Cure::Rejoin => rejoin::rejoin(patient, vault, prepare)
            .unwrap_or_else(|e| Outcome::of("rejoin", Err(e))),
        // A directory that still exists somewhere is not made anew beside that.
        Cure::Replace => match parents::put_back_itself(patient) {
            Ok(None) => put_back(patient, vault, slot, prepare),
            found => renamed_back(found),
        },
    };
    reach(Point::HealDone);
    outcome
}

/// What was renamed away has its path again, or was made anew.
fn renamed_back(found: io::Result<Option<PathBuf>>) -> Outcome {
    match found {
        Ok(from) => {
            let mut outcome = Outcome::of("put-back-parent", Ok(None));
            outcome.healed.from = from;
            outcome
        }
        Err(e) => Outcome::of("put-back-parent", Err(e)),
    }
}

/// The known-good copy takes the path: by exchange, or in place where an exchange is wrong.
fn put_back(
    patient: &Patient,
    vault: &Vault,
    slot: &std::path::Path,
    prepare: &mut dyn FnMut(&OwnedFd, &OsStr) -> io::Result<()>,
) -> Outcome {
    if patient.in_place()
        && let Some(outcome) = rewritten(patient, vault, slot)
    {
        return outcome;
    }
    let ready = patient.replica.as_ref().map(Ready::replica);
    let (outcome, staged_now) = match ready.as_ref().and_then(Held::untouched) {
        Some(held) => (exchanged(patient, held, prepare), false),
        None => match stage(&patient.facts, vault, slot, false) {
            Ok(replica) => {
                let held = Held::hold(&replica);
                (held.and_then(|held| exchanged(patient, held, prepare)), true)
            }
            // No room for another copy: what is there can still be written over.
            Err(e) => {
                let failed = || Outcome {
                    cramped: e.is_for_room(),
                    ..Outcome::of("exchange", Err(io::Error::other(e.to_string())))
                };
                return rewritten(patient, vault, slot).unwrap_or_else(failed);
            }
        },
    };
    match outcome {
        Ok(mut outcome) => {
            outcome.unsynced = staged_now;
            outcome
        }
        Err(e) if cannot_exchange(&e) => {
            rewritten(patient, vault, slot).unwrap_or_else(|| Outcome::of("exchange", Err(e)))
        }
        Err(e) => Outcome::of("exchange", Err(e)),
    }
}

/// The filesystem has no exchange, or the replica is not on the same mount.
fn cannot_exchange(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EXDEV | libc::EINVAL | libc::ENOSYS | libc::EBUSY))
}

fn rewritten(patient: &Patient, vault: &Vault, slot: &std::path::Path) -> Option<Outcome> {
    match rewrite::rewrite(patient, vault, slot) {
        Ok(Some((stat, evidence))) => {
            let mut outcome = Outcome::of("rewrite", Ok(stat));
            outcome.healed.evidence = evidence.is_some();
            outcome.evidence = Vec::from_iter(evidence);
            Some(outcome)
        }
        Ok(None) => None,
        // Somebody's lease holds writers off for as long as they like. An exchange needs none.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
        Err(e) => Some(Outcome::of("rewrite", Err(e))),
    }
}

pub(super) fn exchanged(
    patient: &Patient,
    held: Held<'_>,
    prepare: &mut dyn FnMut(&OwnedFd, &OsStr) -> io::Result<()>,
) -> io::Result<Outcome> {
    let replica = held.replica;
    prepare(&held.slot, &held.name)?;
    let mut hands = FileHands { patient, parent: patient.open_parent()?, held };
    let (way, stat) = replace(&mut hands)?;
    let action = match way {
        Way::Exchanged => "exchange",
        Way::Placed => "place",
    };
    let mut outcome = Outcome::of(action, Ok(stat));
    outcome.replica_used = true;
    if way == Way::Exchanged {
        outcome.evidence.push(replica.path.clone());
        outcome.healed.evidence = true;
    }
    Ok(outcome)
}

/// A replica, held by descriptor.
pub(super) struct Held<'a> {
    replica: &'a Replica,
    slot: OwnedFd,
    name: OsString,
    inode: OwnedFd,
}

impl<'a> Held<'a> {
    pub(super) fn hold(replica: &'a Replica) -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let slot = sys::open::open_dir(replica.path.parent().ok_or_else(missing)?)?;
        let name = replica.path.file_name().ok_or_else(missing)?.to_owned();
        let inode = sys::open::open_path_at(slot.as_fd(), &name)?;
        Ok(Self { replica, slot, name, inode })
    }

    /// The replica, if it is as it was staged.
    fn untouched(replica: &'a Replica) -> Option<Self> {
        let held = Self::hold(replica).ok()?;
        let stat = sys::stat::stat_fd(held.inode.as_fd()).ok()?;
        is_as_staged(replica, &stat).then_some(held)
    }
}

/// The real hands: one path, one replica, both held by descriptor.
struct FileHands<'a> {
    patient: &'a Patient,
    parent: OwnedFd,
    held: Held<'a>,
}

impl Hands for FileHands<'_> {
    fn replica_inode(&self) -> u64 {
        self.held.replica.ino
    }

    fn exchange(&mut self) -> io::Result<()> {
        let name = self.patient.name();
        let Held { slot, name: replica, .. } = &self.held;
        sys::rename::exchange(slot.as_fd(), replica, self.parent.as_fd(), name)?;
        reach(Point::HealExchanged);
        Ok(())
    }

    fn place(&mut self) -> io::Result<()> {
        let name = self.patient.name();
        let Held { slot, name: replica, .. } = &self.held;
        sys::rename::place(slot.as_fd(), replica, self.parent.as_fd(), name)?;
        reach(Point::HealPlaced);
        Ok(())
    }

    fn unlock(&mut self) -> io::Result<()> {
        sys::flags::unlock(self.parent.as_fd())?;
        match sys::open::open_path_at(self.parent.as_fd(), self.patient.name()) {
            Ok(fd) => sys::flags::unlock(fd.as_fd())?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        reach(Point::HealUnlocked);
        Ok(())
    }

    fn lock(&mut self) -> io::Result<()> {
        match self.patient.facts.flags {
            Some(flags) if flags & FS_APPEND != 0 => {
                sys::flags::set(self.held.inode.as_fd(), flags)?;
            }
            Some(flags) if flags & FS_IMMUTABLE != 0 => {
                sys::flags::set_immutable(self.held.inode.as_fd(), true)?;
            }
            _ => {}
        }
        reach(Point::HealLocked);
        Ok(())
    }

    fn look(&mut self) -> io::Result<Option<Stat>> {
        self.patient.look_in(&self.parent, self.patient.name())
    }
}
