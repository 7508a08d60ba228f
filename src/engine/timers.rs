//! Deadlines of files, on the monotonic clock.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::sense::FileId;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// Look again after somebody opened the file: what is done through the descriptor later
    /// may give no event.
    Relook,
    /// Try to heal again.
    Retry,
    /// The events that tell who did it have had their time to come in.
    Finalize,
    /// Nothing more has happened: close the incident.
    Settle,
}

/// After an open, look again this long after each other: the time a short-lived process takes
/// from open to close, at widening distances.
const RELOOK: [Duration; 5] = [
    Duration::from_micros(200),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
];

/// Deadlines; one of each kind a file.
#[derive(Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Duration, FileId, Timer)>,
    due: HashMap<(FileId, Timer), Duration>,
    relooks: HashMap<FileId, usize>,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(at, ..)| *at)
    }

    /// Sets the timer, in place of an earlier setting.
    pub(super) fn set(&mut self, file: FileId, timer: Timer, at: Duration) {
        if let Some(old) = self.due.insert((file, timer), at) {
            self.queue.remove(&(old, file, timer));
        }
        self.queue.insert((at, file, timer));
    }

    /// Sets the timer unless it is set.
    pub(super) fn set_once(&mut self, file: FileId, timer: Timer, at: Duration) {
        if !self.due.contains_key(&(file, timer)) {
            self.set(file, timer, at);
        }
    }

    pub(super) fn cancel(&mut self, file: FileId, timer: Timer) {
        if let Some(at) = self.due.remove(&(file, timer)) {
            self.queue.remove(&(at, file, timer));
        }
    }

    /// Begins a series of looks, unless one is under way.
    pub(super) fn arm_relook(&mut self, file: FileId, now: Duration) {
        if self.relooks.insert(file, 0).is_none() {
            self.set(file, Timer::Relook, now + RELOOK[0]);
        }
    }

    pub(super) fn forget(&mut self, file: FileId) {
        for timer in [Timer::Relook, Timer::Retry, Timer::Finalize, Timer::Settle] {
            self.cancel(file, timer);
        }
        self.relooks.remove(&file);
    }

    pub(super) fn pop_due(&mut self, now: Duration) -> Option<(FileId, Timer)> {
        let (at, file, timer) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.cancel(file, timer);
        if timer == Timer::Relook {
            self.advance_relook(file, now);
        }
        Some((file, timer))
    }

    fn advance_relook(&mut self, file: FileId, now: Duration) {
        let stage = self.relooks.get(&file).map_or(RELOOK.len(), |stage| stage + 1);
        match RELOOK.get(stage) {
            Some(wait) => {
                self.relooks.insert(file, stage);
                self.set(file, Timer::Relook, now + *wait);
            }
            None => {
                self.relooks.remove(&file);
            }
        }
    }
}
