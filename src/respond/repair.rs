//! Cures that leave the content alone: the immutable bit, and everything else an inode has.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::Patient;
use super::replica::set_metadata;
use crate::fault::{Point, reach};
use crate::judge::{FileKind, Stat};
use crate::sys;

/// Sets the immutable bit. `None` when another inode has the path by now.
pub(super) fn relock(patient: &Patient) -> io::Result<Option<Stat>> {
    let parent = patient.open_parent()?;
    let stat = sys::stat::stat_at(parent.as_fd(), patient.name())?;
    if !is_the_one(patient, &stat) {
        return Ok(None);
    }
    // By name, which is quicker; the look tells if another inode has got it just then.
    if let Err(refused) = sys::flags::set_immutable_at(parent.as_fd(), patient.name(), true) {
        // A device that was put there just then has no flags.
        let now = sys::stat::stat_at(parent.as_fd(), patient.name())?;
        return if is_the_one(patient, &now) { Err(refused) } else { Ok(None) };
    }
    reach(Point::Relocked);
    patient.look_in(&parent, patient.name())
}

/// Sets owner, mode, attributes, modification time and flags. `None` when another inode has
/// the path by now.
pub(super) fn repair(patient: &Patient) -> io::Result<Option<Stat>> {
    let Some((parent, inode)) = hold(patient)? else { return Ok(None) };
    sys::flags::unlock(inode.as_fd())?;
    reach(Point::RepairUnlocked);
    set_metadata(&patient.facts, inode.as_fd())?;
    reach(Point::RepairDressed);
    if let Some(flags) = patient.facts.flags {
        sys::flags::set(inode.as_fd(), flags)?;
    }
    reach(Point::RepairLocked);
    patient.look_in(&parent, patient.name())
}

/// Opens what has the path, if it is the inode that was sealed.
fn hold(patient: &Patient) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    let parent = patient.open_parent()?;
    let inode = sys::open::open_path_at(parent.as_fd(), patient.name())?;
    let stat = sys::stat::stat_fd(inode.as_fd())?;
    Ok(is_the_one(patient, &stat).then_some((parent, inode)))
}

fn is_the_one(patient: &Patient, stat: &Stat) -> bool {
    let sealed = patient.sealed().is_none_or(|seal| (seal.dev, seal.ino) == (stat.dev, stat.ino));
    sealed || stat.kind == FileKind::Directory
}
