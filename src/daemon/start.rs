//! From a configuration to a guard on duty, and from there to an orderly end.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use super::api::{Progress, State, Status};
use super::control::{Control, ControlError};
use super::guard::{Guard, Parts};
use super::keeper::Keeper;
use super::leftovers;
use super::lock::StateLock;
use super::reconcile::reconcile;
use super::scribe::{Desk, Note, Scribe};
use super::selftest::Canaries;
use super::sensors::Sensors;
use super::signals;
use super::store::{Store, StoreError};
use super::sweep::Sweep;
use super::wake::{Mailbox, Mailer};
use super::wanted::{Obstacles, Wanted};
use super::workers::{self, Report};
use crate::alert::Supervisor;
use crate::baseline::{Baseline, BaselineError, Record};
use crate::config::Config;
use crate::record::{Entry, Event, Finding, Kind, Recovery, Severity};

/// Told once, when the guard is on duty.
pub type OnReady = Box<dyn FnOnce(&Status, &[String])>;

/// How the daemon is run.
pub struct RunOptions {
    /// Paths named on the command line.
    pub protect: Vec<PathBuf>,
    /// The configuration file, for the mail process to read the same.
    pub config_file: Option<PathBuf>,
    /// Called with every journal line, once it is on the disk.
    pub on_entry: Box<dyn Fn(&Entry) + Send>,
    /// Called while paths are taken under protection.
    pub on_progress: Box<dyn Fn(Progress)>,
    /// Called once the guard is on duty, with what a person should know.
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

/// The end of the daemon waits this long for the disk.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let known = known(&config.daemon.state)?;
    let wanted = Wanted::of(config, &options.protect, &known)?;
    let (reports, mailbox) = Mailbox::new()?;
    signals::listen(reports.clone())?;
    let status = Arc::new(Mutex::new(starting()));
    // Nothing is touched where another daemon has the state, or answers on the socket.
    StateLock::probe(&config.daemon.state).map_err(StoreError::from)?;
    let control = open_control(config, &status, &reports)?;
    let mut store = Store::open(&config.daemon.state, "run")?;
    let plan = reconcile(&mut store, wanted, &options.on_progress)?;
    drop(options.on_progress);

    let mut told = recovered(&store.recovery);
    told.extend(plan.events);
    let left_over = leftovers::clear(&store, &known, &plan.records);
    let mut guard = assemble(
        config,
        store,
        &options.config_file,
        options.on_entry,
        mailbox,
        &reports,
        &status,
    )?;
    for event in told {
        guard.scribe.tell(Note::Event(Box::new(event)));
    }
    guard.scribe.tell(Note::Event(Box::new(started(plan.records.len()))));
    for note in left_over {
        guard.scribe.tell(note);
    }
    for record in plan.records {
        guard.guard(record);
    }
    guard.sensors.scan();
    guard.see_all_whole();
    guard.publish(State::Watching);
    if let Ok(status) = status.lock() {
        (options.on_ready)(&status, &plan.warnings);
    }
    let ended = guard.run();
    finish(guard, control);
    Ok(ended?)
}

/// What is protected already, without touching anything.
fn known(state: &Path) -> Result<Vec<Record>, BaselineError> {
    match Baseline::open_read_only(state) {
        Ok(baseline) => {
            let mut all = baseline.all()?;
            all.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(all)
        }
        Err(BaselineError::Missing { .. }) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn assemble(
    config: &Config,
    store: Store,
    config_file: &Option<PathBuf>,
    on_entry: Box<dyn Fn(&Entry) + Send>,
    mailbox: Mailbox<Report>,
    reports: &Mailer<Report>,
    status: &Arc<Mutex<Status>>,
) -> Result<Guard, RunError> {
    let Store { state, baseline, vault, journal, quarantine, spool, lock, .. } = store;
    let deliverer = config.email.is_some().then(|| Supervisor::new(config_file.clone()));
    let quarantine_too = Arc::clone(&quarantine);
    let last_beat = baseline.heartbeat()?;
    let keeper = Keeper::new(&state, lock, &baseline, Arc::clone(&vault), reports.clone())?;
    let desk = Desk { baseline, journal, spool, quarantine, keeper, deliverer, on_entry };
    let scribe = Scribe::start(desk)?;
    let sensors = Sensors::start(reports.clone(), &state);
    let parts = Parts {
        stager: workers::stager(
            Arc::clone(&vault),
            quarantine_too,
            scribe.sender(),
            sensors.registrar(),
            reports.clone(),
        )?,
        reader: workers::reader(Arc::clone(&vault), reports.clone())?,
        sensors,
        sweep: Sweep::new(config.daemon.flag_sweep, config.daemon.content_sweep),
        canaries: Canaries::start(&state, Arc::clone(&vault), reports.clone())?,
        reports: mailbox,
        status: Arc::clone(status),
        last_beat,
        state,
        vault,
        scribe,
    };
    Ok(Guard::new(parts))
}

fn open_control(
    config: &Config,
    status: &Arc<Mutex<Status>>,
    reports: &Mailer<Report>,
) -> Result<Control, ControlError> {
    let status = Arc::clone(status);
    let asking = Mutex::new(reports.clone());
    let reports = Mutex::new(reports.clone());
    Control::start(
        &config.daemon.control,
        Arc::new(move || {
            let (done, wait) = channel();
            if let Ok(asking) = asking.lock() {
                asking.send(Report::Status(done));
            }
            // A guard that is busy has said not long ago how things are.
            let _ = wait.recv_timeout(STATUS_PATIENCE);
            match status.lock() {
                Ok(status) => status.clone(),
                Err(broken) => broken.into_inner().clone(),
            }
        }),
        Arc::new(move |command, request, reply| {
            if let Ok(reports) = reports.lock() {
                reports.send(Report::Asked(command, request, reply));
            }
        }),
        config.daemon.listen,
    )
}

/// Says that it stops, and leaves nothing unwritten.
fn finish(mut guard: Guard, control: Control) {
    guard.publish(State::Draining);
    guard.beat();
    drop(control);
    let Guard { stager, reader, scribe, .. } = guard;
    drop((reader, stager));
    let stopped = Event::new(Timestamp::now(), Kind::Stopped, Severity::Info);
    scribe.tell(Note::Event(Box::new(stopped)));
    if !scribe.flush(PATIENCE) {
        tracing::error!("not everything could be written before the end");
    }
    scribe.stop();
}

fn starting() -> Status {
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
    }
}

fn started(count: usize) -> Event {
    let version = env!("CARGO_PKG_VERSION");
    let paths = if count == 1 { "path" } else { "paths" };
    Event::new(Timestamp::now(), Kind::Started, Severity::Info)
        .noting(format!("version {version}, {count} {paths} protected"))
}

/// What the journal's opening had to mend is itself worth a line.
fn recovered(recovery: &Recovery) -> Vec<Event> {
    let now = Timestamp::now();
    let (tampered, mended): (Vec<_>, Vec<_>) =
        recovery.findings.iter().partition(|finding| finding.is_tampering());
    mended.iter().for_each(|finding| tracing::warn!("{finding}"));
    let line = |finding: &&Finding| {
        Event::new(now, Kind::DriftFound, Severity::Critical).noting(finding.to_string())
    };
    tampered.iter().map(line).collect()
}
