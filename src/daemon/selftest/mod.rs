//! The self-test at work: canaries are made and guarded like any file, a process tampers with them
//! by one route after the other, and what comes of it goes to the test instead of the journal.
//!
//! It is a guest on the guard's thread: it never waits there, and at most one test is under way.
//! What the test tells apart is in [`crate::selftest`]; here is when to do what.

mod canary;
mod tamper;
mod tester;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::api::{self, SensorStatus};
use super::control::Reply;
use super::guard::Guard;
use super::scribe::Note;
use super::wake::Mailer;
use super::workers::Report;
use crate::alert::Item;
use crate::baseline::{Record, Vault};
use crate::engine::Input;
use crate::record::{Event, Kind, PathText, Severity};
use crate::selftest::{
    self, Culprit, Mark, Means, Memory, NotPossible, Noticed, Route, RouteResult, SelfTest,
    Tampering, Trial,
};
use crate::sense::{FileId, Observation, Sensor};

pub use tamper::tamper;
pub use tester::News;

use tester::Tester;

/// The first test begins this long after the guard is on duty, when the start is over…
const FIRST: Duration = Duration::from_secs(5);
/// …and one follows the other after this time.
const EVERY: Duration = Duration::from_hours(1);
/// After a sensor got worse or better.
const SOON: Duration = Duration::from_secs(1);
/// What was not noticed after this time is looked at, in place of a sweep that comes later…
const UNNOTICED: Duration = Duration::from_millis(2500);
/// …and what is not whole after this time is given up.
const LONGEST: Duration = Duration::from_secs(4);
/// Between two routes, for what the one before still has to tell…
const PAUSE: Duration = Duration::from_millis(60);
/// …and at most this long, for a copy to lie ready.
const UNREADY: Duration = Duration::from_secs(1);
/// Routes that are tried again in one test. Where more fail, it is not the load.
const RETRIES: usize = 3;

/// See the module.
pub(super) struct Canaries {
    tester: Tester,
    state: PathBuf,
    stage: Stage,
    /// The locked one and the plain one, while there are any.
    files: Option<[FileId; 2]>,
    trial: Option<Trial>,
    /// The tamperer of the trial is gone.
    ended: bool,
    queue: VecDeque<Route>,
    results: Vec<RouteResult>,
    not_possible: Vec<NotPossible>,
    /// Failed once in this test: a machine under load deserves a second try.
    retried: Vec<Route>,
    askers: Vec<Reply>,
    began: Duration,
    next: Duration,
    memory: Memory,
    last: Option<SelfTest>,
}

/// What is waited for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The next test.
    Idle,
    /// The canaries.
    Making,
    /// The canary to be whole, and quiet, for the next route.
    Calm(Route, Duration),
    /// The deed, and what comes of it.
    Trying(Duration),
    /// The end of the tamperer.
    Ending,
    /// The last copy, so that it can be taken away with the rest.
    Closing(Duration),
}

impl Canaries {
    /// Nothing is made or tampered with yet.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(
        state: &Path,
        vault: Arc<Vault>,
        reports: Mailer<Report>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            tester: Tester::start(state.to_owned(), vault, reports)?,
            state: state.to_owned(),
            stage: Stage::Idle,
            files: None,
            trial: None,
            ended: false,
            queue: VecDeque::new(),
            results: Vec::new(),
            not_possible: Vec::new(),
            retried: Vec::new(),
            askers: Vec::new(),
            began: Duration::ZERO,
            next: FIRST,
            memory: Memory::default(),
            last: None,
        })
    }

    /// Whether this is a canary and no file of anybody's.
    pub(super) fn has(&self, file: FileId) -> bool {
        self.files.is_some_and(|files| files.contains(&file))
    }

    /// The canaries, while there are any.
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> {
        self.files.into_iter().flatten()
    }

    /// Whether `path` is where the canaries are.
    pub(super) fn is_theirs(&self, path: &Path) -> bool {
        path.starts_with(canary::room(&self.state))
    }

    /// Where the replicas of a canary lie.
    pub(super) fn slot(path: &Path) -> Option<PathBuf> {
        canary::slot(path)
    }

    /// Keeps what tells of a canary, and gives back everything else.
    pub(super) fn sift(&mut self, event: Box<Event>) -> Option<Box<Event>> {
        let theirs = |path: &PathText| self.is_theirs(&path.to_path());
        if self.files.is_none() || !event.path.as_ref().is_some_and(theirs) {
            return Some(event);
        }
        if let Some(trial) = self.trial.as_mut() {
            trial.record(*event);
        }
        None
    }

    /// A sensor told of something.
    pub(super) fn notice(&mut self, seen: &Observation) {
        let told = !seen.retired && !matches!(seen.sensor, Sensor::Sweep | Sensor::Mounts);
        if told
            && self.has(seen.file)
            && let Some(trial) = self.trial.as_mut()
        {
            trial.notice(Noticed { sensor: seen.sensor, at: clock() });
        }
    }

    /// A cure ended well.
    pub(super) fn healed(&mut self, file: FileId) {
        if self.has(file)
            && let Some(trial) = self.trial.as_mut()
        {
            trial.healed_at = Some(clock());
        }
    }

    /// How long there is nothing to do.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        let until = match self.stage {
            Stage::Idle if self.askers.is_empty() => self.next,
            Stage::Idle => now,
            Stage::Calm(..) | Stage::Closing(_) => now + PAUSE / 4,
            // What comes of it wakes the guard by itself, but for the end of patience.
            Stage::Trying(_) => now + PAUSE,
            Stage::Making | Stage::Ending => now + LONGEST,
        };
        until.saturating_sub(now)
    }

    /// As a line of `status`.
    pub(super) fn status(&self) -> SensorStatus {
        super::shortcoming::selftest(self.memory.trouble())
    }

    /// The last test.
    pub(super) fn last(&self) -> Option<&SelfTest> {
        self.last.as_ref()
    }

    /// A sensor changed: what the last test showed may no longer hold.
    pub(super) fn doubt(&mut self, now: Duration) {
        self.next = self.next.min(now + SOON).max(FIRST);
    }

    fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }
}

/// The monotonic clock that the tamperer reads too.
fn clock() -> Duration {
    Duration::from_nanos(tamper::monotonic())
}

impl Guard {
    /// Somebody wants a test now; one that is under way answers as well.
    pub(super) fn selftest_asked(&mut self, reply: Reply) {
        reply.gauge.set_paths(Route::ALL.len());
        self.canaries.askers.push(reply);
    }

    /// Does what is due of a self-test.
    pub(super) fn test_some(&mut self) {
        let now = self.now().mono;
        match self.canaries.stage {
            Stage::Idle if now >= self.canaries.next || !self.canaries.askers.is_empty() => {
                self.begin_test(now);
            }
            Stage::Calm(route, since) if now >= since + PAUSE => {
                self.begin_trial(route, now, since)
            }
            Stage::Trying(since) => self.watch_trial(now, since),
            Stage::Closing(since) => self.end_test(now, since),
            _ => {}
        }
    }

    fn begin_test(&mut self, now: Duration) {
        self.sweep.hurry(now);
        let canaries = &mut self.canaries;
        canaries.stage = Stage::Making;
        canaries.began = now;
        canaries.next = now + EVERY;
        canaries.queue = Route::ALL.into();
        canaries.results.clear();
        canaries.not_possible.clear();
        canaries.retried.clear();
        canaries.tester.make();
    }

    /// The tester has something to tell.
    pub(super) fn test_news(&mut self, news: News) {
        match news {
            News::Made(Ok(records)) => self.guard_canaries(*records),
            News::Made(Err(why)) => self.hindered(&why),
            News::Tampered(culprit, said) => self.tampered(culprit, said),
            News::Ended if self.canaries.stage == Stage::Ending => self.next_trial(),
            News::Ended => self.canaries.ended = true,
        }
    }

    fn guard_canaries(&mut self, records: [Record; 2]) {
        let files = records.map(|record| self.guard(record));
        self.canaries.files = Some(files);
        self.next_trial();
    }

    fn next_trial(&mut self) {
        let now = self.now().mono;
        match self.canaries.queue.pop_front() {
            Some(route) => self.canaries.stage = Stage::Calm(route, now),
            None => self.canaries.stage = Stage::Closing(now),
        }
    }

    fn canary_of(&self, route: Route) -> Option<FileId> {
        let [locked, plain] = self.canaries.files?;
        Some(if route.clears_the_bit() { locked } else { plain })
    }

    /// Begins once the canary is whole and a copy lies ready, as with a file that was left alone.
    fn begin_trial(&mut self, route: Route, now: Duration, since: Duration) {
        let Some(file) = self.canary_of(route) else { return self.next_trial() };
        let Some(ward) = self.ward(file) else { return self.next_trial() };
        let ready = ward.patient.replica.is_some() && self.engine.is_quiet(file);
        if !ready && now < since + UNREADY {
            return;
        }
        let path = ward.patient.path.clone();
        // Nothing of the route before is to be laid on this one, nor its heals counted.
        let protected = Box::new(ward.protected(Timestamp::now()));
        self.feed(Input::Unwatch { file });
        self.feed(Input::Watch { file, protected });
        self.canaries.ended = false;
        self.canaries.trial = Some(Trial::new(route));
        self.canaries.stage = Stage::Trying(now);
        self.canaries.tester.tamper(route, path);
    }

    fn tampered(&mut self, culprit: Option<Culprit>, said: Tampering) {
        let now = self.now().mono;
        let Some(trial) = self.canaries.trial.as_mut() else { return };
        trial.culprit = culprit;
        let route = trial.route();
        match said {
            Tampering::Done(at) => {
                trial.done_at = Some(Duration::from_nanos(at));
                self.canaries.stage = Stage::Trying(now);
                return;
            }
            Tampering::Failed(why) => trial.undone = Some(why),
            Tampering::Absent(why) => {
                self.canaries.not_possible.push(NotPossible { route, absent: true, why });
                self.canaries.trial = None;
            }
            Tampering::NotPossible(why) => {
                self.canaries.not_possible.push(NotPossible { route, absent: false, why });
                self.canaries.trial = None;
            }
        }
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
            let route = trial.route();
            if let Some(file) = self.canary_of(route) {
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
        if let Some(trial) = canaries.trial.take() {
            let (route, result) = (trial.route(), trial.conclude(means));
            let again = canaries.retried.len() < RETRIES && !canaries.retried.contains(&route);
            if result.result == Mark::Failed && again {
                canaries.retried.push(route);
                canaries.queue.push_front(route);
            } else {
                canaries.results.push(result);
            }
        }
        let left = canaries.queue.len();
        canaries.askers.iter().for_each(|asker| asker.gauge.set_done(Route::ALL.len() - left));
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
        self.forget_canaries();
        let canaries = &mut self.canaries;
        let took = now.saturating_sub(canaries.began).as_millis();
        let test = SelfTest::new(
            Timestamp::now(),
            std::mem::take(&mut canaries.results),
            std::mem::take(&mut canaries.not_possible),
            u64::try_from(took).unwrap_or(u64::MAX),
        );
        let news = canaries.memory.learn(&test);
        canaries.last = Some(test.clone());
        let told = self.wards().all(|(_, ward)| !ward.eventless);
        self.sweep.rest(selftest::sweep_may_rest(&test) && told);
        self.tell_news(news);
        for asker in self.canaries.askers.drain(..) {
            let selftest = Some(Box::new(test.clone()));
            asker.send(api::Report { selftest, ..api::Report::default() });
        }
    }

    fn hindered(&mut self, why: &str) {
        self.forget_canaries();
        self.canaries.last = None;
        let news = self.canaries.memory.hinder(why);
        self.tell_news(news);
        for asker in self.canaries.askers.drain(..) {
            let undone = Some(why.to_owned());
            asker.send(api::Report { undone, ..api::Report::default() });
        }
    }

    fn forget_canaries(&mut self) {
        for file in self.canaries.files.into_iter().flatten() {
            self.forget(file);
        }
        self.canaries.files = None;
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
                Event::new(now, Kind::SensorDegraded, Severity::Critical).noting(why)
            }
            Some(selftest::News::Better(what)) => {
                Event::new(now, Kind::SensorRecovered, Severity::Info).noting(what)
            }
        };
        self.scribe.tell(Note::Event(Box::new(event.clone())));
        let incident = format!("selftest-{}", now.strftime("%Y%m%dT%H%M%S.%6f"));
        self.scribe.tell(Note::Message(Item { incident, not_before: now, events: vec![event] }));
    }

    /// A sensor got worse or better: the sweep takes over until a test has shown what still holds.
    pub(super) fn doubt_sensors(&mut self) {
        let now = self.now().mono;
        if self.canaries.is_idle() {
            self.sweep.hurry(now);
        }
        self.canaries.doubt(now);
    }
}
