//! One protected path as the engine sees it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::brief::{Mono, Wall};
use super::draft::Bygone;
use super::under_way::UnderWay;
use super::{Action, Moment, Sight};
use crate::attribute::{InodeKey, LATE, SLACK, Window};
use crate::judge::{Facts, FileKind, FileTime, Policy, Seal, Stat, Unexpected, looks_whole};
use crate::record::{Kind, Span};
use crate::sense::FileId;

/// What the engine has to know of a path to guard it.
#[derive(Clone, Debug)]
pub struct Protected {
    /// The path.
    pub path: Arc<Path>,
    /// What is good, with the immutable bit among the flags where it is to be kept.
    pub facts: Arc<Facts>,
    /// What the owner wants.
    pub policy: Policy,
    /// What a look said when it was last known to be whole; `None` to have it read first.
    pub seal: Option<Stat>,
    /// When that was.
    pub whole_at: Timestamp,
    /// Somebody has it open for writing.
    pub held: bool,
}

/// The part of [`Protected`] that stays as it is.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) path: Arc<Path>,
    pub(super) facts: Arc<Facts>,
    pub(super) policy: Policy,
}

/// One protected path and everything that is under way for it: what is under way now is part of
/// it by [`Deref`](std::ops::Deref).
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) protected: Good,
    seal: Option<Seal>,
    /// Who opened it before this moment did no harm through that, as far as is known.
    pub(super) whole_before: Mono,
    pub(super) whole_before_wall: Wall,
    /// The last look that found nothing wrong; what only reading shows may have been.
    pub(super) seen_whole: Option<Mono>,
    /// Somebody was seen writing since its content was last known to be good.
    pub(super) written: bool,
    /// The seal stands for a state whose content nobody has read yet.
    pub(super) unread: bool,
    /// An event, not only a sweep, told that something happens.
    pub(super) told: bool,
    /// Somebody has had it open for writing since before it was guarded.
    pub(super) held: bool,
    /// An action that changes the file is under way.
    pub(super) busy: bool,
    /// Counts how often the content was made good or read and found good: what is found in
    /// one round was not done in one before.
    pub(super) round: u32,
    /// Counts heals, so that a reading begun before one is not believed after it.
    pub(super) epoch: u32,
    /// How often it was asked who did it.
    questions: u32,
    /// `None` while nothing is, as for nearly all.
    pub(super) under_way: Option<Box<UnderWay>>,
}

/// Cures in a row that left open whether they worked, or did not.
const MOST_FRUITLESS: u32 = 8;

impl Guarded {
    pub(super) fn new(protected: Protected, now: Moment) -> Self {
        let Protected { path, facts, policy, seal, whole_at, held } = protected;
        Self {
            seal: seal.map(|seal| Seal::of(seal, &facts)),
            whole_before: now.mono.into(),
            seen_whole: None,
            whole_before_wall: whole_at.into(),
            protected: Good { path, facts, policy },
            written: false,
            unread: false,
            told: false,
            held,
            round: 0,
            busy: false,
            epoch: 0,
            questions: 0,
            under_way: None,
        }
    }

    /// What a look said when it was last known to be whole, or was put right.
    pub(super) fn sealed(&self) -> Option<Stat> {
        self.seal.as_ref().map(|seal| seal.stat(&self.protected.facts))
    }

    /// Holds later looks against this state.
    pub(super) fn set_seal(&mut self, stat: Stat) {
        self.seal = Some(Seal::of(stat, &self.protected.facts));
    }

    /// Whatever is there is to be read first.
    pub(super) fn unseal(&mut self) {
        self.seal = None;
        self.unread = self.is_file();
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.verifying.is_none() && self.is_quiet_but_for_reading()
    }

    /// Whether nothing is under way but that its content may be read.
    pub(super) fn is_quiet_but_for_reading(&self) -> bool {
        !self.busy && self.failing.is_none() && !self.written && !self.unread
    }

    pub(super) fn is_file(&self) -> bool {
        self.protected.facts.kind == FileKind::File
    }

    pub(super) fn child(&self, name: &[u8]) -> PathBuf {
        self.protected.path.join(OsStr::from_bytes(name))
    }

    /// Something is under way, or was found and left.
    pub(super) fn is_doubtful(&self) -> bool {
        let found = self.incident.is_some() || self.tolerated.is_some() || self.is_away();
        found || self.unread || self.verifying.is_some() || !self.is_quiet()
    }

    /// Holds it against another policy from now on. What was found and left may have to be put
    /// right now, and strangers to go.
    pub(super) fn set_policy(&mut self, file: FileId, policy: Policy, out: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.protected.policy, policy);
        if policy.restore && !before.restore && self.tolerated.take().is_some() {
            // What it was found to be has to be worked out again.
            self.unread = self.is_file();
            out.push(Action::Look { file });
        }
        if policy.unexpected != before.unexpected && policy.unexpected == Unexpected::Quarantine {
            self.remember().strangers.clear();
            out.push(Action::Inspect { file });
        }
    }

    /// Something was found out about it, and nothing is under way for the first time.
    pub(super) fn is_compared(&self) -> bool {
        let told = self.failing.is_some() || self.tolerated.is_some() || self.is_away();
        let healed = self.was_healed();
        told || healed || !(self.busy || self.unread || self.verifying.is_some())
    }

    /// A heal is under way, or what was found is not on record yet.
    pub(super) fn is_unfinished(&self) -> bool {
        self.busy || self.incident.as_ref().is_some_and(|incident| incident.is_untold())
    }

    /// When the change happened that a look has just shown.
    pub(super) fn window(&self, now: Moment, seen: &Sight) -> Window {
        if let Some(left) = &self.left {
            // What audit knows is told of the inode that belongs there. Whatever is there instead
            // it has not recorded.
            let (whole, until) = (left.seen.saturating_sub(SLACK), now.file_time());
            return Window { whole, until, ..Window::default() };
        }
        let seal = self.sealed();
        let inode = seal.as_ref().map(InodeKey::of);
        let same = matches!(seen, Sight::Present(stat) if Some(InodeKey::of(stat)) == inode);
        let changed = self.changed(seen).filter(|_| same);
        let (until, sharp) = changed.map_or((now.file_time(), false), |changed| (changed, true));
        let inode = self.seen_whole.and(inode);
        let whole = self.seen_whole.map_or(Duration::ZERO, Mono::get).saturating_sub(SLACK);
        let had_been = |seal: &Stat| looks_whole(&self.protected.facts, seal);
        let own = same && seal.as_ref().is_some_and(had_been);
        let closed = self.protected.facts.keeps_immutable() && !self.held;
        Window { whole, until, sharp, own, closed, inode }
    }

    /// The `ctime` that the last change gave to what was seen; `None` where that is not known.
    /// The kernel changes flags and sets the time afterwards: a look in between shows the change
    /// with the time of the one before.
    pub(super) fn changed(&self, seen: &Sight) -> Option<FileTime> {
        let Sight::Present(stat) = seen else { return None };
        let of = |stat: &Stat| (InodeKey::of(stat), stat.ctime);
        let before = self.sealed().as_ref().map(of);
        (before != Some(of(stat))).then_some(stat.ctime)
    }

    /// The question who did what is drafted, and not asked about yet.
    pub(super) fn ask(&mut self, now: Moment, file: FileId) -> Action {
        self.questions = self.questions.wrapping_add(1);
        let question = self.questions;
        let since = self.whole_before.get();
        let under_way = self.under_way.as_mut();
        let incident = under_way.and_then(|under_way| under_way.incident.as_deref_mut());
        Action::Openers {
            file,
            question,
            inode: incident.as_ref().and_then(|incident| incident.inode),
            since,
            windows: incident.map(|incident| incident.ask(question, now.mono)).unwrap_or_default(),
        }
    }

    /// Between what times what was seen now happened, where it was before this run and events told
    /// of it.
    pub(super) fn bygone(&self, now: Moment, seen: &Sight) -> Option<Bygone> {
        let complete = self.recalled.filter(|_| self.told)?;
        let from = self.whole_before_wall.get();
        let changed = match seen {
            Sight::Present(stat) => {
                let nanoseconds = i32::try_from(stat.ctime.nsec).ok()?;
                Timestamp::new(stat.ctime.sec, nanoseconds).ok()
            }
            _ => None,
        };
        // Times of files are as good as the clock that was set meanwhile.
        let to = changed.filter(|at| (from..=now.wall).contains(at)).unwrap_or(now.wall);
        Some(Bygone { span: Span { from: from.min(to), to }, complete })
    }

    /// A look found it as it was sealed, or as it was told and is left: whoever was seen until now
    /// did no harm, or is told of.
    pub(super) fn found_whole(&mut self, now: Moment) {
        if self.verifying.is_some() || self.written || self.unread {
            return;
        }
        self.owes_nothing();
        if self.tolerated.is_none() {
            self.whole_before_wall = now.wall.into();
            if let Some(under_way) = &mut self.under_way {
                under_way.left = None;
            }
        }
        if let Some(under_way) = &mut self.under_way {
            under_way.recalled = None;
            under_way.renamed = false;
            under_way.fruitless = 0;
            let incident = under_way.incident.as_mut();
            if let Some(incident) = incident.filter(|incident| incident.unproven) {
                incident.unproven = false;
                incident.cured.get_or_insert(Kind::Restored);
            }
        }
        if self.incident.as_ref().is_some_and(|incident| !incident.drafts.is_empty()) {
            self.begin_round(now.mono);
        } else {
            self.forget_the_harmless(now.mono);
            if self.suspects.is_empty() {
                self.whole_before = now.mono.saturating_sub(LATE).into();
            }
        }
        self.calm_down();
    }

    /// What events told until now is dealt with, and no failure is left to tell.
    pub(super) fn owes_nothing(&mut self) {
        self.told = false;
        let Some(under_way) = &mut self.under_way else { return };
        under_way.learned = None;
        under_way.failing = None;
        if let Some(history) = &mut under_way.history {
            history.reported.clear();
        }
    }

    /// Whether a cure was one of too many in a row after which the file was not seen whole: then
    /// it is left for a while.
    pub(super) fn is_fruitless(&mut self, action: &str, stat: Option<&Stat>) -> bool {
        let good = &self.protected.facts;
        let worked = stat.is_some_and(|stat| action == "relock" || looks_whole(good, stat));
        self.fruitless = if worked { 0 } else { self.fruitless + 1 };
        self.fruitless > MOST_FRUITLESS
    }

    /// Whether this is not the inode of the seal. Directories are not told apart by inode.
    pub(super) fn is_another(&self, stat: &Stat) -> bool {
        self.protected.facts.kind != FileKind::Directory
            && self.sealed().is_some_and(|seal| (seal.dev, seal.ino) != (stat.dev, stat.ino))
    }

    /// Holds later looks against this state. Its content is still to be read.
    pub(super) fn seal_unread(&mut self, stat: Stat) {
        self.unread = self.is_file();
        self.set_seal(stat);
    }

    /// Has the content read. A write or a writer seen after this moment leads to another reading.
    pub(super) fn start_verify(&mut self, file: FileId, out: &mut Vec<Action>) {
        if self.verifying == Some(self.epoch) {
            return;
        }
        self.written = false;
        self.unread = false;
        self.verifying = Some(self.epoch);
        out.push(Action::Verify { file, epoch: self.epoch });
    }
}
