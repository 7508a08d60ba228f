//! The daemon's end of the spool: what has to be told, on the disk before anything else can
//! go wrong.
//!
//! An item is put as soon as its incident is known, with a moment before which it is not to
//! be delivered: until then the incident settles and the item grows by being put again. If
//! the daemon dies in between, the item is simply delivered as it is.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::files;
use super::item::{Item, file_name, incident_of, is_incident, read_stored, to_bytes};
use super::receipt::{self, Receipt};
use crate::text::escape;

/// Why an item could not be put, or the spool not be read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The spool's directories cannot be made or opened.
    #[error("cannot use the mail spool {}: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The item could not be written; no part of it was.
    #[error("cannot put the alert about incident {incident} into the mail spool: {source}")]
    Put {
        /// The incident.
        incident: String,
        /// Why.
        source: io::Error,
    },
    /// The incident's id cannot be a file name.
    #[error("`{}` cannot be the id of an incident", escape(.0.as_bytes()))]
    Incident(String),
    /// The items cannot be listed.
    #[error("cannot list the mail spool: {0}")]
    List(#[source] io::Error),
}

/// What became of an item, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Every receiver's mail server has taken it.
    Delivered {
        /// The incident.
        incident: String,
    },
    /// It could not be delivered yet, and is tried again. Told at the first failure and
    /// whenever the number of attempts has doubled.
    Failed {
        /// The incident.
        incident: String,
        /// Attempts so far.
        attempts: u32,
        /// What went wrong at the last one: one escaped line.
        error: String,
        /// When it is tried again.
        next_try: Timestamp,
    },
    /// A file in the spool is not an item; it was moved to `rejected/`.
    Rejected {
        /// Its name, escaped.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What the daemon remembers of an item on the disk.
struct Known {
    revision: String,
    not_before: Timestamp,
    /// The number of attempts that was last told as a failure.
    told_attempts: u32,
}

/// The daemon's end of the spool.
pub struct Spool {
    items: OwnedFd,
    receipts: OwnedFd,
    rejected: OwnedFd,
    known: BTreeMap<String, Known>,
    /// Names in `items/` that are rubbish and could not be moved away either.
    stuck: Vec<Vec<u8>>,
    /// What was found when the spool was opened, for the first [`Spool::collect`].
    found: Vec<News>,
}

impl Spool {
    /// Opens the spool in the state directory `state`, makes what is missing of it, and finds
    /// the items that an earlier daemon left.
    pub fn open(state: &Path) -> Result<Self, SpoolError> {
        let [items, receipts, rejected] = make_directories(state)
            .map_err(|source| SpoolError::Open { path: state.join("spool"), source })?;
        let (known, stuck, found) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut spool = Self { items, receipts, rejected, known, stuck, found };
        spool.forget_unfinished().map_err(SpoolError::List)?;
        spool.found = spool.find_items().map_err(SpoolError::List)?;
        Ok(spool)
    }

    /// Puts `item`, or replaces what was put of the same incident before. On success it is on
    /// the disk; on failure, a full disk for example, what was there before still is, and the
    /// caller has to try again.
    pub fn put(&mut self, item: &Item) -> Result<(), SpoolError> {
        if !is_incident(&item.incident) {
            return Err(SpoolError::Incident(item.incident.clone()));
        }
        let failed =
            |source: io::Error| SpoolError::Put { incident: item.incident.clone(), source };
        let (revision, bytes) = to_bytes(item).map_err(failed)?;
        let before = self.known.get(&item.incident);
        let unchanged = before
            .is_some_and(|known| known.revision == revision && known.not_before == item.not_before);
        if !unchanged {
            files::replace(&self.items, &file_name(&item.incident), &bytes).map_err(failed)?;
            crate::fault::reach(crate::fault::Point::MessagePut);
            let told_attempts =
                before.filter(|known| known.revision == revision).map_or(0, |k| k.told_attempts);
            let known = Known { revision, not_before: item.not_before, told_attempts };
            self.known.insert(item.incident.clone(), known);
        }
        Ok(())
    }

    /// Takes back what was put of an incident and is not delivered yet: it is told of otherwise.
    ///
    /// # Errors
    /// [`SpoolError::List`] when it cannot be removed.
    pub fn withdraw(&mut self, incident: &str) -> Result<(), SpoolError> {
        if self.known.contains_key(incident) {
            files::remove(&self.items, &file_name(incident)).map_err(SpoolError::List)?;
            self.known.remove(incident);
        }
        Ok(())
    }

    /// Removes the items that were delivered, sets rubbish aside, and tells what is new since
    /// the last call. Cheap enough for once a second.
    pub fn collect(&mut self) -> Result<Vec<News>, SpoolError> {
        let mut news = std::mem::take(&mut self.found);
        news.extend(self.find_items().map_err(SpoolError::List)?);
        let incidents: Vec<String> = self.known.keys().cloned().collect();
        for incident in incidents {
            if let Some(told) = self.collect_one(&incident) {
                news.push(told);
            }
        }
        Ok(news)
    }

    /// How many incidents somebody still has to be told of.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.known.len()
    }

    fn collect_one(&mut self, incident: &str) -> Option<News> {
        let name = file_name(incident);
        let known = self.known.get_mut(incident)?;
        // An unreadable receipt says nothing; the other process writes a new one.
        let bytes = files::read(&self.receipts, &name, receipt::MAX_BYTES).ok()??;
        let receipt = Receipt::parse(&bytes).ok()?;
        if receipt.is_delivered(&known.revision) {
            // The item first: a receipt without an item is harmless, the other way round
            // would deliver it again.
            files::remove(&self.items, &name).ok()?;
            let _ = rustix::fs::fsync(&self.items);
            let _ = files::remove(&self.receipts, &name);
            self.known.remove(incident);
            return Some(News::Delivered { incident: incident.to_owned() });
        }
        let due = known.told_attempts.saturating_mul(2).max(1);
        if receipt.revision != known.revision || receipt.under_way || receipt.attempts < due {
            return None;
        }
        let error = receipt.error?;
        known.told_attempts = receipt.attempts;
        let incident = incident.to_owned();
        let (attempts, next_try) = (receipt.attempts, receipt.next_try);
        Some(News::Failed { incident, attempts, error, next_try })
    }

    /// Learns of items that are not known yet, and sets aside what is none.
    fn find_items(&mut self) -> io::Result<Vec<News>> {
        let mut news = Vec::new();
        for name in files::names(&self.items)? {
            let incident = incident_of(&name);
            if incident.is_some_and(|incident| self.known.contains_key(incident))
                || self.stuck.contains(&name)
            {
                continue;
            }
            match read_stored(&self.items, incident) {
                Ok(None) => {}
                Ok(Some(stored)) => {
                    let Item { incident, not_before, .. } = stored.item;
                    let known = Known { revision: stored.revision, not_before, told_attempts: 0 };
                    self.known.insert(incident, known);
                }
                Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                    news.push(self.set_aside(name, &why));
                }
                // It may well be an item; the next call looks again.
                Err(error) => tracing::warn!("cannot read {}: {error}", escape(&name)),
            }
        }
        Ok(news)
    }

    fn set_aside(&mut self, name: Vec<u8>, why: &io::Error) -> News {
        let shown = escape(&name);
        let mut why = why.to_string();
        if let Err(error) =
            rustix::fs::renameat(&self.items, name.as_slice(), &self.rejected, name.as_slice())
        {
            why = format!("{why}; it could not be moved to rejected/ either: {error}");
            self.stuck.push(name);
        }
        News::Rejected { name: shown, why }
    }

    /// Removes what a write that was cut off has left.
    fn forget_unfinished(&self) -> io::Result<()> {
        for name in files::names(&self.items)? {
            if name.starts_with(b".") && name.ends_with(b".new") {
                let _ = rustix::fs::unlinkat(
                    &self.items,
                    name.as_slice(),
                    rustix::fs::AtFlags::empty(),
                );
            }
        }
        Ok(())
    }
}

/// Makes `spool/` and what is in it; gives `items`, `receipts` and `rejected`.
pub(super) fn make_directories(state: &Path) -> io::Result<[OwnedFd; 3]> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    let state = files::open_directory(state)?;
    let spool = files::make_subdirectory(state.as_fd(), "spool", 0o755)?;
    Ok([
        files::make_subdirectory(spool.as_fd(), "items", 0o755)?,
        files::make_subdirectory(spool.as_fd(), "receipts", 0o755)?,
        files::make_subdirectory(spool.as_fd(), "rejected", 0o700)?,
    ])
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
