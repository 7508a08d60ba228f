//! A protected path at run time: what a cure needs, and what a look is held against.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;

use crate::baseline::{Origin, Parent, Record, directory};
use crate::engine::{Protected, Sight};
use crate::judge::{FileKind, Policy, Stat};
use crate::respond::Patient;
use crate::sense::MountTable;
use crate::sys;

/// How the shortcoming of a file begins for which no replica could be made.
pub(super) const NO_REPLICA: &str = "no copy lies ready for a heal";

/// See the module.
#[derive(Debug)]
pub struct Ward {
    /// What a cure needs.
    pub patient: Patient,
    /// What the owner wants.
    pub policy: Policy,
    /// Why it is protected.
    pub origin: Origin,
    /// Since when.
    pub protected_at: Timestamp,
    /// Where its replicas lie; `None` where none can be kept.
    pub slot: Option<PathBuf>,
    /// The mount it was last reached through; 0 before the first look.
    pub mount: u64,
    /// A replica is being made.
    pub staging: bool,
    /// The replica that lies ready is watched already.
    pub replica_watched: bool,
    /// No event tells of changes, or not of all.
    pub eventless: bool,
    /// Its openers are not looked at until then: there are too many.
    pub spared: Option<Instant>,
    /// Somebody has had it open for writing since before it was locked.
    pub held: bool,
    /// The incident that evidence of it belongs to.
    pub incident: Option<String>,
    /// Why it is protected less well than it should be.
    pub shortcomings: Vec<String>,
}

impl Ward {
    /// The run-time form of a record.
    #[must_use]
    pub fn new(record: &Record, slot: Option<PathBuf>) -> Self {
        Self {
            patient: Patient {
                path: record.path.clone(),
                facts: record.facts.clone(),
                seal: record.seal,
                replica: record.replica.clone(),
                parents: record.parents.clone(),
                itself: itself(record),
                mount_point: record.mount_point.clone(),
                layers: layers(record),
                pinned: false,
                shown: None,
            },
            policy: record.policy,
            origin: record.origin,
            protected_at: record.protected_at,
            slot,
            mount: 0,
            staging: false,
            replica_watched: false,
            eventless: false,
            spared: None,
            held: false,
            incident: None,
            shortcomings: Vec::new(),
        }
    }

    /// Whether events tell so well of it that it need be looked at only seldom. What `status` says
    /// of that is about what somebody wants protected, so our own files do not count.
    #[must_use]
    pub fn may_rest(&self) -> bool {
        !self.eventless && !self.held && self.origin != Origin::Own
    }

    /// A replica could not be made.
    #[must_use]
    pub fn lacks_replica(&self) -> bool {
        self.shortcomings.iter().any(|why| why.starts_with(NO_REPLICA))
    }

    /// Whether its slot is where the file was seen last. While its filesystem is away, what is at
    /// the slot's place lies below the mount point.
    #[must_use]
    pub fn slot_is_there(&self) -> bool {
        let itself_a_mount = self.patient.mount_point == self.patient.path;
        let above = self.slot.as_deref().and_then(Path::parent);
        above.is_some_and(|above| {
            self.mount == 0
                || itself_a_mount
                || sys::stat::stat(above).is_ok_and(|stat| stat.mount == self.mount)
        })
    }

    /// The form in which the baseline keeps it.
    #[must_use]
    pub fn record(&self) -> Record {
        let patient = &self.patient;
        Record {
            path: patient.path.clone(),
            facts: patient.facts.clone(),
            policy: self.policy,
            origin: self.origin,
            parents: patient.parents.clone(),
            mount_point: patient.mount_point.clone(),
            seal: patient.seal,
            replica: patient.replica.clone(),
            protected_at: self.protected_at,
        }
    }

    /// What the engine has to know.
    #[must_use]
    pub fn protected(&self, whole_at: Timestamp) -> Protected {
        Protected {
            path: self.patient.path.clone(),
            facts: self.patient.facts.clone(),
            policy: self.policy,
            seal: self.patient.seal,
            whole_at,
        }
    }

    /// Looks at the path through its real directories, and where it is not as expected finds
    /// out why.
    pub fn look(&self) -> Sight {
        let parent = match self.patient.open_parent() {
            Ok(parent) => parent,
            Err(e) => return self.lost_parent(&e),
        };
        match self.patient.look_in(&parent, self.patient.name()) {
            Ok(Some(stat)) => self.present(stat),
            Ok(None) => self.missing(&parent),
            Err(e) => Sight::Unreadable(format!("it cannot be looked at: {e}")),
        }
    }

    /// Something has the name. If it is not the sealed inode, it may be because the path does
    /// not lead where it led.
    fn present(&self, stat: Stat) -> Sight {
        let on_our_mount = stat.mount == self.mount || self.is_ours(&stat);
        if let Some(elsewhere) = (!on_our_mount).then(|| self.elsewhere()).flatten() {
            return elsewhere;
        }
        match self.is_sealed(&stat) || !self.parents_moved() {
            true => Sight::Present(stat),
            false => Sight::ParentMissing,
        }
    }

    fn is_sealed(&self, stat: &Stat) -> bool {
        self.patient.seal.is_some_and(|seal| seal.ino == stat.ino)
    }

    /// Whether a directory above is not the one that the baseline knows.
    fn parents_moved(&self) -> bool {
        self.patient.parents.iter().any(|parent| {
            parent.path != self.patient.mount_point
                && !sys::stat::stat(&parent.path).is_ok_and(|stat| stat.ino == parent.ino)
        })
    }

    /// At the first look no mount is known; the inode tells as well, and costs less.
    fn is_ours(&self, stat: &Stat) -> bool {
        self.mount == 0 && stat.ino == self.patient.facts.ino
    }

    /// Nothing has the name. Whether the directory is the right one decides what to put back.
    fn missing(&self, parent: &impl AsFd) -> Sight {
        let Ok(stat) = sys::stat::stat_fd(parent.as_fd()) else { return Sight::ParentMissing };
        let right = self.patient.parents.last().is_none_or(|known| known.ino == stat.ino);
        let on_our_mount = stat.mount == self.mount || (self.mount == 0 && right);
        if let Some(elsewhere) = (!on_our_mount).then(|| self.elsewhere()).flatten() {
            return elsewhere;
        }
        if right { Sight::Missing } else { Sight::ParentMissing }
    }

    fn lost_parent(&self, e: &io::Error) -> Sight {
        match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => {
                self.elsewhere().unwrap_or(Sight::ParentMissing)
            }
            _ => Sight::Unreadable(format!("its directory cannot be opened: {e}")),
        }
    }

    /// Whether another mount is where the file's should be.
    fn elsewhere(&self) -> Option<Sight> {
        let table = MountTable::read().ok()?;
        let mount_point = &self.patient.mount_point;
        let path = &self.patient.path;
        if !table.covering(path, mount_point, self.patient.layers).is_empty() {
            return Some(Sight::Covered);
        }
        (table.layers(path, mount_point) < self.patient.layers)
            .then(|| Sight::Away { mount_point: mount_point.clone() })
    }
}

/// What is there now counts only if it is the directory that is meant.
fn itself(record: &Record) -> Option<Parent> {
    let meant = record.seal.map_or(record.facts.ino, |seal| seal.ino);
    let itself = match record.facts.kind {
        FileKind::Directory => directory(&record.path).ok(),
        _ => None,
    };
    itself.filter(|itself| itself.ino == meant)
}

/// The mounts that lie over each other at the file's mount point. What is there now counts only
/// if the file that is seen is the right one.
fn layers(record: &Record) -> usize {
    let right = sys::stat::stat(&record.path).is_ok_and(|stat| stat.ino == record.facts.ino);
    let now = MountTable::read().map_or(1, |table| table.layers(&record.path, &record.mount_point));
    if right { now.max(1) } else { 1 }
}
