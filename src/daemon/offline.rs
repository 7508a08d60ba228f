//! The commands that change something, where no daemon runs to ask.

use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;

use super::api::{Command, PathReport, Report, Request};
use super::protect;
use super::reconcile;
use super::store::Store;
use crate::baseline::{Origin, Record, snapshot};
use crate::config::{Config, canonical_path, resolve_path};
use crate::engine::Cure;
use crate::judge::{Policy, differences};
use crate::record::{Event, Kind, PathText, Severity};
use crate::respond::{self, Patient};

/// Carries out `command` on the state that `config` names. `progress` is called with the number
/// of paths done and of all.
///
/// # Errors
/// When the state cannot be used, or by whom it is in use. What concerns a single path is in
/// the report instead.
pub fn perform(
    config: &Config,
    command: Command,
    request: &Request,
    progress: &dyn Fn(u64, u64),
) -> anyhow::Result<Report> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "changing what is protected needs root: run it with sudo"
    );
    let mut paths = Vec::new();
    let mut report = Report::default();
    for asked in request.paths.iter().map(PathText::to_path) {
        match command {
            Command::Protect => match resolve_path(&asked, &config.daemon.state) {
                Ok(found) => paths.extend(found),
                Err(e) => report.paths.push(answer(&asked, Err(e.to_string()))),
            },
            _ => paths.push(canonical_path(&asked)),
        }
    }
    if command == Command::Protect && !report.paths.is_empty() {
        return Ok(report);
    }
    let mut store = Store::open(&config.daemon.state, "command")?;
    if command != Command::Protect {
        paths = below(&store, &paths)?;
    }
    let all = paths.len() as u64;
    for (done, path) in paths.iter().enumerate() {
        progress(done as u64, all);
        let outcome = match command {
            Command::Protect => take(&mut store, path, None),
            Command::Accept => take(&mut store, path, Some(request.reason.clone())),
            Command::Release => release(&mut store, path),
            Command::Restore => restore(&mut store, path),
        };
        report.paths.push(answer(path, outcome.map_err(|e| e.to_string())));
    }
    progress(all, all);
    Ok(report)
}

fn answer(path: &Path, outcome: Result<String, String>) -> PathReport {
    let done = outcome.is_ok();
    let message = outcome.unwrap_or_else(|why| why);
    PathReport { path: PathText::new(path), message, done }
}

/// Each path, and with a protected directory all protected below it.
fn below(store: &Store, paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let known = store.baseline.all()?;
    let mut all = Vec::new();
    for path in paths {
        let found: Vec<PathBuf> =
            known.iter().map(|r| r.path.clone()).filter(|p| p.starts_with(path)).collect();
        if found.is_empty() {
            all.push(path.clone());
        }
        all.extend(found);
    }
    Ok(all)
}

fn known(store: &Store, path: &Path) -> anyhow::Result<Record> {
    store
        .baseline
        .get(path)?
        .context("is not protected; 'steadfast protect PATH' takes it under protection")
}

/// Protects a path, or, with the reason for it, makes what is there known good.
fn take(
    store: &mut Store,
    path: &Path,
    accepted: Option<Option<String>>,
) -> anyhow::Result<String> {
    let before = store.baseline.get(path)?;
    let (policy, origin, kind) = match (&before, &accepted) {
        (Some(_), None) => return Ok("is protected already".into()),
        (None, Some(_)) => {
            anyhow::bail!("is not protected; 'steadfast protect PATH' takes it under protection")
        }
        (Some(record), Some(_)) => (record.policy, record.origin, Kind::Accepted),
        (None, None) => (Policy::default(), Origin::Command, Kind::Protected),
    };
    let record = protect::take(path, policy, origin, &store.vault, &|_| ())?;
    store.baseline.put(&record)?;
    if let Some(replica) = before.and_then(|record| record.replica) {
        let _ = respond::discard(&replica);
    }
    let mut event = Event::new(Timestamp::now(), kind, Severity::Info).about(path);
    event.note = accepted.clone().flatten();
    store.journal.append(&[event])?;
    Ok(match (accepted.is_some(), record.facts.keeps_immutable()) {
        (true, _) => "what is there now is known good".into(),
        (false, true) => "is protected, and immutable".to_owned(),
        (false, false) => "is protected, without the immutable bit".into(),
    })
}

fn release(store: &mut Store, path: &Path) -> anyhow::Result<String> {
    known(store, path)?;
    reconcile::release(&store.baseline, path)?;
    let event = Event::new(Timestamp::now(), Kind::Released, Severity::Info)
        .about(path)
        .noting("released by command");
    store.journal.append(&[event])?;
    Ok("is no longer protected".into())
}

fn restore(store: &mut Store, path: &Path) -> anyhow::Result<String> {
    let mut record = known(store, path)?;
    if let Ok(found) = snapshot::read_if_sized(path, record.facts.size)
        && differences(&record.facts, &found.facts, &record.policy).is_empty()
    {
        return Ok("is as it should be already".into());
    }
    let slot = respond::slot_directory(&record.mount_point.join("x"), &store.state)?;
    let patient = Patient {
        path: record.path.clone(),
        facts: record.facts.clone(),
        seal: record.seal,
        replica: None,
        parents: record.parents.clone(),
        mount_point: record.mount_point.clone(),
        layers: 1,
        pinned: false,
        shown: None,
    };
    let heal = |cure| respond::perform(cure, &patient, &store.vault, &slot, &mut |_, _| Ok(()));
    heal(Cure::PutBackParents);
    let outcome = heal(Cure::Replace);
    if let Some(from) = &outcome.evidence {
        let evidence = store.quarantine.take(from, path, "restored-by-command")?;
        store.baseline.add_evidence(&evidence)?;
    }
    let stat = outcome.conclude().map_err(anyhow::Error::msg)?;
    record.seal = stat;
    store.baseline.set_seal(path, stat.as_ref())?;
    let event = Event::new(Timestamp::now(), Kind::Restored, Severity::Info)
        .about(path)
        .noting("restored by command");
    store.journal.append(&[event])?;
    Ok("is as it should be again".into())
}
