//! The self-test at work: canaries are made and guarded like any file, a process tampers with them
//! by one route after the other, and what comes of it goes to the test instead of the journal.
//!
//! It is a guest on the guard's thread: it never waits there, and at most one test is under way.
//! What the test tells apart is in [`crate::selftest`]; here is the state of a test, and `drive`
//! has when to do what.

mod canary;
mod drive;
mod tamper;
mod tester;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::api::SensorStatus;
use super::control::Reply;
use super::wake::Mailer;
use super::workers::Report;
use crate::baseline::Vault;
use crate::record::{Event, PathText};
use crate::selftest::{
    Memory, NotPossible, Noticed, Route, RouteResult, SelfTest, Trial, Untested,
};
use crate::sense::{FileId, Observation, Sensor};

pub(super) use canary::clear_slot;
pub use tamper::tamper;
pub use tester::News;

use canary::Room;
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

/// Filesystems that are tested, at most; files on others are looked at often.
const MOST_ROOMS: usize = 8;

/// See the module.
pub(super) struct Canaries {
    tester: Tester,
    state: PathBuf,
    stage: Stage,
    /// One pair for each filesystem, while there are any.
    pairs: Vec<Pair>,
    trial: Option<Trial>,
    /// The tamperer of the trial is gone.
    ended: bool,
    queue: VecDeque<Play>,
    /// The one that is played.
    play: Option<Play>,
    results: Vec<RouteResult>,
    not_possible: Vec<NotPossible>,
    untested: Vec<Untested>,
    /// Failed once in this test: a machine under load deserves a second try.
    retried: Vec<Play>,
    askers: Vec<Reply>,
    began: Duration,
    next: Duration,
    memory: Memory,
    last: Option<SelfTest>,
}

/// The locked canary and the plain one of a room.
struct Pair {
    room: Room,
    files: [FileId; 2],
}

/// A route, to be played on the pair of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Play {
    pair: usize,
    route: Route,
}

/// What is waited for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The next test.
    Idle,
    /// The canaries.
    Making,
    /// The canary to be whole, and quiet, for the next route.
    Calm(Play, Duration),
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
            tester: Tester::start(vault, reports)?,
            state: state.to_owned(),
            stage: Stage::Idle,
            pairs: Vec::new(),
            trial: None,
            ended: false,
            queue: VecDeque::new(),
            play: None,
            results: Vec::new(),
            not_possible: Vec::new(),
            untested: Vec::new(),
            retried: Vec::new(),
            askers: Vec::new(),
            began: Duration::ZERO,
            next: first(),
            memory: Memory::default(),
            last: None,
        })
    }

    /// Whether this is a canary and no file of anybody's.
    pub(super) fn has(&self, file: FileId) -> bool {
        self.files().any(|canary| canary == file)
    }

    /// The canaries, while there are any.
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> {
        self.pairs.iter().flat_map(|pair| pair.files)
    }

    /// Whether `path` is where canaries are.
    pub(super) fn is_theirs(&self, path: &Path) -> bool {
        self.pairs.iter().any(|pair| path.starts_with(&pair.room.dir))
    }

    /// Where the replicas of a canary lie.
    pub(super) fn slot(path: &Path) -> Option<PathBuf> {
        canary::slot(path)
    }

    /// Keeps what tells of a canary, and gives back everything else.
    pub(super) fn sift(&mut self, event: Box<Event>) -> Option<Box<Event>> {
        let theirs = |path: &PathText| self.is_theirs(&path.to_path());
        if !event.path.as_ref().is_some_and(theirs) {
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
        self.next = self.next.min(now + SOON).max(first());
    }

    fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }
}

/// Where a test wants the daemon to die over a file, a canary is not to take its place.
fn first() -> Duration {
    if crate::fault::is_awaited() { Duration::MAX } else { FIRST }
}

/// The monotonic clock that the tamperer reads too.
fn clock() -> Duration {
    Duration::from_nanos(tamper::monotonic())
}
