//! Strangers: what is in a protected directory and not in the baseline.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::baseline::{Baseline, Record};
use crate::config::{Config, is_own};
use crate::judge::FileKind;
use crate::text::escape_path;

/// More strangers than this in one directory are told as that.
const STRANGERS_MAX: usize = 10_000;

/// The strangers in those of `records` that are directories, and sentences about directories
/// that could not be read.
///
/// A stranger that is a directory stands for everything in it. Pipes and sockets are left out:
/// they hold no content, and were passed by when the directory was protected.
pub(super) fn find(
    records: &[Record],
    config: &Config,
) -> anyhow::Result<(Vec<PathBuf>, Vec<String>)> {
    let directories: Vec<&Path> = records
        .iter()
        .filter(|record| record.facts.kind == FileKind::Directory)
        .map(|record| record.path.as_path())
        .collect();
    if directories.is_empty() {
        return Ok(Default::default());
    }
    // All of the baseline, since `records` may be a part of it.
    let all = Baseline::open_read_only(&config.daemon.state)?.all()?;
    let known: BTreeSet<&Path> = all
        .iter()
        .flat_map(|one| [Some(one.path.as_path()), one.replica.as_ref().map(|r| r.path.as_path())])
        .flatten()
        .collect();
    let state = config.daemon.state.canonicalize().unwrap_or(config.daemon.state.clone());
    let (mut found, mut troubles) = (Vec::new(), Vec::new());
    for directory in directories {
        match list(directory, |path| !known.contains(path) && !is_own(path, &state)) {
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

fn list(directory: &Path, is_strange: impl Fn(&Path) -> bool) -> std::io::Result<Vec<PathBuf>> {
    // A link that was put in the directory's place leads elsewhere.
    if !directory.symlink_metadata()?.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(directory)?.filter_map(|entry| {
        let entry = entry.ok()?;
        let kind = entry.file_type().ok()?;
        let path = entry.path();
        (!kind.is_fifo() && !kind.is_socket() && is_strange(&path)).then_some(path)
    });
    Ok(entries.take(STRANGERS_MAX).collect())
}
