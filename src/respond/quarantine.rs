//! What was taken out of a protected place, kept for whoever has to understand it.
//!
//! Everything is found in one directory of the state. What lies on another filesystem stays
//! there, in the slot it was exchanged into, and the directory has a symlink to it: evidence
//! is never copied, however large it is. Bounded by age and by the space it takes.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::unlock::unlock_fd;
use crate::baseline::Evidence;
use crate::fault::{Point, reach};
use crate::judge::FileKind;
use crate::sys;

/// At most this much is kept, in bytes on the disk; the oldest goes first.
const MOST_BYTES: u64 = 1 << 30;
/// Nothing is kept for longer than this.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why evidence could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep {} in the quarantine: {source}", crate::text::escape_path(.path))]
pub struct QuarantineError {
    path: PathBuf,
    source: io::Error,
}

/// The quarantine of one state directory.
#[derive(Debug)]
pub struct Quarantine {
    dir: PathBuf,
}

impl Quarantine {
    /// Opens the quarantine below `state`, and makes it, for root alone, where it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(state: &Path) -> Result<Self, QuarantineError> {
        let dir = state.join("quarantine");
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(QuarantineError { path: dir, source })
            }
            _ => Ok(Self { dir }),
        }
    }

    /// Takes what lies at `from`, which came from the protected `path`.
    ///
    /// # Errors
    /// When it can be neither moved nor linked to.
    pub fn take(
        &self,
        from: &Path,
        path: &Path,
        incident: &str,
    ) -> Result<Evidence, QuarantineError> {
        let failed = |source| QuarantineError { path: from.to_owned(), source };
        let (kind, size, blocks) = measure(from).map_err(failed)?;
        let location = self.fresh(incident);
        match rename(from, &location) {
            Err(e) if e.raw_os_error() == Some(libc::EXDEV) => {
                std::os::unix::fs::symlink(from, &location).map_err(failed)?;
            }
            moved => moved.map_err(failed)?,
        }
        reach(Point::EvidenceTaken);
        Ok(Evidence {
            id: 0,
            incident: incident.to_owned(),
            path: path.to_owned(),
            location,
            kind,
            size,
            blocks,
            taken_at: Timestamp::now(),
        })
    }

    /// What has to go for the bounds to hold: `kept` is the whole index, the oldest first.
    #[must_use]
    pub fn surplus(kept: &[Evidence], now: Timestamp) -> Vec<Evidence> {
        let mut bytes: u64 = kept.iter().map(|e| e.blocks.saturating_mul(512)).sum();
        let too_old = |e: &Evidence| {
            u64::try_from(now.duration_since(e.taken_at).as_secs())
                .is_ok_and(|age| age > LONGEST.as_secs())
        };
        kept.iter()
            .take_while(|e| {
                let goes = bytes > MOST_BYTES || too_old(e);
                bytes = bytes.saturating_sub(e.blocks.saturating_mul(512));
                goes
            })
            .cloned()
            .collect()
    }

    /// Removes one piece of evidence for good.
    ///
    /// # Errors
    /// When it cannot be removed; one that is gone already is none.
    pub fn remove(&self, evidence: &Evidence) -> Result<(), QuarantineError> {
        for path in [&evidence.lies_at(), &evidence.location] {
            match remove_path(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(QuarantineError { path: path.clone(), source: e });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What lies here and is not in the index, `known`: the run that took it ended before it
    /// could be entered. Links into one of the `slots` are followed. Which path it came from is
    /// for the caller to find out, by the incident that its name tells.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn unlisted(
        &self,
        known: &HashSet<PathBuf>,
        slots: &BTreeSet<PathBuf>,
    ) -> Result<Vec<Evidence>, QuarantineError> {
        let failed = |source| QuarantineError { path: self.dir.clone(), source };
        let entries = std::fs::read_dir(&self.dir).map_err(failed)?;
        let locations = entries.filter_map(Result::ok).map(|entry| entry.path());
        let adopt = |location: PathBuf| {
            let into_slot = |to: &PathBuf| to.parent().is_some_and(|dir| slots.contains(dir));
            let elsewhere = std::fs::read_link(&location).ok().filter(into_slot);
            let (kind, size, blocks) = measure(elsewhere.as_ref().unwrap_or(&location)).ok()?;
            let name = location.file_name()?.to_string_lossy();
            let incident = name.rsplit_once('-').map_or(name.as_ref(), |(id, _)| id).to_owned();
            let (path, taken_at) = (PathBuf::new(), Timestamp::now());
            Some(Evidence { id: 0, incident, path, location, kind, size, blocks, taken_at })
        };
        Ok(locations.filter(|location| !known.contains(location)).filter_map(adopt).collect())
    }

    fn fresh(&self, incident: &str) -> PathBuf {
        let mut count = 0_u32;
        loop {
            let path = self.dir.join(format!("{incident}-{count}"));
            if std::fs::symlink_metadata(&path).is_err() {
                return path;
            }
            count += 1;
        }
    }
}

fn measure(path: &Path) -> io::Result<(FileKind, u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    let kind = FileKind::from_mode(meta.mode()).unwrap_or(FileKind::File);
    Ok((kind, meta.size(), meta.blocks()))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let parts = |path: &Path| {
        let name = path.file_name().map(ToOwned::to_owned);
        Ok::<_, io::Error>((
            sys::open::open_dir(path.parent().unwrap_or(Path::new("/")))?,
            name.ok_or(io::ErrorKind::InvalidInput)?,
        ))
    };
    let ((from_dir, from_name), (to_dir, to_name)) = (parts(from)?, parts(to)?);
    unlock_fd(sys::open::open_path_at(from_dir.as_fd(), &from_name)?.as_fd())?;
    sys::rename::place(from_dir.as_fd(), &from_name, to_dir.as_fd(), &to_name)
}

/// Removes whatever lies at `path`, a directory with all that is in it.
///
/// # Errors
/// As `unlink` has them.
pub fn remove_path(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path)?.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(id: u64, blocks: u64, taken_at: Timestamp) -> Evidence {
        Evidence {
            id,
            incident: String::new(),
            path: PathBuf::new(),
            location: PathBuf::new(),
            kind: FileKind::File,
            size: 0,
            blocks,
            taken_at,
        }
    }

    #[test]
    fn the_oldest_goes_first_and_only_as_much_as_has_to() {
        let now = Timestamp::now();
        let half = MOST_BYTES / 512 / 2;
        let kept = [piece(1, half, now), piece(2, half, now), piece(3, half, now)];
        let gone: Vec<u64> = Quarantine::surplus(&kept, now).iter().map(|e| e.id).collect();
        assert_eq!(gone, [1]);
    }

    #[test]
    fn what_is_a_month_old_goes() {
        let now = Timestamp::now();
        let old = now - jiff::SignedDuration::from_hours(24 * 31);
        let kept = [piece(1, 1, old), piece(2, 1, now)];
        assert_eq!(Quarantine::surplus(&kept, now).len(), 1);
    }
}
