//! What was taken out of a protected place, kept for whoever has to understand it.
//!
//! Everything is found in one directory of the state. What lies on another filesystem stays
//! there, in the slot it was exchanged into, and the directory has a symlink to it: evidence
//! is never copied, however large it is.
//!
//! Bounded by age and by the space it takes. Where it takes too much, the incident that has most
//! gives up its oldest, but for its first, which tell most: so a storm neither pushes out what
//! others left nor what began it. The piece that came last always stays.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

use super::tree::{Measure, measure, remove_some};
use crate::baseline::Evidence;
use crate::fault::{Point, reach};
use crate::sys;

/// At most this much is kept, in bytes on the disk.
const MOST_BYTES: u64 = 1 << 30;
/// A piece counts for at least this much, so that there are not too many.
const LEAST_COST: u64 = 1 << 20;
/// What an incident left first goes last.
const FIRST: usize = 8;
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
    /// The incident that left something last, and how much that was.
    last: Mutex<(String, u32)>,
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
            _ => Ok(Self { dir, last: Mutex::default() }),
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
        let Measure { kind, size, blocks, .. } = measure(from).map_err(failed)?;
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

    /// Whether it was kept long enough.
    #[must_use]
    pub fn is_too_old(piece: &Evidence, now: Timestamp) -> bool {
        u64::try_from(now.duration_since(piece.taken_at).as_secs())
            .is_ok_and(|age| age > LONGEST.as_secs())
    }

    /// What has to go for the bounds to hold: `kept` is the whole index, the oldest first.
    #[must_use]
    pub fn surplus(kept: &[Evidence], now: Timestamp) -> Vec<Evidence> {
        let (mut gone, mut rest): (Vec<_>, Vec<_>) =
            kept.iter().partition(|piece| Self::is_too_old(piece, now));
        // The last one is not to go before anybody could see it, however large it is.
        rest.pop();
        let mut incidents: HashMap<&str, Vec<&Evidence>> = HashMap::new();
        let mut costs: HashMap<&str, u64> = HashMap::new();
        for piece in &rest {
            incidents.entry(&piece.incident).or_default().push(piece);
            *costs.entry(&piece.incident).or_default() += cost(piece);
        }
        while costs.values().sum::<u64>() > MOST_BYTES {
            let Some((heaviest, total)) =
                costs.iter_mut().max_by_key(|(name, total)| (**total, std::cmp::Reverse(**name)))
            else {
                break;
            };
            let Some(pieces) = incidents.get_mut(heaviest).filter(|all| !all.is_empty()) else {
                break;
            };
            let piece = pieces.remove(if pieces.len() > 2 * FIRST { FIRST } else { 0 });
            *total -= cost(piece);
            gone.push(piece);
        }
        gone.into_iter().cloned().collect()
    }

    /// What lies on the filesystem of `dir`, the oldest first, as `kept` has it.
    #[must_use]
    pub fn on_the_disk_of(kept: &[Evidence], dir: &Path) -> Vec<Evidence> {
        let disk = |path: &Path| sys::stat::stat(path).ok().map(|stat| stat.dev);
        let Some(wanted) = disk(dir) else { return Vec::new() };
        kept.iter().filter(|piece| disk(&piece.lies_at()) == Some(wanted)).cloned().collect()
    }

    /// Removes one piece of evidence for good; false if so much is in it that it takes more than
    /// one go.
    ///
    /// # Errors
    /// When it cannot be removed; one that is gone already is none.
    pub fn remove(&self, evidence: &Evidence) -> Result<bool, QuarantineError> {
        for path in [&evidence.lies_at(), &evidence.location] {
            match remove_some(path) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(QuarantineError { path: path.clone(), source: e }),
            }
        }
        Ok(true)
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
            let found = measure(elsewhere.as_ref().unwrap_or(&location)).ok()?;
            let Measure { kind, size, blocks, .. } = found;
            let name = location.file_name()?.to_string_lossy();
            let incident = name.rsplit_once('-').map_or(name.as_ref(), |(id, _)| id).to_owned();
            let (path, taken_at) = (PathBuf::new(), Timestamp::now());
            Some(Evidence { id: 0, incident, path, location, kind, size, blocks, taken_at })
        };
        Ok(locations.filter(|location| !known.contains(location)).filter_map(adopt).collect())
    }

    fn fresh(&self, incident: &str) -> PathBuf {
        // Nothing panics while it is held.
        let mut last = self.last.lock().unwrap_or_else(|broken| broken.into_inner());
        if last.0 != incident {
            *last = (incident.to_owned(), 0);
        }
        loop {
            let path = self.dir.join(format!("{incident}-{}", last.1));
            last.1 = last.1.wrapping_add(1);
            if std::fs::symlink_metadata(&path).is_err() {
                return path;
            }
        }
    }
}

fn cost(piece: &Evidence) -> u64 {
    piece.blocks.saturating_mul(512).clamp(LEAST_COST, u64::MAX >> 16)
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
    sys::flags::unlock(sys::open::open_path_at(from_dir.as_fd(), &from_name)?.as_fd())?;
    sys::rename::place(from_dir.as_fd(), &from_name, to_dir.as_fd(), &to_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::FileKind;

    fn piece(id: u64, incident: &str, mib: u64, taken_at: Timestamp) -> Evidence {
        Evidence {
            id,
            incident: incident.to_owned(),
            path: PathBuf::new(),
            location: PathBuf::new(),
            kind: FileKind::File,
            size: 0,
            blocks: mib << 11,
            taken_at,
        }
    }

    fn gone(kept: &[Evidence]) -> Vec<u64> {
        Quarantine::surplus(kept, Timestamp::now()).iter().map(|piece| piece.id).collect()
    }

    #[test]
    fn the_oldest_goes_first_and_only_as_much_as_has_to_and_never_the_last() {
        let now = Timestamp::now();
        let kept: Vec<_> = (0..4).map(|id| piece(id, "a", 512, now)).collect();
        assert_eq!(gone(&kept[..3]), [0; 0]);
        assert_eq!(gone(&kept), [0]);
        assert_eq!(gone(&[piece(0, "a", 5000, now)]), [0; 0]);
    }

    #[test]
    fn a_storm_gives_up_its_own_and_what_began_it_last() {
        let now = Timestamp::now();
        let mut kept = vec![piece(1, "other", 100, now)];
        kept.extend((2..1002).map(|id| piece(id, "storm", 0, now)));
        // The last does not count, and each of the others as a MiB.
        let surplus = 100 + 999 - 1024;
        assert_eq!(gone(&kept), (2 + FIRST as u64..).take(surplus).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_a_month_old_goes() {
        let now = Timestamp::now();
        let old = now - jiff::SignedDuration::from_hours(24 * 31);
        let kept = [piece(1, "a", 1, old), piece(2, "a", 1, now)];
        assert_eq!(gone(&kept), [1]);
    }
}
