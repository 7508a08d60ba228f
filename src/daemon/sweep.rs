//! Looking again with no event: the floor under every sensor.
//!
//! Nothing is held open, so a filesystem can be unmounted at any time. A round over many files
//! is cut into slices, so that an event never waits behind it.

use std::time::Duration;

use jiff::Timestamp;

use super::api::SensorStatus;
use super::failures::Failure;
use super::guard::Guard;
use super::scribe::Note;
use super::workers::Reading;
use crate::baseline::Heartbeat;
use crate::config::FlagSweep;
use crate::engine::{Input, Sight};
use crate::record::{Event, Kind, Severity};
use crate::sense::{By, FileId, Hint, Observation, Sensor};
use crate::sys;

/// How often files are looked at where no better is known…
const FAST: Duration = Duration::from_secs(1);
/// …and where a self-test has shown that events tell of every way to clear the bit.
const SLOW: Duration = Duration::from_secs(30);
/// How often the rest is seen to.
const CHORES: Duration = Duration::from_secs(1);
/// Files looked at before events are served again: about half a millisecond.
const SLICE: usize = 256;
/// Between two slices everybody else has the processor: the guard runs before them.
const PAUSE: Duration = Duration::from_millis(1);
/// Every so many rounds each path is walked anew, so that a directory above that became a
/// symlink to the same place is found too.
const THOROUGH: u32 = 16;
/// How often the mounts of other namespaces are searched for bind-mounted files.
const PINNED_EVERY: Duration = Duration::from_secs(15);
/// How often it is tried to make a copy that could not be made.
const STAGE_EVERY: Duration = Duration::from_secs(10);

/// How often it is remembered that everything is whole.
const BEAT: Duration = Duration::from_secs(5);
/// A heartbeat with more exceptions than this is none.
const MOST_DOUBTFUL: usize = 1000;

/// When to look at what.
pub struct Sweep {
    files: Vec<FileId>,
    cursor: usize,
    round: u32,
    every: Duration,
    /// The owner leaves `every` to us.
    auto: bool,
    content_every: Duration,
    next_round: Duration,
    next_chores: Duration,
    next_content: Duration,
    next_pinned: Duration,
    next_staging: Duration,
    under_way: bool,
    next_slice: Duration,
    last_health: String,
    /// When the round under way began, and the last one that was ended.
    began: Timestamp,
    whole: Option<Timestamp>,
    next_beat: Duration,
}

impl Sweep {
    /// Looks at every file as often as `flags` says, and reads each `content_every`.
    #[must_use]
    pub fn new(flags: FlagSweep, content_every: Duration) -> Self {
        let (every, auto) = pace(flags);
        Self {
            files: Vec::new(),
            cursor: 0,
            round: 0,
            every,
            auto,
            content_every,
            next_round: Duration::ZERO,
            next_chores: Duration::ZERO,
            next_content: content_every,
            next_pinned: Duration::ZERO,
            next_staging: Duration::ZERO,
            under_way: false,
            next_slice: Duration::ZERO,
            last_health: String::new(),
            began: Timestamp::now(),
            whole: None,
            next_beat: Duration::ZERO,
        }
    }

    /// Looks as often as is wanted from `now` on.
    pub(super) fn set(&mut self, flags: FlagSweep, content_every: Duration, now: Duration) {
        let (every, auto) = pace(flags);
        if (auto, every) != (self.auto, self.every) && !(auto && self.auto) {
            (self.every, self.auto) = (every, auto);
            self.next_round = self.next_round.min(now + every);
        }
        if content_every != self.content_every {
            self.content_every = content_every;
            self.next_content = now + content_every;
        }
    }

    pub(super) fn add(&mut self, file: FileId) {
        self.files.push(file);
    }

    pub(super) fn remove(&mut self, file: FileId) {
        self.files.retain(|known| *known != file);
    }

    /// How long there is nothing to do.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        let next = if self.under_way { self.next_slice } else { self.next_round };
        next.min(self.next_chores).saturating_sub(now)
    }

    /// Begins a round at once, or as soon as the one under way is done: were that begun anew at
    /// each loss, a flood of events would keep it from ever coming to an end.
    pub(super) fn everything_now(&mut self) {
        self.next_round = Duration::ZERO;
    }

    /// Looks often again: it is not known what events tell of.
    pub(super) fn hurry(&mut self, now: Duration) {
        if self.auto {
            self.every = FAST;
            self.next_round = self.next_round.min(now + FAST);
        }
    }

    /// Looks seldom where that is `safe`.
    pub(super) fn rest(&mut self, safe: bool) {
        if self.auto {
            self.every = if safe { SLOW } else { FAST };
        }
    }

    pub(super) fn worst_case_ms(&self) -> u64 {
        u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn status(&self) -> SensorStatus {
        SensorStatus {
            name: Sensor::Sweep.name().into(),
            state: "working".into(),
            why: String::new(),
        }
    }
}

fn pace(flags: FlagSweep) -> (Duration, bool) {
    match flags {
        FlagSweep::Auto => (FAST, true),
        FlagSweep::Every(every) => (every, false),
    }
}

impl Guard {
    /// Does a slice of the round that is under way, or begins one that is due.
    pub(super) fn sweep_some(&mut self) {
        let now = self.now().mono;
        if now >= self.sweep.next_chores {
            self.sweep.next_chores = now + CHORES;
            self.do_chores(now);
        }
        match self.sweep.under_way {
            true if now < self.sweep.next_slice => return,
            false if now < self.sweep.next_round => return,
            true => {}
            false => self.begin_round(now),
        }
        let end = (self.sweep.cursor + SLICE).min(self.sweep.files.len());
        let slice: Vec<FileId> =
            self.sweep.files.get(self.sweep.cursor..end).unwrap_or_default().to_vec();
        let seldom = self.sweep.every >= SLOW;
        let thorough = seldom || self.sweep.round.is_multiple_of(THOROUGH);
        for file in slice {
            self.look_again(file, thorough);
        }
        self.sweep.cursor = end;
        self.sweep.next_slice = self.now().mono + PAUSE;
        if end == self.sweep.files.len() {
            self.sweep.under_way = false;
            self.sweep.cursor = 0;
            self.sweep.whole = Some(self.sweep.began);
            self.health.counts.swept(self.sweep.began);
        }
    }

    fn begin_round(&mut self, now: Duration) {
        if now >= self.sweep.next_beat {
            self.sweep.next_beat = now + BEAT;
            self.beat();
            self.publish();
        }
        self.sweep.under_way = true;
        self.sweep.began = Timestamp::now();
        self.sweep.round = self.sweep.round.wrapping_add(1);
        self.sweep.next_round = now + self.sweep.every;
    }

    fn do_chores(&mut self, now: Duration) {
        if now >= self.sweep.next_content {
            self.sweep.next_content = now + self.sweep.content_every;
            self.read_everything();
        }
        if now >= self.sweep.next_pinned {
            self.sweep.next_pinned = now + PINNED_EVERY;
            let files = self
                .wards()
                .filter(|(_, ward)| ward.patient.facts.kind == crate::judge::FileKind::File)
                .map(|(file, ward)| (file, ward.patient.path.clone()));
            self.reader.push(Reading::FindPinned(files.collect()));
        }
        self.sensors.tend();
        if now >= self.sweep.next_staging {
            self.sweep.next_staging = now + STAGE_EVERY;
            self.stage_again();
        }
        self.look_through_patterns(now);
        self.restock_again();
        self.look_at_openers_again();
        self.tell_health();
    }

    /// Remembers beyond the end of this process when everything was last seen whole.
    pub(super) fn beat(&self) {
        let Some(at) = self.sweep.whole else { return };
        let doubtful = self.engine.doubtful().map(std::path::Path::to_owned);
        let except: Vec<_> = doubtful.take(MOST_DOUBTFUL + 1).collect();
        // Where so much is in doubt, what was said before still holds.
        if except.len() <= MOST_DOUBTFUL {
            self.health.counts.heartbeat(at);
            self.scribe.tell(Note::Heartbeat(Heartbeat { at, except }));
        }
    }

    /// One file without an event. The common case is a single `statx`.
    pub(super) fn look_again(&mut self, file: FileId, thorough: bool) {
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
    pub(super) fn see_all_whole(&mut self) {
        for file in self.sweep.files.clone() {
            self.look_again(file, false);
        }
    }

    /// The content sweep: a look cannot see content, so every file is treated as written.
    fn read_everything(&mut self) {
        let files: Vec<FileId> = self.sweep.files.clone();
        for file in files {
            self.observe(Observation {
                at: std::time::Instant::now(),
                sensor: Sensor::Sweep,
                file,
                hint: Hint::Written,
                by: By::Nobody,
                retired: false,
            });
        }
        self.check_copies();
    }

    /// Says on record when a sensor got worse or better.
    fn tell_health(&mut self) {
        let bad: Vec<String> = self
            .sensors
            .status()
            .into_iter()
            .filter(|s| s.state != "working" && s.state != "unused")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_slices_of_a_round_the_others_have_their_turn() {
        let mut sweep = Sweep::new(FlagSweep::Auto, Duration::from_secs(3600));
        let now = Duration::from_secs(100);
        (sweep.next_round, sweep.next_chores) = (now + SLOW, now + CHORES);
        (sweep.under_way, sweep.next_slice) = (true, now + PAUSE);
        assert_eq!(sweep.wait(now), PAUSE);
        assert_eq!(sweep.wait(now + PAUSE), Duration::ZERO);
    }

    #[test]
    fn the_sweep_rests_only_while_it_is_safe_and_the_owner_leaves_it_to_us() {
        let mut auto = Sweep::new(FlagSweep::Auto, Duration::from_secs(3600));
        assert_eq!(auto.worst_case_ms(), 1000);
        auto.rest(true);
        assert_eq!(auto.worst_case_ms(), 30_000);
        let now = Duration::from_secs(100);
        auto.next_round = now + SLOW;
        auto.hurry(now);
        assert_eq!((auto.worst_case_ms(), auto.next_round), (1000, now + FAST));
        auto.rest(false);
        assert_eq!(auto.worst_case_ms(), 1000);

        let mut fixed =
            Sweep::new(FlagSweep::Every(Duration::from_secs(5)), Duration::from_secs(3600));
        fixed.rest(true);
        fixed.hurry(now);
        assert_eq!(fixed.worst_case_ms(), 5000);
    }
}
