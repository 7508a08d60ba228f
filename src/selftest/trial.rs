//! One route, played once: what was done, what came of it, and what that amounts to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Route;
use super::report::{Mark, RouteResult};
use crate::attribute::{Actor, Confidence, Source};
use crate::record::{Event, Kind};
use crate::sense::Sensor;

/// The process that did it, as its parent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Process id.
    pub pid: u32,
    /// Clock ticks after boot.
    pub start_time: u64,
}

impl Culprit {
    /// An audit record tells no start time; then the pid has to do, which nobody else has had
    /// since.
    fn is(self, actor: &Actor) -> bool {
        actor.pid == self.pid && (actor.start_time == self.start_time || actor.start_time == 0)
    }
}

/// What the tamperer says of its deed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tampering {
    /// It began at this reading of the monotonic clock, nanoseconds.
    Done(u64),
    /// This kernel has no such route.
    Absent(String),
    /// The canary's filesystem, or a filter, does not let it be tried.
    NotPossible(String),
    /// It should have worked.
    Failed(String),
}

/// What this host has to name processes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// Linux audit records are read.
    pub audit: bool,
}

/// A sensor told of the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// Which.
    pub sensor: Sensor,
    /// By the monotonic clock.
    pub at: Duration,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Trial {
    route: Route,
    filesystem: String,
    /// Who did it, once that is known.
    pub culprit: Option<Culprit>,
    /// When it was done, by the monotonic clock.
    pub done_at: Option<Duration>,
    /// Why it could not be done, though it should have worked.
    pub undone: Option<String>,
    /// When a cure last ended well.
    pub healed_at: Option<Duration>,
    /// It was looked at before its turn, since the sweep's turn was too far away.
    pub hurried: bool,
    noticed: Vec<Noticed>,
    events: Vec<Event>,
}

/// At most so many of each are kept; a storm tells no more than its beginning.
const MOST: usize = 256;

impl Trial {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(route: Route, filesystem: String) -> Self {
        Self {
            route,
            filesystem,
            culprit: None,
            done_at: None,
            undone: None,
            healed_at: None,
            hurried: false,
            noticed: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Which route.
    #[must_use]
    pub fn route(&self) -> Route {
        self.route
    }

    /// A sensor told of the canary.
    pub fn notice(&mut self, noticed: Noticed) {
        if self.noticed.len() < MOST {
            self.noticed.push(noticed);
        }
    }

    /// What would have been put on record.
    pub fn record(&mut self, event: Event) {
        if self.events.len() < MOST {
            self.events.push(event);
        }
    }

    /// Whether it was noticed.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        self.deed().is_some()
    }

    /// Whether it was noticed and put right, and both are told.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_seen() && self.is_healed()
    }

    fn is_healed(&self) -> bool {
        let cured = |event: &Event| matches!(event.kind, Kind::Restored | Kind::Relocked);
        self.healed_at.is_some() && self.events.iter().any(cured)
    }

    /// What tells of the deed: by its own kind, or else anything that somebody did.
    fn deed(&self) -> Option<&Event> {
        let wanted = self.route.kind();
        let own = self.events.iter().find(|event| event.kind == wanted);
        own.or_else(|| self.events.iter().find(|event| event.kind.is_tampering()))
    }

    /// The sensor that told of it: the first since it was done, or the last before, for an open
    /// is told before what is done through it. Nobody where it was only found.
    fn sensor(&self) -> Option<Sensor> {
        let deed = self.deed()?;
        if deed.attribution.source == Source::Audit && self.told_by("audit").is_some() {
            return self.told_by("audit");
        }
        if self.events.iter().any(|event| event.kind == Kind::DriftFound) {
            return Some(Sensor::Sweep);
        }
        let since = |noticed: &&Noticed| self.done_at.is_some_and(|done| noticed.at >= done);
        let first = self.noticed.iter().find(since).or(self.noticed.last());
        Some(first.map_or(Sensor::Sweep, |noticed| noticed.sensor))
    }

    fn told_by(&self, name: &str) -> Option<Sensor> {
        self.noticed.iter().map(|noticed| noticed.sensor).find(|sensor| sensor.name() == name)
    }

    /// Somebody was named who did not do it.
    fn wrongly_named(&self) -> Option<&Actor> {
        let actors = self.events.iter().filter_map(|event| event.actor.as_ref());
        let innocent = |actor: &&Actor| !self.culprit.is_some_and(|culprit| culprit.is(actor));
        actors.into_iter().find(innocent)
    }

    /// What it amounts to on a host with these `means`.
    #[must_use]
    pub fn conclude(&self, means: Means) -> RouteResult {
        let deed = self.deed();
        let seen = deed.is_some();
        let wrong = self.wrongly_named();
        let right = deed.and_then(|deed| deed.actor.as_ref());
        let named = wrong.is_none() && right.is_some();
        let attribution = deed.filter(|_| named).map(|deed| deed.attribution).unwrap_or_default();
        let healed = seen && self.is_healed();
        let limited = self.route.needs_audit() && !means.audit;
        let sensor = self.sensor();
        let (mark, note) = if let Some(why) = &self.undone {
            (Mark::Failed, Some(format!("it could not be tried: {why}")))
        } else if !seen {
            (Mark::Failed, Some("nothing noticed it".to_owned()))
        } else if !healed {
            (Mark::Failed, Some("it was noticed and not put right in time".to_owned()))
        } else if let Some(other) = wrong {
            let note = format!("process {} ({}) was named, and did nothing", other.pid, other.comm);
            (Mark::Failed, Some(note))
        } else if named {
            (Mark::Passed, None)
        } else if limited {
            let found = if sensor == Some(Sensor::Sweep) {
                "only looking again finds it, and "
            } else {
                ""
            };
            (Mark::Limit, Some(format!("{found}only Linux audit could tell who did it")))
        } else {
            (Mark::Failed, deed.and_then(|d| d.note.clone()).or(Some("nobody was named".into())))
        };
        // A look that was hurried says nothing about how long it would have taken.
        let took = match (self.done_at, self.healed_at) {
            (Some(done), Some(end)) if healed && !self.hurried => Some(end.saturating_sub(done)),
            _ => None,
        };
        RouteResult {
            route: self.route,
            filesystem: self.filesystem.clone(),
            seen,
            named,
            healed,
            source: attribution.source,
            confidence: if named { attribution.confidence } else { Confidence::Unknown },
            healed_in_us: took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            sensor: sensor.map(|sensor| sensor.name().to_owned()),
            result: mark,
            note,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::report::tests::here;
    use super::*;
    use crate::attribute::Attribution;
    use crate::record::Severity;

    fn event(kind: Kind, pid: Option<u32>) -> Event {
        let mut event = Event::new(Timestamp::UNIX_EPOCH, kind, Severity::Info);
        event.actor = pid.map(|pid| Actor { pid, start_time: 5, ..Actor::default() });
        event.attribution = match pid {
            Some(_) => Attribution { source: Source::Pidfd, confidence: Confidence::Exact },
            None => Attribution::default(),
        };
        event
    }

    /// Process 7, started at tick 5, did it at 10 ms; it was whole again 2 ms later.
    fn trial(route: Route, events: impl IntoIterator<Item = Event>) -> Trial {
        let mut trial = Trial::new(route, here());
        trial.culprit = Some(Culprit { pid: 7, start_time: 5 });
        trial.done_at = Some(Duration::from_millis(10));
        trial.healed_at = Some(Duration::from_millis(12));
        events.into_iter().for_each(|event| trial.record(event));
        trial.record(event(Kind::Restored, None));
        trial
    }

    fn at(sensor: Sensor, millis: u64) -> Noticed {
        Noticed { sensor, at: Duration::from_millis(millis) }
    }

    #[test]
    fn the_very_process_is_named_or_nobody_is() {
        let result = |pid| {
            trial(Route::Write, [event(Kind::ContentChanged, pid)]).conclude(Means::default())
        };
        let right = result(Some(7));
        assert_eq!((right.seen, right.named, right.healed), (true, true, true));
        assert_eq!((right.result, right.confidence), (Mark::Passed, Confidence::Exact));
        assert_eq!(right.healed_in_us, Some(2000));
        let wrong = result(Some(8));
        assert_eq!((wrong.named, wrong.result), (false, Mark::Failed));
        assert_eq!((wrong.source, wrong.confidence), (Source::None, Confidence::Unknown));
        assert_eq!(result(None).result, Mark::Failed);
    }

    #[test]
    fn the_pid_used_again_is_not_the_same_process() {
        let mut trial = trial(Route::Write, [event(Kind::ContentChanged, Some(7))]);
        trial.culprit = Some(Culprit { pid: 7, start_time: 6 });
        assert!(!trial.conclude(Means::default()).named);
    }

    #[test]
    fn a_bystander_that_is_named_anywhere_is_a_failure() {
        let events = [event(Kind::Replaced, Some(7)), event(Kind::MetadataChanged, Some(9))];
        let result = trial(Route::RenameOver, events).conclude(Means::default());
        assert_eq!(result.result, Mark::Failed);
        assert!(result.note.unwrap().contains('9'));
    }

    #[test]
    fn what_only_audit_could_name_is_a_limit_until_there_is_audit() {
        let cleared = || {
            trial(
                Route::FileSetattr,
                [event(Kind::DriftFound, None), event(Kind::ImmutableCleared, None)],
            )
        };
        let result = cleared().conclude(Means { audit: false });
        assert_eq!((result.seen, result.named, result.result), (true, false, Mark::Limit));
        assert_eq!(result.sensor.as_deref(), Some("sweep"));
        assert_eq!(cleared().conclude(Means { audit: true }).result, Mark::Failed);
        let result = trial(Route::Setflags, [event(Kind::ImmutableCleared, None)]);
        assert_eq!(result.conclude(Means { audit: false }).result, Mark::Failed);
    }

    #[test]
    fn what_is_not_put_right_failed_whoever_was_named() {
        let mut trial = Trial::new(Route::Unlink, here());
        trial.culprit = Some(Culprit { pid: 7, start_time: 5 });
        assert_eq!(trial.conclude(Means::default()).result, Mark::Failed);
        trial.record(event(Kind::Deleted, Some(7)));
        let result = trial.conclude(Means::default());
        assert_eq!((result.seen, result.healed, result.result), (true, false, Mark::Failed));
        assert!(trial.is_seen() && !trial.is_over());
    }

    #[test]
    fn the_sensor_is_the_first_that_told_after_the_deed_and_else_the_last_before() {
        let mut trial = trial(Route::Write, [event(Kind::ContentChanged, Some(7))]);
        let sensor = |trial: &Trial| trial.conclude(Means::default()).sensor.unwrap();
        assert_eq!(sensor(&trial), "sweep");
        trial.notice(at(Sensor::Inotify, 9));
        assert_eq!(sensor(&trial), "inotify");
        trial.notice(at(Sensor::Fanotify, 11));
        assert_eq!(sensor(&trial), "fanotify");
    }
}
