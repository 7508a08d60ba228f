//! Looking again with no event: the floor under every sensor.
//!
//! Nothing is held open, so a filesystem can be unmounted at any time. A round over many files
//! is cut into slices, so that an event never waits behind it.

mod lanes;

use std::time::Duration;

use jiff::Timestamp;

use super::failures::Failure;
use super::guard::Guard;
use super::scribe::Note;
use super::workers::Reading;
use crate::baseline::Heartbeat;
use crate::engine::{Input, Sight};
use crate::record::{Event, Kind, Severity};
use crate::sense::FileId;
use crate::sys;

pub use lanes::Sweep;

/// How often files are looked at where no better is known…
const FAST: Duration = Duration::from_secs(1);
/// …and where a self-test has shown that events tell of every way to clear the bit.
const SLOW: Duration = Duration::from_secs(30);
/// How often the rest is seen to…
const CHORES: Duration = Duration::from_secs(1);
/// …and where there is nothing to see to, by all that is known. Each time wakes an idle machine.
const CHORES_AT_REST: Duration = Duration::from_secs(5);
/// Files looked at before events are served again: about half a millisecond.
const SLICE: usize = 256;
/// Between two slices everybody else has the processor: the guard runs before them.
const PAUSE: Duration = Duration::from_millis(1);
/// Every so many rounds each path is walked anew, so that a directory above that became a
/// symlink to the same place is found too.
const THOROUGH: u32 = 16;
/// How often the mounts of other namespaces are searched for bind-mounted files.
const PINNED_EVERY: Duration = Duration::from_secs(60);
/// How often it is tried to make a copy that could not be made.
const STAGE_EVERY: Duration = Duration::from_secs(10);

/// How often it is remembered that everything is whole.
const BEAT: Duration = Duration::from_secs(5);
/// A heartbeat with more exceptions than this is none.
const MOST_DOUBTFUL: usize = 1000;

impl Guard {
    /// Does a slice of the round that is under way, or begins one that is due.
    pub(in crate::daemon) fn sweep_some(&mut self) {
        let now = self.now().mono;
        if now >= self.sweep.chores_at() {
            self.sweep.next_chores = now + CHORES_AT_REST;
            self.do_chores(now);
            if self.troubled().next().is_some() || !self.complaints.all_is_well() {
                self.sweep.next_chores = now + CHORES;
            }
        }
        if now >= self.sweep.next_beat {
            self.sweep.next_beat = now + BEAT;
            if self.sweep.whole() > self.sweep.beaten {
                self.sweep.beaten = self.sweep.whole();
                self.beat();
            }
        }
        let Some(lane) = self.sweep.due(now) else { return };
        let thorough = lane.every >= SLOW || lane.round.is_multiple_of(THOROUGH);
        let began = lane.began;
        let (slice, ended) = lane.slice();
        for file in slice {
            self.look_again(file, thorough);
            if thorough {
                self.read_if_held(file);
            }
        }
        self.sweep.next_slice = self.now().mono + PAUSE;
        if ended {
            self.health.counts.swept(began);
        }
    }

    fn do_chores(&mut self, now: Duration) {
        if now >= self.sweep.next_content {
            // Whatever is healed is read in between, so the reader rests as long as it reads.
            let read = now.saturating_sub(self.sweep.began_content);
            let rest = if self.reader.is_idle() { Duration::ZERO } else { read };
            self.sweep.next_content = now + self.sweep.content_every.max(rest);
            if rest.is_zero() {
                self.sweep.began_content = now;
                self.read_everything();
            }
        }
        if now >= self.sweep.next_pinned {
            self.sweep.next_pinned = now + PINNED_EVERY;
            self.reader.push(Reading::FindPinned);
        }
        self.sensors.tend();
        if now >= self.sweep.next_staging {
            self.sweep.next_staging = now + STAGE_EVERY;
            self.stage_again();
        }
        self.look_through_patterns(now);
        self.look_for_own_again();
        self.restock_again();
        self.look_at_openers_again();
        self.look_after_troubled();
        self.tell_health();
        self.complain();
    }

    /// Remembers beyond the end of this process when everything was last seen whole.
    pub(in crate::daemon) fn beat(&self) {
        let Some(at) = self.sweep.whole() else { return };
        let doubtful = self.engine.doubtful().map(|(path, whole)| (path.to_owned(), whole));
        let except: Vec<_> = doubtful.take(MOST_DOUBTFUL + 1).collect();
        // Where so much is in doubt, what was said before still holds.
        if except.len() <= MOST_DOUBTFUL {
            self.health.counts.heartbeat(at);
            self.scribe.tell(Note::Heartbeat(Heartbeat { at, except }));
        }
    }

    /// One file without an event. The common case is a single `statx`.
    pub(in crate::daemon) fn look_again(&mut self, file: FileId, thorough: bool) {
        let Some(ward) = self.ward(file) else { return };
        let quick = if thorough { None } else { sys::stat::stat(&ward.patient.path).ok() };
        let sight = match quick {
            Some(stat) if stat.mount == ward.mount => Sight::Present(stat),
            _ => self.sight(file),
        };
        self.feed(Input::Looked { file, sight });
    }

    /// From now on every sensor has all files: what is seen whole now is the beginning of what
    /// they can prove.
    pub(in crate::daemon) fn see_all_whole(&mut self) {
        for file in self.sweep.files() {
            self.look_again(file, false);
        }
    }

    /// The content sweep: a look cannot see content, so every file is treated as written.
    fn read_everything(&mut self) {
        for file in self.sweep.files() {
            self.read_again(file);
        }
        self.check_copies();
    }

    /// Says on record when a sensor got worse or better.
    fn tell_health(&mut self) {
        let bad: Vec<String> = self
            .sensors
            .status()
            .into_iter()
            .filter(|s| !s.is_well())
            .map(|s| format!("{} is {}: {}", s.name, s.state, s.why))
            .collect();
        let health = bad.join("; ");
        if health == self.sweep.last_health {
            return;
        }
        if health.is_empty() {
            let event = Event::new(Timestamp::now(), Kind::SensorRecovered, Severity::Info);
            let event = event.noting("every sensor works again");
            self.scribe.tell(Note::Event(Box::new(event)));
        } else {
            self.fail(Failure::SensorDegraded, None, health.clone());
        }
        self.publish();
        self.sweep.last_health = health;
        self.doubt_sensors();
    }
}
