//! Bringing the baseline in line with the configuration: what is new is taken under
//! protection, what left the configuration is released, what a person named by hand stays.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::wanted::{Obstacles, Wanted};
use crate::baseline::{Baseline, BaselineError, Origin, Record, Vault};
use crate::daemon::api::{Gauge, Progress};
use crate::daemon::commands::protect::{self, ProtectError};
use crate::daemon::store::Store;
use crate::judge::{Digest, Policy};
use crate::record::{Event, Kind, Severity};

/// Said where there is nothing to guard.
const NOTHING: &str = "nothing is protected yet: 'steadfast protect PATH', or a [[protect]] table in the \
     configuration, begins";

/// More new paths than this wait for the disk together.
const MANY: usize = 16;

/// What is to be guarded, and what to put on record about how it came to that.
#[derive(Debug, Default)]
pub struct Plan {
    /// Every protected path.
    pub records: Vec<Record>,
    /// What changed.
    pub events: Vec<Event>,
    /// What to tell whoever starts the daemon.
    pub warnings: Vec<String>,
}

/// Brings the baseline in line with what is wanted. `progress` is told how far it is.
///
/// # Errors
/// When a path cannot be taken under protection, or the database cannot be written. Paths that
/// were taken before the failure are let go again.
pub fn reconcile(
    store: &mut Store,
    wanted: Wanted,
    progress: &dyn Fn(Progress),
) -> Result<Plan, Obstacles> {
    let told = |e: BaselineError| Obstacles(vec![e.to_string()]);
    let mut known: HashMap<Arc<Path>, Record> =
        store.baseline.all().map_err(told)?.into_iter().map(|r| (r.path.clone(), r)).collect();
    let mut plan = Plan { warnings: wanted.warnings, ..Plan::default() };
    let all = wanted
        .configured
        .iter()
        .map(|(path, policy)| (path, *policy, Origin::Configuration))
        .chain(wanted.named.iter().map(|path| (path, Policy::default(), Origin::Command)));
    let mut taken: Vec<Record> = Vec::new();
    let mut above = None;
    let mut seen = HashSet::new();
    let mut obstacles = Vec::new();
    let new = all.filter(|(path, ..)| !known.contains_key(path.as_path()) && seen.insert(*path));
    let mut new: Vec<_> = new.collect();
    // What is in one directory one after the other: it has the same directories above.
    new.sort_by_key(|(path, ..)| *path);
    let gauge = Gauge::default();
    gauge.set_paths(new.len());
    let read = |bytes| {
        gauge.add_bytes(bytes);
        progress(gauge.read());
    };
    // Each by itself would wait for the disk, twice.
    let many = new.len() > MANY;
    if many {
        store.vault.put_off();
    }
    for (path, policy, origin) in new {
        match protect::take(path, policy, origin, &store.vault, &read) {
            Ok(record) => taken.push(record.sharing(&mut above)),
            Err(e) => obstacles.push(e.to_string()),
        }
        gauge.path_done();
        progress(gauge.read());
    }
    if many {
        obstacles.extend(store.vault.settle().err().map(|e| e.to_string()));
    }
    if obstacles.is_empty()
        && let Err(e) = store.baseline.put_all(&taken)
    {
        obstacles.push(e.to_string());
    }
    if !obstacles.is_empty() {
        taken.iter().for_each(|record| drop(protect::unlock(&record.path)));
        return Err(Obstacles(obstacles));
    }
    taken.sort_by(|a, b| a.path.cmp(&b.path));
    plan.events.extend(taken.iter().map(|r| event(Kind::Protected, &r.path)));
    let gone: Vec<Arc<Path>> = known
        .values()
        .filter(|r| r.origin == Origin::Configuration && !wanted.configured.contains_key(&*r.path))
        .map(|r| r.path.clone())
        .collect();
    for path in gone {
        match release(&store.baseline, &path) {
            Ok(()) => drop(known.remove(&path)),
            Err(ReleaseError::Locked(why)) => {
                plan.warnings.push(format!("{why} (it is no longer in the configuration)"));
                continue;
            }
            Err(ReleaseError::Baseline(e)) => return Err(told(e)),
        }
        plan.events
            .push(event(Kind::Released, &path).noting("it is no longer in the configuration"));
    }
    for record in known.values_mut() {
        let policy = wanted.configured.get(&*record.path).copied().unwrap_or(record.policy);
        if record.policy != policy {
            change_policy(record, policy, &store.vault)
                .map_err(|e| Obstacles(vec![e.to_string()]))?;
            store.baseline.put(record).map_err(told)?;
        }
    }
    forget_unused(store, known.values().chain(&taken));
    plan.records = known.into_values().chain(taken).collect();
    if plan.records.is_empty() {
        plan.warnings.push(NOTHING.to_owned());
    }
    // What is in a directory before the directory: it has to be known when strangers are
    // looked for.
    plan.records.sort_by(|a, b| b.path.cmp(&a.path));
    Ok(plan)
}

/// Removes content from the vault that no record needs any more.
fn forget_unused<'a>(store: &Store, records: impl Iterator<Item = &'a Record>) {
    let used: HashSet<Digest> = records.filter_map(|record| record.facts.sha256).collect();
    if let Err(e) = store.vault.retain(|digest| used.contains(digest)) {
        tracing::warn!("{e}");
    }
}

/// The owner wants something else for a file that is protected already.
fn change_policy(record: &mut Record, policy: Policy, vault: &Vault) -> Result<(), ProtectError> {
    if record.policy.immutable != policy.immutable {
        let _ = protect::unlock(&record.path);
        let anew = protect::take(&record.path, policy, record.origin, vault, &|_| ())?;
        if anew.facts.sha256 == record.facts.sha256 {
            record.facts.flags = anew.facts.flags;
            record.seal = anew.seal;
        } else {
            record.seal = None;
        }
    }
    record.policy = policy;
    Ok(())
}

/// Why a path could not be let go. It is protected as before.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The bit cannot be cleared; the sentence says of what, and why.
    #[error("{0}")]
    Locked(String),
    /// The database cannot be written.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
}

/// Lets a path go: the bit is cleared, and then the baseline forgets it.
///
/// # Errors
/// When one of these cannot be done.
pub fn release(baseline: &Baseline, path: &Path) -> Result<(), ReleaseError> {
    let Some(record) = baseline.get(path)? else { return Ok(()) };
    if record.facts.keeps_immutable() {
        protect::unlock(path).map_err(|e| ReleaseError::Locked(protect::still_locked(path, &e)))?;
    }
    // Before the baseline forgets it, or nobody would know later what it is.
    if let Some(replica) = &record.replica
        && let Err(e) = crate::respond::discard(replica)
    {
        tracing::warn!("{} is left over: {e}", crate::text::escape_path(&replica.path));
    }
    baseline.remove(path)?;
    Ok(())
}

fn event(kind: Kind, path: &Path) -> Event {
    Event::new(Timestamp::now(), kind, Severity::Info).about(path)
}
