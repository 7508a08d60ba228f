//! Guarding many files at once, at the start: where an earlier run left its queue, each is held
//! against the baseline together with what events told of it meanwhile.

use std::collections::HashMap;
use std::time::Instant;

use jiff::Timestamp;

use super::handover;
use crate::baseline::Record;
use crate::daemon::guard::Guard;
use crate::daemon::sensors::Sensors;
use crate::engine::{Input, Past};
use crate::sense::{FileId, Observation};

impl Guard {
    /// Guards all of them.
    pub(super) fn guard_all(&mut self, records: impl Iterator<Item = Record>) {
        if !self.sensors.has_past() {
            for record in records {
                self.guard(record);
            }
            return;
        }
        // What an event means is known once every file is.
        let mut files: Vec<(FileId, Timestamp)> = Vec::with_capacity(records.size_hint().0);
        for record in records {
            let whole_at = self.whole_before(&record);
            files.push((self.take_in(record), whole_at));
        }
        let mut recalled = self.sensors.recall();
        self.lost |= recalled.lost;
        for (file, whole_at) in files {
            let seen = recalled.seen.remove(&file).unwrap_or_default();
            self.begin_with(file, whole_at, Past::Told { complete: recalled.complete, seen });
        }
    }

    /// Has it held against the baseline.
    pub(in crate::daemon) fn begin_with(&mut self, file: FileId, whole_at: Timestamp, past: Past) {
        if let Some(ward) = self.wards.get(&file) {
            let protected = Box::new(ward.protected(whole_at));
            self.feed(Input::Watch { file, protected, past });
        }
    }

    /// When it was last known to be whole, before this run.
    pub(in crate::daemon) fn whole_before(&self, record: &Record) -> Timestamp {
        let beat = self.last_beat.as_ref().map(|beat| beat.whole(&record.path));
        // A clock that was set back makes it worthless.
        let beat = beat.filter(|at| *at <= Timestamp::now());
        beat.map_or(record.protected_at, |at| at.max(record.protected_at))
    }
}

/// What waited for this run.
pub(super) struct Recalled {
    seen: HashMap<FileId, Vec<Observation>>,
    /// There was nothing else: see [`Past::Told`].
    complete: bool,
    /// Events are missing.
    lost: bool,
}

impl Sensors {
    /// Has the service manager keep the groups that it does not keep yet.
    pub(in crate::daemon) fn keep_groups(&mut self) {
        let Ok(sensor) = &self.fanotify else { return };
        handover::keep_events(sensor.fds().skip(self.kept));
        self.kept = sensor.fds().count();
    }

    /// What earlier runs left was taken up, all of it.
    pub(super) fn let_go(&mut self) {
        self.heritage.let_go();
    }

    /// Whether an earlier run left its queue.
    pub(in crate::daemon) fn has_past(&self) -> bool {
        self.fanotify.is_ok() && self.heritage.events.is_there()
    }

    /// What was queued for an earlier run, once every file is watched.
    fn recall(&mut self) -> Recalled {
        let mut events = std::mem::take(&mut self.heritage.events);
        events.read(&self.captures);
        let mut all = Vec::new();
        if let Ok(sensor) = &self.fanotify {
            sensor.recall(&events, Instant::now(), &mut all);
        }
        let mut seen: HashMap<FileId, Vec<Observation>> = HashMap::new();
        for one in all {
            seen.entry(one.file).or_default().push(one);
        }
        let lost = events.has_lost();
        // Of files that only inotify watches nothing was kept.
        let complete = self.heritage.is_settled && !lost && self.inotify.is_none();
        Recalled { seen, complete, lost }
    }
}
