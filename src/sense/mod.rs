//! Sensors: what the kernel says, as plain observations.
//!
//! No sensor is trusted to tell everything; each may fail by itself, and says so. An
//! observation is only a reason to look: what is true is read from the file afterwards.

pub mod audit;
mod births;
mod error;
mod fanotify;
mod few;
mod file_map;
mod hot;
mod index;
mod inodes;
mod inotify;
mod mounts;
mod nodes;
mod permission;
mod poll;

use std::sync::Arc;
use std::time::Instant;

pub use audit::AuditSensor;
pub use births::BirthSensor;
pub use error::SenseError;
pub use fanotify::{Bygone, FanotifySensor};
pub use file_map::FileMap;
pub use inotify::InotifySensor;
pub use mounts::{Mount, MountRoots, MountTable, MountsSensor};
pub use permission::{PermissionSensor, stand_in};
pub use poll::{PollSensor, notifies_nobody};

use crate::attribute::{Actor, Source};

/// The engine's number for a protected path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// Which sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sensor {
    /// The fanotify notification group.
    Fanotify,
    /// The fanotify permission group.
    OpenPermission,
    /// Linux audit.
    Audit,
    /// inotify, where fanotify is refused.
    Inotify,
    /// The polling watcher, for filesystems that notify nobody.
    Poll,
    /// The mount table.
    Mounts,
    /// Looking again, without an event.
    Sweep,
}

impl Sensor {
    /// The name in `status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fanotify => "fanotify",
            Self::OpenPermission => "open-permission",
            Self::Audit => "audit",
            Self::Inotify => "inotify",
            Self::Poll => "poll",
            Self::Mounts => "mounts",
            Self::Sweep => "sweep",
        }
    }
}

/// What a sensor believes was done. A reason to look, never a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Somebody opened it.
    Opened,
    /// Somebody closed it without having written.
    Closed,
    /// Content was written.
    Written,
    /// Somebody who could write closed it, and may have written through a mapping.
    WriterClosed,
    /// Metadata changed.
    Metadata,
    /// The name was removed.
    Removed,
    /// The inode is no more. Whoever let go of it last need not have removed anything.
    Gone,
    /// The name or a directory above it was renamed.
    Moved,
    /// The name was given to something: created or renamed to.
    Arrived,
    /// A name came up inside a protected directory: its bytes, without a slash.
    Child(Vec<u8>),
    /// The mount table changed.
    Mounts,
    /// A system call was recorded that may have changed it.
    Recorded,
    /// No event: it is simply time.
    Sweep,
}

/// A process as far as the sensor could tell.
#[derive(Clone, Debug)]
pub enum By {
    /// The event names no process.
    Nobody,
    /// The event names a process that was gone before it could be looked at.
    Gone {
        /// Its pid then.
        pid: u32,
    },
    /// The event names this process.
    Process {
        /// Who.
        actor: Arc<Actor>,
        /// How that is known.
        source: Source,
    },
}

/// One thing that a sensor noticed.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When it was read from the kernel.
    pub at: Instant,
    /// Who noticed.
    pub sensor: Sensor,
    /// What it is about.
    pub file: FileId,
    /// What seems to have been done.
    pub hint: Hint,
    /// By whom, as far as the event itself tells.
    pub by: By,
    /// It happened to an inode that has meanwhile been taken out of the path: it says who,
    /// and calls for no look.
    pub retired: bool,
}

/// How well a sensor works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it should.
    Working,
    /// In part, or for some files.
    Degraded(String),
    /// Not at all.
    Unavailable(String),
}

/// What a watched path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Anything but a protected directory.
    File,
    /// A protected directory: names that come up in it are observed too.
    Directory,
}

/// How a sensor's reading went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ReadOutcome {
    /// The kernel dropped events: everything has to be looked at.
    pub lost: bool,
}
