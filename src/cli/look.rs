//! What there is to compare: the baseline, and the files as they are now.

use std::path::{Path, PathBuf};

use crate::baseline::{Baseline, Record, SnapshotError, snapshot};
use crate::config::{Config, canonical_path};
use crate::judge::{Common, Facts, FileKind, Stat, Xattrs};
use crate::sys;
use crate::text::escape_path;

use super::screen::Screen;

/// Content up to this size is read whatever size it should have, in bytes.
const SIZE_MODERATE: u64 = 64 * 1024 * 1024;

/// What is at a path.
pub(super) enum Sight {
    /// This.
    There(Box<Facts>),
    /// Nothing.
    Gone,
    /// Nothing of that name: a directory above it is a symbolic link now.
    Elsewhere,
    /// Something that cannot be read; the sentence says why.
    Unreadable(String),
}

/// Looks at one path. Nothing that can be there makes this block or go on for long: content is
/// read only up to the size it should have, or a moderate one. What is larger differs already.
pub(super) fn look(path: &Path, size: u64) -> Sight {
    let seen = snapshot::inspect(path).and_then(|facts| {
        let small = facts.kind == FileKind::File && facts.size <= size.max(SIZE_MODERATE);
        if small { snapshot::take(path, &|_| ()) } else { Ok(facts) }
    });
    match seen {
        Ok(facts) => Sight::There(Box::new(facts)),
        Err(SnapshotError::Missing(_)) => Sight::Gone,
        Err(SnapshotError::Symlinked(_)) => Sight::Elsewhere,
        Err(error @ SnapshotError::Unsuitable { .. }) => match sys::stat::stat(path) {
            Ok(stat) => Sight::There(Box::new(special(&stat))),
            Err(_) => Sight::Unreadable(error.to_string()),
        },
        Err(error) => Sight::Unreadable(error.to_string()),
    }
}

/// The facts of a pipe, socket or device, which is never opened.
fn special(stat: &Stat) -> Facts {
    Facts {
        size: 0,
        sha256: None,
        mtime: stat.mtime,
        ino: stat.ino,
        common: Common {
            kind: stat.kind,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            flags: None,
            xattrs: Xattrs::new(),
            nlink: stat.nlink,
            target: None,
            dev: stat.dev,
        }
        .into(),
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

/// Remarks that `path` is not protected, and not misspelt perhaps: nothing is on record about it.
pub(super) fn remark_unknown(screen: &Screen, config: &Config, path: &Path) {
    let known = Baseline::open_read_only(&config.daemon.state)
        .and_then(|baseline| baseline.all())
        .is_ok_and(|all| all.iter().any(|record| record.path.starts_with(path)));
    if !known {
        let path = escape_path(path);
        screen.remark(&format!("{path} is not protected, and nothing is on record about it"));
    }
}

/// The sentence for a path that the baseline does not know.
pub(super) fn not_protected(path: &Path) -> anyhow::Error {
    let shown = escape_path(path);
    match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            anyhow::anyhow!("{shown} does not exist, and is not protected: check the spelling")
        }
        _ => anyhow::anyhow!(
            "{shown} is not protected: 'steadfast protect PATH' takes it under protection"
        ),
    }
}
