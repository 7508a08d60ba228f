//! Evidence that has to go: for the bounds of the quarantine, and for a known-good copy that finds no
//! room.
//!
//! What goes is what the index says. Where somebody else may have written that, nothing goes.

use std::path::Path;

use jiff::Timestamp;

use super::Writer;
use crate::baseline::{Evidence, has_room};
use crate::daemon::scribe::discarded::Discarded;
use crate::respond::Quarantine;

impl Writer {
    /// Keeps the quarantine within its bounds.
    pub(super) fn prune(&mut self) -> Result<(), String> {
        if self.desk.baseline.is_touched() {
            self.pruned = false;
            return Ok(());
        }
        let kept = self.desk.baseline.evidence(None).map_err(|e| e.to_string())?;
        self.evidence.clone_from(&kept);
        let now = Timestamp::now();
        let mut failed = None;
        for surplus in Quarantine::surplus(&kept, now) {
            failed = self.remove(&Discarded::evicted(&surplus, now), &surplus).err().or(failed);
        }
        failed.map_or(Ok(()), Err)
    }

    /// A known-good copy goes before evidence. It found no room whatever the disk says is free: at
    /// least one piece that lies there has to go, the oldest first.
    pub(super) fn make_room(&mut self, slot: &Path, bytes: u64) -> Result<(), String> {
        if self.desk.baseline.is_touched() {
            return Ok(());
        }
        let kept = self.desk.baseline.evidence(None).map_err(|e| e.to_string())?;
        for piece in Quarantine::on_the_disk_of(&kept, slot) {
            self.remove(&Discarded::for_room(&piece), &piece)?;
            if has_room(slot, bytes) {
                break;
            }
        }
        Ok(())
    }

    /// Removes a piece of evidence for good, and tells it. One with so much in it that it takes more
    /// than one go is left for the next.
    fn remove(&mut self, told: &Discarded, piece: &Evidence) -> Result<(), String> {
        if self.desk.quarantine.remove(piece).map_err(|e| e.to_string())? {
            self.desk.baseline.remove_evidence(piece.id).map_err(|e| e.to_string())?;
            self.discards.add(told);
        } else {
            self.pruned = false;
        }
        Ok(())
    }
}
