//! What the guard does for a self-test, step by step: it never waits, and each step is short.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::canary::Room;
use super::{
    EVERY, LONGEST, MOST_ROOMS, News, PAUSE, Pair, Play, RETRIES, Stage, UNNOTICED, UNREADY,
};
use crate::baseline::Record;
use crate::daemon::api::{self, SensorStatus};
use crate::daemon::control::Reply;
use crate::daemon::failures::Failure;
use crate::daemon::guard::Guard;
use crate::daemon::guard::ward::Ward;
use crate::daemon::scribe::{Afterwards, Note};
use crate::engine::{Input, Past};
use crate::record::{Event, Kind, Severity};
use crate::selftest::{
    self, Culprit, Mark, Means, NotPossible, Route, SelfTest, Tampering, Trial, Untested,
};
use crate::sense::FileId;

impl Guard {
    /// Somebody wants a test now; one that is under way answers as well.
    pub(in crate::daemon) fn selftest_asked(&mut self, reply: Reply) {
        reply.gauge.set_paths(Route::ALL.len());
        self.canaries.askers.push(reply);
    }

    /// Does what is due of a self-test.
    pub(in crate::daemon) fn test_some(&mut self) {
        let now = self.now().mono;
        match self.canaries.stage {
            Stage::Idle if now >= self.canaries.next || !self.canaries.askers.is_empty() => {
                self.begin_test(now);
            }
            Stage::Calm(play, since) if now >= since + PAUSE => {
                self.begin_trial(play, now, since);
            }
            Stage::Trying(since) => self.watch_trial(now, since),
            Stage::Closing(since) => self.end_test(now, since),
            _ => {}
        }
    }

    fn begin_test(&mut self, now: Duration) {
        self.sweep.hurry(now);
        let rooms = self.rooms();
        let canaries = &mut self.canaries;
        canaries.stage = Stage::Making;
        canaries.began = now;
        canaries.next = now + EVERY;
        canaries.queue.clear();
        canaries.results.clear();
        canaries.not_possible.clear();
        canaries.untested.clear();
        canaries.retried.clear();
        canaries.tester.make(rooms);
    }

    /// One on the filesystem of the state, and one on each that holds protected files.
    fn rooms(&self) -> Vec<Room> {
        let of_slot = |(_, ward): (FileId, &Ward)| {
            Some((ward.slot.clone()?, (ward.patient.sealed()?.dev, ward.mount)))
        };
        let slots: BTreeMap<_, _> = self.wards().filter_map(of_slot).collect();
        let mut rooms = vec![Room::of_state(&self.canaries.state)];
        for (slot, (dev, mount)) in slots {
            if rooms.len() < MOST_ROOMS && rooms.iter().all(|room| room.dev != dev) {
                rooms.push(Room::of_slot(&slot, dev, mount));
            }
        }
        rooms
    }

    /// The tester has something to tell.
    pub(in crate::daemon) fn test_news(&mut self, news: News) {
        match news {
            News::Made(made) => self.guard_canaries(made),
            News::Tampered(culprit, said) => self.tampered(culprit, said),
            News::Ended if self.canaries.stage == Stage::Ending => self.next_trial(),
            News::Ended => self.canaries.ended = true,
        }
    }

    fn guard_canaries(&mut self, made: Vec<(Room, Result<[Record; 2], String>)>) {
        // Where not even the state has room for them, something is wrong with the daemon.
        if let Some((_, Err(why))) = made.first() {
            return self.hindered(&why.clone());
        }
        for (room, records) in made {
            match records {
                Ok(records) => {
                    let files = records.map(|record| self.guard(record));
                    let pair = self.canaries.pairs.len();
                    self.canaries.pairs.push(Pair { room, files });
                    self.canaries.queue.extend(Route::ALL.map(|route| Play { pair, route }));
                }
                Err(why) => {
                    let filesystem = room.filesystem;
                    self.canaries.untested.push(Untested { filesystem, why });
                }
            }
        }
        let plays = self.canaries.queue.len();
        self.canaries.askers.iter().for_each(|asker| asker.gauge.set_paths(plays));
        self.next_trial();
    }

    fn next_trial(&mut self) {
        let now = self.now().mono;
        match self.canaries.queue.pop_front() {
            Some(play) => self.canaries.stage = Stage::Calm(play, now),
            None => self.canaries.stage = Stage::Closing(now),
        }
    }

    fn canary_of(&self, play: Play) -> Option<FileId> {
        let [locked, plain] = self.canaries.pairs.get(play.pair)?.files;
        Some(if play.route.clears_the_bit() { locked } else { plain })
    }

    /// Begins once the canary is whole and a copy lies ready, as with a file that was left alone.
    fn begin_trial(&mut self, play: Play, now: Duration, since: Duration) {
        let Some(file) = self.canary_of(play) else { return self.next_trial() };
        let Some(ward) = self.ward(file) else { return self.next_trial() };
        let ready = ward.patient.replica.is_some() && self.engine.is_quiet(file);
        if !ready && now < since + UNREADY {
            return;
        }
        let path = ward.patient.path.clone();
        // Nothing of the route before is to be laid on this one, nor its heals counted.
        let protected = Box::new(ward.protected(Timestamp::now()));
        self.feed(Input::Unwatch { file });
        self.feed(Input::Watch { file, protected, past: Past::Unknown });
        self.canaries.ended = false;
        let filesystem = self.filesystem_of(play);
        self.canaries.trial = Some(Trial::new(play.route, filesystem));
        self.canaries.play = Some(play);
        self.canaries.stage = Stage::Trying(now);
        self.canaries.tester.tamper(play.route, path.to_path_buf());
    }

    fn filesystem_of(&self, play: Play) -> String {
        let pair = self.canaries.pairs.get(play.pair);
        pair.map(|pair| pair.room.filesystem.clone()).unwrap_or_default()
    }

    fn tampered(&mut self, culprit: Option<Culprit>, said: Tampering) {
        let now = self.now().mono;
        let (Some(trial), Some(play)) = (self.canaries.trial.as_mut(), self.canaries.play) else {
            return;
        };
        trial.culprit = culprit;
        let (absent, why) = match said {
            Tampering::Done(at) => {
                trial.done_at = Some(Duration::from_nanos(at));
                self.canaries.stage = Stage::Trying(now);
                return;
            }
            Tampering::Failed(why) => {
                trial.undone = Some(why);
                return self.end_trial();
            }
            Tampering::Absent(why) => (true, why),
            Tampering::NotPossible(why) => (false, why),
        };
        let filesystem = self.filesystem_of(play);
        let route = play.route;
        self.canaries.not_possible.push(NotPossible { route, filesystem, absent, why });
        self.canaries.trial = None;
        self.end_trial();
    }

    /// Ends the route when it is over, or when nothing more is to be expected.
    fn watch_trial(&mut self, now: Duration, since: Duration) {
        let Some(trial) = self.canaries.trial.as_mut() else { return };
        if trial.done_at.is_none() {
            return;
        }
        if trial.is_over() || now >= since + LONGEST {
            return self.end_trial();
        }
        if now >= since + UNNOTICED && !trial.is_seen() && !trial.hurried {
            trial.hurried = true;
            if let Some(file) = self.canaries.play.and_then(|play| self.canary_of(play)) {
                self.look_again(file, true);
            }
        }
    }

    /// Keeps what the route showed, and lets the tamperer go. Its end is told.
    fn end_trial(&mut self) {
        let means = self.means();
        let canaries = &mut self.canaries;
        canaries.stage = Stage::Ending;
        canaries.tester.release();
        if let (Some(trial), Some(play)) = (canaries.trial.take(), canaries.play.take()) {
            let result = trial.conclude(means);
            let again = canaries.retried.len() < RETRIES && !canaries.retried.contains(&play);
            if result.result == Mark::Failed && again {
                canaries.retried.push(play);
                canaries.queue.push_front(play);
            } else {
                canaries.results.push(result);
            }
        }
        let done = (canaries.pairs.len() * Route::ALL.len()).saturating_sub(canaries.queue.len());
        canaries.askers.iter().for_each(|asker| asker.gauge.set_done(done));
        if canaries.ended {
            self.next_trial();
        }
    }

    fn means(&self) -> Means {
        let works = |sensor: &SensorStatus| sensor.name == "audit" && sensor.state == "working";
        Means { audit: self.sensors.status().iter().any(works) }
    }

    fn end_test(&mut self, now: Duration, since: Duration) {
        let staging = |file| self.ward(file).is_some_and(|ward| ward.staging);
        if self.canaries.files().any(staging) && now < since + UNREADY {
            return;
        }
        let rooms: Vec<Room> = self.canaries.pairs.iter().map(|pair| pair.room.clone()).collect();
        self.forget_canaries();
        let canaries = &mut self.canaries;
        let took = now.saturating_sub(canaries.began).as_millis();
        let test = SelfTest::new(
            Timestamp::now(),
            std::mem::take(&mut canaries.results),
            std::mem::take(&mut canaries.not_possible),
            std::mem::take(&mut canaries.untested),
            u64::try_from(took).unwrap_or(u64::MAX),
        );
        let news = canaries.memory.learn(&test);
        canaries.last = Some(test.clone());
        let proven = |room: &&Room| selftest::sweep_may_rest(&test, &room.filesystem);
        let proven = rooms.iter().filter(proven).map(|room| room.dev).collect();
        let wards = &self.wards;
        self.sweep.rest(proven, now, |file, proven| {
            let rests =
                |ward: &Ward| ward.patient.sealed().is_some_and(|s| proven.contains(&s.dev));
            wards.get(&file).is_some_and(|ward| ward.may_rest() && rests(ward))
        });
        self.tell_news(news);
        // What only the start and the test needed; the guard itself does not wait for that.
        self.scribe.tell(Note::Then(Afterwards::new(crate::sys::memory::give_back)));
        let selftest = Some(Box::new(test));
        self.answer_askers(&api::Report { selftest, ..api::Report::default() });
    }

    fn hindered(&mut self, why: &str) {
        self.forget_canaries();
        self.canaries.last = None;
        let news = self.canaries.memory.hinder(why);
        self.tell_news(news);
        let undone = Some(why.to_owned());
        self.answer_askers(&api::Report { undone, ..api::Report::default() });
    }

    /// Answers once everything that was told is on the disk: whoever asked may look there next.
    fn answer_askers(&mut self, report: &api::Report) {
        for asker in self.canaries.askers.drain(..) {
            let report = report.clone();
            self.scribe.tell(Note::Then(Afterwards::new(move || asker.send(report))));
        }
    }

    fn forget_canaries(&mut self) {
        let files: Vec<_> = self.canaries.files().collect();
        files.into_iter().for_each(|file| self.forget(file));
        self.canaries.pairs.clear();
        self.canaries.trial = None;
        self.canaries.stage = Stage::Idle;
        self.canaries.tester.clear();
    }

    /// A journal line and a message: a test that fails says that the guard may fail too.
    fn tell_news(&mut self, news: Option<selftest::News>) {
        let now = Timestamp::now();
        let event = match news {
            None => return,
            Some(selftest::News::Worse(why)) => {
                self.health.counts.failure(Failure::SelftestFailed);
                Failure::SelftestFailed.event(why)
            }
            Some(selftest::News::Better(what)) => {
                Some(Event::new(now, Kind::SensorRecovered, Severity::Info).noting(what))
            }
        };
        let Some(event) = event else { return };
        self.alarm("selftest", vec![(event, true)]);
    }

    /// A sensor got worse or better: the sweep takes over until a test has shown what still holds.
    pub(in crate::daemon) fn doubt_sensors(&mut self) {
        let now = self.now().mono;
        if self.canaries.is_idle() {
            self.sweep.hurry(now);
        }
        self.canaries.doubt(now);
    }
}
