//! What audit says was done: system calls with the processes that made them.
//!
//! Memory is bounded, however fast and for however long somebody goes on: the oldest go first,
//! and that something is missing from then on is known.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Actor, InodeKey, Opened};
use crate::judge::FileTime;
use crate::sense::FileId;
use crate::sys::clock;

/// Deeds that are remembered…
const MOST: usize = 32_768;
/// …as long as they and those who did them take less than this, in bytes.
const ROOM: usize = 16 << 20;
/// Of so many deeds before it, the process of one may be another's as well.
const LATELY: usize = 16;
/// What one process did within this time to files that are not known is one deed.
const AT_ONCE: Duration = Duration::from_millis(20);

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
    /// A name of it was taken away.
    Removed,
    /// Its name was given to another.
    Replaced,
    /// It was renamed.
    Moved,
    /// Something was mounted over it, or over a directory above.
    Covered,
    /// Something was made in it, or given a name there.
    Filled,
}

/// An inode, and a file that it is, was or will be. More than one, where it has several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Touched {
    /// Which file. An inode number is used again, for another.
    pub file: FileId,
    /// Which inode.
    pub key: InodeKey,
}

/// A successful system call.
#[derive(Clone, Debug)]
pub struct Deed {
    /// What was done.
    pub act: Act,
    /// The call itself tells to which inode.
    pub told: bool,
    /// To which: all those that the process had opened by then, where the call does not tell.
    pub of: Opened,
    /// Those of them that it had opened only just before.
    pub just: Opened,
    /// And those that a parent of it had opened.
    pub inherited: Opened,
    /// By whom.
    pub actor: Arc<Actor>,
    /// Not before this.
    pub began: FileTime,
    /// The record of it was read then: it was over.
    pub over: Instant,
    /// The same by the clock of file times.
    pub ended: FileTime,
}

/// What is known of deeds. One thread writes, another reads.
#[derive(Debug, Default)]
pub struct Deeds {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    deeds: VecDeque<Arc<Deed>>,
    briefs: VecDeque<Brief>,
    /// What they take all together.
    size: usize,
    /// Up to this moment something may be missing.
    gap: Option<Instant>,
}

/// What is to be known of each without looking at it.
#[derive(Debug)]
struct Brief {
    /// What it takes.
    size: usize,
    /// It was done to this file, and surely to no other.
    only: Option<FileId>,
}

impl Deeds {
    /// Keeps a deed. Whoever changes flags of thousands of files that are none of ours is not to
    /// push everything else out of memory.
    pub fn add(&self, deed: Deed) {
        let mut kept = self.kept();
        if kept.goes_on(&deed) {
            return;
        }
        let size = kept.size_of(&deed);
        let only = deed.told.then(|| deed.of.only()).flatten();
        kept.deeds.push_back(Arc::new(deed));
        kept.briefs.push_back(Brief { size, only });
        kept.size += size;
        while kept.deeds.len() > MOST || kept.size > ROOM {
            let (Some(oldest), Some(brief)) = (kept.deeds.pop_front(), kept.briefs.pop_front())
            else {
                return;
            };
            kept.size -= brief.size;
            kept.gap = kept.gap.max(Some(oldest.over));
        }
    }

    /// Up to `at` deeds may be missing.
    pub fn missing_until(&self, at: Instant) {
        let mut kept = self.kept();
        kept.gap = kept.gap.max(Some(at));
    }

    /// What was over since then and began by `until`, but for what was surely done to other files;
    /// and up to when something may be missing.
    #[must_use]
    pub fn within(
        &self,
        file: FileId,
        since: Instant,
        until: FileTime,
    ) -> (Vec<Arc<Deed>>, Option<Instant>) {
        let kept = self.kept();
        let first = kept.deeds.partition_point(|deed| deed.over < since);
        let all = kept.deeds.range(first..).zip(kept.briefs.range(first..));
        let concern = all.filter(|(_, brief)| brief.only.is_none_or(|only| only == file));
        let late = concern.map(|(deed, _)| deed).filter(|deed| deed.began <= until);
        (late.cloned().collect(), kept.gap)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Deed {
    /// All that is known is that somebody did something of the kind.
    fn is_of_anything(&self) -> bool {
        let none = |list: &Opened| list.is_empty();
        !self.told && [&self.of, &self.just, &self.inherited].into_iter().all(none)
    }
}

impl Kept {
    /// Whether it only goes on with what its process did just before; that is over with it then.
    fn goes_on(&mut self, deed: &Deed) -> bool {
        let from = self.deeds.len().saturating_sub(LATELY);
        let same = |other: &Arc<Deed>| {
            other.act == deed.act
                && other.is_of_anything()
                && other.actor.is_same(&deed.actor)
                && clock::between(other.began, deed.began) < AT_ONCE
        };
        let found = deed.is_of_anything().then(|| self.deeds.range(from..).position(same));
        let Some(at) = found.flatten().map(|at| from + at) else { return false };
        let (Some(before), Some(brief)) = (self.deeds.remove(at), self.briefs.remove(at)) else {
            return false;
        };
        let (over, ended) = (deed.over, deed.ended);
        self.deeds.push_back(Arc::new(Deed { over, ended, ..(*before).clone() }));
        self.briefs.push_back(brief);
        true
    }

    /// What it takes to keep one more.
    fn size_of(&self, deed: &Deed) -> usize {
        let known = |other: &Arc<Deed>| Arc::ptr_eq(&other.actor, &deed.actor);
        let actor = match self.deeds.iter().rev().take(LATELY).any(known) {
            true => 0,
            false => deed.actor.size(),
        };
        let lists = [&deed.of, &deed.just, &deed.inherited].map(Opened::takes);
        size_of::<Deed>() + actor + lists.iter().sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::Shelf;

    fn deed(actor: &Arc<Actor>, of: Opened) -> Deed {
        Deed {
            act: Act::Flags,
            told: false,
            of,
            just: Opened::default(),
            inherited: Opened::default(),
            actor: Arc::clone(actor),
            began: FileTime::default(),
            over: Instant::now(),
            ended: FileTime::default(),
        }
    }

    fn somebody(pid: u32, argument: usize) -> Arc<Actor> {
        Arc::new(Actor { pid, cmdline: vec!["x".repeat(argument)], ..Actor::default() })
    }

    fn all(deeds: &Deeds, began: Instant) -> (usize, bool) {
        let (found, gap) = deeds.within(FileId(1), began, FileTime::default());
        (found.len(), gap.is_none_or(|gap| gap < began))
    }

    #[test]
    fn what_was_done_to_another_file_and_no_other_is_not_looked_at() {
        let deeds = Deeds::default();
        let (began, actor) = (Instant::now(), somebody(1, 0));
        let of = |files: &[u32]| -> Opened {
            let key = InodeKey { dev: 1, ino: 1 };
            files.iter().map(|file| Touched { file: FileId(*file), key }).collect::<Vec<_>>().into()
        };
        deeds.add(Deed { told: true, ..deed(&actor, of(&[2, 2])) });
        assert_eq!(all(&deeds, began), (0, true));
        deeds.add(Deed { told: true, ..deed(&actor, of(&[1, 1])) });
        deeds.add(Deed { told: true, ..deed(&actor, of(&[2, 1])) });
        deeds.add(deed(&actor, of(&[2])));
        assert_eq!(all(&deeds, began), (3, true), "a parent of it may have opened the file");
    }

    #[test]
    fn a_process_that_opened_thousands_of_files_and_goes_on_does_not_fill_the_memory() {
        let (deeds, mut shelf) = (Deeds::default(), Shelf::default());
        let (began, actor) = (Instant::now(), somebody(1, 4096));
        let touched = |n: u32| Touched {
            file: FileId(n % 10_000),
            key: InodeKey { dev: 1, ino: u64::from(n) },
        };
        for last in 50..50 + u32::try_from(MOST).unwrap() {
            let of = shelf.keep((last - 50..last).map(touched).collect());
            deeds.add(deed(&actor, of));
        }
        assert_eq!(all(&deeds, began), (MOST, true), "they share what they have in common");
        let kept = deeds.kept();
        let sizes: usize = kept.briefs.iter().map(|brief| brief.size).sum();
        assert!(kept.size < ROOM && kept.size == sizes);
    }

    #[test]
    fn whoever_changes_flags_of_other_files_all_the_time_pushes_nobody_out() {
        let deeds = Deeds::default();
        let (began, noisy) = (Instant::now(), somebody(7, 0));
        let of: Opened = vec![Touched { file: FileId(1), key: InodeKey { dev: 1, ino: 1 } }].into();
        deeds.add(deed(&somebody(1, 0), of));
        for ms in 0..100_000 {
            let time =
                FileTime { sec: ms / 1000, nsec: u32::try_from(ms % 1000).unwrap() * 1_000_000 };
            // Another finding of the same process.
            let noisy = if ms % 3 == 0 { somebody(7, 0) } else { Arc::clone(&noisy) };
            let over = Instant::now();
            deeds.add(Deed { began: time, over, ended: time, ..deed(&noisy, Opened::default()) });
        }
        let (found, gap) = deeds.within(FileId(1), began, FileTime { sec: 1000, nsec: 0 });
        assert_eq!((found.len(), gap), (1 + 100_000 / 20, None));
        let noise = &found[1];
        assert_eq!((noise.began, { noise.ended.nsec }), (FileTime::default(), 19_000_000));
        assert!(found.is_sorted_by_key(|deed| deed.over));
    }

    #[test]
    fn those_that_have_little_in_common_are_fewer_and_then_it_is_known_that_some_are_missing() {
        let deeds = Deeds::default();
        let began = Instant::now();
        (0..300).for_each(|pid| deeds.add(deed(&somebody(pid, 4096), Opened::default())));
        assert_eq!(all(&deeds, began), (300, true));
        (0..9000).for_each(|pid| deeds.add(deed(&somebody(pid, 4096), Opened::default())));
        let (kept, complete) = all(&deeds, began);
        assert!((1000..9000).contains(&kept) && !complete, "{kept}");
        let size = deeds.kept().size;
        assert!(size <= ROOM && size > ROOM / 2, "{size}");
        let oldest = deeds.kept().deeds.front().map(|deed| deed.over).unwrap();
        assert!(
            all(&deeds, oldest + Duration::from_nanos(1)).1,
            "of what came later all are there"
        );
    }
}
