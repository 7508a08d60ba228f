//! All sensors together. Each can fail by itself; the others go on, and `status` says which
//! does less than it should, and why.

mod openers;

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use super::api::SensorStatus;
use super::start::handover::{self, Heritage};
use super::wake::Mailer;
use super::workers::Report;
use super::workers::testify::Memory;
use crate::attribute::{Captures, InodeKey, Lineage};
use crate::judge::FileKind;
use crate::respond::Patient;
use crate::sense::audit::Registrar;
use crate::sense::{
    AuditSensor, BirthSensor, By, FanotifySensor, FileId, FileMap, Health, Hint, InotifySensor,
    MountsSensor, Observation, PermissionSensor, PollSensor, Sensor, Watched, notifies_nobody,
};

/// How often files are polled where no event ever comes.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// The directory below the state that audit's rules are about.
const ANCHOR: &str = "audit";

/// See the module.
pub struct Sensors {
    pub(super) captures: Arc<Captures>,
    /// What an earlier run left.
    pub(super) heritage: Heritage,
    /// How many groups the service manager keeps for the next one.
    pub(super) kept: usize,
    pub(super) fanotify: Result<FanotifySensor, String>,
    permission: Result<PermissionSensor, String>,
    audit: Result<AuditSensor, String>,
    pub(super) inotify: Option<Result<InotifySensor, String>>,
    mounts: Result<MountsSensor, String>,
    /// Without it parents that have ended are not known, and that is all.
    _births: Option<BirthSensor>,
    poll: Option<Result<PollSensor, String>>,
    reports: Mailer<Report>,
    files: FileMap<()>,
}

impl Sensors {
    /// Starts what this kernel and our privileges allow.
    #[must_use]
    pub fn start(
        reports: Mailer<Report>,
        state: &Path,
        mut heritage: Heritage,
        lineage: Arc<Lineage>,
    ) -> Self {
        let births = BirthSensor::start(Arc::clone(&lineage));
        let captures = Arc::new(Captures::with(lineage));
        // While those live who are named in it.
        heritage.events.read(&captures);
        let (mailer, hot) = (reports.clone(), reports.clone());
        let records = std::mem::take(&mut heritage.records);
        let tell = move |told| mailer.send(Report::Audit(told));
        let anchor = state.join(ANCHOR);
        let audit = AuditSensor::start(Arc::clone(&captures), &anchor, records, tell);
        if let Ok(audit) = &audit {
            handover::keep_records(audit.stream());
        }
        let mut sensors = Self {
            heritage,
            kept: 0,
            fanotify: FanotifySensor::new().map_err(|e| e.to_string()),
            permission: PermissionSensor::start(
                Arc::clone(&captures),
                reports.bell(),
                Box::new(move |inode| hot.send(Report::Hot(inode))),
            )
            .map_err(|e| e.to_string()),
            audit,
            inotify: None,
            mounts: MountsSensor::new().map_err(|e| e.to_string()),
            _births: births
                .inspect_err(|e| tracing::debug!("who starts whom is not told: {e}"))
                .ok(),
            poll: None,
            captures,
            reports,
            files: FileMap::default(),
        };
        sensors.tend();
        sensors.keep_groups();
        sensors
    }

    /// Has `file` watched by every sensor that can, and says what they cannot do for it. Whoever
    /// opens it is looked at first if `ask` says so.
    pub fn watch(&mut self, file: FileId, patient: &Patient, ask: bool) -> Vec<String> {
        self.files.insert(file, ());
        let kind = match patient.facts.kind {
            FileKind::Directory => Watched::Directory,
            _ => Watched::File,
        };
        let mut lacks = Vec::new();
        let by_fanotify = match self.fanotify.as_mut() {
            Ok(sensor) => sensor.watch(file, &patient.path, kind).map_err(|e| e.to_string()),
            Err(why) => Err(why.clone()),
        };
        self.keep_groups();
        if let Err(why) = by_fanotify
            && let Err(other) = self.watch_by_inotify(file, &patient.path, kind)
        {
            lacks.push(format!(
                "no event tells of changes, only looking again does: {why}; {other}"
            ));
        }
        if notifies_nobody(patient.parent()).unwrap_or(false)
            && let Err(why) = self.watch_by_polling(file, &patient.path)
        {
            lacks.push(format!("its filesystem tells of no change, and polling it fails: {why}"));
        }
        if ask && matches!(patient.facts.kind, FileKind::File | FileKind::Directory) {
            self.ask_openers(patient, kind);
        }
        self.expect(file, &patient.path);
        if let (true, Ok(audit), Some(seal)) = (self.has_past(), &self.audit, patient.sealed()) {
            audit.had(file, InodeKey::of(&seal));
        }
        lacks
    }

    /// Sees to what the sensors need to go on.
    pub fn tend(&mut self) {
        if let Ok(sensor) = self.permission.as_mut() {
            sensor.tend();
        }
    }

    fn watch_by_inotify(
        &mut self,
        file: FileId,
        path: &Arc<Path>,
        kind: Watched,
    ) -> Result<(), String> {
        let sensor = self
            .inotify
            .get_or_insert_with(|| InotifySensor::new().map_err(|e| e.to_string()))
            .as_mut()
            .map_err(|e| e.clone())?;
        sensor.watch(file, path, kind).map_err(|e| e.to_string())
    }

    fn watch_by_polling(&mut self, file: FileId, path: &Path) -> Result<(), String> {
        let reports = self.reports.clone();
        let sensor = self
            .poll
            .get_or_insert_with(|| {
                PollSensor::new(POLL_EVERY, move |seen| reports.send(Report::Seen(seen)))
                    .map_err(|e| e.to_string())
            })
            .as_mut()
            .map_err(|e| e.clone())?;
        sensor.watch(file, path).map_err(|e| e.to_string())
    }

    /// Watches the replica's inode, so that nothing that happens to it from the exchange on is
    /// missed.
    pub fn watch_replica(&mut self, file: FileId, dir: &OwnedFd, name: &OsStr) {
        if let Ok(sensor) = self.fanotify.as_mut()
            && let Err(e) = sensor.watch_replica(file, dir.as_fd(), name)
        {
            tracing::debug!("the replica cannot be watched: {e}");
        }
        if let Ok(sensor) = self.permission.as_ref() {
            // Where it is refused for the file it was refused before, and said.
            let _ = sensor.watch(dir.as_fd(), name, Watched::File);
        }
    }

    /// For whoever makes replicas: what is done to them has to be recorded before they take the
    /// path.
    #[must_use]
    pub fn registrar(&self) -> Option<Registrar> {
        self.audit().map(AuditSensor::registrar)
    }

    /// Has what is done to the inode at `path` recorded, which is the file's.
    fn expect(&self, file: FileId, path: &Arc<Path>) {
        if let Ok(sensor) = self.audit.as_ref() {
            sensor.watch(file, path);
        }
    }

    /// All that is protected is watched.
    pub fn scan(&self) {
        if let Ok(sensor) = self.audit.as_ref() {
            sensor.scan();
        }
    }

    /// The audit sensor, if there is one.
    #[must_use]
    pub fn audit(&self) -> Option<&AuditSensor> {
        self.audit.as_ref().ok()
    }

    /// What they remember of who did what.
    #[must_use]
    pub(super) fn memory(&self) -> Memory {
        let audit = self.audit().map(AuditSensor::records);
        Memory { captures: Arc::clone(&self.captures), audit }
    }

    /// The replica has taken the path.
    pub fn settled(&mut self, file: FileId, path: &Arc<Path>) {
        if let Ok(sensor) = self.fanotify.as_mut() {
            sensor.adopt(file);
        }
        if let Some(Ok(sensor)) = self.inotify.as_mut() {
            // A file that cannot be watched any more is still looked at by the sweep.
            let _ = sensor.watch(file, path, Watched::File);
        }
    }

    /// Watches the file no longer.
    pub fn unwatch(&mut self, file: FileId, patient: Option<&Patient>) {
        if let Some(patient) = patient {
            self.leave_openers(patient);
        }
        self.files.remove(&file);
        if let Ok(sensor) = self.fanotify.as_mut() {
            sensor.unwatch(file);
        }
        if let Some(Ok(sensor)) = self.inotify.as_mut() {
            sensor.unwatch(file);
        }
        if let Ok(sensor) = self.audit.as_ref() {
            sensor.unwatch(file);
        }
        if let Some(Ok(sensor)) = self.poll.as_mut() {
            sensor.unwatch(file);
        }
    }

    /// What `poll` waits on.
    pub fn descriptors(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::with_capacity(3);
        if let Ok(sensor) = &self.fanotify {
            all.extend(sensor.fds().map(|fd| (fd, PollFlags::POLLIN)));
        }
        if let Some(Ok(sensor)) = &self.inotify {
            all.push((sensor.fd(), PollFlags::POLLIN));
        }
        if let Ok(sensor) = &self.mounts {
            all.push((sensor.fd(), PollFlags::POLLPRI));
        }
        all
    }

    /// Waits until there is something to read. False where nothing came in that time.
    pub fn await_event(&self, at_most: Duration) -> bool {
        let mut fds: Vec<PollFd<'_>> = self
            .descriptors()
            .into_iter()
            .filter(|(_, flags)| *flags == PollFlags::POLLIN)
            .map(|(fd, flags)| PollFd::new(fd, flags))
            .collect();
        nix::poll::ppoll(&mut fds, Some(TimeSpec::from(at_most)), None).is_ok_and(|ready| ready > 0)
    }

    /// Reads everything that has come in. True when the kernel dropped events. That the mount
    /// table changed is told only once, by the poll that waited for it.
    pub fn read(&mut self, at: Instant, mounts_changed: bool, out: &mut Vec<Observation>) -> bool {
        let mut lost = false;
        self.heritage.events.read(&self.captures);
        if let Ok(sensor) = self.fanotify.as_mut() {
            lost |= sensor.read(at, out).lost;
        }
        if let Some(Ok(sensor)) = self.inotify.as_mut() {
            lost |= sensor.read(at, out).lost;
        }
        if mounts_changed {
            out.extend(self.files.iter().map(|(file, ())| Observation {
                at,
                sensor: Sensor::Mounts,
                file,
                hint: Hint::Mounts,
                by: By::Nobody,
                retired: false,
            }));
        }
        lost
    }

    /// What was read last, once more, with the processes.
    pub fn name(&mut self, out: &mut Vec<Observation>) {
        if let Ok(sensor) = self.fanotify.as_mut() {
            sensor.name(&self.captures, out);
        }
    }

    /// Every sensor, for `status`.
    #[must_use]
    pub fn status(&self) -> Vec<SensorStatus> {
        let mut all = vec![
            describe(Sensor::Fanotify, self.fanotify.as_ref().map(|_| Health::Working)),
            describe(
                Sensor::OpenPermission,
                self.permission.as_ref().map(PermissionSensor::health),
            ),
            describe(Sensor::Audit, self.audit.as_ref().map(AuditSensor::health)),
            describe(Sensor::Mounts, self.mounts.as_ref().map(|_| Health::Working)),
        ];
        if let Some(inotify) = &self.inotify {
            all.push(describe(Sensor::Inotify, inotify.as_ref().map(|_| Health::Working)));
        }
        if let Some(poll) = &self.poll {
            all.push(describe(Sensor::Poll, poll.as_ref().map(|_| Health::Working)));
        }
        all
    }
}

fn describe(sensor: Sensor, health: Result<Health, &String>) -> SensorStatus {
    let (state, why) = match health {
        Ok(Health::Working) => ("working", String::new()),
        Ok(Health::Degraded(why)) => ("degraded", why),
        Ok(Health::Unavailable(why)) => ("unavailable", why),
        Err(why) => ("unavailable", why.clone()),
    };
    SensorStatus { name: sensor.name().into(), state: state.into(), why }
}
