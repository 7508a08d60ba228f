//! The two threads that do what takes long: the stager prepares replicas and clears away
//! evidence, the reader reads content. They are two, so that no reading of a large file keeps
//! a small one without a replica.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::api;
use super::control::Reply;
use super::protect::{self, ProtectError};
use super::restock::Stocked;
use super::scribe::Note;
use super::wake::Mailer;
use crate::baseline::snapshot::{read_if_sized, snapshot, take_into};
use crate::baseline::{Content, Origin, Record, Replica, Snapshot, Vault, VaultError};
use crate::engine::{Cure, Inspection};
use crate::judge::{Facts, FileKind, Policy};
use crate::respond::{self, Outcome, Patient, Quarantine, StageError};
use crate::sense::audit::{Registrar, Told};
use crate::sense::{FileId, MountRoots, MountTable, Observation};

/// What comes back to the guard.
#[derive(Debug)]
pub enum Report {
    /// A replica is ready, or could not be made.
    Staged(FileId, Result<Replica, String>),
    /// A file was read.
    Verified(FileId, u32, Result<Inspection, String>),
    /// What was taken out of the path in this incident was read, or will not be.
    Evidence(FileId, String, Option<Box<Facts>>),
    /// What was taken out in this incident lies there, and another mount shows it.
    Shown(FileId, String, PathBuf),
    /// A cure that takes long is done.
    Cured(FileId, Box<Outcome>),
    /// A path was taken under protection, or could not be.
    Taken(Box<Taken>),
    /// A sensor on another thread noticed something.
    Seen(Observation),
    /// From the audit sensor.
    Audit(Told),
    /// Somebody asks for something over the control socket.
    Asked(api::Command, api::Request, Reply),
    /// These files are bind-mounted somewhere else, the others are not.
    Pinned(Vec<FileId>),
    /// The tester of the self-test has something to tell.
    Selftest(super::selftest::News),
    /// Copies are missing from the vault, or from where they lay ready.
    Restock,
    /// These known-good copies are gone, and the files are not good either.
    Lost(Vec<FileId>),
    /// Bring the status up to date, and say when it is.
    Status(Sender<()>),
    /// Stop.
    Stop,
}

/// The outcome of taking a path under protection.
#[derive(Debug)]
pub struct Taken {
    /// The path as it was asked for.
    pub path: PathBuf,
    /// The record, or why there is none.
    pub record: Result<Record, ProtectError>,
    /// Why it was done, if the command was to accept it.
    pub accepted: Option<Option<String>>,
    /// Who waits for it.
    pub asker: Arc<super::commands::Asker>,
    /// Its place among the answers.
    pub index: usize,
}

/// Whether it is for the vault's copy that no replica could be made.
fn is_unfit(staged: &Result<Replica, StageError>) -> bool {
    let unfit = |e: &VaultError| {
        matches!(e, VaultError::Damaged { .. } | VaultError::Missing { .. } | VaultError::Io { .. })
    };
    matches!(staged, Err(StageError::Vault(e)) if unfit(e))
}

/// The vault's copy is damaged or gone. The file itself may still be good: if its digest says
/// so, it is taken into the vault again.
pub(super) fn mend(path: &Path, facts: &Facts, vault: &Vault) -> bool {
    let right = |found: &Facts| found.sha256.is_some() && found.sha256 == facts.sha256;
    let sound = read_if_sized(path, facts.size).is_ok_and(|found| right(&found.facts));
    let mended = sound && take_into(path, vault, &|_| ()).is_ok_and(|found| right(&found));
    if mended {
        tracing::warn!(
            "the vault's copy of {} was damaged; it was made again from the file, which is good",
            crate::text::escape_path(path)
        );
    }
    mended
}

/// Evidence up to this size is read to tell what was done to it, in bytes.
const EVIDENCE_READ: u64 = 256 << 20;

/// Work for the stager.
#[derive(Debug)]
pub enum Chore {
    /// Prepare a replica.
    Stage { file: FileId, path: PathBuf, facts: Box<Facts>, slot: PathBuf },
    /// Take what lies at `from` to the quarantine.
    Evidence { file: FileId, from: PathBuf, path: PathBuf, incident: String },
    /// Remove what lies there: enough of the like has been kept.
    Discard(PathBuf),
    /// Take a stranger out of a protected directory to the quarantine.
    Evict { from: PathBuf, slot: PathBuf, incident: String },
    /// See to it that the vault has these copies.
    Restock(Vec<Stocked>),
    /// Make sure that this file has reached the disk.
    Sync(PathBuf),
    /// Carry out a cure that takes long.
    Cure { file: FileId, cure: Cure, patient: Box<Patient>, slot: PathBuf },
}

/// Work for the reader.
#[derive(Debug)]
pub enum Reading {
    /// Read everything of a file.
    Verify { file: FileId, epoch: u32, path: PathBuf, size: u64 },
    /// Take a path under protection.
    Take {
        path: PathBuf,
        policy: Policy,
        origin: Origin,
        accepted: Option<Option<String>>,
        asker: Arc<super::commands::Asker>,
        index: usize,
    },
    /// Find out which of these files are bind-mounted elsewhere.
    FindPinned(Vec<(FileId, PathBuf)>),
}

/// A thread with a queue.
#[derive(Debug)]
pub struct Worker<T> {
    queue: Option<Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(name: &str, work: impl FnOnce(Receiver<T>) + Send + 'static) -> io::Result<Self> {
        let (queue, jobs) = channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(jobs))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a job.
    pub fn push(&self, job: T) {
        if let Some(queue) = &self.queue {
            // The thread ends only when this handle does.
            let _ = queue.send(job);
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the stager.
///
/// # Errors
/// When the system has no thread to give.
pub fn stager(
    vault: Arc<Vault>,
    quarantine: Arc<Quarantine>,
    scribe: Sender<Note>,
    registrar: Option<Registrar>,
    reports: Mailer<Report>,
) -> io::Result<Worker<Chore>> {
    Worker::start("stager", move |chores| {
        for chore in chores {
            match chore {
                Chore::Stage { file, path, facts, slot } => {
                    let mut staged = respond::stage(&facts, &vault, &slot, true);
                    if is_unfit(&staged) && mend(&path, &facts, &vault) {
                        staged = respond::stage(&facts, &vault, &slot, true);
                    }
                    if let (Some(registrar), Ok(replica)) = (&registrar, &staged) {
                        registrar.replica_at(file, &replica.path);
                    }
                    reports.send(Report::Staged(file, staged.map_err(|e| e.to_string())));
                }
                Chore::Evidence { file, from, path, incident } => {
                    let facts = read_evidence(&from);
                    let kept = match shown(file, &from, facts.as_deref()) {
                        false => Some(from),
                        true => {
                            let copy = respond::copy_out(&from).ok().flatten();
                            reports.send(Report::Shown(file, incident.clone(), from));
                            copy
                        }
                    };
                    reports.send(Report::Evidence(file, incident.clone(), facts));
                    match kept.map(|kept| quarantine.take(&kept, &path, &incident)) {
                        Some(Ok(evidence)) => drop(scribe.send(Note::Evidence(evidence))),
                        Some(Err(e)) => tracing::error!("{e}"),
                        None => tracing::error!(
                            "there is no room to keep what was found at {}",
                            crate::text::escape_path(&path)
                        ),
                    }
                }
                Chore::Discard(path) => {
                    if let Err(e) = respond::remove_path(&path)
                        && e.kind() != io::ErrorKind::NotFound
                    {
                        tracing::warn!("{}: {e}", crate::text::escape_path(&path));
                    }
                }
                Chore::Evict { from, slot, incident } => {
                    evict(&quarantine, &from, &slot, &incident, &scribe);
                }
                Chore::Restock(all) => {
                    let lost = super::restock::restock(&all, &vault);
                    reports.send(Report::Lost(lost));
                }
                Chore::Sync(path) => sync(&path),
                Chore::Cure { file, cure, patient, slot } => {
                    let outcome =
                        respond::perform(cure, &patient, &vault, &slot, &mut |_, _| Ok(()));
                    reports.send(Report::Cured(file, Box::new(outcome)));
                }
            }
        }
    })
}

/// Reads what was taken out of a path, but not its content where that is so much that others
/// would wait for the stager.
fn read_evidence(from: &Path) -> Option<Box<Facts>> {
    let found = snapshot(from, Content::Hash(0, EVIDENCE_READ), &|_| ()).ok()?;
    Some(Box::new(found.facts))
}

/// Whether a mount, of any namespace, shows the file that lies at `from`: it was given to a
/// container by itself, and the container did not notice that it was taken out of its path.
fn shown(file: FileId, from: &Path, facts: Option<&Facts>) -> bool {
    facts.is_some_and(|facts| facts.kind == FileKind::File)
        && !pinned(&[(file, from.to_owned())]).is_empty()
}

/// A stranger in a protected directory goes to the slot, on its own filesystem, and from there
/// to the quarantine.
fn evict(quarantine: &Quarantine, from: &Path, slot: &Path, incident: &str, scribe: &Sender<Note>) {
    let taken = respond::take_out(from, slot).map_err(|e| e.to_string());
    let kept = taken.and_then(|to| quarantine.take(&to, from, incident).map_err(|e| e.to_string()));
    match kept {
        Ok(evidence) => drop(scribe.send(Note::Evidence(evidence))),
        Err(e) => tracing::error!("{}: {e}", crate::text::escape_path(from)),
    }
}

fn sync(path: &Path) {
    if !crate::sys::stat::stat(path).is_ok_and(|stat| stat.kind == FileKind::File) {
        return;
    }
    let dir = crate::sys::open::open_dir(path.parent().unwrap_or(Path::new("/")));
    let synced = dir.and_then(|dir| {
        use std::os::fd::AsFd;
        let name = path.file_name().unwrap_or_default();
        let fd = crate::sys::open::open_read_at(dir.as_fd(), name)?;
        Ok(rustix::fs::fsync(fd)?)
    });
    if let Err(e) = synced {
        tracing::warn!("{} may not survive a power cut: {e}", crate::text::escape_path(path));
    }
}

/// Starts the reader.
///
/// # Errors
/// When the system has no thread to give.
pub fn reader(vault: Arc<Vault>, reports: Mailer<Report>) -> io::Result<Worker<Reading>> {
    Worker::start("reader", move |readings| {
        for reading in readings {
            match reading {
                Reading::Verify { file, epoch, path, size } => {
                    reports.send(Report::Verified(file, epoch, read(&path, size)));
                }
                Reading::Take { path, policy, origin, accepted, asker, index } => {
                    let read = |bytes| asker.gauge.add_bytes(bytes);
                    let record = protect::take(&path, policy, origin, &vault, &read);
                    reports.send(Report::Taken(Box::new(Taken {
                        path,
                        record,
                        accepted,
                        asker,
                        index,
                    })));
                }
                Reading::FindPinned(files) => {
                    reports.send(Report::Pinned(pinned(&files)));
                }
            }
        }
    })
}

/// Reads all there is to know of a file, content included if it has the right `size`, in one
/// state of it.
fn read(path: &Path, size: u64) -> Result<Inspection, String> {
    let Snapshot { facts, stat } = read_if_sized(path, size).map_err(|e| e.to_string())?;
    Ok(Inspection { facts, stat, writers: false })
}

/// Which of the files other mounts show as well. If that cannot be told, none.
fn pinned(files: &[(FileId, PathBuf)]) -> Vec<FileId> {
    let (Ok(roots), Ok(table)) = (MountRoots::scan(), MountTable::read()) else {
        return Vec::new();
    };
    let shown = |path: &Path| {
        table.in_filesystem(path).is_some_and(|(dev, inside)| roots.show(dev, &inside))
    };
    files.iter().filter(|(_, path)| shown(path)).map(|(file, _)| *file).collect()
}
