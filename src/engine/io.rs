//! What goes into the engine and what comes out of it. Plain data.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Protected;
use crate::attribute::{Actor, InodeKey, Testimony, Window};
use crate::judge::{Facts, FileTime, Policy, Stat};
use crate::record::Event;
use crate::sense::{FileId, Observation};

/// A point in time, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since the engine began; never goes back.
    pub mono: Duration,
    /// The wall clock, which may jump.
    pub wall: Timestamp,
}

impl Moment {
    /// The wall clock, as files have it.
    pub(super) fn file_time(&self) -> FileTime {
        let nsec = u32::try_from(self.wall.subsec_nanosecond().max(0)).unwrap_or(0);
        FileTime { sec: self.wall.as_second(), nsec }
    }
}

/// What one look at a path found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Something has the name.
    Present(Stat),
    /// Nothing has the name, and the directories above are the right ones.
    Missing,
    /// A directory above is gone, is another one, or is no directory.
    ParentMissing,
    /// A mount covers the path.
    Covered,
    /// The filesystem that holds the file is not mounted.
    Away {
        /// Where it belongs.
        mount_point: PathBuf,
    },
    /// The look itself failed, for this reason.
    Unreadable(String),
}

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nothing has its path, or had it at that moment.
    Gone,
    /// The reason, for people.
    Refused(String),
}

/// What was read of a file, and what a look said just after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The facts. An inspection that did not read content has no digest.
    pub facts: Facts,
    /// They belong to the file in this state.
    pub stat: Stat,
    /// Somebody has the file open for writing.
    pub writers: bool,
}

/// A process that opened a file.
#[derive(Clone, Debug)]
pub struct Opener {
    /// Which.
    pub actor: Arc<Actor>,
    /// When, on the engine's clock.
    pub at: Duration,
    /// The `ctime` that the file had by then.
    pub found: FileTime,
}

impl Opener {
    /// Each process once, in the same order.
    pub fn distinct<'a>(openers: impl IntoIterator<Item = &'a Self>) -> Vec<Arc<Actor>> {
        let mut once: Vec<Arc<Actor>> = Vec::new();
        for Self { actor, .. } in openers {
            if !once.iter().any(|known| known.is_same(actor)) {
                once.push(Arc::clone(actor));
            }
        }
        once
    }
}

/// How a file is put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cure {
    /// Set the immutable bit.
    Relock,
    /// Set metadata, attributes and flags on the inode that is there.
    Repair,
    /// Put the known-good copy at the path.
    Replace,
    /// Put back the directories above it.
    PutBackParents,
    /// Take away the mount that covers it.
    Unmount,
    /// Give it back the inode that an exchange took out, healed: another mount shows that inode.
    Rejoin,
}

/// How a cure went.
#[derive(Clone, Debug)]
pub struct Healed {
    /// What was done, as the journal names it, or [`MISSED`].
    pub action: &'static str,
    /// What a look said after the last step; `None` where the file has to be looked at again
    /// before anything can be said; or why it failed.
    pub result: Result<Option<Stat>, String>,
    /// What was there before is kept as evidence: an [`Input::Evidence`] follows.
    pub evidence: bool,
    /// What should have the path was found there, and renamed back.
    pub from: Option<PathBuf>,
}

/// Nothing was done: the path no longer was what the look that led to the cure had shown. That
/// is tampering in the middle of a heal, and no failure.
pub const MISSED: &str = "missed";

/// What is known of the time before a file was watched, since it was last known to be whole.
#[derive(Clone, Debug, Default)]
pub enum Past {
    /// Nothing.
    #[default]
    Unknown,
    /// What events told that waited for us.
    Told {
        /// There were no others: the run before had dealt with all that it had read.
        complete: bool,
        /// What they told of this file.
        seen: Vec<Observation>,
    },
}

/// What the engine is told.
#[derive(Debug)]
pub enum Input {
    /// Guard this file from now on.
    Watch {
        /// Its number.
        file: FileId,
        /// What is known of it.
        protected: Box<Protected>,
        /// What is known of the time before.
        past: Past,
    },
    /// Guard it no longer.
    Unwatch {
        /// Its number.
        file: FileId,
    },
    /// What has the path may be another file than before: its filesystem went and came back, or a
    /// person had it put there.
    Anew {
        /// Its number.
        file: FileId,
    },
    /// The owner wants something else for it. The immutable bit is not part of that: it changes
    /// what is good.
    Policy {
        /// Which file.
        file: FileId,
        /// What is wanted now.
        policy: Policy,
    },
    /// A sensor noticed something.
    Observed(Observation),
    /// Who did what was observed already.
    Named(Observation),
    /// A sensor noticed a write to a file that is just being looked at: it counts for that look,
    /// and the observation follows.
    Written {
        /// Which file.
        file: FileId,
    },
    /// The answer to [`Action::Look`].
    Looked {
        /// Which file.
        file: FileId,
        /// What was seen.
        sight: Sight,
    },
    /// The answer to [`Action::Inspect`].
    Inspected {
        /// Which file.
        file: FileId,
        /// What was read, or why it could not be.
        finding: Result<Inspection, Unread>,
    },
    /// The answer to [`Action::Verify`].
    Verified {
        /// Which file.
        file: FileId,
        /// From the action.
        epoch: u32,
        /// What was read, content included, or why it could not be.
        finding: Result<Inspection, Unread>,
    },
    /// The answer to [`Action::Heal`].
    Healed {
        /// Which file.
        file: FileId,
        /// How it went.
        healed: Healed,
    },
    /// What a cure took out of the path was read.
    Evidence {
        /// Which file.
        file: FileId,
        /// The incident that it is part of.
        incident: String,
        /// Its facts, content included; `None` where it is too large or cannot be read.
        facts: Option<Box<Facts>>,
        /// Which inode it is.
        inode: Option<InodeKey>,
    },
    /// What an exchange took out of the path is seen through another mount, and stays so.
    Shown {
        /// Which file.
        file: FileId,
    },
    /// The answer to [`Action::CheckStranger`], when the name exists.
    Stranger {
        /// The protected directory.
        file: FileId,
        /// The name in it.
        name: Vec<u8>,
    },
    /// What came of [`Action::Evict`].
    Evicted {
        /// The protected directory.
        file: FileId,
        /// The name in it.
        name: Vec<u8>,
        /// What was to be taken out is not there any more.
        gone: bool,
    },
    /// The answer to [`Action::Openers`], the latest first.
    Openers {
        /// Which file.
        file: FileId,
        /// Which question of that file.
        question: u32,
        /// Who opened it.
        openers: Vec<Opener>,
        /// What audit says.
        testimony: Testimony,
    },
    /// A deadline has passed.
    Tick,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Action {
    /// `statx` the path.
    Look {
        /// Which file.
        file: FileId,
    },
    /// Read everything but the content, at once.
    Inspect {
        /// Which file.
        file: FileId,
    },
    /// Read everything, in the background.
    Verify {
        /// Which file.
        file: FileId,
        /// To be handed back.
        epoch: u32,
    },
    /// Put it right.
    Heal {
        /// Which file.
        file: FileId,
        /// How.
        cure: Cure,
        /// The incident, for the quarantine.
        incident: String,
        /// Whether what is there now is to be read once it is taken out; it is kept in any case.
        keep_evidence: bool,
    },
    /// Remember that the file is whole in this state, beyond a restart.
    Seal {
        /// Which file.
        file: FileId,
        /// The state.
        stat: Box<Stat>,
    },
    /// Watch what has the path now, which is another inode and stays.
    Watch {
        /// Which file.
        file: FileId,
    },
    /// Does this name exist in the protected directory?
    CheckStranger {
        /// The directory.
        file: FileId,
        /// The name.
        name: Vec<u8>,
    },
    /// Move a stranger to the quarantine.
    Evict {
        /// The directory.
        file: FileId,
        /// The name.
        name: Vec<u8>,
        /// The incident.
        incident: String,
    },
    /// Who opened this file lately?
    Openers {
        /// Which file.
        file: FileId,
        /// Which question of that file, to tell with the answer.
        question: u32,
        /// Device and inode, if known.
        inode: Option<(u64, u64)>,
        /// The last time it was known to be whole.
        since: Duration,
        /// What audit is to tell of: each inode that was changed, since the earliest time.
        windows: Vec<Window>,
    },
    /// Write it to the journal.
    Record(Box<Event>),
    /// Tell a person: everything known of an incident so far.
    Alert {
        /// The incident.
        incident: String,
        /// It may still grow until then.
        not_before: Timestamp,
        /// The events so far.
        events: Vec<Event>,
        /// It can wait, and be told of with others.
        waits: bool,
    },
}
