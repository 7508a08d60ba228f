//! Doing what the engine asks for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Guard;
use crate::attribute::InodeKey;
use crate::daemon::health;
use crate::daemon::scribe::Note;
use crate::daemon::scribe::discarded::Discarded;
use crate::daemon::workers::evidence::Piece;
use crate::daemon::workers::testify::Case;
use crate::daemon::workers::{Chore, Reading};
use crate::engine::{Action, Cure, Input, MISSED};
use crate::judge::FileKind;
use crate::record::Kind;
use crate::respond::{self, Around, Outcome, Ready, Shown};
use crate::sense::FileId;

/// A cure that has to write more than this is left to another thread, in bytes.
const QUICK: u64 = 1 << 20;

/// What is not done for a canary, and why it says so.
fn not_for_canaries(cure: Cure) -> Option<(&'static str, &'static str)> {
    match cure {
        // A test ends for less than that somebody mounts a filesystem where it is going on.
        Cure::Unmount => Some(("unmount", "the canary's place was mounted over")),
        // The keeper makes the state directory again: two that put one back never come to an end.
        Cure::PutBackParents => Some(("put-back-parent", "the canary's place is gone")),
        _ => None,
    }
}

impl Guard {
    /// Does one thing. What is known at once is the answer; the rest comes as a report.
    pub(super) fn perform(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Look { file } => {
                let sight = self.sight(file);
                self.listen_for_writes(file, &sight);
                Some(Input::Looked { file, sight })
            }
            Action::Inspect { file } => {
                let finding = self.inspect(file)?;
                self.look_through(file);
                Some(Input::Inspected { file, finding })
            }
            Action::Verify { file, epoch } => {
                let patient = &self.ward(file)?.patient;
                let (path, size) = (patient.path.clone(), patient.facts.size);
                self.reader.push(Reading::Verify { file, epoch, path, size });
                None
            }
            Action::Heal { file, cure, incident, keep_evidence } => {
                self.set_incident(file, incident);
                self.heal(file, cure, keep_evidence)
            }
            Action::Seal { file, stat } => {
                let ward = self.ward_mut(file)?;
                ward.patient.set_seal(*stat);
                let path = ward.patient.path.clone();
                if !self.lister.awaits(file) {
                    self.scribe.tell(Note::Seal(path, *stat));
                }
                self.stage(file);
                None
            }
            Action::Watch { file } => {
                self.watch(file);
                None
            }
            Action::CheckStranger { file, name } => {
                let path = self.ward(file)?.patient.path.join(OsStr::from_bytes(&name));
                self.is_stranger(&path).then_some(Input::Stranger { file, name })
            }
            Action::Evict { file, name, incident } => self.evict(file, name, incident),
            Action::Openers { file, question, inode, since, windows } => {
                let inode = inode.map(|(dev, ino)| InodeKey { dev, ino });
                let within = self.instant(since)..=Instant::now();
                let began = self.instant(Duration::ZERO);
                let number = self.questions.next();
                let case = Case { number, file, inode, within, windows, began };
                self.question(case, question);
                None
            }
            Action::Record(event) => {
                self.life.outdated |=
                    matches!(event.kind, Kind::SensorDegraded | Kind::SensorRecovered);
                if let Some(event) = self.canaries.sift(event) {
                    self.note_own(&event);
                    self.scribe.tell(Note::Event(event));
                }
                None
            }
            Action::Alert { incident, not_before, events, waits } => {
                let item = self.message(incident, not_before, events);
                self.scribe.tell(Note::Message { item, waits });
                None
            }
        }
    }

    fn heal(&mut self, file: FileId, cure: Cure, worth_reading: bool) -> Option<Input> {
        // What the self-test left at a canary is no evidence.
        let worth_reading = worth_reading && !self.canaries.has(file);
        if let Some((action, why)) = not_for_canaries(cure).filter(|_| self.canaries.has(file)) {
            return Some(Input::Healed { file, healed: Outcome::refused(action, why).healed });
        }
        let ward = self.wards.get(&file)?;
        let patient = &ward.patient;
        let slot = ward.slot.as_deref().map_or(Path::new(""), PathBuf::as_path);
        let ready = patient.replica.is_some() && !patient.in_place();
        let long = cure == Cure::Replace && !ready && patient.facts.size > QUICK;
        if long || cure == Cure::Rejoin {
            let (patient, slot) = (Box::new(patient.clone()), Arc::new(slot.into()));
            self.stager.push(Chore::Cure { file, cure, patient, slot });
            return None;
        }
        let known = self.engine.learned(file).unwrap_or_else(|| self.now().mono);
        let sensors = &mut self.sensors;
        let staged = patient.replica.as_ref().filter(|_| ward.replica_watched);
        let watched = staged.map(Ready::name);
        let mut outcome = respond::perform(cure, patient, &self.vault, slot, &mut |dir, name| {
            if watched.as_deref() != Some(name) {
                sensors.watch_replica(file, dir, name);
                if let Some(registrar) = sensors.registrar() {
                    registrar.replica(file, dir, name);
                }
            }
            Ok(())
        });
        outcome.healed.evidence &= worth_reading;
        let took = self.now().mono.saturating_sub(known);
        self.after_cure(file, &outcome, worth_reading);
        self.count_heal(file, &outcome, took);
        Some(Input::Healed { file, healed: outcome.healed })
    }

    /// A cure on another thread is done.
    pub(super) fn cured(&mut self, file: FileId, outcome: Outcome) {
        if self.ward(file).is_none() {
            return;
        }
        let now = self.now().mono;
        let took = now.saturating_sub(self.engine.learned(file).unwrap_or(now));
        self.after_cure(file, &outcome, true);
        self.count_heal(file, &outcome, took);
        self.watch(file);
        self.feed(Input::Healed { file, healed: outcome.healed });
    }

    /// What the self-test has healed is not counted.
    fn count_heal(&self, file: FileId, outcome: &Outcome, took: Duration) {
        if self.canaries.has(file) {
            return;
        }
        let ended = match outcome.healed.result {
            _ if outcome.healed.action == MISSED => health::Outcome::Missed,
            Ok(_) => health::Outcome::Healed,
            Err(_) => health::Outcome::Failed,
        };
        self.health.counts.heal(ended, took);
    }

    /// Evidence, replica and sensors after a cure.
    pub(in crate::daemon) fn after_cure(
        &mut self,
        file: FileId,
        outcome: &Outcome,
        worth_reading: bool,
    ) {
        if outcome.healed.result.is_ok() {
            self.canaries.healed(file);
        }
        let incident = self.incident(file);
        let Some(ward) = self.ward_mut(file) else { return };
        let path = ward.patient.path.clone();
        if let Ok(Some(stat)) = &outcome.healed.result {
            ward.patient.set_seal(*stat);
        }
        if outcome.replica_used {
            ward.patient.replica = None;
            ward.replica_watched = false;
            self.sensors.settled(file, &path);
            self.scribe.tell(Note::Replica(path.clone(), None));
        }
        if matches!(outcome.healed.action, "rejoin" | MISSED) {
            self.rejoined(file, outcome);
        }
        if let Some(ward) = self.ward(file).filter(|_| outcome.cramped)
            && let Some(slot) = ward.slot.clone()
        {
            self.scribe.tell(Note::Cramped { slot, bytes: ward.patient.facts.size });
        }
        // The next replica before the evidence: the tamperer may be at it again.
        self.stage(file);
        for from in &outcome.evidence {
            let incident = incident.clone();
            let piece = Piece { from: from.clone(), path: path.to_path_buf(), incident };
            self.stager.push(match (worth_reading, self.canaries.has(file)) {
                (true, _) => Chore::Evidence(file, piece),
                (false, false) => Chore::Surplus(piece),
                (false, true) => Chore::Discard(piece.from),
            });
        }
        if outcome.healed.action == "rewrite"
            && outcome.healed.result.is_ok()
            && outcome.evidence.is_empty()
            && !self.canaries.has(file)
        {
            let (path, incident) = (path.to_path_buf(), self.incident(file));
            let why = "it was put right in place, and there was no room for a copy";
            let (name, kind, bytes) = (None, FileKind::File, None);
            let lost = Discarded { path, incident, name, kind, bytes, why };
            self.scribe.tell(Note::Discarded(lost));
        }
        if outcome.unsynced {
            self.stager.push(Chore::Sync(path.to_path_buf()));
        }
        if outcome.healed.action == "place"
            && let Some(ward) = self.ward_mut(file)
            && ward.patient.facts.kind == FileKind::Directory
        {
            ward.patient.itself = crate::baseline::directory(&path).ok().map(Box::new);
        }
        if outcome.healed.action == "put-back-parent" && outcome.healed.result.is_ok() {
            self.know_parents(file);
        }
        if matches!(outcome.healed.action, "place" | "put-back-parent" | "unmount") {
            self.watch(file);
        }
    }

    /// What was taken out of the path is seen through another mount: have it come back.
    pub(super) fn shown(&mut self, file: FileId, incident: &str, shown: Shown) {
        let current = self.incident(file) == incident;
        match self.ward_mut(file) {
            Some(ward) if current && ward.patient.shown.is_none() => {
                ward.patient.shown = Some(Box::new(shown));
                self.feed(Input::Shown { file });
            }
            _ => self.stager.push(Chore::Discard(shown.from)),
        }
    }

    /// The file has its inode back, or could not get it.
    fn rejoined(&mut self, file: FileId, outcome: &Outcome) {
        let Some(ward) = self.ward_mut(file) else { return };
        let from = ward.patient.shown.take().map(|shown| shown.from);
        match from {
            Some(_) if outcome.healed.action == "rejoin" && outcome.healed.result.is_ok() => {
                ward.patient.pinned = true;
                self.herd.pin(file);
            }
            Some(from) => self.stager.push(Chore::Discard(from)),
            None => {}
        }
    }

    /// Directories above the file were made anew: they have other inodes now.
    fn know_parents(&mut self, file: FileId) {
        let Some(ward) = self.ward_mut(file) else { return };
        let parents = respond::known_anew(&ward.patient);
        let before = Around::clone(&ward.patient.around);
        ward.patient.around = Arc::new(Around { parents: Arc::clone(&parents), ..before });
        let path = ward.patient.path.clone();
        self.scribe.tell(Note::Parents(path, parents));
    }

    fn evict(&mut self, file: FileId, name: Vec<u8>, incident: String) -> Option<Input> {
        let ward = self.ward(file)?;
        let from = ward.patient.path.join(OsStr::from_bytes(&name));
        // What is in a directory may be on another filesystem than the directory's own name is.
        let Ok(slot) = respond::slot_directory(&from, &self.state).map(Arc::new) else {
            return Some(Input::Evicted { file, name, gone: false });
        };
        self.stager.push(Chore::Evict { of: Some(file), from, slot, incident });
        None
    }
}
