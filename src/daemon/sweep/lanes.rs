//! Which file is looked at when: every second, or seldom where a self-test has shown that events
//! tell of every way to clear the bit. That is a matter of the filesystem.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{FAST, SLICE, SLOW};
use crate::config::FlagSweep;
use crate::daemon::api::SensorStatus;
use crate::sense::{FileId, Sensor};

/// When to look at what.
pub struct Sweep {
    /// Files of which nothing better is known…
    often: Lane,
    /// …and those on a filesystem where events were shown to tell of everything.
    seldom: Lane,
    /// Which of the two is served first.
    turn: bool,
    /// Filesystems where the last self-test showed that.
    proven: HashSet<u64>,
    /// The owner leaves the pace to us.
    auto: bool,
    pub(super) content_every: Duration,
    pub(super) next_chores: Duration,
    pub(super) next_content: Duration,
    /// When the last reading of everything began.
    pub(super) began_content: Duration,
    pub(super) next_pinned: Duration,
    pub(super) next_staging: Duration,
    pub(super) next_slice: Duration,
    pub(super) last_health: String,
    pub(super) next_beat: Duration,
    /// What was remembered last.
    pub(super) beaten: Option<Timestamp>,
}

/// Files that are looked at in one round.
#[derive(Default)]
pub(super) struct Lane {
    files: Vec<FileId>,
    cursor: usize,
    pub(super) round: u32,
    pub(super) every: Duration,
    next_round: Duration,
    under_way: bool,
    /// When the round under way began, and the last one that was ended.
    pub(super) began: Timestamp,
    whole: Option<Timestamp>,
}

impl Lane {
    fn every(every: Duration) -> Self {
        Self { every, ..Self::default() }
    }

    /// How long there is nothing to do.
    fn wait(&self, now: Duration, next_slice: Duration) -> Duration {
        let next = if self.under_way { next_slice } else { self.next_round };
        next.saturating_sub(now)
    }

    /// The next files of the round, and whether it ends with them.
    pub(super) fn slice(&mut self) -> (Vec<FileId>, bool) {
        let end = (self.cursor + SLICE).min(self.files.len());
        let slice = self.files.get(self.cursor..end).unwrap_or_default().to_vec();
        self.cursor = end;
        let ended = end == self.files.len();
        if ended {
            (self.under_way, self.cursor) = (false, 0);
            self.whole = Some(self.began);
        }
        (slice, ended)
    }

    fn begin(&mut self, now: Duration) {
        (self.under_way, self.cursor) = (true, 0);
        self.began = Timestamp::now();
        self.round = self.round.wrapping_add(1);
        self.next_round = now + self.every;
    }

    /// A file that goes is not to have another one passed over.
    fn remove(&mut self, file: FileId) {
        let Some(at) = self.files.iter().position(|known| *known == file) else { return };
        self.files.remove(at);
        self.cursor -= usize::from(at < self.cursor);
    }
}

impl Sweep {
    /// Looks at every file as often as `flags` says, and reads each `content_every`.
    #[must_use]
    pub fn new(flags: FlagSweep, content_every: Duration) -> Self {
        let (every, auto) = pace(flags);
        Self {
            often: Lane::every(every),
            seldom: Lane::every(SLOW),
            turn: false,
            proven: HashSet::new(),
            auto,
            content_every,
            next_chores: Duration::ZERO,
            next_content: content_every,
            began_content: Duration::ZERO,
            next_pinned: Duration::ZERO,
            next_staging: Duration::ZERO,
            next_slice: Duration::ZERO,
            last_health: String::new(),
            next_beat: Duration::ZERO,
            beaten: None,
        }
    }

    /// Looks as often as is wanted from `now` on.
    pub(in crate::daemon) fn set(
        &mut self,
        flags: FlagSweep,
        content_every: Duration,
        now: Duration,
    ) {
        let (every, auto) = pace(flags);
        if (auto, every) != (self.auto, self.often.every) {
            (self.often.every, self.auto) = (every, auto);
            self.often.next_round = self.often.next_round.min(now + every);
            if !auto {
                self.all_often();
            }
        }
        if content_every != self.content_every {
            self.content_every = content_every;
            self.next_content = now + content_every;
        }
    }

    /// Looks at one more file, which is on this filesystem; `told` says whether events tell of it.
    pub(in crate::daemon) fn add(&mut self, file: FileId, filesystem: Option<u64>, told: bool) {
        let proven = filesystem.is_some_and(|dev| self.proven.contains(&dev));
        let lane = if proven && told { &mut self.seldom } else { &mut self.often };
        lane.files.push(file);
    }

    pub(in crate::daemon) fn remove(&mut self, file: FileId) {
        self.often.remove(file);
        self.seldom.remove(file);
    }

    /// The one under way, or the one that is due.
    pub(super) fn due(&mut self, now: Duration) -> Option<&mut Lane> {
        self.turn = !self.turn;
        let idle = self.often.files.is_empty() && !self.seldom.files.is_empty();
        let mut both = [(&mut self.often, !idle), (&mut self.seldom, true)];
        if self.turn {
            both.reverse();
        }
        let slices = now >= self.next_slice;
        let due = |lane: &Lane| if lane.under_way { slices } else { now >= lane.next_round };
        let lane = both.into_iter().find(|(lane, used)| *used && due(lane))?.0;
        if !lane.under_way {
            lane.begin(now);
        }
        Some(lane)
    }

    /// How long there is nothing to do.
    pub(in crate::daemon) fn wait(&self, now: Duration) -> Duration {
        let wait = |lane: &Lane| lane.wait(now, self.next_slice);
        let seldom = if self.seldom.files.is_empty() { Duration::MAX } else { wait(&self.seldom) };
        let idle = self.often.files.is_empty() && !self.seldom.files.is_empty();
        let often = if idle { Duration::MAX } else { wait(&self.often) };
        self.chores_at().saturating_sub(now).min(often).min(seldom)
    }

    /// Begins a round at once, or as soon as the one under way is done: were that begun anew at
    /// each loss, a flood of events would keep it from ever coming to an end.
    pub(in crate::daemon) fn everything_now(&mut self) {
        self.often.next_round = Duration::ZERO;
        self.seldom.next_round = Duration::ZERO;
    }

    /// When what is seen to now and then is seen to next.
    pub(super) fn chores_at(&self) -> Duration {
        self.next_chores.min(self.next_content)
    }

    /// What is seen to now and then is seen to by then.
    pub(in crate::daemon) fn chores_by(&mut self, time: Duration) {
        self.next_chores = self.next_chores.min(time);
    }

    /// Looks often again: it is not known what events tell of.
    pub(in crate::daemon) fn hurry(&mut self, now: Duration) {
        self.proven.clear();
        self.all_often();
        if self.auto {
            self.often.next_round = self.often.next_round.min(now + FAST);
        }
    }

    fn all_often(&mut self) {
        self.often.files.append(&mut self.seldom.files);
        (self.seldom.under_way, self.seldom.cursor) = (false, 0);
        self.often.whole = self.often.whole.min(self.seldom.whole.or(self.often.whole));
    }

    /// Looks seldom at what `may_rest`, on these filesystems and those that are added there.
    pub(in crate::daemon) fn rest(
        &mut self,
        proven: HashSet<u64>,
        now: Duration,
        may_rest: impl Fn(FileId, &HashSet<u64>) -> bool,
    ) {
        if !self.auto {
            return;
        }
        let whole = self.whole();
        let all = std::mem::take(&mut self.often.files)
            .into_iter()
            .chain(std::mem::take(&mut self.seldom.files));
        let (seldom, often) = all.partition(|file| may_rest(*file, &proven));
        self.proven = proven;
        (self.often.files, self.seldom.files) = (often, seldom);
        for lane in [&mut self.often, &mut self.seldom] {
            (lane.under_way, lane.cursor, lane.whole) = (false, 0, whole);
            lane.next_round = now + lane.every;
        }
    }

    /// Every file.
    pub(super) fn files(&self) -> Vec<FileId> {
        self.often.files.iter().chain(&self.seldom.files).copied().collect()
    }

    /// Every file was looked at after this moment, in no round.
    pub(in crate::daemon) fn compared(&mut self, since: Timestamp) {
        for lane in [&mut self.often, &mut self.seldom] {
            lane.whole.get_or_insert(since);
        }
    }

    /// When everything had been looked at.
    pub(super) fn whole(&self) -> Option<Timestamp> {
        match (self.often.files.is_empty(), self.seldom.files.is_empty()) {
            (_, true) => self.often.whole,
            (true, false) => self.seldom.whole,
            (false, false) => self.often.whole.min(self.seldom.whole),
        }
    }

    pub(in crate::daemon) fn worst_case_ms(&self) -> u64 {
        let slowest = if self.seldom.files.is_empty() { &self.often } else { &self.seldom };
        u64::try_from(slowest.every.as_millis()).unwrap_or(u64::MAX)
    }

    pub(in crate::daemon) fn status(&self) -> SensorStatus {
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

#[cfg(test)]
mod tests {
    use super::super::{CHORES, PAUSE};
    use super::*;

    fn sweep(flags: FlagSweep) -> Sweep {
        Sweep::new(flags, Duration::from_secs(3600))
    }

    #[test]
    fn between_two_slices_of_a_round_the_others_have_their_turn() {
        let mut sweep = sweep(FlagSweep::Auto);
        let now = Duration::from_secs(100);
        (sweep.often.next_round, sweep.next_chores) = (now + SLOW, now + CHORES);
        (sweep.often.under_way, sweep.next_slice) = (true, now + PAUSE);
        assert_eq!(sweep.wait(now), PAUSE);
        assert_eq!(sweep.wait(now + PAUSE), Duration::ZERO);
    }

    #[test]
    fn the_sweep_rests_only_where_it_is_proven_safe_and_the_owner_leaves_it_to_us() {
        let now = Duration::from_secs(100);
        let (safe, unsafe_, later) = (FileId(1), FileId(2), FileId(3));
        let mut auto = sweep(FlagSweep::Auto);
        auto.add(safe, Some(7), true);
        auto.add(unsafe_, Some(8), true);
        assert_eq!(auto.worst_case_ms(), 1000);
        auto.rest(HashSet::from([7]), now, |file, _| file == safe);
        assert_eq!((&auto.often.files, &auto.seldom.files), (&vec![unsafe_], &vec![safe]));
        assert_eq!(auto.worst_case_ms(), 30_000);
        auto.add(later, Some(7), true);
        auto.add(FileId(4), Some(7), false);
        auto.add(FileId(5), Some(8), true);
        assert_eq!(auto.seldom.files, [safe, later]);
        auto.hurry(now);
        assert_eq!((auto.worst_case_ms(), auto.often.files.len()), (1000, 5));
        assert!(auto.seldom.files.is_empty());
        assert_eq!(auto.often.next_round, now + FAST);

        let mut fixed = sweep(FlagSweep::Every(Duration::from_secs(5)));
        fixed.add(safe, Some(7), true);
        fixed.rest(HashSet::from([7]), now, |_, _| true);
        fixed.hurry(now);
        assert_eq!((fixed.worst_case_ms(), fixed.seldom.files.len()), (5000, 0));
    }

    #[test]
    fn each_file_has_its_round_and_none_is_passed_over_when_another_goes() {
        let now = Duration::from_secs(100);
        let mut sweep = sweep(FlagSweep::Auto);
        let seldom: Vec<_> = (0..3).map(FileId).collect();
        seldom.iter().for_each(|file| sweep.add(*file, Some(7), true));
        sweep.add(FileId(9), None, true);
        sweep.rest(HashSet::from([7]), now, |file, _| file != FileId(9));
        assert_eq!(sweep.whole(), None);
        let mut seen = Vec::new();
        for second in 1..=60 {
            while let Some(lane) = sweep.due(now + FAST * second) {
                seen.extend(lane.slice().0);
            }
        }
        let times = |file| seen.iter().filter(|one| **one == file).count();
        assert_eq!([FileId(9), FileId(0), FileId(2)].map(times), [60, 2, 2]);
        // The other lane goes on meanwhile.
        let lane = sweep.due(now + FAST * 61).unwrap();
        assert_eq!(lane.slice().0, [FileId(9)]);
        assert!(sweep.seldom.whole.is_some() && sweep.whole() == sweep.seldom.whole);

        sweep.seldom.cursor = 2;
        sweep.remove(FileId(0));
        assert_eq!((sweep.seldom.cursor, &sweep.seldom.files), (1, &seldom[1..].to_vec()));
    }
}
