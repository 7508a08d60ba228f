//! `restore`: the known-good copy at the path, because a person says so.

use jiff::Timestamp;

use crate::baseline::SnapshotError;
use crate::baseline::snapshot::read_if_sized;
use crate::daemon::guard::Guard;
use crate::daemon::scribe::Note;
use crate::engine::{Cure, MISSED};
use crate::judge::FileKind;
use crate::record::{Event, Kind, Severity};
use crate::respond::{self, Outcome, Patient};
use crate::sense::FileId;

impl Guard {
    /// Puts the known-good copy at the path because a person says so.
    pub(super) fn restore(&mut self, file: FileId) -> (bool, String) {
        self.set_incident(file, respond::BY_COMMAND.into());
        let Some(ward) = self.ward(file) else { return (false, "is not protected".into()) };
        let patient = ward.patient.clone();
        let slot = ward.slot.clone().unwrap_or_default();
        if let Ok(true) = is_whole(&patient) {
            return (true, "is as it should be already".into());
        }
        let sensors = &mut self.sensors;
        let outcome = heal(&patient, &mut |cure| {
            respond::perform(cure, &patient, &self.vault, &slot, &mut |dir, name| {
                sensors.watch_replica(file, dir, name);
                if let Some(registrar) = sensors.registrar() {
                    registrar.replica(file, dir, name);
                }
                Ok(())
            })
        });
        self.after_cure(file, &outcome, true);
        match outcome.conclude() {
            Ok(_) => {
                let path = patient.path.clone();
                let event = Event::new(Timestamp::now(), Kind::Restored, Severity::Info);
                let event = event.about(&path).noting("restored by command");
                self.scribe.tell(Note::Event(Box::new(event)));
                self.begin_again(file);
                (true, "is as it should be again".into())
            }
            Err(why) => (false, format!("could not be restored: {why}")),
        }
    }
}

/// Performs the cures that put back what should be at the path, one after the other. A directory
/// that is there stays, with what is in it: it gets its metadata back.
pub(super) fn heal(patient: &Patient, perform: &mut dyn FnMut(Cure) -> Outcome) -> Outcome {
    perform(Cure::PutBackParents);
    let is_directory = patient.facts.kind == FileKind::Directory;
    let is_there = || patient.path.symlink_metadata().is_ok_and(|found| found.is_dir());
    if is_directory && patient.itself.is_none() && is_there() {
        return perform(Cure::Repair);
    }
    let mut outcome = perform(Cure::Replace);
    if is_directory && outcome.healed.action != MISSED && outcome.healed.result.is_ok() {
        // One that was found somewhere has its path back, and nothing else.
        let repaired = perform(Cure::Repair).healed;
        if repaired.action != MISSED {
            outcome.healed.result = repaired.result;
        }
    }
    outcome
}

/// Whether the file has all its known-good facts, content included.
fn is_whole(patient: &Patient) -> Result<bool, SnapshotError> {
    let facts = read_if_sized(&patient.path, patient.facts.size)?.facts;
    let policy = crate::judge::Policy {
        immutable: patient.facts.keeps_immutable(),
        ..crate::judge::Policy::default()
    };
    Ok(crate::judge::differences(&patient.facts, &facts, &policy).is_empty())
}
