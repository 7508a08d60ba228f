//! The guard: one thread that owns the engine, listens to every sensor and does what cannot
//! wait. Everything that waits for a disk is done by another thread.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use super::api::{State, Status};
use super::scribe::{Note, Scribe};
use super::selftest::Canaries;
use super::sensors::Sensors;
use super::sweep::Sweep;
use super::wake::Mailbox;
use super::ward::Ward;
use super::witness::Questions;
use super::workers::{Chore, Reading, Report, Worker};
use crate::baseline::{Heartbeat, Record, Vault};
use crate::engine::{Action, Engine, Input, Moment};
use crate::record::{Event, Kind, PathText, Severity};
use crate::respond;
use crate::sense::{FileId, Hint, Observation};

/// At most so many actions follow from one input before others are heard.
const MOST_ACTIONS: usize = 256;
/// After a heal, what is not urgent waits this long: we run before everybody else.
const REST: Duration = Duration::from_micros(100);

/// See the module.
pub struct Guard {
    pub(super) engine: Engine,
    pub(super) state: PathBuf,
    pub(super) vault: Arc<Vault>,
    pub(super) sensors: Sensors,
    pub(super) scribe: Scribe,
    pub(super) stager: Worker<Chore>,
    pub(super) reader: Worker<Reading>,
    pub(super) reports: Mailbox<Report>,
    pub(super) sweep: Sweep,
    pub(super) canaries: Canaries,
    pub(super) status: Arc<Mutex<Status>>,
    /// The last of an earlier run.
    last_beat: Option<Heartbeat>,
    pub(super) questions: Questions,
    pub(super) wards: HashMap<FileId, Ward>,
    next_id: u32,
    began: Instant,
    /// What is still to be done, the last first.
    actions: Vec<Action>,
    /// It waits until then.
    rest_until: Instant,
    incidents: HashMap<FileId, String>,
    /// Observations that were read and not acted on yet.
    pub(super) pending: Vec<Observation>,
    mounts_changed: bool,
    lost: bool,
    stopping: bool,
}

/// The parts that [`super::start`] brings.
pub(super) struct Parts {
    pub(super) state: PathBuf,
    pub(super) vault: Arc<Vault>,
    pub(super) sensors: Sensors,
    pub(super) scribe: Scribe,
    pub(super) stager: Worker<Chore>,
    pub(super) reader: Worker<Reading>,
    pub(super) reports: Mailbox<Report>,
    pub(super) sweep: Sweep,
    pub(super) canaries: Canaries,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) last_beat: Option<Heartbeat>,
}

impl Guard {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            state,
            vault,
            sensors,
            scribe,
            stager,
            reader,
            reports,
            sweep,
            canaries,
            status,
            last_beat,
        } = parts;
        Self {
            engine: Engine::default(),
            state,
            vault,
            sensors,
            scribe,
            stager,
            reader,
            reports,
            sweep,
            canaries,
            status,
            last_beat,
            questions: Questions::default(),
            wards: HashMap::new(),
            next_id: 0,
            began: Instant::now(),
            actions: Vec::new(),
            rest_until: Instant::now(),
            incidents: HashMap::new(),
            pending: Vec::new(),
            mounts_changed: false,
            lost: false,
            stopping: false,
        }
    }

    /// Guards until told to stop.
    ///
    /// # Errors
    /// When the system cannot even wait for events any more.
    pub(super) fn run(&mut self) -> std::io::Result<()> {
        self.publish(State::Watching);
        if let Err(e) = crate::sys::priority::run_at_once(1) {
            tracing::info!("heals may wait for a busy processor: no real-time priority: {e}");
        }
        while !self.stopping {
            let mounts_changed = self.wait()?;
            self.mounts_changed = mounts_changed;
            self.listen();
            for observation in std::mem::take(&mut self.pending) {
                self.observe(observation);
            }
            let mut named = Vec::new();
            self.sensors.name(&mut named);
            for observation in named {
                match observation.hint {
                    Hint::Child(_) => self.observe(observation),
                    _ => self.feed(Input::Named(observation)),
                }
            }
            if std::mem::take(&mut self.lost) {
                self.lost_events();
            }
            self.take_reports();
            self.answer_overdue();
            self.feed(Input::Tick);
            self.sweep_some();
            self.test_some();
        }
        Ok(())
    }

    /// Takes what the sensors have; it is acted on in its turn.
    pub(super) fn listen(&mut self) {
        let mounts_changed = std::mem::take(&mut self.mounts_changed);
        self.lost |= self.sensors.read(Instant::now(), mounts_changed, &mut self.pending);
    }

    /// Sleeps until a sensor, a worker or the clock has something. True if it is the mount table.
    fn wait(&mut self) -> std::io::Result<bool> {
        let now = self.began.elapsed();
        let due = self.engine.next_deadline().map(|at| at.saturating_sub(now));
        let sweep = self.sweep.wait(now).min(self.canaries.wait(now));
        let asked = self.questions.due().map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = match (self.pending.is_empty(), self.actions.is_empty()) {
            (true, true) => [due, asked].into_iter().flatten().fold(sweep, Duration::min),
            (true, false) => self.rest_until.saturating_duration_since(Instant::now()),
            (false, _) => Duration::ZERO,
        };
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(4);
        fds.push(PollFd::new(self.reports.fd(), PollFlags::POLLIN));
        for (fd, flags) in self.sensors.descriptors() {
            fds.push(PollFd::new(fd, flags));
        }
        match nix::poll::ppoll(&mut fds, Some(TimeSpec::from(timeout)), None) {
            Ok(_) => Ok(fds
                .iter()
                .filter_map(PollFd::revents)
                .any(|events| events.contains(PollFlags::POLLPRI))),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn take_reports(&mut self) {
        let reports: Vec<Report> = self.reports.drain().collect();
        for report in reports {
            match report {
                Report::Staged(file, staged) => self.staged(file, staged),
                Report::Verified(file, epoch, finding) => {
                    self.feed(Input::Verified { file, epoch, finding });
                }
                Report::Evidence(file, incident, facts) => {
                    self.feed(Input::Evidence { file, incident, facts });
                }
                Report::Shown(file, incident, from) => self.shown(file, &incident, from),
                Report::Cured(file, outcome) => self.cured(file, *outcome),
                Report::Taken(taken) => self.taken(*taken),
                Report::Seen(observation) => self.observe(observation),
                Report::Audit(told) => self.told(told),
                Report::Asked(command, request, reply) => self.asked(command, request, reply),
                Report::Pinned(pinned) => {
                    for (file, ward) in &mut self.wards {
                        ward.patient.pinned = pinned.contains(file);
                    }
                }
                Report::Selftest(news) => self.test_news(news),
                Report::Restock => self.restock(),
                Report::Lost(files) => self.lost_copies(&files),
                Report::Status(done) => {
                    self.publish(State::Watching);
                    // Whoever asked may have lost patience.
                    let _ = done.send(());
                }
                Report::Stop => self.stopping = true,
            }
        }
    }

    /// Gives the engine an input, and does what it asks for until it asks for nothing more.
    pub(super) fn feed(&mut self, input: Input) {
        let mut asked = Vec::new();
        let now = self.now();
        self.engine.handle(now, input, &mut asked);
        // An action's answer may ask for more, which comes before what was asked earlier: a
        // heal is not kept waiting by a journal line.
        let mut actions: Vec<Action> = asked.into_iter().rev().collect();
        let mut healed = false;
        for _ in 0..MOST_ACTIONS {
            let Some(action) = actions.pop().or_else(|| self.put_off()) else { break };
            if healed && matches!(action, Action::Inspect { .. }) {
                // The file is whole. On this processor nobody gets to see that before we sleep.
                self.rest_until = Instant::now() + REST;
                actions.push(action);
                break;
            }
            healed |= matches!(action, Action::Heal { .. });
            if let Some(answer) = self.perform(action) {
                let mut more = Vec::new();
                let now = self.now();
                self.engine.handle(now, answer, &mut more);
                actions.extend(more.into_iter().rev());
            }
        }
        // Whatever one file keeps us busy with, sensors and commands have their turn.
        self.actions.append(&mut actions);
    }

    /// The next of the actions that were put off, unless it is to wait a little longer.
    fn put_off(&mut self) -> Option<Action> {
        (Instant::now() >= self.rest_until).then(|| self.actions.pop())?
    }

    pub(super) fn observe(&mut self, observation: Observation) {
        self.canaries.notice(&observation);
        self.feed(Input::Observed(observation));
    }

    pub(super) fn now(&self) -> Moment {
        Moment { mono: self.began.elapsed(), wall: Timestamp::now() }
    }

    /// The instant that the engine knows by the time since it began.
    pub(super) fn instant(&self, mono: Duration) -> Instant {
        self.began + mono
    }

    pub(super) fn ward(&self, file: FileId) -> Option<&Ward> {
        self.wards.get(&file)
    }

    pub(super) fn ward_mut(&mut self, file: FileId) -> Option<&mut Ward> {
        self.wards.get_mut(&file)
    }

    pub(super) fn wards_mut(&mut self) -> impl Iterator<Item = (FileId, &mut Ward)> {
        self.wards.iter_mut().map(|(file, ward)| (*file, ward))
    }

    pub(super) fn wards(&self) -> impl Iterator<Item = (FileId, &Ward)> {
        self.wards.iter().map(|(file, ward)| (*file, ward))
    }

    /// The incident that evidence of this file belongs to.
    pub(super) fn set_incident(&mut self, file: FileId, incident: String) {
        self.incidents.insert(file, incident);
    }

    pub(super) fn incident(&self, file: FileId) -> String {
        self.incidents.get(&file).cloned().unwrap_or_else(|| "unknown".into())
    }

    /// Guards one more path.
    pub(super) fn guard(&mut self, record: Record) -> FileId {
        let file = FileId(self.next_id);
        self.next_id += 1;
        let slot = match Canaries::slot(&record.path) {
            Some(slot) => Ok(slot),
            None => respond::slot_directory(&record.path, &self.state),
        };
        let mut ward = Ward::new(&record, slot.as_ref().ok().cloned());
        if let Err(e) = slot {
            ward.shortcomings.push(format!("no copy can be kept ready beside it: {e}"));
        }
        Self::trust_replica(&mut ward);
        self.wards.insert(file, ward);
        self.watch(file);
        self.watch_ready(file);
        let ready = self.ward(file).and_then(|ward| ward.patient.replica.as_ref());
        if let (Some(registrar), Some(replica)) = (self.sensors.registrar(), ready) {
            registrar.replica_at(file, &replica.path);
        }
        self.sweep.add(file);
        self.stage(file);
        let whole_at = self.whole_before(&record);
        if let Some(ward) = self.wards.get(&file) {
            let protected = Box::new(ward.protected(whole_at));
            self.feed(Input::Watch { file, protected });
        }
        file
    }

    /// When it was last known to be whole, before this run.
    fn whole_before(&self, record: &Record) -> Timestamp {
        let beat = self.last_beat.as_ref().and_then(|beat| beat.of(&record.path));
        // A clock that was set back makes it worthless.
        let beat = beat.filter(|at| *at <= Timestamp::now());
        beat.map_or(record.protected_at, |at| at.max(record.protected_at))
    }

    /// Has every sensor watch the file, and notes what they cannot do for it.
    pub(super) fn watch(&mut self, file: FileId) {
        let Some(ward) = self.wards.get_mut(&file) else { return };
        ward.shortcomings = super::shortcoming::of(ward);
        let lacks = self.sensors.watch(file, &ward.patient);
        ward.eventless = !lacks.is_empty();
        ward.shortcomings.extend(lacks);
    }

    /// Guards the path no longer. The file stays as it is.
    pub(super) fn forget(&mut self, file: FileId) {
        self.feed(Input::Unwatch { file });
        self.sensors.unwatch(file);
        self.sweep.remove(file);
        self.incidents.remove(&file);
        let Some(ward) = self.wards.remove(&file) else { return };
        if let Some(replica) = &ward.patient.replica
            && let Err(e) = respond::discard(replica)
        {
            tracing::warn!("{}: {e}", crate::text::escape_path(&replica.path));
        }
    }

    /// The file is to be read from the start: its filesystem went and came back.
    pub(super) fn begin_again(&mut self, file: FileId) {
        self.feed(Input::Unwatch { file });
        self.watch(file);
        let whole_at = Timestamp::now();
        let Some(ward) = self.wards.get_mut(&file) else { return };
        ward.patient.seal = None;
        let protected = Box::new(ward.protected(whole_at));
        self.feed(Input::Watch { file, protected });
    }

    /// The kernel dropped events: say so, and look at everything.
    fn lost_events(&mut self) {
        let event = Event::new(Timestamp::now(), Kind::EventsLost, Severity::Warning)
            .noting("the kernel dropped events; everything is being looked at again");
        self.scribe.tell(Note::Event(Box::new(event)));
        self.sweep.everything_now();
    }

    /// Lets `status` see how things are.
    pub(super) fn publish(&mut self, wanted: State) {
        let mut sensors = self.sensors.status();
        sensors.push(self.sweep.status());
        let trouble = self.scribe.trouble();
        sensors.push(super::shortcoming::journal(trouble));
        sensors.push(super::shortcoming::state(self.scribe.worry()));
        sensors.push(self.canaries.status());
        let well = sensors.iter().all(|s| s.state == "working" || s.state == "unused");
        let broken = self.engine.broken();
        let shortcomings = self
            .wards
            .values()
            .flat_map(|w| w.shortcomings.iter().map(|why| (w.patient.path.as_path(), why.as_str())))
            .chain(broken)
            .filter(|(path, _)| !self.canaries.is_theirs(path))
            .map(|(path, why)| super::api::Shortcoming {
                path: PathText::new(path),
                why: why.to_owned(),
            })
            .collect();
        let canaries = self.canaries.files();
        let tested = canaries.filter(|file| self.engine.has_incident(*file)).count();
        let Ok(mut status) = self.status.lock() else { return };
        status.state = if wanted == State::Watching && !well { State::Degraded } else { wanted };
        status.protected = self.wards.len() - self.canaries.files().count();
        status.open_incidents = self.engine.open_incidents() - tested;
        status.selftest = self.canaries.last().cloned();
        status.worst_case_notice_ms = self.sweep.worst_case_ms();
        status.shortcomings = shortcomings;
        status.sensors = sensors;
    }
}
