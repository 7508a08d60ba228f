//! Who opened what, and when: the oldest goes first.
//!
//! Whoever reads thousands of files a second must not push out who opened one a moment ago, before
//! audit has told what that process did. So there is room for many, and each is found by its
//! process at once: the permission thread writes here while somebody waits.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::InodeKey;
use crate::attribute::Actor;
use crate::judge::FileTime;

/// Opens that are remembered, of all files together: a second's worth of two processes that do
/// nothing else.
const MOST: usize = 16_384;

/// An inode was opened.
#[derive(Clone, Debug)]
pub struct Open {
    pub(super) key: InodeKey,
    /// The inode's when it was opened: whoever saw the one of a change came after it.
    pub ctime: FileTime,
    /// When; the last time, where one process opened it more than once in the same state.
    pub at: Instant,
    /// Who did it.
    pub actor: Arc<Actor>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Opens {
    log: VecDeque<Entry>,
    /// The number of the first in the log; those after it have the next.
    first: u64,
    /// What a process opened, the first first.
    by_process: HashMap<u32, VecDeque<u64>>,
    /// And where it opened an inode last.
    last: HashMap<(u32, InodeKey), u64>,
}

#[derive(Debug)]
struct Entry {
    open: Open,
    /// It was opened once more.
    again: bool,
}

impl Opens {
    /// Keeps one more. Who opened it again in the same state need not stand here twice; who opened
    /// it before a change and after it must.
    pub(super) fn add(&mut self, open: Open) {
        let last = self.last.get(&(open.actor.pid, open.key)).copied();
        if let Some(known) = last.and_then(|number| self.entry(number))
            && known.open.ctime == open.ctime
            && Arc::ptr_eq(&known.open.actor, &open.actor)
        {
            (known.open.at, known.again) = (open.at, true);
            return;
        }
        self.push(open);
        while self.log.len() > MOST {
            self.drop_oldest();
        }
    }

    /// All, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Open> {
        self.log.iter().map(|entry| &entry.open)
    }

    /// Those by whoever had this pid.
    pub(super) fn by(&self, pid: u32) -> impl Iterator<Item = &Open> {
        let numbers = self.by_process.get(&pid).into_iter().flatten();
        numbers.filter_map(|number| Some(&self.log.get(self.place(*number)?)?.open))
    }

    fn push(&mut self, open: Open) {
        let number = self.first + self.log.len() as u64;
        self.by_process.entry(open.actor.pid).or_default().push_back(number);
        self.last.insert((open.actor.pid, open.key), number);
        self.log.push_back(Entry { open, again: false });
    }

    /// One that was opened again since it came is as good as new.
    fn drop_oldest(&mut self) {
        let Some(Entry { open, again }) = self.log.pop_front() else { return };
        let (number, pid) = (self.first, open.actor.pid);
        self.first += 1;
        if let Some(numbers) = self.by_process.get_mut(&pid) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_process.remove(&pid);
            }
        }
        if self.last.get(&(pid, open.key)) == Some(&number) {
            self.last.remove(&(pid, open.key));
        }
        if again {
            self.push(open);
        }
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let place = self.place(number)?;
        self.log.get_mut(place)
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn actor(pid: u32) -> Arc<Actor> {
        Arc::new(Actor { pid, ..Actor::default() })
    }

    fn open(actor: &Arc<Actor>, ino: u64, sec: i64, at: Instant) -> Open {
        let (key, ctime) = (InodeKey { dev: 1, ino }, FileTime { sec, nsec: 0 });
        Open { key, ctime, at, actor: Arc::clone(actor) }
    }

    fn inodes(opens: &Opens, pid: u32) -> Vec<u64> {
        opens.by(pid).map(|open| open.key.ino).collect()
    }

    #[test]
    fn the_same_open_stands_there_once_with_its_last_time_and_one_after_a_change_beside_it() {
        let (mut opens, now, one) = (Opens::default(), Instant::now(), actor(1));
        let later = now + Duration::from_secs(1);
        opens.add(open(&one, 7, 5, now));
        opens.add(open(&one, 7, 5, later));
        assert_eq!(opens.by(1).map(|open| open.at).collect::<Vec<_>>(), [later]);
        opens.add(open(&one, 7, 6, later));
        // The same pid, after another program was executed or as another process.
        opens.add(open(&actor(1), 7, 6, later));
        opens.add(open(&actor(2), 7, 6, later));
        assert_eq!((inodes(&opens, 1), inodes(&opens, 2)), (vec![7, 7, 7], vec![7]));
        assert_eq!(opens.iter().count(), 4);
    }

    #[test]
    fn the_oldest_go_first_and_leave_nothing_behind_but_what_was_opened_again_stays() {
        let (mut opens, now) = (Opens::default(), Instant::now());
        let (reader, writer) = (actor(1), actor(2));
        opens.add(open(&writer, 1, 0, now));
        opens.add(open(&writer, 2, 0, now));
        opens.add(open(&writer, 1, 0, now));
        for ino in 0..MOST as u64 {
            opens.add(open(&reader, ino, 0, now));
        }
        assert_eq!(inodes(&opens, 2), [1], "nobody opened the other again");
        for ino in 0..MOST as u64 {
            opens.add(open(&actor(3), ino, 0, now));
        }
        assert_eq!((inodes(&opens, 1), inodes(&opens, 2)), (vec![], vec![]));
        assert_eq!(opens.iter().count(), MOST);
        assert_eq!((opens.by_process.len(), opens.last.len()), (1, MOST));
    }
}
