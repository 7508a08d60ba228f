//! The commands that change something, where no daemon runs to ask.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;

use super::acceptance::{self, Known, Step};
use super::protect;
use crate::attribute::{Confidence, Named, procfs};
use crate::baseline::{Baseline, Origin, Record, snapshot};
use crate::config::{Config, canonical_path, resolve_path};
use crate::daemon::api::{Command, Gauge, PathReport, Progress, Report, Request};
use crate::daemon::guard::strangers;
use crate::daemon::start::reconcile;
use crate::daemon::store::Store;
use crate::judge::{FileKind, Policy, Seal, Unexpected, differences};
use crate::record::{Event, Kind, PathText, Severity};
use crate::respond::{self, Around, Patient};

/// What is to be done with one path.
enum Job {
    /// Take what is there as known good.
    Take(Policy, Origin),
    /// Stop protecting it, for this reason.
    Release(&'static str),
    /// Put the known-good copy back of what holds so many strangers.
    Restore(usize),
    /// A stranger goes to the quarantine.
    Evict,
    /// Nothing is left to do.
    Done(&'static str),
    /// Nothing can be done.
    Refuse(String),
}

type Jobs = Vec<(PathBuf, Job)>;

/// Carries out `command` on the state that `config` names. `progress` is told how far it
/// is.
///
/// # Errors
/// When the state cannot be used, or by whom it is in use. What concerns a single path is in
/// the report instead.
pub fn perform(
    config: &Config,
    command: Command,
    request: &Request,
    progress: &dyn Fn(Progress),
) -> anyhow::Result<Report> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "changing what is protected needs root: run it with sudo"
    );
    let asked: Vec<PathBuf> = request.paths.iter().map(PathText::to_path).collect();
    // What cannot be protected is found before the state is touched.
    anyhow::ensure!(command != Command::Selftest, "a self-test needs the daemon that it tests");
    let wanted = match command {
        Command::Protect => Some(resolve_all(&asked, &config.daemon.state)),
        _ => None,
    };
    if let Some(Err(report)) = wanted {
        return Ok(report);
    }
    if wanted.is_none() {
        // Where nothing was ever protected, nothing is made to say so.
        drop(Baseline::open_read_only(&config.daemon.state)?);
    }
    let mut store = Store::open(&config.daemon, "command")?;
    let known: BTreeMap<PathBuf, Record> =
        store.baseline.all()?.into_iter().map(|r| (r.path.to_path_buf(), r)).collect();
    let mut report = Report::default();
    let mut jobs = match wanted {
        Some(Ok(found)) => protect_jobs(found, &known),
        _ => jobs_below(command, &asked, &known, &store.state),
    };
    if command == Command::Restore {
        report.strangers = stranger_jobs(&mut jobs, &known, &store.state);
    }
    let gauge = Gauge::default();
    gauge.set_paths(jobs.len());
    let read = |bytes| {
        gauge.add_bytes(bytes);
        progress(gauge.read());
    };
    let accepted = (command == Command::Accept).then(|| request.reason.clone());
    for (path, job) in jobs {
        let outcome = carry_out(&mut store, config, &path, job, &accepted, &read);
        report.paths.push(answer(&path, outcome.map_err(|e| e.to_string())));
        gauge.path_done();
        progress(gauge.read());
    }
    Ok(report)
}

fn facts(record: &Record) -> Known {
    Known { policy: record.policy, origin: record.origin, kind: record.facts.kind }
}

fn resolve_all(asked: &[PathBuf], state: &Path) -> Result<Vec<PathBuf>, Report> {
    let (mut found, mut report) = (Vec::new(), Report::default());
    for path in asked {
        match resolve_path(path, state) {
            Ok(paths) => found.extend(paths),
            Err(e) => report.paths.push(answer(path, Err(e.to_string()))),
        }
    }
    if report.paths.is_empty() { Ok(found) } else { Err(report) }
}

fn protect_jobs(found: Vec<PathBuf>, known: &BTreeMap<PathBuf, Record>) -> Jobs {
    let with_job = |path: PathBuf| match known.contains_key(&path) {
        true => (path, Job::Done("is protected already")),
        false => (path, Job::Take(Policy::default(), Origin::Command)),
    };
    found.into_iter().map(with_job).collect()
}

/// What the command comes to for what is protected at and below each path.
fn jobs_below(
    command: Command,
    asked: &[PathBuf],
    known: &BTreeMap<PathBuf, Record>,
    state: &Path,
) -> Jobs {
    let facts = |path: &Path| known.get(path).map(facts);
    let mut jobs = Jobs::new();
    for path in asked.iter().map(|path| canonical_path(path)) {
        let below: Vec<PathBuf> = known.keys().filter(|p| p.starts_with(&path)).cloned().collect();
        match command {
            Command::Accept => match acceptance::plan(&path, &below, state, &facts) {
                Err(why) => jobs.push((path, Job::Refuse(why))),
                Ok(steps) => jobs.extend(steps.into_iter().map(|step| match step {
                    Step::Take(path, policy, origin) => (path, Job::Take(policy, origin)),
                    Step::Release(path) => (path, Job::Release(acceptance::ACCEPTED_GONE)),
                })),
            },
            _ if below.is_empty() => {
                let why = acceptance::not_protected(&path, &facts);
                jobs.push((path, Job::Refuse(why)));
            }
            Command::Release => match acceptance::must_stay(&path, &facts) {
                Some(why) => jobs.push((path, Job::Refuse(why))),
                None => jobs.extend(
                    below.into_iter().map(|path| (path, Job::Release(acceptance::BY_COMMAND))),
                ),
            },
            _ => jobs.extend(below.into_iter().map(|path| (path, Job::Restore(0)))),
        }
    }
    jobs
}

/// Strangers in the directories that are restored: those that are to go are planned for, and
/// those that stay are returned.
fn stranger_jobs(
    jobs: &mut Jobs,
    known: &BTreeMap<PathBuf, Record>,
    state: &Path,
) -> Vec<PathText> {
    let (mut staying, mut going) = (Vec::new(), Vec::new());
    for (path, job) in jobs.iter_mut() {
        let (Some(record), Job::Restore(holds)) = (known.get(path), job) else { continue };
        if record.facts.kind != FileKind::Directory {
            continue;
        }
        // One that is gone, or cannot be listed, is told of by its own job.
        let found = strangers::list(&record.path, state, |path| known.contains_key(path));
        let found = found.unwrap_or_default();
        *holds = found.len();
        match record.policy.unexpected {
            Unexpected::Report => staying.extend(found.iter().map(|path| PathText::new(path))),
            Unexpected::Quarantine => going.extend(found.into_iter().map(|p| (p, Job::Evict))),
        }
    }
    jobs.extend(going);
    staying
}

fn answer(path: &Path, outcome: Result<String, String>) -> PathReport {
    let done = outcome.is_ok();
    let message = outcome.unwrap_or_else(|why| why);
    PathReport { path: PathText::new(path), message, done }
}

fn carry_out(
    store: &mut Store,
    config: &Config,
    path: &Path,
    job: Job,
    accepted: &Option<Option<String>>,
    read: &dyn Fn(u64),
) -> anyhow::Result<String> {
    match job {
        Job::Take(policy, origin) => take(store, path, (policy, origin), accepted, read),
        Job::Release(why) => release(store, config, path, why),
        Job::Restore(holds) => restore(store, path).map(|said| strangers::but_for(said, holds)),
        Job::Evict => evict(store, path),
        Job::Done(message) => Ok(message.into()),
        Job::Refuse(why) => Err(anyhow::Error::msg(why)),
    }
}

/// The process that was given the command.
fn myself() -> Named {
    let actor = procfs::capture(std::process::id());
    actor.map(|actor| Named::in_command(actor, Confidence::Exact)).unwrap_or_default()
}

/// Makes what is there known good.
fn take(
    store: &mut Store,
    path: &Path,
    (policy, origin): (Policy, Origin),
    accepted: &Option<Option<String>>,
    read: &dyn Fn(u64),
) -> anyhow::Result<String> {
    let before = store.baseline.get(path)?;
    let known = before.is_some();
    let record = protect::take(path, policy, origin, &store.vault, read)
        .map_err(|e| anyhow::Error::msg(protect::refusal(&e, accepted)))?;
    // Before the baseline forgets it, or nobody would know later what it is.
    if let Some(replica) = before.and_then(|record| record.replica) {
        let _ = respond::discard(&replica);
    }
    store.baseline.put(&record)?;
    let event = protect::taken_event(path, known, accepted).asked_by(&myself());
    store.journal.append(&[event])?;
    Ok(protect::taken_message(&record, known))
}

fn release(store: &mut Store, config: &Config, path: &Path, why: &str) -> anyhow::Result<String> {
    reconcile::release(&store.baseline, path)?;
    let event = Event::new(Timestamp::now(), Kind::Released, Severity::Info);
    let event = event.about(path).noting(why).asked_by(&myself());
    store.journal.append(&[event])?;
    let known = |path: &Path| store.baseline.get(path).ok().flatten().map(|record| facts(&record));
    Ok(acceptance::released(path, why, config, &known))
}

/// Moves a stranger to the quarantine.
fn evict(store: &mut Store, path: &Path) -> anyhow::Result<String> {
    let slot = respond::slot_directory(path, &store.state)?;
    let taken = respond::take_out(path, &slot)?;
    let evidence = store.quarantine.take(&taken, path, respond::BY_COMMAND)?;
    store.baseline.add_evidence(&evidence)?;
    let event = Event::new(Timestamp::now(), Kind::Created, Severity::Warning)
        .about(path)
        .noting("it did not belong in this protected directory and was moved to the quarantine");
    store.journal.append(&[event])?;
    Ok("did not belong there, and is in the quarantine now".into())
}

fn restore(store: &mut Store, path: &Path) -> anyhow::Result<String> {
    let mut record = store.baseline.get(path)?.context("is not protected")?;
    if let Ok(found) = snapshot::read_if_sized(path, record.facts.size)
        && differences(&record.facts, &found.facts, &record.policy).is_empty()
    {
        return Ok("is as it should be already".into());
    }
    let slot = respond::slot_directory(&record.mount_point.join("x"), &store.state)?;
    let patient = Patient {
        itself: None,
        path: Arc::clone(&record.path),
        facts: record.facts.clone().into(),
        seal: record.seal.map(|seal| Seal::of(seal, &record.facts)),
        replica: None,
        around: Arc::new(Around {
            parents: record.parents.clone(),
            mount_point: Arc::clone(&record.mount_point),
            layers: 1,
        }),
        pinned: false,
        shown: None,
    };
    let outcome = super::restore::heal(&patient, &mut |cure| {
        respond::perform(cure, &patient, &store.vault, &slot, &mut |_, _| Ok(()))
    });
    for from in &outcome.evidence {
        let evidence = store.quarantine.take(from, path, respond::BY_COMMAND)?;
        store.baseline.add_evidence(&evidence)?;
    }
    let stat = outcome.conclude().map_err(anyhow::Error::msg)?;
    record.seal = stat;
    record.parents = respond::known_anew(&patient);
    store.baseline.put(&record)?;
    let event = Event::new(Timestamp::now(), Kind::Restored, Severity::Info)
        .about(path)
        .noting("restored by command");
    store.journal.append(&[event])?;
    Ok("is as it should be again".into())
}
