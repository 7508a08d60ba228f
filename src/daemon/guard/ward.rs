//! A protected path at run time: what a cure needs, and what a look is held against.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::herd::Herd;
use crate::baseline::{Origin, Parent, Record, directory};
use crate::engine::{Protected, Sight};
use crate::judge::{Facts, FileKind, Policy, Seal, Stat};
use crate::respond::{Patient, Ready};
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
    pub slot: Option<Arc<PathBuf>>,
    /// The mount it was last reached through; 0 before the first look.
    pub mount: u64,
    /// A replica is being made.
    pub staging: bool,
    /// The replica that lies ready is watched already.
    pub replica_watched: bool,
    /// No event tells of changes, or not of all.
    pub eventless: bool,
    /// Somebody has had it open for writing since before it was locked.
    pub held: bool,
    /// What nearly all do without.
    special: Option<Box<Special>>,
}

/// What is there only of few files: there may be many.
#[derive(Debug, Default)]
struct Special {
    spared: Option<Instant>,
    incident: Option<String>,
    shortcomings: Vec<String>,
}

impl Ward {
    /// The run-time form of a record.
    #[must_use]
    pub fn new(record: &Record, slot: Option<Arc<PathBuf>>, herd: &mut Herd) -> Self {
        let layers = layers(record, herd.mounts());
        let (facts, replica) = (herd.facts(record), record.replica.as_ref());
        Self {
            patient: Patient {
                path: Arc::clone(&record.path),
                seal: record.seal.map(|seal| Seal::of(seal, &facts)),
                facts,
                replica: replica.map(|replica| Ready::of(replica, slot.as_ref())),
                around: herd.around(record, layers),
                itself: itself(record).map(Box::new),
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
            held: false,
            special: None,
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
        self.falls_short_by(NO_REPLICA)
    }

    /// Why it is protected less well than it should be.
    #[must_use]
    pub fn shortcomings(&self) -> &[String] {
        self.special.as_deref().map_or(&[], |special| &special.shortcomings)
    }

    /// Whether one of the reasons begins so.
    #[must_use]
    pub fn falls_short_by(&self, reason: &str) -> bool {
        self.shortcomings().iter().any(|why| why.starts_with(reason))
    }

    /// It is protected less well than it should be.
    pub fn falls_short(&mut self, why: impl IntoIterator<Item = String>) {
        let mut why = why.into_iter().peekable();
        if why.peek().is_some() {
            self.special.get_or_insert_default().shortcomings.extend(why);
        }
    }

    /// The reason that begins so is none any more; with nothing for a beginning, all of them.
    pub fn no_longer_falls_short_by(&mut self, reason: &str) {
        if let Some(special) = &mut self.special {
            special.shortcomings.retain(|why| !why.starts_with(reason));
        }
        self.keep_little();
    }

    /// Until when its openers are not looked at: there are too many.
    #[must_use]
    pub fn spared(&self) -> Option<Instant> {
        self.special.as_ref()?.spared
    }

    /// Its openers are not looked at until then, or are again.
    pub fn spare(&mut self, until: Option<Instant>) {
        if until.is_some() || self.special.is_some() {
            self.special.get_or_insert_default().spared = until;
        }
        self.keep_little();
    }

    /// The incident that evidence of it belongs to.
    #[must_use]
    pub fn incident(&self) -> Option<&str> {
        self.special.as_ref()?.incident.as_deref()
    }

    /// The incident that evidence of it belongs to is this from now on.
    pub fn set_incident(&mut self, incident: String) {
        self.special.get_or_insert_default().incident = Some(incident);
    }

    fn keep_little(&mut self) {
        self.special.take_if(|special| {
            let Special { spared, incident, shortcomings } = &**special;
            spared.is_none() && incident.is_none() && shortcomings.is_empty()
        });
    }

    /// Whether its slot is where the file was seen last. While its filesystem is away, what is at
    /// the slot's place lies below the mount point.
    #[must_use]
    pub fn slot_is_there(&self) -> bool {
        let itself_a_mount = self.patient.around.mount_point == self.patient.path;
        let above = self.slot.as_deref().and_then(|slot| slot.parent());
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
            path: Arc::clone(&patient.path),
            facts: Facts::clone(&patient.facts),
            policy: self.policy,
            origin: self.origin,
            parents: patient.around.parents.clone(),
            mount_point: Arc::clone(&patient.around.mount_point),
            seal: patient.sealed(),
            replica: patient.replica.as_ref().map(Ready::replica),
            protected_at: self.protected_at,
        }
    }

    /// What the engine has to know.
    #[must_use]
    pub fn protected(&self, whole_at: Timestamp) -> Protected {
        Protected {
            path: Arc::clone(&self.patient.path),
            facts: Arc::clone(&self.patient.facts),
            policy: self.policy,
            seal: self.patient.sealed(),
            whole_at,
            held: self.held,
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
        self.patient.sealed().is_some_and(|seal| seal.ino == stat.ino)
    }

    /// Whether a directory above is not the one that the baseline knows.
    fn parents_moved(&self) -> bool {
        self.patient.around.parents.iter().any(|parent| {
            *parent.path != *self.patient.around.mount_point
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
        let right = self.patient.around.parents.last().is_none_or(|known| known.ino == stat.ino);
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
        let mount_point = &self.patient.around.mount_point;
        let path = &self.patient.path;
        if !table.covering(path, mount_point, self.patient.around.layers).is_empty() {
            return Some(Sight::Covered);
        }
        (table.layers(path, mount_point) < self.patient.around.layers)
            .then(|| Sight::Away { mount_point: mount_point.to_path_buf() })
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
fn layers(record: &Record, mounts: &MountTable) -> usize {
    let right = sys::stat::stat(&record.path).is_ok_and(|stat| stat.ino == record.facts.ino);
    if right { mounts.layers(&record.path, &record.mount_point).max(1) } else { 1 }
}
