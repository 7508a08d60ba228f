//! Doing what the engine asks for.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::guard::Guard;
use super::scribe::Note;
use super::workers::{Chore, Reading};
use crate::alert::Item;
use crate::baseline::snapshot::{read_if_sized, snapshot};
use crate::baseline::{Content, Replica, Snapshot, SnapshotError};
use crate::engine::{Action, Cure, Input, Inspection, MISSED, Sight};
use crate::judge::FileKind;
use crate::record::{Event, Kind, Severity};
use crate::respond::{self, Outcome, Patient};
use crate::sense::{FileId, Hint, Observation};
use crate::sys;

/// A cure that has to write more than this is left to another thread, in bytes.
const QUICK: u64 = 1 << 20;

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
                self.look_for_strangers(file);
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
                // What the self-test left at a canary is no evidence.
                self.heal(file, cure, keep_evidence && !self.canaries.has(file))
            }
            Action::Seal { file, stat } => {
                let ward = self.ward_mut(file)?;
                ward.patient.seal = Some(stat);
                let path = ward.patient.path.clone();
                self.scribe.tell(Note::Seal(path, stat));
                self.stage(file);
                None
            }
            Action::CheckStranger { file, name } => {
                let path = self.ward(file)?.patient.path.join(OsStr::from_bytes(&name));
                sys::stat::stat(&path).is_ok().then_some(Input::Stranger { file, name })
            }
            Action::Evict { file, name, incident } => {
                self.evict(file, &name, &incident);
                None
            }
            Action::Openers { file, inode, since, changed, until, windows } => {
                let within = self.instant(since)..=self.instant(until);
                let openers = inode
                    .map_or_else(Vec::new, |inode| self.sensors.openers(inode, &within, changed));
                self.question(file, openers, windows, until)
            }
            Action::Record(event) => {
                if let Some(event) = self.canaries.sift(event) {
                    self.scribe.tell(Note::Event(event));
                }
                None
            }
            Action::Alert { incident, not_before, events, waits } => {
                let item = Item { incident, not_before, events };
                self.scribe.tell(Note::Message { item, waits });
                None
            }
        }
    }

    /// A modification time that moved is a write or a `touch`. The event that tells which is in
    /// the queue by now, and knowing it spares reading a large file before it is healed.
    fn listen_for_writes(&mut self, file: FileId, sight: &Sight) {
        let Sight::Present(stat) = sight else { return };
        let Some(ward) = self.ward(file) else { return };
        if stat.kind != FileKind::File || stat.mtime == ward.patient.facts.mtime {
            return;
        }
        self.listen();
        let wrote =
            |seen: &Observation| seen.file == file && seen.hint == Hint::Written && !seen.retired;
        if self.pending.iter().any(wrote) {
            let now = self.now();
            self.engine.handle(now, Input::Written { file }, &mut Vec::new());
        }
    }

    /// Looks at a file, and notices when its filesystem came back.
    pub(super) fn sight(&mut self, file: FileId) -> Sight {
        let Some(ward) = self.ward_mut(file) else { return Sight::Missing };
        let sight = ward.look();
        if let Sight::Present(stat) = sight {
            let before = std::mem::replace(&mut ward.mount, stat.mount);
            if before != 0 && before != stat.mount {
                self.begin_again(file);
            }
        }
        sight
    }

    fn inspect(&mut self, file: FileId) -> Option<Result<Inspection, String>> {
        let ward = self.ward(file)?;
        let path = &ward.patient.path;
        Some(match snapshot(path, Content::Skip, &|_| ()) {
            Ok(Snapshot { facts, stat }) => {
                let writers = facts.kind == FileKind::File
                    && ward.patient.facts.keeps_immutable()
                    && has_writers(&ward.patient);
                Ok(Inspection { facts, stat, writers })
            }
            Err(e) => Err(e.to_string()),
        })
    }

    /// A directory changed: whatever is in it that is not protected does not belong there.
    /// Pipes, sockets and devices may have been there when it was protected, which passes them
    /// by; only an event can tell that one is new.
    fn look_for_strangers(&mut self, file: FileId) {
        let Some(ward) = self.ward(file) else { return };
        if ward.patient.facts.kind != FileKind::Directory {
            return;
        }
        let Ok(entries) = std::fs::read_dir(&ward.patient.path) else { return };
        let plain = |kind: std::fs::FileType| kind.is_file() || kind.is_dir() || kind.is_symlink();
        let strangers: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(plain))
            .filter(|entry| self.engine.id_of(&entry.path()).is_none())
            .map(|entry| entry.file_name().into_encoded_bytes())
            .take(MOST_STRANGERS)
            .collect();
        for name in strangers {
            self.feed(Input::Stranger { file, name });
        }
    }

    fn heal(&mut self, file: FileId, cure: Cure, keep_evidence: bool) -> Option<Input> {
        let ward = self.wards.get(&file)?;
        let patient = &ward.patient;
        let slot = ward.slot.as_deref().unwrap_or(Path::new(""));
        let ready = patient.replica.is_some() && !patient.in_place();
        let long = cure == Cure::Replace && !ready && patient.facts.size > QUICK;
        if long || cure == Cure::Rejoin {
            let (patient, slot) = (Box::new(patient.clone()), slot.to_owned());
            self.stager.push(Chore::Cure { file, cure, patient, slot });
            return None;
        }
        let sensors = &mut self.sensors;
        let staged = patient.replica.as_ref().and_then(|replica| replica.path.file_name());
        let watched = staged.filter(|_| ward.replica_watched);
        let mut outcome = respond::perform(cure, patient, &self.vault, slot, &mut |dir, name| {
            if watched != Some(name) {
                sensors.watch_replica(file, dir, name);
                if let Some(registrar) = sensors.registrar() {
                    registrar.replica(file, dir.as_fd(), name);
                }
            }
            Ok(())
        });
        outcome.healed.evidence &= keep_evidence;
        self.after_cure(file, &outcome, keep_evidence);
        Some(Input::Healed { file, healed: outcome.healed })
    }

    /// A cure on another thread is done.
    pub(super) fn cured(&mut self, file: FileId, outcome: Outcome) {
        if self.ward(file).is_none() {
            return;
        }
        self.after_cure(file, &outcome, true);
        self.watch(file);
        self.feed(Input::Healed { file, healed: outcome.healed });
    }

    /// Evidence, replica and sensors after a cure.
    fn after_cure(&mut self, file: FileId, outcome: &Outcome, keep_evidence: bool) {
        if outcome.healed.result.is_ok() {
            self.canaries.healed(file);
        }
        let incident = self.incident(file);
        let Some(ward) = self.ward_mut(file) else { return };
        let path = ward.patient.path.clone();
        if let Ok(Some(stat)) = &outcome.healed.result {
            ward.patient.seal = Some(*stat);
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
        // The next replica before the evidence: the tamperer may be at it again.
        self.stage(file);
        if let Some(from) = &outcome.evidence {
            let from = from.clone();
            if keep_evidence {
                self.stager.push(Chore::Evidence { file, from, path: path.clone(), incident });
            } else {
                self.stager.push(Chore::Discard(from));
            }
        }
        if outcome.unsynced {
            self.stager.push(Chore::Sync(path));
        }
        if outcome.healed.action == "put-back-parent" && outcome.healed.result.is_ok() {
            self.know_parents(file);
        }
        if matches!(outcome.healed.action, "place" | "put-back-parent" | "unmount") {
            self.watch(file);
        }
    }

    /// What was taken out of the path is seen through another mount: have it come back.
    pub(super) fn shown(&mut self, file: FileId, incident: &str, from: PathBuf) {
        let current = self.incident(file) == incident;
        match self.ward_mut(file) {
            Some(ward) if current && ward.patient.shown.is_none() => {
                ward.patient.shown = Some(from);
                self.feed(Input::Shown { file });
            }
            _ => self.stager.push(Chore::Discard(from)),
        }
    }

    /// The file has its inode back, or could not get it.
    fn rejoined(&mut self, file: FileId, outcome: &Outcome) {
        let Some(ward) = self.ward_mut(file) else { return };
        let from = ward.patient.shown.take();
        match from {
            Some(_) if outcome.healed.action == "rejoin" && outcome.healed.result.is_ok() => {
                ward.patient.pinned = true;
            }
            Some(from) => self.stager.push(Chore::Discard(from)),
            None => {}
        }
    }

    /// Directories above the file were made anew: they have other inodes now.
    fn know_parents(&mut self, file: FileId) {
        let Some(ward) = self.ward_mut(file) else { return };
        let parents = respond::known_anew(&ward.patient);
        ward.patient.parents.clone_from(&parents);
        let path = ward.patient.path.clone();
        self.scribe.tell(Note::Parents(path, parents));
    }

    /// Has a replica prepared, unless there is one or one is not needed.
    pub(super) fn stage(&mut self, file: FileId) {
        let Some(ward) = self.ward_mut(file) else { return };
        if ward.staging || ward.patient.replica.is_some() || !ward.policy.restore {
            return;
        }
        let Some(slot) = ward.slot.clone() else { return };
        ward.staging = true;
        let facts = Box::new(ward.patient.facts.clone());
        let path = ward.patient.path.clone();
        self.stager.push(Chore::Stage { file, path, facts, slot });
    }

    /// A replica is ready.
    pub(super) fn staged(&mut self, file: FileId, staged: Result<Replica, String>) {
        let Some(ward) = self.ward_mut(file) else {
            if let Ok(replica) = staged {
                let _ = respond::discard(&replica);
            }
            return;
        };
        ward.staging = false;
        ward.shortcomings.retain(|why| !why.starts_with(NO_REPLICA));
        match staged {
            Ok(replica) => {
                ward.patient.replica = Some(replica.clone());
                let path = ward.patient.path.clone();
                self.scribe.tell(Note::Replica(path, Some(replica)));
                self.watch_ready(file);
            }
            Err(why) => ward.shortcomings.push(format!("{NO_REPLICA}: {why}")),
        }
    }

    /// Watches the replica from now on, so that a heal need not do it first.
    pub(super) fn watch_ready(&mut self, file: FileId) {
        let Some((slot, name)) = self.ward(file).and_then(|ward| ward.patient.slot()) else {
            return;
        };
        // What cannot be opened now cannot be exchanged either, and another is made then.
        let Ok(slot) = sys::open::open_dir(&slot) else { return };
        self.sensors.watch_replica(file, &slot, &name);
        if let Some(ward) = self.ward_mut(file) {
            ward.replica_watched = true;
        }
    }

    /// Trusts a replica of an earlier run only as it left it. One that took the path just before
    /// that run ended has the file read before it is believed.
    pub(super) fn trust_replica(ward: &mut super::ward::Ward) {
        let Some(replica) = &ward.patient.replica else { return };
        if super::leftovers::is_ready(replica) {
            return;
        }
        if super::leftovers::has_inode(&ward.patient.path, replica.ino) {
            ward.patient.seal = None;
        }
        ward.patient.replica = None;
    }

    fn evict(&mut self, file: FileId, name: &[u8], incident: &str) {
        let Some(ward) = self.ward(file) else { return };
        let from = ward.patient.path.join(OsStr::from_bytes(name));
        let Some(slot) = ward.slot.clone() else { return };
        self.stager.push(Chore::Evict { from, slot, incident: incident.to_owned() });
    }

    /// Puts the known-good copy at the path because a person says so.
    pub(super) fn restore(&mut self, file: FileId) -> (bool, String) {
        self.set_incident(file, "restored-by-command".into());
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
                    registrar.replica(file, dir.as_fd(), name);
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

/// So many strangers in one directory are told one by one.
const MOST_STRANGERS: usize = 1000;
/// How the shortcoming of a missing replica begins.
const NO_REPLICA: &str = "no copy lies ready for a heal";

/// Whether the file has all its known-good facts, content included.
fn is_whole(patient: &Patient) -> Result<bool, SnapshotError> {
    let facts = read_if_sized(&patient.path, patient.facts.size)?.facts;
    let policy = crate::judge::Policy {
        immutable: patient.facts.keeps_immutable(),
        ..crate::judge::Policy::default()
    };
    Ok(crate::judge::differences(&patient.facts, &facts, &policy).is_empty())
}

/// Whether anybody has the file open for writing. If that cannot be told, nobody has.
fn has_writers(patient: &Patient) -> bool {
    let open = || {
        let dir = patient.open_parent()?;
        sys::open::open_read_at(dir.as_fd(), patient.name())
    };
    open().and_then(|fd| sys::lease::has_writers(fd.as_fd())).unwrap_or(false)
}
