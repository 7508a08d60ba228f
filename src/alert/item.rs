//! An item of the spool as it lies on the disk: one incident that somebody has to be told of.
//!
//! An item's *revision* is a digest of its events. Growing after the delivery makes a new
//! revision, and so one more message about the same incident; putting the same events again,
//! by a daemon that starts anew for example, makes none.

use std::io;
use std::os::fd::AsFd;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::files::{self, rubbish};
use crate::record::Event;
use crate::text::hex_encode;

/// An item of more bytes than this is rubbish; [`to_bytes`] leaves out events to stay below.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;

/// Of an item that would be too large, at most this many events are kept at either end.
const KEPT_EVENTS: usize = 64;

/// What stands in the file names of items and receipts after the incident.
pub(super) const SUFFIX: &str = ".json";

/// One incident that somebody has to be told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The incident's id: letters, digits, `-`, `_` and `.`, at most 64 of them.
    pub incident: String,
    /// Not to be delivered before this moment, at most an hour ahead. Whoever puts the item
    /// again must not move it on for ever.
    pub not_before: Timestamp,
    /// Everything that is known of the incident, oldest first.
    pub events: Vec<Event>,
}

/// An [`Item`] as it lies on the disk.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    pub revision: String,
    /// Events that were left out in the middle because there were too many.
    #[serde(default)]
    pub left_out: usize,
    #[serde(flatten)]
    pub item: Item,
}

/// Reads the item of `incident`; `None` if it is gone. What is not an item is an error of
/// kind `InvalidData`.
pub(super) fn read_stored(items: impl AsFd, incident: Option<&str>) -> io::Result<Option<Stored>> {
    let Some(incident) = incident else {
        return Err(rubbish("its name is not that of an item"));
    };
    let Some(bytes) = files::read(items, &file_name(incident), MAX_BYTES)? else {
        return Ok(None);
    };
    let stored: Stored =
        serde_json::from_slice(&bytes).map_err(|error| rubbish(error.to_string()))?;
    if stored.item.incident != incident {
        return Err(rubbish("it holds another incident than its name says"));
    }
    if stored.item.events.is_empty() {
        return Err(rubbish("it holds no event"));
    }
    if stored.revision.len() > 64 || !stored.revision.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(rubbish("its revision is not hexadecimal"));
    }
    Ok(Some(stored))
}

/// The file in which an incident's item, or the receipt for it, lies.
pub(super) fn file_name(incident: &str) -> String {
    format!("{incident}{SUFFIX}")
}

/// The incident that a file name stands for; `None` if it stands for none.
pub(super) fn incident_of(name: &[u8]) -> Option<&str> {
    let incident = std::str::from_utf8(name).ok()?.strip_suffix(SUFFIX)?;
    is_incident(incident).then_some(incident)
}

pub(super) fn is_incident(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The item's revision, and what is to lie on the disk: within [`MAX_BYTES`].
pub(super) fn to_bytes(item: &Item) -> io::Result<(String, Vec<u8>)> {
    if item.events.is_empty() {
        return Err(rubbish("it holds no event"));
    }
    let mut digest = Sha256::new();
    for event in &item.events {
        digest.update(serde_json::to_vec(event)?);
        digest.update(b"\n");
    }
    let revision = hex_encode(&digest.finalize()[..16]);
    let mut stored = Stored { revision, left_out: 0, item: item.clone() };
    let mut kept = KEPT_EVENTS;
    loop {
        let bytes = serde_json::to_vec(&stored)?;
        if bytes.len() as u64 <= MAX_BYTES {
            return Ok((stored.revision, bytes));
        }
        match kept {
            0 => return Err(rubbish("its events are too large")),
            1 => stored.item.events.iter_mut().for_each(strip),
            _ => {}
        }
        stored.left_out += leave_out(&mut stored.item.events, kept);
        kept /= 2;
    }
}

/// Keeps `kept` events at either end; gives the number of those that had to go.
fn leave_out(events: &mut Vec<Event>, kept: usize) -> usize {
    let Some(surplus) = events.len().checked_sub(2 * kept) else { return 0 };
    events.drain(kept..kept + surplus);
    surplus
}

/// Takes from an event what can be large.
fn strip(event: &mut Event) {
    event.others.clear();
    event.before.clear();
    event.after.clear();
    event.response.truncate(8);
    event.note = None;
    if let Some(actor) = &mut event.actor {
        actor.ancestry.clear();
        actor.cmdline.clear();
    }
}
