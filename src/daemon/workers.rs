//! The two threads that do what takes long: the stager prepares replicas and clears away
//! evidence, the reader reads content. They are two, so that no reading of a large file keeps
//! a small one without a replica.

pub(super) mod evidence;
pub(super) mod onlooker;
pub(super) mod restock;
pub(super) mod testify;
pub(super) mod worker;
pub(super) mod writers;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use inotify::Watches;

use super::api;
use super::commands::protect::{self, ProtectError};
use super::control::Reply;
use super::failures::Failure;
use super::guard::look::unread;
use super::health::Beat;
use super::scribe::Note;
use super::wake::Mailer;
use crate::attribute::InodeKey;
use crate::baseline::snapshot::{read_if_sized, take_into};
use crate::baseline::{Origin, Record, Replica, Snapshot, Vault, VaultError};
use crate::config::{Config, resolve};
use crate::engine::{Cure, Inspection, Unread};
use crate::judge::{Facts, FileKind, Policy};
use crate::respond::{self, Outcome, Patient, Quarantine, Shown, StageError};
use crate::sense::audit::{Registrar, Told};
use crate::sense::{FileId, MountRoots, MountTable, Observation};
use evidence::Piece;
use onlooker::Found;
use restock::{Copies, Stocked};
use testify::Remembered;
use worker::Worker;

/// What comes back to the guard.
#[derive(Debug)]
pub enum Report {
    /// A replica is ready, or could not be made.
    Staged(FileId, Result<Replica, String>),
    /// A file was read.
    Verified(FileId, u32, Result<Inspection, Unread>),
    /// What was taken out of the path in this incident was read, or will not be.
    Evidence(FileId, String, Option<(Box<Facts>, InodeKey)>),
    /// What was taken out in this incident lies there, and another mount shows it.
    Shown(FileId, String, Shown),
    /// A cure that takes long is done.
    Cured(FileId, Box<Outcome>),
    /// A path was taken under protection, or could not be.
    Taken(Box<Taken>),
    /// Whether the stranger of this name is gone from this directory.
    Evicted(FileId, Vec<u8>, bool),
    /// A sensor on another thread noticed something.
    Seen(Observation),
    /// From the audit sensor.
    Audit(Told),
    /// Somebody asks for something over the control socket.
    Asked(api::Command, api::Request, Reply),
    /// What is at these paths is bind-mounted somewhere else, and nothing that is at others.
    Pinned(Vec<PathBuf>),
    /// The tester of the self-test has something to tell.
    Selftest(super::selftest::News),
    /// This inode is opened thousands of times a second.
    Hot(InodeKey),
    /// What is remembered of a change.
    Remembered(Remembered),
    /// What the onlooker found out.
    Found(Found),
    /// One of our own files was read, or could not be.
    Own(PathBuf, Result<Box<Record>, String>),
    /// These units of ours are there, and whether whatever comes later is told.
    Units(BTreeSet<PathBuf>, bool),
    /// Copies are missing from the vault, or from where they lay ready.
    Restock,
    /// This matches the patterns of the configuration, and how long it took to find out.
    Matched(Vec<(PathBuf, Policy)>, Duration),
    /// The database is not to be believed: what is known is to be written anew.
    Records,
    /// Something went wrong with the daemon itself.
    Failed(Failure, String),
    /// What became of known-good copies that were damaged or gone.
    Copies(Copies),
    /// Bring the status up to date, and say when it is.
    Status(Sender<()>),
    /// Read the configuration again.
    Reload,
    /// A configuration was prepared, or is wrong.
    Reloaded(Box<Result<super::reload::Prepared, String>>),
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

/// Said of a file whose copy in the vault is of no use.
const UNREADABLE: &str =
    "its known-good copy cannot be used; heals take copies of the file itself, while that is good";

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
    sound && take_into(path, vault, &|_| ()).is_ok_and(|found| right(&found))
}

/// Work for the stager.
#[derive(Debug)]
pub enum Chore {
    /// Prepare a replica.
    Stage { file: FileId, path: Arc<Path>, facts: Arc<Facts>, slot: Arc<PathBuf> },
    /// Read it and take it to the quarantine.
    Evidence(FileId, Piece),
    /// Take it to the quarantine: of this incident enough has been read.
    Surplus(Piece),
    /// Remove what lies there: it is no evidence.
    Discard(PathBuf),
    /// Remove a copy of what is protected no longer.
    Unneeded(Replica),
    /// Take a stranger out of a protected directory, if it is `of` one, to the quarantine.
    Evict { of: Option<FileId>, from: PathBuf, slot: Arc<PathBuf>, incident: String },
    /// See to it that the vault has these copies.
    Restock(Vec<Stocked>),
    /// Make sure that this file has reached the disk.
    Sync(PathBuf),
    /// Carry out a cure that takes long.
    Cure { file: FileId, cure: Cure, patient: Box<Patient>, slot: Arc<PathBuf> },
}

/// Work for the reader.
#[derive(Debug)]
pub enum Reading {
    /// Read everything of a file.
    Verify { file: FileId, epoch: u32, path: Arc<Path>, size: u64 },
    /// Take a path under protection.
    Take {
        path: PathBuf,
        policy: Policy,
        origin: Origin,
        accepted: Option<Option<String>>,
        asker: Arc<super::commands::Asker>,
        index: usize,
    },
    /// Read one of our own files.
    Own(PathBuf),
    /// Find our units, and have whatever comes later told through these.
    Units(Option<Watches>),
    /// Read this known-good copy, and make it again where it is damaged.
    CheckCopy(Box<Stocked>),
    /// Find out what matches the patterns of this configuration.
    Match(Arc<Config>),
    /// Find out what is bind-mounted elsewhere.
    FindPinned,
}

/// Starts the stager.
///
/// # Errors
/// When the system has no thread to give.
pub fn stager(
    vault: Arc<Vault>,
    (quarantine, scribe): (Arc<Quarantine>, Sender<Note>),
    registrar: Option<Registrar>,
    reports: Mailer<Report>,
    beat: Beat,
) -> io::Result<Worker<Chore>> {
    // Of whose known-good copy it was said that it cannot be used.
    let mut told = HashSet::new();
    // Of these there may be thousands, and whoever needs a replica waits for one at most.
    let can_wait = |chore: &Chore| matches!(chore, Chore::Evict { .. });
    Worker::start("stager", beat, can_wait, move |chore, hurry| match chore {
        Chore::Stage { .. } | Chore::Restock(_) if hurry.load(Ordering::Relaxed) => {}
        Chore::Stage { file, path, facts, slot } => {
            let mut staged = respond::stage(&facts, &vault, &slot, true);
            if is_unfit(&staged) && mend(&path, &facts, &vault) {
                staged = respond::stage(&facts, &vault, &slot, true);
                reports.send(Report::Copies(Copies::mended(file)));
            }
            if is_unfit(&staged)
                && let Ok(replica) = respond::stage_from_file(&facts, &path, &slot)
                && let Err(e) = std::mem::replace(&mut staged, Ok(replica))
                && told.insert(Arc::clone(&path))
            {
                let why = format!("{UNREADABLE}: {e}");
                tracing::error!("{}: {why}", crate::text::escape_path(&*path));
                // The scribe ends only after this thread.
                let _ = scribe.send(Note::Failure(
                    Failure::CopyUnreadable,
                    Some(path.to_path_buf()),
                    why,
                ));
            }
            if let (Some(registrar), Ok(replica)) = (&registrar, &staged) {
                registrar.replica_at(file, &replica.path);
            }
            reports.send(Report::Staged(file, staged.map_err(|e| e.to_string())));
        }
        Chore::Evidence(file, piece) => {
            evidence::keep(file, piece, &quarantine, &scribe, &reports);
        }
        Chore::Surplus(piece) => evidence::keep_surplus(piece, &quarantine, &scribe),
        Chore::Discard(path) => evidence::discard(&path),
        Chore::Unneeded(replica) => {
            if let Err(e) = respond::discard(&replica) {
                tracing::warn!("{}: {e}", crate::text::escape_path(&replica.path));
            }
        }
        Chore::Evict { of, from, slot, incident } => {
            let gone = evidence::evict(&quarantine, &from, &slot, &incident, &scribe);
            if let (Some(file), Some(name)) = (of, from.file_name()) {
                reports.send(Report::Evicted(file, name.as_encoded_bytes().to_vec(), gone));
            }
        }
        Chore::Restock(all) => {
            reports.send(Report::Copies(restock::restock(&all, &vault)));
        }
        Chore::Sync(path) => sync(&path),
        Chore::Cure { file, cure, patient, slot } => {
            let outcome = respond::perform(cure, &patient, &vault, &slot, &mut |_, _| Ok(()));
            reports.send(Report::Cured(file, Box::new(outcome)));
        }
    })
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
pub fn reader(
    vault: Arc<Vault>,
    reports: Mailer<Report>,
    beat: Beat,
) -> io::Result<Worker<Reading>> {
    let in_turn = |_: &Reading| false;
    Worker::start("reader", beat, in_turn, move |reading, hurry| match reading {
        _ if hurry.load(Ordering::Relaxed) => {}
        Reading::Verify { file, epoch, path, size } => {
            reports.send(Report::Verified(file, epoch, read(&path, size)));
        }
        Reading::Take { path, policy, origin, accepted, asker, index } => {
            let read = |bytes| asker.gauge.add_bytes(bytes);
            let record = protect::take(&path, policy, origin, &vault, &read);
            reports.send(Report::Taken(Box::new(Taken { path, record, accepted, asker, index })));
        }
        Reading::Own(path) => {
            let record = super::own::read(&path).map(Box::new);
            reports.send(Report::Own(path, record));
        }
        Reading::Units(watches) => {
            let (units, told) = super::own::look(watches);
            reports.send(Report::Units(units, told));
        }
        Reading::CheckCopy(stocked) => {
            if let Some(copies) = restock::check(&stocked, &vault) {
                reports.send(Report::Copies(copies));
            }
        }
        Reading::Match(patterns) => {
            let began = Instant::now();
            let found = resolve(&patterns).files;
            reports.send(Report::Matched(found, began.elapsed()));
        }
        Reading::FindPinned => {
            let found = MountRoots::scan()
                .and_then(|roots| Ok(roots.seen_in(&MountTable::read()?).collect()));
            // If it cannot be told, nothing is.
            reports.send(Report::Pinned(found.unwrap_or_default()));
        }
    })
}

/// Reads all there is to know of a file, content included if it has the right `size`, in one
/// state of it.
fn read(path: &Path, size: u64) -> Result<Inspection, Unread> {
    let Snapshot { facts, stat } = read_if_sized(path, size).map_err(|e| unread(&e))?;
    Ok(Inspection { facts, stat, writers: false })
}

/// Whether other mounts show the file as well. If that cannot be told, they do not.
pub(super) fn is_pinned(path: &Path) -> bool {
    let (Ok(roots), Ok(table)) = (MountRoots::scan(), MountTable::read()) else { return false };
    table.in_filesystem(path).is_some_and(|(dev, inside)| roots.show(dev, &inside))
}
