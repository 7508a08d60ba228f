//! Which of our files a process had opened when it made a call.
//!
//! That may be two thousand, tens of thousands of such calls are remembered, and one after the
//! other has nearly the same: the oldest fell out and a new one came. So a list is a stretch of a
//! log that it shares with those before it, and takes memory only for what is new.
//!
//! One thread makes them, another looks into them; nobody who must not wait does.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{InodeKey, Touched};
use crate::sense::FileId;

/// A log is closed at this length. Whoever needs a little of it keeps all of it.
const LONGEST: usize = 8192;
/// So many logs are open for more: one for each process that is at it just now.
const OPEN: usize = 8;

/// Inodes, each once for each file that it is. See the module.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    log: Option<Arc<Log>>,
    stretch: Range<usize>,
    /// Entries that were put into the log for it.
    new: usize,
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<Touched>>);

impl Log {
    fn entries(&self) -> MutexGuard<'_, Vec<Touched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list as a stretch of this log that reaches to its end, or did so before.
    fn with(self: &Arc<Self>, list: &[Touched]) -> Option<Opened> {
        let mut entries = self.entries();
        // Each is in a list once: the last is the one that the list can begin with.
        let from = entries.iter().rposition(|entry| Some(entry) == list.first())?;
        let known = list.len().min(entries.len() - from);
        let to = from + list.len();
        let same = entries.get(from..from + known) == list.get(..known);
        if !same || to > LONGEST {
            return None;
        }
        let new = list.get(known..).unwrap_or_default();
        entries.extend_from_slice(new);
        Some(Opened { log: Some(Arc::clone(self)), stretch: from..to, new: new.len() })
    }
}

impl From<Vec<Touched>> for Opened {
    fn from(mut list: Vec<Touched>) -> Self {
        list.shrink_to_fit();
        let (stretch, new) = (0..list.len(), list.len());
        let log = (new > 0).then(|| Arc::new(Log(Mutex::new(list))));
        Self { log, stretch, new }
    }
}

impl Opened {
    /// There is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.stretch.is_empty()
    }

    /// The only file in it, if there is no other.
    pub(super) fn only(&self) -> Option<FileId> {
        let entries = self.log.as_ref()?.entries();
        let mut files = entries.get(self.stretch.clone())?.iter().map(|touched| touched.file);
        let first = files.next()?;
        files.all(|file| file == first).then_some(first)
    }

    /// What it takes of memory that those before it do not.
    pub(super) fn takes(&self) -> usize {
        self.new * size_of::<Touched>()
    }
}

/// The logs that are open. See the module.
#[derive(Debug, Default)]
pub struct Shelf(VecDeque<Arc<Log>>);

impl Shelf {
    /// Keeps a list. What is in it more than once is kept where it is for the last time.
    pub fn keep(&mut self, mut list: Vec<Touched>) -> Opened {
        keep_last(&mut list);
        if list.is_empty() {
            return Opened::default();
        }
        for at in 0..self.0.len() {
            let found = self.0.get(at).and_then(|log| log.with(&list));
            if let Some(opened) = found {
                // Who goes on is soon there again.
                if let Some(log) = self.0.remove(at) {
                    self.0.push_front(log);
                }
                return opened;
            }
        }
        let opened = Opened::from(list);
        self.0.extend(opened.log.clone());
        self.0.rotate_right(1);
        self.0.truncate(OPEN);
        opened
    }
}

fn keep_last(list: &mut Vec<Touched>) {
    let mut seen = std::collections::HashSet::with_capacity(list.len());
    list.reverse();
    list.retain(|touched| seen.insert(*touched));
    list.reverse();
}

/// Looks for one file in many lists, and into each log once.
#[derive(Debug)]
pub struct Search {
    file: FileId,
    /// By the address of the log, which is held: how far it was read, and where the file is in it.
    logs: HashMap<usize, Places>,
}

#[derive(Debug)]
struct Places {
    log: Arc<Log>,
    read: usize,
    of_file: Vec<(usize, InodeKey)>,
}

impl Search {
    /// Nothing was looked into yet.
    #[must_use]
    pub fn of(file: FileId) -> Self {
        Self { file, logs: HashMap::new() }
    }

    /// The inodes in the list that are the file.
    pub fn inodes(&mut self, list: &Opened) -> Vec<InodeKey> {
        let Some(log) = &list.log else { return Vec::new() };
        let new = || Places { log: Arc::clone(log), read: 0, of_file: Vec::new() };
        let places = self.logs.entry(Arc::as_ptr(log).addr()).or_insert_with(new);
        if places.read < list.stretch.end {
            let entries = places.log.entries();
            let unread = entries.iter().enumerate().skip(places.read);
            let of_file = unread.filter(|(_, touched)| touched.file == self.file);
            places.of_file.extend(of_file.map(|(at, touched)| (at, touched.key)));
            places.read = entries.len();
        }
        let from = places.of_file.partition_point(|(at, _)| *at < list.stretch.start);
        let within = places.of_file.iter().skip(from);
        within.take_while(|(at, _)| *at < list.stretch.end).map(|(_, key)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(file: u32) -> Touched {
        Touched { file: FileId(file), key: InodeKey { dev: 1, ino: u64::from(file) + 100 } }
    }

    fn has(list: &Opened, file: u32) -> bool {
        !Search::of(FileId(file)).inodes(list).is_empty()
    }

    /// What a process that opens one file after the other had opened at each.
    fn one_after_the_other(shelf: &mut Shelf, files: u32, most: u32) -> Vec<Opened> {
        let list = |last: u32| (last.saturating_sub(most)..last).map(touched).collect();
        (1..=files).map(|last| shelf.keep(list(last))).collect()
    }

    #[test]
    fn each_list_has_what_was_put_into_it_and_nothing_else() {
        let (files, most) = (20_000, 50);
        let all = one_after_the_other(&mut Shelf::default(), files, most);
        let mut search = Search::of(FileId(9_000));
        for (at, list) in all.iter().enumerate() {
            let within = (9_000..9_000 + most as usize).contains(&at);
            let found = search.inodes(list);
            assert_eq!(found, if within { vec![touched(9_000).key] } else { Vec::new() }, "{at}");
        }
    }

    #[test]
    fn lists_that_differ_by_little_take_little() {
        let mut shelf = Shelf::default();
        let all = one_after_the_other(&mut shelf, 10_000, 100);
        let taken: usize = all.iter().map(Opened::takes).sum();
        assert!(taken < 2 * 10_000 * size_of::<Touched>(), "{taken}");
        assert!(shelf.0.iter().all(|log| log.entries().len() <= LONGEST));
    }

    #[test]
    fn what_is_opened_again_and_again_by_several_at_once_is_there_once() {
        let mut shelf = Shelf::default();
        let mut taken = 0;
        for round in 0..1000_u32 {
            for process in 0..4_u32 {
                let of = |n: u32| touched(process * 10 + (round + n) % 3);
                let list = shelf.keep((0..300).map(of).collect());
                taken += list.takes();
                assert_eq!(list.stretch.len(), 3);
                assert!(has(&list, process * 10) && !has(&list, (process + 1) % 4 * 10));
            }
        }
        assert!(taken <= 4000 * 3 * size_of::<Touched>(), "{taken}");
        assert!(shelf.0.len() <= OPEN);
    }

    #[test]
    fn a_part_of_a_list_takes_nothing_and_another_order_is_another_list() {
        let mut shelf = Shelf::default();
        let all = shelf.keep((0..100).map(touched).collect());
        let last = shelf.keep((90..100).map(touched).collect());
        assert_eq!((all.takes() > 0, last.takes()), (true, 0));
        assert!(has(&last, 95) && !has(&last, 89));
        let other = shelf.keep((0..10).rev().map(touched).collect());
        assert!(other.takes() > 0 && has(&other, 9) && !has(&other, 10));
        assert!(!has(&shelf.keep(Vec::new()), 0));
    }
}
