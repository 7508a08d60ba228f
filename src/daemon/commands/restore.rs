//! `restore`: the known-good copy at the path, because a person says so.

use jiff::Timestamp;

use crate::baseline::SnapshotError;
use crate::baseline::snapshot::read_if_sized;
use crate::daemon::guard::Guard;
use crate::daemon::scribe::Note;
use crate::engine::Cure;
use crate::record::{Event, Kind, Severity};
use crate::respond::{self, Patient};
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
        let mut outcome = None;
        for cure in [Cure::PutBackParents, Cure::Replace] {
            let sensors = &mut self.sensors;
            let done = respond::perform(cure, &patient, &self.vault, &slot, &mut |dir, name| {
                sensors.watch_replica(file, dir, name);
                if let Some(registrar) = sensors.registrar() {
                    registrar.replica(file, dir, name);
                }
                Ok(())
            });
            outcome = Some(done);
        }
        let Some(outcome) = outcome else { return (false, "nothing could be done".into()) };
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

/// Whether the file has all its known-good facts, content included.
fn is_whole(patient: &Patient) -> Result<bool, SnapshotError> {
    let facts = read_if_sized(&patient.path, patient.facts.size)?.facts;
    let policy = crate::judge::Policy {
        immutable: patient.facts.keeps_immutable(),
        ..crate::judge::Policy::default()
    };
    Ok(crate::judge::differences(&patient.facts, &facts, &policy).is_empty())
}
