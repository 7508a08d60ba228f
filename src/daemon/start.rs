//! From a configuration to a guard on duty, and from there to an orderly end.

pub(super) mod checks;
pub(super) mod handover;
pub(super) mod leftovers;
pub(super) mod recall;
pub(super) mod reconcile;
pub(super) mod said;
pub(super) mod wanted;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::api::{Progress, State, Status};
use super::complaints::Complaints;
use super::control::{At, Control, ControlError};
use super::failures::Failure;
use super::guard::Guard;
use super::guard::globs::Globs;
use super::guard::herd::Herd;
use super::guard::life::Life;
use super::guard::lister::Lister;
use super::guard::queue::Queue;
use super::guard::stage::Line;
use super::guard::witness::Questions;
use super::health::Health;
use super::own::Own;
use super::reload::InForce;
use super::scribe::keeper::Keeper;
use super::scribe::reserve;
use super::scribe::{Desk, Note, Scribe};
use super::selftest::Canaries;
use super::sensors::Sensors;
use super::service::{Feeder, Service};
use super::signals;
use super::store::{Store, StoreError};
use super::sweep::Sweep;
use super::wake::{Mailbox, Mailer};
use super::workers::onlooker::Onlooker;
use super::workers::testify::Witness;
use super::workers::{self, Report};
use crate::attribute::Lineage;
use crate::baseline::{Baseline, BaselineError};
use crate::config::Config;
use crate::engine::Engine;
use crate::record::{Entry, Event, Kind, Recovery, Severity};
use crate::sense::FileMap;
use checks::{known, refuse_without_configuration, together};
use handover::Heritage;
use reconcile::reconcile;
use wanted::{Obstacles, Wanted};

/// Told once, when the guard is on duty.
pub type OnReady = Box<dyn FnOnce(&Status)>;

/// How the daemon is run.
pub struct RunOptions {
    /// Paths named on the command line.
    pub protect: Vec<PathBuf>,
    /// The configuration file, for the mail process to read the same.
    pub config_file: Option<PathBuf>,
    /// Start the process that sends the mail; otherwise somebody else does.
    pub deliver: bool,
    /// Called with every journal line, once it is on the disk.
    pub on_entry: Box<dyn Fn(&Entry) + Send>,
    /// Called while paths are taken under protection.
    pub on_progress: Box<dyn Fn(Progress)>,
    /// Called with what a person should know before the guard is on duty.
    pub on_warning: Box<dyn Fn(&str)>,
    /// Called once the guard is on duty: everything was compared.
    pub on_ready: OnReady,
}

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel lets only root do this.
    #[error("guarding files needs root: run it with sudo, or as a system service")]
    NotRoot,
    /// Paths that cannot be protected.
    #[error(transparent)]
    Obstacles(#[from] Obstacles),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The baseline cannot be read.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The system has no threads or descriptors left.
    #[error(
        "the system refuses what the daemon needs: {0}; free memory or raise the limits of the service"
    )]
    System(#[from] std::io::Error),
}

/// The end of the daemon waits this long for its workers…
const WORKERS: Duration = Duration::from_secs(3);
/// …and this long for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// The control socket's name in `steadfast.socket`.
const CONTROL: &str = "control";

/// Whoever asks for the status waits this long for the guard.
const STATUS_PATIENCE: Duration = Duration::from_millis(200);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot begin; then nothing was changed.
pub fn run(config: &Config, options: RunOptions) -> Result<(), RunError> {
    if !rustix::process::geteuid().is_root() {
        return Err(RunError::NotRoot);
    }
    crate::sys::memory::keep_little();
    let mut service = Service::take();
    let known = reserve::with(&config.daemon.state, || known(&config.daemon.state));
    if options.config_file.is_none()
        && let Ok((known, _)) = &known
    {
        refuse_without_configuration(known)?;
    }
    let wanted = match &known {
        Ok((known, patterns)) => Wanted::of(config, &options.protect, known, patterns),
        Err(_) => Wanted::without_baseline(config, &options.protect),
    };
    let (reports, mailbox) = Mailbox::new()?;
    signals::listen(reports.clone())?;
    let health = Health::new(starting());
    health.start.here();
    health.start.work();
    let feeder = Feeder::start(Arc::clone(&health))?;
    // Nothing is touched where another daemon has the state, or answers on the socket.
    let state = Store::probe(&config.daemon);
    let control = open_control(config, &health, &reports, service.handed(CONTROL));
    let heritage = Heritage::of(service.rest());
    let (wanted, (known, _), control) = together(wanted, known, state, control)?;
    let mut store = Store::open(&config.daemon, "run")?;
    let plan = reconcile(&mut store, wanted, &options.on_progress)?;
    let globs = Globs::of(config);
    let own = store.baseline.own()?;
    drop(options.on_progress);

    tell_mended(&store.recovery);
    let told = plan.events;
    let left_over = leftovers::clear(&store, &known, &plan.records);
    drop(known);
    let baseline = store.baseline.clone();
    let mut guard = assemble(
        (store, globs, heritage),
        options.on_entry,
        (mailbox, &reports),
        Life::new(options.on_ready, (service, feeder)),
        InForce {
            config: config.clone(),
            file: options.config_file,
            listener: control.health_listener(),
            reports: reports.clone(),
            busy: false,
            again: false,
            refused: None,
            delivers: options.deliver,
        },
        &health,
    )?;
    guard.scribe.tell(Note::Patterns(guard.globs.texts()));
    for event in told {
        guard.scribe.tell(Note::Event(Box::new(event)));
    }
    let started = started(plan.records.len(), lived_until(&baseline));
    guard.scribe.tell(Note::Event(Box::new(started)));
    for note in left_over {
        guard.scribe.tell(note);
    }
    let knew_own = !own.is_empty();
    let own = guard.known_own(own, &plan.records);
    guard.guard_all(plan.records.into_iter().chain(own));
    guard.look_for_own(knew_own);
    guard.sensors.scan();
    guard.sensors.let_go();
    guard.see_all_whole();
    plan.warnings.iter().for_each(|warning| (options.on_warning)(warning));
    let ended = guard.run();
    finish(guard, control);
    if let Err(e) = baseline.end_run() {
        tracing::warn!("{e}; the next start takes this for a sudden end");
    }
    Ok(ended?)
}

fn assemble(
    (store, globs, heritage): (Store, Globs, Heritage),
    on_entry: Box<dyn Fn(&Entry) + Send>,
    (mailbox, reports): (Mailbox<Report>, &Mailer<Report>),
    life: Life,
    in_force: InForce,
    health: &Arc<Health>,
) -> Result<Guard, RunError> {
    let Store { state, baseline, vault, journal, quarantine, spool, lock, .. } = store;
    let config = &in_force.config;
    let delivery = in_force.delivery();
    let last_beat = baseline.heartbeat()?;
    let complaints = Complaints::continuing(baseline.complaints()?);
    let keeper = Keeper::new(&state, lock, &baseline, Arc::clone(&vault), reports.clone())?;
    let evidence = Arc::clone(&quarantine);
    let lineage = Arc::new(Lineage::default());
    let known = Arc::clone(&lineage);
    let desk =
        Desk { baseline, journal, spool, quarantine, keeper, delivery, lineage: known, on_entry };
    let scribe = Scribe::start(desk, Arc::clone(health))?;
    let sensors = Sensors::start(reports.clone(), &state, heritage, lineage);
    let stager = workers::stager(
        Arc::clone(&vault),
        (evidence, scribe.sender()),
        sensors.registrar(),
        reports.clone(),
        health.stager.clone(),
    )?;
    let witness = Witness::start(sensors.memory(), reports.clone())?;
    let questions = Questions::new(witness, Onlooker::start(reports.clone())?);
    Ok(Guard {
        engine: Engine::default(),
        stager,
        reader: workers::reader(Arc::clone(&vault), reports.clone(), health.reader.clone())?,
        sensors,
        sweep: Sweep::new(config.daemon.flag_sweep, config.daemon.content_sweep),
        complaints,
        canaries: Canaries::start(&state, Arc::clone(&vault), reports.clone())?,
        globs,
        own: Own::of(in_force.file.as_deref()),
        reports: mailbox,
        health: Arc::clone(health),
        life,
        in_force,
        last_beat,
        state,
        vault,
        scribe,
        questions,
        wards: FileMap::default(),
        next_id: 0,
        herd: Herd::default(),
        began: Instant::now(),
        queue: Queue::new(),
        lister: Lister::new(),
        line: Line::default(),
        pending: Vec::new(),
        lost: false,
        loss_told: HashMap::new(),
    })
}

fn open_control(
    config: &Config,
    health: &Arc<Health>,
    reports: &Mailer<Report>,
    handed: Option<OwnedFd>,
) -> Result<Control, ControlError> {
    let asked = Mutex::new(None::<Instant>);
    let asking = Mutex::new(reports.clone());
    let refresh = move |age: Duration| {
        let (Ok(mut asked), Ok(asking)) = (asked.lock(), asking.lock()) else { return };
        if asked.is_some_and(|at| at.elapsed() < age) {
            return;
        }
        *asked = Some(Instant::now());
        let (done, wait) = channel();
        asking.send(Report::Status(done));
        // A guard that is busy has said not long ago how things are.
        let _ = wait.recv_timeout(STATUS_PATIENCE);
    };
    let heard = Mutex::new(reports.clone());
    let alarm = move |why: String| {
        if let Ok(reports) = heard.lock() {
            reports.send(Report::Failed(Failure::ControlLost, why));
        }
    };
    let reports = Mutex::new(reports.clone());
    Control::start(
        At { path: &config.daemon.control, handed, listen: config.daemon.listen },
        (Arc::clone(health), Arc::new(refresh), Arc::new(alarm)),
        Arc::new(move |command, request, reply| {
            if let Ok(reports) = reports.lock() {
                reports.send(Report::Asked(command, request, reply));
            }
        }),
    )
}

/// Says that it stops, and leaves nothing unwritten. Whoever asks how it does is answered to
/// the last.
fn finish(mut guard: Guard, control: Control) {
    // Should the database have to be written anew after this, nobody is there to ask.
    guard.adopt_own_at_once();
    guard.scribe.tell(Note::Records(guard.records()));
    guard.beat();
    let starts_again = guard.hand_over();
    let Guard { stager, reader, scribe, health, life, .. } = guard;
    let deadline = Instant::now() + WORKERS;
    let ended = [reader.end(deadline), stager.end(deadline)].into_iter().all(|ended| ended);
    if !ended {
        tracing::warn!(
            "a worker did not come to an end; what it left is cleared at the next start"
        );
        health.counts.failure(Failure::UnfinishedAtStop);
    }
    let finished = ended && !life.is_unfinished();
    scribe.tell(Note::Event(Box::new(stopped(finished, starts_again))));
    if !scribe.flush(PATIENCE) {
        tracing::error!("not everything could be written before the end");
    }
    scribe.stop(Instant::now() + PATIENCE);
    drop(control);
}

pub(super) fn starting() -> Status {
    Status {
        state: State::Starting,
        pid: std::process::id(),
        since: Timestamp::now(),
        protected: 0,
        sensors: Vec::new(),
        windows: Vec::new(),
        open_incidents: 0,
        shortcomings: Vec::new(),
        worst_case_notice_ms: 0,
        selftest: None,
        own: Vec::new(),
    }
}

fn started(count: usize, lived: Option<Timestamp>) -> Event {
    let version = env!("CARGO_PKG_VERSION");
    let paths = if count == 1 { "path" } else { "paths" };
    let mut note = format!("version {version}, {count} {paths} protected");
    if let Some(lived) = lived {
        note.push_str(&format!("; the run before ended suddenly, after {lived:.3}"));
    }
    Event::new(Timestamp::now(), Kind::Started, Severity::Info).noting(note)
}

/// The last line of a run. Of one that left nothing `finished` the next start does not believe
/// that it told of all that it did.
fn stopped(finished: bool, starts_again: bool) -> Event {
    let severity = if finished { Severity::Info } else { Severity::Warning };
    let mut event = Event::new(Timestamp::now(), Kind::Stopped, severity);
    event.note = match (finished, starts_again) {
        (true, false) => None,
        (true, true) => Some("to start again: what happens until then is queued".to_owned()),
        (false, _) => Some("something was still under way: the next start tells of it".to_owned()),
    };
    event
}

/// Until when the run before is known to have lived, where it ended suddenly. This one begins.
fn lived_until(baseline: &Baseline) -> Option<Timestamp> {
    let begun = baseline.begin_run(Timestamp::now());
    begun.unwrap_or_else(|e| {
        // A full disk is no reason not to guard.
        tracing::warn!("{e}; whether the run before ended suddenly is not known");
        None
    })
}

/// What the journal's opening had to mend. What somebody did to it the scribe tells.
fn tell_mended(recovery: &Recovery) {
    let mended = recovery.findings.iter().filter(|finding| !finding.is_tampering());
    mended.for_each(|finding| tracing::warn!("{finding}"));
}
