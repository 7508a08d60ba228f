//! The processes that are remembered. No I/O: messages and portraits go in, parents come out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::super::Ancestor;
use super::super::procfs::Portrait;
use crate::sys::clock;
use crate::sys::connector::{Event, What};

/// Processes that are remembered.
pub(super) const LIVES: usize = 3500;
/// Bytes for what they run.
pub(super) const ROOM: usize = 512 << 10;
/// How far up the parents are followed.
const ABOVE: usize = 32;
/// The parent of the kernel's own threads, of which nobody asks.
const KTHREADD: u32 = 2;
/// Stands for a name that is not known.
const UNKNOWN: &str = "?";

/// One of those above, and whether it is there still, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Above {
    pub(super) ancestor: Ancestor,
    pub(super) lives: bool,
}

impl Above {
    /// Whether this is the same process, as read from `/proc`.
    pub(super) fn is(&self, read: &Ancestor) -> bool {
        let known = self.ancestor.started != 0 && read.started != 0;
        let same = if known { self.ancestor.is_as_old_as(read.started) } else { self.lives };
        self.ancestor.pid == read.pid && same
    }
}

/// See the module. A process has a number of its own here: the later, the higher.
#[derive(Debug, Default)]
pub(super) struct Table {
    lives: BTreeMap<u64, Life>,
    /// Who has a pid, or had it last.
    latest: HashMap<u32, u64>,
    next: u64,
    /// Those that have ended and have no child here, in that order; some of them live after all.
    leaves: VecDeque<u64>,
    /// Those to be looked at.
    unread: VecDeque<u64>,
    size: usize,
    /// For so many ticks no pid is used again.
    round: u64,
    asleep: u64,
}

#[derive(Debug)]
struct Life {
    pid: u32,
    parent: Option<u64>,
    /// When it was heard of first: how it was made, or that it made another. Nanoseconds.
    seen: u64,
    /// The same in ticks since the boot.
    met: u64,
    /// The message of how it was made was heard.
    told: bool,
    /// The tick of its start, or a later one of the message.
    born: Option<u64>,
    /// The tick.
    ended: Option<u64>,
    children: u32,
    portrait: Option<Arc<Portrait>>,
    unread: bool,
    leaf: bool,
}

impl Table {
    pub(super) fn trust(&mut self, round: Duration) {
        let nanoseconds = u64::try_from(round.as_nanos()).unwrap_or(u64::MAX);
        self.round = clock::tick(nanoseconds.min(1_000_000_000));
    }

    /// `asleep` is how much the clock of the messages is behind that of ticks.
    pub(super) fn hear(&mut self, event: Event, asleep: u64) {
        self.asleep = asleep;
        match event.what {
            What::Forked { parent, child } => self.forked(parent, child, event.at),
            What::Executed { pid } => {
                let Some(id) = self.latest.get(&pid).copied() else { return };
                self.paint(id, None);
                self.revive(id);
                self.is_unread(id);
            }
            What::Ended { pid } => self.ended(pid, event.at),
            What::Other => {}
        }
    }

    pub(super) fn forget(&mut self) {
        *self = Self { next: self.next, round: self.round, ..Self::default() };
    }

    fn tick(&self, at: u64) -> u64 {
        clock::tick(at.saturating_add(self.asleep))
    }

    fn forked(&mut self, parent: u32, child: u32, at: u64) {
        let above = match self.latest.get(&parent).copied() {
            _ if parent == KTHREADD => None,
            Some(id) => self.lives.get(&id).is_some_and(|life| life.seen <= at).then_some(id),
            None => Some(self.insert(parent, None, at, false)),
        };
        if let Some(before) = self.latest.remove(&child) {
            self.is_over(before, self.tick(at));
        }
        if parent == KTHREADD {
            return;
        }
        let id = self.insert(child, above, at, true);
        // It runs what its parent does, until it is told to run something else.
        let portrait = above.and_then(|above| self.lives.get(&above)?.portrait.clone());
        match portrait {
            Some(portrait) => self.paint(id, Some(portrait)),
            None => self.is_unread(id),
        }
        self.make_room();
    }

    fn insert(&mut self, pid: u32, parent: Option<u64>, at: u64, told: bool) -> u64 {
        let (id, met) = (self.next, self.tick(at));
        self.next += 1;
        if let Some(parent) = parent.and_then(|parent| self.lives.get_mut(&parent)) {
            parent.children = parent.children.saturating_add(1);
        }
        let life = Life {
            pid,
            parent,
            seen: at,
            met,
            told,
            born: told.then_some(met),
            ended: None,
            children: 0,
            portrait: None,
            unread: false,
            leaf: false,
        };
        self.lives.insert(id, life);
        self.latest.insert(pid, id);
        if !told {
            self.is_unread(id);
        }
        id
    }

    fn ended(&mut self, pid: u32, at: u64) {
        let id = match self.latest.get(&pid) {
            Some(id) => *id,
            // Whoever has the pid next is not the only one who had it.
            None => {
                let id = self.insert(pid, None, at, false);
                self.lives.entry(id).and_modify(|life| life.unread = false);
                id
            }
        };
        self.is_over(id, self.tick(at));
        self.make_room();
    }

    fn is_over(&mut self, id: u64, tick: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.ended.get_or_insert(tick);
        self.may_be_leaf(id);
    }

    fn revive(&mut self, id: u64) {
        if let Some(life) = self.lives.get_mut(&id) {
            // A thread that runs another program takes the place of the first, which ends.
            life.ended = None;
        }
    }

    fn may_be_leaf(&mut self, id: u64) {
        if let Some(life) = self.lives.get_mut(&id)
            && life.is_leaf()
            && !std::mem::replace(&mut life.leaf, true)
        {
            self.leaves.push_back(id);
        }
    }

    fn is_unread(&mut self, id: u64) {
        if let Some(life) = self.lives.get_mut(&id)
            && !std::mem::replace(&mut life.unread, true)
        {
            self.unread.push_back(id);
            if self.unread.len() > LIVES {
                // Nobody looks. Who asks for it looks himself.
                self.unread.pop_front();
            }
        }
    }

    /// One that is to be looked at, and has to be noted then.
    pub(super) fn unread(&mut self) -> Option<(u64, u32)> {
        while let Some(id) = self.unread.pop_front() {
            if let Some(life) = self.lives.get_mut(&id)
                && std::mem::take(&mut life.unread)
            {
                return Some((id, life.pid));
            }
        }
        None
    }

    /// The same, of those above this one, or itself where its parent is not known otherwise.
    pub(super) fn unread_above(&mut self, id: u64) -> Option<(u64, u32)> {
        let line: Vec<u64> = self.line(id).map(|(id, _)| id).collect();
        line.into_iter().find_map(|above| {
            let life = self.lives.get_mut(&above)?;
            let matters = above != id || !life.told;
            (matters && std::mem::take(&mut life.unread)).then_some((above, life.pid))
        })
    }

    /// What `/proc` had under the pid of this one; the reading began `at` this time.
    pub(super) fn note(&mut self, id: u64, portrait: Portrait, at: u64) {
        let Some(life) = self.lives.get(&id) else { return };
        let start = portrait.start_time;
        let is_it = match life.born {
            Some(born) if life.told => start < born || (start == born && self.round > 1),
            // Made before the first that is known of it.
            _ => start < life.met,
        };
        // It runs something else by now, or somebody else has the pid.
        if !is_it || life.unread || self.latest.get(&life.pid) != Some(&id) {
            return;
        }
        if !life.told && life.born.is_none() {
            let parent = self.elder(portrait.ppid, start, at);
            if let Some(life) = self.lives.get_mut(&id) {
                (life.born, life.parent) = (Some(start), parent);
            }
            if let Some(parent) = parent.and_then(|parent| self.lives.get_mut(&parent)) {
                parent.children = parent.children.saturating_add(1);
            }
        }
        self.paint(id, Some(Arc::new(portrait)));
        self.make_room();
    }

    /// The parent, as `/proc` has it, of one that started then.
    fn elder(&mut self, pid: u32, start: u64, at: u64) -> Option<u64> {
        match self.latest.get(&pid) {
            _ if pid == 0 => None,
            Some(id) => {
                let elder = self.lives.get(id)?;
                let older = elder.seen <= at && elder.born.is_none_or(|born| born <= start);
                older.then_some(*id)
            }
            None => Some(self.insert(pid, None, at, false)),
        }
    }

    fn paint(&mut self, id: u64, portrait: Option<Arc<Portrait>>) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let size = |portrait: &Option<Arc<Portrait>>| portrait.as_ref().map_or(0, |one| one.size());
        // One that two share counts twice: either may be gone first.
        self.size += size(&portrait);
        self.size -= size(&life.portrait);
        life.portrait = portrait;
    }

    fn make_room(&mut self) {
        while self.lives.len() > LIVES || self.size > ROOM {
            let Some(id) = self.leaves.pop_front().or_else(|| self.oldest()) else { return };
            let Some(life) = self.lives.get_mut(&id) else { continue };
            let by_force = !std::mem::take(&mut life.leaf);
            if life.is_leaf() || by_force {
                self.remove(id);
            }
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.lives.keys().next().copied()
    }

    fn remove(&mut self, id: u64) {
        self.paint(id, None);
        let Some(life) = self.lives.remove(&id) else { return };
        if self.latest.get(&life.pid) == Some(&id) {
            self.latest.remove(&life.pid);
        }
        let Some(parent) = life.parent else { return };
        if let Some(life) = self.lives.get_mut(&parent) {
            life.children = life.children.saturating_sub(1);
            self.may_be_leaf(parent);
        }
    }

    /// Who has `/proc` say that it started at this tick.
    pub(super) fn born_at(&self, pid: u32, start: u64) -> Option<u64> {
        let mut had = self.lives.iter().filter(|(_, life)| life.pid == pid);
        let (id, life) = had.find(|(_, life)| life.born.is_some_and(|born| born >= start))?;
        let late = life.born?.saturating_sub(start);
        (late < self.round || (late == 0 && !life.told)).then_some(*id)
    }

    /// Who had the pid from one tick to the other, all that time.
    pub(super) fn at(&self, pid: u32, early: u64, late: u64) -> Option<u64> {
        let then = |(_, life): &(&u64, &Life)| life.pid == pid && life.met <= late;
        let mut had = self.lives.iter().rev().filter(then);
        let (id, life) = had.next()?;
        // Of whoever had it in between nothing may be known any more.
        if self.latest.get(&pid) != Some(id) {
            return None;
        }
        let gone = |life: &Life| life.ended.is_some_and(|ended| ended < early);
        (life.met < early || had.next().is_none_or(|(_, before)| gone(before))).then_some(*id)
    }

    /// The pid and the start of the parent.
    pub(super) fn parent(&self, id: u64) -> Option<(u32, u64)> {
        let parent = self.lives.get(&self.lives.get(&id)?.parent?)?;
        Some((parent.pid, parent.born.unwrap_or(parent.met)))
    }

    /// The parents by birth, the nearest first.
    pub(super) fn above(&self, id: u64) -> Vec<Above> {
        self.line(id).skip(1).map(|(_, life)| life.above()).collect()
    }

    /// This one and those above, as far as they are older.
    fn line(&self, id: u64) -> impl Iterator<Item = (u64, &Life)> {
        let first = self.lives.get(&id).map(|life| (id, life));
        let line = std::iter::successors(first, |(_, life)| {
            let id = life.parent?;
            let above = self.lives.get(&id)?;
            let born = life.born.unwrap_or(life.met);
            above.born.is_none_or(|earlier| earlier <= born).then_some((id, above))
        });
        line.take(ABOVE + 1)
    }

    /// Nothing takes more than it may.
    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self) {
        assert!(self.lives.len() <= LIVES && self.latest.len() <= LIVES);
        assert!(self.leaves.len() <= self.lives.len());
        let sizes = self.lives.values().filter_map(|life| Some(life.portrait.as_ref()?.size()));
        assert_eq!(self.size, sizes.sum::<usize>());
        assert!(self.size <= ROOM);
        for (pid, id) in &self.latest {
            assert_eq!(self.lives[id].pid, *pid);
            assert!(self.above(*id).len() <= ABOVE);
        }
    }
}

impl Life {
    fn is_leaf(&self) -> bool {
        self.ended.is_some() && self.children == 0
    }

    fn above(&self) -> Above {
        let (pid, started) = (self.pid, self.born.unwrap_or(0));
        let unknown = || Ancestor { pid, started, comm: UNKNOWN.to_owned(), ..Ancestor::default() };
        let ancestor = self.portrait.as_ref().map_or_else(unknown, |one| one.of(pid, started));
        Above { ancestor, lives: self.ended.is_none() }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
