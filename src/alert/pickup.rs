//! The second process's end of the spool: what is due, and what was delivered.
//!
//! What this process knows is in its memory and, for its successor, in receipts on the disk.
//! A receipt that cannot be written is tried again; until then the memory prevents a second
//! delivery. An attempt is written down before it is made, so that one which brings the
//! process down is waited for like any other failure.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::files::{self, Stamp};
use super::item::{self, Item, Stored};
use super::receipt::{self, Receipt, backoff, has_come};
use super::spool;
use crate::text::escape;

/// The daemon's items and this process's receipts.
pub(super) struct Pickup {
    items: OwnedFd,
    receipts: OwnedFd,
    slots: BTreeMap<String, Slot>,
    /// Names that hold no item, as they were when that was logged.
    rubbish: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// Why receipts cannot be written, while they cannot, once said.
    unwritable: Option<String>,
}

/// What is known of one item.
struct Slot {
    stamp: Option<Stamp>,
    revision: String,
    not_before: Timestamp,
    receipt: Receipt,
    /// The receipt on the disk is older than this one.
    unsaved: bool,
    /// The last attempt failed for a reason that has nothing to do with this item.
    server_trouble: bool,
}

impl Slot {
    fn is_due(&self, now: Timestamp) -> bool {
        self.is_open() && has_come(self.not_before, now) && has_come(self.receipt.next_try, now)
    }

    fn is_open(&self) -> bool {
        !self.receipt.is_delivered(&self.revision)
    }
}

/// An item that is to be delivered now.
pub(super) struct Due {
    pub item: Item,
    pub revision: String,
    /// Events that were left out of the item.
    pub left_out: usize,
    /// Receivers who have this revision already.
    pub told: Vec<String>,
    /// An earlier revision was delivered to everybody.
    pub follow_up: bool,
}

/// Why an item was not delivered.
pub(super) struct Failure {
    /// What went wrong, for a person.
    pub error: String,
    /// It would have gone wrong with any item.
    pub server_trouble: bool,
}

impl Pickup {
    /// Opens the spool in the state directory `state`; root makes it if it is not there.
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        let (items, receipts) = if crate::sys::privilege::is_root() {
            let [items, receipts, _] = spool::make_directories(state)?;
            (items, receipts)
        } else {
            let spool = files::open_directory(&state.join("spool"))?;
            (
                files::open_subdirectory(spool.as_fd(), "items")?,
                files::open_subdirectory(spool.as_fd(), "receipts")?,
            )
        };
        let (slots, rubbish) = Default::default();
        let mut pickup = Self { items, receipts, slots, rubbish, unwritable: None };
        pickup.refresh()?;
        pickup.forget_orphans();
        Ok(pickup)
    }

    /// Makes the user `uid` the owner of the receipts, because only an owner can write them.
    pub(super) fn hand_over(&self, uid: u32, gid: u32) -> io::Result<()> {
        use nix::unistd::{Gid, Uid, fchown};
        fchown(&self.receipts, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        Ok(())
    }

    /// Fails if this process cannot write receipts, whoever it has become.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        files::replace(&self.receipts, "check", b"")?;
        files::remove(&self.receipts, "check")
    }

    /// A path to the directory of the items, for a watch.
    pub(super) fn items_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.items.as_raw_fd()))
    }

    /// Reads what has changed. `true` if there is something new to deliver, now or later. An
    /// error means that the directory itself is not usable any more.
    pub(super) fn refresh(&mut self) -> io::Result<bool> {
        if rustix::fs::fstat(&self.items)?.st_nlink == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it was removed meanwhile"));
        }
        let names = files::names(&self.items)?;
        let listed: std::collections::BTreeSet<&str> =
            names.iter().filter_map(|name| item::incident_of(name)).collect();
        let receipts = &self.receipts;
        self.slots.retain(|incident, _| {
            let stays = listed.contains(incident.as_str());
            if !stays {
                let _ = files::remove(receipts, &item::file_name(incident));
            }
            stays
        });
        self.rubbish.retain(|name, _| names.contains(name));
        let mut news = false;
        for name in names.iter().filter(|name| !name.starts_with(b".")) {
            news |= self.look(name)?;
        }
        self.save();
        Ok(news)
    }

    /// Looks at one name in `items/`; `true` if it holds an unknown revision.
    fn look(&mut self, name: &[u8]) -> io::Result<bool> {
        let incident = item::incident_of(name);
        let stamp = match incident {
            Some(incident) => files::stamp(&self.items, &item::file_name(incident))?,
            None => None,
        };
        let known = incident.and_then(|incident| self.slots.get(incident));
        if known.is_some_and(|slot| slot.stamp == stamp) || self.rubbish.get(name) == Some(&stamp) {
            return Ok(false);
        }
        match item::read_stored(&self.items, incident) {
            Ok(None) => Ok(false),
            Ok(Some(stored)) => Ok(self.take_in(stamp, &stored)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!("{} in the mail spool is not an item: {error}", escape(name));
                self.rubbish.insert(name.to_vec(), stamp);
                Ok(false)
            }
            Err(error) => {
                tracing::warn!("cannot read {} in the mail spool: {error}", escape(name));
                Ok(false)
            }
        }
    }

    fn take_in(&mut self, stamp: Option<Stamp>, stored: &Stored) -> bool {
        let incident = &stored.item.incident;
        let before = self.slots.remove(incident);
        let is_new = before.as_ref().is_none_or(|slot| slot.revision != stored.revision);
        let mut slot = before.unwrap_or_else(|| Slot {
            stamp,
            revision: String::new(),
            not_before: stored.item.not_before,
            receipt: self.read_receipt(incident, &stored.revision),
            unsaved: false,
            server_trouble: false,
        });
        slot.stamp = stamp;
        slot.not_before = stored.item.not_before;
        slot.revision.clone_from(&stored.revision);
        slot.receipt.turn_to(&stored.revision);
        let is_new = is_new && slot.is_open();
        self.slots.insert(incident.clone(), slot);
        is_new
    }

    fn read_receipt(&self, incident: &str, revision: &str) -> Receipt {
        let name = item::file_name(incident);
        let read = files::read(&self.receipts, &name, receipt::MAX_BYTES)
            .and_then(|bytes| bytes.map(|bytes| Receipt::parse(&bytes)).transpose());
        match read {
            Ok(Some(mut receipt)) => {
                receipt.under_way = false;
                receipt
            }
            Ok(None) => Receipt::new(revision),
            Err(error) => {
                tracing::warn!("the receipt for incident {incident} is lost: {error}");
                Receipt::new(revision)
            }
        }
    }

    /// The item that has been due for longest.
    pub(super) fn next_due(&mut self, now: Timestamp) -> Option<Due> {
        loop {
            let due = self.slots.iter().filter(|(_, slot)| slot.is_due(now));
            let (incident, slot) = due.min_by_key(|(_, slot)| slot.not_before)?;
            let (incident, revision) = (incident.clone(), slot.revision.clone());
            match item::read_stored(&self.items, Some(&incident)) {
                Ok(Some(stored)) if stored.revision == revision => {
                    let slot = self.slots.get(&incident)?;
                    return Some(Due {
                        item: stored.item,
                        revision,
                        left_out: stored.left_out,
                        told: slot.receipt.told.clone(),
                        follow_up: slot.receipt.delivered.is_some(),
                    });
                }
                // It changed since it was looked at.
                Ok(Some(stored)) => {
                    self.take_in(None, &stored);
                }
                // The next refresh looks at it.
                Ok(None) | Err(_) => {
                    self.slots.remove(&incident);
                }
            }
        }
    }

    /// When the next item becomes due; `None` if none waits.
    pub(super) fn next_moment(&self) -> Option<Timestamp> {
        let open = self.slots.values().filter(|slot| slot.is_open());
        open.map(|slot| slot.not_before.max(slot.receipt.next_try)).min()
    }

    /// An attempt to deliver `due` begins.
    pub(super) fn begin(&mut self, due: &Due, now: Timestamp) {
        self.update(due, |slot| {
            let receipt = &mut slot.receipt;
            receipt.attempts = receipt.attempts.saturating_add(1);
            receipt.next_try = later(now, receipt.attempts);
            receipt.error = Some("the process ended while the message was sent".into());
            receipt.under_way = true;
        });
    }

    /// Every receiver has `due`.
    pub(super) fn delivered(&mut self, due: &Due) {
        self.update(due, |slot| {
            slot.receipt.delivered = Some(due.revision.clone());
            slot.receipt.error = None;
            slot.receipt.under_way = false;
        });
    }

    /// Only the receivers `told` have `due`; the others get it later.
    pub(super) fn defer(&mut self, due: &Due, told: Vec<String>, failure: Failure, now: Timestamp) {
        self.update(due, |slot| {
            slot.receipt.told.extend(told);
            slot.receipt.next_try = later(now, slot.receipt.attempts);
            slot.receipt.error = Some(receipt::clean(&failure.error));
            slot.receipt.under_way = false;
            slot.server_trouble = failure.server_trouble;
        });
    }

    /// The server works again: what failed because it did not is due now.
    pub(super) fn expedite(&mut self) {
        for slot in self.slots.values_mut().filter(|slot| slot.server_trouble) {
            slot.server_trouble = false;
            slot.receipt.next_try = Timestamp::UNIX_EPOCH;
        }
    }

    fn update(&mut self, due: &Due, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(&due.item.incident) {
            change(slot);
            slot.unsaved = true;
            self.save();
        }
    }

    fn save(&mut self) {
        if let Some(why) = self.save_unsaved() {
            tracing::warn!("{why}");
        }
    }

    /// What is to be said of it: once for each reason, however many receipts cannot be written.
    fn save_unsaved(&mut self) -> Option<String> {
        let mut failed = None;
        for (incident, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.unsaved) {
            let name = item::file_name(incident);
            match files::replace(&self.receipts, &name, &slot.receipt.to_bytes()) {
                Ok(()) => slot.unsaved = false,
                Err(error) => failed = failed.or(Some((incident, error.to_string()))),
            }
        }
        let Some((incident, error)) = failed else {
            self.unwritable = None;
            return None;
        };
        let before = self.unwritable.replace(error.clone());
        (before.as_ref() != Some(&error)).then(|| {
            format!(
                "cannot write the receipt for incident {incident}, which could therefore be \
                 mailed again after a restart: {error}"
            )
        })
    }

    /// Removes receipts whose items are gone.
    fn forget_orphans(&self) {
        for name in files::names(&self.receipts).unwrap_or_default() {
            let incident = item::incident_of(&name);
            if !incident.is_some_and(|incident| self.slots.contains_key(incident)) {
                let flags = rustix::fs::AtFlags::empty();
                let _ = rustix::fs::unlinkat(&self.receipts, name.as_slice(), flags);
            }
        }
    }
}

fn later(now: Timestamp, attempts: u32) -> Timestamp {
    // A clock at the end of time: not waiting is the better mistake.
    now.checked_add(backoff(attempts)).unwrap_or(now)
}

#[cfg(test)]
#[path = "pickup_tests.rs"]
mod tests;
