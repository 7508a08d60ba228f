//! Everything of a reload that can fail or takes time, on a thread of its own: while the file is
//! read, checked and resolved and what is new is taken, the guard guards as before.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::baseline::{Baseline, BaselineError, Origin, Patterns, Record, Vault};
use crate::config::{Config, LoadError, USUAL_FILE};
use crate::daemon::commands::protect;
use crate::daemon::control::bind_health;
use crate::daemon::start::wanted::Wanted;
use crate::judge::Policy;
use crate::text::escape_path;

/// What is needed to prepare.
pub(super) struct Preparation {
    /// The file, if it is not the usual one.
    pub file: Option<PathBuf>,
    /// What is in force.
    pub old: Config,
    /// Where the state is.
    pub state: PathBuf,
    /// Where known-good copies go.
    pub vault: Arc<Vault>,
}

/// A configuration that can be put in force at once.
#[derive(Debug)]
pub struct Prepared {
    /// It.
    pub config: Config,
    /// What it wants protected.
    pub wanted: HashMap<PathBuf, Policy>,
    /// What of that is new.
    pub taken: Vec<Record>,
    /// Where health is served from now on, if that changes.
    pub listener: Option<Option<TcpListener>>,
    /// What is worth saying.
    pub warnings: Vec<String>,
}

/// Reads and checks the configuration and takes what is new.
///
/// # Errors
/// Everything that is wrong, for a person. Then nothing is changed.
pub(super) fn prepare(with: &Preparation) -> Result<Prepared, String> {
    let config = load(with.file.as_deref())?;
    let fixed = unchangeable(&with.old, &config);
    let (known, patterns) = known(&with.state).map_err(|e| e.to_string())?;
    let resolved = Wanted::of(&config, &[], &known, &patterns);
    let listener = listener(&with.old, &config);
    let mut problems = fixed;
    problems.extend(resolved.as_ref().err().map(ToString::to_string));
    problems.extend(listener.as_ref().err().cloned());
    let (Ok(resolved), Ok(listener), true) = (resolved, listener, problems.is_empty()) else {
        return Err(problems.join("\n"));
    };
    let taken = take_new(&resolved, &known, &with.vault)?;
    let Wanted { configured, warnings, .. } = resolved;
    Ok(Prepared { config, wanted: configured, taken, listener, warnings })
}

fn load(file: Option<&Path>) -> Result<Config, String> {
    let path = file.unwrap_or(Path::new(USUAL_FILE));
    Config::load(path).map_err(|error| match error {
        LoadError::Unreadable { missing: true, path, .. } => format!(
            "the configuration {} is gone: put it back, or stop the daemon",
            escape_path(&path)
        ),
        error => error.to_string(),
    })
}

/// What the daemon holds on to from its start to its end.
fn unchangeable(old: &Config, new: &Config) -> Vec<String> {
    let pairs = [
        ("state", &old.daemon.state, &new.daemon.state),
        ("control", &old.daemon.control, &new.daemon.control),
    ];
    let changed = pairs.iter().filter(|(_, old, new)| old != new);
    changed
        .map(|(key, old, new)| {
            format!(
                "`{key}` cannot change from {} to {} while the daemon runs: restart it",
                escape_path(old),
                escape_path(new)
            )
        })
        .collect()
}

fn known(state: &Path) -> Result<(Vec<Record>, Patterns), BaselineError> {
    let baseline = Baseline::open_read_only(state)?;
    let mut all = baseline.all()?;
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((all, baseline.patterns()?))
}

fn listener(old: &Config, new: &Config) -> Result<Option<Option<TcpListener>>, String> {
    if old.daemon.listen == new.daemon.listen {
        return Ok(None);
    }
    let bound = new.daemon.listen.map(bind_health).transpose();
    bound.map(Some).map_err(|e| e.to_string())
}

/// Takes what nobody guards yet, all or nothing.
fn take_new(wanted: &Wanted, known: &[Record], vault: &Vault) -> Result<Vec<Record>, String> {
    let is_new = |path: &Path| known.binary_search_by(|record| (*record.path).cmp(path)).is_err();
    let (mut taken, mut problems) = (Vec::new(), Vec::new());
    for (path, policy) in wanted.configured.iter().filter(|(path, _)| is_new(path)) {
        match protect::take(path, *policy, Origin::Configuration, vault, &|_| ()) {
            Ok(record) => taken.push(record),
            Err(e) => problems.push(e.to_string()),
        }
    }
    if problems.is_empty() {
        // What is in a directory before the directory.
        taken.sort_by(|a, b| b.path.cmp(&a.path));
        return Ok(taken);
    }
    for record in taken.iter().filter(|record| record.facts.keeps_immutable()) {
        // One that stays locked is told of by whoever finds it so; it is not protected.
        let _ = protect::unlock(&record.path);
    }
    Err(problems.join("\n"))
}
