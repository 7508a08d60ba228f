//! The guard: one thread that owns the engine, listens to every sensor and does what cannot
//! wait. Everything that waits for a disk is done by another thread.

pub(super) mod globs;
pub(super) mod herd;
pub(super) mod hot;
pub(super) mod life;
pub(super) mod lister;
pub(super) mod look;
pub(super) mod perform;
pub(super) mod queue;
pub(super) mod stage;
pub mod strangers;
pub(super) mod turn;
pub(super) mod ward;
pub(super) mod witness;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::complaints::Complaints;
use super::failures::Failure;
use super::health::Health;
use super::own::Own;
use super::reload::InForce;
use super::scribe::{Note, Scribe};
use super::selftest::Canaries;
use super::sensors::Sensors;
use super::sweep::Sweep;
use super::wake::Mailbox;
use super::workers::worker::Worker;
use super::workers::{Chore, Reading, Report};
use crate::baseline::{Heartbeat, Origin, Record, Vault};
use crate::engine::{Engine, Input, Moment, Past};
use crate::respond;
use crate::sense::{FileId, FileMap, Observation};
use globs::Globs;
use herd::Herd;
use life::Life;
use lister::Lister;
use queue::Queue;
use stage::Line;
use ward::Ward;
use witness::Questions;

/// That events are lost is put on record this often while it goes on.
const LOSS_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Where many files come under guard at once, the queue is emptied after this many: it also holds
/// what the workers open meanwhile.
const LISTEN_EVERY: u32 = 256;

/// See the module.
pub struct Guard {
    pub(super) engine: Engine,
    pub(super) state: PathBuf,
    pub(super) vault: Arc<Vault>,
    pub(super) sensors: Sensors,
    pub(super) scribe: Scribe,
    pub(super) stager: Worker<Chore>,
    pub(super) reader: Worker<Reading>,
    pub(super) reports: Mailbox<Report>,
    pub(super) sweep: Sweep,
    pub(super) complaints: Complaints,
    pub(super) canaries: Canaries,
    pub(super) globs: Globs,
    pub(super) own: Own,
    pub(super) health: Arc<Health>,
    pub(super) life: Life,
    pub(super) in_force: InForce,
    /// The last of an earlier run.
    pub(super) last_beat: Option<Heartbeat>,
    pub(super) questions: Questions,
    pub(super) wards: FileMap<Ward>,
    pub(super) next_id: u32,
    pub(super) herd: Herd,
    pub(super) began: Instant,
    pub(super) queue: Queue,
    pub(super) lister: Lister,
    pub(super) line: Line,
    /// Observations that were read and not acted on yet.
    pub(super) pending: Vec<Observation>,
    pub(super) lost: bool,
    /// When it was last put on record that events were lost, and which.
    pub(super) loss_told: HashMap<&'static str, Instant>,
}

impl Guard {
    /// Guards until told to stop.
    ///
    /// # Errors
    /// When the system cannot even wait for events any more.
    pub(super) fn run(&mut self) -> std::io::Result<()> {
        self.begin();
        if let Err(e) = crate::sys::priority::run_at_once(1) {
            tracing::info!("heals may wait for a busy processor: no real-time priority: {e}");
        }
        while self.turn()?.is_continue() {
            self.ready_yet();
        }
        self.drain()
    }

    /// Acts on what other threads have to say. Breaks when it is time to stop.
    fn take_reports(&mut self) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        let reports: Vec<Report> = self.reports.drain().collect();
        for report in reports {
            match report {
                Report::Staged(file, staged) => self.staged(file, staged),
                Report::Verified(file, epoch, finding) => {
                    self.feed(Input::Verified { file, epoch, finding });
                }
                Report::Evidence(file, incident, found) => {
                    let (facts, inode) = found.unzip();
                    self.feed(Input::Evidence { file, incident, facts, inode });
                }
                Report::Shown(file, incident, shown) => self.shown(file, &incident, shown),
                Report::Cured(file, outcome) => self.cured(file, *outcome),
                Report::Taken(taken) => self.taken(*taken),
                Report::Evicted(file, name, gone) => {
                    self.feed(Input::Evicted { file, name, gone });
                }
                Report::Seen(observation) => self.observe(observation),
                Report::Audit(told) => self.told(told),
                Report::Asked(command, request, reply) => self.asked(command, request, reply),
                Report::Pinned(paths) => self.pinned(&paths),
                Report::Selftest(news) => self.test_news(news),
                Report::Hot(inode) => self.too_hot(inode),
                Report::Remembered(remembered) => self.remembered(remembered),
                Report::Found(found) => self.found(found),
                Report::Reload => self.reload(),
                Report::Reloaded(prepared) => self.reloaded(*prepared),
                Report::Own(path, record) => self.own_read(&path, record),
                Report::Units(units, told) => self.own_found(units, told),
                Report::Restock => self.restock(),
                Report::Matched(found, took) => self.matched(found, took),
                Report::Failed(failure, why) => {
                    tracing::error!("{why}");
                    self.fail(failure, None, why);
                }
                Report::Copies(copies) => self.tell_of_copies(&copies),
                Report::Records => self.scribe.tell(Note::Records(self.records())),
                Report::Status(done) => {
                    self.publish();
                    // Whoever asked may have lost patience.
                    let _ = done.send(());
                }
                Report::Stop => flow = ControlFlow::Break(()),
            }
        }
        flow
    }

    pub(super) fn observe(&mut self, observation: Observation) {
        self.canaries.notice(&observation);
        self.feed(Input::Observed(observation));
    }

    pub(super) fn now(&self) -> Moment {
        Moment { mono: self.began.elapsed(), wall: Timestamp::now() }
    }

    /// The instant that the engine knows by the time since it began.
    pub(super) fn instant(&self, mono: Duration) -> Instant {
        self.began + mono
    }

    pub(super) fn ward(&self, file: FileId) -> Option<&Ward> {
        self.wards.get(&file)
    }

    pub(super) fn ward_mut(&mut self, file: FileId) -> Option<&mut Ward> {
        self.wards.get_mut(&file)
    }

    pub(super) fn wards_mut(&mut self) -> impl Iterator<Item = (FileId, &mut Ward)> {
        self.wards.iter_mut()
    }

    pub(super) fn wards(&self) -> impl Iterator<Item = (FileId, &Ward)> {
        self.wards.iter()
    }

    /// All that the baseline should know. What was put right and not read yet is not sealed.
    pub(super) fn records(&self) -> Vec<Record> {
        let ours = |ward: &Ward| !self.canaries.is_theirs(&ward.patient.path);
        let record = |(file, ward): (FileId, &Ward)| {
            let seal = ward.patient.sealed().filter(|_| self.is_as_sealed(file));
            Record { seal, ..ward.record() }
        };
        self.wards().filter(|(_, ward)| ours(ward)).map(record).collect()
    }

    fn is_as_sealed(&self, file: FileId) -> bool {
        self.engine.is_settled(file) && !self.lister.awaits(file)
    }

    /// The incident that evidence of this file belongs to.
    pub(super) fn set_incident(&mut self, file: FileId, incident: String) {
        if let Some(ward) = self.ward_mut(file) {
            ward.set_incident(incident);
        }
    }

    pub(super) fn incident(&self, file: FileId) -> String {
        let incident = self.ward(file).and_then(Ward::incident);
        incident.unwrap_or("unknown").to_owned()
    }

    /// Guards one more path.
    pub(super) fn guard(&mut self, record: Record) -> FileId {
        let whole_at = self.whole_before(&record);
        let file = self.take_in(record);
        self.begin_with(file, whole_at, Past::Unknown);
        file
    }

    /// Has it watched, and what a heal needs made ready.
    pub(super) fn take_in(&mut self, record: Record) -> FileId {
        let file = FileId(self.next_id);
        self.next_id += 1;
        let (slot, refused) = match self.slot(&record.path, record.origin) {
            Ok(slot) => (slot.map(|slot| self.herd.slot(slot)), None),
            Err(e) => (None, Some(format!("no copy can be kept ready beside it: {e}"))),
        };
        let mut ward = Ward::new(&record, slot, &mut self.herd);
        ward.falls_short(refused);
        Self::trust_replica(&mut ward);
        self.wards.insert(file, ward);
        self.watch(file);
        self.watch_ready(file);
        let ready = self.ward(file).and_then(|ward| ward.patient.replica.as_ref());
        if let (Some(registrar), Some(replica)) = (self.sensors.registrar(), ready) {
            registrar.replica_at(file, &replica.path());
        }
        // It is noted with the file.
        self.is_held(file);
        if let Some(ward) = self.wards.get(&file) {
            let dev = ward.patient.sealed().map(|seal| seal.dev);
            self.sweep.add(file, dev, ward.may_rest());
        }
        self.stage(file);
        if self.next_id.is_multiple_of(LISTEN_EVERY) {
            self.listen(false);
        }
        file
    }

    /// Where the replicas of the file at `path` lie. What is only watched has none.
    fn slot(&self, path: &std::path::Path, origin: Origin) -> std::io::Result<Option<PathBuf>> {
        match Canaries::slot(path) {
            Some(slot) => Ok(Some(slot)),
            None if origin == Origin::Own => Ok(None),
            None => respond::slot_directory(path, &self.state).map(Some),
        }
    }

    /// The file is on another mount than its slot: its filesystem came after the start.
    pub(super) fn find_slot(&mut self, file: FileId) {
        let Some(ward) = self.ward(file) else { return };
        let slot = self.slot(&ward.patient.path, ward.origin).ok().flatten();
        if let Some(ward) = self.ward_mut(file) {
            ward.slot = slot.map(Arc::new);
        }
    }

    /// Has every sensor watch the file, and notes what they cannot do for it.
    pub(super) fn watch(&mut self, file: FileId) {
        let Some(ward) = self.wards.get_mut(&file) else { return };
        ward.no_longer_falls_short_by("");
        ward.falls_short(super::shortcoming::of(ward));
        let lacks = self.sensors.watch(file, &ward.patient, self.own.may_ask_openers(ward));
        ward.eventless = !lacks.is_empty();
        ward.falls_short(lacks);
    }

    /// Guards the path no longer. The file stays as it is.
    pub(super) fn forget(&mut self, file: FileId) {
        self.feed(Input::Unwatch { file });
        self.sensors.unwatch(file, self.wards.get(&file).map(|ward| &ward.patient));
        self.sweep.remove(file);
        let Some(ward) = self.wards.remove(&file) else { return };
        let Some(replica) = ward.patient.replica.map(|one| one.replica()) else { return };
        if self.canaries.has(file) {
            // Nobody waits for that to be over.
            self.stager.push(Chore::Unneeded(replica));
        } else if let Err(e) = respond::discard(&replica) {
            tracing::warn!("{}: {e}", crate::text::escape_path(&replica.path));
        }
    }

    /// The file is to be read from the start: its filesystem went and came back.
    pub(super) fn begin_again(&mut self, file: FileId) {
        self.watch(file);
        let Some(ward) = self.wards.get_mut(&file) else { return };
        ward.patient.seal = None;
        self.feed(Input::Anew { file });
    }

    /// Counts what went wrong with the daemon itself, and puts it on record.
    pub(super) fn fail(&self, failure: Failure, path: Option<PathBuf>, note: impl Into<String>) {
        self.scribe.tell(Note::Failure(failure, path, note.into()));
    }

    /// Events are missing: look at everything, and say so, but not in every line of the journal
    /// while it goes on.
    pub(super) fn lost_events(&mut self, what: &'static str) {
        self.sweep.everything_now();
        self.health.counts.overflow();
        let lately = |at: &Instant| at.elapsed() < LOSS_TOLD_EVERY;
        if self.loss_told.get(what).is_some_and(lately) {
            return;
        }
        self.loss_told.insert(what, Instant::now());
        let note = format!("{what}; everything is being looked at again");
        self.fail(Failure::EventsLost, None, note);
    }
}
