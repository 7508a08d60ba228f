//! From the start to the end: when it is on guard, what it says of itself, how it stops.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Guard;
use crate::alert::Item;
use crate::daemon::api::{SensorStatus, Shortcoming, State};
use crate::daemon::complaints::News;
use crate::daemon::failures::Failure;
use crate::daemon::scribe::Note;
use crate::daemon::service::{Feeder, Service, starts_again};
use crate::daemon::shortcoming;
use crate::daemon::start::{OnReady, handover};
use crate::record::{Event, Kind, PathText, Severity};
use crate::sense::FileId;

/// While everything is compared for the first time, it is asked this often whether it is done.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// What is under way when the daemon is to stop has this long to end.
const DRAIN: Duration = Duration::from_secs(5);
/// So long the events are still heard that tell who did what was found just before.
const HEARD: Duration = Duration::from_millis(50);

/// Where the daemon is in its life.
pub(in crate::daemon) struct Life {
    pub(super) state: State,
    /// What has not been compared since the start, and when to ask next.
    uncompared: Vec<FileId>,
    /// It is known which files other mounts show, and so how a heal has to go.
    pub(super) searched: bool,
    /// What it said of itself is not so any more.
    pub(super) outdated: bool,
    begun: Timestamp,
    ask: Instant,
    /// To be told once, when it is on guard.
    on_ready: Option<OnReady>,
    service: Service,
    feeder: Feeder,
    /// It was to stop, and something did not end in time.
    unfinished: bool,
}

impl Life {
    pub(in crate::daemon) fn new(on_ready: OnReady, (service, feeder): (Service, Feeder)) -> Self {
        Self {
            state: State::Starting,
            uncompared: Vec::new(),
            searched: false,
            outdated: false,
            begun: Timestamp::now(),
            ask: Instant::now(),
            on_ready: Some(on_ready),
            service,
            feeder,
            unfinished: false,
        }
    }

    /// It stops with something under way, of which the journal may not tell.
    pub(in crate::daemon) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// How long nothing is to be asked.
    pub(super) fn wait(&self) -> Duration {
        match self.state {
            State::Starting | State::Draining => ASK_EVERY,
            State::Watching | State::Degraded => Duration::MAX,
        }
    }
}

impl Guard {
    /// Everything that is guarded now is to be compared before it is on guard.
    pub(super) fn begin(&mut self) {
        self.life.uncompared = self.wards().map(|(file, _)| file).collect();
        self.publish();
        self.ready_yet();
    }

    /// On guard as soon as everything was compared with the baseline, and put right or found
    /// impossible to.
    pub(super) fn ready_yet(&mut self) {
        if self.life.state != State::Starting || Instant::now() < self.life.ask {
            return;
        }
        self.life.ask = Instant::now() + ASK_EVERY;
        let engine = &self.engine;
        while self.life.uncompared.pop_if(|file| engine.is_compared(*file)).is_some() {}
        let compared = self.life.uncompared.is_empty() && self.queue.wait().is_none();
        if compared && self.life.searched {
            // What only the start needed.
            self.life.uncompared = Vec::new();
            crate::sys::memory::give_back();
            self.life.state = State::Watching;
            self.health.start.rest();
            // A run that ends before its first round has still seen everything.
            self.sweep.compared(self.life.begun);
            self.beat();
            self.publish();
            let life = &mut self.life;
            self.health.with_status(|status| {
                life.service.ready(status);
                life.feeder.ready();
                if let Some(on_ready) = life.on_ready.take() {
                    on_ready(status);
                }
            });
        }
    }

    /// Goes on until no heal is under way and all that was found is on record, but no longer than
    /// it may take. What is changed meanwhile is left to the next run: where somebody changes one
    /// file after the other, there would be no end.
    pub(super) fn drain(&mut self) -> std::io::Result<()> {
        self.life.state = State::Draining;
        self.publish();
        let begun = Instant::now();
        let (heard, deadline) = (begun + HEARD, begun + DRAIN);
        while self.engine.is_unfinished() || self.queue.wait().is_some() || self.in_force.busy {
            if Instant::now() >= deadline {
                tracing::warn!("something is still under way; the next start looks at it again");
                self.health.counts.failure(Failure::UnfinishedAtStop);
                self.life.unfinished = true;
                break;
            }
            if Instant::now() < heard {
                let _told_already = self.turn()?;
            } else {
                self.last_turn()?;
            }
        }
        Ok(())
    }

    /// Leaves to the next run what it needs to go on where this one ends. True where the service
    /// manager is about to start it.
    pub(in crate::daemon) fn hand_over(&self) -> bool {
        if !Service::is_managed() {
            return false;
        }
        if self.wards().all(|(file, _)| self.engine.is_quiet(file)) {
            handover::settled();
        }
        let starts_again = starts_again();
        if let (true, Some(audit)) = (starts_again, self.sensors.audit()) {
            audit.leave();
        }
        starts_again
    }

    /// Whoever asks for readiness is told without the guard being asked.
    pub(super) fn publish_if_outdated(&mut self) {
        if std::mem::take(&mut self.life.outdated) {
            self.publish();
        }
    }

    /// What it stands on, as lines of `status`: what a person is told of where it is not well. The
    /// others tell of themselves.
    fn footing(&self) -> Vec<SensorStatus> {
        let mut lines = self.sensors.status();
        lines.push(self.sweep.status());
        lines.push(shortcoming::journal(self.scribe.trouble()));
        lines.push(shortcoming::state(self.scribe.worry()));
        lines.push(shortcoming::filesystems(self.engine.unguarded()));
        lines
    }

    /// Tells a person what it cannot do, and what it can again. All of it is on record already.
    pub(in crate::daemon) fn complain(&mut self) {
        if !matches!(self.life.state, State::Watching | State::Degraded) {
            return;
        }
        let now = self.now();
        let footing = self.footing();
        self.complaints.hear(now.mono, &footing);
        if self.in_force.config.email.is_none() {
            return;
        }
        let (kind, severity, note) = match self.complaints.news(now.mono) {
            None => return,
            Some(News::Worse(why)) => (Kind::SensorDegraded, Severity::Warning, why),
            Some(News::Better(what)) => {
                (Kind::SensorRecovered, Severity::Info, format!("well again: {what}"))
            }
        };
        self.scribe.tell(Note::Complaints(self.complaints.told()));
        let events = vec![Event::new(now.wall, kind, severity).noting(note)];
        let incident = format!("watchdog-{}", now.wall.strftime("%Y%m%dT%H%M%S.%6f"));
        let item = Item { incident, not_before: now.wall, events };
        self.scribe.tell(Note::Message { item, waits: false });
    }

    /// Lets those who ask see how things are.
    pub(in crate::daemon) fn publish(&mut self) {
        let mut sensors = self.footing();
        if self.in_force.config.email.is_some() {
            sensors.push(shortcoming::mail(self.scribe.undelivered()));
        }
        sensors.push(shortcoming::configuration(self.in_force.refused.clone()));
        sensors.push(self.canaries.status());
        let well = sensors.iter().all(SensorStatus::is_well);
        let unhealed = self.engine.broken().chain(self.engine.away());
        let shortcomings = self
            .wards()
            .flat_map(|(_, w)| w.shortcomings().iter().map(|why| (&*w.patient.path, why.as_str())))
            .chain(unhealed)
            .filter(|(path, _)| !self.canaries.is_theirs(path))
            .map(|(path, why)| Shortcoming { path: PathText::new(path), why: why.to_owned() })
            .collect();
        let canaries = self.canaries.files();
        let tested = canaries.filter(|file| self.engine.has_incident(*file)).count();
        let state = match self.life.state {
            State::Watching if !well => State::Degraded,
            state => state,
        };
        let own: Vec<PathText> = self.own_files().iter().map(|path| PathText::new(path)).collect();
        let protected = self.wards.len() - self.canaries.files().count() - own.len();
        let open_incidents = self.engine.open_incidents() - tested;
        self.health.with_status(|status| {
            status.state = state;
            status.protected = protected;
            status.open_incidents = open_incidents;
            status.selftest = self.canaries.last().cloned();
            status.worst_case_notice_ms = self.sweep.worst_case_ms();
            status.shortcomings = shortcomings;
            status.own = own;
            status.sensors = sensors;
            self.life.service.tell(status);
        });
    }
}
