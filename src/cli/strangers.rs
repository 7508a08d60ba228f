//! Strangers: what is in a protected directory and not in the baseline.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::baseline::{Baseline, Record};
use crate::config::Config;
use crate::daemon::strangers::{STRANGERS_MAX, list};
use crate::judge::FileKind;
use crate::text::escape_path;

/// The strangers in those of `records` that are directories, and sentences about directories
/// that could not be read.
///
pub(super) fn find(
    records: &[Record],
    config: &Config,
) -> anyhow::Result<(Vec<PathBuf>, Vec<String>)> {
    let directories: Vec<&Path> = records
        .iter()
        .filter(|record| record.facts.kind == FileKind::Directory)
        .map(|record| &*record.path)
        .collect();
    if directories.is_empty() {
        return Ok(Default::default());
    }
    // All of the baseline, since `records` may be a part of it.
    let all = Baseline::open_read_only(&config.daemon.state)?.all()?;
    let known: BTreeSet<&Path> = all
        .iter()
        .flat_map(|one| [Some(&*one.path), one.replica.as_ref().map(|r| r.path.as_path())])
        .flatten()
        .collect();
    let state = config.daemon.state.canonicalize().unwrap_or(config.daemon.state.clone());
    let (mut found, mut troubles) = (Vec::new(), Vec::new());
    for directory in directories {
        match list(directory, &state, |path| known.contains(path)) {
            Ok(strangers) => {
                if strangers.len() == STRANGERS_MAX {
                    troubles.push(format!(
                        "{} holds {STRANGERS_MAX} strangers or more: only so many are told",
                        escape_path(directory)
                    ));
                }
                found.extend(strangers);
            }
            // A protected directory that is gone, or no directory any more, is drift itself.
            Err(error) if matches!(error.kind(), std::io::ErrorKind::PermissionDenied) => {
                troubles.push(format!("{} cannot be listed: {error}", escape_path(directory)));
            }
            Err(_) => {}
        }
    }
    Ok((found, troubles))
}
