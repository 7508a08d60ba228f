//! Of which files whoever opens them is looked at first.

use std::os::fd::AsFd;

use super::Sensors;
use crate::judge::FileKind;
use crate::respond::Patient;
use crate::sense::{Health, Watched};

impl Sensors {
    /// Has whoever opens the file, or one in the directory, looked at first.
    pub(super) fn ask_openers(&self, patient: &Patient, kind: Watched) {
        let Ok(sensor) = self.permission.as_ref() else { return };
        let marked = patient.open_parent().map_err(|e| e.to_string()).and_then(|dir| {
            sensor.watch(dir.as_fd(), patient.name(), kind).map_err(|e| e.to_string())
        });
        if let Err(e) = marked {
            tracing::debug!(
                "{}: openers cannot be asked: {e}",
                crate::text::escape_path(&*patient.path)
            );
        }
    }

    /// The directory is protected no longer: who opens what is in it is nobody's concern.
    pub(super) fn leave_openers(&self, patient: &Patient) {
        if let (Ok(sensor), FileKind::Directory) = (&self.permission, patient.facts.kind)
            && let Ok(above) = patient.open_parent()
        {
            // One that is gone is not asked about either.
            let _ = sensor.unwatch_children(above.as_fd(), patient.name());
        }
    }

    /// Leaves those who open the file alone, where audit tells of all that they can do to it.
    /// False where it does not, and nothing was changed.
    pub fn spare_openers(&self, patient: &Patient) -> bool {
        if self.audit().is_none_or(|audit| audit.health() != Health::Working) {
            return false;
        }
        let (Ok(permission), Ok(dir)) = (self.permission.as_ref(), patient.open_parent()) else {
            return false;
        };
        let spared = permission.leave_alone(dir.as_fd(), patient.name()).is_ok();
        if let Ok(sensor) = self.fanotify.as_ref() {
            sensor.spare_openers(dir.as_fd(), patient.name());
        }
        spared
    }
}
