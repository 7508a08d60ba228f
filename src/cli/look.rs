//! What there is to compare: the baseline, and the files as they are now.

use std::io;
use std::path::{Path, PathBuf};

use crate::baseline::{Baseline, Record, snapshot};
use crate::config::{Config, canonical_path};
use crate::judge::Facts;
use crate::sys;
use crate::text::escape_path;

/// What is at a path.
pub(super) enum Sight {
    /// This.
    There(Box<Facts>),
    /// Nothing.
    Gone,
    /// Something that cannot be read; the sentence says why.
    Unreadable(String),
}

/// Looks at one path, content and all. Nothing that can be there makes this block.
pub(super) fn look(path: &Path) -> Sight {
    match snapshot::take(path, &|_| ()) {
        Ok(facts) => Sight::There(Box::new(facts)),
        Err(error) => match sys::stat::stat(path) {
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Sight::Gone
            }
            _ => Sight::Unreadable(error.to_string()),
        },
    }
}

/// The records that `paths` are about: each path itself, and what is below it. All of them
/// where none is named.
pub(super) fn chosen(config: &Config, paths: &[PathBuf]) -> anyhow::Result<Vec<Record>> {
    let mut records = Baseline::open_read_only(&config.daemon.state)?.all()?;
    if paths.is_empty() {
        return Ok(records);
    }
    let wanted = paths
        .iter()
        .map(|path| anyhow::Ok(canonical_path(&super::absolute(path)?)))
        .collect::<Result<Vec<_>, _>>()?;
    for path in &wanted {
        if !records.iter().any(|record| record.path.starts_with(path)) {
            return Err(not_protected(path));
        }
    }
    records.retain(|record| wanted.iter().any(|path| record.path.starts_with(path)));
    Ok(records)
}

/// The sentence for a path that the baseline does not know.
pub(super) fn not_protected(path: &Path) -> anyhow::Error {
    let path = escape_path(path);
    anyhow::anyhow!("{path} is not protected: 'steadfast protect PATH' takes it under protection")
}
