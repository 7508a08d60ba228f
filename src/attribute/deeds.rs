//! What audit says was done: system calls with the processes that made them.
//!
//! A call that takes a name tells the inode. The two ioctls that change flags do not: any
//! process that changed any flag at that time may have changed these. So a deed without an
//! inode is evidence of a file only by elimination, and that holds only while nothing is
//! missing: [`Testimony::complete`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Actor, InodeKey};
use crate::judge::FileTime;
use crate::record::Kind;

/// Deeds that are remembered.
const MOST: usize = 8192;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Inode flags were set, `+i` among them or not.
    Flags,
    /// It was opened for writing.
    OpenedForWriting,
    /// It was cut or emptied by its name.
    Written,
    /// Owner, mode, times, attributes or the number of names were changed.
    Metadata,
    /// A name of it was taken away, or given to another.
    Removed,
    /// It was renamed.
    Moved,
}

/// A successful system call.
#[derive(Clone, Debug)]
pub struct Deed {
    /// What was done.
    pub act: Act,
    /// To which inode, where the call tells.
    pub inode: Option<InodeKey>,
    /// By whom.
    pub actor: Arc<Actor>,
    /// Not before this.
    pub began: FileTime,
    /// The record of it was read then: it was over.
    pub over: Instant,
}

/// What is known of deeds. One thread writes, another reads.
#[derive(Debug, Default)]
pub struct Deeds {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    deeds: VecDeque<Deed>,
    /// Up to this moment something may be missing.
    gap: Option<Instant>,
}

impl Deeds {
    /// Keeps a deed.
    pub fn add(&self, deed: Deed) {
        let mut kept = self.kept();
        kept.deeds.push_back(deed);
        if kept.deeds.len() > MOST
            && let Some(oldest) = kept.deeds.pop_front()
        {
            kept.gap = kept.gap.max(Some(oldest.over));
        }
    }

    /// Up to `at` deeds may be missing.
    pub fn missing_until(&self, at: Instant) {
        let mut kept = self.kept();
        kept.gap = kept.gap.max(Some(at));
    }

    /// What was over since then, and whether nothing is missing.
    #[must_use]
    pub fn since(&self, since: Instant) -> (Vec<Deed>, bool) {
        let kept = self.kept();
        let late = kept.deeds.iter().filter(|deed| deed.over >= since);
        (late.cloned().collect(), kept.gap.is_none_or(|gap| gap < since))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

/// A deed as it concerns the files that were asked about.
#[derive(Clone, Debug)]
pub struct Witnessed {
    /// What was done.
    pub act: Act,
    /// To which inode, where the call tells.
    pub inode: Option<InodeKey>,
    /// Where it does not: those that the process, or a parent of it, had opened.
    pub opened: Vec<InodeKey>,
    /// By whom.
    pub actor: Arc<Actor>,
    /// Not before this.
    pub began: FileTime,
    /// Not after this, on the engine's clock.
    pub over: Duration,
}

/// The answer of audit to the question what was done in some time.
#[derive(Clone, Debug, Default)]
pub struct Testimony {
    /// Everything that was done to the inodes, or may have been.
    pub deeds: Vec<Witnessed>,
    /// Nothing that was done is missing.
    pub complete: bool,
    /// Processes that had it open and that audit does not record, because they are older than
    /// its first use.
    pub unrecorded: Vec<Arc<Actor>>,
}

/// When a change happened, and to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// It was seen whole then, on the engine's clock.
    pub whole: Duration,
    /// The change was there at this time of the wall clock, which file times follow.
    pub until: FileTime,
    /// The inode that had the path before.
    pub inode: Option<InodeKey>,
}

impl Window {
    /// The time that both windows cover together. `None` where they are of different inodes.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            whole: self.whole.min(other.whole),
            until: self.until.max(other.until),
            inode: self.inode.filter(|inode| Some(*inode) == other.inode),
        }
    }
}

/// Who may have made a change.
#[derive(Debug, Default)]
pub(super) struct Doers<'a> {
    /// Each process once, those whose call tells the inode first.
    pub(super) actors: Vec<&'a Arc<Actor>>,
    /// Nobody else can have done it.
    pub(super) complete: bool,
}

impl Testimony {
    /// Who did in this time what makes a change of this `kind`; `flags` where flags differ.
    pub(super) fn doers(&self, kind: Kind, flags: bool, window: &Window) -> Doers<'_> {
        let able = |deed: &&Witnessed| makes(deed.act, kind, flags) && deed.falls_in(window);
        let of = |deed: &&Witnessed| deed.inode.is_some() && deed.inode == window.inode;
        let near = |deed: &&Witnessed| {
            deed.inode.is_none() && window.inode.is_some_and(|inode| deed.opened.contains(&inode))
        };
        let all = || self.deeds.iter().filter(able);
        let mut actors = distinct(all().filter(of).chain(all().filter(near)));
        if actors.is_empty() {
            // Whoever did it had the descriptor before the watch began, or from somebody else.
            // That is proof only of the one process that did anything of the kind.
            actors = distinct(all().filter(|deed| deed.inode.is_none()));
            if actors.len() > 1 || !self.complete {
                actors.clear();
            }
        }
        let recorded = |actor: &Arc<Actor>| actors.iter().any(|known| known.is_same(actor));
        let complete = self.complete && self.unrecorded.iter().all(recorded);
        Doers { complete: complete && actors.len() == 1, actors }
    }

    /// Who opened it for writing in this time.
    pub(super) fn writers(&self, window: &Window) -> Doers<'_> {
        let wrote = self.deeds.iter().filter(|deed| {
            deed.act == Act::OpenedForWriting
                && deed.inode.is_some()
                && deed.inode == window.inode
                && deed.falls_in(window)
        });
        let actors = distinct(wrote);
        let recorded = |actor: &Arc<Actor>| actors.iter().any(|known| known.is_same(actor));
        let complete = self.complete && self.unrecorded.iter().all(recorded);
        Doers { complete: complete && actors.len() == 1, actors }
    }
}

impl Witnessed {
    fn falls_in(&self, window: &Window) -> bool {
        self.over >= window.whole && self.began <= window.until
    }
}

fn distinct<'a>(deeds: impl Iterator<Item = &'a Witnessed>) -> Vec<&'a Arc<Actor>> {
    let mut out: Vec<&Arc<Actor>> = Vec::new();
    for deed in deeds {
        if !out.iter().any(|known| known.is_same(&deed.actor)) {
            out.push(&deed.actor);
        }
    }
    out
}

fn makes(act: Act, kind: Kind, flags: bool) -> bool {
    match kind {
        Kind::ImmutableCleared => act == Act::Flags,
        Kind::ContentChanged => act == Act::Written,
        Kind::MetadataChanged => act == Act::Metadata || (flags && act == Act::Flags),
        Kind::Deleted | Kind::Replaced => matches!(act, Act::Removed | Act::Moved),
        Kind::Moved => act == Act::Moved,
        _ => false,
    }
}
